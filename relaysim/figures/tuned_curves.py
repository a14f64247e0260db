"""Curves of several methods at their tuned rates, a panel for each level of heterogeneity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relaysim import plots
from relaysim.algorithms.events import Algorithm
from relaysim.figures.published import TUNED_STEPS
from relaysim.figures.result import Result, rows_of
from relaysim.plots.ticks import number
from relaysim.studies.sweeps import sweep

__all__ = ["TARGET", "Curve", "tuned_curves"]

#: The published target is 1e-6 for an objective without the ½ of ours.
TARGET = 5e-7

# The published code stored half of the rate that it had found to be the fastest, and drew its curves
# with that; its search for a plateau stored the rate itself.
DRAWN_AT = {"fastest": 0.5, "plateau": 1.0}

# So that curves that coincide can be told apart.
MARKERS = {"DP-SGD (gossip)": "s", "Gradient tracking": "o", "D²": "^", "RelaySGD/Grad": "D"}
LEVEL: dict[str, Any] = {"color": "#777777", "linestyle": "--", "linewidth": 1, "zorder": 1}


@dataclass(frozen=True)
class Curve:
    """A method of a figure: where it runs, how it is tuned, and at most at which rate it is drawn."""

    algorithm: Algorithm
    topology: str
    mixing: str | None = None
    criterion: str = "fastest"
    cap: float = float("inf")

    @property
    def label(self) -> str:
        return self.algorithm.label

    @property
    def name(self) -> str:
        """What the table of a sweep calls the method; a figure has it once."""
        return type(self.algorithm).__name__

    @property
    def case(self) -> dict[str, Any]:
        """The curve's part of a sweep's settings."""
        return {"algorithm": self.algorithm, "topology": self.topology, "mixing": self.mixing}


def tuned_curves(
    name: str,
    curves: Sequence[Curve],
    panels: Mapping[float, tuple[str, int]],
    caption: str,
    *,
    n: int,
    problem_seed: int,
    sigma2: float = 0.0,
    noise_seeds: int = 1,
    ylim: tuple[float, float],
    n_jobs: int = 1,
) -> Result:
    """Tune every curve without noise in every panel, then run it as it is drawn.

    Args:
        name: of the figure, for the published numbers.
        curves: the methods.
        panels: title and number of steps by ζ².
        caption: what the picture shows; the rates are added.
        n: workers.
        problem_seed: of the random quadratics.
        sigma2: variance of the gradient noise of the curves drawn.
        noise_seeds: how many draws of it.
        ylim: of the suboptimality.
        n_jobs: processes.
    """
    common = {"n": n, "d": 10, "mu": 0.25, "problem_seed": problem_seed}
    tuned = sweep(
        common
        | {"zeta2": list(panels), "target": TARGET, "max_steps": 70_000}
        | {"cases": [curve.case | {"criterion": curve.criterion} for curve in curves]},
        n_jobs=n_jobs,
    )
    by_algorithm = {curve.name: curve for curve in curves}
    cases, drawn = [], []
    for row in rows_of(tuned):
        curve = by_algorithm[row.algorithm]
        rate = min(DRAWN_AT[curve.criterion] * row.learning_rate, curve.cap)
        drawn.append(rate)
        if rate == rate:
            steps = panels[row.zeta2][1]
            cases.append(
                curve.case
                | {"zeta2": row.zeta2, "learning_rate": rate, "steps": steps}
                | {"record": max(steps // 400, 1)}
            )
    noise = {"sigma2": sigma2, "seed": list(range(noise_seeds))}
    frame = sweep(common | noise | {"cases": cases}, n_jobs=n_jobs)
    found = pd.DataFrame(
        {
            "algorithm": tuned.algorithm,
            "zeta2": tuned.zeta2,
            "tuned_learning_rate": tuned.learning_rate,
            "tuned_steps": tuned.steps_to_target,
            "published_tuned_steps": [
                TUNED_STEPS[name].get(by_algorithm[a].label, {}).get(z) if n == 32 else None
                for a, z in zip(tuned.algorithm, tuned.zeta2, strict=True)
            ],
        }
    )
    frame = frame.merge(found, on=["algorithm", "zeta2"])
    frame["replica"] = frame["seed"]
    frame["method"] = [by_algorithm[a].label for a in frame.algorithm]
    rates = "; ".join(
        f"{by_algorithm[row.algorithm].label} at ζ² = {row.zeta2:g}: γ = {rate:.3g}"
        for row, rate in zip(rows_of(tuned), drawn, strict=True)
    )
    caption = f"{caption} Rates drawn: {rates}.{_beside_published(found, by_algorithm)}"
    return Result(_draw(frame, curves, panels, ylim), frame, caption)


def _beside_published(found: pd.DataFrame, by_algorithm: Mapping[str, Curve]) -> str:
    """Steps to the target at the tuned rates, and those that were published."""
    known = found[found.published_tuned_steps.notna()]
    steps = "; ".join(
        f"{by_algorithm[row.algorithm].label} at ζ² = {row.zeta2:g}: "
        f"{row.tuned_steps:.0f} ({row.published_tuned_steps:.0f})"
        for row in rows_of(known)
    )
    if not steps:
        return ""
    return (
        " Crosses stand on the dashed level, at the steps in which the published runs reached it at their "
        "tuned rates, which are higher than those that are drawn. Steps to it at the tuned rates, and in "
        f"brackets as published: {steps}."
    )


def _draw(
    frame: pd.DataFrame,
    curves: Sequence[Curve],
    panels: Mapping[float, tuple[str, int]],
    ylim: tuple[float, float],
) -> Figure:
    with plots.style():
        figure = Figure(figsize=(9.6, 2.9), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for ax, (zeta2, (title, _)) in zip(axes, panels.items(), strict=True):
            # Dashes over the solid line, so that curves that coincide can be told apart.
            for place, curve in reversed(list(enumerate(curves))):
                part = frame[(frame.zeta2 == zeta2) & (frame.method == curve.label)]
                apart = {"markevery": (0.03 + 0.05 * place, 0.2)}
                plots.draw_line(ax, part, "step", "suboptimality", _line(curve.label) | apart)
            ax.axhline(TARGET, **LEVEL)
            known = frame[frame.zeta2 == zeta2].drop_duplicates("method")
            for row in rows_of(known[known.published_tuned_steps <= ax.get_xlim()[1]]):
                color = plots.method_style(row.method)["color"]
                ax.plot(row.published_tuned_steps, TARGET, "x", color=color, markersize=7, zorder=5)
            ax.set_title(f"$\\zeta^2 = {zeta2:g}$ ({title})")
            plots.style_axes(ax, "step", "suboptimality" if ax is axes[0] else "")
        axes[0].set_ylim(*ylim)
        handles = [Line2D([], [], label=curve.label, **_line(curve.label)) for curve in curves]
        level = number(TARGET)
        handles.append(
            Line2D([], [], label=f"{level}, the level\nthat rates are tuned to", **LEVEL)
        )
        if frame.published_tuned_steps.notna().any():
            cross: dict[str, Any] = {
                "color": "#333333",
                "marker": "x",
                "markersize": 7,
                "linestyle": "none",
            }
            handles.append(
                Line2D(
                    [], [], label="published: steps to the\nlevel at the full tuned rate", **cross
                )
            )
        figure.legend(handles=handles, loc="outside right center")
    return figure


def _line(label: str) -> dict:
    # RelaySGD lies below the others and is wide enough to be seen on both sides of them.
    look = plots.method_style(label) | {"markersize": 4.5}
    return look | ({"linewidth": 3.2} if label == "RelaySGD" else {"marker": MARKERS[label]})
