"""Lost messages against a slow transcription that loses the same ones."""

import dataclasses

import numpy as np
import pytest
import slow
from methods import ALGORITHMS, ASYNCHRONOUS

import relaysim as rs
from relaysim.network.arrivals import Arrivals
from relaysim.studies.naming import FAULTS, named, written
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


@pytest.mark.parametrize("name", ["DPSGD", "D2", "ExactDiffusion", "GradientTracking"])
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
        elif name in ("D2", "ExactDiffusion"):
            used = W if name == "D2" else (W + np.eye(7)) / 2
            new = mix_slowly(used, x - RATE * gradient + correction, next(draws))
            correction = new - (x - RATE * gradient)
            x = new
        else:
            y = gradient - correction
            x = mix_slowly(W, x - RATE * y, next(draws))
            correction = gradient - mix_slowly(W, y, next(draws))
    np.testing.assert_allclose(history.x, x, rtol=1e-11, atol=1e-12)


# A control's further rounds have numbers of their own: see tests/test_products.py.
WRITTEN = [
    a
    for a in ALGORITHMS
    if "lost messages" in a.faults and not isinstance(a, rs.algorithms.ConsensusControl)
]


@pytest.mark.parametrize("algorithm", WRITTEN, ids=repr)
@pytest.mark.parametrize("name", ["chain", "star", "binary_tree"])
def test_every_method_that_may_lose_messages_follows_its_rule_on_paper(algorithm, name):
    topology = getattr(rs.topologies, name)(7)
    generator = Streams([6], None).generator("faults", 6)

    def arrives(edges, step, further):
        return generator.random(len(edges)) >= DROP

    def gradient(step, worker, x):
        return PROBLEM.gradient(np.tile(x, (7, 1)))[worker]

    rates = [RATE] * STEPS
    expected = slow.run(algorithm, topology, gradient, START, rates, arrives=arrives, seed=6)
    history = rs.simulate(
        PROBLEM,
        topology,
        algorithm,
        learning_rate=RATE,
        steps=STEPS,
        x0=START,
        faults=rs.faults.MessageDrop(DROP),
        seed=6,
        keep_iterates=True,
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("rate", [0.0, RATE])
@pytest.mark.parametrize(
    "topology", [rs.topologies.chain(3), rs.topologies.ring(7), rs.topologies.star(7)], ids=repr
)
def test_exact_diffusion_is_d2_with_the_lazy_matrix_whatever_is_lost(topology, rate):
    n = topology.n
    run = {
        "problem": rs.problems.random_quadratics(n=n, d=3, zeta2=2.0, seed=4),
        "topology": topology,
        "learning_rate": rate,
        "steps": STEPS,
        "x0": START[:n],
        "faults": rs.faults.MessageDrop(DROP),
        "seed": [1, 2, 3],
    }
    W = rs.mixing.metropolis(topology).toarray()
    lazy = rs.simulate(**run, algorithm=rs.algorithms.D2(), mixing=(W + np.eye(n)) / 2)
    ours = rs.simulate(**run, algorithm=rs.algorithms.ExactDiffusion())
    np.testing.assert_allclose(ours.x, lazy.x, rtol=1e-12, atol=1e-12)


def test_exact_diffusion_among_three_workers_that_hear_each_other_once():
    """0 hears 1 in the first round and nobody hears anyone later; W̃'s row is (5/6, 1/6, 0) rescaled."""

    class Once(Silence):
        def arrivals(self, edges, round):
            return (edges[:, 0] == 1) & (edges[:, 1] == 0) & (round == 0)

    history = rs.simulate(
        rs.problems.DiagonalQuadratic(np.ones((3, 1)), np.zeros((3, 1))),
        rs.topologies.chain(3),
        rs.algorithms.ExactDiffusion(),
        learning_rate=0.0,
        steps=3,
        x0=np.array([[0.0], [12.0], [0.0]]),
        faults=Once(0, 0),
        keep_iterates=True,
    )
    # W's row of worker 0 is (2/3, 1/3, 0); D² goes on by what moved in the step before.
    np.testing.assert_allclose(history.iterates[:, 0, 0], [0.0, 2.0, 4.0, 6.0], rtol=1e-14)


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


def wire(faults, topology, seeds=(0,), owner=None):
    """What the network asks in a run with these faults, always in step 0."""
    streams = Streams(list(seeds), None if owner is None else np.array(owner))
    return Arrivals(faults, topology, streams, lambda: 0)


def test_the_fraction_lost_and_seeds():
    ask = wire(rs.faults.MessageDrop(0.1), rs.topologies.chain(2), (0, 1), (0, 1, 0))
    arrived = ask(np.zeros((200_000, 2), dtype=int))
    assert arrived.shape == (200_000, 1, 3)
    np.testing.assert_allclose(1 - arrived.mean(axis=(0, 1)), 0.1, atol=4 * np.sqrt(0.09 / 200_000))
    np.testing.assert_array_equal(arrived[..., 0], arrived[..., 2])
    assert (arrived[..., 0] != arrived[..., 1]).any()


def test_each_edge_may_lose_its_own_share_in_both_directions():
    star, rates = rs.topologies.star(5), np.array([0.0, 0.2, 0.5, 1.0])
    ask = wire(rs.faults.MessageDrop(rates), star)
    edges = np.repeat(np.stack([star.src, star.dst], axis=1), 20_000, axis=0)
    lost = 1 - ask(edges).reshape(8, -1).mean(axis=1)
    leaf = np.maximum(star.src, star.dst)
    np.testing.assert_allclose(lost, rates[leaf - 1], atol=4 * np.sqrt(0.25 / 20_000))
    assert lost[leaf == 1].max() == 0
    assert lost[leaf == 4].min() == 1


def test_an_edge_that_always_loses_is_an_edge_that_is_not_there():
    ring = rs.topologies.ring(7)
    cut = [float(edge == [0, 6]) for edge in ring.edges.tolist()]
    run = {"problem": PROBLEM, "learning_rate": RATE, "steps": STEPS, "x0": START}
    method = rs.algorithms.DPSGD()
    faults = rs.faults.MessageDrop(cut)
    lossy = rs.simulate(**run, topology=ring, algorithm=method, faults=faults)
    W = rs.mixing.metropolis(ring).toarray()
    W[0, 6] = W[6, 0] = 0
    W /= W.sum(axis=1, keepdims=True)
    chain = rs.simulate(**run, topology=rs.topologies.chain(7), algorithm=method, mixing=W)
    np.testing.assert_allclose(lossy.x, chain.x, rtol=0, atol=1e-13)


@dataclasses.dataclass(frozen=True)
class Silence:
    """A fault of one's own: nothing that a worker sends arrives from a step on."""

    worker: int
    since: int

    def arrivals(self, edges, round):
        return (edges[:, 0] != self.worker) | (round < self.since)


def test_a_fault_of_ones_own_sees_both_ends_and_the_step():
    seen = []

    class Watching(Silence):
        def arrivals(self, edges, round):
            seen.append((int(round), edges.tolist()))
            return super().arrivals(edges, round)

    star = rs.topologies.star(7)
    run = {"problem": PROBLEM, "topology": star, "learning_rate": 0.0, "x0": START}
    gossip = rs.simulate(
        **run, algorithm=rs.algorithms.DPSGD(), steps=4, faults=Watching(0, 2), replicas=2
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert sorted(seen[0][1]) == sorted(np.stack([star.src, star.dst], axis=1).tolist())
    free = rs.simulate(**run, algorithm=rs.algorithms.DPSGD(), steps=2)
    for k in range(2):  # leaves hear nobody from step 2 on
        np.testing.assert_allclose(gossip.x[1:, :, k], free.x[1:], rtol=0, atol=1e-14)
    longer = rs.simulate(**run, algorithm=rs.algorithms.DPSGD(), steps=4)
    assert np.abs(gossip.x[1:, :, 0] - longer.x[1:]).max() > 1e-3
    seen.clear()
    rs.simulate(**run, algorithm=rs.algorithms.RelaySGD(), steps=2, faults=Watching(0, 9))
    assert seen[1] == (1, np.stack([star.src, star.dst], axis=1).tolist())


def test_what_a_fault_says_is_looked_at():
    class Wrong(Silence):
        def arrivals(self, edges, round):
            return np.ones(3)

    with pytest.raises(
        ValueError, match=r"says of 12 messages .* shape \(3,\); it must be \(12,\)"
    ):
        rs.simulate(
            PROBLEM,
            rs.topologies.chain(7),
            rs.algorithms.DPSGD(),
            learning_rate=0.1,
            steps=1,
            faults=Wrong(0, 0),
        )


CONTROLLED = (
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), 0.05),
    rs.algorithms.ConsensusControl(rs.algorithms.D2(), ((0, 0.5), (5, 0.01)), most_rounds=7),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(momentum=0.5), rs.algorithms.Critical(1.0)),
)


