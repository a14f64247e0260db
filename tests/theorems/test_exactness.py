"""Claim: RelaySGD ends at x* on every worker, for any ζ² and any learning rate.

So it does with every rule for workers not heard from, with overlap, with momentum and on two trees.
The fixed point is x* at unstable rates too; where the method is stable, runs reach it.

Source: Vogels et al., "RelaySum", NeurIPS 2021, which assumes no bound on ζ²; the fixed point derived
here: x_i = (1/n) Σ_j (x_j − γ g_j(x_j)) is the same for all i, hence Σ_j g_j = 0 at one point.
Tight: measured distance to x*, claimed 0.
"""

import numpy as np
import pytest
from claims import bounded, tight

import relaysim as rs

UNHEARD = ("initial", "previous", "own", "counts")
TOPOLOGIES = [
    rs.topologies.chain(12),
    rs.topologies.star(12),
    rs.topologies.binary_tree(12),
    rs.topologies.double_binary_tree(12),
]


@pytest.mark.parametrize("zeta2", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=repr)
@pytest.mark.parametrize("overlap", [False, True])
def test_relay_sgd_is_exact_for_any_heterogeneity_and_rate(topology, zeta2, overlap):
    problem = rs.problems.random_quadratics(n=12, d=5, zeta2=zeta2, mu=0.25, r0=3.0, seed=1)
    history = rs.simulate(
        problem,
        topology,
        rs.algorithms.RelaySGD(overlap=overlap),
        learning_rate=[0.1, 0.5, 1.0],
        steps=3000,
        record=3000,
    )
    last = history.frame[history.frame.step == 3000]
    bounded(last.distance, 1e-26 * (1 + zeta2))


@pytest.mark.parametrize("unheard", UNHEARD)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("topology", [TOPOLOGIES[0], TOPOLOGIES[3]], ids=repr)
def test_relay_sgd_is_exact_whatever_stands_in_for_the_unheard(topology, unheard, overlap):
    problem = rs.problems.random_quadratics(n=12, d=5, zeta2=10.0, mu=0.25, seed=1)
    history = rs.simulate(
        problem,
        topology,
        rs.algorithms.RelaySGD(unheard=unheard, momentum=0.5, overlap=overlap),
        learning_rate=0.5,
        steps=1500,
        record=1500,
    )
    bounded(history.frame.distance.iloc[-1], 1e-25)


@pytest.mark.parametrize("rate", [1e-3, 0.5, 7.0])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=repr)
@pytest.mark.parametrize("overlap", [False, True])
def test_the_fixed_point_is_the_optimum_even_at_unstable_rates(topology, overlap, rate):
    problem = rs.problems.random_quadratics(n=12, d=3, zeta2=10.0, mu=0.25, seed=1)
    start = np.random.default_rng(0).normal(size=(12, 3))
    algorithm = rs.algorithms.RelaySGD(momentum=0.5, overlap=overlap)
    linear = rs.theory.linearize(problem, topology, algorithm, rate, start)
    tight(linear.fixed_point, problem.optimum, 1e-10, scale=1.0)


def test_what_is_measured_tells_exact_methods_from_others():
    """The same run with relayed gradients stays far from x*."""
    problem = rs.problems.random_quadratics(n=12, d=5, zeta2=1.0, mu=0.25, r0=3.0, seed=1)
    other = rs.algorithms.RelaySGDGrad()
    linear = rs.theory.linearize(problem, TOPOLOGIES[0], other, 0.1)
    assert linear.stationary(0.0).distance > 1e-3
