"""Methods whose corrections make them exact: their forms, and what is said of each, measured."""

import numpy as np
import pytest
from methods import in_turn
from test_contract import assert_close_to_largest, compare_with_paper, iterates_of, least_squares

import relaysim as rs


def falling(step):
    return 0.4 / (1 + 0.2 * step)


def assert_is_the_rule_on_paper(algorithm, rate=falling):
    for topology in (rs.topologies.star(6), rs.topologies.torus(3, 3)):
        compare_with_paper(algorithm, topology, rate)
    if algorithm.uses == "workers" or "symmetric" in algorithm.mixing_needs:
        return
    mixing = in_turn(algorithm, rs.mixing.one_peer_exponential(6))
    compare_with_paper(algorithm, rs.topologies.exponential(6), 0.1, steps=10, mixing=mixing)


def assert_is_predicted(algorithm, rate, topology=None, steps=60):
    """The map of its own step is the curve that is simulated, start-up included."""
    topology = rs.topologies.ring(8) if topology is None else topology
    problem = rs.problems.random_quadratics(n=topology.n, d=3, zeta2=2.0, mu=0.2, seed=0)
    x0 = np.random.default_rng(1).normal(size=(topology.n, 3))
    found = iterates_of(problem, topology, algorithm, rate, steps, x0=x0)
    linear = rs.theory.linearize(problem, topology, algorithm, rate, x0)
    assert_close_to_largest(linear.iterates(steps), found, 1e-12)
    assert linear.spectral_radius < 1
    np.testing.assert_allclose(
        linear.fixed_point, np.broadcast_to(problem.optimum, x0.shape), rtol=0, atol=1e-10
    )
    assert linear.plateau().distance < 1e-20


# -- gradient tracking -----------------------------------------------------------------------------

FORMS = ("next", "diging", "atc")


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_tracking_is_its_rule_on_paper_and_its_own_map(form, momentum):
    algorithm = rs.algorithms.GradientTracking(form, momentum)
    assert_is_the_rule_on_paper(algorithm)
    assert_is_predicted(algorithm, 0.1)


def test_forms_of_tracking_agree_where_workers_average_exactly():
    """One tracker, the mean gradient, and one model: but DIGing's models keep their last differences."""
    problem, complete = least_squares(6, 5, 4), rs.topologies.complete(6)
    mean = {"mixing": np.full((6, 6), 1 / 6), "x0": np.ones(5)}
    forms = {}
    for form in FORMS:
        algorithm = rs.algorithms.GradientTracking(form)
        forms[form] = iterates_of(problem, complete, algorithm, 0.3, 30, **mean)
    np.testing.assert_allclose(forms["next"], forms["atc"], rtol=0, atol=1e-13)
    means = [iterates.mean(axis=1) for iterates in forms.values()]
    np.testing.assert_allclose(means[0][1], means[1][1], rtol=0, atol=1e-13)
    assert np.abs(forms["diging"][1] - forms["next"][1]).max() > 1e-2


def test_atc_tracking_brings_news_two_hops_further_a_step_and_its_first_step_one():
    problem, chain = least_squares(9, 2, 2), rs.topologies.chain(9)
    algorithm = rs.algorithms.GradientTracking("atc")
    history = rs.simulate(problem, chain, algorithm, learning_rate=0.1, steps=4)
    assert history.frame.vectors_sent.diff()[1:].tolist() == [16, 32, 32, 32]
    b = problem.b.copy()
    b[0] += 1
    changed = rs.problems.LeastSquares(problem.A, b)
    one, other = (iterates_of(p, chain, algorithm, 0.1, 4) for p in (problem, changed))
    reach = [
        np.flatnonzero((a != b).any(axis=1)).max(initial=0) for a, b in zip(one, other, strict=True)
    ]
    assert reach == [0, 1, 3, 5, 7]
    assert algorithm.hops_per_step == 2


