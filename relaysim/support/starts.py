"""Where workers start."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["starting_points"]


class Sized(Protocol):
    """What has n workers with d parameters each, such as a problem."""

    @property
    def n(self) -> int: ...

    @property
    def d(self) -> int: ...


def starting_points(points: np.ndarray | None, problem: Sized, replicas: int | None) -> np.ndarray:
    """x0 for every worker (and replica, if a number is given), checked; an array of its own."""
    n, d = problem.n, problem.d
    shape = (n, d) if replicas is None else (n, d, replicas)
    if points is None:
        return np.zeros(shape)
    if points.ndim == 3 and points.shape == shape:
        result = points.copy()
    elif points.shape in ((d,), (n, d)):
        spread = points if points.ndim == 2 else points[None, :]
        if replicas is not None:
            spread = spread[..., None]
        result = np.array(np.broadcast_to(spread, shape))
    else:
        raise ValueError(
            f"x0 must have shape (d,) = ({d},), (n, d) = ({n}, {d}) or (n, d, r), "
            f"not {points.shape}"
        )
    if not np.isfinite(result).all():
        raise ValueError("x0 has entries that are not finite")
    return result
