"""Whether the parts that a user gives to a run go together, before any work starts."""

from __future__ import annotations

import numpy as np

from relaysim.mixing import metropolis
from relaysim.mixing.sequences import as_sequence
from relaysim.support.checks import whole_number
from relaysim.topologies import Topology, TreePair

__all__ = ["check_compatible", "check_faults", "matrices_for"]


def check_compatible(problem, topology, algorithm) -> None:
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
    if optimum is not None and np.shape(optimum) != (problem.d,):
        raise ValueError(
            f"the problem's optimum must have shape (d,) = ({problem.d},), not {np.shape(optimum)}"
        )
    if isinstance(algorithm, type):
        raise TypeError(f"give an algorithm, not its class: {algorithm.__name__}()")
    if not (
        hasattr(algorithm, "uses") and (hasattr(algorithm, "step") or hasattr(algorithm, "rule"))
    ):
        raise TypeError(f"{algorithm!r} is no algorithm; see relaysim.algorithms")
    if not isinstance(topology, Topology | TreePair):
        raise TypeError(
            f"{topology!r} is no topology; see relaysim.topologies, "
            f"or use relaysim.topologies.from_networkx(graph)"
        )
    if problem.n != topology.n:
        raise ValueError(
            f"the problem has {problem.n} workers and {topology!r} has {topology.n}; "
            f"make them equal"
        )
    name = type(algorithm).__name__
    if isinstance(topology, TreePair):
        if algorithm.uses != "relay":
            raise ValueError(
                f"{name} cannot use a pair of trees: only the relay family splits coordinates over "
                f"two trees; use one tree, such as relaysim.topologies.binary_tree({topology.n})"
            )
        return
    if not topology.is_connected:
        raise ValueError(
            f"{topology!r} is not connected: some workers could never hear of each other; add edges"
        )
    if algorithm.uses == "relay" and not topology.is_tree:
        raise ValueError(
            f"{name} needs a tree: this topology has {topology.n} workers and "
            f"{len(topology.edges)} edges; use relaysim.topologies.spanning_tree(topology)"
        )


def matrices_for(algorithm, topology, mixing) -> tuple:
    """The gossip matrices that an algorithm mixes with, checked."""
    if algorithm.uses == "mixing":
        return as_sequence(metropolis(topology) if mixing is None else mixing, topology)
    if mixing is not None:
        raise ValueError(
            f"{type(algorithm).__name__} does not use a mixing matrix; leave mixing out"
        )
    return (algorithm.own_mixing(topology.n) if algorithm.uses == "workers" else None) or ()


def check_faults(faults, algorithm, matrices: tuple) -> None:
    """Raise unless these faults can happen to this algorithm."""
    if faults is None:
        return
    if not hasattr(faults, "arrivals"):
        raise TypeError(f"{faults!r} is no kind of fault; see relaysim.faults")
    if algorithm.uses == "events":
        raise ValueError(
            f"{type(algorithm).__name__} has no rule for lost messages: two workers meet or do not; "
            f"leave faults out"
        )
    if algorithm.uses == "workers" and not matrices:
        raise ValueError(
            f"{type(algorithm).__name__} averages exactly and has no messages to lose; "
            f"leave faults out"
        )
