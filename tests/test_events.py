"""Asynchronous methods: what they promise, and what is known of them exactly."""

import dataclasses
import functools
import types

import numpy as np
import pytest
import slow
import slow_events
from graphs import connected_graphs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from methods import ASYNCHRONOUS

import relaysim as rs
from relaysim import algorithms
from relaysim.algorithms import A2CiD2, SwarmSGD
from relaysim.compressors import Lattice
from relaysim.engine.timeline import batches_of
from relaysim.problems import rows_by_worker
from relaysim.support.streams import Streams
from relaysim.theory import asynchronous_consensus, asynchronous_decay

GRAPHS = (
    rs.topologies.ring(8),
    rs.topologies.star(6),
    rs.topologies.chain(2),
    rs.topologies.torus(3, 3),
)

over_algorithms = pytest.mark.parametrize("algorithm", ASYNCHRONOUS, ids=repr)


@functools.cache
def least_squares(n, d, rows, seed=0):
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(n, rows, d))
    A /= np.linalg.norm(A, ord=2, axis=(1, 2)).max()
    return rs.problems.LeastSquares(A, generator.normal(size=(n, rows)))


def start(n, d, replicas=None, seed=1):
    shape = (n, d) if replicas is None else (n, d, replicas)
    return np.random.default_rng(seed).normal(size=shape)


def no_gradients(n, d=1):
    return rs.problems.DiagonalQuadratic(np.ones((n, d)), np.zeros((n, d)))


def assert_close(found, expected, tolerance=1e-12):
    largest = np.maximum.accumulate(np.abs(expected).max(axis=(1, 2)))
    assert found.shape == expected.shape
    assert (np.abs(found - expected).max(axis=(1, 2)) <= tolerance * largest).all()


def iterates(problem, topology, algorithm, rate, steps, **options):
    history = rs.simulate(
        problem, topology, algorithm, learning_rate=rate, steps=steps, keep_iterates=True, **options
    )
    assert not history.diverged.any()
    return history.iterates


# -- the rules -------------------------------------------------------------------------------------


@over_algorithms
@pytest.mark.parametrize("topology", GRAPHS, ids=repr)
@pytest.mark.parametrize(
    "rate", [0.2, lambda step: 0.3 / (1 + 0.2 * step)], ids=["constant", "falling"]
)
def test_a_run_is_one_event_after_the_other(algorithm, topology, rate):
    problem = least_squares(topology.n, 5, 4)
    assert problem.zeta2 > 1e-3
    x0, steps = start(topology.n, 5), 25
    fast = iterates(problem, topology, algorithm, rate, steps, x0=x0, seed=3)
    exact = slow.least_squares_gradient(problem.A, problem.b)
    rates = [rate(t) if callable(rate) else rate for t in range(steps)]
    paper = slow_events.run(
        algorithm, topology, lambda worker, x, unit: exact(unit, worker, x), x0, rates, seed=3
    )
    assert np.abs(np.diff(paper, axis=0)).max() > 0.01
    assert_close(fast, paper)


@over_algorithms
def test_every_gradient_has_noise_of_its_own_in_the_order_of_the_events(algorithm):
    topology, sigma2 = rs.topologies.ring(6), 0.3
    problem, x0 = least_squares(6, 4, 3), start(6, 4)
    exact = slow.least_squares_gradient(problem.A, problem.b)
    generator = Streams([5], None).generator("gradient", 5)

    def noisy(worker, x, unit):
        return exact(unit, worker, x) + np.sqrt(sigma2 / 4) * generator.standard_normal(4)

    paper = slow_events.run(algorithm, topology, noisy, x0, [0.1] * 40, seed=5)
    oracle = rs.oracles.Gaussian(sigma2)
    fast = iterates(problem, topology, algorithm, 0.1, 40, x0=x0, oracle=oracle, seed=5)
    assert_close(fast, paper)


def test_events_are_as_often_as_they_should_be():
    topology, units = rs.topologies.star(6), 4000
    events = slow_events.events_of(A2CiD2(rate=2.0), topology, units)
    unit, time, first, second = (np.array(part) for part in zip(*events, strict=True))
    assert (np.diff(unit + time) >= 0).all()
    assert 0 <= time.min() < time.max() < 1
    gradients = np.bincount(first[second < 0], minlength=6)
    np.testing.assert_allclose(gradients, units, atol=5 * units**0.5)
    leaves = first[second >= 0] + second[second >= 0]  # the hub is worker 0
    assert (np.minimum(first, second)[second >= 0] == 0).all()
    rate = 2 / 2 * (1 + 1 / 5)
    np.testing.assert_allclose(
        np.bincount(leaves)[1:], rate * units, atol=5 * (rate * units) ** 0.5
    )
    # Poisson: as much variance as mean, and times spread evenly.
    a_unit = np.bincount(unit[second < 0], minlength=units)
    assert a_unit.var() == pytest.approx(6, rel=0.15)
    assert np.histogram(time, bins=5, range=(0, 1))[0].std() < 5 * (len(time) / 5) ** 0.5


