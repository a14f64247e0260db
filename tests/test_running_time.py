"""How long steps take: max-plus recursions against harmonic numbers, loops, and what must be monotone."""

import dataclasses

import numpy as np
import pytest
import slow

import relaysim as rs
from relaysim.analysis import Constant, Exponential, LogNormal, Pareto, Stragglers, runtime

RING = rs.topologies.ring(8)


def one_peer_ring(n):
    """Pairs (i, i + 1), even and odd in turn, with weights ½."""
    matrices = []
    for start in (0, 1):
        W = np.zeros((n, n))
        for i in range(start, n + start, 2):
            a, b = i % n, (i + 1) % n
            W[[a, a, b, b], [a, b, a, b]] = 0.5
        matrices.append(W)
    return matrices


def test_times_are_only_read():
    found = runtime(RING, 3)
    with pytest.raises(ValueError, match="read-only"):
        found.worker_times[1] = 0


@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_all_reduce_with_exponential_times_takes_harmonic_numbers(n):
    found = runtime(rs.topologies.complete(n), 400, replicas=20).per_step
    assert found == pytest.approx(sum(1 / k for k in range(1, n + 1)), rel=0.02)


@pytest.mark.parametrize(
    ("n", "latency", "published"),
    [(16, 0.0, 1.55), (64, 0.0, 1.59), (16, 0.5, 1.71), (64, 0.5, 1.76)],
)
def test_pairs_on_a_ring_that_overlap_take_what_was_measured_elsewhere(n, latency, published):
    found = runtime(one_peer_ring(n), 1000, latency=latency, overlap=True, replicas=4)
    assert found.per_step == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("overlap", [False, True])
def test_neighbours_wait_a_time_that_does_not_grow_with_n(overlap):
    ring, everyone = (
        {n: runtime(graph(n), 500, overlap=overlap, replicas=4).per_step for n in (16, 64)}
        for graph in (rs.topologies.ring, rs.topologies.complete)
    )
    assert ring[64] / ring[16] < 1.06
    assert everyone[64] / everyone[16] > 1.2
    assert max(ring.values()) < min(everyone.values())


@dataclasses.dataclass(frozen=True)
class Spread:
    """A distribution of one's own, from 1 to 3."""

    def times(self, uniforms):
        return 1 + 2 * uniforms


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_the_recursion_is_that_of_loops_over_workers(overlap, every):
    n, steps = 6, 14
    graph = rs.topologies.from_edges(n, [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4), (4, 5)])
    generator = np.random.default_rng(0)
    latency, bandwidth = generator.uniform(0, 2, (n, n)), generator.uniform(1, 3, (n, n))
    asked = []

    class Told(Spread):
        def times(self, uniforms):
            asked.append(super().times(uniforms))
            return asked[-1]

    found = runtime(
        graph,
        steps,
        compute=Told(),
        latency=latency,
        bandwidth=bandwidth,
        bits=2.0,
        overlap=overlap,
        every=every,
        stragglers={2: 3.0},
        replicas=2,
    )
    neighbours = slow.neighbours_of(graph)
    for draw in range(2):
        t = [0.0] * n
        for step in range(steps):
            C = [asked[step][i, draw] * (3 if i == 2 else 1) for i in range(n)]
            ends = [t[i] + C[i] for i in range(n)]
            new = list(ends)
            if (step + 1) % every == 0:
                for i in range(n):
                    for j in neighbours[i]:
                        sent = t[j] if overlap else ends[j]
                        new[i] = max(new[i], sent + latency[i, j] + 2.0 / bandwidth[i, j])
            t = new
            np.testing.assert_allclose(found.worker_times[step + 1, :, draw], t, rtol=1e-14)
    np.testing.assert_allclose(found.time[-1, 1], max(t), rtol=1e-14)


BASE = {
    "compute": Exponential(1.0),
    "latency": 0.2,
    "bandwidth": 10.0,
    "bits": 3.0,
    "every": 1,
    "stragglers": Stragglers(0.1, 3.0),
}


