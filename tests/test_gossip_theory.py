"""Closed forms of gossip against published figures, brute force and simulations."""

import numpy as np
import pytest
from graphs import connected_graphs
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import relaysim as rs
from relaysim.mixing import clocks
from relaysim.mixing.clocks import acceleration_constants
from relaysim.theory import (
    d2_rates,
    d2_smallest_eigenvalue,
    d2_spectral_radius,
    effective_neighbors,
    exact_diffusion_rates,
    linear_rule,
    mixing_gap,
    spectral_gap,
    toy_problem,
    toy_rate,
    toy_rate_exact,
    toy_zeta,
)

topologies, mixing = rs.topologies, rs.mixing


def weights(topology):
    return mixing.metropolis(topology).toarray()


def random_rows(n, seed, density=0.5):
    """A row-stochastic matrix that is not symmetric and whose columns do not sum to one."""
    rng = np.random.default_rng(seed)
    A = np.eye(n) + rng.random((n, n)) * (rng.random((n, n)) < density)
    A[np.arange(n), np.arange(1, n + 1) % n] += 0.5  # a directed ring connects all
    return A / A.sum(axis=1, keepdims=True)


def directed_exponential(n):
    """Worker i averages with i − 2^k modulo n for all 2^k < n, and itself, with equal weights."""
    W = np.eye(n)
    for k in range((n - 1).bit_length()):
        W[np.arange(n), (np.arange(n) - 2**k) % n] += 1
    return W / W.sum(axis=1, keepdims=True)


LISTS = {
    "symmetric": [weights(topologies.binary_tree(7))],
    "rows": [random_rows(6, seed=0)],
    "period of rows": [random_rows(5, seed) for seed in (1, 2, 3)],
    "one-peer, 6": [W.toarray() for W in mixing.one_peer_exponential(6)],
    "one-peer, 8": [W.toarray() for W in mixing.one_peer_exponential(8)],
    "two trees": [weights(topologies.star(6)), weights(topologies.chain(6))],
    "directed ring": [np.roll(np.eye(5), 1, axis=0)],
    "one worker": [np.ones((1, 1))],
}
over_lists = pytest.mark.parametrize("matrices", LISTS.values(), ids=LISTS)


# -- spectral gap ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "gap"),
    [
        (topologies.ring(3), 1.0),
        (topologies.ring(7), 4 / 3 * np.sin(np.pi / 7) ** 2),
        (topologies.chain(600), 4 / 3 * np.sin(np.pi / 1200) ** 2),
        (topologies.star(9), 1 / 9),
        (topologies.complete(6), 1.0),
        (topologies.hypercube(16), 2 / 5),
        # above n = 1500: a clear gap, a tiny one, and tiny ones that take a factorization
        (topologies.star(3000), 1 / 3000),
        (topologies.torus(50, 50), 4 / 5 * np.sin(np.pi / 50) ** 2),
        (topologies.chain(2000), 4 / 3 * np.sin(np.pi / 4000) ** 2),
        (topologies.ring(10_000), 4 / 3 * np.sin(np.pi / 10_000) ** 2),
    ],
    ids=repr,
)
def test_spectral_gap_of_known_graphs_relative_to_itself(topology, gap):
    found = spectral_gap(mixing.metropolis(topology))
    assert isinstance(found, float)
    np.testing.assert_allclose(found, gap, rtol=1e-11)


@pytest.mark.parametrize(
    ("W", "gap"),
    [
        ([[1.0]], 1.0),
        ([[0.1, 0.9], [0.9, 0.1]], 0.2),  # λ₂ = −0.8
        (mixing.uniform(topologies.ring(6), 0.5), 0.0),  # λ_n = −1
        (mixing.uniform(topologies.ring(2000), 0.5 - 1e-7), 4e-7),  # λ_n = −1 + 4e-7
        (mixing.uniform(topologies.chain(2), 1.2), -0.4),  # λ₂ = −1.4
        (mixing.uniform(topologies.chain(2), -0.1), -0.2),  # λ₂ = 1.2
        (np.eye(3), 0.0),
        (np.roll(np.eye(5), 1, axis=0), 0.0),
        (mixing.with_spectral_gap(7, 0.3), 0.3),
    ],
)
def test_spectral_gap_counts_every_eigenvalue_but_one(W, gap):
    np.testing.assert_allclose(spectral_gap(W), gap, rtol=1e-9, atol=1e-14)


