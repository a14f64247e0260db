"""What every algorithm promises, for one table of them; a new method is a new row."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import slow
from methods import (
    ALGORITHMS,
    ALONE_AT_FIRST,
    ALWAYS_STABLE,
    ASYNCHRONOUS,
    BY_NUMBER,
    DISCARDING,
    OCCASIONAL,
    RESCALED,
    SELDOM,
    SENSITIVE,
    each_class,
    in_turn,
)
from scipy.sparse import csr_array

import relaysim as rs
from relaysim.algorithms import base, claims
from relaysim.network import Network
from relaysim.problems.workers import Workers
from relaysim.support.workspace import Workspace

RELAYING = tuple(a for a in ALGORITHMS if a.uses == "relay")
MIXING = tuple(a for a in ALGORITHMS if a.uses == "mixing" and not isinstance(a, OCCASIONAL))

TREES = (rs.topologies.chain(7), rs.topologies.star(6), rs.topologies.binary_tree(9))
GRAPHS = (rs.topologies.ring(8), rs.topologies.torus(3, 3))
PAIR = rs.topologies.double_binary_tree(8)


def pushes(algorithm):
    """Whether it mixes with columns that sum to 1, which consensus control does not."""
    return algorithm.mixing_needs.endswith("column stochastic")


def is_critical(algorithm):
    return isinstance(getattr(algorithm, "target", None), rs.algorithms.Critical)


over_algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
constant_and_falling = pytest.mark.parametrize(
    "rate", [0.3, lambda step: 0.4 / (1 + 0.2 * step)], ids=["constant", "falling"]
)


@functools.cache  # its singular values took longer than most runs
def least_squares(n, d, rows, seed=0):
    """Heterogeneous least squares of largest Hessian eigenvalue 1."""
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(n, rows, d))
    A /= np.linalg.norm(A, ord=2, axis=(1, 2)).max()
    return rs.problems.LeastSquares(A, generator.normal(size=(n, rows)))


def starting_points(n, d, replicas=None, seed=1):
    shape = (n, d) if replicas is None else (n, d, replicas)
    return np.random.default_rng(seed).normal(size=shape)


def topology_for(algorithm):
    return PAIR if algorithm.uses == "relay" else rs.topologies.two_cliques(8)


def iterates_of(problem, topology, algorithm, rate, steps, **options):
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        keep_iterates=True,
        **options,
    )
    assert not history.diverged.any()
    return history.iterates


def assert_close_to_largest(found, expected, tolerance=1e-13):
    """Equal to the tolerance times the largest entry so far; step first in both arrays."""
    largest = np.maximum.accumulate(np.abs(expected).max(axis=(1, 2)))
    error = np.abs(found - expected).max(axis=(1, 2))
    assert found.shape == expected.shape
    assert (error <= tolerance * largest).all(), (error / largest).max()


# -- the update rules ------------------------------------------------------------------------------


def compare_with_paper(algorithm, topology, rate, d=5, rows=4, steps=20, mixing=None):
    problem = least_squares(topology.n, d, rows)
    assert problem.zeta2 > 1e-3
    x0 = starting_points(topology.n, d)
    dense = None if mixing is None else [np.asarray(W.todense()) for W in mixing]
    fast = iterates_of(problem, topology, algorithm, rate, steps, x0=x0, mixing=mixing)
    of_step = rate if callable(rate) else lambda step: rate
    if isinstance(rate, rs.PerWorker):
        of_step = lambda step: [each * rate.scale(step) for each in rate.rates]  # noqa: E731
    paper = slow.run(
        algorithm,
        topology,
        slow.least_squares_gradient(problem.A, problem.b),
        x0,
        [of_step(step) for step in range(steps)],
        dense,
    )
    assert_close_to_largest(fast, paper)


@over_algorithms
@constant_and_falling
@pytest.mark.parametrize("topology", TREES, ids=repr)
def test_a_step_is_the_rule_on_paper(algorithm, topology, rate):
    compare_with_paper(algorithm, topology, rate)


@over_algorithms
def test_each_worker_steps_with_its_own_rate(algorithm):
    topology = rs.topologies.chain(5)
    rates = rs.PerWorker([0.1, 0.3, 0.05, 0.4, 0.2], scale=lambda step: 1 / (1 + 0.2 * step))
    if algorithm.worker_rates:
        compare_with_paper(algorithm, topology, rates, steps=10)
    else:
        with pytest.raises(ValueError, match="has no rule for learning rates that differ between"):
            compare_with_paper(algorithm, topology, rates)


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.LocalSGD(period=[3, 1, 4, 2, 4], falls_to=0.5),
        rs.algorithms.FedAvg(local_steps=[3, 1, 4, 2, 4]),
        rs.algorithms.FedAvg(local_steps=[3, 1, 4, 2, 4], participation=0.5),
    ],
    ids=repr,
)
def test_each_worker_makes_its_own_number_of_local_steps(algorithm):
    topology = rs.topologies.chain(5)
    compare_with_paper(algorithm, topology, 0.3)
    compare_with_paper(
        algorithm, topology, rs.PerWorker([0.1, 0.3, 0.05, 0.4, 0.2], lambda step: 1.0)
    )
    taking = 3 / 5 if getattr(algorithm, "participation", 1) < 1 else 1
    assert algorithm.gradients_per_step(5) == pytest.approx(taking * (3 + 1 + 4 + 2 + 4) / 4)
    with pytest.raises(
        ValueError, match="has 5 numbers and there are 6 workers; give one for each"
    ):
        compare_with_paper(algorithm, rs.topologies.chain(6), 0.3)


@pytest.mark.parametrize("algorithm", RELAYING, ids=repr)
@constant_and_falling
@pytest.mark.parametrize(("d", "rows"), [(5, 4), (4, 1), (1, 2)])
def test_a_pair_of_trees_is_two_relays_over_even_and_odd_coordinates(algorithm, rate, d, rows):
    compare_with_paper(algorithm, PAIR, rate, d=d, rows=rows)


@pytest.mark.parametrize("algorithm", each_class(MIXING))
@constant_and_falling
@pytest.mark.parametrize("topology", GRAPHS, ids=repr)
def test_a_gossip_step_is_the_rule_on_paper_on_graphs_with_cycles(algorithm, topology, rate):
    compare_with_paper(algorithm, topology, rate)


# Of even and odd period; in all but the last edges rest now and then, each for a time of its own.
SEQUENCES = {
    "odd": (rs.topologies.exponential(6), rs.mixing.one_peer_exponential(6)),
    "even": (rs.topologies.complete(4), rs.mixing.hyper_hypercube(4, 1)),
    "uneven": (rs.topologies.complete(5), rs.mixing.base_graph(5, 1)),
    "one": (rs.topologies.ring(6), [rs.mixing.metropolis(rs.topologies.ring(6))]),
}


@pytest.mark.parametrize("algorithm", MIXING, ids=repr)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_sequence_of_matrices_repeats_with_the_step(algorithm, sequence):
    topology, mixing = SEQUENCES[sequence]
    if algorithm.mixing_needs == "one symmetric" and len(mixing) > 1:
        with pytest.raises(
            ValueError, match=f"not of a sequence of {len(mixing)}; leave mixing out"
        ):
            compare_with_paper(algorithm, topology, 0.1, steps=10, mixing=mixing)
        return
    if algorithm.mixing_needs == "symmetric":  # both ends of an edge have one weight
        mixing = [csr_array((W + W.T) / 2) for W in mixing]
    run = {"steps": 10, "mixing": in_turn(algorithm, mixing)}
    compare_with_paper(algorithm, topology, 0.1, **run)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_sgp_is_push_sum_for_any_number_of_workers(n, rounds):
    compare_with_paper(rs.algorithms.SGP(rounds), rs.topologies.chain(n), 0.3)


@over_algorithms
def test_wide_vectors_take_the_same_rule(algorithm):
    topology = PAIR if algorithm.uses == "relay" else rs.topologies.ring(8)
    compare_with_paper(algorithm, topology, 0.3, d=301, rows=60, steps=6)


@over_algorithms
def test_a_single_worker_is_gradient_descent(algorithm):
    problem = least_squares(1, 3, 4)
    topology = rs.topologies.chain(1)
    steps = 10 if isinstance(algorithm, SENSITIVE) else 20
    found = iterates_of(problem, topology, algorithm, 0.3, steps)
    paper = slow.run(
        algorithm,
        topology,
        slow.least_squares_gradient(problem.A, problem.b),
        np.zeros((1, 3)),
        [0.3] * steps,
    )
    np.testing.assert_allclose(found, paper, rtol=0, atol=1e-13)
    found = iterates_of(problem, topology, algorithm, 0.3, steps, replicas=2)
    both = np.repeat(paper[..., None], 2, axis=-1)
    np.testing.assert_allclose(found, both, rtol=0, atol=1e-13)


# -- shapes and replicas ---------------------------------------------------------------------------


@over_algorithms
def test_arrays_keep_their_shapes(algorithm):
    problem, topology = least_squares(8, 3, 3), topology_for(algorithm)
    run = {"learning_rate": 0.1, "steps": 9, "record": 4, "keep_iterates": True}
    for replicas in (None, 1, 3):
        shape = (8, 3) if replicas is None else (8, 3, replicas)
        history = rs.simulate(problem, topology, algorithm, replicas=replicas, **run)
        assert history.x.shape == shape
        assert history.iterates.shape == (4, *shape)
        assert history.diverged.shape == (replicas or 1,)
        state = algorithm.init(np.zeros(shape), network_for(algorithm, topology))
        assert state.x.shape == shape


@over_algorithms
@pytest.mark.parametrize("sigma2", [None, 0.5])
def test_a_replica_equals_its_run_alone(algorithm, sigma2):
    rates, seeds, steps = [0.02, 0.3, 0.1], [3, 11], 30
    topology = topology_for(algorithm)
    problem = least_squares(8, 5, 4)
    options = {
        "x0": starting_points(8, 5),
        "oracle": None if sigma2 is None else rs.oracles.Gaussian(sigma2),
    }
    together = iterates_of(problem, topology, algorithm, rates, steps, seed=seeds, **options)
    assert together.shape == (steps + 1, 8, 5, 6)
    draws = sigma2 is not None or algorithm.random
    for replica in range(6):
        rate, seed = rates[replica // 2], seeds[replica % 2]
        if draws or seed == seeds[0]:  # what draws nothing is one run for all seeds
            alone = iterates_of(problem, topology, algorithm, rate, steps, seed=seed, **options)
        assert_close_to_largest(together[..., replica], alone)


@over_algorithms
def test_replicas_with_starting_points_of_their_own_equal_their_runs_alone(algorithm):
    steps, topology, problem = 30, topology_for(algorithm), least_squares(8, 5, 4)
    x0 = starting_points(8, 5, replicas=3)
    together = iterates_of(problem, topology, algorithm, 0.2, steps, x0=x0)
    for replica in range(3):
        alone = iterates_of(problem, topology, algorithm, 0.2, steps, x0=x0[..., replica])
        assert_close_to_largest(together[..., replica], alone)


@pytest.mark.parametrize(
    "algorithm", [a for a in ALGORITHMS if not isinstance(a, ALWAYS_STABLE)], ids=repr
)
def test_replicas_that_leave_do_not_disturb_the_others(algorithm, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", 0)  # so that they leave at once
    topology, problem = topology_for(algorithm), least_squares(8, 5, 4)
    away = 1e15 if isinstance(algorithm, RESCALED) else 300.0
    options = {"oracle": rs.oracles.Gaussian(0.1), "x0": starting_points(8, 5), "seed": [4, 9]}
    with_leaver = rs.simulate(
        problem, topology, algorithm, learning_rate=[away, 0.1], steps=40, **options
    )
    assert with_leaver.diverged.tolist() == [True, True, False, False]
    without = rs.simulate(problem, topology, algorithm, learning_rate=[0.1], steps=40, **options)
    atol = 1e-13 * np.abs(without.x).max()
    np.testing.assert_allclose(with_leaver.x[..., 2:], without.x, rtol=0, atol=atol)


@over_algorithms
def test_the_same_call_gives_the_same_bits(algorithm):
    call = functools.partial(
        iterates_of,
        least_squares(8, 5, 4),
        topology_for(algorithm),
        algorithm,
        [0.1, 0.3],
        30,
        seed=[5, 6],
        oracle=rs.oracles.Gaussian(1.0),
    )
    assert call().tobytes() == call().tobytes()


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *ASYNCHRONOUS], ids=repr)
def test_what_draws_at_random_is_what_it_says(algorithm):
    """Without gradient noise, two seeds make two runs if and only if steps draw."""
    events = algorithm.uses == "events"
    topology = rs.topologies.ring(8) if events else topology_for(algorithm)
    one, other = (
        iterates_of(least_squares(8, 6, 4), topology, algorithm, 0.1, 40, seed=seed)
        for seed in (5, 6)
    )
    assert (one.tobytes() != other.tobytes()) == algorithm.random


@pytest.mark.parametrize(
    ("algorithm", "random"),
    [
        (rs.algorithms.SingleMerge(merge_at=20, probability=0.0), False),
        (rs.algorithms.DynamicAveraging(threshold=0.0), False),
        (rs.algorithms.ConsensusControl(rs.algorithms.PowerGossip(), 0.1), True),
        (rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), 0.1), False),
    ],
    ids=repr,
)
def test_what_draws_at_random_depends_on_options(algorithm, random):
    assert algorithm.random == random
    test_what_draws_at_random_is_what_it_says(algorithm)


# -- a step is a pure function ---------------------------------------------------------------------


def network_for(algorithm, topology):
    if algorithm.uses == "mixing":
        matrices = (rs.mixing.metropolis(topology),)
    elif algorithm.uses == "workers":
        matrices = algorithm.own_mixing(topology.n) or ()
    else:
        matrices = ()
    workers = Workers(least_squares(topology.n, 5, 4))
    return Network(topology, matrices, Workspace(), workers=workers)


def arrays_within(state):
    if isinstance(state, tuple):
        return [array for part in state for array in arrays_within(part)]
    return [state]


def freeze(array):
    array.setflags(write=False)
    return array


@over_algorithms
@pytest.mark.parametrize("replicas", [None, 2])
def test_init_and_step_change_nothing_that_they_were_given(algorithm, replicas):
    topology, problem = topology_for(algorithm), least_squares(8, 5, 4)
    network = network_for(algorithm, topology)
    asked = []

    def gradient(x):
        asked.append(x)
        return problem.gradient(x)  # an array that the step may overwrite

    def uniforms(shape):
        return np.random.default_rng(round.step).random(shape)  # the same in both tries of a step

    round = base.Round(gradient, network, Workspace(), uniforms)
    round.learning_rate = 0.2 if replicas is None else freeze(np.array([0.1, 0.3]))
    state = algorithm.init(freeze(starting_points(8, 5, replicas)), network)
    for step in range(12):
        round.step = step
        given = [freeze(array) for array in arrays_within(state)]
        copies = [array.copy() for array in given]
        new = algorithm.step(state, round)
        again = algorithm.step(state, round)
        for array, copy in zip(given, copies, strict=True):
            np.testing.assert_array_equal(array, copy)
        for array, other in zip(arrays_within(new), arrays_within(again), strict=True):
            np.testing.assert_array_equal(array, other)
        assert len(asked) == 2 * (step + 1), "a step asks for one gradient"
        assert type(new) is type(state)
        state = new


@over_algorithms
def test_simulate_leaves_its_arguments_alone(algorithm):
    problem = least_squares(8, 5, 4)
    A, b, x0, rates = problem.A.copy(), problem.b.copy(), starting_points(8, 5), np.array([0.1])
    x0_copy = x0.copy()
    topology = topology_for(algorithm)
    history = rs.simulate(
        problem, topology, algorithm, learning_rate=rates, steps=5, x0=x0, keep_iterates=True
    )
    np.testing.assert_array_equal(x0, x0_copy)
    np.testing.assert_array_equal(problem.A, A)
    np.testing.assert_array_equal(problem.b, b)
    assert rates.tolist() == [0.1]
    history.iterates[:] = 7
    np.testing.assert_array_equal(x0, x0_copy)


@over_algorithms
def test_algorithms_are_frozen_and_compare_by_their_options(algorithm):
    options = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}
    assert type(algorithm)(**options) == algorithm
    assert hash(type(algorithm)(**options)) == hash(algorithm)
    with pytest.raises(AttributeError):
        algorithm.momentum = 0.5


# -- lent memory -----------------------------------------------------------------------------------


@over_algorithms
@pytest.mark.parametrize("replicas", [None, 3])
def test_lent_buffers_change_no_bits(algorithm, replicas, monkeypatch):
    call = functools.partial(
        iterates_of,
        least_squares(8, 5, 4),
        topology_for(algorithm),
        algorithm,
        0.2,
        16,
        x0=starting_points(8, 5),
        replicas=replicas,
        oracle=rs.oracles.Gaussian(1.0),
    )
    normal = call()
    monkeypatch.setattr("relaysim.support.workspace.LEND_FROM_BYTES", 0)
    poison_what_is_taken_back(monkeypatch)
    assert call().tobytes() == normal.tobytes()

    # Small blocks may add a worker's neighbours in another order, so they change the last bits.
    for module in ("support.blocks", "algorithms.base"):
        monkeypatch.setattr(f"relaysim.{module}.BLOCK_BYTES", 100)
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", 0)
    blocks = call()
    np.testing.assert_allclose(blocks, normal, rtol=0, atol=1e-13 * np.abs(normal).max())
    monkeypatch.setattr("relaysim.support.workspace.LEND_FROM_BYTES", 1 << 60)
    assert call().tobytes() == blocks.tobytes()


def poison_what_is_taken_back(monkeypatch):
    """A buffer that someone still uses after it was taken back turns into NaN."""
    from relaysim.support.workspace import _Pool

    take_back = _Pool.take_back

    def poisoned(pool):
        for array in pool._arrays:
            array[...] = np.nan
        take_back(pool)

    monkeypatch.setattr(_Pool, "take_back", poisoned)


# -- claims, measured ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [a for a in ALGORITHMS if a.vectors_per_edge(2) is not None], ids=repr
)
def test_vectors_per_edge_is_what_is_sent(algorithm):
    problem, steps = least_squares(9, 2, 2), 7
    topology = rs.topologies.binary_tree(9) if algorithm.uses == "relay" else GRAPHS[1]
    history = rs.simulate(problem, topology, algorithm, learning_rate=0.1, steps=steps)
    # An average goes over both directions of a tree, or between any two workers.
    own = {"ring": 2 * 8, "all-to-all": 9 * 8}.get(getattr(algorithm, "count", None), 9)
    directed_edges = {"relay": 2 * 8, "mixing": 9 * 4, "workers": own}
    edges, cycle = directed_edges[algorithm.uses], algorithm.cycle
    whole = np.arange(0, steps + 1, cycle)
    alone = isinstance(algorithm, ALONE_AT_FIRST)
    expected = algorithm.vectors_per_edge(2) * edges * (whole - alone * (whole > 0))
    np.testing.assert_allclose(history.frame.vectors_sent[whole], expected, rtol=1e-14)
    assert len(whole) > 1


@pytest.mark.parametrize(
    "algorithm",
    [
        algorithm
        for algorithm in ALGORITHMS
        # Critical distances have a test below: beyond rounding every step mixes a thousand times. Whose L_i
        # are alike, as here, has nothing to stall at without a switch.
        if not (is_critical(algorithm) and algorithm.exact)
        and getattr(algorithm, "switch", 0) is not None
    ],
    ids=repr,
)
def test_exact_methods_reach_the_optimum_and_the_others_stall(algorithm):
    problem = rs.problems.random_quadratics(n=9, d=4, zeta2=10.0, mu=0.25, seed=0)
    run = {"topology": rs.topologies.binary_tree(9), "algorithm": algorithm, "learning_rate": 0.1}
    if algorithm.exact:
        # The slowest needs 3400.
        arrives = {"steps": 3600, "record": 100, "stop_when": {"distance": 1e-24}}
        history = rs.simulate(problem, **run, **arrives, x0=starting_points(9, 4))
        assert history.frame.distance.iloc[-1] < 1e-24
    else:
        # All have stalled by 700; a whole number of SGP's periods apart.
        history = rs.simulate(problem, **run, steps=800, record=[796, 800])
        distance = history.frame.distance.iloc[-1]
        assert distance > 1e-3
        if sends_parts(algorithm) or isinstance(
            algorithm, (*OCCASIONAL, rs.algorithms.PowerGossip)
        ):
            return  # it moves about
        np.testing.assert_allclose(history.frame.distance.iloc[0], distance, rtol=1e-3)


WITH_A_MATRIX = [a for a in ALGORITHMS if a.uses == "mixing"]
UNEVEN = np.array([[0.5, 0.5, 0, 0], [0.25, 0.5, 0.25, 0], [0, 0.2, 0.5, 0.3], [0, 0, 0.6, 0.4]])


@pytest.mark.parametrize("algorithm", WITH_A_MATRIX, ids=repr)
def test_what_a_method_needs_of_its_matrix_is_what_it_says(algorithm):
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=5.0, mu=0.25, seed=0)
    run = {"problem": problem, "topology": rs.topologies.chain(4), "algorithm": algorithm}
    run |= {"learning_rate": 0.05, "steps": 6000, "record": [6000], "mixing": UNEVEN}
    if "symmetric" in algorithm.mixing_needs:
        with pytest.raises(ValueError, match="must be symmetric"):
            rs.simulate(**run)
    elif pushes(algorithm):
        with pytest.raises(ValueError, match="the columns of the mixing matrix must sum to 1"):
            rs.simulate(**run)
    elif algorithm.exact and algorithm.mixing_needs == "doubly stochastic":
        with pytest.warns(UserWarning, match=r"column of this W sums to 1\.\d+: it ends at argmin"):
            end = rs.simulate(**run).x
        weights = np.linalg.solve(
            np.vstack([(UNEVEN.T - np.eye(4))[:3], np.ones(4)]), [0.0, 0.0, 0.0, 1.0]
        )
        hessians = np.einsum("imd,ime->ide", problem.A, problem.A)
        constants = np.einsum("imd,im->id", problem.A, problem.b)
        weighed = np.linalg.solve(
            np.tensordot(weights, hessians, axes=1), np.tensordot(weights, constants, axes=1)
        )
        assert np.abs(weighed - problem.optimum).max() > 1e-2
        np.testing.assert_allclose(end, np.tile(weighed, (4, 1)), atol=1e-9)
    else:
        # Not exact in any case, or by agreement, however it comes about.
        assert algorithm.mixing_needs in ("nothing", "doubly stochastic")
        rs.simulate(**(run | {"steps": 5, "record": 5}))


def test_matrices_without_a_common_weighted_mean_are_told_of():
    other = UNEVEN[::-1, ::-1]
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=5.0, mu=0.25, seed=0)
    run = {
        "problem": problem,
        "topology": rs.topologies.chain(4),
        "learning_rate": 0.05,
        "steps": 1,
    }
    with pytest.warns(UserWarning, match="preserve no common weighted mean") as caught:
        rs.simulate(**run, algorithm=rs.algorithms.D2(), mixing=[UNEVEN, other])
    assert caught[0].filename == __file__, "it points at the user's own line"
    rs.simulate(**run, algorithm=rs.algorithms.D2())
    rs.simulate(**run, algorithm=rs.algorithms.DPSGD(), mixing=UNEVEN)


@pytest.mark.parametrize(
    "base", [a for a in WITH_A_MATRIX if a.exact and a.affine and not pushes(a)], ids=repr
)
@pytest.mark.parametrize("target", [0.01, 0.003])
def test_what_is_exact_when_mixed_further_is_what_it_says(base, target):
    problem = rs.problems.random_quadratics(n=9, d=4, zeta2=10.0, mu=0.25, seed=0)
    run = {"learning_rate": 0.1, "steps": 3600, "record": 100, "stop_when": {"distance": 1e-24}}
    algorithm = rs.algorithms.ConsensusControl(base, target)
    end = rs.simulate(problem, rs.topologies.binary_tree(9), algorithm, **run).frame.distance.iloc[
        -1
    ]
    assert algorithm.exact == base.exact_when_mixed_further
    assert end < 1e-24 if base.exact_when_mixed_further else end > 1e-6


@dataclasses.dataclass(frozen=True)
class Bare:
    """A method that says little of itself."""

    label = "Bare"
    uses = "mixing"

    def init(self, x0, network):
        return (x0,)

    def step(self, state, round):
        return state


def test_a_claim_that_is_missing_is_named_with_its_meaning():
    problem, ring = least_squares(8, 3, 2), rs.topologies.ring(8)
    with pytest.raises(TypeError, match=r"Bare has no `vectors_per_edge`: a function of d.*derive"):
        rs.simulate(problem, ring, Bare(), learning_rate=0.1, steps=1)

    class Nameless(base.Method):
        uses = "mixing"

    with pytest.raises(TypeError, match=r"Nameless has no `label`: how plots and tables name it"):
        rs.simulate(problem, ring, Nameless(), learning_rate=0.1, steps=1)
    for claim in claims.CLAIMS:
        assert getattr(claims.Claims, claim).__doc__, claim


@pytest.mark.parametrize(
    "algorithm", [a for a in ALGORITHMS if not (a.exact or isinstance(a, RESCALED))], ids=repr
)
def test_methods_that_are_not_exact_are_so_where_all_workers_agree(algorithm):
    problem = rs.problems.random_quadratics(n=9, d=4, zeta2=0.0, mu=0.25, seed=0)
    arrives = {"steps": 1500, "record": 50, "stop_when": {"distance": 1e-24}}  # the slowest by 1320
    history = rs.simulate(
        problem, rs.topologies.binary_tree(9), algorithm, learning_rate=0.1, **arrives
    )
    assert history.frame.distance.iloc[-1] < 1e-24


def test_the_critical_distance_makes_gossip_exact():
    problem = rs.problems.random_quadratics(n=9, d=4, zeta2=10.0, mu=0.25, seed=0)
    algorithm = next(a for a in ALGORITHMS if is_critical(a) and a.exact)
    options = {"learning_rate": 0.5, "steps": 100, "record": [100], "x0": starting_points(9, 4)}
    held, free = (
        rs.simulate(problem, rs.topologies.binary_tree(9), method, **options).frame.distance[0]
        for method in (algorithm, algorithm.base)
    )
    assert held < 1e-24 < 1e-3 < free


def test_holding_the_distance_to_0_makes_gossip_exact():
    problem = rs.problems.random_quadratics(n=4, d=2, zeta2=5.0, mu=0.5, seed=0)
    held = rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), target=0.0)
    few = dataclasses.replace(held, most_rounds=2)
    assert (held.exact, few.exact) == (True, False)
    assert not dataclasses.replace(held, most_rounds=999).exact
    run = {"learning_rate": 0.9, "steps": 60, "record": [60]}
    ends = [
        rs.simulate(problem, rs.topologies.ring(4), method, **run).frame.distance[0]
        for method in (held, few)
    ]
    assert ends[0] < 1e-24 < 1e-5 < ends[1]


def sends_parts(algorithm):
    if isinstance(algorithm, rs.algorithms.Cesar):
        return True
    compressor = getattr(algorithm, "compressor", None)
    return compressor is not None and not isinstance(compressor, rs.compressors.Identity)


def hops_between(topology, worker, d):
    """Hops ``(n, d)`` from a worker, for each coordinate on the tree that carries it."""
    if isinstance(topology, rs.topologies.TreePair):
        each = [hops_between(tree, worker, 1)[:, 0] for tree in (topology.first, topology.second)]
        return np.stack([each[c % 2] for c in range(d)], axis=1)
    hops = slow.hop_distances(slow.neighbours_of(topology))[worker]
    return np.repeat(hops[:, None], d, axis=1)


@pytest.mark.parametrize(
    ("algorithm", "topology"),
    [(a, t) for a in RELAYING for t in (*TREES, PAIR)]
    + [(a, t) for a in MIXING for t in (*TREES, *GRAPHS)],
    ids=repr,
)
def test_information_moves_one_hop_a_round(algorithm, topology):
    n, d, steps, worker = topology.n, 4, 9, 1
    # Diagonal Hessians keep the coordinates apart, so that each has the cone of its own tree.
    generator = np.random.default_rng(0)
    h, centers = generator.uniform(0.2, 1, size=(n, d)), generator.normal(size=(n, d))
    x0 = starting_points(n, d)
    problem = rs.problems.DiagonalQuadratic(h, centers)
    before = iterates_of(problem, topology, algorithm, 0.3, steps, x0=x0)
    moved_by_one = np.zeros((n, d))
    moved_by_one[worker] = 1.0
    elsewhere = rs.problems.DiagonalQuadratic(h, centers + moved_by_one)
    after = {
        "start": iterates_of(problem, topology, algorithm, 0.3, steps, x0=x0 + moved_by_one),
        "data": iterates_of(elsewhere, topology, algorithm, 0.3, steps, x0=x0),
    }
    # As many hops a step as it gossips.
    hops = np.ceil(hops_between(topology, worker, d) / algorithm.hops_per_step)
    for changed, found in after.items():
        # With overlap a message is used a round after it was sent. (Gossip that overlaps mixes models
        # as they were before the step, so that what a gradient changes waits for the next round.)
        late = int(algorithm.overlaps)
        if algorithm.uses == "mixing" and changed == "start":
            late = 0
        late += isinstance(algorithm, (*ALONE_AT_FIRST, rs.algorithms.ADMM))  # it sends at the end
        for step in range(steps + 1):
            moved = before[step] != found[step]
            assert not moved[hops > step].any(), f"{changed}, step {step}"
            front = step - late
            if sends_parts(algorithm) or isinstance(algorithm, (*SELDOM, *DISCARDING)):
                continue  # what has changed need not be sent at once, or count
            assert moved[hops == front].all() or front <= 0, f"{changed}, step {step}"


# -- limits ----------------------------------------------------------------------------------------


def assert_same(first, second, tolerance=1e-13):
    atol = tolerance * np.abs(second).max()
    np.testing.assert_allclose(first, second, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("with_momentum", "without"),
    [
        (rs.algorithms.RelaySGD(momentum=1e-300), rs.algorithms.RelaySGD()),
        (rs.algorithms.RelaySGDGrad(momentum=1e-300), rs.algorithms.RelaySGDGrad()),
        (rs.algorithms.RelaySGDMix(momentum=1e-300), rs.algorithms.RelaySGDMix()),
        (rs.algorithms.DPSGD(momentum=1e-300), rs.algorithms.DPSGD()),
        (rs.algorithms.AllReduce(momentum=1e-300), rs.algorithms.AllReduce()),
        (rs.algorithms.QuasiGlobalMomentum(momentum=0.0), rs.algorithms.DPSGD()),
        (rs.algorithms.QuasiGlobalMomentum(momentum=0.0, form="toy"), rs.algorithms.DPSGD()),
    ],
    ids=repr,
)
def test_momentum_zero_is_no_momentum(with_momentum, without):
    problem, x0 = least_squares(8, 5, 4), starting_points(8, 5)
    topology = rs.topologies.binary_tree(8)
    runs = [iterates_of(problem, topology, a, 0.3, 40, x0=x0) for a in (with_momentum, without)]
    assert_same(*runs)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_exact_averaging_makes_gossip_all_reduce(momentum):
    problem, x0 = least_squares(6, 5, 4), starting_points(6, 5)
    topology, mixing = rs.topologies.complete(6), np.full((6, 6), 1 / 6)
    reference = iterates_of(
        problem, topology, rs.algorithms.AllReduce(momentum=momentum), 0.3, 40, x0=x0
    )
    algorithms = [rs.algorithms.DPSGD(momentum=momentum)]
    if momentum == 0:
        algorithms += [rs.algorithms.D2(), rs.algorithms.GradientTracking()]
    for algorithm in algorithms:
        assert_same(
            iterates_of(problem, topology, algorithm, 0.3, 40, x0=x0, mixing=mixing), reference
        )


@pytest.mark.parametrize("unheard", ["initial", "previous", "own", "counts"])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_relay_between_two_workers_is_all_reduce(unheard, momentum):
    problem, x0 = least_squares(2, 5, 4), starting_points(2, 5)
    runs = [
        iterates_of(problem, rs.topologies.chain(2), algorithm, 0.3, 40, x0=x0)
        for algorithm in (
            rs.algorithms.RelaySGD(momentum=momentum, unheard=unheard),
            rs.algorithms.AllReduce(momentum=momentum),
        )
    ]
    assert_same(*runs)


def test_relaying_gradients_between_two_workers_is_all_reduce_from_a_common_start():
    problem, x0 = least_squares(2, 5, 4), np.arange(5.0)
    runs = [
        iterates_of(problem, rs.topologies.chain(2), algorithm, 0.3, 40, x0=x0)
        for algorithm in (rs.algorithms.RelaySGDGrad(), rs.algorithms.AllReduce())
    ]
    assert_same(*runs)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("topology", [*TREES, PAIR], ids=repr)
def test_the_ends_of_the_mixture_are_its_two_parents(topology, momentum):
    problem, x0 = least_squares(topology.n, 5, 4), starting_points(topology.n, 5)
    for alpha, parent in ((0.0, rs.algorithms.RelaySGD), (1.0, rs.algorithms.RelaySGDGrad)):
        mixture = rs.algorithms.RelaySGDMix(alpha=alpha, momentum=momentum)
        parent = parent(overlap=True, momentum=momentum)
        runs = [iterates_of(problem, topology, a, 0.2, 40, x0=x0) for a in (mixture, parent)]
        assert_same(*runs)


def test_sgp_that_averages_exactly_is_all_reduce():
    problem, x0 = least_squares(8, 5, 4), starting_points(8, 5)
    topology = rs.topologies.chain(8)
    runs = [
        iterates_of(problem, topology, algorithm, 0.3, 40, x0=x0)
        for algorithm in (rs.algorithms.SGP(rounds=3), rs.algorithms.AllReduce())
    ]
    assert_same(*runs)


def test_reductions_of_methods_to_others():
    problem, x0 = least_squares(8, 5, 4), starting_points(8, 5)
    pairs = [
        (rs.algorithms.LocalSGD(period=1), rs.algorithms.AllReduce()),
        (rs.algorithms.DelayedGradient(delay=0), rs.algorithms.DPSGD(overlap=True)),
        (rs.algorithms.DecentLaM(momentum=0.0), rs.algorithms.DPSGD()),
        (rs.algorithms.MomentumConsensus(momentum=0.0), rs.algorithms.DPSGD(overlap=True)),
        (rs.algorithms.ChocoSGD(rs.compressors.Identity(), 1.0), rs.algorithms.DPSGD()),
        (rs.algorithms.ChocoSGD(rs.compressors.TopK(5), 1.0), rs.algorithms.DPSGD()),
    ]
    for one, other in pairs:
        runs = [
            iterates_of(problem, rs.topologies.ring(8), algorithm, 0.3, 40, x0=x0)
            for algorithm in (one, other)
        ]
        assert_same(*runs, tolerance=1e-12)


def test_decentlam_keeps_its_momentum_through_steps_without_a_rate():
    problem, x0, ring = least_squares(8, 5, 4), starting_points(8, 5), rs.topologies.ring(8)
    rate = lambda step: 0.0 if step < 4 else 0.2  # noqa: E731
    rested = iterates_of(problem, ring, rs.algorithms.DecentLaM(0.5), rate, 9, x0=x0)
    later = iterates_of(problem, ring, rs.algorithms.DecentLaM(0.5), 0.2, 5, x0=rested[4])
    np.testing.assert_allclose(rested[4:], later, rtol=0, atol=1e-13)
    W = rs.mixing.metropolis(ring)
    np.testing.assert_allclose(rested[4], W @ (W @ (W @ (W @ x0))), rtol=0, atol=1e-13)
    # With one of its own: as if the steps without a rate had only mixed.
    rate = lambda step: 0.0 if step == 3 else 0.2  # noqa: E731
    paused = iterates_of(problem, ring, rs.algorithms.DecentLaM(0.5), rate, 5, x0=x0)
    going = iterates_of(problem, ring, rs.algorithms.DecentLaM(0.5), 0.2, 5, x0=x0)
    moved = (going[3] - W @ (going[3] - 0.2 * problem.gradient(going[3]))) / 0.2
    momentum = (going[3] - going[4]) / 0.2 - moved
    x = W @ going[3]
    np.testing.assert_allclose(paused[4], x, rtol=0, atol=1e-13)
    following = (x - W @ (x - 0.2 * problem.gradient(x))) / 0.2
    np.testing.assert_allclose(paused[5], x - 0.2 * (following + momentum), rtol=0, atol=1e-12)


def test_decentlam_ends_where_dampened_gossip_does_and_moves_faster():
    problem, topology, rate = least_squares(8, 3, 4), rs.topologies.ring(8), 0.05
    # On paper, from X = W(X − γG) with G = HX − c: (I − W)X + γW(HX − c) = 0, stacked over workers.
    W = np.kron(np.asarray(rs.mixing.metropolis(topology).todense()), np.eye(3))
    H = np.zeros((24, 24))
    for i, A in enumerate(problem.A):
        H[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = A.T @ A
    c = np.einsum("irk,ir->ik", problem.A, problem.b).ravel()

    def on_paper(rate):
        return np.linalg.solve(np.eye(24) - W + rate * W @ H, rate * W @ c).reshape(8, 3)

    def end(algorithm, rate):
        return rs.theory.linearize(problem, topology, algorithm, rate).fixed_point

    def bias(x):
        return np.linalg.norm(x.mean(axis=0) - problem.optimum)

    for momentum in (0.0, 0.5, 0.9):
        for kind in (rs.algorithms.DecentLaM, rs.algorithms.DPSGD):
            found = end(kind(momentum=momentum), rate)
            np.testing.assert_allclose(found, on_paper(rate), rtol=0, atol=1e-12)
    # What moves as fast without DecentLaM ends further off, by less than the square of that factor.
    further = bias(end(rs.algorithms.DPSGD(momentum=0.5), rate / 0.5)) / bias(on_paper(rate))
    assert 1.5 < further < 4


def test_exact_diffusion_is_d2_with_the_lazy_matrix():
    problem, x0 = least_squares(8, 5, 4), starting_points(8, 5)
    topology = rs.topologies.ring(8)
    W = np.asarray(rs.mixing.metropolis(topology).todense())
    lazy = iterates_of(
        problem, topology, rs.algorithms.D2(), 0.3, 60, x0=x0, mixing=(W + np.eye(8)) / 2
    )
    assert_same(
        iterates_of(problem, topology, rs.algorithms.ExactDiffusion(), 0.3, 60, x0=x0), lazy
    )


@pytest.mark.parametrize("kind", [rs.algorithms.D2, rs.algorithms.ExactDiffusion])
def test_d2_under_a_schedule_moves_its_mean_by_the_present_rate(kind):
    """Which X' = W(2X − X⁻ − γ_t (G − G⁻)) would not; at a constant rate all are one method."""
    problem, topology, x0 = least_squares(8, 5, 4), rs.topologies.ring(8), starting_points(8, 5)

    def rate(step):
        return 0.4 / (1 + step) if step < 20 else 0.01

    forms = [kind(form=form) for form in ("own", "scaled")]
    found = [iterates_of(problem, topology, each, rate, 40, x0=x0) for each in forms]
    for iterates in found:
        for step in range(40):
            pull = rate(step) * problem.gradient(iterates[step]).mean(axis=0)
            moved = iterates[step + 1].mean(axis=0) - iterates[step].mean(axis=0)
            np.testing.assert_allclose(moved, -pull, rtol=0, atol=1e-14)
    assert np.abs(found[0] - found[1]).max() > 1e-2
    constant = [iterates_of(problem, topology, each, 0.3, 40, x0=x0) for each in forms]
    assert_same(*constant, tolerance=1e-12)


