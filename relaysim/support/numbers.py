"""Whole numbers made of uniform ones, and their places within groups."""

from __future__ import annotations

import numpy as np

__all__ = ["DRAWS", "below", "distinct_below", "numbers_within"]


def numbers_within(group: np.ndarray) -> np.ndarray:
    """The number of each entry among those of its group, in order.

    >>> numbers_within(np.array([7, 2, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(group)))
    numbers = np.empty(len(group), dtype=np.intp)
    numbers[order] = np.arange(len(group)) - np.repeat(starts, sizes)
    return numbers


def distinct_below(uniform: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Distinct numbers below ``available (…)`` from uniform ones in [0, 1), ``(…, size)``.

    By Floyd's method (Bentley, Floyd, CACM 1987), for all at once: the k-th number is drawn from the
    first m − size + k, and is m − size + k itself where that was drawn before.
    """
    size = uniform.shape[-1]
    chosen = np.empty((size, *uniform.shape[:-1]), dtype=np.intp)
    for k in range(size):
        last = available - size + k
        drawn = below(uniform[..., k], last + 1)
        taken = (chosen[:k] == drawn).any(axis=0)
        chosen[k] = np.where(taken, last, drawn)
    return np.moveaxis(chosen, 0, -1).copy()


def _each_below(uniform: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Independent numbers below ``available (…)``, from uniform ones in [0, 1), ``(…, size)``."""
    return below(uniform, available[..., None])


def below(uniform: np.ndarray, limits: np.ndarray | int) -> np.ndarray:
    """Whole numbers from 0 to limits − 1, from uniform ones in [0, 1)."""
    # The product may round up to the limit itself.
    return np.minimum((uniform * limits).astype(np.intp), limits - 1)


#: How a batch is drawn, by the name of its sampling: from uniform numbers and how many there are.
DRAWS = {"with replacement": _each_below, "without replacement": distinct_below}
