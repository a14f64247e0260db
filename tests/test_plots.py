"""Pictures: what is drawn is what was recorded; how it looks was checked by eye."""

import functools
import itertools
import types

import matplotlib
import matplotlib.pyplot as plt
import networkx
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER
from scipy.stats import wasserstein_distance

import relaysim as rs
from relaysim import plots
from relaysim.figures import heterogeneity
from relaysim.figures.compression import LINES as COMPRESSION_LINES
from relaysim.plots.ticks import log_ticks
from relaysim.theory.overlay import _asymptote


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


def test_tuning_plot_marks_the_choice():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    tuning = rs.tune(problem, rs.topologies.ring(8), rs.algorithms.D2(), target=1e-6)
    ax = tuning.plot()
    assert ax.lines[1].get_xdata() == [tuning.learning_rate]
    assert ax.lines[1].get_ydata() == [tuning.steps]


# -- topologies ------------------------------------------------------------------------------------

T = rs.topologies
GRID = T.from_networkx(networkx.grid_2d_graph(4, 6))
STRUCTURED = (
    T.chain(2),
    T.chain(16),
    T.chain(33),
    T.star(4),
    T.star(16),
    T.binary_tree(5),
    T.binary_tree(31),
    T.regular_tree(40, 4),
    T.spanning_tree(T.social_network()),
    T.ring(16),
    T.complete(9),
    T.torus(3, 3),
    T.torus(4, 6),
    T.torus(2, 5),
    GRID,
    T.hypercube(8),
    T.hypercube(16),
    T.hypercube(32),
    T.two_cliques(7),
    T.two_cliques(12),
)
OTHERS = (
    T.chain(1),
    T.exponential(16),
    T.complete(64),
    T.hypercube(64),
    T.watts_strogatz(20, 4, 0.2, seed=0),
    T.random_regular(20, 3, seed=0),
    T.social_network(),
    T.barabasi_albert(64, 2, seed=0),
    T.erdos_renyi(60, 0.05, seed=0),
    T.from_edges(9, []),
    T.erdos_renyi(300, 0.02, seed=0),
    T.erdos_renyi(450, 0.02, seed=0),
)


def drawn_workers(ax, topology):
    (workers,) = [c for c in ax.collections if len(c.get_offsets()) == topology.n]
    return workers


def drawn_edges(ax, topology):
    """The line of each edge, as points in the plane."""
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(found) == (1 if len(topology.edges) else 0)
    lines = found[0].get_segments() if found else []
    assert len(lines) == len(topology.edges)
    return lines


def inches_of(ax, points):
    return ax.transData.transform(points) / ax.figure.dpi


@pytest.mark.parametrize(
    ("topology", "colored"),
    [
        pytest.param(topology, colored, id=f"{colored}-{topology!r}", marks=marks)
        for k, topology in enumerate(STRUCTURED + OTHERS)
        for colored, marks in ((k % 2 == 0, ()), (k % 2 == 1, pytest.mark.slow))
    ],
)
def test_topologies_are_drawn_without_overlap(topology, colored):
    ax = topology.draw(values=np.arange(topology.n) if colored else None)
    ax.figure.draw_without_rendering()
    workers = drawn_workers(ax, topology)
    at = inches_of(ax, workers.get_offsets())
    ends = at[topology.edges]
    for line, (start, end) in zip(drawn_edges(ax, topology), ends, strict=True):
        np.testing.assert_allclose(inches_of(ax, line[[0, -1]]), [start, end], atol=1e-9)
    diameter = np.sqrt(workers.get_sizes()[0]) / 72
    assert diameter > 0.03
    apart = np.hypot(*(at[:, None] - at).transpose(2, 0, 1)) + 9 * np.eye(topology.n)
    assert apart.min() > 1.05 * diameter
    # Nothing is cut off.
    low, high = at.min(axis=0) - diameter / 2, at.max(axis=0) + diameter / 2
    assert (low >= 0).all()
    assert (high <= ax.figure.get_size_inches()).all()
    if topology.n <= 32:
        assert [text.get_text() for text in ax.texts] == [str(k) for k in range(topology.n)]
        assert min(text.get_fontsize() for text in ax.texts) >= 4.5


