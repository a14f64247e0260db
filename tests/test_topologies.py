import itertools
import math

import networkx
import numpy as np
import pytest
import slow
from graphs import any_graphs, connected_graphs, trees
from hypothesis import given
from hypothesis import strategies as st

import relaysim as rs
from relaysim import topologies
from relaysim.topologies import Topology, TreePair


def edge_set(topology):
    return {tuple(edge) for edge in topology.edges.tolist()}


def undirected(pairs):
    return {(min(a, b), max(a, b)) for a, b in pairs if a != b}


NAMED = (
    topologies.chain(5),
    topologies.ring(6),
    topologies.star(5),
    topologies.complete(4),
    topologies.binary_tree(9),
    topologies.regular_tree(11, 4),
    topologies.hypercube(8),
    topologies.torus(3, 4),
    topologies.exponential(7),
    topologies.two_cliques(7),
    topologies.erdos_renyi(12, 0.4, seed=1),
    topologies.random_regular(10, 3, seed=2),
    topologies.watts_strogatz(10, 4, 0.3, seed=3),
    topologies.barabasi_albert(12, 2, seed=4),
    topologies.social_network(),
    topologies.spanning_tree(topologies.torus(3, 3), root=4),
)
over_named = pytest.mark.parametrize("topology", NAMED, ids=repr)


# -- any topology ----------------------------------------------------------------------------------


@given(any_graphs())
def test_derived_properties_agree_with_the_edges(graph):
    n, edges = graph
    topology = topologies.from_edges(n, edges)
    expected = undirected(edges)
    assert edge_set(topology) == expected
    assert topology.edges.tolist() == sorted(topology.edges.tolist())
    assert topology.edges.shape == (len(expected), 2)
    neighbours = slow.neighbours_of(topology)
    assert topology.degrees.tolist() == [len(others) for others in neighbours]
    hops = slow.hop_distances(neighbours)
    assert topology.is_connected == bool(np.isfinite(hops).all())
    assert topology.is_tree == (topology.is_connected and len(expected) == n - 1)
    assert topology.diameter == (hops.max() if topology.is_connected else math.inf)
    for worker in range(n):
        assert topology.distances_from(worker).tolist() == hops[worker].tolist()
    reference = networkx.empty_graph(n)
    reference.add_edges_from(expected)
    assert networkx.utils.graphs_equal(topology.to_networkx(), reference)


@given(any_graphs())
def test_directed_edges_are_sorted_by_receiver_and_know_their_reverse(graph):
    topology = topologies.from_edges(*graph)
    directed = list(zip(topology.dst.tolist(), topology.src.tolist(), strict=True))
    both = undirected(graph[1])
    assert directed == sorted(both | {(b, a) for a, b in both})
    for k, (receiver, sender) in enumerate(directed):
        assert directed[topology.reverse[k]] == (sender, receiver)


@given(any_graphs(), st.randoms(use_true_random=False))
def test_equality_and_hash_are_those_of_the_graph(graph, random):
    n, edges = graph
    topology = topologies.from_edges(n, edges)
    shuffled = [random.choice([(a, b), (b, a)]) for a, b in edges]
    random.shuffle(shuffled)
    same = Topology(n, shuffled, name="another name")
    assert topology == same
    assert hash(topology) == hash(same)
    assert topology != topologies.from_edges(n + 1, edges)
    if len(topology.edges):
        assert topology != topologies.from_edges(n, topology.edges[1:])
    assert topology != edges


@given(any_graphs())
def test_networkx_and_back(graph):
    topology = topologies.from_edges(*graph)
    assert topologies.from_networkx(topology.to_networkx()) == topology


def test_nodes_of_a_networkx_graph_are_numbered_in_its_order():
    graph = networkx.Graph()
    graph.add_nodes_from(["c", "a", "b"])
    graph.add_edge("a", "b")
    assert edge_set(topologies.from_networkx(graph)) == {(1, 2)}


