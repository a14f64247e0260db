"""Mixing that does not repeat: callables of the step, and lattices that become sparser."""

import numpy as np
import pytest
import slow
from scipy import sparse

import relaysim as rs
from relaysim.algorithms import (
    D2,
    DPSGD,
    ChocoSGD,
    ConsensusControl,
    DecentLaM,
    GradientTracking,
    PowerGossip,
    RelaySGD,
)
from relaysim.mixing import lattice_schedule

N, STEPS = 6, 20
COMPLETE = rs.topologies.complete(N)
PROBLEM = rs.problems.random_quadratics(n=N, d=3, zeta2=1.0, seed=0)
PERIOD = rs.mixing.base_graph(N, 1)
RUN = {"learning_rate": 0.05, "steps": STEPS, "seed": 3, "oracle": rs.oracles.Gaussian(0.1)}


class Random:
    """Another doubly stochastic matrix each step, made anew each time that it is asked for."""

    def __call__(self, step):
        swap = np.eye(N)[np.random.default_rng(step).permutation(N)]
        return 0.5 * np.eye(N) + 0.25 * (swap + swap.T)


def simulate(mixing, algorithm=DPSGD(), **options):  # noqa: B008
    return rs.simulate(PROBLEM, COMPLETE, algorithm, mixing=mixing, **(RUN | options))


# -- any callable ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm",
    [
        DPSGD(momentum=0.5),
        DPSGD(overlap=True),
        D2(),
        GradientTracking(),
        DecentLaM(0.5),
        ChocoSGD(rs.compressors.RandomK(2), 0.3),
        ConsensusControl(DPSGD(), 1e-3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("fresh", [False, True], ids=["the same objects", "new objects"])
def test_a_callable_that_repeats_is_the_sequence_in_every_bit(algorithm, fresh):
    def mixing(step):
        W = PERIOD[step % len(PERIOD)]
        return W.copy() if fresh else W

    expected = simulate(PERIOD, algorithm, replicas=2)
    found = simulate(mixing, algorithm, replicas=2)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.frame, expected.frame)


def test_messages_that_are_lost_are_lost_alike():
    drop = rs.faults.MessageDrop(0.3)
    expected = simulate(PERIOD, faults=drop)
    found = simulate(lambda step: PERIOD[step % len(PERIOD)], faults=drop)
    np.testing.assert_array_equal(found.x, expected.x)


@pytest.mark.parametrize("algorithm", [DPSGD(), D2(), GradientTracking()], ids=repr)
def test_matrices_that_never_repeat_are_the_rule_on_paper(algorithm):
    steps = 100  # more than are kept
    problem = rs.problems.LeastSquares(PROBLEM.A, PROBLEM.b)
    history = rs.simulate(
        problem, COMPLETE, algorithm, learning_rate=0.05, steps=steps, mixing=Random(),
        keep_iterates=True,
    )  # fmt: skip
    matrices = [Random()(step) for step in range(steps)]
    gradient = slow.least_squares_gradient(problem.A, problem.b)
    expected = slow.run(
        algorithm, COMPLETE, gradient, np.zeros((N, 3)), [0.05] * steps, mixing=matrices
    )
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12)
    sent = sum(np.count_nonzero(W - np.diag(np.diag(W))) for W in matrices)
    assert history.frame.vectors_sent.iloc[-1] == sent * algorithm.vectors_per_edge(3)


# -- gone on with, saved, swept --------------------------------------------------------------------


