"""Pictures; the only module that draws.

One colour and dash for each method everywhere, from the Okabe–Ito palette, which colour-blind eyes
can tell apart; dashes and widths keep curves apart in grey.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import matplotlib
import matplotlib.pyplot as plt
import networkx
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter

from relaysim.topologies import Topology, TreePair

__all__ = [
    "AXIS_LABELS",
    "STYLE",
    "draw_line",
    "draw_topology",
    "method_style",
    "plot_history",
    "plot_partition",
    "plot_sensitivity",
    "plot_tuning",
    "style",
    "style_axes",
]

#: What an axis shows, by column of a history's frame.
AXIS_LABELS: Mapping[str, str] = {
    "step": "Steps",
    "vectors_sent": "Vectors sent by all workers",
    "value": r"Loss $f(\bar{x})$",
    "suboptimality": r"Suboptimality $f(\bar{x}) - f(x^\star)$",
    "consensus_distance": r"Consensus distance, mean of $\|x_i - \bar{x}\|^2$",
    "distance": r"Distance, mean of $\|x_i - x^\star\|^2$",
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


# More lines than this are told apart by a colour bar.
MOST_IN_LEGEND = 10


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
        by_color = len(groups) > MOST_IN_LEGEND
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
        for color, (rate, group) in zip(colors, groups, strict=True):
            look = method_style(history.label)
            name = _described(history) if label is None else label
            if len(groups) > 1:
                look["color"] = color
                name = f"γ = {rate:.3g}" if label is None else f"{label}, γ = {rate:.3g}"
                look["linestyle"] = "-" if by_color else look["linestyle"]
            draw_line(ax, group, x, y, {"label": name} | look | line, band)
        style_axes(ax, x, y)
        # What has diverged shall not flatten the rest.
        values = frame[y][frame["step"] == frame["step"].min()]
        highest = 1e6 * values.max()
        if np.isfinite(highest) and highest > 0 and ax.get_ylim()[1] > highest:
            ax.set_ylim(top=highest)
        if by_color:
            rates = [rate for rate, _ in groups]
            norm = LogNorm(min(r for r in rates if r > 0), max(rates))
            shown = ScalarMappable(norm, matplotlib.colormaps["viridis"].resampled(256))
            ax.figure.colorbar(shown, ax=ax, label="Learning rate γ")
        else:
            ax.legend(fontsize="small")
    return ax


def _described(history) -> str:
    """The method's label, with the options that are not its defaults."""
    algorithm = history.algorithm
    if not dataclasses.is_dataclass(algorithm):
        return history.label
    changed = [
        f"{field.name} = {getattr(algorithm, field.name)}"
        for field in dataclasses.fields(algorithm)
        if getattr(algorithm, field.name) != field.default
    ]
    return f"{history.label} ({', '.join(changed)})" if changed else history.label


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
    chosen = tuning.frame[tuning.frame["learning_rate"] == tuning.learning_rate]
    stalls = tuning.criterion == "plateau" and (chosen["plateau"] > 0).any()
    column = "plateau" if stalls else "steps"
    frame = tuning.frame[tuning.frame[column] > 0]
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
        look = method_style(tuning.label) | {"marker": ".", "markersize": 5}
        ax.plot(frame["learning_rate"], frame[column], **(look | {"label": tuning.label} | line))
        chosen = chosen[chosen[column] > 0]
        found = f"γ = {tuning.learning_rate:.4g}, {tuning.steps:.0f} steps"
        ax.plot(
            chosen["learning_rate"],
            chosen[column],
            "o",
            color="black",
            fillstyle="none",
            markersize=9,
            label=found if len(chosen) else "no rate meets the target",
        )
        if column == "plateau":
            ax.axhline(tuning.target, color="#888888", linestyle="--", linewidth=1, label="target")
        if len(frame):
            ax.set_xscale("log")
            ax.set_yscale("log")
            for axis, values in ((ax.xaxis, frame["learning_rate"]), (ax.yaxis, frame[column])):
                if values.max() > 10 * values.min():
                    axis.set_minor_formatter(NullFormatter())
                else:
                    axis.set_major_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
                    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        ax.set_xlabel("Learning rate γ")
        ax.set_ylabel(
            "Plateau of the suboptimality"
            if column == "plateau"
            else f"Steps to suboptimality {tuning.target:.3g}"
        )
        ax.legend(fontsize="small")
    return ax


