"""Where methods end on a directed graph: at x*, near it, or at the optimum of other weights."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relaysim import algorithms, mixing, plots, problems, theory, topologies
from relaysim.algorithms.base import Method
from relaysim.engine import simulate
from relaysim.figures.result import Result
from relaysim.mixing.sequences import preserved_weights

__all__ = ["one_way_links"]

N, FURTHER = 16, ((0, 8), (2, 14), (5, 1))
METHODS = (
    algorithms.DPSGD(),
    algorithms.SGP(rounds=1, network="topology"),
    algorithms.PushDIGing(),
    algorithms.PushPull(),
)
LEARNING_RATE = 0.05


def one_way_links(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Gossip, push-sum, push-DIGing and push-pull on a directed ring with three links more.

    n = 16 workers, d = 5, Hessian eigenvalues in [0.25, 1], ζ² = 1, no noise. Gossip averages with rows that
    sum to 1, the equal weights of what each worker hears; the others share out by columns. As γ → 0 gossip
    ends at x_π = argmin Σ_i π_i f_i, π the left eigenvector of its matrix, and push-sum at x*.

    Args:
        quick: fewer learning rates and steps.
        seed: of the random problem.
        n_jobs: not used; all is done in a second.

    Source: Assran et al., ICML 2019; Nedić, Olshevsky, Shi, 2017; Pu, Shi, Xu, Nedić, 2021; the limit of
    gossip is derived here, and checked by a test.
    """
    ring = topologies.directed_ring(N).edges.tolist()
    topology = topologies.from_edges(N, [*ring, *FURTHER], directed=True)
    problem = problems.random_quadratics(n=N, d=5, zeta2=1.0, mu=0.25, seed=seed)
    weights = preserved_weights([mixing.row_stochastic(topology)])
    assert weights is not None, "one matrix has an eigenvector"
    biased = float(np.sum((_optimum_of(problem, weights) - problem.optimum) ** 2))
    steps = 200 if quick else 700
    rates = np.geomspace(1e-4, 0.1, 4 if quick else 13)
    parts = [pd.DataFrame({"panel": "graph", "worker": range(N), "weight": N * weights})]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="DPSGD on one-way links", category=UserWarning)
        for method in METHODS:
            run = simulate(problem, topology, method, learning_rate=LEARNING_RATE, steps=steps)
            curve = run.frame[["step", "learning_rate", "distance"]]
            parts.append(curve.assign(panel="curves", method=method.label))
            if not method.exact:
                ends = [_plateau(problem, topology, method, rate) for rate in rates]
                found = pd.DataFrame({"learning_rate": rates, "distance": ends})
                parts.append(found.assign(panel="plateaus", method=method.label))
    parts.append(pd.DataFrame({"panel": ["limit"], "distance": [biased]}))
    frame = pd.concat(parts, ignore_index=True)
    caption = (
        f"A directed ring of {N} workers with three links more, d = 5, Hessian eigenvalues in [0.25, 1], "
        f"ζ² = 1, random problem {seed}. Left: n π_i, how much the data of worker i count for gossip with "
        f"rows that sum to 1, 1 being its share. Middle: (1/n) Σ ‖x_i − x*‖² against steps at γ = "
        f"{LEARNING_RATE}. Right: where gossip and push-sum (SGP) stall, by γ, from the exact map. Dashed: "
        f"‖x_π − x*‖² = {biased:.3g}, x_π = argmin Σ π_i f_i."
    )
    return Result(_draw(frame, topology), frame, caption)


def _optimum_of(problem: problems.LeastSquares, weights: np.ndarray) -> np.ndarray:
    """argmin Σ_i π_i f_i."""
    A, b = problem.A, problem.b
    hessian = np.einsum("i,imd,ime->de", weights, A, A)
    return np.linalg.solve(hessian, np.einsum("i,imd,im->d", weights, A, b))


def _plateau(
    problem: problems.LeastSquares, topology: topologies.Topology, method: Method, rate: float
) -> float:
    return float(theory.linearize(problem, topology, method, rate).plateau().distance)


def _draw(frame: pd.DataFrame, topology: topologies.Topology) -> Figure:
    biased = float(frame[frame.panel == "limit"].distance.iloc[0])
    with plots.style():
        figure = Figure(figsize=(10.4, 3.3), layout="constrained")
        graph, curves, plateaus = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
        weights = frame[frame.panel == "graph"].weight.to_numpy()
        plots.draw_topology(topology, ax=graph, values=weights, value_label=r"$n\,\pi_i$")
        for panel, ax, x in (("curves", curves, "step"), ("plateaus", plateaus, "learning_rate")):
            part = frame[frame.panel == panel]
            for label, own in part.groupby("method", sort=False):
                ax.plot(own[x], own.distance, label=label, **plots.method_style(str(label)))
            limit: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": "--"}
            ax.axhline(biased, zorder=1, label=r"$\Vert x_\pi-x^\star\Vert^2$", **limit)
            ax.set_yscale("log")
        curves.set_xlabel("Steps")
        curves.set_ylabel(r"$\frac{1}{n}\sum_i\Vert x_i-x^\star\Vert^2$")
        curves.set_title(rf"$\gamma$ = {LEARNING_RATE}")
        plateaus.set_xscale("log")
        plateaus.set_xlabel(r"Learning rate $\gamma$")
        plateaus.set_title("Where they stall")
        figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure
