"""Methods that ask for gradients on examples by their numbers, and what is drawn for them."""

import types

import numpy as np
import pytest
import slow
from methods import BY_NUMBER

import relaysim as rs
from relaysim.algorithms import GTSAGA, GTSARAH, GTSVRG
from relaysim.oracles import Minibatch, Table
from relaysim.support.streams import Streams

RING = rs.topologies.ring(6)
over_methods = pytest.mark.parametrize("algorithm", BY_NUMBER, ids=repr)


def least_squares(n=6, rows=7, d=4, examples=None):
    """Heterogeneous; a worker's rows beyond its examples are 0."""
    generator = np.random.default_rng(0)
    A = generator.normal(size=(n, rows, d))
    b = generator.normal(size=(n, rows))
    if examples is not None:
        beyond = np.arange(rows) >= np.array(examples)[:, None]
        A[beyond], b[beyond] = 0, 0
    return rs.problems.LeastSquares(
        A / np.linalg.norm(A, ord=2, axis=(1, 2)).max(), b, examples=examples
    )


def logistic(n=6, rows=7, d=4, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, rows, d))
    labels = features[..., 0] + generator.normal(size=(n, rows)) > 0
    return rs.problems.Logistic(features, labels, l2=0.1)


PROBLEMS = {
    "least squares": least_squares(),
    "of unlike sizes": least_squares(examples=[7, 2, 5, 1, 7, 3]),
    "logistic": logistic(),
}


def examples_on_paper(problem, oracle, seed):
    """Gradients on single examples, written out, and the draws of a run's stream."""
    counts = problem.examples.tolist()

    def gradient(worker, number, x):
        if isinstance(problem, rs.problems.LeastSquares):
            a = problem.A[worker, number]
            return counts[worker] * a * (a @ x - problem.b[worker, number])
        a = problem._features[7 * worker + number]
        y = 1 if problem._labels[7 * worker + number] else -1
        return -y * a / (1 + np.exp(y * (a @ x))) + problem.l2 * x

    draw = Streams([seed], None).batches(
        "sampling", problem.examples, oracle.size, oracle.sampling, 1 << 16
    )
    return types.SimpleNamespace(counts=counts, gradient=gradient, draw=draw)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "algorithm", [*BY_NUMBER, GTSAGA("fresh"), GTSARAH(1), GTSVRG(12)], ids=repr
)
def test_a_step_is_the_rule_on_paper(problem, size, algorithm):
    problem, oracle, steps = PROBLEMS[problem], Table(size), 40
    x0 = np.random.default_rng(1).normal(size=(6, 4))
    mixing = [rs.mixing.metropolis(RING), rs.mixing.lazy(rs.mixing.metropolis(RING))]
    run = {"learning_rate": rs.schedules.InverseSqrt(0.2), "steps": steps, "x0": x0, "seed": 5}
    fast = rs.simulate(
        problem, RING, algorithm, **run, mixing=mixing, oracle=oracle, keep_iterates=True
    ).iterates
    paper = slow.run(
        algorithm,
        RING,
        None,
        x0,
        [0.2 / (1 + step) ** 0.5 for step in range(steps)],
        [W.toarray() for W in mixing],
        examples=examples_on_paper(problem, oracle, seed=5),
    )
    assert np.abs(np.diff(paper, axis=0)).max() > 0.01
    np.testing.assert_allclose(fast, paper, rtol=0, atol=1e-13 * np.abs(paper).max())


