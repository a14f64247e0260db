"""Figure 3 of the RelaySum paper: a social network, and its spanning trees."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from relaysim import algorithms, plots, problems, topologies
from relaysim.figures.result import Result
from relaysim.studies.sweeps import sweep
from relaysim.studies.tuning import tune

__all__ = ["spanning_trees"]

SIGMA2 = 0.1**2
# How far the axes go.
STEPS, VECTORS = 490, 79_000


def spanning_trees(quick: bool = False, seed: int = 1, n_jobs: int = 1) -> Result:
    """Gossip and exact diffusion on a social network, RelaySGD on its 32 spanning trees (figure 3).

    The Davis southern-women graph and the breadth-first trees from each worker; d = 10, ζ² = 0.1,
    σ = 0.1. RelaySGD at γ = 0.3, exact diffusion (the paper's "D²") at 0.1, gossip at its rate for a
    plateau of 5e-6 without noise (1e-5 in the paper's units), divided by 1.1.

    Args:
        quick: four of the trees.
        seed: of the random problem.
        n_jobs: processes.

    Source: Vogels et al., NeurIPS 2021, figure 3.
    """
    network = topologies.social_network()
    roots = range(4) if quick else range(network.n)
    problem_settings = {"d": 10, "zeta2": 0.1, "mu": None, "problem_seed": seed}
    problem = problems.random_quadratics(network.n, 10, zeta2=0.1, mu=None, seed=seed)
    tuned = tune(
        problem,
        network,
        algorithms.DPSGD(),
        target=5e-6,
        criterion="plateau",
        max_steps=20_000,
        progress=False,
    )
    cases = [
        {
            "algorithm": algorithms.DPSGD(),
            "topology": "social_network",
            "learning_rate": tuned.learning_rate / 1.1,
        },
        {
            "algorithm": algorithms.ExactDiffusion(),
            "topology": "social_network",
            "learning_rate": 0.1,
        },
    ]
    cases = [case | {"steps": 500} for case in cases]
    cases += [
        {
            "algorithm": algorithms.RelaySGD(),
            "topology": topologies.spanning_tree(network, root),
            "learning_rate": 0.3,
            "steps": 1500,
        }
        for root in roots
    ]
    frame = sweep(problem_settings | {"sigma2": SIGMA2, "record": 5, "cases": cases}, n_jobs=n_jobs)
    labels = {
        type(algorithm).__name__: algorithm.label
        for algorithm in (algorithms.DPSGD(), algorithms.ExactDiffusion(), algorithms.RelaySGD())
    }
    frame["method"] = [labels[name] for name in frame.algorithm]
    caption = (
        f"Suboptimality f(x̄) − f(x*) against steps and against vectors sent, on the Davis "
        f"southern-women graph (32 workers, 89 edges; 178 vectors a step) and {len(roots)} of its "
        "breadth-first spanning trees (62 vectors a step); ζ² = 0.1, σ = 0.1, random problem "
        f"{seed}. "
        f"Gossip at γ = {tuned.learning_rate / 1.1:.3g}, exact diffusion at 0.1, RelaySGD at 0.3. "
        f"After Vogels et al., NeurIPS 2021, figure 3."
    )
    return Result(_draw(frame, list(labels.values())), frame, caption)


def _draw(frame: pd.DataFrame, labels: list[str]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(8.2, 3.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, x in zip(axes, ("step", "vectors_sent"), strict=True):
            for label in reversed(labels):
                part = frame[frame.method == label]
                trees = max(part.root.nunique(), 1)
                place = "32 spanning trees" if trees == 32 else f"{trees} spanning trees"
                name = f"{label} on {place if label == 'RelaySGD' else 'the full network'}"
                look = plots.method_style(label) | (
                    {"linewidth": 0.8, "alpha": 0.5} if trees > 1 else {"linewidth": 2.2}
                )
                for k, (_, line) in enumerate(part.groupby("root", dropna=False)):
                    ax.plot(line[x], line.suboptimality, **look, label=None if k else name)
            plots.style_axes(ax, x, "suboptimality" if x == "step" else "")
        seen = frame[(frame.step <= STEPS) | (frame.vectors_sent <= VECTORS)].suboptimality
        axes[0].set_xlim(0, STEPS)
        axes[0].set_ylim(0.7 * seen[seen > 0].min(), 1)
        axes[0].xaxis.set_major_locator(MultipleLocator(100))
        axes[1].set_xlim(0, VECTORS)
        axes[1].xaxis.set_major_locator(MultipleLocator(20_000))
        axes[1].xaxis.set_major_formatter(FuncFormatter(lambda sent, _: f"{sent / 1000:.0f}"))
        axes[1].set_xlabel("Thousands of vectors sent by all workers")
        axes[0].legend(*axes[0].get_legend_handles_labels(), fontsize="small", loc="upper right")
    return figure
