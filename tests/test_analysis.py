"""Consensus, rates and tables: against definitions, closed forms and curves of known decay."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import toeplitz

import relaysim as rs
from relaysim.analysis.consensus import consensus_decay, consensus_distance
from relaysim.analysis.rates import fit_decay, fit_rate
from relaysim.analysis.tables import compare, latex, markdown

FORMS = ("mean", "max", "worker", "relative")


def quadratic(n=4, curvatures=(0.3, 1.0)):
    h = np.broadcast_to(curvatures, (n, len(curvatures))).copy()
    return rs.problems.DiagonalQuadratic(h, np.random.default_rng(0).standard_normal(h.shape))


def all_reduce(learning_rate=0.2, steps=200, **options):
    return rs.simulate(
        quadratic(),
        rs.topologies.ring(4),
        rs.algorithms.AllReduce(),
        learning_rate=learning_rate,
        steps=steps,
        **options,
    )


# -- consensus -------------------------------------------------------------------------------------


def consensus_by_loops(x, form):
    mean = [sum(column) / len(x) for column in zip(*x, strict=True)]
    squares = [sum((a - b) ** 2 for a, b in zip(row, mean, strict=True)) for row in x]
    if form == "worker":
        return squares
    if form == "max":
        return max(squares)
    average = sum(squares) / len(x)
    return average if form == "mean" else average / sum(a**2 for a in mean)


@pytest.mark.parametrize("form", FORMS)
def test_consensus_distances_are_their_definitions(form):
    x = np.random.default_rng(1).standard_normal((5, 3, 2)) + 1
    both = consensus_distance(x, form)
    for k in range(2):
        expected = consensus_by_loops(x[..., k].tolist(), form)
        np.testing.assert_allclose(both[..., k], expected, rtol=1e-12)
        np.testing.assert_allclose(consensus_distance(x[..., k], form), expected, rtol=1e-12)


@pytest.mark.parametrize("replicas", [None, 3])
def test_consensus_distance_of_a_history_is_by_record(replicas):
    history = rs.simulate(
        rs.problems.random_quadratics(n=6, d=3, zeta2=1.0, seed=0),
        rs.topologies.ring(6),
        rs.algorithms.DPSGD(),
        learning_rate=0.1,
        steps=9,
        replicas=replicas,
        oracle=rs.oracles.Gaussian(sigma2=1.0),
        keep_iterates=True,
    )
    tail = () if replicas is None else (replicas,)
    for form in FORMS[:3]:
        shape = (10, *((6,) if form == "worker" else ()), *tail)
        assert consensus_distance(history, form).shape == shape
        np.testing.assert_array_equal(
            consensus_distance(history, form)[-1], consensus_distance(history.x, form)
        )
    recorded = history.frame.pivot(index="step", columns="replica", values="consensus_distance")
    np.testing.assert_allclose(
        consensus_distance(history).reshape(10, -1), recorded, rtol=1e-9, atol=1e-15
    )


def test_relative_consensus_distance_at_zero():
    assert consensus_distance([[1.0], [-1.0]], "relative") == np.inf
    assert np.isnan(consensus_distance(np.zeros((3, 2)), "relative"))


def test_consensus_distance_says_how_to_mend():
    with pytest.raises(ValueError, match="form must be one of mean, max, worker, relative"):
        consensus_distance(np.zeros((2, 1)), "median")
    with pytest.raises(ValueError, match="keep_iterates=True"):
        consensus_distance(all_reduce(steps=1))
    for shape in [(3,), (2, 3, 1, 1), (0, 2)]:
        with pytest.raises(ValueError, match="must have shape"):
            consensus_distance(np.zeros(shape))
    with pytest.raises(TypeError, match="or a History, not a DataFrame"):
        consensus_distance(all_reduce(steps=3).frame)


@pytest.mark.parametrize(
    "topology",
    [rs.topologies.ring(8), rs.topologies.torus(3, 4), rs.topologies.chain(10)],
    ids=repr,
)
def test_gossip_falls_by_the_second_eigenvalue_squared(topology):
    eigenvalues = np.linalg.eigvalsh(rs.mixing.metropolis(topology).toarray())
    second = np.sort(np.abs(eigenvalues))[-2]
    decay = consensus_decay(topology)
    assert decay.fit.linear
    assert decay.factor == pytest.approx(second**2, rel=1e-3)
    assert list(decay.frame.columns) == ["step", "consensus_distance"]
    again = consensus_decay(topology, steps=int(decay.frame["step"].iloc[-1]))
    pd.testing.assert_frame_equal(again.frame, decay.frame)


def test_consensus_decay_takes_the_matrix_and_the_method():
    topology = rs.topologies.ring(8)
    W = rs.mixing.lazy(rs.mixing.metropolis(topology))
    second = np.sort(np.linalg.eigvalsh(W.toarray()))[-2]
    assert consensus_decay(topology, mixing=W).factor == pytest.approx(second**2, rel=1e-3)
    relayed = consensus_decay(rs.topologies.chain(8), rs.algorithms.RelaySGD())
    assert 0 < relayed.factor < consensus_decay(rs.topologies.chain(8)).factor


@pytest.mark.parametrize(("n", "tolerance"), [(31, 0.03), (63, 0.005)])
def test_consensus_decay_waits_for_a_mode_that_starts_hardly_excite(n, tolerance):
    """The slow modes of overlapping relays appear ten decades and more below the start."""
    tree = rs.topologies.binary_tree(n)
    decay = consensus_decay(tree, rs.algorithms.RelaySGD(overlap=True))
    asymptotic = 2 * np.log1p(-rs.theory.relay_gap(tree, "hops"))
    assert decay.fit.slope == pytest.approx(asymptotic, rel=tolerance)


def test_consensus_at_once_has_no_rate():
    decay = consensus_decay(rs.topologies.ring(6), rs.algorithms.AllReduce())
    assert np.isnan(decay.factor)
    assert not decay.fit.linear
    with pytest.raises(TypeError, match="topology must be"):
        consensus_decay(8)


# -- rates -----------------------------------------------------------------------------------------

STEPS = np.arange(400)


@pytest.mark.parametrize("slope", [-0.3, -0.08, -0.03])
@pytest.mark.parametrize("floor", [0.0, 1e-4, 1e-15])
@pytest.mark.parametrize("transient", [0.0, 100.0])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_fit_finds_the_line_between_transient_and_floor(slope, floor, transient, noise):
    generator = np.random.default_rng(3)
    values = np.exp(slope * STEPS) + transient * np.exp(6 * slope * STEPS) + floor
    fit = fit_decay(STEPS, values * np.exp(noise * generator.standard_normal(len(STEPS))))
    assert fit.linear
    assert abs(fit.slope - slope) < max(0.02 * abs(slope), 3 * fit.standard_error)
    assert fit.factor == np.exp(fit.slope)
    assert fit.standard_error < 0.06 * abs(slope)
    assert STEPS[0] <= fit.first_step < fit.last_step <= STEPS[-1]


@pytest.mark.parametrize("share", [0.2, 0.3, 0.6, 0.9])
def test_fit_stops_above_a_noise_floor(share):
    generator = np.random.default_rng(5)
    slope = np.log(1e-6) / (len(STEPS) * (1 - share))
    floor = 1e-6 * generator.chisquare(3, len(STEPS)) / 3
    fit = fit_decay(STEPS, np.exp(slope * STEPS) + floor)
    assert fit.linear
    assert fit.slope == pytest.approx(slope, rel=0.02)
    assert fit.last_step < len(STEPS) * (1 - share)


@pytest.mark.parametrize("period", [7.3, 20.0, 45.0])
@pytest.mark.parametrize("depth", [0.5, 0.95])
def test_fit_sees_through_oscillation(period, depth):
    wave = 1 + depth * np.cos(2 * np.pi * STEPS / period)
    fit = fit_decay(STEPS, np.exp(-0.08 * STEPS) * wave + 1e-13)
    assert fit.linear
    assert fit.slope == pytest.approx(-0.08, rel=0.02)


def test_fit_keeps_no_more_than_the_line():
    fit = fit_decay(STEPS, 0.9**STEPS + 50 * 0.5**STEPS + 1e-12)
    assert fit.factor == pytest.approx(0.9, rel=1e-3)
    assert fit.first_step > 5
    assert fit.last_step < 262  # where the curve meets the floor
    exact = fit_decay(STEPS, 3 * 0.9**STEPS)
    assert (exact.first_step, exact.last_step) == (0, 399)
    assert exact.intercept == pytest.approx(np.log(3))
    assert exact.standard_error < 1e-12


@pytest.mark.parametrize("power", [0.5, 1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("length", [50, 400, 5000])
def test_power_laws_are_refused(power, noise, length):
    steps = np.arange(length)
    scatter = np.exp(noise * np.random.default_rng(2).standard_normal(length))
    fit = fit_decay(steps, scatter / (1 + steps) ** power)
    assert not fit.linear
    assert np.isnan([fit.factor, fit.slope, fit.standard_error, fit.intercept]).all()
    assert fit.first_step is fit.last_step is None


@pytest.mark.parametrize(
    "values",
    [
        np.ones(400),
        np.random.default_rng(0).chisquare(2, 400),
        np.zeros(400),
        np.full(400, np.nan),
        -np.exp(-0.1 * STEPS),
        np.exp(-0.001 * STEPS),  # falls by less than e²
        np.where(STEPS < 1, 1.0, 1e-33),
        np.where(STEPS < 8, np.exp(-STEPS), 0.0),  # fewer than ten records
    ],
)
def test_what_is_no_decay_is_refused(values):
    assert not fit_decay(STEPS, values).linear


def test_fit_leaves_out_what_has_no_logarithm():
    values = 0.8**STEPS
    values[100:] = 0.0
    values[30] = np.nan
    fit = fit_decay(STEPS, values)
    assert fit.last_step == 99
    assert fit.factor == pytest.approx(0.8)


@pytest.mark.parametrize("every", [1, 7])
def test_fit_counts_steps_and_not_records(every):
    assert fit_decay(STEPS[::every], 0.95 ** STEPS[::every]).factor == pytest.approx(0.95)
    spaced = np.unique(np.geomspace(1, 1000, 80).astype(int))
    assert fit_decay(spaced, 0.95**spaced).factor == pytest.approx(0.95)


def test_fit_checks_what_it_is_given():
    with pytest.raises(ValueError, match="one shape"):
        fit_decay(STEPS, np.ones(3))
    with pytest.raises(ValueError, match="increase"):
        fit_decay(STEPS[::-1], np.ones(400))
    history = all_reduce([0.1, 0.2], steps=20)
    with pytest.raises(ValueError, match="column must be one of suboptimality"):
        fit_rate(history, "loss")
    with pytest.raises(ValueError, match="below the history's 2, not 2"):
        fit_rate(history, replica=2)
    with pytest.raises(ValueError, match="replica="):
        fit_rate(history)
    for given in (STEPS, history.frame):
        with pytest.raises(TypeError, match="fit_decay") as refused:
            fit_rate(given)
        assert "of shape" in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("correlation", "size", "least"),
    [(0.5, 0.05, 0.9), (0.9, 0.05, 0.73), (0.0, 0.05, 0.92), (0.0, 0.5, 0.82)],
)
def test_standard_errors_cover_what_they_say(correlation, size, least):
    """Of correlated or large noise less than the 95 % of a window that is given, as the docstring says."""
    generator, steps = np.random.default_rng(0), np.arange(120)
    filtered = np.tril(toeplitz(correlation ** np.arange(170.0)))  # each is a share of the last one
    held = []
    for _ in range(120):
        noise = generator.standard_normal(170) * size * np.sqrt(1 - correlation**2)
        noise = (filtered @ noise)[50:]
        fit = fit_decay(steps, np.exp(-0.05 * steps + noise))
        if fit.linear:
            held.append(abs(fit.slope + 0.05) < 1.96 * fit.standard_error)
    assert len(held) == 120
    assert least < np.mean(held) < 0.96


@pytest.mark.parametrize("learning_rate", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("steps", [600, 3000])
def test_all_reduce_falls_by_the_smallest_curvature(learning_rate, steps):
    fit = fit_rate(all_reduce(learning_rate, steps))
    assert fit.factor == pytest.approx((1 - learning_rate * 0.3) ** 2, rel=1e-3)


def test_replicas_are_fitted_one_by_one_or_by_their_median():
    history = all_reduce([0.1, 0.2], steps=500)
    for replica, rate in enumerate([0.1, 0.2]):
        factor = fit_rate(history, replica=replica).factor
        assert factor == pytest.approx((1 - 0.3 * rate) ** 2, rel=1e-3)
    noisy = all_reduce(0.1, 500, replicas=9, oracle=rs.oracles.Gaussian(sigma2=1e-8))
    fit = fit_rate(noisy)
    assert fit.factor == pytest.approx(0.97**2, rel=5e-3)
    assert fit.last_step < 400
    distance = fit_rate(noisy, "distance")
    assert distance.factor == pytest.approx(0.97**2, rel=5e-3)


def test_replicas_that_stop_end_the_median():
    start = np.random.default_rng(0).standard_normal((4, 2, 3)) * [1, 10, 100]
    history = all_reduce(0.2, 300, x0=start, stop_below=1e-6)
    fit = fit_rate(history)
    assert fit.factor == pytest.approx(0.94**2, rel=1e-3)
    assert fit.last_step == history.frame.groupby("replica")["step"].max().min()


def test_divergence_has_a_factor_above_one():
    fit = fit_rate(all_reduce(2.5, 500))
    assert fit.linear
    assert fit.factor == pytest.approx(1.5**2, rel=1e-3)


# -- tables ----------------------------------------------------------------------------------------


def test_compare_has_a_row_for_each_history():
    noisy = all_reduce(0.2, 100, replicas=3, oracle=rs.oracles.Gaussian(sigma2=1e-4))
    table = compare({"exact": all_reduce(), "noisy": noisy}, target=1e-3)
    assert list(table.index) == ["exact", "noisy"]
    assert list(table.columns) == [
        "method",
        "learning_rate",
        "replicas",
        "steps",
        "steps_to_target",
        "vectors_to_target",
        "suboptimality",
        "consensus_distance",
        "distance",
        "gradient_norm",
        "rate",
        "diverged",
    ]
    exact = table.loc["exact"]
    assert (exact["learning_rate"], exact["replicas"], exact["steps"]) == (0.2, 1, 200)
    assert exact["rate"] == pytest.approx(0.94**2, rel=1e-3)
    frame = all_reduce().frame
    first = frame[frame["suboptimality"] < 1e-3].iloc[0]
    assert exact["steps_to_target"] == first["step"]
    assert exact["vectors_to_target"] == first["vectors_sent"]
    assert exact["suboptimality"] == frame["suboptimality"].iloc[-1]
    last = noisy.frame[noisy.frame["step"] == 100]
    assert table.loc["noisy", "distance"] == last["distance"].median()
    assert table.loc["noisy", "steps_to_target"] == np.median(noisy.steps_to(1e-3))


def test_compare_counts_what_each_replica_sent_itself():
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=0.01, seed=0)
    history = rs.simulate(
        problem,
        rs.topologies.ring(4),
        rs.algorithms.ProxSkip(0.2),
        learning_rate=[0.5],
        steps=60,
        seed=range(1, 5),  # the first of them is not their median
    )
    frame, reached = history.frame, history.steps_to(1e-3)
    sent = [frame[frame.replica == k].vectors_sent.iloc[int(reached[k])] for k in range(4)]
    assert len(set(sent)) > 1
    assert compare({"": history}, target=1e-3)["vectors_to_target"].item() == np.median(sent)


def test_compare_without_arrival_and_with_divergence():
    table = compare({"slow": all_reduce(0.01, 20), "gone": all_reduce(5.0, 200)}, target=1e-9)
    assert table[["steps_to_target", "vectors_to_target"]].isna().all(axis=None)
    assert table["diverged"].tolist() == [0, 1]
    assert np.isnan(table.loc["slow", "rate"])
    assert np.isnan(table.loc["gone", "suboptimality"])
    assert table.loc["gone", "rate"] > 1
    assert "steps_to_target" not in compare({"slow": all_reduce(0.01, 20)})


def test_compare_where_the_optimum_is_not_known():
    class Plain:
        n, d = 4, 2

        def gradient(self, x):
            return x.copy()

        def value(self, x):
            return 0.5 * (x * x).sum(axis=0)

    history = rs.simulate(
        Plain(),
        rs.topologies.ring(4),
        rs.algorithms.AllReduce(),
        learning_rate=0.1,
        steps=100,
        x0=np.ones(2),
    )
    row = compare({"plain": history}).loc["plain"]
    assert "suboptimality" not in row
    assert row["value"] == pytest.approx(0.9**200)
    assert row["rate"] == pytest.approx(0.81)
    assert fit_rate(history) == fit_rate(history, "gradient_norm")
    assert fit_rate(history).linear
    with pytest.raises(ValueError, match="optimum"):
        compare({"plain": history}, target=1e-3)


def test_compare_checks_what_it_is_given():
    with pytest.raises(ValueError, match="at least one"):
        compare({})
    with pytest.raises(TypeError, match="dict"):
        compare([all_reduce(steps=1)])
    with pytest.raises(TypeError, match=r"histories\['a'\] must be a History"):
        compare({"a": 1})
    frame = all_reduce(steps=1).frame
    kind = re.escape(f"{pd.DataFrame.__module__}.DataFrame")  # since pandas 3 without ".core.frame"
    for given in (frame, {"a": frame}):
        with pytest.raises(TypeError, match=rf"not a {kind} of shape \(2, 10\)$"):
            compare(given)
    with pytest.raises(ValueError, match="target must be positive"):
        compare({"a": all_reduce(steps=1)}, target=0)
    with pytest.raises(ValueError, match="one learning rate"):
        compare({"a": all_reduce([0.1, 0.2], steps=1)})


NUMBERS = [
    (1.2e-7, "1.2e-07", r"$1.2\times10^{-7}$"),
    (-3.4567e-12, "-3.46e-12", r"$-3.46\times10^{-12}$"),
    (0.123456, "0.123", "0.123"),
    (-0.5, "-0.5", "$-0.5$"),
    (200.0, "200", "200"),
    (1234567.0, "1234567", "1234567"),
    (2.0**80, "1.21e+24", r"$1.21\times10^{24}$"),
    (0.99962, "0.9996", "0.9996"),
    (0.0, "0", "0"),
    (np.nan, "–", "--"),
    (np.inf, "∞", r"$\infty$"),
    (-np.inf, "-∞", r"$-\infty$"),
]


@pytest.mark.parametrize(("value", "in_markdown", "in_latex"), NUMBERS)
def test_numbers_are_written_to_three_digits(value, in_markdown, in_latex):
    frame = pd.DataFrame({"a": [value]})
    assert markdown(frame).splitlines()[2].strip("| ") == in_markdown
    assert latex(frame).splitlines()[4] == in_latex + r" \\"


def test_integers_and_missing_text():
    frame = pd.DataFrame({"n": [10**12], "who": [None], "ok": [True]})
    assert markdown(frame).splitlines()[2].split("|")[1:-1] == [
        " 1000000000000 ",
        " –   ",
        " True ",
    ]


def test_markdown_is_aligned_and_escapes_pipes():
    table = compare({"a|b": all_reduce(), "ζ² = 0": all_reduce(0.1, 50)}, target=1e-6)
    lines = markdown(table).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    bars = [k for k, sign in enumerate(lines[1]) if sign == "|"]
    assert all(line[k] == "|" for line in (lines[0], lines[3]) for k in bars)
    assert lines[0].startswith("| label ")
    assert lines[2].startswith(r"| a\|b ")
    assert ":|" in lines[1]


def test_chosen_columns_and_the_best_in_bold():
    index = pd.Index(["a_1", "b", "c"], name="method")
    table = pd.DataFrame(
        {"steps": [30.0, np.nan, 30.0001], "rate": [0.5, 0.9, 0.1], "note": list("xyz")}, index
    )
    lines = latex(table, columns={"rate": r"$\rho$", "steps": "k_1"}, bold={"steps": "min"})
    # What is given as heading stands as it is; what reads the same as the best is as bold.
    assert lines.splitlines()[2:7] == [
        r"method & $\rho$ & k_1 \\",
        r"\midrule",
        r"a\_1 & 0.5 & \textbf{30} \\",
        r"b & 0.9 & -- \\",
        r"c & 0.1 & \textbf{30} \\",
    ]
    chosen = markdown(table, columns=["note", "rate"], bold={"rate": "max"}).splitlines()
    assert [line.split("|")[2].strip() for line in chosen] == ["note", ":-----", "x", "y", "z"]
    assert [line.split("|")[3].strip() for line in chosen[2:]] == ["0.5", "**0.9**", "0.1"]
    nowhere = pd.DataFrame({"steps": [np.nan, np.nan]})
    assert markdown(nowhere, bold={"steps": "min"}) == markdown(nowhere)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"columns": "steps"}, "columns must be a list of names"),
        (
            {"columns": ["rates"]},
            "columns names 'rates', which is no column; there are steps, name",
        ),
        ({"bold": ["steps"]}, "bold must be a mapping such as"),
        ({"bold": {"steps": "least"}}, r"bold\['steps'\] must be one of 'min', 'max', not 'least'"),
        ({"bold": {"name": "min"}}, "'name', which has no numbers"),
        ({"columns": ["name"], "bold": {"steps": "min"}}, "bold names 'steps', which is no column"),
    ],
)
def test_tables_refuse_what_is_no_column(given, error):
    table = pd.DataFrame({"steps": [1, 2], "name": ["a", "b"]})
    for write in (markdown, latex):
        with pytest.raises((TypeError, ValueError), match=error):
            write(table, **given)


def test_latex_escapes_text():
    frame = pd.DataFrame({"a_b": ["50% & #1 {x} ~ ^ \\ $", "D², ζ"]})
    lines = latex(frame).splitlines()
    assert lines[0] == r"\begin{tabular}{l}"
    assert lines[2] == r"a\_b \\"
    assert lines[4] == (
        r"50\% \& \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$ \\"
    )
    assert lines[5] == r"D$^2$, $\zeta$ \\"
    assert [lines[k] for k in (1, 3, 6)] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_tables_are_made_of_frames():
    for write in (markdown, latex):
        with pytest.raises(TypeError, match="DataFrame"):
            write({"a": 1})


def test_replicas_of_a_decay_draw_each_for_itself():
    """The mean over replicas of an asynchronous method is its exact expectation, not that of one clock."""
    topology, algorithm = rs.topologies.complete(6), rs.algorithms.A2CiD2(accelerated=False)
    decay = consensus_decay(topology, algorithm, replicas=400, steps=4)
    level = decay.frame.consensus_distance.to_numpy()
    start = np.random.default_rng(0).normal(size=(6, 1))
    exact = rs.theory.asynchronous_consensus(topology, algorithm, start, range(5))
    # On a complete graph all directions decay alike.
    np.testing.assert_allclose(level / level[0], exact / exact[0], rtol=0.1)
