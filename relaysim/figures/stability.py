"""The largest stable learning rates against the number of workers, exactly, with closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from relaysim import algorithms, mixing, plots, theory, topologies
from relaysim.algorithms.events import Algorithm
from relaysim.figures.result import Result, rows_of
from relaysim.plots.ticks import log_ticks
from relaysim.problems import DiagonalQuadratic
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes

__all__ = ["stability"]

PANELS = {"chain": "Chain", "binary_tree": "Binary tree", "star": "Star", "ring": "Ring"}
RELAYING = (
    algorithms.RelaySGD(),
    algorithms.RelaySGD(overlap=True),
    algorithms.RelaySGDGrad(),
    algorithms.RelaySGDGrad(overlap=True),
)
MIXING = (
    algorithms.DPSGD(),
    algorithms.D2(),
    algorithms.ExactDiffusion(),
    algorithms.GradientTracking(),
)
# By name: method, overlap, marker, width of the line, and at which sizes marks stand. Lines that coincide
# at 2 lie within each other, the widest first, with marks at sizes of their own.
LINES: dict[str, tuple[str, bool, str, float, Any]] = {
    "RelaySGD": ("RelaySGD", False, "s", 1.8, None),
    "RelaySGD, overlap": ("RelaySGD", True, "s", 9.0, (0, 5)),
    "RelaySGD/Grad": ("RelaySGD/Grad", False, "D", 1.8, None),
    "RelaySGD/Grad, overlap": ("RelaySGD/Grad", True, "D", 1.8, None),
    "DP-SGD (gossip)": ("DP-SGD (gossip)", False, "o", 6.0, (1, 5)),
    "Gradient tracking": ("Gradient tracking", False, "v", 4.0, (2, 5)),
    "Exact diffusion": ("Exact diffusion", False, "P", 2.4, (3, 5)),
    "D²": ("D²", False, "^", 1.2, (4, 5)),
}
# Ends below this are 0 up to rounding.
LEAST = 1e-12


def stability(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Stable learning rates against n, where all Hessians are h times the identity.

    Intervals of γh in which the spectral radius is below 1, on chain, binary tree, star and ring
    (Metropolis weights). Closed forms: on a chain (n + 2)/2 for RelaySGD and n for RelaySGD/Grad; on a
    star RelaySGD/Grad needs γh < n and γh(n − γh) < n²/(n − 2), two windows for n ≥ 6; 2 for RelaySGD
    with overlap on any tree, for DP-SGD and gradient tracking; D² is stable between
    max(0, (3 − 1/|λ_n|)/2) and 2, λ_n < 0 the smallest eigenvalue of W.

    Args:
        quick: up to 8 workers.
        seed: not used; nothing here is random.
        n_jobs: processes.

    Source: eigenvalues of the methods' own steps; closed forms derived here, and for D² from Tang et al.,
    ICML 2018.
    """
    sizes = [4, 8] if quick else [4, 8, 12, 16, 24, 32, 48]
    cells = [
        (panel, algorithm, n)
        for n in sizes
        for panel in PANELS
        for algorithm in (MIXING if panel == "ring" else RELAYING + MIXING)
    ]
    rows = []
    with progress_bar(len(cells), None, "stability", "limits") as bar:
        found = in_processes(_limits, cells, n_jobs)
        for (panel, algorithm, n), intervals in zip(cells, found, strict=True):
            known = _closed_form(panel, algorithm, n) or [(np.nan, np.nan)] * len(intervals)
            for ends, closed in zip(intervals, known, strict=True):
                overlap = getattr(algorithm, "overlap", False)
                rows.append((panel, algorithm.label, overlap, n, *ends, *closed))
            bar.update()
    columns = ["topology", "method", "overlap", "n", "lower", "upper"]
    frame = pd.DataFrame(rows, columns=[*columns, "closed_form_lower", "closed_form_upper"])
    caption = (
        "Constant learning rates that are stable where all Hessians are h times the identity. Marks on "
        "lines: the end of the interval of γh that begins at 0. Bars: intervals that begin elsewhere, as "
        "for D² on binary trees of 24 and more, and second windows of RelaySGD/Grad and, from 48 workers "
        "on, RelaySGD. Open marks: overlapping communication. Lines that coincide, at 2, lie within each "
        "other, RelaySGD with overlap as the widest, and have white marks, each at "
        "sizes of its own. Crosses: closed forms. Metropolis weights."
    )
    return Result(_draw(frame, sizes), frame, caption)


