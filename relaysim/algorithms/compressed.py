"""Gossip that sends compressed vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.compressors import Identity, TopK
from relaysim.network import Network
from relaysim.support.checks import real_number

__all__ = ["ChocoSGD"]


class CopyState(NamedTuple):
    """``x`` and its ``copy`` that all neighbours hold, both ``(n, d[, r])``; the copy is 0 at first."""

    x: np.ndarray
    copy: np.ndarray


@dataclass(frozen=True)
class ChocoSGD(Method):
    """CHOCO-SGD: neighbours hold copies of each other, to which compressed differences are added.

    X½ = X − γG;  X̂ ← X̂ + Q(X½ − X̂);  X' = X½ + δ(W − I)X̂, with X̂ = 0 at the start.

    Args:
        compressor: Q, one of `relaysim.compressors`.
        consensus_rate: δ in (0, 1].

    Any connected topology. Sends Q's bits over each directed edge and step, counted as their share of a
    vector. Keeps the copy of every neighbour (one array here, since all copies of a worker are equal).
    Not exact.

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

    def __post_init__(self) -> None:
        if isinstance(self.compressor, type) or not hasattr(self.compressor, "compress"):
            raise TypeError(
                f"{self.compressor!r} is no compressor; see relaysim.compressors, such as TopK(k=10)"
            )
        if not 0 < real_number(self.consensus_rate, "consensus_rate") <= 1:
            raise ValueError(f"consensus_rate must lie in (0, 1], not {self.consensus_rate!r}")

    @property
    def affine(self) -> bool:
        return isinstance(self.compressor, Identity)

    def vectors_per_edge(self, d: int) -> float:
        """Share of a vector of d numbers that crosses each directed edge in a step."""
        return self.compressor.bits(d) / Identity().bits(d)

    def init(self, x0: np.ndarray, network: Network) -> CopyState:
        return CopyState(x0, np.zeros_like(x0))

    def step(self, state: CopyState, round: Round) -> CopyState:
        half = round.descend(state.x, round.gradient(state.x))
        difference = half - state.copy
        uniform = round.uniforms(difference.shape) if self.compressor.random else None
        copy = state.copy + self.compressor.compress(difference, uniform)
        share = self.vectors_per_edge(half.shape[1])
        change = round.mix_change(copy, share=share)
        return CopyState(half + self.consensus_rate * change, copy)
