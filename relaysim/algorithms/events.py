"""The protocol of asynchronous algorithms: events in continuous time, beside the rounds of `base`.

Workers have clocks of their own: at its events a worker takes a gradient, or two neighbours meet. One
unit of time, a step, is the time in which each worker takes one gradient in expectation.

An asynchronous algorithm is a frozen dataclass of hyper-parameters, derived from `EventMethod`, with its
claims (see `relaysim.algorithms.claims.Claims`) and ``rule(topology)``: its `Rule` on a graph, with the
constants that depend on it.

A rule never sees all workers at once. Its state is a NamedTuple of arrays with one **row** for each worker
(and replica), ``(rows, d)``, with a field ``x``; each of its functions is given the rows that an event
concerns, many events at a time, and returns new ones. Events that share a worker are never given
together, and always in their order, so that the result is that of one event after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeGuard, TypeVar

import numpy as np

from relaysim.algorithms.base import Machine_co, Method, Rate
from relaysim.algorithms.claims import Claims
from relaysim.topologies import Topology

__all__ = [
    "Algorithm",
    "CountedRule",
    "EventMethod",
    "Events",
    "Meeting",
    "MeetingOutcomes",
    "Meetings",
    "PairRule",
    "PoissonClocks",
    "Rule",
    "check_graph",
    "lists_its_meetings",
    "says_how_pairs_meet",
]


class Events(NamedTuple):
    """What happens, in order, each ``(events,)``.

    ``unit`` and ``time``: in which unit of time, and when in it, in [0, 1); ``first``: the worker;
    ``second``: the neighbour that it meets, or −1 where it takes a gradient.
    """

    unit: np.ndarray
    time: np.ndarray
    first: np.ndarray
    second: np.ndarray


def _no_numbers(width: int) -> np.ndarray:
    raise TypeError("no random numbers are drawn here; a meeting that needs some is no fixed map")


class Meeting(NamedTuple):
    """Who meets, one entry a meeting: workers ``first`` and ``second`` of a ``replica``, in a ``step``.

    ``uniforms(width)`` are each meeting's own numbers in [0, 1), ``(meetings, width)``, the same for
    replicas of a seed. A rule asks for as many each time.
    """

    step: int
    first: np.ndarray
    second: np.ndarray
    replica: np.ndarray
    uniforms: Callable[[int], np.ndarray] = _no_numbers


class Meetings(NamedTuple):
    """How often neighbours meet.

    ``rates (E,)``: meetings over each of ``topology.edges`` in a unit of time, in expectation. ``poisson``:
    whether they are the points of independent Poisson processes; if not, there are as many in a unit as the
    rates add up to, each over an edge drawn with these odds.
    """

    rates: np.ndarray
    poisson: bool


# Rows of a rule's own state.
Rows = TypeVar("Rows", bound=tuple)


class Rule(Protocol[Rows]):
    """What an asynchronous algorithm does on one graph; see the module's docstring."""

    def draw(self, generator: np.random.Generator, start: int, units: int) -> Events:
        """The events of the units start, …, start + units − 1."""

    def init(self, x0: np.ndarray) -> Rows:
        """The state at time 0 from rows ``(rows, d)``, which it may keep."""

    def flow(self, rows: Rows, elapsed: np.ndarray) -> Rows:
        """Rows after some time without events, ``elapsed (rows, 1)``."""

    def point(self, rows: Rows) -> np.ndarray:
        """Where a worker takes its gradient, ``(rows, d)``."""

    def descend(self, rows: Rows, gradient: np.ndarray, learning_rate: Rate) -> Rows:
        """Rows after a gradient; the rate is a number or ``(rows, 1)``."""

    def meet(self, first: Rows, second: Rows, meeting: Meeting) -> tuple[Rows, Rows]:
        """Rows of both sides after they met."""

    def vectors_per_meeting(self, d: int) -> float:
        """Vectors that a meeting puts on the wire, in both directions together."""


class PairRule(Rule[Rows], Protocol[Rows]):
    """What a rule says besides for the exact analysis, which takes its maps from ``flow`` and ``meet``.

    Simulations do without; the analysis refuses a rule that lacks one of these, or that is not linear.
    """

    @property
    def meetings(self) -> Meetings:
        """How often its events have neighbours meet."""

    @property
    def linear(self) -> bool:
        """Whether, without gradients, rows after a flow or a meeting are linear in the rows before."""


