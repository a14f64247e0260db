"""Messages that come some steps late, against a slow transcription."""

import numpy as np
import pytest
import slow
from methods import ALGORITHMS, ASYNCHRONOUS

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, ExactDiffusion, GradientTracking, RelaySGD
from relaysim.faults import All, Delay, LinkFailure, MessageDrop
from relaysim.support.streams import Streams

N, D, RATE, STEPS = 6, 3, 0.1, 12
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, seed=4)
START = np.random.default_rng(8).normal(size=(N, D))
GRAPH = rs.topologies.binary_tree(N)
RUN = {"problem": PROBLEM, "topology": GRAPH, "learning_rate": RATE, "x0": START, "steps": STEPS}
KNOWN = (D2, DPSGD, ExactDiffusion, GradientTracking, RelaySGD)
FAULTS = (Delay(0.5, 2), Delay(0.7, 3, ordered=False))


class OnPaper:
    """What is there of what was sent, message by message; ``count`` has how many were not in their step.

    ``lost(edges, step)`` says which are lost; those sent before the last most + period steps do not count.
    """

    def __init__(self, fault, seed, lost=None, period=1):
        self.fault, self.step, self.count, self.lost_count = fault, -1, 0, 0
        self.generator = Streams([seed], None).generator("faults", seed)
        self.lost = lost or (lambda edges, step: [False] * len(edges))
        self.window = fault.most + period
        #: Crossing by crossing, for every edge all that arrives: (when it is there, when it was sent, what).
        self.ever = {}

    def __call__(self, step, sent):
        self.crossing = self.crossing + 1 if step == self.step else 0
        self.step = step
        ever = self.ever.setdefault(self.crossing, {})
        lost = dict(zip(sent, self.lost(list(sent), step), strict=True))
        found = {}
        for edge, what in sent.items():
            ever.setdefault(edge, [])
            u, p, most = self.generator.random(), self.fault.probability, self.fault.most
            due = step + (1 + int(u / p * most) if u < p else 0)
            if self.fault.ordered and ever[edge]:
                due = max(due, ever[edge][-1][0])
            self.lost_count += lost[edge]
            if not lost[edge]:
                ever[edge].append((due, step, what))
                self.count += due > step
            last = step - self.window
            there = [each for at, since, each in ever[edge] if at <= step and since > last]
            found[edge] = there[-1] if there else None
        return found


def on_paper(method, graph, fault, seed, lost=None, mixing=None):
    late = OnPaper(fault, seed, lost, 1 if mixing is None else len(mixing))

    def gradient(step, worker, x):
        return PROBLEM.gradient(np.tile(x, (N, 1)))[worker]

    rates = [RATE] * STEPS
    found = slow.run(method, graph, gradient, START, rates, late=late, mixing=mixing)
    return found, (late.count, late.lost_count)


CLAIMED = [a for a in ALGORITHMS if type(a) in KNOWN]


@pytest.mark.parametrize("method", CLAIMED, ids=repr)
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_late_messages_follow_the_rule_on_paper(method, fault):
    graphs = [GRAPH]
    if isinstance(method, RelaySGD):
        graphs.append(rs.topologies.double_binary_tree(N))
    for graph in graphs:
        expected, (count, _) = on_paper(method, graph, fault, 5)
        run = RUN | {"topology": graph, "algorithm": method, "faults": fault}
        history = rs.simulate(**run, seed=5, keep_iterates=True)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)
        assert history.faults.late_messages.sum() == count > 0
        assert (
            history.frame.vectors_sent.tolist()
            == rs.simulate(**run | {"faults": None}).frame.vectors_sent.tolist()
        )


def losses_on_paper(seed):
    """By LinkFailure(0.2, 0.3) and MessageDrop(0.2) as the second and third fault of a run."""
    links, drops = (Streams([seed], None).generator("faults", seed, k) for k in (1, 2))
    failed, states = [False] * (N - 1), []

    def lost(edges, step):
        nonlocal failed
        while len(states) <= step:
            drawn = links.random(N - 1)
            failed = [u < (0.7 if was else 0.2) for u, was in zip(drawn, failed, strict=True)]
            states.append(dict(zip(map(tuple, GRAPH.edges.tolist()), failed, strict=True)))
        drawn = drops.random(len(edges))
        down = [states[step][tuple(sorted(edge))] for edge in edges]
        return [was or u < 0.2 for was, u in zip(down, drawn, strict=True)]

    return lost


