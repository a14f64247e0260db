"""Closed forms of RelaySum: its matrix, the weights that it preserves, and what delays cost.

With the stack Y = [X^t; H^{t−1}; …; H^{t−τ_max}] of the models and of what was sent before, H = X − γG,
RelaySGD is Y ← W(Y − γG), G in the top block only.
Two conventions for the delay τ_ij between workers at hop distance d_ij:

- ``"received"``: max(0, d_ij − 1), what the algorithm does: a neighbour's payload arrives in the round
  in which it was sent;
- ``"hops"``: d_ij, which is that of ``overlap=True`` and of the paper's figure 5.

Source: Vogels et al., "RelaySum", NeurIPS 2021, and its published code; closed forms of the Perron
vector and the correction factor derived here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csgraph, csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from relaysim.algorithms.relay import RelaySGD
from relaysim.problems.quadratics import DiagonalQuadratic
from relaysim.support.checks import whole_number
from relaysim.support.progress import progress_bar
from relaysim.theory.affine import AffineStep
from relaysim.theory.mixing_gap import DENSE_LIMIT, second_modulus
from relaysim.topologies import Topology

__all__ = ["correction_factor", "key_lemma", "perron_vector", "relay_gap", "relay_matrix"]

DELAYS = ("received", "hops")
# Norms of larger matrices, and eigenvalues of yet larger ones, are iterated for.
DENSE_STATES = 100
# Below this ‖W − 1πᵀ‖ is 0 but for rounding.
EXACT = 1e-13


def relay_matrix(topology: Topology, delays: str) -> csr_array:
    """W = [M_0 M_1 … M_τmax; I shifted], (M_k)_ij = 1/n where τ_ij = k; sparse ``(kn, kn)``.

    Row-stochastic; k = τ_max + 1 blocks.

    Raises:
        ValueError: not a tree, or an unknown convention.

    >>> from relaysim.topologies import chain
    >>> (relay_matrix(chain(3), "hops") * 3).toarray()[0].tolist()
    [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    """
    delay = _delays(topology, delays)
    n, blocks = topology.n, int(delay.max()) + 1
    workers = np.arange(n)
    receivers, senders = np.repeat(workers, n), np.tile(workers, n)
    columns = delay.ravel() * n + senders
    shifted = np.arange(n, blocks * n)
    weights = np.concatenate([np.full(n * n, 1 / n), np.ones(len(shifted))])
    rows = np.concatenate([receivers, shifted])
    columns = np.concatenate([columns, shifted - n])
    return csr_array((weights, (rows, columns)), shape=(blocks * n, blocks * n))


def perron_vector(topology: Topology, delays: str) -> np.ndarray:
    """The left eigenvector π of `relay_matrix` at eigenvalue 1, summing to 1, ``(kn,)``.

    Block k, entry j: c/n · #{i : τ_ij ≥ k}, with c = 1 / (n(1 + τ̄)): πᵀW = πᵀ gives block k =
    M_kᵀ (block 0) + block k + 1, and block 0 is constant. The weighted iterate πᵀY of RelaySGD obeys
    SGD with learning rate γ / (1 + τ̄).

    >>> from relaysim.topologies import chain
    >>> pi = perron_vector(chain(4), "received")
    >>> bool(np.allclose(pi @ relay_matrix(chain(4), "received"), pi))
    True
    """
    delay = _delays(topology, delays)
    n = topology.n
    at_least = [(delay >= k).sum(axis=0) for k in range(int(delay.max()) + 1)]
    return np.concatenate(at_least) / (n * n * (1 + delay.mean()))


def correction_factor(topology: Topology, delays: str = "received") -> float:
    """By how much delays slow a tree down: 1 + τ̄, τ̄ = (1/n²) Σ_ij τ_ij, in O(n).

    RelaySGD with learning rate γ moves like centralised SGD with γ / (1 + τ̄). On a chain it is
    (n² + 2)/(3n) with the delays that the algorithm has, on a star 2(1 − 1/n)² + 1/n.

    Raises:
        ValueError: not a tree, or an unknown convention.

    >>> from relaysim.topologies import chain
    >>> round(correction_factor(chain(16)), 12)
    5.375
    """
    _check(topology, delays)
    n = topology.n
    # An edge whose removal leaves s workers on one side lies on s(n − s) paths, each way.
    order, parents = csgraph.breadth_first_order(topology.adjacency, 0, directed=False)
    sizes = [1] * n
    parent = parents.tolist()
    for worker in order[:0:-1].tolist():
        sizes[parent[worker]] += sizes[worker]
    below = np.array(sizes, dtype=float)[order[1:]]
    hops = 2 * float((below * (n - below)).sum())
    total = hops if delays == "hops" else hops - n * (n - 1)
    return 1 + total / n**2


def key_lemma(topology: Topology, delays: str = "hops", max_m: int = 99) -> tuple[int, float]:
    """(m, p) with the smallest m/p such that ‖W^m − 1πᵀ‖₂² ≤ (1 − p)^{2m} ‖W − 1πᵀ‖₂².

    m runs from 1 to ``max_m``, p = 1 − ratio^{1/(2m)} is kept if below |λ₂(W)|. Source: Lemma 1 of
    Vogels et al., NeurIPS 2021, as the published code computes it for figure 5. Where W averages in a
    single round, as two workers do that hear each other at once, both sides are 0 and (1, 1.0) is returned.

    Raises:
        ValueError: not a tree, an unknown convention, or no m that serves.

    >>> from relaysim.topologies import star
    >>> m, p = key_lemma(star(4))
    >>> m, round(p, 6)
    (3, 0.129192)
    """
    whole_number(max_m, "max_m", 1)
    W = relay_matrix(topology, delays)
    second = 1 - relay_gap(topology, delays)
    norms = _PowerNorms(W, perron_vector(topology, delays))
    start = norms.of(1)
    if start < EXACT:
        return 1, 1.0
    best = None
    for m in _shown(max_m):
        # ‖W^m − 1πᵀ‖ ≥ |λ₂|^m: a bound on p, and p is below |λ₂| besides.
        most = min(second, 1 - second * start ** (-1 / m))
        if most <= 0 or (best is not None and m / most > (1 + 1e-9) * best[0] / best[1]):
            continue
        p = 1 - (norms.of(m) / start) ** (1 / m)
        if 0 < p < second and (best is None or m / p < best[0] / best[1]):
            best = (m, float(p))
    if best is None:
        raise ValueError(f"no m up to {max_m} satisfies the lemma on {topology!r}; raise max_m")
    return best


def _shown(count: int) -> Iterator[int]:
    """1, 2, … count, with a bar."""
    with progress_bar(count, None, "key lemma", "powers") as bar:
        for k in range(1, count + 1):
            yield k
            bar.update()


def relay_gap(topology: Topology, delays: str) -> float:
    """1 − |λ₂| of `relay_matrix`: how fast relayed models agree without gradients.

    Computed from one round of messages, 5n − 4 numbers, whose map has the same eigenvalues but for
    zeros. On a chain it falls like 1/n with hop delays, and like 1/n² with the delays that RelaySGD has:
    λ₂ is negative and close to −1, a mode that changes sign every step. Gradient steps damp it
    about as much as the mean, and random starts hardly excite it. On a star it falls like 1/n with both.

    Raises:
        ValueError: not a tree, or an unknown convention.

    >>> from relaysim.topologies import chain
    >>> [round(relay_gap(chain(n), "received"), 4) for n in (8, 16, 32)]
    [0.0791, 0.0214, 0.0056]
    """
    _check(topology, delays)
    if topology.n == 1:
        return 1.0
    n = topology.n
    sizes = 5 * n, n * (int(_delays(topology, delays).max()) + 1)
    if sizes[0] > DENSE_LIMIT and sizes[1] <= sizes[0]:
        return 1 - second_modulus((relay_matrix(topology, delays),))
    still = DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))
    relaying = RelaySGD(overlap=delays == "hops")
    step = AffineStep(still, topology, relaying, 0.0, (), np.zeros((n, 1)))
    moduli = np.abs(np.linalg.eigvals(step.matrices[0].toarray()))
    return float(1 - np.sort(moduli)[-2])


def _delays(topology: Topology, delays: str) -> np.ndarray:
    _check(topology, delays)
    hops = csgraph.shortest_path(topology.adjacency, method="D", unweighted=True).astype(int)
    return hops if delays == "hops" else np.maximum(hops - 1, 0)


class _PowerNorms:
    """‖W^m − 1πᵀ‖₂ for growing m, by Lanczos iterations on its square from the last one's mode."""

    def __init__(self, W: csr_array, perron: np.ndarray):
        self._W, self._transposed, self._perron = W, csr_array(W.T), perron
        self._start = np.random.default_rng(0).normal(size=len(perron))

    def of(self, m: int) -> float:
        """‖W^m − 1πᵀ‖₂."""
        size = len(self._perron)
        if size < DENSE_STATES:
            power = np.linalg.matrix_power(self._W.toarray(), m) - self._perron
            return float(np.linalg.norm(power, 2))

        def square(v: np.ndarray) -> np.ndarray:
            v = np.ravel(v)
            u = v
            for _ in range(m):
                u = self._W @ u
            u = u - self._perron @ v
            found, total = u, u.sum()
            for _ in range(m):
                found = self._transposed @ found
            return found - self._perron * total

        operator = LinearOperator((size, size), matvec=square, dtype=float)
        values, vectors = eigsh(operator, 1, which="LA", v0=self._start, tol=1e-10)
        self._start = vectors[:, 0]
        return math.sqrt(max(float(values[0]), 0.0))


def _check(topology: Topology, delays: str) -> None:
    if not isinstance(topology, Topology) or not topology.is_tree:
        raise ValueError(
            f"RelaySum needs a tree, not {topology!r}; "
            f"use relaysim.topologies.spanning_tree(topology)"
        )
    if delays not in DELAYS:
        raise ValueError(f"delays must be 'received' or 'hops', not {delays!r}")
