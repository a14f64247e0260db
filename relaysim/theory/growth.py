"""log ρ(γ) of a method: at which rates it is looked at, and what is known when that is interrupted."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from scipy.sparse import csr_array

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.support.progress import ProgressBar, progress_bar
from relaysim.theory.affine import AffineStep
from relaysim.theory.durations import (
    TimeLimit,
    assembly_seconds,
    product_seconds,
    radius_products,
    taken_by,
)
from relaysim.theory.iteration import How, Mode, Search
from relaysim.theory.linear import Linearization
from relaysim.theory.pencil import pencil_of
from relaysim.theory.spectra import NEUTRAL, product, spectral_radius
from relaysim.topologies import Topology, TreePair

__all__ = ["BestRate", "Growth"]

# The rates that are tried first: from SMALLEST/L, finely from FINE_FROM/L on.
SMALLEST, FINE_FROM, MOST = 1e-6, 1e-2, 1e5
COARSE_RATIO, FINE_RATIO = 4.0, 1.15
# Rounding leaves nothing of the leading coefficient of a polynomial of higher degree.
MOST_DEGREE = 16
# Directions whose curvature is below this share of the largest are taken not to be seen by f; not looked for
# in more parameters than these.
FLAT, MOST_DIRECTIONS = 1e-8, 2000
# A log ρ below this is found precisely.
NEARLY_NEUTRAL = 1e-5
# A slope is that to a rate so much higher.
HIGHER = 1e-8
# What stands for a log ρ that differs from 0 by less than rounding.
HIDDEN = 1e-300


class BestRate(NamedTuple):
    """A learning rate and the spectral radius that it has."""

    learning_rate: float
    spectral_radius: float


class _SeenPart:
    """A quadratic problem in those directions only in which it is curved: x = U z."""

    def __init__(self, whole: AffineStep, basis: np.ndarray):
        self._curvature, self._basis = whole.curvature, basis
        self.n, self.d = whole.problem.n, basis.shape[1]
        if hasattr(whole.problem, "examples"):
            self.examples = whole.problem.examples

    def hessian_product(self, x: np.ndarray) -> np.ndarray:
        """Uᵀ H_i U z_i."""
        columns = x.reshape(self.n, self.d, -1)
        found = self._basis.T @ self._curvature(self._basis @ columns)
        return found.reshape(x.shape)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The same: where the optimum is does not matter to a radius."""
        return self.hessian_product(x)

    def value(self, x: np.ndarray) -> np.ndarray:
        """½ mean_i z_iᵀ Uᵀ H_i U z_i."""
        return 0.5 * (x * self.hessian_product(x)).sum(axis=1).mean(axis=0)