@given(connected_graphs(least=2), st.floats(0.05, 1.3))
def test_spectral_gap_of_symmetric_matrices(graph, weight):
    topology = topologies.from_edges(*graph)
    W = mixing.uniform(topology, weight / topology.degrees.max())
    expected = 1 - np.abs(np.delete(np.linalg.eigvalsh(W.toarray()) + 0j, nearest_one(W))).max()
    np.testing.assert_allclose(spectral_gap(W), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(spectral_gap(W.toarray()), spectral_gap(W))


def nearest_one(W):
    return np.argmin(np.abs(np.linalg.eigvalsh(W.toarray()) - 1))


@over_lists
def test_spectral_gap_is_the_rate_at_which_a_period_forgets(matrices):
    """Against the eigenvalues of the product, however its period is begun; a list of one is one."""
    n, m = len(matrices[0]), len(matrices)
    product = np.linalg.multi_dot([np.eye(n), *matrices[::-1], np.eye(n)])
    moduli = np.sort(np.abs(np.linalg.eigvals(product)))
    gap = 1 - moduli[-2] ** (1 / m) if n > 1 else 1.0
    if moduli[-2 if n > 1 else 0] < 1e-14:
        gap = 1.0
    for start in range(m):
        turned = matrices[start:] + matrices[:start]
        np.testing.assert_allclose(spectral_gap(turned), gap, rtol=0, atol=1e-12)
    if m == 1:
        assert spectral_gap(matrices[0]) == spectral_gap(matrices)


@pytest.mark.parametrize("n", [4, 6, 12, 30, 64])
def test_gap_of_the_static_directed_exponential_graph(n):
    """2/(1 + ⌈log₂ n⌉) for even n (Ying et al., 2021); odd n do better."""
    steps = (n - 1).bit_length()
    np.testing.assert_allclose(spectral_gap(directed_exponential(n)), 2 / (1 + steps), rtol=1e-11)
    odd = n + 3
    assert spectral_gap(directed_exponential(odd)) > 1.1 * 2 / (1 + (odd - 1).bit_length())


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 64, 1024, 4096])
def test_one_peer_exponential_averages_exactly_for_powers_of_two_only(n):
    gap = spectral_gap(mixing.one_peer_exponential(n))
    assert gap == 1.0 if n & (n - 1) == 0 else gap < 0.6


def test_an_averaging_period_has_gap_one_though_thirds_are_rounded():
    thirds = [weights(topologies.complete(3)), np.eye(3)]
    both = [np.kron(thirds[0], np.eye(3)), np.kron(np.eye(3), thirds[0])]
    assert spectral_gap(both) == 1.0


@pytest.mark.parametrize(
    "W",
    [
        weights(topologies.barabasi_albert(60, 2, seed=0)),
        weights(topologies.chain(50)),
        mixing.uniform(topologies.chain(61), 0.499).toarray(),
        random_rows(50, seed=5, density=0.1),
        mixing.one_peer_exponential(100),
    ],
    ids=["graph", "chain", "nearly bipartite", "rows", "sequence"],
)
@pytest.mark.parametrize("converges", [True, False])
def test_large_matrices_get_what_small_ones_get(W, converges, monkeypatch):
    expected = spectral_gap(W)
    monkeypatch.setattr(mixing_gap, "DENSE_LIMIT", 3)
    symmetric = isinstance(W, np.ndarray) and np.array_equal(W, W.T)
    if symmetric and not converges:
        iterate, calls = mixing_gap.eigsh, []

        def stubborn(*args, **options):
            calls.append(args)
            if "maxiter" in options:
                raise mixing_gap.ArpackNoConvergence("", np.empty(0), np.empty((0, 0)))
            return iterate(*args, **options)

        monkeypatch.setattr(mixing_gap, "eigsh", stubborn)
    np.testing.assert_allclose(spectral_gap(W), expected, rtol=1e-10)
    if symmetric and not converges:
        assert len(calls) in (2, 4)  # each end: in vain, then inverted


# -- D² and exact diffusion ------------------------------------------------------------------------


def block(eigenvalue, gamma_h):
    """One mode of D²: x' = λ((1 − g)x + c), c' = c + (λ − 1)((1 − g)x + c)."""
    s = 1 - gamma_h
    return np.array([[eigenvalue * s, eigenvalue], [(eigenvalue - 1) * s, eigenvalue]])


