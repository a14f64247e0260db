"""Methods for one-way links: push-sum, whose columns sum to one, and its pairing with rows that do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.algorithms.corrected import CorrectedState
from relaysim.algorithms.global_average import ModelState
from relaysim.faults import LOST_MESSAGES
from relaysim.mixing import one_peer_exponential
from relaysim.network import Network
from relaysim.support.checks import one_of, plain_options, whole_number

__all__ = ["SGP", "PushDIGing", "PushPull"]


class MassState(NamedTuple):
    """``x (n, d[, r])`` and each worker's ``mass (n, 1)``, or ``(n, 1, r)`` where replicas draw their
    weights; 1 at the start, and Σ_i mass_i = n ever after.
    """

    x: np.ndarray
    mass: np.ndarray


class TrackedMassState(NamedTuple):
    """``x`` and the ``correction`` c, ``(n, d[, r])``, 0 at the start; and each worker's ``mass``."""

    x: np.ndarray
    correction: np.ndarray
    mass: np.ndarray


def _own_mass(x0: np.ndarray, network: Network) -> np.ndarray:
    return np.ones((len(x0), 1, *(x0.shape[2:] if network.draws else ())))


def _times(mass: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x * (mass if mass.ndim == x.ndim else mass[..., None])


@dataclass(frozen=True)
class SGP(Method):
    """Stochastic gradient push: a gradient step, then push-sum, over one-way links.

    On its own time-varying one-peer exponential graph: X ← P_k … (X − γG), in each of ``rounds`` rounds
    worker i averaging with i − 2^(k mod ⌈log₂ n⌉) and k counting rounds over the whole run. These matrices
    are doubly stochastic, so that the push-sum weights stay 1.

    On a topology, with any matrix C whose columns sum to 1, or any sequence or callable of them:
    U = VX;  U ← C(U − γG);  v ← Cv;  X = V⁻¹U, with V = diag(v) and v = 1 at the start. A worker with more
    mass v_i divides by more, so that all tend to the mean of what there is. In every one of ``rounds`` rounds
    with the next matrix.

    Args:
        rounds: averaging rounds in a step, at least 1.
        network: ``"exponential"``, its own graph; or ``"topology"``, directed or not and strongly connected,
            with ``simulate(…, mixing=C)``, by default `relaysim.mixing.column_stochastic` of a directed one.

    On its own graph it uses of the topology only n, and sends n vectors a round; on a topology a vector and
    v_j over each edge and round. Exact only if the rounds of every step average exactly; otherwise, like
    gossip, it stalls at a distance that grows with γζ.

    Source: Assran, Loizou, Ballas, Rabbat, "Stochastic gradient push", ICML 2019; its own graph in the form
    of the code published with Vogels et al., NeurIPS 2021.

    >>> SGP().rounds, SGP(network="topology").mixing_needs
    (2, 'column stochastic')
    """

    rounds: int = 2
    network: str = "exponential"

    label: ClassVar[str] = "SGP"
    references: ClassVar[tuple[str, ...]] = ("assran2019stochastic",)
    directed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.rounds, "rounds", 1)
        one_of(self.network, "network", ("exponential", "topology"))

    @property
    def _has_own_graph(self) -> bool:
        return self.network == "exponential"

    @property
    def uses(self) -> str:
        return "workers" if self._has_own_graph else "mixing"

    @property
    def mixing_needs(self) -> str:
        return "nothing" if self._has_own_graph else "column stochastic"

    @property
    def several_rounds(self) -> bool:
        return self._has_own_graph

    @property
    def faults(self) -> tuple[str, ...]:
        return (LOST_MESSAGES,) if self._has_own_graph else ()

    @property
    def hops_per_step(self) -> int:
        return self.rounds

    @property
    def matrices_per_step(self) -> int:
        return self.rounds

    def vectors_per_edge(self, d: int) -> float:
        """Vectors that each worker sends in a step, or over each edge of a topology, there with its mass."""
        return self.rounds if self._has_own_graph else self.rounds * (1 + 1 / d)

    def own_mixing(self, n: int) -> tuple[csr_array, ...] | None:
        """The one-peer exponential sequence; None on a topology."""
        return one_peer_exponential(n) if self._has_own_graph else None

    def init(self, x0: np.ndarray, network: Network) -> ModelState | MassState:
        return ModelState(x0) if self._has_own_graph else MassState(x0, _own_mass(x0, network))

    def step(self, state: ModelState | MassState, round: Round) -> ModelState | MassState:
        if isinstance(state, MassState):
            return self._push(state, round)
        x = round.descend(state.x, round.gradient(state.x))
        for k in range(self.rounds):
            x = round.mix(x, self.rounds * round.step + k)
        return ModelState(x)

    def _push(self, state: MassState, round: Round) -> MassState:
        x, mass = state
        pushed = round.descend(_times(mass, x), round.gradient(x))
        for k in range(self.rounds):
            which = self.rounds * round.step + k
            pushed, mass = round.mix(pushed, which), round.mix(mass, which, 1 / x.shape[1])
        return MassState(_times(1 / mass, pushed), mass)


