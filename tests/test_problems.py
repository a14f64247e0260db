import numpy as np
import pytest

from relaysim import oracles, problems, simulate
from relaysim.algorithms import RelaySGD
from relaysim.problems import DiagonalQuadratic, LeastSquares, random_quadratics
from relaysim.topologies import chain


def some_least_squares(n=4, rows=5, d=3, seed=0):
    generator = np.random.default_rng(seed)
    return LeastSquares(generator.normal(size=(n, rows, d)), generator.normal(size=(n, rows)))


def some_diagonal(n=4, d=3, seed=0):
    generator = np.random.default_rng(seed)
    h = generator.uniform(0.1, 2, size=(n, d))
    h[0, 1] = 0
    return DiagonalQuadratic(h, generator.normal(size=(n, d)))


def values_of_workers(problem, x):
    """f_i(x) for every worker, written out."""
    if isinstance(problem, LeastSquares):
        residuals = [A @ x - b for A, b in zip(problem.A, problem.b, strict=True)]
        return np.array([0.5 * residual @ residual for residual in residuals])
    return np.array(
        [0.5 * h @ (x - c) ** 2 for h, c in zip(problem.h, problem.centers, strict=True)]
    )


def hessians_of_workers(problem):
    if isinstance(problem, LeastSquares):
        return np.array([A.T @ A for A in problem.A])
    return np.array([np.diag(h) for h in problem.h])


QUADRATICS = {
    "tall": some_least_squares(),
    "square": some_least_squares(rows=3),
    "flat": some_least_squares(n=6, rows=1, d=4),
    "one worker": some_least_squares(n=1),
    "one parameter": some_least_squares(d=1),
    "diagonal": some_diagonal(),
    "random": random_quadratics(n=5, d=3, zeta2=2.0, mu=0.1, seed=0),
}
over_quadratics = pytest.mark.parametrize("problem", QUADRATICS.values(), ids=QUADRATICS)


def some_point(problem, *trailing, seed=5):
    return np.random.default_rng(seed).normal(size=(problem.d, *trailing))


# -- all quadratics --------------------------------------------------------------------------------


@over_quadratics
def test_gradients_are_those_of_the_values(problem):
    x = np.random.default_rng(1).normal(size=(problem.n, problem.d))
    gradient = problem.gradient(x)
    assert gradient.shape == x.shape
    for i in range(problem.n):
        for k in range(problem.d):
            # A quadratic has no third derivative: a wide central difference is exact.
            step = np.zeros(problem.d)
            step[k] = 0.5
            difference = values_of_workers(problem, x[i] + step) - values_of_workers(
                problem, x[i] - step
            )
            np.testing.assert_allclose(gradient[i, k], difference[i], rtol=0, atol=1e-12)


@over_quadratics
def test_a_gradient_with_replicas_is_each_replicas_gradient(problem):
    x = np.random.default_rng(1).normal(size=(problem.n, problem.d, 3))
    together = problem.gradient(x)
    assert together.shape == x.shape
    for k in range(3):
        np.testing.assert_allclose(together[..., k], problem.gradient(x[..., k]), atol=1e-13)
    lent = np.full(x.shape, np.nan)
    assert problem.gradient(x, out=lent) is lent
    np.testing.assert_array_equal(lent, together)


@over_quadratics
def test_value_is_the_mean_over_workers(problem):
    x = some_point(problem)
    assert np.shape(problem.value(x)) == ()
    np.testing.assert_allclose(problem.value(x), values_of_workers(problem, x).mean(), rtol=1e-12)
    several = some_point(problem, 4)
    values = problem.value(several)
    assert values.shape == (4,)
    expected = [values_of_workers(problem, point).mean() for point in several.T]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@over_quadratics
def test_the_optimum_is_where_the_gradients_cancel(problem):
    assert problem.optimum.shape == (problem.d,)
    hessian = hessians_of_workers(problem).mean(axis=0)
    pull = -problem.gradient(np.zeros((problem.n, problem.d))).mean(axis=0)
    np.testing.assert_allclose(problem.optimum, np.linalg.solve(hessian, pull), atol=1e-11)
    np.testing.assert_allclose(
        problem.optimal_value, values_of_workers(problem, problem.optimum).mean(), rtol=1e-11
    )


