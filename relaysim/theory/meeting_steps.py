"""What a meeting of two workers, with the gradients before it, makes of the state of all: affine maps.

They are taken from the rule's own ``descend`` and ``meet``, applied to unit states event after event, one map
for each meeting that may be drawn; there is no second copy of any rule.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.events import CountedRule, EventMethod, Events, Meeting
from relaysim.algorithms.fit import matrices_for
from relaysim.algorithms.global_average import AllReduce
from relaysim.oracles import Exact
from relaysim.problems import Problem
from relaysim.support.streams import Streams
from relaysim.theory.affine import AffineStep
from relaysim.theory.assembly import close
from relaysim.theory.outcomes_in_turn import Begun
from relaysim.topologies import Topology

__all__ = ["MeetingSteps"]


class MeetingSteps:
    """The affine maps y ← A_k y + b_k of the meetings that a rule may draw.

    y holds all numbers of all workers, ``(fields, n, d)``, iterates first.

    Args:
        problem: checked; every ∇f_i is affine.
        topology: who may meet.
        algorithm: of events.
        rule: its own on the topology, one that lists what it may draw.
        learning_rate: γ.
        x0: ``(n, d)``.

    Attributes:
        states: N.
        probabilities: of each meeting, ``(K,)``.
        y: the state at x0, ``(N,)``.
        conserved: nothing that is known, ``(0, N)``.

    Raises:
        TypeError: gradients, or a rule, that are not affine.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology,
        algorithm: EventMethod,
        rule: CountedRule[Any],
        learning_rate: float,
        x0: np.ndarray,
    ):
        self._rule, self._algorithm, self._rate = rule, algorithm, learning_rate
        self.probabilities, self._events = rule.outcomes()
        # Gradients alone are asked of it, and that they are affine.
        averaging = AllReduce()
        matrices = matrices_for(averaging, topology, None)
        self._gradients = AffineStep(problem, topology, averaging, 0.0, matrices, x0)
        observe = Exact().observe(problem, Streams([0], np.zeros(1, dtype=np.intp)))
        rest = np.zeros((*x0.shape, 1))
        self._constant = observe(rest, np.empty(rest.shape))
        self._size = x0.shape
        one = rule.init(x0.copy())
        self._kind = type(one)
        self._order = sorted(one._fields, key=lambda name: name != "x")
        self.states = len(self._order) * x0.size
        self.y = self.moments_begun(x0[..., None], np.ones(1)).state[:-1, 0]
        self.conserved = csr_array((0, self.states))

    def moments_begun(self, starts: np.ndarray, ones: np.ndarray) -> Begun:
        """No iterates before the maps hold; see `OutcomesInTurn.moments_begun`."""
        n, d, m = starts.shape
        rows = self._rule.init(np.array(starts.transpose(0, 2, 1)).reshape(n * m, d))
        parts = [getattr(rows, name).reshape(n, m, d).transpose(0, 2, 1) for name in self._order]
        return Begun([], np.vstack([np.stack(parts).reshape(-1, m), ones]))

    @functools.cached_property
    def _affine(self) -> tuple[list[csr_array], list[np.ndarray]]:
        """A_k and b_k."""
        # Unit states without the constant part of gradients, rest and a random state with it.
        size = self.states
        some = np.random.default_rng(0).normal(size=size)
        probes = np.column_stack([np.eye(size), np.zeros(size), some])
        with_constant = np.r_[np.zeros(size), 1.0, 1.0]
        matrices, offsets = [], []
        for k in range(len(self.probabilities)):
            found = self._after(probes, with_constant, k)
            A, b = found[:, :-2], found[:, -2]
            if not close(A @ some + b, found[:, -1], 1.0):
                raise TypeError(
                    f"the rule of {self._algorithm!r} is not affine: what it makes of a sum of states is not "
                    f"the sum of what it makes of them; use relaysim.simulate"
                )
            matrices.append(csr_array(A))
            offsets.append(b)
        return matrices, offsets

    @property
    def matrices(self) -> list[csr_array]:
        """A_k, ``(N, N)``."""
        return self._affine[0]

    @property
    def offsets(self) -> list[np.ndarray]:
        """b_k, ``(N,)``."""
        return self._affine[1]

    def _after(self, y: np.ndarray, with_constant: np.ndarray, outcome: int) -> np.ndarray:
        """States ``(N, r)`` after the events of one outcome."""
        state = y.reshape(len(self._order), *self._size, -1).copy()
        events = Events(*(part[self._events.unit == outcome] for part in self._events))
        for i, j in zip(events.first.tolist(), events.second.tolist(), strict=True):
            if j < 0:
                point = self._rule.point(self._rows(state, i))
                x = np.zeros(state.shape[1:])
                x[i] = point.T
                gradient = self._gradients.curvature(x)[i] + self._constant[i] * with_constant
                self._put(
                    state, i, self._rule.descend(self._rows(state, i), gradient.T, self._rate)
                )
            else:
                count = state.shape[-1]
                ends = np.full(count, i), np.full(count, j)
                meeting = Meeting(0, *ends, np.arange(count))
                sides = self._rule.meet(self._rows(state, i), self._rows(state, j), meeting)
                for worker, rows in zip((i, j), sides, strict=True):
                    self._put(state, worker, rows)
        return state.reshape(self.states, -1)

    def _rows(self, state: np.ndarray, worker: int) -> Any:
        """A worker's numbers, a row ``(d,)`` for each replica."""
        parts = dict(zip(self._order, state[:, worker], strict=True))
        return self._kind(**{name: part.T.copy() for name, part in parts.items()})

    def _put(self, state: np.ndarray, worker: int, rows: Any) -> None:
        for part, name in zip(state, self._order, strict=True):
            part[worker] = getattr(rows, name).T