@pytest.mark.parametrize("topology", STRUCTURED, ids=repr)
def test_no_edge_runs_through_a_third_worker(topology):
    ax = topology.draw()
    ax.figure.draw_without_rendering()
    workers = drawn_workers(ax, topology)
    at = inches_of(ax, workers.get_offsets())
    radius = np.sqrt(workers.get_sizes()[0]) / 72 / 2
    for edge, line in zip(topology.edges, drawn_edges(ax, topology), strict=True):
        points = inches_of(ax, line)
        others = np.delete(at, edge, axis=0)
        if not len(others):
            continue
        start, step = points[:-1], np.diff(points, axis=0)
        along = ((others[:, None] - start) * step).sum(axis=2) / (step**2).sum(axis=1)
        nearest = start + np.clip(along, 0, 1)[..., None] * step
        assert np.hypot(*(others[:, None] - nearest).transpose(2, 0, 1)).min() > 0.9 * radius


@pytest.mark.parametrize("topology", [t for t in STRUCTURED if t.is_tree] + [GRID], ids=repr)
def test_edges_of_trees_and_grids_do_not_cross(topology):
    ends = np.array([line[[0, -1]] for line in drawn_edges(topology.draw(), topology)])

    def side(line, point):
        (ax, ay), (bx, by) = line
        return np.sign((bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax))

    for k, first in enumerate(topology.edges):
        for m, second in enumerate(topology.edges[:k]):
            if not set(first) & set(second):
                crosses = side(ends[k], ends[m][0]) != side(ends[k], ends[m][1])
                crosses &= side(ends[m], ends[k][0]) != side(ends[m], ends[k][1])
                assert not crosses, (first, second)


def test_structure_is_seen_on_paper():
    """Rings and stars are round, chains straight, grids and tori square, hypercubes parallel."""

    def places(topology):
        return np.asarray(drawn_workers(topology.draw(), topology).get_offsets())

    np.testing.assert_allclose(np.hypot(*places(T.ring(9)).T), 1)
    np.testing.assert_allclose(places(T.ring(9))[0], [0, 1], atol=1e-12)
    hub, *leaves = places(T.star(9))
    np.testing.assert_allclose(np.hypot(*(leaves - hub).T), 1)
    assert (places(T.chain(12))[:, 1] == 0).all()
    for grid in (T.torus(4, 6), GRID):
        rows, columns = np.divmod(np.arange(24), 6)
        np.testing.assert_array_equal(places(grid), np.stack([columns, -rows], axis=1))
    cube = T.hypercube(16)
    at = places(cube)
    for digit in range(4):
        zero = np.flatnonzero((np.arange(16) >> digit) % 2 == 0)
        steps = at[zero + 2**digit] - at[zero]
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], (8, 2)), atol=1e-12)
    tree = places(T.binary_tree(15))
    depths = T.binary_tree(15).distances_from(0)
    np.testing.assert_array_equal(tree[:, 1], -depths)


@pytest.mark.parametrize(
    "graph", [T.hypercube(16), T.torus(4, 6), GRID, T.two_cliques(12)], ids=repr
)
def test_structure_is_known_by_the_edges_alone(graph):
    def places(topology):
        return np.asarray(drawn_workers(plots.draw_topology(topology), topology).get_offsets())

    members = ("n", "edges", "degrees", "is_tree", "distances_from", "to_networkx")
    of_another_class = types.SimpleNamespace(**{name: getattr(graph, name) for name in members})
    np.testing.assert_array_equal(places(of_another_class), places(graph))
    edges = graph.edges.tolist()
    missing = next([0, k] for k in range(1, graph.n) if [0, k] not in edges)
    for altered in ([*edges, missing], edges[1:], [*edges[1:], missing]):
        altered = T.from_edges(graph.n, altered)
        assert not np.array_equal(places(altered), places(graph))


