"""RelaySum on a tree that gives up links which are out of order for others of a graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csgraph

from relaysim.network.arrivals import Arrivals
from relaysim.network.relay import LossyTreeRelay, Mail
from relaysim.topologies import Topology

__all__ = ["RehungMail", "RehungTreeRelay"]


class RehungMail(NamedTuple):
    """RelaySum's messages where each replica has a tree of its own, on all directed edges of a graph.

    ``values (E, d[, r])``, ``counts (E, 1[, r])`` and ``tree (E, 1[, r])``, which of the edges are in the
    tree; the messages of others are 0. ``received`` and ``heard`` as of `Mail`.
    """

    values: np.ndarray
    counts: np.ndarray
    received: np.ndarray
    heard: np.ndarray
    tree: np.ndarray


class RehungTreeRelay(LossyTreeRelay):
    """RelaySum on spanning trees of a graph, a new one as soon as a link of the last is out of order.

    Of the links that are in order as many are taken as make no circle, those of the last tree first, then
    by their place in ``graph.edges``; where the graph is cut, links that are out of order make up the rest,
    those of the last tree first again, and lose what crosses them. So a tree changes only where a
    link of it is out of order and another one takes its place.

    A message on i→j holds payloads of the workers on i's side of the link, none twice. After a change it is
    still so unless a link that was taken out lies on i's side, and one that was put in on j's: then it may
    hold workers who are on j's side now and would be counted twice. It is dropped, with its count. All others
    are kept; over a link that was put in nothing came yet. Since a side that has only grown keeps what it
    has, no more is dropped than that where one link takes the place of another.

    Args:
        tree: the first one.
        graph: with all its links.
        arrivals: of the run, on the graph.
    """

    def __init__(self, tree: Topology, graph: Topology, arrivals: Arrivals):
        super().__init__(graph, arrivals)
        self._first = np.isin(self._src * graph.n + self._dst, tree.src * graph.n + tree.dst)
        low, high = np.minimum(self._src, self._dst), np.maximum(self._src, self._dst)
        self._low, self._high = graph.edges.T
        keys = self._low * graph.n + self._high
        order = np.argsort(keys)
        self._link = order[np.searchsorted(keys[order], low * graph.n + high)]
        #: Of each link one of its two directions; `reverse` has the other.
        self._forward = np.flatnonzero(self._src < self._dst)[
            np.argsort(self._link[self._src < self._dst])
        ]
        self._seen: tuple[np.ndarray, np.ndarray] | None = None

    def empty(self, x: np.ndarray) -> RehungMail:  # type: ignore[override]
        """Messages before the first round: nothing sent, nobody heard."""
        mail = super().empty(x)
        tree = np.empty(mail.counts.shape, dtype=bool)
        tree[:] = self._first.reshape(-1, *(1,) * (tree.ndim - 1))
        return RehungMail(*mail, tree)

    def send(self, payload: np.ndarray, mail: RehungMail) -> RehungMail:  # type: ignore[override]
        """One round; see `Network.relay`."""
        assert self._arrivals is not None
        arrived, down = self._arrivals.with_outages(self._edges)
        tree, kept = self._rehung(mail.tree, down)
        if kept is not None:
            values, counts = mail.values * kept, mail.counts * kept
            mail = RehungMail(values, counts, self._sum(values), self._sum(counts), tree)
        crossed = arrived & tree
        self._arrivals.note(self._edges, tree & ~arrived)
        values = (payload + mail.received)[self._src] - mail.values[self._reverse]
        counts = (1 + mail.heard)[self._src] - mail.counts[self._reverse]
        values *= crossed
        counts *= crossed
        return RehungMail(values, counts, self._sum(values), self._sum(counts), tree)

    def inbox(self, mail: RehungMail | Mail) -> tuple[np.ndarray, np.ndarray]:
        """What each worker received, and how many workers it has not heard from, ``(n, 1[, r])``."""
        return mail.received, self.n - 1 - mail.heard

    def _rehung(self, tree: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The trees of a round, and of which edges the messages are kept, None where all are."""
        trees, out = (each[:, 0] if each.ndim == 3 else each for each in (tree, down))
        out = np.broadcast_to(out, trees.shape)
        out = (out | out[self._reverse])[self._forward]
        concerned = (trees[self._forward] & out).any(axis=0)
        # The same links out of order leave a tree as it is once it has given up those that it could.
        if self._seen is not None and self._seen[0] is tree:
            concerned &= (self._seen[1] != out).any(axis=0)
        concerned = np.flatnonzero(concerned)
        kept: np.ndarray | None = None
        if len(concerned):
            old = trees[:, concerned]
            new = self._spanning(old[self._forward], out[:, concerned])[self._link]
            changed = (old != new).any(axis=0)
            if changed.any():
                which, old, new = concerned[changed], old[:, changed], new[:, changed]
                behind = self._with_behind(old & ~new, old)
                before = self._with_behind(new & ~old, new)[self._reverse]
                all_kept = np.ones(trees.shape, dtype=bool)
                all_kept[:, which] = old & new & ~(behind & before)
                trees = trees.copy()
                trees[:, which] = new
                tree, kept = trees.reshape(tree.shape), all_kept.reshape(tree.shape)
        self._seen = tree, out
        return tree, kept

    def _spanning(self, tree: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The links of new trees, ``(links, k)``: minimal ones, all replicas' in one graph of k parts."""
        links, k = tree.shape
        weight = 1 + np.arange(links)[:, None] + links * ~tree + 2 * links * out
        part = self.n * np.arange(k)
        ends = (self._low[:, None] + part, self._high[:, None] + part)
        shape = (self.n * k, self.n * k)
        graph = coo_array((weight.ravel(), tuple(map(np.ravel, ends))), shape=shape)
        found = csgraph.minimum_spanning_tree(graph.tocsr()).tocoo()
        taken = np.zeros((links, k), dtype=bool)
        taken[(found.data.astype(np.intp) - 1) % links, found.coords[0] // self.n] = True
        return taken

    def _with_behind(self, marked: np.ndarray, trees: np.ndarray) -> np.ndarray:
        """Of messages i→j, whether a marked link of the tree is on i's side, ``(E, k)``.

        With each tree hung up at worker 0 the marked links' ends below a worker are both ends of those on its
        side, and one of the link to its parent if that is marked.
        """
        k = trees.shape[1]
        part = self.n * np.arange(k)
        parent = self._parents(trees[self._forward])
        forward = marked[self._forward]
        ends = np.concatenate([(each[:, None] + part)[forward] for each in (self._low, self._high)])
        below = np.bincount(ends, minlength=len(parent))
        # Of all that are less than 1, 2, 4, … links below.
        ancestor, top = parent, len(parent) - 1
        while (ancestor != top).any():
            below = below + np.bincount(ancestor, below, len(parent)).astype(np.int64)
            below[top] = 0
            ancestor = ancestor[ancestor]
        source, target = (each[:, None] + part for each in (self._src, self._dst))
        upwards = parent[source] == target
        inside = below[np.where(upwards, source, target)]
        on_side = np.where(upwards, inside, 2 * forward.sum(axis=0) - inside) - marked
        return (on_side > 0) & trees

    def _parents(self, tree: np.ndarray) -> np.ndarray:
        """Of each worker of k trees ``(links, k)`` hung up at worker 0, one tree after the other; above these
        workers, and itself, is one more node, the last: ``(n k + 1,)``.
        """
        link, part = np.nonzero(tree)
        count = tree.shape[1] * self.n
        roots = np.arange(0, count, self.n)
        first = np.concatenate([self._low[link] + self.n * part, roots])
        second = np.concatenate([self._high[link] + self.n * part, np.full(len(roots), count)])
        graph = coo_array((np.ones(len(first)), (first, second)), shape=(count + 1, count + 1))
        _, parent = csgraph.breadth_first_order(graph.tocsr(), count, directed=False)
        parent[count] = count
        return parent.astype(np.intp)
