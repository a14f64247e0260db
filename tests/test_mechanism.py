"""Pictures of how information spreads: what they show is what the network does."""

import base64
import io
import itertools
import json
import re

import matplotlib
import matplotlib.pyplot as plt
import networkx
import numpy as np
import pytest
from graphs import trees
from hypothesis import given, settings
from PIL import Image

import relaysim as rs

T = rs.topologies
chain, ring = T.chain, T.ring


@pytest.fixture(autouse=True)
def close_figures():
    matplotlib.use("agg")
    yield
    plt.close("all")


def hops(topology):
    lengths = dict(networkx.all_pairs_shortest_path_length(topology.to_networkx()))
    return np.array([[lengths[i][j] for j in range(topology.n)] for i in range(topology.n)])


# -- what is shown ---------------------------------------------------------------------------------


@given(tree=trees(2, 12))
@settings(max_examples=8)
def test_a_sum_holds_whom_it_can_have_heard_of_each_with_the_same_weight(tree):
    tree = rs.topologies.from_edges(*tree)
    shown = rs.analysis.relay_animation(tree, rounds=tree.diameter + 1)
    away = hops(tree)
    for t in range(shown.rounds + 1):
        heard = away <= t
        np.testing.assert_array_equal(shown.relay[t], heard / heard.sum(axis=1, keepdims=True))
        age = np.where(heard, np.maximum(away - 1, 0), np.nan)
        np.testing.assert_array_equal(shown.age[t], age)
    np.testing.assert_allclose(shown.relay[-1], 1 / tree.n, rtol=1e-15)


def test_the_first_round_is_that_of_relay_sgd():
    n = 6
    problem = rs.problems.random_quadratics(n=n, d=n, zeta2=1.0, seed=0)
    tree = rs.topologies.binary_tree(n)
    run = {"learning_rate": 0.0, "steps": 1, "x0": np.eye(n)}
    history = rs.simulate(problem, tree, rs.algorithms.RelaySGD(unheard="counts"), **run)
    shown = rs.analysis.relay_animation(tree, rounds=1)
    np.testing.assert_allclose(shown.relay[1], history.x, rtol=1e-15)


def test_gossip_shows_powers_of_its_matrix():
    shown = rs.analysis.relay_animation(chain(6), rounds=7)
    W = rs.mixing.metropolis(chain(6)).toarray()
    for t in range(8):
        np.testing.assert_allclose(shown.gossip[t], np.linalg.matrix_power(W, t), atol=1e-15)
    on_ring = rs.analysis.relay_animation(chain(6), rounds=2, gossip=ring(6))
    W = rs.mixing.metropolis(ring(6)).toarray()
    np.testing.assert_allclose(on_ring.gossip[2], W @ W, atol=1e-15)


def test_gossip_with_a_sequence_of_matrices():
    graph, matrices = rs.topologies.exponential(8), rs.mixing.one_peer_exponential(8)
    shown = rs.analysis.relay_animation(chain(8), rounds=3, gossip=graph, mixing=matrices)
    first, second = (W.toarray() for W in matrices[:2])
    np.testing.assert_allclose(shown.gossip[2], second @ first, atol=1e-15)
    np.testing.assert_allclose(shown.gossip[3], 1 / 8, atol=1e-15)


def test_the_picture_has_the_numbers_of_its_round():
    shown = rs.analysis.relay_animation(chain(5), worker=2, rounds=4)
    for t in (0, 3, 1):
        figure = shown.show(t)
        assert figure is shown.figure
        images = [image for ax in figure.axes for image in ax.images]
        for image, weights in zip(images, (shown.relay[t], shown.gossip[t]), strict=True):
            np.testing.assert_array_equal(image.get_array().filled(0), weights)
        clouds = [c for ax in figure.axes for c in ax.collections if len(c.get_offsets()) == 5]
        rows = [workers.get_array().filled(0) for workers in clouds]
        np.testing.assert_array_equal(rows, [shown.relay[t][2], shown.gossip[t][2]])
        ages = {}
        for line in figure.axes[1].lines:
            ages |= {(i, j): int(line.get_marker()[1:-1]) for j, i in line.get_xydata().astype(int)}
        expected = {(i, j): shown.age[t][i, j] for i, j in np.argwhere(np.isfinite(shown.age[t]))}
        assert ages == expected
        said = " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
        assert (f"round {t}" if t else "start") in said
    assert "holds 2 to 3 of 5 workers" in said


