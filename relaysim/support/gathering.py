"""Rows of stacked vectors by an index that differs between replicas."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["put_rows", "row_places", "rows_at"]


def rows_at(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows ``index[k]`` of x ``(m, d[, r])``, or ``index[k, ρ]`` of its replica ρ; ``(k, d[, r])``.

    As `numpy.take_along_axis`, in a fifth of the time.

    >>> rows_at(np.array([[[1, 2]], [[3, 4]]]), np.array([[1, 0]])).tolist()
    [[[3, 2]]]
    """
    if index.ndim == 1:
        return x.take(index, 0)
    return x.take(row_places(index, x.shape[1]))


def row_places(index: np.ndarray, d: int) -> np.ndarray:
    """Where the numbers of such rows stand in all of ``(m, d, r)``, ``(k, d, r)``, to take more than once.

    >>> row_places(np.array([[1, 0]]), d=1).tolist()
    [[[2, 1]]]
    """
    r = index.shape[1]
    places = np.repeat((index * (d * r))[:, None], d, axis=1)
    places += _within(d, r)
    return places


def put_rows(order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What has ``values[k]`` in place ``order[k]``, ``(n[, r])``, for orders of 0, …, n − 1.

    >>> put_rows(np.array([2, 0, 1]), np.array([5, 6, 7])).tolist()
    [6, 7, 5]
    """
    result = np.empty_like(values)
    if order.ndim == 1:
        result[order] = values
    else:
        r = order.shape[1]
        result.reshape(-1)[order * r + np.arange(r)] = values
    return result


@functools.lru_cache(maxsize=16)
def _within(d: int, r: int) -> np.ndarray:
    return np.arange(d * r).reshape(d, r)
