"""Messages that arrive with other numbers than were sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from relaysim.faults.base import ALTERED, Fault, WireRound
from relaysim.support.checks import one_of, plain_options, real_number

__all__ = ["Corrupt"]

# Uniform numbers that are 0 would be −∞ of a Gaussian distribution.
_LEAST_UNIFORM = 2.0**-54


@dataclass(frozen=True)
class Corrupt(Fault):
    """Numbers are altered on their way, each of each message with a probability, independently.

    Receivers take what arrives for what was sent; what a worker has itself is never altered. A bit that is
    flipped may be of the exponent: one altered number then ends a run, as it would without a checksum; with
    one, an altered message is a lost one, and `MessageDrop` is the fault.

    Args:
        probability: of a number to be altered, in [0, 1].
        form: ``"value"``, another number in its place, drawn from a Gaussian distribution around 0; or
            ``"bit"``, one of its 64 bits flipped, any with the same probability.
        scale: standard deviation of that Gaussian distribution.

    Raises:
        ValueError: a probability outside [0, 1], another form, a scale below 0.

    >>> Corrupt(1e-4, "bit")
    Corrupt(probability=0.0001, form='bit', scale=1.0)
    """

    probability: float
    form: str = "value"
    scale: float = 1.0

    kind: ClassVar[str] = ALTERED

    def __post_init__(self) -> None:
        plain_options(self)
        probability = real_number(self.probability, "probability", 0, 1)
        object.__setattr__(self, "probability", probability)
        one_of(self.form, "form", ("value", "bit"))
        object.__setattr__(self, "scale", real_number(self.scale, "scale", 0))

    @property
    def never(self) -> bool:
        return self.probability == 0

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """Everything arrives."""
        return np.ones(len(edges), dtype=bool)

    def altered(
        self, sent: np.ndarray, uniforms: Callable[[tuple[int, ...]], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What arrives, and which numbers were altered, both ``(messages, d[, r])``.

        ``uniforms(shape)`` are numbers in [0, 1) of each replica's own stream: which first, then how.
        """
        which = uniforms(sent.shape) < self.probability
        how = uniforms(sent.shape)
        if self.form == "value":
            return np.where(which, self.scale * ndtri(np.maximum(how, _LEAST_UNIFORM)), sent), which
        bits = np.ascontiguousarray(sent).view(np.uint64)
        flipped = bits ^ (np.uint64(1) << (64 * how).astype(np.uint64))
        return np.where(which, flipped, bits).view(np.float64), which
