"""Every figure in its quick version, and the numbers of the full ones where they are quickly had."""

import functools
import itertools
import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import relaysim as rs
from relaysim import cli
from relaysim.figures import FIGURES, Result
from relaysim.figures.candidates import LEFT_OUT
from relaysim.figures.compression import expected_errors
from relaysim.figures.published import CORRECTION_FACTOR, KEY_LEMMA
from relaysim.figures.relay_spectrum import relay_spectrum
from relaysim.figures.relay_theory import key_lemma, learning_rate_correction
from relaysim.figures.typical_distance import exact_distances
from relaysim.studies.naming import ALGORITHMS

# Some seconds in their quick versions, or dear with their imports.
SLOW = {"asynchrony", "scaling", "sensitivity", "stability", "shootout", "worst-case"}
ROOT = pathlib.Path(__file__).parents[1]
#: The site shows these in full; it draws the others in their quick versions.
IN_FULL = {path.stem for path in (ROOT / "notebooks" / "pictures").glob("*.png")} & set(FIGURES)


def assert_whole_and_right(folder, name):
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    frame = pd.read_csv(folder / f"{name}.csv")
    assert len(frame)
    if name in SHOWS:
        SHOWS[name](frame)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in sorted(IN_FULL - {"heterogeneity"})  # test_cli.py draws it
    ],
)
def test_a_figure_is_written_whole_and_shows_what_it_should(name, tmp_path, monkeypatch):
    drawn, save = [], Result.save
    monkeypatch.setattr(Result, "save", lambda self, *to: (drawn.append(self), save(self, *to))[1])
    assert cli.main(["figure", name, "--quick", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert_whole_and_right(tmp_path, name)
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    (result,) = drawn
    check_caption(result.caption)
    monkeypatch.syspath_prepend(ROOT / "docs")
    from relaysim_site.pictures import unexplained

    assert name == "shootout" or not unexplained(result.figure)  # whose table is the legend


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - IN_FULL))
def test_a_figure_that_the_site_drew_is_whole_and_shows_what_it_should(name, site):
    gallery = ROOT / "docs" / "gallery"
    assert_whole_and_right(gallery, name)
    check_caption(json.loads((gallery / f"{name}.json").read_text(encoding="utf-8"))["caption"])


def check_caption(caption):
    """Whole sentences: none that begins in the middle of another, and nothing said twice."""
    assert caption[0].isupper() or caption[0].isdigit()
    assert caption.endswith(".")
    assert "  " not in caption
    assert not re.search(r"[.;,:] ?[.;,:]", caption.replace("al.,", "").replace("arXiv", ""))
    words = caption.split()
    runs = [words[k : k + 6] for k in range(len(words) - 5)]
    said = [" ".join(run) for run in runs if all(word.isalpha() for word in run)]
    assert len(set(said)) == len(said)


def test_checks_of_captions_find_what_is_wrong():
    for caption in (
        "Steps.. After it.",
        "it is said.",
        "That is so",
        "A b c d e f g, a b c d e f g, .",
    ):
        with pytest.raises(AssertionError):
            check_caption(caption)


