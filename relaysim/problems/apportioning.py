"""Examples in whole numbers: shares of a total, and tables with given sums of rows and columns."""

from __future__ import annotations

import numpy as np
import scipy
from scipy.sparse import eye_array, kron, vstack

__all__ = ["even", "give_to_the_empty", "rounded", "rounded_to", "scaled"]


def even(total: int, parts: int) -> np.ndarray:
    """Sizes that differ by at most one, larger ones first."""
    return np.full(parts, total // parts) + (np.arange(parts) < total % parts)


def rounded_to(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ``wanted`` (scaled to the total) that sum to it: largest remainders."""
    wanted = (
        wanted * (total / wanted.sum())
        if wanted.sum()
        else np.full(wanted.shape, total / len(wanted))
    )
    down = np.floor(wanted).astype(int)
    short = total - down.sum()
    down[np.argsort(down - wanted, kind="stable")[:short]] += 1
    return down


def scaled(logs: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """e^logs with rows and columns multiplied so that they sum to what is asked for.

    By iterative proportional fitting, in logarithms, since entries may span hundreds of decades.
    """
    logs = logs - logs.max()
    for _ in range(2000):
        logs = logs + (np.log(rows) - np.logaddexp.reduce(logs, axis=1))[:, None]
        shortfall = np.log(columns) - np.logaddexp.reduce(logs, axis=0)
        logs = logs + shortfall
        if np.abs(shortfall).max() < 1e-9:
            break
    return np.exp(logs)


def rounded(wanted: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whole numbers with exactly these row and column sums, each next to what is wanted.

    Where everything is rounded down, the rest is a transport problem with capacities 0 and 1, whose
    linear program has whole solutions; it gives to the largest remainders. (Where the sums of what is
    wanted are off, capacities are larger.)
    """
    down = np.floor(wanted + 1e-6).astype(int)
    for capacity in (1, None):
        if capacity is None:
            down = np.zeros_like(down)
        left = np.concatenate([rows - down.sum(axis=1), columns - down.sum(axis=0)])
        classes, n = wanted.shape
        sums = vstack(
            [kron(eye_array(classes), np.ones((1, n))), kron(np.ones((1, classes)), eye_array(n))]
        )
        found = scipy.optimize.linprog(
            -(wanted - down).ravel(), A_eq=sums, b_eq=left, bounds=(0, capacity), method="highs-ds"
        )
        if found.status == 0:
            return down + np.rint(found.x).astype(int).reshape(wanted.shape)
    raise AssertionError("row and column sums of examples differ")


def give_to_the_empty(counts: np.ndarray) -> None:
    """One example each for workers (columns) without any, from whoever has most."""
    for worker in np.flatnonzero(counts.sum(axis=0) == 0):
        richest = int(np.argmax(counts.sum(axis=0)))
        code = int(np.argmax(counts[:, richest]))
        counts[code, richest] -= 1
        counts[code, worker] += 1
