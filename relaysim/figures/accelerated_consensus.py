"""What momentum does for agreement, and for descent: rounds against workers, steps against κ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from relaysim import plots, problems, topologies
from relaysim.algorithms import DPSGD, ExactDiffusion, HeavyBallConsensus, Mudag
from relaysim.algorithms.events import Algorithm
from relaysim.engine import simulate
from relaysim.figures.result import Result, rows_of
from relaysim.mixing import chebyshev, metropolis
from relaysim.plots.ticks import log_ticks, number
from relaysim.support.progress import progress_bar

__all__ = ["accelerated_consensus"]

#: Colour, dash and marker of each way to agree.
WAYS = {
    "plain gossip": (plots.method_style("DP-SGD (gossip)")["color"], (0, (1, 1)), "o"),
    "heavy ball (FastMix)": (plots.method_style("Heavy-ball consensus")["color"], (0, (5, 3)), "s"),
    "Chebyshev": (plots.method_style("Chebyshev")["color"], "-", "^"),
}
DESCENTS: dict[str, Algorithm] = {"Mudag": Mudag(), "Exact diffusion": ExactDiffusion()}
AGREED, ARRIVED = 1e-10, 1e-8
SLOPES = "slopes"
# Whose course is drawn.
DRAWN = 32
DIMENSION = 10


def accelerated_consensus(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Consensus on rings by plain gossip, a heavy ball and Chebyshev's polynomials; Mudag's steps against κ.

    Args:
        quick: up to 32 workers instead of 128, and κ = 100 instead of 1000.
        seed: of the starting points.
        n_jobs: not used.
    """
    sizes = [8, 16, 32] if quick else [8, 16, 32, 64, 128]
    kappas = [10, 30, 100] if quick else [10, 30, 100, 300, 1000]
    rows: list[dict] = []
    with progress_bar(len(sizes) + len(kappas) + 1, None, "accelerated consensus", "cells") as bar:
        rows += _course(DRAWN, seed)
        bar.update()
        for n in sizes:
            for way, left in _left_in_expectation(n).items():
                needed = next(k for k, part in enumerate(left) if part <= AGREED)
                rows.append({"part": "rounds", "way": way, "n": n, "rounds": needed})
            bar.update()
        for kappa in kappas:
            rows += _descents(kappa, seed)
            bar.update()
    frame = pd.DataFrame(rows)
    caption = (
        f"Left: what is left of Ξ² on a ring of {DRAWN} with Metropolis weights, without gradients: the mean "
        "of 100 random starts, and its exact expectation (thin black). Middle: rounds until that expectation "
        "is 10⁻¹⁰ of the start's; grey lines grow as n² and as n. Right: steps until (1/n) Σ‖x_i − x*‖² is "
        "10⁻⁸ of the start's for good, at γ = 1/L, on a ring of 8 whose workers have one Hessian of "
        "condition number κ and optima of their own; grey lines grow as κ and as √κ. Numbers beside Mudag's "
        "points are its rounds of mixing in all, ⌈ln κ/√(1 − λ)⌉ a step; exact diffusion makes one."
    )
    return Result(_draw(frame, sizes, kappas), frame, caption)


def _left_in_expectation(n: int) -> dict[str, Iterator[float]]:
    """By each way, the expected share of Ξ² that is left after 0, 1, … rounds on a ring."""
    values = np.linalg.eigvalsh(metropolis(topologies.ring(n)).toarray())[:-1]
    size = float(np.abs(values).max())
    momentum = (1 - np.sqrt(1 - size**2)) / (1 + np.sqrt(1 - size**2))

    def plain() -> Iterator[float]:
        left = np.ones_like(values)
        while True:
            yield float(np.mean(left**2))
            left = left * values

    def heavy_ball() -> Iterator[float]:
        before = left = np.ones_like(values)
        while True:
            yield float(np.mean(left**2))
            before, left = left, (1 + momentum) * values * left - momentum * before

    def polynomial() -> Iterator[float]:
        angle, growth = np.arccos(values / size), np.arccosh(1 / size)
        for k in itertools.count():
            yield float(np.mean(np.cos(k * angle) ** 2)) / float(np.cosh(k * growth)) ** 2

    return dict(zip(WAYS, (plain(), heavy_ball(), polynomial()), strict=True))


def _course(n: int, seed: int) -> list[dict]:
    """Ξ² after each round, simulated and expected."""
    graph, replicas = topologies.ring(n), 100
    W = metropolis(graph)
    problem = problems.DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))
    x0 = np.random.default_rng(seed).normal(size=(n, 1, replicas))
    steps = 160

    def apart(method: Algorithm, steps: int, mixing: object = None) -> np.ndarray:
        history = simulate(
            problem,
            graph,
            method,
            learning_rate=0.0,
            steps=steps,
            x0=x0,
            mixing=mixing,
            progress=False,
            keep_state=False,
        )
        found = history.frame.pivot_table(
            values="consensus_distance", index="step", columns="replica"
        )
        return found.to_numpy().mean(axis=1)

    simulated = {
        "plain gossip": dict(enumerate(apart(DPSGD(), steps))),
        "heavy ball (FastMix)": dict(enumerate(apart(HeavyBallConsensus(), steps))),
        "Chebyshev": {
            k: apart(DPSGD(), 1, chebyshev(W, k))[1] for k in [*range(1, 12), *range(12, 118, 3)]
        },
    }
    rows = []
    for way, left in _left_in_expectation(n).items():
        start = simulated["plain gossip"][0]
        for k, expected in enumerate(itertools.islice(left, steps + 1)):
            found = {"left": simulated[way].get(k, np.nan) / start, "expected": expected}
            rows.append({"part": "course", "way": way, "n": n, "rounds": k, **found})
    return rows


