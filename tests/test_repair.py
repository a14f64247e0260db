"""RelaySGD on a tree whose links are replaced while they are out of order, against a slow transcription."""

import dataclasses

import numpy as np
import pytest
import slow

import relaysim as rs
from relaysim.algorithms import DPSGD, RelaySGD
from relaysim.faults import All, Crash, LinkFailure, MessageDrop, Replay
from relaysim.network import Network
from relaysim.network.arrivals import Arrivals
from relaysim.studies.naming import ALGORITHMS, named, written
from relaysim.support.streams import Streams

N, D, RATE, STEPS = 9, 3, 0.1, 40
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, seed=4)
START = np.random.default_rng(8).normal(size=(N, D))
RING, TORUS, CHAIN = rs.topologies.ring(N), rs.topologies.torus(3, 3), rs.topologies.chain(N)
ON_TORUS = rs.topologies.random_spanning_tree(TORUS, seed=1)
RUN = {"problem": PROBLEM, "learning_rate": RATE, "x0": START}


def gradient(step, worker, x):
    return PROBLEM.gradient(np.tile(x, (N, 1)))[worker]


def chains_on_paper(seed, k, things, fail, repair):
    """Step by step, which of so many things are out of order, by the k-th fault's stream."""
    generator = Streams([seed], None).generator("faults", seed, *([k] if k else []))
    failed, states = [False] * things, []

    def at(step):
        nonlocal failed
        while len(states) <= step:
            drawn = generator.random(things)
            odds = [1 - repair if was else fail for was in failed]
            failed = [u < p for u, p in zip(drawn, odds, strict=True)]
            states.append(failed)
        return states[step]

    return at


def on_paper(method, tree, faults, seed, steps=STEPS):
    """`slow.run` with links that fail, as the first of several faults, and messages lost beside it."""
    graph = method.repair
    links = [tuple(edge) for edge in graph.edges.tolist()]
    parts = faults.faults if isinstance(faults, All) else (faults,)
    (outage, *drops), generators = parts, {}
    at = chains_on_paper(seed, 0, len(links), outage.fail, outage.repair)
    for k, drop in enumerate(drops, 1):
        generators[k] = Streams([seed], None).generator("faults", seed, k), drop.probability

    def down(step):
        return {link for link, failed in zip(links, at(step), strict=True) if failed}

    def arrives(edges, step, further):
        lost = [tuple(sorted(edge)) in down(step) for edge in edges]
        for generator, p in generators.values():
            drawn = generator.random(len(edges))
            lost = [was or u < p for was, u in zip(lost, drawn, strict=True)]
        return [not each for each in lost]

    return slow.run(
        method, tree, gradient, START, [RATE] * steps, arrives=arrives, down=down, seed=seed
    )


METHODS = [
    RelaySGD(),
    RelaySGD(unheard="previous", momentum=0.5),
    RelaySGD(unheard="own", overlap=True),
    RelaySGD(unheard="counts"),
]
GRAPHS = [(CHAIN, RING), (ON_TORUS, TORUS), (CHAIN, rs.topologies.complete(N))]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(
    "faults",
    [LinkFailure(0.05, 0.1), All(LinkFailure(0.2, 0.4), MessageDrop(0.1))],
    ids=repr,
)
def test_trees_are_repaired_by_the_rule_on_paper(method, faults):
    for k, (tree, graph) in enumerate(GRAPHS):
        repairing = dataclasses.replace(method, repair=graph)
        history = rs.simulate(
            **RUN,
            topology=tree,
            algorithm=repairing,
            steps=STEPS,
            faults=faults,
            seed=[5 + k, 7],
            keep_iterates=True,
        )
        for r, seed in enumerate((5 + k, 7)):
            expected = on_paper(repairing, tree, faults, seed)
            scale = np.abs(expected).max()
            found = history.iterates[..., r]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


