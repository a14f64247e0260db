"""What is measured of the iterates while a simulation runs.

Iterates are gathered in blocks that fit the cache and measured a block at a time, which costs a few
array operations for many steps instead of many for each.
"""

from __future__ import annotations

import numpy as np

from relaysim.blocks import row_blocks
from relaysim.oracles import checked_gradient

__all__ = ["MEASURES", "Recorder", "measures_of"]

MEASURES = ("suboptimality", "consensus_distance", "distance", "gradient_norm")
MEASURES_WITHOUT_OPTIMUM = ("value", "consensus_distance", "gradient_norm")
BLOCK_BYTES = 1 << 19
MOST_RECORDS_IN_A_BLOCK = 256


def measures_of(problem) -> tuple[str, ...]:
    """The columns that can be measured on a problem: f(x̄) itself where the optimum is not known.

    >>> import relaysim as rs
    >>> measures_of(rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0))
    ('suboptimality', 'consensus_distance', 'distance', 'gradient_norm')
    """
    if getattr(problem, "optimum", None) is None:
        return MEASURES_WITHOUT_OPTIMUM
    return MEASURES


class Recorder:
    """Collects iterates ``(n, d[, r])`` and turns them into one value a record and replica.

    Args:
        problem: what is measured on.
        shape: of the iterates.
        measures: names out of `MEASURES`, or ``"value"``.
        keep_iterates: also keep the iterates themselves.

    ``capacity`` is the number of records that make a block.
    """

    def __init__(self, problem, shape: tuple[int, ...], measures: tuple[str, ...], keep_iterates):
        self.measures = measures
        self.keep_iterates = keep_iterates
        self._problem = problem
        self._resize(shape)

    def _resize(self, shape: tuple[int, ...]) -> None:
        bytes_each = max(8 * int(np.prod(shape)), 1)
        self.capacity = min(max(BLOCK_BYTES // bytes_each, 1), MOST_RECORDS_IN_A_BLOCK)
        self._shape = shape
        self._buffer = np.empty((self.capacity, *shape)) if self.capacity > 1 else None
        self._last: np.ndarray | None = None
        self._filled = 0

    def add(self, x: np.ndarray) -> None:
        """Record the iterates of one step."""
        if self._buffer is None:
            self._last = x
        else:
            self._buffer[self._filled] = x
        self._filled += 1

    def flush(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Measure the block: each measure ``(k, r)`` and the iterates ``(k, n, d[, r])``.

        The iterates are a view that the next record overwrites.
        """
        block = self._last[None] if self._buffer is None else self._buffer[: self._filled]
        self._filled = 0
        return self._measure(block), block

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._resize((*self._shape[:2], int(np.count_nonzero(replicas))))

    def _measure(self, block: np.ndarray) -> dict[str, np.ndarray]:
        n = block.shape[1]
        mean = np.add.reduce(block, axis=1) * (1 / n)
        # (k, d[, r]) → (d, k·r): a problem measures all records and replicas in one go.
        columns = np.moveaxis(mean.reshape((*mean.shape[:2], -1)), 1, 0)
        records = columns.shape[1:]
        points = np.ascontiguousarray(columns).reshape(mean.shape[1], -1)
        found: dict[str, np.ndarray] = {}
        if "suboptimality" in self.measures:
            found["suboptimality"] = self._suboptimality(points).reshape(records)
        if "value" in self.measures:
            found["value"] = self._value(points).reshape(records)
        if "gradient_norm" in self.measures:
            gradient = self._mean_gradient(points, block.ndim == 4)
            found["gradient_norm"] = np.einsum("dk,dk->k", gradient, gradient).reshape(records)
        if "consensus_distance" in self.measures:
            consensus = _consensus_distance(block, mean).reshape(records)
            found["consensus_distance"] = consensus
            if "distance" in self.measures:
                # (1/n) Σ‖x_i − x*‖² = Ξ² + ‖x̄ − x*‖², both terms non-negative: nothing cancels.
                error = points - np.asarray(self._problem.optimum)[:, None]
                found["distance"] = consensus + np.einsum("dk,dk->k", error, error).reshape(records)
        return found

    def _suboptimality(self, points: np.ndarray) -> np.ndarray:
        problem = self._problem
        if hasattr(problem, "suboptimality"):
            return problem.suboptimality(points)
        lowest = getattr(problem, "optimal_value", None)
        if lowest is None:
            lowest = problem.value(problem.optimum)
        return self._value(points) - lowest

    def _value(self, points: np.ndarray) -> np.ndarray:
        return np.array([self._problem.value(point) for point in points.T])

    def _mean_gradient(self, points: np.ndarray, has_replicas: bool) -> np.ndarray:
        problem = self._problem
        if hasattr(problem, "mean_gradient"):
            return problem.mean_gradient(points)
        shape = (problem.n, *points.shape)
        if has_replicas:
            return _mean_of_gradients(problem, np.broadcast_to(points, shape))
        each = [_mean_of_gradients(problem, np.broadcast_to(p, shape[:2])) for p in points.T]
        return np.stack(each, axis=1)


def _mean_of_gradients(problem, x: np.ndarray) -> np.ndarray:
    return checked_gradient(problem.gradient(x), x).mean(axis=0)


def _consensus_distance(block: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Ξ² = (1/n) Σ_i ‖x_i − x̄‖² of each record, from deviations, so that nothing cancels."""
    n = block.shape[1]
    if len(block) == 1 and len(row_blocks(block[0])) > 1:
        total = 0.0
        for rows in row_blocks(block[0]):
            deviation = block[0][rows] - mean[0]
            total = total + np.einsum("nd...,nd...->...", deviation, deviation)
        return np.asarray(total)[None] / n
    deviation = block - mean[:, None]
    deviation = deviation.reshape(len(block), -1, *block.shape[3:])
    return np.einsum("ti...,ti...->t...", deviation, deviation) / n
