"""Theory over simulated curves."""

from __future__ import annotations

import numpy as np

__all__ = ["draw_overlay"]

#: How theory looks everywhere: what is exact in black, what is asymptotic in grey.
LOOKS = {
    "prediction": {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 6},
    "asymptote": {"color": "#888888", "linestyle": "-", "linewidth": 1.0, "zorder": 1.5},
    "floor": {"color": "black", "linestyle": "-", "linewidth": 0.9, "zorder": 5},
    "bound": {"color": "#444444", "linestyle": (0, (1, 1.6)), "linewidth": 1.3, "zorder": 5},
}
# A prediction is not drawn further down than this share of its start, where it is rounding.
LOWEST = 1e-28
# Nor further up than this multiple of it, where a run has diverged.
HIGHEST = 1e12


def draw_overlay(ax, overlay, names: bool = True, which: str = "") -> dict:
    """Draw what theory says of a run: exact curve, asymptotic rate, noise floor, theorems.

    Args:
        ax: the Axes, with steps across and a log axis upward.
        overlay: a `relaysim.theory.Overlay`.
        names: give the lines names for the legend.
        which: what to add to these names, where there are several overlays.

    Returns:
        The lines by what they show, for a legend of one's own.
    """
    curve = overlay.prediction[overlay.column].to_numpy()
    at = overlay.prediction["step"].to_numpy()
    lowest = LOWEST * (curve[0] if curve[0] > 0 else np.nanmax(curve[np.isfinite(curve)]))
    described = {
        "prediction": "exact, without noise",
        "asymptote": f"rate ρ² = {overlay.spectral_radius**2:.5g} a step",
        "floor": "exact noise floor",
    }
    drawn = {}

    def line(kind: str, x, y, label: str | None = None) -> None:
        label = described[kind] if label is None else label
        options = LOOKS[kind] | ({"label": label + which} if names else {})
        (drawn[label if kind == "bound" else kind],) = ax.plot(x, y, **options)

    shown = (curve > lowest) & (curve < HIGHEST * (lowest / LOWEST))
    line("prediction", at, np.where(shown, curve, np.nan))
    if overlay.asymptote is not None:
        line("asymptote", at, np.where(overlay.asymptote > lowest, overlay.asymptote, np.nan))
    if overlay.floor is not None:
        line("floor", at[[0, -1]], [overlay.floor] * 2)
    if overlay.band is not None:
        ax.axhspan(*overlay.band, color="#000000", alpha=0.13, linewidth=0, zorder=1)
    for bound in overlay.bounds:
        values = bound.curve(at)
        line("bound", at, np.where(np.isfinite(values), values, np.nan), bound.label)
    return drawn
