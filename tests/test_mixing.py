import numpy as np
import pytest
import slow
from graphs import connected_graphs
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import relaysim as rs
from relaysim import mixing, topologies
from relaysim.mixing.sequences import as_matrices
from relaysim.records import configuration

SYMMETRIC = {
    "metropolis": mixing.metropolis,
    "uniform": lambda topology: mixing.uniform(topology, 0.17),
    "max_degree": mixing.max_degree,
    "best_constant": mixing.best_constant,
    "lazy": lambda topology: mixing.lazy(mixing.metropolis(topology)),
}
over_symmetric = pytest.mark.parametrize("weights", SYMMETRIC.values(), ids=SYMMETRIC)


def on_edges(topology):
    """Which entries of a matrix are the diagonal or lie on an edge."""
    allowed = np.eye(topology.n, dtype=bool)
    for a, b in topology.edges.tolist():
        allowed[a, b] = allowed[b, a] = True
    return allowed


def second_largest(W):
    """|λ₂|, the largest modulus of an eigenvalue but for one 1."""
    return np.sort(np.abs(np.linalg.eigvalsh(W)))[-2]


# -- single matrices -------------------------------------------------------------------------------


@over_symmetric
@given(connected_graphs())
def test_matrices_are_symmetric_average_and_stay_on_the_edges(weights, graph):
    topology = topologies.from_edges(*graph)
    W = weights(topology)
    assert sparse.issparse(W)
    assert W.nnz <= topology.n + 2 * len(topology.edges)
    W = W.toarray()
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(W, W.T)
    assert (W[~on_edges(topology)] == 0).all()
    off_diagonal = on_edges(topology) & ~np.eye(topology.n, dtype=bool)
    assert (W[off_diagonal] > 0).all()


@given(connected_graphs())
def test_metropolis_is_its_formula(graph):
    topology = topologies.from_edges(*graph)
    W = mixing.metropolis(topology).toarray()
    expected = slow.metropolis(slow.neighbours_of(topology))
    np.testing.assert_allclose(W, expected, rtol=0, atol=1e-15)
    assert (np.diag(W) > 0).all()


@given(connected_graphs(), st.floats(-1, 2))
def test_uniform_puts_the_weight_on_every_edge(graph, weight):
    topology = topologies.from_edges(*graph)
    expected = weight * (on_edges(topology) & ~np.eye(topology.n, dtype=bool))
    expected += np.diag(1 - expected.sum(axis=1))
    W = mixing.uniform(topology, weight).toarray()
    np.testing.assert_allclose(W, expected, rtol=0, atol=1e-14)


def test_max_degree_weights_of_a_star():
    W = mixing.max_degree(topologies.star(4)).toarray()
    expected = [[1, 1, 1, 1], [1, 3, 0, 0], [1, 0, 3, 0], [1, 0, 0, 3]]
    np.testing.assert_allclose(W, np.array(expected) / 4, rtol=0, atol=1e-15)


@given(connected_graphs(least=2, most=8))
def test_no_constant_weight_has_a_larger_gap_than_the_best(graph):
    topology = topologies.from_edges(*graph)
    best = second_largest(mixing.best_constant(topology).toarray())
    none, whole = (mixing.uniform(topology, weight).toarray() for weight in (0, 1))
    for weight in np.linspace(0, 1, 201):
        assert best <= second_largest(none + weight * (whole - none)) + 1e-12


def test_best_constant_weights_that_are_known():
    # A star's Laplacian has the eigenvalues 0, 1 and n; an even ring's largest is 4.
    star = mixing.best_constant(topologies.star(6))
    np.testing.assert_allclose(star[0, 1], 2 / (6 + 1), rtol=1e-13)
    ring = mixing.best_constant(topologies.ring(8))
    np.testing.assert_allclose(ring[0, 1], 2 / (4 + 2 - 2 * np.cos(np.pi / 4)), rtol=1e-13)
    np.testing.assert_allclose(
        mixing.best_constant(topologies.complete(5)).toarray(), np.full((5, 5), 0.2), atol=1e-14
    )
    assert mixing.best_constant(topologies.chain(1)).toarray().tolist() == [[1.0]]


