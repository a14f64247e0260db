"""Second moments of methods that draw: their rates, curves and floors, without simulating and against it."""

import itertools
import math
import sys
from typing import NamedTuple

import numpy as np
import pytest

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, ExactDiffusion, GradientTracking, LocalSGD, ProxSkip
from relaysim.mixing import epidemic, equidyn, matcha, random_matching
from relaysim.mixing.drawn import DrawnMixing
from relaysim.support.streams import Streams
from relaysim.theory import linearize, mean_square, mean_square_rate
from relaysim.theory.second_moments import seen

Replayed = sys.modules["relaysim.theory.mean_square"].Replayed  # the function has its name

N = 5
PROBLEM = rs.problems.random_quadratics(n=N, d=2, zeta2=1.0, seed=0)
RING, COMPLETE, CHAIN = (getattr(rs.topologies, kind)(N) for kind in ("ring", "complete", "chain"))
MIXINGS = {
    "matching": (random_matching(RING), RING),
    "uneven matching": (random_matching(rs.topologies.star(N)), COMPLETE),
    "pairs": (random_matching(COMPLETE), COMPLETE),
    "equidyn": (equidyn(N), COMPLETE),
    "oracle": (epidemic(N, 2, oracle=True), COMPLETE),
    "local": (epidemic(4, 2), rs.topologies.complete(4)),
    "matcha": (matcha(CHAIN, 0.4), CHAIN),
}


# -- what may be drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", [mixing for mixing, _ in MIXINGS.values()], ids=MIXINGS)
def test_outcomes_are_all_that_is_drawn_and_as_often(mixing):
    probabilities, uniforms = mixing.outcomes()
    assert math.fsum(probabilities) == pytest.approx(1, abs=1e-12)
    assert probabilities.min() > 0
    expected = {}
    for p, numbers in zip(probabilities, uniforms.T, strict=True):
        W = mixing(0, numbers).toarray().round(12).tobytes()
        expected[W] = expected.get(W, 0) + p
    draw = Streams([3], None).rounds("mixing", mixing.numbers)
    count = 1000
    seen = [mixing(0, draw(step)[:, 0]).toarray().round(12).tobytes() for step in range(count)]
    assert set(seen) <= set(expected)
    for W, p in expected.items():
        assert seen.count(W) / count == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / count))


@pytest.mark.parametrize(
    "mixing", [epidemic(4, 2), epidemic(5, 1), epidemic(5, 2, oracle=True), equidyn(7)], ids=repr
)
def test_the_contraction_of_a_mixing_is_the_rate_where_nobody_learns(mixing):
    """A closed form from elsewhere, of E Ξ² alone."""
    n = mixing.n
    probabilities, uniforms = mixing.outcomes()
    deviation = np.eye(n) - 1 / n
    left = sum(
        p * np.linalg.norm(deviation @ mixing(0, u).toarray() @ deviation) ** 2
        for p, u in zip(probabilities, uniforms.T, strict=True)
    )
    assert left / (n - 1) == pytest.approx(mixing.contraction, abs=1e-12)


# -- rates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "topology"),
    [
        (DPSGD(momentum=0.5), RING),
        (D2(), RING),
        (GradientTracking(), RING),
        (LocalSGD(3), RING),
        (rs.algorithms.RelaySGD(), CHAIN),
        (rs.algorithms.RelaySGDGrad(), CHAIN),
    ],
    ids=repr,
)
def test_where_nothing_is_drawn_it_is_the_square_of_the_spectral_radius(algorithm, topology):
    given = PROBLEM, topology, algorithm, 0.2
    assert mean_square_rate(*given) == pytest.approx(linearize(*given).spectral_radius ** 2, 1e-10)


def test_a_coin_that_is_always_heads_is_exact_diffusion():
    expected = linearize(PROBLEM, RING, ExactDiffusion(), 0.4).spectral_radius ** 2
    assert mean_square_rate(PROBLEM, RING, ProxSkip(1.0), 0.4) == pytest.approx(expected, 1e-10)


