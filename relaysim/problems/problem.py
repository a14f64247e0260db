"""What a problem must have, and all that it may have besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, TypeGuard

import numpy as np

__all__ = [
    "OPTIONAL",
    "REQUIRED",
    "Offer",
    "Problem",
    "WithOptimum",
    "knows_optimum",
    "unless_overridden",
]

#: What every problem has.
REQUIRED = ("n", "d", "gradient", "value")


class Offer:
    """A member that a problem may have: what it adds, and what is missing without it.

    >>> Problem.optimal_value.without
    'value(optimum) is computed instead'
    """

    def __init__(self, adds: str, without: str):
        self.adds, self.without = adds, without
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, problem: Any, owner: type | None = None) -> Offer:
        if problem is None:
            return self
        # A class derived from Problem has of these only what it defines itself.
        raise AttributeError(f"{type(problem).__name__} has no `{self.name}`: {self.without}")


class Problem(Protocol):
    """f(x) = (1/n) Σ_i f_i(x): any object with ``n``, ``d``, ``gradient`` and ``value``.

    It need not be derived from this class, and inherits nothing from it. What it has of the following
    is used where it helps; `relaysim.problems.check` tells whether it is right. Points and iterates that a
    problem is given cannot be written into.
    """

    if TYPE_CHECKING:

        @property
        def n(self) -> int:
            """Workers."""

        @property
        def d(self) -> int:
            """Parameters."""

    else:
        n: int
        d: int

        optimum = Offer(
            "x*, ``(d,)``: columns suboptimality and distance, `tune`, stop_below, theorems",
            "histories have the column value instead, and rates are not tuned",
        )
        optimal_value = Offer("f(x*)", "value(optimum) is computed instead")
        suboptimality = Offer(
            "``(d, k)`` to ``(k,)``: f(x) − f(x*) without cancellation, followed down to 1e-30",
            "it is value(x) − optimal_value, which has no digits below 1e-16 |f|",
        )
        mean_gradient = Offer(
            "``(d, k)`` to ``(d, k)``: ∇f in one go", "a record costs the gradients of n workers"
        )
        suboptimality_and_gradient = Offer(
            "``(d, k)`` to ``(k,)`` and ``(d, k)``: f(x) − f(x*) and ∇f(x), where one look tells both",
            "each is asked for by itself",
        )
        regularizer = Offer(
            "r, a term without gradient that all workers add to their f_i, an object with value(x), "
            "proximal(x, rate) and shortest(gradient, x) as `relaysim.problems.L1` has: methods with a "
            "proximal step, and the measure subgradient_norm; value and optimum are then those of f + r",
            "the objective is f alone",
        )
        zeta2 = Offer(
            "ζ² = (1/n) Σ_i ‖∇f_i(x*)‖²", "theorems take it from the gradients at the optimum"
        )
        smoothness = Offer(
            "L, the largest Hessian eigenvalue of any f_i: where `tune` looks; theorems",
            "`tune` takes L = 1, and no theorem applies",
        )
        local_smoothness = Offer(
            "L_i, ``(n,)``, the largest Hessian eigenvalue of each f_i: `relaysim.algorithms.LocalRates`",
            "`LocalRates` is refused",
        )
        strong_convexity = Offer(
            "μ, the smallest Hessian eigenvalue of any f_i: theorems that need one",
            "these theorems do not apply",
        )
        mean_smoothness = Offer(
            "largest Hessian eigenvalue of f itself: sharper theorems", "L stands for it"
        )
        mean_strong_convexity = Offer(
            "smallest Hessian eigenvalue of f itself: how long `tune` may take, `relaysim.algorithms.Mudag`",
            "`tune` takes L/100, and theorems and `Mudag` take μ",
        )
        hessian_product = Offer(
            "of quadratics, ``(n, d[, r])`` to the same: H_i x_i, exact theory to the last digits",
            "theory takes it from differences of gradients, at the cost of some digits",
        )
        eigenbasis = Offer(
            "of quadratics, ``(d, d)``: orthonormal columns that are eigenvectors of every H_i, or None if "
            "there are none: exact theory parameter by parameter, and mode by mode of W where all H_i are "
            "the same",
            "theory takes all parameters together",
        )
        proximal = Offer(
            "of quadratics, ``(n, d[, r])``, rates and the gradients there (or None) to the same: argmin_u "
            "f_i(u) + ‖u − x_i‖²/(2 rate_i), affine in x and the gradients: `relaysim.algorithms.ADMM`",
            "`ADMM` is refused",
        )
        gradient_of = Offer(
            "``(k,)`` workers and their points ``(k, d)`` to ``(k, d)``: fast asynchronous methods",
            "they ask for the gradients of all workers to use a few",
        )
        among = Offer(
            "``(k,)`` workers to the problem of these alone: columns of runs with "
            "`relaysim.faults.Byzantine` workers, which are of the others",
            "such runs are refused",
        )
        examples = Offer(
            "``(n,)`` whole numbers, how many each worker has: minibatches, and the weights of "
            "`relaysim.algorithms.FedAvg`",
            "`relaysim.oracles.Minibatch` has nothing to draw from, and all workers weigh alike",
        )
        sampled_gradient = Offer(
            "``(n, d[, r])`` and ``(n, size[, r])`` numbers of examples to the mean of their gradients, "
            "out= as for gradient: minibatches",
            "`relaysim.oracles.Minibatch` has nothing to ask; Gaussian noise serves any problem",
        )
        example_variance = Offer(
            "at ``(d,)`` or ``(n, d)``, the variance of a worker's gradient over its examples, ``(n,)``",
            "`Minibatch.sigma2_at` cannot tell σ²",
        )
        curvature_at = Offer(
            "at ``(d,)``, the extreme Hessian eigenvalues there: better first rates for "
            "`relaysim.analysis.heterogeneity_sensitivity`",
            "smoothness and strong_convexity serve",
        )
        test_accuracy = Offer(
            "``(d, k)`` to ``(k,)``: the share of test data that x is right about, NaN where x is: the "
            "measure accuracy",
            "there is no such column",
        )
        margin = Offer(
            "``(d, k)`` to ``(k,)``: how far x separates classes, whatever its length, NaN where x is: the "
            "measure margin, a column of histories where there is no optimum",
            "there is no such column",
        )
        worker_names = Offer(
            "texts, one for each worker: what they are called in tables and pictures, those of the topology "
            "in the same order",
            "workers have the names of the topology, or their numbers",
        )
        to_config = Offer(
            "plain data with a type that relaysim knows: saved histories rebuild the problem",
            "they hold the object's arrays, and need problem= to run again",
        )

    def gradient(self, x: np.ndarray, /) -> np.ndarray:
        """∇f_i at row i of x, ``(n, d)``; with replicas also ``(n, d, r)`` to the same shape.

        One that takes ``out=`` may write into this memory, which is lent to it, and return it.
        """

    def value(self, x: np.ndarray, /) -> SupportsFloat:
        """f at ``(d,)``, a number."""


#: All that a problem may have besides, by name.
OPTIONAL: dict[str, Offer] = {
    name: member for name, member in vars(Problem).items() if isinstance(member, Offer)
}

Problem.__doc__ = f"{Problem.__doc__}\n    Attributes:\n" + "".join(
    f"        {offer.name}: {offer.adds}; without it: {offer.without}.\n"
    for offer in OPTIONAL.values()
)


class WithOptimum(Problem, Protocol):
    """A problem whose minimiser is known."""

    @property
    def optimum(self) -> np.ndarray:
        """x*, ``(d,)``."""


def knows_optimum(problem: Problem) -> TypeGuard[WithOptimum]:
    """Whether a problem says where its minimum lies."""
    return getattr(problem, "optimum", None) is not None


def unless_overridden(problem: Problem, name: str, *others: str) -> Any | None:
    """A member that says what others say, unless one of these was overridden later and may differ.

    None too where there is none.
    """
    of_class = map(vars, type(problem).__mro__)
    for namespace in (vars(problem) if hasattr(problem, "__dict__") else {}, *of_class):
        if name in namespace:
            return getattr(problem, name, None)
        if not namespace.keys().isdisjoint(others):
            return None
    return None