@over_methods
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("sampling", ["with replacement", "epochs"])
def test_a_replica_equals_its_run_alone(algorithm, size, sampling):
    rates, run = [0.02, 0.1], {"steps": 60, "oracle": Table(size, sampling), "keep_iterates": True}
    for seeds in ([3, 11], [3]):
        together = rs.simulate(
            logistic(), RING, algorithm, learning_rate=rates, seed=seeds, **run
        ).iterates
        for replica in range(together.shape[-1]):
            rate, seed = rates[replica // len(seeds)], seeds[replica % len(seeds)]
            alone = rs.simulate(logistic(), RING, algorithm, learning_rate=rate, seed=seed, **run)
            atol = 1e-13 * np.abs(alone.iterates).max()
            np.testing.assert_allclose(together[..., replica], alone.iterates, rtol=0, atol=atol)


@over_methods
def test_a_run_goes_on_with_the_same_bits_and_replicas_may_leave(algorithm, tmp_path, monkeypatch):
    run = {"problem": least_squares(), "topology": RING, "algorithm": algorithm}
    run |= {"learning_rate": [0.05, 900.0], "seed": [4, 9], "oracle": Table(2)}
    whole = rs.simulate(**run, steps=43)
    part = rs.simulate(**run, steps=23)
    for first in (part, rs.History.load(part.save(tmp_path / "part"))):
        longer = first.extend(20)
        assert longer.x.tobytes() == whole.x.tobytes()
        assert longer.frame.equals(whole.frame)
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", 0)  # so that they leave at once
    leaving = rs.simulate(**run, steps=43)
    assert leaving.diverged.tolist() == [False, False, True, True]
    stays = rs.simulate(**(run | {"learning_rate": [0.05]}), steps=43)
    np.testing.assert_allclose(leaving.x[..., :2], stays.x, rtol=0, atol=1e-13)


@over_methods
def test_lent_buffers_change_no_bits(algorithm, monkeypatch):
    from test_contract import poison_what_is_taken_back

    def call():
        run = {"learning_rate": 0.05, "steps": 30, "replicas": 3, "oracle": Table(2)}
        return rs.simulate(least_squares(), RING, algorithm, **run).x.tobytes()

    normal = call()
    monkeypatch.setattr("relaysim.support.workspace.LEND_FROM_BYTES", 0)
    poison_what_is_taken_back(monkeypatch)
    assert call() == normal


@pytest.mark.parametrize(
    ("of", "steps", "stalls_at"), [(least_squares, 1200, 0.51), (logistic, 1600, 1.45e-2)]
)
def test_batches_of_one_end_at_the_optimum_where_tracking_alone_stalls(of, steps, stalls_at):
    """One example of 20."""
    problem, ring = of(8, 20, 5), rs.topologies.ring(8)
    run = {"learning_rate": 0.1, "steps": steps, "record": range(600, steps + 1, 10)}
    run["oracle"] = Table()
    for algorithm in (*BY_NUMBER, GTSAGA("fresh")):
        found = rs.simulate(problem, ring, algorithm, **run).frame.distance
        assert found.iloc[-1] < 1e-25
    plain = rs.simulate(problem, ring, rs.algorithms.GradientTracking(), **run).frame.distance
    assert plain.mean() == pytest.approx(stalls_at, rel=0.25)


def test_what_is_drawn_for_others_is_what_minibatch_draws():
    problem, run = logistic(), {"learning_rate": 0.1, "steps": 20, "seed": [1, 2]}
    table, batches = (
        rs.simulate(problem, RING, rs.algorithms.D2(), oracle=oracle, **run).x
        for oracle in (Table(2), Minibatch(2))
    )
    assert table.tobytes() == batches.tobytes()


def test_a_full_gradient_in_every_step_is_gradient_tracking():
    problem, run = logistic(), {"learning_rate": 0.1, "steps": 30}
    x0 = np.zeros((6, 4))
    found = rs.simulate(problem, RING, GTSARAH(1), oracle=Table(), **run).x
    W = rs.mixing.metropolis(RING).toarray()
    x, y, g = x0, np.zeros_like(x0), np.zeros_like(x0)
    for _ in range(30):
        y, g = W @ y + problem.gradient(x) - g, problem.gradient(x)
        x = W @ x - 0.1 * y
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)
    other = rs.simulate(problem, RING, GTSVRG(1), oracle=Table(), **run).x
    np.testing.assert_allclose(other, x, rtol=0, atol=1e-13)


# -- least squares as examples ---------------------------------------------------------------------


