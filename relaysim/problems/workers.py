"""What a problem says of each of its workers, for the methods that ask."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from relaysim.problems.problem import Problem
from relaysim.support.callbacks import answer, ask
from relaysim.support.checks import real_array, real_number, shown

__all__ = ["Workers", "counted_examples", "local_smoothness", "mean_strong_convexity"]


MEANINGS = {
    "examples": "how many each worker has",
    "local_smoothness": "the largest Hessian eigenvalue of each worker's objective",
}


class Workers:
    """Facts of a problem's workers, ``(n,)`` each, and of f, computed when a method asks."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self.examples = counted_examples(problem)
        #: r of a composite objective; None where there is none.
        self.regularizer = getattr(problem, "regularizer", None)

    def proximal(self, x: np.ndarray, rate: float | np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """argmin_u f_i(u) + ‖u − x_i‖²/(2 rate) at row i, from the gradients at x, for problems that know."""
        solve: Callable[..., np.ndarray] = self._problem.proximal  # type: ignore[attr-defined]
        return answer(ask(solve, "proximal", x, rate=rate, gradient=gradient), "proximal", x.shape)

    @functools.cached_property
    def local_smoothness(self) -> np.ndarray:
        """L_i; see the function `local_smoothness`."""
        return local_smoothness(self._problem)

    @functools.cached_property
    def strong_convexity(self) -> float:
        """μ of f; see the function `mean_strong_convexity`."""
        return mean_strong_convexity(self._problem)


def local_smoothness(problem: Problem) -> np.ndarray:
    """L_i for each worker, ``(n,)``: no Hessian of f_i has a larger eigenvalue. It is 0 where f_i has no
    curvature.

    Raises:
        ValueError: the problem does not say, or says what are no n numbers of at least 0.

    >>> from relaysim.problems import DiagonalQuadratic
    >>> h = np.array([[1.0, 0.5], [3.0, 4.0]])
    >>> local_smoothness(DiagonalQuadratic(h, np.zeros((2, 2)))).tolist()
    [1.0, 4.0]
    """
    given = getattr(problem, "local_smoothness", None)
    if given is None:
        raise ValueError(
            f"{shown(problem)} does not say how smooth each worker's objective is; give it an attribute "
            f"local_smoothness, (n,) largest Hessian eigenvalues"
        )
    numbers = real_array(given, "local_smoothness")
    return _require(numbers >= 0, "numbers of at least 0", numbers, "local_smoothness", problem.n)


def mean_strong_convexity(problem: Problem) -> float:
    """μ > 0, the smallest Hessian eigenvalue of f; that of all f_i where the problem says no other.

    Raises:
        ValueError: the problem does not say, or says 0.

    >>> from relaysim.problems import DiagonalQuadratic
    >>> h = np.array([[1.0, 0.5], [3.0, 4.0]])
    >>> mean_strong_convexity(DiagonalQuadratic(h, np.zeros((2, 2))))
    2.0
    """
    for name in ("mean_strong_convexity", "strong_convexity"):
        given = getattr(problem, name, None)
        if given is not None and real_number(given, name) > 0:
            return float(given)
    raise ValueError(
        f"{shown(problem)} does not say how strongly convex f is, or is not; give the method's "
        f"strong_convexity, the smallest Hessian eigenvalue of f"
    )


def counted_examples(problem: Problem) -> np.ndarray:
    """How many examples each worker has, ``(n,)``: one each where the problem does not say."""
    given = getattr(problem, "examples", None)
    if given is None:
        return np.ones(problem.n)
    numbers = real_array(given, "examples")
    return _require(numbers > 0, "positive numbers", numbers, "examples", problem.n)


def _require(right: np.ndarray, what: str, numbers: np.ndarray, name: str, n: int) -> np.ndarray:
    if numbers.shape != (n,) or not (np.isfinite(numbers).all() and right.all()):
        raise ValueError(
            f"{name} must be {MEANINGS[name]}: {n} {what}, not {shown(numbers.tolist())}"
        )
    return numbers
