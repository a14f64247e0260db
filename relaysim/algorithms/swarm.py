"""Random pairs of workers that average their models after some local steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Rate
from relaysim.algorithms.events import (
    EventMethod,
    Events,
    Meeting,
    MeetingOutcomes,
    Meetings,
    Rows,
    check_graph,
)
from relaysim.compressors import Identity, Lattice
from relaysim.support.checks import plain_options, real_number, true_or_false, whole_number
from relaysim.topologies import Topology

__all__ = ["SwarmSGD"]


@dataclass(frozen=True)
class SwarmSGD(EventMethod):
    """SwarmSGD: random pairs average their models, after H local steps each.

    Blocking: an edge i–j is drawn uniformly; both ends take H gradient steps, then x_i, x_j ← (x_i + x_j)/2.

    Non-blocking: a worker i, drawn uniformly, has taken H gradient steps from the model y_i that it had
    after its last meeting, with sum of gradients h_i; with a neighbour j, drawn uniformly,

        x_i ← (x_i + x_j)/2 − γh_i,  y_i ← x_i,     x_j ← (x_i + x_j)/2,  y_j as it is

    A step is the time in which each worker takes one gradient in expectation: n/(2H) meetings of blocking
    pairs (n/H of non-blocking ones), fractions carried over to later steps.

    Args:
        local_steps: H, a whole number of at least 1; the mean where ``geometric``, then any number ≥ 1.
        blocking: see above.
        quantizer: a `relaysim.compressors.Lattice`, with which models are exchanged; None for all bits.
            Each rounding adds a variance of up to a quarter of its spacing squared to an entry. With
            ``rounding="nearest"`` there is none, but models freeze where γH‖g‖ moves an entry by less than
            the spacing.
        geometric: draw each worker's number of steps before a meeting from the geometric distribution.

    Any connected topology of two workers or more. Drawing edges uniformly suits regular graphs: elsewhere
    worker i of blocking pairs takes deg_i/(mean degree) gradients a step in expectation, and weighs as much
    in what is minimised. Non-blocking workers take one each on any graph. A meeting sends two vectors, or
    the quantiser's share of them. Not exact. Where models that meet are too far apart for the quantiser, its
    replica has diverged: its numbers are NaN, and the others go on.

    Raises:
        ValueError: an option out of range.

    Without gradients a meeting shrinks the expected consensus distance to at most 1 − λ₂/(rn) of what it was,
    with λ₂ of the Laplacian of an r-regular graph. All H gradients before a meeting fall into its step, so
    that with many local steps nothing moves for some.

    Source: Nadiradze, Sabour, Davies, Li, Alistarh, "Asynchronous decentralized SGD with quantized and
    local updates", NeurIPS 2021; the non-blocking rule as in published code.

    >>> SwarmSGD(local_steps=2, blocking=False).label
    'SwarmSGD'
    """

    local_steps: float = 1
    blocking: bool = True
    quantizer: Lattice | None = None
    geometric: bool = False

    label: ClassVar[str] = "SwarmSGD"
    references: ClassVar[tuple[str, ...]] = ("nadiradze2021asynchronous",)

    def __post_init__(self) -> None:
        plain_options(self)
        true_or_false(self.geometric, "geometric")
        true_or_false(self.blocking, "blocking")
        if self.geometric:
            steps = real_number(self.local_steps, "local_steps", 1)
            # As its default is written.
            object.__setattr__(self, "local_steps", int(steps) if steps.is_integer() else steps)
        else:
            whole_number(self.local_steps, "local_steps", 1)
        if self.quantizer is not None and not isinstance(self.quantizer, Lattice):
            raise TypeError(
                f"quantizer must be a relaysim.compressors.Lattice or None, not {self.quantizer!r}"
            )

    def rule(self, topology: Topology) -> _Blocking | _NonBlocking:
        check_graph(topology, "SwarmSGD")
        kind = _Blocking if self.blocking else _NonBlocking
        return kind(self, topology)


class Models(NamedTuple):
    """``x (rows, d)``."""

    x: np.ndarray


class Copies(NamedTuple):
    """``x``, what is exchanged; ``live``, what takes gradient steps; ``since``, where those began.

    Each ``(rows, d)``.
    """

    x: np.ndarray
    live: np.ndarray
    since: np.ndarray


class _Pairs:
    """What both kinds share: how often pairs meet, and how models are exchanged."""

    def __init__(self, algorithm: SwarmSGD, topology: Topology):
        self._options, self._topology = algorithm, topology
        self.linear = algorithm.quantizer is None

    def vectors_per_meeting(self, d: int) -> float:
        quantizer = self._options.quantizer
        return 2.0 if quantizer is None else 2 * quantizer.bits(d) / Identity().bits(d)

    def flow(self, rows: Rows, elapsed: np.ndarray) -> Rows:
        return rows

    def _meetings(self, start: int, units: int, workers: int) -> np.ndarray:
        """The unit of each meeting before which so many workers take H gradients."""
        each = workers * self._options.local_steps
        until = [math.floor(t * self._topology.n / each) for t in range(start, start + units + 1)]
        return np.repeat(np.arange(start, start + units), np.diff(until))

    def _fixed_steps(self, count: int) -> np.ndarray:
        """Gradients before each of so many meetings, where their number is not drawn."""
        if self._options.geometric:
            raise ValueError(
                f"{self._options!r} draws the number of local steps from the geometric distribution, which "
                f"has no end, so that a meeting is not one of finitely many; take geometric=False with the "
                f"same mean, or simulate it"
            )
        return np.full(count, int(self._options.local_steps))

    def _steps(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Gradients before each of so many meetings."""
        if self._options.geometric:
            return generator.geometric(1 / self._options.local_steps, size=count)
        return self._fixed_steps(count)

    def _exchange(
        self, first: np.ndarray, second: np.ndarray, meeting: Meeting
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the first side receives of the second, and the second of the first."""
        quantizer = self._options.quantizer
        if quantizer is None:
            return second, first
        own, others = None, None
        if quantizer.random:
            own, others = np.split(meeting.uniforms(2 * first.shape[1]), 2, axis=1)
        from_second = quantizer.decode(second, first, others)
        from_first = quantizer.decode(first, second, own)
        apart = quantizer.exceeded(first, second)
        from_second[apart], from_first[apart] = np.nan, np.nan
        return from_second, from_first


class _Blocking(_Pairs):
    @property
    def meetings(self) -> Meetings:
        """n/(2H) in a unit, of edges that are all as likely."""
        n, edges = self._topology.n, len(self._topology.edges)
        rate = n / (2 * self._options.local_steps * edges)
        return Meetings(np.full(edges, rate), poisson=False)

    def draw(self, generator: np.random.Generator, start: int, units: int) -> Events:
        unit = self.units(start, units)
        pairs = self._topology.edges[generator.integers(len(self._topology.edges), size=len(unit))]
        own, others = (self._steps(generator, len(unit)) for _ in range(2))
        return self._events(unit, pairs, own, others)

    def units(self, start: int, units: int) -> np.ndarray:
        return self._meetings(start, units, workers=2)

    def outcomes(self) -> MeetingOutcomes:
        edges = self._topology.edges
        count = len(edges)
        steps = self._fixed_steps(count)
        events = self._events(np.arange(count), edges, steps, steps)
        return MeetingOutcomes(np.full(count, 1 / count), events)

    def _events(
        self, unit: np.ndarray, pairs: np.ndarray, own: np.ndarray, others: np.ndarray
    ) -> Events:
        # A meeting's events: gradients of one end, of the other, and the meeting.
        events = np.stack([own, others, np.ones_like(own)], axis=1).ravel()
        first = np.repeat(np.stack([pairs[:, 0], pairs[:, 1], pairs[:, 0]], axis=1).ravel(), events)
        none = np.full(len(unit), -1)
        second = np.repeat(np.stack([none, none, pairs[:, 1]], axis=1).ravel(), events)
        unit = np.repeat(unit, own + others + 1)
        return Events(unit, np.zeros(len(unit)), first, second)

    def init(self, x0: np.ndarray) -> Models:
        return Models(x0)

    def point(self, rows: Models) -> np.ndarray:
        return rows.x

    def descend(self, rows: Models, gradient: np.ndarray, learning_rate: Rate) -> Models:
        return Models(rows.x - learning_rate * gradient)

    def meet(self, first: Models, second: Models, meeting: Meeting) -> tuple[Models, Models]:
        from_second, from_first = self._exchange(first.x, second.x, meeting)
        return Models((first.x + from_second) / 2), Models((second.x + from_first) / 2)


class _NonBlocking(_Pairs):
    @property
    def meetings(self) -> Meetings:
        """n/H in a unit: of a worker, all as likely, with one of its neighbours, all as likely."""
        i, j = self._topology.edges.T
        chosen = 1 / self._topology.degrees[i] + 1 / self._topology.degrees[j]
        return Meetings(chosen / self._options.local_steps, poisson=False)

    def draw(self, generator: np.random.Generator, start: int, units: int) -> Events:
        unit = self.units(start, units)
        topology = self._topology
        worker = generator.integers(topology.n, size=len(unit))
        offsets = np.cumsum(topology.degrees) - topology.degrees
        place = (generator.random(len(unit)) * topology.degrees[worker]).astype(np.intp)
        # Edges are sorted by receiver: a worker's neighbours stand together.
        place = np.minimum(place, topology.degrees[worker] - 1)
        neighbour = topology.src[offsets[worker] + place]
        return self._events(unit, worker, neighbour, self._steps(generator, len(unit)))

    def units(self, start: int, units: int) -> np.ndarray:
        return self._meetings(start, units, workers=1)

    def outcomes(self) -> MeetingOutcomes:
        # Both directions of each edge: whoever has gradients to add, and the neighbour.
        worker, neighbour = self._topology.edges.T
        worker, neighbour = np.r_[worker, neighbour], np.r_[neighbour, worker]
        count = len(worker)
        events = self._events(np.arange(count), worker, neighbour, self._fixed_steps(count))
        return MeetingOutcomes(1 / (self._topology.n * self._topology.degrees[worker]), events)

    def _events(
        self, unit: np.ndarray, worker: np.ndarray, neighbour: np.ndarray, own: np.ndarray
    ) -> Events:
        events = np.stack([own, np.ones_like(own)], axis=1).ravel()
        first = np.repeat(worker, own + 1)
        second = np.repeat(np.stack([np.full(len(unit), -1), neighbour], axis=1).ravel(), events)
        unit = np.repeat(unit, own + 1)
        return Events(unit, np.zeros(len(unit)), first, second)

    def init(self, x0: np.ndarray) -> Copies:
        return Copies(x0, x0.copy(), x0.copy())

    def point(self, rows: Copies) -> np.ndarray:
        return rows.live

    def descend(self, rows: Copies, gradient: np.ndarray, learning_rate: Rate) -> Copies:
        return Copies(rows.x, rows.live - learning_rate * gradient, rows.since)

    def meet(self, first: Copies, second: Copies, meeting: Meeting) -> tuple[Copies, Copies]:
        from_second, from_first = self._exchange(first.x, second.x, meeting)
        x = (first.x + from_second) / 2 + (first.live - first.since)
        return Copies(x, x, x), Copies((second.x + from_first) / 2, second.live, second.since)