@pytest.mark.parametrize(
    "change",
    [
        {"compute": Exponential(1.5)},
        {"latency": 0.9},
        {"bandwidth": 4.0},
        {"bits": 9.0},
        {"stragglers": Stragglers(0.1, 9.0)},
        {"stragglers": Stragglers(0.3, 3.0)},
    ],
    ids=repr,
)
@pytest.mark.parametrize("overlap", [False, True])
def test_no_step_ends_sooner_where_something_takes_longer(change, overlap):
    less = runtime(RING, 60, overlap=overlap, replicas=3, **BASE).worker_times
    more = runtime(RING, 60, overlap=overlap, replicas=3, **(BASE | change)).worker_times
    assert (more >= less).all()
    assert (more[-1] > less[-1]).any()


def test_waiting_for_more_takes_longer_and_overlap_less():
    together = runtime(RING, 60, replicas=3, **BASE).worker_times
    assert (runtime(RING, 60, replicas=3, overlap=True, **BASE).worker_times <= together).all()
    assert (
        runtime(rs.topologies.complete(8), 60, replicas=3, **BASE).worker_times >= together
    ).all()
    assert (runtime(RING, 60, replicas=3, **(BASE | {"every": 4})).worker_times <= together).all()
    assert (
        runtime(RING, 60, replicas=3, **(BASE | {"stragglers": {3: 1.0}})).time <= together.max(1)
    ).all()


@pytest.mark.parametrize("overlap", [False, True])
def test_what_holds_up_one_end_of_a_tree_reaches_the_other_as_many_steps_later_as_it_is_deep(
    overlap,
):
    """A relayed message goes on in the next step, whenever it came: it waits for a hop at a time."""
    chain = rs.topologies.chain(7)

    class Once:
        """Worker 0 is late by 100 in the first step."""

        def __init__(self):
            self.late = 100.0

        def times(self, uniforms):
            found = np.ones(uniforms.shape)
            found[0] += self.late
            self.late = 0.0
            return found

    times = runtime(chain, 9, compute=Once(), overlap=overlap).worker_times[..., 0]
    for worker in range(7):
        late = np.flatnonzero(times[:, worker] >= 100)[0]
        # Without overlap its neighbour waits in the same step.
        assert late == max(1, worker + int(overlap))


def test_one_slow_worker_holds_up_everyone_in_the_end():
    slow_one = runtime(RING, 200, compute=Constant(1.0), stragglers={0: 5.0})
    assert slow_one.time[-1, 0] == 5 * 200
    assert slow_one.worker_times[2, 4, 0] == 2.0, "who is far away has not noticed yet"
    assert slow_one.worker_times[200, 4, 0] > 5 * 190


@pytest.mark.parametrize(
    "compute", [Constant(2.0), Exponential(2.0), Pareto(2.0, 4.0), LogNormal(2.0)]
)
def test_distributions_have_the_mean_that_they_say_and_grow_with_their_number(compute):
    uniforms = (np.arange(200_000) + 0.5) / 200_000
    times = compute.times(uniforms)
    assert times.mean() == pytest.approx(2.0, rel=2e-3)
    assert times.min() > 0
    assert (np.diff(times) >= 0).all()


def test_a_pair_of_trees_waits_on_both_and_a_single_worker_for_no_one():
    pair = rs.topologies.double_binary_tree(8)
    both = runtime(pair, 50).worker_times
    for tree in (pair.first, pair.second):
        assert (both >= runtime(tree, 50).worker_times).all()
    alone = runtime(rs.topologies.chain(1), 2000)
    assert alone.per_step == pytest.approx(1, rel=0.1)


# -- on histories ------------------------------------------------------------------------------------


def history_of(algorithm, **options):
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.1, "steps": 20, "record": 5} | options
    return rs.simulate(problem, RING, algorithm, **run)


def test_a_history_takes_a_column_of_times_and_is_drawn_against_it(tmp_path):
    history = history_of(rs.algorithms.DPSGD(), replicas=3)
    model = runtime(RING, 30, replicas=3)
    timed = history.with_time(model)
    assert "time" not in history.frame
    table = timed.frame.pivot(index="step", columns="replica", values="time")
    np.testing.assert_array_equal(table, model.time[[0, 5, 10, 15, 20]])
    ax = timed.plot(x="time")
    assert ax.get_xlabel() == "Time"
    np.testing.assert_allclose(
        ax.lines[0].get_xdata(), np.median(model.time[[0, 5, 10, 15, 20]], axis=1)
    )
    timed.save(tmp_path / "timed")
    assert rs.History.load(tmp_path / "timed").frame.equals(timed.frame)
    one = history.with_time(runtime(RING, 20))
    assert one.frame.groupby("step").time.nunique().eq(1).all()


