"""`rs.problems.check` holds on what is right, and fails on each thing that a mutant does wrong."""

import pathlib
import re

import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim.problems.problem import OPTIONAL, REQUIRED

ROOT = pathlib.Path(__file__).parents[1]


def some_logistic(**options):
    generator = np.random.default_rng(0)
    owners = np.r_[np.arange(4), generator.integers(0, 4, 36)]
    return rs.problems.Logistic(
        generator.normal(size=(40, 3)), np.arange(40) % 3, l2=0.1, partition=owners, **options
    )


RIGHT = {
    "least squares": rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0),
    "homogeneous": rs.problems.random_quadratics(n=4, d=3, zeta2=0.0, seed=0),
    "far from 0": rs.problems.random_quadratics(n=4, d=3, zeta2=1e8, r0=1e5, seed=0),
    "small": rs.problems.random_quadratics(
        n=4, d=3, zeta2=1e-8, r0=1e-4, mu=1e-9, smoothness=1e-6, seed=0
    ),
    "one worker": rs.problems.random_quadratics(n=1, d=3, zeta2=0.0, seed=0),
    "diagonal": rs.problems.DiagonalQuadratic(np.ones((3, 1)), np.arange(3.0)[:, None]),
    "matrix": rs.problems.MatrixQuadratic(np.arange(12.0).reshape(2, 2, 3)),
    "logistic": some_logistic(),
    "composite": rs.problems.L1(
        rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0), weight=0.2
    ),
    "sparse logistic": rs.problems.L1(some_logistic(), weight=0.02),
    "by examples": some_logistic(weighting="examples", intercept=True),
}


@pytest.mark.parametrize("problem", RIGHT.values(), ids=RIGHT)
def test_what_relaysim_ships_holds(problem):
    table = rs.problems.check(problem)
    assert table.holds.all(), f"\n{table}"
    assert table.holds.sum() > 15


class Whole:
    """f_i(x) = ½ mean_j ‖x − c_ij‖²: everything that a problem may have, written out."""

    def __init__(self, workers=range(5)):
        self.points = np.random.default_rng(0).normal(size=(5, 4, 2))[list(workers)]
        self.centers = self.points.mean(axis=1)
        self.n, self.m, self.d = self.points.shape
        self.optimum = self.centers.mean(axis=0)
        self.optimal_value = self.value(self.optimum)
        self.zeta2 = ((self.centers - self.optimum) ** 2).sum() / self.n
        self.smoothness = self.strong_convexity = 1.0
        self.local_smoothness = np.ones(self.n)
        self.mean_smoothness = self.mean_strong_convexity = 1.0
        self.eigenbasis = np.eye(self.d)
        self.examples = np.full(self.n, self.m)
        self.worker_names = tuple("abcdefghij"[: self.n])

    def gradient(self, x, out=None):
        return x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2))

    def value(self, x):
        return 0.5 * ((x - self.points) ** 2).sum() / (self.n * self.m)

    def suboptimality(self, x):
        return 0.5 * ((x - self.optimum[:, None]) ** 2).sum(axis=0)

    def mean_gradient(self, x):
        return x - self.optimum[:, None]

    def suboptimality_and_gradient(self, x):
        return self.suboptimality(x), self.mean_gradient(x)

    def hessian_product(self, x):
        return x.copy()

    def proximal(self, x, rate, gradient=None):
        return x - rate / (1 + rate) * (self.gradient(x) if gradient is None else gradient)

    def gradient_of(self, workers, x):
        return x - self.centers[workers]

    def sampled_gradient(self, x, index, out=None):
        workers = np.arange(self.n).reshape(-1, *(1,) * (index.ndim - 1))
        drawn = self.points[workers, index].mean(axis=1)
        drawn = drawn if index.ndim == 2 else drawn.transpose(0, 2, 1)
        return x - drawn.reshape(drawn.shape + (1,) * (x.ndim - drawn.ndim))

    def example_variance(self, x):
        return ((self.points - self.centers[:, None]) ** 2).sum(axis=2).mean(axis=1)

    def curvature_at(self, x):
        return self

    def test_accuracy(self, x):
        return np.where(np.isfinite(x).all(axis=0), (x > 0).mean(axis=0), np.nan)

    def margin(self, x):
        return x.min(axis=0) / np.linalg.norm(x, axis=0)

    def among(self, workers):
        return Whole(workers)

    def to_config(self):
        return {"type": "Whole"}


def failures(problem, **options):
    table = rs.problems.check(problem, **options)
    return set(table.claim[~table.holds.fillna(True)])


def test_a_problem_with_everything_holds():
    table = rs.problems.check(Whole())
    assert table.claim[table.holds.isna()].tolist() == ["regularizer"]  # f is smooth
    assert table.holds.fillna(True).all(), f"\n{table}"


