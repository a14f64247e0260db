"""Gossip matrices that are drawn anew each step, by every replica from its own stream.

A mixing of one's own is one class:

>>> class Neighbour(DrawnMixing):
...     '''Everyone hears the next worker, or nobody does.'''
...     numbers = 1
...     doubly_stochastic = True
...     def __init__(self, n):
...         self.n = n
...         self.edges = np.stack([(np.arange(n) + 1) % n, np.arange(n)], axis=1)
...     def draw(self, uniforms):
...         stream, edge = np.nonzero(np.repeat(uniforms.T < 0.5, self.n, axis=1))
...         senders, receivers = self.edges[edge].T
...         return Draw(receivers, senders, stream, np.full(len(edge), 0.5))
>>> Neighbour(3)(0, np.array([0.2])).toarray().tolist()
[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from relaysim.mixing.draws import Draw, Peers
from relaysim.mixing.outcomes import Outcomes, require_few, subsets
from relaysim.support.checks import (
    plain_options,
    positive_share,
    true_or_false,
    whole_number,
)
from relaysim.support.gathering import put_rows
from relaysim.support.numbers import below, distinct_below
from relaysim.topologies import Topology

__all__ = [
    "Draw",
    "DrawnMixing",
    "DrawnOnGraph",
    "Epidemic",
    "Equidyn",
    "Peers",
    "epidemic",
    "equidyn",
]


class DrawnMixing:
    """What mixings that are drawn share, and what one of your own is derived from.

    Attributes:
        n: workers.
        edges: ``(E, 2)``, sender and receiver of every message that there may be.
        numbers: uniform ones that a draw takes.
        doubly_stochastic: whether the columns of every matrix sum to 1, as its rows do.
        least_own_weight: that a worker can be left with; lost messages can be made up for if it is not
            negative.
    """

    n: int
    edges: np.ndarray
    numbers: int
    doubly_stochastic: bool = False
    least_own_weight: float = 0.0

    def draw(self, uniforms: np.ndarray) -> Draw:
        """The weights of a round from uniform numbers in [0, 1), ``(numbers, streams)``."""
        peers = self.peers(uniforms)
        if peers is None:
            raise NotImplementedError(f"{type(self).__name__} must say how it draws")
        return peers.as_draw()

    def peers(self, uniforms: np.ndarray) -> Peers | None:
        """The same where all messages count alike and nobody hears many, which is faster; else None."""
        return None

    def outcomes(self) -> Outcomes | None:
        """All that may be drawn, with probabilities and numbers with which it is; None where it is not
        known, or without end.

        Raises:
            ValueError: there are too many.
        """
        return None

    def __call__(self, step: int, uniforms: np.ndarray) -> csr_array:
        """W of a round as one matrix, from the ``(numbers,)`` uniform ones of one stream."""
        receivers, senders, _, weights = self.draw(np.asarray(uniforms)[:, None])
        workers = np.arange(self.n)
        own = 1 - np.bincount(receivers, weights=weights, minlength=self.n)
        rows, columns = np.append(receivers, workers), np.append(senders, workers)
        W = csr_array((np.append(weights, own), (rows, columns)), shape=(self.n, self.n))
        W.eliminate_zeros()
        return W

    def require(self, check: Callable[[csr_array], None]) -> None:
        """Let a check, which raises, look at a matrix with all weights that there may be."""
        workers = np.arange(self.n)
        ends = np.concatenate([self.edges, np.stack([workers, workers], axis=1)])
        weights = np.ones(len(ends))
        weights[len(self.edges) :] = self.least_own_weight
        check(csr_array((weights, (ends[:, 1], ends[:, 0])), shape=(self.n, self.n)))

    def require_fits(self, topology: Topology) -> None:
        """Raise ValueError unless all messages cross edges of the topology, and can reach everyone."""
        n = topology.n
        if self.n != n:
            raise ValueError(
                f"{self!r} mixes {self.n} workers but the topology has {n}; make them equal"
            )
        keys = self.edges[:, 0] * n + self.edges[:, 1]
        stray = ~np.isin(keys, topology.src * n + topology.dst)
        if stray.any():
            i, j = sorted(self.edges[stray][0].tolist())
            raise ValueError(
                f"{self!r} may send between workers {i} and {j}, which is no edge of {topology!r}; pass "
                f"relaysim.topologies.complete({n}), of whose edges only those in use cost a message"
            )
        union = csr_array((np.ones(len(self.edges)), self.edges.T), shape=(n, n))
        parts = connected_components(union, directed=True, connection="strong")[0]
        if parts > 1:
            raise ValueError(
                f"{self!r} leaves the workers in {parts} groups that never exchange anything; over time "
                f"it must connect all {n} workers"
            )


class DrawnOnGraph(DrawnMixing):
    """One whose messages cross a topology's edges, in both directions.

    Attributes:
        topology: undirected.
    """

    topology: Topology

    @property
    def n(self) -> int:  # type: ignore[override]
        """Workers."""
        return self.topology.n

    @functools.cached_property
    def edges(self) -> np.ndarray:  # type: ignore[override]
        """The topology's, in both directions."""
        return np.stack([self.topology.src, self.topology.dst], axis=1)


