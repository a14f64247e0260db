"""Graphs whose edges are one-way links, and what runs on them."""

import math

import networkx
import numpy as np
import pytest
import slow
from graphs import digraphs
from hypothesis import given
from matplotlib.patches import FancyArrowPatch

import relaysim as rs
from relaysim.topologies import Topology

T = rs.topologies
# A ring and one link more: 1 hears two, 3 is heard by two.
UNEVEN = T.from_edges(5, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (3, 1)], directed=True)


def listeners_of(topology):
    """For every worker the list of those that hear it."""
    return [[b for a, b in topology.edges.tolist() if a == worker] for worker in range(topology.n)]


# -- topologies ------------------------------------------------------------------------------------


@given(digraphs())
def test_derived_properties_agree_with_the_one_way_edges(graph):
    n, edges = graph
    topology = T.from_edges(n, edges, directed=True)
    assert topology.is_directed
    assert topology.edges.tolist() == sorted(map(list, set(edges)))
    listeners = listeners_of(topology)
    hops = slow.hop_distances(listeners)  # hops[a, b]: from a to b
    assert topology.out_degrees.tolist() == [len(others) for others in listeners]
    assert topology.in_degrees.tolist() == [
        sum(worker in others for others in listeners) for worker in range(n)
    ]
    assert topology.is_strongly_connected == bool(np.isfinite(hops).all())
    assert topology.is_connected == topology.to_undirected().is_connected
    assert topology.diameter == (hops.max() if topology.is_strongly_connected else math.inf)
    assert topology.is_tree is False
    for worker in range(n):
        assert topology.distances_from(worker).tolist() == hops[worker].tolist()
    messages = list(zip(topology.dst.tolist(), topology.src.tolist(), strict=True))
    assert messages == sorted((b, a) for a, b in set(edges))
    hears = topology.adjacency.toarray()
    assert {(a, b) for b, a in np.argwhere(hears).tolist()} == set(edges)


@given(digraphs())
def test_a_digraph_goes_to_networkx_and_back(graph):
    topology = T.from_edges(*graph, directed=True)
    there = topology.to_networkx()
    assert there.is_directed()
    assert set(there.edges) == set(map(tuple, topology.edges.tolist()))
    assert T.from_networkx(there) == topology


def test_a_digraph_of_networkx_is_not_made_symmetric():
    graph = networkx.DiGraph([("a", "b"), ("b", "c"), ("c", "a"), ("b", "a")])
    topology = T.from_networkx(graph)
    assert topology.edges.tolist() == [[0, 1], [1, 0], [1, 2], [2, 0]]
    assert topology.to_undirected() == T.ring(3) == T.from_networkx(graph.to_undirected())


@given(digraphs())
def test_equality_of_digraphs_is_that_of_directions_too(graph):
    n, edges = graph
    topology = T.from_edges(n, edges, directed=True)
    assert topology == Topology(n, edges[::-1], "other", directed=True)
    assert hash(topology) == hash(Topology(n, edges[::-1], "other", directed=True))
    assert topology != T.from_edges(n, edges)
    turned = T.from_edges(n, [(b, a) for a, b in edges], directed=True)
    assert (topology == turned) == (set(edges) == {(b, a) for a, b in edges})


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9])
def test_directed_rings_and_exponential_graphs(n):
    ring, exponential = T.directed_ring(n), T.directed_exponential(n)
    others = [(i, (i + 1) % n) for i in range(n) if n > 1]
    assert set(map(tuple, ring.edges.tolist())) == set(others)
    hops = [2**k for k in range(10) if 2**k < n]
    others = {(i, (i + hop) % n) for i in range(n) for hop in hops}
    assert set(map(tuple, exponential.edges.tolist())) == others
    assert (ring.diameter, ring.is_strongly_connected) == (n - 1, True)
    assert exponential.diameter <= max(len(hops), 0)
    for graph in (ring, exponential):
        assert eval(repr(graph), vars(T).copy()) == graph
        again = eval(repr(graph.to_undirected()), vars(T).copy())
        assert again == graph.to_undirected() == T.from_edges(n, graph.edges)


def test_an_undirected_graph_has_both_kinds_of_degrees():
    star = T.star(4)
    assert star.in_degrees.tolist() == star.out_degrees.tolist() == star.degrees.tolist()
    assert star.to_undirected() is star
    assert not star.is_directed


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: UNEVEN.degrees, r"6 directed edges\) is directed and has no degrees; use in_d"),
        (lambda: UNEVEN.reverse, "is directed and has no reverse"),
        (lambda: T.spanning_tree(UNEVEN), r"carry messages both ways.*to_undirected\(\)"),
        (lambda: T.TreePair(UNEVEN, UNEVEN), "is not a tree"),
    ],
)
def test_what_a_directed_graph_has_not_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_directed_is_true_or_false():
    with pytest.raises(TypeError, match="directed must be True or False, not 'yes'"):
        T.from_edges(2, [(0, 1)], directed="yes")


