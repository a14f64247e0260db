"""What a step of each method costs beside another's of its traffic: a new method is a new row."""

import numpy as np
import pytest
from test_steps import D, seconds_per_step

import relaysim as rs

N, REPLICAS = 32, 30
MOST = 2.5

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
    (rs.algorithms.D2(), 1, DPSGD),
    (rs.algorithms.D2(form="scaled"), 1, DPSGD),
    (rs.algorithms.ExactDiffusion(), 1, DPSGD),
    (rs.algorithms.NIDS(), 1, DPSGD),
    (rs.algorithms.DLM(), 1, DPSGD),
    (rs.algorithms.QuasiGlobalMomentum(), 1, DPSGD),
    (rs.algorithms.DecentLaM(), 1, DPSGD),
    (rs.algorithms.ClippedGossip(radius=1.0), 1, DPSGD),
    (rs.algorithms.Mudag(rounds=21, strong_convexity=0.1), 21, DPSGD),
    (rs.algorithms.LEAD(rs.compressors.Identity()), 1, DPSGD),
    (
        rs.algorithms.LEAD(rs.compressors.RandomRounding(2), consensus_rate=0.2),
        1,
        rs.algorithms.ChocoSGD(rs.compressors.RandomRounding(2), consensus_rate=0.2),
    ),
    (
        rs.algorithms.BEER(rs.compressors.RandomK(3), consensus_rate=0.1),
        2,
        rs.algorithms.ChocoSGD(rs.compressors.RandomK(3), consensus_rate=0.1),
    ),
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


#: Mixings that every replica draws, and a topology with the edges that they use.
RING, COMPLETE = rs.topologies.ring(N), rs.topologies.complete(N)
DRAWN = (
    (rs.mixing.random_matching(RING), RING),
    (rs.mixing.random_matching(COMPLETE), COMPLETE),
    (rs.mixing.equidyn(N), COMPLETE),
    (rs.mixing.epidemic(N, 2, oracle=True), COMPLETE),
    (rs.mixing.matcha(RING, 0.5), RING),
)


def stepping(algorithm, topology=RING, **options):
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    options |= {"topology": topology, "learning_rate": np.linspace(0.001, 0.02, REPLICAS)}

    def simulation(steps):
        rs.simulate(problem, algorithm=algorithm, steps=steps, record=[steps], **options)

    return simulation


@pytest.mark.parametrize(("algorithm", "traffic", "other"), METHODS, ids=repr)
def test_a_step_costs_little_more_than_anothers_at_the_same_traffic(
    benchmark, algorithm, traffic, other
):
    ratio = held_against(benchmark, stepping(algorithm), traffic, other)
    print(f"\n{algorithm!r}: {ratio:.2f} times {other.label}'s step")
    assert ratio < MOST


@pytest.mark.parametrize(("mixing", "topology"), DRAWN, ids=repr)
def test_a_drawn_mixing_costs_little_more_than_a_rings(benchmark, mixing, topology):
    """Rates with one seed; with a seed for each replica two to four times a ring's."""
    ratio = held_against(benchmark, stepping(DPSGD, topology, mixing=mixing), 1, DPSGD)
    print(f"\n{mixing!r}: {ratio:.2f} times a ring's step")
    assert ratio < MOST


def held_against(benchmark, simulation, traffic, other):
    """How many times a step of another method it takes at the traffic of so many of these."""
    benchmark.pedantic(simulation, args=(20,), rounds=1)
    if benchmark.disabled:
        return 0.0
    plain, own = [], []
    for _ in range(4):  # in turn, so that both meet the same load of other programs
        plain.append(seconds_per_step(stepping(other), 20, 520))
        own.append(seconds_per_step(simulation, 20, 520))
    benchmark.extra_info[f"times {other.label}'s step"] = ratio = min(own) / (traffic * min(plain))
    return ratio
