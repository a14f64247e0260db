"""Searches of the figures that compare methods: ending early changes nothing of what they find."""

import functools
import itertools

import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim import algorithms as known
from relaysim.figures import best_settings

RATES = np.geomspace(1 / 64, 4, 7)
PERIODIC = [known.LocalSGD(period=period) for period in (2, 4, 8)]
COMPRESSED = [
    known.ChocoSGD(compressor, rate)
    for compressor, rate in itertools.product(
        (rs.compressors.TopK(2), rs.compressors.Sign()), (0.3, 1.0)
    )
]


def best_of(settings, target, zeta2=0.05):
    """Options, rate and steps of the best by steps and by bits, and replicas times steps that were taken."""
    problem = rs.problems.random_quadratics(n=6, d=8, zeta2=zeta2, mu=0.25, r0=10.0, seed=0)
    of = best_settings.Setting(problem, lambda _: rs.topologies.ring(6), 800, target)
    search = best_settings.BestSettings(of, settings, 0)
    first = search.first(RATES / problem.smoothness)
    found = []
    for criterion in of.criteria:
        last = search.best(first, criterion).iloc[-1]
        found.append((last.options, last.learning_rate, last[f"{criterion}_to_target"]))
    return found


@pytest.fixture
def work(monkeypatch):
    """Counts steps of replicas."""
    counted = [0]

    class Counting(best_settings.Run):
        def advance(self, record_steps, on_progress=None):
            before, replicas = self.step, len(self.active)
            super().advance(record_steps, on_progress)
            counted[0] += (self.step - before) * replicas

    monkeypatch.setattr(best_settings, "Run", Counting)
    return counted


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        (PERIODIC, 1e-2),  # goes up and down in each period, and stalls at high rates
        (COMPRESSED, 1e-2),
        ([known.DPSGD(momentum=each) for each in (0.0, 0.5, 0.9)], 1e-2),  # stalls too
        ([known.GradientTracking(), known.GradientTracking("atc", 0.3)], 1e-6),
        ([known.SwarmSGD(local_steps=each) for each in (1, 2)], 3e-2),  # draws
    ],
    ids=["periodic", "compressed", "gossip", "tracking", "events"],
)
def test_what_is_found_is_what_is_found_if_all_is_run_to_the_end(
    settings, target, work, monkeypatch
):
    found = best_of(settings, target)
    taken, work[0] = work[0], 0
    monkeypatch.setattr(best_settings, "FIRST_LOOK", 10**9)
    monkeypatch.setattr(best_settings, "SETTINGS_LONGER", 10**9)
    assert found == best_of(settings, target)
    assert all(np.isfinite(steps) for *_, steps in found)
    assert taken < 0.9 * work[0]


def test_who_is_there_for_a_moment_only_is_not_waited_for_by_the_others():
    of = best_settings.Setting(None, lambda _: None, 800, 1e-2)
    search = best_settings.BestSettings(of, [], 0)
    medians = pd.DataFrame({"step": [100.0, np.inf, 120.0], "bits_sent": [1e6, np.inf, 1e5]})
    assert search._steps_of_best(medians, 119) == np.inf
    assert search._steps_of_best(medians, 125) == 100
    assert search._steps_of_best(medians, 150) == 120  # with the fewest bits


def test_what_leaves_again_is_not_taken():
    """Where the search is told too much, what is reported is the best that holds in the whole run."""
    search = functools.partial(best_of, [known.LocalSGD(period=8)], 1e-2)
    ((_, rate, steps), _), seen = search(), []

    class Credulous(best_settings.BestSettings):
        def _finer(self, row):
            tried = super()._finer(row)
            seen.append(tried)
            return tried.assign(step=tried.step.where(tried.index != len(tried) - 1, 1.0))

    with pytest.MonkeyPatch.context() as context:
        context.setattr(best_settings, "BestSettings", Credulous)
        ((_, other_rate, other_steps), _) = search()
    assert seen
    assert (rate, steps) == (other_rate, other_steps)
