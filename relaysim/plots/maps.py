"""A map of rates: how many steps, over learning rates and what stands on the other axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import NullFormatter

__all__ = ["draw_map"]

BOUNDARY: dict[str, Any] = {"color": "black", "linewidth": 1.6}
BEST: dict[str, Any] = {"color": "white", "linewidth": 1.6, "linestyle": (0, (3, 1.5))}
UNSTABLE = "#dddddd"


def draw_map(
    ax: Axes,
    rates: np.ndarray,
    values: np.ndarray,
    steps: np.ndarray,
    boundary: tuple[np.ndarray, np.ndarray],
    best: tuple[np.ndarray, np.ndarray],
    norm: LogNorm,
) -> Any:
    """Colours for steps, a line where they become infinite, and one where they are fewest.

    Args:
        ax: with two logarithmic axes in the end.
        rates: ``(k,)``, learning rates, along the horizontal axis; positive and increasing.
        values: ``(m,)``, along the other; positive and increasing.
        steps: ``(m, k)``, infinite where unstable, which is left grey.
        boundary, best: rates and values of their points.
        norm: of the colours.

    Returns:
        What a colour bar is made of.
    """
    ax.set_facecolor(UNSTABLE)
    shown = np.ma.masked_invalid(np.where(np.isfinite(steps), steps, np.nan))
    across = _edges(values)
    for k, value in enumerate(values):
        along = _edges(rates)
        # Where the boundary is known cells end at it.
        ends = boundary[0][boundary[1] == value]
        along[np.searchsorted(rates, ends)] = ends
        row = shown[k : k + 1]
        mesh = ax.pcolormesh(
            along, across[k : k + 2], row, norm=norm, cmap="viridis", rasterized=True
        )
    ax.plot(*boundary, **BOUNDARY)
    ax.plot(*best, **BEST)
    ax.set(xscale="log", yscale="log", xlim=(rates[0], rates[-1]), ylim=(values[0], values[-1]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    return mesh


def _edges(values: np.ndarray) -> np.ndarray:
    """Half way between neighbours, on a logarithmic axis.

    >>> _edges(np.array([1.0, 4.0, 16.0])).round(9).tolist()
    [0.5, 2.0, 8.0, 32.0]
    """
    log = np.log(values)
    middle = (log[1:] + log[:-1]) / 2
    return np.exp(np.concatenate([[2 * log[0] - middle[0]], middle, [2 * log[-1] - middle[-1]]]))
