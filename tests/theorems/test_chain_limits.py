"""Claim: with equal Hessians, on a chain of n, RelaySGD is stable exactly at γh < (n + 2)/2 and
RelaySGD/Grad exactly at γh < n; momentum β multiplies RelaySGD's limit by (1 + β)/(1 − β).

Source: limits found numerically with Vogels et al., "RelaySum", NeurIPS 2021, in mind; that they are not
larger is derived in test_unstable_beyond.py. On binary trees RelaySGD has the same limit (numerically);
with overlap momentum does not multiply the limit: on a chain of 4 from 2 to 5.07 and not 6 at β = ½.
Tight, by the eigenvalues and by runs 1 % inside and outside.
"""

import pytest
from claims import assert_limit, equal_hessians, tight

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
@pytest.mark.parametrize("n", [3, 5, 8])
def test_momentum_multiplies_the_limit(n, momentum):
    found = stable(rs.topologies.chain(n), rs.algorithms.RelaySGD(momentum=momentum))
    tight(found, [(0.0, (n + 2) / 2 * (1 + momentum) / (1 - momentum))], 1e-7)


def test_with_overlap_momentum_does_not():
    algorithm = rs.algorithms.RelaySGD(momentum=0.5, overlap=True)
    tight(stable(rs.topologies.chain(4), algorithm), [(0.0, 5.0749)], 1e-4)
    tight(stable(rs.topologies.chain(8), algorithm), [(0.0, 6.0)], 1e-7)


@pytest.mark.parametrize("n", [8, 16])
def test_the_same_limit_on_binary_trees(n):
    tree, relay_sgd = rs.topologies.binary_tree(n), rs.algorithms.RelaySGD()
    tight(stable(tree, relay_sgd), [(0.0, (n + 2) / 2)], 1e-7)
    assert_limit(equal_hessians(n), tree, relay_sgd, (n + 2) / 2)
