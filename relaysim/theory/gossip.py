"""Closed forms of gossip: what a mixing matrix does to consensus, to gradient noise and to D².

W is one matrix ``(n, n)``, dense or sparse, whose rows sum to one, or a sequence W_0, W_1, … that
repeats with the step: step t mixes with W_t. J = 11ᵀ/n stands for exact averaging.

Sources: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code;
the stability limits of D² derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse import csr_array, diags_array, eye_array, issparse, triu
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh, splu

from relaysim.mixing.sequences import ROW_SUM_TOLERANCE, Matrix, is_sequence
from relaysim.support.checks import real_array, real_number, whole_number

__all__ = [
    "d2_rates",
    "d2_smallest_eigenvalue",
    "d2_spectral_radius",
    "effective_neighbors",
    "exact_diffusion_rates",
    "spectral_gap",
    "toy_rate",
    "toy_rate_exact",
    "toy_zeta",
]

Mixing = Matrix | Sequence[Matrix]

MODES = ("mean", "worst")
EPSILON = float(np.finfo(float).eps)
SYMMETRY_TOLERANCE = 1e-12
# Larger matrices are handled by Lanczos and Arnoldi iterations.
DENSE_LIMIT = 1500
# Covariance maps on up to this many workers are written out as matrices (n², n²).
DENSE_COVARIANCE_LIMIT = 12


# -- spectral gap ----------------------------------------------------------------------------------


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
    matrices = _matrices(W)
    n = matrices[0].shape[0]
    if n == 1:
        return 1.0
    if len(matrices) == 1 and _is_symmetric(matrices[0]):
        below = _below_one(matrices[0])
        # 1 + λ_n is not below its Gershgorin bound; where that settles it, λ_n is not needed.
        settled = _gershgorin(eye_array(n) + matrices[0])[0] >= below
        return below if settled else min(below, _above_minus_one(matrices[0]))
    radius = _second_modulus(matrices)
    if radius <= n * EPSILON:
        return 1.0
    return -math.expm1(math.log(radius) / len(matrices))


# -- D² and exact diffusion ------------------------------------------------------------------------


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


def d2_rates(W: Matrix, h=1.0) -> list[tuple[float, float]]:
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


def exact_diffusion_rates(W: Matrix, h=1.0) -> list[tuple[float, float]]:
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


def d2_spectral_radius(W: Matrix, learning_rate: float, h=1.0) -> float:
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


def _ends_of_symmetric(W, method: str) -> tuple[float, float]:
    """1 − λ₂ and λ_n; infinite and 0 for a single worker, who has no such modes."""
    matrices = _matrices(W)
    if len(matrices) > 1 or not _is_symmetric(matrices[0]):
        given = "a sequence" if len(matrices) > 1 else "not symmetric"
        raise ValueError(
            f"the limits of {method} are known for one symmetric W, but W is {given}; "
            f"use relaysim.mixing.metropolis(topology), say"
        )
    if matrices[0].shape == (1, 1):
        return math.inf, 0.0
    gap = _below_one(matrices[0])
    smallest = _above_minus_one(matrices[0]) - 1
    return (0.0 if abs(gap) < matrices[0].shape[0] * EPSILON else gap), smallest


def _stable_rates(gap: float, smallest: float, h) -> list[tuple[float, float]]:
    curvatures = _curvatures(h)
    low, high = 0.0, 2.0
    if smallest < 0:
        low = max(low, (3 + 1 / smallest) / 2)
        high = min(high, 1 - 1 / smallest)
    low, high = float(low / curvatures.min()), float(high / curvatures.max())
    return [(low, high)] if gap > 0 and low < high else []


def _curvatures(h) -> np.ndarray:
    curvatures = np.atleast_1d(real_array(h, "h"))
    if curvatures.ndim > 1 or not curvatures.size:
        raise ValueError(f"h must be a number or a 1-D array, not of shape {np.shape(h)}")
    if not (np.isfinite(curvatures) & (curvatures > 0)).all():
        raise ValueError(f"h must be positive and finite, not {h!r}; D² needs strong convexity")
    return curvatures


# -- effective number of neighbours ----------------------------------------------------------------


def effective_neighbors(W: Mixing, gamma: float, mode: str = "mean") -> float:
    """By how much gossip reduces noise: n_W(γ) = [1/(1 − γ)] / avg_i Var(z_i).

    z is the stationary random walk z ← W_t(√γ z + ξ), ξ ~ N(0, I), and 1/(1 − γ) what its variance
    would be without noise averaging. For a symmetric W with eigenvalues λ_i it is
    [1/(1 − γ)] / [(1/n) Σ_i λ_i² / (1 − γλ_i²)]; else a discrete Lyapunov equation is solved over
    the period. n_W(0) = 1/mean(λ²), n_W(γ) → n for γ → 1 if W is doubly stochastic and connects
    the workers. Dense linear algebra, O(n³).

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
    statistic = _statistic(mode)
    return float(1 / statistic(_walk(_matrices(W))(gamma, 1 - gamma)))


def _statistic(mode: str) -> Callable[[np.ndarray], float]:
    if mode not in MODES:
        raise ValueError(f"mode must be 'mean' or 'worst', not {mode!r}")
    return np.mean if mode == "mean" else np.max


