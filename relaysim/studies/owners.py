"""Processes that share a store: who they are, and whether they still live.

No clock is read that could be set back. Of a process on the same machine the system tells; of one elsewhere
its sign of life, a number in the store, is seen to change or not.
"""

from __future__ import annotations

import functools
import os
import pathlib
import platform
import time
import uuid
from typing import NamedTuple

__all__ = ["BEAT_SECONDS", "EXPIRY_SECONDS", "Owner", "Watch", "begin_life", "end_life"]

BEAT_SECONDS = 5.0
#: A process elsewhere that has given no sign of life for so long is dead.
EXPIRY_SECONDS = 60.0
# Those of this process that are at work: one that failed may have left its claims behind.
_AT_WORK: set[str] = set()


class Owner(NamedTuple):
    """A process that holds claims.

    Attributes:
        name: of its own.
        place: the machine, since it was started, and the processes that it can see.
        pid, born: the process, and when it began, as the system counts.
        beat: how often it has given a sign of life.
    """

    name: str
    place: str
    pid: int
    born: str
    beat: int


def begin_life() -> Owner:
    """This process, as a new owner."""
    owner = Owner(uuid.uuid4().hex, _place(), os.getpid(), _born(os.getpid()) or "", 0)
    _AT_WORK.add(owner.name)
    return owner


def end_life(owner: Owner) -> None:
    """It is at work no more."""
    _AT_WORK.discard(owner.name)


class Watch:
    """Tells the living from the dead, from one look to the next."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work.

        >>> owner = begin_life()
        >>> Watch().lives(owner), Watch().lives(owner._replace(born="long ago"))
        (True, False)
        >>> end_life(owner)
        >>> Watch().lives(owner)
        False
        """
        if owner.place == _place() and owner.born:
            if owner.pid == os.getpid():
                return owner.name in _AT_WORK and owner.born == _born(owner.pid)
            return _born(owner.pid) == owner.born
        now = time.monotonic()
        beat, since = self._seen.get(owner.name, (None, now))
        if beat != owner.beat:
            self._seen[owner.name] = owner.beat, now
            return True
        return now - since < EXPIRY_SECONDS


@functools.cache
def _place() -> str:
    """Two processes have the same if each could see the other in its list of processes."""
    try:
        started = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        seen = os.readlink("/proc/self/ns/pid")
    except OSError:
        started = seen = ""
    return f"{platform.node()} {started} {seen}".strip()


def _born(pid: int) -> str | None:
    """When a living process began, which tells it from a later one of its number; None where unknown."""
    try:
        # The name before may hold anything.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, born = fields[0], fields[19]
    return None if state in "ZX" else born
