"""Quadratic objectives: f_i(x) = ½‖A_i x − b_i‖², in full and with diagonal Hessians.

Suboptimalities are ½‖R(x − x*)‖² with RᵀR = H̄, a sum of non-negative terms, so that a curve can be followed
down to 1e-30 where the difference of two values would stop near 1e-16.
"""

from __future__ import annotations

import abc
import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaysim.problems.examples import RowExamples
from relaysim.problems.objective import Objective
from relaysim.problems.rows_by_worker import by_worker, multiplied
from relaysim.problems.workers import counted_examples
from relaysim.support.blocks import BLOCK_BYTES, Spread, row_blocks
from relaysim.support.checks import real_array
from relaysim.support.display import LATER, html_table

__all__ = ["DiagonalQuadratic", "LeastSquares"]

# A table computes what takes no more multiplications.
WORK_NOW = 1e8


class Quadratic(Objective):
    """What quadratics have in common, from the mean Hessian H̄, the optimum and f's value there."""

    matrix_shape: tuple[int, int] | None = None
    recipe: dict | None = None
    #: How many examples each f_i stands for, ``(n,)``; None: all workers' alike.
    examples: Any = None
    # What was given.
    _given: np.ndarray | None = None

    def _count_examples(self, examples: ArrayLike | None) -> None:
        if examples is not None:
            self.examples = self._given = real_array(examples, "examples", copy=True)
            counted_examples(self)  # raises unless it is a positive number for each worker
            self._given.setflags(write=False)

    def among(self, workers: np.ndarray) -> Quadratic:
        """The problem of these workers alone: f is the mean of their f_i."""
        return type(self)(**{name: array[workers] for name, array in self._arrays().items()})

    def _arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by the names of its arguments; a row for each worker."""
        return {} if self._given is None else {"examples": self._given}

    @property
    @abc.abstractmethod
    def optimal_value(self) -> float:
        """f(x*)."""

    @property
    @abc.abstractmethod
    def strong_convexity(self) -> float:
        """μ, the smallest Hessian eigenvalue over all f_i."""

    @abc.abstractmethod
    def _apply_root(self, x: np.ndarray) -> np.ndarray:
        """R x with RᵀR = H̄."""

    @abc.abstractmethod
    def _apply_mean_hessian(self, x: np.ndarray) -> np.ndarray:
        """H̄ x."""

    def value(self, x: np.ndarray) -> float | np.ndarray:
        """f(x) for x ``(d,)`` or ``(d, r)``: a number, or one for each replica ``(r,)``."""
        return self.optimal_value + self.suboptimality(x)

    def suboptimality(self, x: np.ndarray) -> float | np.ndarray:
        """f(x) − f(x*) = ½‖R(x − x*)‖² with RᵀR = H̄: no cancellation; shapes as for `value`."""
        x = self._checked_points(x)
        root = self._apply_root(x - self._column(self.optimum, x))
        return 0.5 * (root * root).sum(axis=0)

    def mean_gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f(x) = H̄(x − x*) for x ``(d,)`` or ``(d, r)``, in the same shape."""
        return self._apply_mean_hessian(x - self._column(self.optimum, x))

    def _repr_html_(self) -> str:
        rows: list[tuple[str, Any]] = [("workers n", self.n), ("parameters d", self.d)]
        if self.matrix_shape is not None:
            rows.append(("as a matrix", f"{self.matrix_shape[0]} × {self.matrix_shape[1]}"))
        recipe = self.recipe or {}
        rows += [(key, recipe[key]) for key in ("r0", "seed") if key in recipe]
        quick = self._work() <= WORK_NOW
        rows += [
            ("heterogeneity ζ²", self.zeta2 if quick or "zeta2" in self.__dict__ else LATER),
            ("smoothness L of any f_i", self.smoothness if quick else LATER),
            ("strong convexity μ of any f_i", self.strong_convexity if quick else LATER),
        ]
        return html_table(recipe.get("type", type(self).__name__), rows)

    def _work(self) -> float:
        """About how many multiplications ζ², L and μ take."""
        return self.n * self.d

    @staticmethod
    def _column(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
        return vector if x.ndim == 1 else vector[:, None]


class LeastSquares(RowExamples, Quadratic):
    """f_i(x) = ½‖A_i x − b_i‖², so that ∇f_i(x) = A_iᵀ(A_i x − b_i).

    Args:
        A: ``(n, m, d)``, a matrix for each worker.
        b: ``(n, m)``.
        examples: how many examples each f_i stands for, ``(n,)``, by which `FedAvg` weighs workers; f is
            the mean of the f_i whatever they are. By default each row is one. Minibatches draw from a
            worker's first rows, as many as it has examples, where the others are 0.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.

    Where several x minimise f, `optimum` is the one of smallest norm.

    >>> import numpy as np
    >>> problem = LeastSquares(A=np.ones((2, 1, 1)), b=np.array([[1.0], [3.0]]))
    >>> problem.optimum.round(12).tolist(), round(problem.optimal_value, 12), round(problem.zeta2, 12)
    ([2.0], 0.5, 1.0)
    """

    def __init__(self, A: np.ndarray, b: np.ndarray, examples: ArrayLike | None = None):
        A = real_array(A, "A", copy=True, finite=True)
        b = real_array(b, "b", copy=True, finite=True)
        if A.ndim != 3 or 0 in A.shape:
            raise ValueError(f"A must have shape (n, m, d), not {A.shape}")
        if b.shape != A.shape[:2]:
            raise ValueError(f"b must have shape (n, m) = {A.shape[:2]}, not {b.shape}")
        self.A, self.b = A, b
        self.n, rows, self.d = A.shape
        self._count_examples(examples)
        counts = np.full(self.n, rows) if self._given is None else self._given
        self.examples = counts.astype(int) if (counts == np.rint(counts)).all() else counts
        self.examples.setflags(write=False)
        self._projected = np.einsum("nmd,nm->nd", A, b)
        self._projected_column, self._spread = self._projected[:, :, None], Spread()
        # The last rate of proximal steps, and by what they multiply gradients.
        self._shrinkage: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))
        # Aᵀ(Ax) costs 2md a worker and (AᵀA)x costs d²; the first also needs no further memory.
        self._hessians = None if 2 * A.shape[1] < self.d else A.transpose(0, 2, 1) @ A
        for array in (A, b):
            array.setflags(write=False)

    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x; ``(n, d[, r])`` to the same shape (written into ``out`` if given)."""
        self._check_iterates(x)
        if out is None:
            out = np.empty(x.shape)
        self._multiply(x, out)
        if x.ndim == 2:
            out -= self._projected
        elif x.nbytes <= BLOCK_BYTES:
            out -= self._spread(self._projected_column, x.shape)
        else:
            out -= self._projected_column
        return out

    def gradient_of(self, workers: np.ndarray, x: np.ndarray) -> np.ndarray:
        """∇f_i at row k of x for i = ``workers[k]``; ``(k, d)`` to the same shape."""
        workers = np.asarray(workers)
        matrices = self.A if self._hessians is None else self._hessians

        def multiply(chosen: np.ndarray, columns: np.ndarray) -> np.ndarray:
            of_these = matrices.take(chosen, axis=0)
            product = multiplied(of_these, columns)
            if self._hessians is None:
                product = multiplied(of_these.transpose(0, 2, 1), product)
            return product

        product = by_worker(multiply, workers, x, matrices[0].nbytes)
        return np.subtract(product, self._projected[workers], out=product)

    @property
    def linear_gradient(self) -> tuple[np.ndarray, np.ndarray] | None:
        """H ``(n, d, d)`` and c ``(n, d)`` of ∇f_i(x) = H_i x − c_i; None where A_i is cheaper than H_i."""
        return None if self._hessians is None else (self._hessians, self._projected)

    def hessian_product(self, x: np.ndarray) -> np.ndarray:
        """A_iᵀA_i x_i at row i, the gradients without their constant part; ``(n, d[, r])``."""
        self._check_iterates(x)
        return self._multiply(x, np.empty(x.shape))

    @functools.cached_property
    def _curvatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each A_iᵀA_i the eigenvalues that A_i sees, ``(n, k)``, and their vectors, ``(n, d, k)``."""
        _, singular, right = np.linalg.svd(self.A, full_matrices=False)
        return singular**2, np.ascontiguousarray(right.transpose(0, 2, 1))

    def proximal(
        self, x: np.ndarray, rate: float | np.ndarray, gradient: np.ndarray | None = None
    ) -> np.ndarray:
        """argmin_u f_i(u) + ‖u − x_i‖²/(2 rate) at row i, x − rate (I + rate H_i)⁻¹∇f_i(x); ``(n, d[, r])``.

        Args:
            x: where the steps begin.
            rate: a number, ``(r,)``, or ``(n, 1[, r])`` where workers differ.
            gradient: those at x, where they are known.
        """
        gradient = self.gradient(x) if gradient is None else gradient
        curvatures, vectors = self._curvatures
        product = np.matvec if x.ndim == 2 else np.matmul
        if not np.array_equal(rate, self._shrinkage[0]):
            h = curvatures.reshape(curvatures.shape + (1,) * (x.ndim - 2))
            self._shrinkage = np.array(rate), rate / (rate * h + 1.0)
        seen = product(vectors.transpose(0, 2, 1), gradient)
        move = product(vectors, seen * self._shrinkage[1])
        if vectors.shape[2] < self.d:  # what A_i does not see has no curvature
            move += rate * (gradient - product(vectors, seen))
        return np.subtract(x, move, out=move)

    def _work(self) -> float:
        return self.A.size * self.d

    def _multiply(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        product = np.matvec if x.ndim == 2 else np.matmul
        if self._hessians is None:
            return product(self.A.transpose(0, 2, 1), product(self.A, x), out=out)
        return product(self._hessians, x, out=out)

    @functools.cached_property
    def mean_hessian(self) -> np.ndarray:
        """H̄ = (1/n) Σ_i A_iᵀA_i, ``(d, d)``."""
        stacked = self.A.reshape(-1, self.d)
        return stacked.T @ stacked / self.n

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """x*, the minimiser of f, ``(d,)``."""
        stacked = self.A.reshape(-1, self.d)
        return np.linalg.lstsq(stacked, self.b.ravel(), rcond=None)[0]

    @functools.cached_property
    def optimal_value(self) -> float:
        """f(x*)."""
        residual = self.A.reshape(-1, self.d) @ self.optimum - self.b.ravel()
        return float(0.5 * residual @ residual / self.n)

    @functools.cached_property
    def eigenbasis(self) -> np.ndarray | None:
        """Eigenvectors of every A_iᵀA_i as columns, ``(d, d)``, where all A_i are the same; else None."""
        if not (self.A[0] == self.A).all():
            return None
        return np.linalg.eigh(self.mean_hessian)[1]

    @functools.cached_property
    def _eigenvalue_ranges(self) -> np.ndarray:
        """The smallest and the largest Hessian eigenvalue of each f_i, ``(n, 2)``."""
        singular = np.linalg.svd(self.A, compute_uv=False)
        smallest = 0 * singular[:, 0] if self.A.shape[1] < self.d else singular.min(axis=1)
        return np.stack([smallest, singular.max(axis=1)], axis=1) ** 2

    @property
    def local_smoothness(self) -> np.ndarray:
        """L_i, the largest Hessian eigenvalue of each f_i, ``(n,)``."""
        return self._eigenvalue_ranges[:, 1]

    @property
    def smoothness(self) -> float:
        """L, the largest Hessian eigenvalue over all f_i."""
        return float(self.local_smoothness.max())

    @property
    def strong_convexity(self) -> float:
        """μ, the smallest Hessian eigenvalue over all f_i (0 where m < d)."""
        return float(self._eigenvalue_ranges[:, 0].min())

    @functools.cached_property
    def _mean_eigenvalues(self) -> np.ndarray:
        return np.linalg.eigvalsh(self.mean_hessian)

    @property
    def mean_smoothness(self) -> float:
        """The largest Hessian eigenvalue of f itself."""
        return float(self._mean_eigenvalues[-1])

    @property
    def mean_strong_convexity(self) -> float:
        """The smallest Hessian eigenvalue of f itself."""
        return float(max(self._mean_eigenvalues[0], 0.0))

    @functools.cached_property
    def _root(self) -> np.ndarray:
        """R, upper triangular, with RᵀR = H̄."""
        return np.linalg.qr(self.A.reshape(-1, self.d), mode="r") / np.sqrt(self.n)

    def _apply_root(self, x: np.ndarray) -> np.ndarray:
        return self._root @ x

    def _apply_mean_hessian(self, x: np.ndarray) -> np.ndarray:
        return self._root.T @ (self._root @ x)

    def to_config(self) -> dict:
        """Plain data that rebuilds the problem: its recipe if it has one, else its arrays."""
        if self.recipe is not None:
            return dict(self.recipe)
        return {"type": "LeastSquares"} | self._arrays()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"A": self.A, "b": self.b} | super()._arrays()

    def __repr__(self) -> str:
        if self.recipe is not None:
            settings = {key: value for key, value in self.recipe.items() if key != "type"}
            arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            return f"{self.recipe['type']}({arguments})"
        return f"LeastSquares(n={self.n}, m={self.A.shape[1]}, d={self.d})"


