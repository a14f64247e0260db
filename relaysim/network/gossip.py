"""Weighted averages of neighbours' vectors, and what lost messages make of them."""

from __future__ import annotations

import functools

import numpy as np
from scipy.sparse import csr_array

from relaysim.mixing.accelerated import disagreement_left, fast_mix
from relaysim.mixing.rounds import SeveralRounds, is_several_rounds, rounds_of
from relaysim.network.arrivals import Arrivals
from relaysim.network.products import Product
from relaysim.network.slots import Slots

__all__ = ["EntryMix", "LossyMix", "MixChange", "RoundsChange", "Weights", "entries_by_row"]


class Weights:
    """One gossip matrix in the ways that a network uses it; what a method does not use is never built.

    ``vectors``: how many cross the edges when it is used.
    """

    def __init__(self, W: csr_array, arrivals: Arrivals | None):
        self.matrix = W
        self._arrivals = arrivals
        one = W.one_round if is_several_rounds(W) else W
        self.vectors = rounds_of(W) * int(one.nnz - np.count_nonzero(one.diagonal()))
        self._faster: dict[int, Weights] = {}

    @functools.cached_property
    def of_others(self) -> np.ndarray:
        """1 − W_ii, ``(n,)``, or 1 where that is 0."""
        weights = 1 - self.matrix.diagonal()
        return np.where(weights == 0, 1.0, weights)

    @functools.cached_property
    def product(self) -> Product:
        """x → W x."""
        return Product(self.matrix)

    @functools.cached_property
    def change(self) -> MixChange | RoundsChange:
        """x → (W − I) x."""
        W = self.matrix
        # Many rounds on a small graph touch more edges than all that their matrix has.
        by_round = is_several_rounds(W) and rounds_of(W) * W.one_round.nnz < W.nnz
        return RoundsChange(W) if by_round else MixChange(W)

    @functools.cached_property
    def left(self) -> float:
        """‖W − J‖₂, of a symmetric W."""
        return disagreement_left(self.matrix)

    def faster(self, rounds: int) -> Weights:
        """So many rounds with this matrix as `relaysim.mixing.fast_mix` makes them."""
        if rounds not in self._faster:
            one = csr_array(self.matrix)
            made = Weights(fast_mix(one, rounds), self._arrivals)
            made.vectors = rounds * self.vectors
            self._faster[rounds] = made
        return self._faster[rounds]

    @functools.cached_property
    def lossy(self) -> LossyMix:
        """Both where messages are lost."""
        assert self._arrivals is not None
        return LossyMix(self.matrix, self.product, self._arrivals)

    @functools.cached_property
    def slots(self) -> Slots:
        """What everyone hears, message by message."""
        return Slots.of(self.matrix)

    @functools.cached_property
    def entry_mix(self) -> EntryMix:
        """x → W' x where not all entries cross an edge."""
        return EntryMix(self.matrix)


