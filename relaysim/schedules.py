"""Learning rates that change with the step, callables of the step 0, 1, …, or from worker to worker.

Each is a frozen dataclass, so that files hold it as it is. A callable of one's own serves as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from relaysim.support.checks import (
    plain_options,
    real_number,
    real_numbers,
    shown,
    whole_number,
)
from relaysim.support.names import attribute_error

__all__ = [
    "Cosine",
    "Cyclic",
    "InverseSqrt",
    "InverseTime",
    "Listed",
    "PerWorker",
    "Steps",
    "Tabulated",
]

Scaled = TypeVar("Scaled", bound="FromStart")


class Schedule:
    """A learning rate for each step, known by its name and numbers."""

    def __call__(self, step: int) -> float:
        """γ_t, the rate of step t = 0, 1, …"""
        raise NotImplementedError(f"{type(self).__name__} must say the rate of a step")


@dataclass(frozen=True)
class Listed(Schedule):
    """A learning rate that follows a list: step t uses entry t, and the last one after its end.

    Args:
        rates: one for each step, at least 0; one at least.

    Raises:
        ValueError: a rate below 0 or not finite, or none.

    >>> Listed((0.2, 0.1))(5)
    0.1
    """

    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        name = type(self).__name__
        rates = real_numbers(self.rates, f"rates of {name}")
        if rates.ndim != 1 or not len(rates):
            raise ValueError(
                f"{name} takes one rate for each step, a list such as [0.2, 0.1], not "
                f"{shown(self.rates)}; a rate for all steps is a number, without {name}"
            )
        object.__setattr__(self, "rates", _finite(rates, "step"))

    def __call__(self, step: int) -> float:
        return self.rates[min(step, len(self.rates) - 1)]


@dataclass(frozen=True)
class Tabulated(Listed):
    """The rates of a callable of one's own as far as a run used them; a file can hold no more of it."""


@dataclass(frozen=True)
class FromStart(Schedule):
    """γ_t = start · shape(t)."""

    start: float

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "start", real_number(self.start, "start", 0))

    def shape(self, step: int) -> float:
        """γ_t / start."""
        raise NotImplementedError(f"{type(self).__name__} must say its shape")

    def from_start(self: Scaled, start: float) -> Scaled:
        """The same shape from another rate.

        >>> InverseSqrt(0.5).from_start(0.1)
        InverseSqrt(start=0.1)
        """
        return dataclasses.replace(self, start=start)

    def __call__(self, step: int) -> float:
        return self.start * self.shape(step)


@dataclass(frozen=True)
class InverseSqrt(FromStart):
    """γ_t = start / √(t + 1).

    Args:
        start: the rate of step 0, at least 0.

    >>> InverseSqrt(0.5)(0), InverseSqrt(0.5)(24)
    (0.5, 0.1)
    """

    def shape(self, step: int) -> float:
        """1/√(t + 1)."""
        return 1 / math.sqrt(step + 1)


@dataclass(frozen=True)
class InverseTime(FromStart):
    """γ_t = start · offset / (t + offset): the rate is half of the first one at t = offset.

    Args:
        start: the rate of step 0, at least 0.
        offset: steps, a positive number.

    >>> InverseTime(0.5, offset=100)(100)
    0.25
    """

    offset: float

    def __post_init__(self) -> None:
        plain_options(self)
        super().__post_init__()
        offset = real_number(self.offset, "offset")
        if not offset > 0:
            raise ValueError(f"offset must be positive, not {self.offset!r}")
        object.__setattr__(self, "offset", offset)

    def shape(self, step: int) -> float:
        """offset/(t + offset)."""
        return self.offset / (step + self.offset)