def test_a_period_of_matrices_and_a_coin_together():
    """The rate of a step, of a map that repeats after two steps and draws in each: by Kronecker products."""
    ring = rs.topologies.ring(4)
    problem = rs.problems.DiagonalQuadratic(np.full((4, 1), 0.5), np.arange(4.0)[:, None])
    swap = np.kron(np.eye(2), np.full((2, 2), 0.5))
    period = [swap, np.roll(np.roll(swap, 1, 0), 1, 1)]
    p, rate, one = 0.4, 0.3, np.eye(4)
    kept = 1 - 0.5 * rate
    # What corrections sum to is conserved, and 0.
    free = np.kron(np.diag([1, 0]), one) + np.kron(np.diag([0, 1]), one - 0.25)
    moments = np.kron(free, free)
    for W in period:
        lazy = (W + one) / 2
        heads = np.block([[kept * lazy, lazy], [p * kept * (lazy - one), one + p * (lazy - one)]])
        tails = np.block([[kept * one, one], [0 * one, one]])
        moments = (p * np.kron(heads, heads) + (1 - p) * np.kron(tails, tails)) @ moments
    values = np.abs(np.linalg.eigvals(moments))
    found = mean_square_rate(problem, ring, ProxSkip(p), rate, mixing=period)
    assert found == pytest.approx(math.sqrt(values.max()), rel=1e-9)


# -- curves and floors against simulation ------------------------------------------------------------


def assert_within_four_standard_errors(problem, topology, algorithm, rate, steps, mixing=None):
    x0 = np.random.default_rng(1).normal(size=(problem.n, 2))
    found = mean_square(problem, topology, algorithm, rate, x0=x0, mixing=mixing)
    frame = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        replicas=400,
        mixing=mixing,
        x0=x0,
    ).frame
    predicted = found.predict(steps).set_index("step")
    for column in ("distance", "consensus_distance"):
        measured = frame.groupby("step")[column].agg(["mean", "sem"])
        off = (measured["mean"] - predicted[column]).abs()
        assert (off <= 4 * measured["sem"] + 1e-12 * predicted[column]).all(), column
    return found, predicted


@pytest.mark.parametrize("name", MIXINGS)
def test_moments_of_drawn_mixings_are_those_of_simulations(name):
    mixing, topology = MIXINGS[name]
    problem = rs.problems.random_quadratics(n=topology.n, d=2, zeta2=1.0, seed=0)
    found, _ = assert_within_four_standard_errors(problem, topology, DPSGD(), 0.2, 12, mixing)
    later = found.predict(400).iloc[-1]
    for column, value in found.stationary.items():
        assert value == pytest.approx(later[column], rel=1e-9)
    assert found.rate < 1


@pytest.mark.parametrize(
    "algorithm",
    [
        GradientTracking(),
        ExactDiffusion(),
        DPSGD(momentum=0.5),
        # In their first steps other rules hold.
        GradientTracking("atc", momentum=0.5),
        rs.algorithms.LocalRates(4, gossip=True),
    ],
    ids=repr,
)
def test_moments_of_methods_with_more_state_are_those_of_simulations(algorithm):
    assert_within_four_standard_errors(
        PROBLEM, RING, algorithm, 0.1, 10, mixing=random_matching(RING)
    )


def test_moments_of_proxskip_fall_at_the_rate_and_to_nothing():
    found, _ = assert_within_four_standard_errors(PROBLEM, RING, ProxSkip(0.4), 0.3, 15)
    late = found.predict(260).set_index("step")["distance"]
    assert (late[260] / late[200]) ** (1 / 60) == pytest.approx(found.rate, rel=1e-3)
    assert found.stationary["distance"] < 1e-28
    coin = mean_square_rate(PROBLEM, RING, ProxSkip(0.4), 5.0)
    assert coin > 1
    assert mean_square(PROBLEM, RING, ProxSkip(0.4), 5.0).stationary["distance"] == math.inf


def test_draws_have_the_axes_that_are_asked_for():
    """In their order, one set for all replicas."""

    class Asking(DPSGD):
        def step(self, state, round):
            return round.uniforms((2, 2, 5)), round.uniforms((1, 3, 4, 2))

    class Asked:
        step, gradient = 0, None

        def with_gradient(self, gradient):
            return self

    first, second = Replayed(Asking(), np.arange(7.0)[:, None], 1).step(None, Asked())
    assert first.tolist() == [[[0.0], [1.0]], [[2.0], [3.0]]]
    assert second.tolist() == [[[[4.0]], [[5.0]], [[6.0]]]]


def test_what_is_reached_in_one_step_of_a_period_need_not_be_in_another():
    """Two numbers change places and are tripled where none of the starts comes to stand."""
    turn = np.array([[0.0, 1.0], [1.0, 0.0]])
    phases = [turn[None], (turn @ np.diag([3.0, 0.5]))[None]]
    starts = np.array([[1.0, 2.0], [0.0, 0.0]])
    first, second = seen(phases, starts, np.eye(2))
    assert (first.shape, second.shape) == ((1, 1, 1), (1, 1, 1))
    assert abs(second[0] @ first[0]) == pytest.approx(0.5)


