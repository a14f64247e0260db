"""How fast gossip makes workers agree: the spectral gap of mixing matrices, to its last digits.

W is one matrix ``(n, n)``, dense or sparse, whose rows sum to one, or a sequence W_0, W_1, … that
repeats with the step: step t mixes with W_t.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array, eye_array, triu
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh, splu

from relaysim.mixing.sequences import Mixing, as_matrices, is_symmetric

__all__ = ["EPSILON", "above_minus_one", "below_one", "second_modulus", "spectral_gap"]

EPSILON = float(np.finfo(float).eps)
# Larger matrices are handled by Lanczos and Arnoldi iterations.
DENSE_LIMIT = 1500


def spectral_gap(W: Mixing) -> float:
    """How fast gossip averages: 1 − |λ₂(W)|, λ₂ the eigenvalue second to 1 in modulus.

    W need not be symmetric; it is 1 for a single worker and 0 where gossip never averages, as on
    groups that exchange nothing. It is negative if an eigenvalue exceeds 1 in modulus.
    A sequence of period m has a gap per step: 1 − |λ₂(W_{m−1} … W_1 W_0)|^{1/m}, which does not
    depend on where the period starts. Eigenvalues of the product below n · 2.2e-16, which
    rounding hides, count as 0: such a sequence averages exactly, with gap 1.

    A symmetric W has its gap right to some 1e-12 of itself, however small: λ₂ = 1 − Σ_{i<j} w_ij
    (v_i − v_j)² for its unit eigenvector v, a sum without cancellation. Other eigenvalues are right
    to rounding, or worse where they are defective.

    Raises:
        ValueError: not square, not finite, or rows that do not sum to 1; or above n = 1500, where
            eigenvalues are iterated for, no convergence.

    >>> from relaysim.mixing import metropolis, one_peer_exponential
    >>> from relaysim.topologies import ring
    >>> round(spectral_gap(metropolis(ring(4))), 12)
    0.666666666667
    >>> spectral_gap(one_peer_exponential(8))
    1.0
    """
    matrices = as_matrices(W)
    n = matrices[0].shape[0]
    if n == 1:
        return 1.0
    if len(matrices) == 1 and is_symmetric(matrices[0]):
        below = below_one(matrices[0])
        # 1 + λ_n is not below its Gershgorin bound; where that settles it, λ_n is not needed.
        settled = _gershgorin(eye_array(n) + matrices[0])[0] >= below
        return below if settled else min(below, above_minus_one(matrices[0]))
    radius = second_modulus(matrices)
    if radius <= n * EPSILON:
        return 1.0
    return -math.expm1(math.log(radius) / len(matrices))


# -- eigenvalues ------------------------------------------------------------------------------------


def below_one(W: csr_array) -> float:
    """1 − λ₂ of a symmetric W, n > 1, λ₂ its largest eigenvalue but for that of the mode 1.

    With the unit eigenvector v it is Σ_{i<j} w_ij (v_i − v_j)²: for non-negative weights without
    cancellation, and with an error that is quadratic in that of v.
    """
    i, j, weights = _edges(W)
    # What is left of rows that sum to 1 only to rounding goes to the diagonal.
    neighbours = W - diags_array(W.diagonal())
    v = _lowest_mode(csr_array(diags_array(neighbours.sum(axis=1)) - neighbours))
    return float((weights * (v[i] - v[j]) ** 2).sum() / (v**2).sum())


def above_minus_one(W: csr_array) -> float:
    """1 + λ_n of a symmetric W, n > 1: Σ_{i<j} w_ij (v_i + v_j)² + 2 Σ_i w_ii v_i², as above."""
    i, j, weights = _edges(W)
    v = _lowest_mode(csr_array(eye_array(W.shape[0]) + W))
    total = (weights * (v[i] + v[j]) ** 2).sum() + 2 * (W.diagonal() * v**2).sum()
    return float(total / (v**2).sum())


def _edges(W: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends i < j and weights of the edges."""
    upper = triu(W, k=1).tocoo()
    return *upper.coords, upper.data


def _gershgorin(A: csr_array) -> tuple[float, float]:
    """Bounds on the eigenvalues of a symmetric A."""
    diagonal = A.diagonal()
    others = abs(A).sum(axis=1) - np.abs(diagonal)
    return float((diagonal - others).min()), float((diagonal + others).max())


def _lowest_mode(A: csr_array) -> np.ndarray:
    """The eigenvector of a symmetric A's smallest eigenvalue on the complement of A's mode 1."""
    n = A.shape[0]
    lowest, highest = _gershgorin(A)
    if n <= DENSE_LIMIT:
        # A multiple of J moves the mode 1 above all others.
        lifted = A.toarray() + (highest - lowest + 1) / n
        mode = eigh(lifted, subset_by_index=[0, 0])[1][:, 0]
        return mode - mode.mean()

    def reflected(v: np.ndarray) -> np.ndarray:
        v = v - v.mean()
        return (highest + 1) * v - A @ v

    options = {"which": "LA", "v0": np.random.default_rng(0).normal(size=n)}
    try:
        operator = LinearOperator((n, n), matvec=reflected, dtype=float)
        mode = eigsh(operator, 1, ncv=40, maxiter=40, tol=1e-10, **options)[1][:, 0]
    except ArpackNoConvergence:
        # A tiny gap: the inverse has the mode at the top of its spectrum, well apart.
        factors = splu((A - (lowest - 1e-10) * eye_array(n)).tocsc())

        def inverse(v: np.ndarray) -> np.ndarray:
            v = factors.solve(v - v.mean())
            return v - v.mean()

        operator = LinearOperator((n, n), matvec=inverse, dtype=float)
        try:
            mode = eigsh(operator, 1, **options)[1][:, 0]
        except ArpackNoConvergence:
            raise _unconverged(n) from None
    return mode - mode.mean()


def second_modulus(matrices: tuple[csr_array, ...]) -> float:
    """|λ₂| of W_{m−1} … W_0: the spectral radius of that product less J, from the left."""
    n = matrices[0].shape[0]
    if n <= DENSE_LIMIT:
        product = np.eye(n)
        for W in matrices:
            product = W @ product
            product = product - product.mean(axis=0)
        return float(np.abs(np.linalg.eigvals(product)).max())

    def step(v: np.ndarray) -> np.ndarray:
        for W in matrices:
            v = W @ v
            v = v - v.mean()
        return v

    start = np.random.default_rng(0).normal(size=n)
    # Two periods tell exact averaging, of which Arnoldi iterations have nothing to start from.
    if np.abs(step(step(start))).max() <= n * EPSILON:
        return 0.0
    try:
        operator = LinearOperator((n, n), matvec=step, dtype=float)
        values = eigs(operator, 2, ncv=60, v0=start, return_eigenvectors=False)
    except ArpackNoConvergence:
        raise _unconverged(n) from None
    return float(np.abs(values).max())


def _unconverged(n: int) -> ValueError:
    return ValueError(
        f"the eigenvalues of the mixing of {n} workers did not converge; try fewer workers"
    )