def _descents(kappa: float, seed: int) -> list[dict]:
    """Steps and rounds of each method to the optimum of workers with one Hessian."""
    n = 8
    h = np.tile(np.geomspace(1 / kappa, 1, DIMENSION), (n, 1))
    centers = np.random.default_rng(seed).normal(size=(n, DIMENSION))
    problem, rows = problems.DiagonalQuadratic(h, centers), []
    for name, method in DESCENTS.items():
        fast = isinstance(method, Mudag)
        history = simulate(
            problem,
            topologies.ring(n),
            method,
            learning_rate=1.0,
            steps=int(40 * kappa**0.5 if fast else 12 * kappa + 100),
            progress=False,
            keep_state=False,
        )
        frame = history.frame
        above = np.flatnonzero(~(frame.distance <= ARRIVED * frame.distance[0]))
        reached = {"steps": above[-1] + 1, "rounds": frame.vectors_sent[above[-1] + 1] / (2 * n)}
        rows.append({"part": "descent", "way": name, "n": n, "kappa": kappa, **reached})
    return rows


# -- the picture -----------------------------------------------------------------------------------


def _draw(frame: pd.DataFrame, sizes: list[int], kappas: list[int]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(12.6, 4.3), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _draw_course(left, frame[frame.part == "course"])
        rounds = frame[frame.part == "rounds"]
        for way, (color, dash, marker) in WAYS.items():
            part = rounds[rounds.way == way]
            line: dict[str, Any] = {"color": color, "linestyle": dash, "marker": marker}
            middle.plot(part.n, part.rounds, **line, markersize=5, fillstyle="none", label=way)
            last = part.iloc[-1]
            beside = -14 if way == "Chebyshev" else 8
            _number(middle, last.n, last.rounds, f"{last.rounds:.0f}", beside)
        at = np.array([sizes[0], sizes[-1]])
        of = rounds.groupby("way").rounds.first()
        _slope(middle, at, 0.45 * of["Chebyshev"] * at / at[0], "∝ n")
        _slope(middle, at, 2.0 * of["plain gossip"] * (at / at[0]) ** 2, "∝ n²")
        _axes(middle, "Workers on a ring n", "Rounds until $10^{-10}$ of Ξ² is left", sizes)
        descents = frame[frame.part == "descent"]
        markers = dict(zip(DESCENTS, "so", strict=True))
        for way in DESCENTS:
            part = descents[descents.way == way]
            look: dict[str, Any] = {
                "marker": markers[way],
                "markersize": 5,
                "fillstyle": "none",
                "label": way,
            }
            right.plot(part.kappa, part.steps, **plots.method_style(way), **look)
            if way == "Mudag":
                for row in rows_of(part):
                    _number(right, row.kappa, row.steps, f"{row.rounds:.0f}", -15)
        at = np.array([kappas[0], kappas[-1]])
        of = descents.groupby("way").steps.first()
        _slope(right, at, 2.0 * of["Mudag"] * (at / at[0]) ** 0.5, "∝ √κ")
        _slope(right, at, 2.0 * of["Exact diffusion"] * at / at[0], "∝ κ")
        _axes(right, "Condition number κ", "Steps until $10^{-8}$ of the distance is left", kappas)
        right.set_ylim(bottom=10)
        for ax in (middle, right):
            ax.legend(fontsize="small", loc="upper left")
    return figure


def _draw_course(ax: Axes, course: pd.DataFrame) -> None:
    for way, (color, dash, _) in WAYS.items():
        part = course[(course.way == way)]
        known = part[part.left > 0]
        look: dict[str, Any] = {"color": color, "linestyle": dash, "linewidth": 3.2, "alpha": 0.75}
        ax.plot(known.rounds, known.left, **look, label=way)
        exact = "expected, exactly" if way == "Chebyshev" else None
        ax.plot(part.rounds, part.expected, color="#000000", linewidth=0.7, label=exact)
    ax.set_yscale("log")
    ax.set_ylim(1e-16, 30)
    ax.set_xlim(0, course.rounds.max())
    guide: dict[str, Any] = {"color": "#777777", "linestyle": "--", "linewidth": 1}
    ax.axhline(AGREED, **guide, label=f"{number(AGREED)} (middle)")
    ax.set_xlabel("Rounds")
    ax.set_ylabel(f"Share left of Ξ², ring of {DRAWN}")
    ax.legend(fontsize="small", loc="lower left")


def _slope(ax: Axes, at: np.ndarray, values: np.ndarray, label: str) -> None:
    named = None if any(line.get_label() == SLOPES for line in ax.lines) else SLOPES
    ax.plot(at, values, color="#888888", linewidth=1, zorder=1, label=named)
    options: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "color": "#555555"}
    ax.annotate(label, (at[-1], values[-1]), xytext=(-6, 3), fontsize="small", **options)


def _number(ax: Axes, x: float, y: float, text: str, beside: float) -> None:
    options: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": "x-small"}
    ax.annotate(text, (x, y), xytext=(0, beside), **options)


def _axes(ax: Axes, x: str, y: str, ticks: list[int]) -> None:
    ax.set_yscale("log")
    log_ticks(ax)
    ax.set_xticks(ticks)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(ticks)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
