"""One line for the replicas of a run, and its band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from relaysim.plots.style import variant
from relaysim.support.checks import real_number, shown

__all__ = ["BANDS", "SCALES", "Band", "check_band", "draw_line", "unused_look"]

BANDS = ("quantile", "std", "minmax")
SCALES = ("log", "linear")
QUANTILES = (0.1, 0.9)
# Markers stand at so many places of a line.
MARKERS_OF_A_LINE = 8
# Looks of a method that are tried.
MOST_VARIANTS = 21
# Columns of which more is better; of all others less is.
RISING = ("accuracy", "margin")

#: One of `BANDS`, two quantiles, or None.
Band: TypeAlias = str | tuple[float, float] | None


def check_band(band: Band) -> tuple[float, float] | str | None:
    """The band, two quantiles as such.

    >>> check_band("quantile"), check_band("std"), check_band((0.25, 0.75))
    ((0.1, 0.9), 'std', (0.25, 0.75))

    Raises:
        ValueError: this is no band.
    """
    if isinstance(band, str) and band in BANDS:
        return QUANTILES if band == "quantile" else band
    if band is None:
        return None
    allowed = "'quantile', 'std', 'minmax', None or two quantiles such as (0.25, 0.75)"
    if isinstance(band, str) or np.shape(band) != (2,):
        raise ValueError(f"band must be {allowed}, not {shown(band)}")
    low, high = (real_number(each, "a quantile of band") for each in band)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"band must be {allowed}, not {shown(band)}")
    return low, high


def draw_line(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    line: Mapping[str, Any],
    band: Band = "quantile",
    scale: str = "log",
) -> str:
    """One line for all replicas of a frame: their median, or mean, with a band.

    A replica that diverged, whose values are NaN, counts as worse than all others: where half of them have,
    the line ends, and the band where its border would be among these.

    Args:
        ax: the Axes to draw into.
        frame: rows of a `relaysim.History.frame`.
        x, y: its columns to draw.
        line: arguments of ``Axes.plot``, by any of their names; markers stand at eight places.
        band: ``"quantile"`` (.1 and .9 around the median), two other quantiles, ``"std"`` (around the mean),
            ``"minmax"`` (around the median) or None.
        scale: ``"log"``, which leaves out what is not positive, or ``"linear"``.

    Returns:
        Why the line is empty or a single point, such as ``"0 throughout"``, which its name says too; ``""``
        of others.
    """
    band = check_band(band)
    worst = -np.inf if y in RISING else np.inf
    by_step = frame[y].fillna(worst).groupby(frame["step"])
    across = frame.groupby("step")[x].median()  # replicas may send at times of their own
    values = by_step.mean() if band == "std" else by_step.median()
    shows = np.isfinite(values) & ((values > 0) | (scale == "linear"))
    options: dict[str, Any] = normalize_kwargs(dict(line), Line2D)
    if options.get("marker", "None") not in ("None", "", None) and "markevery" not in options:
        every = max(1, len(values) // MARKERS_OF_A_LINE)
        options["markevery"] = (len(ax.lines) * every // 4 % every, every)
    if shows.sum() == 1:
        marker = options.get("marker", "None")
        marker = "o" if marker in ("None", "", " ", None) else marker
        options |= {"marker": marker, "markevery": None}
    why = _little_to_show(values, int(shows.sum()))
    if why and "label" in options:
        options["label"] = f"{options['label']}: {why}"
    (drawn,) = ax.plot(across, values.where(shows), **options)
    if band is None or frame["replica"].nunique() < 2:
        return why
    with np.errstate(invalid="ignore"):  # between two that are infinite
        if band == "minmax":
            low, high = by_step.min(), by_step.max()
        elif band == "std":
            spread = by_step.std()
            low, high = values - spread, values + spread
        else:
            low, high = (by_step.quantile(float(each)) for each in band)
    ax.fill_between(across, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    return why


def _little_to_show(values: pd.Series, count: int) -> str:
    """Why a line is empty or a point, in words; nothing of one that is neither."""
    finite = values[np.isfinite(values)]
    if count:
        return "one point" if count == 1 else ""
    if finite.empty:
        return "no finite value"
    return "0 throughout" if (finite == 0).all() else "nothing above 0"


def unused_look(ax: Axes, look: Mapping[str, Any]) -> dict[str, Any]:
    """The look, or the first variant of it that no line has yet, by colour and marker."""
    there = {(to_hex(line.get_color()), str(line.get_marker())) for line in ax.lines}
    varied = dict(look)
    for number in range(MOST_VARIANTS):
        varied = variant(look, number)
        if (to_hex(varied["color"]), varied.get("marker", "None")) not in there:
            break
    return varied
