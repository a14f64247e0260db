"""Claim: the key lemma, ‖W^m − 1πᵀ‖₂² ≤ (1 − p)^{2m} ‖W − 1πᵀ‖₂², holds with hop delays at m/p =

    n = 8, 16, 32:  chain 91.2, 150.9, 296.2;  binary tree 58.5, 114.7, 205.6;  star 36.5, 60.1, 95.9.

Source: Lemma 1 of Vogels et al., "RelaySum", NeurIPS 2021, with the m and p that its published code finds for
figure 5 (n = 32 computed here).
A bound: the inequality, checked on a matrix written out here. That these m/p are the smallest for m ≤ 99:
tight (of those of 32, on the chain for m ≤ 3, on the others for m ≤ 20).
"""

import inspect

import numpy as np
import pytest
from claims import bounded, delays, tight
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, svds

import relaysim as rs

CHAIN, TREE, STAR = rs.topologies.chain, rs.topologies.binary_tree, rs.topologies.star
FOUND = [
    (CHAIN(8), 2, 91.2364),
    (CHAIN(16), 2, 150.8820),
    (CHAIN(32), 2, 296.1973),
    (TREE(8), 8, 58.5249),
    (TREE(16), 7, 114.6673),
    (TREE(32), 9, 205.6403),
    (STAR(8), 3, 36.5164),
    (STAR(16), 3, 60.1069),
    (STAR(32), 3, 95.8591),
]


def norm_of_power(W, pi, m):
    """‖W^m − 1πᵀ‖₂ from products with a sparse W."""

    def apply(x):
        found = x
        for _ in range(m):
            found = W @ found
        return found - pi @ x

    def transposed(x):
        found = x
        for _ in range(m):
            found = W.T @ found
        return found - pi * x.sum()

    operator = LinearOperator(W.shape, matvec=apply, rmatvec=transposed, dtype=float)
    start = np.random.default_rng(0).normal(size=W.shape[0])
    return svds(operator, k=1, v0=start, tol=1e-9, return_singular_vectors=False)[0]


@pytest.mark.parametrize(("topology", "m", "ratio"), FOUND, ids=repr)
def test_the_inequality_holds(topology, m, ratio):
    tau = delays(topology, overlap=True).astype(int)
    n, blocks = topology.n, tau.max() + 1
    W = np.eye(blocks * n, k=-n)
    W[:n] = 0
    for k in range(blocks):
        W[:n, k * n : (k + 1) * n] = (tau == k) / n
    at_least = [(tau >= k).sum(axis=0) for k in range(blocks)]
    pi = np.concatenate(at_least) / np.sum(at_least)
    tight(pi @ W, pi, 1e-12)
    sparse = csr_array(W)
    start, end = norm_of_power(sparse, pi, 1), norm_of_power(sparse, pi, m)
    # The ratio is rounded to the nearest; upwards p is smaller.
    bounded(end, (1 - m / (ratio + 1e-4)) ** m * start)
    assert end > (1 - m / (0.99 * ratio)) ** m * start, "a much smaller m/p would do too"


@pytest.mark.parametrize(("topology", "m", "ratio"), FOUND, ids=repr)
def test_no_smaller_ratio_is_found(topology, m, ratio):
    most = {CHAIN(32): 3, TREE(32): 20, STAR(32): 20}.get(topology, 99)
    found_m, p = rs.theory.key_lemma(topology, max_m=most)
    assert found_m == m
    tight(found_m / p, ratio, 1e-6)


@pytest.mark.parametrize("topology", [CHAIN(1), CHAIN(2), STAR(2)], ids=repr)
def test_two_workers_that_hear_each_other_at_once_agree_in_a_round(topology):
    W = rs.theory.relay_matrix(topology, "received").toarray()
    tight(W, np.full(W.shape, 1 / topology.n), 1e-15)
    assert rs.theory.key_lemma(topology, "received") == (1, 1.0)


def test_the_longest_power_that_is_tried():
    m, p = rs.theory.key_lemma(STAR(4), max_m=2)
    assert m == 2
    tight(p, 0.0036076757, 1e-6)
    assert inspect.signature(rs.theory.key_lemma).parameters["max_m"].default == 99
    with pytest.raises(ValueError, match=r"no m up to 1 .*raise max_m"):
        rs.theory.key_lemma(STAR(4), max_m=1)
    with pytest.raises(ValueError, match="max_m"):
        rs.theory.key_lemma(STAR(4), max_m=0)
