"""What a step costs: pytest benchmarks -n 0 --benchmark-enable -s

Machines differ, so every bound is a ratio to something measured in the same run: a plain NumPy loop
over workers, or the time to copy the bytes that a step has to move.
"""

import time
import tracemalloc

import numpy as np
import pytest
from loops import dpsgd_loop, relaysgd_loop
from scipy.sparse import block_diag, random_array

import relaysim as rs

D = 10
STEPS = 1000
LOOP_STEPS = 30


def best_of(times, function):
    """The shortest of several timings: the one with the least noise of other programs in it."""
    durations = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        durations.append(time.perf_counter() - begin)
    return min(durations)


def setting(method, n):
    """The simulation of a method on n workers, and the same one as a loop over workers."""
    problem = rs.problems.random_quadratics(n=n, d=D, zeta2=1.0, seed=0)
    A, b = problem.A.copy(), problem.b.copy()
    hessian = np.einsum("nij,nik->jk", A, A) / n
    common = (problem.optimum, hessian)
    if method == "RelaySGD":
        topology, algorithm = rs.topologies.chain(n), rs.algorithms.RelaySGD()
        graph = topology.to_networkx()
        neighbours = [sorted(graph[i]) for i in range(n)]

        def loop(steps):
            return relaysgd_loop(A, b, neighbours, 0.2, steps, *common)
    else:
        topology, algorithm = rs.topologies.ring(n), rs.algorithms.DPSGD()
        W = rs.mixing.metropolis(topology).toarray()

        def loop(steps):
            return dpsgd_loop(A, b, W, 0.2, steps, *common)

    def simulation(learning_rate, steps):
        return rs.simulate(problem, topology, algorithm, learning_rate=learning_rate, steps=steps)

    return simulation, loop


@pytest.mark.parametrize(
    ("method", "n", "replicas", "times_faster"),
    [
        ("RelaySGD", 32, 1, 15),
        ("RelaySGD", 32, 30, 90),
        ("RelaySGD", 96, 1, 28),
        ("RelaySGD", 96, 30, None),
        ("DPSGD", 32, 1, None),
        ("DPSGD", 32, 30, None),
        ("DPSGD", 96, 1, None),
        ("DPSGD", 96, 30, None),
    ],
)
def test_step(benchmark, method, n, replicas, times_faster):
    """A recorded step, per replica, against the loop."""
    simulation, loop = setting(method, n)
    rates = 0.2 if replicas == 1 else np.linspace(0.01, 0.2, replicas)
    history = simulation(rates, LOOP_STEPS)
    _, table = loop(LOOP_STEPS)
    columns = ["suboptimality", "consensus_distance", "distance", "gradient_norm"]
    last = history.frame[history.frame.replica == replicas - 1][columns].to_numpy()
    np.testing.assert_allclose(last, table, rtol=1e-9, atol=1e-14)

    benchmark.pedantic(simulation, args=(rates, STEPS), rounds=9, warmup_rounds=2)
    if benchmark.disabled:
        return
    ours = benchmark.stats.stats.min / STEPS / replicas
    theirs = best_of(9, lambda: loop(LOOP_STEPS)) / LOOP_STEPS
    benchmark.extra_info["times faster than the loop"] = theirs / ours
    print(
        f"\n{method}, n = {n}, {replicas} replicas: {ours * 1e6:.2f} µs a step and replica, "
        f"loop {theirs * 1e6:.0f} µs: {theirs / ours:.1f} times faster"
    )
    if times_faster is not None:
        assert theirs / ours >= times_faster


def large_setting(n):
    """RelaySGD on a binary tree of n workers with diagonal quadratics."""
    generator = np.random.default_rng(0)
    problem = rs.problems.DiagonalQuadratic(
        generator.uniform(0.25, 1, (n, D)), generator.normal(size=(n, D))
    )
    topology = rs.topologies.binary_tree(n)

    def simulation(steps):
        return rs.simulate(
            problem,
            topology,
            rs.algorithms.RelaySGD(),
            learning_rate=0.2,
            steps=steps,
            record=[steps],
        )

    return simulation


def seconds_per_step(simulation, few=3, many=43):
    """Time of a step beyond set-up: of the difference between a long and a short run."""
    short, long = (best_of(3, lambda steps=steps: simulation(steps)) for steps in (few, many))
    return (long - short) / (many - few)


