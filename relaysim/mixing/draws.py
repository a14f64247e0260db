"""What was drawn of the messages of a round."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Draw", "Peers"]


class Draw(NamedTuple):
    """The messages of a round, of several streams; each array ``(messages,)``.

    ``weights`` is what a message counts with, not 0; a worker keeps on its own what is left of 1. Nobody
    hears another one twice in a round, and the messages of one stream stand in an order that does not depend
    on other streams.
    """

    receivers: np.ndarray
    senders: np.ndarray
    streams: np.ndarray
    weights: np.ndarray


class Peers(NamedTuple):
    """The messages of a round where all count with one weight, w.

    ``senders (k, n, streams)``: whom everyone hears in its first message, second, and so on, itself where
    there is none; a worker keeps 1 − k w on its own, besides w for each of the latter.
    """

    senders: np.ndarray
    weight: float

    def as_draw(self) -> Draw:
        """Message by message."""
        alone = np.arange(self.senders.shape[1])[:, None]
        slot, receivers, streams = np.nonzero(self.senders != alone)
        senders = self.senders[slot, receivers, streams]
        return Draw(receivers, senders, streams, np.full(len(senders), self.weight))
