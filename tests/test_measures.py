"""A column is one object: ready ones and the user's own, from every door."""

import math

import numpy as np
import pytest

import relaysim as rs
from relaysim.measures import Measure

N, D = 6, 3
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, mu=0.25, seed=0)
X0 = np.random.default_rng(1).normal(size=(N, D))
RUN = {"learning_rate": 0.2, "steps": 30, "x0": X0}


def largest_deviation(iterates, problem):
    deviations = iterates - iterates.mean(axis=1, keepdims=True)
    return (deviations**2).sum(axis=2).max(axis=1)


def of_first_worker(iterates, problem):
    away = iterates[:, 0] - problem.optimum.reshape(-1, *[1] * (iterates.ndim - 3))
    return (away**2).sum(axis=1)


OWN = Measure("largest", largest_deviation, r"Largest $\|x_i - \bar{x}\|^2$ (squared)")


def simulate(**options):
    run = RUN | options
    problem, topology = run.pop("problem", PROBLEM), run.pop("topology", rs.topologies.chain(N))
    return rs.simulate(problem, topology, run.pop("algorithm", rs.algorithms.RelaySGD()), **run)


class Cosh:
    """A problem whose optimum is not known."""

    n, d = N, D

    def gradient(self, x):
        return np.sinh(x - X0.reshape(N, D, *[1] * (x.ndim - 2)))

    def value(self, x):
        return np.cosh(x - X0).sum(axis=1).mean()


# -- what is measured ------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, 3])
@pytest.mark.parametrize("block_bytes", [0, 3000, 1 << 19])
def test_columns_are_those_of_the_iterates(replicas, block_bytes, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    history = simulate(
        replicas=replicas,
        oracle=rs.oracles.Gaussian(0.1),
        keep_iterates=True,
        measures=[
            *("worst_distance", "max_consensus_distance", "value", OWN),
            ("norm", lambda x: np.sqrt((x * x).sum(axis=(0, 1)))),
            *("worker_distance", "worker_consensus_distance"),
        ],
    )
    iterates = history.iterates if replicas else history.iterates[..., None]
    frame, by_worker = history.frame, history.worker_frame
    for replica in range(replicas or 1):
        rows = frame[frame.replica == replica]
        x = iterates[..., replica]
        mean = x.mean(axis=1, keepdims=True)
        to_optimum = ((x - PROBLEM.optimum) ** 2).sum(axis=2)
        to_mean = ((x - mean) ** 2).sum(axis=2)
        f = [
            0.5
            * np.mean(
                [np.sum((A @ m[0] - b) ** 2) for A, b in zip(PROBLEM.A, PROBLEM.b, strict=True)]
            )
            for m in mean
        ]
        expected = {
            "worst_distance": to_optimum.max(axis=1),
            "max_consensus_distance": to_mean.max(axis=1),
            "largest": to_mean.max(axis=1),
            "value": f,
            "norm": np.linalg.norm(x, axis=(1, 2)),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(rows[name], values, rtol=1e-12, atol=1e-14, err_msg=name)
        table = by_worker[by_worker.replica == replica]
        assert table.step.tolist() == np.repeat(history.steps, N).tolist()
        assert table.worker.tolist() == [*range(N)] * len(history.steps)
        np.testing.assert_allclose(table.worker_distance, to_optimum.ravel(), rtol=1e-12)
        np.testing.assert_allclose(
            table.worker_consensus_distance, to_mean.ravel(), rtol=1e-12, atol=1e-15
        )
    assert list(by_worker.columns)[3:] == [
        *("step", "worker", "worker_distance", "worker_consensus_distance"),
    ]


def test_further_measures_change_no_bit_of_the_others():
    plain, more = simulate(), simulate(measures=[*NAMES, OWN])
    assert more.frame[plain.frame.columns].equals(plain.frame)
    assert list(more.frame.columns)[7:-2] == ["gradient_norm", *NAMES[:2], "largest"]


NAMES = ("worst_distance", "max_consensus_distance", "worker_distance")


def test_ready_measures_measure_any_iterates():
    history = simulate(replicas=2, keep_iterates=True)
    for name in ("suboptimality", "consensus_distance", "distance", "gradient_norm"):
        found = getattr(rs.measures, name).of(history.iterates, PROBLEM)
        assert found.shape == (*history.iterates.shape[:1], 2)
        np.testing.assert_array_equal(found.T.ravel(), history.frame[name])
        one = getattr(rs.measures, name).of(history.iterates[..., 0], PROBLEM)
        np.testing.assert_allclose(one, found[:, 0], rtol=1e-12, atol=1e-28)


def test_one_large_record_is_measured_in_pieces():
    generator = np.random.default_rng(0)
    n = 5000
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 10)), generator.normal(size=(n, 10)))
    x = generator.normal(size=(2, n, 10))
    for name in ("consensus_distance", "max_consensus_distance", "worst_distance"):
        measure = getattr(rs.measures, name)
        both = measure.of(x, problem)
        assert both[1] == pytest.approx(measure.of(x[1:], problem)[0], rel=1e-13)


