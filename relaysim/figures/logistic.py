"""Logistic regression on real data that are split by label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relaysim import plots, problems
from relaysim.engine import simulate
from relaysim.figures.result import Result, rows_of
from relaysim.figures.sensitivity import methods_on
from relaysim.plots.ticks import number
from relaysim.studies.tuning import tune
from relaysim.support.progress import progress_bar

__all__ = ["logistic"]

L2, TARGET = 0.01, 1e-4
ROWS = {
    "suboptimality": "Suboptimality\n$f(\\bar{x}) - f(x^\\star)$",
    "consensus_distance": "Consensus distance\nmean of $\\|x_i - \\bar{x}\\|^2$",
    "test_accuracy": r"Test accuracy of $\bar{x}$",
}


def logistic(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Five methods on the breast cancer data over 16 workers, split by label with α = ∞, 1, 0.1.

    Logistic regression with l2 = 0.01 on three quarters of the data; the accuracy is measured on the
    rest. Rates are tuned to reach a suboptimality of 1e-4 in the fewest steps; no gradient noise.

    Args:
        quick: 8 workers, 200 steps, two methods and two α.
        seed: of the split into training and test set and of the partitions.
        n_jobs: not used.
    """
    n, steps = (8, 200) if quick else (16, 3000)
    train, test = problems.data.breast_cancer().split(test=0.25, seed=seed)
    methods = [entry for entry in methods_on(n) if entry[0].label != "Exact diffusion"]
    methods = methods[::4] if quick else methods
    alphas = (math.inf, 0.1) if quick else (math.inf, 1.0, 0.1)
    parts = []
    with progress_bar(len(alphas) * len(methods), None, "logistic", "runs") as bar:
        for alpha in alphas:
            partition = problems.partitions.dirichlet(train.labels, n, alpha, seed=seed)
            problem = problems.Logistic(train.features, train.labels, L2, partition=partition)
            best = problem.accuracy(problem.optimum, test.features, test.labels)
            for method, graph, weights in ((*entry, None)[:3] for entry in methods):
                tuned = tune(problem, graph, method, target=TARGET, mixing=weights, progress=False)
                history = simulate(
                    problem,
                    graph,
                    method,
                    learning_rate=tuned.learning_rate,
                    steps=steps,
                    mixing=weights,
                    record="log",
                    keep_iterates=True,
                    progress=False,
                )
                means = np.asarray(history.iterates).mean(axis=1).T
                frame = history.frame.assign(
                    method=method.label,
                    alpha=alpha,
                    zeta2=problem.zeta2,
                    tuned_steps=tuned.steps,
                    test_accuracy=problem.accuracy(means, test.features, test.labels),
                    test_accuracy_at_optimum=best,
                )
                parts.append(frame)
                bar.update()
    frame = pd.concat(parts, ignore_index=True)
    rates = frame.drop_duplicates(["method", "alpha"])
    listed = "; ".join(
        f"{row.method} {row.learning_rate:.3g} at α = {_name(row.alpha)}" for row in rows_of(rates)
    )
    circling = "" if quick else ", as D² does at α = 1"
    caption = (
        f"Suboptimality f(x̄) − f(x*), consensus distance and test accuracy of the average model against "
        f"steps: logistic regression (l2 = {L2}) on {len(train.labels)} examples of the breast cancer data "
        f"over {n} workers in equal numbers, split by label with Dirichlet's α (partition seed "
        f"{seed}). Accuracy is measured on the other {len(test.labels)}; that of the optimum is dashed. "
        "RelaySGD and RelaySGD/Grad on a chain, the others on a ring (D² and tracking with edge weight "
        "1/3 − 0.01), no gradient noise. Each rate is the one that was found to reach a suboptimality of "
        f"{TARGET:g} (dashed) in the fewest steps and to stay below it. Such a rate can be so close to the "
        f"limit of stability that a method circles around the optimum{circling}. "
        f"Learning rates: {listed}."
    )
    return Result(_draw(frame), frame, caption)


def _name(alpha: float) -> str:
    return "∞" if math.isinf(alpha) else f"{alpha:g}"


def _draw(frame: pd.DataFrame) -> Figure:
    alphas = list(dict.fromkeys(frame.alpha))
    labels = list(dict.fromkeys(frame.method))
    guide: dict[str, Any] = {"color": "#777777", "linestyle": "--", "linewidth": 1, "zorder": 1}
    with plots.style():
        figure = Figure(figsize=(10.4, 7.4), layout="constrained")
        axes = figure.subplots(len(ROWS), len(alphas), sharex=True, sharey="row")
        for column, alpha in enumerate(alphas):
            shown = frame[(frame.alpha == alpha) & (frame.step > 0)]
            for ax, measure in zip(axes[:, column], ROWS, strict=True):
                for label in reversed(labels):
                    part = shown[shown.method == label]
                    ax.plot(part.step, part[measure], **_line(label))
                ax.set_xscale("log")
            axes[0, column].set_title(
                f"$\\alpha$ = {_name(alpha)},  $\\zeta^2$ = {shown.zeta2.iloc[0]:.2g}"
            )
            axes[0, column].axhline(TARGET, **guide)
            axes[2, column].axhline(shown.test_accuracy_at_optimum.iloc[0], **guide)
            axes[2, column].set_xlabel("Steps")
        for row, (measure, label) in enumerate(ROWS.items()):
            axes[row, 0].set_ylabel(label)
            if measure != "test_accuracy":
                axes[row, 0].set_yscale("log")
                axes[row, 0].set_ylim(bottom=1e-14)
        handles = [Line2D([], [], label=label, **_line(label)) for label in labels]
        said = f"{number(TARGET)}, the target,\nand the optimum's accuracy"
        handles.append(Line2D([], [], label=said, **guide))
        figure.legend(handles=handles, loc="outside right center")
    return figure


def _line(label: str) -> dict:
    return plots.method_style(label) | ({"linewidth": 3} if label == "RelaySGD" else {})
