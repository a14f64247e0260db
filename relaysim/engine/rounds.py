"""Runs algorithms of rounds, in which all workers step together; see `relaysim.algorithms.base`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.engine.calls import Calls
from relaysim.engine.parts import Parts
from relaysim.engine.program import Program
from relaysim.engine.rates import Rates
from relaysim.engine.recorded import Records
from relaysim.engine.states import bytes_of, laid_out, restored, saved
from relaysim.engine.stoppages import LateGradients, Stoppages
from relaysim.engine.tape import UntraceableError
from relaysim.engine.tracing import is_settled, traced_step
from relaysim.faults import Byzantine, Corrupt, Crash, Delay, Straggler, alone, parts_of
from relaysim.network import Network
from relaysim.network.arrivals import Arrivals
from relaysim.network.crossing import Altered, Lies
from relaysim.network.late import Late
from relaysim.support.fast import compiled
from relaysim.support.interrupts import StopRequest
from relaysim.support.workspace import Workspace

__all__ = ["Rounds"]

# Iterates that are large gain nothing by fewer calls, and lose what rules do block by block.
MOST_BYTES_OF_CALLS = 1 << 18
# To write steps down takes as long as their calls save in some dozens: runs of fewer go without.
STEPS_BEFORE_CALLS = 32


class Rounds:
    """The state of a run in rounds: ``x (n, d[, r])`` and ``vectors_sent`` after ``step`` of them.

    Args:
        parts: of the run.
        algorithm: a method of rounds.
    """

    def __init__(self, parts: Parts, algorithm: Method):
        self.algorithm = algorithm
        self.step = 0
        streams, x0 = parts.streams, parts.x0
        workspace = Workspace(16 * x0.size)  # bytes of a tree's messages
        faults, arrivals = alone(parts.faults), None
        lies: Lies | Altered | Late | None = None
        self._altered: Altered | None = None
        self._delayed: Late | None = None
        if isinstance(faults, Byzantine):
            liars = np.isin(np.arange(parts.topology.n), faults.workers)
            lies = Lies(liars, faults.attack, streams.tables("faults"))
        elif isinstance(faults, Corrupt):
            self._altered = lies = Altered(faults, streams.tables("faults"), _replicas_of(x0))
        elif faults is not None:
            arrivals = Arrivals(
                faults, parts.links, streams, lambda: self._round.step, parts.writer
            )
            delays = [
                each for each in parts_of(faults) if isinstance(each, Delay) and not each.never
            ]
            if delays:
                matrices = parts.matrices if isinstance(parts.matrices, tuple) else ()
                self._delayed = lies = Late(delays[0], arrivals, x0.shape, matrices)
        self._arrivals: Arrivals | None = arrivals
        self.network = Network(
            parts.topology,
            parts.matrices,
            workspace,
            arrivals if arrivals is not None and arrivals.loses else None,
            parts.workers,
            streams,
            lies,
            parts.links,
        )
        samples = parts.samples(workspace.scratch)
        gradient = parts.gradient(workspace.scratch) if samples is None else samples.full_gradient
        self._late: LateGradients | None = None
        self._stoppages: Stoppages | None = None
        stragglers = [part for part in parts_of(faults) if isinstance(part, Straggler)]
        if arrivals is not None and stragglers:
            self._late = LateGradients(stragglers[0], arrivals.slow, x0.shape)
            gradient = self._late.of(gradient)
        uniforms = streams.tables("algorithm")
        self._round = Round(gradient, self.network, workspace, uniforms, samples)
        self._rates = Rates(parts.plan)
        self._round.learning_rate = self._rates.at(0)
        self._start_step = workspace.start_step
        self._state: Any = algorithm.init(x0, self.network)
        # Steps that are all alike may be taken as the list of what they do.
        self._problem = parts.problem
        self._exact = parts.is_exact
        self._may_trace = self._tries = faults is None and not self._rates.change
        self._program: Program | Calls | None = None
        self._calls_from, self._may_compile = STEPS_BEFORE_CALLS, parts.may_compile
        self._advance = algorithm.step
        crashes = [part for part in parts_of(faults) if isinstance(part, Crash)]
        if arrivals is not None and crashes:
            self._stoppages = Stoppages(crashes, arrivals.stopped, self._state, x0.shape)
            self._advance = functools.partial(self._stoppages.step, algorithm.step)

    @property
    def x(self) -> np.ndarray:
        """The iterates, ``(n, d[, r])``; not to be changed."""
        return self._state.x if self._program is None else self._program.x

    @property
    def vectors_sent(self) -> float | np.ndarray:
        """So far, over all workers; ``(r,)`` where replicas differ."""
        return self.network.vectors_sent

    @property
    def fault_counts(self) -> dict[str, np.ndarray]:
        """What went wrong so far, by what it is called, ``(r,)`` each; copies."""
        if self._altered is not None:
            return {"altered_numbers": self._altered.altered_numbers.copy()}
        if self._arrivals is None:
            return {}
        found: dict[str, np.ndarray] = {}
        if self._arrivals.loses or self._delayed is None:
            found["lost_messages"] = self._arrivals.lost_messages.copy()
        if self._delayed is not None:
            found["late_messages"] = self._delayed.late_messages.copy()
        if self._stoppages is not None:
            found["stopped_workers"] = self._stoppages.stopped_workers.copy()
        if self._late is not None:
            found["missing_gradients"] = self._late.missing_gradients.copy()
        return found

    def advance(self, target: int) -> None:
        """Step on until so many steps are taken: the time loop."""
        while self.step < target:
            if self._program is None:
                self._step_on(target)
            else:
                program, last = self._program, min(target, self.step + self._program.most_steps)
                self._reached(program, program.advance(self.step, last))

    def _step_on(self, target: int) -> None:
        """By the rule's own steps, until there is a list of what they do."""
        # The state is taken out of the run, so that the first one is freed after the first step.
        state, self._state = self._state, None
        step, round = self.step, self._round
        advance, start_step, rates = self._advance, self._start_step, self._rates
        while step < target:
            if self._tries and self._trace(state, step):
                state = None
                break
            start_step()
            round.step = step
            if rates.change:
                round.learning_rate = rates.at(step)
            state = advance(state, round)
            step += 1
        self._state, self.step = state, step

    @property
    def records(self) -> bool:
        """See `relaysim.engine.setup.Machine`."""
        return self._program is not None and not self._program.is_large

    def advance_and_record(
        self, targets: list[int], records: Records, stop: StopRequest
    ) -> list[float | np.ndarray]:
        """See `relaysim.engine.setup.Machine`: where steps are listed."""
        program, sent, step = self._program, self.network.vectors_sent, self.step
        assert program is not None, "nothing is recorded by single steps"
        self._reached(program, program.record(step, targets, records, stop))
        return [sent + program.vectors * (each - step) for each in targets if each <= self.step]

    def _reached(self, program: Program | Calls, step: int) -> None:
        self.network.send(program.vectors * (step - self.step))
        self.step = step
        if program.is_over or program.most_steps == 1:
            self._leave_program()
            self.network.resume(self._state)

    def _trace(self, state: Any, step: int) -> bool:
        """Whether a list of what steps do takes it on from this one; else it may be tried again later."""
        loops = compiled() if self._may_compile else None
        if loops is None:
            if step < self._calls_from:
                return False
            settled = is_settled(state, self.network)
            if not (settled and self._may_call(state)):
                self._tries = not settled
                return False
        parts = self.algorithm, state, self._problem, self.network, self._round.learning_rate, step
        try:
            tape = traced_step(*parts, self._exact)
            if loops is not None:
                self._may_compile = not tape.asks
                if tape.asks:
                    return False
                self._program = Program(tape, state, loops)
            elif not tape.changed:
                self._program = Calls(tape, state, self._asked)
        except UntraceableError:
            self._may_trace = self._tries = False
            return False
        self._tries = self._program is None
        return not self._tries

    def _asked(self, x: np.ndarray) -> np.ndarray:
        """Gradients in a step of calls, which keep nothing that was lent in the one before."""
        self._start_step()
        return self._round.gradient(x)

    def _may_call(self, state: Any) -> bool:
        """Whether steps may be calls: of rules that are known to do nothing beside, with arrays that caches
        hold, which gain by it.
        """
        own = type(self.algorithm).__module__.partition(".")[0] == __name__.partition(".")[0]
        return own and state.x.nbytes <= MOST_BYTES_OF_CALLS

    def _leave_program(self) -> None:
        """Take the state out of listed steps, which may begin anew from another one."""
        if self._program is not None:
            self._state, self._program = self._program.state, None
            self._calls_from = self.step + STEPS_BEFORE_CALLS
        self._tries = self._may_trace

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self._leave_program()
        self._state = _select(self._state, replicas)
        self.network.keep(replicas)
        if self._arrivals is not None:
            self._arrivals.keep(replicas)
        if self._altered is not None:
            self._altered.keep(replicas)
        if self._delayed is not None:
            self._delayed.keep(replicas)
        if self._stoppages is not None:
            self._stoppages.keep(replicas, _select(self._stoppages.start, replicas))
        if self._late is not None:
            self._late.keep(replicas)
        self._rates.keep(replicas)
        if not self._rates.change:
            self._round.learning_rate = self._rates.at(0)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        held = bytes_of(self._state) if self._program is None else self._program.nbytes
        return held + (0 if self._delayed is None else self._delayed.nbytes)

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, but random numbers; copies."""
        return {
            "step": self.step,
            "sent": saved(np.asarray(self.network.vectors_sent)),
            "arrays": saved(self._state if self._program is None else self._program.state),
            "faults": self.fault_counts,
            "may_trace": self._may_trace,
        } | {name: each.state() for name, each in self._going_on}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        # Steps that could not be listed until then are not in the whole run either.
        self._may_trace = self._may_trace and state.get("may_trace", True)
        self._leave_program()
        self.step = int(state["step"])
        sent = laid_out(state["sent"])
        self.network.vectors_sent = sent if sent.ndim else sent.item()
        self._state = restored(self._state, state["arrays"])
        self.network.resume(self._state)
        if self._arrivals is not None and "lost_messages" in state["faults"]:
            self._arrivals.lost_messages = np.array(state["faults"]["lost_messages"])
        if self._altered is not None:
            self._altered.altered_numbers = np.array(state["faults"]["altered_numbers"])
        for name, each in self._going_on:
            each.restore(state[name])

    @property
    def _going_on(self) -> list[tuple[str, Stoppages | LateGradients | Late]]:
        """What goes on of workers that stop, or are slow, and of late messages, by name."""
        named = (
            ("stoppages", self._stoppages),
            ("late", self._late),
            ("delayed", self._delayed),
        )
        return [(name, each) for name, each in named if each is not None]


def _select(state: Any, replicas: np.ndarray) -> Any:
    """A state with only some of its replicas; arrays with three axes have them last."""
    if isinstance(state, tuple):
        return type(state)(*(_select(part, replicas) for part in state))
    return np.ascontiguousarray(state[..., replicas]) if state.ndim == 3 else state


def _replicas_of(x: np.ndarray) -> int:
    """How many iterates ``(n, d[, r])`` are of."""
    return x.shape[2] if x.ndim == 3 else 1
