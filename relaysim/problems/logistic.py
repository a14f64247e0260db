"""Logistic regression on examples that are split over workers: two classes, or softmax for more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lstsq
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, issparse, kron, vstack
from scipy.sparse.linalg import LinearOperator, cg, eigsh

from relaysim.problems.example_blocks import lay_out
from relaysim.problems.labelled import classes_of, pooled_examples
from relaysim.problems.losses import BinaryLoss, SoftmaxLoss
from relaysim.problems.matrices import matrix_of, with_ones
from relaysim.problems.partitions import Partition
from relaysim.support.blocks import row_blocks
from relaysim.support.checks import real_number, true_or_false
from relaysim.support.display import LATER, between, html_table

__all__ = ["Curvature", "Logistic", "NoOptimumError"]

# Newton's equations are solved directly up to this many parameters, by conjugate gradients beyond.
DIRECT_UP_TO = 2500
MOST_NEWTON_STEPS = 200
# A gradient counts as 0 at this fraction of the first, or at this fraction of the sum of its terms'
# norms: on balanced data the terms cancel at 0 already and rounding is all that is left.
GRADIENT_REDUCTION, GRADIENT_ROUNDING = 1e-12, 1e-14
# How many products of examples and points are made at a time.
CACHED_PRODUCTS = 1 << 17
WEIGHTINGS = ("workers", "examples")
# How many classes a table names.
MOST_CLASSES = 5


class NoOptimumError(ValueError, AttributeError):
    """f has no minimiser. As an AttributeError it makes ``hasattr(problem, "optimum")`` False."""


class Curvature(NamedTuple):
    """Extreme Hessian eigenvalues: over all f_i, and of f itself."""

    smoothness: float
    strong_convexity: float
    mean_smoothness: float
    mean_strong_convexity: float


class Logistic:
    """f_i(x) = (1/m_i) Σ_j log(1 + exp(−y_j a_j·x)) + (l2/2)‖x‖² over the m_i examples of worker i.

    With more than two classes, f_i(x) = (1/m_i) Σ_j (log Σ_c exp(a_j·x_c) − a_j·x_{y_j}) + (l2/2)‖x‖²
    with a column x_c for each class; x is then the matrix ``(p, classes)`` row by row, so that
    d = p · classes. `coefficients` takes x apart.

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

    Attributes:
        n, d: workers, parameters.
        l2, classes, examples ``(n,)``: λ, the classes, and how many examples each worker has.

    Raises:
        ValueError: labels that are no classes, a class without examples, entries that are not finite,
            lengths that differ, or a worker without examples.
        TypeError: what is no array of numbers, such as a Dataset (give its features and labels).

    ``l2=0`` on data that a hyperplane separates has no optimum: `optimum`, `zeta2` and
    `optimal_value` then raise `NoOptimumError`, and runs record ``value`` f(x̄) and ``gradient_norm``.

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
        features,
        labels=None,
        l2: float | None = None,
        *,
        partition: Partition | Sequence | np.ndarray | None = None,
        intercept: bool = False,
        weighting: str = "workers",
        classes: Sequence | None = None,
    ):
        features, labels, partition = pooled_examples(features, labels, partition)
        self.l2 = real_number(l2, "l2", 0)
        self.intercept = true_or_false(intercept, "intercept")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be 'workers' or 'examples', not {weighting!r}")
        self.weighting = weighting
        self.classes, codes = classes_of(labels, classes)
        self._given = (features, labels)
        self._partition = partition
        self.examples = partition.sizes
        self.n, total = len(self.examples), len(labels)
        if intercept:
            features = with_ones(features)
        self._features_wide = features.shape[1]
        order = np.concatenate(partition.indices)
        self._blocks = lay_out(features, order, self.examples)
        del features
        share = 1 / self.examples if weighting == "workers" else np.full(self.n, self.n / total)
        self._share = share
        by_example = np.empty(total)
        by_example[order] = np.repeat(share, self.examples)
        self._losses = []
        for block in self._blocks:
            real = block.is_real
            weights = np.where(real, by_example[block.rows], 0.0)
            block_codes = np.where(real, codes[block.rows], 0)
            self._losses.append(
                BinaryLoss(block_codes, weights)
                if len(self.classes) == 2
                else SoftmaxLoss(block_codes, weights, len(self.classes))
            )
        self._scores = self._losses[0].scores
        self.d = self._features_wide * self._scores
        penalty = np.full((self._features_wide, self._scores), self.l2)
        if intercept:
            penalty[-1] = 0
        self._penalty = penalty.ravel()

    @property
    def matrix_shape(self) -> tuple[int, int] | None:
        """x as a matrix, (p, classes) row by row, p with the intercept; None with two classes."""
        return None if self._scores == 1 else (self._features_wide, self._scores)

    # -- values and gradients ----------------------------------------------------------------------

    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x; ``(n, d[, r])`` to the same shape (written into ``out`` if given)."""
        x, out = self._checked(x, out)
        points, result = self._by_feature(x), self._by_feature(out)
        with np.errstate(over="ignore"):
            for block, loss in zip(self._blocks, self._losses, strict=True):
                block.backward(loss.slopes(block.forward(points)), result)
        return self._penalised(x, out)

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
        x, out = self._checked(x, out)
        index = self._checked_index(index, x)
        shares = (self._share * self.examples / index.shape[1])[:, None]
        own = index.ndim == 3
        shape = (self.n, self._features_wide, self._scores, -1)
        points, result = self._by_feature(x), self._by_feature(out)
        if own:
            points, result = x.reshape(shape), out.reshape(shape)
        with np.errstate(over="ignore"):
            for block, loss in zip(self._blocks, self._losses, strict=True):

                def slopes_of(z, positions, block=block, loss=loss):
                    weights = np.broadcast_to(shares[block.workers], index[block.workers].shape[:2])
                    if isinstance(positions, np.ndarray):
                        weights = np.tile(weights.ravel(), len(positions) // weights.size)
                    return type(loss).take(loss, positions, weights[..., None]).slopes(z)

                block.sample(index, points, result, slopes_of)
        return self._penalised(x, out)

    def value(self, x: np.ndarray) -> np.ndarray:
        """f(x) for x ``(d,)`` or ``(d, r)``: a number, or one for each replica ``(r,)``."""
        x = self._checked_points(x)
        points = x.reshape(self.d, -1)
        total = self._penalty @ (points * points) / 2
        for block, loss in zip(self._blocks, self._losses, strict=True):
            total = total + loss.total(self._pooled_products(block, points)) / self.n
        return total[0] if x.ndim == 1 else total

    def mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f(x) for x ``(d,)`` or ``(d, r)``, in the same shape."""
        x = self._checked_points(x)
        points = x.reshape(self.d, -1)
        result = self._penalty[:, None] * points
        with np.errstate(over="ignore"):
            for part in self._column_blocks(points):
                for block, loss in zip(self._blocks, self._losses, strict=True):
                    slopes = loss.slopes(self._pooled_products(block, points[:, part], lent=True))
                    slopes = slopes.reshape(-1, slopes.shape[-1])
                    found = (block.pooled.T @ slopes).reshape(self.d, -1)
                    result[:, part] += found / self.n
        return result.reshape(x.shape)

    def suboptimality(self, x: np.ndarray) -> np.ndarray:
        """f(x) − f(x*) without cancellation, a sum of non-negative terms; shapes as for `value`."""
        x = self._checked_points(x)
        points = x.reshape(self.d, -1) - self.optimum[:, None]
        total = self._penalty @ (points * points) / 2
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for part in self._column_blocks(points):
                for block, loss, reference in zip(
                    self._blocks, self._losses, self._optimal_products, strict=True
                ):
                    change = self._pooled_products(block, points[:, part], lent=True)
                    change = change.reshape(-1, change.shape[-1])
                    total[part] += loss.divergence(change, reference) / self.n
        return total[0] if x.ndim == 1 else total

    def _column_blocks(self, points: np.ndarray) -> list[slice]:
        """Even slices over columns, so that the products of all examples with them stay in the cache."""
        columns = points.shape[1]
        most = max(1, CACHED_PRODUCTS // (int(self.examples.sum()) * self._scores))
        length = -(-columns // -(-columns // most))
        return [slice(k, k + length) for k in range(0, columns, length)]

    @functools.cached_property
    def _optimal_products(self) -> list[np.ndarray]:
        points = self.optimum[:, None]
        products = [self._pooled_products(block, points) for block in self._blocks]
        return [z.reshape(-1, z.shape[-1]) for z in products]

    def _pooled_products(self, block, points: np.ndarray, lent: bool = False) -> np.ndarray:
        """The products of all a block's examples with points ``(d, k)``, in the shape of its rows.

        Where they are lent they stand in memory that the next call uses again: to ask the system for
        it would take longer than to fill it.
        """
        points = points.reshape(self._features_wide, -1)
        shape = (block.pooled.shape[0], points.shape[1])
        if lent and shape[0] * shape[1] <= CACHED_PRODUCTS and not issparse(block.pooled):
            out = self._lent[: shape[0] * shape[1]].reshape(shape)
            products = np.matmul(block.pooled, points, out=out)
        else:
            products = block.pooled @ points
        return products.reshape(*block.rows.shape, -1)

    @functools.cached_property
    def _lent(self) -> np.ndarray:
        return np.empty(CACHED_PRODUCTS)

    def _by_feature(self, x: np.ndarray) -> np.ndarray:
        """(n, d[, r]) as (n, features, scores · r), a view."""
        return x.reshape(self.n, self._features_wide, -1)

    def _penalised(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        penalty = self.l2
        if self.intercept:
            penalty = self._penalty if x.ndim == 2 else self._penalty[:, None]
        if self.l2:
            for rows in row_blocks(x):
                out[rows] += penalty * x[rows]
        return out

    def _checked(self, x: np.ndarray, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        x = np.asarray(x, dtype=float)
        if x.ndim not in (2, 3) or x.shape[:2] != (self.n, self.d):
            raise ValueError(
                f"x must have shape (n, d) = ({self.n}, {self.d}) or (n, d, r), not {x.shape}"
            )
        if out is None or not out.flags.c_contiguous:
            out = np.empty(x.shape)
        return x if x.flags.c_contiguous else np.ascontiguousarray(x), out

    def _checked_index(self, index, x: np.ndarray) -> np.ndarray:
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise TypeError(f"index must be of whole numbers, not of {index.dtype}")
        shapes = (2,) if x.ndim == 2 else (2, 3)
        if (
            index.ndim not in shapes
            or len(index) != self.n
            or not index.shape[1]
            or index.shape[2:] not in ((), x.shape[2:])
        ):
            raise ValueError(
                f"index must have shape (n, size), n = {self.n}, or (n, size, r) with the r of x, "
                f"not {index.shape}"
            )
        # Unsigned, negative numbers are too large as well.
        outside = index.astype(np.uint64) >= self._example_limits[index.ndim]
        if outside.any():
            worker, position = np.argwhere(outside)[0][:2]
            wrong = index[worker, position][outside[worker, position]].ravel()[0]
            raise IndexError(
                f"worker {worker} has the examples 0 to {self.examples[worker] - 1}, and no {wrong}"
            )
        return index

    @functools.cached_property
    def _example_limits(self) -> dict[int, np.ndarray]:
        limits = self.examples.astype(np.uint64)
        return {2: limits[:, None], 3: limits[:, None, None]}

    def _checked_points(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        if x.ndim not in (1, 2) or len(x) != self.d:
            raise ValueError(f"x must have shape (d,) = ({self.d},) or (d, r), not {x.shape}")
        return x

    # -- the optimum ---------------------------------------------------------------------------------

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """x*, the minimiser of f, ``(d,)``, by Newton's method to ‖∇f(x*)‖ ≤ 1e-12 ‖∇f(0)‖ or less.

        Or, where the examples' terms of ∇f(0) cancel already, to 1e-14 of the sum of their norms.

        Raises:
            NoOptimumError: l2 = 0 and the classes can be separated.
        """
        self._require_optimum()
        return self._minimiser

    @functools.cached_property
    def optimal_value(self) -> float:
        """f(x*)."""
        return float(self.value(self.optimum))

    @functools.cached_property
    def zeta2(self) -> float:
        """Heterogeneity ζ² = (1/n) Σ_i ‖∇f_i(x*)‖²."""
        gradients = self.gradient(np.broadcast_to(self.optimum, (self.n, self.d)))
        return float(np.einsum("nd,nd->", gradients, gradients) / self.n)

    def _require_optimum(self) -> None:
        if self._minimiser is None:
            raise NoOptimumError(
                f"{self!r} has no optimum: a hyperplane separates classes and nothing holds x back; "
                f"use l2 > 0, or run without it, which records value and gradient_norm"
            )

    @functools.cached_property
    def _minimiser(self) -> np.ndarray | None:
        """x*, or None where there is none."""
        x = np.zeros(self.d)
        gradient = self.mean_gradient(x)
        first = size = np.linalg.norm(gradient)
        enough = max(GRADIENT_REDUCTION * first, self._gradient_rounding)
        value = self.value(x)
        with np.errstate(over="ignore"):
            for _ in range(MOST_NEWTON_STEPS):
                if size == 0 or (self.l2 == 0 and self._separates(x)):
                    break
                direction = self._newton_direction(x, gradient)
                slope = gradient @ direction
                stride, shortest = 1.0, 1e-10 if size > enough else 1.0
                while stride >= shortest:
                    trial = x + stride * direction
                    trial_gradient = self.mean_gradient(trial)
                    trial_size, trial_value = np.linalg.norm(trial_gradient), self.value(trial)
                    # Close to the optimum values differ by rounding only; gradients still tell.
                    if trial_value <= value + 1e-4 * stride * slope or trial_size <= 0.5 * size:
                        break
                    stride /= 2
                else:
                    break
                if size <= enough and trial_size > 0.5 * size:
                    break
                x, gradient, size, value = trial, trial_gradient, trial_size, trial_value
        if self.l2 == 0 and not self._has_optimum_near(x, size <= enough):
            return None
        if not size <= enough:
            raise RuntimeError(
                f"Newton's method stopped at a gradient of {size / first:.1e} of the first: the "
                f"problem is too badly scaled; standardise the features or give a larger l2"
            )
        x.setflags(write=False)
        return x

    @property
    def _gradient_rounding(self) -> float:
        """What rounding alone may leave of ∇f(x): a fraction of (1/n) Σ_j w_j ‖a_j‖."""
        norms = sum(
            np.vdot(loss.weights, np.sqrt(block.squared_norms))
            for block, loss in zip(self._blocks, self._losses, strict=True)
        )
        return GRADIENT_ROUNDING * float(norms) / self.n

    def _newton_direction(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.d <= DIRECT_UP_TO:
            hessian = self.mean_hessian(x)
            try:
                return self._without_open_mean(-cho_solve(cho_factor(hessian), gradient))
            except LinAlgError:
                return self._without_open_mean(-lstsq(hessian, gradient)[0])
        # Along an open mean the Hessian is 0 and the gradient rounding, on which iterations stall.
        curved = self._mean_hessian_product(x)
        product = LinearOperator(
            (self.d, self.d), matvec=lambda v: self._without_open_mean(curved(v))
        )
        gradient = self._without_open_mean(gradient)
        return -cg(product, gradient, rtol=1e-8, atol=0, maxiter=10 * self.d)[0]

    def _without_open_mean(self, x: np.ndarray) -> np.ndarray:
        """x less the mean over classes of coefficients that no l2 term holds.

        A common shift of theirs changes no probability; runs that start at 0 keep it 0.
        """
        if self._scores > 1:
            by_class = x.reshape(self._features_wide, self._scores).copy()
            open_rows = self._penalty.reshape(by_class.shape)[:, 0] == 0
            by_class[open_rows] -= by_class[open_rows].mean(axis=1, keepdims=True)
            x = by_class.ravel()
        return x

    def _separates(self, x: np.ndarray) -> bool:
        """Whether every example's own class has the highest score at x: then no optimum exists."""
        return not any(
            (loss.wrong(self._pooled_products(block, x[:, None])) & block.is_real).any()
            for block, loss in zip(self._blocks, self._losses, strict=True)
        )

    def _has_optimum_near(self, x: np.ndarray, converged: bool) -> bool:
        """Without an l2 term: whether no direction separates classes, be it in some examples only."""
        if self._separates(x):
            return False
        if converged and self.d <= DIRECT_UP_TO:
            # Where a direction separates, curvature along it has vanished before the gradient did.
            at_zero, here = self.mean_hessian(np.zeros(self.d)), self.mean_hessian(x)
            values, vectors = np.linalg.eigh(at_zero)
            if not values[-1] > 0:
                return True  # f is constant
            kept = values > 1e-12 * values[-1]
            scaled = vectors[:, kept] / np.sqrt(values[kept])
            if np.linalg.eigvalsh(scaled.T @ here @ scaled)[0] > 1e-6:
                return True
        return not self._some_direction_separates()

    def _some_direction_separates(self) -> bool:
        """By linear programming: max Σ t with 0 ≤ t ≤ 1 and t below the margins of a direction."""
        features = vstack([csr_array(b.pooled[b.is_real.ravel()]) for b in self._blocks])
        if self._scores == 1:
            signs = np.concatenate(
                [
                    loss.signs[block.is_real]
                    for block, loss in zip(self._blocks, self._losses, strict=True)
                ]
            )
            margins = features.multiply(signs[:, None]).tocsr()
        else:
            codes = np.concatenate(
                [
                    loss.codes[block.is_real]
                    for block, loss in zip(self._blocks, self._losses, strict=True)
                ]
            )
            unit = np.eye(self._scores)
            margins = vstack(
                [
                    kron(features[codes == own], unit[own] - unit[[other]])
                    for own in range(self._scores)
                    for other in range(self._scores)
                    if other != own
                ]
            )
        count = margins.shape[0]
        identity = csr_array((np.ones(count), (np.arange(count),) * 2))
        found = linprog(
            np.concatenate([np.zeros(self.d), -np.ones(count)]),
            A_ub=hstack([-margins, identity]),
            b_ub=np.zeros(count),
            bounds=[(None, None)] * self.d + [(0, 1)] * count,
            method="highs",
        )
        return bool(found.status != 0 or -found.fun > 1e-6)

    # -- curvature -----------------------------------------------------------------------------------

    def mean_hessian(self, x: np.ndarray) -> np.ndarray:
        """∇²f(x) at x ``(d,)``, ``(d, d)``."""
        return self._weighted_hessian(x, range(len(self._blocks)), None) / self.n + np.diag(
            self._penalty
        )

    def hessian(self, worker: int, x: np.ndarray) -> np.ndarray:
        """∇²f_i(x) of one worker at x ``(d,)``, ``(d, d)``."""
        for number, block in enumerate(self._blocks):
            members = np.arange(self.n)[block.workers]
            if worker in members:
                k = int(np.flatnonzero(members == worker)[0])
                return self._weighted_hessian(x, [number], k) + np.diag(self._penalty)
        raise IndexError(f"there are workers 0 to {self.n - 1}, and no {worker}")

    def _weighted_hessian(self, x: np.ndarray, numbers, k: int | None) -> np.ndarray:
        """Σ w aaᵀ ⊗ (curvature by the scores) over the examples of blocks, or of a block's worker k."""
        p, c = self._features_wide, self._scores
        result = np.zeros((p, c, p, c))
        for number in numbers:
            block, loss = self._blocks[number], self._losses[number]
            z = self._pooled_products(block, np.asarray(x, dtype=float)[:, None])
            features = block.pooled
            kept = slice(None) if k is None else block.positions(k)
            features = features[kept]
            if c == 1:
                curvature = loss.curvature(z).ravel()[kept]
                result[:, 0, :, 0] += _gram(features, curvature, features)
                continue
            probabilities = loss.probabilities(z)[..., 0].reshape(-1, c)[kept]
            weights = loss.weights.ravel()[kept]
            for a in range(c):
                for b in range(a, c):
                    curvature = probabilities[:, a] * ((a == b) - probabilities[:, b]) * weights
                    gram = _gram(features, curvature, features)
                    result[:, a, :, b] += gram
                    if a != b:
                        result[:, b, :, a] += gram
        return result.reshape(self.d, self.d)

    def _mean_hessian_product(self, x: np.ndarray):
        """v → ∇²f(x) v, without the matrix."""
        parts = []
        for block, loss in zip(self._blocks, self._losses, strict=True):
            z = self._pooled_products(block, x[:, None])
            if self._scores == 1:
                parts.append((block.pooled, loss.curvature(z).ravel()[:, None], None))
            else:
                weights = loss.weights.ravel()[:, None]
                parts.append((block.pooled, weights, loss.probabilities(z)[..., 0]))

        def product(v):
            total = self._penalty * v.ravel()
            for features, weights, probabilities in parts:
                change = features @ v.reshape(self._features_wide, -1)
                if probabilities is not None:
                    p = probabilities.reshape(change.shape)
                    change = p * (change - (p * change).sum(axis=1, keepdims=True))
                total += (features.T @ (weights * change)).ravel() / self.n
            return total

        return product

    @functools.cached_property
    def _largest_gram(self) -> tuple[float, float]:
        """Largest eigenvalue of Σ_j w_j a_j a_jᵀ: over the workers, and of their mean."""
        each = []
        for block, loss in zip(self._blocks, self._losses, strict=True):
            for k in range(len(self.examples[block.workers])):
                rows = block.positions(k)
                each.append(_largest_eigenvalue([(block.pooled[rows], loss.weights.ravel()[rows])]))
        every = [
            (block.pooled, loss.weights.ravel())
            for block, loss in zip(self._blocks, self._losses, strict=True)
        ]
        return max(each), _largest_eigenvalue(every) / self.n

    @property
    def smoothness(self) -> float:
        """L: no Hessian of any f_i at any x has a larger eigenvalue.

        The loss bends by at most ¼ (two classes) or ½ (more) in its scores, so that
        L = ¼ max_i w_i λ_max((1/m_i) Σ_j a_j a_jᵀ) + l2, or ½ in the place of ¼, with w_i = 1, or
        n m_i / N where ``weighting="examples"``.
        """
        return self._losses[0].largest_curvature * self._largest_gram[0] + self.l2

    @property
    def strong_convexity(self) -> float:
        """μ: no Hessian of any f_i at any x has a smaller eigenvalue: l2, or 0 with an intercept."""
        return 0.0 if self.intercept else self.l2

    @property
    def mean_smoothness(self) -> float:
        """No Hessian of f at any x has a larger eigenvalue."""
        return self._losses[0].largest_curvature * self._largest_gram[1] + self.l2

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
        x = self._checked_points(np.asarray(x, dtype=float))
        if x.ndim != 1:
            raise ValueError("give one point, of shape (d,)")
        if self.d > DIRECT_UP_TO:
            raise ValueError(
                f"Hessians of {self.d} parameters are not made; at most {DIRECT_UP_TO} are"
            )
        each = np.array([np.linalg.eigvalsh(self.hessian(i, x))[[0, -1]] for i in range(self.n)])
        mean = np.linalg.eigvalsh(self.mean_hessian(x))
        return Curvature(*map(float, (each[:, 1].max(), each[:, 0].min(), mean[-1], mean[0])))

    # -- examples ------------------------------------------------------------------------------------

    def example_variance(self, x: np.ndarray) -> np.ndarray:
        """Variance of the gradient over a worker's examples, ``(n,)``, at x ``(d,)`` or ``(n, d)``.

        (1/m_i) Σ_j ‖g_j − g̅‖² with the gradients g_j of worker i's losses (times n m_i / N where
        ``weighting="examples"``).
        """
        x = np.asarray(x, dtype=float)
        if x.shape not in ((self.d,), (self.n, self.d)):
            raise ValueError(
                f"x must have shape (d,) = ({self.d},) or (n, d) = ({self.n}, {self.d}), "
                f"not {x.shape}"
            )
        x = np.ascontiguousarray(np.broadcast_to(x, (self.n, self.d)))
        points, result = self._by_feature(x), np.empty(self.n)
        mean = np.empty(x.shape)
        with np.errstate(over="ignore"):
            for block, loss in zip(self._blocks, self._losses, strict=True):
                slopes = loss.slopes(block.forward(points))
                block.backward(slopes, self._by_feature(mean))
                squares = np.einsum("...k,...k->...", slopes, slopes) * block.squared_norms
                second = block.sum_by_worker(squares) * self.examples[block.workers]
                first = np.einsum("nd,nd->n", mean[block.workers], mean[block.workers])
                result[block.workers] = np.maximum(second - first, 0)
        return result

    def coefficients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x ``(d,)`` as coefficients ``(classes, features)`` and intercepts ``(classes,)``.

        With two classes there is one row, for the second class. Without an intercept it is 0.
        """
        by_class = self._checked_points(x).reshape(self._features_wide, self._scores).T
        if self.intercept:
            return by_class[:, :-1], by_class[:, -1]
        return by_class, np.zeros(self._scores)

    def predict(self, x: np.ndarray, features=None) -> np.ndarray:
        """The class with the highest score of each example, at x ``(d,)`` or ``(d, r)``.

        Args:
            x: parameters.
            features: ``(k, p)``; those that the problem was made from by default.

        Returns:
            ``(k,)`` or ``(k, r)``.
        """
        x = self._checked_points(x)
        features = self._given[0] if features is None else matrix_of(features)
        width = self._features_wide - self.intercept
        if features.shape[1] != width:
            raise ValueError(f"features must have {width} columns, not {features.shape[1]}")
        points = x.reshape(self._features_wide, self._scores, -1)
        flat = points[: features.shape[1]].reshape(features.shape[1], -1)
        scores = np.asarray(features @ flat).reshape(features.shape[0], self._scores, -1)
        if self.intercept:
            scores = scores + points[-1]
        codes = scores[:, 0] > 0 if self._scores == 1 else scores.argmax(axis=1)
        predicted = self.classes[codes.astype(int)]
        return predicted[:, 0] if x.ndim == 1 else predicted

    def accuracy(self, x: np.ndarray, features=None, labels=None) -> np.ndarray:
        """Fraction of examples whose class has the highest score, at x ``(d,)`` or ``(d, r)``.

        Args:
            x: parameters.
            features, labels: examples, such as a test set; those of the problem by default.

        Returns:
            A number, or ``(r,)``.
        """
        if (features is None) != (labels is None):
            raise ValueError("give features and labels, or neither")
        labels = self._given[1] if labels is None else np.asarray(labels)
        predicted = self.predict(x, features)
        if labels.shape != predicted.shape[:1]:
            raise ValueError(f"there are {len(predicted)} examples but labels of {labels.shape}")
        unknown = ~np.isin(labels, self.classes)
        if unknown.any():
            raise ValueError(f"label {labels[unknown][0]!r} is none of {list(self.classes)}")
        found = (labels == predicted.T).mean(axis=-1)
        return float(found) if found.ndim == 0 else found

    def to_config(self) -> dict[str, Any]:
        """Plain data that rebuilds the problem: its arrays, and who holds which example."""
        features, labels = self._given
        return {
            "type": "Logistic",
            "features": features,
            "labels": labels,
            "l2": self.l2,
            "partition": self._partition.owners,
            "intercept": self.intercept,
            "weighting": self.weighting,
            "classes": self.classes,
        }

    def _repr_html_(self) -> str:
        shown = ", ".join(map(str, self.classes[:MOST_CLASSES]))
        shown += ", …" if len(self.classes) > MOST_CLASSES else ""
        rows = [
            ("workers n", self.n),
            ("parameters d", self.d),
            ("examples", f"{self.examples.sum()}, {between(self.examples)} a worker"),
            ("classes", f"{len(self.classes)}: {shown}"),
            ("features", "sparse" if issparse(self._given[0]) else "dense"),
            ("l2", self.l2),
            ("intercept", self.intercept),
            ("weighting", self.weighting),
            ("heterogeneity ζ²", self.__dict__.get("zeta2", LATER)),
        ]
        return html_table("Logistic", rows)

    def __repr__(self) -> str:
        options = ", intercept=True" if self.intercept else ""
        if self.weighting != "workers":
            options += f", weighting={self.weighting!r}"
        return (
            f"Logistic(n={self.n}, d={self.d}, examples={self.examples.sum()}, "
            f"classes={len(self.classes)}, l2={self.l2:g}{options})"
        )


def _gram(left, weights: np.ndarray, right) -> np.ndarray:
    """Σ_j w_j l_j r_jᵀ, a dense matrix."""
    if issparse(left):
        return (left.T @ right.multiply(weights[:, None]).tocsr()).toarray()
    return left.T @ (right * weights[:, None])


def _largest_eigenvalue(parts: list[tuple[Any, np.ndarray]]) -> float:
    """Of Σ w aaᵀ over the examples of all parts."""
    width = parts[0][0].shape[1]
    if width <= 200:
        return float(np.linalg.eigvalsh(sum(_gram(a, w, a) for a, w in parts))[-1])
    count = sum(len(w) for _, w in parts)
    if count <= 200:
        stacked = [
            a.multiply(np.sqrt(w)[:, None]) if issparse(a) else a * np.sqrt(w)[:, None]
            for a, w in parts
        ]
        whole = vstack([csr_array(a) for a in stacked])
        return float(np.linalg.eigvalsh((whole @ whole.T).toarray())[-1])

    def product(v):
        return sum(a.T @ (w * (a @ v.ravel())) for a, w in parts)

    start = np.ones(width)
    found = eigsh(LinearOperator((width, width), matvec=product), 1, v0=start, tol=1e-12)[0]
    return float(found[0])