@pytest.mark.parametrize("algorithm", CONTROLLED, ids=repr)
def test_rounds_that_others_make_change_nothing(algorithm):
    run = {
        "problem": PROBLEM,
        "topology": rs.topologies.chain(7),
        "algorithm": algorithm,
        "steps": 30,
        "faults": rs.faults.MessageDrop(0.2),
    }
    together = rs.simulate(**run, learning_rate=[0.05, 0.5], seed=[3, 4])
    sent = together.frame.groupby("replica").vectors_sent.last()
    assert sent.nunique() > 1
    for k, (rate, seed) in enumerate([(0.05, 3), (0.05, 4), (0.5, 3), (0.5, 4)]):
        alone = rs.simulate(**run, learning_rate=rate, seed=seed)
        np.testing.assert_allclose(together.x[..., k], alone.x, rtol=0, atol=1e-13)
        assert sent[k] == alone.frame.vectors_sent.iloc[-1]


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


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *ASYNCHRONOUS], ids=repr)
def test_what_a_method_does_not_claim_is_refused(algorithm):
    topology = rs.topologies.chain(7)
    run = {"topology": topology, "algorithm": algorithm, "learning_rate": 0.01, "steps": 12}
    lossy = {"faults": rs.faults.MessageDrop(0.5), "seed": 3, "x0": START}
    if "lost messages" in algorithm.faults:
        found = rs.simulate(PROBLEM, **run, **lossy)
        assert np.abs(found.x - rs.simulate(PROBLEM, **run, x0=START).x).max() > 1e-6
    else:
        with pytest.raises(
            ValueError, match=r"(no rule for lost messages|no messages to lose).* leave"
        ):
            rs.simulate(PROBLEM, **run, **lossy)

    @dataclasses.dataclass(frozen=True)
    class Flood(rs.faults.Fault):
        kind = "floods"

    with pytest.raises(ValueError, match=r"no rule for floods|no messages to lose"):
        rs.simulate(PROBLEM, **run, faults=Flood())


