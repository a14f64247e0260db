"""Compiled loops in the place of NumPy's passes where Numba is installed: the extra ``fast``.

Nothing is loaded before a run asks for it. The environment variable ``RELAYSIM_FAST`` may say ``never``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from typing import NamedTuple

from relaysim.support.progress import progress_bar

__all__ = ["Compiled", "compiled", "is_there", "loaded", "version"]


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
    loops = importlib.import_module("relaysim.support.loops")
    what = "compiling steps, for the first time only"
    with progress_bar(len(loops.SIGNATURES), None, what, "loops") as bar:
        for name, signature in loops.SIGNATURES.items():
            compile_for = getattr(getattr(loops, name), "compile", None)
            if compile_for is not None:  # as plain Python there is nothing to compile
                compile_for(signature)
            bar.update()
    return Compiled(*(getattr(loops, name) for name in Compiled._fields))
