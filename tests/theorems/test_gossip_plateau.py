"""Claim: DP-SGD stops at a distance from x* that is proportional to ζ²γ² for small γ. With equal Hessians,
in the mode v_k of W with eigenvalue λ_k ≠ 1 and with c_k = v_kᵀC the part of the workers' optima,

    x_k = λ_k γh c_k / (1 − λ_k(1 − γh)),    with overlap γh c_k / (1 − λ_k + γh),

so that the plateau is proportional to ζ² at every rate. For any Hessians consensus distance/γ² tends to
(1/n) ‖(I − W)⁺ W G*‖², G* the gradients at x* (with overlap without the W).

Source: the orders are those of Koloskova et al., "A unified theory of decentralized SGD", ICML 2020;
fixed points derived here from X = W(X − γG) and X = WX − γG.
Tight.
"""

import itertools

import numpy as np
import pytest
from claims import equal_hessians, tight

import relaysim as rs

OVERLAPS = pytest.mark.parametrize("overlap", [False, True], ids=["step, mix", "mix, step"])
GRAPHS = pytest.mark.parametrize(
    "topology", [rs.topologies.ring(8), rs.topologies.star(8), rs.topologies.chain(8)], ids=repr
)
COLUMNS = ["consensus_distance", "distance", "suboptimality"]


def plateau(problem, topology, rate, overlap):
    algorithm = rs.algorithms.DPSGD(overlap=overlap)
    return rs.theory.linearize(problem, topology, algorithm, rate).stationary(0.0)


@GRAPHS
@OVERLAPS
@pytest.mark.parametrize("h", [1.0, 0.4])
def test_the_plateau_with_equal_hessians(topology, overlap, h):
    eigenvalues, vectors = np.linalg.eigh(rs.mixing.metropolis(topology).toarray())
    problem = equal_hessians(8, h)
    eigenvalues, c = eigenvalues[:-1, None], (vectors.T @ problem.centers)[:-1]
    rates = np.array([0.01, 0.1, 0.5])

    def claimed(rate):
        g = rate * h
        if overlap:
            modes = g * c / (1 - eigenvalues + g)
        else:
            modes = eigenvalues * g * c / (1 - eigenvalues * (1 - g))
        return (modes**2).sum() / 8

    computed = [plateau(problem, topology, r, overlap).consensus_distance for r in rates]
    tight(computed, [claimed(rate) for rate in rates], 1e-9)
    steps = int(40 / (0.1 * h))
    simulated = rs.simulate(
        problem,
        topology,
        rs.algorithms.DPSGD(overlap=overlap),
        learning_rate=rates[1:],
        steps=steps,
        record=[steps],
    ).frame
    tight(simulated.consensus_distance, [claimed(rate) for rate in rates[1:]], 1e-9)
    # x̄ is x*: the distance is that of consensus.
    tight(simulated.distance, [claimed(rate) for rate in rates[1:]], 1e-9)


@GRAPHS
@OVERLAPS
def test_slopes_at_small_rates(topology, overlap):
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    other = rs.problems.random_quadratics(n=8, d=3, zeta2=100.0, seed=0)
    rates = [1e-5, 1e-4, 1e-3]
    found = [plateau(problem, topology, rate, overlap)[COLUMNS] for rate in rates]
    for before, after in itertools.pairwise(found):
        tight(np.log10(after / before), 2.0, 0.01)
    # The two problems differ in the size of the gradients at x* only.
    tight(plateau(other, topology, 1e-3, overlap)[COLUMNS] / found[-1], 100.0, 1e-6)
    W = rs.mixing.metropolis(topology).toarray()
    gradients = problem.gradient(np.tile(problem.optimum, (8, 1)))
    spread = np.linalg.pinv(np.eye(8) - W) @ (gradients if overlap else W @ gradients)
    tight(found[0].consensus_distance / rates[0] ** 2, (spread**2).sum() / 8, 2e-3)


@OVERLAPS
def test_simulated_slopes(overlap):
    """From one start, runs at two rates and two ζ² end on plateaus with these ratios."""
    topology, ends = rs.topologies.ring(8), {}
    for zeta2 in (1.0, 100.0):
        problem = rs.problems.random_quadratics(n=8, d=3, zeta2=zeta2, r0=1.0, seed=0)
        frame = rs.simulate(
            problem,
            topology,
            rs.algorithms.DPSGD(overlap=overlap),
            learning_rate=[0.01, 0.02],
            steps=6000,
            record=[6000],
        ).frame
        ends[zeta2] = frame[COLUMNS].to_numpy()
        for rate, row in zip((0.01, 0.02), ends[zeta2], strict=True):
            tight(row, plateau(problem, topology, rate, overlap)[COLUMNS], 1e-6)
    tight(ends[100.0] / ends[1.0], 100.0, 1e-5)
    tight(np.log2(ends[1.0][1] / ends[1.0][0]), 2.0, 0.05)
