"""Which process computes what, where several share a store."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence

from relaysim.studies.owners import BEAT_SECONDS, Owner, Watch, begin_life, end_life
from relaysim.studies.store import Store, StoreError

__all__ = ["Claims"]

_PAUSES_SECONDS = (0.05, 1.0)
_HOLDERS = """SELECT claims.key, owners.name, place, pid, born, beat
    FROM claims JOIN owners ON owners.name = claims.owner"""


class Claims:
    """The part of the work that this process takes on; others leave it alone while this one lives.

    A claim ends when the result is stored, when its owner leaves, or when the owner is dead: then whoever
    comes by takes it over. It is used as a context, in which a thread gives signs of life.

    Args:
        store: open; it has a connection of its own here, since threads of joblib ask for work.
        version: failures of which count as done.
    """

    def __init__(self, store: Store, version: str):
        self._store, self._version = store, version
        self._connection = store.connect(check_same_thread=False)
        # One for the connection, one for `taken`: of a generator two threads cannot ask at once.
        self._lock = threading.RLock()
        self._owner = begin_life()
        self._watch = Watch()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live, name="relaysim claims", daemon=True)
        self._pause = _PAUSES_SECONDS[0]
        #: What kept `taken` from going on, for the main thread to raise.
        self.error: StoreError | None = None

    def __enter__(self) -> Claims:
        try:
            with self._writing():
                self._bury()
                self._connection.execute(
                    "INSERT INTO owners (name, place, pid, born, beat) VALUES (?, ?, ?, ?, ?)",
                    self._owner,
                )
        except BaseException:
            end_life(self._owner)
            self._connection.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        end_life(self._owner)
        with contextlib.suppress(sqlite3.Error, StoreError), self._writing():
            for table, column in (("claims", "owner"), ("owners", "name")):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE {column} = ?", (self._owner.name,)
                )
        self._connection.close()

    def _bury(self) -> None:
        """Remove owners that are known to be dead, with their claims."""
        rows = self._connection.execute(
            "SELECT name, place, pid, born, beat FROM owners"
        ).fetchall()
        dead = [(row[0],) for row in rows if not self._watch.lives(Owner(*row))]
        self._connection.executemany("DELETE FROM claims WHERE owner = ?", dead)
        self._connection.executemany("DELETE FROM owners WHERE name = ?", dead)

    def taken(self, groups: Sequence[list[str]]) -> Iterator[list[str]]:
        """What is missing of each group that nobody else is at work on, claimed; keys of settings.

        It ends early where the store cannot be written to, and ``error`` says why: an exception would be
        lost in the threads that ask.
        """
        try:
            held = self._held_by_others()
            for group in groups:
                if not held.isdisjoint(group):
                    continue
                missing = self._claim(group)
                if missing:
                    self._pause = _PAUSES_SECONDS[0]
                    yield missing
        except StoreError as error:
            self.error = error

    def release(self, keys: Sequence[str]) -> None:
        """The work on these is done, and stored."""
        with self._writing():
            self._connection.executemany(
                "DELETE FROM claims WHERE key = ? AND owner = ?",
                [(key, self._owner.name) for key in keys],
            )

    def wait(self) -> None:
        """A while, longer each time until there is work again."""
        time.sleep(self._pause)
        self._pause = min(1.5 * self._pause, _PAUSES_SECONDS[1])

    def _claim(self, group: list[str]) -> list[str]:
        """What is missing of a group, now this process's own; nothing if another one has some of it."""
        keys = json.dumps(group)
        with self._writing():
            known = {
                key
                for query, values in (
                    ("SELECT key FROM results WHERE", ()),
                    ("SELECT key FROM failures WHERE version = ? AND", (self._version,)),
                )
                for (key,) in self._connection.execute(
                    f"{query} key IN (SELECT value FROM json_each(?))", (*values, keys)
                )
            }
            missing = [key for key in group if key not in known]
            if not self._held_by_others().isdisjoint(missing):
                return []
            self._connection.executemany(
                "INSERT OR REPLACE INTO claims (key, owner) VALUES (?, ?)",
                [(key, self._owner.name) for key in missing],
            )
        return missing

    def _held_by_others(self) -> set[str]:
        """Keys that living processes are at work on."""
        with self._lock, self._store.named("read"):
            rows = self._connection.execute(_HOLDERS).fetchall()
            holders = {Owner(*row[1:]) for row in rows}
            living = {
                each.name
                for each in holders
                if each.name != self._owner.name and self._watch.lives(each)
            }
        return {key for key, name, *_ in rows if name in living}

    def _live(self) -> None:
        """Signs of life, until this process leaves."""
        while not self._left.wait(BEAT_SECONDS):
            # What cannot be written now may be the next time.
            with contextlib.suppress(sqlite3.Error, StoreError), self._writing():
                self._connection.execute(
                    "UPDATE owners SET beat = beat + 1 WHERE name = ?", (self._owner.name,)
                )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._store.writing(self._connection):
            yield
