"""Federated averaging: where it ends, what drawing workers costs, who counts how much; and co-learning."""

import math

import numpy as np
import pytest

import relaysim as rs
from relaysim.algorithms import AllReduce, FedAvg, LocalSGD

STAR = rs.topologies.star(6)
EXAMPLES = [1, 2, 3, 5, 8, 13]


def quadratics(n=6, d=4, examples=None):
    """Dense Hessians that differ, of largest eigenvalue 1, and optima that differ."""
    generator = np.random.default_rng(0)
    A = generator.normal(size=(n, d + 1, d))
    A /= np.linalg.norm(A, ord=2, axis=(1, 2)).max()
    return rs.problems.LeastSquares(A, generator.normal(size=(n, d + 1)), examples)


def hessians_and_optima(problem):
    hessians = [A.T @ A for A in problem.A]
    optima = [
        np.linalg.solve(H, A.T @ b) for H, A, b in zip(hessians, problem.A, problem.b, strict=True)
    ]
    return hessians, optima


def where_it_should_end(problem, counts, rate, local_steps):
    """(Σ m_i A_i)⁻¹ Σ m_i A_i c_i with A_i = I − (I − γH_i)^K."""
    total, right, one = 0.0, 0.0, np.eye(problem.d)
    for m, H, c in zip(counts, *hessians_and_optima(problem), strict=True):
        A = one - np.linalg.matrix_power(one - rate * H, local_steps)
        total, right = total + m * A, right + m * A @ c
    return np.linalg.solve(total, right)


@pytest.mark.parametrize("weights", ["examples", "equal"])
@pytest.mark.parametrize("local_steps", [1, 2, 5, 20])
def test_the_fixed_point_is_the_closed_form(weights, local_steps):
    problem = quadratics(examples=EXAMPLES)
    method = FedAvg(local_steps, weights=weights)
    counts = EXAMPLES if weights == "examples" else [1] * 6
    expected = where_it_should_end(problem, counts, 0.4, local_steps)
    linear = rs.theory.linearize(problem, STAR, method, 0.4)
    assert linear.period == local_steps
    np.testing.assert_allclose(linear.fixed_point, np.tile(expected, (6, 1)), rtol=0, atol=1e-12)
    steps = 600 * local_steps
    history = rs.simulate(problem, STAR, method, learning_rate=0.4, steps=steps, record=[steps])
    np.testing.assert_allclose(history.x, np.tile(expected, (6, 1)), rtol=0, atol=1e-12)
    # Elsewhere than x*, but for steps that are all averaged, all alike.
    away = np.linalg.norm(expected - problem.optimum)
    assert away < 1e-12 if method.exact else away > 1e-3


def test_prediction_and_simulation_are_one_curve():
    problem, x0 = quadratics(examples=EXAMPLES), np.full(4, 2.0)
    run = {"learning_rate": 0.3, "x0": x0}
    history = rs.simulate(problem, STAR, FedAvg(3), steps=40, **run)
    predicted = rs.theory.linearize(problem, STAR, FedAvg(3), **run).predict(40)
    for column in ("suboptimality", "distance", "consensus_distance", "vectors_sent"):
        np.testing.assert_allclose(predicted[column], history.frame[column], rtol=1e-10, atol=1e-28)


def test_the_distance_to_the_optimum_grows_with_the_rate_and_the_local_steps():
    """About γ(K − 1) at small γ, and the mean of the local optima for many steps."""
    problem = quadratics()
    away = {
        (rate, local_steps): np.linalg.norm(
            rs.theory.linearize(problem, STAR, FedAvg(local_steps), rate).fixed_point[0]
            - problem.optimum
        )
        for rate, local_steps in [(0.01, 5), (0.005, 5), (0.01, 3)]
    }
    assert away[0.01, 5] / away[0.005, 5] == pytest.approx(2, rel=0.02)
    assert away[0.01, 5] / away[0.01, 3] == pytest.approx(2, rel=0.02)
    _, optima = hessians_and_optima(problem)
    sharp = min(np.linalg.eigvalsh(A.T @ A)[0] for A in problem.A)
    many = math.ceil(30 / (1.0 * sharp))
    history = rs.simulate(problem, STAR, FedAvg(many), learning_rate=1.0, steps=many)
    np.testing.assert_allclose(history.x[0], np.mean(optima, axis=0), rtol=1e-10)


