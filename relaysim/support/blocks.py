"""Walking over large arrays in pieces that stay in the processor's cache."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["Spread", "row_blocks"]

BLOCK_BYTES = 1 << 18


def row_blocks(array: np.ndarray) -> tuple[slice, ...]:
    """Slices over the first axis, each of about 256 KiB; a small array is one block.

    Two passes over a block cost one trip to memory where two passes over the whole cost two.

    >>> import numpy as np
    >>> row_blocks(np.zeros((32, 10)))
    (slice(0, 32, None),)
    >>> len(row_blocks(np.zeros((10**5, 10))))
    31
    """
    rows = array.shape[0]
    return _slices(rows, BLOCK_BYTES * rows // max(array.nbytes, 1))


@functools.lru_cache(maxsize=256)
def _slices(rows: int, length: int) -> tuple[slice, ...]:
    length = max(length, 1)
    return tuple(slice(k, min(k + length, rows)) for k in range(0, rows, length))


class Spread:
    """A small array repeated to the shape of a larger one, from the second time on that it is asked for.

    Arithmetic with arrays of one shape takes half of the time of arithmetic that repeats one of them, where
    the last axis is short. Arrays of more than `BLOCK_BYTES` would only be read from farther away.

    >>> import numpy as np
    >>> spread, rates = Spread(), np.array([1.0, 2.0])
    >>> [spread(rates, (2, 2)).tolist() for _ in range(2)]
    [[1.0, 2.0], [[1.0, 2.0], [1.0, 2.0]]]
    """

    __slots__ = ("_full", "_small")

    def __init__(self) -> None:
        self._small: np.ndarray | None = None
        self._full: np.ndarray | None = None

    def __call__(self, small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The array itself or what it is in this shape; it must not be changed in between."""
        if small is not self._small:
            self._small, self._full = small, None
            return small
        if self._full is None or self._full.shape != shape:
            self._full = np.array(np.broadcast_to(small, shape), order="C")
        return self._full
