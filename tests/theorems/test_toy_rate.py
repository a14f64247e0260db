"""Claim: on E ½(vᵀx)², v ~ N(0, I_d), DP-SGD with one sample a step and worker has E‖x_t‖² fall by a factor
1 − r a step in the long run, r = 1 − (1 − η)² − (ζ − 1)η²/n_W(γ) with γ = (1 − η)²/(1 − r), ζ = d + 2.

Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022, section 3.1; that other graphs lie
between two such rates is derived in `relaysim.theory.toy_rate`.
Tight where W treats all workers alike; else a bound from each side, by the worst and the mean n_W.
"""

import numpy as np
import pytest
from claims import bounded, tight

import relaysim as rs

D = 10
ZETA = D + 2
ALIKE = [rs.topologies.ring(16), rs.topologies.hypercube(8), rs.topologies.complete(6)]
OTHERS = [rs.topologies.star(8), rs.topologies.chain(9), rs.topologies.binary_tree(10)]


def propagated(topology, eta, steps):
    """The mean over workers of E‖x_i‖²/‖x⁰‖² at steps 0, 1, …, by C ← W((1 − η)²C + (ζ − 1)η² diag C)Wᵀ."""
    W = rs.mixing.metropolis(topology).toarray()
    C, found = np.ones(W.shape), [1.0]
    for _ in range(steps):
        noise = (ZETA - 1) * eta**2 * np.diag(np.diag(C))
        C = W @ ((1 - eta) ** 2 * C + noise) @ W.T
        found.append(np.trace(C) / len(C))
    return np.array(found)


def propagated_rate(topology, eta):
    errors = propagated(topology, eta, 600)
    return 1 - (errors[600] / errors[500]) ** (1 / 100)


@pytest.mark.parametrize("eta", [0.02, 0.1, 0.15])
@pytest.mark.parametrize("topology", ALIKE, ids=repr)
def test_the_rate_where_all_workers_are_alike(topology, eta):
    W, measured = rs.mixing.metropolis(topology), propagated_rate(topology, eta)
    r = rs.theory.toy_rate(W, eta, ZETA)
    tight(measured, r, 1e-8)
    neighbors = rs.theory.effective_neighbors(W, (1 - eta) ** 2 / (1 - r))
    tight(r, 1 - (1 - eta) ** 2 - (ZETA - 1) * eta**2 / neighbors, 1e-9)


def test_the_published_rates_of_a_ring_of_16():
    measured = [propagated_rate(rs.topologies.ring(16), eta) for eta in (0.02, 0.05, 0.1, 0.15)]
    tight(measured, [0.03932, 0.09570, 0.18157, 0.25202], 6e-6, scale=1.0)


@pytest.mark.parametrize("eta", [0.02, 0.1, 0.15])
@pytest.mark.parametrize("topology", OTHERS, ids=repr)
def test_other_graphs_lie_between_the_worst_and_the_mean(topology, eta):
    W, measured = rs.mixing.metropolis(topology), propagated_rate(topology, eta)
    bounded(rs.theory.toy_rate(W, eta, ZETA, "worst"), measured)
    bounded(measured, rs.theory.toy_rate(W, eta, ZETA, "mean"))
    tight(rs.theory.toy_rate_exact(W, eta, ZETA), measured, 1e-7)


class OneSample:
    """g_i = v_i v_iᵀ x_i, a fresh v_i ~ N(0, I) for every worker, step and replica."""

    def observe(self, problem, streams):
        generator = np.random.default_rng(0)

        def gradient(x, out):
            v = generator.normal(size=x.shape)
            return np.multiply(v, (v * x).sum(axis=1, keepdims=True), out=out)

        return gradient


@pytest.mark.parametrize("topology", [ALIKE[1], OTHERS[0]], ids=repr)
def test_simulated_errors_follow_the_covariance(topology):
    n, eta, steps = topology.n, 0.1, 16
    history = rs.simulate(
        rs.problems.DiagonalQuadratic(np.ones((n, D)), np.zeros((n, D))),
        topology,
        rs.algorithms.DPSGD(),
        learning_rate=eta,
        steps=steps,
        x0=np.full(D, 1 / np.sqrt(D)),
        oracle=OneSample(),
        replicas=3000,
    )
    errors = history.frame.groupby("step").distance
    mean, standard_error = errors.mean(), errors.std() / np.sqrt(3000)
    bounded(standard_error[1:], 0.015 * mean[1:])
    claimed = propagated(topology, eta, steps)
    bounded(np.abs(mean - claimed)[1:], 4 * standard_error[1:])
    tight(mean, claimed, 0.04)
