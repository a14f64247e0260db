"""Spanning trees of a graph: at random, all of them, the best, and two without a common edge."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.support.checks import one_of, whole_number
from relaysim.topologies.graph import Topology, TreePair
from relaysim.topologies.trees import spannable, spanning_tree

__all__ = ["all_spanning_trees", "best_spanning_tree", "random_spanning_tree", "tree_pair"]

#: So many trees are listed, or gone through for the best.
MOST_TREES = 20_000
# How many at a time.
TREES_AT_ONCE = 1000


def random_spanning_tree(topology: Topology, seed: int) -> Topology:
    """A spanning tree drawn uniformly from all of them, by Wilson's algorithm.

    Raises:
        ValueError: the topology is directed, or not connected.

    Source: Wilson, "Generating random spanning trees more quickly than the cover time", STOC 1996.

    >>> from relaysim.topologies import complete
    >>> random_spanning_tree(complete(6), seed=0).is_tree
    True
    """
    topology = spannable(topology, "random_spanning_tree")
    generator = np.random.default_rng(whole_number(seed, "seed", 0))
    starts = np.concatenate([[0], np.cumsum(topology.degrees)]).tolist()
    neighbours = topology.src.tolist()  # sorted by who has them
    after = [0] * topology.n
    in_tree = [worker == 0 for worker in range(topology.n)]
    numbers = _uniforms(generator)
    edges = []
    for start in range(1, topology.n):
        worker = start
        while not in_tree[worker]:  # a walk, whose loops are forgotten as it leaves a worker again
            first, last = starts[worker], starts[worker + 1]
            after[worker] = neighbours[first + int(next(numbers) * (last - first))]
            worker = after[worker]
        worker = start
        while not in_tree[worker]:
            in_tree[worker] = True
            edges.append((worker, after[worker]))
            worker = after[worker]
    return Topology(
        topology.n,
        edges,
        f"random_spanning_tree({topology.name}, seed={seed})",
        worker_names=topology.worker_names,
    )


def _uniforms(generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from generator.random(1000).tolist()


def all_spanning_trees(topology: Topology) -> list[Topology]:
    """All spanning trees of a small graph, in the order of their edges.

    Raises:
        ValueError: the topology is directed, not connected, or has more than 20 000 trees.

    >>> from relaysim.topologies import complete, ring
    >>> len(all_spanning_trees(ring(5))), len(all_spanning_trees(complete(5)))
    (5, 125)
    """
    topology = spannable(topology, "all_spanning_trees")
    count = number_of_trees(topology)
    if count > MOST_TREES:
        raise ValueError(
            f"{topology!r} has {count:.4g} spanning trees and {MOST_TREES} are listed at most; draw some of "
            f"them with random_spanning_tree(topology, seed)"
        )
    edges = topology.edges
    return [
        Topology(
            topology.n,
            edges[list(chosen)],
            f"tree {k} of {topology.name}",
            worker_names=topology.worker_names,
        )
        for k, chosen in enumerate(_every_tree(topology))
    ]


def number_of_trees(topology: Topology) -> float:
    """How many spanning trees a graph has, to rounding: a minor of its Laplacian (Kirchhoff).

    >>> from relaysim.topologies import complete
    >>> round(number_of_trees(complete(6)))
    1296
    """
    laplacian = np.diag(topology.degrees.astype(float)) - topology.adjacency.toarray()
    logarithm = float(np.linalg.slogdet(laplacian[1:, 1:])[1])
    return round(math.exp(logarithm)) if logarithm < 30 else math.exp(min(logarithm, 700))


def _every_tree(topology: Topology) -> Iterator[tuple[int, ...]]:
    """The numbers of the edges of each tree, by taking and leaving out one edge after the other.

    Sets of workers are the bits of whole numbers.
    """
    n, edges = topology.n, topology.edges.tolist()
    later = [[0] * n]  # whom each worker reaches over the edges from the k-th on
    for a, b in edges[::-1]:
        before = later[-1].copy()
        before[a] |= 1 << b
        before[b] |= 1 << a
        later.append(before)
    later.reverse()

    def apart(part: tuple[int, ...], k: int, a: int, b: int) -> bool:
        """Whether neither the parts nor the edges from the k-th on lead from a to b."""
        seen = todo = part[a]
        while todo:
            lowest = todo & -todo
            worker = lowest.bit_length() - 1
            new = (later[k][worker] | part[worker]) & ~seen
            seen |= new
            todo = (todo ^ lowest) | new
        return not seen >> b & 1

    # The part of each worker, which edges chosen so far connect; and the next edge.
    pending: list[tuple[tuple[int, ...], int, tuple[int, ...]]]
    pending = [(tuple(1 << worker for worker in range(n)), 0, ())]
    while pending:
        part, k, chosen = pending.pop()
        if len(chosen) == n - 1:
            yield chosen
            continue
        a, b = edges[k]
        together = part[a] == part[b]
        if together or not apart(part, k + 1, a, b):
            pending.append((part, k + 1, chosen))
        if not together:
            both = part[a] | part[b]
            new = tuple(both if both >> w & 1 else own for w, own in enumerate(part))
            pending.append((new, k + 1, (*chosen, k)))


def best_spanning_tree(topology: Topology, by: str = "correction_factor") -> Topology:
    """The spanning tree with the shortest paths.

    Args:
        topology: a connected topology.
        by: ``"diameter"``: the smallest one, exactly: a breadth-first tree around the centre of the graph,
            a worker or the middle of an edge. ``"correction_factor"``: the smallest
            `relaysim.theory.correction_factor`, which is the smallest mean distance between workers. Of
            graphs with up to 20 000 spanning trees it is the best of all. Of others, where that is a hard
            problem, it is a tree that no exchange of one edge makes better, starting from the best
            breadth-first tree.

    Raises:
        ValueError: the topology is directed or not connected, or an unknown ``by``.

    >>> from relaysim.topologies import ring, torus
    >>> best_spanning_tree(ring(6), by="diameter").diameter
    5
    >>> best_spanning_tree(torus(3, 3)).diameter
    4
    """
    topology = spannable(topology, "best_spanning_tree")
    one_of(by, "by", ("correction_factor", "diameter"))
    if by == "diameter":
        edges = _around_the_centre(topology)
    elif number_of_trees(topology) <= MOST_TREES:
        edges = _shortest_of_all(topology)
    else:
        edges = _by_exchanges(topology)
    return Topology(
        topology.n,
        edges,
        f"best_spanning_tree({topology.name}, by={by!r})",
        worker_names=topology.worker_names,
    )


def _around_the_centre(topology: Topology) -> np.ndarray:
    """A tree of the smallest diameter, twice the distance of the last worker from the centre."""
    hops = csgraph.shortest_path(topology.adjacency, unweighted=True)
    of_worker = hops.max(axis=1)
    centre, length = [int(of_worker.argmin())], 2 * of_worker.min()
    if len(topology.edges):
        ends = topology.edges
        from_edge = np.minimum(hops[ends[:, 0]], hops[ends[:, 1]]).max(axis=1)
        if 2 * from_edge.min() + 1 < length:
            centre = ends[from_edge.argmin()].tolist()
    away = hops[centre].min(axis=0)
    edges: list[list[int]] = [centre] if len(centre) == 2 else []
    nearer = topology.adjacency.toarray().astype(bool) & (away[:, None] == away + 1)
    edges += [[worker, int(nearer[worker].argmax())] for worker in np.flatnonzero(away).tolist()]
    return np.array(edges).reshape(-1, 2)


def _shortest_of_all(topology: Topology) -> np.ndarray:
    """The tree with the smallest sum of distances, of all."""
    best: tuple[float, tuple[int, ...]] = (math.inf, ())
    trees = list(_every_tree(topology))
    n, edges = topology.n, topology.edges
    for start in range(0, len(trees), TREES_AT_ONCE):
        some = trees[start : start + TREES_AT_ONCE]
        chosen = edges[np.array(some, dtype=np.intp).reshape(len(some), n - 1)]
        # In a tree distances are resistances, whose sum is n times the trace of the Laplacian's inverse.
        lifted = np.full((len(some), n, n), 1 / n)
        number = np.arange(len(some))[:, None]
        for one, other in ((0, 1), (1, 0)):
            np.add.at(lifted, (number, chosen[..., one], chosen[..., one]), 1)
            lifted[number, chosen[..., one], chosen[..., other]] -= 1
        sums = np.rint(n * (np.linalg.inv(lifted).trace(axis1=1, axis2=2) - 1))
        k = int(sums.argmin())
        if sums[k] < best[0]:
            best = (float(sums[k]), some[k])
    return edges[list(best[1])]


def _by_exchanges(topology: Topology) -> np.ndarray:
    """A tree whose sum of distances no exchange of an edge makes smaller."""
    n, graph = topology.n, topology.edges
    trees = (spanning_tree(topology, root) for root in range(n))
    tree = min((each.edges for each in trees), key=lambda edges: _distances(n, edges).sum())
    while True:
        distances = _distances(n, tree)
        best = (0.0, -1, -1)
        for k, (a, b) in enumerate(tree.tolist()):
            side = distances[:, a] < distances[:, b]  # those that stay with a without this edge
            own = distances @ side, distances @ ~side
            count = side.sum(), n - side.sum()

            def across(ends: np.ndarray, own: tuple = own, count: tuple = count) -> np.ndarray:
                """What paths over edges from a's side to the other cost, but for their own length."""
                return count[1] * own[0][ends[..., 0]] + count[0] * own[1][ends[..., 1]]

            ends = np.where(side[graph[:, :1]], graph, graph[:, ::-1])
            crosses = np.flatnonzero(side[graph[:, 0]] != side[graph[:, 1]])
            costs = across(ends[crosses])
            saved = float(across(np.array([a, b])) - costs.min())
            if saved > best[0]:
                best = (saved, k, int(crosses[costs.argmin()]))
        if best[0] <= 0:
            return tree
        tree = np.concatenate([np.delete(tree, best[1], axis=0), graph[best[2] : best[2] + 1]])


