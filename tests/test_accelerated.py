"""Several accelerated rounds of gossip as one mixing, and the methods that are made of them."""

import numpy as np
import pytest

import relaysim as rs
from relaysim.algorithms import DPSGD, HeavyBallConsensus, Mudag
from relaysim.mixing import chebyshev, fast_mix, metropolis
from relaysim.studies.naming import MIXINGS, named
from relaysim.topologies import chain, complete, hypercube, ring, star, torus, two_cliques

MAKERS = (fast_mix, chebyshev)
over_makers = pytest.mark.parametrize("make", MAKERS)
PROBLEM = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
RING = ring(8)


def left(W):
    """‖W − J‖₂."""
    dense = W.toarray()
    return np.linalg.norm(dense - 1 / len(dense), 2)


def equal_hessians(n, kappa, seed=0):
    """Workers with one Hessian, of condition number κ, and optima of their own."""
    h = np.geomspace(1 / kappa, 1, 10)
    centers = np.random.default_rng(seed).normal(size=(n, 10))
    return rs.problems.DiagonalQuadratic(np.tile(h, (n, 1)), centers)


# -- the matrices ----------------------------------------------------------------------------------


@over_makers
@pytest.mark.parametrize(
    "graph", [ring(9), chain(6), star(7), torus(3, 4), two_cliques(8)], ids=repr
)
@pytest.mark.parametrize("rounds", [1, 2, 3, 8, 30])
def test_rounds_make_the_polynomial_that_they_should(make, graph, rounds):
    W = metropolis(graph)
    values, vectors = np.linalg.eigh(W.toarray())
    size = left(W)
    if make is chebyshev:
        expected = np.cos(rounds * np.emath.arccos(values / size)).real
        expected /= np.cosh(rounds * np.arccosh(1 / size))
        assert left(make(W, rounds)) == pytest.approx(
            1 / np.cosh(rounds * np.arccosh(1 / size)), rel=1e-10
        )
    else:
        eta = (1 - np.sqrt(1 - size**2)) / (1 + np.sqrt(1 - size**2))
        before = expected = np.ones(len(values))
        for _ in range(rounds):
            before, expected = expected, (1 + eta) * values * expected - eta * before
    found = make(W, rounds)
    np.testing.assert_allclose(found.toarray(), (vectors * expected) @ vectors.T, atol=1e-13)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-13)


def test_a_chebyshev_round_is_the_matrix_and_where_a_round_averages_all_do():
    np.testing.assert_array_equal(
        chebyshev(metropolis(RING), 1).toarray(), metropolis(RING).toarray()
    )
    for make in MAKERS:
        assert left(make(metropolis(complete(4)), 3)) < 1e-15


@pytest.mark.parametrize(
    ("n", "plain", "fast"),
    [(8, 52, 20), (16, 205, 41), (32, 783, 79), (64, 3116, 158), (128, 12062, 308)],
)
def test_rounds_of_consensus_on_a_ring_grow_as_n_instead_of_n_squared(n, plain, fast):
    """From random starts, median of 200, to 1e-10 of their Ξ²: 50/199/781/3006/11469 and 20/40/79/154/298."""
    W = metropolis(ring(n))
    values, vectors = np.linalg.eigh(W.toarray())
    share = (vectors.T @ np.random.default_rng(0).normal(size=(n, 200)))[:-1] ** 2
    share /= share.sum(axis=0)
    needed = next(k for k in range(2 * plain) if np.median(values[:-1] ** (2 * k) @ share) <= 1e-10)
    assert needed == pytest.approx(plain, rel=0.06)
    run = {"learning_rate": 0.0, "steps": fast + 10, "seed": 0}
    run["x0"] = np.random.default_rng(0).normal(size=(n, 1, 200))
    frame = rs.simulate(equal_hessians_1d(n), ring(n), HeavyBallConsensus(), **run).frame
    apart = frame.pivot_table(values="consensus_distance", index="step", columns="replica")
    median = (apart / apart.iloc[0]).median(axis=1)
    assert np.flatnonzero(median > 1e-10)[-1] + 1 == pytest.approx(fast, rel=0.06)


