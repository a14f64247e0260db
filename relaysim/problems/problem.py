"""What every problem has; `relaysim.problems` says what it may offer besides."""

from __future__ import annotations

from typing import Protocol, SupportsFloat, TypeGuard

import numpy as np

__all__ = ["Problem", "WithOptimum", "knows_optimum"]


class Problem(Protocol):
    """f(x) = (1/n) Σ_i f_i(x), split over n workers."""

    @property
    def n(self) -> int:
        """Workers."""

    @property
    def d(self) -> int:
        """Parameters of each worker."""

    def gradient(self, x: np.ndarray, /) -> np.ndarray:
        """∇f_i at row i of x, ``(n, d[, r])`` to the same shape."""

    def value(self, x: np.ndarray, /) -> SupportsFloat:
        """f at x ``(d,)``, a number."""


class WithOptimum(Problem, Protocol):
    """A problem whose minimiser is known."""

    @property
    def optimum(self) -> np.ndarray:
        """x*, ``(d,)``."""


def knows_optimum(problem: Problem) -> TypeGuard[WithOptimum]:
    """Whether a problem says where its minimum lies."""
    return getattr(problem, "optimum", None) is not None
