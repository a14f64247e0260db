"""What is asked of a term without gradient that a problem's objective has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.support.callbacks import answer
from relaysim.support.findings import Finding

__all__ = ["regularizer_claims"]

# What rounding makes of a minimum, beside the numbers that it is made of.
ROUNDING = 1e-10
RATE = 0.5


def regularizer_claims(
    problem: Any, x: np.ndarray, points: np.ndarray
) -> list[tuple[str, Callable[[], Finding | bool | None]]]:
    """The claims about ``problem.regularizer``, r.

    Args:
        problem: one that has a regularizer.
        x: ``(n, d)``, where proximal steps are taken.
        points: ``(d, k)``, where subgradients are.
    """
    claims = _Claims(problem, x, points)
    return [
        ("proximal is a minimum", claims.proximal),
        ("shortest less the gradient lies below r", claims.shortest),
    ]


class _Claims:
    def __init__(self, problem: Any, x: np.ndarray, points: np.ndarray):
        self.problem, self.x, self.points = problem, x, points

    def proximal(self) -> Finding:
        """r(u) + |u − x|²/(2 rate) is no smaller beside u = proximal(x, rate), or at x."""
        regularizer, x = self.problem.regularizer, self.x
        found = answer(regularizer.proximal(x, RATE), "regularizer.proximal", x.shape)
        beside = np.random.default_rng(3).normal(size=x.shape)

        def objective(u: np.ndarray) -> np.ndarray:
            away = ((u - x) ** 2).sum(axis=1) / (2 * RATE)
            return answer(regularizer.value(u.T), "regularizer.value", away.shape) + away

        least = objective(found)
        others = [x, *(found + size * beside for size in (1e-3, -1e-3, 0.1, -0.1))]
        worst = max(float((least - objective(u)).max()) for u in others)
        note = "somewhere r(u) + |u − x|²/(2 rate) is smaller"
        return worst, ROUNDING * float(np.abs(least).max()), note

    def shortest(self) -> Finding:
        """s = shortest(g, x) − g is a subgradient of r: r(y) ≥ r(x) + s·(y − x)."""
        regularizer, x = self.problem.regularizer, self.points
        gradient = np.random.default_rng(4).normal(size=x.shape)
        found = answer(regularizer.shortest(gradient, x), "regularizer.shortest", x.shape)
        s, worst = found - gradient, -np.inf
        for y in (np.roll(x, 1, axis=1), np.zeros(x.shape), 2 * x):
            below = regularizer.value(x) + (s * (y - x)).sum(axis=0) - regularizer.value(y)
            worst = max(worst, float(np.max(below)))
        scale = float(np.abs(regularizer.value(x)).max())
        return worst, ROUNDING * scale, "it is none of gradient + ∂r(x)"
