"""Leading eigenvalues of large sparse matrices.

Arnoldi's method on powers of A finds which they are, and on (A − s)⁻¹, with s close to one, its last digits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array, eye_array
from scipy.sparse.linalg import splu

__all__ = ["SEEN", "How", "Mode", "Search", "radius_by_iteration"]

# Powers of A, whose eigenvalues lie further apart, and in how many dimensions. With odd ones z and −z, as on
# graphs of two colours, stay apart.
POWERS = ((33, 240), (129, 100))
# Up to this size powers are computed once, as dense matrices.
SQUARED_STATES = 300
POWER_STEPS = 5000
# Where errors grow so much a step, what they grow by over so many steps is a rough answer.
CLEARLY_UNSTABLE = 1.05
# A space is looked at when it has so many dimensions, and each time that it has grown by this factor.
FIRST_LOOK, NEXT_LOOK = 16, 1.25
# So many eigenvalues have to be known roughly, or to look at one closely, and where none of those shows.
ROUGH_COUNT, COUNT, MOST_COUNT = 2, 6, 14
# What powers of them may miss, and up to this share of the largest all are known to look at one closely.
ROUGH, ALL_KNOWN = 1e-5, 1e-3
# Those so close to the largest power are looked at closely, at so many places.
CLOSE_TO_LARGEST, MOST_PLACES = 1e-4, 12
# In spaces of so many dimensions, to this share; the closest one to less, since what a matrix far from normal
# makes of it is more.
CLOSE_DIMENSIONS, CLOSE, CLOSEST = 60, 1e-13, 1e-16
EPSILON = float(np.finfo(float).eps)
# How far off an eigenvalue s is, and which of them are taken to be real.
BESIDE, REAL = 1e-7, 1e-8
# Factors of A − s with more entries would take longer than powers, which may miss this then.
MOST_FACTORED, PRECISE = 200_000, 1e-11
# A mode is seen in the iterates if they make up more than this of its eigenvector.
SEEN = 1e-7
# What is added to the modes of a matrix that is alike, so that others are found.
STIRRED = 0.03

Apply = Callable[[np.ndarray], np.ndarray]
How = Literal["rough", "precise", "along"]


class Mode(NamedTuple):
    """An eigenvalue and its eigenvector, ``(N,)``."""

    value: complex
    vector: np.ndarray


@dataclass(frozen=True)
class Search:
    """How the largest eigenvalues are iterated for, where a matrix is like one that was seen before.

    Attributes:
        starts: by a group's first row what its leading modes were; what is found is left there.
        modes: likewise the modes that lead, where they were looked at closely.
        how: ``"rough"``, where some 1e-6 of ρ will do; ``"precise"``; or ``"along"``: precisely, but of those
            modes alone, of a matrix that is the same but for little.
    """

    starts: dict[int, np.ndarray]
    modes: dict[int, list[Mode]]
    how: How


class _Space(NamedTuple):
    """What a map does on a space: eigenvalues, largest modulus first, what they miss, and their vectors."""

    values: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    basis: np.ndarray

    def vectors(self, which: np.ndarray) -> np.ndarray:
        """Of these of the eigenvalues, ``(N, k)``."""
        found: np.ndarray = self.basis.T @ self.weights[:, which]
        return found


def radius_by_iteration(
    A: csr_array, project: Apply, seen: np.ndarray, search: Search | None, row: int
) -> tuple[float, bool]:
    """The largest modulus of an eigenvalue whose mode shows, and whether the iteration converged.

    Args:
        A: ``(N, N)``.
        project: y without what is conserved.
        seen: ``(N,)`` bool, the entries in which a mode has to show.
        search: how to look, by default from nothing and precisely.
        row: by which the search knows this matrix.
    """
    short = A.indices.astype(np.int32), A.indptr.astype(np.int32)  # are read sooner
    A = csr_array((A.data, *short), shape=A.shape)
    if search is not None and search.how == "along" and search.modes.get(row):
        beside = [_beside(A, project, *mode, seen) for mode in search.modes[row]]
        if None not in beside:
            return max(each.radius for each in beside if each is not None), True
    start = np.random.default_rng(0).normal(size=len(seen))
    known = None if search is None else search.starts.get(row)
    if known is not None:
        start = known + STIRRED * start / math.sqrt(len(start))
    start, growth = _power_iteration(A, project, start, 100 if known is None else 10)
    if growth == 0:
        return 0.0, False
    # Scaled to a radius of about 1, so that powers neither overflow nor vanish.
    scaled = csr_array(A / growth)
    rough = search is not None and search.how == "rough"
    for power, dimensions in POWERS:
        apply = _applied(scaled, project, power)
        leading = _leading(apply, start, seen, dimensions, ROUGH, rough)
        if leading is None:
            continue
        space, shown = leading
        if search is not None:
            search.starts[row] = _sum_of_leading(space)
        if not rough:
            radius = growth * float(np.abs(space.values[shown[0]])) ** (1 / power)
            found = _closely(A, project, seen, space, shown, radius)
            if found:
                if search is not None:
                    search.modes[row] = [each.closest for each in found]
                return max(each.radius for each in found), True
            leading = _leading(apply, start, seen, dimensions, PRECISE, False)
            if leading is None:
                continue
            space, shown = leading
        return growth * float(np.abs(space.values[shown[0]])) ** (1 / power), True
    # Modes that hardly decay sit close together next to 1 or −1 and are told apart by (A − s)⁻¹.
    # There is none elsewhere with a larger modulus if nothing grows faster.
    start, rate = _power_iteration(scaled, project, start, steps=POWER_STEPS)
    if rate == 0:
        return 0.0, False
    if rough and growth * rate > CLEARLY_UNSTABLE:
        return growth * rate, True
    near = [_beside(A, project, side * (1 + 1e-4), start, seen) for side in (1.0, -1.0)]
    radius = max((each.radius for each in near if each is not None), default=0.0)
    return max(radius, growth * rate), growth * rate <= radius * (1 + 1e-6)


def _applied(A: csr_array, project: Apply, times: int) -> Apply:
    """y ↦ A^times y."""
    if A.shape[0] <= SQUARED_STATES:
        power = np.linalg.matrix_power(A.toarray(), times)
        return lambda y: project(power @ project(y))

    def apply(y: np.ndarray) -> np.ndarray:
        for _ in range(times):
            y = A @ y
        return project(y)

    return apply


def _power_iteration(
    A: csr_array, project: Apply, y: np.ndarray, steps: int = 100
) -> tuple[np.ndarray, float]:
    """y after twice as many applications of A, and by how much each of the last half made it grow."""
    total = 0.0
    for step in range(2 * steps):
        y = project(A @ project(y))
        norm = float(np.linalg.norm(y))
        if norm < 1e-200:
            return y, 0.0
        y = y / norm
        total += math.log(norm) * (step >= steps)
    return y, math.exp(total / steps)


def _spaces(apply: Apply, start: np.ndarray, dimensions: int) -> Iterator[_Space]:
    """Krylov spaces of a map, growing (Arnoldi's method); the last one where there are no more."""
    dimensions = min(dimensions, len(start))
    basis = np.empty((dimensions + 1, len(start)), dtype=start.dtype)
    small = np.zeros((dimensions + 1, dimensions), dtype=start.dtype)
    basis[0] = start / np.linalg.norm(start)
    look = FIRST_LOOK
    for k in range(dimensions):
        following = apply(basis[k])
        before = float(np.linalg.norm(following))
        for _ in range(2):  # once more, for what rounding left
            along = basis[: k + 1].conj() @ following
            following = following - along @ basis[: k + 1]
            small[: k + 1, k] += along
        rest = float(np.linalg.norm(following))
        small[k + 1, k] = rest
        ends = k + 1 == dimensions or rest <= 1e-14 * before
        if not ends:
            basis[k + 1] = following / rest
        if ends or k + 1 >= look:
            look = int(look * NEXT_LOOK)  # above it, as the first one is
            values, weights = np.linalg.eig(small[: k + 1, : k + 1])
            order = np.argsort(-np.abs(values), kind="stable")
            errors = (rest if len(order) < len(start) else 0.0) * np.abs(weights[-1, order])
            yield _Space(values[order], errors, weights[:, order], basis[: k + 1])
        if ends:
            return


def _leading(
    apply: Apply,
    start: np.ndarray,
    seen: np.ndarray,
    dimensions: int,
    error: float,
    rough: bool,
) -> tuple[_Space, np.ndarray] | None:
    """A space on which the largest are known, to this share of the largest of all, and which of them show."""
    for space in _spaces(apply, start, dimensions):
        values = space.values
        sizes = np.abs(values)
        if not sizes[0] > 0:
            return None
        least = ROUGH_COUNT if rough else COUNT
        missing = np.flatnonzero(space.errors > error * sizes[0])
        known = missing[0] if len(missing) else len(values)
        for count in (least, MOST_COUNT):
            if not rough:
                count = max(count, int((sizes > (1 - ALL_KNOWN) * sizes[0]).sum()))
            if known < min(count, len(values)):
                break
            shown = np.flatnonzero(_shown(space.vectors(np.arange(min(count, len(values)))), seen))
            if len(shown):
                return space, shown
    return None


def _sum_of_leading(space: _Space) -> np.ndarray:
    """Where the iteration for a matrix nearby begins, ``(N,)``."""
    leading = np.abs(space.values) > 0.3 * np.abs(space.values[0])
    found = space.vectors(leading).sum(axis=1).real
    return found / np.linalg.norm(found)


def _shown(vectors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which eigenvectors, as columns, have more than rounding in the entries seen."""
    return np.linalg.norm(vectors[seen], axis=0) > SEEN * np.linalg.norm(vectors, axis=0)


class _Beside(NamedTuple):
    """What is beside a shift: the largest modulus among modes that show, and of these the closest to it."""

    radius: float
    closest: Mode


def _closely(
    A: csr_array,
    project: Apply,
    seen: np.ndarray,
    space: _Space,
    shown: np.ndarray,
    radius: float,
) -> list[_Beside]:
    """What is beside each of the largest, from what is known of powers; nothing where that takes long."""
    if A.nnz > MOST_FACTORED:
        return []
    sizes = np.abs(space.values[shown])
    near = shown[sizes > (1 - CLOSE_TO_LARGEST) * sizes[0]]
    vectors = space.vectors(near)
    quotients = (vectors.conj() * (A @ vectors)).sum(axis=0) / (np.abs(vectors) ** 2).sum(axis=0)
    places: list[Mode] = []
    for value, vector in zip(quotients.tolist(), vectors.T, strict=True):
        above = Mode(value, vector) if value.imag >= 0 else Mode(value.conjugate(), vector.conj())
        if all(
            abs(above.value - each.value) > CLOSE_TO_LARGEST * abs(above.value) for each in places
        ):
            places.append(above)
    if len(places) > MOST_PLACES:
        return []
    found = [_beside(A, project, each.value, each.vector, seen) for each in places]
    there = [each for each in found if each is not None]
    largest = max((each.radius for each in there), default=0.0)
    right = len(there) == len(places) and abs(largest - radius) <= ROUGH * radius
    return [each for each in there if each.radius >= (1 - ROUGH) * largest] if right else []


def _beside(
    A: csr_array, project: Apply, place: complex, start: np.ndarray, seen: np.ndarray
) -> _Beside | None:
    """What is close to a number, which may be an eigenvalue; None where that is not found."""
    real = abs(place.imag) <= REAL * abs(place)
    shift = (place.real if real else place) * (1 + BESIDE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            factors = splu(csc_array(A - shift * eye_array(A.shape[0])))
    except (RuntimeError, Warning):
        return None

    def solve(y: np.ndarray) -> np.ndarray:
        return _projected(project, factors.solve(_projected(project, y)))

    start = start.real.copy() if real else start.astype(complex)
    for space in _spaces(solve, start, CLOSE_DIMENSIONS):
        sizes = np.maximum(np.abs(space.values), 1e-300)
        # Of others rounding leaves what it does beside the largest.
        misses = np.maximum(space.errors, EPSILON * sizes[0]) / sizes**2 / abs(shift)
        known = np.flatnonzero(misses <= CLOSE)
        if space.errors[0] / sizes[0] ** 2 > CLOSEST * abs(shift):
            continue
        vectors = space.vectors(known)
        which = np.flatnonzero(_shown(vectors, seen))
        if len(which):
            values = shift + 1 / space.values[known[which]]
            closest = Mode(complex(values[0]), vectors[:, which[0]])
            return _Beside(float(np.abs(values).max()), closest)
    return None


def _projected(project: Apply, y: np.ndarray) -> np.ndarray:
    return project(y) if y.dtype == float else project(y.real) + 1j * project(y.imag)