def test_which_form_of_tracking_is_fastest():
    """At best rates, ring of 16, ζ² = 1: the more is mixed the faster, by a few steps in a hundred."""
    problem = rs.problems.random_quadratics(n=16, d=5, zeta2=1.0, mu=0.25, seed=0)
    steps = {}
    for form in FORMS:
        algorithm, rates = rs.algorithms.GradientTracking(form), np.linspace(0.03, 0.06, 31)
        run = {"learning_rate": rates, "steps": 700, "stop_below": 1e-10}
        history = rs.simulate(problem, rs.topologies.ring(16), algorithm, **run)
        steps[form] = int(np.nanmin(history.steps_to(1e-10)))
    assert steps == {"next": 376, "diging": 383, "atc": 371}


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_tracking_is_exact_where_gossip_with_momentum_stalls(momentum):
    """Mean ‖x_i − x*‖² after 4000 steps: below 1e-28, and 4.7e-2."""
    problem = rs.problems.random_quadratics(n=8, d=5, zeta2=1.0, mu=0.25, seed=0)
    run = {"learning_rate": 0.1, "steps": 4000, "record": [4000]}
    ring = rs.topologies.ring(8)
    gossip = rs.simulate(problem, ring, rs.algorithms.DPSGD(momentum), **run).frame.distance[0]
    assert gossip == pytest.approx(4.7e-2, rel=0.02)
    for form in FORMS:
        algorithm = rs.algorithms.GradientTracking(form, momentum)
        assert rs.simulate(problem, ring, algorithm, **run).frame.distance[0] < 1e-28


def test_momentum_tracking_is_that_of_its_authors():
    """u ← βu + g;  X' = WX − γ'(U − C);  C ← W(C − U) + U, with γ' = (1 − β)γ."""
    problem, ring, beta = least_squares(8, 5, 4), rs.topologies.ring(8), 0.7
    W = np.asarray(rs.mixing.metropolis(ring).todense())
    x = u = c = np.zeros((8, 5))
    for _ in range(30):
        u = beta * u + problem.gradient(x)
        x, c = W @ x - (1 - beta) * 0.2 * (u - c), W @ (c - u) + u
    algorithm = rs.algorithms.GradientTracking("diging", momentum=beta)
    found = iterates_of(problem, ring, algorithm, 0.2, 30)
    np.testing.assert_allclose(found[-1], x, rtol=0, atol=1e-13)


def test_options_of_tracking_are_checked():
    with pytest.raises(ValueError, match="form must be one of 'next', 'diging', 'atc', not 'gt'"):
        rs.algorithms.GradientTracking("gt")
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), not 1"):
        rs.algorithms.GradientTracking(momentum=1)


# -- NIDS, and objectives with a term that has no gradient -----------------------------------------


def test_nids_is_exact_diffusion_after_a_first_step_alone():
    """The first step without peers is what a matrix W = I would make of exact diffusion's."""
    problem, x0 = least_squares(8, 5, 4), np.random.default_rng(0).normal(size=(8, 5))
    ring = rs.topologies.ring(8)
    W = np.asarray(rs.mixing.metropolis(ring).todense())

    def alone_at_first(step):
        return np.eye(8) if step == 0 else W

    run = {"x0": x0, "mixing": alone_at_first}
    peers = iterates_of(problem, ring, rs.algorithms.ExactDiffusion(), 0.3, 40, **run)
    nids = iterates_of(problem, ring, rs.algorithms.NIDS(), 0.3, 40, x0=x0)
    assert_close_to_largest(nids, peers)
    np.testing.assert_allclose(nids[1], x0 - 0.3 * problem.gradient(x0), rtol=0, atol=1e-14)
    mixed = iterates_of(problem, ring, rs.algorithms.ExactDiffusion(), 0.3, 1, x0=x0)[1]
    assert np.abs(mixed - nids[1]).max() > 0.1


