"""Sensitivity to heterogeneity: exponents that are known, and what cannot be asked."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

import relaysim as rs
from relaysim import mixing
from relaysim.algorithms import D2, DPSGD, ChocoSGD, RelaySGD, RelaySGDGrad
from relaysim.analysis import heterogeneity_sensitivity, power_law
from relaysim.topologies import Topology, chain, ring

WINE = {"zeta2": None, "alpha": [1.0, 0.1], "data": rs.problems.data.wine()}
METROPOLIS = mixing.metropolis(chain(8))
TRIANGLE = [(0, 1), (1, 2), (2, 0), (2, 3)]


def tuned_by(ran):
    """A substitute for `relaysim.tune`: steps by a formula, NaN for the largest ζ²."""

    def tune(problem, topology, algorithm, **options):
        ran.append(problem)
        power = 1.0 if "ring" in repr(topology) else 0.5
        steps = 10 * problem.zeta2**power if problem.zeta2 < 1000 else math.nan
        return SimpleNamespace(learning_rate=0.1, steps=steps)

    return tune


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


@pytest.mark.parametrize(
    ("x", "y", "group"),
    [([1, 2, 3], [1, 2], None), ([1, 2, 3], [1, 2, 3], [0, 1]), ([[1, 2]], [[1, 2]], None)],
)
def test_a_power_law_needs_pairs(x, y, group):
    with pytest.raises(ValueError, match="must have one length"):
        power_law(x, y, group)


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


@pytest.mark.xdist_group("sensitivity")
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


@pytest.mark.xdist_group("sensitivity")
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


@pytest.mark.xdist_group("sensitivity")
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
        ({"zeta2": 1.0}, r"zeta2 must be a sequence of two levels .*, not 1\.0"),
        ({"zeta2": "12"}, "zeta2 must be a sequence of two levels .*, not '12'"),
        (WINE | {"alpha": 0.1}, "alpha must be a sequence"),
        (WINE | {"alpha": [1.0, 0.1, 0]}, "alpha must be positive, not 0"),
        (WINE | {"alpha": [1.0, 0.1, -1.0]}, "alpha must be positive, not -1"),
        (WINE | {"alpha": [1.0, 0.1, math.nan]}, "alpha must be a finite number"),
        (WINE | {"data": (np.ones((40, 2)), np.ones(40))}, "data must be a Dataset.*not a tuple"),
        (WINE | {"data": "wine"}, r"data must be a Dataset.*wine\(\).*not 'wine'"),
        ({"target": 0}, "target must be positive"),
        ({"problem_seeds": []}, "problem_seeds is empty"),
        ({"problem_seeds": 0}, "problem_seeds must be a sequence, such as .0., not 0"),
        ({"learning_rate": -1}, "learning_rate must be positive"),
        ({"topology": ring(8)}, "RelaySGD needs a tree"),
        ({"algorithm": [RelaySGD(), (D2(), ring(6))]}, "workers; make them equal"),
        ({"topology": 8}, "topology must be one of relaysim.topologies, not 8"),
        ({"topology": None}, "has no topology; give topology="),
        ({"algorithm": (D2(), 8)}, "topology must be one of relaysim.topologies, not 8"),
        ({"algorithm": []}, "algorithm is an empty sequence"),
        ({"algorithm": (RelaySGD, D2)}, "give an algorithm, not its class"),
        ({"algorithm": "RelaySDG"}, "unknown algorithm 'RelaySDG'; did you mean 'RelaySGD'"),
        ({"algorithm": [RelaySGD(), RelaySGD()]}, r"on chain\(8\) is listed twice"),
        ({"algorithm": [DPSGD(), (DPSGD(), chain(8), METROPOLIS)]}, "the same mixing .* twice"),
    ],
)
def test_what_cannot_be_measured(change, message, monkeypatch):
    """It is refused before anything runs, in one line."""
    ran = []
    monkeypatch.setattr("relaysim.analysis.sensitivity.searched", tuned_by(ran))
    arguments = {"algorithm": RelaySGD(), "topology": chain(8), "plateaus": False}
    arguments |= {"zeta2": [1.0, 10.0]} | change
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        heterogeneity_sensitivity(**arguments)
    assert not ran
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


# -- what makes a method, and what a study has in common -------------------------------------------


@pytest.fixture
def by_formula(monkeypatch):
    """Steps that grow like ζ² on rings and like its root elsewhere, in the place of tuned ones."""
    ran = []
    monkeypatch.setattr("relaysim.analysis.sensitivity.searched", tuned_by(ran))
    return ran


def study(algorithm, topology=None, **options):
    options = {"zeta2": [1.0, 4.0, 16.0], "problem_seeds": [0, 1], "plateaus": False} | options
    return heterogeneity_sensitivity(algorithm, topology, **options)


def names_in(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_one_algorithm_on_two_topologies_is_two_methods(by_formula):
    found = study([DPSGD(), (DPSGD(), ring(8))], chain(8))
    steps = found.exponents[found.exponents.measure == "steps_to_target"].set_index("topology")
    assert steps.exponent.round(9).to_dict() == {"chain(8)": 0.5, "ring(8)": 1.0}
    assert steps.points.tolist() == [6, 6]
    ax = found.plot()
    assert [name.split(",")[0] for name in names_in(ax)] == [
        "DP-SGD (gossip) on chain(8)",
        "DP-SGD (gossip) on ring(8)",
    ]
    assert len({line.get_marker() for line in ax.lines}) == 2
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [10, 40, 160])


def test_mixing_matrices_and_options_are_told_apart(by_formula):
    matrices = [mixing.uniform(ring(8), weight) for weight in (0.1, 0.2)]
    methods = [(DPSGD(), ring(8)), *((DPSGD(), ring(8), W) for W in matrices)]
    found = study([*methods, (RelaySGD(), chain(8)), (RelaySGD(momentum=0.9), chain(8))])
    mixings = ["metropolis", "given", "given #2", "", ""]
    assert found.frame.mixing.drop_duplicates().tolist() == mixings[:4]
    assert len(found.exponents) == 5 * 3
    assert [name.split(",\n")[0].split(", exponent")[0] for name in names_in(found.plot())] == [
        "DP-SGD (gossip), mixing metropolis",
        "DP-SGD (gossip), mixing given",
        "DP-SGD (gossip), mixing given #2",
        "RelaySGD (momentum=0.0)",
        "RelaySGD (momentum=0.9)",
    ]
    elsewhere = study([(D2(), ring(8), matrices[0]), (D2(), chain(8), METROPOLIS)])
    assert elsewhere.frame.mixing.drop_duplicates().tolist() == ["given", "metropolis"]


def test_graphs_of_one_name_are_told_apart(by_formula):
    graphs = [Topology(4, edges, name="mine") for edges in ([(0, 1), (1, 2), (2, 3)], TRIANGLE)]
    found = study([(DPSGD(), graph) for graph in graphs])
    assert found.frame.topology.drop_duplicates().tolist() == ["mine", "mine #2"]


def test_a_tuple_may_list_methods(by_formula):
    found = study((RelaySGD(), RelaySGDGrad()), chain(8))
    assert found.frame.method.drop_duplicates().tolist() == ["RelaySGD", "RelaySGD/Grad"]
    assert len(study((RelaySGD(), (D2(), ring(8))), chain(8)).frame) == 2 * 6
    assert len(study((D2(), ring(8))).frame) == 6
    assert len(study(iter([D2()]), ring(8)).frame) == 6
    by_text = study(("D2", "ring(8)"), chain(8)), study(("RelaySGD", "D2"), chain(8))
    assert [found.frame.algorithm.nunique() for found in by_text] == [1, 2]
    assert by_text[0].frame.equals(study((D2(), ring(8))).frame)
    in_pairs = (rs.algorithms.A2CiD2(), rs.algorithms.SwarmSGD())
    assert len(study(in_pairs, ring(8)).frame) == 2 * 6


def test_levels_and_seeds_count_once(by_formula):
    found = study(D2(), ring(8), zeta2=[1, 1, 4, 4.0], problem_seeds=[0, 0])
    assert found.frame[["zeta2", "problem_seed"]].to_numpy().tolist() == [[1, 0], [4, 0]]
    found = on_data([1, math.inf, math.inf, 1.0], rs.problems.data.wine(), problem_seeds=(3,))
    assert found.frame.alpha.tolist() == [1, math.inf]


def test_levels_that_are_not_reached_are_not_in_the_regression(by_formula):
    found = study(D2(), ring(8), zeta2=[1.0, 4.0, 16.0, 1e4])
    assert found.frame.steps_to_target.isna().sum() == 2
    row = found.exponents.iloc[0]
    assert (row.measure, row.points) == ("steps_to_target", 6)
    assert row.exponent == pytest.approx(1)
    assert found.exponents.points.tolist() == [6, 0, 0]


def test_problems_that_do_not_get_there_are_no_part_of_a_picture_of_the_others(by_formula):
    found = study(D2(), ring(8), zeta2=[1.0, 4.0, 16.0], problem_seeds=[0, 1, 2])
    steps = found.frame.steps_to_target.to_numpy().reshape(3, 3).copy()
    steps[1, 0], steps[2, :2] = np.nan, np.nan
    found.frame["steps_to_target"] = steps.reshape(-1)
    expected = np.median(np.where(np.isnan(steps), np.inf, steps), axis=1)
    shown = found.plot().lines[0].get_ydata()
    np.testing.assert_array_equal(shown, [*expected[:2], np.nan])


def on_data(alpha, data, **options):
    settings = {"zeta2": None, "alpha": alpha, "data": data, "l2": 0.1, "problem_seeds": [0, 1]}
    return study(DPSGD(), ring(4), **settings | options)


def test_all_problems_of_a_study_have_one_rate_for_their_plateaus(by_formula):
    data = rs.problems.data.synthetic(80, 3, workers=4, seed=0)
    found = on_data([math.inf, 0.05], data, plateaus=True)
    smoothness = []
    for alpha in (math.inf, 0.05):
        for seed in (0, 1):
            partition = rs.problems.partitions.dirichlet(data.labels, 4, alpha, seed=seed)
            problem = rs.problems.Logistic(data.features, data.labels, 0.1, partition=partition)
            smoothness.append(problem.curvature_at(problem.optimum).smoothness)
    assert np.ptp(smoothness) > 0.01
    np.testing.assert_allclose(found.frame.plateau_learning_rate, 0.1 / max(smoothness), rtol=1e-12)
    assert (found.frame.plateau > 0).all()
    own = on_data([math.inf, 0.05], data, plateaus=True, learning_rate=0.05)
    assert (own.frame.plateau_learning_rate == 0.05).all()
    assert on_data([math.inf, 0.05], data).frame.plateau_learning_rate.isna().all()


def test_data_whose_zeta2_hardly_changes_have_no_exponent(by_formula):
    data = rs.problems.data.wine()
    narrow, wide = (on_data(alpha, data) for alpha in ([math.inf, 100.0], [math.inf, 0.01]))
    for found, known in ((narrow, False), (wide, True)):
        span = found.frame.groupby("problem_seed").zeta2.agg(lambda z: z.max() / z.min()).max()
        assert (span >= 3) == known
        steps = found.exponents.iloc[0]
        assert np.isfinite([steps.exponent, steps.low, steps.high]).all() == known
        assert steps.points == 4


@pytest.mark.parametrize("oracle", [None, rs.oracles.Gaussian(1e-12)])
def test_what_falls_too_slowly_to_show_is_no_plateau(by_formula, oracle):
    """D² is exact, however flat the slowest decay looks in a run."""

    def stretched(zeta2, seed):
        centers = 1 + math.sqrt(zeta2) * np.array(
            [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
        )
        return rs.problems.DiagonalQuadratic(np.tile([1.0, 1e-6], (4, 1)), centers)

    def found(rate, most):
        of = {"zeta2": [0.1, 1.0], "problem": stretched, "plateaus": True, "problem_seeds": [0]}
        return study(D2(), ring(4), **of, learning_rate=rate, max_steps=most, oracle=oracle).frame

    assert found(0.1, 2000).plateau.isna().all()
    if oracle is None:
        # Half of what it starts with is left of the slow part, and all of it where nothing moves.
        assert found(1e-9, 2000).plateau.isna().all()
        assert (found(0.1, 2000).consensus_distance == 0).all()


def test_one_step_is_too_short_for_a_plateau():
    found = study(DPSGD(), ring(4), max_steps=1, plateaus=True)
    assert found.frame[["steps_to_target", "plateau", "consensus_distance"]].isna().all(axis=None)


@pytest.mark.parametrize("period", [3, 4, 25])
def test_plateaus_of_what_is_periodic_are_averages_over_its_cycle(period, by_formula):
    where = {"d": 4, "mu": 0.5, "r0": 3.0}
    method = rs.algorithms.LocalSGD(period)
    found = study(method, ring(4), learning_rate=0.05, plateaus=True, **where)
    for row in found.frame.itertuples():
        seed = row.problem_seed
        problem = rs.problems.random_quadratics(4, zeta2=row.zeta2, seed=seed, **where)
        exact = rs.theory.linearize(problem, ring(4), method, 0.05).plateau()
        assert row.consensus_distance == pytest.approx(exact.consensus_distance, rel=1e-3)
        assert row.plateau == pytest.approx(exact.suboptimality, rel=3e-3)


# -- other problems, oracles, and a store ------------------------------------------------------------


class Apart:
    """Quadratics of one curvature whose centres are so far apart, with no more than a problem needs."""

    def __init__(self, zeta2, seed):
        generator = np.random.default_rng(seed)
        centers = generator.normal(size=(4, 2))
        centers -= centers.mean(axis=0)
        self.n, self.d = centers.shape
        self.centers = 1 + centers * math.sqrt(4 * zeta2 / (centers**2).sum())
        self.optimum, self.zeta2 = np.ones(2), zeta2

    def gradient(self, x):
        return x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2))

    def value(self, x):
        away = x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 1))
        return (away**2).sum(axis=1).mean(axis=0) / 2


class Described(Apart):
    """The same, with what tells one from another."""

    def to_config(self):
        return {"type": "Described", "centers": self.centers}


def test_problems_of_ones_own_are_measured_at_their_own_heterogeneity(by_formula):
    options = {"zeta2": [1.0, 100.0], "problem_seeds": [3]}
    found = study([RelaySGD(), (DPSGD(), ring(4))], chain(4), problem=Apart, **options).frame
    assert found.level.tolist() == found.zeta2.tolist() == [1.0, 100.0] * 2
    assert found.steps_to_target.tolist() == [10, 100, 10, 1000]
    assert [type(problem) for problem in by_formula] == [Apart] * 4
    np.testing.assert_array_equal(by_formula[0].centers, Apart(1.0, 3).centers)


def test_plateaus_under_noise_are_the_noise_floor(by_formula):
    """All-reduce at rate γ stops where the theory of its affine map says, whatever ζ² is."""
    oracle, problem = rs.oracles.Gaussian(0.4), rs.problems.random_quadratics
    found = study(
        "AllReduce", chain(4), zeta2=[0.01, 0.1], d=4, problem_seeds=[0], oracle=oracle,
        plateaus=True, learning_rate=0.2,
    ).frame  # fmt: skip
    linear = rs.theory.linearize(
        problem(4, 4, zeta2=0.1, seed=0), chain(4), rs.algorithms.AllReduce(), 0.2
    )
    expected = linear.stationary(0.4).suboptimality
    np.testing.assert_allclose(found.plateau, expected, rtol=0.2)


def test_minibatches_of_least_squares_and_compressors_are_measured(by_formula):
    found = study(
        ["ChocoSGD(TopK(2), 0.5)", "RelaySGD"], "chain(4)", zeta2=[0.01, 1.0], d=4,
        problem_seeds=[0], oracle="Minibatch(2)", plateaus=True, learning_rate=0.2,
    ).frame  # fmt: skip
    # Examples of a problem differ by the more the further it is from each worker's optimum.
    plateau = found.set_index("method").plateau
    for method in (ChocoSGD.label, RelaySGD.label):
        assert plateau[method].iloc[1] > 10 * plateau[method].iloc[0] > 0


def test_a_store_keeps_what_was_measured(tmp_path, by_formula):
    ran, path = by_formula, tmp_path / "study"
    options = {"zeta2": [1.0, 4.0], "problem_seeds": [0], "store": path}
    mixings = ([rs.mixing.metropolis(ring(8))] * 2, rs.mixing.uniform(ring(8), 0.3))
    # Another level, option, oracle, matrix or problem is another number.
    studies = [
        ({"algorithm": [RelaySGD(), (DPSGD(), ring(8))]}, 4),
        ({"zeta2": [1.0, 4.0, 9.0]}, 1),
        ({"target": 1e-3}, 2),
        ({"oracle": rs.oracles.Gaussian(0.1)}, 2),
        ({"problem": Described, "topology": chain(4)}, 2),
        *(({"algorithm": DPSGD(), "topology": ring(8), "mixing": W}, 2) for W in mixings),
    ]
    first = []
    for changed, count in studies:
        before = len(ran)
        first.append(study(**({"algorithm": RelaySGD(), "topology": chain(8)} | options | changed)))
        assert len(ran) == before + count
    before = len(ran)
    for (changed, _), then in list(zip(studies, first, strict=True))[::2]:
        again = study(**({"algorithm": RelaySGD(), "topology": chain(8)} | options | changed))
        pd.testing.assert_frame_equal(again.frame, then.frame)
    assert len(ran) == before
    with pytest.raises(ValueError, match="a store cannot tell Apart from other problems: give its"):
        study(RelaySGD(), chain(4), problem=Apart, **options)
    with pytest.raises(ValueError, match="holds a study, heterogeneity_sensitivity, and no sweep"):
        rs.load_sweep(path)
    setting = {"algorithm": "DPSGD", "topology": "ring", "n": 4, "learning_rate": 0.1, "steps": 2}
    rs.sweep(setting, store=path, progress=False)
    assert len(rs.load_sweep(path)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": 5}, "problem must be a function of a level and a seed"),
        (
            {"problem": Apart, "plateaus": True},
            "does not say its smoothness, .* give learning_rate=",
        ),
        ({"problem": lambda level, seed: Unsolved()}, "has no optimum that is known"),
        ({"oracle": "Minibatch(2)", "problem": Apart}, "has no examples to draw from"),
        ({"oracle": "Minibach(2)"}, "unknown oracle 'Minibach'; did you mean 'Minibatch'"),
        ({"store": "nowhere/study"}, "there is no folder 'nowhere' for the store"),
    ],
)
def test_what_cannot_be_measured_of_ones_own(change, message, by_formula):
    with pytest.raises((ValueError, TypeError), match=message):
        study(RelaySGD(), chain(4 if "problem" in change else 8), **change)
    assert not by_formula


class Unsolved:
    """A problem whose optimum nobody knows."""

    n, d = 4, 2

    def gradient(self, x):
        return x

    def value(self, x):
        return (x**2).sum(axis=0) / 2
