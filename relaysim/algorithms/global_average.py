"""Methods that bring their own network: of the topology they use only the number of workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import (
    Method,
    MomentumMethod,
    Round,
    check_momentum,
    no_buffer,
    share_of,
    smallest,
    smoothed,
)
from relaysim.algorithms.gossip import MomentumState
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.schedules import fallen, share_at_the_end
from relaysim.support.checks import one_of, plain_options, real_number, shown, whole_number

__all__ = ["AllReduce", "FedAvg", "LocalSGD"]


class ModelState(NamedTuple):
    """``x (n, d[, r])`` and nothing else."""

    x: np.ndarray


@dataclass(frozen=True)
class AllReduce(MomentumMethod):
    """Centralised mini-batch SGD: all workers hold the same model after every step.

    m ← βm + (1 − β)g;  x ← (1/n) Σ_i (x_i − γ m_i).

    Args:
        momentum: β in [0, 1).
        count: what an average sends: ``"ring"``, 2(n − 1) vectors, as a ring all-reduce that passes pieces
            of d/n numbers on, or a sum up a tree and a mean down; ``"all-to-all"``, n(n − 1), every worker's
            vector to every other one. It is a count only, and decides comparisons by what is sent.

    Of the topology it uses only n. Exact for any ζ.

    Source: the baseline of every paper on the subject; what a ring sends: Patarasuk and Yuan, "Bandwidth
    optimal all-reduce algorithms for clusters of workstations", 2009.

    >>> AllReduce(momentum=0.9).exact
    True
    """

    momentum: float = 0.0
    count: str = "ring"

    label: ClassVar[str] = "All-reduce"
    references: ClassVar[tuple[str, ...]] = ("patarasuk2009bandwidth",)
    uses: ClassVar[str] = "workers"
    hops_per_step: ClassVar[float] = math.inf
    exact: ClassVar[bool] = True
    theorems: ClassVar[tuple[str, ...]] = (
        "all_reduce",
        "all_reduce_convex",
        "all_reduce_nonconvex",
    )

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        one_of(self.count, "count", tuple(AVERAGE_COUNTS))

    def vectors_per_edge(self, d: int) -> float:
        """1: in both directions of the n − 1 edges of a tree over all workers, or, all to all, between any
        two.
        """
        return 1

    def own_mixing(self, n: int) -> None:
        """None: it averages exactly."""

    def init(self, x0: np.ndarray, network: Network) -> MomentumState:
        return MomentumState(x0, np.zeros_like(x0) if self.momentum else no_buffer(x0))

    def step(self, state: MomentumState, round: Round) -> MomentumState:
        direction, momentum = smoothed(state.momentum, round.gradient(state.x), self.momentum)
        averaged = round.average(round.descend(state.x, direction), self.count)
        return MomentumState(averaged, momentum)


class GrowingState(NamedTuple):
    """``x (n, d[, r])``, the last average of all ``reference (1, d[, r])``, x⁰'s at the start, and the
    ``period`` of the present round and its steps so far, ``taken``, both ``(1, 1[, r])``.
    """

    x: np.ndarray
    reference: np.ndarray
    period: np.ndarray
    taken: np.ndarray


@dataclass(frozen=True)
class LocalSGD(Method):
    """Local SGD: every worker steps alone, and every ``period`` steps all average their models.

    x_i ← x_i − γ g_i;  after steps H, 2H, …:  x_i ← w = (1/n) Σ_j x_j.

    With ``growth`` and ``falls_to`` it is co-learning: H ← growth · H after a round that moved the average
    little, ‖w − w_before‖ < tolerance · ‖w_before‖, and in step k = 0, 1, … of a round the rate is γ ·
    falls_to^{k/(H − 1)}.

    Args:
        period: H, at least 1. With 1 it is `AllReduce`. Or one for each worker: a round is as long as the
            largest, and who has taken its steps waits for the others.
        count: what an average sends, as of `AllReduce`: ``"ring"`` 2(n − 1) vectors, ``"all-to-all"``
            n(n − 1).
        growth: what H is multiplied by, a whole number of at least 1, with which H stays as it is.
        tolerance: how little an average has to move for that, at least 0.
        falls_to: the share of γ at the last step of a round, in (0, 1].

    Of the topology it uses only n; one average every H steps. Not exact for H > 1: between two averages
    workers drift towards their own optima. Where H grows a run ends as one average of workers at their own
    optima: with equal data at less noise and for far fewer averages than with the first H, and else at the
    mean of the local optima, not at x*. It is affine where H does not grow.

    Source: Stich, "Local SGD converges fast and communicates little", ICLR 2019. Co-learning: Xu, Mi, Feng,
    Wang, Chen, Zheng, Lan, "Collaborative deep learning across multiple data centers", Science China
    Information Sciences, 2020, whose strategies are read from its abstract; their formulas are not verified.

    >>> LocalSGD(period=1).exact, LocalSGD(period=5, growth=2).affine
    (True, False)
    """

    period: int | Sequence[int] = 10
    count: str = "ring"
    growth: int = 1
    tolerance: float = 0.01
    falls_to: float = 1.0

    label: ClassVar[str] = "Local SGD"
    uses: ClassVar[str] = "workers"
    hops_per_step: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "period", _steps_of_round(self.period, "period"))
        one_of(self.count, "count", tuple(AVERAGE_COUNTS))
        if whole_number(self.growth, "growth", 1) > 1 and isinstance(self.period, tuple):
            raise ValueError(
                f"rounds that grow have one period for all workers, not {self.period}; leave out growth, or "
                f"give one number"
            )
        real_number(self.tolerance, "tolerance", 0)
        share_at_the_end(self.falls_to)

    @property
    def references(self) -> tuple[str, ...]:
        """That of local SGD, or of co-learning."""
        co_learns = self.growth > 1 or self.falls_to < 1
        return ("stich2019local", "xu2020collaborative") if co_learns else ("stich2019local",)

    def vectors_per_edge(self, d: int) -> float | None:
        """Those of `AllReduce`, on average over a period; None where it grows as the data have it."""
        return 1 / _longest(self.period) if self.growth == 1 else None

    def gradients_per_step(self, n: int) -> float:
        """One for each worker, on average over a round fewer where some wait."""
        return _share_at_work(self.period, n, "period") * n

    @property
    def affine(self) -> bool:
        """Whether a step is an affine map: where the data do not decide when to average."""
        return self.growth == 1

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ."""
        return _longest(self.period) == self.growth == 1

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return _longest(self.period) if self.growth == 1 else 1

    def own_mixing(self, n: int) -> None:
        """None: it averages exactly."""

    def init(self, x0: np.ndarray, network: Network) -> ModelState | GrowingState:
        if self.growth == 1:
            return ModelState(x0)
        period = np.full((1, 1, *x0.shape[2:]), self.period)
        return GrowingState(x0, x0.mean(axis=0, keepdims=True), period, np.zeros_like(period))

    def step(self, state: Any, round: Round) -> ModelState | GrowingState:
        if self.growth > 1:
            return self._growing_step(state, round)
        period = _longest(self.period)
        x = self._descended(state.x, round, round.step % period, period)
        if (round.step + 1) % period == 0:
            return ModelState(round.average(x, self.count))
        return ModelState(x.copy())

    def _growing_step(self, state: GrowingState, round: Round) -> GrowingState:
        x = self._descended(state.x, round, state.taken, state.period)
        taken = state.taken + 1
        ends = taken == state.period
        if not ends.any():
            return state._replace(x=x.copy(), taken=taken)
        round.send(AVERAGE_COUNTS[self.count](len(x)) * ends[0, 0])
        mean, before = x.mean(axis=0, keepdims=True), state.reference
        moved = np.sqrt(((mean - before) ** 2).sum(axis=1, keepdims=True))
        near = moved < self.tolerance * np.sqrt((before**2).sum(axis=1, keepdims=True))
        return GrowingState(
            np.where(ends, mean, x),
            np.where(ends, mean, before),
            np.where(ends & near, self.growth * state.period, state.period),
            np.where(ends, 0, taken),
        )

    def _descended(
        self, x: np.ndarray, round: Round, taken: int | np.ndarray, period: int | np.ndarray
    ) -> np.ndarray:
        """x − γ · falls_to^{k/(H − 1)} g, of those who have steps left."""
        direction = round.gradient(x)
        if isinstance(self.period, tuple):
            direction *= _at_work(self.period, round.step, x.ndim)
        if self.falls_to < 1:
            direction *= fallen(self.falls_to, taken, period)
        return round.descend(x, direction, overwrite=True)