class Growth:
    """log ρ(γ) of a method; ``curvature`` is the largest one, L.

    ``on_evaluation`` is called before each ρ that is computed, and may raise.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        mixing: Mixing | None,
        seconds: float | None,
        what: str,
        refinements: int,
    ):
        check_compatible(problem, topology, algorithm)
        self._description, self._refinements = f"{algorithm.label}: {what}", refinements
        self._limit = TimeLimit(seconds, self._description, problem.n, problem.d)
        self._matrices = matrices_for(algorithm, topology, mixing)
        self.on_evaluation: Callable[[], object] = lambda: None
        self._tried: dict[float, float] = {}
        self._known: dict[tuple[str, float], tuple[float, float]] = {}
        self._take(problem, topology, algorithm)
        if problem.d <= MOST_DIRECTIONS and self(FINE_FROM / self.curvature) == 0:
            seen = self._seen_directions()
            if 0 < seen.shape[1] < problem.d:
                self._take(_SeenPart(self._map(0.0), seen), topology, algorithm)
        self._rates = self._rates_to_try()
        if self._limit.there_is_one:
            self._limit.require(self._seconds())

    def _take(self, problem: Problem, topology: Topology | TreePair, algorithm: Algorithm) -> None:
        self._given = (problem, topology, algorithm)
        self._start = np.zeros((problem.n, problem.d))
        self.curvature = self._largest_curvature()
        if self._limit.there_is_one:
            assembly = assembly_seconds(self._map(0.0))
            self._limit.require(assembly, measurement=assembly)
        self._pencil = pencil_of(self._map, self.curvature)
        self._starts: dict[int, np.ndarray] = {}
        self._modes: dict[int, list[Mode]] = {}
        self._known.clear()

    def _seen_directions(self) -> np.ndarray:
        """An orthonormal basis ``(d, k)`` of the directions in which any f_i is curved."""
        n, d = self._start.shape
        directions = np.broadcast_to(np.eye(d), (n, d, d))
        hessians = self._map(0.0).curvature(np.ascontiguousarray(directions))
        values, vectors = np.linalg.eigh(np.einsum("nij,nik->jk", hessians, hessians))
        return vectors[:, values > FLAT**2 * values[-1]]

    def _seconds(self) -> float:
        """What the search will take, from what ρ takes at one of its rates."""
        count, rate = len(self._rates) + self._refinements, self._rates[len(self._rates) // 2]
        A = self._matrices_at(rate)[0]
        least = radius_products(A) * product_seconds(A)
        self._limit.require(count * least, measurement=least)
        starts = dict(self._starts)
        found = count * taken_by(lambda: self._log_radius(rate, "rough"))
        self._starts.clear()
        self._starts.update(starts)  # what is found later does not depend on a limit
        return found

    def progress_bar(self, show: bool | None) -> ProgressBar:
        """A bar that advances with every rate tried."""
        total = len(self._rates) + self._refinements
        bar = progress_bar(total, show, self._description, "rates")
        self.on_evaluation = bar.update
        return bar

    def _map(self, rate: float) -> AffineStep:
        return AffineStep(*self._given, rate, self._matrices, self._start)

    def __call__(self, rate: float) -> float:
        return self._once("precise", rate, lambda: (self._log_radius(rate, "precise"), 0.0))[0]

    def _once(
        self, what: str, rate: float, evaluate: Callable[[], tuple[float, float]]
    ) -> tuple[float, float]:
        """log ρ and slope, as they were found before: a search that paused goes through them again."""
        if (what, rate) not in self._known:
            self.on_evaluation()
            self._known[what, rate] = evaluate()
        self._tried[rate] = self._known[what, rate][0]
        return self._known[what, rate]

    def roughly(self, rate: float) -> float:
        """log ρ(γ) to some 1e-7, and with its sign."""
        return self._once("rough", rate, lambda: (self._roughly(rate), 0.0))[0]

    def _roughly(self, rate: float) -> float:
        found = self._log_radius(rate, "rough")
        return self._log_radius(rate, "precise") if abs(found) < NEARLY_NEUTRAL else found

    def confirmed(self) -> list[tuple[float, float]]:
        """The intervals between rates that were tried and are stable, of a search that was interrupted."""
        rates = self._warned(
            f"stable are the rates between those of {len(self._tried)} that were tried"
        )
        values = _decided([self._tried[rate] for rate in rates])
        stable = [
            rate if value < 0 else math.nan for rate, value in zip(rates, values, strict=True)
        ]
        if values and values[0] < 0 and rates[0] == self._rates[0]:
            stable.insert(0, 0.0)
        groups = itertools.groupby(stable, key=math.isnan)
        ends = [(each[0], each[-1]) for gap, rates in groups if not gap and (each := list(rates))]
        return [(low, high) for low, high in ends if low < high]

    def best_so_far(self) -> BestRate | None:
        """The best of the rates that were tried, of a search that was interrupted."""
        rates = self._warned(f"the best is that of the {len(self._tried)} rates that were tried")
        best = min(rates, key=self._tried.__getitem__, default=None)
        if best is None or not self._tried[best] < 0:
            return None
        return BestRate(best, math.exp(self._tried[best]))

    def _warned(self, what: str) -> list[float]:
        """The rates that were tried, increasing; a warning says what is known."""
        message = f"{self._description} was interrupted: {what}; call it again for all of it"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        return sorted(self._tried)

    def with_slope(self, rate: float) -> tuple[float, float]:
        """log ρ(γ) and its slope, to the right where it has two."""
        return self._once("slope", rate, lambda: self._with_slope(rate))

    def _with_slope(self, rate: float) -> tuple[float, float]:
        self._modes.clear()
        here = self._log_radius(rate, "precise")
        there = self._log_radius(rate * (1 + HIGHER), "along")
        return here, (there - here) / (rate * HIGHER)

    def _log_radius(self, rate: float, how: How) -> float:
        radius = self._radius(rate, how)
        if abs(radius - 1) <= NEUTRAL:
            return 0.0  # a mode that never decays, as where the mean Hessian is singular
        return math.log(radius) if radius > 0 else -math.inf

    def _radius(self, rate: float, how: How) -> float:
        if self._pencil is None:
            return Linearization(*self._given, rate, self._matrices, self._start).spectral_radius
        matrices = self._pencil.matrices(rate)
        conserved = self._pencil.conserved(rate, matrices[0])
        search = Search(self._starts, self._modes, how)
        return spectral_radius(matrices, conserved, self._pencil.seen, search)

    def _matrices_at(self, rate: float) -> list[csr_array]:
        return self._map(rate).matrices if self._pencil is None else self._pencil.matrices(rate)

    def scan(self) -> tuple[list[float], list[float]]:
        """Rates and log ρ there, with the local extrema that lie, or may lie, on the other side of 0."""
        rates = self._rates
        self._tried.clear()
        values = [self.roughly(rate) for rate in rates]
        extra = []
        for k in range(1, len(rates) - 1):
            sign = 1 if values[k] >= 0 else -1
            before, here, after = (sign * value for value in values[k - 1 : k + 2])
            # A minimum above 0, or a maximum below it, that the curve between may carry across.
            if before >= here <= after and here >= 0 and min(before, after) > 0:
                slack = max(before, after) - here
                if here <= slack:
                    found = scipy.optimize.minimize_scalar(
                        lambda rate, sign=sign: sign * self(rate),
                        bounds=(rates[k - 1], rates[k + 1]),
                        method="bounded",
                        options={"xatol": 1e-6 * rates[k]},
                    )
                    extra.append((float(found.x), sign * float(found.fun)))
        both = sorted([*zip(rates, values, strict=True), *extra])
        return [rate for rate, _ in both], _decided([value for _, value in both])

    def _rates_to_try(self) -> list[float]:
        low, fine = SMALLEST / self.curvature, FINE_FROM / self.curvature
        top = max(self._largest_conceivable(), 2 * fine)
        coarse = _spaced(low, fine, COARSE_RATIO)
        return [*coarse[:-1], *_spaced(fine, top, FINE_RATIO)]

    def _largest_curvature(self) -> float:
        """The largest curvature along a few directions, within a small factor of L."""
        step = self._map(0.0)
        x = np.random.default_rng(0).normal(size=(*self._start.shape, 1))
        for _ in range(20):
            x = step.curvature(x)
            size = np.abs(x).max()
            if size == 0:
                raise ValueError("all gradients are constant, so that no learning rate converges")
            x /= size
        return float(size)

    def _largest_conceivable(self) -> float:
        """A rate beyond which no A(γ) is stable: a stable one has |tr A^k| ≤ N."""
        period = self._map(0.0).period
        for power in (1, 2, 3, 4):
            degree = power * period
            if degree > MOST_DEGREE:
                return MOST / self.curvature
            samples = 1.0 + np.arange(degree + 1)
            traces = []
            for sample in samples:
                matrices = self._matrices_at(sample / self.curvature)
                traces.append(product(matrices * power).trace())
            coefficients = np.linalg.solve(np.vander(samples), traces)
            level = matrices[0].shape[0]
            if abs(coefficients[0]) > 1e-6 * max(np.abs(coefficients).max(), level):
                break
        else:
            return MOST / self.curvature
        bounds = [1.0]
        for side in (level, -level):
            shifted = coefficients.copy()
            shifted[-1] -= side
            roots = np.roots(shifted)
            bounds += roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real.tolist()
        return min(1.01 * max(bounds), MOST) / self.curvature


def _decided(values: list[float]) -> list[float]:
    """log ρ at increasing rates, of those at the low end that rounding hides on the side of the first other.

    ρ(γ) leaves 1 along a line, whose slope has one sign down to 0.
    """
    first = next((k for k, value in enumerate(values) if value), 0)
    return [math.copysign(HIDDEN, values[first])] * first + values[first:]


def _spaced(low: float, high: float, ratio: float) -> list[float]:
    """Numbers from low to high whose neighbours differ by at most this ratio."""
    count = 1 + math.ceil(math.log(high / low) / math.log(ratio))
    return np.geomspace(low, high, count).tolist()
