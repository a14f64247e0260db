"""Several histories in one picture: their looks, their names, and what is drawn of them."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

import relaysim as rs


@pytest.fixture(autouse=True)
def close_figures():
    matplotlib.use("agg")
    yield
    plt.close("all")


def run(algorithm=None, n=8, graph=rs.topologies.ring, **options):
    options = {"learning_rate": 0.1, "steps": 40} | options
    problem = rs.problems.random_quadratics(n=n, d=3, zeta2=1.0, seed=0)
    return rs.simulate(problem, graph(n), algorithm or rs.algorithms.DPSGD(), **options)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def looks(ax):
    return [(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in ax.lines]


MOMENTA = [rs.algorithms.DPSGD(momentum) for momentum in (0.0, 0.5, 0.9)]


def test_one_method_with_other_options_is_told_apart():
    histories = [run(method) for method in MOMENTA]
    ax = rs.plot(histories)
    assert legend(ax) == [f"DP-SGD (gossip), momentum = {m}" for m in (0.0, 0.5, 0.9)]
    assert len(set(looks(ax))) == 3
    assert ax.lines[0].get_color() == rs.plots.method_style("DP-SGD (gossip)")["color"]
    # The same where they are drawn one after the other.
    _, own = plt.subplots()
    for history in histories:
        history.plot(ax=own)
    assert looks(own) == looks(ax)


def test_one_method_on_other_sizes_is_told_apart():
    ax = rs.plot([run(n=n) for n in (4, 6, 8)])
    assert legend(ax) == [
        "DP-SGD (gossip), n = 4",
        "DP-SGD (gossip), n = 6",
        "DP-SGD (gossip), n = 8",
    ]
    assert len(set(looks(ax))) == 3


def test_rates_of_several_histories_are_told_apart():
    rates = [0.05, 0.1]
    ax = rs.plot([run(method, learning_rate=rates) for method in MOMENTA[:2]])
    assert legend(ax)[:2] == [f"DP-SGD (gossip), momentum = 0.0, γ = {rate}" for rate in rates]
    assert len(set(looks(ax))) == 4


def test_names_tell_what_differs():
    def named(*histories):
        return legend(rs.plot(histories))

    d2 = rs.algorithms.D2()
    assert named(run(), run(d2)) == ["DP-SGD (gossip)", "D²"]
    assert named(run(), run(graph=rs.topologies.chain)) == [
        "DP-SGD (gossip), ring",
        "DP-SGD (gossip), chain",
    ]
    assert named(run(learning_rate=0.1), run(learning_rate=0.2)) == [
        "DP-SGD (gossip), γ = 0.1",
        "DP-SGD (gossip), γ = 0.2",
    ]
    assert named(run(), run(oracle=rs.oracles.Gaussian(0.1))) == [
        "DP-SGD (gossip), no oracle",
        "DP-SGD (gossip), Gaussian(sigma2=0.1)",
    ]
    assert named(run(), run()) == ["DP-SGD (gossip) (1)", "DP-SGD (gossip) (2)"]
    assert legend(rs.plot({"mine": run(), "yours": run(d2)})) == ["mine", "yours"]


@pytest.mark.parametrize(
    ("band", "centre", "low", "high"),
    [
        ("quantile", np.median, lambda v: np.quantile(v, 0.1), lambda v: np.quantile(v, 0.9)),
        ((0.25, 0.75), np.median, lambda v: np.quantile(v, 0.25), lambda v: np.quantile(v, 0.75)),
        ("minmax", np.median, np.min, np.max),
        ("std", np.mean, lambda v: v.mean() - v.std(ddof=1), lambda v: v.mean() + v.std(ddof=1)),
        (None, np.median, None, None),
    ],
)
def test_bands_are_what_they_say(band, centre, low, high):
    history = run(oracle=rs.oracles.Gaussian(0.1), replicas=5, steps=10)
    ax = rs.plot(history, band=band, scale="linear")
    assert ax.get_yscale() == "linear"
    values = history.frame.suboptimality.to_numpy().reshape(5, 11)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [centre(v) for v in values.T])
    if low is None:
        assert not ax.collections
        return
    corners = ax.collections[0].get_paths()[0].vertices
    for step, column in enumerate(values.T):
        at = corners[corners[:, 0] == step, 1]
        np.testing.assert_allclose([at.min(), at.max()], [low(column), high(column)])


@pytest.mark.parametrize(("gone", "shown"), [(1, 3), (2, 0), (3, 0)])
def test_who_diverged_is_no_part_of_a_picture_of_those_who_did_not(gone, shown):
    class Steep:  # as a quadratic near 0, and too steep far away
        n, d, optimum, optimal_value = 4, 1, np.zeros(1), 0.0

        def gradient(self, x):
            return np.where(np.abs(x) > 1, x**3, x)

        def value(self, x):
            return np.where(np.abs(x) > 1, x**4 / 4 + 0.25, x**2 / 2).sum(axis=0)

    start = np.ones((4, 1, 3)) * np.where(np.arange(3) < gone, 50.0, [0.5, 0.5, 0.4])
    options = {"learning_rate": 0.5, "steps": 30, "seed": [0, 1, 2], "x0": start}
    history = rs.simulate(Steep(), rs.topologies.ring(4), rs.algorithms.DPSGD(), **options)
    assert history.diverged.sum() == gone
    last = history.frame[history.frame.step == 30].suboptimality
    for band, centre in (("quantile", np.median(last.fillna(np.inf))), ("std", np.inf)):
        ax = rs.plot(history, band=band)
        found = ax.lines[0].get_ydata()[-1]
        assert found == centre if np.isfinite(centre) else np.isnan(found)
        assert np.isnan(found) == (shown == 0 or band == "std")


def test_every_label_is_in_the_legend():
    one = run(steps=2)
    ax = rs.plot(dict.fromkeys(("", "_b", "$c", "d"), one))
    assert legend(ax) == [" ", " _b", "$c", "d"]


def test_gradients_are_counted_for_those_who_take_part():
    federated = rs.algorithms.FedAvg(local_steps=2, participation=0.3)
    ax = rs.plot([run(), run(federated)], x="gradients")
    assert ax.get_xlabel() == "Gradients of all workers"
    assert [line.get_xdata()[-1] for line in ax.lines] == [40 * 8, 40 * 3]


def test_settings_of_the_user_win():
    with plt.rc_context({"axes.grid": False, "font.size": 7.0, "figure.figsize": (3.0, 2.0)}):
        ax = rs.plot(run())
        assert ax.xaxis.label.get_fontsize() == 7
        assert tuple(ax.figure.get_size_inches()) == (3, 2)
    with plt.rc_context({"legend.fontsize": 5.0, "lines.markersize": 9.0}):
        ax = rs.plot([run(), run(rs.algorithms.DPSGD(0.5))])
        assert ax.get_legend().get_texts()[0].get_fontsize() == 5
        assert ax.lines[1].get_markersize() == 9
    assert rs.plot(run()).xaxis.label.get_fontsize() == 10


@pytest.mark.parametrize("page", ["paper", "paper-wide", "slides", "notebook"])
def test_pages_set_sizes_and_leave_settings_as_they_were(page):
    before = dict(matplotlib.rcParams)
    with rs.plots.style(page):
        ax = rs.plot(run())
        assert tuple(ax.figure.get_size_inches()) == rs.plots.PAGES[page]["figure.figsize"]
        assert ax.xaxis.label.get_fontsize() == rs.plots.PAGES[page]["font.size"]
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ValueError, match=r"page must be one of 'paper', .*, not 'poster'"):
        rs.plots.style("poster").__enter__()


@pytest.mark.parametrize("drawn", ["plot", "history", "line", "tuning", "sensitivity"])
def test_keywords_have_any_of_their_names(drawn):
    problem, d2 = rs.problems.random_quadratics(8, 4, zeta2=1.0, seed=0), rs.algorithms.D2()
    ring, given = rs.topologies.ring(8), {"lw": 0.7, "c": "red", "ls": ":"}
    if drawn == "plot":
        ax = rs.plot([run()], **given)
    elif drawn == "history":
        ax = run().plot(**given)
    elif drawn == "line":
        ax = plt.figure().subplots()
        rs.plots.draw_line(ax, run().frame, "step", "suboptimality", given)
    elif drawn == "tuning":
        ax = rs.tune(problem, ring, d2, target=1e-2).plot(**given)
    else:
        study = rs.analysis.heterogeneity_sensitivity
        found = study([d2], ring, zeta2=[0.1, 1.0], problem_seeds=[0], target=1e-1, progress=False)
        ax = found.plot(**given)
    line = ax.lines[0]
    assert (line.get_linewidth(), to_hex(line.get_color())) == (0.7, "#ff0000")
    assert line.get_linestyle() == ":"


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (5.5, 7.2, ["6", "7"]),
        (1, 10, ["1", "2", "3", "5", "7", "10"]),
        (0.003, 0.08, ["0.005", "0.01", "0.02", "0.05"]),
        (1.1e-7, 3.2e-7, [r"$2\cdot 10^{-7}$", r"$3\cdot 10^{-7}$"]),
        (2e-3, 1.5, ["$10^{-2}$", "$10^{-1}$", "$10^{0}$"]),
    ],
)
def test_log_axes_have_ticks_that_can_be_read(low, high, names):
    ax = plt.figure().subplots()
    ax.plot([1, 2], [low, high])
    rs.plots.style_axes(ax, "step", "suboptimality")
    ax.set_ylim(low, high)
    ax.figure.draw_without_rendering()
    ticks = dict(zip(ax.get_yticks(), ax.get_yticklabels(), strict=True))
    ticks |= dict(zip(ax.get_yticks(minor=True), ax.get_yticklabels(minor=True), strict=True))
    shown = [ticks[at].get_text() for at in sorted(ticks) if low <= at <= high]
    assert [name for name in shown if name] == names


def test_histories_in_one_axes_are_named_by_what_they_differ_in():
    ax = None
    for n in (8, 16, 32):
        problem = rs.problems.random_quadratics(n, 4, zeta2=1.0, seed=0)
        options = {"algorithm": rs.algorithms.DPSGD(), "learning_rate": 0.2, "steps": 20}
        ax = rs.simulate(problem, rs.topologies.ring(n), **options).plot(ax=ax)
        assert len(set(looks(ax))) == len(ax.lines)
    assert legend(ax) == [f"DP-SGD (gossip), n = {n}" for n in (8, 16, 32)]
    assert legend(run().plot(ax=ax, label="mine"))[3] == "mine"


def test_curves_with_nothing_to_show_say_so():
    still = rs.problems.DiagonalQuadratic(np.ones((8, 3)), np.zeros((8, 3)))
    options = {"topology": rs.topologies.ring(8), "algorithm": rs.algorithms.D2(), "steps": 5}
    resting = rs.simulate(still, learning_rate=0.1, **options)
    ax = rs.plot({"at rest": resting, "one": run(record=[40]), "usual": run()})
    assert legend(ax) == ["at rest: 0 throughout", "one: one point", "usual"]
    assert ax.lines[1].get_marker() == "o"
    assert legend(resting.plot()) == ["D²: 0 throughout"]
    assert legend(run(record=[40]).plot()) == ["DP-SGD (gossip): one point"]
    rates = rs.simulate(still, learning_rate=np.geomspace(0.1, 0.2, 11), **options)
    assert legend(rates.plot()) == ["11 of 11 rates: 0 throughout"]
    assert legend(rs.plot({"at rest": resting}, scale="linear")) == ["at rest"]


def test_a_long_legend_leaves_the_curves_their_place():
    histories = [run(learning_rate=0.002 * k) for k in range(1, 21)]
    ax = rs.plot(histories)
    ax.figure.draw_without_rendering()
    figure = ax.figure.bbox
    assert ax.get_window_extent().height > 0.7 * figure.height
    assert ax.get_window_extent().width > 0.3 * figure.width


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="there is no history to draw"):
        rs.plot([])
    with pytest.raises(TypeError, match="ndarray is no history; give"):
        rs.plot([np.zeros(3)])
    with pytest.raises(ValueError, match=r"no column 'loss'; there are replica, .*, gradients"):
        rs.plot([run()], y="loss")
    with pytest.raises(ValueError, match=r"band must be 'quantile', .*, not 'iqr'"):
        rs.plot([run()], band="iqr")
    with pytest.raises(ValueError, match=r"band must be .*, not \(0.9, 0.1\)"):
        rs.plot([run()], band=(0.9, 0.1))
    with pytest.raises(ValueError, match="scale must be one of 'log', 'linear', not 'symlog'"):
        rs.plot([run()], scale="symlog")
    assert not plt.get_fignums()
