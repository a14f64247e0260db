"""Losses of linear models: of one margin (two classes), and of one score for each class.

Products of examples and parameters come as ``(…, c·r)``: for every example c scores (one for two
classes), each with r replicas. Weights include 1/m_i, so that sums over a worker's examples are means.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.polynomial import polynomial

from relaysim.problems.example_blocks import Positions

__all__ = ["BinaryLoss", "ExponentialLoss", "SoftmaxLoss"]

# Up to this change of a score a loss is expanded around the optimum; beyond, its closed form has lost
# no more than a few digits.
SERIES_UP_TO, SERIES_TERMS = 0.02, 10
# The same of an exponential without its first two terms, of which the rest is below rounding.
BEYOND_LINEAR_UP_TO, BEYOND_LINEAR_TERMS = 0.25, 13
# A mean of logarithms of sums about 1 has its digits above this. It is below where no score changes by more
# than `NEAR`.
DIGITS_LEFT, NEAR = 1 / 256, 0.04
# So many numbers at a time, of which there are some arrays.
CACHED = 1 << 14
# Beyond this change exponentials may leave no digit of 1 beside them, or overflow.
EXTREME = 30


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

        With s the probability of the wrong class each is log(1 + s(e^{−yδ} − 1)) + s yδ: the cumulant
        generating function of a coin, without its mean.
        """
        change *= -self._y.reshape(-1, 1)
        largest = np.maximum(change.max(axis=0), -change.min(axis=0))
        small = largest <= SERIES_UP_TO
        coefficients = self._cumulants(reference)
        if small.all():
            return _series(coefficients, change, largest.max(initial=0))
        margin = self._y.reshape(-1, 1) * reference
        if not small.any():
            return self._closed_form(coefficients[1], change, margin, largest.max())
        result = np.empty(change.shape[1])
        result[small] = _series(coefficients, change[:, small], largest[small].max())
        result[~small] = self._closed_form(
            coefficients[1], change[:, ~small], margin, largest[~small].max()
        )
        return result

    def _closed_form(
        self, means: np.ndarray, change: np.ndarray, margin: np.ndarray, largest: float
    ) -> np.ndarray:
        found = np.expm1(change)
        found *= 1 / (1 + np.exp(margin))
        np.log1p(found, out=found)
        if not largest <= EXTREME:
            # e^{−yδ} may be infinite, or 1 + s(…) without digits: the difference of the losses itself.
            where = np.abs(change) > EXTREME
            margins = np.broadcast_to(margin, change.shape)[where]
            found[where] = np.logaddexp(0, change[where] - margins) - np.logaddexp(0, -margins)
        return self.weights.ravel() @ found - means @ change

    def _cumulants(self, reference: np.ndarray) -> list[np.ndarray]:
        """w κ_k(s) / k! for every example, k < SERIES_TERMS; remembered for one reference."""
        known = getattr(self, "_known_cumulants", None)
        if known is None or known[0] is not reference:
            margin = (self._y.reshape(-1, 1) * reference)[:, 0]
            wrong, right = 1 / (1 + np.exp(margin)), 1 / (1 + np.exp(-margin))
            weights = self.weights.ravel()
            found, factorial = [weights, weights * wrong], 1.0
            for k, factor in enumerate(_cumulant_factors(), start=2):
                factorial *= k
                found.append(
                    weights * wrong * right * polynomial.polyval(wrong, factor) / factorial
                )
            known = self._known_cumulants = (reference, found)
        return known[1]


def _series(coefficients: list[np.ndarray], change: np.ndarray, largest: float) -> np.ndarray:
    """Σ_j Σ_{k ≥ 2} coefficients_kj change_j^k for every column."""
    power = change * change
    result = coefficients[2] @ power
    for k in range(3, SERIES_TERMS):
        # Cumulants of a coin grow no faster than k! / π^k: the rest is below rounding.
        if (largest / np.pi) ** (k - 2) < 1e-16:
            break
        power *= change
        result += coefficients[k] @ power
    return result


@functools.cache
def _cumulant_factors() -> list[np.ndarray]:
    """κ_k(s) / (s(1 − s)) as polynomials, k = 2, 3, …: κ_{k+1} = s(1 − s) κ_k'."""
    variance = np.array([0.0, 1.0, -1.0])
    factors, cumulant = [np.array([1.0])], variance
    while len(factors) < SERIES_TERMS - 2:
        factor = polynomial.polyder(cumulant)
        cumulant = polynomial.polymul(variance, factor)
        factors.append(factor)
    return factors


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
        chosen._scale = self._scale[positions] if weight is None else weight[..., None]
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
        largest = np.maximum(flat.max(axis=0), -flat.min(axis=0))
        # Next to 1 a small sum has no digits; e^η, with η up to twice the change, may overflow.
        sure = (largest > NEAR) & (largest <= EXTREME)
        result = np.zeros(raw.shape[-1])
        if sure.any():
            result[sure] = self._mean(_log_mean, log_p, raw, sure)
            sure &= result > DIGITS_LEFT * weights.sum()
        if not sure.all():
            result[~sure] = self._mean(_log_mean_to_all_digits, log_p, raw, ~sure)
        return result

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
    p = np.exp(log_p[..., 0])
    powers = change - np.einsum("jc,jcr->jr", p, change)[:, None]
    np.exp(powers, out=powers)
    return np.log(np.einsum("jc,jcr->jr", p, powers))


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
    far = ~(np.abs(x) < BEYOND_LINEAR_UP_TO)
    any_far = bool(far.any())
    near = np.where(far, 0.0, x) if any_far else x
    found = np.full_like(near, 1 / math.factorial(BEYOND_LINEAR_TERMS))
    for k in range(BEYOND_LINEAR_TERMS - 1, 1, -1):
        found *= near
        found += 1 / math.factorial(k)
    found *= near
    found *= near
    if any_far:
        np.expm1(x, out=found, where=far)
        np.subtract(found, x, out=found, where=far)
    return found
