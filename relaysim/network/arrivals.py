"""What faults make of the messages that cross edges."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.faults import (
    LATE_GRADIENTS,
    LATE_MESSAGES,
    OUTAGES,
    AnyFault,
    Crash,
    Delay,
    Recorded,
    Replay,
    Straggler,
    TraceWriter,
    WireRound,
    kind_of,
    outages_of,
    parts_of,
)
from relaysim.support.chains import Chain
from relaysim.support.checks import real_array
from relaysim.support.streams import Streams
from relaysim.topologies import Topology, TreePair

__all__ = ["Arrivals"]


class Arrivals:
    """Which messages of a run arrive, asked each time that some cross.

    Args:
        fault: see `relaysim.faults`.
        topology: the run's.
        streams: random numbers of the replicas.
        step: tells the number of the present step.
        writer: of a trace, where it is kept.

    ``lost_messages`` counts those that do not since the run began, ``(r,)``.
    """

    def __init__(
        self,
        fault: AnyFault,
        topology: Topology | TreePair,
        streams: Streams,
        step: Callable[[], int],
        writer: TraceWriter | None = None,
    ):
        self._streams, self._step, self._writer = streams, step, writer
        parts = parts_of(fault)
        asked = [_Asked(part, k, topology, streams) for k, part in enumerate(parts)]
        self._of = {id(part): each for part, each in zip(parts, asked, strict=True)}
        self._each = [each for each in asked if each.kind not in (LATE_GRADIENTS, LATE_MESSAGES)]
        self._replicas = 1 if streams.owner is None else len(streams.owner)
        self._present = np.arange(self._replicas)
        self._crossings: dict[int, int] = {}
        self._last_step = -1
        self.lost_messages = np.zeros(self._replicas, dtype=np.int64)
        # Who has stopped, (n, r), in which step, and what they have not sent of late, (r,).
        self._stopped, self._stopped_in = np.zeros((0, 1), dtype=bool), -1
        self._unsent = np.zeros(self._replicas, dtype=np.int64)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._present = self._present[replicas]
        self.lost_messages = self.lost_messages[replicas]
        self._unsent = self._unsent[replicas]

    @property
    def step(self) -> int:
        """The number of the present one."""
        return self._step()

    @property
    def loses(self) -> bool:
        """Whether some of the faults lose messages."""
        return bool(self._each)

    def stopped(self, crash: Crash) -> np.ndarray:
        """Who has stopped in the present step by one of the faults, ``(n, 1)`` or ``(n, 1, r)``."""
        found, step = self._told(crash, crash.stopped), self._step()
        stopped = found.reshape(len(found), -1)
        self._stopped = stopped | self._stopped if step == self._stopped_in else stopped
        self._stopped_in = step
        return found

    def unsent(self) -> int | np.ndarray:
        """How many messages, since it was last asked, would have been of senders who have stopped, ``()`` or
        ``(r,)``.
        """
        unsent, self._unsent = self._unsent, np.zeros_like(self._unsent)
        if not unsent.any():
            return 0
        return int(unsent[0]) if self._streams.owner is None else unsent

    def slow(self, straggler: Straggler, n: int) -> np.ndarray:
        """Who of n workers is slow in the present step, ``(n, 1)`` or ``(n, 1, r)``."""
        return self._told(straggler, functools.partial(straggler.slow, n))

    def late(self, delay: Delay, count: int) -> np.ndarray:
        """By how many steps so many messages are late that cross now, ``(count, 1)`` or ``(count, 1, r)``."""
        return self._told(delay, functools.partial(delay.late_by, count))

    def _told(self, fault: Recorded, what: Callable[[WireRound], np.ndarray]) -> np.ndarray:
        """What a fault does to workers or messages in the present step, which is written down."""
        each, step = self._of[id(fault)], self._step()
        each.times = each.times + 1 if each.last_step == step else 0
        each.last_step = step
        round = each.round(step, 0)
        round.crossing, round.present = each.times, self._present
        found = what(round)
        if found.ndim == 1:
            found = found[:, None]
        if found.shape[1] < len(self._present):
            found = np.repeat(found, len(self._present), axis=1)
        if self._writer is not None:
            whole = np.zeros((len(found), self._replicas), dtype=found.dtype)
            whole[:, self._present] = found
            self._writer.track(fault, step, each.times, whole)
        return self._of_vectors(found)

    def __call__(self, edges: np.ndarray, further: int = 0) -> np.ndarray:
        """True for those that arrive and False for the others, ``(messages, 1)``, or with replicas
        ``(messages, 1, r)``, or ``(messages, 1, 1)`` where they do not differ.

        Args:
            edges: ``(messages, 2)``, sender and receiver.
            further: k ≥ 1 for the k-th round of a step that some replicas make and others do not. Its
                numbers belong to the step and to k, so that what one replica draws later does not
                depend on how many rounds another one made.
        """
        arrived, _ = self._found(edges, further, told=False)
        self.note(edges, ~arrived, further)
        return self._of_vectors(arrived)

    def at_all(self, edges: np.ndarray, further: int) -> np.ndarray:
        """The same, ``(messages, r or 1)``, of edges over some of which nothing may cross.

        What is lost of that which does is for the caller to ``count``.
        """
        arrived, _ = self._found(edges, further, told=False)
        self._write(edges, ~arrived, further)
        return arrived

    def with_outages(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and what crosses a link that is known to be out of order, of the same shapes.

        What of it was sent, and lost, is for the caller to ``note``.
        """
        arrived, down = self._found(edges, 0, told=True)
        if self._writer is not None:
            self._writer.add(self._step(), OUTAGES, edges, self._of_all(down))
        return self._of_vectors(arrived), self._of_vectors(down)

    def note(self, edges: np.ndarray, lost: np.ndarray, further: int = 0) -> None:
        """Count what was lost of the messages that cross, ``(messages[, 1], r or 1)``; write it down."""
        if lost.ndim == 3:
            lost = lost[:, 0]
        self.lost_messages += np.add.reduce(lost, axis=0, dtype=np.int64)
        if self._stopped_in == self._step():
            silent = lost & self._stopped[edges[:, 0]]
            self._unsent += np.add.reduce(silent, axis=0, dtype=np.int64)
        self._write(edges, lost, further)

    def count(self, senders: np.ndarray, replicas: np.ndarray) -> None:
        """Count lost messages of which each has a sender and a replica, ``(messages,)`` both."""
        r = len(self._present)
        self.lost_messages += np.bincount(replicas, minlength=r)
        if self._stopped_in == self._step():
            silent = self._stopped[senders, replicas]
            self._unsent += np.bincount(replicas[silent], minlength=r)

    def _write(self, edges: np.ndarray, lost: np.ndarray, further: int) -> None:
        if self._writer is not None:
            self._writer.add(self._step(), further, edges, self._of_all(lost))

    def _of_all(self, found: np.ndarray) -> np.ndarray:
        """As of all replicas that the run began with, ``(messages, r)``."""
        whole = np.zeros((len(found), self._replicas), dtype=bool)
        whole[:, self._present] = found
        return whole

    def _of_vectors(self, found: np.ndarray) -> np.ndarray:
        return found if self._streams.owner is None else found[:, None]

    def _found(self, edges: np.ndarray, further: int, told: bool) -> tuple[np.ndarray, np.ndarray]:
        """What arrives, and, if it is ``told``, what crosses a link that is out of order; ``(messages, r or
        1)`` each.
        """
        step = self._step()
        if step != self._last_step:
            self._last_step, self._crossings = step, {}
        crossing = self._crossings.get(further, 0)
        self._crossings[further] = crossing + 1
        arrived: np.ndarray | None = None
        down = np.zeros((len(edges), 1), dtype=bool)
        for each in self._each:
            round = each.round(step, further)
            round.further, round.crossing, round.present = further, crossing, self._present
            found = each.arrivals(edges, round)
            arrived = found if arrived is None else arrived & found
            if told:
                down = down | each.outages(edges, round, found)
        assert arrived is not None, "a run has a fault"
        return arrived, down


