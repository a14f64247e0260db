"""One durable file for the results of sweeps: SQLite, a transaction for each group of settings."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterable, Iterator

import numpy as np

__all__ = ["Store", "StoreError", "stored_results"]

FORMAT = 1
# "rlay": tells our files from other SQLite files.
APPLICATION = 0x726C6179
_HEADER_BYTES = 100
_PATIENCE_SECONDS = 60


class StoreError(ValueError):
    """A file that is no store, or of a newer format, or that cannot be written to."""


class Store:
    """Results by the key of their setting.

    Opening makes the file if there is none. A file that is no store is left untouched. Several
    processes may share a store: each result is there once, and whole.

    Args:
        path: the file.

    Raises:
        StoreError: not a store, of a newer format, or not writable.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        _refuse_foreign(self.path)
        try:
            # An absolute path: a name such as ":memory:" is a file like any other.
            self._connection = sqlite3.connect(
                self.path.absolute(), timeout=_PATIENCE_SECONDS, isolation_level=None
            )
            self._prepare()
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {str(self.path)!r} as a store: {error}") from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        # In the file itself before write-ahead logging starts, so that readers can tell.
        with self._transaction():
            if execute("PRAGMA user_version").fetchone()[0] == 0:
                execute(f"PRAGMA application_id = {APPLICATION}")
                execute(f"PRAGMA user_version = {FORMAT}")
                execute(
                    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, "
                    "setting TEXT NOT NULL, seed INTEGER NOT NULL, version TEXT NOT NULL, "
                    "result BLOB NOT NULL)"
                )
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

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def add(self, group: Iterable[tuple[str, dict, dict[str, np.ndarray]]], version: str) -> None:
        """Store a group, whole or not at all: key, setting and result arrays of each member."""
        rows = [
            (key, json.dumps(setting), _seed_cell(setting["seed"]), version, _pack(result))
            for key, setting, result in group
        ]
        try:
            with self._transaction():
                self._connection.executemany(
                    "INSERT OR IGNORE INTO results (key, setting, seed, version, result) "
                    "VALUES (?, ?, ?, ?, ?)",
                    rows,
                )
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write to {str(self.path)!r}: {error}; what was stored before is safe, and "
                f"the same command goes on from there"
            ) from error

    def keys(self) -> set[str]:
        """The keys of all stored results."""
        return {key for (key,) in self._connection.execute("SELECT key FROM results")}

    def result(self, key: str) -> dict[str, np.ndarray]:
        """The result arrays of one key."""
        query = "SELECT result FROM results WHERE key = ?"
        return _unpack(self._connection.execute(query, (key,)).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stored_results(path: str | os.PathLike) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """Setting and result arrays of all that a store holds, as stored, without writing to it.

    Raises:
        StoreError: no store, or of a newer format.
    """
    path = pathlib.Path(path).absolute()
    _refuse_foreign(path)
    if path.stat().st_size == 0:
        raise StoreError(f"{str(path)!r} is empty, and not a relaysim store")
    for query in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?{query}", uri=True)
            with contextlib.closing(connection):
                rows = connection.execute(
                    "SELECT setting, result FROM results ORDER BY rowid"
                ).fetchall()
            return [(json.loads(setting), _unpack(result)) for setting, result in rows]
        except sqlite3.OperationalError as error:
            failure = error
    raise StoreError(f"cannot read {str(path)!r}: {failure}") from failure


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
    if not header.startswith(b"SQLite format 3\0") or application != APPLICATION:
        raise StoreError(f"{str(path)!r} is not a relaysim store; name another file")
    if version > FORMAT:
        raise StoreError(
            f"{str(path)!r} has format {version} and this version reads up to {FORMAT}; "
            f"update relaysim"
        )


def _seed_cell(seed: int) -> int | str:
    """A seed as SQLite holds it: text where 64 bits are too few, hexadecimal so that it stays text."""
    return seed if seed < 2**63 else hex(seed)


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("only plain arrays can be stored")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
