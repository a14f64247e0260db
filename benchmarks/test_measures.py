"""What one more column costs, against the four that are there by themselves, in the same run."""

import time

import numpy as np
import pytest

import relaysim as rs

N, D, REPLICAS, STEPS = 32, 10, 30, 1000
ROUNDS = 15


def norm(iterates, problem):
    """(1/n) Σ_i ‖x_i‖²."""
    return np.einsum("tnd...,tnd...->t...", iterates, iterates) / N


def spread_of_mean(iterates, problem):
    """‖x̄‖²."""
    mean = iterates.mean(axis=1)
    return np.einsum("td...,td...->t...", mean, mean)


def of_first_worker(x):
    """‖x_0‖², of one record at a time."""
    return np.einsum("d...,d...->...", x[0], x[0])


FURTHER = {
    "max_consensus_distance": "max_consensus_distance",
    "worst_distance": "worst_distance",
    "norm": rs.measures.Measure("norm", norm),
    "mean": rs.measures.Measure("mean", spread_of_mean),
    "first": ("first", of_first_worker),
}


@pytest.mark.parametrize("name", FURTHER)
def test_one_more_column(benchmark, name):
    """At most a quarter of what the four cost; half where it subtracts from all iterates anew."""
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
    rates = np.linspace(0.01, 0.2, REPLICAS)

    def simulation(record=1, measures=None):
        begin = time.perf_counter()
        rs.simulate(
            problem,
            rs.topologies.chain(N),
            rs.algorithms.RelaySGD(),
            learning_rate=rates,
            steps=STEPS,
            record=record,
            measures=measures,
        )
        return time.perf_counter() - begin

    more = [FURTHER[name]]
    benchmark.pedantic(simulation, kwargs={"measures": more}, rounds=1, warmup_rounds=1)
    if benchmark.disabled:
        return
    # Turn by turn, so that what else the machine does falls on all of them.
    kinds = ({"record": [STEPS]}, {}, {"measures": more})
    times = np.array([[simulation(**kind) for kind in kinds] for _ in range(ROUNDS)])
    without, four, five = times.min(axis=0)
    share = (five - four) / (four - without)
    print(f"\n{name}: {share:.2f} of what the four columns cost ({(four - without) * 1e3:.0f} ms)")
    assert share <= (0.5 if name == "worst_distance" else 0.25)
