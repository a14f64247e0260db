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

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

import numpy as np

from relaysim.attacks import (
    ALittleIsEnough,
    Attack,
    Dissensus,
    LargeNorm,
    Noise,
    SignFlip,
)
from relaysim.support.checks import (
    one_of,
    plain_options,
    real_array,
    real_number,
    shown,
    whole_number,
)
from relaysim.support.names import attribute_error
from relaysim.topologies import Topology, TreePair

__all__ = [
    "LIES",
    "LOST_MESSAGES",
    "AnyFault",
    "Byzantine",
    "Fault",
    "MessageDrop",
    "WireRound",
    "kind_of",
    "liars_of",
]

#: The kind of faults that lose messages, as methods name it in their ``faults``.
LOST_MESSAGES = "lost messages"
#: The kind of faults in which some workers do not tell what the method has them tell.
LIES = "Byzantine workers"


class WireRound(int):
    """The number of a step, from 0, as faults see it: with the topology and random numbers of its own.

    Attributes:
        topology: the run's.
        uniforms: ``uniforms(count)``, so many independent numbers in [0, 1), ``(count,)`` or, for
            replicas, ``(count, r)``, each replica's from the stream of its own seed.

    A step in which messages cross several times has as many rounds with this number.
    """

    topology: Topology | TreePair
    uniforms: Callable[[int], np.ndarray]

    @classmethod
    def of(
        cls, step: int, topology: Topology | TreePair, uniforms: Callable[[int], np.ndarray]
    ) -> WireRound:
        """The round of a step."""
        round = cls(step)
        round.topology, round.uniforms = topology, uniforms
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
    def never(self) -> bool:
        """Whether nothing ever goes wrong: a run is then as without faults, to the last bit."""
        return False

    @property
    def liars(self) -> tuple[int, ...]:
        """The workers who lie; what is measured is of the others."""
        return ()

    def check(self, topology: Topology | TreePair) -> None:
        """Raise ValueError unless this can happen on a topology, before any work starts."""

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


def liars_of(fault: object) -> tuple[int, ...]:
    """The workers who lie; none where a class of one's own does not say."""
    return tuple(getattr(fault, "liars", ()))


@dataclass(frozen=True)
class MessageDrop(Fault):
    """Every message is lost with a probability, independently of all others.

    A lost RelaySum message enters neither the receiver's sum and count nor what it relays next. A
    gossip neighbour that was not heard loses its weight, and the other weights of that row are
    scaled to sum to 1 again, so that the matrix of that round is no longer doubly stochastic; a
    worker that hears nobody keeps its own. Lost messages were sent, and count as sent.

    Args:
        probability: of a directed message being lost, in [0, 1]: one number, or one for each edge of
            ``topology.edges``, ``(m,)``, which then holds in both directions unless the topology is
            directed. Messages of different
            rounds, and the two vectors that gradient tracking sends in one, are lost independently.
            Replicas with the same seed lose the same messages.

    Raises:
        ValueError: a probability outside [0, 1]; when run, not as many as there are edges, or an edge
            that a method uses and the topology does not have.

    Source: the experiment on unreliable networks (table 5) of Vogels et al., "RelaySum", NeurIPS
    2021, and its published code.

    >>> MessageDrop(0.01)
    MessageDrop(probability=0.01)
    >>> MessageDrop([0.0, 0.5]).probability
    (0.0, 0.5)
    """

    probability: float | Sequence[float]

    def __post_init__(self) -> None:
        plain_options(self)
        probability: float | tuple[float, ...]
        if np.ndim(self.probability) == 0:
            probability = real_number(self.probability, "probability", 0, 1)
        else:
            given = real_array(self.probability, "probability")
            if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
                raise ValueError(
                    f"probability must be a number between 0 and 1, or one for each edge of the "
                    f"topology, not {shown(self.probability)}"
                )
            probability = tuple(given.tolist())
        object.__setattr__(self, "probability", probability)

    @property
    def never(self) -> bool:
        return not np.any(self.probability)

    def check(self, topology: Topology | TreePair) -> None:
        if isinstance(self.probability, float):
            return
        edges = _edges_of(topology)
        if len(edges) != len(self.probability):
            raise ValueError(
                f"probability has {len(self.probability)} numbers and {topology!r} has "
                f"{len(edges)} edges; give one for each of topology.edges, or one number"
            )

    def check_messages(self, edges: np.ndarray, topology: Topology | TreePair) -> None:
        if not isinstance(self.probability, float):
            _of_edges(self, topology)(edges)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        drawn = round.uniforms(len(edges))
        if isinstance(self.probability, float):
            return drawn >= self.probability
        lost = _of_edges(self, round.topology)(edges)
        return drawn >= lost.reshape(-1, *(1,) * (drawn.ndim - 1))


