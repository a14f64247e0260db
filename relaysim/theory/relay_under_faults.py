"""Relay methods whose messages are lost, on quadratics: where their iterates are in the mean, exactly."""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible
from relaysim.algorithms.tolerance import check_faults
from relaysim.faults import AnyFault
from relaysim.network import Mail
from relaysim.network.relay import LossyTreeRelay
from relaysim.problems import Problem
from relaysim.support.checks import real_array, real_number, whole_number
from relaysim.support.display import html_table
from relaysim.support.starts import starting_points
from relaysim.theory.affine import AffineStep, Counting
from relaysim.theory.known_losses import arrival_chances, chains_of, known_fault, without_memory
from relaysim.theory.spectra import NEUTRAL, fixed_point, spectral_radius
from relaysim.topologies import Topology, TreePair

__all__ = ["RelayUnderFaults", "relay_under_faults"]


def relay_under_faults(
    problem: Problem,
    topology: Topology,
    algorithm: Algorithm,
    learning_rate: float,
    faults: AnyFault,
    x0: ArrayLike | None = None,
) -> RelayUnderFaults:
    """The mean of relayed models, or gradients, whose messages are lost, on quadratics, exactly.

    Worker i hears j, of the step t − τ_ij, with probability h_ij = Π (1 − p_e) over the path between them,
    h_ii = 1. The messages that decide it were sent in that step and later, so that they are independent of
    what j sent; and they reach i no sooner than in step t, so that they are independent of x_i^t. With u_i
    what stands in for who is not heard,

        E x_i^{t+1} = (1/n) Σ_j (h_ij E x_j^{½, t−τ_ij} + (1 − h_ij) E u_i^t):

    the method's own step with a share of each message in the place of its loss. Where it rests, with
    c_j = Σ_i h_ij the expected number of workers who hear j:

    - ``unheard="own"``: Σ_j ∇f_j(E x_j) = 0. Every f_j has the same weight, as in gossip with the doubly
      stochastic weights h_ij/n: what is left of a bias is that of workers who differ, of order γ.
    - ``unheard="previous"``: Σ_j c_j ∇f_j(E x_j) = 0. Who is at the end of long paths counts for less, at any
      γ.
    - ``unheard="initial"``: all are held at their starts; as γ → 0 they end at (nI − H)⁻¹ (n − c_i) x_i⁰,
      whatever the f_j are.
    - `RelaySGDGrad`: Σ_j h_ij ∇f_j(E x_j) = 0 for all i, and H = (h_ij) is invertible for 0 < p < 1: every
      worker ends at the optimum of its own f_j.

    Of ``unheard="counts"`` it is not known: how many were heard depends on what was lost before. Nor are the
    spreads known.

    Args:
        problem: n workers, d parameters; every ∇f_i is affine.
        topology: one tree.
        algorithm: `RelaySGD`, but with ``unheard="counts"``, `RelaySGDGrad` or `RelaySGDMix`.
        learning_rate: γ ≥ 0, constant.
        faults: `relaysim.faults.MessageDrop`; `LinkFailure` with repair = 1 − fail, or `BurstLoss` with
            recover = 1 − lose, where nothing is remembered.
        x0: ``(d,)`` or ``(n, d)``; zeros by default.

    Raises:
        TypeError: gradients that are not affine.
        ValueError: what `relaysim.simulate` refuses too, or what is not known.

    Source: derived here, and held against simulations and against the sum over all losses.

    >>> import relaysim as rs
    >>> chain = rs.topologies.chain(3)
    >>> problem = rs.problems.DiagonalQuadratic(np.ones((3, 1)), np.array([[0.0], [0.0], [3.0]]))
    >>> for unheard in ("own", "previous"):
    ...     found = relay_under_faults(problem, chain, rs.algorithms.RelaySGD(unheard=unheard), 1e-4,
    ...                                rs.faults.MessageDrop(0.5))
    ...     print(unheard, found.fixed_point.mean().round(3))  # f_j with weights 1, 1, 1; 7, 8, 7
    own 1.0
    previous 0.955
    >>> found.heard.tolist()
    [[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]]
    """
    check_compatible(problem, topology, algorithm)
    rate = real_number(learning_rate, "learning_rate", 0)
    fault = known_fault(faults)
    if algorithm.uses != "relay":
        raise ValueError(
            f"{algorithm!r} does not relay; of methods that mix see relaysim.theory.under_faults"
        )
    if isinstance(topology, TreePair):
        raise ValueError(
            f"{topology!r} is two trees, on which a loss on one reaches workers by the other before its "
            f"time: the mean is not known; take one of them, or simulate it"
        )
    if algorithm.links(topology) is not topology:
        raise ValueError(
            f"{algorithm!r} repairs its tree, and who is heard then depends on which links are out of order: "
            f"the mean is not known; leave repair out, or simulate it"
        )
    check_faults(fault, topology, algorithm, ())
    if getattr(algorithm, "unheard", None) == "counts":
        raise ValueError(
            'unheard="counts" divides by how many were heard, which depends on what was lost before: the '
            'mean is not known; take unheard="own", "previous" or "initial", or simulate it'
        )
    if chains_of(fault, topology) is not None:
        raise ValueError(
            f"under {fault!r} what is lost depends on what was lost before, and the mean of a sum that is "
            f"relayed is not known; take {without_memory(fault)}, or simulate it"
        )
    edges = np.stack([topology.src, topology.dst], axis=1)
    share = arrival_chances(fault, topology, edges)
    start = starting_points(None if x0 is None else real_array(x0, "x0"), problem, None)
    return RelayUnderFaults(problem, topology, algorithm, rate, fault, share, start)


