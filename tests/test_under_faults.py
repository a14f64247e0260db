"""Moments of methods whose messages are lost: against the sum over all losses, on paper, and simulations."""

import itertools
import math
import sys
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csgraph, csr_array

import relaysim as rs
from relaysim.algorithms import (
    D2,
    DPSGD,
    KGT,
    SGP,
    AllReduce,
    ChocoSGD,
    ExactDiffusion,
    GradientTracking,
    QuasiGlobalMomentum,
    RelaySGD,
    RelaySGDGrad,
    RelaySGDMix,
)
from relaysim.faults import All, BurstLoss, Delay, Fault, LinkFailure, MessageDrop
from relaysim.theory import expected_mixing, linearize, relay_under_faults, under_faults
from relaysim.theory.loss_moments import Lossy, LossyPeriod
from relaysim.theory.lost_weights import lost_weights, messages_of
from relaysim.theory.mixed_step import MixedStep

CHAIN, TRIANGLE, RING = rs.topologies.chain(3), rs.topologies.ring(3), rs.topologies.ring(5)
STEPS = 3


def problem_of(topology, d=1, seed=0):
    return rs.problems.random_quadratics(n=topology.n, d=d, zeta2=1.0, seed=seed)


def start_of(topology, d=1):
    return np.random.default_rng(1).normal(size=(topology.n, d))


# -- all that may be lost, once each ------------------------------------------------------------------


@dataclass(frozen=True)
class Told(Fault):
    """Replica r loses what ``down`` says of wires, by round, (sender, receiver) and replica."""

    down: Any
    rounds: int = 1

    def arrivals(self, edges, round):
        down = self.down[self.rounds * round + round.crossing % self.rounds]
        lost = [[down.get(tuple(edge))] for edge in edges.tolist()]
        return ~np.concatenate(lost)


def all_losses(fault, topology, steps):
    """Every way in which messages may be lost in these steps, a replica each, and how likely it is."""
    links = [tuple(edge) for edge in topology.edges.tolist()]
    wires = links + [edge[::-1] for edge in links]
    things = links if isinstance(fault, LinkFailure) else wires
    ways = np.array(list(itertools.product([False, True], repeat=len(things) * steps)))
    down = ways.reshape(len(ways), steps, len(things))
    if isinstance(fault, MessageDrop):
        chances = np.broadcast_to(fault.probability, len(links))
        chances = np.concatenate([chances, chances])
        each = np.where(down, chances, 1 - chances)
    else:
        fail, repair = (
            (fault.fail, fault.repair)
            if isinstance(fault, LinkFailure)
            else (fault.lose, fault.recover)
        )
        before = np.concatenate([np.zeros_like(down[:, :1]), down[:, :-1]], axis=1)
        fails = np.where(before, 1 - repair, fail)
        each = np.where(down, fails, 1 - fails)
    by_step = []
    for step in range(steps):
        found = {}
        for thing, lost in zip(things, down[:, step].T, strict=True):
            found[thing] = lost
            if isinstance(fault, LinkFailure):
                found[thing[::-1]] = lost
        by_step.append(found)
    return Told(by_step), each.prod(axis=(1, 2))


def enumerated(problem, topology, algorithm, rate, fault, steps, x0, rounds=1, **given):
    told, chances = all_losses(fault, topology, steps * rounds)
    told = Told(told.down, rounds)
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        x0=x0,
        faults=told,
        replicas=len(chances),
        keep_iterates=True,
        **given,
    )
    frame = history.frame
    columns = frame.columns[frame.columns.get_loc("step") + 1 :].difference(
        ["vectors_sent", "bits_sent"]
    )
    weights = chances[frame["replica"]]
    means = frame[columns].mul(weights, axis=0).groupby(frame["step"]).sum()
    return history.iterates @ chances, means


HEAVY = DPSGD(momentum=0.5, overlap=True, consensus=0.6)
STAR = rs.topologies.star(4)