def _walk(matrices: tuple[csr_array, ...]) -> Callable[[float, float], np.ndarray]:
    """A function of γ and 1 − γ that gives (1 − γ) Var(z_i), ``(m, n)`` for a period of m steps."""
    if len(matrices) == 1 and _is_symmetric(matrices[0]):
        # J W = W J = J: its mode is set apart, so that nothing is lost for γ close to 1.
        dense = matrices[0].toarray()
        eigenvalues, vectors = np.linalg.eigh(dense - 1 / len(dense))
        _require_bounded(float(np.abs(eigenvalues).max()))
        squares = np.minimum(eigenvalues**2, 1)
        below_one = (1 - eigenvalues) * (1 + eigenvalues)
        below_one[below_one < len(dense) * EPSILON] = 0  # |λ| = 1: no noise is averaged out
        weights = vectors**2

        def symmetric(gamma: float, rest: float) -> np.ndarray:
            modes = squares * (rest / (rest + gamma * below_one))
            return (1 / len(dense) + weights @ modes)[np.newaxis]

        return symmetric
    _require_bounded(_second_modulus(matrices))
    dense = [matrix.toarray() for matrix in matrices]
    return lambda gamma, rest: _periodic_variances(dense, gamma, rest)


def _periodic_variances(matrices: list[np.ndarray], gamma: float, rest: float) -> np.ndarray:
    """(1 − γ) Var(z_i) before each step of the period, ``(m, n)``.

    z = a·1 + y with a the mean over the workers. With c = Wᵀ1/n and D = (I − J)W,
    a' = √γ a + cᵀ(√γ y + ξ) and y' = D(√γ y + ξ): y is bounded as γ → 1, and the only 1/(1 − γ),
    in the variance of a, can be divided out.
    """
    n, m = len(matrices[0]), len(matrices)
    means = [W.mean(axis=0) for W in matrices]
    apart = [W - c for W, c in zip(matrices, means, strict=True)]

    def step(t, Y, k):
        """Y = Cov(y), k = Cov(y, a), and what Var(a) gains."""
        noisy = gamma * Y + np.eye(n)
        gain = means[t] @ noisy @ means[t] + 2 * gamma * (means[t] @ k)
        return apart[t] @ noisy @ apart[t].T, apart[t] @ (gamma * k + noisy @ means[t]), gain

    # Y: what a period adds, starting from nothing, and then over all periods by doubling:
    # Σ_{j < 2^{i+1}} g^j P^j R Pʲᵀ from the sum of half the length.
    product, Y, zero = np.eye(n), np.zeros((n, n)), np.zeros(n)
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
        states.append((running, covariance))
        running, covariance, gain = step(t, running, covariance)
        total = gamma * total + gain
        states[-1] += (gain,)
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


# -- the isotropic toy problem ---------------------------------------------------------------------


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
    matrices, statistic = _matrices(W), _statistic(mode)
    walk = _walk(matrices)
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
    y = brentq(excess, low, high, xtol=1e-300, rtol=4 * EPSILON)
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
    matrices = _matrices(W)
    n, m = matrices[0].shape[0], len(matrices)
    kept, noise = (1 - eta) ** 2, (zeta - 1) * eta**2
    if kept == noise == 0:
        return 1.0  # one step without noise reaches the optimum
    scale = np.full((n, n), kept)
    np.fill_diagonal(scale, kept + noise)
    symmetric = m == 1 and _is_symmetric(matrices[0])
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


def _toy_numbers(learning_rate, zeta) -> tuple[float, float]:
    return real_number(learning_rate, "learning_rate", 0), real_number(zeta, "zeta", 1)


# -- eigenvalues -----------------------------------------------------------------------------------


def _below_one(W: csr_array) -> float:
    """1 − λ₂ of a symmetric W, n > 1, λ₂ its largest eigenvalue but for that of the mode 1.

    With the unit eigenvector v it is Σ_{i<j} w_ij (v_i − v_j)²: for non-negative weights without
    cancellation, and with an error that is quadratic in that of v.
    """
    i, j, weights = _edges(W)
    # What is left of rows that sum to 1 only to rounding goes to the diagonal.
    neighbours = W - diags_array(W.diagonal())
    v = _lowest_mode(csr_array(diags_array(neighbours.sum(axis=1)) - neighbours))
    return float((weights * (v[i] - v[j]) ** 2).sum() / (v**2).sum())


def _above_minus_one(W: csr_array) -> float:
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


def _second_modulus(matrices: tuple[csr_array, ...]) -> float:
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


# -- input -----------------------------------------------------------------------------------------


def _matrices(W) -> tuple[csr_array, ...]:
    """W, or all matrices of a sequence, checked."""
    given = tuple(W) if is_sequence(W) else (W,)
    matrices = []
    for t, matrix in enumerate(given):
        which = f"W_{t}" if len(given) > 1 else "W"
        if not issparse(matrix):
            matrix = real_array(matrix, which)
        elif matrix.dtype.kind not in "fiub":
            raise TypeError(f"{which} must have real entries, not {matrix.dtype}")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.shape[0]:
            shape = " × ".join(map(str, matrix.shape))
            raise ValueError(
                f"{which} must be a square matrix (n, n), or a sequence of them; it is {shape}"
            )
        if matrices and matrix.shape != matrices[0].shape:
            raise ValueError(
                f"all matrices of a sequence must be of one size; W_0 has {matrices[0].shape[0]} "
                f"rows and {which} has {matrix.shape[0]}"
            )
        matrix = csr_array(matrix).astype(float)
        if not np.isfinite(matrix.data).all():
            raise ValueError(f"{which} has entries that are not finite")
        sums = matrix.sum(axis=1)
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > ROW_SUM_TOLERANCE:
            raise ValueError(
                f"the rows of {which} must sum to 1; row {worst} sums to {sums[worst]:.6g}. "
                f"Put 1 − (the rest of the row) on the diagonal"
            )
        matrices.append(matrix)
    return tuple(matrices)


def _is_symmetric(W: csr_array) -> bool:
    return abs(W - W.T).max() <= SYMMETRY_TOLERANCE * max(1, abs(W).max())
