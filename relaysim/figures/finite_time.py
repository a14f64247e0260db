"""Mixing matrices that average exactly after finitely many rounds, beside those that only converge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.sparse import csr_array

from relaysim import mixing, plots, topologies
from relaysim.algorithms import DPSGD
from relaysim.engine import simulate
from relaysim.figures.result import Result
from relaysim.problems import DiagonalQuadratic
from relaysim.support.progress import progress_bar

__all__ = ["finite_time"]

#: Name, how it is made from n (None where it cannot), colour, dash, marker.
LINES = {
    "ring": (lambda n: mixing.metropolis(topologies.ring(n)), "#999999", "-", None),
    "exponential": (
        lambda n: mixing.metropolis(topologies.exponential(n)),
        "#555555",
        (0, (4, 2)),
        None,
    ),
    "one-peer exponential": (mixing.one_peer_exponential, "#56B4E9", (0, (3, 3)), "s"),
    "1-peer hyper-hypercube": (lambda n: _hypercube(n, 1), "#009E73", (0, (1, 1)), "v"),
    "4-peer hyper-hypercube": (lambda n: _hypercube(n, 4), "#66A61E", (0, (5, 1, 1, 1)), "^"),
    "simple base-2": (lambda n: mixing.simple_base_graph(n, 1), "#E69F00", (0, (6, 2)), "D"),
    "base-2": (lambda n: mixing.base_graph(n, 1), "#D55E00", "-", "o"),
    "base-5": (lambda n: mixing.base_graph(n, 4), "#CC79A7", (0, (2, 1)), "P"),
}
# Exact averages are drawn here, whatever rounding leaves.
LOWEST = 1e-18


def finite_time(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Consensus distance against rounds for sequences that average exactly, and for others.

    Plain averaging without gradients from a random start, d = 10, for n = 32, 24 and 33: where n is a power
    of two one-peer exponential graphs average exactly after log₂ n rounds, base-(k + 1) graphs do for every
    n.

    Args:
        quick: n = 8, 9 and 11.
        seed: of the start.
        n_jobs: not used.

    Source: Takezawa, Sato, Bao, Niwa, Yamada, "Beyond exponential graph", NeurIPS 2023.
    """
    sizes = (8, 9, 11) if quick else (32, 24, 33)
    rounds = 12 if quick else 20
    rows = []
    with progress_bar(len(sizes) * len(LINES), None, "finite-time", "sequences") as bar:
        for n in sizes:
            problem = DiagonalQuadratic(np.ones((n, 10)), np.zeros((n, 10)))
            x0 = np.random.default_rng([seed, n]).normal(size=(n, 10))
            for name, (make, *_) in LINES.items():
                bar.update()
                matrices = make(n)
                if matrices is None:
                    continue
                history = simulate(
                    problem,
                    topologies.complete(n),
                    DPSGD(),
                    learning_rate=0.0,
                    steps=rounds,
                    x0=x0,
                    mixing=matrices,
                    progress=False,
                )
                part = history.frame[["step", "consensus_distance", "vectors_sent"]]
                length = len(matrices) if isinstance(matrices, tuple) else 1
                rows.append(part.assign(n=n, sequence=name, length=length))
    frame = pd.concat(rows, ignore_index=True)
    caption = (
        "Consensus distance under averaging without gradients from a random start, d = 10. Sequences with "
        "marks repeat; those that average exactly for this n end at the bottom when their length is reached. "
        "base-(k + 1): each worker has at most k partners a round; a hyper-hypercube needs an n whose prime "
        "factors are at most k + 1. After Takezawa et al., NeurIPS 2023."
    )
    return Result(_draw(frame, sizes), frame, caption)


def _hypercube(n: int, k: int) -> tuple[csr_array, ...] | None:
    try:
        return mixing.hyper_hypercube(n, k)
    except ValueError:
        return None


def _draw(frame: pd.DataFrame, sizes: Sequence[int]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 3.4), layout="constrained")
        axes = figure.subplots(1, len(sizes), sharey=True)
        drawn = {}
        for ax, n in zip(axes, sizes, strict=True):
            for name, (_, color, dash, marker) in LINES.items():
                line = frame[(frame.n == n) & (frame.sequence == name)]
                if not len(line):
                    continue
                shown = np.maximum(line.consensus_distance.to_numpy(), LOWEST)
                exact = np.flatnonzero(shown == LOWEST)
                until = exact[0] + 1 if len(exact) else len(shown)
                (drawn[name],) = ax.plot(
                    line.step[:until],
                    shown[:until],
                    color=color,
                    linestyle=dash,
                    marker=marker,
                    # Those that coincide lie within each other.
                    markersize=10 - list(LINES).index(name),
                    fillstyle="none",
                    linewidth=1.5,
                )
            ax.set_title(f"n = {n}")
            plots.style_axes(ax, "step", "consensus_distance" if ax is axes[0] else "")
            ax.set_xlabel("Rounds")
        axes[0].set_ylim(LOWEST / 10, 30)
        figure.legend(drawn.values(), drawn.keys(), loc="outside right center", fontsize="small")
    return figure
