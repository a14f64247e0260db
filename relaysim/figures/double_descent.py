"""Parameters split over workers: one round fits all examples, and new ones may be missed by any amount."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relaysim import plots, theory
from relaysim.figures.result import Result
from relaysim.problems import FeatureSplit
from relaysim.support.progress import progress_bar

__all__ = ["double_descent"]

EXAMPLES = 50
WORKERS = 2
ROUNDS = 100
SIZES = (10, 20, 25, 30, 40, 45, 48, 50, 52, 55, 60, 75, 100, 150)
# Workers beside two on the right: colour and dash.
LINES = {
    1: ("#000000", (0, (1, 1.2))),
    2: ("#D55E00", "-"),
    4: ("#0072B2", (0, (6, 2))),
    8: ("#009E73", (0, (4, 1.5, 1, 1.5))),
}
FLOOR, LIMITS = 1e-31, (0.05, 150)


def double_descent(quick: bool = False, seed: int = 0, n_jobs: int = 1) -> Result:
    """Error on new examples and on those at hand where two workers hold half of the parameters each.

    Least squares with 50 examples, ‖x‖² = 1, no noise, normal features; one round of CoCoA from 0, and a
    hundred, against the parameters of a worker: formula and draws. The formula for 1, 2, 4 and 8 workers.

    Args:
        quick: 12 draws of every second size instead of 400 of each.
        seed: of the draws.
        n_jobs: not used.

    Source: Hellkvist, Özçelikkale, Ahlén, "Linear regression with distributed learning: a generalization
    error perspective", 2021; the formula is derived here.
    """
    sizes, draws = (SIZES[1::2], 12) if quick else (SIZES, 400)
    rows = []
    with progress_bar(len(sizes), None, "double-descent", "sizes") as bar:
        for size in sizes:
            rows.append(_drawn(size, draws, seed))
            bar.update()
    known = [
        {
            "part": "formula",
            "workers": workers,
            "parameters": workers * size,
            "parameters_per_worker": size,
            "formula": theory.cocoa_generalization(EXAMPLES, workers * size, workers),
        }
        for workers in LINES
        for size in range(4, 401)
        if workers * size <= 800
    ]
    frame = pd.concat([*rows, pd.DataFrame(known)], ignore_index=True)
    caption = (
        f"Least squares with {EXAMPLES} examples, independent normal features, ‖x‖² = 1 spread over all "
        f"parameters, no noise; each of {WORKERS} workers holds half of the parameters, solves for them "
        f"alone and takes 1/{WORKERS} of its step (CoCoA). Left: error ‖x̂ − x‖² on new examples after one "
        f"round, mean of {draws} draws with two standard errors where they are finite, beside the formula "
        f"(line), and the median after {ROUNDS} rounds, which vanishes where there are fewer parameters than "
        "examples; dotted: all parameters at one worker. Middle: error on the examples at hand (median), "
        "which one round fits where a worker has at least as many parameters as there are examples (dashed). "
        "Right: the formula for more workers, against all parameters: infinite where a worker has as many as "
        "there are examples, however many there are in all. After Hellkvist et al., 2021."
    )
    return Result(_draw(frame), frame, caption)


def _drawn(size: int, draws: int, seed: int) -> pd.DataFrame:
    """One round, and a hundred, from 0, with ``size`` parameters a worker."""
    d = WORKERS * size
    truth = np.full(d, d**-0.5)
    found = []
    for draw in range(draws):
        features = np.random.default_rng([seed, size, draw]).normal(size=(EXAMPLES, d))
        split = FeatureSplit(features, features @ truth, WORKERS)
        x = first = split.step(np.zeros(d))
        for _ in range(ROUNDS - 1):
            x = split.step(x)
        errors = [float(((each - truth) ** 2).sum()) for each in (first, x)]
        training = [float(split.training_error(each)) for each in (first, x)]
        found.append([*errors, *training])
    one, many, fitted, fitted_late = np.array(found).T
    return pd.DataFrame(
        {
            "part": "draws",
            "workers": WORKERS,
            "parameters": d,
            "parameters_per_worker": size,
            "formula": theory.cocoa_generalization(EXAMPLES, d, WORKERS),
            "error": one.mean(),
            "standard_error": one.std(ddof=1) / draws**0.5,
            "late_error": np.median(many),
            "training_error": np.median(fitted),
            "late_training_error": np.median(fitted_late),
        },
        index=[0],
    )


def _draw(frame: pd.DataFrame) -> Figure:
    with plots.style():
        figure = Figure(figsize=(10.4, 3.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        drawn, known = frame[frame.part == "draws"], frame[frame.part == "formula"]
        per_worker = drawn.parameters_per_worker
        color = LINES[WORKERS][0]
        line = known[(known.workers == WORKERS) & (known.parameters_per_worker <= 150)]
        left.plot(line.parameters_per_worker, line.formula, color=color, label="formula")
        # Where means are infinite, or their own errors are, those of draws say nothing.
        settled = (per_worker - EXAMPLES).abs() > 3
        near = (per_worker - EXAMPLES).abs().between(2, 3)
        look = {"color": "#7a3500", "fmt": "o", "markersize": 4.5}
        left.errorbar(
            per_worker[settled],
            drawn.error[settled],
            yerr=2 * drawn.standard_error[settled],
            capsize=2,
            label="one round, mean",
            **look,
        )
        left.errorbar(per_worker[near], drawn.error[near], **look)
        left.plot(
            per_worker,
            drawn.late_error,
            color="#0072B2",
            linestyle="none",
            marker="s",
            fillstyle="none",
            markersize=7,
            label=f"{ROUNDS} rounds, median",
        )
        alone = known[(known.workers == 1) & (known.parameters <= 150 * WORKERS)]
        left.plot(
            alone.parameters / WORKERS,
            alone.formula.where(alone.formula > 0),
            color=LINES[1][0],
            linewidth=1.1,
            linestyle=LINES[1][1],
            label="one worker with all",
        )
        left.set_ylim(*LIMITS)
        for column, marker, label in (
            ("training_error", "o", "one round"),
            ("late_training_error", "s", f"{ROUNDS} rounds"),
        ):
            middle.plot(
                per_worker,
                drawn[column].clip(lower=FLOOR),
                color="#7a3500" if marker == "o" else "#0072B2",
                linestyle="-" if marker == "o" else (0, (2, 1.5)),
                linewidth=1,
                marker=marker,
                fillstyle="full" if marker == "o" else "none",
                markersize=4.5 if marker == "o" else 7,
                label=label,
            )
        for ax in (left, middle):
            guide = {"color": "#777777", "linewidth": 1, "linestyle": (0, (5, 3)), "zorder": 1}
            ax.axvline(EXAMPLES, **guide, label="as many as examples")
            ax.set_xlabel("Parameters of a worker")
        for workers, (tint, dash) in LINES.items():
            part = known[known.workers == workers]
            name = "1 worker" if workers == 1 else f"{workers} workers"
            shown = part.formula.where(part.formula > 1e-3)
            right.plot(part.parameters, shown, color=tint, linestyle=dash, label=name)
        right.set_ylim(*LIMITS)
        right.set_xlim(0, 800)
        right.set_xlabel("Parameters of all workers")
        for ax, label in (
            (left, "Error on new examples ‖x̂ − x‖²"),
            (middle, "Error on the examples at hand ‖y − Ax̂‖²/50"),
            (right, "Error on new examples ‖x̂ − x‖²"),
        ):
            ax.set_yscale("log")
            ax.set_ylabel(label)
            handles, names = ax.get_legend_handles_labels()
            # Marks with bars are counted last and belong to the first line.
            order = sorted(range(len(names)), key=lambda k: (k > 0, names[k] != "one round, mean"))
            ax.legend(
                [handles[k] for k in order],
                [names[k] for k in order],
                fontsize="small",
                loc="upper right",
            )
    return figure