def test_a_torus_bends_the_edges_that_join_its_sides():
    torus = T.torus(3, 4)
    lengths = [len(line) for line in drawn_edges(torus.draw(), torus)]
    rows, columns = np.divmod(torus.edges, 4)
    wraps = (np.ptp(rows, axis=1) > 1) | (np.ptp(columns, axis=1) > 1)
    assert [length > 2 for length in lengths] == wraps.tolist()
    assert wraps.sum() == 7


def test_distances_on_paper_are_like_those_in_the_graph():
    graph = T.social_network()
    hops = np.array([graph.distances_from(k) for k in range(graph.n)])
    above = np.triu_indices(graph.n, 1)

    def stress(at):
        """Σ (‖p_i − p_j‖ − d_ij)² / d_ij² at the best scale."""
        paper = np.hypot(*(at[:, None] - at).transpose(2, 0, 1))[above] / hops[above]
        return ((paper * paper.sum() / (paper**2).sum() - 1) ** 2).sum()

    at = np.asarray(drawn_workers(graph.draw(), graph).get_offsets())
    other = networkx.kamada_kawai_layout(graph.to_networkx())
    other = np.array([other[k] for k in range(graph.n)])
    # Another algorithm for the same; ours then moves workers apart that are too close.
    assert stress(at) < 1.1 * stress(other)
    assert stress(at) < 0.5 * stress(np.random.default_rng(0).normal(size=at.shape))
    again = np.asarray(drawn_workers(graph.draw(), graph).get_offsets())
    np.testing.assert_array_equal(at, again)


def test_workers_have_the_colours_of_their_values():
    tree = T.binary_tree(15)
    values = 10.0 ** np.arange(15)
    values[[3, 4]] = np.nan, 0.0
    ax = tree.draw(values=values, value_label="Error (m)", norm="log", cmap="cividis")
    ax.figure.canvas.draw()
    colors = drawn_workers(ax, tree).get_facecolors()
    norm = matplotlib.colors.LogNorm(1.0, 1e14)
    known = np.delete(np.arange(15), [3, 4])
    expected = matplotlib.colormaps["cividis"](norm(values[known]))
    np.testing.assert_allclose(colors[known], expected, atol=0.01)
    grey = matplotlib.colors.to_rgba("#d9d9d9")
    np.testing.assert_allclose(colors[[3, 4]], [grey, grey])
    (bar,) = [axes for axes in ax.figure.axes if axes is not ax]
    assert bar.get_ylabel() == "Error (m)"
    assert bar.get_ylim() == pytest.approx((1.0, 1e14))


@pytest.mark.parametrize("values", [np.arange(15), np.full(15, 2.0), np.full(15, np.nan)])
def test_any_values_have_a_colour_bar(values):
    ax = T.binary_tree(15).draw(values=values, value_label="Age")
    ax.figure.canvas.draw()
    ticks = [text.get_text() for text in ax.figure.axes[1].get_yticklabels()]
    assert ticks
    if np.isfinite(values).all():
        assert all("." not in tick for tick in ticks)


def test_a_norm_of_matplotlibs_is_left_as_it_was():
    norm = matplotlib.colors.SymLogNorm(1.0)
    ax = T.ring(5).draw(values=[-10, -1, 0, 1, 10], norm=norm)
    assert drawn_workers(ax, T.ring(5)).norm.vmax == 10
    assert norm.vmax is None


def test_numbers_can_be_read_on_every_colour():
    ring = T.ring(30)
    ax = ring.draw(values=np.arange(30))
    ax.figure.canvas.draw()
    colors = drawn_workers(ax, ring).get_facecolors()
    luminances = [linear(color[:3]) @ TO_XYZ[1] for color in colors]
    for text, below in zip(ax.texts, luminances, strict=True):
        ink = linear(matplotlib.colors.to_rgb(text.get_color())) @ TO_XYZ[1]
        low, high = sorted([ink, below])
        assert (high + 0.05) / (low + 0.05) > 4.5


def test_numbers_are_left_out_where_they_cannot_be_read():
    assert not T.ring(400).draw().texts
    assert not T.ring(8).draw(labels=False).texts
    assert len(T.ring(400).draw(labels=True).texts) == 400


