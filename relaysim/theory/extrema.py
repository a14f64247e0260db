"""Lowest points and zeros of curves that may have corners, from values and slopes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

__all__ = ["lowest_between", "zero_between"]

# Below this, where logarithms of what should be 0 go down without end, slopes may be those of rounding.
PIT = -5.0
# Values are found to this, places to this share.
SAME_VALUE, SAME_PLACE = 1e-10, 1e-7
MOST_EVALUATIONS = 80
# Where ends do not come half as close in so many evaluations, the middle is next.
SLOW = 4
# And are not looked for where both ends are further apart than this share.
NARROW = 3e-8
# Where a place was on the same side again, the next is so much of the way to the far end beyond.
BEYOND = 0.1, 0.5
# Zeros are found to this share of their place.
ZERO = 1e-10


class _Point(NamedTuple):
    """A point of a curve, and how its slope changes on this side of the lowest, as far as that is known."""

    place: float
    value: float
    slope: float
    bend: float = 0.0

    def at(self, place: float) -> float:
        """The value elsewhere of the parabola through here."""
        along = place - self.place
        return self.value + along * (self.slope + self.bend * along / 2)

    def after(self, last: _Point) -> _Point:
        """The same, where the last one lies on the same side."""
        return self._replace(bend=(self.slope - last.slope) / (self.place - last.place))


def lowest_between(
    function: Callable[[float], tuple[float, float]], left: float, middle: float, right: float
) -> tuple[float, float]:
    """The lowest value between two places, and where.

    Where the curve is a largest of several, its lowest point is mostly a corner, in which parabolas from
    both sides meet; else that of the cubic between the ends is tried.

    Args:
        function: value and slope, to the right where there are two.
        left, middle, right: at the middle one the curve is lower than at the others.

    >>> value, place = lowest_between(lambda x: max((1 - x, -1.0), (x**2 - 1, 2 * x)), 0.1, 0.8, 1.9)
    >>> round(value, 9), round(place, 9)
    (0.0, 1.0)
    """
    low, high = (_Point(place, *function(place)) for place in (left, right))
    best = min((low.value, low.place), (high.value, high.place))
    if not (low.slope < 0 < high.slope and math.isfinite(high.slope - low.slope)):
        return min(best, _by_values(function, left, right))
    tried = [left, right]
    bend, first_width = high.slope - low.slope, right - left
    place, told, side, again, settled = middle, {True: math.nan, False: math.nan}, 0, 0, 0
    widths = [math.inf] * SLOW
    for _ in range(MOST_EVALUATIONS):
        point = _Point(place, *function(place))
        best = min(best, (point.value, point.place))
        tried.append(place)
        if point.value == -math.inf:
            break  # no other is lower
        now = -1 if point.slope < 0 else 1
        low, high = (point.after(low), high) if now < 0 else (low, point.after(high))
        # In a corner slopes keep their difference while ends come closer; elsewhere it goes with the width.
        share = (high.place - low.place) / first_width
        as_corner = (high.slope - low.slope) / bend >= math.sqrt(share)
        miss = abs(told[as_corner] - point.value)
        side, again = now, again + 1 if now == side else 0
        if all(map(math.isfinite, (*low, *high))):
            following, value = (_corner if as_corner else _bottom)(low, high)
        else:  # next to where the curve has no bottom
            following, value = (low.place + high.place) / 2, math.inf
        widths.append((high.place - low.place) / place)
        right = max(miss, abs(best[0] - value)) <= SAME_VALUE
        if point.slope == 0 or (right and widths[-1] <= NARROW) or widths[-1] <= SAME_VALUE:
            break
        if right:  # towards the end that is far, from which a branch may bend downwards
            settled += 1
            shift = NARROW / 2 * 10 ** (settled - 1) * place
            following += shift if 2 * following < low.place + high.place else -shift
        elif again:
            following += BEYOND[again > 1] * ((high if now < 0 else low).place - following)
        place = following
        if not low.place < place < high.place or widths[-1] > widths[-1 - SLOW] / 2:
            place, widths = (low.place + high.place) / 2, [math.inf] * SLOW
        told = {True: max(low.at(place), high.at(place)), False: _cubic(low, high, place)}
    if -math.inf < best[0] < PIT:
        before = max((place for place in tried if place < best[1]), default=best[1])
        after = min((place for place in tried if place > best[1]), default=best[1])
        best = min(best, _by_values(function, before, after))
    return best


def _by_values(
    function: Callable[[float], tuple[float, float]], left: float, right: float
) -> tuple[float, float]:
    """The lowest value between two places, and where, without the slopes."""
    with np.errstate(invalid="ignore"):  # of −∞
        found = scipy.optimize.minimize_scalar(
            lambda place: function(place)[0],
            bounds=(left, right),
            method="bounded",
            options={"xatol": SAME_PLACE * right},
        )
    return float(found.fun), float(found.x)


def _corner(low: _Point, high: _Point) -> tuple[float, float]:
    """Where parabolas through both ends meet, and at which value; an end where they do not meet between."""

    def apart(place: float) -> float:
        return low.at(place) - high.at(place)

    if apart(low.place) <= 0:
        return low.place, low.value
    if apart(high.place) >= 0:
        return high.place, high.value
    place = float(scipy.optimize.brentq(apart, low.place, high.place, xtol=1e-300))
    return place, low.at(place)


def _bottom(low: _Point, high: _Point) -> tuple[float, float]:
    """The lowest place of the cubic with these ends, and its value there."""
    width = high.place - low.place
    d1 = low.slope + high.slope - 3 * (high.value - low.value) / width
    d2 = math.sqrt(max(d1 * d1 - low.slope * high.slope, 0.0))
    place = high.place - width * (high.slope + d2 - d1) / (high.slope - low.slope + 2 * d2)
    return place, _cubic(low, high, place)


def _cubic(low: _Point, high: _Point, place: float) -> float:
    width = high.place - low.place
    t = (place - low.place) / width
    from_low = (1 + 2 * t) * low.value + t * width * low.slope
    from_high = (3 - 2 * t) * high.value - (1 - t) * width * high.slope
    return (1 - t) ** 2 * from_low + t**2 * from_high


def zero_between(
    function: Callable[[float], tuple[float, float]],
    left: float,
    right: float,
    values: tuple[float, float],
) -> float:
    """Where a curve crosses 0 between two places, of whose values there the signs differ: by Newton's method.

    Args:
        function: value and slope.
        left, right: the places.
        values: roughly those at the places.

    >>> round(zero_between(lambda x: (x**3 - 2, 3 * x**2), 1.0, 2.0, (-1.0, 6.0)), 9)
    1.25992105
    """
    rises = values[0] < 0
    last = right - left
    place = left + last * _inner(values[0] / (values[0] - values[1]))
    for _ in range(MOST_EVALUATIONS):
        value, slope = function(place)
        if value == 0:
            break
        if (value < 0) == rises:
            left = place
        else:
            right = place
        step = -value / slope if slope else math.inf
        if not left < place + step < right or abs(step) > abs(last) / 2:
            step = (left + right) / 2 - place
        place, last = place + step, step
        if abs(step) <= ZERO * place:
            break
    return place


def _inner(share: float) -> float:
    return min(max(share, 0.05), 0.95) if math.isfinite(share) else 0.5
