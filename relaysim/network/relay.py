"""RelaySum: running sums relayed along the edges of a tree, or of two that share the coordinates."""

from __future__ import annotations

import functools
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.sparse import csgraph, csr_array

from relaysim.network.arrivals import Arrivals
from relaysim.network.hung import Piece, add_up, hung, renew
from relaysim.network.products import segment_sum
from relaysim.support.workspace import Workspace
from relaysim.topologies import Topology

__all__ = ["LossyTreeRelay", "Mail", "PairMail", "PairRelay", "TreeRelay"]


class Mail(NamedTuple):
    """RelaySum's messages on one tree: what crossed each directed edge in the last round.

    ``values (E, d[, r])`` and ``counts (E,)`` have one row per directed edge, as they lie in
    `relaysim.network.hung.Hung`: the running sum of payloads, and of how many workers it holds. ``received
    (n, d[, r])`` and ``heard (n,)`` are their sums over each receiver's edges.
    """

    values: np.ndarray
    counts: np.ndarray
    received: np.ndarray
    heard: np.ndarray


class PairMail(NamedTuple):
    """The messages on two trees: even coordinates travel on the first, odd ones on the second."""

    first: Mail
    second: Mail


class TreeRelay:
    """RelaySum on one tree, in O(E · d) whatever the degrees.

    With S_i the sum of what worker i received, the message on i→j is payload_i + S_i − (what j sent
    to i). On a tree the subtraction is safe: a rounding error travels outward and dies at the leaves.
    """

    def __init__(self, tree: Topology, workspace: Workspace):
        self.n = tree.n
        self.edges = hung(tree)
        self._adjacency = tree.adjacency
        self._workspace = workspace
        self._settled_counts: np.ndarray | None = None
        self._settled_heard: np.ndarray | None = None
        self._pieces: dict[tuple, list[Piece]] = {}

    def empty(self, x: np.ndarray) -> Mail:
        """Messages before the first round: nothing sent, nobody heard."""
        edges = (len(self.edges.src), *x.shape[1:])
        counts = np.zeros(edges[0], dtype=np.int64)
        heard = np.zeros(self.n, dtype=np.int64)
        # Zeros that take no memory, since nothing is written into what was received.
        return Mail(np.broadcast_to(0.0, edges), counts, np.broadcast_to(0.0, x.shape), heard)

    def send(self, payload: np.ndarray, mail: Mail) -> Mail:
        """One round; see `Network.relay`."""
        old, counts, received, heard = mail
        if counts is not self._settled_counts:
            counts, heard = self._count(counts, heard)
        lend = self._workspace
        shape = payload.shape
        pieces = self._pieces.get(shape)
        if pieces is None:
            pieces = self._pieces[shape] = self.edges.pieces(payload)
        total, before = lend.scratch(shape), received
        values, received = lend.fresh(old.shape), lend.fresh(shape)
        total[0] = payload[0] + before[0]
        received[0] = 0
        for piece in pieces:
            # Piece by piece, as long as the cache has them.
            add_up(piece.children, payload, before, total)
            renew(piece, total, old, values, received)
        return Mail(values, counts, received, heard)

    def inbox(self, mail: Mail) -> tuple[np.ndarray, np.ndarray | None]:
        """What each worker received, ``(n, d[, r])``, and n − Cnt_i, which broadcasts against it.

        The second is how many workers i has not heard from; None once everyone is heard everywhere.
        """
        if mail.heard is self._settled_heard:
            return mail.received, None
        missing = self.n - 1 - mail.heard
        return mail.received, missing.reshape((self.n,) + (1,) * (mail.received.ndim - 1))

    def resume(self, mail: Mail) -> None:
        """See `Network.resume`."""
        if (mail.heard == self.n - 1).all():
            self._settled_counts, self._settled_heard = mail.counts, mail.heard

    def undelivered(self, mail: Mail, overlap: bool) -> np.ndarray:
        """See `Network.undelivered`."""
        return np.tensordot(self._ahead[bool(overlap)], mail.values, axes=1)

    @functools.cached_property
    def _ahead(self) -> tuple[np.ndarray, np.ndarray]:
        return _ahead(self._adjacency, self.edges.src, self.edges.dst)

    def _count(self, counts: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts follow the same rule as messages, with payload 1, until everyone is heard."""
        src, dst, reverse = self.edges[:3]
        counts = 1 + heard[src] - counts[reverse]
        heard = np.bincount(dst, counts, self.n).astype(np.int64)
        if (heard == self.n - 1).all():
            self._settled_counts, self._settled_heard = counts, heard
        return counts, heard


def _ahead(adjacency: csr_array, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether worker i lies beyond the head of edge e, without and with the head; ``(n, E)``."""
    hops = csgraph.shortest_path(adjacency, method="D", unweighted=True)
    to_head, to_tail = hops[:, dst], hops[:, src]
    ahead = to_head < to_tail
    return (ahead & (to_head > 0)).astype(float), ahead.astype(float)


class LossyTreeRelay:
    """RelaySum on one tree whose messages, with their counts, may get lost.

    Messages are sorted by receiver, as everywhere where some of them are told from others. Counts differ
    between replicas, ``(E, 1[, r])``, and do not settle.
    """

    def __init__(self, tree: Topology, arrivals: Arrivals | None):
        self.n = tree.n
        self._src, self._dst, self._reverse = tree.src, tree.dst, tree.reverse
        self._adjacency, self._arrivals = tree.adjacency, arrivals
        self._edges = np.stack([self._src, self._dst], axis=1)
        self._sum = segment_sum(np.concatenate([[0], np.cumsum(tree.degrees)]))

    def empty(self, x: np.ndarray) -> Mail:
        """Messages before the first round: nothing sent, nobody heard."""
        edges, replicas = len(self._src), x.shape[2:]
        counts, heard = np.zeros((edges, 1, *replicas)), np.zeros((self.n, 1, *replicas))
        return Mail(np.zeros((edges, *x.shape[1:])), counts, np.zeros(x.shape), heard)

    def send(self, payload: np.ndarray, mail: Mail) -> Mail:
        """One round; see `Network.relay`."""
        values = (payload + mail.received)[self._src] - mail.values[self._reverse]
        counts = (1 + mail.heard)[self._src] - mail.counts[self._reverse]
        values, counts = self._arrived(values, counts)
        return Mail(values, counts, self._sum(values), self._sum(counts))

    def _arrived(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What receivers have of messages that were sent, which may be overwritten."""
        assert self._arrivals is not None
        arrived = self._arrivals(self._edges)
        values *= arrived
        counts *= arrived
        return values, counts

    def resume(self, mail: Mail) -> None:
        """See `Network.resume`: counts never settle."""

    def undelivered(self, mail: Mail, overlap: bool) -> np.ndarray:
        """See `Network.undelivered`."""
        ahead = _ahead(self._adjacency, self._src, self._dst)
        return np.tensordot(ahead[bool(overlap)], mail.values, axes=1)

    def inbox(self, mail: Mail) -> tuple[np.ndarray, np.ndarray]:
        """What each worker received, and how many workers it has not heard from, ``(n, 1[, r])``."""
        return mail.received, self.n - 1 - mail.heard


AnyTreeRelay: TypeAlias = TreeRelay | LossyTreeRelay


class PairRelay:
    """RelaySum on two trees, each carrying every other coordinate."""

    def __init__(self, first: AnyTreeRelay, second: AnyTreeRelay):
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

    def resume(self, mail: PairMail) -> None:
        """See `Network.resume`."""
        for relay, part in zip(self._relays, mail, strict=True):
            relay.resume(part)

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