def plot_sensitivity(found, y: str = "steps_to_target", *, ax=None, band: bool = True, **line):
    """Draw a measure against the heterogeneity: a line for each method, with its exponent in ζ².

    For data it is drawn against α, with the median ζ² below.

    Args:
        found: a `relaysim.analysis.Sensitivity`.
        y: ``"steps_to_target"``, ``"plateau"`` or ``"consensus_distance"``.
        ax: the Axes to draw into; new ones by default.
        band: shade from the smallest to the largest over the problems' seeds.
        line: further arguments of ``Axes.plot``.

    Returns:
        The matplotlib Axes. The legend names methods whose measure falls to 0, too.

    Raises:
        ValueError: another measure.
    """
    labels = {
        "steps_to_target": f"Steps to suboptimality {found.target:.3g}",
        "plateau": "Plateau of the suboptimality",
        "consensus_distance": r"Plateau of the mean of $\|x_i - \bar{x}\|^2$",
    }
    if y not in labels:
        raise ValueError(f"no measure {y!r}; there are {', '.join(labels)}")
    by_alpha = "alpha" in found.frame
    level = "alpha" if by_alpha else "zeta2"
    typical = found.frame.groupby(level).zeta2.median()
    if by_alpha:
        typical = typical.sort_index(ascending=False)
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        exponents = found.exponents[found.exponents.measure == y].set_index("algorithm")
        for algorithm, part in found.frame.groupby("algorithm", sort=False):
            look = method_style(part.method.iloc[0]) | {"marker": "o", "markersize": 4}
            fitted = exponents.loc[algorithm]
            name = part.method.iloc[0]
            shown = part[part[y] > 0].groupby(level)
            if part[y].max() > 0 and not by_alpha:
                name += f", exponent {fitted.exponent + 0.0:z.2f}"
                if np.isfinite(fitted.high):
                    name += f" ± {fitted.high - fitted.exponent:.2f}"
            elif not part[y].max() > 0:
                name += ": none found" if part[y].isna().all() else ": falls to 0"
            points = shown[y].median().reindex(typical.index)
            across = np.arange(len(typical)) if by_alpha else typical
            ax.plot(across, points, **(look | {"label": name} | line))
            if band and part.problem_seed.nunique() > 1:
                low, high = (shown[y].quantile(q).reindex(points.index) for q in (0.0, 1.0))
                ax.fill_between(across, low, high, color=look["color"], alpha=0.15, linewidth=0)
        ax.set_yscale("log")
        if by_alpha:
            names = ["∞" if np.isinf(a) else f"{a:g}" for a in typical.index]
            ticks = [f"{a}\n{z:.2g}" for a, z in zip(names, typical, strict=True)]
            ax.set_xticks(np.arange(len(typical)), ticks)
            ax.set_xlabel(r"Dirichlet $\alpha$, and the $\zeta^2$ that it brings")
        else:
            ax.set_xscale("log")
            ax.set_xlabel(r"Heterogeneity $\zeta^2$")
        ax.set_ylabel(labels[y])
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
    return ax


def plot_partition(partition, labels, *, ax=None, **bars):
    """Draw how many examples of each class every worker has, as stacked bars; returns the Axes.

    Args:
        partition: a `relaysim.problems.partitions.Partition`.
        labels: ``(N,)``, the class of each example.
        ax: the Axes to draw into; new ones by default.
        bars: further arguments of ``Axes.bar``.
    """
    counts = partition.counts(labels)
    colors = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, counts.shape[1]))
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
        below = np.zeros(partition.n)
        for color, label in zip(colors, counts.columns, strict=True):
            drawn = {"color": color, "edgecolor": "white", "linewidth": 0.4, "width": 0.85}
            height = counts[label].to_numpy()
            ax.bar(counts.index, height, bottom=below, label=str(label), **(drawn | bars))
            below += height
        ax.set_xlabel("Worker")
        ax.set_ylabel("Examples")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="x", visible=False)
        ax.legend(
            title="class",
            fontsize="small",
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            borderaxespad=0,
            ncols=1 + (counts.shape[1] - 1) // 10,
        )
    return ax


def draw_topology(topology, *, ax=None, values=None, labels: bool | None = None, **options):
    """Draw a graph: trees by level from worker 0, regular graphs in a circle, others by distances.

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
            "node_size": float(np.clip(5000 / topology.n, 8, 300)),
            "font_size": float(np.clip(160 / topology.n, 5, 9)),
            "with_labels": topology.n <= 40 if labels is None else labels,
        }
        networkx.draw_networkx(graph, _layout(topology), ax=ax, **(settings | options))
        ax.set_axis_off()
        ax.margins(0.08)
        if not topology.is_tree:
            ax.set_aspect("equal")
    return ax


def _tree_layout(graph: networkx.Graph, horizontal: bool) -> dict[int, np.ndarray]:
    """Worker 0 on top, leaves side by side, every parent over the middle of its children."""
    successors = dict(networkx.bfs_successors(graph, 0))
    depth = networkx.single_source_shortest_path_length(graph, 0)
    across: dict[int, float] = {}
    leaves = 0
    for worker in networkx.dfs_postorder_nodes(graph, 0):
        children = successors.get(worker, [])
        if children:
            across[worker] = float(np.mean([across[child] for child in children]))
        else:
            across[worker] = leaves
            leaves += 1
    if horizontal:
        return {worker: np.array([depth[worker], 0.0]) for worker in graph}
    return {worker: np.array([across[worker], -depth[worker]]) for worker in graph}


def _layout(topology: Topology) -> dict[int, np.ndarray]:
    graph = topology.to_networkx()
    if topology.n == 1:
        return {0: np.zeros(2)}
    if topology.is_tree and topology.degrees.max() <= topology.n / 2:
        return _tree_layout(graph, horizontal=topology.degrees.max() <= 2)
    if (topology.degrees == topology.degrees[0]).all() or topology.is_tree:
        if topology.is_tree:
            hub = int(np.argmax(topology.degrees))
            others = networkx.circular_layout([v for v in graph if v != hub])
            return others | {hub: np.zeros(2)}
        return networkx.circular_layout(graph)
    if topology.is_connected and topology.n <= 200:
        return networkx.kamada_kawai_layout(graph)
    return networkx.spring_layout(graph, seed=0)
