"""Whether a hyperplane separates classes, so that a loss that no penalty holds has no minimiser."""

from __future__ import annotations

import numpy as np
import scipy
from scipy.sparse import csr_array, hstack, kron, vstack

from relaysim.problems.curvature import HESSIANS_UP_TO, mean_hessian
from relaysim.problems.penalised_loss import PenalisedLoss

__all__ = ["has_optimum_near", "separates"]


def separates(f: PenalisedLoss, x: np.ndarray) -> bool:
    """Whether every example's own class has the highest score at x ``(d,)``: then no optimum exists."""
    return not any(
        (loss.wrong(f.products(block, x[:, None])) & block.is_real).any() for block, loss in f.parts
    )


def has_optimum_near(f: PenalisedLoss, x: np.ndarray, converged: bool) -> bool:
    """Without a penalty: whether no direction separates classes, be it in some examples only.

    Args:
        f: the loss.
        x: where Newton's method stopped, ``(d,)``.
        converged: whether the gradient counts as 0 there.
    """
    if separates(f, x):
        return False
    if converged and f.d <= HESSIANS_UP_TO:
        # Where a direction separates, curvature along it has vanished before the gradient did.
        at_zero, here = mean_hessian(f, np.zeros(f.d)), mean_hessian(f, x)
        values, vectors = np.linalg.eigh(at_zero)
        if not values[-1] > 0:
            return True  # f is constant
        kept = values > 1e-12 * values[-1]
        scaled = vectors[:, kept] / np.sqrt(values[kept])
        if np.linalg.eigvalsh(scaled.T @ here @ scaled)[0] > 1e-6:
            return True
    return not _some_direction_separates(f)


def _some_direction_separates(f: PenalisedLoss) -> bool:
    """By linear programming: max Σ t with 0 ≤ t ≤ 1 and t below the margins of a direction."""
    margins = _margins(f)
    count = margins.shape[0]
    identity = csr_array((np.ones(count), (np.arange(count),) * 2))
    found = scipy.optimize.linprog(
        np.concatenate([np.zeros(f.d), -np.ones(count)]),
        A_ub=hstack([-margins, identity]),
        b_ub=np.zeros(count),
        bounds=[(None, None)] * f.d + [(0, 1)] * count,
        method="highs",
    )
    return bool(found.status != 0 or -found.fun > 1e-6)


def _margins(f: PenalisedLoss) -> csr_array:
    """The linear map from x to each example's score of its own class less that of another."""
    features = vstack([csr_array(block.pooled[block.is_real.ravel()]) for block, _ in f.parts])
    if f.score_count == 1:
        signs = np.concatenate([loss.signs[block.is_real] for block, loss in f.parts])
        return features.multiply(signs[:, None]).tocsr()
    codes = np.concatenate([loss.codes[block.is_real] for block, loss in f.parts])
    unit = np.eye(f.score_count)
    return vstack(
        [
            kron(features[codes == own], unit[own] - unit[[other]])
            for own in range(f.score_count)
            for other in range(f.score_count)
            if other != own
        ]
    )