@pytest.mark.parametrize(
    ("algorithm", "gradients_a_meeting"),
    [
        (SwarmSGD(), 2),
        (SwarmSGD(3), 6),
        (SwarmSGD(2.5, geometric=True), 5),
        (SwarmSGD(2, blocking=False), 2),
        (SwarmSGD(1.5, blocking=False, geometric=True), 1.5),
    ],
    ids=repr,
)
def test_each_worker_takes_one_gradient_a_step_in_expectation(algorithm, gradients_a_meeting):
    topology, units = rs.topologies.torus(3, 3), 3000
    events = slow_events.events_of(algorithm, topology, units)
    _, time, first, second = (np.array(part) for part in zip(*events, strict=True))
    assert ((time >= 0) & (time < 1)).all()
    meetings = np.count_nonzero(second >= 0)
    assert meetings == int(9 * units / gradients_a_meeting)
    gradients = np.bincount(first[second < 0], minlength=9)
    assert gradients.sum() == pytest.approx(9 * units, rel=0.03)
    assert (np.abs(gradients - units) < 5 * (2 * gradients_a_meeting * units) ** 0.5).all()
    pairs = {
        tuple(sorted(pair)) for pair in zip(first[second >= 0], second[second >= 0], strict=True)
    }
    assert pairs == {tuple(edge) for edge in topology.edges.tolist()}


def test_non_blocking_workers_take_one_gradient_each_on_irregular_graphs():
    topology, units = rs.topologies.star(5), 4000
    for blocking, expected in ((False, np.ones(5)), (True, np.array([4, 1, 1, 1, 1]) * 5 / 8)):
        events = slow_events.events_of(SwarmSGD(blocking=blocking), topology, units)
        gradients = np.bincount([first for _, _, first, second in events if second < 0])
        np.testing.assert_allclose(gradients, expected * units, atol=6 * units**0.5)


@given(
    st.integers(2, 6),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(-3, 5)), max_size=40),
)
def test_batches_hold_independent_events_in_their_order(n, events):
    events = [(g, a % n, b if b < 0 else b % n) for g, a, b in events if b < 0 or a % n != b % n]
    group, first, second = (np.array([e[k] for e in events], dtype=int) for k in range(3))
    second = np.maximum(second, -1)
    number = batches_of(group, first, second, n)
    for p in range(len(events)):
        for q in range(p):
            if number[p] == number[q]:
                assert (second[p] < 0) == (second[q] < 0)
            if group[p] == group[q] and {first[p], second[p]} & {first[q], second[q]} - {-1}:
                assert number[q] < number[p]


# -- replicas --------------------------------------------------------------------------------------


@over_algorithms
@pytest.mark.parametrize("replicas", [None, 1, 3])
def test_arrays_keep_their_shapes(algorithm, replicas):
    problem, topology = least_squares(8, 3, 3), rs.topologies.ring(8)
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=0.1,
        steps=9,
        replicas=replicas,
        record=4,
        keep_iterates=True,
    )
    shape = (8, 3) if replicas is None else (8, 3, replicas)
    assert history.x.shape == shape
    assert history.iterates.shape == (4, *shape)
    np.testing.assert_array_equal(history.x, history.iterates[-1])
    frame = history.frame
    assert frame.step.tolist()[:4] == [0, 4, 8, 9]
    np.testing.assert_allclose(frame.bits_sent, 64 * 3 * frame.vectors_sent, rtol=1e-12, atol=0.51)


@over_algorithms
@pytest.mark.parametrize("sigma2", [None, 0.5])
def test_a_replica_equals_its_run_alone(algorithm, sigma2):
    rates, seeds, steps = [0.02, 0.3, 0.1], [3, 11], 25
    problem, topology = least_squares(8, 5, 4), rs.topologies.two_cliques(8)
    oracle = None if sigma2 is None else rs.oracles.Gaussian(sigma2)
    options = {"x0": start(8, 5), "oracle": oracle}
    together = iterates(problem, topology, algorithm, rates, steps, seed=seeds, **options)
    for replica in range(6):
        rate, seed = rates[replica // 2], seeds[replica % 2]
        alone = iterates(problem, topology, algorithm, rate, steps, seed=seed, **options)
        assert_close(together[..., replica], alone, 1e-13)
    assert (
        np.abs(together[..., 0] - together[..., 1]).max() > 1e-3
    )  # seeds have clocks of their own


@over_algorithms
def test_replicas_that_leave_do_not_change_the_others(algorithm):
    problem, topology = least_squares(8, 5, 4), rs.topologies.ring(8)
    if getattr(algorithm, "quantizer", None) is not None:
        algorithm = dataclasses.replace(algorithm, quantizer=None)  # its range would end the run
    options = {"steps": 42, "oracle": rs.oracles.Gaussian(0.1), "x0": start(8, 5)}
    rates = [0.1, 80.0, 0.2]
    together = rs.simulate(
        problem, topology, algorithm, learning_rate=rates, seed=[1, 2], record=7, **options
    )
    assert together.diverged.tolist() == [False, False, True, True, False, False]
    for replica in (0, 1, 4, 5):
        alone = rs.simulate(
            problem,
            topology,
            algorithm,
            learning_rate=rates[replica // 2],
            seed=1 + replica % 2,
            record=7,
            **options,
        )
        np.testing.assert_allclose(together.x[..., replica], alone.x, rtol=0, atol=1e-12)
        of_replica = together.frame[together.frame.replica == replica]
        assert of_replica.vectors_sent.tolist() == alone.frame.vectors_sent.tolist()


@over_algorithms
def test_starting_points_of_their_own(algorithm):
    problem, topology = least_squares(8, 5, 4), rs.topologies.ring(8)
    x0 = start(8, 5, replicas=3)
    together = iterates(problem, topology, algorithm, 0.2, 30, x0=x0)
    for replica in range(3):
        alone = iterates(problem, topology, algorithm, 0.2, 30, x0=x0[..., replica])
        assert_close(together[..., replica], alone, 1e-13)


@over_algorithms
def test_what_was_given_is_not_changed(algorithm):
    problem, topology = least_squares(6, 4, 3), rs.topologies.ring(6)
    x0 = start(6, 4, replicas=2)
    before = x0.copy()
    history = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=20, x0=x0)
    np.testing.assert_array_equal(x0, before)
    again = rs.simulate(**rs.rebuild(history.config))
    np.testing.assert_array_equal(again.x, history.x)


@pytest.mark.parametrize("sampling", ["with replacement", "without replacement", "epochs"])
def test_examples_are_drawn_for_each_event(sampling):
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(60, 3)), generator.integers(0, 2, 60)
    split = rs.problems.partitions.iid(labels, n=5, seed=0)
    problem = rs.problems.Logistic(features, labels, l2=0.1, partition=split)
    topology = rs.topologies.ring(5)
    options = {
        "oracle": rs.oracles.Minibatch(4, sampling),
        "learning_rate": [0.1, 0.3],
        "steps": 30,
        "seed": [1, 2],
    }
    together = rs.simulate(problem, topology, A2CiD2(), **options)
    alone = rs.simulate(problem, topology, A2CiD2(), **options | {"learning_rate": 0.3, "seed": 2})
    np.testing.assert_allclose(together.x[..., 3], alone.x, rtol=0, atol=1e-12)
    exact = rs.simulate(problem, topology, A2CiD2(), **options | {"oracle": None})
    assert np.abs(together.x - exact.x).max() > 1e-3
    draw = Streams([0], None).event_batches("sampling", np.full(5, 12), 4, sampling)
    rounds = [draw(0, np.array([0, 3, 0, 0])) for _ in range(4)]
    if sampling == "epochs":  # worker 0 had each example once in three batches of four
        assert all(sorted(drawn[[0, 2, 3]].ravel()) == list(range(12)) for drawn in rounds)
    elif sampling == "without replacement":
        assert all(len(set(row)) == 4 for drawn in rounds for row in drawn)
    assert 0 <= np.concatenate(rounds).min() < np.concatenate(rounds).max() <= 11


# -- what is preserved, and what reduces to what ---------------------------------------------------


@given(connected_graphs())
@settings(deadline=None, max_examples=20)
def test_the_mean_is_preserved_without_gradients(graph):
    topology = rs.topologies.from_edges(*graph)
    assume(topology.n > 1)
    for algorithm in (A2CiD2(), A2CiD2(accelerated=False), SwarmSGD(), SwarmSGD(blocking=False)):
        x0 = start(topology.n, 3)
        history = iterates(no_gradients(topology.n, 3), topology, algorithm, 0.0, 20, x0=x0)
        assert np.abs(history[-1] - x0).max() > 1e-3
        means = history.mean(axis=1)
        np.testing.assert_allclose(
            means, np.broadcast_to(means[0], means.shape), rtol=0, atol=1e-14
        )


def test_the_mean_moves_by_the_gradients_only():
    # f_i = ½‖x − c_i‖² with centres far away: a gradient is −c_i up to x, here 10⁶ times smaller.
    n, topology = 6, rs.topologies.ring(6)
    centers = 1e6 * start(n, 2)
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 2)), centers)
    for algorithm in (A2CiD2(), SwarmSGD(2), SwarmSGD(2, blocking=False)):
        found = iterates(problem, topology, algorithm, 1e-9, 50)
        events = slow_events.events_of(algorithm, topology, 50)
        pulled = sum(centers[first] for _, _, first, second in events if second < 0)
        np.testing.assert_allclose(found[-1].mean(axis=0), 1e-9 * pulled / n, rtol=1e-6)


def test_without_momentum_it_is_the_baseline():
    problem, topology = least_squares(8, 4, 3), rs.topologies.chain(8)
    still, plain = (
        iterates(problem, topology, algorithm, 0.2, 50)
        for algorithm in (A2CiD2(momentum_rate=0.0), A2CiD2(accelerated=False))
    )
    np.testing.assert_array_equal(still, plain)
    moving = iterates(problem, topology, A2CiD2(), 0.2, 50)
    assert np.abs(moving - plain).max() > 1e-3


def test_swarm_of_one_local_step_without_gradients_is_pairwise_averaging():
    topology = rs.topologies.torus(3, 3)
    x0 = start(9, 4)
    found = iterates(no_gradients(9, 4), topology, SwarmSGD(), 0.0, 30, x0=x0)
    x, matrix_of = x0, {}
    for i, j in topology.edges.tolist():
        W = np.eye(9)
        W[[i, i, j, j], [i, j, i, j]] = 0.5
        matrix_of[i, j] = W
    events = slow_events.events_of(SwarmSGD(), topology, 30)
    for step in range(30):
        for unit, _, first, second in events:
            if unit == step and second >= 0:
                x = matrix_of[min(first, second), max(first, second)] @ x
        np.testing.assert_allclose(found[step + 1], x, rtol=0, atol=1e-14)
    assert np.abs(x - x0).max() > 0.1


# -- how fast they agree ---------------------------------------------------------------------------


# METHODS of the public code, by the generator of second moments, to the digits that were published.
DECAY = {(8, True): 0.360, (16, True): 0.1986, (8, False): 0.268, (16, False): 0.0753}


@pytest.mark.parametrize(
    ("n", "accelerated"),
    [pytest.param(*known, marks=() if known == (8, True) else pytest.mark.slow) for known in DECAY],
)
def test_consensus_decays_as_the_second_moments_say(n, accelerated):
    """The slope of log E Ξ² over 2500 replicas, t ≥ 10."""
    topology, algorithm = rs.topologies.ring(n), A2CiD2(accelerated=accelerated)
    exact = asynchronous_decay(topology, algorithm)
    assert exact == pytest.approx(DECAY[n, accelerated], rel=1.5e-3)
    x0 = np.cos(2 * np.pi * np.arange(n) / n)[:, None]
    history = rs.simulate(
        no_gradients(n),
        topology,
        algorithm,
        learning_rate=0.0,
        steps=24,
        x0=x0,
        replicas=2500,
        record=[*range(10, 25)],
    )
    mean = history.frame.groupby("step").consensus_distance.mean()
    slope = np.polyfit(mean.index, np.log(mean), 1)[0]
    assert -slope == pytest.approx(exact, rel=0.04)
    predicted = asynchronous_consensus(topology, algorithm, x0, mean.index)
    np.testing.assert_allclose(mean, predicted, rtol=0.15)


def test_exact_decay_against_the_dense_generator():
    """The generator written out over all of (x, x̃)(x, x̃)ᵀ, for irregular graphs too."""
    for topology in (rs.topologies.star(5), rs.topologies.chain(4), rs.topologies.two_cliques(6)):
        for algorithm in (A2CiD2(rate=1.7), A2CiD2(rate=0.6, momentum_rate=0.3)):
            rule, n = algorithm.rule(topology), topology.n
            flow = np.kron([[-1, 1], [1, -1]], np.eye(n)) * rule.eta
            one = np.eye(2 * n)
            generator = np.kron(flow, one) + np.kron(one, flow)
            for i, j in topology.edges.tolist():
                rate = algorithm.rate / 2 * (1 / topology.degrees[i] + 1 / topology.degrees[j])
                b = np.eye(n)[i] - np.eye(n)[j]
                P = one - np.kron([[0.5, 0], [rule.alpha_tilde, 0]], np.outer(b, b))
                generator += rate * (np.kron(P, P) - np.eye(4 * n * n))
            centre = np.kron(np.eye(2), np.eye(n) - 1 / n)
            both = np.kron(centre, centre)
            values = np.linalg.eigvals(both @ generator @ both - 100 * (np.eye(4 * n * n) - both))
            expected = -values.real.max()
            assert asynchronous_decay(topology, algorithm) == pytest.approx(expected, rel=1e-8)


def dense_eigenvalue(topology, rates, flow, taken):
    """The largest of the generator of E zzᵀ on deviations from the mean; a worker has k numbers.

    Between meetings ds/dt = flow s; one takes taken (s_i − s_j) from s_i and gives it to s_j.
    """
    n, k = topology.n, len(flow)
    one = np.eye(k * n)
    both = np.kron(flow, np.eye(n))
    generator = np.kron(both, one) + np.kron(one, both)
    for (i, j), rate in zip(topology.edges.tolist(), rates, strict=True):
        b = np.eye(n)[i] - np.eye(n)[j]
        P = one - np.kron(taken, np.outer(b, b))
        generator += rate * (np.kron(P, P) - np.kron(one, one))
    centre = np.kron(np.eye(k), np.eye(n) - 1 / n)
    kept = np.kron(centre, centre)
    return np.linalg.eigvals(kept @ generator @ kept - 100 * (np.eye(len(kept)) - kept)).real.max()


IRREGULAR = (rs.topologies.star(5), rs.topologies.two_cliques(6), rs.topologies.chain(3))


@pytest.mark.parametrize("topology", IRREGULAR, ids=repr)
def test_exact_decay_of_swarm_against_the_dense_map_of_a_meeting(topology):
    """−m log of the largest eigenvalue of M ↦ E[P M Pᵀ], the edges as likely as the docstring says."""
    n, edges = topology.n, len(topology.edges)
    i, j = topology.edges.T
    chosen = (1 / topology.degrees[i] + 1 / topology.degrees[j]) / n
    for algorithm, meetings, likely in (
        (SwarmSGD(3), n / 6, np.full(edges, 1 / edges)),
        (SwarmSGD(2, blocking=False), n / 2, chosen),
        (SwarmSGD(1.5, blocking=False, geometric=True), n / 1.5, chosen),
    ):
        largest = 1 + dense_eigenvalue(topology, likely, np.zeros((1, 1)), np.full((1, 1), 0.5))
        expected = -meetings * np.log(largest)
        assert asynchronous_decay(topology, algorithm) == pytest.approx(expected, rel=1e-10)


@over_algorithms
def test_rules_say_how_often_their_events_have_neighbours_meet(algorithm):
    units = 4000
    for topology in (rs.topologies.star(6), rs.topologies.two_cliques(6)):
        meetings = algorithm.rule(topology).meetings
        events = slow_events.events_of(algorithm, topology, units)
        met = [(unit, *sorted(pair)) for unit, _, *pair in events if pair[1] >= 0]
        for (i, j), rate in zip(topology.edges.tolist(), meetings.rates, strict=True):
            count = sum((a, b) == (i, j) for _, a, b in met)
            assert count == pytest.approx(rate * units, abs=5 * (rate * units) ** 0.5)
        a_unit = np.bincount([unit for unit, _, _ in met], minlength=units)
        total = meetings.rates.sum()
        if meetings.poisson:
            assert a_unit.var() == pytest.approx(total, rel=0.15)
        else:
            np.testing.assert_array_equal(
                np.abs(np.cumsum(a_unit) - total * np.arange(1, units + 1)) < 1, True
            )


def with_rule(changed, algorithm=None):
    """A²CiD², or another algorithm, with another rule: made of its own by ``changed(rule)``."""

    class Own(type(algorithm or A2CiD2())):
        def rule(self, topology):
            return changed(super().rule(topology))

    return Own(**dataclasses.asdict(algorithm or A2CiD2()))


def meeting_by(share):
    def changed(rule):
        def meet(first, second, meeting):
            D, kind = first.x - second.x, type(first)
            return (
                kind(first.x - share * D, first.tilde - 0.9 * D),
                kind(second.x + share * D, second.tilde + 0.9 * D),
            )

        rule.meet = meet
        return rule

    return changed


@pytest.mark.parametrize("topology", IRREGULAR, ids=repr)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_the_exact_decay_is_that_of_the_rule_itself(topology, share):
    """Of a rule that is nobody's: with another meeting and a one-sided flow, against its generator."""

    def changed(rule):
        def flow(rows, elapsed):
            grown = -np.expm1(-0.3 * elapsed)  # x follows x̃, which stays
            return rows._replace(x=rows.x + grown * (rows.tilde - rows.x))

        rule.flow = flow
        return meeting_by(share)(rule)

    algorithm = with_rule(changed)
    rates = rs.algorithms.A2CiD2().rule(topology).meetings.rates
    flow, taken = np.array([[-0.3, 0.3], [0, 0]]), np.array([[share, 0], [0.9, 0]])
    expected = -dense_eigenvalue(topology, rates, flow, taken)
    assert asynchronous_decay(topology, algorithm) == pytest.approx(expected, rel=1e-8)
    x0 = start(topology.n, 2)
    first, later = asynchronous_consensus(topology, algorithm, x0, [200, 210])
    assert np.log(first / later) / 10 == pytest.approx(expected, rel=1e-3)


def test_workers_part_where_momentum_is_too_strong():
    """With η → ∞ a meeting moves both ends by ½(½ + α̃) of their difference: on a chain by more than all."""
    topology = rs.topologies.chain(8)
    algorithm = A2CiD2(momentum_rate=100.0)
    rule = algorithm.rule(topology)
    assert (0.5 + rule.alpha_tilde) / 2 > 1
    flow = 100 * np.array([[-1.0, 1], [1, -1]])
    taken = np.array([[0.5, 0], [rule.alpha_tilde, 0]])
    growth = dense_eigenvalue(topology, rule.meetings.rates, flow, taken)
    assert growth > 0
    assert asynchronous_decay(topology, algorithm) == pytest.approx(-growth, rel=1e-8)
    x0 = start(8, 1)
    before, after = asynchronous_consensus(topology, algorithm, x0, [20, 21])
    assert np.log(after / before) == pytest.approx(growth, rel=1e-3)


def test_rules_that_the_exact_analysis_does_not_know_are_refused():
    ring = rs.topologies.ring(5)

    def lacking(name):
        def changed(rule):
            kept = {"draw", "init", "flow", "point", "descend", "meet", "meetings", "linear"} - {
                name
            }
            return types.SimpleNamespace(**{each: getattr(rule, each) for each in kept})

        return changed

    def setting(**members):
        def changed(rule):
            vars(rule).update(members)
            return rule

        return changed

    def clipped(rows, elapsed):
        return rows._replace(x=np.clip(rows.x, -0.5, 0.5))

    def one_sided(first, second, meeting):
        return second, second

    def by_worker(first, second, meeting):
        share = (0.3 + 0.1 * meeting.first)[:, None]
        D = first.x - second.x
        return first._replace(x=first.x - share * D), second._replace(x=second.x + share * D)

    def each_on_its_own(first, second, meeting):
        kind, x, tilde = type(first), 0.5 * (first.x - second.x), 0.4 * (first.tilde - second.tilde)
        return (
            kind(first.x - x, first.tilde - tilde),
            kind(second.x + x, second.tilde + tilde),
        )

    fixed = algorithms.events.Meetings(np.ones(5), poisson=False)
    for changed, error, text in (
        (lacking("meetings"), TypeError, "does not say .* attribute `meetings`"),
        (lacking("linear"), TypeError, "does not say .* attribute `linear`"),
        (setting(linear=False), ValueError, "is not linear, .* quantiser"),
        (setting(flow=clipped), TypeError, "flow .* is not linear"),
        (setting(meet=by_worker), TypeError, "meeting .* the same over all edges"),
        (setting(meet=one_sided), TypeError, "a form that the exact analysis does not know"),
        (setting(meet=each_on_its_own), TypeError, "in proportion to one difference"),
        (setting(meetings=fixed), TypeError, "moves between them"),
    ):
        with pytest.raises(error, match=text):
            asynchronous_decay(ring, with_rule(changed))
    with pytest.raises(ValueError, match="quantiser"):
        asynchronous_decay(ring, SwarmSGD(blocking=False, quantizer=Lattice(1e-3)))


@given(connected_graphs())
@settings(deadline=None, max_examples=15)
def test_random_pairs_shrink_the_fiedler_vector_by_the_known_factor(graph):
    """E Γ after a meeting = (1 − λ₂/(2E)) Γ at the Fiedler vector: λ₂/(rn) where all have r neighbours."""
    topology = rs.topologies.from_edges(*graph)
    assume(topology.n > 1)
    rule = SwarmSGD().rule(topology)
    laplacian = np.diag(topology.degrees) - topology.adjacency.toarray()
    values, modes = np.linalg.eigh(laplacian)
    x = modes[:, 1:2]
    after = []
    for i, j in topology.edges.tolist():
        state = x.copy()
        meeting = rs.algorithms.events.Meeting(0, *np.array([[i], [j], [0]]))
        first, second = rule.meet(rule.init(x[[i]]), rule.init(x[[j]]), meeting)
        state[i], state[j] = first.x[0], second.x[0]
        after.append((state**2).sum())
    expected = values[1] / (2 * len(topology.edges))
    assert 1 - np.mean(after) == pytest.approx(expected, rel=1e-9)


def test_swarm_contracts_as_predicted():
    """One minus the contraction in one meeting on a ring of 16, simulated: λ₂/(rn) within 3 %."""
    n = 16
    topology = rs.topologies.ring(n)
    x0 = np.cos(2 * np.pi * np.arange(n) / n)[:, None]  # a Fiedler vector
    predicted = (2 - 2 * np.cos(2 * np.pi / n)) / (2 * n)
    one_meeting_a_step = SwarmSGD(local_steps=n // 2)
    history = rs.simulate(
        no_gradients(n),
        topology,
        one_meeting_a_step,
        learning_rate=0.0,
        steps=1,
        x0=x0,
        replicas=4000,
    )
    before, after = (
        history.frame[history.frame.step == t].consensus_distance.mean() for t in (0, 1)
    )
    assert history.frame.vectors_sent.max() == 2
    assert 1 - after / before == pytest.approx(predicted, rel=0.03)


@pytest.mark.parametrize(
    "algorithm",
    [SwarmSGD(), pytest.param(SwarmSGD(2, blocking=False), marks=pytest.mark.slow)],
    ids=repr,
)
def test_swarm_decays_as_the_second_moments_say(algorithm):
    topology = rs.topologies.ring(8)
    exact = asynchronous_decay(topology, algorithm)
    history = rs.simulate(
        no_gradients(8),
        topology,
        algorithm,
        learning_rate=0.0,
        steps=20,
        replicas=2500,
        x0=np.cos(np.pi * np.arange(8) / 4)[:, None],
        record=[6, 20],
    )
    mean = history.frame.groupby("step").consensus_distance.mean()
    assert np.log(mean[6] / mean[20]) / 14 == pytest.approx(exact, rel=0.05)


# -- the quantiser ---------------------------------------------------------------------------------


@given(
    st.floats(1e-3, 10),
    st.integers(2, 300),
    st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    st.floats(-1e3, 1e3),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)
def test_a_lattice_gives_the_nearest_point_within_its_range(spacing, levels, gaps, x, u):
    """To the nearest, or at random to one of the two beside it."""
    nearest = u is None
    lattice = Lattice(spacing, levels + (not nearest), "nearest" if nearest else "stochastic")
    reference = np.full((1, len(gaps)), x)
    sent = reference + 0.999 * lattice.range * np.array([gaps])
    assert not lattice.exceeded(sent, reference).any()
    found = lattice.decode(sent, reference, None if nearest else np.full_like(sent, u))
    most = spacing / 2 if nearest else spacing
    assert np.abs(found - sent).max() <= most * (1 + 1e-9) + 1e-12 * abs(x)
    multiples = found / spacing
    np.testing.assert_allclose(
        multiples, np.rint(multiples), rtol=0, atol=1e-9 + 1e-13 * abs(x) / spacing
    )


@given(st.floats(1e-2, 10), st.floats(-100, 100), st.floats(-1, 1))
def test_stochastic_rounding_is_right_on_average(spacing, x, gap):
    lattice, many = Lattice(spacing), 1000
    uniform = ((np.arange(many) + 0.5) / many)[:, None]
    sent = np.full((many, 1), x)
    found = lattice.decode(sent, sent + 0.999 * gap * lattice.range, uniform)
    # Exact but for the one of a thousand numbers at which it goes over to the next point.
    assert found.mean() == pytest.approx(x, abs=1.01 * spacing / many)
    assert len(np.unique(np.rint(found / spacing))) <= 2
    with pytest.raises(TypeError, match="needs uniform numbers"):
        lattice.decode(sent, sent)


@pytest.mark.parametrize("blocking", [True, False])
def test_quantised_meetings_keep_the_mean_on_average_and_do_not_freeze(blocking):
    n, ring = 6, rs.topologies.ring(6)
    x0 = start(n, 3)
    run = {"learning_rate": 0.0, "steps": 10, "x0": x0, "replicas": 1000, "record": 10}
    drift, ends = {}, {}
    for rounding in ("stochastic", "nearest"):
        algorithm = SwarmSGD(blocking=blocking, quantizer=Lattice(1.0, rounding=rounding))
        x = rs.simulate(no_gradients(n, 3), ring, algorithm, **run).x
        drift[rounding] = x.mean(axis=0) - x0.mean(axis=0)[:, None]
    error = drift["stochastic"].std(axis=1) / np.sqrt(1000)
    assert (np.abs(drift["stochastic"].mean(axis=1)) < 5 * error).all()
    # Of a rate at which no step moves an entry by half the spacing.
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 3)), np.zeros((n, 3)))
    moving = {"learning_rate": 0.01, "steps": 800, "x0": np.full(3, 2.2), "record": 800}
    for rounding in ("stochastic", "nearest"):
        quantizer = Lattice(0.5, rounding=rounding)
        x = rs.simulate(problem, ring, SwarmSGD(blocking=blocking, quantizer=quantizer), **moving).x
        ends[rounding] = np.abs(x).mean()
    assert ends["stochastic"] < 0.5 < ends["nearest"]


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_replica_whose_models_are_too_far_apart_has_diverged_and_the_others_go_on(
    blocking, rounding
):
    n, topology = 4, rs.topologies.ring(4)
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 2)), start(n, 2))
    x0 = np.repeat(start(n, 2)[..., None], 3, axis=2)
    x0[2, 1, 1] = 100.0  # range 12.7
    algorithm = SwarmSGD(blocking=blocking, quantizer=Lattice(0.1, 256, rounding))
    run = {"learning_rate": 0.3, "steps": 60}
    history = rs.simulate(problem, topology, algorithm, x0=x0, **run)
    assert history.diverged.tolist() == [False, True, False]
    assert np.isnan(history.x[..., 1]).all()
    alone = rs.simulate(problem, topology, algorithm, x0=x0[..., 0], **run)
    for k in (0, 2):
        np.testing.assert_allclose(history.x[..., k], alone.x, rtol=0, atol=1e-13)
    single = rs.simulate(problem, topology, algorithm, x0=x0[..., 1], **run)
    assert single.diverged.tolist() == [True]
    wide = SwarmSGD(blocking=blocking, quantizer=Lattice(0.1, 4096, rounding))
    assert not rs.simulate(problem, topology, wide, x0=x0, **run).diverged.any()


