"""The matrices of a linear step, from what it makes of probes: of few, where parameters are alike to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from scipy.sparse import bsr_array, csc_array, csr_array, diags_array, eye_array, hstack, kron

from relaysim.theory.probes import Probes

__all__ = ["close", "conserved_matrix", "noise_matrix", "step_matrix", "without_rounding"]

# Bytes of a batch of states that step together.
BATCH_BYTES = 1 << 21

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

    @property
    def workers(self) -> np.ndarray | None:
        """Whose each entry of y is, ``(N,)``; None where arrays have not a row for each worker."""

    @property
    def probes(self) -> Probes | None:
        """Of a row for each worker; None where unit vectors have to do."""


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
        respond = functools.partial(step.linear, phase=phase)
        found = _matrix_of(respond, step.states, _heard(step, step.states, step.workers))
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

    own = None if step.workers is None else step.workers[::d]
    heard = _heard(step, rows, own)
    if heard is not None and own is not None:  # x follows y
        heard = heard._replace(workers=np.concatenate([own, np.arange(n)]))
    both = _of_rows(unforced, rows, d, heard)
    if both.shape[0] not in (rows, rows + n):  # it asks for no gradient, or for one
        return None
    one = eye_array(d)
    unforced_part = csr_array(kron(both[:rows], one, format="csr"))

    def with_hessians(hessians: csr_array) -> csr_array:
        return csr_array(unforced_part + into @ (hessians @ at))

    if both.shape[0] == rows:
        found = own = unforced_part
    else:
        into = csr_array(kron(_of_errors(step, phase), one, format="csr"))
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
        found = csr_array(kron(_of_errors(step, phase), eye_array(d), format="csr"))
        errors = np.random.default_rng(4).normal(size=(n * d, 1))
        if close(found @ errors, forced(errors), 0.0):
            return found
    heard = _heard(step, n, step.workers) if d == 1 else None
    return _matrix_of(forced, n * d, heard)


def _of_errors(step: Step, phase: int) -> csr_array:
    """How errors of the gradients in one parameter enter, ``(R, n)``."""
    n, d = step.size
    own = None if step.workers is None else step.workers[::d]
    return _of_rows(functools.partial(_forced, step, phase), n, d, _heard(step, n, own))


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


class _Heard(NamedTuple):
    """Probes, and whose each answer is, ``(k,)``."""

    probes: Probes
    workers: np.ndarray


def _heard(step: Step, rows: int, workers: np.ndarray | None) -> _Heard | None:
    """For states of so many rows, of which a step makes rows of these workers."""
    n = step.size[0]
    if step.probes is None or workers is None or len(workers) % n:
        return None
    return _Heard(step.probes.of_arrays(rows // n), workers)


def _matrix_of(respond: Gradient, width: int, heard: _Heard | None = None) -> csr_array:
    """The matrix of a linear map, from what it makes of unit vectors, batch by batch."""
    return _of_rows(respond, width, 1, heard)


def _of_rows(respond: Gradient, rows: int, d: int, heard: _Heard | None = None) -> csr_array:
    """The matrix ``(k, rows)`` of a map that does the same to each of d parameters: ``(rows d, r)`` to
    ``(k d, r)``.

    From what it makes of probes that hold many units each; of one unit each where what these tell does not
    hold for a random state, row by row.
    """
    if heard is not None:
        probes = heard.probes
        answers = np.hstack(list(_answers(respond, probes.labels, probes.number, d)))
        found = probes.columns(answers, heard.workers)
        if found is not None:
            y = np.random.default_rng(4).normal(size=(rows, d))
            error = np.abs(found @ y - respond(y.reshape(-1, 1)).reshape(-1, d))
            if (error <= 1e-9 * (abs(found) @ np.abs(y))).all():
                return found
    blocks = _answers(respond, np.arange(rows), rows, d)
    return csr_array(hstack([csc_array(block) for block in blocks]))


def _answers(respond: Gradient, labels: np.ndarray, count: int, d: int) -> Iterator[np.ndarray]:
    """What is made of probes with a 1 in the rows of their label, some at a time, ``(k, some)``.

    Parameter c of replica q carries probe c + d q.
    """
    rows = len(labels)
    replicas = -(-count // d)
    size = max(1, min(replicas, BATCH_BYTES // (8 * max(rows * d, 1))))
    order = np.argsort(labels, kind="stable")
    for first in range(0, replicas, size):
        start, end = first * d, min((first + size) * d, count)
        within = order[slice(*np.searchsorted(labels[order], [start, end]))]
        width = -(-(end - start) // d)
        unit = np.zeros((rows, d, width))
        unit[within, labels[within] % d, labels[within] // d - first] = 1
        answers = respond(unit.reshape(rows * d, width))
        found = answers.reshape(len(answers) // d, d, width)
        yield found.transpose(0, 2, 1).reshape(len(found), d * width)[:, : end - start]


def without_rounding(matrix: csr_array) -> csr_array:
    """Without entries that are rounding beside the largest: what should be 0 is 0."""
    sizes = np.abs(matrix.data)
    rounding = sizes <= 4e-16 * sizes.max(initial=0)
    if rounding.any():
        matrix.data[rounding] = 0
        matrix.eliminate_zeros()
    return matrix


def close(a: np.ndarray, b: np.ndarray, summands: float) -> bool:
    """Equal but for rounding, where numbers of the size ``summands`` may have cancelled."""
    largest = max(np.abs(a).max(initial=0), 1e-3 * summands, 1e-300)
    return bool(np.abs(a - b).max(initial=0) <= 1e-9 * largest)
