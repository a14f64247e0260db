"""What faults share: what one of them sees of a step, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np

from relaysim.topologies import Topology, TreePair

__all__ = [
    "ALTERED",
    "LATE_GRADIENTS",
    "LATE_MESSAGES",
    "LIES",
    "LOST_MESSAGES",
    "STOPS",
    "AnyFault",
    "Fault",
    "WireRound",
    "kind_of",
    "liars_of",
    "outages_of",
]

#: The kind of faults that lose messages, as methods name it in their ``faults``.
LOST_MESSAGES = "lost messages"
#: The kind of faults in which some workers do not tell what the method has them tell.
LIES = "Byzantine workers"
#: The kind of faults in which workers stop for a while, or for good.
STOPS = "workers that stop"
#: The kind of faults that alter numbers on their way.
ALTERED = "altered messages"
#: The kind of faults in which gradients are missing, or come later.
LATE_GRADIENTS = "late gradients"
#: The kind of faults in which messages arrive later than in the step in which they were sent.
LATE_MESSAGES = "late messages"


class WireRound(int):
    """The number of a step, from 0, as faults see it: with the topology and random numbers of its own.

    Attributes:
        topology: the run's.
        uniforms: ``uniforms(count)``, so many independent numbers in [0, 1), ``(count,)`` or, for
            replicas, ``(count, r)``, each replica's from the stream of its own seed.
        chain: ``chain(fail, repair, count)``, which of so many things are out of order, booleans of the same
            shapes. All are in order before the first step; before each, one that is in order fails with the
            first probability, and one that is not is repaired with the second. Rounds of a step see the same,
            and so does a run that was saved and goes on.
        further: k ≥ 1 in the k-th round of a step that some replicas make and others do not, else 0.
        crossing: how many rounds with this number, and this k, were before.
        present: numbers of the replicas that are still computed, ``(r,)``.

    A step in which messages cross several times has as many rounds with this number.
    """

    topology: Topology | TreePair
    uniforms: Callable[[int], np.ndarray]
    chain: Callable[[float, float, int], np.ndarray]
    further: int = 0
    crossing: int = 0
    present: np.ndarray

    @classmethod
    def of(
        cls,
        step: int,
        topology: Topology | TreePair,
        uniforms: Callable[[int], np.ndarray],
        chain: Callable[[float, float, int], np.ndarray],
    ) -> WireRound:
        """The round of a step."""
        round = cls(step)
        round.topology, round.uniforms, round.chain = topology, uniforms, chain
        return round


class AnyFault(Protocol):
    """What can go wrong in a run: a `Fault`, or an object of your own with its ``arrivals``."""

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Which messages of a round arrive; see `Fault.arrivals`."""


class Fault:
    """What the faults here share, and what one of your own may be derived from.

    ``kind`` is what goes wrong, in the words of a method's claim ``faults``.
    """

    kind: ClassVar[str] = LOST_MESSAGES

    @property
    def outages(self) -> bool:
        """Whether what is lost in a step crosses a link that is out of order, as its ends know before they
        send, so that a method may use another one.
        """
        return False

    @property
    def never(self) -> bool:
        """Whether nothing ever goes wrong: a run is then as without faults, to the last bit."""
        return False

    @property
    def liars(self) -> tuple[int, ...]:
        """The workers who lie; what is measured is of the others."""
        return ()

    def check(self, topology: Topology | TreePair) -> None:
        """Raise ValueError unless this can happen on a topology, before any work starts."""

    def check_run(self, replicas: int, steps: int) -> None:
        """Raise ValueError unless this can happen in a run of so many replicas and steps."""

    def check_messages(self, edges: np.ndarray, topology: Topology | TreePair) -> None:
        """Raise ValueError unless this can happen to all messages that cross ``edges (messages, 2)``, which
        need not be those of the topology, before any work starts.
        """

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Which messages of a round arrive.

        Args:
            edges: ``(messages, 2)``, sender and receiver of each message.
            round: the step's number, with random numbers; see `WireRound`.

        Returns:
            True or 1 for those that arrive, ``(messages,)``, or ``(messages, r)`` where replicas
            differ.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which messages arrive")


def kind_of(fault: object) -> str:
    """What goes wrong, in the words of methods; a class of one's own that only says ``arrivals`` loses
    messages.
    """
    return getattr(fault, "kind", LOST_MESSAGES)


def outages_of(fault: object) -> bool:
    """Whether it loses what crosses a link that is known to be out of order; not so where a class of one's
    own does not say.
    """
    return bool(getattr(fault, "outages", False))


def liars_of(fault: object) -> tuple[int, ...]:
    """The workers who lie; none where a class of one's own does not say."""
    return tuple(getattr(fault, "liars", ()))