def equal_hessians_1d(n):
    return rs.problems.DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))


def test_heavy_ball_consensus_without_gradients_is_fast_mix():
    x0 = np.random.default_rng(0).normal(size=(8, 3))
    run = {"learning_rate": 0.0, "steps": 9, "x0": x0, "keep_iterates": True}
    found = rs.simulate(PROBLEM, RING, HeavyBallConsensus(), **run).iterates
    for k in range(1, 10):
        expected = fast_mix(metropolis(RING), k).toarray() @ x0
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-14)


# -- under other methods ---------------------------------------------------------------------------

MIX = [
    getattr(rs.algorithms, name)()
    for name in (
        "DPSGD",
        "ExactDiffusion",
        "EXTRA",
        "GradientTracking",
        "QuasiGlobalMomentum",
    )
]


@over_makers
@pytest.mark.parametrize("algorithm", [*MIX, DPSGD(overlap=True)], ids=repr)
@pytest.mark.parametrize("rounds", [1, 2, 6])
def test_a_method_mixes_with_all_rounds_on_its_edges_and_counts_them(make, algorithm, rounds):
    P = make(metropolis(RING), rounds)
    run = {"learning_rate": 0.2, "steps": 40, "keep_iterates": True}
    history = rs.simulate(PROBLEM, RING, algorithm, mixing=P, **run)
    whole = rs.simulate(PROBLEM, complete(8), algorithm, mixing=P.toarray(), **run)
    np.testing.assert_allclose(history.iterates, whole.iterates, rtol=0, atol=1e-13)
    linear = rs.theory.linearize(PROBLEM, RING, algorithm, 0.2, mixing=P)
    np.testing.assert_allclose(linear.iterates(40), history.iterates, rtol=0, atol=1e-12)
    sent = 40 * rounds * 16 * algorithm.vectors_per_edge(3)
    assert history.frame.vectors_sent.iloc[-1] == sent
    assert linear.predict(40).vectors_sent.iloc[-1] == sent
    assert history.frame.bits_sent.iloc[-1] == sent * 3 * 64


def test_many_rounds_on_a_large_graph_are_made_one_by_one():
    """Where that is less work than all weights: the same to rounding, and no further than they reach."""
    graph, P = ring(40), fast_mix(metropolis(ring(40)), 3)
    problem = rs.problems.random_quadratics(n=40, d=3, zeta2=1.0, seed=0)
    run = {"learning_rate": 0.2, "steps": 30, "keep_iterates": True}
    rounds = rs.simulate(problem, graph, rs.algorithms.ExactDiffusion(), mixing=P, **run)
    whole = rs.simulate(
        problem, complete(40), rs.algorithms.ExactDiffusion(), mixing=P.toarray(), **run
    )
    np.testing.assert_allclose(rounds.iterates, whole.iterates, rtol=0, atol=1e-13)


@over_makers
def test_a_run_with_several_rounds_is_kept_and_gone_on_with(make, tmp_path):
    P = make(metropolis(RING), 3)
    run = {"learning_rate": 0.2, "steps": 20, "mixing": P}
    history = rs.simulate(PROBLEM, RING, rs.algorithms.D2(), **run)
    again = rs.simulate(**rs.rebuild(history.config))
    np.testing.assert_array_equal(again.x, history.x)
    history.save(tmp_path / "run.npz")
    longer = rs.History.load(tmp_path / "run.npz").extend(10)
    straight = rs.simulate(PROBLEM, RING, rs.algorithms.D2(), **(run | {"steps": 30}))
    np.testing.assert_array_equal(longer.x, straight.x)
    assert longer.frame.vectors_sent.iloc[-1] == 30 * 3 * 16


