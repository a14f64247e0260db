"""The explorer: its controls are moved, its code is run, its picture is measured."""

import asyncio
import math
import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nbclient import NotebookClient

import relaysim as rs
from relaysim.explorer import budget, picture, problem_kinds, scene
from relaysim.explorer.calls import METHODS
from relaysim.explorer.scene import Runner, run
from relaysim.explorer.settings import PARTS, Settings
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES


@pytest.fixture(autouse=True)
def close_figures():
    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """All steps are run, however busy this computer is; what time there is has tests of its own."""
    monkeypatch.setattr(budget, "SECONDS", math.inf)


@pytest.fixture
def real_pictures():
    """Of the tests that look at the picture."""


@pytest.fixture(autouse=True)
def cheap_pictures(request, monkeypatch):
    """In the place of a picture, which takes most of the time, what is drawn."""
    if "real_pictures" in request.fixturenames:
        return
    widget = pytest.importorskip("relaysim.explorer.widget")

    def written(shown):
        axes = f"{shown.settings.x} {shown.settings.y}".encode()
        curves = [
            name.encode() + h.frame.to_numpy().tobytes() for name, h in shown.histories.items()
        ]
        return b" ".join([axes, *curves])

    monkeypatch.setattr(widget, "draw", lambda shown: shown)
    monkeypatch.setattr(widget, "png", written)


def assert_same(found, expected):
    """Two mappings of histories are equal, bit for bit."""
    assert list(found) == list(expected)
    for label, history in found.items():
        np.testing.assert_array_equal(history.x, expected[label].x)
        np.testing.assert_array_equal(history.frame, expected[label].frame)
        assert list(history.frame) == list(expected[label].frame)


def executed(code):
    namespace = {}
    exec(compile(code, "code of the explorer", "exec"), namespace)
    return namespace


def last(history, column="suboptimality"):
    return history.frame[column].iloc[-1]


def is_shown(explorer):
    return explorer.picture.layout.visibility == "visible"


# -- what is given at first ------------------------------------------------------------------------


def test_presettings_stand_in_the_controls():
    explorer = rs.explore(
        n=16,
        zeta2=0.3,
        methods=["RelaySGD", rs.algorithms.DPSGD(momentum=0.9)],
        topology="erdos_renyi(20, 0.4, seed=3)",
        learning_rate=[0.123, 0.2],
        steps=50,
        x="bits_sent",
        y="distance",
    )
    values = {name: control.value for name, control in explorer.controls.items()}
    assert values["zeta2"] == 0.3
    assert values["topology"] == "erdos_renyi"
    assert values["topology_arguments"] == "0.4, seed=3"
    assert values["n"] == 20
    assert (values["steps"], values["x"], values["y"]) == (50, "bits_sent", "distance")
    assert [row.learning_rate.value for row in explorer.rows] == [0.123, 0.2]
    assert [row.method.value for row in explorer.rows] == ["RelaySGD", "DPSGD"]
    relay, gossip = explorer.histories.values()
    assert gossip.algorithm == rs.algorithms.DPSGD(momentum=0.9)
    assert gossip.topology == rs.topologies.erdos_renyi(20, 0.4, seed=3)
    assert relay.topology == rs.topologies.spanning_tree(gossip.topology)
    assert explorer.settings.learning_rate == (0.123, 0.2)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"topology": "rnig"}, "unknown topology 'rnig'; did you mean 'ring'"),
        ({"methods": ["RelaySDG"]}, "unknown algorithm 'RelaySDG'; did you mean 'RelaySGD'"),
        ({"methods": ["RelaySGD("]}, "cannot read 'RelaySGD\\('"),
        ({"methods": [type("Mine", (rs.algorithms.D2,), {})()]}, "cannot be written as a call"),
        ({"dorp": 0.1}, "explore has no setting 'dorp'; did you mean 'drop'"),
        ({"drop": 1.5}, "drop must be a probability, not 1.5"),
        ({"methods": rs.algorithms.RelaySGD}, "cannot be written as a call"),
        ({"problem": "quadratics"}, "did you mean 'random_quadratics'"),
        ({"n": 2000}, "n must be at most 1024"),
        ({"n": 0}, "n must be at least 1"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"topology": "ring(2000)"}, "whole number from 1 to 1024"),
        ({"topology": "ring(-3)"}, "whole number from 1 to 1024"),
        ({"zeta2": "large"}, "zeta2 must be a number"),
        ({"zeta2": -1}, "zeta2 must be a finite number of at least 0"),
        ({"learning_rate": [0.1]}, "3 methods have 1 learning rates"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number"),
        ({"y": "loss"}, "unknown y 'loss'"),
        ({"x": "steps"}, "did you mean 'step'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"replicas": 0}, "replicas must be at least 1"),
        ({"replicas": 1000}, "replicas must be at most 100"),
        ({"theory": "yes"}, "theory must be True or False"),
        ({"seconds": -1}, "seconds must be a finite number of at least 0"),
        ({"mixing": "metropolsi"}, "did you mean 'metropolis'"),
        ({"faults": rs.faults.MessageDrop}, "cannot be written as a call"),
        ({"target": 0}, "target must be positive"),
    ],
)
def test_presettings_that_no_control_can_have_are_refused(choice, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rs.explore(**choice)


def test_without_ipywidgets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r'pip install "relaysim\[notebook\]"'):
        rs.explore()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_is_offered_runs(name):
    found = run(Settings(n=8, methods=[name], steps=20, learning_rate=0.1))
    assert not found.failures
    (history,) = found.histories.values()
    assert isinstance(history.algorithm, ALGORITHMS[name])


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_is_offered_and_runs(name):
    directed = name.startswith("directed")  # no messages go both ways there
    explorer = rs.explore(n=16, methods=["PushPull" if directed else "RelaySGD"], steps=20)
    explorer.controls["topology"].value = name
    (history,) = explorer.histories.values()
    assert getattr(history.topology, "is_directed", False) == directed
    assert history.problem.n == history.topology.n == (32 if name == "social_network" else 16)
    assert explorer.controls["n"].disabled == (name == "social_network")
    assert name in explorer.code


