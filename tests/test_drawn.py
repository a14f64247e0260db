"""Mixing that each replica draws: matchings, one-peer graphs, epidemics, and matchings that sleep."""

import dataclasses

import numpy as np
import pytest
import slow
from methods import ALGORITHMS, each_class

import relaysim as rs
from relaysim.algorithms import DPSGD, ConsensusControl, GradientTracking
from relaysim.mixing import epidemic, equidyn, matcha, random_matching
from relaysim.mixing.drawn import Draw, DrawnMixing
from relaysim.support.streams import Streams

N, STEPS = 6, 12
COMPLETE, RING = rs.topologies.complete(N), rs.topologies.ring(N)
PROBLEM = rs.problems.random_quadratics(n=N, d=4, zeta2=1.0, seed=0)
START = np.random.default_rng(1).normal(size=(N, 4))
MIXINGS = {
    "matching": (random_matching(RING), RING),
    "pairs": (random_matching(COMPLETE), COMPLETE),
    "equidyn": (equidyn(N), COMPLETE),
    "local": (epidemic(N, 2), COMPLETE),
    "oracle": (epidemic(N, 3, oracle=True), COMPLETE),
    "matcha": (matcha(RING, 0.95), RING),
}
over_mixings = pytest.mark.parametrize(("mixing", "topology"), MIXINGS.values(), ids=MIXINGS)
MIXING_METHODS = [
    algorithm
    for algorithm in ALGORITHMS
    if algorithm.uses == "mixing" and algorithm.mixing_needs not in ("symmetric", "one symmetric")
]


def numbers_of(mixing, seed, step):
    return Streams([seed], None).rounds("mixing", mixing.numbers)(step)[:, 0]


def matrices_of(mixing, steps, seed=0):
    return [mixing(step, numbers_of(mixing, seed, step)).toarray() for step in range(steps)]


# -- what is drawn ---------------------------------------------------------------------------------


def floyd(uniforms, below):
    """Distinct numbers below a limit: the k-th of the first limit − size + k, or the last if it was."""
    chosen = []
    for k, u in enumerate(uniforms):
        last = below - len(uniforms) + k
        number = int(u * (last + 1))
        chosen.append(last if number in chosen else number)
    return chosen


def matching_on_paper(mixing, u):
    graph, n = mixing.topology, mixing.n
    W = np.eye(n)
    if len(graph.edges) == n * (n - 1) // 2:
        order = sorted(range(n), key=lambda i: u[i])
        pairs = [order[k : k + 2] for k in range(0, n - 1, 2)]
    else:
        pairs = [graph.edges[k] for k in sorted(range(len(u)), key=lambda k: u[k])]
    free = set(range(n))
    for i, j in pairs:
        if i in free and j in free:
            free -= {i, j}
            W[i, i] = W[j, j] = W[i, j] = W[j, i] = 0.5
    return W


def equidyn_on_paper(mixing, u):
    n, eta = mixing.n, mixing.eta
    places = 1 + int(u[0] * (n - 1))
    A = np.eye(n) / n
    for i in range(n):
        A[i, (i + places) % n] += (n - 1) / n
    return (1 - eta) * np.eye(n) + eta * A


def epidemic_on_paper(mixing, u):
    n, s = mixing.n, mixing.s
    heard = {i: [i] for i in range(n)}
    if mixing.oracle:
        order = sorted(range(n), key=lambda i: u[i])
        for distance in floyd(u[n:], n - 1):
            for place, i in enumerate(order):
                heard[i].append(order[(place + 1 + distance) % n])
    else:
        for j in range(n):
            for number in floyd(u[j * s : (j + 1) * s], n - 1):
                heard[(j + 1 + number) % n].append(j)
    W = np.zeros((n, n))
    for i in range(n):
        for j in heard[i]:
            W[i, j] += 1 / len(heard[i])
    return W


def matcha_on_paper(mixing, u):
    W = np.eye(mixing.n)
    for partner, p, number in zip(mixing.matchings, mixing.probabilities, u, strict=True):
        for i, j in enumerate(partner):
            if number < p and j != i:
                W[i, j] += mixing.weight
                W[i, i] -= mixing.weight
    return W


ON_PAPER = {
    "matching": matching_on_paper,
    "pairs": matching_on_paper,
    "equidyn": equidyn_on_paper,
    "local": epidemic_on_paper,
    "oracle": epidemic_on_paper,
    "matcha": matcha_on_paper,
}


