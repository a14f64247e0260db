"""The worst case of six methods over a class of functions, beside quadratics and theorems."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relaysim import algorithms, plots, problems, topologies
from relaysim.algorithms.base import Method
from relaysim.figures.result import Result
from relaysim.mixing import metropolis
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.theory import bounds, linearize
from relaysim.theory import worst_case as worst_of

__all__ = ["worst_case"]

WORKERS = 3
SMOOTHNESS, STRONG_CONVEXITY, RATE = 1.0, 0.25, 0.5
METHODS: tuple[Method, ...] = (
    algorithms.AllReduce(),
    algorithms.DPSGD(),
    algorithms.RelaySGDGrad(),
    algorithms.RelaySGD(),
    algorithms.D2(),
    algorithms.GradientTracking(),
)


def worst_case(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """The largest distance of six methods on three workers, over all functions of a class, step by step.

    All 1-smooth, 1/4-strongly convex f_i with ζ² ≤ 1 whose optimum is at distance 1 from the start, on a
    chain with γ = 0.5; how much of it is due to ζ²; the exact rate on quadratics of curvature 1/4 or 1; and
    theorems whose constants are proved.

    Args:
        quick: 2 steps in the place of 8.
        seed: not used; nothing here is random.
        n_jobs: processes.

    Needs the extra ``pep``. Source: `relaysim.theory.worst_case`, `relaysim.theory.bounds`.
    """
    steps = 2 if quick else 8
    cells = [(method, step) for step in range(steps, 0, -1) for method in METHODS]
    rows = []
    with progress_bar(len(cells), None, "worst-case", "programs") as bar:
        for row in in_processes(_cell, cells, n_jobs):
            rows.append(row)
            bar.update()
    start = {"step": 0, "distance": 1.0, "due_to_zeta2": 0.0, "dimension": 1}
    rows += [start | {"method": method.label} for method in METHODS]
    frame = pd.DataFrame(rows)
    order = [method.label for method in METHODS]
    frame["place"] = frame.method.map(order.index)
    frame = frame.sort_values(["place", "step"], ignore_index=True).drop(columns="place")
    frame["quadratics"] = frame.method.map({m.label: _radius(m) for m in METHODS}) ** (
        2 * frame.step
    )
    frame["bound"] = np.concatenate([_bound(method, steps) for method in METHODS])
    caption = (
        f"The exact worst case of (1/n) Σ ‖x_i − x*‖² after so many steps on a chain of {WORKERS} workers at "
        f"γ = {RATE}, over all f_i with L = {SMOOTHNESS:g}, μ = {STRONG_CONVEXITY} and ζ² ≤ 1 whose optimum "
        "is at distance 1 from the start (black), and what ζ² adds to it (dashed): nothing with all-reduce; "
        "with DP-SGD and RelaySGD/Grad it stays, with the others it decays. Grey: ρ^{2t}, the slowest exact "
        "rate of quadratics with curvatures μ or L of each worker. Dotted: theorems with proved constants, "
        "where there are any for the class. By performance estimation, with each method's own step."
    )
    return Result(_draw(frame), frame, caption)


def _cell(method: Method, step: int) -> dict[str, Any]:
    found = worst_of(method, topologies.chain(WORKERS), SMOOTHNESS, STRONG_CONVEXITY, RATE, step)
    return {
        "method": method.label,
        "step": step,
        "distance": found.value,
        "due_to_zeta2": found.certificate.of_zeta2,
        "dimension": found.dimension,
    }


def _radius(method: Method) -> float:
    """The slowest rate on quadratics of one parameter, a curvature of μ or L each."""
    found = []
    for curvatures in itertools.product([STRONG_CONVEXITY, SMOOTHNESS], repeat=WORKERS):
        h = np.array(curvatures)[:, None]
        problem = problems.DiagonalQuadratic(h, np.arange(float(WORKERS))[:, None])
        linear = linearize(problem, topologies.chain(WORKERS), method, RATE)
        found.append(linear.spectral_radius)
    return max(found)


def _bound(method: Method, steps: int) -> np.ndarray:
    """A theorem's curve, NaN where there is none for the class."""
    given: dict[str, Any] = {
        "n": WORKERS,
        "learning_rate": RATE,
        "initial_distance": 1.0,
        "quantity": "distance",
    }
    if isinstance(method, algorithms.AllReduce):
        bound = bounds.all_reduce(
            mean_smoothness=SMOOTHNESS, mean_strong_convexity=STRONG_CONVEXITY, **given
        )
    elif isinstance(method, algorithms.DPSGD):
        smallest, second, _ = np.linalg.eigvalsh(metropolis(topologies.chain(WORKERS)).toarray())
        bound = bounds.dp_sgd(
            smoothness=SMOOTHNESS,
            strong_convexity=STRONG_CONVEXITY,
            second_eigenvalue=second,
            smallest_eigenvalue=smallest,
            zeta2=1.0,
            **given,
        )
    else:
        return np.full(steps + 1, np.nan)
    return bound.curve(np.arange(steps + 1))


def _draw(frame: pd.DataFrame) -> Figure:
    looks: dict[str, dict[str, Any]] = {
        "bound": {"color": "#444444", "linestyle": (0, (1, 1.6)), "linewidth": 2.4},
        "quadratics": {"color": "#999999", "linewidth": 1.1},
        "distance": {"color": "black", "linewidth": 1.3, "marker": "o", "markersize": 3.5},
        "due_to_zeta2": {"color": "black", "linewidth": 1.1, "linestyle": (0, (4, 2))},
    }
    names = {
        "distance": "worst case over convex functions",
        "due_to_zeta2": r"what $\zeta^2$ adds to it",
        "quadratics": r"rate on quadratics, $\rho^{2t}$",
        "bound": "theorem with proved constants",
    }
    with plots.style():
        figure = Figure(figsize=(8, 4.9), layout="constrained")
        axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
        for ax, method in zip(axes, METHODS, strict=True):
            rows = frame[frame.method == method.label]
            for column, look in looks.items():
                shown = rows[column].where(rows[column] > 1e-4)
                ax.plot(rows.step, shown, **look)
            ax.set_title(method.label, fontsize=9)
            plots.style_axes(
                ax, "step" if ax in axes[3:] else "", "distance" if ax in axes[::3] else ""
            )
        axes[0].set_ylim(3e-3, 10)
        lines = [Line2D([], [], **looks[column]) for column in names]
        figure.legend(
            lines, list(names.values()), loc="outside lower center", ncols=2, fontsize="small"
        )
    return figure
