"""Lost messages against a slow transcription that loses the same ones."""

import numpy as np
import pytest

import relaysim as rs
from relaysim.support.streams import Streams

PROBLEM = rs.problems.random_quadratics(n=7, d=3, zeta2=2.0, seed=4)
START = np.random.default_rng(8).normal(size=(7, 3))
DROP, RATE, STEPS = 0.3, 0.1, 25


def losses(seed, messages):
    """Which messages arrive, call by call, drawn from a generator of the same seed."""
    generator = Streams([seed], None).generator("faults", seed)
    while True:
        yield generator.random(messages) >= DROP


def relay_slowly(topology, unheard, seed):
    """RelaySGD worker by worker, message by message."""
    n, edges = topology.n, list(zip(topology.src.tolist(), topology.dst.tolist(), strict=True))
    neighbours = [[s for s, t in edges if t == i] for i in range(n)]
    x = START.copy()
    message = {edge: np.zeros(3) for edge in edges}
    count = dict.fromkeys(edges, 0)
    draws = losses(seed, len(edges))
    for _ in range(STEPS):
        half = x - RATE * PROBLEM.gradient(x)
        arrived = dict(zip(edges, next(draws), strict=True))
        sent, sent_count = {}, {}
        for i, j in edges:
            others = [k for k in neighbours[i] if k != j]
            sent[i, j] = half[i] + sum((message[k, i] for k in others), np.zeros(3))
            sent_count[i, j] = 1 + sum(count[k, i] for k in others)
            if not arrived[i, j]:
                sent[i, j], sent_count[i, j] = np.zeros(3), 0
        message, count = sent, sent_count
        new = np.empty_like(x)
        for i in range(n):
            total = half[i] + sum(message[k, i] for k in neighbours[i])
            heard = 1 + sum(count[k, i] for k in neighbours[i])
            if unheard == "counts":
                new[i] = total / heard
            else:
                stand_in = {"initial": START[i], "previous": x[i], "own": half[i]}[unheard]
                new[i] = (total + (n - heard) * stand_in) / n
        x = new
    return x


@pytest.mark.parametrize("unheard", ["initial", "previous", "own", "counts"])
@pytest.mark.parametrize("topology", [rs.topologies.chain(7), rs.topologies.star(7)], ids=repr)
def test_relay_loses_messages_with_their_counts(topology, unheard):
    history = rs.simulate(
        PROBLEM,
        topology,
        rs.algorithms.RelaySGD(unheard=unheard),
        learning_rate=RATE,
        steps=STEPS,
        x0=START,
        faults=rs.faults.MessageDrop(DROP),
        seed=[5, 6],
    )
    for k, seed in enumerate((5, 6)):
        expected = relay_slowly(topology, unheard, seed)
        np.testing.assert_allclose(history.x[..., k], expected, rtol=1e-11, atol=1e-12)


def mix_slowly(W, x, arrived):
    """Rows without the weights of lost messages, scaled to sum to 1; W's off-diagonal by row."""
    new = np.empty_like(x)
    arrived = iter(arrived)
    for i in range(len(x)):
        weights = {i: W[i, i]}
        for j in np.flatnonzero(W[i]):
            if j != i and next(arrived):
                weights[j] = W[i, j]
        total = sum(weights.values())
        new[i] = sum(w * x[j] for j, w in weights.items()) / total if total else x[i]
    return new


@pytest.mark.parametrize("name", ["DPSGD", "D2", "GradientTracking"])
def test_gossip_rescales_the_rows_that_lost_a_neighbour(name):
    topology = rs.topologies.ring(7)
    W = rs.mixing.metropolis(topology).toarray()
    history = rs.simulate(
        PROBLEM,
        topology,
        getattr(rs.algorithms, name)(),
        learning_rate=RATE,
        steps=STEPS,
        x0=START,
        faults=rs.faults.MessageDrop(DROP),
        seed=9,
    )
    draws = losses(9, 14)
    x, correction = START.copy(), np.zeros_like(START)
    for _ in range(STEPS):
        gradient = PROBLEM.gradient(x)
        if name == "DPSGD":
            x = mix_slowly(W, x - RATE * gradient, next(draws))
        elif name == "D2":
            new = mix_slowly(W, x - RATE * gradient + correction, next(draws))
            correction = new - (x - RATE * gradient)
            x = new
        else:
            y = gradient - correction
            x = mix_slowly(W, x - RATE * y, next(draws))
            correction = gradient - mix_slowly(W, y, next(draws))
    np.testing.assert_allclose(history.x, x, rtol=1e-11, atol=1e-12)


