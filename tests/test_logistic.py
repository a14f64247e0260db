import decimal
import functools
import itertools
from decimal import Decimal

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

import relaysim as rs
from relaysim.problems import Logistic, NoOptimumError, data, partitions
from relaysim.problems.binary_divergence import BinaryDivergence
from relaysim.problems.example_blocks import lay_out

CHAIN = rs.topologies.chain(4)
EQUAL, UNEQUAL = (6, 6, 6, 6), (9, 1, 5, 30)


class Written:
    """A logistic problem, and the workers' losses and gradients written out example by example."""

    def __init__(self, classes, storage, intercept, weighting, sizes, l2=0.1, p=3, seed=0):
        generator = np.random.default_rng(seed)
        total = sum(sizes)
        features = generator.normal(size=(total, p)) * (generator.random((total, p)) < 0.7)
        labels = np.concatenate([np.arange(classes), generator.integers(classes, size=total)])
        labels = generator.permutation(labels[:total])
        cuts = np.cumsum(sizes)[:-1]
        given = np.split(features, cuts)
        self.labels = np.split(labels, cuts)
        self.problem = Logistic(
            [sparse.csr_array(part) for part in given] if storage == "sparse" else given,
            self.labels,
            l2,
            intercept=intercept,
            weighting=weighting,
        )
        ones = [np.ones((len(part), 1)) for part in given]
        self.features = [
            np.hstack([a, one]) if intercept else a for a, one in zip(given, ones, strict=True)
        ]
        self.classes, self.l2, self.intercept = classes, l2, intercept
        self.weights = [
            1.0 if weighting == "workers" else len(sizes) * size / total for size in sizes
        ]
        self.n, self.d = len(sizes), (p + intercept) * (1 if classes == 2 else classes)

    def penalised(self, x):
        by_feature = x.reshape(-1, 1 if self.classes == 2 else self.classes).copy()
        if self.intercept:
            by_feature[-1] = 0
        return by_feature.ravel()

    def loss(self, i, x):
        total = 0.0
        for a, label in zip(self.features[i], self.labels[i], strict=True):
            if self.classes == 2:
                total += np.logaddexp(0, -(1 if label else -1) * (a @ x))
            else:
                scores = a @ x.reshape(-1, self.classes)
                total += logsumexp(scores) - scores[label]
        penalty = self.l2 / 2 * (self.penalised(x) ** 2).sum()
        return self.weights[i] * total / len(self.labels[i]) + penalty

    def gradient(self, i, x):
        total = np.zeros(self.d)
        for a, label in zip(self.features[i], self.labels[i], strict=True):
            if self.classes == 2:
                y = 1 if label else -1
                total -= y * a / (1 + np.exp(y * (a @ x)))
            else:
                scores = np.exp(a @ x.reshape(-1, self.classes))
                total += np.outer(a, scores / scores.sum() - np.eye(self.classes)[label]).ravel()
        return self.weights[i] * total / len(self.labels[i]) + self.l2 * self.penalised(x)

    def value(self, x):
        return sum(self.loss(i, x) for i in range(self.n)) / self.n


CASES = list(
    itertools.product(
        (2, 3), ("dense", "sparse"), (False, True), ("workers", "examples"), (EQUAL, UNEQUAL)
    )
)
over_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))


@pytest.fixture(params=["padded", "in blocks"])
def layout(request, monkeypatch):
    if request.param == "in blocks":
        monkeypatch.setattr("relaysim.problems.example_blocks.PADDING_ENTRIES", 0)


def points(problem, *shape, seed=1):
    return np.random.default_rng(seed).normal(size=(*shape[:1], problem.d, *shape[1:]))


# -- values and derivatives ------------------------------------------------------------------------


def test_workers_whose_sizes_differ_much_stand_in_blocks_of_their_own():
    sizes = np.array([400, 1, 3, 390, 2])
    blocks = lay_out(np.ones((796, 60)), np.arange(796), sizes)
    assert [np.arange(5)[block.workers].tolist() for block in blocks] == [[0, 3], [1, 2, 4]]
    assert sum(block.is_real.sum() for block in blocks) == 796
    assert len(lay_out(np.ones((796, 10)), np.arange(796), sizes)) == 1


@over_cases
@pytest.mark.usefixtures("layout")
def test_gradients_are_the_sums_over_examples(case):
    written = Written(*case)
    problem = written.problem
    assert (problem.n, problem.d) == (written.n, written.d)
    assert problem.examples.tolist() == list(case[-1])
    x = points(problem, problem.n)
    expected = [written.gradient(i, x[i]) for i in range(problem.n)]
    found = problem.gradient(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    lent = np.full(x.shape, np.nan)
    assert problem.gradient(x, out=lent) is lent
    np.testing.assert_array_equal(lent, found)


# Each once, some again, as replicas follow each other (all, or some events, twice as often), and none.
ASKED = ([2, 0], [1, 0, 1, 2, 2], [2, 2, 2, 0, 0, 0], [1, 1, 2, 2, 2, 2], [0, 1, 2], [])


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case[1] == "dense"],
    ids=lambda case: "-".join(map(str, case)),
)
@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("at_once", [1, 1 << 20], ids=["copied one by one", "copied at once"])
def test_gradients_of_some_workers_are_rows_of_those_of_all(case, at_once, monkeypatch):
    monkeypatch.setattr("relaysim.problems.rows_by_worker.COPIED_BYTES", at_once)
    written = Written(*case)
    for asked in ASKED:
        workers = np.array(asked, dtype=int)
        x = points(written.problem, len(workers))
        expected = [written.gradient(i, x[k]) for k, i in enumerate(asked)]
        found = written.problem.gradient_of(workers, x)
        np.testing.assert_allclose(found, np.reshape(expected, x.shape), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 3])
def test_of_sparse_examples_all_workers_are_asked_for(classes):
    assert not hasattr(Written(classes, "sparse", True, "workers", UNEQUAL).problem, "gradient_of")


@pytest.mark.usefixtures("layout")
def test_workers_that_there_are_not_have_no_gradient():
    problem = Written(2, "dense", True, "workers", UNEQUAL).problem
    x = points(problem, 3)
    of_the_last = problem.gradient_of(np.array([3, 0, 3]), x)
    np.testing.assert_array_equal(problem.gradient_of([-1, 0, -1], x), of_the_last)
    with pytest.raises(IndexError):
        problem.gradient_of(np.array([0, 1, 4]), x)
    with pytest.raises(ValueError, match=r"a row of 4 for each of \(2,\) workers, not be \(3, 4\)"):
        problem.gradient_of(np.array([0, 1]), x)


