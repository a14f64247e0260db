"""What was recorded of a run, replica by replica, while replicas leave the computation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Block", "Ledger"]


class Block(NamedTuple):
    """Some records in a row, of the replicas that were computed then.

    ``active`` has their numbers in the plan; ``measured`` each measure ``(k, active)``, or
    ``(k, n, active)`` where it is one of every worker; ``sent`` ``(k,)``, or ``(k, active)`` where
    replicas send differently; ``iterates`` ``(k, n, d[, active])`` of all workers or some, or None;
    ``steps`` the k steps.
    """

    steps: list[int]
    active: np.ndarray
    measured: dict[str, np.ndarray]
    sent: np.ndarray
    iterates: np.ndarray | None


class Ledger:
    """The records of all r replicas; the only place that scatters what was computed over them.

    Args:
        r: replicas.
        has_axis: whether iterates carry a replica axis.

    ``diverged (r,)`` and ``stopped_at (r,)``, the number of the last record of a replica that stopped
    below its target, else −1.
    """

    def __init__(self, r: int, has_axis: bool):
        self.r, self.has_axis = r, has_axis
        self.diverged = np.zeros(r, dtype=bool)
        self.stopped_at = np.full(r, -1)
        #: How many there are.
        self.records = 0
        self._blocks: list[Block] = []
        self._ends: dict[int, np.ndarray] = {}

    def add(self, block: Block) -> None:
        """Write down some records."""
        self._blocks.append(block)
        self.records += len(block.steps)

    def stop(self, replica: int, record: int, x: np.ndarray) -> None:
        """A replica ends with a record, at x ``(n, d)``."""
        self.diverged[replica] = False
        self.stopped_at[replica] = record
        self._ends[replica] = np.array(x)

    @property
    def steps(self) -> np.ndarray:
        """The steps recorded so far."""
        return np.array([step for block in self._blocks for step in block.steps], dtype=np.int64)

    @property
    def last_record(self) -> np.ndarray:
        """The number of each replica's last record, ``(r,)``."""
        return np.where(self.stopped_at >= 0, self.stopped_at, self.records - 1)

    def column(self, name: str) -> np.ndarray:
        """One measure at all records, ``(records[, n], r)``; NaN where a replica had left."""
        parts = [block.measured[name] for block in self._blocks]
        return self._scattered(parts, parts[0].shape[1:-1] if parts else ())

    def sent(self) -> np.ndarray:
        """Vectors sent at all records, ``(records,)``, or ``(records, r)`` where replicas differ."""
        parts = [block.sent for block in self._blocks]
        if all(part.ndim == 1 for part in parts):
            return np.concatenate(parts) if parts else np.array([])
        table = self._scattered(
            [
                part if part.ndim == 2 else np.repeat(part[:, None], len(block.active), axis=1)
                for part, block in zip(parts, self._blocks, strict=True)
            ],
            (),
        )
        for record in range(1, len(table)):  # a replica that has left sends no more
            gone = np.isnan(table[record])
            table[record, gone] = table[record - 1, gone]
        return table

    def iterates(self) -> np.ndarray | None:
        """Those that were kept, ``(records, n, d[, r])``; NaN after a replica's last record."""
        parts = [block.iterates for block in self._blocks if block.iterates is not None]
        if not parts:
            return None
        inner = parts[0].shape[1:3]
        result = self._scattered(parts, inner) if self.has_axis else np.concatenate(parts)
        for replica, last in enumerate(self.last_record):
            result[last + 1 :, ..., *((replica,) if self.has_axis else ())] = np.nan
        return result

    def ends(self, present: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The iterates of all replicas after the last step, ``(n, d[, r])``.

        Args:
            present: those of the replicas that are still computed.
            active: their numbers.
        """
        if not self.has_axis:
            result = self._ends.get(0, present)
            return np.full_like(result, np.nan) if self.diverged[0] else result
        result = np.full((*present.shape[:2], self.r), np.nan)
        if len(active):
            result[..., active] = present
        for replica, x in self._ends.items():
            result[..., replica] = x
        result[..., self.diverged] = np.nan
        return result

    def _scattered(self, parts: list[np.ndarray], inner: tuple[int, ...]) -> np.ndarray:
        """Parts ``(k, …, active)``, a block each, as ``(records, …, r)``."""
        result = np.full((self.records, *inner, self.r), np.nan)
        start = 0
        for block, part in zip(self._blocks, parts, strict=True):
            stop = start + len(part)
            if len(block.active) == self.r:
                result[start:stop] = part
            else:
                result[start:stop, ..., block.active] = part
            start = stop
        return result

    # -- kept and gone on with ---------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Which replicas left, and where; what they recorded is in the history."""
        return {
            "records": self.records,
            "diverged": self.diverged.copy(),
            "stopped_at": self.stopped_at.copy(),
            "ends": {str(replica): x for replica, x in self._ends.items()},
        }

    def restore(self, state: dict[str, Any], block: Block) -> None:
        """Go on from a `state`; the records until then are one block of all replicas."""
        self.diverged = np.array(state["diverged"])
        self.stopped_at = np.array(state["stopped_at"])
        self._ends = {int(replica): x for replica, x in state["ends"].items()}
        self._blocks = [block] if block.steps else []
        self.records = len(block.steps)
