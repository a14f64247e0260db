"""By how much a half step of PowerGossip contracts, at diffusion 1 and at the one published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.sparse import csr_array

from relaysim import mixing, plots, topologies
from relaysim.algorithms import PowerGossip
from relaysim.engine import simulate
from relaysim.figures.result import rows_of
from relaysim.problems import MatrixQuadratic

__all__ = ["BASES", "best_diffusion", "contractions", "diffused", "draw_contractions"]

WORKERS = 8
SIZE = 20
STARTS = 8
# Contraction is what half steps do once the first ones, which see more than the later ones, are over.
HALF_STEPS, SETTLED = 1200, 400
#: Whether bases are drawn anew, and the marker.
BASES = {"random bases": (False, "o"), "warm starts": (True, "s")}


def diffused(W: csr_array, diffusion: float) -> csr_array:
    """I − δ(I − W): mixing with its step from X towards W X taken δ times as far.

    >>> diffused(csr_array([[0.5, 0.5], [0.5, 0.5]]), 0.5).toarray().tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    n = W.shape[0]
    return csr_array(np.eye(n) - diffusion * (np.eye(n) - W.toarray()))


def best_diffusion(W: csr_array) -> float:
    """δ = 2 / ((1 − λ₂) + (1 − λ_n)) of a symmetric W, with which `diffused` averages fastest.

    >>> round(best_diffusion(mixing.metropolis(topologies.ring(8))), 4)
    1.3084
    """
    values = np.linalg.eigvalsh(W.toarray())
    return float(2 / ((1 - values[-2]) + (1 - values[0])))


def contractions(seed: int) -> pd.DataFrame:
    """Errors against half steps and bits, and what a half step leaves of them in the long run.

    Rank 1 from i.i.d. normal matrices 20 × 20 on a ring of 8. ``part`` is "half steps" for curves and
    "contraction" for their slopes beside the estimate 1 − 2δ(1 − λ₂)/m.
    """
    ring = topologies.ring(WORKERS)
    W = mixing.metropolis(ring)
    gap = 1 - np.linalg.eigvalsh(W.toarray())[-2]
    start = np.random.default_rng([seed, SIZE]).normal(size=(WORKERS, SIZE * SIZE, STARTS))
    parts = []
    for diffusion in (1.0, best_diffusion(W)):
        for bases, (warm, _) in BASES.items():
            frame = simulate(
                MatrixQuadratic(np.zeros((WORKERS, SIZE, SIZE))),
                ring,
                PowerGossip(1, warm_start=warm, rows=SIZE),
                learning_rate=0.0,
                steps=HALF_STEPS,
                x0=start,
                mixing=diffused(W, diffusion),
                seed=seed,
                record=20,
                progress=False,
            ).frame
            error = np.exp(np.log(frame.consensus_distance).groupby(frame.step).mean())
            bits = frame.groupby("step").bits_sent.first()
            late = np.log(error.loc[SETTLED:])
            what: dict[str, Any] = {
                "start": "normal",
                "method": f"PowerGossip, {bases}",
                "diffusion": diffusion,
            }
            curve = {"step": error.index, "bits_sent": bits, "error": error / error.iloc[0]}
            parts.append(pd.DataFrame(curve).assign(part="half steps", **what))
            slope = {
                "contraction": np.exp(np.polyfit(late.index, late, 1)[0]),
                "estimate": 1 - 2 * diffusion * gap / SIZE,
            }
            parts.append(pd.DataFrame({"part": "contraction", **what, **slope}, index=[0]))
    return pd.concat(parts, ignore_index=True)


def draw_contractions(frame: pd.DataFrame, curves: Axes, slopes: Axes, color: Any) -> None:
    """The curves of `contractions` above, their slopes below."""
    paces = sorted(frame[frame.part == "contraction"].diffusion.unique())
    tints = dict(zip(paces, ("#777777", color), strict=True))
    for _, part in frame[frame.part == "half steps"].groupby(["method", "diffusion"]):
        diffusion, bases = float(part.diffusion.iloc[0]), part.method.iloc[0].partition(", ")[2]
        marker = BASES[bases][1]
        curves.plot(
            part.bits_sent,
            part.error,
            color=tints[diffusion],
            linestyle="-" if diffusion > 1 else (0, (4, 2)),
            linewidth=1.3,
            marker=marker,
            markevery=(0.05 if marker == "o" else 0.11, 0.15),
            markersize=4.5,
            fillstyle="none",
            label=f"{bases}, diffusion {diffusion:.4g}",
        )
    plots.style_axes(curves, "bits_sent", "")
    curves.ticklabel_format(axis="x", style="sci", useMathText=True)
    curves.set_title(f"Diffusion, {SIZE} × {SIZE}")
    curves.set_xlim(left=0)
    curves.legend(fontsize="xx-small", loc="upper right", handlelength=2.4)
    found = frame[frame.part == "contraction"]
    for row in rows_of(found):
        bases = row.method.partition(", ")[2]
        place = paces.index(row.diffusion) + (-0.15 if bases == "random bases" else 0.15)
        look = {"color": tints[row.diffusion], "marker": BASES[bases][1], "markersize": 7}
        slopes.plot(place, row.contraction, **look)
        slopes.annotate(
            f"{row.contraction:.4f}",
            (place, row.contraction),
            xytext=(0, 6 if bases == "random bases" else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if bases == "random bases" else "top",
            fontsize="x-small",
        )
    for place, pace in enumerate(paces):
        estimate = found[found.diffusion == pace].estimate.iloc[0]
        said = None if place else r"estimate $1 - 2\delta(1 - \lambda_2)/m$"
        ends = [place - 0.35, place + 0.35]
        slopes.plot(ends, [estimate] * 2, color="black", linewidth=1, label=said)
    slopes.legend(fontsize="x-small", loc="lower left")
    slopes.set_xlim(-0.6, 1.6)
    slopes.set_ylim(0.972, 0.984)
    slopes.set_xticks([0, 1], [f"{pace:.4g}" for pace in paces])
    slopes.set_xlabel("Diffusion")
    slopes.set_ylabel("Error left by a half step")
    slopes.grid(axis="x", visible=False)