def test_a_sweep_and_a_callable_of_the_step_know_several_rounds(tmp_path):
    text = "fast_mix(metropolis(), rounds=4)"
    made = named(text, MIXINGS, "mixing", {"topology": RING, "n": 8})
    np.testing.assert_array_equal(made.toarray(), fast_mix(metropolis(RING), 4).toarray())
    settings = {"algorithm": "DPSGD", "topology": "ring", "n": 8, "learning_rate": 0.1, "steps": 5}
    frames = [
        rs.sweep(settings | {"mixing": mixing}, progress=False)
        for mixing in (text, chebyshev(metropolis(RING), 4))
    ]
    assert [frame.vectors_sent.iloc[-1] for frame in frames] == [5 * 4 * 16] * 2
    few, many = fast_mix(metropolis(RING), 1), fast_mix(metropolis(RING), 5)
    run = {"learning_rate": 0.1, "steps": 4, "mixing": lambda step: many if step % 2 else few}
    sent = rs.simulate(PROBLEM, RING, DPSGD(), **run).frame.vectors_sent
    assert sent.tolist() == [0, 16, 96, 112, 192]


# -- what is refused -------------------------------------------------------------------------------


@over_makers
def test_matrices_that_no_rounds_can_be_made_of_are_refused(make):
    W = metropolis(RING)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        make(W, 0)
    with pytest.raises(ValueError, match="needs a symmetric matrix"):
        make(np.array([[0.5, 0.5], [0.25, 0.75]]), 2)
    with pytest.raises(ValueError, match="leaves 1 of the disagreement: connect all workers"):
        make(np.eye(3), 2)
    with pytest.raises(ValueError, match=r"leaves 1 of the disagreement.*lazy\(W\)"):
        make(np.array([[0.0, 1.0], [1.0, 0.0]]), 2)
    with pytest.raises(ValueError, match="not a sequence of 3"):
        make(rs.mixing.one_peer_exponential(8), 2)
    with pytest.raises(
        ValueError, match="stands for 4 already; give the matrix that it was made of"
    ):
        make(make(W, 4), 2)


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.ChocoSGD(),
        rs.algorithms.LEAD(),
        rs.algorithms.BEER(),
        rs.algorithms.AdaGossip(),
        rs.algorithms.PowerGossip(),
        rs.algorithms.Cesar(),
        rs.algorithms.ConsensusControl(rs.algorithms.ChocoSGD(), 0.1),
    ],
    ids=repr,
)
def test_what_is_compressed_or_kept_for_an_edge_has_one_round(algorithm):
    P, run = fast_mix(metropolis(RING), 5), {"learning_rate": 0.1, "steps": 2}
    with pytest.raises(ValueError, match="one round only; this mixing stands for 5"):
        rs.simulate(PROBLEM, RING, algorithm, mixing=P, **run)
    if algorithm.mixing_needs != "symmetric":
        with pytest.raises(ValueError, match="one round only"):
            rs.simulate(PROBLEM, RING, algorithm, mixing=lambda step: P, **run)


def test_rounds_have_no_rule_for_faults_other_edges_and_waiting():
    P, run = fast_mix(metropolis(RING), 5), {"learning_rate": 0.1, "steps": 2}
    with pytest.raises(ValueError, match="no rule for lost messages within the 5 rounds"):
        rs.simulate(PROBLEM, RING, DPSGD(), mixing=P, faults=rs.faults.MessageDrop(0.1), **run)
    with pytest.raises(
        ValueError, match="the matrix of each round of the mixing matrix has weight"
    ):
        rs.simulate(PROBLEM, chain(8), DPSGD(), mixing=P, **run)
    with pytest.raises(ValueError, match="a step with 5 rounds waits in each of them"):
        rs.analysis.runtime(P, 10)