def test_gradient_tracking_mixes_the_tracker_and_then_adds_what_changed():
    """NEXT: X' = W(X − γ_t Y), Y' = WY + G' − G, with dense matrices, under a schedule."""
    problem, topology, x0 = least_squares(8, 5, 4), rs.topologies.ring(8), starting_points(8, 5)
    W = np.asarray(rs.mixing.metropolis(topology).todense())
    x, g = x0, problem.gradient(x0)
    y, next_moves_after, whole = g, None, None
    for step in range(30):
        rate = 0.3 / (1 + 0.1 * step)
        if step == 1:  # where the other forms part from it
            next_moves_after = W @ x - rate * y  # DIGing
        x = W @ (x - rate * y)
        renewed = problem.gradient(x)
        if step == 0:
            whole = W @ (y + renewed - g)  # ATC-DIGing
        y, g = W @ y + renewed - g, renewed
        if step == 0:
            assert np.abs(y - whole).max() > 1e-2
        if step == 1:
            assert np.abs(x - next_moves_after).max() > 1e-2
    found = iterates_of(
        problem,
        topology,
        rs.algorithms.GradientTracking(),
        lambda step: 0.3 / (1 + 0.1 * step),
        30,
        x0=x0,
    )
    np.testing.assert_allclose(found[-1], x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("algorithm", RELAYING, ids=repr)
def test_a_pair_of_equal_trees_is_that_tree(algorithm):
    problem, x0 = least_squares(7, 5, 4), starting_points(7, 5)
    tree = rs.topologies.chain(7)
    runs = [
        iterates_of(problem, topology, algorithm, 0.3, 40, x0=x0)
        for topology in (rs.topologies.TreePair(tree, tree), tree)
    ]
    assert_same(*runs)


@over_algorithms
def test_learning_rate_zero_is_communication_only(algorithm):
    topology, x0 = topology_for(algorithm), starting_points(8, 5)
    problems = [least_squares(8, 5, 4, seed=seed) for seed in (0, 1)]
    silent = [iterates_of(problem, topology, algorithm, 0.0, 20, x0=x0) for problem in problems]
    if not isinstance(getattr(algorithm, "target", None), rs.algorithms.Critical):
        np.testing.assert_array_equal(*silent)  # a critical distance is made of gradients
    moving = [iterates_of(problem, topology, algorithm, 0.1, 20, x0=x0) for problem in problems]
    assert np.abs(moving[0] - moving[1]).max() > 1e-2
    if getattr(getattr(algorithm, "compressor", None), "random", 0):
        return  # compressed differently by everyone, equal models do not stay equal
    # From a common start there is nothing to agree on.
    common = iterates_of(problems[0], topology, algorithm, 0.0, 20, x0=x0[0])
    assert_same(common, np.broadcast_to(x0[0], common.shape))


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.DPSGD(),
        rs.algorithms.DPSGD(momentum=0.9),
        rs.algorithms.DPSGD(overlap=True),
        rs.algorithms.GradientTracking(),
        rs.algorithms.QuasiGlobalMomentum(),
        rs.algorithms.QuasiGlobalMomentum(form="toy"),
    ],
    ids=repr,
)
def test_gossip_without_gradients_applies_powers_of_the_matrix(algorithm):
    topology, x0 = rs.topologies.torus(3, 3), starting_points(9, 5)
    W = slow.metropolis(slow.neighbours_of(topology))
    iterates = iterates_of(least_squares(9, 5, 4), topology, algorithm, 0.0, 12, x0=x0)
    for step in range(13):
        assert_same(iterates[step], np.linalg.matrix_power(W, step) @ x0)


