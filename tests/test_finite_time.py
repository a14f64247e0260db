"""Sequences that average exactly: what each promises, for every n ≤ 100 and k ≤ 4."""

import functools
import math

import numpy as np
import pytest
from scipy import sparse

import relaysim as rs
from relaysim import mixing, topologies
from relaysim.mixing.finite_time import (
    base_graph,
    hyper_hypercube,
    simple_base_graph,
    union_topology,
)
from relaysim.mixing.sequences import as_sequence

DEGREES = [1, 2, 3, 4]
made = functools.cache(lambda graph, n, k: graph(n, k))
GRAPHS = {"simple": simple_base_graph, "base": base_graph}
over_graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def check(sequence, n, k):
    """What every finite-time sequence promises."""
    assert isinstance(sequence, tuple)
    product = np.eye(n)
    for W in sequence:
        assert isinstance(W, sparse.csr_array)
        assert W.dtype == np.float64
        W = W.toarray()
        assert (W == W.T).all()
        assert W.min() >= 0
        assert np.abs(W.sum(axis=1) - 1).max() <= 1e-14
        assert np.count_nonzero(W - np.diag(np.diag(W)), axis=1).max() <= k
        product = W @ product
    assert np.abs(product - 1 / n).max() <= 1e-14


def prime_factors(n):
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % d for d in range(2, p))]


