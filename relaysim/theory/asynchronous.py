"""How fast workers that meet in pairs at random times agree, exactly.

Without gradients a meeting is a linear map of the state z of all workers, and so is what happens between
meetings. The second moment M = E zzᵀ then evolves linearly as well, and with it E Ξ². Both maps are taken
from the algorithm's own rule.
"""

from __future__ import annotations

import math
import time

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.linalg import eigh, expm
from scipy.sparse.linalg import LinearOperator, eigsh

from relaysim.algorithms.events import EventMethod
from relaysim.support.checks import real_array
from relaysim.support.progress import progress_bar
from relaysim.theory.durations import TimeLimit, taken_by
from relaysim.theory.linear_rule import LinearRule, linear_rule
from relaysim.topologies import Topology

__all__ = ["asynchronous_consensus", "asynchronous_decay"]

# Of so many edges all eigenvalues are found, of more the largest by Lanczos iterations.
FEW_EDGES = 100
# Exponentials are sought in spaces of so many dimensions, and miss this share of what is left.
MOST_KRYLOV, KRYLOV_ERROR = 60, 1e-14
# Nor does a piece leave less than this share, of which rounding would take digits.
SMALLEST_SHARE = 0.1
# About so many trials find the largest eigenvalue.
ROOT_TRIALS = 15
# With which powers of n and d the time for them grows.
MOMENTS_GROW = 2.0, 0.0


def asynchronous_decay(topology: Topology, algorithm: EventMethod) -> float:
    """κ with E Ξ²_t ~ exp(−κt) as t → ∞ where nobody takes gradients; t in steps.

    Where pairs meet at the points of Poisson processes, as those of A²CiD² and its baseline, −κ is the
    largest eigenvalue of the generator of the second moments,

        dM/dt = AM + MAᵀ + Σ_{i–j} λ_ij (P_ij M P_ijᵀ − M),

    with A what happens between meetings and P_ij what happens in one. Where meetings are m a step, as those
    of SwarmSGD, κ is −m log of the largest eigenvalue of a meeting, M ↦ E[P M Pᵀ].

    Linear algebra over edges and modes: 10 ms for a ring of 32, a second for a ring of 256.

    Args:
        topology: connected, of two workers or more.
        algorithm: one whose pairs meet, such as `A2CiD2` or `SwarmSGD` without a quantiser; see
            `relaysim.algorithms.events.PairRule` for what its rule has to say.

    Raises:
        TypeError: another algorithm, or a rule that does not say it or is of another form.
        ValueError: a quantiser, or a graph that the algorithm cannot use.

    ``math.inf`` where a single meeting ends it: SwarmSGD with two workers. Below 0 where workers part:
    A²CiD² with a ``momentum_rate`` far above that of the theory, on a graph that agrees slowly.

    Source: derived here; after the way of Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip
    algorithms", IEEE Transactions on Information Theory 2006.

    >>> from relaysim.algorithms import A2CiD2
    >>> from relaysim.topologies import ring
    >>> [round(asynchronous_decay(ring(8), A2CiD2(accelerated=a)), 3) for a in (True, False)]
    [0.36, 0.268]
    """
    rule = _rule(topology, algorithm)
    largest = _Moments(topology, rule).largest_eigenvalue()
    if rule.meetings.poisson:
        return -largest
    if rule.flow.any():
        raise TypeError(
            f"{algorithm!r} has a fixed number of meetings a step and moves between them, of which the "
            f"exact decay is not known; use relaysim.simulate"
        )
    m = float(rule.meetings.rates.sum())
    if largest <= -m * (1 - 1e-12):
        return math.inf  # a single meeting ends it
    return -m * math.log1p(largest / m)


