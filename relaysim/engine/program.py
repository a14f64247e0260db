"""Steps of a `Tape`, taken by compiled loops, many in one call."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from relaysim.engine.recorded import Records
from relaysim.engine.states import bytes_of
from relaysim.engine.tape import Operation, Tape
from relaysim.engine.tracing import flattened, is_numbers, is_tally, rebuilt, recorded_leaf
from relaysim.network.gossip import entries_by_row
from relaysim.support import operations
from relaysim.support.blocks import row_blocks
from relaysim.support.fast import Compiled
from relaysim.support.threads import usable_threads

__all__ = ["Program"]

# Replicas that are computed beside each other, several of them in one instruction, while all that a step
# needs of them stays in the cache.
LEAST_LANES, MOST_LANES = 8, 32
BYTES_OF_LANES = 1 << 18
# Registers of more than these go by rows, so many bytes of each at a time.
LARGE_BYTES, BYTES_OF_ROWS = 1 << 20, 1 << 17
# Numbers that operations make before it is looked whether someone asked to stop.
NUMBERS_AT_ONCE = 10**8


class Program:
    """The state of a run, in registers of compiled loops.

    Args:
        tape: the operations of a step.
        state: where it begins.
        compiled: the loops.

    ``vectors`` are sent in each step; ``most_steps`` are alike, and ``steps_at_once`` of them take a few
    hundredths of a second; ``nbytes`` of the state; ``is_large``: records are not written by steps.
    """

    def __init__(self, tape: Tape, state: Any, compiled: Compiled):
        self.vectors = tape.vectors
        self._compiled = compiled
        self._n, self._d, *replicas = self._shape = tape.shape
        self._r = replicas[0] if replicas else 1
        self._lanes = _lanes(self._r, self._n * self._d)
        # As `relaysim.measures` sums up squares.
        self._length = row_blocks(np.broadcast_to(0.0, tape.shape))[0].stop
        self._layout = _Layout(tape, self._lanes)
        edges = _gradient(tape), _mixing(tape), _tree(tape)
        self._what_they_need = (self._n, self._lanes, *edges)
        # A memory for each group of replicas, and where its registers are.
        shape = (self._layout.rows, self._d * self._lanes)
        self._groups = [
            (np.empty(shape), self._layout.places.copy()) for _ in range(0, self._r, self._lanes)
        ]
        self.is_large = 8 * self._n * shape[1] > LARGE_BYTES
        numbers = shape[1] * len(self._groups) * self._n * max(len(self._layout.code), 1)
        self.most_steps = 1 if tape.changed else sys.maxsize
        self.steps_at_once = min(max(NUMBERS_AT_ONCE // numbers, 1), self.most_steps)
        for number, values in tape.constants.items():
            self._write(self._layout.register_of[number], values)
        leaves, registers = flattened(state), iter(self._layout.inputs)
        held: list[tuple[Callable, int, int] | np.ndarray] = []
        self._heard = -1  # the register of who is, while not everyone is
        for k, values in enumerate(leaves):
            if tape.tallies and is_tally(values):
                register = next(registers)
                held.append((self._read_tally, register, len(values)))
                self._write_tally(register, values)
                if len(values) == self._n:
                    self._heard = register
            elif is_numbers(values, tape.shape):
                register = next(registers)
                held.append((self._read, register, len(values)))
                self._write(register, values)
            else:
                held.append(tape.changed.get(k, values))
        self._recorded = held[recorded_leaf(state)][1]
        self._skeleton, self._held = rebuilt(state, itertools.repeat(None)), held
        self.nbytes = bytes_of(state)

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; a copy."""
        return self._read(self._recorded, self._n)

    @property
    def state(self) -> Any:
        """What a step of the rule would take up; copies."""
        leaves = (each[0](*each[1:]) if isinstance(each, tuple) else each for each in self._held)
        return rebuilt(self._skeleton, leaves)

    def advance(self, step: int, targets: Sequence[int], records: Records | None = None) -> int:
        """Go on from a step to each of these, and write there what is recorded; returns the last step.

        It ends before the others if from then on steps are different ones: see `is_over`.
        """
        if records is None:
            records = Records.empty(0, self._shape)
        iterates, means, spreads = records
        if iterates.ndim == 3:
            iterates, means, spreads = iterates[..., None], means[..., None], spreads[..., None]
        steps = np.asarray(targets, dtype=np.int64)
        if self.is_large:
            assert not len(iterates), "large records are written one by one"
            return self._advance_by_rows(step, int(steps[-1]))
        layout = self._layout
        for k, (memory, places) in enumerate(self._groups):
            reached = self._compiled.advance(
                memory,
                places,
                layout.code,
                layout.numbers,
                layout.follows,
                *self._what_they_need,
                steps,
                step,
                self._heard,
                self._recorded,
                iterates,
                means,
                spreads,
                self._length,
                k * self._lanes,
            )
        return reached

    @property
    def is_over(self) -> bool:
        """Whether everyone is heard everywhere, which these steps count."""
        if self._heard < 0:
            return False
        memory, places = self._groups[0]
        heard = memory[places[self._heard] :].reshape(-1)[: self._n]
        return bool((heard == self._n - 1).all())

    def _advance_by_rows(self, step: int, last: int) -> int:
        """Some steps of workers that are many, divided among threads between which rows are exchanged."""
        layout = self._layout
        rows = max(BYTES_OF_ROWS // (8 * self._d * self._lanes), 1)
        threads = usable_threads()
        with ThreadPoolExecutor(threads) as pool:
            while step < last and not self.is_over:
                for memory, places in self._groups:
                    for begin, stop, divides in layout.parts:
                        each = -(-self._n // threads) if divides else self._n
                        calls = [
                            pool.submit(
                                self._compiled.operate_by_rows,
                                memory,
                                places,
                                layout.code,
                                layout.numbers,
                                begin,
                                stop,
                                first,
                                min(first + each, self._n),
                                *self._what_they_need,
                                rows if divides else self._n,
                            )
                            for first in range(0, self._n, each)
                        ]
                        for call in calls:
                            call.result()
                    places[:] = places[layout.follows]
                step += 1
        return step

    # -- registers ---------------------------------------------------------------------------------

    def _write(self, register: int, values: np.ndarray) -> None:
        rows = len(values)
        if self._lanes == self._r:
            memory, places = self._groups[0]
            memory[places[register] :][:rows] = values.reshape(rows, self._d * self._r)
            return
        values = values.reshape(rows, self._d, self._r)
        for group, (memory, places) in enumerate(self._groups):
            into = memory[places[register] :][:rows].reshape(rows, self._d, self._lanes)
            part = values[..., group * self._lanes : (group + 1) * self._lanes]
            into[..., : part.shape[2]] = part
            into[..., part.shape[2] :] = part[..., -1:]  # lanes that are left over

    def _write_tally(self, register: int, values: np.ndarray) -> None:
        for memory, places in self._groups:
            memory[places[register] :].reshape(-1)[: len(values)] = values

    def _read_tally(self, register: int, rows: int) -> np.ndarray:
        memory, places = self._groups[0]
        return memory[places[register] :].reshape(-1)[:rows].astype(np.int64)

    def _read(self, register: int, rows: int) -> np.ndarray:
        found = np.empty((rows, self._d, self._r))
        if self._lanes == self._r:
            memory, places = self._groups[0]
            found.reshape(rows, -1)[:] = memory[places[register] :][:rows]
            return found.reshape(rows, *self._shape[1:])
        for group, (memory, places) in enumerate(self._groups):
            values = memory[places[register] :][:rows].reshape(rows, self._d, self._lanes)
            first = group * self._lanes
            part = found[..., first : first + self._lanes]
            part[:] = values[..., : part.shape[2]]
        return found.reshape(rows, *self._shape[1:])


def _lanes(r: int, numbers: int) -> int:
    """How many of r replicas are computed beside each other: groups of one size that the cache holds."""
    most = min(max(BYTES_OF_LANES // (8 * numbers), LEAST_LANES), MOST_LANES)
    return -(-r // -(-r // most))


def _gradient(tape: Tape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hessians, constants, curvatures = np.empty((0, 0, 0)), np.empty((0, 0)), np.empty((0, 0))
    if tape.gradient is not None:
        hessians, constants = map(_plain, tape.gradient)
    if tape.diagonal_gradient is not None:
        curvatures, constants = map(_plain, tape.diagonal_gradient)
    return hessians, constants, curvatures


def _plain(values: np.ndarray) -> np.ndarray:
    """The numbers, in order, and writable: of others loops would be compiled anew."""
    return np.require(values, requirements=["C", "W"])


def _mixing(tape: Tape) -> tuple[np.ndarray, ...]:
    """Entries of W by row, their columns and where rows begin, with its diagonal and without."""
    if tape.matrix is None:
        return (np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)) * 2
    found: list[np.ndarray] = []
    for diagonal in (True, False):
        _, columns, offsets, weights = entries_by_row(tape.matrix, diagonal)
        found += [weights.astype(float), columns.astype(np.int64), offsets.astype(np.int64)]
    return tuple(found)


def _tree(tape: Tape) -> tuple[np.ndarray, ...]:
    if tape.tree is None:
        return tuple(np.empty(0, dtype=np.int64) for _ in range(3))
    return tuple(np.array(each, dtype=np.int64) for each in tape.tree)


class _Layout:
    """Which register each array of a tape is in, and what becomes of registers when a step ends.

    Attributes:
        code, numbers: see `relaysim.support.kernels.operate`.
        places: the row with which each register begins at first.
        rows: of all registers.
        inputs: the registers of the state before a step.
        parts: ranges of operations between which all rows must be done, each with whether its rows may be
            divided.
        follows: of each register, the one whose place it takes when a step ends: a state's new arrays become
            its arrays, without a copy.
        register_of: that of each constant, by its number.
    """

    def __init__(self, tape: Tape, lanes: int):
        steps, outputs = _distinct(tape)
        steps = _joined(_needed(steps, outputs), outputs)
        self._kinds: list[tuple[int, bool]] = []
        self._free: dict[tuple[int, bool], list[int]] = {}
        columns = tape.shape[1] * lanes
        at: dict[int, int] = {}
        last_use = {each: len(steps) for each in (*outputs, *tape.constants)}
        for k, operation in reversed(list(enumerate(steps))):
            for operand in operation.operands:
                last_use.setdefault(operand, k)
        for number in (*tape.inputs, *tape.constants):
            at[number] = self._new(_kind(tape, number))
        code = np.zeros((len(steps), 6), dtype=np.int64)
        for k, (kind, results, operands, _) in enumerate(steps):
            for result in results:
                at[result] = self._taken(_kind(tape, result))
            first, *further = results
            entries = [at[first], *(at[each] for each in operands), *(at[each] for each in further)]
            code[k, : 1 + len(entries)] = [kind, *entries]
            for each in {*operands, *results}:
                if last_use.get(each, k) <= k:
                    self._free.setdefault(_kind(tape, each), []).append(at[each])
        self.code, self.numbers = code, np.array([each.number for each in steps], dtype=float)
        self.inputs = [at[each] for each in tape.inputs]
        self.register_of = {number: at[number] for number in tape.constants}
        sizes = [-(-rows // columns) if tally else rows for rows, tally in self._kinds]
        self.places = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        self.rows = sum(sizes)
        self.follows = self._following([at[each] for each in outputs])
        self.parts = _parts(code)

    def _new(self, kind: tuple[int, bool]) -> int:
        self._kinds.append(kind)
        return len(self._kinds) - 1

    def _taken(self, kind: tuple[int, bool]) -> int:
        free = self._free.get(kind)
        return free.pop() if free else self._new(kind)

    def _following(self, outputs: list[int]) -> np.ndarray:
        follows = np.arange(len(self._kinds))
        follows[self.inputs] = outputs
        # Places that no array of the state took go to registers that gave theirs away.
        for kind in set(self._kinds):
            left = [k for k in self.inputs if k not in outputs and self._kinds[k] == kind]
            given = [k for k in outputs if k not in self.inputs and self._kinds[k] == kind]
            follows[given] = left
        return follows


def _parts(code: np.ndarray) -> list[tuple[int, int, bool]]:
    """Ranges of operations that may go on with some rows while others wait.

    What reads the rows of others begins a new one if these were made in the present one, and so does what
    overwrites them.
    """
    parts, begin = [], 0
    made: set[int] = set()
    read: set[int] = set()
    for k, (kind, *registers) in enumerate(code.tolist()):
        reads, writes = _reads_and_writes(kind, registers)
        whole = kind == operations.AVERAGE
        if k > begin and (whole or reads & made or writes & read):
            parts.append((begin, k, True))
            begin, made, read = k, set(), set()
        made |= writes
        read |= reads
        if whole:
            parts.append((k, k + 1, False))
            begin, made, read = k + 1, set(), set()
    return [*parts, (begin, len(code), True)] if begin < len(code) else parts


def _reads_and_writes(kind: int, registers: list[int]) -> tuple[set[int], set[int]]:
    """The registers of which an operation reads the rows of others, and those that it writes."""
    if kind == operations.RELAY:
        return set(registers[1:4]), {registers[0], registers[4]}
    if kind == operations.COUNT:
        return set(registers[1:3]), {registers[0], registers[3]}
    if kind in (operations.GOSSIP, operations.CHANGE, operations.AVERAGE):
        return {registers[1]}, {registers[0]}
    return set(), {registers[0]}


def _kind(tape: Tape, number: int) -> tuple[int, bool]:
    """The rows of an array, and whether it has one number in each: what may take its place."""
    return tape.rows[number], number in tape.tallies


def _distinct(tape: Tape) -> tuple[list[Operation], list[int]]:
    """Operations and outputs, no two outputs of which are one array and none a constant."""
    steps, outputs = list(tape.operations), []
    for number in tape.outputs:
        if number in outputs or number in tape.constants:
            copy = tape.array(tape.rows[number])
            steps.append(Operation(operations.COPY, (copy,), (number,)))
            number = copy
        outputs.append(number)
    return steps, outputs


def _needed(steps: list[Operation], outputs: list[int]) -> list[Operation]:
    """Those from which something comes."""
    wanted, kept = set(outputs), []
    for operation in reversed(steps):
        if wanted.intersection(operation.results):
            kept.append(operation)
            wanted.update(operation.operands)
    return kept[::-1]


# What is made of an operation and of the one by which its result is used.
_JOINED = {
    (operations.MULTIPLY_BY_NUMBER, operations.SUBTRACT): operations.LESS_MULTIPLE,
    (operations.MULTIPLY, operations.SUBTRACT): operations.LESS_PRODUCT,
    (operations.MULTIPLY, operations.ADD): operations.PLUS_PRODUCT,
    (operations.MULTIPLY_BY_ROW, operations.SUBTRACT): operations.LESS_PRODUCT_WITH_ROW,
    (operations.ADD, operations.MULTIPLY_BY_NUMBER): operations.MULTIPLE_OF_SUM,
}


def _joined(steps: list[Operation], outputs: list[int]) -> list[Operation]:
    """The same with two operations in one where nothing else needs the first one's result."""
    made = {each.results[0]: each for each in steps}
    uses = Counter(operand for each in steps for operand in each.operands)
    joined: set[int] = set()
    result = []
    for operation in steps:
        inner = made.get(operation.operands[-1])
        if inner is not None and uses[operation.operands[-1]] == 1:
            kind = _JOINED.get((inner.kind, operation.kind))
            if kind is not None and operation.operands[-1] not in outputs:
                operands = (*operation.operands[:-1], *inner.operands)
                operation = Operation(
                    kind, operation.results, operands, inner.number or operation.number
                )
                joined.add(inner.results[0])
                made[operation.results[0]] = operation
        result.append(operation)
    return [each for each in result if each.results[0] not in joined]