def test_shares_that_do_not_fit_the_edges_are_refused():
    run = {"problem": PROBLEM, "learning_rate": 0.1, "steps": 1}
    ring, drop = rs.topologies.ring(7), rs.faults.MessageDrop
    with pytest.raises(ValueError, match=r"probability has 2 numbers and ring\(7\) has 7 edges"):
        rs.simulate(**run, topology=ring, algorithm=rs.algorithms.DPSGD(), faults=drop([0.1, 0.2]))
    with pytest.raises(ValueError, match="has no one list of edges"):
        rs.simulate(
            **run,
            topology=rs.topologies.double_binary_tree(7),
            algorithm=rs.algorithms.RelaySGD(),
            faults=drop([0.1] * 6),
        )
    with pytest.raises(ValueError, match=r"crosses no edge of ring\(7\)"):
        rs.simulate(**run, topology=ring, algorithm=rs.algorithms.SGP(), faults=drop([0.1] * 7))


def test_a_row_that_cannot_be_scaled_is_refused():
    """A center of weight −1/3 that hears one leaf of weight 1/3 had a row of sum 1e-17, and ended at 1e16."""
    star = rs.topologies.star(5)
    W = rs.mixing.best_constant(star)
    assert W.diagonal().min() < -0.3
    problem = rs.problems.DiagonalQuadratic(np.ones((5, 1)), np.arange(5.0)[:, None])
    run = {"problem": problem, "topology": star, "learning_rate": 0.1, "steps": 3, "mixing": W}
    with pytest.raises(
        ValueError, match=r"worker 0 the weight -0\.3333 for worker 0: use .*metropolis"
    ):
        rs.simulate(**run, algorithm=rs.algorithms.DPSGD(), faults=rs.faults.MessageDrop(0.5))
    rs.simulate(**run, algorithm=rs.algorithms.DPSGD(), faults=rs.faults.MessageDrop(0.0))


