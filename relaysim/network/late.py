"""Messages that arrive some steps after they were sent."""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from relaysim.faults import Delay
from relaysim.network.arrivals import Arrivals
from relaysim.network.crossing import AnyWeights, Faithful
from relaysim.network.gossip import MixChange, Weights
from relaysim.network.products import segment_sum
from relaysim.network.relay import LossyTreeRelay
from relaysim.support.checks import require_memory
from relaysim.support.gathering import rows_at
from relaysim.topologies import Topology

__all__ = ["Late", "LateTreeRelay"]

# Some of all messages.
Places: TypeAlias = slice | np.ndarray
# Of a message that was never sent, or is lost.
_NEVER = np.iinfo(np.int64).max


class _OnTheirWay:
    """What was sent in one crossing of each of the last steps: the newest that came is among them.

    ``sent (steps, rows, d[, r])``, ``due (steps, messages[, r])``, the step in which each is there, and of
    messages that arrive ``latest (messages[, r])``, the last step in which one was to be there.
    """

    def __init__(self, steps: int, shape: tuple[int, ...], messages: int):
        self.sent = np.zeros((steps, *shape))
        self.due = np.full((steps, messages, *shape[2:]), _NEVER)
        self.latest = np.full(self.due.shape[1:], -1, dtype=np.int64)
        self.rounds = 0

    def add(
        self, vectors: np.ndarray, due: np.ndarray, lost: np.ndarray, which: Places, ordered: bool
    ) -> np.ndarray:
        """Send, of the messages those of ``which``; returns when each will be there."""
        place = self.rounds % len(self.due)
        if ordered:
            due = np.maximum(due, self.latest[which])
            self.latest[which] = np.where(lost, self.latest[which], due)
        due = np.where(lost, _NEVER, due)
        self.sent[place], self.due[place] = vectors, _NEVER
        self.due[place, which] = due
        self.rounds += 1
        return due

    def newest(self, step: int, rows: np.ndarray, which: Places) -> tuple[np.ndarray, np.ndarray]:
        """Of each message the newest that is there, ``(messages, d[, r])``, and whether there is one.

        ``rows (messages,)`` are those of ``sent`` that each is of.
        """
        places = (self.rounds - 1 - np.arange(len(self.due))) % len(self.due)
        there = self.due[places][:, which] <= step
        place = places[there.argmax(axis=0)]
        count = self.sent.shape[1]
        flat = self.sent.reshape(-1, *self.sent.shape[2:])
        wanted = place * count + rows.reshape(-1, *(1,) * (place.ndim - 1))
        return rows_at(flat, wanted), np.logical_or.reduce(there, axis=0)


