"""The parts of a run, checked against each other."""

from __future__ import annotations

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, check_faults, weights_for
from relaysim.engine.plan import ReplicaPlan
from relaysim.faults import AnyFault, liars_of
from relaysim.measures.scope import Scope
from relaysim.mixing.by_step import AnyMixing
from relaysim.oracles import Exact, Oracle
from relaysim.problems import Problem
from relaysim.problems.acceptance import require_accepted
from relaysim.problems.workers import Workers
from relaysim.support.starts import starting_points
from relaysim.support.streams import Streams
from relaysim.topologies import Topology, TreePair

__all__ = ["Parts"]


class Parts:
    """A problem, a topology, an algorithm and what they meet, checked before any work starts.

    Args:
        problem, topology, algorithm, mixing, oracle, faults: see `relaysim.simulate`.
        plan: which replica has which learning rate, seed and starting point.

    Raises:
        ValueError, TypeError: parts that do not go together.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        plan: ReplicaPlan,
        *,
        mixing: AnyMixing | None = None,
        oracle: Oracle | None = None,
        faults: AnyFault | None = None,
    ):
        check_compatible(problem, topology, algorithm)
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.plan = plan
        self.workers = Workers(problem)
        self.oracle: Oracle = Exact() if oracle is None else oracle
        if isinstance(self.oracle, type) or not hasattr(self.oracle, "observe"):
            raise TypeError(
                f"{self.oracle!r} is no oracle; see relaysim.oracles, such as Gaussian(sigma2=0.01)"
            )
        self.matrices = weights_for(algorithm, topology, mixing)
        check_faults(faults, topology, algorithm, self.matrices)
        never = faults is None or getattr(faults, "never", False)
        self.faults = None if never else faults
        self.scope = Scope(problem, liars_of(self.faults))
        self.streams = Streams(plan.seeds, plan.owners if plan.has_axis else None)
        self.x0 = starting_points(plan.x0, problem, plan.r if plan.has_axis else None)
        require_accepted(problem, self.x0)