@pytest.mark.parametrize("mixing", [lattice_schedule(N, 4, 2, 15), Random()])
def test_a_run_is_gone_on_with_in_every_bit(mixing, tmp_path):
    whole, half = simulate(mixing, replicas=2), simulate(mixing, replicas=2, steps=STEPS // 2)
    np.testing.assert_array_equal(half.extend(STEPS - STEPS // 2).x, whole.x)
    half.save(tmp_path / "half.npz")
    loaded = rs.History.load(tmp_path / "half.npz")
    if isinstance(mixing, Random):
        with pytest.raises(ValueError, match=r"the mixing was .* Random, .* pass mixing="):
            loaded.extend(5)
        with pytest.raises(ValueError, match="pass mixing="):
            loaded.mixing  # noqa: B018
        longer = loaded.extend(STEPS - STEPS // 2, mixing=mixing)
    else:
        assert loaded.mixing == half.mixing == mixing
        longer = loaded.extend(STEPS - STEPS // 2)
        again = rs.simulate(**rs.rebuild(loaded.config))
        np.testing.assert_array_equal(again.x, half.x)
    np.testing.assert_array_equal(longer.x, whole.x)


def test_a_lattice_schedule_has_a_name_and_callables_of_ones_own_have_none():
    run = {"n": 8, "d": 2, "algorithm": "DPSGD", "topology": "complete", "learning_rate": 0.1}
    run |= {"steps": 6}
    schedule = lattice_schedule(8, 6, 2, steps=4)
    tables = [
        rs.sweep(run | {"mixing": mixing}, progress=False)
        for mixing in (schedule, repr(schedule), "lattice_schedule(6, 2, steps=4)")
    ]
    for table in tables[1:]:
        np.testing.assert_array_equal(table.suboptimality, tables[0].suboptimality)
    np.testing.assert_array_equal(np.diff(tables[0].vectors_sent), [48, 48, 32, 16, 16, 16])
    with pytest.raises(ValueError, match="a callable of your own; take a name or a call"):
        rs.sweep(run | {"mixing": Random()}, progress=False)


# -- lattices --------------------------------------------------------------------------------------


def test_gaps_of_lattices_are_as_listed():
    listed = {2: 0.0128, 4: 0.0381, 8: 0.1237, 16: 0.4028, 30: 0.9677}
    for neighbours, gap in listed.items():
        W = lattice_schedule(32, neighbours, neighbours, 1)(0)
        assert (W.toarray() == W.toarray().T).all()
        assert set(np.unique(W.toarray().round(12))) == {0, round(1 / (neighbours + 1), 12)}
        assert (np.diff(W.indptr) == neighbours + 1).all()
        assert rs.theory.spectral_gap(W) == pytest.approx(gap, abs=5e-5)


def test_numbers_of_neighbours_take_turns_evenly():
    down, up = lattice_schedule(32, 16, 2, 800), lattice_schedule(32, 2, 16, 800)
    counts = [down.neighbours(step) for step in range(900)]
    assert counts[::100] == [16, 14, 12, 10, 8, 6, 4, 2, 2]
    assert [up.neighbours(step) for step in range(800)] == counts[799::-1]
    assert down(99) is down(0)
    assert down(5000) is down(700)


def test_the_order_of_lattices_matters_for_the_workers_own_models_only():
    """Ξ² in the first half and at the end, as measured apart from this for some noise of this size."""
    n, steps = 32, 800
    problem = rs.problems.random_quadratics(n=n, d=10, zeta2=0.1, mu=0.25, seed=0)
    listed = {
        (2, 2): (2.8e-2, 2.5e-3),
        (8, 8): (3.4e-3, 5.7e-5),
        (16, 2): (2.5e-3, 2.4e-3),
        (2, 16): (3.6e-3, 6.9e-6),
    }
    of_mean, vectors = [], []
    for (start, stop), expected in listed.items():
        frame = rs.simulate(
            problem, rs.topologies.complete(n), DPSGD(), steps=steps, replicas=8,
            learning_rate=rs.schedules.Steps(0.1, {steps // 2: 0.1}),
            mixing=lattice_schedule(n, start, stop, steps), oracle=rs.oracles.Gaussian(0.8),
        ).frame  # fmt: skip
        mean = (frame.distance - frame.consensus_distance).groupby(frame.step).mean()
        xi2 = frame.consensus_distance.groupby(frame.step).mean()
        halves = xi2[100 : steps // 2].mean(), xi2[steps - 40 :].mean()
        ratio = np.array(halves) / expected
        assert (ratio > 0.4).all(), (start, stop, halves)
        assert (ratio < 2.5).all(), (start, stop, halves)
        of_mean.append((mean[200 : steps // 2].mean(), mean[steps - 200 :].mean()))
        vectors.append(frame.vectors_sent.iloc[-1] / n / steps)
    assert vectors == [2, 8, 9, 9]
    of_mean = np.array(of_mean)
    np.testing.assert_allclose(of_mean, np.broadcast_to(of_mean[1], of_mean.shape), rtol=0.2)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda mixing: rs.theory.linearize(PROBLEM, COMPLETE, DPSGD(), 0.1, mixing=mixing),
        lambda mixing: rs.theory.stable_learning_rates(PROBLEM, COMPLETE, DPSGD(), mixing),
        lambda mixing: rs.theory.best_learning_rate(PROBLEM, COMPLETE, DPSGD(), mixing),
        lambda mixing: rs.theory.bounds.bounds_for(PROBLEM, COMPLETE, DPSGD(), 0.1, mixing=mixing),
        lambda mixing: simulate(mixing, oracle=None).plot(theory=True),
    ],
    ids=["linearize", "stable", "best", "bounds", "plot"],
)
def test_exact_theory_is_refused_with_the_reason(ask):
    with pytest.raises(
        ValueError, match=r"callable of the step.*need not repeat: without a period"
    ):
        ask(lattice_schedule(N, 4, 2, 9))


@pytest.mark.parametrize(
    ("mixing", "algorithm", "error", "message"),
    [
        (Random(), PowerGossip(rows=3), ValueError, "PowerGossip keeps something for each edge"),
        (Random(), RelaySGD(), ValueError, "needs a tree"),
        (Random(), rs.algorithms.AllReduce(), ValueError, "does not use a mixing matrix"),
        (lambda step: np.eye(3), DPSGD(), ValueError, "matrix of step 0 is 3 × 3"),
        (lambda step: "W", DPSGD(), TypeError, "matrix of step 0 must be an array"),
        (
            lambda step: np.ones((N, N)),
            DPSGD(),
            ValueError,
            r"rows of the mixing .* step 0 must sum",
        ),
        (Random, DPSGD(), TypeError, "must be a matrix"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(mixing, algorithm, error, message):
    def never(*arguments, **options):
        raise AssertionError("no gradient is asked for")

    problem = type("Untouched", (), {"n": N, "d": 3, "gradient": never, "value": never})()
    with pytest.raises(error, match=message):
        rs.simulate(problem, COMPLETE, algorithm, mixing=mixing, learning_rate=0.1, steps=2)


def test_a_later_matrix_off_the_edges_is_named_with_its_step():
    ring = rs.topologies.ring(N)
    good, bad = rs.mixing.metropolis(ring), Random()(0)
    with pytest.raises(ValueError, match=r"mixing matrix of step 7 has weight .* no edge of ring"):
        rs.simulate(
            PROBLEM, ring, DPSGD(), learning_rate=0.1, steps=9,
            mixing=lambda step: bad if step == 7 else good,
        )  # fmt: skip


def test_a_later_matrix_that_cannot_lose_a_message_is_refused():
    ring = rs.topologies.ring(N)
    good, bad = rs.mixing.metropolis(ring), rs.mixing.uniform(ring, 0.6)
    with pytest.raises(ValueError, match="scaled to sum to 1, which needs weights of 0 or more"):
        rs.simulate(
            PROBLEM, ring, DPSGD(), learning_rate=0.1, steps=9, faults=rs.faults.MessageDrop(0.1),
            mixing=lambda step: bad if step == 7 else good,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3, 2, 5), "start must be an even number of neighbours.* from 2 to 6 for 8 workers"),
        ((8, 6, 8, 5), "stop must be an even number.* not 8"),
        ((8, 6, 0, 5), "stop must be at least 2"),
        ((2, 2, 2, 5), "n must be at least 3"),
        ((8, 6, 2, 0), "steps must be at least 1"),
    ],
)
def test_lattices_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        lattice_schedule(*arguments)


def test_functions_of_matrices_say_where_a_callable_belongs():
    with pytest.raises(TypeError, match=r"a callable of the step is for relaysim\.simulate"):
        rs.theory.spectral_gap(lattice_schedule(8, 4, 2, 5))


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_a_callable_may_write_into_the_memory_of_its_last_matrix(storage):
    W = rs.mixing.metropolis(COMPLETE)
    lazy = (W + sparse.eye_array(N)) / 2
    held = (W.toarray() if storage == "dense" else W).copy()

    def mixing(step):
        each = W if step % 2 == 0 else lazy
        if storage == "dense":
            held[:] = each.toarray()
        else:
            held.data[:] = each.tocsr().data
        return held

    again = simulate(lambda step: (W if step % 2 == 0 else lazy).copy())
    np.testing.assert_array_equal(simulate(mixing).x, again.x)
    assert abs(simulate(W).x - again.x).max() > 1e-3
