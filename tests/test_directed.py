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
