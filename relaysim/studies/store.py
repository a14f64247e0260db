"""One durable file for the results of sweeps: SQLite, a transaction for each group of settings."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from relaysim.studies.rows import Row, row_of, seed_cell
from relaysim.support.files import is_shared

__all__ = ["SQLITE", "Store", "StoreError", "Stored", "numbered_rows", "opened", "stored_results"]

FORMAT = 3
# "rlay": tells our files from other SQLite files.
APPLICATION = 0x726C6179
#: What a database begins with.
SQLITE = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PATIENCE_SECONDS = 60
_FIELDS = (
    "key TEXT PRIMARY KEY, setting TEXT NOT NULL, seed INTEGER NOT NULL, version TEXT NOT NULL"
)
_TABLES = (
    f"CREATE TABLE IF NOT EXISTS results ({_FIELDS}, result BLOB NOT NULL, digest TEXT, provenance TEXT)",
    f"CREATE TABLE IF NOT EXISTS failures ({_FIELDS}, error TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS damaged (key, setting, seed, version, result, digest, provenance)",
    "CREATE TABLE IF NOT EXISTS owners (name TEXT PRIMARY KEY, place TEXT, pid INTEGER, born TEXT, "
    "beat INTEGER)",
    "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS checkpoints (label TEXT PRIMARY KEY, keys TEXT, step INTEGER, history BLOB)",
)

# Checkpoints of groups all of which are stored.
_FORGET_DONE = """DELETE FROM checkpoints WHERE NOT EXISTS
    (SELECT 1 FROM json_each(keys) WHERE value NOT IN (SELECT key FROM results))"""


class StoreError(ValueError):
    """A file that is no store, or damaged, or of a newer format, or that cannot be written to."""


class Store:
    """Results by the key of their setting, and errors of what failed.

    Opening makes the file if there is none. A file that is no store is left untouched. Several
    processes may share a store: each result is there once, and whole. The file alone, without what SQLite
    keeps beside it, has all that was added. A result that is not what was stored is set aside, with a
    warning, and counts as missing. A store of an older format becomes one of this.

    Args:
        path: the file.

    Raises:
        StoreError: not a store, damaged, of a newer format, or not writable.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        _refuse_foreign(self.path)
        with _named(self.path, "use"):
            self._connection = self.connect()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        new = execute("PRAGMA user_version").fetchone()[0] == 0
        if not new:
            _require_sound(self._connection)
        # In the file itself before write-ahead logging starts, so that readers can tell.
        with _transaction(self._connection):
            if execute("PRAGMA user_version").fetchone()[0] == 0:
                execute(f"PRAGMA application_id = {APPLICATION}")
            for table in _TABLES:
                execute(table)
            # What older formats lack.
            for table, column in (
                ("results", "digest"),
                ("results", "provenance"),
                ("damaged", "provenance"),
            ):
                if column not in _columns(self._connection, table):
                    execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
            execute(f"PRAGMA user_version = {FORMAT}")
        self._log_ahead()
        if not new:
            self._set_damaged_aside()

    def connect(self, check_same_thread: bool = True) -> sqlite3.Connection:
        """A connection to the file, which waits while others write."""
        # An absolute path: a name such as ":memory:" is a file like any other.
        return sqlite3.connect(
            self.path.absolute(),
            timeout=_PATIENCE_SECONDS,
            isolation_level=None,
            check_same_thread=check_same_thread,
        )

    def _log_ahead(self) -> None:
        """Log what is written ahead of the file, or, where machines share it, keep a journal.

        The log's index is memory that processes of one machine share.
        """
        execute = self._connection.execute
        if is_shared(self.path):
            execute("PRAGMA journal_mode = DELETE")
            return
        # Changing the journal does not wait for other processes by itself.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                # Where the file system has no write-ahead logging, another mode is as safe.
                execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        execute("PRAGMA synchronous = NORMAL")

    def _set_damaged_aside(self) -> None:
        """Move what is not what was stored to a table of its own, and give the rest their digests."""
        damaged, without = [], []
        for number, row in numbered_rows(self._connection):
            if row.what_is_wrong():
                damaged.append((number, row.key))
            elif row.digest is None:
                without.append((row.right_digest(), number))
        if not damaged and not without:
            return
        with self._writing():
            for statement, values in (
                ("UPDATE results SET digest = ? WHERE rowid = ?", without),
                ("INSERT INTO damaged SELECT * FROM results WHERE rowid = ? AND key IS ?", damaged),
                ("DELETE FROM results WHERE rowid = ? AND key IS ?", damaged),
            ):
                self._connection.executemany(statement, values)
        if damaged:
            warnings.warn(
                f"{len(damaged)} of the results in {str(self.path)!r} are not what was stored; they are "
                f'set aside in its table "damaged", and computed again where a sweep asks for them',
                stacklevel=2,
            )

    def add(
        self,
        group: Iterable[tuple[str, dict, dict[str, np.ndarray]]],
        version: str,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        """Store a group, whole or not at all: key, setting and result arrays of each member.

        Args:
            group: its members.
            version: of the relaysim that computed it.
            provenance: where it was computed, see `relaysim.records.provenance`.
        """
        self.take_over(
            [row_of(key, setting, version, result, provenance) for key, setting, result in group]
        )

    def take_over(self, rows: list[Row]) -> None:
        """Store rows as they are, all or none; what is there already stays."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR IGNORE INTO results (key, setting, seed, version, result, digest, provenance) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._connection.executemany(
                "DELETE FROM failures WHERE key = ?", [(row.key,) for row in rows]
            )

    def add_failure(self, key: str, setting: dict, error: str, version: str) -> None:
        """Record that a setting cannot be run."""
        self.take_over_failures(
            [(key, json.dumps(setting), seed_cell(setting["seed"]), version, error)]
        )

    def take_over_failures(self, rows: list[tuple]) -> None:
        """Record failures as they are: key, setting, seed, version and error of each."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR REPLACE INTO failures (key, setting, seed, version, error) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def forget_failures(self, keys: Iterable[str]) -> None:
        """Let what failed be tried again."""
        with self._writing():
            self._connection.executemany(
                "DELETE FROM failures WHERE key = ?", [(key,) for key in keys]
            )

    def drop_checkpoint(self, label: str) -> None:
        """Let go of what was kept of a run that is finished, if there is something."""
        query = "SELECT 1 FROM checkpoints WHERE label = ?"
        if self._connection.execute(query, (label,)).fetchone():
            with self._writing():
                self._connection.execute("DELETE FROM checkpoints WHERE label = ?", (label,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that is in the file itself when it is over."""
        with self.writing(self._connection):
            yield
        with self._told():
            self._checkpoint()

    @contextlib.contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction over a connection of `connect`.

        Raises:
            StoreError: the file cannot be written to.
        """
        with self._told(), _transaction(connection):
            yield

    def named(self, what: str) -> contextlib.AbstractContextManager[None]:
        """A context in which errors of SQLite name the file, and what could not be done with it."""
        return _named(self.path, what)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write to {str(self.path)!r}: {error}; what was stored before is safe, and "
                f"the same command goes on from there"
            ) from error

    def _checkpoint(self) -> None:
        """Move what is in the log to the file; as much as can be while others read, without waiting."""
        execute = self._connection.execute
        execute("PRAGMA busy_timeout = 0")
        try:
            execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            execute(f"PRAGMA busy_timeout = {1000 * _PATIENCE_SECONDS}")

    def pack(self) -> None:
        """Give back the room that nothing takes any more, and leave all in the file itself."""
        with self._writing():
            self._connection.execute(_FORGET_DONE)
        with _named(self.path, "pack"):
            self._connection.execute("VACUUM")
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(f"{str(self.path)!r} is being read; try again when that is done")

    def keys(self) -> set[str]:
        """The keys of all stored results."""
        with _named(self.path, "read"):
            return {key for (key,) in self._connection.execute("SELECT key FROM results")}

    def failures(self, version: str) -> dict[str, str]:
        """The errors of what failed in a version of relaysim, by key."""
        query = "SELECT key, error FROM failures WHERE version = ?"
        with _named(self.path, "read"):
            return dict(self._connection.execute(query, (version,)))

    def result(self, key: str) -> tuple[dict[str, np.ndarray], str]:
        """The result arrays of one key, and the version of relaysim that computed them."""
        with _named(self.path, "read"):
            ((_, row),) = numbered_rows(self._connection, "WHERE key = ?", key)
        _require_whole([row], self.path)
        return row.arrays(), row.version

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stored(NamedTuple):
    """A result as it was stored: of which setting, by which relaysim, and where, as far as is known."""

    setting: dict
    result: dict[str, np.ndarray]
    version: str
    provenance: dict[str, Any] | None


def stored_results(path: str | os.PathLike) -> list[Stored]:
    """All that a store holds, in the order of storing, without writing to it.

    Raises:
        StoreError: no store, damaged, or of a newer format.
    """
    with opened(path) as connection:
        _require_sound(connection)
        rows = [row for _, row in numbered_rows(connection)]
    _require_whole(rows, pathlib.Path(path).absolute())
    return [
        Stored(
            row.meant(),
            row.arrays(),
            row.version,
            None if row.provenance is None else json.loads(row.provenance),
        )
        for row in rows
    ]


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[sqlite3.Connection]:
    """A store to be read, and not written to, as it is at one moment, whole or not.

    Raises:
        StoreError: it is no store, or of a newer format; while it is open: it cannot be read.
    """
    path = pathlib.Path(path).absolute()
    _refuse_foreign(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no store {str(path)!r}")
    if path.stat().st_size == 0:
        raise StoreError(f"{str(path)!r} is empty, and not a relaysim store")
    with contextlib.ExitStack() as stack, _named(path, "read"):
        try:
            connection = _reading(path, "mode=ro", stack)
        except sqlite3.OperationalError:
            # Nothing can be written beside the file, which the log needs to be read.
            log = path.with_name(f"{path.name}-wal")
            if not log.exists() or not log.stat().st_size:
                connection = _reading(path, "mode=ro&immutable=1", stack)
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                for file in (path, log):
                    shutil.copy(file, folder)
                connection = _reading(pathlib.Path(folder, path.name), "mode=rw", stack)
        yield connection


def _reading(path: pathlib.Path, query: str, stack: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?{query}", uri=True)
    try:
        connection.execute("BEGIN")
        # Where the log cannot be read this is what says so.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    stack.callback(connection.close)
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # of a full disk SQLite undoes it by itself
            connection.execute("ROLLBACK")
        raise


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]


def numbered_rows(
    connection: sqlite3.Connection, where: str = "", *values: str, order: str = "rowid"
) -> Iterator[tuple[int, Row]]:
    """The rows of results, as they are, with their numbers."""
    there = _columns(connection, "results")
    later = ", ".join(name if name in there else "NULL" for name in ("digest", "provenance"))
    for number, *row in connection.execute(
        f"SELECT rowid, key, setting, seed, version, result, {later} FROM results {where} "
        f"ORDER BY {order}",
        values,
    ):
        yield number, Row(*row)


def _require_sound(connection: sqlite3.Connection) -> None:
    """Raise where the file is no whole database: rows could be missing from it."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged ({found})")


def _require_whole(rows: list[Row], path: pathlib.Path) -> None:
    wrong = [(row, found) for row in rows if (found := row.what_is_wrong())]
    if wrong:
        row, found = wrong[0]
        raise StoreError(
            f"{len(wrong)} of {len(rows)} results in {str(path)!r} are not what was stored, such as that "
            f"of key {row.key!r} ({found}); the same sweep with this store computes them again"
        )


@contextlib.contextmanager
def _named(path: pathlib.Path, what: str) -> Iterator[None]:
    """An error of SQLite as one that names the file, and the mend."""
    rest = " as a store" if what == "use" else ""
    try:
        yield
    except sqlite3.Error as error:
        mend = ""
        if isinstance(error, sqlite3.DatabaseError) and "locked" not in str(error):
            mend = "; take another copy of it, or another file"
        raise StoreError(f"cannot {what} {str(path)!r}{rest}: {error}{mend}") from error


def _refuse_foreign(path: pathlib.Path) -> None:
    """Read the header without opening the file as a database, which could change it."""
    if path.is_dir():
        raise StoreError(f"{str(path)!r} is a folder; name a file")
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {str(path.parent)!r} for the store")
    if not path.exists() or path.stat().st_size == 0:
        return
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    version, application = (int.from_bytes(header[k : k + 4], "big") for k in (60, 68))
    if not header.startswith(SQLITE) or application != APPLICATION:
        raise StoreError(f"{str(path)!r} is not a relaysim store; name another file")
    if version > FORMAT:
        raise StoreError(
            f"{str(path)!r} has format {version} and this version reads up to {FORMAT}; "
            f"update relaysim"
        )