@pytest.mark.parametrize("method", CLAIMED, ids=repr)
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_late_messages_may_be_lost_as_well(method, fault):
    """A lost one never comes and holds up none; a receiver goes by the last most + 1 steps."""
    expected, counts = on_paper(method, GRAPH, fault, 5, losses_on_paper(5))
    faults = All(fault, LinkFailure(0.2, 0.3), MessageDrop(0.2))
    run = RUN | {"algorithm": method, "faults": faults}
    history = rs.simulate(**run, seed=5, keep_iterates=True)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)
    assert history.faults[["late_messages", "lost_messages"]].sum().tolist() == list(counts)
    assert min(counts) > 10


@pytest.mark.parametrize("method", [a for a in CLAIMED if a.uses == "mixing"], ids=repr)
def test_late_messages_serve_with_the_weights_of_the_step_in_which_they_are_used(method):
    """A period of three matrices: all edges, those of even numbers, and those of the others."""
    whole, edges = rs.mixing.metropolis(GRAPH).toarray(), GRAPH.edges.tolist()
    period = [whole]
    for k in range(2):
        W = np.eye(N)
        for i, j in edges[k::2]:
            W[i, j] = W[j, i] = 0.2
            W[i, i] -= 0.2
            W[j, j] -= 0.2
        period.append(W)
    for fault in FAULTS:
        expected, (count, _) = on_paper(method, GRAPH, fault, 5, None, period)
        run = RUN | {"algorithm": method, "faults": fault, "mixing": period}
        history = rs.simulate(**run, seed=5, keep_iterates=True)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)
        assert history.faults.late_messages.sum() == count


def test_what_is_never_late_leaves_the_other_faults_as_they_are():
    run = RUN | {"algorithm": DPSGD(), "seed": 3}
    alone = rs.simulate(**run, faults=MessageDrop(0.3))
    beside = rs.simulate(**run, faults=All(MessageDrop(0.3), Delay(0.0, 4)))
    np.testing.assert_array_equal(beside.x, alone.x)
    assert "late_messages" not in beside.faults


def test_a_worker_without_weight_of_its_own_keeps_its_own_until_it_hears():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    history = rs.simulate(
        rs.problems.DiagonalQuadratic(np.ones((2, 1)), np.array([[1.0], [3.0]])),
        rs.topologies.chain(2),
        DPSGD(),
        learning_rate=0.0,
        steps=6,
        x0=np.array([[1.0], [2.0]]),
        mixing=swap,
        faults=Delay(1.0, 1),
        keep_iterates=True,
    )
    # x(1) = x(0), and from then on everyone has what the other sent a step before.
    expected = [[1, 2], [1, 2], [2, 1], [2, 1], [1, 2], [1, 2], [2, 1]]
    np.testing.assert_array_equal(history.iterates[..., 0], expected)


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_a_single_worker_waits_for_nobody(kind):
    alone = {"topology": rs.topologies.chain(1), "x0": START[:1], "algorithm": kind()}
    alone["problem"] = rs.problems.random_quadratics(n=1, d=D, zeta2=0.0, seed=4)
    waiting = rs.simulate(**RUN | alone, faults=FAULTS[1])
    np.testing.assert_array_equal(waiting.x, rs.simulate(**RUN | alone).x)
    assert waiting.faults.late_messages.sum() == 0


def test_how_late_and_which_overtake():
    fault = Delay(0.6, 3)
    late = fault.late(np.random.default_rng(0).random(90_000))
    found = np.bincount(late) / len(late)
    np.testing.assert_allclose(found, [0.4, 0.2, 0.2, 0.2], rtol=0, atol=4 * np.sqrt(0.24 / 90_000))
    assert fault.late(np.array([np.nextafter(0.6, 0), 0.6])).tolist() == [3, 0]
    run = RUN | {"algorithm": DPSGD(), "steps": 300}
    waits, overtakes = (
        rs.simulate(**run, faults=Delay(0.3, 3, ordered)).faults.late_messages.sum()
        for ordered in (True, False)
    )
    assert waits > 1.2 * overtakes


