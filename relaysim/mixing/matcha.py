"""MATCHA: matchings of a graph that are awake at random, those more often that connect it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.linalg import eigh, eigvalsh

from relaysim.mixing.drawn import DrawnOnGraph, Peers
from relaysim.mixing.outcomes import Outcomes, of_coins, require_few
from relaysim.mixing.sequences import undirected_graph_for
from relaysim.support.checks import plain_options, positive_share
from relaysim.topologies import Topology

__all__ = ["Matcha", "matcha"]

# The planes that bound λ₂(Σ p_j L_j) from above meet it to this share of it.
_CLOSE = 1e-5
_MOST_PLANES = 200
# As many eigenvectors a time make planes, where several eigenvalues lie close.
_EIGENVECTORS = 4


@dataclass(frozen=True)
class Matcha(DrawnOnGraph):
    """Matchings of a graph that are awake independently of each other; see `matcha`.

    Attributes:
        matchings: ``(M, n)``, everyone's partner in each matching, itself for those who have none.
        probabilities: ``(M,)``, of being awake.
        weight: α, of an edge that is awake.
        contraction: E Ξ² falls by this a step at the slowest.
    """

    topology: Topology
    budget: float

    doubly_stochastic = True

    def __post_init__(self) -> None:
        plain_options(self)
        graph = undirected_graph_for(self.topology)
        object.__setattr__(self, "budget", positive_share(self.budget, "budget"))
        if not graph.is_connected:
            raise ValueError(
                f"{graph!r} is not connected: no budget could bring its workers together; add edges"
            )

    @property
    def numbers(self) -> int:  # type: ignore[override]
        """One for each matching."""
        return len(self.matchings)

    @property
    def least_own_weight(self) -> float:  # type: ignore[override]
        """1 − α deg of the worker with most neighbours, when all are awake."""
        return float(1 - self.weight * self.topology.degrees.max(initial=0))

    @functools.cached_property
    def matchings(self) -> np.ndarray:
        """``(M, n)``, everyone's partner in each matching."""
        left = [tuple(edge) for edge in self.topology.edges.tolist()]
        degrees = self.topology.degrees.copy()
        found: list[np.ndarray] = []
        while left or not found:
            partner, rest = np.arange(self.n), []
            # Who has most edges left decides how many matchings there must be.
            for i, j in sorted(left, key=lambda edge: -max(degrees[list(edge)])):
                if partner[i] == i and partner[j] == j:
                    partner[i], partner[j] = j, i
                else:
                    rest.append((i, j))
            degrees -= partner != np.arange(self.n)
            found.append(partner)
            left = sorted(rest)
        return np.array(found)

    @functools.cached_property
    def _laplacians(self) -> np.ndarray:
        eye = np.eye(self.n)
        return eye - eye[self.matchings]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """``(M,)``, of being awake: those of sum M · budget at most that make λ₂(Σ_j p_j L_j) largest.

        λ₂ is concave: planes from above, vᵀ(Σ p_j L_j)v for eigenvectors v, bound it, and the best point
        under the planes gives the next ones.
        """
        laplacians = self._laplacians
        count = len(laplacians)
        above_all = 2.0 * count / self.n  # times 11ᵀ: the mean of all workers is no mode
        best = p = np.full(count, self.budget)
        highest, planes = -np.inf, np.empty((0, count))
        for _ in range(_MOST_PLANES if self.n > 1 else 0):
            some = [0, min(_EIGENVECTORS, self.n - 1) - 1]
            modes = np.tensordot(p, laplacians, axes=1) + above_all
            values, vectors = eigh(modes, subset_by_index=some)
            if values[0] > highest:
                best, highest = p, float(values[0])
            slopes = np.einsum("ik,jil,lk->kj", vectors, laplacians, vectors)
            planes = np.concatenate([planes, slopes])
            rows = np.concatenate([-planes, np.ones((1, count))])
            rows = np.column_stack([rows, np.append(np.ones(len(planes)), 0.0)])
            limits = np.append(np.zeros(len(planes)), count * self.budget)
            bounds = [(0, 1)] * count + [(0, None)]
            top = scipy.optimize.linprog(
                np.append(np.zeros(count), -1.0), rows, limits, bounds=bounds
            )
            p = np.clip(top.x[:count], 0, 1)
            if -top.fun <= highest * (1 + _CLOSE):
                break
        return best

    @functools.cached_property
    def _mean_square(self) -> tuple[np.ndarray, np.ndarray]:
        """Σ p L and (Σ p L)² + 2 Σ p(1 − p)L: E W² = I − 2αA + α²B, since L_j² = 2L_j."""
        p, laplacians = self.probabilities, self._laplacians
        mean = np.tensordot(p, laplacians, axes=1)
        return mean, mean @ mean + 2 * np.tensordot(p * (1 - p), laplacians, axes=1)

    def _contraction(self, weight: float) -> float:
        """ρ = ‖E W² − J‖ for edges of this weight."""
        mean, square = self._mean_square
        apart = np.eye(self.n) - 1 / self.n
        return float(eigvalsh(apart - 2 * weight * mean + weight**2 * square)[-1])

    @functools.cached_property
    def weight(self) -> float:
        """α, for which ρ = ‖E W² − J‖ is smallest."""
        found = scipy.optimize.minimize_scalar(
            self._contraction, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}
        )
        return float(found.x)

    @property
    def contraction(self) -> float:
        """ρ = ‖E W² − J‖: E Ξ² falls by this a step at the slowest."""
        return self._contraction(self.weight)

    def peers(self, uniforms: np.ndarray) -> Peers:
        awake = (uniforms < self.probabilities[:, None])[:, None]
        alone = np.arange(self.n)[:, None]
        return Peers(np.where(awake, self.matchings[..., None], alone), self.weight)

    def outcomes(self) -> Outcomes:
        require_few(2 ** len(self.matchings), self)
        return of_coins(self.probabilities)

    def __repr__(self) -> str:
        return f"matcha(topology={self.topology!r}, budget={self.budget})"


def matcha(topology: Topology, budget: float) -> Matcha:
    """MATCHA: a graph taken apart into matchings, each of which is awake in a step or not.

    W = I − α Σ_j B_j L_j, with L_j the Laplacian of matching j and independent B_j, 1 with probability p_j:
    the p_j of sum budget · M that make λ₂(Σ p_j L_j) largest, and then the α for which ρ = ‖E W² − J‖ is
    smallest. E Ξ² falls by ρ a step at the slowest (`Matcha.contraction`). Edges whose ends have other
    neighbours too may sleep; one without which the graph falls apart is awake more often. A share ``budget``
    of the matchings, on average, is awake in a step.

    A mixing for ``simulate(…, mixing=…)``: each replica draws from the stream of its own seed.

    Args:
        topology: connected.
        budget: in (0, 1]; 1 is all edges in each step.

    Raises:
        TypeError, ValueError: a budget out of range, or a graph that is not connected.

    Source: Wang, Sahu, Yang, Joshi, Kar, "MATCHA: speeding up decentralized SGD via matching decomposition
    sampling", 2019; p and α as in its published code. Matchings are found greedily here, from those with
    most edges left on, instead of perfect ones first.

    >>> import relaysim as rs
    >>> mixing = matcha(rs.topologies.ring(8), 0.5)
    >>> mixing, mixing.probabilities.round(6).tolist()
    (matcha(topology=ring(8), budget=0.5), [0.5, 0.5])
    """
    return Matcha(topology, budget)
