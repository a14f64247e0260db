"""What everyone hears, message by message: for rules that look at each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from relaysim.support.gathering import rows_at

__all__ = ["Heard", "Slots", "slotted"]


class Heard(NamedTuple):
    """Everyone's first message, second, and so on.

    ``vectors (k, n, d[, r])``, and ``weights (k, n, 1[, r])``, 0 where a worker has fewer, whose vector then
    is its own.
    """

    vectors: np.ndarray
    weights: np.ndarray


class Slots:
    """Whom everyone hears in its first message, in its second, and so on.

    Args:
        senders: ``(k, n[, r])``; a worker with fewer messages hears itself.
        weights: of the same shape, 0 there.
    """

    def __init__(self, senders: np.ndarray, weights: np.ndarray):
        self.senders, self.weights = senders, weights

    @staticmethod
    def of(W: csr_array) -> Slots:
        """Those of one matrix, without its diagonal."""
        entries = W.tocoo()
        row, column = entries.coords
        across = (row != column) & (entries.data != 0)
        order = np.lexsort((column[across], row[across]))
        row, column, data = (part[across][order] for part in (row, column, entries.data))
        return slotted(row, column, data, W.shape[0], np.arange(W.shape[0]))

    def hear(self, x: np.ndarray) -> Heard:
        """Of what everyone sends, ``(n, d[, r])``."""
        weights = self.weights_for(x)
        return Heard(self.by_sender(x), weights)

    def weights_for(self, x: np.ndarray) -> np.ndarray:
        """What messages count with, ``(k, n, 1[, r or 1])``."""
        found = self.weights[:, :, None]
        return found[..., None] if found.ndim == x.ndim else found

    def by_sender(self, x: np.ndarray) -> np.ndarray:
        """What each sender has, ``(n, d[, r])``, as what is heard, ``(k, n, d[, r])``."""
        if self.senders.ndim == 2:
            return x.take(self.senders, 0)
        k, n, r = self.senders.shape
        return rows_at(x, self.senders.reshape(k * n, r)).reshape(k, *x.shape)


def slotted(
    receivers: np.ndarray, senders: np.ndarray, weights: np.ndarray, rows: int, own: np.ndarray
) -> Slots:
    """Messages sorted by receiver, below ``rows``, as slots ``(k, rows)``; ``own (rows,)`` fills them up."""
    counts = np.bincount(receivers, minlength=rows)
    starts = np.cumsum(counts) - counts
    slot = np.arange(len(receivers)) - starts[receivers]
    shape = (int(counts.max(initial=0)), rows)
    found, of_each = np.broadcast_to(own, shape).copy(), np.zeros(shape)
    found[slot, receivers], of_each[slot, receivers] = senders, weights
    return Slots(found, of_each)
