"""Which edge of a run's topology a message crosses."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from relaysim.topologies import Topology, TreePair

__all__ = ["links_of", "numbers_of_links", "numbers_of_wires", "wires_of"]


# Asked in each step: of two trees to find it out takes longer than all that follows.
@functools.lru_cache(maxsize=8)
def links_of(topology: Topology | TreePair) -> np.ndarray:
    """Its edges ``(m, 2)``; of a pair of trees, those that are in one of them."""
    if isinstance(topology, TreePair):
        both = np.concatenate([topology.first.edges, topology.second.edges])
        return np.unique(both, axis=0)
    return topology.edges


@functools.lru_cache(maxsize=8)
def wires_of(topology: Topology | TreePair) -> np.ndarray:
    """Both directions of its edges, sender and receiver, by receiver: ``(2m, 2)``, ``(m, 2)`` if directed."""
    if isinstance(topology, TreePair):
        links = links_of(topology)
        return _by_receiver(np.concatenate([links, links[:, ::-1]]))
    return np.stack([topology.src, topology.dst], axis=1)


def _by_receiver(wires: np.ndarray) -> np.ndarray:
    return wires[np.lexsort((wires[:, 0], wires[:, 1]))]


def _is_one_way(topology: Topology | TreePair) -> bool:
    return isinstance(topology, Topology) and topology.is_directed


@functools.lru_cache(maxsize=8)
def numbers_of_links(
    topology: Topology | TreePair, what: str
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from messages ``(messages, 2)`` to the number of the edge that each crosses.

    ``what`` such an edge would have, for what it raises: a ValueError where a message crosses none.
    """
    links = links_of(topology)
    one_way = _is_one_way(topology)

    def arranged(edges: np.ndarray) -> np.ndarray:
        return edges if one_way else np.sort(edges, axis=1)

    return _numbers(links, topology, what, arranged)


@functools.lru_cache(maxsize=8)
def numbers_of_wires(
    topology: Topology | TreePair, what: str
) -> Callable[[np.ndarray], np.ndarray]:
    """The same of the directed edges, `wires_of`."""
    return _numbers(wires_of(topology), topology, what, lambda edges: edges)


def _numbers(
    known: np.ndarray,
    topology: Topology | TreePair,
    what: str,
    arranged: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    n = topology.n
    keys = known[:, 0] * n + known[:, 1]
    order = np.argsort(keys)
    keys = keys[order]
    last: tuple[np.ndarray, np.ndarray] | None = None

    def numbers(edges: np.ndarray) -> np.ndarray:
        nonlocal last
        if last is not None and last[0] is edges:  # a network asks of the same ones each step
            return last[1]
        first, second = arranged(edges).T
        wanted = first * n + second
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        stray = keys[place] != wanted
        if stray.any():
            i, j = edges[stray][0].tolist()
            raise ValueError(
                f"a message from worker {i} to worker {j} crosses no edge of {topology!r}, so that it "
                f"has no {what}"
            )
        last = edges, order[place]
        return last[1]

    return numbers
