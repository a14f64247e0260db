"""Whether a method has a rule for what goes wrong, before any work starts."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.events import Algorithm
from relaysim.faults import (
    ALTERED,
    LATE_GRADIENTS,
    LATE_MESSAGES,
    LOST_MESSAGES,
    STOPS,
    AnyFault,
    Fault,
    kind_of,
    parts_of,
)
from relaysim.mixing.by_step import ByStep
from relaysim.mixing.drawn import DrawnMixing
from relaysim.mixing.rounds import is_several_rounds, rounds_of
from relaysim.mixing.sequences import negative_weight
from relaysim.topologies import Topology, TreePair

__all__ = ["check_faults"]


def check_faults(
    faults: AnyFault | None,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    matrices: tuple[csr_array, ...] | ByStep | DrawnMixing,
) -> None:
    """Raise unless these faults can happen to this algorithm."""
    graph = algorithm.links(topology)
    for part in parts_of(faults):
        _check_fault(part, graph, algorithm, matrices)


def _check_fault(
    faults: AnyFault,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    matrices: tuple[csr_array, ...] | ByStep | DrawnMixing,
) -> None:
    if isinstance(faults, type) or not hasattr(faults, "arrivals"):
        mend = ", of which All(a, b) takes several" if isinstance(faults, list | tuple) else ""
        raise TypeError(f"{faults!r} is no kind of fault; see relaysim.faults{mend}")
    name, kind = type(algorithm).__name__, kind_of(faults)
    if kind == LATE_GRADIENTS:
        _require_a_gradient_a_step(algorithm)
        if isinstance(faults, Fault):
            faults.check(topology)
        return
    if algorithm.uses == "workers" and not matrices:
        raise ValueError(f"{name} averages exactly and has no messages to lose; leave faults out")
    if kind not in algorithm.faults:
        known = f"of faults it knows {', '.join(algorithm.faults)}" if algorithm.faults else ""
        raise ValueError(
            f"{name} has no rule for {kind}{'; ' if known else ''}{known}; leave faults out"
        )
    if isinstance(faults, Fault):
        faults.check(topology)
    if kind == ALTERED and isinstance(matrices, DrawnMixing):
        raise ValueError(
            f"there is no rule for {kind} where weights are drawn; give a matrix or a sequence of them"
        )

    if kind == LATE_MESSAGES and not isinstance(matrices, tuple):
        raise ValueError(
            f"there is no rule for {kind} where weights are drawn, or those of a callable, so that nobody "
            f"knows who will be sent to next; give a matrix or a sequence of them"
        )

    def check(W: csr_array) -> None:
        if is_several_rounds(W):
            raise ValueError(
                f"there is no rule for {kind} within the {rounds_of(W)} rounds that this mixing stands for; "
                f"give the matrix of one round, or leave faults out"
            )
        if kind in (LOST_MESSAGES, STOPS, LATE_MESSAGES) and not getattr(faults, "never", False):
            _require_weights_to_scale(W, kind)
        if isinstance(faults, Fault):
            receiver, sender = W.nonzero()
            across = receiver != sender
            faults.check_messages(np.stack([sender, receiver], axis=1)[across], topology)

    if isinstance(matrices, tuple):
        for W in matrices:
            check(W)
    else:
        matrices.require(check)


def _require_a_gradient_a_step(algorithm: Algorithm) -> None:
    """Raise unless a method asks for one gradient a step, which may be late."""
    name = type(algorithm).__name__
    if algorithm.uses == "events":
        raise ValueError(
            f"{name} has no rule for {LATE_GRADIENTS}: its workers act at times of their own; leave faults "
            f"out"
        )
    if algorithm.oracle_needs == "examples" or algorithm.problem_needs == "proximal":
        raise ValueError(
            f"{name} has no rule for {LATE_GRADIENTS}: it asks for more than a gradient a step; leave faults "
            f"out"
        )


def _require_weights_to_scale(W: csr_array, kind: str) -> None:
    """Raise where what is left of a row may sum to 0, or to less, and cannot be scaled to sum to 1."""
    if (found := negative_weight(W)) is not None:
        i, j, weight = found
        raise ValueError(
            f"with {kind} the rest of a row of the mixing matrix is scaled to sum to 1, which needs "
            f"weights of 0 or more; this one gives worker {i} the weight {weight:.4g} for "
            f"worker {j}: use relaysim.mixing.metropolis(topology), or leave faults out"
        )
