"""The parts of a run, checked against each other, and the machine that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.fit import check_compatible, check_faults, matrices_for
from relaysim.engine.events import Events
from relaysim.engine.plan import ReplicaPlan
from relaysim.engine.rounds import Rounds
from relaysim.oracles import Exact
from relaysim.problems.acceptance import require_accepted
from relaysim.support.starts import starting_points
from relaysim.support.streams import Streams

__all__ = ["Machine", "Setup"]


class Machine(Protocol):
    """What advances all replicas of a run together."""

    #: Steps taken.
    step: int

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; not to be changed."""

    @property
    def vectors_sent(self) -> float | np.ndarray:
        """So far, over all workers; ``(r,)`` where replicas differ."""

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""

    def advance(self, target: int) -> None:
        """Step on until so many steps are taken."""

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, but random numbers; copies."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""


class Setup:
    """A problem, a topology, an algorithm and what they meet, checked before any work starts.

    Args:
        problem, topology, algorithm, mixing, oracle, faults: see `relaysim.simulate`.
        plan: which replica has which learning rate, seed and starting point.

    Raises:
        ValueError, TypeError: parts that do not go together.
    """

    def __init__(
        self,
        problem,
        topology,
        algorithm,
        plan: ReplicaPlan,
        *,
        mixing=None,
        oracle=None,
        faults=None,
    ):
        check_compatible(problem, topology, algorithm)
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.plan = plan
        self.oracle = Exact() if oracle is None else oracle
        if isinstance(self.oracle, type) or not hasattr(self.oracle, "observe"):
            raise TypeError(
                f"{self.oracle!r} is no oracle; see relaysim.oracles, such as Gaussian(sigma2=0.01)"
            )
        self.matrices: Sequence[csr_array] = matrices_for(algorithm, topology, mixing)
        check_faults(faults, topology, algorithm, self.matrices)
        self.faults = None if faults is None or getattr(faults, "never", False) else faults
        self.streams = Streams(plan.seeds, plan.owners if plan.has_axis else None)
        self.x0 = starting_points(plan.x0, problem, plan.r if plan.has_axis else None)
        require_accepted(problem, self.x0)

    def machine(self) -> Machine:
        """What the algorithm is advanced by."""
        return self.algorithm.machine(self)

    def rounds(self, algorithm) -> Rounds:
        """For a method in which all workers step together."""
        return Rounds(self, algorithm)

    def events(self, algorithm) -> Events:
        """For a method whose workers act at times of their own."""
        return Events(self, algorithm)
