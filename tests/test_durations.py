"""How long exact analysis takes: told before it starts, and held against what it then takes."""

import itertools
import re
import sys
import time

import numpy as np
import pytest

import relaysim as rs
from relaysim.theory import durations, growth, stability

T, A = rs.topologies, rs.algorithms


def quadratics(n, d=2):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=1.0, seed=0)


def parts(n=8, d=3):
    return quadratics(n, d), T.chain(n), A.RelaySGD()


def noise_floor(n, d, columns=None, **options):
    return rs.theory.linearize(*parts(n, d), 0.1).stationary(1.0, columns, **options)


def columns_of(n, d):
    ring = T.ring(n)
    mixing = [rs.mixing.uniform(ring, weight) for weight in (0.1, 0.3, 0.4)]
    given = (quadratics(n, d), ring, A.DPSGD(), 0.1)
    return rs.theory.linearize(*given, mixing=mixing)._floor._by_columns()


def mapped(n, rates=8, **options):
    settings = {size: (quadratics(size), T.chain(size)) for size in (n // 2, n)}
    return rs.theory.map(
        [A.RelaySGD(), A.DPSGD()], settings, np.geomspace(0.01, 3, rates), **options
    )


def consensus(n, **options):
    start = np.random.default_rng(0).normal(size=n)
    return rs.theory.asynchronous_consensus(T.chain(n), A.A2CiD2(), start, [1.0, 300.0], **options)


# Each large enough that measuring is a small part of it.
CALLS = {
    "stable rates": lambda **options: rs.theory.stable_learning_rates(*parts(), **options),
    "best rate, RelaySGD": lambda **options: rs.theory.best_learning_rate(*parts(), **options),
    "best rate, LocalSGD": lambda **options: rs.theory.best_learning_rate(
        quadratics(2), T.chain(2), A.LocalSGD(5), **options
    ),
    "noise floor": lambda **options: noise_floor(16, 8, **options),
    "map": lambda **options: mapped(6, 5, **options),
    "consensus": lambda **options: consensus(24, **options),
}


def estimate_of(call):
    """Seconds as the refusal says them."""
    with pytest.raises(ValueError, match="an estimate from what one product takes here") as refusal:
        call(seconds=0)
    return float(re.search(r"would take about (\S+) s", str(refusal.value))[1])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * ("best" in name)) for name in CALLS]
)
def test_the_estimate_is_about_what_it_takes(monkeypatch, name):
    call = CALLS[name]
    monkeypatch.setattr(durations.time, "perf_counter", time.process_time)
    call()  # what is loaded for the first time is no part of it
    estimate = estimate_of(call)
    began = time.process_time()
    call()
    taken = time.process_time() - began
    # Mostly within a factor of 3: of what is small, measuring is some hundredths of a second.
    assert taken / 6 < estimate < 6 * taken + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [(quadratics(32, 10), T.chain(32), A.RelaySGD()), (quadratics(32, 10), T.ring(32), A.D2())],
    ids=["RelaySGD", "D2"],
)
def test_the_estimate_of_larger_ones_is_within_a_factor_of_three(monkeypatch, given):
    monkeypatch.setattr(durations.time, "perf_counter", time.process_time)
    rs.theory.linearize(*given, 0.1).stationary(1.0)
    for call in (
        lambda **options: rs.theory.stable_learning_rates(*given, **options),
        lambda **options: rs.theory.linearize(*given, 0.1).stationary(1.0, **options),
    ):
        estimate = estimate_of(call)
        began = time.process_time()
        call()
        taken = time.process_time() - began
        assert taken / 3 < estimate < 3 * taken


def test_a_limit_that_is_kept_changes_nothing(monkeypatch):
    monkeypatch.setattr(growth, "FINE_RATIO", 3.0)
    # Eigenvalues are iterated for, from starts that measuring must not leave behind.
    given = parts(5, 9)
    found = rs.theory.stable_learning_rates(*given)
    assert rs.theory.stable_learning_rates(*given, seconds=600) == found
    given = parts(2, 1)
    for call in (rs.theory.max_learning_rate, rs.theory.best_learning_rate):
        assert call(*given, seconds=600) == call(*given)
    for columns in (None, ["suboptimality"]):
        limited = noise_floor(8, 3, columns, seconds=600)
        assert limited.equals(noise_floor(8, 3, columns))


