"""PowerGossip on matrices: its rule, what it keeps, and how fast it averages."""

import numpy as np
import pytest
import slow
from scipy.sparse import csr_array

import relaysim as rs
from relaysim.algorithms import DPSGD, PowerGossip
from relaysim.problems import DiagonalQuadratic, Logistic, MatrixQuadratic

RING = rs.topologies.ring(8)


def matrix_quadratic(n, a, b, seed=0):
    """Heterogeneous, with curvatures from 0.2 to 1."""
    generator = np.random.default_rng(seed)
    h = generator.uniform(0.2, 1, size=(n, a, b))
    return MatrixQuadratic(generator.normal(size=(n, a, b)), h)


def starting_points(problem, seed=1):
    return np.random.default_rng(seed).normal(size=(problem.n, problem.d))


def iterates_of(problem, algorithm, rate, steps, topology=RING, **options):
    options = {"x0": starting_points(problem)} | options
    return rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        keep_iterates=True,
        **options,
    ).iterates


def written(problem, algorithm, rate, steps, topology=RING, mixing=None, x0=None):
    """The same, by loops over edges."""

    def gradient(step, worker, x):
        return problem.h[worker] * (x - problem.centers[worker])

    x0 = starting_points(problem) if x0 is None else x0
    return slow.run(algorithm, topology, gradient, x0, [rate] * steps, mixing)


# -- the rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize(("shape", "rank"), [((3, 5), 1), ((5, 3), 2), ((4, 4), 3), ((6, 1), 1)])
def test_matrices_take_the_rule_on_paper(shape, rank, iterations, warm_start):
    problem = matrix_quadratic(8, *shape)
    algorithm = PowerGossip(rank, iterations, warm_start, rows=shape[0])
    for rate, steps in ((0.0, 12), (0.3, 5)):  # with gradients warm starts let errors grow
        found = iterates_of(problem, algorithm, rate, steps)
        expected = written(problem, algorithm, rate, steps)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("warm_start", [True, False])
def test_edges_that_rest_keep_what_they_know(warm_start):
    problem = matrix_quadratic(8, 4, 4)
    matchings = []
    for start in (0, 1):
        W = 0.7 * np.eye(8)
        for i in range(start, 8, 2):
            W[i, (i + 1) % 8] = W[(i + 1) % 8, i] = 0.3
        matchings.append(W)
    algorithm = PowerGossip(2, iterations=2, warm_start=warm_start, rows=4)
    found = iterates_of(problem, algorithm, 0.2, 12, mixing=[csr_array(W) for W in matchings])
    expected = written(problem, algorithm, 0.2, 12, mixing=matchings)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


