"""Workers that stop and workers that are slow, against slow transcriptions."""

import numpy as np
import pytest
import slow
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, ExactDiffusion, GradientTracking, RelaySGD, RelaySGDGrad
from relaysim.faults import All, Crash, Delay, MessageDrop, Replay, Straggler
from relaysim.support.streams import Streams

N, D, RATE, STEPS = 6, 3, 0.1, 14
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, seed=4)
START = np.random.default_rng(8).normal(size=(N, D))
TREE = rs.topologies.binary_tree(N)
RUN = {"problem": PROBLEM, "topology": TREE, "learning_rate": RATE, "x0": START}
# Examples of each worker, for methods that ask for them by number.
BY_EXAMPLES = rs.problems.LeastSquares(
    np.random.default_rng(0).normal(size=(N, 4, D)), np.ones((N, 4))
)


def gradient(step, worker, x):
    return PROBLEM.gradient(np.tile(x, (N, 1)))[worker]


def stopped_on_paper(crash, seed):
    """Step by step, who has stopped."""
    generator = Streams([seed], None).generator("faults", seed)
    stopped = [False] * N
    while True:
        drawn = generator.random(N)
        odds = [1 - crash.repair if was else crash.fail for was in stopped]
        stopped = [u < p for u, p in zip(drawn, odds, strict=True)]
        allowed = range(N) if crash.workers is None else crash.workers
        yield [was and i in allowed for i, was in enumerate(stopped)]


# Each rule takes what a worker has, (x, its other vectors …), to what it has after a step.


def dpsgd(world, W, g, has, method):
    x, m = has
    m = [method.momentum * m[i] + (1 - method.momentum) * g[i] for i in range(N)]
    if method.overlap:
        mixed = world.mix(W, x)
        return [mixed[i] - RATE * m[i] for i in range(N)], m
    return world.mix(W, [x[i] - RATE * m[i] for i in range(N)]), m


def d2(world, W, g, has, method):
    """C is what the last step added to X − γG; scaled, C/γ."""
    x, c = has
    W = (W + np.eye(N)) / 2 if isinstance(method, ExactDiffusion) else W
    unit = RATE if method.form == "scaled" else 1
    z = [x[i] - RATE * g[i] + unit * c[i] for i in range(N)]
    new = world.mix(W, z)
    return new, [c[i] + (new[i] - z[i]) / unit for i in range(N)]


def tracking(world, W, g, has, method):
    """C is what the tracker lacks of the gradient, or of its momentum: Y = M − C."""
    x, c, m, mixes = has
    m = [method.momentum * m[i] + (1 - method.momentum) * g[i] for i in range(N)]
    y = [m[i] - c[i] for i in range(N)]
    if method.form == "atc":
        y = world.mix(W, y) if world.step else y
    if method.form == "diging":
        mixed = world.mix(W, x)
        x = [mixed[i] - RATE * y[i] for i in range(N)]
    else:
        x = world.mix(W, [x[i] - RATE * y[i] for i in range(N)])
    if method.form != "atc":
        y = world.mix(W, y)
    return x, [m[i] - y[i] for i in range(N)], m, mixes


def relay(world, W, g, has, method):
    x, m = has
    m = [method.momentum * m[i] + (1 - method.momentum) * g[i] for i in range(N)]
    if isinstance(method, RelaySGDGrad):
        sums, _ = world.relay.exchange(m, method.overlap)
        return [x[i] - RATE / N * sums[i] for i in range(N)], m
    half = [x[i] - RATE * m[i] for i in range(N)]
    sums, counts = world.relay.exchange(half, method.overlap)
    stand_in = {"initial": START, "previous": x, "own": half}
    if method.unheard == "counts":
        return [sums[i] / counts[i] for i in range(N)], m
    u = stand_in[method.unheard]
    return [(sums[i] + (N - counts[i]) * u[i]) / N for i in range(N)], m


