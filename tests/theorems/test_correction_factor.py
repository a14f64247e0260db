"""Claim: RelaySGD needs a learning rate 1 + τ̄ times that of centralised SGD, τ̄ = (1/n²) Σ_ij τ_ij:

    chain (n² + 2)/(3n), star 2(1 − 1/n)² + 1/n; with overlap (n² + 3n − 1)/(3n) and 1 + 2(1 − 1/n)².

Source: Vogels et al., "RelaySum", NeurIPS 2021, figure 6, who measure it by an impulse: gradient −1 in a
single step of rate 1, then only communication; the factor is 1 over where all workers end. Closed form
derived here.
Tight. An impulse in the first step depends on what stands in for the unheard, a later one does not.
"""

import pytest
from claims import Constant, bounded, delays, random_tree, tight

import relaysim as rs


def measured_factor(topology, overlap=False, unheard="initial", impulse_at=0):
    """Gradient −1 in a single step of rate 1, then only communication: 1 / (the final mean)."""
    steps = 200 + 100 * topology.n
    history = rs.simulate(
        Constant([[-1.0, -1.0]] * topology.n),
        topology,
        rs.algorithms.RelaySGD(overlap=overlap, unheard=unheard),
        learning_rate=lambda step: float(step == impulse_at),
        steps=steps,
        record=steps,
    )
    bounded(history.frame.consensus_distance.iloc[-1], 1e-16)
    return 1 / history.x.mean()


@pytest.mark.parametrize("n", [2, 5, 8, 16, 20])
def test_correction_factor_of_a_chain(n):
    chain = rs.topologies.chain(n)
    tight(measured_factor(chain), (n**2 + 2) / (3 * n), 1e-8)
    tight(measured_factor(chain, overlap=True), (n**2 + 3 * n - 1) / (3 * n), 1e-8)
    tight(rs.theory.correction_factor(chain), (n**2 + 2) / (3 * n), 1e-13)
    tight(rs.theory.correction_factor(chain, "hops"), (n**2 + 3 * n - 1) / (3 * n), 1e-13)


@pytest.mark.parametrize("n", [2, 5, 8, 32])
def test_correction_factor_of_a_star(n):
    star = rs.topologies.star(n)
    tight(measured_factor(star), 2 * (1 - 1 / n) ** 2 + 1 / n, 1e-8)
    tight(measured_factor(star, overlap=True), 1 + 2 * (1 - 1 / n) ** 2, 1e-8)
    tight(rs.theory.correction_factor(star), 2 * (1 - 1 / n) ** 2 + 1 / n, 1e-13)
    tight(rs.theory.correction_factor(star, "hops"), 1 + 2 * (1 - 1 / n) ** 2, 1e-13)


@pytest.mark.parametrize(
    ("n", "same_round", "overlapping"),
    [
        (2, 1.0, 1.5),
        (8, 2.15625, 3.03125),
        (16, 3.3203125, 4.2578125),
        (32, 4.783203125, 5.751953125),
    ],
)
def test_correction_factor_of_the_binary_tree(n, same_round, overlapping):
    tree = rs.topologies.binary_tree(n)
    tight(measured_factor(tree), same_round, 1e-8)
    tight(measured_factor(tree, overlap=True), overlapping, 1e-8)
    tight(rs.theory.correction_factor(tree), same_round, 1e-13)
    tight(rs.theory.correction_factor(tree, "hops"), overlapping, 1e-13)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", [3, 4])
def test_correction_factor_of_any_tree_is_the_mean_delay_plus_one(seed, overlap):
    tree = random_tree(14, seed)
    claimed = 1 + delays(tree, overlap).mean()
    tight(measured_factor(tree, overlap), claimed, 1e-8)
    found = rs.theory.correction_factor(tree, "hops" if overlap else "received")
    tight(found, claimed, 1e-13)


@pytest.mark.parametrize(
    ("unheard", "from_the_start"),
    [("initial", 5.375), ("previous", 2.53), ("own", 1.0), ("counts", 1.0)],
)
def test_what_stands_in_for_the_unheard_matters_only_until_the_pipeline_is_full(
    unheard, from_the_start
):
    chain = rs.topologies.chain(16)
    tight(measured_factor(chain, unheard=unheard), from_the_start, 5e-3, scale=1.0)
    later = measured_factor(chain, unheard=unheard, impulse_at=20)
    tight(later, (16**2 + 2) / (3 * 16), 1e-8)


@pytest.mark.parametrize("function", [rs.theory.correction_factor, rs.theory.key_lemma])
def test_what_has_no_delays_has_no_factor(function):
    with pytest.raises(ValueError, match="RelaySum needs a tree, not ring"):
        function(rs.topologies.ring(5))
    with pytest.raises(ValueError, match="delays must be 'received' or 'hops'"):
        function(rs.topologies.chain(5), "sent")