@pytest.mark.parametrize("overlap", [False, True])
def test_relayed_gradients_without_a_rate_move_nobody(overlap):
    x0 = starting_points(8, 5)
    algorithm = rs.algorithms.RelaySGDGrad(overlap=overlap)
    iterates = iterates_of(least_squares(8, 5, 4), PAIR, algorithm, 0.0, 12, x0=x0)
    np.testing.assert_array_equal(iterates, np.broadcast_to(x0, iterates.shape))


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize(
    "kind",
    [
        rs.algorithms.RelaySGD,
        rs.algorithms.RelaySGDGrad,
        rs.algorithms.RelaySGDMix,
        rs.algorithms.DPSGD,
        rs.algorithms.QuasiGlobalMomentum,
        rs.algorithms.AllReduce,
        rs.algorithms.DecentLaM,
        rs.algorithms.MomentumConsensus,
    ],
)
def test_momentum_lies_between_0_and_1(kind, momentum):
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), not"):
        kind(momentum=momentum)


def test_other_options_are_checked_too():
    with pytest.raises(ValueError, match="unheard must be one of 'initial', 'previous', 'own'"):
        rs.algorithms.RelaySGD(unheard="nothing")
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"alpha must be a finite number between 0 and 1, not"):
            rs.algorithms.RelaySGDMix(alpha=alpha)
    for omega in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"omega must be a finite number between 0 and 1, not"):
            rs.algorithms.MomentumConsensus(omega=omega)
    for option, least in (("period", 1), ("delay", 0)):
        kind = rs.algorithms.LocalSGD if option == "period" else rs.algorithms.DelayedGradient
        for value in (least - 1, 1.5, "2"):
            with pytest.raises((ValueError, TypeError), match=f"{option} must be"):
                kind(**{option: value})
    for rounds in (0, 1.5):
        with pytest.raises(
            (ValueError, TypeError), match=r"rounds must be (a whole number|at least 1)"
        ):
            rs.algorithms.SGP(rounds=rounds)


