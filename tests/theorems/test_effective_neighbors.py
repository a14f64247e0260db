"""Claim: the stationary walk z ← W(√γ z + ξ), ξ ~ N(0, I), has the variance 1/((1 − γ) n_W(γ)), with
n_W(γ) = [1/(1 − γ)] / [(1/n) Σ_i λ_i²/(1 − γλ_i²)] for a symmetric W.

Source: Vogels, Hendrikx, Jaggi, "Beyond spectral gap", NeurIPS 2022.
Tight: by the propagated covariance to rounding, by a simulated walk within its statistical error.
"""

import numpy as np
import pytest
from claims import tight

import relaysim as rs

MATRICES = {
    "ring": [rs.mixing.metropolis(rs.topologies.ring(16)).toarray()],
    "star": [rs.mixing.metropolis(rs.topologies.star(8)).toarray()],
    "tree": [rs.mixing.metropolis(rs.topologies.binary_tree(10)).toarray()],
    "one-peer": [W.toarray() for W in rs.mixing.one_peer_exponential(6)],
}
over_matrices = pytest.mark.parametrize("matrices", MATRICES.values(), ids=MATRICES)


def propagated_variances(matrices, gamma):
    """Var(z_i) at every step of the last of many periods, by P ← W(γP + I)Wᵀ."""
    n = len(matrices[0])
    P, last = np.zeros((n, n)), []
    for _ in range(int(80 / (1 - gamma)) // len(matrices)):
        last = []
        for W in matrices:
            P = W @ (gamma * P + np.eye(n)) @ W.T
            last.append(np.diag(P))
    return np.array(last)


@over_matrices
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
def test_the_propagated_variance_is_that_of_effective_neighbors(matrices, gamma):
    variances = propagated_variances(matrices, gamma)
    for mode, measured in (("mean", variances.mean()), ("worst", variances.max())):
        neighbors = rs.theory.effective_neighbors(matrices, gamma, mode)
        tight(measured, 1 / ((1 - gamma) * neighbors), 1e-10)
    if len(matrices) == 1:
        squares = np.linalg.eigvalsh(matrices[0]) ** 2
        tight(variances.mean(), (squares / (1 - gamma * squares)).mean(), 1e-10)


@pytest.mark.parametrize("topology", [rs.topologies.ring(16), rs.topologies.star(8)], ids=repr)
def test_a_simulated_walk_has_this_variance(topology):
    """DP-SGD on f_i = (h/2)‖x‖², γh = 1 − √γ, whose noise is the walk's ξ."""
    gamma, rate = 0.8, 1 - np.sqrt(0.8)
    still = rs.problems.DiagonalQuadratic(np.ones((topology.n, 50)), np.zeros((topology.n, 50)))
    distances = rs.simulate(
        still,
        topology,
        rs.algorithms.DPSGD(),
        learning_rate=rate,
        steps=500,
        oracle=rs.oracles.Gaussian(sigma2=50 / rate**2),
    ).frame.distance
    neighbors = rs.theory.effective_neighbors(rs.mixing.metropolis(topology), gamma)
    tight(distances[100:].mean() / 50, 1 / ((1 - gamma) * neighbors), 0.04)
