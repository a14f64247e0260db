"""Every exact method at its best: gradients, rounds and bits to 1e-8, on easy and hard problems."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relaysim import compressors, plots, problems, topologies
from relaysim.algorithms.events import Algorithm
from relaysim.engine import simulate
from relaysim.figures.best_settings import SEEDS, BestSettings, Setting
from relaysim.figures.candidates import candidates
from relaysim.figures.result import Result, rows_of
from relaysim.problems.objective import Objective
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.topologies import Topology

__all__ = ["zoo"]

#: What is to be few, and how each is called.
CRITERIA = {"gradients_taken": "gradients", "rounds": "rounds", "bits_sent": "bits"}
GRAPHS: Mapping[str, Callable[[int], Topology]] = {
    "ring": topologies.ring,
    "exponential graph": topologies.exponential,
}
#: Exact methods that take no part, and why.
LEFT_OUT: Mapping[str, str] = {
    "ConsensusControl": "it is the method that it holds together",
    "LocalRates": "with equal Hessians it is all-reduce",
}
#: Options of which only these are tried, since each costs a run.
TRIED: Mapping[str, tuple[Any, ...]] = {
    "compressor": (
        *(compressors.RandomRounding(levels) for levels in (1, 2, 8)),
        compressors.TopK(8),
        compressors.Sign(),
        compressors.QSGD(3),
    ),
    "consensus_rate": (0.2, 0.5, 0.6, 1.0),
}
RATES = np.geomspace(1 / 32, 64, 14)  # with dampened momentum high ones are stable
TARGET = 1e-8
DIMENSION = 32
# Steps to see how much crosses the edges in a round.
PROBED = 40


def zoo(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Gradients, rounds and bits to 1e-8 of every exact method at its best options and rate, ranked by each.

    Sixteen workers with one Hessian of condition number κ = 10 and 1000 and optima of their own, on a ring
    and on the exponential graph (methods that relay: on a spanning tree of it). A method is tuned three
    times, options and rate together, as in the figure ``shootout``.

    Args:
        quick: 8 workers, κ = 10, fewer rates and options.
        seed: of the problems and of what methods draw.
        n_jobs: methods at a time.
    """
    n = 8 if quick else 16
    kappas = (10,) if quick else (10, 1000)
    cells: list[tuple[int, str, str]] = []
    calls: list[tuple[Any, ...]] = []
    for kappa in kappas:
        problem, steps = _problem(n, kappa, seed), (400 if quick else 12 * kappa + 600)
        for graph in GRAPHS:
            for label, settings in candidates(problem, steps).items():
                settings = [each for each in settings if _takes_part(each)]
                if quick:
                    settings = settings[:1] + settings[1:][-1:]
                if settings:
                    cells.append((kappa, graph, label))
                    calls.append((problem, graph, settings, steps, quick, seed))
    parts = []
    with progress_bar(len(cells), None, "zoo", "cells") as bar:
        for (kappa, graph, label), frame in zip(
            cells, in_processes(_best, calls, n_jobs), strict=True
        ):
            parts.append(frame.assign(kappa=kappa, graph=graph, method=label))
            bar.update()
    frame = _ranked(pd.concat(parts, ignore_index=True))
    left_out = "; ".join(f"{name}: {why}" for name, why in LEFT_OUT.items())
    caption = (
        f"{n} workers with one Hessian, d = {DIMENSION}, curvatures from 1/κ to 1, and optima of their own; "
        "exact gradients. What each exact method takes, at the options and the rate that take least of it, "
        "until (1/n) Σ‖x_i − x*‖² is 10⁻⁸ of the start's for good: gradients of a worker, rounds of messages "
        "one after the other, and bits that all workers send. Methods that relay run on a tree within the "
        "graph; those that average exactly use a network of their own, and an average is one round. Of "
        f"methods that draw at random the median of {len(SEEDS)} seeds. Bars are logarithmic. Left out, "
        f"{left_out}."
    )
    return Result(_draw(frame), frame, caption)


def _problem(n: int, kappa: float, seed: int) -> problems.DiagonalQuadratic:
    h = np.tile(np.geomspace(1 / kappa, 1, DIMENSION), (n, 1))
    centers = np.random.default_rng(seed).normal(size=(n, DIMENSION))
    return problems.DiagonalQuadratic(h, 1 + centers)


def _takes_part(method: Algorithm) -> bool:
    tried = all(getattr(method, option, some[0]) in some for option, some in TRIED.items())
    return tried and method.exact and type(method).__name__ not in LEFT_OUT


def _graph_of(name: str, n: int, method: Algorithm) -> Topology:
    graph = GRAPHS[name](n)
    if method.uses == "relay":
        return topologies.chain(n) if name == "ring" else topologies.spanning_tree(graph)
    return graph


