"""The arrays of a state as plain data, and back, each laid out in memory as it was.

The order in which NumPy adds numbers up depends on how an array lies in memory: a run goes on with the
same bits only if that is kept, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["bytes_of", "laid_out", "restored", "saved"]


def saved(state: Any) -> Any:
    """A copy of an array, or of a (named) tuple of them, as plain data.

    >>> saved(np.zeros((2, 3)).T)["axes"]
    [1, 0]
    """
    if isinstance(state, tuple):
        return [saved(part) for part in state]
    axes = np.argsort([-abs(stride) for stride in state.strides], kind="stable")
    return {"axes": axes.tolist(), "values": np.array(state.transpose(axes), order="C")}


def bytes_of(state: Any) -> int:
    """Of an array, or of a (named) tuple of them.

    >>> bytes_of((np.zeros(2), np.zeros((3, 1))))
    40
    """
    return sum(map(bytes_of, state)) if isinstance(state, tuple) else state.nbytes


def laid_out(plain: dict[str, Any]) -> np.ndarray:
    """The array that was saved, with its axes in memory as they were.

    >>> laid_out(saved(np.ones((2, 3)).T)).strides == np.ones((2, 3)).T.strides
    True
    """
    values = np.array(plain["values"])
    return values.transpose(np.argsort(plain["axes"])) if values.ndim else values


def restored(like: Any, plain: Any) -> Any:
    """The state that was saved; ``like`` has its structure, whatever it holds.

    Raises:
        ValueError: it has another structure.
    """
    if not isinstance(like, tuple):
        return laid_out(plain)
    if not isinstance(plain, list) or len(plain) != len(like):
        raise ValueError("the state that was kept has another structure than this method's")
    return type(like)(*(restored(part, own) for part, own in zip(like, plain, strict=True)))