def test_a_tree_pair_is_drawn_as_two_with_one_scale():
    pair = T.double_binary_tree(8)
    first, second = pair.draw(values=np.arange(8), value_label="Age")
    clouds = [drawn_workers(ax, pair.first) for ax in (first, second)]
    np.testing.assert_array_equal(*(cloud.get_array() for cloud in clouds))
    assert clouds[0].norm is clouds[1].norm
    assert first.get_title() == "even coordinates"
    assert len(first.figure.axes) == 3
    # The second tree is the mirror image of the first.
    mirrored = np.asarray(clouds[1].get_offsets())[::-1]
    np.testing.assert_array_equal(np.sort(mirrored[:, 1]), np.sort(clouds[0].get_offsets()[:, 1]))


def test_topologies_are_drawn_into_given_axes():
    axes = plt.subplots(1, 2)[1]
    assert T.ring(8).draw(ax=axes[0]) is axes[0]
    assert T.chain(8).draw(ax=axes[1], color="#ff0000", alpha=0.5) is axes[1]
    assert drawn_workers(axes[1], T.chain(8)).get_alpha() == 0.5
    drawn = T.double_binary_tree(8).draw(ax=plt.subplots(1, 2)[1])
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": np.arange(7)}, r"each of the 8 workers, of shape \(8,\), not \(7,\)"),
        ({"values": np.zeros(8), "norm": "log"}, "none of the values is above 0"),
        ({"values": np.zeros(8), "norm": "sqrt"}, "'linear', 'log' or a norm"),
    ],
)
def test_drawing_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        T.ring(8).draw(**options)


def test_only_topologies_are_drawn():
    with pytest.raises(TypeError, match="not 'ring'"):
        plots.draw_topology("ring")


# -- looks -----------------------------------------------------------------------------------------

# sRGB to XYZ (IEC 61966-2-1), white being D65.
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ.sum(axis=1)
# What dichromats see, on linear RGB: Machado, Oliveira, Fernandes, "A physiologically-based model for
# simulation of color vision deficiency", IEEE TVCG 2009, severity 1.
EYES = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
LABELS = sorted({algorithm.label for algorithm in ALGORITHMS + BY_NUMBER})
OWN_LABELS = [
    f"{name} {k}" for name in ("A method of one's own", "DIGing", "μ²-SGD") for k in range(10)
]
# A difference of so much in CIELAB, or of an octave in the lengths of strokes and gaps, is clear.
CLEAR_COLOUR = 20.0


def linear(color):
    color = np.asarray(color)
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


@functools.cache
def lab(color, eye):
    """CIELAB of a colour as an eye sees it."""
    seen = np.clip(EYES[eye] @ linear(matplotlib.colors.to_rgb(color)), 0, 1)
    ratio = TO_XYZ @ seen / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def strokes_and_gaps(dash):
    """Lengths in octaves; a solid line is one of long strokes with gaps that are not seen."""
    lengths = (32.0, 0.5) if dash == "-" else dash[1]
    return np.log2(lengths[::2]), np.log2(lengths[1::2])


@functools.cache
def dash_distance(first, second):
    """How far strokes, and gaps, have to be stretched to turn one into the other, in octaves."""
    pairs = zip(strokes_and_gaps(first), strokes_and_gaps(second), strict=True)
    return sum(wasserstein_distance(a, b) for a, b in pairs)


def difference(first, second, seen):
    """How clearly two looks differ, 1 being clear: in grey, or to an eye."""
    if seen == "grey":
        color = abs(lab(first["color"], "usual")[0] - lab(second["color"], "usual")[0])
    else:
        color = np.linalg.norm(lab(first["color"], seen) - lab(second["color"], seen))
    return np.hypot(color / CLEAR_COLOUR, dash_distance(first["linestyle"], second["linestyle"]))


@pytest.mark.parametrize("seen", ["grey", *EYES])
def test_methods_can_be_told_apart(seen):
    looks = {label: plots.method_style(label) for label in [*LABELS, "a method of one's own"]}
    for (one, first), (other, second) in itertools.combinations(looks.items(), 2):
        assert difference(first, second, seen) >= 1, (one, other, seen)