@pytest.mark.parametrize(
    ("algorithm", "exact"),
    [
        (rs.algorithms.RelaySGDMix(alpha=0.0), True),
        (rs.algorithms.RelaySGDMix(alpha=0.9), True),
        (rs.algorithms.RelaySGDMix(alpha=1.0), False),
        (rs.algorithms.SGP(rounds=3), False),
        (rs.algorithms.LocalSGD(period=1), True),
        (rs.algorithms.LocalSGD(period=2), False),
    ],
)
def test_claims_that_depend_on_options(algorithm, exact):
    assert algorithm.exact is exact


@pytest.mark.parametrize(
    ("algorithm", "hops"),
    [
        (rs.algorithms.LocalRates(6), math.inf),
        (rs.algorithms.LocalRates(6, gossip=True), 1),
        (rs.algorithms.GossipPGA(4), math.inf),
        (rs.algorithms.LocalSGD(4), math.inf),
        (rs.algorithms.SingleMerge(4), math.inf),
        (rs.algorithms.DynamicAveraging(1.0), math.inf),
        (rs.algorithms.A2CiD2(), math.inf),
        (rs.algorithms.DPSGD(), 1),
        (rs.algorithms.RelaySGD(), 1),
        (rs.algorithms.GradientTracking(), 1),
        (rs.algorithms.GradientTracking(form="atc"), 2),
        (rs.algorithms.GTSAGA(), 2),
        (rs.algorithms.SGP(rounds=3, network="topology"), 3),
        (rs.algorithms.PowerGossip(iterations=2), 2),
        (rs.algorithms.Muffliato(rounds=3), 3),
        (rs.algorithms.Mudag(rounds=4), 4),
        (rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), 0.1, most_rounds=5), 6),
    ],
    ids=repr,
)
def test_hops_of_a_step_are_no_more_than_it_makes(algorithm, hops):
    """A claim of fewer would fail above, where what moved further is seen."""
    assert algorithm.hops_per_step == hops


