"""Every method at its best options and learning rate on the same two problems, ranked."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relaysim import plots, problems, topologies
from relaysim.algorithms.events import Algorithm
from relaysim.figures.best_settings import SEARCH_SEEDS, SEEDS, BestSettings, Setting
from relaysim.figures.candidates import LEFT_OUT, candidates
from relaysim.figures.result import Result, rows_of
from relaysim.plots.ticks import number
from relaysim.problems.objective import Objective
from relaysim.studies.naming import ALGORITHMS
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes

__all__ = ["shootout"]

#: What is to be few, and how each is called.
CRITERIA = {"step": "steps", "bits_sent": "bits"}
RATES = np.geomspace(1 / 256, 8, 12)
# How many are drawn.
SHOWN = 10
TARGET = 1e-3
ZETA2 = 0.01


def shootout(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Every method at its best options and learning rate, against steps and bits, with ranked tables.

    Sixteen workers on a ring (methods that relay: the chain within it), random quadratics and logistic
    regression with differing data, d = 64. A method is tuned twice, options and rate together: for the
    fewest steps and for the fewest bits after which all workers are near the optimum for good:
    (1/n) Σ‖x_i − x*‖² at most 10⁻³ of the start's from then on.

    Args:
        quick: 8 workers, fewer steps, rates and options.
        seed: of the problems and of what methods draw.
        n_jobs: methods at a time.
    """
    n, steps = (8, 100) if quick else (16, 1500)
    cases: dict[str, Objective] = {"quadratic": _quadratic(n, seed), "logistic": _logistic(n, seed)}
    tasks = [
        (name, problem, label, settings)
        for name, problem in cases.items()
        for label, settings in candidates(problem, steps, quick).items()
    ]
    rates = RATES[1::3] if quick else RATES
    parts = []
    with progress_bar(len(tasks), None, "shootout", "methods") as bar:
        cells = [(problem, settings, steps, rates, seed) for _, problem, _, settings in tasks]
        found = in_processes(_both, cells, n_jobs)
        for (name, _, label, settings), frame in zip(tasks, found, strict=True):
            parts.append(frame.assign(problem=name, method=label, settings=len(settings)))
            bar.update()
    frame = _ranked(pd.concat(parts, ignore_index=True))
    counted = sum(len(settings) for name, _, _, settings in tasks if name == "quadratic")
    left_out = "; ".join(
        f"{getattr(ALGORITHMS[name], 'label', name)} takes no part: {why}"
        for name, why in LEFT_OUT.items()
    )
    caption = (
        f"{n} workers on a ring (the relay family on the chain within it), d = 64: quadratics with "
        f"curvatures about 1/4 to 1 and ζ² = {ZETA2:g}, and logistic regression on examples whose features "
        f"lie around a centre of each worker, l2 = 0.1, ζ² = {cases['logistic'].zeta2:.2g}; ‖x*‖² is near 1 "
        "and gradients are exact. Distance (1/n) Σ‖x_i − x*‖², the largest of each fortieth of a decade. "
        "Each method is tuned for steps and, apart from that, for bits: of all methods' "
        f"{counted} combinations of options and {len(rates)} learning rates from {rates[0]:.2g}/L to "
        f"{rates[-1]:.2g}/L, and of rates closer by around the best, the one that is soonest at 10⁻³ of the "
        "start's distance (dashed) for good. Options that make a method another one are left out: an "
        "average of all in every step, momentum 0 and no compression. "
        f"The {SHOWN} best are drawn, the tables have all: what all workers had sent by then, and the "
        f"options chosen. Methods that draw at random are tuned on up to {len(SEARCH_SEEDS)} seeds; what is "
        f"reported is the median over {len(SEEDS)} others, and the curve is of the seed that has it. Not "
        f"there within {steps} steps: the distance at the end. {left_out}."
    )
    return Result(_draw(frame), frame, caption)


def _quadratic(n: int, seed: int) -> problems.DiagonalQuadratic:
    """Curvatures from 1/4 to 1, not quite equal for all workers; ‖x*‖² near 1, ζ² = 0.01."""
    generator = np.random.default_rng(seed)
    h = np.geomspace(0.25, 1, 64) * generator.uniform(0.8, 1.2, (n, 64))
    common, own = generator.normal(size=64) / 8, generator.normal(size=(n, 64))
    unscaled = problems.DiagonalQuadratic(h, own)
    # A shift that all centers have in common leaves the gradients at the optimum as they are.
    return problems.DiagonalQuadratic(h, common + own * math.sqrt(ZETA2 / unscaled.zeta2))


def _logistic(n: int, seed: int) -> problems.Logistic:
    """Binary labels of one linear rule; each worker's features lie around a centre of its own."""
    generator = np.random.default_rng(seed)
    centers = 0.6 * generator.normal(size=(n, 1, 64))
    features = (centers + 2 * generator.normal(size=(n, 40, 64))) / 8
    rule = generator.normal(size=64)
    labels = (features @ rule + 0.3 * generator.normal(size=(n, 40)) > 0).astype(int)
    owners = np.repeat(np.arange(n), 40)
    return problems.Logistic(features.reshape(-1, 64), labels.ravel(), l2=0.1, partition=owners)


def _graph(n: int, method: Algorithm) -> topologies.Topology:
    """A ring, and for what relays the chain within it."""
    return (topologies.chain if method.uses == "relay" else topologies.ring)(n)


# -- one method ------------------------------------------------------------------------------------


