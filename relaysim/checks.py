"""Checks of what a user gives."""

from __future__ import annotations

import operator

__all__ = ["whole_number"]


def whole_number(value, name: str, least: int) -> int:
    """``value`` as an int of at least ``least``; says what was given otherwise.

    >>> whole_number(0, "n", 1)
    Traceback (most recent call last):
        ...
    ValueError: n must be at least 1, not 0
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number
