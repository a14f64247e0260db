"""Gradient tracking of estimates whose variance falls to 0 as the iterates come to rest."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from relaysim.algorithms.base import Method, Round, Samples, no_buffer
from relaysim.network import Network
from relaysim.support.checks import one_of, plain_options, require_memory, whole_number
from relaysim.support.gathering import rows_at

__all__ = ["GTSAGA", "GTSARAH", "GTSVRG"]


class _VarianceReduced(Method):
    """What these methods have in common: they track estimates made of gradients on examples."""

    uses: ClassVar[str] = "mixing"
    oracle_needs: ClassVar[str] = "examples"
    mixing_needs: ClassVar[str] = "doubly stochastic"
    affine: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def vectors_per_edge(self, d: int) -> float:
        return 2


# One example of each worker after the other: their numbers ``(n[, r])``, and the gradients ``(n, d[, r])``.
Batch: TypeAlias = list[tuple[np.ndarray, np.ndarray]]


class Memory(NamedTuple):
    """The last gradient on each example, in two parts, so that a step need not copy all of it.

    ``table (Σ m_i, d[, r])``, worker by worker; ``recent (k·n, d[, r])``, a gradient for each worker k times,
    which count in the place of those in the table, later ones before earlier; ``numbers (k·n, 1[, r])`` of
    their examples.
    """

    table: np.ndarray
    recent: np.ndarray
    numbers: np.ndarray


class SagaState(NamedTuple):
    """``x``, the tracker Y, the last ``estimate`` V and the ``mean`` of all that a worker remembers,
    ``(n, d[, r])``; and the `Memory`.
    """

    x: np.ndarray
    tracker: np.ndarray
    estimate: np.ndarray
    mean: np.ndarray
    memory: Memory


@dataclass(frozen=True)
class GTSAGA(_VarianceReduced):
    """GT-SAGA: gradient tracking with a table of the last gradient seen on each example.

    With s the examples drawn by each worker, T_is its table's entries for them and T̄_i the mean of all:
    V = ∇f_s(X) − T_s + T̄;  Y ← W(Y + V − V⁻);  X ← W(X − γY);  T_s ← ∇f_s(X), X before the step. Y and V are
    0 before the first step, and the table holds the gradients at the start.

    Args:
        refresh: ``"used"``: the table gets the gradients that V was made of. ``"fresh"``: in the next step,
            before anything else, it gets those of another batch at the new X, which costs a second gradient
            a step.

    Any connected topology, a problem with examples, and `relaysim.oracles.Table`; refused with other oracles.
    Sends two vectors per directed edge and step. Exact for any ζ and any batch, at a constant rate, if W is
    doubly stochastic and the rate is small enough. It keeps Σ_i m_i vectors; a table that cannot fit in
    memory is refused. The time of a step grows as the root of m_i: `GTSARAH` has no table.

    Source: Xin, Khan, Kar, "Variance-reduced decentralized stochastic optimization with accelerated
    convergence", IEEE Transactions on Signal Processing 2020, of which abstracts only were at hand; the rule
    with ``refresh="fresh"`` is that of public code (decent-bench), ``"used"`` takes one gradient a step as
    the abstracts say.

    >>> GTSAGA().oracle_needs
    'examples'
    """

    refresh: str = "used"

    label: ClassVar[str] = "GT-SAGA"
    references: ClassVar[tuple[str, ...]] = ("xin2020variance",)
    #: It mixes the tracker, and then what has moved by it.
    hops_per_step: ClassVar[float] = 2

    def __post_init__(self) -> None:
        plain_options(self)
        one_of(self.refresh, "refresh", ("used", "fresh"))

    def init(self, x0: np.ndarray, network: Network) -> SagaState:
        count, size = int(network.workers.examples.sum()), x0[0].size
        # It is there twice while a new one is made.
        require_memory(
            16.0 * count * size,
            f"GTSAGA's table of {count} examples' gradients of {size} numbers (parameters × replicas), twice "
            f"while it is renewed,",
            "take GTSARAH, which has none, or fewer replicas",
        )
        nothing, none = np.zeros_like(x0), no_buffer(x0)
        memory = Memory(np.zeros((count, *x0.shape[1:])), none, none)
        return SagaState(x0, nothing, nothing, nothing, memory)

    def step(self, state: SagaState, round: Round) -> SagaState:
        x, samples, mean = state.x, round.samples, state.mean
        examples = _Remembered(round.examples, state.memory)

        def drawn() -> Batch:
            numbers = samples.draw()
            each = [numbers[:, k : k + 1] for k in range(numbers.shape[1])]
            return [(number[:, 0], samples.gradient(x, number)) for number in each]

        if round.step == 0:
            examples.look_at_all(x, samples)
            mean = examples.means()
        elif self.refresh == "fresh":
            batch = drawn()
            mean = mean + examples.remember(batch, examples.news(batch))
        batch = drawn()
        news = examples.news(batch)
        estimate = (news[0] if len(news) == 1 else sum(news) / len(news)) + mean
        if self.refresh == "used":
            mean = mean + examples.remember(batch, news)
        if examples.tidied():
            mean = examples.means()  # without what rounding had added up
        tracker = round.mix(state.tracker + estimate - state.estimate)
        x = round.mix(round.descend(x, tracker))
        return SagaState(x, tracker, estimate, mean, examples.memory)


class _Remembered:
    """A memory in the course of a step, which replaces it and changes none of its arrays.

    Args:
        counts: m_i, ``(n,)``.
        memory: that before the step.
    """

    def __init__(self, counts: np.ndarray, memory: Memory):
        self.memory = memory
        self._counts = counts.astype(np.intp)
        self._starts = np.cumsum(self._counts) - self._counts

    def look_at_all(self, x: np.ndarray, samples: Samples) -> None:
        """Remember the gradients on all examples at one point of each worker."""
        table = np.empty(self.memory.table.shape)
        for k in range(self._counts.max()):
            found = samples.gradient(x, (k % self._counts)[:, None])
            having = k < self._counts
            table[self._starts[having] + k] = found[having]
        self.memory = self.memory._replace(table=table)

    def means(self) -> np.ndarray:
        """Over each worker's examples, ``(n, d[, r])``, where all are in the table."""
        table, n = self.memory.table, len(self._counts)
        if len(table) == n * self._counts.max():  # all have as many
            return table.reshape(n, -1, *table.shape[1:]).mean(axis=1)
        return self._by_count(np.add.reduceat(table, self._starts))

    def news(self, batch: Batch) -> list[np.ndarray]:
        """What was found on each example of a batch, less what was seen of it before."""
        return [found - self._last(number) for number, found in batch]

    def _last(self, number: np.ndarray) -> np.ndarray:
        """The gradients last seen on the examples of these numbers ``(n[, r])``, ``(n, d[, r])``."""
        table, recent, numbers = self.memory
        found = rows_at(table, self._place(number))
        same = numbers.reshape(-1, *number.shape) == number
        worker, *replica = np.nonzero(same.any(axis=0))
        if len(worker):
            latest = len(same) - 1 - same[(slice(None), worker, *replica)][::-1].argmax(axis=0)
            newer: tuple[Any, ...] = (worker, slice(None), *replica)
            found[newer] = recent[(latest * len(number) + worker, *newer[1:])]
        return found

    def remember(self, batch: Batch, news: list[np.ndarray]) -> np.ndarray:
        """Keep what was found on each example of a batch; by how much that changes the means."""
        change = news[0]
        for k in range(1, len(batch)):  # an example that is there twice is new once
            is_new = np.all([batch[k][0] != number for number, _ in batch[:k]], axis=0)
            change = change + _beside(is_new, news[k]) * news[k]
        table, recent, numbers = self.memory
        latest = [number[:, None] for number, _ in batch]
        before = [numbers] if len(numbers) else []
        self.memory = Memory(
            table,
            np.concatenate([recent, *(found for _, found in batch)]),
            np.concatenate([*before, *latest]),
        )
        return self._by_count(change)

    def tidied(self) -> bool:
        """Whether so much was remembered that it is put into a table of its own now."""
        table, recent, numbers = self.memory
        n = len(self._counts)
        k = len(numbers) // n
        if k * k * n < 4 * len(table):
            return False
        table = table.copy()
        for number, found in zip(
            numbers.reshape(k, n, *numbers.shape[2:]), np.split(recent, k), strict=True
        ):
            place = self._place(number)
            if number.ndim == 1:
                table[place] = found
            else:
                table[place, :, np.arange(number.shape[1])] = found.swapaxes(1, 2)
        self.memory = Memory(table, recent[:0], recent[:0])
        return True

    def _place(self, number: np.ndarray) -> np.ndarray:
        return (self._starts if number.ndim == 1 else self._starts[:, None]) + number

    def _by_count(self, sums: np.ndarray) -> np.ndarray:
        return sums / _beside(self._counts, sums)


