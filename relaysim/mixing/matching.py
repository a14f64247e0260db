"""Pairs of neighbours that average, drawn anew each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaysim.mixing.drawn import DrawnOnGraph
from relaysim.mixing.draws import Peers
from relaysim.mixing.outcomes import (
    Outcomes,
    greedy_matchings,
    pairing_count,
    pairings,
    require_few,
)
from relaysim.mixing.sequences import undirected_graph_for
from relaysim.support.gathering import put_rows
from relaysim.topologies import Topology

__all__ = ["RandomMatching", "random_matching"]


@dataclass(frozen=True)
class RandomMatching(DrawnOnGraph):
    """Pairs of neighbours that average, drawn anew each step; see `random_matching`."""

    topology: Topology

    doubly_stochastic = True
    least_own_weight = 0.5

    def __post_init__(self) -> None:
        undirected_graph_for(self.topology)

    @property
    def _is_complete(self) -> bool:
        return 2 * len(self.topology.edges) == self.n * (self.n - 1)

    @property
    def numbers(self) -> int:  # type: ignore[override]
        """One for each edge; where all workers are neighbours one for each worker is enough."""
        return self.n if self._is_complete else len(self.topology.edges)

    def peers(self, uniforms: np.ndarray) -> Peers:
        # Greedy pairs of a random order of all edges are those of a random order of the workers.
        partner = _paired(uniforms) if self._is_complete else self._matched(uniforms)
        return Peers(partner[None], 0.5)

    def outcomes(self) -> Outcomes:
        if self._is_complete:
            count = pairing_count(self.n)
            require_few(count, self)
            orders = np.array(list(pairings(range(self.n))))
            return Outcomes(
                np.full(count, 1 / count), (np.argsort(orders, axis=1).T + 0.5) / self.n
            )
        edges = self.topology.edges
        chances = greedy_matchings(edges, self)
        # Where its own edges come first a matching is what is drawn.
        late = np.ones((len(edges), len(chances)), dtype=bool)
        for k, taken in enumerate(chances):
            late[list(taken), k] = False
        return Outcomes(np.fromiter(chances.values(), float), 0.25 + 0.5 * late)

    @property
    def contraction(self) -> float:
        """E Ξ² after a step over Ξ² before it; ½ (1 − 1/(n − 1)) for an even number of workers who all are
        neighbours.

        Raises:
            ValueError: another graph, for which it depends on where the workers are.
        """
        if not self._is_complete:
            raise ValueError(
                f"how much closer a random matching of {self.topology!r} brings workers depends on where "
                f"they are; for relaysim.topologies.complete(n) there is one number"
            )
        # An odd worker stays alone, another one each time.
        return 1 - 0.5 * (self.n // 2 * 2) / max(self.n - 1, 1)

    def _matched(self, uniforms: np.ndarray) -> np.ndarray:
        """Partners ``(n, streams)``: edges in a random order, each taken if both its ends are free.

        All edges that come first at both their ends are taken at once, until none is left.
        """
        graph = self.topology
        first, second = graph.edges.T
        # Ranks differ, which numbers need not.
        order = np.argsort(np.argsort(uniforms, axis=0), axis=0)
        number = np.searchsorted(
            first * self.n + second,
            np.minimum(graph.src, graph.dst) * self.n + np.maximum(graph.src, graph.dst),
        )
        starts = np.concatenate([[0], np.cumsum(graph.degrees)[:-1]])
        partner = np.repeat(np.arange(self.n)[:, None], uniforms.shape[1], axis=1)
        alone = np.ones(partner.shape, dtype=bool)
        while True:
            waiting = np.where(alone[first] & alone[second], order, len(first))
            earliest = np.minimum.reduceat(waiting[number], starts, axis=0)
            taken = (waiting < len(first)) & (waiting == earliest[first])
            taken &= waiting == earliest[second]
            edge, stream = np.nonzero(taken)
            if not len(edge):
                return partner
            i, j = first[edge], second[edge]
            partner[i, stream], partner[j, stream] = j, i
            alone[i, stream] = alone[j, stream] = False

    def __repr__(self) -> str:
        return f"random_matching(topology={self.topology!r})"


def _paired(uniforms: np.ndarray) -> np.ndarray:
    """Partners of workers in a random order, two by two, ``(n, streams)``; one of an odd number is alone."""
    n = len(uniforms)
    order = np.argsort(uniforms, axis=0, kind="stable")
    return put_rows(order, order.take(np.minimum(np.arange(n) ^ 1, n - 1), 0))


def random_matching(topology: Topology) -> RandomMatching:
    """Pairs of neighbours, drawn anew each step, who average: W_ij = ½ for a pair, W_ii = 1 for the others.

    Edges come in a random order, and each is taken whose ends are both free, so that no edge is left whose
    ends are. On a complete graph with an even number of workers it is a perfect matching, each equally
    likely, and E Ξ² falls by ½ (1 − 1/(n − 1)) a step, for any iterates. At most n vectors a step.

    A mixing for ``simulate(…, mixing=…)``: each replica draws from the stream of its own seed.

    Args:
        topology: whose edges may be used.

    Source: pairwise gossip is Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip algorithms", 2006; pairs that
    form all at once are common. How pairs come about here is greedy; the factor is derived here and checked
    by simulation.

    >>> import relaysim as rs
    >>> matching = random_matching(rs.topologies.complete(64))
    >>> matching, round(matching.contraction, 3)
    (random_matching(topology=complete(64)), 0.492)
    """
    return RandomMatching(topology)
