"""Whether two objects are made of the same values."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_alike"]

_VALUES = (bool, int, float, complex, str, bytes, set, frozenset, np.generic)


def is_alike(one: Any, other: Any) -> bool:
    """Whether one object may be taken for another: equal values in the same structure.

    What cannot be told is not alike.

    >>> is_alike([np.zeros(2), {"a": 1}], [np.zeros(2), {"a": 1}]), is_alike([1], [1.0])
    (True, False)
    """
    return _is_alike(one, other, {})


def _is_alike(one: Any, other: Any, known: dict[tuple[int, int], Any]) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, _VALUES):
        return bool(one == other or (one != one and other != other))
    if (id(one), id(other)) in known:
        return True  # as far as that is looked at further up
    known[id(one), id(other)] = one, other  # kept, so that no other object has their place
    if type(one) is np.ndarray and one.dtype.kind != "O":
        return (one.dtype, one.shape) == (other.dtype, other.shape) and (
            one.tobytes() == other.tobytes()
        )
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(
            _is_alike(*each, known) for each in zip(one, other, strict=True)
        )
    if type(one) is dict:
        return list(one) == list(other) and all(_is_alike(one[k], other[k], known) for k in one)
    try:  # all else by what a copy would be made of
        return _is_alike(_parts(one), _parts(other), known)
    except Exception:
        return False


def _parts(whole: Any) -> tuple:
    found = whole.__reduce_ex__(4)
    return tuple(list(part) if hasattr(part, "__next__") else part for part in found)
