"""Sequences that average exactly on a given graph, and nearly: products, limits, tracking with them."""

import numpy as np
import pytest
from scipy import sparse

import relaysim as rs
from relaysim import mixing, topologies
from relaysim.mixing.sequences import as_sequence
from relaysim.topologies import (
    barabasi_albert,
    binary_tree,
    chain,
    complete,
    exponential,
    hypercube,
    ring,
    star,
    torus,
    two_cliques,
)

GRAPHS = [ring(16), ring(15), chain(12), star(9), hypercube(16), torus(3, 5), two_cliques(8)]
GRAPHS += [complete(5), exponential(12), chain(2)]


def distance(period):
    """‖W_{m−1} ⋯ W_0 − J‖₂."""
    product = np.eye(period[0].shape[0])
    for W in period:
        product = W.toarray() @ product
    return np.linalg.norm(product - 1 / len(product), 2)


def largest_in_a_row(period):
    """The largest factor by which steps in a row, from any of them on, enlarge disagreement."""
    dense, m = [W.toarray() for W in period], len(period)
    largest = 0
    for start in range(m):
        product = np.eye(len(dense[0]))
        for k in range(m):
            product = dense[(start + k) % m] @ product
            largest = max(largest, np.linalg.norm(product - 1 / len(product), 2))
    return largest


# -- the Laplacian sequence ------------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_a_laplacian_sequence_averages_exactly_on_its_own_edges(graph):
    period = mixing.laplacian_sequence(graph)
    spectrum = np.linalg.eigvalsh(np.diag(graph.degrees) - graph.adjacency.toarray())
    assert len(period) == len(set(spectrum.round(9))) - 1
    assert distance(period) < 1e-12
    for W in as_sequence(period, graph):  # which looks at the edges
        assert isinstance(W, sparse.csr_array)
        np.testing.assert_array_equal(W.toarray(), W.toarray().T)
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-13)
    for shorter in range(1, len(period)):
        assert distance(period[:shorter]) > 1e-3


def test_the_ring_of_sixteen_takes_eight_steps_and_another_order_enlarges_more():
    period = mixing.laplacian_sequence(ring(16))
    assert len(period) == 8
    assert distance(period) < 1e-14
    beginnings = [distance(period[: k + 1]) for k in range(8)]
    assert max(beginnings) < 7
    by_weight = sorted(period, key=lambda W: W[0, 1], reverse=True)
    assert max(distance(by_weight[: k + 1]) for k in range(8)) > 300


def test_how_much_steps_in_a_row_enlarge_is_as_documented():
    largest = [largest_in_a_row(mixing.laplacian_sequence(g)) for g in (ring(16), chain(12))]
    np.testing.assert_allclose(largest, [25, 333], rtol=0.02)
    assert largest_in_a_row(mixing.laplacian_sequence(binary_tree(16))) == pytest.approx(
        1900, rel=0.02
    )


@pytest.mark.parametrize(
    ("graph", "sequence_limit"), [(ring(16), 0.34), (chain(12), 0.025), (binary_tree(16), 6e-5)]
)
def test_rates_at_which_tracking_is_stable_are_as_documented(graph, sequence_limit):
    n = graph.n
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 1)), np.arange(float(n))[:, None])
    tracking = rs.algorithms.GradientTracking()
    limit = rs.theory.max_learning_rate(
        problem, graph, tracking, mixing=mixing.laplacian_sequence(graph)
    )
    assert limit == pytest.approx(sequence_limit, rel=0.03)
    # With Metropolis weights every mode of W is stable below 2.
    assert rs.theory.max_learning_rate(problem, graph, tracking) == pytest.approx(2, rel=1e-9)


# -- perturbed ones --------------------------------------------------------------------------------

EXACT = {
    "one-peer": mixing.one_peer_exponential(16),
    "base": mixing.base_graph(6, 1),
    "Laplacian": mixing.laplacian_sequence(ring(9)),
    "J": mixing.metropolis(complete(4)),
}


@pytest.mark.parametrize("epsilon", [1e-6, 0.064, 0.38, 0.9])
@pytest.mark.parametrize("name", EXACT)
def test_a_perturbed_sequence_misses_the_average_by_epsilon_and_keeps_the_mean(name, epsilon):
    exact = EXACT[name] if isinstance(EXACT[name], tuple) else (EXACT[name],)
    period = mixing.perturbed(EXACT[name], epsilon, seed=3)
    assert distance(period) == pytest.approx(epsilon, rel=1e-9, abs=1e-13)
    for W, before in zip(period, exact, strict=True):
        np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-12)
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-12)
        off = W - before
        assert off.nnz
        # No worker speaks to others than before, and symmetric matrices stay so.
        assert (
            not (abs(W) > 0)
            .toarray()[(before.toarray() == 0) & ~np.eye(len(off.toarray()), dtype=bool)]
            .any()
        )
        if abs(before - before.T).max() == 0:
            assert abs(W - W.T).max() < 1e-15
    with_equal = mixing.perturbed(EXACT[name], epsilon, seed=3)
    assert all((a != b).nnz == 0 for a, b in zip(period, with_equal, strict=True))
    other = mixing.perturbed(EXACT[name], epsilon, seed=4)
    assert any((a != b).nnz for a, b in zip(period, other, strict=True))


