"""What faults cost: a recorded step with them against one without, in pairs of one run.

Measured: with 100 numbers a vector, 1.3 to 1.4 steps without, on the ring and on the torus, for losses,
bursts and links alike; on the torus with 20, 1.9 to 2.0. What is lost is taken away number by number, as
replicas lie last; to take out whole rows and put them back, or to do it in blocks that fit in cache, is no
faster.
"""

import statistics
import time

import pytest

import relaysim as rs

STEPS, REPLICAS, PAIRS = 100, 30, 5
#: With a slack: a step of short vectors on many edges costs little, and losses are drawn for every edge.
SIZES = {
    "ring(32), d = 100": (rs.topologies.ring(32), 100, 1.0),
    "torus(8, 8), d = 100": (rs.topologies.torus(8, 8), 100, 1.0),
    "torus(8, 8), d = 20": (rs.topologies.torus(8, 8), 20, 1.5),
}


def seconds(problem, topology, faults):
    begin = time.process_time()
    rs.simulate(
        problem,
        topology,
        rs.algorithms.DPSGD(),
        learning_rate=0.1,
        steps=STEPS,
        faults=faults,
        replicas=REPLICAS,
        keep_state=False,
        progress=False,
    )
    return time.process_time() - begin


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("faults", "most"),
    [
        (rs.faults.MessageDrop(0.1), 1.5),
        (rs.faults.BurstLoss(0.05, 0.45), 2.0),
        (rs.faults.LinkFailure(0.05, 0.45), 2.0),
    ],
    ids=repr,
)
def test_gossip_that_loses_a_tenth_of_its_messages(size, faults, most):
    """The median over pairs of a run of 30 replicas with and without faults."""
    topology, d, slack = SIZES[size]
    problem = rs.problems.random_quadratics(n=topology.n, d=d, zeta2=1.0, seed=0)
    seconds(problem, topology, faults)
    pairs = [
        (seconds(problem, topology, faults), seconds(problem, topology, None)) for _ in range(PAIRS)
    ]
    ratio = statistics.median(slow / plain for slow, plain in pairs)
    print(f"\n{size}, {faults!r}: {ratio:.2f} steps without")
    assert ratio <= slack * most
