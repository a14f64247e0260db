"""Sensitivity to heterogeneity: exponents that are known, and what cannot be asked."""

import math

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, RelaySGD, RelaySGDGrad
from relaysim.analysis import heterogeneity_sensitivity, power_law
from relaysim.topologies import chain, ring


def test_a_power_law_is_fitted_as_scipy_does():
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 100, 20)
    y = 3 * x**0.7 * np.exp(0.1 * generator.normal(size=20))
    known = linregress(np.log(x), np.log(y))
    found = power_law(x, y)
    assert found.value == pytest.approx(known.slope, rel=1e-12)
    half = student.ppf(0.975, 18) * known.stderr
    assert found.high - found.value == pytest.approx(half, rel=1e-10)
    assert found.value - found.low == pytest.approx(half, rel=1e-10)


def test_groups_have_factors_of_their_own():
    x, group = np.tile([1.0, 10.0, 100.0], 2), np.repeat([0, 1], 3)
    found = power_law(x, x**0.5 * np.where(group, 1000, 1), group)
    assert found.value == pytest.approx(0.5, rel=1e-12)
    assert found.high - found.low < 1e-10


@pytest.mark.parametrize("y", [[0, 0, 0], [1, math.nan, 0]])
def test_no_exponent_without_two_points(y):
    assert math.isnan(power_law([1, 2, 3], y).value)


@pytest.fixture(scope="module")
def on_quadratics():
    return heterogeneity_sensitivity(
        [RelaySGD(), RelaySGDGrad(), (DPSGD(), ring(8)), (D2(), ring(8))],
        chain(8),
        zeta2=[1.0, 10.0, 100.0],
        r0=10.0,
        problem_seeds=[0, 1],
        target=1e-4,
    )


def test_exact_methods_are_flat_and_others_are_not(on_quadratics):
    table = on_quadratics.exponents.pivot(index="method", columns="measure", values="exponent")
    assert table.steps_to_target[["RelaySGD", "D²"]].abs().max() < 0.1
    assert table.steps_to_target[["RelaySGD/Grad", "DP-SGD (gossip)"]].min() > 0.3
    # On quadratics a fixed point is linear in the workers' optima: its squares grow like ζ² exactly.
    for measure in ("plateau", "consensus_distance"):
        slopes = table[measure][["RelaySGD/Grad", "DP-SGD (gossip)"]]
        np.testing.assert_allclose(slopes, 1, atol=0.01)
    exact = on_quadratics.frame.set_index("method").loc[["RelaySGD", "D²"]]
    assert (exact.plateau == 0).all()
    assert (exact.consensus_distance == 0).all()


def test_the_frame_says_what_was_run(on_quadratics):
    frame = on_quadratics.frame
    assert len(frame) == 4 * 3 * 2
    assert sorted(frame.zeta2.round(9).unique()) == [1, 10, 100]
    row = frame[frame.method == "DP-SGD (gossip)"].iloc[0]
    problem = rs.problems.random_quadratics(8, 10, zeta2=row.zeta2, r0=10.0, seed=row.problem_seed)
    history = rs.simulate(
        problem, ring(8), DPSGD(), learning_rate=row.learning_rate, steps=int(row.steps_to_target)
    )
    assert history.steps_to(1e-4)[0] == row.steps_to_target
    history = rs.simulate(
        problem,
        ring(8),
        DPSGD(),
        learning_rate=row.plateau_learning_rate,
        steps=3000,
        record=[3000],
    )
    assert history.frame.suboptimality.iloc[0] == pytest.approx(row.plateau, rel=1e-2)


def test_data_report_the_zeta2_that_alpha_brings():
    data = rs.problems.data.wine()
    found = heterogeneity_sensitivity(
        RelaySGD(),
        chain(4),
        alpha=[math.inf, 0.1],
        data=data,
        l2=0.1,
        problem_seeds=[3],
        target=1e-2,
        plateaus=False,
    )
    partition = rs.problems.partitions.dirichlet(data.labels, 4, 0.1, seed=3)
    problem = rs.problems.Logistic(data.features, data.labels, 0.1, partition=partition)
    assert found.frame[found.frame.alpha == 0.1].zeta2.iloc[0] == problem.zeta2
    assert found.frame.plateau.isna().all()
    ax = found.plot()
    assert [tick.get_text().split("\n")[0] for tick in ax.get_xticklabels()] == ["∞", "0.1"]


@pytest.mark.parametrize("y", ["steps_to_target", "plateau", "consensus_distance"])
def test_plots_have_a_line_for_each_method(on_quadratics, y):
    ax = on_quadratics.plot(y)
    assert len(ax.get_legend().get_texts()) == 4
    with pytest.raises(ValueError, match="no measure 'loss'"):
        on_quadratics.plot("loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zeta2": None}, "give zeta2 for quadratics, or alpha and data"),
        ({"alpha": [1, 2]}, "give zeta2 for quadratics, or alpha and data"),
        ({"zeta2": [1.0]}, "two different levels"),
        ({"zeta2": [1.0, -1.0]}, "zeta2 must be a finite number of at least 0"),
        ({"target": 0}, "target must be positive"),
        ({"problem_seeds": []}, "problem_seeds is empty"),
        ({"learning_rate": -1}, "learning_rate must be positive"),
        ({"topology": ring(8)}, "RelaySGD needs a tree"),
        ({"algorithm": [RelaySGD(), (D2(), ring(6))]}, "workers; make them equal"),
    ],
)
def test_what_cannot_be_measured(change, message):
    arguments = {"algorithm": RelaySGD(), "topology": chain(8), "zeta2": [1.0, 10.0]} | change
    with pytest.raises(ValueError, match=message):
        heterogeneity_sensitivity(**arguments)
