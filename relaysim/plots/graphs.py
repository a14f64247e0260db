"""Pictures of topologies."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, overload

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from relaysim.plots.layouts import (
    Graph,
    GraphPair,
    Layout,
    is_directed,
    layout_of,
    smallest_distance,
    undirected,
)
from relaysim.plots.style import NO_VALUE, drawable, ink_on, style
from relaysim.support.checks import real_array, shown
from relaysim.support.names import labels_of_workers

__all__ = ["colour_norm", "draw_graph", "draw_topology"]

PLAIN, EDGE = "#a6cee3", "#888888"
# Points: a worker's largest and smallest diameter, and the smallest number that one can read.
LARGEST, SMALLEST, SMALLEST_FONT = 18.0, 2.5, 4.5
# Of the distance between two workers.
SHARE_OF_SPACING = 0.62


@overload
def draw_topology(topology: Graph, *, ax: Axes | None = None, **options: Any) -> Axes: ...


@overload
def draw_topology(
    topology: GraphPair, *, ax: Sequence[Axes] | np.ndarray | None = None, **options: Any
) -> np.ndarray: ...


def draw_topology(
    topology: Graph | GraphPair,
    *,
    ax: Any = None,
    values: ArrayLike | None = None,
    value_label: str | None = None,
    norm: str | Normalize | None = None,
    cmap: str = "viridis",
    labels: bool | None = None,
    **options: Any,
) -> Any:
    """Draw a graph in the layout that shows its structure, its workers coloured by a value if one likes.

    Trees stand level by level, stars around their hub, long chains in folds, rings and other graphs along
    a circle on it, tori and grids as grids (bent edges join opposite sides), hypercubes by their digits,
    two cliques side by side, and others by their distances. Directed graphs stand as their links do in both
    directions, with an arrow for each edge; two opposite ones bend apart.

    Args:
        topology: a `relaysim.topologies.Topology`, or a `TreePair` (both trees side by side).
        ax: the Axes to draw into, for a pair two of them; new ones by default.
        values: ``(n,)``, a number for each worker to colour it by; NaN is grey.
        value_label: what the values are and their unit, for the colour bar.
        norm: how values become colours: ``"log"``, or a norm of matplotlib's; linear by default.
        cmap: the name of a colour map of matplotlib's.
        labels: write the workers' names, or their numbers where they have none; by default names where they
            can be read within their circles, else numbers, where these can.
        options: further arguments of ``Axes.scatter`` for the workers.

    Returns:
        The matplotlib Axes (an array of two for a pair).

    Raises:
        ValueError: values of another shape, or none above 0 on a log scale.
        TypeError: what is no topology.
    """
    graphs = [topology.first, topology.second] if isinstance(topology, GraphPair) else [topology]
    if not all(isinstance(undirected(graph), Graph) for graph in graphs):
        raise TypeError(f"only a Topology or a TreePair can be drawn, not {shown(topology)}")
    if values is not None:
        values = real_array(values, "values")
        if values.shape != (topology.n,):
            raise ValueError(
                f"values must be one number for each of the {topology.n} workers, of shape "
                f"({topology.n},), not {values.shape}"
            )
        norm = colour_norm(values, norm)
    paints: dict[str, Any] = {"values": values, "norm": norm, "cmap": cmap, "labels": labels}
    with style():
        layouts = [layout_of(graph) for graph in graphs]
        if len(graphs) == 2:
            if ax is None:
                width, height = np.max([layout.size for layout in layouts], axis=0)
                both = (2 * min(width, 4.6), height + 0.3)
                _, ax = plt.subplots(1, 2, figsize=both, layout="constrained")
            for axes, tree, layout, which in zip(ax, graphs, layouts, ("even", "odd"), strict=True):
                workers = draw_graph(axes, tree, layout, **paints, **options)
                axes.set_title(f"{which} coordinates")
        else:
            (layout,) = layouts
            if ax is None:
                width, height = layout.size
                right, below = (0.0, 0.0) if values is None else _room_for_bar(layout)
                size = (width + right, height + below)
                _, ax = plt.subplots(figsize=size, layout="constrained")
            workers = draw_graph(ax, graphs[0], layout, **paints, **options)
        if values is not None:
            location = "bottom" if _is_strip(layouts[-1]) else "right"
            _add_colour_bar(workers, ax, values, value_label, location)
    return ax


def colour_norm(values: np.ndarray, norm: str | Normalize | None = None) -> Normalize:
    """The norm for these values; ``norm`` is None, ``"linear"``, ``"log"`` or a norm of matplotlib's."""
    if norm is not None and norm not in ("linear", "log"):
        if not isinstance(norm, Normalize):
            raise ValueError(
                f"norm must be 'linear', 'log' or a norm of matplotlib's, not {shown(norm)}"
            )
        norm = copy.copy(norm)
        norm.autoscale_None(values[np.isfinite(values)])
        return norm
    known = values[np.isfinite(values)]
    if norm == "log":
        known = known[known > 0]
        if not len(known):
            raise ValueError("none of the values is above 0; leave norm='log' out")
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:  # a colour bar needs some length
        low, high = (low / 2, 2 * high) if norm == "log" else (low - 0.5, high + 0.5)
    return LogNorm(low, high) if norm == "log" else Normalize(low, high)