def test_nothing_is_started(monkeypatch):
    monkeypatch.setattr(growth.Growth, "scan", lambda self: pytest.fail("it has started"))
    with pytest.raises(ValueError, match="RelaySGD: stable rates with n = 8 workers and d = 3"):
        rs.theory.stable_learning_rates(*parts(), seconds=0.01)


def test_it_says_what_would_fit():
    limit = durations.TimeLimit(2.0, "a search", n=64, d=10)
    limit.require(1.9)
    with pytest.raises(ValueError, match="seconds=2 allows less; give more seconds, or") as refusal:
        limit.require(32.0)
    n, d = re.search(
        r"about n = (\d+) with d = 10, or d = (\d+) with n = 64", str(refusal.value)
    ).groups()
    for workers, parameters, power in ((int(n), 10, 1.5), (64, int(d), 2.5)):
        share = (workers / 64 if parameters == 10 else parameters / 10) ** power
        more = ((workers + 1) / 64 if parameters == 10 else (parameters + 1) / 10) ** power
        assert 32 * share < 2.0 < 32 * more + 0.01
    with pytest.raises(ValueError, match=r"allows less; give more seconds$"):
        durations.TimeLimit(1e-9, "a search", n=2, d=1).require(5.0)


def test_what_takes_long_to_estimate_is_refused_by_its_least():
    limit = durations.TimeLimit(1.0, "a search", n=64, d=10)
    limit.require(500.0, measurement=0.1)  # a better one is soon there
    with pytest.raises(ValueError, match=r"would take more than 5e\+02 s"):
        limit.require(500.0, measurement=50.0)


def test_rows_of_a_map_that_are_known_take_no_time(tmp_path):
    store = tmp_path / "map.npz"
    first = mapped(4, 3, store=store)
    assert mapped(4, 3, store=store, seconds=1e-9).frame.equals(first.frame)
    with pytest.raises(ValueError, match="fewer learning rates or fewer settings"):
        mapped(4, 4, store=store, seconds=1e-9)


@pytest.mark.parametrize("seconds", [-1, "2", np.nan, [1.0]])
def test_bad_limits_are_refused(seconds):
    calls = itertools.chain(CALLS.values(), [lambda **options: noise_floor(2, 1, **options)])
    for call in calls:
        with pytest.raises((TypeError, ValueError), match="seconds must be"):
            call(seconds=seconds)


# -- while it lasts: bars, and Ctrl-C ----------------------------------------------------------------


class Bar:
    """What a bar is told."""

    def __init__(self, total, show, description, unit):
        self.total, self.description, self.n = total, description, 0

    def update(self, n=1):
        self.n += n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(
    ("description", "call"),
    [
        ("RelaySGD: stable rates", lambda: rs.theory.stable_learning_rates(*parts(4, 2))),
        ("noise floor", lambda: noise_floor(4, 8)),  # doublings
        ("noise floor", lambda: noise_floor(12, 2, ["suboptimality"])),  # steps of rows
        ("noise floor", lambda: columns_of(6, 4)),  # steps of columns
        ("map of rates", lambda: mapped(4, 3)),
        ("consensus", lambda: consensus(6)),
        ("decay of pairs", lambda: rs.theory.asynchronous_decay(T.ring(8), A.A2CiD2())),
        ("key lemma", lambda: rs.theory.key_lemma(T.chain(6))),
        (
            "moments",
            lambda: rs.theory.mean_square(*parts(3, 1)[:2], A.ProxSkip(0.3), 0.1).predict(9),
        ),
        (
            "floor of moments",
            lambda: rs.theory.mean_square(*parts(3, 1)[:2], A.ProxSkip(0.3), 0.5).stationary,
        ),
    ],
)
def test_bars_count_to_about_their_total(monkeypatch, description, call):
    bars = []

    def bar(*given):
        bars.append(Bar(*given))
        return bars[-1]

    for name, module in list(sys.modules.items()):
        if name.startswith("relaysim.theory") and hasattr(module, "progress_bar"):
            monkeypatch.setattr(module, "progress_bar", bar)
    call()
    [shown] = [each for each in bars if each.description == description and each.n]
    assert shown.total / 3 < shown.n <= 1.5 * shown.total


