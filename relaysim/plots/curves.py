"""Curves of histories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from relaysim.plots.lines import SCALES, Band, check_band, draw_line, unused_look
from relaysim.plots.naming import Facts, Recorded, described, facts_of, names_from
from relaysim.plots.style import (
    AXIS_LABELS,
    add_legend,
    line_name,
    method_style,
    new_axes,
    setting,
    style,
    style_axes,
)
from relaysim.support.checks import one_of

__all__ = [
    "Overlaid",
    "by_rate",
    "frame_of",
    "keep_in_sight",
    "plot_history",
    "rate_name",
]

# Lines that are named after a history: what is known of it, the name, and what follows that.
_NAMED: WeakKeyDictionary[Line2D, tuple[Facts, str, str]] = WeakKeyDictionary()
# More lines than this are told apart by a colour bar.
MOST_IN_LEGEND = 10
GRADIENTS = "gradients"


class Overlaid(Protocol):
    """What can be laid over a curve, such as a `relaysim.theory.Overlay`."""

    @property
    def learning_rate(self) -> float: ...

    def draw(self, ax: Axes, *, which: str) -> object: ...


def plot_history(
    history: Recorded,
    y: str = "suboptimality",
    x: str = "step",
    *,
    ax: Axes | None = None,
    label: str | None = None,
    band: Band = "quantile",
    scale: str = "log",
    overlays: Sequence[Overlaid] = (),
    **line: Any,
) -> Axes:
    """Draw a column of a history's frame: a line for each learning rate.

    Replicas that differ in their seed only are one line, with a band.

    Args:
        history: a `relaysim.History`.
        y: the column to draw.
        x: ``"step"``, ``"vectors_sent"``, ``"bits_sent"``, ``"gradients"`` (of all workers), ``"time"`` or
            another column.
        ax: the Axes to draw into; new ones by default. Into Axes that have a line of this look a method is
            drawn paler or darker, with markers.
        label: the line's name in the legend; the method's, or the learning rate, by default.
        band: ``"quantile"``: the median, and the quantiles .1 and .9; two other quantiles, such as (.25,
            .75); ``"std"``: the mean and a standard deviation on either side; ``"minmax"``: the median and
            all; None for the median alone.
        scale: ``"log"`` or ``"linear"``.
        overlays: what to lay over the curves, one for each of some learning rates: objects that
            ``draw(ax, which="")``, and have a ``learning_rate`` to be told apart by, such as
            `relaysim.theory.Overlay`; `relaysim.History.plot` finds them.
        line: further arguments of ``Axes.plot``, by any of their names (``lw`` is ``linewidth``).

    Returns:
        The matplotlib Axes. Where a curve has nothing to show, its name in the legend says why.

    Raises:
        ValueError: a column that this history does not have, or a band or scale that there is not.
    """
    frame = frame_of(history, x, y)
    check_band(band)
    one_of(scale, "scale", SCALES)
    look = method_style(history.label)
    groups = list(by_rate(history, frame))
    by_color = len(groups) > MOST_IN_LEGEND
    with style():
        own = ax is None
        ax = new_axes(5.2, 3.4) if ax is None else ax
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
        without: list[str] = []
        for color, (rate, group) in zip(colors, groups, strict=True):
            chosen = dict(look)
            if len(groups) > 1:
                name = rate_name(rate, frame["learning_rate"].unique())
                name = name if label is None else f"{label}, {name}"
                chosen |= {"color": color} | ({"linestyle": "-"} if by_color else {})
            else:
                name = described(history) if label is None else label
            chosen = chosen if by_color else unused_look(ax, chosen)
            options = {"label": line_name(name)} | chosen | normalize_kwargs(line, Line2D)
            why = draw_line(ax, group, x, y, options, band, scale)
            without += [why] if why else []
            if len(groups) == 1 and label is None and "label" not in line:
                _NAMED[ax.lines[-1]] = (facts_of(history), name, f": {why}" if why else "")
        several = len({overlay.learning_rate for overlay in overlays}) > 1
        for overlay in overlays:
            which = f", γ = {overlay.learning_rate:.3g}" if several else ""
            overlay.draw(ax, which=which)
        style_axes(ax, x, y, AXIS_LABELS | history.axis_labels, scale)
        keep_in_sight(ax, [frame], y, scale)
        _tell_apart(ax)
        if by_color:
            if without:
                said = [
                    Line2D([], [], linestyle="", label=f"{count} of {len(groups)} rates: {why}")
                    for why, count in Counter(without).items()
                ]
                ax.legend(handles=said, fontsize=setting("legend.fontsize", "small"))
            rates = [rate for rate, _ in groups]
            norm = LogNorm(min(r for r in rates if r > 0), max(rates))
            mapped = ScalarMappable(norm, matplotlib.colormaps["viridis"].resampled(256))
            ax.figure.colorbar(mapped, ax=ax, label="Learning rate γ")
        else:
            add_legend(ax, widen=own)
    return ax


def _tell_apart(ax: Axes) -> None:
    """New names for histories in these Axes whose own are the same: what they differ in."""
    named = {line: _NAMED[line] for line in ax.lines if line in _NAMED}
    for name in {name for _, name, _ in named.values()}:
        alike = [line for line, (_, own, _) in named.items() if own == name]
        if len(alike) > 1:
            names = names_from([named[line][0] for line in alike])
            for line, new in zip(alike, names, strict=True):
                line.set_label(line_name(new) + named[line][2])


def frame_of(history: Recorded, *columns: str) -> pd.DataFrame:
    """The history's frame, with the gradients that all workers took where these are asked for.

    Raises:
        ValueError: a column that there is not.
    """
    frame = history.frame
    if GRADIENTS in columns:
        n = history.topology.n
        counted = getattr(history.algorithm, "gradients_per_step", None)
        frame = frame.assign(gradients=frame["step"] * (n if counted is None else counted(n)))
    for column in columns:
        if column not in frame:
            there = ", ".join([*history.frame.columns, GRADIENTS])
            raise ValueError(f"no column {column!r}; there are {there}")
    return frame


def by_rate(history: Recorded, frame: pd.DataFrame) -> Iterator[tuple[float, pd.DataFrame]]:
    """The rows of each learning rate, that of the first record where it changes."""
    key = frame.groupby("replica")["learning_rate"].transform("first")
    for rate, group in frame.groupby(key.rename("rate")):
        yield float(str(rate)), group


def keep_in_sight(ax: Axes, frames: Sequence[pd.DataFrame], y: str, scale: str) -> None:
    """Let what has diverged not flatten the rest."""
    starts = [frame[y][frame["step"] == frame["step"].min()].max() for frame in frames]
    highest = (1e6 if scale == "log" else 10) * max(starts, default=np.nan)
    if np.isfinite(highest) and highest > 0 and ax.get_ylim()[1] > highest:
        ax.set_ylim(top=highest, auto=None)  # what is drawn here later still finds its place


def rate_name(rate: float, among: np.ndarray) -> str:
    """A learning rate with as many digits as tell it from the others, three at least.

    >>> rate_name(0.1, np.array([0.1, 0.2])), rate_name(0.1, np.array([0.1, 0.10000001]))
    ('γ = 0.1', 'γ = 0.1')
    >>> rate_name(0.10000001, np.array([0.1, 0.10000001]))
    'γ = 0.10000001'
    """
    digits = 3
    while digits < 17 and len({f"{each:.{digits}g}" for each in among}) < len(among):
        digits += 1
    return f"γ = {rate:.{digits}g}"
