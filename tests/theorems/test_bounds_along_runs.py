"""Claim: theorems with verified constants lie above what they bound, in every step of a run.

Source: as in each function of `relaysim.theory.bounds`, where they are proved.
A bound, and not an empty one: without a plateau it falls to a hundredth within each of the runs.
"""

import numpy as np
import pytest
from claims import bounded

import relaysim as rs
from relaysim.theory.bounds import bounds_for

N = 8
START = np.random.default_rng(7).normal(size=(N, 3))
RANDOM = rs.problems.random_quadratics(n=N, d=3, zeta2=4.0, mu=0.2, r0=3.0, seed=5)
EQUAL = rs.problems.random_quadratics(n=N, d=3, zeta2=4.0, mu=0.6, smoothness=0.6, r0=3.0, seed=6)
APART = rs.problems.random_quadratics(n=N, d=3, zeta2=1e4, mu=0.6, smoothness=0.6, r0=0.1, seed=6)
GOSSIP, MIX_FIRST = rs.algorithms.DPSGD(), rs.algorithms.DPSGD(overlap=True)
RELAY, RELAY_LATER = rs.algorithms.RelaySGD(), rs.algorithms.RelaySGD(overlap=True)
CHAIN, RING, STAR, TREE = (
    rs.topologies.chain(N),
    rs.topologies.ring(N),
    rs.topologies.star(N),
    rs.topologies.binary_tree(N),
)
RUNS = [
    (RANDOM, RING, rs.algorithms.AllReduce(), "all_reduce"),
    (RANDOM, RING, GOSSIP, "dp_sgd"),
    (RANDOM, CHAIN, GOSSIP, "dp_sgd"),
    (RANDOM, RING, MIX_FIRST, "dp_sgd"),
    (EQUAL, CHAIN, RELAY, "relay_sgd_equal_hessians"),
    (EQUAL, CHAIN, RELAY_LATER, "relay_sgd_equal_hessians"),
    (EQUAL, STAR, RELAY, "relay_sgd_equal_hessians"),
    (EQUAL, TREE, RELAY, "relay_sgd_equal_hessians"),
    (APART, CHAIN, RELAY, "relay_sgd_equal_hessians"),
]
over_runs = pytest.mark.parametrize(
    ("problem", "topology", "algorithm", "name"),
    RUNS,
    ids=[f"{k}: {method.label}, {topology!r}" for k, (_, topology, method, _) in enumerate(RUNS)],
)


@over_runs
@pytest.mark.parametrize("rate", [0.03, 0.5])
@pytest.mark.parametrize("x0", [None, START], ids=["together", "apart"])
def test_the_bound_is_above_the_run(problem, topology, algorithm, name, rate, x0):
    setting = (problem, topology, algorithm, rate)
    (bound,) = [b for b in bounds_for(*setting, x0=x0) if b.verified_constants]
    assert bound.name == name
    steps = int(60 / rate)
    frame = rs.simulate(*setting[:3], learning_rate=rate, steps=steps, x0=x0).frame
    claimed = bound.curve(frame.step)
    # Below this both are rounding.
    seen = claimed > 1e-18
    bounded(frame[bound.quantity][seen], claimed[seen])
    if name != "dp_sgd":
        assert claimed[-1] < claimed[0] / 100


@pytest.mark.parametrize("rate", [0.03, 0.5])
@over_runs
def test_with_noise_the_bound_is_above_the_exact_noise_floor(
    problem, topology, algorithm, name, rate
):
    setting = (problem, topology, algorithm, rate)
    (bound,) = [b for b in bounds_for(*setting, sigma2=2.0) if b.verified_constants]
    floor = rs.theory.linearize(*setting).stationary(2.0)[bound.quantity]
    bounded(floor, bound.curve(1e7))


@pytest.mark.parametrize("overlap", [False, True], ids=["step, mix", "mix, step"])
@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5])
def test_plateaus_of_gossip_are_below_theirs_and_not_far(overlap, rate):
    """Optima along the slowest mode of the ring, where gossip averages worst."""
    slowest = np.cos(2 * np.pi * np.arange(N) / N)[:, None]
    problem = rs.problems.DiagonalQuadratic(np.ones((N, 1)), 3 * slowest)
    setting = (problem, RING, rs.algorithms.DPSGD(overlap=overlap), rate)
    (found,) = [b for b in bounds_for(*setting) if b.verified_constants]
    bound = rs.theory.bounds.dp_sgd(**found.constants, overlap=overlap, quantity="distance")
    plateau = rs.theory.linearize(*setting).stationary(0.0).distance
    bounded(plateau, bound.curve(1e7))
    if rate < 0.01:
        bounded(bound.curve(1e7), 4.5 * plateau)


@pytest.mark.parametrize("theorem", ["all_reduce_convex", "all_reduce_nonconvex"])
@pytest.mark.parametrize("rate", [0.1, 1.0, 1.9])
def test_running_means_are_below_their_bounds(theorem, rate):
    """An almost flat direction, of which the strongly convex theorem would make nothing."""
    flat = rs.problems.DiagonalQuadratic(h=np.tile([1.0, 1e-2, 1e-5], (N, 1)), centers=START)
    excess = flat.value(np.zeros(3)) - flat.value(flat.optimum)
    start = {
        "all_reduce_convex": {"initial_distance": flat.optimum @ flat.optimum},
        "all_reduce_nonconvex": {"initial_suboptimality": excess},
    }
    bound = getattr(rs.theory.bounds, theorem)(
        n=N, mean_smoothness=1.0, learning_rate=rate, **start[theorem]
    )
    frame = rs.simulate(flat, RING, rs.algorithms.AllReduce(), learning_rate=rate, steps=200).frame
    bounded(bound.measured(frame.step, frame[bound.quantity])[1:], bound.curve(frame.step)[1:])
