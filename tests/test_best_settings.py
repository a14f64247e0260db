"""Searches of the figures that compare methods: ending early changes nothing of what they find."""

import dataclasses
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


def best_of(settings, target, mu=0.25):
    """What the best by steps and the best by bits need of these."""
    centers = 1 + 0.05 * np.random.default_rng(0).normal(size=(6, 8))
    problem = rs.problems.DiagonalQuadratic(np.tile(np.geomspace(mu, 1, 8), (6, 1)), centers)
    of = best_settings.Setting(problem, lambda _: rs.topologies.ring(6), 800, target)
    search = best_settings.BestSettings(of, settings, 0)
    first = search.first(RATES / problem.smoothness)
    found = []
    for criterion in of.criteria:
        found.append(search.best(first, criterion)[f"{criterion}_to_target"].iloc[-1])
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
    ("settings", "target", "mu"),
    [
        (PERIODIC, 1e-2, 0.05),  # goes up and down in each period, and stalls at high rates
        (COMPRESSED, 2e-2, 0.05),
        ([known.DPSGD(momentum=each) for each in (0.0, 0.5, 0.9)], 2e-2, 0.05),  # stalls too
        ([known.GradientTracking(), known.GradientTracking("atc", 0.3)], 1e-6, 0.25),
        ([known.SwarmSGD(local_steps=each) for each in (1, 2)], 3e-2, 0.1),  # draws
        # Tens of steps, and more settings than are refined.
        (
            [known.D2(), *(known.ChocoSGD(rs.compressors.QSGD(15), k / 10) for k in range(1, 9))],
            3e-2,
            0.02,
        ),
        ([known.DPSGD(a, False, b) for a in (0.9, 0.0, 0.5) for b in (0.1, 0.2, 0.5)], 3e-2, 0.02),
    ],
    ids=["periodic", "compressed", "gossip", "tracking", "events", "many compressed", "many"],
)
def test_what_is_found_is_what_is_found_if_all_is_run_to_the_end(
    settings, target, mu, work, monkeypatch
):
    found = best_of(settings, target, mu)
    taken, work[0] = work[0], 0
    monkeypatch.setattr(best_settings, "FIRST_LOOK", 10**9)
    monkeypatch.setattr(best_settings, "SETTINGS_LONGER", 10**9)
    assert found == best_of(settings, target, mu)
    assert np.isfinite(found).all()
    assert taken < 0.9 * work[0]


def test_who_is_there_for_a_moment_only_is_not_waited_for_by_the_others():
    of = best_settings.Setting(None, lambda _: None, 800, 1e-2)
    search = best_settings.BestSettings(of, [], 0)
    medians = pd.DataFrame({"step": [100.0, np.inf, 120.0], "bits_sent": [1e6, np.inf, 1e5]})
    assert search._steps_of_best(medians, 119) == np.inf
    assert search._steps_of_best(medians, 125) == 100
    assert search._steps_of_best(medians, 150) == 120  # with the fewest bits


def test_settings_are_of_interest_while_few_need_less():
    of = best_settings.Setting(None, lambda _: None, 800, 1e-2)
    search, refined = best_settings.BestSettings(of, [], 0), best_settings.SETTINGS_REFINED
    parts = [
        pd.DataFrame({"step": [9.0 + k, 50.0, np.inf], "bits_sent": [np.inf, 7e3 - k, 9e3]})
        for k in range(refined + 2)
    ]
    assert search._enough(parts[: refined - 1]) == {"step": np.inf, "bits_sent": np.inf}
    assert search._enough(parts) == {"step": 8.0 + refined, "bits_sent": 7e3 - 2}


@dataclasses.dataclass(frozen=True)
class Parting(known.AllReduce):
    """Is at the optimum soon, and what workers differ by grows from very little."""

    label = "Parting"
    growth: float = 1.03

    def step(self, state, round):
        x = super().step(state, round).x
        mean = x.mean(axis=0)
        apart = np.linspace(-1, 1, len(x)).reshape(-1, *(1,) * (x.ndim - 1))
        return state._replace(
            x=mean + self.growth * (state.x - state.x.mean(axis=0)) + 1e-5 * apart
        )


def test_where_those_that_were_first_do_not_stay_others_are_taken():
    parting = [Parting(growth=1.03 + k / 1000) for k in range(best_settings.SETTINGS_REFINED)]
    found = best_of([*parting, known.DPSGD(momentum=0.5)], 1e-2)
    assert found == best_of([known.DPSGD(momentum=0.5)], 1e-2)
    assert np.isfinite(found).all()


def test_what_leaves_again_is_not_taken():
    """Where the search is told too much, what is reported is the best that holds in the whole run."""
    search = functools.partial(best_of, [known.LocalSGD(period=8)], 1e-2)
    (steps, _), seen = search(), []

    class Credulous(best_settings.BestSettings):
        def _finer(self, row):
            tried = super()._finer(row)
            seen.append(tried)
            return tried.assign(step=tried.step.where(tried.index != len(tried) - 1, 1.0))

    with pytest.MonkeyPatch.context() as context:
        context.setattr(best_settings, "BestSettings", Credulous)
        other_steps, _ = search()
    assert seen
    assert steps == other_steps