@dataclass(frozen=True)
class PushDIGing(Method):
    """Push-DIGing: gradient tracking by push-sum, exact over one-way links.

    U = VX;  U ← C(U − γY);  v ← Cv;  X = V⁻¹U;  Y ← CY + G⁺ − G, with V = diag(v), v = 1 and Y = G at the
    start, and any matrix C whose columns sum to 1, or any sequence or callable of them. Written with
    c = G − Y, so that a step asks for one gradient; c = 0 at the start.

    Any connected topology, strongly if it is directed, and then by default with
    `relaysim.mixing.column_stochastic`; a worker has to know how many hear it. Sends two vectors and v_j over
    each edge and step. Exact for any ζ. Where columns and rows of C sum to 1 v stays 1, and what is left is
    `GradientTracking`.

    Source: Nedić, Olshevsky, Shi, "Achieving geometric convergence for distributed optimization over
    time-varying graphs", SIAM Journal on Optimization, 2017, by texts that quote its rule and weights.

    >>> PushDIGing().vectors_per_edge(10)
    2.1
    """

    label: ClassVar[str] = "Push-DIGing"
    references: ClassVar[tuple[str, ...]] = ("nedic2017achieving",)
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    mixing_needs: ClassVar[str] = "column stochastic"
    several_rounds: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def vectors_per_edge(self, d: int) -> float:
        return 2 + 1 / d

    def init(self, x0: np.ndarray, network: Network) -> TrackedMassState:
        return TrackedMassState(x0, np.zeros_like(x0), _own_mass(x0, network))

    def conserved(
        self, state: TrackedMassState, network: Network, learning_rate: Rate
    ) -> np.ndarray:
        """(1/n) Σ_i c_i, ``(1, d[, r])``; 0 at the start."""
        return state.correction.mean(axis=0, keepdims=True)

    def step(self, state: TrackedMassState, round: Round) -> TrackedMassState:
        x, correction, mass = state
        gradient = round.gradient(x)
        tracked = gradient - correction
        pushed = round.mix(round.descend(_times(mass, x), tracked))
        mass = round.mix(mass, share=1 / x.shape[1])
        return TrackedMassState(_times(1 / mass, pushed), gradient - round.mix(tracked), mass)


@dataclass(frozen=True)
class PushPull(Method):
    """Push-pull, or AB: models are pulled with rows that sum to one, gradients pushed with columns that do.

    X ← R(X − γY);  Y ← CY + G⁺ − G, with Y = G at the start, rows of R and columns of C summing to 1. Written
    with c = G − Y, so that a step asks for one gradient; c = 0 at the start.

    Any connected topology, strongly if it is directed. ``simulate(…, mixing=(R, C))``; a longer sequence is
    used in turn, R_0, C_0, R_1, …, and of a single matrix both rows and columns have to sum to 1. By default,
    where the topology is directed, `relaysim.mixing.row_stochastic` and `relaysim.mixing.column_stochastic`.
    Sends two vectors over each edge and step, and divides by nothing. Exact for any ζ. With one matrix for
    both it is `GradientTracking`. AB in its first form moves after it has pulled, X ← RX − γY.

    Source: Pu, Shi, Xu, Nedić, "Push–pull gradient methods for distributed optimization in networks", IEEE
    Transactions on Automatic Control, 2021; Xin and Khan, "A linear algorithm for optimization over directed
    graphs with geometric convergence", IEEE Control Systems Letters, 2018. The rule is that of the former, by
    its abstract and public code; the first form of the latter is not verified.

    >>> PushPull().vectors_per_edge(10)
    2
    """

    label: ClassVar[str] = "Push-pull (AB)"
    references: ClassVar[tuple[str, ...]] = ("pu2021push", "xin2018linear")
    uses: ClassVar[str] = "mixing"
    directed: ClassVar[bool] = True
    mixing_needs: ClassVar[str] = "row and column stochastic"
    matrices_per_step: ClassVar[int] = 2
    several_rounds: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def vectors_per_edge(self, d: int) -> float:
        return 2

    def init(self, x0: np.ndarray, network: Network) -> CorrectedState:
        return CorrectedState(x0, np.zeros_like(x0))

    def conserved(self, state: CorrectedState, network: Network, learning_rate: Rate) -> np.ndarray:
        """(1/n) Σ_i c_i, ``(1, d[, r])``; 0 at the start."""
        return state.correction.mean(axis=0, keepdims=True)

    def step(self, state: CorrectedState, round: Round) -> CorrectedState:
        gradient = round.gradient(state.x)
        tracked = gradient - state.correction
        x = round.mix(round.descend(state.x, tracked), 2 * round.step)
        return CorrectedState(x, gradient - round.mix(tracked, 2 * round.step + 1))