@over_quadratics
def test_heterogeneity_is_the_mean_squared_gradient_at_the_optimum(problem):
    at_optimum = problem.gradient(np.tile(problem.optimum, (problem.n, 1)))
    expected = sum(gradient @ gradient for gradient in at_optimum) / problem.n
    np.testing.assert_allclose(problem.zeta2, expected, rtol=1e-12, atol=1e-24)
    assert isinstance(problem.zeta2, float)


@over_quadratics
def test_curvature_bounds_are_extreme_eigenvalues(problem):
    hessians = hessians_of_workers(problem)
    eigenvalues = np.linalg.eigvalsh(hessians)
    mean_eigenvalues = np.linalg.eigvalsh(hessians.mean(axis=0))
    for name, expected in {
        "smoothness": eigenvalues.max(),
        "strong_convexity": eigenvalues.min(),
        "mean_smoothness": mean_eigenvalues.max(),
        "mean_strong_convexity": mean_eigenvalues.min(),
    }.items():
        found = getattr(problem, name)
        assert isinstance(found, float)
        assert found >= 0
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14, err_msg=name)


@over_quadratics
def test_suboptimality_does_not_cancel_near_the_optimum(problem):
    offset = 1e-12 * some_point(problem, 3)
    near = problem.optimum[:, None] + offset
    error = near - problem.optimum[:, None]  # what is left of the offset after rounding; exact
    hessian = hessians_of_workers(problem).mean(axis=0)
    expected = 0.5 * np.einsum("dk,de,ek->k", error, hessian, error)
    assert (expected < 1e-22).all()
    np.testing.assert_allclose(problem.suboptimality(near), expected, rtol=1e-10)
    np.testing.assert_allclose(problem.suboptimality(near[:, 0]), expected[0], rtol=1e-10)
    np.testing.assert_allclose(problem.mean_gradient(near), hessian @ error, rtol=1e-9)
    assert problem.suboptimality(problem.optimum) == 0
    far = some_point(problem)
    np.testing.assert_allclose(
        problem.suboptimality(far), problem.value(far) - problem.optimal_value, rtol=1e-9
    )


def test_a_curve_can_be_followed_far_below_1e_25():
    problem = random_quadratics(n=6, d=4, zeta2=10.0, r0=5.0, seed=0)
    history = simulate(problem, chain(6), RelaySGD(), learning_rate=0.7, steps=400, record=400)
    assert history.frame.suboptimality.iloc[-1] < 1e-28


# -- least squares ---------------------------------------------------------------------------------


def test_among_many_optima_the_one_of_smallest_norm_is_named():
    problem = LeastSquares(np.array([[[1.0, 1.0, 0.0]]]), np.array([[2.0]]))
    np.testing.assert_allclose(problem.optimum, [1, 1, 0], atol=1e-14)
    assert (problem.strong_convexity, problem.mean_strong_convexity) == (0.0, 0.0)


