"""The search for a method's best options and learning rate, the same for each method that is compared."""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from relaysim import measures
from relaysim.algorithms.events import Algorithm
from relaysim.engine.plan import plan_replicas, record_steps
from relaysim.engine.run import Run
from relaysim.engine.setup import Setup
from relaysim.figures.candidates import options_of
from relaysim.figures.result import rows_of
from relaysim.measures.columns import bits_of
from relaysim.problems.objective import Objective
from relaysim.studies.settling import steps_at_slope

__all__ = ["BestSettings", "Setting"]

# Steps of the first search, in which most methods get there.
FIRST_STEPS = 300
# Where no setting of a method is there by then, those that are nearest go on.
SETTINGS_LONGER = 5
# Longer runs are dear: of those of over four times so many steps so few settings go on, and of those of more
# than so many so few are refined.
CHEAP_STEPS, SETTINGS_LONG, SETTINGS_REFINED_LONG = 500, 3, 2
# The best of the first search are searched around by these factors, over these many times the steps.
FINER = 2.0 ** np.linspace(-0.75, 0.75, 7)
SETTINGS_REFINED, MARGIN_OF_STEPS = 3, 4
# More are refined if they need no more than so many times what the best does.
MOST_REFINED, TIED = 6, 1.02
# A search is looked at first after so many steps, and then whenever it is so many times as long. It ends when
# the best rate has been there for so many times its steps, and these, longer.
FIRST_LOOK, LONGER = 40, 1.5
STAYS, STAYS_STEPS = 1.0, 100
# For the best counts who has been there until so many times its steps: before, it may leave again.
MOMENT = 1.25
# A rate is given up if at its slope it needs so many times the steps of the best, where these are at most so
# many times those taken.
HOPELESS, TELLING = 1.5, 4
# So many of these are run whole, until one needs no more than so many times what it did in the search; the
# best of those that were run counts.
RATES_REPORTED, AS_SEARCHED = 4, 2.0
# Of random methods: seeds to choose by, and others to report.
SEARCH_SEEDS, SEEDS = range(100, 103), range(10)


@dataclass(frozen=True)
class Setting:
    """What methods are compared on, and what is to be few.

    Args:
        problem: what they run on, from 0.
        graph: the topology that a method runs on.
        steps: of a run at most.
        target: the share of the distance at the start that is to be reached for good.
        criteria: columns of a history's table, or of what ``extend`` makes of it.
        every: so many steps are from one record to the next.
        extend: further columns of a table, for a method.
    """

    problem: Objective
    graph: Callable[[Algorithm], Any]
    steps: int
    target: float
    criteria: tuple[str, ...] = ("step", "bits_sent")
    every: int = 1
    extend: Callable[[pd.DataFrame, Algorithm], pd.DataFrame] | None = None