class _SharedRelay(LossyTreeRelay):
    """Relaying of which a share of each message arrives, and of its count."""

    def __init__(self, tree: Topology, share: np.ndarray):
        super().__init__(tree, None)
        self._share = share

    def empty(self, x: np.ndarray) -> Mail:
        edges = (len(self._src), *x.shape[1:])
        counts, heard = np.zeros(len(self._src)), np.zeros(self.n)
        return Mail(np.zeros(edges), counts, np.zeros(x.shape), heard)

    def _arrived(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values *= self._share.reshape(-1, *(1,) * (values.ndim - 1))
        return values, counts * self._share

    def inbox(self, mail: Mail) -> tuple[np.ndarray, np.ndarray]:
        missing = self.n - 1 - mail.heard
        return mail.received, missing.reshape(-1, *(1,) * (mail.received.ndim - 1))


class _SharedNetwork(Counting):
    """A network with such relaying."""

    share: np.ndarray

    def _tree_relay(self, tree: Topology) -> _SharedRelay:
        return _SharedRelay(tree, self.share)


class RelayUnderFaults:
    """The mean of a relay method whose messages are lost; see `relay_under_faults`.

    Attributes:
        problem, topology, algorithm, learning_rate, faults: what it was made of.
        heard: h_ij, how likely worker i is to hear j, ``(n, n)``.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology,
        algorithm: Algorithm,
        learning_rate: float,
        faults: AnyFault,
        share: np.ndarray,
        x0: np.ndarray,
    ):
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.learning_rate, self.faults = learning_rate, faults
        assert isinstance(algorithm, Method)

        def network(*given: object, **named: object) -> _SharedNetwork:
            found = _SharedNetwork(*given, **named)  # type: ignore[arg-type]
            found.share = share
            return found

        self._map = AffineStep(problem, topology, algorithm, learning_rate, (), x0, network)
        self._whole = bool((share == 1).all())
        relay, one = _SharedRelay(topology, share), np.eye(problem.n)
        mail = relay.empty(one)
        for _ in range(int(topology.diameter)):
            mail = relay.send(one, mail)
        self.heard = one + mail.received

    def _repr_html_(self) -> str:
        names = ("problem", "topology", "learning_rate", "faults")
        rows: list[tuple[str, object]] = [
            (name.replace("_", " "), getattr(self, name)) for name in names
        ]
        return html_table(f"The mean of {self.algorithm!r} under faults", rows)

    @functools.cached_property
    def spectral_radius(self) -> float:
        """ρ per step: the error of E x_t shrinks like ρ^t, over all starts of the iterates."""
        seen = np.arange(self._map.states) < self.problem.n * self.problem.d
        return spectral_radius(self._map.matrices, self._conserved, seen)

    def iterates(self, steps: int) -> np.ndarray:
        """E x at steps 0, 1, …, ``(steps + 1, n, d)``; noise of the gradients does not change it."""
        count, n, d = whole_number(steps, "steps", 0) + 1, self.problem.n, self.problem.d
        found = self._map.starting[:count]
        y, (A,), (b,) = self._map.y, self._map.matrices, self._map.offsets
        for _ in itertools.repeat(None, count - len(found)):
            found.append(y[: n * d].reshape(n, d))
            y = A @ y + b
        return np.array(found)

    @property
    def fixed_point(self) -> np.ndarray:
        """lim E x_t, ``(n, d)``. Its distance from x* is the bias.

        Raises:
            ValueError: the mean comes to no rest.
        """
        if self.spectral_radius >= 1 - NEUTRAL:
            raise ValueError(
                f"the mean of {self.algorithm!r} comes to no rest at learning rate {self.learning_rate:g}: "
                f"its spectral radius is {self.spectral_radius:.6g}; iterates(steps) has the curve"
            )
        n, d = self.problem.n, self.problem.d
        found = fixed_point(self._map.matrices, self._map.offsets, self._conserved, self._map.y)
        assert found is not None, "a radius below 1 leaves one fixed point"
        return found[: n * d].reshape(n, d)

    @property
    def _conserved(self) -> csr_array:
        """What a method conserves it does so no more where shares of messages are lost."""
        return self._map.conserved if self._whole else csr_array((0, self._map.states))