def test_the_table_has_every_algorithm():
    listed = {name for name in rs.algorithms.__all__ if name[0].isupper()}
    table = {type(algorithm).__name__ for algorithm in ALGORITHMS + ASYNCHRONOUS + BY_NUMBER}
    assert table == listed - {"Critical"}


# -- two forms of quasi-global momentum ------------------------------------------------------------


def quasi_global(form, rate, momentum=0.9):
    """The mean after 60 steps on a ring of four, whose optima are 0, 1, 2, 3, from 10."""
    problem = rs.problems.DiagonalQuadratic(np.ones((4, 1)), np.arange(4.0)[:, None])
    algorithm = rs.algorithms.QuasiGlobalMomentum(momentum, form=form)
    run = {"learning_rate": rate, "steps": 60, "x0": np.array([10.0])}
    return rs.simulate(problem, rs.topologies.ring(4), algorithm, **run).x


def two_betas(rate, of_step, of_average):
    """The paper's rule with a β of its own in the step, as loops."""
    W = slow.metropolis(slow.neighbours_of(rs.topologies.ring(4)))
    x, m = np.full((4, 1), 10.0), np.zeros((4, 1))
    for _ in range(60):
        new = W @ (x - rate * (of_step * m + x - np.arange(4.0)[:, None]))
        m = of_average * m + (1 - of_average) * (x - new) / rate
        x = new
    return x


