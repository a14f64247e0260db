"""Files that are either whole or not there."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["written_aside"]


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
