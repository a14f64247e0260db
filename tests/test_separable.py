"""The exponential loss, margins, and what is reported where classes can be separated."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import sparse

import relaysim as rs
from relaysim.problems import Logistic, NoSmoothnessError

SIZES = (9, 1, 5, 30)
OPTIONS = [
    {"intercept": intercept, "weighting": weighting}
    for intercept, weighting in itertools.product((False, True), ("workers", "examples"))
]


def examples(seed=0, p=3):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(sum(SIZES), p))
    return features, generator.integers(2, size=sum(SIZES)), np.repeat(np.arange(4), SIZES)


def exponential(storage=np.asarray, l2=0.1, seed=0, **options):
    features, labels, owners = examples(seed)
    return Logistic(storage(features), labels, l2, partition=owners, loss="exponential", **options)


def written(x, i, l2=0.1, intercept=False, weighting="workers"):
    """f_i and its gradient and Hessian at x, of `exponential`, example by example."""
    features, labels, owners = examples()
    if intercept:
        features = np.hstack([features, np.ones((len(features), 1))])
    penalty = np.full(len(x), l2)
    penalty[-1] *= not intercept
    share = len(SIZES) / len(labels) if weighting == "examples" else 1 / SIZES[i]
    value, gradient, hessian = penalty @ x**2 / 2, penalty * x, np.diag(penalty)
    for a, label in zip(features[owners == i], labels[owners == i], strict=True):
        y = 1 if label else -1
        loss = share * np.exp(-y * a @ x)
        value, gradient = value + loss, gradient - loss * y * a
        hessian = hessian + loss * np.outer(a, a)
    return value, gradient, hessian


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_exponential_loss_and_its_derivatives_are_sums_over_examples(options, storage):
    problem = exponential(storage, **options)
    x = np.random.default_rng(1).normal(size=(4, problem.d, 2))
    found = problem.gradient(x)
    for k in range(2):
        expected = [written(x[i, :, k], i, **options)[1] for i in range(4)]
        np.testing.assert_allclose(found[..., k], expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(problem.gradient(x[..., k]), expected, rtol=1e-12, atol=1e-13)
    value, gradient, hessian = (
        sum(of_workers) / 4
        for of_workers in zip(*(written(x[0, :, 0], i, **options) for i in range(4)), strict=True)
    )
    assert problem.value(x[0])[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(problem.mean_gradient(x[0])[:, 0], gradient, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(problem.mean_hessian(x[0, :, 0]), hessian, rtol=1e-12, atol=1e-13)
    of_worker = written(x[0, :, 0], 3, **options)[2]
    np.testing.assert_allclose(problem.hessian(3, x[0, :, 0]), of_worker, rtol=1e-12, atol=1e-13)
    assert np.linalg.norm(problem.mean_gradient(problem.optimum)) < 1e-13


def test_sampled_exponential_gradients_average_to_the_gradient():
    problem = exponential(weighting="examples")
    x = np.random.default_rng(1).normal(size=(4, 3))
    one_each = [problem.sampled_gradient(x, np.array([[0], [0], [0], [j]]))[3] for j in range(30)]
    np.testing.assert_allclose(np.mean(one_each, axis=0), problem.gradient(x)[3], rtol=1e-12)
    penalty = 0.1 * x[3]
    np.testing.assert_allclose(
        np.var(np.array(one_each) - penalty, axis=0).sum(),
        problem.example_variance(x)[3],
        rtol=1e-12,
    )
    several = np.stack([np.full((4, 1), 0), np.array([[8], [0], [4], [29]])], axis=2)
    of_replicas = problem.sampled_gradient(np.stack([x, x], axis=2), several)
    np.testing.assert_allclose(
        of_replicas[..., 1], problem.sampled_gradient(x, several[..., 1]), rtol=1e-13
    )


@pytest.mark.parametrize("l2", [0.1, 1e-4])
def test_suboptimality_of_the_exponential_loss_keeps_its_digits(l2):
    problem = exponential(l2=l2)
    features, labels, owners = examples()
    direction = np.random.default_rng(1).normal(size=3)
    offsets = np.array([1e-12, 1e-6, 1e-3, 0.1, 3.0, -1e-9, -10.0])
    points = problem.optimum[:, None] + direction[:, None] * offsets
    expected = []
    with localcontext() as context:
        context.prec = 60
        best = [Decimal(float(v)) for v in problem.optimum]
        for point in points.T:
            moved = [Decimal(float(v)) - b for v, b in zip(point, best, strict=True)]
            total = Decimal(l2) / 2 * sum(v * v for v in moved)
            for a, label, owner in zip(features, labels, owners, strict=True):
                y = 1 if label else -1
                at, change = (
                    -y * sum(Decimal(float(u)) * v for u, v in zip(a, vector, strict=True))
                    for vector in (best, moved)
                )
                total += at.exp() * (change.exp() - 1 - change) / (4 * SIZES[owner])
            expected.append(float(total))
    assert min(expected) < 1e-20
    np.testing.assert_allclose(problem.suboptimality(points), expected, rtol=1e-10)


def test_nothing_bounds_the_curvature_of_the_exponential_loss():
    problem = exponential()
    for name in ("smoothness", "mean_smoothness", "local_smoothness"):
        with pytest.raises(NoSmoothnessError, match=r"curvature_at\(x\)"):
            getattr(problem, name)
        assert not hasattr(problem, name)
    assert problem.strong_convexity == 0.1
    far = problem.curvature_at(-30 * problem.optimum)
    assert far.smoothness > 1e3 * problem.curvature_at(problem.optimum).smoothness
    ring = rs.topologies.ring(4)
    assert rs.theory.bounds.bounds_for(problem, ring, rs.algorithms.DPSGD(), 0.1) == ()
    with pytest.raises(TypeError, match="not quadratic"):
        rs.theory.stable_learning_rates(problem, ring, rs.algorithms.DPSGD())
    # What is tuned is found without it.
    found = rs.tune(problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(), target=1e-6)
    assert found.steps < 200


def test_a_run_on_the_exponential_loss_ends_without_warnings_where_it_overflows():
    history = rs.simulate(
        exponential(),
        rs.topologies.ring(4),
        rs.algorithms.DPSGD(),
        learning_rate=[0.1, 1e4],
        steps=30,
    )
    assert history.diverged.tolist() == [False, True]


def test_a_file_and_a_setting_name_the_loss(tmp_path):
    problem = exponential()
    history = rs.simulate(
        problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), learning_rate=0.1, steps=5
    )
    loaded = rs.History.load(history.save(tmp_path / "run"))
    again = rs.simulate(**rs.rebuild(loaded.config))
    assert repr(loaded.problem) == repr(problem)
    assert "loss='exponential'" in repr(problem)
    assert again.frame.equals(history.frame)
    assert "loss" not in Logistic(*examples()[:2], 0.1, partition=examples()[2]).to_config()
    kind = "Logistic(breast_cancer(), 0.1, iid(), loss={!r})"
    table = rs.sweep(
        {
            "problem": [kind.format("logistic"), kind.format("exponential")],
            "algorithm": "RelaySGD",
            "n": 4,
            "learning_rate": 0.01,
            "steps": 3,
        },
        n_jobs=1,
    )
    ends = table[table.step == 3]
    assert len(ends) == 2
    assert ends.suboptimality.nunique() == 2


@pytest.mark.parametrize(
    ("loss", "labels", "words"),
    [
        ("hinge", [0, 1] * 3, "'logistic' or 'exponential', not 'hinge'"),
        ("exponential", [0, 1, 2] * 2, "two classes and there are 3"),
    ],
)
def test_what_is_no_loss_is_refused(loss, labels, words):
    with pytest.raises(ValueError, match=words):
        Logistic([np.ones((6, 2))], [labels], 0.1, loss=loss)


# -- margins ---------------------------------------------------------------------------------------


def test_the_margin_of_two_classes_and_of_more():
    features = np.array([[3.0, 4.0], [-1.0, 0.0], [0.0, -2.0], [2.0, 1.0]])
    two = Logistic([features], [["b", "a", "a", "b"]], 0.1)
    assert two.margin(np.array([3.0, 4.0])) == pytest.approx(3 / 5, rel=1e-15)
    assert two.margin(np.array([-3e200, -4e200])) == pytest.approx(-25 / 5, rel=1e-15)
    points = np.array([[3.0, 0.0, np.nan], [4.0, 0.0, 1.0]])
    np.testing.assert_allclose(two.margin(points), [3 / 5, 0, np.nan], rtol=1e-15)
    given = Logistic([features], [["b", "a", "a", "b"]], 0.1, intercept=True)
    assert given.margin(np.array([2.0, 2.0, 1.0])) == pytest.approx((2 - 1) / 3, rel=1e-15)
    x = np.random.default_rng(0).normal(size=6)
    codes = np.array([0, 1, 2, 1])
    scores = features @ x.reshape(2, 3)
    leads = [s[c] - max(np.delete(s, c)) for s, c in zip(scores, codes, strict=True)]
    three = Logistic([features], [codes], 0.1)
    assert three.margin(x) == pytest.approx(min(leads) / np.linalg.norm(x), rel=1e-14)


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_without_an_optimum_histories_have_value_gradient_norm_and_margin(loss):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(4, 5, 2))
    labels = features[..., 0] > 0
    problem = Logistic(features, labels, 0, loss=loss)
    history = rs.simulate(
        problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(), learning_rate=0.5, steps=50
    )
    measured = history.frame.columns[history.frame.columns.get_loc("step") + 1 : -2]
    assert set(measured) == {"value", "consensus_distance", "gradient_norm", "margin"}
    x = history.x.mean(axis=0)
    y = np.where(labels, 1, -1)
    expected = (y * (features @ x)).min() / np.linalg.norm(x)
    assert history.frame.margin.iloc[-1] == pytest.approx(expected, rel=1e-12)
    assert history.frame.margin.iloc[0] == 0
    with pytest.raises(ValueError, match=r"margin\(x\)"):
        rs.simulate(
            rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0),
            rs.topologies.chain(4),
            rs.algorithms.RelaySGD(),
            learning_rate=0.5,
            steps=1,
            measures=["margin"],
        )