REFUSED = [
    ("SGP", rs.faults.MessageDrop([0.1] * 7), r"crosses no edge of ring\(7\)"),
    ("SGP", rs.faults.Crash(0.1), "SGP has no rule for workers that stop"),
    ("EXTRA", rs.faults.Delay(0.1), "EXTRA has no rule for late messages"),
    ("EXTRA", rs.faults.Corrupt(0.1), "EXTRA has no rule for altered messages"),
    ("EXTRA", rs.faults.Byzantine([0]), "EXTRA has no rule for Byzantine workers"),
    ("A2CiD2", rs.faults.Straggler(0.1), "A2CiD2 has no rule for late gradients"),
    ("AllReduce", rs.faults.LinkFailure(0.1, 0.1), "AllReduce averages exactly"),
    ("DPSGD", rs.faults.Byzantine([0, 1, 2, 3]), "4 of 7 workers are Byzantine"),
    ("DPSGD", rs.faults.Crash(0.1, workers=[7]), "Crash names worker 7; there are 0 to 6"),
    (
        "DPSGD",
        [rs.faults.MessageDrop(0.1)],
        r"no kind of fault; .*of which All\(a, b\) takes several",
    ),
    ("SGP", "a trace", "nothing crossed from worker . to worker . in the run that the trace is of"),
]


@pytest.mark.parametrize(("method", "faults", "message"), REFUSED)
def test_what_has_no_rule_is_refused_in_a_sentence_before_anything_starts(method, faults, message):
    class Watched(type(PROBLEM)):
        def gradient(self, *args, **options):
            raise AssertionError("a gradient was asked for")

    watched = Watched(PROBLEM.A, PROBLEM.b)
    run = {"topology": rs.topologies.ring(7), "learning_rate": 0.1, "steps": 1}
    if faults == "a trace":
        drop = {"faults": rs.faults.MessageDrop(0.1), "keep_faults": True}
        kept = rs.simulate(PROBLEM, **run, **drop, algorithm=rs.algorithms.DPSGD())
        faults = rs.faults.Replay(kept.trace)
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        rs.simulate(watched, **run, algorithm=getattr(rs.algorithms, method)(), faults=faults)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "probability", [[0.1, 1.1], [0.5, np.nan], [[0.1]], -0.1, 1.1, np.nan, "a"]
)
def test_bad_probability(probability):
    with pytest.raises((ValueError, TypeError), match="probability must"):
        rs.faults.MessageDrop(probability)


# -- bursts and links ------------------------------------------------------------------------------


def chain_on_paper(seed, things, fail, repair):
    """Step by step, which of so many things are out of order, one by one."""
    generator = Streams([seed], None).generator("faults", seed)
    failed = [False] * things
    while True:
        drawn = generator.random(things)
        failed = [u < (1 - repair if was else fail) for was, u in zip(failed, drawn, strict=True)]
        yield failed


def messages_of(topology):
    """Both directions of all edges, by receiver."""
    trees = (topology.first, topology.second) if hasattr(topology, "first") else (topology,)
    found = {pair for tree in trees for a, b in tree.edges.tolist() for pair in ((a, b), (b, a))}
    return sorted(found, key=lambda edge: edge[::-1])


