"""How far apart gossip leaves its workers: what a bound in the spectral gap says, and what happens."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relaysim import mixing, plots, topologies
from relaysim.algorithms import DPSGD
from relaysim.engine import simulate
from relaysim.figures.result import Result, rows_of
from relaysim.oracles import Gaussian
from relaysim.plots.ticks import log_ticks
from relaysim.records.history import History
from relaysim.support.progress import progress_bar

__all__ = ["exact_distances", "typical_distance"]

# Coordinates do not meet: each is a draw of its own.
COORDINATES = 128
# By kind: panel, colour, dash, marker and what it is called.
KINDS = {
    "noise": (0, "#0072B2", "-", "o", "independent noise"),
    "random placement": (1, "#009E73", "-", "s", "gradients placed at random"),
    "worst placement": (1, "#D55E00", (0, (6, 2)), "D", "slowest mode (Fiedler vector)"),
}


class _Linear:
    """f_i(x) = ⟨g_i, x⟩: gradients that are the same everywhere."""

    def __init__(self, gradients: np.ndarray):
        self.gradients = gradients
        self.n, self.d = gradients.shape

    def gradient(self, x: np.ndarray) -> np.ndarray:
        each = self.gradients.reshape(self.gradients.shape + (1,) * (x.ndim - 2))
        return np.broadcast_to(each, x.shape).copy()

    def value(self, x: np.ndarray) -> np.ndarray:
        return self.gradients.mean(axis=0) @ x


def typical_distance(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Consensus distance of gossip in a steady state against the gap p, beside a bound: their exponents.

    X ← W(X − γG) on rings with Metropolis weights, without curvature: G is noise, or differs between workers
    at random or as W forgets it most slowly. p = 1 − λ₂². Exact sums over the modes of W, simulations, the
    bound that has p alone, and tori beside the rings.

    Args:
        quick: rings of 8, 16 and 32 instead of 32 to 256.
        seed: of noise and placements.
        n_jobs: not used.

    Source: Kong, Lin, Koloskova, Jaggi, Stich, "Consensus control for decentralized deep learning", ICML
    2021, for Ξ² = O(γ²(φ²/p² + σ²/p)); sums, constants and exponents are derived here.
    """
    sizes = (8, 16, 32) if quick else (32, 64, 128, 256)
    sides = (3, 4, 6) if quick else (6, 8, 11, 16, 23)
    rings = [topologies.ring(n) for n in sizes]
    graphs = [*rings, *[topologies.torus(side, side) for side in sides]]
    rows = []
    with progress_bar(len(graphs), None, "typical-distance", "graphs") as bar:
        for graph in graphs:
            rows += _rows(graph, seed if graph in rings else None)
            bar.update()
    frame = pd.DataFrame(rows)
    of_family = {
        each: np.polyfit(np.log(part.p), np.log(part.exact), 1)[0]
        for each, part in frame.groupby(["family", "kind"])
    }
    frame["exponent"] = [of_family[row.family, row.kind] for row in rows_of(frame)]
    exponents = {kind: of_family["ring", kind] for kind in KINDS}
    noise, random, worst = (f"{exponents[kind]:.2f}".replace("-", "−") for kind in KINDS)
    caption = (
        "Consensus distance Ξ² of X ← W(X − γG) in its steady state, Metropolis weights, gradients that do "
        f"not depend on X, against p = 1 − λ₂²: thick, rings of {', '.join(map(str, sizes))}; thin, square "
        f"tori of {', '.join(f'{side}²' for side in sides)}. Lines are exact, from the eigenvalues of W; "
        f"marks are simulations in {COORDINATES} coordinates. Left: noise of variance σ² at each worker. "
        "Right: gradients with φ² = (1/n)Σ‖g_i‖² and mean 0. Dashed black: what p alone allows, "
        "Ξ² ≤ γ²σ²(1 − p)/p and Ξ² ≤ γ²φ²(1 − p)/(1 − √(1 − p))², derived here; Kong et al. have "
        "γ²(φ²/p² + σ²/p) up to "
        f"constants. Exponents of p on the rings: noise {noise} instead of −1, gradients at random {random} "
        f"instead of −2, at their worst {worst}, where the bound is met. Most modes of a ring forget much "
        "faster than the slowest, and the bound takes all of them for it. After Kong et al., ICML 2021."
    )
    return Result(_draw(frame, exponents), frame, caption)


