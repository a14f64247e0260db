"""Random quadratics of chosen heterogeneity."""

from __future__ import annotations

import numpy as np

from relaysim.problems.quadratics import LeastSquares
from relaysim.support.checks import real_number, whole_number

__all__ = ["random_quadratics"]


def random_quadratics(
    n: int,
    d: int,
    *,
    zeta2: float,
    mu: float | None = 0.25,
    smoothness: float = 1.0,
    r0: float = 1.0,
    seed: int,
) -> LeastSquares:
    """Random least squares with chosen heterogeneity, the problems of the RelaySum paper.

    A_i = U_i diag(s) V_iᵀ with U_i, V_i from the singular value decomposition of a Gaussian matrix
    and s = linspace(√mu, √smoothness, d). Every worker's optimum is moved from the joint one by
    α δ_i with Gaussian δ_i shifted so that Σ_i A_iᵀA_i δ_i = 0; ζ² = α² (1/n) Σ_i ‖A_iᵀA_i δ_i‖²
    then gives α. (The published code bounds singular values: its ``mu=0.5`` is 0.25 here.)

    Args:
        n: workers.
        d: parameters.
        zeta2: ζ² = (1/n) Σ_i ‖∇f_i(x*)‖², at least 0, met to rounding.
        mu: smallest Hessian eigenvalue of each f_i. ``None`` keeps the Gaussian matrices, scaled
            to the largest singular value √smoothness.
        smoothness: largest Hessian eigenvalue of each f_i (with d = 1 there is only the one, mu).
        r0: distance of the joint optimum from 0, the default starting point.
        seed: a whole number.

    Raises:
        ValueError: numbers out of range, or zeta2 > 0 with a single worker.

    Source: Vogels et al., "RelaySum", NeurIPS 2021, and its published code.

    >>> problem = random_quadratics(n=8, d=5, zeta2=10.0, seed=0)
    >>> abs(problem.zeta2 - 10) < 1e-10, abs(problem.smoothness - 1) < 1e-12
    (True, True)
    """
    n, d = whole_number(n, "n", 1), whole_number(d, "d", 1)
    seed = whole_number(seed, "seed", 0)
    zeta2, r0 = real_number(zeta2, "zeta2", 0), real_number(r0, "r0", 0)
    if zeta2 > 0 and n == 1:
        raise ValueError(f"a single worker has zeta2 = 0; {zeta2!r} cannot be reached")
    if not real_number(smoothness, "smoothness") > 0:
        raise ValueError(f"smoothness must be positive, not {smoothness!r}")
    if mu is not None and not 0 < real_number(mu, "mu") <= smoothness:
        raise ValueError(f"mu must lie in (0, smoothness={smoothness}], not {mu!r}")

    generator = np.random.default_rng(seed)
    A = generator.standard_normal((n, d, d))
    if mu is None:
        A *= np.sqrt(smoothness) / np.linalg.norm(A, ord=2, axis=(1, 2))[:, None, None]
    else:
        left, _, right = np.linalg.svd(A)
        A = left * np.linspace(np.sqrt(mu), np.sqrt(smoothness), d) @ right
    hessians = A.transpose(0, 2, 1) @ A
    offsets = generator.standard_normal((n, d))
    pull = (hessians @ offsets[:, :, None])[:, :, 0]
    offsets -= np.linalg.solve(hessians.mean(axis=0), pull.mean(axis=0))
    pull = (hessians @ offsets[:, :, None])[:, :, 0]
    if zeta2 == 0:
        offsets[:] = 0
    else:
        offsets *= np.sqrt(zeta2 / (np.einsum("nd,nd->", pull, pull) / n))
    direction = generator.standard_normal(d)
    optimum = direction * (r0 / np.linalg.norm(direction))
    b = (A @ (optimum + offsets)[:, :, None])[:, :, 0]

    problem = LeastSquares(A, b)
    problem.recipe = {
        "type": "random_quadratics",
        "n": n,
        "d": d,
        "zeta2": zeta2,
        "mu": None if mu is None else float(mu),
        "smoothness": float(smoothness),
        "r0": r0,
        "seed": seed,
    }
    return problem
