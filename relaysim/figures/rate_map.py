"""Exact rates over learning rate, spectral gap, condition number, number of workers and topology."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from relaysim import algorithms, plots, theory, topologies
from relaysim.algorithms.base import Method
from relaysim.figures.result import Result
from relaysim.mixing import with_spectral_gap
from relaysim.plots.maps import BEST, BOUNDARY, UNSTABLE, draw_map
from relaysim.problems import DiagonalQuadratic

__all__ = ["rate_map"]

MIXING: tuple[Method, ...] = (
    algorithms.DPSGD(),
    algorithms.ExactDiffusion(),
    algorithms.D2(),
    algorithms.GradientTracking(),
)
RELAYING: tuple[Method, ...] = (algorithms.RelaySGDGrad(), algorithms.RelaySGD())
WORKERS, CONDITION = 8, 10.0
GRAPHS = ("chain", "binary_tree", "star", "ring", "complete")
TREES = GRAPHS[:3]
NAMES = {"binary_tree": "binary tree"}
PANELS = {"gap": r"spectral gap", "kappa": r"condition number $\kappa$"}


def rate_map(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Steps in which an error falls by the factor e, exactly, over learning rate and setting, of six methods.

    Quadratics with three parameters, of curvature 1 and 1/κ for all workers, and 1/κ or 1 in turn for the
    third. Over (γ, spectral gap) at κ = 10 and n = 8, W = (1 − gap)I + gap J; over (γ, κ) on a chain of 8;
    over (n, topology) at κ = 10 and the best γ of each.

    Args:
        quick: a coarse grid, two of the methods, and n = 4.
        seed: not used; nothing here is random.
        n_jobs: processes.

    Source: `relaysim.theory.map`.
    """
    count, n = (3, 4) if quick else (11, WORKERS)
    rates = np.geomspace(0.02, 10.0, 5 if quick else 17)
    mixing, relaying = (MIXING[3:], RELAYING[1:]) if quick else (MIXING, RELAYING)
    methods = (*mixing, *relaying)
    graph, problem = topologies.complete(n), _problem(n, CONDITION)
    gaps = {
        gap: (problem, graph, with_spectral_gap(n, gap))
        for gap in np.geomspace(0.01, 0.99, count).tolist()
    }
    chain = topologies.chain(n)
    kappas = {
        kappa: (_problem(n, kappa), chain) for kappa in np.geomspace(2.0, 200.0, count).tolist()
    }
    sizes = (4,) if quick else (4, 8, 16)
    graphs = {
        (size, name): (_problem(size, CONDITION), getattr(topologies, name)(size))
        for size, name in itertools.product(sizes, GRAPHS)
    }
    trees = {key: given for key, given in graphs.items() if key[1] in TREES}
    coarse = np.geomspace(0.02, 10.0, 5 if quick else 12)
    found = {
        "gap": theory.map(mixing, gaps, rates, n_jobs=n_jobs),
        "kappa": theory.map(methods, kappas, rates, n_jobs=n_jobs),
        "graphs": _both(
            theory.map(mixing, graphs, coarse, n_jobs=n_jobs),
            theory.map(relaying, trees, coarse, n_jobs=n_jobs),
        ),
    }
    frames = []
    for panel, each in found.items():
        for kind in ("frame", "boundary", "best"):
            rows = getattr(each, kind)
            frames.append(rows.assign(panel=panel, kind="grid" if kind == "frame" else kind))
    frame = pd.concat(frames, ignore_index=True)
    frame["steps"] = _steps(frame.spectral_radius)
    frame["setting"] = frame.setting.map(
        lambda value: f"{value[0]}, {value[1]}" if isinstance(value, tuple) else value
    )
    caption = (
        f"The steps in which an error falls by the factor e, −1/ln ρ with the exact spectral radius ρ; grey: "
        f"unstable, with the boundary in black, and the best learning rate white. First row: {n} "
        f"workers with W = (1 − gap) I + gap J, κ = {CONDITION:g}. Second row: a chain of {n}. Last "
        "row: topologies and numbers of workers at the best learning rate of each, where methods that relay "
        "need a tree. A rate says how fast a method comes to where it ends, and not where that is: DP-SGD "
        "and RelaySGD/Grad end beside the optimum, further from it with larger steps, the others in it."
    )
    return Result(_draw(found, rates, sizes, mixing, relaying), frame, caption)