def test_a_table_of_a_directed_graph_tells_who_hears_whom():
    table = UNEVEN._repr_html_()
    for row in ("one-way edges", "heard by a worker", "who hear a worker", "strongly connected"):
        assert row in table


# -- pictures --------------------------------------------------------------------------------------


def test_every_one_way_edge_is_an_arrow_from_its_source_to_its_target():
    graph = T.from_edges(4, [(0, 1), (1, 2), (2, 3), (3, 0), (1, 0), (0, 2)], directed=True)
    ax = graph.draw()
    at = np.asarray(ax.collections[0].get_offsets())
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    ends = [arrow._posA_posB for arrow in arrows]
    np.testing.assert_array_equal(ends, [[at[a], at[b]] for a, b in graph.edges.tolist()])
    bends = [arrow.get_connectionstyle().rad for arrow in arrows]
    # 0 → 1 and 1 → 0 keep apart, each to its left; a single one is straight.
    assert [bend < 0 for bend in bends] == [True, False, True, False, False, False]
    assert [bend == 0 for bend in bends] == [False, True, False, True, True, True]


def test_a_directed_graph_stands_as_its_links_do():
    for graph in (T.directed_ring(8), UNEVEN, T.Topology(12, T.torus(3, 4).edges, directed=True)):
        one_way, both = (each.draw().collections for each in (graph, graph.to_undirected()))
        np.testing.assert_array_equal(one_way[-1].get_offsets(), both[-1].get_offsets())
        assert len(both) == len(one_way) + 1  # its lines


# -- weights ---------------------------------------------------------------------------------------


def shares_of(topology, weights, own, columns):
    """w_ij from j to i divided by what i hears, or by what j sends, as loops."""
    n = topology.n
    given = np.zeros((n, n))
    for (a, b), weight in zip(topology.edges.tolist(), weights, strict=True):
        given[b, a] = weight
        if not topology.is_directed:
            given[a, b] = weight
    for i in range(n):
        given[i, i] = own
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            whole = sum(given[:, j]) if columns else sum(given[i])
            found[i, j] = given[i, j] / whole
    return found


@pytest.mark.parametrize("topology", [UNEVEN, T.directed_exponential(7), T.star(5)], ids=repr)
@pytest.mark.parametrize("own", [1.0, 0.25])
def test_rows_or_columns_sum_to_one(topology, own):
    weights = np.random.default_rng(0).uniform(0.5, 2, size=len(topology.edges))
    for passed, used in ((None, np.ones(len(weights))), (weights, weights)):
        for make, columns in (
            (rs.mixing.row_stochastic, False),
            (rs.mixing.column_stochastic, True),
        ):
            found = make(topology, passed, own).toarray()
            np.testing.assert_allclose(found, shares_of(topology, used, own, columns), rtol=1e-14)
            np.testing.assert_allclose(found.sum(axis=0 if columns else 1), 1, rtol=1e-14)


def test_weights_of_an_edge_attribute_are_those_of_its_edges():
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from(
        [("c", "a", 3.0), ("a", "b", 1.0), ("b", "c", 2.0), ("a", "c", 5.0)], weight="capacity"
    )
    topology = T.from_networkx(graph)
    place = {node: k for k, node in enumerate(graph)}
    by_edge = {(place[a], place[b]): w for a, b, w in graph.edges(data="capacity")}
    weights = [by_edge[a, b] for a, b in topology.edges.tolist()]
    for make in (rs.mixing.row_stochastic, rs.mixing.column_stochastic):
        from_graph, from_array = make(graph, "capacity"), make(topology, weights)
        np.testing.assert_array_equal(from_graph.toarray(), from_array.toarray())
        assert (make(graph).toarray() == make(topology).toarray()).all()
    assert rs.mixing.row_stochastic(graph, "capacity")[place["c"], place["a"]] == 5 / 8
    both = graph.to_undirected()
    shared = rs.mixing.row_stochastic(both, "capacity").toarray()
    assert shared[place["b"], place["a"]] == 1 / 4
    twice = networkx.MultiDiGraph([(0, 1, {"w": 1.0}), (0, 1, {"w": 2.0}), (1, 0, {"w": 1.0})])
    np.testing.assert_array_equal(
        rs.mixing.row_stochastic(twice, "w").toarray(), [[0.5, 0.5], [0.75, 0.25]]
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rs.mixing.metropolis(UNEVEN), ValueError, r"is directed; use row_stochastic"),
        (lambda: rs.mixing.uniform(UNEVEN, 0.1), ValueError, "is directed"),
        (lambda: rs.mixing.max_degree(UNEVEN), ValueError, "is directed"),
        (lambda: rs.mixing.best_constant(UNEVEN), ValueError, "is directed"),
        (lambda: rs.mixing.laplacian_sequence(UNEVEN), ValueError, "is directed"),
        (lambda: rs.mixing.random_matching(UNEVEN), ValueError, "is directed"),
        (lambda: rs.mixing.matcha(UNEVEN, 0.5), ValueError, "is directed"),
        (lambda: rs.mixing.row_stochastic(UNEVEN, [1, 2]), ValueError, "each of the 6 edges"),
        (
            lambda: rs.mixing.row_stochastic(UNEVEN, [1, 2, 0, 1, 1, 1]),
            ValueError,
            r"must be positive and finite; that of \[2, 3\] is 0",
        ),
        (lambda: rs.mixing.column_stochastic(UNEVEN, "w"), TypeError, "take the networkx graph"),
        (
            lambda: rs.mixing.column_stochastic(networkx.DiGraph([(0, 1), (1, 0)]), "w"),
            ValueError,
            r"the edge \(0, 1\) has no attribute 'w'",
        ),
        (lambda: rs.mixing.row_stochastic(T.chain(3), own=-1), ValueError, "own must be"),
        (
            lambda: rs.mixing.row_stochastic(T.from_edges(2, [(0, 1)], directed=True), own=0),
            ValueError,
            "worker 0 hears nobody, and its own weight is 0",
        ),
        (
            lambda: rs.mixing.column_stochastic(T.from_edges(2, [(0, 1)], directed=True), own=0),
            ValueError,
            "worker 1 is heard by nobody",
        ),
        (lambda: rs.mixing.row_stochastic(np.eye(2)), TypeError, "needs a Topology"),
    ],
)
def test_bad_weights_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- what needs links in both directions -----------------------------------------------------------