def test_all_taking_part_with_equal_sizes_is_local_sgd_with_a_server():
    problem, x0 = quadratics(), np.random.default_rng(1).normal(size=(6, 4))
    run = {"learning_rate": 0.3, "steps": 21, "x0": x0, "oracle": rs.oracles.Gaussian(0.1)}
    local = rs.simulate(problem, STAR, LocalSGD(period=5), keep_iterates=True, **run)
    for method in (FedAvg(5), FedAvg(5, weights="equal")):
        federated = rs.simulate(problem, STAR, method, keep_iterates=True, **run)
        np.testing.assert_allclose(federated.iterates, local.iterates, rtol=0, atol=1e-14)
        assert federated.frame.vectors_sent.iloc[-1] == 4 * 2 * 6
    assert local.frame.vectors_sent.iloc[-1] == 4 * 2 * 5, "round a ring"
    every, averaged = (
        rs.simulate(problem, STAR, method, **run).x for method in (FedAvg(1), AllReduce())
    )
    np.testing.assert_allclose(every, averaged, rtol=0, atol=1e-14)


def test_those_who_are_not_drawn_rest_and_do_not_count():
    problem, x0 = quadratics(examples=EXAMPLES), np.random.default_rng(1).normal(size=(6, 4))
    method = FedAvg(local_steps=3, participation=0.5)
    history = rs.simulate(
        problem, STAR, method, learning_rate=0.3, steps=12, x0=x0, replicas=4, keep_iterates=True
    )
    moved = (np.diff(history.iterates, axis=0) != 0).any(axis=2)
    sets = set()
    for replica in range(4):
        for start in range(0, 12, 3):
            x, taking = history.iterates[start : start + 4, ..., replica], moved[start, :, replica]
            assert np.count_nonzero(taking) == 3
            sets.add(tuple(np.flatnonzero(taking)))
            np.testing.assert_array_equal(moved[start + 1, :, replica], taking)
            local = x[2] - 0.3 * problem.gradient(x[2])
            mean = np.average(local[taking], axis=0, weights=np.array(EXAMPLES)[taking])
            np.testing.assert_allclose(x[3], np.tile(mean, (6, 1)), rtol=0, atol=1e-14)
    assert len(sets) > 5
    sent = history.frame[history.frame.replica == 0].vectors_sent
    assert sent.tolist() == [2 * 3 * (step // 3) for step in range(13)]


@pytest.mark.parametrize(("participation", "drawn"), [(0.1, 2), (0.2, 4), (0.5, 10), (0.76, 16)])
def test_the_variance_of_partial_participation_is_that_of_draws_without_replacement(
    participation, drawn
):
    """Equal Hessians h: x ← (1 − a)x + a c̄_S, a = 1 − (1 − γh)^K, so that E‖x − x̂‖² is
    a/(2 − a) · (n − s)/(s(n − 1)) · (1/n) Σ‖c_i − c̄‖².
    """
    n, replicas, rate, local_steps = 20, 3000, 0.5, 3
    centers = np.random.default_rng(2).normal(size=(n, 2))
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 2)), centers)
    method = FedAvg(local_steps, participation)
    history = rs.simulate(
        problem,
        rs.topologies.star(n),
        method,
        learning_rate=rate,
        steps=30,
        replicas=replicas,
        record=[30],
    )
    assert history.frame.vectors_sent.iloc[0] == 10 * 2 * drawn
    squares = ((history.x[0] - centers.mean(axis=0)[:, None]) ** 2).sum(axis=0)
    a = 1 - (1 - rate) ** local_steps
    spread = ((centers - centers.mean(axis=0)) ** 2).sum(axis=1).mean()
    expected = a / (2 - a) * (n - drawn) / (drawn * (n - 1)) * spread
    error = squares.std(ddof=1) / math.sqrt(replicas)
    assert error < 0.05 * expected
    assert abs(squares.mean() - expected) < 4 * error


def test_as_many_are_drawn_as_the_share_says_up_to_rounding():
    """0.1 · 30 is above 3 in floating point."""
    for n, share, drawn in [(30, 0.1, 3), (30, 0.11, 4), (7, 1e-9, 1), (10, 0.7, 7), (3, 0.34, 2)]:
        problem = rs.problems.DiagonalQuadratic(np.ones((n, 1)), np.arange(float(n))[:, None])
        run = {"learning_rate": 0.1, "steps": 1, "record": [1]}
        history = rs.simulate(problem, rs.topologies.star(n), FedAvg(1, share), **run)
        assert history.frame.vectors_sent.iloc[0] == 2 * drawn