@pytest.mark.parametrize("gamma_h", [0.01, 0.3, 0.7, 1.0, 1.2, 4 / 3, 1.4, 1.5, 1.9])
def test_d2_loses_stability_at_its_smallest_eigenvalue(gamma_h):
    limit = d2_smallest_eigenvalue(gamma_h)
    for eigenvalue in np.concatenate([np.linspace(-4, 0.99, 150), [limit - 1e-4, limit + 1e-4]]):
        radius = np.abs(np.linalg.eigvals(block(eigenvalue, gamma_h))).max()
        assert (radius < 1) == (eigenvalue > limit), eigenvalue


def brute_force_radius(W, gamma, curvatures):
    """Of the step (x, c) → (x', c') on all workers, without Σ_i c_i, which stays 0."""
    n, radii = len(W), []
    for h in np.atleast_1d(curvatures):
        s, identity = 1 - gamma * h, np.eye(n)
        step = np.block([[s * W, W], [s * (W - identity), W]])
        step[n:, n:] -= 1 / n
        radii.append(np.abs(np.linalg.eigvals(step)).max())
    return max(radii)


@pytest.mark.parametrize("h", [1.0, 0.25, [0.5, 0.8, 1.0]], ids=repr)
@pytest.mark.parametrize(
    "W",
    [
        weights(topologies.hypercube(8)),
        weights(topologies.torus(4, 4)),
        weights(topologies.binary_tree(24)),
        weights(topologies.star(6)),
        weights(topologies.complete(4)),
        mixing.uniform(topologies.chain(2), 0.95).toarray(),
        mixing.uniform(topologies.chain(2), 1.2).toarray(),
        np.eye(1),
    ],
    ids=["hypercube", "torus", "tree", "star", "complete", "negative", "beyond −1", "one worker"],
)
def test_d2_rates_and_spectral_radius_against_the_whole_iteration(W, h):
    intervals, lazy = d2_rates(W, h), exact_diffusion_rates(W, h)
    halved = mixing.lazy(W)
    for gamma in np.linspace(0.013, 2.2 / np.min(h), 16):
        for found, matrix in ((intervals, W), (lazy, halved)):
            radius = brute_force_radius(matrix, gamma, h)
            np.testing.assert_allclose(d2_spectral_radius(matrix, gamma, h), radius, atol=1e-7)
            inside = any(low < gamma < high for low, high in found)
            assert inside == (radius < 1), gamma


@pytest.mark.parametrize("h", [1.0, 0.4])
@pytest.mark.parametrize(
    ("topology", "low"), [(topologies.hypercube(8), 1 / 2), (topologies.torus(4, 4), 2 / 3)]
)
def test_simulated_d2_has_these_limits(topology, low, h):
    W = mixing.metropolis(topology)
    np.testing.assert_allclose(d2_rates(W, h), [(low / h, 2 / h)], rtol=1e-12)
    np.testing.assert_allclose(exact_diffusion_rates(W, h), [(0, 2 / h)], rtol=1e-12)
    centers = np.random.default_rng(4).normal(size=(topology.n, 2))
    problem = rs.problems.DiagonalQuadratic(np.full((topology.n, 2), h), centers)
    rates = np.array([0.99 * low, 1.01 * low, 0.99 * 2, 1.01 * 2]) / h
    history = rs.simulate(
        problem, topology, rs.algorithms.D2(), learning_rate=rates, steps=4000, record=4000
    )
    last = history.frame[history.frame.step == 4000].distance.to_numpy()
    assert (last[[1, 2]] < 1e-15).all()
    assert (np.isnan(last[[0, 3]]) | (last[[0, 3]] > 1e10)).all()


