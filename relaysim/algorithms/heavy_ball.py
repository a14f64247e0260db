"""Gossip with the momentum of heavy balls: neighbours' movement, and the gradient of a penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, MomentumMethod, Round, check_momentum
from relaysim.algorithms.gossip import MomentumState
from relaysim.faults import LOST_MESSAGES
from relaysim.mixing.accelerated import heavy_ball_momentum
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number

__all__ = ["DecentLaM", "HeavyBallConsensus", "MomentumConsensus"]


class MovingState(NamedTuple):
    """``x`` and the iterates ``before`` it, both ``(n, d[, r])``; equal at the start."""

    x: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class MomentumConsensus(MomentumMethod):
    """Momentum-accelerated consensus: a heavy ball whose momentum is averaged with the neighbours'.

    X' = WX − γG + βD,  D = V + ω(W − I)V with the movement V = X − X⁻, 0 at the start.

    Args:
        momentum: β in [0, 1).
        omega: ω in [0, 1], how much of the momentum is that of the neighbourhood.

    Any connected topology. Sends two vectors per directed edge and step: model and movement (one where
    omega or momentum is 0). Not exact.

    Source: Balu, Jiang, Tan, Hedge, Lee, Sarkar, "Decentralized deep learning using momentum-accelerated
    consensus", ICASSP 2021; the rule as read from a secondary text.

    >>> MomentumConsensus(momentum=0.5, omega=0.3).vectors_per_edge(10)
    2
    """

    momentum: float = 0.9
    omega: float = 0.5

    label: ClassVar[str] = "Momentum consensus"
    references: ClassVar[tuple[str, ...]] = ("balu2021decentralized",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        real_number(self.omega, "omega", 0, 1)

    def vectors_per_edge(self, d: int) -> float:
        return 2 if self.momentum and self.omega else 1

    def init(self, x0: np.ndarray, network: Network) -> MovingState:
        return MovingState(x0, x0)

    def step(self, state: MovingState, round: Round) -> MovingState:
        x = round.mix(state.x) - round.learning_rate * round.gradient(state.x)
        if self.momentum:
            movement = state.x - state.before
            if self.omega:
                movement = movement + self.omega * round.mix_change(movement)
            x += self.momentum * movement
        return MovingState(x, state.x)


@dataclass(frozen=True)
class HeavyBallConsensus(Method):
    """Heavy-ball consensus: gossip that agrees as a heavy ball rolls, while gradients push it.

    X' = (1 + η)WX − ηX⁻ − (1 − η)γG, with X⁻ = X at the start.

    Args:
        momentum: η in [0, 1); None for that which agrees fastest, (1 − √(1 − λ²))/(1 + √(1 − λ²)) with
            λ = ‖W − J‖₂, for which W has to be one symmetric matrix.

    Any connected topology. Sends one vector per directed edge and step. At learning rate 0 workers agree in
    √ of the rounds of plain gossip: X after k steps is `relaysim.mixing.fast_mix` of k rounds. The mean
    descends with dampened momentum η. Not exact.

    Source: Liu and Morse, "Accelerated linear iterations for distributed averaging", 2011, for consensus;
    gradients are added here as `MomentumConsensus` has them.

    >>> HeavyBallConsensus().vectors_per_edge(10)
    1
    """

    momentum: float | None = None

    label: ClassVar[str] = "Heavy-ball consensus"
    references: ClassVar[tuple[str, ...]] = ("liu2011accelerated",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        if self.momentum is not None:
            check_momentum(self.momentum)

    @property
    def mixing_needs(self) -> str:
        return "one symmetric" if self.momentum is None else "nothing"

    @property
    def rate_scale(self) -> float:
        eta = self.momentum or 0.0
        return (1 + eta) / (1 - eta)

    def init(self, x0: np.ndarray, network: Network) -> MovingState:
        return MovingState(x0, x0)

    def step(self, state: MovingState, round: Round) -> MovingState:
        eta = self.momentum
        if eta is None:
            eta = heavy_ball_momentum(round.disagreement_left)
        push = (1 - eta) * round.learning_rate * round.gradient(state.x)
        x = (1 + eta) * round.mix(state.x)
        x -= eta * state.before
        x -= push
        return MovingState(x, state.x)


@dataclass(frozen=True)
class DecentLaM(MomentumMethod):
    """DecentLaM: momentum on the gradient of the penalised loss, which takes the network along.

    G̃ = (X − W(X − γG))/γ;  M ← βM + G̃;  X' = X − γM.

    Args:
        momentum: β in [0, 1). M is not dampened by 1 − β, as in the paper: large learning rates are
            smaller by that factor than those of the other methods here.

    Any connected topology. Sends one vector per directed edge and step. Not exact. It ends where G̃ = 0,
    X = W(X − γG), whatever β: at equal γ that is where `DPSGD` ends, whose momentum is dampened. What it
    gains is that it moves by γ/(1 − β) a step: `DPSGD` at that rate, as undampened momentum would have it,
    ends further off, by up to 1/(1 − β)² times in ‖x̄ − x*‖. At learning rate 0 workers average, X' = WX, and
    M stays as it is.

    Source: Yuan, Chen, Huang, Zhang, Pan, Xu, Yin, "DecentLaM: decentralized momentum SGD for large-batch
    deep training", ICCV 2021.

    >>> DecentLaM().momentum
    0.9
    """

    momentum: float = 0.9

    label: ClassVar[str] = "DecentLaM"
    references: ClassVar[tuple[str, ...]] = ("yuan2021decentlam",)
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)

    def init(self, x0: np.ndarray, network: Network) -> MomentumState:
        return MomentumState(x0, np.zeros_like(x0))

    def step(self, state: MomentumState, round: Round) -> MomentumState:
        rate = round.learning_rate
        mixed = round.mix(round.descend(state.x, round.gradient(state.x)))
        momentum = round.over_rate(state.x - mixed)
        momentum += self.momentum * state.momentum
        x = round.descend(state.x, momentum).copy()
        if round.some_rest:
            resting = np.equal(rate, 0)
            np.copyto(momentum, state.momentum, where=resting)
            np.copyto(x, mixed, where=resting)
        return MomentumState(x, momentum)