RULES = {
    DPSGD: dpsgd,
    D2: d2,
    ExactDiffusion: d2,
    GradientTracking: tracking,
    RelaySGD: relay,
    RelaySGDGrad: relay,
}
CLAIMED = [a for a in ALGORITHMS if type(a) in RULES and getattr(a, "consensus", 1) == 1]
FORMS = [
    RelaySGD(unheard="own", repair=rs.topologies.complete(N)),
    GradientTracking(form="atc"),
    GradientTracking(form="atc", momentum=0.5),
    GradientTracking(momentum=0.5),
]


def crash_slowly(method, crash, seed):
    steps = stopped_on_paper(crash, seed)
    now, sent = [False] * N, [0]

    def arrives(edges, step, further):
        if graph is None:  # else all are asked, whether something crosses them or not
            sent[-1] += sum(not now[i] for i, _ in edges)
        return [not (now[i] or now[j]) for i, j in edges]

    world = slow.World(TREE, gradient, None, arrives)
    graph = getattr(method, "repair", None)
    world.relay = slow.Relay(world, D)
    if graph is not None:
        links = [tuple(edge) for edge in graph.edges.tolist()]
        world.down = lambda step: {(i, j) for i, j in links if now[i] or now[j]}
        world.relay = slow.RehungRelay(world, D, graph)
    vectors = 4 if isinstance(method, GradientTracking) else 2
    start = (list(START), *(list(np.zeros((N, D))) for _ in range(vectors - 1)))
    has, found = start, [START]
    for step in range(STEPS):
        before, now = now, next(steps)
        sent.append(sent[-1])
        if crash.state == "lost":
            back = [before[i] and not now[i] for i in range(N)]
            has = tuple(
                [first[i] if back[i] else own[i] for i in range(N)]
                for first, own in zip(start, has, strict=True)
            )
        g = world.gradients(step, has[0])
        W = world.weights(step)
        new = RULES[type(method)](world, W, g, has, method)
        if graph is not None:
            sent[-1] += sum(len(world.relay.tree[i]) for i in range(N) if not now[i])
        has = tuple(
            [old[i] if now[i] else own[i] for i in range(N)]
            for old, own in zip(has, new, strict=True)
        )
        found.append(np.array(has[0]))
    return np.array(found), sent


@pytest.mark.parametrize("method", CLAIMED + FORMS, ids=repr)
@pytest.mark.parametrize("crash", [Crash(0.2, 0.4), Crash(0.2, 0.5, "lost", workers=[1, 3, 4])])
def test_workers_that_stop_follow_the_rule_on_paper(method, crash):
    history = rs.simulate(
        **RUN, algorithm=method, steps=STEPS, faults=crash, seed=5, keep_iterates=True
    )
    expected, sent = crash_slowly(method, crash, 5)
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12)
    assert history.frame.vectors_sent.tolist() == sent
    stopped = stopped_on_paper(crash, 5)
    each = [sum(next(stopped)) for _ in range(STEPS)]
    assert history.faults.stopped_workers.tolist() == [0, *each]
    assert 0 < sum(each) < N * STEPS


def test_who_stays_away_leaves_gossip_to_the_others():
    history = rs.simulate(
        **RUN | {"topology": rs.topologies.ring(N)},
        algorithm=DPSGD(),
        steps=9,
        faults=Crash(1.0, workers=[0, 3]),
        keep_iterates=True,
    )
    assert (history.iterates[:, [0, 3]] == START[[0, 3]]).all()
    # Two pairs are left, 1–2 and 4–5, each with weights 1/2.
    for a, b in ((1, 2), (4, 5)):
        x = START[[a, b]]
        for _ in range(9):
            half = [x[k] - RATE * gradient(0, i, x[k]) for k, i in enumerate((a, b))]
            x = np.array([sum(half) / 2] * 2)
        np.testing.assert_allclose(history.x[[a, b]], x, rtol=1e-12)


