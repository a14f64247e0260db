"""Feature matrices as a user gives them, dense or sparse: checked, and in one form each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, hstack, issparse, vstack

from relaysim.support.checks import real_matrix

__all__ = ["Matrix", "matrix_of", "stacked", "with_ones"]

#: Examples × features, dense or sparse.
Matrix: TypeAlias = np.ndarray | csr_array


def matrix_of(features: Any, where: str = "") -> Matrix:
    """A matrix of finite numbers, float64, sparse as csr."""
    matrix = real_matrix(features, f"features{where}")
    entries = matrix.data if isinstance(matrix, csr_array) else matrix
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"features{where} must be a matrix of examples × features, not of shape {matrix.shape}"
        )
    if not np.isfinite(entries.sum()) and not np.isfinite(entries).all():
        bad = int(np.argmin(np.isfinite(entries).reshape(-1)))
        if isinstance(matrix, csr_array):
            row, column = int(np.searchsorted(matrix.indptr, bad, "right") - 1), matrix.indices[bad]
        else:
            row, column = divmod(bad, matrix.shape[1])
        raise ValueError(
            f"features{where} have an entry that is not finite, in example {row}, column {column}; "
            f"remove or fill it in"
        )
    return matrix


def stacked(matrices: Sequence[Matrix]) -> Matrix:
    """Matrices one below the other: sparse if any of them is."""
    if any(map(issparse, matrices)):
        return vstack([csr_array(matrix) for matrix in matrices], format="csr")
    return np.concatenate(matrices)


def with_ones(features: Matrix) -> Matrix:
    """The features, and a last column of ones."""
    ones = np.ones((features.shape[0], 1))
    if issparse(features):
        return hstack([features, csr_array(ones)], format="csr")
    return np.concatenate([features, ones], axis=1)
