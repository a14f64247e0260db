"""What a step of each method costs beside DP-SGD's, on the same ring: a new method is a new row."""

import numpy as np
import pytest
from test_steps import D, seconds_per_step

import relaysim as rs

N, REPLICAS = 32, 30
MOST = 2.0

#: Those whose rule is more than one mixing: a method, and how many times DP-SGD's vectors it sends a step.
METHODS = (
    (rs.algorithms.FedAvg(local_steps=5), 1),
    (rs.algorithms.FedAvg(local_steps=5, participation=0.3), 1),
    (rs.algorithms.LocalSGD(period=5, growth=2, falls_to=0.1), 1),
)


def stepping(algorithm):
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    options = {"topology": rs.topologies.ring(N), "learning_rate": np.linspace(0.01, 0.2, REPLICAS)}

    def simulation(steps):
        rs.simulate(problem, algorithm=algorithm, steps=steps, record=[steps], **options)

    return simulation


@pytest.mark.parametrize(("algorithm", "traffic"), METHODS, ids=repr)
def test_a_step_costs_little_more_than_dpsgds_at_the_same_traffic(benchmark, algorithm, traffic):
    simulation = stepping(algorithm)
    benchmark.pedantic(simulation, args=(20,), rounds=1)
    if benchmark.disabled:
        return
    few, many = 20, 1020
    plain = seconds_per_step(stepping(rs.algorithms.DPSGD()), few, many)
    own = seconds_per_step(simulation, few, many)
    ratio = own / (traffic * plain)
    benchmark.extra_info["times DP-SGD's step"] = ratio
    print(f"\n{algorithm!r}: {own * 1e6:.0f} µs a step, {ratio:.2f} times DP-SGD's at its traffic")
    assert ratio < MOST
