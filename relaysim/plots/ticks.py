"""Ticks of log axes that can be read, however little of a decade they show, and of whole numbers."""

from __future__ import annotations

import itertools
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator

__all__ = ["LogTicks", "log_ticks", "number", "whole_ticks"]

# Numbers between these are written out, others with a power of ten.
PLAIN = (1e-3, 1e5)
# So many numbers fit an axis that shows less than a decade, if there is room for them.
MOST = 9
EVERY = frozenset(range(1, 10))
# Which multiples of powers of ten are named, the more of them the more room there is.
NAMED = (EVERY, frozenset({1, 2, 3, 5, 7}), frozenset({1, 2, 5}), frozenset({1, 3}), frozenset({1}))
# In shares of the height of letters: how wide one is, and how high a line without and with a power of ten.
LETTER, LINE, LINE_OF_POWERS = 0.6, 1.1, 1.4


def number(value: float, digits: int = 3) -> str:
    r"""A number as labels show it: written out where it is short, else with a power of ten.

    >>> number(0.25), number(20000), number(5e-7), number(1e-6)
    ('0.25', '20000', '$5\\cdot 10^{-7}$', '$10^{-6}$')
    """
    if value == 0 or not math.isfinite(value) or PLAIN[0] <= abs(value) < PLAIN[1]:
        return f"{value:.0f}" if 10**digits <= abs(value) < PLAIN[1] else f"{value:.{digits}g}"
    leading, _, power = f"{value:.{digits - 1}e}".partition("e")
    times = f"{float(leading):g}"
    ten = f"10^{{{int(power)}}}"
    return f"${ten}$" if times == "1" else rf"${times}\cdot {ten}$"


class LogTicks(LogFormatter):
    """Names of ticks by what is in sight: powers of ten, also 2 and 5 of them, or all ticks that there are.

    Powers of ten where there are two of them or more in over a decade and a half; below a decade every tick.
    Fewer where names would not stand side by side.
    """

    def set_locs(self, locs: object = None) -> None:
        """Look at what is in sight; matplotlib calls this before it asks for names."""
        axis: Any = self.axis
        low, high = sorted(float(end) for end in axis.get_view_interval())
        self._named, self._plain, self._between = frozenset({1}), False, False
        self._chosen: list[float] | None = None
        if not 0 < low < high < math.inf:
            return
        decades = math.log10(high / low)
        powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
        if powers >= 2 and decades > 1.6:
            return
        self._plain = PLAIN[0] <= 2 * low and high <= PLAIN[1]
        there = {*axis.get_majorticklocs(), *axis.get_minorticklocs()}
        ticks = sorted(tick for tick in there if low <= tick <= high)
        within, few = decades <= 1, len(ticks) <= MOST
        for self._named in NAMED[0 if within and few else 1 if within else 2 :]:
            self._between = within and few and self._named is EVERY
            if self._fit(ticks, _points(axis) / decades):
                return
        # Where no multiple serves, some of all that there are.
        for every in range(1, len(ticks) + 1):
            self._chosen = ticks[::every]
            if self._fit(ticks, _points(axis) / decades):
                return

    def _fit(self, ticks: list[float], room: float) -> bool:
        """Whether names of neighbours stand side by side, with so many points for a decade."""
        axis: Any = self.axis
        height = axis.get_major_ticks(1)[0].label1.get_fontsize()
        named = [(tick, name) for tick in ticks if (name := self(tick))]
        if not named:
            return False
        wide = axis.axis_name == "x"
        for (one, before), (other, after) in itertools.pairwise(named):
            needed = LINE_OF_POWERS if "^" in before + after else LINE
            if wide:
                needed = LETTER * ((_seen(before) + _seen(after)) / 2 + 1)
            if room * math.log10(other / one) < height * needed:
                return False
        return True

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The name of a tick, or nothing."""
        if x <= 0:
            return ""
        power = math.floor(math.log10(x) + 1e-9)
        leading = x / 10.0**power
        whole = math.isclose(leading, round(leading), rel_tol=1e-6)
        named = round(leading) in self._named if whole else self._between
        if self._chosen is not None:
            named = any(math.isclose(x, tick, rel_tol=1e-9) for tick in self._chosen)
        if not named:
            return ""
        return (
            f"$10^{{{power}}}$"
            if whole and round(leading) == 1 and not self._plain
            else number(x, 4)
        )


def _seen(name: str) -> int:
    """How many letters of a name are seen.

    >>> _seen("0.25"), _seen(number(5e-7))
    (4, 6)
    """
    return len(name.replace(r"\cdot ", "·").translate(dict.fromkeys(map(ord, "${}^"))))


def _points(axis: Any) -> float:
    """How long it is in a picture."""
    box = axis.axes.bbox
    pixels = box.width if axis.axis_name == "x" else box.height
    return 72 * pixels / axis.axes.figure.dpi


def log_ticks(ax: Axes, x: bool = False, y: bool = True) -> None:
    """Give axes of these that are logarithmic, and have no other ticks of their own, `LogTicks`."""
    for chosen, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if chosen and isinstance(axis.get_major_locator(), LogLocator):
            axis.set_major_formatter(LogTicks())
            axis.set_minor_formatter(LogTicks())


def whole_ticks(axis: Any) -> None:
    """Ticks of a linear axis at whole numbers only, such as steps."""
    if axis.get_scale() == "linear":
        steps = [1, 2, 2.5, 5, 10]
        axis.set_major_locator(MaxNLocator("auto", steps=steps, integer=True, min_n_ticks=1))