@pytest.mark.parametrize("algorithm", [A2CiD2(), A2CiD2(accelerated=False), algorithms.DADAO(9.0)])
def test_who_meet_send_each_other_their_models(algorithm):
    topology, steps = rs.topologies.ring(6), 5
    events = slow_events.events_of(algorithm, topology, steps)
    meetings = np.bincount([unit for unit, _, _, second in events if second >= 0], minlength=steps)
    problem = least_squares(6, 5, 4)
    frame = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=steps).frame
    assert frame.vectors_sent.tolist() == [0, *(2 * np.cumsum(meetings))]


def test_bits_are_the_quantisers():
    topology, problem = rs.topologies.ring(6), least_squares(6, 5, 4)
    for levels, bits in ((256, 8), (16, 4)):
        algorithm = SwarmSGD(quantizer=Lattice(0.5, levels))
        frame = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=10).frame
        assert frame.bits_sent.tolist() == [2 * 5 * bits * 3 * t for t in range(11)]
    frame = rs.simulate(problem, topology, SwarmSGD(2), learning_rate=0.1, steps=4).frame
    assert frame.vectors_sent.tolist() == [2 * int(1.5 * t) for t in range(5)]


def test_a_gradient_that_was_overridden_is_asked_for():
    class Clipped(rs.problems.DiagonalQuadratic):
        def gradient(self, x, out=None):
            return np.clip(super().gradient(x), -0.1, 0.1)

    class Plain:
        n, d = 8, 2
        gradient = Clipped.gradient
        value = Clipped.value

    half = start(4, 2)
    centers = 10 + np.concatenate([half, -half])  # so that clipping leaves the optimum where it is
    clipped = Clipped(np.ones((8, 2)), centers)
    plain = Plain()
    plain.gradient = clipped.gradient
    plain.value = clipped.value
    for algorithm in (A2CiD2(), SwarmSGD()):
        ours, expected = (
            rs.simulate(p, rs.topologies.ring(8), algorithm, learning_rate=0.1, steps=50).x
            for p in (clipped, plain)
        )
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


def test_nobody_is_asked_for_a_gradient_at_zero():
    class Logarithm:
        n, d = 6, 2

        def gradient(self, x):
            assert (x > 0).all()
            return 1 - 1 / x

        def value(self, x):
            return float((x - np.log(x)).sum())

    for replicas in (None, 3):
        history = rs.simulate(
            Logarithm(), rs.topologies.ring(6), A2CiD2(), learning_rate=0.1, steps=30,
            x0=np.full(2, 3.0), replicas=replicas,
        )  # fmt: skip
        assert abs(history.x - 1).max() < 1


@pytest.mark.parametrize("graph", ["ring", "star", "complete"])
def test_many_edges_have_the_decay_that_few_have(graph, monkeypatch):
    """By products with vectors as by a matrix, on sparse graphs and on others."""
    topology = getattr(rs.topologies, graph)(6)
    few = asynchronous_decay(topology, A2CiD2())
    monkeypatch.setattr("relaysim.theory.asynchronous.FEW_EDGES", 0)
    assert asynchronous_decay(topology, A2CiD2()) == pytest.approx(few, rel=1e-10)


def test_exact_consensus_goes_on_falling():
    x0 = np.random.default_rng(0).normal(size=8)
    times = np.array([60, 80, 100])
    for topology, algorithm in (
        (rs.topologies.complete(8), A2CiD2(accelerated=False)),
        (rs.topologies.ring(8), A2CiD2(accelerated=False)),
        (rs.topologies.ring(8), A2CiD2()),
        (rs.topologies.star(8), A2CiD2()),
    ):
        found = asynchronous_consensus(topology, algorithm, x0, times)
        decay = asynchronous_decay(topology, algorithm)
        np.testing.assert_allclose(-np.diff(np.log(found)) / 20, decay, rtol=1e-6)
    assert asynchronous_decay(rs.topologies.chain(2), SwarmSGD()) == np.inf
    slow = asynchronous_decay(rs.topologies.complete(8), A2CiD2(momentum_rate=0.01))
    assert slow == pytest.approx(4 / 7)


# -- bad input, and the rest of the house ----------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: A2CiD2(rate=0), ValueError, "rate must be positive"),
        (lambda: A2CiD2(rate=-1.0), ValueError, "rate must be positive"),
        (lambda: A2CiD2(rate=float("inf")), ValueError, "finite"),
        (lambda: A2CiD2(accelerated=1), TypeError, "True or False"),
        (lambda: A2CiD2(momentum_rate=-1), ValueError, "momentum_rate"),
        (lambda: A2CiD2(accelerated=False, momentum_rate=1.0), ValueError, "leave it out"),
        (lambda: SwarmSGD(local_steps=0), ValueError, "local_steps"),
        (lambda: SwarmSGD(local_steps=1.5), TypeError, "whole number"),
        (lambda: SwarmSGD(local_steps=0.5, geometric=True), ValueError, "local_steps"),
        (lambda: SwarmSGD(blocking="no"), TypeError, "True or False"),
        (lambda: SwarmSGD(quantizer=8), TypeError, "Lattice"),
        (lambda: Lattice(0.0), ValueError, "spacing must be positive"),
        (lambda: Lattice(0.1, 2), ValueError, "levels must be at least 3"),
        (lambda: Lattice(0.1, 1, "nearest"), ValueError, "levels must be at least 2"),
        (lambda: Lattice(0.1, rounding="up"), ValueError, "rounding must be one of 'stochastic'"),
    ],
)
def test_options_are_checked(make, error, text):
    with pytest.raises(error, match=text):
        make()