def test_all_figures_on_one_page(tmp_path, capsys, monkeypatch):
    """Each of them replaced by an empty one, under its own name and description."""
    drawn = []

    def substitute(name, draw):
        @functools.wraps(draw)
        def drawing(**options):
            drawn.append((name, options))
            return Result(Figure(), pd.DataFrame({"n": [1]}), f"caption of {name}")

        return drawing

    for name, draw in FIGURES.items():
        monkeypatch.setitem(FIGURES, name, substitute(name, draw))
    assert cli.main(["figure", "all", "--quick", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    assert len(drawn) == len(FIGURES)
    assert dict(drawn) == {name: {"quick": True, "n_jobs": 1} for name in FIGURES}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<figure id="(.*?)"', page) == list(FIGURES)
    for name in FIGURES:
        assert f'<img src="{name}.png"' in page
        assert f"<figcaption>caption of {name}</figcaption>" in page
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert len(pd.read_csv(tmp_path / f"{name}.csv"))


def check_scaling(frame):
    known = frame[(frame.method == "All-reduce") & frame.published_median_steps.notna()]
    # Of three of the ten problems; the published search ended at one rate for all n.
    assert (known.median_steps_at_published_rate == known.published_median_steps).all()
    assert (known.median_steps < known.published_median_steps).all()
    assert frame.published_median_steps.notna().any()
    assert (frame.reached == frame.problems).all()


def check_unreliable(frame):
    settled = frame.groupby(["method", "drop"]).settled_distance.first()
    # As in the paper's table 5: ten per cent of losses hurt D² most, and RelaySGD's rule for the
    # unheard matters.
    assert settled["D²", 0.1] > 10 * settled["RelaySGD, previous", 0.1]
    assert settled["RelaySGD, initial", 0.1] > 100 * settled["RelaySGD, previous", 0.1]


def check_faults(frame):
    settled = frame.set_index(["kind", "method", "share"]).settled_distance
    assert frame.groupby("kind").method.nunique().to_dict() == {
        "Numbers altered": 4,  # relays would pass them on for good
        **dict.fromkeys(set(frame.kind) - {"Numbers altered"}, 8),
    }
    late, lost = settled["Messages late"], settled["Messages lost"]
    # What is late leaves gossip where it is and takes from D² and tracking what they keep of the mean.
    gossip = late["DP-SGD (gossip)"]
    assert gossip[0.3] == pytest.approx(gossip[0.0], rel=0.1)
    for method in ("D²", "Exact diffusion", "Gradient tracking"):
        assert late[method, 0.3] > 5 * max(gossip[0.3], late["RelaySGD, own", 0.3])
        assert late[method, 0.3] > 1e4 * late[method, 0.0]
    assert lost["RelaySGD, initial", 0.03] > 30 * lost["RelaySGD, previous", 0.03]
    steps = frame.set_index(["kind", "method", "share"]).steps_to_target
    slow = steps["Gradients missing"].unstack()
    assert (slow[0.3] > 1.2 * slow[0.0]).all()


def check_stability(frame):
    known = frame[frame.closed_form_upper.notna()]
    assert {"RelaySGD", "RelaySGD/Grad", "D²", "DP-SGD (gossip)"} <= set(known.method)
    np.testing.assert_allclose(known.upper, known.closed_form_upper, rtol=1e-7)
    np.testing.assert_allclose(known.lower, known.closed_form_lower, rtol=1e-7, atol=1e-12)


def check_finite_time(frame):
    exact = frame[frame.sequence.str.contains("base|hypercube") & (frame.step >= frame.length)]
    assert exact.consensus_distance.max() < 1e-28
    before = frame[frame.sequence.str.contains("base") & (frame.step == frame.length - 1)]
    assert before.consensus_distance.min() > 1e-4


def check_consensus_control(frame):
    last = frame[frame.step == frame.step.max()].groupby("control")
    ends = last.suboptimality.median()
    assert ends["all the time"] < ends["uncontrolled"]
    assert last.rounds.median().idxmin() == "uncontrolled"


def check_theory(frame):
    curves = frame.set_index(["method", "step"])
    simulated, predicted = (
        curves[curves.curve == f"{kind} without noise"].suboptimality
        for kind in ("simulated", "predicted")
    )
    np.testing.assert_allclose(predicted, simulated, rtol=0, atol=1e-12)
    assert simulated.min() < 1e-9


def check_mean_estimation(frame):
    late = frame[frame.step > 50]
    ratio = late.groupby("method")[["mean_squared_error", "exact_error"]].sum()
    np.testing.assert_allclose(ratio.mean_squared_error / ratio.exact_error, 1, atol=0.25)


def check_asynchrony(frame):
    gossip = frame[frame.experiment == "consensus"].set_index(["topology", "method", "step"])
    early = gossip[gossip.index.get_level_values("step") <= 10]
    ratio = (early.consensus_distance / early.exact).groupby(["topology", "method"]).mean().dropna()
    assert len(ratio) == 6
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    decay = gossip.decay.groupby(["topology", "method"]).first().unstack()
    assert decay.loc["ring", "A²CiD²"] > 1.2 * decay.loc["ring", "AD-PSGD"]
    assert decay.loc["complete", "A²CiD²"] == pytest.approx(decay.loc["complete", "AD-PSGD"])
    ends = frame[(frame.experiment == "descent") & (frame.step > 60)]
    plateaus = ends.groupby(["topology", "method"]).distance.mean().unstack()
    assert plateaus.loc["ring", "A²CiD²"] < plateaus.loc["ring", "AD-PSGD"]


def check_accelerated_consensus(frame):
    course = frame[(frame.part == "course") & frame.left.notna()]
    np.testing.assert_allclose(course.left, course.expected, rtol=0.25)
    rounds = frame[frame.part == "rounds"].pivot_table("rounds", "n", "way")
    growth = np.log2(rounds.loc[32] / rounds.loc[8]) / 2
    assert growth["plain gossip"] == pytest.approx(2, abs=0.1)
    assert growth["heavy ball (FastMix)"] == pytest.approx(1, abs=0.1)
    assert (rounds.Chebyshev <= rounds["heavy ball (FastMix)"]).all()
    steps = frame[frame.part == "descent"].pivot_table("steps", "kappa", "way")
    growth = np.log10(steps.loc[100] / steps.loc[10])
    assert growth["Mudag"] == pytest.approx(0.5, abs=0.1)
    assert growth["Exact diffusion"] == pytest.approx(1, abs=0.1)


def check_zoo(frame):
    assert (frame.gradients.notna().groupby(frame.method).mean() > 0.5).all()
    for (_, criterion), part in frame.groupby(["graph", "criterion"]):
        needed = part.sort_values("rank")[criterion].dropna()
        assert needed.is_monotonic_increasing
        assert len(part) == frame.method.nunique()
    at = frame.set_index(["graph", "criterion", "method"]).sort_index()
    for graph in ("ring", "exponential graph"):
        fewest = at.loc[graph, "gradients"].gradients
        assert fewest["Mudag"] < fewest["Exact diffusion"] < fewest["BEER"]
        sent = at.loc[graph, "bits"].bits
        assert sent["LEAD"] < sent["Exact diffusion"] / 4


def check_shootout(frame):
    ends = frame.groupby(["problem", "criterion", "method"]).tail(1)
    ends = ends.set_index(["problem", "criterion", "method"]).sort_index()
    methods = set(ends.index.unique("method"))
    assert methods >= {build().label for build in (rs.algorithms.D2, rs.algorithms.A2CiD2)}
    # AD-PSGD is one more, and only quadratics have the solves that ADMM asks for.
    assert len(methods) == len(ALGORITHMS) - len(LEFT_OUT) + 1
    for problem, criterion in itertools.product(("quadratic", "logistic"), ("steps", "bits")):
        ranked = ends.loc[problem, criterion].sort_values("rank")
        assert ranked["rank"].tolist() == list(range(1, len(ranked) + 1))
        assert len(ranked) == len(methods) - (problem == "logistic")
        needed = ranked.step_to_target if criterion == "steps" else ranked.bits_sent_to_target
        assert needed.dropna().is_monotonic_increasing
        assert needed.isna().sum() == needed.tail(needed.isna().sum()).isna().sum()
        # One vector over each of 2(n − 1) directed edges a step.
        relay = ranked.loc["RelaySGD"]
        assert relay.step_to_target < 40
        assert relay.bits_sent_to_target == 14 * 64 * 64 * relay.step_to_target
        # Methods that draw have ten seeds, the others one.
        draws = {"PowerGossip", "CESAR", "SwarmSGD", "Dynamic averaging", "AD-PSGD", "A²CiD²"}
        assert (ranked.seeds[list(draws)] == 10).all()
        assert ranked.seeds["D²"] == 1
        curves = frame[(frame.problem == problem) & (frame.criterion == criterion)]
        after = curves[curves.step >= curves.step_to_target]
        assert (after.distance <= after.limit).all()
    # What is tuned for bits needs no more of them than what is tuned for steps.
    bits = ends.bits_sent_to_target.unstack("criterion").dropna()
    assert (bits.bits <= bits.steps).mean() > 0.9
    assert (bits.bits < 0.95 * bits.steps).any()


def check_compression(frame):
    # What a half step of rank 1 leaves of 20 × 20 at diffusion 1 and 1.308, as measured apart.
    slopes = frame[frame.part == "contraction"].sort_values("diffusion")
    np.testing.assert_allclose(slopes.diffusion, [1, 1, 1.3084, 1.3084], rtol=1e-4)
    for bases, listed in {
        "random bases": [0.9813, 0.9761],
        "warm starts": [0.9797, 0.9746],
    }.items():
        own = slopes[slopes.method == f"PowerGossip, {bases}"]
        np.testing.assert_allclose(own.contraction, listed, rtol=0, atol=0.0015)
        np.testing.assert_allclose(own.estimate, [0.9805, 0.9745], rtol=0, atol=5e-5)
    curves = frame[frame.part == "curve"]
    exact = (
        curves[curves.method == "exact gossip"].set_index(["start", "step"]).error.unstack("start")
    )
    late = (exact.loc[12] / exact.loc[11]).to_numpy()
    np.testing.assert_allclose(late, 0.5544, rtol=0.02)  # 0.6476 at diffusion 1
    # Beside what was computed without a run.
    ratio = (
        (curves.error / curves.expected_error).groupby([curves.method, curves.step]).mean().dropna()
    )
    assert set(ratio.index.unique("method")) == {
        "exact gossip",
        "PowerGossip, random bases",
        "CHOCO, random-k",
    }
    np.testing.assert_allclose(ratio["exact gossip"], 1, rtol=1e-9)
    np.testing.assert_allclose(ratio["PowerGossip, random bases"], 1, atol=0.1)
    np.testing.assert_allclose(ratio["CHOCO, random-k"], 1, atol=0.15)
    # All spend the same.
    ends = curves.groupby(["start", "method"])[["bits_sent", "error"]].last()
    budget = 12 * 2 * 8 * 20 * 20 * 64
    assert ends.bits_sent.between(0.99 * budget, budget).all()
    error = ends.error.unstack("start")
    # Structure: low rank is PowerGossip's, whatever the rank, and sparse entries are top-k's, not sign's.
    warm, random = error.loc["PowerGossip"], error.loc["PowerGossip, random bases"]
    assert warm["low rank"] < 0.01 * warm["normal"] < 0.01 * error.loc["exact gossip", "normal"]
    rank_four = error.loc["PowerGossip, rank 4"]
    assert (rank_four < 3 * warm)[["normal", "sparse"]].all()
    assert rank_four["low rank"] < 0.01 * error.loc["exact gossip", "low rank"]
    assert random.max() < 1.2 * random.min()
    assert error.loc["CHOCO, top-k", "sparse"] < 1e-12 < 1e-8 < error.loc["CHOCO, top-k", "normal"]
    assert error.loc["CHOCO, sign", "normal"] < 1e-20 < 1e-6 < error.loc["CHOCO, sign", "sparse"]
    # Rates: too high a one diverges, and the best is not the same everywhere.
    search = frame[(frame.part == "search") & frame.method.str.startswith("CHOCO")]
    highest = (
        search[search.consensus_rate == search.consensus_rate.max()]
        .set_index(["method", "start"])
        .error
    )
    assert (highest[["CHOCO, rank 1", "CHOCO, random-k"]] > 1e3).all()
    best = search.loc[search.groupby(["method", "start"]).error.idxmin()]
    chosen = curves.groupby(["method", "start"]).consensus_rate.first()
    np.testing.assert_array_equal(chosen[highest.index.sort_values()], best.consensus_rate)
    assert best.groupby("method").consensus_rate.nunique().max() > 1


def check_double_descent(frame):
    drawn = frame[frame.part == "draws"].set_index("parameters_per_worker")
    settled = drawn[abs(drawn.index - 50) > 3]
    assert (abs(settled.error - settled.formula) < 4 * settled.standard_error).all()
    assert drawn.error.idxmax() == 50
    assert (drawn.training_error[drawn.index >= 50] < 1e-20).all()
    known = frame[(frame.part == "formula") & (frame.workers > 1)]
    infinite = known[np.isinf(known.formula)]
    assert infinite.parameters_per_worker.unique().tolist() == [49, 50, 51]


def check_separable(frame):
    ends = frame[frame.step == frame.step.max()].set_index(["loss", "method"])
    starts = frame[frame.step == 0].set_index(["loss", "method"])
    assert (ends.margin < ends.widest_margin).all()
    np.testing.assert_allclose(starts.value[["logistic"]], np.log(2))
    np.testing.assert_allclose(starts.value[["exponential"]], 1)
    for loss in ("logistic", "exponential"):
        tracked = ends.loc[loss, "Normalised tracking"]
        others = ends.loc[loss].drop("Normalised tracking")
        assert tracked.value < 0.2 * others.value.min()
        assert tracked.margin > others.margin.max()


def check_typical_distance(frame):
    ring = frame[frame.family == "ring"].set_index(["kind", "n"])
    ratio = (ring.simulated / ring.exact).unstack("n")
    np.testing.assert_allclose(ratio.loc["worst placement"], 1, atol=0.01)
    np.testing.assert_allclose(ratio.loc["noise"], 1, atol=0.1)
    np.testing.assert_allclose(ratio.loc["random placement"], 1, atol=0.35)
    assert (frame.exact <= frame.bound * (1 + 1e-12)).all()


def check_acceleration(frame):
    """Rates as DADAO's code prints them for its star, and as computed apart from it for the others."""
    rates = frame[frame.part == "rates"].set_index(["graph", "method"]).edges_used.unstack()
    columns = ["ADOM+", "ADOM+, multi-consensus", "Continuized", "MSDA", "DADAO"]
    tabled = {
        "star of 300": [299, 62192, 299, 5083, 299],
        "cycle of 16": [16, 304, 39, 80, 39],
        "path of 16": [15, 1080, 76, 150, 76],
        "grid, 4 × 4": [24, 216, 26, 72, 26],
        "complete, 16": [120, 120, 10, 120, 10],
        "barbell, 8 + 8": [57, 1938, 126, 342, 126],
        "cycle of 300": [300, 1896300, 14300, 28500, 14300],
    }
    assert set(rates.index) == set(tabled)
    for graph, expected in tabled.items():
        assert rates.loc[graph, columns].tolist() == expected
    constants = frame[frame.part == "constants"].set_index(["graph", "n"])
    listed = {
        "cycle": [("13.1", "0.94", "3.51"), ("52.0", "0.97", "7.10"), ("208", "0.98", "14.3")],
        "path": [("51.9", "1", "7.2"), ("208", "1", "14.4"), ("830", "1", "28.8")],
        "star": [("1.88", "0.94"), ("1.94", "0.97"), ("1.97", "0.98")],
        "complete": [("0.94", "0.94"), ("0.97", "0.97"), ("0.98", "0.98")],
        "exponential": [("1.75",), ("2.25",), ("2.75",)],
    }
    for graph, rows in listed.items():
        for n, printed in zip((16, 32, 64), rows, strict=True):
            found = constants.loc[(graph, n), ["chi1", "chi2", "accelerated"]].tolist()
            for value, text in zip(found, printed, strict=False):
                digits = len(text.partition(".")[2])
                assert f"{value:.{digits}f}" == text, (graph, n)


def check_one_way_links(frame):
    biased = frame[frame.panel == "limit"].distance.iloc[0]
    ends = frame[frame.panel == "curves"].groupby("method").distance.last()
    assert ends["DP-SGD (gossip)"] == pytest.approx(biased, rel=0.25)
    assert ends["SGP"] < 0.3 * biased
    assert ends[["Push-DIGing", "Push-pull (AB)"]].max() < 1e-3 * biased
    lowest = frame[frame.panel == "plateaus"].groupby("method").distance.first()
    assert lowest["DP-SGD (gossip)"] == pytest.approx(biased, rel=0.01)
    assert lowest["SGP"] < 1e-5 * biased
    assert frame.weight.sum() == pytest.approx(16)


def check_worst_case(frame):
    assert (frame.distance <= frame.bound.fillna(np.inf) * (1 + 1e-6)).all()
    last = frame[frame.step == frame.step.max()].set_index("method")
    assert last.due_to_zeta2.idxmin() == "All-reduce"
    assert last.due_to_zeta2.idxmax() == "DP-SGD (gossip)"
    assert last.distance["All-reduce"] == pytest.approx(last.quadratics["All-reduce"], rel=1e-6)


def check_rate_map(frame):
    """D², exact diffusion, DP-SGD and gradient tracking are stable up to 2/L where W is positive; more of a
    gap never slows a method at its best rate.
    """
    gap = frame[frame.panel == "gap"]
    ends = gap[gap.kind == "boundary"]
    np.testing.assert_allclose(ends.learning_rate, 2, rtol=1e-6)
    assert (ends.stable == "below").all()
    best = gap[gap.kind == "best"].assign(setting=lambda rows: rows.setting.astype(float))
    for _, rows in best.sort_values("setting").groupby("method"):
        assert (np.diff(rows.steps) <= 1e-2 * rows.steps[:-1]).all()
    grid = frame[frame.kind == "grid"]
    assert (np.isinf(grid.steps) == (grid.spectral_radius >= 1)).all()
    complete = frame[(frame.kind == "best") & (frame.setting == "4, complete")]
    # Of (1 − 1/κ) and (1 + 1/κ): 2/(L + μ) of all-reduce, with κ = 10.
    assert (complete.spectral_radius >= 9 / 11 - 1e-3).all()


SHOWS = {
    "scaling": check_scaling,
    "mean-estimation": check_mean_estimation,
    "unreliable": check_unreliable,
    "faults": check_faults,
    "stability": check_stability,
    "theory": check_theory,
    "finite-time": check_finite_time,
    "consensus-control": check_consensus_control,
    "asynchrony": check_asynchrony,
    "shootout": check_shootout,
    "zoo": check_zoo,
    "accelerated-consensus": check_accelerated_consensus,
    "compression": check_compression,
    "double-descent": check_double_descent,
    "separable": check_separable,
    "one-way-links": check_one_way_links,
    "typical-distance": check_typical_distance,
    "acceleration": check_acceleration,
    "worst-case": check_worst_case,
    "rate-map": check_rate_map,
}


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.DPSGD(),
        rs.algorithms.PowerGossip(2, warm_start=False, rows=4),
        rs.algorithms.ChocoSGD(rs.compressors.RandomK(4), 0.1),
        rs.algorithms.ChocoSGD(rs.compressors.RandomK(12), 0.7),
    ],
)
def test_expected_errors_are_means_over_runs(algorithm):
    ring, steps = rs.topologies.ring(8), 12
    x0 = 1 + np.random.default_rng(0).normal(size=(8, 16))
    frame = rs.simulate(
        rs.problems.MatrixQuadratic(np.zeros((8, 4, 4))),
        ring,
        algorithm,
        learning_rate=0.0,
        steps=steps,
        x0=x0,
        replicas=4000,
    ).frame
    found = 8 * frame.groupby("step").consensus_distance.agg(["mean", "sem"])
    expected = expected_errors(algorithm, x0, rs.mixing.metropolis(ring).toarray(), steps)
    assert (found["sem"] < 0.02 * expected).all()
    assert (np.abs(found["mean"] - expected) < 4 * found["sem"] + 1e-9 * expected[0]).all()
    assert expected_errors(rs.algorithms.PowerGossip(), x0, np.eye(8), 1) is None


