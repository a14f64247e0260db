"""Whether the parts that a user gives to a run go together, before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.algorithms.claims import require_claims
from relaysim.algorithms.events import Algorithm
from relaysim.mixing import column_stochastic, metropolis, row_stochastic
from relaysim.mixing.accelerated import disagreement_left
from relaysim.mixing.by_step import AnyMixing, ByStep, is_by_step
from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.rounds import is_several_rounds, rounds_of
from relaysim.mixing.sequences import (
    COLUMNS,
    ROWS,
    Mixing,
    as_sequence,
    graph_for,
    negative_weight,
    preserved_weights,
    require_connected,
    require_symmetric,
    sum_text,
)
from relaysim.support.checks import real_array, shown, whole_number
from relaysim.support.names import check_same_order
from relaysim.support.notes import note
from relaysim.topologies import Topology, TreePair

__all__ = [
    "check_compatible",
    "check_oracle",
    "cycle_of",
    "matrices_for",
    "weights_for",
]

# A matrix is doubly stochastic if its columns sum to 1 up to this.
DOUBLY_STOCHASTIC_TO = 1e-8
# What must sum to 1 of the matrices that are used one after the other, rows where nothing is said.
SUMS = {
    "column stochastic": (COLUMNS,),
    "row and column stochastic": (ROWS, COLUMNS),
}
FOR_ONE_WAY_LINKS = ('SGP(network="topology")', "PushDIGing()", "PushPull()")


def check_compatible(problem: Any, topology: object, algorithm: Any) -> None:
    """Raise unless the three can run together."""
    for name in ("n", "d", "gradient", "value"):
        if not hasattr(problem, name):
            raise TypeError(
                f"{problem!r} is no problem: it lacks {name!r}; "
                f"a problem has n, d, gradient(x) and value(x)"
            )
    whole_number(problem.n, "the problem's n", 1)
    whole_number(problem.d, "the problem's d", 1)
    optimum = getattr(problem, "optimum", None)
    if optimum is not None:
        optimum = real_array(optimum, "the problem's optimum", finite=True)
        if optimum.shape != (problem.d,):
            raise ValueError(
                f"the problem's optimum must have shape (d,) = ({problem.d},), not {optimum.shape}"
            )
    if isinstance(algorithm, type):
        raise TypeError(f"give an algorithm, not its class: {algorithm.__name__}()")
    if not (hasattr(algorithm, "step") or hasattr(algorithm, "rule")):
        raise TypeError(f"{algorithm!r} is no algorithm; see relaysim.algorithms")
    require_claims(algorithm)
    if not isinstance(topology, Topology | TreePair):
        raise TypeError(
            f"{topology!r} is no topology; see relaysim.topologies, "
            f"or use relaysim.topologies.from_networkx(graph)"
        )
    check_same_order(
        getattr(problem, "worker_names", None), getattr(topology, "worker_names", None)
    )
    if problem.n != topology.n:
        raise ValueError(
            f"the problem has {problem.n} workers and {topology!r} has {topology.n}; "
            f"make them equal"
        )
    if algorithm.problem_needs == "proximal" and getattr(problem, "proximal", None) is None:
        raise ValueError(
            f"{shown(problem)} does not say how a worker's own problem is solved, which "
            f"{type(algorithm).__name__} needs; use a quadratic such as relaysim.problems.LeastSquares, or "
            f"give it a method proximal(x, rate, gradient)"
        )
    if getattr(problem, "regularizer", None) is not None and not algorithm.composite:
        raise ValueError(
            f"{type(algorithm).__name__} has no proximal step for the term of {problem!r} that has no "
            f"gradient; use relaysim.algorithms.NIDS(), or leave the term out"
        )
    algorithm.vectors_per_edge(int(problem.d))  # a compressor may refuse some lengths
    algorithm.gradients_per_step(int(problem.n))  # local steps may be those of other workers
    algorithm.links(topology)  # a graph beside it may not go with it
    name = type(algorithm).__name__
    if isinstance(topology, TreePair):
        if algorithm.uses != "relay":
            raise ValueError(
                f"{name} cannot use a pair of trees: only the relay family splits coordinates over "
                f"two trees; use one tree, such as relaysim.topologies.binary_tree({topology.n})"
            )
        return
    _require_all_reached(topology)
    if topology.is_directed and not algorithm.directed:
        raise ValueError(
            f"{name} needs links in both directions, and {topology!r} is directed; use "
            f"topology.to_undirected(), or a method for one-way links: {', '.join(FOR_ONE_WAY_LINKS)}"
        )
    if algorithm.uses == "relay" and not topology.is_tree:
        raise ValueError(
            f"{name} needs a tree: this topology has {topology.n} workers and "
            f"{len(topology.edges)} edges; use relaysim.topologies.spanning_tree(topology)"
        )
    if hasattr(algorithm, "rule"):
        algorithm.rule(topology)  # of events: a graph that it cannot use


def _require_all_reached(topology: Topology) -> None:
    if topology.is_strongly_connected:
        return
    if not topology.is_directed:
        raise ValueError(
            f"{topology!r} is not connected: some workers could never hear of each other; add edges"
        )
    # A group that no worker within it sends out of, as there always is one, and a worker outside.
    _, group = csgraph.connected_components(topology.adjacency, connection="strong")
    source, target = group[topology.edges].T
    closed = int(np.setdiff1d(group, source[source != target])[0])
    a, b = int(np.argmax(group == closed)), int(np.argmax(group != closed))
    raise ValueError(
        f"{topology!r} is not strongly connected: nothing that worker {a} sends ever reaches worker {b}; add "
        f"edges"
    )


def matrices_for(
    algorithm: Algorithm, topology: Topology | TreePair, mixing: AnyMixing | None
) -> tuple[csr_array, ...]:
    """The gossip matrices of a method, which repeat, checked; says once what a claim lacks.

    Raises:
        ValueError: as `weights_for`, and a callable of the step, or what draws.

    Warns:
        UserWarning: the method is exact with doubly stochastic matrices only, and these are not; or they are
            not on a directed graph.
    """
    found = weights_for(algorithm, topology, mixing)
    if not isinstance(found, tuple):
        raise ValueError(
            f"mixing is a callable of the step{_drawn(mixing)}, {shown(mixing)}, whose matrices need not "
            f"repeat: without a period there is no rate, fixed point or bound to tell; simulate it, or give "
            f"the matrices of a period as a sequence"
        )
    return found


def _drawn(mixing: object) -> str:
    return " and of what each replica draws" if isinstance(mixing, DrawnMixing) else ""


def weights_for(
    algorithm: Algorithm, topology: Topology | TreePair, mixing: AnyMixing | None
) -> tuple[csr_array, ...] | ByStep | DrawnMixing:
    """The gossip matrices that an algorithm mixes with: a period of them, or those of a callable, checked.

    Of a callable of the step W_0 is, before any work, and each later matrix when it is asked for. What draws
    is what was given.

    Raises:
        TypeError, ValueError: matrices that do not fit the algorithm or the topology.

    Warns:
        UserWarning: as `matrices_for`.
    """
    name = type(algorithm).__name__
    if algorithm.uses != "mixing":
        if mixing is not None:
            raise ValueError(f"{name} does not use a mixing matrix; leave mixing out")
        own = algorithm.own_mixing(topology.n) if algorithm.uses == "workers" else None
        return tuple(own or ())
    graph = graph_for(topology)
    found: tuple[csr_array, ...] | ByStep | DrawnMixing
    sums = SUMS.get(algorithm.mixing_needs, (ROWS,))
    if is_by_step(mixing):
        if algorithm.mixing_needs == "symmetric":
            raise ValueError(
                f"{name} keeps something for each edge that it uses, which a callable of the step does not "
                f"tell beforehand; give the matrices of a period as a sequence"
            )
        if algorithm.mixing_needs == "one symmetric":
            raise ValueError(
                f"{name} takes its momentum from the eigenvalues of one matrix, and a callable of the step "
                f"has one for each; give a matrix"
            )
        if isinstance(mixing, DrawnMixing):
            mixing.require_fits(graph)
            _require_rows(mixing, sums, name)
            if algorithm.mixing_needs == "doubly stochastic" and algorithm.exact:
                _warn_unless_drawn_so(mixing, name)
            return mixing
        found = ByStep(mixing, graph, sums)
        first: tuple[csr_array, ...] = (found.first,)
    else:
        found = first = as_sequence(
            _default(graph, sums) if mixing is None else mixing, graph, sums
        )
        _require_used_ones_connect(found, algorithm, graph)
    if not algorithm.several_rounds:
        _require_each_round(found, name)
    if algorithm.mixing_needs == "one symmetric":
        _require_one_that_averages(first, name)
    elif algorithm.mixing_needs == "symmetric":
        require_symmetric(first)
    elif algorithm.mixing_needs == "column stochastic":
        _require_mass(found)
    elif sums == (ROWS,):
        needed = algorithm.mixing_needs == "doubly stochastic" and algorithm.exact
        if needed or graph.is_directed:
            _warn_unless_doubly_stochastic(first, name, needed)
    return found


def _require_used_ones_connect(
    matrices: tuple[csr_array, ...], algorithm: Algorithm, graph: Topology
) -> None:
    """Raise where those of the steps in which a method sends do not connect what the whole sequence does."""
    every, length = algorithm.sends_every, len(matrices)
    used = sorted({k for step in algorithm.matrices_used(length) for k in step})
    if len(used) < length:
        named = ", ".join(f"W_{t}" for t in used)
        which = (
            f"{type(algorithm).__name__} mixes every {every} steps, with {named} alone of this sequence of "
            f"{length}, and to use each of them it takes [W for W in sequence for _ in range({every})]: these"
        )
        require_connected([matrices[t] for t in used], graph, which)


def _default(graph: Topology, sums: Sequence[str]) -> Mixing:
    """The weights of a graph for which a user names none."""
    if not graph.is_directed:
        return metropolis(graph)
    return [row_stochastic(graph) if each == ROWS else column_stochastic(graph) for each in sums]


def _require_mass(matrices: tuple[csr_array, ...] | ByStep) -> None:
    """Raise where a worker's mass, by which push-sum divides, could become 0 or less."""

    def check(W: csr_array) -> None:
        if (found := negative_weight(W)) is not None:
            i, j, weight = found
            raise ValueError(
                f"push-sum divides by the mass that workers have, which needs weights of 0 or more; this "
                f"matrix gives worker i = {i} the weight {weight:.4g} for worker j = {j}: use "
                f"relaysim.mixing.column_stochastic(topology)"
            )
        empty = np.flatnonzero(W.sum(axis=1) == 0)
        if len(empty):
            raise ValueError(
                f"push-sum divides by the mass that workers have, and row {empty[0]} of this matrix is 0: "
                f"worker {empty[0]} gives all away and gets nothing; let it keep a part, as "
                f"relaysim.mixing.column_stochastic(topology) does"
            )

    _check_each(matrices, check)