@over_algorithms
def test_what_cannot_be_is_said_before_work_starts(algorithm):
    problem, ring = least_squares(4, 3, 3), rs.topologies.ring(4)
    options = {"learning_rate": 0.1, "steps": 5}
    with pytest.raises(ValueError, match="single worker"):
        rs.simulate(least_squares(1, 3, 3), rs.topologies.chain(1), algorithm, **options)
    apart, pair = rs.topologies.from_edges(4, [(0, 1), (2, 3)]), rs.topologies.double_binary_tree(4)
    with pytest.raises(ValueError, match="not connected"):
        rs.simulate(problem, apart, algorithm, **options)
    with pytest.raises(ValueError, match="does not use a mixing matrix"):
        rs.simulate(problem, ring, algorithm, mixing=rs.mixing.metropolis(ring), **options)
    with pytest.raises(ValueError, match="no rule for lost messages"):
        rs.simulate(problem, ring, algorithm, faults=rs.faults.MessageDrop(0.1), **options)
    with pytest.raises(ValueError, match="pair of trees"):
        rs.simulate(problem, pair, algorithm, **options)
    with pytest.raises(TypeError, match="not affine"):
        rs.theory.linearize(problem, ring, algorithm, learning_rate=0.1)


def test_theory_of_pairs_checks_what_it_is_given():
    ring = rs.topologies.ring(4)
    with pytest.raises(TypeError, match="A2CiD2 and SwarmSGD"):
        asynchronous_decay(ring, rs.algorithms.DPSGD())
    with pytest.raises(ValueError, match="quantiser"):
        asynchronous_decay(ring, SwarmSGD(quantizer=Lattice(0.1)))
    with pytest.raises(ValueError, match="single worker"):
        asynchronous_decay(rs.topologies.chain(1), A2CiD2())
    with pytest.raises(TypeError, match="A2CiD2"):
        asynchronous_consensus(ring, SwarmSGD(), np.ones(4), [1])
    with pytest.raises(ValueError, match="x0"):
        asynchronous_consensus(ring, A2CiD2(), np.ones(3), [1])
    apart = rs.topologies.from_edges(4, [(0, 1), (2, 3)])
    for algorithm in (A2CiD2(accelerated=False), SwarmSGD()):
        with pytest.raises(ValueError, match="not connected"):
            asynchronous_decay(apart, algorithm)
    with pytest.raises(TypeError, match="Topology"):
        asynchronous_decay("ring", A2CiD2())
    with pytest.raises(ValueError, match="times"):
        asynchronous_consensus(ring, A2CiD2(), np.ones(4), [-1])


def test_asynchronous_methods_can_be_tuned_swept_and_plotted(tmp_path, monkeypatch):
    monkeypatch.setattr("relaysim.studies.noisy_search.LASTING_STEPS", 400)
    problem, topology = (
        rs.problems.random_quadratics(n=6, d=3, zeta2=0.0, seed=0),
        rs.topologies.ring(6),
    )
    tuning = rs.tune(problem, topology, A2CiD2(), target=1e-4)
    assert tuning.steps < 300
    table = rs.sweep(
        {
            "n": 6,
            "zeta2": 1.0,
            "problem_seed": 0,
            "learning_rate": [0.05, 0.1],
            "steps": 50,
            "cases": [
                {"algorithm": ["A2CiD2(rate=2.0)", "SwarmSGD(2)"], "topology": ["ring", "star"]}
            ],
        },
        store=tmp_path / "sweep.db",
    )
    assert len(table) == 8 * 51
    assert table.suboptimality.notna().all()
    history = rs.simulate(problem, topology, A2CiD2(), learning_rate=0.1, steps=20, replicas=3)
    history.plot("consensus_distance", x="vectors_sent")
    history.save(tmp_path / "run.npz")
    np.testing.assert_array_equal(rs.History.load(tmp_path / "run.npz").x, history.x)


def test_heterogeneity_leaves_a_plateau_that_falls_with_the_rate():
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, mu=0.5, seed=0)
    options = {"learning_rate": [0.1, 0.025], "steps": 900, "record": range(600, 901)}
    for algorithm in (A2CiD2(), A2CiD2(accelerated=False), SwarmSGD(), SwarmSGD(blocking=False)):
        frame = rs.simulate(problem, rs.topologies.ring(8), algorithm, **options).frame
        large, small = frame.groupby("learning_rate").distance.mean().sort_index(ascending=False)
        assert large > 2 * small > 1e-6
        assert not algorithm.exact


@pytest.mark.parametrize("examples", [2, 9], ids=["by examples", "by Hessians"])
def test_rows_of_gradients_do_not_depend_on_how_many_matrices_are_copied_at_once(
    examples, monkeypatch
):
    generator = np.random.default_rng(0)
    A, b = generator.normal(size=(6, examples, 7)), generator.normal(size=(6, examples))
    problem = rs.problems.LeastSquares(A, b)
    workers, x = np.array([4, 0, 5, 2, 1]), generator.normal(size=(5, 7))
    everyone = np.zeros((6, 7))
    everyone[workers] = x
    expected = problem.gradient(everyone)[workers]
    for kept in (1, 2, 3, 5):  # one by one, with and without a shorter last piece, all at once
        size = 8 * 7 * (examples if examples < 7 / 2 else 7)
        monkeypatch.setattr(rows_by_worker, "COPIED_BYTES", kept * size)
        found = problem.gradient_of(workers, x)
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
