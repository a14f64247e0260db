"""What the loss of messages makes of the weights of a gossip matrix: of each row, exactly.

The weights that remain are a network's own, of what it makes of unit vectors; there is no second copy of the
rule. Those of a row depend on the messages to one worker alone, and messages with the same weight and the
same chance to arrive count as one kind, of which it matters how many arrive.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import comb

from relaysim.mixing.outcomes import MOST_OUTCOMES
from relaysim.network.gossip import Weights

__all__ = ["LostWeights", "lost_weights", "messages_of", "weights_left"]

# Weights and probabilities that are equal to so many digits are taken to be equal.
SAME_DIGITS = 14
# Numbers of unit vectors that are mixed at a time.
AT_A_TIME = 1 << 22


class LostWeights(NamedTuple):
    """Moments of the weights w'_e of messages, 0 of those that are lost; each row's w'_ii is the rest of 1.

    Attributes:
        mean: E w'_e, ``(E,)``.
        covariances: Cov(w'_e, w'_f) of the messages to each worker, ``(k, k)`` for each of the n.
        with_arrivals: Cov(w'_e, whether f arrives), likewise.
    """

    mean: np.ndarray
    covariances: list[np.ndarray]
    with_arrivals: list[np.ndarray]


def messages_of(W: csr_array) -> np.ndarray:
    """Sender and receiver of what crosses the edges with these weights, by receiver, ``(E, 2)``."""
    return _messages_and_weights(W)[0]


def _messages_and_weights(W: csr_array) -> tuple[np.ndarray, np.ndarray]:
    entries = W.tocoo()
    receiver, sender = entries.coords
    across = receiver != sender
    edges = np.stack([sender[across], receiver[across]], axis=1).astype(np.intp)
    order = np.lexsort((edges[:, 0], edges[:, 1]))
    return edges[order], entries.data[across][order]


def weights_left(W: csr_array, arrived: np.ndarray, laziness: float = 0.0) -> np.ndarray:
    """The weights w'_e of messages, of which those arrive that are True in ``arrived (E, K)``, ``(E, K)``.

    With a ``laziness`` λ they are those by which the lazy matrix moves, divided by 1 − λ: what a method that
    mixes as lazily with other weights has to be given.

    >>> import relaysim as rs
    >>> W = rs.mixing.metropolis(rs.topologies.chain(3))  # to 0, to 1 twice, to 2: each has weight 1/3
    >>> weights_left(W, np.array([[True], [True], [False], [True]])).ravel().round(4).tolist()
    [0.3333, 0.5, 0.0, 0.3333]
    """
    edges, n = messages_of(W), W.shape[0]
    found = np.empty(arrived.shape)
    size = max(AT_A_TIME // n**2, 1)
    for first in range(0, arrived.shape[1], size):
        some = arrived[:, first : first + size]
        weights = Weights(W, _Told(edges, some))  # type: ignore[arg-type]
        unit = np.zeros((n, n, some.shape[1]))
        unit[np.arange(n), np.arange(n)] = 1
        change = weights.lossy(unit, laziness)
        found[:, first : first + size] = change[edges[:, 1], edges[:, 0]] / (1 - laziness)
    return found


class _Told:
    """Which messages arrive, in the place of a run's `relaysim.network.arrivals.Arrivals`."""

    def __init__(self, edges: np.ndarray, arrived: np.ndarray):
        self._keys = edges[:, 1] * (edges.max(initial=0) + 1) + edges[:, 0]
        self._base = edges.max(initial=0) + 1
        self._arrived = arrived

    def __call__(self, edges: np.ndarray, further: int = 0) -> np.ndarray:
        place = np.searchsorted(self._keys, edges[:, 1] * self._base + edges[:, 0])
        return self._arrived[place][:, None]


class _Kinds(NamedTuple):
    """The messages to one worker by kind: which of them ``(k,)``, and each one's number in its kind."""

    of: np.ndarray
    rank: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray  # (K, kinds), how many of each may arrive
    chances: np.ndarray  # (K,)


def lost_weights(W: csr_array, arrive: np.ndarray, laziness: float) -> LostWeights:
    """The moments of what is left of W.

    Args:
        W: as used by a network.
        arrive: of each message, by `messages_of`, the probability to arrive, ``(E,)``; those to one worker
            arrive independently of each other.
        laziness: as for `weights_left`.

    Raises:
        ValueError: messages to one worker of too many kinds.
    """
    (edges, weights), n = _messages_and_weights(W), W.shape[0]
    offsets = np.searchsorted(edges[:, 1], np.arange(n + 1))
    rows = [slice(*offsets[i : i + 2]) for i in range(n)]
    kinds = [_kinds(weights[row], arrive[row], i) for i, row in enumerate(rows)]
    most = max(len(each.chances) for each in kinds)
    arrived = np.ones((len(edges), most), dtype=bool)
    for row, each in zip(rows, kinds, strict=True):
        which = each.rank[:, None] < each.counts[:, each.of].T
        arrived[row, : which.shape[1]] = which
    left = weights_left(W, arrived, laziness)
    mean, covariances, with_arrivals = np.empty(len(edges)), [], []
    for row, each in zip(rows, kinds, strict=True):
        mean[row], *others = _moments(each, left[row, : len(each.chances)])
        covariances.append(others[0])
        with_arrivals.append(others[1])
    return LostWeights(mean, covariances, with_arrivals)


def _kinds(weights: np.ndarray, arrive: np.ndarray, i: int) -> _Kinds:
    together = np.stack([weights, arrive], axis=1)
    known, of, sizes = np.unique(
        together.round(SAME_DIGITS), axis=0, return_inverse=True, return_counts=True
    )
    of = of.reshape(-1)
    count = math.prod((sizes + 1).tolist())
    if count > MOST_OUTCOMES:
        raise ValueError(
            f"worker {i} is sent {len(weights)} messages of {len(sizes)} kinds by weight and probability, of "
            f"which {count:.4g} sets may arrive, and {MOST_OUTCOMES} at most are listed; give weights or "
            f"probabilities that are equal, a topology with fewer neighbours, or simulate it"
        )
    rank = np.zeros(len(of), dtype=np.intp)
    for kind in range(len(sizes)):
        rank[of == kind] = np.arange(sizes[kind])
    counts = np.array(list(itertools.product(*(range(size + 1) for size in sizes))), dtype=np.intp)
    counts = counts.reshape(count, len(sizes))
    p = known[:, 1]
    chances = (comb(sizes, counts) * p**counts * (1 - p) ** (sizes - counts)).prod(axis=1)
    return _Kinds(of, rank, sizes, counts, chances)


def _moments(kinds: _Kinds, left: np.ndarray) -> tuple[np.ndarray, Any, Any]:
    """Of the messages to one worker, from the weights ``left (k, K)`` where the first of each kind arrive.

    Within a kind any are as likely to be those that arrive.
    """
    of, sizes, counts = kinds.of, kinds.sizes, kinds.counts
    first = kinds.rank == 0
    weight = np.zeros((len(sizes), len(kinds.chances)))
    weight[of[first]] = left[first]
    share = (counts / np.maximum(sizes, 1)).T
    pairs = (
        share[:, None] * share[None, :]
    )  # that one of a kind arrives and one of another, (C, C, K)
    of_one = np.arange(len(sizes))
    pairs[of_one, of_one] = share * ((counts - 1) / np.maximum(sizes - 1, 1)).T
    chances = kinds.chances
    own = (share * weight) @ chances
    own_square = (share * weight**2) @ chances
    both = np.einsum("cek,ck,ek,k->ce", pairs, weight, weight, chances, optimize=True)
    with_other = np.einsum("cek,ck,k->ce", pairs, weight, chances, optimize=True)
    arriving = share @ chances
    mean = own[of]
    second, arrivals = both[np.ix_(of, of)], with_other[np.ix_(of, of)]
    np.fill_diagonal(second, own_square[of])
    np.fill_diagonal(arrivals, mean)
    return (
        mean,
        second - np.outer(mean, mean),
        arrivals - np.outer(mean, arriving[of]),
    )