def test_accuracy_of_the_test_set():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, D))
    labels = features[:, 0] + 0.5 * generator.normal(size=400) > 0
    train, test = rs.problems.data.Dataset(features, labels).split(0.5)
    options = {"l2": 0.01, "partition": rs.problems.partitions.iid(train.labels, N)}
    given = (train.features, train.labels)
    problem = rs.problems.Logistic(*given, **options, test=test)
    history = simulate(
        problem=problem, measures=["accuracy"], keep_iterates=True, learning_rate=[0.3, 1e8]
    )
    assert history.diverged.tolist() == [False, True]
    means = history.iterates[..., 0].mean(axis=1)
    expected = [np.mean((test.features @ x > 0) == test.labels) for x in means]
    found = history.frame.accuracy[history.frame.replica == 0]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert found.iloc[-1] > 0.8 > found.iloc[0]
    assert math.isnan(history.frame.accuracy.iloc[-1])
    again = rs.rebuild(history.config)
    assert (again["problem"].test[0] == test.features).all()
    assert rs.simulate(**again).frame.equals(history.frame)

    for lacking in (PROBLEM, rs.problems.Logistic(*given, **options)):
        with pytest.raises(ValueError, match="test data"):
            simulate(problem=lacking, measures=["accuracy"])
    with pytest.raises(ValueError, match="columns"):
        rs.problems.Logistic(*given, **options, test=(test.features[:, 1:], test.labels))
    with pytest.raises(TypeError, match="Dataset"):
        rs.problems.Logistic(*given, **options, test=3)


def test_a_diverged_replica_is_nan_and_not_shown_to_own_measures():
    seen = []

    def spectrum(iterates, problem):
        seen.append(iterates.copy())
        moved = np.moveaxis(iterates, -1, 1)
        return np.linalg.svd(moved, compute_uv=False).max(axis=-1)  # raises where it meets NaN

    history = simulate(
        problem=Cosh(),
        learning_rate=[0.1, 30.0],
        steps=200,
        measures=[
            Measure("norm", spectrum),
            Measure("each", lambda x, p: x[:, :, 0], per_worker=True),
        ],
    )
    assert history.diverged.tolist() == [False, True]
    assert all(np.isfinite(iterates).all() for iterates in seen)
    gone = history.frame.suboptimality if "suboptimality" in history.frame else history.frame.value
    assert history.frame.norm.isna().tolist() == gone.isna().tolist()
    assert history.frame.norm.isna().any()
    by_worker = history.worker_frame
    assert by_worker.each.isna().sum() == N * gone.isna().sum()


def test_iterates_are_not_to_be_changed():
    def spoil(iterates, problem):
        iterates *= 0
        return iterates[:, 0, 0]

    with pytest.raises(ValueError, match="read-only"):
        simulate(measures=[Measure("spoil", spoil)])
    # What is returned may be a part of the iterates: it is copied.
    part = Measure("part", lambda iterates, problem: iterates[:, 0, 0])
    found = simulate(measures=[part], learning_rate=[0.2, 1e5], keep_iterates=True)
    plain = simulate(learning_rate=[0.2, 1e5], keep_iterates=True)
    assert found.iterates.tobytes() == plain.iterates.tobytes()


# -- every door ------------------------------------------------------------------------------------


def test_own_measures_in_pictures_comparisons_and_tables():
    import matplotlib.pyplot as plt

    history = simulate(measures=[OWN, "worst_distance", ("n_o", lambda x: x[0, 0] ** 2)])
    for name, label in (
        ("largest", OWN.label),
        ("worst_distance", rs.measures.worst_distance.label),
        ("n_o", "n_o"),
    ):
        ax = history.plot(y=name)
        assert ax.get_ylabel() == label
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), history.frame[name])
        plt.close(ax.figure)
    table = rs.analysis.compare({"a": history, "b": simulate()})
    assert list(table.columns)[-5:] == ["worst_distance", "largest", "n_o", "rate", "diverged"]
    assert table.largest["a"] == history.frame.largest.iloc[-1]
    assert math.isnan(table.largest["b"])
    assert "largest" in rs.analysis.markdown(table)
    assert r"n\_o" in rs.analysis.latex(table)
    first = Measure("first", of_first_worker)
    falling = simulate(measures=[first], algorithm=rs.algorithms.AllReduce(), steps=200, x0=X0[0])
    factors = [rs.analysis.fit_rate(falling, name).factor for name in ("first", "distance")]
    assert factors[0] == pytest.approx(factors[1], rel=1e-9)


