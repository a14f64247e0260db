"""Pictures; the only module that draws.

One colour and dash for each method everywhere, from the Okabe–Ito palette, which colour-blind eyes
can tell apart; dashes and widths keep curves apart in grey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import matplotlib
import matplotlib.pyplot as plt
import networkx
import numpy as np

from relaysim.topologies import Topology, TreePair

__all__ = [
    "AXIS_LABELS",
    "STYLE",
    "draw_line",
    "draw_topology",
    "method_style",
    "plot_history",
    "plot_tuning",
    "style",
    "style_axes",
]

#: What an axis shows, by column of a history's frame.
AXIS_LABELS: Mapping[str, str] = {
    "step": "Steps",
    "vectors_sent": "Vectors sent by all workers",
    "suboptimality": r"Suboptimality $f(\bar{x}) - f(x^\star)$",
    "consensus_distance": r"Consensus distance $\frac{1}{n}\sum_i \|x_i - \bar{x}\|^2$",
    "distance": r"Distance $\frac{1}{n}\sum_i \|x_i - x^\star\|^2$",
    "gradient_norm": r"Gradient norm $\|\nabla f(\bar{x})\|^2$",
}

#: Matplotlib settings of every picture here.
STYLE: Mapping[str, object] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}

_METHODS: Mapping[str, tuple[str, object]] = {
    "RelaySGD": ("#D55E00", "-"),
    "RelaySGD/Grad": ("#CC79A7", (0, (5, 1.5))),
    "RelaySGD/Mix": ("#8C510A", (0, (3, 1, 1, 1, 1, 1))),
    "DP-SGD (gossip)": ("#0072B2", (0, (1, 1))),
    "D²": ("#009E73", (0, (6, 2))),
    "Exact diffusion": ("#35978F", (0, (2, 1))),
    "Gradient tracking": ("#E69F00", (0, (4, 1.5, 1, 1.5))),
    "Quasi-global momentum": ("#6A51A3", (0, (8, 2, 2, 2))),
    "SGP": ("#56B4E9", (0, (3, 3))),
    "All-reduce": ("#000000", (0, (1, 2.5))),
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with `STYLE`, and leave matplotlib's settings as they were.

    ``matplotlib.rc_context`` would also undo what a notebook sets when its first figure is made, and
    later figures would not show.
    """
    before = {name: matplotlib.rcParams[name] for name in STYLE}
    matplotlib.rcParams.update(STYLE)
    try:
        yield
    finally:
        matplotlib.rcParams.update(before)


def method_style(label: str) -> dict:
    """Colour and dash of a method, as keyword arguments for matplotlib.

    >>> method_style("RelaySGD")["color"]
    '#D55E00'
    """
    color, dash = _METHODS.get(label, ("#555555", "-"))
    return {"color": color, "linestyle": dash}


def style_axes(ax, x: str, y: str) -> None:
    """Label the axes by the columns that they show, the vertical one in powers of ten."""
    ax.set_yscale("log")
    ax.set_xlabel(AXIS_LABELS.get(x, x))
    ax.set_ylabel(AXIS_LABELS.get(y, y))