def draw_graph(
    ax: Axes,
    topology: Graph,
    layout: Layout,
    *,
    values: np.ndarray | None,
    norm: Normalize | None,
    cmap: str,
    labels: bool | None = None,
    **options: Any,
) -> PathCollection:
    """Draw edges, workers and their numbers into Axes; returns the workers' PathCollection."""
    at = layout.at
    spacing = _fit(ax, layout, values is not None)
    diameter = float(np.clip(SHARE_OF_SPACING * spacing, SMALLEST, LARGEST))
    if len(topology.edges):
        crowding = min(1.0, math.sqrt(3 * topology.n / len(topology.edges)))
        width = crowding * float(np.clip(diameter / 10, 0.4, 1.1))
        if is_directed(topology):
            _draw_arrows(ax, at, topology.edges, layout.bulge, diameter, width)
        else:
            lines = _edge_lines(at, topology.edges, layout.bulge)
            ax.add_collection(LineCollection(lines, colors=EDGE, linewidths=width, zorder=1))
    look: dict[str, Any] = {
        "s": diameter**2,
        "linewidths": min(0.8, diameter / 10),
        "edgecolors": "#333333",
    }
    if values is None or norm is None:
        look |= {"color": PLAIN}
    else:
        known = matplotlib.colormaps[cmap].with_extremes(bad=NO_VALUE)
        look |= {"c": np.full(topology.n, norm.vmin), "norm": norm, "cmap": known}
    workers = ax.scatter(*at.T, **({"zorder": 2} | look | options))
    if values is not None:
        workers.set_array(_drawable(values, norm))
    names = [str(name) for name in labels_of_workers(topology.n, topology)]
    font = diameter * min(0.6, 1.2 / max(map(len, names)))
    if labels is None and font < SMALLEST_FONT:  # numbers are shorter
        names = [str(worker) for worker in range(topology.n)]
        font = diameter * min(0.6, 1.2 / max(map(len, names)))
    if font >= SMALLEST_FONT if labels is None else labels:
        workers.update_scalarmappable()
        inks = ink_on(np.broadcast_to(workers.get_facecolor(), (topology.n, 4)))
        for name, (x, y), ink in zip(names, at, inks, strict=True):
            ax.text(
                x,
                y,
                drawable(name),
                color=ink,
                fontsize=max(font, SMALLEST_FONT),
                ha="center",
                va="center_baseline",
                zorder=3,
            )
    return workers


def _drawable(values: np.ndarray, norm: Normalize | None) -> np.ndarray:
    """The values, without those that have no place on the scale."""
    bad = ~np.isfinite(values) | ((values <= 0) & isinstance(norm, LogNorm))
    return np.ma.masked_array(values, bad)


