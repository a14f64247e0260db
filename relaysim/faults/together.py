"""Several faults in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.faults.base import (
    ALTERED,
    LATE_GRADIENTS,
    LATE_MESSAGES,
    LIES,
    AnyFault,
    Fault,
    WireRound,
    kind_of,
)
from relaysim.faults.replay import Replay
from relaysim.support.checks import shown
from relaysim.topologies import Topology, TreePair

__all__ = ["All", "alone", "parts_of"]


@dataclass(frozen=True, init=False)
class All(Fault):
    """Several faults in one run: a message arrives if none of them loses it.

    Each has a stream of its own, the first that which it has alone: what one loses does not depend on the
    others.

    Args:
        together: faults, such as ``All(MessageDrop(0.01), LinkFailure(0.001, 0.1))``.
        faults: the same in one list.

    Raises:
        TypeError: what is no fault.
        ValueError: none, one twice, or workers who lie, or altered messages, beside other faults, for which
            there is no rule.

    >>> from relaysim.faults import BurstLoss, MessageDrop
    >>> All(MessageDrop(0.01), BurstLoss(0.1, 0.5)).faults
    (MessageDrop(probability=0.01), BurstLoss(lose=0.1, recover=0.5))
    """

    faults: tuple[Any, ...]

    def __init__(self, *together: AnyFault, faults: Sequence[AnyFault] = ()):
        given = (*together, *faults)
        each = tuple(
            part
            for fault in given
            for part in (fault.faults if isinstance(fault, All) else (fault,))
        )
        for fault in each:
            if isinstance(fault, type) or not hasattr(fault, "arrivals"):
                raise TypeError(f"{shown(fault)} is no kind of fault; see relaysim.faults")
        if not each:
            raise ValueError("All is given no fault; name one, or leave faults out")
        kinds = [kind_of(part) for fault in each for part in parts_of(fault)]
        by_themselves = [kind for kind in kinds if kind in (LIES, ALTERED)]
        if len(each) > 1 and by_themselves:
            raise ValueError(
                f"there is no rule for {by_themselves[0]} beside other faults; leave one of them out"
            )
        twice = [kind for kind in (LATE_GRADIENTS, LATE_MESSAGES) if kinds.count(kind) > 1]
        if len(set(map(id, each))) < len(each) or twice:
            what = f"two that are of {twice[0]}" if twice else "a fault twice"
            raise ValueError(f"All names {what}; name each once")
        object.__setattr__(self, "faults", each)

    @property
    def never(self) -> bool:
        return all(getattr(fault, "never", False) for fault in self.faults)

    def check(self, topology: Topology | TreePair) -> None:
        for fault in self.faults:
            if isinstance(fault, Fault):
                fault.check(topology)

    def arrivals(self, edges: np.ndarray, round: WireRound) -> np.ndarray:
        """What arrives by all of them, which then share their random numbers; a run asks each by itself."""
        found = np.ones(len(edges), dtype=bool)
        for fault in self.faults:
            arrived = np.asarray(fault.arrivals(edges, round)) != 0
            found = found.reshape(-1, *(1,) * (arrived.ndim - 1)) & arrived
        return found


def parts_of(fault: Any) -> tuple[Any, ...]:
    """A fault by itself, those of `All`, or of what a trace replays; none where it is None."""
    if fault is None:
        return ()
    if isinstance(fault, All):
        return tuple(part for each in fault.faults for part in parts_of(each))
    return fault.parts if isinstance(fault, Replay) else (fault,)


def alone(fault: Any) -> Any:
    """The fault that `All` has if it has one only, else what is given."""
    parts = parts_of(fault)
    return parts[0] if len(parts) == 1 else fault
