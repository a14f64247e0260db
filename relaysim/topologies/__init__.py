"""Communication graphs: who can talk to whom.

A topology is a simple graph over workers 0 … n−1, undirected unless it says otherwise: an edge (a, b) of a
directed one lets b hear what a sends, and nothing more. Every undirected edge is two directed ones; these are
kept sorted by receiver, because all that a round does with messages is to sum what each worker received.
"""

from typing import TYPE_CHECKING, NoReturn

from relaysim.support.names import attribute_error
from relaysim.topologies.graph import Topology, TreePair, from_edges, from_networkx
from relaysim.topologies.random_graphs import (
    barabasi_albert,
    erdos_renyi,
    random_regular,
    social_network,
    watts_strogatz,
)
from relaysim.topologies.regular import (
    complete,
    directed_exponential,
    directed_ring,
    exponential,
    hypercube,
    ring,
    torus,
    two_cliques,
)
from relaysim.topologies.spanning import (
    all_spanning_trees,
    best_spanning_tree,
    random_spanning_tree,
    tree_pair,
)
from relaysim.topologies.trees import (
    binary_tree,
    chain,
    double_binary_tree,
    regular_tree,
    spanning_tree,
    star,
)

__all__ = [
    "Topology",
    "TreePair",
    "all_spanning_trees",
    "barabasi_albert",
    "best_spanning_tree",
    "binary_tree",
    "chain",
    "complete",
    "directed_exponential",
    "directed_ring",
    "double_binary_tree",
    "erdos_renyi",
    "exponential",
    "from_edges",
    "from_networkx",
    "hypercube",
    "random_regular",
    "random_spanning_tree",
    "regular_tree",
    "ring",
    "social_network",
    "spanning_tree",
    "star",
    "torus",
    "tree_pair",
    "two_cliques",
    "watts_strogatz",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
