"""Gossip that holds where some neighbours lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.algorithms.global_average import ModelState
from relaysim.faults import LIES
from relaysim.network import Heard, Network
from relaysim.support.checks import plain_options, real_number, whole_number

__all__ = ["ClippedGossip", "TrimmedMean"]

# So many slots are sorted by exchanges in less time than by `numpy.sort`.
MOST_EXCHANGED = 16


class _Robust(Method):
    """A step on the own gradient, and then what a rule makes of all that is heard."""

    uses: ClassVar[str] = "mixing"
    affine: ClassVar[bool] = False
    several_rounds: ClassVar[bool] = False
    faults: ClassVar[tuple[str, ...]] = (LIES,)

    def init(self, x0: np.ndarray, network: Network) -> ModelState:
        return ModelState(x0)

    def step(self, state: ModelState, round: Round) -> ModelState:
        half = round.descend(state.x, round.gradient(state.x))
        return ModelState(self.aggregate(half, round.hear(half)))

    def aggregate(self, x: np.ndarray, heard: Heard) -> np.ndarray:
        """What each worker makes of its own, ``(n, d[, r])``, and what it heard."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClippedGossip(_Robust):
    """ClippedGossip: gossip that moves no further towards a neighbour than a radius lets it.

    x_i ← x_i − γ g_i;  then  x_i ← x_i + Σ_j w_ij clip(x_j − x_i, τ_i),  clip(v, τ) = v · min(1, τ/‖v‖).

    Args:
        radius: τ, positive; by default τ_i is the second largest of worker i's distances to its neighbours
            (its only one if it has one).

    The default clips one message, the furthest, to the length of the next. It holds against one liar in a
    neighbourhood and fails with two, who hide behind each other: of twelve honest workers, 1.8 apart, who
    average for 300 rounds one who drives them apart leaves 9e-4 (and 1.8 with plain gossip), and two leave
    1.8 or more. A radius that fits the honest workers' distances holds, if slowly. A large one is `DPSGD`.

    Any connected topology. Sends one vector per directed edge and step. Not exact, liars or not: the mean
    moves where clipping is not symmetric.

    Source: He, Karimireddy, Jaggi, "Byzantine-robust decentralized learning via ClippedGossip", 2022; the
    default radius is that of its published code.

    >>> ClippedGossip(radius=0.5)
    ClippedGossip(radius=0.5)
    """

    radius: float | None = None

    label: ClassVar[str] = "Clipped gossip"
    references: ClassVar[tuple[str, ...]] = ("he2022byzantine",)

    def __post_init__(self) -> None:
        plain_options(self)
        if self.radius is not None and not real_number(self.radius, "radius") > 0:
            raise ValueError(f"radius must be positive, or None, not {self.radius!r}")

    def aggregate(self, x: np.ndarray, heard: Heard) -> np.ndarray:
        vectors, weights = heard
        difference = vectors - x
        distance = np.sqrt(np.einsum("knd...,knd...->kn...", difference, difference)[:, :, None])
        radius = self._second_largest(distance, weights) if self.radius is None else self.radius
        clipped = np.minimum(1, radius / np.where(distance > 0, distance, 1))
        difference *= weights * clipped
        return x + np.add.reduce(difference, axis=0)

    @staticmethod
    def _second_largest(distance: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of each worker's neighbours, ``(n, 1[, r])``; the largest of one."""
        if not len(distance):
            return np.zeros(distance.shape[1:])
        there = np.broadcast_to(weights != 0, distance.shape)
        ordered = _sorted(list(np.where(there, distance, -1.0)))
        second = ordered[-min(2, len(ordered))]
        return np.where(second < 0, ordered[-1], second)


@dataclass(frozen=True)
class TrimmedMean(_Robust):
    """Gossip by trimmed means: number by number, the largest and smallest of what is heard do not count.

    x_i ← x_i − γ g_i;  then each number of x_i becomes the mean of those of worker i and its neighbours
    without the ``trim`` largest and the ``trim`` smallest, or as many of them as leave one at least.

    Args:
        trim: how many are left out at either end, at least 0, or None for as many as there can be: the
            coordinatewise median.

    W only says who is a neighbour. While fewer lie to a worker than it trims on either end, it stays among
    what honest ones say; where few are heard less is trimmed (nothing of two), and liars can lead it away.

    Any connected topology. Sends one vector per directed edge and step. Not exact, liars or not, and worse
    the more honest workers differ: who is far from the others is left out.

    Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: towards optimal
    statistical rates", ICML 2018, as gossip in the code published with He, Karimireddy, Jaggi, 2022.

    >>> TrimmedMean(trim=2)
    TrimmedMean(trim=2)
    """

    trim: int | None = 1

    label: ClassVar[str] = "Trimmed mean"
    references: ClassVar[tuple[str, ...]] = ("yin2018byzantine", "he2022byzantine")

    def __post_init__(self) -> None:
        plain_options(self)
        if self.trim is not None:
            whole_number(self.trim, "trim", 0)

    def aggregate(self, x: np.ndarray, heard: Heard) -> np.ndarray:
        vectors, weights = heard
        there = weights != 0
        if not there.all():
            vectors = np.where(there, vectors, np.inf)
        values = _sorted([x, *vectors])
        count = 1 + np.count_nonzero(there, axis=0)
        most = (count - 1) // 2
        trim = most if self.trim is None else np.minimum(self.trim, most)
        total = np.zeros_like(x)
        for place, each in enumerate(values):
            counts = (place >= trim) & (place < count - trim)
            if counts.all():
                total += each
            elif counts.any():
                total += np.where(counts, each, 0)
        return np.divide(total, (count - 2 * trim).astype(float), out=total)


def _sorted(slots: list[np.ndarray]) -> list[np.ndarray]:
    """Number by number over all slots, those of few by exchanges: two operations on whole slots each."""
    k = len(slots)
    if k > MOST_EXCHANGED:
        return list(np.sort(np.stack(slots), axis=0))
    for phase in range(k):
        for i in range(phase % 2, k - 1, 2):
            low, high = slots[i : i + 2]
            slots[i], slots[i + 1] = np.minimum(low, high), np.maximum(low, high)
    return slots