def test_what_is_late_leaves_relayed_models_exact_and_corrections_not():
    run = RUN | {"learning_rate": 0.2, "steps": 900, "faults": Delay(0.5, 2), "replicas": 3}
    run |= {"record": [900]}
    distances = {
        type(method): rs.simulate(**run, algorithm=method).frame.distance
        for method in (RelaySGD(), GradientTracking(), D2(), DPSGD())
    }
    assert distances[RelaySGD].max() < 1e-20
    assert distances[GradientTracking].min() > 1e-4
    assert distances[D2].min() > 1e-4
    bare = rs.simulate(**run | {"faults": None}, algorithm=DPSGD()).frame.distance
    np.testing.assert_allclose(distances[DPSGD], bare, rtol=1e-12)


@pytest.mark.parametrize("method", [GradientTracking(), RelaySGD()], ids=repr)
def test_a_replica_is_its_run_alone_and_runs_are_gone_on_with(method, tmp_path):
    run = RUN | {"algorithm": method, "faults": FAULTS[0]}
    whole = rs.simulate(**run | {"learning_rate": [RATE, 0.3]}, seed=[3, 4])
    for k, (rate, seed) in enumerate([(RATE, 3), (RATE, 4), (0.3, 3), (0.3, 4)]):
        alone = rs.simulate(**run | {"learning_rate": rate}, seed=seed)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)
        ours = whole.faults[whole.faults.replica == k].late_messages
        assert ours.tolist() == alone.faults.late_messages.tolist()
    half = rs.simulate(**run | {"learning_rate": [RATE, 0.3], "steps": 5}, seed=[3, 4])
    longer = rs.History.load(half.save(tmp_path / "half")).extend(STEPS - 5)
    np.testing.assert_array_equal(longer.x, whole.x)
    assert longer.faults.equals(whole.faults)
    # A replica that leaves takes what is on its way with it.
    left = rs.simulate(**run | {"learning_rate": [1e30, RATE]}, seed=3, record=1)
    assert left.diverged.tolist() == [True, False]
    np.testing.assert_allclose(left.x[..., 1], whole.x[..., 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *ASYNCHRONOUS], ids=repr)
def test_what_has_no_rule_is_refused(algorithm):
    assert ("late messages" in algorithm.faults) == (type(algorithm) in KNOWN)
    if type(algorithm) not in KNOWN:
        with pytest.raises(ValueError, match=r"no rule for late messages|no messages to lose"):
            rs.simulate(**RUN, algorithm=algorithm, faults=Delay(0.1))


def test_bad_input():
    for options in ({"probability": 2}, {"probability": 0.1, "most": 0}):
        with pytest.raises(ValueError, match="must"):
            Delay(**options)
    run = RUN | {"faults": Delay(0.1), "algorithm": DPSGD()}
    with pytest.raises(ValueError, match="All names two that are of late messages"):
        All(Delay(0.1), MessageDrop(0.1), Delay(0.2))
    W = rs.mixing.metropolis(GRAPH).toarray()
    for mixing in (rs.mixing.random_matching(GRAPH), lambda step: W):
        with pytest.raises(ValueError, match=r"drawn, or those of a callable, .* or a sequence"):
            rs.simulate(**run, mixing=mixing)
    with pytest.raises(ValueError, match="GradientTracking has no rule for late messages"):
        rs.simulate(**run | {"algorithm": GradientTracking(form="atc")})
    with pytest.raises(ValueError, match=r"on their way .* late by fewer steps"):
        rs.simulate(**run | {"faults": Delay(0.1, 10**15)})
    with pytest.raises(ValueError, match="with late messages the rest of a row"):
        rs.simulate(**run, mixing=2 * W - np.eye(N))
