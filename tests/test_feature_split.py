"""Least squares with its parameters split over workers: the rule, and what it makes of new examples."""

import numpy as np
import pytest

import relaysim as rs
from relaysim.problems import FeatureSplit
from relaysim.theory import cocoa_generalization

GENERATOR = np.random.default_rng(0)


def rounds_on_paper(A, y, sizes, count):
    """x_k ← x_k + (1/K) argmin ‖y − Ax − A_k δ‖, of smallest norm, worker by worker."""
    x = np.zeros(A.shape[1])
    for _ in range(count):
        left, after, first = y - A @ x, x.copy(), 0
        for size in sizes:
            own = slice(first, first + size)
            after[own] += np.linalg.lstsq(A[:, own], left, rcond=None)[0] / len(sizes)
            first += size
        x = after
    return x


@pytest.mark.parametrize("sizes", [[3, 3], [1, 5, 2], [9, 8], [1], [7]])
def test_a_round_is_each_workers_own_least_squares(sizes):
    A, y = GENERATOR.normal(size=(6, sum(sizes))), GENERATOR.normal(size=6)
    split = FeatureSplit(A, y, sizes)
    assert (split.n, split.d) == (len(sizes), sum(sizes))
    x = np.zeros(split.d)
    for count in range(1, 5):
        x = split.step(x)
        np.testing.assert_allclose(x, rounds_on_paper(A, y, sizes, count), rtol=0, atol=1e-12)
        error = split.training_error(x)
        np.testing.assert_allclose(error, np.mean((y - A @ x) ** 2), atol=1e-14)
    both = np.stack([np.zeros(split.d), x], axis=-1)
    np.testing.assert_allclose(split.step(both)[:, 1], split.step(x), rtol=0, atol=1e-13)
    assert split.training_error(both).shape == (2,)


def test_one_round_fits_all_where_each_worker_could_alone():
    A, y = GENERATOR.normal(size=(6, 20)), GENERATOR.normal(size=6)
    split = FeatureSplit(A, y, workers=3)
    assert split.sizes.tolist() == [7, 7, 6]
    once = split.step(np.zeros(20))
    assert split.training_error(once) < 1e-28
    np.testing.assert_allclose(split.step(once), once, rtol=0, atol=1e-13)


def errors_of_draws(n, sizes, sigma2, draws, seed):
    p, generator = sum(sizes), np.random.default_rng(seed)
    truth, found = np.full(p, p**-0.5), []
    for _ in range(draws):
        A = generator.normal(size=(n, p))
        y = A @ truth + sigma2**0.5 * generator.normal(size=n)
        x = FeatureSplit(A, y, sizes).step(np.zeros(p))
        found.append(((x - truth) ** 2).sum())
    return np.array(found)


@pytest.mark.parametrize("per_worker", [10, 25, 40, 45, 48, 52, 55, 75, 150])
def test_the_error_of_two_workers_is_the_formula(per_worker):
    errors = errors_of_draws(50, [per_worker] * 2, 0.0, draws=400, seed=per_worker)
    formula = cocoa_generalization(50, 2 * per_worker, workers=2)
    assert abs(errors.mean() - formula) < 4 * errors.std(ddof=1) / 400**0.5
    if abs(per_worker - 50) > 3:  # else the errors of single draws have no finite variance
        assert errors.std(ddof=1) / 400**0.5 < 0.05 * formula


@pytest.mark.parametrize(("p", "workers", "sigma2"), [(40, 3, 0.5), (7, 7, 2.0), (25, 1, 0.3)])
def test_the_error_of_uneven_parts_with_noise_is_the_formula(p, workers, sigma2):
    sizes = FeatureSplit(np.ones((1, p)), [1.0], workers).sizes
    errors = errors_of_draws(20, sizes, sigma2, draws=2000, seed=p)
    formula = cocoa_generalization(20, p, workers, sigma2)
    assert abs(errors.mean() - formula) < 4 * errors.std(ddof=1) / 2000**0.5
    assert errors.std(ddof=1) / 2000**0.5 < 0.03 * formula


def test_values_by_hand_and_where_it_blows_up():
    # 1 − 3/4 + (1/4 + σ²/2) · 10/39
    assert cocoa_generalization(50, 20, 2, 0.5) == pytest.approx(0.25 + 0.5 * 10 / 39, rel=1e-14)
    listed = {40: 1.361, 45: 3.06, 52: 12.8, 55: 3.44, 60: 1.76, 75: 1.02, 100: 0.880, 150: 0.876}
    for per_worker, value in listed.items():
        assert cocoa_generalization(50, 2 * per_worker, 2) == pytest.approx(value, rel=3e-3)
    assert [cocoa_generalization(50, 2 * k, 2) for k in (49, 50, 51)] == [np.inf] * 3
    assert cocoa_generalization(50, 101, 2) == np.inf
    # One worker with all of the parameters and no noise: what least squares cannot see.
    assert cocoa_generalization(50, 50, 1) == 0
    assert cocoa_generalization(50, 51, 1) == pytest.approx(1 / 51)
    assert cocoa_generalization(50, 50, 1, 0.1) == np.inf
    errors = errors_of_draws(50, [50, 50], 0.0, draws=50, seed=0)
    assert np.median(errors) > 10 * cocoa_generalization(50, 200, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cocoa_generalization(5, 3, 4), r"workers must be at most p = 3"),
        (lambda: cocoa_generalization(0, 3, 1), "n must be at least 1"),
        (lambda: cocoa_generalization(5, 3, 1, -1), "sigma2 must be a finite number of at least 0"),
        (
            lambda: FeatureSplit(np.ones((2, 3)), np.ones(2), 4),
            "split over 4 workers; take at most 3",
        ),
        (
            lambda: FeatureSplit(np.ones((2, 3)), np.ones(2), [1, 1]),
            "hold 2 columns .* there are 3",
        ),
        (lambda: FeatureSplit(np.ones((2, 3)), np.ones(2), []), "hold no columns"),
        (lambda: FeatureSplit(np.ones((2, 3)), np.ones(2), [3, 0]), "at least 1, not 0"),
        (lambda: FeatureSplit(np.ones((2, 3)), np.ones(3), 1), r"shape \(2,\)"),
        (lambda: FeatureSplit(np.ones(3), np.ones(3), 1), r"shape \(m, d\)"),
        (lambda: FeatureSplit([[np.nan]], [1.0], 1), "finite"),
        (lambda: FeatureSplit([[1.0]], [1.0], 1).step(np.zeros(2)), r"shape \(1,\) or \(1, r\)"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_is_no_problem_for_simulate():
    split = FeatureSplit(np.ones((2, 3)), np.ones(2), 3)
    with pytest.raises(TypeError, match=r"FeatureSplit\(.*\) is no problem: it lacks 'gradient'"):
        rs.simulate(split, rs.topologies.ring(3), rs.algorithms.DPSGD(), learning_rate=0.1, steps=1)
