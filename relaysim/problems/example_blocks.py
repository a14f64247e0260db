"""Labelled examples laid out over workers, so that all workers multiply with theirs at once.

Dense examples are stacked as ``(workers, examples, features)``, with rows of zeros where a worker has
fewer; workers whose numbers of examples differ much stand in blocks of their own. Sparse ones are one
block-diagonal matrix. Rows of zeros have weight 0 and change nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from scipy.sparse import csr_array, issparse

from relaysim.problems.matrices import Matrix
from relaysim.problems.rows_by_worker import multiplied

__all__ = ["Block", "DenseBlock", "Positions", "SparseBlock", "lay_out"]

# Rows of zeros are accepted up to this many entries, or this fraction of the entries that are needed;
# beyond that a worker starts a new block.
PADDING_ENTRIES, PADDING_FRACTION = 20_000, 0.25

#: Where drawn examples stand in the rows of a block: an index, or one for each axis.
Positions: TypeAlias = np.ndarray | tuple[np.ndarray, np.ndarray]
# (products, positions) → slopes
SlopesOf = Callable[[np.ndarray, Positions], np.ndarray]


def lay_out(features: Matrix, order: np.ndarray, sizes: np.ndarray) -> list[Block]:
    """Blocks of workers, each with a copy of its examples.

    Args:
        features: ``(N, p)``, an array or a scipy.sparse matrix.
        order: ``(N,)``, the rows of worker 0, then those of worker 1, …
        sizes: ``(n,)``, how many rows each worker has.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if issparse(features):
        rows = csr_array(features)[order]
        rows.sum_duplicates()
        return [SparseBlock(rows, order, sizes)]
    largest_first = np.argsort(-sizes, kind="stable")
    width = features.shape[1]
    blocks: list[list[int]] = []
    current: list[int] = []
    padding = needed = 0
    for worker in largest_first:
        size = int(sizes[worker])
        more = (int(sizes[current[0]]) - size) * width if current else 0
        if padding + more > max(PADDING_ENTRIES, PADDING_FRACTION * (needed + size * width)):
            blocks.append(current)
            current, padding, needed, more = [], 0, 0, 0
        current.append(int(worker))
        padding, needed = padding + more, needed + size * width
    blocks.append(current)
    found: list[Block] = []
    for workers in map(sorted, blocks):
        rows = [order[starts[worker] : starts[worker + 1]] for worker in workers]
        found.append(DenseBlock(features, rows, workers if len(blocks) > 1 else None))
    return found


class DenseBlock:
    """Examples of some workers, ``(b, m, p)``.

    Attributes:
        workers: their numbers, or a slice over all.
        rows: ``(b, m)``, which of the given examples stands where; −1 in rows of zeros.
    """

    def __init__(self, features: np.ndarray, rows: Sequence[np.ndarray], workers: list | None):
        self.workers = slice(None) if workers is None else np.array(workers)
        most = max(map(len, rows))
        self.rows = np.full((len(rows), most), -1)
        self.A = np.zeros((len(rows), most, features.shape[1]))
        for k, of_worker in enumerate(rows):
            self.rows[k, : len(of_worker)] = of_worker
            self.A[k, : len(of_worker)] = features[of_worker]

    @property
    def is_real(self) -> np.ndarray:
        """Which rows hold examples, ``(b, m)``."""
        return self.rows >= 0

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Each worker's products A_i x_i: ``(n, p, k)`` to ``(b, m, k)``."""
        return multiplied(self.A, x if isinstance(self.workers, slice) else x[self.workers])

    def backward(self, slopes: np.ndarray, out: np.ndarray) -> None:
        """A_iᵀ slopes_i into the rows of ``out`` ``(n, p, k)`` of these workers."""
        if isinstance(self.workers, slice):
            if out.shape[2] == 1:
                np.vecmat(slopes[..., 0], self.A, out=out[..., 0])
            else:
                np.matmul(self.A.transpose(0, 2, 1), slopes, out=out)
        elif out.shape[2] == 1:
            out[self.workers, :, 0] = np.vecmat(slopes[..., 0], self.A)
        else:
            out[self.workers] = np.matmul(self.A.transpose(0, 2, 1), slopes)

    @functools.cached_property
    def pooled(self) -> np.ndarray:
        """All examples one below the other, ``(b·m, p)``, a view."""
        return self.A.reshape(-1, self.A.shape[2])

    @functools.cached_property
    def squared_norms(self) -> np.ndarray:
        """‖a‖² of every example, ``(b, m)``."""
        return np.einsum("bmp,bmp->bm", self.A, self.A)

    def sum_by_worker(self, values: np.ndarray) -> np.ndarray:
        """Sums of ``(b, m)`` over each worker's examples, ``(b,)``."""
        return values.sum(axis=1)

    def positions(self, k: int) -> np.ndarray:
        """Which rows of ``pooled`` are those of the block's k-th worker."""
        return k * self.rows.shape[1] + np.flatnonzero(self.is_real[k])

    def sample(
        self, index: np.ndarray, x: np.ndarray, out: np.ndarray, slopes_of: SlopesOf
    ) -> None:
        """Forward and backward on drawn examples only.

        Args:
            index: ``(n, size)`` for all replicas, or ``(n, size, r)``: numbers within each worker.
            x: ``(n, p, k)``; with an index for each replica ``(n, p, c, r)``.
            out: as x, written in the rows of these workers.
            slopes_of: a function of the products and the positions drawn (which index arrays like
                ``rows``) that returns slopes, in place if it likes.
        """
        index = index if isinstance(self.workers, slice) else index[self.workers]
        x = x if isinstance(self.workers, slice) else x[self.workers]
        workers = np.arange(len(index))[:, None]
        if index.ndim == 2:
            drawn = self.A[workers, index]
            slopes = slopes_of(np.matmul(drawn, x), (workers, index))
            out[self.workers] = np.matmul(drawn.transpose(0, 2, 1), slopes)
            return
        index = index.transpose(2, 0, 1)
        drawn = self.A[workers, index]
        slopes = slopes_of(np.matmul(drawn, x.transpose(3, 0, 1, 2)), (workers, index))
        found = np.matmul(drawn.swapaxes(-1, -2), slopes)
        out[self.workers] = found.transpose(1, 2, 3, 0)


