"""The search for a learning rate where chance plays a part: in the gradients, or in the method itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaysim.engine.run import Run
from relaysim.studies.rate_search import (
    COARSE,
    CYCLES,
    LASTING,
    LASTING_STEPS,
    PLATEAU_BAND,
    SETTLES_AFTER,
    RateSearch,
    curves_of,
)
from relaysim.studies.settling import every_phase, first_below, over_a_cycle, stays_below

__all__ = ["NoisySearch"]

# Each rate runs with so many seeds, and counts if this share of them meets the target; what was chosen so
# is tried again with as many other seeds. Twelve of sixteen and a chance of one half would be luck in 4 % of
# cases.
SEEDS, AGREE = 8, 0.75
# Rates are watched in runs that are so many times longer each; those that no longer fall are left out.
FIRST_HORIZON, LONGER = 1024, 3
STALLS, STALLS_ABOVE = 0.9, 2.0
# How much the largest value of a quarter of a run may be above that of the quarter before.
GROWING_BY_CHANCE = 4.0
# A run ends when the best has been there for `LASTING` times its steps, and these.
LASTING_AT_LEAST = 200
# Chance hides what rates closer than this differ by.
FINEST_NOISY = 1.06
AT_ONCE, APART = 4, 1.1
# At most so many records of a run.
MOST_RECORDS = 16_384
# A plateau is known once half of its 95 % confidence interval (by Student's t) is below this fraction, or
# once the interval is outside the band of those that are wanted.
CERTAIN, STUDENT = 0.04, 2.365
# Plateaus that seem no further from the band than this may be in it.
CLOSE = 2.0
# Settled: the mean over the third quarter differs from that over the last by less than this fraction.
FLATNESS = 0.1


class NoisySearch(RateSearch):
    """A `RateSearch` that judges a rate by several seeds, and accepts none by those that chose it.

    ``steps`` of a rate is the median over the seeds. The runs that it starts take ``(rates, first, count)``:
    the seeds are the search's own and the ``count`` from the ``first`` on.
    """

    _growing = GROWING_BY_CHANCE
    #: The exact plateau of a rate, NaN where it has none; None where the theory has no say.
    exact_level: Callable[[float], float] | None = None

    def fastest(self, rates: np.ndarray) -> float:
        """The rate that reaches the target first for most seeds; NaN if none does."""
        grid, steps, _ = self._first_grid(rates)
        if not len(grid):
            return float("nan")
        best = grid[np.nanargmin(steps)]
        self._watch(_between(best / COARSE, best * COARSE), int(np.nanmin(steps)))
        while True:
            found = self._best_that_lasts()
            rejected = [r for r, f in self._tried.items() if f["lasting"] and not f["steps"] > 0]
            if found == found:
                above = [rate for rate in rejected if rate > found]
                if above and min(above) / found > FINEST_NOISY**2:
                    self._confirm(_between(found, min(above)), int(self._tried[found]["steps"]))
                    found = self._best_that_lasts()
                return found
            lower = grid[grid < min(rejected)] if rejected else grid[:0]
            if not np.isfinite(self._watch(lower, self._max_steps)[0]).any():
                return float("nan")

    def _limits(self) -> tuple[int, ...]:
        return (self._max_steps,)

    def _watch(
        self,
        rates: np.ndarray,
        limit: int,
        waited_for: float | None = None,
        only_best: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Steps to the target of each rate, twice: nothing finer is known.

        Runs those that may get there until the first has been below the target for long enough; of slopes
        chance leaves too little to wait for some only.
        """
        steps = np.full(len(rates), np.nan)
        horizon, worth = FIRST_HORIZON, np.ones(len(rates), dtype=bool)
        while worth.any():
            able = worth & (self._fewest_steps(rates) <= horizon)
            best = np.inf
            if able.any():
                steps[able], stalls = self._judge(rates[able], 0, horizon)
                worth[able] = ~stalls
                best = np.nanmin(steps) if np.isfinite(steps).any() else np.inf
            enough = int(np.ceil(LASTING * min(best, limit))) + LASTING_AT_LEAST
            if horizon >= enough:
                break
            horizon = min(LONGER * horizon, max(enough, horizon + 1))
        steps[steps > self._max_steps] = np.nan
        return steps, steps.copy()

    def _run(self, rates: np.ndarray, first: int, horizon: int) -> tuple[Run, np.ndarray]:
        """A run of all rates with so many seeds each, and its curves ``(records, rates · seeds)``."""
        run = self._start(rates, first, SEEDS)
        run.advance(range(0, horizon + 1, every_phase(1 + horizon // MOST_RECORDS, self._cycle)))
        self._on_progress(len(rates))
        return run, curves_of(run)

    def _judge(self, rates: np.ndarray, first: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps to the target of each rate, ``(k,)``, and which rates will not get there."""
        run, curves = self._run(rates, first, horizon)
        each = stays_below(run.steps, curves, self._target, self._growing).reshape(-1, SEEDS)
        steps = _typical(each)
        diverged = run.diverged.reshape(-1, SEEDS).mean(axis=1) > 1 - AGREE
        steps[diverged] = np.nan
        quarter = len(curves) // 4
        means = [part.mean(axis=0).reshape(-1, SEEDS) for part in _late(curves, quarter)]
        with np.errstate(invalid="ignore", over="ignore"):
            earlier, late = (part.mean(axis=1) for part in means)
            stalls = ~(late < STALLS * earlier) & ~(late < STALLS_ABOVE * self._target)
        stalls &= rates * self._slowest * run.step >= SETTLES_AFTER
        for rate, taken, gone, value in zip(rates, steps, diverged, late, strict=True):
            self._note(rate, steps=taken, diverged=bool(gone), horizon=run.step)
            self._tried[float(rate)]["falls"] = bool(value <= self._start_value)
        return steps, stalls | diverged

    def _best_that_lasts(self) -> float:
        """The rate with the fewest steps for which other seeds say the same, for much longer."""
        while True:
            reached = {r: f["steps"] for r, f in self._tried.items() if f["steps"] > 0}
            if not reached:
                return float("nan")
            order = sorted(reached, key=lambda rate: (reached[rate], rate))
            if self._tried[order[0]]["lasting"]:
                return order[0]
            sure = [reached[rate] for rate in order if self._tried[rate]["lasting"]]
            unsure: list[float] = []
            for rate in order:
                apart = all(abs(np.log(rate / other)) > np.log(APART) for other in unsure)
                ahead = not sure or reached[rate] <= sure[0]
                if apart and ahead and not self._tried[rate]["lasting"] and len(unsure) < AT_ONCE:
                    unsure.append(rate)
            self._confirm(np.array(unsure), int(reached[unsure[-1]]))

    def _confirm(self, rates: np.ndarray, steps: int) -> None:
        """Judge rates by other seeds, for good."""
        watch = max(LASTING_STEPS, int(np.ceil(LASTING * steps)))
        for rate in rates:
            self._tried.pop(float(rate), None)
        self._judge(rates, SEEDS, watch)
        for rate in rates:
            self._tried[float(rate)]["lasting"] = True

    def _settle(self, rates: np.ndarray, wait_for_all: bool) -> dict[float, float]:
        """The plateaus of those rates that settled, as means over the seeds and the last half of the run.

        Watches until the confidence interval of each tells on which side of the band it is, or is narrow;
        unless it should wait for all, until a few stall above the target.
        """
        levels: dict[float, float] = {}
        horizon, unknown = max(FIRST_HORIZON, CYCLES * self._cycle), np.asarray(rates, dtype=float)
        while True:
            horizon = min(horizon, self._max_steps)
            run, curves = self._run(unknown, 0, horizon)
            curves = over_a_cycle(curves, self._cycle)
            settled, known = self._sharpened(unknown, *self._plateaus(unknown, curves, run.step))
            diverged = np.asarray(run.diverged.reshape(-1, SEEDS).any(axis=1))
            first = first_below(run.steps, curves, self._target).reshape(-1, SEEDS)
            rows = zip(unknown, _typical(first), np.where(known, settled, np.nan), strict=True)
            for gone, (rate, steps, level) in zip(diverged.tolist(), rows, strict=True):
                self._note(rate, steps=steps, plateau=level, diverged=gone, horizon=run.step)
                if level == level:
                    levels[float(rate)] = float(level)
            unknown = unknown[~(known | diverged)]
            stalled = sum(level > self._target for level in levels.values())
            found = any(self._in_band(level) for level in levels.values())
            # Plateaus grow with the rate: those of lower rates need not be waited for.
            lower = len(levels) > 0 and (unknown < max(levels)).all()
            enough = not wait_for_all and (stalled >= 3 or (lower and not stalled))
            if found or enough or not len(unknown) or horizon == self._max_steps:
                return levels
            horizon *= LONGER

    def _sharpened(
        self, rates: np.ndarray, levels: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, with exact plateaus for those that may lie in the band."""
        if self.exact_level is None:
            return levels, known
        near = (levels < CLOSE * self._target) & (levels > self._target / (CLOSE * PLATEAU_BAND))
        for k in np.flatnonzero(near):
            exact = self.exact_level(float(rates[k]))
            if exact == exact:
                levels[k], known[k] = exact, True
        return levels, known

    def _nearest_below(self, levels: dict[float, float]) -> float:
        """The highest rate that stays under the target: plateaus scatter."""
        lower = [rate for rate, level in levels.items() if level <= self._target]
        return max(lower, default=float("nan"))

    def _plateaus(
        self, rates: np.ndarray, curves: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The level of each rate, ``(k,)``, and whether it is settled and known well enough."""
        means = [part.mean(axis=0).reshape(-1, SEEDS) for part in _late(curves, len(curves) // 4)]
        with np.errstate(invalid="ignore", over="ignore"):
            earlier, late = (part.mean(axis=1) for part in means)
            level = (earlier + late) / 2
            half = STUDENT * ((means[0] + means[1]) / 2).std(axis=1, ddof=1) / np.sqrt(SEEDS)
            flat = np.abs(late - earlier) <= FLATNESS * late
            above = level - half > self._target
            below = level + half < self._target / PLATEAU_BAND
            known = flat & ((half <= CERTAIN * level) | above | below)
        known &= rates * self._slowest * step >= SETTLES_AFTER
        exact = late < 1e-6 * self._target
        return np.where(exact, 0.0, level), known | exact


def _typical(steps: np.ndarray) -> np.ndarray:
    """Medians of steps ``(k, seeds)``, NaN where too few seeds meet the target."""
    finite = np.isfinite(steps)
    median = np.median(np.where(finite, steps, np.inf), axis=1)
    return np.where(finite.mean(axis=1) >= AGREE, median, np.nan)


def _between(low: float, high: float) -> np.ndarray:
    """Rates between two, as close as it makes sense, without these."""
    count = int(np.ceil(np.log(high / low) / np.log(FINEST_NOISY))) + 1
    return np.geomspace(low, high, max(count, 3))[1:-1]


def _late(curves: np.ndarray, quarter: int) -> tuple[np.ndarray, np.ndarray]:
    """The third and the last quarter."""
    return curves[-2 * quarter : -quarter], curves[-quarter:]
