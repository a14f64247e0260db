"""Gossip with steps that adapt to the gradients: moments as in Adam, or gradients of length 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round, check_momentum, no_buffer
from relaysim.faults import LOST_MESSAGES
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number, share_below_one, whole_number

__all__ = ["DecentralizedAdam", "NormalizedTracking"]


class MomentsState(NamedTuple):
    """``x``, both moments as they enter the next step, and the sum of the gradients since they were renewed
    (no rows where that is each step): ``(n, d[, r])``.
    """

    x: np.ndarray
    first: np.ndarray
    second: np.ndarray
    gradients: np.ndarray


@dataclass(frozen=True)
class DecentralizedAdam(Method):
    """Decentralized Adam: gossip, while each worker takes Adam's step on its own gradients.

    M ← β₁M + (1 − β₁)G;  V ← β₂V + (1 − β₂)G∘G;
    X' = WX − γ (M/(1 − β₁ᵗ)) / (√(V/(1 − β₂ᵗ)) + ε), with M = V = 0 at the start.

    With ``accumulate=k`` (AccumAdam) both moments are renewed every k steps, by the mean ḡ of their
    gradients; between these each step adds its own gradient to moments as they were: it uses
    m + (1 − β₁)g and v + (1 − β₂)g², and every k steps m ← β₁(m + (1 − β₁)ḡ), v ← β₂(v + (1 − β₂)ḡ²), with
    ⌈t/k⌉ for t.

    Args:
        beta1: β₁ in [0, 1).
        beta2: β₂ in [0, 1).
        epsilon: ε > 0.
        accumulate: k ≥ 1.

    Any connected topology. Sends one vector per directed edge and step; mixing does not wait for the
    gradient. Not exact, and worse: where data differ each worker divides by its own √V, which weights the
    workers anew, so that the end does not near x* as γ falls.

    Source: Wang, Zhang, Wu, Johansson, "From promise to practice: realizing high-performance decentralized
    training", ICLR 2025, and the authors' code (its defaults).

    >>> DecentralizedAdam().overlaps
    True
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    accumulate: int = 1

    label: ClassVar[str] = "D-Adam"
    references: ClassVar[tuple[str, ...]] = ("wang2025promise",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    affine: ClassVar[bool] = False
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        share_below_one(self.beta1, "beta1")
        share_below_one(self.beta2, "beta2")
        if real_number(self.epsilon, "epsilon") <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon!r}")
        whole_number(self.accumulate, "accumulate", 1)

    def init(self, x0: np.ndarray, network: Network) -> MomentsState:
        gradients = no_buffer(x0) if self.accumulate == 1 else np.zeros_like(x0)
        return MomentsState(x0, np.zeros_like(x0), np.zeros_like(x0), gradients)

    def step(self, state: MomentsState, round: Round) -> MomentsState:
        k = self.accumulate
        gradient = round.gradient(state.x)
        first = (1 - self.beta1) * gradient
        first += state.first
        second = gradient * gradient
        second *= 1 - self.beta2
        second += state.second
        renewals = round.step // k + 1
        # M/c₁ / (√(V/c₂) + ε) with both corrections c in one factor.
        left, root = 1 - self.beta1**renewals, math.sqrt(1 - self.beta2**renewals)
        move = np.sqrt(second)
        move *= left / root
        move += left * self.epsilon
        np.divide(first, move, out=move)
        x = round.descend(round.mix(state.x), move, overwrite=True)
        if k == 1:
            first *= self.beta1
            second *= self.beta2
            return MomentsState(x, first, second, state.gradients)
        total = state.gradients + gradient
        if (round.step + 1) % k:
            return MomentsState(x, state.first, state.second, total)
        mean = total / k
        first = self.beta1 * (state.first + (1 - self.beta1) * mean)
        second = self.beta2 * (state.second + (1 - self.beta2) * mean**2)
        return MomentsState(x, first, second, np.zeros_like(total))


class NormalizedState(NamedTuple):
    """``x``, the ``correction`` c of the tracked gradient, and x a step before (no rows where it is of no
    use): ``(n, d[, r])``.
    """

    x: np.ndarray
    correction: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class NormalizedTracking(Method):
    """Normalised gradient tracking: steps of length γ along a tracked mean of the gradients.

    X' = WX − γ V/‖V‖ (worker by worker);  V ← WV + G⁺ − G;  V = G at the start. Written with C = G − V, so
    that a step asks for one gradient: C ← G − W(G − C). With ``momentum=β`` it is X + β(X − X⁻) that is
    mixed. Where a worker tracks 0 it does not move.

    Args:
        momentum: β in [0, 1).

    Any connected topology. Sends two vectors per directed edge and step. For losses without a minimum,
    such as logistic ones on separable data: f falls exponentially in the number of steps, where gradient
    descent's falls as 1/t. Down to about 1e-16 of its start, that is: what is tracked is a sum of
    differences, whose rounding stays, and beyond it the direction is lost. With a minimum it is not exact:
    its steps do not become shorter, and near it rounding errors grow.

    Source: Taheri and Thrampoulidis, "On generalization of decentralized learning with separable data",
    AISTATS 2023. The name of the rule and its momentum are not verified against the text; the exponential
    decay is, numerically.

    >>> NormalizedTracking().vectors_per_edge(10)
    2
    """

    momentum: float = 0.0

    label: ClassVar[str] = "Normalised tracking"
    references: ClassVar[tuple[str, ...]] = ("taheri2023generalization",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    affine: ClassVar[bool] = False
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)

    def vectors_per_edge(self, d: int) -> float:
        return 2

    def init(self, x0: np.ndarray, network: Network) -> NormalizedState:
        return NormalizedState(x0, np.zeros_like(x0), x0 if self.momentum else no_buffer(x0))

    def step(self, state: NormalizedState, round: Round) -> NormalizedState:
        x = state.x
        if self.momentum:
            x = x + self.momentum * (x - state.before)
        gradient = round.gradient(state.x)
        tracked = gradient - state.correction
        length = np.sqrt(np.einsum("nd...,nd...->n...", tracked, tracked))[:, None]
        direction = tracked / np.where(length > 0, length, 1)
        direction *= round.learning_rate
        moved = round.mix(x) - direction
        before = state.x if self.momentum else state.before
        return NormalizedState(moved, gradient - round.mix(tracked), before)