class _Asked:
    """One fault of a run, with the numbers of its own stream: those of ``faults`` itself for the first."""

    def __init__(self, fault: Any, k: int, topology: Topology | TreePair, streams: Streams):
        self._fault, self._topology, self._streams = fault, topology, streams
        self.kind = kind_of(fault)
        self._within = (k,) if k else ()
        self.uniforms = streams.uniforms("faults", *self._within)
        self._chain: Chain | None = None
        #: How often it was asked in its last step beside for messages, less one.
        self.last_step, self.times = -1, 0

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Which of the messages arrive, ``(messages, r or 1)``."""
        found = self._fault.arrivals(edges, round)
        if isinstance(found, np.ndarray) and found.dtype == bool:
            arrived = found
        else:
            numbers = real_array(found, "what a fault says arrives")
            arrived = numbers != 0
            if (between := numbers[arrived & (numbers != 1)]).size:
                raise ValueError(
                    f"{self._fault!r} says {between[0]:g} of a message; what arrives is True and "
                    f"what does not is False, and with a probability it is round.uniforms(…) < probability"
                )
        owner = self._streams.owner
        allowed = [(len(edges),)] + ([] if owner is None else [(len(edges), len(owner))])
        if arrived.shape not in allowed:
            raise ValueError(
                f"{self._fault!r} says of {len(edges)} messages what arrives as an array of shape "
                f"{arrived.shape}; it must be {' or '.join(map(str, allowed))}"
            )
        return arrived[:, None] if arrived.ndim == 1 else arrived

    def outages(self, edges: np.ndarray, round: WireRound, arrived: np.ndarray) -> np.ndarray:
        """Which of them cross a link that is known to be out of order, ``(messages, r or 1)``."""
        if not outages_of(self._fault):
            return np.zeros((len(edges), 1), dtype=bool)
        if isinstance(self._fault, Replay):
            return self._fault.down(edges, round)
        return ~arrived

    def round(self, step: int, further: int) -> WireRound:
        """A round as this fault sees it."""
        return WireRound.of(step, self._topology, self._numbers(step, further), self._states(step))

    def _numbers(self, step: int, further: int) -> Callable[[int], np.ndarray]:
        if not further:
            return lambda count: self.uniforms(count)[:, 0]
        within = (step, further, *self._within)
        return lambda count: self._streams.uniforms_at("faults", count, *within)[:, 0]

    def _states(self, step: int) -> Callable[[float, float, int], np.ndarray]:
        def chain(fail: float, repair: float, count: int) -> np.ndarray:
            if self._chain is None:
                self._chain = Chain(self._streams, self.uniforms)
                name = " ".join(map(str, ("faults: chain", *self._within)))
                self._streams.register(name, self._chain)
            return self._chain.at(step, fail, repair, count)[:, 0]

        return chain
