"""The time loop: a problem, a topology and an algorithm advance together, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from relaysim.algorithms.fit import check_compatible
from relaysim.engine.events import Asynchronous
from relaysim.engine.plan import ReplicaPlan, plan_replicas, record_steps
from relaysim.engine.recording import Recorder
from relaysim.engine.rounds import Rounds
from relaysim.measures import measures_of
from relaysim.oracles import Exact
from relaysim.records import configuration
from relaysim.records.history import History
from relaysim.support.blocks import row_blocks
from relaysim.support.checks import real_number, whole_number
from relaysim.support.progress import progress_bar
from relaysim.support.starts import starting_points
from relaysim.support.streams import Streams
from relaysim.topologies import Topology, TreePair

__all__ = ["Run", "simulate"]

DIVERGED_BEYOND = 1e12


def simulate(
    problem,
    topology: Topology | TreePair,
    algorithm,
    *,
    learning_rate: float | Sequence[float] | Callable[[int], float],
    steps: int,
    x0: np.ndarray | None = None,
    mixing=None,
    oracle=None,
    faults=None,
    replicas: int | None = None,
    seed: int | Sequence[int] = 0,
    record: int | Sequence[int] | str | None = None,
    keep_iterates: bool = False,
    stop_below: float | None = None,
    progress: bool | None = None,
) -> History:
    """Run an algorithm on a problem split over the workers of a topology.

    Args:
        problem: see `relaysim.problems`; n workers, d parameters.
        topology: who talks to whom; connected, with n workers. The relay family needs a tree.
        algorithm: one of `relaysim.algorithms`.
        learning_rate: γ ≥ 0 (0: communication only); a 1-D array for one replica each, all advanced
            together; or a callable of the step (0, 1, …).
        steps: how many updates; step t is the state after t of them.
        x0: ``(d,)``, ``(n, d)`` or, for replicas that start apart, ``(n, d, r)``. Zeros by default.
            With r > 1 starting points there are r replicas, and learning rates and seeds are
            either single or multiply to r.
        mixing: a gossip matrix (n, n) whose rows sum to 1, or a sequence of them that repeats with
            the step. `relaysim.mixing.metropolis` by default. Only for methods that mix.
        oracle: how gradients are observed: exactly by default, `relaysim.oracles.Gaussian`.
        faults: what goes wrong on the way: nothing by default, `relaysim.faults.MessageDrop`.
        replicas: R with ``seed=s`` means the seeds s, …, s + R − 1.
        seed: a whole number, or a sequence of them, a replica each. Rates × seeds multiply, rates
            outermost; rates with the same seed see the same noise.
        record: every step by default; every k-th step and the last (a whole number); exactly these
            steps (a sequence); or ``"log"``, about 40 steps a decade.
        keep_iterates: keep the workers' iterates at every record.
        stop_below: end a replica with the record at which its suboptimality is below this.
        progress: a progress bar: True, False, or None: if the run is long and someone watches.

    Returns:
        The `History`. A replica that diverges (not finite, or further than 10¹² times the start) is
        marked in ``history.diverged``; from that record on its numbers are NaN.

    Raises:
        ValueError, TypeError: input that makes no sense, before any work starts.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD(),
    ...                       learning_rate=[0.1, 0.5], steps=100, record=50)
    >>> history.frame[["replica", "learning_rate", "step"]].values.tolist()[:4]
    [[0.0, 0.1, 0.0], [0.0, 0.1, 50.0], [0.0, 0.1, 100.0], [1.0, 0.5, 0.0]]
    """
    steps = whole_number(steps, "steps", 0)
    plan = plan_replicas(learning_rate, seed, replicas, x0, steps)
    recorded = record_steps(record, steps)
    measures = measures_of(problem)
    if stop_below is not None:
        if "suboptimality" not in measures:
            raise ValueError(
                "stop_below needs a problem whose optimum is known; give the problem an `optimum`"
            )
        if not real_number(stop_below, "stop_below") > 0:
            raise ValueError(f"stop_below must be positive, not {stop_below!r}")
    run = Run(
        problem,
        topology,
        algorithm,
        plan,
        mixing=mixing,
        oracle=oracle,
        faults=faults,
        measures=measures,
        keep_iterates=keep_iterates,
        stop_below=stop_below,
    )
    stop_below = None if stop_below is None else float(stop_below)
    config = {
        "problem": configuration.encode(problem),
        "topology": configuration.encode(topology),
        "algorithm": configuration.encode(algorithm),
        "learning_rate": configuration.encode(plan.given_rate),
        "steps": steps,
        "x0": plan.x0,
        "mixing": configuration.encode_mixing(mixing),
        "oracle": configuration.encode(oracle),
        "faults": configuration.encode(faults),
        "seed": [int(s) for s in plan.seeds] if np.ndim(seed) or replicas else plan.seeds[0],
        "record": list(recorded) if _is_list(record) else configuration.encode(record),
        "keep_iterates": bool(keep_iterates),
        "stop_below": stop_below,
    }
    with progress_bar(steps, progress, algorithm.label, "steps") as bar:
        run.advance(recorded, bar.update)
        run.finish(steps)
        bar.update(steps - bar.n)
    return run.history(config)


class Run:
    """A simulation under way: its state, and what was recorded of it so far.

    Replicas that diverged, or reached ``stop_below``, leave the computation; the others go on.
    """

    def __init__(
        self,
        problem,
        topology,
        algorithm,
        plan: ReplicaPlan,
        *,
        mixing=None,
        oracle=None,
        faults=None,
        measures: tuple[str, ...],
        keep_iterates: bool = False,
        stop_below: float | None = None,
    ):
        check_compatible(problem, topology, algorithm)
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self.plan = plan
        self._streams = Streams(plan.seeds, plan.owners if plan.has_axis else None)
        oracle = Exact() if oracle is None else oracle
        if isinstance(oracle, type) or not hasattr(oracle, "observe"):
            raise TypeError(
                f"{oracle!r} is no oracle; see relaysim.oracles, such as Gaussian(sigma2=0.01)"
            )
        x0 = starting_points(plan.x0, problem, plan.r if plan.has_axis else None)
        machine = Asynchronous if algorithm.uses == "events" else Rounds
        self._machine = machine(
            problem,
            topology,
            algorithm,
            plan=plan,
            streams=self._streams,
            x0=x0,
            mixing=mixing,
            oracle=oracle,
            faults=faults,
        )
        # Replicas that are still computed, by their number in the plan.
        self.active = np.arange(plan.r)
        self.diverged = np.zeros(plan.r, dtype=bool)
        self.stopped_at = np.full(plan.r, -1)
        self._stop_below = stop_below
        self._final = np.full(x0.shape, np.nan) if plan.has_axis else None
        self._recorder = Recorder(problem, x0.shape, measures, keep_iterates)
        # By block of records: the replicas that it holds, and each measure (records, replicas).
        self._blocks: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._recorded: list[int] = []
        self._sent: list[float | np.ndarray] = []
        optimum = getattr(problem, "optimum", None)
        self._center = np.zeros(problem.d) if optimum is None else np.asarray(optimum, dtype=float)
        self._limit = _divergence_limit(self._center, _squared_size(x0[None], self._center).ravel())

    # -- the loop ----------------------------------------------------------------------------------

    def advance(self, record_steps: Iterable[int], on_progress: Callable | None = None) -> None:
        """Step on to each of these steps (increasing) and record there."""
        remaining = iter(record_steps)
        with np.errstate(all="ignore"):
            while len(self.active):
                block = list(itertools.islice(remaining, self._recorder.capacity))
                if not block:
                    return
                before = self.step
                self._record_block(block)
                if on_progress is not None:
                    on_progress(self.step - before)

    def finish(self, steps: int) -> None:
        """Take the steps after the last record."""
        if len(self.active) and self.step < steps:
            with np.errstate(all="ignore"):
                self._step_through([steps], _forget, _forget)
                size = _squared_size(self._machine.x[None], self._center).ravel()
            self.diverged[self.active[~(size <= self._limit[self.active])]] = True

    def _record_block(self, targets: list[int]) -> None:
        self._step_through(targets, self._recorder.add, self._sent.append)
        self._recorded += targets
        self._measure(len(targets))

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._machine.step

    def _step_through(self, targets: list[int], record: Callable, count: Callable) -> None:
        machine = self._machine
        for target in targets:
            machine.advance(target)
            record(machine.x)
            count(machine.vectors_sent)

    def _measure(self, count: int) -> None:
        """Measure the last ``count`` records, and let go of the replicas that are done."""
        measured, iterates = self._recorder.flush()
        r = len(self.active)
        size = measured.get("distance")
        if size is None:
            size = _squared_size(iterates, self._center).reshape(count, r)
        bad = ~(size <= self._limit[self.active])
        first_bad = np.where(bad.any(axis=0), bad.argmax(axis=0), count)
        # Once diverged, always diverged, even where a schedule lets the iterates come back.
        first_bad[self.diverged[self.active]] = 0
        leave = first_bad < count
        self.diverged[self.active[leave]] = True
        for values in measured.values():
            values[np.arange(count)[:, None] >= first_bad] = np.nan
        if self._stop_below is not None:
            below = measured["suboptimality"] < self._stop_below
            first = np.where(below.any(axis=0), below.argmax(axis=0), count)
            stop = first < np.minimum(first_bad, count)
            self.diverged[self.active[stop]] = False
            before = len(self._recorded) - count
            self.stopped_at[self.active[stop]] = before + first[stop]
            if not self.plan.has_axis:
                if stop[0]:
                    self._final = iterates[first[0]].copy()
            else:
                for k in np.flatnonzero(stop):
                    self._final[..., self.active[k]] = iterates[first[k], ..., k]
            leave = leave | stop
        if self._recorder.keep_iterates:
            kept = iterates.copy()
            for k in np.flatnonzero(first_bad < count):
                kept[first_bad[k] :, ..., *((k,) if self.plan.has_axis else ())] = np.nan
            self._kept.append((self.active, kept))
        self._blocks.append((self.active, measured))
        if leave.any():
            self._leave(leave)

    def _leave(self, leave: np.ndarray) -> None:
        """Go on without these replicas (a boolean mask over the active ones).

        Of those that diverged one goes on, as NaN: the records of all of them are still to come, up
        to the last step, and what is sent is still counted.
        """
        stay = ~leave
        gone = self.diverged[self.active]
        if gone.any() and not (gone & stay).any():
            stay[np.argmax(gone)] = True
        if stay.all():
            return
        self.active = self.active[stay]
        if not self.plan.has_axis or not len(self.active):
            return
        self._streams.keep(stay)
        self._machine.keep(stay)
        self._recorder.keep(stay)

    # -- what was found ----------------------------------------------------------------------------

    def measure(self, name: str) -> np.ndarray:
        """One measure at all records so far, ``(records, r)``; NaN after a replica has left."""
        table = np.full((len(self._recorded), self.plan.r), np.nan)
        start = 0
        for active, block in self._blocks:
            values = block[name]
            table[start : start + len(values), active] = values
            start += len(values)
        return table

    @property
    def steps(self) -> np.ndarray:
        """The steps recorded so far."""
        return np.array(self._recorded, dtype=np.int64)

    def history(self, config: dict) -> History:
        """Everything recorded, as a `History`."""
        records = len(self._recorded)
        last = np.where(self.stopped_at >= 0, self.stopped_at, records - 1)
        kept_records = int(last.max()) + 1 if len(last) else 0
        columns = {name: self.measure(name)[:kept_records] for name in self._recorder.measures}
        for values in columns.values():
            values[np.arange(kept_records)[:, None] > last] = np.nan
        present = self._machine.x
        if self.plan.has_axis:
            x = self._final
            if len(self.active):
                x[..., self.active] = present
            x[..., self.diverged] = np.nan
        else:
            x = present if self._final is None else self._final
            x = np.full_like(x, np.nan) if self.diverged[0] else x
        plan = self.plan
        steps = self.steps[:kept_records]
        if plan.schedule is not None:
            rates = plan.schedule[np.minimum(steps, len(plan.schedule) - 1)][:, None]
            rates = np.broadcast_to(rates, (kept_records, plan.r))
        else:
            rates = np.broadcast_to(plan.rates, (kept_records, plan.r))
        return History(
            steps=steps,
            seeds=np.array(plan.seeds)[plan.owners],
            learning_rates=rates,
            columns=columns,
            vectors_sent=self._all_sent()[:kept_records],
            last_record=last,
            diverged=self.diverged,
            x=x,
            iterates=self._all_iterates(kept_records, last) if self._kept else None,
            config=config,
            problem=self.problem,
            topology=self.topology,
            algorithm=self.algorithm,
        )

    def _all_sent(self) -> np.ndarray:
        """Vectors sent at every record, ``(records,)``, or ``(records, r)`` where replicas differ."""
        if all(np.ndim(sent) == 0 for sent in self._sent):
            return np.array(self._sent)
        table = np.zeros((len(self._sent), self.plan.r))
        record = 0
        for active, block in self._blocks:
            for sent in self._sent[record : record + len(next(iter(block.values())))]:
                # A replica that has left sends no more.
                table[record] = table[max(record - 1, 0)]
                table[record, active] = sent
                record += 1
        return table

    def _all_iterates(self, records: int, last: np.ndarray) -> np.ndarray:
        if not self.plan.has_axis:
            return np.concatenate([block for _, block in self._kept])[:records]
        n, d, r = self._final.shape
        result = np.full((len(self._recorded), n, d, r), np.nan)
        start = 0
        for active, block in self._kept:
            result[start : start + len(block), :, :, active] = block
            start += len(block)
        for k in range(r):
            result[last[k] + 1 :, :, :, k] = np.nan
        return result[:records]


def _is_list(record) -> bool:
    return not isinstance(record, str) and np.ndim(record) > 0


def _forget(_) -> None:
    """In place of recording."""


def _divergence_limit(center: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Largest squared size (1/n) Σ‖x_i − c‖² before a replica counts as diverged, ``(r,)``.

    c is x* where it is known, else 0. A start at c itself, up to rounding, is measured by ‖c‖, but by
    1 at the least.
    """
    fallback = max(float(center @ center), 1.0)
    return DIVERGED_BEYOND**2 * np.where(start > 1e-26 * fallback, start, fallback)


def _squared_size(iterates: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(1/n) Σ_i ‖x_i − c‖² of iterates ``(k, n, d[, r])``, as ``(k[, r])``."""
    total = 0.0
    for rows in row_blocks(iterates[0]):
        part = iterates[:, rows]
        if center.any():
            part = part - center.reshape((-1,) + (1,) * (iterates.ndim - 3))
        total = total + np.einsum("tnd...,tnd...->t...", part, part)
    return np.asarray(total) / iterates.shape[1]
