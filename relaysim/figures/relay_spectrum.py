"""How fast relayed models agree, by the delays that one assumes: a surprise of RelaySum's theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from relaysim import plots, theory, topologies
from relaysim.algorithms import RelaySGD
from relaysim.engine import simulate
from relaysim.figures.relay_theory import TREES
from relaysim.figures.result import Result
from relaysim.plots.ticks import log_ticks
from relaysim.problems import DiagonalQuadratic
from relaysim.support.progress import progress_bar

__all__ = ["relay_spectrum"]

DELAYS = {"received": "delays as received", "hops": "hop delays (overlap)"}
FACES = {"received": "full", "hops": "none"}
COLORS = {"received": "#D55E00", "hops": "#0072B2"}


def relay_spectrum(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """1 − |λ₂| of RelaySum's matrix against n, its slow mode on a chain, and what gradients do to it.

    With the delays that RelaySGD has (a neighbour's model arrives in the round in which it was sent)
    1 − |λ₂| falls like 1/n² on a chain, with hop delays, those of the paper's figure 5, like 1/n; on a
    star like 1/n with both. The chain's slow mode changes sign every step; random starts hardly excite
    it, and gradient steps damp it about as much as the mean.

    Args:
        quick: up to 16 workers.
        seed: of the random start in the middle.
        n_jobs: not used.

    Source: the relay matrix of Vogels et al., NeurIPS 2021; the comparison of delays is made here.
    """
    sizes = [4, 8, 16] if quick else [4, 6, 8, 12, 16, 24, 32, 48, 64]
    n = sizes[-1] if quick else 32
    gaps = []
    with progress_bar(len(TREES) * len(sizes) * len(DELAYS), None, "spectra", "trees") as bar:
        for name in TREES:
            for size in sizes:
                topology = getattr(topologies, name)(size)
                for delays in DELAYS:
                    gap = theory.relay_gap(topology, delays)
                    gaps.append(("gap", name, delays, size, gap))
                    bar.update()
    agreeing, damping = _agreeing(n, seed), _damping(n, quick)
    frame = pd.concat(
        [
            pd.DataFrame(gaps, columns=["panel", "topology", "delays", "n", "gap"]),
            agreeing,
            damping,
        ],
        ignore_index=True,
    )
    caption = (
        "Left: 1 − |λ₂| of RelaySum's matrix, the rate at which relayed models agree, with the delays "
        "that RelaySGD has (filled marks) and with hop delays (open marks); grey: slopes −1 and −2. "
        f"Middle: consensus distance on a chain of {n} without gradients, from a random start; dotted: "
        "|λ₂|^{2t}. The slow mode changes sign every step and has a small share in the start. Right: 1 − ρ "
        "of RelaySGD on that chain with Hessians h times the identity: gradient steps damp the slow mode "
        "about as much as the mean, which thus stays the slowest, at γh/(1 + τ̄) for small rates. "
        "Relay matrix after Vogels et al., NeurIPS 2021."
    )
    return Result(_draw(frame, sizes, n), frame, caption)


def _still(n: int) -> DiagonalQuadratic:
    return DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))


def _agreeing(n: int, seed: int) -> pd.DataFrame:
    """Consensus distances without gradients, from a random start."""
    topology, steps = topologies.chain(n), 40 * n
    parts = []
    for delays in DELAYS:
        history = simulate(
            _still(n),
            topology,
            RelaySGD(overlap=delays == "hops"),
            learning_rate=0.0,
            steps=steps,
            x0=np.random.default_rng(seed).normal(size=(n, 1)),
            progress=False,
        )
        found = history.frame[["step", "consensus_distance"]]
        found = found.assign(panel="agreeing", topology="chain", delays=delays, n=n)
        radius = 1 - theory.relay_gap(topology, delays)
        late = found.consensus_distance[found.consensus_distance > 1e-26].iloc[-1]
        when = found.step[found.consensus_distance == late].iloc[-1]
        parts.append(found.assign(asymptote=late * radius ** (2.0 * (found.step - when))))
    return pd.concat(parts)


def _damping(n: int, quick: bool) -> pd.DataFrame:
    """1 − ρ of RelaySGD with equal Hessians against γh."""
    topology = topologies.chain(n)
    rates = np.geomspace(1e-3, 0.9, 9 if quick else 40)  # at 1 the matrix is nilpotent, and ρ = 0
    parts = []
    for delays in DELAYS:
        algorithm = RelaySGD(overlap=delays == "hops")
        decay = [
            1 - theory.linearize(_still(n), topology, algorithm, rate).spectral_radius
            for rate in rates
        ]
        mean = rates / theory.correction_factor(topology, delays)
        parts.append(pd.DataFrame({"gamma_h": rates, "decay": decay, "mean_decay": mean}))
        parts[-1][["panel", "topology", "delays", "n"]] = "damping", "chain", delays, n
    return pd.concat(parts)


def _draw(frame: pd.DataFrame, sizes: list[int], n: int) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 3.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        gaps = frame[frame.panel == "gap"]
        for name, (label, color, dash, marker) in TREES.items():
            for delays, described in DELAYS.items():
                line = gaps[(gaps.topology == name) & (gaps.delays == delays)]
                left.plot(
                    line.n,
                    line.gap,
                    color=color,
                    linestyle=dash,
                    marker=marker,
                    markersize=4.5,
                    fillstyle=FACES[delays],
                    label=f"{label}, {described}",
                )
        ends = np.array([sizes[0], sizes[-1]])
        for slope, at in ((-1, 1.4), (-2, 5.7)):
            guide: dict[str, Any] = {"color": "#999999", "linewidth": 0.9, "zorder": 1}
            guide |= {"label": "slopes −1 and −2"} if slope == -2 else {}
            left.plot(ends, at * ends ** float(slope), **guide)
            left.annotate(
                f"$n^{{{slope}}}$",
                (ends[-1], at * ends[-1] ** float(slope)),
                xytext=(3, 0),
                textcoords="offset points",
                color="#666666",
            )
        left.set_xscale("log")
        left.set_yscale("log")
        log_ticks(left)
        left.set_title("How fast relayed models agree")
        left.set_xticks([size for size in sizes if size in (4, 8, 16, 32, 64)])
        left.xaxis.set_major_formatter(ScalarFormatter())
        left.xaxis.set_minor_formatter(NullFormatter())
        left.set_xlabel("Number of workers n")
        left.set_ylabel(r"$1 - |\lambda_2|$ of the relay matrix")
        for delays, described in DELAYS.items():
            look = {
                "color": COLORS[delays],
                "linestyle": "-" if delays == "received" else (0, (4, 1.5)),
            }
            line = frame[(frame.panel == "agreeing") & (frame.delays == delays)]
            middle.plot(line.step, line.consensus_distance, label=described, **look)
            middle.plot(
                line.step, line.asymptote, color="black", linewidth=0.9, linestyle=":", zorder=5
            )
            line = frame[(frame.panel == "damping") & (frame.delays == delays)]
            right.plot(line.gamma_h, line.decay, label=described, **look)
            right.plot(
                line.gamma_h, line.mean_decay, color="black", linewidth=0.9, linestyle=":", zorder=5
            )
        middle.plot(
            [], [], color="black", linewidth=0.9, linestyle=":", label=r"$|\lambda_2|^{2t}$"
        )
        plots.style_axes(middle, "step", "consensus_distance")
        middle.set_ylim(1e-28, 30)
        middle.set_title(f"Chain of {n}, no gradients")
        middle.legend(fontsize="small", loc="upper right")
        right.plot(
            [], [], color="black", linewidth=0.9, linestyle=":", label=r"$\gamma h/(1 + \bar\tau)$"
        )
        right.set_xscale("log")
        right.set_yscale("log")
        log_ticks(right, x=True)
        right.set_xlabel(r"Learning rate times curvature, $\gamma h$")
        right.set_ylabel(r"$1 - \rho$ of RelaySGD")
        right.set_title(f"Chain of {n}, equal Hessians")
        right.legend(fontsize="small", loc="upper left")
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small"
        )
    return figure
