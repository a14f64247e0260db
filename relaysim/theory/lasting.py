"""Stationary covariances where part of a state is forgotten after a few steps, as sums on their way are.

After T steps A^T y lies in a space that A does not leave, of much fewer dimensions than states. With an
orthonormal basis U of it, Ã = Uᵀ A U and C = Uᵀ A^T B,

    P = Σ_{t<T} A^t B (A^t B)ᵀ + U X Uᵀ,    X = Ã X Ãᵀ + C Cᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr
from scipy.sparse import csr_array

from relaysim.theory.spectra import projector

__all__ = ["Lasting", "doubled", "lasting", "memory_of_doubling", "steps_to_rest", "summed"]

# After more steps it is not looked at what is left.
MOST_STEPS = 16
# Singular values, beside the largest, of what is left and of what is forgotten.
LEFT, FORGOTTEN = 1e-6, 1e-13
# Less is not worth the change of basis than this share that is forgotten.
WORTH = 0.2
# How far A may lead out of the space, beside what it does in it.
LEAK = 1e-11
# After how many periods rows are first tried to be gone on with by what is left of them, and how many of them
# before span that; singular values that count, and what it may miss.
FIRST_TRY, SNAPSHOTS = 64, 6
SPANNED, MISSED = 1e-13, 1e-12
# Where a doubling adds less, the next adds nothing but rounding: its share is the square of this one.
LAST = 1e-10


class Lasting(NamedTuple):
    """How many dimensions are left of a state after some steps."""

    steps: int
    dimensions: int

    def memory(self, states: int, shown: int) -> float:
        """Bytes that the covariance takes, of so many states and so many that are shown."""
        left = self.dimensions
        most = max(4 * states * left, 5 * left**2, left**2 + 4 * states * shown)
        return 8.0 * (states * left + most + 2 * shown**2)

    def covariance(
        self,
        A: csr_array,
        B: csr_array,
        conserved: csr_array,
        shown: int,
        advanced: Callable[[], object] = lambda: None,
    ) -> np.ndarray | None:
        """P of the first entries of a state, ``(shown, shown)``; None where A leads out of the space.

        Args:
            A: ``(N, N)``.
            B: how unit noise enters, ``(N, m)``.
            conserved: what is set apart, ``(k, N)``.
            shown: how many entries.
            advanced: called after each doubling.
        """
        project = projector(conserved)
        size = A.shape[0]
        basis = np.random.default_rng(0).normal(size=(size, self.dimensions))
        for _ in range(2):  # once more, for what rounding left
            for _ in range(self.steps):
                basis = project(A @ project(basis))
            basis = qr(basis, mode="economic", overwrite_a=True, check_finite=False)[0]
            moved = project(A @ project(basis))
            inner = basis.T @ moved
            moved -= basis @ inner
            if np.abs(moved).max() <= LEAK * np.abs(inner).max():
                break
        else:
            return None
        del moved
        total = np.zeros((shown, shown))
        reached = B.toarray()
        for _ in range(self.steps):
            total += reached[:shown] @ reached[:shown].T
            reached = project(A @ project(reached))
        source = basis.T @ reached
        inner = doubled(inner, source @ source.T, advanced)
        total += basis[:shown] @ inner @ basis[:shown].T
        return total


def lasting(one: np.ndarray, d: int) -> Lasting | None:
    """What is left of d parameters, from the matrix ``(R, R)`` of a step of one; None if that is most.

    Hessians as they happen to be leave d times as much of d parameters as curvatures of one do.
    """
    power, steps, found = one, 1, None
    most = int((1 - WORTH) * len(one))
    while steps <= MOST_STEPS:
        sizes = np.linalg.svd(power, compute_uv=False)
        left = int((sizes > LEFT * sizes[0]).sum())
        if left <= most and left == int((sizes > FORGOTTEN * sizes[0]).sum()):
            found, most = Lasting(steps, left * d), left - 1
        power, steps = power @ power, 2 * steps
    return found


def doubled(
    A: np.ndarray, source: np.ndarray, advanced: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Σ_k A^k S (A^k)ᵀ, twice as many terms each time: S ← S + M S Mᵀ, M ← M² (Smith's method), in S itself.

    Ended by each entry's own size: at low rates a momentum's variance is far above that of the iterates.
    """
    total = source
    while True:
        added = A @ total
        added = added @ A.mT
        total += added
        advanced()
        deviations = np.sqrt(np.abs(np.diagonal(total, axis1=-2, axis2=-1)))
        deviations[deviations == 0] = 1.0  # nothing is added there
        added /= deviations[..., :, None]
        added /= deviations[..., None, :]
        if not (added.max() > LAST or added.min() < -LAST):
            return total
        del added
        A = A @ A


def memory_of_doubling(states: int) -> float:
    """Bytes that the covariance of so many states takes by doubling."""
    return 5 * 8.0 * states**2


def steps_to_rest(radius: float, states: int) -> float:
    """After which nothing is left but rounding, of what shrinks by this radius in the end; see `summed`.

    >>> round(steps_to_rest(0.9, 100), 3), steps_to_rest(0.0, 100)
    (189.824, 100.0)
    """
    return 20 / -math.log(radius) if radius > 0 else float(states)


def summed(
    period: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], rows: np.ndarray, radius: float
) -> np.ndarray:
    """Σ_k of what rows add in period k, ``(d, d)``: one by one, until few modes are left, whose sum is known.

    Args:
        period: rows ``(N, d)`` a period later, and what they add meanwhile: linear, and quadratic.
        rows: the first ones.
        radius: by which they shrink in a period in the end, below 1.
    """
    total = np.zeros((rows.shape[1],) * 2)
    piece = math.ceil(steps_to_rest(radius, len(rows)) / 4) + 1
    count, until, following = 0, 0, FIRST_TRY
    snapshots: list[np.ndarray] = []
    guess: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
    added = np.zeros_like(total)
    while True:
        rows, gram = period(rows)
        total += gram
        added += gram
        count += 1
        if count % piece == 0:
            deviations = np.sqrt(np.abs(np.diagonal(total)))
            if (
                count >= 4 * piece
                and not (np.abs(added) > 1e-16 * np.outer(deviations, deviations)).any()
            ):
                return total
            added = np.zeros_like(total)
        stride = following // 4 // SNAPSHOTS
        if count > following - SNAPSHOTS * stride and (following - count) % stride == 0:
            snapshots.append(rows)
        if guess is not None and count == until:
            basis, inner, weight, expected = guess
            if np.abs(basis @ expected - rows).max() <= MISSED * np.abs(rows).max():
                here = basis.T @ rows
                return total + here.T @ doubled(inner.T, weight) @ here
            guess = None
        if count == following:
            guess = _gone_on(period, snapshots, radius, following // 8)
            until, following, snapshots = count + following // 8, 2 * following, []


def _gone_on(
    period: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    snapshots: list[np.ndarray],
    radius: float,
    periods: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """A basis of what is left of rows, the map on it, what that adds, and what the last are to become."""
    columns = np.hstack(snapshots)
    sizes = np.linalg.norm(columns, axis=0)
    if not (sizes > 0).all():
        return None
    left, values, _ = np.linalg.svd(columns / sizes, full_matrices=False)
    basis = left[:, values > SPANNED * values[0]]
    moved, weight = period(basis)
    inner = basis.T @ moved
    if np.abs(np.linalg.eigvals(inner)).max() > radius * (1 + 1e-9):
        return None
    expected = np.linalg.matrix_power(inner, periods) @ (basis.T @ snapshots[-1])
    return basis, inner, weight, expected
