"""What is done with a store from outside: look it over, mend it, put it into one file, write a table."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from relaysim.studies.owners import Owner, Watch
from relaysim.studies.rows import Row
from relaysim.studies.store import Store, StoreError, numbered_rows, opened
from relaysim.studies.sweeps import load_sweep
from relaysim.support.files import written_aside

__all__ = ["TABLES", "Health", "checked", "export", "pack", "repair"]

#: What a table can be written to.
TABLES = (".csv", ".parquet")
_ASIDE = ".damaged"


@dataclass(frozen=True)
class Health:
    """What is in a store, and whether it is what was put there.

    Attributes:
        broken: what SQLite finds wrong with the file; nothing if it is whole.
        results, wrong: how many there are, and how many of them are not what was stored.
        failures, aside: settings that failed, and results that were set aside as damaged.
        at_work, dead: processes that hold claims and may live, and those known to be dead.
        claims: settings that are being computed.
        checkpoints: long runs that are under way, or were when their process ended.
        versions: results by the relaysim that computed them.
        places: results by the machine and the libraries that computed them; "unknown" in older formats.
    """

    broken: str
    results: int
    wrong: int
    failures: int
    aside: int
    at_work: int
    dead: int
    claims: int
    checkpoints: int
    versions: dict[str, int]
    places: dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Whether nothing has to be repaired."""
        return not (self.broken or self.wrong)

    def __str__(self) -> str:
        lines = [f"{self.results} results, {self.failures} settings that failed"]
        if self.broken:
            lines.append(f"the file is damaged: {self.broken}")
        if self.wrong:
            lines.append(f"{self.wrong} results are not what was stored")
        if self.aside:
            lines.append(f"{self.aside} damaged results are set aside")
        if self.claims:
            lines.append(f"{self.claims} settings are claimed, of {self.at_work} processes at work")
        if self.checkpoints:
            lines.append(f"{self.checkpoints} long runs go on from a checkpoint")
        if self.dead:
            lines.append(f"{self.dead} processes have died at work; a sweep takes over from them")
        lines += [f"{count} by relaysim {version}" for version, count in self.versions.items()]
        lines += [f"{count} computed with {place}" for place, count in self.places.items()]
        lines.append(
            "all is what was stored" if self.is_whole else "relaysim store repair mends what it can"
        )
        return "\n".join(lines)


def checked(path: str | os.PathLike) -> Health:
    """Look a store over, without writing to it.

    Raises:
        StoreError: it is no store, of a newer format, or so damaged that nothing can be read.
    """
    with opened(path) as connection:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        broken = "" if found == "ok" else str(found)
        rows = [row for _, row in _readable(connection)]
        owners = _owners(connection)
        watch = Watch()
        living = [each.name for each in owners if watch.lives(each)]
        claims = _all(connection, "SELECT owner FROM claims")
        tables = ("failures", "damaged", "checkpoints")
        failures, aside, checkpoints = (
            len(_all(connection, f"SELECT rowid FROM {name}")) for name in tables
        )
    wrong = [row for row in rows if row.what_is_wrong()]
    versions: dict[str, int] = {}
    places: dict[str, int] = {}
    for row in rows:
        versions[str(row.version)] = versions.get(str(row.version), 0) + 1
        places[_place_of(row)] = places.get(_place_of(row), 0) + 1
    return Health(
        broken=broken,
        results=len(rows),
        wrong=len(wrong),
        failures=failures,
        aside=aside,
        checkpoints=checkpoints,
        at_work=len(living),
        dead=len(owners) - len(living),
        claims=sum(owner in living for (owner,) in claims),
        versions=versions,
        places=places,
    )


def _place_of(row: Row) -> str:
    try:
        found = json.loads(row.provenance)
        return f"numpy {found['numpy']}, {found['blas']}, {found['machine']}"
    except (TypeError, ValueError, KeyError):
        return "unknown"