def test_least_squares_copies_its_data():
    A, b = np.ones((2, 3, 1)), np.arange(6.0).reshape(2, 3)
    problem = LeastSquares(A, b)
    A[:], b[:] = 9, 9
    assert problem.A.max() == 1
    assert problem.b.max() == 5
    with pytest.raises(ValueError, match="read-only"):
        problem.A[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        problem.b[0] = 2


# -- diagonal quadratics ---------------------------------------------------------------------------


def test_a_diagonal_quadratic_is_the_least_squares_with_a_diagonal_matrix():
    diagonal = some_diagonal(n=6, d=4)
    roots = np.sqrt(diagonal.h)
    full = LeastSquares(np.array([np.diag(root) for root in roots]), roots * diagonal.centers)
    for name in ("optimum", "optimal_value", "zeta2", "smoothness", "strong_convexity"):
        np.testing.assert_allclose(
            getattr(diagonal, name), getattr(full, name), rtol=1e-12, atol=1e-14, err_msg=name
        )
    for name in ("mean_smoothness", "mean_strong_convexity"):
        np.testing.assert_allclose(getattr(diagonal, name), getattr(full, name), rtol=1e-12)
    x = np.random.default_rng(2).normal(size=(6, 4, 2))
    np.testing.assert_allclose(diagonal.gradient(x), full.gradient(x), atol=1e-13)
    np.testing.assert_allclose(diagonal.value(x[0]), full.value(x[0]), rtol=1e-12)


def test_a_diagonal_quadratic_is_the_same_in_blocks(monkeypatch):
    problem, x = some_diagonal(n=40), np.random.default_rng(2).normal(size=(40, 3))
    gradient, optimal_value = problem.gradient(x), problem.optimal_value
    monkeypatch.setattr("relaysim.support.blocks.BLOCK_BYTES", 200)
    np.testing.assert_array_equal(problem.gradient(x), gradient)
    again = DiagonalQuadratic(problem.h, problem.centers)
    np.testing.assert_allclose(again.optimal_value, optimal_value, rtol=1e-14)


# -- random quadratics -----------------------------------------------------------------------------


@pytest.mark.parametrize("zeta2", [0.0, 1e-6, 1.0, 1e5])
@pytest.mark.parametrize(("mu", "smoothness", "r0"), [(0.25, 1.0, 1.0), (2.0, 3.0, 100.0)])
def test_random_quadratics_have_what_was_asked_for(zeta2, mu, smoothness, r0):
    problem = random_quadratics(n=6, d=5, zeta2=zeta2, mu=mu, smoothness=smoothness, r0=r0, seed=3)
    spectrum = np.linspace(np.sqrt(smoothness), np.sqrt(mu), 5)
    for A in problem.A:
        np.testing.assert_allclose(np.linalg.svd(A, compute_uv=False), spectrum, rtol=1e-12)
    np.testing.assert_allclose(problem.zeta2, zeta2, rtol=1e-9, atol=1e-20 * r0**2)
    np.testing.assert_allclose(np.linalg.norm(problem.optimum), r0, rtol=1e-10)
    hessians = hessians_of_workers(problem)
    assert np.abs(hessians[0] - hessians[1]).max() > 0.01


def test_random_quadratics_without_mu_are_scaled_gaussian_matrices():
    problem = random_quadratics(n=6, d=5, zeta2=1.0, mu=None, smoothness=4.0, seed=3)
    for A in problem.A:
        singular = np.linalg.svd(A, compute_uv=False)
        np.testing.assert_allclose(singular[0], 2.0, rtol=1e-12)
        assert np.abs(np.diff(singular, 2)).max() > 0.01, "not equally spaced"
    np.testing.assert_allclose(problem.zeta2, 1.0, rtol=1e-9)


def test_random_quadratics_without_heterogeneity_share_their_optimum():
    problem = random_quadratics(n=4, d=3, zeta2=0.0, seed=1)
    for A, b in zip(problem.A, problem.b, strict=True):
        np.testing.assert_allclose(np.linalg.solve(A, b), problem.optimum, rtol=1e-11)


def test_heterogeneity_moves_the_workers_apart_and_changes_nothing_else():
    first, second = (random_quadratics(n=4, d=3, zeta2=z, seed=1) for z in (1.0, 9.0))
    np.testing.assert_array_equal(first.A, second.A)
    np.testing.assert_allclose(first.optimum, second.optimum, rtol=1e-10)
    moved = [np.linalg.solve(p.A, p.b[..., None])[..., 0] - first.optimum for p in (first, second)]
    np.testing.assert_allclose(moved[1], 3 * moved[0], rtol=1e-8)


def test_random_quadratics_depend_on_their_seed():
    arguments = {"n": 4, "d": 3, "zeta2": 1.0}
    first = random_quadratics(**arguments, seed=1)
    np.random.seed(0)  # noqa: NPY002
    again = random_quadratics(**arguments, seed=1)
    other = random_quadratics(**arguments, seed=2)
    np.testing.assert_array_equal(first.b, again.b)
    assert np.abs(first.b - other.b).max() > 0.1


@pytest.mark.parametrize("mu", [None, 0.3])
def test_the_repr_of_random_quadratics_rebuilds_them(mu):
    problem = random_quadratics(n=4, d=3, zeta2=1.5, mu=mu, smoothness=2.0, r0=0.5, seed=1)
    again = eval(repr(problem), vars(problems).copy())
    np.testing.assert_array_equal(again.A, problem.A)
    np.testing.assert_array_equal(again.b, problem.b)


# -- bad input -------------------------------------------------------------------------------------

BROKEN = np.array([[1.0, np.nan]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeastSquares(np.ones((2, 3)), np.ones(2)), r"shape \(n, m, d\), not \(2, 3\)"),
        (lambda: LeastSquares(np.ones((2, 0, 3)), np.ones((2, 0))), r"not \(2, 0, 3\)"),
        (lambda: LeastSquares(np.ones((2, 3, 1)), np.ones((3, 2))), r"\(2, 3\), not \(3, 2\)"),
        (lambda: LeastSquares(BROKEN[None], np.ones((1, 1))), r"A .* index \(0, 0, 1\)"),
        (lambda: LeastSquares(np.ones((1, 2, 1)), BROKEN), r"b .* not finite, at index \(0, 1\)"),
        (lambda: DiagonalQuadratic(np.ones(3), np.ones(3)), r"h must have shape \(n, d\)"),
        (
            lambda: DiagonalQuadratic(np.ones((2, 3)), np.ones((3, 2))),
            r"shape of h, \(2, 3\), not \(3, 2\)",
        ),
        (lambda: DiagonalQuadratic(np.array([[1.0, -2.0]]), np.ones((1, 2))), "smallest is -2"),
        (lambda: DiagonalQuadratic(np.array([[1.0, 0.0]]), np.ones((1, 2))), "coordinate 1"),
        (lambda: DiagonalQuadratic(BROKEN, np.ones((1, 2))), "h has an entry that is not finite"),
        (lambda: DiagonalQuadratic(np.ones((1, 2)), BROKEN), "centers has an entry"),
        (lambda: random_quadratics(0, 2, zeta2=1.0, seed=0), "n must be at least 1, not 0"),
        (lambda: random_quadratics(2, 0, zeta2=1.0, seed=0), "d must be at least 1, not 0"),
        (lambda: random_quadratics(2, 2, zeta2=-1.0, seed=0), "zeta2 must be .* at least 0"),
        (lambda: random_quadratics(2, 2, zeta2=np.nan, seed=0), "zeta2 must be a finite number"),
        (lambda: random_quadratics(1, 2, zeta2=1.0, seed=0), "a single worker has zeta2 = 0"),
        (lambda: random_quadratics(2, 2, zeta2=1.0, mu=0.0, seed=0), r"mu must lie in \(0, "),
        (lambda: random_quadratics(2, 2, zeta2=1.0, mu=1.5, seed=0), "smoothness=1.0"),
        (lambda: random_quadratics(2, 2, zeta2=1.0, smoothness=0, seed=0), "must be positive"),
        (lambda: random_quadratics(2, 2, zeta2=1.0, r0=-1, seed=0), "r0 must be"),
        (lambda: oracles.Gaussian(-1.0), "sigma2 must be a finite number of at least 0, not -1"),
        (lambda: oracles.Gaussian(float("inf")), "sigma2 must be a finite number"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_suboptimality_of_a_singular_problem_is_never_negative():
    generator = np.random.default_rng(0)
    problem = LeastSquares(generator.normal(size=(3, 2, 12)), generator.normal(size=(3, 2)))
    null_space = np.linalg.svd(problem.A.reshape(6, 12))[2][6:]
    points = problem.optimum[:, None] + null_space.T @ (1e4 * generator.normal(size=(6, 200)))
    values = problem.suboptimality(points)
    assert (values >= 0).all()
    assert values.max() < 1e-20
