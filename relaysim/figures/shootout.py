"""Every method at its best learning rate on the same two problems, ranked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relaysim import algorithms, compressors, plots, problems, topologies
from relaysim.algorithms.events import Algorithm
from relaysim.engine import simulate
from relaysim.figures.result import Result, rows_of
from relaysim.problems.objective import Objective
from relaysim.records.history import History
from relaysim.studies.naming import ALGORITHMS
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes

__all__ = ["shootout"]

#: What a method is run with where its defaults do not say it.
OPTIONS: dict[str, dict[str, Any]] = {
    "DecentLaM": {"momentum": 0.5},
    "MomentumConsensus": {"momentum": 0.5, "omega": 0.5},
    "DelayedGradient": {"delay": 2},
    "LocalSGD": {"period": 4},
    "SingleMerge": {"merge_at": 1000, "probability": 0.5},
    "DynamicAveraging": {"threshold": 0.01},
    "ConsensusControl": {"most_rounds": 100},
    "ChocoSGD": {"compressor": compressors.TopK(8), "consensus_rate": 0.15},
    "PowerGossip": {"rank": 1},
}
COARSE = np.geomspace(3e-3, 3, 21)
TARGET = 1e-3
ZETA2 = 0.01
COLUMNS = ("step", "vectors_sent", "bits_sent")


def shootout(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Every method at its best learning rate, against steps, vectors and bits, with a ranked table.

    Sixteen workers on a ring (methods that relay: the chain within it), random quadratics and logistic
    regression with differing data, d = 64. A method's rate is the one with which all workers are soonest
    near the optimum for good: (1/n) Σ‖x_i − x*‖² at most 10⁻³ of the start's from then on.

    Args:
        quick: 8 workers, fewer steps, fewer rates.
        seed: of the problems and of what methods draw.
        n_jobs: methods at a time.
    """
    n, steps = (8, 150) if quick else (16, 1500)
    cases: dict[str, Objective] = {"quadratic": _quadratic(n, seed), "logistic": _logistic(n, seed)}
    tasks = [
        (name, problem, method)
        for name, problem in cases.items()
        for method in _methods(problem, steps)
    ]
    rates = COARSE[::4] if quick else COARSE
    parts = []
    with progress_bar(len(tasks), None, "shootout", "methods") as bar:
        cells = [(problem, method, steps, rates, seed) for _, problem, method in tasks]
        found = in_processes(_best, cells, n_jobs)
        for (name, _, method), frame in zip(tasks, found, strict=True):
            parts.append(frame.assign(problem=name, method=method.label))
            bar.update()
    frame = _ranked(pd.concat(parts, ignore_index=True))
    caption = (
        f"{n} workers on a ring (the relay family on the chain within it), d = 64: quadratics with "
        f"curvatures about 1/4 to 1 and ζ² = {ZETA2:g}, and logistic regression on examples whose features "
        f"lie around a centre of each worker, l2 = 0.1, ζ² = {cases['logistic'].zeta2:.2g}; ‖x*‖² is near 1 "
        "and gradients are exact. Distance (1/n) Σ‖x_i − x*‖², the largest of each fortieth of a decade, at "
        "the learning rate that brings it soonest to 10⁻³ of the start's (dashed) for good, of a grid from "
        "0.003/L to 3/L refined once. The tables rank methods by steps, and give the vectors of d numbers "
        "and the bits that all workers had sent by then (an average of all is 2(n − 1) vectors, round a "
        "ring); methods that are not there within "
        f"{steps} steps stand below, with the distance of their best rate at the end. Options: "
        + "; ".join(f"{name} {_shown(options)}" for name, options in OPTIONS.items())
        + "; others as by default. One seed for what methods draw at random."
    )
    return Result(_draw(frame, steps), frame, caption)


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


def _methods(problem: Objective, steps: int) -> list[Algorithm]:
    found = []
    for name, build in ALGORITHMS.items():
        options = dict(OPTIONS.get(name, {}))
        if name == "ConsensusControl":
            critical = algorithms.Critical(problem.smoothness)
            options |= {"base": algorithms.DPSGD(), "target": critical}
        if name == "SingleMerge":
            options["merge_at"] = min(options["merge_at"], steps - 1)
        found.append(build(**options))
    return [*found, algorithms.A2CiD2(accelerated=False)]


def _best(
    problem: Objective, method: Algorithm, steps: int, rates: np.ndarray, seed: int
) -> pd.DataFrame:
    """The curve of the best rate: of a grid, then of one around the best of that."""
    scale = 1 / problem.smoothness

    def soonest(rates: np.ndarray) -> pd.DataFrame:
        history = simulate(
            problem,
            _topology(method, problem.n),
            method,
            learning_rate=rates,
            steps=steps,
            seed=seed,
            progress=False,
        )
        return _soonest(history)

    curve = soonest(rates * scale)
    step = rates[1] / rates[0]
    near = np.linspace(-1, 1, 9)[1:-1]
    finer = soonest(curve.learning_rate.iloc[0] * step**near)
    return min((curve, finer), key=_order)