def plot_history(
    history,
    y: str = "suboptimality",
    x: str = "step",
    *,
    ax=None,
    label: str | None = None,
    band: tuple[float, float] = (0.1, 0.9),
    **line,
):
    """Draw a column of a history's frame: a line for each learning rate.

    Replicas that differ in their seed only are one line, their median, with a band between two
    quantiles.

    Args:
        history: a `relaysim.History`.
        y: the column to draw, on a log axis.
        x: ``"step"`` or ``"vectors_sent"``.
        ax: the Axes to draw into; new ones by default.
        label: the line's name in the legend; the method's, or the learning rate, by default.
        band: the two quantiles.
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
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
        scheduled = callable(history.config["learning_rate"]) or isinstance(
            history.config["learning_rate"], dict
        )
        key = np.zeros(len(frame)) if scheduled else frame["learning_rate"]
        groups = list(frame.groupby(np.asarray(key)))
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
        for color, (rate, group) in zip(colors, groups, strict=True):
            look = method_style(history.label)
            name = history.label if label is None else label
            if len(groups) > 1:
                look["color"] = color
                name = f"γ = {rate:.3g}" if label is None else f"{label}, γ = {rate:.3g}"
            draw_line(ax, group, x, y, {"label": name} | look | line, band)
        style_axes(ax, x, y)
        ax.legend(ncols=1 if len(groups) <= 8 else 2, fontsize="small")
    return ax


def draw_line(ax, frame, x: str, y: str, line: dict, band=(0.1, 0.9)) -> None:
    """One line for all replicas of a frame: their median, with a band between two quantiles.

    Args:
        ax: the Axes to draw into.
        frame: rows of a `relaysim.History.frame`.
        x, y: its columns to draw.
        line: arguments of ``Axes.plot``.
        band: the two quantiles.
    """
    by_step = frame.groupby("step")[y]
    across = frame.groupby("step")[x].first()
    (drawn,) = ax.plot(across, by_step.median().where(lambda v: v > 0), **line)
    if frame["replica"].nunique() > 1:
        low, high = (by_step.quantile(q) for q in band)
        ax.fill_between(across, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def plot_tuning(tuning, *, ax=None, **line):
    """Draw what each learning rate tried came to, and mark the one chosen; returns the Axes."""
    column = "plateau" if tuning.criterion == "plateau" else "steps"
    frame = tuning.frame.dropna(subset=[column])
    frame = frame[frame[column] > 0]
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
        look = method_style(tuning.label) | {"marker": ".", "markersize": 5}
        ax.plot(frame["learning_rate"], frame[column], **(look | {"label": tuning.label} | line))
        chosen = frame[frame["learning_rate"] == tuning.learning_rate]
        ax.plot(
            chosen["learning_rate"],
            chosen[column],
            "o",
            color="black",
            fillstyle="none",
            markersize=9,
            label=f"γ = {tuning.learning_rate:.4g}, {tuning.steps:.0f} steps",
        )
        if column == "plateau":
            ax.axhline(tuning.target, color="#888888", linestyle="--", linewidth=1, label="target")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("Learning rate γ")
        ax.set_ylabel(
            "Plateau of the suboptimality"
            if column == "plateau"
            else f"Steps to suboptimality {tuning.target:.3g}"
        )
        ax.legend(fontsize="small")
    return ax


def draw_topology(topology, *, ax=None, values=None, labels: bool | None = None, **options):
    """Draw a graph: trees by level, rings in a circle, tori as a grid, others by their distances.

    Args:
        topology: a `relaysim.topologies.Topology`, or a `TreePair` (both trees side by side).
        ax: the Axes to draw into, for a pair two of them; new ones by default.
        values: ``(n,)``, a number for each worker to colour it by.
        labels: write the workers' numbers; by default up to 64 workers.
        options: further arguments of ``networkx.draw_networkx``.

    Returns:
        The matplotlib Axes (an array of two for a pair).
    """
    with style():
        if isinstance(topology, TreePair):
            axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")[1] if ax is None else ax
            for axis, tree, which in zip(
                axes, (topology.first, topology.second), ("even", "odd"), strict=True
            ):
                draw_topology(tree, ax=axis, values=values, labels=labels, **options)
                axis.set_title(f"{which} coordinates")
            return axes
        if ax is None:
            _, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
        graph = topology.to_networkx()
        settings = {
            "node_color": "#a6cee3" if values is None else values,
            "edgecolors": "#333333",
            "edge_color": "#888888",
            "linewidths": 0.8,
            "node_size": float(np.clip(9000 / topology.n, 12, 320)),
            "font_size": 8,
            "with_labels": topology.n <= 64 if labels is None else labels,
        }
        networkx.draw_networkx(graph, _layout(topology), ax=ax, **(settings | options))
        ax.set_axis_off()
        ax.margins(0.08)
    return ax


def _layout(topology: Topology) -> dict[int, np.ndarray]:
    graph = topology.to_networkx()
    if topology.n == 1:
        return {0: np.zeros(2)}
    if topology.is_tree and topology.degrees.max() <= topology.n / 2:
        # The middle of a longest path as the root keeps the drawing low.
        end = int(np.argmax(topology.distances_from(0)))
        far = topology.distances_from(end)
        other = int(np.argmax(far))
        path = networkx.shortest_path(graph, end, other)
        return networkx.bfs_layout(graph, path[len(path) // 2], align="horizontal")
    if (topology.degrees == topology.degrees[0]).all() or topology.is_tree:
        if topology.is_tree:
            hub = int(np.argmax(topology.degrees))
            others = networkx.circular_layout([v for v in graph if v != hub])
            return others | {hub: np.zeros(2)}
        return networkx.circular_layout(graph)
    if topology.is_connected and topology.n <= 200:
        return networkx.kamada_kawai_layout(graph)
    return networkx.spring_layout(graph, seed=0)