def problem_for(topology, d=3, zeta2=1.0):
    return rs.problems.random_quadratics(n=topology.n, d=d, zeta2=zeta2, mu=0.25, seed=0)


def simulated(topology, algorithm, **options):
    options = {"learning_rate": 0.05, "steps": 3} | options
    return rs.simulate(problem_for(topology), topology, algorithm, **options)


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.RelaySGD(),
        rs.algorithms.D2(),
        rs.algorithms.ExactDiffusion(),
        rs.algorithms.EXTRA(),
        rs.algorithms.PowerGossip(),
        rs.algorithms.ChocoSGD(rs.compressors.TopK(1), 0.5),
        rs.algorithms.A2CiD2(),
        rs.algorithms.SwarmSGD(),
    ],
    ids=repr,
)
def test_methods_for_links_in_both_directions_refuse_one_way_links(algorithm):
    assert not algorithm.directed
    with pytest.raises(
        ValueError, match=r"needs links in both directions.*is directed; use topology.to_undirected"
    ):
        simulated(T.directed_ring(6), algorithm)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rs.theory.acceleration_constants(UNEVEN),
        lambda: rs.theory.asynchronous_decay(UNEVEN, rs.algorithms.A2CiD2()),
        lambda: rs.theory.correction_factor(UNEVEN),
        lambda: rs.theory.key_lemma(UNEVEN),
        lambda: rs.theory.perron_vector(UNEVEN, "hops"),
        lambda: rs.analysis.relay_animation(UNEVEN),
        lambda: rs.analysis.relay_animation(T.chain(5), gossip=UNEVEN),
        lambda: rs.analysis.consensus_decay(UNEVEN, rs.algorithms.RelaySGD()),
        lambda: rs.theory.linearize(problem_for(UNEVEN), UNEVEN, rs.algorithms.D2(), 0.1),
    ],
)
def test_theory_of_links_in_both_directions_refuses_one_way_links(call):
    with pytest.raises(ValueError, match=r"directed|needs a tree"):
        call()


def test_methods_of_networks_of_their_own_run_on_any_strongly_connected_graph():
    for algorithm in (rs.algorithms.AllReduce(), rs.algorithms.SGP(), rs.algorithms.LocalSGD()):
        one_way, both = (
            simulated(topology, algorithm).x for topology in (UNEVEN, UNEVEN.to_undirected())
        )
        np.testing.assert_array_equal(one_way, both)


@pytest.mark.filterwarnings("ignore:DPSGD on one-way links")
@pytest.mark.parametrize("algorithm", [rs.algorithms.DPSGD(), rs.algorithms.AllReduce()], ids=repr)
def test_graphs_that_are_not_strongly_connected_are_refused(algorithm):
    # 0 → 1 → 2 ⇄ 3: nothing comes back from 2 and 3.
    graph = T.from_edges(4, [(0, 1), (1, 0), (1, 2), (2, 3), (3, 2)], directed=True)
    with pytest.raises(ValueError, match="nothing that worker 2 sends ever reaches worker 0; add"):
        simulated(graph, algorithm)
    simulated(
        T.from_edges(4, [*graph.edges.tolist(), (3, 0)], directed=True), algorithm.__class__()
    )


