"""Methods that seldom communicate: random pairs and one merge at the end; averaging on demand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.algorithms.global_average import ModelState
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.support.checks import one_of, plain_options, real_number, whole_number
from relaysim.support.gathering import put_rows, rows_at

__all__ = ["DynamicAveraging", "SingleMerge"]


@dataclass(frozen=True)
class SingleMerge(Method):
    """Sparse random gossip, and one global average at the end.

    x_i ← x_i − γ g_i;  every ``local_steps`` steps each worker is ready with the given probability, the
    ready ones form random pairs (an odd one stays alone), and pairs average;  after ``merge_at`` steps all
    workers average once.

    Args:
        merge_at: the step after which all are averaged, at least 1. A run of fewer steps
            is refused, but with ``keep_state=True``, to go on later.
        probability: of being ready, in [0, 1].
        local_steps: steps between two rounds of pairs, at least 1.
        count: what the merge sends, as of `AllReduce`: ``"ring"`` 2(n − 1) vectors, ``"all-to-all"``
            n(n − 1).

    Of the topology it uses only n. Sends two vectors a pair, and an average for the merge. Not exact. The
    mean moves as in parallel SGD: pairs are a doubly stochastic matrix. (The published code lets several
    workers contact the same one, which is not.)

    Source: Zhu, Zhang, Wang, Zhou, Wang, "On the surprising effectiveness of a single global merging in
    decentralized learning", ICLR 2026.

    >>> SingleMerge(merge_at=100).probability
    0.2
    """

    merge_at: int
    probability: float = 0.2
    local_steps: int = 1
    count: str = "ring"

    label: ClassVar[str] = "Single merge"
    references: ClassVar[tuple[str, ...]] = ("zhu2026surprising",)
    uses: ClassVar[str] = "workers"
    hops_per_step: ClassVar[float] = math.inf
    affine: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.merge_at, "merge_at", 1)
        real_number(self.probability, "probability", 0, 1)
        whole_number(self.local_steps, "local_steps", 1)
        one_of(self.count, "count", tuple(AVERAGE_COUNTS))

    @property
    def random(self) -> bool:
        return self.probability > 0

    @property
    def least_steps(self) -> int:
        return self.merge_at

    @property
    def repeats_from(self) -> int:
        return self.merge_at

    def vectors_per_edge(self, d: int) -> None:
        """None: pairs are random."""

    def own_mixing(self, n: int) -> None:
        """None: pairs are drawn anew each time."""

    def init(self, x0: np.ndarray, network: Network) -> ModelState:
        return ModelState(x0)

    def step(self, state: ModelState, round: Round) -> ModelState:
        x = round.descend(state.x, round.gradient(state.x))
        if round.step + 1 == self.merge_at:
            return ModelState(round.average(x, self.count))
        if (round.step + 1) % self.local_steps or self.probability == 0:
            return ModelState(x.copy())
        uniform = round.uniforms((x.shape[0], 2, *x.shape[2:]))
        partner, paired = random_pairs(uniform, self.probability)
        round.send(paired)
        merged = rows_at(x, partner)
        merged += x
        merged *= 0.5
        return ModelState(merged)


def random_pairs(uniform: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray | int]:
    """Random pairs of workers, each ready with a probability.

    Args:
        uniform: ``(n, 2[, r])``, for readiness and for the order in which pairs form.
        probability: of being ready.

    Returns:
        Everyone's partner ``(n[, r])``, itself for those who have none, and how many have one, ``(r,)``
        or a number.

    >>> partner, paired = random_pairs(np.array([[0.1, 0.7], [0.9, 0.2], [0.1, 0.3]]), 0.5)
    >>> partner.tolist(), int(paired)
    ([2, 1, 0], 2)
    """
    n = len(uniform)
    ready = uniform[:, 0] < probability
    order = np.argsort(np.where(ready, uniform[:, 1], 2.0), axis=0, kind="stable")
    paired = np.count_nonzero(ready, axis=0) // 2 * 2
    place = np.arange(n).reshape(n, *(1,) * (order.ndim - 1))
    opposite = order.take(np.minimum(np.arange(n) ^ 1, n - 1), 0)
    return put_rows(order, np.where(place < paired, opposite, order)), paired


class ReferenceState(NamedTuple):
    """``x (n, d[, r])``, the last average of all, ``reference (1, d[, r])``, x⁰'s at the start, and the
    ``violations (1, 1[, r])`` since the last averaging that they forced.
    """

    x: np.ndarray
    reference: np.ndarray
    violations: np.ndarray


@dataclass(frozen=True)
class DynamicAveraging(Method):
    """Dynamic averaging: workers average only where someone has moved too far.

    x_i ← x_i − γ g_i;  every ``period`` steps those with ‖x_i − r‖² > Δ send their models to a
    coordinator, which asks further workers in random order until ‖mean − r‖² ≤ Δ, and sets all who were
    asked to that mean. The coordinator counts violations, v ← v + |violators|: once v ≥ n it asks everybody,
    and v ← 0. Whenever all workers were asked, the mean becomes the new r.

    Args:
        threshold: Δ ≥ 0.
        period: steps between two checks, at least 1.

    Of the topology it uses only n. Sends two vectors for each worker that takes part: up and down. Not
    exact, but where all average in every step: with Δ = 0 and ``period`` 1. r is the mean of x⁰ at the start,
    which is the model of all if they start equal.

    Source: Kamp, Adilova, Sicking, Hüger, Schlicht, Wirtz, Wrobel, "Efficient decentralized deep learning
    by dynamic model averaging", ECML-PKDD 2018; the rule as read from secondary texts. (The authors' code
    counts no violations, asks 2|B| further workers at a time, and everybody from n/2 on.)

    >>> DynamicAveraging(threshold=0.1, period=5).period
    5
    """

    threshold: float
    period: int = 1

    label: ClassVar[str] = "Dynamic averaging"
    references: ClassVar[tuple[str, ...]] = ("kamp2018efficient",)
    uses: ClassVar[str] = "workers"
    hops_per_step: ClassVar[float] = math.inf
    affine: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.threshold, "threshold", 0)
        whole_number(self.period, "period", 1)

    @property
    def random(self) -> bool:
        """Whether anyone is asked in random order: without a threshold all take part who have moved."""
        return self.threshold > 0

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ: where all who have moved average in every step."""
        return self.threshold == 0 and self.period == 1

    def vectors_per_edge(self, d: int) -> None:
        """None: it depends on how workers move."""

    def own_mixing(self, n: int) -> None:
        """None: a coordinator averages."""

    def init(self, x0: np.ndarray, network: Network) -> ReferenceState:
        violations = np.zeros((1, 1, *x0.shape[2:]), dtype=np.int64)
        return ReferenceState(x0, x0.mean(axis=0, keepdims=True), violations)

    def step(self, state: ReferenceState, round: Round) -> ReferenceState:
        x = round.descend(state.x, round.gradient(state.x))
        if (round.step + 1) % self.period:
            return state._replace(x=x.copy())
        n = len(x)
        moved = x - state.reference
        away = np.einsum("nd...,nd...->n...", moved, moved)
        violates = away > self.threshold
        violators = np.count_nonzero(violates, axis=0)
        uniform = round.uniforms((n, 1, *x.shape[2:]))[:, 0]
        if np.all(violators):
            result, taking = self._averaged(state._replace(x=x), violates, uniform)
            round.send(2 * taking)
            return result
        # In most replicas nobody has moved too far.
        x = x.copy()
        if not np.any(violators):
            round.send(0 * violators)
            return state._replace(x=x)
        some = np.flatnonzero(violators)
        of_some = ReferenceState(*(part.take(some, -1) for part in (x, *state[1:])))
        found, taking = self._averaged(of_some, violates[:, some], uniform[:, some])
        sent = np.zeros_like(violators)
        sent[some] = 2 * taking
        round.send(sent)
        result = ReferenceState(x, state.reference.copy(), state.violations.copy())
        for whole, part in zip(result, found, strict=True):
            whole[..., some] = part
        return result

    def _averaged(
        self, state: ReferenceState, violates: np.ndarray, uniform: np.ndarray
    ) -> tuple[ReferenceState, np.ndarray]:
        """What comes of violations, ``(n[, r])``, in each replica; and how many workers are asked."""
        x, n = state.x, len(state.x)
        violators = np.count_nonzero(violates, axis=0)
        order = np.argsort(np.where(violates, -1.0, uniform), axis=0, kind="stable")
        # The mean over the first k + 1 workers in that order, for every k.
        sizes = np.arange(1, n + 1).reshape((n,) + (1,) * (x.ndim - 1))
        means = np.cumsum(rows_at(x, order), axis=0) / sizes
        near = ((means - state.reference) ** 2).sum(axis=1) <= self.threshold
        enough = near & (sizes[:, 0] >= violators)
        enough[-1] = True
        violations = state.violations + violators
        forced = violations >= n
        taking = np.where(forced[0, 0], n, enough.argmax(axis=0) + 1)
        mean = rows_at(means, taking[None] - 1)
        asked = put_rows(order, sizes[:, 0] <= taking)
        averaged = np.where(asked[:, None], mean, x)
        reference = np.where(taking == n, mean, state.reference)
        return ReferenceState(averaged, reference, np.where(forced, 0, violations)), taking
