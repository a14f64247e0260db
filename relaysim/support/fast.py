"""Compiled loops in the place of NumPy's passes where Numba is installed: the extra ``fast``.

Nothing is imported before a run is long enough to gain more than loading takes, and no bit of a result
depends on it.

The environment variable ``RELAYSIM_FAST`` says ``never``, or ``always``: from the first run on.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from relaysim.support import kernels

__all__ = ["as_rows", "compiled", "in_a_row", "load_for"]

# Numbers that a run renews in the time that loading takes.
WORTH_LOADING = 2e8

DOUBLE = np.dtype(np.float64)

Kernel = Callable[..., None]


class Compiled(SimpleNamespace):
    """The functions of `relaysim.support.kernels`, compiled."""

    relay: Kernel
    gossip: Kernel
    gossip_change: Kernel
    means_and_spreads: Kernel


_loaded: Compiled | None = None


def compiled() -> Compiled | None:
    """The compiled functions, or None while they are not loaded."""
    return _loaded


def load_for(numbers: float) -> None:
    """Load what is compiled if it is there, for a run that renews so many numbers: steps · n · d · r."""
    global _loaded
    wanted = os.environ.get("RELAYSIM_FAST", "")
    if wanted == "never":
        _loaded = None
    elif _loaded is None and (wanted == "always" or numbers >= WORTH_LOADING):
        _loaded = _compile()


@functools.cache
def _compile() -> Compiled | None:
    if importlib.util.find_spec("numba") is None:
        return None
    numba: Any = importlib.import_module("numba")
    options = {"cache": True, "error_model": "numpy", "nogil": True}
    return Compiled(**{name: numba.njit(**options)(each) for name, each in kernels.KERNELS.items()})


def as_rows(x: np.ndarray) -> np.ndarray:
    """x ``(n, d[, r])`` as ``(n, m)``; a view.

    >>> as_rows(np.zeros((2, 3, 4))).shape
    (2, 12)
    """
    return x if x.ndim == 2 else x.reshape(len(x), x.shape[1] * x.shape[2])


def in_a_row(array: np.ndarray) -> bool:
    """Whether compiled functions take this array.

    >>> in_a_row(np.zeros((2, 3))), in_a_row(np.zeros((2, 3)).T)
    (True, False)
    """
    return array.flags.c_contiguous and array.dtype == DOUBLE
