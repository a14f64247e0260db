"""Runs asynchronous algorithms, event after event; see `relaysim.algorithms.events`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from relaysim.algorithms.events import EventMethod, Meeting
from relaysim.engine.parts import Parts
from relaysim.engine.rates import Rates
from relaysim.engine.recorded import Records
from relaysim.engine.states import bytes_of, laid_out, restored, saved
from relaysim.engine.timeline import Batch, MeetingNumbers, Timeline
from relaysim.support.checks import real_array
from relaysim.support.interrupts import StopRequest
from relaysim.topologies import Topology

__all__ = ["Events"]

# There is one of it, as long as no byte is swapped.
DOUBLE = np.dtype(np.float64)


class Events:
    """The state of a run in continuous time: ``x (n, d[, r])`` and ``vectors_sent`` after ``step`` units.

    Events that do not depend on each other are computed together: the result is that of one after the
    other. Within, a row stands for a worker of a replica: ``(n r, d)``, worker by worker.

    Args:
        parts: of the run.
        algorithm: a method of events.
    """

    def __init__(self, parts: Parts, algorithm: EventMethod):
        plan, x0 = parts.plan, parts.x0
        self.step = 0
        assert isinstance(parts.topology, Topology), "only the relay family uses pairs of trees"
        self._rule = algorithm.rule(parts.topology)
        self._n, self._d = x0.shape[:2]
        self._has_axis = plan.has_axis
        self._r = plan.r if plan.has_axis else 1
        self._gradients = parts.oracle.observe_events(parts.problem, parts.streams)
        self._timeline = Timeline(self._rule.draw, self._n, parts.streams)
        self._numbers = MeetingNumbers(parts.streams)
        self._rates = Rates(plan)
        self._sent = np.zeros(self._r)
        rows = x0.reshape(self._n, self._d, self._r).transpose(0, 2, 1)
        self._state: Any = self._rule.init(np.array(rows).reshape(-1, self._d))

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; not to be changed."""
        rows = self._state.x
        if not self._has_axis:
            return rows
        return rows.reshape(self._n, self._r, self._d).transpose(0, 2, 1)

    @property
    def vectors_sent(self) -> float | np.ndarray:
        """So far, over all workers; ``(r,)`` with replicas, which meet at times of their own."""
        return self._sent.copy() if self._has_axis else float(self._sent[0])

    @property
    def fault_counts(self) -> dict[str, np.ndarray]:
        """Nothing: there is no rule for faults of pairs that meet."""
        return {}

    def advance(self, target: int) -> None:
        """Go on until so many units of time have passed: the time loop."""
        while self.step < target:
            self._pass_unit()
            self.step += 1

    def _pass_unit(self) -> None:
        unit, workers = self._timeline.unit(self.step)
        self._gradients.start_unit(workers)
        meetings = [batch for batch in unit.batches if batch.meets]
        self._numbers.start_unit(self.step, meetings)
        self._count(meetings)
        rates = self._rates.table(self.step, self._n, self._r)
        # A state is read by others after the unit: rows are put into a copy of it.
        self._state = type(self._state)(*(part.copy() for part in self._state))
        for batch in unit.batches:
            rows = type(self._state)(
                *[part.take(batch.place, 0, None, "clip") for part in self._state]
            )
            rows = self._flown(rows, batch.elapsed)
            if batch.meets:
                self._meet(batch, rows)
            else:
                self._descend(batch, rows, rates[batch.first, batch.replica][:, None])
        left = np.ones((len(self._state.x), 1))
        left[unit.rows] = unit.left
        self._state = self._flown(self._state, left)

    def _count(self, meetings: list[Batch]) -> None:
        if meetings:
            replica = np.concatenate([batch.replica for batch in meetings])
            sent = self._rule.vectors_per_meeting(self._d)
            self._sent += sent * np.bincount(replica, minlength=self._r)

    def _descend(self, batch: Batch, rows: Any, rates: np.ndarray) -> None:
        gradient = self._gradients(self._rule.point(rows), batch)
        self._put(batch.place, self._rule.descend(rows, gradient, rates), "descend")

    def _meet(self, batch: Batch, rows: Any) -> None:
        count, kind = len(batch.first), type(rows)
        one, other = kind(*[part[:count] for part in rows]), kind(*[part[count:] for part in rows])
        uniforms = functools.partial(self._numbers, batch)
        meeting = Meeting(self.step, batch.first, batch.second, batch.replica, uniforms)
        first, second = self._rule.meet(one, other, meeting)
        self._put(batch.place[:count], first, "meet")
        self._put(batch.place[count:], second, "meet")

    def _flown(self, rows: Any, elapsed: np.ndarray) -> Any:
        found = self._rule.flow(rows, elapsed)
        return found if found is rows else self._checked(found, len(elapsed), "flow")

    def _put(self, place: np.ndarray, rows: Any, of: str) -> None:
        rows = self._checked(rows, len(place), of)
        for part, new in zip(self._state, rows, strict=True):
            part[place] = new

    def _checked(self, rows: Any, count: int, of: str) -> Any:
        """Rows as arrays of real numbers in their shape; names are put together only where they are not."""
        shape = (count, self._d)
        for part in rows:
            if type(part) is not np.ndarray or part.dtype is not DOUBLE or part.shape != shape:
                break
        else:
            return rows
        kind = type(self._state)
        named = zip(kind._fields, rows, strict=True)
        return kind(
            *(
                real_array(part, f"{name} as the rule's {of} returns it", shape=shape)
                for name, part in named
            )
        )

    records = False

    def advance_and_record(
        self, targets: list[int], records: Records, stop: StopRequest
    ) -> list[float | np.ndarray]:
        """None in one go: events are measured as they come."""
        return []

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""

        def kept(part: np.ndarray) -> np.ndarray:
            of_replicas = part.reshape(self._n, self._r, self._d)[:, replicas]
            return of_replicas.reshape(-1, self._d)

        self._state = type(self._state)(*map(kept, self._state))
        self._r = int(np.count_nonzero(replicas))
        self._rates.keep(replicas)
        self._sent = self._sent[replicas]

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return bytes_of(self._state)

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, but random numbers; copies."""
        return {"step": self.step, "sent": saved(self._sent), "arrays": saved(self._state)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.step = int(state["step"])
        self._sent = laid_out(state["sent"])
        self._state = restored(self._state, state["arrays"])
