"""Events in continuous time, put into batches of events that do not depend on each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from relaysim.support.numbers import numbers_within
from relaysim.support.streams import Streams

__all__ = ["Batch", "MeetingNumbers", "Timeline", "batches_of"]

# Units of time drawn at once. It is part of every result: it tells where a generator's numbers go.
UNITS_AHEAD = 16
# Meetings are next, of what can be, where there are so many times as many as gradients: the fewer batches
# there are, the less time they take.
MEETINGS_FIRST = 0.5
# Events of all replicas that are gathered at once, but for those of one unit.
GATHERED = 1 << 15

# (generator, start, units) → unit, time, first and second of the events of these units; see
# `relaysim.algorithms.events.Rule`.
Draw = Callable[
    [np.random.Generator, int, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
]


class Batch:
    """Events of one kind with no worker in common, within one unit of time; each array ``(events,)``.

    Args:
        meets: whether they are meetings, else gradients.
        within: of several units' events, in the order of their batches.
        part: which of them.
        place: the row of each event's replica and worker; of meetings those of the second sides follow.
        elapsed: how long these have gone by themselves since their last event, ``(rows, 1)``.

    ``replica`` has its events from ``stream``, a position in `Streams.seeds`, where gradient, or meeting,
    number ``draw`` of the unit is this one, by time.
    """

    __slots__ = ("_part", "_within", "elapsed", "first", "meets", "place", "replica")

    def __init__(
        self, meets: bool, within: _Within, part: slice, place: np.ndarray, elapsed: np.ndarray
    ):
        self.meets, self.place, self.elapsed = meets, place, elapsed
        self._within, self._part = within, part
        self.first, self.replica = within.first[part], within.replica[part]

    @property
    def second(self) -> np.ndarray:
        return self._within.second[self._part]

    @property
    def stream(self) -> np.ndarray:
        return self._within.stream[self._part]

    @property
    def draw(self) -> np.ndarray:
        return self._within.draw[self._part]


class _Within(NamedTuple):
    """Events of several units, in the order of their batches, each array ``(events,)``; see `Batch`."""

    first: np.ndarray
    second: np.ndarray
    replica: np.ndarray
    stream: np.ndarray
    draw: np.ndarray


class Unit(NamedTuple):
    """A unit of time: batches in order, and what is ``left (k, 1)`` of it for ``rows (k,)`` with events."""

    batches: list[Batch]
    rows: np.ndarray
    left: np.ndarray


class Timeline:
    """The events of all replicas, unit by unit; replicas with the same seed have the same events.

    Args:
        draw: a rule's.
        n: workers.
        streams: whose replicas, and whose numbers.
    """

    def __init__(self, draw: Draw, n: int, streams: Streams):
        self._draw, self._n, self._streams = draw, n, streams
        self._generators = streams.generators("algorithm")
        self._drawn = 0
        self._before: list[dict[str, Any]] = []
        self._units: list[Unit] = []
        self._gathered_from, self._gathered_of = 0, streams.owner
        streams.register("algorithm: events", self)

    def unit(self, step: int) -> tuple[Unit, list[tuple[int, np.ndarray]]]:
        """One unit, and for each stream in use the workers of its gradients, by time.

        Units must be asked for in order.
        """
        if step == self._drawn:
            self._draw_block()
        known = self._gathered_from <= step < self._gathered_from + len(self._units)
        if not (known and self._gathered_of is self._streams.owner):
            self._gather(step)
        return self._units[step - self._gathered_from], self._workers(step)

    def state(self) -> dict[str, Any]:
        """Where the events stand: the generators as they were before the present block."""
        return {"drawn": self._drawn, "before": self._before}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        if not state["before"]:
            return
        self._drawn = int(state["drawn"]) - UNITS_AHEAD
        for generator, before in zip(self._generators, state["before"], strict=True):
            generator.bit_generator.state = before
        self._draw_block()

    def _draw_block(self) -> None:
        self._before = [dict(generator.bit_generator.state) for generator in self._generators]
        start = self._drawn
        self._drawn += UNITS_AHEAD
        streams = self._in_use()
        drawn = [self._draw(self._generators[k], start, UNITS_AHEAD) for k in streams]
        lengths = [len(units) for units, *_ in drawn]
        self._stream = np.repeat(streams, lengths)
        unit, time, first, second = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        # Streams and units are worlds of their own.
        group = self._stream * UNITS_AHEAD + (unit - start)
        number = batches_of(group, first, second, self._n)
        meets = second >= 0
        self._draws = numbers_within(2 * group + meets)
        order = np.lexsort((number, unit))
        self._events = (unit, time, first, second, number)
        self._order, self._unit_ends = (
            order,
            np.searchsorted(unit[order], np.arange(start, self._drawn + 1)),
        )
        self._start = start
        self._units = []

    def _in_use(self) -> np.ndarray:
        owner = self._streams.owner
        return np.zeros(1, dtype=np.intp) if owner is None else np.unique(owner)

    def _of_unit(self, step: int) -> np.ndarray:
        k = step - self._start
        return self._order[self._unit_ends[k] : self._unit_ends[k + 1]]

    def _gather(self, step: int) -> None:
        """Put the events of this unit, and of as many of those that follow as there is room for, in order."""
        owner, ends = self._streams.owner, self._unit_ends
        r = 1 if owner is None else len(owner)
        k = step - self._start
        room = GATHERED * len(self._in_use()) // r
        until = max(k + 1, int(np.searchsorted(ends, ends[k] + room, side="right")) - 1)
        unit, time, first, second, number = self._events
        events, replica = self._replicas(self._order[ends[k] : ends[until]])
        unit, time, number = unit[events] - step, time[events], number[events]
        within = _Within(
            first[events], second[events], replica, self._stream[events], self._draws[events]
        )
        changes = (unit[1:] != unit[:-1]) | (number[1:] != number[:-1])
        starts = np.flatnonzero(np.concatenate([np.full(min(len(events), 1), True), changes]))
        counts = np.diff(np.append(starts, len(events)))
        meets = within.second[starts] >= 0
        # Rows that batches look at: the first sides, and then the second sides of meetings.
        looks = np.append(0, np.cumsum(counts * (1 + meets)))
        at = np.repeat(looks[:-1] - starts, counts) + np.arange(len(events))
        of_meetings = np.repeat(meets, counts)
        at_second = (at + np.repeat(counts, counts))[of_meetings]
        place = _put_together(
            looks[-1],
            at,
            within.first * r + replica,
            at_second,
            (within.second * r + replica)[of_meetings],
        )
        time = _put_together(looks[-1], at, time, at_second, time[of_meetings])
        unit_of_look = _put_together(looks[-1], at, unit, at_second, unit[of_meetings])
        # Of one row the looks of a unit stand in the order of their times.
        key = unit_of_look * (self._n * r) + place
        order = np.argsort(key, kind="stable")
        same = np.diff(key[order], prepend=-1) == 0
        times = time[order]
        elapsed = np.empty((len(place), 1))
        elapsed[order, 0] = times - np.where(same, np.roll(times, 1), 0.0)
        last = np.flatnonzero(~np.append(same, False)[1:])
        rows, left = place[order[last]], 1.0 - times[last, None]
        ends_of_rows = np.searchsorted(unit_of_look[order[last]], np.arange(until - k + 1))
        made = [
            Batch(kind, within, slice(start, start + count), place[a:b], elapsed[a:b])
            for kind, start, count, (a, b) in zip(
                meets.tolist(),
                starts.tolist(),
                counts.tolist(),
                itertools.pairwise(looks.tolist()),
                strict=True,
            )
        ]
        ends_of_batches = np.searchsorted(unit[starts], np.arange(until - k + 1))
        self._units = [
            Unit(made[a:b], rows[c:d], left[c:d])
            for (a, b), (c, d) in zip(
                itertools.pairwise(ends_of_batches.tolist()),
                itertools.pairwise(ends_of_rows.tolist()),
                strict=True,
            )
        ]
        self._gathered_from, self._gathered_of = step, owner

    def _replicas(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each event once for every replica that has it, and that replica."""
        owner = self._streams.owner
        if owner is None:
            return events, np.zeros(len(events), dtype=np.intp)
        streams = self._stream[events]
        counts = np.bincount(owner, minlength=len(self._streams.seeds))
        by_stream = np.argsort(owner, kind="stable")
        starts = np.cumsum(counts) - counts
        each = counts[streams]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        return np.repeat(events, each), by_stream[np.repeat(starts[streams], each) + within]

    def _workers(self, step: int) -> list[tuple[int, np.ndarray]]:
        _, _, first, second, _ = self._events
        chosen = self._of_unit(step)
        chosen = np.sort(chosen[second[chosen] < 0])
        streams = self._stream[chosen]
        return [(int(k), first[chosen[streams == k]]) for k in self._in_use()]


