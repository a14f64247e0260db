"""How much an explorer runs in the time that an answer may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from relaysim.records.history import History

__all__ = ["SEARCH_SECONDS", "Budget", "affordable_theory", "floor_steps", "numbers_of"]

#: An answer in this many seconds of work, of which the picture takes the larger part.
SECONDS = 0.5
FOR_RUNS = 0.4
# Steps that tell how fast a method is, which even the slowest makes in the time.
FIRST = 4
# Of the time that is left this share is planned for; below this gain no longer run is made.
PLANNED, GAIN = 0.8, 1.5
# Of every method: what is left where others took it all.
LEAST_SECONDS = 0.02
# Numbers in a state of which spectra are found in a tenth of a second, with noise floors of x̄; and those of
# all workers, which take longer.
MOST_NUMBERS, MOST_SPREAD = 1000, 600
#: Numbers in a state times steps until a start is forgotten: where there are more, the noise floor takes
#: longer than an answer may, and comes after it.
MOST_FOR_FLOOR = 1.2e6
#: So much of a search for stable rates is done at once, while the next answer must wait.
SEARCH_SECONDS = 0.1


class Budget:
    """The time of an answer, shared by the methods that are still to run.

    Args:
        seconds: for all, half a second by default; math.inf, and everything is run whole.
        methods: how many.
    """

    def __init__(self, seconds: float | None, methods: int) -> None:
        self._end = _now() + FOR_RUNS * (SECONDS if seconds is None else seconds)
        self._methods = methods

    def run(self, steps: int, make: Callable[[int], History], least: int = 1) -> History:
        """The history of so many steps, or of as many as the next method may take; a round number then.

        A short run tells how fast it goes; of ``least`` steps at least, which the method needs.
        """
        share = max((self._end - _now()) / max(self._methods, 1), LEAST_SECONDS)
        end = _now() + share
        count = steps if share == math.inf else min(max(FIRST, least), steps)
        while True:
            began = _now()
            history = make(count)
            took = max(_now() - began, 1e-6)
            affordable = PLANNED * count * (end - _now()) / took
            following = steps if affordable >= steps else _round(affordable)
            if count == steps or following < GAIN * count:
                return history
            count = following

    def next(self) -> None:
        """One method is done, or cannot run: its time is for the others."""
        self._methods -= 1


def _now() -> float:
    # Of this thread's work: what else a computer does changes no picture.
    return time.thread_time()


def _round(number: float) -> int:
    """The largest of 1, 2, 5, 10, 20, … that is not above a number.

    >>> _round(7.3), _round(49), _round(50), _round(0.2)
    (5, 20, 50, 0)
    """
    if number < 1:
        return 0
    decade = 10 ** int(math.log10(number))
    return max(k * decade for k in (1, 2, 5, 10) if k * decade <= number)


def affordable_theory(n: int, d: int, edges: int, relays: bool, spread: bool) -> bool:
    """Whether the spectrum of a method's step, and its floor under noise, are found in the time of an answer.

    Args:
        n, d, edges: of problem and topology.
        relays: whether messages are part of the state.
        spread: whether the floor is of what workers are apart, and not of x̄ alone.

    >>> affordable_theory(32, 10, 31, relays=True, spread=False), affordable_theory(64, 10, 63, True, False)
    (True, False)
    """
    return numbers_of(n, d, edges, relays) <= (MOST_SPREAD if spread else MOST_NUMBERS)


def floor_steps(n: int, d: int, edges: int, relays: bool) -> float:
    """The most steps until a start is forgotten with which a noise floor is found in the time of an answer.

    Args:
        n, d, edges, relays: as for `affordable_theory`.
    """
    return MOST_FOR_FLOOR / numbers_of(n, d, edges, relays)


def numbers_of(n: int, d: int, edges: int, relays: bool) -> int:
    """About how many numbers are in a method's state."""
    return (n + 2 * edges) * d if relays else 3 * n * d
