"""How information spreads: whose contributions a relayed sum holds, beside the weights of gossip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from relaysim.mixing import metropolis
from relaysim.mixing.sequences import Mixing, as_sequence
from relaysim.network import Network
from relaysim.support.checks import shown, whole_number
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots import RelayAnimation

__all__ = ["relay_animation"]


def relay_animation(
    topology: Topology,
    *,
    worker: int | None = None,
    rounds: int | None = None,
    gossip: Topology | None = None,
    mixing: Mixing | None = None,
) -> RelayAnimation:
    """Show whose contributions every worker's sum holds, round by round, beside the weights of gossip.

    Left, RelaySum as `relaysim.algorithms.RelaySGD` uses it: the sum Σ_j s_j^{t−τ_ij} that worker i has
    after t rounds, over the number of workers that it holds. Numbers are ages, in rounds: τ_ij = max(0,
    d_ij − 1), d_ij being hops. Right, gossip: what is left of everyone's vector after t rounds of
    averaging with neighbours, W_{t−1} ⋯ W_0. Matrices have a row for each worker; the graphs above show
    the row of one of them.

    Args:
        topology: a tree.
        worker: the one whose row the graphs show; by default one of those who wait longest for the others.
        rounds: how many; until every sum holds all workers and a few more by default.
        gossip: the graph that gossip uses, over the same workers; the tree itself by default.
        mixing: its matrix, or a sequence of them, as for `relaysim.simulate`; Metropolis weights by
            default.

    Returns:
        A `relaysim.plots.RelayAnimation`. It plays where a notebook shows it; ``save("relay.gif")`` keeps it.

    Raises:
        ValueError: no tree, graphs of different size, a worker that is not there.

    >>> import relaysim as rs
    >>> animation = rs.analysis.relay_animation(rs.topologies.chain(4), rounds=2)
    >>> animation.relay[2].round(2).tolist()[0], animation.age[2].tolist()[0]
    ([0.33, 0.33, 0.33, 0.0], [0.0, 0.0, 1.0, nan])
    >>> animation.gossip[2].round(2).tolist()[0]
    [0.56, 0.33, 0.11, 0.0]
    """
    from relaysim import plots

    if isinstance(topology, TreePair):
        raise TypeError(
            "each tree of a pair relays half of the coordinates; show one: topology.first or .second"
        )
    if not isinstance(topology, Topology):
        raise TypeError(f"RelaySum needs a tree, not {shown(topology)}")
    if not topology.is_tree:
        raise ValueError(
            f"RelaySum needs a tree: this topology has {topology.n} workers and "
            f"{len(topology.edges)} edges; use relaysim.topologies.spanning_tree(topology), and "
            f"gossip=topology to compare it with gossip on the whole graph"
        )
    gossip = topology if gossip is None else gossip
    if not isinstance(gossip, Topology) or gossip.n != topology.n:
        raise ValueError(
            f"gossip must be a Topology over the same {topology.n} workers, not {shown(gossip)}"
        )
    if worker is None:
        end = int(np.argmax(topology.distances_from(0)))
        worker = min(end, int(np.argmax(topology.distances_from(end))))
    if whole_number(worker, "worker", 0) >= topology.n:
        raise ValueError(f"worker must be one of 0 … {topology.n - 1}, not {worker}")
    if rounds is None:
        rounds = int(max(topology.diameter + 4, 10))
    rounds = whole_number(rounds, "rounds", 1)
    matrices = as_sequence(metropolis(gossip) if mixing is None else mixing, gossip)
    relay, age = _relayed(topology, rounds)
    gossiped = _gossiped(gossip, matrices, rounds)
    return plots.RelayAnimation(topology, gossip, worker, relay, age, gossiped, mixing is not None)


def _relayed(tree: Topology, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each worker in each one's sum after every round, and its age; ``(rounds + 1, n, n)``.

    Every worker relays its own unit vector, and beside it the same times the round, so that a sum tells
    when it was sent.
    """
    n = tree.n
    network = Network(tree)
    whose, sent = np.eye(n)[None].repeat(rounds + 1, axis=0), np.zeros((rounds + 1, n, n))
    mail = network.empty_mail(np.zeros((n, 2 * n)))
    for t in range(1, rounds + 1):
        payload = np.concatenate([np.eye(n), t * np.eye(n)], axis=1)
        mail = network.relay(payload, mail)
        received, _ = network.inbox(mail)
        whose[t], sent[t] = np.split(payload + received, 2, axis=1)
    age = np.arange(rounds + 1)[:, None, None] - sent
    return whose / whose.sum(axis=2, keepdims=True), np.where(whose == 1, age, np.nan)


def _gossiped(topology: Topology, matrices: tuple[csr_array, ...], rounds: int) -> np.ndarray:
    """W_{t−1} ⋯ W_0 after every round, ``(rounds + 1, n, n)``."""
    network = Network(topology, matrices)
    weights = [np.eye(topology.n)]
    for t in range(rounds):
        weights.append(network.mix(weights[-1], t))
    return np.array(weights)