def fewest_rounds(n, largest):
    """Length of the shortest product of factors in 2 … largest that is n, by trying them all."""
    if n == 1:
        return 0
    factors = [d for d in range(2, largest + 1) if n % d == 0]
    return 1 + min((fewest_rounds(n // d, largest) for d in factors), default=math.inf)


# -- what they promise -----------------------------------------------------------------------------


@over_graphs
@pytest.mark.parametrize("k", DEGREES)
def test_exact_within_the_length_bound_for_every_number_of_workers(graph, k):
    for n in range(1, 101):
        sequence = made(graph, n, k)
        check(sequence, n, k)
        assert len(sequence) <= 2 * math.log(n) / math.log(k + 1) + 2
        # After m steps of k neighbours nobody has heard from more than (k + 1)^m workers.
        assert (k + 1) ** len(sequence) >= n


@pytest.mark.parametrize("k", DEGREES)
def test_hyper_hypercube_of_every_number_with_small_prime_factors(k):
    for n in range(1, 101):
        large = [p for p in prime_factors(n) if p > k + 1]
        if large:
            with pytest.raises(ValueError, match=rf"base_graph\({n}, {k}\)") as caught:
                hyper_hypercube(n, k)
            assert f": {large[0]}, a prime factor of {n}, is larger than k + 1" in str(caught.value)
        else:
            sequence = hyper_hypercube(n, k)
            check(sequence, n, k)
            assert len(sequence) == max(fewest_rounds(n, k + 1), 1)


@pytest.mark.parametrize("n", [2, 3, 7, 12])
@pytest.mark.parametrize("graph", [hyper_hypercube, simple_base_graph, base_graph])
def test_more_neighbours_than_there_are_average_at_once(graph, n):
    for k in (n - 1, n, 3 * n):
        (W,) = graph(n, k)
        np.testing.assert_allclose(W.toarray(), np.full((n, n), 1 / n), rtol=0, atol=1e-15)


@pytest.mark.parametrize("graph", [hyper_hypercube, simple_base_graph, base_graph])
def test_one_worker_has_one_matrix(graph):
    for k in (1, 5):
        assert [W.toarray().tolist() for W in graph(1, k)] == [[[1.0]]]


# -- how they are made -----------------------------------------------------------------------------


def test_one_peer_hyper_hypercube_is_one_dimension_of_the_hypercube_a_step():
    for t, W in enumerate(hyper_hypercube(16, 1)):
        expected = np.zeros((16, 16))
        for i in range(16):
            expected[i, i] = expected[i, i ^ 2**t] = 0.5
        np.testing.assert_array_equal(W.toarray(), expected)
    assert union_topology(hyper_hypercube(16, 1)) == topologies.hypercube(16)


@pytest.mark.parametrize(
    ("n", "k", "group_sizes"),
    [(12, 1, None), (12, 3, [3, 4]), (12, 5, [3, 4]), (72, 5, [3, 4, 6]), (24, 3, [2, 3, 4])],
)
def test_hyper_hypercube_takes_the_fewest_and_then_the_smallest_groups(n, k, group_sizes):
    if group_sizes is None:
        with pytest.raises(ValueError, match=": 3, a prime factor of 12"):
            hyper_hypercube(n, k)
    else:
        sequence = hyper_hypercube(n, k)
        assert [W.nnz // n for W in sequence] == group_sizes


def test_simple_base_graph_of_five_by_hand():
    # 5 = 4 + 1: the four average, worker 4 exchanges with worker 0, the four average again. The
    # weight 4/5 gives worker 4 one part of its own and four of their average.
    period = [W.toarray() for W in simple_base_graph(5, 1)]
    assert len(period) == 5
    four = np.zeros((5, 5))
    four[:4, :4] = 0.25
    four[4, 4] = 1
    np.testing.assert_allclose(period[1] @ period[0], four, rtol=0, atol=1e-15)
    np.testing.assert_allclose(period[4] @ period[3], four, rtol=0, atol=1e-15)
    exchange = np.eye(5)
    exchange[0, 0] = exchange[4, 4] = 0.2
    exchange[0, 4] = exchange[4, 0] = 0.8
    np.testing.assert_allclose(period[2], exchange, rtol=0, atol=1e-15)


def test_two_blocks_of_a_group_take_part_in_an_exchange():
    # 7 = 2·3 + 1 in base 3: worker 6 exchanges with one worker of each of {0, 1, 2} and {3, 4, 5}.
    W = simple_base_graph(7, 2)[2].toarray()
    np.testing.assert_allclose(W[6], np.array([3, 0, 0, 3, 0, 0, 1]) / 7, rtol=0, atol=1e-15)


@pytest.mark.parametrize("k", DEGREES)
def test_length_of_the_simple_base_graph_in_terms_of_digits(k):
    # p + 1 digits, the first being a: p rounds, one more for a > 1, twice but for that one, and the
    # exchange, where there is more than one digit that is not zero.
    for n in range(2, 101):
        digits = []
        rest = n
        while rest:
            digits.insert(0, rest % (k + 1))
            rest //= k + 1
        p, a = len(digits) - 1, digits[0]
        expected = p + (a > 1)
        if any(digits[1:]):
            expected += 1 + p
        assert len(made(simple_base_graph, n, k)) == expected


def factored_length(n, k):
    """Rounds for p q workers: a hyper-hypercube on p after simple base graphs on blocks of q."""
    p = max(d for d in range(1, n + 1) if n % d == 0 and max(prime_factors(d), default=1) <= k + 1)
    return fewest_rounds(p, k + 1) + (len(made(simple_base_graph, n // p, k)) if p < n else 0)


@pytest.mark.parametrize("k", DEGREES)
def test_base_graph_is_the_shorter_of_two(k):
    for n in range(1, 101):
        shorter = min(factored_length(n, k), len(made(simple_base_graph, n, k)))
        assert len(made(base_graph, n, k)) == max(shorter, 1)


@pytest.mark.parametrize(("n", "k", "factored", "simple"), [(6, 1, 4, 5), (22, 4, 5, 4)])
def test_either_way_of_making_a_base_graph_may_be_the_shorter(n, k, factored, simple):
    assert (factored_length(n, k), len(simple_base_graph(n, k))) == (factored, simple)
    assert len(base_graph(n, k)) == min(factored, simple)


def test_a_period_that_starts_later_need_not_average():
    first, second, third = (W.toarray() for W in simple_base_graph(3, 1))
    assert np.abs(first @ third @ second - 1 / 3).max() > 0.1


# -- those of the published code --------------------------------------------------------------------


def messages(sequence):
    """Vectors that a period sends: every pair of a round, both ways."""
    return sum(W.nnz - np.count_nonzero(W.diagonal()) for W in sequence)


def mean_consensus_distance(sequence, rate):
    """Of gossip on f_i = ½(x − b_i)², b_i independent with variance 1: E of it, over a period at rest."""
    n = len(sequence[0].toarray())
    period, offset = np.eye(n), np.zeros((n, n))
    for W in sequence:
        period, offset = (1 - rate) * W @ period, W @ ((1 - rate) * offset + rate * np.eye(n))
    x, total = np.linalg.solve(np.eye(n) - period, offset), 0.0  # x_i = Σ_j x[i, j] b_j
    for W in sequence:
        x = W @ ((1 - rate) * x + rate * np.eye(n))
        total += ((x - x.mean(axis=0)) ** 2).sum() / n
    return total / len(sequence)


@over_graphs
@pytest.mark.parametrize("k", DEGREES)
def test_published_sequences_average_exactly_too(graph, k):
    for n in range(1, 101):
        check(graph(n, k, published=True), n, k)


@over_graphs
@pytest.mark.parametrize(("n", "k", "ours", "published"), [(5, 1, 18, 20), (23, 2, 200, 232)])
def test_published_sequences_send_more(graph, n, k, ours, published):
    assert messages(graph(n, k)) == ours
    assert messages(graph(n, k, published=True)) == published


@pytest.mark.parametrize(
    ("n", "k", "ours", "published"),
    [(23, 2, 0.00430, 0.00345), (47, 1, 0.01077, 0.00911), (31, 1, 0.00868, 0.00749)],
)
def test_workers_are_at_other_distances_on_published_sequences(n, k, ours, published):
    # Measured on the matrices of the published code, which these equal.
    for which, expected in ((False, ours), (True, published)):
        found = mean_consensus_distance(simple_base_graph(n, k, published=which), 0.05)
        assert round(found, 5) == expected


def test_the_published_sequence_of_five_by_hand():
    # 5 = 4 + 1: worker 4 exchanges with the last of the four, and 0 and 1 are company meanwhile.
    period = [W.toarray() for W in simple_base_graph(5, 1, published=True)]
    for W, ours in zip(period, simple_base_graph(5, 1), strict=True):
        if W[3, 4] == 0:
            np.testing.assert_array_equal(W, ours.toarray())
    exchange = np.eye(5)
    exchange[:2, :2] = 0.5
    exchange[3, 3] = exchange[4, 4] = 0.2
    exchange[3, 4] = exchange[4, 3] = 0.8
    np.testing.assert_allclose(period[2], exchange, rtol=0, atol=1e-15)


# -- in a simulation -------------------------------------------------------------------------------


@over_graphs
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (5, 1), (6, 1), (7, 2), (23, 3), (30, 4)])
def test_gossip_averages_exactly_after_one_period(graph, n, k):
    sequence = graph(n, k)
    start = np.random.default_rng(n).normal(size=(n, 3))
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 3)), np.zeros((n, 3)))
    mean = np.broadcast_to(start.mean(axis=0), (n, 3))
    for topology in (topologies.complete(n), union_topology(sequence)):
        checked = as_sequence(sequence, topology)
        assert len(checked) == len(sequence)
        history = rs.simulate(
            problem,
            topology,
            rs.algorithms.DPSGD(),
            learning_rate=0,
            steps=len(sequence),
            x0=start,
            mixing=sequence,
            keep_iterates=True,
        )
        np.testing.assert_allclose(history.x, mean, rtol=0, atol=1e-14)
        assert all(np.abs(x - mean).max() > 1e-3 for x in history.iterates[:-1]) or n == 1
        # Every exchange is one vector each way; nothing else of the complete graph is paid for.
        sent = history.frame.vectors_sent.to_numpy()
        assert sent[-1] <= n * k * len(sequence)
        assert sent[-1] == sum(
            np.count_nonzero(W.toarray() - np.diag(W.diagonal())) for W in sequence
        )


def test_union_topology_has_the_edges_of_all_matrices_and_no_more():
    sequence = base_graph(23, 2)
    used = sum(W.toarray() for W in sequence) > 0
    np.fill_diagonal(used, False)
    topology = union_topology(sequence)
    np.testing.assert_array_equal(topology.adjacency.toarray(), used)
    assert topology.is_connected


def test_union_topology_of_directed_and_dense_matrices():
    assert union_topology(mixing.one_peer_exponential(11)) == topologies.exponential(11)
    upper = [np.eye(3), np.array([[0.5, -0.5, 1], [0, 1, 0], [0, 0, 1]]), [[1, 0.5, -0.5]] * 3]
    assert union_topology(upper) == topologies.complete(3)
    assert union_topology(base_graph(1, 1)) == topologies.complete(1)


@pytest.mark.parametrize(
    "given", [np.eye(3), sparse.csr_array(np.eye(3)), [], 3, [1.0], "ab", topologies.ring(4)]
)
def test_union_topology_refuses_what_is_no_sequence(given):
    with pytest.raises(TypeError, match="needs a sequence of matrices"):
        union_topology(given)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [hyper_hypercube, simple_base_graph, base_graph])
@pytest.mark.parametrize(
    ("n", "k", "error", "message"),
    [
        (0, 1, ValueError, "n must be at least 1, not 0"),
        (4, 0, ValueError, "k must be at least 1, not 0"),
        (4, 1.5, TypeError, "k must be a whole number"),
        ("4", 1, TypeError, "n must be a whole number"),
    ],
)
def test_bad_input_is_named(graph, n, k, error, message):
    with pytest.raises(error, match=message):
        graph(n, k)


def test_a_thousand_workers_stay_sparse():
    sequence = base_graph(1000, 1)
    assert len(sequence) == 16
    assert sum(W.nnz for W in sequence) <= 2 * 1000 * 16
    x = np.random.default_rng(0).normal(size=1000)
    mixed = x
    for W in sequence:
        mixed = W @ mixed
    np.testing.assert_allclose(mixed, x.mean(), rtol=0, atol=1e-14)