SEQUENCES = {
    "hypercube of 4": (4, rs.mixing.hyper_hypercube(4, 1)),
    "hypercube of 16": (16, rs.mixing.hyper_hypercube(16, 1)),
    "base graph of 6": (6, rs.mixing.base_graph(6, 1)),
    "base graph of 5": (5, rs.mixing.base_graph(5, 1)),
}


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("name", SEQUENCES)
def test_edges_that_meet_at_even_times_only_use_both_sides(name, warm_start):
    n, mixing = SEQUENCES[name]
    problem, topology = matrix_quadratic(n, 3, 3), rs.topologies.complete(n)
    algorithm = PowerGossip(warm_start=warm_start, rows=3)
    run = {"learning_rate": 0.0, "x0": starting_points(problem), "mixing": mixing}
    arrives = {"steps": 3000, "record": 50, "stop_when": {"consensus_distance": 1e-20}}
    end = rs.simulate(problem, topology, algorithm, **arrives, **run)
    assert end.frame.consensus_distance.iloc[-1] < 1e-20
    found = iterates_of(problem, algorithm, 0.2, 20, topology, mixing=mixing)
    dense = [np.asarray(W.todense()) for W in mixing]
    expected = written(problem, algorithm, 0.2, 20, topology, dense)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_each_edge_sends_the_side_that_it_is_at():
    """Edge 0–1 meets in every step, edge 1–2 in every other one: they leave each other's side."""
    first, second = np.eye(3), np.eye(3)
    for W, edges in ((first, [(0, 1), (1, 2)]), (second, [(0, 1)])):
        for i, j in edges:
            W[i, j] = W[j, i] = 0.3
            W[i, i] -= 0.3
            W[j, j] -= 0.3
    problem, chain = matrix_quadratic(3, 2, 5), rs.topologies.chain(3)
    frame = rs.simulate(
        problem, chain, PowerGossip(rows=2), learning_rate=0.1, steps=4, mixing=[first, second]
    ).frame
    sides = [[0, 0], [1], [0, 1], [1]]  # right, as 2 numbers, or left, as 5
    numbers = np.cumsum([0, *(sum(2 * (2, 5)[side] for side in step) for step in sides)])
    np.testing.assert_allclose(frame.vectors_sent, numbers / 10, rtol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("rank", [2, 3])
def test_differences_of_lower_rank_bring_no_directions_of_their_own(n, rank):
    problem = matrix_quadratic(n, 4, 5)
    topology = RING if n == 8 else rs.topologies.chain(n)
    generator = np.random.default_rng(0)
    x0 = np.zeros((n, 20))
    x0[1] = np.outer(generator.normal(size=4), generator.normal(size=5)).ravel()
    algorithm = PowerGossip(rank, rows=4)
    found = iterates_of(problem, algorithm, 0.0, 25, topology, x0=x0)
    np.testing.assert_allclose(
        found, written(problem, algorithm, 0.0, 25, topology, x0=x0), rtol=0, atol=1e-13
    )
    assert np.isfinite(found).all()


def test_neighbours_that_agree_keep_their_basis():
    centers = np.random.default_rng(0).normal(size=(8, 4, 4))
    centers[:5] = centers[0]  # some stay equal for a while, and differ later
    problem, x0 = MatrixQuadratic(centers), np.zeros((8, 16))
    algorithm = PowerGossip(rows=4)
    found = iterates_of(problem, algorithm, 0.2, 12, x0=x0)
    assert (found[1, 1] == found[1, 3]).all()
    np.testing.assert_allclose(
        found, written(problem, algorithm, 0.2, 12, x0=x0), rtol=0, atol=1e-12
    )
    still = iterates_of(problem, algorithm, 0.0, 5, x0=np.arange(16.0))
    np.testing.assert_array_equal(still, np.broadcast_to(np.arange(16.0), still.shape))


@pytest.mark.parametrize("size", [1e-200, 1e100])
def test_differences_of_any_size_are_told_in_the_same_way(size):
    problem = matrix_quadratic(8, 4, 4)
    x0 = starting_points(problem)
    for rank in (1, 2):
        algorithm = PowerGossip(rank, rows=4)
        plain = iterates_of(problem, algorithm, 0.0, 20)
        scaled = iterates_of(problem, algorithm, 0.0, 20, x0=size * x0) / size
        np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-11)


