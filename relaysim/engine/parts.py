"""The parts of a run, checked against each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaysim.algorithms.base import Samples
from relaysim.algorithms.claims import check_rates
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import (
    check_compatible,
    check_oracle,
    weights_for,
)
from relaysim.algorithms.tolerance import check_faults
from relaysim.engine.plan import ReplicaPlan
from relaysim.faults import AnyFault, TraceWriter, alone, liars_of, parts_of
from relaysim.measures.scope import Scope
from relaysim.mixing.by_step import AnyMixing
from relaysim.oracles import Exact, Oracle, gives_samples
from relaysim.problems import Problem
from relaysim.problems.acceptance import require_accepted
from relaysim.problems.workers import Workers
from relaysim.support.fast import is_there
from relaysim.support.starts import starting_points
from relaysim.support.streams import Streams
from relaysim.topologies import Topology, TreePair

__all__ = ["Parts"]

# shape → an array that serves until the step ends
Scratch = Callable[[tuple[int, ...]], np.ndarray]


class Parts:
    """A problem, a topology, an algorithm and what they meet, checked before any work starts.

    Args:
        problem, topology, algorithm, mixing, oracle, faults: see `relaysim.simulate`.
        keep_faults: whether a trace of them is written.
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
        keep_faults: bool = False,
    ):
        check_compatible(problem, topology, algorithm)
        check_rates(plan.workers, algorithm, problem.n)
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.links = algorithm.links(topology)
        self.plan = plan
        self.workers = Workers(problem)
        self.oracle: Oracle = Exact() if oracle is None else oracle
        if isinstance(self.oracle, type) or not hasattr(self.oracle, "observe"):
            raise TypeError(
                f"{self.oracle!r} is no oracle; see relaysim.oracles, such as Gaussian(sigma2=0.01)"
            )
        check_oracle(self.oracle, algorithm)
        self.matrices = weights_for(algorithm, topology, mixing)
        check_faults(faults, topology, algorithm, self.matrices)
        never = faults is None or getattr(faults, "never", False)
        self.faults = None if never else faults
        self.writer: TraceWriter | None = None
        if keep_faults:
            self.writer = TraceWriter(
                self.links, plan.r if plan.has_axis else 1, parts_of(self.faults)
            )
        self.scope = Scope(problem, liars_of(alone(self.faults)))
        self.streams = Streams(plan.seeds, plan.owners if plan.has_axis else None)
        self.x0 = starting_points(plan.x0, problem, plan.r if plan.has_axis else None)
        require_accepted(problem, self.x0)

    @property
    def is_exact(self) -> bool:
        """Whether a step gets the gradients of the problem and nothing else."""
        return type(self.oracle) is Exact

    @property
    def may_compile(self) -> bool:
        """Whether steps may be compiled, where they are a list of operations."""
        return self.faults is None and self.is_exact and is_there()

    def gradient(self, scratch: Scratch) -> Callable[[np.ndarray], np.ndarray]:
        """The workers' gradients as the oracle shows them, in arrays that are lent."""
        observe = self.oracle.observe(self.problem, self.streams)
        return lambda x: observe(x, scratch(x.shape))

    def samples(self, scratch: Scratch) -> Samples | None:
        """What steps see of examples by their numbers, in arrays that are lent; None for who does not ask."""
        if self.algorithm.oracle_needs != "examples":
            return None
        assert gives_samples(self.oracle), "it was refused otherwise"
        return self.oracle.observe_samples(self.problem, self.streams, scratch)
