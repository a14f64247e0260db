"""Long runs of a sweep that are killed go on from their last checkpoint, with the same bits."""

import re
import sqlite3

import pandas as pd
import pytest

import relaysim as rs
from relaysim.studies import stretches, sweeps
from relaysim.studies.store import Store
from relaysim.studies.stretches import Checkpoint
from relaysim.support.interrupts import StopRequest

LONG = {
    "algorithm": "DPSGD", "n": 4, "d": 2, "zeta2": 0.5, "topology": "ring", "learning_rate": [0.1, 0.3],
    "seed": [0, 1], "sigma2": 0.1, "steps": 700,
}  # fmt: skip
RUNS = [
    {"algorithm": "DPSGD", "record": 1},
    {"algorithm": "D2", "record": 300},
    {"algorithm": "GradientTracking", "record": 7, "drop": 0.1},
    {"algorithm": "DPSGD", "record": 10, "learning_rate": [0.1, 30.0]},  # diverges
    # Each record is measured by itself, and so is one at which the run stops.
    {
        "algorithm": "D2", "mixing": "uniform(0.3)", "n": 4096, "d": 16, "mu": None, "learning_rate": 0.1,
        "seed": 0, "steps": 120, "record": 40,
    },
    {"algorithm": "A2CiD2", "record": 50, "steps": 200},
]  # fmt: skip


KEEP = Checkpoint.keep


class Killed(BaseException):
    """As a signal would."""


def impatient(monkeypatch, looks):
    """Runs are kept whenever it was looked that often whether they should be."""

    class Soon(StopRequest):
        left = looks

        @property
        def made(self):
            self.left -= 1
            return self.left < 0

        @made.setter
        def made(self, value):
            pass

    class Context:
        def __init__(self, seconds):
            pass

        def __enter__(self):
            return Soon()

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(stretches, "stops_after", Context)


def dies(monkeypatch, at):
    """The process ends when so many checkpoints are kept; returns the steps at which they were."""
    steps = []

    def keep(self, history):
        KEEP(self, history)
        steps.append(history.config["steps"])
        if len(steps) == at:
            raise Killed

    monkeypatch.setattr(Checkpoint, "keep", keep)
    return steps


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['algorithm']}-{run['record']}")
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, monkeypatch, run):
    store, settings = tmp_path / "kept.db", LONG | run
    whole = rs.sweep(settings, progress=False)
    impatient(monkeypatch, {1: 60, 7: 60, 10: 20, 40: 3}.get(run["record"], 5))
    first = dies(monkeypatch, 3)
    with pytest.raises(Killed):
        rs.sweep(settings, store=store, progress=False)
    later = dies(monkeypatch, None)
    pd.testing.assert_frame_equal(
        rs.sweep(settings, store=store, progress=False), whole, check_exact=True
    )
    assert 0 < first[0] < first[-1] < settings["steps"]
    assert not later or later[0] > first[-1]
    with Store(store) as kept:
        assert kept._connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkpoints SET history = substr(history, 1, 2000)",
        None,
    ],
)
def test_what_cannot_be_gone_on_with_begins_anew(tmp_path, monkeypatch, change):
    store, settings = tmp_path / "kept.db", LONG | RUNS[0]
    whole = rs.sweep(settings, progress=False)
    impatient(monkeypatch, 60)
    dies(monkeypatch, 3)
    with pytest.raises(Killed):
        rs.sweep(settings, store=store, progress=False)
    if change is None:  # other libraries would add up in another order
        now = stretches.provenance() | {"blas": "another one"}
        monkeypatch.setattr(stretches, "provenance", lambda: now)
    else:
        with sqlite3.connect(store) as connection:
            connection.execute(change)
        connection.close()
    later = dies(monkeypatch, None)
    table = rs.sweep(settings, store=store, progress=False)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)
    assert later[0] < 100


def test_short_runs_and_runs_without_a_store_are_never_kept(tmp_path, monkeypatch):
    steps = dies(monkeypatch, None)
    short = LONG | {"steps": 50}
    rs.sweep(short, store=tmp_path / "kept.db", progress=False)
    impatient(monkeypatch, 5)
    rs.sweep(short, progress=False)
    assert not steps


def test_runs_that_a_rule_is_not_made_for_are_refused_as_by_simulate(tmp_path):
    run = {
        "problem": rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0),
        "topology": rs.topologies.ring(4),
        "algorithm": rs.algorithms.SingleMerge(merge_at=30),
        "learning_rate": 0.1,
        "steps": 20,
    }
    with pytest.raises(ValueError, match="steps") as told:
        rs.simulate(**run)
    with pytest.raises(ValueError, match=re.escape(str(told.value))):
        stretches.simulated(run, Checkpoint(tmp_path / "kept.db", "a"))


def test_where_the_store_is_out_of_reach_the_run_goes_on(tmp_path, monkeypatch):
    impatient(monkeypatch, 50)
    settings = rs.studies.expansion.expand(LONG | {"seed": 0, "learning_rate": 0.1})
    ((_, came),) = sweeps._tried(settings, tmp_path / "elsewhere" / "kept.db")
    ((_, alone),) = sweeps._tried(settings)
    assert came.result["distance"].tolist() == alone.result["distance"].tolist()
    assert not [*tmp_path.iterdir()]
