"""Measuring the iterates while a simulation runs.

Iterates are gathered in blocks and measured a block at a time, which costs a few array operations for
many steps instead of many for each. x̄ and Ξ², which need the numbers of all workers, are measured of
fewer records at once, while these are in the cache.
"""

from __future__ import annotations

import numpy as np

from relaysim.engine.recorded import BYTES_MEASURED_AT_ONCE, Records
from relaysim.measures.block import Known
from relaysim.measures.deviations import means_and_spreads, means_of
from relaysim.measures.measure import Measure
from relaysim.measures.scope import Scope

__all__ = ["Recorder"]

BLOCK_BYTES = 1 << 21
# Compiled steps cost little: that some are taken in vain, when a replica stops within a block, matters less.
TIMES_IF_COMPILED = 4
MOST_RECORDS_IN_A_BLOCK = 256


class Recorder:
    """Collects iterates ``(n, d[, r])`` and turns them into one value a record and replica.

    Args:
        scope: whose iterates are measured, and on what.
        shape: of the iterates.
        measures: what is measured of them.
        may_compile: whether steps may be compiled.
        keeps_iterates: whether anyone but the measures may ask for them.

    ``capacity`` is the number of records that make a block.
    """

    def __init__(
        self,
        scope: Scope,
        shape: tuple[int, ...],
        measures: tuple[Measure, ...],
        may_compile: bool = False,
        keeps_iterates: bool = True,
    ):
        self.measures, self._scope = measures, scope
        needs = "workers" if keeps_iterates else scope.needs(measures)
        self._needs_iterates, self._needs_spreads = needs == "workers", needs != "mean"
        self._block_bytes = BLOCK_BYTES * (TIMES_IF_COMPILED if may_compile else 1)
        self._resize(shape)

    def _resize(self, shape: tuple[int, ...]) -> None:
        bytes_each = max(8 * int(np.prod(shape)), 1)
        self.capacity = min(max(self._block_bytes // bytes_each, 1), MOST_RECORDS_IN_A_BLOCK)
        self._at_once = max(BYTES_MEASURED_AT_ONCE // bytes_each, 1)
        self._shape = shape
        self._records = self._empty() if self.capacity > 1 else None
        self._last: np.ndarray | None = None
        # Records, and the first of them of which means and spreads are known.
        self._filled = self._measured = 0

    def _empty(self) -> Records:
        records = Records.empty(self.capacity, self._shape)
        return records if self._needs_spreads else records._replace(spreads=records.spreads[:0])

    def add(self, x: np.ndarray) -> None:
        """Record the iterates of one step."""
        if self._records is None:
            self._last = x
        else:
            self._records.iterates[self._filled] = x
        self._filled += 1
        if self._filled - self._measured == self._at_once:
            self._catch_up()

    def _catch_up(self) -> None:
        """Measure the means and spreads of the records of which they are not known."""
        if self._records is not None and self._measured < self._filled:
            self._records.measure(
                self._measured, self._records.iterates[self._measured : self._filled]
            )
            self._measured = self._filled

    def hold(self, count: int) -> None:
        """Make room in the next block for so many records at the least: a run that goes on elsewhere may have
        gathered more than would be measured here at once.
        """
        if count > self.capacity:
            self.capacity = count
            self._records = self._empty()

    @property
    def room(self) -> Records | None:
        """Where further records go; views. None where they are measured one by one."""
        if self._records is None:
            return None
        self._catch_up()
        iterates, means, spreads = (each[self._filled :] for each in self._records)
        return Records(iterates if self._needs_iterates else iterates[:0], means, spreads)

    def added(self, count: int) -> None:
        """So many records were written into `room`."""
        self._measured += count
        self._filled += count

    @property
    def pending(self) -> np.ndarray:
        """The iterates that are not measured yet, ``(k, n, d[, r])``; a view."""
        if self._records is not None:
            return self._records.iterates[: self._filled]
        if self._filled and self._last is not None:
            return self._last[None]
        return np.empty((0, *self._shape))

    def _known(self) -> Known:
        """x̄ and (1/n) Σ_i ‖x_i − x̄‖² of all `pending` iterates; copies."""
        self._catch_up()
        if self._records is None:
            pending = self.pending
            return means_and_spreads(pending) if self._needs_spreads else (means_of(pending), None)
        # Columns may be what was recorded itself, and the next block overwrites it.
        means, spreads = (each[: self._filled].copy() for each in self._records[1:])
        return means, spreads if self._needs_spreads else None

    def flush(self) -> tuple[dict[str, np.ndarray], np.ndarray, Known]:
        """Measure the block: values by name, see `Scope.values_of`, the iterates ``(k, n, d[, r])``, and what
        `_known` says of them.

        The iterates are a view that the next record overwrites, and anything where nobody needs them.
        """
        block, known = self.pending, self._known()
        self._filled = self._measured = 0
        return self._scope.values_of(block, self.measures, known), block, known

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._resize((*self._shape[:2], int(np.count_nonzero(replicas))))
