"""Workers over time: how far each of them is from the others, as colours."""

from __future__ import annotations

from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from relaysim.plots.naming import Recorded
from relaysim.plots.style import NO_VALUE, drawable, name_workers, new_axes, style
from relaysim.plots.ticks import whole_ticks
from relaysim.support.checks import shown, whole_number

__all__ = ["spacetime"]

# The smallest distance that is drawn, as a share of the largest: below it there is rounding only.
LOWEST = 1e-32


class RecordedIterates(Recorded, Protocol):
    """A run, with the iterates of its records if they were kept."""

    @property
    def steps(self) -> np.ndarray: ...

    @property
    def replicas(self) -> int: ...

    @property
    def x(self) -> np.ndarray: ...

    @property
    def iterates(self) -> np.ndarray | None: ...

    @property
    def problem(self) -> object: ...

    @property
    def topology(self) -> object: ...


def spacetime(
    history: RecordedIterates,
    *,
    ax: Axes | None = None,
    replica: int = 0,
    reference: str = "mean",
    cmap: str = "viridis",
) -> Axes:
    """Draw every worker's distance to the mean at every recorded step, as colours.

    ‖x_i − x̄‖² on a log scale; its mean over the workers is the column ``consensus_distance``.

    Args:
        history: a `relaysim.History` with ``keep_iterates=True``.
        ax: the Axes to draw into; new ones by default.
        replica: which one.
        reference: ``"mean"``, or ``"optimum"`` for ‖x_i − x*‖², whose mean is ``distance``.
        cmap: the name of a colour map of matplotlib's.

    Returns:
        The matplotlib Axes. Squares are in the unit of x, squared. Grey: NaN, where a run diverged.

    Raises:
        ValueError: a history without iterates, a replica that is not there, an unknown reference or
            optimum.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD(),
    ...                       learning_rate=0.5, steps=20, keep_iterates=True)
    >>> rs.plots.spacetime(history).get_ylabel()
    'Worker'
    """
    if history.iterates is None:
        raise ValueError(
            "this history has no iterates, of which there must be one of each worker at each record; "
            "simulate with keep_iterates=True"
        )
    kept, workers = history.iterates.shape[1], history.x.shape[0]
    if kept < workers:
        raise ValueError(
            f"this history kept the iterates of {kept} of {workers} workers, and no mean of all; simulate "
            f"with keep_iterates=True"
        )
    if whole_number(replica, "replica", 0) >= history.replicas:
        raise ValueError(f"replica must be one of 0 … {history.replicas - 1}, not {replica}")
    if reference not in ("mean", "optimum"):
        raise ValueError(f"reference must be 'mean' or 'optimum', not {shown(reference)}")
    x = history.iterates[..., replica] if history.iterates.ndim == 4 else history.iterates
    if reference == "mean":
        label = r"Distance to the mean, $\|x_i - \bar{x}\|^2$"
        away = x - x.mean(axis=1, keepdims=True)
    else:
        optimum = getattr(history.problem, "optimum", None)
        if optimum is None:
            raise ValueError("the optimum of this problem is not known; leave reference out")
        label = r"Distance to the optimum, $\|x_i - x^\star\|^2$"
        away = x - optimum
    squares = np.einsum("tid,tid->ti", away, away).T
    positive = squares[squares > 0]
    high = float(positive.max()) if len(positive) else 1.0
    low = max(float(positive.min()), LOWEST * high) if len(positive) else LOWEST
    lowest = low if low < high else high / 10
    norm = LogNorm(lowest, high)
    colors = matplotlib.colormaps[cmap]
    colors = colors.with_extremes(bad=NO_VALUE, under=colors(0.0))
    n = squares.shape[0]
    with style():
        if ax is None:
            height = float(np.clip(1.2 + 0.06 * n, 2.4, 4.8))
            ax = new_axes(6.4, height)
        # A zero has no logarithm: it gets the colour of what is below the scale.
        shown_squares = np.where(squares == 0, lowest / 2, squares)
        picture = ax.pcolorfast(
            _borders(history.steps), _borders(np.arange(n)), shown_squares, norm=norm, cmap=colors
        )
        ax.figure.colorbar(
            picture,
            ax=ax,
            label=label.replace(", ", ",\n") + "\n(squared unit of x)",
            extend="min" if (squares < lowest).any() else "neither",
        )
        name_workers(ax.yaxis, n, history.topology, history.problem)
        ax.grid(visible=False)
        whole_ticks(ax.xaxis)
        ax.set_xlabel("Steps")
        ax.set_ylabel("Worker")
        rate = history.frame["learning_rate"][history.frame["replica"] == replica]
        rates = f", γ = {rate.iloc[0]:.3g}" if rate.nunique() == 1 else ""
        ax.set_title(drawable(f"{history.label} on {history.topology!r}{rates}"))
    return ax


def _borders(places: np.ndarray) -> np.ndarray:
    """Where the cells of a picture end, so that each holds its place."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middle = (places[1:] + places[:-1]) / 2
    first, last = 2 * places[0] - middle[0], 2 * places[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])
