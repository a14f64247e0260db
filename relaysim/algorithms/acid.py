"""Pairwise averaging at random times, with and without continuous momentum."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from relaysim.algorithms.base import Rate
from relaysim.algorithms.events import EventMethod, Meeting, PoissonClocks, check_graph
from relaysim.mixing.clocks import acceleration_constants, edge_rates
from relaysim.support.checks import plain_options, real_number, true_or_false
from relaysim.topologies import Topology

__all__ = ["A2CiD2"]


class MomentumState(NamedTuple):
    """``x`` and ``tilde``, x̃, one row for each worker: ``(rows, d)``. They are equal at the start."""

    x: np.ndarray
    tilde: np.ndarray


@dataclass(frozen=True)
class A2CiD2(EventMethod):
    """A²CiD²: asynchronous pairwise averaging with a continuous local momentum.

    Worker i takes gradients at the points of a Poisson process of rate 1, and neighbours i, j meet at
    those of another, of rate λ_ij = (rate/2)(1/deg_i + 1/deg_j). All processes are independent.

        between events       dx = η(x̃ − x)dt,  dx̃ = η(x − x̃)dt, integrated exactly
        gradient of i        x_i ← x_i − γg_i,  x̃_i ← x̃_i − γg_i
        i and j meet         D = x_i − x_j;  x_i ← x_i − D/2,  x̃_i ← x̃_i − α̃D,
                                             x_j ← x_j + D/2,  x̃_j ← x̃_j + α̃D

    with η = 1/(2√(χ₁χ₂)) and α̃ = ½√(χ₁/χ₂), see `relaysim.theory.acceleration_constants`. A step is a
    unit of time, in which each worker takes one gradient in expectation.

    Args:
        rate: meetings of a worker in a unit of time, on average over the workers; positive.
        accelerated: False for the plain asynchronous method, η = 0 and α̃ = ½ (AD-PSGD).
        momentum_rate: η ≥ 0 in place of that of the theory.

    Any connected topology of two workers or more. A meeting sends two vectors; both ends flow to the time
    of the meeting before they exchange, so that the mean of all workers moves by their gradients only.
    Not exact: the plateau at a constant rate grows with ζ².

    Source: Nabli, Belilovsky, Oyallon, "A²CiD²: accelerating asynchronous communication in decentralized
    deep learning", NeurIPS 2023; the baseline: Lian, Zhang, Zhang, Liu, "Asynchronous decentralized
    parallel stochastic gradient descent", ICML 2018.

    >>> A2CiD2(rate=2.0).label, A2CiD2(accelerated=False).label
    ('A²CiD²', 'AD-PSGD')
    """

    rate: float = 1.0
    accelerated: bool = True
    momentum_rate: float | None = None

    def __post_init__(self) -> None:
        plain_options(self)
        if not real_number(self.rate, "rate") > 0:
            raise ValueError(
                f"rate must be positive, not {self.rate!r}: without meetings nothing agrees"
            )
        true_or_false(self.accelerated, "accelerated")
        if self.momentum_rate is not None:
            real_number(self.momentum_rate, "momentum_rate", 0)
            if not self.accelerated:
                raise ValueError("momentum_rate is for accelerated=True; leave it out")

    @property
    def label(self) -> str:
        """A²CiD², or AD-PSGD without acceleration."""
        return "A²CiD²" if self.accelerated else "AD-PSGD"

    @property
    def references(self) -> tuple[str, ...]:
        """That of A²CiD², or of AD-PSGD."""
        return ("nabli2023acid",) if self.accelerated else ("lian2018asynchronous",)

    def rule(self, topology: Topology) -> _PairwiseAveraging:
        check_graph(topology, self.label)
        rates = edge_rates(topology, self.rate)
        if not self.accelerated:
            return _PairwiseAveraging(topology, rates, 0.0, 0.5)
        chi1, chi2 = _constants(topology, self.rate)
        eta = self.momentum_rate
        if eta is None:
            eta = 1 / (2 * math.sqrt(chi1 * chi2))
        return _PairwiseAveraging(topology, rates, eta, math.sqrt(chi1 / chi2) / 2)


# A run asks for its rule more than once.
_constants = functools.lru_cache(maxsize=8)(acceleration_constants)


class _PairwiseAveraging(PoissonClocks):
    """The rule on one graph, with meetings at ``rates (E,)``; see `relaysim.algorithms.events.Rule`."""

    linear = True

    def __init__(self, topology: Topology, rates: np.ndarray, eta: float, alpha_tilde: float):
        super().__init__(topology, rates)
        self.eta, self.alpha_tilde = eta, alpha_tilde

    def vectors_per_meeting(self, d: int) -> int:
        return 2

    def init(self, x0: np.ndarray) -> MomentumState:
        return MomentumState(x0, x0.copy())

    def flow(self, rows: MomentumState, elapsed: np.ndarray) -> MomentumState:
        if self.eta == 0:
            return rows
        # x + x̃ stays as it is and x − x̃ shrinks by exp(−2ηΔt).
        change = rows.x - rows.tilde
        change *= -0.5 * np.expm1(-2 * self.eta * elapsed)
        return MomentumState(rows.x - change, rows.tilde + change)

    def point(self, rows: MomentumState) -> np.ndarray:
        return rows.x

    def descend(
        self, rows: MomentumState, gradient: np.ndarray, learning_rate: Rate
    ) -> MomentumState:
        change = learning_rate * gradient
        return MomentumState(rows.x - change, rows.tilde - change)

    def meet(
        self, first: MomentumState, second: MomentumState, meeting: Meeting
    ) -> tuple[MomentumState, MomentumState]:
        difference = first.x - second.x
        half, tilde = 0.5 * difference, self.alpha_tilde * difference
        return (
            MomentumState(first.x - half, first.tilde - tilde),
            MomentumState(second.x + half, second.tilde + tilde),
        )
