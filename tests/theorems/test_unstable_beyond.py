"""Claim: with equal Hessians, on every tree of n ≥ 2, RelaySGD is unstable at every γh beyond
((n + 2)/2)(1 + β)/(1 − β), β its momentum, and RelaySGD/Grad beyond n (1 + β)/(1 − β).

Source: derived here. Put x_i^t = (−w)^t s_i u_i with s_i = ±1 alternating along edges. Payloads of
others, delayed by d_ij − 1, arrive with a minus sign: what i receives is (−w)^t s_i ((2I − K)u)_i,
K_ij = w^{−τ_ij}. At w = 1, K = 11ᵀ, so that 2I − K is 2 on all u ⊥ 1. With the dampened momentum's
response μ(w) = (1 − β)w/(w + β):

    RelaySGD: w u = ((γhμ − 1)/n)(2I − K)u;    RelaySGD/Grad: (1 + w) u = (γhμ/n)(2I − K)u.

At the rates claimed w = 1 solves this: −1 is an eigenvalue, of multiplicity n − 1. Beyond them the right
side's largest eigenvalue exceeds the left factor at w = 1, and does not for large w, since it stays
bounded: a root w > 1 lies between, growth by w a step.

A bound on every tree; met by chains and binary trees, see test_chain_limits.py. The eigenvalue −1: tight.
"""

import numpy as np
import pytest
from claims import bounded, equal_hessians, growth, radius, random_tree, tight
from graphs import trees
from hypothesis import given, settings

import relaysim as rs

METHODS = [
    (rs.algorithms.RelaySGD(), lambda n: (n + 2) / 2),
    (rs.algorithms.RelaySGD(momentum=0.5), lambda n: 3 * (n + 2) / 2),
    (rs.algorithms.RelaySGDGrad(), lambda n: n),
    (rs.algorithms.RelaySGDGrad(momentum=0.5), lambda n: 3 * n),
]
METHOD_NAMES = ["RelaySGD", "RelaySGD, momentum", "Grad", "Grad, momentum"]
over_methods = pytest.mark.parametrize(("algorithm", "limit"), METHODS, ids=METHOD_NAMES)


@over_methods
@settings(max_examples=15)
@given(trees(least=2, most=10))
def test_no_larger_rate_is_stable_on_random_trees(algorithm, limit, tree):
    topology = rs.topologies.from_edges(*tree)
    for factor in (1.01, 1.7, 10.0):
        assert radius(topology, algorithm, factor * limit(topology.n)) > 1


@over_methods
@pytest.mark.parametrize(
    "topology", [rs.topologies.star(9), random_tree(12, seed=2)], ids=["star", "random tree"]
)
def test_simulations_diverge_beyond(algorithm, limit, topology):
    found = growth(
        equal_hessians(topology.n), topology, algorithm, np.array([1.01, 2.0]) * limit(topology.n)
    )
    assert (found > 1).all(), f"measured growth {found}, claimed instability"


@over_methods
@pytest.mark.parametrize("topology", [rs.topologies.star(7), random_tree(9, seed=2)], ids=repr)
def test_at_that_rate_minus_one_is_an_eigenvalue(algorithm, limit, topology):
    n = topology.n
    problem = equal_hessians(n, d=1)
    linear = rs.theory.linearize(problem, topology, algorithm, limit(n))
    eigenvalues = np.linalg.eigvals(linear.operator @ np.eye(linear.states))
    tight(np.sort(np.abs(eigenvalues + 1))[: n - 1], 0.0, 1e-6, scale=1.0)
    assert np.sort(np.abs(eigenvalues + 1))[n - 1] > 1e-3


def test_the_last_stable_interval_ends_no_later():
    for topology in (rs.topologies.star(5), random_tree(7, seed=5)):
        for algorithm, limit in METHODS[::2]:
            problem = equal_hessians(topology.n, d=1)
            last = rs.theory.max_learning_rate(problem, topology, algorithm, progress=False)
            bounded(last, limit(topology.n), rounding=1e-7)
