"""By how much gossip averages noise out: the effective number of neighbours.

W is one matrix ``(n, n)``, dense or sparse, whose rows sum to one, or a sequence W_0, W_1, … that
repeats with the step: step t mixes with W_t. J = 11ᵀ/n stands for exact averaging.

Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import eig_banded
from scipy.sparse import csgraph, csr_array

from relaysim.mixing.sequences import Mixing, as_matrices, is_symmetric
from relaysim.support.checks import real_number, require_memory
from relaysim.theory.mixing_gap import DENSE_LIMIT, EPSILON, second_modulus

__all__ = ["effective_neighbors", "statistic_of", "variances_of_walk"]

MODES = ("mean", "worst")


def effective_neighbors(W: Mixing, gamma: float, mode: str = "mean") -> float:
    """By how much gossip reduces noise: n_W(γ) = [1/(1 − γ)] / avg_i Var(z_i).

    z is the stationary random walk z ← W_t(√γ z + ξ), ξ ~ N(0, I), and 1/(1 − γ) what its variance
    would be without noise averaging. For a symmetric W with eigenvalues λ_i it is
    [1/(1 − γ)] / [(1/n) Σ_i λ_i² / (1 − γλ_i²)]; else a discrete Lyapunov equation is solved over
    the period. n_W(0) = 1/mean(λ²), n_W(γ) → n for γ → 1 if W is doubly stochastic and connects
    the workers. Dense linear algebra, O(n³); for the mean over workers with a symmetric W, whose eigenvalues
    are enough, O(n² b) where workers can be put in an order in which neighbours are at most b apart.

    Args:
        W: mixing matrix, or a sequence that repeats.
        gamma: decay γ of the walk, 0 ≤ γ < 1.
        mode: ``"mean"``: variance averaged over the workers and, for a sequence, over the steps of
            its period. ``"worst"``: the largest variance of a worker at any step of the period.

    Raises:
        ValueError: γ or mode out of range, not a mixing matrix, or one whose gossip diverges.

    Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, whose code takes one step
    of the period only.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import complete, ring
    >>> round(effective_neighbors(metropolis(complete(8)), 0.5), 9)
    8.0
    >>> round(effective_neighbors(metropolis(ring(32)), 0.951), 2)
    8.86
    """
    gamma = real_number(gamma, "gamma")
    if not 0 <= gamma < 1:
        raise ValueError(
            f"gamma must lie in [0, 1), not {gamma!r}; at γ = 1 the walk has no variance, but for "
            f"a doubly stochastic W the limit is n"
        )
    statistic, matrices = statistic_of(mode), as_matrices(W)
    if mode == "mean" and len(matrices) == 1 and is_symmetric(matrices[0]):
        eigenvalues = _eigenvalues_but_one(matrices[0])
        return 1 / (
            1 / len(eigenvalues) + float(_left_of_modes(eigenvalues)(gamma, 1 - gamma).mean())
        )
    return float(1 / statistic(variances_of_walk(matrices)(gamma, 1 - gamma)))


def statistic_of(mode: str) -> Callable[[np.ndarray], float]:
    if mode not in MODES:
        raise ValueError(f"mode must be 'mean' or 'worst', not {mode!r}")
    return np.mean if mode == "mean" else np.max


def variances_of_walk(matrices: tuple[csr_array, ...]) -> Callable[[float, float], np.ndarray]:
    """A function of γ and 1 − γ that gives (1 − γ) Var(z_i), ``(m, n)`` for a period of m steps."""
    if len(matrices) == 1 and is_symmetric(matrices[0]):
        # J W = W J = J: its mode is set apart, so that nothing is lost for γ close to 1.
        dense = matrices[0].toarray()
        eigenvalues, vectors = np.linalg.eigh(dense - 1 / len(dense))
        left, weights = _left_of_modes(eigenvalues), vectors**2
        return lambda gamma, rest: (1 / len(dense) + weights @ left(gamma, rest))[np.newaxis]
    _require_bounded(second_modulus(matrices))
    each = [matrix.toarray() for matrix in matrices]
    return lambda gamma, rest: _periodic_variances(each, gamma, rest)


def _left_of_modes(eigenvalues: np.ndarray) -> Callable[[float, float], np.ndarray]:
    """(1 − γ)λ²/(1 − γλ²) of a symmetric W − J's eigenvalues, as a function of γ and 1 − γ."""
    _require_bounded(float(np.abs(eigenvalues).max()))
    squares = np.minimum(eigenvalues**2, 1)
    below_one = (1 - eigenvalues) * (1 + eigenvalues)
    below_one[below_one < len(eigenvalues) * EPSILON] = 0  # |λ| = 1: no noise is averaged out
    return lambda gamma, rest: squares * (rest / (rest + gamma * below_one))


