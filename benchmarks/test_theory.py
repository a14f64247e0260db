"""What exact analysis costs: pytest benchmarks -n 0 --benchmark-enable -s -k theory"""

import time

import numpy as np
import pytest

import relaysim as rs

N, D = 96, 10
# Seconds; without momentum, and with it. Limits of a slow machine: they are not ratios.
SECONDS, SECONDS_WITH_MOMENTUM = 10, 25


@pytest.mark.parametrize("name", ["chain", "binary_tree", "star"])
@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.RelaySGD(),
        rs.algorithms.RelaySGD(momentum=0.9),
        rs.algorithms.RelaySGDGrad(),
        rs.algorithms.RelaySGDGrad(momentum=0.5),
        rs.algorithms.DPSGD(),
        rs.algorithms.D2(),
        rs.algorithms.GradientTracking(),
        rs.algorithms.QuasiGlobalMomentum(),
        rs.algorithms.SGP(),
        rs.algorithms.AllReduce(momentum=0.9),
    ],
    ids=repr,
)
def test_spectral_radius(benchmark, name, algorithm):
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    topology = getattr(rs.topologies, name)(N)

    def find():
        return rs.theory.linearize(problem, topology, algorithm, 0.3).spectral_radius

    begin = time.perf_counter()
    benchmark.pedantic(find, rounds=1)
    limit = SECONDS_WITH_MOMENTUM if getattr(algorithm, "momentum", 0) else SECONDS
    assert time.perf_counter() - begin < limit


@pytest.mark.parametrize("make", [rs.topologies.chain, rs.topologies.binary_tree])
def test_correction_factor(benchmark, make):
    n = 10**6
    topology = make(n)
    begin = time.perf_counter()
    factor = benchmark.pedantic(rs.theory.correction_factor, args=(topology,), rounds=1)
    assert time.perf_counter() - begin < 2
    if make is rs.topologies.chain:
        np.testing.assert_allclose(factor, (n**2 + 2) / (3 * n), rtol=1e-12)


def seconds(work):
    """Of this process alone."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_a_search_over_rates_costs_much_less_than_its_rates_one_by_one():
    problem = rs.problems.random_quadratics(n=32, d=10, zeta2=1.0, seed=0)
    topology, algorithm = rs.topologies.chain(32), rs.algorithms.RelaySGD()
    search = seconds(lambda: rs.theory.stable_learning_rates(problem, topology, algorithm))
    rates = np.geomspace(0.01, 10, 8)
    one = seconds(
        lambda: [
            rs.theory.linearize(problem, topology, algorithm, rate).spectral_radius
            for rate in rates
        ]
    )
    assert search < 0.9 * 105 / len(rates) * one  # about 105 rates are tried


def test_equal_hessians_decouple_by_the_modes_of_the_mixing():
    problem = rs.problems.DiagonalQuadratic(np.ones((1000, 1)), np.arange(1000.0)[:, None])
    ring = rs.topologies.ring(1000)
    taken = seconds(
        lambda: rs.theory.stable_learning_rates(problem, ring, rs.algorithms.D2(), progress=False)
    )
    assert taken < 15  # 133 when all modes were taken together


def test_what_is_sparse_stays_sparse():
    ring = rs.topologies.ring(10**4)
    assert seconds(lambda: rs.theory.acceleration_constants(ring)) < 15  # 133 as dense matrices
    W = rs.mixing.metropolis(rs.topologies.ring(5000))
    assert seconds(lambda: rs.theory.effective_neighbors(W, 0.9)) < 5  # 22
    assert seconds(lambda: rs.theory.key_lemma(rs.topologies.star(512))) < 5  # 30
    assert seconds(lambda: rs.theory.key_lemma(rs.topologies.chain(64))) < 10  # 157