def test_nids_has_the_rates_of_exact_diffusion_whatever_the_graph():
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, mu=0.1, seed=0)
    for topology in (rs.topologies.ring(8), rs.topologies.star(8), rs.topologies.chain(8)):
        radii = [
            rs.theory.linearize(problem, topology, algorithm, 1.9).spectral_radius
            for algorithm in (rs.algorithms.NIDS(), rs.algorithms.ExactDiffusion())
        ]
        assert radii[0] == pytest.approx(radii[1], rel=1e-10)
        assert radii[0] < 1


def composite(weight=0.1, d=20, seed=0):
    return rs.problems.L1(rs.problems.random_quadratics(n=8, d=d, zeta2=1.0, seed=seed), weight)


def nids_on_paper(problem, W, x, rate, steps):
    """Z and prox, worker by worker."""
    threshold, n = rate * problem.weight, len(x)

    def shrunk(z):
        return np.array([[np.sign(v) * max(abs(v) - threshold, 0.0) for v in row] for row in z])

    before, g_before = x, problem.gradient(x)
    z = x - rate * g_before
    x, found = shrunk(z), [before]
    for _ in range(steps - 1):
        found.append(x)
        g = problem.gradient(x)
        sent = 2 * x - before - rate * (g - g_before)
        mixed = np.array(
            [(sent[i] + sum(W[i, j] * sent[j] for j in range(n))) / 2 for i in range(n)]
        )
        z = z - x + mixed
        before, g_before, x = x, g, shrunk(z)
    return np.array([*found, x])


def test_the_proximal_step_of_nids_is_the_rule_on_paper():
    problem, ring = composite(), rs.topologies.ring(8)
    W = np.asarray(rs.mixing.metropolis(ring).todense())
    x0 = np.random.default_rng(3).normal(size=(8, 20))
    paper = nids_on_paper(problem, W, x0, 0.7, 40)
    found = iterates_of(problem, ring, rs.algorithms.NIDS(), 0.7, 40, x0=x0)
    assert_close_to_largest(found, paper)
    rates = iterates_of(problem, ring, rs.algorithms.NIDS(), [0.2, 0.7], 40, x0=x0)
    assert_close_to_largest(rates[..., 1], paper)


@pytest.mark.parametrize("rate", [0.3, 1.9])
def test_nids_minimises_a_sum_with_an_l1_norm(rate):
    """To the shortest subgradient, with the zeros of the optimum; γ < 2/L whatever the graph."""
    problem = composite()
    run = {"learning_rate": rate, "steps": 3000, "record": [0, 3000]}
    for topology in (rs.topologies.ring(8), rs.topologies.complete(8)):
        history = rs.simulate(problem, topology, rs.algorithms.NIDS(), **run)
        columns = list(history.frame.columns)
        assert "subgradient_norm" in columns
        assert "gradient_norm" not in columns
        start, end = history.frame.iloc[0], history.frame.iloc[-1]
        assert end.subgradient_norm < 1e-28 < 1e-2 < start.subgradient_norm
        assert end.distance < 1e-28
        assert 0 <= end.suboptimality < 1e-15  # rounding of an |x_k| counts as it is
        if rate == 0.3:  # further up workers share a threshold, and may meet it exactly
            np.testing.assert_array_equal(history.x == 0, np.tile(problem.optimum == 0, (8, 1)))
    assert 8 < (problem.optimum == 0).sum() < 16


