"""Classes that a hyperplane separates: how fast losses without a minimum fall, and what that is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy
from matplotlib.figure import Figure

from relaysim import algorithms, plots, problems, topologies
from relaysim.engine import simulate
from relaysim.figures.result import Result, rows_of
from relaysim.support.progress import progress_bar

__all__ = ["separable"]

N, EACH, D, GAP = 10, 10, 25, 0.1
TESTED = 4000
LOSSES = ("logistic", "exponential")
METHODS = (
    algorithms.AllReduce(),
    algorithms.DPSGD(),
    algorithms.GradientTracking(),
    algorithms.NormalizedTracking(),
)
RATES = np.geomspace(0.1, 1000, 33)
COLUMNS = {"value": "Training loss", "test_error": "Test error", "margin": "Margin"}
# Losses below this are not drawn.
LOWEST = 1e-12


def separable(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Training loss, test error and margin of gossip, tracking, all-reduce and normalised tracking.

    Logistic and exponential loss without an l2 term on separable data, each method at the best of the
    same rates: the one whose smallest margin over the last tenth of the steps is largest.

    Args:
        quick: fewer steps and rates.
        seed: of the data.
        n_jobs: not used.
    """
    steps, rates = (400, RATES[::4]) if quick else (1000, RATES)
    record = np.unique(np.geomspace(1, steps, 60 if quick else 200).round().astype(int))
    late = np.arange(steps - steps // 10, steps + 1)
    ring = topologies.ring(N)
    parts, widest = [], 0.0
    with progress_bar(len(LOSSES) * len(METHODS), None, "separable", "runs") as bar:
        for loss in LOSSES:
            problem = _problem(loss, seed)
            widest = _widest_margin(problem)
            for method in METHODS:
                history = simulate(
                    problem,
                    ring,
                    method,
                    learning_rate=rates,
                    steps=steps,
                    record=[0, *np.union1d(record, late).tolist()],
                    measures=["accuracy"],
                    progress=False,
                )
                parts.append(
                    _best(history.frame, late[0]).assign(
                        loss=loss,
                        method=method.label,
                        widest_margin=widest,
                        plotted=lambda rows: rows.step.isin([0, *record]),
                    )
                )
                bar.update()
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[frame.plotted].drop(columns="plotted").reset_index(drop=True)
    frame["test_error"] = 1 - frame.accuracy
    used = "; ".join(
        f"{row.method} {row.learning_rate:.3g} ({row.loss})"
        for row in rows_of(frame.drop_duplicates(["loss", "method"]))
    )
    caption = (
        f"{N} workers on a ring with {EACH} examples each in {D} dimensions that a hyperplane through 0 "
        f"separates by {GAP:g} or more (‖a‖ is near 1; at most {widest:.3f} is possible, dashed), "
        f"no l2 term. Training loss f(x̄), the share of wrong labels among {TESTED} other examples of the "
        "same kind, and the margin min y a·x̄/‖x̄‖ over the training examples, against steps. Losses "
        "of gradient methods fall as 1/t (dotted), that of normalised tracking exponentially, as its "
        "steps do not get shorter. Rates, each the best of "
        f"{len(rates)} from {rates[0]:g} to {rates[-1]:g} by the smallest margin of the last tenth "
        f"of the steps: {used}."
    )
    return Result(_draw(frame), frame, caption)


def _examples(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(count, d)`` and classes that the first coordinate tells apart by the gap."""
    features = generator.normal(size=(count, D)) / np.sqrt(D)
    labels = generator.choice([-1, 1], size=count)
    features[:, 0] = labels * (np.abs(features[:, 0]) + GAP)
    return features, labels


def _problem(loss: str, seed: int) -> problems.Logistic:
    generator = np.random.default_rng(seed)
    features, labels = _examples(generator, N * EACH)
    owners = np.repeat(np.arange(N), EACH)
    test = _examples(generator, TESTED)
    return problems.Logistic(features, labels, 0, partition=owners, loss=loss, test=test)


def _widest_margin(problem: problems.Logistic) -> float:
    """1 / ‖x‖ of the shortest x with y a·x ≥ 1 for all examples, by Lawson and Hanson's least squares."""
    features, labels = problem.to_config()["features"], problem.to_config()["labels"]
    signed = labels[:, None] * features
    target = np.append(np.zeros(D), 1.0)
    system = np.vstack([signed.T, np.ones(len(signed))])
    residual = system @ scipy.optimize.nnls(system, target)[0] - target
    return float(abs(residual[-1]) / np.linalg.norm(residual[:-1]))


def _best(frame: pd.DataFrame, late: int) -> pd.DataFrame:
    """The rows of the rate whose smallest margin from a step on is largest."""
    worst = frame[frame.step >= late].groupby("replica").margin.min()
    return frame[frame.replica == worst.idxmax()]


def _draw(frame: pd.DataFrame) -> Figure:
    guide: dict[str, Any] = {"color": "#777777", "linestyle": "--", "linewidth": 1, "zorder": 1}
    with plots.style():
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        axes = figure.subplots(len(LOSSES), len(COLUMNS), sharex=True, sharey="col")
        for row, loss in zip(axes, LOSSES, strict=True):
            shown = frame[(frame.loss == loss) & (frame.step > 0)]
            for ax, (column, label) in zip(row, COLUMNS.items(), strict=True):
                for method in METHODS:
                    curve = shown[shown.method == method.label]
                    ax.plot(
                        curve.step,
                        curve[column],
                        label=method.label,
                        linewidth=2.2,
                        **plots.method_style(method.label),
                    )
                ax.set_xscale("log")
                ax.set_title(f"{label}, {loss}")
            row[2].axhline(shown.widest_margin.iloc[0], label="the widest margin", **guide)
            first = shown.value.max()
            steps = np.array([10.0, shown.step.max()])
            slope = guide | {"linestyle": ":", "label": "slope of 1/t"}
            row[0].plot(steps, first * 10 / steps, **slope)
            row[0].set_yscale("log")
            row[0].set_ylim(max(LOWEST, 0.3 * frame.value.min()), 10)
        for ax in axes[-1]:
            ax.set_xlabel("Steps")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        margin, said = axes[0, 2].get_legend_handles_labels()
        columns: dict[str, Any] = {"loc": "outside lower center", "ncols": 3}
        figure.legend([*handles, margin[-1]], [*labels, said[-1]], **columns)
    return figure