def _all_pairs(n: int) -> np.ndarray:
    sender, receiver = np.divmod(np.arange(n * n), n)
    return np.stack([sender, receiver], axis=1)[sender != receiver]


@dataclass(frozen=True)
class Equidyn(DrawnMixing):
    """One message to everyone from the same number of workers away; see `equidyn`."""

    n: int
    eta: float = 0.5

    numbers = 1
    doubly_stochastic = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.n, "n", 2)
        object.__setattr__(self, "eta", positive_share(self.eta, "eta"))

    @functools.cached_property
    def edges(self) -> np.ndarray:  # type: ignore[override]
        """All pairs, in both directions."""
        return _all_pairs(self.n)

    @property
    def _weight(self) -> float:
        return self.eta * (self.n - 1) / self.n

    @property
    def contraction(self) -> float:
        """E Ξ² after a step over Ξ² before it: 1 − 2w(1 − w)n/(n − 1), w = η(n − 1)/n."""
        return 1 - 2 * self._weight * (1 - self._weight) * self.n / (self.n - 1)

    def peers(self, uniforms: np.ndarray) -> Peers:
        distance = 1 + below(uniforms, self.n - 1)
        return Peers((np.arange(self.n)[:, None] + distance)[None] % self.n, self._weight)

    def outcomes(self) -> Outcomes:
        others = self.n - 1
        return Outcomes(np.full(others, 1 / others), (np.arange(others)[None] + 0.5) / others)

    def __repr__(self) -> str:
        return f"equidyn(n={self.n}, eta={self.eta})"


def equidyn(n: int, eta: float = 0.5) -> Equidyn:
    """One-peer graphs whose consensus rate does not depend on n: everyone hears the worker u places on.

    u from 1 to n − 1 is drawn anew each step, one for all workers: W = (1 − η)I + η((1/n)I + ((n − 1)/n)P_u)
    with (P_u x)_i = x_{i+u}, so that E W = (1 − η)I + ηJ. Directed, and doubly stochastic. n vectors a step.
    With η = ½, E Ξ² falls by (n − 1)/(2n) a step, for any iterates. Pass ``topologies.complete(n)`` with it.

    Args:
        n: workers, at least 2.
        eta: η in (0, 1].

    Raises:
        TypeError, ValueError: numbers out of range.

    Source: Song, Li, Jin, Shi, Yan, Yin, Yuan, "Communication-efficient topologies for decentralized
    learning with O(1) consensus rate", NeurIPS 2022: OD-EquiDyn with all n − 1 graphs of the basis, with the
    weights of its published code. The factor is derived here and checked by simulation.

    >>> mixing = equidyn(64)
    >>> mixing, round(mixing.contraction, 3)
    (equidyn(n=64, eta=0.5), 0.492)
    """
    return Equidyn(n, eta)