def test_methods_within_methods_and_lost_messages_are_run_and_written():
    explorer = rs.explore(
        n=6,
        steps=40,
        drop=0.2,
        learning_rate=0.1,
        methods=[
            "ConsensusControl(D2(), Critical(1.0))",
            rs.algorithms.DPSGD(),
            "ChocoSGD(TopK(2))",
        ],
    )
    assert explorer.controls["drop"].value == 0.2
    controlled, plain, *rest = explorer.histories.values()
    assert controlled.algorithm.base == rs.algorithms.D2()
    assert plain.config["faults"] == {"type": "MessageDrop", "probability": 0.2}
    # What has no rule for lost messages is said to have none.
    assert len(rest) + len(explorer.scene.failures) == 1
    assert_same(executed(explorer.code)["histories"], explorer.histories)


# -- controls that are moved -----------------------------------------------------------------------


def small(**choices):
    options = {"n": 12, "methods": ["RelaySGD", "DPSGD"], "steps": 60, "learning_rate": 0.3}
    return rs.explore(**(options | choices))


def test_a_learning_rate_moves_its_own_curve():
    explorer = small()
    before = explorer.histories
    shown = explorer.picture.value
    explorer.rows[1].learning_rate.value = 0.1
    after = explorer.histories
    assert list(after) == ["RelaySGD on a spanning tree, γ = 0.3", "DP-SGD (gossip), γ = 0.1"]
    assert after["RelaySGD on a spanning tree, γ = 0.3"] is next(iter(before.values()))
    # A smaller rate stalls lower.
    assert last(after["DP-SGD (gossip), γ = 0.1"]) < last(before["DP-SGD (gossip), γ = 0.3"])
    assert explorer.picture.value != shown


def test_rounding_does_not_miss_a_level():
    explorer = small()
    explorer.rows[0].learning_rate.value = 3 * 0.2
    assert explorer.settings.learning_rate == (0.6, 0.3)
    assert "learning_rate=0.6," in explorer.code


def test_heterogeneity_moves_gossip_and_not_relaysgd():
    explorer = small(steps=400, zeta2=0.1)
    relay, gossip = explorer.histories.values()
    explorer.controls["zeta2"].value = 10.0
    relay_after, gossip_after = explorer.histories.values()
    assert gossip_after.problem.zeta2 == pytest.approx(10, rel=1e-12)
    # The plateau is proportional to ζ².
    assert last(gossip_after) == pytest.approx(100 * last(gossip), rel=1e-3)
    assert last(relay_after) < 1e-12
    assert last(relay) < 1e-12


MOVES = [
    ("random_quadratics", "n", 20, lambda history: history.problem.n == 20),
    ("random_quadratics", "d", 3, lambda history: history.problem.d == 3),
    (
        "random_quadratics",
        "mu",
        0.1,
        lambda history: math.isclose(history.problem.strong_convexity, 0.1),
    ),
    (
        "random_quadratics",
        "zeta2",
        5.0,
        lambda history: math.isclose(history.problem.zeta2, 5),
    ),
    ("random_quadratics", "problem_seed", 7, lambda history: True),
    ("random_quadratics", "sigma2", 0.01, lambda history: 1e-6 < last(history) < 1e-1),
    ("random_quadratics", "steps", 90, lambda history: history.steps[-1] == 90),
    ("random_quadratics", "topology", "star", lambda history: history.topology.degrees[0] == 11),
    ("logistic", "d", 3, lambda history: history.problem.d == 3),
    ("logistic", "drift", 5.0, lambda history: history.problem.zeta2 > 0.01),
    ("logistic", "l2", 0.1, lambda history: history.problem.l2 == 0.1),
    ("wine", "alpha", math.inf, lambda history: history.problem.zeta2 < 0.5),
    ("wine", "l2", 0.1, lambda history: history.problem.l2 == 0.1),
    ("wine", "problem_seed", 2, lambda history: True),
]


