"""What crosses the edges in a round, and how much of it.

Four ways to communicate: `Network.mix` (weighted averages of neighbours' vectors), `Network.relay`
(RelaySum's running sums along the edges of a tree), `Network.exchange` (corrections that two neighbours
make in opposite directions) and `Network.average` (an exact mean, as an all-reduce would give). All
count the model-sized vectors that they put on the wire.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph, csr_array, triu

from relaysim.blocks import row_blocks
from relaysim.mixing import preserved_weights
from relaysim.topologies import Topology, TreePair
from relaysim.workspace import Workspace

__all__ = ["Mail", "Network", "PairMail"]


# From a number of messages to 1 for those that arrive and 0 for the others, (messages, 1[, r]).
Arrivals = Callable[[int], np.ndarray]

# Multiplications in a dense product that cost as much as calling a sparse one.
DENSE_BELOW = 1 << 15
# Chains, rings and binary trees are summed neighbour by neighbour instead of by a matrix product.
MOST_SLOTS = 4
# A matrix is symmetric if opposite weights differ by no more.
SYMMETRIC_TO = 1e-12


class Mail(NamedTuple):
    """RelaySum's messages on one tree: what crossed each directed edge in the last round.

    ``values (E, d[, r])`` and ``counts (E,)`` have one row per directed edge, sorted by receiver:
    the running sum of payloads, and of how many workers it holds. ``received (n, d[, r])`` and
    ``heard (n,)`` are their sums over each receiver's edges.
    """

    values: np.ndarray
    counts: np.ndarray
    received: np.ndarray
    heard: np.ndarray


class PairMail(NamedTuple):
    """The messages on two trees: even coordinates travel on the first, odd ones on the second."""

    first: Mail
    second: Mail


class Network:
    """The edges of a simulation.

    Args:
        topology: a `Topology`, or a `TreePair` for methods that only relay.
        mixing: the sequence of gossip matrices for methods that mix, else empty.
        workspace: where large arrays are borrowed.
        arrivals: which messages arrive; see `relaysim.faults`. All of them by default.

    ``vectors_sent`` counts model-sized vectors over all workers since the network was made: a number, or
    ``(r,)`` where replicas send differently. A compressed vector counts as its share of 64 d bits.
    """

    def __init__(
        self,
        topology: Topology | TreePair,
        mixing: tuple[csr_array, ...] = (),
        workspace: Workspace | None = None,
        arrivals: Arrivals | None = None,
    ):
        self.topology = topology
        self.n = topology.n
        self.vectors_sent: float | np.ndarray = 0
        self._workspace = workspace or Workspace()
        self._mixing, self._arrivals = mixing, arrivals
        self._vectors_per_mix = [int(W.nnz - np.count_nonzero(W.diagonal())) for W in mixing]
        self._vectors_per_relay = 2 * (self.n - 1)

    # What a method does not use of the following is never built.

    @functools.cached_property
    def _changes(self) -> list[Callable]:
        if self._arrivals is None:
            return [_MixChange(W) for W in self._mixing]
        return [_LossyMixChange(W, self._arrivals) for W in self._mixing]

    @functools.cached_property
    def _matrices(self) -> list[Callable]:
        if self._arrivals is None:
            return [_Product(W) for W in self._mixing]
        return [_applied(change) for change in self._changes]

    @functools.cached_property
    def _exchange(self) -> _PairExchange:
        if self._arrivals is not None:
            raise ValueError(
                "a method whose neighbours act as pairs has no rule for lost messages; leave faults out"
            )
        return _PairExchange(self._mixing)

    @functools.cached_property
    def _relay(self) -> _TreeRelay | _PairRelay:
        if isinstance(self.topology, TreePair):
            return _PairRelay(*map(self._tree_relay, (self.topology.first, self.topology.second)))
        return self._tree_relay(self.topology)

    def _tree_relay(self, tree: Topology) -> _TreeRelay:
        if self._arrivals is None:
            return _TreeRelay(tree, self._workspace)
        return _LossyTreeRelay(tree, self._workspace, self._arrivals)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        if np.ndim(self.vectors_sent):
            self.vectors_sent = self.vectors_sent[replicas]

    def send(self, vectors: float | np.ndarray) -> None:
        """Count vectors that a method sends in its own way; ``(r,)`` where replicas differ."""
        self.vectors_sent = self.vectors_sent + vectors

    def mix(self, x: np.ndarray, round: int, share: float | np.ndarray = 1) -> np.ndarray:
        """W_t x with t = ``round`` modulo the length of the sequence; ``(n, d[, r])``.

        ``share`` of a vector is sent over each edge, ``(r,)`` where replicas differ.
        """
        k = round % len(self._matrices)
        self.send(share * self._vectors_per_mix[k])
        return self._matrices[k](x)

    def mix_change(self, x: np.ndarray, round: int, share: float = 1) -> np.ndarray:
        """(W_t − I) x, precise where x is nearly equal everywhere; ``(n, d[, r])``.

        Args:
            x: what is mixed.
            round: t.
            share: of a vector that is sent over each edge; below 1 where it is compressed.
        """
        k = round % len(self._changes)
        self.send(share * self._vectors_per_mix[k])
        return self._changes[k](x)

    @property
    def pairs(self) -> np.ndarray:
        """Both ends i < j, in order, of the undirected edges with weight in some matrix, ``(E, 2)``."""
        return self._exchange.pairs

    def pair_differences(self, x: np.ndarray, round: int) -> np.ndarray:
        """x_j − x_i over every edge i < j, ``(E, d[, r])``; 0 where W_t has no weight."""
        return self._exchange.differences(x, round % len(self._mixing))

    def exchange(self, corrections: np.ndarray, round: int, share: float) -> np.ndarray:
        """What two ends of an edge correct in opposite directions, added up for each worker.

        Args:
            corrections: c, ``(E, d[, r])``; W_t,ij c for the end i < j of an edge and −W_t,ij c for j.
            round: t.
            share: of a vector that was sent over each edge, in either direction.

        Returns:
            ``(n, d[, r])``. The rows sum to 0 up to rounding.
        """
        k = round % len(self._mixing)
        self.send(share * self._vectors_per_mix[k])
        return self._exchange.total(corrections, k)

    def average(self, x: np.ndarray) -> np.ndarray:
        """The exact mean of all rows, in every row; ``(n, d[, r])``. Every pair exchanges."""
        self.send(self.n * (self.n - 1))
        result = self._workspace.fresh(x.shape)
        result[:] = np.add.reduce(x, axis=0) * (1 / self.n)
        return result

    def relay(self, payload: np.ndarray, mail: Mail | PairMail) -> Mail | PairMail:
        """One round of RelaySum: m_{i→j} = payload_i + Σ_{k ≠ j} m_{k→i} of the round before."""
        self.send(self._vectors_per_relay)
        return self._relay.send(payload, mail)

    def empty_mail(self, x: np.ndarray) -> Mail | PairMail:
        """The messages before the first round."""
        return self._relay.empty(x)

    def inbox(self, mail: Mail | PairMail) -> tuple[np.ndarray, np.ndarray | None]:
        """What each worker received, ``(n, d[, r])``, and how many it has not heard from.

        The second, n − Cnt_i, broadcasts against the first; it is None once everyone is heard
        everywhere.
        """
        return self._relay.inbox(mail)

    def preserved_mean(self, x: np.ndarray) -> np.ndarray | None:
        """Σ_i π_i x_i, ``(1, d[, r])``, with the weights π that every matrix of the sequence preserves.

        They are 1/n where all matrices are doubly stochastic. None where no weights serve for all.
        """
        weights = self._preserved_weights
        return None if weights is None else np.tensordot(weights[None], x, axes=1)

    @functools.cached_property
    def _preserved_weights(self) -> np.ndarray | None:
        return preserved_weights(self._mixing)

    def undelivered(self, mail: Mail | PairMail, overlap: bool) -> np.ndarray:
        """What of the relayed payloads has still to reach each worker, ``(n, d[, r])``.

        Args:
            mail: the messages of the last round.
            overlap: whether workers take their messages in the round after the one that brought them.
        """
        return self._relay.undelivered(mail, overlap)


class _MixChange:
    """(W − I) x as Σ_j W_ij (x_j − x_i).

    Its rounding errors are relative to the differences between neighbours and not to x, and cancel
    exactly over the two directions of an edge. Methods whose corrections must keep their sum need
    that: an error in D²'s correction ends up in its fixed point divided by γ.
    """

    def __init__(self, W: csr_array):
        n = W.shape[0]
        entries = W.tocoo()
        row, column = entries.coords
        across = row != column
        self._to, self._from = row[across].astype(np.intp), column[across].astype(np.intp)
        degrees = np.bincount(self._to, minlength=n)
        offsets = np.concatenate([[0], np.cumsum(degrees)])
        order = np.lexsort((self._from, self._to))
        self._to, self._from = self._to[order], self._from[order]
        count = len(order)
        weights = entries.data[across][order]
        self._sum = _Product(csr_array((weights, np.arange(count), offsets), shape=(n, count)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._sum(self._differences(x))

    def _differences(self, x: np.ndarray) -> np.ndarray:
        difference = x.take(self._from, 0, None, "clip")
        difference -= x.take(self._to, 0, None, "clip")
        return difference


class _LossyMixChange(_MixChange):
    """(W' − I) x, where W' lacks the weights of messages that were lost and has its rows rescaled."""

    def __init__(self, W: csr_array, arrivals: Arrivals):
        super().__init__(W)
        self._arrivals = arrivals
        self._own = W.diagonal()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        arrived = self._arrivals(len(self._to))
        change = self._sum(self._differences(x) * arrived)
        heard = self._sum(arrived)
        total = self._own.reshape((-1,) + (1,) * (heard.ndim - 1)) + heard
        # Without weight on itself and with nobody heard, a worker keeps its own.
        return np.divide(change, total, out=np.zeros_like(change), where=total != 0)


class _PairExchange:
    """Differences over undirected edges, and what comes of them; see `Network.exchange`."""

    def __init__(self, matrices: tuple[csr_array, ...]):
        for W in matrices:
            gap = abs(W - W.T)
            if gap.nnz and gap.max() > SYMMETRIC_TO:
                i, j = np.unravel_index(gap.tocsr().argmax(), gap.shape)
                raise ValueError(
                    f"the mixing matrix must be symmetric where neighbours act as pairs; at ({i}, {j}) it "
                    f"has {W[i, j]:.6g} and at ({j}, {i}) {W[j, i]:.6g}"
                )
        n = matrices[0].shape[0]
        above = [triu(W, k=1).tocoo() for W in matrices]
        keys = [part.coords[0] * np.int64(n) + part.coords[1] for part in above]
        union = np.unique(np.concatenate(keys))
        self._low, self._high = np.divmod(union, n)
        self.pairs = np.stack([self._low, self._high], axis=1)
        ends = np.concatenate([self._low, self._high])
        edges = np.tile(np.arange(len(union)), 2)
        self._idle, self._sums = [], []
        for part, key in zip(above, keys, strict=True):
            weights = np.zeros(len(union))
            weights[np.searchsorted(union, key)] = part.data
            self._idle.append(np.flatnonzero(weights == 0))
            signed = np.concatenate([weights, -weights])
            self._sums.append(_Product(csr_array((signed, (ends, edges)), shape=(n, len(union)))))

    def differences(self, x: np.ndarray, k: int) -> np.ndarray:
        difference = x.take(self._high, 0, None, "clip")
        difference -= x.take(self._low, 0, None, "clip")
        difference[self._idle[k]] = 0
        return difference

    def total(self, corrections: np.ndarray, k: int) -> np.ndarray:
        return self._sums[k](corrections)


def _applied(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """W x from (W − I) x."""
    return lambda x: x + change(x)


class _TreeRelay:
    """RelaySum on one tree, in O(E · d) whatever the degrees.

    With S_i the sum of what worker i received, the message on i→j is payload_i + S_i − (what j sent
    to i). On a tree the subtraction is safe: a rounding error travels outward and dies at the leaves.
    """

    def __init__(self, tree: Topology, workspace: Workspace):
        self.n = tree.n
        self._src, self._dst, self._reverse = tree.src, tree.dst, tree.reverse
        self._adjacency = tree.adjacency
        self._offsets = np.concatenate([[0], np.cumsum(tree.degrees)])
        self._workspace = workspace
        self._settled_counts: np.ndarray | None = None
        self._settled_heard: np.ndarray | None = None
        self._sums: dict[tuple, list[tuple[slice, slice, Callable]]] = {}

    def empty(self, x: np.ndarray) -> Mail:
        """Messages before the first round: nothing sent, nobody heard."""
        edges = (len(self._src), *x.shape[1:])
        counts = np.zeros(len(self._src), dtype=np.int64)
        heard = np.zeros(self.n, dtype=np.int64)
        return Mail(np.zeros(edges), counts, np.zeros(x.shape), heard)

    def send(self, payload: np.ndarray, mail: Mail) -> Mail:
        """One round; see `Network.relay`."""
        old, counts, received, heard = mail
        if counts is not self._settled_counts:
            counts, heard = self._count(counts, heard)
        lend = self._workspace
        shape = payload.shape
        total = np.add(payload, received, out=lend.scratch(shape))
        values = lend.fresh(old.shape)
        blocks = self._sums.get(shape)
        if blocks is None:
            blocks = self._sums[shape] = self._segment_sums(payload)
        if len(blocks) == 1:
            total.take(self._src, 0, values, "clip")
            values -= old.take(self._reverse, 0, None, "clip")
            received = blocks[0][2](values)
        else:
            received = lend.fresh(shape)
            for workers, edges, segment_sum in blocks:
                part = values[edges]
                total.take(self._src[edges], 0, part, "clip")
                part -= old.take(self._reverse[edges], 0, None, "clip")
                received[workers] = segment_sum(part)
        return Mail(values, counts, received, heard)

    def inbox(self, mail: Mail) -> tuple[np.ndarray, np.ndarray | None]:
        """What each worker received, ``(n, d[, r])``, and n − Cnt_i, which broadcasts against it.

        The second is how many workers i has not heard from; None once everyone is heard everywhere.
        """
        if mail.heard is self._settled_heard:
            return mail.received, None
        missing = self.n - 1 - mail.heard
        return mail.received, missing.reshape((self.n,) + (1,) * (mail.received.ndim - 1))

    def undelivered(self, mail: Mail, overlap: bool) -> np.ndarray:
        """See `Network.undelivered`."""
        return np.tensordot(self._ahead[bool(overlap)], mail.values, axes=1)

    @functools.cached_property
    def _ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether worker i lies beyond the head of edge e, without and with the head; ``(n, E)``."""
        hops = csgraph.shortest_path(self._adjacency, method="D", unweighted=True)
        to_head, to_tail = hops[:, self._dst], hops[:, self._src]
        ahead = to_head < to_tail
        return (ahead & (to_head > 0)).astype(float), ahead.astype(float)

    def _count(self, counts: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts follow the same rule as messages, with payload 1, until everyone is heard."""
        counts = 1 + heard[self._src] - counts[self._reverse]
        running = np.concatenate([[0], np.cumsum(counts)])
        heard = np.diff(running[self._offsets])
        if (heard == self.n - 1).all():
            self._settled_counts, self._settled_heard = counts, heard
        return counts, heard

    def _segment_sums(self, x: np.ndarray) -> list[tuple[slice, slice, Callable]]:
        """Per block of receivers: its rows, its edges, and the sum of edges by receiver."""
        blocks = []
        for workers in row_blocks(x):
            offsets = self._offsets[workers.start : workers.stop + 1]
            edges = slice(int(offsets[0]), int(offsets[-1]))
            blocks.append((workers, edges, _segment_sum(offsets - offsets[0])))
        return blocks


class _LossyTreeRelay(_TreeRelay):
    """RelaySum on one tree whose messages, with their counts, may get lost.

    Counts differ between replicas, ``(E, 1[, r])``, and do not settle.
    """

    def __init__(self, tree: Topology, workspace: Workspace, arrivals: Arrivals):
        super().__init__(tree, workspace)
        self._arrivals = arrivals
        self._sum = _segment_sum(self._offsets)

    def empty(self, x: np.ndarray) -> Mail:
        """Messages before the first round: nothing sent, nobody heard."""
        edges, replicas = len(self._src), x.shape[2:]
        counts, heard = np.zeros((edges, 1, *replicas)), np.zeros((self.n, 1, *replicas))
        return Mail(np.zeros((edges, *x.shape[1:])), counts, np.zeros(x.shape), heard)

    def send(self, payload: np.ndarray, mail: Mail) -> Mail:
        """One round; see `Network.relay`."""
        arrived = self._arrivals(len(self._src))
        values = (payload + mail.received)[self._src] - mail.values[self._reverse]
        values *= arrived
        counts = (1 + mail.heard)[self._src] - mail.counts[self._reverse]
        counts *= arrived
        return Mail(values, counts, self._sum(values), self._sum(counts))

    def inbox(self, mail: Mail) -> tuple[np.ndarray, np.ndarray]:
        """What each worker received, and how many workers it has not heard from, ``(n, 1[, r])``."""
        return mail.received, self.n - 1 - mail.heard


class _PairRelay:
    """RelaySum on two trees, each carrying every other coordinate."""

    def __init__(self, first: _TreeRelay, second: _TreeRelay):
        self._relays = (first, second)

    def empty(self, x: np.ndarray) -> PairMail:
        return PairMail(*(relay.empty(x[:, c::2]) for c, relay in enumerate(self._relays)))

    def send(self, payload: np.ndarray, mail: PairMail) -> PairMail:
        return PairMail(
            *(
                relay.send(payload[:, c::2], part)
                for c, (relay, part) in enumerate(zip(self._relays, mail, strict=True))
            )
        )

    def inbox(self, mail: PairMail) -> tuple[np.ndarray, np.ndarray | None]:
        halves = [relay.inbox(part) for relay, part in zip(self._relays, mail, strict=True)]
        received = _interleaved([half for half, _ in halves])
        if all(missing is None for _, missing in halves):
            return received, None
        missing = np.zeros_like(received)
        for c, (_, half) in enumerate(halves):
            if half is not None:
                missing[:, c::2] = half
        return received, missing

    def undelivered(self, mail: PairMail, overlap: bool) -> np.ndarray:
        """See `Network.undelivered`."""
        pairs = zip(self._relays, mail, strict=True)
        return _interleaved([relay.undelivered(part, overlap) for relay, part in pairs])


def _interleaved(halves: list[np.ndarray]) -> np.ndarray:
    """Even coordinates from the first array, odd ones from the second."""
    n, _, *replicas = halves[0].shape
    result = np.empty((n, sum(half.shape[1] for half in halves), *replicas))
    for c, half in enumerate(halves):
        result[:, c::2] = half
    return result


def _segment_sum(offsets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function that adds up rows offsets[i] … offsets[i + 1] − 1 of an array, for every i."""
    lengths = np.diff(offsets)
    longest = int(lengths.max(initial=0))
    if lengths.min(initial=1) >= 1 and longest <= MOST_SLOTS:
        # The k-th row of every segment that has one, if these segments lie side by side.
        slots = []
        for k in range(longest):
            owners = np.flatnonzero(lengths > k)
            rows = slice(int(owners[0]), int(owners[-1]) + 1)
            if rows.stop - rows.start != len(owners):
                break
            slots.append((rows, offsets[owners] + k))
        else:
            if slots:
                return functools.partial(_sum_slots, slots[0][1], slots[1:])
    count = int(offsets[-1])
    ones = csr_array((np.ones(count), np.arange(count), offsets), shape=(len(lengths), count))
    return _Product(ones)


def _sum_slots(first: np.ndarray, others: list, values: np.ndarray) -> np.ndarray:
    total = values.take(first, 0, None, "clip")
    for rows, edges in others:
        part = total[rows]
        part += values.take(edges, 0, None, "clip")
    return total


class _Product:
    """A matrix applied to ``(m, d[, r])`` along the first axis, dense or sparse, whichever is faster.

    Dense where the sparse product's fixed cost of some 2 µs is more than all of the arithmetic, or
    where more than one entry in four is there.
    """

    def __init__(self, matrix: csr_array):
        rows, columns = matrix.shape
        self._sparse = matrix
        self._rows = rows
        dense_always = 4 * matrix.nnz > rows * columns
        self._dense_up_to = sys.maxsize if dense_always else DENSE_BELOW // max(rows * columns, 1)
        self._dense = matrix.toarray() if self._dense_up_to > 0 else None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return (self._dense if x.shape[1] <= self._dense_up_to else self._sparse) @ x
        flat = x.reshape(len(x), math.prod(x.shape[1:]))
        chosen = self._dense if flat.shape[1] <= self._dense_up_to else self._sparse
        return (chosen @ flat).reshape((self._rows, *x.shape[1:]))
