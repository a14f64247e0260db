"""Claim: RelaySGD/Grad ends with the workers apart by

    x_i − x̄ = (γ/n) Σ_j (τ_ij − mean_i' τ_i'j) g_j(x_j)  and  Σ_j g_j(x_j) = 0,

plus what they were apart at the start; without that, its plateau is proportional to (γζ)² for small γ.

Source: derived here for Vogels et al., "RelaySum", NeurIPS 2021 (RelaySum/Grad): worker i has applied all
gradients of j but the last τ_ij, which at rest are all g_j.
Tight, for runs and for the fixed point of the affine map; the slopes hold for γ → 0.
"""

import numpy as np
import pytest
from claims import bounded, delays, equal_hessians, random_tree, tight

import relaysim as rs

TREES = [
    rs.topologies.chain(8),
    rs.topologies.star(8),
    rs.topologies.binary_tree(8),
    random_tree(8, seed=1),
]


def offsets(problem, tau, rate, x):
    """The claim, from the gradients at x."""
    gradients = problem.gradient(x)
    tight(gradients.sum(axis=0), 0.0, 1e-11, scale=1.0)
    assert np.abs(gradients).max() > 1
    return rate / problem.n * (tau - tau.mean(axis=0)) @ gradients


@pytest.mark.parametrize("topology", TREES, ids=repr)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_relayed_gradients_leave_a_fixed_offset(topology, overlap, momentum):
    """A difference between starting points stays for ever."""
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=10.0, mu=0.25, seed=2)
    rate, start = 0.1, np.random.default_rng(0).normal(size=(8, 4))
    algorithm = rs.algorithms.RelaySGDGrad(overlap=overlap, momentum=momentum)
    run = rs.simulate(
        problem, topology, algorithm, learning_rate=rate, steps=2000, record=2000, x0=start
    ).x
    computed = rs.theory.linearize(problem, topology, algorithm, rate, start).fixed_point
    for x in (run, computed):
        claimed = offsets(problem, delays(topology, overlap), rate, x)
        claimed += start - start.mean(axis=0)
        tight(x - x.mean(axis=0), claimed, 1e-12, scale=10.0)


@pytest.mark.parametrize("overlap", [False, True])
def test_on_two_trees_each_coordinate_has_the_offset_of_its_own(overlap):
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=10.0, mu=0.25, seed=2)
    pair = rs.topologies.double_binary_tree(8)
    algorithm = rs.algorithms.RelaySGDGrad(overlap=overlap)
    x = rs.theory.linearize(problem, pair, algorithm, 0.1).fixed_point
    for first, tree in enumerate((pair.first, pair.second)):
        claimed = offsets(problem, delays(tree, overlap), 0.1, x)
        tight((x - x.mean(axis=0))[:, first::2], claimed[:, first::2], 1e-11, scale=1.0)


def test_the_plateau_of_relayed_gradients_grows_with_the_square_of_rate_and_heterogeneity():
    """With h = 1 everywhere the gradients at the fixed point are proportional to ζ."""
    half, once = [
        rs.simulate(
            rs.problems.DiagonalQuadratic(np.ones((8, 1)), zeta * np.arange(8.0)[:, None]),
            rs.topologies.chain(8),
            rs.algorithms.RelaySGDGrad(),
            learning_rate=[0.005, 0.01],
            steps=6000,
            record=6000,
        )
        .frame.query("step == 6000")
        .consensus_distance.to_numpy()
        for zeta in (1.0, 3.0)
    ]
    tight(half[1] / half[0], 4, 0.1)
    tight(once / half, 9, 1e-8)


@pytest.mark.parametrize("overlap", [False, True])
def test_slopes_of_the_plateau_at_small_rates(overlap):
    algorithm, chain = rs.algorithms.RelaySGDGrad(overlap=overlap), rs.topologies.chain(8)
    problem, rates = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0), [1e-4, 1e-3]
    plateaus = [
        rs.theory.linearize(problem, chain, algorithm, rate).stationary(0.0) for rate in rates
    ]
    for column in ("consensus_distance", "distance", "suboptimality"):
        slope = np.log10(plateaus[1][column] / plateaus[0][column])
        tight(slope, 2, 0.01)


def test_the_plateau_is_at_most_that_of_the_largest_delay():
    """A corollary, a bound: (1/n) Σ ‖x_i − x̄‖² ≤ (γ τ_max)² times the mean of ‖g_j‖² there."""
    for topology in TREES:
        problem, tau = equal_hessians(8), delays(topology, False)
        x = rs.theory.linearize(problem, topology, rs.algorithms.RelaySGDGrad(), 0.1).fixed_point
        spread = ((x - x.mean(axis=0)) ** 2).sum() / 8
        squares = (problem.gradient(x) ** 2).sum() / 8
        bounded(spread, (0.1 * tau.max()) ** 2 * squares)
