"""Asynchronous methods: time per unit, beside what its gradients cost alone."""

import numpy as np
import pytest
from floors import least
from test_steps import reach

import relaysim as rs

N, D, UNITS = 64, 100, 1000


@pytest.mark.parametrize(("replicas", "seconds"), [(None, 1), (30, 30)])
def test_a_thousand_units(benchmark, replicas, seconds):
    """64 workers, d = 100, 1000 units of A²CiD² at one communication a gradient."""
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, mu=0.25, seed=0)
    topology = rs.topologies.ring(N)
    units = UNITS if benchmark.enabled else 5

    def simulation():
        return rs.simulate(
            problem,
            topology,
            rs.algorithms.A2CiD2(),
            learning_rate=0.05,
            steps=units,
            replicas=replicas,
        )

    history = benchmark.pedantic(simulation, rounds=1)
    assert history.frame.suboptimality.iloc[-1] < history.frame.suboptimality.iloc[0]
    if not benchmark.enabled:
        return
    took = least(5 if replicas is None else 1, simulation)
    x = np.zeros((N, D) if replicas is None else (N, D, replicas))
    gradient = least(5, lambda: [problem.gradient(x) for _ in range(100)]) / 100
    print(
        f"\n{replicas or 1} replicas: {took:.2f} s for {units} units, "
        f"{took / units / gradient:.1f} times the gradients of all workers a unit"
    )
    reach(f"{units} units of {replicas or 1} replicas, in seconds", took, seconds, at_least=False)
