"""Gossip of a few entries of a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relaysim.algorithms.base import Method, Round, share_of, smallest
from relaysim.algorithms.global_average import ModelState
from relaysim.network import Network
from relaysim.support.checks import plain_options, positive_share, whole_number

__all__ = ["Cesar"]


@dataclass(frozen=True)
class Cesar(Method):
    """CESAR: sparsified gossip in which an entry is sent where others send it too, so that masks hide it.

    X½ = X − γG; each worker chooses k = ⌈share · d⌉ entries at random, and sends to a neighbour those of them
    that at least ``neighbours`` further neighbours of the receiver chose too. The receiver averages each
    entry over itself and those who sent it, with their weights W_ij scaled to sum to 1.

    Args:
        share: of the entries that a worker chooses, in (0, 1].
        neighbours: how many others send an entry to the same receiver at least, 0 or more; 0 is plain
            sparsified gossip.

    Any connected topology. Over a directed edge to a receiver with deg neighbours goes in expectation the
    share α(1 − (1 − α)^(deg − 1)) of a vector, for one further neighbour and α = k/d; positions are not
    counted. Where no worker has three neighbours little is sent. Not exact; entry by entry the weights are
    not doubly stochastic, so that the mean moves.

    Senders hide what they send by masks that cancel in the receiver's sum, which therefore is that of plain
    messages, as simulated here: privacy itself is not.

    Source: Biswas, Kermarrec, Pires, Sharma, Vujasinovic, "Secure aggregation meets sparsification in
    decentralized learning", 2024 (the rule by its abstract; the share is derived here and checked by
    simulation).

    >>> Cesar(share=0.25).vectors_per_edge(100) is None
    True
    """

    share: float = 0.1
    neighbours: int = 1

    label: ClassVar[str] = "CESAR"
    references: ClassVar[tuple[str, ...]] = ("biswas2024secure",)
    uses: ClassVar[str] = "mixing"
    affine: ClassVar[bool] = False
    several_rounds: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        positive_share(self.share, "share")
        whole_number(self.neighbours, "neighbours", 0)

    def vectors_per_edge(self, d: int) -> None:
        """None: it depends on what neighbours choose."""

    def init(self, x0: np.ndarray, network: Network) -> ModelState:
        return ModelState(x0)

    def step(self, state: ModelState, round: Round) -> ModelState:
        half = round.descend(state.x, round.gradient(state.x))
        count = share_of(self.share, half.shape[1])
        chosen = smallest(round.uniforms(half.shape), count, axis=1)
        wanted = round.neighbours_with(chosen.astype(float)) > self.neighbours
        return ModelState(round.mix_entries(half, chosen, wanted))
