"""What a bit buys: neighbours average matrices and send less than all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from relaysim import compressors, mixing, plots, topologies
from relaysim.algorithms import DPSGD, ChocoSGD, PowerGossip
from relaysim.algorithms.base import Method
from relaysim.engine import simulate
from relaysim.figures.contraction import (
    best_diffusion,
    contractions,
    diffused,
    draw_contractions,
)
from relaysim.figures.result import Result
from relaysim.problems import MatrixQuadratic
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes

__all__ = ["compression", "expected_errors"]

WORKERS = 8
NUMBER = 64
# Of larger matrices singular values are found in threads, which take many times as long on busy cores.
SIZE = 40
# Bits are spent until plain gossip could have taken so many rounds.
ROUNDS = 12
# Of the starts of low rank, against entries of size 1.
NOISE = 0.01
FILLED = 0.01
# As published: so many consensus rates of CHOCO-SGD, from this one to the best diffusion.
RATES, LOWEST_RATE = 20, 1e-4
QUICK_RATES = slice(3, 12, 3)
# Errors below these are not drawn, or drawn here.
LOWEST, LOWEST_SEARCHED = 1e-8, 1e-12

STARTS = {
    "normal": "i.i.d. normal entries",
    "low rank": f"Rank 1 + {NOISE:g} × normal",
    "sparse": f"{FILLED:.0%} of the entries, normal".replace("%", " %"),
}


class Line(NamedTuple):
    """How a method is made for matrices m × m, and drawn; with a rate to tune if it takes one."""

    make: Callable[..., Any]
    look: dict[str, Any]
    tuned: bool = False


def _method(make: Callable[[int], Any], label: str, shade: float, dash: Any, marker: Any) -> Line:
    """Towards white the more the shade is above 0, and towards black below."""
    color = np.array(to_rgb(plots.method_style(label)["color"]))
    color += abs(shade) * (float(shade > 0) - color)
    return Line(make, {"color": to_hex(tuple(color)), "linestyle": dash, "marker": marker})


def _choco(make: Callable[[int], Any]) -> Line:
    def algorithm(m: int, rate: float) -> ChocoSGD:
        return ChocoSGD(make(m), rate)

    return Line(algorithm, plots.compressor_style(make(SIZE)), tuned=True)


def _top(m: int) -> compressors.TopK:
    """As many bits as a matrix of rank 1."""
    return compressors.TopK(2 * m * NUMBER // compressors.TopK(1).bits(m * m))


EXACT = "exact gossip"
LINES = {
    EXACT: _method(lambda m: DPSGD(), "DP-SGD (gossip)", 0, "-", "."),
    "PowerGossip": _method(lambda m: PowerGossip(1, rows=m), "PowerGossip", 0, "-", None),
    "PowerGossip, rank 4": _method(
        lambda m: PowerGossip(4, rows=m), "PowerGossip", -0.6, (0, (1.5, 2.5)), None
    ),
    "PowerGossip, random bases": _method(
        lambda m: PowerGossip(1, warm_start=False, rows=m), "PowerGossip", 0.5, "-", None
    ),
    "CHOCO, random-k": _choco(lambda m: compressors.RandomK(2 * m)),
    "CHOCO, top-k": _choco(_top),
    "CHOCO, rank 1": _choco(lambda m: compressors.LowRank(1, rows=m)),
    "CHOCO, sign": _choco(lambda m: compressors.Sign()),
    "CHOCO, QSGD": _choco(lambda m: compressors.QSGD(15)),
}


def compression(quick: bool = False, seed: int = 0, n_jobs: int = -1) -> Result:
    """Consensus error against bits: PowerGossip, CHOCO-SGD with five compressors, exact gossip.

    Averaging without gradients on a ring of 8, from random matrices: i.i.d. normal, of low rank but for
    noise, which stand in for the faces of the published figure, and sparse. Exact gossip and PowerGossip
    have the diffusion 1.308 that averages fastest; CHOCO-SGD's consensus rate is 1 or one of 20 in
    [1e-4, 1.308], with the lowest error when all bits are spent. Then what a half step of PowerGossip leaves
    at diffusion 1 and 1.308.

    Args:
        quick: matrices 20 × 20 instead of 40 × 40, four of the rates, and one draw.
        seed: of the starts and of what methods draw.
        n_jobs: processes; −1 is one for each core.

    Source: Vogels, Karimireddy, Jaggi, "Practical low-rank communication compression in decentralized
    deep learning", NeurIPS 2020; Koloskova, Stich, Jaggi, ICML 2019. Expected errors: second moments of a
    step, derived here.
    """
    m, draws = (20, 1) if quick else (SIZE, 3)
    cells = [(start, name) for name in reversed(LINES) for start in STARTS]
    found = {}
    with progress_bar(len(cells), None, "compression", "methods") as bar:
        parts = in_processes(_cell, [(*cell, m, draws, seed, quick) for cell in cells], n_jobs)
        for cell, part in zip(cells, parts, strict=True):
            found[cell] = part
            bar.update()
    half_steps = contractions(seed)
    cells_found = [found[s, name] for s in STARTS for name in LINES]
    frame = pd.concat([*cells_found, half_steps], ignore_index=True)
    rates = frame[(frame.part == "curve") & frame.consensus_rate.notna()]
    chosen = rates.groupby(["method", "start"]).consensus_rate.first()
    listed = "; ".join(
        f"{name.removeprefix('CHOCO, ')} " + ", ".join(f"{chosen[name, s]:.3g}" for s in STARTS)
        for name, line in LINES.items()
        if line.tuned
    )
    several = f" (median of {draws} starts)" if draws > 1 else ""
    diffusion = best_diffusion(mixing.metropolis(topologies.ring(WORKERS)))
    slopes = half_steps[half_steps.part == "contraction"]
    left = {
        bases: " and ".join(f"{value:.4f}" for value in part.contraction)
        for bases, part in slopes.groupby(slopes.method.str.partition(", ")[2])
    }
    caption = (
        f"Averaging without gradients on a ring of {WORKERS}, matrices {m} × {m}, 64 bits a number: mean of "
        f"‖X_i − X̄‖² relative to the start{several}, until the bits of {ROUNDS} rounds of exact gossip "
        "(DP-SGD at learning rate 0) are spent. As published, exact gossip and PowerGossip mix with "
        f"I − δ(I − W), δ = {diffusion:.4g} and W Metropolis weights. PowerGossip has rank 1 and warm starts "
        f"unless it says otherwise; random-k (k = {2 * m}) and top-k (k = {_top(m).k}) send as much as rank "
        "1, QSGD has 15 levels. The low-rank start is generated and stands in for the Olivetti faces of the "
        "published figure. Black: expected errors of methods that choose at random, exact, from second "
        "moments. Bottom: error at the end, or 10⁻¹² where it is less, from another start, against "
        "CHOCO-SGD's consensus rate; at the best (full marks) the curves above were run, in the order of the "
        "panels "
        f"{listed}. Horizontal: methods without a rate. PowerGossip is fast while there is low rank to find; "
        "top-k gains on sparse entries, where sign, elsewhere the fastest at rate 1, which is none of the 20 "
        "published, loses; random bases and random-k "
        f"notice neither. Right: PowerGossip of rank 1 at diffusion 1 and {diffusion:.4g}, means of "
        f"logarithms over 8 normal starts; in the long run a half step leaves {left['random bases']} of the "
        "error with "
        f"random bases and {left['warm starts']} with warm starts, about 1 − 2δ(1 − λ₂)/m (lines). After "
        "Vogels et al., NeurIPS 2020."
    )
    return Result(_draw(frame), frame, caption)


def _matrices(start: str, m: int, generator: np.random.Generator) -> np.ndarray:
    """One matrix a worker, as rows ``(n, m²)``."""
    if start == "low rank":
        left, right = generator.normal(size=(2, WORKERS, m))
        noise = NOISE * generator.normal(size=(WORKERS, m, m))
        return (left[:, :, None] * right[:, None, :] + noise).reshape(WORKERS, -1)
    x = generator.normal(size=(WORKERS, m * m))
    if start == "sparse":
        places = generator.random(x.shape).argsort(axis=1)  # a random order for each worker
        x[places >= round(FILLED * m * m)] = 0
    return x


def _cell(start: str, name: str, m: int, draws: int, seed: int, quick: bool) -> pd.DataFrame:
    """One method from one kind of start: the search of its rate, and its curves at the best one."""
    line, kind = LINES[name], list(STARTS).index(start)
    starts = [_matrices(start, m, np.random.default_rng([seed, kind, k])) for k in range(draws + 1)]
    rows, best = [], None

    def last_error(*rate: float) -> float:
        error = _run(line.make(m, *rate), m, starts[:1], seed, last_only=True).error.iloc[0]
        return error if error == error else math.inf

    if line.tuned:
        # Rates are those of Metropolis weights; W itself has the largest.
        highest = best_diffusion(mixing.metropolis(topologies.ring(WORKERS)))
        published = np.geomspace(highest, LOWEST_RATE, RATES)
        rates = [1.0, *published[QUICK_RATES if quick else slice(None)].tolist()]
        tried = {rate: last_error(rate / highest) for rate in rates}
        best = min(tried, key=tried.__getitem__)
        rows = [(rate, tried[rate]) for rate in sorted(tried)]
    else:
        rows = [(np.nan, last_error())]
    search = pd.DataFrame(rows, columns=["consensus_rate", "error"]).assign(part="search")
    rate = () if best is None else (best / highest,)
    curve = _run(line.make(m, *rate), m, starts[1:], seed + 1)
    curve = curve.assign(part="curve", consensus_rate=best or np.nan)
    both = pd.concat([curve, search], ignore_index=True)
    columns = ["draw", "step", "bits_sent", "error", "expected_error"]
    both = both.assign(start=start, method=name)
    return both[["part", "start", "method", "consensus_rate", *columns]]


def _run(
    algorithm: Method, m: int, starts: list, seed: int, last_only: bool = False
) -> pd.DataFrame:
    d, topology = m * m, topologies.ring(WORKERS)
    share = algorithm.vectors_per_edge(d)
    W = mixing.metropolis(topology)
    W = diffused(W, best_diffusion(W))
    assert share is not None, "what these methods send does not depend on the run"
    steps = math.floor(ROUNDS / share + 1e-9)
    history = simulate(
        MatrixQuadratic(np.zeros((WORKERS, m, m))),
        topology,
        algorithm,
        learning_rate=0.0,
        steps=steps,
        x0=np.stack(starts, axis=-1),
        mixing=W,
        seed=[seed + k for k in range(len(starts))],
        record=[0, steps] if last_only else "log",
        progress=False,
    )
    frame = history.frame.rename(columns={"replica": "draw"})
    first = frame.groupby("draw").consensus_distance.transform("first")
    frame = frame.assign(error=frame.consensus_distance / first, expected_error=np.nan)
    if last_only:
        return frame[frame.step == steps]
    for k, x0 in enumerate(starts):
        expected = expected_errors(algorithm, x0, W.toarray(), steps)
        if expected is not None:
            own = frame.draw == k
            frame.loc[own, "expected_error"] = expected[frame.step[own]] / expected[0]
    return frame


# -- expected errors -----------------------------------------------------------------------------------


def expected_errors(
    algorithm: Method, x0: np.ndarray, W: np.ndarray, steps: int
) -> np.ndarray | None:
    """E Σ_i ‖x_i − x̄‖² after 0, 1, … steps without gradients, where second moments are known; else None.

    For `DPSGD`, for `PowerGossip` without warm starts on square matrices, and for `ChocoSGD` with
    `RandomK`, from x0 ``(n, d)`` with the symmetric matrix W.
    """
    n, d = x0.shape
    if isinstance(algorithm, DPSGD):
        S, step = x0 @ x0.T, lambda S: W @ S @ W.T
    elif isinstance(algorithm, PowerGossip) and not algorithm.warm_start:
        S, step = x0 @ x0.T, _random_bases(W, algorithm.rank / math.isqrt(d))
    elif isinstance(algorithm, ChocoSGD) and isinstance(algorithm.compressor, compressors.RandomK):
        S = np.zeros((2 * n, 2 * n))
        S[:n, :n] = x0 @ x0.T
        step = _random_entries(W, algorithm.compressor.contraction(d), algorithm.consensus_rate)
    else:
        return None
    center, errors = np.eye(n) - 1 / n, []
    for _ in range(steps + 1):
        errors.append(np.trace(center @ S[:n, :n]))
        S = step(S)
    return np.array(errors)


def _random_bases(W: np.ndarray, share: float) -> Callable[[np.ndarray], np.ndarray]:
    """The map of E XXᵀ by a half step of PowerGossip, X (n, d).

    That is X − Σ_e w_e B_e B_eᵀ X Π_e over edges with B_e = e_i − e_j. The random projections Π_e are
    independent with mean ``share`` · I, and Π_e² = Π_e.
    """
    n = len(W)
    L, low, high = np.eye(n) - W, *np.triu_indices(n, 1)

    def step(S: np.ndarray) -> np.ndarray:
        result = S - share * (L @ S + S @ L) + share**2 * L @ S @ L
        differences = S[low, low] + S[high, high] - 2 * S[low, high]
        own = np.zeros((n, n))
        own[low, high] = share * (1 - share) * W[low, high] ** 2 * differences
        own += own.T
        return result + np.diag(own.sum(axis=1)) - own

    return step


def _random_entries(W: np.ndarray, share: float, rate: float) -> Callable[[np.ndarray], np.ndarray]:
    """The map of E ZZᵀ by a step of CHOCO-SGD with random-k, Z = (X; X̂) (2n, d).

    Each entry of X − X̂ is added to X̂ with probability ``share``, by each worker on its own.
    """
    n = len(W)
    own, none = np.eye(n), np.zeros((n, n))
    difference = np.hstack([own, -own])
    copied = np.block([[own, none], [share * own, (1 - share) * own]])
    mixed = np.block([[own, rate * (W - own)], [none, own]])

    def step(S: np.ndarray) -> np.ndarray:
        result = copied @ S @ copied.T
        spread = np.einsum("ij,jk,ik->i", difference, S, difference)
        result[n:, n:] += np.diag(share * (1 - share) * spread)
        return mixed @ result @ mixed.T

    return step


# -- the picture ---------------------------------------------------------------------------------------


# Expected errors over the curves of runs.
EXPECTED: dict[str, Any] = {
    "color": "black",
    "linestyle": (0, (4, 3)),
    "linewidth": 1.0,
    "zorder": 6,
}


def _row(figure: Figure, grid: GridSpec, row: int) -> list[Axes]:
    """Axes for the starts, with common scales."""
    first = figure.add_subplot(grid[row, 0])
    others = [
        figure.add_subplot(grid[row, place], sharex=first, sharey=first)
        for place in range(1, len(STARTS))
    ]
    for ax in others:
        ax.tick_params(labelleft=False)
    return [first, *others]


def _draw(frame: pd.DataFrame) -> Figure:
    with plots.style():
        figure = Figure(figsize=(13.2, 6.6), layout="constrained")
        grid = figure.add_gridspec(2, len(STARTS) + 1)
        upper, lower = (_row(figure, grid, row) for row in (0, 1))
        below = figure.add_subplot(grid[1, len(STARTS)])
        beside = figure.add_subplot(grid[0, len(STARTS)])
        draw_contractions(frame, beside, below, LINES["PowerGossip"].look["color"])
        handles = {}
        for curves, searches, (start, title) in zip(upper, lower, STARTS.items(), strict=True):
            for place, (name, line) in enumerate(LINES.items()):
                own = frame[(frame.start == start) & (frame.method == name)]
                look = line.look | {"markersize": 5, "linewidth": 1.6}
                curve = own[own.part == "curve"].groupby("step").median(numeric_only=True)
                shown = slice(int((curve.error >= LOWEST / 10).sum()) + 1)
                bits = curve.bits_sent[shown]
                # One mark a round of exact gossip; those of others are apart.
                every = 1 if name == EXACT else (0.03 + 0.02 * (place % 5), 0.12)
                (handles[name],) = curves.plot(bits, curve.error[shown], markevery=every, **look)
                if name != EXACT and curve.expected_error.notna().any():
                    expected = curve.expected_error[shown]
                    (handles["expected, exactly"],) = curves.plot(bits, expected, **EXPECTED)
                search = own[own.part == "search"]
                if not line.tuned:
                    searches.axhline(search.error.iloc[0], **look | {"marker": None})
                    continue
                errors = search.error.clip(lower=LOWEST_SEARCHED)
                searches.plot(search.consensus_rate, errors, **look, fillstyle="none")
                best = int(search.error.argmin())
                rate, error = search.consensus_rate.iloc[best], errors.iloc[best]
                searches.plot(rate, error, **look | {"markersize": 7})
            curves.set_title(title)
            first = curves is upper[0]
            plots.style_axes(curves, "bits_sent", "Consensus error" if first else "")
            plots.style_axes(searches, "", "Error when the bits are spent" if first else "")
            searches.set_xlabel("Consensus rate δ")
            curves.ticklabel_format(axis="x", style="sci", useMathText=True)
        upper[0].set_xlim(left=0)
        upper[0].set_ylim(LOWEST, 2)
        lower[0].set_xscale("log")
        lower[0].set_ylim(LOWEST_SEARCHED / 4, 4)
        names = [EXACT, "expected, exactly", *list(LINES)[1:]]
        lines = [handles[name] for name in names]
        figure.legend(lines, names, loc="outside lower center", ncols=5, fontsize="small")
    return figure
