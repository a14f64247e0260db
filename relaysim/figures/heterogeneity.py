"""Figure 7 of the RelaySum paper: how heterogeneity slows some methods and not others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relaysim import algorithms, mixing, oracles, plots, problems, topologies
from relaysim.figures.result import Result
from relaysim.progress import progress_bar
from relaysim.simulation import simulate
from relaysim.tuning import tune

__all__ = ["heterogeneity"]

ZETA2 = (0.0, 0.1, 10.0)
TITLES = ("equal optima", "heterogeneous", "very heterogeneous")
# The published target is 1e-6 for an objective without the ½ of ours.
TARGET = 5e-7
SIGMA2 = 0.05**2
STEPS = 2000


@dataclass(frozen=True)
class _Curve:
    """A method of the figure: where it runs, how it is tuned, and what was published about it."""

    algorithm: Any
    topology: Any
    weight: float | None
    criterion: str
    cap: float
    published_steps: tuple[int, int, int]


# The published code stored half of the rate that it had found to be the fastest, and drew its curves
# with that; the plateau search stored the rate itself.
DRAWN_AT = {"fastest": 0.5, "plateau": 1.0}

CURVES = (
    _Curve(algorithms.DPSGD(), topologies.ring, None, "plateau", 0.02, (13, 1469, 19818)),
    _Curve(
        algorithms.GradientTracking(),
        topologies.ring,
        1 / 3 - 0.01,
        "fastest",
        0.02,
        (10, 301, 641),
    ),
    _Curve(algorithms.D2(), topologies.ring, 1 / 3 - 0.01, "fastest", 0.02, (18, 34, 54)),
    _Curve(algorithms.RelaySGD(), topologies.chain, None, "fastest", 0.2, (51, 51, 54)),
)


def heterogeneity(quick: bool = False, seed: int = 7, progress: bool | None = None) -> Result:
    """Gossip, gradient tracking and D² against RelaySGD at ζ² = 0, 0.1 and 10 (figure 7).

    Gossip, tracking and D² run on a ring, RelaySGD on a chain; n = 32 workers, d = 10, Hessian
    eigenvalues in [0.25, 1], r0 = 1. Each method's learning rate is tuned without noise to a
    suboptimality of 5e-7 (1e-6 in the paper's units), halved where the published code halved it,
    and capped at 0.02 (RelaySGD 0.2); then it runs 2000 steps with σ = 0.05.

    Args:
        quick: 8 workers, 400 steps and two noise seeds.
        seed: of the random problem. Gossip's plateau varies several-fold between draws; with 7 it
            is near the published one.
        progress: a progress bar: True, False, or None: if someone watches.

    Source: Vogels et al., NeurIPS 2021, figure 7.
    """
    n, steps, noise_seeds = (8, 400, 2) if quick else (32, STEPS, 10)
    rows = []
    with progress_bar(len(ZETA2) * len(CURVES), progress, "heterogeneity", "curves") as bar:
        for panel, zeta2 in enumerate(ZETA2):
            problem = problems.random_quadratics(n, 10, zeta2=zeta2, mu=0.25, seed=seed)
            for curve in CURVES:
                rows.append(_run(curve, problem, zeta2, panel, steps, noise_seeds, quick))
                bar.update()
    frame = pd.concat(rows, ignore_index=True)
    caption = (
        f"Suboptimality f(x̄) − f(x*) against steps on {n} workers, ζ² = 0, 0.1, 10, median and 10–90 % "
        f"band over {noise_seeds} draws of the gradient noise (σ = 0.05), random problem {seed}. "
        f"Gossip (rate tuned to a plateau), gradient tracking and D² (edge weight 1/3 − 0.01) on a "
        f"ring, RelaySGD on a chain. Rates as published: tuned without noise to the dashed level, "
        f"5e-7, halved for the methods tuned to be fastest, at most 0.02 (RelaySGD 0.2). "
        f"After Vogels et al., NeurIPS 2021, figure 7."
    )
    return Result(_draw(frame), frame, caption)


def _run(curve: _Curve, problem, zeta2, panel, steps, noise_seeds, quick) -> pd.DataFrame:
    topology = curve.topology(problem.n)
    W = None if curve.weight is None else mixing.uniform(topology, curve.weight)
    tuned = tune(
        problem,
        topology,
        curve.algorithm,
        target=TARGET,
        criterion=curve.criterion,
        mixing=W,
        progress=False,
    )
    rate = min(DRAWN_AT[curve.criterion] * tuned.learning_rate, curve.cap)
    history = simulate(
        problem,
        topology,
        curve.algorithm,
        learning_rate=rate,
        steps=steps,
        mixing=W,
        oracle=oracles.Gaussian(SIGMA2),
        replicas=noise_seeds,
        record=5,
        progress=False,
    )
    settings = pd.DataFrame(
        {
            "zeta2": zeta2,
            "algorithm": curve.algorithm.label,
            "topology": topology.name,
            "tuned_learning_rate": tuned.learning_rate,
            "tuned_steps": tuned.steps,
            "published_tuned_steps": float("nan") if quick else curve.published_steps[panel],
        },
        index=history.frame.index,
    )
    return pd.concat([settings, history.frame], axis=1)


def _draw(frame: pd.DataFrame) -> Figure:
    with plots.style():
        figure = Figure(figsize=(9.6, 2.9), layout="constrained")
        axes = figure.subplots(1, len(ZETA2), sharex=True, sharey=True)
        for ax, zeta2, title in zip(axes, ZETA2, TITLES, strict=True):
            # Dashes over the solid line, so that curves that coincide can be told apart.
            for curve in reversed(CURVES):
                label = curve.algorithm.label
                part = frame[(frame.zeta2 == zeta2) & (frame.algorithm == label)]
                plots.draw_line(ax, part, "step", "suboptimality", _line(label))
            ax.axhline(TARGET, color="#999999", linestyle="--", linewidth=1, zorder=1)
            ax.set_title(f"$\\zeta^2 = {zeta2:g}$ ({title})")
            plots.style_axes(ax, "step", "suboptimality" if ax is axes[0] else "")
        axes[0].set_ylim(5e-8, 2)
        figure.legend(
            handles=[
                Line2D([], [], label=curve.algorithm.label, **_line(curve.algorithm.label))
                for curve in CURVES
            ],
            loc="outside right center",
        )
    return figure


def _line(label: str) -> dict:
    # RelaySGD lies below the others and is wide enough to be seen on both sides of them.
    return plots.method_style(label) | ({"linewidth": 3.2} if label == "RelaySGD" else {})
