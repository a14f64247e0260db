"""What goes wrong on the way from one worker to another.

A fault is a frozen dataclass with ``arrivals(edges, round)``, which tells which messages of a round
arrive. A method says which kinds of faults it has a rule for; others are refused. A fault of one's own
is one class:

>>> from dataclasses import dataclass
>>> import numpy as np
>>> @dataclass(frozen=True)
... class Outage(Fault):
...     '''Nothing reaches a worker until a step.'''
...     worker: int
...     until: int
...     def arrivals(self, edges, round):
...         return (edges[:, 1] != self.worker) | (round >= self.until)
>>> Outage(worker=0, until=5).arrivals(np.array([[1, 0], [0, 1]]), 3).tolist()
[False, True]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from relaysim.faults.altered import Corrupt
from relaysim.faults.base import (
    ALTERED,
    LATE_GRADIENTS,
    LATE_MESSAGES,
    LIES,
    LOST_MESSAGES,
    STOPS,
    AnyFault,
    Fault,
    WireRound,
    kind_of,
    liars_of,
    outages_of,
)
from relaysim.faults.byzantine import Byzantine
from relaysim.faults.chains import BurstLoss, LinkFailure
from relaysim.faults.drops import MessageDrop
from relaysim.faults.late import Delay
from relaysim.faults.replay import Replay
from relaysim.faults.together import All, alone, parts_of
from relaysim.faults.trace import OUTAGES, Recorded, Trace, TraceWriter, Track
from relaysim.faults.workers import Crash, Straggler
from relaysim.support.names import attribute_error

__all__ = [
    "ALTERED",
    "LATE_GRADIENTS",
    "LATE_MESSAGES",
    "LIES",
    "LOST_MESSAGES",
    "OUTAGES",
    "STOPS",
    "All",
    "AnyFault",
    "BurstLoss",
    "Byzantine",
    "Corrupt",
    "Crash",
    "Delay",
    "Fault",
    "LinkFailure",
    "MessageDrop",
    "Recorded",
    "Replay",
    "Straggler",
    "Trace",
    "TraceWriter",
    "Track",
    "WireRound",
    "alone",
    "kind_of",
    "liars_of",
    "outages_of",
    "parts_of",
]

if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