class DiagonalQuadratic(Quadratic):
    """f_i(x) = ½ Σ_k h_ik (x_k − c_ik)²: diagonal Hessians, memory O(nd), fit for 10⁶ workers.

    Args:
        h: curvatures ``(n, d)``, at least 0 and with a positive mean in every coordinate.
        centers: ``(n, d)``, the minimiser of each f_i.
        examples: as of `LeastSquares`.

    Raises:
        ValueError: shapes that differ, entries that are not finite, negative curvature, or a
            coordinate in which no worker has any.

    The arrays are kept as given (not copied, if they are float64) and must not be changed.

    >>> import numpy as np
    >>> problem = DiagonalQuadratic(h=np.array([[1.0], [3.0]]), centers=np.array([[0.0], [4.0]]))
    >>> problem.optimum.tolist(), problem.optimal_value, problem.zeta2
    ([3.0], 3.0, 9.0)
    """

    def __init__(self, h: np.ndarray, centers: np.ndarray, examples: ArrayLike | None = None):
        h = real_array(h, "h", finite=True)
        centers = real_array(centers, "centers", finite=True)
        if h.ndim != 2 or 0 in h.shape:
            raise ValueError(f"h must have shape (n, d), not {h.shape}")
        if centers.shape != h.shape:
            raise ValueError(f"centers must have the shape of h, {h.shape}, not {centers.shape}")
        if h.min() < 0:
            raise ValueError(f"curvatures h must be at least 0; the smallest is {h.min():.3g}")
        self.h, self.centers = h, centers
        self.n, self.d = h.shape
        self._count_examples(examples)
        self._mean_curvature = h.mean(axis=0)
        if self._mean_curvature.min() == 0:
            coordinate = int(np.argmin(self._mean_curvature))
            raise ValueError(
                f"h is 0 for every worker in coordinate {coordinate}, so f has no single minimiser; "
                f"leave that coordinate out"
            )

    def gradient(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """∇f_i at row i of x; ``(n, d[, r])`` to the same shape (written into ``out`` if given)."""
        self._check_iterates(x)
        if out is None:
            out = np.empty(x.shape)
        trailing = (1,) * (x.ndim - 2)
        h = self.h.reshape(self.h.shape + trailing)
        centers = self.centers.reshape(self.h.shape + trailing)
        for rows in row_blocks(x):
            np.subtract(x[rows], centers[rows], out=out[rows])
            out[rows] *= h[rows]
        return out

    def gradient_of(self, workers: np.ndarray, x: np.ndarray) -> np.ndarray:
        """∇f_i at row k of x for i = ``workers[k]``; ``(k, d)`` to the same shape."""
        return self.h[workers] * (x - self.centers[workers])

    def hessian_product(self, x: np.ndarray) -> np.ndarray:
        """h_i x_i at row i, the gradients without their constant part; ``(n, d[, r])``."""
        self._check_iterates(x)
        return self.h.reshape(self.h.shape + (1,) * (x.ndim - 2)) * x

    def proximal(
        self, x: np.ndarray, rate: float | np.ndarray, gradient: np.ndarray | None = None
    ) -> np.ndarray:
        """argmin_u f_i(u) + ‖u − x_i‖²/(2 rate) at row i, x − rate ∇f_i(x)/(1 + rate h_i); ``(n, d[, r])``.

        Args: as of `LeastSquares.proximal`.
        """
        gradient = self.gradient(x) if gradient is None else gradient
        h = self.h.reshape(self.h.shape + (1,) * (x.ndim - 2))
        return x - rate * gradient / (1 + rate * h)

    @functools.cached_property
    def optimum(self) -> np.ndarray:
        """x*, the minimiser of f, ``(d,)``."""
        return np.einsum("nd,nd->d", self.h, self.centers) / (self.n * self._mean_curvature)

    @functools.cached_property
    def optimal_value(self) -> float:
        """f(x*)."""
        total = 0.0
        for rows in row_blocks(self.h):
            total += np.einsum("nd,nd->", self.h[rows], (self.optimum - self.centers[rows]) ** 2)
        return float(0.5 * total / self.n)

    @property
    def eigenbasis(self) -> np.ndarray:
        """I: all Hessians are diagonal."""
        return np.eye(self.d)

    @property
    def local_smoothness(self) -> np.ndarray:
        """L_i, the largest curvature of each f_i, ``(n,)``."""
        return self.h.max(axis=1)

    @property
    def smoothness(self) -> float:
        """L, the largest curvature over all f_i."""
        return float(self.h.max())

    @property
    def strong_convexity(self) -> float:
        """μ, the smallest curvature over all f_i."""
        return float(self.h.min())

    @property
    def mean_smoothness(self) -> float:
        """The largest curvature of f itself."""
        return float(self._mean_curvature.max())

    @property
    def mean_strong_convexity(self) -> float:
        """The smallest curvature of f itself."""
        return float(self._mean_curvature.min())

    def _apply_root(self, x: np.ndarray) -> np.ndarray:
        return self._column(np.sqrt(self._mean_curvature), x) * x

    def _apply_mean_hessian(self, x: np.ndarray) -> np.ndarray:
        return self._column(self._mean_curvature, x) * x

    def to_config(self) -> dict:
        """Plain data that rebuilds the problem: its arrays."""
        return {"type": "DiagonalQuadratic"} | self._arrays()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"h": self.h, "centers": self.centers} | super()._arrays()

    def __repr__(self) -> str:
        return f"DiagonalQuadratic(n={self.n}, d={self.d})"
