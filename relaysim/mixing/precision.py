"""Weights in single precision, as other libraries make them: in double, with sums that are 1 there too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import block_array, csr_array, diags_array, issparse
from scipy.sparse.linalg import lsqr

from relaysim.support.checks import real_matrix, shown
from relaysim.support.notes import note

__all__ = ["in_double"]

_SINGLE = float(np.finfo(np.float32).eps)


def in_double(matrix: Any, which: str) -> np.ndarray | csr_array:
    """A gossip matrix as float64; rows that sum to 1 in single precision are made to sum to 1 in double, and
    where it is columns that do, columns.

    Only where the dtype says that the weights had single precision or less, and the rounding of as many
    weights explains what a row lacks. Every weight is changed by some 1e-7 of itself: W_ij (1 + u_i + v_j),
    u = v where W is symmetric to single precision, which it then is in double, and v = 0 where the columns
    of W do not sum to 1. Weights of 0 stay 0 and no sign changes.

    Args:
        matrix: dense or sparse.
        which: what messages call it.

    Raises:
        TypeError: no array of real numbers.
        ValueError: a DataFrame whose rows and columns are in different orders.

    Warns:
        UserWarning: the rows, or columns, were made to sum to 1.

    >>> in_double(np.array([[0.25, 0.75], [0.75, 0.25]]), "W").tolist()
    [[0.25, 0.75], [0.75, 0.25]]
    """
    double = real_matrix(matrix, which)
    if isinstance(matrix, pd.DataFrame):
        _require_one_order(matrix, which)
    dtype = matrix.dtype if issparse(matrix) else np.asarray(matrix).dtype
    if dtype.kind != "f" or dtype.itemsize >= 8:
        return double
    if double.ndim != 2 or double.shape[0] != double.shape[1]:
        return double
    for sums in ("rows", "columns"):
        W = csr_array(double if sums == "rows" else double.T)
        off = _off(W)
        if (np.abs(off) <= _rounding(W)).all():  # NaN is not at most anything
            break
    else:
        return double
    if not off.any():
        return double
    turned = csr_array(W.T)
    symmetric = abs(W - turned).max() <= _SINGLE * max(1.0, abs(W).max())
    if symmetric:
        W = csr_array((W + turned) / 2)
    if (np.abs(_off(turned)) <= _rounding(turned)).all():
        change = _balancing(W)
        change = (change + change.T) / 2 if symmetric else change
    else:
        change = csr_array(diags_array(_off(W) / W.sum(axis=1)) @ W)
    W = csr_array(W + change if sums == "rows" else (W + change).T)
    note(
        f"{which} is of {dtype} and its {sums} sum to 1 in single precision only, up to "
        f"{np.abs(off).max():.1e}: they were made to sum to 1 in double; give float64 weights to be rid of "
        f"this note"
    )
    return W if issparse(double) else W.toarray()


def _require_one_order(frame: pd.DataFrame, which: str) -> None:
    """Raise where rows and columns of a square table name the workers in different orders."""
    rows, columns = list(frame.index), list(frame.columns)
    if rows != columns and set(rows) == set(columns):
        raise ValueError(
            f"the rows of {which} are {shown(rows)} and its columns {shown(columns)}; put them in one order, "
            f"as with W.loc[W.columns]"
        )


def _off(W: csr_array) -> np.ndarray:
    """What each row lacks of 1."""
    return 1 - W.sum(axis=1)


def _rounding(W: csr_array) -> np.ndarray:
    """What rounding the weights of each row, their sum, and 1 less that sum comes to at most."""
    size = abs(W)
    return _SINGLE * (np.diff(W.indptr) + 1) * np.maximum(1, size.sum(axis=1))


def _balancing(W: csr_array) -> csr_array:
    """E_ij = |W_ij| (u_i + v_j) of least u, v with which rows and columns of W + E sum to 1."""
    size = csr_array(abs(W))
    rows, columns = size.sum(axis=1), size.sum(axis=0)
    sums = block_array([[diags_array(rows), size], [size.T, diags_array(columns)]], format="csr")
    lacking = np.concatenate([_off(W), 1 - W.sum(axis=0)])
    n = len(rows)
    found = lsqr(sums, lacking, atol=1e-14, btol=1e-14, iter_lim=20 * n + 100)[0]
    return csr_array(diags_array(found[:n]) @ size + size @ diags_array(found[n:]))
