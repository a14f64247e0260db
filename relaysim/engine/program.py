"""Steps of a `Tape`, taken by compiled loops, many in one call."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from relaysim.engine.layout import Layout
from relaysim.engine.recorded import Records
from relaysim.engine.states import bytes_of
from relaysim.engine.tape import Tape
from relaysim.engine.tracing import flattened, is_numbers, is_tally, rebuilt, recorded_leaf
from relaysim.network.gossip import entries_by_row
from relaysim.support.blocks import row_blocks
from relaysim.support.fast import Compiled
from relaysim.support.interrupts import StopRequest
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
        self._layout = Layout(tape, self._lanes)
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
        leaves = flattened(state)
        registers = iter(zip(tape.inputs, self._layout.inputs, strict=True))
        held: list[tuple[Callable, int, np.ndarray | slice] | np.ndarray] = []
        self._heard = -1  # the register of who is, while not everyone is
        by_receiver, back = _order_by_receiver(tape)
        for k, values in enumerate(leaves):
            is_tallied = bool(tape.tallies) and is_tally(values)
            if is_tallied or is_numbers(values, tape.shape):
                number, register = next(registers)
                is_message = number in tape.messages
                read = self._read_tally if is_tallied else self._read
                write = self._write_tally if is_tallied else self._write
                held.append((read, register, back if is_message else slice(len(values))))
                write(register, values[by_receiver] if is_message else values)
                if is_tallied and not is_message:
                    self._heard = register
            else:
                held.append(tape.changed.get(k, values))
        self._recorded = held[recorded_leaf(state)][1]
        self._skeleton, self._held = rebuilt(state, itertools.repeat(None)), held
        self.nbytes = bytes_of(state)

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; a copy."""
        return self._read(self._recorded, slice(self._n))

    @property
    def state(self) -> Any:
        """What a step of the rule would take up; copies."""
        leaves = (each[0](*each[1:]) if isinstance(each, tuple) else each for each in self._held)
        return rebuilt(self._skeleton, leaves)

    def advance(self, step: int, target: int) -> int:
        """Go on from a step to another one; returns the last step.

        It ends before if from then on steps are different ones: see `is_over`.
        """
        if self.is_large:
            return self._advance_by_rows(step, target)
        return self._advance(step, [target], Records.empty(0, self._shape))

    def record(self, step: int, targets: Sequence[int], records: Records, stop: StopRequest) -> int:
        """Go on to the first of these steps, and write there what is recorded; returns the last step."""
        assert not self.is_large, "large records are written one by one"
        some = [each for each in targets if each <= step + self.steps_at_once]
        return self._advance(step, some, records) if some else step

    def _advance(self, step: int, targets: Sequence[int], records: Records) -> int:
        iterates, means, spreads = records
        if means.ndim == 2:
            iterates, means, spreads = iterates[..., None], means[..., None], spreads[..., None]
        steps = np.asarray(targets, dtype=np.int64)
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
                                step,
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

    def _read_tally(self, register: int, order: np.ndarray | slice) -> np.ndarray:
        memory, places = self._groups[0]
        return memory[places[register] :].reshape(-1)[order].astype(np.int64)

    def _read(self, register: int, order: np.ndarray | slice) -> np.ndarray:
        rows = order.stop if isinstance(order, slice) else len(order)
        found = np.empty((rows, self._d, self._r))
        if self._lanes == self._r:
            memory, places = self._groups[0]
            found.reshape(rows, -1)[:] = memory[places[register] :][order]
            return found.reshape(rows, *self._shape[1:])
        for group, (memory, places) in enumerate(self._groups):
            values = memory[places[register] :][order].reshape(rows, self._d, self._lanes)
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
    """Entries of each W by row, their columns and where rows begin, with its diagonal and without."""
    found: list[np.ndarray] = []
    for diagonal in (True, False):
        weights, columns = [np.empty(0)], [np.empty(0, dtype=np.int64)]
        begins, count = np.empty((len(tape.matrices), tape.shape[0] + 1), dtype=np.int64), 0
        for k, W in enumerate(tape.matrices):
            _, own_columns, own_offsets, own_weights = entries_by_row(W, diagonal)
            begins[k] = own_offsets + count
            weights.append(own_weights)
            columns.append(own_columns)
            count += len(own_weights)
        found += [np.concatenate(weights).astype(float), np.concatenate(columns).astype(np.int64)]
        found.append(begins)
    return tuple(found)


def _order_by_receiver(tape: Tape) -> tuple[np.ndarray, np.ndarray]:
    """Which message is k-th if they are sorted by receiver, and where each is then."""
    if tape.tree is None:
        return (np.empty(0, dtype=np.intp),) * 2
    order = np.lexsort((tape.tree.src, tape.tree.dst))
    return order, np.argsort(order)


def _tree(tape: Tape) -> tuple[np.ndarray, ...]:
    """Sources and reverses of edges, sorted by receiver, and where those of each begin."""
    if tape.tree is None:
        return tuple(np.empty(0, dtype=np.int64) for _ in range(3))
    order, back = _order_by_receiver(tape)
    src, dst, reverse = (each[order] for each in tape.tree[:3])
    offsets = np.searchsorted(dst, np.arange(tape.shape[0] + 1))
    return tuple(each.astype(np.int64) for each in (src, back[reverse], offsets))
