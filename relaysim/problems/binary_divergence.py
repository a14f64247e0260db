"""How much the logistic loss of two classes is above its tangent at an optimum, however little that is."""

from __future__ import annotations

import functools

import numpy as np
from numpy.polynomial import polynomial

__all__ = ["DIGITS_LEFT", "EXTREME", "BinaryDivergence", "largest_sizes"]

# Up to this change of a score a loss is expanded around the optimum; beyond, its closed form has lost
# no more than a few digits.
SERIES_UP_TO, SERIES_TERMS = 0.3, 18
# A mean of logarithms of sums about 1 has its digits above this.
DIGITS_LEFT = 1 / 2048
# Beyond this change exponentials may leave no digit of 1 beside them, or overflow.
EXTREME = 30
# e to this, and to minus this, is a number of full precision.
LARGEST_POWER = 700


class BinaryDivergence:
    """Σ_j w_j (ℓ_j(z_j* + δ_j) − ℓ_j(z_j*) − ℓ_j'(z_j*)δ_j) ≥ 0 for ℓ_j(z) = log(1 + e^{−y_j z}).

    With s the probability of the wrong class and u = −yδ each is log(1 + s(e^u − 1)) − su: the cumulant
    generating function of a coin, without its mean.

    Args:
        signs: y = ±1 of the examples, of the shape of a block's rows.
        weights: w, likewise: one number for all examples of a row, and 0 for what is no example.
        reference: z*, ``(N, 1)``.
    """

    def __init__(self, signs: np.ndarray, weights: np.ndarray, reference: np.ndarray):
        self._against, self._by_row = -signs.reshape(-1, 1), weights
        self._weights = weights = weights.ravel()
        self._margin = signs.reshape(-1, 1) * reference
        self._wrong, self._right = 1 / (1 + np.exp(self._margin)), 1 / (1 + np.exp(-self._margin))
        self._scale = self._against * weights[:, None]
        self._coefficients = self._cumulants()

    def of(self, change: np.ndarray) -> np.ndarray:
        """For changes δ ``(N, r)``, which are overwritten, without cancellation: ``(r,)``."""
        change *= self._against
        return self._of(change, largest_sizes(change))

    def with_slopes(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and w ℓ'(z* + δ) = −y w s e^u / (1 + s(e^u − 1)), ``(N, r)``."""
        change *= self._against
        largest = largest_sizes(change)
        slopes = np.exp(change)
        ratios = self._ratios(slopes)
        found = self._of(change, largest, ratios)
        slopes *= self._scale * self._wrong
        slopes /= ratios
        extreme = ~(largest <= EXTREME)
        if extreme.any():
            slopes[:, extreme] = self._scale / (1 + np.exp(self._margin - change[:, extreme]))
        return found, slopes

    def _of(
        self, change: np.ndarray, largest: np.ndarray, ratios: np.ndarray | None = None
    ) -> np.ndarray:
        """Of u, whose largest sizes are these; the `_ratios` if they are known."""
        small = largest <= SERIES_UP_TO
        far = ~small & (largest <= EXTREME)
        result = np.empty(change.shape[1])
        if far.any():
            some = _columns(change, far)
            ratios = self._ratios(np.exp(some)) if ratios is None else _columns(ratios, far)
            logarithms = self._sum_of_logarithms(ratios, float(largest[far].max()))
            result[far] = logarithms - self._coefficients[1] @ some
            # Next to 1 a small sum has no digits.
            far &= result > DIGITS_LEFT * self._weights.sum()
        if small.any():
            result[small] = self._series(_columns(change, small), float(largest[small].max()))
        others = ~(small | far)
        if others.any():
            result[others] = self._to_all_digits(_columns(change, others), largest[others].max())
        return result

    def _ratios(self, powers: np.ndarray) -> np.ndarray:
        """1 + s(e^u − 1) = e^{ℓ(z* + δ) − ℓ(z*)} from e^u, ``(N, r)``."""
        found = powers * self._wrong
        found += self._right
        return found

    def _sum_of_logarithms(self, ratios: np.ndarray, largest: float) -> np.ndarray:
        """Weighted, of numbers between e^{−largest} and e^{largest}, ``(N, r)``.

        As many of a row as cannot overflow are multiplied first: a logarithm takes as long as many products.
        """
        if self._by_row.ndim == 1:
            return self._weights @ np.log(ratios)
        by_row = ratios.reshape(*self._by_row.shape, -1)
        weights, at_once = self._by_row.max(axis=1), int(LARGEST_POWER / largest)
        found = np.zeros(ratios.shape[1])
        for begin in range(0, by_row.shape[1], at_once):
            found += weights @ np.log(by_row[:, begin : begin + at_once].prod(axis=1))
        return found

    def _series(self, change: np.ndarray, largest: float) -> np.ndarray:
        """Σ_j Σ_{k ≥ 2} coefficients_kj u_j^k for every column."""
        power = change * change
        result = self._coefficients[2] @ power
        for k in range(3, SERIES_TERMS):
            # Cumulants of a coin grow no faster than k! / π^k: the rest is below rounding.
            if (largest / np.pi) ** (k - 2) < 1e-16:
                break
            power *= change
            result += self._coefficients[k] @ power
        return result

    def _to_all_digits(self, change: np.ndarray, largest: float) -> np.ndarray:
        found = np.expm1(change)
        found *= self._wrong
        np.log1p(found, out=found)
        far = np.abs(change) > 1
        if far.any():
            # Beside s near 1 little is left of 1 + s(e^u − 1), but not of (1 − s) + s e^u.
            found[far] = np.log(self._ratios(np.exp(change)))[far]
        if not largest <= EXTREME:
            # e^u may be infinite, or 1 + s(…) without digits: the difference of the losses itself.
            where = np.abs(change) > EXTREME
            margins = np.broadcast_to(self._margin, change.shape)[where]
            found[where] = np.logaddexp(0, change[where] - margins) - np.logaddexp(0, -margins)
        return self._weights @ found - self._coefficients[1] @ change

    def _cumulants(self) -> list[np.ndarray]:
        """w κ_k(s) / k! for every example, k < SERIES_TERMS."""
        weights, wrong, variance = (
            self._weights,
            self._wrong[:, 0],
            (self._wrong * self._right)[:, 0],
        )
        found, factorial = [weights, weights * wrong], 1.0
        for k, factor in enumerate(_cumulant_factors(), start=2):
            factorial *= k
            found.append(weights * variance * polynomial.polyval(wrong, factor) / factorial)
        return found


def largest_sizes(change: np.ndarray) -> np.ndarray:
    """The largest size of each column; NaN where there is one."""
    return np.maximum(change.max(axis=0), -change.min(axis=0))


def _columns(of_all: np.ndarray, some: np.ndarray) -> np.ndarray:
    return of_all if some.all() else of_all[:, some]


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