@pytest.mark.parametrize(
    ("topology", "fault", "steps", "algorithm"),
    [
        (CHAIN, MessageDrop(0.3), 3, DPSGD()),
        (CHAIN, MessageDrop([0.2, 0.7]), 2, HEAVY),
        (TRIANGLE, MessageDrop([0.2, 0.7, 0.0]), 2, DPSGD()),
        (STAR, MessageDrop(0.4), 1, DPSGD()),
        (CHAIN, BurstLoss(0.2, 0.6), 2, HEAVY),
        (TRIANGLE, LinkFailure(0.3, 0.7), 3, DPSGD()),
        (TRIANGLE, LinkFailure(0.2, 0.3), 3, HEAVY),
        (STAR, LinkFailure(0.3, 0.7), 3, HEAVY),
        (STAR, LinkFailure(0.5, 0.0), 3, DPSGD()),
    ],
    ids=str,
)
def test_moments_of_gossip_are_the_sum_over_all_losses(topology, fault, steps, algorithm):
    problem, x0 = problem_of(topology), start_of(topology)
    given = problem, topology, algorithm, 0.3, fault
    iterates, means = enumerated(*given, steps, x0)
    found = under_faults(*given, x0=x0)
    np.testing.assert_allclose(found.iterates(steps), iterates, rtol=1e-12, atol=1e-13)
    predicted = found.predict(steps).set_index("step")
    assert set(predicted) == set(means)
    for column in means:
        np.testing.assert_allclose(predicted[column], means[column], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("algorithm", "fault"),
    [
        (D2(), MessageDrop(0.3)),
        (D2(), LinkFailure(0.2, 0.5)),
        (ExactDiffusion(), MessageDrop(0.3)),
        (QuasiGlobalMomentum(0.5), MessageDrop(0.3)),
        (GradientTracking(), LinkFailure(0.3, 0.7)),
        (GradientTracking(), BurstLoss(0.2, 0.8)),
        (GradientTracking(), BurstLoss(0.2, 0.3)),
    ],
    ids=str,
)
def test_so_are_those_of_corrections(algorithm, fault):
    problem, x0 = problem_of(CHAIN), start_of(CHAIN)
    steps = 4 if isinstance(fault, LinkFailure) else 2
    given = problem, CHAIN, algorithm, 0.2, fault
    iterates, means = enumerated(*given, steps, x0)
    found = under_faults(*given, x0=x0)
    np.testing.assert_allclose(found.iterates(steps), iterates, rtol=1e-12, atol=1e-13)
    predicted = found.predict(steps)
    for column in means:
        np.testing.assert_allclose(predicted[column], means[column], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", ["next", "diging"])
def test_messages_of_two_vectors_are_lost_by_themselves(form):
    pair = rs.topologies.chain(2)
    x0, problem = start_of(pair), problem_of(pair)
    given = problem, pair, GradientTracking(form), 0.2, MessageDrop(0.3)
    iterates, means = enumerated(*given, STEPS, x0, rounds=2)
    found = under_faults(*given, x0=x0)
    np.testing.assert_allclose(found.iterates(STEPS), iterates, rtol=1e-12, atol=1e-13)
    predicted = found.predict(STEPS)
    for column in means:
        np.testing.assert_allclose(predicted[column], means[column], rtol=1e-12, atol=1e-14)


def test_a_period_of_matrices_loses_in_turn():
    x0, problem = start_of(CHAIN), problem_of(CHAIN)
    mixing = [rs.mixing.metropolis(CHAIN), rs.mixing.uniform(CHAIN, 0.1)]
    given = problem, CHAIN, DPSGD(), 0.3, MessageDrop(0.4)
    iterates, means = enumerated(*given, 2, x0, mixing=mixing)
    found = under_faults(*given, x0=x0, mixing=mixing)
    assert found.period == 2
    np.testing.assert_allclose(found.iterates(2), iterates, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.predict(2).distance, means.distance, rtol=1e-12)


def test_what_workers_differ_by_is_followed_through_each_step_of_a_period():
    """It moves on its own through each of them: what does so over a period only is not enough."""
    rates, centres = [[0.9], [0.3], [0.8]], [[-0.7], [-0.5], [-0.3]]
    problem = rs.problems.DiagonalQuadratic(rates, centres)
    given = problem, TRIANGLE, KGT(2), 0.2, MessageDrop(0.3)
    found, whole = under_faults(*given), under_faults(*given)
    assert found._disagreement is not None
    whole.__dict__["_disagreement"] = None  # of the moments of all numbers
    np.testing.assert_allclose(
        found.predict(6).consensus_distance, whole.predict(6).consensus_distance, rtol=1e-9
    )
    # All losses of both vectors in the second step, which sends, tell what the third makes of them.
    wires = [edge for link in TRIANGLE.edges.tolist() for edge in (tuple(link), tuple(link[::-1]))]
    ways = np.array(list(itertools.product([False, True], repeat=12)))
    arrive = dict.fromkeys(wires, np.zeros(len(ways), dtype=bool))
    lost = [dict(zip(wires, part.T, strict=True)) for part in (ways[:, :6], ways[:, 6:])]
    told = Told([arrive, arrive, *lost, arrive, arrive], rounds=2)
    chances = np.where(ways, 0.3, 0.7).prod(axis=1)
    run = rs.simulate(*given[:3], learning_rate=0.2, steps=3, faults=told, replicas=len(ways))
    means = run.frame.consensus_distance.to_numpy().reshape(len(ways), 4).T @ chances
    np.testing.assert_allclose(found.predict(3).consensus_distance, means, rtol=1e-12, atol=1e-15)


# -- against simulations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "fault", "rate"),
    [
        (DPSGD(), MessageDrop(0.2), 0.2),
        (DPSGD(momentum=0.5), LinkFailure(0.1, 0.3), 0.2),
        (DPSGD(), LinkFailure(0.4, 0.6), 0.0),
        (GradientTracking(), MessageDrop([0.1, 0.2, 0.3, 0.4, 0.5]), 0.1),
    ],
    ids=str,
)
def test_moments_with_noise_are_those_of_400_replicas(algorithm, fault, rate):
    problem, x0 = problem_of(RING, 2), start_of(RING, 2)
    sigma2, steps = 0.5, 12
    history = rs.simulate(
        problem,
        RING,
        algorithm,
        learning_rate=rate,
        steps=steps,
        x0=x0,
        faults=fault,
        oracle=rs.oracles.Gaussian(sigma2),
        replicas=400,
        seed=1000,
        keep_iterates=True,
    )
    found = under_faults(problem, RING, algorithm, rate, fault, x0=x0)
    predicted = found.predict(steps, sigma2).set_index("step")
    for column in predicted:
        measured = history.frame.groupby("step")[column].agg(["mean", "sem"])
        off = (measured["mean"] - predicted[column]).abs()
        assert (off <= 4 * measured["sem"] + 1e-12 * predicted[column]).all(), column
    iterates = history.iterates
    errors = iterates.std(axis=-1, ddof=1) / math.sqrt(400)
    off = np.abs(iterates.mean(axis=-1) - found.iterates(steps))
    assert (off <= 4 * errors + 1e-12).all()


