"""What fails and is repaired from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaysim.support.streams import Streams, Uniforms, of_replicas

__all__ = ["Chain"]


class Chain:
    """Things that fail and are repaired, each by itself, from step to step; a source of `Streams`.

    Args:
        streams: whose replicas.
        uniforms: the numbers that decide.
    """

    def __init__(self, streams: Streams, uniforms: Uniforms):
        self._streams, self._uniforms = streams, uniforms
        self._step = -1
        self._failed = np.zeros((0, len(streams.seeds)), dtype=bool)

    def at(self, step: int, fail: float, repair: float, count: int) -> np.ndarray:
        """Which of ``count`` things are out of order in a step, ``(count, 1)`` or ``(count, 1, r)``.

        All are in order before step 0. Before each step one that is in order fails with probability ``fail``,
        and one that is not is repaired with probability ``repair``. Steps are asked for in order.
        """
        if self._step < 0:
            self._failed = np.zeros((count, len(self._streams.seeds)), dtype=bool)
        while self._step < step:
            drawn = self._uniforms.of_seeds(count)
            self._failed = drawn < np.where(self._failed, 1 - repair, fail)
            self._step += 1
        return of_replicas(self._streams, self._failed)

    def state(self) -> dict[str, Any]:
        return {"step": self._step, "failed": self._failed.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        self._step, self._failed = int(state["step"]), np.array(state["failed"])