def test_exponents_of_the_typical_distance_on_rings():
    """Of p = 1 − λ₂², where bounds have −1 for noise and −2 for gradients that differ."""
    found = []
    for n in (32, 64, 128, 256):
        exact = exact_distances(rs.mixing.metropolis(rs.topologies.ring(n)).toarray())
        modes = 1 / 3 + 2 / 3 * np.cos(2 * np.pi * np.arange(1, n) / n)
        noise, still = modes**2 / (1 - modes**2), (modes / (1 - modes)) ** 2
        expected = [1 - modes[0] ** 2, noise.sum() / n, still.mean(), still[0]]
        np.testing.assert_allclose(list(exact.values()), expected, rtol=1e-9)
        found.append(expected)
    p, *distances = np.log(found).T
    exponents = [np.polyfit(p, each, 1)[0] for each in distances]
    np.testing.assert_allclose(exponents, [-0.53, -1.50, -2.01], rtol=0, atol=0.03)


def test_key_lemma_equals_the_published_values():
    frame = key_lemma(quick=True).frame
    for row in frame.itertuples():
        known = KEY_LEMMA[row.topology].get(row.n)
        if known is not None:
            assert row.m_over_p == pytest.approx(known, rel=1e-6)
    assert frame.published_m_over_p.notna().sum() == 9


