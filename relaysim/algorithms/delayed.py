"""Gossip with gradients that are late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.faults import LOST_MESSAGES
from relaysim.network import Network
from relaysim.support.checks import plain_options, whole_number

__all__ = ["DelayedGradient"]


class DelayedState(NamedTuple):
    """``x (n, d[, r])`` and the iterates of the last τ steps, oldest first, ``(τn, d[, r])``."""

    x: np.ndarray
    past: np.ndarray


@dataclass(frozen=True)
class DelayedGradient(Method):
    """Consensus with delayed gradients: x_i' = Σ_j w_ij x_j − γ g_i(x_i^{t−τ}), x^s = x⁰ for s < 0.

    Args:
        delay: τ ≥ 0 steps, the same for all workers.

    Any connected topology. Sends one vector per directed edge and step; keeps τ further models. Not
    exact. With delay 0 it is `DPSGD` with ``overlap=True``.

    Source: Sirb and Ye, "Decentralized consensus algorithm with delayed and stochastic gradients", SIAM
    Journal on Optimization, 2018, whose delays may be random and whose rates fall.

    >>> DelayedGradient(delay=3)
    DelayedGradient(delay=3)
    """

    delay: int = 1

    label: ClassVar[str] = "Delayed gradients"
    references: ClassVar[tuple[str, ...]] = ("sirb2018decentralized",)
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.delay, "delay", 0)

    def init(self, x0: np.ndarray, network: Network) -> DelayedState:
        return DelayedState(x0, np.concatenate([x0] * self.delay) if self.delay else x0[:0])

    def step(self, state: DelayedState, round: Round) -> DelayedState:
        n = len(state.x)
        then = state.past[:n] if self.delay else state.x
        x = round.mix(state.x) - round.learning_rate * round.gradient(then)
        past = np.concatenate([state.past[n:], state.x]) if self.delay else state.past
        return DelayedState(x, past)
