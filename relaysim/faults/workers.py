"""Workers that stop, and workers whose gradients are late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relaysim.faults.base import LATE_GRADIENTS, STOPS, Fault, WireRound
from relaysim.support.checks import one_of, plain_options, real_number, shown, whole_number
from relaysim.topologies import Topology, TreePair

__all__ = ["Crash", "Straggler"]


class _OfWorkers(Fault):
    """What happens to some workers, or to any."""

    workers: Sequence[int] | None

    def check(self, topology: Topology | TreePair) -> None:
        beyond = [worker for worker in self.workers or () if worker >= topology.n]
        if beyond:
            raise ValueError(
                f"{type(self).__name__} names worker {beyond[0]}; there are 0 to {topology.n - 1}"
            )

    def concerns(self, n: int) -> np.ndarray:
        """Which of n workers it may happen to, ``(n,)``."""
        if self.workers is None:
            return np.ones(n, dtype=bool)
        return np.isin(np.arange(n), self.workers)


def _listed(workers: Sequence[int] | None) -> tuple[int, ...] | None:
    if workers is None:
        return None
    if np.ndim(workers) != 1 or isinstance(workers, str):
        raise TypeError(
            f"workers must be a list of workers, such as [0, 5], or None for all, not {shown(workers)}"
        )
    listed = tuple(whole_number(worker, "workers: a worker", 0) for worker in workers)
    if len(set(listed)) < len(listed):
        raise ValueError(f"workers names a worker twice: {list(listed)}")
    return tuple(sorted(listed))


@dataclass(frozen=True)
class Crash(_OfWorkers):
    """Workers stop, and return or stay away.

    Before each step a worker that runs stops with probability ``fail``, and one that has stopped returns with
    probability ``repair``; all run before the first. While it is stopped a worker takes no step and sends
    nothing, and messages to it are lost, see `MessageDrop`: these were sent, and count as sent. Columns of
    histories are still of all workers, of those that have stopped where they stopped.

    Args:
        fail: in [0, 1].
        repair: in [0, 1]; with 0, the default, who stops stays away.
        state: what a worker returns with: ``"kept"``, all that it had, or ``"lost"``, its starting point, and
            momentum and corrections as they were there.
        workers: which may stop, such as ``[0, 5]``; all by default.

    Raises:
        ValueError: a probability outside [0, 1], a worker twice, or one that there is not.

    >>> Crash(0.01, repair=0.1)
    Crash(fail=0.01, repair=0.1, state='kept', workers=None)
    """

    fail: float
    repair: float = 0.0
    state: str = "kept"
    workers: Sequence[int] | None = None

    kind: ClassVar[str] = STOPS

    def __post_init__(self) -> None:
        object.__setattr__(self, "workers", _listed(self.workers))
        plain_options(self)
        object.__setattr__(self, "fail", real_number(self.fail, "fail", 0, 1))
        object.__setattr__(self, "repair", real_number(self.repair, "repair", 0, 1))
        one_of(self.state, "state", ("kept", "lost"))

    @property
    def never(self) -> bool:
        return self.fail == 0 or self.workers == ()

    @property
    def outages(self) -> bool:
        return True

    def stopped(self, round: WireRound) -> np.ndarray:
        """Who has stopped in a step, ``(n,)`` or ``(n, r)``."""
        n = round.topology.n
        stopped = round.chain(self.fail, self.repair, n)
        return stopped & self.concerns(n).reshape(-1, *(1,) * (stopped.ndim - 1))

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        stopped = self.stopped(round)
        return ~(stopped[edges[:, 0]] | stopped[edges[:, 1]])


@dataclass(frozen=True)
class Straggler(_OfWorkers):
    """Workers whose gradients are missing for a while.

    In each step a worker is slow with a probability, independently. With ``late=0`` its gradient of that step
    is left out: it counts as 0. With ``late=k`` it takes k further steps: it counts as 0 in this step and the
    next k − 1, in which the worker begins no other, and k steps later the gradient of this one counts in the
    place of that step's own. All else goes on as usual: slow workers send, hear and mix.

    Args:
        probability: in [0, 1].
        late: k, a whole number.
        workers: which may be slow, such as ``[0, 5]``; all by default.

    Raises:
        ValueError: a probability outside [0, 1], k below 0, a worker twice, or one that there is not.

    >>> Straggler(0.1, late=3)
    Straggler(probability=0.1, late=3, workers=None)
    """

    probability: float
    late: int = 0
    workers: Sequence[int] | None = None

    kind: ClassVar[str] = LATE_GRADIENTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "workers", _listed(self.workers))
        plain_options(self)
        probability = real_number(self.probability, "probability", 0, 1)
        object.__setattr__(self, "probability", probability)
        whole_number(self.late, "late", 0)

    @property
    def never(self) -> bool:
        return self.probability == 0 or self.workers == ()

    def slow(self, n: int, round: WireRound) -> np.ndarray:
        """Who begins a gradient that is late, of those of n workers who begin one, ``(n,)`` or ``(n, r)``."""
        slow = round.uniforms(n) < self.probability
        return slow & self.concerns(n).reshape(-1, *(1,) * (slow.ndim - 1))

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives."""
        return np.ones(len(edges), dtype=bool)
