"""Messages that arrive later than they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relaysim.faults.base import LATE_MESSAGES, Fault, WireRound
from relaysim.support.checks import plain_options, real_number, true_or_false, whole_number

__all__ = ["Delay"]


@dataclass(frozen=True)
class Delay(Fault):
    """Messages arrive some steps late, each by itself.

    A message is late with a probability, and then by 1 to ``most`` steps, all as likely. Messages carry the
    number of their step, and a receiver goes by the newest that it has from a sender: one that comes after a
    newer one changes nothing. Those of which it has none yet count as lost, see `MessageDrop`.

    Beside other faults a message that is lost, when it is sent, never comes, nor holds up others, and a
    receiver goes by those that were sent in the last ``most`` + 1 steps: where none of these came it counts
    as lost. Where weights repeat with a period of P steps those of the last ``most`` + P steps serve, with
    the weights of the step in which they are used.

    Gossip: x_i' = w_ii x_i + Σ_j w_ij x_j^{s_ij}, with s_ij ≤ t the step of the newest that came from j;
    i's own is never late. RelaySum: a message on i→j is payload_i + Σ_{k ≠ j} (the newest from k), with its
    count, so that once everyone is heard each Sum_i holds every payload once, of steps that differ.

    Args:
        probability: of a message to be late, in [0, 1].
        most: k ≥ 1, how many steps it is late at most.
        ordered: whether a message waits for all that were sent before it over the same edge; without it
            messages overtake each other.

    Raises:
        ValueError: a probability outside [0, 1], k below 1.

    >>> Delay(0.2, most=3)
    Delay(probability=0.2, most=3, ordered=True)
    """

    probability: float
    most: int = 1
    ordered: bool = True

    kind: ClassVar[str] = LATE_MESSAGES

    def __post_init__(self) -> None:
        plain_options(self)
        probability = real_number(self.probability, "probability", 0, 1)
        object.__setattr__(self, "probability", probability)
        whole_number(self.most, "most", 1)
        true_or_false(self.ordered, "ordered")

    @property
    def never(self) -> bool:
        return self.probability == 0

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives, in the end."""
        return np.ones(len(edges), dtype=bool)

    def late_by(self, count: int, round: WireRound) -> np.ndarray:
        """By how many steps so many messages of a round are late, ``(count,)`` or ``(count, r)``."""
        return self.late(round.uniforms(count))

    def late(self, uniforms: np.ndarray) -> np.ndarray:
        """By how many steps messages are late, of numbers in [0, 1) of the same shape.

        >>> Delay(0.5, most=2).late(np.array([0.1, 0.3, 0.7])).tolist()
        [1, 2, 0]
        """
        if self.never:
            return np.zeros(uniforms.shape, dtype=np.int64)
        steps = (uniforms / self.probability * self.most).astype(np.int64) + 1
        return np.where(uniforms < self.probability, np.minimum(steps, self.most), 0)
