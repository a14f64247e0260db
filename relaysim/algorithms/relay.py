"""Methods built on RelaySum: running sums relayed along the edges of a spanning tree.

With d_ij the hop distance, the sum that worker i holds at step t is Σ_j s_j^{t−τ_ij}: everyone's
payload once, delayed by τ_ij = max(0, d_ij − 1), because a neighbour's payload arrives in the round
in which it was sent. With ``overlap=True`` messages arrive a round later and τ_ij = d_ij.

Source: Vogels, He, Koloskova, Karimireddy, Lin, Stich, Jaggi, "RelaySum for Decentralized Deep
Learning on Heterogeneous Data", NeurIPS 2021, and the code published with it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import (
    MomentumMethod,
    Rate,
    Round,
    check_momentum,
    no_buffer,
    smoothed,
)
from relaysim.faults import LATE_MESSAGES, LOST_MESSAGES, STOPS
from relaysim.network import AnyMail, Network
from relaysim.support.blocks import row_blocks
from relaysim.support.checks import one_of, plain_options, real_number, shown, true_or_false
from relaysim.support.names import check_same_order
from relaysim.topologies import Topology, TreePair

__all__ = ["RelaySGD", "RelaySGDGrad", "RelaySGDMix"]

UNHEARD = ("initial", "previous", "own", "counts")


class RelayState(NamedTuple):
    """``x``, ``start`` (x⁰) and ``momentum`` are ``(n, d[, r])``; ``mail`` is what was relayed."""

    x: np.ndarray
    start: np.ndarray
    momentum: np.ndarray
    mail: AnyMail


@dataclass(frozen=True)
class RelaySGD(MomentumMethod):
    """RelaySGD: relay models after a local step, and average them over all n workers.

    x_i^{t+½} = x_i^t − γ m_i with m ← βm + (1 − β)g;  relay s_i = x_i^{t+½};
    x_i^{t+1} = (Sum_i + (n − Cnt_i) u_i) / n,  Cnt_i being the workers that Sum_i holds.

    Args:
        momentum: β in [0, 1).
        overlap: average what arrived in the round before, so that communication and computation
            overlap: τ_ij = d_ij instead of max(0, d_ij − 1).
        unheard: what stands in for each of the n − Cnt_i workers not heard from, which is so in the
            first rounds: ``"initial"`` u_i = x_i⁰ (the published code), ``"previous"`` x_i^t,
            ``"own"`` x_i^{t+½}, or ``"counts"``: none, divide by Cnt_i instead of n. Where a share p of
            messages is lost ``"previous"`` weighs f_j by Σ_i (1 − p)^{d_ij}: a bias at any γ; see
            `relaysim.theory.relay_under_faults`.
        repair: a graph that has the tree's edges and more, of whose links another one takes the place of one
            that is out of order: by `relaysim.faults.LinkFailure`, which then is of all its links, or because
            a worker at an end of it has stopped. Without it the tree waits.

    With ``repair`` a round goes over a spanning tree of that graph, which all know before they send, as
    routing tells: the last one, in which links in order, the first of ``graph.edges``, take the place of
    those out of order; where the graph is cut the rest wait. None is changed back. A message on i→j may hold
    workers who are on j's side of the new tree if a link that was taken out is on i's side and one that was
    put in on j's. Such messages are forgotten, with their counts, and those on links that were taken out;
    all others hold whom they may, so that Sum_i never has anyone twice. If nothing else is lost, everyone is
    heard again after as many rounds as the new tree's diameter, the first with the change: outages that are
    much shorter are better waited for.

    Needs a tree (or a `relaysim.topologies.TreePair`). Sends one vector per directed edge and step.
    Without noise every fixed point has x_i = x* for any ζ and any γ, and it is stable on every tree
    if γh < 2 where all Hessians are h times the identity.

    Source: Vogels et al., NeurIPS 2021, Algorithm 1; published name RelaySGD, RelaySum/Model.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=10.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(8), RelaySGD(),
    ...                       learning_rate=0.5, steps=300)
    >>> bool(history.frame.distance.iloc[-1] < 1e-20)
    True
    """

    momentum: float = 0.0
    overlap: bool = False
    unheard: str = "initial"
    repair: Topology | None = None

    label: ClassVar[str] = "RelaySGD"
    references: ClassVar[tuple[str, ...]] = ("vogels2021relaysum",)
    uses: ClassVar[str] = "relay"
    exact: ClassVar[bool] = True
    theorems: ClassVar[tuple[str, ...]] = (
        "relay_sgd_equal_hessians",
        "relay_sgd_rate",
        "linear_map",
    )

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        true_or_false(self.overlap, "overlap")
        one_of(self.unheard, "unheard", UNHEARD)
        if self.repair is not None and not isinstance(self.repair, Topology):
            raise TypeError(
                f"repair must be a topology that has the tree's edges and more, not {shown(self.repair)}"
            )

    def __repr__(self) -> str:
        # Without a graph as it was before there could be one.
        fields = [each.name for each in dataclasses.fields(self) if each.name != "repair"]
        fields += [] if self.repair is None else ["repair"]
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields)
        return f"{type(self).__name__}({said})"

    def links(self, topology: Topology | TreePair) -> Topology | TreePair:
        """The graph ``repair``, where there is one."""
        graph = self.repair
        if graph is None:
            return topology
        if isinstance(topology, TreePair):
            raise ValueError(
                f"repair mends one tree, and {topology!r} is a pair; take one tree, or leave repair out"
            )
        if graph.is_directed or graph.n != topology.n:
            raise ValueError(
                f"repair={graph!r} must have links in both directions between the {topology.n} workers of "
                f"{topology!r}; it is {'directed' if graph.is_directed else f'of {graph.n} workers'}"
            )
        check_same_order(topology.worker_names, graph.worker_names)
        there = set(map(tuple, graph.edges.tolist()))
        missing = [edge for edge in topology.edges.tolist() if tuple(edge) not in there]
        if missing:
            i, j = missing[0]
            raise ValueError(
                f"repair={graph!r} lacks the link of workers {i} and {j}, which {topology!r} has; give a "
                f"graph with all edges of the tree, such as the one of which it is a spanning tree"
            )
        return graph

    @property
    def overlaps(self) -> bool:
        return self.overlap

    @property
    def faults(self) -> tuple[str, ...]:
        """Late messages on one tree only: which of them a new one forgets nobody has said."""
        return (LOST_MESSAGES, STOPS, *((LATE_MESSAGES,) if self.repair is None else ()))

    def init(self, x0: np.ndarray, network: Network) -> RelayState:
        return _relay_start(x0, network, self.momentum)

    def step(self, state: RelayState, round: Round) -> RelayState:
        direction, momentum = smoothed(state.momentum, round.gradient(state.x), self.momentum)
        half = round.descend(state.x, direction, overwrite=not self.momentum)
        mail = round.relay(half, state.mail)
        received, missing = round.inbox(state.mail if self.overlap else mail)
        x = round.fresh(half.shape)
        n = len(x)
        stand_in = {"initial": state.start, "previous": state.x}.get(self.unheard, half)
        for rows in row_blocks(x):
            total = np.add(half[rows], received[rows], out=x[rows])
            if missing is None:
                total *= 1 / n
            elif self.unheard == "counts":
                total /= n - missing[rows]
            else:
                total += missing[rows] * stand_in[rows]
                total *= 1 / n
        return RelayState(x, state.start, momentum, mail)


@dataclass(frozen=True)
class RelaySGDGrad(MomentumMethod):
    """RelaySGD/Grad: relay gradients instead of models.

    relay s_i = m_i with m ← βm + (1 − β)g;  x_i^{t+1} = x_i^t − (γ/n) Sum_i, missing gradients
    counting as 0. The learning rate is that of the step in which a gradient arrives.

    Args:
        momentum: β in [0, 1).
        overlap: as for `RelaySGD`.

    Needs a tree (or a pair). Sends one vector per directed edge and step. Not exact: workers keep
    the offset x_i − x̄ = (γ/n) Σ_j (τ_ij − mean_i' τ_i'j) g_j, hence a plateau that grows with
    (γ · delay)² ζ².

    Source: Vogels et al., NeurIPS 2021; published name RelaySum/Grad.

    >>> RelaySGDGrad(momentum=0.9).exact
    False
    """

    momentum: float = 0.0
    overlap: bool = False

    label: ClassVar[str] = "RelaySGD/Grad"
    references: ClassVar[tuple[str, ...]] = ("vogels2021relaysum",)
    uses: ClassVar[str] = "relay"
    worker_rates: ClassVar[bool] = False
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES, STOPS)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        true_or_false(self.overlap, "overlap")

    @property
    def overlaps(self) -> bool:
        return self.overlap

    def init(self, x0: np.ndarray, network: Network) -> RelayState:
        return _relay_start(x0, network, self.momentum)

    def step(self, state: RelayState, round: Round) -> RelayState:
        direction, momentum = smoothed(state.momentum, round.gradient(state.x), self.momentum)
        mail = round.relay(direction, state.mail)
        received, _ = round.inbox(state.mail if self.overlap else mail)
        total = np.add(direction, received, out=round.fresh(received.shape))
        total *= round.learning_rate
        total *= 1 / len(total)
        np.subtract(state.x, total, out=total)
        return RelayState(total, state.start, momentum, mail)

    def conserved(self, state: RelayState, network: Network, learning_rate: Rate) -> np.ndarray:
        """How workers differ once all that is on its way has arrived, ``(n − 1, d[, r])``.

        x_i − (γ/n)(what has yet to reach i), less the same of worker 0.
        """
        coming = network.undelivered(state.mail, self.overlap)
        settled = state.x - learning_rate / len(state.x) * coming
        return settled[1:] - settled[:1]


@dataclass(frozen=True)
class RelaySGDMix(MomentumMethod):
    """A mixture of relaying models (alpha = 0) and relaying updates (alpha = 1), overlapping.

    relay s_i = (1 − α) x_i^t − γ m_i with m ← βm + (1 − β)g;
    x_i^{t+1} = α x_i^t + (Sum_i + (1 − α)(n − Cnt_i) x_i⁰) / n, with what arrived a round before.

    Args:
        alpha: α in [0, 1].
        momentum: β in [0, 1).

    Needs a tree (or a pair). Sends one vector per directed edge and step. Exact for any ζ if α < 1: a
    fixed point has (1 − α) x_i = (1/n) Σ_j ((1 − α) x_j − γ m_j), the same for all i. At alpha = 0 it
    is `RelaySGD` with ``overlap=True``; at alpha = 1 and a constant rate it is `RelaySGDGrad` with
    ``overlap=True`` (which scales gradients by the rate on arrival, not when they are sent).

    Source: code published with Vogels et al., NeurIPS 2021 (not in the paper's main text).

    >>> RelaySGDMix().exact, RelaySGDMix(alpha=1.0).exact
    (True, False)
    """

    alpha: float = 0.5
    momentum: float = 0.0

    label: ClassVar[str] = "RelaySGD/Mix"
    references: ClassVar[tuple[str, ...]] = ("vogels2021relaysum",)
    uses: ClassVar[str] = "relay"
    overlaps: ClassVar[bool] = True
    faults: ClassVar[tuple[str, ...]] = (LOST_MESSAGES,)

    def __post_init__(self) -> None:
        plain_options(self)
        check_momentum(self.momentum)
        real_number(self.alpha, "alpha", 0, 1)

    @property
    def exact(self) -> bool:
        """Whether x* is reached for any ζ."""
        return self.alpha < 1

    def init(self, x0: np.ndarray, network: Network) -> RelayState:
        return _relay_start(x0, network, self.momentum)

    def step(self, state: RelayState, round: Round) -> RelayState:
        direction, momentum = smoothed(state.momentum, round.gradient(state.x), self.momentum)
        payload = round.descend((1 - self.alpha) * state.x, direction)
        mail = round.relay(payload, state.mail)
        received, missing = round.inbox(state.mail)
        total = payload + received
        if missing is not None:
            total += (1 - self.alpha) * missing * state.start
        x = self.alpha * state.x + total * (1 / len(total))
        return RelayState(x, state.start, momentum, mail)

    def conserved(
        self, state: RelayState, network: Network, learning_rate: Rate
    ) -> np.ndarray | None:
        """As for `RelaySGDGrad` at alpha = 1, where updates are relayed; else nothing."""
        if self.alpha < 1:
            return None
        settled = state.x + network.undelivered(state.mail, True) / len(state.x)
        return settled[1:] - settled[:1]


def _relay_start(x0: np.ndarray, network: Network, momentum: float) -> RelayState:
    buffer = np.zeros_like(x0) if momentum else no_buffer(x0)
    return RelayState(x0, x0, buffer, network.empty_mail(x0))
