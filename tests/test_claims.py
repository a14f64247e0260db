"""What is said of methods beyond their rules, measured."""

import numpy as np
import pytest
import slow

import relaysim as rs


def equal_hessians(n, curvatures, zeta2, seed=0):
    """Workers with one Hessian, diag(curvatures), and optima of their own."""
    h = np.asarray(curvatures, dtype=float)
    centers = np.random.default_rng(seed).normal(size=(n, len(h)))
    centers -= centers.mean(axis=0)
    centers *= np.sqrt(zeta2 / np.mean(np.sum((h * centers) ** 2, axis=1)))
    return rs.problems.DiagonalQuadratic(np.tile(h, (n, 1)), centers + 1.0)


# -- controlled disagreement -----------------------------------------------------------------------


def test_dsgd_ac_of_power_0_is_gossip_that_overlaps():
    problem, ring = equal_hessians(8, [0.1, 1.0], 1.0), rs.topologies.ring(8)
    run = {"learning_rate": rs.schedules.InverseSqrt(0.3), "steps": 50, "keep_iterates": True}
    gossip, controlled = (
        rs.simulate(problem, ring, algorithm, **run).iterates
        for algorithm in (rs.algorithms.DPSGD(overlap=True), rs.algorithms.DSGDAC(power=0))
    )
    np.testing.assert_array_equal(gossip, controlled)


def test_the_mean_of_dsgd_ac_does_not_depend_on_its_power():
    problem, ring = equal_hessians(8, [0.1, 1.0], 1.0), rs.topologies.ring(8)
    run = {"learning_rate": rs.schedules.Cosine(0.3, 200), "steps": 200, "keep_iterates": True}
    run["oracle"] = rs.oracles.Gaussian(1.0)
    means, spread = [], []
    for power in (0, 1, 3):
        history = rs.simulate(problem, ring, rs.algorithms.DSGDAC(power), **run)
        means.append(history.iterates.mean(axis=1))
        spread.append(history.frame.consensus_distance.iloc[-1])
    np.testing.assert_allclose(means[1:], [means[0]] * 2, rtol=0, atol=1e-13)
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("a", [1.0, 0.1, 0.01])
def test_stationary_variance_of_each_mode_of_gossip_with_a_part_of_the_mixing(a):
    """γ²s / (1 − ρ²) with ρ = 1 − a(1 − λ) − γh, and σ² = s d of noise over d coordinates."""
    n, gamma, sigma2, curvatures = 16, 0.1, 3.0, np.array([0.05, 0.3, 1.0])
    problem, ring = equal_hessians(n, curvatures, 0.0), rs.topologies.ring(n)
    algorithm = rs.algorithms.DPSGD(overlap=True, consensus=a)
    floor = rs.theory.linearize(problem, ring, algorithm, gamma).stationary(sigma2)
    eigenvalues = np.linalg.eigvalsh(rs.mixing.metropolis(ring).todense())[:-1]
    rho = 1 - a * (1 - eigenvalues[:, None]) - gamma * curvatures
    variance = gamma**2 * (sigma2 / 3) / (1 - rho**2)
    assert floor.consensus_distance == pytest.approx(variance.sum() / n, rel=1e-10)
    of_mean = gamma**2 * (sigma2 / 3) / n / (1 - (1 - gamma * curvatures) ** 2)
    assert floor.distance == pytest.approx(variance.sum() / n + of_mean.sum(), rel=1e-10)


def test_dsgd_ac_disagrees_where_gossip_has_come_together():
    """With a rate that falls to 0 along a cosine, mean Ξ² at the end: 3.1e-13 (p = 0), 4.0e-2 (p = 3)."""
    problem, ring = equal_hessians(16, [0.05, 0.3, 1.0], 0.0), rs.topologies.ring(16)
    run = {"learning_rate": rs.schedules.Cosine(0.1, 20_000), "steps": 20_000}
    run |= {"oracle": rs.oracles.Gaussian(3.0), "record": [20_000], "replicas": 20}
    gossip, controlled = (
        rs.simulate(problem, ring, rs.algorithms.DSGDAC(power), **run).frame for power in (0, 3)
    )
    assert (controlled.consensus_distance > 1e8 * gossip.consensus_distance).all()
    assert gossip.consensus_distance.mean() == pytest.approx(3.1e-13, rel=0.15)
    assert controlled.consensus_distance.mean() == pytest.approx(4.0e-2, rel=0.15)
    np.testing.assert_allclose(controlled.suboptimality, gossip.suboptimality, rtol=1e-9)