def _eigenvalues_but_one(W: csr_array) -> np.ndarray:
    """Eigenvalues of a symmetric W − J: those of W, with a 0 in the place of the 1 of the mode 1."""
    n = W.shape[0]
    order = csgraph.reverse_cuthill_mckee(W, symmetric_mode=True)
    i, j = W[order][:, order].tocoo().coords
    width = int(np.abs(i - j).max(initial=0))
    if n <= DENSE_LIMIT or width > n / 50:
        require_memory(3 * 8 * n * n, f"a dense matrix of {n} workers", "take fewer workers")
        return np.linalg.eigvalsh(W.toarray() - 1 / n)
    banded = np.zeros((width + 1, n))
    lower = i >= j
    banded[(i - j)[lower], j[lower]] = W[order][:, order].tocoo().data[lower]
    found = eig_banded(banded, lower=True, eigvals_only=True)
    found[np.argmin(np.abs(found - 1))] = 0
    return found


def _periodic_variances(matrices: list[np.ndarray], gamma: float, rest: float) -> np.ndarray:
    """(1 − γ) Var(z_i) before each step of the period, ``(m, n)``.

    z = a·1 + y with a the mean over the workers. With c = Wᵀ1/n and D = (I − J)W,
    a' = √γ a + cᵀ(√γ y + ξ) and y' = D(√γ y + ξ): y is bounded as γ → 1, and the only 1/(1 − γ),
    in the variance of a, can be divided out.
    """
    n, m = len(matrices[0]), len(matrices)
    means = [W.mean(axis=0) for W in matrices]
    apart = [W - c for W, c in zip(matrices, means, strict=True)]

    def step(t: int, Y: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Y = Cov(y), k = Cov(y, a), and what Var(a) gains."""
        noisy = gamma * Y + np.eye(n)
        gain = means[t] @ noisy @ means[t] + 2 * gamma * (means[t] @ k)
        return apart[t] @ noisy @ apart[t].T, apart[t] @ (gamma * k + noisy @ means[t]), gain

    # Y: what a period adds, starting from nothing, and then over all periods by doubling:
    # Σ_{j < 2^{i+1}} g^j P^j R Pʲᵀ from the sum of half the length.
    product: np.ndarray = np.eye(n)
    Y: np.ndarray = np.zeros((n, n))
    zero: np.ndarray = np.zeros(n)
    for t in range(m):
        product = apart[t] @ product
        Y = step(t, Y, zero)[0]
    power, log_decay = product, m * (math.log1p(-rest) if gamma else -math.inf)
    while log_decay > -45:
        more = math.exp(log_decay) * (power @ Y @ power.T)
        if np.abs(more).max() <= EPSILON / 8 * np.abs(Y).max():
            break
        Y, power, log_decay = Y + more, power @ power, 2 * log_decay

    k, total = zero, 0.0
    running = Y
    for t in range(m):
        running, k, _ = step(t, running, k)
    k = np.linalg.solve(np.eye(n) - gamma**m * product, k)

    # V = (1 − γ) Var(a): a period takes it from V to γ^m V + (1 − γ) total.
    states, running, covariance = [], Y, k
    for t in range(m):
        before = running, covariance
        running, covariance, gain = step(t, *before)
        total = gamma * total + gain
        states.append((*before, gain))
    V = total / sum(gamma**t for t in range(m))
    variances = []
    for Y, k, gain in states:
        variances.append(V + rest * (2 * k + np.diag(Y)))
        V = gamma * V + rest * gain
    return np.array(variances)


def _require_bounded(modulus: float) -> None:
    if modulus > 1 + 1e-9:
        raise ValueError(
            f"W has an eigenvalue of modulus {modulus:.6g} > 1 over its period, so that gossip "
            f"diverges; use smaller weights, such as relaysim.mixing.metropolis(topology)"
        )