def test_the_optimum_with_an_l1_norm_is_where_a_subgradient_vanishes():
    """Diagonal Hessians have it in closed form; of logistic loss subgradients are below 1e-12."""
    h, c = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, -0.1, -3.0]])
    separate = rs.problems.L1(rs.problems.DiagonalQuadratic(h, c), 0.4)
    np.testing.assert_allclose(separate.optimum, [1.6, 0.0, -2.2], rtol=0, atol=1e-13)
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(4, 25, 6)), generator.choice([-1, 1], size=(4, 25))
    smooth = rs.problems.Logistic(features, labels, l2=0.01)
    problem = rs.problems.L1(smooth, 0.05)
    x, g = problem.optimum, smooth.mean_gradient(problem.optimum)
    assert 0 < (x == 0).sum() < 6
    np.testing.assert_allclose(g[x != 0], -0.05 * np.sign(x[x != 0]), rtol=0, atol=1e-12)
    assert (np.abs(g[x == 0]) <= 0.05).all()
    none = rs.problems.L1(smooth, 0.0)
    np.testing.assert_allclose(none.optimum, smooth.optimum, rtol=0, atol=1e-10)
    heavy = rs.problems.L1(smooth, 10.0)
    np.testing.assert_array_equal(heavy.optimum, 0)


def test_suboptimality_with_an_l1_norm_has_digits_below_rounding():
    problem = composite()
    direction = np.random.default_rng(5).normal(size=20)
    near, nearer = (problem.suboptimality(problem.optimum + t * direction) for t in (1e-3, 1e-11))
    difference = problem.value(problem.optimum + 1e-3 * direction) - problem.optimal_value
    assert near == pytest.approx(difference, rel=1e-9)
    assert nearer == pytest.approx(1e-8 * near, rel=0.1)  # what lies on the edges of |x| is linear
    assert problem.suboptimality(problem.optimum) == 0
    inside = np.where(problem.optimum == 0, 0.0, direction)
    near, nearer = (problem.suboptimality(problem.optimum + t * inside) for t in (1e-5, 1e-10))
    assert nearer == pytest.approx(1e-10 * near, rel=1e-4)


def test_methods_without_a_proximal_step_refuse_a_term_without_gradient():
    problem, ring = composite(), rs.topologies.ring(8)
    run = {"learning_rate": 0.1, "steps": 5}
    for algorithm in (
        rs.algorithms.ExactDiffusion(),
        rs.algorithms.RelaySGD(),
        rs.algorithms.A2CiD2(),
    ):
        name = type(algorithm).__name__
        with pytest.raises(
            ValueError, match=f"{name} has no proximal step for the term of L1.*NIDS"
        ):
            rs.simulate(problem, ring, algorithm, **run)
    with pytest.raises(TypeError, match="its proximal step is not affine"):
        rs.theory.linearize(problem, ring, rs.algorithms.NIDS(), 0.1)
    with pytest.raises(ValueError, match="weight must be"):
        rs.problems.L1(problem.problem, -1.0)
    with pytest.raises(TypeError, match="is no problem: it lacks 'n'"):
        rs.problems.L1(3.0, 1.0)
    with pytest.raises(ValueError, match="has such a term already"):
        rs.problems.L1(problem, 1.0)


def test_a_history_with_an_l1_norm_is_kept_and_gone_on_with(tmp_path):
    problem, ring = composite(), rs.topologies.ring(8)
    run = {"learning_rate": 0.5, "record": 5}
    whole = rs.simulate(problem, ring, rs.algorithms.NIDS(), steps=20, **run)
    part = rs.simulate(problem, ring, rs.algorithms.NIDS(), steps=10, **run)
    part.save(tmp_path / "run.npz")
    loaded = rs.History.load(tmp_path / "run.npz")
    assert repr(loaded.problem) == repr(problem)
    np.testing.assert_array_equal(loaded.extend(10).x, whole.x)


# -- local steps with a correction -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [
        (rs.algorithms.LED(5), 0.05),
        (rs.algorithms.KGT(4), 0.02),
        (rs.algorithms.KGT(3, 0.5), 0.04),
        (rs.algorithms.ProxSkip(1.0), 0.3),
        (rs.algorithms.Scaffold(1), 0.3),
        (rs.algorithms.Scaffold(7), 0.3),
    ],
    ids=repr,
)
def test_local_steps_are_their_rule_on_paper_and_their_own_map(algorithm, rate):
    assert_is_the_rule_on_paper(algorithm)
    assert_is_predicted(algorithm, rate)


