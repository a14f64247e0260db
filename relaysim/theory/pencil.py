"""A step whose matrices are affine in the learning rate: A₀ + γ A₁, probed once for all rates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from relaysim.theory.affine import AffineStep, left_vectors
from relaysim.theory.assembly import close, without_rounding
from relaysim.theory.decoupling import Coordinates

__all__ = ["Pencil", "pencil_of"]

# Rates at which it is probed and tried, in units of 1/L.
OWN, OTHER = 0.375, 3.1
# At this rate nothing is left of A₀ beside γ A₁ but rounding.
FAR = 2.0**60


class _Affine:
    """A + γ B, put together once of the entries that either has."""

    def __init__(self, constant: csr_array, slope: csr_array):
        both = csr_array(constant + 1j * slope)
        self._constant, self._slope = both.data.real.copy(), both.data.imag.copy()
        self._indices, self._indptr, self._shape = both.indices, both.indptr, both.shape

    def at(self, rate: float) -> csr_array:
        data = self._constant + rate * self._slope
        # Copies, since what is 0 at a rate is taken out of them.
        return csr_array((data, self._indices.copy(), self._indptr.copy()), shape=self._shape)


class Pencil:
    """The matrices of a method at any learning rate, in units of their own.

    Attributes:
        states: N.
        period: how many matrices there are.
    """

    def __init__(self, own: Coordinates, at_rest: list[csr_array], slopes: list[csr_array]):
        step = own.step
        self.states, self.period = step.states, step.period
        self.seen = np.arange(step.states) < step.size[0] * step.size[1]
        self._own = own
        self._steps = [_Affine(A, slope) for A, slope in zip(at_rest, slopes, strict=True)]

    def matrices(self, rate: float) -> list[csr_array]:
        """A of each step of a period, ``(N, N)``."""
        return [without_rounding(step.at(rate)) for step in self._steps]

    def conserved(self, rate: float, first: csr_array) -> csr_array:
        """Left null vectors of A − I, ``(k, N)``, with the first of these matrices."""
        return left_vectors(self._quantities(rate), first)

    def _quantities(self, rate: float) -> csr_array:
        if self._affine_quantities is None:
            return self._own.quantities_at(rate)
        return self._affine_quantities.at(rate)

    @functools.cached_property
    def _affine_quantities(self) -> _Affine | None:
        """What is conserved, where it is affine in the rate too."""
        rate = self._own.step.learning_rate
        given = [self._own.quantities_at(each) for each in (0.0, rate, 8 * rate)]
        if len({each.shape for each in given}) > 1:
            return None
        slope = csr_array((given[1] - given[0]) / rate)
        error = abs(given[0] + 8 * rate * slope - given[2]).max() if given[0].shape[0] else 0.0
        fits = error <= 1e-12 * abs(given[2]).max() if given[0].shape[0] else True
        return _Affine(given[0], slope) if fits else None


def pencil_of(made: Callable[[float], AffineStep], curvature: float) -> Pencil | None:
    """The pencil of a method, from its steps at two rates, tried at a third and, made anew, at a fourth.

    Args:
        made: the map of the method at a learning rate.
        curvature: L.

    Returns:
        None where the step is not affine in the learning rate.
    """
    step = made(OWN / curvature)
    own = Coordinates(step)
    far = FAR / 2.0 ** round(math.log2(curvature))
    with np.errstate(all="ignore"):
        at_rest, at_far = own.matrices_at(0.0), own.matrices_at(far)
    slopes = [
        without_rounding(csr_array((there - here) / far))
        for here, there in zip(at_rest, at_far, strict=True)
    ]
    if not all(np.isfinite(A.data).all() for A in (*at_rest, *slopes)):
        return None
    pencil = Pencil(own, at_rest, slopes)
    other = made(OTHER / curvature)
    return pencil if all(_fits(pencil, own, each) for each in (step, other)) else None


def _fits(pencil: Pencil, coordinates: Coordinates, step: AffineStep) -> bool:
    """Whether a step does what the pencil says."""
    own = coordinates.step
    if (step.states, step.period, step.start_up) != (own.states, own.period, own.start_up):
        return False
    units = own.units / step.units
    z = np.random.default_rng(5).normal(size=(own.states, 1))
    y = coordinates.state(z)
    rate = float(np.max(step.learning_rate))
    size = 1 + rate * step.curvature_scale
    return all(
        close(
            coordinates.state(A @ z), step.linear(y * units[:, None], phase) / units[:, None], size
        )
        for phase, A in enumerate(pencil.matrices(rate))
    )
