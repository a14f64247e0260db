"""The measures that are ready: the columns that histories have by themselves, and others by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from relaysim.measures.block import Block, Shared
from relaysim.measures.measure import Measure, Noise
from relaysim.problems.problem import Problem, knows_optimum
from relaysim.support.labels import AXIS_LABELS

__all__ = [
    "READY",
    "accuracy",
    "consensus_distance",
    "default_measures",
    "distance",
    "gradient_norm",
    "margin",
    "max_consensus_distance",
    "subgradient_norm",
    "suboptimality",
    "value",
    "worker_consensus_distance",
    "worker_distance",
    "worst_distance",
]


def _distance(block: Block) -> np.ndarray:
    # (1/n) Σ‖x_i − x*‖² = Ξ² + ‖x̄ − x*‖², both terms non-negative: nothing cancels.
    of_mean = np.einsum("dk,dk->k", block.errors, block.errors)
    return block.consensus_distance + block.of_points(of_mean)


def _gradient_norm(block: Block) -> np.ndarray:
    gradient = block.mean_gradient
    return block.of_points(np.einsum("dk,dk->k", gradient, gradient))


def _subgradient_norm(block: Block) -> np.ndarray:
    subgradient = block.shortest_subgradient
    return block.of_points(np.einsum("dk,dk->k", subgradient, subgradient))


def _accuracy(block: Block) -> np.ndarray:
    test_accuracy = getattr(block.problem, "test_accuracy", None)
    if test_accuracy is None:
        raise ValueError(
            "accuracy needs a problem with test data; give them to it: "
            "relaysim.problems.Logistic(…, test=(features, labels))"
        )
    found = np.full(block.points.shape[1], np.nan)
    finite = block.is_finite.ravel()
    if finite.any():
        found[finite] = test_accuracy(block.points[:, finite])
    return block.of_points(found)


def _margin(block: Block) -> np.ndarray:
    margin = getattr(block.problem, "margin", None)
    if not callable(margin):
        raise ValueError(
            "margin needs a problem that classifies, with a method margin(x), such as "
            "relaysim.problems.Logistic"
        )
    return block.of_points(margin(block.points))


def _expected_value(at_rest: float, noise: Noise) -> float:
    """f is quadratic: E f(x̄) = f(E x̄) + ½ tr(H̄ Cov x̄)."""
    return at_rest + 0.5 * float(np.sum(noise.mean_hessian * noise.mean_covariance))


def _expected_gradient_norm(at_rest: float, noise: Noise) -> float:
    hessian = noise.mean_hessian
    return at_rest + float(np.sum(hessian * (noise.mean_covariance @ hessian)))


suboptimality = Measure(
    "suboptimality",
    Shared(lambda block: block.of_points(block.suboptimality), "mean", "suboptimality"),
    r"Suboptimality $f(\bar{x}) - f(x^\star)$",
    needs_optimum=True,
    expectation=_expected_value,
)
value = Measure(
    "value",
    Shared(lambda block: block.of_points(block.values), "mean"),
    r"Loss $f(\bar{x})$",
    expectation=_expected_value,
)
consensus_distance = Measure(
    "consensus_distance",
    Shared(lambda block: block.consensus_distance, "spread"),
    r"Consensus distance, mean of $\|x_i - \bar{x}\|^2$",
    expectation=lambda at_rest, noise: at_rest + noise.consensus,
)
distance = Measure(
    "distance",
    Shared(_distance, "spread"),
    r"Distance, mean of $\|x_i - x^\star\|^2$",
    needs_optimum=True,
    expectation=lambda at_rest, noise: (
        at_rest + noise.consensus + float(np.trace(noise.mean_covariance))
    ),
)
gradient_norm = Measure(
    "gradient_norm",
    Shared(_gradient_norm, "mean", "mean_gradient"),
    r"Gradient norm $\|\nabla f(\bar{x})\|^2$",
    expectation=_expected_gradient_norm,
)
subgradient_norm = Measure(
    "subgradient_norm",
    Shared(_subgradient_norm, "mean", "mean_gradient"),
    r"Shortest subgradient, squared, at $\bar{x}$",
)
worst_distance = Measure(
    "worst_distance",
    Shared(lambda block: block.distances.max(axis=1)),
    r"Worst distance, largest $\|x_i - x^\star\|^2$",
    needs_optimum=True,
)
max_consensus_distance = Measure(
    "max_consensus_distance",
    Shared(lambda block: block.consensus_distances.max(axis=1)),
    r"Largest consensus distance $\|x_i - \bar{x}\|^2$",
)
accuracy = Measure("accuracy", Shared(_accuracy, "mean"), r"Accuracy of $\bar{x}$ on the test data")
margin = Measure("margin", Shared(_margin, "mean"), r"Margin of $\bar{x}$")
worker_distance = Measure(
    "worker_distance",
    Shared(lambda block: block.distances),
    r"Distance of each worker $\|x_i - x^\star\|^2$",
    needs_optimum=True,
    per_worker=True,
)
worker_consensus_distance = Measure(
    "worker_consensus_distance",
    Shared(lambda block: block.consensus_distances),
    r"Consensus distance of each worker $\|x_i - \bar{x}\|^2$",
    per_worker=True,
)

_DEFAULT = (suboptimality, value, consensus_distance, distance, gradient_norm)

#: All of them by name.
READY: Mapping[str, Measure] = {
    measure.name: measure for measure in tuple(globals().values()) if isinstance(measure, Measure)
}
AXIS_LABELS.update({name: measure.axis_label for name, measure in READY.items()})


def default_measures(problem: Problem) -> tuple[Measure, ...]:
    """The columns that a history has by itself.

    Where the optimum of the problem is not known f(x̄) is among them, and the margin if it classifies. Where
    there is a term without gradient the shortest subgradient stands in the place of the gradient.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> [measure.name for measure in default_measures(problem)]
    ['suboptimality', 'consensus_distance', 'distance', 'gradient_norm']
    """
    offered = _DEFAULT
    if getattr(problem, "regularizer", None) is not None:
        offered = (*_DEFAULT[:-1], subgradient_norm)  # in the place of gradient_norm
    if not knows_optimum(problem):
        known = tuple(measure for measure in offered if not measure.needs_optimum)
        return (*known, margin) if callable(getattr(problem, "margin", None)) else known
    return tuple(measure for measure in offered if measure is not value)