def _beside(each: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """A number for each worker ``(n,)``, or each replica of it ``(n, r)``, to go with ``(n, d[, r])``."""
    return each.reshape(len(each), 1, *(each.shape[1:] or (1,) * (vectors.ndim - 2)))


class PointState(NamedTuple):
    """``x``, the tracker Y, the last ``estimate`` V, and the ``point`` that examples are compared at; the
    last ``full`` gradient; all ``(n, d[, r])``.
    """

    x: np.ndarray
    tracker: np.ndarray
    estimate: np.ndarray
    point: np.ndarray
    full: np.ndarray


@dataclass(frozen=True)
class _Periodic(_VarianceReduced):
    """What a full gradient every so many steps makes of the batches between."""

    period: int = 10

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.period, "period", 1)

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return self.period

    def init(self, x0: np.ndarray, network: Network) -> PointState:
        nothing = np.zeros_like(x0)
        return PointState(x0, nothing, nothing, x0, nothing)

    def step(self, state: PointState, round: Round) -> PointState:
        x, samples = state.x, round.samples
        if round.step % self.period == 0:
            estimate = samples.full_gradient(x).copy()
            point, full = x, estimate
        else:
            numbers = samples.draw()
            estimate = samples.gradient(x, numbers) - samples.gradient(state.point, numbers)
            estimate += self._base(state)
            point, full = self._next_point(state), state.full
        tracker = round.mix(state.tracker) + estimate - state.estimate
        x = round.descend(round.mix(x), tracker)
        return PointState(x.copy(), tracker, estimate, point, full)

    @abc.abstractmethod
    def _base(self, state: PointState) -> np.ndarray:
        """What the difference between two points is added to."""

    @abc.abstractmethod
    def _next_point(self, state: PointState) -> np.ndarray:
        """The point that the next batch is compared at."""


