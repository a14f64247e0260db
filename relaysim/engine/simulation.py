"""One call: a problem, a topology and an algorithm become a history."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaysim.algorithms.events import Algorithm
from relaysim.engine.estimate import need_of, require_fitting
from relaysim.engine.ledger import Block
from relaysim.engine.plan import (
    LearningRate,
    ReplicaPlan,
    number_of_records,
    plan_replicas,
    record_steps,
    require_room,
)
from relaysim.engine.run import FAULTS, Run
from relaysim.engine.setup import Setup
from relaysim.engine.stopping import Stopping
from relaysim.faults import ALTERED, LIES, AnyFault, Fault, kind_of, parts_of
from relaysim.measures.columns import further_measures, measures_of
from relaysim.mixing.by_step import AnyMixing, is_by_step
from relaysim.mixing.sequences import mixing_in_double
from relaysim.oracles import Oracle
from relaysim.problems import Problem
from relaysim.records import configuration
from relaysim.records.history import History
from relaysim.records.provenance import provenance
from relaysim.records.state import KeptState
from relaysim.support.checks import shown, size_in_bytes, true_or_false, whole_number
from relaysim.support.interrupts import StopRequest, called_by_user, stops_in_order
from relaysim.support.progress import progress_bar
from relaysim.support.streams import seed_array
from relaysim.topologies import Topology, TreePair

__all__ = ["MOST_STATE_BYTES", "Experiment", "require_steps", "simulate"]

_FEWER_RECORDS = "record less often (record=100, record='log')"
#: A state that takes no more is kept unless someone says otherwise.
MOST_STATE_BYTES = 64_000_000


def simulate(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    *,
    learning_rate: LearningRate,
    steps: int,
    x0: ArrayLike | None = None,
    mixing: AnyMixing | None = None,
    oracle: Oracle | None = None,
    faults: AnyFault | None = None,
    replicas: int | None = None,
    seed: int | Sequence[int] = 0,
    record: int | Sequence[int] | str | None = None,
    keep_iterates: bool | Sequence[int] = False,
    measures: Sequence[Any] | None = None,
    stop_below: float | None = None,
    stop_when: Mapping[str, float] | None = None,
    keep_state: bool | None = None,
    keep_faults: bool = False,
    progress: bool | None = None,
    max_memory: float | str | None = None,
) -> History:
    """Run an algorithm on a problem split over the workers of a topology.

    Args:
        problem: see `relaysim.problems`; n workers, d parameters.
        topology: who talks to whom; connected, with n workers. The relay family needs a tree.
        algorithm: one of `relaysim.algorithms`.
        learning_rate: γ ≥ 0 (0: communication only); a 1-D array for one replica each, all advanced
            together; a callable of the step (0, 1, …); or `relaysim.PerWorker`, one for each worker.
        steps: how many updates; step t is the state after t of them.
        x0: ``(d,)``, ``(n, d)`` or, for replicas that start apart, ``(n, d, r)``. Zeros by default.
            With r > 1 starting points there are r replicas, and learning rates and seeds are
            either single or multiply to r.
        mixing: a gossip matrix (n, n) whose rows sum to 1 (float32 in single precision: made to sum to 1,
            with a note), a sequence of them that repeats with the step, or a callable of the step (0, 1, …)
            that gives one. `relaysim.mixing.metropolis` by default. Only for methods that mix.
        oracle: how gradients are observed: exactly by default, `relaysim.oracles.Gaussian`.
        faults: what goes wrong: nothing by default, `relaysim.faults.MessageDrop`, ….
        replicas: R with ``seed=s`` means the seeds s, …, s + R − 1.
        seed: a whole number, or a sequence of them, a replica each. Rates × seeds multiply, rates
            outermost; rates with the same seed see the same noise.
        record: every step by default; every k-th step and the last (a whole number); exactly these
            steps (a sequence); or ``"log"``, about 40 steps a decade.
        keep_iterates: keep the workers' iterates at every record: True, False, or the workers, such as
            ``[0, 5]``.
        measures: further columns, in a list: Measures, names of ready ones (`relaysim.measures`), and
            pairs of a name and a function of x, ``(n, d[, r])`` to ``()`` or ``(r,)``.
        stop_below: end a replica with the record at which its suboptimality is below this.
        stop_when: end a replica with the first record at which a column is below its limit, or at which as
            much was sent: ``{"gradient_norm": 1e-6, "vectors_sent": 1e5}``, ``"bits_sent"``.
        keep_state: keep the state after the last step, with which `History.extend` goes on; True, False,
            or None: if it takes up to 64 MB.
        keep_faults: keep what was lost, late or stopped, as ``history.trace``, for `relaysim.faults.Replay`.
        progress: a progress bar: True, False, or None: if the run is long and someone watches.
        max_memory: refuse a run that would take more, in bytes or as ``"2 GB"``; by default one that would
            take more than there is in this machine.

    Returns:
        The `History`. A replica that diverges (not finite, or further than 10¹² times the start) is
        marked in ``history.diverged``; from that record on its numbers are NaN. Ctrl-C, or the stop button
        of a notebook, ends the run after the step under way: the history is that of so many steps, and
        says ``interrupted``. A second one raises.

    Raises:
        ValueError, TypeError: input that makes no sense, before any work starts.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD(),
    ...                       learning_rate=[0.1, 0.5], steps=100, record=50)
    >>> history.frame[["replica", "learning_rate", "step"]].values.tolist()[:4]
    [[0.0, 0.1, 0.0], [0.0, 0.1, 50.0], [0.0, 0.1, 100.0], [1.0, 0.5, 0.0]]
    """
    experiment = Experiment(
        problem,
        topology,
        algorithm,
        learning_rate=learning_rate,
        steps=steps,
        x0=x0,
        mixing=mixing,
        oracle=oracle,
        faults=faults,
        replicas=replicas,
        seed=seed,
        record=record,
        keep_iterates=keep_iterates,
        measures=measures,
        stop_below=stop_below,
        stop_when=stop_when,
        keep_faults=keep_faults,
        max_memory=max_memory,
    )
    if keep_state is not True:
        require_steps(algorithm, experiment.steps)
    return experiment.history(keep_state, progress)


class Experiment:
    """What a call of `simulate` asks for, checked: the run that it begins, and its description.

    Args: as those of `simulate`.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        *,
        learning_rate: LearningRate,
        steps: int,
        x0: ArrayLike | None = None,
        mixing: AnyMixing | None = None,
        oracle: Oracle | None = None,
        faults: AnyFault | None = None,
        replicas: int | None = None,
        seed: int | Sequence[int] = 0,
        record: int | Sequence[int] | str | None = None,
        keep_iterates: bool | Sequence[int] = False,
        measures: Sequence[Any] | None = None,
        stop_below: float | None = None,
        stop_when: Mapping[str, float] | None = None,
        keep_faults: bool = False,
        max_memory: float | str | None = None,
    ):
        self.steps = whole_number(steps, "steps", 0)
        records = number_of_records(record, self.steps)
        require_room(records, 0, f"{records} records", _FEWER_RECORDS)
        most = None if max_memory is None else size_in_bytes(max_memory, "max_memory")
        if replicas is not None:
            replicas = whole_number(replicas, "replicas", 1)
        # Before replicas are laid out, which takes long where they are many.
        asked = {"problem": problem, "learning_rate": learning_rate, "seed": seed, "x0": x0}
        asked |= {"steps": self.steps, "record": record, "replicas": replicas}
        need = need_of(asked | {"oracle": oracle, "faults": faults})
        require_fitting(need, most)
        if not (mixing is None or is_by_step(mixing)):
            mixing = mixing_in_double(mixing)  # noted once, not by each reader
        self.plan = plan_replicas(learning_rate, seed, replicas, x0, self.steps)
        self.recorded = record_steps(record, self.steps)
        self.parts: dict[str, Any] = {
            "problem": problem,
            "topology": topology,
            "algorithm": algorithm,
            "learning_rate": learning_rate,
            "mixing": mixing,
            "oracle": oracle,
            "faults": faults,
            "measures": None if measures is None else further_measures(measures),
        }
        self.measures = measures_of(problem, self.parts["measures"])
        keep_faults = true_or_false(keep_faults, "keep_faults")
        other = [each for each in map(kind_of, parts_of(faults)) if each in (ALTERED, LIES)]
        if keep_faults and other:
            raise ValueError(
                f"a trace is of what is lost, late or stopped and cannot replay {other[0]}; leave "
                f"keep_faults out"
            )
        for fault in parts_of(faults):
            if isinstance(fault, Fault):
                fault.check_run(self.plan.r if self.plan.has_axis else 1, self.steps)
        setup = Setup(
            problem,
            topology,
            algorithm,
            self.plan,
            mixing=mixing,
            oracle=oracle,
            faults=faults,
            keep_faults=keep_faults,
        )
        self.writer = setup.writer
        stopping = Stopping(setup.problem, self.measures, stop_below, stop_when)
        kept = _kept_iterates(keep_iterates, setup.problem.n)
        workers = setup.problem.n if kept is True else len(kept or ())
        columns = sum(setup.problem.n if each.per_worker else 1 for each in self.measures) + 1
        require_fitting(dataclasses.replace(need, columns=columns, kept=workers), most)
        self.run = Run(setup, measures=self.measures, keep_iterates=kept, stopping=stopping)
        # The last step whose record is behind us.
        self._done = -1
        listed = not (record is None or isinstance(record, str)) and np.ndim(record) > 0
        self.config = {
            "problem": configuration.encode(problem),
            "topology": configuration.encode(topology),
            "algorithm": configuration.encode(algorithm),
            "learning_rate": configuration.encode(self.plan.given_rate),
            "steps": self.steps,
            "x0": self.plan.x0,
            "mixing": configuration.encode_mixing(mixing),
            "oracle": configuration.encode(oracle),
            "faults": configuration.encode(faults),
            "seed": _plain_seeds(self.plan, seed, replicas),
            "record": list(self.recorded) if listed else configuration.encode(record),
            "keep_iterates": kept,
            "measures": configuration.encode_measures(self.parts["measures"]),
            "stop_below": None if stop_below is None else float(stop_below),
            "stop_when": None
            if stop_when is None
            else {name: configuration.encode(limit) for name, limit in stop_when.items()},
            "keep_faults": keep_faults,
        }

    def go_on(self, state: dict[str, Any], recorded: Block) -> None:
        """Take up the state of a run that had fewer steps, with what it recorded."""
        self.run.restore(state, recorded, set(self.recorded))
        self._done = self.run.step

    @property
    def can_pause(self) -> bool:
        """Whether a state is kept in any case, records that wait to be measured included."""
        return 2 * self.run.nbytes <= MOST_STATE_BYTES

    def history(
        self, keep_state: bool | None, progress: bool | None, pause: StopRequest | None = None
    ) -> History:
        """Go to the last step, from wherever the run stands, and tell what was recorded.

        Where a user asks to stop, or ``pause`` does, it is the history of so many steps as were taken.
        """
        run = self.run
        wanted = None if keep_state is None else true_or_false(keep_state, "keep_state")
        most = {None: MOST_STATE_BYTES, True: math.inf, False: -1}[wanted]
        remaining = (step for step in self.recorded if step > self._done)
        label = self.parts["algorithm"].label
        total = self.steps - run.step
        by_user = called_by_user("history", "simulate", "extend", "extended")
        with (
            stops_in_order(by_user) as asked,
            progress_bar(total, progress, label, "steps") as bar,
        ):
            stop = asked if pause is None else pause
            state = run.finish(remaining, self.steps, bar.update, most, stop)
            bar.update((run.step if stop.made else self.steps) - self.steps + total - bar.n)
        interrupted = stop.made and run.step < self.steps and len(run.active) > 0
        if interrupted:
            self._end_here()
        kept = None if state is None else KeptState(state, self.parts)
        return _history_of(self, kept, interrupted)

    def _end_here(self) -> None:
        """Describe the run of the steps that were taken, which is a whole one."""
        record = self.config["record"]
        self.config["steps"] = self.steps = self.run.step
        if isinstance(record, list):
            self.config["record"] = self.run.steps.tolist()


