"""Rows of some workers: a worker's matrix is looked up once for those of its own that follow each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["by_worker", "multiplied"]

# Matrices are copied out in pieces of this size: as many at once as the cache holds until they are used.
COPIED_BYTES = 1 << 18


def by_worker(
    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray],
    workers: np.ndarray,
    x: np.ndarray,
    matrix_bytes: int,
) -> np.ndarray:
    """What becomes of row k of x ``(k, d)`` by the matrix of worker ``workers[k]``, in the same shape.

    Rows of one worker that follow each other, as replicas' do, share what is copied of its matrix.

    Args:
        multiply: a function of workers ``(u,)``, which may be there again, and rows of theirs as columns
            ``(u, d, width)``, to the same shape.
        workers: ``(k,)``, in any order.
        x: ``(k, d)``.
        matrix_bytes: of a worker's matrix.

    >>> matrices, workers = np.array([2.0, 3.0, 5.0]), np.array([2, 2, 0, 0])
    >>> def multiply(chosen, columns):
    ...     return matrices[chosen][:, None, None] * columns
    >>> by_worker(multiply, workers, np.arange(4.0)[:, None], matrix_bytes=8).ravel().tolist()
    [0.0, 5.0, 4.0, 6.0]
    """
    changes = (workers[1:] != workers[:-1]).nonzero()[0]
    width = 1
    if len(changes) < len(workers) - 1:
        # All runs of a worker's rows are so many times as long.
        width = int(np.gcd.reduce(changes + 1, initial=len(workers)))
    chosen, rows = workers[::width], x.reshape(len(x) // width, width, x.shape[1])
    found = np.empty(rows.shape)
    length = max(COPIED_BYTES // max(matrix_bytes, 1), 1)
    for start in range(0, len(rows), length):
        piece = slice(start, start + length)
        product = multiply(chosen[piece], rows[piece].transpose(0, 2, 1))
        found[piece] = product.transpose(0, 2, 1)
    return found.reshape(x.shape)


def multiplied(matrices: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Each matrix ``(u, a, b)`` with its columns ``(u, b, width)``; a single one costs less as a vector."""
    if columns.shape[2] == 1:
        return np.matvec(matrices, columns[..., 0])[..., None]
    return np.matmul(matrices, columns)