def test_own_measures_in_files(tmp_path):
    measures = [OWN, "worst_distance", Measure("each", lambda x, p: x[:, :, 0], per_worker=True)]
    history = simulate(measures=measures)
    loaded = rs.History.load(history.save(tmp_path / "own"))
    assert loaded.frame.equals(history.frame)
    assert loaded.worker_frame.equals(history.worker_frame)
    assert loaded.plot(y="largest").get_ylabel() == OWN.label
    with pytest.raises(
        ValueError, match=r"measure was an object of your own, 'largest'.*measures="
    ):
        rs.rebuild(loaded.config)
    again = rs.simulate(**rs.rebuild(loaded.config, measures=measures))
    assert again.frame.equals(history.frame)
    ready = simulate(measures=["worst_distance"])
    assert ready.config["measures"] == ["worst_distance"]
    loaded = rs.History.load(ready.save(tmp_path / "ready"))
    assert rs.simulate(**rs.rebuild(loaded.config)).frame.equals(ready.frame)
    assert loaded.measures == ready.measures


def test_the_explorer_draws_what_is_not_there_by_itself():
    from relaysim.explorer.scene import run
    from relaysim.explorer.script import script
    from relaysim.explorer.settings import Settings

    settings = {"n": 8, "methods": ["RelaySGD", "DPSGD"], "steps": 40, "learning_rate": 0.2}
    scene = run(Settings(**settings, y="worst_distance"))
    assert not scene.failures
    assert all("worst_distance" in history.frame for history in scene.histories.values())
    assert '"measures": ["worst_distance"]' in script(scene)
    assert "measures" not in script(run(Settings(**settings)))


# -- theory ----------------------------------------------------------------------------------------


def test_predictions_have_own_columns():
    measures = [OWN, "worst_distance", "value", "worker_distance"]
    history = simulate(measures=measures)
    linear = rs.theory.linearize(
        PROBLEM, history.topology, history.algorithm, 0.2, X0, measures=measures
    )
    curve = linear.predict(30)
    assert list(curve.columns) == list(history.frame.columns)
    for name in ("largest", "worst_distance", "value"):
        np.testing.assert_allclose(curve[name], history.frame[name], rtol=1e-11, atol=1e-12)


def test_the_noise_floor_has_no_formula_of_another_column():
    """Ring, one parameter: E max‖x_i − x̄‖² is not E Ξ² and not ½ tr(H̄ Cov x̄)."""
    ring = rs.topologies.ring(N)

    def of_first(at_rest, noise):
        return at_rest + noise.worker_variances[0]

    first = Measure("first", of_first_worker, expectation=of_first)
    measures = [OWN, "max_consensus_distance", "value", first]
    linear = rs.theory.linearize(PROBLEM, ring, rs.algorithms.DPSGD(), 0.2, measures=measures)
    floor = linear.stationary(0.4)
    known = ["suboptimality", "consensus_distance", "distance", "gradient_norm", "value", "first"]
    assert floor.index.tolist() == known
    assert linear.stationary(0.0).index.tolist() == known
    assert linear.plateau().index.tolist() == [
        *known[:4],
        "largest",
        "max_consensus_distance",
        *known[4:],
    ]
    fixed = linear.fixed_point
    assert linear.plateau().largest == pytest.approx(
        ((fixed - fixed.mean(axis=0)) ** 2).sum(axis=1).max()
    )
    history = simulate(
        topology=ring,
        algorithm=rs.algorithms.DPSGD(),
        oracle=rs.oracles.Gaussian(0.4),
        steps=3000,
        replicas=40,
        record=20,
        measures=measures,
        x0=fixed,
    )
    late = history.frame[history.frame.step > 200]
    for name in known:
        replicas = late.groupby("replica")[name].mean()
        error = replicas.std() / math.sqrt(len(replicas))
        assert abs(replicas.mean() - floor[name]) < 5 * error, name
        assert error < 0.02 * floor[name]


def test_theory_beside_a_column_of_ones_own():
    import matplotlib.pyplot as plt

    options = {
        "measures": [OWN],
        "oracle": rs.oracles.Gaussian(0.1),
        "algorithm": rs.algorithms.D2(),
    }
    history = simulate(topology=rs.topologies.ring(N), **options)
    found = rs.theory.overlay(history, "largest")
    assert found.floor is None
    assert found.plateau == pytest.approx(0, abs=1e-20)
    assert rs.theory.overlay(history, "consensus_distance").floor > 0
    plt.close(history.plot(y="largest", theory=True).figure)


