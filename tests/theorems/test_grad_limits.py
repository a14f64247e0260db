"""Claim: with equal Hessians RelaySGD/Grad first loses stability at these γh:

    with overlap, n = 8, 16, 32:  chain 1.185, 0.904, 0.678;  binary tree 0.914, 0.600, 0.399;
    without, binary tree of 16 and 32: 1.200, 0.574, and beyond lie second windows that end at n.

The first unstable rates on a grid of 0.02 are 1.2, 0.92, 0.68; 0.92, 0.62, 0.40.

Source: eigenvalues computed here.
Tight, to four digits by the spectral radius and to 1 % by runs.
"""

import pytest
from claims import assert_limit, equal_hessians, radius, tight

import relaysim as rs

GRAD, OVERLAPPING = rs.algorithms.RelaySGDGrad(), rs.algorithms.RelaySGDGrad(overlap=True)
CHAIN, TREE = rs.topologies.chain, rs.topologies.binary_tree
LIMITS = [
    (CHAIN(8), OVERLAPPING, 1.1845),
    (CHAIN(16), OVERLAPPING, 0.9039),
    (CHAIN(32), OVERLAPPING, 0.6778),
    (TREE(8), OVERLAPPING, 0.9139),
    (TREE(16), OVERLAPPING, 0.6004),
    (TREE(32), OVERLAPPING, 0.3992),
    (TREE(16), GRAD, 1.2003),
    (TREE(32), GRAD, 0.5744),
]
over_limits = pytest.mark.parametrize(("topology", "algorithm", "limit"), LIMITS, ids=repr)


@over_limits
def test_the_spectral_radius_crosses_1_there(topology, algorithm, limit):
    for below in (0.1, 0.5, 0.9, 0.9998):
        assert radius(topology, algorithm, below * limit) < 1
    assert radius(topology, algorithm, 1.0002 * limit) > 1


@over_limits
def test_overlapping_relayed_gradients_lose_stability_earlier_on_longer_chains(
    topology, algorithm, limit
):
    assert_limit(equal_hessians(topology.n), topology, algorithm, limit)


def test_the_first_unstable_rates_on_a_grid():
    first = [1.2, 0.92, 0.68, 0.92, 0.62, 0.40]
    for (topology, algorithm, _), rate in zip(LIMITS[:6], first, strict=True):
        assert radius(topology, algorithm, rate - 0.02) < 1 < radius(topology, algorithm, rate)


def test_the_second_window_on_a_binary_tree():
    tree = TREE(16)
    found = rs.theory.stable_learning_rates(equal_hessians(16, d=1), tree, GRAD, progress=False)
    tight(found, [(0.0, 1.2003), (6.1910, 16.0)], 1e-4)
    assert_limit(equal_hessians(16), tree, GRAD, 6.1910, below=False)
    assert_limit(equal_hessians(16), tree, GRAD, 16.0)
