"""DADAO: its flow, where it ends, and how fast."""

import numpy as np
import pytest
from scipy.linalg import expm

import relaysim as rs
from relaysim.algorithms import DADAO
from relaysim.algorithms.dadao import DadaoState


def random_rows(count, d=3, seed=0):
    return DadaoState(*np.random.default_rng(seed).normal(size=(6, count, d)))


@pytest.mark.parametrize("condition", [1.0, 4.0, 100.0, 1e4])
def test_the_flow_is_the_exponential_of_its_matrix(condition):
    """Relative to the largest entry; rows of random times."""
    rule = DADAO(condition).rule(rs.topologies.ring(5))
    q = np.sqrt(1 / (2 * condition))
    A = np.zeros((6, 6))
    A[0, :2], A[1, :2] = (-q / 8, q / 8), (q / 8, -q / 8)
    A[2, 2:4], A[3, 1:5] = (-q / 4, q / 4), (-q / 2, -1 / (2 * q), 0, -1 / (2 * q))
    A[4, 4:], A[5, 4:] = (-q / 4, q / 4), (q / 8, -q / 8)
    times = np.random.default_rng(1).uniform(0, 50, size=(30, 1))
    rows = random_rows(30)
    found = np.array(rule.flow(rows, times))
    expected = [expm(time * A) @ np.array(rows)[:, k] for k, time in enumerate(times[:, 0])]
    expected = np.array(expected).transpose(1, 0, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    # It is defective nowhere: 0 is an eigenvalue twice, and has as many eigenvectors.
    assert np.linalg.matrix_rank(A) == 4
    assert np.count_nonzero(np.abs(np.linalg.eigvals(A)) < 1e-12) == 2


def test_a_flow_may_be_taken_in_pieces():
    rule, rows = DADAO(7.0).rule(rs.topologies.star(4)), random_rows(2)
    once = rule.flow(rows, np.full((2, 1), 3.0))
    twice = rule.flow(rule.flow(rows, np.full((2, 1), 1.2)), np.full((2, 1), 1.8))
    np.testing.assert_allclose(once, twice, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("topology", "edges"),
    # As the code that was published with it prints them for these graphs, rounded down.
    [
        (rs.topologies.ring(16), 39),
        (rs.topologies.chain(16), 76),
        (rs.topologies.complete(16), 10),
        (rs.topologies.star(300), 299),
    ],
    ids=repr,
)
def test_meetings_are_as_many_as_published(topology, edges):
    meetings = DADAO(10.0).rule(topology).meetings
    assert int(meetings.rates.sum() + 1e-9) == edges
    assert np.ptp(meetings.rates) == 0


def decay(topology, condition, steps, replicas=3):
    """How fast log ‖x − x*‖² falls in a unit of time, mean over replicas, after the first third."""
    problem = rs.problems.random_quadratics(topology.n, 3, zeta2=1.0, mu=1 / condition, seed=0)
    history = rs.simulate(
        problem,
        topology,
        DADAO(condition),
        learning_rate=0.25,
        steps=steps,
        replicas=replicas,
        record=steps // 10,
    )
    logs = np.log(history.frame.pivot(index="step", columns="replica", values="distance"))
    late = logs[logs.index >= steps / 3].mean(axis=1)
    return -np.polyfit(late.index, late, 1)[0]


def test_the_decay_does_not_depend_on_the_graph():
    """Measured .0685 to .072 in a unit of time where κ = 4, on graphs of 8 and 16 workers too."""
    topologies = rs.topologies.complete(6), rs.topologies.chain(6)
    found = [decay(topology, 4.0, 250) for topology in topologies]
    np.testing.assert_allclose(found, 0.07, rtol=0.05)
    assert max(found) / min(found) < 1.1


def test_the_decay_goes_as_the_root_of_the_condition():
    complete = rs.topologies.complete(4)
    found = [decay(complete, root**2, int(100 * root)) for root in (2.0, 6.0)]
    assert found[0] / found[1] == pytest.approx(3, rel=0.1)


def test_it_ends_at_the_optimum_although_data_differ():
    problem = rs.problems.random_quadratics(4, 3, zeta2=5.0, mu=0.5, seed=0)
    x0 = np.random.default_rng(0).normal(size=(4, 3))
    history = rs.simulate(
        problem,
        rs.topologies.ring(4),
        DADAO(2.0),
        learning_rate=0.25,
        steps=600,
        record=[600],
        x0=x0,
    )
    assert history.frame.distance.iloc[0] < 1e-24


def test_what_pairs_pass_on_adds_up_to_nothing():
    """Σ z_i stays 0: a meeting takes as much as it gives, and a flow keeps it with Σ z̃_i."""
    rule = DADAO(5.0).rule(rs.topologies.chain(2))
    one, other = random_rows(1, seed=1), random_rows(1, seed=2)
    after = rule.meet(one, other, None)
    for before, now in zip(zip(one, other, strict=True), zip(*after, strict=True), strict=True):
        np.testing.assert_allclose(sum(before), sum(now), rtol=0, atol=1e-14)
    level = after[0].y + after[0].z - after[1].y - after[1].z
    np.testing.assert_allclose(level, 0, rtol=0, atol=1e-14)


def test_options_are_checked_and_the_theory_of_pairs_refuses_it():
    for condition in (0.5, -1.0, np.inf):
        with pytest.raises(ValueError, match="condition must be"):
            DADAO(condition)
    with pytest.raises(TypeError, match="does not say what the exact analysis needs"):
        rs.theory.asynchronous_decay(rs.topologies.ring(4), DADAO(2.0))
    still = rs.problems.random_quadratics(4, 2, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.0, "steps": 20, "x0": np.ones((4, 2))}
    x = rs.simulate(still, rs.topologies.ring(4), DADAO(2.0), **run).x
    np.testing.assert_allclose(x, 1, rtol=0, atol=1e-15)
