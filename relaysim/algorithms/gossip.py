"""Plain gossip and its momentum variants: neighbours average their models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import (
    Method,
    MomentumMethod,
    Round,
    check_momentum,
    no_buffer,
    smoothed,
)
from relaysim.faults import ALTERED, LATE_MESSAGES, LIES, LOST_MESSAGES, STOPS
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.support.checks import (
    one_of,
    plain_options,
    positive_share,
    true_or_false,
    whole_number,
)

__all__ = ["DPSGD", "GossipPGA", "QuasiGlobalMomentum"]


class MomentumState(NamedTuple):
    """``x`` and ``momentum``, both ``(n, d[, r])`` (no rows where there is no momentum)."""

    x: np.ndarray
    momentum: np.ndarray


@dataclass(frozen=True)
class DPSGD(MomentumMethod):
    """Decentralized SGD: step on the own gradient, then average with the neighbours.

    m ← βm + (1 − β)g;  X ← W(X − γM), or X ← WX − γM with ``overlap=True``, where averaging and
    computing the gradient can go on at the same time. With ``consensus=a`` below 1 it is I + a(W − I) in
    the place of W: workers are drawn together less, as `DSGDAC` does in the end.

    Args:
        momentum: β in [0, 1).
        overlap: mix first, then step.
        consensus: a in (0, 1].

    With ``overlap=True`` and equal Hessians, a mode with curvature h and eigenvalue λ of W is multiplied by
    ρ = 1 − a(1 − λ) − γh a step, so that noise of variance s keeps its variance at γ²s / (1 − ρ²); the mean
    moves as in parallel SGD whatever a (derived here, and checked by simulation).

    Any connected topology. Sends one vector per directed edge and step. Not exact: at a constant
    learning rate it stalls at a distance that grows with γ ζ / (1 − λ₂). Over one-way links whose W is not
    doubly stochastic it does so about argmin Σ_i π_i f_i, with the left eigenvector π of W.

    Source: Lian et al., "Can decentralized algorithms outperform centralized algorithms?", NeurIPS
    2017 (which has ``overlap=True``); published names DP-SGD, gossip SGD, DGD.

    >>> DPSGD(momentum=0.9)
    DPSGD(momentum=0.9, overlap=False, consensus=1.0)
    """

    momentum: float = 0.0
    overlap: bool = False
    consensus: float = 1.0

    label: ClassVar[str] = "DP-SGD (gossip)"
    references: ClassVar[tuple[str, ...]] = ("lian2017can",)
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES, ALTERED, LATE_MESSAGES, STOPS, LIES)
    theorems: ClassVar[tuple[str, ...]] = ("dp_sgd", "dp_sgd_rate")

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        true_or_false(self.overlap, "overlap")
        positive_share(self.consensus, "consensus")

    @property
    def overlaps(self) -> bool:
        return self.overlap

    def init(self, x0: np.ndarray, network: Network) -> MomentumState:
        return MomentumState(x0, np.zeros_like(x0) if self.momentum else no_buffer(x0))

    def step(self, state: MomentumState, round: Round) -> MomentumState:
        direction, momentum = smoothed(state.momentum, round.gradient(state.x), self.momentum)
        if self.overlap:
            x = self._mixed(state.x, round) - round.learning_rate * direction
        else:
            x = self._mixed(round.descend(state.x, direction), round)
        return MomentumState(x, momentum)

    def _mixed(self, x: np.ndarray, round: Round) -> np.ndarray:
        if self.consensus == 1:
            return round.mix(x)
        return x + self.consensus * round.mix_change(x)


@dataclass(frozen=True)
class QuasiGlobalMomentum(MomentumMethod):
    """Gossip with a momentum that follows the model's movement instead of the local gradients.

    X' = W(X − γ(βM + G));  M ← βM + (1 − β)(X − X')/γ;  M = 0 at the start.

    Args:
        momentum: β in [0, 1).
        form: ``"paper"``, as above, or ``"toy"``, which steps along (βM + G)/(1 + β).

    Any connected topology. Sends one vector per directed edge and step. Not exact. At learning rate
    0 the movement divided by γ has no meaning, and M stays as it is.

    Neither form is the other at another rate. The toy's is the paper's at the rate γ/(1 + β) with β/(1 + β)
    in the place of the β of the step, while M is averaged with β as before. With little curvature M is the
    step, so that the paper's form moves by γg/(1 − β) a step and the toy's by γg.

    Source: Lin, Karimireddy, Stich, Jaggi, "Quasi-global momentum: accelerating decentralized deep learning
    on heterogeneous data", ICML 2021, with one β for both its averages (its default, .9); ``"toy"``: the
    code published with Vogels et al., NeurIPS 2021. Published name QG-DSGDm.

    >>> QuasiGlobalMomentum()
    QuasiGlobalMomentum(momentum=0.9, form='paper')
    """

    momentum: float = 0.9
    form: str = "paper"

    label: ClassVar[str] = "Quasi-global momentum"
    references: ClassVar[tuple[str, ...]] = ("lin2021quasi",)
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES, ALTERED, LIES)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        one_of(self.form, "form", ("paper", "toy"))

    @property
    def rate_scale(self) -> float:
        """(1 + 2β − β²)/(1 + β) for the paper's form, which is not dampened.

        With one worker of curvature h it is stable for γh < 2(1 + 2β − β²)/(1 + β).

        >>> QuasiGlobalMomentum(momentum=0.5).rate_scale
        1.1666666666666667
        """
        if self.form == "toy":
            return super().rate_scale
        return (1 + 2 * self.momentum - self.momentum**2) / (1 + self.momentum)

    def init(self, x0: np.ndarray, network: Network) -> MomentumState:
        return MomentumState(x0, np.zeros_like(x0))

    def step(self, state: MomentumState, round: Round) -> MomentumState:
        beta, rate = self.momentum, round.learning_rate
        momentum = beta * state.momentum
        direction = momentum + round.gradient(state.x)
        if self.form == "toy":
            direction /= 1 + beta
        x = round.mix(round.descend(state.x, direction))
        movement = round.over_rate(state.x - x)
        movement *= 1 - beta
        momentum += movement
        if round.some_rest:
            np.copyto(momentum, state.momentum, where=np.equal(rate, 0))
        return MomentumState(x, momentum)


@dataclass(frozen=True)
class GossipPGA(Method):
    """Gossip with periodic global averages: gossip in which every H-th step averages over all workers.

    X ← W(X − γG), and in steps H, 2H, …:  X ← J(X − γG), J = 11ᵀ/n.

    Args:
        period: H, at least 1. With 1 it is `AllReduce`.
        count: what a global average sends, as of `AllReduce`: ``"ring"`` 2(n − 1) vectors, ``"all-to-all"``
            n(n − 1).

    Any connected topology. Sends one vector per directed edge and step, or an average. Not exact for H > 1:
    at a constant rate it stalls, though nearer than gossip does, and nearest right after an average.

    Source: Chen, Yuan, Zhang, Pan, Xu, Yin, "Accelerating gossip SGD with periodic global averaging", ICML
    2021.

    >>> GossipPGA(period=1).exact, GossipPGA(period=8).cycle
    (True, 8)
    """

    period: int = 8
    count: str = "ring"

    label: ClassVar[str] = "Gossip-PGA"
    references: ClassVar[tuple[str, ...]] = ("chen2021accelerating",)
    uses: ClassVar[str] = "mixing"
    hops_per_step: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.period, "period", 1)
        one_of(self.count, "count", tuple(AVERAGE_COUNTS))

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ: where every step averages exactly."""
        return self.period == 1

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return self.period

    def vectors_per_edge(self, d: int) -> None:
        """None: what an average sends is not a number for each edge."""

    def init(self, x0: np.ndarray, network: Network) -> MomentumState:
        return MomentumState(x0, no_buffer(x0))

    def step(self, state: MomentumState, round: Round) -> MomentumState:
        x = round.descend(state.x, round.gradient(state.x))
        mixed = round.mix(x) if (round.step + 1) % self.period else round.average(x, self.count)
        return state._replace(x=mixed)
