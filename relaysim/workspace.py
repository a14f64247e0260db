"""Memory lent to a step, so that a large simulation does not ask the system for it every round."""

from __future__ import annotations

import numpy as np

__all__ = ["Workspace"]

# Below this size an allocation is cheaper than looking a buffer up.
LEND_FROM_BYTES = 1 << 20


class Workspace:
    """Lends arrays with undefined contents.

    ``scratch`` arrays serve until the step ends, ``fresh`` ones until the next step ends: that is
    long enough for a state, which the following step reads and replaces. Requests come in the same
    order every step, so each gets the buffer that it had before.

    Args:
        lend_from: smallest size in bytes that is lent instead of allocated anew.
    """

    def __init__(self, lend_from: int = LEND_FROM_BYTES):
        self._lend_from = lend_from // 8
        self._fresh: tuple[list, list] = ([], [])
        self._scratch: list = []
        self._parity = 0
        self._cursors = [0, 0]

    def start_step(self) -> None:
        """All that was lent as scratch, and as fresh two steps ago, is taken back."""
        self._parity = 1 - self._parity
        self._cursors = [0, 0]

    def scratch(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array for use within this step."""
        array = np.empty(shape) if _size(shape) < self._lend_from else None
        return array if array is not None else self._lend(self._scratch, 0, shape)

    def fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array that may go into the state."""
        array = np.empty(shape) if _size(shape) < self._lend_from else None
        return array if array is not None else self._lend(self._fresh[self._parity], 1, shape)

    def _lend(self, pool: list, cursor: int, shape: tuple[int, ...]) -> np.ndarray:
        k = self._cursors[cursor]
        self._cursors[cursor] = k + 1
        if k == len(pool):
            pool.append(np.empty(shape))
        elif pool[k].shape != shape:
            pool[k] = np.empty(shape)
        return pool[k]


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
