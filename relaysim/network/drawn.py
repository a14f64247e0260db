"""Weighted averages where every replica has drawn weights of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csc_array

from relaysim.mixing.draws import Draw, Peers
from relaysim.network.arrivals import Arrivals
from relaysim.network.slots import Slots, slotted
from relaysim.support.gathering import row_places

__all__ = ["DrawnWeights", "EdgeNumbers", "PeerWeights", "SharedWeights"]


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
        all_of_them = self._arrivals.at_all(self._edges, further)
        place = np.searchsorted(self._keys, receivers * self._n + senders)
        arrived = all_of_them[place, replicas if all_of_them.shape[1] > 1 else 0]
        self._arrivals.count(senders[~arrived], replicas[~arrived])
        return arrived


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
        message, self._replica = _of_replicas(draw.streams, streams)
        r = len(streams)
        self._rows = n * r
        self._receiver, self._sender = draw.receivers[message], draw.senders[message]
        self._to = self._receiver * r + self._replica
        self._from = self._sender * r + self._replica
        self._weight = draw.weights[message]
        sent = np.bincount(self._replica, minlength=r)
        self.vectors: int | np.ndarray = int(sent[0]) if owner is None else sent

    @functools.cached_property
    def slots(self) -> Slots:
        """What everyone hears, message by message."""
        rows, r = self._rows, np.size(self.vectors)
        order = np.argsort(self._to, kind="stable")
        to, sender, weight = (part[order] for part in (self._to, self._sender, self._weight))
        found = slotted(to, sender, weight, rows, np.arange(rows) // r)
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
        mixed = self.change(x)
        mixed += x
        return mixed

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

    def _differences(self, rows: np.ndarray) -> np.ndarray:
        """x_j − x_i of each message."""
        difference = rows.take(self._from, 0)
        difference -= rows.take(self._to, 0)
        return difference

    def _sum(self, weight: np.ndarray, of_messages: np.ndarray) -> np.ndarray:
        """Σ over each receiver's messages, ``(messages, d)`` to ``(n r, d)``."""
        self._summed.data = weight
        return self._summed @ of_messages

    @functools.cached_property
    def _summed(self) -> csc_array:
        """Messages of each receiver, of any weights: set as they are, which takes a tenth of the checks."""
        count = len(self._to)
        summed = csc_array((self._rows, count))
        summed.indices, summed.indptr = self._to, np.arange(count + 1)
        return summed


class _Alike:
    """What is less often asked of weights that are alike in some way: from each message to each replica.

    Args: as of `DrawnWeights`, with a function that makes the draw.
    """

    def __init__(
        self,
        draw: Callable[[], Draw],
        n: int,
        owner: np.ndarray | None,
        edges: EdgeNumbers | None,
    ):
        self._made = lambda: DrawnWeights(draw(), n, owner, edges)

    @functools.cached_property
    def entry_mix(self) -> DrawnWeights:
        """What mixes entry by entry."""
        return self._made()

    @property
    def slots(self) -> Slots:
        """What everyone hears, message by message."""
        return self.entry_mix.slots

    @property
    def lossy(self) -> _LossyDraw:
        """W' x and (W' − I) x, see `relaysim.network.gossip.LossyMix`."""
        return self.entry_mix.lossy


class SharedWeights(_Alike):
    """The same for replicas that all have one stream.

    Args: as of `DrawnWeights`.
    """

    def __init__(self, draw: Draw, n: int, owner: np.ndarray, edges: EdgeNumbers | None):
        super().__init__(lambda: draw, n, owner, edges)
        self._one = DrawnWeights(draw, n, None, None)
        self.vectors = np.full(len(owner), self._one.vectors)

    def product(self, x: np.ndarray) -> np.ndarray:
        """W x."""
        return self._one.product(x.reshape(len(x), -1)).reshape(x.shape)

    def change(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        """(W − I) x, to the precision of the differences between neighbours."""
        return self._one.change(x.reshape(len(x), -1), laziness).reshape(x.shape)


class PeerWeights(_Alike):
    """The same for messages that all count alike, see `relaysim.mixing.drawn.Peers`.

    Args: as of `DrawnWeights`.
    """

    def __init__(self, peers: Peers, n: int, owner: np.ndarray | None, edges: EdgeNumbers | None):
        super().__init__(peers.as_draw, n, owner, edges)
        senders, self._each = peers
        sent = np.count_nonzero(senders != np.arange(n)[:, None], axis=(0, 1))
        self.vectors: int | np.ndarray = int(sent[0]) if owner is None else sent[owner]
        if senders.shape[2] == 1:
            senders = senders[..., 0]
        elif owner is not None and not np.array_equal(owner, np.arange(senders.shape[2])):
            senders = senders[..., owner]
        self._senders = senders
        self._places: np.ndarray | None = None

    def product(self, x: np.ndarray) -> np.ndarray:
        """W x."""
        total = x * (1 - len(self._senders) * self._each)
        for heard in self._heard(x):
            heard *= self._each
            total += heard
        return total

    def change(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        """(W − I) x, to the precision of the differences between neighbours."""
        change: np.ndarray | None = None
        for difference in self._heard(x):
            difference -= x
            change = difference if change is None else np.add(change, difference, out=change)
        if change is None:
            return np.zeros_like(x)
        change *= self._each * (1 - laziness)
        return change

    def _heard(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """What everyone hears first, second, …, each ``(n, d[, r])`` and new."""
        if self._senders.ndim == 2:
            for senders in self._senders:
                yield x.take(senders, 0)
            return
        if self._places is None or self._places.shape[2] != x.shape[1]:
            each = [row_places(senders, x.shape[1]) for senders in self._senders]
            self._places = np.stack(each) if len(each) > 1 else each[0][None]
        for places in self._places:
            yield x.take(places)


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
