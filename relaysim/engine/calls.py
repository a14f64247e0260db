"""Steps of a `Tape`, taken by NumPy: its operations as calls on arrays that stay, with nothing between them.

They do what the rule's own step does, operation by operation, and have its bits.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from relaysim.engine.binding import Binding, Call, Edges, Gradient, shaped
from relaysim.engine.layout import Layout
from relaysim.engine.recorded import Records
from relaysim.engine.states import bytes_of
from relaysim.engine.tape import Tape, UntraceableError
from relaysim.engine.tracing import flattened, is_numbers, rebuilt, recorded_leaf
from relaysim.measures.deviations import means_and_spreads
from relaysim.support import operations
from relaysim.support.blocks import row_blocks

__all__ = ["Calls"]

# Of the arrays of some replicas that are computed together, so that what a step needs stays in the cache.
BYTES_TOGETHER = 1 << 17
# Of records of which means and spreads are computed together.
BYTES_MEASURED_TOGETHER = 1 << 19
# Registers change places with each step; after so many each is back at the most.
MOST_PHASES = 24
# What calls take at the most before it is looked whether someone asked to stop.
SECONDS_AT_ONCE, SECONDS_A_CALL, SECONDS_A_NUMBER = 0.03, 1e-6, 1e-9


class Calls:
    """The state of a run, in arrays that calls of NumPy overwrite.

    Args:
        tape: the operations of a step.
        state: where it begins.
        gradient: what the tape's `operations.ASK` asks.

    ``vectors`` are sent in each step; ``steps_at_once`` of them take a few hundredths of a second; ``nbytes``
    of the state. Steps are alike to the end of the run.

    Raises:
        UntraceableError: steps that are not alike.
    """

    is_large = False
    is_over = False
    most_steps = sys.maxsize

    def __init__(self, tape: Tape, state: Any, gradient: Gradient):
        if tape.tallies or tape.changed:
            raise UntraceableError("steps that are not alike")
        self.vectors = tape.vectors
        self._shape = tape.shape
        layout = Layout(tape, 1)
        r = self._shape[2] if len(self._shape) == 3 else 1
        asks = (layout.code[:, 0] == operations.ASK).any()
        self._groups = [
            _Group(tape, layout, replicas, gradient)
            for replicas in _together(r, r if asks else _replicas_together(self._shape))
        ]
        leaves, registers = flattened(state), iter(layout.inputs)
        self._held: list[int | np.ndarray] = []
        for values in leaves:
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
        calls = sum(len(group.phases[0]) for group in self._groups)
        numbers = calls * np.prod(self._shape) / len(self._groups)
        seconds = calls * SECONDS_A_CALL + numbers * SECONDS_A_NUMBER
        self.steps_at_once = int(max(SECONDS_AT_ONCE / max(seconds, 1e-9), 1))

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; a copy."""
        return self._read(self._recorded)

    @property
    def state(self) -> Any:
        """What a step of the rule would take up; copies."""
        leaves = (self._read(each) if isinstance(each, int) else each for each in self._held)
        return rebuilt(self._skeleton, leaves)

    def advance(self, step: int, targets: Sequence[int], records: Records | None = None) -> int:
        """Go on from a step to each of these, and write there what is recorded; returns the last step."""
        for group in self._groups:
            group.advance(step, targets, self._recorded, records)
        return targets[-1]

    def _write(self, register: int, values: np.ndarray) -> None:
        for group in self._groups:
            group.write(register, values[..., group.replicas] if values.ndim == 3 else values)

    def _read(self, register: int) -> np.ndarray:
        parts = [group.read(register) for group in self._groups]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _replicas_together(shape: tuple[int, ...]) -> int:
    return max(BYTES_TOGETHER // (8 * shape[0] * shape[1]), 1)


def _together(r: int, most: int) -> list[slice]:
    """r replicas in as few groups of at most so many as there can be, of about one size."""
    bounds = np.linspace(0, r, -(-r // most) + 1).astype(int)
    return [slice(*pair) for pair in itertools.pairwise(bounds.tolist())]


class _Group:
    """Some replicas: their registers, and the calls of a step for each way in which registers lie.

    Args:
        tape, layout: of all.
        replicas: of them.
        gradient: see `Calls`.

    ``phases``: the calls of one step after the other, after which it begins anew.
    """

    def __init__(self, tape: Tape, layout: Layout, replicas: slice, gradient: Gradient):
        self.replicas = replicas
        self._shape = tape.shape
        self._columns = tape.shape[1] * (replicas.stop - replicas.start)
        self._n = tape.shape[0]
        self._edges = Edges(tape) if tape.tree is not None else None
        # Messages have those who send them before them, to be taken with them.
        self._whole = [
            np.zeros((rows + self._before(rows), self._columns)) for rows in layout.rows_of
        ]
        self._memory = [
            each[self._before(rows) :]
            for each, rows in zip(self._whole, layout.rows_of, strict=True)
        ]
        self._binding = Binding(tape, self._columns, gradient, self._edges)
        self._phase = 0
        self._places = [np.arange(len(self._memory))]
        while True:
            following = self._places[-1][layout.follows]
            if (following == self._places[0]).all():
                break
            self._places.append(following)
            if len(self._places) > MOST_PHASES:
                raise UntraceableError("arrays that change places too often")
        self.phases = [self._bound(layout, places.tolist()) for places in self._places]

    # -- steps -------------------------------------------------------------------------------------

    def advance(
        self, step: int, targets: Sequence[int], recorded: int, records: Records | None
    ) -> None:
        """See `Calls.advance`."""
        phases, phase = self.phases, self._phase
        if records is None:
            for _ in range(targets[-1] - step):
                for call in phases[phase]:
                    call()
                phase = (phase + 1) % len(phases)
            self._phase = phase
            return
        iterates, means, spreads = records
        blocks = row_blocks(iterates[0]) if len(iterates) else ()
        together = max(BYTES_MEASURED_TOGETHER // (8 * self._n * self._columns), 1)
        own = self.replicas
        is_all = len(self._shape) == 2 or own == slice(0, iterates.shape[-1])
        here = np.empty((together, *shaped(self._at(recorded, 0), self._shape).shape))
        held = [shaped(self._at(recorded, each), self._shape) for each in range(len(phases))]
        for begin in range(0, len(targets), together):
            some = targets[begin : begin + together]
            end = begin + len(some)
            into = iterates[begin:end] if is_all else here[: len(some)]
            for record, target in zip(into, some, strict=True):
                for _ in range(target - step):
                    for call in phases[phase]:
                        call()
                    phase = (phase + 1) % len(phases)
                step = target
                record[...] = held[phase]
            found = means_and_spreads(into, blocks)
            if is_all:
                means[begin:end], spreads[begin:end] = found
            else:
                iterates[begin:end, ..., own] = into
                means[begin:end, ..., own], spreads[begin:end, ..., own] = found
        self._phase = phase

    def _at(self, register: int, phase: int) -> np.ndarray:
        return self._memory[self._places[phase][register]]

    # -- registers ---------------------------------------------------------------------------------

    def _before(self, rows: int) -> int:
        """The rows that a register of so many has before them."""
        return self._n if self._edges is not None and rows == self._edges.count else 0

    def write(self, register: int, values: np.ndarray) -> None:
        """Fill a register with ``(rows, d[, r])``."""
        into = self._at(register, self._phase)
        flat = values.reshape(len(values), self._columns)
        into[:] = (
            flat[self._edges.order] if self._edges is not None and self._before(len(flat)) else flat
        )

    def read(self, register: int) -> np.ndarray:
        """What is in it; a copy."""
        found = self._at(register, self._phase)
        if self._edges is not None and self._before(len(found)):
            found = found[self._edges.rank]
        return shaped(found.copy(), self._shape)

    def _bound(self, layout: Layout, places: list[int]) -> list[Call]:
        """The calls of a step while registers lie so."""
        calls: list[Call] = []
        memory = self._memory
        for (kind, *registers), number in zip(layout.code.tolist(), layout.numbers, strict=True):
            out, *operands = (places[each] for each in registers)
            a, b, c, further = (memory[each] for each in operands)
            if kind == operations.RELAY:
                calls += self._binding.relay(a, b, self._whole[operands[2]], memory[out], further)
            else:
                calls += self._binding.calls(kind, memory[out], a, b, c, number)
        return calls
