"""Learning rates that change with the step: callables of the step, 0, 1, …"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Listed", "Tabulated"]


@dataclass(frozen=True)
class Listed:
    """A learning rate that follows a list: step t uses entry t, and the last one after its end.

    >>> Listed((0.2, 0.1))(5)
    0.1
    """

    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(self.rates))

    def __call__(self, step: int) -> float:
        return self.rates[min(step, len(self.rates) - 1)]


@dataclass(frozen=True)
class Tabulated(Listed):
    """The rates of a callable of one's own as far as a run used them; a file can hold no more of it."""
