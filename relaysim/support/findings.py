"""What was found when a contract was gone through, point by point, as a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Finding", "Findings", "FindingsTable", "relative_difference"]

COLUMNS = ("claim", "holds", "measured", "limit", "note")
# What an examination returns: what was measured, how much is allowed, and a note if it is more.
Finding = tuple[float, float, str]


class FindingsTable(pd.DataFrame):
    """A table of claims: ``claim``, ``holds`` (missing where there is nothing to hold), ``measured``,
    ``limit`` (the most that ``measured`` may be) and ``note``. ``table.holds.all()`` is the verdict.
    """

    @property
    def _constructor(self) -> type[FindingsTable]:
        return FindingsTable

    def __repr__(self) -> str:
        if tuple(self.columns) != COLUMNS:
            return str(pd.DataFrame(self))
        width = max((len(claim) for claim in self.claim), default=0)
        lines = []
        for claim, holds, measured, limit, note in self.to_numpy():
            mark = "–" if pd.isna(holds) else "holds" if holds else "FAILS"
            size = ""
            if not pd.isna(measured):
                size = f"{measured:.2g} {'≤' if holds else '>'} {limit:.2g}"
            lines.append(f"{mark:5}  {claim:{width}}  {size:18}  {note}".rstrip())
        failed = int((~self.holds.fillna(True).astype(bool)).sum())
        held = int(self.holds.fillna(False).sum())
        verdict = f"{held} hold, {failed} fail, {len(self) - held - failed} are not there"
        return "\n".join([*lines, verdict])


class Findings:
    """Gathers what was found; nothing that is examined ends the rest.

    >>> found = Findings()
    >>> found.examine("close", lambda: (1e-9, 1e-6, ""))
    True
    >>> found.examine("there", lambda: {}["nowhere"])
    False
    >>> found.absent("more", "nothing is missing")
    >>> found.table()
    holds  close  1e-09 ≤ 1e-06
    FAILS  there                      KeyError: 'nowhere'
    –      more                       nothing is missing
    1 hold, 1 fail, 1 are not there
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, bool | None, float, float, str]] = []

    def examine(self, claim: str, examination: Callable[[], Finding | bool | None]) -> bool:
        """Write down whether a claim holds: a truth, or a measured number that must not exceed its limit.

        What is raised fails it, and is the note.
        """
        try:
            with np.errstate(all="ignore"):
                found = examination()
        except Exception as error:
            note = " ".join(f"{type(error).__name__}: {error}".split())
            self._rows.append((claim, False, np.nan, np.nan, note))
            return False
        if found is None or isinstance(found, bool | np.bool_):
            holds, row = found is None or bool(found), (np.nan, np.nan, "")
        else:
            measured, limit, note = found
            holds = bool(measured <= limit)
            row = (float(measured), float(limit), "" if holds else note)
        self._rows.append((claim, holds, *row))
        return holds

    def absent(self, claim: str, note: str) -> None:
        """Write down that there is nothing to hold."""
        self._rows.append((claim, None, np.nan, np.nan, note))

    def table(self) -> FindingsTable:
        """A row for each claim, in order."""
        table = FindingsTable(self._rows, columns=list(COLUMNS))
        table["holds"] = table["holds"].astype("boolean")
        return table


def relative_difference(found: Any, expected: Any, scale: float = 0.0) -> float:
    """Largest difference, as a share of the largest expected number, or of ``scale`` if that is larger.

    >>> relative_difference([1.0, 2.0], [1.0, 4.0])
    0.5
    >>> relative_difference(float("nan"), 1.0)
    inf
    """
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if found.shape != expected.shape:
        raise ValueError(f"the shape is {found.shape} and must be {expected.shape}")
    size = max(float(np.abs(expected).max(initial=0)), scale)
    if np.array_equal(found, expected, equal_nan=True):
        return 0.0
    largest = float(np.abs(found - expected).max(initial=0))
    difference = largest / size if size else largest
    return math.inf if math.isnan(difference) else difference
