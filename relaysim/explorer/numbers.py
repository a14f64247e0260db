"""What theory says of a curve in numbers, beside its learning rate: rate, floor, stable rates."""

from __future__ import annotations

import html
import math

from relaysim.explorer.scene import Curve
from relaysim.theory.overlay import ROUNDING, Overlay

__all__ = ["told"]


def told(curve: Curve) -> str:
    """Two lines of HTML; empty where theory says nothing.

    >>> from relaysim.explorer.scene import run
    >>> from relaysim.explorer.settings import Settings
    >>> given = dict(n=4, d=2, methods=["DPSGD"], learning_rate=0.5, steps=20, theory=True)
    >>> (curve,) = run(Settings(**given)).curves
    >>> print(told(curve).replace("<br>", chr(10)))
    ρ = 0.84053 a step: a decade in 6.63 steps; it ends at 0.00237
    stable rates are being found
    >>> curve.search.go_on()
    True
    >>> print(told(curve).splitlines()[0].partition("<br>")[2])
    stable for 0 &lt; γ &lt; 2.107
    """
    if curve.overlay is None:
        return ""
    end = "; its noise floor is being found" if curve.whole is not None else _end(curve.overlay)
    lines = [_speed(curve.overlay) + end]
    if curve.search is not None:
        lines.append(_window(curve))
    return "<br>".join(lines)


def _speed(overlay: Overlay) -> str:
    radius = overlay.spectral_radius
    text = f"ρ = {radius:.5g} a step"
    if 0 < radius < 1:
        # Columns are squares of distances.
        return f"{text}: a decade in {math.log(10) / (-2 * math.log(radius)):.3g} steps"
    return text if radius == 0 else f"{text}: it does not converge"


def _end(overlay: Overlay) -> str:
    """The noise floor, or where the curve without noise ends; nothing where it is exact."""
    if overlay.floor is not None:
        return f"; noise floor {overlay.floor:.3g}"
    plateau, curve = overlay.plateau, overlay.prediction[overlay.column]
    if plateau is None or not plateau > ROUNDING * curve.max():
        return ""
    return f"; it ends at {plateau:.3g}"


def _window(curve: Curve) -> str:
    assert curve.search is not None
    found, rate = curve.search.found, curve.learning_rate
    if found is None:
        return "stable rates are being found"
    if not found:
        return "no learning rate is stable"
    windows = " or ".join(
        f"{low:.4g} < γ" if high == math.inf else f"{low:.4g} < γ < {high:.4g}"
        for low, high in found
    )
    text = html.escape(f"stable for {windows}")
    if any(low < rate < high for low, high in found):
        return text
    return f'{text}; <span style="color:#b00020">γ = {rate:g} is not</span>'