def test_without_local_steps_they_are_methods_that_are_there():
    problem, ring, x0 = least_squares(8, 5, 4), rs.topologies.ring(8), np.arange(40.0).reshape(8, 5)
    exact = iterates_of(problem, ring, rs.algorithms.ExactDiffusion(), falling, 40, x0=x0)
    for same in (rs.algorithms.LED(period=1), rs.algorithms.ProxSkip(probability=1.0)):
        np.testing.assert_array_equal(iterates_of(problem, ring, same, falling, 40, x0=x0), exact)
    tracking = iterates_of(problem, ring, rs.algorithms.GradientTracking(), 0.1, 40, x0=x0)
    local = iterates_of(problem, ring, rs.algorithms.KGT(period=1), 0.1, 40, x0=x0)
    assert_close_to_largest(local, tracking)


def test_at_a_constant_rate_local_moves_are_what_is_tracked():
    """K-GT's Z and SCAFFOLD's c_i as differences of models over Kγ, as published."""
    problem, ring, K, rate, share = least_squares(8, 5, 4), rs.topologies.ring(8), 3, 0.1, 0.8
    W = np.asarray(rs.mixing.metropolis(ring).todense())
    x = np.ones((8, 5))
    c = np.zeros((8, 5))
    y, own, server = x, c, np.zeros(5)
    for _ in range(10):
        moved, local = x, y
        for _ in range(K):
            moved = moved - rate * (problem.gradient(moved) + c)
            local = local - rate * (problem.gradient(local) - own + server)
        z = (x - moved) / (K * rate)
        c, x = c - z + W @ z, W @ (x - share * K * rate * z)
        renewed = own - server + (y - local) / (K * rate)
        server, own = server + (renewed - own).mean(axis=0), renewed
        y = np.tile(local.mean(axis=0), (8, 1))
    run = {"rate": rate, "steps": 30, "x0": np.ones(5)}
    found = iterates_of(problem, ring, rs.algorithms.KGT(K, share), **run)[-1]
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)
    found = iterates_of(problem, ring, rs.algorithms.Scaffold(K), **run)[-1]
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-13)


def test_coins_of_proxskip_fall_as_often_as_they_should_and_are_shared():
    problem, ring = least_squares(8, 2, 2), rs.topologies.ring(8)
    algorithm = rs.algorithms.ProxSkip(0.3)
    run = {"learning_rate": 0.1, "steps": 400, "replicas": 20}
    history = rs.simulate(problem, ring, algorithm, **run)
    sent = history.frame.vectors_sent.to_numpy().reshape(20, 401)
    assert set(np.unique(np.diff(sent))) == {0, 16}  # all or nobody
    assert len(set(sent[:, -1])) > 5
    assert sent[:, -1].mean() / 16 / 400 == pytest.approx(0.3, abs=4 * (0.21 / 8000) ** 0.5)


def test_scaffold_is_exact_whoever_takes_part_and_counts_what_it_sends():
    problem = rs.problems.random_quadratics(n=9, d=3, zeta2=10.0, mu=0.25, seed=0)
    run = {"learning_rate": 0.2, "steps": 1500, "record": [1500], "replicas": 3}
    ring = rs.topologies.ring(9)
    part = rs.simulate(problem, ring, rs.algorithms.Scaffold(5, participation=0.3), **run)
    averaging = rs.simulate(problem, ring, rs.algorithms.FedAvg(5, participation=0.3), **run)
    assert part.frame.distance.max() < 1e-24 < 1e-3 < averaging.frame.distance.min()
    assert part.frame.vectors_sent.tolist() == [300 * 4 * 3] * 3
    assert averaging.frame.vectors_sent.tolist() == [300 * 2 * 3] * 3
    assert rs.algorithms.Scaffold(5, participation=0.3).gradients_per_step(9) == 3