def writes(self, x, out=None):
    centers = self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2))
    x -= centers
    return x


def forgets_the_axis(self, x, out=None):
    return x - self.centers


def remembers(self, x, out=None):
    self.calls = getattr(self, "calls", 0) + 1
    return x - self.calls


def mixes_workers(self, x, out=None):
    return x - x.mean(axis=0)


def first_example(self, x, index, out=None):
    return Whole.sampled_gradient(self, x, index[:, :1], out)


def same_draw(self, x, index, out=None):
    return Whole.sampled_gradient(self, x, index if index.ndim == 2 else index[..., 0], out)


def broken(self, *arguments):
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("name", "wrong", "claim"),
    [
        ("gradient", writes, "gradient: reads x and does not write to it"),
        ("gradient", forgets_the_axis, "gradient: replicas (n, d, r) are as alone"),
        ("gradient", remembers, "gradient: the same when asked again"),
        ("gradient", mixes_workers, "gradient: row i depends on row i of x alone"),
        ("gradient", lambda self, x, out=None: 1j * x, "gradient: real, finite, of the shape of x"),
        ("gradient", lambda self, x, out=None: x[0], "gradient: real, finite, of the shape of x"),
        (
            "gradient",
            lambda self, x, out=None: np.nan * x,
            "gradient: real, finite, of the shape of x",
        ),
        (
            "gradient",
            lambda self, x, out=None: x if out is None else out,
            "gradient: out= holds the same",
        ),
        ("value", lambda self, x: 2 * Whole.value(self, x), "gradient: the slope of value"),
        ("value", lambda self, x: x, "value: a number"),
        ("value", lambda self, x: np.nan, "value: a number"),
        ("optimum", np.ones(2), "optimum: (d,), where ∇f is near zero"),
        ("optimum", np.ones(3), "optimum: (d,), where ∇f is near zero"),
        ("optimal_value", 0.3, "optimal_value: value(optimum)"),
        (
            "suboptimality",
            lambda self, x: 2 * Whole.suboptimality(self, x),
            "suboptimality: the difference of values",
        ),
        ("suboptimality", lambda self, x: x, "suboptimality: the difference of values"),
        ("mean_gradient", lambda self, x: x, "mean_gradient: the mean of the workers' gradients"),
        (
            "suboptimality_and_gradient",
            lambda self, x: (self.suboptimality(x), 1.01 * self.mean_gradient(x)),
            "suboptimality_and_gradient: f(x) − f(x*) and the mean gradient",
        ),
        (
            "suboptimality_and_gradient",
            lambda self, x: self.mean_gradient(x),
            "suboptimality_and_gradient: f(x) − f(x*) and the mean gradient",
        ),
        ("zeta2", 0.5, "zeta2: (1/n) Σ_i ‖∇f_i(x*)‖²"),
        ("smoothness", 0.9, "smoothness: no f_i curves more"),
        ("strong_convexity", 1.1, "strong_convexity: no f_i curves less"),
        (
            "local_smoothness",
            np.linspace(0.9, 2, 5),
            "local_smoothness: no f_i curves more than its own",
        ),
        (
            "local_smoothness",
            np.array([1.0, 1.0, 0.0, 1.0, 1.0]),
            "local_smoothness: no f_i curves more than its own",
        ),
        ("mean_smoothness", 0.9, "mean_smoothness: f does not curve more"),
        ("mean_strong_convexity", 1.1, "mean_strong_convexity: f does not curve less"),
        ("hessian_product", Whole.gradient, "hessian_product: differences of gradients"),
        (
            "eigenbasis",
            np.ones((2, 2)),
            "eigenbasis: orthonormal eigenvectors of every Hessian",
        ),
        ("among", lambda self, workers: Whole(workers[::-1]), "among: their gradients"),
        ("gradient_of", lambda self, workers, x: x, "gradient_of: rows of gradient"),
        (
            "examples",
            np.full(5, 4.0),
            "examples: (n,) whole numbers",
        ),
        (
            "sampled_gradient",
            lambda self, x, index, out=None: 2 * Whole.sampled_gradient(self, x, index),
            "sampled_gradient: its mean over all examples is the gradient",
        ),
        (
            "sampled_gradient",
            first_example,
            "sampled_gradient: a batch has the mean of its examples",
        ),
        ("sampled_gradient", same_draw, "sampled_gradient: replicas are as alone"),
        (
            "example_variance",
            lambda self, x: np.ones(5),
            "example_variance: that of the examples' gradients",
        ),
        ("curvature_at", broken, "curvature_at: has smoothness and strong_convexity"),
        (
            "test_accuracy",
            lambda self, x: (x > 0).mean(axis=0),
            "test_accuracy: shares, none where x is NaN",
        ),
        (
            "margin",
            lambda self, x: x.min(axis=0),
            "margin: whatever the length of x, none where x is NaN",
        ),
        ("worker_names", ("Oslo", "Rome"), "worker_names: texts, one for each worker"),
        ("to_config", lambda self: [1], "to_config: plain data with a type"),
    ],
)
def test_each_wrong_member_is_found(name, wrong, claim):
    class Mutant(Whole):
        pass

    problem = Whole()
    problem.__class__ = Mutant
    if callable(wrong):
        setattr(Mutant, name, wrong)
    else:
        setattr(problem, name, wrong)
    assert claim in failures(problem)