def _distances(n: int, edges: np.ndarray) -> np.ndarray:
    adjacency = csr_array((np.ones(len(edges)), edges.T), shape=(n, n))
    return csgraph.shortest_path(adjacency, directed=False, unweighted=True)


def tree_pair(topology: Topology) -> TreePair:
    """Two spanning trees of a graph that have no edge in common, each for half of the coordinates.

    They exist unless the workers can be split into some p parts with fewer than 2(p − 1) edges between
    them (Nash-Williams, Tutte); by matroid union they are found wherever they exist.

    Raises:
        ValueError: the topology is directed, not connected, or has no such trees.

    Source: Edmonds, "Minimum partition of a matroid into independent subsets", 1965.

    >>> from relaysim.topologies import torus
    >>> pair = tree_pair(torus(3, 3))
    >>> len(set(map(tuple, [*pair.first.edges.tolist(), *pair.second.edges.tolist()])))
    16
    """
    topology = spannable(topology, "tree_pair")
    n, edges = topology.n, topology.edges.tolist()
    forests: list[list[set[int]]] = [[set() for _ in range(n)] for _ in range(2)]
    holder: dict[int, int] = {}  # which forest has an edge
    for edge in range(len(edges)):
        if len(holder) < 2 * (n - 1):
            _insert(edge, edges, forests, holder)
    chosen = [[edge for edge, own in holder.items() if own == k] for k in range(2)]
    if min(map(len, chosen)) < n - 1:
        raise ValueError(
            f"{topology!r} has no two spanning trees without a common edge, which take 2(n − 1) = "
            f"{2 * (n - 1)} edges, and as many between any parts; it has {len(edges)}: add edges, or use "
            f"double_binary_tree({n})"
        )
    first, second = (
        Topology(
            n,
            [edges[edge] for edge in own],
            f"tree {k} of tree_pair({topology.name})",
            worker_names=topology.worker_names,
        )
        for k, own in enumerate(chosen)
    )
    return TreePair(first, second)