@pytest.mark.parametrize(("n", "gap"), [(2, 0.5), (5, 0.1), (5, 1.0), (1, 0.3)])
def test_with_spectral_gap_has_that_gap(n, gap):
    W = mixing.with_spectral_gap(n, gap)
    eigenvalues = np.sort(np.linalg.eigvalsh(W))
    np.testing.assert_allclose(eigenvalues[-1], 1, atol=1e-14)
    np.testing.assert_allclose(eigenvalues[:-1], 1 - gap, atol=1e-14)


def test_lazy_keeps_half_of_everything():
    W = np.array([[0.2, 0.8], [0.5, 0.5]])
    expected = [[0.6, 0.4], [0.25, 0.75]]
    np.testing.assert_allclose(mixing.lazy(W), expected)
    np.testing.assert_allclose(mixing.lazy(sparse.csr_array(W)).toarray(), expected)
    first, second = mixing.lazy([W, np.eye(2)])
    np.testing.assert_allclose(first, expected)
    np.testing.assert_allclose(second, np.eye(2))
    assert W[0, 0] == 0.2


# -- sequences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(1, 18), 32, 48])
def test_one_peer_exponential_averages_exactly_if_and_only_if_n_is_a_power_of_two(n):
    period = mixing.one_peer_exponential(n)
    assert len(period) == max(int(np.ceil(np.log2(n))), 1)
    product = np.eye(n)
    for k, W in enumerate(period):
        if n > 1:
            shift = np.zeros((n, n))
            for i in range(n):
                shift[i, (i - 2**k) % n] = 1
            np.testing.assert_array_equal(W.toarray(), (np.eye(n) + shift) / 2)
        product = W.toarray() @ product
    error = np.abs(product - 1 / n).max()
    if n & (n - 1) == 0:
        assert error < 1e-15
    else:
        assert error > 0.1 / n


@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_one_peer_exponential_fits_the_exponential_topology(n):
    allowed = on_edges(topologies.exponential(n))
    for W in mixing.one_peer_exponential(n):
        assert (W.toarray()[~allowed] == 0).all()


# -- as an argument of simulate --------------------------------------------------------------------


def gossip(W, topology, steps=3, start=None):
    """The iterates after some steps of communication only."""
    problem = rs.problems.DiagonalQuadratic(np.ones((topology.n, 2)), np.zeros((topology.n, 2)))
    if start is None:
        start = np.random.default_rng(0).normal(size=(topology.n, 2))
    return rs.simulate(
        problem,
        topology,
        rs.algorithms.DPSGD(),
        learning_rate=0,
        steps=steps,
        x0=start,
        mixing=W,
    )


def test_rows_weigh_what_a_worker_receives():
    W = np.array([[0.5, 0.5, 0.0], [0.1, 0.7, 0.2], [0.0, 0.3, 0.7]])
    start = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 2.0]])
    history = gossip(W, topologies.chain(3), steps=1, start=start)
    np.testing.assert_allclose(history.x, [[0.5, 0.5], [1.1, 1.1], [3.5, 1.7]], rtol=1e-14)


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize(
    "given",
    [
        lambda W: W,
        lambda W: W.tolist(),
        lambda W: sparse.csr_array(W),
        lambda W: sparse.csc_matrix(W),
        lambda W: sparse.coo_array(W),
        lambda W: [W, W],
        lambda W: (sparse.csr_array(W),),
        lambda W: np.stack([W, W]),
        lambda W: [W.tolist()],
    ],
)
def test_a_matrix_may_come_in_many_forms(given):
    topology = topologies.ring(5)
    W = slow.metropolis(slow.neighbours_of(topology))
    default = gossip(None, topology)
    np.testing.assert_array_equal(gossip(given(W), topology).x, default.x)


def test_a_sequence_of_matrices_that_do_not_connect_alone_is_accepted():
    pairs = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]) / 2
    across = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]) / 2
    start = np.arange(8.0).reshape(4, 2)
    history = gossip([pairs, across], topologies.ring(4), steps=2, start=start)
    np.testing.assert_allclose(history.x, np.broadcast_to(start.mean(axis=0), (4, 2)), rtol=1e-14)


def test_only_weights_that_are_not_zero_cost_a_vector():
    pairs = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]) / 2
    across = np.array([[2, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]]) / 2
    history = gossip([pairs, across], topologies.ring(4), steps=4)
    assert history.frame.vectors_sent.tolist() == [0, 4, 6, 10, 12]


