"""Functions of one parameter through given points, slopes and values, of a given smoothness and convexity."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["WorstFunctions"]


class WorstFunctions:
    """n functions of one parameter that are the worst for a method; a problem, to be simulated.

        f_i(x) = c_i + g_i (x − o) + (μ/2)(x − o)² + (L − μ) Σ_k φ(x − a_ik, w_ik)

    with φ″ = 1 on an interval of length w from 0 on, and 0 elsewhere. So f_i″ is L or μ, in turns: f_i is
    L-smooth and μ-strongly convex, whatever the points.

    Args:
        points, slopes, values: ``(n, q)``, where f_i is known and what it is there, the first one being the
            optimum x*. What rounding makes of them is mended: slopes rise by μ to L times as much as the
            points, and at x* they sum to 0 over all workers.
        smoothness, strong_convexity: L > μ.
        origin: what to add to all points, so that the run may start where one likes.

    Attributes:
        n, d, optimum, optimal_value, zeta2, smoothness, strong_convexity: as of any problem, d = 1.

    >>> line = np.array([[0.0, 1.0]])
    >>> one = WorstFunctions(line, 0.5 * line, 0.2 * line, smoothness=1.0, strong_convexity=0.1)
    >>> one.gradient(line.T[1:]).round(3).tolist(), one.value(np.array([1.0])).round(3).tolist()
    ([[0.5]], 0.2)
    """

    d = 1

    def __init__(
        self,
        points: np.ndarray,
        slopes: np.ndarray,
        values: np.ndarray,
        *,
        smoothness: float,
        strong_convexity: float,
        origin: float = 0.0,
    ):
        L, mu = smoothness, strong_convexity
        self.n = len(points)
        self.smoothness, self.strong_convexity = L, mu
        self._left = points.min(axis=1, keepdims=True) + origin
        rest = slopes - mu * points, values - mu / 2 * points**2  # of f_i without its curvature μ
        order = np.argsort(points, axis=1, kind="stable")
        x, g, f = (np.take_along_axis(each, order, axis=1) for each in (points, *rest))
        # The slope may only rise, and at most by L − μ times as much as x.
        gaps = np.diff(x, axis=1)
        widths = np.clip(np.diff(g, axis=1) / (L - mu), 0, gaps)
        at_left = g[:, :1] + (L - mu) * np.cumsum(np.pad(widths, ((0, 0), (1, 0))), axis=1)[:, :-1]
        risen = (np.diff(f, axis=1) - at_left * gaps) / (L - mu)
        waits = gaps - widths / 2 - risen / np.where(widths > 0, widths, 1)
        self._begin = x[:, :-1] + np.clip(waits, 0, gaps - widths) + origin
        self._widths = widths
        self._slope = slopes[np.arange(self.n), points.argmin(axis=1)][:, None]
        self._constant = np.zeros((self.n, 1))
        self.optimum = points[0, :1] + origin
        at_optimum = np.tile(self.optimum, (self.n, 1))
        self._slope = self._slope - self.gradient(at_optimum).mean()
        self.zeta2 = float((self.gradient(at_optimum) ** 2).mean())
        self._constant = values[:, :1] - self._values(at_optimum)
        self.optimal_value = float(values[:, 0].mean())

    def __repr__(self) -> str:
        return f"WorstFunctions(n={self.n})"

    @functools.cached_property
    def pieces(self) -> int:
        """How many intervals of curvature L a worker has at the most."""
        return int(np.count_nonzero(self._widths > 0, axis=1).max(initial=0))

    def _since(self, x: np.ndarray) -> np.ndarray:
        """How far x ``(n, k)`` is beyond the begin of each interval, ``(n, k, intervals)``."""
        return x[:, :, None] - self._begin[:, None, :]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """f_i′ at x_i, ``(n, 1[, r])``."""
        flat = x.reshape(self.n, -1)
        L, mu = self.smoothness, self.strong_convexity
        risen = np.clip(self._since(flat), 0, self._widths[:, None]).sum(axis=2)
        return (self._slope + mu * (flat - self._left) + (L - mu) * risen).reshape(x.shape)

    def _values(self, x: np.ndarray) -> np.ndarray:
        """f_i at x ``(n, k)``."""
        L, mu = self.smoothness, self.strong_convexity
        since, widths = self._since(x), self._widths[:, None]
        inside = np.clip(since, 0, widths)
        area = (inside * (np.maximum(since, 0) - inside / 2)).sum(axis=2)
        far = x - self._left
        return self._constant + self._slope * far + mu / 2 * far**2 + (L - mu) * area

    def value(self, x: np.ndarray) -> np.ndarray:
        """f at x ``(1[, r])``, ``()`` or ``(r,)``."""
        found = self._values(np.broadcast_to(x.reshape(1, -1), (self.n, x.size))).mean(axis=0)
        return found.reshape(x.shape[1:])