@pytest.mark.parametrize("seen", ["grey", *EYES])
def test_a_method_without_a_look_gets_one_apart_from_all_in_the_table(seen):
    labels = {algorithm.label for algorithm in (*ALGORITHMS, *ASYNCHRONOUS, *BY_NUMBER)}
    known = {label: plots.method_style(label) for label in labels}
    for own in (f"My method {k}" for k in range(200)):  # so that every dash comes in both shades
        look = plots.method_style(own)
        for label, other in known.items():
            assert difference(look, other, seen) >= 1, (own, label, seen)


def test_methods_without_a_look_differ_from_each_other():
    looks = [plots.method_style(label) for label in OWN_LABELS]
    assert len({tuple(look.values()) for look in looks}) == len(OWN_LABELS)
    assert plots.method_style(OWN_LABELS[0]) == looks[0]
    pairs = itertools.combinations(looks, 2)
    alike = [difference(*pair, "grey") < 1 for pair in pairs]
    # Of 12 lines in two shades chance takes the same for one pair in 24.
    assert np.mean(alike) < 1.5 / 24


def test_methods_without_a_look_are_dark_on_white_and_not_of_matplotlibs_cycle():
    cycle = {matplotlib.colors.to_hex(f"C{k}") for k in range(10)}
    for label in OWN_LABELS:
        color = plots.method_style(label)["color"]
        luminance = linear(matplotlib.colors.to_rgb(color)) @ TO_XYZ[1]
        assert 1.05 / (luminance + 0.05) > 7, label
        assert color not in cycle


def test_two_methods_of_ones_own_differ_in_one_picture():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    mine, yours = (type(name, (rs.algorithms.D2,), {"label": name}) for name in ("Mine", "Yours"))
    run = {"learning_rate": 0.3, "steps": 20}
    ax = None
    for method in (mine(), yours()):
        ax = rs.simulate(problem, T.ring(8), method, **run).plot(ax=ax)
    first, second = ax.lines
    assert first.get_color() == plots.method_style("Mine")["color"]
    assert first.get_color() != second.get_color()
    assert first._unscaled_dash_pattern != second._unscaled_dash_pattern


def test_the_measure_of_looks_sees_what_is_alike():
    red, green = ({"color": color, "linestyle": "-"} for color in ("#c05050", "#6d8a32"))
    assert difference(red, green, "usual") > 1
    assert difference(red, green, "deuteranopia") < 1
    assert difference(red, green, "grey") < 1
    dashed = [{"color": "k", "linestyle": (0, dash)} for dash in ((8, 2, 2, 2), (2, 2, 6, 2))]
    assert difference(*dashed, "grey") < 1
    assert difference(red, red, "usual") == 0


def test_every_method_has_a_colour_and_a_dash_of_its_own():
    looks = [plots.method_style(label) for label in LABELS]
    assert len({look["color"] for look in looks}) == len(LABELS)
    assert len({str(look["linestyle"]) for look in looks}) == len(LABELS)
    assert "a method of one's own" not in LABELS


def test_every_compressor_has_a_look_of_its_own():
    """A marker of its own, and clear without it, by lightness and dash."""
    looks = {name: plots.compressor_style(name) for name in rs.compressors.__all__}
    assert len({look["marker"] for look in looks.values()}) == len(looks)
    for (one, first), (other, second) in itertools.combinations(looks.items(), 2):
        assert difference(first, second, "grey") >= 1, (one, other)
    assert plots.compressor_style(rs.compressors.TopK(3)) == looks["TopK"]
    for name, line in COMPRESSION_LINES.items():
        if line.tuned:
            compressor = line.make(20, 1.0).compressor
            assert line.look == plots.compressor_style(compressor), name
    with pytest.raises(ValueError, match=r"compressor must be one of 'Identity', .*, not 'int'"):
        plots.compressor_style(3)


