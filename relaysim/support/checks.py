"""Checks of what a user gives."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import os
import pathlib
import re
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, issparse

__all__ = [
    "NoSuchChoiceError",
    "label_values",
    "memory_bytes",
    "noise_variances",
    "one_of",
    "plain_options",
    "plain_scalar",
    "positive_share",
    "real_array",
    "real_matrix",
    "real_number",
    "real_numbers",
    "require_memory",
    "share_below_one",
    "shown",
    "size_in_bytes",
    "size_text",
    "true_or_false",
    "unmasked",
    "whole_number",
]

# Of options that are real numbers, as annotations say it.
_REAL = (float, "float", float | None, "float | None")
# The whole numbers up to which each is a float.
_LARGEST_EXACT = 2**53
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
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
    """Make the fields of a frozen dataclass plain: NumPy's numbers and words are no part of its name, and a
    real number is the same whether it is given as 1 or as 1.0, unless its default is a whole one.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Part:
    ...     share: float = 0.5
    ...     steps: float = 1
    ...     def __post_init__(self):
    ...         plain_options(self)
    >>> Part(1, np.int64(2)), Part(1.0, 2)
    (Part(share=1.0, steps=2), Part(share=1.0, steps=2))
    """
    for field in dataclasses.fields(part):
        value = given = getattr(part, field.name, None)
        if isinstance(value, np.generic):
            value = plain_scalar(value)
        is_real = field.type in _REAL and type(field.default) is not int
        if is_real and type(value) is int and abs(value) <= _LARGEST_EXACT:
            value = float(value)
        if value is not given:
            object.__setattr__(part, field.name, value)


def whole_number(value: Any, name: str, least: int) -> int:
    """``value`` as an int of at least ``least``; says what was given otherwise.

    True and False are none: a mask of workers would be read as the workers 1 and 0.

    >>> whole_number(0, "n", 1)
    Traceback (most recent call last):
        ...
    ValueError: n must be at least 1, not 0
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {plain_scalar(value)!r}") from None
    if _is_truth(value):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def real_number(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """``value`` as a finite float within bounds, no truth value; says what was given otherwise.

    >>> real_number(2, "p", 0, 1)
    Traceback (most recent call last):
        ...
    ValueError: p must be a finite number between 0 and 1, not 2
    """
    no_number = isinstance(value, str | bytes | complex | np.complexfloating) or _is_truth(value)
    if no_number or np.ndim(value):
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


def _is_truth(value: Any) -> bool:
    """Whether it is True or False, which Python takes for 1 and 0."""
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_


def real_numbers(value: Any, name: str, *, finite: bool = False, copy: bool = False) -> np.ndarray:
    """As `real_array`, for numbers that are no data: True and False are none.

    >>> real_numbers([0.1, True], "rates")
    Traceback (most recent call last):
        ...
    TypeError: rates must be numbers, not [0.1, True]
    """
    parts = value if isinstance(value, list | tuple) else ()
    if _is_truth(value) or any(map(_is_truth, parts)):
        raise TypeError(f"{name} must be numbers, not {shown(value)}")
    return real_array(value, name, finite=finite, copy=copy)


def noise_variances(sigma2: Any, n: int | None = None) -> np.ndarray:
    """σ² as an array, ``()`` of all workers or ``(n,)`` with one for each; says what was given otherwise.

    >>> noise_variances([0.1, 0.2], n=3)
    Traceback (most recent call last):
        ...
    ValueError: sigma2 has 2 numbers and there are 3 workers; give one for each, or one number
    """
    if np.ndim(sigma2) == 0:
        return np.array(real_number(sigma2, "sigma2", 0))
    variances = real_numbers(sigma2, "sigma2", finite=True)
    if variances.ndim != 1 or not (variances >= 0).all():
        raise ValueError(
            f"sigma2 must be a number of at least 0, or one for each worker, not {shown(sigma2)}"
        )
    if n is not None and len(variances) != n:
        raise ValueError(
            f"sigma2 has {len(variances)} numbers and there are {n} workers; give one for each, or one "
            f"number"
        )
    return variances


def positive_share(value: Any, name: str) -> float:
    """``value`` as a float in (0, 1]; says what was given otherwise.

    >>> positive_share(0, "share")
    Traceback (most recent call last):
        ...
    ValueError: share must lie in (0, 1], not 0
    """
    number = real_number(value, name)
    if not 0 < number <= 1:
        raise ValueError(f"{name} must lie in (0, 1], not {plain_scalar(value)!r}")
    return number


def share_below_one(value: Any, name: str) -> float:
    """``value`` as a float in [0, 1); says what was given otherwise.

    >>> share_below_one(1, "beta")
    Traceback (most recent call last):
        ...
    ValueError: beta must lie in [0, 1), not 1
    """
    number = real_number(value, name)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must lie in [0, 1), not {plain_scalar(value)!r}")
    return number


def real_array(
    value: Any,
    name: str,
    *,
    shape: tuple[int, ...] | None = None,
    finite: bool = False,
    copy: bool = False,
) -> np.ndarray:
    """``value`` as a float64 array: the gate through which every array comes in that a user hands over.

    Args:
        value: an array, or what NumPy makes one of; columns of a DataFrame may be of any kinds of numbers,
            True and False.
        name: what messages call it.
        shape: the only one allowed; any by default.
        finite: refuse NaN and infinity.
        copy: always an array of its own.

    Raises:
        TypeError: complex numbers, text, objects, or rows of different lengths.
        ValueError: masked entries, another shape, or entries that are not finite.

    >>> real_array([1, 2j], "x0")
    Traceback (most recent call last):
        ...
    TypeError: x0 must be an array of real numbers, not of complex128
    """
    if (
        type(value) is np.ndarray and value.dtype == np.float64
    ):  # what callbacks return, step by step
        array = np.array(value) if copy else value
    else:
        array = _converted(value, name, copy)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    if finite:
        _require_finite(array, name)
    return array


def _converted(value: Any, name: str, copy: bool) -> np.ndarray:
    unmasked(value, name)
    if isinstance(value, pd.DataFrame | pd.Series | pd.api.extensions.ExtensionArray):
        return _of_columns(pd.DataFrame(value), name).reshape(value.shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None
    _require_real(array.dtype, name)
    return np.array(array, dtype=float) if copy else np.asarray(array, dtype=float)


def _of_columns(frame: pd.DataFrame, name: str) -> np.ndarray:
    """The numbers of a frame, column by column; what is missing is NaN."""
    array = np.empty(frame.shape)
    for k, (label, column) in enumerate(frame.items()):
        if column.dtype.kind not in "fiub":
            raise TypeError(
                f"{name} must be an array of real numbers, and its column {label!r} is of "
                f"{column.dtype}; fill in what is missing and make it numbers, as with .astype(float), or "
                f"for words with pandas.get_dummies"
            )
        array[:, k] = column.to_numpy(dtype=float, na_value=np.nan)
    return array


def real_matrix(value: Any, name: str) -> np.ndarray | csr_array:
    """As `real_array`, for what may be sparse: of any sparse form a float64 csr_array.

    >>> real_matrix(csr_array([[1, 0]]), "features").dtype, real_matrix([[1, 0]], "features").dtype
    (dtype('float64'), dtype('float64'))
    """
    if not issparse(value):
        return real_array(value, name)
    _require_real(value.dtype, name, "real numbers")
    matrix = csr_array(value)
    return matrix if matrix.dtype == float else matrix.astype(float)


def unmasked(value: Any, name: str) -> Any:
    """``value``, unless it has masked entries, alone or in a list of arrays: NumPy drops the mask.

    >>> unmasked(np.ma.masked_array([1, 2], mask=[False, True]), "labels")
    Traceback (most recent call last):
        ...
    ValueError: there are masked entries in labels; fill them in, as with .filled(0), or leave them out
    """
    parts = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(
            f"there are masked entries in {name}; fill them in, as with .filled(0), or leave them out"
        )
    return value


def label_values(value: Any, name: str = "labels") -> np.ndarray:
    """Classes of examples as an array of what was given, none of them missing.

    >>> label_values([0, 1, float("nan")])
    Traceback (most recent call last):
        ...
    ValueError: label 2 of labels is missing (nan); leave the example out or give its class
    """
    array = np.asarray(unmasked(value, name))
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be classes, not of {array.dtype}")
    missing = np.zeros(array.shape, dtype=bool)
    if array.dtype.kind in "fOmM":
        missing = pd.isna(array)
    if missing.any():
        first = int(np.argmax(missing))
        raise ValueError(
            f"label {first} of {name} is missing ({array.reshape(-1)[first]}); leave the example out or "
            f"give its class"
        )
    return array


def _require_real(dtype: np.dtype, name: str, what: str = "an array of real numbers") -> None:
    if dtype.kind in "fiub":
        return
    mend = ""
    if dtype.kind == "O":
        mend = "; fill in what is missing and make every column numbers, as with .astype(float)"
    raise TypeError(f"{name} must be {what}, not of {dtype}{mend}")


def _require_finite(array: np.ndarray, name: str) -> None:
    # A sum is finite only if all entries are; it spares a boolean array of the same size.
    with np.errstate(all="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        at = f", at index {where}" if where else ""
        raise ValueError(f"{name} has an entry that is not finite{at}")


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


@functools.cache  # each run asks five times
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


def size_in_bytes(value: object, name: str) -> float:
    """A size that is given as a number of bytes, or as text with a unit.

    >>> size_in_bytes("1.5 GB", "max_memory"), size_in_bytes(4096, "max_memory")
    (1500000000.0, 4096.0)
    """
    number, factor = value, 1.0
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9.]+)\s*([kMGTPE]?B)?\s*", value)
        unit = (found[2] if found else None) or "B"
        number, factor = (found[1] if found else "nan"), 1000.0 ** _UNITS.index(unit)
    try:
        size = float(number) * factor  # type: ignore[arg-type]
    except (TypeError, ValueError):
        size = math.nan
    if isinstance(value, bool) or not 0 < size < math.inf:
        raise ValueError(
            f"{name} must be a number of bytes, or a size such as '2 GB', not {value!r}"
        )
    return size


def size_text(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size_text(12), size_text(1.5e9)
    ('12 B', '1.5 GB')
    """
    units = [*_UNITS]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"
