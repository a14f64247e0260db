"""The isotropic toy problem of "Beyond spectral gap": how fast DP-SGD falls there, W by W.

W is one matrix ``(n, n)``, dense or sparse, whose rows sum to one, or a sequence W_0, W_1, … that
repeats with the step: step t mixes with W_t.

Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code.
"""

from __future__ import annotations

import numpy as np
import scipy
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

from relaysim.mixing.sequences import Mixing, as_matrices, is_symmetric
from relaysim.support.checks import real_number, whole_number
from relaysim.theory.mixing_gap import EPSILON
from relaysim.theory.noise_averaging import statistic_of, variances_of_walk

__all__ = ["toy_rate", "toy_rate_exact", "toy_zeta"]

# Covariance maps on up to this many workers are written out as matrices (n², n²).
DENSE_COVARIANCE_LIMIT = 12


def toy_zeta(d: int, batch: int = 1) -> float:
    """The noise level ζ = (1 + b + d)/b of the toy problem: E‖g(x)‖² = ζ‖x‖².

    g(x) = (1/b) Σ_k v_k v_kᵀ x over a batch of b vectors v_k ~ N(0, I_d): the gradient of
    E ½(vᵀx)². Centralised SGD is fastest at learning rate 1/ζ, with n workers 1/ζ of batch bn.

    Raises:
        ValueError: d or batch below 1.

    Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022.

    >>> toy_zeta(10), toy_zeta(10, batch=11)
    (12.0, 2.0)
    """
    d, batch = whole_number(d, "d", 1), whole_number(batch, "batch", 1)
    return (1 + batch + d) / batch


def toy_rate(W: Mixing, learning_rate: float, zeta: float, mode: str = "worst") -> float:
    """The rate r of DP-SGD on the toy problem, E‖x_t‖² = (1 − r) E‖x_{t−1}‖², from n_W.

    X ← W(X − ηG) with E g = x and E‖g‖² = ζ‖x‖². r solves the fixed point
    r = 1 − (1 − η)² − (ζ − 1)η² / n_W(γ), γ = (1 − η)²/(1 − r), n_W of `effective_neighbors`.
    There is exactly one solution with γ < 1 (γ → 1 and r = 1 − (1 − η)² without noise, that is if
    (ζ − 1)η² = 0); where SGD diverges it is negative: E‖x‖² grows by 1 − r in each step.

    It equals `toy_rate_exact` for one symmetric W that treats all workers alike, as on a ring.
    Otherwise ``mode="worst"`` is not above the exact rate, for any W, and ``"mean"`` not below it
    for a symmetric W: the exact growth q = 1 − r is where the non-negative matrix with entries
    (ζ − 1)η² Σ_k (1 − η)^{2k} q^{−k−1} (W^{k+1})_ij² has spectral radius 1; the other two are where
    its largest row sum and, since it is symmetric, the average of its row sums are 1.

    Args:
        W: mixing matrix, or a sequence that repeats.
        learning_rate: η ≥ 0.
        zeta: noise level ζ ≥ 1, see `toy_zeta`.
        mode: which n_W, ``"worst"`` as in the published code, or ``"mean"``.

    Raises:
        ValueError: a number or mode out of range, not a mixing matrix, or one whose gossip
            diverges.

    Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, section 3.1; uniqueness
    and bounds derived here.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import ring
    >>> round(toy_rate(metropolis(ring(16)), 0.1, toy_zeta(10)), 5)
    0.18157
    """
    eta, zeta = _toy_numbers(learning_rate, zeta)
    matrices, statistic = as_matrices(W), statistic_of(mode)
    walk = variances_of_walk(matrices)
    kept, noise = (1 - eta) ** 2, (zeta - 1) * eta**2
    if noise == 0:
        return eta * (2 - eta)

    # y = 1 − r − (1 − η)², by which noise adds to the error, is noise / n_W: noise / n if gossip
    # were exact and more otherwise. Noise / (y n_W) falls with y, so that the root is unique.
    def excess(y: float) -> float:
        return noise * statistic(walk(kept / (kept + y), y / (kept + y))) - y

    low = noise / matrices[0].shape[0]
    if excess(low) <= 0:  # exact averaging, to rounding
        return eta * (2 - eta) - low
    high = 2 * low
    while excess(high) > 0:
        low, high = high, 2 * high
    y = scipy.optimize.brentq(excess, low, high, xtol=1e-300, rtol=4 * EPSILON)
    return float(eta * (2 - eta) - y)


