"""Maps of exact rates: grid, boundary and best rates against other searches; what the store keeps."""

import math

import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, RelaySGD, RelaySGDGrad
from relaysim.theory import maps, stability

CHAIN = rs.topologies.chain(4)
PROBLEM = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
RATES = np.geomspace(0.05, 6, 7)


def test_boundary_and_best_rate_are_those_of_the_searches():
    methods = [D2(), RelaySGD()]
    found = rs.theory.map(methods, {1.0: (PROBLEM, CHAIN)}, RATES)
    for method in methods:
        windows, best = stability.windows_and_best(PROBLEM, CHAIN, method)
        ends = found.boundary[found.boundary.method == method.label]
        inside = [end for window in windows for end in window if RATES[0] < end < RATES[-1]]
        np.testing.assert_allclose(ends.learning_rate, inside, rtol=1e-7)
        (row,) = found.best[found.best.method == method.label].itertuples()
        assert row.learning_rate == pytest.approx(best.learning_rate, rel=0.01)
        assert row.spectral_radius == pytest.approx(best.spectral_radius, rel=1e-4)


def test_boundary_and_best_rate_have_the_units_of_the_problem():
    steep = rs.problems.LeastSquares(PROBLEM.A * 2.0**12, PROBLEM.b * 2.0**12)
    one = rs.theory.map(D2(), {1.0: (PROBLEM, CHAIN)}, RATES)
    other = rs.theory.map(D2(), {1.0: (steep, CHAIN)}, RATES / 2.0**24)
    for rates, steeper in ((one.boundary, other.boundary), (one.best, other.best)):
        assert len(rates)
        found = steeper.learning_rate * 2.0**24
        np.testing.assert_allclose(found, rates.learning_rate, rtol=1e-9)


def test_a_window_that_opens_again_has_its_sides_said():
    """RelaySGD/Grad on a star is stable up to a rate, and again further on: closed form."""
    n = 8
    star = rs.topologies.star(n)
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 1)), np.arange(float(n))[:, None])
    found = rs.theory.map(RelaySGDGrad(), {n: (problem, star)}, [0.5, 2.0, 4.0, 7.0, 9.0])
    # γh < n and γh (n − γh) < n²/(n − 2)
    root = np.sqrt(n**2 / 4 - n**2 / (n - 2))
    expected = [n / 2 - root, n / 2 + root, n]
    np.testing.assert_allclose(found.boundary.learning_rate, expected, rtol=1e-7)
    assert found.boundary.stable.tolist() == ["below", "above", "below"]


def test_where_nobody_learns_there_is_no_boundary():
    """ρ is 1 but for rounding, as it is at γ = 0."""
    problem, graph = (
        rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0),
        rs.topologies.ring(4),
    )
    found = rs.theory.map(rs.algorithms.D2(), {0: (problem, graph)}, [1e-300, 1e-14, 0.1, 10.0])
    assert found.boundary.stable.tolist() == ["below"]
    assert 0.1 < found.boundary.learning_rate[0] < 10
    assert rs.theory.map(rs.algorithms.D2(), {0: (problem, graph)}, [1e-14, 0.1]).boundary.empty


def test_a_store_knows_what_a_problem_says_of_itself(tmp_path):
    """Gradients alone do not tell how long the steps of each worker are."""

    class Careful(rs.problems.DiagonalQuadratic):
        @property
        def local_smoothness(self):
            return 4 * super().local_smoothness

    store, graph = tmp_path / "map.npz", rs.topologies.ring(3)
    h, centers = np.array([[1.0], [2.0], [4.0]]), np.ones((3, 1))
    radii = []
    for kind in (rs.problems.DiagonalQuadratic, Careful):
        given = rs.algorithms.LocalRates(0), {0: (kind(h, centers), graph)}, [0.1, 0.4]
        radii.append(rs.theory.map(*given, store=store).frame.spectral_radius.tolist())
    # All take steps of γ/L̄, and f has the curvature 7/3: L̄ is that, or four times as much.
    np.testing.assert_allclose(radii, [[0.9, 0.6], [0.975, 0.9]], rtol=1e-12)


def test_the_grid_is_the_spectral_radius_in_the_order_of_settings_and_methods():
    gaps = {
        gap: (PROBLEM, rs.topologies.complete(4), rs.mixing.with_spectral_gap(4, gap))
        for gap in (0.2, 0.9)
    }
    found = rs.theory.map([D2(), DPSGD()], gaps, RATES[:3])
    keys = found.frame[["setting", "method"]].drop_duplicates().values.tolist()
    assert keys == [[g, m.label] for g in gaps for m in (D2(), DPSGD())]
    row = found.frame.iloc[4]  # gap 0.2, DP-SGD, the second rate
    expected = rs.theory.linearize(*gaps[0.2][:2], DPSGD(), RATES[1], mixing=gaps[0.2][2])
    assert row.spectral_radius == pytest.approx(expected.spectral_radius, rel=1e-12)
    assert "Best rates" in found._repr_html_()