class Federated(Method):
    """Rounds in which a share of the workers takes part, and a server averages."""

    participation: float

    uses: ClassVar[str] = "workers"
    hops_per_step: ClassVar[float] = math.inf

    def _check_participation(self) -> None:
        real_number(self.participation, "participation", 0, 1)
        if self.participation == 0:
            raise ValueError(
                "participation must be above 0, so that a worker is left to take part; 1.0 is all of them"
            )

    @property
    def affine(self) -> bool:
        """Whether a step is an affine map: where nobody is drawn."""
        return self.participation == 1

    @property
    def random(self) -> bool:
        """Whether workers are drawn."""
        return self.participation < 1

    def gradients_per_step(self, n: int) -> float:
        """One for each worker that takes part."""
        return share_of(self.participation, n)

    def own_mixing(self, n: int) -> None:
        """None: a server averages."""

    def _nobody_yet(self, x0: np.ndarray) -> np.ndarray:
        """Who takes part before the first round, ``(n, 1[, r])``; of all ``(1, 1)``, for good."""
        if self.participation == 1:
            return np.ones((1, 1), dtype=bool)
        return np.zeros((len(x0), 1, *x0.shape[2:]), dtype=bool)

    def _taking(self, taking: np.ndarray, x: np.ndarray, round: Round, period: int) -> np.ndarray:
        """Who takes part in this step: those drawn where a round of ``period`` steps begins."""
        if self.participation == 1 or round.step % period:
            return taking
        n = len(x)
        uniforms = round.uniforms((n, 1, *x.shape[2:]))
        return smallest(uniforms, share_of(self.participation, n), axis=0)


