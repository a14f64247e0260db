"""Closed forms about the methods, each met by a simulation."""

import numpy as np
import pytest
import slow

import relaysim as rs

UNHEARD = ("initial", "previous", "own", "counts")


def delays(topology, overlap):
    """τ_ij: hop distances, less one (where there is one) if messages arrive in the same round."""
    hops = slow.hop_distances(slow.neighbours_of(topology))
    return hops if overlap else np.maximum(0, hops - 1)


class Constant:
    """f_i(x) = ⟨g_i, x⟩: the gradients are the same everywhere."""

    def __init__(self, gradients):
        self.gradients = np.array(gradients, dtype=float)
        self.n, self.d = self.gradients.shape

    def gradient(self, x):
        return np.broadcast_to(
            self.gradients.reshape(self.gradients.shape + (1,) * (x.ndim - 2)), x.shape
        )

    def value(self, x):
        return self.gradients.mean(axis=0) @ x


# -- fixed points ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta2", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(
    "topology",
    [
        rs.topologies.chain(12),
        rs.topologies.star(12),
        rs.topologies.binary_tree(12),
        rs.topologies.double_binary_tree(12),
    ],
    ids=repr,
)
@pytest.mark.parametrize("overlap", [False, True])
def test_relay_sgd_is_exact_for_any_heterogeneity_and_rate(topology, zeta2, overlap):
    problem = rs.problems.random_quadratics(n=12, d=5, zeta2=zeta2, mu=0.25, r0=3.0, seed=1)
    history = rs.simulate(
        problem,
        topology,
        rs.algorithms.RelaySGD(overlap=overlap),
        learning_rate=[0.1, 0.5, 1.0],
        steps=3000,
        record=3000,
    )
    last = history.frame[history.frame.step == 3000]
    assert (last.distance < 1e-26 * (1 + zeta2)).all()


@pytest.mark.parametrize("unheard", UNHEARD)
def test_relay_sgd_is_exact_whatever_stands_in_for_the_unheard(unheard):
    problem = rs.problems.random_quadratics(n=12, d=5, zeta2=10.0, mu=0.25, seed=1)
    history = rs.simulate(
        problem,
        rs.topologies.chain(12),
        rs.algorithms.RelaySGD(unheard=unheard, momentum=0.5),
        learning_rate=0.5,
        steps=1500,
        record=1500,
    )
    assert history.frame.distance.iloc[-1] < 1e-25


@pytest.mark.parametrize(
    "topology",
    [rs.topologies.chain(8), rs.topologies.star(8), rs.topologies.binary_tree(8)],
    ids=repr,
)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_relayed_gradients_leave_a_fixed_offset(topology, overlap, momentum):
    """x_i − x̄ = (γ/n) Σ_j (τ_ij − mean_i' τ_i'j) g_j(x_j), and only Σ_j g_j(x_j) = 0 is reached.

    A difference between starting points stays for ever.
    """
    problem = rs.problems.random_quadratics(n=8, d=4, zeta2=10.0, mu=0.25, seed=2)
    rate, start = 0.1, np.random.default_rng(0).normal(size=(8, 4))
    x = rs.simulate(
        problem,
        topology,
        rs.algorithms.RelaySGDGrad(overlap=overlap, momentum=momentum),
        learning_rate=rate,
        steps=3000,
        record=3000,
        x0=start,
    ).x
    gradients = np.array(
        [A.T @ (A @ own - b) for A, own, b in zip(problem.A, x, problem.b, strict=True)]
    )
    np.testing.assert_allclose(gradients.sum(axis=0), 0, atol=1e-12)
    assert np.abs(gradients).max() > 1
    tau = delays(topology, overlap)
    expected = rate / 8 * (tau - tau.mean(axis=0)) @ gradients + start - start.mean(axis=0)
    np.testing.assert_allclose(x - x.mean(axis=0), expected, rtol=0, atol=1e-12)


def test_the_plateau_of_relayed_gradients_grows_with_the_square_of_rate_and_heterogeneity():
    distances = [
        rs.simulate(
            # h = 1 everywhere, so that the gradients at the fixed point are proportional to ζ.
            rs.problems.DiagonalQuadratic(np.ones((8, 1)), zeta * np.arange(8.0)[:, None]),
            rs.topologies.chain(8),
            rs.algorithms.RelaySGDGrad(),
            learning_rate=rate,
            steps=15_000,
            record=15_000,
        ).frame.consensus_distance.iloc[-1]
        for rate, zeta in ((0.005, 1.0), (0.01, 1.0), (0.005, 3.0))
    ]
    np.testing.assert_allclose(distances[1] / distances[0], 4, rtol=0.1)
    np.testing.assert_allclose(distances[2] / distances[0], 9, rtol=1e-8)


# -- the effective learning rate -------------------------------------------------------------------


