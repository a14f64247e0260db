"""Figure 9 of the RelaySum paper: estimating a mean from a stream of samples at every worker."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.sparse import csgraph

from relaysim import mixing, plots, topologies
from relaysim.figures.result import Result
from relaysim.mixing.sequences import as_sequence
from relaysim.network import Network
from relaysim.support.progress import progress_bar
from relaysim.topologies import Topology

__all__ = ["mean_estimation"]

LINES = {
    "RelaySum on a chain": (plots.method_style("RelaySGD")["color"], "-"),
    "gossip on a ring": (plots.method_style("DP-SGD (gossip)")["color"], (0, (4, 1.5))),
}


def mean_estimation(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Distributed mean estimation by RelaySum and by gossip, with the exact expected error (figure 9).

    Each step every worker draws from N(1, 1). Relayed on a chain, the estimate is the sum of all that
    was received over its count; by gossip on a ring, x ← W(x + (s − x)/(t + 1)). Exact mean squared
    errors after T steps: (1/n) Σ_i 1/Σ_j max(0, T − τ_ij), and (1/T²) Σ_{k=1}^T (1/n) Σ_l λ_l^{2k}.

    Args:
        quick: up to 16 workers, 100 steps and 20 seeds.
        seed: of the samples.
        n_jobs: not used.

    Source: Vogels et al., NeurIPS 2021, algorithm 5 and figure 9; exact errors derived here.
    """
    sizes = [8, 16] if quick else [8, 16, 32, 64, 128]
    steps, seeds = (100, 20) if quick else (400, 40)
    rows = []
    with progress_bar(len(sizes), None, "mean-estimation", "sizes") as bar:
        for n in sizes:
            generator = np.random.default_rng([seed, n])
            samples = generator.normal(1.0, 1.0, size=(steps, n, 1, seeds))
            chain, ring = topologies.chain(n), topologies.ring(n)
            for method, simulated, exact in (
                ("RelaySum on a chain", _relay(chain, samples), _relay_error(chain, steps)),
                ("gossip on a ring", _gossip(ring, samples), _gossip_error(ring, steps)),
            ):
                for t in range(steps):
                    rows.append((method, n, t + 1, simulated[t], exact[t], 1 / (n * (t + 1))))
            bar.update()
    frame = pd.DataFrame(
        rows, columns=["method", "n", "step", "mean_squared_error", "exact_error", "ideal_error"]
    )
    caption = (
        "Mean squared error of every worker's estimate of a mean from samples of N(1, 1), one "
        "a step "
        f"and worker: average over workers and {seeds} seeds (wide and pale), its exact "
        "expectation (line), "
        f"and 1/(nT), that of all samples together (dotted). "
        f"After Vogels et al., NeurIPS 2021, figure 9."
    )
    return Result(_draw(frame, sizes), frame, caption)


def _relay(topology: Topology, samples: np.ndarray) -> np.ndarray:
    """Mean squared error after each step of estimates by relayed sums and counts."""
    network = Network(topology)
    mail = network.empty_mail(samples[0])
    total: np.ndarray = np.zeros(())
    count: np.ndarray = np.zeros(())
    errors = []
    for sample in samples:
        mail = network.relay(sample, mail)
        received, missing = network.inbox(mail)
        total = total + sample + received
        count = count + topology.n - (0 if missing is None else missing)
        errors.append(((total / count - 1) ** 2).mean())
    return np.array(errors)


def _gossip(topology: Topology, samples: np.ndarray) -> np.ndarray:
    """Mean squared error after each step of estimates by gossip averaging."""
    network = Network(topology, as_sequence(mixing.metropolis(topology), topology))
    x, errors = np.zeros_like(samples[0]), []
    for t, sample in enumerate(samples):
        x = network.mix(x + (sample - x) / (t + 1), t)
        errors.append(((x - 1) ** 2).mean())
    return np.array(errors)


def _relay_error(topology: Topology, steps: int) -> np.ndarray:
    hops = csgraph.shortest_path(topology.adjacency, method="D", unweighted=True)
    delays = np.maximum(hops - 1, 0)
    held = np.zeros((steps, topology.n))
    times = np.arange(1, steps + 1)
    for delay in np.unique(delays):
        senders = (delays == delay).sum(axis=1)
        held += np.maximum(times - delay, 0)[:, None] * senders
    return (1 / held).mean(axis=1)


def _gossip_error(topology: Topology, steps: int) -> np.ndarray:
    eigenvalues = np.linalg.eigvalsh(mixing.metropolis(topology).toarray())
    powers = eigenvalues[None, :] ** (2 * np.arange(1, steps + 1)[:, None])
    return np.cumsum(powers.mean(axis=1)) / np.arange(1, steps + 1) ** 2


def _draw(frame: pd.DataFrame, sizes: list[int]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(2.3 * len(sizes) + 0.6, 2.9), layout="constrained")
        axes = figure.subplots(1, len(sizes), sharey=True)
        for ax, n in zip(axes, sizes, strict=True):
            for method, (color, dash) in LINES.items():
                line = frame[(frame.n == n) & (frame.method == method)]
                ax.plot(line.step, line.mean_squared_error, color=color, linewidth=3.5, alpha=0.35)
                ax.plot(line.step, line.exact_error, color=color, linestyle=dash, label=method)
            ax.plot(
                line.step,
                line.ideal_error,
                color="black",
                linestyle=":",
                linewidth=1,
                label="1/(nT)",
            )
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_title(f"n = {n}")
            ax.set_xlabel("Steps T")
        axes[0].set_ylabel("Mean squared error")
        handles, labels = axes[0].get_legend_handles_labels()
        handles.append(Line2D([], [], color="#777777", linewidth=3.5, alpha=0.35))
        labels = [
            *(f"{label}, exact" if label in LINES else label for label in labels),
            "simulated",
        ]
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
