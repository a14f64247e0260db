"""How fast a curve falls: the factor per step over the part of it that is a line on a log axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from relaysim.records.history import History
from relaysim.support.checks import real_array, shown, whole_number
from relaysim.support.display import html_table

__all__ = ["Fit", "fit_decay", "fit_rate"]

LEAST_RECORDS = 10
LEAST_CHANGE = 2.0  # in natural logs: a factor e²
TOLERANCES = (0.001, 0.003, 0.01, 0.03)  # of the slopes of a window's halves, the strictest first
MOST_UNCERTAIN = 0.05  # what noise may add to that
LARGEST_RESIDUAL = 0.2  # root mean square, against the change over the window
FLOOR_FRACTIONS = (0.95, 0.9, 0.75, 0.5, 0.25)
LEAST_FLOOR = 5  # records
FLAT = 0.35  # slope of a floor, against the slope before it
UNSURE = 0.35  # standard error of that slope, likewise
MOST_STARTS = 200
SMALLEST = 1e-290  # below that numbers lose digits


@dataclass(frozen=True)
class Fit:
    """The line log(value) = intercept + slope · step through a curve's linear regime.

    Attributes:
        factor: by which the curve is multiplied in each step, exp(slope); above 1 if it grows.
        slope: natural log per step.
        standard_error: of the slope over this window, from its residuals, taken to be an AR(1)
            process. That the window was chosen by the same data is not in it, so that it is too
            small where noise is large or correlated: the slope ± 1.96 of it held the true one in 93
            to 97 % of trials with independent noise of up to 0.1 (in natural logs), but in 87 to 96 %
            of 0.3 to 1, in 86 to 95 % with AR(1) noise of correlation 0.5, and in 65 to 83 % of
            correlation 0.9 (on 60 to 400 records).
        intercept: log of the line's value at step 0.
        first_step, last_step: the regime.
        linear: whether there is one. If not, the numbers are NaN and the steps None.

    >>> Fit(factor=0.5, slope=-0.6931, standard_error=0.0, intercept=0.0, first_step=0,
    ...     last_step=20, linear=True).factor
    0.5
    """

    factor: float
    slope: float
    standard_error: float
    intercept: float
    first_step: int | None
    last_step: int | None
    linear: bool

    def _repr_html_(self) -> str:
        return html_table("Line through the logarithm of a curve", rows_of_fit(self))


def rows_of_fit(fit: Fit) -> list[tuple[str, Any]]:
    """What tables tell of a fit."""
    if not fit.linear:
        return [("linear regime", "none"), ("factor a step", "none")]
    return [
        ("linear regime", f"steps {fit.first_step} to {fit.last_step}"),
        ("factor a step", fit.factor),
        ("standard error of its logarithm", fit.standard_error),
    ]


NOT_LINEAR = Fit(math.nan, math.nan, math.nan, math.nan, None, None, False)


def fit_rate(history: History, column: str | None = None, *, replica: int | None = None) -> Fit:
    """The factor per step of a history's column, over the linear regime found by `fit_decay`.

    Args:
        history: what `relaysim.simulate` returned.
        column: one of the measures in ``history.frame``, such as ``"consensus_distance"``; by
            default the suboptimality, or the gradient norm where no optimum is known.
        replica: one of them; by default the curve is the median over the replicas that did not
            diverge (over all if all did), up to the first at which one of them stopped.

    Raises:
        ValueError: a column that is not recorded, no such replica, or replicas with different
            learning rates and no choice of one.

    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(h=[[0.5]], centers=[[1.0]])
    >>> history = rs.simulate(problem, rs.topologies.chain(1), rs.algorithms.AllReduce(),
    ...                       learning_rate=0.2, steps=50)
    >>> round(fit_rate(history).factor, 6)  # (1 − 0.2 · 0.5)²
    0.81
    """
    if not isinstance(history, History):
        raise TypeError(f"history must be a History, not {shown(history)}; for arrays: fit_decay")
    frame = history.frame
    if column is None:
        column = "suboptimality" if "suboptimality" in frame else "gradient_norm"
    measures = [str(c) for c in frame if c not in ("replica", "seed", "learning_rate", "step")]
    if column not in measures:
        raise ValueError(f"column must be one of {', '.join(measures)}, not {column!r}")
    curves = frame.pivot(index="step", columns="replica", values=column)
    if replica is not None:
        replica = whole_number(replica, "replica", 0)
        if replica >= history.replicas:
            raise ValueError(
                f"replica must be below the history's {history.replicas}, not {replica}"
            )
        return fit_decay(curves.index, curves[replica])
    check_one_rate(frame, "fit_rate", "choose one with replica=")
    values = curves.to_numpy()
    if not history.diverged.all():
        values = values[:, ~history.diverged]
    return fit_decay(curves.index, np.median(values, axis=1))


def check_one_rate(frame: pd.DataFrame, name: str, mend: str) -> None:
    """Raise unless all replicas of a history's frame have the same learning rates."""
    rates = frame.groupby("replica")["learning_rate"].first().unique()
    if len(rates) > 1:
        raise ValueError(
            f"{name} takes replicas of one learning rate and these have {len(rates)}, "
            f"{rates.min():g} to {rates.max():g}; {mend}"
        )


