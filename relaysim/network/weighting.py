"""Which weights a round has: those of a period, of a callable of the step, or of a draw."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from scipy.sparse import csr_array

from relaysim.mixing.by_step import ByStep
from relaysim.mixing.drawn import DrawnMixing
from relaysim.network.arrivals import Arrivals
from relaysim.network.crossing import AnyWeights
from relaysim.network.drawn import DrawnWeights, EdgeNumbers
from relaysim.network.gossip import Weights
from relaysim.support.streams import Streams

__all__ = ["Weighting", "weighting"]

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
    """Weights that each replica draws; those of the last round are kept, in which methods may mix again."""

    def __init__(self, mixing: DrawnMixing, arrivals: Arrivals | None, streams: Streams):
        self._mixing, self._streams = mixing, streams
        self._uniforms = streams.rounds("mixing", mixing.numbers)
        self._edges = None if arrivals is None else EdgeNumbers(mixing.edges, mixing.n, arrivals)
        self._last: tuple[tuple[int, int], DrawnWeights] | None = None

    def at(self, round: int, further: int) -> DrawnWeights:
        which = (round, further)
        if self._last is None or self._last[0] != which:
            draw = self._mixing.draw(self._uniforms(round, further))
            owner = self._streams.owner
            self._last = which, DrawnWeights(draw, self._mixing.n, owner, self._edges)
        return self._last[1]

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
