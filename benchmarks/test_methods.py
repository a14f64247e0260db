"""What a step of each method costs beside another's of its traffic: a new method is a new row."""

import numpy as np
import pytest
from test_steps import D, seconds_per_step

import relaysim as rs

N, REPLICAS = 32, 30
MOST = 2.0

DPSGD = rs.algorithms.DPSGD()
#: A method, how many times the vectors of another it sends a step, and that one: DP-SGD, or for those that
#: compress the CHOCO-SGD that sends as little.
METHODS = (
    (rs.algorithms.FedAvg(local_steps=5), 1, DPSGD),
    (rs.algorithms.FedAvg(local_steps=5, participation=0.3), 1, DPSGD),
    (rs.algorithms.LocalSGD(period=5, growth=2, falls_to=0.1), 1, DPSGD),
    (rs.algorithms.LocalRates(switch=500), 1, DPSGD),
    (rs.algorithms.DSGDAC(power=3), 1, DPSGD),
    (rs.algorithms.DPSGD(overlap=True, consensus=0.1), 1, DPSGD),
    (rs.algorithms.DecentralizedAdam(), 1, DPSGD),
    (rs.algorithms.NormalizedTracking(), 2, DPSGD),
    (
        rs.algorithms.AdaGossip(rs.compressors.TopK(3), consensus_rate=0.1),
        1,
        rs.algorithms.ChocoSGD(rs.compressors.TopK(3), consensus_rate=0.1),
    ),
    (
        rs.algorithms.Cesar(share=0.4),
        1,
        rs.algorithms.ChocoSGD(rs.compressors.RandomK(2), consensus_rate=0.1),
    ),
)


def stepping(algorithm):
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    options = {"topology": rs.topologies.ring(N), "learning_rate": np.linspace(0.01, 0.2, REPLICAS)}

    def simulation(steps):
        rs.simulate(problem, algorithm=algorithm, steps=steps, record=[steps], **options)

    return simulation


@pytest.mark.parametrize(("algorithm", "traffic", "other"), METHODS, ids=repr)
def test_a_step_costs_little_more_than_anothers_at_the_same_traffic(
    benchmark, algorithm, traffic, other
):
    simulation = stepping(algorithm)
    benchmark.pedantic(simulation, args=(20,), rounds=1)
    if benchmark.disabled:
        return
    plain, own = [], []
    for _ in range(4):  # in turn, so that both meet the same load of other programs
        plain.append(seconds_per_step(stepping(other), 20, 520))
        own.append(seconds_per_step(simulation, 20, 520))
    ratio = min(own) / (traffic * min(plain))
    benchmark.extra_info[f"times {other.label}'s step"] = ratio
    print(f"\n{algorithm!r}: {min(own) * 1e6:.0f} µs a step, {ratio:.2f} times {other.label}'s")
    assert ratio < MOST