@over_cases
@pytest.mark.usefixtures("layout")
def test_replicas_have_the_gradients_they_have_alone(case):
    problem = Written(*case).problem
    x = points(problem, problem.n, 3)
    given = x.copy()
    together = problem.gradient(x)
    assert together.shape == x.shape
    for k in range(3):
        alone = problem.gradient(x[..., k])
        np.testing.assert_allclose(together[..., k], alone, rtol=1e-13, atol=1e-14)
    lent = np.full(x.shape, np.nan)
    assert problem.gradient(x, out=lent) is lent
    np.testing.assert_array_equal(lent, together)
    np.testing.assert_array_equal(x, given)
    np.testing.assert_array_equal(problem.gradient(np.asfortranarray(x)), together)


@over_cases
def test_gradients_are_those_of_the_values(case):
    written = Written(*case)
    problem = written.problem
    x = points(problem, problem.n)
    found = problem.gradient(x)
    for i in range(problem.n):
        for k, step in enumerate(1e-5 * np.eye(problem.d)):
            difference = written.loss(i, x[i] + step) - written.loss(i, x[i] - step)
            np.testing.assert_allclose(found[i, k], difference / 2e-5, rtol=1e-6, atol=1e-8)


@over_cases
@pytest.mark.usefixtures("layout")
def test_value_and_mean_gradient_are_means_over_workers(case):
    written = Written(*case)
    problem = written.problem
    several = points(problem, 1, 4)[0]
    values = [written.value(x) for x in several.T]
    gradients = [
        np.mean([written.gradient(i, x) for i in range(written.n)], axis=0) for x in several.T
    ]
    np.testing.assert_allclose(problem.value(several), values, rtol=1e-12)
    np.testing.assert_allclose(problem.mean_gradient(several).T, gradients, rtol=1e-12, atol=1e-13)
    assert np.shape(problem.value(several[:, 0])) == ()
    np.testing.assert_allclose(problem.value(several[:, 0]), values[0], rtol=1e-12)
    np.testing.assert_allclose(
        problem.mean_gradient(several[:, 0]), gradients[0], rtol=1e-12, atol=1e-13
    )


@over_cases
@pytest.mark.usefixtures("layout")
def test_hessians_are_derivatives_of_gradients(case):
    written = Written(*case)
    problem = written.problem
    x = points(problem, 1)[0]
    of_workers = []
    for i in range(problem.n):
        expected = [
            (written.gradient(i, x + step) - written.gradient(i, x - step)) / 2e-5
            for step in 1e-5 * np.eye(problem.d)
        ]
        of_workers.append(expected)
        np.testing.assert_allclose(problem.hessian(i, x), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        problem.mean_hessian(x), np.mean(of_workers, axis=0), rtol=1e-6, atol=1e-8
    )
    with pytest.raises(IndexError, match="workers 0 to 3"):
        problem.hessian(4, x)


def largest_eigenvalue(matrices):
    """Of one or of all together, by power iteration: never more than it is."""
    matrices = np.reshape(matrices, (-1, *np.shape(matrices)[-2:]))
    d = matrices.shape[-1]
    v = np.tile(1 + 0.1 * np.arange(d)[:, None], (len(matrices), 1, 1))
    for _ in range(500):
        v = matrices @ v
        v /= np.linalg.norm(v, axis=1, keepdims=True)
    return (v.swapaxes(1, 2) @ matrices @ v).max()


@over_cases
def test_curvature_is_within_its_bounds(case):
    problem = Written(*case).problem
    for scale in (0, 0.1, 1, 10):
        x = scale * points(problem, 1)[0]
        hessians = np.stack([problem.hessian(i, x) for i in range(problem.n)])
        mean = np.mean(hessians, axis=0)
        tallest = largest_eigenvalue(hessians)
        shift = problem.smoothness
        lowest = shift - largest_eigenvalue(shift * np.eye(problem.d) - hessians)
        assert tallest <= problem.smoothness * (1 + 1e-12)
        assert lowest >= problem.strong_convexity - 1e-12
        assert largest_eigenvalue(mean) <= problem.mean_smoothness * (1 + 1e-12)
        assert problem.mean_smoothness <= problem.smoothness * (1 + 1e-12)
        at = problem.curvature_at(x)
        assert at.smoothness <= problem.smoothness * (1 + 1e-12)
        assert at.strong_convexity >= problem.strong_convexity - 1e-12
        assert at.mean_smoothness <= problem.mean_smoothness * (1 + 1e-12)
        assert at.mean_strong_convexity >= problem.mean_strong_convexity - 1e-12
        np.testing.assert_allclose(at.smoothness, tallest, rtol=1e-6)
        np.testing.assert_allclose(at.mean_smoothness, largest_eigenvalue(mean), rtol=1e-6)


def test_two_classes_bend_most_at_zero():
    generator = np.random.default_rng(0)
    A = generator.normal(size=(3, 8, 4))
    problem = Logistic(A, generator.integers(2, size=(3, 8)), l2=0.2)
    expected = max(np.linalg.norm(a, 2) ** 2 for a in A) / 8 / 4 + 0.2
    np.testing.assert_allclose(problem.smoothness, expected, rtol=1e-12)
    np.testing.assert_allclose(problem.curvature_at(np.zeros(4)).smoothness, expected, rtol=1e-12)
    assert problem.strong_convexity == 0.2


@pytest.mark.parametrize("wide", [100, 220])
def test_smoothness_of_many_features_is_that_of_the_matrices(wide):
    generator = np.random.default_rng(0)
    A = [generator.normal(size=(m, wide)) for m in (30, 210, 7)]
    labels = [generator.integers(2, size=len(a)) for a in A]
    expected = max(np.linalg.norm(a, 2) ** 2 / len(a) for a in A) / 4 + 0.1
    whole = sum(a.T @ a / len(a) for a in A) / 3
    for given in (A, [sparse.csr_array(a) for a in A]):
        problem = Logistic(given, labels, l2=0.1)
        np.testing.assert_allclose(problem.smoothness, expected, rtol=1e-9)
        np.testing.assert_allclose(
            problem.mean_smoothness, np.linalg.norm(whole, 2) / 4 + 0.1, rtol=1e-9
        )