# -- gossip that adapts ----------------------------------------------------------------------------


def test_adagossip_moves_the_mean_where_choco_does_not():
    """Pure gossip of rank 0: at learning rate 0 only the mixing moves anything."""
    n, d = 16, 200
    problem, ring = equal_hessians(n, np.ones(d), 0.0), rs.topologies.ring(n)
    x0 = np.random.default_rng(0).normal(size=(n, d))
    run = {"learning_rate": 0.0, "steps": 500, "record": [500], "x0": x0}
    compressor = rs.compressors.TopK(20)
    drift = {}
    for algorithm in (
        rs.algorithms.ChocoSGD(compressor, 0.3),
        rs.algorithms.AdaGossip(compressor, 0.01),
    ):
        x = rs.simulate(problem, ring, algorithm, **run).x
        drift[type(algorithm).__name__] = float(np.sum((x.mean(axis=0) - x0.mean(axis=0)) ** 2))
    assert drift["ChocoSGD"] < 1e-25
    assert drift["AdaGossip"] > 0.1


@pytest.mark.parametrize(("zeta2", "least", "most"), [(1.0, 0.0, 1.5), (0.0, 50.0, np.inf)])
def test_adam_on_own_gradients_stalls_where_data_differ(zeta2, least, most):
    """The plateau of ‖x̄ − x*‖² at γ = 0.01 over that at 0.001."""
    problem = rs.problems.random_quadratics(n=16, d=5, zeta2=zeta2, mu=0.25, seed=0)
    history = rs.simulate(
        problem,
        rs.topologies.ring(16),
        rs.algorithms.DecentralizedAdam(),
        learning_rate=[0.01, 0.001],
        steps=20_000,
        record=range(18_000, 20_001, 10),
        keep_iterates=True,
    )
    error = history.iterates.mean(axis=1) - problem.optimum[:, None]
    plateau = np.mean(np.sum(error**2, axis=1), axis=0)
    assert least < plateau[0] / plateau[1] < most


# -- global averages and noise ---------------------------------------------------------------------


def test_a_global_average_now_and_then_brings_the_plateau_down():
    """Right after an average, against gossip: 2.7e-4 against .156 here. (Where 2.7e-3 against .106 was
    measured apart from this is not known; both say that little but the mean's bias is left.)
    """
    problem = rs.problems.random_quadratics(n=16, d=10, zeta2=1.0, mu=0.25, seed=0)
    run = {"learning_rate": 0.1, "steps": 1600, "record": range(1592, 1601)}
    gossip, averaged = (
        rs.simulate(problem, rs.topologies.ring(16), algorithm, **run).frame.distance.to_numpy()
        for algorithm in (rs.algorithms.DPSGD(), rs.algorithms.GossipPGA(8))
    )
    assert gossip[-1] == pytest.approx(0.156, rel=0.01)
    assert averaged[-1] == averaged.min() == pytest.approx(2.75e-4, rel=0.01)
    assert averaged.mean() < gossip[-1] / 5


@pytest.mark.parametrize(
    ("graph", "rounds"), [(rs.topologies.hypercube(64), 8), (rs.topologies.ring(64), 74)], ids=repr
)
def test_muffliato_leaves_the_means_share_of_the_noise(graph, rounds):
    """Averaging is one step at rate 1 on ½‖x − v_i‖²: σ²/n = 3.9e-3, and what the rounds have left of it."""
    n, sigma = 64, 0.5
    W = rs.mixing.metropolis(graph).toarray()
    method = rs.algorithms.Muffliato.for_gap(rs.theory.spectral_gap(W), n, sigma)
    assert method.rounds == rounds
    values = np.random.default_rng(0).uniform(size=(n, 8))
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 8)), values)
    frame = rs.simulate(problem, graph, method, learning_rate=1.0, steps=1, replicas=300).frame
    error = frame[frame.step == 1].distance / 8
    before, mixed = np.eye(n), W
    for _ in range(rounds - 1):
        before, mixed = mixed, method.weight * W @ mixed + (1 - method.weight) * before
    expected = sigma**2 * np.sum(mixed**2) / n
    expected += np.mean((mixed @ values - values.mean(axis=0)) ** 2)
    assert abs(error.mean() - expected) < 3 * error.std() / len(error) ** 0.5
    assert expected == pytest.approx(sigma**2 / n, rel=0.02)


