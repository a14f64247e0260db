"""Messages that arrive some steps after they were sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.faults import Delay
from relaysim.network.crossing import AnyWeights, Faithful
from relaysim.network.gossip import MixChange, Weights
from relaysim.network.products import segment_sum
from relaysim.network.relay import LossyTreeRelay
from relaysim.support.checks import require_memory
from relaysim.support.gathering import rows_at
from relaysim.support.workspace import Workspace
from relaysim.topologies import Topology

__all__ = ["Late", "LateTreeRelay"]

# Of a message that was never sent.
_NEVER = np.iinfo(np.int64).max


class _OnTheirWay:
    """What was sent in the last k + 1 steps in one crossing of a step: the newest that came is among them.

    ``sent (k + 1, rows, d[, r])``, and ``due (k + 1, messages[, r])``, the step in which each is there.
    """

    def __init__(self, most: int, shape: tuple[int, ...], messages: int):
        self.sent = np.zeros((most + 1, *shape))
        self.due = np.full((most + 1, messages, *shape[2:]), _NEVER)
        self.rounds = 0

    def add(self, vectors: np.ndarray, due: np.ndarray, ordered: bool) -> np.ndarray:
        """Send; returns when it will be there."""
        place = self.rounds % len(self.due)
        if ordered and self.rounds:
            due = np.maximum(due, self.due[place - 1])
        self.sent[place], self.due[place] = vectors, due
        self.rounds += 1
        return due

    def newest(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each message the newest that is there, ``(messages, d[, r])``, and whether there is one.

        ``rows (messages,)`` are those of ``sent`` that each is of.
        """
        places = (self.rounds - 1 - np.arange(len(self.due))) % len(self.due)
        there = self.due[places] <= step
        place = places[there.argmax(axis=0)]
        count = self.sent.shape[1]
        flat = self.sent.reshape(-1, *self.sent.shape[2:])
        wanted = place * count + rows.reshape(-1, *(1,) * (place.ndim - 1))
        return rows_at(flat, wanted), np.logical_or.reduce(there, axis=0)


class Late(Faithful):
    """Some messages come later, and receivers go by the newest that they have.

    Args:
        fault: which.
        uniforms: ``uniforms(count)``, numbers of the replicas, ``(count, 1)`` or ``(count, 1, r)``.
        step: tells the number of the present step.
        shape: of the iterates, ``(n, d[, r])``.

    Raises:
        ValueError: what may be on its way does not fit in memory.

    ``late_messages`` counts those that did not come in their step since the run began, ``(r,)``.
    """

    def __init__(
        self,
        fault: Delay,
        uniforms: Callable[[int], np.ndarray],
        step: Callable[[], int],
        shape: tuple[int, ...],
    ):
        needed = 8.0 * (fault.most + 1) * math.prod(shape)
        what = f"messages on their way for {fault.most} steps"
        require_memory(needed, what, "let them be late by fewer steps")
        self._fault, self._uniforms, self._step = fault, uniforms, step
        self._last_step, self._crossing = -1, 0
        self._crossings: list[_OnTheirWay] = []
        self._mix: _LateMix | None = None
        self.late_messages = np.zeros(math.prod(shape[2:]), dtype=np.int64)

    def newest(self, vectors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Send ``vectors (rows, d[, r])``; of each message the newest that its receiver has, ``(messages,
        d[, r])``, and whether it has one, ``(messages[, r])``. ``rows (messages,)``: which row each is.
        """
        step = self._step()
        if step != self._last_step:
            self._last_step, self._crossing = step, 0
        if self._crossing == len(self._crossings):
            made = _OnTheirWay(self._fault.most, vectors.shape, len(rows))
            self._crossings.append(made)
        crossing = self._crossings[self._crossing]
        self._crossing += 1
        late = self._fault.late(self._uniforms(len(rows))[:, 0])
        due = crossing.add(vectors, step + late, self._fault.ordered)
        self.late_messages += np.add.reduce(due > step, axis=0, dtype=np.int64)
        return crossing.newest(step, rows)

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        return x + self.changed(weights, x, 0)

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        assert isinstance(weights, Weights), "others were refused"
        if self._mix is None:  # a run has one matrix: others were refused
            self._mix = _LateMix(weights.matrix)
        mix = self._mix
        return mix.with_newest(x, *self.newest(x, mix.senders), 1 - laziness)

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self.late_messages = self.late_messages[replicas]
        for each in self._crossings:
            if each.sent.ndim == 4:
                each.sent = np.ascontiguousarray(each.sent[..., replicas])
                each.due = np.ascontiguousarray(each.due[..., replicas])

    @property
    def nbytes(self) -> int:
        """Bytes of what is on its way."""
        return sum(each.sent.nbytes + each.due.nbytes for each in self._crossings)

    def state(self) -> dict[str, Any]:
        crossings = [
            {"sent": each.sent.copy(), "due": each.due.copy(), "rounds": each.rounds}
            for each in self._crossings
        ]
        return {"crossings": crossings, "count": self.late_messages.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        self.late_messages = np.array(state["count"])
        self._crossings = []
        for plain in state["crossings"]:
            sent, due = np.array(plain["sent"]), np.array(plain["due"])
            each = _OnTheirWay(len(sent) - 1, sent.shape[1:], due.shape[1])
            each.sent, each.due, each.rounds = sent, due, int(plain["rounds"])
            self._crossings.append(each)


class _LateMix(MixChange):
    """(W' − I) x with what others sent some steps before, where W' lacks those of whom nothing came yet."""

    def __init__(self, W: Any):
        super().__init__(W)
        self._own = W.diagonal()
        self._count = segment_sum(self._offsets)

    @property
    def senders(self) -> np.ndarray:
        """Of each message."""
        return self._from

    def with_newest(
        self, x: np.ndarray, newest: np.ndarray, heard: np.ndarray, share: float
    ) -> np.ndarray:
        """Σ_j w'_ij (newest of j − x_i), with a share of W's weights on others."""
        newest -= x.take(self._to, 0)
        if heard.all():
            return share * self._sum(newest)
        there = heard[:, None].astype(float)
        change = share * self._sum(newest * there)
        count = self._count(there)
        # What is left of a row, which is scaled to sum to 1; who hears nobody keeps its own.
        own = share * self._own.reshape(-1, *(1,) * (x.ndim - 1)) + (1 - share)
        left = np.where(count > 0, own + share * self._sum(there), 1)
        return change / left


class LateTreeRelay(LossyTreeRelay):
    """RelaySum on one tree where receivers go by the newest message of each neighbour, with its count."""

    def __init__(self, tree: Topology, workspace: Workspace, late: Late):
        super().__init__(tree, workspace, None)
        self._late = late

    def _arrived(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sent = np.concatenate([values, counts], axis=1)
        newest, heard = self._late.newest(sent, np.arange(len(sent)))
        newest *= heard[:, None]
        return np.ascontiguousarray(newest[:, :-1]), np.ascontiguousarray(newest[:, -1:])