class Watched:
    """A network that relays unit vectors, (n, n, r): what arrives says whose payloads there are."""

    def __init__(self, tree, graph, faults, seeds):
        self.step, r = 0, len(seeds)
        streams = Streams(list(seeds), np.arange(r))
        self.arrivals = Arrivals(faults, graph, streams, lambda: self.step)
        self.network = Network(tree, arrivals=self.arrivals, links=graph)
        self.ends = np.stack([graph.src, graph.dst], axis=1)
        self.payload = np.repeat(np.eye(tree.n)[..., None], r, axis=2)
        self.mail = self.network.empty_mail(self.payload)

    def round(self):
        """What each has of each, (n, n, r), the trees, (E, r), and what was out of order, likewise."""
        self.mail = self.network.relay(self.payload, self.mail)
        down = self.arrivals.with_outages(self.ends)[1][:, 0]
        self.step += 1
        received, missing = self.network.inbox(self.mail)
        np.testing.assert_array_equal(received.sum(axis=1), N - 1 - missing[:, 0])
        return received + self.payload, self.mail.tree[:, 0], down


@pytest.mark.parametrize(("tree", "graph"), GRAPHS, ids=repr)
def test_nobody_is_counted_twice_and_everyone_is_heard_after_a_diameter(tree, graph):
    watched, seeds = Watched(tree, graph, LinkFailure(0.01, 0.2), range(12)), range(12)
    quiet, diameters = np.zeros((2, len(seeds)), dtype=int)
    last, changes, whole = None, 0, 0
    for _ in range(200):
        held, trees, down = watched.round()
        assert set(np.unique(held)) <= {0.0, 1.0}
        for k in seeds:
            changed = last is not None and (last[:, k] != trees[:, k]).any()
            changes += changed
            if changed or last is None:
                edges = watched.ends[trees[:, k]]
                spanning = rs.topologies.from_edges(N, edges[edges[:, 0] < edges[:, 1]])
                assert spanning.is_tree
                diameters[k] = spanning.diameter
            quiet[k] = 0 if (trees[:, k] & down[:, k]).any() else 1 if changed else quiet[k] + 1
            if quiet[k] >= diameters[k]:
                whole += 1
                assert (held[..., k] == 1).all()
        last = trees
    assert changes > 20
    assert whole > 500


def test_links_that_stay_down_leave_a_repaired_tree_exact():
    """One link of a ring fails for good: what waits for it ends elsewhere, what goes round ends at x*."""

    @dataclasses.dataclass(frozen=True)
    class Cut(rs.faults.Fault):
        outages = True

        def arrivals(self, edges, round):
            return (np.sort(edges, axis=1) != (3, 4)).any(axis=1) | (round < 20)

    run = RUN | {"topology": CHAIN, "learning_rate": 0.4, "steps": 600, "record": [600]}
    run["faults"] = Cut()
    for rule in ("initial", "previous", "own", "counts"):
        waits = rs.simulate(**run, algorithm=RelaySGD(unheard=rule))
        goes = rs.simulate(**run, algorithm=RelaySGD(unheard=rule, repair=RING))
        assert waits.frame.distance.iloc[-1] > 1e-2
        assert goes.frame.distance.iloc[-1] < 1e-24
        assert goes.faults.lost_messages.sum() == 0


def test_a_worker_that_stopped_hangs_on_the_others_as_a_leaf():
    run = RUN | {"topology": CHAIN, "steps": STEPS, "seed": 3, "keep_iterates": True}
    method = RelaySGD(unheard="own", repair=RING)
    stays = Crash(1.0, workers=[4])
    history = rs.simulate(**run, algorithm=method, faults=stays)
    assert (history.iterates[:, 4] == START[4]).all()
    waits = rs.simulate(**run, algorithm=RelaySGD(unheard="own"), faults=stays)
    assert history.faults.lost_messages.iloc[5:].max() == 2
    assert waits.faults.lost_messages.iloc[5:].max() == 4


