"""Runs algorithms of rounds, in which all workers step together; see `relaysim.algorithms.base`."""

from __future__ import annotations

import numpy as np

from relaysim.algorithms.base import Round
from relaysim.algorithms.fit import check_faults, matrices_for
from relaysim.engine.plan import ReplicaPlan
from relaysim.network import Network
from relaysim.support.streams import Streams
from relaysim.support.workspace import Workspace

__all__ = ["Rounds"]


class Rounds:
    """The state of a run in rounds: ``x (n, d[, r])`` and ``vectors_sent`` after ``step`` of them.

    Args:
        problem, topology, algorithm, mixing, oracle, faults: see `relaysim.simulate`.
        plan: learning rates, one for each replica.
        streams: random numbers of the replicas.
        x0: ``(n, d[, r])``, an array of its own.
    """

    def __init__(
        self,
        problem,
        topology,
        algorithm,
        *,
        plan: ReplicaPlan,
        streams: Streams,
        x0: np.ndarray,
        mixing=None,
        oracle,
        faults=None,
    ):
        self.algorithm = algorithm
        self.step = 0
        workspace = Workspace(16 * x0.size)  # bytes of a tree's messages
        matrices = matrices_for(algorithm, topology, mixing)
        check_faults(faults, algorithm, matrices)
        arrivals = None if faults is None else faults.arrivals(streams)
        self.network = Network(topology, matrices, workspace, arrivals)
        observe = oracle.observe(problem, streams)
        scratch = workspace.scratch

        def gradient(x):
            return observe(x, scratch(x.shape))

        self._round = Round(gradient, self.network, workspace, streams.tables("algorithm"))
        self._schedule = plan.schedule
        self._rates = plan.rates if plan.has_axis else float(plan.rates[0])
        self._round.learning_rate = self._rates
        self._start_step = workspace.start_step
        self._state = algorithm.init(x0, self.network)

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; not to be changed."""
        return self._state.x

    @property
    def vectors_sent(self) -> float | np.ndarray:
        """So far, over all workers; ``(r,)`` where replicas differ."""
        return self.network.vectors_sent

    def advance(self, target: int) -> None:
        """Step on until so many steps are taken: the time loop."""
        # The state is taken out of the run, so that the first one is freed after the first step.
        state, self._state = self._state, None
        step, round = self.step, self._round
        advance, start_step, schedule = self.algorithm.step, self._start_step, self._schedule
        while step < target:
            start_step()
            round.step = step
            if schedule is not None:
                round.learning_rate = float(schedule[step])
            state = advance(state, round)
            step += 1
        self._state, self.step = state, step

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._state = _select(self._state, replicas)
        self.network.keep(replicas)
        self._rates = self._rates[replicas]
        if self._schedule is None:
            self._round.learning_rate = self._rates


def _select(state, replicas: np.ndarray):
    """A state with only some of its replicas; arrays with three axes have them last."""
    if isinstance(state, tuple):
        return type(state)(*(_select(part, replicas) for part in state))
    return np.ascontiguousarray(state[..., replicas]) if state.ndim == 3 else state