class Late(Faithful):
    """Some messages come later, and receivers go by the newest that they have.

    Args:
        fault: which.
        arrivals: of the run, which tell by how much, and whether they arrive at all.
        shape: of the iterates, ``(n, d[, r])``.
        matrices: the period of matrices of a method that mixes.

    Raises:
        ValueError: what may be on its way does not fit in memory.

    ``late_messages`` counts those that come, but not in their step, since the run began, ``(r,)``.
    """

    def __init__(
        self,
        fault: Delay,
        arrivals: Arrivals,
        shape: tuple[int, ...],
        matrices: tuple[csr_array, ...],
    ):
        # By then the last message that was sent at least so long ago has come, if it was not lost.
        self._steps = fault.most + max(len(matrices), 1)
        needed = 8.0 * self._steps * math.prod(shape)
        what = f"messages on their way for {fault.most} steps"
        require_memory(needed, what, "let them be late by fewer steps")
        self._fault, self._arrivals, self._matrices = fault, arrivals, matrices
        self._last_step, self._crossing = -1, 0
        self._crossings: list[_OnTheirWay] = []
        self.late_messages = np.zeros(math.prod(shape[2:]), dtype=np.int64)

    def newest(
        self,
        vectors: np.ndarray,
        rows: np.ndarray,
        edges: np.ndarray,
        messages: int,
        which: Places = slice(None),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Send ``vectors (rows, d[, r])``; of each message the newest that its receiver has, ``(sent, d[,
        r])``, and whether it has one, ``(sent[, r])``.

        Args:
            vectors: what is sent.
            rows: ``(sent,)``, which of them each message is.
            edges: ``(sent, 2)``, which it crosses.
            messages: how many there may be in a step.
            which: of those are sent in this one.
        """
        step = self._arrivals.step
        if step != self._last_step:
            self._last_step, self._crossing = step, 0
        if self._crossing == len(self._crossings):
            self._crossings.append(_OnTheirWay(self._steps, vectors.shape, messages))
        crossing = self._crossings[self._crossing]
        self._crossing += 1
        due = step + self._arrivals.late(self._fault, len(edges))[:, 0]
        lost: np.ndarray = np.zeros((), dtype=bool)
        if self._arrivals.loses:
            lost = ~self._arrivals(edges)[:, 0]
        due = crossing.add(vectors, due, lost, which, self._fault.ordered)
        late = (due > step) & (due < _NEVER)
        self.late_messages += late.reshape(len(edges), len(self.late_messages)).sum(axis=0)
        return crossing.newest(step, rows, which)

    def mixed(self, weights: AnyWeights, x: np.ndarray, further: int) -> np.ndarray:
        return x + self.changed(weights, x, 0)

    def changed(self, weights: AnyWeights, x: np.ndarray, laziness: float) -> np.ndarray:
        assert isinstance(weights, Weights), "others were refused"
        mixes, messages = self._mixes
        mix, which = mixes[id(weights.matrix)]
        newest = self.newest(x, mix.senders, mix.edges, messages, which)
        return mix.with_newest(x, *newest, 1 - laziness)

    @functools.cached_property
    def _mixes(self) -> tuple[dict[int, tuple[_LateMix, Places]], int]:
        """By the matrix what mixes with it, and which of all messages it has; and how many these are."""
        each = {id(W): _LateMix(W) for W in self._matrices}
        keys = {k: mix.edges[:, 1] * len(mix.own) + mix.edges[:, 0] for k, mix in each.items()}
        known = np.unique(np.concatenate(list(keys.values())))
        places = {k: np.searchsorted(known, of) for k, of in keys.items()}
        alone = len(each) == 1
        return {k: (mix, slice(None) if alone else places[k]) for k, mix in each.items()}, len(
            known
        )

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self.late_messages = self.late_messages[replicas]
        for each in self._crossings:
            if each.sent.ndim == 4:
                each.sent = np.ascontiguousarray(each.sent[..., replicas])
                each.due = np.ascontiguousarray(each.due[..., replicas])
                each.latest = np.ascontiguousarray(each.latest[..., replicas])

    @property
    def nbytes(self) -> int:
        """Bytes of what is on its way."""
        return sum(each.sent.nbytes + each.due.nbytes for each in self._crossings)

    def state(self) -> dict[str, Any]:
        crossings = [
            {
                "sent": each.sent.copy(),
                "due": each.due.copy(),
                "latest": each.latest.copy(),
                "rounds": each.rounds,
            }
            for each in self._crossings
        ]
        return {"crossings": crossings, "count": self.late_messages.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        self.late_messages = np.array(state["count"])
        self._crossings = []
        for plain in state["crossings"]:
            sent, due = np.array(plain["sent"]), np.array(plain["due"])
            each = _OnTheirWay(len(sent), sent.shape[1:], due.shape[1])
            each.sent, each.due, each.rounds = sent, due, int(plain["rounds"])
            each.latest = np.array(plain["latest"])
            self._crossings.append(each)


class _LateMix(MixChange):
    """(W' − I) x with what others sent some steps before, where W' lacks those of whom nothing came yet."""

    def __init__(self, W: Any):
        super().__init__(W)
        self.own = W.diagonal()
        #: Of each message sender and receiver, ``(messages, 2)``.
        self.edges = np.stack([self._from, self._to], axis=1)
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
        own = share * self.own.reshape(-1, *(1,) * (x.ndim - 1)) + (1 - share)
        left = np.where(count > 0, own + share * self._sum(there), 1)
        return change / left


class LateTreeRelay(LossyTreeRelay):
    """RelaySum on one tree where receivers go by the newest message of each neighbour, with its count."""

    def __init__(self, tree: Topology, late: Late):
        super().__init__(tree, None)
        self._late = late

    def _arrived(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sent = np.concatenate([values, counts], axis=1)
        newest, heard = self._late.newest(sent, np.arange(len(sent)), self._edges, len(sent))
        newest *= heard[:, None]
        return np.ascontiguousarray(newest[:, :-1]), np.ascontiguousarray(newest[:, -1:])
