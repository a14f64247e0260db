"""Claim: with equal Hessians D² is stable mode by mode: an eigenvalue λ < 0 of W needs λ > −1/(3 − 2γh)
(below γh = 4/3), so that the stable rates are max(0, (3 − 1/|λ_n|)/2) < γh < 2. Thus (1/2, 2) on a
hypercube of 8 and (2/3, 2) on a 4 × 4 torus; on a binary tree of 24 the lower end is 0.0027. An even ring
with weights 1/3 sits on −1/3: stable, but its alternating mode decays by γh/2 a step only. Exact diffusion,
with (I + W)/2, is stable at every γh < 2.

Source: Tang et al., "D²", ICML 2018, for −1/3; at all rates derived here. A mode has
z² − λ(2 − γh)z + λ(1 − γh) = 0. Metropolis weights.
Tight.
"""

import numpy as np
import pytest
from claims import assert_limit, equal_hessians, growth, radius, tight

import relaysim as rs

D2, DIFFUSION = rs.algorithms.D2(), rs.algorithms.ExactDiffusion()
GRAPHS = {
    "hypercube": (rs.topologies.hypercube(8), -1 / 2, 1 / 2),
    "torus": (rs.topologies.torus(4, 4), -3 / 5, 2 / 3),
    "ring": (rs.topologies.ring(8), -1 / 3, 0.0),
    "chain": (rs.topologies.chain(9), None, 0.0),
}
over_graphs = pytest.mark.parametrize(("topology", "smallest", "low"), GRAPHS.values(), ids=GRAPHS)


def stable(topology, algorithm):
    problem = equal_hessians(topology.n, d=1)
    return rs.theory.stable_learning_rates(problem, topology, algorithm, progress=False)


@over_graphs
def test_all_stable_rates(topology, smallest, low):
    eigenvalues = np.linalg.eigvalsh(rs.mixing.metropolis(topology).toarray())
    if smallest is not None:
        tight(eigenvalues[0], smallest, 1e-12)
    tight(max(0, (3 - 1 / abs(eigenvalues[0])) / 2), low, 1e-9, scale=1.0)
    tight(stable(topology, D2), [(low, 2.0)], 1e-8, scale=1.0)


@over_graphs
def test_simulated_limits(topology, smallest, low):
    problem = equal_hessians(topology.n)
    assert_limit(problem, topology, D2, 2.0)
    assert_limit(problem, topology, DIFFUSION, 2.0)
    assert radius(topology, DIFFUSION, 0.01) < 1
    if low:
        assert_limit(problem, topology, D2, low, below=False)


def test_a_binary_tree_of_24_is_unstable_at_small_rates():
    tree = rs.topologies.binary_tree(24)
    (low, high), *rest = stable(tree, D2)
    assert not rest
    tight([low, high], [0.0027, 2.0], 0.01)
    smallest = np.linalg.eigvalsh(rs.mixing.metropolis(tree).toarray())[0]
    tight(low, (3 + 1 / smallest) / 2, 1e-6)
    assert radius(tree, D2, low * 0.9) > 1 > radius(tree, D2, low * 1.1)
    found = growth(equal_hessians(24), tree, D2, [low / 3, 0.1], steps=6000)
    assert found[0] > 1 > found[1], f"measured growth {found}"


@pytest.mark.parametrize("gamma_h", [0.001, 0.1, 0.4])
def test_an_even_ring_sits_on_minus_one_third(gamma_h):
    ring = rs.topologies.ring(8)
    root = (2 - gamma_h + np.sqrt((2 - gamma_h) ** 2 + 12 * (1 - gamma_h))) / 6
    tight(radius(ring, D2, gamma_h), root, 1e-9)
    tight(1 - root, gamma_h / 2, gamma_h)
    steps = int(40 / gamma_h)
    found = growth(equal_hessians(8), ring, D2, gamma_h, steps=steps)
    tight(found ** (2 / steps), root, 1e-3)


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_d2_needs_eigenvalues_above_its_threshold(rate, h):
    """A mode (λ < 0, h) is stable if and only if λ > −1/(3 − 2γh)."""
    threshold = -1 / (3 - 2 * rate * h)
    tight(rs.theory.d2_smallest_eigenvalue(rate * h), threshold, 1e-13)
    pair = rs.topologies.chain(2)
    for eigenvalue, settles in ((threshold + 0.01, True), (threshold - 0.01, False)):
        if eigenvalue <= -1:
            continue
        mixing = rs.mixing.uniform(pair, (1 - eigenvalue) / 2)
        found = growth(equal_hessians(2, h), pair, D2, rate, mixing=mixing)
        assert found < 1 if settles else found > 1


def test_d2_may_be_stable_only_above_a_rate():
    hypercube = rs.topologies.hypercube(8)  # Metropolis weights 1/4: λ_min = −1/2, 3 − 2γh < 2
    below, above = growth(equal_hessians(8), hypercube, D2, [0.45, 0.55])
    assert below > 1e3
    assert above < 1e-2


@pytest.mark.parametrize("weight", [0.5, 0.9, 0.99])
def test_exact_diffusion_accepts_any_symmetric_matrix(weight):
    pair, mixing = rs.topologies.chain(2), rs.mixing.uniform(rs.topologies.chain(2), weight)
    for gamma_h in (0.01, 0.2, 1.0, 1.98):
        assert radius(pair, DIFFUSION, gamma_h, mixing) < 1
    found = growth(equal_hessians(2), pair, DIFFUSION, [0.2, 1.98, 2.02], mixing=mixing)
    assert found[0] < 1
    assert found[1] < 1 < found[2]
