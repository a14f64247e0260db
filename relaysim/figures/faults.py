"""What each kind of fault costs each of eight methods, the more there is of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from relaysim import algorithms, plots
from relaysim.faults import (
    LATE_GRADIENTS,
    BurstLoss,
    Corrupt,
    Crash,
    Delay,
    LinkFailure,
    MessageDrop,
    Straggler,
    kind_of,
)
from relaysim.figures.result import Result
from relaysim.figures.unreliable import METHODS as TABLE_5
from relaysim.figures.unreliable import look_of, name_in_table
from relaysim.studies.sweeps import sweep

__all__ = ["faults"]

REPAIR = 0.2
TARGET = 0.2
LABELS = {
    "settled_distance": "Where it settles: $\\frac{1}{n}\\sum_i\\|x_i - x^\\star\\|^2$",
    "steps_to_target": f"Steps until this is {TARGET:g}",
}
#: Seven of table 5, and exact diffusion in the place of SGP, which knows lost messages only.
METHODS = {label: of for label, of in TABLE_5.items() if label != "SGP"} | {
    "Exact diffusion": (algorithms.ExactDiffusion(), "ring")
}


def _failing(share: float) -> float:
    """How often what is repaired with probability `REPAIR` fails, for a share of it to be out of order."""
    return REPAIR * share / (1 - share)


#: By what is counted, the fault in which a share of it goes wrong.
KINDS: dict[str, Callable[[float], Any]] = {
    "Messages lost": MessageDrop,
    "In bursts": lambda share: BurstLoss(_failing(share), REPAIR),
    "Links down": lambda share: LinkFailure(_failing(share), REPAIR),
    "Workers stopped": lambda share: Crash(_failing(share), REPAIR),
    "Gradients missing": Straggler,
    "Messages late": lambda share: Delay(share, most=3),
    "Numbers altered": Corrupt,
}


def _has_rule(algorithm: Any, fault: Any) -> bool:
    return kind_of(fault) in (*algorithm.faults, LATE_GRADIENTS)


def faults(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Plateaus and steps of eight methods against how much goes wrong, for seven kinds of faults.

    RelaySGD with each rule for workers that were not heard, on double binary trees; gossip, tracking, D² and
    exact diffusion on a ring (edge weight 1/3 − 0.01). n = 16 workers, d = 10, ζ² = 1, Hessian eigenvalues in
    [0.25, 1], γ = 0.1, no gradient noise.

    Args:
        quick: 8 workers, 120 steps, two seeds of faults and two shares.
        seed: of the random problem.
        n_jobs: processes.

    Source: none, it is measured here; lost messages are those of table 5 of Vogels et al., NeurIPS 2021.
    """
    n, steps, seeds = (8, 120, 2) if quick else (16, 1200, 10)
    shares = (0.03, 0.3) if quick else (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    wrong = {(kind, share): make(share) for kind, make in KINDS.items() for share in shares}
    gossip = f"uniform({1 / 3 - 0.01!r})"
    cases = [
        {
            "algorithm": algorithm,
            "topology": topology,
            "mixing": gossip if topology == "ring" else None,
            "faults": fault,
        }
        for algorithm, topology in METHODS.values()
        for fault in (None, *wrong.values())
        if fault is None or _has_rule(algorithm, fault)
    ]
    runs = sweep(
        {
            "n": n,
            "d": 10,
            "zeta2": 1.0,
            "problem_seed": seed,
            "seed": list(range(seeds)),
            "learning_rate": 0.1,
            "steps": steps,
            "record": 2 if quick else 5,
            "cases": cases,
        },
        n_jobs=n_jobs,
    )
    frame = _measured(runs, wrong, steps)
    caption = (
        f"Above: the distance (1/n) Σ‖x_i − x*‖² where methods settle, its mean over the last quarter of "
        f"{steps} steps. Below: steps until it is {TARGET:g} or less. Both are medians over {seeds} draws of "
        f"the faults, against the share of messages, workers, gradients or numbers that go wrong; what is in "
        f"bursts, down or stopped is so for {1 / REPAIR:g} steps in the mean, and late messages come 1 to 3 "
        f"steps late, in order. A curve ends where a method diverges, or does not come so near, and what is "
        f"below 1e-12 is not drawn; "
        f"without a rule there is none. {n} workers, d = 10, Hessian eigenvalues in [0.25, 1], ζ² = 1, "
        f"γ = 0.1, random problem {seed}. RelaySGD on double binary trees, with its four rules for what "
        f"stands in for workers not heard from; the others on a ring with edge weight 1/3 − 0.01."
    )
    return Result(_draw(frame, shares), frame, caption)


def _measured(runs: pd.DataFrame, wrong: dict[tuple[str, float], Any], steps: int) -> pd.DataFrame:
    """A row for each method, kind and share, 0 among them: the plateau and the steps."""
    found = {}
    keys = [runs.algorithm, runs.unheard.fillna(""), runs.faults.fillna("").astype(str)]
    for (name, rule, fault), of_one in runs.groupby(keys):
        late = of_one[of_one.step > 0.75 * steps].groupby("seed").distance
        settled = late.agg(lambda each: each.mean(skipna=False)).median(skipna=False)
        near = of_one[of_one.distance <= TARGET].groupby("seed").step.min()
        taken = near.reindex(of_one.seed.unique()).fillna(math.inf).median()
        found[name, rule, fault] = {"settled_distance": settled, "steps_to_target": taken}
    rows = [
        {"method": label, "kind": kind, "share": share}
        | found[(*name_in_table(algorithm), "" if share == 0 else repr(wrong[kind, share]))]
        for label, (algorithm, _) in METHODS.items()
        for kind, make in KINDS.items()
        if _has_rule(algorithm, make(0.1))
        for share in (0.0, *(share for of, share in wrong if of == kind))
    ]
    return pd.DataFrame(rows).replace(math.inf, math.nan)


def _draw(frame: pd.DataFrame, shares: tuple[float, ...]) -> Figure:
    places = (0.0, *shares)
    with plots.style():
        figure = Figure(figsize=(13.6, 6.6), layout="constrained")
        axes = figure.subplots(2, len(KINDS), sharex=True, sharey="row", squeeze=False)
        for ax, kind in zip(axes[0], KINDS, strict=True):
            ax.set_title(kind)
        for above, column in zip(axes, LABELS, strict=True):
            for ax, kind in zip(above, KINDS, strict=True):
                for label in METHODS:
                    part = frame[(frame.kind == kind) & (frame.method == label)]
                    at = [places.index(share) for share in part.share]
                    ax.plot(at, part[column], **_look(label), label=label)
                plots.style_axes(ax, "", column if ax is above[0] else "", LABELS)
        lowest = frame.settled_distance[frame.settled_distance > 0].min()
        for ax in axes[0]:
            ax.minorticks_off()
        axes[0, 0].set_ylim(max(1e-12, 0.3 * lowest), 1e3)
        for ax in axes[1]:
            ax.set_xticks(range(len(places)), [f"{100 * share:g}" for share in places], rotation=90)
            ax.set_xlabel("Share in %")
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _look(label: str) -> dict[str, Any]:
    """As in `unreliable`, with a marker at every point: a curve may have no more than one."""
    return look_of(label) | {"marker": "o", "markersize": 3.5, "markevery": 1}
