"""Compiled loops in the place of NumPy's passes where Numba is installed: the extra ``fast``.

Nothing is loaded before a run asks for it. The environment variable ``RELAYSIM_FAST`` may say ``never``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from relaysim.support.progress import progress_bar

__all__ = ["Compiled", "compiled", "is_there", "loaded", "version"]


_SOURCES = ("operations", "kernels", "loops")


class Compiled(NamedTuple):
    """The functions of `relaysim.support.loops`."""

    advance: Callable[..., int]
    operate_by_rows: Callable[..., None]
    means_and_spreads: Callable[..., None]


def is_there() -> bool:
    """Whether there is something compiled: Numba is installed, and wanted."""
    return os.environ.get("RELAYSIM_FAST") != "never" and _is_installed()


def version() -> str | None:
    """Numba's; None where there is nothing compiled."""
    return _numba_version() if is_there() else None


def compiled() -> Compiled | None:
    """The compiled functions, if there are any; they are loaded by the first who asks."""
    return _load() if is_there() else None


def loaded() -> Compiled | None:
    """The same if someone has asked for them before, for what has the same bits without."""
    return compiled() if _load.cache_info().currsize else None


@functools.cache
def _numba_version() -> str:
    try:
        return importlib.metadata.version("numba")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _load() -> Compiled:
    with _kept_by_sources():
        loops = importlib.import_module("relaysim.support.loops")
    what = "compiling steps, for the first time only"
    with progress_bar(len(loops.SIGNATURES), None, what, "loops") as bar:
        for name, signature in loops.SIGNATURES.items():
            compile_for = getattr(getattr(loops, name), "compile", None)
            if compile_for is not None:  # as plain Python there is nothing to compile
                compile_for(signature)
            bar.update()
    return Compiled(*(getattr(loops, name) for name in Compiled._fields))


@contextlib.contextmanager
def _kept_by_sources() -> Generator[None]:
    """A context in which what is compiled is kept on disk apart from what other sources gave.

    Numba looks whether a function's own file has changed, and not at those of what it calls.
    """
    here = pathlib.Path(__file__).parent
    sources = b"".join((here / f"{name}.py").read_bytes() for name in _SOURCES)
    try:
        config: Any = importlib.import_module("numba.core.config")
        before = config.CACHE_DIR
        digest = hashlib.sha256(sources).hexdigest()[:16]
        place = pathlib.Path(before or here / "__pycache__", f"loops-{digest}")
        place.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError):  # plain Python, or a place where Numba finds another one
        yield
        return
    config.CACHE_DIR = str(place)
    try:
        yield
    finally:
        config.CACHE_DIR = before
