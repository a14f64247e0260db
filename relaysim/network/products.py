"""Sums and products along the first axis of stacked vectors, each in the fastest way for its size."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

__all__ = ["Product", "segment_sum"]

# Multiplications in a dense product that cost as much as calling a sparse one.
DENSE_BELOW = 1 << 15
# Chains, rings and binary trees are summed neighbour by neighbour instead of by a matrix product.
MOST_SLOTS = 4


def segment_sum(offsets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
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
    return Product(ones)


def _sum_slots(first: np.ndarray, others: list, values: np.ndarray) -> np.ndarray:
    total = values.take(first, 0, None, "clip")
    for rows, edges in others:
        part = total[rows]
        part += values.take(edges, 0, None, "clip")
    return total


class Product:
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

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The product, in ``out`` if that is given, for ``(m, ·)`` without further axes."""
        if x.ndim == 2:
            chosen = self._dense if x.shape[1] <= self._dense_up_to else self._sparse
            if out is None:
                return chosen @ x
            if isinstance(chosen, np.ndarray):
                return np.matmul(chosen, x, out=out)
            out[:] = chosen @ x
            return out
        flat = x.reshape(len(x), math.prod(x.shape[1:]))
        chosen = self._dense if flat.shape[1] <= self._dense_up_to else self._sparse
        return (chosen @ flat).reshape((self._rows, *x.shape[1:]))
