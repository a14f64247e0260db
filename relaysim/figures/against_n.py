"""Steps to a target against the number of workers: medians and bands over random problems."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from relaysim import algorithms, plots, problems, topologies
from relaysim.engine import simulate
from relaysim.figures.published import ALL_REDUCE_RATE, STEPS_TO_TARGET
from relaysim.figures.result import Result, rows_of
from relaysim.figures.tuned_curves import TARGET
from relaysim.plots.ticks import log_ticks, number
from relaysim.studies.sweeps import sweep

__all__ = ["gossip_vs_relay", "scaling"]

# How a topology is drawn here; methods have colours. All-reduce has none: it averages over all.
TOPOLOGY_LINES: dict[str, tuple[str, Any, str]] = {
    "binary_tree": (" on a binary tree", "-", "o"),
    "chain": (" on a chain", (0, (5, 2)), "s"),
    "ring": (" on a ring", (0, (4, 1.2, 1, 1.2)), "D"),
    "exponential": (" on its exponential graph", (0, (1, 1.2)), "^"),
}
EVERYWHERE = "All-reduce"


def scaling(quick: bool = False, seed: int = 0, n_jobs: int = -1) -> Result:
    """Steps to the target against n: tracking, SGP, RelaySGD, D² and all-reduce (figure 2).

    Gradient tracking on rings and binary trees, D² on rings, RelaySGD on chains and binary trees,
    SGP on its time-varying exponential graph, ζ² = 0.01 and 1; d = 10, Hessian eigenvalues in
    [0.25, 1], r0 = 100, no noise. Each point is the median over ten random problems, each with the
    rate that is fastest to a suboptimality of 5e-7 (1e-6 in the paper's units).

    Args:
        quick: up to 12 workers and three problems.
        seed: of the first random problem.
        n_jobs: processes; −1 is one for each core.

    Source: Vogels et al., NeurIPS 2021, figure 2.
    """
    sizes = [6, 12] if quick else [6, 12, 24, 48, 96]
    powers = [8] if quick else [8, 16, 32, 64]
    seeds = [seed + k for k in range(3 if quick else 10)]
    everywhere = [
        (algorithms.GradientTracking(), "binary_tree"),
        (algorithms.GradientTracking(), "ring"),
        (algorithms.D2(), "ring"),
        (algorithms.RelaySGD(), "chain"),
        (algorithms.RelaySGD(), "binary_tree"),
        (algorithms.AllReduce(), "ring"),
    ]
    # The longest first, so that no process is left with one of them at the end.
    cases: list[dict[str, Any]] = [
        {"algorithm": algorithm, "topology": topology, "n": n}
        for n in reversed(sizes)
        for algorithm, topology in everywhere
    ]
    cases.append({"algorithm": algorithms.SGP(), "topology": "exponential", "n": sizes + powers})
    begin = time.perf_counter()
    frame = _steps(cases, [0.01, 1.0], seeds, ["fastest"], n_jobs)
    frame["median_steps_at_published_rate"] = [
        _all_reduce_as_published(row.n, row.zeta2, seeds)
        if row.method == EVERYWHERE and row.published_median_steps > 0
        else None
        for row in rows_of(frame)
    ]
    seconds = time.perf_counter() - begin
    caption = (
        "Steps to a suboptimality of 5e-7 (1e-6 in the paper's units) against the number of workers, at "
        f"tuned learning rates; medians and 10–90 % bands over {len(seeds)} random problems with d = 10, "
        "Hessian eigenvalues in [0.25, 1], r0 = 100, no gradient noise. All-reduce averages over all "
        f"workers, whatever the graph. Crosses: medians published with the paper. {_beside_published(frame)} "
        f"Found in {seconds:.0f} s. After Vogels et al., NeurIPS 2021, figure 2."
    )
    titles = {0.01: "a little heterogeneous", 1.0: "very heterogeneous"}
    return Result(_draw(frame, titles), frame, caption)


def gossip_vs_relay(quick: bool = False, seed: int = 0, n_jobs: int = -1) -> Result:
    """Steps of gossip on rings and RelaySGD/Grad on chains, tuned to a plateau, against n.

    ζ² = 0, 0.01 and 0.1; otherwise as `scaling`. Both methods stall where ζ² > 0: their rates are
    tuned to a plateau in [target / 1.1, target], or to be fastest where that takes fewer steps: where
    they do not stall, and where the rate for that plateau lies next to the limit of stability.

    Args:
        quick: up to 8 workers and two problems.
        seed: of the first random problem.
        n_jobs: processes; −1 is one for each core.

    Source: Vogels et al., NeurIPS 2021, the companion of figure 2 in the published code.
    """
    sizes = [4, 8] if quick else [4, 8, 16, 32, 64]
    seeds = [seed + k for k in range(2 if quick else 5)]
    cases = [
        {"algorithm": algorithm, "topology": topology, "n": n}
        for n in reversed(sizes)
        for algorithm, topology in (
            (algorithms.DPSGD(), "ring"),
            (algorithms.RelaySGDGrad(), "chain"),
        )
    ]
    frame = _steps(cases, [0.0, 0.01, 0.1], seeds, ["plateau", "fastest"], n_jobs)
    caption = (
        "Steps to a suboptimality of 5e-7 (1e-6 in the paper's units) against the number of workers, with "
        "rates tuned to a plateau just below it, or to be fastest where that takes fewer steps (without a "
        "plateau, or where its rate is next to the limit of stability); medians and 10–90 % bands over "
        f"{len(seeds)} random problems with d = 10, r0 = 100, no gradient noise. After the companion of "
        "figure 2 in the code of Vogels et al., NeurIPS 2021."
    )
    titles = {0.0: "equal optima", 0.01: "heterogeneous", 0.1: "very heterogeneous"}
    return Result(_draw(frame, titles), frame, caption)


def _steps(
    cases: Sequence[dict],
    zeta2: Sequence[float],
    seeds: Sequence[int],
    criteria: list[str],
    n_jobs: int,
) -> pd.DataFrame:
    """Median and quantiles of the steps to the target of every case, by the better criterion."""
    table = sweep(
        {
            "d": 10,
            "mu": 0.25,
            "r0": 100.0,
            "zeta2": list(zeta2),
            "problem_seed": list(seeds),
            "target": TARGET,
            "criterion": criteria,
            "cases": list(cases),
        },
        n_jobs=n_jobs,
    )
    setting = ["algorithm", "topology", "zeta2", "n", "problem_seed"]
    table = table.sort_values("steps_to_target", kind="stable").drop_duplicates(setting)
    groups = table.groupby(["algorithm", "topology", "zeta2", "n"])
    frame = pd.DataFrame(
        {
            "median_steps": groups.steps_to_target.median(),
            "low_steps": groups.steps_to_target.quantile(0.1),
            "high_steps": groups.steps_to_target.quantile(0.9),
            "median_learning_rate": groups.learning_rate.median(),
            "reached": groups.steps_to_target.count(),
            "problems": groups.size(),
        }
    ).reset_index()
    labels = {type(case["algorithm"]).__name__: case["algorithm"].label for case in cases}
    frame.insert(0, "method", [labels[name] for name in frame.algorithm])
    if criteria == ["fastest"]:
        frame["published_median_steps"] = [
            STEPS_TO_TARGET.get((row.method, row.topology), {}).get((row.zeta2, row.n))
            for row in rows_of(frame)
        ]
    return frame


def _all_reduce_as_published(n: int, zeta2: float, seeds: Sequence[int]) -> float:
    """Median steps of all-reduce at the rate at which the published search ended."""
    ring, found = topologies.ring(n), []
    for seed in seeds:
        problem = problems.random_quadratics(n, 10, zeta2=zeta2, mu=0.25, r0=100.0, seed=seed)
        run = simulate(
            problem,
            ring,
            algorithms.AllReduce(),
            learning_rate=ALL_REDUCE_RATE,
            steps=40,
            progress=False,
        )
        found.append(int(np.argmax(run.frame.suboptimality <= TARGET)))
    return float(np.median(found))


def _beside_published(frame: pd.DataFrame) -> str:
    """In whole sentences, why numbers differ from those that were published."""
    told = ["The published search for D²'s rate stops early; a finer one is used here."]
    both = frame[(frame.method == EVERYWHERE) & (frame.published_median_steps > 0)]
    both = both[both.zeta2 == both.zeta2.min()].sort_values("n")
    if len(both):
        columns = ("n", "published_median_steps", "median_steps_at_published_rate", "median_steps")
        n, published, there, best = (" and ".join(f"{k:g}" for k in both[each]) for each in columns)
        told.append(
            f"That for all-reduce ends at γ = {ALL_REDUCE_RATE:g} for every n. For n = {n} its medians are "
            f"{published}; at that rate {there} steps are measured here, and {best} at the best one "
            f"(ζ² = {both.zeta2.iloc[0]:g})."
        )
    faster = frame[frame.median_steps < 0.88 * frame.published_median_steps - 2]
    named = "; ".join(
        f"{row.method} on a {row.topology.replace('_', ' ')} of {row.n} at ζ² = {row.zeta2:g} in "
        f"{row.median_steps:g} instead of {row.published_median_steps:g}"
        for row in rows_of(faster[faster.method != EVERYWHERE])
    )
    if named:
        told.append(f"In clearly fewer steps than published come {named}.")
    return " ".join(told)


def _draw(frame: pd.DataFrame, titles: dict[float, str]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        axes = figure.subplots(1, len(titles), sharey=True)
        for ax, (zeta2, title) in zip(axes, titles.items(), strict=True):
            part = frame[frame.zeta2 == zeta2]
            for (method, topology), line in part.groupby(["method", "topology"]):
                look = _look(str(method), str(topology))
                color = look["color"]
                ax.plot(line.n, line.median_steps, **look)
                ax.fill_between(
                    line.n, line.low_steps, line.high_steps, color=color, alpha=0.2, linewidth=0
                )
                if "published_median_steps" in line:
                    known = line.published_median_steps
                    ax.plot(line.n, known, "x", color=color, markersize=8, zorder=4)
            ax.set_title(f"$\\zeta^2 = {zeta2:g}$ ({title})")
            ax.set_xlabel("Number of workers n")
            ax.set_xscale("log", base=2)
            ax.set_xticks(sorted(frame.n.unique()) if frame.n.nunique() < 6 else [8, 16, 32, 64])
            ax.xaxis.set_major_formatter("{x:.0f}")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_yscale("log")
            log_ticks(ax)
        axes[0].set_ylabel(f"Steps to suboptimality {number(TARGET)}")
        figure.legend(handles=_legend(frame), loc="outside right center")
    return figure


def _look(method: str, topology: str) -> dict[str, Any]:
    look = plots.method_style(method) | {"markersize": 4}
    if method == EVERYWHERE:
        return look | {"marker": "*", "markersize": 6}
    _, dash, marker = TOPOLOGY_LINES[topology]
    return look | {"linestyle": dash, "marker": marker}


def _legend(frame: pd.DataFrame) -> list[Line2D]:
    """A line for each method on each graph, from the slowest to the fastest."""
    slowest = frame.groupby(["method", "topology"]).median_steps.max().sort_values(ascending=False)
    handles = []
    for method, topology in slowest.index:
        place = "" if method == EVERYWHERE else TOPOLOGY_LINES[topology][0]
        handles.append(Line2D([], [], label=f"{method}{place}", **_look(method, topology)))
    if "published_median_steps" in frame:
        handles.append(
            Line2D([], [], color="#333333", marker="x", linestyle="none", label="published median")
        )
    return handles
