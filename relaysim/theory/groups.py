"""Which states of a step go together, by the entries of its matrix and of what it conserves."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph, csr_array

__all__ = [
    "Groups",
    "Part",
    "Stack",
    "conserved_in",
    "groups_by",
    "groups_of",
    "part_of",
    "stack_of",
]

# Groups of at most so many states are handled together.
MOST_STACKED = 16
# Where entries stand is remembered up to so many: a step at another rate has them in the same places.
MOST_REMEMBERED = 1 << 16


class _Entries(NamedTuple):
    """Some of a matrix's entries, as a matrix of their own: which they are, and where they stand then."""

    which: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    width: int

    def of(self, data: np.ndarray) -> csr_array:
        """The matrix, ``(rows, width)``, from all entries."""
        shape = len(self.indptr) - 1, self.width
        # Copies, since a matrix may be put in another order.
        given = data[self.which], self.indices.copy(), self.indptr.copy()
        return csr_array(given, shape=shape)


class Stack(NamedTuple):
    """Groups of as many states, in which nothing is conserved: their ``rows (count, size)``."""

    rows: np.ndarray
    which: np.ndarray
    at: np.ndarray

    def dense(self, A: csr_array) -> np.ndarray:
        """The parts of A within them, ``(count, size, size)``."""
        count, size = self.rows.shape
        found = np.zeros(count * size * size)
        found[self.at] = A.data[self.which]
        return found.reshape(count, size, size)


class Part(NamedTuple):
    """A group by itself: its ``rows (size,)``."""

    rows: np.ndarray
    matrix: _Entries
    conserved: _Entries


class Groups(NamedTuple):
    """The states of a step: no entry, and no conserved quantity, joins one group to another."""

    stacks: tuple[Stack, ...]
    others: tuple[Part, ...]


def groups_by(A: csr_array, conserved: csr_array) -> Groups:
    """The groups of A ``(N, N)`` and of ``conserved (k, N)``, neither with an entry that is 0."""
    patterns = [(each.indices, each.indptr) for each in (A, conserved)]
    if A.nnz + conserved.nnz > MOST_REMEMBERED:
        return _groups(A.shape[0], *patterns)
    key = [(each.dtype.str, each.tobytes()) for pattern in patterns for each in pattern]
    return _remembered(A.shape[0], *key)


@functools.lru_cache(maxsize=8)
def _remembered(states: int, *written: tuple[str, bytes]) -> Groups:
    indices, indptr, of_conserved, ends = (np.frombuffer(text, kind) for kind, text in written)
    return _groups(states, (indices, indptr), (of_conserved, ends))


def _groups(
    states: int,
    matrix: tuple[np.ndarray, np.ndarray],
    conserved: tuple[np.ndarray, np.ndarray],
) -> Groups:
    columns, of_conserved = matrix[0], conserved[0]
    rows, quantities = _rows(matrix[1]), _rows(conserved[1])
    # A quantity joins all states that it is made of.
    both = states + len(conserved[1]) - 1
    ends = np.concatenate([rows, quantities + states]), np.concatenate([columns, of_conserved])
    joint = csr_array((np.ones(len(ends[0])), ends), shape=(both, both))
    count, labels = csgraph.connected_components(joint, directed=True, connection="weak")
    labels, label_of = labels[:states], labels[states:]
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=count)
    first = np.cumsum(sizes) - sizes
    place = np.empty(states, dtype=np.intp)
    place[order] = np.arange(states) - np.repeat(first, sizes)
    stacked = sizes <= MOST_STACKED
    stacked[label_of] = False
    entries = np.argsort(labels[rows], kind="stable")
    from_quantities = np.argsort(label_of[quantities], kind="stable")
    ends_of_entries = np.searchsorted(labels[rows][entries], np.arange(count + 1))
    ends_of_kept = np.searchsorted(label_of[quantities][from_quantities], np.arange(count + 1))
    stacks, others = [], []
    for size in np.unique(sizes[stacked & (sizes > 0)]).tolist():
        chosen = np.flatnonzero(stacked & (sizes == size))
        number = np.full(count, -1)
        number[chosen] = np.arange(len(chosen))
        which = np.flatnonzero(number[labels[rows]] >= 0)
        i, j = rows[which], columns[which]
        at = (number[labels[i]] * size + place[i]) * size + place[j]
        stacks.append(Stack(order[first[chosen, None] + np.arange(size)], which, at))
    for group in np.flatnonzero(~stacked & (sizes > 0)).tolist():
        size = int(sizes[group])
        which = entries[ends_of_entries[group] : ends_of_entries[group + 1]]
        kept = from_quantities[ends_of_kept[group] : ends_of_kept[group + 1]]
        own, number = np.unique(quantities[kept], return_inverse=True)
        part = Part(
            order[first[group] : first[group] + size],
            _entries(which, place[rows[which]], place[columns[which]], (size, size)),
            _entries(kept, number, place[of_conserved[kept]], (len(own), size)),
        )
        others.append(part)
    return Groups(tuple(stacks), tuple(others))


def _rows(indptr: np.ndarray) -> np.ndarray:
    """The row of each entry."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def _entries(
    which: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> _Entries:
    """Of entries whose rows increase."""
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=shape[0])))
    return _Entries(which, columns, indptr, shape[1])


def groups_of(patterns: Sequence[csr_array]) -> Iterator[np.ndarray]:
    """Rows that go together: no matrix has an entry between one group and another."""
    joint = abs(patterns[0])
    for pattern in patterns[1:]:
        joint = joint + abs(pattern)
    joint.eliminate_zeros()
    count, labels = csgraph.connected_components(joint, directed=True, connection="weak")
    order = np.argsort(labels, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])


def part_of(matrix: csr_array, rows: np.ndarray) -> csr_array:
    """The part of a matrix within a group."""
    return matrix[rows][:, rows]


def conserved_in(conserved: csr_array, rows: np.ndarray) -> csr_array:
    """The conserved quantities of a group."""
    kept = csr_array(conserved[:, rows])
    kept = kept[np.diff(kept.indptr) > 0]
    if kept.shape[0] < 2 or len(rows) == conserved.shape[1]:
        return kept
    # Of rows that reach into other groups the parts may depend on each other.
    _, sizes, directions = np.linalg.svd(kept.toarray(), full_matrices=False)
    independent = directions[sizes > 1e-12 * sizes[0]]
    return kept if len(independent) == kept.shape[0] else csr_array(independent)


def stack_of(A: csr_array, rows: np.ndarray) -> np.ndarray:
    """The parts of a matrix within groups ``(count, size)``, dense, ``(count, size, size)``."""
    count, size = rows.shape
    group, place = np.full((2, A.shape[0]), -1)
    group[rows], place[rows] = np.arange(count)[:, None], np.arange(size)
    coordinates = A.tocoo()
    i, j = coordinates.coords
    inside = group[i] >= 0
    found = np.zeros((count, size, size))
    i, j = i[inside], j[inside]
    found[group[i], place[i], place[j]] = coordinates.data[inside]
    return found