CHAIN = rs.topologies.chain(N)
PAIR = rs.topologies.TreePair(CHAIN, rs.topologies.star(N))
COMPLETE = rs.topologies.complete(N)


ONE_EACH = rs.mixing.epidemic(N, 1)  # everyone sends one message in each step


@pytest.mark.parametrize(
    ("topology", "method", "mixing", "of_each"),
    [
        (PAIR, RelaySGD(), None, (CHAIN.degrees + PAIR.second.degrees) / 2),
        (CHAIN, D2(), [rs.mixing.metropolis(CHAIN)] * 2, CHAIN.degrees),
        (COMPLETE, DPSGD(), ONE_EACH, np.ones(N)),
        (COMPLETE, GradientTracking(), rs.mixing.epidemic(N, 1, oracle=True), np.full(N, 2)),
    ],
)
@pytest.mark.parametrize("beside", [(), (MessageDrop(0.3),)])
def test_who_has_stopped_sends_nothing_in_any_replica(topology, method, mixing, of_each, beside):
    """The others send what they always do, whatever of it is lost."""
    run = RUN | {"topology": topology, "algorithm": method, "mixing": mixing, "steps": 9}
    run |= {"seed": 5, "replicas": 3}
    history = rs.simulate(**run, faults=All(Crash(0.2, 0.4), *beside), keep_faults=True)
    again = rs.simulate(**run, faults=Replay(history.trace))
    for replica, frame in history.frame.groupby("replica"):
        stopped = stopped_on_paper(Crash(0.2, 0.4), 5 + replica)
        each = [float(of_each @ ~np.array(next(stopped))) for _ in range(9)]
        assert np.diff(frame.vectors_sent).tolist() == each
    assert again.frame.vectors_sent.equals(history.frame.vectors_sent)


def test_of_drawn_messages_only_those_that_cross_are_lost():
    run = RUN | {"topology": COMPLETE, "algorithm": DPSGD(), "mixing": ONE_EACH, "steps": 3}
    history = rs.simulate(**run, faults=MessageDrop(1.0), replicas=2, seed=1)
    assert history.faults.lost_messages.tolist() == [0, N, N, N] * 2
    assert history.frame.vectors_sent.tolist() == [0, N, 2 * N, 3 * N] * 2


# -- slow workers ----------------------------------------------------------------------------------