def exact_distances(W: np.ndarray) -> dict[str, float]:
    """Ξ² in the steady state of X ← W(X − G) by kind, and p, of a symmetric W ``(n, n)``; σ² = φ² = 1.

    A mode with eigenvalue λ is left λ²/(1 − λ²) of independent noise and (λ/(1 − λ))² of a G that stays.

    >>> exact = exact_distances(np.full((2, 2), 0.5) + 0.25 * np.array([[1, -1], [-1, 1]]))
    >>> {kind: round(value, 4) for kind, value in exact.items()}
    {'p': 0.75, 'noise': 0.1667, 'random placement': 1.0, 'worst placement': 1.0}
    """
    n = len(W)
    # The mode of the mean has λ = 0 in this and adds nothing to any sum.
    values = np.linalg.eigvalsh(W - 1 / n)
    squares, still = values**2, (values / (1 - values)) ** 2
    return {
        "p": float(1 - squares.max()),
        # Noise of single workers excites all modes alike; gradients of mean 0, on average, all others.
        "noise": float((squares / (1 - squares)).sum() / n),
        "random placement": float(still.sum() / (n - 1)),
        "worst placement": float(still.max()),
    }


def _rows(graph: topologies.Topology, seed: int | None) -> list[dict]:
    """One row a kind, with γ = σ² = φ² = 1; simulated where there is a seed."""
    W = mixing.metropolis(graph).toarray()
    exact = exact_distances(W)
    p = exact["p"]
    bounds = {"noise": (1 - p) / p, "random placement": (1 - p) / (1 - np.sqrt(1 - p)) ** 2}
    bounds["worst placement"] = bounds["random placement"]
    found = {} if seed is None else _simulated(graph, _slowest(W), p, seed)
    return [
        {
            "family": "ring" if seed is not None else "torus",
            "n": graph.n,
            "p": p,
            "kind": kind,
            "exact": exact[kind],
            "simulated": found.get(kind, np.nan),
            "bound": bounds[kind],
        }
        for kind in KINDS
    ]


def _slowest(W: np.ndarray) -> np.ndarray:
    """The eigenvector of the largest eigenvalue below 1, ``(n,)``."""
    return np.linalg.eigh(W - 1 / len(W))[1][:, -1]


def _simulated(
    graph: topologies.Topology, slowest: np.ndarray, p: float, seed: int
) -> dict[str, float]:
    """The same from runs: noise averaged over the last steps, gradients until they have settled."""
    generator = np.random.default_rng([seed, graph.n])
    gradients = generator.normal(size=(graph.n, COORDINATES))
    gradients[:, 0] = slowest
    gradients -= gradients.mean(axis=0)
    gradients /= np.sqrt((gradients**2).mean(axis=0))
    memory = math.ceil(1 / p)

    def run(problem: _Linear, steps: int, oracle: Gaussian | None, record: list[int]) -> History:
        return simulate(
            problem,
            graph,
            DPSGD(),
            learning_rate=1.0,
            steps=steps,
            oracle=oracle,
            seed=seed,
            record=record,
            progress=False,
        )

    settled = run(_Linear(gradients), 12 * memory, None, [12 * memory]).x
    each = (settled - settled.mean(axis=0)) ** 2
    steps = 12 * memory
    noise = Gaussian(float(COORDINATES))
    late = [*range(4 * memory, steps + 1, max(memory // 4, 1))]
    noisy = run(_Linear(np.zeros((graph.n, COORDINATES))), steps, noise, late)
    return {
        "noise": float(noisy.frame.consensus_distance.mean()) / COORDINATES,
        "random placement": float(each[:, 1:].mean()),
        "worst placement": float(each[:, 0].mean()),
    }


def _draw(frame: pd.DataFrame, exponents: dict[str, float]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        axes = figure.subplots(1, 2)
        for kind, (place, color, dash, marker, described) in KINDS.items():
            ax = axes[place]
            for family, width in (("ring", 1.8), ("torus", 0.8)):
                part = frame[(frame.kind == kind) & (frame.family == family)].sort_values("p")
                name = f"{described}, $p^{{{exponents[kind]:.2f}}}$" if family == "ring" else None
                look = {"color": color, "linestyle": dash, "linewidth": width, "label": name}
                ax.plot(part.p, part.exact, **look)
                ax.plot(part.p, part.simulated, marker, color=color, markersize=6, fillstyle="none")
        for ax, kind, square, power in (
            (axes[0], "noise", "\\sigma^2", -1),
            (axes[1], "worst placement", "\\varphi^2", -2),
        ):
            allowed = frame[frame.kind == kind].sort_values("p")
            ax.plot(
                allowed.p,
                allowed.bound,
                color="black",
                linestyle=(0, (2, 2)),
                linewidth=1,
                label=f"bound, $p^{{{power}}}$",
            )
            ax.plot([], [], color="#555555", linewidth=0.8, label="on tori")
            ax.plot([], [], "o", color="#555555", fillstyle="none", label="simulated")
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel("Gap $p = 1 - \\lambda_2^2$")
            ax.set_ylabel(f"Consensus distance $\\Xi^2 / (\\gamma^2 {square})$")
            ax.legend(fontsize="small", loc="lower left")
            log_ticks(ax, x=True)
        axes[0].set_title("Noise")
        axes[1].set_title("Gradients that differ between workers")
    return figure
