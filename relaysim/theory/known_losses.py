"""The losses of messages of which exact moments are known, and how likely messages are to arrive."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from relaysim.algorithms.fit import matrices_for
from relaysim.algorithms.gossip import DPSGD
from relaysim.algorithms.tolerance import check_faults
from relaysim.faults import AnyFault, BurstLoss, LinkFailure, MessageDrop, WireRound, alone
from relaysim.faults.edges import links_of, numbers_of_links, wires_of
from relaysim.theory.loss_moments import Chains
from relaysim.theory.lost_weights import lost_weights, messages_of
from relaysim.topologies import Topology

__all__ = [
    "AnyLoss",
    "arrival_chances",
    "arrivals_in",
    "chains_of",
    "expected_mixing",
    "known_fault",
    "things_of",
    "without_memory",
]

AnyLoss: TypeAlias = MessageDrop | BurstLoss | LinkFailure

# fail + repair is 1 up to this where what is down in a step does not depend on the step before.
MEMORYLESS = 1e-14


def known_fault(faults: object) -> AnyLoss:
    """A fault of which moments are known.

    Raises:
        TypeError: what is no fault.
        ValueError: another one, or several.
    """
    fault = alone(faults)
    if isinstance(fault, AnyLoss):
        return fault
    if isinstance(faults, type) or not hasattr(faults, "arrivals"):
        raise TypeError(f"{faults!r} is no kind of fault; see relaysim.faults")
    raise ValueError(
        f"exact moments are known under one of relaysim.faults.MessageDrop, BurstLoss or LinkFailure by "
        f"itself, not under {faults!r}; give one of these, or use relaysim.simulate"
    )


def arrival_chances(fault: AnyLoss, topology: Topology, edges: np.ndarray) -> np.ndarray:
    """How likely each of some messages ``(E, 2)`` is to arrive, in the long run, ``(E,)``."""
    if not isinstance(fault, MessageDrop):
        return np.full(len(edges), 1 - fault.share)
    lost = np.asarray(fault.probability)
    if lost.ndim:
        lost = lost[numbers_of_links(topology, "probability of its own; give one number")(edges)]
    return 1 - np.broadcast_to(lost, len(edges))


def expected_mixing(
    topology: Topology, faults: AnyFault, mixing: csr_array | ArrayLike | None = None
) -> np.ndarray:
    """E W', the mean of what lost messages leave of a gossip matrix, ``(n, n)``.

    Its rows sum to 1; its columns do not where workers are not heard equally often, and then averages drift:
    where losses of different steps are independent, averaging ends in the mean at Σ_i π_i x_i⁰ with
    πᵀ E W' = πᵀ, and DP-SGD is drawn to the optimum of Σ_i π_i f_i. Of links that fail and are repaired it is
    that of the long run, in which each is down by itself.

    Args:
        topology: as for `relaysim.simulate`.
        faults: `relaysim.faults.MessageDrop`, `BurstLoss` or `LinkFailure`.
        mixing: one matrix; `relaysim.mixing.metropolis(topology)` by default.

    Raises:
        TypeError, ValueError: as `under_faults`.

    >>> import relaysim as rs
    >>> star = rs.topologies.star(4)
    >>> expected_mixing(star, rs.faults.MessageDrop(0.5)).round(3).tolist()[1:]  # hub 0 is heard by all
    [[0.125, 0.875, 0.0, 0.0], [0.125, 0.0, 0.875, 0.0], [0.125, 0.0, 0.0, 0.875]]
    """
    fault = known_fault(faults)
    matrices = matrices_for(DPSGD(), topology, mixing)
    check_faults(fault, topology, DPSGD(), matrices)
    if len(matrices) != 1:
        raise ValueError(
            f"mixing must be one matrix, not a sequence of {len(matrices)}; give them one by one"
        )
    edges = messages_of(matrices[0])
    chances = arrival_chances(fault, topology, edges)
    mean = lost_weights(matrices[0], chances, 0.0).mean
    found = np.zeros((topology.n, topology.n))
    found[edges[:, 1], edges[:, 0]] = mean
    np.fill_diagonal(found, 1 - found.sum(axis=1))
    return found


def chains_of(fault: AnyLoss, topology: Topology) -> Chains | None:
    """What is down for a while; None where nothing is remembered."""
    if isinstance(fault, MessageDrop) or fault.never:
        return None
    if isinstance(fault, LinkFailure):
        chains = Chains(len(links_of(topology)), fault.fail, fault.repair)
    else:
        chains = Chains(len(wires_of(topology)), fault.lose, fault.recover)
    return None if abs(chains.fail + chains.repair - 1) <= MEMORYLESS else chains


def things_of(fault: AnyLoss) -> str:
    return "links" if isinstance(fault, LinkFailure) else "directed edges"


def without_memory(fault: AnyLoss) -> str:
    return "repair = 1 − fail" if isinstance(fault, LinkFailure) else "recover = 1 − lose"


def arrivals_in(
    fault: AnyLoss,
    chains: Chains,
    topology: Topology,
    edges: np.ndarray,
) -> np.ndarray:
    """Which messages arrive in each case, by the fault itself, ``(E, 2^L)``."""

    def down(fail: float, repair: float, count: int) -> np.ndarray:
        return chains.down

    def no_numbers(count: int) -> np.ndarray:
        raise AssertionError("what is down for a while draws nothing in a round")

    round = WireRound.of(0, topology, no_numbers, down)
    return fault.arrivals(edges, round)
