"""Functions of a user's own: called with arrays that they cannot write into, and what they return checked."""

from __future__ import annotations

import linecache
import os
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.support.checks import real_array

__all__ = ["answer", "ask", "call", "read_only"]

# A line within these is not the user's.
LIBRARIES = ("numpy", "scipy")


def read_only(array: np.ndarray) -> np.ndarray:
    """A view of the same memory that cannot be written into.

    >>> read_only(np.zeros(2)).flags.writeable
    False
    """
    view = array.view()
    view.flags.writeable = False
    return view


def ask(function: Callable[..., Any], name: str, *arrays: np.ndarray, **options: Any) -> Any:
    """What a user's function says of arrays, which it gets as views that it cannot write into.

    Args:
        function: is called with the arrays.
        name: what messages call it, such as ``"gradient"``.
        arrays: what it may read.
        options: further arguments, as they are.

    Raises:
        ValueError: it writes into an array that it was given, with the line that does.

    >>> def gradient(x):
    ...     x -= 1
    ...     return x
    >>> ask(gradient, "gradient", np.zeros(2))
    Traceback (most recent call last):
        ...
    ValueError: the problem's gradient writes into an array that it was given to read, in line 2 of ...
    """
    return call(function, f"the problem's {name}", *map(read_only, arrays), **options)


def call(function: Callable[..., Any], what: str, *arguments: Any, **options: Any) -> Any:
    """What any function of a user's says; arrays among the arguments are `read_only` ones already.

    Args:
        function: is called with the arguments.
        what: what messages call it, such as ``"measure 'norm'"``.
        arguments, options: of the function.

    Raises:
        ValueError: it writes into an array that it was given, with the line that does.
    """
    try:
        return function(*arguments, **options)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ValueError(
            f"{what} writes into an array that it was given to read, {_line_of(error)}; "
            f"the memory is the run's, and read-only: make a new array there, as x = x - c does and x -= c "
            f"does not, or begin with x = x.copy()"
        ) from error


def answer(found: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a user's function returned, through the gate of all arrays: real numbers of that shape.

    >>> answer(np.zeros(2), "gradient", (3,))
    Traceback (most recent call last):
        ...
    ValueError: the problem's gradient must have shape (3,), not (2,)
    """
    return real_array(found, f"the problem's {name}", shape=shape)


def _line_of(error: BaseException) -> str:
    """Where the user's own code stood."""
    place = "somewhere"
    for frame, line in [*traceback.walk_tb(error.__traceback__)][1:]:
        if frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES:
            break
        path = frame.f_code.co_filename
        text = linecache.getline(path, line, frame.f_globals).strip()
        place = f"in line {line} of {os.path.basename(path)}" + (f" ({text})" if text else "")
    return place