@pytest.mark.parametrize(("problem", "control", "value", "holds"), MOVES)
def test_a_control_moves_the_curves(problem, control, value, holds):
    explorer = small(problem=problem, learning_rate=0.1)
    before, shown = explorer.histories, explorer.picture.value
    explorer.controls[control].value = value
    assert all(map(holds, explorer.histories.values()))
    assert explorer.picture.value != shown
    for history, moved in zip(before.values(), explorer.histories.values(), strict=True):
        assert not np.array_equal(history.frame, moved.frame)
    # What was kept of the settings before is what a fresh start finds.
    assert_same(explorer.histories, run(explorer.settings).histories)


def test_the_noise_has_its_own_seed():
    explorer = small(sigma2=0.01)
    before = explorer.histories
    explorer.controls["seed"].value = 5
    for label, history in explorer.histories.items():
        assert history.problem is before[label].problem
        assert not np.array_equal(history.x, before[label].x)
    assert_same(explorer.histories, run(explorer.settings).histories)


def test_arguments_of_topologies_and_methods():
    explorer = small()
    explorer.controls["topology"].value = "erdos_renyi"
    assert explorer.controls["topology_arguments"].value == "p=0.52, seed=0"
    explorer.controls["topology_arguments"].value = "p=0.5, seed=2"
    explorer.rows[1].arguments.value = "momentum=0.9"
    _, gossip = explorer.histories.values()
    assert gossip.topology == rs.topologies.erdos_renyi(12, 0.5, seed=2)
    assert gossip.algorithm == rs.algorithms.DPSGD(momentum=0.9)
    assert "DP-SGD (gossip), momentum = 0.9, γ = 0.3" in explorer.histories
    # Another name takes other arguments.
    explorer.rows[1].method.value = "SingleMerge"
    assert explorer.rows[1].arguments.value == "merge_at=20"
    explorer.controls["topology"].value = "torus"
    assert explorer.controls["topology_arguments"].value == ""
    assert [history.problem.n for history in explorer.histories.values()] == [12, 12]
    explorer.controls["topology_arguments"].value = "2, 4"
    assert [history.problem.n for history in explorer.histories.values()] == [8, 8]
    assert "n = 8, the workers of torus(2, 4)" in explorer.messages.value


def test_only_controls_that_count_are_shown():
    explorer = small()

    def shown():
        return {name for name, c in explorer.controls.items() if c.layout.display != "none"}

    assert {"zeta2", "mu", "d"} <= shown()
    assert not {"drift", "alpha", "l2"} & shown()
    explorer.controls["problem"].value = "breast_cancer"
    assert {"alpha", "l2"} <= shown()
    assert not {"zeta2", "mu", "d", "drift"} & shown()
    assert next(iter(explorer.histories.values())).problem.d == 30


@pytest.mark.parametrize("x", ["step", "vectors_sent", "bits_sent"])
@pytest.mark.parametrize("y", ["suboptimality", "consensus_distance", "distance", "gradient_norm"])
def test_axes(x, y):
    explorer = small()
    histories = explorer.histories
    explorer.controls["x"].value, explorer.controls["y"].value = x, y
    assert all(explorer.histories[label] is history for label, history in histories.items())
    (ax,) = picture.draw(explorer.scene).axes
    assert ax.get_xlabel() == rs.plots.AXIS_LABELS[x]
    assert ax.get_ylabel() == rs.plots.AXIS_LABELS[y]
    for line, history in zip(ax.lines, histories.values(), strict=True):
        frame = history.frame[[x, y]].where(history.frame[y] > 0)
        np.testing.assert_array_equal(line.get_ydata(), frame[y])
        np.testing.assert_array_equal(line.get_xdata(), history.frame[x])


def test_methods_are_added_and_removed():
    explorer = small()
    explorer.add_button.click()
    assert len(explorer.rows) == len(explorer.histories) == 3
    added = explorer.rows[2]
    assert added.method.value not in ("RelaySGD", "DPSGD")
    added.method.value = "D2"
    assert list(explorer.histories)[2] == "D², γ = 0.3"
    explorer.rows[0].remove.click()
    assert list(explorer.histories) == ["DP-SGD (gossip), γ = 0.3", "D², γ = 0.3"]
    for _ in range(2):
        explorer.rows[0].remove.click()
    assert explorer.histories == {}
    assert not is_shown(explorer)
    assert "there is no method; add one" in explorer.messages.value
    explorer.add_button.click()
    assert is_shown(explorer)


def test_what_did_not_change_is_not_run_again(monkeypatch):
    calls = []

    def counted(problem, topology, algorithm, **options):
        calls.append(algorithm.label)
        return rs.simulate(problem, topology, algorithm, **options)

    monkeypatch.setattr(scene, "simulate", counted)
    explorer = small()
    assert len(calls) == 2
    explorer.controls["y"].value = "distance"
    assert len(calls) == 2
    explorer.rows[1].learning_rate.value = 0.1
    assert calls[2:] == ["DP-SGD (gossip)"]
    explorer.controls["zeta2"].value = 0.0
    assert len(calls) == 5