def test_quasi_global_momentum_is_that_of_the_paper():
    paper = quasi_global("paper", 0.01)
    assert paper.mean() == pytest.approx(0.332, abs=5e-4)
    np.testing.assert_allclose(paper, two_betas(0.01, 0.9, 0.9), rtol=0, atol=1e-13)
    assert rs.algorithms.QuasiGlobalMomentum().form == "paper"
    with pytest.raises(ValueError, match="form must be one of 'paper', 'toy', not 'published'"):
        rs.algorithms.QuasiGlobalMomentum(form="published")


def test_the_toys_quasi_global_momentum_is_the_papers_with_a_smaller_one_in_the_step():
    toy = quasi_global("toy", 0.019)
    assert toy.mean() == pytest.approx(4.358, abs=5e-4)
    np.testing.assert_allclose(toy, two_betas(0.01, 0.9 / 1.9, 0.9), rtol=0, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_quasi_global_momentum_is_stable_up_to_the_rate_that_it_says(momentum):
    problem = rs.problems.DiagonalQuadratic(np.ones((1, 1)), np.zeros((1, 1)))
    algorithm = rs.algorithms.QuasiGlobalMomentum(momentum)
    most = rs.theory.max_learning_rate(problem, rs.topologies.chain(1), algorithm)
    assert most == pytest.approx(2 * algorithm.rate_scale, rel=1e-6)


# -- occasional communication ----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "vectors"), [("ring", 2 * 8), ("all-to-all", 9 * 8)])
def test_pairs_of_a_single_merge_preserve_the_mean_and_are_counted(count, vectors):
    problem = rs.problems.DiagonalQuadratic(np.ones((9, 2)), np.zeros((9, 2)))
    x0 = starting_points(9, 2)
    algorithm = rs.algorithms.SingleMerge(merge_at=30, probability=0.6, local_steps=2, count=count)
    history = rs.simulate(
        problem,
        rs.topologies.complete(9),
        algorithm,
        learning_rate=0.0,
        steps=31,
        x0=x0,
        replicas=4,
        keep_iterates=True,
    )
    means = history.iterates.mean(axis=1)
    np.testing.assert_allclose(means, np.broadcast_to(means[:1], means.shape), atol=1e-14)
    changed = (history.iterates[1:] != history.iterates[:-1]).any(axis=2).sum(axis=1)
    sent = history.frame.vectors_sent.to_numpy().reshape(4, 32)
    pairs = np.diff(sent).T[:29]
    np.testing.assert_array_equal(changed[1], pairs[1])
    assert (changed[:29] <= pairs).all(), "two who meet again may be equal already"
    assert len(np.unique(pairs[1::2])) > 1
    assert (pairs[::2] == 0).all()
    assert (np.diff(sent)[:, 29] == vectors).all()
    assert history.frame[history.frame.step >= 30].consensus_distance.max() < 1e-30


def test_an_average_is_counted_as_a_ring_or_all_to_all():
    """Every method that averages says which; by the second, all-reduce costs n/2 times as much."""
    averaging = [
        kind
        for kind in (getattr(rs.algorithms, name) for name in rs.algorithms.__all__)
        if "count" in getattr(kind, "__dataclass_fields__", ())
    ]
    options = {"SingleMerge": {"merge_at": 5, "probability": 0.0}, "LocalSGD": {"period": 5}}
    options |= {"GossipPGA": {"period": 1}, "LocalRates": {"switch": None}}
    each_step = {"AllReduce", "LocalRates", "GossipPGA"}
    assert {kind.__name__ for kind in averaging} == each_step | {*options}
    problem = least_squares(9, 2, 2)
    for kind in averaging:
        sent = {}
        for count in (None, "ring", "all-to-all"):
            algorithm = kind(
                **options.get(kind.__name__, {}), **({"count": count} if count else {})
            )
            history = rs.simulate(
                problem, rs.topologies.ring(9), algorithm, learning_rate=0.1, steps=5
            )
            sent[count] = history.frame.vectors_sent.iloc[-1]
        averages = 5 if kind.__name__ in each_step else 1
        assert sent == {
            None: averages * 16,
            "ring": averages * 16,
            "all-to-all": averages * 72,
        }
        with pytest.raises(ValueError, match="count must be one of 'ring', 'all-to-all', not"):
            kind(**options.get(kind.__name__, {}), count="tree")


def test_pairs_meet_as_often_as_they_should():
    uniform = np.random.default_rng(0).random((6, 2, 20_000))
    partner, paired = rs.algorithms.infrequent.random_pairs(uniform, 0.5)
    workers = np.arange(6)[:, None]
    np.testing.assert_array_equal(
        np.take_along_axis(partner, partner, axis=0), workers + 0 * partner
    )
    np.testing.assert_array_equal((partner != workers).sum(axis=0), paired)
    # Of K ~ Bin(6, ½) ready workers 2⌊K/2⌋ are in pairs.
    chances = np.array([math.comb(6, k) for k in range(7)]) / 64
    assert paired.mean() == pytest.approx((2 * (np.arange(7) // 2)) @ chances, abs=0.05)
    for other in range(1, 6):
        share = (partner[0] == other).mean()
        assert share == pytest.approx(paired.mean() / 6 / 5, abs=0.01)


def test_dynamic_averaging_between_its_limits():
    problem, x0 = least_squares(8, 3, 2), np.ones(3)
    ring = rs.topologies.ring(8)
    always, never = (
        iterates_of(problem, ring, rs.algorithms.DynamicAveraging(threshold), 0.2, 40, x0=x0)
        for threshold in (0.0, 1e6)
    )
    assert_same(always, iterates_of(problem, ring, rs.algorithms.AllReduce(), 0.2, 40, x0=x0))
    alone = iterates_of(problem, ring, rs.algorithms.LocalSGD(period=1000), 0.2, 40, x0=x0)
    assert_same(never, alone)
    sent = [
        rs.simulate(
            problem,
            ring,
            rs.algorithms.DynamicAveraging(threshold),
            learning_rate=0.2,
            steps=40,
        ).frame.vectors_sent.iloc[-1]
        for threshold in (0.0, 0.01, 0.3, 1e6)
    ]
    assert sent[0] == 40 * 2 * 8
    assert sent[-1] == 0
    assert sent == sorted(sent, reverse=True)


def test_dynamic_averaging_asks_everybody_after_as_many_violations_as_workers():
    """One of four workers moves away by 2 a step, and comes back to the mean of two: 1, 2 and 3 violate."""
    centers = np.zeros((4, 1))
    centers[0] = 8.0
    problem = rs.problems.DiagonalQuadratic(np.array([[0.5], [0], [0], [0]]), centers)
    algorithm = rs.algorithms.DynamicAveraging(threshold=4.0)
    run = {"learning_rate": 0.5, "steps": 40, "seed": [0, 1], "keep_iterates": True}
    history = rs.simulate(problem, rs.topologies.ring(4), algorithm, **run)
    sent = history.frame.pivot(index="step", columns="replica", values="vectors_sent").diff()
    for replica in (0, 1):
        taking = sent[replica].to_numpy()[1:] / 2
        violations, asked = 0, []
        x, reference = np.zeros(4), 0.0
        for step in range(40):
            moved = x.copy()
            moved[0] -= 0.5 * 0.5 * (x[0] - 8)
            violators = np.count_nonzero((moved - reference) ** 2 > 4)
            violations += violators
            x = history.iterates[step + 1, :, 0, replica]
            if violations >= 4:
                assert taking[step] == 4
                np.testing.assert_allclose(x, moved.mean(), rtol=1e-13)
                violations = 0
                asked.append(step)
            else:
                assert (taking[step] > 0) == (violators > 0)
            if taking[step] == 4:
                reference = x[0]
        assert len(asked) >= 3
    assert (sent[0] != sent[1]).any()


def test_without_the_count_the_reference_would_stay_for_good():
    """Two who leave in opposite directions always meet again at the reference: they forced no average."""
    problem = rs.problems.DiagonalQuadratic(
        np.array([[1.0], [1.0], [0.0], [0.0]]), np.array([[9.0], [-9.0], [0.0], [0.0]])
    )
    algorithm = rs.algorithms.DynamicAveraging(threshold=1.0)
    frame = rs.simulate(
        problem, rs.topologies.ring(4), algorithm, learning_rate=0.5, steps=20
    ).frame
    # Both violate in every step; by every second one that makes four, and all are asked.
    assert frame.vectors_sent.diff()[1:].tolist() == [4, 8] * 10


@pytest.mark.usefixtures("step_by_step")
def test_consensus_control_keeps_workers_as_near_as_asked():
    problem, x0 = least_squares(8, 5, 4), starting_points(8, 5)
    ring, base = rs.topologies.ring(8), rs.algorithms.DPSGD()

    def run(target, **options):
        algorithm = rs.algorithms.ConsensusControl(base, target)
        options = {"learning_rate": 0.3, "steps": 40, "x0": x0} | options
        return rs.simulate(problem, ring, algorithm, **options)

    plain = rs.simulate(problem, ring, base, learning_rate=0.3, steps=40, x0=x0)
    free = run(math.inf)
    np.testing.assert_array_equal(free.x, plain.x)
    assert free.frame.vectors_sent.tolist() == plain.frame.vectors_sent.tolist()
    held = run(1e-4)
    assert held.frame.consensus_distance[1:].max() <= 1e-4
    assert plain.frame.consensus_distance[1:].min() > 1e-4
    phases = run(((0, math.inf), (20, 1e-4))).frame
    np.testing.assert_array_equal(
        phases.consensus_distance[:21], plain.frame.consensus_distance[:21]
    )
    assert phases.consensus_distance[21:].max() <= 1e-4
    rounds = held.frame.vectors_sent.diff()[1:] / 16
    assert (rounds == rounds.round()).all()
    assert rounds.max() > 2
    # Each replica for itself, in its rounds too.
    both = run(1e-4, learning_rate=[0.3, 0.0])
    one = both.frame[both.frame.replica == 0]
    assert one.vectors_sent.tolist() == held.frame.vectors_sent.tolist()
    still = both.frame[both.frame.replica == 1]
    assert (still.vectors_sent.diff()[20:] == 16).all()


def test_the_critical_distance_is_that_of_the_formula():
    critical = rs.algorithms.Critical(smoothness=2.0, sigma2=0.5)
    found = critical.distance(np.array([0.1, 0.2]), np.array([[3.0, 1.0], [4.0, 0.0]]), 5)
    np.testing.assert_allclose(found, [0.1 * 0.5 / 10 + 25 / 32, 0.2 * 0.5 / 10 + 1 / 32])


def test_options_of_consensus_control_are_checked():
    gossip = rs.algorithms.DPSGD()
    for target in (-1.0, np.nan, ((5, 0.1),), ((0, 0.1), (0, 0.2)), ()):
        with pytest.raises(ValueError, match=r"target must be|phases must begin"):
            rs.algorithms.ConsensusControl(gossip, target)
    for other in (rs.algorithms.RelaySGD(), rs.algorithms.AllReduce(), rs.algorithms.DPSGD):
        with pytest.raises(ValueError, match="needs a method that mixes"):
            rs.algorithms.ConsensusControl(other, 0.1)
    with pytest.raises(ValueError, match="give ConsensusControl the method of the inner one"):
        rs.algorithms.ConsensusControl(rs.algorithms.ConsensusControl(gossip, 0.1), 0.01)
    with pytest.raises(ValueError, match="smoothness must be positive"):
        rs.algorithms.Critical(smoothness=0.0)


def test_options_of_occasional_methods_are_checked():
    for options in ({"merge_at": 0}, {"merge_at": 5, "probability": 1.5}, {"merge_at": 2.5}):
        with pytest.raises((ValueError, TypeError), match="must be"):
            rs.algorithms.SingleMerge(**options)
    for options in ({"threshold": -1}, {"threshold": 1, "period": 0}, {"threshold": np.nan}):
        with pytest.raises(ValueError, match="must be"):
            rs.algorithms.DynamicAveraging(**options)