def correction_factor(topology, overlap=False, unheard="initial", impulse_at=0):
    """Gradient −1 in a single step of rate 1, then only communication: 1 / (the final mean)."""
    history = rs.simulate(
        Constant(-np.ones((topology.n, 2))),
        topology,
        rs.algorithms.RelaySGD(overlap=overlap, unheard=unheard),
        learning_rate=lambda step: float(step == impulse_at),
        steps=4000,
        record=4000,
    )
    assert history.frame.consensus_distance.iloc[-1] < 1e-16
    return 1 / history.x.mean()


@pytest.mark.parametrize("n", [2, 5, 8, 16, 20])
def test_correction_factor_of_a_chain(n):
    chain = rs.topologies.chain(n)
    np.testing.assert_allclose(correction_factor(chain), (n**2 + 2) / (3 * n), rtol=1e-8)
    np.testing.assert_allclose(
        correction_factor(chain, overlap=True), (n**2 + 3 * n - 1) / (3 * n), rtol=1e-8
    )


@pytest.mark.parametrize("n", [2, 5, 8, 32])
def test_correction_factor_of_a_star(n):
    star = rs.topologies.star(n)
    np.testing.assert_allclose(correction_factor(star), 2 * (1 - 1 / n) ** 2 + 1 / n, rtol=1e-8)
    np.testing.assert_allclose(
        correction_factor(star, overlap=True), 1 + 2 * (1 - 1 / n) ** 2, rtol=1e-8
    )


@pytest.mark.parametrize(
    ("n", "same_round", "overlapping"),
    [(2, 1.0, 1.5), (8, 2.1563, 3.0313), (16, 3.3203, 4.2578), (32, 4.7832, 5.7520)],
)
def test_correction_factor_of_the_binary_tree(n, same_round, overlapping):
    tree = rs.topologies.binary_tree(n)
    np.testing.assert_allclose(correction_factor(tree), same_round, atol=5e-5)
    np.testing.assert_allclose(correction_factor(tree, overlap=True), overlapping, atol=5e-5)


def test_correction_factor_of_any_tree_is_the_mean_delay_plus_one():
    parents = np.random.default_rng(3).integers(0, np.arange(1, 14))
    tree = rs.topologies.from_edges(14, list(zip(parents, range(1, 14), strict=True)))
    for overlap in (False, True):
        expected = 1 + delays(tree, overlap).mean()
        np.testing.assert_allclose(correction_factor(tree, overlap), expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("unheard", "from_the_start"),
    [("initial", 5.375), ("previous", 2.53), ("own", 1.0), ("counts", 1.0)],
)
def test_what_stands_in_for_the_unheard_matters_only_until_the_pipeline_is_full(
    unheard, from_the_start
):
    chain = rs.topologies.chain(16)
    np.testing.assert_allclose(correction_factor(chain, unheard=unheard), from_the_start, atol=5e-3)
    later = correction_factor(chain, unheard=unheard, impulse_at=20)
    np.testing.assert_allclose(later, (16**2 + 2) / (3 * 16), rtol=1e-8)


# -- consensus -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "topology",
    [
        rs.topologies.chain(9),
        rs.topologies.star(9),
        rs.topologies.binary_tree(20),
        rs.topologies.double_binary_tree(20),
    ],
    ids=repr,
)
def test_relayed_sums_are_uniform_once_the_pipeline_is_full(topology, overlap):
    """With constant gradients everyone then moves along the mean gradient, and no one before."""
    gradients = np.random.default_rng(0).normal(size=(topology.n, 3))
    rate, filled = 0.1, topology.diameter if overlap else topology.diameter - 1
    iterates = rs.simulate(
        Constant(gradients),
        topology,
        rs.algorithms.RelaySGDGrad(overlap=overlap),
        learning_rate=rate,
        steps=filled + 5,
        keep_iterates=True,
    ).iterates
    moves = np.diff(iterates, axis=0)
    error = np.abs(moves + rate * gradients.mean(axis=0)).max(axis=(1, 2))
    assert (error[filled:] < 1e-14).all()
    assert (error[:filled] > 1e-3).all()


@pytest.mark.parametrize("n", [2, 4, 16])
def test_exponential_gossip_averages_exactly_in_log_n_steps(n):
    start = np.random.default_rng(0).normal(size=(n, 3))
    mixing = rs.mixing.one_peer_exponential(n)
    distances = rs.simulate(
        Constant(np.ones((n, 3))),
        rs.topologies.exponential(n),
        rs.algorithms.DPSGD(),
        mixing=mixing,
        learning_rate=0,
        steps=len(mixing),
        x0=start,
    ).frame.consensus_distance.to_numpy()
    assert distances[-1] < 1e-30
    assert (distances[:-1] > 1e-3).all()


