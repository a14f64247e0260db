"""The loss of linear scores over all workers' examples, and a quadratic penalty: values and gradients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.sparse import issparse

from relaysim.problems.example_blocks import Block, DenseBlock, Positions, lay_out
from relaysim.problems.losses import BinaryLoss, ExponentialLoss, SoftmaxLoss
from relaysim.problems.matrices import Matrix
from relaysim.problems.partitions import Partition
from relaysim.problems.rows_by_worker import by_worker, multiplied
from relaysim.support.blocks import row_blocks

__all__ = ["HESSIANS_UP_TO", "PenalisedLoss"]

# Hessians of more parameters are not made, only their products with vectors.
HESSIANS_UP_TO = 2500

# How many products of examples and points are made at a time.
CACHED_PRODUCTS = 1 << 17


class PenalisedLoss:
    """f_i(x) = Σ_j w_i ℓ_j(a_jᵀx) + ½ Σ_k λ_k x_k² over the examples j of worker i.

    x holds c scores for each of p features, ``(p, c)`` row by row: one score with two classes, else one
    for each class. Nothing is checked here.

    Args:
        features: the examples a_j, ``(N, p)``, an array or sparse.
        codes: ``(N,)``, the number of each example's class.
        classes: how many there are.
        partition: who holds which example.
        weights: w_i, ``(n,)``.
        penalty: λ of each feature, ``(p,)``.
        of_two: the loss of two classes.

    Attributes:
        n, d, feature_count, score_count: workers, parameters d = p · c, p and c.
        penalty: λ, ``(d,)``.
        parts: blocks of examples, each with their losses.
    """

    def __init__(
        self,
        features: Matrix,
        codes: np.ndarray,
        classes: int,
        partition: Partition,
        weights: np.ndarray,
        penalty: np.ndarray,
        of_two: type[BinaryLoss | ExponentialLoss] = BinaryLoss,
    ):
        self._weights, self._examples = weights, partition.sizes
        self.n, self.feature_count = len(weights), features.shape[1]
        order = np.concatenate(partition.indices)
        by_example = np.empty(len(codes))
        by_example[order] = np.repeat(weights, self._examples)
        self.parts: list[tuple[Block, Any]] = []
        for block in lay_out(features, order, self._examples):
            real = block.is_real
            of_block = np.where(real, by_example[block.rows], 0.0)
            block_codes = np.where(real, codes[block.rows], 0)
            loss = (
                of_two(block_codes, of_block)
                if classes == 2
                else SoftmaxLoss(block_codes, of_block, classes)
            )
            self.parts.append((block, loss))
        self.score_count = self.parts[0][1].score_count
        self.d = self.feature_count * self.score_count
        self.penalty = np.repeat(penalty, self.score_count)
        # One number is multiplied faster than a row.
        self._one_penalty = float(penalty[0]) if (penalty == penalty[0]).all() else None

    # -- of every worker -----------------------------------------------------------------------------

    def gradient(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """∇f_i at row i of x, ``(n, d[, r])``, both contiguous, in ``out``."""
        points, result = self._by_feature(x), self._by_feature(out)
        with np.errstate(over="ignore"):
            for block, loss in self.parts:
                block.backward(loss.slopes(block.forward(points)), result)
        return self._penalised(x, out)

    @property
    def is_dense(self) -> bool:
        """Whether examples are stored as arrays."""
        return isinstance(self.parts[0][0], DenseBlock)

    def gradient_of(self, workers: np.ndarray, x: np.ndarray) -> np.ndarray:
        """∇f_i at row k of x ``(k, d)`` for i = ``workers[k]``, of dense examples, in the same shape."""
        found = np.empty(x.shape)
        blocks, places = (of_all[workers] for of_all in self._places)
        with np.errstate(over="ignore"):
            for number, (block, loss) in enumerate(self.parts):
                assert isinstance(block, DenseBlock)
                rows = slice(None) if len(self.parts) == 1 else np.flatnonzero(blocks == number)
                gradients = functools.partial(self._gradients_of, block, loss)
                found[rows] = by_worker(gradients, places[rows], x[rows], block.A[0].nbytes)
        return self._penalised(x, found)

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The block of each worker, and its place in that, ``(n,)`` each."""
        blocks, places = np.zeros((2, self.n), dtype=np.intp)
        for number, (block, _) in enumerate(self.parts):
            blocks[block.workers] = number
            places[block.workers] = np.arange(len(block.rows))
        return blocks, places

    def _gradients_of(
        self, block: DenseBlock, loss: Any, places: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """Without the penalty, of workers at places of a block, at columns ``(places, d, width)``."""
        points = columns.reshape(len(columns), self.feature_count, -1)
        examples = block.A.take(places, axis=0)
        slopes = loss.of(places).slopes(multiplied(examples, points))
        return multiplied(examples.transpose(0, 2, 1), slopes).reshape(columns.shape)

    def sampled_gradient(self, x: np.ndarray, index: np.ndarray, out: np.ndarray) -> np.ndarray:
        """∇f_i at row i of x from the examples ``index (n, size[, r])`` of worker i, in ``out``."""
        shares = (self._weights * self._examples / index.shape[1])[:, None]
        points, result = self._by_feature(x), self._by_feature(out)
        if index.ndim == 3:  # every replica has its own
            shape = (self.n, self.feature_count, self.score_count, -1)
            points, result = x.reshape(shape), out.reshape(shape)
        with np.errstate(over="ignore"):
            for block, loss in self.parts:

                def slopes_of(
                    z: np.ndarray, positions: Positions, block: Block = block, loss: Any = loss
                ) -> np.ndarray:
                    weights = np.broadcast_to(shares[block.workers], index[block.workers].shape[:2])
                    if isinstance(positions, np.ndarray):
                        weights = np.tile(weights.ravel(), len(positions) // weights.size)
                    return loss.of(positions, weights[..., None]).slopes(z)

                block.sample(index, points, result, slopes_of)
        return self._penalised(x, out)

    def example_variance(self, x: np.ndarray) -> np.ndarray:
        """(1/m_i) Σ_j ‖g_j − g̅‖² with the gradients g_j of m_i w_i ℓ_j at row i of x, ``(n,)``."""
        points, result = self._by_feature(x), np.empty(self.n)
        mean = np.empty(x.shape)
        with np.errstate(over="ignore"):
            for block, loss in self.parts:
                slopes = loss.slopes(block.forward(points))
                block.backward(slopes, self._by_feature(mean))
                squares = np.einsum("...k,...k->...", slopes, slopes) * block.squared_norms
                second = block.sum_by_worker(squares) * self._examples[block.workers]
                first = np.einsum("nd,nd->n", mean[block.workers], mean[block.workers])
                result[block.workers] = np.maximum(second - first, 0)
        return result

    def _by_feature(self, x: np.ndarray) -> np.ndarray:
        """(n, d[, r]) as (n, features, scores · r), a view."""
        return x.reshape(self.n, self.feature_count, -1)

    def _penalised(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        penalty: float | np.ndarray | None = self._one_penalty
        if penalty != 0:
            if penalty is None:
                penalty = self.penalty if x.ndim == 2 else self.penalty[:, None]
            for rows in row_blocks(x):
                out[rows] += penalty * x[rows]
        return out

    # -- of their mean -------------------------------------------------------------------------------

    def value(self, points: np.ndarray) -> np.ndarray:
        """f at points ``(d, k)``, ``(k,)``."""
        total = self.penalty @ (points * points) / 2
        for block, loss in self.parts:
            total = total + loss.total(self.products(block, points)) / self.n
        return total

    def mean_gradient(self, points: np.ndarray) -> np.ndarray:
        """∇f at points ``(d, k)``, in the same shape."""
        result = self.penalty[:, None] * points
        with np.errstate(over="ignore"):
            for part in self._column_blocks(points):
                for block, loss in self.parts:
                    slopes = loss.slopes(self.products(block, points[:, part], lent=True))
                    slopes = slopes.reshape(-1, slopes.shape[-1])
                    found = (block.pooled.T @ slopes).reshape(self.d, -1)
                    result[:, part] += found / self.n
        return result

    def divergence(self, change: np.ndarray, reference: list[np.ndarray]) -> np.ndarray:
        """f(x* + δ) − f(x*) − ∇f(x*)·δ ≥ 0 without cancellation, for changes δ ``(d, k)``, ``(k,)``.

        ``reference`` is `products_at` x*.
        """
        total = self.penalty @ (change * change) / 2
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for part in self._column_blocks(change):
                for (block, loss), optimal in zip(self.parts, reference, strict=True):
                    products = self.products(block, change[:, part], lent=True)
                    products = products.reshape(-1, products.shape[-1])
                    total[part] += loss.divergence(products, optimal) / self.n
        return total

    def divergence_and_gradient(
        self, points: np.ndarray, optimum: np.ndarray, reference: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `divergence` and the `mean_gradient` at points x* + δ ``(d, k)``, from one look at examples.

        ``reference`` is `products_at` x*.
        """
        change = points - optimum[:, None]
        total = self.penalty @ (change * change) / 2
        gradient = self.penalty[:, None] * points
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for part in self._column_blocks(change):
                for (block, loss), optimal in zip(self.parts, reference, strict=True):
                    products = self.products(block, change[:, part], lent=True)
                    products = products.reshape(-1, products.shape[-1])
                    found, slopes = loss.divergence_and_slopes(products, optimal)
                    total[part] += found / self.n
                    gradient[:, part] += (block.pooled.T @ slopes).reshape(self.d, -1) / self.n
        return total, gradient

    def products_at(self, x: np.ndarray) -> list[np.ndarray]:
        """The products of the examples of each block with x ``(d,)``, ``(examples, c)``."""
        products = [self.products(block, x[:, None]) for block, _ in self.parts]
        return [z.reshape(-1, z.shape[-1]) for z in products]

    def products(self, block: Block, points: np.ndarray, lent: bool = False) -> np.ndarray:
        """The products of all a block's examples with points ``(d, k)``, in the shape of its rows.

        Where they are lent they stand in memory that the next call uses again: to ask the system for
        it would take longer than to fill it.
        """
        points = points.reshape(self.feature_count, -1)
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

    def _column_blocks(self, points: np.ndarray) -> list[slice]:
        """Even slices over columns, so that the products of all examples with them stay in the cache."""
        columns = points.shape[1]
        most = max(1, CACHED_PRODUCTS // (int(self._examples.sum()) * self.score_count))
        length = -(-columns // -(-columns // most))
        return [slice(k, k + length) for k in range(0, columns, length)]

    # -- what rounding and symmetry leave ------------------------------------------------------------

    @property
    def gradient_terms(self) -> float:
        """(1/n) Σ_j w_j ‖a_j‖, the size of the terms of ∇f."""
        norms = sum(
            np.vdot(loss.weights, np.sqrt(block.squared_norms)) for block, loss in self.parts
        )
        return float(norms) / self.n

    def without_open_part(self, x: np.ndarray) -> np.ndarray:
        """x ``(d,)`` less what changes no score's probability and no penalty holds.

        The mean over classes of coefficients, and combinations of features that are 0 in every example.
        Runs that start at 0 keep both 0: of many minimisers they end at that of the smallest norm.
        """
        by_feature = x.reshape(self.feature_count, self.score_count)
        if self.score_count > 1:
            by_feature = by_feature.copy()
            open_rows = self.penalty.reshape(by_feature.shape)[:, 0] == 0
            by_feature[open_rows] -= by_feature[open_rows].mean(axis=1, keepdims=True)
        null = self._null_features
        return (by_feature - null @ (null.T @ by_feature)).ravel()

    @functools.cached_property
    def _null_features(self) -> np.ndarray:
        """Orthonormal combinations of features that are 0 in every example, ``(p, k)``; none with a penalty.

        The Gram matrix tells them apart to half the digits only, so that its candidates are multiplied out.
        Columns count at size 1, whatever their units. None of so many features that no
        Hessian is made.
        """
        p = self.feature_count
        if self.penalty.any() or self.d > HESSIANS_UP_TO:
            return np.empty((p, 0))
        blocks = [block.pooled for block, _ in self.parts]
        gram = np.zeros((p, p))
        for A in blocks:
            product = A.T @ A
            gram += product.toarray() if issparse(product) else product
        size = np.sqrt(np.diag(gram))
        scale = np.divide(1, size, out=np.ones(p), where=size > 0)
        values, vectors = np.linalg.eigh(gram * scale * scale[:, None])
        candidates = scale[:, None] * vectors[:, values <= 1e-8 * values[-1]]
        if not candidates.size:
            return candidates
        products = np.concatenate([A @ candidates for A in blocks])
        sizes, turns = np.linalg.svd(np.linalg.qr(products, mode="r"))[1:]
        rank = np.count_nonzero(sizes > 1e-12 * np.sqrt(values[-1]))
        return np.linalg.qr(candidates @ turns[rank:].T)[0]