def interrupted_at(monkeypatch, rate_limit=np.inf, refinements=0):
    """Ctrl-C while ρ is computed for a rate above this, or in refining."""
    real, refined = growth.Growth._log_radius, itertools.count()

    def until(self, rate, how):
        at_end = how == "along" and next(refined) == refinements
        scans = hasattr(self, "_rates")
        if at_end or (scans and rate * self.curvature > rate_limit):
            raise KeyboardInterrupt
        return real(self, rate, how)

    monkeypatch.setattr(growth.Growth, "_log_radius", until)
    monkeypatch.setattr(growth.Growth, "_largest_conceivable", lambda self: 12 / self.curvature)


# D² on a binary tree of 24: no rate is stable below the lower end.
TREE = rs.problems.DiagonalQuadratic(np.ones((24, 1)), np.arange(24.0)[:, None])
GIVEN = {
    "from 0": (quadratics(4), T.chain(4), A.RelaySGD()),
    "from above 0": (TREE, T.binary_tree(24), A.D2()),
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_an_interrupted_search_gives_the_windows_it_has_confirmed(monkeypatch, given):
    [(low, high)] = rs.theory.stable_learning_rates(*given)
    confirmed = []
    for limit in (1e-5, 0.8, 1.4, np.inf):
        with monkeypatch.context() as patch:
            interrupted_at(patch, limit)
            with pytest.warns(RuntimeWarning, match="stable rates was interrupted: stab") as said:
                found = rs.theory.stable_learning_rates(*given)
            assert said[0].filename == __file__
        assert len(found) <= 1
        assert all(low <= start < end <= min(high, 1.01 * limit) for start, end in found)
        assert all(start == 0 for start, _ in found if low == 0)
        confirmed.append(sum(end - start for start, end in found))
    assert confirmed == sorted(confirmed)
    assert confirmed[0] <= 1e-5
    assert confirmed[-1] > 0.8 * (high - low)
    with monkeypatch.context() as patch:
        interrupted_at(patch, 1.4)
        with pytest.warns(RuntimeWarning, match="was interrupted"):
            largest = rs.theory.max_learning_rate(*given)
    assert low < largest <= 1.4


def test_an_interrupted_search_gives_the_best_so_far(monkeypatch):
    given = GIVEN["from 0"]
    best, found = rs.theory.best_learning_rate(*given), []
    for limit, refinements in ((2e-6, 0), (0.8, 0), (np.inf, 0), (np.inf, 4)):
        with monkeypatch.context() as patch:
            interrupted_at(patch, limit, refinements)
            with pytest.warns(RuntimeWarning, match=r"the best is that of the \d+ rates"):
                found.append(rs.theory.best_learning_rate(*given))
    radii = [each.spectral_radius for each in found]
    assert radii == sorted(radii, reverse=True)
    assert best.spectral_radius <= radii[-1] < 1.01 * best.spectral_radius
    for each in found:
        linear = rs.theory.linearize(*given, each.learning_rate)
        assert each.spectral_radius == pytest.approx(linear.spectral_radius, rel=1e-5)
    with monkeypatch.context() as patch:
        interrupted_at(patch, 1e-9)
        with pytest.warns(RuntimeWarning, match="of the 0 rates"):
            assert rs.theory.best_learning_rate(*GIVEN["from above 0"]) is None


def test_rates_that_are_only_neutral_are_no_best():
    class Neutral:
        def __init__(self):
            self._tried = {0.1: 0.0, 0.2: 0.3}

        def _warned(self, what):
            return sorted(self._tried)

    assert growth.Growth.best_so_far(Neutral()) is None


def test_an_interrupted_search_of_a_figure_raises(monkeypatch):
    interrupted_at(monkeypatch, 0.5)
    with pytest.raises(KeyboardInterrupt):
        stability.windows_and_best(*GIVEN["from 0"])