# -- what is refused -----------------------------------------------------------------------------------


class Unlisted(DrawnMixing):
    numbers = 1
    doubly_stochastic = True
    n, edges = N, equidyn(N).edges


@pytest.mark.parametrize(
    ("topology", "algorithm", "mixing", "error", "words"),
    [
        (COMPLETE, DPSGD(), Unlisted(), ValueError, "give it a method outcomes()"),
        (RING, rs.algorithms.Cesar(0.5), None, ValueError, "give it a method outcomes()"),
        (RING, rs.algorithms.ChocoSGD(rs.compressors.Sign(), 0.1), None, TypeError, "not affine"),
        (RING, rs.algorithms.A2CiD2(), None, TypeError, "asynchronous_decay"),
        (RING, rs.algorithms.SwarmSGD(geometric=True), None, ValueError, "take geometric=False"),
        (
            RING,
            rs.algorithms.SwarmSGD(quantizer=rs.compressors.Lattice(0.1)),
            None,
            ValueError,
            "not linear, as where a quantiser",
        ),
        (COMPLETE, DPSGD(), epidemic(N, 2), ValueError, "4096 at most"),
        (COMPLETE, rs.algorithms.SGP(2, "topology"), equidyn(N), ValueError, "another draw"),
        (COMPLETE, rs.algorithms.Muffliato(0.0, rounds=3), equidyn(N), ValueError, "another draw"),
        (RING, DPSGD(), lambda step: rs.mixing.metropolis(RING), ValueError, "no rate"),
    ],
)
def test_what_has_no_exact_expectation_is_refused(topology, algorithm, mixing, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        mean_square(PROBLEM, topology, algorithm, 0.1, mixing=mixing)


class Counted(NamedTuple):
    x: np.ndarray
    steps: np.ndarray


class Counting(DPSGD):
    """Knows how many steps it has made, up to three."""

    def init(self, x0, network):
        return Counted(x0, np.zeros(1))

    def step(self, state, round):
        return Counted(round.mix(state.x), np.minimum(state.steps + 1, 3))


class Weighed(DPSGD):
    """Keeps a mass for each worker, which gossip spreads as it is drawn."""

    def init(self, x0, network):
        return Counted(x0, np.arange(1.0, N + 1)[:, None])

    def step(self, state, round):
        return Counted(round.mix(state.x), round.mix(state.steps))


class Remembering(DPSGD):
    """Keeps for good what the first step brought."""

    def init(self, x0, network):
        return Remembered(x0, np.zeros_like(x0), np.zeros((1, 1)))

    def step(self, state, round):
        x = round.mix(state.x) - 0.1 * state.first
        return Remembered(x, state.first if state.met else x, np.ones((1, 1)))


class Remembered(NamedTuple):
    x: np.ndarray
    first: np.ndarray
    met: np.ndarray


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [(Weighed(), "a draw has no one map"), (Remembering(), "keeps for good")],
)
def test_what_depends_on_all_that_was_drawn_is_refused(algorithm, words):
    run = PROBLEM, RING, algorithm, 0.1, np.random.default_rng(0).normal(size=(N, 2))
    with pytest.raises(ValueError, match=words):
        mean_square(*run, mixing=random_matching(RING)).predict(2)


@pytest.mark.parametrize(
    "algorithm",
    [
        GradientTracking("atc"),
        rs.algorithms.NIDS(),
        rs.algorithms.DLM(0.5),
        rs.algorithms.LocalRates(2, gossip=True),
        Counting(),
    ],
    ids=repr,
)
def test_steps_before_maps_hold_are_the_mean_over_all_that_may_be_drawn(algorithm):
    ring, x0 = rs.topologies.ring(3), np.random.default_rng(2).normal(size=(3, 2))
    problem = rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, seed=0)
    matching = random_matching(ring)
    found = mean_square(problem, ring, algorithm, 0.2, x0=x0, mixing=matching)
    probabilities, uniforms = matching.outcomes()
    matrices = [matching(0, each) for each in uniforms.T]
    expected = 0
    for draws in itertools.product(range(len(matrices)), repeat=3):
        run = rs.simulate(
            *(problem, ring, algorithm),
            learning_rate=0.2,
            steps=3,
            x0=x0,
            mixing=lambda step, draws=draws: matrices[draws[min(step, 2)]],
        )
        columns = run.frame[["consensus_distance", "distance"]].to_numpy()
        expected = expected + np.prod(probabilities[list(draws)]) * columns
    predicted = found.predict(3)[["consensus_distance", "distance"]]
    np.testing.assert_allclose(predicted, expected, rtol=1e-12, atol=1e-15)


