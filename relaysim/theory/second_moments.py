"""Second moments S = E yyᵀ of states y ← A_k y with probability p_k: how they move and shrink."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigs

from relaysim.support.checks import require_memory

__all__ = [
    "SPANNED",
    "largest_eigenvalue",
    "moved",
    "orthonormal",
    "radius",
    "require_vectors",
    "seen",
]

# Up to so many entries of a moment its map is a matrix whose eigenvalues are all computed.
DENSE_ENTRIES = 400
# What is left of a direction, beside 1, that lies in the span of others but for rounding.
SPANNED = 1e-9
# Of what maps make of a unit vector, beside their size.
ROUNDING = 1e-14
# So many moments are kept while an eigenvalue is iterated for.
KEPT = 25


def moved(maps: np.ndarray, probabilities: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Σ_k p_k A_k S A_kᵀ, of ``(K, l, m)`` and ``(m, m)``."""
    count, rows, columns = maps.shape
    half = (maps @ moment) * probabilities[:, None, None]
    flat = half.transpose(1, 0, 2).reshape(rows, count * columns)
    return flat @ maps.transpose(0, 2, 1).reshape(count * columns, rows)


def radius(phases: list[np.ndarray], probabilities: np.ndarray) -> float:
    """The largest eigenvalue of the moments' map over a period: real, since covariances stay such."""
    size = phases[0].shape[2]

    def apply(flat: np.ndarray) -> np.ndarray:
        moment = flat.reshape(size, size)
        for maps in phases:
            moment = moved(maps, probabilities, moment)
        return moment.ravel()

    return largest_eigenvalue(apply, np.eye(size).ravel())


def largest_eigenvalue(apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> float:
    """That of a linear map of moments ``(l,)``, which is positive, sought from a moment that is definite."""
    size = len(start)
    if size == 0:
        return 0.0
    if size <= DENSE_ENTRIES:
        matrix = np.stack([apply(unit) for unit in np.eye(size)], axis=1)
        return float(np.abs(np.linalg.eigvals(matrix)).max())
    require_vectors(KEPT, size)
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    found = eigs(operator, k=1, v0=start, return_eigenvectors=False)
    return float(np.abs(found).max())


def require_vectors(count: int, size: int) -> None:
    """Raise ValueError where so many moments, of ``size`` numbers each, do not fit in memory."""
    require_memory(
        8.0 * count * size,
        f"{count} vectors of {size} second moments",
        "take fewer edges, workers or parameters, or simulate it",
    )


def seen(phases: list[np.ndarray], starts: np.ndarray, shown: np.ndarray) -> list[np.ndarray]:
    """The maps on what starts reach and iterates show: on coordinates of that alone.

    Args:
        phases: ``(K, m, m)`` for each step of a period.
        starts: ``(m, k)``.
        shown: ``(l, m)``, the rows that give iterates.
    """
    reached = _spans(phases, [starts] + [starts[:, :0]] * (len(phases) - 1))
    phases = _within(phases, reached)
    backwards = [maps.transpose(0, 2, 1) for maps in reversed(phases)]
    # Before the last step of a period stands what is shown after it.
    rows = [basis.T @ shown.T for basis in reached]
    seen = _spans(backwards, [rows[-p % len(phases)] for p in range(len(phases))])
    return _within(phases, [seen[-p % len(phases)] for p in range(len(phases))])


def _within(phases: list[np.ndarray], bases: list[np.ndarray]) -> list[np.ndarray]:
    """Maps between coordinates of these spaces, one before each step."""
    following = bases[1:] + bases[:1]
    return [
        after.T @ maps @ before
        for maps, before, after in zip(phases, bases, following, strict=True)
    ]


def _spans(phases: list[np.ndarray], given: list[np.ndarray]) -> list[np.ndarray]:
    """Orthonormal bases of what the maps make of these columns, one before each step of a period."""
    bases = [columns[:, :0] for columns in given]
    waiting = [orthonormal(basis, columns) for basis, columns in zip(bases, given, strict=True)]
    while any(columns.shape[1] for columns in waiting):
        for p, maps in enumerate(phases):
            new, after = waiting[p], (p + 1) % len(phases)
            bases[p] = np.hstack([bases[p], new])
            waiting[p] = new[:, :0]
            made = (maps @ new).transpose(1, 0, 2).reshape(maps.shape[1], -1)
            # What is left where all cancels.
            least = ROUNDING * float(np.linalg.norm(maps, axis=(1, 2)).max(initial=0))
            known = np.hstack([bases[after], waiting[after]])
            waiting[after] = np.hstack([waiting[after], orthonormal(known, made, least)])
    return bases


def orthonormal(known: np.ndarray, columns: np.ndarray, least: float = 0.0) -> np.ndarray:
    """A basis of what columns add to those that are known, but for rounding, which is up to ``least``."""
    sizes = np.linalg.norm(columns, axis=0)
    # Short columns as if they were longer, in which rounding would else be a direction.
    rest = columns[:, sizes > 0] / np.maximum(sizes[sizes > 0], least / SPANNED)
    for _ in range(2):
        rest = rest - known @ (known.T @ rest)
    left, values, _ = np.linalg.svd(rest, full_matrices=False)
    found = left[:, values > SPANNED]
    found = found - known @ (known.T @ found)
    return np.linalg.qr(found)[0]
