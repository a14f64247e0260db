"""Newton's method for a penalised loss: to the last digits of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lstsq
from scipy.sparse.linalg import LinearOperator, cg

from relaysim.problems.curvature import HESSIANS_UP_TO, mean_hessian, mean_hessian_product
from relaysim.problems.penalised_loss import PenalisedLoss

__all__ = ["Stop", "newton"]

MOST_STEPS = 200
# A gradient counts as 0 at this fraction of the first, or at this fraction of the sum of its terms'
# norms: on balanced data the terms cancel at 0 already and rounding is all that is left.
GRADIENT_REDUCTION, GRADIENT_ROUNDING = 1e-12, 1e-14


class Stop(NamedTuple):
    """Where Newton's method stopped: the point ``(d,)``, and what is left of the gradient.

    ``converged`` says whether that counts as 0, ``reduction`` what part of the first gradient it is.
    """

    x: np.ndarray
    converged: bool
    reduction: float


def newton(f: PenalisedLoss, is_futile: Callable[[np.ndarray], bool]) -> Stop:
    """Newton's method from 0 with a stride that halves until f falls, until no digit is to be won.

    Args:
        f: the function.
        is_futile: whether to give up, asked at every point.
    """

    def value(x: np.ndarray) -> float:
        return f.value(x[:, None])[0]

    def gradient_at(x: np.ndarray) -> np.ndarray:
        return f.mean_gradient(x[:, None])[:, 0]

    x = np.zeros(f.d)
    gradient = gradient_at(x)
    first = size = float(np.linalg.norm(gradient))
    enough = max(GRADIENT_REDUCTION * first, GRADIENT_ROUNDING * f.gradient_terms)
    level = value(x)
    with np.errstate(over="ignore"):
        for _ in range(MOST_STEPS):
            if size == 0 or is_futile(x):
                break
            direction = _direction(f, x, gradient)
            slope = gradient @ direction
            stride, shortest = 1.0, 1e-10 if size > enough else 1.0
            while stride >= shortest:
                trial = x + stride * direction
                trial_gradient = gradient_at(trial)
                trial_size, trial_level = float(np.linalg.norm(trial_gradient)), value(trial)
                # Close to the optimum values differ by rounding only; gradients still tell.
                if trial_level <= level + 1e-4 * stride * slope or trial_size <= 0.5 * size:
                    break
                stride /= 2
            else:
                break
            if size <= enough and trial_size > 0.5 * size:
                break
            x, gradient, size, level = trial, trial_gradient, trial_size, trial_level
    return Stop(x, size <= enough, size / first if first else 0.0)


def _direction(f: PenalisedLoss, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """−(∇²f)⁻¹∇f: directly where Hessians are made, by conjugate gradients beyond."""
    if f.d <= HESSIANS_UP_TO:
        hessian = mean_hessian(f, x)
        try:
            return f.without_open_part(-cho_solve(cho_factor(hessian), gradient))
        except LinAlgError:
            return f.without_open_part(-lstsq(hessian, gradient)[0])
    # Along an open mean the Hessian is 0 and the gradient rounding, on which iterations stall.
    curved = mean_hessian_product(f, x)
    product = LinearOperator((f.d, f.d), matvec=lambda v: f.without_open_part(curved(v)))
    gradient = f.without_open_part(gradient)
    return -cg(product, gradient, rtol=1e-8, atol=0, maxiter=10 * f.d)[0]