CHAIN = topologies.chain(4)
PAIRS = [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.eye(3), "the mixing matrix is 3 × 3 but the topology has 4 workers"),
        (np.full((4, 3), 1 / 3), "4 × 3 but the topology has 4"),
        (np.diag([1, 1, 1, 0.9]), "must sum to 1; row 3 sums to 0.9"),
        (np.full((4, 4), 0.25), r"weight 0.25 at \(0, 2\), which is no edge of chain\(4\)"),
        (mixing.metropolis(topologies.ring(4)), r"at \(0, 3\), which is no edge"),
        (PAIRS, "2 groups that never exchange anything"),
        (np.eye(4), "4 groups"),
        ([PAIRS, np.eye(4)], "2 groups"),
        ([mixing.metropolis(CHAIN), np.eye(3)], "mixing matrix W_1 is 3 × 3"),
        ([mixing.metropolis(CHAIN), 0.5 * np.eye(4)], "rows of mixing matrix W_1 must sum to 1"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([np.inf, 1, 1, 1]), "not finite"),
    ],
)
def test_bad_matrices_are_refused(W, message):
    with pytest.raises(ValueError, match=message):
        gossip(W, CHAIN)


def test_a_matrix_is_refused_where_nobody_mixes():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    for algorithm in (rs.algorithms.RelaySGD(), rs.algorithms.SGP(), rs.algorithms.AllReduce()):
        with pytest.raises(ValueError, match="does not use a mixing matrix; leave mixing out"):
            rs.simulate(
                problem,
                CHAIN,
                algorithm,
                learning_rate=0.1,
                steps=1,
                mixing=mixing.metropolis(CHAIN),
            )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mixing.uniform(CHAIN, np.nan), ValueError, "finite"),
        (lambda: mixing.with_spectral_gap(4, 0), ValueError, r"gap must lie in \(0, 1\], not 0"),
        (lambda: mixing.with_spectral_gap(4, 1.1), ValueError, r"gap must lie in \(0, 1\]"),
        (
            lambda: mixing.best_constant(topologies.from_edges(3, [(0, 1)])),
            ValueError,
            "not connected",
        ),
        (lambda: mixing.metropolis(topologies.double_binary_tree(4)), TypeError, "pair of trees"),
        (lambda: mixing.max_degree(4), TypeError, "needs a Topology, not 4"),
        (lambda: mixing.best_constant(np.eye(3)), TypeError, "needs a Topology"),
        (lambda: mixing.one_peer_exponential(0), ValueError, "n must be at least 1"),
        (lambda: mixing.with_spectral_gap(0, 0.5), ValueError, "n must be at least 1"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- single precision -------------------------------------------------------------------------------

SOCIAL = rs.topologies.social_network()


def single_metropolis(topology):
    """As a user of single precision makes them: the diagonal is 1 less a sum of float32."""
    W = rs.mixing.metropolis(topology).toarray().astype(np.float32)
    np.fill_diagonal(W, 0)
    for i in range(topology.n):
        W[i, i] = 1 - W[i].sum()
    return W


def balanced_single():
    """Doubly stochastic in single precision, not symmetric, with zeros on the diagonal."""
    generator = np.random.default_rng(0)
    W = sum(p * np.eye(9)[generator.permutation(9)] for p in generator.dirichlet(np.ones(12)))
    return W.astype(np.float32)


def test_single_precision_weights_give_the_run_of_double_ones():
    problem = rs.problems.random_quadratics(n=32, d=2, zeta2=1.0, seed=0)
    common = {"learning_rate": 0.1, "steps": 5}
    right = rs.simulate(problem, SOCIAL, rs.algorithms.D2(), **common)
    with pytest.warns(
        UserWarning, match="float32 and its rows sum to 1 in single precision only"
    ) as noted:
        found = rs.simulate(
            problem, SOCIAL, rs.algorithms.D2(), mixing=single_metropolis(SOCIAL), **common
        )
    assert [each.filename for each in noted] == [__file__]
    assert np.abs(found.x - right.x).max() < 1e-6
    again = rs.simulate(**configuration.rebuild(found.config))
    assert np.array_equal(again.x, found.x)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, list, lambda W: np.stack([W, W])])
