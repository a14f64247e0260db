"""What goes wrong on the way from one worker to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relaysim.support.checks import real_number
from relaysim.support.streams import Streams

__all__ = ["MessageDrop"]


@dataclass(frozen=True)
class MessageDrop:
    """Every message is lost with the same probability, independently.

    A lost RelaySum message enters neither the receiver's sum and count nor what it relays next. A
    gossip neighbour that was not heard loses its weight, and the other weights of that row are
    scaled to sum to 1 again, so that the matrix of that round is no longer doubly stochastic; a
    worker that hears nobody keeps its own. Lost messages were sent, and count as sent.

    Args:
        probability: of a directed message being lost, in [0, 1]. Messages of different rounds, and
            the two vectors that gradient tracking sends in one, are lost independently. Replicas
            with the same seed lose the same messages.

    Raises:
        ValueError: a probability outside [0, 1].

    Source: the experiment on unreliable networks (table 5) of Vogels et al., "RelaySum", NeurIPS
    2021, and its published code.

    >>> MessageDrop(0.01)
    MessageDrop(probability=0.01)
    """

    probability: float

    def __post_init__(self):
        probability = real_number(self.probability, "probability", 0, 1)
        object.__setattr__(self, "probability", probability)

    def arrivals(self, streams: Streams) -> Callable[[int], np.ndarray] | None:
        """For one run, the function that tells which of so many messages arrive.

        It maps a number of messages to 1 for those that arrive and 0 for those that do not,
        ``(messages, 1)`` or, for replicas, ``(messages, 1, r)``; each call is another draw. None
        where nothing is ever lost.
        """
        if self.probability == 0:
            return None
        uniform = streams.uniforms("faults")

        def arrivals(messages: int) -> np.ndarray:
            return (uniform(messages) >= self.probability).astype(float)

        return arrivals
