"""Accelerated gossip: several rounds of one matrix that agree in √ of the rounds of plain gossip."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigvalsh
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from relaysim.mixing.rounds import SeveralRounds, is_several_rounds
from relaysim.mixing.sequences import Matrix, as_matrices, is_symmetric
from relaysim.support.checks import require_memory, whole_number

__all__ = ["chebyshev", "disagreement_left", "fast_mix", "heavy_ball_momentum"]

# Larger matrices have their eigenvalue by Lanczos iterations.
DENSE_LIMIT = 1500
# ‖W − J‖ below this is rounding: one round averages.
AVERAGES_BELOW = 1e-12


def fast_mix(W: Matrix, rounds: int) -> SeveralRounds:
    """FastMix: rounds of gossip with the momentum of a heavy ball, as one matrix.

    A_{k+1} = (1 + η) W A_k − η A_{k−1}, A_{−1} = A_0 = X, with η = (1 − √(1 − λ²))/(1 + √(1 − λ²)) and
    λ = ‖W − J‖₂, J = 11ᵀ/n. What is left of the disagreement after K rounds falls as K η^{K/2}, where plain
    gossip leaves λ^K: on a ring of n workers rounds grow as n instead of n². Fewer rounds than that may leave
    more than there was, see `chebyshev`.

    For any method that mixes whole vectors: ``mixing=fast_mix(W, 5)`` mixes five times a step, and
    ``vectors_sent`` counts all five. A method's own claim of hops a step is of one round.

    Args:
        W: symmetric, ``(n, n)``, with rows that sum to 1, for which gossip averages. Dense linear algebra.
        rounds: K, at least 1. One round is not W, but (1 + η)W − ηI.

    Raises:
        ValueError: not symmetric, or no matrix whose gossip averages.

    Source: Liu and Morse, "Accelerated linear iterations for distributed averaging", 2011, as used in Mudag,
    see `relaysim.algorithms.Mudag`.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import ring
    >>> W = metropolis(ring(32))
    >>> [float(np.linalg.norm(P.toarray() - 1 / 32, 2).round(2)) for P in (W, fast_mix(W, 40))]
    [0.99, 0.01]
    """
    one = _one_round(W, "fast_mix")
    momentum = heavy_ball_momentum(_left(one, "fast_mix"))
    count = whole_number(rounds, "rounds", 1)
    return SeveralRounds.made(one, np.full(count, 1 + momentum), "fast_mix")


def chebyshev(W: Matrix, rounds: int) -> SeveralRounds:
    """The rounds of gossip that leave least: T_K(W/λ)/T_K(1/λ), with λ = ‖W − J‖₂.

    T_K is Chebyshev's polynomial of degree K, so that no other polynomial of W of this degree that preserves
    the mean leaves less of the disagreement in the worst case: 1/T_K(1/λ), where λ^K is left by plain gossip.
    One round is W. See `fast_mix` for its use.

    Args:
        W: symmetric, ``(n, n)``, with rows that sum to 1, for which gossip averages. Dense linear algebra.
        rounds: K, at least 1.

    Raises:
        ValueError: not symmetric, or no matrix whose gossip averages.

    Source: Scaman, Bach, Bubeck, Lee, Massoulié, "Optimal algorithms for smooth and strongly convex
    distributed optimization in networks", ICML 2017, for the use; with W/λ as in the code published with
    "DESTRESS", 2022. That it is best in the worst case is Chebyshev's theorem.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import ring
    >>> P = chebyshev(metropolis(ring(8)), 5)
    >>> round(float(np.linalg.norm(P.toarray() - 1 / 8, 2)), 4)
    0.0656
    """
    one = _one_round(W, "chebyshev")
    left = _left(one, "chebyshev")
    factors = np.ones(whole_number(rounds, "rounds", 1))
    if left > AVERAGES_BELOW:
        # With ρ_k = T_{k−1}(1/λ)/T_k(1/λ), a_k = 2ρ_{k+1}/λ and ρ_{k+1} = 1/(2/λ − ρ_k).
        ratio = left
        for k in range(1, len(factors)):
            ratio = 1 / (2 / left - ratio)
            factors[k] = 2 * ratio / left
    return SeveralRounds.made(one, factors, "chebyshev")


def heavy_ball_momentum(left: float) -> float:
    """The η of `fast_mix` where a round of plain gossip leaves λ of the disagreement.

    >>> heavy_ball_momentum(0.0), round(heavy_ball_momentum(0.8), 12)
    (0.0, 0.25)
    """
    root = math.sqrt(1 - left**2)
    return (1 - root) / (1 + root)


def disagreement_left(W: csr_array) -> float:
    """‖W − J‖₂ of a symmetric W: what a round of gossip leaves of ‖X − X̄‖ at the most.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import complete, ring
    >>> disagreement_left(metropolis(complete(4))) < 1e-15, round(disagreement_left(metropolis(ring(4))), 12)
    (True, 0.333333333333)
    """
    n = W.shape[0]
    if n <= DENSE_LIMIT:
        return float(np.abs(eigvalsh(W.toarray() - 1 / n)).max())

    def apply(x: np.ndarray) -> np.ndarray:
        return W @ x - x.mean(axis=0)

    found = eigsh(LinearOperator((n, n), matvec=apply, dtype=float), k=1, return_eigenvectors=False)
    return float(abs(found[0]))


def _one_round(W: Matrix, name: str) -> csr_array:
    """The matrix, checked."""
    if is_several_rounds(W):
        raise ValueError(
            f"{name} needs the matrix of one round, and this one stands for {len(W.factors)} already; "
            f"give the matrix that it was made of, with more rounds"
        )
    matrices = as_matrices(W)
    if len(matrices) != 1:
        raise ValueError(
            f"{name} needs one matrix, with which gossip averages, not a sequence of {len(matrices)}"
        )
    n = matrices[0].shape[0]
    require_memory(4 * 8 * n * n, f"a matrix of {n} × {n} weights", "take fewer workers")
    if not is_symmetric(matrices[0]):
        raise ValueError(
            f"{name} needs a symmetric matrix, whose eigenvalues are real; use "
            f"relaysim.mixing.metropolis(topology)"
        )
    return matrices[0]


def _left(W: csr_array, name: str) -> float:
    left = disagreement_left(W)
    if not left < 1 - 1e-14:
        raise ValueError(
            f"{name} needs a matrix whose gossip averages, and this one leaves {left:.6g} of the "
            f"disagreement: connect all workers, and take relaysim.mixing.lazy(W) where it is −1 that is "
            f"an eigenvalue"
        )
    return left
