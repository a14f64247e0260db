"""Workers who lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaysim.attacks import (
    ALittleIsEnough,
    Attack,
    Dissensus,
    LargeNorm,
    Noise,
    SignFlip,
)
from relaysim.faults.base import LIES, Fault, WireRound
from relaysim.support.checks import one_of, shown, whole_number
from relaysim.topologies import Topology, TreePair

__all__ = ["Byzantine"]

#: Attacks by name, as they are by default.
_ATTACKS: dict[str, Callable[[], Attack]] = {
    "sign flip": SignFlip,
    "noise": Noise,
    "large norm": LargeNorm,
    "dissensus": Dissensus,
    "a little is enough": ALittleIsEnough,
}


@dataclass(frozen=True)
class Byzantine(Fault):
    """Workers who tell their neighbours what an attack says in the place of their own vectors.

    Everything else is as before: they step and average as all do, with what they hear. Columns of histories
    measure the honest workers only, on the mean of their objectives: x̄, Ξ² and x* are theirs, so that the
    problem must have ``among(workers)``. Iterates that are kept are of all workers, and so are messages that
    are counted.

    Args:
        workers: who lies, fewer than half.
        attack: one of `relaysim.attacks`, or the name of one as it is by default: ``"sign flip"``,
            ``"noise"``, ``"large norm"``, ``"dissensus"``, ``"a little is enough"``.

    Raises:
        ValueError: a worker twice or one that there is not, half of the workers or more, an attack that there
            is not.

    Source: as of the attacks.

    >>> Byzantine([3], "dissensus")
    Byzantine(workers=(3,), attack=Dissensus(epsilon=1.0))
    """

    workers: Sequence[int]
    attack: Any = "sign flip"

    kind: ClassVar[str] = LIES

    def __post_init__(self) -> None:
        if np.ndim(self.workers) != 1 or isinstance(self.workers, str):
            raise TypeError(
                f"workers must be a list of workers, such as [0, 5], not {shown(self.workers)}"
            )
        workers = tuple(whole_number(worker, "workers: a worker", 0) for worker in self.workers)
        if len(set(workers)) < len(workers):
            raise ValueError(f"workers names a worker twice: {list(workers)}")
        object.__setattr__(self, "workers", tuple(sorted(workers)))
        if isinstance(self.attack, str):
            name = one_of(self.attack, "attack", tuple(_ATTACKS))
            object.__setattr__(self, "attack", _ATTACKS[name]())
        if isinstance(self.attack, type) or not hasattr(self.attack, "lies"):
            raise TypeError(f"{self.attack!r} is no attack; see relaysim.attacks, or take its name")

    @property
    def never(self) -> bool:
        return not self.workers

    @property
    def liars(self) -> tuple[int, ...]:
        """The workers who lie."""
        return tuple(self.workers)

    def check(self, topology: Topology | TreePair) -> None:
        n, count = topology.n, len(self.workers)
        beyond = [worker for worker in self.workers if worker >= n]
        if beyond:
            raise ValueError(f"Byzantine names worker {beyond[0]}; there are 0 to {n - 1}")
        if 2 * count >= n:
            raise ValueError(
                f"{count} of {n} workers are Byzantine, and no method can hold where half of them or more "
                f"lie; name fewer than {(n + 1) // 2}"
            )

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives."""
        return np.ones(len(edges), dtype=bool)