def outages_on_paper(faults, topology, seed):
    """What `slow.run` asks of arrivals: a link loses in both directions, a burst in one."""
    wires = messages_of(topology)
    links = sorted(edge for edge in wires if edge[0] < edge[1])
    if isinstance(faults, rs.faults.BurstLoss):
        things, options = wires, (faults.lose, faults.recover)
    else:
        things, options = links, (faults.fail, faults.repair)
    steps, states = chain_on_paper(seed, len(things), *options), []

    def arrives(edges, step, further):
        while len(states) <= step:
            states.append(dict(zip(things, next(steps), strict=True)))
        failed = states[step]
        return [not failed[e if e in failed else e[::-1]] for e in edges]

    return arrives


# One that brings its own network is refused: the topology knows nothing of its edges.
ON_THE_TOPOLOGY = [a for a in WRITTEN if getattr(a, "network", "topology") == "topology"]


@pytest.mark.parametrize("algorithm", ON_THE_TOPOLOGY, ids=repr)
@pytest.mark.parametrize("faults", [rs.faults.BurstLoss(0.3, 0.4), rs.faults.LinkFailure(0.2, 0.3)])
def test_every_method_goes_on_while_links_are_down(algorithm, faults):
    topology, steps = rs.topologies.binary_tree(7), 12

    def gradient(step, worker, x):
        return PROBLEM.gradient(np.tile(x, (7, 1)))[worker]

    arrives = outages_on_paper(faults, topology, 6)
    expected = slow.run(
        algorithm, topology, gradient, START, [RATE] * steps, arrives=arrives, seed=6
    )
    history = rs.simulate(
        PROBLEM,
        topology,
        algorithm,
        learning_rate=RATE,
        steps=steps,
        x0=START,
        faults=faults,
        seed=6,
        keep_iterates=True,
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)


OUTAGES = (rs.faults.BurstLoss(0.2, 0.3), rs.faults.LinkFailure(0.2, 0.3))


@pytest.mark.parametrize("faults", OUTAGES, ids=repr)
@pytest.mark.parametrize("algorithm", [rs.algorithms.RelaySGD(), rs.algorithms.GradientTracking()])
def test_outages_go_on_with_a_run_and_belong_to_each_replica(tmp_path, faults, algorithm):
    run = {
        "problem": PROBLEM,
        "topology": rs.topologies.chain(7),
        "algorithm": algorithm,
        "learning_rate": RATE,
        "x0": START,
        "faults": faults,
    }
    whole = rs.simulate(**run, steps=30, seed=[5, 6])
    part = rs.simulate(**run, steps=11, seed=[5, 6])
    loaded = rs.History.load(part.save(tmp_path / "part"))
    np.testing.assert_array_equal(loaded.extend(19).x, whole.x)
    for k, seed in enumerate((5, 6)):
        alone = rs.simulate(**run, steps=30, seed=seed)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)


def test_bursts_without_memory_are_independent_losses():
    run = {"problem": PROBLEM, "learning_rate": RATE, "steps": STEPS, "x0": START, "replicas": 3}
    for algorithm in (rs.algorithms.DPSGD(), rs.algorithms.RelaySGD()):
        of = run | {"topology": rs.topologies.star(7), "algorithm": algorithm}
        drop = rs.simulate(**of, faults=rs.faults.MessageDrop(DROP))
        burst = rs.simulate(**of, faults=rs.faults.BurstLoss(DROP, 1 - DROP))
        np.testing.assert_array_equal(burst.x, drop.x)


@pytest.mark.parametrize("faults", OUTAGES, ids=repr)
def test_outages_last_as_long_and_are_as_many_as_they_say(faults):
    ring, steps = rs.topologies.ring(40), 400
    now = [0]
    ask = Arrivals(faults, ring, Streams([1, 2, 3], np.arange(3)), lambda: now[0])
    edges, found = np.stack([ring.src, ring.dst], axis=1), []
    for step in range(steps):
        now[0] = step
        found.append(~ask(edges)[:, 0])
    down = np.array(found)
    # Neighbouring steps are alike: of so many only a part, (2 − f − r)/(f + r), tells something new.
    effective = down[100:].size / 2 * 0.5 / 1.5
    limit = 4 * np.sqrt(faults.share * (1 - faults.share) / effective)
    assert abs(down[100:].mean() - faults.share) < limit
    ended = (down[:-1] & ~down[1:]).sum() / down[:-1].sum()
    assert abs(ended - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (down[:-1].sum() / 2))
    both = (down == down[:, ring.reverse]).all()
    assert both == isinstance(faults, rs.faults.LinkFailure)


