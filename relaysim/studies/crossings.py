"""When each learning rate crosses the target, and between which rates to look for a better one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["CHEAP_STEPS", "FINEST", "NEAR", "Crossings", "neighbourhoods"]

# Rates closer than this are not told apart.
FINEST = 1.004
# The best is searched for around rates that take at most so many times its steps: around so many of them, but
# around fewer where a run takes longer than is cheap, and with so many rates to the next that is known.
NEAR = 1.15
CHEAP_STEPS, MANY, FEW, BETWEEN = 500, 8, 3, 5
# Where both neighbours of the best take this many times more steps beyond the best's than a cost inverse to
# the rate lets expect, there may be a needle between them.
STEEP = 3.0


def neighbourhoods(steps: float) -> int:
    """Around how many rates one looks, where the best takes so many steps."""
    return MANY if steps < CHEAP_STEPS else FEW


@dataclass(frozen=True)
class Crossings:
    """What is known of some rates.

    Args:
        rates: increasing, ``(r,)``.
        steps: that each takes to the target, NaN if it does not get there, ``(r,)``.
        crossings: the same in fractions of a step, ``(r,)``.
    """

    rates: np.ndarray
    steps: np.ndarray
    crossings: np.ndarray

    @property
    def fewest(self) -> float:
        """Steps of the best; infinite where no rate gets there."""
        return float(np.nanmin(self.steps, initial=np.inf))

    @property
    def earliest(self) -> float:
        """The same in fractions of a step."""
        return float(np.nanmin(self.crossings, initial=np.inf))

    def with_others(self, rates: np.ndarray, steps: np.ndarray, crossings: np.ndarray) -> Crossings:
        """And what is known of these."""
        every = np.concatenate([self.rates, rates])
        order = np.argsort(every, kind="stable")
        steps = np.concatenate([self.steps, steps])[order]
        return Crossings(every[order], steps, np.concatenate([self.crossings, crossings])[order])

    def to_try(self) -> np.ndarray:
        """Rates on both sides of those that come close to the best, up to the next that are known.

        Steps against rate can have several dips, and its best is often next to a cliff. Beyond the lowest and
        the highest it goes as far as to the next on the other side.

        >>> steps = np.array([9.0, 4.0, 12.0])
        >>> Crossings(np.array([1.0, 2.0, 4.0]), steps, steps).to_try().round(2).tolist()
        [1.12, 1.26, 1.41, 1.59, 1.78, 2.24, 2.52, 2.83, 3.17, 3.56]
        """
        order = np.argsort(self.crossings, kind="stable")
        near = order[self.steps[order] <= NEAR * self.fewest + 1][: neighbourhoods(self.fewest)]
        if not len(near) or len(self.rates) < 2:
            return np.empty(0)
        below, above = self.rates[0] ** 2 / self.rates[1], self.rates[-1] ** 2 / self.rates[-2]
        every = np.concatenate([[below], self.rates, [above]])
        left = np.union1d(near, near + 1)
        ratios = every[left + 1] / every[left]
        left, ratios = left[ratios > FINEST], ratios[ratios > FINEST]
        parts = np.arange(1, BETWEEN + 1) / (BETWEEN + 1)
        return (every[left, None] * ratios[:, None] ** parts).ravel()

    def is_needle(self) -> bool:
        """Whether steps rise steeply on both sides of the best."""
        best = int(np.argmin(np.nan_to_num(self.steps, nan=np.inf)))
        if not (math.isfinite(self.fewest) and 0 < best < len(self.rates) - 1):
            return False
        ratios = self.rates[best : best + 2] / self.rates[best - 1 : best + 1]
        far = self.fewest * (1 + STEEP * (ratios - 1)) + 1
        return not (self.steps[[best - 1, best + 1]] <= far).any()