def test_only_long_runs_have_a_progress_bar(monkeypatch):
    asked = []

    def watched(*parts, progress, **options):
        asked.append(progress)
        return rs.simulate(*parts, progress=False, **options)

    monkeypatch.setattr(scene, "simulate", watched)
    run(Settings(n=64, methods=["DPSGD"]))
    run(Settings(n=64, methods=["DPSGD"], topology="complete", steps=600))
    assert asked == [False, None]


# -- the code --------------------------------------------------------------------------------------

SCENES = {
    "default": {},
    "on a tree": {"topology": "binary_tree"},
    "noise": {"sigma2": 0.02, "seed": 3, "y": "distance", "x": "bits_sent"},
    "many steps": {"steps": 1700, "methods": ["D2", "RelaySGD"], "topology": "star"},
    "random methods": {
        "methods": ["SingleMerge", "DynamicAveraging(threshold=0.1)", "PowerGossip(2)", "ChocoSGD"],
        "learning_rate": 0.1,
        "seed": 4,
    },
    "one method twice": {
        "methods": ["DPSGD", "RelaySGD", "RelaySGD(momentum=0.5)", "RelaySGD", "DPSGD(0.9)"],
        "learning_rate": [0.1, 0.3, 0.3, 1 / 3, 0.2],
    },
    "diverged": {"methods": ["RelaySGD", "D2", "DPSGD"], "learning_rate": [0.3, 9.0, 0.3]},
    "all diverged": {"methods": ["DPSGD", "D2"], "learning_rate": 500.0},
    "narrow": {"methods": ["AllReduce"], "steps": 10, "learning_rate": 1e-4},
    "random graph": {"topology": "watts_strogatz", "methods": ["EXTRA", "RelaySGD"]},
    "written out": {"topology": "erdos_renyi( 20,0.323456789,seed = 1)", "methods": ["RelaySGD"]},
    "size of its own": {"topology": "social_network", "methods": ["SGP", "RelaySGDGrad"]},
    "pair of trees": {"topology": "double_binary_tree", "methods": ["RelaySGD", "DPSGD"]},
    "synthetic data": {"problem": "logistic", "drift": 2.0, "l2": 0.05, "d": 5},
    "real data": {"problem": "breast_cancer", "alpha": 0.5, "learning_rate": 0.05},
    "seeds": {"sigma2": 0.1, "replicas": 4, "d": 3, "steps": 60, "seed": 2},
    "theory": {"n": 8, "d": 3, "methods": ["DPSGD", "D2"], "sigma2": 1e-3, "theory": True},
    "matrices and minibatches": {
        "methods": ["RelaySGD", "DPSGD", "GTSAGA"],
        "mixing": "lazy(uniform(0.2))",
        "learning_rate": 0.1,
        "oracle": "Table(2)",
    },
    "sequence": {
        "methods": ["DPSGD"],
        "mixing": "one_peer_exponential",
        "topology": "exponential",
        "steps": 40,
    },
    "examples": {"methods": ["GTSARAH", "DPSGD"], "steps": 40, "learning_rate": 0.1},
    "liars": {
        "n": 8,
        "faults": "Byzantine([3], 'dissensus')",
        "methods": ["ClippedGossip", "DPSGD"],
    },
    "classes": {"problem": "wine", "alpha": math.inf, "learning_rate": 0.05, "problem_seed": 2},
}


def assert_nothing_is_cut_off(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (ax,) = figure.axes
    needed = ax.get_tightbbox(canvas.get_renderer())
    width, height = figure.bbox.size
    assert needed.x0 >= 0
    assert needed.y0 >= 0
    assert needed.x1 <= width
    assert needed.y1 <= height
    # The legend stands above the axes, where no curve is.
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param(choices, id=name, marks=pytest.mark.slow if k % 3 else ())
        for k, (name, choices) in enumerate(SCENES.items())
    ],
)
def test_the_code_makes_the_same_histories_and_the_same_picture(choices, real_pictures):
    explorer = rs.explore(**({"n": 16} | choices))
    assert explorer.histories
    assert "._" not in explorer.code
    assert max(map(len, explorer.code.splitlines())) <= 110
    namespace = executed(explorer.code)
    assert_same(namespace["histories"], explorer.histories)
    assert picture.png(namespace["figure"]) == explorer.picture.value
    assert_nothing_is_cut_off(namespace["figure"])


def test_the_code_follows_the_controls_while_it_is_shown():
    explorer = small()
    area, button = explorer.code_area, explorer.code_button
    assert area.layout.display == "none"
    button.click()
    assert area.layout.display != "none"
    assert area.value == explorer.code
    assert area.rows > 20
    explorer.controls["n"].value = 9
    explorer.rows[0].method.value = "D2"
    assert area.value == explorer.code
    assert_same(executed(area.value)["histories"], explorer.histories)
    button.click()
    assert area.layout.display == "none"