@over_named
def test_a_topology_cannot_be_changed(topology):
    for name in ("n", "edges", "degrees", "is_tree", "src"):
        array = getattr(topology, name)
        if isinstance(array, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    for name in ("n", "edges", "is_tree", "name"):
        with pytest.raises(AttributeError):
            setattr(topology, name, 3)


def test_edges_are_copied_from_what_was_given():
    edges = np.array([[0, 1], [1, 2]])
    topology = Topology(3, edges)
    edges[0, 1] = 2
    assert edge_set(topology) == {(0, 1), (1, 2)}
    assert edge_set(Topology(3, iter([(2, 1)]))) == {(1, 2)}


@over_named
def test_repr_is_the_call_that_made_it(topology):
    assert eval(repr(topology), vars(topologies).copy()) == topology


def test_repr_of_a_topology_without_a_name_tells_its_size():
    assert repr(topologies.from_edges(4, [(0, 1), (2, 3)])) == "Topology(n=4, 2 edges)"


# -- literal constructors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "edges"),
    [
        (topologies.chain(1), []),
        (topologies.chain(4), [(0, 1), (1, 2), (2, 3)]),
        (topologies.ring(1), []),
        (topologies.ring(2), [(0, 1)]),
        (topologies.ring(5), [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]),
        (topologies.star(1), []),
        (topologies.star(4), [(0, 1), (0, 2), (0, 3)]),
        (topologies.complete(1), []),
        (topologies.complete(4), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
        (topologies.binary_tree(1), []),
        (topologies.binary_tree(2), [(0, 1)]),
        (
            topologies.binary_tree(10),
            [(0, 1), (1, 2), (1, 3), (2, 4), (2, 5), (3, 6), (3, 7), (4, 8), (4, 9)],
        ),
        (topologies.regular_tree(5, 2), [(0, 1), (0, 2), (1, 3), (2, 4)]),
        (
            topologies.regular_tree(9, 3),
            [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6), (2, 7), (3, 8)],
        ),
        (topologies.hypercube(1), []),
        (topologies.hypercube(4), [(0, 1), (0, 2), (1, 3), (2, 3)]),
        (topologies.torus(1, 1), []),
        (topologies.torus(1, 4), [(0, 1), (1, 2), (2, 3), (0, 3)]),
        (topologies.torus(2, 2), [(0, 1), (0, 2), (1, 3), (2, 3)]),
        (
            topologies.torus(2, 3),
            [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)],
        ),
        (topologies.exponential(1), []),
        (topologies.exponential(2), [(0, 1)]),
        (topologies.exponential(3), [(0, 1), (1, 2), (0, 2)]),
        (topologies.exponential(5), list(itertools.combinations(range(5), 2))),
        (topologies.two_cliques(2), [(0, 1)]),
        (topologies.two_cliques(5), [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]),
        (topologies.spanning_tree(topologies.ring(5), 2), [(1, 2), (2, 3), (0, 1), (3, 4)]),
        (topologies.spanning_tree(topologies.complete(4), 1), [(0, 1), (1, 2), (1, 3)]),
    ],
    ids=repr,
)
def test_literal_edges(topology, edges):
    assert edge_set(topology) == undirected(edges)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 21])
def test_trees_are_trees(n):
    for tree in (
        topologies.chain(n),
        topologies.star(n),
        topologies.binary_tree(n),
        topologies.regular_tree(n, 2),
        topologies.regular_tree(n, 4),
    ):
        assert tree.is_tree
        assert tree.n == n
    assert topologies.chain(n).diameter == n - 1
    assert topologies.star(n).diameter == min(n - 1, 2)


@pytest.mark.parametrize("n", [3, 6, 11, 33])
def test_binary_tree_has_the_children_2i_and_2i_plus_1(n):
    children = {(i, c) for i in range(1, n) for c in (2 * i, 2 * i + 1) if c < n}
    assert edge_set(topologies.binary_tree(n)) == children | {(0, 1)}


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_inner_workers_of_a_regular_tree_have_its_degree(degree):
    tree = topologies.regular_tree(40, degree)
    inner = tree.degrees[tree.degrees > 1]
    assert (inner[:-1] == degree).all()
    levels = tree.distances_from(0)
    assert (np.diff(levels) >= 0).all(), "filled level by level"


@pytest.mark.parametrize("n", [2, 8, 16])
def test_hypercube_links_numbers_that_differ_in_one_digit(n):
    cube = topologies.hypercube(n)
    pairs = itertools.combinations(range(n), 2)
    assert edge_set(cube) == {(a, b) for a, b in pairs if (a ^ b).bit_count() == 1}
    assert cube.diameter == n.bit_length() - 1


@pytest.mark.parametrize(("rows", "cols"), [(3, 4), (5, 3), (2, 5), (1, 6), (6, 1)])
def test_torus_links_the_cells_beside_each_other(rows, cols):
    links = set()
    for row, col in itertools.product(range(rows), range(cols)):
        links.add((row * cols + col, row * cols + (col + 1) % cols))
        links.add((row * cols + col, (row + 1) % rows * cols + col))
    assert edge_set(topologies.torus(rows, cols)) == undirected(links)


@pytest.mark.parametrize("n", [4, 7, 8, 13, 32])
def test_exponential_links_workers_a_power_of_two_apart(n):
    hops = [1, 2, 4, 8, 16]
    links = {(i, (i + hop) % n) for i in range(n) for hop in hops if hop < n}
    assert edge_set(topologies.exponential(n)) == undirected(links)


@pytest.mark.parametrize("n", [4, 9])
def test_two_cliques_are_complete_and_joined_by_one_edge(n):
    half = (n + 1) // 2
    cliques = [(a, b) for a, b in itertools.combinations(range(n), 2) if (a < half) == (b < half)]
    assert edge_set(topologies.two_cliques(n)) == {*cliques, (half - 1, half)}


