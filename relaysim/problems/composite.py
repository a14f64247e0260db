"""Objectives with a term that has no gradient: f(x) + r(x), with r known to all workers."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np

from relaysim.problems.objective import Objective
from relaysim.problems.problem import REQUIRED, Problem
from relaysim.support.checks import real_number, shown

__all__ = ["L1", "L1Norm"]

# The shortest subgradient at an optimum, as a share of what is balanced there.
AT_THE_OPTIMUM = 1e-12
# Numbers that count as 0 beside the largest.
ZERO = 1e-14
MOST_ITERATIONS = 200_000
# Iterations without a shorter one, after which rounding is all that is left.
NO_BETTER = 100
#: What is the smooth part's own.
_OF_THE_SMOOTH_PART = (
    *("smoothness", "strong_convexity", "mean_smoothness", "mean_strong_convexity"),
    *("local_smoothness", "gradient_of", "mean_gradient", "examples", "sampled_gradient"),
    *("example_variance", "curvature_at", "test", "test_accuracy", "margin"),
)


class L1Norm:
    """r(x) = w ‖x‖₁.

    Args:
        weight: w ≥ 0.

    >>> term = L1Norm(0.5)
    >>> term.value(np.array([2.0, -4.0])).item(), term.proximal(np.array([2.0, -0.1]), 1.0).tolist()
    (3.0, [1.5, 0.0])
    """

    def __init__(self, weight: float):
        self.weight = real_number(weight, "weight", 0)

    def value(self, x: np.ndarray) -> np.ndarray:
        """r(x) for x ``(d[, r])``, ``()`` or ``(r,)``."""
        return self.weight * np.abs(x).sum(axis=0)

    def proximal(self, x: np.ndarray, rate: float | np.ndarray) -> np.ndarray:
        """argmin_u r(u) + (u − x)²/(2 rate), number by number; rates ``(r,)`` belong to the last axis."""
        return np.sign(x) * np.maximum(np.abs(x) - np.multiply(rate, self.weight), 0.0) + 0.0

    def shortest(self, gradient: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The shortest of the vectors gradient + ∂r(x), in the shape of both, ``(d[, r])``.

        Numbers below 1e-14 of the largest in x count as 0: where several steps of proximal methods share out
        a threshold it may be met exactly, and rounding leaves them on either side.
        """
        zero = np.abs(x) <= ZERO * np.abs(x).max(axis=0)
        at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - self.weight, 0.0)
        return np.where(zero, at_zero, gradient + self.weight * np.sign(x))