def test_simulated_d2_contracts_with_its_spectral_radius():
    topology = topologies.ring(8)
    centers = np.random.default_rng(4).normal(size=(8, 1))
    problem = rs.problems.DiagonalQuadratic(np.full((8, 1), 1.0), centers)
    distance = rs.simulate(
        problem, topology, rs.algorithms.D2(), learning_rate=0.3, steps=100, record=[20, 100]
    ).frame.distance.to_numpy()
    found = (distance[1] / distance[0]) ** (1 / 160)
    expected = d2_spectral_radius(mixing.metropolis(topology), 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_d2_never_converges_on_groups_that_exchange_nothing():
    W = np.kron(np.eye(2), np.full((2, 2), 0.5))
    assert d2_rates(W) == exact_diffusion_rates(W) == []
    assert d2_spectral_radius(W, 0.5) >= 1


# -- effective number of neighbours ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "published"),
    [
        (topologies.ring(32), [6.63, 8.86, 17.1]),
        (topologies.hypercube(32), [19.6, 24.3, 30.0]),
        (topologies.torus(4, 8), [15.7, 20.6, 28.5]),
        (topologies.binary_tree(32), [5.15, 7.19, 15.4]),
        (topologies.star(32), [1.67, 2.31, 6.44]),
    ],
    ids=repr,
)
def test_effective_neighbors_of_graphs_of_32(topology, published):
    W = mixing.metropolis(topology)
    found = [effective_neighbors(W, gamma) for gamma in (0.9, 0.951, 0.99)]
    np.testing.assert_allclose(found, published, rtol=3e-3)


def brute_force_variances(matrices, gamma, terms=1200):
    """(1 − γ) Var(z_i) before each step, from Σ_k γ^k Σ_j (W_{t−1} W_{t−2} … W_{t−1−k})_ij²."""
    m, variances = len(matrices), []
    for t in range(m):
        product, total = np.eye(len(matrices[0])), 0.0
        for k in range(terms):
            product = product @ matrices[(t - 1 - k) % m]
            total = total + gamma**k * (product**2).sum(axis=1)
        variances.append((1 - gamma) * total)
    return np.array(variances)


@over_lists
@pytest.mark.parametrize("gamma", [0.0, 0.4, 0.97])
def test_effective_neighbors_from_the_sum_over_the_past(matrices, gamma):
    variances = brute_force_variances(matrices, gamma)
    found = effective_neighbors(matrices, gamma)
    np.testing.assert_allclose(found, 1 / variances.mean(), rtol=1e-11)
    worst = effective_neighbors(matrices, gamma, mode="worst")
    np.testing.assert_allclose(worst, 1 / variances.max(), rtol=1e-11)


def test_without_memory_it_counts_who_is_averaged_with():
    ring = mixing.metropolis(topologies.ring(10))
    np.testing.assert_allclose(effective_neighbors(ring, 0), 3, rtol=1e-13)
    np.testing.assert_allclose(effective_neighbors(np.eye(4), 0.7), 1, rtol=1e-13)


@pytest.mark.parametrize("mode", ["mean", "worst"])
def test_close_to_one_nothing_cancels(mode):
    """For γ = 1 − δ, n_W = n − δ n Σ_{i≥2} λ²/(1 − λ²) + O(δ²) on a ring, where all are alike."""
    n = 16
    eigenvalues = 1 - 4 / 3 * np.sin(np.pi * np.arange(1, n) / n) ** 2
    slope = n * (eigenvalues**2 / (1 - eigenvalues**2)).sum()
    W = mixing.metropolis(topologies.ring(n))
    gamma = 1 - 1e-9
    expected = n - (1 - gamma) * slope
    found = effective_neighbors(W, gamma, mode)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    # twice the same matrix takes the way of sequences
    np.testing.assert_allclose(effective_neighbors([W, W], gamma, mode), expected, rtol=1e-13)


@pytest.mark.parametrize("gamma", [0.3, 1 - 1e-9])
def test_groups_that_exchange_nothing_count_their_own(gamma):
    groups = np.kron(np.eye(3), weights(topologies.complete(3)))
    np.testing.assert_allclose(effective_neighbors(groups, gamma), 3, rtol=1e-12)
    swap = mixing.uniform(topologies.chain(2), 1.0)
    np.testing.assert_allclose(effective_neighbors(swap, gamma), 1, rtol=1e-12)


def test_a_row_stochastic_matrix_tends_to_its_perron_vector():
    W = random_rows(7, seed=8)
    pi = np.linalg.matrix_power(W, 4096)[0]
    found = effective_neighbors(W, 1 - 1e-9)
    np.testing.assert_allclose(found, 1 / (pi @ pi), rtol=1e-7)
    assert found < 6.9


