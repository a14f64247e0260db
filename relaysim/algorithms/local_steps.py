"""Methods that make several steps between two rounds of communication, and correct what these do apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round, share_of
from relaysim.algorithms.corrected import Corrected, CorrectedState
from relaysim.algorithms.global_average import Federated
from relaysim.faults import LOST_MESSAGES
from relaysim.mixing.outcomes import Outcomes, of_coins
from relaysim.network import Network
from relaysim.support.checks import plain_options, positive_share, whole_number

__all__ = ["KGT", "LED", "ProxSkip", "Scaffold"]


@dataclass(frozen=True)
class LED(Corrected):
    """LED: local exact diffusion, which mixes after every K-th step.

    X ← X − γG + C/K in each step;  after steps K, 2K, …:  Φ = X;  X ← ½(I + W)Φ;  C ← C + X − Φ;
    C = 0 at the start.

    Args:
        period: K, at least 1. With 1 it is `ExactDiffusion`.

    Any connected topology and any symmetric doubly stochastic W. Sends one vector per directed edge every K
    steps. Exact for any ζ. Local steps save rounds where the problem is worse conditioned than the graph:
    κ beside 1/(1 − λ₂). Of a sequence of matrices it uses those of the steps in which it mixes, which have to
    connect all workers: of a sequence that is repeated matrix by matrix, K times each, all of them.

    Source: Alghunaim, "Local exact-diffusion for decentralized optimization and learning", IEEE Transactions
    on Automatic Control, 2024; the rule by decent-bench's code of it, with ½(I + W) for W and β = 1/K.

    >>> LED(period=5).vectors_per_edge(10), LED(period=5).cycle
    (0.2, 5)
    """

    period: int = 5

    label: ClassVar[str] = "LED"
    references: ClassVar[tuple[str, ...]] = ("alghunaim2024local",)
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.period, "period", 1)

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return self.period

    @property
    def sends_every(self) -> int:
        """Steps between two communications."""
        return self.period

    def vectors_per_edge(self, d: int) -> float:
        return 1 / self.period

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        x = round.descend(state.x, round.gradient(state.x))
        x += state.correction / self.period
        if (round.step + 1) % self.period:
            return state._replace(x=x.copy())
        change = round.mix_change(x, laziness=0.5)
        return CorrectedState(x + change, state.correction + change)


@dataclass(frozen=True)
class ProxSkip(Corrected):
    """ProxSkip: exact diffusion that mixes in some steps only, as a coin has it that all workers share.

    Z = X − γG + C;  with probability p:  X ← ½(I + W)Z and C ← C + p(X − Z);  else X ← Z;  C = 0 at the
    start.

    Args:
        probability: p in (0, 1]. With 1 it is `ExactDiffusion`.

    Any connected topology and any symmetric doubly stochastic W. Sends one vector per directed edge in a step
    that mixes, p on average. Exact for any ζ. With p ≈ 1/√κ it takes as many gradients as exact diffusion
    does, and √κ times fewer rounds, where the graph is better connected than the problem is conditioned.
    Replicas have coins of their own; of a sequence of matrices that of the step is used.

    Source: Mishchenko, Malinovsky, Stich, Richtárik, "ProxSkip: yes! Local gradient steps provably lead to
    communication acceleration! Finally!", ICML 2022; decentralised as in Guo, Alghunaim, Yuan, Condat, Cao,
    "Revisiting decentralized ProxSkip", 2023, by decent-bench's code of it with β = p and χ = 1.

    >>> ProxSkip(0.2).random, ProxSkip(1.0).random
    (True, False)
    """

    probability: float = 0.2

    label: ClassVar[str] = "ProxSkip"
    references: ClassVar[tuple[str, ...]] = ("mishchenko2022proxskip", "guo2023revisiting")
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        positive_share(self.probability, "probability")

    @property
    def affine(self) -> bool:
        """Whether a step is an affine map: where no coin is thrown."""
        return self.probability == 1

    @property
    def random(self) -> bool:
        """Whether a coin is thrown."""
        return self.probability < 1

    def outcomes(self) -> Outcomes:
        return of_coins(np.array([self.probability]))

    @property
    def sends_every(self) -> int | None:
        """None where a coin decides."""
        return 1 if self.probability == 1 else None

    def vectors_per_edge(self, d: int) -> float | None:
        """None where a coin decides; it is p on average."""
        return 1 if self.probability == 1 else None

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        z = round.descend(state.x, round.gradient(state.x))
        z += state.correction
        if self.probability == 1:
            change = round.mix_change(z, laziness=0.5)
            return CorrectedState(z + change, state.correction + change)
        heads = round.uniforms((1, 1, *z.shape[2:])) < self.probability
        # Skipped rounds are computed and not sent: what else a round draws does not depend on the coin.
        change = round.mix_change(z, share=heads[0, 0] * 1.0, laziness=0.5)
        change *= heads
        return CorrectedState(z + change, state.correction + self.probability * change)


class LocalTrackingState(NamedTuple):
    """``x``, the ``start`` of the round, the ``correction`` c and the round's sum of ``gradients``,
    ``(n, d[, r])``.
    """

    x: np.ndarray
    start: np.ndarray
    correction: np.ndarray
    gradients: np.ndarray


@dataclass(frozen=True)
class KGT(Method):
    """K-GT: gradient tracking with K local steps between two rounds.

    X' ← X' − γ(G(X') − C) in each of K steps from X' = X;  Z is the mean of their G − C, (X − X')/(Kγ) at a
    constant rate;  X ← W(X − η K γ Z);  C ← C + Z − WZ;  C = 0 at the start. (In the paper C has the opposite
    sign.)

    Args:
        period: K, at least 1. With 1, and rate 1, it is `GradientTracking`.
        rate: η in (0, 1], the share of the local move that is taken.

    Any connected topology. Sends two vectors per directed edge every K steps. Exact for any ζ if W is doubly
    stochastic. Of a sequence of matrices it uses those of the steps in which it mixes, which have to connect
    all workers: of a sequence that is repeated matrix by matrix, K times each, all of them.

    Source: Liu, Lin, Koloskova, Stich, "Decentralized gradient tracking with local steps", Optimization
    Methods and Software, 2024, by decent-bench's code of it.

    >>> KGT(period=4).vectors_per_edge(10)
    0.5
    """

    period: int = 5
    rate: float = 1.0

    label: ClassVar[str] = "K-GT"
    references: ClassVar[tuple[str, ...]] = ("liu2024decentralized",)
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.period, "period", 1)
        positive_share(self.rate, "rate")

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return self.period

    @property
    def sends_every(self) -> int:
        """Steps between two communications."""
        return self.period

    def vectors_per_edge(self, d: int) -> float:
        return 2 / self.period

    def conserved(
        self, state: LocalTrackingState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)

    def init(self, x0: np.ndarray, network: Network) -> LocalTrackingState:
        return LocalTrackingState(x0, x0, np.zeros_like(x0), np.zeros_like(x0))

    def step(self, state: LocalTrackingState, round: Round) -> LocalTrackingState:
        gradient = round.gradient(state.x)
        gradients = state.gradients + gradient
        x = round.descend(state.x, gradient - state.correction, overwrite=True)
        if (round.step + 1) % self.period:
            return state._replace(x=x.copy(), gradients=gradients)
        mean = gradients / self.period
        if self.rate < 1:
            x = state.start + self.rate * (x - state.start)
        x = round.mix(x)
        correction = mean - round.mix(mean - state.correction)
        return LocalTrackingState(x, x, correction, np.zeros_like(x))


class ControlState(NamedTuple):
    """``x``, the ``control`` variates c_i and the round's sum of gradients, ``(n, d[, r])``, and ``taking``,
    who takes part in this round, ``(n, 1[, r])``.
    """

    x: np.ndarray
    control: np.ndarray
    gradients: np.ndarray
    taking: np.ndarray


@dataclass(frozen=True)
class Scaffold(Federated):
    """SCAFFOLD: federated averaging whose local steps are corrected by what all gradients are on average.

    In every round a set S of ⌈Cn⌉ workers is drawn without replacement; those in it make K steps
    x_i ← x_i − γ(g_i − c_i + c), the others rest;  then for i ∈ S:  c_i ← the mean of its g_i in the round;
    and for all:  x ← (1/|S|) Σ_{i ∈ S} x_i;  c = (1/n) Σ_j c_j;  c_i = 0 at the start.

    Args:
        period: K, the steps of a round, at least 1. A step of the simulation is one of them.
        participation: C in (0, 1], the share of the workers that takes part in a round.

    Of the topology it uses only n. Sends four vectors for each worker in S and round: the server's x and c
    down, the changes of both up. Between two rounds' ends the rows of x are local models; the server's is any
    row after K, 2K, … steps. Exact for any ζ, whoever takes part. It is affine for C = 1.

    Source: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: stochastic controlled averaging for
    federated learning", ICML 2020, with the second of its two ways to renew c_i, c_i − c + (x − y_i)/(Kγ),
    which at a constant rate is that mean, and a server rate of 1.

    >>> Scaffold(period=5).exact, Scaffold(period=5, participation=0.4).random
    (True, True)
    """

    period: int = 5
    participation: float = 1.0

    label: ClassVar[str] = "SCAFFOLD"
    references: ClassVar[tuple[str, ...]] = ("karimireddy2020scaffold",)
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.period, "period", 1)
        self._check_participation()

    @property
    def cycle(self) -> int:
        """Steps after which the rule repeats."""
        return self.period

    def vectors_per_edge(self, d: int) -> float | None:
        """Vectors that each worker sends and receives, on average over a round; None where some rest."""
        return 4 / self.period if self.participation == 1 else None

    def init(self, x0: np.ndarray, network: Network) -> ControlState:
        return ControlState(x0, np.zeros_like(x0), np.zeros_like(x0), self._nobody_yet(x0))

    def step(self, state: ControlState, round: Round) -> ControlState:
        taking = self._taking(state.taking, state.x, round, self.period)
        gradient = round.gradient(state.x)
        gradients = state.gradients + gradient
        direction = gradient - state.control
        direction += state.control.mean(axis=0)
        direction *= taking
        x = round.descend(state.x, direction, overwrite=True)
        if (round.step + 1) % self.period:
            return ControlState(x.copy(), state.control, gradients, taking)
        count = share_of(self.participation, len(x))
        round.send(4 * count)
        mean = (x * taking).sum(axis=0) / count
        control = np.where(taking, gradients / self.period, state.control)
        server = np.broadcast_to(mean, x.shape).copy()
        return ControlState(server, control, np.zeros_like(x), taking)