def _insert(
    edge: int, edges: list[list[int]], forests: list[list[set[int]]], holder: dict[int, int]
) -> None:
    """Add an edge to one of two forests, the edges at each worker, where it can be; others move over."""
    before: dict[int, int] = {edge: -1}
    queue = deque([edge])

    while queue:
        moving = queue.popleft()
        for k, own in enumerate(forests):
            if holder.get(moving) == k:
                continue
            path = _path(edges, own, *edges[moving])
            if path is not None:
                for other in path:
                    if other not in before:
                        before[other] = moving
                        queue.append(other)
                continue
            # It fits here, and what it left is free for who displaced it.
            place = k
            while moving >= 0:
                left = holder.get(moving, -1)
                for worker in edges[moving]:
                    if left >= 0:
                        forests[left][worker].discard(moving)
                    forests[place][worker].add(moving)
                holder[moving] = place
                moving, place = before[moving], left
            return


def _path(
    edges: list[list[int]], forest: list[set[int]], start: int, goal: int
) -> list[int] | None:
    """The edges between two workers in a forest, or None where they are in different trees."""
    came: dict[int, tuple[int, int]] = {start: (-1, -1)}
    stack = [start]
    while stack:
        worker = stack.pop()
        if worker == goal:
            path = []
            while worker != start:
                edge, worker = came[worker]
                path.append(edge)
            return path
        for edge in forest[worker]:
            a, b = edges[edge]
            other = b if a == worker else a
            if other not in came:
                came[other] = (edge, worker)
                stack.append(other)
    return None
