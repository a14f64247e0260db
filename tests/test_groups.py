"""The states that go together: what is remembered of where entries stand is what slicing finds anew."""

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from relaysim.theory import groups


def drawn(seed, states, kept):
    """A matrix with few entries, and quantities of which each is of few states."""
    generator = np.random.default_rng(seed)
    A = csr_array(random_array((states, states), density=1.2 / states, rng=generator))
    C = csr_array(random_array((kept, states), density=1.5 / states, rng=generator))
    A.data -= 0.5
    C.data -= 0.5
    return A, csr_array(C[np.diff(C.indptr) > 0])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("states", "kept"), [(5, 0), (40, 0), (40, 6), (120, 30)])
def test_groups_are_those_of_slicing(seed, states, kept):
    A, C = drawn(seed, states, kept)
    found = groups.groups_by(A, C)
    # |C|ᵀ|C|, in which nothing cancels, joins all states of a quantity.
    joined = [rows.tolist() for rows in groups.groups_of([A, abs(C).T @ abs(C)])]
    stacked = [row.tolist() for stack in found.stacks for row in stack.rows]
    others = [part.rows.tolist() for part in found.others]
    assert sorted(stacked + others) == sorted(joined)
    touched = set(C.indices.tolist())
    assert not touched & {state for rows in stacked for state in rows}
    assert max(map(len, stacked), default=0) <= groups.MOST_STACKED
    for stack in found.stacks:
        assert (stack.dense(A) == groups.stack_of(A, stack.rows)).all()
    for rows, matrix, quantities in found.others:
        assert (matrix.of(A.data).toarray() == groups.part_of(A, rows).toarray()).all()
        sliced = C[:, rows]
        sliced = csr_array(sliced[np.diff(sliced.indptr) > 0])
        assert (quantities.of(C.data).toarray() == sliced.toarray()).all()


def test_what_is_remembered_is_of_the_same_places_only():
    A, C = drawn(0, 40, 6)
    first = groups.groups_by(A, C)
    assert groups.groups_by(2 * A, 3 * C) is first
    moved = csr_array(A.T)
    assert groups.groups_by(moved, C) is not first
    # What is made of it may be put in another order without harm.
    part = first.others[0]
    before = part.matrix.indices.copy()
    part.matrix.of(A.data).indices[:] = 0
    assert (part.matrix.indices == before).all()


def test_large_matrices_are_not_remembered(monkeypatch):
    A, C = drawn(1, 120, 30)
    known = groups.groups_by(A, C)
    monkeypatch.setattr(groups, "MOST_REMEMBERED", 0)
    again = groups.groups_by(A, C)
    assert again is not known
    for one, other in zip(known.others, again.others, strict=True):
        assert (one.rows == other.rows).all()