def _best(
    problem: Objective,
    graph: str,
    settings: Sequence[Algorithm],
    steps: int,
    quick: bool,
    seed: int,
) -> pd.DataFrame:
    """What a method takes at its best for each criterion."""
    on = functools.partial(_graph_of, graph, problem.n)
    # A run for each, which a search would ask for whenever it is looked at.
    vectors_a_round = functools.cache(lambda method: _vectors_a_round(problem, on(method), method))
    extend = functools.partial(_counted, problem, vectors_a_round)
    every = max(1, steps // 2000)
    setting = Setting(problem, on, steps, TARGET, tuple(CRITERIA), every, extend)
    search = BestSettings(setting, settings, seed)
    first = search.first((RATES[1::3] if quick else RATES) / problem.smoothness)
    rows = []
    for criterion, name in CRITERIA.items():
        last = search.best(first, criterion).iloc[-1]
        found = {column: last[f"{column}_to_target"] for column in CRITERIA}
        kept = last[["options", "learning_rate", "seeds", "distance"]].to_dict()
        kept |= {end: last[f"{criterion}_{end}"] for end in ("lowest", "highest")}
        rows.append({"criterion": name} | found | kept)
    return pd.DataFrame(rows)


def _counted(
    problem: Objective,
    vectors_a_round: Callable[[Algorithm], float],
    frame: pd.DataFrame,
    method: Algorithm,
) -> pd.DataFrame:
    """With a worker's gradients and rounds."""
    a_step = method.gradients_per_step(problem.n) / problem.n
    rounds = frame.vectors_sent / vectors_a_round(method)
    return frame.assign(gradients_taken=frame.step * a_step, rounds=rounds)


def _vectors_a_round(problem: Objective, graph: Topology, method: Algorithm) -> float:
    """How many vectors all workers together send in one round of messages.

    What goes out at once is one round; a step that moves information by several hops makes as many. Events
    are a round of two workers at a time, n/2 of which are one of all.
    """
    if method.uses == "events":
        return problem.n
    history = simulate(
        problem, graph, method, learning_rate=0.0, steps=PROBED, progress=False, keep_state=False
    )
    in_a_step = float(np.diff(history.frame.vectors_sent).max())
    if math.isfinite(method.hops_per_step):
        return in_a_step / max(1, method.hops_per_step)
    # As many rounds as the graph asks for; or an average of all, which is one.
    return 2 * len(graph.edges) if method.uses == "mixing" else in_a_step


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column ``rank``, by κ, graph and criterion; inf is NaN."""
    parts = []
    for (_, _, name), part in frame.groupby(["kappa", "graph", "criterion"], sort=False):
        by = next(column for column, each in CRITERIA.items() if each == name)
        ordered = part.sort_values([by, "distance"])
        parts.append(ordered.assign(rank=range(1, len(ordered) + 1)))
    ranked = pd.concat(parts, ignore_index=True).replace(math.inf, math.nan)
    named = ranked.rename(columns=CRITERIA)
    first = ["kappa", "graph", "criterion", "rank", "method", *CRITERIA.values()]
    return named[[*first, *(each for each in named.columns if each not in first)]]


# -- the picture -----------------------------------------------------------------------------------


def _draw(frame: pd.DataFrame) -> Figure:
    blocks = list(frame.groupby(["kappa", "graph"], sort=False))
    most = frame["rank"].max()
    with plots.style():
        figure = Figure(figsize=(19, 1 + len(blocks) * (0.9 + 0.24 * most)), layout="constrained")
        axes = np.atleast_2d(figure.subplots(len(blocks), len(CRITERIA)))
        for row, ((kappa, graph), block) in zip(axes, blocks, strict=True):
            for ax, name in zip(row, CRITERIA.values(), strict=True):
                _table(ax, block[block.criterion == name], name, f"κ = {kappa:g}, {graph}: {name}")
    return figure


def _table(ax: Axes, part: pd.DataFrame, name: str, title: str) -> None:
    """A ranking: method, bar, number and options."""
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(part) + 0.6, -0.1)
    ax.set_title(title, loc="left", weight="bold")
    known = part[name].dropna()
    low, high = math.log10(known.min()) - 0.4, math.log10(known.max())
    for y, row in enumerate(rows_of(part), 1):
        ax.text(0.0, y, row.method, ha="left", va="center", fontsize="small")
        value = getattr(row, name)
        text = f"still at {row.distance:.0e}"
        if math.isfinite(value):
            length = 0.19 * (math.log10(value) - low) / max(high - low, 1e-9)
            color = plots.method_style(row.method)["color"]
            ax.barh(y, length, 0.62, 0.27, color=color)
            text = f"{value:.0f}" if value < 1e5 else f"{value:.1e}"
        ax.text(0.56, y, text, ha="right", va="center", fontsize="small")
        ax.text(
            0.575,
            y,
            f"γ {row.learning_rate:.2g}" + (f", {row.options}" if row.options else ""),
            ha="left",
            va="center",
            fontsize="x-small",
            color="#555555",
        )