def test_what_is_drawn_is_held_against_the_directions_of_edges():
    matching = rs.mixing.random_matching(T.ring(5))
    with pytest.raises(ValueError, match="which is no edge of directed_ring"):
        simulated(T.directed_ring(5), rs.algorithms.DPSGD(), mixing=matching)
    both = [(a, b) for a, b in T.ring(5).edges.tolist()]
    both_ways = T.from_edges(5, both + [(b, a) for a, b in both], directed=True)
    simulated(both_ways, rs.algorithms.DPSGD(), mixing=matching)


def test_matrices_are_held_against_the_directions_of_edges():
    ring = T.directed_ring(4)
    W = rs.mixing.row_stochastic(ring)
    assert W[1, 0] == 0.5
    with pytest.raises(
        ValueError, match=r"\(0, 1\), what 0 gives to what 1 sent, and .* from 1 to"
    ):
        simulated(ring, rs.algorithms.DPSGD(), mixing=W.T)
    halves = [np.eye(4), np.eye(4)]
    halves[0][1, :2] = halves[1][3, 2:] = 0.5
    with pytest.raises(ValueError, match=r"groups that do not all reach each other; over a period"):
        simulated(ring, rs.algorithms.DPSGD(), mixing=halves)
    with pytest.raises(
        ValueError, match=r"rows of the mixing matrix must .* Its columns do: is it"
    ):
        simulated(UNEVEN, rs.algorithms.DPSGD(), mixing=rs.mixing.column_stochastic(UNEVEN))


@pytest.mark.filterwarnings("error")
def test_a_method_says_where_it_ends_with_uneven_one_way_links():
    for regular in (T.directed_ring(6), T.directed_exponential(6)):
        simulated(regular, rs.algorithms.DPSGD())
        simulated(regular, rs.algorithms.GradientTracking())
    with pytest.warns(
        UserWarning, match=r"it ends near argmin .* π_i from 0\.\d+ to 0\.\d+ .* SGP"
    ):
        simulated(UNEVEN, rs.algorithms.DPSGD())
    with pytest.warns(UserWarning, match="is exact where W is doubly stochastic"):
        simulated(UNEVEN, rs.algorithms.GradientTracking())


def test_messages_are_lost_on_each_one_way_edge_with_its_own_probability():
    ring = T.directed_ring(4)
    edges = ring.edges
    fault = rs.faults.MessageDrop([1.0, 0.0, 0.0, 0.0])  # of 0 → 1 alone
    run = simulated(ring, rs.algorithms.DPSGD(), faults=fault, learning_rate=0.0, x0=ramp(ring))
    np.testing.assert_array_equal(run.x[1], ramp(ring)[1])
    assert (run.x[0] != ramp(ring)[0]).all()
    two_ways = T.from_edges(2, [(0, 1), (1, 0)], directed=True)
    fault = rs.faults.MessageDrop([0.0, 1.0])
    run = simulated(
        two_ways, rs.algorithms.DPSGD(), faults=fault, learning_rate=0.0, x0=ramp(two_ways)
    )
    np.testing.assert_array_equal(run.x[0], ramp(two_ways)[0])
    assert (run.x[1] != ramp(two_ways)[1]).all()
    assert len(edges) == 4


def ramp(topology, d=3):
    return np.arange(1.0, topology.n + 1)[:, None] * np.ones(d)


# -- methods for one-way links ---------------------------------------------------------------------

A = rs.algorithms
PUSHING = (A.SGP(rounds=1, network="topology"), A.PushDIGing())
ONE_WAY = (*PUSHING, A.SGP(rounds=3, network="topology"), A.PushPull())
over_one_way = pytest.mark.parametrize("algorithm", ONE_WAY, ids=repr)


def weights_for(algorithm, topology, count, seed=0):
    """As many steps' matrices of random weights, with the sums that the method needs."""
    generator = np.random.default_rng(seed)

    def drawn(make):
        weights = generator.uniform(0.3, 3, size=len(topology.edges))
        return make(topology, weights, own=generator.uniform(0.3, 2))

    kinds = [rs.mixing.column_stochastic]
    if isinstance(algorithm, A.PushPull):
        kinds = [rs.mixing.row_stochastic, rs.mixing.column_stochastic]
    return [drawn(kind) for _ in range(count) for kind in kinds]


def iterates_of(topology, algorithm, **options):
    problem = problem_for(topology)
    options = {"learning_rate": 0.1, "steps": 40, "keep_iterates": True} | options
    return rs.simulate(problem, topology, algorithm, **options).iterates