def of_condition(kappa, n=8, d=5):
    """Workers with one Hessian, of eigenvalues from 1/κ to 1, optima of their own (ζ² = 1) and |x*| = 1."""
    h, centers = np.geomspace(1 / kappa, 1, d), np.random.default_rng(0).normal(size=(n, d))
    centers -= centers.mean(axis=0)
    centers /= np.sqrt(np.mean(np.sum((h * centers) ** 2, axis=1)))
    return rs.problems.DiagonalQuadratic(np.tile(h, (n, 1)), centers + d**-0.5)


def rounds_and_steps(problem, algorithm, steps):
    """Until ‖x_i − x*‖² is below 1e-8 on average, at γ = 1/L on a ring, looked at every fifth step."""
    run = {"learning_rate": 1.0, "steps": steps, "record": 5}
    frame = rs.simulate(problem, rs.topologies.ring(problem.n), algorithm, **run).frame
    first = frame[frame.distance < 1e-8].iloc[0]
    return first.vectors_sent / (2 * problem.n), first.step


def test_skipping_rounds_saves_them_where_the_problem_is_worse_conditioned_than_the_graph():
    """κ = 1000: exact diffusion 8405 rounds, ProxSkip 896 with about as many gradients (8572 and 894 in
    another draw of the data); at their best rounds grow as √κ, those of exact diffusion as κ.
    """
    problem, exact = of_condition(1000), rs.algorithms.ExactDiffusion()
    rounds, steps = rounds_and_steps(problem, exact, 8500)
    assert rounds == steps == pytest.approx(8400, rel=0.01)
    skipping, gradients = rounds_and_steps(problem, rs.algorithms.ProxSkip(0.1), 11_000)
    assert skipping == pytest.approx(894, rel=0.05)
    assert gradients == pytest.approx(steps, rel=0.15)
    better = of_condition(100)
    assert rounds / rounds_and_steps(better, exact, 1000)[0] == pytest.approx(10, rel=0.02)
    best = min(rounds_and_steps(better, rs.algorithms.ProxSkip(p), 3000)[0] for p in (0.5, 0.2))
    assert best == pytest.approx(412, rel=0.05)
    assert 1.9 < skipping / best < 2.6  # between √10 and 2


def test_local_steps_are_no_gain_where_the_graph_is_worse_conditioned():
    """Ring of 16, κ = 4, to 1e-10 at best rates; five steps a round: 77 and 381 rounds, a server 12."""
    problem = rs.problems.random_quadratics(n=16, d=5, zeta2=1.0, mu=0.25, seed=0)
    found = {}
    for algorithm, around in (
        (rs.algorithms.ExactDiffusion(), 0.39),
        (rs.algorithms.LED(5), 0.062),
        (rs.algorithms.KGT(5), 0.0110),
        (rs.algorithms.Scaffold(5), 0.28),
    ):
        rates = around * np.array([0.9, 1.0, 1.1])
        run = {"learning_rate": rates, "steps": 2200, "stop_below": 1e-10}
        history = rs.simulate(problem, rs.topologies.ring(16), algorithm, **run)
        found[algorithm.label] = np.nanmin(history.steps_to(1e-10))
    gradients = {"Exact diffusion": 74, "LED": 384, "K-GT": 1905, "SCAFFOLD": 59}
    assert found == pytest.approx(gradients, abs=2)


def test_options_of_local_steps_are_checked():
    for kind in (rs.algorithms.LED, rs.algorithms.KGT, rs.algorithms.Scaffold):
        with pytest.raises(ValueError, match="period must be at least 1, not 0"):
            kind(period=0)
    for probability in (0.0, 1.5):
        with pytest.raises(ValueError, match="probability must"):
            rs.algorithms.ProxSkip(probability)
    with pytest.raises(ValueError, match="rate must"):
        rs.algorithms.KGT(rate=0.0)
    with pytest.raises(ValueError, match="participation must be above 0"):
        rs.algorithms.Scaffold(participation=0.0)


