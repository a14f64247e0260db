"""Losses of linear models: of one margin (two classes), and of one score for each class.

Products of examples and parameters come as ``(…, c·r)``: for every example c scores (one for two
classes), each with r replicas. Weights include 1/m_i, so that sums over a worker's examples are means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import numpy as np

from relaysim.problems.binary_divergence import (
    DIGITS_LEFT,
    EXTREME,
    BinaryDivergence,
    largest_sizes,
)
from relaysim.problems.example_blocks import Positions

__all__ = ["BinaryLoss", "ExponentialLoss", "SoftmaxLoss"]

# Up to this an exponential without its first two terms is expanded, until the rest is below rounding.
BEYOND_LINEAR_UP_TO, ROUNDING = 0.25, 1e-17
# A mean of logarithms is below `DIGITS_LEFT` where no score changes by more than this.
NEAR = 0.03
# So many numbers at a time, of which there are some arrays.
CACHED = 1 << 14


class _MarginLoss:
    """A loss of yz for y = ±1 and the score z.

    Args:
        codes: class numbers 0 and 1 of the examples, any shape.
        weights: of the same shape; 0 for what is no example.
    """

    score_count = 1

    def __init__(self, codes: np.ndarray, weights: np.ndarray):
        self.signs = np.where(codes == 1, 1.0, -1.0)
        self.weights = weights
        self._y = self.signs[..., None]
        self._scale = (-self.signs * weights)[..., None]

    def of(self, positions: Positions, weight: np.ndarray | None = None) -> Self:
        """The loss of some of the examples, with their own or other weights: its slopes."""
        chosen = type(self).__new__(type(self))
        chosen._y = self._y[positions]
        chosen._scale = self._scale[positions] if weight is None else -weight * chosen._y
        return chosen

    def wrong(self, z: np.ndarray) -> np.ndarray:
        """Which examples have a margin that is not positive."""
        return (self._y * z)[..., 0] <= 0


class BinaryLoss(_MarginLoss):
    """log(1 + e^{−yz}) for y = ±1 and the score z; see `_MarginLoss`."""

    #: The largest second derivative of the loss by a score.
    largest_curvature = 0.25

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """Weighted first derivatives −y w / (1 + e^{yz}), accurate at any margin, in place of z."""
        z *= self._y
        np.exp(z, out=z)
        z += 1.0
        return np.divide(self._scale, z, out=z)

    def total(self, z: np.ndarray) -> np.ndarray:
        """Weighted sum over all examples, ``(r,)``."""
        margins = self._y * z
        losses = np.maximum(-margins, 0) + np.log1p(np.exp(-np.abs(margins)))
        return np.tensordot(self.weights, losses, axes=self.weights.ndim)

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """Of the classes 0 and 1, ``(…, 2, r)``."""
        upper = 1 / (1 + np.exp(-z))
        return np.stack([1 / (1 + np.exp(z)), upper], axis=-2)

    def curvature(self, z: np.ndarray) -> np.ndarray:
        """Weighted second derivatives w s(1 − s) at one point, of the shape of the codes."""
        z = np.abs(z[..., 0])
        shrunk = np.exp(-z)
        return self.weights * shrunk / (1 + shrunk) ** 2

    def divergence(self, change: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Weighted sum of ℓ(z* + δ) − ℓ(z*) − ℓ'(z*)δ ≥ 0, without cancellation, ``(r,)``.

        Args:
            change: δ, ``(N, r)``; overwritten.
            reference: z*, ``(N, 1)``.
        """
        return self._divergence_from(reference).of(change)

    def divergence_and_slopes(
        self, change: np.ndarray, reference: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, and `slopes` at z* + δ, ``(N, r)``, from the same exponentials."""
        return self._divergence_from(reference).with_slopes(change)

    def _divergence_from(self, reference: np.ndarray) -> BinaryDivergence:
        """Remembered for one reference."""
        known = getattr(self, "_known_divergence", None)
        if known is None or known[0] is not reference:
            found = BinaryDivergence(self.signs, self.weights, reference)
            known = self._known_divergence = reference, found
        return known[1]


class ExponentialLoss(_MarginLoss):
    """e^{−yz} for y = ±1 and the score z; see `_MarginLoss`."""

    #: No bound: the second derivative grows with the loss.
    largest_curvature = np.inf

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """Weighted first derivatives −y w e^{−yz}, in place of z."""
        z *= -self._y
        np.exp(z, out=z)
        z *= self._scale
        return z

    def total(self, z: np.ndarray) -> np.ndarray:
        """Weighted sum over all examples, ``(r,)``."""
        return np.tensordot(self.weights, self._losses(z), axes=self.weights.ndim)

    def curvature(self, z: np.ndarray) -> np.ndarray:
        """Weighted second derivatives w e^{−yz} at one point, of the shape of the codes."""
        return self.weights * self._losses(z)[..., 0]

    def divergence(self, change: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Weighted sum of ℓ(z* + δ) − ℓ(z*) − ℓ'(z*)δ = ℓ(z*)(e^{−yδ} − 1 + yδ) ≥ 0, ``(r,)``.

        Args:
            change: δ, ``(N, r)``; overwritten.
            reference: z*, ``(N, 1)``.
        """
        y = self._y.reshape(-1, 1)
        change *= -y
        at_reference = self.weights.ravel() * np.exp(-y * reference)[:, 0]
        return at_reference @ _beyond_linear(change)

    def divergence_and_slopes(
        self, change: np.ndarray, reference: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, and `slopes` at z* + δ, ``(N, r)``."""
        slopes = self.slopes((reference + change).reshape(*self.weights.shape, -1))
        return self.divergence(change, reference), slopes.reshape(change.shape)

    def _losses(self, z: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.exp(-self._y * z)


class SoftmaxLoss:
    """log Σ_c e^{z_c} − z_y for class y and a score for each class.

    Args:
        codes: class numbers of the examples, any shape.
        weights: of the same shape; 0 for what is no example.
        classes: how many.
    """

    largest_curvature = 0.5

    def __init__(self, codes: np.ndarray, weights: np.ndarray, classes: int):
        self.score_count = classes
        self.weights = weights
        self.codes = codes
        self._is_class = (codes[..., None] == np.arange(classes))[..., None].astype(float)
        self._scale = weights[..., None, None]

    def of(self, positions: Positions, weight: np.ndarray | None = None) -> SoftmaxLoss:
        """The loss of some of the examples, with their own or other weights: its slopes."""
        chosen = SoftmaxLoss.__new__(SoftmaxLoss)
        chosen.score_count = self.score_count
        chosen._is_class = self._is_class[positions]
        if weight is None:
            chosen._scale = self._scale[positions]
        else:  # which replicas may share: blocks are along the first axis of all
            chosen._scale = np.broadcast_to(weight[..., None], (*chosen._is_class.shape[:-2], 1, 1))
        return chosen

    def _by_class(self, z: np.ndarray) -> np.ndarray:
        return z.reshape(*z.shape[:-1], self.score_count, -1)

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """Weighted first derivatives w(p_c − [c = y]) by every score, in place of z."""
        by_class = self._by_class(z)
        for rows in _row_blocks(by_class):
            part = _softmax(by_class[rows])
            part -= self._is_class[rows]
            part *= self._scale[rows]
        return by_class.reshape(z.shape)

    def total(self, z: np.ndarray) -> np.ndarray:
        """Weighted sum over all examples, ``(r,)``."""
        by_class = self._by_class(z)
        own = (by_class * self._is_class).sum(axis=-2)
        return np.tensordot(self.weights, _log_sum(by_class) - own, axes=self.weights.ndim)

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """Of every class, ``(…, c, r)``."""
        return _softmax(self._by_class(z).copy())

    def wrong(self, z: np.ndarray) -> np.ndarray:
        """Which examples have another score that is not below that of their class."""
        by_class = self._by_class(z)[..., 0]
        own = self._is_class[..., 0] > 0
        return by_class[own].reshape(own.shape[:-1]) <= np.where(own, -np.inf, by_class).max(-1)

    def divergence(self, change: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Weighted sum of ℓ(z* + δ) − ℓ(z*) − ∇ℓ(z*)·δ ≥ 0, without cancellation, ``(r,)``.

        Args:
            change: δ, ``(N, c·r)``.
            reference: z*, ``(N, c)``.

        With p = softmax(z*) and η = δ − Σ p δ each is log Σ_c p_c e^{η_c}.
        """
        by_class = self._by_class(reference)
        log_p = by_class - _log_sum(by_class)[..., None, :]
        raw, weights = self._by_class(change), self.weights.ravel()
        flat = raw.reshape(-1, raw.shape[-1])
        largest = largest_sizes(flat)
        # Next to 1 a small sum has no digits; e^η, with η up to twice the change, may overflow.
        sure = (largest > NEAR) & (largest <= EXTREME)
        result = np.zeros(raw.shape[-1])
        if sure.any():
            result[sure] = self._mean(_log_mean, log_p, raw, sure)
            sure &= result > DIGITS_LEFT * weights.sum()
        if not sure.all():
            result[~sure] = self._mean(_log_mean_to_all_digits, log_p, raw, ~sure)
        return result

    def divergence_and_slopes(
        self, change: np.ndarray, reference: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, and `slopes` at z* + δ, ``(N, c·r)``: w(p_c e^{η_c} / Σ p e^η − [c = y])."""
        by_class, raw = self._by_class(reference), self._by_class(change)
        largest = largest_sizes(change).reshape(self.score_count, -1).max(axis=0)
        if not (largest <= EXTREME).all():
            there = (by_class + raw).reshape(*self.weights.shape, -1)
            return self.divergence(change, reference), self.slopes(there).reshape(change.shape)
        log_p = by_class - _log_sum(by_class)[..., None, :]
        p, weights = np.exp(log_p[..., 0]), self.weights.ravel()
        is_class = self._is_class.reshape(-1, self.score_count, 1)
        slopes, logarithms = np.empty(raw.shape), np.empty((len(raw), raw.shape[-1]))
        for rows in _row_blocks(raw):
            part, total = _tilted(p[rows], raw[rows], slopes[rows])
            np.log(total, out=logarithms[rows])
            part /= total[:, None]
            part -= is_class[rows]
            part *= weights[rows, None, None]
        found = weights @ logarithms
        lost = ~((largest > NEAR) & (found > DIGITS_LEFT * weights.sum()))
        if lost.any():
            found[lost] = self._mean(_log_mean_to_all_digits, log_p, raw, lost)
        return found, slopes.reshape(change.shape)

    def _mean(
        self,
        formula: Callable[[np.ndarray, np.ndarray], np.ndarray],
        log_p: np.ndarray,
        raw: np.ndarray,
        some: np.ndarray,
    ) -> np.ndarray:
        """Weighted, of some replicas' examples."""
        raw = raw if some.all() else raw[..., some]
        found = np.empty((len(raw), raw.shape[-1]))
        for rows in _row_blocks(raw):
            found[rows] = formula(log_p[rows], raw[rows])
        return self.weights.ravel() @ found


def _log_mean(log_p: np.ndarray, change: np.ndarray) -> np.ndarray:
    """log Σ_c p_c e^{η_c} with η = δ − Σ p δ, for p ``(N, c, 1)`` and δ ``(N, c, r)``, ``(N, r)``."""
    return np.log(_tilted(np.exp(log_p[..., 0]), change, np.empty(change.shape))[1])


def _tilted(p: np.ndarray, change: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p_c e^{η_c} with η = δ − Σ p δ in ``out``, and its sum over classes, for p ``(N, c)``."""
    np.subtract(change, np.einsum("jc,jcr->jr", p, change)[:, None], out=out)
    np.exp(out, out=out)
    out *= p[..., None]
    return out, out.sum(axis=1)


def _log_mean_to_all_digits(log_p: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The same as log(1 + Σ_c p_c (e^{η_c} − 1 − η_c)), all of whose terms are non-negative."""
    p = np.exp(log_p[..., 0])
    mean = np.einsum("jc,jcr->jr", p, change)
    centered = change - mean[:, None]
    found = np.log1p(np.einsum("jc,jcr->jr", p, _beyond_linear(centered)))
    if not max(np.abs(change).max(), np.abs(centered).max()) <= EXTREME:
        # A class that has no probability at x* may come to have the highest score.
        extreme = np.maximum(np.abs(change), np.abs(centered)).max(axis=-2) > EXTREME
        found = np.where(extreme, _log_sum(log_p + change) - mean, found)
    return found


def _row_blocks(z: np.ndarray) -> list[slice]:
    """Slices over the first axis in which numbers stay in the cache."""
    length = max(1, CACHED // math.prod(z.shape[1:]))
    return [slice(start, start + length) for start in range(0, len(z), length)]


def _softmax(z: np.ndarray) -> np.ndarray:
    """In place, over the last but one axis."""
    z -= z.max(axis=-2, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=-2, keepdims=True)
    return z


def _log_sum(z: np.ndarray) -> np.ndarray:
    """log Σ e^z over the last but one axis."""
    largest = z.max(axis=-2, keepdims=True)
    return np.log(np.exp(z - largest).sum(axis=-2)) + largest[..., 0, :]


def _beyond_linear(x: np.ndarray) -> np.ndarray:
    """e^x − 1 − x ≥ 0 to full relative accuracy: a series near 0, where the difference has few digits."""
    size = np.abs(x)
    far = ~(size < BEYOND_LINEAR_UP_TO)
    any_far = bool(far.any())
    near = np.where(far, 0.0, x) if any_far else x
    largest = BEYOND_LINEAR_UP_TO if any_far else float(size.max(initial=0))
    terms = 3
    while largest ** (terms - 1) / math.factorial(terms + 1) > ROUNDING:
        terms += 1
    found = np.full_like(near, 1 / math.factorial(terms))
    for k in range(terms - 1, 1, -1):
        found *= near
        found += 1 / math.factorial(k)
    found *= near
    found *= near
    if any_far:
        np.expm1(x, out=found, where=far)
        np.subtract(found, x, out=found, where=far)
    return found