def assert_same(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@over_one_way
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("topology", [UNEVEN, T.directed_exponential(6)], ids=repr)
def test_a_step_over_one_way_links_is_the_rule_on_paper(algorithm, count, topology):
    problem = problem_for(topology)
    x0 = np.random.default_rng(1).normal(size=(topology.n, 3))
    mixing = weights_for(algorithm, topology, count) if count else None
    dense = [W.toarray() for W in mixing] if mixing else None
    if dense is None:
        ones = np.ones(len(topology.edges))
        columns = shares_of(topology, ones, 1, columns=True)
        rows = shares_of(topology, ones, 1, columns=False)
        dense = [rows, columns] if isinstance(algorithm, A.PushPull) else [columns]

    def rate(step):
        return 0.3 / (1 + 0.1 * step)

    run = {"x0": x0, "learning_rate": rate, "steps": 25, "mixing": mixing}
    gradient = slow.least_squares_gradient(problem.A, problem.b)
    paper = slow.run(algorithm, topology, gradient, x0, [rate(step) for step in range(25)], dense)
    assert_same(iterates_of(topology, algorithm, **run), paper)


@over_one_way
def test_replicas_over_one_way_links_are_as_alone_and_can_be_gone_on_with(algorithm):
    mixing = weights_for(algorithm, UNEVEN, 2)
    noisy = {"mixing": mixing, "oracle": rs.oracles.Gaussian(0.1)}
    run = noisy | {"learning_rate": [0.02, 0.1], "seed": [3, 5]}
    together = iterates_of(UNEVEN, algorithm, **run)
    for replica in range(4):
        alone = noisy | {"learning_rate": [0.02, 0.1][replica // 2], "seed": [3, 5][replica % 2]}
        assert_same(together[..., replica], iterates_of(UNEVEN, algorithm, **alone))
    problem, options = problem_for(UNEVEN), run | {"keep_state": True}
    whole = rs.simulate(problem, UNEVEN, algorithm, steps=25, **options)
    part = rs.simulate(problem, UNEVEN, algorithm, steps=10, **options).extend(15)
    assert part.x.tobytes() == whole.x.tobytes()


@over_one_way
def test_information_moves_along_the_links_only(algorithm):
    n, d, worker = 7, 2, 2
    topology = T.from_edges(n, [*T.directed_ring(n).edges.tolist(), (0, 4)], directed=True)
    centers = np.random.default_rng(0).normal(size=(n, d))
    other = centers.copy()
    other[worker] += 1
    before, after = (
        rs.simulate(
            rs.problems.DiagonalQuadratic(np.ones((n, d)), c),
            topology,
            algorithm,
            learning_rate=0.1,
            steps=8,
            keep_iterates=True,
        ).iterates
        for c in (centers, other)
    )
    hops = slow.hop_distances(listeners_of(topology))[worker]
    for step in range(9):
        moved = (before[step] != after[step]).all(axis=1)
        expected = (step > 0) & (hops <= algorithm.hops_per_step * step)
        assert moved.tolist() == expected.tolist(), f"step {step}"


@over_one_way
@pytest.mark.parametrize("count", [0, 2])
def test_the_map_of_a_method_for_one_way_links_gives_its_curve(algorithm, count):
    mixing = weights_for(algorithm, UNEVEN, count) if count else None
    problem = problem_for(UNEVEN)
    x0 = np.random.default_rng(2).normal(size=(5, 3))
    linear = rs.theory.linearize(problem, UNEVEN, algorithm, 0.1, x0, mixing)
    # A method that uses two matrices a step has gone round after one.
    assert linear.period == max(count, 1)
    steps = linear.start_up + 100
    run = {"learning_rate": 0.1, "steps": steps, "x0": x0, "mixing": mixing}
    history = rs.simulate(problem, UNEVEN, algorithm, keep_iterates=True, **run)
    assert_same(linear.iterates(steps), history.iterates, 1e-12)
    curve = linear.predict(steps)
    np.testing.assert_array_equal(curve.vectors_sent, history.frame.vectors_sent)
    ends = rs.simulate(problem, UNEVEN, algorithm, **(run | {"steps": 2400}))
    np.testing.assert_allclose(linear.fixed_point, ends.x, rtol=0, atol=1e-12)
    if algorithm.exact:
        np.testing.assert_allclose(ends.x, np.tile(problem.optimum, (5, 1)), rtol=0, atol=1e-12)


def test_the_noise_floor_over_one_way_links_is_that_predicted():
    problem, rate = problem_for(UNEVEN), 0.3
    for algorithm in (PUSHING[0], A.PushPull()):
        linear = rs.theory.linearize(problem, UNEVEN, algorithm, rate)
        floor = linear.stationary(1.0)
        assert linear.relaxation_time < 15
        run = {
            "learning_rate": rate,
            "steps": 1200,
            "record": range(200, 1201, 20),
            "replicas": 200,
        }
        noisy = rs.simulate(problem, UNEVEN, algorithm, oracle=rs.oracles.Gaussian(1.0), **run)
        means = noisy.frame.groupby("replica")[list(floor.index)].mean()
        error = means.sem()
        assert (error < 0.02 * floor).all()
        assert ((means.mean() - floor).abs() < 4 * error).all()


def test_stable_rates_over_one_way_links_are_those_of_runs():
    problem, algorithm = problem_for(UNEVEN, d=2), A.PushDIGing()
    most = rs.theory.max_learning_rate(problem, UNEVEN, algorithm)
    below, above = (
        rs.theory.linearize(problem, UNEVEN, algorithm, share * most).spectral_radius
        for share in (0.99, 1.01)
    )
    assert below < 1 < above
    run = {"learning_rate": [0.9 * most, 1.4 * most], "steps": 1500, "record": 1500}
    assert rs.simulate(problem, UNEVEN, algorithm, **run).diverged.tolist() == [False, True]


# -- limits ----------------------------------------------------------------------------------------


def test_with_doubly_stochastic_matrices_push_sum_is_gossip():
    topology = T.directed_exponential(6)
    W = rs.mixing.row_stochastic(topology)
    run = {"mixing": W, "x0": np.random.default_rng(0).normal(size=(6, 3))}
    gossip = iterates_of(topology, A.DPSGD(), **run)
    tracking = iterates_of(topology, A.GradientTracking(), **run)
    assert_same(iterates_of(topology, A.SGP(rounds=1, network="topology"), **run), gossip)
    for algorithm in (A.PushDIGing(), A.PushPull()):
        assert_same(iterates_of(topology, algorithm, **run), tracking)
    # The one-peer exponential sequence is what SGP brings itself.
    complete, own = T.complete(6), {"mixing": rs.mixing.one_peer_exponential(6)}
    for rounds in (1, 2):
        given = iterates_of(complete, A.SGP(rounds, network="topology"), **own)
        assert_same(given, iterates_of(complete, A.SGP(rounds)))


@pytest.mark.parametrize("by_step", [False, True])
def test_push_sum_averages_over_any_sequence_of_column_stochastic_matrices(by_step):
    """Each a part of the links: the product connects, no matrix does; rows alone forget what the mean was."""
    ring, n = T.directed_ring(5), 5
    halves = []
    for first in (0, 1):
        graph = T.from_edges(n, ring.edges[first::2], directed=True)
        halves.append(rs.mixing.column_stochastic(graph, own=0.5))
    mixing = (lambda step: halves[step % 2]) if by_step else halves
    x0 = np.random.default_rng(0).normal(size=(n, 3))
    run = {"learning_rate": 0.0, "steps": 300, "x0": x0}
    for algorithm in (*PUSHING, A.SGP(rounds=3, network="topology")):
        ends = iterates_of(ring, algorithm, mixing=mixing, **run)[-1]
        np.testing.assert_allclose(ends, np.tile(x0.mean(axis=0), (n, 1)), atol=1e-13)
    if by_step:
        return
    rows = [W / W.sum(axis=1, keepdims=True) for W in (half.toarray() for half in halves)]
    with pytest.warns(UserWarning, match="DPSGD on one-way links"):
        ends = iterates_of(ring, A.DPSGD(), mixing=rows, **run)[-1]
    assert np.abs(ends - x0.mean(axis=0)).max() > 1e-2
    np.testing.assert_allclose(ends, np.tile(ends[0], (n, 1)), atol=1e-10)


@pytest.mark.parametrize("algorithm", PUSHING, ids=repr)
def test_where_replicas_draw_their_weights_each_has_masses_of_its_own(algorithm):
    complete = T.complete(6)
    run = {"mixing": rs.mixing.random_matching(complete), "oracle": rs.oracles.Gaussian(0.1)}
    together = iterates_of(complete, algorithm, seed=[3, 5], learning_rate=[0.05, 0.1], **run)
    for replica in range(4):
        alone = {"seed": [3, 5][replica % 2], "learning_rate": [0.05, 0.1][replica // 2]} | run
        assert_same(together[..., replica], iterates_of(complete, algorithm, **alone))
    assert (together[..., 0] != together[..., 1]).any()
    problem, options = problem_for(complete), {"seed": [3, 5], "learning_rate": 0.1} | run
    whole = rs.simulate(problem, complete, algorithm, steps=20, **options)
    part = rs.simulate(problem, complete, algorithm, steps=8, keep_state=True, **options)
    assert part.extend(12).x.tobytes() == whole.x.tobytes()


@pytest.mark.parametrize("algorithm", [A.PushDIGing(), A.PushPull()], ids=repr)
def test_tracking_over_random_one_way_links_is_exact(algorithm):
    """One of ten matrices in every step, by chance."""
    kinds = 2 if isinstance(algorithm, A.PushPull) else 1
    drawn = weights_for(algorithm, UNEVEN, 10)
    which = np.random.default_rng(0).integers(10, size=1000)

    def mixing(step):
        return drawn[kinds * which[step] + step % kinds]

    ends = iterates_of(UNEVEN, algorithm, mixing=mixing, learning_rate=0.2, steps=390)[-1]
    optimum = problem_for(UNEVEN).optimum
    np.testing.assert_allclose(ends, np.tile(optimum, (5, 1)), rtol=0, atol=1e-7)


# -- what is refused -------------------------------------------------------------------------------

ROWS, COLUMNS = rs.mixing.row_stochastic(UNEVEN), rs.mixing.column_stochastic(UNEVEN)


@pytest.mark.parametrize(
    ("algorithm", "mixing", "message"),
    [
        *(
            (
                each,
                ROWS,
                r"columns of the mixing matrix must sum to 1; column . sums to .* transpose",
            )
            for each in (*PUSHING, A.PushPull())
        ),
        (A.PushPull(), COLUMNS, "the rows of the mixing matrix must sum to 1"),
        (A.PushPull(), (COLUMNS, ROWS), "the rows of mixing matrix W_0 must sum to 1"),
        (A.PushPull(), (ROWS, ROWS), "the columns of mixing matrix W_1 must sum to 1"),
        (A.PushPull(), (ROWS, np.eye(5)), "in 5 groups that do not all reach each other"),
        (A.PushPull(), (ROWS, COLUMNS, ROWS), "the columns of mixing matrix W_0 must sum to 1"),
        (PUSHING[0], lambda step: ROWS, "columns of the mixing matrix of step 0 must sum to 1"),
        (PUSHING[1], 2 * COLUMNS.toarray() - np.eye(5) * 1.0, None),
        (
            PUSHING[0],
            [COLUMNS, np.eye(5)[[1, 1, 2, 3, 4]].T],
            r"row 0 of this matrix is 0: worker 0 gives all away",
        ),
    ],
)
def test_matrices_without_the_sums_that_a_method_needs_are_refused(algorithm, mixing, message):
    if message is None:  # half of what each has would be sent twice
        message = "push-sum divides by the mass that workers have, which needs weights of 0 or more"
        mixing = mixing - np.eye(5) / 4 + COLUMNS.toarray() / 4
    with pytest.raises(ValueError, match=message):
        simulated(UNEVEN, algorithm, mixing=mixing)


def test_what_comes_later_from_a_callable_is_looked_at_too():
    later = {0: COLUMNS, 1: COLUMNS}
    with pytest.raises(ValueError, match="columns of the mixing matrix of step 2 must sum to 1"):
        simulated(UNEVEN, PUSHING[0], mixing=lambda step: later.get(step, ROWS))


@over_one_way
def test_methods_for_one_way_links_refuse_what_they_have_no_rule_for(algorithm):
    with pytest.raises(ValueError, match="has no rule for lost messages"):
        simulated(UNEVEN, algorithm, faults=rs.faults.MessageDrop(0.1))
    with pytest.raises(ValueError, match="mixes models further, which takes rows that sum to 1"):
        A.ConsensusControl(algorithm, 0.1)


def test_the_network_of_sgp_is_a_word():
    with pytest.raises(
        ValueError, match="network must be one of 'exponential', 'topology', not 'r"
    ):
        A.SGP(network="ring")


@pytest.mark.filterwarnings("ignore:.* is of float32 and its (rows|columns) sum to 1 in single")
def test_weights_in_single_precision_sum_to_one_in_double(tmp_path):
    for algorithm in (*PUSHING, A.PushPull()):
        mixing = [W.astype(np.float32) for W in weights_for(algorithm, UNEVEN, 1)]
        run = simulated(UNEVEN, algorithm, mixing=mixing, learning_rate=0.2, steps=300)
        again = rs.simulate(**rs.rebuild(run.config))
        np.testing.assert_array_equal(run.x, again.x)
    assert run.frame.distance.iloc[-1] < 1e-9
    with pytest.warns(UserWarning, match="and its columns sum to 1 in single precision only"):
        simulated(
            UNEVEN, PUSHING[0], mixing=weights_for(PUSHING[0], UNEVEN, 1)[0].astype(np.float32)
        )


# -- claims ----------------------------------------------------------------------------------------

# A directed ring of 16 and three links more; the problem is ours, since that of the numbers is not known.
RING_AND_3 = T.from_edges(
    16, [*T.directed_ring(16).edges.tolist(), (0, 8), (2, 14), (5, 1)], directed=True
)


def problem_of_the_ring():
    return rs.problems.random_quadratics(n=16, d=5, zeta2=1.0, mu=0.25, seed=0)


def test_tracking_over_a_directed_ring_takes_as_many_steps_as_listed():
    """To ‖x − x*‖² < 1e-10: push-DIGing 414 (γ = .05; listed 404), AB 661 (γ = .03; listed 580)."""
    problem = problem_of_the_ring()
    taken = {}
    for algorithm, rate in ((A.PushDIGing(), 0.05), (A.PushPull(), 0.03)):
        frame = rs.simulate(problem, RING_AND_3, algorithm, learning_rate=rate, steps=800).frame
        taken[algorithm] = int(frame.step[frame.distance < 1e-10].iloc[0])
        assert frame.distance.iloc[-1] < 1e-11
    assert list(taken.values()) == [414, 661]
    assert taken[A.PushDIGing()] == pytest.approx(404, rel=0.15)
    assert taken[A.PushPull()] == pytest.approx(580, rel=0.15)


def test_push_sum_alone_stalls_and_its_bias_falls_with_the_rate():
    """‖x − x*‖² = 1.3e-2 at γ = .05 (listed 1.7e-2), and to 0 as γ²."""
    problem = problem_of_the_ring()
    plateaus = [
        rs.theory.linearize(problem, RING_AND_3, A.SGP(1, "topology"), rate).plateau().distance
        for rate in (0.05, 0.001, 0.0005)
    ]
    assert plateaus[0] == pytest.approx(1.28e-2, rel=0.01)
    assert plateaus[1] / plateaus[2] == pytest.approx(4, rel=0.02)
    ends = rs.simulate(
        problem, RING_AND_3, A.SGP(1, "topology"), learning_rate=0.05, steps=1500, record=[1500]
    )
    assert ends.frame.distance.iloc[0] == pytest.approx(plateaus[0], rel=1e-9)


@pytest.mark.filterwarnings("ignore:DPSGD on one-way links")
def test_rows_alone_end_where_their_own_weights_have_it():
    """‖x̄ − x*‖² as γ → 0 is that of argmin Σ_i π_i f_i, 6.6e-2 (listed 5.3e-2), π the left Perron vector."""
    problem = problem_of_the_ring()
    W = rs.mixing.row_stochastic(RING_AND_3).toarray()
    values, vectors = np.linalg.eig(W.T)
    pi = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    pi /= pi.sum()
    hessians = np.einsum("imd,ime->ide", problem.A, problem.A)
    constants = np.einsum("imd,im->id", problem.A, problem.b)
    weighed = np.linalg.solve(np.tensordot(pi, hessians, axes=1), pi @ constants)
    predicted = np.sum((weighed - problem.optimum) ** 2)
    assert predicted == pytest.approx(6.58e-2, rel=0.01)
    missed = []
    for rate in (1e-3, 1e-4):
        fixed = rs.theory.linearize(problem, RING_AND_3, A.DPSGD(), rate).fixed_point
        missed.append(np.abs(fixed - weighed).max())
        measured = np.sum((fixed.mean(axis=0) - problem.optimum) ** 2)
    assert measured == pytest.approx(predicted, rel=1e-2)
    assert missed[0] / missed[1] == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("algorithm", [A.D2(), A.ExactDiffusion(), A.EXTRA()], ids=repr)
def test_why_corrections_of_gossip_are_refused_over_one_way_links(algorithm):
    """Their modes with complex eigenvalues of W grow at any rate, although W is doubly stochastic."""
    ring = T.directed_ring(8)
    problem = problem_for(ring)
    for rate in (0.3, 0.03, 0.003):
        linear = rs.theory.linearize(
            problem, ring.to_undirected(), algorithm, rate, mixing=rs.mixing.row_stochastic(ring)
        )
        assert linear.spectral_radius > 1.01


# -- records and tables ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:DPSGD on one-way links")
def test_a_run_on_a_digraph_is_rebuilt_from_its_record(tmp_path):
    run = simulated(UNEVEN, rs.algorithms.DPSGD(), mixing=rs.mixing.row_stochastic(UNEVEN))
    again = rs.simulate(**rs.rebuild(run.config))
    np.testing.assert_array_equal(run.x, again.x)
    assert again.topology == UNEVEN
    path = run.save(tmp_path / "run.npz") or tmp_path / "run.npz"
    assert rs.History.load(path).topology == UNEVEN
    both = simulated(UNEVEN.to_undirected(), rs.algorithms.DPSGD())
    assert "directed" not in both.config["topology"]


@pytest.mark.filterwarnings("ignore:DPSGD on one-way links")
def test_sweeps_take_digraphs_by_name_and_as_objects():
    settings = {
        "algorithm": "DPSGD",
        "topology": [
            "directed_ring",
            UNEVEN,
            "from_edges(5, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)])",
        ],
        "n": 5,
        "mixing": [None, "row_stochastic"],
        "d": 2,
        "zeta2": 1.0,
        "learning_rate": 0.05,
        "steps": 5,
    }
    ends = rs.sweep(settings, progress=False).query("step == 5")
    sent = ends.groupby("topology", sort=False).vectors_sent.unique().map(list).tolist()
    assert sent == [[5 * 5], [5 * 6], [5 * 2 * 5]]


def test_workers_wait_for_those_that_they_hear():
    compute = rs.analysis.Constant(1.0)
    slow_worker = {0: 10.0}
    ring = rs.analysis.runtime(T.directed_ring(5), 4, compute=compute, stragglers=slow_worker)
    # The delay of 0 goes round in the direction of the links, one worker a step.
    assert ring.worker_times[1].ravel().tolist() == [10, 10, 1, 1, 1]
    assert ring.worker_times[2].ravel().tolist() == [20, 20, 11, 2, 2]
