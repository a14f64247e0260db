"""What is measured of iterates: suboptimality, consensus distance, distance, gradient norm."""

from __future__ import annotations

import numpy as np

from relaysim.oracles import checked_gradient
from relaysim.support.blocks import row_blocks
from relaysim.support.callbacks import answer, ask
from relaysim.support.checks import real_array

__all__ = ["MEASURES", "bits_of", "measure", "measures_of"]

MEASURES = ("suboptimality", "consensus_distance", "distance", "gradient_norm")
MEASURES_WITHOUT_OPTIMUM = ("value", "consensus_distance", "gradient_norm")


def bits_of(vectors, d: int) -> np.ndarray:
    """Bits in so many vectors of d numbers, 64 a number; a compressed vector is a part of one.

    >>> bits_of([1, 0.5], 10).tolist()
    [640.0, 320.0]
    """
    return np.rint(np.asarray(vectors) * (64.0 * d))


def measures_of(problem) -> tuple[str, ...]:
    """The columns that can be measured on a problem: f(x̄) itself where the optimum is not known.

    >>> import relaysim as rs
    >>> measures_of(rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0))
    ('suboptimality', 'consensus_distance', 'distance', 'gradient_norm')
    """
    if getattr(problem, "optimum", None) is None:
        return MEASURES_WITHOUT_OPTIMUM
    return MEASURES


def measure(problem, block: np.ndarray, measures: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Measures of iterates ``(k, n, d[, r])``, each ``(k, r)``, out of `measures_of`.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, r0=3.0, seed=0)
    >>> found = measure(problem, np.zeros((1, 4, 2)), ("consensus_distance", "distance"))
    >>> found["consensus_distance"].tolist(), found["distance"].round(12).tolist()
    ([[0.0]], [[9.0]])
    """
    n = block.shape[1]
    mean = np.add.reduce(block, axis=1) * (1 / n)
    # (k, d[, r]) → (d, k·r): a problem measures all records and replicas in one go.
    columns = np.moveaxis(mean.reshape((*mean.shape[:2], -1)), 1, 0)
    records = columns.shape[1:]
    points = np.ascontiguousarray(columns).reshape(mean.shape[1], -1)
    found: dict[str, np.ndarray] = {}
    if "suboptimality" in measures:
        found["suboptimality"] = _suboptimality(problem, points).reshape(records)
    if "value" in measures:
        found["value"] = _value(problem, points).reshape(records)
    if "gradient_norm" in measures:
        gradient = _mean_gradient(problem, points, block.ndim == 4)
        found["gradient_norm"] = np.einsum("dk,dk->k", gradient, gradient).reshape(records)
    if "consensus_distance" in measures:
        consensus = _consensus_distance(block, mean).reshape(records)
        found["consensus_distance"] = consensus
        if "distance" in measures:
            # (1/n) Σ‖x_i − x*‖² = Ξ² + ‖x̄ − x*‖², both terms non-negative: nothing cancels.
            error = points - np.asarray(problem.optimum)[:, None]
            found["distance"] = consensus + np.einsum("dk,dk->k", error, error).reshape(records)
    return {name: found[name] for name in measures}


def _suboptimality(problem, points: np.ndarray) -> np.ndarray:
    if hasattr(problem, "suboptimality"):
        found = ask(problem.suboptimality, "suboptimality", points)
        return answer(found, "suboptimality", points.shape[1:])
    lowest = getattr(problem, "optimal_value", None)
    if lowest is None:
        lowest = ask(problem.value, "value", np.asarray(problem.optimum))
    return _value(problem, points) - lowest


def _value(problem, points: np.ndarray) -> np.ndarray:
    found = [ask(problem.value, "value", point) for point in points.T]
    return real_array(found, "the problem's value").reshape(len(found))


def _mean_gradient(problem, points: np.ndarray, has_replicas: bool) -> np.ndarray:
    if hasattr(problem, "mean_gradient"):
        return answer(
            ask(problem.mean_gradient, "mean_gradient", points), "mean_gradient", points.shape
        )
    shape = (problem.n, *points.shape)
    if has_replicas:
        return _mean_of_gradients(problem, np.broadcast_to(points, shape))
    each = [_mean_of_gradients(problem, np.broadcast_to(p, shape[:2])) for p in points.T]
    return np.stack(each, axis=1)


def _mean_of_gradients(problem, x: np.ndarray) -> np.ndarray:
    return checked_gradient(ask(problem.gradient, "gradient", x), x).mean(axis=0)


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
