"""Which register each array of a tape is in."""

from __future__ import annotations

from collections import Counter

import numpy as np

from relaysim.engine.tape import Operation, Tape
from relaysim.support import operations

__all__ = ["Layout"]


class Layout:
    """Which register each array of a tape is in, and what becomes of registers when a step ends.

    Attributes:
        code, numbers: see `relaysim.support.kernels.operate`.
        places: the row with which each register begins at first.
        rows: of all registers, and ``rows_of`` each: its workers or edges.
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
        self.rows_of = [rows for rows, _ in self._kinds]
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
    """Those from which something comes, and what is asked, which may draw."""
    wanted, kept = set(outputs), []
    for operation in reversed(steps):
        if operation.kind == operations.ASK or wanted.intersection(operation.results):
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