def test_a_store_gives_back_what_was_computed_and_nothing_else(tmp_path, monkeypatch):
    store = tmp_path / "rates.npz"
    settings = {"chain": (PROBLEM, CHAIN)}
    first = rs.theory.map([D2()], settings, RATES[:4], store=store)
    counted = []
    real = maps.spectral_radius
    monkeypatch.setattr(
        maps, "spectral_radius", lambda *given: (counted.append(given), real(*given))[1]
    )
    again = rs.theory.map([D2()], settings, RATES[:4], store=store)
    assert not counted
    for kind in ("frame", "boundary", "best"):
        pd.testing.assert_frame_equal(getattr(again, kind), getattr(first, kind))
    other = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=1)
    lazy = rs.mixing.lazy(rs.mixing.metropolis(CHAIN))
    for changed, method in (
        ({"chain": (other, CHAIN)}, D2()),
        ({"chain": (PROBLEM, CHAIN, lazy)}, D2()),
        ({"chain": (PROBLEM, rs.topologies.star(4))}, D2()),
        (settings, DPSGD()),
    ):
        counted.clear()
        rs.theory.map(method, changed, RATES[:2], store=store)
        assert counted


def test_an_interrupted_map_has_kept_what_was_finished(tmp_path, monkeypatch):
    store = tmp_path / "rates.npz"
    real, asked = maps._radius_by_rate, []

    def until_interrupted(given):
        asked.append(given)
        radius = real(given)

        def until(rate):
            if rate > RATES[0]:
                raise KeyboardInterrupt
            return radius(rate)

        return until if given[0] is other else radius

    other = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=1)
    monkeypatch.setattr(maps, "_radius_by_rate", until_interrupted)
    settings = {0: (PROBLEM, CHAIN), 1: (other, CHAIN)}
    with pytest.warns(RuntimeWarning, match="1 of 2 rows are whole"):
        found = rs.theory.map(D2(), settings, RATES[:3], store=store)
    asked.clear()
    whole = rs.theory.map(D2(), {0: settings[0]}, RATES[:3], store=store)
    assert not asked
    first, second = (rows for _, rows in found.frame.groupby("setting"))
    assert first.equals(whole.frame)
    assert found.best.equals(whole.best)
    assert second.spectral_radius.isna().tolist() == [False, True, True]
    monkeypatch.setattr(maps, "_radius_by_rate", real)
    rest = rs.theory.map(D2(), settings, RATES[:3], store=store)
    assert rest.frame.equals(rs.theory.map(D2(), settings, RATES[:3]).frame)
    assert rest.frame.spectral_radius[3] == second.spectral_radius[3]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": []}, ValueError, "one or more"),
        ({"methods": [D2(), D2()]}, ValueError, "label of their own"),
        ({"learning_rates": [0.2, 0.1]}, ValueError, "that increase"),
        ({"learning_rates": [0.2, math.inf]}, ValueError, "learning_rates has .* not finite"),
        ({"learning_rates": [0.0, 0.1]}, ValueError, "positive"),
        ({"settings": {}}, ValueError, "at least one"),
        ({"settings": {1: PROBLEM}}, ValueError, "a setting must be"),
        ({"settings": {1: (PROBLEM, rs.topologies.ring(5))}}, ValueError, "make them equal"),
        ({"methods": rs.algorithms.ProxSkip(0.5)}, TypeError, "not affine"),
    ],
)
def test_what_is_no_map_is_refused(change, error, words):
    given = {"methods": D2(), "settings": {1: (PROBLEM, CHAIN)}, "learning_rates": [0.1, 0.2]}
    with pytest.raises(error, match=words):
        rs.theory.map(**(given | change))


def test_a_file_that_is_no_store_is_left_alone(tmp_path):
    other = tmp_path / "notes.npz"
    other.write_text("mine")
    with pytest.raises(ValueError, match="is no store of a map of rates"):
        rs.theory.map(D2(), {1: (PROBLEM, CHAIN)}, [0.1, 0.2], store=other)
    assert other.read_text() == "mine"


def test_a_method_that_is_not_affine_in_the_rate_is_linearized_at_each():
    local = rs.algorithms.LocalSGD(3)
    found = rs.theory.map(local, {1: (PROBLEM, CHAIN)}, RATES[::3])
    for row in found.frame.itertuples():
        expected = rs.theory.linearize(PROBLEM, CHAIN, local, row.learning_rate).spectral_radius
        assert row.spectral_radius == pytest.approx(expected, rel=1e-12)