class BestSettings:
    """For the best of a method's settings and rates; what several criteria ask for is run once.

    Args:
        setting: what it is to be best at.
        settings: of the method, all that its options may be.
        seed: of what it draws.
    """

    def __init__(self, setting: Setting, settings: Sequence[Algorithm], seed: int) -> None:
        self.setting, self.settings, self.steps, self.seed = setting, settings, setting.steps, seed
        self._columns = tuple(dict.fromkeys(("step", *setting.criteria)))
        self._refined: dict[tuple[int, float], pd.DataFrame] = {}
        self._reported: dict[tuple[int, float], tuple[pd.DataFrame, pd.DataFrame]] = {}

    def first(self, rates: np.ndarray) -> pd.DataFrame:
        """All settings at all rates, for as many steps as most methods need, or for all."""
        every, search = range(len(self.settings)), (rates, SEARCH_SEEDS[:1])
        found = self._tried(every, min(self.steps, FIRST_STEPS), *search)
        if not np.isfinite(found.step).any() and self.steps > FIRST_STEPS:
            # The nearest first, which are to tell how long the others are of interest.
            most = SETTINGS_LONGER if self.steps < 4 * CHEAP_STEPS else SETTINGS_LONG
            nearest = _sorted(found, "step").setting.drop_duplicates()[:most]
            found = self._tried(list(nearest), self.steps, *search)
        return found

    def best(self, first: pd.DataFrame, criterion: str) -> pd.DataFrame:
        """The curve of the best of what was tried first, and of rates around the best of that."""
        ordered = _sorted(first, criterion).drop_duplicates("setting")
        some = SETTINGS_REFINED_LONG
        if ordered.step.iloc[0] < CHEAP_STEPS:
            # The first rates are far apart: settings that are alike at these need not be so between them.
            tied = int((ordered[criterion] <= TIED * ordered[criterion].iloc[0]).sum())
            some = min(max(tied, SETTINGS_REFINED), MOST_REFINED)
        found = self._best_around(ordered[:some], criterion)
        for begin in range(some, len(ordered), some):
            others = ordered[begin : begin + some]
            if math.isfinite(_needs(found, criterion)) or not np.isfinite(others[criterion]).any():
                break
            # None of those that were there first has stayed.
            found = self._best_around(others, criterion)
        return found

    def _best_around(self, around: pd.DataFrame, criterion: str) -> pd.DataFrame:
        """The same of these settings, around these rates."""
        tried = pd.concat([self._finer(row) for row in rows_of(around)])
        curves = []
        # Who was there within the search may leave later, at the limit of stability.
        for row in rows_of(_sorted(tried, criterion)[:RATES_REPORTED]):
            curves.append(self._curve(row, criterion))
            if _needs(curves[-1], criterion) <= AS_SEARCHED * getattr(row, criterion):
                break
        return min(curves, key=functools.partial(_needs, criterion=criterion))

    def _finer(self, row: Any) -> pd.DataFrame:
        key = row.setting, row.learning_rate
        if key not in self._refined:
            horizon = MARGIN_OF_STEPS * row.step + FIRST_STEPS
            horizon = int(min(self.steps, horizon))
            near = row.learning_rate * FINER
            self._refined[key] = self._tried([row.setting], horizon, near, SEARCH_SEEDS)
        return self._refined[key]

    def _tried(
        self,
        numbers: Sequence[int],
        steps: int,
        rates: np.ndarray,
        seeds: Sequence[int],
    ) -> pd.DataFrame:
        """What each setting and rate needs to the target (inf: more) in the median, and where it ends.

        A setting is watched until its best rate has been there for long enough, or until it cannot be among
        those that are refined any more.
        """
        parts: list[pd.DataFrame] = []
        for number in numbers:
            whole = max(steps, self.settings[number].least_steps)
            needed = self._watched(number, whole, rates, seeds, self._enough(parts))
            parts.append(needed.assign(setting=number))
        return pd.concat(parts, ignore_index=True)

    def _enough(self, parts: Sequence[pd.DataFrame]) -> dict[str, float]:
        """What the last of those settings needs that would be refined so far, by each criterion."""
        found = {}
        for criterion in self.setting.criteria:
            ordered = sorted(float(part[criterion].min()) for part in parts)[:SETTINGS_REFINED]
            found[criterion] = ordered[-1] if len(ordered) == SETTINGS_REFINED else math.inf
        return found

    def _watched(
        self,
        number: int,
        steps: int,
        rates: np.ndarray,
        seeds: Sequence[int],
        enough: dict[str, float],
    ) -> pd.DataFrame:
        """What each rate of a setting needs; more than ``enough`` by all criteria is of no interest."""
        run, every = self._start(number, rates, steps, seeds), self.setting.every
        look = max(FIRST_LOOK, 4 * every)
        targets, done = record_steps(every, steps), 0
        while True:
            done, before = bisect_right(targets, look), done
            run.advance(targets[before:done])
            needed = self._needed(run, number)
            medians = needed.drop(columns="replica")
            if needed.learning_rate.duplicated().any():
                columns = [*self._columns, "end"]
                medians = needed.groupby("learning_rate", as_index=False)[columns].median()
            going = np.isin(np.arange(len(needed)), run.active) & ~run.diverged
            if done == len(targets) or not going.any():
                return medians
            last = len(run.steps) * (np.flatnonzero(going) + 1) - 1
            spent = self._frame(run, number, last)[list(enough)].to_numpy()
            with np.errstate(divide="ignore", invalid="ignore"):  # of what sends nothing
                share = (spent.min(axis=0) / np.array(list(enough.values()))).min()
                all_spent = run.step / share
            # Who crosses the target now is waited for.
            if (
                share > 1
                and not (np.isfinite(medians.step) & (MOMENT * medians.step > run.step)).any()
            ):
                return medians
            best = self._steps_of_best(medians, run.step)
            if run.step >= (1 + STAYS) * best + STAYS_STEPS:
                return medians
            longest = min(best, all_spent)
            if longest <= TELLING * run.step:
                curves = run.column("distance")
                slow = every * steps_at_slope(curves / curves[0], self.setting.target)
                there = np.isfinite(needed.step.to_numpy())
                run.drop(going & ~there & (slow > HOPELESS * longest))
            look = int(look * LONGER)

    def _steps_of_best(self, medians: pd.DataFrame, step: int) -> float:
        """After which the best for every criterion was there; infinite if none has been for more than a
        moment: what goes up and down is there for moments.
        """
        staying = medians[MOMENT * medians["step"] <= step]
        if staying.empty:
            return math.inf
        steps = staying["step"].to_numpy()
        return max(float(steps[staying[each].argmin()]) for each in self.setting.criteria)

    def _curve(self, row: Any, criterion: str) -> pd.DataFrame:
        """Of the seed that is nearest to the median, with the median, lowest and highest of all."""
        key = row.setting, row.learning_rate
        if key not in self._reported:
            run = self._start(row.setting, np.array([row.learning_rate]), self.steps, SEEDS)
            run.advance(record_steps(self.setting.every, self.steps))
            found = self._frame(run, row.setting)
            self._reported[key] = found, self._needed(run, row.setting)
        frame, needed = self._reported[key]
        # The lower of the two in the middle is one that was measured.
        ordered = needed.sort_values([criterion, "end"])
        middle = ordered.replica.iloc[(len(ordered) - 1) // 2]
        summary: dict[str, float] = {}
        for column in self.setting.criteria:
            summary[f"{column}_to_target"] = needed.set_index("replica")[column][middle]
            summary[f"{column}_lowest"] = needed[column].min()
            summary[f"{column}_highest"] = needed[column].max()
        frame = frame[frame.replica == middle]
        return frame.assign(
            options=options_of(self.settings[row.setting]),
            limit=self.setting.target * frame.distance.iloc[0],
            seeds=len(needed),
            **summary,
        )

    def _start(self, number: int, rates: np.ndarray, steps: int, seeds: Sequence[int]) -> Run:
        """Rates and seeds as replicas, at step 0. A method that draws nothing has one seed."""
        method, setting = self.settings[number], self.setting
        drawn = [self.seed + each for each in (seeds if method.random else seeds[:1])]
        plan = plan_replicas(rates, drawn, None, None, steps)
        setup = Setup(setting.problem, setting.graph(method), method, plan)
        # All other columns of a history would take as long as the steps do.
        return Run(setup, measures=(measures.distance,), resumable=False)

    def _frame(self, run: Run, number: int, places: np.ndarray | None = None) -> pd.DataFrame:
        """What was recorded so far, replica by replica, or what stands at some places of that."""
        setting, r, records = self.setting, run.plan.r, len(run.steps)
        replica, record = np.divmod(np.arange(r * records) if places is None else places, records)
        sent = np.broadcast_to(run.ledger.sent().reshape(records, -1), (records, r))[
            record, replica
        ]
        frame = pd.DataFrame(
            {
                "replica": replica,
                "learning_rate": run.plan.mean_rates(run.steps)[record, replica],
                "step": np.asarray(run.steps)[record],
                "distance": run.column("distance")[record, replica],
                "vectors_sent": sent,
                "bits_sent": bits_of(sent, setting.problem.d),
            }
        )
        return frame if setting.extend is None else setting.extend(frame, self.settings[number])

    def _needed(self, run: Run, number: int) -> pd.DataFrame:
        """Of each replica what it needs until it is below the target for good, and its last distance."""
        distance = run.column("distance")
        records, r = distance.shape
        above = ~(distance <= self.setting.target * distance[0])
        reached = np.where(above.any(axis=0), records - above[::-1].argmax(axis=0), 0)
        there = self._frame(run, number, np.arange(r) * records + np.minimum(reached, records - 1))
        end = distance[-1]
        found = {
            "replica": there.replica,
            "learning_rate": there.learning_rate,
            "end": np.where(np.isfinite(end), end, np.inf),
        }
        for column in self._columns:
            found[column] = np.where(reached < records, there[column], np.inf)
        return pd.DataFrame(found)


def _needs(curve: pd.DataFrame, criterion: str) -> float:
    return float(curve[f"{criterion}_to_target"].iloc[0])


def _sorted(tried: pd.DataFrame, criterion: str) -> pd.DataFrame:
    return tried.sort_values([criterion, "end", "learning_rate"])