def test_a_link_that_stays_down_is_an_edge_that_is_not_there():
    """With fail = 1 and repair = 0 nobody hears anyone: gossip is gradient descent of each worker."""
    history = rs.simulate(
        PROBLEM,
        rs.topologies.ring(7),
        rs.algorithms.DPSGD(),
        learning_rate=RATE,
        steps=9,
        x0=START,
        faults=rs.faults.LinkFailure(1.0, 0.0),
    )
    x = START
    for _ in range(9):
        x = x - RATE * PROBLEM.gradient(x)
    np.testing.assert_allclose(history.x, x, rtol=1e-14)


def test_two_trees_share_their_links():
    pair = rs.topologies.double_binary_tree(8)
    run = {"learning_rate": RATE, "steps": 12, "x0": np.ones(4)}
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    faults = rs.faults.LinkFailure(0.2, 0.3)

    def gradient(step, worker, x):
        return problem.gradient(np.tile(x, (8, 1)))[worker]

    algorithm = rs.algorithms.RelaySGD(unheard="own")
    expected = slow.run(
        algorithm,
        pair,
        gradient,
        np.ones((8, 4)),
        [RATE] * 12,
        arrives=outages_on_paper(faults, pair, 2),
    )
    history = rs.simulate(problem, pair, algorithm, **run, faults=faults, seed=2)
    np.testing.assert_allclose(history.x, expected[-1], rtol=1e-12)


@pytest.mark.parametrize("kind", ["BurstLoss", "LinkFailure"])
def test_bad_outages(kind):
    make = getattr(rs.faults, kind)
    for bad in ((-0.1, 0.5), (0.5, 1.1), (np.nan, 0.5), (0.5, "a")):
        with pytest.raises((ValueError, TypeError), match="must"):
            make(*bad)
    run = {"learning_rate": 0.1, "steps": 1, "faults": make(0.1, 0.5)}
    with pytest.raises(ValueError, match=r"crosses no edge of ring\(7\).*no state of its own"):
        rs.simulate(PROBLEM, rs.topologies.ring(7), rs.algorithms.SGP(), **run)
    with pytest.raises(ValueError, match="AllReduce averages exactly and has no messages to lose"):
        rs.simulate(PROBLEM, rs.topologies.ring(7), rs.algorithms.AllReduce(), **run)


# -- several faults, their counts, and the same once more ------------------------------------------

TOGETHER = rs.faults.All(
    rs.faults.MessageDrop(0.2), rs.faults.LinkFailure(0.1, 0.4), rs.faults.BurstLoss(0.1, 0.5)
)
SOME = {"problem": PROBLEM, "topology": rs.topologies.ring(7), "learning_rate": RATE, "x0": START}


def test_of_several_faults_each_loses_what_it_would_alone():
    """Lost in step 0 together: what any of them loses, the k-th from the stream of its number."""
    ring = rs.topologies.ring(7)
    edges = np.stack([ring.src, ring.dst], axis=1)
    arrived = wire(TOGETHER, ring, (4,))(edges)[:, 0]
    streams = Streams([4], None)
    within = [(), (1,), (2,)]
    drop, link, burst = (streams.generator("faults", 4, *k).random(14) for k in within)
    links = ring.edges.tolist()
    for k, (i, j) in enumerate(edges.tolist()):
        lost = drop[k] < 0.2 or link[links.index(sorted((i, j)))] < 0.1 or burst[k] < 0.1
        assert arrived[k] != lost
    alone = wire(rs.faults.All(rs.faults.MessageDrop(0.2)), ring, (4,))(edges)
    np.testing.assert_array_equal(alone, wire(rs.faults.MessageDrop(0.2), ring, (4,))(edges))


