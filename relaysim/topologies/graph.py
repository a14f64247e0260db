"""The classes of communication graphs: one graph, and two trees that share the work.

A topology is a simple graph over workers 0 … n−1, undirected unless it says otherwise. Every undirected
edge is two directed ones; these are kept sorted by receiver, because all that a round does with messages is
to sum what each worker received.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx
import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.support.checks import require_memory, true_or_false, unmasked, whole_number
from relaysim.support.names import names_of_workers

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["Topology", "TreePair", "from_edges", "from_networkx", "graph_size", "pairs_of"]

# While a graph is made.
_BYTES_OF_EDGE = 64
# A table shows a diameter that takes no more than so many edges to walk.
SEARCH_NOW = 1_000_000


def graph_size(n: int, edges_each: float = 1) -> int:
    """n as a number of workers, of a graph with so many edges a worker that it fits in memory."""
    n = whole_number(n, "n", 1)
    require_memory(_BYTES_OF_EDGE * edges_each * n, f"a graph of {n} workers", "take fewer")
    return n


class Topology:
    """An immutable graph of n workers, undirected or directed.

    Args:
        n: number of workers, at least 1.
        edges: ``(m, 2)`` pairs of distinct workers. An edge given twice is one edge; so is, where the graph
            is undirected, one given in both directions.
        name: how the topology presents itself; it takes no part in comparison.
        directed: whether each pair is a one-way link (source, target): what the source sends, the target
            hears. A gossip matrix may then have weight W_ij, which i gives to what j sent, where there is an
            edge (j, i).
        worker_names: what the workers are called in pictures and tables, as text; their numbers by default.
            They take no part in comparison.

    Raises:
        ValueError: a worker outside 0 … n−1, an edge from a worker to itself, or a name that two have.

    >>> topology = Topology(3, [(1, 0), (1, 2)])
    >>> topology.edges.tolist(), topology.degrees.tolist(), topology.diameter
    ([[0, 1], [1, 2]], [1, 2, 1], 2)
    >>> from relaysim.topologies import chain
    >>> topology == chain(3)
    True
    >>> one_way = Topology(3, [(1, 0), (1, 2)], directed=True)
    >>> one_way.edges.tolist(), one_way.in_degrees.tolist(), one_way.diameter
    ([[1, 0], [1, 2]], [1, 0, 1], inf)
    """

    def __init__(
        self,
        n: int,
        edges: Iterable,
        name: str | None = None,
        directed: bool = False,
        worker_names: Iterable[Any] | None = None,
    ):
        self._n = graph_size(n)
        self._is_directed = true_or_false(directed, "directed")
        self._edges = _normalised_edges(self._n, edges, self._is_directed)
        self._name = name
        self._worker_names = names_of_workers(worker_names, self._n)

    @property
    def n(self) -> int:
        """Number of workers."""
        return self._n

    @property
    def is_directed(self) -> bool:
        """Whether its edges are one-way links."""
        return self._is_directed

    @property
    def edges(self) -> np.ndarray:
        """The edges ``(m, 2)`` in increasing order, each with the smaller worker first; of a directed graph
        with its source first.
        """
        return self._edges

    @property
    def name(self) -> str:
        """A short label, such as ``ring(8)``."""
        one_way = "directed " if self.is_directed else ""
        return self._name or f"Topology(n={self.n}, {len(self.edges)} {one_way}edges)"

    @property
    def worker_names(self) -> tuple[str, ...] | None:
        """What the workers are called, ``(n,)``; None where they have numbers only."""
        return self._worker_names

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each worker, ``(n,)``.

        Raises:
            ValueError: the graph is directed, see `in_degrees` and `out_degrees`.
        """
        self._require_undirected("degrees", "in_degrees and out_degrees")
        return self.in_degrees

    @functools.cached_property
    def in_degrees(self) -> np.ndarray:
        """How many each worker hears, ``(n,)``; its neighbours where the graph is undirected."""
        return _frozen(np.bincount(self.dst, minlength=self.n))

    @functools.cached_property
    def out_degrees(self) -> np.ndarray:
        """How many hear each worker, ``(n,)``; its neighbours where the graph is undirected."""
        return _frozen(np.bincount(self.src, minlength=self.n))

    def _require_undirected(self, what: str, mend: str) -> None:
        if self.is_directed:
            raise ValueError(
                f"{self!r} is directed and has no {what}; use {mend}, or to_undirected()"
            )

    @functools.cached_property
    def _messages(self) -> tuple[np.ndarray, np.ndarray]:
        source, receiver = self.edges.T
        if not self.is_directed:
            source, receiver = (
                np.concatenate(ends) for ends in ((source, receiver), (receiver, source))
            )
        order = np.lexsort((source, receiver))
        return _frozen(source[order]), _frozen(receiver[order])

    @property
    def src(self) -> np.ndarray:
        """Sender of each directed edge, ``(2m,)``, or ``(m,)`` of a directed graph; they are sorted by
        receiver, then sender.
        """
        return self._messages[0]

    @property
    def dst(self) -> np.ndarray:
        """Receiver of each directed edge, ``(2m,)``, or ``(m,)`` of a directed graph, not decreasing."""
        return self._messages[1]

    @functools.cached_property
    def reverse(self) -> np.ndarray:
        """Position of the opposite direction of each directed edge, ``(2m,)``.

        Raises:
            ValueError: the graph is directed.
        """
        self._require_undirected("reverse, since not every edge has one", "src and dst")
        # Sorting the edges by (source, receiver) lists the mirror images of the edges as stored.
        reverse = np.empty(len(self.src), dtype=np.intp)
        reverse[np.lexsort((self.dst, self.src))] = np.arange(len(reverse))
        return _frozen(reverse)

    @property
    def adjacency(self) -> csr_array:
        """The 0–1 adjacency matrix, sparse ``(n, n)``: 1 at (i, j) where i hears what j sends."""
        offsets = np.concatenate([[0], np.cumsum(self.in_degrees)])
        return csr_array((np.ones(len(self.src)), self.src, offsets), shape=(self.n, self.n))

    @functools.cached_property
    def is_connected(self) -> bool:
        """Whether the graph is in one piece, directions of edges left aside."""
        return csgraph.connected_components(self.adjacency, directed=False)[0] == 1

    @functools.cached_property
    def is_strongly_connected(self) -> bool:
        """Whether every worker can reach every other one, along the directions of edges."""
        if not self.is_directed:
            return self.is_connected
        return csgraph.connected_components(self.adjacency, connection="strong")[0] == 1

    @property
    def is_tree(self) -> bool:
        """Whether the graph is connected, without cycles, and undirected."""
        return not self.is_directed and len(self.edges) == self.n - 1 and self.is_connected

    @functools.cached_property
    def diameter(self) -> int | float:
        """Largest hop distance from a worker to another; ``math.inf`` where one cannot be reached."""
        if not self.is_strongly_connected:
            return math.inf
        if self.is_tree:
            # On a tree, the worker furthest from any worker is an end of a longest path.
            end = int(np.argmax(self.distances_from(0)))
            return int(self.distances_from(end).max())
        adjacency = self.adjacency
        return int(max(_distances(adjacency, worker).max() for worker in range(self.n)))

    def distances_from(self, worker: int) -> np.ndarray:
        """Hop distances from one worker to all, ``(n,)``, along the directions of edges; ``inf`` where there
        is no path.

        Raises:
            ValueError: no such worker: they count from 0.

        >>> from relaysim.topologies import chain
        >>> chain(4).distances_from(1).tolist()
        [1.0, 0.0, 1.0, 2.0]
        """
        if whole_number(worker, "worker", 0) >= self.n:
            raise ValueError(f"worker must be one of 0 … {self.n - 1}, not {worker}")
        return _distances(self.adjacency.T if self.is_directed else self.adjacency, worker)

    def to_undirected(self) -> Topology:
        """The graph with every link in both directions; itself where it is so already.

        >>> from relaysim.topologies import directed_ring, ring
        >>> directed_ring(5).to_undirected() == ring(5)
        True
        """
        if not self.is_directed:
            return self
        name = f"{self.name}.to_undirected()"
        return Topology(self.n, self.edges, name, worker_names=self.worker_names)

    def to_networkx(self) -> networkx.Graph:
        """The same graph for networkx, a DiGraph if it is directed, with workers as integer nodes.

        >>> from relaysim.topologies import ring
        >>> networkx.is_isomorphic(ring(5).to_networkx(), networkx.cycle_graph(5))
        True
        """
        kind = networkx.DiGraph if self.is_directed else networkx.Graph
        graph = networkx.empty_graph(self.n, create_using=kind)
        graph.add_edges_from(self.edges.tolist())
        return graph

    def draw(self, **options: Any) -> Axes:
        """Draw the graph; see `relaysim.plots.draw_topology`. Returns the matplotlib Axes."""
        from relaysim import plots

        return plots.draw_topology(self, **options)

    def _repr_html_(self) -> str:
        from relaysim.support.display import LATER, between, html_table

        # Without a tree it takes a search from every worker.
        searches = 1 if self.is_tree else self.n
        quick = "diameter" in self.__dict__ or searches * (self.n + len(self.edges)) <= SEARCH_NOW
        rows = [
            ("workers", self.n),
            ("one-way edges" if self.is_directed else "edges", len(self.edges)),
            *(
                [
                    ("heard by a worker", between(self.in_degrees)),
                    ("who hear a worker", between(self.out_degrees)),
                    ("strongly connected", self.is_strongly_connected),
                ]
                if self.is_directed
                else [
                    ("neighbours of a worker", between(self.degrees)),
                    ("connected", self.is_connected),
                    ("tree", self.is_tree),
                ]
            ),
            ("diameter", self.diameter if quick else LATER),
        ]
        return html_table(self.name, rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @functools.cached_property
    def _key(self) -> tuple[int, bool, bytes]:
        """What makes it the same graph: runs ask for it in every step."""
        return self.n, self.is_directed, self.edges.tobytes()

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class TreePair:
    """Two spanning trees over the same workers: coordinate c of a vector travels on tree c mod 2.

    Only RelaySum can use it. It has no edge list and no mixing matrix, since neither would say which
    coordinates an edge carries.

    >>> from relaysim.topologies import double_binary_tree
    >>> double_binary_tree(8).diameter
    4
    """

    first: Topology
    second: Topology

    def __post_init__(self) -> None:
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
        return int(max(self.first.diameter, self.second.diameter))

    def draw(self, **options: Any) -> np.ndarray:
        """Draw both trees; see `relaysim.plots.draw_topology`. Returns the two matplotlib Axes."""
        from relaysim import plots

        return plots.draw_topology(self, **options)

    def _repr_html_(self) -> str:
        from relaysim.support.display import html_table

        rows = [
            ("workers", self.n),
            ("even coordinates", f"{self.first!r}, diameter {self.first.diameter}"),
            ("odd coordinates", f"{self.second!r}, diameter {self.second.diameter}"),
        ]
        return html_table("TreePair", rows)

    def __repr__(self) -> str:
        return f"TreePair({self.first!r}, {self.second!r})"


def from_edges(
    n: int, edges: Iterable, directed: bool = False, worker_names: Iterable[Any] | None = None
) -> Topology:
    """A topology from pairs of workers; see `Topology` for what is accepted.

    With ``directed`` each pair is a one-way link, (source, target).

    >>> from_edges(3, [(0, 1), (1, 2)]).is_tree
    True
    >>> from_edges(3, [(0, 1), (1, 2), (2, 0)], directed=True).diameter
    2
    """
    return Topology(n, edges, directed=directed, worker_names=worker_names)


def from_networkx(graph: networkx.Graph, name: str | None = None) -> Topology:
    """A topology from a networkx graph; its nodes become 0 … n−1 in the graph's own order.

    What they are called is kept in ``worker_names``, for pictures and tables.

    A DiGraph becomes a directed topology, in which a sends to b where it has an edge from a to b. Weights of
    edges are for `relaysim.mixing.row_stochastic` and `relaysim.mixing.column_stochastic`.

    Raises:
        ValueError: the graph has self-loops.

    >>> from relaysim.topologies import chain
    >>> from_networkx(networkx.path_graph("abc")) == chain(3)
    True
    >>> from_networkx(networkx.path_graph("abc")).worker_names
    ('a', 'b', 'c')
    >>> from_networkx(networkx.DiGraph([("a", "b"), ("b", "c")])).edges.tolist()
    [[0, 1], [1, 2]]
    """
    if not isinstance(graph, networkx.Graph):
        raise TypeError(f"from_networkx needs a networkx graph, not {graph!r}")
    position = {node: k for k, node in enumerate(graph.nodes)}
    edges = [(position[a], position[b]) for a, b in graph.edges()]
    return Topology(len(position), edges, name, graph.is_directed(), worker_names=position)


def pairs_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Edges ``(m, 2)`` from the workers at both ends."""
    return np.stack([first, second], axis=1)


def _distances(adjacency: csr_array, worker: int) -> np.ndarray:
    return csgraph.dijkstra(adjacency, directed=True, indices=worker, unweighted=True)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _normalised_edges(n: int, edges: Iterable, directed: bool) -> np.ndarray:
    try:
        given = edges if isinstance(edges, np.ndarray) else list(edges)
        ends = np.asarray(given)
    except (TypeError, ValueError):
        raise TypeError(f"edges must be pairs of workers, not {edges!r}") from None
    unmasked(given, "edges")
    if ends.size == 0:
        return _frozen(np.empty((0, 2), dtype=np.intp))
    if ends.ndim != 2 or ends.shape[1] != 2:
        raise ValueError(f"edges must be pairs of workers, shape (m, 2), not {ends.shape}")
    if not np.issubdtype(ends.dtype, np.integer):
        raise ValueError(f"edges must be whole numbers, not {ends.dtype}")
    outside = (ends < 0) | (ends >= n)
    if outside.any():
        edge = ends[outside.any(axis=1)][0].tolist()
        raise ValueError(f"edge {edge} names a worker outside 0 … {n - 1}")
    loops = ends[:, 0] == ends[:, 1]
    if loops.any():
        raise ValueError(f"edge {ends[loops][0].tolist()} links a worker with itself; leave it out")
    first, second = (ends if directed else np.sort(ends, axis=1)).T.astype(np.int64)
    keys = np.unique(first * n + second)
    return _frozen(pairs_of(keys // n, keys % n).astype(np.intp))
