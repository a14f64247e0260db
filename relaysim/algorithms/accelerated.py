"""Descent with Nesterov's momentum whose messages make several rounds a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number, whole_number

__all__ = ["Mudag"]

# The least that stands for ln(M/μ) where rounds are not given. At rates near 0 the disagreement of workers in
# a mode of P with eigenvalue p has z³ = p(3z² − 3z + 1), whose roots are inside the unit circle where
# −1/7 < p < 1/2. That takes 1.2/√(1 − λ) rounds for λ itself, and 1.6 for all down to about −λ/2; near −λ
# p falls more slowly, so that weights with such eigenvalues need more.
LEAST_LOGARITHM = 2.0


class ExtrapolatedState(NamedTuple):
    """``x``, the points ``ahead`` of it, Y, at which gradients are taken, and the ``correction`` C, 0 at
    first: ``(n, d[, r])``.
    """

    x: np.ndarray
    ahead: np.ndarray
    correction: np.ndarray


@dataclass(frozen=True)
class Mudag(Method):
    """Mudag: Nesterov's accelerated descent, with several accelerated rounds of gossip a step.

    X' = P(Y + (X − Y⁻) − γ(G(Y) − G(Y⁻)));  Y' = X' + ((1 − α)/(1 + α))(X' − X), with α = √(μγ) and P the
    matrix of `relaysim.mixing.fast_mix`; Y = X, X − Y⁻ + γG(Y⁻) = 0 at the start. Written with the correction
    of `D2`: Z = Y − γG(Y) + C;  X' = PZ;  C ← C + (P − I)Z.

    Args:
        rounds: K of P, at least 1; None for ⌈max(ln(M/μ), 2)/√(1 − λ)⌉, with M the largest smoothness of a
            worker's objective, which the problem has to say, and λ = ‖W − J‖₂.
        strong_convexity: μ > 0, of f; None for that of the problem.

    Any connected topology and one symmetric W. Sends K vectors per directed edge and step. Exact for any ζ.
    At γ = 1/L steps grow as √(L/μ), L and μ those of f, where those of other methods here grow as L/μ. Where
    rounds are too few for the graph it diverges, at low rates too: these need −1/7 < p < 1/2 for all
    eigenvalues p of P but 1, which the least K of 2/√(1 − λ) sees to where W, as by Metropolis's weights, has
    no eigenvalue near −λ; else give more rounds, or mix with (W + I)/2. K = 1 is not plain gossip, see
    `relaysim.mixing.fast_mix`. At learning rate 0 workers average, X' = PX.

    Source: Ye, Luo, Zhou, Zhang, "Multi-consensus decentralized accelerated gradient descent", JMLR 2023; the
    rule and ln(M/μ) as read in public code of others, checked by its growth with √(L/μ); the 2 is ours.

    >>> Mudag(rounds=3).vectors_per_edge(10), Mudag().vectors_per_edge(10)
    (3, None)
    """

    rounds: int | None = None
    strong_convexity: float | None = None

    label: ClassVar[str] = "Mudag"
    references: ClassVar[tuple[str, ...]] = ("ye2023multi",)
    uses: ClassVar[str] = "mixing"
    worker_rates: ClassVar[bool] = False
    mixing_needs: ClassVar[str] = "one symmetric"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        if self.rounds is not None:
            whole_number(self.rounds, "rounds", 1)
        if self.strong_convexity is not None and not (
            real_number(self.strong_convexity, "strong_convexity") > 0
        ):
            raise ValueError(f"strong_convexity must be positive, not {self.strong_convexity!r}")

    @property
    def hops_per_step(self) -> float:
        return math.inf if self.rounds is None else self.rounds

    def vectors_per_edge(self, d: int) -> float | None:
        """K; None where it depends on the graph and on the problem."""
        return self.rounds

    def init(self, x0: np.ndarray, network: Network) -> ExtrapolatedState:
        self._constants(network.workers)  # which refuse before any work
        return ExtrapolatedState(x0, x0, np.zeros_like(x0))

    def step(self, state: ExtrapolatedState, round: Round) -> ExtrapolatedState:
        mu, logarithm = self._constants(round)
        rounds = self.rounds
        if rounds is None:
            rounds = max(1, math.ceil(logarithm / math.sqrt(1 - round.disagreement_left)))
        corrected = round.descend(state.ahead, round.gradient(state.ahead))
        corrected += state.correction
        change = round.mix_faster(corrected, rounds)
        x = corrected + change
        alpha = np.sqrt(mu * round.learning_rate)
        ahead = x - state.x
        # Without a rate there is nothing to speed up.
        ahead *= np.where(np.greater(alpha, 0), (1 - alpha) / (1 + alpha), 0)
        ahead += x
        change += state.correction
        return ExtrapolatedState(x, ahead, change)

    def _constants(self, known: Any) -> tuple[float, float]:
        """μ, and ln(M/μ) or 2, 0 where rounds are given, of a round or a network, which know the problem."""
        mu = self.strong_convexity
        if mu is None:
            mu = known.strong_convexity
        if self.rounds is not None:
            return mu, 0.0
        return mu, max(math.log(known.local_smoothness.max() / mu), LEAST_LOGARITHM)

    def conserved(
        self, state: ExtrapolatedState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)
