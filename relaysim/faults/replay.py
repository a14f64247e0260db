"""What went wrong in another run, once more."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.faults.base import Fault, WireRound
from relaysim.faults.late import Delay
from relaysim.faults.trace import OUTAGES, Recorded, Trace, Track
from relaysim.faults.workers import Crash, Straggler
from relaysim.support.checks import shown
from relaysim.topologies import Topology, TreePair

__all__ = ["Replay"]


@dataclass(frozen=True)
class Replay(Fault):
    """What went wrong in another run goes wrong once more: methods meet the very same faults.

    The same messages are lost, or late by as many steps, the same workers stop, and the same are slow.

    Args:
        trace: ``history.trace`` of a run with ``keep_faults=True``, on the same topology. With one replica it
            serves any number of them; otherwise there must be as many.

    Raises:
        TypeError: no trace.
        ValueError: when run, a trace of another topology, of fewer steps or of another number of replicas;
            messages that did not cross in that run.

    >>> import relaysim as rs
    >>> ring, problem = rs.topologies.ring(4), rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> run = {"learning_rate": 0.1, "steps": 9}
    >>> one = rs.simulate(problem, ring, rs.algorithms.DPSGD(), **run, faults=rs.faults.MessageDrop(0.3),
    ...                   keep_faults=True)
    >>> again = rs.simulate(problem, ring, rs.algorithms.DPSGD(), **run, faults=Replay(one.trace))
    >>> bool((one.x == again.x).all())
    True
    """

    trace: Any

    def __post_init__(self) -> None:
        if not isinstance(self.trace, Trace):
            raise TypeError(
                f"{shown(self.trace)} is no trace; take history.trace of a run with keep_faults=True"
            )

    @functools.cached_property
    def parts(self) -> tuple[Any, ...]:
        """What loses messages, if anything did, and the faults that did more."""
        again = tuple(_AGAIN[type(each.fault).__name__](self, each) for each in self.trace.tracks)
        return (self, *again) if len(self.trace.asked) or not again else again

    @property
    def never(self) -> bool:
        # A run in which nothing can go wrong asks, and writes, nothing.
        return not (len(self.trace.asked) or self.trace.tracks)

    def check(self, topology: Topology | TreePair) -> None:
        if topology != self.trace.topology:
            raise ValueError(
                f"the trace is of a run on {self.trace.topology!r} and cannot be replayed on {topology!r}; "
                f"record one there with keep_faults=True"
            )

    def check_run(self, replicas: int, steps: int) -> None:
        if self.trace.replicas not in (1, replicas):
            raise ValueError(
                f"the trace is of {self.trace.replicas} replicas and this run has {replicas}; replay it with "
                f"as many, or record one of a single replica"
            )
        if steps > self.trace.steps:
            raise ValueError(
                f"the trace has {self.trace.steps} steps and this run {steps}; take fewer, or record more"
            )

    def check_messages(self, edges: np.ndarray, topology: Topology | TreePair) -> None:
        keys = edges[:, 0] * topology.n + edges[:, 1]
        crossed = [of[:, 0] * topology.n + of[:, 1] for of in self.trace.edges]
        strays = edges[~np.isin(keys, np.concatenate(crossed))] if crossed else edges[:0]
        if len(strays):
            i, j = strays[0].tolist()
            raise ValueError(
                f"nothing crossed from worker {i} to worker {j} in the run that the trace is of; replay it "
                f"with a method that sends as often over the same edges"
            )

    @property
    def outages(self) -> bool:
        return bool((self.trace.asked[:, 1] == OUTAGES).any())

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        lost = self._of(edges, round, round.further, round.crossing)
        return ~lost[:, 0] if self.trace.replicas == 1 else ~lost[:, round.present]

    def down(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """What crosses links that are known to be out of order, ``(messages, r or 1)``."""
        down = self._of(edges, round, OUTAGES, 0)
        return down if self.trace.replicas == 1 else down[:, round.present]

    def _of(self, edges: np.ndarray, round: WireRound, further: int, crossing: int) -> np.ndarray:
        k = self.trace.places.get((int(round), further, crossing))
        if k is None or not np.array_equal(self.trace.edges[self.trace.asked[k, 2]], edges):
            raise ValueError(
                f"in step {int(round)} messages cross that did not in the run that the trace is of; replay "
                f"it with a method that sends as often over the same edges"
            )
        return self.trace.of_round(k)


class _Again(Fault):
    """A fault that does what a track says; what it loses is in the trace's own bits."""

    replay: Replay
    track: Track

    @property
    def recorded(self) -> Recorded:
        """The fault that was recorded."""
        return self.track.fault

    @property
    def never(self) -> bool:
        return False

    @property
    def outages(self) -> bool:
        return False

    def check(self, topology: Topology | TreePair) -> None:
        self.replay.check(topology)

    def check_run(self, replicas: int, steps: int) -> None:
        self.replay.check_run(replicas, steps)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives."""
        return np.ones(len(edges), dtype=bool)

    def _of(self, count: int, round: WireRound) -> np.ndarray:
        return self.track.of(count, round, self.replay.trace.replicas)


class _CrashAgain(_Again, Crash):
    def __init__(self, replay: Replay, track: Track):
        _set_up(self, replay, track)

    def stopped(self, round: WireRound) -> np.ndarray:
        return self._of(round.topology.n, round) != 0


class _StragglerAgain(_Again, Straggler):
    def __init__(self, replay: Replay, track: Track):
        _set_up(self, replay, track)

    def slow(self, n: int, round: WireRound) -> np.ndarray:
        return self._of(n, round) != 0


class _DelayAgain(_Again, Delay):
    def __init__(self, replay: Replay, track: Track):
        _set_up(self, replay, track)

    def late_by(self, count: int, round: WireRound) -> np.ndarray:
        return self._of(count, round)


def _set_up(again: _Again, replay: Replay, track: Track) -> None:
    """Give it the options of the fault that was recorded."""
    for field in dataclasses.fields(track.fault):
        object.__setattr__(again, field.name, getattr(track.fault, field.name))
    object.__setattr__(again, "replay", replay)
    object.__setattr__(again, "track", track)


_AGAIN: dict[str, Callable[[Replay, Track], Any]] = {
    "Crash": _CrashAgain,
    "Straggler": _StragglerAgain,
    "Delay": _DelayAgain,
}