@dataclass(frozen=True)
class Cosine(FromStart):
    """γ_t = start · (1 + cos(π(t − w)/(T − w)))/2, after w steps of warm-up; 0 from step T on.

    In warm-up, t < w, γ_t = start · (t + 1)/w: equal increments, the first of which is step 0.

    Args:
        start: the rate at which the cosine begins, at least 0.
        steps: T, at least 1.
        warmup: w, fewer than T.

    >>> [Cosine(1.0, steps=6, warmup=2)(t) for t in (0, 2, 4, 6)]
    [0.5, 1.0, 0.5, 0.0]
    """

    steps: int
    warmup: int = 0

    def __post_init__(self) -> None:
        plain_options(self)
        super().__post_init__()
        object.__setattr__(self, "steps", whole_number(self.steps, "steps", 1))
        object.__setattr__(self, "warmup", whole_number(self.warmup, "warmup", 0))
        if not self.warmup < self.steps:
            raise ValueError(f"warmup must be below steps = {self.steps}, not {self.warmup}")

    def shape(self, step: int) -> float:
        """Of the rate at the top."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if step >= self.steps:
            return 0.0
        return (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup))) / 2


@dataclass(frozen=True)
class Cyclic(FromStart):
    """γ_t = start · falls_to^{k/(T − 1)} with k = t mod T: it falls over T steps, and starts anew.

    Args:
        start: the rate at which every cycle begins, at least 0.
        falls_to: the share of it at which a cycle ends, in (0, 1].
        period: T, at least 1; with 1 the rate is constant.

    `relaysim.algorithms.LocalSGD` has the same rate, as ``falls_to``, in rounds that get longer.

    Source: Xu et al., "Collaborative deep learning across multiple data centers", Science China Information
    Sciences, 2020: a rate that falls within a round and restarts; the formula is ours.

    >>> [round(Cyclic(0.4, falls_to=0.25, period=3)(t), 12) for t in range(4)]
    [0.4, 0.2, 0.1, 0.4]
    """

    falls_to: float
    period: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "falls_to", share_at_the_end(self.falls_to))
        object.__setattr__(self, "period", whole_number(self.period, "period", 1))

    def shape(self, step: int) -> float:
        """falls_to^{k/(T − 1)}."""
        return float(fallen(self.falls_to, step % self.period, self.period))


def share_at_the_end(falls_to: object) -> float:
    """A share in (0, 1], checked."""
    share = real_number(falls_to, "falls_to", 0, 1)
    if share == 0:
        raise ValueError("falls_to must be above 0; 1.0 keeps the rate as it is")
    return share


def fallen(falls_to: float, step: int | np.ndarray, period: int | np.ndarray) -> float | np.ndarray:
    """falls_to^{k/(T − 1)}, what is left of a rate after k of the T steps of a cycle."""
    return falls_to ** (step / np.maximum(period - 1, 1))


@dataclass(frozen=True)
class Steps(FromStart):
    """A rate that is multiplied by a factor at some steps: γ_t = start · Π factors at steps ≤ t.

    Args:
        start: the rate of step 0 (before its factor, if it has one), at least 0.
        factors: a factor of at least 0 for each step at which the rate changes, as a mapping; kept as
            pairs in the order of the steps.

    >>> steps = Steps(0.5, {100: 0.1, 200: 0.5})
    >>> steps(99), steps(100), steps(200)
    (0.5, 0.05, 0.025)
    """

    factors: Mapping[int, float] | Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        plain_options(self)
        super().__post_init__()
        given = self.factors
        try:
            pairs = [(step, factor) for step, factor in dict(given).items()]
        except (TypeError, ValueError):
            raise TypeError(
                f"factors must be a mapping from steps to factors, such as {{100: 0.1}}, not {given!r}"
            ) from None
        checked = [
            (whole_number(step, "a step of factors", 0), real_number(factor, "a factor", 0))
            for step, factor in pairs
        ]
        object.__setattr__(self, "factors", tuple(sorted(checked)))

    def shape(self, step: int) -> float:
        """The product of the factors so far."""
        return math.prod(factor for first, factor in dict(self.factors).items() if first <= step)


@dataclass(frozen=True)
class PerWorker:
    """A learning rate for each worker: γ_{i,t} = rates_i · scale_t.

    Worker i takes its steps with γ_i wherever a rule has γ. Where workers agree at a fixed point most methods
    have Σ_i γ_i ∇f_i = 0 there, which is not x* if the γ_i differ; what tracks the average gradient, such as
    `relaysim.algorithms.GradientTracking`, still goes to x*. The column ``learning_rate`` of a history has
    the mean over the workers.

    Args:
        rates: γ_i, one for each worker, ``(n,)``, at least 0.
        scale: what multiplies all of them, as a learning rate is given: a number, a 1-D array with one
            replica each, or a callable of the step, such as another schedule.

    Raises:
        ValueError: a rate below 0 or not finite; when run, not as many as there are workers, or a method
            that has no rule for it.

    Source: of tracking with such rates, Xu, Zhu, Soh, Xie, "Augmented distributed gradient methods for
    multi-agent optimization under uncoordinated constant stepsizes", CDC 2015.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> rates = PerWorker([0.1, 0.2, 0.3, 0.4], scale=InverseTime(1.0, offset=100))
    >>> history = rs.simulate(problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), learning_rate=rates,
    ...                       steps=100, record=100)
    >>> history.frame.learning_rate.round(4).tolist()
    [0.25, 0.1256]
    """

    rates: Sequence[float]
    scale: float | Sequence[float] | Callable[[int], float] = 1.0

    def __post_init__(self) -> None:
        plain_options(self)
        rates = real_numbers(self.rates, "rates of workers")
        if rates.ndim != 1 or not len(rates):
            raise ValueError(
                f"PerWorker takes one rate for each worker, a list such as [0.1, 0.2], not "
                f"{shown(self.rates)}; a rate for all is a number, without PerWorker"
            )
        object.__setattr__(self, "rates", _finite(rates, "worker"))
        scale: Any = self.scale
        if isinstance(scale, PerWorker):
            raise TypeError("the scale of PerWorker is one for all workers; multiply the rates")
        if np.ndim(scale) or isinstance(scale, bool):
            scale = tuple(real_numbers(scale, "scale").tolist())
        elif isinstance(scale, int):
            scale = float(scale)
        object.__setattr__(self, "scale", scale)


def _finite(rates: np.ndarray, of: str) -> tuple[float, ...]:
    """The rates of each step or worker, none of them below 0 or not finite."""
    bad = ~(np.isfinite(rates) & (rates >= 0))
    if bad.any():
        raise ValueError(
            f"learning rates must be finite and at least 0; {of} {int(np.argmax(bad))} has {rates[bad][0]}"
        )
    return tuple(rates.tolist())


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