@pytest.mark.parametrize(("n", "listed"), [(8, 25), (16, 50), (32, 98)])
def test_rounds_that_muffliato_takes_on_rings(n, listed):
    """To 1e-10 of Ξ² at the start; plain gossip takes 52, 205 and 783."""
    ring = rs.topologies.ring(n)
    gap = rs.theory.spectral_gap(rs.mixing.metropolis(ring))
    weight = rs.algorithms.Muffliato.for_gap(gap, n).weight
    start = np.random.default_rng(0).normal(size=(n, 50))
    problem = equal_hessians(n, np.ones(50), 0.0)
    taken = []
    for rounds in (listed - 1, listed):
        method = rs.algorithms.Muffliato(0.0, rounds, weight)
        frame = rs.simulate(problem, ring, method, learning_rate=0.0, steps=1, x0=start).frame
        taken.append(frame.consensus_distance[1] / frame.consensus_distance[0])
    assert taken[0] > 1e-10 > taken[1]


@pytest.mark.parametrize("rounds", [1, 4])
def test_muffliatos_noise_is_that_on_paper(rounds):
    problem, ring = equal_hessians(6, [0.3, 1.0], 1.0), rs.topologies.ring(6)
    method = rs.algorithms.Muffliato(0.7, rounds, 1.3)
    run = {"learning_rate": 0.2, "steps": 12, "keep_iterates": True}
    together = rs.simulate(problem, ring, method, seed=[5, 6], **run)
    for k, seed in enumerate([5, 6]):
        paper = slow.run(
            method,
            ring,
            lambda step, worker, x: problem.h[worker] * (x - problem.centers[worker]),
            np.zeros((6, 2)),
            [0.2] * 12,
            seed=seed,
        )
        np.testing.assert_allclose(together.iterates[..., k], paper, rtol=0, atol=1e-12)
    half = rs.simulate(problem, ring, method, seed=[5, 6], **(run | {"steps": 5}))
    np.testing.assert_array_equal(half.extend(7).x, together.x)


# -- sparse gossip ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_the_share_that_cesar_sends(share):
    """α(1 − (1 − α)^(deg − 1)) of a vector over each directed edge, deg = 3."""
    n, d, steps = 48, 200, 100
    topology = rs.topologies.random_regular(n, 3, seed=0)
    problem = equal_hessians(n, np.ones(d), 0.0)
    algorithm = rs.algorithms.Cesar(share)
    history = rs.simulate(
        problem, topology, algorithm, learning_rate=0.0, steps=steps, record=[steps]
    )
    sent = history.frame.vectors_sent.iloc[-1] / (steps * 2 * len(topology.edges))
    assert sent == pytest.approx(share * (1 - (1 - share) ** 2), rel=0.02)


# -- separable data --------------------------------------------------------------------------------


