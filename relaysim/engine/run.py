"""A run: a plan, a ledger of what was recorded, and a machine that advances all replicas together."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from relaysim.engine.ledger import Block, Ledger
from relaysim.engine.recording import Recorder
from relaysim.engine.setup import Setup
from relaysim.engine.states import laid_out, saved
from relaysim.engine.stopping import Stopping
from relaysim.measures.measure import Measure
from relaysim.support.blocks import row_blocks
from relaysim.support.interrupts import StopRequest

__all__ = ["FAULTS", "Run"]

#: Before the name of what is counted, among what is measured.
FAULTS = "faults/"

DIVERGED_BEYOND = 1e12
# After so many steps without a record it is looked whether someone asked to stop.
_STEPS_BETWEEN_LOOKS = 16
# Where a record may end a replica, records are measured after so many steps, though they fill no block.
_STEPS_BEFORE_STOPPING = 256


class Run:
    """A simulation under way.

    Args:
        setup: its parts.
        measures: what is measured of every record.
        keep_iterates: of every record; those of some workers only where these are listed.
        stopping: with which record a replica ends.
        resumable: whether it may be asked for its `state`.

    Replicas that diverged, or are to stop, leave the computation with the block of records in
    which they did; the others go on.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        measures: tuple[Measure, ...],
        keep_iterates: bool | list[int] = False,
        stopping: Stopping | None = None,
        resumable: bool = True,
    ):
        self.plan = setup.plan
        self.measures = measures
        self._scope = setup.scope
        self._scope.check_shapes(setup.x0, measures)
        self.ledger = Ledger(setup.plan.r, setup.plan.has_axis)
        # Replicas that are still computed, by their number in the plan.
        self.active = np.arange(setup.plan.r)
        self._streams = setup.streams
        self._machine = setup.machine()
        self._stopping, self._keeps_iterates = stopping, keep_iterates is not False
        self._kept_workers = slice(None) if isinstance(keep_iterates, bool) else keep_iterates
        self._resumable = resumable
        self._recorder = Recorder(
            setup.scope,
            setup.x0.shape,
            measures,
            setup.may_compile,
            keeps_iterates=resumable or self._keeps_iterates or bool(stopping),
        )
        # Steps of the records that are not measured yet, and what was sent by then.
        self._pending: list[int] = []
        self._sent: list[float | np.ndarray] = []
        self._wrong: list[dict[str, np.ndarray]] = []
        optimum = getattr(setup.scope.problem, "optimum", None)
        d = setup.problem.d
        self._center = np.zeros(d) if optimum is None else np.asarray(optimum, dtype=float)
        start = self._size(setup.x0[None]).ravel()
        self._limit = _divergence_limit(self._center, start)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._machine.step

    @property
    def steps(self) -> np.ndarray:
        """The steps recorded so far."""
        return self.ledger.steps

    @property
    def diverged(self) -> np.ndarray:
        """Which replicas did so far, ``(r,)``."""
        return self.ledger.diverged

    @property
    def x(self) -> np.ndarray:
        """The iterates after the last step, ``(n, d[, r])``; NaN for a replica that diverged."""
        return self.ledger.ends(self._machine.x, self.active)

    def column(self, name: str) -> np.ndarray:
        """One measure at all records so far, ``(records[, n], r)``; NaN after a replica has left."""
        return self.ledger.column(name)

    # -- the loop ----------------------------------------------------------------------------------

    def drop(self, replicas: np.ndarray) -> None:
        """Compute these no further, ``(r,)`` boolean: what they would record from here on is NaN."""
        self._leave(replicas[self.active])

    def advance(self, record_steps: Iterable[int], on_progress: Callable | None = None) -> None:
        """Step on to each of these steps (increasing), record there, and measure."""
        self._record(record_steps, None, on_progress, StopRequest())
        self._measure()

    def finish(
        self,
        record_steps: Iterable[int],
        last: int,
        on_progress: Callable | None = None,
        most_bytes: float = 0,
        stop: StopRequest | None = None,
    ) -> dict[str, Any] | None:
        """As `advance`, and on to the last step; returns the state there, to go on from.

        Args:
            record_steps: where to record, up to ``last``.
            last: the last step.
            on_progress: is called with the number of steps taken since it was called last.
            most_bytes: of the state; None is returned if it takes more.
            stop: where it is made, the run ends after the step that is under way, which is recorded.

        The state is that of a run that has not ended: a last record is not measured yet in it, and no
        replica has left because of it.
        """
        stop = StopRequest() if stop is None else stop
        self._record(record_steps, last, on_progress, stop)
        unrecorded = len(self.active) and self._last_recorded < last and not stop.made
        if unrecorded:
            before = self.step
            with np.errstate(all="ignore"):
                if not self._reaches(last, stop) and self.step > self._last_recorded:
                    self._add_record()
            if on_progress is not None:
                on_progress(self.step - before)
        state = self.state() if self.nbytes <= most_bytes else None
        self._measure()
        if unrecorded and not stop.made and len(self.active):
            with np.errstate(all="ignore"):
                self.diverged[self.active[self._are_beyond()]] = True
        return state

    def _record(
        self,
        record_steps: Iterable[int],
        last: int | None,
        on_progress: Callable | None,
        stop: StopRequest,
    ) -> None:
        """Step on to each of these steps and record there; measure full blocks, but none at ``last``."""
        remaining, waiting = iter(record_steps), list[int]()
        with np.errstate(all="ignore"):
            if self._is_full() and self.step != last:
                self._measure()
            while len(self.active):
                room = self._recorder.capacity - len(self._pending)
                waiting += itertools.islice(remaining, max(room - len(waiting), 0))
                if not waiting or not room:
                    return
                if self._stopping:
                    room = min(room, bisect_right(waiting, waiting[0] + _STEPS_BEFORE_STOPPING))
                targets, waiting = waiting[:room], waiting[room:]
                before = self.step
                while targets:
                    recorded = self._records_at_once(targets, stop) if self._machine.records else 0
                    if recorded:
                        del targets[:recorded]
                    elif self._reaches(targets.pop(0), stop) or self.step > self._last_recorded:
                        self._add_record()
                    else:
                        break
                    if stop.made:
                        break
                # One that stops has a record more, maybe, which is not one of those of a longer run.
                full = self._is_full() or bool(self._stopping)
                if full and self.step != last and not stop.made:
                    self._measure()
                if on_progress is not None:
                    on_progress(self.step - before)
                if stop.made:
                    return

    def _reaches(self, target: int, stop: StopRequest) -> bool:
        """Step on until so many steps are taken, or until someone asks to stop; whether they are."""
        while self.step < target and not stop.made:
            self._machine.advance(min(target, self.step + _STEPS_BETWEEN_LOOKS))
        return self.step == target

    def _records_at_once(self, targets: list[int], stop: StopRequest) -> int:
        """How many of these steps the machine took and recorded in one go."""
        room = self._recorder.room
        sent = [] if room is None else self._machine.advance_and_record(targets, room, stop)
        reached = targets[: len(sent)]
        self._recorder.added(len(sent))
        self._sent += sent
        self._wrong += [self._machine.fault_counts for _ in reached]
        self._pending += reached
        return len(reached)

    @property
    def _last_recorded(self) -> int:
        """The step of the last record, −1 before the first."""
        if self._pending:
            return self._pending[-1]
        return int(self.steps[-1]) if self.ledger.records else -1

    def _add_record(self) -> None:
        self._recorder.add(self._machine.x)
        self._sent.append(self._machine.vectors_sent)
        self._wrong.append(self._machine.fault_counts)
        self._pending.append(self.step)

    def _is_full(self) -> bool:
        return len(self._pending) == self._recorder.capacity

    def _measure(self) -> None:
        """Measure the records that are not yet, and let go of the replicas that are done."""
        count, r = len(self._pending), len(self.active)
        if not count:
            return
        with np.errstate(all="ignore"):
            measured, iterates, known = self._recorder.flush()
            size = measured.get("distance")
            if size is None:
                size = self._scope.distance(self._center, known)
            if size is None:
                size = self._size(iterates)
            bad = ~(size.reshape(count, r) <= self._limit[self.active])
            if known[1] is None:
                # Of x̄ only: how far the workers are from it is looked at once.
                bad[-1] |= self._are_beyond()
        before = self.ledger.records
        first_bad = np.where(bad.any(axis=0), bad.argmax(axis=0), count)
        # Once diverged, always diverged, even where a schedule lets the iterates come back.
        first_bad[self.diverged[self.active]] = 0
        leave = first_bad < count
        self.diverged[self.active[leave]] = True
        is_bad = np.arange(count)[:, None] >= first_bad
        for values in measured.values():
            each = is_bad if values.ndim == 2 else is_bad[:, None]
            np.copyto(values, np.nan, where=each)
        sent = _stacked(self._sent, r)
        if self._stopping:
            met = np.broadcast_to(self._stopping.met(measured, sent), (count, r))
            first = np.where(met.any(axis=0), met.argmax(axis=0), count)
            stop = first < np.minimum(first_bad, count)
            for k in np.flatnonzero(stop):
                x = iterates[first[k]]
                x = x[..., k] if self.plan.has_axis else x
                self.ledger.stop(int(self.active[k]), before + int(first[k]), x)
            leave = leave | stop
        kept = None
        if self._keeps_iterates:
            kept = iterates[:, self._kept_workers].copy()
            for k in np.flatnonzero(first_bad < count):
                kept[first_bad[k] :, ..., *((k,) if self.plan.has_axis else ())] = np.nan
        measured = measured | self._counted()
        self.ledger.add(Block(self._pending, self.active, measured, sent, kept))
        self._pending, self._sent, self._wrong = [], [], []
        if leave.any():
            self._leave(leave)

    def _counted(self) -> dict[str, np.ndarray]:
        """What went wrong by each of the records that are not measured yet, ``(k, r)`` each."""
        names = self._wrong[0] if self._wrong else ()
        return {f"{FAULTS}{name}": np.stack([each[name] for each in self._wrong]) for name in names}

    @property
    def fault_names(self) -> tuple[str, ...]:
        """What is counted of what goes wrong."""
        return tuple(self._machine.fault_counts)

    def _size(self, iterates: np.ndarray) -> np.ndarray:
        """How far those who are measured are from the center; see `_squared_size`."""
        return _squared_size(self._scope.of(iterates), self._center)

    def _are_beyond(self) -> np.ndarray:
        """Which of the active replicas are too far away after the last step."""
        size = self._size(self._machine.x[None]).ravel()
        return np.asarray(~(size <= self._limit[self.active]))

    def _leave(self, leave: np.ndarray) -> None:
        """Go on without these replicas (a boolean mask over the active ones).

        Of those that diverged one goes on, as NaN: the records of all of them are still to come, up
        to the last step, and what is sent is still counted.
        """
        stay = ~leave
        gone = self.diverged[self.active]
        if gone.any() and not (gone & stay).any():
            stay[np.argmax(gone)] = True
        self._keep(stay)

    def _keep(self, stay: np.ndarray) -> None:
        """Compute these replicas only (a boolean mask over the active ones)."""
        if stay.all():
            return
        self.active = self.active[stay]
        if not self.plan.has_axis or not len(self.active):
            return
        self._streams.keep(stay)
        self._machine.keep(stay)
        self._recorder.keep(stay)

    # -- kept and gone on with ---------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """About how many a state takes: iterates, messages and what else the machine holds."""
        return self._machine.nbytes + self._recorder.pending.nbytes

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, as plain data; copies."""
        assert self._resumable, "iterates that are not measured yet were not kept"
        return {
            "machine": self._machine.state(),
            "streams": self._streams.state(),
            "ledger": self.ledger.state(),
            "active": self.active.copy(),
            "pending": {
                "steps": list(self._pending),
                "sent": _stacked(self._sent, len(self.active)),
                "faults": self._counted(),
                "iterates": saved(self._recorder.pending),
            },
        }

    def restore(self, state: dict[str, Any], recorded: Block, record_steps: set[int]) -> None:
        """Go on from a `state`.

        Args:
            state: of a run with the same parts.
            recorded: what was recorded until then, of all replicas.
            record_steps: where the longer run records; other records that are not measured are dropped.
        """
        active = np.asarray(state["active"])
        self._keep(np.isin(self.active, active))
        self._machine.restore(state["machine"])
        self._streams.restore(state["streams"])
        self.ledger.restore(state["ledger"], recorded)
        pending = state["pending"]
        iterates = laid_out(pending["iterates"])
        wrong = pending["faults"]
        self._recorder.hold(len(pending["steps"]))
        for k, (step, sent, x) in enumerate(
            zip(pending["steps"], pending["sent"], iterates, strict=True)
        ):
            if step in record_steps:
                self._wrong.append({name.removeprefix(FAULTS): of[k] for name, of in wrong.items()})
                self._recorder.add(x)
                self._pending.append(int(step))
                self._sent.append(sent)


def _stacked(sent: list[float | np.ndarray], r: int) -> np.ndarray:
    """What was sent at each record, ``(k,)``, or ``(k, r)`` where replicas differ."""
    if any(isinstance(each, np.ndarray) and each.ndim for each in sent):
        return np.stack([np.broadcast_to(each, (r,)) for each in sent])
    return np.array(sent)


def _divergence_limit(center: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Largest squared size (1/n) Σ‖x_i − c‖² before a replica counts as diverged, ``(r,)``.

    c is x* where it is known, else 0. A start at c itself, up to rounding, is measured by ‖c‖, but by
    1 at the least.
    """
    fallback = max(float(center @ center), 1.0)
    return DIVERGED_BEYOND**2 * np.where(start > 1e-26 * fallback, start, fallback)


def _squared_size(iterates: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(1/n) Σ_i ‖x_i − c‖² of iterates ``(k, n, d[, r])``, as ``(k[, r])``."""
    total = 0.0
    for rows in row_blocks(iterates[0]):
        part = iterates[:, rows]
        if center.any():
            part = part - center.reshape((-1,) + (1,) * (iterates.ndim - 3))
        total = total + np.einsum("tnd...,tnd...->t...", part, part)
    return np.asarray(total) / iterates.shape[1]
