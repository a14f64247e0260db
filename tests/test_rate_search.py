"""The search over learning rates on curves that are made up, where what is best is known."""

import types

import numpy as np
import pytest

from relaysim.studies.crossings import FINEST, Crossings
from relaysim.studies.rate_search import RateSearch


class Curves:
    """What a search sees of a run: values of ``curve(rates, steps)`` at each step, ``(records, r)``."""

    measures = (types.SimpleNamespace(name="value"),)

    def __init__(self, curve, rates, taken):
        self._curve, self._rates, self._taken = curve, rates, taken
        self._steps, self._dropped = [], np.full(len(rates), np.inf)
        self.diverged = np.zeros(len(rates), dtype=bool)

    @property
    def steps(self):
        return np.array(self._steps, dtype=int)

    @property
    def step(self):
        return self._steps[-1] if self._steps else 0

    def advance(self, steps):
        before = len(self._steps)
        self._steps += list(steps)
        self._taken[0] += (len(self._steps) - before) * np.isinf(self._dropped).sum()

    def drop(self, replicas):
        self._dropped[replicas] = np.minimum(self._dropped[replicas], self.step)

    def column(self, _):
        steps = self.steps[:, None]
        return np.where(steps <= self._dropped, self._curve(self._rates, steps), np.nan)


def searched(curve, rates, max_steps=20_000, target=1e-3):
    taken = [0]
    search = RateSearch(
        lambda given: Curves(curve, np.asarray(given), taken),
        1.0,
        target,
        max_steps,
        (1e-4, 1.0),
        lambda _: None,
        (1e-12, 1e12),
    )
    return search, search.fastest(np.asarray(rates)), taken[0]


def a_valley(best, steps):
    """Falls to 1e-3 in these steps at its best rate, and in more on either side."""

    def curve(rates, t):
        needed = steps * np.maximum(best / rates, (rates / best) ** 3)
        return 10 ** (-3.001 * t / needed)

    return curve


@pytest.mark.parametrize("steps", [40, 900, 7000])
@pytest.mark.parametrize("best", [0.0123, 0.3])
def test_the_best_of_a_valley_is_found(best, steps):
    search, found, _ = searched(a_valley(best, steps), np.geomspace(1e-3, 10, 42))
    assert found == pytest.approx(best, rel=2 * (FINEST - 1) if steps > 500 else 0.03)
    assert search.frame().steps.min() <= steps * 1.003 + 1


def test_what_is_behind_is_not_waited_for():
    _, _, taken = searched(a_valley(0.3, 7000), np.geomspace(1e-3, 10, 42))
    # Of 42 rates those that are not slow, and three times five on both sides of some, of which few are ahead.
    assert taken < 110 * 7000


def test_rates_that_were_first_for_a_while_only_are_not_all_that_is_known():
    """Near the best, all that are there first rise again while the search still waits."""

    def curve(rates, t):
        falling = a_valley(0.3, 1000)(rates, t)
        fast = (rates > 0.25) & (rates < 0.36)
        return np.where(fast & (t > 1100), 1.0, falling)

    search, found, _ = searched(curve, np.geomspace(1e-3, 10, 42))
    assert not 0.25 < found < 0.36
    frame = search.frame().set_index("learning_rate")
    assert frame.steps[found] == frame.steps.min() < 1250


def test_slower_rates_are_tried_where_no_fast_one_lasts():
    """The fast ones leave after 3000 steps, when they are no longer watched beside others."""

    def curve(rates, t):
        falling = 10 ** (-3.001 * t * rates / 10)
        return np.where((rates > 0.05) & (t > 3000), 1.0, falling)

    _, found, _ = searched(curve, np.geomspace(1e-3, 10, 42))
    assert 0.03 < found <= 0.05


def test_a_search_ends_where_nothing_lasts():
    def curve(rates, t):
        return np.where((t > 20) & (t < 3000) & (rates > 0.1), 1e-4, 1.0) * np.ones_like(rates * t)

    assert np.isnan(searched(curve, np.geomspace(1e-3, 10, 42))[1])


def test_a_needle_is_looked_for_between_known_rates():
    known = Crossings(np.array([1.0, 1.1, 1.21]), *[np.array([90.0, 40.0, 120.0])] * 2)
    assert known.is_needle()
    assert not Crossings(known.rates, *[np.array([41.0, 40.0, 120.0])] * 2).is_needle()
    assert not Crossings(known.rates, *[np.array([np.nan] * 3)] * 2).is_needle()
    assert not len(Crossings(np.array([1.0, 1.001]), *[np.array([5.0, 4.0])] * 2).to_try())