class SparseBlock:
    """Examples of all workers as one block-diagonal matrix ``(N, n·p)``.

    The same entries also form ``pooled`` ``(N, p)``: the two differ in their column numbers only.
    """

    workers = slice(None)

    def __init__(self, pooled: csr_array, order: np.ndarray, sizes: np.ndarray):
        self.pooled, self.rows = pooled, order
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        count, width = pooled.shape
        columns = len(sizes) * width
        kind = np.int32 if columns < 2**31 else np.int64
        indices = pooled.indices.astype(kind)
        entries = np.diff(pooled.indptr[self.starts])
        indices += np.repeat(np.arange(0, columns, width, dtype=kind), entries)
        self._diagonal = csr_array((pooled.data, indices, pooled.indptr), shape=(count, columns))
        self._transposed = self._diagonal.T

    @property
    def is_real(self) -> np.ndarray:
        """Which rows hold examples, ``(N,)``: all."""
        return np.ones(len(self.rows), dtype=bool)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Each worker's products A_i x_i: ``(n, p, k)`` to ``(N, k)``."""
        if x.shape[2] == 1:
            return (self._diagonal @ x.reshape(-1))[:, None]
        return self._diagonal @ x.reshape(-1, x.shape[2])

    def backward(self, slopes: np.ndarray, out: np.ndarray) -> None:
        """A_iᵀ slopes_i into ``out`` ``(n, p, k)``."""
        if slopes.shape[1] == 1:
            slopes = slopes[:, 0]
        out[...] = (self._transposed @ slopes).reshape(out.shape)

    @functools.cached_property
    def squared_norms(self) -> np.ndarray:
        """‖a‖² of every example, ``(N,)``."""
        return np.asarray(self.pooled.multiply(self.pooled).sum(axis=1)).ravel()

    def sum_by_worker(self, values: np.ndarray) -> np.ndarray:
        """Sums of ``(N,)`` over each worker's examples, ``(n,)``."""
        return np.add.reduceat(values, self.starts[:-1])

    def positions(self, k: int) -> np.ndarray:
        """Which rows of ``pooled`` are those of worker k."""
        return np.arange(self.starts[k], self.starts[k + 1])

    def sample(
        self, index: np.ndarray, x: np.ndarray, out: np.ndarray, slopes_of: SlopesOf
    ) -> None:
        """Forward and backward on drawn examples only; see `DenseBlock.sample`."""
        if index.ndim == 2:
            drawn = (index + self.starts[:-1, None]).ravel()
            matrix = self._diagonal[drawn]
            slopes = slopes_of(matrix @ x.reshape(-1, x.shape[2]), drawn)
            out[...] = (matrix.T @ slopes).reshape(out.shape)
            return
        # A block of the diagonal for every replica as well.
        n, p, c, r = x.shape
        drawn = (index.transpose(2, 0, 1) + self.starts[:-1, None]).ravel()
        matrix = self._diagonal[drawn]
        lengths = np.diff(matrix.indptr).reshape(r, -1).sum(axis=1)
        indices = matrix.indices.astype(np.int64) + np.repeat(np.arange(r) * n * p, lengths)
        matrix = csr_array((matrix.data, indices, matrix.indptr), shape=(len(drawn), r * n * p))
        slopes = slopes_of(matrix @ x.transpose(3, 0, 1, 2).reshape(-1, c), drawn)
        out[...] = (matrix.T @ slopes).reshape(r, n, p, c).transpose(1, 2, 3, 0)


Block: TypeAlias = DenseBlock | SparseBlock