@pytest.mark.parametrize("record", [1, 3])
def test_lost_messages_are_counted_since_the_record_before(record, tmp_path):
    run = SOME | {"algorithm": rs.algorithms.GradientTracking(), "faults": TOGETHER, "seed": [1, 2]}
    run |= {"record": record}
    history = rs.simulate(**run, steps=12, keep_faults=True)
    rounds = history.trace.count().reshape(12, 2, 2).sum(axis=1)  # two vectors a step
    by_step = rounds.reshape(-1, record, 2).sum(axis=1)
    for replica, found in history.faults.groupby("replica"):
        assert found.step.tolist() == history.frame.step[history.frame.replica == replica].tolist()
        assert found.lost_messages.tolist() == [0, *by_step[:, replica]]
    assert history.faults.lost_messages.sum() > 0
    assert history.fault_model == TOGETHER
    loaded = rs.History.load(history.save(tmp_path / "counted"))
    assert loaded.faults.equals(history.faults)
    assert loaded.trace == history.trace
    assert loaded.fault_model == TOGETHER
    part = rs.History.load(rs.simulate(**run, steps=5, keep_faults=True).save(tmp_path / "part"))
    longer = part.extend(7)
    assert longer.faults.equals(history.faults)
    assert longer.trace == history.trace
    assert rs.simulate(**SOME, algorithm=rs.algorithms.D2(), steps=2).faults is None


def test_replicas_that_leave_are_counted_up_to_there_and_the_others_go_on():
    run = SOME | {"algorithm": rs.algorithms.DPSGD(), "faults": TOGETHER, "steps": 60}
    together = rs.simulate(**run | {"learning_rate": [50.0, RATE]}, seed=3, keep_faults=True)
    assert together.diverged.tolist() == [True, False]
    alone = rs.simulate(**run, seed=3, keep_faults=True)
    ours = together.faults[together.faults.replica == 1].lost_messages
    assert ours.tolist() == alone.faults.lost_messages.tolist()
    np.testing.assert_array_equal(together.trace.count()[:, 1], alone.trace.count()[:, 0])


def test_a_trace_is_replayed_by_the_same_method_and_by_another(tmp_path):
    kept = rs.simulate(
        **SOME,
        algorithm=rs.algorithms.D2(),
        steps=20,
        seed=[3, 4],
        faults=TOGETHER,
        keep_faults=True,
    )
    replay = rs.faults.Replay(kept.trace)
    again = rs.simulate(**SOME, algorithm=rs.algorithms.D2(), steps=20, seed=[7, 8], faults=replay)
    np.testing.assert_array_equal(again.x, kept.x)
    # Another method loses what it would have lost itself: both ask once a step of the same edges.
    other = SOME | {"algorithm": rs.algorithms.DPSGD(momentum=0.5), "steps": 15}
    replayed = rs.simulate(**other, seed=[3, 4], faults=replay)
    np.testing.assert_array_equal(replayed.x, rs.simulate(**other, seed=[3, 4], faults=TOGETHER).x)
    rebuilt = rs.simulate(**rs.rebuild(rs.History.load(again.save(tmp_path / "again")).config))
    np.testing.assert_array_equal(rebuilt.x, kept.x)
    half = rs.simulate(**other | {"steps": 6}, seed=[3, 4], faults=replay)
    np.testing.assert_array_equal(half.extend(9).x, replayed.x)


def test_a_trace_of_a_run_in_which_nothing_can_be_lost_is_replayed_too():
    run = SOME | {"algorithm": rs.algorithms.D2(), "steps": 5, "keep_faults": True}
    kept = rs.simulate(**run, faults=rs.faults.MessageDrop(0.0))
    again = rs.simulate(**run, faults=rs.faults.Replay(kept.trace))
    np.testing.assert_array_equal(again.x, kept.x)
    assert again.trace == kept.trace


