"""Claim: when every worker draws a sample of variance 1 each step, the estimates of the mean after T
steps have the mean squared errors

    relayed, sum over count, worker i:  1 / Σ_j max(0, T − τ_ij);
    gossip x ← W(x + (s − x)/(t + 1)), averaged over workers:  (1/T²) Σ_{k=1}^T (1/n) Σ_l λ_l^{2k},

λ_l the eigenvalues of a symmetric W.

Source: Vogels et al., "RelaySum", NeurIPS 2021, algorithm 5 and figure 9; closed forms derived here.
Tight, without sampling: estimates are linear in the samples, and the sum of squares of their weights,
which sum to 1, is the variance. Samples are unit vectors here, so that estimates are their weights.
"""

import numpy as np
import pytest
from claims import delays, random_tree, tight

import relaysim as rs
from relaysim.network import Network

STEPS = 14


def unit_samples(n):
    """The sample of worker i at step t, ``(STEPS, n, STEPS n)``."""
    return np.eye(STEPS * n).reshape(STEPS, n, STEPS * n)


@pytest.mark.parametrize(
    "topology",
    [
        rs.topologies.chain(8),
        rs.topologies.star(8),
        rs.topologies.binary_tree(10),
        random_tree(9, seed=6),
    ],
    ids=repr,
)
def test_relayed_estimates(topology):
    n, tau = topology.n, delays(topology, overlap=False)
    network, total, count = Network(topology), 0.0, 0.0
    mail = network.empty_mail(unit_samples(n)[0])
    for steps, sample in enumerate(unit_samples(n), start=1):
        mail = network.relay(sample, mail)
        received, missing = network.inbox(mail)
        total = total + sample + received
        count = count + n - (0 if missing is None else missing)
        weights = total / count
        tight(weights.sum(axis=1), 1.0, 1e-13)
        tight((weights**2).sum(axis=1), 1 / np.maximum(0, steps - tau).sum(axis=1), 1e-12)


@pytest.mark.parametrize(
    "topology",
    [rs.topologies.ring(9), rs.topologies.star(6), rs.topologies.torus(3, 4)],
    ids=repr,
)
def test_gossip_estimates(topology):
    n, W = topology.n, rs.mixing.metropolis(topology)
    eigenvalues = np.linalg.eigvalsh(W.toarray())
    network, x = Network(topology, (W,)), np.zeros((n, STEPS * n))
    for t, sample in enumerate(unit_samples(n)):
        x = network.mix(x + (sample - x) / (t + 1), t)
        powers = [(eigenvalues ** (2 * k)).mean() for k in range(1, t + 2)]
        tight(x.sum(axis=1), 1.0, 1e-13)
        tight((x**2).sum(axis=1).mean(), sum(powers) / (t + 1) ** 2, 1e-12)
