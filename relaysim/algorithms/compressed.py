"""Gossip that sends compressed vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.compressors import Identity, RandomRounding, TopK
from relaysim.network import Network
from relaysim.support.checks import (
    plain_options,
    positive_share,
    real_number,
    share_below_one,
    shown,
)

__all__ = ["BEER", "LEAD", "AdaGossip", "ChocoSGD"]


class CopyState(NamedTuple):
    """``x`` and its ``copy`` that all neighbours hold, both ``(n, d[, r])``; the copy is 0 at first."""

    x: np.ndarray
    copy: np.ndarray


class _Copies(Method):
    """What methods have in common whose neighbours hold copies, to which compressed differences are added."""

    compressor: Any
    consensus_rate: float

    several_rounds: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        lacking = [
            each for each in ("compress", "bits", "random") if not hasattr(self.compressor, each)
        ]
        if isinstance(self.compressor, type) or "compress" in lacking:
            raise TypeError(
                f"{self.compressor!r} is no compressor; see relaysim.compressors, such as TopK(k=10)"
            )
        if lacking:
            raise TypeError(
                f"the compressor {shown(self.compressor)} has no {lacking[0]!r}; relaysim.compressors says "
                f"what compressors have"
            )
        positive_share(self.consensus_rate, "consensus_rate")

    @property
    def random(self) -> bool:
        return bool(self.compressor.random)

    def vectors_per_edge(self, d: int) -> float:
        """Share of a vector of d numbers that crosses each directed edge in a step."""
        return real_number(self.compressor.bits(d), "the compressor's bits", 0) / Identity().bits(d)

    def _renewed(self, copy: np.ndarray, vector: np.ndarray, round: Round) -> np.ndarray:
        """The copy of a vector V, V̂ + Q(V − V̂)."""
        difference = vector - copy
        uniform = round.uniforms(difference.shape) if self.compressor.random else None
        compressed = self.compressor.compress(difference, uniform)
        if np.shape(compressed) != difference.shape:
            raise ValueError(
                f"{shown(self.compressor)} makes {np.shape(compressed)} of vectors {difference.shape}; what "
                f"arrives has the shape of what is sent"
            )
        return copy + compressed

    def _gossip(
        self, half: np.ndarray, copy: np.ndarray, round: Round
    ) -> tuple[np.ndarray, np.ndarray]:
        """X̂ + Q(X½ − X̂), and what mixing these copies changes."""
        copy = self._renewed(copy, half, round)
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
    references: ClassVar[tuple[str, ...]] = ("koloskova2019decentralized",)
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
    references: ClassVar[tuple[str, ...]] = ("aketi2024adagossip",)
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


class CorrectedCopyState(NamedTuple):
    """``x``, its ``correction`` C and the ``copy`` H that all neighbours hold, both 0 at first:
    ``(n, d[, r])``.
    """

    x: np.ndarray
    correction: np.ndarray
    copy: np.ndarray


@dataclass(frozen=True)
class LEAD(_Copies):
    """LEAD: exact diffusion of compressed differences.

    Y = X − γG + C;  Ŷ = H + Q(Y − H);  C ← C + (δ/2)(W − I)Ŷ;  X' = X − γG + C;  H ← H + α(Ŷ − H), with
    C = H = 0 at the start. In the paper C is −γD and δ is γ.

    Args:
        compressor: Q, one of `relaysim.compressors` that is unbiased, as `RandomRounding` is.
        consensus_rate: δ in (0, 1].
        alpha: α in (0, 1], the part of what arrives by which copies move.

    Any connected topology and symmetric doubly stochastic W. Sends Q's bits over each directed edge and step,
    and keeps the copy of every neighbour; messages must not be lost. Exact for any ζ: as the differences
    vanish, so does what compressing them takes away. Without compression and with δ = 1 it is
    `ExactDiffusion` step by step. A biased Q is refused: with it small rates may diverge whatever δ and α,
    as they do with the quarter of largest entries. Which way a number is rounded depends on its last digits,
    so that in a long run rounding errors grow to the size of what compressing takes away, and vanish with it.

    Source: Liu, Li, Wang, Tang, Yan, "Linear convergent decentralized optimization with compression", ICLR
    2021; the rule from a secondary text, verified by its limit, its fixed point and by simulation. The
    paper's first step, X¹ = X⁰ − γG⁰ with no message, is left out: it is another starting point.

    >>> from relaysim.compressors import TopK
    >>> LEAD().exact
    True
    >>> LEAD(TopK(1))
    Traceback (most recent call last):
        ...
    ValueError: LEAD needs a compressor with E Q(x) = x, which TopK(k=1) has not: it could ...
    """

    compressor: Any = field(default_factory=RandomRounding)
    consensus_rate: float = 1.0
    alpha: float = 0.5

    label: ClassVar[str] = "LEAD"
    references: ClassVar[tuple[str, ...]] = ("liu2021linear",)
    uses: ClassVar[str] = "mixing"
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_share(self.alpha, "alpha")
        if not getattr(self.compressor, "unbiased", False):
            raise ValueError(
                f"LEAD needs a compressor with E Q(x) = x, which {self.compressor!r} has not: it could "
                f"diverge; use relaysim.compressors.RandomRounding(levels=2), or BEER, which takes any"
            )

    @property
    def affine(self) -> bool:
        return isinstance(self.compressor, Identity)

    def init(self, x0: np.ndarray, network: Network) -> CorrectedCopyState:
        return CorrectedCopyState(x0, np.zeros_like(x0), np.zeros_like(x0))

    def step(self, state: CorrectedCopyState, round: Round) -> CorrectedCopyState:
        corrected = round.descend(state.x, round.gradient(state.x))
        corrected += state.correction
        estimate, change = self._gossip(corrected, state.copy, round)
        change *= self.consensus_rate / 2
        copy = (1 - self.alpha) * state.copy
        copy += self.alpha * estimate
        return CorrectedCopyState(corrected + change, state.correction + change, copy)

    def conserved(
        self, state: CorrectedCopyState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)


class TrackedCopiesState(NamedTuple):
    """``x``, the ``correction`` C = G − V of the tracked gradient V, the copies of x and V that neighbours
    hold, all 0 at first, ``(n, d[, r])``; and whether a step has been made, ``(1, 1)``.
    """

    x: np.ndarray
    correction: np.ndarray
    copy: np.ndarray
    tracked_copy: np.ndarray
    begun: np.ndarray


@dataclass(frozen=True)
class BEER(_Copies):
    """BEER: gradient tracking of compressed differences.

    X' = X + δ(W − I)X̂ − γV;  V' = V + δ(W − I)V̂ + G⁺ − G;  X̂ ← X̂ + Q(X' − X̂);  V̂ ← V̂ + Q(V' − V̂), with
    V = G and X̂ = V̂ = 0 at the start; both copies are mixed as they were before. Written with C = G − V, so
    that a step asks for one gradient: C ← C − δ(W − I)V̂.

    Args:
        compressor: Q, one of `relaysim.compressors`, biased or not.
        consensus_rate: δ in (0, 1], the smaller the more Q takes away.

    Any connected topology. Sends twice Q's bits over each directed edge and step (what a step sends is
    counted with the next one, which mixes it), and keeps two copies of every neighbour; messages must not be
    lost. Exact for any ζ if W is doubly stochastic.

    Source: Zhao, Li, Li, Richtárik, Chi, "BEER: fast O(1/T) rate for decentralized nonconvex optimization
    with communication compression", NeurIPS 2022, and the authors' code.

    >>> from relaysim.compressors import Sign
    >>> BEER(Sign(), consensus_rate=0.3).exact
    True
    """

    compressor: Any = field(default_factory=lambda: TopK(1))
    consensus_rate: float = 0.1

    label: ClassVar[str] = "BEER"
    references: ClassVar[tuple[str, ...]] = ("zhao2022beer",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    @property
    def affine(self) -> bool:
        return isinstance(self.compressor, Identity)

    def vectors_per_edge(self, d: int) -> float:
        """Share of a vector of d numbers that crosses each directed edge in a step, of model and gradient."""
        return 2 * super().vectors_per_edge(d)

    def init(self, x0: np.ndarray, network: Network) -> TrackedCopiesState:
        correction, copy, tracked_copy = (np.zeros_like(x0) for _ in range(3))
        return TrackedCopiesState(x0, correction, copy, tracked_copy, np.zeros((1, 1)))

    def step(self, state: TrackedCopiesState, round: Round) -> TrackedCopiesState:
        share = self.vectors_per_edge(state.x.shape[1]) / 2
        tracked = round.gradient(state.x) - state.correction
        tracked_copy = state.tracked_copy
        if state.begun:  # the first message of V is that of the second step
            tracked_copy = self._renewed(tracked_copy, tracked, round)
        x = state.x + self.consensus_rate * round.mix_change(state.copy, share=share)
        x -= round.learning_rate * tracked
        change = round.mix_change(tracked_copy, share=share)
        change *= -self.consensus_rate
        change += state.correction
        copy = self._renewed(state.copy, x, round)
        return TrackedCopiesState(x, change, copy, tracked_copy, np.ones_like(state.begun))

    def conserved(
        self, state: TrackedCopiesState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)
