"""Asynchronous methods against time on three graphs, with their exact curves and rates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relaysim import plots, problems, topologies
from relaysim.algorithms import A2CiD2, SwarmSGD
from relaysim.engine import simulate
from relaysim.figures.result import Result
from relaysim.problems import DiagonalQuadratic
from relaysim.support.progress import progress_bar
from relaysim.theory import acceleration_constants, asynchronous_consensus, asynchronous_decay
from relaysim.topologies import Topology

__all__ = ["asynchrony"]

METHODS = (A2CiD2(), A2CiD2(accelerated=False), SwarmSGD())
LEARNING_RATE = 0.1
CHI, CHIS = r"$e^{-t/\chi_1}$", r"$e^{-t/\sqrt{\chi_1\chi_2}}$"
ZETA2 = 1.0


def asynchrony(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """A²CiD², its baseline and SwarmSGD against time on a ring, an exponential and a complete graph.

    Above, consensus distance without gradients from a random start, with the exact expectation and the
    rates 1/χ₁ and 1/√(χ₁χ₂) that the theory goes by; below, all three on heterogeneous quadratics at the
    same learning rate. All methods have one meeting of each worker a unit of time.

    Args:
        quick: 8 workers and few seeds.
        seed: of the start and of the problem.
        n_jobs: not used.

    Source: Nabli, Belilovsky, Oyallon, "A²CiD²", NeurIPS 2023; Nadiradze et al., "Asynchronous
    decentralized SGD with quantized and local updates", NeurIPS 2021.
    """
    n, replicas, steps = (8, 40, 40) if quick else (16, 1000, 60)
    graphs = {
        "ring": topologies.ring(n),
        "exponential": topologies.exponential(n),
        "complete": topologies.complete(n),
    }
    start = np.random.default_rng(seed).normal(size=(n, 4))
    still = DiagonalQuadratic(np.ones((n, 4)), np.zeros((n, 4)))
    problem = problems.random_quadratics(n=n, d=10, zeta2=ZETA2, mu=0.25, seed=seed)
    parts = []
    with progress_bar(len(graphs) * len(METHODS), None, "asynchrony", "curves") as bar:
        for name, topology in graphs.items():
            chi1, chi2 = acceleration_constants(topology)
            for method in METHODS:
                gossip = simulate(
                    still, topology, method, learning_rate=0.0, steps=steps, x0=start,
                    replicas=replicas, seed=seed, progress=False,
                ).frame  # fmt: skip
                means = gossip.groupby("step").consensus_distance.mean().reset_index()
                exact = np.full(steps + 1, np.nan)
                if method.rule(topology).meetings.poisson:
                    exact = asynchronous_consensus(topology, method, start, range(steps + 1))
                parts.append(
                    means.assign(
                        experiment="consensus",
                        topology=name,
                        method=method.label,
                        exact=exact,
                        decay=asynchronous_decay(topology, method),
                        chi1=chi1,
                        chi2=chi2,
                    )
                )
                descent = simulate(
                    problem, topology, method, learning_rate=LEARNING_RATE, steps=2 * steps,
                    replicas=max(replicas // 20, 20), seed=seed, progress=False,
                ).frame  # fmt: skip
                means = descent.groupby("step")[["distance", "consensus_distance"]].mean()
                parts.append(
                    means.reset_index().assign(
                        experiment="descent", topology=name, method=method.label
                    )
                )
                bar.update()
    frame = pd.concat(parts, ignore_index=True)
    caption = (
        f"{n} workers, one meeting of each a unit of time. Above: consensus distance under averaging without "
        f"gradients, mean of {replicas} runs (colours), the exact expectation for A²CiD² and AD-PSGD (thin "
        "black), and decays exp(−t/χ₁) and exp(−t/√(χ₁χ₂)) (grey, dotted and dash-dotted), the times that "
        "the theory goes by without and with momentum: on a ring they are far apart, on a complete graph "
        "equal. They are times, not bounds: the baseline decays at κ, 1/(2χ₁) ≤ κ ≤ 1/χ₁. "
        "Below: distance to the optimum on random quadratics with ζ² = "
        f"{ZETA2:g} at the learning rate {LEARNING_RATE:g} for all, mean of {max(replicas // 20, 20)} runs; "
        "none is exact at a constant rate. After Nabli et al., NeurIPS 2023."
    )
    return Result(_draw(frame, graphs), frame, caption)


def _draw(frame: pd.DataFrame, graphs: Mapping[str, Topology]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 6.0), layout="constrained")
        axes = figure.subplots(2, len(graphs), sharey="row")
        for column, name in enumerate(graphs):
            above, below = axes[:, column]
            part = frame[frame.topology == name]
            gossip = part[part.experiment == "consensus"]
            for method, line in gossip.groupby("method", sort=False):
                look = plots.method_style(str(method))
                above.plot(line.step, line.consensus_distance, label=method, linewidth=2.4, **look)
                exact = {"label": "exact expectation"} if method == METHODS[0].label else {}
                above.plot(line.step, line.exact, color="black", linewidth=0.7, **exact)
            chi1, chi2 = gossip.chi1.iloc[0], gossip.chi2.iloc[0]
            first = gossip.consensus_distance.iloc[0]
            together = math.sqrt(chi1 * chi2)
            time = gossip.step.unique()
            for scale, dash, said in ((chi1, ":", CHI), (together, "-.", CHIS)):
                decay = first * np.exp(-time / scale)
                above.plot(time, decay, color="#888888", ls=dash, lw=1.2, label=said)
            above.set_title(
                rf"{name}: $\chi_1$ = {chi1:.3g}, $\sqrt{{\chi_1\chi_2}}$ = {together:.3g}"
            )
            for method, line in part[part.experiment == "descent"].groupby("method", sort=False):
                below.plot(line.step, line.distance, **plots.method_style(str(method)))
            plots.style_axes(above, "", "consensus_distance" if column == 0 else "")
            plots.style_axes(below, "", "distance" if column == 0 else "")
            below.set_xlabel("Time (gradients of a worker)")
        smallest = frame[frame.experiment == "consensus"].consensus_distance
        axes[0, 0].set_ylim(max(smallest[smallest > 0].min(), 1e-8), 3 * smallest.max())
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS)
        )
    return figure