def _add_colour_bar(
    workers: PathCollection,
    ax: Axes | Sequence[Axes] | np.ndarray,
    values: np.ndarray,
    label: str | None,
    location: str,
) -> None:
    shown_by = ScalarMappable(workers.norm, workers.cmap)
    placed: dict[str, Any] = {"location": location, "shrink": 0.9, "aspect": 25, "pad": 0.03}
    first = ax if isinstance(ax, Axes) else ax[0]
    bar = first.figure.colorbar(shown_by, ax=ax, label=drawable(label or ""), **placed)
    known = values[np.isfinite(values)]
    if (known == np.round(known)).all() and not isinstance(workers.norm, LogNorm):
        bar.locator = MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
        bar.update_ticks()
    bar.outline.set_visible(False)


def _is_strip(layout: Layout) -> bool:
    """Whether a picture is so low that its colour bar goes below it."""
    width, height = layout.size
    return width > 4 * height or height < 1.4


def _room_for_bar(layout: Layout) -> tuple[float, float]:
    """Inches of width and height that a colour bar takes."""
    return (0.0, 0.7) if _is_strip(layout) else (0.9, 0.0)


def _fit(ax: Axes, layout: Layout, with_bar: bool) -> float:
    """Set the Axes' limits; returns the smallest distance of two workers in points."""
    low, high = layout.at.min(axis=0), layout.at.max(axis=0)
    nearest, extent = smallest_distance(layout.at), high - low
    if layout.equal:
        # Half a worker at each side, and the arcs.
        room = 0.45 * nearest + 1.05 * np.abs(layout.bulge).max(initial=0) / 2
        margins = np.full(2, room)
    else:
        room = (LARGEST + 4) / 2
        margins = extent * room / (72 * np.asarray(layout.size) - 2 * room)
    low, high = low - margins, high + margins
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_axis_off()
    if layout.equal:
        ax.set_aspect("equal")
    figure = ax.figure
    if (
        isinstance(figure, Figure)
        and len(figure.axes) == 1
        and figure.get_layout_engine() is not None
    ):
        bar = _room_for_bar(layout) if with_bar else (0.0, 0.0)
        inches = np.asarray(figure.get_size_inches()) - bar - 0.1
    else:
        inches = np.divide(ax.get_window_extent().size, figure.dpi) * (
            0.85 if with_bar else 1.0,
            1.0,
        )
    scale = 72 * inches / (high - low)
    if layout.equal:
        return nearest * scale.min()
    return smallest_distance(layout.at * scale)


def _draw_arrows(
    ax: Axes,
    at: np.ndarray,
    edges: np.ndarray,
    bulge: np.ndarray,
    diameter: float,
    width: float,
) -> None:
    """An arrow for each edge, from the rim of its source to that of its target, as bent as its bulge."""
    starts, ends = at[edges[:, 0]], at[edges[:, 1]]
    # An arc of matplotlib's with rad = 1 is half as high as it is long, to the right.
    bends = -2 * bulge / np.hypot(*(ends - starts).T)
    head = float(np.clip(diameter * 0.55, 3.0, 8.0))
    look: dict[str, Any] = {"color": EDGE, "linewidth": width, "zorder": 1}
    look |= {"shrinkA": diameter / 2, "shrinkB": diameter / 2 + width}
    look |= {"arrowstyle": "-|>", "mutation_scale": head}
    for start, end, bend in zip(starts, ends, bends, strict=True):
        arc = f"arc3,rad={bend:.6f}"
        ax.add_patch(FancyArrowPatch(tuple(start), tuple(end), connectionstyle=arc, **look))


def _edge_lines(at: np.ndarray, edges: np.ndarray, bulge: np.ndarray) -> list[np.ndarray]:
    """Each edge as a line of points: straight, or an arc as high as its bulge."""
    ends = at[edges]
    lines = list(ends)
    along = np.linspace(0, 1, 25)[:, None]
    for k in np.flatnonzero(bulge):
        start, end = ends[k]
        left = np.array([start[1] - end[1], end[0] - start[0]]) / np.hypot(*(end - start))
        lines[k] = start + along * (end - start) + (1 - (2 * along - 1) ** 4) * bulge[k] * left
    return lines