@over_cases
def test_margins_of_any_size_are_stable(case):
    classes, storage, intercept, weighting, sizes = case
    for scale in (1e3, 1e4, 1e5):
        written = Written(classes, storage, intercept, weighting, sizes)
        problem = written.problem
        x = scale * points(problem, 1)[0]
        gradient = problem.gradient(np.tile(x, (problem.n, 1)))
        assert np.isfinite(gradient).all()
        assert np.isfinite(problem.mean_gradient(x)).all()
        np.testing.assert_allclose(problem.value(x), written.value(x), rtol=1e-12)
        np.testing.assert_allclose(
            gradient.mean(axis=0), problem.mean_gradient(x), rtol=1e-9, atol=1e-12
        )
        distance = problem.suboptimality(x)
        np.testing.assert_allclose(distance, problem.value(x) - problem.optimal_value, rtol=1e-9)
        assert np.isfinite(problem.mean_hessian(x)).all()
        assert np.isfinite(problem.example_variance(x)).all()


def test_gradients_of_huge_margins_are_exact():
    A = np.array([[[1e5], [-1e4], [1e3]]])
    problem = Logistic(A, [[1, 1, 0]], l2=0)
    # Slopes of margins 1e5, −1e4 and −1e3 are 0, −1 and −1.
    np.testing.assert_array_equal(problem.gradient(np.array([[1.0]])), [[(1e4 + 1e3) / 3]])
    np.testing.assert_allclose(problem.value(np.array([1.0])), (1e4 + 1e3) / 3, rtol=1e-15)


# -- the optimum -----------------------------------------------------------------------------------


def fitted(dataset, l2, intercept):
    model = LogisticRegression(
        C=1 / (l2 * len(dataset.labels)) if l2 else np.inf,
        solver="newton-cholesky",
        tol=1e-12,
        max_iter=1000,
        fit_intercept=intercept,
    )
    return model.fit(dataset.features, dataset.labels)


def centered(values):
    """Softmax leaves the mean over the classes open."""
    return values - values.mean(axis=0) if len(values) > 1 else values


@pytest.mark.parametrize(
    ("name", "l2", "intercept"),
    [
        ("breast_cancer", 0.01, False),
        ("breast_cancer", 0.1, True),
        ("wine", 0.01, False),
        ("wine", 0.1, True),
        ("digits", 0.01, True),
    ],
)
def test_the_optimum_is_that_of_scikit_learn(name, l2, intercept):
    dataset = getattr(data, name)()
    problem = Logistic(
        dataset.features,
        dataset.labels,
        l2,
        partition=partitions.dirichlet(dataset.labels, 7, 0.3, seed=1, equal_sizes=False),
        intercept=intercept,
        weighting="examples",
    )
    model = fitted(dataset, l2, intercept)
    weights, intercepts = problem.coefficients(problem.optimum)
    assert weights.shape == model.coef_.shape
    np.testing.assert_allclose(weights, model.coef_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        centered(intercepts), centered(np.broadcast_to(model.intercept_, len(weights))), atol=1e-8
    )
    assert np.linalg.norm(problem.mean_gradient(problem.optimum)) < 1e-12
    accuracy = problem.accuracy(problem.optimum)
    np.testing.assert_allclose(accuracy, model.score(dataset.features, dataset.labels), rtol=1e-14)
    np.testing.assert_array_equal(
        problem.predict(problem.optimum, dataset.features[:50]),
        model.predict(dataset.features[:50]),
    )