def asynchronous_consensus(
    topology: Topology,
    algorithm: EventMethod,
    x0: ArrayLike,
    steps: ArrayLike,
    seconds: float | None = None,
) -> np.ndarray:
    """E Ξ²_t = E (1/n) Σ_i ‖x_i − x̄‖² from x⁰ at these times, where nobody takes gradients; exactly.

    Args:
        topology, algorithm: as for `asynchronous_decay`, with meetings at the points of Poisson processes:
            those of `A2CiD2`, not those of `SwarmSGD`.
        x0: ``(n,)`` or ``(n, d)``, where the workers start.
        steps: times t ≥ 0, ``(k,)``.
        seconds: refuse before starting what would take longer, by an estimate from the sizes and what one of
            the pieces of that time takes, mostly within a factor of 3; no limit by default.

    Returns:
        ``(k,)``.

    Raises:
        TypeError, ValueError: as `asynchronous_decay`; meetings that are no Poisson processes; or it would
            take longer than ``seconds``.

    >>> from relaysim.algorithms import A2CiD2
    >>> from relaysim.topologies import complete
    >>> x0 = np.array([1.0, -1.0])  # one edge of rate 1: the first meeting ends it
    >>> asynchronous_consensus(complete(2), A2CiD2(accelerated=False), x0, [0, 1]).round(6).tolist()
    [1.0, 0.367879]
    """
    rule = _rule(topology, algorithm)
    if not rule.meetings.poisson:
        raise TypeError(
            f"asynchronous_consensus needs meetings at the points of Poisson processes, such as those of "
            f"A2CiD2; {algorithm!r} has a fixed number of them a step"
        )
    moments = _Moments(topology, rule)
    start, times = real_array(x0, "x0"), real_array(steps, "steps")
    if start.shape[:1] != (topology.n,) or start.ndim > 2 or not np.isfinite(start).all():
        raise ValueError(
            f"x0 must have shape (n,) or (n, d) with n = {topology.n}, not {start.shape}"
        )
    if times.ndim != 1 or not (np.isfinite(times).all() and (times >= 0).all()):
        raise ValueError(f"steps must be a list of times of at least 0, not {steps!r}")
    deviation = start.reshape(topology.n, -1)
    deviation = deviation - deviation.mean(axis=0)
    M = np.kron(np.outer(rule.start, rule.start), deviation @ deviation.T)
    what = f"{algorithm.label}: consensus up to t = {times.max(initial=0):g}"
    limit = TimeLimit(seconds, what, topology.n, deviation.shape[1], MOMENTS_GROW)
    if limit.there_is_one:
        least = MOST_KRYLOV * taken_by(lambda: moments.change(M))
        limit.require(least, measurement=least)
        limit.require(moments.seconds(M, times))
    found = np.empty(len(times))
    now = 0.0
    with progress_bar(math.ceil(times.max(initial=0)), None, "consensus", "steps") as bar:
        for k in np.argsort(times, kind="stable"):
            while now < times[k]:
                M, piece = moments.after(M, times[k] - now)
                now = now + piece if piece < times[k] - now else times[k]
                bar.update(int(now) - bar.n)
            found[k] = moments.consensus_distance(M)
    return found


def _rule(topology: Topology, algorithm: EventMethod) -> LinearRule:
    if not hasattr(algorithm, "rule"):
        raise TypeError(
            f"{algorithm!r} has no pairs that meet at random times, as those of A2CiD2 and SwarmSGD do; "
            f"for methods of rounds there is relaysim.theory.linearize"
        )
    if not isinstance(topology, Topology):
        raise TypeError(f"pairs meet on a Topology, not {topology!r}")
    if not topology.is_connected:
        raise ValueError(f"{topology!r} is not connected: its parts never agree; add edges")
    return linear_rule(algorithm, topology)


