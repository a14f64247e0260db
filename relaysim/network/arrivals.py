"""What a fault makes of the messages that cross edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaysim.faults import AnyFault, WireRound
from relaysim.support.chains import Chain
from relaysim.support.checks import real_array
from relaysim.support.streams import Streams
from relaysim.topologies import Topology, TreePair

__all__ = ["Arrivals"]


class Arrivals:
    """Which messages of a run arrive, asked each time that some cross.

    Args:
        fault: see `relaysim.faults`.
        topology: the run's.
        streams: random numbers of the replicas.
        step: tells the number of the present step.
    """

    def __init__(
        self,
        fault: AnyFault,
        topology: Topology | TreePair,
        streams: Streams,
        step: Callable[[], int],
    ):
        self._fault, self._topology, self._streams, self._step = fault, topology, streams, step
        self._uniforms = streams.uniforms("faults")
        self._chain: Chain | None = None

    def __call__(self, edges: np.ndarray, further: int = 0) -> np.ndarray:
        """True for those that arrive and False for the others, ``(messages, 1)``, or with replicas
        ``(messages, 1, r)``, or ``(messages, 1, 1)`` where they do not differ.

        Args:
            edges: ``(messages, 2)``, sender and receiver.
            further: k ≥ 1 for the k-th round of a step that some replicas make and others do not. Its
                numbers belong to the step and to k, so that what one replica draws later does not
                depend on how many rounds another one made.
        """
        step = self._step()
        owner = self._streams.owner

        def uniforms(count: int) -> np.ndarray:
            if further:
                drawn = self._streams.uniforms_at("faults", count, step, further)
            else:
                drawn = self._uniforms(count)
            return drawn[:, 0]

        def chain(fail: float, repair: float, count: int) -> np.ndarray:
            if self._chain is None:
                self._chain = Chain(self._streams, self._uniforms)
                self._streams.register("faults: chain", self._chain)
            return self._chain.at(step, fail, repair, count)[:, 0]

        found = self._fault.arrivals(edges, WireRound.of(step, self._topology, uniforms, chain))
        if isinstance(found, np.ndarray) and found.dtype == bool:
            arrived = found
        else:
            arrived = real_array(found, "what a fault says arrives") != 0
        allowed = [(len(edges),)] + ([] if owner is None else [(len(edges), len(owner))])
        if arrived.shape not in allowed:
            raise ValueError(
                f"{self._fault!r} says of {len(edges)} messages what arrives as an array of shape "
                f"{arrived.shape}; it must be {' or '.join(map(str, allowed))}"
            )
        if owner is None:
            return arrived[:, None]
        return arrived[:, None, None] if arrived.ndim == 1 else arrived[:, None]