#: Attacks by name, as they are by default.
_ATTACKS: dict[str, Callable[[], Attack]] = {
    "sign flip": SignFlip,
    "noise": Noise,
    "large norm": LargeNorm,
    "dissensus": Dissensus,
    "a little is enough": ALittleIsEnough,
}


@dataclass(frozen=True)
class Byzantine(Fault):
    """Workers who tell their neighbours what an attack says in the place of their own vectors.

    Everything else is as before: they step and average as all do, with what they hear. Columns of histories
    measure the honest workers only, on the mean of their objectives: x̄, Ξ² and x* are theirs, so that the
    problem must have ``among(workers)``. Iterates that are kept are of all workers, and so are messages that
    are counted.

    Args:
        workers: who lies, fewer than half.
        attack: one of `relaysim.attacks`, or the name of one as it is by default: ``"sign flip"``,
            ``"noise"``, ``"large norm"``, ``"dissensus"``, ``"a little is enough"``.

    Raises:
        ValueError: a worker twice or one that there is not, half of the workers or more, an attack that there
            is not.

    Source: as of the attacks.

    >>> Byzantine([3], "dissensus")
    Byzantine(workers=(3,), attack=Dissensus(epsilon=1.0))
    """

    workers: Sequence[int]
    attack: Any = "sign flip"

    kind: ClassVar[str] = LIES

    def __post_init__(self) -> None:
        if np.ndim(self.workers) != 1 or isinstance(self.workers, str):
            raise TypeError(
                f"workers must be a list of workers, such as [0, 5], not {shown(self.workers)}"
            )
        workers = tuple(whole_number(worker, "workers: a worker", 0) for worker in self.workers)
        if len(set(workers)) < len(workers):
            raise ValueError(f"workers names a worker twice: {list(workers)}")
        object.__setattr__(self, "workers", tuple(sorted(workers)))
        if isinstance(self.attack, str):
            name = one_of(self.attack, "attack", tuple(_ATTACKS))
            object.__setattr__(self, "attack", _ATTACKS[name]())
        if isinstance(self.attack, type) or not hasattr(self.attack, "lies"):
            raise TypeError(f"{self.attack!r} is no attack; see relaysim.attacks, or take its name")

    @property
    def never(self) -> bool:
        return not self.workers

    @property
    def liars(self) -> tuple[int, ...]:
        """The workers who lie."""
        return tuple(self.workers)

    def check(self, topology: Topology | TreePair) -> None:
        n, count = topology.n, len(self.workers)
        beyond = [worker for worker in self.workers if worker >= n]
        if beyond:
            raise ValueError(f"Byzantine names worker {beyond[0]}; there are 0 to {n - 1}")
        if 2 * count >= n:
            raise ValueError(
                f"{count} of {n} workers are Byzantine, and no method can hold where half of them or more "
                f"lie; name fewer than {(n + 1) // 2}"
            )

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives."""
        return np.ones(len(edges), dtype=bool)


@functools.lru_cache(maxsize=8)
def _of_edges(
    fault: MessageDrop, topology: Topology | TreePair
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from edges ``(messages, 2)``, of an undirected graph in either direction, to their
    probabilities.
    """
    n = topology.n
    one_way = isinstance(topology, Topology) and topology.is_directed
    first, second = _edges_of(topology).T
    known = first * n + second
    probabilities = np.array(fault.probability)

    def of_edges(edges: np.ndarray) -> np.ndarray:
        first, second = (edges if one_way else np.sort(edges, axis=1)).T
        keys = first * n + second
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        stray = known[place] != keys
        if stray.any():
            i, j = edges[stray][0].tolist()
            raise ValueError(
                f"a message from worker {i} to worker {j} crosses no edge of {topology!r}, so that it "
                f"has no probability of its own; give one number"
            )
        return probabilities[place]

    return of_edges


def _edges_of(topology: Topology | TreePair) -> np.ndarray:
    if isinstance(topology, TreePair):
        raise ValueError(
            f"{topology!r} has no one list of edges to give each a probability; give one number"
        )
    return topology.edges


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
