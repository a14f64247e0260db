"""What faults make of the messages that cross edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.faults import (
    LATE_GRADIENTS,
    AnyFault,
    Crash,
    Straggler,
    TraceWriter,
    WireRound,
    kind_of,
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

    ``lost_messages`` counts them since the run began, ``(r,)``.
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
        self._each = [each for each in asked if each.kind != LATE_GRADIENTS]
        self._replicas = 1 if streams.owner is None else len(streams.owner)
        self._present = np.arange(self._replicas)
        self._crossings: dict[int, int] = {}
        self._last_step = -1
        self.lost_messages = np.zeros(self._replicas, dtype=np.int64)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._present = self._present[replicas]
        self.lost_messages = self.lost_messages[replicas]

    @property
    def loses(self) -> bool:
        """Whether some of the faults lose messages."""
        return bool(self._each)

    def stopped(self, crash: Crash) -> np.ndarray:
        """Who has stopped in the present step by one of the faults, ``(n, 1)`` or ``(n, 1, r)``."""
        stopped = crash.stopped(self._of[id(crash)].round(self._step(), 0))
        return stopped[:, None]

    def uniforms(self, fault: Straggler) -> Callable[[int], np.ndarray]:
        """The numbers of one of the faults."""
        return self._of[id(fault)].uniforms

    def __call__(self, edges: np.ndarray, further: int = 0) -> np.ndarray:
        """True for those that arrive and False for the others, ``(messages, 1)``, or with replicas
        ``(messages, 1, r)``, or ``(messages, 1, 1)`` where they do not differ.

        Args:
            edges: ``(messages, 2)``, sender and receiver.
            further: k ≥ 1 for the k-th round of a step that some replicas make and others do not. Its
                numbers belong to the step and to k, so that what one replica draws later does not
                depend on how many rounds another one made.
        """
        step = self._step()
        if step != self._last_step:
            self._last_step, self._crossings = step, {}
        crossing = self._crossings.get(further, 0)
        self._crossings[further] = crossing + 1
        arrived: np.ndarray | None = None
        for each in self._each:
            found = each.arrivals(edges, step, further, crossing, self._present)
            arrived = found if arrived is None else arrived & found
        assert arrived is not None, "a run has a fault"
        lost = ~arrived
        self.lost_messages += np.add.reduce(lost, axis=0, dtype=np.int64)
        if self._writer is not None:
            whole = np.zeros((len(edges), self._replicas), dtype=bool)
            whole[:, self._present] = lost
            self._writer.add(step, further, edges, whole)
        return arrived if self._streams.owner is None else arrived[:, None]


class _Asked:
    """One fault of a run, with the numbers of its own stream: those of ``faults`` itself for the first."""

    def __init__(self, fault: Any, k: int, topology: Topology | TreePair, streams: Streams):
        self._fault, self._topology, self._streams = fault, topology, streams
        self.kind = kind_of(fault)
        self._within = (k,) if k else ()
        self.uniforms = streams.uniforms("faults", *self._within)
        self._chain: Chain | None = None

    def arrivals(
        self, edges: np.ndarray, step: int, further: int, crossing: int, present: np.ndarray
    ) -> np.ndarray:
        """Which of the messages arrive, ``(messages, r or 1)``."""
        round = self.round(step, further)
        round.further, round.crossing, round.present = further, crossing, present
        found = self._fault.arrivals(edges, round)
        if isinstance(found, np.ndarray) and found.dtype == bool:
            arrived = found
        else:
            arrived = real_array(found, "what a fault says arrives") != 0
        owner = self._streams.owner
        allowed = [(len(edges),)] + ([] if owner is None else [(len(edges), len(owner))])
        if arrived.shape not in allowed:
            raise ValueError(
                f"{self._fault!r} says of {len(edges)} messages what arrives as an array of shape "
                f"{arrived.shape}; it must be {' or '.join(map(str, allowed))}"
            )
        return arrived[:, None] if arrived.ndim == 1 else arrived

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