@pytest.mark.parametrize("name", MIXINGS)
def test_a_matrix_is_that_on_paper(name):
    mixing, topology = MIXINGS[name]
    for step in range(40):
        u = numbers_of(mixing, 5, step)
        W = mixing(step, u).toarray()
        np.testing.assert_allclose(W, ON_PAPER[name](mixing, u), rtol=0, atol=1e-14)
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
        if mixing.doubly_stochastic:
            np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-14)
        assert W.diagonal().min() >= mixing.least_own_weight - 1e-14
        off = W - np.diag(np.diag(W))
        assert not off[topology.adjacency.toarray() == 0].any()


@pytest.mark.parametrize(
    "graph", [rs.topologies.torus(3, 4), rs.topologies.star(5), rs.topologies.chain(7)], ids=repr
)
def test_a_matching_leaves_no_edge_whose_ends_are_free(graph):
    mixing = random_matching(graph)
    seen = set()
    for step in range(60):
        u = numbers_of(mixing, 0, step)
        W = mixing(step, u).toarray()
        np.testing.assert_array_equal(W, matching_on_paper(mixing, u))
        free = np.diag(W) == 1
        assert not (free[graph.edges[:, 0]] & free[graph.edges[:, 1]]).any()
        seen |= {(i, j) for i, j in np.argwhere(np.triu(W, 1)).tolist()}
    assert len(seen) == len(graph.edges)


@pytest.mark.parametrize("n", [1, 2])
def test_a_few_workers(n):
    chain = rs.topologies.chain(n)
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 2)), np.arange(2.0 * n).reshape(n, 2))
    for mixing in (random_matching(chain), matcha(chain, 1.0)):
        history = rs.simulate(
            problem, chain, DPSGD(), learning_rate=0.5, steps=60, mixing=mixing, replicas=2
        )
        assert (history.frame.suboptimality.groupby(history.frame.replica).last() < 1e-15).all()


# -- every method that mixes -----------------------------------------------------------------------


@over_mixings
@pytest.mark.parametrize("algorithm", each_class(MIXING_METHODS))
@pytest.mark.filterwarnings("ignore:.*is exact where W is doubly stochastic")
def test_a_step_is_the_rule_on_paper_with_what_was_drawn(algorithm, mixing, topology):
    columns = algorithm.mixing_needs == "column stochastic" and not mixing.doubly_stochastic
    if columns or algorithm.mixing_needs == "row and column stochastic":
        with pytest.raises(ValueError, match="needs matrices whose columns sum to 1"):
            rs.simulate(PROBLEM, topology, algorithm, learning_rate=0.05, steps=1, mixing=mixing)
        return
    history = rs.simulate(
        PROBLEM, topology, algorithm, learning_rate=0.05, steps=STEPS, mixing=mixing, x0=START,
        keep_iterates=True,
    )  # fmt: skip
    expected = slow.run(
        algorithm, topology, slow.least_squares_gradient(PROBLEM.A, PROBLEM.b), START,
        [0.05] * STEPS, mixing=Further(mixing, 3 * STEPS),
    )  # fmt: skip
    size = np.abs(expected).max()
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-12 * max(size, 1))


class Further(list):
    """The matrices of some steps, by step; those of further rounds of a step, which are others, by both."""

    def __init__(self, mixing, steps):
        super().__init__(matrices_of(mixing, steps))
        self.mixing = mixing

    def further(self, step, k):
        uniforms = Streams([0], None).rounds("mixing", self.mixing.numbers)(step + k, k)
        return self.mixing(step, uniforms[:, 0]).toarray()


@pytest.mark.parametrize("name", ["matching", "local", "oracle"])
@pytest.mark.parametrize("algorithm", [DPSGD(), rs.algorithms.D2(), GradientTracking()], ids=repr)
@pytest.mark.filterwarnings("ignore:.*is exact where W is doubly stochastic")
def test_drawn_messages_are_lost_alike(name, algorithm):
    @dataclasses.dataclass(frozen=True)
    class Gaps(rs.faults.Fault):
        def arrivals(self, edges, round):
            return (edges[:, 0] + 2 * edges[:, 1] + round) % 3 != 0

    mixing, topology = MIXINGS[name]
    found = rs.simulate(
        PROBLEM, topology, algorithm, learning_rate=0.05, steps=STEPS, mixing=mixing, x0=START,
        keep_iterates=True, faults=Gaps(),
    )  # fmt: skip
    expected = slow.run(
        algorithm, topology, slow.least_squares_gradient(PROBLEM.A, PROBLEM.b), START,
        [0.05] * STEPS, mixing=matrices_of(mixing, STEPS),
        arrives=lambda edges, step, further: [(j + 2 * i + step) % 3 != 0 for j, i in edges],
    )  # fmt: skip
    np.testing.assert_allclose(found.iterates, expected, rtol=0, atol=1e-12)


