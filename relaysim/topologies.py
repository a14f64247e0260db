"""Communication graphs: who can talk to whom.

A topology is an undirected simple graph over workers 0 … n−1. Every undirected edge is two directed
ones; these are kept sorted by receiver, because all that a round does with messages is to sum what
each worker received.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import networkx
import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.checks import real_number, whole_number

__all__ = [
    "Topology",
    "TreePair",
    "barabasi_albert",
    "binary_tree",
    "chain",
    "complete",
    "double_binary_tree",
    "erdos_renyi",
    "exponential",
    "from_edges",
    "from_networkx",
    "hypercube",
    "random_regular",
    "regular_tree",
    "ring",
    "social_network",
    "spanning_tree",
    "star",
    "torus",
    "two_cliques",
    "watts_strogatz",
]

# A table shows a diameter that takes no more than so many edges to walk.
SEARCH_NOW = 1_000_000


class Topology:
    """An immutable undirected graph of n workers.

    Args:
        n: number of workers, at least 1.
        edges: ``(m, 2)`` pairs of distinct workers. An edge given twice, or in both directions,
            is one edge.
        name: how the topology presents itself; it takes no part in comparison.

    Raises:
        ValueError: a worker outside 0 … n−1, or an edge from a worker to itself.

    >>> topology = Topology(3, [(1, 0), (1, 2)])
    >>> topology.edges.tolist(), topology.degrees.tolist(), topology.diameter
    ([[0, 1], [1, 2]], [1, 2, 1], 2)
    >>> topology == chain(3)
    True
    """

    def __init__(self, n: int, edges: Iterable, name: str | None = None):
        self._n = whole_number(n, "n", 1)
        self._edges = _normalised_edges(self._n, edges)
        self._name = name

    @property
    def n(self) -> int:
        """Number of workers."""
        return self._n

    @property
    def edges(self) -> np.ndarray:
        """Undirected edges ``(m, 2)``, each with the smaller worker first, in increasing order."""
        return self._edges

    @property
    def name(self) -> str:
        """A short label, such as ``ring(8)``."""
        return self._name or f"Topology(n={self.n}, {len(self.edges)} edges)"

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each worker, ``(n,)``."""
        return _frozen(np.bincount(self.edges.ravel(), minlength=self.n))

    @functools.cached_property
    def _directed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        source = np.concatenate([self.edges[:, 0], self.edges[:, 1]])
        receiver = np.concatenate([self.edges[:, 1], self.edges[:, 0]])
        order = np.lexsort((source, receiver))
        source, receiver = source[order], receiver[order]
        # Sorting the edges by (source, receiver) lists the mirror images of the edges as stored.
        reverse = np.empty(len(source), dtype=np.intp)
        reverse[np.lexsort((receiver, source))] = np.arange(len(source))
        return _frozen(source), _frozen(receiver), _frozen(reverse)

    @property
    def src(self) -> np.ndarray:
        """Sender of each directed edge, ``(2m,)``; edges are sorted by receiver, then sender."""
        return self._directed[0]

    @property
    def dst(self) -> np.ndarray:
        """Receiver of each directed edge, ``(2m,)``, not decreasing."""
        return self._directed[1]

    @property
    def reverse(self) -> np.ndarray:
        """Position of the opposite direction of each directed edge, ``(2m,)``."""
        return self._directed[2]

    @property
    def adjacency(self) -> csr_array:
        """The 0–1 adjacency matrix, sparse ``(n, n)``."""
        offsets = np.concatenate([[0], np.cumsum(self.degrees)])
        return csr_array((np.ones(len(self.src)), self.src, offsets), shape=(self.n, self.n))

    @functools.cached_property
    def is_connected(self) -> bool:
        """Whether every worker can reach every other one."""
        return csgraph.connected_components(self.adjacency, directed=False)[0] == 1

    @property
    def is_tree(self) -> bool:
        """Whether the graph is connected and without cycles."""
        return len(self.edges) == self.n - 1 and self.is_connected

    @functools.cached_property
    def diameter(self) -> int | float:
        """Largest hop distance between two workers; ``math.inf`` where some are not connected."""
        if not self.is_connected:
            return math.inf
        if self.is_tree:
            # On a tree, the worker furthest from any worker is an end of a longest path.
            end = int(np.argmax(self.distances_from(0)))
            return int(self.distances_from(end).max())
        adjacency = self.adjacency
        return int(max(_distances(adjacency, worker).max() for worker in range(self.n)))

    def distances_from(self, worker: int) -> np.ndarray:
        """Hop distances from one worker to all, ``(n,)``; ``inf`` where there is no path.

        >>> chain(4).distances_from(1).tolist()
        [1.0, 0.0, 1.0, 2.0]
        """
        return _distances(self.adjacency, worker)

    def to_networkx(self) -> networkx.Graph:
        """The same graph for networkx, with workers as integer nodes.

        >>> networkx.is_isomorphic(ring(5).to_networkx(), networkx.cycle_graph(5))
        True
        """
        graph = networkx.empty_graph(self.n)
        graph.add_edges_from(self.edges.tolist())
        return graph

    def draw(self, **options):
        """Draw the graph; see `relaysim.plots.draw_topology`. Returns the matplotlib Axes."""
        from relaysim import plots

        return plots.draw_topology(self, **options)

    def _repr_html_(self) -> str:
        from relaysim.display import LATER, between, html_table

        # Without a tree it takes a search from every worker.
        searches = 1 if self.is_tree else self.n
        quick = "diameter" in self.__dict__ or searches * (self.n + len(self.edges)) <= SEARCH_NOW
        rows = [
            ("workers", self.n),
            ("edges", len(self.edges)),
            ("neighbours of a worker", between(self.degrees)),
            ("connected", self.is_connected),
            ("tree", self.is_tree),
            ("diameter", self.diameter if quick else LATER),
        ]
        return html_table(self.name, rows)

    def __eq__(self, other) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self.n == other.n and np.array_equal(self.edges, other.edges)

    def __hash__(self) -> int:
        return hash((self.n, self.edges.tobytes()))

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class TreePair:
    """Two spanning trees over the same workers: coordinate c of a vector travels on tree c mod 2.

    Only RelaySum can use it. It has no edge list and no mixing matrix, since neither would say which
    coordinates an edge carries.

    >>> double_binary_tree(8).diameter
    4
    """

    first: Topology
    second: Topology

    def __post_init__(self):
        for tree in (self.first, self.second):
            if not isinstance(tree, Topology) or not tree.is_tree:
                raise ValueError(f"TreePair needs two trees; {tree!r} is not a tree")
        if self.first.n != self.second.n:
            raise ValueError(
                f"TreePair needs two trees over the same workers: "
                f"{self.first.n} and {self.second.n} were given"
            )

    @property
    def n(self) -> int:
        """Number of workers."""
        return self.first.n

    @property
    def diameter(self) -> int:
        """The larger of the two trees' diameters, in hops."""
        return max(self.first.diameter, self.second.diameter)

    def draw(self, **options):
        """Draw both trees; see `relaysim.plots.draw_topology`. Returns the matplotlib Axes."""
        from relaysim import plots

        return plots.draw_topology(self, **options)

    def _repr_html_(self) -> str:
        from relaysim.display import html_table

        rows = [
            ("workers", self.n),
            ("even coordinates", f"{self.first!r}, diameter {self.first.diameter}"),
            ("odd coordinates", f"{self.second!r}, diameter {self.second.diameter}"),
        ]
        return html_table("TreePair", rows)

    def __repr__(self) -> str:
        return f"TreePair({self.first!r}, {self.second!r})"


