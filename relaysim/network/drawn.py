"""Weighted averages where every replica has drawn weights of its own."""

from __future__ import annotations

import functools

import numpy as np
from scipy.sparse import csr_array

from relaysim.mixing.drawn import Draw
from relaysim.network.arrivals import Arrivals
from relaysim.network.slots import Slots, slotted

__all__ = ["DrawnWeights", "EdgeNumbers"]

# Numbers below this are sorted in the time of reading them.
_SHORT = 1 << 16


class EdgeNumbers:
    """The edges that drawn messages may cross, by both their ends, and which messages arrive over them.

    Args:
        edges: ``(E, 2)``, sender and receiver.
        n: workers.
        arrivals: of the run.
    """

    def __init__(self, edges: np.ndarray, n: int, arrivals: Arrivals):
        order = np.lexsort((edges[:, 0], edges[:, 1]))
        self._edges, self._n, self._arrivals = edges[order], n, arrivals
        self._keys = self._edges[:, 1] * n + self._edges[:, 0]

    def arrived(
        self, receivers: np.ndarray, senders: np.ndarray, replicas: np.ndarray, further: int
    ) -> np.ndarray:
        """1 for messages that arrive and 0 for the others, ``(messages,)``.

        Every edge is asked, whether something crosses it or not, so that no replica depends on another.
        """
        arrived = self._arrivals(self._edges, further).reshape(len(self._edges), -1)
        place = np.searchsorted(self._keys, receivers * self._n + senders)
        return arrived[place, replicas if arrived.shape[1] > 1 else 0]