def test_momentum_from_eigenvalues_needs_one_matrix_that_averages():
    run = {"learning_rate": 0.1, "steps": 2}
    for algorithm in (Mudag(), HeavyBallConsensus()):
        for mixing, said in (
            (rs.mixing.one_peer_exponential(8), "not of a sequence of 3"),
            (lambda step: metropolis(RING), "a callable of the step"),
        ):
            with pytest.raises(ValueError, match=said):
                rs.simulate(PROBLEM, hypercube_and_ring(), algorithm, mixing=mixing, **run)
        swap = np.array([[0.0, 1.0], [1.0, 0.0]])
        pair = rs.problems.random_quadratics(n=2, d=3, zeta2=1.0, seed=0)
        with pytest.raises(ValueError, match="averages, and this one leaves 1 of"):
            rs.simulate(pair, chain(2), algorithm, mixing=swap, **run)
    for options in ({"rounds": 0}, {"strong_convexity": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            Mudag(**options)
    with pytest.raises(ValueError, match="momentum must lie in"):
        HeavyBallConsensus(momentum=1.0)


def test_mudag_asks_a_problem_for_its_constants_before_any_work():
    class Own:
        n, d, asked = 8, 2, 0

        def gradient(self, x):
            self.asked += 1
            return x

        def value(self, x):
            return 0.5 * float(x @ x)

    own, run = Own(), {"learning_rate": 0.1, "steps": 3}
    with pytest.raises(ValueError, match="does not say how strongly convex f is, or is not"):
        rs.simulate(own, RING, Mudag(), **run)
    with pytest.raises(ValueError, match="give it an attribute local_smoothness"):
        rs.simulate(own, RING, Mudag(strong_convexity=1.0), **run)
    refused = own.asked  # the problem itself is tried once before
    rs.simulate(own, RING, Mudag(rounds=4, strong_convexity=1.0), **run)
    assert own.asked >= refused + 3


def test_a_worker_without_curvature_has_a_smoothness_of_0():
    """And 1/L_i is no step."""
    A = np.random.default_rng(0).normal(size=(4, 3, 2))
    A[2] = 0
    flat = rs.problems.LeastSquares(A, np.ones((4, 3)))
    expected = [np.linalg.norm(matrix, 2) ** 2 for matrix in A]
    np.testing.assert_allclose(rs.theory.local_smoothness(flat), expected, rtol=1e-12)
    diagonal = rs.problems.DiagonalQuadratic([[1, 3], [0, 0]], np.ones((2, 2)))
    assert rs.theory.local_smoothness(diagonal).tolist() == [3, 0]
    assert all(rs.problems.check(each).holds.all() for each in (flat, diagonal))
    LocalRates, run = rs.algorithms.LocalRates, {"learning_rate": 0.1, "steps": 20}
    for method in (LocalRates(3), LocalRates(None, gossip=True)):
        with pytest.raises(ValueError, match=r"worker 2 has L_i = 0, .* LocalRates\(switch=0\)"):
            rs.simulate(flat, rs.topologies.ring(4), method, **run)
    common = rs.simulate(flat, rs.topologies.ring(4), LocalRates(0), **run)
    run["learning_rate"] /= np.mean(expected)
    as_one = rs.simulate(flat, rs.topologies.ring(4), rs.algorithms.AllReduce(), **run)
    np.testing.assert_allclose(common.x, as_one.x, rtol=1e-12)

    class Level:
        n, d, local_smoothness = 2, 2, (0.0, 0.0)
        gradient, value = staticmethod(np.ones_like), staticmethod(lambda x: x.sum())

    with pytest.raises(ValueError, match="L_i = 0, an objective without curvature; take a method"):
        rs.simulate(Level(), rs.topologies.chain(2), LocalRates(0), **run)
    Level.local_smoothness = (1.0, -1.0)
    with pytest.raises(ValueError, match=r"2 numbers of at least 0, not \[1.0, -1.0\]"):
        rs.simulate(Level(), rs.topologies.chain(2), LocalRates(0), **run)


def hypercube_and_ring():
    """A graph with the edges of both."""
    graphs = (rs.topologies.exponential(8), RING, hypercube(8))
    edges = {tuple(edge) for graph in graphs for edge in graph.edges.tolist()}
    return rs.topologies.from_edges(8, sorted(edges))


# -- Mudag -----------------------------------------------------------------------------------------


def steps_to(history, share):
    """Steps after which the distance is below a share of the start's for good."""
    distance = history.frame.distance / history.frame.distance[0]
    above = np.flatnonzero(~(distance <= share))
    assert above[-1] + 1 < len(distance)
    return int(above[-1]) + 1


def test_mudag_without_gradients_extrapolates_nothing():
    """x(t+1) = P(W)(x(t) + c(t)) with c(t+1) what P(W) changed and c(t): by hand."""
    start = np.random.default_rng(0).normal(size=(8, 3))
    run = {"learning_rate": 0.0, "steps": 4, "x0": start, "keep_iterates": True}
    found = rs.simulate(PROBLEM, RING, Mudag(rounds=2, strong_convexity=0.1), **run).iterates
    W, x, correction = fast_mix(metropolis(RING), 2).toarray(), start, np.zeros_like(start)
    for k in range(4):
        corrected = x + correction
        x = W @ corrected
        correction = correction + x - corrected
        np.testing.assert_allclose(found[k + 1], x, rtol=0, atol=1e-14)


def test_steps_of_mudag_grow_as_the_root_of_the_condition_number():
    """29, 103, 337 to 1e-8 at κ = 10, 100, 1000, where exact diffusion takes 88, 833, 8368."""
    run = {"learning_rate": 1.0, "steps": 500}
    needed = [
        steps_to(rs.simulate(equal_hessians(8, kappa), RING, Mudag(), **run), 1e-8)
        for kappa in (10, 100, 1000)
    ]
    assert needed == pytest.approx([29, 105, 344], rel=0.05)
    slope = np.polyfit(np.log([10, 100, 1000]), np.log(needed), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.05)
    diffusion = rs.algorithms.ExactDiffusion()
    plain = rs.simulate(equal_hessians(8, 100), RING, diffusion, learning_rate=1.0, steps=1200)
    assert steps_to(plain, 1e-8) == pytest.approx(854, rel=0.05)


def test_mudag_makes_as_many_rounds_as_graph_and_problem_ask_for():
    for graph, kappa in ((RING, 10), (RING, 1000), (ring(32), 100), (complete(4), 100)):
        gap = 1 - left(metropolis(graph))
        expected = int(np.ceil(np.log(kappa) / np.sqrt(gap)))
        run = {"learning_rate": 1.0, "steps": 3}
        sent = rs.simulate(equal_hessians(graph.n, kappa), graph, Mudag(), **run).frame.vectors_sent
        assert sent.tolist() == [k * expected * 2 * len(graph.edges) for k in range(4)]
        few = rs.simulate(equal_hessians(graph.n, kappa), graph, Mudag(rounds=2), **run).frame
        assert few.vectors_sent.iloc[-1] == 3 * 2 * 2 * len(graph.edges)


def test_mudag_with_few_rounds_diverges_on_a_long_ring():
    run = {"learning_rate": 1.0, "steps": 2000, "record": [2000]}
    ends = [
        rs.simulate(equal_hessians(32, 100), ring(32), Mudag(rounds=k), **run).frame.distance[0]
        for k in (4, 16)
    ]
    assert not ends[0] < 1
    assert ends[1] < 1e-24


@pytest.mark.parametrize(
    "graph",
    [ring(8), ring(16), ring(33), rs.topologies.chain(12), rs.topologies.star(9), rs.topologies.torus(4, 4),
     rs.topologies.complete(6), rs.topologies.binary_tree(15)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kappa", [1, 1.5, 4, 30])
def test_mudag_is_stable_at_all_low_rates_with_the_rounds_that_it_takes_itself(graph, kappa):
    problem = equal_hessians(graph.n, kappa)
    if kappa == 4:
        problem = rs.problems.random_quadratics(graph.n, 3, zeta2=1.0, mu=1 / kappa, seed=1)
    for rate in (1.0, 0.3, 0.1, 0.01, 1e-4):
        linear = rs.theory.linearize(problem, graph, Mudag(), rate / problem.smoothness)
        assert linear.spectral_radius < 1


def test_what_rounds_mudag_needs_at_low_rates_is_told_by_the_eigenvalues_that_they_leave():
    graph, unstable = ring(20), 0
    problem = equal_hessians(20, 2)
    for rounds in range(1, 13):
        P = np.linalg.eigvalsh(rs.mixing.fast_mix(metropolis(graph), rounds).toarray())
        sees_to_it = P[0] > -1 / 7 and P[-2] < 1 / 2
        linear = rs.theory.linearize(problem, graph, Mudag(rounds=rounds), 1e-5)
        assert (linear.spectral_radius < 1) == sees_to_it
        unstable += not sees_to_it
    assert 0 < unstable < 12