# -- some workers' iterates ------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, 2])
def test_the_iterates_of_some_workers(replicas, tmp_path):
    whole = simulate(keep_iterates=True, replicas=replicas)
    some = simulate(keep_iterates=[5, 0], replicas=replicas)
    np.testing.assert_array_equal(some.iterates, whole.iterates[:, [5, 0]])
    assert some.config["keep_iterates"] == [5, 0]
    loaded = rs.History.load(some.save(tmp_path / "some"))
    assert loaded.iterates.tobytes() == some.iterates.tobytes()
    longer = simulate(keep_iterates=[5, 0], replicas=replicas, steps=45)
    assert loaded.extend(15).iterates.tobytes() == longer.iterates.tobytes()
    for draws in (rs.analysis.consensus_distance, rs.plots.spacetime):
        with pytest.raises(ValueError, match="2 of 6 workers"):
            draws(some)


@pytest.mark.parametrize(
    ("workers", "error", "message"),
    [
        ([0, 6], ValueError, "names worker 6; there are 0 to 5"),
        ([1, 1], ValueError, "twice"),
        ([], ValueError, "empty"),
        ([-1], ValueError, "at least 0"),
        ([0.5], TypeError, "whole number"),
        (3, TypeError, "True, False or a list of workers"),
        ("all", TypeError, "True, False or a list of workers"),
    ],
)
def test_workers_that_cannot_be_kept(workers, error, message):
    with pytest.raises(error, match=message):
        simulate(keep_iterates=workers)


# -- bad input -------------------------------------------------------------------------------------


def with_name(name):
    return Measure(name, largest_deviation)


@pytest.mark.parametrize(
    ("measures", "error", "message"),
    [
        (["worst_distanse"], ValueError, "did you mean 'worst_distance'"),
        (["qqqq"], ValueError, "there are suboptimality, value"),
        ([with_name("distance")], ValueError, "'distance' is taken"),
        ([with_name("step")], ValueError, "'step' is taken"),
        ([with_name("bits_sent")], ValueError, "'bits_sent' is taken"),
        ([with_name("rate")], ValueError, "'rate' is taken"),
        ([with_name("mine"), ("mine", np.sum)], ValueError, "'mine' is taken"),
        (["value", "value"], ValueError, "'value' is taken"),
        ("worst_distance", TypeError, "must be a list"),
        (with_name("mine"), TypeError, "must be a list"),
        ([3], TypeError, "a measure is"),
        ([("mine", 3)], TypeError, "a measure is"),
        (
            [Measure("m", lambda x, p: x)],
            ValueError,
            r"returned shape \(2, 6, 3\).*\(records\[, r\]\) = \(2,\)",
        ),
        (
            [Measure("m", lambda x, p: x.sum())],
            ValueError,
            r"returned shape \(\) for iterates of shape",
        ),
        (
            [Measure("m", lambda x, p: x[:, 0, 0], per_worker=True)],
            ValueError,
            r"n\[, r\]\) = \(2, 6\)",
        ),
        ([("m", lambda x: x)], ValueError, r"returned shape \(6, 3\) for x of shape \(6, 3\)"),
        ([("m", lambda x: "text")], TypeError, "must return real numbers"),
        ([("m", lambda x: 1j)], TypeError, "must return real numbers"),
    ],
)
def test_measures_that_make_no_sense(measures, error, message, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "relaysim.engine.rounds.Rounds.advance", lambda self, target: steps.append(target)
    )
    with pytest.raises(error, match=message):
        simulate(measures=measures)
    assert not steps, "it is said before any work starts"


def test_what_needs_an_optimum_says_so():
    for measure in ("worst_distance", Measure("m", largest_deviation, needs_optimum=True)):
        with pytest.raises(ValueError, match="needs a problem whose optimum is known"):
            simulate(problem=Cosh(), measures=[measure])
    # What is there by itself may be asked for.
    found = simulate(problem=Cosh(), measures=["value", "max_consensus_distance"])
    assert list(found.frame.columns)[4:7] == ["value", "consensus_distance", "gradient_norm"]
    with pytest.raises(ValueError, match=r"no measure of every worker.*worker_consensus_distance"):
        _ = found.worker_frame


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 3}, TypeError),
        ({"name": " "}, TypeError),
        ({"of": 3}, TypeError),
        ({"label": 3}, TypeError),
        ({"needs_optimum": "yes"}, TypeError),
        ({"expectation": 0.5}, TypeError),
        ({"expectation": lambda at_rest, noise: 0.0, "per_worker": True}, ValueError),
    ],
)
def test_what_is_no_measure(arguments, error):
    with pytest.raises(error, match="measure"):
        Measure(**({"name": "mine", "of": largest_deviation} | arguments))
