"""What runs are made of, for Hypothesis: networks, problems, faults, and whole small runs.

Graphs are those of `graphs`. Numbers come from NumPy by a seed that is drawn: generic ones, no two equal by
chance, and cheap to draw.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from graphs import connected_graphs, digraphs, trees
from hypothesis import assume
from hypothesis import strategies as st
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER

import relaysim as rs
from relaysim.topologies import TreePair

METHODS = (*ALGORITHMS, *ASYNCHRONOUS, *BY_NUMBER)

chances = st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0])
seeds = st.integers(0, 2**32)


@st.composite
def topologies(draw, algorithm, least=1, most=6, pairs=True):
    """One that a method has a rule for: a tree or a pair of trees for relays, else any that is connected."""
    if algorithm.uses == "relay":
        n, edges = draw(trees(max(least, 1), most))
        tree = rs.topologies.from_edges(n, edges)
        if pairs and n > 1 and draw(st.booleans()):
            labels = draw(st.permutations(range(n)))
            return TreePair(
                tree, rs.topologies.from_edges(n, [(labels[a], labels[b]) for a, b in edges])
            )
        return tree
    if algorithm.directed and algorithm.uses == "mixing" and draw(st.booleans()):
        n, edges = draw(digraphs(max(least, 2), most))
        ring = [(worker, (worker + 1) % n) for worker in range(n)]
        return rs.topologies.from_edges(n, [*edges, *ring], directed=True)
    n, edges = draw(connected_graphs(max(least, 2 if algorithm.uses == "events" else 1), most))
    return rs.topologies.from_edges(n, edges)


@st.composite
def least_squares(draw, n, least=2):
    """½‖A_i x − b_i‖² with different optima, and largest Hessian eigenvalue 1."""
    d, rows = draw(st.integers(least, 4)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(seeds))
    A = generator.normal(size=(n, rows, d))
    A /= np.linalg.norm(A, ord=2, axis=(1, 2)).max()
    return rs.problems.LeastSquares(A, generator.normal(size=(n, rows)))


def faults(kinds):
    """None, one of the kinds that a method has a rule for, or two that may come together."""
    losses = [
        st.builds(rs.faults.MessageDrop, chances),
        st.builds(rs.faults.BurstLoss, chances, chances),
        st.builds(rs.faults.LinkFailure, chances, chances),
    ]
    alone = {
        "late messages": st.builds(
            rs.faults.Delay, chances, st.integers(1, 3), ordered=st.booleans()
        ),
        "altered messages": st.builds(rs.faults.Corrupt, chances),
    }
    together = list(losses) if "lost messages" in kinds else []
    if "workers that stop" in kinds:
        states = st.sampled_from(["kept", "lost"])
        together.append(st.builds(rs.faults.Crash, chances, chances, state=states))
    found = [st.none(), *together, *(each for kind, each in alone.items() if kind in kinds)]
    if together:
        several = st.lists(st.one_of(together), min_size=2, max_size=2)
        found.append(several.map(lambda each: rs.faults.All(*each)))
    return st.one_of(found)


@dataclass(frozen=True)
class Run:
    """What `simulate` is given."""

    algorithm: Any
    topology: Any
    problem: Any
    x0: np.ndarray
    learning_rate: float
    steps: int
    seed: int
    faults: Any = None
    mixing: Any = None
    sigma2: float = 0.0

    def history(self, **options):
        """The run with all its iterates; what is refused is no example of anything."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given |= {"progress": False, "keep_iterates": True} | options
        sigma2 = given.pop("sigma2")
        given["oracle"] = rs.oracles.Gaussian(sigma2) if sigma2 else None
        if self.algorithm.oracle_needs == "examples":
            given["oracle"] = rs.oracles.Table()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that W is not doubly stochastic
            try:
                return rs.simulate(**given)
            except (TypeError, ValueError) as refusal:
                assume(not _is_refusal(refusal))
                raise

    def iterates(self, **options):
        """``(steps + 1, n, d[, r])``."""
        history = self.history(**options)
        assume(not history.diverged.any())
        return history.iterates

    def replaced(self, **changes):
        return dataclasses.replace(self, **changes)


def _is_refusal(error):
    """Whether a run was refused before it began: nothing below `simulate`'s checks was reached."""
    trace = error.__traceback__
    names = set()
    while trace is not None:
        names.add(trace.tb_frame.f_code.co_qualname)
        trace = trace.tb_next
    return "Experiment.history" not in names


@st.composite
def runs(draw, methods=METHODS, least=1, most=6, faulty=True, noisy=True, pairs=True):
    """A small run of one of these methods, at a rate at which most are stable."""
    algorithm = draw(st.sampled_from(methods))
    topology = draw(topologies(algorithm, least, most, pairs))
    problem = draw(least_squares(topology.n))
    sigma2 = draw(st.sampled_from([0.0, 0.5])) if noisy else 0.0
    return Run(
        algorithm,
        topology,
        problem,
        np.random.default_rng(draw(seeds)).normal(size=(topology.n, problem.d)),
        learning_rate=draw(st.sampled_from([0.0, 0.05, 0.2, 0.4])),
        steps=max(draw(st.integers(1, 9)), algorithm.least_steps),
        seed=draw(st.integers(0, 10**6)),
        faults=draw(faults(algorithm.faults)) if faulty else None,
        sigma2=sigma2,
    )