# -- toy problem -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eta", "rate"), [(0.02, 0.03932), (0.05, 0.09570), (0.1, 0.18157), (0.15, 0.25202)]
)
def test_toy_rates_of_a_ring_of_16(eta, rate):
    W = mixing.metropolis(topologies.ring(16))
    zeta = toy_zeta(10)
    exact = toy_rate_exact(W, eta, zeta)
    np.testing.assert_allclose(exact, rate, atol=6e-6)
    for mode in ("mean", "worst"):
        np.testing.assert_allclose(toy_rate(W, eta, zeta, mode), exact, rtol=1e-11)


def brute_force_rate(matrices, eta, zeta):
    """From the (n², n²) matrices that map E⟨x_i, x_j⟩ to its successor."""
    n = len(matrices[0])
    total = np.eye(n * n)
    for W in matrices:
        step = np.kron(W, W)
        for a in range(n):
            for b in range(n):
                kept = 1 - 2 * eta + zeta * eta**2 if a == b else (1 - eta) ** 2
                step[:, n * a + b] *= kept
        total = step @ total
    return 1 - np.abs(np.linalg.eigvals(total)).max() ** (1 / len(matrices))


@over_lists
@pytest.mark.parametrize("eta", [0.0, 0.01, 0.15, 1.0, 1.6])
def test_exact_toy_rate_from_the_whole_covariance_map(matrices, eta):
    expected = brute_force_rate(matrices, eta, zeta=7.5)
    np.testing.assert_allclose(toy_rate_exact(matrices, eta, 7.5), expected, rtol=1e-9, atol=1e-13)


@over_lists
@pytest.mark.parametrize("eta", [0.0, 0.01, 0.15, 1.0, 1.6])
def test_exact_toy_rate_by_iteration(matrices, eta, monkeypatch):
    if len(matrices[0]) == 1:
        pytest.skip("a 1 × 1 map needs no iteration")
    monkeypatch.setattr(toy_problem, "DENSE_COVARIANCE_LIMIT", 3)
    expected = brute_force_rate(matrices, eta, zeta=7.5)
    np.testing.assert_allclose(toy_rate_exact(matrices, eta, 7.5), expected, rtol=1e-9, atol=1e-13)


def test_exact_toy_rate_lies_between_worst_and_mean():
    for topology in (topologies.star(20), topologies.chain(20), topologies.binary_tree(64)):
        W = mixing.metropolis(topology)
        for eta in (0.05, 0.15, 1.0):
            exact = toy_rate_exact(W, eta, 12)
            worst, mean = toy_rate(W, eta, 12), toy_rate(W, eta, 12, mode="mean")
            assert worst < exact < mean
            assert mean - worst > 1e-5


@over_lists
@pytest.mark.parametrize("eta", [0.01, 0.15, 1.0, 1.6])
@pytest.mark.parametrize("mode", ["mean", "worst"])
def test_toy_rate_solves_its_fixed_point(matrices, eta, mode):
    zeta = 12
    rate = toy_rate(matrices, eta, zeta, mode)
    gamma = (1 - eta) ** 2 / (1 - rate)
    n_W = effective_neighbors(matrices, gamma, mode)
    np.testing.assert_allclose(
        rate, 1 - (1 - eta) ** 2 - (zeta - 1) * eta**2 / n_W, rtol=1e-10, atol=1e-14
    )
    if mode == "worst":
        assert rate <= toy_rate_exact(matrices, eta, zeta) + 1e-12


def test_toy_rate_of_exact_averaging_and_without_noise():
    average = mixing.metropolis(topologies.complete(20))
    for eta in (0.05, 0.3, 1.0, 2.5):
        centralised = 1 - (1 - 2 * eta + eta**2 * toy_zeta(10, batch=20))
        for rate in (toy_rate, toy_rate_exact):
            np.testing.assert_allclose(rate(average, eta, toy_zeta(10)), centralised, rtol=1e-11)
            quiet = rate(mixing.metropolis(topologies.chain(20)), eta, 1.0)
            np.testing.assert_allclose(quiet, 1 - (1 - eta) ** 2, rtol=1e-9)
    assert centralised < 0
    chain = topologies.chain(5)
    assert toy_rate(mixing.metropolis(chain), 0, 3) == 0
    np.testing.assert_allclose(toy_rate_exact(mixing.metropolis(chain), 0, 3), 0, atol=1e-14)


