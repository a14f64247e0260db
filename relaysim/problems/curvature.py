"""Second derivatives of a penalised loss: Hessians, their products, and bounds of their eigenvalues."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.sparse.linalg import LinearOperator, eigsh

from relaysim.problems.matrices import Matrix
from relaysim.problems.penalised_loss import PenalisedLoss
from relaysim.support.checks import real_array

__all__ = [
    "HESSIANS_UP_TO",
    "Curvature",
    "curvature_at",
    "hessian",
    "largest_grams",
    "mean_hessian",
    "mean_hessian_product",
]

# Hessians of more parameters are not made, only their products with vectors.
HESSIANS_UP_TO = 2500


class Curvature(NamedTuple):
    """Extreme Hessian eigenvalues: over all f_i, and of f itself."""

    smoothness: float
    strong_convexity: float
    mean_smoothness: float
    mean_strong_convexity: float


def curvature_at(f: PenalisedLoss, x: np.ndarray) -> Curvature:
    """The extreme Hessian eigenvalues at a point ``(d,)``.

    Raises:
        ValueError: more parameters than Hessians are made of.
    """
    if f.d > HESSIANS_UP_TO:
        raise ValueError(f"Hessians of {f.d} parameters are not made; at most {HESSIANS_UP_TO} are")
    each = np.array([np.linalg.eigvalsh(hessian(f, i, x))[[0, -1]] for i in range(f.n)])
    mean = np.linalg.eigvalsh(mean_hessian(f, x))
    return Curvature(*map(float, (each[:, 1].max(), each[:, 0].min(), mean[-1], mean[0])))


def mean_hessian(f: PenalisedLoss, x: np.ndarray) -> np.ndarray:
    """∇²f(x) at x ``(d,)``, ``(d, d)``."""
    return _weighted_hessian(f, x, range(len(f.parts)), None) / f.n + np.diag(f.penalty)


def hessian(f: PenalisedLoss, worker: int, x: np.ndarray) -> np.ndarray:
    """∇²f_i(x) of one worker at x ``(d,)``, ``(d, d)``.

    Raises:
        IndexError: no such worker.
    """
    for number, (block, _) in enumerate(f.parts):
        members = np.arange(f.n)[block.workers]
        if worker in members:
            k = int(np.flatnonzero(members == worker)[0])
            return _weighted_hessian(f, x, [number], k) + np.diag(f.penalty)
    raise IndexError(f"there are workers 0 to {f.n - 1}, and no {worker}")


def _weighted_hessian(
    f: PenalisedLoss, x: np.ndarray, numbers: Iterable[int], k: int | None
) -> np.ndarray:
    """Σ w aaᵀ ⊗ (curvature by the scores) over the examples of blocks, or of a block's worker k."""
    p, c = f.feature_count, f.score_count
    result = np.zeros((p, c, p, c))
    for number in numbers:
        block, loss = f.parts[number]
        z = f.products(block, real_array(x, "x")[:, None])
        features = block.pooled
        kept = slice(None) if k is None else block.positions(k)
        features = features[kept]
        if c == 1:
            curvature = loss.curvature(z).ravel()[kept]
            result[:, 0, :, 0] += _gram(features, curvature)
            continue
        probabilities = loss.probabilities(z)[..., 0].reshape(-1, c)[kept]
        weights = loss.weights.ravel()[kept]
        for a in range(c):
            for b in range(a, c):
                curvature = probabilities[:, a] * ((a == b) - probabilities[:, b]) * weights
                gram = _gram(features, curvature)
                result[:, a, :, b] += gram
                if a != b:
                    result[:, b, :, a] += gram
    return result.reshape(f.d, f.d)


def mean_hessian_product(f: PenalisedLoss, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """v → ∇²f(x) v, without the matrix."""
    parts: list[tuple[Matrix, np.ndarray, np.ndarray | None]] = []
    for block, loss in f.parts:
        z = f.products(block, x[:, None])
        if f.score_count == 1:
            parts.append((block.pooled, loss.curvature(z).ravel()[:, None], None))
        else:
            weights = loss.weights.ravel()[:, None]
            parts.append((block.pooled, weights, loss.probabilities(z)[..., 0]))

    def product(v: np.ndarray) -> np.ndarray:
        total = f.penalty * v.ravel()
        for features, weights, probabilities in parts:
            change = features @ v.reshape(f.feature_count, -1)
            if probabilities is not None:
                p = probabilities.reshape(change.shape)
                change = p * (change - (p * change).sum(axis=1, keepdims=True))
            total += (features.T @ (weights * change)).ravel() / f.n
        return total

    return product


def largest_grams(f: PenalisedLoss) -> tuple[np.ndarray, float]:
    """Largest eigenvalue of Σ_j w_j a_j a_jᵀ: of each worker, ``(n,)``, and of their mean.

    Times the largest second derivative of the loss in its scores it is what no Hessian exceeds.
    """
    each = np.empty(f.n)
    for block, loss in f.parts:
        for k, worker in enumerate(np.arange(f.n)[block.workers]):
            rows = block.positions(k)
            each[worker] = _largest_eigenvalue([(block.pooled[rows], loss.weights.ravel()[rows])])
    every = [(block.pooled, loss.weights.ravel()) for block, loss in f.parts]
    return each, _largest_eigenvalue(every) / f.n


def _gram(features: Matrix, weights: np.ndarray) -> np.ndarray:
    """Σ_j w_j a_j a_jᵀ, a dense matrix."""
    if isinstance(features, np.ndarray):
        return features.T @ (features * weights[:, None])
    return (features.T @ features.multiply(weights[:, None]).tocsr()).toarray()


def _largest_eigenvalue(parts: list[tuple[Matrix, np.ndarray]]) -> float:
    """Of Σ w aaᵀ over the examples of all parts."""
    width = parts[0][0].shape[1]
    if width <= 200:
        return float(np.linalg.eigvalsh(sum(_gram(a, w) for a, w in parts))[-1])
    count = sum(len(w) for _, w in parts)
    if count <= 200:
        stacked = [
            a * np.sqrt(w)[:, None]
            if isinstance(a, np.ndarray)
            else a.multiply(np.sqrt(w)[:, None])
            for a, w in parts
        ]
        whole = vstack([csr_array(a) for a in stacked])
        return float(np.linalg.eigvalsh((whole @ whole.T).toarray())[-1])

    def product(v: np.ndarray) -> np.ndarray:
        return sum(a.T @ (w * (a @ v.ravel())) for a, w in parts)

    start = np.ones(width)
    found = eigsh(LinearOperator((width, width), matvec=product), 1, v0=start, tol=1e-12)[0]
    return float(found[0])
