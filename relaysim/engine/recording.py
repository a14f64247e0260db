"""Measuring the iterates while a simulation runs.

Iterates are gathered in blocks that fit the cache and measured a block at a time, which costs a few
array operations for many steps instead of many for each.
"""

from __future__ import annotations

import numpy as np

from relaysim.engine.recorded import Records
from relaysim.measures.measure import Measure
from relaysim.measures.scope import Scope

__all__ = ["Recorder"]

BLOCK_BYTES = 1 << 20
# What compiled steps write into a block is measured as it is written, so that it need not fit the cache.
TIMES_IF_COMPILED = 8
MOST_RECORDS_IN_A_BLOCK = 256


class Recorder:
    """Collects iterates ``(n, d[, r])`` and turns them into one value a record and replica.

    Args:
        scope: whose iterates are measured, and on what.
        shape: of the iterates.
        measures: what is measured of them.
        may_compile: whether compiled steps may write them.

    ``capacity`` is the number of records that make a block.
    """

    def __init__(
        self,
        scope: Scope,
        shape: tuple[int, ...],
        measures: tuple[Measure, ...],
        may_compile: bool = False,
    ):
        self.measures, self._may_compile = measures, may_compile
        self._scope = scope
        self._resize(shape)

    def _resize(self, shape: tuple[int, ...]) -> None:
        bytes_each = max(8 * int(np.prod(shape)), 1)
        most = BLOCK_BYTES * (TIMES_IF_COMPILED if self._may_compile else 1)
        self.capacity = min(max(most // bytes_each, 1), MOST_RECORDS_IN_A_BLOCK)
        self._shape = shape
        self._records = Records.empty(self.capacity, shape) if self.capacity > 1 else None
        self._last: np.ndarray | None = None
        # Records, and the first of them of which means and spreads are known.
        self._filled = self._measured = 0

    def add(self, x: np.ndarray) -> None:
        """Record the iterates of one step."""
        if self._records is None:
            self._last = x
        else:
            self._records.iterates[self._filled] = x
        self._filled += 1

    def hold(self, count: int) -> None:
        """Make room in the next block for so many records at the least: a run that goes on elsewhere may have
        gathered more than would be measured here at once.
        """
        if count > self.capacity:
            self.capacity = count
            self._records = Records.empty(count, self._shape)

    @property
    def room(self) -> Records | None:
        """Where further records go; views. None where they are measured one by one."""
        if self._records is None:
            return None
        return Records(*(each[self._filled :] for each in self._records))

    def added(self, count: int) -> None:
        """So many records were written into `room`."""
        if self._measured == self._filled:
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

    @property
    def known(self) -> tuple[np.ndarray, np.ndarray] | None:
        """x̄ and (1/n) Σ_i ‖x_i − x̄‖² of all `pending` iterates, if they were recorded with them; copies."""
        if self._records is None or self._measured < self._filled:
            return None
        # Columns may be what was recorded itself, and the next block overwrites it.
        return (
            self._records.means[: self._filled].copy(),
            self._records.spreads[: self._filled].copy(),
        )

    def flush(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Measure the block: values by name, see `Scope.values_of`, and the iterates ``(k, n, d[, r])``.

        The iterates are a view that the next record overwrites.
        """
        block, known = self.pending, self.known
        self._filled = self._measured = 0
        return self._scope.values_of(block, self.measures, known), block

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._resize((*self._shape[:2], int(np.count_nonzero(replicas))))
