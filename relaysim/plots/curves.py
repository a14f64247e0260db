"""Curves of histories."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from relaysim.plots.style import AXIS_LABELS, add_legend, line_name, method_style, style, style_axes

__all__ = ["Overlaid", "Recorded", "draw_line", "plot_history"]

# More lines than this are told apart by a colour bar.
MOST_IN_LEGEND = 10


class Recorded(Protocol):
    """What is drawn of a run, such as a `relaysim.History`."""

    @property
    def label(self) -> str: ...

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def algorithm(self) -> object: ...

    @property
    def axis_labels(self) -> dict[str, str]: ...


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
    band: tuple[float, float] = (0.1, 0.9),
    overlays: Sequence[Overlaid] = (),
    **line: Any,
) -> Axes:
    """Draw a column of a history's frame: a line for each learning rate.

    Replicas that differ in their seed only are one line, their median, with a band between two
    quantiles.

    Args:
        history: a `relaysim.History`.
        y: the column to draw, on a log axis.
        x: ``"step"``, ``"vectors_sent"``, ``"bits_sent"`` or ``"time"``.
        ax: the Axes to draw into; new ones by default.
        label: the line's name in the legend; the method's, or the learning rate, by default.
        band: the two quantiles.
        overlays: what to lay over the curves, one for each of some learning rates: objects that
            ``draw(ax, which="")``, and have a ``learning_rate`` to be told apart by, such as
            `relaysim.theory.Overlay`; `relaysim.History.plot` finds them.
        line: further arguments of ``Axes.plot``.

    Returns:
        The matplotlib Axes.

    Raises:
        ValueError: a column that this history does not have.
    """
    frame = history.frame
    for column in (x, y):
        if column not in frame:
            raise ValueError(f"no column {column!r}; there are {', '.join(frame.columns)}")
    with style():
        own = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
        scheduled = callable(history.config["learning_rate"]) or isinstance(
            history.config["learning_rate"], dict
        )
        key = 0.0 * frame["learning_rate"] if scheduled else frame["learning_rate"]
        groups = list(frame.groupby(key.rename("rate")))
        by_color = len(groups) > MOST_IN_LEGEND
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
        for color, (rate, group) in zip(colors, groups, strict=True):
            look = method_style(history.label)
            name = _described(history) if label is None else label
            if len(groups) > 1:
                look["color"] = color
                name = rate_name(rate, frame["learning_rate"].unique())
                name = name if label is None else f"{label}, {name}"
                look["linestyle"] = "-" if by_color else look["linestyle"]
            draw_line(ax, group, x, y, {"label": line_name(name)} | look | line, band)
        for overlay in overlays:
            which = f", γ = {overlay.learning_rate:.3g}" if len(overlays) > 1 else ""
            overlay.draw(ax, which=which)
        style_axes(ax, x, y, AXIS_LABELS | history.axis_labels)
        # What has diverged shall not flatten the rest.
        values = frame[y][frame["step"] == frame["step"].min()]
        highest = 1e6 * values.max()
        if np.isfinite(highest) and highest > 0 and ax.get_ylim()[1] > highest:
            ax.set_ylim(top=highest, auto=None)  # what is drawn here later still finds its place
        if by_color:
            rates = [rate for rate, _ in groups]
            norm = LogNorm(min(r for r in rates if r > 0), max(rates))
            shown = ScalarMappable(norm, matplotlib.colormaps["viridis"].resampled(256))
            ax.figure.colorbar(shown, ax=ax, label="Learning rate γ")
        else:
            add_legend(ax, widen=own)
    return ax


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


def _described(history: Recorded) -> str:
    """The method's label, with the options that are not its defaults and that it does not tell."""
    algorithm = history.algorithm
    if not dataclasses.is_dataclass(algorithm) or isinstance(algorithm, type):
        return history.label

    def told(field: dataclasses.Field) -> bool:
        if field.default is dataclasses.MISSING:
            return False
        plainer: Any = dataclasses.replace(algorithm, **{field.name: field.default})
        return plainer.label != history.label

    changed = [
        f"{field.name} = {getattr(algorithm, field.name)}"
        for field in dataclasses.fields(algorithm)
        if getattr(algorithm, field.name) != field.default and not told(field)
    ]
    return f"{history.label} ({', '.join(changed)})" if changed else history.label


def draw_line(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    line: Mapping[str, Any],
    band: tuple[float, float] = (0.1, 0.9),
) -> None:
    """One line for all replicas of a frame: their median, with a band between two quantiles.

    Args:
        ax: the Axes to draw into.
        frame: rows of a `relaysim.History.frame`.
        x, y: its columns to draw.
        line: arguments of ``Axes.plot``.
        band: the two quantiles.
    """
    by_step = frame.groupby("step")[y]
    across = frame.groupby("step")[x].median()  # replicas may send at times of their own
    (drawn,) = ax.plot(across, by_step.median().where(lambda v: v > 0), **line)
    if frame["replica"].nunique() > 1:
        low, high = (by_step.quantile(q) for q in band)
        ax.fill_between(across, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
