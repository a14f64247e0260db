"""From what a sweep says to every single setting that it stands for."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from relaysim.studies.experiment import DEFAULTS, OPTIONS
from relaysim.studies.naming import ALGORITHMS, name_in
from relaysim.studies.options import SettingError
from relaysim.studies.settings import complete, key_of
from relaysim.support.checks import require_memory
from relaysim.support.names import closest

__all__ = ["expand", "read_sweep"]

MOST_REPORTED = 20
# Complete, with its key, while a sweep is planned.
_BYTES_OF_SETTING = 4000


def read_sweep(path: str | os.PathLike) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ValueError: what is not TOML, with the line.
    """
    try:
        return tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def _hint(key: str, stated: Mapping[str, Any]) -> str:
    """What was meant: an option of a method that is there, or what is called nearly so."""
    given = stated.get("algorithm", DEFAULTS["algorithm"])
    for each in given if isinstance(given, list) else [given]:
        name = name_in(each) if isinstance(each, str) else type(each).__name__
        made = ALGORITHMS.get(name)
        if made is not None and key in inspect.signature(made).parameters:
            return f"; it is an option of {name}, written algorithm = '{name}({key}=…)'"
    return closest(key, DEFAULTS)


def expand(settings: Mapping[str, Any], source: pathlib.Path | None = None) -> list[dict]:
    """Every single setting that a sweep stands for, complete and as plain data.

    Raises:
        ValueError: all that is wrong with it, in one message.
    """
    common = {key: value for key, value in settings.items() if key != "cases"}
    cases = settings.get("cases", [{}])
    tables = isinstance(cases, Sequence) and all(isinstance(case, Mapping) for case in cases)
    if not tables or not cases:
        raise ValueError("cases must be a list of tables, each with settings of its own")
    where = _Lines(source)
    wrong: list[str] = []
    planned: dict[str, dict] = {}
    for case in cases:
        joined = dict(common) | dict(case)
        unknown = [key for key in joined if key not in DEFAULTS]
        wrong += [f"{where(key)}unknown setting {key!r}{_hint(key, joined)}" for key in unknown]
        if unknown:
            continue
        settings_here = math.prod(_count(key, value) for key, value in joined.items())
        require_memory(
            _BYTES_OF_SETTING * settings_here,
            f"a sweep of {settings_here} settings",
            "take fewer values, or several sweeps",
        )
        values = {key: _listed(key, value) for key, value in joined.items()}
        wrong += [f"{where(key)}{key} is an empty list" for key, each in values.items() if not each]
        known: dict[tuple[int, ...], dict] = {}
        for chosen in itertools.product(*(range(len(each)) for each in values.values())):
            at = dict(zip(values, chosen, strict=True))
            stated = {key: values[key][k] for key, k in at.items()}
            # What differs in the seed alone is made, and looked at, once.
            others = tuple(k for key, k in at.items() if key != "seed")
            try:
                if others in known:
                    setting = known[others] | {"seed": OPTIONS["seed"].checked(stated["seed"])}
                else:
                    setting = known[others] = complete(stated)
                planned.setdefault(key_of(setting), setting)
            except (ValueError, TypeError) as error:
                culprit = _culprit(error, stated)
                value = None if culprit is None else stated.get(culprit)
                wrong.append(f"{where(culprit, value)}{error}")
    wrong = list(dict.fromkeys(wrong))
    if wrong:
        more = len(wrong) - MOST_REPORTED
        listing = "\n".join(wrong[:MOST_REPORTED] + ([f"… and {more} more"] if more > 0 else []))
        raise ValueError(listing if len(wrong) == 1 else f"{len(wrong)} things to mend:\n{listing}")
    return list(planned.values())


def _listed(key: str, value: Any) -> list:
    """The values that multiply out; matrices of a mixing are one value."""
    if key == "mixing" and (issparse(value) or isinstance(value, np.ndarray | tuple)):
        return [value]
    if isinstance(value, np.ndarray):
        return list(np.atleast_1d(value).tolist())
    return list(value) if isinstance(value, list | tuple | range) else [value]


def _count(key: str, value: Any) -> int:
    """How many `_listed` has of them."""
    if isinstance(value, np.ndarray) and key != "mixing":
        return len(np.atleast_1d(value))
    is_listed = isinstance(value, list | range) or (isinstance(value, tuple) and key != "mixing")
    return len(value) if is_listed else 1


def _culprit(error: Exception, stated: dict[str, Any]) -> str | None:
    if isinstance(error, SettingError):
        return error.key
    text = str(error)
    values = [key for key, each in OPTIONS.items() if each.parts or each.through]
    return next((key for key in values if key in stated and str(stated[key]) in text), None)


class _Lines:
    """Where a setting stands in its file, as the start of an error message."""

    def __init__(self, source: pathlib.Path | None):
        self._source = source
        self._lines = source.read_text(encoding="utf-8").splitlines() if source else []

    def __call__(self, key: str | None, value: Any = None) -> str:
        if self._source is None:
            return ""
        pattern = rf"""\s*["']?{re.escape(key or "")}["']?\s*="""
        numbers = [
            number
            for number, line in enumerate(self._lines, start=1)
            if key is not None and re.match(pattern, line)
        ]
        # Where several cases have the key, the line with the value is meant.
        naming = [number for number in numbers if str(value) in self._lines[number - 1]]
        for number in naming or numbers:
            return f"{self._source}, line {number}: "
        return f"{self._source}: "
