"""What fails, and is repaired after a while: bursts of losses, and links that are down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relaysim.faults.base import Fault, WireRound
from relaysim.faults.edges import links_of, numbers_of_links, numbers_of_wires, wires_of
from relaysim.support.checks import plain_options, real_number
from relaysim.topologies import Topology, TreePair

__all__ = ["BurstLoss", "LinkFailure"]

_STATE = "state of its own; use MessageDrop with one number"


class _OverEdges(Fault):
    """What fails and is repaired edge by edge, losing what crosses it in between."""

    def check_messages(self, edges: np.ndarray, topology: Topology | TreePair) -> None:
        self._numbers(topology)(edges)

    @staticmethod
    def _numbers(topology: Topology | TreePair) -> Callable[[np.ndarray], np.ndarray]:
        """The function from messages to what fails."""
        raise NotImplementedError


@dataclass(frozen=True)
class BurstLoss(_OverEdges):
    """Messages are lost in bursts, over each directed edge at times of its own.

    The Gilbert channel: before each step an edge that is good turns bad with probability ``lose``, and one
    that is bad turns good with probability ``recover``; all are good before the first. What crosses a bad
    one is lost, all messages of the step. A burst takes 1/recover steps in the mean, and in the long run the
    share lose/(lose + recover) of all messages is lost. With recover = 1 − lose it is ``MessageDrop(lose)``,
    to the bit where a step sends once over every edge. What becomes of lost messages: see `MessageDrop`.

    Args:
        lose: probability p of a burst to begin, in [0, 1].
        recover: probability r of one to end, in [0, 1]; with 0 an edge that is bad remains so.

    Raises:
        ValueError: a probability outside [0, 1]; when run, an edge that a method uses and the topology does
            not have.

    Source: Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal 1960, with a good
    state that loses nothing and a bad one that loses all; Elliott 1963 has shares for both.

    >>> BurstLoss(lose=0.01, recover=0.2).share
    0.047...
    """

    lose: float
    recover: float

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "lose", real_number(self.lose, "lose", 0, 1))
        object.__setattr__(self, "recover", real_number(self.recover, "recover", 0, 1))

    @property
    def never(self) -> bool:
        return self.lose == 0

    @property
    def share(self) -> float:
        """Of all messages that are lost in the long run: lose/(lose + recover), 0 without bursts."""
        return self.lose / (self.lose + self.recover) if self.lose else 0.0

    @staticmethod
    def _numbers(topology: Topology | TreePair) -> Callable[[np.ndarray], np.ndarray]:
        return numbers_of_wires(topology, _STATE)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        bad = round.chain(self.lose, self.recover, len(wires_of(round.topology)))
        return ~bad[self._numbers(round.topology)(edges)]


@dataclass(frozen=True)
class LinkFailure(_OverEdges):
    """Links fail and are repaired: while one is down nothing crosses it, in either direction.

    Before each step a link that works fails with probability ``fail``, and one that is down is repaired with
    probability ``repair``; all work before the first. A link is an edge of the topology (of a directed one in
    its direction), and of two trees one that they share is one link. The graph may be cut for a while. What
    becomes of lost messages: see `MessageDrop`; a method that relays waits, and what it does not hear counts
    as not heard, or it takes other links in their place: ``RelaySGD(repair=graph)``, of whose graph the
    links are then.

    Args:
        fail: probability of a link that works to fail, in [0, 1].
        repair: probability of one that is down to be repaired, in [0, 1]; with 0 it stays down.

    Raises:
        ValueError: a probability outside [0, 1]; when run, an edge that a method uses and the topology does
            not have.

    >>> LinkFailure(fail=0.25, repair=0.75).share
    0.25
    """

    fail: float
    repair: float

    def __post_init__(self) -> None:
        plain_options(self)
        object.__setattr__(self, "fail", real_number(self.fail, "fail", 0, 1))
        object.__setattr__(self, "repair", real_number(self.repair, "repair", 0, 1))

    @property
    def never(self) -> bool:
        return self.fail == 0

    @property
    def outages(self) -> bool:
        return True

    @property
    def share(self) -> float:
        """Of all links that are down in the long run: fail/(fail + repair), 0 where none fails."""
        return self.fail / (self.fail + self.repair) if self.fail else 0.0

    @staticmethod
    def _numbers(topology: Topology | TreePair) -> Callable[[np.ndarray], np.ndarray]:
        return numbers_of_links(topology, _STATE)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        down = round.chain(self.fail, self.repair, len(links_of(round.topology)))
        return ~down[self._numbers(round.topology)(edges)]
