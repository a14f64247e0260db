"""Which weights a round has: those of a period, of a callable of the step, or of a draw."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from relaysim.mixing.by_step import ByStep
from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.draws import Draw, Peers
from relaysim.network.arrivals import Arrivals
from relaysim.network.crossing import AnyWeights
from relaysim.network.drawn import DrawnWeights, EdgeNumbers, PeerWeights, SharedWeights
from relaysim.network.gossip import Weights
from relaysim.support.streams import Streams

__all__ = ["Weighting", "weighting"]

AnyDrawn: TypeAlias = DrawnWeights | PeerWeights | SharedWeights

# Numbers of messages that are drawn at a time.
DRAWN_AHEAD = 1 << 15
# Matrices of a callable of the step that are not made ready anew.
REMEMBERED = 64


class Weighting(Protocol):
    """The weights of each round."""

    def at(self, round: int, further: int) -> AnyWeights:
        """W_t with t = ``round``; ``further`` tells the k-th further one, k ≥ 1, of a draw from t's own."""

    def keep(self) -> None:
        """Some replicas have left."""


class _Repeated:
    """A period of matrices."""

    def __init__(self, matrices: tuple[csr_array, ...], arrivals: Arrivals | None):
        self._period = [Weights(W, arrivals) for W in matrices]

    def at(self, round: int, further: int) -> Weights:
        return self._period[round % len(self._period)]

    def keep(self) -> None:
        """All replicas have the same."""


class _OfSteps:
    """Matrices of a callable of the step, of which the last are kept: a new one is dear."""

    def __init__(self, matrices: ByStep, arrivals: Arrivals | None):
        self._matrices, self._arrivals = matrices, arrivals
        self._latest: OrderedDict[int, Weights] = OrderedDict()

    def at(self, round: int, further: int) -> Weights:
        W = self._matrices.at(round)
        found = self._latest.get(id(W))
        if found is None:
            found = self._latest[id(W)] = Weights(W, self._arrivals)
            if len(self._latest) > REMEMBERED:
                self._latest.popitem(last=False)
        return found

    def keep(self) -> None:
        """All replicas have the same."""


class _Drawn:
    """Weights that each replica draws; those of the last round are kept, in which methods may mix again.

    Many rounds are drawn at a time, which is faster.
    """

    def __init__(self, mixing: DrawnMixing, arrivals: Arrivals | None, streams: Streams):
        self._mixing, self._streams = mixing, streams
        self._numbers = streams.rounds("mixing", mixing.numbers)
        self._edges = None if arrivals is None else EdgeNumbers(mixing.edges, mixing.n, arrivals)
        self._last: tuple[tuple[int, int], AnyDrawn] | None = None
        self._first, self._ahead = 0, list[Draw | Peers]()

    def at(self, round: int, further: int) -> AnyDrawn:
        which = (round, further)
        if self._last is None or self._last[0] != which:
            owner, n = self._streams.owner, self._mixing.n
            draw = self._draw(round, further)
            made: AnyDrawn
            seeds = len(self._streams.seeds)
            if isinstance(draw, Peers):
                made = PeerWeights(draw, n, owner, self._edges)
            elif owner is not None and seeds == 1:
                made = SharedWeights(draw, n, owner, self._edges)
            else:
                made = DrawnWeights(draw, n, owner, self._edges)
            self._last = which, made
        return self._last[1]

    def _draw(self, round: int, further: int) -> Draw | Peers:
        if further:
            return self._drawn(self._numbers(round, further)[None])[0]
        if not 0 <= round - self._first < len(self._ahead):
            most = max(DRAWN_AHEAD // (self._mixing.n * len(self._streams.seeds)), 1)
            self._first, self._ahead = round, self._drawn(self._numbers.ahead(round, most))
        return self._ahead[round - self._first]

    def _drawn(self, numbers: np.ndarray) -> list[Draw | Peers]:
        """Of some rounds, ``(rounds, numbers, seeds)``: streams of one draw."""
        rounds, _, seeds = numbers.shape
        uniforms = np.ascontiguousarray(np.moveaxis(numbers, 0, 1)).reshape(-1, rounds * seeds)
        peers = self._mixing.peers(uniforms)
        if peers is not None:
            parts = np.split(peers.senders, rounds, axis=2)
            return [Peers(part, peers.weight) for part in parts]
        draw = self._mixing.draw(uniforms)
        # Short integers are sorted in the time of reading them, and looked up in less than divided.
        at = np.repeat(np.arange(rounds, dtype=np.uint16), seeds).take(draw.streams)
        stream = np.tile(np.arange(seeds), rounds).take(draw.streams)
        order = np.argsort(at, kind="stable")
        ends = np.cumsum(np.bincount(at, minlength=rounds))[:-1]
        of_messages = (draw.receivers, draw.senders, stream, draw.weights)
        ordered = [part.take(order) for part in of_messages]
        return [
            Draw(*each) for each in zip(*(np.split(part, ends) for part in ordered), strict=True)
        ]

    def keep(self) -> None:
        self._last = None


def weighting(
    mixing: tuple[csr_array, ...] | ByStep | DrawnMixing,
    arrivals: Arrivals | None,
    streams: Streams | None,
) -> Weighting:
    """The weights of a mixing, see `relaysim.algorithms.fit.weights_for`."""
    if isinstance(mixing, DrawnMixing):
        if streams is None:
            raise ValueError(f"{mixing!r} draws, and this network was made without streams")
        return _Drawn(mixing, arrivals, streams)
    if isinstance(mixing, ByStep):
        return _OfSteps(mixing, arrivals)
    return _Repeated(mixing, arrivals)
