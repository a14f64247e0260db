"""Long runs of a sweep with checkpoints in its store, so that one that is killed goes on from the last."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relaysim.engine.continuation import extended
from relaysim.engine.simulation import Experiment, require_steps
from relaysim.records.history import History
from relaysim.records.provenance import provenance
from relaysim.records.state import KeptState
from relaysim.support.interrupts import stops_after

__all__ = ["Checkpoint", "simulated"]

#: How long a run goes on before it is kept; shorter ones never are.
STRETCH_SECONDS = 60.0
_PATIENCE_SECONDS = 60
_MOST_BYTES = 500_000_000  # SQLite takes twice that in one cell
_PARTS = ("problem", "topology", "algorithm", "mixing", "oracle", "faults")


@dataclass(frozen=True)
class Checkpoint:
    """Where a store keeps how far the run of a group has come.

    Attributes:
        store: the file; on a machine that does not have it nothing is kept.
        keys: of the group's settings, as JSON.
    """

    store: pathlib.Path
    keys: str

    @classmethod
    def of(cls, store: pathlib.Path, keys: Iterable[str]) -> Checkpoint:
        """The one of the group of these settings."""
        return cls(store, json.dumps(sorted(keys)))

    @property
    def label(self) -> str:
        """What it is found by."""
        return hashlib.sha256(self.keys.encode()).hexdigest()

    def keep(self, history: History) -> None:
        """Put a history with its state there; what cannot be kept is lost only if the process dies."""
        with contextlib.suppress(sqlite3.Error, OSError), tempfile.TemporaryDirectory() as folder:
            data = history.save(pathlib.Path(folder, "run.npz")).read_bytes()
            if len(data) <= _MOST_BYTES:
                with self._connected() as connection, connection:
                    connection.execute(
                        "INSERT OR REPLACE INTO checkpoints (label, keys, step, history) VALUES (?, ?, ?, ?)",
                        (self.label, self.keys, history.config["steps"], data),
                    )

    def kept(self) -> tuple[History, KeptState] | None:
        """The history that was kept, with its state; None if there is none, or it is of other libraries."""
        with contextlib.suppress(sqlite3.Error, OSError, ValueError):
            with self._connected() as connection:
                query = "SELECT history FROM checkpoints WHERE label = ?"
                row = connection.execute(query, (self.label,)).fetchone()
            if row is not None:
                with tempfile.TemporaryDirectory() as folder:
                    path = pathlib.Path(folder, "run.npz")
                    path.write_bytes(row[0])
                    history = History.load(path)
                # Half of a run with another BLAS would have bits that no machine gives.
                if history._state is not None and history.provenance == provenance():
                    return history, history._state
        return None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        address = f"{self.store.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)
        try:
            yield connection
        finally:
            connection.close()


def simulated(arguments: Mapping[str, Any], checkpoint: Checkpoint) -> History:
    """What `relaysim.simulate` makes of arguments, to the bit; a run that takes long is kept now and then.

    Args:
        arguments: of `simulate`, none of which concerns what is kept or shown.
        checkpoint: where.
    """
    experiment = Experiment(**arguments)
    require_steps(experiment.parts["algorithm"], experiment.steps)
    if not experiment.can_pause:
        return experiment.history(False, False)
    steps, found = experiment.steps, checkpoint.kept()
    history: History | None = None
    if found is not None:
        given = {name: arguments[name] for name in _PARTS if name in arguments}
        # What was kept by another version begins anew.
        with contextlib.suppress(ValueError):
            history = _further(*found, steps, given)
    if history is None:
        with stops_after(STRETCH_SECONDS) as stop:
            history = experiment.history(None, False, stop)
    while history.interrupted and history._state is not None:
        checkpoint.keep(history)
        history = _further(history, history._state, steps, {})
    return history


def _further(history: History, state: KeptState, steps: int, given: dict[str, Any]) -> History:
    """A stretch more of a run of so many steps in all."""
    rest = steps - history.config["steps"]
    with stops_after(STRETCH_SECONDS) as stop:
        return extended(history, state, rest, progress=False, given=given, stop=stop)