def entries_by_row(
    W: csr_array, diagonal: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the entries of a matrix, in order, their columns, where each row begins, and the entries.

    Args:
        W: ``(n, n)``.
        diagonal: whether entries on it are among them.
    """
    entries = W.tocoo()
    row, column = (each.astype(np.intp) for each in entries.coords)
    order = np.lexsort((column, row))
    if not diagonal:
        order = order[row[order] != column[order]]
    row, column = row[order], column[order]
    return row, column, np.searchsorted(row, np.arange(W.shape[0] + 1)), entries.data[order]


class MixChange:
    """(W − I) x as Σ_j W_ij (x_j − x_i).

    Its rounding errors are relative to the differences between neighbours and not to x, and cancel
    exactly over the two directions of an edge. Methods whose corrections must keep their sum need
    that: an error in D²'s correction ends up in its fixed point divided by γ.
    """

    def __init__(self, W: csr_array):
        self._to, self._from, self._offsets, self._weights = entries_by_row(W, diagonal=False)

    def __call__(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        low, high, total = self.by_pair
        difference = x.take(high, 0, None, "clip")
        difference -= x.take(low, 0, None, "clip")
        change = total(difference)
        if laziness:
            change *= 1 - laziness
        return change

    @functools.cached_property
    def by_pair(self) -> tuple[np.ndarray, np.ndarray, Product]:
        """Both ends i < j of each edge, and what sums up its differences x_j − x_i, negated for j."""
        n = len(self._offsets) - 1
        low, high = np.minimum(self._to, self._from), np.maximum(self._to, self._from)
        pairs, pair = np.unique(low * n + high, return_inverse=True)
        signed = np.where(self._to == low, self._weights, -self._weights)
        low, high = np.divmod(pairs, n)
        return low, high, Product(csr_array((signed, pair, self._offsets), shape=(n, len(pairs))))

    @functools.cached_property
    def _sum(self) -> Product:
        """Σ_j W_ij times something of each message."""
        shape = (len(self._offsets) - 1, len(self._to))
        return Product(csr_array((self._weights, np.arange(shape[1]), self._offsets), shape=shape))

    def _differences(self, x: np.ndarray) -> np.ndarray:
        """x_j − x_i of each message."""
        difference = x.take(self._from, 0, None, "clip")
        difference -= x.take(self._to, 0, None, "clip")
        return difference


class RoundsChange:
    """(P − I) x of several rounds, made one by one: as precise as `MixChange`, and moving as far."""

    def __init__(self, P: SeveralRounds):
        self._one = MixChange(P.one_round)
        self._factors = P.factors.tolist()

    def __call__(self, x: np.ndarray, laziness: float = 0) -> np.ndarray:
        # With D_k = A_k − X it is D_{k+1} = a_k (D_k + (W − I) A_k) + (1 − a_k) D_{k−1}.
        change = self._factors[0] * self._one(x)
        before = np.zeros_like(x)
        for factor in self._factors[1:]:
            following = self._one(x + change)
            following += change
            following *= factor
            before *= 1 - factor
            following += before
            before, change = change, following
        if laziness:
            change *= 1 - laziness
        return change


class LossyMix(MixChange):
    """W' x and (W' − I) x, where W' lacks the weights of messages that were lost and has its rows rescaled.

    What was lost is taken away from what would have come: where little is lost that is little work. A lazy
    matrix loses its own weights: it is not the lazy matrix of W'.
    """

    def __init__(self, W: csr_array, product: Product, arrivals: Arrivals):
        super().__init__(W)
        self._product, self._arrivals = product, arrivals
        self._edges = np.stack([self._from, self._to], axis=1)
        n = W.shape[0]
        self._own = W.diagonal()
        self._degrees = np.bincount(self._to, minlength=n)
        self._of_others: np.ndarray = np.bincount(self._to, self._weights, n)
        self._places = _Places((n, 0, 0), self._to, self._weights)

    def mix(self, x: np.ndarray, further: int = 0) -> np.ndarray:
        """W' x."""
        return self._without_lost(self._product(x), x, further)

    def __call__(self, x: np.ndarray, laziness: float = 0, further: int = 0) -> np.ndarray:
        """(W' − I) x."""
        return self._without_lost(super().__call__(x, laziness), x, further, 1 - laziness)

    def _without_lost(
        self, mixed: np.ndarray, x: np.ndarray, further: int, share: float | None = None
    ) -> np.ndarray:
        """W' x made of W x; or, with a ``share`` of W's change, that of W'. It may overwrite the first."""
        shape = (*x.shape, 1)[:3]
        n, _, r = shape
        arrived = self._arrivals(self._edges, further)
        if arrived.size != len(self._edges) * r:
            arrived = np.repeat(arrived, r, axis=-1)
        lost = np.flatnonzero(~arrived)
        if not len(lost):
            return mixed
        if self._places.shape != shape:
            self._places = _Places(shape, self._to, self._weights)
        places = self._places
        result = np.ascontiguousarray(mixed).reshape(-1)
        edge, replica = np.divmod(lost, r)
        row, weight = places.row.take(lost), places.weight.take(lost)
        entries = places.receiver.take(lost)[:, None] + places.numbers
        # As rows (n, r, d), which is faster than to take each number by its place.
        values = x.reshape(shape).transpose(0, 2, 1)
        vectors = values[self._from.take(edge), replica]
        own: np.ndarray = self._own[:, None]
        others: np.ndarray = self._of_others[:, None]
        if share is not None:
            vectors -= values[self._to.take(edge), replica]
            weight *= share
            own, others = share * own + (1 - share), share * others
        vectors *= weight[:, None]
        # In order, also where several are taken from one: of replicas and alone the same.
        np.subtract.at(result, entries.reshape(-1), vectors.reshape(-1))
        left = own + (others - np.bincount(row, weight, n * r).reshape(n, r))
        counts = np.bincount(row, minlength=n * r).reshape(n, r)
        # A worker that hears nobody keeps its own, whatever weight it has on itself.
        silent = counts == self._degrees[:, None]
        left[silent | (counts == 0)] = 1
        rows = result.reshape(shape)
        rows *= (1 / left)[:, None]
        if silent.any():
            worker, replica = silent.nonzero()
            kept = x.reshape(shape)[worker, :, replica] if share is None else 0
            rows[worker, :, replica] = kept
        return result.reshape(mixed.shape)


class _Places:
    """Where the messages of all replicas ``(E, r)`` go in arrays ``(n, d, r)``, one after the other.

    Of each: its ``row``, worker · r + replica of who receives it, its ``weight``, and where in a raveled
    array the first number of its ``receiver`` is; the others are ``numbers (d,)`` from there.
    """

    def __init__(self, shape: tuple[int, ...], receivers: np.ndarray, weights: np.ndarray):
        self.shape = shape
        _, d, r = shape
        replica = np.arange(r)
        self.row = (receivers[:, None] * r + replica).reshape(-1)
        self.receiver = (receivers[:, None] * (d * r) + replica).reshape(-1)
        self.weight = np.repeat(weights, r)
        self.numbers = np.arange(d) * r


class EntryMix(MixChange):
    """W' x for the entries that cross each edge: a row shares out what it lacks over all that it has."""

    def __init__(self, W: csr_array):
        super().__init__(W)
        n, count = W.shape[0], len(self._from)
        ones = csr_array((np.ones(count), self._from, self._offsets), shape=(n, n))
        self.neighbours_with = Product(ones)
        self._own = W.diagonal()

    def mix(
        self, x: np.ndarray, kept: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """W' x, and how many entries crossed all edges, ``()`` or ``(r,)``."""
        sent = kept.take(self._from, 0) & wanted.take(self._to, 0)
        change = self._sum(self._differences(x) * sent)
        total = self._sum(sent.astype(float))
        total += self._own.reshape((-1,) + (1,) * (x.ndim - 1))
        np.divide(change, total, out=change, where=total != 0)
        return x + change, np.count_nonzero(sent, axis=(0, 1))