# -- methods of multipliers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [
        (rs.algorithms.DLM(), 0.3),
        (rs.algorithms.ADMM(relaxation=0.5), 2.0),
        (rs.algorithms.ADMM(relaxation=0.8), 0.5),
    ],
    ids=repr,
)
def test_methods_of_multipliers_are_their_rule_on_paper_and_their_own_map(algorithm, rate):
    assert_is_the_rule_on_paper(algorithm)
    assert_is_predicted(algorithm, rate, steps=300)


def test_dlm_from_a_common_start_is_extra_with_a_part_of_the_graph():
    """½(I − W') = γc(I − W), where both correct by what models differed."""
    problem, ring = least_squares(8, 5, 4), rs.topologies.ring(8)
    W, rate, penalty = np.asarray(rs.mixing.metropolis(ring).todense()), 0.3, 0.7
    other = np.eye(8) - 2 * rate * penalty * (np.eye(8) - W)
    run = {"rate": rate, "steps": 40, "x0": np.ones(5)}
    dlm = iterates_of(problem, ring, rs.algorithms.DLM(penalty), **run)
    extra = iterates_of(problem, ring, rs.algorithms.EXTRA(), mixing=other, **run)
    assert_close_to_largest(dlm, extra)


def test_where_dlm_is_stable():
    """γ(2h + 3c(1 − λ)) < 4 with the largest h and the smallest λ, for equal Hessians."""
    h, ring = np.array([0.3, 1.2]), rs.topologies.ring(8)
    problem = rs.problems.DiagonalQuadratic(np.tile(h, (8, 1)), np.arange(16.0).reshape(8, 2))
    smallest = np.linalg.eigvalsh(rs.mixing.metropolis(ring).todense())[0]
    for penalty in (0.2, 2.0):
        found = rs.theory.max_learning_rate(problem, ring, rs.algorithms.DLM(penalty))
        assert found == pytest.approx(4 / (2 * 1.2 + 3 * penalty * (1 - smallest)), rel=1e-6)


def admm_over_edges(problem, neighbours, x, gamma, relaxation, steps, start):
    """x_i = prox_{1/(ρ N_i) f_i}(Σ_j z_ij/(ρ N_i)), z_ij ← (1 − α)z_ij − α(z_ji − 2ρ x_j), ρ = 1/γ."""
    n, rho = len(x), 1 / gamma
    H = np.einsum("imd,ime->ide", problem.A, problem.A)
    pull = np.einsum("imd,im->id", problem.A, problem.b)
    z = {(i, j): rho * start[i] for i in range(n) for j in neighbours[i]}
    for _ in range(steps):
        x = []
        for i in range(n):
            t = 1 / (rho * len(neighbours[i]))
            v = t * sum(z[i, j] for j in neighbours[i])
            x.append(np.linalg.solve(np.eye(len(v)) + t * H[i], v + t * pull[i]))
        z = {
            (i, j): (1 - relaxation) * z[i, j] - relaxation * (z[j, i] - 2 * rho * x[j])
            for i, j in z
        }
    return np.array(x)


@pytest.mark.parametrize("relaxation", [0.3, 0.5, 0.8])
def test_admm_with_variables_on_edges_is_that_with_their_sums(relaxation):
    """On graphs with unlike degrees, all edges with one penalty: weights w, γ = w/ρ."""
    topology, weight = rs.topologies.two_cliques(8), 0.1
    problem = least_squares(8, 5, 4)
    neighbours = [
        [int(b if a == i else a) for a, b in topology.edges if i in (a, b)] for i in range(8)
    ]
    start = np.tile(np.arange(5.0), (8, 1))
    paper = admm_over_edges(problem, neighbours, start, 0.6, relaxation, 30, start)
    run = {"rate": 0.6 * weight, "steps": 30, "x0": start}
    run["mixing"] = rs.mixing.uniform(topology, weight)
    found = iterates_of(problem, topology, rs.algorithms.ADMM(relaxation), **run)
    np.testing.assert_allclose(found[-1], paper, rtol=0, atol=1e-12)


