"""One gossip matrix, or a sequence of them that repeats with the step: checks and what they preserve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components

from relaysim.mixing.precision import in_double
from relaysim.mixing.rounds import is_several_rounds
from relaysim.support.checks import shown
from relaysim.topologies import Topology, TreePair

__all__ = [
    "COLUMNS",
    "ROWS",
    "Matrix",
    "Mixing",
    "as_matrices",
    "as_sequence",
    "checked",
    "graph_for",
    "is_sequence",
    "is_symmetric",
    "mixing_in_double",
    "negative_weight",
    "preserved_weights",
    "require_connected",
    "require_symmetric",
    "sum_text",
    "undirected_graph_for",
]

Matrix: TypeAlias = np.ndarray | csr_array
#: One gossip matrix, or a sequence of them that repeats with the step.
Mixing: TypeAlias = Matrix | Sequence[Matrix]
#: What sums to 1: what a worker makes of what it hears, or what others make of what it sends.
ROWS, COLUMNS = "rows", "columns"
SUM_TOLERANCE = 1e-8
SYMMETRY_TOLERANCE = 1e-12


def graph_for(topology: object) -> Topology:
    """The topology, if it is one whose edges can have weights.

    >>> from relaysim.topologies import double_binary_tree
    >>> graph_for(double_binary_tree(4))
    Traceback (most recent call last):
        ...
    TypeError: a mixing matrix needs a Topology, not ...; a pair of trees has none, since each tree ...
    """
    if not isinstance(topology, Topology):
        why = ""
        if isinstance(topology, TreePair):
            why = "; a pair of trees has none, since each tree carries half of the coordinates"
        raise TypeError(f"a mixing matrix needs a Topology, not {topology!r}{why}")
    return topology


def undirected_graph_for(topology: object) -> Topology:
    """The topology, if its edges can have weights that are the same in both directions.

    >>> from relaysim.topologies import directed_ring
    >>> undirected_graph_for(directed_ring(4))
    Traceback (most recent call last):
        ...
    ValueError: weights that are the same in both directions need ... directed_ring(4) is directed; ...
    """
    graph = graph_for(topology)
    if graph.is_directed:
        raise ValueError(
            f"weights that are the same in both directions need an undirected graph, and {graph!r} is "
            f"directed; use row_stochastic(topology), column_stochastic(topology) or "
            f"topology.to_undirected()"
        )
    return graph


def is_sequence(mixing: object) -> TypeGuard[Sequence[Matrix]]:
    """Whether ``mixing`` is a sequence W_0, W_1, … and not one matrix.

    >>> is_sequence(np.eye(2)), is_sequence([np.eye(2), np.eye(2)])
    (False, True)
    """
    if issparse(mixing) or isinstance(mixing, pd.DataFrame):
        return False
    if isinstance(mixing, np.ndarray):
        return mixing.ndim == 3
    if not isinstance(mixing, Sequence) or isinstance(mixing, str):
        mend = "relaysim.mixing makes them from a topology, as metropolis(topology)"
        if callable(mixing):
            mend = "a callable of the step is for relaysim.simulate, since it has no period"
        raise TypeError(
            f"mixing must be a matrix (n, n) or a sequence of them, not {shown(mixing)}; {mend}"
        )
    return len(mixing) > 0 and (issparse(mixing[0]) or np.ndim(mixing[0]) == 2)


def as_matrices(W: Mixing) -> tuple[csr_array, ...]:
    """Check a matrix, or a sequence of them, on its own; always returns a tuple.

    Raises:
        TypeError: no matrix, or entries that are not real.
        ValueError: not square, sizes that differ, not finite, or rows that do not sum to one.

    >>> [matrix.shape for matrix in as_matrices(np.eye(2))]
    [(2, 2)]
    """
    matrices: list[csr_array] = []
    for which, matrix in _named(W, "W", "W_"):
        entries = matrix if is_several_rounds(matrix) else in_double(matrix, which)
        if entries.ndim != 2 or entries.shape[0] != entries.shape[1]:
            raise ValueError(
                f"{which} must be a square matrix (n, n), or a sequence of them; it is "
                f"{_written(entries.shape)}"
            )
        if matrices and entries.shape != matrices[0].shape:
            raise ValueError(
                f"all matrices of a sequence must be of one size; W_0 has {matrices[0].shape[0]} "
                f"rows and {which} has {entries.shape[0]}"
            )
        matrices.append(_with_unit_sums(entries, which, ROWS))
    return tuple(matrices)


def as_sequence(
    mixing: Mixing, topology: Topology, sums: Sequence[str] = (ROWS,)
) -> tuple[csr_array, ...]:
    """Check a matrix, or a sequence of them, against a topology; always returns a tuple.

    Args:
        mixing: what was given.
        topology: whose edges have weights.
        sums: what must sum to 1, in turn of the matrices that are used one after the other: with (ROWS,
            COLUMNS) the rows of W_0, the columns of W_1, …; of a single matrix both.

    Raises:
        TypeError: no matrix, or entries that are not real.
        ValueError: wrong size, not finite, rows or columns that do not sum to one, entries off the topology's
            edges, or workers that no product of the sequence connects.

    >>> from relaysim.topologies import chain
    >>> as_sequence(np.eye(2), chain(3))
    Traceback (most recent call last):
        ...
    ValueError: the mixing matrix is 2 × 2 but the topology has 3 workers
    """
    named = list(_numbered(mixing))
    uses = range(math.lcm(len(named), len(sums)))
    matrices = [
        checked(matrix, which, topology, {sums[t % len(sums)] for t in uses[k :: len(named)]})
        for k, (which, matrix) in enumerate(named)
    ]
    for each in range(len(sums)):
        used = [matrices[t % len(matrices)] for t in uses[each :: len(sums)]]
        require_connected(used, topology)
    return tuple(matrices)


def require_connected(
    matrices: Sequence[csr_array], topology: Topology, which: str = "the mixing matrices"
) -> None:
    """Raise ValueError where workers never exchange anything through these matrices, whatever the order."""
    union = sum((abs(W) for W in matrices[1:]), abs(matrices[0]))
    parts = connected_components(union, directed=True, connection="strong")[0]
    if parts > 1:
        never = "do not all reach each other" if topology.is_directed else "never exchange anything"
        raise ValueError(
            f"{which} leave the workers in {parts} groups that {never}; "
            f"over a period they must connect all {topology.n} workers"
        )


def mixing_in_double(mixing: Mixing) -> Mixing:
    """What `in_double` makes of a matrix, or of each of a sequence; a sequence is a tuple then."""
    each = tuple(
        W if is_several_rounds(W) else in_double(W, which) for which, W in _numbered(mixing)
    )
    return each if is_sequence(mixing) else each[0]


def sum_text(total: float) -> str:
    """A sum that should be 1, in as many digits as tell it from 1.

    >>> sum_text(0.9), sum_text(1 + 6e-8)
    ('0.9', '1 + 6e-08')
    """
    written = f"{total:.6g}"
    return f"1 {'+' if total > 1 else '−'} {abs(total - 1):.2g}" if written == "1" else written


def checked(
    matrix: Any, which: str, topology: Topology, sums: Iterable[str] = (ROWS,)
) -> csr_array:
    """One matrix that fits a topology, a copy; ``which`` is what messages call it, ``sums`` what of it must
    sum to 1.

    One that stands for several rounds is not copied; that of each round has to fit.

    Raises:
        TypeError, ValueError: as `as_sequence`, but for workers that are not connected.
    """
    if is_several_rounds(matrix):
        checked(matrix.one_round, f"the matrix of each round of {which}", topology)
        return matrix
    n = topology.n
    entries = in_double(matrix, which)
    if entries.shape != (n, n):
        raise ValueError(f"{which} is {_written(entries.shape)} but the topology has {n} workers")
    W = _with_unit_sums(entries, which, *sums)
    receiver = np.repeat(np.arange(n), np.diff(W.indptr))
    stray = receiver != W.indices
    edges, weighted = topology.dst * n + topology.src, receiver[stray] * n + W.indices[stray]
    stray[stray] = edges[np.searchsorted(edges[:-1], weighted)] != weighted if len(edges) else True
    if stray.any():
        first = int(np.argmax(stray))
        i, j = int(receiver[first]), int(W.indices[first])
        why = f", which is no edge of {topology!r}"
        if topology.is_directed:
            why = f", what {i} gives to what {j} sent, and {topology!r} has no edge from {j} to {i}"
        raise ValueError(
            f"{which} has weight {W[i, j]:.3g} at ({i}, {j}){why}; pass a topology that has the edge"
        )
    return W


def _numbered(mixing: Mixing) -> Iterator[tuple[str, Any]]:
    return _named(mixing, "the mixing matrix", "mixing matrix W_")


def _named(mixing: Mixing, alone: str, numbered: str) -> Iterator[tuple[str, Any]]:
    """Each matrix of a sequence, or the only one, with what messages call it."""
    if not is_sequence(mixing):
        if not issparse(mixing) and len(mixing) == 0:
            raise ValueError(
                f"{alone} is empty; give a square matrix, or a sequence of at least one"
            )
        yield alone, mixing
    elif len(mixing) == 1:
        yield alone, mixing[0]
    else:
        for t, matrix in enumerate(mixing):
            yield f"{numbered}{t}", matrix


def _with_unit_sums(matrix: Matrix, which: str, *sums: str) -> csr_array:
    """A copy without explicit zeros, after a look at its entries and the sums of its rows or columns."""
    if is_several_rounds(matrix):
        return matrix
    W = csr_array(matrix).astype(float)
    W.sum_duplicates()
    W.eliminate_zeros()
    if not np.isfinite(W.data).all():
        raise ValueError(f"{which} has entries that are not finite")
    axes = {ROWS: 1, COLUMNS: 0}
    for each in sorted(sums, reverse=True):
        off = W.sum(axis=axes[each]) - 1
        worst = int(np.argmax(np.abs(off)))
        if abs(off[worst]) > SUM_TOLERANCE:
            one, other = each.removesuffix("s"), COLUMNS if each == ROWS else ROWS
            mend = f"Put 1 − (the rest of the {one}) on the diagonal"
            if np.abs(W.sum(axis=axes[other]) - 1).max() <= SUM_TOLERANCE:
                mend = f"Its {other} do: is it the transpose that is meant?"
            raise ValueError(
                f"the {each} of {which} must sum to 1; {one} {worst} sums to "
                f"{sum_text(1 + off[worst])}. {mend}"
            )
    return W


def _written(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def is_symmetric(W: csr_array) -> bool:
    """Whether opposite weights are equal, to rounding beside 1 or the largest of them.

    >>> is_symmetric(csr_array([[0.9, 0.1], [0.2, 0.8]]))
    False
    """
    return bool(abs(W - W.T).max() <= SYMMETRY_TOLERANCE * max(1, abs(W).max()))


def require_symmetric(matrices: Sequence[csr_array]) -> None:
    """Raise ValueError unless all matrices are symmetric, naming the two entries that differ most."""
    for W in matrices:
        if not is_symmetric(W):
            i, j = np.unravel_index(abs(W - W.T).tocsr().argmax(), W.shape)
            raise ValueError(
                f"the mixing matrix must be symmetric for this method, in which neighbours act as pairs or "
                f"momentum comes from real eigenvalues; at ({i}, {j}) it has {W[i, j]:.6g} and at "
                f"({j}, {i}) {W[j, i]:.6g}"
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


def negative_weight(W: csr_array) -> tuple[int, int, float] | None:
    """Who gives the lowest weight to whom, and which, if it is below 0.

    >>> negative_weight(csr_array([[1.5, -0.5], [0.0, 1.0]]))
    (0, 1, -0.5)
    """
    entries = W.tocoo()
    if not entries.nnz or entries.data.min() >= 0:
        return None
    k = int(entries.data.argmin())
    i, j = (int(ends[k]) for ends in entries.coords)
    return i, j, float(entries.data[k])
