"""A result computed again from its own description, and where the two differ."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from relaysim.engine import simulate
from relaysim.records import configuration
from relaysim.records.history import History
from relaysim.records.provenance import provenance
from relaysim.studies.settings import complete
from relaysim.studies.store import SQLITE, stored_results
from relaysim.studies.sweeps import computed_again
from relaysim.support.checks import whole_number
from relaysim.support.display import html_table
from relaysim.support.progress import progress_bar
from relaysim.support.threads import threads

__all__ = ["Rerun", "rerun"]

COLUMNS = ["what", "replica", "first_step", "stored", "again"]


@dataclass(frozen=True)
class Rerun:
    """What came of a result when it was computed again; true where it agrees in every bit.

    Attributes:
        differences: a row for each array and replica that is not as it was: ``what`` it is, ``replica`` (or
            row of the store), the ``first_step`` at which it differs, and both values there, where it is one
            number: ``stored`` and ``again``.
        compared: how many arrays of how many numbers were compared.
        changes: what of the versions, BLAS, threads and machine is not as it was: name, then, now.
        history: the run's new `History`; None of a store.
    """

    differences: pd.DataFrame
    compared: tuple[int, int]
    changes: tuple[tuple[str, Any, Any], ...] = ()
    history: History | None = field(default=None, repr=False)

    @property
    def agrees(self) -> bool:
        """Whether every bit is the same."""
        return not len(self.differences)

    def __bool__(self) -> bool:
        return self.agrees

    def __repr__(self) -> str:
        arrays, numbers = self.compared
        compared = f"{arrays} arrays, {numbers} numbers"
        if self.agrees:
            return f"<Rerun: agrees in every bit ({compared})>"
        return f"<Rerun: {len(self.differences)} differences ({compared})>\n{self.told()}"

    def told(self) -> str:
        """What differs, and what may be why, in lines.

        >>> Rerun(pd.DataFrame(columns=COLUMNS), (2, 30), (("numpy", "2.2.0", "2.4.6"),)).told()
        'every bit agrees, of 2 arrays with 30 numbers\\nnumpy was 2.2.0 and is 2.4.6'
        """
        arrays, numbers = self.compared
        if self.agrees:
            lines = [f"every bit agrees, of {arrays} arrays with {numbers} numbers"]
        else:
            lines = [self.differences.to_string(index=False)]
        lines += [f"{name} was {then} and is {now}" for name, then, now in self.changes]
        if not self.agrees and not self.changes:
            lines.append("versions, BLAS, threads and machine are the same as far as is known")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        arrays, numbers = self.compared
        rows = [
            ("agrees in every bit", "yes" if self.agrees else "no"),
            ("compared", f"{arrays} arrays, {numbers} numbers"),
            *((name, f"was {then}, is {now}") for name, then, now in self.changes),
        ]
        return html_table("Rerun", rows) + ("" if self.agrees else self.differences.to_html())


def rerun(
    result: History | str | os.PathLike,
    *,
    row: int | None = None,
    progress: bool | None = None,
    **given: Any,
) -> Rerun:
    """Compute a result again from its description, and compare every bit.

    Args:
        result: a `History`, the ``.npz`` file of one, or the store of a sweep.
        row: of a store, the place of one result, from 0, in the order of `relaysim.load_sweep`; all of them
            by default.
        progress: as for `relaysim.simulate`.
        given: of a history, what a file could not hold, by the names of `relaysim.simulate`: ``problem=``
            for a problem of your own.

    Returns:
        A `Rerun`, true where every bit agrees; else it says which columns differ from which step on, and
        what of the versions, BLAS, threads and machine has changed. A history is computed with as many
        threads as then; a result of a store together with those of its group that the store holds.

    Raises:
        ValueError: a file that is neither, or a part that the description cannot rebuild and that is not
            given.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(),
    ...                       learning_rate=0.1, steps=5)
    >>> rerun(history)
    <Rerun: agrees in every bit (11 arrays, 53 numbers)>
    """
    if not isinstance(result, History):
        path = pathlib.Path(result)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
        with open(path, "rb") as file:
            is_store = file.read(len(SQLITE)) == SQLITE
        if is_store:
            if given:
                raise TypeError(f"of a store nothing can be given, such as {next(iter(given))!r}")
            return _of_store(path, row, progress)
        result = History.load(path)
    if row is not None:
        raise TypeError("row is of a store; a history is computed again whole")
    return _of_history(result, progress, given)


def _of_history(history: History, progress: bool | None, given: Mapping[str, Any]) -> Rerun:
    named = ("problem", "topology", "algorithm")
    parts = {name: getattr(history, name) for name in named}
    parts = {name: part for name, part in parts.items() if part is not None} | dict(given)
    arguments = configuration.rebuild(history.config, **parts)
    with threads((history.provenance or {}).get("threads")):
        # Of a run that was interrupted as many steps as it took, though they be too few for the method.
        again = simulate(**arguments, keep_state=history.interrupted, progress=progress)
    stored, found = history.arrays(), again.arrays()
    stored.pop("time", None)  # a model's, laid over the run afterwards
    differences = [
        row
        for name, values in stored.items()
        for row in _apart(name, values, found.get(name), history)
    ]
    return Rerun(
        pd.DataFrame(differences, columns=COLUMNS),
        (len(stored), sum(values.size for values in stored.values())),
        _changes(history.provenance),
        again,
    )


def _apart(
    name: str, one: np.ndarray, other: np.ndarray | None, history: History
) -> Iterator[tuple[Any, ...]]:
    """Where two arrays of records have not the same bits, for each replica: rows of ``COLUMNS``."""
    if other is None or other.shape != one.shape or other.dtype != one.dtype:
        there = "absent" if other is None else f"{other.dtype} {other.shape}"
        yield name, None, None, f"{one.dtype} {one.shape}", there
        return
    by_record = len(one) == len(history.steps) and name != "x"
    r = history.replicas
    # A replica is the last axis, or all of it; what has none is everybody's.
    has_replicas = one.shape[-1] == r and (one.ndim > 1 or not by_record)
    for replica in range(r if has_replicas else 1):
        a, b = (v[..., replica] if has_replicas else v for v in (one, other))
        differ = _bits_differ(a, b)
        if differ.any():
            place = np.unravel_index(int(differ.argmax()), a.shape) if a.ndim else ()
            step = int(history.steps[place[0]]) if by_record and a.ndim else int(history.steps[-1])
            yield name, replica, step, a[place], b[place]


def _bits_differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    if one.dtype.kind != "f":
        return np.asarray(one != other)
    whole = np.dtype(f"u{one.dtype.itemsize}")
    # NaN is one number, whatever its bits.
    return np.asarray((one.view(whole) != other.view(whole)) & ~(np.isnan(one) & np.isnan(other)))


def _changes(before: Mapping[str, Any] | None) -> tuple[tuple[str, Any, Any], ...]:
    if before is None:
        return ()
    now = provenance() | {"threads": before.get("threads")}  # it was computed with as many
    return tuple((k, then, now.get(k)) for k, then in before.items() if then != now.get(k))


def _of_store(path: pathlib.Path, row: int | None, progress: bool | None) -> Rerun:
    stored = stored_results(path)
    if row is not None and not 0 <= whole_number(row, "row", 0) < len(stored):
        raise ValueError(f"row must be from 0 to {len(stored) - 1}, not {row}")
    # What a setting leaves out is stored as None.
    stated = ({k: v for k, v in each.setting.items() if v is not None} for each in stored)
    settings = [complete(each) for each in stated]
    differences: list[tuple[Any, ...]] = []
    arrays = numbers = 0
    with progress_bar(len(stored), progress, "rerun", "results") as bar:
        for place, again in computed_again(settings, row):
            result = stored[place].result
            for name, values in result.items():
                arrays, numbers = arrays + 1, numbers + values.size
                differences += _apart_in_row(name, values, again, result, place)
            bar.update(1)
    compared = stored if row is None else [stored[row]]
    # Of older formats only the version is known. Rows were computed on several machines, maybe.
    known = (each.provenance or {"relaysim": each.version} for each in compared)
    changes = tuple(dict.fromkeys(change for each in known for change in _changes(each)))
    return Rerun(pd.DataFrame(differences, columns=COLUMNS), (arrays, numbers), changes)


def _apart_in_row(
    name: str,
    values: np.ndarray,
    again: Mapping[str, np.ndarray] | str,
    result: Mapping[str, np.ndarray],
    place: int,
) -> Iterator[tuple[Any, ...]]:
    found = None if isinstance(again, str) else again.get(name)
    if found is None or found.shape != values.shape:
        shape = again if isinstance(again, str) else "absent" if found is None else str(found.shape)
        yield name, place, None, str(values.shape), shape
        return
    differ = _bits_differ(values, found.astype(values.dtype, copy=False))
    if differ.any():
        first = int(differ.argmax())
        step = int(result["step"][first]) if "step" in result else None
        yield name, place, step, values[first], found[first]