class SlowGradients:
    """Gradients as `Straggler` lets them through, worker by worker; to be asked in the order of steps."""

    def __init__(self, fault, seed):
        self.fault, self.drawn, self.known = fault, [], {}
        self.generator = Streams([seed], None).generator("faults", seed)
        self.busy_until = [0] * N
        #: By step and worker the step whose gradient counts, or None.
        self.source = {}

    def decide(self, step):
        drawn = self.generator.random(N)
        for i in range(N):
            if step < self.busy_until[i]:
                self.source[step, i] = None
            elif step == self.busy_until[i] and step and self.known.get(("began", i)) is not None:
                self.source[step, i] = self.known.pop(("began", i))
            elif drawn[i] < self.fault.probability and (
                self.fault.workers is None or i in self.fault.workers
            ):
                self.source[step, i] = None
                if self.fault.late:
                    self.busy_until[i] = step + self.fault.late
                    self.known["began", i] = step
            else:
                self.source[step, i] = step

    def __call__(self, step, worker, x):
        while (step, worker) not in self.source:
            self.decide(len(self.source) // N)
        own = gradient(step, worker, x)
        self.known[step, worker] = own
        source = self.source[step, worker]
        return np.zeros(D) if source is None else self.known[source, worker]


# Those whose steps differ in how often a worker is asked; `test_participation.py` has them.
WITH_A_GRADIENT = [
    a for a in ALGORITHMS if a.problem_needs == "nothing" and a.oracle_needs == "nothing"
]


@pytest.mark.parametrize("method", WITH_A_GRADIENT, ids=repr)
@pytest.mark.parametrize("fault", [Straggler(0.3), Straggler(0.3, late=2, workers=[0, 2, 3])])
def test_slow_workers_follow_the_rule_on_paper(method, fault):
    paper = SlowGradients(fault, 5)
    expected = slow.run(
        method, TREE, paper, START, [RATE] * 8, seed=5, smoothness=PROBLEM.local_smoothness
    )
    history = rs.simulate(
        **RUN, algorithm=method, steps=8, faults=fault, seed=5, keep_iterates=True
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * scale)


FAULTS = [
    Crash(0.2, 0.4, "lost"),
    Straggler(0.3, late=3),
    All(Straggler(0.2), Crash(0.1, 0.5), MessageDrop(0.1)),
]


@pytest.mark.parametrize("faults", FAULTS, ids=repr)
@pytest.mark.parametrize("method", [DPSGD(momentum=0.5), RelaySGD()], ids=repr)
def test_a_replica_is_its_run_alone_and_runs_are_gone_on_with(method, faults, tmp_path):
    run = RUN | {"algorithm": method, "faults": faults}
    whole = rs.simulate(**run | {"learning_rate": [RATE, 0.3]}, steps=20, seed=[3, 4])
    for k, (rate, seed) in enumerate([(RATE, 3), (RATE, 4), (0.3, 3), (0.3, 4)]):
        alone = rs.simulate(**run | {"learning_rate": rate}, steps=20, seed=seed)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)
    half = rs.simulate(**run | {"learning_rate": [RATE, 0.3]}, steps=9, seed=[3, 4])
    loaded = rs.History.load(half.save(tmp_path / "half"))
    assert loaded.fault_model == faults
    longer = loaded.extend(11)
    np.testing.assert_array_equal(longer.x, whole.x)
    assert longer.faults.equals(whole.faults)
    # A replica that leaves takes its workers with it.
    left = rs.simulate(**run | {"learning_rate": [1e3, RATE]}, steps=20, seed=3, record=1)
    assert left.diverged.tolist() == [True, False]
    np.testing.assert_allclose(left.x[..., 1], whole.x[..., 0], rtol=0, atol=1e-13)


RECORDED = [
    *FAULTS,
    Crash(0.2, 0.4),
    Delay(0.5, 2),
    All(Delay(0.7, 3, ordered=False), Crash(0.1, 0.4, "lost"), Straggler(0.2), MessageDrop(0.1)),
]


@pytest.mark.parametrize("faults", RECORDED, ids=repr)
@pytest.mark.parametrize("method", [GradientTracking(), RelaySGD(unheard="own")], ids=repr)
def test_what_stops_or_is_late_is_replayed_to_the_bit(method, faults, tmp_path):
    run = RUN | {"algorithm": method, "steps": 15}
    kept = rs.simulate(**run, faults=faults, seed=[3, 4], keep_faults=True)
    replay = Replay(rs.History.load(kept.save(tmp_path / "kept")).trace)
    again = rs.simulate(**run, faults=replay, seed=[7, 8], keep_faults=True)
    np.testing.assert_array_equal(again.x, kept.x)
    assert again.faults.drop(columns="seed", errors="ignore").equals(
        kept.faults.drop(columns="seed", errors="ignore")
    )
    assert again.trace == kept.trace
    assert all(track != kept.trace for track in kept.trace.tracks)
    part = rs.simulate(**run | {"steps": 6}, faults=faults, seed=[3, 4], keep_faults=True)
    longer = rs.History.load(part.save(tmp_path / "part")).extend(9)
    assert longer.trace == kept.trace
    half = rs.simulate(**run | {"steps": 6}, faults=replay, seed=[7, 8])
    rebuilt = rs.rebuild(rs.History.load(half.save(tmp_path / "half")).config)
    assert rs.History.load(tmp_path / "half").fault_model == replay == rebuilt["faults"]
    np.testing.assert_array_equal(half.extend(9).x, kept.x)
    # A trace of one replica is that of any number, also where another one leaves.
    one = rs.simulate(**run, faults=faults, seed=3, keep_faults=True)
    many = rs.simulate(
        **run | {"learning_rate": [1e30, RATE, RATE]}, faults=Replay(one.trace), record=1
    )
    assert many.diverged.tolist() == [True, False, False]
    for k in (1, 2):
        np.testing.assert_allclose(many.x[..., k], one.x, rtol=0, atol=1e-13)


