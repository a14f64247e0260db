"""Claim: with equal Hessians, on a chain of n, RelaySGD is stable exactly at γh < (n + 2)/2 and
RelaySGD/Grad exactly at γh < n; momentum β multiplies RelaySGD's limit by (1 + β)/(1 − β).

Source: that nothing beyond is stable is derived in test_unstable_beyond.py, that all below is was found from
eigenvalues, for n ≤ 32. RelaySGD has the same limit on binary trees, but not on stars. With overlap
momentum may do less: on a chain of 4, β = ½ raises the limit from 2 to 5.07 and not to 6.
Tight, by the eigenvalues and by runs 1 % inside and outside.
"""

import pytest
from claims import assert_limit, equal_hessians, radius, tight

import relaysim as rs

METHODS = {
    "RelaySGD": (rs.algorithms.RelaySGD(), lambda n: (n + 2) / 2),
    "RelaySGD with momentum": (rs.algorithms.RelaySGD(momentum=0.5), lambda n: 3 * (n + 2) / 2),
    "RelaySGDGrad": (rs.algorithms.RelaySGDGrad(), lambda n: n),
}
over_methods = pytest.mark.parametrize(("algorithm", "limit"), METHODS.values(), ids=METHODS)


def stable(topology, algorithm):
    problem = equal_hessians(topology.n, d=1)
    return rs.theory.stable_learning_rates(problem, topology, algorithm, progress=False)


@pytest.mark.parametrize("n", [4, 8, 12, 16, 32])
@pytest.mark.parametrize("h", [1.0, 0.5])
@over_methods
def test_stability_limit_on_chains_with_equal_hessians(algorithm, limit, n, h):
    assert_limit(equal_hessians(n, h), rs.topologies.chain(n), algorithm, limit(n) / h)


@pytest.mark.parametrize("n", [4, 8, 16, 32])
@pytest.mark.parametrize("name", ["RelaySGD", "RelaySGDGrad"])
def test_all_stable_rates_on_chains(name, n):
    algorithm, limit = METHODS[name]
    tight(stable(rs.topologies.chain(n), algorithm), [(0.0, limit(n))], 1e-7)


@pytest.mark.parametrize("momentum", [0.3, 0.9])
@pytest.mark.parametrize("n", [3, 8])
def test_momentum_multiplies_the_limit(n, momentum):
    found = stable(rs.topologies.chain(n), rs.algorithms.RelaySGD(momentum=momentum))
    tight(found, [(0.0, (n + 2) / 2 * (1 + momentum) / (1 - momentum))], 1e-7)


def test_with_overlap_momentum_does_not():
    algorithm = rs.algorithms.RelaySGD(momentum=0.5, overlap=True)
    tight(stable(rs.topologies.chain(4), algorithm), [(0.0, 5.0749)], 1e-4)
    tight(stable(rs.topologies.chain(8), algorithm), [(0.0, 6.0)], 1e-7)


def test_the_same_limit_on_binary_trees_but_not_on_stars():
    relay_sgd = rs.algorithms.RelaySGD()
    tight(stable(rs.topologies.binary_tree(8), relay_sgd), [(0.0, 5.0)], 1e-7)
    for n in (8, 16, 32):
        assert_limit(equal_hessians(n), rs.topologies.binary_tree(n), relay_sgd, (n + 2) / 2)
    assert radius(rs.topologies.star(8), relay_sgd, 2.79) < 1
    assert radius(rs.topologies.star(8), relay_sgd, 2.80) > 1
