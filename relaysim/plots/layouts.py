"""Where the workers of a graph stand on paper, so that its structure is seen.

Graphs come as a `Graph` says, whatever class they have; hypercubes, tori, grids and cliques are known by
their edges.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import networkx
import numpy as np
from scipy.sparse import csgraph, csr_array
from scipy.spatial import KDTree

__all__ = [
    "Graph",
    "GraphPair",
    "Layout",
    "is_directed",
    "layout_of",
    "smallest_distance",
    "undirected",
]

# A longer chain is folded.
LONGEST_LINE = 20
# Workers up to which distances on paper follow those in the graph, in so many rounds of O(n²).
MOST_BY_DISTANCE, ROUNDS = 400, 150
# By how much of their length two opposite links bend apart.
APART = 0.1


@runtime_checkable
class Graph(Protocol):
    """What is drawn as a graph, such as a `relaysim.topologies.Topology`."""

    @property
    def n(self) -> int:
        """Number of workers."""

    @property
    def edges(self) -> np.ndarray:
        """Pairs of workers ``(m, 2)``, each edge once, the smaller worker first."""

    @property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each worker, ``(n,)``."""

    @property
    def is_tree(self) -> bool:
        """Whether the graph is connected and without cycles."""

    def distances_from(self, worker: int) -> np.ndarray:
        """Hop distances from one worker to all, ``(n,)``."""

    def to_networkx(self) -> networkx.Graph:
        """The same graph for networkx, with workers as integer nodes."""


@runtime_checkable
class GraphPair(Protocol):
    """Two graphs over the same workers, such as a `relaysim.topologies.TreePair`."""

    @property
    def n(self) -> int:
        """Number of workers."""

    @property
    def first(self) -> Graph:
        """That of even coordinates."""

    @property
    def second(self) -> Graph:
        """That of odd coordinates."""


class Layout(NamedTuple):
    """Where workers stand: ``at (n, 2)``; ``size`` in inches of a picture; ``equal``: one scale for both
    axes; ``bulge (m,)``: how far each edge bends to its left, in units of ``at``.
    """

    at: np.ndarray
    size: tuple[float, float]
    equal: bool
    bulge: np.ndarray


def is_directed(graph: object) -> bool:
    """Whether a graph says that its edges are one-way links, source first."""
    return bool(getattr(graph, "is_directed", False))


def undirected(graph: Any) -> Any:
    """The graph with every link in both directions, which says where its workers stand."""
    return graph.to_undirected() if is_directed(graph) else graph


def layout_of(topology: Graph) -> Layout:
    """The layout that shows a graph's structure; of a directed one that of its links in both directions."""
    if is_directed(topology):
        links = undirected(topology)
        return _one_way(topology.edges, links.edges, layout_of(links))
    n = topology.n
    straight = np.zeros(len(topology.edges))
    if n == 1:
        return Layout(np.zeros((1, 2)), (1.6, 1.6), True, straight)
    if topology.is_tree:
        at, size, equal = _tree_layout(topology)
        return Layout(at, size, equal, straight)
    if _is_hypercube(topology):
        return Layout(_hypercube_layout(n), (4.2, 4.2), True, straight)
    if _is_two_cliques(topology):
        return Layout(_cliques_layout(n), (5.4, 2.8), True, straight)
    grid = _grid_shape(topology)
    if grid is not None:
        return _grid_layout(topology, *grid)
    if _is_along_a_circle(topology):
        return Layout(_circle(n), (4.2, 4.2), True, straight)
    return Layout(_layout_by_distance(topology), (4.8, 4.2), True, straight)


def _one_way(edges: np.ndarray, links: np.ndarray, layout: Layout) -> Layout:
    """The layout of ``links`` for one-way ``edges`` over them; opposite ones bend to their own left each."""
    n = len(layout.at)
    keys = edges[:, 0] * n + edges[:, 1]
    both_ways = np.isin(keys, edges[:, 1] * n + edges[:, 0])
    low, high = edges.min(axis=1), edges.max(axis=1)
    bulge = layout.bulge[np.searchsorted(links[:, 0] * n + links[:, 1], low * n + high)]
    bulge = np.where(edges[:, 0] == low, bulge, -bulge)
    length = np.hypot(*(layout.at[edges[:, 1]] - layout.at[edges[:, 0]]).T)
    return layout._replace(bulge=bulge + np.where(both_ways, APART * length, 0))


def _circle(n: int) -> np.ndarray:
    """Clockwise from the top."""
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _is_along_a_circle(topology: Graph) -> bool:
    """Whether most neighbours in number are neighbours in the graph."""
    apart = topology.edges[:, 1] - topology.edges[:, 0]
    next_to = np.isin(apart, (1, topology.n - 1)).sum()
    return next_to >= 0.75 * topology.n


