"""Whether a problem says right things of its optimum and of where a run starts, before any work is done."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaysim.problems.problem import Problem, WithOptimum, knows_optimum
from relaysim.support.callbacks import answer, ask
from relaysim.support.checks import real_array

__all__ = [
    "NEAR_ZERO",
    "ROUNDING",
    "require_accepted",
    "require_config",
    "require_number",
    "require_optimum",
    "stationarity",
]

#: At an optimum the mean gradient is at most this share of that at the start: x* known to about four
#: digits. One that is off by more ends curves above 1e-8 of where they began, or below 0.
NEAR_ZERO = 1e-4
#: Or at most this share of the workers' own gradients there, of which it is a sum that cancels.
ROUNDING = 1e-10
#: By so small a share of the values of f may what a problem says of f(x*) differ from f there.
SAME_VALUE = 1e-8


def require_accepted(problem: Problem, x0: np.ndarray) -> None:
    """Raise unless a run of the problem can start here.

    Args:
        problem: with the members that every problem has.
        x0: the starting points, ``(n, d[, r])``.

    Raises:
        TypeError, ValueError: f at the start is no number, or is NaN; the optimum is none, or its value is
            another one.
    """
    points = x0 if x0.ndim == 2 else x0[..., 0]
    start = points.mean(axis=0)
    if not (knows_optimum(problem) and hasattr(problem, "suboptimality")):
        require_number(ask(problem.value, "value", start), "value", "at the start")
    if knows_optimum(problem):
        require_optimum(problem, start)
        if not hasattr(problem, "suboptimality"):
            _require_optimal_value(problem, start)


def require_number(found: Any, name: str, where: str) -> float:
    """What a problem returned as a number, which may be infinite but not NaN.

    >>> require_number(np.nan, "value", "at the start")
    Traceback (most recent call last):
        ...
    ValueError: the problem's value is NaN at the start; start where it is defined, x0=…, or mend it
    """
    number = real_array(found, f"the problem's {name}")
    if number.size != 1:
        raise ValueError(
            f"the problem's {name} {where} must be one number, not an array of shape {number.shape}; "
            f"add it up over coordinates and take the mean over workers"
        )
    if np.isnan(number).any():
        raise ValueError(
            f"the problem's {name} is NaN {where}; start where it is defined, x0=…, or mend it"
        )
    return float(number.reshape(()))


def require_optimum(problem: WithOptimum, start: np.ndarray) -> None:
    """Raise ValueError unless the mean gradient at the problem's optimum is near zero; see `stationarity`."""
    at_optimum, allowed, at_start = stationarity(problem, start)
    if not at_optimum <= allowed:
        raise ValueError(
            f"the problem's optimum is none: the mean gradient has norm {at_optimum:.3g} there and "
            f"{at_start:.3g} at the start, and at most {NEAR_ZERO:g} of that is near zero; give the "
            f"minimiser of f = (1/n) Σ_i f_i, or leave optimum out: histories then have the column value"
        )


def _require_optimal_value(problem: WithOptimum, start: np.ndarray) -> None:
    """Raise ValueError unless what a problem says of f(x*) is f at its optimum."""
    stated: Any = getattr(problem, "optimal_value", None)
    if stated is None:
        return
    stated = require_number(stated, "optimal_value", "as it is")
    optimum = np.asarray(problem.optimum)
    # A start at x* tells nothing of how large values of f are.
    away = optimum + max(_norm(optimum), _norm(start), 1.0) / np.sqrt(len(optimum))
    there, *others = (
        require_number(ask(problem.value, "value", x), "value", where)
        for x, where in ((optimum, "at the optimum"), (start, "at the start"), (away, "away"))
    )
    if not abs(stated - there) <= SAME_VALUE * max(abs(there), *map(abs, others)):
        raise ValueError(
            f"the problem's optimal_value is {stated:.9g}, and its value at its optimum is {there:.9g}; make "
            f"them the same, or leave optimal_value out"
        )


def stationarity(problem: WithOptimum, start: np.ndarray) -> tuple[float, float, float]:
    """How near zero the mean gradient is at the optimum: ‖∇f(x*)‖, the most allowed, and ‖∇f(x⁰)‖.

    Allowed is `ROUNDING` times (1/n Σ_i ‖∇f_i(x*)‖²)^½, which covers what is left of a sum that cancels
    however large ζ is, or `NEAR_ZERO` times ‖∇f‖ at the start: both free of units. A start near x*, or
    near another point where ∇f vanishes, tells little: ‖∇f‖ at a distance of max(‖x*‖, ‖x⁰‖) from x* counts
    if it is larger, of at least 1 where the start is no worse than x*. (The third number is NaN where the
    first comparison was enough.)

    Args:
        problem: one that has an optimum.
        start: ``(d,)``.
    """
    optimum = real_array(problem.optimum, "the problem's optimum", shape=start.shape, finite=True)
    with np.errstate(all="ignore"):
        gradients = _gradients(problem, optimum)
        at_optimum = _norm(_descends(problem, optimum, gradients))
        allowed = ROUNDING * _norm(gradients) / np.sqrt(len(gradients))
        if at_optimum <= allowed:
            return at_optimum, allowed, np.nan
        at_start = _norm(_descends(problem, start, _gradients(problem, start)))
        allowed = max(allowed, NEAR_ZERO * at_start)
        if at_optimum <= allowed:
            return at_optimum, allowed, at_start
        length = max(_norm(optimum), _norm(start), 1.0 if at_start <= at_optimum else 0.0)
        away = optimum + length / np.sqrt(len(optimum))
        apart = _norm(_descends(problem, away, _gradients(problem, away)))
        if np.isfinite(apart):
            allowed = max(allowed, NEAR_ZERO * apart)
    return at_optimum, allowed, at_start


def _gradients(problem: Problem, x: np.ndarray) -> np.ndarray:
    """Those of all workers at one point ``(d,)``, ``(n, d)``."""
    points = np.broadcast_to(x, (problem.n, len(x)))
    return answer(ask(problem.gradient, "gradient", points), "gradient", points.shape)


def _descends(problem: Problem, x: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The mean gradient at ``(d,)``, or the shortest subgradient where there is a term without gradient."""
    mean, regularizer = gradients.mean(axis=0), getattr(problem, "regularizer", None)
    return mean if regularizer is None else regularizer.shortest(mean, x)


def _norm(array: np.ndarray) -> float:
    """The square root of the sum of squares, which neither overflow nor vanish."""
    largest = float(np.abs(array).max(initial=0))
    if not 0 < largest < np.inf:
        return largest
    scaled = array / largest
    return largest * float(np.sqrt(np.vdot(scaled, scaled)))


def require_config(problem: Any) -> None:
    """Raise TypeError unless a problem's ``to_config`` gives a mapping with a type."""
    found = problem.to_config()
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise TypeError(f"it must be a dict with a type, not {type(found).__name__}")