def test_a_method_looks_the_same_in_every_picture():
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    D2 = rs.algorithms.D2()
    drawn = [
        rs.simulate(problem, T.ring(8), D2, learning_rate=0.3, steps=20).plot().lines[0],
        rs.tune(problem, T.ring(8), D2, target=1e-3).plot().lines[0],
    ]
    look = plots.method_style("D²")
    for line in drawn:
        assert line.get_color() == look["color"]
        assert line._unscaled_dash_pattern == (0, look["linestyle"][1])


def test_legends_show_the_whole_of_a_dash():
    smallest_font = plots.STYLE["font.size"] * 0.833  # "small"
    handle = plots.STYLE["legend.handlelength"] * smallest_font
    for label in [*LABELS, *OWN_LABELS]:
        dash = plots.method_style(label)["linestyle"]
        if dash != "-":
            assert sum(dash[1]) * plots.STYLE["lines.linewidth"] <= handle, label


def many_curves(n=16, labels=(), steps=300):
    """All methods that run on a ring or a chain, into one picture."""
    problem = rs.problems.random_quadratics(n=n, d=3, zeta2=1.0, seed=0)
    ax = None
    for algorithm in labels:
        graph = T.chain(n) if algorithm.uses == "relay" else T.ring(n)
        run = {"learning_rate": 0.2, "steps": steps}
        ax = rs.simulate(problem, graph, algorithm, **run).plot(ax=ax)
    return ax


@pytest.mark.parametrize(
    "draw",
    [
        lambda: many_curves(labels=ALGORITHMS[:1]),
        lambda: many_curves(labels=[rs.algorithms.RelaySGD(), rs.algorithms.DPSGD()], steps=3),
        lambda: many_curves(labels=[ALGORITHMS[k] for k in (0, 9, 13, 17, 21, 22, 23, 24, 26, 29)]),
        lambda: noisy_history().plot(theory=True),
        lambda: noisy_history(learning_rate=[0.1, 0.2, 0.3]).plot(theory=True),
        lambda: noisy_history(steps=5000, record=5).plot(y="consensus_distance"),
        lambda: rs.tune(
            rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0),
            T.ring(8),
            rs.algorithms.D2(),
            target=1e-3,
        ).plot(),
    ],
    ids=["one", "short", "ten", "theory", "theories", "noise", "tuning"],
)
def test_legends_hide_no_curve(draw):
    ax = draw()
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    boxes += [handle.get_window_extent() for handle in legend.legend_handles]
    box = Bbox.union(boxes)
    for line in ax.lines:
        points = ax.transData.transform(line.get_xydata())
        # Steps of less than a pixel.
        for start, end in itertools.pairwise(points):
            if np.isfinite([start, end]).all():
                along = np.linspace(0, 1, 2 + int(np.hypot(*(end - start))))[:, None]
                x, y = (start + along * (end - start)).T
                for entry in boxes:
                    inside = (entry.x0 < x) & (x < entry.x1) & (entry.y0 < y) & (y < entry.y1)
                    assert not inside.any(), line.get_label()
    assert box.x1 <= ax.figure.bbox.x1 + 1
    assert box.y0 >= -1


def test_every_column_has_a_label_with_what_it_counts(history):
    measures = set(history.frame.columns) - {"replica", "seed", "learning_rate"}
    assert measures < set(plots.AXIS_LABELS)
    units = {"step": "Steps", "vectors_sent": "Vectors", "bits_sent": "Bits"}
    columns = sorted(measures - set(units))
    assert len(columns) >= len(units)
    for column, (across, unit) in zip(columns, itertools.cycle(units.items())):
        ax = history.plot(y=column, x=across)
        assert ax.get_yscale() == "log"
        assert ax.get_ylabel() == plots.AXIS_LABELS[column] != column
        assert ax.get_xlabel().startswith(unit)
        plt.close(ax.figure)


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.slow
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


def test_later_curves_find_their_place_beside_one_that_diverges():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=0.0, seed=0)
    run = functools.partial(rs.simulate, problem, rs.topologies.ring(4), rs.algorithms.DPSGD())
    ax = run(learning_rate=8.0, steps=30).plot()
    top = ax.get_ylim()[1]
    assert top <= 1e6 * run(learning_rate=8.0, steps=0).frame.suboptimality[0]
    ax = run(learning_rate=0.5, steps=200).plot(ax=ax)
    assert ax.get_ylim()[0] < 1e-12


