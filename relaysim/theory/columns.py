"""Stationary covariances as sums over what errors of gradients make of the iterates, step by step.

Variances of workers, the covariance of the mean and the consensus distance are sums of squares of the rows of
A^t B, over t. A few columns of it are moved at a time, by the method's own step. Once modes are forgotten
fewer columns Y V do in the place of Y = A^t B. With Y₂ ≈ Y₁ S for a choice Y₁ of columns, orthonormal rows
are Vᵀ = K⁻¹ [I S], K Kᵀ = I + S Sᵀ, and Y Yᵀ = (Y V)(Y V)ᵀ but for squares of what Y₂ is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dpstrf
from scipy.sparse import csr_array

from relaysim.support.progress import ProgressBar, progress_bar
from relaysim.theory.lasting import steps_to_rest

__all__ = ["Sums", "memory_of_columns", "sums_over_columns"]

# Bytes of the columns that are moved together, and of the rows that are made fewer.
PIECE_BYTES, ROWS_BYTES = 1 << 21, 1 << 24
# What a step takes beside them, in the size of its states and in that of a vector on each edge; what rows do
# while they are made, in theirs; and all else in bytes.
OF_A_STEP, OF_THE_EDGES, OF_ROWS, SMALL_BYTES = 5, 2, 3, 1 << 17
# After how many steps it is first looked for fewer columns, and how many times as many before the next time.
FIRST_LOOK, NEXT_LOOK = 48, 1.5
# What is left out beside the smallest of what is summed: of columns in all, and at the end.
LEFT_OUT, AT_THE_END = 1e-10, 1e-12

Move = Callable[[np.ndarray, int], np.ndarray]


class Sums:
    """What is summed, for each step of a period, of n workers with d parameters.

    Attributes:
        mean: Σ of x̄ x̄ᵀ, ``(m, d, d)``.
        workers: Σ ‖x_i‖², ``(m, n)``.
    """

    def __init__(self, period: int, n: int, d: int):
        self.mean = np.zeros((period, d, d))
        self.workers = np.zeros((period, n))

    def add(self, phase: int, y: np.ndarray) -> None:
        """Those of the iterates, with which states ``(N, r)`` begin."""
        n, d = self.workers.shape[1], self.mean.shape[1]
        x = y[: n * d].reshape(n, -1)
        self.workers[phase] += np.einsum("ij,ij->i", x, x)
        mean = x.mean(axis=0).reshape(d, -1)
        self.mean[phase] += mean @ mean.T

    @property
    def consensus(self) -> np.ndarray:
        """Σ of ‖x_i − x̄‖² over the workers, ``(m,)``."""
        n = self.workers.shape[1]
        return self.workers.sum(axis=1) - n * np.trace(self.mean, axis1=1, axis2=2)

    @property
    def smallest(self) -> float:
        """The smallest of what is looked at, beyond rounding."""
        n, squares = self.workers.shape[1], self.workers.sum(axis=1)
        parts = [self.workers.min(), *(n * np.trace(self.mean, axis1=1, axis2=2)), *self.consensus]
        return float(max(min(parts), 1e-9 * squares.min()))


def memory_of_columns(states: int, count: int, crossing: float) -> float:
    """Bytes that sums take: of a step, or of what makes fewer columns, whichever is more.

    Args:
        states: N.
        count: of columns.
        crossing: numbers that a method which looks at every edge has for one column, d for each edge.
    """
    moved = -(-count // _pieces(states, count)) * (
        (1 + OF_A_STEP) * states + OF_THE_EDGES * crossing
    )
    rows = min(states, max(ROWS_BYTES // (8 * count), 1))
    fewer = states * count + count**2 + OF_ROWS * rows * count
    return 8.0 * (states * count + max(moved, fewer, 2.5 * count**2)) + SMALL_BYTES


def _pieces(states: int, count: int) -> int:
    """In how many parts so many columns are moved."""
    return -(-count // max(PIECE_BYTES // (8 * states), 4))


def sums_over_columns(
    move: Move,
    noise: Sequence[csr_array],
    project: Callable[[np.ndarray], np.ndarray],
    size: tuple[int, int],
    radius: float,
) -> Sums:
    """Σ over the steps since an error, and over the errors of a step.

    Args:
        move: states ``(N, r)`` a step later, in a step of the period.
        noise: how errors enter in the steps of a period, ``(N, n d)``.
        project: states without what is conserved.
        size: n and d.
        radius: by which states shrink in a step in the end, below 1.
    """
    period = len(noise)
    sums = Sums(period, *size)
    steps = steps_to_rest(radius, noise[0].shape[0])
    with progress_bar(math.ceil(period * steps), None, "noise floor", "steps") as bar:
        for phase, entering in enumerate(noise):
            _add_up(sums, (phase + 1) % period, entering, move, project, radius, bar)
            bar.n = max(bar.n, round((phase + 1) * steps))
    return sums


def _add_up(
    sums: Sums,
    phase: int,
    entering: csr_array,
    move: Move,
    project: Callable[[np.ndarray], np.ndarray],
    radius: float,
    bar: ProgressBar,
) -> None:
    """Add what errors that entered before this step of a period make from there on."""
    period = len(sums.workers)
    columns = entering.toarray()
    following = columns.shape[0]
    sums.add(phase, columns)
    columns = project(columns)
    done, until = 0, FIRST_LOOK
    end = 1 - radius**2 if radius < 1 else 0.0
    while True:
        pieces = _pieces(following, columns.shape[1])
        for first in range(pieces):
            y = np.ascontiguousarray(columns[:, first::pieces])
            for step in range(done, until):
                y = move(y, (phase + step) % period)
                sums.add((phase + step + 1) % period, y)
            columns[:, first::pieces] = y
            bar.update((until - done) / pieces)
        columns = project(columns)
        left = end * sums.smallest
        if float(np.linalg.norm(columns)) ** 2 <= AT_THE_END * left:
            return
        columns = _fewer(columns, LEFT_OUT * left)
        done, until = until, math.ceil(NEXT_LOOK * until)


def _fewer(columns: np.ndarray, left_out: float) -> np.ndarray:
    """Y V, of which no more than this much of Σ y² is left out."""
    count = columns.shape[1]
    squares = (columns.T @ columns).T
    factor, order, rank, _ = dpstrf(squares, tol=left_out / count, overwrite_a=True)
    if rank >= 0.95 * count or rank == 0:
        return columns
    S = solve_triangular(factor[:rank, :rank], factor[:rank, rank:])
    del squares, factor
    K = np.eye(rank) + S @ S.T
    K = cholesky(K, lower=True, overwrite_a=True, check_finite=False)
    found = np.empty((len(columns), rank))
    size = max(ROWS_BYTES // (8 * count), 1)
    for first in range(0, len(columns), size):
        rows = columns[first : first + size, order - 1]
        rows = rows[:, :rank] + rows[:, rank:] @ S.T
        found[first : first + size] = solve_triangular(K, rows.T, lower=True).T
    return found