@over_mixings
@pytest.mark.filterwarnings("ignore:.*is exact where W is doubly stochastic")
def test_vectors_are_those_that_were_drawn(mixing, topology):
    frame = rs.simulate(
        PROBLEM, topology, GradientTracking(), learning_rate=0.0, steps=STEPS, mixing=mixing, seed=[2, 9]
    ).frame  # fmt: skip
    for seed, sent in frame.groupby("seed").vectors_sent:
        each = [np.count_nonzero(W - np.diag(np.diag(W))) for W in matrices_of(mixing, STEPS, seed)]
        np.testing.assert_array_equal(np.diff(sent), 2 * np.array(each))


# -- replicas, gone on with, saved, swept ----------------------------------------------------------


@over_mixings
@pytest.mark.parametrize(
    "algorithm", [GradientTracking(), ConsensusControl(DPSGD(), 0.05)], ids=repr
)
@pytest.mark.filterwarnings("ignore:.*is exact where W is doubly stochastic")
def test_a_replica_is_its_run_alone_and_runs_are_gone_on_with(
    mixing, topology, algorithm, tmp_path
):
    rates, seeds = [0.02, 0.2], [3, 4]
    run = {
        "problem": PROBLEM, "topology": topology, "algorithm": algorithm, "mixing": mixing,
        "oracle": rs.oracles.Gaussian(0.1), "x0": START,
    }  # fmt: skip
    whole = rs.simulate(**run, learning_rate=rates, seed=seeds, steps=40)
    sent = whole.frame.groupby("replica").vectors_sent.last()
    for k, (rate, seed) in enumerate((rate, seed) for rate in rates for seed in seeds):
        alone = rs.simulate(**run, learning_rate=rate, seed=seed, steps=40)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)
        assert sent[k] == alone.frame.vectors_sent.iloc[-1]
    assert np.abs(whole.x[..., 0] - whole.x[..., 1]).max() > 1e-3
    half = rs.simulate(**run, learning_rate=rates, seed=seeds, steps=17)
    loaded = rs.History.load(half.save(tmp_path / "half"))
    assert loaded.mixing == mixing
    for begun in (half, loaded):
        longer = begun.extend(23)
        np.testing.assert_array_equal(longer.x, whole.x)
        np.testing.assert_array_equal(longer.frame, whole.frame)
    again = rs.simulate(**rs.rebuild(loaded.config))
    np.testing.assert_array_equal(again.x, half.x)


def test_who_leaves_changes_nothing_for_who_stays():
    run = {"mixing": random_matching(RING), "steps": 60, "seed": [1]}
    both = rs.simulate(PROBLEM, RING, DPSGD(), learning_rate=[0.1, 50.0], **run)
    alone = rs.simulate(PROBLEM, RING, DPSGD(), learning_rate=[0.1], **run)
    assert both.diverged.tolist() == [False, True]
    np.testing.assert_allclose(both.x[..., 0], alone.x[..., 0], rtol=0, atol=1e-13)


@over_mixings
def test_a_sweep_takes_them_as_they_are_and_by_name(mixing, topology):
    run = {
        "n": N,
        "d": 2,
        "algorithm": "DPSGD",
        "topology": topology,
        "learning_rate": 0.1,
        "steps": 6,
    }
    first, second = (
        rs.sweep(run | {"mixing": each}, progress=False) for each in (mixing, repr(mixing))
    )
    np.testing.assert_array_equal(first.suboptimality, second.suboptimality)


def test_names_are_filled_in_from_the_sweep():
    run = {
        "n": N,
        "d": 2,
        "algorithm": "DPSGD",
        "topology": "complete",
        "learning_rate": 0.1,
        "steps": 6,
    }
    for short, mixing in {
        "random_matching": random_matching(COMPLETE),
        "equidyn": equidyn(N),
        "epidemic(s=2)": epidemic(N, 2),
        "matcha(budget=0.5)": matcha(COMPLETE, 0.5),
    }.items():
        first, second = (
            rs.sweep(run | {"mixing": each}, progress=False) for each in (short, mixing)
        )
        np.testing.assert_array_equal(first.suboptimality, second.suboptimality)