@pytest.mark.parametrize(
    ("topology", "gap"),
    [
        (rs.topologies.chain(8), 0.0792),
        (rs.topologies.chain(16), 0.0214),
        (rs.topologies.chain(32), 0.0056),
        (rs.topologies.binary_tree(8), 0.104),
        (rs.topologies.binary_tree(16), 0.0354),
        (rs.topologies.binary_tree(32), 0.0127),
    ],
    ids=repr,
)
def test_consensus_of_relayed_models_contracts_with_the_second_eigenvalue(topology, gap):
    first, last = int(8 / gap), int(13 / gap)  # the other modes have died, rounding is far away
    early, late = rs.simulate(
        Constant(np.zeros((topology.n, 1))),
        topology,
        rs.algorithms.RelaySGD(),
        learning_rate=0,
        steps=last,
        record=[first, last],
        x0=np.random.default_rng(0).normal(size=(topology.n, 1)),
    ).frame.consensus_distance
    assert late > 1e-26
    contraction = (late / early) ** (1 / (2 * (last - first)))
    np.testing.assert_allclose(1 - contraction, gap, atol=gap * 0.006)


# -- stability -------------------------------------------------------------------------------------


def movement(problem, topology, algorithm, rate, steps, mixing=None):
    """Largest change of an iterate in the last step (inf if it diverged), from a common start."""
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        record=[steps - 1, steps],
        keep_iterates=True,
        mixing=mixing,
    )
    if history.diverged.any():
        return np.inf
    return np.abs(history.iterates[1] - history.iterates[0]).max()


def equal_hessians(n, h):
    centers = np.random.default_rng(4).normal(size=(n, 2))
    return rs.problems.DiagonalQuadratic(np.full((n, 2), h), centers)


@pytest.mark.parametrize("n", [4, 8, 12])
@pytest.mark.parametrize("h", [1.0, 0.5])
@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [
        (rs.algorithms.RelaySGD(), lambda n: (n + 2) / 2),
        (rs.algorithms.RelaySGD(momentum=0.5), lambda n: (n + 2) / 2 * 3),
        (rs.algorithms.RelaySGDGrad(), lambda n: n),
    ],
    ids=["RelaySGD", "RelaySGD with momentum", "RelaySGDGrad"],
)
def test_stability_limit_on_chains_with_equal_hessians(algorithm, limit, n, h):
    problem, chain = equal_hessians(n, h), rs.topologies.chain(n)
    assert movement(problem, chain, algorithm, 0.98 * limit(n) / h, 3000) < 1e-2
    assert movement(problem, chain, algorithm, 1.02 * limit(n) / h, 3000) > 1e3


@pytest.mark.parametrize(
    "topology",
    [rs.topologies.chain(8), rs.topologies.star(8), rs.topologies.binary_tree(11)],
    ids=repr,
)
def test_overlapping_relay_sgd_is_stable_up_to_2_on_every_tree(topology):
    problem = equal_hessians(topology.n, 1.0)
    algorithm = rs.algorithms.RelaySGD(overlap=True)
    assert movement(problem, topology, algorithm, 1.98, 20_000) < 1e-6
    assert movement(problem, topology, algorithm, 2.02, 20_000) > 1e3


@pytest.mark.parametrize(("n", "first_unstable"), [(8, 1.2), (16, 0.92), (32, 0.68)])
def test_overlapping_relayed_gradients_lose_stability_earlier_on_longer_chains(n, first_unstable):
    problem, chain = equal_hessians(n, 1.0), rs.topologies.chain(n)
    algorithm = rs.algorithms.RelaySGDGrad(overlap=True)
    assert movement(problem, chain, algorithm, first_unstable - 0.04, 20_000) < 1e-3
    assert movement(problem, chain, algorithm, first_unstable + 0.02, 20_000) > 1e3


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_d2_needs_eigenvalues_above_its_threshold(rate, h):
    """A mode (λ < 0, h) is stable if and only if λ > −1/(3 − 2γh)."""
    threshold = -1 / (3 - 2 * rate * h)
    pair = rs.topologies.chain(2)
    for eigenvalue, stable in ((threshold + 0.01, True), (threshold - 0.01, False)):
        if eigenvalue <= -1:
            continue
        mixing = rs.mixing.uniform(pair, (1 - eigenvalue) / 2)
        moved = movement(equal_hessians(2, h), pair, rs.algorithms.D2(), rate, 3000, mixing)
        assert moved < 1e-4 if stable else moved > 1e3


def test_d2_may_be_stable_only_above_a_rate():
    hypercube = rs.topologies.hypercube(8)  # Metropolis weights 1/4: λ_min = −1/2, 3 − 2γh < 2
    for rate, stable in ((0.45, False), (0.55, True)):
        moved = movement(equal_hessians(8, 1.0), hypercube, rs.algorithms.D2(), rate, 3000)
        assert moved < 1e-6 if stable else moved > 1e3


def test_exact_diffusion_accepts_any_symmetric_matrix():
    pair = rs.topologies.chain(2)
    mixing = rs.mixing.uniform(pair, 0.99)  # λ = −0.98
    moved = movement(equal_hessians(2, 1.0), pair, rs.algorithms.ExactDiffusion(), 0.2, 500, mixing)
    assert moved < 1e-12
