"""Processes that share a store and are killed at random: nothing may be lost, doubled or different.

``python benchmarks/soak/shared_sweep.py --kills 200`` prints a line of figures, and ends with 1 if they are
not as they must be: every setting once, every bit that of a sweep that nobody disturbed, and no more groups
computed again than there were kills. Needs a system that can fork.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

import relaysim as rs

RATES = [0.1, 0.2]


class Told:
    """½‖x − c‖² for every worker; it writes a line into a file when a run begins, and takes its time."""

    n, d = 4, 2

    def __init__(self, number: int, told: pathlib.Path | None, seconds: float):
        self.number, self._told, self._seconds = number, told, seconds
        self._is_away = True

    def to_config(self) -> dict:
        return {"number": self.number}

    def value(self, x: np.ndarray) -> np.ndarray:
        return (self._away(x) ** 2).sum(axis=0) / 2

    def gradient(self, x: np.ndarray) -> np.ndarray:
        if self._told is not None:
            began = self._is_away and not x.any()
            self._is_away = bool(x.any())
            if began:
                with open(self._told, "a") as file:
                    file.write(f"{self.number} {os.getpid()}\n")
            time.sleep(self._seconds)
        return np.stack([self._away(each) for each in x])

    def _away(self, x: np.ndarray) -> np.ndarray:
        return (x.T - [1.0, 1.0 + self.number / 7]).T


@dataclass(frozen=True)
class Soaked:
    """What came of it: counts, and whether the results are those of an undisturbed sweep."""

    kills: int
    groups: int
    begun: int
    settings: int
    stored: int
    same: bool
    seconds: float

    @property
    def again(self) -> int:
        """Groups that were begun more than once, each time."""
        return self.begun - self.groups

    @property
    def is_right(self) -> bool:
        return self.same and self.stored == self.settings and 0 <= self.again <= self.kills

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.groups} groups begun {self.begun} times ({self.again} again), "
            f"{self.stored} of {self.settings} settings stored, bits "
            f"{'the same' if self.same else 'DIFFERENT'}, {self.seconds:.0f} s"
        )


def settings(groups: int, told: pathlib.Path | None, seconds: float) -> dict:
    return {
        "problem": [Told(number, told, seconds) for number in range(groups)],
        "learning_rate": RATES,
        "steps": 20,
        "record": 5,
    }


def soak(kills: int, processes: int, groups: int, seconds: float, mean: float, seed: int) -> Soaked:
    """Share a sweep and kill, until all of it is done.

    Args:
        kills: SIGKILLs.
        processes: that share it.
        groups: of two settings.
        seconds: that a gradient takes.
        mean: seconds from one kill to the next, on average.
        seed: of who is killed, and when.
    """
    random = np.random.default_rng(seed)
    fork = multiprocessing.get_context("fork")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        store, told = pathlib.Path(folder, "shared.db"), pathlib.Path(folder, "told")
        told.touch()
        described = settings(groups, told, seconds)

        def start() -> multiprocessing.Process:
            process = fork.Process(target=rs.sweep, args=(described,), kwargs={"store": store})
            process.start()
            return process

        running = [start() for _ in range(processes)]
        killed = 0
        while killed < kills and any(process.is_alive() for process in running):
            time.sleep(random.exponential(mean))
            place = int(random.integers(processes))
            # Three of four while they compute, the others whatever they do: begin, store, claim, wait.
            at_work = f" {running[place].pid}\n" in told.read_text()
            if running[place].is_alive() and (at_work or random.random() < 0.25):
                os.kill(running[place].pid, signal.SIGKILL)
                running[place].join()
                killed += 1
                running[place] = start()
        for process in running:
            process.join()
        alone = rs.sweep(settings(groups, None, 0.0), progress=False)
        shared = rs.sweep(described, store=store, progress=False)
        stored = rs.load_sweep(store)
        return Soaked(
            kills=killed,
            groups=groups,
            begun=len(told.read_text().splitlines()),
            settings=groups * len(RATES),
            stored=int((stored.step == 0).sum()),
            same=_same(alone, shared) and len(stored) == len(shared),
            seconds=time.monotonic() - began,
        )


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--groups", type=int, default=150)
    parser.add_argument("--gradient", type=float, default=0.1, help="seconds that one takes")
    parser.add_argument("--mean", type=float, default=0.6, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = soak(given.kills, given.processes, given.groups, given.gradient, given.mean, given.seed)
    print(found)
    return 0 if found.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