@pytest.mark.slow
def test_rates_are_tuned_over_several_seeds():
    """As where gradients have noise: rates are no closer than 6 % then, and 0.4 % where nothing is random."""
    found = rs.tune(
        PROBLEM, COMPLETE, GradientTracking(), mixing=random_matching(COMPLETE), target=1e-2,
        max_steps=100,
    )  # fmt: skip
    assert np.diff(np.log(np.sort(found.frame.learning_rate))).min() > 0.04


# -- how fast they bring workers together ----------------------------------------------------------


def contractions(mixing, x, replicas=3000):
    """Ξ² after one step over Ξ² before it, of so many seeds."""
    n = mixing.n
    problem = rs.problems.DiagonalQuadratic(np.ones((n, x.shape[1])), np.zeros((n, x.shape[1])))
    graph = getattr(mixing, "topology", None) or rs.topologies.complete(n)
    frame = rs.simulate(
        problem, graph, DPSGD(), learning_rate=0.0, steps=1, x0=x, mixing=mixing, replicas=replicas
    ).frame
    before, after = frame.consensus_distance.to_numpy().reshape(-1, 2).T
    return after / before


@pytest.mark.parametrize(
    ("mixing", "listed"),
    [
        (random_matching(rs.topologies.complete(64)), 0.491),
        (random_matching(rs.topologies.complete(9)), None),
        (equidyn(64), 0.493),
        (equidyn(5, eta=0.9), None),
        (epidemic(64, 2), 0.419),
        (epidemic(64, 6), 0.150),
        (epidemic(5, 2), None),
        (epidemic(64, 2, oracle=True), 0.322),
        (epidemic(64, 6, oracle=True), 0.129),
    ],
    ids=repr,
)
def test_consensus_contracts_as_the_theory_says(mixing, listed):
    """Within three standard errors; beside it what was measured apart from this, in its last digits."""
    ratio = contractions(mixing, np.random.default_rng(0).normal(size=(mixing.n, 1)))
    error = ratio.std() / len(ratio) ** 0.5
    assert abs(ratio.mean() - mixing.contraction) < 3 * error
    if listed is not None:
        assert mixing.contraction == pytest.approx(listed, abs=0.0015)


@pytest.mark.parametrize(
    ("graph", "budget"),
    [
        (rs.topologies.ring(8), 0.3),
        (rs.topologies.two_cliques(8), 0.5),
        (rs.topologies.star(5), 1.0),
    ],
    ids=repr,
)
def test_matcha_contracts_at_the_slowest_as_the_theory_says(graph, budget):
    """Along the mode that its ρ belongs to; all others are faster."""
    mixing = matcha(graph, budget)
    n, p, weight = graph.n, mixing.probabilities, mixing.weight
    eye = np.eye(n)
    awake = np.array(np.meshgrid(*[[0, 1]] * len(p))).reshape(len(p), -1).T
    expected = np.zeros((n, n))
    for each in awake:
        W = eye - weight * sum(
            b * (eye - eye[m]) for b, m in zip(each, mixing.matchings, strict=True)
        )
        expected += np.prod(np.where(each, p, 1 - p)) * W @ W
    values, modes = np.linalg.eigh(expected - 1 / n)
    assert mixing.contraction == pytest.approx(values[-1], abs=1e-12)
    ratio = contractions(mixing, modes[:, -1:])
    assert abs(ratio.mean() - values[-1]) <= 3 * ratio.std() / len(ratio) ** 0.5 + 1e-12
    assert p.sum() <= budget * len(p) + 1e-9