def test_replicas_that_send_at_times_of_their_own_are_drawn_over_their_median():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=0.0, seed=0)
    algorithm = rs.algorithms.A2CiD2(accelerated=False)
    history = rs.simulate(
        problem, rs.topologies.ring(4), algorithm, learning_rate=0.1, steps=30, replicas=5
    )
    ax = history.plot(x="vectors_sent")
    expected = history.frame.groupby("step").vectors_sent.median()
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), expected)
    assert ax.lines[0].get_label() == "AD-PSGD"


def test_theory_is_laid_over_a_history():
    noisy = noisy_history()
    ax = noisy.plot(theory=True)
    lines = {line.get_label(): line for line in ax.lines}
    exact = noisy_history(oracle=None, replicas=None).frame.suboptimality
    np.testing.assert_allclose(lines["exact, without noise"].get_ydata(), exact, atol=1e-12)
    linear = rs.theory.linearize(noisy.problem, noisy.topology, noisy.algorithm, 0.3)
    floor = linear.stationary(0.01).suboptimality
    np.testing.assert_allclose(lines["exact noise floor"].get_ydata(), floor)
    (name,) = (name for name in lines if "(shape, fitted)" in name)
    proved = rs.simulate(
        noisy.problem, noisy.topology, rs.algorithms.AllReduce(), learning_rate=0.3, steps=30
    ).plot(theory=True)
    theorem = next(
        line for line in proved.lines if line.get_label() == "All-reduce, strongly convex"
    )
    assert theorem.get_xdata()[-1] == 30
    # A shape is as long as what it was fitted to, not below the run there, and paler than a theorem.
    shape = lines[name]
    assert shape.get_xdata()[-1] == noisy.steps[-1] // 3
    at = shape.get_xdata()[1:].astype(int)
    mean = noisy.frame.groupby("step").suboptimality.mean().to_numpy()
    assert (shape.get_ydata()[1:] >= mean[at] * (1 - 1e-12)).all()
    lightness = [lab(line.get_color(), "usual")[0] for line in (theorem, shape)]
    assert lightness[1] - lightness[0] > 2 * CLEAR_COLOUR


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


def test_an_asymptote_is_seen_over_whole_oscillations():
    t = np.arange(401)
    curve = 0.99 ** (2 * t) * (1.2 + np.cos(2 * np.pi * t / 25))
    found = _asymptote(curve, 0.99, 0.0)
    np.testing.assert_allclose(found, 2.2 * 0.99 ** (2 * t), rtol=1e-12)
    assert _asymptote(curve, 0.97, 0.0) is None
    few = 0.25 ** np.arange(4)
    np.testing.assert_allclose(_asymptote(few, 0.5, 0.0), few, rtol=1e-12)
    assert _asymptote(few[:3], 0.5, 0.0) is None