class DrawnWeights:
    """What a network asks of weights, see `relaysim.network.gossip.Weights`, for those of a draw.

    Args:
        draw: whose messages they are.
        n: workers.
        owner: ``(r,)``, the stream of each replica, or None without replicas.
        edges: where messages may be lost.

    Within, all workers of all replicas are rows, ``(n r, d)``: one sparse matrix is all of theirs.
    ``vectors``: how many cross the edges, ``(r,)`` where there are replicas.
    """

    def __init__(self, draw: Draw, n: int, owner: np.ndarray | None, edges: EdgeNumbers | None):
        self._edges = edges
        streams = np.zeros(1, dtype=np.intp) if owner is None else owner
        message, replica = _of_replicas(draw.streams, streams)
        r, rows = len(streams), n * len(streams)
        to = draw.receivers[message] * r + replica
        order = np.argsort(to.astype(np.uint16) if rows < _SHORT else to, kind="stable")
        message, self._replica, self._to = message[order], replica[order], to[order]
        self._receiver, self._sender = draw.receivers[message], draw.senders[message]
        self._from = self._sender * r + self._replica
        self._weight = draw.weights[message]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(self._to, minlength=rows))])
        sent = np.bincount(self._replica, minlength=r)
        self.vectors: int | np.ndarray = int(sent[0]) if owner is None else sent

    @functools.cached_property
    def slots(self) -> Slots:
        """What everyone hears, message by message."""
        rows = len(self._starts) - 1
        r = np.size(self.vectors)
        found = slotted(self._to, self._sender, self._weight, rows, np.arange(rows) // r)
        if np.ndim(self.vectors) == 0:
            return found
        shape = (-1, rows // r, r)
        return Slots(found.senders.reshape(shape), found.weights.reshape(shape))

    @property
    def entry_mix(self) -> DrawnWeights:
        """Itself."""
        return self

    def product(self, x: np.ndarray) -> np.ndarray:
        """W x."""
        rows = _as_rows(x)
        return _from_rows(self._own * rows + self._by_sender @ rows, x)

    def change(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        """(W − I) x, to the precision of the differences between neighbours."""
        change = self._sum(self._weight, self._differences(_as_rows(x)))
        if laziness:
            change *= 1 - laziness
        return _from_rows(change, x)

    @functools.cached_property
    def lossy(self) -> _LossyDraw:
        """W' x and (W' − I) x, see `relaysim.network.gossip.LossyMix`."""
        return _LossyDraw(self)

    def lossy_change(self, x: np.ndarray, laziness: float = 0, further: int = 0) -> np.ndarray:
        """(W' − I) x."""
        assert self._edges is not None
        arrived = self._edges.arrived(self._receiver, self._sender, self._replica, further)
        weight = self._weight * arrived
        change = self._sum(weight, self._differences(_as_rows(x)))
        heard, own = self._sum(weight, np.ones((len(weight), 1))), self._own
        if laziness:
            change *= 1 - laziness
            heard *= 1 - laziness
            own = (1 - laziness) * own + laziness
        return _from_rows(_divided(change, own + heard), x)

    def neighbours_with(self, kept: np.ndarray) -> np.ndarray:
        """How many of those whom a worker hears have each entry set, ``(n, d[, r])``."""
        sent = _as_rows(kept).take(self._from, 0)
        return _from_rows(self._sum(np.ones(len(sent)), sent), kept)

    def mix(
        self, x: np.ndarray, kept: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """W' x where not all entries cross, see `relaysim.network.gossip.EntryMix`."""
        sent = _as_rows(kept).take(self._from, 0) & _as_rows(wanted).take(self._to, 0)
        change = self._sum(self._weight, self._differences(_as_rows(x)) * sent)
        total = self._own + self._sum(self._weight, sent.astype(float))
        each = np.count_nonzero(sent, axis=1)
        entries = np.bincount(self._replica, weights=each, minlength=np.size(self.vectors))
        return x + _from_rows(_divided(change, total), x), entries.reshape(np.shape(self.vectors))

    @functools.cached_property
    def _own(self) -> np.ndarray:
        """W_ii, ``(n r, 1)``."""
        return 1 - self._sum(self._weight, np.ones((len(self._weight), 1)))

    @functools.cached_property
    def _by_sender(self) -> csr_array:
        """W without its diagonal."""
        rows = len(self._starts) - 1
        return csr_array((self._weight, self._from, self._starts), shape=(rows, rows))

    def _differences(self, rows: np.ndarray) -> np.ndarray:
        """x_j − x_i of each message."""
        difference = rows.take(self._from, 0)
        difference -= rows.take(self._to, 0)
        return difference

    def _sum(self, weight: np.ndarray, of_messages: np.ndarray) -> np.ndarray:
        """Σ over each receiver's messages, ``(messages, d)`` to ``(n r, d)``."""
        count = len(weight)
        shape = (len(self._starts) - 1, count)
        return csr_array((weight, np.arange(count), self._starts), shape=shape) @ of_messages


class _LossyDraw:
    """A draw's weights where messages are lost."""

    def __init__(self, weights: DrawnWeights):
        self._weights = weights

    def __call__(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        return self._weights.lossy_change(x, laziness)

    def mix(self, x: np.ndarray, further: int = 0) -> np.ndarray:
        return x + self._weights.lossy_change(x, further=further)


def _of_replicas(streams: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each message once for every replica that has its stream, and that replica."""
    r = len(owner)
    if (owner == np.arange(r)).all() and streams.max(initial=0) < r:
        return np.arange(len(streams)), streams
    counts = np.bincount(streams, minlength=int(owner.max()) + 1)
    starts = np.cumsum(counts) - counts
    each = counts[owner]
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    message = np.argsort(streams, kind="stable")[np.repeat(starts[owner], each) + within]
    return message, np.repeat(np.arange(r), each)


def _as_rows(x: np.ndarray) -> np.ndarray:
    """x ``(n, d[, r])`` as ``(n r, d)``."""
    if x.ndim == 2:
        return x
    return np.ascontiguousarray(np.moveaxis(x, 2, 1)).reshape(-1, x.shape[1])


def _from_rows(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What `_as_rows` undoes, in the shape of x."""
    if x.ndim == 2:
        return rows
    n, d, r = x.shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(n, r, d), 1, 2))


def _divided(change: np.ndarray, total: np.ndarray) -> np.ndarray:
    # Without weight on itself and with nobody heard, a worker keeps its own.
    return np.divide(change, total, out=np.zeros_like(change), where=total != 0)
