"""Linear classification of examples that are split over workers: logistic, softmax, exponential loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from relaysim.problems.classifier import LinearClassifier
from relaysim.problems.curvature import (
    Curvature,
    curvature_at,
    hessian,
    largest_grams,
    mean_hessian,
)
from relaysim.problems.data import Dataset
from relaysim.problems.examples import ExampleNumbers, points_of_workers
from relaysim.problems.labelled import classes_of, pooled_examples
from relaysim.problems.losses import BinaryLoss, ExponentialLoss
from relaysim.problems.matrices import Matrix, with_ones
from relaysim.problems.newton import newton
from relaysim.problems.partitions import Partition
from relaysim.problems.penalised_loss import PenalisedLoss
from relaysim.problems.separability import has_optimum_near, separates
from relaysim.support.checks import real_array, real_number, true_or_false
from relaysim.support.display import LATER, between, html_table
from relaysim.support.names import names_of_workers

__all__ = ["Logistic", "NoOptimumError", "NoSmoothnessError"]

WEIGHTINGS = ("workers", "examples")
LOSSES: dict[str, type[BinaryLoss | ExponentialLoss]] = {
    "logistic": BinaryLoss,
    "exponential": ExponentialLoss,
}
# How many classes a table names.
MOST_CLASSES = 5


class NoOptimumError(ValueError, AttributeError):
    """f has no minimiser. As an AttributeError it makes ``hasattr(problem, "optimum")`` False."""


class NoSmoothnessError(ValueError, AttributeError):
    """No number bounds the Hessians of f at all points; ``hasattr(problem, "smoothness")`` is False."""


class Logistic(LinearClassifier):
    """f_i(x) = (1/m_i) Σ_j log(1 + exp(−y_j a_j·x)) + (l2/2)‖x‖² over the m_i examples of worker i.

    With more than two classes, f_i(x) = (1/m_i) Σ_j (log Σ_c exp(a_j·x_c) − a_j·x_{y_j}) + (l2/2)‖x‖²
    with a column x_c for each class; x is then the matrix ``(p, classes)`` row by row, so that
    d = p · classes. `coefficients` takes x apart. With ``loss="exponential"`` (two classes)
    f_i(x) = (1/m_i) Σ_j exp(−y_j a_j·x) + (l2/2)‖x‖².

    Args:
        features: ``(n, m, p)``, m examples for each worker; or a sequence of n matrices ``(m_i, p)``,
            arrays or scipy.sparse (all workers' are sparse if one's are); or one matrix ``(N, p)``
            and a partition of its rows. The arrays are kept as given beside the workers' copies (a
            history's config refers to them) and must not be changed.
        labels: the class of each example, in the layout of the features: numbers, strings or bools.
            Of two classes the second in `classes` is y = +1: the larger label by default.
        l2: λ ≥ 0.
        partition: for one matrix: a `relaysim.problems.partitions.Partition`, a sequence of n index
            lists, or ``(N,)`` whole numbers (an array or a list) that say who holds which example.
        intercept: add a last feature that is 1, and whose coefficients are not in the l2 term.
        weighting: ``"workers"``: f is the mean of the workers' means; ``"examples"``: the loss of
            worker i, and not its l2 term, is weighted by n m_i / N, so that f is the mean over all
            examples: f_i(x) = (n m_i / N) (1/m_i) Σ_j (…) + (l2/2)‖x‖².
        classes: all classes in order, each of which must be there; by default those of the labels,
            sorted.
        loss: ``"logistic"`` or ``"exponential"``. The second derivative of the latter grows with the
            loss: it has no `smoothness`, and a rate that is too high overflows.
        test: features ``(k, p)`` and labels ``(k,)`` of a test set, or a `relaysim.problems.data.Dataset`:
            runs can then measure ``"accuracy"``.
        worker_names: what the workers are called in tables and pictures; as the partition says by default.

    Attributes:
        n, d: workers, parameters.
        l2, classes, examples ``(n,)``: λ, the classes, and how many examples each worker has.
        test: features and labels of the test set, or None.

    Raises:
        ValueError: labels that are no classes, a class without examples, entries that are not finite,
            lengths that differ, or a worker without examples.
        TypeError: what is no array of numbers, such as a Dataset (give its features and labels).

    ``l2=0`` on data that a hyperplane separates has no optimum: `optimum`, `zeta2` and
    `optimal_value` then raise `NoOptimumError`, and runs record ``value`` f(x̄), ``gradient_norm`` and
    ``margin``.

    Suboptimality sums ℓ(z* + δ) − ℓ(z*) − ℓ'(z*)δ ≥ 0 over examples (z = a·x, δ = a·(x − x*)) from a
    series for small δ, so that it keeps 12 digits, typically, however small it is. What limits it is
    x*, known to about 1e-16 ‖x*‖ times the condition number of the Hessian: simulated curves level
    off near the square of that times L, around 1e-30 on the bundled data with l2 = 0.01.

    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> features = generator.normal(size=(4, 10, 3))
    >>> labels = features[..., 0] + generator.normal(size=(4, 10)) > 0
    >>> problem = Logistic(features, labels, l2=0.1)
    >>> problem
    Logistic(n=4, d=3, examples=40, classes=2, l2=0.1)
    >>> bool(np.linalg.norm(problem.mean_gradient(problem.optimum)) < 1e-14)
    True
    """

    def __init__(
        self,
        features: ArrayLike | Matrix | Sequence[Matrix],
        labels: ArrayLike | Sequence[ArrayLike] | None = None,
        l2: float | None = None,
        *,
        partition: Partition | Iterable[Any] | None = None,
        intercept: bool = False,
        weighting: str = "workers",
        classes: ArrayLike | None = None,
        loss: str = "logistic",
        test: Dataset | tuple[Any, Any] | None = None,
        worker_names: Iterable[Any] | None = None,
    ):
        matrix, known, held = pooled_examples(features, labels, partition)
        self.l2 = real_number(l2, "l2", 0)
        self.intercept = true_or_false(intercept, "intercept")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be 'workers' or 'examples', not {weighting!r}")
        self.weighting = weighting
        self.classes, codes = classes_of(known, classes)
        if loss not in LOSSES:
            raise ValueError(f"loss must be 'logistic' or 'exponential', not {loss!r}")
        if loss == "exponential" and len(self.classes) > 2:
            raise ValueError(
                f"the exponential loss takes two classes and there are {len(self.classes)}; "
                f"use loss='logistic'"
            )
        self.loss = loss
        self._features, self._labels, self._partition = matrix, known, held
        self.examples = held.sizes
        self._numbers = ExampleNumbers(self.examples)
        self.n = len(self.examples)
        named = held.worker_names if worker_names is None else worker_names
        self.worker_names = names_of_workers(named, self.n)
        weights = np.full(self.n, self.n / len(known))
        if weighting == "workers":
            weights = 1 / self.examples
        penalty = np.full(matrix.shape[1] + self.intercept, self.l2)
        if intercept:
            matrix = with_ones(matrix)
            penalty[-1] = 0
        self._loss = PenalisedLoss(
            matrix, codes, len(self.classes), held, weights, penalty, LOSSES[loss]
        )
        self.d = self._loss.d
        self.test = self._checked_test_set(test)

    # -- values and gradients ----------------------------------------------------------------------

    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x; ``(n, d[, r])`` to the same shape (written into ``out`` if given)."""
        return self._loss.gradient(*self._checked_iterates(x, out))

    @property
    def gradient_of(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """∇f_i at row k of x for i = ``workers[k]``: of ``(k,)`` and ``(k, d)`` to ``(k, d)``.

        Raises:
            AttributeError: the features are sparse, of which all workers' take no longer; when called,
                shapes that do not fit, or a worker that there is not.
        """
        if not self._loss.is_dense:
            raise AttributeError(
                "sparse examples of some workers are not looked up; ask for gradient"
            )
        return self._gradient_of

    def _gradient_of(self, workers: np.ndarray, x: np.ndarray) -> np.ndarray:
        workers, x = np.asarray(workers), np.asarray(x)
        if x.shape != (*workers.shape, self.d):
            raise ValueError(
                f"x must have a row of {self.d} for each of {workers.shape} workers, not be {x.shape}"
            )
        return self._loss.gradient_of(workers, x)

    def sampled_gradient(
        self, x: np.ndarray, index: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The gradients of f_i estimated from some of the examples: their mean, and the l2 term.

        The mean is weighted as f_i is, with n m_i / N where ``weighting="examples"``.

        Args:
            x: ``(n, d)`` or ``(n, d, r)``.
            index: the examples drawn by each worker, numbers from 0 to m_i − 1: ``(n, size)``, or
                ``(n, size, r)`` where replicas draw their own.
            out: written into if given.

        Raises:
            IndexError: a number that is none of a worker's examples.
        """
        x, out = self._checked_iterates(x, out)
        return self._loss.sampled_gradient(x, self._numbers.checked(index, x), out)

    def value(self, x: np.ndarray) -> float | np.ndarray:
        """f(x) for x ``(d,)`` or ``(d, r)``: a number, or one for each replica ``(r,)``."""
        x = self._checked_points(x)
        total = self._loss.value(x.reshape(self.d, -1))
        return total[0] if x.ndim == 1 else total

    def mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f(x) for x ``(d,)`` or ``(d, r)``, in the same shape."""
        x = self._checked_points(x)
        return self._loss.mean_gradient(x.reshape(self.d, -1)).reshape(x.shape)

    def suboptimality(self, x: np.ndarray) -> float | np.ndarray:
        """f(x) − f(x*) without cancellation, a sum of non-negative terms; shapes as for `value`."""
        x = self._checked_points(x)
        change = x.reshape(self.d, -1) - self.optimum[:, None]
        total = self._loss.divergence(change, self._optimal_products)
        return total[0] if x.ndim == 1 else total

    def suboptimality_and_gradient(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f(x) − f(x*) ``(r,)`` and ∇f(x) ``(d, r)`` for x ``(d, r)``, from one look at the examples."""
        points = self._checked_points(x).reshape(self.d, -1)
        return self._loss.divergence_and_gradient(points, self.optimum, self._optimal_products)

    @functools.cached_property
    def _optimal_products(self) -> list[np.ndarray]:
        return self._loss.products_at(self.optimum)

    def _checked_iterates(
        self, x: np.ndarray, out: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both contiguous, as the loss needs them."""
        x = real_array(x, "x")
        self._check_iterates(x)
        if out is None or not out.flags.c_contiguous:
            out = np.empty(x.shape)
        return x if x.flags.c_contiguous else np.ascontiguousarray(x), out

    # -- the optimum ---------------------------------------------------------------------------------

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """x*, the minimiser of f, ``(d,)``, by Newton's method to ‖∇f(x*)‖ ≤ 1e-12 ‖∇f(0)‖ or less.

        Or, where the examples' terms of ∇f(0) cancel already, to 1e-14 of the sum of their norms.

        Raises:
            NoOptimumError: l2 = 0 and the classes can be separated.
        """
        if self._minimiser is None:
            raise NoOptimumError(
                f"{self!r} has no optimum: a hyperplane separates classes and nothing holds x back; "
                f"use l2 > 0, or run without it, which records value and gradient_norm"
            )
        return self._minimiser

    @functools.cached_property
    def optimal_value(self) -> float:
        """f(x*)."""
        return float(self.value(self.optimum))

    @functools.cached_property
    def _minimiser(self) -> np.ndarray | None:
        """x*, or None where there is none."""
        is_open = self.l2 == 0
        found = newton(self._loss, lambda x: is_open and separates(self._loss, x))
        if is_open and not has_optimum_near(self._loss, found.x, found.converged):
            return None
        if not found.converged:
            raise RuntimeError(
                f"Newton's method stopped at a gradient of {found.reduction:.1e} of the first: the "
                f"problem is too badly scaled; standardise the features or give a larger l2"
            )
        found.x.setflags(write=False)
        return found.x

    # -- curvature -----------------------------------------------------------------------------------

    def mean_hessian(self, x: np.ndarray) -> np.ndarray:
        """∇²f(x) at x ``(d,)``, ``(d, d)``."""
        return mean_hessian(self._loss, x)

    def hessian(self, worker: int, x: np.ndarray) -> np.ndarray:
        """∇²f_i(x) of one worker at x ``(d,)``, ``(d, d)``."""
        return hessian(self._loss, worker, x)

    @functools.cached_property
    def _smoothness(self) -> tuple[np.ndarray, float]:
        if self.loss == "exponential":
            raise NoSmoothnessError(
                "the exponential loss has no smoothness: its curvature grows with the loss; "
                "curvature_at(x) has that at a point"
            )
        each, mean = largest_grams(self._loss)
        most = self._loss.parts[0][1].largest_curvature
        return most * each + self.l2, most * mean + self.l2

    @property
    def local_smoothness(self) -> np.ndarray:
        """L_i: no Hessian of f_i at any x has a larger eigenvalue, ``(n,)``; see `smoothness`."""
        return self._smoothness[0]

    @property
    def smoothness(self) -> float:
        """L: no Hessian of any f_i at any x has a larger eigenvalue.

        The curvature of the loss in its scores is at most ¼ (two classes) or ½ (more), so that
        L = ¼ max_i w_i λ_max((1/m_i) Σ_j a_j a_jᵀ) + l2, or ½ in the place of ¼, with w_i = 1, or
        n m_i / N where ``weighting="examples"``.

        Raises:
            NoSmoothnessError: the exponential loss, as `local_smoothness` and `mean_smoothness` do.
        """
        return float(self.local_smoothness.max())

    @property
    def strong_convexity(self) -> float:
        """μ: no Hessian of any f_i at any x has a smaller eigenvalue: l2, or 0 with an intercept."""
        return 0.0 if self.intercept else self.l2

    @property
    def mean_smoothness(self) -> float:
        """No Hessian of f at any x has a larger eigenvalue."""
        return self._smoothness[1]

    @property
    def mean_strong_convexity(self) -> float:
        """No Hessian of f at any x has a smaller eigenvalue: l2, or 0 with an intercept."""
        return self.strong_convexity

    def curvature_at(self, x: np.ndarray) -> Curvature:
        """The extreme Hessian eigenvalues at a point ``(d,)``, such as the optimum.

        They say how fast methods are once they are close, where `smoothness` and `strong_convexity`
        bound all points.

        >>> problem = Logistic([[[1.0], [2.0]]], [[0, 1]], l2=0.5)
        >>> problem.curvature_at([0.0]).smoothness == (1 + 4) / 2 / 4 + 0.5 == problem.smoothness
        True
        """
        x = self._checked_points(x)
        if x.ndim != 1:
            raise ValueError("give one point, of shape (d,)")
        return curvature_at(self._loss, x)

    # -- examples ------------------------------------------------------------------------------------

    def example_variance(self, x: np.ndarray) -> np.ndarray:
        """Variance of the gradient over a worker's examples, ``(n,)``, at x ``(d,)`` or ``(n, d)``.

        (1/m_i) Σ_j ‖g_j − g̅‖² with the gradients g_j of worker i's losses (times n m_i / N where
        ``weighting="examples"``).
        """
        return self._loss.example_variance(points_of_workers(x, self.n, self.d))

    def to_config(self) -> dict[str, Any]:
        """Plain data that rebuilds the problem: its arrays, and who holds which example."""
        config: dict[str, Any] = {
            "type": "Logistic",
            "features": self._features,
            "labels": self._labels,
            "l2": self.l2,
            "partition": self._partition.owners,
            "intercept": self.intercept,
            "weighting": self.weighting,
            "classes": self.classes,
        }
        # Keys of stored results are made of these: what is by default is not said.
        if self.loss != "logistic":
            config["loss"] = self.loss
        if self.worker_names is not None:
            config["worker_names"] = list(self.worker_names)
        if self.test is not None:
            config["test"] = list(self.test)
        return config

    def _repr_html_(self) -> str:
        shown = ", ".join(map(str, self.classes[:MOST_CLASSES]))
        shown += ", …" if len(self.classes) > MOST_CLASSES else ""
        rows = [
            ("workers n", self.n),
            ("parameters d", self.d),
            ("examples", f"{self.examples.sum()}, {between(self.examples)} a worker"),
            ("classes", f"{len(self.classes)}: {shown}"),
            ("features", "sparse" if issparse(self._features) else "dense"),
            ("loss", self.loss),
            ("l2", self.l2),
            ("intercept", self.intercept),
            ("weighting", self.weighting),
            ("heterogeneity ζ²", self.__dict__.get("zeta2", LATER)),
        ]
        return html_table("Logistic", rows)

    def __repr__(self) -> str:
        options = ", intercept=True" if self.intercept else ""
        if self.loss != "logistic":
            options += f", loss={self.loss!r}"
        if self.weighting != "workers":
            options += f", weighting={self.weighting!r}"
        return (
            f"Logistic(n={self.n}, d={self.d}, examples={self.examples.sum()}, "
            f"classes={len(self.classes)}, l2={self.l2:g}{options})"
        )