def test_rates_are_those_of_the_maps_that_hold_in_the_end():
    ring, mixing = rs.topologies.ring(4), random_matching(rs.topologies.ring(4))
    problem = rs.problems.random_quadratics(n=4, d=1, zeta2=1.0, seed=0)
    found = mean_square(problem, ring, GradientTracking("atc"), 0.4, mixing=mixing)
    late = found.predict(100)["distance"]
    assert (late[100] / late[60]) ** (1 / 40) == pytest.approx(found.rate, rel=1e-4)
    rates = [
        mean_square_rate(
            problem, ring, rs.algorithms.LocalRates(switch, gossip=True), 0.4, mixing=mixing
        )
        for switch in (0, 2)
    ]
    assert rates[1] == pytest.approx(rates[0], rel=1e-12)


def test_nids_shrinks_as_exact_diffusion_does():
    """One of their draws nearly takes a correction away, and what is left is no direction of its own."""
    chain = rs.topologies.chain(3)
    problem = rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, seed=0)
    nids, expected = (
        mean_square_rate(problem, chain, algorithm, 0.1, mixing=matcha(chain, 0.5))
        for algorithm in (rs.algorithms.NIDS(), ExactDiffusion())
    )
    assert nids == pytest.approx(expected, rel=1e-12)
    assert nids < 0.99


@pytest.mark.parametrize("algorithm", [rs.algorithms.RelaySGD(), GradientTracking("atc")], ids=repr)
def test_where_nothing_is_drawn_curves_begin_at_the_start(algorithm):
    run = rs.simulate(PROBLEM, CHAIN, algorithm, learning_rate=0.1, steps=9).frame
    predicted = mean_square(PROBLEM, CHAIN, algorithm, 0.1).predict(9)
    for column in ("consensus_distance", "distance"):
        np.testing.assert_allclose(predicted[column], run[column], rtol=1e-10, atol=1e-15)


def test_what_no_draw_changes_is_the_run_itself_over_a_sequence_too():
    ring = rs.topologies.ring(4)
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    W = rs.mixing.metropolis(ring).toarray()
    sequence, x0 = [W, (W + np.eye(4)) / 2, np.eye(4)], np.random.default_rng(1).normal(size=(4, 2))
    found = mean_square(problem, ring, DPSGD(), 0.3, x0=x0, mixing=sequence)
    run = {"learning_rate": 0.3, "x0": x0, "mixing": sequence}
    frame = rs.simulate(problem, ring, DPSGD(), steps=240, **run).frame
    predicted = found.predict(14)
    for column, value in found.stationary.items():
        np.testing.assert_allclose(predicted[column], frame[column][:15], rtol=1e-10)
        assert value == pytest.approx(frame[column].iloc[-1], rel=1e-9)


def test_maps_that_would_not_fit_are_refused_with_their_size(monkeypatch):
    ring = rs.topologies.ring(4)
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    module = sys.modules["relaysim.theory.mean_square"]  # the function has its name
    monkeypatch.setattr(module, "MOST_BYTES", 8 * 13**2)
    mean_square(problem, ring, DPSGD(), 0.1)
    monkeypatch.setattr(module, "MOST_BYTES", 8 * 13**2 - 1)
    with pytest.raises(ValueError, match=r"the 1 maps of .* with 12 numbers of its iterates take"):
        mean_square(problem, ring, DPSGD(), 0.1)


# -- pairs that meet ---------------------------------------------------------------------------------

STAR = rs.topologies.star(N)  # where workers meet others more often than others do
SWARMS = [
    (RING, rs.algorithms.SwarmSGD()),
    (STAR, rs.algorithms.SwarmSGD(local_steps=3)),
    (STAR, rs.algorithms.SwarmSGD(local_steps=2, blocking=False)),
]


