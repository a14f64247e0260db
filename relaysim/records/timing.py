"""Times of records, from when workers end their steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.events import Algorithm
from relaysim.mixing.sequences import is_sequence
from relaysim.records import configuration
from relaysim.theory.running_time import Runtime, runtime

__all__ = ["times_of"]


class Timed(Protocol):
    """What of a history decides on its times."""

    steps: np.ndarray
    algorithm: Algorithm | None
    config: dict[str, Any]

    @property
    def topology(self) -> Any: ...

    @property
    def mixing(self) -> Any: ...

    @property
    def replicas(self) -> int: ...


def times_of(history: Timed, known: Runtime | None, model: Mapping[str, Any]) -> np.ndarray:
    """The time of each record, ``(records, r)`` or ``(records, 1)``; see `relaysim.History.with_time`."""
    steps = history.steps
    if getattr(history.algorithm, "uses", None) == "events":
        if known is not None or model:
            raise ValueError(
                f"the events of {type(history.algorithm).__name__} have times of their own; leave it out"
            )
        return steps[:, None].astype(float)
    if known is None:
        known = _modelled(history, model)
    elif model:
        raise ValueError(f"give a runtime, or what makes one ({', '.join(model)}), and not both")
    time = known.time
    if len(steps) and steps[-1] >= len(time):
        raise ValueError(
            f"the runtime is of {len(time) - 1} steps and the history of {steps[-1]}; ask for at least "
            f"as many"
        )
    if time.shape[1] not in (1, history.replicas):
        raise ValueError(
            f"the runtime has {time.shape[1]} replicas and the history {history.replicas}; give one, or "
            f"as many"
        )
    return time[steps]


def _of_steps(matrices: Any, algorithm: Any) -> list[Any]:
    """A matrix of each step in which a method sends.

    Raises:
        ValueError: it uses several in a step, and these join different workers.
    """
    found = []
    for step in algorithm.matrices_used(len(matrices)):
        first, *others = (csr_array(matrices[k]) != 0 for k in step)
        if any((each != first).nnz for each in others):
            raise ValueError(
                f"{type(algorithm).__name__} waits with {len(step)} matrices in a step, which join different "
                f"workers; give with_time what relaysim.analysis.runtime(network, steps) returns"
            )
        found.append(matrices[step[0]])
    return found


def _modelled(history: Timed, model: Mapping[str, Any]) -> Runtime:
    """The runtime on the history's own graph."""
    if not model:
        raise ValueError(
            "a method of rounds has no time of its own; give with_time the options of "
            "relaysim.analysis.runtime, such as compute=Exponential(1.0), or what it returns"
        )
    algorithm: Any = history.algorithm
    if algorithm is None:
        raise ValueError(
            "when workers wait does not follow from a method of your own, or with a part of your own, which "
            "the file does not have; give with_time what relaysim.analysis.runtime(network, steps) returns"
        )
    if getattr(algorithm, "uses", "workers") == "workers":
        raise ValueError(
            f"whom workers wait for does not follow from the topology where {type(algorithm).__name__} "
            f"brings a network of its own; give with_time what relaysim.analysis.runtime(network, steps) "
            f"returns, such as of relaysim.topologies.complete(n)"
        )
    every, rounds = algorithm.sends_every, algorithm.hops_per_step
    if every is None or math.isinf(rounds):
        raise ValueError(
            f"when workers wait, and for whom, depends on the run of {type(algorithm).__name__}, or it "
            f"averages over all; give with_time what relaysim.analysis.runtime(network, steps) returns"
        )
    network = history.topology
    if configuration.owned(history.config["mixing"]):
        raise ValueError(
            "whom workers wait for is not on record where the mixing is a callable of your own; give "
            "with_time what relaysim.analysis.runtime(network, steps) returns, such as of your matrices"
        )
    if history.mixing is not None:
        network = history.mixing
        if is_sequence(network):  # those of the steps in which it sends
            network = _of_steps(network, algorithm)
    options: dict[str, Any] = {"overlap": bool(algorithm.overlaps), "replicas": history.replicas}
    options |= {"every": every, "rounds": int(rounds)} | dict(model)
    return runtime(network, max(1, int(history.steps.max(initial=0))), **options)