def test_a_runtime_is_used_like_an_array():
    one, several = runtime(RING, 20), runtime(RING, 20, replicas=3)
    assert one.shape == (21,) == np.asarray(one).shape
    assert several.shape == (21, 3)
    assert len(one) == 21
    assert (one[1:] > one[:-1]).all()
    np.testing.assert_array_equal(2 * one - one, one.worker_times.max(axis=1)[:, 0])


def test_a_history_makes_the_runtime_of_its_own_graph():
    model = {"compute": Exponential(2.0), "latency": 0.5, "seed": 4}
    history = history_of(rs.algorithms.DPSGD(overlap=True), replicas=3)
    known = runtime(RING, 20, overlap=True, replicas=3, **model)
    assert history.with_time(**model).frame.equals(history.with_time(known).frame)
    with pytest.raises(
        ValueError, match=r"give a runtime, or what makes one \(latency\), and not both"
    ):
        history.with_time(known, latency=1.0)
    with pytest.raises(
        ValueError, match="LocalSGD brings a network of its own; give with_time what"
    ):
        history_of(rs.algorithms.LocalSGD(5)).with_time(**model)


@pytest.mark.parametrize(
    ("method", "waits"),
    [
        (rs.algorithms.D2(), 20),
        (rs.algorithms.LED(5), 4),
        (rs.algorithms.KGT(4), 5),
        (rs.algorithms.GradientTracking("atc"), 40),
        (rs.algorithms.Mudag(3, strong_convexity=0.2), 60),
        (rs.algorithms.ProxSkip(0.2), None),
        (rs.algorithms.GossipPGA(3), None),
        (rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), 0.01), None),
    ],
    ids=repr,
)
def test_workers_wait_as_often_as_their_method_sends(method, waits):
    history = history_of(method)
    if waits is None:
        with pytest.raises(ValueError, match=r"depends on the run of .* give with_time what"):
            history.with_time(compute=Constant(1.0), latency=0.5)
        return
    timed = history.with_time(compute=Constant(1.0), latency=0.5)
    assert timed.frame.time.iloc[-1] == 20 + 0.5 * waits
    assert history.with_time(compute=Constant(1.0), latency=0.5, every=20, rounds=1).frame.time[
        4
    ] == (20.5)


def test_messages_of_a_step_follow_each_other():
    chain = rs.topologies.chain(3)
    run = {"compute": Constant(1.0), "latency": 0.5, "stragglers": {0: 4.0}}
    found = runtime(chain, 1, rounds=2, **run).worker_times[1, :, 0]
    assert found.tolist() == [5, 4.5, 5]


def test_a_sequence_is_waited_for_in_the_steps_in_which_it_is_used():
    n = 4
    cut = [np.kron(np.eye(2), np.full((2, 2), 0.5)), np.full((n, n), 1 / n)]
    problem = rs.problems.random_quadratics(n=n, d=2, zeta2=1.0, seed=0)
    method, where = rs.algorithms.LED(2), rs.topologies.complete(n)
    history = rs.simulate(problem, where, method, learning_rate=0.1, steps=4, mixing=cut)
    slow = {"compute": Constant(1.0), "stragglers": {0: 5.0}}
    timed = runtime(cut[1], 4, every=2, **slow)
    assert history.with_time(**slow).frame.time.tolist() == np.asarray(timed).tolist()
    late = rs.analysis.runtime(cut[1], 4, every=2, **slow).worker_times
    assert (late[-1] == 20).all()


def test_events_bring_their_own_time():
    history = history_of(rs.algorithms.A2CiD2())
    frame = history.with_time().frame
    assert (frame.time == frame.step).all()
    with pytest.raises(ValueError, match="events of A2CiD2 have times of their own; leave it"):
        history.with_time(runtime(RING, 20))


