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