def require_steps(algorithm: Algorithm, steps: int) -> None:
    """Raise where a run would end before what the method is made for."""
    if steps < algorithm.least_steps:
        raise ValueError(
            f"{algorithm!r} needs at least {algorithm.least_steps} steps and the run has {steps}: what makes "
            f"it this method would never happen; take more steps, options that fit them, or keep_state=True "
            f"to go on with the run later"
        )


def _kept_iterates(keep: Any, n: int) -> bool | list[int]:
    """Whether iterates are kept, or those of which workers."""
    if isinstance(keep, bool | np.bool_):
        return bool(keep)
    if isinstance(keep, str) or np.ndim(keep) != 1:
        raise TypeError(
            f"keep_iterates must be True, False or a list of workers such as [0, 5], not {shown(keep)}"
        )
    workers = [whole_number(worker, "keep_iterates: a worker", 0) for worker in keep]
    if not workers:
        raise ValueError(
            "keep_iterates is an empty list; name at least one worker, or leave it out"
        )
    beyond = [worker for worker in workers if worker >= n]
    if beyond:
        raise ValueError(f"keep_iterates names worker {beyond[0]}; there are 0 to {n - 1}")
    if len(set(workers)) < len(workers):
        raise ValueError(f"keep_iterates names a worker twice: {workers}")
    return workers


