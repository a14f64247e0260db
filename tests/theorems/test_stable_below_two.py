"""Claim: with equal Hessians RelaySGD is stable at γh < 2 on every tree, and with overlap only there.

Source: derived here. Errors obey e_i' = ((1 − γh)/n) Σ_j e_j^{t−τ_ij}, rows whose absolute values sum to
|1 − γh| < 1. With overlap, where τ_ij is the distance d_ij: put e_i^t = (−w)^t s_i u_i, with s_i = ±1
alternating along edges; w u = ((γh − 1)/n) K u, K_ij = w^{−d_ij} ≥ 0. At w = 1 the Perron value of the
right side is γh − 1, and it falls as w grows: a root w > 1, growth by w a step, exists where γh > 2.

Tight with overlap: (0, 2). A bound without: stable at least up to 2; see test_unstable_beyond.py.
"""

import pytest
from claims import assert_limit, bounded, equal_hessians, growth, radius, random_tree, tight
from graphs import trees
from hypothesis import given, settings

import relaysim as rs

OVERLAPPING = rs.algorithms.RelaySGD(overlap=True)
TREES = [
    rs.topologies.chain(8),
    rs.topologies.star(8),
    rs.topologies.binary_tree(11),
    rs.topologies.chain(32),
    random_tree(13, seed=0),
    random_tree(20, seed=1),
]


@pytest.mark.parametrize("topology", TREES, ids=lambda tree: f"{tree!r}, diameter {tree.diameter}")
@pytest.mark.parametrize("h", [1.0, 0.5])
def test_overlapping_relay_sgd_is_stable_up_to_2_on_every_tree(topology, h):
    assert_limit(equal_hessians(topology.n, h), topology, OVERLAPPING, 2 / h)


@settings(max_examples=25)
@given(trees(least=2))
def test_overlapping_relay_sgd_on_random_trees(tree):
    topology = rs.topologies.from_edges(*tree)
    assert radius(topology, OVERLAPPING, 1.98) < 1 < radius(topology, OVERLAPPING, 2.02)
    tight(radius(topology, OVERLAPPING, 2.0), 1.0, 1e-9)


@pytest.mark.parametrize("topology", [TREES[0], TREES[4]], ids=["chain", "random tree"])
def test_all_stable_rates_with_overlap(topology):
    problem = equal_hessians(topology.n, d=1)
    found = rs.theory.stable_learning_rates(problem, topology, OVERLAPPING, progress=False)
    tight(found, [(0.0, 2.0)], 1e-8)


@settings(max_examples=20)
@given(trees(least=2))
def test_relay_sgd_on_random_trees(tree):
    topology = rs.topologies.from_edges(*tree)
    for gamma_h in (0.01, 1.0, 1.98):
        bounded(radius(topology, rs.algorithms.RelaySGD(), gamma_h), 1 - 1e-9)


@pytest.mark.parametrize("topology", TREES, ids=lambda tree: f"{tree!r}, diameter {tree.diameter}")
def test_simulated_relay_sgd_settles_below_2(topology):
    found = growth(equal_hessians(topology.n), topology, rs.algorithms.RelaySGD(), [0.5, 1.98])
    bounded(found, 1 - 1e-3)