def test_times_that_do_not_fit_a_history_are_refused():
    history = history_of(rs.algorithms.DPSGD(), replicas=3)
    with pytest.raises(
        ValueError, match="a method of rounds has no time of its own; give with_time"
    ):
        history.with_time()
    with pytest.raises(
        ValueError, match="the runtime is of 19 steps and the history of 20; ask for"
    ):
        history.with_time(runtime(RING, 19))
    with pytest.raises(ValueError, match="the runtime has 2 replicas and the history 3; give"):
        history.with_time(runtime(RING, 20, replicas=2))


@pytest.mark.parametrize("kind", [Constant, Exponential, Pareto, LogNormal])
@pytest.mark.parametrize("mean", [0.0, -1.0])
def test_times_that_are_not_positive_are_refused(kind, mean):
    with pytest.raises(
        ValueError, match=r"mean must be positive, not .*: every gradient takes some"
    ):
        kind(mean)


class Never:
    def times(self, uniforms):
        return np.zeros(uniforms.shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute": Never()}, "the times of .* must be positive and finite"),
        (
            {"compute": 1.0},
            r"compute must be a distribution of times such as Exponential\(1.0\) or Constant\(1.0\), not 1.0",
        ),
        ({"latency": -1.0}, "latency must be at least 0 and finite, not -1.0"),
        ({"latency": np.zeros(8)}, r"latency must be a number or have shape \(8, 8\), not \(8,\)"),
        ({"bandwidth": 0.0}, "bandwidth must be positive, not 0.0"),
        ({"bits": -1.0}, "bits must be a finite number of at least 0, not -1.0"),
        ({"every": 0}, "every must be at least 1, not 0"),
        ({"replicas": 0}, "replicas must be at least 1, not 0"),
        ({"stragglers": {8: 2.0}}, "stragglers names worker 8; there are 0 to 7"),
        ({"stragglers": {0: 0.5}}, "a factor of stragglers must be a finite number of at least 1"),
        ({"stragglers": 3}, r"stragglers must be Stragglers\(probability, factor\) or factors"),
    ],
    ids=[
        *("never", "number", "early", "row", "closed", "bits", "every", "draws"),
        *("who", "faster", "what"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        runtime(RING, 5, **options)


def test_other_input_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        runtime(RING, 0)
    with pytest.raises(
        ValueError, match=r"shape must be above 1, so that times have a mean, not 1.0"
    ):
        Pareto(1.0, shape=1.0)
    with pytest.raises(ValueError, match=r"factor must be a finite number of at least 1, not 0.5"):
        Stragglers(0.1, 0.5)
    with pytest.raises(ValueError, match="matrices must all be n × n, not 4 × 4 and 5 × 5"):
        runtime([np.eye(4), np.eye(5)], 5)


def test_several_matrices_in_a_step_are_waited_for_only_where_they_join_the_same_workers():
    problem = rs.problems.random_quadratics(n=4, d=1, zeta2=1.0, seed=0)
    graph = rs.topologies.chain(4)
    turns = [np.eye(4) for _ in range(3)]
    for W, (i, j) in zip(turns, graph.edges.tolist(), strict=True):
        W[[i, j], [i, j]] = W[[i, j], [j, i]] = 0.5
    rows, columns = rs.mixing.row_stochastic(graph), rs.mixing.column_stochastic(graph)
    for algorithm, mixing, refused in (
        (rs.algorithms.SGP(2, "topology"), turns, True),
        (rs.algorithms.Muffliato(rounds=2), turns, True),
        (
            rs.algorithms.Muffliato(rounds=2),
            [turns[0], turns[0], turns[1], turns[1], turns[2], turns[2]],
            False,
        ),
        (rs.algorithms.PushPull(), (rows, columns), False),
        (rs.algorithms.PushPull(), (rows, columns, turns[0] @ turns[2], columns), True),
        (rs.algorithms.GradientTracking("atc"), turns, False),
    ):
        history = rs.simulate(
            problem,
            graph,
            algorithm,
            learning_rate=0.05,
            steps=3,
            mixing=mixing,
            progress=False,
        )
        if refused:
            with pytest.raises(ValueError, match="waits with 2 matrices in a step"):
                history.with_time(compute=Constant(1.0))
        else:
            assert history.with_time(compute=Constant(1.0)).frame.time.is_monotonic_increasing
