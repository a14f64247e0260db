"""What a curve of suboptimalities says: from when on it is below a target, and where it settles."""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "every_phase",
    "first_below",
    "over_a_cycle",
    "overshoot",
    "settled_levels",
    "stands_still",
    "stays_below",
    "steps_at_slope",
]

# How much a curve may grow close to rounding, where drifts are normal.
GROWING_ROUNDING = 100.0
# A curve whose largest values differ by no more is at rest.
AT_REST = 1e-6
# Fractions of the start below which rounding may show, and below which there is nothing else.
NEAR_ROUNDING, ROUNDING = 1e-24, 1e-29


def stays_below(steps: np.ndarray, curves: np.ndarray, target: float, growing: float) -> np.ndarray:
    """First recorded step from which each curve ``(records, r)`` is below the target to the end.

    NaN where there is none, and where the curve is on its way up again: where its largest value in the
    last quarter of that time is more than ``growing`` times the third's.
    """
    above = ~(curves < target)
    last_above = len(curves) - 1 - above[::-1].argmax(axis=0)
    first = np.where(above.any(axis=0), last_above + 1, 0)
    reached = first < len(curves)
    for k in np.flatnonzero(reached):
        after = curves[first[k] :, k]
        quarter = len(after) // 4
        if quarter:
            before, last = after[-2 * quarter : -quarter].max(), after[-quarter:].max()
            reached[k] = last <= growing * max(before, NEAR_ROUNDING * curves[0, k])
            reached[k] &= last <= GROWING_ROUNDING * max(before, ROUNDING * curves[0, k])
    return np.where(reached, steps[np.minimum(first, len(curves) - 1)], np.nan)


def overshoot(steps: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """How far before its first step below the target each curve crossed it, in [0, 1)."""
    found = np.isfinite(steps)
    k = np.where(found, steps, 1).astype(int).clip(1, len(curves) - 1)
    columns = np.arange(curves.shape[1])
    after, before = curves[k, columns], curves[k - 1, columns]
    with np.errstate(all="ignore"):
        crossed = np.log(target / after) / np.log(before / after)
    return np.where(found, np.nan_to_num(crossed.clip(0, 1)), 0.0)


def first_below(steps: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """First recorded step at which each curve is below the target, NaN where there is none."""
    below = curves < target
    return np.where(below.any(axis=0), steps[below.argmax(axis=0)], np.nan)


def steps_at_slope(curves: np.ndarray, target: float) -> np.ndarray:
    """Steps in which each curve ``(records, r)``, of every step, is below the target at the slope it has.

    The slope of the logarithms of the largest values of quarters, the second to the third or the third to
    the last, whichever is steeper. Infinite where neither falls.
    """
    quarter = len(curves) // 4
    if not quarter:
        return np.zeros(curves.shape[1])
    with np.errstate(all="ignore"):
        second, third, last = (np.log(each / target) for each in _largest(curves, quarter))
        slope = np.minimum(third - second, last - third) / quarter
        needed = len(curves) - quarter + np.maximum(last, 0) / -slope
    return np.where(slope < 0, needed, np.inf)


def stands_still(curves: np.ndarray, target: float) -> np.ndarray:
    """Whether each curve ``(records, r)`` is at rest above the target: the largest values of its last three
    quarters are the same up to a millionth.
    """
    quarter = len(curves) // 4
    if not quarter:
        return np.zeros(curves.shape[1], dtype=bool)
    second, third, last = _largest(curves, quarter)
    with np.errstate(all="ignore"):
        same = np.maximum(np.abs(second - third), np.abs(third - last)) <= AT_REST * last
    return same & (last > target)


def _largest(curves: np.ndarray, quarter: int) -> list[np.ndarray]:
    """Of the last three quarters."""
    start = len(curves) - 3 * quarter
    return [curves[start + k * quarter :][:quarter].max(axis=0) for k in range(3)]


def over_a_cycle(curves: np.ndarray, cycle: int) -> np.ndarray:
    """The mean over each record and the ``cycle - 1`` before it (at first over all so far), ``(records, r)``.

    What a periodic rule does within a cycle is not in it.
    """
    if cycle == 1:
        return curves
    # Sums of each window by itself: differences of running sums keep the rounding of the start.
    windows = np.lib.stride_tricks.sliding_window_view(curves, min(cycle, len(curves)), axis=0)
    counts = np.arange(1, len(curves) - len(windows) + 1)[:, None]
    with np.errstate(all="ignore"):  # of what diverges
        first = np.cumsum(curves[: len(counts)], axis=0) / counts
        return np.concatenate([first, windows.mean(axis=-1)])


def every_phase(stride: int, cycle: int) -> int:
    """The smallest stride from this one on that meets every phase of a cycle."""
    while math.gcd(stride, cycle) > 1:
        stride += 1
    return stride


def settled_levels(curves: np.ndarray, target: float, flatness: float) -> np.ndarray:
    """The level at which each curve has settled, NaN where it has not.

    Settled means that the mean over the last quarter of the run differs from that over the quarter
    before by less than the fraction ``flatness``. A curve that has fallen to a millionth of the
    target has plateau 0.
    """
    quarter = len(curves) // 4
    late = curves[-quarter:].mean(axis=0)
    earlier = curves[-2 * quarter : -quarter].mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        flat = np.abs(late - earlier) <= flatness * np.abs(late)
    levels = np.where(flat, late, np.nan)
    return np.where(late < 1e-6 * target, 0.0, levels)
