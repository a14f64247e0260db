"""All that may be drawn, where that is finitely much: for expectations that are exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "MOST_OUTCOMES",
    "Outcomes",
    "greedy_matchings",
    "of_coins",
    "pairing_count",
    "pairings",
    "require_few",
    "subsets",
]

#: More are not listed.
MOST_OUTCOMES = 4096


class Outcomes(NamedTuple):
    """What is drawn with which probability.

    ``probabilities (K,)``, of sum 1; ``uniforms (numbers, K)``, numbers in [0, 1) with which each of them is
    drawn: they stand for all with which it is.
    """

    probabilities: np.ndarray
    uniforms: np.ndarray


def require_few(count: int, who: object) -> None:
    """Raise ValueError if so many are too many to be listed."""
    if count > MOST_OUTCOMES:
        raise ValueError(
            f"{who!r} draws one of {count:.4g} outcomes, and {MOST_OUTCOMES} at most are listed; take fewer "
            f"workers, or simulate it"
        )


def of_coins(probabilities: np.ndarray) -> Outcomes:
    """Independent coins, each heads where its number is below its probability.

    >>> of_coins(np.array([0.25]))
    Outcomes(probabilities=array([0.25, 0.75]), uniforms=array([[0.125, 0.625]]))
    """
    p = np.minimum(probabilities, 1.0)[:, None]
    tails = np.array(list(itertools.product([0, 1], repeat=len(p)))).reshape(-1, len(p)).T
    chances = np.where(tails, 1 - p, p).prod(axis=0)
    possible = chances > 0
    return Outcomes(chances[possible], np.where(tails, (1 + p) / 2, p / 2)[:, possible])


def subsets(available: int, size: int) -> np.ndarray:
    """Numbers with which `relaysim.support.numbers.distinct_below` chooses each subset, ``(K, size)``.

    >>> subsets(3, 2).round(3).tolist()  # {0, 1}, {0, 2}, {1, 2}
    [[0.25, 0.5], [0.25, 0.833], [0.75, 0.833]]
    """
    chosen = np.array(list(itertools.combinations(range(available), size)))
    # In rising order the k-th is within those that the k-th is drawn from, and none was drawn before.
    return (chosen + 0.5) / (available - size + 1 + np.arange(size))


def pairings(workers: Sequence[int]) -> Iterator[list[int]]:
    """Workers in an order whose neighbours, two by two, are partners; each way once, with one left of an odd
    number last.

    >>> list(pairings([0, 1, 2]))
    [[1, 2, 0], [0, 2, 1], [0, 1, 2]]
    """
    if len(workers) % 2:
        for k, alone in enumerate(workers):
            for rest in pairings([*workers[:k], *workers[k + 1 :]]):
                yield [*rest, alone]
    elif not workers:
        yield []
    else:
        first, *others = workers
        for k, partner in enumerate(others):
            for rest in pairings([*others[:k], *others[k + 1 :]]):
                yield [first, partner, *rest]


def pairing_count(n: int) -> int:
    """How many there are.

    >>> [pairing_count(n) for n in (2, 3, 4, 8)]
    [1, 3, 3, 105]
    """
    return math.prod(range(1, n + n % 2, 2))


def greedy_matchings(edges: np.ndarray, who: object) -> dict[frozenset[int], float]:
    """Edges that are taken where they come in a random order, each if both its ends are free; by probability.

    The next that is taken is any of those that can be, all as likely.

    Args:
        edges: ``(E, 2)``.
        who: named where there are too many.

    >>> chances = greedy_matchings(np.array([[0, 1], [1, 2], [2, 3]]), "a chain")
    >>> {tuple(sorted(edges)): round(p, 4) for edges, p in chances.items()}
    {(1,): 0.3333, (0, 2): 0.6667}
    """
    touches = (edges[:, None, :, None] == edges[None, :, None, :]).any(axis=(2, 3))
    found: dict[frozenset[int], float] = {}
    partial = {frozenset[int](): 1.0}
    while partial:
        longer: dict[frozenset[int], float] = {}
        for taken, chance in partial.items():
            free = np.flatnonzero(~touches[list(taken)].any(axis=0)).tolist()
            if not free:
                found[taken] = found.get(taken, 0.0) + chance
            for edge in free:
                key = taken | {edge}
                longer[key] = longer.get(key, 0.0) + chance / len(free)
        require_few(len(longer), who)
        partial = longer
    return found
