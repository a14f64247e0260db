"""Figures 5 and 6 of the RelaySum paper: what its theory says of trees, beside what one measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relaysim import plots, theory, topologies
from relaysim.algorithms import RelaySGD
from relaysim.engine import simulate
from relaysim.figures.published import CORRECTION_FACTOR, KEY_LEMMA
from relaysim.figures.result import Result
from relaysim.support.progress import progress_bar
from relaysim.topologies import Topology

__all__ = ["key_lemma", "learning_rate_correction"]

TREES = {
    "binary_tree": ("Binary tree", "#0072B2", "-", "o"),
    "chain": ("Chain", "#E69F00", (0, (5, 2)), "s"),
    "star": ("Star", "#009E73", (0, (1, 1.2)), "^"),
}


def key_lemma(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """The smallest m/p that satisfies the key lemma, against n, for tree, chain and star (figure 5).

    ‖W^m − 1πᵀ‖² ≤ (1 − p)^{2m} ‖W − 1πᵀ‖² for the relay matrix W with hop delays, m up to 99.

    Args:
        quick: up to 8 workers.
        seed, n_jobs: not used; nothing here is random or long.

    Source: Vogels et al., NeurIPS 2021, Lemma 1 and figure 5.
    """
    sizes = [2, 3, 4, 6, 8] if quick else [2, 3, 4, 6, 8, 12, 16, 24, 32]
    rows = []
    with progress_bar(len(TREES) * len(sizes), None, "key-lemma", "trees") as bar:
        for name in TREES:
            for n in sizes:
                m, p = theory.key_lemma(getattr(topologies, name)(n))
                known = KEY_LEMMA[name].get(n)
                rows.append((name, n, m, p, m / p, known))
                bar.update()
    frame = pd.DataFrame(
        rows, columns=["topology", "n", "m", "p", "m_over_p", "published_m_over_p"]
    )
    with plots.style():
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        ax = figure.subplots()
        for name, (label, color, dash, marker) in TREES.items():
            line = frame[frame.topology == name]
            ax.plot(
                line.n,
                line.m_over_p,
                color=color,
                linestyle=dash,
                marker=marker,
                markersize=4,
                label=label,
            )
            ax.plot(line.n, line.published_m_over_p, "x", color="black", markersize=7, zorder=4)
        ax.plot([], [], "x", color="black", label="published")
        ax.set_xlabel("Number of workers n")
        ax.set_ylabel("Smallest $m/p$ that satisfies the key lemma")
        ax.legend()
    caption = (
        "The smallest m/p such that ‖W^m − 1πᵀ‖² ≤ (1 − p)^{2m} ‖W − 1πᵀ‖², m ≤ 99, for the relay "
        "matrix W with hop delays (those of overlapping communication). Crosses: published "
        "values. "
        "After Vogels et al., NeurIPS 2021, figure 5."
    )
    return Result(figure, frame, caption)


def learning_rate_correction(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """By how much delays shrink RelaySGD's steps: measured, 1 + τ̄, and τ_max/2 (figure 6).

    Measured by an impulse: from 0, every worker sees the gradient −1 in the first step and 0 after
    it; the factor is 1 over the value on which all agree.

    Args:
        quick: up to 10 workers.
        seed, n_jobs: not used; nothing here is random or long.

    Source: Vogels et al., NeurIPS 2021, figure 6; the closed form is `relaysim.theory.correction_factor`.
    """
    sizes = [2, 4, 8, 10] if quick else [2, 4, 5, 8, 10, 16, 20, 30, 40, 50, 60, 70, 80]
    rows = []
    with progress_bar(len(TREES) * len(sizes), None, "learning-rate-correction", "trees") as bar:
        for name in TREES:
            for n in sizes:
                topology = getattr(topologies, name)(n)
                rows.append(
                    (
                        name,
                        n,
                        _measured_correction(topology),
                        theory.correction_factor(topology),
                        topology.diameter / 2,
                        CORRECTION_FACTOR[name].get(n),
                    )
                )
                bar.update()
    frame = pd.DataFrame(
        rows,
        columns=["topology", "n", "measured", "closed_form", "half_diameter", "published"],
    )
    with plots.style():
        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        ax = figure.subplots()
        for name, (label, color, _, marker) in TREES.items():
            line = frame[frame.topology == name]
            ax.plot(line.n, line.closed_form, color=color)
            ax.plot(line.n, line.measured, marker, color=color, fillstyle="none", markersize=5)
            look: dict[str, Any] = {"color": color, "marker": marker, "fillstyle": "none"}
            ax.plot(
                [], [], **look, markersize=5, label=f"{label}: $1 + \\bar{{\\tau}}$, and measured"
            )
            half: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2, "markersize": 3}
            ax.plot(line.n, line.half_diameter, marker, color=color, **half)
            ax.plot(line.n, line.published, "x", color="black", markersize=5, zorder=4)
        half |= {"color": "#555555", "marker": ""}
        ax.plot([], [], **half, label=r"half the diameter, $\tau_{\max}/2$")
        ax.plot([], [], "x", color="black", label="published")
        ax.set_xlabel("Number of workers n")
        ax.set_ylabel("Learning-rate correction factor")
        ax.legend(fontsize="small")
    caption = (
        "The factor by which delays shrink RelaySGD's effective learning rate: 1 + τ̄, with τ̄ "
        "the mean "
        "delay over all pairs of workers (lines), the same measured by an impulse (open "
        "marks), and "
        "half the diameter (dashed), which for more than a few workers is too large on chains "
        "and too "
        "small on binary trees and stars. Crosses: published values. After Vogels et al., "
        "NeurIPS 2021, figure 6."
    )
    return Result(figure, frame, caption)


class _Impulse:
    """A gradient of −1 at 0 where the first step starts, and of 0 ever after."""

    d = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self.seen = False

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """−1 when first asked, 0 afterwards."""
        found = np.zeros_like(x) if self.seen else -np.ones_like(x)
        self.seen = True
        return found

    def mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """Of no meaning here; asked for by records."""
        return np.zeros_like(x)

    def value(self, x: np.ndarray) -> float:
        """Of no meaning here."""
        return 0.0


def _measured_correction(topology: Topology) -> float:
    rate = 1.0
    rest = 60 * topology.n
    history = simulate(
        _Impulse(topology.n),
        topology,
        RelaySGD(),
        learning_rate=rate,
        steps=rest,
        record=[rest],
        progress=False,
    )
    return float(1 / history.x.mean())