@pytest.mark.parametrize(("topology", "swarm"), SWARMS, ids=repr)
def test_the_moments_of_pairs_that_meet_are_the_means_of_many_runs(topology, swarm):
    replicas, steps = 1000, 8
    start = np.random.default_rng(0).normal(size=(N, 2))
    found = mean_square(PROBLEM, topology, swarm, 0.3, x0=start)
    history = rs.simulate(
        PROBLEM,
        topology,
        swarm,
        learning_rate=0.3,
        steps=steps,
        x0=start,
        replicas=replicas,
        progress=False,
    )
    predicted = found.predict(steps)
    for column in ("consensus_distance", "distance"):
        each = history.frame.pivot(index="step", columns="replica", values=column).to_numpy()
        error = each.std(axis=1) / math.sqrt(replicas)
        off = np.abs(each.mean(axis=1) - predicted[column].to_numpy())
        assert (off <= 4 * error + 1e-12).all()
        assert error[-1] < 0.1 * predicted[column].iloc[-1]
    # What they come to, by going on.
    assert found.rate < 1
    long = found.predict(math.ceil(math.log(1e-18) / math.log(found.rate)))
    for column, value in found.stationary.items():
        assert long[column].iloc[-1] == pytest.approx(value, rel=1e-6)


def test_what_a_meeting_does_by_hand():
    """x_i, x_j ← the mean of both after H steps each, of a chain of three with unequal curvatures."""
    h, centers, rate, H = np.array([1.0, 0.5, 0.25]), np.array([0.0, 1.0, -2.0]), 0.4, 2
    problem = rs.problems.DiagonalQuadratic(h[:, None], centers[:, None])
    swarm = rs.algorithms.SwarmSGD(local_steps=H)
    found = mean_square(problem, rs.topologies.chain(3), swarm, rate)
    kept = (1 - rate * h) ** H
    maps, offsets = [], []
    for i, j in ((0, 1), (1, 2)):
        A, b = np.eye(3), np.zeros(3)
        A[[i, j]] = 0
        A[np.ix_([i, j], [i, j])] = kept[[i, j]] / 2
        b[[i, j]] = ((1 - kept) * centers)[[i, j]].mean()
        maps.append(A)
        offsets.append(b)
    second = sum(np.kron(A, A) for A in maps) / 2
    # 3/(2H) meetings a step.
    assert found.rate == pytest.approx(
        np.abs(np.linalg.eigvals(second)).max() ** (3 / 4), rel=1e-12
    )
    assert (found.outcomes, found.states) == (2, 3)
    mean, moment = np.zeros(3), np.zeros((3, 3))
    records = []
    for meetings in (0, 1, 1, 1, 0, 1):  # in each of the steps, ⌊3t/4⌋ after t
        for _ in range(meetings):
            moment = (
                sum(
                    A @ moment @ A.T
                    + np.outer(A @ mean, b)
                    + np.outer(b, A @ mean)
                    + np.outer(b, b)
                    for A, b in zip(maps, offsets, strict=True)
                )
                / 2
            )
            mean = sum(A @ mean + b for A, b in zip(maps, offsets, strict=True)) / 2
        optimum = (h * centers).sum() / h.sum()
        records.append(np.trace(moment) / 3 - 2 * optimum * mean.mean() + optimum**2)
    np.testing.assert_allclose(found.predict(5).distance[1:], records[:5], rtol=1e-12, atol=1e-15)


def test_two_workers_with_equal_curvatures_shrink_as_one_does():
    problem = rs.problems.DiagonalQuadratic(np.full((2, 1), 0.5), np.array([[1.0], [-1.0]]))
    for swarm in (rs.algorithms.SwarmSGD(), rs.algorithms.SwarmSGD(local_steps=4)):
        found = mean_square_rate(problem, rs.topologies.chain(2), swarm, 0.3)
        assert found == pytest.approx((1 - 0.3 * 0.5) ** 2, rel=1e-12)


@pytest.mark.parametrize("blocking", [True, False])
def test_without_gradients_pairs_agree_as_fast_as_their_decay_says(blocking):
    swarm = rs.algorithms.SwarmSGD(blocking=blocking)
    topology = rs.topologies.ring(6)
    problem = rs.problems.random_quadratics(n=6, d=1, zeta2=1.0, seed=0)
    start = np.random.default_rng(1).normal(size=(6, 1))
    spread = mean_square(problem, topology, swarm, 0.0, x0=start).predict(20).consensus_distance
    decay = rs.theory.asynchronous_decay(topology, swarm)
    assert math.log(spread[19] / spread[20]) == pytest.approx(decay, rel=1e-6)
    assert mean_square_rate(problem, topology, swarm, 0.0) == pytest.approx(1, abs=1e-12)
