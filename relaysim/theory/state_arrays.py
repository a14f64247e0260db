"""The arrays of a method's state: those that depend on the data, and counts, which do not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["change_of_counts", "data_of", "leaves_of", "rebuilt"]


def leaves_of(state: Any) -> Iterator[np.ndarray]:
    """The arrays of a state."""
    for part in state:
        if isinstance(part, tuple):
            yield from leaves_of(part)
        else:
            yield part


def data_of(state: Any) -> list[np.ndarray]:
    """Those of its arrays that depend on the data: they have replicas, hence three axes."""
    return [part for part in leaves_of(state) if np.ndim(part) == 3]


def rebuilt(state: Any, data: Iterator[np.ndarray]) -> Any:
    """The same state with other data."""
    parts = []
    for part in state:
        if isinstance(part, tuple):
            parts.append(rebuilt(part, data))
        else:
            parts.append(next(data) if np.ndim(part) == 3 else part)
    return type(state)(*parts)


def change_of_counts(state: Any, following: Any) -> float:
    """The largest relative change of what does not depend on the data."""
    largest = 0.0
    for old, new in zip(leaves_of(state), leaves_of(following), strict=True):
        if np.ndim(new) == 3 or np.array_equal(old, new):
            continue
        if np.shape(old) != np.shape(new):
            return math.inf
        before, after = (np.asarray(part, dtype=float) for part in (old, new))  # a flag is 0 or 1
        sizes = np.maximum(np.abs(before), np.abs(after))
        apart = np.maximum(before, after) - np.minimum(before, after)
        change = apart / np.where(sizes > 0, sizes, 1)
        largest = max(largest, float(np.max(change)))
    return largest