# -- rates and floors ---------------------------------------------------------------------------------


def test_two_workers_agree_as_fast_as_by_hand():
    """Both hear: they agree; one hears: half of the difference is left; none: all of it."""
    pair, p = rs.topologies.chain(2), 0.3
    found = under_faults(problem_of(pair), pair, DPSGD(), 0.0, MessageDrop(p), x0=start_of(pair))
    expected = p**2 + 2 * p * (1 - p) / 4
    assert found.consensus_rate == pytest.approx(expected, rel=1e-12)
    assert found.rate == pytest.approx(1, rel=1e-12)
    curve = found.predict(60).consensus_distance
    np.testing.assert_allclose(curve / curve[0], expected ** np.arange(61), rtol=1e-10, atol=1e-30)
    together = under_faults(problem_of(pair), pair, DPSGD(), 0.0, LinkFailure(p, 1 - p))
    assert together.consensus_rate == pytest.approx(p, rel=1e-12)
    bursts = under_faults(problem_of(pair), pair, DPSGD(), 0.0, LinkFailure(0.1, 0.25))
    assert bursts.consensus_rate == pytest.approx(1 - 0.25, rel=1e-12)  # it has never been up
    assert bursts.predict(2).consensus_distance.tolist() == [0, 0, 0]


def test_curves_end_at_the_floor_at_the_rate_that_is_told():
    star = rs.topologies.star(4)
    for fault in (MessageDrop([0.1, 0.3, 0.5]), LinkFailure(0.2, 0.3)):
        given = problem_of(star, 2), star, DPSGD(momentum=0.3), 0.3, fault
        found = under_faults(*given)
        floor = found.stationary(0.4)
        late = found.predict(400, 0.4)
        for column, value in floor.items():
            assert late[column].iloc[-1] == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(found.iterates(400)[-1], found.fixed_point, atol=1e-10)
        # Two runs that lose the same differ by a run on f_j whose optima are all 0.
        centred = rs.problems.LeastSquares(given[0].A, np.zeros_like(given[0].b))
        apart = under_faults(centred, *given[1:], x0=start_of(star, 2)).predict(120).distance
        assert (apart[120] / apart[80]) ** (1 / 40) == pytest.approx(found.rate, rel=1e-4)