def _limits(panel: str, algorithm: Algorithm, n: int) -> list[tuple[float, float]]:
    problem = DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))
    topology = getattr(topologies, panel)(n)
    return theory.stable_learning_rates(problem, topology, algorithm, progress=False)


def _closed_form(panel: str, algorithm: Algorithm, n: int) -> list[tuple[float, float]]:
    """The intervals where they are known in closed form, else none."""
    label, overlap = algorithm.label, getattr(algorithm, "overlap", False)
    if label == "RelaySGD" and overlap:
        return [(0.0, 2.0)]
    if panel == "chain" and label == "RelaySGD":
        return [(0.0, (n + 2) / 2)]
    if panel == "chain" and label == "RelaySGD/Grad" and not overlap:
        return [(0.0, float(n))]
    if panel == "star" and label == "RelaySGD/Grad" and not overlap:
        if n < 6:
            return [(0.0, float(n))]
        middle, half = n / 2, n / 2 * np.sqrt((n - 6) / (n - 2))
        return [(0.0, middle - half), (middle + half, float(n))]
    if label in ("DP-SGD (gossip)", "Gradient tracking"):
        return [(0.0, 2.0)]
    if label in ("D²", "Exact diffusion"):
        rates = theory.d2_rates if label == "D²" else theory.exact_diffusion_rates
        return rates(mixing.metropolis(getattr(topologies, panel)(n)))
    return []


def _draw(frame: pd.DataFrame, sizes: list[int]) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 3.5), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        drawn = {}
        for ax, (panel, title) in zip(axes, PANELS.items(), strict=True):
            part = frame[frame.topology == panel]
            for name, (method, overlap, marker, width, marks) in LINES.items():
                own = part[(part.method == method) & (part.overlap == overlap)]
                if not len(own):
                    continue
                look = plots.method_style(method) | {"linewidth": width, "markersize": 4.5}
                look |= {"fillstyle": "none" if overlap else "full", "marker": marker}
                if marks is not None:
                    white = {
                        "markerfacecolor": "white",
                        "markeredgecolor": "black",
                        "markersize": 7,
                    }
                    look |= white | {"linestyle": "-" if width > 2 else look["linestyle"]}
                    look |= {"markevery": marks, "zorder": 3, "fillstyle": "full"}
                first = own.groupby("n").upper.first()
                (drawn[name],) = ax.plot(first.index, first, **look)
                if marks is not None:  # above the lines that lie over this one
                    ax.plot(first.index, first, **(look | {"linestyle": "none", "zorder": 4}))
                # Windows that do not begin at 0 are drawn from end to end.
                for row in rows_of(own[own.lower > LEAST]):
                    bar = {"color": look["color"], "linewidth": 1.4, "marker": "_", "markersize": 6}
                    ax.plot([row.n, row.n], [row.lower, row.upper], **bar)
            known = part[["n", "closed_form_lower", "closed_form_upper"]]
            for column in known.columns[1:]:
                shown = known[known[column] > LEAST]
                cross = {"color": "black", "markersize": 3.2, "zorder": 5, "markeredgewidth": 0.8}
                (drawn["closed form"],) = ax.plot(shown.n, shown[column], "x", **cross)
            ax.set_title(title)
            ax.set_xlabel("Number of workers n")
            ax.set_xscale("log")
            ax.set_yscale("log")
            log_ticks(ax)
            ax.set_xticks([n for n in sizes if n in (4, 8, 16, 32)])
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylim(0.05, 1.4 * frame.upper.max())
        if (frame.lower > LEAST).any():
            window: dict[str, Any] = {
                "color": "#777777",
                "linewidth": 1.4,
                "marker": "_",
                "markersize": 6,
            }
            drawn["window that does not begin at 0"] = Line2D([], [], **window)
        axes[0].set_ylabel(r"Stable learning rates, $\gamma h$")
        figure.legend(
            drawn.values(),
            drawn.keys(),
            loc="outside right center",
            fontsize="small",
            labelspacing=0.9,
        )
    return figure