@pytest.mark.parametrize("relaxation", [0.2, 0.5, 0.95])
def test_admm_is_exact_at_any_learning_rate(relaxation):
    problem = rs.problems.random_quadratics(n=8, d=3, zeta2=5.0, mu=0.1, seed=0)
    algorithm = rs.algorithms.ADMM(relaxation)
    if relaxation == 0.5:
        windows = rs.theory.stable_learning_rates(problem, rs.topologies.star(8), algorithm)
        assert windows == [(0.0, np.inf)]
    rates = [1e-2, 0.3, 3.0, 100.0]
    run = {"learning_rate": rates, "steps": 3000, "record": [0, 3000]}
    frame = rs.simulate(problem, rs.topologies.ring(8), algorithm, **run).frame
    ends = frame[frame.step == 3000].distance.to_numpy()
    assert (ends[1:3] < 1e-24).all()
    assert (ends < frame[frame.step == 0].distance.to_numpy() / 10).all()


@pytest.mark.parametrize("replicas", [None, 3])
def test_local_solves_of_quadratics(replicas):
    """u + t∇f_i(u) = x, where A_i has more or fewer rows than columns, and rates differ."""
    generator = np.random.default_rng(0)
    shape = (4, 5) if replicas is None else (4, 5, replicas)
    x = generator.normal(size=shape)
    matrix = rs.problems.MatrixQuadratic(generator.normal(size=(4, 1, 5)), 2.0)
    for problem in (least_squares(4, 5, 7), least_squares(4, 5, 2), matrix):
        for rate in (0.3, 0.1 + generator.random((4, 1) if replicas is None else (4, 1, replicas))):
            u = problem.proximal(x, rate)
            np.testing.assert_allclose(u + rate * problem.gradient(u), x, rtol=0, atol=1e-13)
            known = problem.proximal(x, rate, problem.gradient(x))
            np.testing.assert_array_equal(known, u)


def test_what_admm_and_dlm_cannot_use_is_refused():
    features = np.random.default_rng(0).normal(size=(4, 5, 2))
    problem = rs.problems.Logistic(features, np.arange(20).reshape(4, 5) % 2, l2=0.1)
    with pytest.raises(ValueError, match="does not say how a worker's own problem is solved"):
        rs.simulate(
            problem, rs.topologies.ring(4), rs.algorithms.ADMM(), learning_rate=0.1, steps=5
        )
    for penalty in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="penalty must"):
            rs.algorithms.DLM(penalty)
    for relaxation in (0.0, 1.0):
        with pytest.raises(ValueError, match="relaxation must be above 0 and below 1"):
            rs.algorithms.ADMM(relaxation)


@pytest.mark.parametrize("method", [rs.algorithms.LED(2), rs.algorithms.KGT(2)])
def test_local_steps_refuse_a_sequence_of_which_they_use_what_does_not_connect(method):
    # In turn with the period: of two matrices the second alone, over which pairs never meet others.
    sequence, complete = rs.mixing.one_peer_exponential(4), rs.topologies.complete(4)
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)

    def run(mixing):
        return rs.simulate(problem, complete, method, learning_rate=0.1, steps=600, mixing=mixing)

    message = (
        rf"{type(method).__name__} mixes every 2 steps, with W_1 alone of .* groups that never"
    )
    with pytest.raises(ValueError, match=message):
        run(sequence)
    with pytest.raises(ValueError, match=message):
        rs.theory.linearize(problem, complete, method, 0.1, mixing=sequence)
    found = run([W for W in sequence for _ in range(2)])
    assert found.frame.consensus_distance.iloc[-1] < 1e-20
