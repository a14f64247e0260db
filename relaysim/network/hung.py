"""A tree hung at worker 0, and what a round of RelaySum does along its edges."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.sparse import csgraph

from relaysim.network.products import MOST_SLOTS, segment_sum
from relaysim.support.blocks import row_blocks
from relaysim.topologies import Topology

__all__ = ["Hung", "Piece", "Rows", "Sums", "add_up", "hung", "renew"]

#: Rows of an array: a slice where they lie at equal distances.
Rows: TypeAlias = slice | np.ndarray
#: What adds up messages by family.
Sums: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Piece(NamedTuple):
    """Some workers who follow each other, and the messages between them and their parents.

    Attributes:
        down, up: their messages, from their parents and to them.
        parents, children: the rows of the workers at both ends of each.
        families: the rows of the parents, once each.
        slots: for each k, the rows of the parents that have a k-th child, and which of the messages ``up``
            are from these.
        sums: what adds up the messages ``up`` by family, in the place of slots where some are large.
    """

    down: slice
    up: slice
    parents: Rows
    children: Rows
    families: Rows
    slots: list[tuple[Rows, Rows]]
    sums: Sums | None


class Hung(NamedTuple):
    """The edges of a tree, level by level from worker 0 on.

    Messages are ``(2(n − 1), …)``: first those that come down to each worker but the first, then those that
    each of them sends up. What belongs together in a round lies side by side then, the more so the
    more the numbers of workers grow with their levels, as those of chains and binary trees do.

    Attributes:
        src, dst, reverse: of each message, ``(2(n − 1),)``; the last is its place the other way.
        parent, child: of each that comes down, ``(n − 1,)``.
    """

    src: np.ndarray
    dst: np.ndarray
    reverse: np.ndarray
    parent: np.ndarray
    child: np.ndarray

    def pieces(self, x: np.ndarray) -> list[Piece]:
        """Messages in pieces for iterates ``(n, d[, r])`` of this size, whole families each."""
        edges = len(self.child)
        # Where each family begins, and ends.
        families = np.append(np.flatnonzero(np.diff(self.parent, prepend=-1)), edges)
        starts = [rows.start for rows in row_blocks(x)]
        bounds = families[np.searchsorted(families, starts).clip(max=len(families) - 1)]
        ends = np.unique(np.append(bounds, edges)).tolist()
        return [self._piece(*pair) for pair in itertools.pairwise(ends)]

    def _piece(self, begin: int, end: int) -> Piece:
        parent = self.parent[begin:end]
        first = np.flatnonzero(np.diff(parent, prepend=-1))
        lengths = np.diff(first, append=end - begin)
        slots, sums = [], None
        if lengths.max() <= MOST_SLOTS:
            for k in range(lengths.max()):
                some = first[lengths > k]
                slots.append((_rows(parent[some]), _rows(some + k)))
        else:
            sums = segment_sum(np.append(first, end - begin))
        return Piece(
            slice(begin, end),
            slice(len(self.child) + begin, len(self.child) + end),
            _rows(parent),
            _rows(self.child[begin:end]),
            _rows(parent[first]),
            slots,
            sums,
        )


def hung(tree: Topology) -> Hung:
    """A tree, hung."""
    order, parent = csgraph.breadth_first_order(tree.adjacency, 0, directed=False)
    child = order[1:].astype(np.intp)
    parent = parent[child].astype(np.intp)
    src, dst = np.concatenate([parent, child]), np.concatenate([child, parent])
    reverse = np.roll(np.arange(len(src)), -len(child))
    return Hung(src, dst, reverse, parent, child)


def add_up(rows: Rows, payload: np.ndarray, received: np.ndarray, total: np.ndarray) -> None:
    """What some workers hold in all, in their rows of ``total``."""
    if isinstance(rows, slice):
        np.add(payload[rows], received[rows], out=total[rows])
    else:
        total[rows] = payload[rows] + received[rows]


def renew(
    piece: Piece, total: np.ndarray, old: np.ndarray, new: np.ndarray, received: np.ndarray
) -> None:
    """Messages of a piece from what its workers hold in all, and what they bring to ``received``.

    Pieces are to be renewed in their order: what comes down is written, and what comes up is added to that.
    """
    _less(total, piece.parents, old[piece.up], new[piece.down])
    _less(total, piece.children, old[piece.down], new[piece.up])
    received[piece.children] = new[piece.down]
    sent = new[piece.up]
    for parents, rows in piece.slots:
        received[parents] += sent[rows]
    if piece.sums is not None:
        received[piece.families] += piece.sums(sent)


def _less(total: np.ndarray, rows: Rows, old: np.ndarray, out: np.ndarray) -> None:
    """Some rows less what came the other way."""
    if isinstance(rows, slice):
        np.subtract(total[rows], old, out=out)
    else:
        total.take(rows, 0, out, "clip")
        out -= old


def _rows(index: np.ndarray) -> Rows:
    if len(index) < 2:
        return slice(int(index[0]), int(index[0]) + 1) if len(index) else index
    steps = np.diff(index)
    if steps[0] <= 0 or (steps != steps[0]).any():
        return index
    return slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))