def test_negative_weights_are_shown_by_their_size():
    star = rs.topologies.star(6)
    mixing = rs.mixing.best_constant(star)
    shown = rs.analysis.relay_animation(star, rounds=2, mixing=mixing)
    assert shown.gossip[1].min() < 0
    figure = shown.show(1)
    image = figure.axes[3].images[0].get_array()
    np.testing.assert_array_equal(image.filled(0), np.abs(mixing.toarray()))
    assert figure.axes[-1].get_ylabel().startswith("Absolute weight")
    plain = rs.analysis.relay_animation(star, rounds=2).figure
    assert plain.axes[-1].get_ylabel().startswith("Weight")


@pytest.mark.parametrize("n", [1, 2, 25])
def test_trees_of_any_size(n, tmp_path):
    shown = rs.analysis.relay_animation(chain(n), rounds=2)
    assert shown.save(tmp_path / "relay.gif", dpi=30).stat().st_size > 0
    numbered = "age" in shown.figure.axes[1].get_xlabel()
    assert numbered == (n <= 20)


def test_the_worker_shown_is_one_who_waits_longest():
    for tree in (chain(7), rs.topologies.star(6), rs.topologies.binary_tree(15)):
        shown = rs.analysis.relay_animation(tree, rounds=tree.diameter)
        last = shown.relay[tree.diameter - 1][shown.worker]
        assert (last == 0).any()


def test_matplotlib_shows_an_animation_only_once():
    rs.analysis.relay_animation(chain(4), rounds=2)
    assert not plt.get_fignums()


# -- files -----------------------------------------------------------------------------------------


def test_an_animation_is_saved_as_gif(tmp_path):
    shown = rs.analysis.relay_animation(chain(4), rounds=3)
    path = shown.save(tmp_path / "relay.gif", fps=4, dpi=40)
    with Image.open(path) as movie:
        assert movie.n_frames == 4
        frames, lasts = [], []
        for t in range(4):
            movie.seek(t)
            frames.append(np.asarray(movie.convert("L"), dtype=float))
            lasts.append(movie.info["duration"])
    assert all(np.abs(b - a).max() > 50 for a, b in itertools.pairwise(frames))
    # The last picture stands for a while.
    assert lasts == [250, 250, 250, 750]
    width, height = 40 * shown.figure.get_size_inches()
    assert frames[0].shape == pytest.approx((height, width), abs=1)


def test_an_animation_plays_in_a_notebook():
    shown = rs.analysis.relay_animation(chain(4), rounds=2)
    page = shown._repr_html_()
    still, played = page.split("<script>")
    settings = json.loads(re.search(r"= (\{\"frames\".*\});", played).group(1))
    pictures = [base64.b64decode(frame.partition(",")[2]) for frame in settings["frames"]]
    assert len(pictures) == 3
    size = np.round(80 * shown.figure.get_size_inches())
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == pytest.approx(size, abs=1)
    assert len(set(pictures)) == 3
    assert page.isascii(), "a page may have another encoding"
    # The first stands there where scripts do not run, and nothing is fetched from elsewhere.
    assert settings["frames"][0] in still
    assert "http" not in page.replace("data:image/png", "")
    assert shown._repr_html_() is page
    assert shown.to_jshtml() != page, "two in one notebook do not share an id"


def test_an_animation_is_saved_as_a_page(tmp_path):
    tree = T.Topology(3, [(0, 1), (1, 2)], '<b>"chain"</b>')
    page = rs.analysis.relay_animation(tree, rounds=1).save(tmp_path / "relay.html", fps=4, dpi=30)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert '"interval": 250.0' in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_saving_leaves_the_figure_as_it_was(tmp_path):
    shown = rs.analysis.relay_animation(chain(4), rounds=2)
    shown.show(1)
    before, settings_before = shown.figure.dpi, dict(matplotlib.rcParams)
    shown.save(tmp_path / "relay.html", dpi=30)
    assert shown.figure.dpi == before
    np.testing.assert_array_equal(
        shown.figure.axes[1].images[0].get_array().filled(0), shown.relay[1]
    )
    assert dict(matplotlib.rcParams) == settings_before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"topology": ring(8)}, ValueError, "8 workers and 8 edges; use .*spanning_tree"),
        ({"topology": rs.topologies.double_binary_tree(8)}, TypeError, "topology.first"),
        ({"topology": "chain"}, TypeError, "needs a tree, not 'chain'"),
        ({"gossip": ring(9)}, ValueError, r"same 8 workers, not ring\(9\)"),
        ({"mixing": np.eye(8)}, ValueError, "never exchange anything"),
        ({"worker": 8}, ValueError, "one of 0 … 7, not 8"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
    ],
)
def test_animations_say_what_is_wrong(options, error, message):
    with pytest.raises(error, match=message):
        rs.analysis.relay_animation(**({"topology": chain(8)} | options))


