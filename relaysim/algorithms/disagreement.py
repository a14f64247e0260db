"""Gossip that lets workers disagree the more the lower the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.faults import LOST_MESSAGES
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number, whole_number

__all__ = ["DSGDAC"]


class PeakState(NamedTuple):
    """``x``, ``(n, d[, r])``, and the ``peak`` rate, of which later ones are a part, ``(1, 1[, r])``; no
    rows where all of W is mixed with.
    """

    x: np.ndarray
    peak: np.ndarray


@dataclass(frozen=True)
class DSGDAC(Method):
    """DSGD-AC: decentralized SGD with controlled disagreement, for a learning rate that falls.

    X' = X + a_t (W − I)X − γ_t G with a_t = 1 before ``start``, then a + (1 − a)(γ_t/γ_start)^p.

    Args:
        power: p ≥ 0; 0 is `DPSGD` with ``overlap=True``.
        start: the step from which disagreement is controlled; the rate there is what later ones are a part
            of. With a warm-up, where that ends.
        floor: a in [0, 1], the least part of the mixing.

    Any connected topology. Sends one vector per directed edge and step. Not exact. Where the rate falls to
    0, DP-SGD ends in agreement, while here the mixing falls with it, so that workers stay apart. With equal
    Hessians the mean moves the same whatever p. At a constant rate a_t = 1; for the theory of a constant
    factor there is ``DPSGD(overlap=True, consensus=a)``. A rate that rises after ``start`` mixes no more
    than all of W.

    Source: Wang and Johansson, "Decentralized SGD with controlled disagreement finds flatter minima", 2026,
    and the authors' code (p = 3, 1 to 5 tried; with momentum .9 and weight decay, which are not here).

    >>> DSGDAC(power=0).affine, DSGDAC().affine
    (True, False)
    """

    power: float = 3.0
    start: int = 0
    floor: float = 0.0

    label: ClassVar[str] = "DSGD-AC"
    references: ClassVar[tuple[str, ...]] = ("wang2026decentralized",)
    uses: ClassVar[str] = "mixing"
    worker_rates: ClassVar[bool] = False
    directed: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.power, "power", 0)
        whole_number(self.start, "start", 0)
        real_number(self.floor, "floor", 0, 1)

    @property
    def affine(self) -> bool:
        return self.power == 0 or self.floor == 1

    def init(self, x0: np.ndarray, network: Network) -> PeakState:
        rows = 0 if self.affine else 1
        return PeakState(x0, np.zeros((rows, 1, *x0.shape[2:])))

    def step(self, state: PeakState, round: Round) -> PeakState:
        rate = round.learning_rate
        if self.affine:
            return PeakState(round.mix(state.x) - rate * round.gradient(state.x), state.peak)
        peak = state.peak
        if round.step == self.start:
            peak = np.broadcast_to(rate, peak.shape).copy()
        change = round.mix_change(state.x)
        if round.step > self.start:
            change *= self._share_of_mixing(rate, peak)
        x = state.x + change
        x -= rate * round.gradient(state.x)
        return PeakState(x, peak)

    def _share_of_mixing(self, rate: Rate, peak: np.ndarray) -> np.ndarray:
        """a_t; all of W after a peak of 0, of which no rate is a part."""
        fallen = np.where(peak > 0, np.minimum(rate / np.where(peak > 0, peak, 1), 1), 1)
        return self.floor + (1 - self.floor) * fallen**self.power