def test_social_network_is_that_of_the_southern_women():
    graph = topologies.social_network()
    assert (graph.n, len(graph.edges), graph.is_connected) == (32, 89, True)
    # How many of the 14 events each of the 18 women attended (Davis, Gardner and Gardner, 1941).
    attended = [8, 7, 8, 7, 4, 4, 4, 3, 4, 4, 4, 6, 7, 8, 5, 2, 2, 2]
    assert graph.degrees[:18].tolist() == attended
    assert (graph.edges[:, 0] < 18).all()
    assert (graph.edges[:, 1] >= 18).all()


# -- random constructors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: topologies.erdos_renyi(30, 0.3, seed),
        lambda seed: topologies.random_regular(30, 4, seed),
        lambda seed: topologies.watts_strogatz(30, 4, 0.5, seed),
        lambda seed: topologies.barabasi_albert(30, 2, seed),
    ],
    ids=["erdos_renyi", "random_regular", "watts_strogatz", "barabasi_albert"],
)
def test_random_graphs_depend_on_their_seed_and_on_nothing_else(draw):
    first = draw(7)
    np.random.random()  # noqa: NPY002
    assert draw(7) == first
    assert draw(8) != first
    assert draw(np.int64(7)) == first


def test_erdos_renyi_has_its_probability():
    assert edge_set(topologies.erdos_renyi(7, 0.0, seed=0)) == set()
    assert topologies.erdos_renyi(7, 1.0, seed=0) == topologies.complete(7)
    edges = sum(len(topologies.erdos_renyi(20, 0.3, seed=seed).edges) for seed in range(40))
    pairs = 40 * 190
    assert abs(edges / pairs - 0.3) < 5 * math.sqrt(0.3 * 0.7 / pairs)


@pytest.mark.parametrize(("n", "degree"), [(10, 3), (9, 4), (2, 1), (7, 6)])
def test_random_regular_is_regular(n, degree):
    for seed in range(5):
        assert topologies.random_regular(n, degree, seed).degrees.tolist() == [degree] * n


def test_watts_strogatz_without_rewiring_is_a_lattice():
    lattice = {(i, (i + hop) % 10) for i in range(10) for hop in (1, 2)}
    assert edge_set(topologies.watts_strogatz(10, 4, 0.0, seed=0)) == undirected(lattice)
    rewired = topologies.watts_strogatz(10, 4, 0.9, seed=0)
    assert len(rewired.edges) == 20
    assert edge_set(rewired) != undirected(lattice)


@pytest.mark.parametrize(("n", "m"), [(20, 1), (20, 3), (4, 3)])
def test_barabasi_albert_adds_m_links_a_worker(n, m):
    graph = topologies.barabasi_albert(n, m, seed=0)
    assert len(graph.edges) == m * (n - m)
    assert graph.is_connected
    assert graph.is_tree == (m * (n - m) == n - 1)


# -- spanning trees --------------------------------------------------------------------------------


def breadth_first_edges(topology, root):
    """Take neighbours in increasing order; each new one hangs below who found it."""
    neighbours = slow.neighbours_of(topology)
    reached, edges = [root], []
    for worker in reached:
        for other in neighbours[worker]:
            if other not in reached:
                reached.append(other)
                edges.append((worker, other))
    return undirected(edges)


@given(connected_graphs(), st.data())
def test_spanning_tree_is_the_breadth_first_tree_of_its_root(graph, data):
    topology = topologies.from_edges(*graph)
    root = data.draw(st.integers(0, topology.n - 1))
    tree = topologies.spanning_tree(topology, root)
    assert tree.is_tree
    assert edge_set(tree) <= edge_set(topology)
    assert edge_set(tree) == breadth_first_edges(topology, root)
    assert tree.distances_from(root).tolist() == topology.distances_from(root).tolist()


@given(connected_graphs(most=9))
def test_spanning_tree_without_a_root_has_the_smallest_diameter(graph):
    topology = topologies.from_edges(*graph)
    tree = topologies.spanning_tree(topology)
    candidates = [
        topologies.from_edges(topology.n, list(breadth_first_edges(topology, root)))
        for root in range(topology.n)
    ]
    diameters = [slow.hop_distances(slow.neighbours_of(t)).max() for t in candidates]
    assert tree == candidates[int(np.argmin(diameters))]


@given(trees())
def test_the_spanning_tree_of_a_tree_is_itself(graph):
    tree = topologies.from_edges(*graph)
    assert topologies.spanning_tree(tree) == tree


