"""Steps as long as each worker's own smoothness allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.faults import LOST_MESSAGES
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.support.checks import one_of, plain_options, true_or_false, whole_number

__all__ = ["LocalRates"]


class PhaseState(NamedTuple):
    """``x``, ``(n, d[, r])``, and the steps ``left`` of the first phase, ``(1, 1)``; −1 if it never ends."""

    x: np.ndarray
    left: np.ndarray


@dataclass(frozen=True)
class LocalRates(Method):
    """Local rates, then a common one: each worker's steps are as long as its own smoothness allows.

    x ← x − γ (1/n) Σ_i g_i(x)/L_i in the first ``switch`` steps;  x ← x − (γ/L̄) (1/n) Σ_i g_i(x) then, with
    L̄ = (1/n) Σ L_i. As gossip: X ← W(X − γDG) with D = diag(1/L_i), and then D = I/L̄.

    Args:
        switch: the steps of the first phase, at least 0; None for no end.
        gossip: mix with W in the place of exact averages.
        count: what an average sends, as of `AllReduce`: ``"ring"`` 2(n − 1) vectors, ``"all-to-all"``
            n(n − 1).

    γ has no unit here: it multiplies 1/L_i, and 1 is the published rate. The problem has to say its
    ``local_smoothness``; see `relaysim.theory.local_smoothness`. A worker whose L_i is 0 has no such step: a
    first phase with one is refused. Without gossip of the topology only n is used. The first phase is
    gradient descent on Σ f_i/L_i and ends there, not at x*; the more the L_i differ, the faster it is at
    first, and where they are alike nothing is gained. The second is exact without gossip.

    Source: Chen, Wang, Wang, "Accelerating optimization and machine learning through decentralization",
    2026, by secondary texts: in the paper the second phase begins once progress stalls, by a rule that was
    not read; here the step is given. That the first phase minimises Σ f_i/L_i is derived here and checked by
    a test.

    >>> LocalRates(switch=20).exact, LocalRates(switch=None).exact
    (True, False)
    """

    switch: int | None
    gossip: bool = False
    count: str = "ring"

    label: ClassVar[str] = "Local rates"
    references: ClassVar[tuple[str, ...]] = ("chen2026accelerating",)
    directed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        if self.switch is not None:
            whole_number(self.switch, "switch", 0)
        true_or_false(self.gossip, "gossip")
        one_of(self.count, "count", tuple(AVERAGE_COUNTS))

    @property
    def uses(self) -> str:
        return "mixing" if self.gossip else "workers"

    @property
    def exact(self) -> bool:
        return not self.gossip and self.switch is not None

    @property
    def repeats_from(self) -> int:
        return self.switch or 0

    @property
    def faults(self) -> tuple[str, ...]:
        return (LOST_MESSAGES,) if self.gossip else ()

    @property
    def hops_per_step(self) -> float:
        return 1 if self.gossip else math.inf

    def vectors_per_edge(self, d: int) -> float:
        """Vectors over each directed edge; without gossip of an average, edges between all workers or round
        a ring.
        """
        return 1

    def own_mixing(self, n: int) -> None:
        """None: it averages."""

    def init(self, x0: np.ndarray, network: Network) -> PhaseState:
        flat = network.workers.local_smoothness == 0
        if flat.any() and (self.switch != 0 or flat.all()):
            mend = "" if flat.all() else "LocalRates(switch=0), whose steps are γ/L̄, or "
            raise ValueError(
                f"LocalRates takes steps of γ/L_i, and worker {int(np.argmax(flat))} has L_i = 0, an "
                f"objective without curvature; take {mend}a method with one rate, such as AllReduce()"
            )
        return PhaseState(x0, np.full((1, 1), -1 if self.switch is None else self.switch))

    def step(self, state: PhaseState, round: Round) -> PhaseState:
        smoothness = round.local_smoothness
        left = state.left
        if left == 0:
            smoothness = np.full_like(smoothness, smoothness.mean())
        scaled = round.gradient(state.x) / smoothness.reshape(-1, *(1,) * (state.x.ndim - 1))
        half = round.descend(state.x, scaled, overwrite=True)
        x = round.mix(half) if self.gossip else round.average(half, self.count)
        return PhaseState(x, left - (left > 0))