def test_the_covariance_of_one_step_by_monte_carlo():
    """ζ and the map that `brute_force_rate` is made of, from samples of the toy problem."""
    n, d, batch, eta, samples = 4, 3, 2, 0.3, 60_000
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d))
    v = rng.normal(size=(samples, n, batch, d))
    gradients = np.einsum("snbd,snb->snd", v, np.einsum("snbd,nd->snb", v, x)) / batch
    zeta = toy_zeta(d, batch)
    growth = (gradients**2).sum(axis=2).mean(axis=0) / (x**2).sum(axis=1)
    np.testing.assert_allclose(growth, zeta, rtol=0.03)
    W = weights(topologies.star(n))
    moved = np.einsum("ij,sjd->sid", W, x - eta * gradients)
    found = np.einsum("sid,sjd->ij", moved, moved) / samples
    C = x @ x.T
    expected = W @ ((1 - eta) ** 2 * C + (zeta - 1) * eta**2 * np.diag(np.diag(C))) @ W.T
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


# -- acceleration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 8, 17, 64])
def test_acceleration_constants_of_known_graphs(n):
    chi1, chi2 = acceleration_constants(topologies.ring(n), 1)
    np.testing.assert_allclose(chi1, 1 / (2 * np.sin(np.pi / n) ** 2), rtol=1e-12)
    np.testing.assert_allclose(chi2, (n - 1) / n, rtol=1e-12)
    if n == 64:
        np.testing.assert_allclose(chi1, n**2 / (2 * np.pi**2), rtol=1e-3)
    star = acceleration_constants(topologies.star(n), 1)
    np.testing.assert_allclose(star, [2 * (n - 1) / n, (n - 1) / n], rtol=1e-12)
    complete = acceleration_constants(topologies.complete(n), 1)
    np.testing.assert_allclose(complete, [(n - 1) / n] * 2, rtol=1e-12)


@given(connected_graphs(least=2), st.floats(0.1, 10))
def test_acceleration_constants_from_the_definition(graph, rate):
    topology = topologies.from_edges(*graph)
    n = topology.n
    neighbours = [{b for a, b in doubled(topology) if a == i} for i in range(n)]
    laplacian, total = np.zeros((n, n)), 0.0
    for i, j in topology.edges.tolist():
        edge_rate = rate / 2 * (1 / len(neighbours[i]) + 1 / len(neighbours[j]))
        e = np.eye(n)[i] - np.eye(n)[j]
        laplacian += edge_rate * np.outer(e, e)
        total += edge_rate
    np.testing.assert_allclose(2 * total / n, rate, rtol=1e-12)  # communications of a worker
    values, vectors = np.linalg.eigh(laplacian)
    pseudo_inverse = (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].T
    ends = [np.eye(n)[i] - np.eye(n)[j] for i, j in topology.edges.tolist()]
    expected = 1 / values[1], max(e @ pseudo_inverse @ e for e in ends) / 2
    found = acceleration_constants(topology, rate)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[1] <= found[0] * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_what_maps_reach_does_not_depend_on_units(scale):
    turn, stay = np.roll(np.eye(4), 1, axis=0), np.zeros((4, 4))
    turn[3] = turn[:, 3] = 0  # the last is out of reach
    basis = linear_rule._invariant([stay, scale * turn], np.array([1.0, 0, 0, 0]))
    np.testing.assert_allclose(basis @ basis.T, np.diag([1.0, 1, 1, 0]), atol=1e-12)


@pytest.mark.parametrize("at_a_time", [1, 4, 256])
def test_acceleration_constants_by_a_sparse_factor_are_those_of_a_dense_one(at_a_time, monkeypatch):
    graph = topologies.watts_strogatz(24, 4, 0.3, seed=1)
    expected = acceleration_constants(graph, 1.5)
    monkeypatch.setattr(clocks, "DENSE_LIMIT", 0)
    monkeypatch.setattr(clocks, "EDGES_AT_A_TIME", at_a_time)
    np.testing.assert_allclose(acceleration_constants(graph, 1.5), expected, rtol=1e-10)


def doubled(topology):
    edges = topology.edges.tolist()
    return [(a, b) for a, b in edges] + [(b, a) for a, b in edges]


# -- bad input -------------------------------------------------------------------------------------

RING = mixing.metropolis(topologies.ring(4))
ONE_PEER = mixing.one_peer_exponential(4)
OF_MATRICES = [
    spectral_gap,
    lambda W: effective_neighbors(W, 0.5),
    lambda W: toy_rate(W, 0.1, 5),
    lambda W: toy_rate_exact(W, 0.1, 5),
    d2_rates,
    exact_diffusion_rates,
    lambda W: d2_spectral_radius(W, 0.1),
]