def test_sgp_keeps_its_own_where_its_peer_was_not_heard():
    history = rs.simulate(
        PROBLEM,
        rs.topologies.chain(7),
        rs.algorithms.SGP(),
        learning_rate=0.0,
        steps=3,
        x0=START,
        faults=rs.faults.MessageDrop(1.0),
    )
    np.testing.assert_array_equal(history.x, START)


def test_a_worker_without_weight_of_its_own_keeps_its_own():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    problem = rs.problems.DiagonalQuadratic(np.ones((2, 1)), np.array([[1.0], [3.0]]))
    history = rs.simulate(
        problem,
        rs.topologies.chain(2),
        rs.algorithms.DPSGD(),
        learning_rate=0.0,
        steps=4,
        x0=np.array([[1.0], [2.0]]),
        mixing=swap,
        faults=rs.faults.MessageDrop(1.0),
    )
    np.testing.assert_array_equal(history.x, [[1.0], [2.0]])


@pytest.mark.parametrize("name", ["RelaySGD", "RelaySGDGrad", "RelaySGDMix", "DPSGD", "SGP", "D2"])
def test_no_losses_is_no_faults_and_losses_still_count_as_sent(name):
    arguments = {
        "problem": PROBLEM,
        "topology": rs.topologies.chain(7),
        "algorithm": getattr(rs.algorithms, name)(),
        "learning_rate": RATE,
        "steps": 20,
        "x0": START,
    }
    plain = rs.simulate(**arguments)
    never = rs.simulate(**arguments, faults=rs.faults.MessageDrop(0.0))
    always = rs.simulate(**arguments, faults=rs.faults.MessageDrop(1.0))
    np.testing.assert_array_equal(plain.x, never.x)
    assert not np.allclose(plain.x, always.x)
    assert always.frame.vectors_sent.tolist() == plain.frame.vectors_sent.tolist()


def test_the_fraction_lost_and_seeds():
    arrived = rs.faults.MessageDrop(0.1).arrivals(Streams([0, 1], np.array([0, 1, 0])))(200_000)
    assert arrived.shape == (200_000, 1, 3)
    np.testing.assert_allclose(1 - arrived.mean(axis=(0, 1)), 0.1, atol=4 * np.sqrt(0.09 / 200_000))
    np.testing.assert_array_equal(arrived[..., 0], arrived[..., 2])
    assert (arrived[..., 0] != arrived[..., 1]).any()


@pytest.mark.parametrize("topology", ["binary_tree", "double_binary_tree"])
def test_a_replica_that_loses_messages_equals_its_run_alone(topology):
    arguments = {
        "problem": PROBLEM,
        "topology": getattr(rs.topologies, topology)(7),
        "algorithm": rs.algorithms.RelaySGD(unheard="previous"),
        "steps": 100,
        "faults": rs.faults.MessageDrop(0.1),
    }
    together = rs.simulate(**arguments, learning_rate=[0.05, 0.2], seed=[3, 4])
    for k, (rate, seed) in enumerate([(0.05, 3), (0.05, 4), (0.2, 3), (0.2, 4)]):
        alone = rs.simulate(**arguments, learning_rate=rate, seed=seed)
        np.testing.assert_allclose(together.x[..., k], alone.x, rtol=0, atol=1e-13)


def test_a_run_with_losses_is_saved_and_rebuilt(tmp_path):
    history = rs.simulate(
        PROBLEM,
        rs.topologies.chain(7),
        rs.algorithms.RelaySGD(),
        learning_rate=RATE,
        steps=10,
        faults=rs.faults.MessageDrop(0.25),
    )
    loaded = rs.History.load(history.save(tmp_path / "lossy"))
    again = rs.simulate(**rs.rebuild(loaded.config))
    np.testing.assert_array_equal(again.x, history.x)


@pytest.mark.parametrize(
    ("faults", "algorithm", "error", "message"),
    [
        (0.1, "RelaySGD", TypeError, "no kind of fault"),
        (rs.faults.MessageDrop(0.1), "AllReduce", ValueError, "no messages to lose"),
    ],
)
def test_bad_input(faults, algorithm, error, message):
    with pytest.raises(error, match=message):
        rs.simulate(
            PROBLEM,
            rs.topologies.chain(7),
            getattr(rs.algorithms, algorithm)(),
            learning_rate=0.1,
            steps=1,
            faults=faults,
        )


@pytest.mark.parametrize("probability", [-0.1, 1.1, np.nan, "a"])
def test_bad_probability(probability):
    with pytest.raises((ValueError, TypeError), match="probability must"):
        rs.faults.MessageDrop(probability)