class _Moments:
    """The generator of M, ``(kn, kn)`` for k numbers a worker, those of all workers together first."""

    def __init__(self, topology: Topology, rule: LinearRule) -> None:
        self._n, self._edges = topology.n, topology.edges
        self._rule, self._rates = rule, rule.meetings.rates
        self._expected = self._laplacian(self._rates)

    def _laplacian(self, rates: np.ndarray) -> np.ndarray:
        """Σ_e rate_e (e_i − e_j)(e_i − e_j)ᵀ, ``(n, n)``."""
        i, j = self._edges.T
        found = np.zeros((self._n, self._n))
        found[i, j] = found[j, i] = -rates
        found[np.diag_indices(self._n)] = -found.sum(axis=1)
        return found

    def consensus_distance(self, M: np.ndarray) -> float:
        """E Ξ², Ξ² = (1/n) Σ_i ‖x_i − x̄‖², of an M of deviations from the mean."""
        shown = self._rule.shown
        return float(np.einsum("a,aibi,b->", shown, self._blocks(M), shown)) / self._n

    def _blocks(self, M: np.ndarray) -> np.ndarray:
        k = len(self._rule.start)
        return M.reshape(k, self._n, k, self._n)

    def change(self, M: np.ndarray) -> np.ndarray:
        """dM/dt of a symmetric M."""
        rule, (i, j) = self._rule, self._edges.T
        of_parts = M.reshape(len(rule.start), -1)
        # With P = 1 − B, P M Pᵀ − M = −BM − (BM)ᵀ + BMBᵀ.
        seen = (rule.seen @ of_parts).reshape(self._n, -1)
        result = rule.flow @ of_parts - np.outer(rule.lost, self._expected @ seen)
        result = result.reshape(M.shape)
        result = result + result.T
        q = np.einsum("iaj,a->ij", seen.reshape(self._n, -1, self._n), rule.seen)
        both = self._laplacian(self._rates * (q[i, i] + q[j, j] - q[i, j] - q[j, i]))
        weights = np.outer(rule.lost, rule.lost)
        self._blocks(result)[...] += weights[:, None, :, None] * both[:, None, :]
        return result

    def largest_eigenvalue(self) -> float:
        """Of the generator on deviations from the mean: real, with a covariance for mode.

        The generator is L + K with L M = SM + MSᵀ for a matrix S that modes of the Laplacian Λ split into
        blocks, and K M = Σ_e λ_e q_e(M) (ccᵀ ⊗ b_e b_eᵀ), which knows M only by the numbers
        q_e = (w ⊗ b_e)ᵀ M (w ⊗ b_e), with c what is lost of the difference seen by w and b_e = e_i − e_j.
        So μ, above all eigenvalues of L, is one of L + K if and only if 1 is one of

            T(μ)_ef = q_e(−(L − μ)⁻¹ λ_f (ccᵀ ⊗ b_f b_fᵀ)),

        whose largest eigenvalue falls with μ.
        """
        rule, (i, j), rates = self._rule, self._edges.T, self._rates
        values, modes = np.linalg.eigh(self._expected)
        values, modes = values[1:, None, None], modes[:, 1:]
        k = len(rule.start)
        S = rule.flow - values * np.outer(rule.lost, rule.seen)
        one = np.eye(k)
        left = np.einsum("kab,cd->kacbd", S, one).reshape(-1, 1, k * k, k * k)
        right = np.einsum("ab,kcd->kacbd", one, S).reshape(1, -1, k * k, k * k)
        L = left + right
        source, seen = np.kron(rule.lost, rule.lost)[:, None], np.kron(rule.seen, rule.seen)
        difference, roots = modes[i] - modes[j], np.sqrt(rates)
        start = np.ones(len(rates))
        above, pairs = np.triu_indices(self._n - 1), None
        if len(rates) <= FEW_EDGES:  # sums over pairs of modes, each pair once
            twice = np.where(above[0] == above[1], 1.0, math.sqrt(2))
            pairs = roots[:, None] * difference[:, above[0]] * difference[:, above[1]] * twice

        bar = progress_bar(ROOT_TRIALS, None, "decay of pairs", "solves")

        def excess(mu: float) -> float:
            """1 − 1/λ, almost a line where λ, the largest eigenvalue of T, comes from a pole."""
            nonlocal start
            bar.update()
            gain = -np.linalg.solve(L - mu * np.eye(k * k), source)[..., 0] @ seen

            # T scaled so that it is symmetric.
            def apply(weights: np.ndarray) -> np.ndarray:
                scaled = roots * np.ravel(weights)
                if len(rates) <= 2 * self._n:
                    together = difference.T @ (scaled[:, None] * difference)
                    moved = difference @ (gain * together)
                    return roots * np.einsum("ea,ea->e", moved, difference)
                together = modes.T @ self._laplacian(scaled) @ modes
                back = modes @ (gain * together) @ modes.T
                return roots * (back[i, i] + back[j, j] - back[i, j] - back[j, i])

            if pairs is not None:
                T = (pairs * gain[above]) @ pairs.T
                last = len(rates) - 1
                top = eigh(T, eigvals_only=True, subset_by_index=[last, last])
                return 1 - 1 / float(top[0])
            operator = LinearOperator((len(rates),) * 2, matvec=apply, dtype=float)
            top, vectors = eigsh(operator, 1, which="LA", v0=start, tol=1e-7)
            start = vectors[:, 0] + 1e-3 / math.sqrt(len(start))
            return 1 - 1 / float(top[0])

        lowest = 2 * float(np.linalg.eigvals(S).real.max())
        size = abs(lowest) or float(rates.max())
        # At L's own largest eigenvalue T has a pole, unless K does not see its mode.
        lower = lowest + 1e-9 * size
        with bar:
            if excess(lower) < 0:
                return lowest
            reach = size
            while excess(lower + reach) > 0:
                reach *= 2
            return float(scipy.optimize.brentq(excess, lower, lower + reach, xtol=1e-14 * size))

    def seconds(self, M: np.ndarray, times: np.ndarray) -> float:
        """About what `after` takes up to the last of these times, from what one of its pieces takes."""
        began = time.perf_counter()
        _, small = self._krylov(M / (np.linalg.norm(M) or 1.0))
        piece = time.perf_counter() - began
        speed = float(np.abs(np.linalg.eigvals(small[: small.shape[1]])).max(initial=0))
        decades = abs(self.largest_eigenvalue()) / math.log(1 / SMALLEST_SHARE)
        last = float(times.max(initial=0))
        return piece * (len(times) + last * (decades + speed / MOST_KRYLOV))

    def after(self, M: np.ndarray, elapsed: float) -> tuple[np.ndarray, float]:
        """M after some time, or as much of it as a Krylov space of M allows: exp(τL) M, and τ."""
        size = float(np.linalg.norm(M))
        if size == 0:
            return M, elapsed
        basis, small = self._krylov(M / size)
        most = len(basis)
        piece = elapsed
        while True:
            # One row more holds what leaves the space, an estimate of the error (Saad, 1992).
            grown = np.zeros((most + 1, most + 1))
            grown[:most, :most] = piece * small[:most]
            grown[most, most - 1] = piece * small[most, most - 1]
            weights = expm(grown)[:, 0]
            size_after = float(np.linalg.norm(weights[:most]))
            if abs(weights[most]) <= KRYLOV_ERROR * size_after and size_after >= SMALLEST_SHARE:
                break
            piece /= 1.5
        return self._centred(size * np.tensordot(weights[:most], basis, 1)), piece

    def _krylov(self, M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal basis of M, LM, …, ``(k, kn, kn)``, and L on it, ``(k + 1, k)``."""
        most = min(MOST_KRYLOV, M.size)
        basis = np.empty((most, M.size))
        small = np.zeros((most + 1, most))
        basis[0] = M.ravel()
        for k in range(most):
            following = self.change(basis[k].reshape(M.shape)).ravel()
            before = float(np.linalg.norm(following))
            for _ in range(2):  # once more, for what rounding left
                along = basis[: k + 1] @ following
                following = following - along @ basis[: k + 1]
                small[: k + 1, k] += along
            rest = float(np.linalg.norm(following))
            small[k + 1, k] = rest
            if rest <= 1e-15 * before or rest == 0:
                small[k + 1, k] = 0
                return basis[: k + 1].reshape(-1, *M.shape), small[: k + 2, : k + 1]
            if k + 1 < most:
                basis[k + 1] = following / rest
        return basis.reshape(-1, *M.shape), small

    def _centred(self, M: np.ndarray) -> np.ndarray:
        """M without what rounding leaks into the mean, or between M and Mᵀ, which would never decay."""
        blocks = self._blocks(M)
        blocks = blocks - blocks.mean(axis=1, keepdims=True)
        M = (blocks - blocks.mean(axis=3, keepdims=True)).reshape(M.shape)
        return (M + M.T) / 2