class L1(Objective):
    """F(x) = f(x) + w ‖x‖₁, a problem's objective and a term that makes x sparse.

    Every worker knows the term: F = (1/n) Σ_i (f_i + w ‖·‖₁), and ``gradient`` is that of the f_i. Methods
    need a proximal step for it, such as `relaysim.algorithms.NIDS`; others refuse the problem. A history has
    the column ``subgradient_norm``, the squared length of the shortest subgradient of F at x̄, in the place of
    ``gradient_norm``.

    Args:
        problem: with f, smooth and convex; its `smoothness` is needed for the optimum.
        weight: w ≥ 0.

    Attributes:
        regularizer: w ‖·‖₁, an `L1Norm`.

    The optimum is found by accelerated proximal gradient steps (FISTA) that begin anew where they turn
    back, until the shortest subgradient is below 1e-12 of f's gradient at 0 and gets no shorter. Without a
    smoothness of f there is no `optimum`, and no column that needs it. Suboptimalities of quadratic f are a
    sum of terms of at least 0, without cancellation.

    Source: Tibshirani, "Regression shrinkage and selection via the lasso", 1996; Beck and Teboulle, "A fast
    iterative shrinkage-thresholding algorithm", 2009; O'Donoghue and Candès on beginning anew, 2015.

    >>> from relaysim.problems import random_quadratics
    >>> problem = L1(random_quadratics(n=4, d=6, zeta2=1.0, seed=0), weight=0.2)
    >>> int((problem.optimum == 0).sum())
    2
    """

    def __init__(self, problem: Problem, weight: float):
        missing = [name for name in REQUIRED if not hasattr(problem, name)]
        if missing:
            raise TypeError(f"{shown(problem)} is no problem: it lacks {missing[0]!r}")
        if getattr(problem, "regularizer", None) is not None:
            raise ValueError(f"{shown(problem)} has such a term already; add up the weights")
        self.problem, self.regularizer = problem, L1Norm(weight)
        self.n, self.d = problem.n, problem.d
        self._takes_out = "out" in inspect.signature(problem.gradient).parameters

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_SMOOTH_PART:
            return getattr(self.problem, name)
        raise AttributeError(f"{type(self).__name__} has no `{name}`")

    @property
    def weight(self) -> float:
        """w."""
        return self.regularizer.weight

    @property
    def smoothness(self) -> float:
        """L of the f_i, without the term."""
        smooth: Any = self.problem
        return smooth.smoothness

    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x, ``(n, d[, r])``: of the smooth part."""
        if out is None or not self._takes_out:
            return self.problem.gradient(x)
        smooth: Any = self.problem
        return smooth.gradient(x, out=out)

    def value(self, x: np.ndarray) -> float | np.ndarray:
        """F(x) for x ``(d,)`` or ``(d, r)``: a number, or one for each replica ``(r,)``."""
        x = self._checked_points(x)
        return self._smooth_value(x) + self.regularizer.value(x)

    def _smooth_value(self, x: np.ndarray) -> Any:
        if x.ndim == 1:
            return self.problem.value(x)
        return np.array([float(self.problem.value(point)) for point in x.T])

    def _mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f at ``(d,)``."""
        return self.problem.gradient(np.broadcast_to(x, (self.n, self.d))).mean(axis=0)

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """x*, a minimiser of F, ``(d,)``; where there are several, one of them.

        Raises:
            ValueError: it was not found, as where f curves too little.
        """
        smooth: Any = self.problem
        curvature = float(getattr(smooth, "mean_smoothness", None) or smooth.smoothness)
        x = before = ahead = np.zeros(self.d)
        scale = max(float(np.linalg.norm(self._mean_gradient(x))), self.weight) or 1.0
        best, shortest, since, momentum = x, np.inf, 0, 1.0
        for _ in range(MOST_ITERATIONS):
            x = self.regularizer.proximal(
                ahead - self._mean_gradient(ahead) / curvature, 1 / curvature
            )
            length = float(np.linalg.norm(self.regularizer.shortest(self._mean_gradient(x), x)))
            since += 1
            if length < shortest:
                best, shortest, since = x, length, 0
            if shortest <= AT_THE_OPTIMUM * scale and (since > NO_BETTER or shortest == 0):
                return best
            if (ahead - x) @ (x - before) > 0:
                momentum = 1.0  # it has turned back
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = x + (momentum - 1) / following * (x - before)
            before, momentum = x, following
        raise ValueError(
            f"the optimum of {self!r} was not found in {MOST_ITERATIONS} steps: the shortest subgradient has "
            f"length {shortest:.3g}; add curvature to f, such as l2 > 0"
        )

    @functools.cached_property
    def _slope(self) -> np.ndarray:
        """The subgradient of w ‖·‖₁ that balances ∇f at the optimum, ``(d,)``."""
        x, w = self.optimum, self.weight
        return np.where(x == 0, np.clip(-self._mean_gradient(x), -w, w), w * np.sign(x))

    @property
    def optimal_value(self) -> float:
        """F(x*)."""
        return float(self.value(self.optimum))

    def suboptimality(self, x: np.ndarray) -> float | np.ndarray:
        """F(x) − F(x*): what f lies above its tangent at x*, and w ‖·‖₁ above its own; as for `value`."""
        x = self._checked_points(x)
        points = x.reshape(self.d, -1)
        optimum, slope = self.optimum[:, None], self._slope[:, None]
        away = points - optimum
        term = self.weight * np.abs(points) - slope * points  # 0 at the optimum
        found = np.maximum(term, 0).sum(axis=0)
        if hasattr(self.problem, "hessian_product"):
            each = np.broadcast_to(away, (self.n, *away.shape))
            curved = self.problem.hessian_product(np.ascontiguousarray(each)).mean(axis=0)
            found += 0.5 * (away * curved).sum(axis=0)
        else:
            rises = self._smooth_value(points) - float(self.problem.value(self.optimum))
            found += np.maximum(rises + self._slope @ away, 0)
        return found.reshape(x.shape[1:]) if x.ndim > 1 else float(found[0])

    def to_config(self) -> dict[str, Any]:
        """What rebuilds the problem: the smooth part, and the weight."""
        return {"type": "L1", "problem": self.problem, "weight": self.weight}

    def __repr__(self) -> str:
        return f"L1({self.problem!r}, weight={self.weight:g})"