class CountedRule(PairRule[Rows], Protocol[Rows]):
    """What a rule says besides for exact second moments, where a meeting is one of finitely many.

    A meeting is drawn independently of all others; its events, gradients and the meeting, come together.
    """

    def outcomes(self) -> MeetingOutcomes:
        """All meetings that may be drawn.

        Raises:
            ValueError: there is no end of them.
        """

    def units(self, start: int, units: int) -> np.ndarray:
        """The unit of each meeting in so many units from ``start`` on."""


class MeetingOutcomes(NamedTuple):
    """Meetings that may be drawn: ``probabilities (K,)``, and their events; ``unit`` is which of them."""

    probabilities: np.ndarray
    events: Events


def lists_its_meetings(rule: Rule[Rows]) -> TypeGuard[CountedRule[Rows]]:
    """Whether a rule is a `CountedRule`."""
    return hasattr(rule, "outcomes") and hasattr(rule, "units")


def says_how_pairs_meet(rule: Rule[Rows]) -> TypeGuard[PairRule[Rows]]:
    """Whether a rule is a `PairRule`."""
    return hasattr(rule, "meetings") and hasattr(rule, "linear")


class PoissonClocks:
    """The events of workers and pairs that act at the points of independent Poisson processes.

    Each worker takes gradients at rate 1, and neighbours meet at rates of their own.

    Args:
        topology: who are neighbours.
        rates: of the meetings over each of its edges, ``(E,)``.
    """

    def __init__(self, topology: Topology, rates: np.ndarray):
        self.meetings = Meetings(rates, poisson=True)
        self._n, self._edges = topology.n, topology.edges
        self._until = np.cumsum(rates)

    def draw(self, generator: np.random.Generator, start: int, units: int) -> Events:
        """The events of the units start, …, start + units − 1."""
        total = float(self._until[-1])
        gradients = generator.poisson(self._n * units)
        meetings = generator.poisson(total * units)
        time = generator.random(gradients + meetings) * units
        worker = generator.integers(self._n, size=gradients)
        edge = np.searchsorted(self._until, generator.random(meetings) * total, side="right")
        ends = self._edges[np.minimum(edge, len(self._edges) - 1)]
        first = np.concatenate([worker, ends[:, 0]])
        second = np.concatenate([np.full(gradients, -1), ends[:, 1]])
        order = np.argsort(time, kind="stable")
        time = time[order]
        # A product may round up to the end of the last unit.
        unit = np.minimum(time.astype(np.intp), units - 1)
        return Events(start + unit, time - unit, first[order], second[order])


class EventsSetup(Protocol[Machine_co]):
    """The parts of a run in continuous time, such as a `relaysim.engine.setup.Setup`."""

    def events(self, algorithm: EventMethod) -> Machine_co:
        """What advances a method whose workers act at times of their own."""


class EventMethod(Claims):
    """A method of events, at which workers act one by one or in pairs; see the module's docstring."""

    uses: ClassVar[str] = "events"
    hops_per_step: ClassVar[float] = math.inf
    affine: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def vectors_per_edge(self, d: int) -> None:
        """None: it depends on who meets."""

    def rule(self, topology: Topology) -> Rule[Any]:
        """What happens on a graph; raises ValueError for one that the method cannot use."""
        raise NotImplementedError(f"{type(self).__name__} has no `rule(topology)`")

    def machine(self, setup: EventsSetup[Machine_co]) -> Machine_co:
        """What advances this method in a run."""
        return setup.events(self)


#: A method, of rounds or of events.
Algorithm: TypeAlias = Method | EventMethod


def check_graph(topology: Topology, name: str) -> None:
    """Raise unless there are neighbours to meet.

    >>> from relaysim.topologies import chain
    >>> check_graph(chain(1), "SwarmSGD")
    Traceback (most recent call last):
        ...
    ValueError: SwarmSGD needs neighbours that meet: chain(1) has a single worker; take two or more
    """
    if topology.is_directed:
        raise ValueError(
            f"{name} needs neighbours that meet, each hearing the other, and {topology!r} is directed; use "
            f"topology.to_undirected()"
        )
    if topology.n == 1:
        raise ValueError(
            f"{name} needs neighbours that meet: {topology!r} has a single worker; take two or more"
        )