def _topology(method: Algorithm, n: int) -> topologies.Topology:
    return topologies.chain(n) if method.uses == "relay" else topologies.ring(n)


def _soonest(history: History) -> pd.DataFrame:
    """The rows of the replica that is below the target soonest for good, or else the lowest at the end."""
    frame = history.frame
    limit = TARGET * frame.distance.iloc[0]
    by_replica = []
    for _, rows in frame.groupby("replica"):
        below = rows.distance.to_numpy() <= limit
        stays = np.flatnonzero(~below)
        reached = 0 if not len(stays) else stays[-1] + 1
        by_replica.append(
            rows.assign(reached=reached if reached < len(rows) else math.nan, limit=limit)
        )
    return min(by_replica, key=_order)


def _order(rows: pd.DataFrame) -> tuple[float, float]:
    reached, end = rows.reached.iloc[0], rows.distance.iloc[-1]
    return (
        math.inf if math.isnan(reached) else reached,
        math.inf if math.isnan(end) else end,
    )


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """With columns ``rank``, and what was sent when the target was reached."""
    parts = []
    for _, of_problem in frame.groupby("problem", sort=False):
        curves = [rows for _, rows in of_problem.groupby("method", sort=False)]
        for rank, rows in enumerate(sorted(curves, key=_order), 1):
            reached = rows.reached.iloc[0]
            at = rows[rows.step == reached]
            sent = {
                f"{column}_to_target": at[column].iloc[0] if len(at) else math.nan
                for column in COLUMNS[1:]
            }
            parts.append(rows.assign(rank=rank, **sent))
    kept = ["problem", "rank", "method", "learning_rate", *COLUMNS, "distance", "limit", "reached"]
    kept += ["suboptimality", "consensus_distance", *(f"{c}_to_target" for c in COLUMNS[1:])]
    return pd.concat(parts, ignore_index=True)[kept].rename(columns={"reached": "steps_to_target"})


def _shown(options: dict) -> str:
    return ", ".join(
        f"{name} {type(value).__name__}({value.k})" if hasattr(value, "k") else f"{name} {value}"
        for name, value in options.items()
    )


def _draw(frame: pd.DataFrame, steps: int) -> Figure:
    with plots.style():
        figure = Figure(figsize=(15.5, 11.5), layout="constrained")
        axes = figure.subplots(2, 4, width_ratios=(1, 1, 1, 1.55))
        for row, (name, part) in zip(axes, frame.groupby("problem", sort=False), strict=True):
            for ax, column in zip(row, COLUMNS, strict=False):
                for method, curve in part.groupby("method", sort=False):
                    shown = _envelope(curve[curve[column] > 0], column)
                    look = plots.method_style(str(method))
                    ax.plot(shown[column], shown.distance, linewidth=1.3, **look)
                plots.style_axes(ax, column, "distance" if column == "step" else "")
                ax.set_xscale("log")
                ax.axhline(part.limit.iloc[0], color="#888888", linestyle="--", linewidth=1)
                ax.set_ylim(part.limit.iloc[0] / 100, 2 * part.distance.iloc[0])
            row[0].set_title(name)
            _table(row[-1], part)
    return figure


def _envelope(curve: pd.DataFrame, column: str) -> pd.DataFrame:
    """The largest distance of each fortieth of a decade."""
    place = np.floor(40 * np.log10(curve[column])).rename("place")
    return curve.groupby(place)[[column, "distance"]].agg({column: "first", "distance": "max"})


def _table(ax: Axes, part: pd.DataFrame) -> None:
    """The ranking, with a sample of each line: it is the legend as well."""
    ax.axis("off")
    best = part.drop_duplicates("method").sort_values("rank")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(best) + 0.5, -1)
    places = {"method": 0.14, "γ": 0.56, "steps": 0.68, "vectors": 0.83, "bits": 1.0}
    for title, x in places.items():
        align = "left" if title == "method" else "right"
        ax.text(x, -0.4, title, ha=align, va="center", fontsize="small", weight="bold")
    for y, row in enumerate(rows_of(best), 1):
        ax.plot([0, 0.12], [y, y], clip_on=False, **plots.method_style(row.method))
        cells = {"method": row.method, "γ": f"{row.learning_rate:.3g}"}
        if math.isnan(row.steps_to_target):
            last = part[part.method == row.method].distance.iloc[-1]
            cells["bits"] = f"not reached: {last:.1e} at the end"
        else:
            cells["steps"] = f"{row.steps_to_target:.0f}"
            cells["vectors"] = f"{row.vectors_sent_to_target:,.0f}".replace(",", " ")
            cells["bits"] = f"{row.bits_sent_to_target:.2g}"
        for title, text in cells.items():
            align = "left" if title == "method" else "right"
            ax.text(places[title], y, text, ha=align, va="center", fontsize="small")
