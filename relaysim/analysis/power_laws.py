"""Power laws: the exponent of one column against another, and those of all methods of a study."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from relaysim.analysis.entries import ENTRY
from relaysim.support.checks import real_array
from relaysim.support.display import html_table

__all__ = ["Exponent", "exponents_of", "power_law"]

MEASURED = ("steps_to_target", "plateau", "consensus_distance")
# Where ζ² is what a data set brings it may hardly change: exponents are left open below this span.
LEAST_SPAN = 3.0


class Exponent(NamedTuple):
    """The slope of log y against log x, and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def _repr_html_(self) -> str:
        rows = [("exponent", self.value), ("95 % from", self.low), ("to", self.high)]
        return html_table("Power law", rows)


def power_law(x: ArrayLike, y: ArrayLike, group: ArrayLike | None = None) -> Exponent:
    """The exponent b of y ∝ x^b by least squares on logarithms, with a 95 % confidence interval.

    Args:
        x, y: ``(k,)``; pairs of which one is not positive are left out.
        group: ``(k,)``; each group has a factor of its own.

    Returns:
        An `Exponent`, NaN with fewer than two different x in a group, its interval NaN without a
        degree of freedom. Residuals are taken to be independent and normal.

    Raises:
        ValueError: lengths that differ.

    >>> power_law([1, 2, 4], [3, 12, 48]).value.round(12)
    np.float64(2.0)
    """
    x, y = real_array(x, "x"), real_array(y, "y")
    group = np.zeros(x.shape) if group is None else np.asarray(group)
    if x.ndim != 1 or not x.shape == y.shape == group.shape:
        raise ValueError(
            f"x, y and group must have one length (k,), not {x.shape}, {y.shape} and {group.shape}"
        )
    kept = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    table = pd.DataFrame({"x": np.log(x[kept]), "y": np.log(y[kept]), "group": group[kept]})
    centered = table[["x", "y"]] - table.groupby("group")[["x", "y"]].transform("mean")
    square = (centered.x**2).sum()
    if len(table) < 2 or square < 1e-20:
        return Exponent(math.nan, math.nan, math.nan)
    slope = (centered.x * centered.y).sum() / square
    freedom = len(table) - table.group.nunique() - 1
    if freedom < 1:
        return Exponent(slope, math.nan, math.nan)
    residual = ((centered.y - slope * centered.x) ** 2).sum()
    half = stdtrit(freedom, 0.975) * math.sqrt(residual / freedom / square)
    return Exponent(slope, slope - half, slope + half)


def exponents_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and measure of a study; see `relaysim.analysis.Sensitivity`."""
    return pd.DataFrame(_exponent_rows(frame))


def _exponent_rows(frame: pd.DataFrame) -> Iterator[dict]:
    for name, part in frame.groupby(list(ENTRY), sort=False):
        for measure in MEASURED:
            used = part[(part[measure] > 0) & (part.zeta2 > 0)]
            found = power_law(used.zeta2, used[measure], used.problem_seed)
            if "alpha" in frame and not _span(used) >= LEAST_SPAN:
                found = Exponent(math.nan, math.nan, math.nan)
            yield {
                "method": part.method.iloc[0],
                **dict(zip(ENTRY, name, strict=True)),
                "measure": measure,
                "exponent": found.value,
                "low": found.low,
                "high": found.high,
                "points": len(used),
            }


def _span(rows: pd.DataFrame) -> float:
    """By which factor ζ² changes at most for one seed; NaN without rows."""
    by_seed = rows.groupby("problem_seed").zeta2
    return (by_seed.max() / by_seed.min()).max()