def separable(loss, seed=0, n=10, m=10, d=25, gap=0.1):
    """Examples that a hyperplane through 0 tells apart by its distance ``gap`` at least; ‖a‖ near 1."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, m, d)) / np.sqrt(d)
    signs = generator.choice([-1, 1], size=(n, m))
    features[..., 0] = signs * (np.abs(features[..., 0]) + gap)
    problem = rs.problems.Logistic(features, signs, l2=0, loss=loss)
    assert problem.margin(np.eye(d)[0]) >= gap
    return problem


LOSSES = pytest.mark.parametrize("loss", ["logistic", "exponential"])


@LOSSES
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_gossip_falls_as_1_over_t_on_separable_data(loss, seed):
    history = rs.simulate(
        separable(loss, seed),
        rs.topologies.ring(10),
        rs.algorithms.DPSGD(),
        learning_rate=1.0,
        steps=10_000,
        record=np.geomspace(1000, 10_000, 9).astype(int),
    )
    late = history.frame[history.frame.step >= 1000]
    slope = np.polyfit(np.log(late.step), np.log(late.value), 1)[0]
    assert -1.05 < slope < -0.85
    # Nearly the square of that, as the gradients that keep the workers apart fall as the loss does.
    slope = np.polyfit(np.log(late.step), np.log(late.consensus_distance), 1)[0]
    assert -2.1 < slope < -1.5


@LOSSES
def test_the_loss_of_normalised_tracking_falls_exponentially_on_separable_data(loss):
    """Slopes of log f over t = 200 … 300 and 300 … 1000, means over six data sets: -.027 and -.025."""
    slopes = []
    for seed in range(6):
        history = rs.simulate(
            separable(loss, seed),
            rs.topologies.ring(10),
            rs.algorithms.NormalizedTracking(),
            learning_rate=1.0,
            steps=1000,
            record=[200, 300, 1000],
        )
        early, middle, late = np.log(history.frame.set_index("step").value[[200, 300, 1000]])
        slopes.append(((middle - early) / 100, (late - middle) / 700))
        assert history.frame.margin.iloc[-1] > 0.1
    first, second = np.mean(slopes, axis=0)
    assert second == pytest.approx(first, rel=0.1)
    assert second < -0.02


def test_normalised_tracking_loses_its_direction_in_rounding():
    """Where f has come down to 1e-16 of its start; what was won of the margin is lost again."""
    history = rs.simulate(
        separable("exponential"),
        rs.topologies.ring(10),
        rs.algorithms.NormalizedTracking(),
        learning_rate=1.0,
        steps=4000,
        record=[1000, 4000],
    )
    at = history.frame.set_index("step")
    assert at.value[1000] > 1e-14 > 1e-16 > at.value[4000]
    assert at.margin[1000] > 0.13 > 0.08 > at.margin[4000]


# -- local rates -----------------------------------------------------------------------------------


def of_unlike_smoothness(n=8, d=5, seed=0):
    """Workers with Hessians of their own, whose largest eigenvalues differ up to tenfold."""
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(n, 2 * d, d))
    A *= (np.geomspace(1, 10, n) ** 0.5 / np.linalg.norm(A, ord=2, axis=(1, 2)))[:, None, None]
    return rs.problems.LeastSquares(A, generator.normal(size=(n, 2 * d)))


@pytest.mark.parametrize("gossip", [False, True])
def test_local_rates_minimise_each_objective_over_its_smoothness(gossip):
    """argmin Σ f_i/L_i; as gossip, whose bias is in proportion to γ, its mean nears that."""
    problem = of_unlike_smoothness()
    hessians = np.einsum("imd,ime->ide", problem.A, problem.A)
    smoothness = np.linalg.eigvalsh(hessians)[:, -1]
    np.testing.assert_allclose(rs.theory.local_smoothness(problem), smoothness, rtol=1e-12)
    pull = np.einsum("imd,im->id", problem.A, problem.b)
    end = np.linalg.solve(
        (hessians / smoothness[:, None, None]).sum(axis=0), (pull / smoothness[:, None]).sum(axis=0)
    )
    assert np.linalg.norm(end - problem.optimum) > 0.01
    algorithm = rs.algorithms.LocalRates(switch=None, gossip=gossip)
    rate, tolerance = (1e-4, 1e-3) if gossip else (1.0, 1e-12)
    linear = rs.theory.linearize(problem, rs.topologies.complete(8), algorithm, rate)
    np.testing.assert_allclose(linear.fixed_point.mean(axis=0), end, rtol=0, atol=tolerance)


def test_local_rates_are_predicted_through_both_phases():
    problem, ring = of_unlike_smoothness(), rs.topologies.ring(8)
    for gossip in (False, True):
        algorithm = rs.algorithms.LocalRates(switch=30, gossip=gossip)
        run = {"learning_rate": 0.7, "steps": 60, "keep_iterates": True}
        found = rs.simulate(problem, ring, algorithm, **run).iterates
        predicted = rs.theory.linearize(problem, ring, algorithm, 0.7).iterates(60)
        np.testing.assert_allclose(predicted, found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [1, 10])
def test_local_rates_gain_where_smoothness_differs(spread):
    """Each worker sees one direction, and all the same optimum: only the length of the steps differs."""
    n = 8
    h = np.diag(np.geomspace(1, spread, n)) + 1e-3
    problem = rs.problems.DiagonalQuadratic(h, np.ones((n, n)))
    local, common = (
        rs.simulate(
            problem,
            rs.topologies.ring(n),
            rs.algorithms.LocalRates(switch),
            learning_rate=1.0,
            steps=2000,
            stop_below=1e-8,
        ).steps_to(1e-8)[0]
        for switch in (2000, 0)
    )
    assert local == common if spread == 1 else local < common / 2


def test_a_problem_that_does_not_say_its_smoothness_is_refused():
    class Own:
        n, d = 4, 2

        def gradient(self, x):
            return x

        def value(self, x):
            return 0.5 * float(x @ x)

    with pytest.raises(ValueError, match="local_smoothness"):
        rs.simulate(
            Own(),
            rs.topologies.ring(4),
            rs.algorithms.LocalRates(switch=3),
            learning_rate=1.0,
            steps=5,
        )
