"""The search for a method's best options and learning rate, the same for each method that is compared."""

from __future__ import annotations

import math
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

__all__ = ["BestSettings", "Setting"]

# Steps of the first search, in which most methods get there.
FIRST_STEPS = 300
# Where no setting of a method is there by then, those that are nearest go on.
SETTINGS_LONGER = 3
# The best of the first search are searched around by these factors, over these many times the steps.
FINER = 2.0 ** np.linspace(-0.75, 0.75, 7)
SETTINGS_REFINED, MARGIN_OF_STEPS = 2, 4
# So many of these are run whole, until one is there for good.
RATES_REPORTED = 4
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
        """All settings at all rates, for as many steps as most methods need."""
        every = range(len(self.settings))
        found = self._tried(every, rates, min(self.steps, FIRST_STEPS), [100])
        if not np.isfinite(found.step).any() and self.steps > FIRST_STEPS:
            nearest = _sorted(found, "step").setting.drop_duplicates()[:SETTINGS_LONGER]
            found = self._tried(list(nearest), rates, self.steps, [100])
        return found

    def best(self, first: pd.DataFrame, criterion: str) -> pd.DataFrame:
        """The curve of the best of what was tried first, and of rates around the best of that."""
        around = _sorted(first, criterion).drop_duplicates("setting")[:SETTINGS_REFINED]
        tried = pd.concat([self._finer(row) for row in rows_of(around)])
        ranked = list(rows_of(_sorted(tried, criterion)[:RATES_REPORTED]))
        # Who was there within the search may leave later, at the limit of stability.
        for row in ranked:
            curve = self._curve(row, criterion)
            there = math.isfinite(curve[f"{criterion}_to_target"].iloc[0])
            if there or math.isinf(getattr(row, criterion)):
                return curve
        return self._curve(ranked[0], criterion)

    def _finer(self, row: Any) -> pd.DataFrame:
        key = row.setting, row.learning_rate
        if key not in self._refined:
            horizon = MARGIN_OF_STEPS * row.step + FIRST_STEPS
            horizon = int(min(self.steps, horizon))
            near = row.learning_rate * FINER
            self._refined[key] = self._tried([row.setting], near, horizon, SEARCH_SEEDS)
        return self._refined[key]

    def _tried(
        self, numbers: Sequence[int], rates: np.ndarray, steps: int, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """What each setting and rate needs to the target (inf: more) in the median, and where it ends."""
        parts = []
        for number in numbers:
            whole = max(steps, self.settings[number].least_steps)
            needed = self._needed(self._run(number, rates, whole, seeds))
            columns = [*self._columns, "end"]
            needed = needed.groupby("learning_rate", as_index=False)[columns].median()
            parts.append(needed.assign(setting=number))
        return pd.concat(parts, ignore_index=True)

    def _curve(self, row: Any, criterion: str) -> pd.DataFrame:
        """Of the seed that is nearest to the median, with the median, lowest and highest of all."""
        key = row.setting, row.learning_rate
        if key not in self._reported:
            found = self._run(row.setting, np.array([row.learning_rate]), self.steps, SEEDS)
            self._reported[key] = found, self._needed(found)
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

    def _run(
        self, number: int, rates: np.ndarray, steps: int, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """A method that draws nothing has one seed."""
        method, setting = self.settings[number], self.setting
        drawn = [self.seed + each for each in (seeds if method.random else seeds[:1])]
        plan = plan_replicas(rates, drawn, None, None, steps)
        setup = Setup(setting.problem, setting.graph(method), method, plan)
        # All other columns of a history would take as long as the steps do.
        run = Run(setup, measures=(measures.distance,))
        run.advance(record_steps(setting.every, steps))
        sent = np.broadcast_to(
            run.ledger.sent().reshape(len(run.steps), -1).T, (plan.r, len(run.steps))
        )
        frame = pd.DataFrame(
            {
                "replica": np.repeat(np.arange(plan.r), len(run.steps)),
                "learning_rate": plan.mean_rates(run.steps).T.ravel(),
                "step": np.tile(run.steps, plan.r),
                "distance": run.column("distance").T.ravel(),
                "vectors_sent": sent.ravel(),
                "bits_sent": bits_of(sent, setting.problem.d).ravel(),
            }
        )
        return frame if setting.extend is None else setting.extend(frame, method)

    def _needed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Of each replica what it needs until it is below the target for good, and its last distance."""
        replicas = frame.replica.nunique()
        distance = frame.distance.to_numpy().reshape(replicas, -1)
        records = distance.shape[1]
        above = ~(distance <= self.setting.target * distance[:, :1])
        reached = np.where(above.any(axis=1), records - above[:, ::-1].argmax(axis=1), 0)
        first, end = np.arange(replicas) * records, distance[:, -1]
        there = first + np.minimum(reached, records - 1)
        found = {
            "replica": np.arange(replicas),
            "learning_rate": frame.learning_rate.to_numpy()[first],
            "end": np.where(np.isfinite(end), end, np.inf),
        }
        for column in self._columns:
            found[column] = np.where(reached < records, frame[column].to_numpy()[there], np.inf)
        return pd.DataFrame(found)


def _sorted(tried: pd.DataFrame, criterion: str) -> pd.DataFrame:
    return tried.sort_values([criterion, "end", "learning_rate"])
