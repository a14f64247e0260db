"""Methods whose corrections make them exact: their forms, and what is said of each, measured."""

import numpy as np
import pytest
from test_contract import assert_close_to_largest, compare_with_paper, iterates_of, least_squares

import relaysim as rs


def falling(step):
    return 0.4 / (1 + 0.2 * step)


def assert_is_the_rule_on_paper(algorithm, rate=falling):
    for topology in (rs.topologies.star(6), rs.topologies.torus(3, 3)):
        compare_with_paper(algorithm, topology, rate)
    mixing = rs.mixing.one_peer_exponential(6)
    compare_with_paper(algorithm, rs.topologies.exponential(6), 0.1, steps=10, mixing=mixing)


def assert_is_predicted(algorithm, rate, topology=None, steps=60):
    """The map of its own step is the curve that is simulated, start-up included."""
    topology = rs.topologies.ring(8) if topology is None else topology
    problem = rs.problems.random_quadratics(n=topology.n, d=3, zeta2=2.0, mu=0.2, seed=0)
    x0 = np.random.default_rng(1).normal(size=(topology.n, 3))
    found = iterates_of(problem, topology, algorithm, rate, steps, x0=x0)
    linear = rs.theory.linearize(problem, topology, algorithm, rate, x0)
    assert_close_to_largest(linear.iterates(steps), found, 1e-12)
    assert linear.spectral_radius < 1
    np.testing.assert_allclose(
        linear.fixed_point, np.broadcast_to(problem.optimum, x0.shape), rtol=0, atol=1e-10
    )
    assert linear.plateau().distance < 1e-20


# -- gradient tracking -----------------------------------------------------------------------------

FORMS = ("next", "diging", "atc")


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_tracking_is_its_rule_on_paper_and_its_own_map(form, momentum):
    algorithm = rs.algorithms.GradientTracking(form, momentum)
    assert_is_the_rule_on_paper(algorithm)
    assert_is_predicted(algorithm, 0.1)


def test_forms_of_tracking_agree_where_workers_average_exactly():
    """One tracker, the mean gradient, and one model: but DIGing's models keep their last differences."""
    problem, complete = least_squares(6, 5, 4), rs.topologies.complete(6)
    mean = {"mixing": np.full((6, 6), 1 / 6), "x0": np.ones(5)}
    forms = {}
    for form in FORMS:
        algorithm = rs.algorithms.GradientTracking(form)
        forms[form] = iterates_of(problem, complete, algorithm, 0.3, 30, **mean)
    np.testing.assert_allclose(forms["next"], forms["atc"], rtol=0, atol=1e-13)
    means = [iterates.mean(axis=1) for iterates in forms.values()]
    np.testing.assert_allclose(means[0][1], means[1][1], rtol=0, atol=1e-13)
    assert np.abs(forms["diging"][1] - forms["next"][1]).max() > 1e-2


def test_atc_tracking_brings_news_two_hops_further_a_step_and_its_first_step_one():
    problem, chain = least_squares(9, 2, 2), rs.topologies.chain(9)
    algorithm = rs.algorithms.GradientTracking("atc")
    history = rs.simulate(problem, chain, algorithm, learning_rate=0.1, steps=4)
    assert history.frame.vectors_sent.diff()[1:].tolist() == [16, 32, 32, 32]
    b = problem.b.copy()
    b[0] += 1
    changed = rs.problems.LeastSquares(problem.A, b)
    one, other = (iterates_of(p, chain, algorithm, 0.1, 4) for p in (problem, changed))
    reach = [
        np.flatnonzero((a != b).any(axis=1)).max(initial=0) for a, b in zip(one, other, strict=True)
    ]
    assert reach == [0, 1, 3, 5, 7]
    assert algorithm.hops_per_step == 2


def test_which_form_of_tracking_is_fastest():
    """At best rates, ring of 16, ζ² = 1: the more is mixed the faster, by a few steps in a hundred."""
    problem = rs.problems.random_quadratics(n=16, d=5, zeta2=1.0, mu=0.25, seed=0)
    steps = {}
    for form in FORMS:
        algorithm, rates = rs.algorithms.GradientTracking(form), np.linspace(0.03, 0.06, 31)
        run = {"learning_rate": rates, "steps": 700, "stop_below": 1e-10}
        history = rs.simulate(problem, rs.topologies.ring(16), algorithm, **run)
        steps[form] = int(np.nanmin(history.steps_to(1e-10)))
    assert steps == {"next": 376, "diging": 383, "atc": 371}


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_tracking_is_exact_where_gossip_with_momentum_stalls(momentum):
    """Mean ‖x_i − x*‖² after 4000 steps: below 1e-28, and 4.7e-2."""
    problem = rs.problems.random_quadratics(n=8, d=5, zeta2=1.0, mu=0.25, seed=0)
    run = {"learning_rate": 0.1, "steps": 4000, "record": [4000]}
    ring = rs.topologies.ring(8)
    gossip = rs.simulate(problem, ring, rs.algorithms.DPSGD(momentum), **run).frame.distance[0]
    assert gossip == pytest.approx(4.7e-2, rel=0.02)
    for form in FORMS:
        algorithm = rs.algorithms.GradientTracking(form, momentum)
        assert rs.simulate(problem, ring, algorithm, **run).frame.distance[0] < 1e-28


def test_momentum_tracking_is_that_of_its_authors():
    """u ← βu + g;  X' = WX − γ'(U − C);  C ← W(C − U) + U, with γ' = (1 − β)γ."""
    problem, ring, beta = least_squares(8, 5, 4), rs.topologies.ring(8), 0.7
    W = np.asarray(rs.mixing.metropolis(ring).todense())
    x = u = c = np.zeros((8, 5))
    for _ in range(30):
        u = beta * u + problem.gradient(x)
        x, c = W @ x - (1 - beta) * 0.2 * (u - c), W @ (c - u) + u
    algorithm = rs.algorithms.GradientTracking("diging", momentum=beta)
    found = iterates_of(problem, ring, algorithm, 0.2, 30)
    np.testing.assert_allclose(found[-1], x, rtol=0, atol=1e-13)


def test_options_of_tracking_are_checked():
    with pytest.raises(ValueError, match="form must be one of 'next', 'diging', 'atc', not 'gt'"):
        rs.algorithms.GradientTracking("gt")
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), not 1"):
        rs.algorithms.GradientTracking(momentum=1)
