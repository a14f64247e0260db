"""What went wrong in a run, message by message, and the same once more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.faults.base import Fault, WireRound
from relaysim.support.checks import shown
from relaysim.topologies import Topology, TreePair

__all__ = ["Replay", "Trace", "TraceWriter"]


@dataclass(frozen=True, eq=False)
class Trace:
    """Which messages of a run were lost, as ``simulate(…, keep_faults=True)`` keeps it.

    Attributes:
        topology: the run's.
        steps: how many it had.
        replicas: r, 1 where arrays have no replica axis.
        asked: ``(rounds, 4)``, of each time that messages crossed: the step, k of the k-th further round of a
            step (else 0), which of ``edges``, and where its bits begin.
        edges: the sets of messages that crossed together, sender and receiver, ``(messages, 2)`` each.
        lost: bits, one for each message and replica, in bytes.
    """

    topology: Topology | TreePair
    steps: int
    replicas: int
    asked: np.ndarray
    edges: Sequence[np.ndarray]
    lost: np.ndarray

    def to_config(self) -> dict[str, Any]:
        """Itself as plain data."""
        return {
            "type": "Trace",
            "topology": self.topology,
            "steps": self.steps,
            "replicas": self.replicas,
            "asked": self.asked,
            "edges": list(self.edges),
            "lost": self.lost,
        }

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
        )

    def __hash__(self) -> int:
        return hash((self.steps, self.replicas, self.lost.tobytes()))

    def count(self) -> np.ndarray:
        """Lost messages of each round in which some crossed, ``(rounds, r)``."""
        return np.stack([self.of_round(k).sum(axis=0) for k in range(len(self.asked))])

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
    """Writes down what is lost; ``extended`` goes on with an older trace."""

    def __init__(self, topology: Topology | TreePair, replicas: int):
        self._topology, self._replicas = topology, replicas
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

    def trace(self, steps: int) -> Trace:
        """All that was written."""
        return Trace(
            topology=self._topology,
            steps=steps,
            replicas=self._replicas,
            asked=np.array(self._asked, dtype=np.int64).reshape(-1, 4),
            edges=self._sets,
            lost=np.concatenate([np.zeros(0, dtype=np.uint8), *self._bits]),
        )


@dataclass(frozen=True)
class Replay(Fault):
    """What was lost in another run is lost once more: methods meet the very same losses.

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

    @property
    def never(self) -> bool:
        # A run in which nothing can be lost asks, and writes, nothing.
        return not len(self.trace.asked)

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

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        k = self.trace.places.get((int(round), round.further, round.crossing))
        if k is None or not np.array_equal(self.trace.edges[self.trace.asked[k, 2]], edges):
            raise ValueError(
                f"in step {int(round)} messages cross that did not in the run that the trace is of; replay "
                f"it with a method that sends as often over the same edges"
            )
        lost = self.trace.of_round(k)
        return ~lost[:, 0] if self.trace.replicas == 1 else ~lost[:, round.present]
