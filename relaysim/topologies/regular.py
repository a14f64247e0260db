"""Regular graphs, in which most workers have equally many neighbours by construction."""

from __future__ import annotations

import numpy as np

from relaysim.support.checks import whole_number
from relaysim.topologies.graph import Topology, graph_size, pairs_of

__all__ = [
    "complete",
    "directed_exponential",
    "directed_ring",
    "exponential",
    "hypercube",
    "ring",
    "torus",
    "two_cliques",
]


def ring(n: int) -> Topology:
    """Workers in a circle: i is linked with i + 1 modulo n.

    ``ring(2)`` is one edge and ``ring(1)`` a single worker.

    >>> ring(4).edges.tolist()
    [[0, 1], [0, 3], [1, 2], [2, 3]]
    """
    return _circulant(n, [1], f"ring({n})")


def directed_ring(n: int) -> Topology:
    """Workers in a circle of one-way links: i sends to i + 1 modulo n. Diameter n − 1.

    >>> directed_ring(4).edges.tolist()
    [[0, 1], [1, 2], [2, 3], [3, 0]]
    """
    return _circulant(n, [1], f"directed_ring({n})", directed=True)


def complete(n: int) -> Topology:
    """Every worker linked with every other one.

    >>> complete(5).diameter
    1
    """
    size = graph_size(n, whole_number(n, "n", 1) / 2)
    return Topology(n, pairs_of(*np.triu_indices(size, k=1)), f"complete({n})")


def exponential(n: int) -> Topology:
    """Worker i linked with i ± 2^k modulo n, for every 2^k < n (undirected).

    >>> exponential(8).degrees.tolist()
    [5, 5, 5, 5, 5, 5, 5, 5]
    """
    return _circulant(n, _powers_of_two(n), f"exponential({n})")


def directed_exponential(n: int) -> Topology:
    """Worker i sends to i + 2^k modulo n, for every 2^k < n.

    Source: Assran, Loizou, Ballas, Rabbat, "Stochastic gradient push", ICML 2019.

    >>> directed_exponential(8).out_degrees.tolist()
    [3, 3, 3, 3, 3, 3, 3, 3]
    """
    return _circulant(n, _powers_of_two(n), f"directed_exponential({n})", directed=True)


def hypercube(n: int) -> Topology:
    """Workers whose numbers differ in one binary digit are linked; n is a power of two.

    Raises:
        ValueError: n is not a power of two.

    >>> hypercube(8).diameter
    3
    """
    n = whole_number(n, "n", 1)
    if n & (n - 1):
        raise ValueError(
            f"a hypercube needs a power of two of workers, not {n}; "
            f"the nearest are {1 << (n.bit_length() - 1)} and {1 << n.bit_length()}"
        )
    workers = np.arange(graph_size(n, n.bit_length() / 2))
    flipped = [workers ^ (1 << k) for k in range(n.bit_length() - 1)]
    edges = [pairs_of(workers, other) for other in flipped]
    return Topology(n, np.concatenate([np.empty((0, 2), int), *edges]), f"hypercube({n})")


def torus(rows: int, cols: int) -> Topology:
    """A grid of rows × cols workers, numbered row by row, with its opposite sides joined.

    >>> torus(3, 4).degrees.tolist() == [4] * 12
    True
    """
    size = whole_number(rows, "rows", 1) * whole_number(cols, "cols", 1)
    cells = np.arange(graph_size(size, 2)).reshape(rows, cols)
    links = [pairs_of(cells.ravel(), np.roll(cells, -1, axis).ravel()) for axis in (0, 1)]
    edges = np.concatenate(links)
    return Topology(cells.size, edges[edges[:, 0] != edges[:, 1]], f"torus({rows}, {cols})")


def two_cliques(n: int) -> Topology:
    """Two complete halves (the first has ⌈n/2⌉ workers) joined by one edge between them.

    The edge joins the last worker of the first half with the first of the second.

    >>> two_cliques(6).edges.tolist()
    [[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [3, 5], [4, 5]]
    """
    if whole_number(n, "n", 1) < 2:
        raise ValueError(f"two_cliques needs at least 2 workers, not {n}")
    half = (n + 1) // 2
    first = complete(half).edges
    second = complete(n - half).edges + half
    return Topology(n, np.concatenate([first, second, [[half - 1, half]]]), f"two_cliques({n})")


def _powers_of_two(n: int) -> list[int]:
    """Those below n."""
    return [2**k for k in range((whole_number(n, "n", 1) - 1).bit_length())]


def _circulant(n: int, hops: list[int], name: str, directed: bool = False) -> Topology:
    workers = np.arange(graph_size(n, len(hops)))
    links = [pairs_of(workers, (workers + hop) % n) for hop in hops]
    edges = np.concatenate([np.empty((0, 2), int), *links])
    return Topology(n, edges[edges[:, 0] != edges[:, 1]], name, directed)
