"""What a step costs: pytest benchmarks -n 0 --benchmark-enable -s

Machines differ, so every bound is a ratio to something measured in the same run: a plain NumPy loop
over workers, the products and copies that a step cannot do without, DP-SGD's step, or the time to copy the
bytes that it has to move. What is asked for and not reached here is an expected failure, with its number.
"""

import functools
import time
import tracemalloc

import numpy as np
import pytest
from floors import floors, least
from loops import dpsgd_loop, relaysgd_loop
from scipy.sparse import block_diag, random_array

import relaysim as rs
from relaysim.support.fast import compiled

D = 10
STEPS = 1000
LOOP_STEPS = 30


# By the clock: what is large may run in several threads.
best_of = functools.partial(least, clock=time.perf_counter)


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

    def simulation(learning_rate, steps, record=1):
        rates = {"learning_rate": learning_rate}
        return rs.simulate(problem, topology, algorithm, steps=steps, record=record, **rates)

    return simulation, loop


def reach(what, found, asked, at_least=True):
    """Print what was found; where it is not what is asked for, that is an expected failure."""
    print(f"{what}: {found:.2f}, asked {'≥' if at_least else '≤'} {asked}")
    if found < asked if at_least else found > asked:
        pytest.xfail(f"{what} is {found:.2f}; asked for: {asked}")


#: Times faster than the loop that are asked for, without Numba and with it, and what a step without columns
#: may be of its floor: see `floors`.
STEPS_ASKED = {
    ("RelaySGD", 32, 1): ((18, 30), 8),
    ("RelaySGD", 32, 30): ((110, 180), 10),
    ("RelaySGD", 96, 1): ((32, 55), 6),
    ("RelaySGD", 96, 30): ((100, 170), 10),
    ("DPSGD", 32, 1): (None, 6),
    ("DPSGD", 32, 30): (None, 6),
    ("DPSGD", 96, 1): (None, 5),
    ("DPSGD", 96, 30): (None, 5),
}


@pytest.mark.parametrize(("method", "n", "replicas"), STEPS_ASKED)
def test_step(benchmark, method, n, replicas):
    """A recorded step, per replica, against the loop; one without columns against its floor."""
    simulation, loop = setting(method, n)
    rates = 0.2 if replicas == 1 else np.linspace(0.01, 0.2, replicas)
    history = simulation(rates, LOOP_STEPS)
    _, table = loop(LOOP_STEPS)
    columns = ["suboptimality", "consensus_distance", "distance", "gradient_norm"]
    last = history.frame[history.frame.replica == replicas - 1][columns].to_numpy()
    np.testing.assert_allclose(last, table, rtol=1e-9, atol=1e-14)

    benchmark.pedantic(simulation, args=(rates, STEPS), rounds=3, warmup_rounds=2)
    if benchmark.disabled:
        return
    ours = least(9, lambda: simulation(rates, STEPS)) / STEPS / replicas
    theirs = least(9, lambda: loop(LOOP_STEPS)) / LOOP_STEPS
    bare = least(9, lambda: simulation(rates, STEPS, record=[STEPS])) / STEPS / replicas
    floor = sum(floors(n, D, replicas)) / replicas
    benchmark.extra_info["times faster than the loop"] = theirs / ours
    print(
        f"\n{method}, n = {n}, {replicas} replicas: {ours * 1e6:.2f} µs a step and replica, "
        f"loop {theirs * 1e6:.0f} µs: {theirs / ours:.1f} times faster; without columns "
        f"{bare * 1e6:.2f} µs, {bare / floor:.1f} times the floor"
    )
    asked, of_floor = STEPS_ASKED[method, n, replicas]
    assert bare <= of_floor * floor
    if asked is not None:
        reach("loop / step", theirs / ours, asked[compiled() is not None])


def test_steps_of_many_replicas(benchmark):
    """A replica of 300 takes at most 1.1 times one of 30."""
    simulation, _ = setting("RelaySGD", 32)
    benchmark.pedantic(simulation, args=(0.2, 10), rounds=1)
    if benchmark.disabled:
        return
    each = {
        r: least(5, lambda r=r: simulation(np.linspace(0.01, 0.2, r), 300)) / r for r in (30, 300)
    }
    reach("300 replicas / 30, per replica", each[300] / each[30], 1.1, at_least=False)


@pytest.mark.parametrize("method", ["RelaySGD", "D2", "GradientTracking"])
def test_step_beside_gossip(benchmark, method):
    """A step with all columns against DP-SGD's on the same problem."""
    problem = rs.problems.random_quadratics(n=32, d=D, zeta2=1.0, seed=0)

    def simulation(name):
        topology = rs.topologies.chain(32) if name == "RelaySGD" else rs.topologies.ring(32)
        algorithm = getattr(rs.algorithms, name)()
        rs.simulate(problem, topology, algorithm, learning_rate=0.05, steps=STEPS)

    benchmark.pedantic(simulation, args=(method,), rounds=1)
    if benchmark.disabled:
        return
    pairs = [
        (least(1, lambda: simulation(method)), least(1, lambda: simulation("DPSGD")))
        for _ in range(9)
    ]
    ratio = float(np.median([own / gossip for own, gossip in pairs]))
    reach(f"{method} / DP-SGD", ratio, 1.3 if compiled() is not None else 1.4, at_least=False)


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
    assert peak <= 8 * messages
    assert step <= 15 * tenth
    asked = 3.5 if compiled() is not None else 6
    reach("step / copy of what must move", factor, asked, at_least=False)


def logistic_problem(n, m, p):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(n, m, p))
    return rs.problems.Logistic(features, generator.integers(0, 2, (n, m)), 0.01)


@pytest.mark.parametrize("replicas", [1, 30])
def test_logistic_step(benchmark, replicas):
    """A step of RelaySGD on 16 workers × 36 examples × 30 features, with all columns and without."""
    problem = logistic_problem(16, 36, 30)
    problem.optimum  # noqa: B018
    topology = rs.topologies.chain(16)
    rates = 0.1 if replicas == 1 else np.linspace(0.01, 0.3, replicas)

    def simulation(record=1):
        options = {"learning_rate": rates, "steps": STEPS, "record": record}
        rs.simulate(problem, topology, rs.algorithms.RelaySGD(), **options)

    benchmark.pedantic(simulation, rounds=2, warmup_rounds=1)
    if benchmark.disabled:
        return
    x = np.random.default_rng(1).normal(size=(16, 30) if replicas == 1 else (16, 30, replicas))
    out = np.empty_like(x)
    # f(x̄) and its gradient look at every example once more, as the gradients of a step do.
    gradient = least(9, lambda: [problem.gradient(x, out) for _ in range(100)]) / 100 / replicas
    pairs = np.array(
        [(least(1, simulation), least(1, lambda: simulation([STEPS]))) for _ in range(9)]
    )
    with_columns, bare = pairs.min(axis=0) / STEPS / replicas
    print(
        f"\nlogistic, {replicas} replicas: {bare * 1e6:.1f} µs a step and replica, "
        f"{with_columns * 1e6:.1f} with all columns, {gradient * 1e6:.1f} for gradients alone"
    )
    assert bare <= 2.5 * gradient + 30e-6 / replicas
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    reach("all columns / without", ratio, 1.4, at_least=False)


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