# -- parts, seeds, theory ---------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_every_part_that_has_a_name_is_offered_and_can_be_read(part):
    explorer = small(methods=["DPSGD"], steps=10, n=8)
    control = explorer.controls[part]
    arguments = explorer.controls[f"{part}_arguments"]
    assert {name for _, name in control.options} == {None, *OPTIONS[part].parts}
    assert arguments.layout.display == "none"
    for name in OPTIONS[part].parts:
        control.value = name
        assert arguments.layout.display is None
        # What a name stands for at first can be run, or it is said what is wrong with it.
        assert explorer.histories or explorer.scene.failures
        assert "cannot read" not in explorer.messages.value
        assert "report" not in explorer.messages.value
    control.value = None
    assert explorer.histories


def test_parts_take_effect():
    explorer = small(methods=["RelaySGD", "DPSGD"], topology="chain", faults="MessageDrop(0.5)")
    dropped, gossip = explorer.histories.values()
    for history in (dropped, gossip):
        assert history.config["faults"] == {"type": "MessageDrop", "probability": 0.5}
    explorer.controls["faults_arguments"].value = "0.25"
    for history in explorer.histories.values():
        assert history.config["faults"]["probability"] == 0.25
    explorer.controls["faults"].value = None
    explorer.controls["oracle"].value = "Minibatch"
    assert next(iter(explorer.histories.values())).oracle == rs.oracles.Minibatch(8)
    explorer.controls["mixing"].value = "lazy"
    relay, gossip = explorer.histories.values()
    W = rs.mixing.lazy(rs.mixing.metropolis(rs.topologies.chain(12)))
    assert abs(gossip.mixing - W).max() == 0
    assert relay.mixing is None
    assert "RelaySGD does not use a mixing matrix" in explorer.messages.value
    explorer.controls["sigma2"].value = 0.1
    assert "is one oracle and Minibatch(8) another; leave one out" in explorer.messages.value


def test_an_unknown_part_in_code_is_refused_like_others():
    explorer = small(methods=["DPSGD"])
    explorer.controls["oracle"].value = "Minibatch"
    explorer.controls["oracle_arguments"].value = "sise=4"
    assert "did you mean &#x27;size&#x27;" in explorer.messages.value
    explorer.controls["oracle_arguments"].value = "4"
    assert is_shown(explorer)


def test_seeds_are_replicas_with_a_band():
    explorer = small(sigma2=0.1, methods=["DPSGD"])
    explorer.controls["replicas"].value = 4
    (history,) = explorer.histories.values()
    assert history.frame.seed.unique().tolist() == [0, 1, 2, 3]
    (ax,) = picture.draw(explorer.scene).axes
    assert len(ax.collections) == 1


def test_theory_lies_over_the_curves():
    explorer = small(n=8, d=3, topology="chain", sigma2=1e-3, methods=["RelaySGD", "ChocoSGD"])
    explorer.controls["theory"].value = True
    relay, other = explorer.scene.curves
    expected = rs.theory.overlay(relay.history)
    np.testing.assert_array_equal(relay.overlay.prediction, expected.prediction)
    assert relay.overlay.floor == expected.floor
    assert other.overlay is None
    assert "no theory of CHOCO" in explorer.messages.value
    names = [text.get_text() for text in _legend(explorer)]
    assert names[2:] == list(picture.THEORY.values())
    explorer.controls["x"].value = "bits_sent"
    assert "theory is a curve over steps" in explorer.messages.value
    explorer.controls["x"].value = "step"
    explorer.controls["d"].value = 10
    explorer.controls["n"].value = 32
    assert explorer.scene.curves[0].overlay is not None
    explorer.controls["n"].value = 64
    assert "theory of RelaySGD takes longer than an answer may" in explorer.messages.value
    assert explorer.scene.curves[0].overlay is None


def test_rate_floor_and_stable_rates_are_told_beside_each_learning_rate():
    explorer = small(n=6, d=2, topology="chain", sigma2=1e-3, methods=["RelaySGD", "DPSGD"])
    relay, gossip = explorer.rows
    assert relay.told.value == ""
    explorer.controls["theory"].value = True
    problem = next(iter(explorer.histories.values())).problem
    given = problem, rs.topologies.chain(6), rs.algorithms.RelaySGD()
    linear = rs.theory.linearize(*given, 0.3)
    floor = linear.stationary(1e-3).suboptimality
    steps = math.log(10) / (-2 * math.log(linear.spectral_radius))
    numbers = f"ρ = {linear.spectral_radius:.5g} a step: a decade in {steps:.3g} steps"
    assert relay.told.value == f"{numbers}; noise floor {floor:.3g}<br>stable rates are being found"
    # A little at a time, and kept while the rate moves.
    while not explorer.find_the_rest(0.01):
        assert "being found" in gossip.told.value
    [(low, high)] = rs.theory.stable_learning_rates(*given)
    stable = f"stable for {low:.4g} &lt; γ &lt; {high:.4g}"
    assert relay.told.value.endswith(stable)
    search = explorer.scene.curves[0].search
    relay.take_rate(20.0)
    assert "it does not converge" in relay.told.value
    assert f'{stable}; <span style="color:#b00020">γ = 20 is not</span>' in relay.told.value
    assert explorer.scene.curves[0].search is search
    assert "<span" not in gossip.told.value
    # Another network has others; one that loses messages has none that are known.
    explorer.controls["n"].value = 5
    assert "being found" in relay.told.value
    explorer.controls["drop"].value = 0.1
    assert "stable" not in relay.told.value + gossip.told.value
    explorer.controls["theory"].value = False
    assert relay.told.value == ""