def test_a_wrong_member_fails_its_own_claims_only():
    problem = Whole()
    problem.zeta2 = 5.0
    assert failures(problem) == {"zeta2: (1/n) Σ_i ‖∇f_i(x*)‖²"}
    problem = Whole()
    problem.examples = np.full(5, 2000)
    table = rs.problems.check(problem).set_index("claim")
    assert "2000 examples, and 1000 are gone through" in table.note.iloc[-7]


def test_a_problem_may_be_tried_where_it_is_defined():
    class Logarithm:
        n, d = 6, 2

        def gradient(self, x):
            if not (x > 0).all():
                raise ValueError("x must be positive")
            return 1 - 1 / x

        def value(self, x):
            return float((x - np.log(x)).sum())

    assert "gradient: the slope of value" in failures(Logarithm())
    assert not failures(Logarithm(), x0=[3.0, 3.0], spread=0.1)
    for wrong in ({"x0": [1.0]}, {"x0": [np.nan, 1]}, {"spread": -1}):
        with pytest.raises(ValueError, match=r"x0|spread"):
            rs.problems.check(Logarithm(), **wrong)


@pytest.mark.parametrize("left_out", REQUIRED)
def test_what_is_no_problem(left_out):
    members = {name: getattr(Whole(), name) for name in REQUIRED if name != left_out}
    table = rs.problems.check(type("Part", (), members)())
    assert table.holds.tolist() == [False]
    assert f"'{left_out}' is missing" in table.note[0]


def test_the_table_is_a_frame_that_reads_well():
    problem = RIGHT["diagonal"]
    table = rs.problems.check(problem)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["claim", "holds", "measured", "limit", "note"]
    text = repr(table)
    assert text.splitlines()[-1] == f"{table.holds.sum()} hold, 0 fail, 9 are not there"
    assert "–      examples" in text
    assert "without it: `relaysim.oracles.Minibatch` has nothing to draw from" in text
    assert "claim" in repr(table[["claim", "holds"]]), "a part of it is shown as any frame"
    wrong = Whole()
    wrong.smoothness = 0.5
    assert "FAILS  smoothness: no f_i curves more" in repr(rs.problems.check(wrong))


# -- the protocol ----------------------------------------------------------------------------------


def test_the_protocol_names_what_is_used():
    """Every member that the package looks for in a problem, and the guide, have a line of it."""
    guide = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    for name, offer in OPTIONAL.items():
        assert offer.adds
        assert offer.without
        assert f"`{name}`" in guide
        assert f"{name}: {offer.adds}; without it: {offer.without}." in rs.problems.Problem.__doc__
    looked_for = re.compile(r"(?:has|get)attr\((?:\w+\.)*problem, \"(\w+)\"")
    files = (ROOT / "relaysim").rglob("*.py")
    found = {name for path in files for name in looked_for.findall(path.read_text("utf-8"))}
    assert {"optimum", "hessian_product", "sampled_gradient"} <= found
    assert found <= {*OPTIONAL, *REQUIRED, "__dict__", "test"}


def test_a_class_derived_from_the_protocol_has_what_it_defines():
    class Derived(rs.problems.Problem):
        n, d = 4, 2

        def __init__(self):
            self.optimum = np.zeros(2)

        def gradient(self, x):
            return x

        def value(self, x):
            return 0.5 * x @ x

    problem = Derived()
    assert [name for name in OPTIONAL if hasattr(problem, name)] == ["optimum"]
    with pytest.raises(AttributeError, match="has no `hessian_product`: theory takes it from"):
        _ = problem.hessian_product
    assert rs.problems.check(problem).holds.all()
    run = {"learning_rate": 0.5, "steps": 50}
    for method in (rs.algorithms.D2(), rs.algorithms.A2CiD2()):
        history = rs.simulate(problem, rs.topologies.ring(4), method, x0=np.ones(2), **run)
        assert history.frame.distance.iloc[-1] < 1e-6


def test_a_gradient_may_stand_in_memory_that_is_used_again():
    class Reused(Whole):
        def gradient(self, x, out=None):
            held = self.__dict__.setdefault("held", {})
            found = held.setdefault(x.shape, np.empty(x.shape))
            found[:] = Whole.gradient(self, x)
            return found

    table = rs.problems.check(Reused())
    assert table.holds.fillna(True).all(), table[table.holds == False]  # noqa: E712
