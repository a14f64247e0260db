"""Gossip methods whose corrections cancel the bias that heterogeneous data cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.faults import LOST_MESSAGES
from relaysim.network import Network
from relaysim.support.checks import one_of, plain_options

__all__ = ["D2", "EXTRA", "ExactDiffusion", "GradientTracking"]


class CorrectedState(NamedTuple):
    """``x`` and the ``correction`` c, both ``(n, d[, r])``; c is 0 at the start."""

    x: np.ndarray
    correction: np.ndarray


class _Corrected(Method):
    """What methods with a correction have in common: it starts at 0 and keeps its weighted sum."""

    def init(self, x0: np.ndarray, network: Network) -> CorrectedState:
        return CorrectedState(x0, np.zeros_like(x0))

    def conserved(
        self, state: CorrectedState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)


@dataclass(frozen=True)
class D2(_Corrected):
    """D²: gossip with a correction that cancels the bias of heterogeneous data.

    X ← W(2X − X⁻ − γ(G − G⁻)), written with a correction:
    X' = W(X − γG + C);  C ← X' − (X − γG);  C = 0 at the start. In the code Z = X − γG + C,
    X' = Z + (W − I)Z and C ← C + (W − I)Z, which keeps Σ_i c_i = 0 to rounding.

    Args:
        form: what it follows where the learning rate changes; at a constant one all is the same. ``"own"``:
            each gradient counts with the rate of its own step, X' = W(2X − X⁻ − γ_t G + γ_{t−1} G⁻).
            ``"scaled"``: the last move is taken at the present rate,
            X' = W(X − γ_t ((X⁻ − X)/γ_{t−1} + G − G⁻)), so that the correction falls with the rate; at
            learning rate 0 it waits, and X' = WX. With both the mean moves by −γ_t times the mean gradient,
            which it would not with 2X − X⁻ − γ_t (G − G⁻): that ends beside x* where the rate falls.

    Any connected undirected topology. Sends one vector per directed edge and step. Exact for any ζ if W is
    doubly stochastic, where it is stable: a mode with eigenvalue λ of W and curvature h needs
    1 + λ(3 − 2γh) > 0 and |λ(1 − γh)| < 1, so that small rates need λ_min(W) > −1/3; see
    `ExactDiffusion` for a variant that does not. Modes of one-way links, whose eigenvalues are complex, grow
    at any rate.

    Source: Tang, Lian, Yan, Zhang, Liu, "D²: decentralized training over decentralized data", ICML
    2018, at a constant rate; ``"scaled"`` as in the code published with Lin et al., "Quasi-global momentum",
    ICML 2021.

    >>> D2().vectors_per_edge(10)
    1
    """

    form: str = "own"

    label: ClassVar[str] = "D²"
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True
    theorems: ClassVar[tuple[str, ...]] = ("d2_rate",)
    #: Whether it mixes with (W + I)/2 in the place of W.
    lazy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        one_of(self.form, "form", ("own", "scaled"))

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        if self.form == "scaled":
            return self._scaled_step(state, round)
        corrected = round.descend(state.x, round.gradient(state.x))
        corrected += state.correction
        change = round.mix_change(corrected, laziness=0.5 if self.lazy else 0.0)
        return CorrectedState(corrected + change, state.correction + change)

    def _scaled_step(self, state: CorrectedState, round: Round) -> CorrectedState:
        """With C/γ for the correction, which is what stays the same when the rate changes."""
        rate = round.learning_rate
        corrected = round.descend(state.x, round.gradient(state.x) - state.correction)
        change = round.mix_change(corrected, laziness=0.5 if self.lazy else 0.0)
        moving = np.not_equal(rate, 0)
        per_rate = np.where(moving, change / np.where(moving, rate, 1), 0)
        return CorrectedState(corrected + change, state.correction + per_rate)


@dataclass(frozen=True)
class ExactDiffusion(D2):
    """Exact diffusion: `D2` with the lazy matrix (W + I)/2.

    X ← ½(W + I)(2X − X⁻ − γ(G − G⁻)); under a schedule as `D2`, in either ``form``. Where messages are
    lost it is the lazy matrix that loses their weights ½W_ij, and has its rows scaled to sum to 1 again.

    Any connected undirected topology and any symmetric doubly stochastic W without negative weights: the lazy
    matrix has no negative eigenvalue. Sends one vector per directed edge and step. Exact for any ζ.

    Source: Yuan, Ying, Zhao, Sayed, "Exact diffusion for distributed optimization and learning",
    2019; as in the code published with Vogels et al., NeurIPS 2021.

    >>> ExactDiffusion().exact
    True
    """

    label: ClassVar[str] = "Exact diffusion"
    theorems: ClassVar[tuple[str, ...]] = ("d2_rate",)
    lazy: ClassVar[bool] = True


@dataclass(frozen=True)
class GradientTracking(_Corrected):
    """Gradient tracking: a second variable follows the average gradient.

    X ← W(X − γY);  Y ← WY + G⁺ − G;  Y = G at the start. Written with C = G − Y, so that a step asks
    for one gradient: X' = W(X − γ(G − C));  C ← W(C − G) + G.

    Under other names: NEXT, SONATA with a doubly stochastic W and linearised losses, and ATC-tracking (adapt,
    then combine). It is neither DIGing, which moves after mixing (X ← WX − γY), nor ATC-DIGing or
    Aug-DGM, which mixes the whole tracker (Y ← W(Y + G⁺ − G)). Each step moves by its own rate: under a
    schedule X' = W(X − γ_t Y).

    Any connected topology, one-way links too. Sends two vectors per directed edge and step. Exact for any ζ
    if W is doubly stochastic, as on regular one-way links; see `PushDIGing` and `PushPull` for others.

    Source: Di Lorenzo and Scutari, "NEXT: in-network nonconvex optimization", 2016; Scutari and Sun,
    "Distributed nonconvex constrained optimization over time-varying digraphs" (SONATA), 2019; analysed by
    Koloskova, Lin, Stich, NeurIPS 2021; as in the code published with Vogels et al., NeurIPS 2021.

    >>> GradientTracking().vectors_per_edge(10)
    2
    """

    label: ClassVar[str] = "Gradient tracking"
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True

    def vectors_per_edge(self, d: int) -> float:
        return 2

    theorems: ClassVar[tuple[str, ...]] = ("gradient_tracking_rate",)

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        gradient = round.gradient(state.x)
        untracked = gradient - state.correction
        x = round.mix(round.descend(state.x, untracked))
        return CorrectedState(x, gradient - round.mix(untracked))


@dataclass(frozen=True)
class EXTRA(_Corrected):
    """EXTRA: gossip whose own past differences correct the bias of heterogeneous data.

    X¹ = WX⁰ − γG⁰;  X^{t+2} = (I + W)X^{t+1} − ½(I + W)X^t − γ(G^{t+1} − G^t), written with a correction:
    X' = WX − γG + C;  C ← C + ½(W − I)X;  C = 0 at the start.

    Any connected undirected topology. Sends one vector per directed edge and step. Exact for any ζ if W is
    doubly stochastic, but not if X is mixed further after a step: what corrects it is the disagreement of X,
    which that takes away. Stable for γ < 2 λ_min(½(I + W)) / L (constant not verified).

    Source: Shi, Ling, Wu, Yin, "EXTRA: an exact first-order algorithm for decentralized consensus
    optimization", SIAM Journal on Optimization, 2015.

    >>> EXTRA().exact
    True
    """

    label: ClassVar[str] = "EXTRA"
    uses: ClassVar[str] = "mixing"
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        descended = round.descend(state.x, round.gradient(state.x))
        change = round.mix_change(state.x)
        x = descended + change
        x += state.correction
        change *= 0.5
        change += state.correction
        return CorrectedState(x, change)
