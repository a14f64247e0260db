"""Eigenvalues and fixed points of affine maps, block by block."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import eigvals, get_lapack_funcs
from scipy.sparse import block_array, csc_array, csr_array, diags_array, eye_array
from scipy.sparse.linalg import MatrixRankWarning, splu

from relaysim.theory.groups import groups_by
from relaysim.theory.iteration import SEEN, Search, radius_by_iteration

__all__ = [
    "NEUTRAL",
    "deflated",
    "fingerprint",
    "fixed_point",
    "product",
    "projector",
    "scaled_product",
    "spectral_radius",
]

# All eigenvalues of a matrix up to this size; beyond it those of largest modulus by iteration, and all
# of them again, up to the second size, where iteration does not converge.
DENSE_STATES = 100
MOST_DENSE_STATES = 5000
# Quantities with so many entries, zeros among them, are multiplied sooner as an array.
MOST_DENSE_ENTRIES = 5000
# Moduli closer to 1 than this are 1 up to rounding.
NEUTRAL = 1e-12
# Steps after which powers of A are taken not to vanish.
MOST_NILPOTENT = 400
# What rounding leaves of the powers of a matrix that vanish has a smaller radius.
LOOKS_NILPOTENT = 0.95
# Products of matrices are kept between this and its inverse: where they overflow, all seems to vanish.
HUGE = 1e100

Apply = Callable[[np.ndarray], np.ndarray]


# -- spectral radius -------------------------------------------------------------------------------


def spectral_radius(
    matrices: Sequence[csr_array],
    conserved: csr_array,
    seen: np.ndarray,
    search: Search | None = None,
) -> float:
    """Largest modulus of the eigenvalues of A = … A_1 A_0, per step, of modes that decay and show.

    Args:
        matrices: A_0, A_1, …, ``(N, N)``.
        conserved: left null vectors of A − I, ``(k, N)``; they do not count.
        seen: ``(N,)`` bool, the entries in which a mode has to show.
        search: how to look, by default from nothing and precisely.

    Warns:
        RuntimeWarning: the iteration on a large matrix has not converged.
    """
    A, exponent = scaled_product(matrices)
    if not A.data.all():
        A = A.copy()
        A.eliminate_zeros()
    if not conserved.data.all():
        conserved.eliminate_zeros()
    groups = groups_by(A, conserved)
    largest = 0.0
    for stack in groups.stacks:
        largest = max(largest, _radius_of_stack(stack.dense(A), seen[stack.rows], largest))
    known: dict[tuple, float] = {}
    for rows, matrix, quantities in groups.others:
        part, kept = matrix.of(A.data), quantities.of(conserved.data)
        key = (fingerprint(part), fingerprint(kept), seen[rows].tobytes())
        if key not in known:
            known[key] = _radius(part, kept, seen[rows], search, int(rows[0]))
    period = len(matrices)
    largest = max([largest, *known.values()])
    return largest ** (1 / period) * 2.0 ** (exponent / period)


def _radius_of_stack(parts: np.ndarray, seen: np.ndarray, least: float) -> float:
    """The largest of the radii of dense parts, ``(count, size, size)``, or ``least`` if that is larger."""
    shown = seen.any(axis=1)
    parts, seen = parts[shown], seen[shown]
    moduli = np.abs(np.linalg.eigvals(parts)).max(axis=1, initial=0.0)
    for k in np.argsort(-moduli, kind="stable"):
        if moduli[k] <= least:
            break  # no other is larger
        if not _is_nilpotent(parts[k]):
            least = max(least, _radius_of_all(parts[k], seen[k]))
    return least


def product(matrices: Sequence[csr_array]) -> csr_array:
    """… A_1 A_0."""
    return functools.reduce(lambda before, A: A @ before, matrices)


def scaled_product(matrices: Sequence[csr_array]) -> tuple[csr_array, int]:
    """P and k with 2^k P = … A_1 A_0; k is not 0 where entries would leave the range of floats."""
    found, exponent = matrices[0], 0
    for A in (*matrices[1:], None):
        largest = abs(found.data).max(initial=0)
        if largest and not 1 / HUGE < largest < HUGE:
            k = math.frexp(largest)[1] - 1
            found, exponent = found * 2.0**-k, exponent + k
        if A is not None:
            found = A @ found
    return found, exponent


def fingerprint(matrix: csr_array) -> tuple:
    matrix.sort_indices()
    return (
        matrix.shape,
        matrix.data.tobytes(),
        matrix.indices.tobytes(),
        matrix.indptr.tobytes(),
    )


def _radius(
    A: csr_array, conserved: csr_array, seen: np.ndarray, search: Search | None, row: int
) -> float:
    if not seen.any():
        return 0.0
    size = len(seen)
    if size > DENSE_STATES:
        radius, converged = radius_by_iteration(A, projector(conserved), seen, search, row)
        if converged and radius > LOOKS_NILPOTENT:
            return radius
        if _is_nilpotent(A):
            return 0.0
        if converged:
            return radius
        if size > MOST_DENSE_STATES:
            warnings.warn(
                f"the eigenvalues of a matrix of {size} states have not converged; its spectral "
                f"radius may be larger than {radius:.9g}",
                RuntimeWarning,
                stacklevel=2,
            )
            return radius
    elif _is_nilpotent(A.toarray()):
        return 0.0
    return _radius_of_all(deflated(A, conserved), seen)


def _is_nilpotent(A: csr_array | np.ndarray) -> bool:
    """Whether powers of A vanish, whose eigenvalues no solver finds to be 0.

    From whole numbers, in units of powers of two: where entries are such, sums that cancel do so exactly.
    """
    diagonal = A.diagonal()
    # Eigenvalues that are 0 add up to 0, up to rounding.
    if abs(diagonal.sum()) > 1e-9 * np.abs(diagonal).sum():
        return False
    y = _whole_numbers(A.shape[0])
    for _ in range(min(A.shape[0], MOST_NILPOTENT)):
        y = A @ y
        norm = float(np.linalg.norm(y))
        if norm < 1e-200:
            return True
        if not 1e-3 < norm < 1e12:
            y = y * 2.0 ** -math.frexp(norm)[1]
    return False


def deflated(A: csr_array, conserved: csr_array) -> np.ndarray:
    """A on the states whose conserved quantities are 0, dense."""
    dense = A.toarray()
    if conserved.shape[0]:
        left = np.linalg.qr(conserved.toarray().T)[0]
        dense -= left @ (left.T @ dense)
        dense -= (dense @ left) @ left.T
    return dense


def _radius_of_all(A: np.ndarray, seen: np.ndarray) -> float:
    values = eigvals(A, check_finite=False)
    values = values[np.argsort(-np.abs(values), kind="stable")]
    unseen: complex | None = None
    for value in values:
        if unseen is not None and abs(value - unseen) <= 1e-9 * abs(unseen):
            continue  # one of many equal ones
        if value == 0 or seen.all() or _shows(A, value, seen):
            return float(abs(value))
        unseen = value
    return 0.0


def _shows(A: np.ndarray, value: complex, seen: np.ndarray) -> bool:
    """Whether eigenvectors of this eigenvalue have more than rounding in the entries seen."""
    place = value if value.imag else value.real
    shifted = A - (1 + 1e-11) * place * np.eye(len(A))
    factored, solved = get_lapack_funcs(("getrf", "getrs"), (shifted,))
    vector = _normal_numbers(len(A)).astype(shifted.dtype)
    factors, swaps, _ = factored(shifted)  # nearly singular on purpose
    with np.errstate(all="ignore"):
        for _ in range(3):
            vector, _ = solved(factors, swaps, vector)
            vector /= np.linalg.norm(vector)
    return not np.linalg.norm(vector[seen]) <= SEEN


@functools.lru_cache(maxsize=64)
def _normal_numbers(size: int) -> np.ndarray:
    """To begin with, the same each time; not to be written to."""
    return np.random.default_rng(0).normal(size=size)


@functools.lru_cache(maxsize=64)
def _whole_numbers(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-(2**20), 2**20, size).astype(float)


def projector(conserved: csr_array) -> Apply:
    """y without its part along the conserved left vectors."""
    if not conserved.shape[0]:
        return lambda y: y
    if math.prod(conserved.shape) <= MOST_DENSE_ENTRIES:
        left = np.linalg.qr(conserved.toarray().T)[0]
        right = left.T
        return lambda y: y - left @ (right @ y)
    transposed = conserved.T  # making it takes longer than using it
    gram = splu(csc_array(conserved @ transposed))
    return lambda y: y - transposed @ gram.solve(conserved @ y)


# -- fixed point -----------------------------------------------------------------------------------


def fixed_point(
    matrices: Sequence[csr_array],
    offsets: Sequence[np.ndarray],
    conserved: csr_array,
    y: np.ndarray,
) -> np.ndarray | None:
    """The y* = A y* + b that conserves what y has; None where there is none or more than one.

    Args:
        matrices, offsets: A_0, A_1, …, ``(N, N)``, and b_0, b_1, …, ``(N,)``, of a period.
        conserved: left null vectors of A − I, ``(k, N)``.
        y: the state whose conserved quantities y* has, ``(N,)``.
    """
    offset = offsets[0]
    for A, b in zip(matrices[1:], offsets[1:], strict=True):
        offset = A @ offset + b
    size, k = len(offset), conserved.shape[0]
    system = eye_array(size) - product(matrices)
    if k:
        # What is conserved, such as a sum of gradients, is in units of its own.
        sizes = np.frexp(abs(conserved).max(axis=1).toarray())[1]
        conserved = csr_array(diags_array(np.ldexp(1.0, -sizes)) @ conserved)
        system = block_array([[system, conserved.T], [conserved, None]])
    right = np.concatenate([offset, conserved @ y])
    with warnings.catch_warnings():
        warnings.simplefilter("error", MatrixRankWarning)
        try:
            factors = splu(csc_array(system))
        except (RuntimeError, MatrixRankWarning):
            return None
    found = factors.solve(right)
    for _ in range(2):
        found += factors.solve(right - system @ found)
    # Where 1 is an eigenvalue up to rounding, a small change of b moves y* by very much.
    probe = np.random.default_rng(0).normal(size=len(right))
    if not np.linalg.norm(factors.solve(probe)) < 1e13 * np.linalg.norm(probe):
        return None
    return found[:size]
