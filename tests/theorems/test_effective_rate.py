"""Claim: a weighted mean of what RelaySGD holds moves by exactly γ/(1 + τ̄) times the mean gradient.

With H^s = X^s − γG^s (X⁰ for s < 0), the weights are π_kj = #{i : τ_ij ≥ k} / (n²(1 + τ̄)): of
x_j^t for k = 0 and of H_j^{t−k} for k = 1, …, τ_max. They sum to 1.

Source: derived here; π is the Perron vector of the matrix of Vogels et al., "RelaySum", NeurIPS 2021.
Tight in every step, from the first where x⁰ stands in for the unheard, else from round τ_max on.
"""

import numpy as np
import pytest
from claims import delays, random_tree, tight

import relaysim as rs

TREES = [
    rs.topologies.chain(9),
    rs.topologies.star(9),
    rs.topologies.binary_tree(9),
    random_tree(9, seed=4),
]


def weights(tau):
    """π, ``(τ_max + 1, n)``."""
    at_least = [(tau >= k).sum(axis=0) for k in range(int(tau.max()) + 1)]
    return np.array(at_least) / (len(tau) ** 2 * (1 + tau.mean()))


@pytest.mark.parametrize("topology", TREES, ids=repr)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("unheard", ["initial", "previous", "own", "counts"])
def test_the_weighted_iterate_moves_with_the_effective_rate(topology, overlap, unheard):
    problem = rs.problems.random_quadratics(n=9, d=3, zeta2=10.0, seed=0)
    tau, rate, steps = delays(topology, overlap), 0.7, 30
    x = rs.simulate(
        problem,
        topology,
        rs.algorithms.RelaySGD(overlap=overlap, unheard=unheard),
        learning_rate=rate,
        steps=steps,
        x0=np.random.default_rng(0).normal(size=(9, 3)),
        keep_iterates=True,
    ).iterates
    gradients = np.array([problem.gradient(now) for now in x])
    half, pi = x - rate * gradients, weights(tau)

    def weighted(t):
        held = [x[t], *(half[t - k] if t >= k else x[0] for k in range(1, len(pi)))]
        return np.einsum("kj,kjc->c", pi, np.array(held))

    for t in range(0 if unheard == "initial" else int(tau.max()), steps):
        moved, gradient = weighted(t + 1) - weighted(t), gradients[t].mean(axis=0)
        tight(moved, -rate / (1 + tau.mean()) * gradient, 1e-12, scale=1.0)
        if np.linalg.norm(gradient) > 1e-3:
            effective = -moved @ gradient / (gradient @ gradient)
            tight(effective, rate / (1 + tau.mean()), 1e-9)


@pytest.mark.parametrize("topology", TREES, ids=repr)
@pytest.mark.parametrize("conventions", ["received", "hops"])
def test_the_weights_are_the_perron_vector_of_the_relay_matrix(topology, conventions):
    pi = weights(delays(topology, conventions == "hops")).ravel()
    tight(pi.sum(), 1.0, 1e-14)
    tight(pi @ rs.theory.relay_matrix(topology, conventions), pi, 1e-13)
    tight(rs.theory.perron_vector(topology, conventions), pi, 1e-13)