@over_cases
@pytest.mark.usefixtures("layout")
def test_the_gradient_vanishes_at_the_optimum_and_zeta2_is_what_workers_see_there(case):
    written = Written(*case)
    problem = written.problem
    gradients = np.array([written.gradient(i, problem.optimum) for i in range(written.n)])
    np.testing.assert_allclose(gradients.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(problem.zeta2, (gradients**2).sum() / written.n, rtol=1e-10)
    np.testing.assert_allclose(problem.optimal_value, written.value(problem.optimum), rtol=1e-12)
    assert isinstance(problem.zeta2, float)
    assert isinstance(problem.optimal_value, float)
    with pytest.raises(ValueError, match="read-only"):
        problem.optimum[0] = 1


@pytest.mark.parametrize(("classes", "p"), [(2, 2600), (3, 900)])
def test_the_optimum_of_many_parameters_is_found_too(classes, p):
    generator = np.random.default_rng(0)
    A = sparse.random_array((60, p), density=0.02, rng=generator, format="csr")
    labels = np.arange(60) % classes
    owners = np.arange(60) % 4
    problem = Logistic(A, labels, l2=0.01, partition=owners)
    assert problem.d > 2500
    np.testing.assert_allclose(problem.mean_gradient(problem.optimum), 0, atol=1e-13)


def balanced(classes, apart, l2=0.1, **options):
    """Every class has the same examples but for a little: terms of ∇f(0) cancel."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(40, 5))
    features = [common + apart * generator.normal(size=common.shape) for _ in range(classes)]
    labels = np.repeat(np.arange(classes), 40)
    owners = np.arange(len(labels)) % 4
    return Logistic(np.concatenate(features), labels, l2, partition=owners, **options)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("l2", [0.1, 0])
@pytest.mark.parametrize("apart", [0, 1e-12, 1e-10, 1e-8, 1e-5])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_balanced_data_have_an_optimum_near_zero(classes, apart, l2, intercept):
    problem = balanced(classes, apart, l2, intercept=intercept)
    assert np.linalg.norm(problem.mean_gradient(problem.optimum)) < 2e-15
    assert np.linalg.norm(problem.optimum) <= 100 * apart + 1e-14
    # One Newton step from 0 is the optimum to second order.
    step = np.linalg.lstsq(
        problem.mean_hessian(np.zeros(problem.d)), -problem.mean_gradient(np.zeros(problem.d))
    )[0]
    np.testing.assert_allclose(problem.optimum, step, atol=1e4 * apart**2 + 1e-14)


@pytest.mark.parametrize("owners", [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 2, 3], [0, 1, 1, 1]])
def test_without_l2_classes_that_cancel_are_told_from_classes_that_separate(owners):
    given = [[-2.0], [-1.0], [-2.0], [-1.0]], [2, 0, 1, 0], 0
    along = Logistic(*given, partition=owners)
    assert np.linalg.norm(along.mean_gradient(along.optimum)) < 1e-14
    # Between −2 and −1 a boundary tells class 0 from the others.
    separable = Logistic(*given, partition=owners, intercept=True)
    assert not hasattr(separable, "optimum")
    with pytest.raises(NoOptimumError, match="use l2 > 0"):
        separable.suboptimality(np.zeros(separable.d))


def test_features_that_are_all_zero_leave_zero_as_an_optimum():
    for labels, classes in (([0, 1, 0, 1], 2), ([0, 1, 2, 1], 3)):
        problem = Logistic(np.zeros((4, 1)), labels, 0, partition=[[0, 1], [2, 3]])
        assert problem.optimum.tolist() == [0] * problem.d
        assert problem.optimal_value == pytest.approx(np.log(classes))


@pytest.mark.parametrize("intercept", [False, True])
def test_conjugate_gradients_do_not_stall_on_the_shift_of_intercepts(intercept, monkeypatch):
    generator = np.random.default_rng(0)
    A = sparse.random_array((400, 3000), density=0.01, rng=generator, format="csr")
    owners, products = np.arange(400) % 8, 0

    def counted(matrix, gradient, **options):
        def callback(_):
            nonlocal products
            products += 1

        return cg(matrix, gradient, callback=callback, **options)

    monkeypatch.setattr("relaysim.problems.newton.cg", counted)
    problem = Logistic(A, np.arange(400) % 3, 1e-3, partition=owners, intercept=intercept)
    assert np.linalg.norm(problem.mean_gradient(problem.optimum)) < 1e-15
    assert 0 < products < 2000
    np.testing.assert_allclose(problem.coefficients(problem.optimum)[1].mean(), 0, atol=1e-12)


@pytest.mark.parametrize("weighting", ["workers", "examples"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_sparse_equals_dense(classes, intercept, weighting):
    dense, thin = (
        Written(classes, storage, intercept, weighting, UNEQUAL).problem
        for storage in ("dense", "sparse")
    )
    for name in ("optimum", "zeta2", "optimal_value", "smoothness", "mean_smoothness"):
        np.testing.assert_allclose(getattr(thin, name), getattr(dense, name), atol=1e-12)
    x = points(dense, 1)[0]
    for name in ("value", "suboptimality", "mean_gradient", "example_variance", "mean_hessian"):
        np.testing.assert_allclose(
            getattr(thin, name)(x), getattr(dense, name)(x), rtol=1e-12, atol=1e-13, err_msg=name
        )
    np.testing.assert_array_equal(thin.predict(x), dense.predict(x))


# -- suboptimality to many digits ------------------------------------------------------------------


def exact_suboptimality(written, x, reference):
    """Bregman divergence of f between x and the reference, to forty digits and more."""
    with decimal.localcontext() as context:
        context.prec = 70
        x, reference = ([Decimal(float(v)) for v in point] for point in (x, reference))
        c = 1 if written.classes == 2 else written.classes
        total = Decimal(0)
        for i in range(written.n):
            share = Decimal(1) / len(written.labels[i])
            if written.weights[i] != 1:
                share = Decimal(written.n) / sum(map(len, written.labels))
            for a, label in zip(written.features[i], written.labels[i], strict=True):
                a = [Decimal(float(v)) for v in a]
                here, there = (
                    [sum(v * p[k * c + s] for k, v in enumerate(a)) for s in range(c)]
                    for p in (x, reference)
                )
                if c == 1:
                    here, there = [Decimal(0), *here], [Decimal(0), *there]
                p = [z.exp() for z in there]
                p = [v / sum(p) for v in p]
                change = [u - v for u, v in zip(here, there, strict=True)]
                linear = sum(u * v for u, v in zip(p, change, strict=True)) - change[label]
                after = sum(z.exp() for z in here).ln() - here[label]
                before = sum(z.exp() for z in there).ln() - there[label]
                total += share * (after - before - linear)
        total /= written.n
        kept = len(x) - c * written.intercept
        moved = [u - v for u, v in zip(x[:kept], reference[:kept], strict=True)]
        return float(total + Decimal(written.l2) / 2 * sum(v * v for v in moved))


@pytest.mark.parametrize("weighting", ["workers", "examples"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("l2", [0.1, 1e-4])
def test_suboptimality_keeps_its_digits_however_small(classes, intercept, weighting, l2):
    written = Written(classes, "dense", intercept, weighting, (5, 9, 2), l2=l2, seed=3)
    problem = written.problem
    direction = points(problem, 1)[0]
    offsets = [1e-12, 1e-8, 1e-4, 1e-2, 0.05, 0.1, 0.2, 0.3, 1, 10, -1e-8, -1e-1, -10]
    x = problem.optimum[:, None] + direction[:, None] * offsets
    expected = [exact_suboptimality(written, point, problem.optimum) for point in x.T]
    assert min(expected) < 1e-20
    np.testing.assert_allclose(problem.suboptimality(x), expected, rtol=1e-10)
    for point, value in zip(x.T, expected, strict=True):
        np.testing.assert_allclose(problem.suboptimality(point), value, rtol=1e-10)
    assert problem.suboptimality(problem.optimum) == 0
    far = x[:, -1]
    np.testing.assert_allclose(
        problem.suboptimality(far), problem.value(far) - problem.optimal_value, rtol=1e-10
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_suboptimality_with_outliers_is_finite_and_exact(classes):
    written = Written(classes, "dense", False, "workers", (12, 12, 12), l2=0.1, seed=3)
    # One example far on the right side of the boundary, two far on the wrong one.
    usual = written.problem.optimum
    scores = [a @ usual.reshape(3, -1) for a in written.features]
    for i, size in ((0, 3e3), (1, 40.0), (2, 60.0)):
        best = np.argmax(np.abs(scores[i]).max(axis=1))
        written.features[i][best] *= size
        guess = int(scores[i][best][0] > 0) if classes == 2 else int(scores[i][best].argmax())
        written.labels[i][best] = guess if i == 0 else (guess + 1) % classes
    problem = Logistic(written.features, written.labels, written.l2)
    for scale in (1e-8, 1e-3, 0.3, 1, 10, 100):
        for sign in (-1, 1):
            x = problem.optimum + sign * scale * points(problem, 1)[0]
            expected = exact_suboptimality(written, x, problem.optimum)
            np.testing.assert_allclose(problem.suboptimality(x), expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1, 10])
def test_suboptimality_where_one_class_has_probability_zero_at_the_optimum(scale):
    features = [[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [3e4, -3e4]]]
    problem = Logistic(features, [[0, 1, 2, 0]], l2=0.1)
    far = problem.optimum + scale * np.array([-1.0, 2, -1, 3, -2, 1])
    difference = problem.value(far) - problem.optimal_value
    np.testing.assert_allclose(problem.suboptimality(far), difference, rtol=1e-9)


def test_suboptimality_where_an_example_is_hopelessly_wrong_at_the_optimum():
    features, labels = [[[0.1]] * 1000 + [[5.0]]], [[1] * 1000 + [0]]
    problem = Logistic(features, labels, l2=0)
    np.testing.assert_allclose(problem.optimum, [10 * np.log(19)], rtol=1e-9)  # s(0.1 x) = 1/20
    for x in (-100.0, -1.0, 0.0, 1.0, 10.0, 100.0):
        difference = problem.value([x]) - problem.optimal_value
        np.testing.assert_allclose(problem.suboptimality([x]), difference, rtol=1e-9)


def test_sums_of_many_logarithms_keep_their_digits_and_do_not_overflow():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3, 400, 2))
    labels = features[..., 0] + generator.normal(size=(3, 400)) > 0
    problem = Logistic(features, labels, l2=0.1)
    # Up to 25 by example, of which 400 multiply to e^10000.
    for length in (0.3, 3.0, 8.0):
        x = problem.optimum + length * np.array([[-1.0, 0.6], [0.8, -0.6], [0.0, 1.0]])
        for each, value in zip(x, problem.suboptimality(x.T), strict=True):
            difference = problem.value(each) - problem.optimal_value
            np.testing.assert_allclose(value, difference, rtol=1e-12)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize(
    ("classes", "loss"), [(2, "logistic"), (3, "logistic"), (2, "exponential")]
)
def test_suboptimality_and_gradient_together_are_as_each_by_itself(storage, classes, loss):
    generator = np.random.default_rng(3)
    features, labels = generator.normal(size=(67, 3)), generator.integers(classes, size=67)
    problem = Logistic(
        sparse.csr_array(features) if storage == "sparse" else features,
        labels,
        0.1,
        partition=partitions.by_size(labels, 3, 8.0),
        intercept=True,
        weighting="examples",
        loss=loss,
    )
    direction = points(problem, 1)[0]
    # Series, closed forms with digits and without, scores beyond what exponentials hold, and no number.
    offsets = [0, 1e-9, 1e-3, -0.01, 0.05, 0.2, -0.7, 3, -8, 30, -100, 900, -900, np.nan]
    x = problem.optimum[:, None] + direction[:, None] * offsets
    with np.errstate(all="ignore"):
        expected, slopes = problem.suboptimality(x), problem.mean_gradient(x)
        found, gradient = problem.suboptimality_and_gradient(x)
        one, _ = problem.suboptimality_and_gradient(x[:, 4:5])
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(one, expected[4:5], rtol=1e-13)
    rounding = 4e-15 * problem._loss.gradient_terms
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=rounding)


def test_a_class_derived_from_logistic_is_asked_for_what_it_says_itself():
    class Other(Logistic):
        def mean_gradient(self, x):
            return 2 * super().mean_gradient(x)

    features, labels = COMPLETE
    problem = Other([features], [labels], l2=0.1)
    run = rs.simulate(
        problem, rs.topologies.chain(1), rs.algorithms.DPSGD(), learning_rate=0, steps=0
    )
    expected = np.sum(problem.mean_gradient(np.zeros(problem.d)) ** 2)
    assert run.frame.gradient_norm[0] == pytest.approx(expected, rel=1e-14)


# -- without an l2 term ----------------------------------------------------------------------------

COMPLETE = ([[-2.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [2.0, -1.0]] * 2, [0, 0, 1, 1] * 2)
# Separated along the first feature, but for examples that lie on the boundary.
QUASI = ([[-2.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [2.0, -1.0]] * 2,
         [0, 0, 0, 1, 1, 1] * 2)  # fmt: skip
COMPLETE_3 = ([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, 0.0]] * 2, [0, 1, 2, 0] * 2)
# Classes 0 and 1 overlap; the first feature tells class 2 from both.
QUASI_3 = ([[-1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, 0.5], [1.0, -0.5]] * 2,
           [0, 0, 1, 1, 2, 2] * 2)  # fmt: skip
SEPARABLE = {"complete": COMPLETE, "quasi": QUASI, "complete 3": COMPLETE_3, "quasi 3": QUASI_3}


@pytest.mark.parametrize("storage", [np.array, sparse.csr_array])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("name", SEPARABLE)
def test_separable_classes_without_l2_have_no_optimum(name, intercept, storage):
    features, labels = SEPARABLE[name]
    owners = np.arange(len(labels)) % 4
    problem = Logistic(
        storage(np.array(features)), labels, l2=0, partition=owners, intercept=intercept
    )
    for quantity in ("optimum", "zeta2", "optimal_value"):
        with pytest.raises(NoOptimumError, match="separates"):
            getattr(problem, quantity)
        assert not hasattr(problem, quantity)
    assert issubclass(NoOptimumError, ValueError)
    with pytest.raises(NoOptimumError):
        problem.suboptimality(np.zeros(problem.d))
    history = rs.simulate(problem, CHAIN, rs.algorithms.RelaySGD(), learning_rate=0.1, steps=40)
    measured = history.frame[["value", "consensus_distance", "gradient_norm"]]
    assert not {"suboptimality", "distance"} & set(history.frame.columns)
    assert np.isfinite(measured.to_numpy()).all()
    np.testing.assert_allclose(
        history.frame.value.iloc[-1], problem.value(history.x.mean(axis=0)), rtol=1e-12
    )
    assert history.frame.value.iloc[-1] < history.frame.value.iloc[0]


def test_separable_classes_with_an_l2_term_have_an_optimum():
    for features, labels in SEPARABLE.values():
        problem = Logistic([features], [labels], l2=1e-6)
        np.testing.assert_allclose(problem.mean_gradient(problem.optimum), 0, atol=1e-12)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_an_optimum_without_l2_is_that_of_scikit_learn(classes, intercept):
    generator = np.random.default_rng(2)
    features = generator.normal(size=(200, 3))
    labels = generator.integers(classes, size=200)
    problem = Logistic(
        features,
        labels,
        l2=0,
        partition=partitions.by_size(labels, 5, 4.0),
        intercept=intercept,
        weighting="examples",
    )
    model = fitted(data.Dataset(features, labels), 0, intercept)
    weights, intercepts = problem.coefficients(problem.optimum)
    np.testing.assert_allclose(centered(weights), centered(model.coef_), rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        centered(intercepts), centered(np.broadcast_to(model.intercept_, len(weights))), atol=1e-8
    )
    assert np.abs(problem.optimum).max() < 10


# -- coefficients and predictions ------------------------------------------------------------------


def test_coefficients_take_x_apart():
    binary = Written(2, "dense", True, "workers", EQUAL).problem
    weights, intercepts = binary.coefficients(np.arange(4.0))
    assert (weights.tolist(), intercepts.tolist()) == ([[0, 1, 2]], [3])
    softmax = Written(3, "dense", True, "workers", EQUAL).problem
    weights, intercepts = softmax.coefficients(np.arange(12.0))
    assert weights.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert intercepts.tolist() == [9, 10, 11]
    plain = Written(3, "dense", False, "workers", EQUAL).problem
    assert plain.coefficients(np.arange(9.0))[1].tolist() == [0, 0, 0]


def test_predictions_are_classes_whatever_their_names():
    features = np.array([[-1.0], [-2.0], [1.0], [3.0]])
    names = np.array(["no", "no", "yes", "yes"])
    problem = Logistic(features, names, l2=0.1, partition=[[0, 2], [1, 3]])
    assert problem.classes.tolist() == ["no", "yes"]
    assert problem.predict([1.0]).tolist() == names.tolist()
    assert problem.predict([-1.0], [[5.0], [-5.0]]).tolist() == ["no", "yes"]
    assert problem.accuracy([1.0]) == 1.0
    assert problem.accuracy([[1.0, -1.0]]).tolist() == [1.0, 0.0]
    assert problem.accuracy([1.0], [[5.0], [4.0], [3.0]], ["yes", "no", "yes"]) == 2 / 3
    turned = Logistic(features, names, l2=0.1, partition=[[0, 2], [1, 3]], classes=["yes", "no"])
    np.testing.assert_allclose(turned.optimum, -problem.optimum, rtol=1e-12)
    assert turned.predict(turned.optimum).tolist() == names.tolist()
    boolean = Logistic(features, names == "yes", l2=0.1, partition=[[0, 2], [1, 3]])
    np.testing.assert_array_equal(boolean.optimum, problem.optimum)


def test_the_ways_to_give_examples_are_the_same_problem():
    generator = np.random.default_rng(0)
    A, labels = generator.normal(size=(3, 4, 2)), generator.integers(2, size=(3, 4))
    x = generator.normal(size=(3, 2))
    expected = Logistic(A, labels, 0.1).gradient(x)
    pooled = A.reshape(12, 2), labels.reshape(12), 0.1
    lists = np.arange(12).reshape(3, 4)
    for problem in (
        Logistic(list(A), list(labels), 0.1),
        Logistic(*pooled, partition=list(lists)),
        Logistic(*pooled, partition=np.repeat([0, 1, 2], 4)),
        Logistic(*pooled, partition=partitions.Partition.of(lists.tolist(), 12)),
        Logistic(*pooled, partition=np.repeat([0, 1, 2], 4).tolist()),
        Logistic([sparse.coo_array(a) for a in A], labels, 0.1),
        Logistic([A[0], sparse.coo_array(A[1]), A[2].tolist()], labels, 0.1),
        Logistic([sparse.csc_matrix(A[0]), A[1], A[2]], labels, 0.1),
        Logistic(sparse.csc_matrix(pooled[0]), *pooled[1:], partition=list(lists)),
    ):
        np.testing.assert_allclose(problem.gradient(x), expected, rtol=1e-13)


def test_the_open_mean_of_the_classes_stays_where_runs_leave_it():
    """Softmax intercepts are known up to a common shift; runs from 0 never leave mean 0."""
    problem = Written(3, "dense", True, "workers", EQUAL).problem
    np.testing.assert_allclose(problem.coefficients(problem.optimum)[1].mean(), 0, atol=1e-9)
    history = rs.simulate(
        problem, CHAIN, rs.algorithms.AllReduce(), learning_rate=0.5, steps=1500, record=100
    )
    assert history.frame.suboptimality.iloc[-1] < 1e-20
    assert history.frame.distance.iloc[-1] < 1e-16


# -- runs ------------------------------------------------------------------------------------------


def run(problem, algorithm, rate, steps, n=8, **options):
    return rs.simulate(
        problem, rs.topologies.chain(n), algorithm, learning_rate=rate, steps=steps, **options
    )


@functools.cache
def apart(classes):
    dataset = data.breast_cancer() if classes == 2 else data.wine()
    partition = partitions.dirichlet(dataset.labels, 8, alpha=0.1, seed=0)
    return Logistic(dataset.features, dataset.labels, l2=0.1, partition=partition)


@pytest.mark.parametrize("classes", [2, 3])
def test_relaysgd_reaches_the_optimum_where_dpsgd_stalls(classes):
    problem = apart(classes)
    assert problem.zeta2 > 1e-3
    relay = run(problem, rs.algorithms.RelaySGD(), 0.2, 6000, record=100).frame
    assert relay.suboptimality.iloc[-1] < 1e-25
    assert relay.distance.iloc[-1] < 1e-24
    gossip = run(problem, rs.algorithms.DPSGD(), 0.2, 2000, record=100).frame
    assert gossip.suboptimality.iloc[-1] > 1e-8


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_a_diverging_run_ends_without_warnings(storage):
    problem = Written(3, storage, False, "workers", EQUAL).problem
    history = rs.simulate(problem, CHAIN, rs.algorithms.DPSGD(), learning_rate=1e3, steps=2000)
    assert not np.isfinite(history.x).all() or np.abs(history.x).max() > 1e50


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("oracle", [rs.oracles.Exact(), rs.oracles.Minibatch(size=2)])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_saved_run_is_rebuilt_and_repeats_itself(classes, oracle, storage, tmp_path):
    written = Written(classes, "dense", False, "workers", UNEQUAL)
    labels = np.array(["ant", "bee", "cat"])[np.concatenate(written.labels)]
    problem = Logistic(
        storage(np.concatenate(written.features)),
        labels,
        l2=0.1,
        partition=partitions.by_size(labels, 4, 3.0, seed=2),
        intercept=True,
        weighting="examples",
    )
    history = run(problem, rs.algorithms.RelaySGD(), 0.3, 20, n=4, oracle=oracle, seed=4)
    loaded = rs.History.load(history.save(tmp_path / "logistic"))
    for config in (history.config, loaded.config):
        given = rs.rebuild(config)
        assert repr(given["problem"]) == repr(problem)
        assert given["problem"].classes.tolist() == problem.classes.tolist()
        again = rs.simulate(**given)
        np.testing.assert_array_equal(again.x, history.x)
        assert again.frame.equals(history.frame)
    assert loaded.frame.equals(history.frame)


# -- what is refused -------------------------------------------------------------------------------

A, LABELS = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
OWNERS = np.arange(6) % 3


def with_entry(value):
    changed = A.copy()
    changed[4, 1] = value
    return changed


REFUSED = {
    "fractions": ((A, LABELS * 0.37, 0.1), {}, ValueError, r"label 1 is 0\.37"),
    "nan label": ((A, [0, 1, np.nan, 1, 0, 1], 0.1), {}, ValueError, "label 2 is nan"),
    "one class": ((A, LABELS * 0, 0.1), {}, ValueError, "all labels are 0"),
    "missing class": ((A, LABELS, 0.1), {"classes": [0, 1, 2]}, ValueError, "class 2 is missing"),
    "unknown class": ((A, LABELS + 1, 0.1), {"classes": [0, 1]}, ValueError, "label 2 is none"),
    "class twice": ((A, LABELS, 0.1), {"classes": [0, 1, 1]}, ValueError, "each named once"),
    "nan": ((with_entry(np.nan), LABELS, 0.1), {}, ValueError, "example 4, column 1"),
    "inf": ((with_entry(-np.inf), LABELS, 0.1), {}, ValueError, "example 4, column 1"),
    "sparse nan": (
        (sparse.csr_array(with_entry(np.nan)), LABELS, 0.1), {}, ValueError, "example 4, column 1",
    ),
    "sparse inf": (
        (sparse.coo_matrix(with_entry(np.inf)), LABELS, 0.1), {}, ValueError, "example 4, column 1",
    ),
    "fewer labels": ((A, LABELS[:5], 0.1), {}, ValueError, "6 examples and there are 5 labels"),
    "labels 2-D": ((A, LABELS.reshape(2, 3), 0.1), {}, ValueError, "one class for each example"),
    "no partition": ((A, LABELS, 0.1), {"partition": None}, ValueError, "not split over workers"),
    "sparse, no partition": (
        (sparse.csr_array(A), LABELS, 0.1), {"partition": None}, ValueError, "not split",
    ),
    "short partition": ((A, LABELS, 0.1), {"partition": OWNERS[:4]}, ValueError, "6 examples"),
    "worker without": (
        (A, LABELS, 0.1), {"partition": OWNERS * 2}, ValueError, "without any example: 1, 3",
    ),
    "empty list": (
        (A, LABELS, 0.1), {"partition": [[0, 1, 2], [], [3, 4, 5]]}, ValueError, "example: 1",
    ),
    "twice": (
        (A, LABELS, 0.1), {"partition": [[0, 1, 2], [2, 3, 4, 5]]}, ValueError, "example 2",
    ),
    "nobody": ((A, LABELS, 0.1), {"partition": [[0, 1, 2], [3, 5]]}, ValueError, "example 4"),
    "out of range": ((A, LABELS, 0.1), {"partition": [[0, 1, 2], [3, 4, 6]]}, ValueError, "0 to 5"),
    "one worker empty": (
        ([A, A[:0]], [LABELS, LABELS[:0]], 0.1), {"partition": None}, ValueError, "worker 1",
    ),
    "widths": (
        ([A, A[:, :1]], [LABELS, LABELS], 0.1), {"partition": None}, ValueError, "worker 1 have 1",
    ),
    "workers": (([A, A], [LABELS], 0.1), {"partition": None}, ValueError, "2 workers"),
    "own labels": (
        ([A, A], [LABELS, LABELS[:3]], 0.1), {"partition": None}, ValueError, "of worker 1 hold 6",
    ),
    "nan of worker": (
        ([A, with_entry(np.nan)], [LABELS, LABELS], 0.1),
        {"partition": None}, ValueError, "of worker 1 .*example 4, column 1",
    ),
    "negative l2": ((A, LABELS, -0.1), {}, ValueError, "l2"),
    "nan l2": ((A, LABELS, np.nan), {}, ValueError, "l2"),
    "text l2": ((A, LABELS, "0.1"), {}, TypeError, "l2"),
    "weighting": ((A, LABELS, 0.1), {"weighting": "equal"}, ValueError, "weighting"),
    "intercept": ((A, LABELS, 0.1), {"intercept": 1}, TypeError, "intercept"),
    "text": ((A.astype(str), LABELS, 0.1), {}, TypeError, "features"),
    "complex": ((A * 1j, LABELS, 0.1), {}, TypeError, "features"),
    "sparse complex": ((sparse.csr_array(A * 1j), LABELS, 0.1), {}, TypeError, "features"),
    "complex labels": ((A, LABELS * 1j, 0.1), {}, TypeError, "labels"),
    "no features": ((A[:, :0], LABELS, 0.1), {}, ValueError, "features"),
    "one axis": ((A[:, 0], LABELS, 0.1), {}, ValueError, "features"),
    "no worker": (([], [], 0.1), {"partition": None}, ValueError, "no worker"),
    "data set": (
        (data.Dataset(A, LABELS), 0.1), {}, TypeError,
        r"Logistic\(data\.features, data\.labels, l2=…, partition=…\)",
    ),
    "data set alone": ((data.Dataset(A, LABELS),), {"l2": 0.1}, TypeError, r"data\.features"),
    "no labels": ((A,), {"l2": 0.1}, TypeError, "labels are missing"),
    "no l2": ((A, LABELS), {}, TypeError, "l2 must be a number"),
    "whole number": ((A, LABELS, 0.1), {"partition": 3}, TypeError, "partition must say .* not 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_problem_is_refused(name):
    given, options, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        Logistic(*given, **{"partition": OWNERS} | options)


def test_numbers_that_are_hardly_classes_are_refused():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(60, 2)), np.arange(60)
    with pytest.raises(ValueError, match="hardly classes"):
        Logistic(features, labels, 0.1, partition=labels % 3)
    assert Logistic(features, labels, 0.1, partition=labels % 3, classes=labels).d == 120


@pytest.mark.parametrize("classes", [2, 3])
def test_points_of_another_shape_are_refused(classes):
    problem = Written(classes, "dense", False, "workers", EQUAL).problem
    n, d = problem.n, problem.d
    for shape in ((d,), (n, d + 1), (n + 1, d), (n, d, 2, 2), (1, d)):
        with pytest.raises(ValueError, match=r"x must have shape \(n, d\)"):
            problem.gradient(np.zeros(shape))
    for method in ("value", "mean_gradient", "suboptimality", "predict", "accuracy"):
        for shape in ((d + 1,), (n, d + 1), (), (d, 2, 2)):
            with pytest.raises(ValueError, match=r"x must have shape \(d,\)"):
                getattr(problem, method)(np.zeros(shape))
    with pytest.raises(ValueError, match="shape"):
        problem.example_variance(np.zeros((n, d, 1)))
    with pytest.raises(ValueError, match="one point"):
        problem.curvature_at(np.zeros((d, 2)))
    for method in (
        problem.hessian,
        lambda _, x: problem.mean_hessian(x),
        lambda _, x: problem.coefficients(x),
    ):
        with pytest.raises(ValueError, match="shape"):
            method(0, np.zeros(d + 1))
    with pytest.raises(ValueError, match="3 columns"):
        problem.predict(np.zeros(d), np.ones((2, 4)))
    with pytest.raises(ValueError, match="or neither"):
        problem.accuracy(np.zeros(d), np.ones((2, 3)))
    with pytest.raises(ValueError, match="2 examples but labels"):
        problem.accuracy(np.zeros(d), np.ones((2, 3)), [0])
    with pytest.raises(ValueError, match="none of"):
        problem.accuracy(np.zeros(d), np.ones((2, 3)), [0, 7])


def test_what_diverged_has_no_accuracy_and_no_classes():
    """Comparisons with NaN are false, which read as the first class."""
    features, labels = np.array([[1.0], [2.0], [-1.0], [-2.0]]), np.array(["no", "yes", "no", "no"])
    problem = rs.problems.Logistic(
        features, labels, partition=[[0, 1], [2, 3]], l2=0.1, test=(features, labels)
    )
    x = np.zeros((problem.d, 3))
    x[0, 1], x[-1, 2] = np.nan, np.inf
    for found in (problem.accuracy(x), problem.test_accuracy(x)):
        np.testing.assert_array_equal(found, [0.75, np.nan, np.nan])
    assert np.isnan(problem.accuracy(x[:, 1]))
    with pytest.raises(ValueError, match="not finite, where no class has the highest score"):
        problem.predict(x)


# -- many minimisers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("seed", range(4))
def test_of_many_minimisers_the_optimum_is_that_of_the_smallest_norm(
    form, classes, intercept, seed
):
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(60, 3))
    A = np.column_stack([A, A @ generator.normal(size=(3, 3)), 1e4 * A[:, 0], np.full(60, 2.0)])
    labels = generator.integers(0, classes, size=60)
    problem = Logistic(
        form(A), labels, l2=0, partition=partitions.iid(labels, 4), intercept=intercept
    )
    features = np.column_stack([A, np.ones(60)]) if intercept else A
    x = problem.optimum
    assert np.linalg.norm(problem.gradient(np.tile(x, (4, 1))).mean(axis=0)) < 1e-8
    by_feature = x.reshape(features.shape[1], -1)
    unit = np.linalg.svd(features / np.linalg.norm(features, axis=0), full_matrices=False)
    assert (unit[1] > 1e-8).sum() == 4
    # What no example sees of x, by an orthonormal basis of what they see.
    seen = np.linalg.qr(features.T @ np.linalg.qr(features[:, [0, 1, 2, 7]])[0])[0]
    assert np.linalg.norm(by_feature - seen @ (seen.T @ by_feature)) < 1e-11 * np.linalg.norm(x)
    if classes > 2:
        assert np.abs(by_feature.sum(axis=1)).max() < 1e-11


def test_more_features_than_examples_leave_the_smallest_norm_too():
    generator = np.random.default_rng(0)
    A = np.repeat(generator.normal(size=(6, 9)), 4, axis=0)
    labels = np.tile([0, 0, 1, 1], 6)
    labels[::8] = 1
    problem = Logistic(A, labels, l2=0, partition=partitions.iid(labels, 3))
    x = problem.optimum
    assert np.linalg.norm(x) > 0.1
    assert np.linalg.norm(x - np.linalg.pinv(A) @ (A @ x)) < 1e-12 * np.linalg.norm(x)


def test_divergences_of_examples_that_are_hopelessly_wrong_have_their_digits():
    for margins, changes in (
        ([-25, 1], [29.9, 30.1]),
        ([-25, 1], [40.0, -50.0]),
        ([-34, 2], [20.0, 0.1]),
        ([-34, 2], [-20.0, 0.4]),
        ([-20, -3], [0.5, 0.6]),
        ([-10, 1], [2.0, 2.5]),
    ):
        expected = Decimal(0)
        with decimal.localcontext() as context:
            context.prec = 60
            for margin, change in zip(map(Decimal, margins), map(Decimal, changes), strict=True):
                wrong = 1 / (1 + margin.exp())
                ratio = 1 + wrong * ((-change).exp() - 1)
                expected += (ratio.ln() + wrong * change) / 2
        divergence = BinaryDivergence(
            np.ones((1, 2)), np.full((1, 2), 0.5), np.c_[margins].astype(float)
        )
        found = divergence.of(np.c_[changes])
        together, slopes = divergence.with_slopes(np.c_[changes])
        np.testing.assert_allclose([found[0], together[0]], float(expected), rtol=1e-11)
        there = np.add(margins, changes)
        np.testing.assert_allclose(slopes[:, 0], -0.5 / (1 + np.exp(there)), rtol=1e-12)