# -- pairs of trees --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4, 9, 16])
def test_double_binary_tree_is_the_tree_and_its_mirror_image(n):
    pair = topologies.double_binary_tree(n)
    assert pair.n == n
    assert pair.first == topologies.binary_tree(n)
    mirrored = {(n - 1 - a, n - 1 - b) for a, b in edge_set(pair.first)}
    assert edge_set(pair.second) == undirected(mirrored)
    assert pair.diameter == topologies.binary_tree(n).diameter


def test_a_pair_offers_nothing_that_it_cannot_mean():
    pair = TreePair(topologies.chain(4), topologies.star(4))
    assert pair.diameter == 3
    for name in ("edges", "degrees", "is_tree", "adjacency", "src", "dst", "reverse"):
        assert not hasattr(pair, name)
    assert pair == TreePair(topologies.chain(4), topologies.star(4))
    assert hash(pair) == hash(TreePair(topologies.chain(4), topologies.star(4)))
    assert pair != TreePair(topologies.star(4), topologies.chain(4))
    with pytest.raises(AttributeError):
        pair.first = topologies.star(4)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: topologies.chain(0), ValueError, "n must be at least 1, not 0"),
        (lambda: topologies.ring(-2), ValueError, "n must be at least 1, not -2"),
        (lambda: topologies.star(2.5), TypeError, "n must be a whole number, not 2.5"),
        (lambda: topologies.complete("3"), TypeError, "n must be a whole number, not '3'"),
        (lambda: topologies.torus(0, 3), ValueError, "rows must be at least 1"),
        (lambda: topologies.torus(3, 0), ValueError, "cols must be at least 1"),
        (lambda: topologies.hypercube(6), ValueError, "power of two.*not 6.*nearest are 4 and 8"),
        (lambda: topologies.two_cliques(1), ValueError, "at least 2 workers, not 1"),
        (lambda: topologies.regular_tree(5, 1), ValueError, "degree of at least 2, not 1"),
        (lambda: topologies.erdos_renyi(5, 1.5, 0), ValueError, "number between 0 and 1"),
        (lambda: topologies.erdos_renyi(5, 0.5, None), TypeError, "whole number"),
        (lambda: topologies.watts_strogatz(5, 5, 0.5, 0), ValueError, "2 ≤ k < n, not k=5, n=5"),
        (lambda: topologies.watts_strogatz(5, 2, -0.1, 0), ValueError, "number between 0 and 1"),
        (lambda: topologies.barabasi_albert(5, 5, 0), ValueError, "1 ≤ m < n, not m=5, n=5"),
        (lambda: topologies.random_regular(5, 3, 0), ValueError, "even, not n=5, degree=3"),
        (lambda: topologies.random_regular(4, 4, 0), ValueError, "degree < n"),
        (
            lambda: topologies.from_edges(3, [(0, 3)]),
            ValueError,
            r"\[0, 3\] names a worker outside",
        ),
        (lambda: topologies.from_edges(3, [(-1, 0)]), ValueError, "names a worker outside"),
        (lambda: topologies.from_edges(3, [(1, 1)]), ValueError, "links a worker with itself"),
        (
            lambda: topologies.from_edges(3, [(0, 1, 2)]),
            ValueError,
            r"shape \(m, 2\), not \(1, 3\)",
        ),
        (lambda: topologies.from_edges(3, [(0.0, 1.0)]), ValueError, "whole numbers"),
        (lambda: topologies.from_networkx(networkx.DiGraph()), ValueError, "n must be at least 1"),
        (lambda: topologies.from_networkx(networkx.Graph()), ValueError, "n must be at least 1"),
        (
            lambda: topologies.from_networkx(networkx.Graph([(0, 0)])),
            ValueError,
            "links a worker with itself",
        ),
        (
            lambda: topologies.spanning_tree(topologies.from_edges(3, [(0, 1)])),
            ValueError,
            "not connected",
        ),
        (
            lambda: topologies.spanning_tree(topologies.chain(3), root=3),
            ValueError,
            "root must be a worker 0 … 2, not 3",
        ),
        (
            lambda: TreePair(topologies.chain(3), topologies.ring(3)),
            ValueError,
            r"ring\(3\) is not a tree",
        ),
        (
            lambda: TreePair(topologies.chain(3), topologies.chain(4)),
            ValueError,
            "the same workers: 3 and 4",
        ),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_sizes_may_be_numpys_whole_numbers():
    assert rs.topologies.hypercube(np.int64(8)) == rs.topologies.hypercube(8)
    for ours, plain in zip(
        rs.mixing.one_peer_exponential(np.int64(6)), rs.mixing.one_peer_exponential(6), strict=True
    ):
        assert (ours != plain).nnz == 0


@pytest.mark.parametrize("worker", [-1, 5, 1.0, np.int64(-5)])
def test_distances_from_a_worker_that_is_not_there_are_refused(worker):
    with pytest.raises((ValueError, TypeError), match="worker must be"):
        topologies.ring(5).distances_from(worker)