def test_how_much_is_drawn_of_theory_does_not_depend_on_units():
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    steep = rs.problems.LeastSquares(problem.A * 2.0**40, problem.b * 2.0**40)
    drawn = []
    for each, rate in ((problem, 0.4), (steep, 0.4 / 2.0**80)):
        run = {"learning_rate": rate, "steps": 800}
        history = rs.simulate(each, rs.topologies.chain(4), rs.algorithms.RelaySGD(), **run)
        lines = history.plot(theory=True).lines
        drawn.append([np.isfinite(line.get_ydata()).sum() for line in lines])
    assert drawn[0] == drawn[1]
    assert min(drawn[0][1:]) < 750  # what is below rounding is left out


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
    assert "DP-SGD (gossip), strongly convex" in labels
    assert not any(label.startswith("rate") for label in labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": lambda step: 0.1}, "is of a constant learning rate"),
        ({"faults": rs.faults.Straggler(0.1)}, "moments are known under one of"),
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


# -- any text --------------------------------------------------------------------------------------

TEXTS = [
    "_other",
    "$50%$",
    "a $ b",
    r"$\nothing$",
    r"rate $\gamma$",
    "50 %",
    "\\",
    "^{",
    "<b>&",
    "γ₁",
    "",
]


def test_classes_may_be_called_anything():
    ax = rs.problems.partitions.iid(np.array(TEXTS * 10), n=4).plot()
    ax.figure.canvas.draw()
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == sorted(TEXTS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            text, marks=() if text in ("_other", r"$\nothing$", "^{") else pytest.mark.slow
        )
        for text in TEXTS
        if text
    ],
)
def test_methods_graphs_and_columns_may_be_called_anything(name):
    class Own(rs.algorithms.DPSGD):
        label = name

    graph = rs.topologies.Topology(3, [(0, 1), (1, 2)], name=name)
    measure = rs.measures.Measure("own", lambda x, problem: x[:, 0, 0] ** 2 + 1, label=name)
    problem = rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem, graph, Own(), learning_rate=0.1, steps=3, measures=[measure], keep_iterates=True
    )
    drawn = [
        history.plot("own"),
        history.plot(label=name),
        rs.plots.spacetime(history),
        rs.tune(problem, graph, Own(), target=0.1).plot(),
        graph.draw(values=np.arange(3.0), value_label=name),
    ]
    for ax in drawn:
        ax.figure.canvas.draw()
    for ax in drawn[:2]:
        (entry,) = ax.get_legend().get_texts()
        assert entry.get_text().replace("\\$", "$").strip() == name


def test_rates_that_are_close_have_names_of_their_own():
    problem = rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, seed=0)
    run = {"learning_rate": [0.1, 0.10000001], "steps": 3}
    ax = rs.simulate(problem, rs.topologies.chain(3), rs.algorithms.RelaySGD(), **run).plot()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["γ = 0.1", "γ = 0.10000001"]


def test_steps_are_whole_numbers_on_axes():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.1, "keep_iterates": True}
    for steps in (0, 1, 3, 20):
        history = rs.simulate(
            problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), steps=steps, **run
        )
        for ax in (history.plot(), rs.plots.spacetime(history)):
            ticks = ax.get_xticks()
            assert (ticks == np.rint(ticks)).all()
            assert len(ticks) > 1
            plt.close(ax.figure)


@pytest.mark.parametrize("width", [2.0, 3.0, 6.4])
@pytest.mark.parametrize(
    "ends",
    [
        (0.03, 0.2),
        (0.06, 1.2),
        (2, 19),
        (0.4, 0.6),
        (1e-7, 9e-7),
        (0.21, 0.29),
        (1100, 1900),
        (1.1e-5, 1.9e-5),
    ],
)
def test_names_of_ticks_below_a_decade_do_not_overlap(width, ends):
    figure = Figure(figsize=(width, 2.4), layout="constrained")
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(ends, ends)
    log_ticks(ax, x=True)
    figure.draw_without_rendering()
    for axis, side in ((ax.xaxis, 0), (ax.yaxis, 1)):
        low, high = axis.get_view_interval()
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        shown = [
            tick.label1.get_window_extent()
            for tick in ticks
            if tick.label1.get_text() and low <= tick.get_loc() <= high
        ]
        assert shown
        spans = sorted(((box.x0, box.x1), (box.y0, box.y1))[side] for box in shown)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_options_are_named_by_what_was_meant():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    histories = [
        rs.simulate(
            problem, rs.topologies.ring(4), rs.algorithms.DPSGD(k * 0.1), learning_rate=0.1, steps=3
        )
        for k in range(1, 4)
    ]
    legend = rs.plot(histories).get_legend()
    assert [text.get_text()[-14:] for text in legend.get_texts()] == [
        f"momentum = 0.{k}" for k in range(1, 4)
    ]


def test_bars_of_a_partition_are_those_of_its_workers():
    labels = np.arange(64) % 2
    ax = rs.problems.partitions.dirichlet(labels, 16, 0.5, seed=0).plot()
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high][-1] <= 15
    assert ax.get_ylim()[1] > max(bar.get_y() + bar.get_height() for bar in ax.patches)
