"""What went wrong in a run, message by message."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from relaysim.faults.base import WireRound
from relaysim.faults.late import Delay
from relaysim.faults.workers import Crash, Straggler
from relaysim.topologies import Topology, TreePair

__all__ = ["OUTAGES", "Recorded", "Trace", "TraceWriter", "Track"]

#: In the place of k of a further round: what crosses links that are known to be out of order.
OUTAGES = -1


#: Those of which a trace has more than what they lose.
Recorded: TypeAlias = Crash | Straggler | Delay


@dataclass(frozen=True, eq=False)
class Track:
    """What one fault of a run did beside losing messages.

    Attributes:
        fault: a `Crash`, of which it is who has stopped, a `Straggler`, who was slow, or a `Delay`, by how
            many steps messages were late.
        asked: ``(rounds, 4)``, of each time that it was asked: the step, how often it was asked in that step
            before, of how many workers or messages, and where its bits begin.
        bits: those of one number for each of them and each replica, in bytes.
    """

    fault: Recorded
    asked: np.ndarray
    bits: np.ndarray

    def to_config(self) -> dict[str, Any]:
        """Itself as plain data, but for the fault."""
        return {"type": "Track", "fault": self.fault, "asked": self.asked, "bits": self.bits}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Track):
            return NotImplemented
        same = np.array_equal(self.asked, other.asked) and np.array_equal(self.bits, other.bits)
        return self.fault == other.fault and same

    def __hash__(self) -> int:
        return hash((self.fault, self.bits.tobytes()))

    @functools.cached_property
    def _places(self) -> dict[tuple[int, int], int]:
        return {
            (step, crossing): k for k, (step, crossing) in enumerate(self.asked[:, :2].tolist())
        }

    def of(self, count: int, round: WireRound, replicas: int) -> np.ndarray:
        """What was in a round, ``(count, r or 1)``, of a trace of so many replicas."""
        k = self._places.get((int(round), round.crossing))
        if k is None or self.asked[k, 2] != count:
            raise ValueError(
                f"in step {int(round)} {type(self.fault).__name__} is asked of what it was not asked in the "
                f"run that the trace is of; replay it with a method that sends as often over the same edges"
            )
        planes, start = _planes(self.fault), int(self.asked[k, 3])
        size = count * replicas * planes
        bits = np.unpackbits(self.bits[start : start + -(-size // 8)], count=size)
        numbers = bits.reshape(count, replicas, planes) @ (1 << np.arange(planes))
        return numbers if replicas == 1 else numbers[:, round.present]


def _planes(fault: Recorded) -> int:
    """Bits of a number."""
    return fault.most.bit_length() if isinstance(fault, Delay) else 1


@dataclass(frozen=True, eq=False)
class Trace:
    """What went wrong in a run, as ``simulate(…, keep_faults=True)`` keeps it.

    Attributes:
        topology: the run's.
        steps: how many it had.
        replicas: r, 1 where arrays have no replica axis.
        asked: ``(rounds, 4)``, of each time that messages crossed: the step, k of the k-th further round of a
            step (else 0), which of ``edges``, and where its bits begin; with k = −1, of which edges a method
            was told that they are out of order.
        edges: the sets of messages that crossed together, sender and receiver, ``(messages, 2)`` each.
        lost: bits, one for each message and replica, in bytes.
        tracks: of faults that do more than lose messages, what else they did.
    """

    topology: Topology | TreePair
    steps: int
    replicas: int
    asked: np.ndarray
    edges: Sequence[np.ndarray]
    lost: np.ndarray
    tracks: Sequence[Track] = ()

    def to_config(self) -> dict[str, Any]:
        """Itself as plain data."""
        plain = {
            "type": "Trace",
            "topology": self.topology,
            "steps": self.steps,
            "replicas": self.replicas,
            "asked": self.asked,
            "edges": list(self.edges),
            "lost": self.lost,
        }
        return plain | ({"tracks": list(self.tracks)} if self.tracks else {})

    def __repr__(self) -> str:
        return f"<Trace of {self.steps} steps on {self.topology!r}, {self.replicas} replicas>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        mine, others = ((t.steps, t.replicas, t.topology) for t in (self, other))
        return (
            mine == others
            and np.array_equal(self.asked, other.asked)
            and all(map(np.array_equal, self.edges, other.edges))
            and np.array_equal(self.lost, other.lost)
            and list(self.tracks) == list(other.tracks)
        )

    def __hash__(self) -> int:
        return hash((self.steps, self.replicas, self.lost.tobytes()))

    def count(self) -> np.ndarray:
        """Lost messages of each round in which some crossed, ``(rounds, r)``."""
        rounds = np.flatnonzero(self.asked[:, 1] != OUTAGES)
        return np.stack([self.of_round(k).sum(axis=0) for k in rounds.tolist()])

    def of_round(self, k: int) -> np.ndarray:
        """Which messages of the k-th of ``asked`` were lost, ``(messages, r)``."""
        _, _, which, start = self.asked[k].tolist()
        count = len(self.edges[which]) * self.replicas
        bits = np.unpackbits(self.lost[start : start + -(-count // 8)], count=count)
        return bits.astype(bool).reshape(-1, self.replicas)

    @functools.cached_property
    def places(self) -> dict[tuple[int, int, int], int]:
        """The number in ``asked`` of each step, further round and crossing in it."""
        found: dict[tuple[int, int, int], int] = {}
        crossings: dict[tuple[int, int], int] = {}
        for k, (step, further) in enumerate(self.asked[:, :2].tolist()):
            crossing = crossings.get((step, further), 0)
            crossings[step, further] = crossing + 1
            found[step, further, crossing] = k
        return found


class TraceWriter:
    """Writes down what goes wrong; ``go_on`` goes on with an older trace.

    Args:
        topology, replicas: see `Trace`.
        faults: of the run.
    """

    def __init__(self, topology: Topology | TreePair, replicas: int, faults: Sequence[Any]):
        self._topology, self._replicas = topology, replicas
        self._tracks = {
            id(fault): _Writing(fault) for fault in faults if isinstance(fault, Recorded)
        }
        self._sets: list[np.ndarray] = []
        self._known: dict[bytes, int] = {}
        self._asked: list[tuple[int, int, int, int]] = []
        self._bits: list[np.ndarray] = []
        self._length = 0

    def go_on(self, trace: Trace) -> None:
        """Begin with what was written before."""
        self._sets = [np.array(edges) for edges in trace.edges]
        self._known = {edges.astype(np.int64).tobytes(): k for k, edges in enumerate(self._sets)}
        self._asked = [(a, b, c, d) for a, b, c, d in trace.asked.tolist()]
        self._bits, self._length = [trace.lost], len(trace.lost)
        for track, before in zip(self._tracks.values(), trace.tracks, strict=True):
            track.asked = [(a, b, c, d) for a, b, c, d in before.asked.tolist()]
            track.bits, track.length = [before.bits], len(before.bits)

    def add(self, step: int, further: int, edges: np.ndarray, lost: np.ndarray) -> None:
        """What was lost of a round, ``(messages, r)``."""
        key = edges.astype(np.int64).tobytes()
        which = self._known.get(key)
        if which is None:
            which = self._known[key] = len(self._sets)
            self._sets.append(np.array(edges, dtype=np.int64))
        self._asked.append((step, further, which, self._length))
        self._bits.append(np.packbits(lost))
        self._length += len(self._bits[-1])

    def track(self, fault: Recorded, step: int, crossing: int, numbers: np.ndarray) -> None:
        """What else a fault did in a round, ``(count, r)``."""
        self._tracks[id(fault)].add(step, crossing, numbers)

    def trace(self, steps: int) -> Trace:
        """All that was written."""
        return Trace(
            topology=self._topology,
            steps=steps,
            replicas=self._replicas,
            asked=np.array(self._asked, dtype=np.int64).reshape(-1, 4),
            edges=self._sets,
            lost=np.concatenate([np.zeros(0, dtype=np.uint8), *self._bits]),
            tracks=tuple(track.track() for track in self._tracks.values()),
        )


class _Writing:
    """A track that is being written."""

    def __init__(self, fault: Recorded):
        self._fault = getattr(fault, "recorded", fault)
        self.asked: list[tuple[int, int, int, int]] = []
        self.bits: list[np.ndarray] = []
        self.length = 0

    def add(self, step: int, crossing: int, numbers: np.ndarray) -> None:
        self.asked.append((step, crossing, len(numbers), self.length))
        planes = np.arange(_planes(self._fault))
        self.bits.append(np.packbits((numbers[..., None].astype(np.int64) >> planes) & 1))
        self.length += len(self.bits[-1])

    def track(self) -> Track:
        asked = np.array(self.asked, dtype=np.int64).reshape(-1, 4)
        return Track(self._fault, asked, np.concatenate([np.zeros(0, dtype=np.uint8), *self.bits]))
