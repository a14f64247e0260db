"""Claim: after τ_max rounds relayed sums hold every worker exactly once, and not before; one-peer
exponential gossip averages exactly in log₂ n steps if n is a power of two, and else in no number of them.

Source: Vogels et al., "RelaySum", NeurIPS 2021; Assran et al., "Stochastic gradient push", ICML 2019,
and Ying et al., "Exponential graph is provably efficient", NeurIPS 2021.
Tight: sums of unit vectors are sums of ones without rounding.
"""

import numpy as np
import pytest
from claims import Constant, tight

import relaysim as rs
from relaysim.network import Network

TOPOLOGIES = [
    rs.topologies.chain(9),
    rs.topologies.star(9),
    rs.topologies.binary_tree(20),
    rs.topologies.double_binary_tree(20),
]
over_topologies = pytest.mark.parametrize("topology", TOPOLOGIES, ids=repr)


@pytest.mark.parametrize("overlap", [False, True])
@over_topologies
def test_relayed_sums_are_uniform_once_the_pipeline_is_full(topology, overlap):
    """With constant gradients everyone then moves along the mean gradient, and no one before."""
    gradients = np.random.default_rng(0).normal(size=(topology.n, 3))
    rate, filled = 0.1, topology.diameter if overlap else topology.diameter - 1
    iterates = rs.simulate(
        Constant(gradients),
        topology,
        rs.algorithms.RelaySGDGrad(overlap=overlap),
        learning_rate=rate,
        steps=filled + 5,
        keep_iterates=True,
    ).iterates
    moves = np.diff(iterates, axis=0)
    error = np.abs(moves + rate * gradients.mean(axis=0)).max(axis=(1, 2))
    tight(error[filled:], 0.0, 1e-14, scale=1.0)
    assert (error[:filled] > 1e-3).all()


@over_topologies
def test_every_payload_is_counted_once(topology):
    """Worker j sends the unit vector j, on both trees where there are two."""
    n = topology.n
    payload = np.repeat(np.eye(n), 2, axis=1)
    network = Network(topology)
    mail = network.empty_mail(payload)
    for round in range(topology.diameter + 3):
        mail = network.relay(payload, mail)
        received, missing = network.inbox(mail)
        complete = round >= topology.diameter - 1
        assert np.array_equal(payload + received, np.ones((n, 2 * n))) == complete
        assert (missing is None or not np.any(missing)) == complete


@pytest.mark.parametrize("n", [2, 4, 16])
def test_exponential_gossip_averages_exactly_in_log_n_steps(n):
    distances = consensus_distances(n, periods=1)
    assert len(distances) == 1 + np.log2(n)
    tight(distances[-1], 0.0, 1e-30, scale=1.0)
    assert (distances[:-1] > 1e-3).all()


@pytest.mark.parametrize("n", [3, 6, 12])
def test_for_other_sizes_it_never_does(n):
    assert (consensus_distances(n, periods=3) > 1e-12).all()


def consensus_distances(n, periods):
    mixing = rs.mixing.one_peer_exponential(n)
    return rs.simulate(
        Constant(np.ones((n, 3))),
        rs.topologies.exponential(n),
        rs.algorithms.DPSGD(),
        mixing=mixing,
        learning_rate=0,
        steps=periods * len(mixing),
        x0=np.random.default_rng(0).normal(size=(n, 3)),
    ).frame.consensus_distance.to_numpy()
