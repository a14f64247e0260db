"""What least squares with its parameters split over workers makes of new examples."""

from __future__ import annotations

import numpy as np

from relaysim.support.checks import real_number, whole_number

__all__ = ["cocoa_generalization"]


def cocoa_generalization(n: int, p: int, workers: int, sigma2: float = 0.0) -> float:
    """E‖x̂ − x‖² after one round of CoCoA from 0: the error on a new example, but for its own noise.

    y = Ax + w with n examples, A ``(n, p)`` and w independent normal of variance 1 and σ²; ‖x‖² = 1, spread
    evenly over the p parameters. Each of K workers holds p_k columns, as even as can be, and
    x̂_k = (1/K) A_k⁺ y. With q_k = min(n, p_k) and E‖A_k⁺‖² = q_k / (|p_k − n| − 1),

        Σ_k (p_k/p) [1 − (2/K − 1/K²) q_k/p_k] + (1/K²) (1 − p_k/p + σ²) q_k / (|p_k − n| − 1),

    for p_k = p/K everywhere 1 − (2/K − 1/K²) q/p_k + ((K − 1)/K² + σ²/K) q/(|p_k − n| − 1). It is infinite
    where some p_k is within 1 of n, whatever p is: double descent in p_k. For p_k ≥ n it is the error after
    any number of rounds. K = 1 is least squares of smallest norm.

    Args:
        n: examples.
        p: parameters of all workers.
        workers: K, at most p.
        sigma2: σ², variance of the noise of a target.

    Raises:
        TypeError, ValueError: numbers out of range.

    Source: Hellkvist, Özçelikkale, Ahlén, "Linear regression with distributed learning: a generalization
    error perspective", 2021, for the subject; the formula is derived here, from the means of a random
    projection and of an inverse Wishart matrix, and held against draws.

    >>> round(cocoa_generalization(50, 150, workers=2), 3), cocoa_generalization(50, 100, workers=2)
    (1.021, inf)
    >>> cocoa_generalization(50, 200, workers=1) == 1 - 50 / 200
    True
    """
    n, p = whole_number(n, "n", 1), whole_number(p, "p", 1)
    workers, sigma2 = whole_number(workers, "workers", 1), real_number(sigma2, "sigma2", 0)
    if workers > p:
        raise ValueError(
            f"workers must be at most p = {p}, so that each holds a column, not {workers}"
        )
    p_k = np.full(workers, p // workers)
    p_k[: p % workers] += 1
    q = np.minimum(n, p_k)
    own = p_k / p - (2 / workers - 1 / workers**2) * q / p
    noise = (1 - p_k / p + sigma2) / workers**2
    if not noise.any():
        return float(own.sum())
    beyond = np.abs(p_k - n) - 1
    if (beyond <= 0).any():
        return float("inf")
    return float((own + noise * q / beyond).sum())
