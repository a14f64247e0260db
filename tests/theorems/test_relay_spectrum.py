"""Claim: without gradients relayed models agree by a factor |λ₂| a step. With the delays as received, on
every tree of n ≥ 2,

    1 − |λ₂| ≤ 2/(n(1 + τ̄)),

nearly an equality on large trees: 6/n² on chains. λ₂ is negative there, a mode that alternates along
edges and from step to step. With hop delays (overlap) 1 − |λ₂| → 1.3012/n on chains. Gradient steps
damp the alternating mode by 1 − |z| ≈ (γh + 2/n)/(1 + τ̄), not by γh: a little more than the mean,
γh/(1 + τ̄), which decides how fast RelaySGD converges at small rates.

Source: derived here for the matrix of Vogels et al., "RelaySum", NeurIPS 2021.

- As received: put x_i^t = (−w)^t s_i u_i, with s_i = ±1 alternating along edges. Payloads of others arrive
  with a minus sign: K(w)u = (2 + nw/(1 − γh))u, K_ij = w^{−τ_ij}. For w = 1 − ε the largest eigenvalue of K
  is at least 1ᵀK1/n ≥ n(1 + ετ̄), which at γ = 0 is 2 + nw for ε = 2/(n(1 + τ̄)); at w = 1 it is below
  2 + n. A root lies between. To first order in ε and γh equality gives both approximations.
- Hops, chain: with λ = e^{σ/n} and positions in [0, 1], x(s) = ∫ e^{−σ|s−r|} x(r) dr, hence
  x = sin(ω(s − ½)) with ω² = σ(2 − σ) and σ = −ω cot(ω/2); the slowest root has σ = −1.3012 ± 4.1200i.

A bound with delays as received, tight for large n; the other claims are tight.
"""

import numpy as np
import pytest
from claims import Constant, bounded, delays, equal_hessians, random_tree, tight
from graphs import trees
from hypothesis import given, settings
from scipy.optimize import root

import relaysim as rs

CHAIN, TREE, STAR = rs.topologies.chain, rs.topologies.binary_tree, rs.topologies.star


def claimed_gap(topology):
    return 2 / (topology.n * (1 + delays(topology, overlap=False).mean()))


@settings(max_examples=40)
@given(trees(least=2))
def test_the_gap_is_bounded_on_every_tree(tree):
    topology = rs.topologies.from_edges(*tree)
    bounded(rs.theory.relay_gap(topology, "received"), claimed_gap(topology))


@pytest.mark.parametrize("topology", [CHAIN(48), TREE(48), STAR(48), random_tree(48, 0)], ids=repr)
def test_the_bound_is_nearly_met_by_large_trees(topology):
    gap = rs.theory.relay_gap(topology, "received")
    bounded(gap, claimed_gap(topology))
    tight(gap, claimed_gap(topology), 0.035)


def test_slopes_on_chains():
    sizes = np.array([24, 48, 96])
    received, hops = [
        [rs.theory.relay_gap(CHAIN(n), conventions) for n in sizes]
        for conventions in ("received", "hops")
    ]
    tight(np.polyfit(np.log(sizes), np.log(received), 1)[0], -2, 0.03)
    tight(received * sizes**2, [5.636, 5.810, 5.902], 1e-3)
    tight(np.polyfit(np.log(sizes), np.log(hops), 1)[0], -1, 0.06)
    tight(hops * sizes, [1.181, 1.236, 1.267], 1e-3)

    def mismatch(parts):
        sigma = complex(*parts)
        omega = np.sqrt(sigma * (2 - sigma))
        wrong = omega / np.tan(omega / 2) + sigma
        return wrong.real, wrong.imag

    limit = -root(mismatch, (-1.3, 4.1), tol=1e-12).x[0]
    tight(limit, 1.3012, 1e-4)
    # What is left falls like 1/n.
    tight(2 * hops[2] * 96 - hops[1] * 48, limit, 3e-3)


@pytest.mark.parametrize("topology", [CHAIN(8), CHAIN(16), TREE(16), STAR(8)], ids=repr)
def test_the_second_eigenvalue_is_negative(topology):
    eigenvalues = np.linalg.eigvals(rs.theory.relay_matrix(topology, "received").toarray())
    first, second, third = eigenvalues[np.argsort(-np.abs(eigenvalues))][:3]
    tight(abs(first - 1), 0.0, 1e-9, scale=1.0)
    tight([second.real, second.imag], [rs.theory.relay_gap(topology, "received") - 1, 0.0], 1e-7, 1)
    assert abs(third) < abs(second) - 1e-3


@pytest.mark.parametrize(
    ("topology", "gap"),
    [
        (CHAIN(8), 0.0792),
        (CHAIN(16), 0.0214),
        (CHAIN(32), 0.0056),
        (TREE(8), 0.104),
        (TREE(16), 0.0354),
        (TREE(32), 0.0127),
    ],
    ids=repr,
)
def test_consensus_of_relayed_models_contracts_with_the_second_eigenvalue(topology, gap):
    first, last = int(8 / gap), int(13 / gap)  # the other modes have died, rounding is far away
    early, late = rs.simulate(
        Constant(np.zeros((topology.n, 1))),
        topology,
        rs.algorithms.RelaySGD(),
        learning_rate=0,
        steps=last,
        record=[first, last],
        x0=np.random.default_rng(0).normal(size=(topology.n, 1)),
    ).frame.consensus_distance
    assert late > 1e-26
    contraction = (late / early) ** (1 / (2 * (last - first)))
    tight(1 - contraction, gap, 0.006)
    tight(1 - contraction, rs.theory.relay_gap(topology, "received"), 5e-3)


@pytest.mark.parametrize(("gamma_h", "tolerance"), [(0.01, 0.002), (0.1, 0.02), (0.3, 0.07)])
@pytest.mark.parametrize("overlap", [False, True])
def test_with_gradients_the_mean_decides(gamma_h, tolerance, overlap):
    chain, algorithm = CHAIN(32), rs.algorithms.RelaySGD(overlap=overlap)
    linear = rs.theory.linearize(equal_hessians(32, d=1), chain, algorithm, gamma_h)
    mean = gamma_h / (1 + delays(chain, overlap).mean())
    tight(linear.spectral_radius, 1 - mean, 0.01)
    tight(1 - linear.spectral_radius, mean, tolerance + overlap * 0.01)


@pytest.mark.parametrize("topology", [CHAIN(32), CHAIN(48), TREE(48)], ids=repr)
@pytest.mark.parametrize("gamma_h", [0.0, 0.01, 0.1])
def test_gradients_damp_the_alternating_mode_a_little_more_than_the_mean(topology, gamma_h):
    linear = rs.theory.linearize(
        equal_hessians(topology.n, d=1), topology, rs.algorithms.RelaySGD(), gamma_h
    )
    eigenvalues = np.linalg.eigvals(linear.operator @ np.eye(linear.states))
    real = eigenvalues[np.abs(eigenvalues.imag) < 1e-9].real
    alternating, factor = -real.min(), 1 + delays(topology, overlap=False).mean()
    tight(1 - alternating, (gamma_h + 2 / topology.n) / factor, 0.07)
    bounded((1 - gamma_h) * (1 - claimed_gap(topology)), alternating)
    assert alternating < real.max()
