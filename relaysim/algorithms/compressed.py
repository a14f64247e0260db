"""Gossip that sends compressed vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.compressors import Identity, TopK
from relaysim.network import Network
from relaysim.support.checks import plain_options, positive_share, share_below_one

__all__ = ["AdaGossip", "ChocoSGD"]


class CopyState(NamedTuple):
    """``x`` and its ``copy`` that all neighbours hold, both ``(n, d[, r])``; the copy is 0 at first."""

    x: np.ndarray
    copy: np.ndarray


class _Copies(Method):
    """What methods have in common whose neighbours hold copies, to which compressed differences are added."""

    compressor: Any
    consensus_rate: float

    def __post_init__(self) -> None:
        plain_options(self)
        if isinstance(self.compressor, type) or not hasattr(self.compressor, "compress"):
            raise TypeError(
                f"{self.compressor!r} is no compressor; see relaysim.compressors, such as TopK(k=10)"
            )
        positive_share(self.consensus_rate, "consensus_rate")

    @property
    def random(self) -> bool:
        return bool(self.compressor.random)

    def vectors_per_edge(self, d: int) -> float:
        """Share of a vector of d numbers that crosses each directed edge in a step."""
        return self.compressor.bits(d) / Identity().bits(d)

    def _gossip(
        self, half: np.ndarray, copy: np.ndarray, round: Round
    ) -> tuple[np.ndarray, np.ndarray]:
        """X̂ + Q(X½ − X̂), and what mixing these copies changes."""
        difference = half - copy
        uniform = round.uniforms(difference.shape) if self.compressor.random else None
        copy = copy + self.compressor.compress(difference, uniform)
        return copy, round.mix_change(copy, share=self.vectors_per_edge(half.shape[1]))


@dataclass(frozen=True)
class ChocoSGD(_Copies):
    """CHOCO-SGD: neighbours hold copies of each other, to which compressed differences are added.

    X½ = X − γG;  X̂ ← X̂ + Q(X½ − X̂);  X' = X½ + δ(W − I)X̂, with X̂ = 0 at the start.

    Args:
        compressor: Q, one of `relaysim.compressors`.
        consensus_rate: δ in (0, 1].

    Any connected topology. Sends Q's bits over each directed edge and step, counted as their share of a
    vector. Keeps the copy of every neighbour (one array here, since all copies of a worker are equal: where
    messages were lost they would part for good, so that faults are refused). Not exact.

    Source: Koloskova, Stich, Jaggi, "Decentralized stochastic optimization and gossip algorithms with
    compressed communication", ICML 2019. (The authors' code gossips with X̂ as it was before.)

    >>> from relaysim.compressors import Sign
    >>> ChocoSGD(Sign(), consensus_rate=0.3).exact
    False
    """

    compressor: Any = field(default_factory=lambda: TopK(1))
    consensus_rate: float = 0.1

    label: ClassVar[str] = "CHOCO-SGD"
    uses: ClassVar[str] = "mixing"

    @property
    def affine(self) -> bool:
        return isinstance(self.compressor, Identity)

    def init(self, x0: np.ndarray, network: Network) -> CopyState:
        return CopyState(x0, np.zeros_like(x0))

    def step(self, state: CopyState, round: Round) -> CopyState:
        half = round.descend(state.x, round.gradient(state.x))
        copy, change = self._gossip(half, state.copy, round)
        return CopyState(half + self.consensus_rate * change, copy)


class AdaptiveState(NamedTuple):
    """``x``, its ``copy`` and the second moment of what gossip changes, ``change2``: ``(n, d[, r])``."""

    x: np.ndarray
    copy: np.ndarray
    change2: np.ndarray


@dataclass(frozen=True)
class AdaGossip(_Copies):
    """AdaGossip: CHOCO's copies, mixed with a rate for each number, as Adam has one.

    X½ = X − γG;  X̂ ← X̂ + Q(X½ − X̂);  R = (W − I)X̂;  v ← βv + (1 − β)R∘R;  X' = X½ + s∘R with
    s = min(1, δ/(√(v/(1 − β^t)) + 10⁻⁸)), entry by entry; X̂ = v = 0 at the start.

    Args:
        compressor: Q, one of `relaysim.compressors`.
        consensus_rate: δ in (0, 1], here the length of a step and not a part of the change.
        beta: β in [0, 1).

    Any connected topology. Sends Q's bits over each directed edge and step. Not exact, and no contraction:
    s differs from worker to worker, so that gossip moves the mean, and near agreement v, which remembers
    larger changes, makes it slow. With one worker the rule is gradient descent.

    Source: Aketi, Hashemi, Roy, "AdaGossip", 2024, by the authors' code (the paper's text, as far as known,
    has neither the bound 1 on s nor the division by 1 − β^t).

    >>> AdaGossip().affine
    False
    """

    compressor: Any = field(default_factory=lambda: TopK(1))
    consensus_rate: float = 0.1
    beta: float = 0.999

    label: ClassVar[str] = "AdaGossip"
    uses: ClassVar[str] = "mixing"
    affine: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        share_below_one(self.beta, "beta")

    def init(self, x0: np.ndarray, network: Network) -> AdaptiveState:
        return AdaptiveState(x0, np.zeros_like(x0), np.zeros_like(x0))

    def step(self, state: AdaptiveState, round: Round) -> AdaptiveState:
        half = round.descend(state.x, round.gradient(state.x))
        copy, change = self._gossip(half, state.copy, round)
        change2 = self.beta * state.change2
        change2 += (1 - self.beta) * change**2
        size = np.sqrt(change2 / (1 - self.beta ** (round.step + 1)))
        change *= np.minimum(1, self.consensus_rate / (size + 1e-8))
        change += half
        return AdaptiveState(change, copy, change2)