def _tree_layout(tree: Graph) -> tuple[np.ndarray, tuple[float, float], bool]:
    n = tree.n
    if tree.degrees.max() <= 2:
        order = _along_chain(tree)
        columns = n
        if n > LONGEST_LINE:
            fewest = max(LONGEST_LINE // 2, math.isqrt(2 * n))
            # The last row as full as can be, the rows long.
            columns = min(range(2 * fewest, fewest, -1), key=lambda k: -n % k)
        rows = math.ceil(n / columns)
        row, column = np.divmod(np.arange(n), columns)
        column = np.where(row % 2, columns - 1 - column, column)
        at = np.empty((n, 2))
        at[order] = np.stack([column, -row], axis=1)
        side = 6.2 / max(columns, 8)
        return at, (columns * side + 0.2, rows * side + 0.3), True
    if tree.degrees.max() > max(3, n / 2):
        return _around(tree, int(np.argmax(tree.degrees))), (4.2, 4.2), True
    across, depth = _levels(tree, _root(tree))
    leaves = np.count_nonzero(tree.degrees == 1)
    width = float(np.clip(0.3 * leaves, 3.2, 7.2))
    height = float(np.clip(0.6 * depth.max(), max(1.8, 0.4 * width), 4.2))
    return np.stack([across, -depth], axis=1), (width, height), False


def _along_chain(chain: Graph) -> np.ndarray:
    """The workers from one end to the other."""
    end = int(np.argmax(chain.degrees == 1))
    return np.argsort(chain.distances_from(end), kind="stable")


def _root(tree: Graph) -> int:
    """The middle of the tree, or the first or last worker where they are about as good."""
    end = int(np.argmax(tree.distances_from(0)))
    from_end = tree.distances_from(end)
    other = int(np.argmax(from_end))
    furthest = np.maximum(from_end, tree.distances_from(other))
    middle = int(np.argmin(furthest))
    for preferred in (0, tree.n - 1):
        if furthest[preferred] <= furthest[middle] + 1:
            return preferred
    return middle


def _levels(tree: Graph, root: int) -> tuple[np.ndarray, np.ndarray]:
    """Leaves side by side and every parent over the middle of its children; and the depths."""
    graph = tree.to_networkx()
    successors = dict(networkx.bfs_successors(graph, root))
    across = np.zeros(tree.n)
    leaves = 0
    for worker in networkx.dfs_postorder_nodes(graph, root):
        children = successors.get(worker, [])
        if children:
            across[worker] = (across[children[0]] + across[children[-1]]) / 2
        else:
            across[worker] = leaves
            leaves += 1
    return across, tree.distances_from(root)


def _around(tree: Graph, hub: int) -> np.ndarray:
    """The hub in the middle, others on circles by their distance from it."""
    across, depth = _levels(tree, hub)
    leaves = np.count_nonzero(tree.degrees == 1)
    angle = 2 * np.pi * across / leaves
    return depth[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _hypercube_layout(n: int) -> np.ndarray:
    """Pairs of digits span squares, each pair within the corners of the one before, turned a little."""
    digits = (np.arange(n)[:, None] >> np.arange((n - 1).bit_length())) & 1
    # Chosen so that edges keep away from other workers.
    scale, turn = (0.55, 0.47) if n <= 16 else (0.36, 0.44) if n == 32 else (0.42, 0.47)
    at = np.zeros((n, 2))
    for k in range(digits.shape[1]):
        angle = turn * (k // 2) + np.pi / 2 * (k % 2)
        at += digits[:, k, None] * scale ** (k // 2) * np.array([np.cos(angle), np.sin(angle)])
    return at


def _cliques_layout(n: int) -> np.ndarray:
    """Two circles, with the workers that link them next to each other."""
    half = (n + 1) // 2
    first = np.pi / 2 - 2 * np.pi * (np.arange(half) - (half - 1)) / half
    second = np.pi / 2 - np.pi + 2 * np.pi * np.arange(n - half) / (n - half)
    return np.concatenate(
        [
            np.stack([np.sin(first) - 1.5, np.cos(first)], axis=1),
            np.stack([np.sin(second) + 1.5, np.cos(second)], axis=1),
        ]
    )


def _is_hypercube(topology: Graph) -> bool:
    """Whether workers are linked just where their numbers differ in one digit: n/2 edges a digit."""
    n = topology.n
    if n < 4 or n & (n - 1) or len(topology.edges) != n // 2 * (n.bit_length() - 1):
        return False
    differing = np.bitwise_xor(*topology.edges.T)
    return not (differing & (differing - 1)).any()


def _is_two_cliques(topology: Graph) -> bool:
    """Whether both halves are complete, and their only link joins the workers next to each other."""
    n = topology.n
    half = (n + 1) // 2
    if n < 6 or len(topology.edges) != math.comb(half, 2) + math.comb(n - half, 2) + 1:
        return False
    in_first = topology.edges < half
    links = topology.edges[in_first[:, 0] != in_first[:, 1]]
    return links.tolist() == [[half - 1, half]]


def _grid_shape(topology: Graph) -> tuple[int, int, bool] | None:
    """Rows, columns and whether it is a torus, if the graph is a grid numbered row by row."""
    n, edges = topology.n, topology.edges
    for rows in (k for k in range(2, n // 2 + 1) if n % k == 0):
        columns = n // rows
        row, column = np.divmod(edges, columns)
        down, across = np.ptp(row, axis=1), np.ptp(column, axis=1)
        # All edges are distinct: if each has its place and none is missing by number, none is missing.
        if len(edges) == 2 * n - rows - columns and (down + across == 1).all():
            return rows, columns, False
        is_link = (down == 0) & np.isin(across, (1, columns - 1))
        is_link |= (across == 0) & np.isin(down, (1, rows - 1))
        if len(edges) == rows * _round(columns) + columns * _round(rows) and is_link.all():
            return rows, columns, True
    return None


def _round(workers: int) -> int:
    """Edges that join so many workers in a circle, two of them by one edge."""
    return workers if workers > 2 else workers - 1


def _grid_layout(topology: Graph, rows: int, columns: int, wraps: bool) -> Layout:
    row, column = np.divmod(np.arange(topology.n), columns)
    at = np.stack([column, -row], axis=1).astype(float)
    steps = at[topology.edges[:, 1]] - at[topology.edges[:, 0]]
    bulge = np.where(wraps & (np.abs(steps).max(axis=1) > 1.5), 0.45, 0.0)
    side = min(4.6 / max(columns, 4), 4.6 / max(rows, 4))
    return Layout(at, (columns * side + 0.4, rows * side + 0.4), True, bulge)


def _layout_by_distance(topology: Graph) -> np.ndarray:
    """Distances on paper like those in the graph; the parts of a graph side by side, the largest first."""
    graph = topology.to_networkx()
    at = np.zeros((topology.n, 2))
    left, top, height = 0.0, 0.0, 0.0
    width = 2.2 * math.sqrt(topology.n)
    for part in sorted(networkx.connected_components(graph), key=len, reverse=True):
        members = sorted(part)
        places = _spread(graph.subgraph(members), members)
        extent = np.ptp(places, axis=0)
        if left > 0 and left + extent[0] > width:
            left, top, height = 0.0, top - height - 1.0, 0.0
        low, high = places.min(axis=0), places.max(axis=0)
        at[members] = places - [low[0] - left, high[1] - top]
        left, height = left + extent[0] + 1.0, max(height, extent[1])
    return at


def _spread(graph: networkx.Graph, members: list[int]) -> np.ndarray:
    """One connected part, about 2√n wide."""
    if len(members) == 1:
        return np.zeros((1, 2))
    if len(members) <= MOST_BY_DISTANCE:
        places = _by_hops(networkx.to_scipy_sparse_array(graph, nodelist=members))
    else:
        places = networkx.spring_layout(graph, seed=0)
        places = np.array([places[worker] for worker in members])
    # Longest across, so that it fits a page.
    places = places - places.mean(axis=0)
    _, axes = np.linalg.eigh(places.T @ places)
    places = places @ axes[:, ::-1]
    return _apart(places * (2 * math.sqrt(len(members)) / max(np.ptp(places, axis=0))))


def _by_hops(adjacency: csr_array) -> np.ndarray:
    """Places with the smallest stress Σ_ij (‖p_i − p_j‖ − d_ij)² / d_ij², d_ij being hops.

    From the two largest coordinates of classical scaling on, by majorization. Source: Gansner, Koren,
    North, "Graph drawing by stress majorization", 2004.
    """
    hops = csgraph.shortest_path(adjacency, method="D", unweighted=True)
    n = len(hops)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ hops**2 @ centring)
    places = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 1e-9))
    # Workers with the same distances from all others must not start in the same place.
    places += 0.05 * np.random.default_rng(0).standard_normal(places.shape)
    own = np.eye(n, dtype=bool)
    weights = np.divide(1, hops**2, out=np.zeros((n, n)), where=~own)
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights, hermitian=True)
    for _ in range(ROUNDS):
        length = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
        pull = np.divide(weights * hops, length, out=np.zeros((n, n)), where=length > 1e-9)
        places = inverse @ (pull.sum(axis=1)[:, None] * places - pull @ places)
    return places


def _apart(places: np.ndarray) -> np.ndarray:
    """The same places, those too close to each other pushed apart."""
    least = 0.6
    for _ in range(40):
        pairs = KDTree(places).query_pairs(least, output_type="ndarray")
        if not len(pairs):
            break
        gap = places[pairs[:, 1]] - places[pairs[:, 0]]
        length = np.maximum(np.hypot(*gap.T), 1e-9)[:, None]
        push = 0.25 * (1.02 * least - length) * gap / length
        places = places.copy()
        np.add.at(places, pairs[:, 1], push)
        np.subtract.at(places, pairs[:, 0], push)
    return places


def smallest_distance(at: np.ndarray) -> float:
    if len(at) == 1:
        return 1.0
    return float(KDTree(at).query(at, k=2)[0][:, 1].min())
