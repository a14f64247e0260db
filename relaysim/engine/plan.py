"""Learning rates, seeds and starting points laid out as replicas, before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from relaysim.schedules import PerWorker, Schedule, Tabulated
from relaysim.support.checks import real_numbers, require_memory, whole_number

__all__ = [
    "LearningRate",
    "ReplicaPlan",
    "number_of_records",
    "plan_replicas",
    "record_steps",
    "require_room",
]

# Its step as a number of Python's, and its place in a list.
_BYTES_OF_RECORD = 40

#: A number, one for each replica, a callable of the step, or any of these times one for each worker.
LearningRate: TypeAlias = float | Sequence[float] | np.ndarray | Callable[[int], float] | PerWorker

_FINITE = (
    "steps count from 0 and each has a finite rate of at least 0, as 1 / (1 + t) gives one and 1 / t does "
    "not; relaysim.schedules has ready ones"
)


@dataclass
class ReplicaPlan:
    """Which replica has which learning rate, seed and starting point.

    ``rates (r,)`` and ``owners (r,)`` (positions in ``seeds``) are laid out rates outermost.
    ``has_axis`` tells whether arrays carry a replica axis; ``schedule`` holds the rate of every
    step where it changes. ``shape(step)`` is what all rates are multiplied by at a step, and ``workers (n,)``
    what those of each worker are, where workers differ.
    """

    rates: np.ndarray
    seeds: list[int]
    owners: np.ndarray
    has_axis: bool
    schedule: np.ndarray | None
    x0: np.ndarray | None
    given_rate: Any
    shape: Callable[[int], float] | None = None
    workers: np.ndarray | None = None

    @property
    def r(self) -> int:
        return len(self.rates)

    def mean_rates(self, steps: np.ndarray) -> np.ndarray:
        """The rates in force at these steps, ``(steps, r)``; means over workers where these differ."""
        rates = np.broadcast_to(self.rates, (len(steps), self.r))
        if self.schedule is not None:
            of_steps = self.schedule[np.minimum(steps, len(self.schedule) - 1)]
            rates = np.broadcast_to(of_steps[:, None], rates.shape)
        return rates if self.workers is None else rates * self.workers.mean()


def plan_replicas(
    learning_rate: LearningRate,
    seed: int | Sequence[int],
    replicas: int | None,
    x0: ArrayLike | None,
    steps: int,
) -> ReplicaPlan:
    """Check and lay out learning rates, seeds and starting points."""
    workers: np.ndarray | None = None
    if isinstance(learning_rate, PerWorker):
        workers = np.array(learning_rate.rates)
        learning_rate = learning_rate.scale
    schedule: np.ndarray | None = None
    given: Any = learning_rate
    if callable(learning_rate):
        require_memory(40 * steps, f"the learning rates of {steps} steps", "take fewer steps")
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused below
            values = [_rate_of_step(learning_rate, t) for t in range(max(steps, 1))]
        if any(np.ndim(value) for value in values):
            raise ValueError("a learning rate that is a callable must return one number a step")
        schedule = real_numbers(values, "the learning rates of the callable", copy=True)
        first = int(np.argmin(np.isfinite(schedule)))
        if not np.isfinite(schedule[first]):
            raise ValueError(f"the learning rate of step {first} is {schedule[first]}; {_FINITE}")
        schedule = _rates(schedule)
        known = isinstance(learning_rate, Schedule) and not isinstance(learning_rate, Tabulated)
        given = learning_rate if known else Tabulated(tuple(schedule.tolist()))
        rates = schedule[:1]
    else:
        try:
            array = real_numbers(learning_rate, "learning_rate", copy=True)
        except TypeError:
            raise TypeError(
                f"learning_rate must be a number, a 1-D array of numbers, a callable of the step or "
                f"PerWorker(rates), not {learning_rate!r}"
            ) from None
        if array.ndim > 1 or array.size == 0:
            raise ValueError(
                f"learning_rate must be a number, a 1-D array or a callable of the step, "
                f"not an array of shape {array.shape}"
            )
        rates = _rates(np.atleast_1d(array))
        given = array if array.ndim else float(array)
    seeds, listed = _seeds(seed, replicas)
    points = None if x0 is None else real_numbers(x0, "x0", copy=True)
    starts = points.shape[2] if points is not None and points.ndim == 3 else None
    if points is not None and starts == 0:
        raise ValueError(
            f"x0 has no starting point, of shape {points.shape}; give (n, d), or (n, d, r) with one for "
            f"each of r ≥ 1 replicas"
        )
    combinations = len(rates) * len(seeds)
    if starts is not None and combinations == 1:
        rates, owners = np.repeat(rates, starts), np.zeros(starts, dtype=np.intp)
    else:
        if starts is not None and starts != combinations:
            raise ValueError(
                f"x0 has {starts} starting points but {len(rates)} learning rates × {len(seeds)} "
                f"seeds make {combinations} replicas; give one for each"
            )
        owners = np.tile(np.arange(len(seeds)), len(rates))
        rates = np.repeat(rates, len(seeds))
    has_axis = (np.ndim(given) == 1 and schedule is None) or listed or starts is not None
    if workers is not None:
        given = PerWorker(tuple(workers.tolist()), given)
    return ReplicaPlan(rates, seeds, owners, has_axis, schedule, points, given, workers=workers)


def _rate_of_step(schedule: Callable[[int], Any], step: int) -> Any:
    try:
        return schedule(step)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise ValueError(
            f"there is no learning rate of step {step}: {type(error).__name__}, {error}; {_FINITE}"
        ) from error


def _rates(rates: np.ndarray) -> np.ndarray:
    bad = ~(np.isfinite(rates) & (rates >= 0))
    if bad.any():
        raise ValueError(f"learning rates must be finite and at least 0; {rates[bad][0]} was given")
    return rates


def _seeds(seed: Any, replicas: int | None) -> tuple[list[int], bool]:
    if np.ndim(seed) > 0:
        seeds = [whole_number(s, "seed", 0) for s in seed]
        if not seeds:
            raise ValueError("seed is an empty sequence; give at least one seed")
        if replicas is not None and whole_number(replicas, "replicas", 1) != len(seeds):
            raise ValueError(
                f"replicas={replicas} but {len(seeds)} seeds were given; leave replicas out"
            )
        return seeds, True
    first = whole_number(seed, "seed", 0)
    if replicas is None:
        return [first], False
    count = whole_number(replicas, "replicas", 1)
    require_memory(40 * count, f"{count} replicas", "take fewer")
    return [first + k for k in range(count)], True


def number_of_records(record: Any, steps: int) -> int:
    """How many `record_steps` names, at most.

    >>> number_of_records(None, 10), number_of_records(5, 11), number_of_records([3], 10)
    (11, 4, 1)
    """
    if record is None:
        return steps + 1
    if isinstance(record, str):
        return min(steps + 1, 1000)
    if not isinstance(record, range | list | tuple) and np.ndim(record) == 0:
        return -(-steps // whole_number(record, "record", 1)) + 1
    return len(record)


def require_room(records: int, values: int, what: str, mend: str) -> None:
    """Raise where so many records of so many numbers each cannot fit in memory."""
    require_memory(_BYTES_OF_RECORD * records + 8 * records * values, what, mend)


def record_steps(record: Any, steps: int) -> Sequence[int]:
    """The steps to record, in increasing order."""
    if record is None:
        return range(steps + 1)
    if isinstance(record, str):
        if record != "log":
            raise ValueError(f"record must be a whole number, a sequence or 'log', not {record!r}")
        # Those of a longer run begin with the same steps.
        spaced = np.rint(10 ** (np.arange(int(40 * math.log10(max(steps, 1))) + 1) / 40)).astype(
            int
        )
        return np.unique(np.concatenate([[0], np.minimum(spaced, steps), [steps]])).tolist()
    if np.ndim(record) == 0:
        every = whole_number(record, "record", 1)
        return [*range(0, steps, every), steps]
    listed = [whole_number(step, "record", 0) for step in record]
    if not listed:
        raise ValueError("record is an empty sequence; name at least one step")
    if max(listed) > steps:
        raise ValueError(f"record names step {max(listed)} but there are only {steps} steps")
    return sorted(set(listed))
