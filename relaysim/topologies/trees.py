"""Trees: chains, stars, balanced trees, and spanning trees of other graphs."""

from __future__ import annotations

import operator

import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.support.checks import whole_number
from relaysim.topologies.graph import Topology, TreePair, graph_size, pairs_of

__all__ = [
    "binary_tree",
    "chain",
    "double_binary_tree",
    "regular_tree",
    "spannable",
    "spanning_tree",
    "star",
]


def chain(n: int) -> Topology:
    """Workers in a line: i is linked with i + 1. Diameter n − 1.

    >>> chain(4).edges.tolist()
    [[0, 1], [1, 2], [2, 3]]
    """
    workers = np.arange(graph_size(n))
    return Topology(n, pairs_of(workers[:-1], workers[1:]), f"chain({n})")


def star(n: int) -> Topology:
    """Worker 0 is the hub, linked with every other worker. Diameter 2.

    >>> star(4).degrees.tolist()
    [3, 1, 1, 1]
    """
    leaves = np.arange(1, graph_size(n))
    return Topology(n, pairs_of(np.zeros_like(leaves), leaves), f"star({n})")


def binary_tree(n: int) -> Topology:
    """Worker 0 above worker 1; worker i ≥ 1 has children 2i and 2i + 1.

    This is the numbering of the code published with the RelaySum paper (Vogels et al., 2021).

    >>> binary_tree(6).edges.tolist()
    [[0, 1], [1, 2], [1, 3], [2, 4], [2, 5]]
    """
    workers = np.arange(1, graph_size(n))
    return Topology(n, pairs_of(workers // 2, workers), f"binary_tree({n})")


def double_binary_tree(n: int) -> TreePair:
    """`binary_tree` and its mirror image i → n − 1 − i, each carrying half of the coordinates.

    A worker that is busy in one tree is a leaf, or nearly one, in the other.

    >>> double_binary_tree(4).second.edges.tolist()
    [[0, 2], [1, 2], [2, 3]]
    """
    first = binary_tree(n)
    return TreePair(first, Topology(n, n - 1 - first.edges, f"mirrored binary_tree({n})"))


def regular_tree(n: int, degree: int) -> Topology:
    """A tree in which every inner worker has ``degree`` neighbours, filled level by level from 0.

    Args:
        n: number of workers.
        degree: neighbours of an inner worker, at least 2 (the last inner worker may have fewer).

    >>> regular_tree(10, 3).degrees.tolist()
    [3, 3, 3, 3, 1, 1, 1, 1, 1, 1]
    """
    if whole_number(degree, "degree", 1) < 2:
        raise ValueError(f"regular_tree needs a degree of at least 2, not {degree}")
    workers = np.arange(1, graph_size(n))
    parents = np.where(workers <= degree, 0, 1 + (workers - 1 - degree) // (degree - 1))
    return Topology(n, pairs_of(parents, workers), f"regular_tree({n}, {degree})")


def spanning_tree(topology: Topology, root: int | None = None) -> Topology:
    """The breadth-first spanning tree from a root, neighbours taken in increasing order.

    Args:
        topology: a connected topology.
        root: the worker to start from. Without one, the lowest root among those whose
            breadth-first tree has the smallest diameter.

    Raises:
        ValueError: the topology is directed, or not connected, or the root is not one of its workers.

    >>> from relaysim.topologies import ring, torus
    >>> spanning_tree(ring(5), root=0).edges.tolist()
    [[0, 1], [0, 4], [1, 2], [3, 4]]
    >>> spanning_tree(torus(3, 3)).diameter
    4
    """
    topology = spannable(topology, "spanning_tree")
    if root is None:
        adjacency = topology.adjacency
        trees = (_breadth_first_tree(topology, adjacency, worker) for worker in range(topology.n))
        return min(trees, key=operator.attrgetter("diameter"))
    root = whole_number(root, "root", 0)
    if root >= topology.n:
        raise ValueError(f"root must be a worker 0 … {topology.n - 1}, not {root}")
    return _breadth_first_tree(topology, topology.adjacency, root)


def spannable(topology: Topology, name: str) -> Topology:
    """The topology, once it is known to have spanning trees; raises for who calls by this name."""
    if not isinstance(topology, Topology):
        raise TypeError(f"{name} needs a Topology, not {topology!r}")
    if topology.is_directed:
        raise ValueError(
            f"the edges of a spanning tree carry messages both ways, which those of {topology!r} do not; "
            f"use topology.to_undirected() if they can"
        )
    if not topology.is_connected:
        raise ValueError(f"{topology!r} is not connected, so it has no spanning tree")
    return topology


def _breadth_first_tree(topology: Topology, adjacency: csr_array, root: int) -> Topology:
    order, parents = csgraph.breadth_first_order(adjacency, root, directed=True)
    children = order[1:]
    return Topology(
        topology.n,
        pairs_of(parents[children], children),
        f"spanning_tree({topology.name}, root={root})",
        worker_names=topology.worker_names,
    )
