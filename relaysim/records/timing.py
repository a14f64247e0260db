"""Times of records, from when workers end their steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from relaysim.algorithms.events import Algorithm

__all__ = ["Runtime", "times_of"]


class Runtime(Protocol):
    """How long steps take, such as a `relaysim.analysis.Runtime`."""

    @property
    def time(self) -> np.ndarray:
        """When the last worker has ended each step, ``(steps + 1, draws)``."""


class Timed(Protocol):
    """What of a history decides on its times."""

    steps: np.ndarray
    algorithm: Algorithm | None

    @property
    def replicas(self) -> int: ...


def times_of(history: Timed, runtime: Runtime | None) -> np.ndarray:
    """The time of each record, ``(records, r)`` or ``(records, 1)``; see `relaysim.History.with_time`."""
    steps = history.steps
    if getattr(history.algorithm, "uses", None) == "events":
        if runtime is not None:
            raise ValueError(
                f"the events of {type(history.algorithm).__name__} have times of their own; leave the "
                f"runtime out"
            )
        return steps[:, None].astype(float)
    if runtime is None:
        raise ValueError(
            "a method of rounds has no time of its own; give with_time what "
            "relaysim.analysis.runtime(topology, steps) returns"
        )
    time = runtime.time
    if len(steps) and steps[-1] >= len(time):
        raise ValueError(
            f"the runtime is of {len(time) - 1} steps and the history of {steps[-1]}; ask for at least "
            f"as many"
        )
    if time.shape[1] not in (1, history.replicas):
        raise ValueError(
            f"the runtime has {time.shape[1]} draws and the history {history.replicas} replicas; give "
            f"one draw, or one for each replica"
        )
    return time[steps]
