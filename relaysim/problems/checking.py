"""The whole contract of a problem, gone through on a user's own: `check`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.problems.acceptance import require_config, require_number, stationarity
from relaysim.problems.example_claims import ExampleClaims
from relaysim.problems.problem import OPTIONAL, REQUIRED
from relaysim.problems.regularizer_claims import regularizer_claims
from relaysim.problems.workers import local_smoothness
from relaysim.support.callbacks import answer, ask
from relaysim.support.checks import real_array, real_number, whole_number
from relaysim.support.findings import Finding, Findings, FindingsTable, relative_difference
from relaysim.support.names import names_of_workers

__all__ = ["check"]

# What two ways to compute the same may differ by: in the order of sums, as two formulas, and as a
# difference of values or gradients.
ROUNDING, FORMULA, DIFFERENCE = 1e-12, 1e-8, 1e-5
# How far apart values are taken, of which the best serves: rounding spoils small ones, curvature large ones.
STEPS = 10.0 ** -np.arange(1, 7)
REPLICAS = 3


def check(problem: Any, x0: np.ndarray | None = None, *, spread: float = 1.0) -> FindingsTable:
    """Go through all that relaysim asks of a problem, and tell what holds.

    Args:
        problem: a user's own, or one of `relaysim.problems`.
        x0: ``(d,)``, about where it is tried; zeros by default.
        spread: how far from there, for problems that are not defined everywhere: all points are
            x0 + spread · v with v standard normal in every coordinate.

    Returns:
        A DataFrame with a row for each claim: whether it ``holds`` (missing for what the problem does not
        offer, with what is then missing in ``note``), what was ``measured``, and its ``limit``.
        ``table.holds.all()`` is the verdict.

    Raises:
        TypeError, ValueError: an x0 or a spread that cannot be.

    >>> import relaysim as rs
    >>> table = check(rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0))
    >>> bool(table.holds.all()), table.claim[0]
    (True, 'n, d, gradient and value are there')
    """
    findings = Findings()
    whole = findings.examine(
        "n, d, gradient and value are there", lambda: _require_members(problem)
    )
    if whole:
        contract = _Contract(problem, x0, real_number(spread, "spread", 0))
        for claim, examination in contract.required():
            findings.examine(claim, examination)
        offered = contract.offered()
        for name, offer in OPTIONAL.items():
            if getattr(problem, name, None) is None:
                findings.absent(name, f"without it: {offer.without}")
                continue
            for claim, examination in offered[name]:
                findings.examine(f"{name}: {claim}", examination)
    return findings.table()


def _require_members(problem: Any) -> None:
    for name in REQUIRED:
        if not hasattr(problem, name):
            raise TypeError(f"{name!r} is missing; a problem has n, d, gradient(x) and value(x)")
    whole_number(problem.n, "n", 1)
    whole_number(problem.d, "d", 1)


Claim = tuple[str, Callable[[], Finding | bool | None]]


class _Contract(ExampleClaims):
    """The claims about one problem, and the points at which they are tried."""

    def __init__(self, problem: Any, x0: Any, spread: float):
        self.problem = problem
        self.n, self.d = n, d = int(problem.n), int(problem.d)
        self.start = np.zeros(d) if x0 is None else real_array(x0, "x0", shape=(d,), finite=True)
        generator = np.random.default_rng(0)
        self.x = self.start + spread * generator.normal(size=(n, d))
        self.others = self.start + spread * generator.normal(size=(n, d))
        self.replicas = self.start[:, None] + spread * generator.normal(size=(n, d, REPLICAS))
        self.points = self.start[:, None] + spread * generator.normal(size=(d, REPLICAS))
        self.spread = spread or 1.0

    # -- what problems say, through the gate: copies, since they may use their memory again --------------

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return answer(ask(self.problem.gradient, "gradient", x), "gradient", x.shape).copy()

    def value(self, x: np.ndarray) -> float:
        return require_number(ask(self.problem.value, "value", x), "value", "at a point")

    def smooth_value(self, x: np.ndarray) -> float:
        """What gradients are of: the value without the term that has none."""
        regularizer = getattr(self.problem, "regularizer", None)
        return self.value(x) - (0.0 if regularizer is None else float(regularizer.value(x)))

    def mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f at ``(d,)``, from the workers' gradients."""
        return self.gradient(np.broadcast_to(x, (self.n, self.d))).mean(axis=0)

    def known(
        self, name: str, *arrays: np.ndarray, shape: tuple[int, ...], **options: Any
    ) -> np.ndarray:
        """What an optional member says."""
        member = getattr(self.problem, name)
        found = ask(member, name, *arrays, **options) if arrays else member
        return answer(found, name, shape).copy()

    # -- what every problem has ------------------------------------------------------------------------

    def required(self) -> list[Claim]:
        claims: list[Claim] = [
            ("gradient: real, finite, of the shape of x", self._gradient_is_finite),
            (
                "gradient: reads x and does not write to it",
                lambda: self._leaves("gradient", self.x),
            ),
            ("gradient: the same when asked again", self._same_again),
            ("gradient: row i depends on row i of x alone", self._rows_alone),
            ("gradient: replicas (n, d, r) are as alone", self._replicas_alone),
        ]
        if "out" in inspect.signature(self.problem.gradient).parameters:
            claims.append(("gradient: out= holds the same", self._out))
        claims += [
            ("value: a number", lambda: np.isfinite(self.value(self.start))),
            (
                "value: reads x and does not write to it",
                lambda: self._leaves("value", self.points[:, 0]),
            ),
            ("gradient: the slope of value", self._slope),
        ]
        return claims

    def _gradient_is_finite(self) -> None:
        real_array(self.gradient(self.x), "the problem's gradient", finite=True)

    def _leaves(self, name: str, x: np.ndarray) -> bool:
        """Whether a call leaves its input, which it could write into."""
        ask(getattr(self.problem, name), name, x)
        given = x.copy()
        getattr(self.problem, name)(given)
        return bool((given == x).all())

    def _same_again(self) -> Finding:
        first = self.gradient(self.x)
        self.gradient(self.others)
        again = self.gradient(self.x)
        return relative_difference(again, first), 0.0, "it remembers something between two calls"

    def _rows_alone(self) -> Finding:
        expected = self.gradient(self.x)
        worst = 0.0
        for worker in {0, self.n // 2, self.n - 1}:
            mixed = self.others.copy()
            mixed[worker] = self.x[worker]
            found = self.gradient(mixed)[worker]
            worst = max(worst, relative_difference(found, expected[worker], np.abs(expected).max()))
        return worst, ROUNDING, "it uses other workers' points; ∇f_i is asked for at x_i"

    def _replicas_alone(self) -> Finding:
        together = self.gradient(self.replicas)
        alone = [
            self.gradient(np.ascontiguousarray(self.replicas[..., k])) for k in range(REPLICAS)
        ]
        note = "give the problem's arrays a last axis of length 1 where x has three axes"
        return relative_difference(together, np.stack(alone, axis=-1)), 1e3 * ROUNDING, note

    def _out(self) -> Finding:
        expected = self.gradient(self.x)
        lent = np.full(self.x.shape, np.nan)
        found = self.problem.gradient(self.x, out=lent)
        return relative_difference(found, expected), ROUNDING, "what it returns is not the gradient"

    def _slope(self) -> Finding:
        worst = 0.0
        for x in self.points.T:
            gradient = self.mean_gradient(x)
            direction = np.random.default_rng(1).normal(size=self.d)
            exact = float(gradient @ direction)
            size = float(np.abs(gradient) @ np.abs(direction)) or 1.0
            errors = []
            for step in self.spread * STEPS:
                there, back = (self.smooth_value(x + s * direction) for s in (step, -step))
                rounding = 1e-15 * max(abs(there), abs(back)) / step
                slope = (there - back) / (2 * step)
                errors.append(max(abs(slope - exact) - rounding, 0) / size)
            worst = max(worst, np.min(np.nan_to_num(errors, nan=math.inf)))
        note = "value and gradient are not of one f = (1/n) Σ_i f_i; a factor, such as ½ or 1/n, differs?"
        return worst, DIFFERENCE, note

    # -- what a problem may have -------------------------------------------------------------------------

    def offered(self) -> dict[str, list[Claim]]:
        """The claims about each optional member."""
        return {
            "optimum": [("(d,), where ∇f is near zero", self._optimum)],
            "optimal_value": [("value(optimum)", self._optimal_value)],
            "suboptimality": [("the difference of values", self._suboptimality)],
            "mean_gradient": [("the mean of the workers' gradients", self._mean_gradient)],
            "suboptimality_and_gradient": [
                ("f(x) − f(x*) and the mean gradient", self._suboptimality_and_gradient)
            ],
            "regularizer": regularizer_claims(self.problem, self.others, self.points),
            "zeta2": [("(1/n) Σ_i ‖∇f_i(x*)‖²", self._zeta2)],
            "smoothness": [
                ("no f_i curves more", lambda: self._curves_at_most("smoothness", False))
            ],
            "local_smoothness": [("no f_i curves more than its own", self._local_smoothness)],
            "strong_convexity": [
                ("no f_i curves less", lambda: self._curves_at_least("strong_convexity", False))
            ],
            "mean_smoothness": [
                ("f does not curve more", lambda: self._curves_at_most("mean_smoothness", True))
            ],
            "mean_strong_convexity": [
                (
                    "f does not curve less",
                    lambda: self._curves_at_least("mean_strong_convexity", True),
                )
            ],
            "hessian_product": [
                ("differences of gradients", self._hessian_product),
                ("replicas are as alone", lambda: self._hessian_product_of_replicas()),
            ],
            "eigenbasis": [("orthonormal eigenvectors of every Hessian", self._eigenbasis)],
            "proximal": [("the gradient is (x − u)/rate at u", self._proximal)],
            "gradient_of": [("rows of gradient", self._gradient_of)],
            "among": [("their gradients", self._among)],
            "examples": [("(n,) whole numbers", self._examples)],
            "sampled_gradient": [
                ("its mean over all examples is the gradient", self._sampled_mean),
                ("a batch has the mean of its examples", self._sampled_batch),
                ("replicas are as alone", self._sampled_replicas),
            ],
            "example_variance": [("that of the examples' gradients", self._example_variance)],
            "curvature_at": [("has smoothness and strong_convexity", self._curvature_at)],
            "test_accuracy": [("shares, none where x is NaN", self._test_accuracy)],
            "margin": [("whatever the length of x, none where x is NaN", self._margin)],
            "worker_names": [("texts, one for each worker", self._worker_names)],
            "to_config": [("plain data with a type", lambda: require_config(self.problem))],
        }

    def _worker_names(self) -> bool:
        given = self.problem.worker_names
        return given is None or names_of_workers(given, int(self.problem.n)) in (None, tuple(given))

    def _optimum(self) -> Finding:
        found, allowed, _ = stationarity(self.problem, self.start)
        return found, allowed, "the mean gradient is not near zero there"

    def _optimal_value(self) -> Finding:
        found = require_number(self.problem.optimal_value, "optimal_value", "as it is")
        values = [self.value(x) for x in self.points.T]
        expected = self.value(np.asarray(self.problem.optimum))
        scale = max(map(abs, values))
        return relative_difference(found, expected, scale), FORMULA, "it is not value(optimum)"

    def _suboptimality(self) -> Finding:
        points = np.column_stack([self.points, np.asarray(self.problem.optimum)])
        found = self.known("suboptimality", points, shape=(REPLICAS + 1,))
        values = np.array([self.value(x) for x in points.T])
        scale = float(np.abs(values).max())
        if found.min() < -FORMULA * scale:
            return -float(found.min()), 0.0, "it is negative somewhere"
        return (
            relative_difference(found, values - values[-1], scale),
            FORMULA,
            "it is another function",
        )

    def _mean_gradient(self) -> Finding:
        found = self.known("mean_gradient", self.points, shape=self.points.shape)
        each = [self.gradient(np.broadcast_to(x, (self.n, self.d))) for x in self.points.T]
        expected = np.stack([gradients.mean(axis=0) for gradients in each], axis=1)
        scale = float(np.abs(each).max())
        return relative_difference(found, expected, scale), FORMULA, "it is not their mean"

    def _suboptimality_and_gradient(self) -> Finding:
        name, points = "suboptimality_and_gradient", self.points
        found = ask(getattr(self.problem, name), name, points)
        if not isinstance(found, tuple) or len(found) != 2:
            return math.inf, FORMULA, "it returns no pair"
        excess = answer(found[0], name, points.shape[1:])
        gradient = answer(found[1], name, points.shape)
        values = np.array([self.value(x) for x in points.T])
        lowest = self.value(np.asarray(self.problem.optimum))
        means = np.stack([self.mean_gradient(x) for x in points.T], axis=1)
        worst = max(
            relative_difference(excess, values - lowest, float(np.abs(values).max())),
            relative_difference(gradient, means, float(np.abs(self.gradient(self.x)).max())),
        )
        return worst, FORMULA, "they are not f(x) − f(x*) and ∇f(x)"

    def _zeta2(self) -> Finding:
        optimum = np.asarray(self.problem.optimum)
        gradients = self.gradient(np.broadcast_to(optimum, (self.n, self.d)))
        expected = float(np.vdot(gradients, gradients)) / self.n
        scale = ROUNDING * float(np.abs(self.gradient(self.x)).max()) ** 2
        found = require_number(self.problem.zeta2, "zeta2", "as it is")
        return relative_difference(found, expected, scale), FORMULA, f"there it is {expected:.6g}"

    def _pairs(self, of_mean: bool) -> tuple[np.ndarray, np.ndarray]:
        """Differences of points and of gradients there, ``(pairs, d)``, near each other and far apart."""
        steps, changes = [], []
        for share in (1.0, 1e-3):
            to = self.x + share * (self.others - self.x)
            if of_mean:
                start, end = (np.broadcast_to(each, to.shape) for each in (self.x[0], to[0]))
                steps.append((end - start)[:1])
                changes.append((self.gradient(end) - self.gradient(start)).mean(axis=0)[None])
            else:
                steps.append(to - self.x)
                changes.append(self.gradient(to) - self.gradient(self.x))
        return np.concatenate(steps), np.concatenate(changes)

    def _curves_at_most(self, name: str, of_mean: bool) -> Finding:
        steps, changes = self._pairs(of_mean)
        ratios = np.linalg.norm(changes, axis=1) / np.linalg.norm(steps, axis=1)
        limit = float(getattr(self.problem, name)) * (1 + FORMULA)
        return float(np.nanmax(ratios)), limit, "gradients change faster than this"

    def _local_smoothness(self) -> Finding:
        steps = np.linalg.norm(self.others - self.x, axis=1)
        changes = np.linalg.norm(self.gradient(self.others) - self.gradient(self.x), axis=1)
        ratios, most = changes / steps, local_smoothness(self.problem)
        # Who has no curvature may have that of rounding.
        most = np.maximum(most, np.finfo(float).eps * ratios.max())
        found = np.divide(ratios, most, out=np.zeros_like(ratios), where=ratios > 0)
        return float(np.max(found)), 1 + FORMULA, "gradients of a worker change faster than this"

    def _among(self) -> Finding:
        some = np.arange(0, self.n, 2)
        found = self.problem.among(some).gradient(self.x[some])
        return relative_difference(found, self.gradient(self.x)[some]), FORMULA, "they have others"

    def _curves_at_least(self, name: str, of_mean: bool) -> Finding:
        steps, changes = self._pairs(of_mean)
        ratios = (steps * changes).sum(axis=1) / (steps * steps).sum(axis=1)
        claimed, found = float(getattr(self.problem, name)), float(np.nanmin(ratios))
        allowed = FORMULA * max(abs(claimed), float(np.nanmax(np.abs(ratios))))
        note = f"somewhere the curvature is {found:.6g} and no more"
        return claimed, found + allowed, note

    def _hessian_product(self) -> Finding:
        found = self.known("hessian_product", self.x, shape=self.x.shape)
        expected = self.gradient(self.others + self.x) - self.gradient(self.others)
        scale = float(np.abs(self.gradient(self.others)).max()) * FORMULA
        note = "it is for quadratics: the gradients without their constant part"
        return relative_difference(found, expected, scale), FORMULA, note

    def _hessian_product_of_replicas(self) -> Finding:
        together = self.known("hessian_product", self.replicas, shape=self.replicas.shape)
        alone = [
            self.known("hessian_product", self.replicas[..., k].copy(), shape=self.x.shape)
            for k in range(REPLICAS)
        ]
        found = relative_difference(together, np.stack(alone, axis=-1))
        return found, 1e3 * ROUNDING, "give the problem's arrays a last axis of length 1"

    def _eigenbasis(self) -> Finding:
        basis = self.known("eigenbasis", shape=(self.d, self.d))
        largest = float(np.abs(basis.T @ basis - np.eye(self.d)).max())
        at_rest = self.gradient(np.zeros((self.n, self.d)))
        for column in basis.T:
            changes = self.gradient(np.broadcast_to(column, (self.n, self.d))) - at_rest
            left = changes - np.outer(changes @ column, column)
            scale = max(float(np.abs(changes).max()), FORMULA * float(np.abs(at_rest).max()))
            largest = max(largest, float(np.abs(left).max()) / (scale or 1.0))
        return largest, FORMULA, "a Hessian turns one of its columns"

    def _proximal(self) -> Finding:
        rates = np.linspace(0.5, 2.0, self.n)[:, None] / self.spread
        found = self.known("proximal", self.x, rate=rates, shape=self.x.shape)
        pull = (self.x - found) / rates
        return relative_difference(self.gradient(found), pull), FORMULA, "it is no such minimum"

    def _gradient_of(self) -> Finding:
        workers = np.array([self.n - 1, 0, self.n // 2, 0])
        points = self.others[np.arange(len(workers)) % self.n]
        found = self.known("gradient_of", workers, points, shape=points.shape)
        rows = []
        for worker, point in zip(workers, points, strict=True):
            rows.append(self.gradient(np.broadcast_to(point, self.x.shape))[worker])
        return relative_difference(found, rows), 1e3 * ROUNDING, "row k is ∇f_i with i = workers[k]"

    # -- the rest --------------------------------------------------------------------------------------

    def _curvature_at(self) -> Finding:
        found = self.problem.curvature_at(self.points[:, 0])
        return float(found.strong_convexity), float(found.smoothness), "the smallest is the larger"

    def _test_accuracy(self) -> bool | None:
        if getattr(self.problem, "test", True) is None:
            return None  # a class that can have test data, and an object that was given none
        points = self.points.copy()
        points[:, 0] = np.nan
        found = answer(self.problem.test_accuracy(points), "test_accuracy", points.shape[1:])
        alone = float(self.problem.test_accuracy(points[:, 1]))
        return bool(
            np.isnan(found[0]) and ((found[1:] >= 0) & (found[1:] <= 1)).all() and found[1] == alone
        )

    def _margin(self) -> bool:
        points = self.points.copy()
        points[:, 0] = np.nan
        found = answer(self.problem.margin(points), "margin", points.shape[1:])
        longer = answer(self.problem.margin(3 * points), "margin", points.shape[1:])
        return bool(np.isnan(found[0]) and np.allclose(found[1:], longer[1:], rtol=FORMULA, atol=0))