def test_a_notebook_finds_stable_rates_by_itself_while_sliders_move():
    async def used():
        explorer = small(n=4, d=2, methods=["D2"], theory=True)
        (row,) = explorer.rows
        for rate in (0.1, 0.2):
            assert "being found" in row.told.value
            row.take_rate(rate)
            await asyncio.sleep(0)
        for _ in range(2000):
            if "stable for 0 &lt; γ" in row.told.value:
                break
            await asyncio.sleep(0.01)
        assert "ρ = " in row.told.value
        return row.told.value

    assert "stable for 0 &lt; γ" in asyncio.run(used())


def test_a_search_for_stable_rates_that_fails_is_not_tried_again(monkeypatch):
    def failing(search, seconds):
        raise ValueError("no rate converges")

    monkeypatch.setattr(rs.theory.stability.WindowSearch, "go_on", failing)
    explorer = small(n=4, d=2, methods=["D2"], theory=True)
    assert explorer.find_the_rest(0.01)
    assert explorer.scene.curves[0].search is None
    assert explorer.rows[0].told.value.startswith("ρ = ")
    assert "stable" not in explorer.rows[0].told.value


def test_a_noise_floor_that_takes_long_comes_after_the_picture(monkeypatch):
    monkeypatch.setattr(budget, "MOST_FOR_FLOOR", 1000)
    explorer = small(n=6, d=2, topology="chain", sigma2=1e-3, methods=["DPSGD", "D2"], theory=True)
    before, told = explorer.picture.value, [row.told.value for row in explorer.rows]
    assert all("noise floor is being found" in each for each in told)
    assert all(curve.overlay.floor is None for curve in explorer.scene.curves)
    shown = []
    monkeypatch.setattr("relaysim.explorer.widget.png", lambda drawn: shown.append(drawn) or b"new")
    assert not explorer.find_the_rest(0.01)  # one at a time
    assert [curve.overlay.floor is None for curve in explorer.scene.curves] == [False, True]
    assert (len(shown), explorer.picture.value) == (1, b"new")
    assert explorer.find_the_rest()
    for row, curve in zip(explorer.rows, explorer.scene.curves, strict=True):
        expected = rs.theory.overlay(curve.history)
        assert (curve.overlay.floor, curve.overlay.band) == (expected.floor, expected.band)
        assert f"noise floor {expected.floor:.3g}" in row.told.value
        assert "stable for" in row.told.value
    # What is known of a rate stays while the other moves.
    explorer.rows[1].take_rate(0.2)
    assert "noise floor is being found" in explorer.rows[1].told.value
    assert (
        f"noise floor {explorer.scene.curves[0].overlay.floor:.3g}" in explorer.rows[0].told.value
    )
    assert before != b"new"


# -- buttons ---------------------------------------------------------------------------------------


def test_the_button_tunes_all_rates():
    explorer = small(n=6, d=2, methods=["D2", "DPSGD"], steps=200, target=1e-10, sigma2=0.1)
    problem = next(iter(explorer.histories.values())).problem
    best = rs.tune(problem, rs.topologies.ring(6), rs.algorithms.D2(), target=1e-10, max_steps=200)
    explorer.tune_button.click()
    exact, gossip = (row.learning_rate.value for row in explorer.rows)
    assert exact == float(f"{best.learning_rate:.3g}")
    assert gossip == 0.3  # it cannot be exact, and keeps what it has
    assert next(iter(explorer.histories)) == f"D², γ = {exact:g}"
    assert f"D² is below 1e-10 from step {best.steps:.0f} on at γ = {exact:g}" in (
        explorer.messages.value
    )
    assert (
        "no learning rate brings DP-SGD (gossip) below 1e-10 within 200" in explorer.messages.value
    )
    explorer.controls["topology_arguments"].value = "1"
    explorer.tune_button.click()
    assert "takes 1 arguments" in explorer.messages.value or "it is ring" in explorer.messages.value


def test_the_graph_is_shown_and_follows(real_pictures):
    explorer = small(methods=["DPSGD"], steps=10)
    assert explorer.graph.layout.display == "none"
    explorer.graph_button.value = True
    assert explorer.graph.layout.display is None
    shown = bytes(explorer.graph.value)
    assert shown.startswith(b"\x89PNG")
    explorer.controls["topology"].value = "double_binary_tree"
    assert explorer.graph.value != shown
    explorer.graph_button.value = False
    assert explorer.graph.layout.display == "none"


def test_picture_and_code_are_saved(tmp_path, monkeypatch, real_pictures):
    monkeypatch.chdir(tmp_path)
    explorer = small(methods=["DPSGD"], steps=10)
    explorer.save_name.value = "mine"
    explorer.save_button.click()
    assert "written: mine.png, mine.pdf, mine.py" in explorer.messages.value
    assert (tmp_path / "mine.png").read_bytes() == explorer.picture.value
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "mine.py").read_text(encoding="utf-8") == explorer.code
    explorer.save_name.value = "no/where"
    explorer.save_button.click()
    assert "there is no folder" in explorer.messages.value