def _put_together(
    length: int, at: np.ndarray, values: np.ndarray, at_others: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Values at their places, and others at theirs, in one array ``(length,)``."""
    found = np.empty(length, values.dtype)
    found[at], found[at_others] = values, others
    return found


class MeetingNumbers:
    """Numbers in [0, 1) of the meetings of a unit, drawn when a meeting asks for the first.

    They belong to the unit: nothing needs to be kept of them.
    """

    def __init__(self, streams: Streams):
        self._streams = streams
        self._table: np.ndarray | None = None

    def start_unit(self, unit: int, meetings: list[Batch]) -> None:
        """Take up a unit with these batches of meetings."""
        self._unit, self._meetings, self._table = unit, meetings, None

    def __call__(self, batch: Batch, width: int) -> np.ndarray:
        """Those of a batch of the unit's meetings, ``(events, width)``; the same width in all of a unit."""
        if self._table is None:
            counts = np.zeros(len(self._streams.seeds), dtype=np.intp)
            for each in self._meetings:
                np.maximum.at(counts, each.stream, each.draw + 1)
            self._starts = np.cumsum(counts) - counts
            drawn = [
                self._streams.generator("algorithm", seed, self._unit).random((count, width))
                for seed, count in zip(self._streams.seeds, counts.tolist(), strict=True)
                if count
            ]
            self._table = np.concatenate(drawn)
        return self._table[self._starts[batch.stream] + batch.draw]


def batches_of(group: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> np.ndarray:
    """For each event the number of its batch, ``(events,)``.

    Events of a batch are all gradients (``second`` −1) or all meetings and have no (group, worker) in
    common; of two events that have one the earlier is in an earlier batch. A batch takes all that can be
    next: meetings where there are `MEETINGS_FIRST` of the gradients that could be, since those cost more.

    >>> group, first, second = np.zeros(4, int), np.array([0, 1, 0, 2]), np.array([-1, -1, 1, -1])
    >>> batches_of(group, first, second, 3).tolist()
    [0, 0, 1, 0]
    """
    count = len(first)
    meets = second >= 0
    meetings = np.flatnonzero(meets)
    # Each worker's queue: its events in order.
    place = np.concatenate([group * n + first, group[meetings] * n + second[meetings]])
    queued = np.concatenate([np.arange(count), meetings])
    order = np.lexsort((queued, place))
    place, queued = place[order], queued[order]
    head = np.flatnonzero(np.diff(place, prepend=-1))
    end = np.append(head[1:], len(place))
    number = np.zeros(count, dtype=np.intp)
    earliest, latest = np.zeros((2, count), dtype=np.intp)
    batch = 0
    while len(head):
        at_head = queued[head]
        # A meeting is ready when it heads both queues: of equal indices the last assignment stays.
        queue = np.arange(len(head))
        latest[at_head] = queue
        earliest[at_head[::-1]] = queue[::-1]
        ready = latest[at_head] != earliest[at_head]
        gradients = ~meets[at_head]
        pairs, single = np.count_nonzero(ready) // 2, np.count_nonzero(gradients)
        if not pairs or pairs < MEETINGS_FIRST * single:
            ready = gradients
        number[at_head[ready]] = batch
        batch += 1
        head = head + ready
        left = head < end
        head, end = head[left], end[left]
    return number