def test_rows_of_least_squares_are_examples():
    for problem in (PROBLEMS["least squares"], PROBLEMS["of unlike sizes"]):
        table = rs.problems.check(problem)
        assert table.holds.all(), f"\n{table}"
        claims = table.set_index("claim").holds
        assert claims.filter(like="sampled_gradient").sum() == 3
        assert claims["example_variance: that of the examples' gradients"]
    problem = least_squares(examples=[7, 2, 5, 1, 7, 3])
    x = np.ones((6, 4))
    sizes = problem.examples[:, None]
    index = np.arange(7) % sizes  # everyone's examples, some more than once
    for repeats in (index, np.broadcast_to(index[..., None], (6, 7, 3))):
        points = x if repeats.ndim == 2 else np.stack([x, 2 * x, 3 * x], axis=-1)
        found = problem.sampled_gradient(points, repeats)
        whole = [np.isin(worker, [0, 3, 4]) for worker in range(6)]  # 7, 1 and 7 examples
        np.testing.assert_allclose(found[whole], problem.gradient(points)[whole], atol=1e-13)


def test_what_is_given_of_examples_is_kept_as_it_was():
    plain, weighed = least_squares(), least_squares(examples=[7, 2, 5, 1, 7, 3])
    assert "examples" not in plain.to_config()
    assert weighed.to_config()["examples"].dtype == float
    assert plain.examples.tolist() == [7] * 6


# -- what is refused -------------------------------------------------------------------------------


@over_methods
@pytest.mark.parametrize("oracle", [None, rs.oracles.Gaussian(0.1), Minibatch(1)])
def test_an_oracle_that_knows_no_numbers_is_refused(algorithm, oracle):
    name = type(algorithm).__name__
    with pytest.raises(
        ValueError, match=rf"{name} asks for gradients on examples by their numbers"
    ):
        rs.simulate(logistic(), RING, algorithm, learning_rate=0.1, steps=5, oracle=oracle)


def test_what_cannot_be_is_said_before_work_starts(monkeypatch):
    run = {"learning_rate": 0.1, "steps": 5}
    hill = rs.problems.DiagonalQuadratic(np.ones((6, 2)), np.ones((6, 2)))
    with pytest.raises(TypeError, match="has no examples to draw from; Table is for problems"):
        rs.simulate(hill, RING, GTSAGA(), oracle=Table(), **run)
    generator = np.random.default_rng(0)
    A, b = generator.normal(size=(6, 4, 2)), generator.normal(size=(6, 4))
    for counts in (
        [5] * 6,
        [3] * 6,
        [1.5] * 6,
    ):  # more than rows, not all that are not 0, no number of rows
        weighed = rs.problems.LeastSquares(A, b, examples=counts)
        with pytest.raises(TypeError, match="has no examples to draw from"):
            rs.simulate(weighed, RING, rs.algorithms.DPSGD(), oracle=Minibatch(1), **run)
    monkeypatch.setattr("relaysim.support.checks.memory_bytes", lambda: 60_000)
    with pytest.raises(
        ValueError, match=r"table of 42 examples' gradients of 120 numbers .* 80\.6 kB"
    ):
        rs.simulate(logistic(), RING, GTSAGA(), oracle=Table(), replicas=30, **run)
    for kind in (GTSARAH, GTSVRG):
        with pytest.raises(ValueError, match="period must be at least 1"):
            kind(period=0)
    with pytest.raises(ValueError, match="refresh must be one of 'used', 'fresh'"):
        GTSAGA("never")
    with pytest.raises(ValueError, match="consensus control watches the one gradient of a step"):
        rs.algorithms.ConsensusControl(GTSAGA(), 0.1)
    with pytest.raises(TypeError, match="not affine"):
        rs.theory.linearize(least_squares(), RING, GTSAGA(), 0.1)


def test_a_step_that_asks_by_numbers_has_to_say_so():
    class Silent(rs.algorithms.GTSARAH):
        oracle_needs = "nothing"

    with pytest.raises(
        TypeError, match="say so in the class of the method: oracle_needs = 'examples'"
    ):
        rs.simulate(logistic(), RING, Silent(period=2), learning_rate=0.1, steps=5, oracle=Table())