def test_no_error_leaves_the_sequence_as_it_was():
    period = mixing.perturbed(EXACT["one-peer"], 0, seed=0)
    assert all((a != b).nnz == 0 for a, b in zip(period, EXACT["one-peer"], strict=True))


def steps_of_tracking(problem, matrices, rates, most=700):
    """Steps of X ← W(X − γY), Y ← W(Y + G⁺ − G) to a distance of 1e-10 at the best rate."""
    dense = [W.toarray() for W in matrices]
    gradient = problem.gradient(np.zeros((problem.n, problem.d, len(rates))))
    x, tracker = np.zeros_like(gradient), gradient
    reached = np.full(len(rates), np.inf)
    with np.errstate(all="ignore"):
        for step in range(most):
            W = dense[step % len(dense)]
            x = np.tensordot(W, x - rates * tracker, axes=1)
            after = problem.gradient(x)
            tracker = np.tensordot(W, tracker + after - gradient, axes=1)
            gradient = after
            below = ((x - problem.optimum[:, None]) ** 2).sum(axis=1).mean(axis=0) < 1e-10
            reached = np.where(below, np.minimum(reached, step + 1), np.inf)
    return reached.min()


def test_steps_of_tracking_grow_with_what_the_product_misses():
    """Measured apart, on another problem: 16 exactly, then 15, 20, 36, 68; 420 with Metropolis weights."""
    problem = rs.problems.random_quadratics(n=16, d=5, zeta2=1.0, seed=0)
    rates = np.geomspace(0.02, 1.5, 40)
    exact = mixing.one_peer_exponential(16)
    metropolis = (mixing.metropolis(ring(16)),)
    sequences = [exact]
    sequences += [
        mixing.perturbed(exact, epsilon, seed=1) for epsilon in (0.006, 0.064, 0.19, 0.38)
    ]
    steps = [steps_of_tracking(problem, period, rates) for period in (*sequences, metropolis)]
    np.testing.assert_allclose(steps, [16, 15, 20, 36, 68, 420], rtol=0.3)
    assert (np.diff(steps[1:]) > 4).all()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mixing.laplacian_sequence(binary_tree(31)),
            r"e-09 from .* use base_graph\(31, 1\)",
        ),
        (lambda: mixing.laplacian_sequence(topologies.social_network()), "does not average"),
        (lambda: mixing.laplacian_sequence(barabasi_albert(32, 2, seed=0)), "30 matrices"),
        (lambda: mixing.laplacian_sequence(topologies.from_edges(3, [(0, 1)])), "not connected"),
        (lambda: mixing.perturbed(mixing.metropolis(ring(8)), 0.1, 0), r"product .* is .* from it"),
        (lambda: mixing.perturbed(mixing.one_peer_exponential(6), 0.1, 0), "averages exactly"),
        (lambda: mixing.perturbed(EXACT["base"], 1, 0), r"epsilon must lie in \[0, 1\), not 1"),
        (lambda: mixing.perturbed(EXACT["base"], -0.1, 0), "epsilon must lie"),
        (lambda: mixing.perturbed(EXACT["base"], 0.1, -1), "seed must be at least 0"),
        (lambda: mixing.perturbed(np.ones((1, 1)), 0.1, 0), "more than one worker"),
    ],
)
def test_what_cannot_average_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_single_worker_has_a_sequence_too():
    (W,) = mixing.laplacian_sequence(chain(1))
    assert W.toarray().tolist() == [[1]]


def test_sequences_are_known_by_name():
    run = {"algorithm": "DPSGD", "topology": "hypercube", "n": 8, "learning_rate": 0.1, "steps": 4}
    exact = rs.sweep(run | {"mixing": "laplacian_sequence"}, progress=False)
    near = rs.sweep(
        run | {"mixing": "perturbed(one_peer_exponential(8), 0.2, seed=1)", "topology": "complete"},
        progress=False,
    )
    assert exact.consensus_distance.iloc[-1] < near.consensus_distance.iloc[-1]
