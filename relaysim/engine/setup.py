"""The parts of a run, and the machine that they make."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from relaysim.algorithms.base import Method
from relaysim.algorithms.events import EventMethod
from relaysim.engine.events import Events
from relaysim.engine.parts import Parts
from relaysim.engine.recorded import Records
from relaysim.engine.rounds import Rounds
from relaysim.support.interrupts import StopRequest

__all__ = ["Machine", "Setup"]


class Machine(Protocol):
    """What advances all replicas of a run together."""

    #: Steps taken.
    step: int

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; not to be changed."""

    @property
    def vectors_sent(self) -> float | np.ndarray:
        """So far, over all workers; ``(r,)`` where replicas differ."""

    @property
    def fault_counts(self) -> dict[str, np.ndarray]:
        """What went wrong so far, by what it is called, ``(r,)`` each; copies."""

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""

    def advance(self, target: int) -> None:
        """Step on until so many steps are taken."""

    @property
    def records(self) -> bool:
        """Whether `advance_and_record` does anything at present."""

    def advance_and_record(
        self, targets: list[int], records: Records, stop: StopRequest
    ) -> list[float | np.ndarray]:
        """Step on to the first of these (increasing), as many as take no long time, if that is faster, and
        write what is recorded there; the vectors sent by each that was reached. Where it is asked to stop no
        further ones are.
        """

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, but random numbers; copies."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""


class Setup(Parts):
    """The parts of a run, of which a method makes what advances it."""

    def machine(self) -> Machine:
        """What the algorithm is advanced by."""
        return self.algorithm.machine(self)

    def rounds(self, algorithm: Method) -> Rounds:
        """For a method in which all workers step together."""
        return Rounds(self, algorithm)

    def events(self, algorithm: EventMethod) -> Events:
        """For a method whose workers act at times of their own."""
        return Events(self, algorithm)