@dataclass(frozen=True)
class Epidemic(DrawnMixing):
    """Everyone sends to s others, drawn anew each step; see `epidemic`."""

    n: int
    s: int
    oracle: bool = False

    def __post_init__(self) -> None:
        plain_options(self)
        n = whole_number(self.n, "n", 2)
        if whole_number(self.s, "s", 1) > n - 1:
            raise ValueError(
                f"s must be a number of other workers, from 1 to n - 1 = {n - 1}, not {self.s}"
            )
        true_or_false(self.oracle, "oracle")

    @property
    def numbers(self) -> int:  # type: ignore[override]
        """For an order of the workers and s distances in it, or for s recipients each."""
        return self.n + self.s if self.oracle else self.n * self.s

    @property
    def doubly_stochastic(self) -> bool:  # type: ignore[override]
        """Whether all hear as many as they send to."""
        return self.oracle

    @functools.cached_property
    def edges(self) -> np.ndarray:  # type: ignore[override]
        """All pairs, in both directions."""
        return _all_pairs(self.n)

    @functools.cached_property
    def contraction(self) -> float:
        """E Ξ² after a step over Ξ² before it, for any iterates.

        All workers are alike, so that it is (E‖W‖² − (1/n) Σ_j E c_j²)/(n − 1), c_j the sums of W's columns
        and ‖·‖ Frobenius' norm; with ``oracle`` (n/(s + 1) − 1)/(n − 1).
        """
        n, s = self.n, self.s
        if self.oracle:
            return (n / (s + 1) - 1) / (n - 1)
        # 1/(1 + a) = ∫ t^a dt over [0, 1], so that expectations are integrals of polynomials.
        nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 2)
        t, weights = (nodes + 1) / 2, weights / 2
        u = t[:, None]
        both = s * max(s - 1, 0) / ((n - 1) * max(n - 2, 1))
        one = s / (n - 1) - both

        def mean(polynomial: np.ndarray) -> float:
            return float(weights @ polynomial @ weights)

        def heard(z: np.ndarray) -> np.ndarray:
            """E z^a of whether a given worker is heard, a = 0 or 1."""
            return 1 + s / (n - 1) * (z - 1)

        # Of a third worker that may be heard by two.
        by_two = 1 - 2 * one - both + one * (t + u) + both * t * u
        squares = mean(heard(t * u) ** (n - 1)) + s * mean(t * u * heard(t * u) ** (n - 2))
        squares += 2 * s * mean(heard(t) * u * by_two ** (n - 2))
        if s > 1:
            squares += s * (s - 1) * mean(t * heard(t) * u * heard(u) * by_two ** (n - 3))
        return (n * float(weights @ heard(t) ** (n - 1)) - squares) / (n - 1)

    def peers(self, uniforms: np.ndarray) -> Peers | None:
        """Circles of a random order of the workers: everyone hears those s distances on."""
        if not self.oracle:
            return None
        n, s = self.n, self.s
        order = np.argsort(uniforms[:n], axis=0, kind="stable")
        distance = 1 + distinct_below(uniforms[n:].T, np.full(uniforms.shape[1], n - 1)).T
        place = (np.arange(n)[:, None] + distance[:, None]) % n
        heard = np.take_along_axis(order[None], place, axis=1)
        return Peers(np.stack([put_rows(order, each) for each in heard]), 1 / (s + 1))

    def outcomes(self) -> Outcomes:
        n, s = self.n, self.s
        ways = math.comb(n - 1, s)
        count = math.factorial(n - 1) * ways if self.oracle else ways**n
        require_few(count, self)
        chosen = subsets(n - 1, s)
        if self.oracle:
            # Circles know no first worker.
            orders = np.array([(0, *rest) for rest in itertools.permutations(range(1, n))])
            places = (np.argsort(orders, axis=1) + 0.5) / n
            numbers = np.hstack([np.repeat(places, ways, 0), np.tile(chosen, (len(places), 1))])
        else:
            each = np.array(list(itertools.product(range(ways), repeat=n)))
            numbers = chosen[each].reshape(count, n * s)
        return Outcomes(np.full(count, 1 / count), numbers.T)

    def draw(self, uniforms: np.ndarray) -> Draw:
        if self.oracle:
            return super().draw(uniforms)
        n, s, count = self.n, self.s, uniforms.shape[1]
        chosen = distinct_below(
            np.moveaxis(uniforms.reshape(n, s, count), 1, 2), np.full((n, count), n - 1)
        )
        senders = np.repeat(np.arange(n), s * count)
        streams = np.tile(np.repeat(np.arange(count), s), n)
        receivers = senders + 1
        receivers += chosen.ravel()
        receivers[receivers >= n] -= n
        inbox = receivers * count
        inbox += streams
        weights = 1 / (1 + np.bincount(inbox, minlength=n * count))
        return Draw(receivers, senders, streams, weights.take(inbox))

    def __repr__(self) -> str:
        return f"epidemic(n={self.n}, s={self.s}, oracle={self.oracle})"


def epidemic(n: int, s: int, oracle: bool = False) -> Epidemic:
    """Epidemic learning: in each step everyone sends to s others at random, and averages what it hears.

    Worker i weights all that it heard and its own alike, 1/(1 + messages heard). Everyone chooses its s
    recipients by itself (EL-Local): some hear more than others, columns do not sum to 1, and the mean moves.
    With ``oracle`` all hear s as well (EL-Oracle), 1/(s + 1) each, which is doubly stochastic: E Ξ² falls by
    (n/(s + 1) − 1)/(n − 1) a step then, and else by about (1 − e^{−s})/s less 1/(n − 1);
    ``epidemic(n, s).contraction`` is exact, for any iterates. s n vectors a step. Pass
    ``topologies.complete(n)`` with it.

    Args:
        n: workers, at least 2.
        s: recipients, 1 to n − 1.
        oracle: whether a graph is drawn in which everyone hears s.

    Raises:
        TypeError, ValueError: numbers out of range.

    Source: de Vos, Farhadkhani, Guerraoui, Kermarrec, Pires, Sharma, "Epidemic learning: boosting
    decentralized learning with randomized communication", NeurIPS 2023. The regular graphs are directed
    circles of a random order here, and not all regular graphs equally likely; first and second moments of W
    are those of any regular graph whose workers are alike. The factors are derived here and checked by
    simulation.

    >>> round(epidemic(64, 2).contraction, 3), round(epidemic(64, 2, oracle=True).contraction, 3)
    (0.419, 0.323)
    """
    return Epidemic(n, s, oracle)