@pytest.mark.parametrize(
    "W", [single_metropolis(SOCIAL), balanced_single()], ids=["symmetric", "balanced"]
)
def test_single_precision_weights_become_double_ones(W, form):
    assert np.abs(W.astype(float).sum(axis=1) - 1).max() > 1e-8
    with pytest.warns(UserWarning, match="made to sum to 1"):
        made = as_matrices(form(W))[0].toarray()
    assert np.abs(made.sum(axis=1) - 1).max() < 1e-15
    assert np.abs(made.sum(axis=0) - 1).max() < 1e-15
    assert np.abs(made - W).max() < 3e-7
    assert np.array_equal(made == 0, W == 0)
    assert (made >= 0).all()
    assert np.array_equal(made, made.T) == np.array_equal(W, W.T)


def test_weights_that_differ_from_their_mirror_by_rounding_become_symmetric():
    W = single_metropolis(SOCIAL)
    W[np.triu(W, 1) > 0] *= np.float32(1 + 2e-7)
    assert not np.array_equal(W, W.T)
    problem = rs.problems.random_quadratics(n=32, d=2, zeta2=1.0, seed=0)
    with pytest.warns(UserWarning, match="made to sum to 1"):
        rs.simulate(problem, SOCIAL, rs.algorithms.EXTRA(), learning_rate=0.1, steps=2, mixing=W)


def test_rows_alone_are_made_to_sum_to_one_where_columns_do_not():
    W = np.array([[2 / 3, 1 / 3, 0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=np.float32)
    with pytest.warns(UserWarning, match="made to sum to 1"):
        made = as_matrices(W)[0].toarray()
    assert np.abs(made.sum(axis=1) - 1).max() < 1e-15
    assert np.abs(made - W).max() < 1e-7


@pytest.mark.parametrize("read", [rs.mixing.lazy, rs.theory.spectral_gap])
def test_every_reader_of_weights_takes_single_precision(read):
    with pytest.warns(UserWarning, match="made to sum to 1"):
        found = read(single_metropolis(SOCIAL))
    right = read(rs.mixing.metropolis(SOCIAL))
    assert abs(found - right).max() < 1e-6 if np.ndim(found) else abs(found - right) < 1e-6


def test_a_sweep_takes_single_precision():
    setting = {"problem": "random_quadratics", "n": 32, "d": 2, "topology": SOCIAL}
    setting |= {"algorithm": "DPSGD", "learning_rate": 0.1, "steps": 3}
    right = rs.sweep(setting, progress=False)
    with pytest.warns(UserWarning, match="made to sum to 1"):
        found = rs.sweep(setting | {"mixing": single_metropolis(SOCIAL)}, progress=False)
    assert abs(found.suboptimality - right.suboptimality).max() < 1e-6


@pytest.mark.parametrize("change", [1e-4, -1e-4])
def test_single_precision_excuses_no_row_that_is_wrong(change):
    W = single_metropolis(SOCIAL)
    W[3, 3] += np.float32(change)
    with pytest.raises(
        ValueError, match="row 3 sums to 1.0001" if change > 0 else "row 3 sums to 0.9999"
    ):
        as_matrices(W)


def test_single_precision_excuses_no_matrix_that_is_not_square():
    with pytest.raises(ValueError, match="4 × 3 but the topology has 4"):
        gossip(np.full((4, 3), 1 / 3, dtype=np.float32), CHAIN)


def test_double_weights_of_single_precision_are_refused_with_what_they_lack():
    with pytest.raises(ValueError, match=r"sums to 1 [+−] \d\.?\d*e-08"):
        as_matrices(single_metropolis(SOCIAL).astype(float))


def test_a_callable_of_the_step_may_give_single_precision():
    problem = rs.problems.random_quadratics(n=32, d=2, zeta2=1.0, seed=0)
    W, common = single_metropolis(SOCIAL), {"learning_rate": 0.1, "steps": 3}
    right = rs.simulate(problem, SOCIAL, rs.algorithms.DPSGD(), **common)
    with pytest.warns(UserWarning, match="made to sum to 1"):
        found = rs.simulate(problem, SOCIAL, rs.algorithms.DPSGD(), mixing=lambda step: W, **common)
    assert np.abs(found.x - right.x).max() < 1e-6
