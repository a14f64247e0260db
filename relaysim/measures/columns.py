"""The measures of a run: those that every history has and the user's own, checked, and their values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaysim.measures.block import Block, Known, Shared
from relaysim.measures.measure import Measure
from relaysim.measures.ready import READY, default_measures
from relaysim.problems.problem import Problem, knows_optimum
from relaysim.support.callbacks import call
from relaysim.support.checks import shown, unmasked

__all__ = ["bits_of", "check_shapes", "further_measures", "measures_of", "values_of"]

#: What else tables of histories have as columns.
TAKEN = (
    *("replica", "seed", "learning_rate", "step", "worker", "vectors_sent", "bits_sent", "time"),
    *("label", "method", "replicas", "steps", "steps_to_target", "vectors_to_target", "rate"),
    "diverged",
)


def bits_of(vectors: ArrayLike, d: int) -> np.ndarray:
    """Bits in so many vectors of d numbers, 64 a number; a compressed vector is a part of one.

    >>> bits_of([1, 0.5], 10).tolist()
    [640.0, 320.0]
    """
    return np.rint(np.asarray(vectors) * (64.0 * d))


def measures_of(problem: Problem, given: Iterable[Any] | None = None) -> tuple[Measure, ...]:
    """The measures that every history of a problem has, and those that were given.

    Args:
        problem: what is measured on.
        given: a list; its entries are Measures, names of ready ones, or pairs of a name and a function
            of x, ``(n, d[, r])`` to ``()`` or ``(r,)``. A ready one that is there by itself is one column.

    Raises:
        TypeError: what is none of these.
        ValueError: an unknown name, a name that is taken, or a measure that needs an optimum that is
            not known.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> [m.name for m in measures_of(problem, ["worst_distance", ("norm", lambda x: (x * x).sum())])][3:]
    ['gradient_norm', 'worst_distance', 'norm']
    """
    found = list(default_measures(problem))
    there = set(found)
    for measure in further_measures(given):
        if measure in there:
            there.remove(measure)
            continue
        names = [other.name for other in found]
        if measure.name in names or measure.name in TAKEN:
            raise ValueError(
                f"the name of measure {measure.name!r} is taken: columns are called "
                f"{', '.join(dict.fromkeys((*names, *TAKEN)))}; give it another one"
            )
        if measure.needs_optimum and not knows_optimum(problem):
            raise ValueError(
                f"measure {measure.name!r} needs a problem whose optimum is known; give the problem "
                f"an `optimum`"
            )
        found.append(measure)
    return tuple(found)


def further_measures(given: Iterable[Any] | None) -> tuple[Measure, ...]:
    """What a user gave as ``measures``, as Measures; see `measures_of`."""
    if given is None:
        return ()
    if isinstance(given, str) or callable(given) or not isinstance(given, Iterable):
        raise TypeError(
            f"measures must be a list of measures, such as ['worst_distance'], not {shown(given)}"
        )
    return tuple(map(_measure, given))


def _measure(entry: object) -> Measure:
    if isinstance(entry, Measure):
        return entry
    if isinstance(entry, str):
        if entry not in READY:
            near = difflib.get_close_matches(entry.lower(), READY, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(READY)}"
            raise ValueError(f"unknown measure {entry!r}; {hint}")
        return READY[entry]
    if isinstance(entry, tuple | list) and len(entry) == 2 and callable(entry[1]):
        name, function = entry
        return Measure(name, _EachRecord(function))
    raise TypeError(
        f"a measure is a relaysim.measures.Measure, the name of a ready one ({', '.join(READY)}) or a "
        f"pair (name, function of x), not {shown(entry)}"
    )


class _EachRecord:
    """A function of x ``(n, d[, r])`` as one of several records."""

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.function = function

    def __call__(self, iterates: np.ndarray, problem: object) -> np.ndarray:
        what = "what the function of a measure returns"
        found = [np.asarray(unmasked(self.function(x), what)) for x in iterates]
        shapes = {each.shape for each in found}
        if len(shapes) > 1:
            raise ValueError(f"{what} has one shape for all records, not {sorted(shapes)}")
        return np.stack(found)


def values_of(
    problem: Problem,
    iterates: np.ndarray,
    measures: Iterable[Measure],
    known: Known | None = None,
) -> dict[str, np.ndarray]:
    """Values of measures by name for iterates ``(k, n, d[, r])``: each ``(k, r)``, or ``(k, n, r)``.

    ``known``: see `relaysim.measures.block.Block`.

    Raises:
        ValueError, TypeError: a measure of the user's own that returns something else.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, r0=3.0, seed=0)
    >>> found = values_of(problem, np.zeros((1, 4, 2)), default_measures(problem))
    >>> found["consensus_distance"].tolist(), found["distance"].round(12).tolist()
    ([[0.0]], [[9.0]])
    """
    measures = tuple(measures)
    shared = [measure.of for measure in measures if isinstance(measure.of, Shared)]
    asked = [of.asks for of in shared if of.asks is not None]
    block = Block(problem, iterates, known, asked)
    records, n = block.iterates.shape[:2]
    found = {}
    for measure in measures:
        inner = (n,) if measure.per_worker else ()
        if isinstance(measure.of, Shared):
            values = measure.of.formula(block)
        else:
            values = _own_values(measure, block, inner)
        found[measure.name] = values.reshape(records, *inner, -1)
    return found


def _own_values(measure: Measure, block: Block, inner: tuple[int, ...]) -> np.ndarray:
    what = f"measure {measure.name!r}"
    found = call(measure.of, what, block.finite_iterates, block.problem)
    values = np.asarray(unmasked(found, f"what {what} returns"))
    shape = (block.shape[0], *inner, *block.shape[1:])
    if values.shape != shape:
        meaning = "(records, n[, r])" if inner else "(records[, r])"
        if isinstance(measure.of, _EachRecord):
            values, shape, meaning = values[0], shape[1:], "() or (r,)"
            given = f"x of shape {block.iterates.shape[1:]}"
        else:
            given = f"iterates of shape {block.iterates.shape}"
        raise ValueError(
            f"measure {measure.name!r} returned shape {values.shape} for {given}; it must return "
            f"{meaning} = {shape}"
        )
    if values.dtype.kind not in "fiub":
        raise TypeError(f"measure {measure.name!r} must return real numbers, not {values.dtype}")
    values = np.array(values, dtype=float)
    if not block.is_finite.all():
        gone = ~block.is_finite
        values[np.broadcast_to(gone[:, None] if inner else gone, shape)] = np.nan
    return values


def check_shapes(problem: Problem, start: np.ndarray, measures: Iterable[Measure]) -> None:
    """Measure the start, ``(n, d[, r])``, as two records, by measures that are not there by themselves.

    Raises:
        ValueError, TypeError: as `values_of`, before any work starts.
    """
    further = set(measures) - set(default_measures(problem))
    with np.errstate(all="ignore"):
        values_of(problem, np.broadcast_to(start, (2, *start.shape)), further)