def test_logistic_problems_weigh_workers_by_their_examples():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 3))
    labels = (features[:, 0] + generator.normal(size=60) > 0).astype(int)
    owners = np.repeat(np.arange(4), [5, 10, 15, 30])
    by_worker, by_example = (
        rs.problems.Logistic(features, labels, l2=0.1, partition=owners, weighting=weighting)
        for weighting in ("workers", "examples")
    )
    run = {"learning_rate": 0.5, "steps": 1500, "record": [1500]}
    weighed, alike = (
        rs.simulate(by_worker, rs.topologies.star(4), FedAvg(1, weights=weights), **run).x[0]
        for weights in ("examples", "equal")
    )
    np.testing.assert_allclose(weighed, by_example.optimum, atol=1e-12)
    np.testing.assert_allclose(alike, by_worker.optimum, atol=1e-12)
    assert np.linalg.norm(by_example.optimum - by_worker.optimum) > 0.01


def test_examples_of_quadratics_are_kept_with_them(tmp_path):
    least_squares = quadratics(examples=EXAMPLES)
    diagonal = rs.problems.DiagonalQuadratic(
        np.ones((6, 1)), np.arange(6.0)[:, None], examples=EXAMPLES
    )
    for problem in (least_squares, diagonal):
        history = rs.simulate(problem, STAR, FedAvg(2), learning_rate=0.3, steps=10)
        history.save(tmp_path / "run.npz")
        again = rs.simulate(**rs.rebuild(rs.History.load(tmp_path / "run.npz").config))
        assert again.x.tobytes() == history.x.tobytes()
        assert again.problem.examples.tolist() == EXAMPLES


class Own:
    """A problem of one's own that knows how many examples there are."""

    n, d = 3, 1

    def __init__(self, examples):
        self.examples = examples

    def gradient(self, x):
        return x - np.arange(3.0).reshape(3, *(1,) * (x.ndim - 1))

    def value(self, x):
        return float(((x - np.arange(3.0)) ** 2).mean() / 2)


def test_a_problem_of_ones_own_says_how_many_examples_there_are():
    history = rs.simulate(
        Own([1, 1, 2]), rs.topologies.star(3), FedAvg(1), learning_rate=1.0, steps=1
    )
    np.testing.assert_allclose(history.x, 5 / 4)


def test_what_makes_no_sense_is_refused_before_any_work():
    with pytest.raises(
        ValueError, match=r"participation must be above 0, so that a worker is left"
    ):
        FedAvg(5, participation=0.0)
    for participation in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="participation must be a finite number between 0 and"):
            FedAvg(5, participation)
    with pytest.raises(ValueError, match="local_steps must be at least 1, not 0"):
        FedAvg(0)
    with pytest.raises(ValueError, match="weights must be one of 'examples', 'equal', not 'sizes'"):
        FedAvg(5, weights="sizes")
    for examples in ([1, 2], [1, 2, 0], [1, 2, np.inf], [[1, 2, 3]]):
        with pytest.raises(
            ValueError, match="examples must be how many each worker has: 3 positive numbers"
        ):
            rs.simulate(Own(examples), rs.topologies.star(3), FedAvg(1), learning_rate=1.0, steps=1)
        with pytest.raises(
            ValueError, match="examples must be how many each worker has: 3 positive numbers"
        ):
            rs.problems.DiagonalQuadratic(np.ones((3, 1)), np.ones((3, 1)), examples)
    with pytest.raises(
        TypeError, match=r"FedAvg\(.*participation=0.5.*is not affine: .* on chance"
    ):
        rs.theory.linearize(quadratics(), STAR, FedAvg(2, participation=0.5), 0.1)


# -- co-learning: rounds that grow, in which the rate falls ------------------------------------------


def ends_of(problem, method, steps=6000):
    """The means of 40 runs with little noise, ``(d, 40)``, and how often they averaged."""
    history = rs.simulate(
        problem,
        rs.topologies.ring(5),
        method,
        learning_rate=0.1,
        steps=steps,
        replicas=40,
        oracle=rs.oracles.Gaussian(0.002),
        record=[steps],
    )
    return history.x.mean(axis=0), history.frame.vectors_sent.to_numpy() / 8


CO_LEARNING = LocalSGD(5, growth=2, tolerance=0.01, falls_to=0.1)


