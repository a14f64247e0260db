"""One look for all pictures, and one colour and dash for each method.

Colours are of the Okabe–Ito palette, which colour-blind eyes can tell apart; dashes and widths keep
curves apart in grey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import matplotlib

__all__ = ["AXIS_LABELS", "STYLE", "method_style", "style", "style_axes"]

#: What an axis shows, by column of a history's frame.
AXIS_LABELS: Mapping[str, str] = {
    "step": "Steps",
    "vectors_sent": "Vectors sent by all workers",
    "bits_sent": "Bits sent by all workers",
    "value": r"Loss $f(\bar{x})$",
    "suboptimality": r"Suboptimality $f(\bar{x}) - f(x^\star)$",
    "consensus_distance": r"Consensus distance, mean of $\|x_i - \bar{x}\|^2$",
    "distance": r"Distance, mean of $\|x_i - x^\star\|^2$",
    "gradient_norm": r"Gradient norm $\|\nabla f(\bar{x})\|^2$",
}

#: Matplotlib settings of every picture here.
STYLE: Mapping[str, object] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}

_METHODS: Mapping[str, tuple[str, object]] = {
    "RelaySGD": ("#D55E00", "-"),
    "RelaySGD/Grad": ("#CC79A7", (0, (5, 1.5))),
    "RelaySGD/Mix": ("#8C510A", (0, (3, 1, 1, 1, 1, 1))),
    "DP-SGD (gossip)": ("#0072B2", (0, (1, 1))),
    "D²": ("#009E73", (0, (6, 2))),
    "Exact diffusion": ("#35978F", (0, (2, 1))),
    "Gradient tracking": ("#E69F00", (0, (4, 1.5, 1, 1.5))),
    "Quasi-global momentum": ("#6A51A3", (0, (8, 2, 2, 2))),
    "SGP": ("#56B4E9", (0, (3, 3))),
    "All-reduce": ("#000000", (0, (1, 2.5))),
    "CHOCO-SGD": ("#B15928", (0, (1, 3, 4, 3))),
    "Single merge": ("#999933", (0, (5, 2, 1, 2))),
    "Dynamic averaging": ("#882255", (0, (3, 1, 1, 3))),
    "Consensus control": ("#44AA99", (0, (2, 1, 5, 1))),
    "PowerGossip": ("#E7298A", (0, (1, 1, 6, 1))),
    "EXTRA": ("#66A61E", (0, (7, 1.5, 1, 1.5))),
    "DecentLaM": ("#A6761D", (0, (4, 1, 4, 3))),
    "Momentum consensus": ("#7570B3", (0, (2, 2, 6, 2))),
    "Delayed gradients": ("#80B1D3", (0, (1, 1, 4, 1))),
    "A²CiD²": ("#1B7837", "-"),
    "AD-PSGD": ("#C51B7D", (0, (4, 2))),
    "SwarmSGD": ("#4575B4", (0, (2, 1.2))),
    "Local SGD": ("#777777", (0, (6, 1, 2, 1))),
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with `STYLE`, and leave matplotlib's settings as they were.

    ``matplotlib.rc_context`` would also undo what a notebook sets when its first figure is made, and
    later figures would not show.
    """
    before = {name: matplotlib.rcParams[name] for name in STYLE}
    matplotlib.rcParams.update(STYLE)
    try:
        yield
    finally:
        matplotlib.rcParams.update(before)


def method_style(label: str) -> dict:
    """Colour and dash of a method, as keyword arguments for matplotlib.

    >>> method_style("RelaySGD")["color"]
    '#D55E00'
    """
    color, dash = _METHODS.get(label, ("#555555", "-"))
    return {"color": color, "linestyle": dash}


def style_axes(ax, x: str, y: str) -> None:
    """Label the axes by the columns that they show, the vertical one in powers of ten."""
    ax.set_yscale("log")
    ax.set_xlabel(AXIS_LABELS.get(x, x))
    ax.set_ylabel(AXIS_LABELS.get(y, y))
