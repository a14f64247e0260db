"""Pictures: what is drawn is what was recorded; how it looks was checked by eye."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from methods import ALGORITHMS

import relaysim as rs
from relaysim import plots
from relaysim.figures import heterogeneity


@pytest.fixture(autouse=True)
def close_figures():
    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.fixture
def history():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    return rs.simulate(
        problem,
        rs.topologies.chain(8),
        rs.algorithms.RelaySGD(),
        learning_rate=[0.1, 0.4],
        steps=60,
        replicas=3,
        oracle=rs.oracles.Gaussian(0.01),
    )


def test_history_plot_draws_medians(history):
    ax = history.plot()
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "Steps"
    assert len(ax.lines) == 2
    frame = history.frame
    for line, rate in zip(ax.lines, (0.1, 0.4), strict=True):
        rows = frame[frame.learning_rate == rate]
        median = [rows[rows.step == step].suboptimality.median() for step in range(61)]
        np.testing.assert_allclose(line.get_ydata(), median)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["γ = 0.1", "γ = 0.4"]


def test_history_plot_into_given_axes_and_other_columns(history):
    ax = history.plot(y="consensus_distance", x="vectors_sent", label="mine")
    assert history.plot(ax=ax) is ax
    assert len(ax.lines) == 4
    with pytest.raises(ValueError, match="no column 'loss'; there are replica"):
        history.plot(y="loss")


def test_scheduled_rates_are_one_line():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem,
        rs.topologies.chain(8),
        rs.algorithms.RelaySGD(),
        learning_rate=lambda step: 1 / (step + 2),
        steps=30,
    )
    assert len(history.plot().lines) == 1


def test_settings_of_matplotlib_are_left_alone(history):
    before = dict(matplotlib.rcParams)
    history.plot()
    assert dict(matplotlib.rcParams) == before


def test_every_method_has_its_own_look():
    labels = sorted({algorithm.label for algorithm in ALGORITHMS})
    looks = {str(plots.method_style(label)) for label in labels}
    assert len(looks) == len(labels)
    assert len({plots.method_style(label)["color"] for label in labels}) == len(labels)


def test_tuning_plot_marks_the_choice():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    tuning = rs.tune(problem, rs.topologies.ring(8), rs.algorithms.D2(), target=1e-6)
    ax = tuning.plot()
    assert ax.lines[1].get_xdata() == [tuning.learning_rate]
    assert ax.lines[1].get_ydata() == [tuning.steps]


@pytest.mark.parametrize(
    "topology",
    [
        rs.topologies.chain(1),
        rs.topologies.binary_tree(31),
        rs.topologies.ring(8),
        rs.topologies.star(9),
        rs.topologies.social_network(),
        rs.topologies.erdos_renyi(300, 0.02, seed=0),
    ],
    ids=repr,
)
def test_topologies_are_drawn(topology):
    ax = topology.draw(values=np.arange(topology.n))
    (workers,) = [c for c in ax.collections if len(c.get_offsets()) == topology.n]
    assert len(np.unique(workers.get_offsets().round(9), axis=0)) == topology.n


def test_tree_pair_is_drawn_as_two():
    assert len(rs.topologies.double_binary_tree(8).draw()) == 2


def test_heterogeneity_shows_what_the_paper_shows():
    """RelaySGD and D² unaffected by ζ², tracking slower at 10, gossip slower at 0.1, stuck at 10."""
    result = heterogeneity()
    frame = result.frame
    frame = frame.groupby(["method", "zeta2", "step"]).suboptimality.median()

    def steps_to(label, zeta2, level=1e-5):
        curve = frame[label, zeta2]
        below = curve.index[curve < level]
        return below[0] if len(below) else np.inf

    for label in ("RelaySGD", "D²"):
        assert steps_to(label, 10.0) == pytest.approx(steps_to(label, 0.0), rel=0.1)
    tracking, gossip = "Gradient tracking", "DP-SGD (gossip)"
    assert steps_to(tracking, 0.1) == pytest.approx(steps_to(tracking, 0.0), rel=0.1)
    assert steps_to(tracking, 10.0) > 1.5 * steps_to(tracking, 0.0)
    assert steps_to(gossip, 0.0) == pytest.approx(steps_to("D²", 0.0), rel=0.1)
    assert steps_to(gossip, 0.1) > 1.5 * steps_to(gossip, 0.0)
    assert frame["DP-SGD (gossip)", 10.0].min() > 0.01
    assert len(result.figure.axes) == 3


# -- theory over curves ----------------------------------------------------------------------------


def noisy_history(**options):
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.3, "steps": 80, "replicas": 4, "oracle": rs.oracles.Gaussian(0.01)}
    return rs.simulate(
        problem, rs.topologies.ring(8), rs.algorithms.GradientTracking(), **(run | options)
    )


def test_theory_is_laid_over_a_history():
    noisy = noisy_history()
    ax = noisy.plot(theory=True)
    lines = {line.get_label(): line for line in ax.lines}
    exact = noisy_history(oracle=None, replicas=None).frame.suboptimality
    np.testing.assert_allclose(lines["exact, without noise"].get_ydata(), exact, atol=1e-12)
    linear = rs.theory.linearize(noisy.problem, noisy.topology, noisy.algorithm, 0.3)
    floor = linear.stationary(0.01).suboptimality
    np.testing.assert_allclose(lines["exact noise floor"].get_ydata(), floor)
    assert any("shape only" in name for name in lines)


def test_the_asymptotic_rate_is_drawn_where_the_curve_has_it():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    chain, ring = rs.topologies.chain(8), rs.topologies.ring(8)
    run = {"learning_rate": 0.3, "steps": 200}
    history = rs.simulate(problem, chain, rs.algorithms.RelaySGD(), **run)
    radius = rs.theory.linearize(problem, chain, history.algorithm, 0.3).spectral_radius
    (rate,) = (line for line in history.plot(theory=True).lines if line.get_label()[:4] == "rate")
    drawn = rate.get_ydata()
    drawn = np.log(drawn[np.isfinite(drawn)])
    np.testing.assert_allclose(np.diff(drawn), 2 * np.log(radius), rtol=1e-9)
    # With equal Hessians the mean falls faster than the slowest mode, which it does not contain.
    equal = rs.problems.DiagonalQuadratic(np.ones((8, 1)), np.arange(8.0)[:, None])
    history = rs.simulate(equal, ring, rs.algorithms.D2(), learning_rate=0.5, steps=30)
    assert not any(line.get_label()[:4] == "rate" for line in history.plot(theory=True).lines)


def test_theory_over_a_run_that_diverged():
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    ring = rs.topologies.ring(8)
    history = rs.simulate(problem, ring, rs.algorithms.D2(), learning_rate=5.0, steps=400)
    assert history.diverged.all()
    low, high = history.plot(theory=True).get_ylim()
    assert high > 1e3 * low
    assert np.isfinite(high)


def test_theory_over_a_learning_rate_of_zero():
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    chain = rs.topologies.chain(8)
    for algorithm in (rs.algorithms.RelaySGDGrad(), rs.algorithms.RelaySGD()):
        history = rs.simulate(problem, chain, algorithm, learning_rate=0.0, steps=10)
        labels = [line.get_label() for line in history.plot(theory=True).lines]
        assert "exact, without noise" in labels


def test_theory_of_another_column_and_of_two_rates():
    ax = noisy_history(learning_rate=[0.1, 0.2]).plot(y="consensus_distance", theory=True)
    labels = [line.get_label() for line in ax.lines]
    assert "exact noise floor, γ = 0.1" in labels
    assert "exact noise floor, γ = 0.2" in labels


def test_where_a_method_stalls_there_is_no_asymptotic_rate():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem, rs.topologies.ring(8), rs.algorithms.DPSGD(), learning_rate=0.3, steps=50
    )
    labels = [line.get_label() for line in history.plot(theory=True).lines]
    assert "exact, without noise" in labels
    assert not any(label.startswith("rate") for label in labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": lambda step: 0.1}, "schedule"),
        ({"faults": rs.faults.MessageDrop(0.1)}, "lost messages"),
        ({"x0": np.zeros((8, 4, 4))}, "starting point"),
        ({"learning_rate": [0.1, 0.2, 0.3, 0.4]}, "at most 3"),
    ],
)
def test_theory_says_why_it_is_silent(options, message):
    with pytest.raises(ValueError, match=message):
        noisy_history(**options).plot(theory=True)


def test_theory_is_over_steps_and_of_columns_that_it_knows():
    history = noisy_history()
    with pytest.raises(ValueError, match="over steps"):
        history.plot(x="vectors_sent", theory=True)
    with pytest.raises(ValueError, match="theory says nothing"):
        history.plot(y="vectors_sent", theory=True)