# -- trees -----------------------------------------------------------------------------------------


def chain(n: int) -> Topology:
    """Workers in a line: i is linked with i + 1. Diameter n − 1.

    >>> chain(4).edges.tolist()
    [[0, 1], [1, 2], [2, 3]]
    """
    workers = np.arange(whole_number(n, "n", 1))
    return Topology(n, _pairs(workers[:-1], workers[1:]), f"chain({n})")


def star(n: int) -> Topology:
    """Worker 0 is the hub, linked with every other worker. Diameter 2.

    >>> star(4).degrees.tolist()
    [3, 1, 1, 1]
    """
    leaves = np.arange(1, whole_number(n, "n", 1))
    return Topology(n, _pairs(np.zeros_like(leaves), leaves), f"star({n})")


def binary_tree(n: int) -> Topology:
    """Worker 0 above worker 1; worker i ≥ 1 has children 2i and 2i + 1.

    This is the numbering of the code published with the RelaySum paper (Vogels et al., 2021).

    >>> binary_tree(6).edges.tolist()
    [[0, 1], [1, 2], [1, 3], [2, 4], [2, 5]]
    """
    workers = np.arange(1, whole_number(n, "n", 1))
    return Topology(n, _pairs(workers // 2, workers), f"binary_tree({n})")


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
    workers = np.arange(1, whole_number(n, "n", 1))
    parents = np.where(workers <= degree, 0, 1 + (workers - 1 - degree) // (degree - 1))
    return Topology(n, _pairs(parents, workers), f"regular_tree({n}, {degree})")


def spanning_tree(topology: Topology, root: int | None = None) -> Topology:
    """The breadth-first spanning tree from a root, neighbours taken in increasing order.

    Args:
        topology: a connected topology.
        root: the worker to start from. Without one, the lowest root among those whose
            breadth-first tree has the smallest diameter.

    Raises:
        ValueError: the topology is not connected, or the root is not one of its workers.

    >>> spanning_tree(ring(5), root=0).edges.tolist()
    [[0, 1], [0, 4], [1, 2], [3, 4]]
    >>> spanning_tree(torus(3, 3)).diameter
    4
    """
    if not isinstance(topology, Topology):
        raise TypeError(f"spanning_tree needs a Topology, not {topology!r}")
    if not topology.is_connected:
        raise ValueError(f"{topology!r} is not connected, so it has no spanning tree")
    if root is None:
        adjacency = topology.adjacency
        trees = (_breadth_first_tree(topology, adjacency, worker) for worker in range(topology.n))
        return min(trees, key=operator.attrgetter("diameter"))
    root = whole_number(root, "root", 0)
    if root >= topology.n:
        raise ValueError(f"root must be a worker 0 … {topology.n - 1}, not {root}")
    return _breadth_first_tree(topology, topology.adjacency, root)


def _breadth_first_tree(topology: Topology, adjacency: csr_array, root: int) -> Topology:
    order, parents = csgraph.breadth_first_order(adjacency, root, directed=True)
    children = order[1:]
    return Topology(
        topology.n,
        _pairs(parents[children], children),
        f"spanning_tree({topology.name}, root={root})",
    )


# -- regular graphs --------------------------------------------------------------------------------


def ring(n: int) -> Topology:
    """Workers in a circle: i is linked with i + 1 modulo n.

    ``ring(2)`` is one edge and ``ring(1)`` a single worker.

    >>> ring(4).edges.tolist()
    [[0, 1], [0, 3], [1, 2], [2, 3]]
    """
    return _circulant(n, [1], f"ring({n})")


def complete(n: int) -> Topology:
    """Every worker linked with every other one.

    >>> complete(5).diameter
    1
    """
    return Topology(n, _pairs(*np.triu_indices(whole_number(n, "n", 1), k=1)), f"complete({n})")


def exponential(n: int) -> Topology:
    """Worker i linked with i ± 2^k modulo n, for every 2^k < n (undirected).

    >>> exponential(8).degrees.tolist()
    [5, 5, 5, 5, 5, 5, 5, 5]
    """
    hops = [2**k for k in range((whole_number(n, "n", 1) - 1).bit_length())]
    return _circulant(n, hops, f"exponential({n})")


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
    workers = np.arange(n)
    flipped = [workers ^ (1 << k) for k in range(n.bit_length() - 1)]
    edges = [_pairs(workers, other) for other in flipped]
    return Topology(n, np.concatenate([np.empty((0, 2), int), *edges]), f"hypercube({n})")


def torus(rows: int, cols: int) -> Topology:
    """A grid of rows × cols workers, numbered row by row, with its opposite sides joined.

    >>> torus(3, 4).degrees.tolist() == [4] * 12
    True
    """
    cells = np.arange(whole_number(rows, "rows", 1) * whole_number(cols, "cols", 1)).reshape(
        rows, cols
    )
    links = [_pairs(cells.ravel(), np.roll(cells, -1, axis).ravel()) for axis in (0, 1)]
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


# -- random and given graphs -----------------------------------------------------------------------


def erdos_renyi(n: int, p: float, seed: int) -> Topology:
    """Every pair of workers linked independently with probability p.

    The draw is kept as it falls: it may not be connected, which `Topology.is_connected` tells.

    >>> erdos_renyi(20, 0.3, seed=1) == erdos_renyi(20, 0.3, seed=1)
    True
    """
    p = real_number(p, "p", 0, 1)
    graph = networkx.gnp_random_graph(
        whole_number(n, "n", 1), p, seed=whole_number(seed, "seed", 0)
    )
    return from_networkx(graph, f"erdos_renyi({n}, {p:g}, seed={seed})")


def random_regular(n: int, degree: int, seed: int) -> Topology:
    """A random graph in which every worker has ``degree`` neighbours (n · degree must be even).

    >>> random_regular(10, 3, seed=0).degrees.tolist() == [3] * 10
    True
    """
    if whole_number(degree, "degree", 1) >= whole_number(n, "n", 1) or n * degree % 2:
        raise ValueError(
            f"random_regular needs degree < n and n · degree even, not n={n}, degree={degree}"
        )
    graph = networkx.random_regular_graph(degree, n, seed=whole_number(seed, "seed", 0))
    ordered = networkx.empty_graph(n)
    ordered.add_edges_from(graph.edges)
    return from_networkx(ordered, f"random_regular({n}, {degree}, seed={seed})")


def watts_strogatz(n: int, k: int, p: float, seed: int) -> Topology:
    """A ring in which each worker knows its k nearest, with each link rewired with probability p.

    >>> len(watts_strogatz(12, 4, 0.2, seed=0).edges)
    24
    """
    p = real_number(p, "p", 0, 1)
    if not 2 <= whole_number(k, "k", 1) < whole_number(n, "n", 1):
        raise ValueError(f"watts_strogatz needs 2 ≤ k < n, not k={k}, n={n}")
    if k % 2:
        raise ValueError(f"watts_strogatz needs an even k, half of it on each side, not {k}")
    graph = networkx.watts_strogatz_graph(n, k, p, seed=whole_number(seed, "seed", 0))
    return from_networkx(graph, f"watts_strogatz({n}, {k}, {p:g}, seed={seed})")


def barabasi_albert(n: int, m: int, seed: int) -> Topology:
    """Workers join one by one, each with m links to earlier ones, the well-linked preferred.

    >>> barabasi_albert(30, 2, seed=0).is_connected
    True
    """
    if not 1 <= whole_number(m, "m", 1) < whole_number(n, "n", 1):
        raise ValueError(f"barabasi_albert needs 1 ≤ m < n, not m={m}, n={n}")
    graph = networkx.barabasi_albert_graph(n, m, seed=whole_number(seed, "seed", 0))
    return from_networkx(graph, f"barabasi_albert({n}, {m}, seed={seed})")


def social_network() -> Topology:
    """The Davis southern-women graph: 18 women and 14 events, in networkx's order.

    Source: Davis, Gardner and Gardner, 1941; used in figure 3 of the RelaySum paper.

    >>> social_network().n, len(social_network().edges)
    (32, 89)
    """
    return from_networkx(networkx.davis_southern_women_graph(), "social_network()")


def from_edges(n: int, edges: Iterable) -> Topology:
    """A topology from pairs of workers; see `Topology` for what is accepted.

    >>> from_edges(3, [(0, 1), (1, 2)]).is_tree
    True
    """
    return Topology(n, edges)


def from_networkx(graph: networkx.Graph, name: str | None = None) -> Topology:
    """A topology from a networkx graph; its nodes become 0 … n−1 in the graph's own order.

    Raises:
        ValueError: the graph is directed (pass ``graph.to_undirected()``) or has self-loops.

    >>> from_networkx(networkx.path_graph("abc")) == chain(3)
    True
    """
    if not isinstance(graph, networkx.Graph):
        raise TypeError(f"from_networkx needs a networkx graph, not {graph!r}")
    if graph.is_directed():
        raise ValueError("the graph is directed; pass graph.to_undirected() if that is meant")
    position = {node: k for k, node in enumerate(graph.nodes)}
    edges = [(position[a], position[b]) for a, b in graph.edges()]
    return Topology(len(position), edges, name)


# -- checks ----------------------------------------------------------------------------------------


def _distances(adjacency: csr_array, worker: int) -> np.ndarray:
    return csgraph.dijkstra(adjacency, directed=True, indices=worker, unweighted=True)


def _circulant(n: int, hops: list[int], name: str) -> Topology:
    workers = np.arange(whole_number(n, "n", 1))
    links = [_pairs(workers, (workers + hop) % n) for hop in hops]
    edges = np.concatenate([np.empty((0, 2), int), *links])
    return Topology(n, edges[edges[:, 0] != edges[:, 1]], name)


def _pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], axis=1)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _normalised_edges(n: int, edges: Iterable) -> np.ndarray:
    try:
        given = np.asarray(edges if isinstance(edges, np.ndarray) else list(edges))
    except (TypeError, ValueError):
        raise TypeError(f"edges must be pairs of workers, not {edges!r}") from None
    if given.size == 0:
        return _frozen(np.empty((0, 2), dtype=np.intp))
    if given.ndim != 2 or given.shape[1] != 2:
        raise ValueError(f"edges must be pairs of workers, shape (m, 2), not {given.shape}")
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"edges must be whole numbers, not {given.dtype}")
    outside = (given < 0) | (given >= n)
    if outside.any():
        edge = given[outside.any(axis=1)][0].tolist()
        raise ValueError(f"edge {edge} names a worker outside 0 … {n - 1}")
    loops = given[:, 0] == given[:, 1]
    if loops.any():
        raise ValueError(
            f"edge {given[loops][0].tolist()} links a worker with itself; leave it out"
        )
    low, high = given.min(axis=1).astype(np.int64), given.max(axis=1).astype(np.int64)
    keys = np.unique(low * n + high)
    return _frozen(_pairs(keys // n, keys % n).astype(np.intp))
