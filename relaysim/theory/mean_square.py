"""Methods that draw, on quadratics, in the mean square: rate, curve and floor, exactly.

Once what a step draws is known it is an affine map y ← A_k y + b_k of the state, k = 1 … K with probability
p_k, taken from the method's own step. The second moment S = E yyᵀ then moves by S ← Σ_k p_k A_k S A_kᵀ.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.algorithms.events import Algorithm, EventMethod, lists_its_meetings
from relaysim.algorithms.fit import check_compatible, cycle_of, weights_for
from relaysim.mixing.by_step import AnyMixing
from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.outcomes import Outcomes, require_few
from relaysim.network import Network
from relaysim.problems import Problem
from relaysim.problems.problem import knows_optimum
from relaysim.support.checks import real_array, real_number, shown, size_text, whole_number
from relaysim.support.progress import progress_bar
from relaysim.support.starts import starting_points
from relaysim.theory.groups import groups_of
from relaysim.theory.meeting_steps import MeetingSteps
from relaysim.theory.outcomes_in_turn import Begun, OutcomesInTurn
from relaysim.theory.second_moments import SPANNED, moved, radius, seen
from relaysim.theory.spectra import NEUTRAL, fixed_point
from relaysim.topologies import Topology, TreePair

__all__ = ["MeanSquare", "Replayed", "mean_square", "mean_square_rate"]

NOTHING_DRAWN = Outcomes(np.ones(1), np.zeros((0, 1)))
# Maps take so much memory at most.
MOST_BYTES = 1 << 30
# What is left of the start when moments are taken to be where they end.
SETTLED = 1e-15


def mean_square_rate(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    learning_rate: float,
    mixing: AnyMixing | None = None,
) -> float:
    """ρ per step with E ‖x_t − x'_t‖² ~ ρ^t for two runs that draw the same, whatever their starts.

    The largest eigenvalue of S ↦ Σ_k p_k A_k S A_kᵀ over what starts reach and iterates show; see
    `mean_square`. Where all draws leave x* as it is, as those of `ProxSkip` do, E ‖x_t − x*‖² falls like
    that; else to a floor. With nothing drawn it is the square of `Linearization.spectral_radius`, and never
    less than that of the mean map.

    Args, raises: as for `mean_square`.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=2, zeta2=1.0, seed=0)
    >>> given = problem, rs.topologies.complete(8), rs.algorithms.DPSGD(), 0.0
    >>> round(mean_square_rate(*given, rs.mixing.equidyn(8)), 4)  # nobody learns: the mean stays
    1.0
    >>> coin = rs.algorithms.ProxSkip(0.3)
    >>> round(mean_square_rate(problem, rs.topologies.ring(8), coin, 0.5), 4)
    0.9632
    """
    return mean_square(problem, topology, algorithm, learning_rate, mixing=mixing).rate


def mean_square(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    learning_rate: float,
    x0: ArrayLike | None = None,
    mixing: AnyMixing | None = None,
) -> MeanSquare:
    """The second moments of a method on quadratics whose steps draw one of finitely many things.

    Drawn may be the mixing (`relaysim.mixing.random_matching`, `equidyn`, `epidemic`, `matcha`, or one of
    your own with `outcomes`), the method's own numbers (`ProxSkip`), or both; or which pair meets next, of
    `SwarmSGD` with a fixed number of local steps and without a quantiser.

    Args:
        problem: n workers, d parameters; every ∇f_i is affine.
        topology, mixing: as for `relaysim.simulate`.
        algorithm: one whose step is affine in its state once its draw is known.
        learning_rate: γ ≥ 0, constant.
        x0: ``(d,)`` or ``(n, d)``; zeros by default.

    Raises:
        TypeError: gradients, or a method, that are not affine.
        ValueError: draws whose outcomes are not known or too many, or that do not fit into memory.

    Source: derived here; after the way of Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip algorithms", IEEE
    Transactions on Information Theory 2006.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=6, d=2, zeta2=1.0, seed=0)
    >>> ring = rs.topologies.ring(6)
    >>> found = mean_square(problem, ring, rs.algorithms.DPSGD(), 0.1, mixing=rs.mixing.matcha(ring, 0.5))
    >>> found.outcomes, round(found.rate, 4), round(found.stationary["distance"], 4)
    (4, 0.9151, 0.0552)
    """
    check_compatible(problem, topology, algorithm)
    rate = real_number(learning_rate, "learning_rate", 0)
    start = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
    if isinstance(algorithm, EventMethod) and isinstance(topology, Topology):
        weights_for(algorithm, topology, mixing)
        return _OfMeetings(problem, topology, algorithm, rate, start)
    return MeanSquare(problem, topology, algorithm, rate, start, mixing)


class Replayed(Method):
    """A method whose draws come in the order of a list, each for as many steps as its rule repeats after."""

    affine = True

    def __init__(self, method: Method, uniforms: np.ndarray, cycle: int):
        self._method, self._uniforms, self._cycle = method, uniforms, cycle

    def __repr__(self) -> str:
        return repr(self._method)

    @property
    def cycle(self) -> int:
        return self._cycle * self._uniforms.shape[1]

    @property
    def mixing_needs(self) -> str:
        return self._method.mixing_needs

    def init(self, x0: np.ndarray, network: Network) -> Any:
        return self._method.init(x0, network)

    def step(self, state: Any, round: Round) -> Any:
        if len(self._uniforms) == 0:
            return self._method.step(state, round)
        numbers = iter(self._uniforms[:, round.step % self.cycle // self._cycle])

        def uniforms(shape: tuple[int, ...]) -> np.ndarray:
            # One set for all replicas: what is sent with them, too, is the same for each.
            one = (*shape[:2], *(1,) * (len(shape) - 2))
            return np.fromiter(itertools.islice(numbers, math.prod(one)), float).reshape(one)

        replayed = round.with_gradient(round.gradient)
        replayed.uniforms = uniforms
        return self._method.step(state, replayed)

    def conserved(self, state: Any, network: Network, learning_rate: Rate) -> np.ndarray | None:
        return self._method.conserved(state, network, learning_rate)


class MeanSquare:
    """Rate, curve and floor of a method that draws, in the mean square; see `mean_square`.

    Attributes:
        problem, topology, algorithm, learning_rate: what it was made of.
        outcomes: K, of the draws of a step.
        period: steps after which matrices that are not drawn, or the method's own rule, repeat.
        states: N, the length of the state y.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        learning_rate: float,
        x0: np.ndarray,
        mixing: AnyMixing | None = None,
    ):
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.learning_rate = learning_rate
        weights = weights_for(algorithm, topology, mixing)
        assert isinstance(algorithm, Method), "those of events are handled apart"
        own = _outcomes(algorithm, algorithm.random, algorithm.affine)
        drawn = _outcomes(weights, isinstance(weights, DrawnMixing), True)
        count = len(own.probabilities) * len(drawn.probabilities)
        require_few(count, algorithm)
        self.outcomes, self._x0 = count, x0
        self._probabilities = np.kron(drawn.probabilities, own.probabilities)
        self.period = cycle_of(algorithm, weights)
        uniforms = np.tile(own.uniforms, len(drawn.probabilities))
        _require_small_maps(count * self.period, problem, algorithm)
        matrices = self._in_turn(weights, drawn, len(own.probabilities))
        replayed = Replayed(algorithm, uniforms, self.period)
        given = problem, topology, replayed, learning_rate, matrices, x0
        self._map = OutcomesInTurn(self._probabilities, self.period, *given)
        if isinstance(weights, DrawnMixing):
            self._map.require_one_draw()
        self.states = self._map.states

    def _in_turn(self, weights: Any, drawn: Outcomes, times: int) -> tuple[csr_array, ...]:
        """One outcome after the other, each for a period."""
        if isinstance(weights, DrawnMixing):
            columns = np.repeat(drawn.uniforms.T, times * self.period, axis=0)
            return tuple(weights(0, column) for column in columns)
        if not isinstance(weights, tuple):
            raise ValueError(
                f"mixing is a callable of the step, {shown(weights)}, whose matrices need not repeat: there "
                f"is no rate; simulate it, or give the matrices of a period as a sequence"
            )
        return tuple(weights)

    @functools.cached_property
    def _maps(self) -> list[list[csr_array]]:
        """A of each step of a period, of each outcome, ``(N, N)``."""
        every = self._map.matrices
        return [every[phase :: self.period] for phase in range(self.period)]

    @property
    def rate(self) -> float:
        """ρ per step: the differences of runs that draw the same shrink like it in the mean square."""
        return self._rate_of_maps

    @functools.cached_property
    def _rate_of_maps(self) -> float:
        """By how much one of the maps in turn shrinks them."""
        patterns = [A for maps in self._maps for A in maps]
        n, d = self.problem.n, self.problem.d
        unit = np.eye(n * d).reshape(n, d, n * d)
        begun = self._map.moments_begun(unit, np.zeros(n * d))
        starts = begun.state[:-1]
        if begun.iterates and self.outcomes > 1:
            # Of more columns than directions some are rounding.
            left, sizes, _ = np.linalg.svd(starts, full_matrices=False)
            starts = left[:, sizes > SPANNED * sizes.max(initial=0)]
        kept = self._map.conserved @ starts
        if np.abs(kept).max(initial=0) > SPANNED:
            # What a step conserves is set apart, as in a `Linearization`.
            _, sizes, rows = np.linalg.svd(kept)
            starts = starts @ rows[np.count_nonzero(sizes > SPANNED) :].T
        shown = np.arange(self.states) < n * d
        known: dict[bytes, float] = {}
        for rows in groups_of(patterns):
            # Between blocks moments are at most the root of the product of theirs.
            maps = [np.array([A[rows][:, rows].toarray() for A in maps]) for maps in self._maps]
            reduced = seen(maps, starts[rows], np.eye(len(rows))[shown[rows]])
            key = b"".join(each.tobytes() for each in reduced)
            if key not in known:
                known[key] = radius(reduced, self._probabilities)
        return max(known.values()) ** (1 / self.period)

    # -- from x0 ---------------------------------------------------------------------------------------

    @functools.cached_property
    def _centres(self) -> list[np.ndarray]:
        """States around which moments are taken, at each step of a period, ``(N,)``: those that the mean map
        keeps, so that nothing cancels where all draws keep them; those of x0 where it keeps no single one.
        """
        A = [csr_array(self._mean(maps)) for maps in self._maps]
        b = [self._mean(self._map.offsets[phase :: self.period]) for phase in range(self.period)]
        centre = fixed_point(A, b, self._map.conserved, self._map.y)
        found = [self._map.y if centre is None else centre]
        for step, offset in zip(A[:-1], b[:-1], strict=True):
            found.append(step @ found[-1] + offset)
        return [*found, found[0]]

    def _mean(self, outcomes: Any) -> np.ndarray:
        """Over the draw."""
        return sum(p * each for p, each in zip(self._probabilities, outcomes, strict=True))

    @functools.cached_property
    def _affine_maps(self) -> list[np.ndarray]:
        """(A_k, b_k; 0, 1) of the deviation from these, in each step of a period, ``(K, N + 1, N + 1)``."""
        found = []
        kept = self._map.conserved.toarray()
        # What is conserved is 0 of a deviation, and rounding in it would stay for good.
        free = np.eye(self.states) - np.linalg.pinv(kept) @ kept
        for phase in range(self.period):
            before, after = self._centres[phase : phase + 2]
            maps = np.zeros((self.outcomes, self.states + 1, self.states + 1))
            maps[:, -1, -1] = 1
            for k, A in enumerate(self._maps[phase]):
                offset = self._map.offsets[k * self.period + phase]
                maps[k, :-1, :-1] = A.toarray()
                maps[k, :-1, -1] = A @ before + offset - after
            if phase == self.period - 1:
                maps[:, :-1] = free @ maps[:, :-1]
            found.append(maps)
        return found

    @functools.cached_property
    def _begun(self) -> Begun:
        """From x0 until the maps hold."""
        return self._map.moments_begun(self._x0[..., None], np.ones(1))

    @functools.cached_property
    def _start(self) -> np.ndarray:
        """E (z, 1)(z, 1)ᵀ of the deviation z once the maps hold."""
        columns = self._begun.state.copy()
        columns[:-1] -= self._centres[0][:, None] * columns[-1]
        return columns @ columns.T

    def _of_start(self, step: int) -> np.ndarray:
        """That of the iterates alone, ``(n d + 1, n d + 1)``, in one of the first steps."""
        columns = self._begun.iterates[step].copy()
        centre = self._centres[step % self.period][: len(columns) - 1]
        columns[:-1] -= centre[:, None] * columns[-1]
        return columns @ columns.T

    def _of_iterates(self, moment: np.ndarray) -> np.ndarray:
        """The part of a moment that is theirs."""
        rows = np.r_[: self.problem.n * self.problem.d, self.states]
        return moment[np.ix_(rows, rows)]

    def _measured(self, of_iterates: np.ndarray, step: int) -> dict[str, float]:
        """The columns of a history that are squares of the iterates, of their E (z, 1)(z, 1)ᵀ."""
        n, d = self.problem.n, self.problem.d
        centre = self._centres[step % self.period][: n * d].reshape(n, d)

        def square(less: np.ndarray, keep: np.ndarray) -> float:
            """E (1/n) ‖(keep ⊗ I)(x − less)‖²."""
            parts = np.kron(keep, np.eye(d))
            maps = np.column_stack([parts, parts @ (centre - less).ravel()])
            return float(np.einsum("ij,jk,ik->", maps, of_iterates, maps, optimize=True)) / n

        found = {"consensus_distance": square(centre.mean(axis=0), np.eye(n) - 1 / n)}
        if knows_optimum(self.problem):
            optimum = np.asarray(self.problem.optimum, dtype=float)
            found["distance"] = square(optimum, np.eye(n))
        return found

    def predict(self, steps: int) -> pd.DataFrame:
        """E of the columns ``consensus_distance`` and, with a known optimum, ``distance`` at each step.

        The means over all draws of what `relaysim.simulate` measures from x0, without noise.
        """
        count = whole_number(steps, "steps", 0)
        moment, rows = self._start, []
        with progress_bar(count + 1, None, "moments", "steps") as bar:
            for step in range(count + 1):
                first = step < len(self._begun.iterates)
                there = self._of_start(step) if first else self._of_iterates(moment)
                rows.append({"step": step} | self._measured(there, step))
                if not first:
                    moment = self._passed(moment, step)
                bar.update()
        return pd.DataFrame(rows)

    def _passed(self, moment: np.ndarray, step: int) -> np.ndarray:
        """The moment after this step."""
        return self._after(moment, step)

    def _after(self, moment: np.ndarray, step: int) -> np.ndarray:
        return moved(self._affine_maps[step % self.period], self._probabilities, moment)

    @property
    def stationary(self) -> dict[str, float]:
        """What these columns come to at the start of a period, as t → ∞; infinite where ρ ≥ 1."""
        if self.rate >= 1 - NEUTRAL:
            return dict.fromkeys(self._measured(self._of_iterates(self._start), 0), math.inf)
        # The mean decays at the root of ρ at least.
        steps = math.ceil(2 * math.log(SETTLED) / math.log(max(self._rate_of_maps, SETTLED)))
        moment, count = self._start, -(-steps // self.period) * self.period
        with progress_bar(count, None, "floor of moments", "steps") as bar:
            for step in range(count):
                moment = self._after(moment, step)
                bar.update()
        return self._measured(self._of_iterates(moment), 0)


class _OfMeetings(MeanSquare):
    """Those of a method whose pairs meet: of its maps a step is as many as there are meetings in it."""

    def __init__(
        self,
        problem: Problem,
        topology: Topology,
        algorithm: EventMethod,
        learning_rate: float,
        x0: np.ndarray,
    ):
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.learning_rate, self._x0, self.period = learning_rate, x0, 1
        rule = algorithm.rule(topology)
        if not lists_its_meetings(rule) or rule.meetings.poisson:
            raise TypeError(
                f"{algorithm!r} acts at random times and not in rounds; how fast its pairs agree says "
                f"relaysim.theory.asynchronous_decay, and for the rest there is relaysim.simulate"
            )
        if not rule.linear:
            raise ValueError(
                f"{algorithm!r} is not linear, as where a quantiser rounds: leave that out where exact "
                f"moments are wanted, or use relaysim.simulate"
            )
        self._rule = rule
        _require_small_maps(len(rule.outcomes().probabilities), problem, algorithm)
        self._steps = MeetingSteps(problem, topology, algorithm, rule, learning_rate, x0)
        self._map: Any = self._steps
        self._probabilities = self._steps.probabilities
        self.outcomes, self.states = len(self._probabilities), self._steps.states

    @property
    def rate(self) -> float:
        """ρ per step: the differences of runs that draw the same shrink like it in the mean square."""
        return self._rate_of_maps ** float(self._rule.meetings.rates.sum())

    def _passed(self, moment: np.ndarray, step: int) -> np.ndarray:
        for _ in self._rule.units(step, 1):
            moment = self._after(moment, 0)
        return moment


def _require_small_maps(count: int, problem: Problem, algorithm: Algorithm) -> None:
    """Raise where so many maps do not fit into memory."""
    numbers = problem.n * problem.d
    size = 8 * count * (numbers + 1) ** 2
    if size > MOST_BYTES:
        raise ValueError(
            f"the {count} maps of {algorithm!r} with {numbers} numbers of its iterates take "
            f"{size_text(size)} at least, above {size_text(MOST_BYTES)}; take fewer workers or "
            f"parameters, or simulate it"
        )


def _outcomes(who: Any, draws: bool, affine: bool) -> Outcomes:
    """Those of a method or a mixing, if it draws."""
    if not draws:
        return NOTHING_DRAWN
    found = who.outcomes()
    if found is None:
        raise ValueError(
            f"what {who!r} draws is not known as a list of outcomes, so that there is no exact expectation; "
            f"give it a method outcomes(), see relaysim.mixing.outcomes, or simulate it"
        )
    return found