def _problem(n: int, kappa: float) -> DiagonalQuadratic:
    curvatures = np.full((n, 3), 1 / kappa)
    curvatures[:, 0] = 1.0
    curvatures[::2, 2] = 1.0
    return DiagonalQuadratic(curvatures, np.arange(3.0 * n).reshape(n, 3) / n)


def _both(first: theory.RateMap, second: theory.RateMap) -> theory.RateMap:
    kinds = ("frame", "boundary", "best")
    parts = [[getattr(each, kind) for each in (first, second)] for kind in kinds]
    return theory.RateMap(*(pd.concat(part, ignore_index=True) for part in parts))


def _steps(radii: pd.Series) -> pd.Series:
    """−1/ln ρ, infinite where nothing decays."""
    decay = -np.log(radii)
    return (1 / decay.where(decay > 0)).fillna(np.inf).where(radii.notna())


def _draw(
    found: dict[str, Any],
    rates: np.ndarray,
    sizes: tuple[int, ...],
    mixing: tuple[Method, ...],
    relaying: tuple[Method, ...],
) -> Figure:
    methods, norm = (*mixing, *relaying), LogNorm(1, 1000, clip=True)
    with plots.style():
        figure = Figure(figsize=(1.5 + 1.6 * len(methods), 7.2), layout="constrained")
        axes = figure.subplots(3, len(methods), squeeze=False)
        mesh: Any = None
        for row, panel in enumerate(PANELS):
            for ax, method in zip(axes[row], methods, strict=True):
                here = found[panel].frame
                here = here[here.method == method.label]
                if not len(here):
                    ax.set_axis_off()
                    continue
                grid = here.assign(steps=_steps(here.spectral_radius)).pivot(
                    index="setting", columns="learning_rate", values="steps"
                )
                lines = [
                    part[part.method == method.label].sort_values(["setting", "learning_rate"])
                    for part in (found[panel].boundary, found[panel].best)
                ]
                points = [(line.learning_rate.values, line.setting.values) for line in lines]
                values = grid.index.to_numpy(dtype=float)
                mesh = draw_map(ax, rates, values, grid.values, points[0], points[1], norm)
                ax.set_xlabel(r"$\gamma$")
                ax.set_ylabel(PANELS[panel] if ax is axes[row, 0] else "")
                if ax is not axes[row, 0]:
                    ax.tick_params(labelleft=False)
        of_graphs = found["graphs"].best
        for ax, method in zip(axes[2], methods, strict=True):
            _draw_graphs(ax, of_graphs[of_graphs.method == method.label], sizes, norm)
            if ax is not axes[2, 0]:
                ax.tick_params(labelleft=False)
        for k, method in enumerate(methods):
            axes[0 if k < len(mixing) else 1, k].set_title(method.label, fontsize=9)
        figure.colorbar(mesh, ax=axes, label="steps for a factor of e", shrink=0.6, extend="max")
        marks = [
            Line2D([], [], label="boundary of stability", **BOUNDARY),
            Line2D([], [], label="best learning rate", **BEST | {"color": "#777777"}),
            Patch(facecolor=UNSTABLE, label="unstable"),
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _draw_graphs(ax: Any, best: pd.DataFrame, sizes: tuple[int, ...], norm: LogNorm) -> None:
    """Steps at the best learning rate, written in cells of (n, topology)."""
    table = np.full((len(GRAPHS), len(sizes)), np.nan)
    for (n, name), steps in zip(best.setting, _steps(best.spectral_radius), strict=True):
        table[GRAPHS.index(name), sizes.index(n)] = steps
    ax.imshow(np.ma.masked_invalid(table), norm=norm, cmap="viridis", aspect="auto")
    for (row, column), steps in np.ndenumerate(table):
        if np.isfinite(steps):
            color = "white" if steps < 60 else "black"
            ax.text(column, row, f"{steps:.3g}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    ax.set_yticks(range(len(GRAPHS)), [NAMES.get(name, name) for name in GRAPHS])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set_xlabel("n")
