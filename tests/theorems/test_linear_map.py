"""Claim: on quadratics with these Hessians an exact method has √D_t ≤ r^t (C₀R₀ + C₁ζ), from any start, with
C₀ and C₁ the least for which this holds of each term at r = ρ^0.85.

Source: derived in the documentation of relaysim.theory.bounds.linear_map.

Tight: C₀ and C₁ are the largest norms, over r^t, of what runs make of starts and of gradients at x*. A bound
where both add up, on runs with optima and starts at random.
"""

import numpy as np
import pytest
from claims import bounded, tight

import relaysim as rs
from relaysim.algorithms import D2, ExactDiffusion, GradientTracking, RelaySGD
from relaysim.theory.bounds import ConditionError, bounds_for, powers

N = 5
H = np.array([[1.0], [0.3], [0.6], [0.9], [0.2]])
CHAIN, STAR = rs.topologies.chain(N), rs.topologies.star(N)
METHODS = [
    (RelaySGD(), CHAIN, 0.6),
    (RelaySGD(overlap=True), STAR, 0.2),
    (RelaySGD(momentum=0.5, unheard="own"), CHAIN, 0.3),
    (D2(), CHAIN, 0.7),
    (ExactDiffusion(), STAR, 0.7),
    (GradientTracking(), CHAIN, 0.2),
    (GradientTracking(form="diging", momentum=0.3), STAR, 0.1),
]
over_methods = pytest.mark.parametrize(
    ("algorithm", "topology", "rate"), METHODS, ids=[repr(method) for method, _, _ in METHODS]
)


def responses(algorithm, topology, rate, starts, gradients, steps=60):
    """Iterates with x* = 0 from starts ``(n, k)``, with gradients there, likewise: ``(steps + 1, n, k)``."""
    columns = []
    for start, gradient in zip(starts.T[:, :, None], gradients.T[:, :, None], strict=True):
        problem = rs.problems.DiagonalQuadratic(H, -gradient / H)
        run = rs.simulate(
            problem,
            topology,
            algorithm,
            learning_rate=rate,
            steps=steps,
            x0=start,
            keep_iterates=True,
        )
        columns.append(run.iterates[:, :, 0])
    return np.stack(columns, axis=2)


@over_methods
def test_the_constants_are_what_runs_reach(algorithm, topology, rate):
    problem = rs.problems.DiagonalQuadratic(H, np.zeros((N, 1)))
    given = (problem, topology, algorithm, rate)
    found = rs.theory.map_constants(*given, common_start=False)
    together = rs.theory.map_constants(*given)
    radius = rs.theory.linearize(*given).spectral_radius
    tight(found.rate, radius**0.85, 1e-6)
    apart = np.linalg.svd(np.ones((1, N)))[2][1:].T
    nothing = np.zeros_like
    for factor, starts, gradients in (
        (found.start_factor, np.eye(N), nothing(np.eye(N))),
        (together.start_factor, np.full((N, 1), N**-0.5), np.zeros((N, 1))),
        (found.zeta_factor, nothing(apart), apart),
    ):
        norms = np.linalg.norm(responses(algorithm, topology, rate, starts, gradients), 2, (1, 2))
        tight((norms / found.rate ** np.arange(len(norms))).max(), factor, 1e-6)


@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [
        (D2(), 1.0),
        (D2(), 1.3333),
        (D2(), 4 / 3),
        (GradientTracking(), 1.2),
        (GradientTracking(), 4 / 3),
    ],
)
def test_maps_that_end_in_a_few_steps_have_constants(algorithm, rate):
    """Two workers average exactly: what rounding leaves, over r^t, is not what the method leaves."""
    h = np.array([[1.0], [0.5]])
    problem, graph = rs.problems.DiagonalQuadratic(h, [[1.0], [-2.0]]), rs.topologies.chain(2)
    found = rs.theory.map_constants(problem, graph, algorithm, rate, common_start=False)
    # The first step is the mean of the (1 − γh_i) x_i, later ones shrink it by 1 − 0.75γ.
    first = np.linalg.norm(1 - rate * h) / 2**0.5
    tight(first / found.rate, found.start_factor, 1e-6)
    history = rs.simulate(problem, graph, algorithm, learning_rate=rate, steps=20)
    assert len(history.plot(theory=True).lines) > 1


@over_methods
def test_what_is_left_of_any_state_is_as_said(algorithm, topology, rate, monkeypatch):
    """‖E A^k z‖² ≤ r^{2k} zᵀPz, whatever z with nothing that is conserved."""

    def watched(begin, z, seen, A, P, r):
        left = np.einsum("ik,ij,jk->k", z, P, z)
        for k in range(40):
            reached = (z[:seen] ** 2).sum(axis=0)
            bounded(reached, r ** (2 * k) * left)
            z = A @ z
        return found(begin, z, seen, A, P, r)

    found = powers._supremum
    monkeypatch.setattr(powers, "_supremum", watched)
    problem = rs.problems.DiagonalQuadratic(H, np.zeros((N, 1)))
    rs.theory.map_constants(problem, topology, algorithm, rate, common_start=False)


@over_methods
@pytest.mark.parametrize("common", [True, False])
def test_runs_with_optima_and_starts_at_random_are_below(algorithm, topology, rate, common):
    random = np.random.default_rng(3)
    problem = rs.problems.DiagonalQuadratic(np.tile(H, 2), random.normal(size=(N, 2)))
    x0 = random.normal(size=(1 if common else N, 2)) + np.zeros((N, 2))
    setting = (problem, topology, algorithm, rate)
    bound = bounds_for(*setting, x0=x0)[0]
    assert bound.name == "linear_map"
    frame = rs.simulate(*setting[:3], learning_rate=rate, steps=150, x0=x0).frame
    claimed = bound.curve(frame.step)
    seen = claimed > 1e-18  # below this both are rounding
    bounded(frame.suboptimality[seen], claimed[seen])
    assert claimed[-1] < claimed[0] / 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 4.0}, "spectral radius"),
        ({"algorithm": rs.algorithms.DPSGD()}, "does not end at x"),
        ({"algorithm": rs.algorithms.LED(period=3)}, "repeats after 3 steps"),
    ],
)
def test_what_does_not_converge_to_the_optimum_is_told_so(change, words):
    given = {
        "problem": rs.problems.DiagonalQuadratic(H, np.zeros((N, 1))),
        "topology": CHAIN,
        "algorithm": D2(),
        "learning_rate": 0.5,
    }
    with pytest.raises(ConditionError, match=words):
        rs.theory.map_constants(**given | change)


def test_large_maps_are_refused_before_any_work():
    problem = rs.problems.random_quadratics(n=64, d=10, zeta2=1.0, seed=0)
    with pytest.raises(ConditionError, match="640 numbers"):
        rs.theory.map_constants(problem, rs.topologies.chain(64), RelaySGD(), 0.5)