class ParticipationState(NamedTuple):
    """``x (n, d[, r])``, and ``taking (n, 1[, r])``, who takes part in this round, True or False."""

    x: np.ndarray
    taking: np.ndarray


@dataclass(frozen=True)
class FedAvg(Federated):
    """Federated averaging: a server's model goes to some workers, who make local steps, and their mean back.

    In every round a set S of ⌈Cn⌉ workers is drawn without replacement; those in it step alone, x_i ← x_i −
    γ g_i, the others rest;  after K steps:  x_j ← Σ_{i ∈ S} m_i x_i / Σ_{i ∈ S} m_i for all j.

    Args:
        local_steps: K, the steps of a round, at least 1. A step of the simulation is one of them. Or one for
            each worker, as the paper's E epochs of ⌈m_i/B⌉ batches make them: a round is as long as the most,
            and who has taken its K_i steps waits.
        participation: C in (0, 1], the share of the workers that takes part in a round.
        weights: ``"examples"``, m_i is how many examples worker i has, ``problem.examples`` (all alike where
            the problem does not say); ``"equal"``, m_i = 1.

    Of the topology it uses only n. Sends two vectors for each worker in S and round: the server's down,
    theirs up. Between two rounds' ends the rows of x are local models; the server's is any row after K, 2K, …
    steps. Not exact for K > 1. With K = 1 and C = 1 it goes to argmin Σ_i m_i f_i, which is x* where m_i is
    equal, or where f_i is weighted itself and ``weights="equal"`` (`relaysim.problems.Logistic` with
    ``weighting="examples"``). On quadratics with Hessians H_i and optima c_i of the workers it ends, with
    C = 1, at (Σ m_i A_i)⁻¹ Σ m_i A_i c_i with A_i = I − (I − γH_i)^{K_i}, with one K at a distance of about
    γ(K − 1) from argmin Σ_i m_i f_i; as K grows that is the weighted mean of the local optima. With
    s = ⌈Cn⌉ < n the draws add a variance in proportion to (n − s)/(s(n − 1)) if the m_i are equal. It is
    affine for C = 1.

    Source: McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-efficient learning of deep
    networks from decentralized data", AISTATS 2017. The fixed point and the variance are derived here, and
    checked by tests.

    >>> FedAvg(local_steps=5).exact, FedAvg(local_steps=1, weights="equal").exact
    (False, True)
    """

    local_steps: int | Sequence[int] = 10
    participation: float = 1.0
    weights: str = "examples"

    label: ClassVar[str] = "FedAvg"
    references: ClassVar[tuple[str, ...]] = ("mcmahan2017communication",)

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "local_steps", _steps_of_round(self.local_steps, "local_steps"))
        self._check_participation()
        one_of(self.weights, "weights", ("examples", "equal"))

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ, and any numbers of examples."""
        return (_longest(self.local_steps), self.participation, self.weights) == (1, 1, "equal")

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return _longest(self.local_steps)

    def gradients_per_step(self, n: int) -> float:
        """One for each worker that takes part, on average over rounds fewer where some wait."""
        return super().gradients_per_step(n) * _share_at_work(self.local_steps, n, "local_steps")

    def vectors_per_edge(self, d: int) -> float | None:
        """Vectors that each worker sends and receives, on average over a round; None where some rest: it is
        ⌈Cn⌉ of n that take part.
        """
        return 2 / _longest(self.local_steps) if self.participation == 1 else None

    def init(self, x0: np.ndarray, network: Network) -> ParticipationState:
        return ParticipationState(x0, self._nobody_yet(x0))

    def step(self, state: ParticipationState, round: Round) -> ParticipationState:
        n, trailing = len(state.x), state.x.shape[2:]
        period = _longest(self.local_steps)
        taking = self._taking(state.taking, state.x, round, period)
        direction = round.gradient(state.x)
        if self.participation < 1:
            direction *= taking
        if isinstance(self.local_steps, tuple):
            direction *= _at_work(self.local_steps, round.step, state.x.ndim)
        x = round.descend(state.x, direction, overwrite=True)
        if (round.step + 1) % period:
            return ParticipationState(x.copy(), taking)
        round.send(2 * share_of(self.participation, n))
        weights = np.ones(n) if self.weights == "equal" else round.examples
        shares = weights.reshape(n, 1, *(1 for _ in trailing)) * taking
        mean = (shares * x).sum(axis=0) / shares.sum(axis=0)
        return ParticipationState(np.broadcast_to(mean, x.shape).copy(), taking)


def _steps_of_round(steps: Any, name: str) -> int | tuple[int, ...]:
    """A whole number of at least 1, or a tuple with one for each worker."""
    if np.ndim(steps) == 0:
        return whole_number(steps, name, 1)
    each = tuple(whole_number(number, f"{name} of a worker", 1) for number in np.ravel(steps))
    if np.ndim(steps) != 1 or not each:
        raise ValueError(
            f"{name} must be a whole number, or one for each worker in a list, not {shown(steps)}"
        )
    return each


def _longest(steps: int | Sequence[int]) -> int:
    """The steps of a round in which each worker takes its own number of them."""
    return steps if isinstance(steps, int) else max(steps)


def _share_at_work(steps: int | Sequence[int], n: int, name: str) -> float:
    """Of the workers' time, the part in which they do not wait."""
    if isinstance(steps, int):
        return 1.0
    if len(steps) != n:
        raise ValueError(
            f"{name} has {len(steps)} numbers and there are {n} workers; give one for each, or one number"
        )
    return sum(steps) / (n * max(steps))


def _at_work(steps: Sequence[int], step: int, axes: int) -> np.ndarray:
    """Which workers have steps left in this round, ``(n, 1[, 1])``."""
    return (step % max(steps) < np.array(steps)).reshape(-1, *(1,) * (axes - 1))
