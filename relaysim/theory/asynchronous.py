"""How fast workers that meet in pairs at random times agree, exactly.

Without gradients a meeting is a linear map of the state z, x or (x, x̃) over all workers, and so is what
happens between meetings. The second moment M = E zzᵀ then evolves linearly as well, and with it E Ξ².
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq

from relaysim.algorithms import A2CiD2, SwarmSGD
from relaysim.mixing.clocks import edge_rates
from relaysim.support.checks import real_array
from relaysim.topologies import Topology

__all__ = ["asynchronous_consensus", "asynchronous_decay"]

# d(x, x̃)/dt = η FLOW (x, x̃) between meetings.
FLOW = np.array([[-1.0, 1.0], [1.0, -1.0]])
EPSILON = float(np.finfo(float).eps)


def asynchronous_decay(topology: Topology, algorithm: A2CiD2 | SwarmSGD) -> float:
    """κ with E Ξ²_t ~ exp(−κt) as t → ∞ where nobody takes gradients; t in steps.

    For A²CiD² and its baseline −κ is the largest eigenvalue of the generator of the second moments,

        dM/dt = AM + MAᵀ + Σ_{i–j} λ_ij (P_ij M P_ijᵀ − M),

    with A what happens between meetings and P_ij what happens in one. For SwarmSGD, whose meetings are
    m a step, it is −m log of the largest eigenvalue of a meeting, M ↦ E[P M Pᵀ].

    Dense linear algebra over edges and pairs of modes: 10 ms for a ring of 32, 10 s for complete(64).

    Args:
        topology: connected, of two workers or more.
        algorithm: `A2CiD2` or `SwarmSGD` without a quantiser.

    Raises:
        TypeError: another algorithm.
        ValueError: a quantiser, or a graph that the algorithm cannot use.

    ``math.inf`` where a single meeting ends it: SwarmSGD with two workers.

    Source: derived here; after the way of Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip
    algorithms", IEEE Transactions on Information Theory 2006.

    >>> from relaysim.topologies import ring
    >>> [round(asynchronous_decay(ring(8), A2CiD2(accelerated=a)), 3) for a in (True, False)]
    [0.36, 0.268]
    """
    moments = _Moments(topology, algorithm)
    largest = moments.largest_eigenvalue()
    if moments.meetings is None:
        return -largest
    if largest <= -moments.meetings * (1 - 1e-12):
        return math.inf  # a single meeting ends it
    return -moments.meetings * math.log1p(largest / moments.meetings)


def asynchronous_consensus(
    topology: Topology, algorithm: A2CiD2, x0: np.ndarray, steps: Sequence[float]
) -> np.ndarray:
    """E Ξ²_t = E (1/n) Σ_i ‖x_i − x̄‖² from x⁰ at these times, where nobody takes gradients; exactly.

    Args:
        topology, algorithm: as for `asynchronous_decay`, but `A2CiD2` only.
        x0: ``(n,)`` or ``(n, d)``, where the workers start.
        steps: times t ≥ 0, ``(k,)``.

    Returns:
        ``(k,)``.

    >>> from relaysim.topologies import complete
    >>> x0 = np.array([1.0, -1.0])  # one edge of rate 1: the first meeting ends it
    >>> asynchronous_consensus(complete(2), A2CiD2(accelerated=False), x0, [0, 1]).round(6).tolist()
    [1.0, 0.367879]
    """
    if not isinstance(algorithm, A2CiD2):
        raise TypeError(f"asynchronous_consensus is for A2CiD2, not {algorithm!r}")
    moments = _Moments(topology, algorithm)
    x0, times = real_array(x0, "x0"), real_array(steps, "steps")
    if x0.shape[:1] != (topology.n,) or x0.ndim > 2 or not np.isfinite(x0).all():
        raise ValueError(f"x0 must have shape (n,) or (n, d) with n = {topology.n}, not {x0.shape}")
    if times.ndim != 1 or not (np.isfinite(times).all() and (times >= 0).all()):
        raise ValueError(f"steps must be a list of times of at least 0, not {steps!r}")
    deviation = x0.reshape(topology.n, -1)
    deviation = deviation - deviation.mean(axis=0)
    within = deviation @ deviation.T
    M = np.block([[within, within], [within, within]]) if moments.eta else within
    found = np.empty(len(times))
    now = 0.0
    for k in np.argsort(times, kind="stable"):
        if times[k] > now:
            M = moments.after(M, times[k] - now)
            now = times[k]
        found[k] = np.trace(M[: topology.n, : topology.n]) / topology.n
    return found


class _Moments:
    """The generator of M, ``(n, n)`` or, where x̃ matters, ``(2n, 2n)``.

    ``meetings``: how many a step where their number is fixed, None where they are Poisson's.
    """

    def __init__(self, topology: Topology, algorithm):
        self.meetings: float | None = None
        self.eta, self._weights = 0.0, (0.5,)
        if not isinstance(topology, Topology):
            raise TypeError(f"pairs meet on a Topology, not {topology!r}")
        if not topology.is_connected:
            raise ValueError(f"{topology!r} is not connected: its parts never agree; add edges")
        n = topology.n
        if isinstance(algorithm, A2CiD2):
            rule = algorithm.rule(topology)
            self._rates = edge_rates(topology, algorithm.rate)
            self.eta = rule.eta
            # With α̃ = ½ as for x, x̃ stays equal to x whatever η.
            if math.isclose(rule.alpha_tilde, 0.5):
                self.eta = 0.0
            if self.eta:
                self._weights = (0.5, rule.alpha_tilde)
        elif isinstance(algorithm, SwarmSGD):
            algorithm.rule(topology)
            if algorithm.quantizer is not None:
                raise ValueError("a quantiser rounds: leave it out where the exact rate is wanted")
            if algorithm.blocking:
                self.meetings = n / (2 * algorithm.local_steps)
                self._rates = np.full(len(topology.edges), self.meetings / len(topology.edges))
            else:
                # A worker, uniformly, and a neighbour: an edge has weight (1/n)(1/deg_i + 1/deg_j).
                self.meetings = n / algorithm.local_steps
                self._rates = self.meetings * edge_rates(topology) * 2 / n
        else:
            raise TypeError(f"asynchronous_decay is for A2CiD2 and SwarmSGD, not {algorithm!r}")
        self._n, self._edges = n, topology.edges
        self._size = n * len(self._weights)
        self._expected = self._laplacian(self._rates)

    def _laplacian(self, rates: np.ndarray) -> np.ndarray:
        """Σ_e rate_e (e_i − e_j)(e_i − e_j)ᵀ, ``(n, n)``."""
        i, j = self._edges.T
        found = np.zeros((self._n, self._n))
        found[i, j] = found[j, i] = -rates
        found[np.diag_indices(self._n)] = -found.sum(axis=1)
        return found

    def change(self, M: np.ndarray) -> np.ndarray:
        """dM/dt of a symmetric M."""
        n, (i, j) = self._n, self._edges.T
        # With P = 1 − B, P M Pᵀ − M = −BM − (BM)ᵀ + BMBᵀ.
        moved = self._expected @ M[:n]
        result = -np.concatenate([weight * moved for weight in self._weights])
        if self.eta:
            flow = self.eta * (M[n:] - M[:n])
            result[:n] += flow
            result[n:] -= flow
        result = result + result.T
        squares = self._rates * (M[i, i] + M[j, j] - M[i, j] - M[j, i])
        both, k = self._laplacian(squares), len(self._weights)
        blocks = result.reshape(k, n, k, n)
        blocks += np.outer(self._weights, self._weights)[:, None, :, None] * both[:, None, :]
        return result

    @property
    def _bound(self) -> float:
        """More than the modulus of any eigenvalue."""
        meeting = np.bincount(self._edges.ravel(), np.repeat(self._rates, 2)).max()
        return 4 * (1 + sum(weight**2 for weight in self._weights)) * meeting + 4 * self.eta

    def largest_eigenvalue(self) -> float:
        """Of the generator on deviations from the mean: real and negative, with a covariance for mode.

        The generator is L + K with L M = SM + MSᵀ for a matrix S that modes of the Laplacian Λ split into
        blocks, and K M = Σ_e λ_e q_e(M) (ccᵀ ⊗ b_e b_eᵀ), which knows M only by the numbers q_e = b_eᵀ M b_e,
        b_e = e_i − e_j. So μ, above all eigenvalues of L, is one of L + K if and only if 1 is one of

            T(μ)_ef = q_e(−(L − μ)⁻¹ λ_f (ccᵀ ⊗ b_f b_fᵀ)),

        whose largest eigenvalue falls with μ.
        """
        (i, j), rates = self._edges.T, self._rates
        values, modes = np.linalg.eigh(self._expected)
        values, modes = values[1:, None, None], modes[:, 1:]
        c = np.array(self._weights)[:, None]
        m = len(c)
        S = self.eta * FLOW[:m, :m] - values * (c * np.eye(1, m))
        one = np.eye(m)
        left = np.einsum("kab,cd->kacbd", S, one).reshape(-1, 1, m * m, m * m)
        right = np.einsum("ab,kcd->kacbd", one, S).reshape(1, -1, m * m, m * m)
        L, source = left + right, -np.kron(c, c)
        difference = modes[i] - modes[j]
        pairs = difference[:, :, None] * difference[:, None, :]
        # Scaled so that T is symmetric.
        pairs = np.sqrt(rates)[:, None] * pairs.reshape(len(rates), -1)

        def excess(mu: float) -> float:
            gain = np.linalg.solve(L - mu * np.eye(m * m), source)[..., 0, 0]
            T = (pairs * gain.ravel()) @ pairs.T
            last = len(rates) - 1
            return float(eigh(T, eigvals_only=True, subset_by_index=[last, last])[0]) - 1

        lowest = 2 * float(np.linalg.eigvals(S).real.max())
        # At L's own largest eigenvalue T has a pole, unless K does not see its mode.
        lower = lowest * (1 - 1e-9)
        return (
            lowest if excess(lower) < 0 else float(brentq(excess, lower, 0, xtol=1e-14 * -lowest))
        )

    def after(self, M: np.ndarray, elapsed: float) -> np.ndarray:
        """M after some time, by Taylor's series over short pieces of it."""
        pieces = math.ceil(elapsed * self._bound)
        for _ in range(pieces):
            term, k = M, 0
            while k == 0 or np.abs(term).max() > EPSILON * np.abs(M).max():
                k += 1
                term = self.change(term) * (elapsed / pieces / k)
                M = M + term
            M = self._centred(M)
        return M

    def _centred(self, M: np.ndarray) -> np.ndarray:
        """M without what rounding leaks into the mean, which would never decay."""
        k = len(self._weights)
        blocks = M.reshape(k, self._n, k, self._n)
        blocks = blocks - blocks.mean(axis=1, keepdims=True)
        return (blocks - blocks.mean(axis=3, keepdims=True)).reshape(M.shape)
