"""Pictures of studies: tuning, sensitivity to heterogeneity, partitions of data."""

from __future__ import annotations

from typing import Any, Protocol

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from relaysim.plots.style import (
    add_legend,
    line_name,
    method_style,
    name_workers,
    new_axes,
    style,
    variant,
)
from relaysim.plots.ticks import log_ticks, number

__all__ = ["plot_partition", "plot_sensitivity", "plot_tuning"]

# What makes a line of its own.
ENTRY = ["algorithm", "topology", "mixing"]
# Of the lines of one method in a picture of sensitivity, where it has several.
ENTRY_MARKERS = "os^Dv"
# A name that is longer stands in a line of the legend by itself.
LONG_NAME = 24


class Tuned(Protocol):
    """What is drawn of a search, such as a `relaysim.Tuning`."""

    learning_rate: float
    steps: float
    frame: pd.DataFrame
    target: float
    criterion: str
    label: str
    measure: str
    options: dict[str, Any]


class Studied(Protocol):
    """What is drawn of a study, such as a `relaysim.analysis.Sensitivity`."""

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def exponents(self) -> pd.DataFrame: ...

    @property
    def target(self) -> float: ...


class Partitioned(Protocol):
    """Who holds which example, such as a `relaysim.problems.partitions.Partition`."""

    n: int

    def counts(self, labels: np.ndarray, /) -> pd.DataFrame: ...


def plot_tuning(tuning: Tuned, *, ax: Axes | None = None, **line: Any) -> Axes:
    """Draw what each learning rate tried came to, and mark the one chosen; returns the Axes.

    A line for each combination of options that was tried.
    """
    chosen = tuning.frame[tuning.frame["learning_rate"] == tuning.learning_rate]
    for name, value in tuning.options.items():
        chosen = chosen[np.array([each == value for each in chosen[name]], dtype=bool)]
    stalls = tuning.criterion == "plateau" and (chosen["plateau"] > 0).any()
    column = "plateau" if stalls else "steps"
    frame = tuning.frame[tuning.frame[column] > 0]
    of = tuning.measure.replace("_", " ")
    with style():
        own = ax is None
        ax = new_axes(5.2, 3.4) if ax is None else ax
        for place, (name, group) in enumerate(_by_options(tuning, frame)):
            look = variant(method_style(tuning.label), place) if tuning.options else {}
            look = method_style(tuning.label) | {"marker": "."} | look | {"markersize": 5}
            given = {"label": line_name(name)} | normalize_kwargs(line, Line2D)
            ax.plot(group["learning_rate"], group[column], **(look | given))
        chosen = chosen[chosen[column] > 0]
        found_text = f"γ = {tuning.learning_rate:.4g}, {tuning.steps:.0f} steps"
        ax.plot(
            chosen["learning_rate"],
            chosen[column],
            "o",
            color="black",
            fillstyle="none",
            markersize=9,
            label=found_text if len(chosen) else "no rate meets the target",
        )
        if column == "plateau":
            ax.axhline(tuning.target, color="#888888", linestyle="--", linewidth=1, label="target")
        if len(frame):
            ax.set_xscale("log")
            ax.set_yscale("log")
            log_ticks(ax, x=True)
        ax.set_xlabel("Learning rate γ")
        ax.set_ylabel(
            f"Plateau of the {of}"
            if column == "plateau"
            else f"Steps to {of} {number(tuning.target)}"
        )
        add_legend(ax, widen=own)
    return ax