def test_on_equal_data_rounds_that_grow_are_as_good_with_few_averages():
    problem = rs.problems.random_quadratics(n=5, d=5, zeta2=0.0, mu=0.25, seed=0)
    errors, averages = {}, {}
    for name, method in [
        ("fixed", LocalSGD(5)),
        ("restarting", LocalSGD(5, falls_to=0.1)),
        ("both", CO_LEARNING),
    ]:
        x, averages[name] = ends_of(problem, method)
        errors[name] = ((x - problem.optimum[:, None]) ** 2).sum(axis=0).mean()
    assert (averages["fixed"] == 1200).all()
    assert averages["both"].max() < 50
    assert errors["both"] < errors["fixed"]
    assert errors["restarting"] < 0.75 * errors["fixed"]


def test_on_data_that_differ_it_is_one_average_of_the_local_optima():
    problem = rs.problems.random_quadratics(n=5, d=5, zeta2=1.0, mu=0.25, seed=0)
    optima = [np.linalg.solve(A, b) for A, b in zip(problem.A, problem.b, strict=True)]
    away = np.linalg.norm(np.mean(optima, axis=0) - problem.optimum)
    x, averages = ends_of(problem, CO_LEARNING, 20000)
    from_mean = np.linalg.norm(x - np.mean(optima, axis=0)[:, None], axis=0)
    from_optimum = np.linalg.norm(x - problem.optimum[:, None], axis=0)
    assert averages.max() < 60
    assert np.median(from_mean) < 0.15 * away
    assert np.median(from_optimum) == pytest.approx(away, rel=0.1)


def test_the_rate_within_a_round_is_the_cyclic_schedule():
    problem, x0 = quadratics(), np.random.default_rng(1).normal(size=(6, 4))
    run = {"steps": 23, "x0": x0, "keep_iterates": True}
    own = rs.simulate(problem, STAR, LocalSGD(5, falls_to=0.2), learning_rate=0.3, **run)
    schedule = rs.schedules.Cyclic(0.3, falls_to=0.2, period=5)
    assert [schedule(5), schedule(9)] == [0.3, pytest.approx(0.06, rel=1e-15)]
    given = rs.simulate(problem, STAR, LocalSGD(5), learning_rate=schedule, **run)
    np.testing.assert_allclose(own.iterates, given.iterates, rtol=0, atol=1e-14)
    assert rs.rebuild(given.config)["learning_rate"] == schedule


def test_each_replica_has_rounds_of_its_own_length():
    """They double where the average has moved by less than a share of its size, as told by the records."""
    problem = quadratics()
    method = LocalSGD(2, growth=2)
    rates = [0.05, 0.9]
    history = rs.simulate(
        problem, STAR, method, learning_rate=rates, steps=200, x0=np.ones(4), keep_iterates=True
    )
    sent = history.frame.pivot(index="step", columns="replica", values="vectors_sent").to_numpy()
    lengths = [np.diff(np.flatnonzero(np.diff(sent[:, k])) + 1, prepend=0) for k in (0, 1)]
    assert lengths[0].tolist() != lengths[1].tolist()
    for k in (0, 1):
        ends = np.cumsum(lengths[k])
        averages = history.iterates[[0, *ends], 0, :, k]
        moved = np.linalg.norm(np.diff(averages, axis=0), axis=1)
        grows = moved < 0.01 * np.linalg.norm(averages[:-1], axis=1)
        expected = 2 * 2 ** np.concatenate([[0], np.cumsum(grows)[:-1]])
        np.testing.assert_array_equal(lengths[k], expected)


def test_options_of_co_learning_are_checked():
    for options, message in [
        ({"growth": 0}, "growth must be at least 1, not 0"),
        ({"tolerance": -1.0}, "tolerance must be a finite number of at least 0, not -1.0"),
        ({"falls_to": 0.0}, "falls_to must be above 0; 1.0 keeps the rate as it is"),
        ({"falls_to": 1.5}, "falls_to must be a finite number between 0 and 1, not 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            LocalSGD(5, **options)
    with pytest.raises(ValueError, match="falls_to must be above 0"):
        rs.schedules.Cyclic(0.1, falls_to=0.0, period=4)
    with pytest.raises(TypeError, match="is not affine: what it does depends on the data"):
        rs.theory.linearize(quadratics(), STAR, CO_LEARNING, 0.1)
