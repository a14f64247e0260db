"""Messages that are lost independently of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaysim.faults.base import Fault, WireRound
from relaysim.faults.edges import numbers_of_links
from relaysim.support.checks import plain_options, real_number, real_numbers, shown
from relaysim.topologies import Topology, TreePair

__all__ = ["MessageDrop"]


@dataclass(frozen=True)
class MessageDrop(Fault):
    """Every message is lost with a probability, independently of all others.

    A lost RelaySum message enters neither the receiver's sum and count nor what it relays next. A
    gossip neighbour that was not heard loses its weight, and the other weights of that row are
    scaled to sum to 1 again, so that the matrix of that round is no longer doubly stochastic; a
    worker that hears nobody keeps its own. Lost messages were sent, and count as sent.

    Args:
        probability: of a directed message being lost, in [0, 1]: one number, or one for each edge of
            ``topology.edges``, ``(m,)``, which then holds in both directions unless the topology is
            directed. Messages of different
            rounds, and the two vectors that gradient tracking sends in one, are lost independently.
            Replicas with the same seed lose the same messages.

    Raises:
        ValueError: a probability outside [0, 1]; when run, not as many as there are edges, or an edge
            that a method uses and the topology does not have.

    Source: the experiment on unreliable networks (table 5) of Vogels et al., "RelaySum", NeurIPS
    2021, and its published code.

    >>> MessageDrop(0.01)
    MessageDrop(probability=0.01)
    >>> MessageDrop([0.0, 0.5]).probability
    (0.0, 0.5)
    """

    probability: float | Sequence[float]

    def __post_init__(self) -> None:
        plain_options(self)
        probability: float | tuple[float, ...]
        if np.ndim(self.probability) == 0:
            probability = real_number(self.probability, "probability", 0, 1)
        else:
            given = real_numbers(self.probability, "probability")
            if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
                raise ValueError(
                    f"probability must be a number between 0 and 1, or one for each edge of the "
                    f"topology, not {shown(self.probability)}"
                )
            probability = tuple(given.tolist())
        object.__setattr__(self, "probability", probability)

    @property
    def never(self) -> bool:
        return not np.any(self.probability)

    def check(self, topology: Topology | TreePair) -> None:
        if isinstance(self.probability, float):
            return
        edges = _edges_of(topology)
        if len(edges) != len(self.probability):
            raise ValueError(
                f"probability has {len(self.probability)} numbers and {topology!r} has "
                f"{len(edges)} edges; give one for each of topology.edges, or one number"
            )

    def check_messages(self, edges: np.ndarray, topology: Topology | TreePair) -> None:
        if not isinstance(self.probability, float):
            numbers_of_links(topology, _OWN)(edges)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        drawn = round.uniforms(len(edges))
        if isinstance(self.probability, float):
            return drawn >= self.probability
        lost = np.asarray(self.probability)[numbers_of_links(round.topology, _OWN)(edges)]
        return drawn >= lost.reshape(-1, *(1,) * (drawn.ndim - 1))


_OWN = "probability of its own; give one number"


def _edges_of(topology: Topology | TreePair) -> np.ndarray:
    if isinstance(topology, TreePair):
        raise ValueError(
            f"{topology!r} has no one list of edges to give each a probability; give one number"
        )
    return topology.edges
