"""One gossip matrix, or a sequence of them that repeats with the step: checks and what they preserve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy.sparse import csr_array, eye_array, issparse
from scipy.sparse.csgraph import connected_components

from relaysim.topologies import Topology

__all__ = [
    "ROW_SUM_TOLERANCE",
    "Matrix",
    "as_sequence",
    "is_sequence",
    "preserved_weights",
    "require_symmetric",
]

Matrix: TypeAlias = np.ndarray | csr_array
ROW_SUM_TOLERANCE = 1e-8
# A matrix is symmetric if opposite weights differ by no more.
SYMMETRIC_TO = 1e-12


def is_sequence(mixing) -> bool:
    """Whether ``mixing`` is a sequence W_0, W_1, … and not one matrix.

    >>> is_sequence(np.eye(2)), is_sequence([np.eye(2), np.eye(2)])
    (False, True)
    """
    if issparse(mixing):
        return False
    if isinstance(mixing, np.ndarray):
        return mixing.ndim == 3
    if not isinstance(mixing, Sequence) or isinstance(mixing, str):
        raise TypeError(
            f"mixing must be a matrix (n, n) or a sequence of them, not {mixing!r}; "
            f"relaysim.mixing makes them from a topology, as metropolis(topology)"
        )
    return len(mixing) > 0 and (issparse(mixing[0]) or np.ndim(mixing[0]) == 2)


def as_sequence(mixing, topology: Topology) -> tuple[csr_array, ...]:
    """Check a matrix, or a sequence of them, against a topology; always returns a tuple.

    Raises:
        ValueError: wrong size, not finite, rows that do not sum to one, entries off the topology's
            edges, or workers that no product of the sequence connects.

    >>> from relaysim.topologies import chain
    >>> as_sequence(np.eye(2), chain(3))
    Traceback (most recent call last):
        ...
    ValueError: the mixing matrix is 2 × 2 but the topology has 3 workers
    """
    n = topology.n
    sequence = tuple(mixing) if is_sequence(mixing) else (mixing,)
    if not issparse(mixing) and len(mixing) == 0:
        raise ValueError("mixing is an empty sequence; give at least one matrix")
    allowed = topology.adjacency + eye_array(n)
    matrices = []
    for t, matrix in enumerate(sequence):
        which = f"mixing matrix W_{t}" if len(sequence) > 1 else "the mixing matrix"
        W = csr_array(matrix if issparse(matrix) else np.asarray(matrix, dtype=float))
        W = W.astype(float)
        if W.shape != (n, n):
            shape = " × ".join(map(str, W.shape))
            raise ValueError(f"{which} is {shape} but the topology has {n} workers")
        W.sum_duplicates()
        W.eliminate_zeros()
        if not np.all(np.isfinite(W.data)):
            raise ValueError(f"{which} has entries that are not finite")
        sums = W.sum(axis=1)
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > ROW_SUM_TOLERANCE:
            raise ValueError(
                f"the rows of {which} must sum to 1; row {worst} sums to {sums[worst]:.6g}. "
                f"Put 1 − (the rest of the row) on the diagonal"
            )
        stray = (abs(W) - abs(W).multiply(allowed)).tocoo()
        stray.eliminate_zeros()
        if stray.nnz:
            i, j = int(stray.coords[0][0]), int(stray.coords[1][0])
            raise ValueError(
                f"{which} has weight {W[i, j]:.3g} at ({i}, {j}), which is no edge of {topology!r}; "
                f"pass a topology that has the edge"
            )
        matrices.append(W)
    union = sum((abs(W) for W in matrices[1:]), abs(matrices[0]))
    parts = connected_components(union, directed=True, connection="strong")[0]
    if parts > 1:
        raise ValueError(
            f"the mixing matrices leave the workers in {parts} groups that never exchange anything; "
            f"over a period they must connect all {n} workers"
        )
    return tuple(matrices)


def require_symmetric(matrices: Sequence[csr_array]) -> None:
    """Raise ValueError unless all matrices are symmetric, naming the two entries that differ most."""
    for W in matrices:
        gap = abs(W - W.T)
        if gap.nnz and gap.max() > SYMMETRIC_TO:
            i, j = np.unravel_index(gap.tocsr().argmax(), gap.shape)
            raise ValueError(
                f"the mixing matrix must be symmetric where neighbours act as pairs; at ({i}, {j}) it "
                f"has {W[i, j]:.6g} and at ({j}, {i}) {W[j, i]:.6g}"
            )


def preserved_weights(matrices: Sequence[csr_array]) -> np.ndarray | None:
    """Weights π with Σ_i π_i = 1 and πᵀW = πᵀ for every matrix: what mixing leaves as it is, ``(n,)``.

    1/n for doubly stochastic matrices. None where no weights serve for all of them.

    >>> preserved_weights([csr_array([[0.5, 0.5], [0.25, 0.75]])]).round(12).tolist()
    [0.333333333333, 0.666666666667]
    """
    n = matrices[0].shape[0]
    weights = np.full(n, 1 / n)
    if not _preserve(matrices, weights):
        # πᵀ(W − I) = 0 with one equation, of which there is one too many, replaced by Σ_i π_i = 1.
        # The mean matrix connects all workers, so that it has one solution.
        equations = (sum(W.toarray() for W in matrices) / len(matrices) - np.eye(n)).T
        equations[-1] = 1
        weights = np.linalg.solve(equations, np.eye(n)[-1])
        if not _preserve(matrices, weights):
            return None
    return weights


def _preserve(matrices: Sequence[csr_array], weights: np.ndarray) -> bool:
    largest = np.abs(weights).max()
    return all(np.abs(weights @ W - weights).max() <= 1e-12 * largest for W in matrices)
