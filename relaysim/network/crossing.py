"""What becomes of vectors on their way: nothing, or they are lost, or their senders lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np

from relaysim.attacks import Attack, Told
from relaysim.faults import Corrupt
from relaysim.network.arrivals import Arrivals
from relaysim.network.drawn import DrawnWeights, PeerWeights, SharedWeights
from relaysim.network.gossip import Weights
from relaysim.network.slots import Heard

__all__ = ["Altered", "AnyWeights", "Crossing", "Faithful", "Lies", "Lossy"]

AnyWeights: TypeAlias = Weights | DrawnWeights | PeerWeights | SharedWeights


class Crossing(Protocol):
    """How vectors are mixed with given weights."""

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        """W x, ``(n, d[, r])``."""

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        """(W − I) x for the lazy matrix, to the precision of the differences between neighbours."""

    def heard(self, weights: AnyWeights, x: np.ndarray) -> Heard:
        """What everyone hears, message by message."""


class Faithful:
    """Everything arrives as it was sent."""

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        return weights.product(x)

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        return weights.change(x, laziness)

    def heard(self, weights: AnyWeights, x: np.ndarray) -> Heard:
        return weights.slots.hear(x)


class Lossy(Faithful):
    """Some messages do not arrive."""

    def __init__(self, arrivals: Arrivals):
        self._arrivals = arrivals

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        return weights.lossy.mix(x, further)

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        return weights.lossy(x, laziness)


class _OfWhatIsHeard(Faithful):
    """Mixing is of what each receiver hears, message by message, which need not be what was sent."""

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        return x + self.changed(weights, x, 0)

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        heard = self.heard(weights, x)
        return (1 - laziness) * (heard.weights * (heard.vectors - x)).sum(axis=0)


class Lies(_OfWhatIsHeard):
    """Some workers tell others what an attack says.

    Args:
        liars: ``(n,)``, who does.
        attack: what they tell.
        uniforms: ``uniforms(shape)``, random numbers of the replicas.
    """

    def __init__(
        self,
        liars: np.ndarray,
        attack: Attack,
        uniforms: Callable[[tuple[int, ...]], np.ndarray],
    ):
        self._liars, self._attack, self._uniforms = liars, attack, uniforms

    def heard(self, weights: AnyWeights, x: np.ndarray) -> Heard:
        slots = weights.slots
        heard = slots.hear(x)
        liars = self._liars.reshape((-1,) + (1,) * (x.ndim - 1))
        lying = slots.by_sender(np.broadcast_to(liars, (len(x), 1, *x.shape[2:])))
        lying = lying & (heard.weights != 0)
        told = Told(
            own=x,
            sent=heard.vectors,
            weights=heard.weights,
            lying=lying,
            liars=int(self._liars.sum()),
            by_sender=slots.by_sender,
            uniforms=self._uniforms,
        )
        return heard._replace(vectors=np.where(lying, self._attack.lies(told), heard.vectors))


class Altered(_OfWhatIsHeard):
    """Some numbers are altered on their way.

    Args:
        fault: how.
        uniforms: ``uniforms(shape)``, random numbers of the replicas.
        replicas: r, 1 without replica axis.

    ``altered_numbers`` counts them since the run began, ``(r,)``.
    """

    def __init__(
        self, fault: Corrupt, uniforms: Callable[[tuple[int, ...]], np.ndarray], replicas: int
    ):
        self._fault, self._uniforms = fault, uniforms
        self.altered_numbers = np.zeros(replicas, dtype=np.int64)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self.altered_numbers = self.altered_numbers[replicas]

    def heard(self, weights: AnyWeights, x: np.ndarray) -> Heard:
        heard = weights.slots.hear(x)
        shape = heard.vectors.shape
        sent = heard.vectors.reshape(-1, *shape[2:])
        arrived, which = self._fault.altered(sent, self._uniforms)
        there = np.broadcast_to(heard.weights != 0, shape)
        which = which.reshape(shape) & there
        self.altered_numbers += which.reshape(-1, len(self.altered_numbers)).sum(axis=0)
        return heard._replace(vectors=np.where(which, arrived.reshape(shape), heard.vectors))
