"""The matrices of a linear step, from what it makes of probes: of few, where parameters are alike to it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.sparse import bsr_array, csc_array, csr_array, diags_array, eye_array, hstack, kron

__all__ = ["close", "conserved_matrix", "noise_matrix", "step_matrix", "without_rounding"]

# Bytes of a batch of states that step together.
BATCH_BYTES = 1 << 24

Gradient = Callable[[np.ndarray], np.ndarray]


class Step(Protocol):
    """What is read of a `relaysim.theory.affine.AffineStep`."""

    states: int

    @property
    def size(self) -> tuple[int, int]:
        """(n, d)."""

    @property
    def rows(self) -> int | None:
        """R where the state is R rows of d parameters, else None."""

    def curvature(self, x: np.ndarray) -> np.ndarray: ...

    def linear(self, y: np.ndarray, phase: int) -> np.ndarray: ...

    def response(self, y: np.ndarray, phase: int, gradient: Gradient) -> np.ndarray: ...

    def conserved_by(self, y: np.ndarray) -> np.ndarray: ...


def step_matrix(
    step: Step, phase: int, summands: float, curvatures: np.ndarray | None = None
) -> csr_array | None:
    """A of one step of a period, ``(N, N)``.

    With the gradients as an input of their own, most rules treat all parameters alike, so that each
    parameter can carry a probe of its own, R²/d numbers instead of N²: A = M ⊗ I + (B ⊗ I) H (E ⊗ I), where
    gradients are taken at E y and enter by B. Whether that is so is tried on a random state.

    Args:
        step: at its learning rate.
        phase: of the period.
        summands: the size of numbers that may have cancelled in a step of a state of size 1.
        curvatures: those along eigenvectors that all Hessians share, ``(n, d)``: parameters are to be those
            along these; None is returned where the rule does not treat them alike.
    """
    found = _by_rows(step, phase, summands, curvatures)
    if found is None and curvatures is not None:
        return None
    if found is None:
        found = _matrix_of(functools.partial(step.linear, phase=phase), step.states)
    return without_rounding(found)


def _by_rows(
    step: Step, phase: int, summands: float, curvatures: np.ndarray | None
) -> csr_array | None:
    rows, (n, d) = step.rows, step.size
    if rows is None or d == 1:
        return None
    points: list[np.ndarray] = []

    def listened(x: np.ndarray) -> np.ndarray:
        points.append(x.reshape(n * d, -1).copy())
        return np.zeros(x.shape)

    def unforced(y: np.ndarray) -> np.ndarray:
        points.clear()
        found = step.response(y, phase, listened)
        return np.concatenate([found, *points])

    forced = functools.partial(_forced, step, phase)
    both = _of_rows(unforced, rows, d)
    if both.shape[0] not in (rows, rows + n):  # it asks for no gradient, or for one
        return None
    one = eye_array(d)
    unforced_part = csr_array(kron(both[:rows], one, format="csr"))

    def with_hessians(hessians: csr_array) -> csr_array:
        return csr_array(unforced_part + into @ (hessians @ at))

    if both.shape[0] == rows:
        found = own = unforced_part
    else:
        into = csr_array(kron(_of_rows(forced, n, d), one, format="csr"))
        at = csr_array(kron(both[rows:], one, format="csr"))
        directions = np.ascontiguousarray(np.broadcast_to(np.eye(d), (n, d, d)))
        hessians = bsr_array((step.curvature(directions), np.arange(n), np.arange(n + 1)))
        found = own = with_hessians(csr_array(hessians))
        if curvatures is not None:
            found = with_hessians(csr_array(diags_array(curvatures.ravel())))
    y = np.random.default_rng(4).normal(size=(step.states, 1))
    return found if close(own @ y, step.linear(y, phase), summands) else None


def noise_matrix(step: Step, phase: int) -> csr_array:
    """How errors of the gradients enter the state in one step of a period, ``(N, n d)``."""
    rows, (n, d) = step.rows, step.size
    forced = functools.partial(_forced, step, phase)
    if rows is not None and d > 1:
        found = csr_array(kron(_of_rows(forced, n, d), eye_array(d), format="csr"))
        errors = np.random.default_rng(4).normal(size=(n * d, 1))
        if close(found @ errors, forced(errors), 0.0):
            return found
    return _matrix_of(forced, n * d)


def _forced(step: Step, phase: int, errors: np.ndarray) -> np.ndarray:
    """What errors ``(n d, r)`` of the gradients make of a state of zeros."""
    shape = (*step.size, errors.shape[1])
    rest = np.zeros((step.states, errors.shape[1]))
    return step.response(rest, phase, lambda x: errors.reshape(shape).copy())


def conserved_matrix(step: Step, summands: float) -> csr_array:
    """The quantities that a rule says it conserves as a matrix, ``(k, N)``."""
    rows, (_, d) = step.rows, step.size
    if rows is not None and d > 1:
        found = csr_array(kron(_of_rows(step.conserved_by, rows, d), eye_array(d), format="csr"))
        y = np.random.default_rng(4).normal(size=(step.states, 1))
        given = step.conserved_by(y)
        if len(given) == found.shape[0] and close(found @ y, given, summands):
            return found
    return _matrix_of(step.conserved_by, step.states)


def _matrix_of(respond: Callable[[np.ndarray], np.ndarray], width: int) -> csr_array:
    """The matrix of a linear map, from what it makes of unit vectors, batch by batch."""
    return _of_rows(respond, width, 1)


def _of_rows(respond: Callable[[np.ndarray], np.ndarray], rows: int, d: int) -> csr_array:
    """The matrix ``(k, rows)`` of a map that does the same to each of d parameters: ``(rows d, r)`` to
    ``(k d, r)``.

    Parameter c of replica q carries the probe of row c + d q.
    """
    replicas = -(-rows // d)
    size = max(1, min(replicas, BATCH_BYTES // (8 * max(rows * d, 1))))
    blocks = []
    for first in range(0, replicas, size):
        probes = np.arange(first * d, min((first + size) * d, rows))
        count = -(-len(probes) // d)
        unit = np.zeros((rows, d, count))
        unit[probes, probes % d, probes // d - first] = 1
        answers = respond(unit.reshape(rows * d, count))
        found = answers.reshape(len(answers) // d, d, count)
        columns = found.transpose(0, 2, 1).reshape(len(found), d * count)
        blocks.append(csc_array(columns[:, : len(probes)]))
    return csr_array(hstack(blocks))


def without_rounding(matrix: csr_array) -> csr_array:
    """Without entries that are rounding beside the largest: what should be 0 is 0."""
    matrix.data[np.abs(matrix.data) <= 4e-16 * np.abs(matrix.data).max(initial=0)] = 0
    matrix.eliminate_zeros()
    return matrix


def close(a: np.ndarray, b: np.ndarray, summands: float) -> bool:
    """Equal but for rounding, where numbers of the size ``summands`` may have cancelled."""
    largest = max(np.abs(a).max(initial=0), 1e-3 * summands, 1e-300)
    return bool(np.abs(a - b).max(initial=0) <= 1e-9 * largest)
