"""Steps of a `Tape`, taken by NumPy: its operations as calls on arrays that stay, with nothing between them.

They do what the rule's own step does, operation by operation, and have its bits.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from relaysim.engine.binding import Binding, Call, Gradient, shaped
from relaysim.engine.layout import Layout
from relaysim.engine.recorded import BYTES_MEASURED_AT_ONCE, Records
from relaysim.engine.states import bytes_of
from relaysim.engine.tape import Tape, UntraceableError
from relaysim.engine.tracing import flattened, is_numbers, rebuilt, recorded_leaf
from relaysim.support import operations
from relaysim.support.interrupts import StopRequest

__all__ = ["Calls"]

# Registers change places with each step; after so many each is back at the most.
MOST_PHASES = 24
# Records that are further apart are left to who looks in between whether someone asked to stop.
MOST_STEPS_BETWEEN_RECORDS = 16


class Calls:
    """The state of a run, in arrays that calls of NumPy overwrite.

    Args:
        tape: the operations of a step, all of which are alike.
        state: where it begins.
        gradient: what the tape's `operations.ASK` asks.

    ``vectors`` are sent in each step; ``nbytes`` of the state.

    Raises:
        UntraceableError: arrays that change places too often.
    """

    is_large = False
    is_over = False
    most_steps = sys.maxsize

    def __init__(self, tape: Tape, state: Any, gradient: Gradient):
        assert not tape.tallies, "everyone is heard"
        assert not tape.changed, "steps are all alike"
        self.vectors, self._shape = tape.vectors, tape.shape
        self._columns = math.prod(tape.shape[1:])
        layout = Layout(tape, 1)
        self._memory = [np.zeros((rows, self._columns)) for rows in layout.rows_of]
        # Where registers lie, step after step, until they lie as at first.
        self._phase, self._places = 0, [np.arange(len(self._memory))]
        while (following := self._places[-1][layout.follows]).tolist() != self._places[0].tolist():
            self._places.append(following)
            if len(self._places) > MOST_PHASES:
                raise UntraceableError("arrays that change places too often")
        binding = Binding(tape, gradient)
        self._steps = [self._bound(layout, binding, at.tolist()) for at in self._places]
        self._held: list[int | np.ndarray] = []
        registers = iter(layout.inputs)
        for values in flattened(state):
            if is_numbers(values, tape.shape):
                register = next(registers)
                self._held.append(register)
                self._write(register, values)
            else:
                self._held.append(values)
        for number, values in tape.constants.items():
            self._write(layout.register_of[number], values)
        recorded = self._held[recorded_leaf(state)]
        assert isinstance(recorded, int)
        self._recorded = recorded
        self._skeleton = rebuilt(state, itertools.repeat(None))
        self.nbytes = bytes_of(state)
        self._records_at_once = max(BYTES_MEASURED_AT_ONCE // max(state.x.nbytes, 1), 1)
        # Where iterates lie until they are measured, if nobody needs them after.
        self._measured_only = np.empty((self._records_at_once, *state.x.shape))

    def _bound(self, layout: Layout, binding: Binding, places: list[int]) -> list[Call]:
        """The calls of a step while registers lie so."""
        calls: list[Call] = []
        memory = self._memory
        for (kind, *registers), number in zip(layout.code.tolist(), layout.numbers, strict=True):
            out, a, b, c, further = (memory[places[each]] for each in registers)
            if kind == operations.RELAY:
                calls += binding.relay(a, b, c, out, further)
            else:
                calls += binding.calls(kind, out, a, b, c, number)
        return calls

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; a copy."""
        return self._read(self._recorded)

    @property
    def state(self) -> Any:
        """What a step of the rule would take up; copies."""
        leaves = (self._read(each) if isinstance(each, int) else each for each in self._held)
        return rebuilt(self._skeleton, leaves)

    def advance(self, step: int, target: int) -> int:
        """Go on from a step to another one, which is returned."""
        steps, phase = self._steps, self._phase
        for _ in range(target - step):
            for call in steps[phase]:
                call()
            phase = (phase + 1) % len(steps)
        self._phase = phase
        return target

    def record(self, step: int, targets: Sequence[int], records: Records, stop: StopRequest) -> int:
        """Go on to the first of these steps, and write there what is recorded; returns the last step."""
        count = 0
        iterates = records.iterates if len(records.iterates) else self._measured_only
        for target, record in zip(targets[: self._records_at_once], iterates, strict=False):
            if target - step > MOST_STEPS_BETWEEN_RECORDS:
                break
            step = self.advance(step, target)
            record[...] = shaped(self._at(self._recorded), self._shape)
            count += 1
            if stop.made:
                break
        if count:
            records.measure(0, iterates[:count])
        return step

    # -- registers ---------------------------------------------------------------------------------

    def _at(self, register: int) -> np.ndarray:
        return self._memory[self._places[self._phase][register]]

    def _write(self, register: int, values: np.ndarray) -> None:
        """Fill a register with ``(rows, d[, r])``."""
        self._at(register)[:] = values.reshape(len(values), self._columns)

    def _read(self, register: int) -> np.ndarray:
        """What is in it; a copy."""
        return shaped(self._at(register).copy(), self._shape)