def test_saving_says_what_is_wrong(tmp_path):
    shown = rs.analysis.relay_animation(chain(3), rounds=1)
    with pytest.raises(ValueError, match=r"must end in .gif or .html, not 'relay.mov'"):
        shown.save(tmp_path / "relay.mov")
    with pytest.raises(ValueError, match="fps must be positive"):
        shown.save(tmp_path / "relay.gif", fps=0)
    with pytest.raises(FileNotFoundError, match="no folder"):
        shown.save(tmp_path / "none" / "relay.gif")
    with pytest.raises(ValueError, match=r"rounds 0 … 1, not 2"):
        shown.show(2)


# -- space and time --------------------------------------------------------------------------------


def run(algorithm=None, topology=None, **options):
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    options = {"learning_rate": 0.3, "steps": 40, "keep_iterates": True} | options
    algorithm = rs.algorithms.RelaySGD() if algorithm is None else algorithm
    return rs.simulate(problem, chain(8) if topology is None else topology, algorithm, **options)


def squares_of(ax):
    """The numbers behind the colours, ``(n, records)``."""
    (picture,) = ax.images
    return np.ma.filled(picture.get_array(), np.nan)


@pytest.mark.parametrize(
    ("reference", "column"), [("mean", "consensus_distance"), ("optimum", "distance")]
)
def test_spacetime_shows_what_the_history_averages(reference, column):
    history = run(x0=np.random.default_rng(0).normal(size=(8, 3)))
    ax = rs.plots.spacetime(history, reference=reference)
    found = squares_of(ax)
    assert found.shape == (8, 41)
    np.testing.assert_allclose(found.mean(axis=0), history.frame[column], rtol=1e-12)
    assert ax.get_xlabel() == "Steps"
    assert ax.get_ylabel() == "Worker"
    bar = ax.figure.axes[1].get_ylabel()
    assert reference in bar
    assert "squared unit of x" in bar
    assert isinstance(ax.images[0].norm, matplotlib.colors.LogNorm)


def test_spacetime_of_a_replica():
    history = run(learning_rate=[0.1, 0.4])
    frame = history.frame[history.frame.replica == 1]
    found = squares_of(rs.plots.spacetime(history, replica=1))
    np.testing.assert_allclose(found[:, 1:].mean(axis=0), frame.consensus_distance[1:], rtol=1e-12)


def test_equal_workers_have_the_colour_of_the_smallest_distance():
    history = run()
    ax = rs.plots.spacetime(history)
    (picture,) = ax.images
    colors = picture.cmap(picture.norm(picture.get_array()))
    np.testing.assert_array_equal(colors[:, 0], np.broadcast_to(picture.cmap(0.0), (8, 4)))
    assert (history.frame.consensus_distance == 0).sum() == 1


def test_records_stand_at_their_steps():
    history = run(steps=60, record=[0, 10, 20, 60])
    (picture,) = rs.plots.spacetime(history).images
    np.testing.assert_array_equal(picture._Ax, [-5, 5, 15, 40, 80])
    history = run(steps=0)
    assert squares_of(rs.plots.spacetime(history)).shape == (8, 1)


def test_a_run_that_diverged_is_grey():
    history = run(rs.algorithms.D2(), ring(8), learning_rate=9.0, steps=300)
    assert history.diverged.all()
    found = squares_of(rs.plots.spacetime(history))
    assert np.isnan(found[:, -1]).all()
    assert np.isfinite(found[:, 0]).all()


@pytest.mark.parametrize(
    ("run_with", "options", "message"),
    [
        ({"keep_iterates": False}, {}, "keep_iterates=True"),
        ({}, {"replica": 1}, "one of 0 … 0, not 1"),
        ({}, {"reference": "median"}, "'mean' or 'optimum', not 'median'"),
    ],
)
def test_spacetime_says_what_is_wrong(run_with, options, message):
    with pytest.raises(ValueError, match=message):
        rs.plots.spacetime(run(**run_with), **options)
