"""Spanning trees: drawn uniformly, all, the best, and two without a common edge."""

import itertools

import networkx
import numpy as np
import pytest
from graphs import connected_graphs
from hypothesis import given, settings
from scipy.stats import chi2

import relaysim as rs
from relaysim.theory import correction_factor
from relaysim.topologies import (
    all_spanning_trees,
    best_spanning_tree,
    from_edges,
    random_spanning_tree,
    tree_pair,
)

CYCLES = rs.topologies.from_edges(5, [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4), (1, 3)])


def subsets_that_are_trees(topology):
    subsets = itertools.combinations(topology.edges.tolist(), topology.n - 1)
    return [tree for tree in (from_edges(topology.n, edges) for edges in subsets) if tree.is_tree]


@given(connected_graphs())
@settings(max_examples=30)
def test_all_trees_are_the_subsets_that_are_trees(graph):
    topology = from_edges(*graph)
    if len(topology.edges) <= 12:
        found = all_spanning_trees(topology)
        assert found == subsets_that_are_trees(topology)


@pytest.mark.parametrize("by", ["correction_factor", "diameter"])
@given(graph=connected_graphs())
@settings(max_examples=30)
def test_the_best_tree_is_the_best_of_all(by, graph):
    topology = from_edges(*graph)
    if len(topology.edges) > 12:
        return
    measured = correction_factor if by == "correction_factor" else lambda tree: tree.diameter
    best = best_spanning_tree(topology, by)
    assert best.is_tree
    assert set(map(tuple, best.edges.tolist())) <= set(map(tuple, topology.edges.tolist()))
    least = min(map(measured, subsets_that_are_trees(topology)))
    assert measured(best) == pytest.approx(least, rel=1e-12)


def test_exchanges_of_edges_make_trees_of_larger_graphs_better(monkeypatch):
    network = rs.topologies.erdos_renyi(24, 0.25, seed=1)
    best, plain = best_spanning_tree(network), rs.topologies.spanning_tree(network)
    assert correction_factor(best) < correction_factor(plain)
    # No exchange of an edge makes it better: all are tried.
    edges, found = set(map(tuple, best.edges.tolist())), correction_factor(best)
    for left, added in itertools.product(sorted(edges), map(tuple, network.edges.tolist())):
        other = from_edges(24, sorted(edges - {left} | {added}))
        assert not other.is_tree or correction_factor(other) >= found - 1e-12
    # Where it is known, what exchanges end at is the best of all, or near it.
    small = rs.topologies.erdos_renyi(10, 0.4, seed=3)
    of_all = correction_factor(best_spanning_tree(small))
    monkeypatch.setattr("relaysim.topologies.spanning.MOST_TREES", 10)
    assert of_all <= correction_factor(best_spanning_tree(small)) < 1.05 * of_all


def test_random_trees_are_all_as_likely():
    """Pearson's chi square, at a level that a right sampler misses once in a million."""
    trees = {tree: k for k, tree in enumerate(all_spanning_trees(CYCLES))}
    drawn = [trees[random_spanning_tree(CYCLES, seed)] for seed in range(4000)]
    expected = len(drawn) / len(trees)
    counts = np.bincount(drawn, minlength=len(trees))
    assert len(trees) == 21
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-6, len(trees) - 1)
    assert random_spanning_tree(CYCLES, 7) == random_spanning_tree(CYCLES, 7)


def splits_that_forbid(topology):
    """Whether some parts of the workers have too few edges between them for two trees (Nash-Williams)."""
    for labels in itertools.product(range(topology.n), repeat=topology.n):
        parts = len(set(labels))
        between = sum(labels[a] != labels[b] for a, b in topology.edges.tolist())
        if between < 2 * (parts - 1):
            return True
    return False


@given(connected_graphs())
@settings(max_examples=60)
def test_pairs_of_trees_are_found_where_they_exist(graph):
    topology = from_edges(*graph)
    if topology.n > 5:
        return
    if splits_that_forbid(topology):
        with pytest.raises(ValueError, match="has no two spanning trees without a common edge"):
            tree_pair(topology)
        return
    pair = tree_pair(topology)
    edges = [set(map(tuple, tree.edges.tolist())) for tree in (pair.first, pair.second)]
    assert not edges[0] & edges[1]
    assert edges[0] | edges[1] <= set(map(tuple, topology.edges.tolist()))


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_found_in_graphs_that_are_made_of_two_trees(seed):
    """No edge to spare: those that are put into the wrong tree have to move over."""
    generator, n = np.random.default_rng(seed), 24
    first = rs.topologies.from_networkx(networkx.random_labeled_tree(n, seed=seed))
    while True:
        moved = generator.permutation(n)[first.edges]
        both = {tuple(sorted(edge)) for edge in [*first.edges.tolist(), *moved.tolist()]}
        if len(both) == 2 * (n - 1):
            break
    pair = tree_pair(from_edges(n, sorted(both)))
    assert pair.first.edges.shape == pair.second.edges.shape == (n - 1, 2)
    x = rs.simulate(
        rs.problems.random_quadratics(n=n, d=4, zeta2=1.0, seed=0),
        pair,
        rs.algorithms.RelaySGD(),
        learning_rate=0.1,
        steps=5,
    ).x
    assert np.isfinite(x).all()


def test_a_single_worker_and_two():
    one, two = rs.topologies.chain(1), rs.topologies.chain(2)
    assert all_spanning_trees(one) == [one]
    assert tree_pair(one).n == 1
    for topology in (one, two):
        for by in ("correction_factor", "diameter"):
            assert best_spanning_tree(topology, by) == topology
        assert random_spanning_tree(topology, 0) == topology


def test_calls_are_names_in_settings():
    table = rs.sweep(
        {
            "topology": [
                "random_spanning_tree(torus(3, 3), seed=1)",
                "best_spanning_tree(torus(3, 3), by='diameter')",
                "tree_pair(torus(3, 3))",
            ],
            "learning_rate": 0.1,
            "steps": 2,
            "zeta2": 0.0,
        },
        progress=False,
    )
    assert table.topology.nunique() == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: all_spanning_trees(rs.topologies.complete(8)),
            ValueError,
            r"complete\(8\) has 2\.621e\+05 spanning trees and 20000 are listed at most; draw some",
        ),
        (lambda: tree_pair(rs.topologies.ring(8)), ValueError, r"2\(n − 1\) = 14 edges.*has 8"),
        (lambda: best_spanning_tree(CYCLES, by="size"), ValueError, "by must be one of"),
        (lambda: random_spanning_tree(CYCLES, -1), ValueError, "seed must be at least 0"),
        (lambda: tree_pair("ring"), TypeError, "tree_pair needs a Topology"),
        (
            lambda: best_spanning_tree(from_edges(4, [(0, 1), (2, 3)])),
            ValueError,
            "is not connected, so it has no spanning tree",
        ),
        (
            lambda: all_spanning_trees(rs.topologies.directed_ring(4)),
            ValueError,
            "carry messages both ways",
        ),
    ],
)
def test_what_cannot_be_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