def test_what_cannot_happen_never_does():
    faults = rs.faults
    impossible = [
        faults.MessageDrop(0),
        faults.MessageDrop([0.0, 0.0]),
        faults.BurstLoss(0, 0.5),
        faults.LinkFailure(0, 0.5),
        faults.Crash(0),
        faults.Crash(0.5, workers=[]),
        faults.Straggler(0),
        faults.Straggler(0.5, workers=[]),
        faults.Delay(0),
        faults.Corrupt(0),
    ]
    assert all(fault.never for fault in impossible)
    assert faults.All(*impossible[:4]).never
    possible = [
        faults.MessageDrop([0.0, 0.1]),
        faults.BurstLoss(0.1, 1),
        faults.LinkFailure(0.1, 1),
        faults.Crash(0.1, workers=[0]),
        faults.Straggler(0.1),
        faults.Delay(0.1),
        faults.Corrupt(0.1),
    ]
    assert not any(fault.never for fault in possible)
    assert not faults.All(impossible[0], possible[0]).never


def test_a_round_is_the_first_of_its_step_where_nothing_else_is_said():
    round = rs.faults.WireRound.of(3, rs.topologies.ring(3), None, None)
    assert (round, round.further, round.crossing) == (3, 0, 0)


def test_what_arrives_by_all_arrives_by_each():
    @dataclasses.dataclass(frozen=True)
    class Some(rs.faults.Fault):
        arrived: tuple

        def arrivals(self, edges, round):
            return np.array(self.arrived)

    edges = np.array([[0, 1], [1, 0], [1, 2]])
    one, by_replica = Some((1, 0, 1)), Some(((1, 1), (1, 1), (0, 1)))
    found = rs.faults.All(one, by_replica).arrivals(edges, 0)
    assert found.tolist() == [[True, True], [False, False], [False, True]]


def test_text_stands_for_several_faults():
    text = "All(MessageDrop(0.2), LinkFailure(0.1, 0.4), BurstLoss(0.1, 0.5))"
    assert named(text, FAULTS, "faults") == TOGETHER
    assert named(written(TOGETHER), FAULTS, "faults") == TOGETHER
    with pytest.raises(ValueError, match="unknown faults 'Trace'"):
        named("Trace()", FAULTS, "faults")


def test_bad_company_and_bad_traces_are_refused_before_anything_starts():
    faults, method = rs.faults, {"algorithm": rs.algorithms.D2(), "steps": 5}
    with pytest.raises(ValueError, match="All is given no fault"):
        faults.All()
    with pytest.raises(TypeError, match="no kind of fault; see"):
        faults.All(faults.MessageDrop(0.1), 0.1)
    with pytest.raises(ValueError, match="no rule for Byzantine workers beside other faults"):
        faults.All(faults.MessageDrop(0.1), faults.Byzantine([0]))
    with pytest.raises(TypeError, match="is no trace; take"):
        faults.Replay([1, 2])
    kept = rs.simulate(**SOME, **method, replicas=2, faults=TOGETHER, keep_faults=True)
    replay = faults.Replay(kept.trace)
    with pytest.raises(ValueError, match=r"run on ring\(7\) and cannot be replayed on chain\(7\)"):
        rs.simulate(
            **SOME | {"topology": rs.topologies.chain(7)}, **method, replicas=2, faults=replay
        )
    with pytest.raises(ValueError, match="of 2 replicas and this run has 3"):
        rs.simulate(**SOME, **method, replicas=3, faults=replay)
    with pytest.raises(ValueError, match="trace has 5 steps and this run 6"):
        rs.simulate(**SOME, **method | {"steps": 6}, replicas=2, faults=replay)
    tracking = rs.algorithms.GradientTracking()
    with pytest.raises(ValueError, match="in step 0 messages cross that did not"):
        rs.simulate(**SOME, algorithm=tracking, steps=5, replicas=2, faults=replay)
    with pytest.raises(ValueError, match="cannot replay Byzantine workers; leave keep_faults out"):
        rs.simulate(
            **SOME,
            algorithm=rs.algorithms.DPSGD(),
            steps=1,
            faults=faults.Byzantine([0]),
            keep_faults=True,
        )
