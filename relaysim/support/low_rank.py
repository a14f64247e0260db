"""The best approximations of many small matrices by some of lower rank."""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_of_rank"]


def nearest_of_rank(matrices: np.ndarray, rank: int) -> np.ndarray:
    """Of finite matrices ``(…, a, b)``, the nearest of a rank, in the same shape.

    >>> nearest_of_rank(np.diag([3.0, 2.0, 1.0]), 2).round(12).diagonal().tolist()
    [3.0, 2.0, 0.0]
    """
    if rank == 1:
        return _of_rank_one(matrices)
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    values[..., rank:] = 0
    found: np.ndarray = (left * values[..., None, :]) @ right
    return found


def _of_rank_one(matrices: np.ndarray) -> np.ndarray:
    """Projections on a leading singular vector.

    That of the smaller of MMᵀ and MᵀM is as precise as that of M, and found in half of the time: what
    separates σ₁² from σ₂² is at least what separates σ₁ from σ₂, in the units of each.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return _of_rank_one(matrices.swapaxes(-1, -2)).swapaxes(-1, -2)
    largest = np.abs(matrices).max(axis=(-2, -1), keepdims=True)
    scaled = matrices / np.where(largest > 0, largest, 1)
    leading = np.linalg.eigh(scaled @ scaled.swapaxes(-1, -2))[1][..., -1:]
    found: np.ndarray = leading @ (leading.swapaxes(-1, -2) @ matrices)
    return found
