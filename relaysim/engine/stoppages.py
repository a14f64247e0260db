"""Workers that stop, and gradients that are late, in a run of rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.faults import Crash, Straggler

__all__ = ["LateGradients", "Stoppages"]


class Stoppages:
    """Steps that some workers do not take.

    Args:
        crashes: faults of the run that stop workers.
        stopped: ``stopped(fault)``, who has in the present step, ``(n, 1)``, or ``(n, 1, r)`` with replicas.
        start: the state before step 0.
        shape: of the iterates.

    ``stopped_workers`` counts workers and steps since the run began, ``(r,)``.
    """

    def __init__(
        self,
        crashes: list[Crash],
        stopped: Callable[[Crash], np.ndarray],
        start: Any,
        shape: tuple[int, ...],
    ):
        self._crashes, self._stopped, self._start = crashes, stopped, start
        self._n = shape[0]
        one = (shape[0], 1, *shape[2:])
        self._before = [np.zeros(one, dtype=bool) for _ in crashes]
        self.stopped_workers = np.zeros(int(np.prod(shape[2:])), dtype=np.int64)

    def step(self, advance: Callable[[Any, Any], Any], state: Any, round: Any) -> Any:
        """The next state, in which who has stopped is as before."""
        stopped = np.zeros_like(self._before[0])
        for k, crash in enumerate(self._crashes):
            now = self._stopped(crash)
            if crash.state == "lost":
                state = _with_rows(state, self._start, self._before[k] & ~now, self._n)
            self._before[k] = now
            stopped |= now
        self.stopped_workers += stopped.reshape(self._n, -1).sum(axis=0)
        return _with_rows(advance(state, round), state, stopped, self._n)

    def keep(self, replicas: np.ndarray, start: Any) -> None:
        """Go on with these replicas only; ``start`` is the state before step 0 of these."""
        self._start = start
        self._before = [each[..., replicas] if each.ndim == 3 else each for each in self._before]
        self.stopped_workers = self.stopped_workers[replicas]

    @property
    def start(self) -> Any:
        """The state before step 0."""
        return self._start

    def state(self) -> dict[str, Any]:
        return {
            "before": [each.copy() for each in self._before],
            "count": self.stopped_workers.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._before = [np.array(each) for each in state["before"]]
        self.stopped_workers = np.array(state["count"])


def _with_rows(state: Any, other: Any, workers: np.ndarray, n: int) -> Any:
    """A state with the rows of some workers from another one; messages on edges are left as they are."""
    if not workers.any():
        return state
    parts = []
    for part, own in zip(state, other, strict=True):
        if isinstance(part, tuple) or part.shape[0] != n or part.shape[1:] != state.x.shape[1:]:
            parts.append(part)
        else:
            parts.append(np.where(workers, own, part))
    return type(state)(*parts)


class LateGradients:
    """Gradients of which some are missing, or come later.

    Args:
        fault: which.
        slow: ``slow(fault, n)``, who is slow in the present step, ``(n, 1)`` or ``(n, 1, r)``.
        shape: of the iterates.

    ``missing_gradients`` counts them since the run began, ``(r,)``.
    """

    def __init__(
        self,
        fault: Straggler,
        slow: Callable[[Straggler, int], np.ndarray],
        shape: tuple[int, ...],
    ):
        self._fault, self._slow = fault, slow
        self._remaining = np.zeros((shape[0], 1, *shape[2:]), dtype=np.int64)
        self._held = np.zeros(shape if fault.late else (0, *shape[1:]))
        self.missing_gradients = np.zeros(int(np.prod(shape[2:])), dtype=np.int64)

    def of(
        self, gradient: Callable[[np.ndarray], np.ndarray]
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The function that gives what there is of the gradients in a step."""
        return lambda x: self._arrived(gradient(x))

    def _arrived(self, gradient: np.ndarray) -> np.ndarray:
        idle = self._remaining == 0
        slow = self._slow(self._fault, len(gradient)) & idle
        missing = slow
        if self._fault.late:
            ends = self._remaining == 1
            late = np.where(ends, self._held, gradient)
            self._held = np.where(slow, gradient, self._held)
            missing = slow | (self._remaining > 1)
            self._remaining = np.where(slow, self._fault.late, np.maximum(self._remaining - 1, 0))
            gradient[...] = late
        np.copyto(gradient, 0.0, where=missing)
        self.missing_gradients += missing.reshape(len(gradient), -1).sum(axis=0)
        return gradient

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self.missing_gradients = self.missing_gradients[replicas]
        if self._remaining.ndim == 3:
            self._remaining = self._remaining[..., replicas]
            self._held = np.ascontiguousarray(self._held[..., replicas])

    def state(self) -> dict[str, Any]:
        return {
            "remaining": self._remaining.copy(),
            "held": self._held.copy(),
            "count": self.missing_gradients.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._remaining, self._held = np.array(state["remaining"]), np.array(state["held"])
        self.missing_gradients = np.array(state["count"])
