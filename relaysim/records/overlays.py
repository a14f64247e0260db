"""What theory lays over a history's curves."""

from __future__ import annotations

import numpy as np

from relaysim.theory.overlay import Overlay, Simulated, overlay, require_constant
from relaysim.theory.worst_case_curve import WorstCaseCurve, worst_case_curve

__all__ = ["overlays"]

# Theory over more learning rates than this could not be told apart.
MOST_WITH_THEORY = 3


def overlays(
    history: Simulated, y: str, x: str, theory: bool, worst_case: bool
) -> list[Overlay | WorstCaseCurve]:
    """What is asked for of a column, at each learning rate.

    Raises:
        ValueError: against anything but steps, over too many rates, or of a run of which theory says nothing.
    """
    if x != "step":
        raise ValueError(f"theory is a curve over steps; leave x={x!r} out, or theory")
    require_constant(history)
    rates = np.unique(np.asarray(history.config["learning_rate"]))
    if len(rates) > MOST_WITH_THEORY:
        raise ValueError(
            f"theory over {len(rates)} learning rates cannot be told apart; simulate at most "
            f"{MOST_WITH_THEORY} of them"
        )
    found: list[Overlay | WorstCaseCurve] = []
    if theory:
        found += [overlay(history, y, rate) for rate in rates]
    if worst_case:
        found += [worst_case_curve(history, y, rate) for rate in rates]
    return found