def repair(path: str | os.PathLike) -> tuple[int, int]:
    """Set aside what is not what was stored; if the file itself is damaged, save what can be read.

    What can be read of a damaged file becomes a new one, and the damaged one is kept beside it, with
    ``.damaged`` at the end of its name.

    Returns:
        How many results are whole, and how many were lost or set aside, as far as can be told.

    Raises:
        StoreError: it is no store, of a newer format, or other processes are at work on it.
    """
    path = pathlib.Path(path).absolute()
    before = checked(path)
    if before.at_work:
        raise StoreError(
            f"{before.at_work} processes are at work on {str(path)!r}; repair it when they are "
            f"done or ended"
        )
    if before.broken:
        aside = path.with_name(path.name + _ASIDE)
        if aside.exists():
            raise StoreError(f"{str(aside)!r} is there already, from a repair before; move it away")
        with written_aside(path.with_name(path.name + ".new")) as rescued:
            _rescue(path, rescued)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        path.rename(aside)
        path.with_name(path.name + ".new").rename(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is set aside, which is told below
        with Store(path) as store:
            whole = len(store.keys())
    return whole, max(before.results - whole, 0)


def _rescue(path: pathlib.Path, rescued: pathlib.Path) -> None:
    """Copy every result that is as it was stored, and every failure, to a new store."""
    rescued.unlink()
    with opened(path) as connection, Store(rescued) as store:
        found = {row.key: row for _, row in _readable(connection) if not row.what_is_wrong()}
        store.take_over([row._replace(digest=row.right_digest()) for row in found.values()])
        query = "SELECT key, setting, seed, version, error FROM failures"
        store.take_over_failures(_all(connection, query))
        # In the file itself, which alone is moved.
        store.pack()


def _readable(connection: sqlite3.Connection) -> Iterator[tuple[int, Row]]:
    """The rows that can be read; from both ends, since a damaged page ends a search."""
    seen = set()
    for order in ("rowid", "rowid DESC"):
        with contextlib.suppress(sqlite3.Error):
            for number, row in numbered_rows(connection, order=order):
                if number not in seen:
                    seen.add(number)
                    yield number, row
            return


def _all(connection: sqlite3.Connection, query: str) -> list[tuple]:
    """What can be read of a table that may be damaged, or absent in older formats."""
    found: list[tuple] = []
    with contextlib.suppress(sqlite3.Error):
        found += connection.execute(query)
    return found


def _owners(connection: sqlite3.Connection) -> list[Owner]:
    rows = _all(connection, "SELECT name, place, pid, born, beat FROM owners")
    return [Owner(*row) for row in rows]


def pack(path: str | os.PathLike) -> int:
    """Put all that a store holds into its file, as small as can be, so that the file alone can be copied.

    Returns:
        The size of the file, in bytes.

    Raises:
        StoreError: it is no store, of a newer format, or in use.
    """
    _require_there(path)
    with Store(path) as store:
        store.pack()
    return pathlib.Path(path).stat().st_size


def export(path: str | os.PathLike, table: str | os.PathLike) -> pd.DataFrame:
    """Write the table of `relaysim.load_sweep` to a .csv or .parquet file.

    Raises:
        ValueError: another ending, or no store.
        ImportError: .parquet, and pyarrow is not installed.
    """
    table = pathlib.Path(table)
    if table.suffix not in TABLES:
        raise ValueError(f"a table is written to {' or '.join(TABLES)}, not to {table.name!r}")
    if table.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ImportError(
            "a .parquet file needs pyarrow, which is not installed: python -m pip install pyarrow, or "
            "name a .csv file"
        )
    found = load_sweep(path)
    with written_aside(table) as aside:
        if table.suffix == ".csv":
            found.to_csv(aside, index=False)
        else:
            _of_one_kind(found).to_parquet(aside, index=False, engine="pyarrow")
    return found


def _of_one_kind(table: pd.DataFrame) -> pd.DataFrame:
    """A column of such a file has one kind: what is neither words nor numbers of 64 bits are words there."""
    found = table.copy()
    for name in found:
        column = found[name]
        if column.dtype == object:
            found[name] = [None if value is None else str(value) for value in column]
    return found


def _require_there(path: str | os.PathLike) -> None:
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"there is no store {os.fspath(path)!r}")
