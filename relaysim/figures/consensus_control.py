"""When agreement matters: gossip held to a consensus distance in some phase of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relaysim import plots, problems, topologies
from relaysim.algorithms import DPSGD, ConsensusControl, Critical
from relaysim.algorithms.base import Method
from relaysim.engine import simulate
from relaysim.figures.result import Result
from relaysim.oracles import Gaussian
from relaysim.support.progress import progress_bar

__all__ = ["consensus_control"]

SIGMA2 = 0.1
SHARE = 1 / 64
# Gossip, and controls of it, whose shades of the method's colour go from dark to pale.
LINES: dict[str, tuple[str, Any]] = {
    "uncontrolled": (plots.method_style("DP-SGD (gossip)")["color"], "-"),
    "all the time": ("#0c1f1b", (0, (6, 2))),
    "first third": ("#1f4d45", (0, (4, 1.5, 1, 1.5))),
    "second third": (plots.method_style("Consensus control")["color"], (0, (3, 2))),
    "last third": ("#7ccfc1", (0, (1, 1))),
    "critical": ("#2f7a6d", (0, (8, 2, 2, 2))),
}


def consensus_control(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Consensus distance, suboptimality and rounds of gossip held to a consensus distance, by phase.

    DP-SGD on a ring with noisy gradients at a rate that falls in two steps; after each step mixing goes on
    until Ξ² is 1/64 of the largest of the uncontrolled run, in all of the run or in a third of it, or the
    critical distance of Kong et al.

    Args:
        quick: 8 workers, 90 steps, 8 seeds.
        seed: of the random problem.
        n_jobs: not used.

    Source: Kong, Lin, Koloskova, Jaggi, Stich, "Consensus control for decentralized deep learning", ICML
    2021, whose figures are of neural networks.
    """
    n, steps, replicas = (8, 90, 8) if quick else (32, 600, 40)
    problem = problems.random_quadratics(n=n, d=10, zeta2=1.0, mu=0.1, seed=seed)
    topology, third = topologies.ring(n), steps // 3
    rates = (0.2, 0.05, 0.0125)

    def rate(step: int) -> float:
        return rates[min(step // third, 2)]

    def run(algorithm: Method, name: str) -> pd.DataFrame:
        history = simulate(
            problem,
            topology,
            algorithm,
            learning_rate=rate,
            steps=steps,
            oracle=Gaussian(SIGMA2),
            replicas=replicas,
            progress=False,
        )
        columns = ["replica", "step", "suboptimality", "consensus_distance", "vectors_sent"]
        frame = history.frame[columns].assign(control=name)
        return frame.assign(rounds=frame.vectors_sent / (2 * n))

    with progress_bar(len(LINES), None, "consensus-control", "runs") as bar:
        parts = [run(DPSGD(), "uncontrolled")]
        bar.update()
        target = SHARE * parts[0].groupby("step").consensus_distance.median().max()
        free = math.inf
        targets = {
            "all the time": target,
            "first third": ((0, target), (third, free)),
            "second third": ((0, free), (third, target), (2 * third, free)),
            "last third": ((0, free), (2 * third, target)),
            "critical": Critical(problem.smoothness, SIGMA2),
        }
        for name, each in targets.items():
            parts.append(run(ConsensusControl(DPSGD(), each), name))
            bar.update()
    frame = pd.concat(parts, ignore_index=True)
    caption = (
        f"DP-SGD on a ring of {n}, ζ² = 1, σ² = {SIGMA2:g}, learning rate {rates[0]:g}, then {rates[1]:g}, "
        f"then {rates[2]:g}; median of {replicas} seeds. After each step workers mix until Ξ² is at most "
        f"{target:.3g}, 1/64 of the largest of the uncontrolled run (dashed), in the phases named, or the "
        "critical distance γσ²/(Ln) + ‖∇f‖²/(8L²). Right: rounds of mixing in all, and the suboptimality at "
        "the end relative to the uncontrolled run. After Kong et al., ICML 2021."
    )
    return Result(_draw(frame, target, third), frame, caption)


def _draw(frame: pd.DataFrame, target: float, third: int) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 3.5), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.1, 0.9))
        for name, (color, dash) in LINES.items():
            part = frame[frame.control == name]
            for ax, column in ((left, "consensus_distance"), (middle, "suboptimality")):
                medians = part.groupby("step")[column].median()
                shown = medians.where(medians > 0)
                ax.plot(
                    medians.index, shown, color=color, linestyle=dash, linewidth=1.4, label=name
                )
        for ax, column in ((left, "consensus_distance"), (middle, "suboptimality")):
            plots.style_axes(ax, "step", column)
            for border in (third, 2 * third):
                fall = ax.axvline(border, color="#999999", linewidth=0.8, zorder=1)
        held = left.axhline(target, color="#777777", linestyle="--", linewidth=1, zorder=1)
        last = frame[frame.step == frame.step.max()].groupby("control")
        rounds, ends = last.rounds.median(), last.suboptimality.median()
        places = np.arange(len(LINES))
        names = list(LINES)
        right.barh(
            places,
            rounds[names],
            color=[color for color, _ in LINES.values()],
            height=0.55,
        )
        for place, name in zip(places, names, strict=True):
            label = f" {rounds[name]:.0f} rounds, × {ends[name] / ends['uncontrolled']:.2f}"
            right.text(rounds[name], place, label, va="center", fontsize="small")
        right.set_yticks(places, names)
        right.invert_yaxis()
        right.set_xlim(0, 2.3 * rounds.max())
        right.xaxis.set_major_locator(MaxNLocator(3))
        right.set_xlabel("Rounds of mixing")
        right.grid(axis="y", visible=False)
        handles, labels = left.get_legend_handles_labels()
        labels += ["distance held to", "the rate falls"]
        figure.legend([*handles, held, fall], labels, loc="outside lower center", ncols=4)
    return figure
