"""What the affine map of a method tells: its rate, where it ends, its curve, and its noise floor."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator
from scipy.special import ndtr

from relaysim.algorithms.base import Rate
from relaysim.algorithms.claims import check_rates
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.measures import Noise, suboptimality
from relaysim.measures.columns import bits_of, check_shapes, measures_of, values_of
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.problems.problem import knows_optimum
from relaysim.schedules import PerWorker
from relaysim.support.checks import noise_variances, one_of, real_array, real_number, whole_number
from relaysim.support.display import LATER, html_table
from relaysim.support.starts import starting_points
from relaysim.theory.affine import AffineStep
from relaysim.theory.decoupling import Coordinates
from relaysim.theory.durations import TimeLimit, radius_seconds
from relaysim.theory.floors import Floor, NoiseWhenAsked
from relaysim.theory.spectra import NEUTRAL, fixed_point, spectral_radius
from relaysim.topologies import Topology, TreePair

__all__ = ["OF_THE_MEAN", "Linearization", "linearize", "relaxation_time"]

# Numbers of iterates that are measured at a time.
BLOCK_NUMBERS = 1 << 20
# Columns that need to know no more than how noise spreads x̄.
OF_THE_MEAN = {"suboptimality", "value", "gradient_norm"}


def linearize(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    learning_rate: float | PerWorker,
    x0: ArrayLike | None = None,
    mixing: Mixing | None = None,
    measures: Sequence[Any] | None = None,
) -> Linearization:
    """The affine map y ← A y + b that a method is on quadratics, y being its whole state.

    A and b come from the algorithm's own step, so that they hold momentum, corrections and messages.

    Args:
        problem: n workers, d parameters; every ∇f_i is affine.
        topology: as for `relaysim.simulate`.
        algorithm: one whose step is affine in its state.
        learning_rate: γ ≥ 0, constant; or `relaysim.PerWorker`, one for each worker.
        x0: ``(d,)`` or ``(n, d)``; zeros by default. It decides the curve, and where a method ends
            that keeps something of its start.
        mixing: as for `relaysim.simulate`; with a sequence A is the product over a period.
        measures: further columns, as for `relaysim.simulate`.

    Returns:
        A `Linearization`.

    Raises:
        TypeError: gradients that are not affine, or a method whose step is not.
        ValueError: what `relaysim.simulate` refuses too.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(np.ones((8, 1)), np.arange(8.0)[:, None])
    >>> linear = linearize(problem, rs.topologies.chain(8), rs.algorithms.RelaySGDGrad(), 0.1)
    >>> round(linear.spectral_radius, 4), linear.fixed_point.ravel().round(2).tolist()[:3]
    (0.8656, [3.08, 3.15, 3.27])
    """
    check_compatible(problem, topology, algorithm)
    rate = _constant_rate(learning_rate, algorithm, problem.n)
    matrices = matrices_for(algorithm, topology, mixing)
    start = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
    return Linearization(problem, topology, algorithm, rate, matrices, start, measures)


def _constant_rate(learning_rate: float | PerWorker, algorithm: Algorithm, n: int) -> Rate:
    """A number, or one for each worker, ``(n, 1, 1)``."""
    if not isinstance(learning_rate, PerWorker):
        return real_number(learning_rate, "learning_rate", 0)
    check_rates(learning_rate.rates, algorithm, n)
    scale = real_number(learning_rate.scale, "the scale of rates that are constant", 0)
    return scale * np.array(learning_rate.rates).reshape(-1, 1, 1)


class Linearization:
    """A method on a quadratic problem at a constant learning rate as an affine map; see `linearize`.

    Attributes:
        problem, topology, algorithm: what it was made of.
        learning_rate: γ; the mean over the workers where they differ.
        period: steps after which the mixing matrices repeat, else 1.
        start_up: steps before the map holds (for RelaySum: until everyone has been heard everywhere),
            rounded up to a period. They are part of `predict`.
        states: N, the length of the state y: iterates, momentum, corrections, messages.
        measures: what is measured, a `relaysim.measures.Measure` each.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        learning_rate: Rate,
        matrices: tuple[csr_array, ...],
        x0: np.ndarray,
        measures: Sequence[Any] | None = None,
    ):
        self.measures = measures_of(problem, measures)
        check_shapes(problem, x0, self.measures)
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.learning_rate = float(np.mean(learning_rate))
        self._map = AffineStep(problem, topology, algorithm, learning_rate, matrices, x0)
        self.period, self.start_up = self._map.period, self._map.start_up
        self.states = self._map.states
        self._iterates = slice(0, problem.n * problem.d)
        self._floors: dict[tuple[float, ...], Floor] = {}

    def _repr_html_(self) -> str:
        names = ("problem", "topology", "learning_rate", "states", "start_up", "period")
        rows = [(name.replace("_", " "), getattr(self, name)) for name in names]
        asked = "spectral_radius" in self.__dict__
        rows.append(("spectral radius ρ a step", self.spectral_radius if asked else LATER))
        return html_table(f"{self.algorithm!r} as an affine map", rows)

    @property
    def operator(self) -> LinearOperator:
        """A, over a period, by the algorithm's own steps: a scipy LinearOperator ``(N, N)``."""
        return self._map.operator

    @functools.cached_property
    def spectral_radius(self) -> float:
        """ρ per step: the iterates' error shrinks at least like ρ^t, the suboptimality like ρ^(2t).

        The largest modulus of the eigenvalues of A over all starting points x0, with what a step
        conserves set apart (the sum of corrections or of a tracker; with RelaySGD/Grad what workers
        keep of their starts). Modes that the iterates do not show do not count; one that they show but
        this x0, or the mean x̄, does not contain does, so that a single curve may be faster.

        Warns:
            RuntimeWarning: the eigenvalues of a very large A have not converged.
        """
        seen = np.arange(self.states) < self._iterates.stop
        where = self._coordinates
        return spectral_radius(where.matrices, where.conserved, seen)

    @functools.cached_property
    def _coordinates(self) -> Coordinates:
        return Coordinates(self._map)

    @property
    def relaxation_time(self) -> float:
        """Steps in which the iterates' error falls by the factor e: −1/ln ρ; infinite if ρ ≥ 1."""
        return relaxation_time(self.spectral_radius)

    @property
    def fixed_point(self) -> np.ndarray:
        """The iterates ``(n, d)`` that a step leaves as they are, whether stable or not.

        With a sequence of mixing matrices those at the start of a period. Where a method keeps
        something of its start, the fixed point that belongs to x0.

        Raises:
            ValueError: there is no single one, as with learning rate 0 or a singular mean Hessian.
        """
        return self._fixed_state[self._iterates].reshape(self.problem.n, self.problem.d)

    @functools.cached_property
    def _fixed_state(self) -> np.ndarray:
        found = fixed_point(self._map.matrices, self._map.offsets, self._map.conserved, self._map.y)
        if found is None:
            raise ValueError(
                f"{self.algorithm!r} with learning rate {self.learning_rate:g} has no single fixed "
                f"point here; it needs a positive learning rate and a mean Hessian that is not singular"
            )
        return found

    # -- the curve without noise -----------------------------------------------------------------------

    def iterates(self, steps: int) -> np.ndarray:
        """The iterates without noise at steps 0, 1, …, ``(steps + 1, n, d)``, from the affine map."""
        return np.concatenate(list(self._blocks(whole_number(steps, "steps", 0))))

    def _blocks(self, steps: int) -> Iterator[np.ndarray]:
        """The iterates at all steps, some at a time, ``(k, n, d)``."""
        n, d = self.problem.n, self.problem.d
        at_a_time = max(BLOCK_NUMBERS // (n * d), 1)
        y = self._map.y
        with np.errstate(all="ignore"):
            for first in range(0, steps + 1, at_a_time):
                block = np.empty((min(at_a_time, steps + 1 - first), n, d))
                for k in range(len(block)):
                    step = first + k
                    if step < self.start_up:
                        block[k] = self._map.starting[step]
                        continue
                    block[k] = y[self._iterates].reshape(n, d)
                    phase = (step - self.start_up) % self.period
                    y = self._map.matrices[phase] @ y + self._map.offsets[phase]
                yield block

    def predict(self, steps: int) -> pd.DataFrame:
        """The curve without noise, start-up included: the columns of a history, a row a step.

        Computed from the affine map, not by `relaysim.simulate`. ``seed`` is 0 and means nothing. Measures
        of every worker are left out.
        """
        count = whole_number(steps, "steps", 0) + 1
        found = {
            "replica": 0,
            "seed": 0,
            "learning_rate": self.learning_rate,
            "step": np.arange(count),
        }
        measures = [each for each in self.measures if not each.per_worker]
        with np.errstate(all="ignore"):
            parts = [values_of(self.problem, block, measures) for block in self._blocks(steps)]
        names = [each.name for each in measures]
        found |= {name: np.concatenate([part[name].ravel() for part in parts]) for name in names}
        per_step = self._map.sent_per_step
        # Added up one by one, as a run does it.
        times = np.resize([len(each) for each in per_step], max(count - self.start_up - 1, 0))
        later = np.resize(np.concatenate(per_step), times.sum())
        running = np.cumsum(np.concatenate([self._map.sent[-1:], later]))
        sent = np.concatenate([self._map.sent, running[np.cumsum(times)]])[:count]
        counts = {"vectors_sent": sent, "bits_sent": bits_of(sent, self.problem.d)}
        return pd.DataFrame(found | counts)

    def plateau(self) -> pd.Series:
        """Where the curve without noise ends, by column; with a sequence of matrices averages over a period.

        0, up to rounding, where the method is exact.

        Raises:
            ValueError: the method is not stable at this rate.
        """
        return pd.Series({name: float(values.mean()) for name, values in self._at_rest.items()})

    @property
    def _at_rest(self) -> dict[str, np.ndarray]:
        """Each measure of the fixed iterates at each step of a period, ``(period,)``."""
        self._require_stability()
        measures = [each for each in self.measures if not each.per_worker]
        found = values_of(self.problem, self._fixed_iterates, measures)
        return {name: values.ravel() for name, values in found.items()}

    # -- with noise --------------------------------------------------------------------------------------

    def stationary(
        self,
        sigma2: ArrayLike,
        columns: Sequence[str] | None = None,
        seconds: float | None = None,
    ) -> pd.Series:
        """The noise floor: expectations once the start is forgotten, under noisy gradients.

        With errors of variance σ²/d in each coordinate of each worker's gradient, independent between
        workers and steps, the covariance of the state about its fixed point obeys
        P = A P Aᵀ + (σ²/d) B Bᵀ, the discrete Lyapunov equation. With a sequence of mixing matrices:
        averages over a period.

        Args:
            sigma2: σ² = E‖g_i − ∇f_i‖², at least 0: one number, or one for each worker, ``(n,)``.
            columns: names of those that are wanted; all by default. Those of x̄ alone, suboptimality, value
                and gradient norm, take a small part of the time and of the memory.
            seconds: refuse before starting what would take longer, by an estimate from the sizes and what a
                product takes, mostly within a factor of 3; no limit by default.

        Returns:
            Exact expectations by column of a history: ``suboptimality``, ``consensus_distance``,
            ``distance``, ``gradient_norm``, and further measures that say theirs; a measure without
            an ``expectation`` is left out.

        Raises:
            ValueError: the method is not stable at this rate, its covariance does not fit in memory or takes
                longer than allowed, or there is no expectation of a column.

        >>> import numpy as np
        >>> import relaysim as rs
        >>> problem = rs.problems.DiagonalQuadratic(np.ones((4, 1)), np.arange(4.0)[:, None])
        >>> linear = linearize(problem, rs.topologies.star(4), rs.algorithms.AllReduce(), 0.5)
        >>> round(float(linear.stationary(0.12).suboptimality), 12)  # ½ γσ²/(n(2 − γ))
        0.005
        """
        known = [each.name for each in self.measures if each.expectation is not None]
        wanted = known if columns is None else list(columns)
        for name in wanted:
            one_of(name, "a column", tuple(known))
        limit = TimeLimit(seconds, f"{self.algorithm.label}: noise floor", *self._map.size)
        if limit.there_is_one and "spectral_radius" not in self.__dict__:
            least = radius_seconds(self._map, lambda: self._coordinates.matrices)
            limit.require(least, measurement=least)
        highest, spread_by = self._spread_by(sigma2)
        if limit.there_is_one and spread_by is not None:
            limit.require(spread_by.seconds(set(wanted) <= OF_THE_MEAN))
        at_rest, floor = self._at_rest, {}
        if spread_by is not None and {"consensus_distance", "distance"} & set(wanted):
            spread_by.spreads  # noqa: B018 - what x̄ alone knows comes with it
        noises = [] if spread_by is None else self._noises(highest, spread_by)
        for measure in self.measures:
            if measure.expectation is None or measure.name not in wanted:
                continue
            values = at_rest[measure.name]
            if noises:
                pairs = zip(values.tolist(), noises, strict=True)
                values = np.array([measure.expectation(value, noise) for value, noise in pairs])
            floor[measure.name] = float(values.mean())
        return pd.Series(floor)

    def _spread_by(self, sigma2: ArrayLike) -> tuple[float, Floor | None]:
        """The highest σ² of a worker, and what those of all do for each unit of it; nothing without any."""
        variances = np.broadcast_to(noise_variances(sigma2, self.problem.n), (self.problem.n,))
        highest = float(variances.max())
        if highest == 0:
            return 0.0, None
        shares = tuple((variances / highest).tolist())
        if shares not in self._floors:
            self._require_stability()
            where = self._coordinates if min(shares) == 1 else Coordinates(self._map, modes=False)
            self._floors[shares] = Floor(where, self.spectral_radius, np.array(shares))
        return highest, self._floors[shares]

    def _noises(self, sigma2: float, spread_by: Floor) -> list[Noise]:
        """How noise spreads the iterates at each step of a period."""
        return [
            NoiseWhenAsked.of(spread_by, phase, sigma2, iterates, self._mean_hessian)
            for phase, iterates in enumerate(self._fixed_iterates)
        ]

    def stationary_quantiles(
        self, sigma2: ArrayLike, quantiles: ArrayLike, draws: int = 20_000
    ) -> np.ndarray:
        """Quantiles of the suboptimality of a single record on the noise floor, with Gaussian noise.

        x̄ is then Gaussian with the mean and covariance behind `stationary`. With one parameter the
        suboptimality is a multiple of a non-central χ² (over a period a mixture of such), whose quantiles
        are found to rounding. With more it is evaluated at ``draws`` points of that distribution (from a
        fixed seed): 20,000 leave about 1 % in the median, 2 % in the lowest tenth.

        Args:
            sigma2: as for `stationary`.
            quantiles: numbers in [0, 1].
            draws: how many points, where there is more than one parameter.

        Raises:
            ValueError: as `stationary`; or the optimum is not known, or fewer than one draw.
        """
        problem = self.problem
        if suboptimality not in self.measures or not knows_optimum(problem):
            raise ValueError(
                "the optimum of this problem is not known, so neither is suboptimality; give the "
                "problem an `optimum`"
            )
        whole_number(draws, "draws", 1)
        highest, floor = self._spread_by(sigma2)
        if problem.d == 1 and floor is not None:
            off = self._fixed_iterates.mean(axis=(1, 2)) - float(np.ravel(problem.optimum)[0])
            spreads = np.sqrt([highest * float(unit[0, 0]) for unit in floor.means])
            return 0.5 * self._mean_hessian[0, 0] * _radii(off, spreads, quantiles) ** 2
        generator = np.random.default_rng(0)
        points = []
        each = -(-draws // self.period)
        units = (
            floor.means if floor is not None else [np.zeros((problem.d, problem.d))] * self.period
        )
        for x, unit in zip(self._fixed_iterates, units, strict=True):
            values, vectors = np.linalg.eigh(unit * highest)
            spread = vectors * np.sqrt(np.maximum(values, 0))
            normal = generator.normal(size=(self.problem.d, each))
            points.append(x.mean(axis=0)[:, None] + spread @ normal)
        block = np.concatenate(points, axis=1).T[:, None, :]
        return np.quantile(
            suboptimality.of(block, self.problem), np.asarray(quantiles, dtype=float)
        )

    def _require_stability(self) -> None:
        if self.spectral_radius >= 1 - NEUTRAL:
            raise ValueError(
                f"{self.algorithm!r} has no noise floor at learning rate {self.learning_rate:g}: its "
                f"spectral radius is {self.spectral_radius:.6g}, so that errors do not decay; see "
                f"relaysim.theory.stable_learning_rates"
            )

    @functools.cached_property
    def _fixed_iterates(self) -> np.ndarray:
        """The fixed iterates at each step of a period, ``(period, n, d)``."""
        y, found = self._fixed_state, []
        for A, b in zip(self._map.matrices, self._map.offsets, strict=True):
            found.append(y[self._iterates].reshape(self.problem.n, self.problem.d))
            y = A @ y + b
        return np.stack(found)

    @functools.cached_property
    def _mean_hessian(self) -> np.ndarray:
        """H̄, ``(d, d)``."""
        n, d = self.problem.n, self.problem.d
        directions = np.broadcast_to(np.eye(d), (n, d, d))
        return self._map.curvature(np.ascontiguousarray(directions)).mean(axis=0)

    @property
    def _floor(self) -> Floor:
        """That of noise alike at all workers, for σ² = 1."""
        floor = self._spread_by(1.0)[1]
        assert floor is not None
        return floor


def relaxation_time(radius: float) -> float:
    """−1/ln ρ; infinite if ρ ≥ 1."""
    if radius >= 1:
        return math.inf
    return -1 / math.log(radius) if radius > 0 else 0.0


def _radii(centers: np.ndarray, spreads: np.ndarray, quantiles: ArrayLike) -> np.ndarray:
    """The r with P(|z| ≤ r) = q, z drawn from one of the normal distributions ``(k,)``, each as likely."""
    levels = np.asarray(quantiles, dtype=float)
    if not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"quantiles must be in [0, 1], not {quantiles!r}")

    def excess(radius: float, level: float) -> float:
        upper, lower = ndtr((radius - centers) / spreads), ndtr((-radius - centers) / spreads)
        return float((upper - lower).mean() - level)

    far = float((np.abs(centers) + 40 * spreads).max())  # where ndtr is 1
    found = np.where(levels == 1, math.inf, 0.0)
    for where in zip(*np.nonzero((levels > 0) & (levels < 1)), strict=True):
        found[where] = scipy.optimize.brentq(
            excess, 0, far, args=(levels[where],), xtol=1e-300, rtol=1e-12
        )
    return found