def _both(
    problem: Objective, settings: Sequence[Algorithm], steps: int, rates: np.ndarray, seed: int
) -> pd.DataFrame:
    """The curves of a method at its best for each criterion."""
    graph = functools.partial(_graph, problem.n)
    setting = Setting(problem, graph, steps, TARGET, tuple(CRITERIA))
    search = BestSettings(setting, settings, seed)
    first = search.first(rates / problem.smoothness)
    return pd.concat(
        [
            search.best(first, criterion).assign(criterion=name)
            for criterion, name in CRITERIA.items()
        ],
        ignore_index=True,
    )


# -- all of them -----------------------------------------------------------------------------------


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column ``rank``, by problem and criterion."""
    parts = []
    for (_, name), part in frame.groupby(["problem", "criterion"], sort=False):
        by = next(column for column, each in CRITERIA.items() if each == name)
        last = part.groupby("method", sort=False).tail(1)
        ordered = last.sort_values([f"{by}_to_target", "distance"]).method
        ranks = {method: rank for rank, method in enumerate(ordered, 1)}
        parts.append(part.assign(rank=part.method.map(ranks)))
    ranked = pd.concat(parts, ignore_index=True)
    kept = [
        "problem",
        "criterion",
        "rank",
        "method",
        "options",
        "settings",
        "learning_rate",
        "seeds",
    ]
    kept += ["step", "vectors_sent", "bits_sent", "distance", "limit"]
    kept += [f"{c}_{what}" for c in CRITERIA for what in ("to_target", "lowest", "highest")]
    needed = [f"{c}_{what}" for c in CRITERIA for what in ("to_target", "lowest", "highest")]
    ranked[needed] = ranked[needed].replace(math.inf, math.nan)
    return ranked[kept]


def _draw(frame: pd.DataFrame) -> Figure:
    with plots.style():
        # A table has a line for each method.
        curves, table = 3.4, 0.15 * frame.groupby("problem").method.nunique().max()
        figure = Figure(figsize=(20, 2 * (curves + table)), layout="constrained")
        axes = figure.subplots(4, 2, height_ratios=(curves, table, curves, table))
        for number, (problem, of_problem) in enumerate(frame.groupby("problem", sort=False)):
            for place, (column, name) in enumerate(CRITERIA.items()):
                part = of_problem[of_problem.criterion == name]
                ax, below = axes[2 * number, place], axes[2 * number + 1, place]
                _curves(ax, part[part["rank"] <= SHOWN], column)
                ax.set_title(f"{problem}: the {SHOWN} with the fewest {name}")
                _table(below, part, column, name)
    return figure


def _curves(ax: Axes, part: pd.DataFrame, column: str) -> None:
    limit, start = part.limit.iloc[0], part.distance.iloc[0]
    for method, curve in part.groupby("method", sort=False):
        shown = _envelope(curve[curve[column] > 0], column)
        ax.plot(shown[column], shown.distance, **plots.method_style(str(method)))
    plots.style_axes(ax, column, "distance")
    ax.set_xscale("log")
    guide = ax.axhline(limit, color="#777777", linestyle="--", linewidth=1)
    ax.legend([guide], [f"{number(TARGET)} of the start's distance"], loc="upper right")
    ax.set_ylim(limit / 30, 2 * start)
    ends = part.groupby("method")[f"{column}_to_target"].first()
    first = part[part[column] > 0].groupby("method")[column].min()
    ax.set_xlim(first.min(), 4 * ends.max())


def _envelope(curve: pd.DataFrame, column: str) -> pd.DataFrame:
    """The largest distance of each fortieth of a decade."""
    place = np.floor(40 * np.log10(curve[column])).rename("place")
    return curve.groupby(place)[[column, "distance"]].agg({column: "first", "distance": "max"})


def _table(ax: Axes, part: pd.DataFrame, column: str, name: str) -> None:
    """The ranking, with a sample of each line that is drawn: it is the legend as well."""
    ax.axis("off")
    best = part.groupby("method", sort=False).tail(1).sort_values("rank")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(best) + 0.5, -0.5)
    places = {
        "method": 0.07,
        "options": 0.26,
        "γ": 0.66,
        "steps": 0.72,
        "bits": 0.8,
        "seeds": 0.825,
    }
    left = ("method", "options", "seeds")
    titles = {each: each for each in places} | {"seeds": f"{name}, ten seeds"}
    for place, x in places.items():
        align = "left" if place in left else "right"
        ax.text(x, 0, titles[place], ha=align, va="center", fontsize="small", weight="bold")
    for y, row in enumerate(rows_of(best), 1):
        if y <= SHOWN:
            ax.plot([0, 0.06], [y, y], clip_on=False, **plots.method_style(row.method))
        cells = {"method": row.method, "options": row.options, "γ": f"{row.learning_rate:.3g}"}
        if math.isnan(row.step_to_target):
            cells["seeds"] = f"not reached: {row.distance:.1e} at the end"
        else:
            cells["steps"] = f"{row.step_to_target:.0f}"
            cells["bits"] = f"{row.bits_sent_to_target:.2g}"
            if row.seeds > 1:
                ends = (getattr(row, f"{column}_{end}") for end in ("lowest", "highest"))
                digits = ".0f" if name == "steps" else ".2g"
                shown = ("never" if math.isnan(each) else f"{each:{digits}}" for each in ends)
                cells["seeds"] = " … ".join(shown)
        for place, text in cells.items():
            align = "left" if place in left else "right"
            ax.text(places[place], y, text, ha=align, va="center", fontsize="small")