def copy_bandwidth():
    """Bytes a second that one thread moves (reads and writes) when copying a large array."""
    source = np.ones(64 * 1024 * 1024 // 8 * 8)
    target = np.empty_like(source)
    return 2 * source.nbytes / best_of(5, lambda: np.copyto(target, source))


def test_million_workers(benchmark):
    """A step on 10⁶ workers against the bytes that it has to move, and its memory."""
    if benchmark.disabled:
        pytest.skip("takes a minute; run with --benchmark-enable")
    n = 10**6
    messages = 2 * (n - 1) * D * 8
    iterates = n * D * 8
    # x, curvatures and centres, and messages: read; x and messages: written.
    moved = 2 * iterates + 2 * iterates + 2 * messages

    simulation = large_setting(n)
    benchmark.pedantic(simulation, args=(3,), rounds=1)
    step = seconds_per_step(simulation)
    bandwidth = copy_bandwidth()
    factor = step / (moved / bandwidth)

    tenth = seconds_per_step(large_setting(n // 10))
    del simulation
    tracemalloc.start()
    large_setting(n)(3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    benchmark.extra_info["times the copy"] = factor
    print(
        f"\n10⁶ workers: {step:.3f} s a step, {factor:.1f} times the copy of what it must move "
        f"({moved / 1e6:.0f} MB at {bandwidth / 1e9:.1f} GB/s); peak memory "
        f"{peak / messages:.1f} arrays of messages; 10⁵ workers: {tenth:.4f} s a step"
    )
    assert factor <= 12
    assert peak <= 8 * messages
    assert step <= 15 * tenth


def logistic_problem(n, m, p):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(n, m, p))
    return rs.problems.Logistic(features, generator.integers(0, 2, (n, m)), 0.01)


@pytest.mark.parametrize("columns", ["without recording", "all columns"])
@pytest.mark.parametrize("replicas", [1, 30])
def test_logistic_step(benchmark, replicas, columns):
    """A step of RelaySGD on 16 workers × 36 examples × 30 features."""
    problem = logistic_problem(16, 36, 30)
    problem.optimum  # noqa: B018
    topology = rs.topologies.chain(16)
    rates = 0.1 if replicas == 1 else np.linspace(0.01, 0.3, replicas)
    record = [STEPS] if columns == "without recording" else 1

    def simulation():
        rs.simulate(
            problem,
            topology,
            rs.algorithms.RelaySGD(),
            learning_rate=rates,
            steps=STEPS,
            record=record,
        )

    benchmark.pedantic(simulation, rounds=9, warmup_rounds=2)
    if benchmark.disabled:
        return
    each = benchmark.stats.stats.min / STEPS / replicas * 1e6
    print(f"\nlogistic, {replicas} replicas, {columns}: {each:.1f} µs a step and replica")
    most = {(1, "without recording"): 60, (30, "without recording"): 12, (30, "all columns"): 20}
    if (replicas, columns) in most:
        assert each < most[replicas, columns]


def test_logistic_gradient_against_its_matrix_products(benchmark):
    """64 workers × 1000 examples × 100 features: at most 1.5 times the two bare products."""
    problem = logistic_problem(64, 1000, 100)
    generator = np.random.default_rng(1)
    features, x = generator.normal(size=(64, 1000, 100)), generator.normal(size=(64, 100))
    out = np.empty_like(x)

    def bare():
        np.matmul(features.transpose(0, 2, 1), np.matmul(features, x[:, :, None]))

    benchmark.pedantic(lambda: problem.gradient(x, out), rounds=15, warmup_rounds=2)
    if benchmark.disabled:
        return
    ratio = benchmark.stats.stats.min / best_of(15, bare)
    print(f"\ndense logistic gradient: {ratio:.2f} times its two matrix products")
    assert ratio <= 1.5


def test_sparse_logistic_step(benchmark):
    """100,000 examples × 2000 features, 1 % of them, over 64 workers: against the bare products."""
    generator = np.random.default_rng(0)
    features = random_array((100_000, 2000), density=0.01, format="csr", rng=generator)
    labels = generator.integers(0, 2, 100_000)
    data = features.data.nbytes + features.indices.nbytes + features.indptr.nbytes
    partition = rs.problems.partitions.iid(labels, 64)
    tracemalloc.start()
    problem = rs.problems.Logistic(features, labels, 0.01, partition=partition)
    memory = 1 + tracemalloc.get_traced_memory()[1] / data
    tracemalloc.stop()
    assert memory <= 3
    of_workers = block_diag([features[index] for index in partition.indices], format="csr")
    transposed, x = of_workers.T, generator.normal(size=(64, 2000))

    def bare():
        transposed @ (of_workers @ x.ravel())

    problem.optimum  # noqa: B018

    def simulation(steps):
        rs.simulate(
            problem,
            rs.topologies.ring(64),
            rs.algorithms.DPSGD(),
            learning_rate=0.1,
            steps=steps,
            record=[steps],
        )

    benchmark.pedantic(simulation, args=(3,), rounds=3)
    if benchmark.disabled:
        return
    ratio = seconds_per_step(simulation) / best_of(20, bare)
    print(f"\nsparse logistic step: {ratio:.2f} times its two products; memory {memory:.2f} × data")
    assert ratio <= 1.5