@pytest.mark.parametrize("algorithm", [DPSGD(momentum=0.5), D2(), GradientTracking()], ids=str)
def test_where_nothing_is_lost_it_is_the_affine_map(algorithm):
    given = problem_of(RING, 2), RING, algorithm, 0.2
    linear, found = linearize(*given), under_faults(*given, MessageDrop(0.0))
    assert found.rate == pytest.approx(linear.spectral_radius**2, rel=1e-9)
    floor = linear.stationary(0.3)
    np.testing.assert_allclose(found.stationary(0.3)[floor.index], floor, rtol=1e-8)
    np.testing.assert_allclose(found.iterates(20), linear.iterates(20), atol=1e-12)


@pytest.mark.parametrize("starts", [np.array([[1.0], [0.0]]), np.zeros((2, 0))], ids=str)
def test_what_is_conserved_is_that_of_the_start(starts):
    """y₁ ← y₁/2 + y₂ + ξ with y₂ = 3, which is not reached from anywhere else, ends at 6 ± √(4/3)."""
    step = Lossy(np.array([[[0.5, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]]))
    y = np.array([1.0, 3.0])
    basis, reached = LossyPeriod([step], None).reached_from(y, starts)
    assert basis.shape == (2, 1)
    rest = reached.at_rest(np.ones(1))
    np.testing.assert_allclose(y + basis @ rest.mean, [6, 3], atol=1e-14)
    np.testing.assert_allclose(rest.covariance, 4 / 3, rtol=1e-14)


def test_workers_with_noise_of_their_own():
    given = problem_of(RING, 2), RING, DPSGD(), 0.2
    sigma2 = np.arange(5.0)
    floor = linearize(*given).stationary(sigma2)
    found = under_faults(*given, MessageDrop(0.0)).stationary(sigma2)
    np.testing.assert_allclose(found[floor.index], floor, rtol=1e-8)


def test_where_all_is_lost_workers_are_alone():
    problem = problem_of(RING, 2)
    for fault in (MessageDrop(1.0), LinkFailure(1.0, 0.0)):
        found = under_faults(problem, RING, DPSGD(), 0.3, fault)
        np.testing.assert_allclose(problem.gradient(found.fixed_point), 0, atol=1e-12)
    one = rs.problems.random_quadratics(n=1, d=2, zeta2=0.0, seed=0)
    given = one, rs.topologies.complete(1), DPSGD(), 0.3
    found = under_faults(*given, MessageDrop(0.5))
    floor = linearize(*given).stationary(0.2)
    np.testing.assert_allclose(found.stationary(0.2)[floor.index], floor, rtol=1e-10)
    assert found.consensus_rate == 0


# -- the weights that are left ------------------------------------------------------------------------


@pytest.mark.parametrize("laziness", [0.0, 0.5])
@pytest.mark.parametrize(
    "topology", [rs.topologies.star(4), rs.topologies.complete(3), CHAIN], ids=repr
)
def test_moments_of_rows_are_sums_over_all_that_may_be_heard(topology, laziness):
    random = np.random.default_rng(0)
    for arrive in (np.full(2 * len(topology.edges), 0.7), random.random(2 * len(topology.edges))):
        W = rs.mixing.metropolis(topology)
        lazy = (1 - laziness) * W.toarray() + laziness * np.eye(topology.n)
        edges = messages_of(W)
        found = lost_weights(W, arrive, laziness)
        for i in range(topology.n):
            mine = np.flatnonzero(edges[:, 1] == i)
            mean, second, heard = 0.0, 0.0, 0.0
            for arrived in itertools.product([0, 1], repeat=len(mine)):
                p = np.prod(np.where(arrived, arrive[mine], 1 - arrive[mine]))
                weights = lazy[i, edges[mine, 0]] * arrived
                weights = weights / (weights.sum() + lazy[i, i]) / (1 - laziness)
                mean = mean + p * weights
                second = second + p * np.outer(weights, weights)
                heard = heard + p * np.outer(weights, arrived)
            np.testing.assert_allclose(found.mean[mine], mean, atol=1e-14)
            covariance = second - np.outer(mean, mean)
            np.testing.assert_allclose(found.covariances[i], covariance, atol=1e-14)
            with_arrivals = heard - np.outer(mean, arrive[mine])
            np.testing.assert_allclose(found.with_arrivals[i], with_arrivals, atol=1e-14)


def test_averages_end_at_the_left_eigenvector_of_the_expected_matrix():
    star, fault = rs.topologies.star(5), MessageDrop([0.1, 0.2, 0.3, 0.8])
    W = expected_mixing(star, fault)
    np.testing.assert_allclose(W.sum(axis=1), 1, atol=1e-14)
    values, vectors = np.linalg.eig(W.T)
    pi = vectors[:, np.argmax(values.real)].real
    x0 = start_of(star)
    found = under_faults(problem_of(star), star, DPSGD(), 0.0, fault, x0=x0)
    ends = found.iterates(600)[-1]
    np.testing.assert_allclose(ends, np.full((5, 1), pi @ x0[:, 0] / pi.sum()), atol=1e-11)
    np.testing.assert_allclose(found.iterates(1)[1], W @ x0, atol=1e-14)
    whole = rs.mixing.metropolis(star).toarray()
    np.testing.assert_allclose(expected_mixing(star, MessageDrop(0.0)), whole, atol=1e-15)


def test_a_hub_with_many_neighbours_of_a_kind():
    """W' of the hub of a star, of whom h of k are heard, from the binomial distribution."""
    star, p, k = rs.topologies.star(24), 0.3, 23
    chances = [math.comb(k, h) * (1 - p) ** h * p ** (k - h) for h in range(k + 1)]
    expected = sum(chance * h / (h + 1) for h, chance in enumerate(chances)) / k
    assert expected_mixing(star, MessageDrop(p))[0, 1:] == pytest.approx(expected, rel=1e-12)


# -- relaying -----------------------------------------------------------------------------------------

RELAYED = [
    RelaySGD(unheard="own"),
    RelaySGD(unheard="previous", momentum=0.5),
    RelaySGD(unheard="initial", overlap=True),
    RelaySGDGrad(),
    RelaySGDMix(0.3),
]


@pytest.mark.parametrize(
    ("algorithm", "fault", "steps"),
    [(each, LinkFailure(0.3, 0.7), 5) for each in RELAYED]
    + [(each, MessageDrop([0.3, 0.6]), 3) for each in RELAYED[:2]],
    ids=str,
)
def test_the_mean_of_what_is_relayed_is_the_sum_over_all_losses(algorithm, fault, steps):
    problem, x0 = problem_of(CHAIN), start_of(CHAIN)
    given = problem, CHAIN, algorithm, 0.3, fault
    iterates, _ = enumerated(*given, steps, x0)
    found = relay_under_faults(*given, x0=x0).iterates(steps)
    np.testing.assert_allclose(found, iterates, rtol=1e-12, atol=1e-13)


def test_where_relayed_means_rest_is_what_is_said_of_them():
    tree, p = rs.topologies.binary_tree(7), 0.3
    problem, x0 = problem_of(tree, 2), start_of(tree, 2)
    hops = csgraph.shortest_path(tree.adjacency, unweighted=True)

    def rest(algorithm, rate):
        return relay_under_faults(problem, tree, algorithm, rate, MessageDrop(p), x0=x0)

    found = rest(RelaySGD(unheard="own"), 0.3)
    np.testing.assert_allclose(found.heard, (1 - p) ** hops, atol=1e-15)
    np.testing.assert_allclose(found.iterates(3000)[-1], found.fixed_point, atol=1e-10)
    sums = problem.gradient(found.fixed_point).sum(axis=0)
    np.testing.assert_allclose(sums, 0, atol=1e-11)
    counts = found.heard.sum(axis=0)
    previous = rest(RelaySGD(unheard="previous"), 0.3).fixed_point
    np.testing.assert_allclose(counts @ problem.gradient(previous), 0, atol=1e-11)
    assert np.abs(problem.gradient(previous).sum(axis=0)).max() > 1e-3
    # As γ → 0 it is their common optimum with these weights.
    A, b, c = problem.A, problem.b, counts[:, None, None]
    gram = (c * (A.transpose(0, 2, 1) @ A)).sum(axis=0)
    weighted = np.linalg.solve(
        gram, (c[..., 0] * (A.transpose(0, 2, 1) @ b[..., None])[..., 0]).sum(0)
    )
    slow = rest(RelaySGD(unheard="previous"), 1e-5).fixed_point
    np.testing.assert_allclose(slow, np.tile(weighted, (7, 1)), atol=1e-3)
    held = np.linalg.solve(7 * np.eye(7) - found.heard, (7 - counts)[:, None] * x0)
    slow = rest(RelaySGD(unheard="initial"), 1e-7).fixed_point
    np.testing.assert_allclose(slow, held, atol=1e-5)
    alone = rest(RelaySGDGrad(), 0.3).fixed_point
    np.testing.assert_allclose(problem.gradient(alone), 0, atol=1e-10)


@pytest.mark.parametrize("algorithm", [RelaySGD(momentum=0.5), RelaySGDGrad()], ids=str)
def test_where_nothing_is_lost_the_mean_is_the_affine_map(algorithm):
    given = problem_of(CHAIN, 2), CHAIN, algorithm, 0.2
    x0 = start_of(CHAIN, 2)
    linear, found = linearize(*given, x0=x0), relay_under_faults(*given, MessageDrop(0.0), x0=x0)
    np.testing.assert_allclose(found.iterates(30), linear.iterates(30), atol=1e-13)
    np.testing.assert_allclose(found.fixed_point, linear.fixed_point, atol=1e-11)
    assert found.spectral_radius == pytest.approx(linear.spectral_radius, rel=1e-9)


# -- drawn over a run ---------------------------------------------------------------------------------


def test_theory_over_a_run_with_faults_is_its_expectation():
    problem, fault = problem_of(RING, 2), MessageDrop(0.2)
    history = rs.simulate(
        problem,
        RING,
        DPSGD(),
        learning_rate=0.2,
        steps=30,
        replicas=3,
        faults=fault,
        oracle=rs.oracles.Gaussian(0.1),
    )
    found = rs.theory.overlay(history, "distance")
    exact = under_faults(problem, RING, DPSGD(), 0.2, fault)
    assert found.expected
    assert found.prediction.distance.tolist() == exact.predict(30, 0.1).distance.tolist()
    assert found.floor == pytest.approx(exact.stationary(0.1).distance, rel=1e-12)
    labels = [line.get_label() for line in history.plot("distance", theory=True).lines]
    assert {"exact expectation", "exact expected floor"} <= set(labels)
    with pytest.raises(ValueError, match="worst_distance' is not known"):
        rs.theory.overlay(
            rs.simulate(
                problem,
                RING,
                DPSGD(),
                learning_rate=0.2,
                steps=2,
                faults=fault,
                measures=["worst_distance"],
            ),
            "worst_distance",
        )


def test_averaging_has_its_rate_drawn_over_it():
    history = rs.simulate(
        problem_of(RING),
        RING,
        DPSGD(),
        learning_rate=0.0,
        steps=80,
        x0=start_of(RING),
        faults=LinkFailure(0.2, 0.3),
    )
    found = rs.theory.overlay(history, "consensus_distance")
    assert found.asymptote is not None
    late = found.prediction.consensus_distance[79:]
    assert late[80] / late[79] == pytest.approx(found.spectral_radius**2, rel=1e-3)
    assert late[80] < 1e-6 * found.prediction.consensus_distance[0]


# -- what is refused ----------------------------------------------------------------------------------

LARGE = rs.topologies.torus(4, 4)


@pytest.mark.parametrize(
    ("topology", "algorithm", "fault", "kind", "words"),
    [
        (RING, DPSGD(), Delay(0.1, 2), ValueError, "known under one of"),
        (RING, DPSGD(), All(MessageDrop(0.1), LinkFailure(0.1, 0.2)), ValueError, "by itself"),
        (RING, DPSGD(), 0.1, TypeError, "no kind of fault"),
        (RING, SGP(), MessageDrop(0.1), ValueError, "other matrices than that of its step"),
        (RING, GradientTracking("atc"), MessageDrop(0.1), ValueError, "it has no exact moments"),
        (RING, ChocoSGD(rs.compressors.TopK(1)), MessageDrop(0.1), ValueError, "no rule for lost"),
        (RING, AllReduce(), MessageDrop(0.1), ValueError, "no messages to lose"),
        (RING, DPSGD(), MessageDrop([0.1]), ValueError, "one for each of topology.edges"),
        (CHAIN, RelaySGD(), MessageDrop(0.1), ValueError, "relay_under_faults"),
        (
            LARGE,
            DPSGD(),
            LinkFailure(0.1, 0.2),
            ValueError,
            "each of 32 links .* repair = 1 − fail",
        ),
        (LARGE, DPSGD(), BurstLoss(0.1, 0.2), ValueError, "recover = 1 − lose"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused(topology, algorithm, fault, kind, words):
    with pytest.raises(kind, match=words):
        under_faults(problem_of(topology), topology, algorithm, 0.1, fault)


class Twice(DPSGD):
    """X ← W W (X − γG): what the second W makes of what was lost of the first."""

    def step(self, state, round):
        half = round.mix(round.descend(state.x, round.gradient(state.x)))
        return state._replace(x=round.mix(half))


@pytest.mark.parametrize("fault", [MessageDrop(0.1), LinkFailure(0.1, 0.3)], ids=str)
def test_weights_that_multiply_each_other_are_refused(fault):
    with pytest.raises(ValueError, match="not affine in each weight"):
        under_faults(problem_of(CHAIN), CHAIN, Twice(), 0.1, fault)


def test_rows_that_do_not_sum_to_1_are_refused():
    columns = rs.mixing.metropolis(CHAIN) * np.array([0.5, 1.0, 1.0])
    with pytest.raises(ValueError, match="rows that do not sum to 1"):
        MixedStep(
            problem_of(CHAIN), CHAIN, DPSGD(), 0.1, (csr_array(columns),), start_of(CHAIN), True
        )


def test_maps_take_the_memory_that_they_are_said_to_need(monkeypatch):
    needed = []
    module = sys.modules["relaysim.theory.under_faults"]  # the function has its name
    monkeypatch.setattr(module, "require_memory", lambda size, *_: needed.append(size))
    given = (problem_of(RING, d=6), RING, DPSGD(), 0.1, LinkFailure(0.2, 0.5))
    under_faults(*given)  # what is kept from then on is there
    tracemalloc.start()
    under_faults(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.4 * needed[0] < peak < needed[0]


def test_other_refusals():
    problem = problem_of(CHAIN)
    with pytest.raises(ValueError, match="learning_rate"):
        under_faults(problem, CHAIN, DPSGD(), -0.1, MessageDrop(0.1))
    star = rs.topologies.star(23)
    with pytest.raises(ValueError, match="of 22 kinds"):
        expected_mixing(star, MessageDrop(np.linspace(0.1, 0.2, 22)))
    found = under_faults(problem, CHAIN, DPSGD(), 0.0, MessageDrop(0.1))
    with pytest.raises(ValueError, match="comes to no rest at learning rate 0"):
        found.stationary()
    with pytest.raises(ValueError, match="sigma2"):
        found.predict(3, -1.0)
    turning = under_faults(problem, CHAIN, DPSGD(), 0.1, LinkFailure(1.0, 1.0))
    with pytest.raises(ValueError, match="nothing settles"):
        turning.fixed_point  # noqa: B018
    with pytest.raises(ValueError, match="one matrix"):
        expected_mixing(CHAIN, MessageDrop(0.1), [np.eye(3), rs.mixing.metropolis(CHAIN)])


@pytest.mark.parametrize(
    ("topology", "algorithm", "fault", "words"),
    [
        (CHAIN, DPSGD(), MessageDrop(0.1), "does not relay"),
        (CHAIN, RelaySGD(unheard="counts"), MessageDrop(0.1), "how many were heard"),
        (CHAIN, RelaySGD(), LinkFailure(0.1, 0.2), "depends on what was lost before"),
        (CHAIN, RelaySGD(repair=TRIANGLE), LinkFailure(0.1, 0.9), "repairs its tree"),
        (rs.topologies.double_binary_tree(4), RelaySGD(), MessageDrop(0.1), "two trees"),
    ],
    ids=str,
)
def test_means_of_relaying_that_are_not_known(topology, algorithm, fault, words):
    with pytest.raises(ValueError, match=words):
        relay_under_faults(problem_of(topology, 2), topology, algorithm, 0.1, fault)


def test_moments_that_do_not_fit_beside_each_other_are_refused(monkeypatch):
    lossy = under_faults(problem_of(RING, d=6), RING, DPSGD(), 0.1, LinkFailure(0.1, 0.3))
    assert lossy.rate < 1
    monkeypatch.setattr("relaysim.support.checks.memory_bytes", lambda: 1e6)
    for call in (lambda: lossy.stationary(0.1), lambda: lossy._rate(lossy._apart)):
        with pytest.raises(
            ValueError, match=r"vectors of \d+ second moments would take .* or simulate it"
        ):
            call()
