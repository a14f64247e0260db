"""Memory lent to a step, so that a large simulation does not ask the system for it every round."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

__all__ = ["Workspace"]

# Arrays smaller than this come from the allocator's own cache, faster than from any pool.
LEND_FROM_BYTES = 1 << 20
# The most that the C library of Linux takes as a hint, see below.
HINT_BYTES = (1 << 25) - (1 << 16)


class Workspace:
    """Lends arrays with undefined contents.

    ``scratch`` arrays serve until the step ends, ``fresh`` ones until the next step ends: that is
    long enough for a state, which the following step reads and replaces. Requests come in the same
    order every step, so each gets the buffer that it had before.

    Args:
        largest: bytes of the largest array that will be asked for. Where that is small, all arrays
            are simply made anew.
    """

    scratch: Callable[[tuple[int, ...]], np.ndarray]
    fresh: Callable[[tuple[int, ...]], np.ndarray]

    def __init__(self, largest: int = 0):
        _keep_freed_memory()
        self._even, self._odd, self._passing = _Pool(), _Pool(), _Pool()
        self._lends = True
        if largest < LEND_FROM_BYTES:
            self.scratch = self.fresh = np.empty
            self._lends = False
        else:
            self.scratch, self.fresh = self._passing.lend, self._lend_fresh

    def start_step(self) -> None:
        """All that was lent as scratch, and as fresh two steps ago, is taken back."""
        if not self._lends:
            return
        self._even, self._odd = self._odd, self._even
        self._even.take_back()
        self._passing.take_back()

    def _lend_fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._even.lend(shape)


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep what arrays of a step leave behind.

    That of Linux gives memory back to the system when 128 KiB of it are free, and asks for it again, page by
    page, in the next line of the rule. Where something larger has been let go it keeps twice as much as
    that. Elsewhere nothing comes of it. The array is never touched.
    """
    np.empty(HINT_BYTES, dtype=np.uint8)


class _Pool:
    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._lent = 0

    def take_back(self) -> None:
        self._lent = 0

    def lend(self, shape: tuple[int, ...]) -> np.ndarray:
        k = self._lent
        self._lent = k + 1
        if k == len(self._arrays):
            self._arrays.append(np.empty(shape))
        elif self._arrays[k].shape != shape:
            self._arrays[k] = np.empty(shape)
        return self._arrays[k]