def test_replicas_equal_their_runs_alone():
    problem, rates, seeds = matrix_quadratic(8, 6, 6), [0.3, 0.1], [3, 5]
    algorithm = PowerGossip(rank=2, iterations=2, warm_start=False)
    together = iterates_of(problem, algorithm, rates, 30, seed=seeds)
    for replica in range(4):
        alone = iterates_of(problem, algorithm, rates[replica // 2], 30, seed=seeds[replica % 2])
        np.testing.assert_allclose(together[..., replica], alone, rtol=0, atol=1e-12)
    assert np.abs(together[..., 0] - together[..., 1]).max() > 1e-2


# -- what it keeps, and what it is at the limits ---------------------------------------------------


@pytest.mark.parametrize("algorithm", [PowerGossip(), PowerGossip(2, 3, warm_start=False)])
def test_the_mean_is_kept(algorithm):
    problem = matrix_quadratic(8, 6, 6)
    x = iterates_of(problem, algorithm, 0.0, 400)
    means = x.mean(axis=1)
    np.testing.assert_allclose(means, np.broadcast_to(means[0], means.shape), rtol=0, atol=1e-14)
    assert np.abs(x[-1] - x[-1].mean(axis=0)).max() < 1e-3 * np.abs(x[0] - means[0]).max()


@pytest.mark.parametrize("warm_start", [True, False])
def test_with_a_complete_basis_it_is_gossip(warm_start):
    square = matrix_quadratic(8, 4, 4)
    for rank in (4, 9):
        algorithm = PowerGossip(rank, warm_start=warm_start, rows=4)
        gossip = iterates_of(square, DPSGD(), 0.3, 30)
        found = iterates_of(square, algorithm, 0.3, 30)
        np.testing.assert_allclose(found, gossip, rtol=0, atol=1e-13)
    # Otherwise the half steps that send matrices as long as the short side is.
    W = slow.metropolis(slow.neighbours_of(RING))
    for shape, exact in (((3, 5), 1), ((5, 3), 0)):
        problem = matrix_quadratic(8, *shape)
        algorithm = PowerGossip(3, warm_start=warm_start, rows=shape[0])
        x = iterates_of(problem, algorithm, 0.0, 2)
        np.testing.assert_allclose(x[exact + 1], W @ x[exact], rtol=0, atol=1e-14)
        assert np.abs(x[2 - exact] - W @ x[1 - exact]).max() > 0.1


def test_two_half_steps_find_a_difference_of_rank_one():
    pair, problem = rs.topologies.complete(2), matrix_quadratic(2, 5, 7)
    x0 = np.zeros((2, 35))
    generator = np.random.default_rng(0)
    x0[1] = np.outer(generator.normal(size=5), generator.normal(size=7)).ravel()
    for warm_start in (True, False):
        algorithm = PowerGossip(warm_start=warm_start, rows=5)
        x = iterates_of(problem, algorithm, 0.0, 2, topology=pair, x0=x0)
        left = np.abs(x[:, 1] - x[:, 0]).max(axis=1) / np.abs(x0).max()
        assert left[1] > 0.1
        assert (left[2] < 1e-14) == warm_start


# -- how fast it averages --------------------------------------------------------------------------


def second_moments(S, W, share):
    """E XXᵀ (n, n) after a half step with random bases, from that before it.

    A half step is X − Σ_e w_e B_e B_eᵀ X Π_e over edges e with B_e = e_i − e_j and independent random
    projections Π_e of mean ``share`` · I: their products are share² I on average over two edges, and
    Π_e itself over one.
    """
    n = len(W)
    L = np.eye(n) - W
    result = S - share * (L @ S + S @ L) + share**2 * L @ S @ L
    for i in range(n):
        for j in range(i + 1, n):
            B = np.eye(n)[i] - np.eye(n)[j]
            result += share * (1 - share) * W[i, j] ** 2 * (B @ S @ B) * np.outer(B, B)
    return result


@pytest.mark.parametrize(("shape", "rank"), [((20, 20), 1), ((12, 20), 2)])
def test_random_bases_average_as_fast_as_second_moments_say(shape, rank):
    """From the slowest mode of plain gossip."""
    W, steps = slow.metropolis(slow.neighbours_of(RING)), 50
    problem = MatrixQuadratic(np.zeros((8, *shape)))
    slowest = np.linalg.eigh(W)[1][:, -2]
    x0 = np.outer(slowest, np.random.default_rng(0).normal(size=problem.d))
    algorithm = PowerGossip(rank, warm_start=False, rows=shape[0])
    history = rs.simulate(
        problem, RING, algorithm, learning_rate=0.0, steps=steps, x0=x0, replicas=300
    )
    table = history.frame.pivot(index="step", columns="replica", values="consensus_distance")
    S, expected = x0 @ x0.T, [np.sum(x0**2) / 8]
    for step in range(steps):
        S = second_moments(S, W, rank / shape[1 - step % 2])
        expected.append(np.trace(S) / 8)
    # To 3 %; with 2 (1 − λ₂)/m a step, 20 × 20 matrices would lose 47 % more at first.
    np.testing.assert_allclose(table.mean(axis=1), expected, rtol=0.01)
    lost, expected_loss = (-np.log(y[steps] / y[0]) for y in (table.mean(axis=1), expected))
    assert lost == pytest.approx(expected_loss, rel=0.03)


def test_in_the_long_run_random_bases_are_slower_than_their_mean_by_a_few_percent():
    """Random parts feed faster modes; on average alone it would be 2(1 − λ₂)/m, 4 % more."""
    W, m = slow.metropolis(slow.neighbours_of(RING)), 20
    S = np.eye(8) - 1 / 8
    for _ in range(1500):
        S = S - S.mean()  # rounding
        S = second_moments(S / np.trace(S), W, 1 / m)
    loss, mean_loss = 1 - np.trace(S), 2 * rs.theory.spectral_gap(W) / m
    assert loss == pytest.approx(0.0187, abs=5e-5)
    assert 0.95 < loss / mean_loss < 0.97


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("warm_start", [True, False])
def test_bits_are_those_of_the_products(warm_start):
    problem = matrix_quadratic(8, 3, 5)
    algorithm = PowerGossip(2, warm_start=warm_start, rows=3)
    frame = rs.simulate(problem, RING, algorithm, learning_rate=0.1, steps=4).frame
    assert frame.bits_sent.round(6).tolist() == [64 * 16 * 2 * k for k in (0, 3, 8, 11, 16)]
    twice = PowerGossip(2, iterations=2, warm_start=warm_start, rows=3)
    frame = rs.simulate(problem, RING, twice, learning_rate=0.1, steps=2).frame
    assert frame.bits_sent.round(6).tolist() == [64 * 16 * 2 * k for k in (0, 8, 16)]
    assert (algorithm.cycle, twice.cycle) == (2, 1)


# -- input -----------------------------------------------------------------------------------------


def test_matrices_are_nearly_square_by_default():
    shapes = [PowerGossip().matrix_shape(d) for d in (1, 7, 12, 36, 301)]
    assert shapes == [(1, 1), (1, 7), (3, 4), (6, 6), (7, 43)]
    problem = matrix_quadratic(8, 6, 6)
    found = [iterates_of(problem, PowerGossip(rows=rows), 0.1, 5) for rows in (None, 6)]
    np.testing.assert_array_equal(*found)


def test_bad_input_is_refused():
    for option, value in (("rank", 0), ("iterations", 0), ("rows", 0)):
        with pytest.raises(ValueError, match=f"{option} must be at least 1, not 0"):
            PowerGossip(**{option: value})
    with pytest.raises(TypeError, match="rank must be a whole number"):
        PowerGossip(rank=1.5)
    with pytest.raises(TypeError, match="warm_start must be True or False"):
        PowerGossip(warm_start=1)
    problem = matrix_quadratic(8, 3, 4)
    with pytest.raises(ValueError, match="d=12 numbers is no matrix of rows=5"):
        iterates_of(problem, PowerGossip(rows=5), 0.1, 1)
    directed = rs.mixing.one_peer_exponential(8)
    with pytest.raises(
        ValueError, match=r"must be symmetric .* at \(0, 1\) it has 0 and at \(1, 0\) 0.5"
    ):
        iterates_of(
            problem, PowerGossip(), 0.1, 1, topology=rs.topologies.exponential(8), mixing=directed
        )
    with pytest.raises(ValueError, match="no rule for lost messages"):
        iterates_of(problem, PowerGossip(), 0.1, 1, faults=rs.faults.MessageDrop(0.1))


# -- problems of matrices --------------------------------------------------------------------------


def test_a_matrix_quadratic_is_a_diagonal_one_row_by_row():
    problem = matrix_quadratic(4, 2, 3)
    assert (problem.matrix_shape, problem.d) == ((2, 3), 6)
    flat = DiagonalQuadratic(problem.h, problem.centers)
    x = starting_points(problem)
    np.testing.assert_array_equal(problem.gradient(x), flat.gradient(x))
    np.testing.assert_array_equal(problem.optimum, flat.optimum)
    C = problem.to_config()["centers"]
    assert C.shape == (4, 2, 3)
    value = MatrixQuadratic(C, 2.0).value(x[0])
    assert value == pytest.approx(np.mean([np.sum((x[0].reshape(2, 3) - c) ** 2) for c in C]))


def test_a_run_on_matrices_is_rebuilt(tmp_path):
    problem = matrix_quadratic(8, 2, 3)
    algorithm = PowerGossip(2, 3, warm_start=False, rows=3)
    history = rs.simulate(problem, RING, algorithm, learning_rate=0.1, steps=5)
    history.save(tmp_path / "run")
    again = rs.simulate(**rs.rebuild(rs.History.load(tmp_path / "run").config))
    np.testing.assert_array_equal(again.x, history.x)
    assert again.problem.matrix_shape == (2, 3)
    assert again.algorithm == algorithm


@pytest.mark.parametrize(
    ("centers", "h", "message"),
    [
        (np.ones((2, 3)), 1.0, r"centers must have shape \(n, a, b\), not \(2, 3\)"),
        (np.ones((2, 3, 0)), 1.0, r"centers must have shape"),
        (np.ones((2, 3, 4)), np.ones((2, 12)), r"h must be a number or .* not \(2, 12\)"),
        (np.ones((2, 3, 4)), -1.0, "the smallest is -1"),
        (np.full((2, 1, 1), np.nan), 1.0, "centers has an entry that is not finite"),
    ],
)
def test_matrix_quadratics_refuse(centers, h, message):
    with pytest.raises(ValueError, match=message):
        MatrixQuadratic(centers, h)


@pytest.mark.parametrize("intercept", [False, True])
def test_softmax_parameters_are_a_matrix(intercept):
    features = np.random.default_rng(0).normal(size=(30, 4))
    owners = np.arange(30) % 3
    softmax = Logistic(features, np.arange(30) % 5, 0.1, partition=owners, intercept=intercept)
    rows, columns = softmax.matrix_shape
    assert (rows, columns) == (4 + intercept, 5)
    x = np.arange(float(softmax.d))
    by_class = softmax.coefficients(x)[0]
    np.testing.assert_array_equal(x.reshape(rows, columns)[:4], by_class.T)
    two = Logistic(features, np.arange(30) % 2, 0.1, partition=owners, intercept=intercept)
    assert two.matrix_shape is None


def test_bits_of_a_matrix_of_low_rank():
    shares = [rs.compressors.LowRank(rank, 2).contraction(10) for rank in (1, 2, 3)]
    assert shares == [0.5, 1.0, 1.0]
    assert rs.compressors.LowRank(1, 2).bits(10) == 64 * (2 + 5)
    assert rs.compressors.LowRank(2, 2).bits(10) == 64 * 10  # no more than the matrix itself