@dataclass(frozen=True)
class GTSARAH(_Periodic):
    """GT-SARAH: gradient tracking of estimates that each batch moves on from the last one.

    V = ∇f(X) in every ``period``-th step, from the first on; else V ← V + ∇f_s(X) − ∇f_s(X⁻), with the same
    examples s at both points. Y ← WY + V − V⁻;  X ← WX − γY. Y and V are 0 before the first step.

    Args:
        period: steps from one full gradient to the next, at least 1, with which it is gradient tracking.

    Any connected topology, a problem with examples, and `relaysim.oracles.Table`; refused with other oracles.
    Sends two vectors per directed edge and step, and takes the gradients on all examples in one step of a
    period, on two batches in each of the others. Exact for any ζ and any batch, at a constant rate, if W is
    doubly stochastic and the rate is small enough.

    Source: Xin, Khan, Kar, "Fast decentralized nonconvex finite-sum optimization with recursive variance
    reduction", SIAM Journal on Optimization 2022; as in public code (decent-bench, whose
    ``num_local_steps`` is ``period − 1``, and NDA).

    >>> GTSARAH(period=20).cycle
    20
    """

    label: ClassVar[str] = "GT-SARAH"
    references: ClassVar[tuple[str, ...]] = ("xin2022fast",)

    def _base(self, state: PointState) -> np.ndarray:
        return state.estimate

    def _next_point(self, state: PointState) -> np.ndarray:
        return state.x


@dataclass(frozen=True)
class GTSVRG(_Periodic):
    """GT-SVRG: gradient tracking of estimates that are corrected by a full gradient of some steps ago.

    X̃ = X in every ``period``-th step, from the first on, and V = ∇f_s(X) − ∇f_s(X̃) + ∇f(X̃), with the same
    examples s at both points. Y ← WY + V − V⁻;  X ← WX − γY. Y and V are 0 before the first step.

    Args:
        period: as of `GTSARAH`.

    Any connected topology, a problem with examples, and `relaysim.oracles.Table`; refused with other oracles.
    Sends and takes as many vectors and gradients as `GTSARAH`. Exact for any ζ and any batch, at a constant
    rate, if W is doubly stochastic and the rate is small enough.

    Source: after Xin, Khan, Kar, "Variance-reduced decentralized stochastic optimization with gradient
    tracking, part II: GT-SVRG", 2019, whose text was not at hand: the estimate is that of SVRG, the order of
    mixing and moving is `GTSARAH`'s.

    >>> GTSVRG(period=20).vectors_per_edge(10)
    2
    """

    label: ClassVar[str] = "GT-SVRG"
    references: ClassVar[tuple[str, ...]] = ("xin2019variance",)

    def _base(self, state: PointState) -> np.ndarray:
        return state.full

    def _next_point(self, state: PointState) -> np.ndarray:
        return state.point
