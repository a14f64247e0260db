"""The search for a learning rate: which rates are tried, and which of them is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from relaysim.engine.run import Run
from relaysim.studies.crossings import CHEAP_STEPS, FINEST, NEAR, Crossings, neighbourhoods
from relaysim.studies.settling import (
    every_phase,
    over_a_cycle,
    overshoot,
    settled_levels,
    stands_still,
    stays_below,
    steps_at_slope,
)

__all__ = ["RateSearch", "curves_of", "first_grid", "search_limits"]

# The first grid: 1e-5 / L up to 4 (n + 2) / L in steps of 25 %. A chain is stable up to (n + 2) / 2,
# and momentum β multiplies that by (1 + β) / (1 − β).
LOWEST, COARSE, DENSE = 1e-5, 1.25, 1.06
# Where the best is among so many times the highest rate, or the lowest, others beyond it are tried.
BEYOND = 4.0
# Where no curvature is known, the ends are this many times as far away at most.
UNKNOWN_RANGE = 1e12
# A rate counts once its curve has stayed below the target for this much longer than it took, and is
# not growing: its largest value in the last quarter of that time is not this much above the third's.
STAYS, STAYS_STEPS = 0.25, 100
GROWING = 1.2
REFINE_WITH = 24
# Rates that at their slope need so many times the steps of the best are watched no further, once it is there,
# or, where others knew its steps or the longest that is of interest, after a third of these.
HOPELESS, HOPELESS_NEAR = 2.0, 1.3
# The winner is watched for this much longer, of which every so many steps are looked at; if it does not
# last, so many runners-up at once.
LASTING, LASTING_STEPS, LASTING_EVERY, LASTING_AT_ONCE = 3, 5000, 4, 6
FIRST_LIMITS = (1000, 10_000)
# Runs are looked at whenever they are so many times as long as before: first, and once they are long.
DOUBLED, LONGER, LONG_RUN = 2, 1.25, 1000
# Refining goes on while it still brings the crossing of the target forward by this fraction.
WORTHWHILE = 0.002
# A curve is not called settled before γ μ t has passed this (μ of f itself, or L/100 if not known):
# a rate that is small enough looks flat from its first step.
SETTLES_AFTER = 4.0
PLATEAU_FLATNESS = 0.003
PLATEAU_BAND = 1.1
PLATEAU_ROUNDS = 12
# Where a rule repeats after a number of steps, a run takes so many times that before it can be settled, or
# before its slope is looked at.
CYCLES = 4


def first_grid(n: int, rate_scale: float) -> np.ndarray:
    """The rates that are tried first, in units of 1/L; see `relaysim.algorithms.base.Method.rate_scale`."""
    top = 4 * (n + 2) * rate_scale
    return np.geomspace(LOWEST, top, _count(top / LOWEST, COARSE))


def search_limits(
    n: int, rate_scale: float, smoothness: float | None, strong_convexity: float | None
) -> tuple[float, float]:
    """The lowest and the highest rate that may ever be tried, where the first grid does not do.

    A rate may be as much higher as the curvature f has where it is flattest is below L; a lower one than
    the grid's makes no sense but where L is not known.
    """
    low, high = LOWEST / UNKNOWN_RANGE, first_grid(n, rate_scale)[-1] * UNKNOWN_RANGE
    if smoothness:
        low, high = 0.0, high / smoothness
    if strong_convexity:
        high = min(high, first_grid(n, rate_scale)[-1] / strong_convexity)
    return low, high


def _count(high: float, ratio: float) -> int:
    """How many rates from 1 to ``high`` are at most this ratio apart."""
    return int(np.ceil(np.log(high) / np.log(ratio))) + 1


def curves_of(run: Run) -> np.ndarray:
    """What is tuned for, at all records so far, ``(records, r)``: the only measure of the run."""
    return run.column(run.measures[0].name)


class RateSearch:
    """Runs of many rates, and what was learnt about each, where nothing is left to chance.

    Args:
        start: a run of rates ``(r,)`` as replicas, at step 0.
        start_value: what is tuned for at step 0, above the target.
        target, max_steps: of `relaysim.tune`.
        curvatures: of the slowest and of the fastest mode.
        on_progress: told how many rates were advanced.
        limits: the lowest and the highest rate that may be tried, beyond the first grid.
        cycle: steps after which the rule repeats, over which plateaus are averaged.
        squared: whether what is tuned for is a square that falls to 0, no faster than the squared error.
        telling: the step from which on what a curve does tells what it will do, over cycles: infinite where
            the rate or the matrices are others as steps go on.
    """

    _growing = GROWING

    def __init__(
        self,
        start: Callable,
        start_value: float,
        target: float,
        max_steps: int,
        curvatures: tuple[float, float],
        on_progress: Callable,
        limits: tuple[float, float],
        cycle: int = 1,
        squared: bool = True,
        telling: float = 0,
    ) -> None:
        self._squared = squared
        self._start, self._start_value = start, start_value
        self._target, self._max_steps = target, max_steps
        self._slowest, self._fastest_mode = curvatures
        self._on_progress = on_progress
        self._lowest, self._highest = limits
        self._cycle, self._telling = cycle, telling
        self._tried: dict[float, dict] = {}

    def frame(self) -> pd.DataFrame:
        """Every rate tried, as `relaysim.Tuning` has them."""
        rows = [{"learning_rate": rate} | found for rate, found in sorted(self._tried.items())]
        columns = ["learning_rate", "steps", "plateau", "diverged", "horizon"]
        return pd.DataFrame(rows, columns=columns)

    def best_so_far(self, criterion: str) -> float:
        """The rate that a search would name that ends now; NaN if none meets the target."""
        if criterion == "plateau":
            rates = [rate for rate, each in self._tried.items() if self._in_band(each["plateau"])]
            return max(rates, default=float("nan"))
        met = [(each["steps"], rate) for rate, each in self._tried.items() if each["steps"] >= 0]
        return min(met, default=(0, float("nan")))[1]

    # -- fastest ---------------------------------------------------------------------------------

    def fastest(self, rates: np.ndarray) -> float:
        """The rate that reaches the target first; NaN if none does."""
        while True:
            found = self._fastest_of(rates)
            refused = [
                rate
                for rate, each in self._tried.items()
                if each["lasting"] and not each["steps"] > 0
            ]
            lower = rates[rates < min(refused, default=0)]
            if not math.isnan(found) or len(lower) in (0, len(rates)):
                return found
            # All that were fast were so for a while only; slower ones have not been waited for.
            rates = lower

    def _fastest_of(self, rates: np.ndarray) -> float:
        known = Crossings(*self._first_grid(rates))
        if known.fewest < CHEAP_STEPS:
            # Short runs are cheap enough to look between the rates of the first grid everywhere.
            low, top = known.rates[np.nanargmin(known.steps)] / 8, known.rates[-1]
            dense = np.geomspace(low, top, int(np.log(top / low) / np.log(DENSE)) + 2)
            best = int(known.fewest)
            known = Crossings(dense, *self._watch(dense, best, HOPELESS * best))
        while len(rates := known.to_try()):
            best, earliest = math.ceil(known.fewest), known.earliest
            found = self._watch(rates, best, only_best=True)
            known = known.with_others(rates, *found)
            # On without a gain, if there may be a needle between the best and its neighbours.
            if not known.earliest < (1 - WORTHWHILE) * earliest and not known.is_needle():
                break
        chosen = self._best_that_lasts()
        return self._best_that_lasts() if self._is_beaten_at_once(chosen) else chosen

    def _is_beaten_at_once(self, found: float) -> bool:
        """Whether a rate is faster at which nothing, or least, is left of f after a step: 1/L or 2/(L + μ).

        Where all curvatures are alike, it is a needle that a grid does not meet.
        """
        taken = self._tried[found]["steps"] if found in self._tried else np.nan
        if not (1 < taken < CHEAP_STEPS and math.isfinite(self._fastest_mode)):
            return False
        curvatures = np.array([self._fastest_mode, (self._fastest_mode + self._slowest) / 2])
        steps, _ = self._watch(np.unique(1 / curvatures), int(taken))
        return bool(np.nanmin(steps, initial=np.inf) < taken)

    def _best_that_lasts(self) -> float:
        """The rate with the fewest steps that stays below the target for much longer still.

        An instability of differences between workers can take thousands of steps to reach their mean.
        """
        at_once = 1
        while True:
            reached = {r: f["steps"] for r, f in self._tried.items() if np.isfinite(f["steps"])}
            if not reached:
                return float("nan")
            order = sorted(reached, key=lambda rate: (reached[rate], rate))
            unsure = [rate for rate in order if not self._tried[rate]["lasting"]][:at_once]
            if order[0] not in unsure:
                return order[0]
            at_once = LASTING_AT_ONCE if reached[order[0]] < CHEAP_STEPS else 1
            run = self._start(np.array(unsure))
            watch = max(LASTING_STEPS, int(LASTING * reached[order[0]]))
            known = int(max(reached[rate] for rate in unsure))
            run.advance(range(known + 1))
            run.advance(range(known + 1, watch + 1, every_phase(LASTING_EVERY, self._cycle)))
            self._on_progress(len(unsure))
            steps = stays_below(run.steps, curves_of(run), self._target, self._growing)
            for rate, taken, gone in zip(unsure, steps, run.diverged, strict=True):
                lasting = taken == reached[rate] and not gone
                entry = self._tried[rate]
                entry |= {"lasting": True, "horizon": watch, "diverged": bool(gone)}
                entry["steps"] = taken if lasting else np.nan

    def _first_grid(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Watch the whole grid, but rates that must be slow only if the others do not make it.

        A step of rate γ shrinks no error by more than the factor 1 − γL, so that the suboptimality
        needs at least log(start / target) / (−2 log(1 − γL)) steps; half of that is on the safe side.
        """
        for limit in self._limits():
            able = rates[self._fewest_steps(rates) <= limit]
            if len(able) < 2:
                continue
            steps, crossings = self._watch(able, limit)
            while len(more := self._beyond(able, steps, limit)):
                rates = np.union1d(rates, more)
                # Above the grid nothing is looked for that takes much longer than its best.
                most = np.nanmin(steps, initial=limit) if more[0] > able[0] else limit
                found = self._watch(more, int(most))
                order = np.argsort(able := np.concatenate([able, more]))
                able = able[order]
                steps = np.concatenate([steps, found[0]])[order]
                crossings = np.concatenate([crossings, found[1]])[order]
            if np.isfinite(steps).any():
                return able, steps, crossings
        return rates[:0], np.empty(0), np.empty(0)

    def _limits(self) -> tuple[int, ...]:
        """How many steps are of interest, at first and at last."""
        return *(cap for cap in FIRST_LIMITS if cap < self._max_steps), self._max_steps

    def _fewest_steps(self, rates: np.ndarray) -> np.ndarray:
        """Half of the steps that a rate needs if nothing shrinks faster than by 1 − γL, ``(r,)``."""
        if not self._squared:
            return np.zeros(len(rates))
        shrink = np.clip(rates * self._fastest_mode, 0, 0.999)
        return 0.5 * np.log(self._start_value / self._target) / (-2 * np.log1p(-shrink))

    def _beyond(self, rates: np.ndarray, steps: np.ndarray, limit: int) -> np.ndarray:
        """Rates to try past an end of those tried, increasing: none unless the best may lie there.

        Past the highest, where the best is close to it, or where none meets the target and the highest
        has not taken f(x̄) above its start; past the lowest likewise, or where the lowest has.
        """
        some = np.isfinite(steps).any()
        best = rates[np.nanargmin(steps)] if some else np.nan
        low, high = rates[0], rates[-1]
        blocks = []
        if best > high / BEYOND if some else self._tried[high]["falls"] and high < self._highest:
            blocks.append(high * np.geomspace(1, BEYOND, _count(BEYOND, COARSE))[1:])
        if best < low * BEYOND if some else not self._tried[low]["falls"]:
            below = low / np.geomspace(1, BEYOND, _count(BEYOND, COARSE))[:0:-1]
            blocks.append(below[(below > self._lowest) & (self._fewest_steps(below) <= limit)])
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _watch(
        self,
        rates: np.ndarray,
        limit: int,
        waited_for: float | None = None,
        only_best: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Steps to the target of each rate, and when it crossed, in fractions of a step.

        Runs all rates until the first has been below the target for long enough; ``limit`` is the
        longest time to reach it that is of interest. Rates that seem to need more steps than are
        ``waited_for``, by default little more than the limit, are given up. Where only the best is of
        interest, those that are behind it are not watched any longer either.
        """
        waited_for = HOPELESS_NEAR * limit if waited_for is None else waited_for
        run = self._start(rates)
        horizon = min(limit, 64)
        watched = np.zeros(len(rates), dtype=int)
        going, behind = np.ones(len(rates), dtype=bool), np.zeros(len(rates), dtype=bool)
        # Steps of those that are behind, and up to which a best one is before all of them.
        taken_by_those, before_those = np.full(len(rates), np.nan), np.inf
        while True:
            _record_up_to(run, horizon)
            self._on_progress(len(rates))
            curves = curves_of(run)
            watched[going] = run.step
            steps = stays_below(run.steps, curves, self._target, self._growing)
            steps[steps > self._max_steps] = np.nan
            best = np.nanmin(steps, initial=np.inf)
            enough = int(np.ceil((1 + STAYS) * min(best, limit))) + STAYS_STEPS
            if run.step >= enough or not (going & ~run.diverged).any():
                break
            longer = DOUBLED if run.step < LONG_RUN else LONGER
            horizon = min(max(int(longer * run.step), 64), enough)
            needed = steps_at_slope(curves, self._target)
            # What only grows may diverge, which is worth knowing.
            falls = going & ~run.diverged & np.isfinite(needed)
            near = NEAR * best + 1
            there = np.count_nonzero(steps <= near) >= neighbourhoods(best)
            if only_best and (there or run.step > near):
                left = falls & (~(curves[-1] < self._target) | (steps > near))
                taken_by_those[left] = steps[left]
                before_those = min(before_those, near, run.step) if left.any() else before_those
                behind |= left
            elif only_best and near < horizon:
                horizon = int(near) + 1
            given_up = behind & going
            if run.step >= CYCLES * (self._telling + self._cycle):
                most = min(HOPELESS * best, waited_for)
                hopeless = stands_still(curves, self._target)
                hopeless &= rates * self._slowest * run.step >= SETTLES_AFTER
                if self._squared and most <= 4 * run.step:
                    hopeless |= np.isfinite(needed) & (needed > most)
                given_up |= hopeless & going & np.isnan(steps) & ~run.diverged
            run.drop(given_up)
            going &= ~given_up
        steps = np.where(behind, taken_by_those, steps)
        last = curves[watched, np.arange(len(rates))]
        for rate, taken, gone, step, value in zip(
            rates, steps, run.diverged, watched.tolist(), last, strict=True
        ):
            self._note(rate, steps=taken, diverged=bool(gone), horizon=step)
            self._tried[float(rate)]["falls"] = bool(value <= self._start_value)
        crossings = steps - overshoot(steps, curves, self._target)
        if best > before_those:
            # Those that were there first did not stay.
            again = self._watch(rates[behind], limit, waited_for, only_best)
            steps[behind], crossings[behind] = again
        return steps, crossings

    # -- plateau ---------------------------------------------------------------------------------

    def plateau(self, rates: np.ndarray) -> float:
        """A rate whose plateau is just below the target; the fastest if none stalls above it."""
        first_grid = rates
        levels: dict[float, float] = {}
        known = 0
        for _ in range(PLATEAU_ROUNDS):
            bracketed = levels and min(levels.values()) < self._target < max(levels.values())
            levels |= self._settle(rates, wait_for_all=bool(bracketed))
            inside = [rate for rate, level in levels.items() if self._in_band(level)]
            if inside:
                return max(inside)
            above = sorted(rate for rate, level in levels.items() if level > self._target)
            if not above:
                top = max(self._tried)
                if top not in levels or top >= self._highest:
                    return self.fastest(first_grid)
                # Low at the end of the grid says nothing of what is beyond.
                rates = top * np.geomspace(1, BEYOND, _count(BEYOND, COARSE))[1:]
                continue
            # Plateaus grow with the rate: the wanted one lies under the lowest that is too high.
            highest = above[0]
            below = [rate for rate in levels if rate < highest]
            if below:
                rates = np.geomspace(max(below), highest, REFINE_WITH // 2)[1:-1]
            else:
                slope = 2.0
                if len(above) > 1:
                    rise = np.log(levels[above[1]] / levels[above[0]])
                    slope = float(np.clip(rise / np.log(above[1] / above[0]), 1, 4))
                # In small strides: the slope changes on the way down, and low rates are slow.
                stride = (0.95 * self._target / levels[highest]) ** (1 / slope)
                guess = highest * max(stride, 1 / 8)
                rates = np.geomspace(
                    guess / 1.5, min(1.5 * guess, 0.99 * highest), REFINE_WITH // 2
                )
            narrow = bool(below) and highest / max(below) < 1 + 2 * (FINEST - 1)
            if len(levels) == known or narrow:
                break  # nothing more settles within max_steps, or the band falls between two rates
            known = len(levels)
        return self._nearest_below(levels)

    def _nearest_below(self, levels: dict[float, float]) -> float:
        """What is taken where the band falls between two rates, or nothing more settles."""
        return float("nan")

    def _settle(self, rates: np.ndarray, wait_for_all: bool) -> dict[float, float]:
        """The plateaus of those rates that settled.

        Watches until a plateau lies in the band, all have settled, or, unless it should wait for
        all, a few stall above the target: enough to tell where to look.
        """
        run = self._start(rates)
        horizon = max(128, CYCLES * self._cycle)
        while True:
            horizon = min(horizon, self._max_steps)
            _record_up_to(run, horizon)
            self._on_progress(len(rates))
            curves = over_a_cycle(curves_of(run), self._cycle)
            plateaus = settled_levels(curves, self._target, PLATEAU_FLATNESS)
            early = rates * self._slowest * run.step < SETTLES_AFTER
            plateaus[early & (plateaus > 0)] = np.nan
            known = ~np.isnan(plateaus)
            # Plateaus grow with the rate, so a few at 0 promise the same for all lower rates.
            stalled, exact = plateaus > self._target, plateaus == 0
            telling = stalled if stalled.any() else exact
            enough = not wait_for_all and np.count_nonzero(telling) >= 3
            found = any(self._in_band(level) for level in plateaus)
            if found or enough or (known | run.diverged).all() or horizon == self._max_steps:
                break
            horizon *= 2
        steps = stays_below(run.steps, curves, self._target, self._growing)
        for rate, taken, level, gone in zip(rates, steps, plateaus, run.diverged, strict=True):
            self._note(rate, steps=taken, plateau=level, diverged=bool(gone), horizon=run.step)
        return {
            float(rate): float(level)
            for rate, level in zip(rates, plateaus, strict=True)
            if level == level
        }

    def _in_band(self, level: float) -> bool:
        return self._target / PLATEAU_BAND <= level <= self._target

    def _note(self, rate: float, **found: Any) -> None:
        entry = self._tried.setdefault(
            float(rate),
            {"steps": np.nan, "plateau": np.nan, "diverged": False, "horizon": 0, "lasting": False}
            | {"falls": False},
        )
        longer = found["horizon"] >= entry["horizon"]
        entry |= {k: v for k, v in found.items() if longer or (k == "plateau" and v == v)}


def _record_up_to(run: Run, horizon: int) -> None:
    """Record every step that is not yet recorded, from step 0 on."""
    run.advance(range(len(run.steps), horizon + 1))
