"""The learning rates at which D² and exact diffusion converge, and how fast, where Hessians are equal.

W is one symmetric matrix ``(n, n)``, dense or sparse, whose rows sum to one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from relaysim.mixing.sequences import Matrix, as_matrices, is_symmetric
from relaysim.support.checks import real_number, real_numbers
from relaysim.theory.mixing_gap import EPSILON, above_minus_one, below_one

__all__ = ["d2_rates", "d2_smallest_eigenvalue", "d2_spectral_radius", "exact_diffusion_rates"]


def d2_smallest_eigenvalue(gamma_h: float) -> float:
    """The limit that the eigenvalues of a symmetric W must exceed for D² to be stable.

    Workers have equal Hessians; g = γh is learning rate times curvature. The mode of W with
    eigenvalue λ evolves by x' = λ((1 − g)x + c), c' = c + (λ − 1)((1 − g)x + c), whose eigenvalues
    solve z² − λ(2 − g)z + λ(1 − g) = 0. They lie within the unit circle if and only if

        λ < 1,  1 + λ(3 − 2g) > 0  and  |λ(1 − g)| < 1,

    for 0 < g < 2 thus if λ < 1 exceeds −1/(3 − 2g) or, from g = 4/3 on, −1/(g − 1). This limit is
    −1/3 for small rates and −1 at g = 1, from where on every |λ| < 1 is stable. The mean of the
    workers, λ = 1, keeps Σ_i c_i = 0 and needs 0 < g < 2.

    Raises:
        ValueError: g outside [0, 2), where no W is stable.

    Source: Tang et al., "D²", ICML 2018, for the condition λ > −1/3; the limit for all rates is
    derived here, by Jury's criterion.

    >>> round(d2_smallest_eigenvalue(0), 12), d2_smallest_eigenvalue(0.5)
    (-0.333333333333, -0.5)
    """
    gamma_h = real_number(gamma_h, "gamma_h", 0)
    if gamma_h >= 2:
        raise ValueError(
            f"gamma_h must lie in [0, 2), not {gamma_h:g}: from 2 on the mean of the workers "
            f"diverges whatever W is; lower the learning rate"
        )
    # At g = 4/3 both are −3.
    return -1 / (3 - 2 * gamma_h) if gamma_h < 4 / 3 else -1 / (gamma_h - 1)


def d2_rates(W: Matrix, h: ArrayLike = 1.0) -> list[tuple[float, float]]:
    """The learning rates for which D² converges on workers with equal Hessians.

    A list of open intervals: one or, if no rate is stable, none. For a stochastic W whose smallest
    eigenvalue λ is negative it is max(0, (3 − 1/|λ|)/2) < γh < 2, which leaves out small rates if
    λ < −1/3; otherwise 0 < γh < 2. Empty if W does not connect the workers, who then never agree.
    See `d2_smallest_eigenvalue` for the conditions.

    Args:
        W: symmetric mixing matrix.
        h: the curvature, or a 1-D array of all eigenvalues of the Hessian that the workers share.

    Raises:
        ValueError: W is a sequence or not symmetric, or a curvature is not positive.

    Source: derived here.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import hypercube
    >>> [(round(low, 12), high) for low, high in d2_rates(metropolis(hypercube(8)))]
    [(0.5, 2.0)]
    """
    return _stable_rates(*_ends_of_symmetric(W, "D²"), h)


def exact_diffusion_rates(W: Matrix, h: ArrayLike = 1.0) -> list[tuple[float, float]]:
    """The learning rates for which exact diffusion converges on workers with equal Hessians.

    Those of `d2_rates` with (I + W)/2 in the place of W, which for a stochastic W has no negative
    eigenvalue: 0 < γh < 2 whatever W is, if it connects the workers.

    Args:
        W: symmetric mixing matrix.
        h: the curvature, or a 1-D array of all eigenvalues of the Hessian that the workers share.

    Raises:
        ValueError: W is a sequence or not symmetric, or a curvature is not positive.

    Source: derived here; Li, Shi, Yan, "NIDS", 2019, have the same limit 2/L (constant not
    verified).

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import hypercube
    >>> exact_diffusion_rates(metropolis(hypercube(8)), h=4)
    [(0.0, 0.5)]
    """
    gap, smallest = _ends_of_symmetric(W, "exact diffusion")
    return _stable_rates(gap / 2, (smallest + 1) / 2, h)


def d2_spectral_radius(W: Matrix, learning_rate: float, h: ArrayLike = 1.0) -> float:
    """By how much D² shortens the error of its iterates in a step, in the long run.

    The largest |z| over all modes of W but for the mean, z² − λ(2 − γh)z + λ(1 − γh) = 0, and over
    |1 − γh| for the mean. Below 1 for the rates of `d2_rates` and no other; that of exact diffusion
    is ``d2_spectral_radius(lazy(W), …)`` with `relaysim.mixing.lazy`.

    Args:
        W: symmetric mixing matrix.
        learning_rate: γ ≥ 0.
        h: the curvature, or a 1-D array of all eigenvalues of the Hessian that the workers share.

    Raises:
        ValueError: W is a sequence or not symmetric, or a number is out of range.

    Source: derived here.

    >>> d2_spectral_radius(np.array([[0.5, 0.5], [0.5, 0.5]]), 0.25)
    0.75
    """
    gap, smallest = _ends_of_symmetric(W, "D²")
    s = 1 - real_number(learning_rate, "learning_rate", 0) * _curvatures(h)
    if gap == math.inf:  # a single worker
        return float(np.abs(s).max())
    # At any s ≤ 1 the radius grows with |λ| on both sides of λ = 0.
    modes = np.array([[1 - gap], [smallest]])
    trace, determinant = modes * (1 + s), modes * s
    discriminant = trace**2 - 4 * determinant
    real = (np.abs(trace) + np.sqrt(np.maximum(discriminant, 0))) / 2
    radii = np.where(discriminant < 0, np.sqrt(np.abs(determinant)), real)
    apart = 1.0 if gap == 0 else 0.0  # groups that exchange nothing never agree
    return float(max(radii.max(), np.abs(s).max(), apart))


def _ends_of_symmetric(W: Matrix, method: str) -> tuple[float, float]:
    """1 − λ₂ and λ_n; infinite and 0 for a single worker, who has no such modes."""
    matrices = as_matrices(W)
    if len(matrices) > 1 or not is_symmetric(matrices[0]):
        given = "a sequence" if len(matrices) > 1 else "not symmetric"
        raise ValueError(
            f"the limits of {method} are known for one symmetric W, but W is {given}; "
            f"use relaysim.mixing.metropolis(topology), say"
        )
    if matrices[0].shape == (1, 1):
        return math.inf, 0.0
    gap = below_one(matrices[0])
    smallest = above_minus_one(matrices[0]) - 1
    return (0.0 if abs(gap) < matrices[0].shape[0] * EPSILON else gap), smallest


def _stable_rates(gap: float, smallest: float, h: ArrayLike) -> list[tuple[float, float]]:
    curvatures = _curvatures(h)
    low, high = 0.0, 2.0
    if smallest < 0:
        low = max(low, (3 + 1 / smallest) / 2)
        high = min(high, 1 - 1 / smallest)
    low, high = float(low / curvatures.min()), float(high / curvatures.max())
    return [(low, high)] if gap > 0 and low < high else []


def _curvatures(h: ArrayLike) -> np.ndarray:
    curvatures = np.atleast_1d(real_numbers(h, "h"))
    if curvatures.ndim > 1 or not curvatures.size:
        raise ValueError(f"h must be a number or a 1-D array, not of shape {np.shape(h)}")
    if not (np.isfinite(curvatures) & (curvatures > 0)).all():
        raise ValueError(f"h must be positive and finite, not {h!r}; D² needs strong convexity")
    return curvatures