def test_replicas_have_trees_of_their_own_and_runs_are_gone_on_with(tmp_path):
    run = RUN | {"topology": ON_TORUS, "algorithm": RelaySGD(repair=TORUS)}
    run |= {"faults": All(LinkFailure(0.1, 0.3), MessageDrop(0.05)), "learning_rate": [RATE, 0.3]}
    whole = rs.simulate(**run, steps=STEPS, seed=[3, 4], keep_faults=True)
    for k, (rate, seed) in enumerate([(RATE, 3), (RATE, 4), (0.3, 3), (0.3, 4)]):
        alone = rs.simulate(**run | {"learning_rate": rate}, steps=STEPS, seed=seed)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)
        ours = whole.faults[whole.faults.replica == k].lost_messages
        assert ours.tolist() == alone.faults.lost_messages.tolist()
    assert whole.faults.groupby("replica").lost_messages.sum().tolist() == (
        whole.trace.count().sum(axis=0).tolist()
    )
    half = rs.simulate(**run, steps=13, seed=[3, 4], keep_faults=True)
    longer = rs.History.load(half.save(tmp_path / "half")).extend(STEPS - 13)
    np.testing.assert_array_equal(longer.x, whole.x)
    assert longer.trace == whole.trace
    again = rs.simulate(**run | {"faults": Replay(whole.trace)}, steps=STEPS, seed=[8, 9])
    np.testing.assert_array_equal(again.x, whole.x)
    one = rs.simulate(**run | {"learning_rate": RATE}, steps=13, seed=3, keep_faults=True)
    for faults in (run["faults"], Replay(one.trace)):
        few = run | {"learning_rate": [1e30, RATE], "faults": faults}
        left = rs.simulate(**few, steps=13, seed=3, record=1)
        assert left.diverged.tolist() == [True, False]
        np.testing.assert_allclose(left.x[..., 1], half.x[..., 0], rtol=0, atol=1e-13)


def test_without_outages_and_in_texts_it_is_as_before():
    run = RUN | {"topology": CHAIN, "steps": 20}
    plain = rs.simulate(**run, algorithm=RelaySGD())
    repaired = rs.simulate(**run, algorithm=RelaySGD(repair=RING))
    np.testing.assert_array_equal(repaired.x, plain.x)
    assert rs.algorithms.check(RelaySGD(repair=RING), PROBLEM, CHAIN).holds.all()
    assert written(RelaySGD()) == "RelaySGD(momentum=0.0, overlap=False, unheard='initial')"
    for n in (1, 2):  # with links that have no other to take their place
        few = RUN | {
            "problem": rs.problems.random_quadratics(n=n, d=2, zeta2=0.0, seed=0),
            "x0": None,
        }
        few |= {"topology": rs.topologies.chain(n), "steps": 9, "faults": LinkFailure(0.5, 0.5)}
        waits = rs.simulate(**few, algorithm=RelaySGD())
        mended = rs.simulate(**few, algorithm=RelaySGD(repair=rs.topologies.complete(n)))
        np.testing.assert_array_equal(mended.x, waits.x)
    text = "RelaySGD(momentum=0.0, overlap=False, unheard='own', repair=ring(9))"
    assert written(RelaySGD(unheard="own", repair=RING)) == text
    assert named(text, ALGORITHMS, "algorithm") == RelaySGD(unheard="own", repair=RING)
    assert repr(RelaySGD(unheard="own", repair=RING)) == text
    assert rs.rebuild(repaired.config)["algorithm"] == RelaySGD(repair=RING)


def test_bad_input():
    run = RUN | {"topology": CHAIN, "steps": 1}
    with pytest.raises(TypeError, match="repair must be a topology that has the tree's edges"):
        RelaySGD(repair="ring")
    for graph, message in (
        (rs.topologies.ring(8), r"between the 9 workers of chain\(9\); it is of 8 workers"),
        (rs.topologies.star(N), r"lacks the link of workers 1 and 2, which chain\(9\) has"),
        (rs.topologies.directed_ring(N), "it is directed"),
    ):
        with pytest.raises(ValueError, match=message):
            rs.simulate(**run, algorithm=RelaySGD(repair=graph))
    with pytest.raises(ValueError, match="repair mends one tree"):
        rs.simulate(
            **run | {"topology": rs.topologies.double_binary_tree(N)},
            algorithm=RelaySGD(repair=RING),
        )
    method = RelaySGD(repair=RING)
    with pytest.raises(ValueError, match="RelaySGD has no rule for late messages; of faults it"):
        rs.simulate(**run, algorithm=method, faults=rs.faults.Delay(0.1))
    kept = rs.simulate(**run, algorithm=DPSGD(), faults=LinkFailure(0.1, 0.1), keep_faults=True)
    with pytest.raises(ValueError, match=r"cannot be replayed on ring\(9\)"):
        rs.simulate(**run, algorithm=method, faults=Replay(kept.trace))