def test_matcha_wakes_the_edge_that_holds_two_cliques_together():
    """λ₂ of the mean Laplacian is a fifth larger than with all matchings alike, and no plane allows more."""
    graph = rs.topologies.two_cliques(8)
    mixing = matcha(graph, 0.5)
    eye = np.eye(8)

    def connectivity(p):
        mean = sum(each * (eye - eye[m]) for each, m in zip(p, mixing.matchings, strict=True))
        return np.linalg.eigvalsh(mean)[1]

    best = connectivity(mixing.probabilities)
    assert best > 1.2 * connectivity([0.5] * 4)
    generator = np.random.default_rng(0)
    for _ in range(300):
        p = np.clip(mixing.probabilities + 0.1 * generator.normal(size=4), 0, 1)
        if p.sum() <= 2:
            assert connectivity(p) <= best * (1 + 2e-5)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: matcha(RING, 0.0), ValueError, r"budget must lie in \(0, 1\], not 0"),
        (lambda: matcha(RING, 1.5), ValueError, r"budget must lie in \(0, 1\], not 1.5"),
        (lambda: matcha(rs.topologies.from_edges(3, [(0, 1)]), 0.5), ValueError, "not connected"),
        (lambda: matcha(8, 0.5), TypeError, "needs a Topology"),
        (lambda: matcha(rs.topologies.directed_ring(4), 0.5), ValueError, "an undirected graph"),
        (
            lambda: random_matching(rs.topologies.directed_ring(4)),
            ValueError,
            "an undirected graph",
        ),
        (lambda: random_matching("ring"), TypeError, "needs a Topology"),
        (
            lambda: epidemic(8, 8),
            ValueError,
            "s must be a number of other workers, from 1 to n - 1 = 7",
        ),
        (lambda: epidemic(8, 0), ValueError, "s must be at least 1"),
        (lambda: epidemic(1, 1), ValueError, "n must be at least 2"),
        (lambda: epidemic(8, 2, oracle=1), TypeError, "oracle must be True or False"),
        (lambda: equidyn(1), ValueError, "n must be at least 2"),
        (lambda: equidyn(8, 0), ValueError, r"eta must lie in \(0, 1\]"),
        (lambda: random_matching(RING).contraction, ValueError, "depends on where they are"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


class Island(DrawnMixing):
    """Worker 0 hears worker 1, and nobody hears anything else."""

    n, numbers, edges = N, 1, np.array([[1, 0]])

    def draw(self, uniforms):
        streams = np.arange(uniforms.shape[1])
        return Draw(0 * streams, 0 * streams + 1, streams, 0.5 + 0 * uniforms[0])


@pytest.mark.parametrize(
    ("mixing", "algorithm", "message"),
    [
        (equidyn(N), DPSGD(), r"may send between workers 0 and 2, which is no edge of ring\(6\)"),
        (equidyn(5), DPSGD(), "mixes 5 workers but the topology has 6"),
        (Island(), DPSGD(), "in 6 groups that never exchange"),
        (random_matching(RING), rs.algorithms.AllReduce(), "does not use a mixing matrix"),
        (random_matching(RING), rs.algorithms.PowerGossip(rows=2), "keeps something for each edge"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(mixing, algorithm, message):
    def never(*arguments, **options):
        raise AssertionError("no gradient is asked for")

    problem = type("Untouched", (), {"n": N, "d": 4, "gradient": never, "value": never})()
    with pytest.raises(ValueError, match=message):
        rs.simulate(problem, RING, algorithm, mixing=mixing, learning_rate=0.1, steps=2)


@pytest.mark.parametrize("algorithm", [rs.algorithms.ADMM(), rs.algorithms.PowerGossip()], ids=repr)
def test_what_keeps_something_for_its_edges_refuses_edges_that_change(algorithm):
    run = {"mixing": random_matching(RING), "learning_rate": 1.0, "steps": 2}
    with pytest.raises(ValueError, match="keeps something for each edge that it uses"):
        rs.simulate(PROBLEM, RING, algorithm, **run)


@pytest.mark.parametrize("faults", [None, rs.faults.MessageDrop(0.4)], ids=["all", "some"])
@pytest.mark.parametrize("method", ["DPSGD", "ExactDiffusion"])
def test_matchings_that_are_always_awake_are_one_matrix(method, faults):
    """I − αL, and what is left of it where messages are lost, with a share of each worker's own too."""
    mixing = matcha(COMPLETE, 1.0)
    least = 1 - mixing.weight * (N - 1)
    assert mixing.least_own_weight == pytest.approx(least, rel=1e-12)
    W = np.where(np.eye(N, dtype=bool), least, mixing.weight)
    run = {"learning_rate": 0.1, "steps": STEPS, "x0": START, "seed": 5, "faults": faults}
    kind = getattr(rs.algorithms, method)
    drawn = rs.simulate(PROBLEM, COMPLETE, kind(), mixing=mixing, **run)
    fixed = rs.simulate(PROBLEM, COMPLETE, kind(), mixing=W, **run)
    np.testing.assert_allclose(drawn.x, fixed.x, rtol=0, atol=1e-12)


def test_draws_whose_columns_need_not_sum_to_one_are_told_of_where_that_is_needed():
    run = {"learning_rate": 0.1, "steps": 1}
    with pytest.warns(UserWarning, match="exact where W is doubly stochastic, and the columns"):
        rs.simulate(PROBLEM, COMPLETE, rs.algorithms.D2(), mixing=epidemic(N, 2), **run)
    rs.simulate(PROBLEM, COMPLETE, rs.algorithms.D2(), mixing=random_matching(COMPLETE), **run)
    rs.simulate(PROBLEM, COMPLETE, DPSGD(), mixing=epidemic(N, 2), **run)
