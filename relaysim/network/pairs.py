"""Corrections that two neighbours make in opposite directions."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, triu

from relaysim.mixing.sequences import require_symmetric
from relaysim.network.products import Product

__all__ = ["PairExchange"]


class PairExchange:
    """Differences over undirected edges, and what comes of them; see `Network.exchange`.

    ``has_weight``: of each matrix, whether it has weight on each of ``pairs``, ``(E,)``.
    """

    def __init__(self, matrices: tuple[csr_array, ...]):
        require_symmetric(matrices)
        n = matrices[0].shape[0]
        above = [triu(W, k=1).tocoo() for W in matrices]
        keys = [part.coords[0] * np.int64(n) + part.coords[1] for part in above]
        union = np.unique(np.concatenate(keys))
        self._low, self._high = np.divmod(union, n)
        self.pairs = np.stack([self._low, self._high], axis=1)
        ends = np.concatenate([self._low, self._high])
        edges = np.tile(np.arange(len(union)), 2)
        self.has_weight: list[np.ndarray] = []
        self._sums: list[Product] = []
        for part, key in zip(above, keys, strict=True):
            weights = np.zeros(len(union))
            weights[np.searchsorted(union, key)] = part.data
            self.has_weight.append(weights != 0)
            signed = np.concatenate([weights, -weights])
            self._sums.append(Product(csr_array((signed, (ends, edges)), shape=(n, len(union)))))

    def differences(self, x: np.ndarray, k: int) -> np.ndarray:
        difference = x.take(self._high, 0, None, "clip")
        difference -= x.take(self._low, 0, None, "clip")
        difference[~self.has_weight[k]] = 0
        return difference

    def total(self, corrections: np.ndarray, k: int) -> np.ndarray:
        return self._sums[k](corrections)
