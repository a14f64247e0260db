"""What a simulation recorded: tables, curves, and a file to keep them in."""

from __future__ import annotations

import copy
import functools
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from relaysim.algorithms.events import Algorithm
from relaysim.faults import AnyFault, Trace
from relaysim.measures import Measure
from relaysim.measures.columns import bits_of
from relaysim.mixing.by_step import AnyMixing
from relaysim.oracles import Oracle
from relaysim.problems import Problem
from relaysim.records import archive, configuration
from relaysim.records.describing import described
from relaysim.records.loading import loaded
from relaysim.records.state import KeptState, fingerprint
from relaysim.records.timing import times_of
from relaysim.support.names import labels_of_workers
from relaysim.theory.running_time import Runtime
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["History"]


class History:
    """The record of one call of `relaysim.simulate`, with r replicas.

    Attributes:
        steps: the recorded steps, ``(records,)``.
        x: the iterates after the last step, ``(n, d[, r])``; NaN for a replica that diverged.
        iterates: those at every record, ``(records, n, d[, r])``, if they were kept, else None; with
            ``keep_iterates=[i, …]`` those of these workers, ``(records, k, d[, r])``.
        measures: what the columns are, a `relaysim.measures.Measure` each.
        diverged: ``(r,)`` bool.
        trace: what was lost, late or stopped, if ``keep_faults`` said so, else None.
        interrupted: whether someone stopped the run before its last step; it is whole up to there.
        problem, topology, algorithm: what was run.
        config: plain data that rebuilds the run; see `relaysim.rebuild`.
        provenance: versions, BLAS, threads and machine that it was computed with; None in older files.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.ring(4), rs.algorithms.D2(),
    ...                       learning_rate=0.5, steps=50)
    >>> list(history.frame.columns)[:4]
    ['replica', 'seed', 'learning_rate', 'step']
    """

    def __init__(
        self,
        *,
        steps: np.ndarray,
        seeds: np.ndarray,
        learning_rates: np.ndarray,
        columns: dict[str, np.ndarray],
        measures: tuple[Measure, ...],
        vectors_sent: np.ndarray,
        last_record: np.ndarray,
        diverged: np.ndarray,
        x: np.ndarray,
        iterates: np.ndarray | None,
        config: dict[str, Any],
        problem: Problem | None,
        topology: Topology | TreePair,
        algorithm: Algorithm | None,
        state: KeptState | None = None,
        time: np.ndarray | None = None,
        interrupted: bool = False,
        provenance: dict[str, Any] | None = None,
        fault_counts: dict[str, np.ndarray] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.steps = steps
        self.x = x
        self.iterates = iterates
        self.diverged = diverged
        self.config = config
        self.measures = measures
        self.problem, self.topology, self.algorithm = problem, topology, algorithm
        self._seeds = seeds
        self._learning_rates = learning_rates
        self._columns = columns
        self._vectors_sent = vectors_sent
        self._last_record = last_record
        self._state = state
        self._time = time
        self.interrupted = interrupted
        self.provenance = provenance
        self.trace = trace
        self._fault_counts = fault_counts or {}

    @property
    def replicas(self) -> int:
        """Number of replicas, r."""
        return len(self.diverged)

    @property
    def label(self) -> str:
        """The method's name in plots and tables."""
        plain = self.config["algorithm"]
        return getattr(self.algorithm, "label", None) or plain.get("class", plain["type"])

    @property
    def mixing(self) -> AnyMixing | None:
        """What the run was given to mix with, as `relaysim.simulate` takes it, or None.

        Like ``oracle`` and ``fault_model`` it is rebuilt from ``config`` each time.

        Raises:
            ValueError: a callable of the user's own, which the record cannot rebuild.

        >>> import relaysim as rs
        >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
        >>> run = {"learning_rate": 0.5, "steps": 5, "oracle": rs.oracles.Gaussian(0.1)}
        >>> history = rs.simulate(problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), **run)
        >>> history.mixing, history.oracle, history.fault_model
        (None, Gaussian(sigma2=0.1), None)
        """
        return configuration.decode(self.config["mixing"], "mixing")

    @property
    def oracle(self) -> Oracle | None:
        """How the run's workers saw their gradients, or None where exactly.

        Raises:
            ValueError: an oracle of the user's own, which the record cannot rebuild.
        """
        return configuration.decode(self.config["oracle"], "oracle")

    @functools.cached_property
    def faults(self) -> pd.DataFrame | None:
        """What went wrong, counted: a row for each of `frame`, with ``replica``, ``seed``, ``step`` and how
        many ``lost_messages`` (``stopped_workers``, ``late_messages``, …) there were since the record
        before. None where nothing could go wrong.
        """
        if not self._fault_counts:
            return None
        what = self._what_records_are()
        data = {name: what[name] for name in ("replica", "seed", "step")}
        for name, total in self._fault_counts.items():
            data[name] = self._by_replica(np.diff(total, axis=0, prepend=0))
        return pd.DataFrame(data)

    @property
    def fault_model(self) -> AnyFault | None:
        """What the run was given to go wrong, or None.

        Raises:
            ValueError: a fault of the user's own, which the record cannot rebuild.
        """
        return configuration.decode(self.config["faults"], "faults")

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """One row per replica and recorded step.

        Columns: ``replica``, ``seed``, ``learning_rate`` (in force at that step), ``step``, then

        - ``suboptimality``: f(x̄) − f(x*);
        - ``consensus_distance``: Ξ² = (1/n) Σ_i ‖x_i − x̄‖²;
        - ``distance``: (1/n) Σ_i ‖x_i − x*‖²;
        - ``gradient_norm``: ‖∇f(x̄)‖²;
        - ``vectors_sent``: by all workers together since step 0; a compressed one counts as its share;
        - ``bits_sent``: the same in bits, 64 a number, d numbers a vector;
        - ``time``, where `with_time` gave one.

        Suboptimality and distance need a problem whose optimum is known; without it there is
        ``value``, f(x̄), instead. What else was asked for as ``measures`` comes after the gradient norm.
        A replica's rows end with its stop; they are NaN from the record at which it diverged.
        """
        data = self._what_records_are()
        data |= {name: self._by_replica(self._columns[name]) for name in self._names(False)}
        sent = self._vectors_sent.reshape(len(self.steps), -1)
        data["vectors_sent"] = self._by_replica(sent)
        data["bits_sent"] = self._by_replica(bits_of(sent, self.x.shape[1]))
        if self._time is not None:
            data["time"] = self._by_replica(self._time)
        return pd.DataFrame(data)

    @functools.cached_property
    def worker_frame(self) -> pd.DataFrame:
        """One row per replica, recorded step and worker, for measures that are ``per_worker``.

        Columns: ``replica``, ``seed``, ``learning_rate``, ``step`` as in `frame`, ``worker`` (its name if it
        has one), and those that were asked for, such as ``measures=["worker_distance"]``.

        Raises:
            ValueError: none was asked for.

        >>> import relaysim as rs
        >>> problem = rs.problems.DiagonalQuadratic(h=[[1.0], [1.0]], centers=[[1.0], [3.0]])
        >>> history = rs.simulate(problem, rs.topologies.chain(2), rs.algorithms.DPSGD(), learning_rate=0.5,
        ...                       steps=1, measures=["worker_distance"])
        >>> history.worker_frame[["step", "worker", "worker_distance"]].values.tolist()[:2]
        [[0.0, 0.0, 4.0], [0.0, 1.0, 4.0]]
        """
        names = self._names(True)
        if not names:
            raise ValueError(
                "this history has no measure of every worker; simulate with "
                "measures=['worker_consensus_distance'], or a Measure with per_worker=True"
            )
        n = self.x.shape[0]
        data = {name: np.repeat(each, n) for name, each in self._what_records_are().items()}
        called = labels_of_workers(n, self.topology, self.problem)
        data["worker"] = np.tile(called, len(data["step"]) // n)
        for name in names:
            rows = np.moveaxis(self._columns[name], 1, 2).swapaxes(0, 1).reshape(-1, n)
            data[name] = rows[self._is_recorded].ravel()
        return pd.DataFrame(data)

    def _names(self, per_worker: bool) -> list[str]:
        return [each.name for each in self.measures if each.per_worker == per_worker]

    @property
    def _is_recorded(self) -> np.ndarray:
        """Which records replicas have, ``(r · records,)``, replica by replica."""
        return (np.arange(len(self.steps)) <= self._last_record[:, None]).ravel()

    def _by_replica(self, table: np.ndarray) -> np.ndarray:
        """A table ``(records, r)``, or one that broadcasts to it, as a column of rows."""
        shape = (len(self.steps), self.replicas)
        return np.broadcast_to(table, shape).T.ravel()[self._is_recorded]

    def _what_records_are(self) -> dict[str, np.ndarray]:
        return {
            "replica": self._by_replica(np.arange(self.replicas)),
            "seed": self._by_replica(self._seeds),
            "learning_rate": self._by_replica(self._learning_rates),
            "step": self._by_replica(self.steps[:, None]),
        }

    @property
    def axis_labels(self) -> dict[str, str]:
        """What axes say of the measured columns."""
        return {each.name: each.axis_label for each in self.measures}

    def steps_to(self, target: float) -> np.ndarray:
        """First recorded step at which each replica's suboptimality is below target, ``(r,)``.

        NaN where it never is. The resolution is that of the records. A replica may rise again later, or
        diverge: `relaysim.tune` looks for rates with which it does not.
        """
        if "suboptimality" not in self._columns:
            raise ValueError(
                "the optimum of this problem is not known, so neither is suboptimality; "
                "give the problem an `optimum` (logistic regression has one for sure with l2 > 0)"
            )
        below = self._columns["suboptimality"] < target
        first = self.steps[below.argmax(axis=0)].astype(float)
        return np.where(below.any(axis=0), first, np.nan)

    def block(self, records: int) -> dict[str, Any]:
        """The first so many records: ``steps``, ``columns``, ``vectors_sent`` and ``iterates``."""
        return {
            "steps": self.steps[:records],
            "columns": {name: values[:records] for name, values in self._columns.items()},
            "faults": {f"faults/{name}": of[:records] for name, of in self._fault_counts.items()},
            "vectors_sent": self._vectors_sent[:records],
            "iterates": None if self.iterates is None else self.iterates[:records],
        }

    def with_time(self, runtime: Runtime | None = None, **model: Any) -> History:
        """The same history with a column ``time``: when the last worker had ended each recorded step.

        Args:
            runtime: what `relaysim.analysis.runtime` makes of at least as many steps, in one replica or one
                for each replica. None for asynchronous methods, whose events bring their own time: a step is
                the time in which each worker takes one gradient in expectation.
            model: in the place of a runtime the options of `relaysim.analysis.runtime`, on the history's own
                graph or matrices; ``overlap``, ``every`` and ``rounds`` are what the method claims, and each
                replica has times of its own, unless they say otherwise.

        Raises:
            ValueError: too few steps, another number of replicas, or a runtime where there must be none.

        >>> import relaysim as rs
        >>> ring, problem = rs.topologies.ring(4), rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
        >>> history = rs.simulate(problem, ring, rs.algorithms.D2(), learning_rate=0.5, steps=2)
        >>> slow = rs.analysis.runtime(ring, 2, compute=rs.analysis.Constant(3.0), latency=0.5)
        >>> history.with_time(slow).frame.time.tolist()
        [0.0, 3.5, 7.0]
        >>> history.with_time(compute=rs.analysis.Constant(3.0), latency=0.5).frame.time.tolist()
        [0.0, 3.5, 7.0]
        """
        timed = copy.copy(self)
        timed.__dict__.pop("frame", None)  # it is made anew
        timed._time = times_of(self, runtime, model)
        return timed

    _extended: ClassVar[Callable[..., History]]

    @classmethod
    def continued_by(cls, extended: Callable[..., History]) -> None:
        """Let the engine, which stands on histories, say how runs go on."""
        cls._extended = staticmethod(extended)

    def extend(
        self,
        steps: int,
        *,
        keep_state: bool | None = None,
        progress: bool | None = None,
        **given: Any,
    ) -> History:
        """Go on for further steps: the longer history, equal in every bit to that of one run.

        Needs the state that `relaysim.simulate` keeps (see its ``keep_state``): all that the steps to
        come depend on, such as momentum, corrections, messages and random streams. `save` writes it, so
        that another process can go on on another day. To start again from ``x0=history.x`` is another
        run: its momentum, corrections and messages are those of a start, and so are its random numbers.

        Args:
            steps: how many further ones.
            keep_state, progress: as for `relaysim.simulate`.
            given: what a file could not hold, by the names of `relaysim.simulate`: ``problem=`` for a
                problem of your own, ``learning_rate=`` for a callable, ….

        Returns:
            A new `History`; this one stays as it is. It has the records of
            ``simulate(…, steps=history's + steps)`` with the same ``record``: the last step of this one
            only if that falls on it.

        Raises:
            ValueError: no state was kept, or that of another version or another run.

        >>> import relaysim as rs
        >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
        >>> run = dict(problem=problem, topology=rs.topologies.chain(4), learning_rate=0.2,
        ...            algorithm=rs.algorithms.RelaySGD(momentum=0.5))
        >>> longer = rs.simulate(**run, steps=20).extend(30)
        >>> bool((longer.x == rs.simulate(**run, steps=50).x).all())
        True
        """
        if self._state is None:
            raise ValueError(
                "this history kept no state to go on from; simulate with keep_state=True (by default it "
                "is kept up to 64 MB), or start again from x0=history.x, without its momentum and messages"
            )
        return self._extended(
            self, self._state, steps, keep_state=keep_state, progress=progress, given=given
        )

    def plot(
        self,
        y: str | None = None,
        x: str = "step",
        *,
        theory: bool = False,
        worst_case: bool = False,
        **options: Any,
    ) -> Axes:
        """Draw a column against steps or vectors sent, on a log axis; returns the Axes.

        Args:
            y: the column; the suboptimality by default, or the gradient norm where no optimum is known.
            x: ``"step"``, ``"vectors_sent"``, ``"bits_sent"`` or, after `with_time`, ``"time"``.
            theory: lay over each learning rate what theory says of it: the exact curve without noise, its
                asymptotic rate, the expected noise floor with the 10–90 % band of a single record, and
                theorems, with faults the expectation; see `relaysim.theory.overlay`. At most three rates.
            worst_case: lay over each learning rate the worst that the method can do on any problem with
                the same constants, for up to 5 workers and 10 steps: seconds each; see
                `relaysim.theory.worst_case_curve`. It needs the extra ``pep``.
            options: see `relaysim.plots.plot_history`.

        Raises:
            ValueError: a column that this history does not have, or a run of which theory says nothing.
        """
        from relaysim import plots

        if y is None:
            y = "suboptimality" if "suboptimality" in self._columns else "gradient_norm"
        # What is no column, plot_history refuses.
        if (theory or worst_case) and {x, y} <= set(self.frame):
            from relaysim.records.overlays import overlays

            options["overlays"] = overlays(self, y, x, theory, worst_case)
        return plots.plot_history(self, y=y, x=x, **options)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays of the record, by the names that a file has for them."""
        arrays: dict[str, np.ndarray] = {
            "steps": self.steps,
            # Beyond 64 bits as text: arrays of objects would be pickled.
            "seeds": self._seeds if self._seeds.dtype != object else self._seeds.astype(str),
            "learning_rates": self._learning_rates,
            "vectors_sent": self._vectors_sent,
            "last_record": self._last_record,
            "diverged": self.diverged,
            "x": self.x,
        }
        arrays |= {f"column/{name}": values for name, values in self._columns.items()}
        arrays |= {f"faults/{name}": values for name, values in self._fault_counts.items()}
        for name, array in (("iterates", self.iterates), ("time", self._time)):
            if array is not None:
                arrays[name] = array
        return arrays

    def save(self, path: str | os.PathLike) -> pathlib.Path:
        """Write the history to one ``.npz`` file (arrays, and JSON for the rest; no pickle).

        The file is written aside and renamed, so that an older one is replaced only by a whole one.
        Returns the path, with ``.npz`` added where it was missing.
        """
        header: dict[str, Any] = {"config": self.config, "provenance": self.provenance}
        if self.trace is not None:
            header["trace"] = configuration.encode(self.trace)
        if self.interrupted:
            header["interrupted"] = True
        if self._state is not None:
            run = fingerprint(self.config)
            header["state"] = {"version": self._state.version, "run": run, "data": self._state.data}
        return archive.write(path, header, self.arrays())

    @staticmethod
    def load(path: str | os.PathLike) -> History:
        """Read what `save` wrote. A problem or algorithm of the user's own, or with such a part, is None.

        Raises:
            ValueError: the file is not a saved history, damaged, of a newer format, or larger than memory.

        A digest tells of anything that is not what was written. Files of version 0.1 have none: of them,
        only the archive's checksums, and that sizes fit each other, can be checked.
        """
        return History(**loaded(path))

    def _repr_html_(self) -> str:
        columns = {name: self._columns[name] for name in self._names(per_worker=False)}
        return described(self, self._learning_rates, self._vectors_sent, columns, self._last_record)

    def __repr__(self) -> str:
        last = int(self.steps[-1]) if len(self.steps) else 0
        gone = f", {int(self.diverged.sum())} diverged" if self.diverged.any() else ""
        stopped = ", interrupted" if self.interrupted else ""
        return (
            f"<History of {self.algorithm or self.label!r} on {self.topology!r}: "
            f"{last} steps, {len(self.steps)} records, {self.replicas} replicas{gone}{stopped}>"
        )