def test_a_trace_stands_beside_others_and_is_refused_where_it_does_not_fit():
    run = RUN | {"algorithm": DPSGD(), "steps": 9, "seed": 3}
    kept = rs.simulate(**run, faults=Straggler(0.3, late=2), keep_faults=True)
    both = All(Replay(kept.trace), MessageDrop(0.2))
    stream = rs.simulate(**run, faults=All(Straggler(0.3, late=2), MessageDrop(0.2)))
    np.testing.assert_array_equal(rs.simulate(**run, faults=both).x, stream.x)
    assert rs.rebuild(stream.config)["faults"] != both
    with pytest.raises(ValueError, match="two that are of late gradients"):
        All(both, Straggler(0.1))
    with pytest.raises(ValueError, match="trace has 9 steps and this run 10"):
        rs.simulate(**run | {"steps": 10}, faults=both)
    with pytest.raises(ValueError, match="cannot be replayed on ring"):
        rs.simulate(**run | {"topology": rs.topologies.ring(N)}, faults=Replay(kept.trace))
    for faults, method, message in (
        (Crash(0.1), rs.algorithms.EXTRA(), "EXTRA has no rule for workers that stop"),
        (Delay(0.5), rs.algorithms.NIDS(), "NIDS has no rule for late messages"),
        (Delay(0.5), GradientTracking(), "in step 0 Delay is asked of what it was not asked"),
    ):
        trace = rs.simulate(**run, faults=faults, keep_faults=True).trace
        with pytest.raises(ValueError, match=message):
            rs.simulate(**run | {"algorithm": method}, faults=Replay(trace))


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *ASYNCHRONOUS, *BY_NUMBER], ids=repr)
def test_what_a_method_has_no_rule_for_is_refused(algorithm):
    run = RUN | {"algorithm": algorithm, "steps": 1}
    if algorithm in BY_NUMBER:
        run |= {"problem": BY_EXAMPLES, "oracle": rs.oracles.Table(1)}
    assert ("workers that stop" in algorithm.faults) == (type(algorithm) in RULES)
    if type(algorithm) not in RULES:
        with pytest.raises(ValueError, match=r"no rule for workers that stop|no messages to lose"):
            rs.simulate(**run, faults=Crash(0.1))
    if algorithm not in WITH_A_GRADIENT:
        with pytest.raises(ValueError, match="no rule for late gradients"):
            rs.simulate(**run, faults=Straggler(0.1))


def test_bad_input():
    for make, options in (
        (Crash, {"fail": 1.5}),
        (Crash, {"fail": 0.1, "repair": -1}),
        (Crash, {"fail": 0.1, "state": "gone"}),
        (Crash, {"fail": 0.1, "workers": 3}),
        (Crash, {"fail": 0.1, "workers": [1, 1]}),
        (Straggler, {"probability": 2}),
        (Straggler, {"probability": 0.1, "late": -1}),
        (Straggler, {"probability": 0.1, "workers": "all"}),
    ):
        with pytest.raises((ValueError, TypeError), match=r"must|twice"):
            make(**options)
    for fault in (Crash(0.1, workers=[9]), Straggler(0.1, workers=[9])):
        with pytest.raises(ValueError, match=r"names worker 9; there are 0 to 5"):
            rs.simulate(**RUN, algorithm=DPSGD(), steps=1, faults=fault)
    with pytest.raises(ValueError, match="two that are of late gradients"):
        All(Straggler(0.1), Straggler(0.2))