def test_correction_factor_equals_the_published_values():
    frame = learning_rate_correction(quick=True).frame
    np.testing.assert_allclose(frame.measured, frame.closed_form, rtol=1e-6)
    for row in frame.itertuples():
        known = CORRECTION_FACTOR[row.topology].get(row.n)
        if known is not None:
            assert row.measured == pytest.approx(known, rel=1e-4)
    chain = frame[frame.topology == "chain"]
    np.testing.assert_allclose(chain.closed_form, (chain.n**2 + 2) / (3 * chain.n), rtol=1e-12)


def test_relayed_models_agree_by_the_delays_that_one_assumes():
    frame = relay_spectrum(quick=True).frame
    chain = frame[(frame.panel == "gap") & (frame.topology == "chain")]
    slopes = {
        delays: np.polyfit(np.log(part.n), np.log(part.gap), 1)[0]
        for delays, part in chain[chain.n >= 8].groupby("delays")
    }
    assert slopes["received"] == pytest.approx(-2, abs=0.15)
    assert slopes["hops"] == pytest.approx(-1, abs=0.2)
    slow = frame[(frame.panel == "agreeing") & (frame.delays == "received")].iloc[-200:]
    np.testing.assert_allclose(slow.consensus_distance, slow.asymptote, rtol=1e-3)
    damped = frame[(frame.panel == "damping") & (frame.gamma_h < 0.1)]
    np.testing.assert_allclose(damped.decay, damped.mean_decay, rtol=0.1)
