"""Gossip methods whose corrections cancel the bias that heterogeneous data cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import (
    Method,
    MomentumMethod,
    Rate,
    Round,
    check_momentum,
    no_buffer,
    smoothed,
)
from relaysim.faults import ALTERED, LATE_MESSAGES, LOST_MESSAGES, STOPS
from relaysim.network import Network
from relaysim.support.checks import one_of, plain_options

__all__ = ["D2", "EXTRA", "NIDS", "ExactDiffusion", "GradientTracking"]


class CorrectedState(NamedTuple):
    """``x`` and the ``correction`` c, both ``(n, d[, r])``; c is 0 at the start."""

    x: np.ndarray
    correction: np.ndarray


class Corrected(Method):
    """What methods with a correction have in common: it starts at 0 and keeps its weighted sum."""

    def init(self, x0: np.ndarray, network: Network) -> CorrectedState:
        return CorrectedState(x0, np.zeros_like(x0))

    def conserved(
        self, state: CorrectedState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """Σ_i π_i c_i, ``(1, d[, r])``, with π the weights that mixing preserves; 0 at the start."""
        return network.preserved_mean(state.correction)


@dataclass(frozen=True)
class D2(Corrected):
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
    references: ClassVar[tuple[str, ...]] = ("tang2018d2",)
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES, ALTERED, LATE_MESSAGES, STOPS)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True
    theorems: ClassVar[tuple[str, ...]] = ("d2_rate", "linear_map")
    #: Whether it mixes with (W + I)/2 in the place of W.
    lazy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        one_of(self.form, "form", ("own", "scaled"))

    @property
    def worker_rates(self) -> bool:
        """Not where corrections are divided by the rate: only their weighted sum would stay 0 then."""
        return self.form == "own"

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        if self.form == "scaled":
            return self._scaled_step(state, round)
        corrected = round.descend(state.x, round.gradient(state.x))
        corrected += state.correction
        change = round.mix_change(corrected, laziness=0.5 if self.lazy else 0.0)
        return CorrectedState(corrected + change, state.correction + change)

    def _scaled_step(self, state: CorrectedState, round: Round) -> CorrectedState:
        """With C/γ for the correction, which is what stays the same when the rate changes."""
        corrected = round.descend(state.x, round.gradient(state.x) - state.correction)
        change = round.mix_change(corrected, laziness=0.5 if self.lazy else 0.0)
        correction = round.over_rate(change)
        correction += state.correction
        return CorrectedState(corrected + change, correction)


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
    references: ClassVar[tuple[str, ...]] = ("yuan2019exact",)
    theorems: ClassVar[tuple[str, ...]] = ("d2_rate", "linear_map")
    lazy: ClassVar[bool] = True


class ProximalState(NamedTuple):
    """``x``, the ``correction`` c and what the last proximal step ``added``, x − z (no rows without such a
    term), ``(n, d[, r])``, and whether workers have ``met``, ``(1, 1)``.
    """

    x: np.ndarray
    correction: np.ndarray
    added: np.ndarray
    met: np.ndarray


@dataclass(frozen=True)
class NIDS(Corrected):
    """NIDS: exact diffusion with a first step alone, and with a proximal step.

    Z¹ = X⁰ − γG⁰;  X = prox_{γr}(Z);
    Z⁺ = Z − X + ½(I + W)(2X − X⁻ − γ(G − G⁻)), with r a term of the objective that has no gradient
    (`relaysim.problems.L1`), and X = Z where there is none. Written with a correction that is 0 at the start:
    C ← C + ½(W − I)(X − γG + C + X − Z), but not in the first step;  Z⁺ = X − γG + C.

    Without r it differs from `ExactDiffusion` in the first step only: here workers take that alone, and there
    peers mix already, X¹ = ½(I + W)(X⁰ − γG⁰). What follows is X⁺ = ½(I + W)(2X − X⁻ − γ(G − G⁻)) in both, so
    that rates and stable learning rates are the same.

    Any connected topology and any symmetric doubly stochastic W. Sends one vector per directed edge and step
    after the first. Exact for any ζ, with r as well, for γ < 2/L whatever the graph.

    Source: Li, Shi, Yan, "A decentralized proximal-gradient method with network independent step-sizes and
    separated convergence rates", IEEE Transactions on Signal Processing, 2019, with one γ for all and its
    c = 1/(2γ).

    >>> NIDS().composite, ExactDiffusion().composite
    (True, False)
    """

    label: ClassVar[str] = "NIDS"
    references: ClassVar[tuple[str, ...]] = ("li2019decentralized",)
    uses: ClassVar[str] = "mixing"
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True
    composite: ClassVar[bool] = True

    def init(self, x0: np.ndarray, network: Network) -> ProximalState:  # type: ignore[override]
        smooth = network.regularizer is None
        added = no_buffer(x0) if smooth else np.zeros_like(x0)
        return ProximalState(x0, np.zeros_like(x0), added, np.zeros((1, 1), dtype=bool))

    def step(self, state: ProximalState, round: Round) -> ProximalState:
        correction = state.correction
        descended = round.descend(state.x, round.gradient(state.x))
        if state.met:
            sent = descended + correction
            if len(state.added):
                sent += state.added
            correction = correction + round.mix_change(sent, laziness=0.5)
        z = descended + correction
        x = round.regularized(z)
        added = x - z if len(state.added) else state.added
        return ProximalState(x, correction, added, np.ones((1, 1), dtype=bool))


class TrackingState(NamedTuple):
    """``x``, the ``correction`` c and the ``momentum`` buffer m (no rows without any), ``(n, d[, r])``, and
    whether trackers have ``met``, which in ATC-DIGing they have not in the first step, ``(1, 1)``.
    """

    x: np.ndarray
    correction: np.ndarray
    momentum: np.ndarray
    met: np.ndarray


@dataclass(frozen=True)
class GradientTracking(Corrected, MomentumMethod):
    """Gradient tracking: a second variable follows the average gradient.

    X ← W(X − γY);  Y ← WY + G⁺ − G;  Y = G at the start. Written with C = G − Y, so that a step asks
    for one gradient: X' = W(X − γ(G − C));  C ← W(C − G) + G.

    Args:
        form: ``"next"``, as above: NEXT, SONATA with a doubly stochastic W and linearised losses, and
            ATC-tracking (adapt, then combine). ``"diging"``: DIGing, which moves after mixing, X ← WX − γY,
            with the same tracker. ``"atc"``: Aug-DGM or ATC-DIGing, X ← W(X − γY) with the whole tracker
            mixed, Y ← W(Y + G⁺ − G): news goes two hops a step.
        momentum: β in [0, 1). Above 0 the tracker follows momentum buffers M ← βM + (1 − β)G in the place of
            G, with M = C = 0 at the start: momentum tracking.

    Each step moves by its own rate: under a schedule X' = W(X − γ_t Y).

    Any connected topology, one-way links too. Sends two vectors per directed edge and step (``"atc"`` one in
    the first, in which trackers are gradients still). Exact for any ζ if W is doubly stochastic, as on
    regular one-way links, with momentum as well; see `PushDIGing` and `PushPull` for others.

    Source: Di Lorenzo and Scutari, "NEXT: in-network nonconvex optimization", 2016; Scutari and Sun,
    "Distributed nonconvex constrained optimization over time-varying digraphs" (SONATA), 2019; analysed by
    Koloskova, Lin, Stich, NeurIPS 2021; as in the code published with Vogels et al., NeurIPS 2021. DIGing:
    Nedić, Olshevsky, Shi, SIAM Journal on Optimization, 2017. Aug-DGM: Xu, Zhu, Soh, Xie, CDC 2015. Momentum:
    Takezawa, Bao, Niwa, Sato, Yamada, "Momentum tracking", TMLR 2023, whose code has the form ``"diging"``, a
    γ that is 1 − β times this one, and buffers that begin with an average over all workers; the other forms
    with momentum are derived here, and all are checked numerically.

    >>> GradientTracking().vectors_per_edge(10)
    2
    """

    form: str = "next"
    momentum: float = 0.0

    label: ClassVar[str] = "Gradient tracking"
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    mixing_needs: ClassVar[str] = "doubly stochastic"
    exact: ClassVar[bool] = True
    exact_when_mixed_further: ClassVar[bool] = True
    theorems: ClassVar[tuple[str, ...]] = ("gradient_tracking_rate", "linear_map")

    def __post_init__(self) -> None:
        plain_options(self)
        one_of(self.form, "form", ("next", "diging", "atc"))
        check_momentum(self.momentum)

    @property
    def faults(self) -> tuple[str, ...]:
        """In the form ``"atc"`` not late messages: its first step sends one vector less than the others."""
        known = (LOST_MESSAGES, ALTERED, STOPS)
        return known if self.form == "atc" else (*known, LATE_MESSAGES)

    @property
    def references(self) -> tuple[str, ...]:
        """Those of the form, and that of momentum."""
        of_form = {
            "next": ("dilorenzo2016next", "scutari2019distributed"),
            "diging": ("nedic2017achieving",),
            "atc": ("xu2015augmented",),
        }
        return of_form[self.form] + (("takezawa2023momentum",) if self.momentum else ())

    @property
    def overlaps(self) -> bool:
        """Whether a step's gradient reaches others in the next step only: in DIGing."""
        return self.form == "diging"

    @property
    def hops_per_step(self) -> int:
        """How many hops information can move in a step."""
        return 2 if self.form == "atc" else 1

    def vectors_per_edge(self, d: int) -> float:
        return 2

    def init(self, x0: np.ndarray, network: Network) -> Any:
        if self.form == "next" and self.momentum == 0:
            return CorrectedState(x0, np.zeros_like(x0))
        buffer = np.zeros_like(x0) if self.momentum else no_buffer(x0)
        return TrackingState(x0, np.zeros_like(x0), buffer, np.array([[self.form != "atc"]]))

    def step(self, state: Any, round: Round) -> CorrectedState | TrackingState:
        gradient = round.gradient(state.x)
        if isinstance(state, CorrectedState):
            untracked = gradient - state.correction
            x = round.mix(round.descend(state.x, untracked))
            return CorrectedState(x, gradient - round.mix(untracked))
        followed, buffer = smoothed(state.momentum, gradient, self.momentum)
        tracked = followed - state.correction
        if self.form == "atc" and state.met:
            tracked = round.mix(tracked)
        if self.form == "diging":
            x = round.mix(state.x) - round.learning_rate * tracked
        else:
            x = round.mix(round.descend(state.x, tracked))
        if self.form != "atc":
            tracked = round.mix(tracked)
        return TrackingState(x, followed - tracked, buffer, np.ones((1, 1), dtype=bool))


@dataclass(frozen=True)
class EXTRA(Corrected):
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
    references: ClassVar[tuple[str, ...]] = ("shi2015extra",)
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