def _check_each(
    matrices: tuple[csr_array, ...] | ByStep, check: Callable[[csr_array], None]
) -> None:
    """Let ``check``, which raises, look at every matrix, at those of a callable as they come."""
    if isinstance(matrices, ByStep):
        matrices.require(check)
    else:
        for W in matrices:
            check(W)


def _require_rows(mixing: DrawnMixing, sums: Sequence[str], name: str) -> None:
    """Raise where a method needs columns that sum to 1, which those of what is drawn need not."""
    if tuple(sums) != (ROWS,) and not (len(sums) == 1 and mixing.doubly_stochastic):
        raise ValueError(
            f"{name} needs matrices whose columns sum to 1, and {mixing!r} draws such whose rows do; give it "
            f"relaysim.mixing.column_stochastic(topology), or nothing"
        )


def cycle_of(algorithm: Algorithm, matrices: tuple[csr_array, ...] | ByStep | DrawnMixing) -> int:
    """Steps after which the matrices and the method's own rule repeat, as far as they are known to.

    What is said of a run in its long term is an average over so many steps.
    """
    length = max(len(matrices), 1) if isinstance(matrices, tuple) else 1
    return math.lcm(length // math.gcd(length, algorithm.matrices_per_step), algorithm.cycle)


def _warn_unless_drawn_so(mixing: DrawnMixing, name: str) -> None:
    if not mixing.doubly_stochastic:
        note(
            f"{name} is exact where W is doubly stochastic, and the columns of what {mixing!r} draws need "
            f"not sum to 1: its matrices preserve no common weighted mean, so that it need not end anywhere"
        )


def _require_each_round(matrices: tuple[csr_array, ...] | ByStep, name: str) -> None:
    """Raise where a matrix stands for several rounds."""

    def check(W: csr_array) -> None:
        if is_several_rounds(W):
            raise ValueError(
                f"{name} compresses what crosses an edge, keeps something for it, or asks for sums of "
                f"columns, which it can do for one round only; this mixing stands for {rounds_of(W)}: give "
                f"the matrix of one round"
            )

    _check_each(matrices, check)


def _require_one_that_averages(matrices: tuple[csr_array, ...], name: str) -> None:
    """Raise unless there is one symmetric matrix, with which gossip averages."""
    if len(matrices) > 1:
        raise ValueError(
            f"{name} takes its momentum from the eigenvalues of one matrix, not of a sequence of "
            f"{len(matrices)}; leave mixing out, or give one matrix"
        )
    require_symmetric(matrices)
    left = disagreement_left(matrices[0])
    if not left < 1 - 1e-14:
        raise ValueError(
            f"{name} needs a matrix whose gossip averages, and this one leaves {left:.6g} of the "
            f"disagreement; use relaysim.mixing.metropolis(topology)"
        )


def _warn_unless_doubly_stochastic(
    matrices: tuple[csr_array, ...], name: str, needed: bool
) -> None:
    """Say where a method ends with these; ``needed`` if it would be exact with doubly stochastic ones."""
    sums = np.array([W.sum(axis=0) for W in matrices])
    if np.abs(sums - 1).max() <= DOUBLY_STOCHASTIC_TO:
        return
    weights = preserved_weights(matrices)
    largest = sum_text(sums.max())
    if weights is None:
        end = "its matrices preserve no common weighted mean, so that it need not end anywhere"
    else:
        low, high = weights.min(), weights.max()
        end = (
            f"it ends {'at' if needed else 'near'} argmin Σ_i π_i f_i instead of x*, with weights π_i from "
            f"{low:.4g} to {high:.4g} that W preserves, not 1/n"
        )
    if needed:
        note(
            f"{name} is exact where W is doubly stochastic, and a column of this W sums to {largest}: {end}"
        )
    else:
        note(
            f"{name} on one-way links, with a W of which a column sums to {largest}: {end}; those without "
            f"this bias are {', '.join(FOR_ONE_WAY_LINKS)}"
        )


def check_oracle(oracle: object, algorithm: Algorithm) -> None:
    """Raise unless the oracle gives what the algorithm says that it asks for."""
    if algorithm.oracle_needs == "examples" and not hasattr(oracle, "observe_samples"):
        raise ValueError(
            f"{type(algorithm).__name__} asks for gradients on examples by their numbers, which {oracle!r} "
            f"does not give; use oracle=relaysim.oracles.Table(size=1), on a problem with examples"
        )
