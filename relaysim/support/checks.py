"""Checks of what a user gives."""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import pathlib
from typing import Any

import numpy as np

__all__ = [
    "NoSuchChoiceError",
    "memory_bytes",
    "one_of",
    "plain_options",
    "plain_scalar",
    "real_array",
    "real_number",
    "require_memory",
    "shown",
    "size_text",
    "true_or_false",
    "whole_number",
]

# What a container may use, in the two forms that Linux has.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Where the system does not tell.
_ASSUMED = 2**40


def plain_scalar(value: Any) -> Any:
    """A scalar of NumPy's as Python's; all else as it is.

    >>> plain_scalar(np.float64(0.5)), plain_scalar(np.str_("a"))
    (0.5, 'a')
    """
    if not isinstance(value, np.generic):
        return value
    plain = value.item()
    return float(value) if isinstance(plain, np.floating) else plain


def plain_options(part: Any) -> None:
    """Make the fields of a frozen dataclass plain: NumPy's numbers and words are no part of its name."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name, None)
        if isinstance(value, np.generic):
            object.__setattr__(part, field.name, plain_scalar(value))


def whole_number(value: Any, name: str, least: int) -> int:
    """``value`` as an int of at least ``least``; says what was given otherwise.

    >>> whole_number(0, "n", 1)
    Traceback (most recent call last):
        ...
    ValueError: n must be at least 1, not 0
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {plain_scalar(value)!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def real_number(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """``value`` as a finite float within bounds; says what was given otherwise.

    >>> real_number(2, "p", 0, 1)
    Traceback (most recent call last):
        ...
    ValueError: p must be a finite number between 0 and 1, not 2
    """
    if isinstance(value, str | bytes | complex) or np.ndim(value):
        raise TypeError(f"{name} must be a number, not {plain_scalar(value)!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {plain_scalar(value)!r}") from None
    if not (math.isfinite(number) and least <= number <= most):
        bounds = "" if least == -math.inf else f" of at least {least:g}"
        if most < math.inf:
            bounds = f" between {least:g} and {most:g}"
        raise ValueError(f"{name} must be a finite number{bounds}, not {plain_scalar(value)!r}")
    return number


def real_array(value: Any, name: str, *, copy: bool = False) -> np.ndarray:
    """``value`` as a float64 array; complex numbers and text are refused."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, not of {array.dtype}")
    return np.array(array, dtype=float) if copy else np.asarray(array, dtype=float)


def shown(value: object) -> str:
    """What a user gave, for a message of one line: as written if that is short, else its type.

    >>> import numpy as np
    >>> shown([1, 2]), shown(np.zeros((40, 2)))
    ('[1, 2]', 'a numpy.ndarray of shape (40, 2)')
    """
    shape = getattr(value, "shape", ())
    value = plain_scalar(value)
    written = "" if shape else repr(value)
    if not shape and len(written) <= 80 and "\n" not in written:
        return written
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"a {name} of shape {shape}" if shape else f"a {name}"


class NoSuchChoiceError(TypeError, ValueError):
    """A word that is none of those allowed.

    It names a rule that there is not, as an unknown option does, which is a TypeError.
    """


def one_of(value: object, name: str, allowed: tuple[str, ...]) -> str:
    """The value, if it is one of these words.

    >>> one_of("b", "letter", ("a", "c"))
    Traceback (most recent call last):
        ...
    relaysim.support.checks.NoSuchChoiceError: letter must be one of 'a', 'c', not 'b'
    """
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(map(repr, allowed))
        raise NoSuchChoiceError(f"{name} must be one of {listed}, not {shown(value)}")
    return str(value)


def true_or_false(value: object, name: str) -> bool:
    """``value`` as a bool; says what was given otherwise."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {plain_scalar(value)!r}")
    return bool(value)


def memory_bytes() -> int:
    """The memory of this machine, or of the container that this process runs in."""
    try:
        least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        least = _ASSUMED
    for path in _LIMITS:
        try:
            least = min(least, int(pathlib.Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return least


def require_memory(needed: float, what: str, mend: str) -> None:
    """Raise where so many bytes cannot fit, with both sizes.

    >>> require_memory(1e18, "the iterates", "record less often")
    Traceback (most recent call last):
        ...
    ValueError: the iterates would take 1 EB of memory...; record less often
    """
    there = memory_bytes()
    if needed > there:
        raise ValueError(
            f"{what} would take {size_text(needed)} of memory and this machine has {size_text(there)}; "
            f"{mend}"
        )


def size_text(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size_text(12), size_text(1.5e9)
    ('12 B', '1.5 GB')
    """
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"