# -- in time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "wanted", "made"),
    [
        (1e-3, 100, 100),  # all of them in the fifth of a second that runs have
        (1e-3, 10**6, 100),  # 200 and the short runs before would be too long
        (1e-5, 10**6, 10_000),
        (1.0, 50, 4),  # none is too slow for a few
    ],
)
def test_as_many_steps_are_made_as_there_is_time_for(step, wanted, made, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(budget, "_now", lambda: clock[0])

    def make(steps):
        clock[0] += 1e-3 + step * steps
        return steps

    assert budget.Budget(0.5, 1).run(wanted, make) == made
    assert clock[0] < 0.2 or step == 1.0


def test_a_method_that_is_done_leaves_its_time_to_the_others(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(budget, "_now", lambda: clock[0])

    def make(steps):
        clock[0] += 1e-4 * steps
        return steps

    time = budget.Budget(0.4, 2)
    first = time.run(10**6, make)
    time.next()
    assert time.run(10**6, make) >= first
    assert clock[0] < 0.16


def test_a_million_steps_are_answered_at_once_with_fewer(monkeypatch):
    monkeypatch.setattr(budget, "SECONDS", 0.5)
    began = time.thread_time()
    found = run(Settings(n=64, steps=10**6))
    assert time.thread_time() - began < 2
    for history in found.histories.values():
        steps = history.steps[-1]
        assert steps < 10**6
        assert f"{history.label}: the first {steps} of 1000000 steps" in " ".join(found.notes)
        assert len(history.steps) <= 2 * scene.RECORDS
    # What is written is what is drawn.
    for curve in found.curves:
        assert curve.given["steps"] == str(curve.history.steps[-1])


# -- trees, divergence and what cannot be drawn ----------------------------------------------------


def test_a_method_that_needs_a_tree_takes_a_spanning_tree_and_says_so():
    explorer = small(methods=["RelaySGD", "RelaySGDGrad", "DPSGD"], topology="complete")
    complete = rs.topologies.complete(12)
    relay, grad, gossip = explorer.histories.values()
    assert relay.topology == grad.topology == rs.topologies.spanning_tree(complete)
    assert gossip.topology == complete
    legend = [text.get_text() for text in _legend(explorer)]
    assert legend == [
        "RelaySGD on a spanning tree, γ = 0.3",
        "RelaySGD/Grad on a spanning tree, γ = 0.3",
        "DP-SGD (gossip), γ = 0.3",
    ]
    said = "RelaySGD needs a tree and runs on spanning_tree(complete(12), root=0)"
    assert said in explorer.messages.value
    assert "tree = rs.topologies.spanning_tree(topology)" in explorer.code
    explorer.controls["topology"].value = "star"
    assert explorer.messages.value == ""
    assert "tree" not in explorer.code
    assert _legend(explorer)[0].get_text() == "RelaySGD, γ = 0.3"


def _legend(explorer):
    return picture.draw(explorer.scene).axes[0].get_legend().get_texts()


def test_divergence_is_shown():
    explorer = small(methods=["RelaySGD", "D2", "DPSGD"], topology="complete", steps=100)
    explorer.rows[1].learning_rate.value = 10.0
    label = list(explorer.histories)[1]
    gone = explorer.histories[label]
    assert gone.diverged.all()
    first = gone.steps[gone.frame.suboptimality.isna()][0]
    assert label == f"D², γ = 10: diverged by step {first}"
    assert label in explorer.messages.value
    assert is_shown(explorer)
    # The two others are seen whole, and not flattened.
    (ax,) = picture.draw(explorer.scene).axes
    low, high = ax.get_ylim()
    for line in (ax.lines[0], ax.lines[2]):
        assert low < np.nanmin(line.get_ydata())
        assert np.nanmax(line.get_ydata()) < high < 1e5 * np.nanmax(line.get_ydata())
    explorer.rows[1].learning_rate.value = 0.3
    assert "diverged" not in explorer.messages.value


def test_a_curve_that_rises_far_is_cut_though_it_has_not_diverged():
    explorer = small(methods=["DPSGD", "RelaySGD"], learning_rate=[5.0, 0.3], steps=10)
    rising, falling = explorer.histories.values()
    assert not rising.diverged.any()
    assert last(rising) > 1e6 * last(falling)
    (ax,) = picture.draw(explorer.scene).axes
    low, high = ax.get_ylim()
    assert high < last(rising)
    assert low < last(falling)


def test_what_is_zero_has_no_curve_and_a_note(real_pictures):
    explorer = rs.explore(n=1, zeta2=0.0, topology="chain", methods=["DPSGD"], steps=20)
    explorer.controls["y"].value = "consensus_distance"
    assert "consensus_distance is 0 throughout" in explorer.messages.value
    assert is_shown(explorer)
    assert picture.png(executed(explorer.code)["figure"]) == explorer.picture.value


def test_the_same_twice_is_drawn_once():
    explorer = small(methods=["DPSGD", "DPSGD", "RelaySGD"])
    assert len(explorer.histories) == 2
    assert "DP-SGD (gossip), γ = 0.3 is there twice" in explorer.messages.value


WRONG = [
    ({"topology": "hypercube"}, "power of two of workers, not 12; the nearest are 8 and 16"),
    ({"topology": "random_regular", "topology_arguments": "3"}, "missing"),
    ({"topology": "random_regular", "topology_arguments": "degree=99, seed=0"}, "degree &lt; n"),
    ({"topology": "erdos_renyi", "topology_arguments": "p=0.01, seed=0"}, "is not connected"),
    ({"topology": "watts_strogatz", "topology_arguments": "k=("}, "cannot read"),
    ({"topology": "torus", "topology_arguments": "2, 4, 9"}, "it is torus(rows, cols)"),
    ({"topology": "torus", "topology_arguments": "50, 50"}, "takes at most 1024"),
    ({"topology": "torus", "topology_arguments": "__import__('os'), 2"}, "cannot read"),
    ({"n": 3, "topology": "barabasi_albert", "topology_arguments": "m=5, seed=0"}, "1 ≤ m &lt; n"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_what_cannot_be_made_is_said_and_can_be_mended(values, message, capsys):
    explorer = small()
    explorer.code_button.click()
    for name, value in values.items():
        explorer.controls[name].value = value
    assert message in explorer.messages.value
    assert not is_shown(explorer)
    assert explorer.histories == {}
    assert explorer.code == ""
    assert explorer.code_area.value.startswith("#")
    executed(explorer.code_area.value)
    explorer.controls["topology"].value = "ring"
    assert is_shown(explorer)
    assert len(explorer.histories) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("momentum=2", "DPSGD: momentum must lie in [0, 1), not 2"),
        ("momentom=0.5", "it is DPSGD(momentum=0.0, overlap=False, consensus=1.0)"),
        ("momentum=", "cannot read"),
        ("momentum=open('x')", "cannot read"),
        ("**{'momentum': 0.5}", "cannot read"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_a_method_that_cannot_run_leaves_the_others(arguments, message):
    explorer = small()
    explorer.rows[1].arguments.value = arguments
    assert message in explorer.messages.value
    assert list(explorer.histories) == ["RelaySGD on a spanning tree, γ = 0.3"]
    assert is_shown(explorer)
    assert_same(executed(explorer.code)["histories"], explorer.histories)


def test_a_pair_of_trees_is_for_relays_only():
    explorer = small(topology="double_binary_tree")
    assert "DPSGD cannot use a pair of trees" in explorer.messages.value
    (history,) = explorer.histories.values()
    assert isinstance(history.topology, rs.topologies.TreePair)


def test_data_without_its_extra_is_a_message(monkeypatch):
    explorer = small()
    problem_kinds._bundled.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    explorer.controls["problem"].value = "breast_cancer"
    assert "relaysim[data]" in explorer.messages.value
    assert not is_shown(explorer)


def test_an_error_of_ours_is_a_message_too(monkeypatch):
    explorer = small()

    def broken(self, settings):
        raise KeyError("lost")

    monkeypatch.setattr(Runner, "run", broken)
    explorer.controls["seed"].value = 1
    assert "please report it: KeyError" in explorer.messages.value
    assert not is_shown(explorer)


# -- the picture -----------------------------------------------------------------------------------


def test_one_method_with_two_options_is_two_curves_that_one_can_tell_apart():
    (ax,) = picture.draw(run(Settings(n=8, **SCENES["one method twice"]))).axes
    looks = [(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in ax.lines]
    assert len(set(looks)) == len(looks) == 5


def test_dashed_curves_lie_over_solid_ones():
    (ax,) = picture.draw(run(Settings(n=8, methods=["D2", "RelaySGD"]))).axes
    dashed, solid = ax.lines
    assert solid.get_linestyle() == "-"
    assert solid.get_zorder() < dashed.get_zorder()


# While loops are compiled, or read slowly, a bar says so.
@pytest.mark.usefixtures("step_by_step")
@pytest.mark.filterwarnings("default")
def test_in_a_kernel_nothing_but_the_explorer_appears():
    cells = [
        "import relaysim as rs",
        "explorer = rs.explore(n=8, steps=50)\nexplorer",
        "explorer.rows[0].learning_rate.value = 10.0\n"
        "explorer.controls['topology'].value = 'torus'\n"
        "explorer.rows[1].arguments.value = 'no=1'\n"
        "explorer.code_button.click()\n"
        "explorer.add_button.click()",
        "assert 'no=1' in explorer.messages.value\n"
        "assert 'diverged' in explorer.messages.value\n"
        "exec(explorer.code_area.value)\n"
        "assert list(histories) == list(explorer.histories)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [list(map(dict, cell.outputs)) for cell in notebook.cells]
    assert outputs[0] == outputs[2] == []
    (shown,) = outputs[1]
    assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    (drawn,) = outputs[3]  # by the code, as any picture of a notebook
    assert "image/png" in drawn["data"]