@pytest.mark.parametrize("function", OF_MATRICES)
@pytest.mark.parametrize(
    ("W", "error", "message"),
    [
        (np.ones((2, 3)) / 3, ValueError, "square .* it is 2 × 3"),
        (np.empty((0, 0)), ValueError, "square"),
        ([], ValueError, "square"),
        (np.full((2, 2), 0.6), ValueError, "rows of W must sum to 1; row 0 sums to 1.2"),
        (np.array([[np.nan, 1], [0, 1]]), ValueError, "not finite"),
        ([np.eye(2), np.eye(3)], ValueError, "one size"),
        ([np.eye(2), np.eye(2) * 2], ValueError, "rows of W_1"),
        (np.eye(2) * 1j, TypeError, "real"),
        (sparse.eye_array(2) * 1j, TypeError, "real"),
        (topologies.ring(4), TypeError, "matrix"),
        ("metropolis", TypeError, "matrix"),
    ],
)
def test_what_is_no_mixing_matrix_is_refused(function, W, error, message):
    with pytest.raises(error, match=message):
        function(W)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: effective_neighbors(RING, 1.0), ValueError, r"\[0, 1\), not 1.0; .* n"),
        (lambda: effective_neighbors(RING, -0.1), ValueError, "-0.1"),
        (lambda: effective_neighbors(RING, "a"), TypeError, "gamma"),
        (lambda: effective_neighbors(RING, 0.5, mode="max"), ValueError, "'mean' or 'worst'"),
        (lambda: toy_rate(RING, -1, 3), ValueError, "learning_rate"),
        (lambda: toy_rate(RING, 0.1, 0.9), ValueError, "zeta"),
        (lambda: toy_rate(RING, 0.1, 3, mode="all"), ValueError, "mode"),
        (lambda: toy_rate_exact(RING, np.nan, 3), ValueError, "learning_rate"),
        (lambda: toy_rate_exact(RING, 0.1, 0.9), ValueError, "zeta"),
        (lambda: toy_zeta(0), ValueError, "d must be"),
        (lambda: toy_zeta(3, 0), ValueError, "batch"),
        (lambda: d2_smallest_eigenvalue(2), ValueError, r"\[0, 2\), not 2.*lower"),
        (lambda: d2_smallest_eigenvalue(-0.1), ValueError, "gamma_h"),
        (lambda: d2_rates(ONE_PEER), ValueError, "sequence.*metropolis"),
        (lambda: exact_diffusion_rates(random_rows(4, 0)), ValueError, "not symmetric"),
        (lambda: d2_spectral_radius(RING, -0.1), ValueError, "learning_rate"),
        (lambda: d2_rates(RING, 0), ValueError, "positive"),
        (lambda: d2_rates(RING, [0.5, -1]), ValueError, "positive"),
        (lambda: d2_rates(RING, []), ValueError, "1-D"),
        (lambda: d2_rates(RING, np.ones((2, 2))), ValueError, "1-D"),
        (lambda: acceleration_constants(RING, 1), TypeError, "Topology"),
        (lambda: acceleration_constants(topologies.ring(4), 0), ValueError, "positive"),
        (lambda: acceleration_constants(topologies.ring(4), -1), ValueError, "rate"),
        (lambda: acceleration_constants(topologies.ring(1), 1), ValueError, "single"),
        (
            lambda: acceleration_constants(topologies.from_edges(3, [(0, 1)]), 1),
            ValueError,
            "not connected",
        ),
        (
            lambda: acceleration_constants(topologies.double_binary_tree(4), 1),
            TypeError,
            "Topology",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("W", [[[-0.2, 1.2], [1.2, -0.2]], [[[-0.2, 1.2], [1.2, -0.2]]] * 2])
def test_gossip_that_diverges_has_no_variance(W):
    W = np.array(W)
    with pytest.raises(ValueError, match=r"modulus .* smaller weights"):
        effective_neighbors(W, 0.5)
    with pytest.raises(ValueError, match="modulus"):
        toy_rate(W, 0.1, 5)
    assert toy_rate_exact(W, 0.1, 1.0) == pytest.approx(1 - (0.9 * 1.4) ** 2)
