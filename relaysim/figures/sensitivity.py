"""How many steps methods need against the heterogeneity, on quadratics and on real data."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from relaysim import algorithms, analysis, mixing, plots, problems, topologies
from relaysim.analysis import Sensitivity
from relaysim.figures.result import Result
from relaysim.problems.data import Dataset

__all__ = ["methods_on", "sensitivity"]


def methods_on(n: int) -> list[tuple]:
    """The methods of these figures with their topologies: relays on a chain, gossip on a ring."""
    ring, chain = topologies.ring(n), topologies.chain(n)
    # A little below 1/3, at which D² on an even ring would be on the edge of its stability.
    weights = mixing.uniform(ring, 1 / 3 - 0.01)
    return [
        (algorithms.RelaySGD(), chain),
        (algorithms.D2(), ring, weights),
        (algorithms.ExactDiffusion(), ring),
        (algorithms.GradientTracking(), ring, weights),
        (algorithms.RelaySGDGrad(), chain),
        (algorithms.DPSGD(), ring),
    ]


def sensitivity(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Steps to a target at tuned rates against ζ², on quadratics, and against Dirichlet's α on data.

    n = 16 workers. Quadratics: d = 10, Hessian eigenvalues in [0.25, 1], r0 = 10. Data: 500 digits of
    4 × 4 pixels over 10 workers, by logistic regression with l2 = 0.01, split by label. No gradient noise.

    Args:
        quick: 8 workers, fewer levels, one problem each, larger targets, and breast cancer for digits.
        seed: of the first random problem and partition.
        n_jobs: processes.
    """
    n, seeds = (8, [seed]) if quick else (16, [seed, seed + 1, seed + 2])
    levels = [0.1, 10.0] if quick else [0.1, 10**-0.5, 1.0, 10**0.5, 10.0]
    alphas = [math.inf, 0.1] if quick else [math.inf, 1.0, 0.1, 0.01]
    targets = (1e-3, 1e-2) if quick else (5e-7, 1e-2)
    methods = methods_on(n)
    common: dict[str, Any] = {"max_steps": 200_000, "n_jobs": n_jobs}
    quadratics = analysis.heterogeneity_sensitivity(
        methods, None, zeta2=levels, r0=10.0, target=targets[0], problem_seeds=seeds, **common
    )
    # Of breast cancer, with its two classes, ζ² hardly moves with α.
    data = problems.data.breast_cancer() if quick else _first(500, problems.data.digits(block=2))
    logistic = analysis.heterogeneity_sensitivity(
        methods[::5] if quick else methods_on(10),
        None,
        alpha=alphas,
        data=data,
        target=targets[1],
        problem_seeds=seeds[:1],
        plateaus=False,
        **common,
    )
    rows = []
    for name, found in (("quadratics", quadratics), (data.name, logistic)):
        fitted = found.exponents.pivot(index="algorithm", columns="measure", values="exponent")
        fitted = fitted.add_prefix("exponent_of_")
        rows.append(found.frame.assign(problem=name).merge(fitted, on="algorithm"))
    caption = (
        f"Steps in which the fastest rate brings f(x̄) − f(x*) below {targets[0]:g} (left) and "
        f"{targets[1]:g} (right) to stay, without gradient noise. "
        f"Left: {n} workers, random quadratics, d = 10, Hessian eigenvalues in [0.25, 1], r0 = 10, "
        f"medians and ranges over {len(seeds)} problems, with the exponent of ζ² fitted over all of them "
        f"and its 95 % confidence interval. Right: {8 if quick else 10} workers, logistic regression on "
        f"{data.name} (l2 = 0.01), split by label with Dirichlet's α; below each α its ζ² at the optimum. "
        "RelaySGD and RelaySGD/Grad on a chain, the others on a ring (D² and tracking with edge weight "
        "1/3 − 0.01)."
    )
    return Result(
        _draw(quadratics, logistic, data.name), pd.concat(rows, ignore_index=True), caption
    )


def _first(count: int, data: Dataset) -> Dataset:
    """Of many examples the first ones, with which searches take a minute."""
    return Dataset(data.features[:count], data.labels[:count], f"{count} {data.name}")


def _draw(quadratics: Sensitivity, logistic: Sensitivity, data: str) -> Figure:
    with plots.style():
        figure = Figure(figsize=(11.2, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for ax, found in ((left, quadratics), (right, logistic)):
            found.plot(ax=ax)
            ax.get_legend().remove()
        left.set_title("random quadratics")
        right.set_title(f"logistic regression, {data}")
        handles, labels = left.get_legend_handles_labels()
        labels = [label.replace(", exponent", ",\nexponent") for label in labels]
        figure.legend(handles, labels, loc="outside right center", title="left panel's exponents")
    return figure