def _plain_seeds(
    plan: ReplicaPlan, seed: int | Sequence[int], replicas: int | None
) -> int | list[int]:
    return [int(s) for s in plan.seeds] if np.ndim(seed) or replicas else plan.seeds[0]


def _history_of(experiment: Experiment, state: KeptState | None, interrupted: bool) -> History:
    run, plan = experiment.run, experiment.plan
    last = run.ledger.last_record
    records = int(last.max()) + 1 if len(last) else 0
    columns = {each.name: run.column(each.name)[:records] for each in run.measures}
    has_ended = np.arange(records)[:, None] > last
    for values in columns.values():
        np.copyto(values, np.nan, where=has_ended if values.ndim == 2 else has_ended[:, None])
    steps = run.steps[:records]
    iterates = run.ledger.iterates()
    return History(
        steps=steps,
        seeds=seed_array(plan.seeds)[plan.owners],
        learning_rates=plan.mean_rates(steps),
        columns=columns,
        measures=experiment.measures,
        vectors_sent=run.ledger.sent()[:records],
        last_record=last,
        diverged=run.diverged,
        x=run.x,
        iterates=None if iterates is None else iterates[:records],
        config=experiment.config,
        problem=experiment.parts["problem"],
        topology=experiment.parts["topology"],
        algorithm=experiment.parts["algorithm"],
        state=state,
        interrupted=interrupted,
        provenance=provenance(),
        fault_counts={name: run.column(FAULTS + name)[:records] for name in run.fault_names},
        trace=None if experiment.writer is None else experiment.writer.trace(run.step),
    )