def toy_rate_exact(W: Mixing, learning_rate: float, zeta: float) -> float:
    """The rate r of DP-SGD on the toy problem, E‖x_t‖² = (1 − r) E‖x_{t−1}‖², for any W.

    X ← W(X − ηG) with independent g_i, E g = x and E‖g‖² = ζ‖x‖². C_ij = E⟨x_i, x_j⟩ obeys
    C ← W((1 − η)² C + (ζ − 1)η² diag(C))Wᵀ. 1 − r is the spectral radius of this map on (n, n)
    matrices, its m-th root for a sequence of period m: the growth in the long run, per step. It is
    negative where SGD diverges.

    Args:
        W: mixing matrix, or a sequence that repeats.
        learning_rate: η ≥ 0.
        zeta: noise level ζ ≥ 1, see `toy_zeta`.

    Raises:
        ValueError: a number out of range, not a mixing matrix, or no convergence of the
            eigenvalue, which is iterated for above n = 12.

    Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code.

    >>> from relaysim.mixing import metropolis
    >>> from relaysim.topologies import star
    >>> round(toy_rate_exact(metropolis(star(4)), 0.1, toy_zeta(10)), 6)
    0.16002
    """
    eta, zeta = _toy_numbers(learning_rate, zeta)
    matrices = as_matrices(W)
    n, m = matrices[0].shape[0], len(matrices)
    kept, noise = (1 - eta) ** 2, (zeta - 1) * eta**2
    if kept == noise == 0:
        return 1.0  # one step without noise reaches the optimum
    scale = np.full((n, n), kept)
    np.fill_diagonal(scale, kept + noise)
    symmetric = m == 1 and is_symmetric(matrices[0])
    dense = [matrix.toarray() for matrix in matrices]
    # Of S(W ⊗ W), S the scale, the root goes to the right: √S (W ⊗ W) √S is symmetric if W is.
    root = np.sqrt(scale)

    def step(flat: np.ndarray) -> np.ndarray:
        C = root * flat.reshape(n, n)
        for t, W_t in enumerate(dense):
            C = W_t @ (C if t == 0 else scale * C) @ W_t.T
        return (root * C).ravel()

    if n <= DENSE_COVARIANCE_LIMIT:
        matrix = np.array([step(unit) for unit in np.eye(n * n)]).T
        values = np.linalg.eigvalsh(matrix) if symmetric else np.linalg.eigvals(matrix)
    else:
        options = {
            "v0": np.random.default_rng(0).normal(size=n * n),
            "ncv": min(40, n * n),
            "return_eigenvectors": False,
        }
        operator = LinearOperator((n * n, n * n), matvec=step, dtype=float)
        # The map keeps positive semidefinite matrices so: its spectral radius is an eigenvalue.
        try:
            if symmetric:
                values = eigsh(operator, 1, which="LA", **options)
            else:
                values = eigs(operator, 1, which="LR", **options)
        except ArpackNoConvergence:
            raise ValueError(
                f"the largest eigenvalue of the covariance of {n} workers did not converge; "
                f"try fewer workers, or toy_rate"
            ) from None
    return float(1 - np.abs(values).max() ** (1 / m))


def _toy_numbers(learning_rate: float, zeta: float) -> tuple[float, float]:
    return real_number(learning_rate, "learning_rate", 0), real_number(zeta, "zeta", 1)