def _by_options(tuning: Tuned, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each combination of options, in the order in which they were tried, and its name."""
    if not tuning.options:
        return [(tuning.label, frame)]
    keys = [repr(each) for each in zip(*(frame[name] for name in tuning.options), strict=True)]
    found = []
    for _, group in frame.groupby(keys, sort=False):
        first = group.iloc[0]
        found.append((", ".join(f"{name} = {first[name]}" for name in tuning.options), group))
    return found


def plot_sensitivity(
    found: Studied,
    y: str = "steps_to_target",
    *,
    ax: Axes | None = None,
    band: bool = True,
    **line: Any,
) -> Axes:
    """Draw a measure against the heterogeneity: a line for each method, with its exponent in ζ².

    For data it is drawn against α, with the median ζ² below. A method that comes several times, on
    several topologies say, has a line and a marker for each, and their names say how they differ.

    Args:
        found: a `relaysim.analysis.Sensitivity`.
        y: ``"steps_to_target"``, ``"plateau"`` or ``"consensus_distance"``.
        ax: the Axes to draw into; new ones by default.
        band: shade from the smallest to the largest over the problems' seeds.
        line: further arguments of ``Axes.plot``, by any of their names.

    Returns:
        The matplotlib Axes. The legend names methods whose measure falls to 0, too.

    Raises:
        ValueError: another measure.
    """
    labels = {
        "steps_to_target": f"Steps to suboptimality {number(found.target)}",
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
            ax = new_axes(6.4, 3.6)
        exponents = found.exponents[found.exponents.measure == y].set_index(ENTRY)
        names = _entry_names(found.frame)
        drawn: dict[str, int] = {}
        key: Any  # a label of three levels, of which pandas' types know nothing
        for key, part in found.frame.groupby(ENTRY, sort=False):
            method, name = part.method.iloc[0], names[key]
            marker = ENTRY_MARKERS[drawn.get(method, 0) % len(ENTRY_MARKERS)]
            drawn[method] = drawn.get(method, 0) + 1
            look = method_style(method) | {"marker": marker, "markersize": 4}
            fitted = exponents.loc[key]
            if y == "steps_to_target":  # of a problem that does not get there, infinitely many
                part = part.fillna({y: np.inf})
            shown = part[part[y] > 0].groupby(level)
            if np.isfinite(fitted.exponent) and not by_alpha:
                name += ",\n" if len(name) > LONG_NAME else ", "
                name += f"exponent {fitted.exponent + 0.0:z.2f}"
                if np.isfinite(fitted.high):
                    name += f" ± {fitted.high - fitted.exponent:.2f}"
            elif not (np.isfinite(part[y]) & (part[y] > 0)).any():
                name += ": falls to 0" if (part[y] == 0).any() else ": none found"
            points = shown[y].median().reindex(typical.index)
            points = points.where(np.isfinite(points))
            across = np.arange(len(typical)) if by_alpha else typical
            given = {"label": line_name(name)} | normalize_kwargs(line, Line2D)
            ax.plot(across, points, **(look | given))
            if band and part.problem_seed.nunique() > 1:
                low, high = (
                    ends.reindex(points.index) for ends in (shown[y].min(), shown[y].max())
                )
                ax.fill_between(across, low, high, color=look["color"], alpha=0.15, linewidth=0)
        ax.set_yscale("log")
        log_ticks(ax)
        if by_alpha:
            alphas = ["∞" if np.isinf(a) else f"{a:g}" for a in typical.index]
            ticks = [f"{a}\n{z:.2g}" for a, z in zip(alphas, typical, strict=True)]
            ax.set_xticks(np.arange(len(typical)), ticks)
            ax.set_xlabel(r"Dirichlet $\alpha$, and the $\zeta^2$ that it brings")
        else:
            ax.set_xscale("log")
            log_ticks(ax, x=True)
            ax.set_xlabel(r"Heterogeneity $\zeta^2$")
        ax.set_ylabel(labels[y])
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
    return ax


def _entry_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """What to call each (algorithm, topology, mixing): the method, and what differs from its others."""
    entries = frame[["method", *ENTRY]].drop_duplicates()
    names = {}
    for method, alike in entries.groupby("method", sort=False):
        options = {a: a.partition("(")[2].rpartition(")")[0].split(", ") for a in alike.algorithm}
        common = set.intersection(*map(set, options.values()))
        several_graphs = alike.topology.nunique() > 1
        for algorithm, topology, mixing in zip(*(alike[name] for name in ENTRY), strict=True):
            differing = [option for option in options[algorithm] if option not in common]
            name = f"{method} ({', '.join(differing)})" if differing else f"{method}"
            if several_graphs:
                name += f" on {topology}"
            on_the_same = alike[alike.topology == topology]
            if on_the_same.mixing.nunique() > 1:
                name += f", mixing {mixing or 'none'}"
            names[algorithm, topology, mixing] = name
    return names


def plot_partition(
    partition: Partitioned, labels: np.ndarray, *, ax: Axes | None = None, **bars: Any
) -> Axes:
    """Draw how many examples of each class every worker has, as stacked bars; returns the Axes.

    Args:
        partition: a `relaysim.problems.partitions.Partition`.
        labels: ``(N,)``, the class of each example.
        ax: the Axes to draw into; new ones by default.
        bars: further arguments of ``Axes.bar``, by any of their names.
    """
    counts = partition.counts(labels)
    colors = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, counts.shape[1]))
    with style():
        if ax is None:
            ax = new_axes(6.4, 2.8)
        below, given = np.zeros(partition.n), normalize_kwargs(bars, Rectangle)
        stacks = []
        for color, label in zip(colors, counts.columns, strict=True):
            drawn = {"color": color, "edgecolor": "white", "linewidth": 0.4, "width": 0.85}
            height = counts[label].to_numpy()
            stack = ax.bar(np.arange(partition.n), height, bottom=below, **(drawn | given))
            stacks.append(stack)
            below += height
        ax.set_xlim(-0.6, partition.n - 0.4)
        ax.set_ylim(0, 1.05 * max(below.max(initial=0), 1))
        ax.set_xlabel("Worker")
        ax.set_ylabel("Examples")
        name_workers(ax.xaxis, partition.n, partition, most_numbers=10)
        ax.grid(axis="x", visible=False)
        # Placeholders first: a class may be called anything, and a legend drops some names.
        legend = ax.legend(
            stacks,
            ["class"] * len(stacks),
            title="class",
            fontsize="small",
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            borderaxespad=0,
            ncols=1 + (counts.shape[1] - 1) // 10,
        )
        for text, label in zip(legend.get_texts(), counts.columns, strict=True):
            text.set_parse_math(False)
            text.set_text(str(label))
    return ax
