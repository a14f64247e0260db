"""What the objectives here have in common: the shapes of what is put into them, and ζ²."""

from __future__ import annotations

import abc
import functools

import numpy as np

from relaysim.support.checks import real_array

__all__ = ["Objective"]


class Objective(abc.ABC):
    """f(x) = (1/n) Σ_i f_i(x) for x ``(d,)``."""

    n: int
    d: int

    @abc.abstractmethod
    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x; ``(n, d[, r])`` to the same shape (written into ``out`` if given)."""

    @property
    @abc.abstractmethod
    def optimum(self) -> np.ndarray:
        """x*, the minimiser of f, ``(d,)``."""

    @abc.abstractmethod
    def value(self, x: np.ndarray) -> float | np.ndarray:
        """f(x) for x ``(d,)`` or ``(d, r)``: a number, or one for each replica ``(r,)``."""

    @property
    @abc.abstractmethod
    def smoothness(self) -> float:
        """L, the largest Hessian eigenvalue over all f_i, or a bound of it."""

    @functools.cached_property
    def zeta2(self) -> float:
        """Heterogeneity ζ² = (1/n) Σ_i ‖∇f_i(x*)‖²."""
        gradients = self.gradient(np.broadcast_to(self.optimum, (self.n, self.d)))
        return float(np.einsum("nd,nd->", gradients, gradients) / self.n)

    def _checked_points(self, x: np.ndarray) -> np.ndarray:
        """A point ``(d,)``, or one for each replica ``(d, r)``."""
        x = real_array(x, "x")
        if x.ndim not in (1, 2) or len(x) != self.d:
            raise ValueError(f"x must have shape (d,) = ({self.d},) or (d, r), not {x.shape}")
        return x

    def _check_iterates(self, x: np.ndarray) -> None:
        """Raise unless there is a point for every worker, ``(n, d)``, and replica, ``(n, d, r)``."""
        if x.ndim not in (2, 3) or x.shape[:2] != (self.n, self.d):
            raise ValueError(
                f"x must have shape (n, d) = ({self.n}, {self.d}) or (n, d, r), not {x.shape}"
            )