def fit_decay(steps: ArrayLike, values: ArrayLike) -> Fit:
    """The line log(value) = intercept + slope · step, over the linear regime of a curve.

    The regime ends with the curve, or above the floor if the curve ends in one: noise, or rounding.
    (Without either, the last eighth is left out, once, in case it hides a short floor.)
    It is the longest stretch up to there whose two halves have the same slope, within 0.1 % if that
    leaves enough of it and 3 % otherwise (or within what the noise allows); of at least 10 records
    and a change by at least e², with residuals that are small against this change. Oscillation
    around the line is allowed. Power laws, plateaus and curves that end too early have no such regime.

    Args:
        steps: increasing, ``(records,)``.
        values: ``(records,)``. Entries that are not finite and positive are left out.

    Raises:
        ValueError: shapes that differ, or steps that do not increase.

    >>> import numpy as np
    >>> steps = np.arange(200)
    >>> fit = fit_decay(steps, 0.8**steps + 5 * 0.3**steps + 1e-12)
    >>> fit.linear, round(fit.factor, 3), fit_decay(steps, 1 / (1 + steps)).linear
    (True, 0.8, False)
    """
    t, values = real_array(steps, "steps"), real_array(values, "values")
    if t.ndim != 1 or t.shape != values.shape:
        raise ValueError(
            f"steps and values must have one shape (records,), not {t.shape} and {values.shape}"
        )
    if not (np.diff(t) > 0).all() or not np.isfinite(t).all():
        raise ValueError("steps must be finite and increase from record to record")
    usable = np.isfinite(values) & (values > SMALLEST)
    t, y = t[usable], np.log(values[usable])
    if len(t) < LEAST_RECORDS:
        return NOT_LINEAR
    above = _end_above_floor(t, y)
    for end in (above, above - above // 8):  # a floor may be too short to be seen
        start = _start_of_line(t[:end], y[:end])
        if start is not None:
            return _fit(t[start:end], y[start:end])
    return NOT_LINEAR


def _end_above_floor(t: np.ndarray, y: np.ndarray) -> int:
    """How many records come before the floor in which the curve ends; all if it has none."""
    for first in _floor_starts(t, y):
        level = np.median(y[first:])
        before = abs(level - y[0]) / (t[first] - t[0])
        slope, error, _ = _line(t[first:], y[first:])
        change = abs(slope) * (t[-1] - t[first])
        if change > 1 or abs(slope) > FLAT * before or error > UNSURE * before:
            continue
        # Far below the start there is room to keep away from a floor, which bends the line.
        drop = np.abs(y - level).max()
        margin = min(max(math.log(10), drop / 4), math.log(1e3))
        away = np.cumsum(np.where(np.abs(y - level) > margin, 1, -1))
        return int(np.argmax(away)) + 1 if away.max() > 0 else len(t)
    return len(t)


def _floor_starts(t: np.ndarray, y: np.ndarray) -> list[int]:
    """Records at which a floor may start: where a line that turns level fits best, and fractions."""
    starts = []
    for begin in (0, len(t) // 2, 3 * len(t) // 4, 7 * len(t) // 8):
        times, logs = t[begin:], y[begin:]
        count = len(times)
        if count < 16:
            break
        _, _, straight = _line(times, logs)
        turns = np.unique(np.linspace(4, count - LEAST_FLOOR, 60).astype(int))
        errors = [_line(np.minimum(times, times[k]), logs)[2] for k in turns]
        best = int(np.argmin(errors))
        if straight**2 > (1 + 20 / count) * errors[best] ** 2 + 1e-18:
            turn = begin + int(turns[best])
            starts += [turn, turn + (len(t) - turn) // 3]  # the turn itself is not sharp
    for fraction in FLOOR_FRACTIONS:
        first = len(t) - int(fraction * len(t))
        if len(t) - first >= 8 and first >= 2:
            starts.append(first)
    return sorted(first for first in starts if len(t) - first >= 4)


def _start_of_line(t: np.ndarray, y: np.ndarray) -> int | None:
    """First record of the linear regime that lasts to the end, if there is one."""
    last = len(t) - LEAST_RECORDS
    if last < 0:
        return None
    found: list[tuple[int, float, float]] = []  # start, change, by how much the halves differ
    for start in np.unique(np.linspace(0, last, min(last + 1, MOST_STARTS)).astype(int)):
        change, difference = _straightness(t[start:], y[start:])
        if difference <= TOLERANCES[-1]:
            found.append((int(start), change, difference))
    if not found:
        return None
    for tolerance in TOLERANCES:
        for start, change, difference in found:
            if difference <= tolerance:
                if change >= max(LEAST_CHANGE, found[0][1] / 4):
                    return start
                break
    return found[0][0]


def _straightness(t: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The change over a window, and the relative difference of its halves' slopes.

    The difference is 0 where noise explains it, and infinite where the window is no candidate.
    """
    slope, _, residual = _line(t, y)
    change = abs(slope) * (t[-1] - t[0])
    middle = int(np.searchsorted(t, (t[0] + t[-1]) / 2))
    if change < LEAST_CHANGE or residual > LARGEST_RESIDUAL * change:
        return change, math.inf
    if min(middle, len(t) - middle) < 4:
        return change, math.inf
    first, first_error, _ = _line(t[:middle], y[:middle])
    second, second_error, _ = _line(t[middle:], y[middle:])
    difference = abs(first - second) / abs(slope)
    noise = 2 * math.hypot(first_error, second_error) / abs(slope)
    return change, 0.0 if difference <= min(noise, MOST_UNCERTAIN) else difference


def _line(t: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, its standard error for independent residuals, and their root mean square."""
    count = len(t)
    # As t.mean() and y.mean(), which ask about dtypes for longer than they add.
    centered = t - np.add.reduce(t) / count
    spread = centered @ centered
    slope = centered @ y / spread
    residuals = y - np.add.reduce(y) / count - slope * centered
    squares = residuals @ residuals
    error = math.sqrt(squares / max(count - 2, 1) / spread)
    return float(slope), error, math.sqrt(squares / count)


def _fit(t: np.ndarray, y: np.ndarray) -> Fit:
    slope, error, _ = _line(t, y)
    intercept = float(y.mean() - slope * t.mean())
    residuals = y - intercept - slope * t
    squares = residuals @ residuals
    if squares > 0:
        # Around a fitted line residuals look less correlated than they are: Kendall's correction.
        correlation = float(residuals[1:] @ residuals[:-1] / squares)
        correlation = min(max(correlation + (2 + 4 * correlation) / len(t), 0.0), 0.99)
        error *= math.sqrt((1 + correlation) / (1 - correlation))
    factor = float(np.exp(np.minimum(slope, 700.0)))
    return Fit(factor, slope, error, intercept, int(t[0]), int(t[-1]), True)
