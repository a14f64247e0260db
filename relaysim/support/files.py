"""Files that are either whole or not there."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_shared", "written_aside"]

_MOUNTS = pathlib.Path("/proc/self/mountinfo")
_SHARED = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "sshfs",
}


def is_shared(path: pathlib.Path) -> bool:
    """Whether other machines may see a file, as far as the system tells: it is on a network's disk.

    >>> is_shared(pathlib.Path(tempfile.gettempdir()))
    False
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    path = path.resolve()
    best, found = 0, ""
    for line in lines:
        there, _, kind = line.partition(" - ")
        point = pathlib.Path(there.split()[4].replace("\\040", " "))
        # Of two at one point the later hides the former.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), kind.split()[0]
    return found.removeprefix("fuse.") in _SHARED


@contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(path.parent)!r} to write {path.name!r} to"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    aside = pathlib.Path(name)
    try:
        yield aside
        mask = os.umask(0)
        os.umask(mask)
        aside.chmod(0o666 & ~mask)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
