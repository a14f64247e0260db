"""Methods of multipliers: ADMM, with its local problems solved, and with one gradient step in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.faults import LOST_MESSAGES
from relaysim.network import Network
from relaysim.support.checks import plain_options, real_number

__all__ = ["ADMM", "DLM"]


class DualState(NamedTuple):
    """``x`` and the ``dual`` y, ``(n, d[, r])``, and whether workers have ``met``, ``(1, 1)``."""

    x: np.ndarray
    dual: np.ndarray
    met: np.ndarray


@dataclass(frozen=True)
class DLM(Method):
    """DLM: decentralised linearised ADMM, with a gradient step where ADMM solves a local problem.

    X' = X − γ(G + c(I − W)X + Y);  Y ← Y + c(I − W)X', with Y = 0 at the start. In the code Y is brought
    up to date when X' has been sent, at the beginning of the next step.

    Args:
        penalty: c > 0. The edge between i and j has the penalty c W_ij; with `relaysim.mixing.uniform` of
            weight w each has c w.

    Any connected topology and any symmetric W. Sends one vector per directed edge and step. Exact for any ζ.
    A mode with eigenvalue λ of W and curvature h is stable where γ(2h + 3c(1 − λ)) < 4, for equal Hessians.
    From a common start it is `EXTRA` with γc(I − W) in the place of ½(I − W).

    Source: Ling, Shi, Wu, Ribeiro, "DLM: decentralized linearized alternating direction method of
    multipliers", IEEE Transactions on Signal Processing, 2015, with one γ for its 1/(2c d_i + ρ), as in
    decent-bench; the condition is derived here, and checked by a test.

    >>> DLM(penalty=0.5).exact
    True
    """

    penalty: float = 1.0

    label: ClassVar[str] = "DLM"
    references: ClassVar[tuple[str, ...]] = ("ling2015dlm",)
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        if real_number(self.penalty, "penalty") <= 0:
            raise ValueError(f"penalty must be above 0, not {self.penalty!r}")

    def init(self, x0: np.ndarray, network: Network) -> DualState:
        return DualState(x0, np.zeros_like(x0), np.zeros((1, 1), dtype=bool))

    def conserved(
        self, state: DualState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i y_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.dual)

    def step(self, state: DualState, round: Round) -> DualState:
        pull = self.penalty * round.mix_change(state.x)
        dual = state.dual - pull if state.met else state.dual
        direction = round.gradient(state.x) - pull
        direction += dual
        x = round.descend(state.x, direction, overwrite=True).copy()
        return DualState(x, dual, np.ones((1, 1), dtype=bool))


class EdgesState(NamedTuple):
    """``x``, and of the variables of a worker's edges, its own and its neighbours', the weighted ``sum`` and
    ``difference``, ``(n, d[, r])``.
    """

    x: np.ndarray
    sum: np.ndarray
    difference: np.ndarray


@dataclass(frozen=True)
class ADMM(Method):
    """ADMM over edges: each worker solves its own problem, with a penalty to what edges have agreed on.

    x_i = prox_{γ f_i/s_i}(Σ_j W_ij z_ij / s_i) with s_i = Σ_{j ≠ i} W_ij = 1 − W_ii;
    z_ij ← (1 − α) z_ij − α(z_ji − 2x_j) over every edge, with z_ij = z_ji = x_i⁰ at the start. Of the z_ij
    only sums over the edges of a worker are kept, all that its x_i depends on where no message is lost.

    Args:
        relaxation: α in (0, 1); ½ is ADMM itself, more is nearer to Peaceman–Rachford splitting.

    The learning rate γ is the reciprocal of the penalty, which on the edge between i and j is W_ij/γ: at
    0 there is communication only. Needs a problem with a closed-form solve, ``proximal``, which quadratics
    have: prox_{t f_i}(v) = v − t(I + tH_i)⁻¹∇f_i(v), so that a step takes one gradient, at v, with whatever
    noise is in it. Any connected topology and any symmetric W; a worker without neighbours is its own. Sends
    one vector per directed edge and step. Exact for any ζ, at any γ > 0.

    Source: Shi, Ling, Yuan, Wu, Yin, "On the linear convergence of the ADMM in decentralized consensus
    optimization", IEEE Transactions on Signal Processing, 2014; over edges and relaxed as in Bastianello,
    Carli, Schenato, Todescato, IEEE Transactions on Automatic Control, 2021, and decent-bench's code of it,
    which has γ = 1/ρ and, in the place of W_ij, 1 on every edge. The sums are derived here, and checked.

    >>> ADMM().vectors_per_edge(10)
    1
    """

    relaxation: float = 0.5

    label: ClassVar[str] = "ADMM"
    references: ClassVar[tuple[str, ...]] = ("shi2014linear", "bastianello2021asynchronous")
    uses: ClassVar[str] = "mixing"
    mixing_needs: ClassVar[str] = "symmetric"
    problem_needs: ClassVar[str] = "proximal"
    worker_rates: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        if not 0 < real_number(self.relaxation, "relaxation") < 1:
            raise ValueError(f"relaxation must be above 0 and below 1, not {self.relaxation!r}")

    def init(self, x0: np.ndarray, network: Network) -> EdgesState:
        weights = network.weights_of_others(0).reshape(-1, *(1,) * (x0.ndim - 1))
        return EdgesState(x0, 2 * weights * x0, np.zeros_like(x0))

    def conserved(
        self, state: EdgesState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i of the differences, ``(1, d[, r])``; 0 at the start."""
        return network.preserved_mean(state.difference)

    def step(self, state: EdgesState, round: Round) -> EdgesState:
        weights = round.weights_of_others.reshape(-1, *(1,) * (state.x.ndim - 1))
        agreed = state.sum + state.difference
        agreed *= 0.5 / weights
        x = round.proximal(agreed, round.learning_rate / weights)
        change = round.mix_change(x)
        if self.relaxation != 0.5:
            change *= 2 * self.relaxation
        difference = state.difference + change
        change += x * (4 * self.relaxation * weights)
        if self.relaxation != 0.5:
            change += (1 - 2 * self.relaxation) * state.sum
        return EdgesState(x, change, difference)
