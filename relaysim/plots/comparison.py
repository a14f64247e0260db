"""Curves of several histories in one picture, told apart by what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D

from relaysim.plots.curves import by_rate, frame_of, keep_in_sight, rate_name
from relaysim.plots.lines import SCALES, Band, check_band, draw_line, unused_look
from relaysim.plots.naming import Recorded, names_of
from relaysim.plots.style import (
    AXIS_LABELS,
    add_legend,
    line_name,
    method_style,
    new_axes,
    style,
    style_axes,
)
from relaysim.support.checks import one_of

__all__ = ["plot"]


def plot(
    histories: Mapping[str, Recorded] | Sequence[Recorded] | Recorded,
    y: str | None = None,
    x: str = "step",
    *,
    band: Band = "quantile",
    scale: str = "log",
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Draw a column of several histories into one picture; returns the matplotlib Axes.

    A method keeps its colour and dash. Where it comes several times, with other options, on other graphs,
    at other rates, its further lines are paler or darker and have markers.

    Args:
        histories: ``{label: history}``, or histories, which are named by what they differ in.
        y: the column; the suboptimality by default, or the gradient norm if some optimum is not known.
        x: ``"step"``, ``"vectors_sent"``, ``"bits_sent"``, ``"gradients"`` (of all workers), ``"time"``
            (after `relaysim.History.with_time`) or another column.
        band: of replicas that differ in their seed: ``"quantile"``: the median, and the quantiles .1 and .9;
            two other quantiles; ``"std"``: the mean and a standard deviation on either side; ``"minmax"``:
            the median and all; None for the median alone.
        scale: ``"log"`` or ``"linear"``.
        ax: the Axes to draw into; new ones by default.
        line: further arguments of ``Axes.plot`` for all lines, by any of their names.

    Raises:
        TypeError: something that is no history.
        ValueError: nothing to draw, or a column that a history does not have.

    >>> import relaysim as rs
    >>> problem, ring = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0), rs.topologies.ring(8)
    >>> run = dict(problem=problem, topology=ring, learning_rate=0.2, steps=50)
    >>> momenta = [rs.simulate(algorithm=rs.algorithms.DPSGD(m), **run) for m in (0.0, 0.5)]
    >>> ax = plot([*momenta, rs.simulate(algorithm=rs.algorithms.D2(), **run)], x="vectors_sent")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['DP-SGD (gossip), momentum = 0.0', 'DP-SGD (gossip), momentum = 0.5', 'D²']
    """
    named = _named(histories)
    if y is None:
        known = all("suboptimality" in history.frame for _, history in named)
        y = "suboptimality" if known else "gradient_norm"
    check_band(band)
    one_of(scale, "scale", SCALES)
    frames = [frame_of(history, x, y) for _, history in named]
    given = normalize_kwargs(line, Line2D)
    with style():
        own = ax is None
        ax = new_axes(5.2, 3.4) if ax is None else ax
        for (name, history), frame in zip(named, frames, strict=True):
            groups = list(by_rate(history, frame))
            rates = np.array([rate for rate, _ in groups])
            for rate, group in groups:
                look = unused_look(ax, method_style(history.label))
                full = f"{name}, {rate_name(rate, rates)}" if len(groups) > 1 else name
                options = {"label": line_name(full)} | look | given
                draw_line(ax, group, x, y, options, band, scale)
        labels = AXIS_LABELS | {k: v for _, each in named for k, v in each.axis_labels.items()}
        style_axes(ax, x, y, labels, scale)
        keep_in_sight(ax, frames, y, scale)
        add_legend(ax, widen=own)
    return ax


def _named(histories: Any) -> list[tuple[str, Recorded]]:
    """The histories with their names."""
    if isinstance(histories, Mapping):
        found = list(histories.values())
    else:
        found = [histories] if hasattr(histories, "frame") else list(histories)
    for history in found:
        if not (hasattr(history, "frame") and hasattr(history, "config")):
            raise TypeError(
                f"{type(history).__name__} is no history; give {{label: history}} or a list of histories, "
                "as relaysim.simulate returns them"
            )
    if not found:
        raise ValueError("there is no history to draw")
    names = list(map(str, histories)) if isinstance(histories, Mapping) else names_of(found)
    return list(zip(names, found, strict=True))
