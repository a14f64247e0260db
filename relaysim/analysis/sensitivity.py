"""How methods respond to heterogeneity: steps to a target, plateau and consensus distance against ζ²."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, check_oracle, cycle_of, weights_for
from relaysim.analysis.entries import Entry, entries_of, names_of
from relaysim.analysis.power_laws import exponents_of
from relaysim.analysis.remembered import Memory
from relaysim.engine import simulate
from relaysim.mixing.sequences import Mixing
from relaysim.oracles import Exact, Gaussian, Minibatch, Oracle
from relaysim.problems import Logistic, Problem, partitions, random_quadratics
from relaysim.problems.curvature import HESSIANS_UP_TO
from relaysim.problems.data import Dataset
from relaysim.problems.objective import Objective
from relaysim.problems.problem import knows_optimum
from relaysim.studies.experiment import DEFAULTS, OPTIONS
from relaysim.studies.naming import ORACLES, named
from relaysim.studies.tuning import searched
from relaysim.support.checks import real_number, shown, whole_number
from relaysim.support.display import between, html_table
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["Sensitivity", "heterogeneity_sensitivity"]

# Runs at the fixed rate are doubled until the last quarter is this close to the one before, or below
# this fraction of the start, which is called 0. Of fewer records nothing is said.
FIRST_STEPS, FLAT, ROUNDING, LEAST_RECORDS = 1000, 1e-3, 1e-12, 8
# Records of a quarter, where they need not be more for every phase of a cycle to be among them.
LATE_RECORDS = 50
# Methods that a table in a notebook has a line for.
MOST_IN_HTML = 12
# Under noise, where it is the mean over replicas that comes to rest.
NOISY_FLAT, REPLICAS = 0.1, 16
# By so much of itself a level may be off, for a decay too slow to show; runs are as long as that takes.
OFF, NOISY_OFF = 1e-2, 0.2


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What `heterogeneity_sensitivity` found.

    Attributes:
        frame: a row for each method, level and seed: ``method``, ``algorithm``, ``topology``,
            ``mixing`` ("metropolis", the default, "given", or empty for methods without), ``alpha``
            (for data), ``zeta2`` (of that problem), ``problem_seed``; ``learning_rate`` (tuned) and
            ``steps_to_target`` (NaN where no rate gets there); ``plateau`` and
            ``consensus_distance``, where they come to rest at ``plateau_learning_rate`` (0 where
            they fall below 1e-12 of the start, NaN where they do neither within ``max_steps``, or where that
            is too few for the slowest decay at that rate, 2γμ a step, to show), on average over the cycle of
            what is periodic.
            Different graphs or matrices of one name are numbered: "given #2".
        exponents: a row for each method (an algorithm with its topology and mixing) and measure:
            ``exponent``, ``low``, ``high``, of measure ∝ (ζ²)^exponent with its 95 % confidence
            interval, and ``points``, how many rows of the frame are in the regression. Those where
            the measure is 0 or NaN (a target that was not reached) are not: fewer points than
            problems mean that the exponent describes the easier ones only. NaN where too few are
            left, and for data where ζ² spans less than a factor of 3 for every seed: over so short
            a range a slope is that of the particular partitions.
        target: the suboptimality to reach.
    """

    frame: pd.DataFrame = field(repr=False)
    exponents: pd.DataFrame
    target: float

    def _repr_html_(self) -> str:
        levels = self.frame["alpha" if "alpha" in self.frame else "zeta2"].unique()
        rows = [
            ("target of the suboptimality", self.target),
            ("levels of α" if "alpha" in self.frame else "levels of ζ²", len(levels)),
            ("ζ²", between(self.frame["zeta2"])),
        ]
        fitted = self.exponents[self.exponents["measure"] == "steps_to_target"]
        for row in fitted.head(MOST_IN_HTML).to_dict("records"):
            graph = f"{row['method']}, {row['topology']}"
            value, low, high = (f"{row[key]:.2f}" for key in ("exponent", "low", "high"))
            unknown = "not known: ζ² changes too little, or too few reach the target"
            told = f"∝ (ζ²)^{value}, 95 % from {low} to {high}"
            rows.append((f"steps of {graph}", unknown if np.isnan(row["exponent"]) else told))
        if len(fitted) > MOST_IN_HTML:
            rows.append(("further methods", len(fitted) - MOST_IN_HTML))
        return html_table("Sensitivity to heterogeneity", rows)

    def plot(self, y: str = "steps_to_target", **options: Any) -> Axes:
        """Draw a measure against ζ², a line for each method; returns the Axes.

        See `relaysim.plots.plot_sensitivity` for the options.
        """
        from relaysim import plots

        return plots.plot_sensitivity(self, y, **options)


def heterogeneity_sensitivity(
    algorithm: Algorithm | str | Iterable[Any],
    topology: Topology | TreePair | str | None,
    zeta2: Sequence[float] | None = None,
    *,
    alpha: Sequence[float] | None = None,
    data: Dataset | None = None,
    problem: Callable[[float, int], Any] | None = None,
    l2: float = DEFAULTS["l2"],
    d: int = DEFAULTS["d"],
    mu: float | None = DEFAULTS["mu"],
    r0: float = DEFAULTS["r0"],
    problem_seeds: Sequence[int] = (0, 1, 2),
    target: float = DEFAULTS["target"],
    learning_rate: float | None = None,
    mixing: Mixing | str | None = None,
    oracle: Oracle | str | None = None,
    plateaus: bool = True,
    max_steps: int = DEFAULTS["max_steps"],
    store: str | os.PathLike | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> Sensitivity:
    """Measure methods on the same problems at several levels of heterogeneity.

    For every method, level and seed: the steps in which the fastest rate falls below the
    target to stay, by `relaysim.tune`; and the plateau of the suboptimality and of the consensus
    distance Ξ² at a fixed rate.

    Args:
        algorithm: a method, or a sequence of them, each alone or as ``(algorithm, topology)`` or
            ``(algorithm, topology, mixing)`` where it has its own. Each may be text, such as
            ``"ChocoSGD(TopK(8), 0.5)"``, as in sweeps.
        topology: for the methods that do not bring one.
        zeta2: levels of ζ², two or more, for `relaysim.problems.random_quadratics`, or for ``problem``.
        alpha: levels of α, two or more, each positive or ``math.inf``, for ``data`` split by
            `relaysim.problems.partitions.dirichlet`; ζ² is what they bring. Either this or zeta2.
        data: a `relaysim.problems.data.Dataset`, to go with alpha.
        problem: a function of a level and a seed that makes a problem of your own, to go with zeta2: such as
            ``lambda zeta2, seed: Logistic(…)``. It needs an optimum. ζ² is then what the problem says it is,
            if it does, and what was asked for is in a column ``level``.
        l2: of the logistic regression.
        d, mu, r0: of the quadratics.
        problem_seeds: seeds of the quadratics, or of the partitions.
        target: suboptimality to reach.
        learning_rate: of the runs that measure plateaus, one for all problems. By default 0.1/L
            with the largest L of them: the largest Hessian eigenvalue of any f_i, for data at the
            optimum (up to 2500 parameters; beyond, `Logistic.smoothness`).
        mixing: for the methods that mix and are listed alone.
        oracle: how gradients are seen: exactly by default; minibatches (`relaysim.oracles.Minibatch`, also as
            text) of problems with examples, or noise. Plateaus are then means over 16 replicas and the last
            quarter of their runs, known to about a tenth.
        plateaus: measure them; without, these columns are NaN, and so is their rate.
        max_steps: the longest run.
        store: a file that keeps what was measured, of the same methods on the same problems, and is asked
            first: a study that was interrupted goes on, one with further levels measures these only.
        n_jobs: processes, one problem at a time each.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.

    Returns:
        A `Sensitivity`, with a regression of log measure on log ζ², an intercept for each seed.

    Raises:
        ValueError, TypeError: fewer than two levels, levels out of range, neither or both of zeta2
            and alpha, a method that is listed twice, what cannot run together, or what a store could not
            tell from others; before anything runs.

    >>> import relaysim as rs
    >>> found = heterogeneity_sensitivity(rs.algorithms.RelaySGD(), rs.topologies.chain(8),
    ...                                   zeta2=[1, 10, 100], problem_seeds=[0])
    >>> steps = found.exponents.query("measure == 'steps_to_target'").exponent
    >>> bool(steps.abs().max() < 0.1)
    True
    """
    methods = entries_of(algorithm, topology, mixing)
    if isinstance(problem_seeds, str) or not isinstance(problem_seeds, Iterable):
        raise TypeError(
            f"problem_seeds must be a sequence, such as [0], not {shown(problem_seeds)}"
        )
    seeds = list(dict.fromkeys(whole_number(seed, "problem_seeds", 0) for seed in problem_seeds))
    if not seeds:
        raise ValueError("problem_seeds is empty; give one at least")
    given: dict[str, Any] = {
        "target": target,
        "max_steps": max_steps,
        "l2": l2,
        "d": d,
        "mu": mu,
        "r0": r0,
    }
    given = {name: OPTIONS[name].checked(value) for name, value in given.items()}
    target, max_steps, l2, d, mu, r0 = given.values()
    if learning_rate is not None and not real_number(learning_rate, "learning_rate") > 0:
        raise ValueError(f"learning_rate must be positive, not {learning_rate!r}")
    sizes = {graph.n for _, graph, _ in methods}
    if len(sizes) != 1:
        raise ValueError(f"the topologies have {sorted(sizes)} workers; make them equal")
    n = sizes.pop()
    if (zeta2 is None) == (alpha is None) or (alpha is None) != (data is None):
        raise ValueError("give zeta2 for quadratics, or alpha and data for logistic regression")
    if problem is not None and (alpha is not None or not callable(problem)):
        raise TypeError(
            f"problem must be a function of a level and a seed, to go with zeta2, not {shown(problem)}"
        )
    seen = _oracle(oracle)
    if problem is not None:
        levels, problem_at = _levels(zeta2, "zeta2"), problem
    elif alpha is None:
        levels = _levels(zeta2, "zeta2")

        def problem_at(level: float, seed: int) -> Objective:
            return random_quadratics(n, d, zeta2=level, mu=mu, r0=r0, seed=seed)
    else:
        levels = _levels(alpha, "alpha")
        if not isinstance(data, Dataset):
            raise TypeError(
                f"data must be a Dataset, such as relaysim.problems.data.wine(), or "
                f"relaysim.problems.data.Dataset(features, labels), not {shown(data)}"
            )

        def problem_at(level: float, seed: int) -> Objective:
            partition = partitions.dirichlet(data.labels, n, level, seed=seed)
            return Logistic(data.features, data.labels, l2, partition=partition)

    first = problem_at(levels[0], seeds[0])
    by_curvature = plateaus and learning_rate is None
    if by_curvature and not hasattr(first, "smoothness"):
        raise ValueError(
            f"{shown(first)} does not say its smoothness, of which the rate for plateaus is made; give "
            f"learning_rate=, or plateaus=False"
        )
    if not knows_optimum(first):
        raise ValueError(
            f"{shown(first)} has no optimum that is known, so that there is no suboptimality to bring below "
            f"a target; give it an `optimum`"
        )
    memory = Memory(store, "heterogeneity_sensitivity")
    for entry in methods:
        check_compatible(first, entry[1], entry[0])
        check_oracle(seen, entry[0])
        memory.check(first, entry, seen)
    if isinstance(seen, Gaussian | Minibatch):
        seen.check(first)
    names = names_of(methods)
    memory.open()

    def smoothness_at(level: float, seed: int) -> float:
        return _smoothness(problem_at(level, seed))

    asked = "alpha" if alpha is not None else "zeta2" if problem is None else "level"

    def measured_at(level: float, seed: int) -> list[dict]:
        made = problem_at(level, seed)

        def measured(entry: Entry) -> dict[str, float]:
            # ζ² of quadratics is what was asked for, met to rounding.
            known = {} if asked == "zeta2" else {"zeta2": float(getattr(made, "zeta2", level))}
            return known | _measure(made, *entry, target, rate, max_steps, seen)

        where = {asked: level, "zeta2": level, "problem_seed": seed}
        options = {"target": target, "max_steps": max_steps, "rate": rate, "seed": seed}
        return [
            name | where | memory.of(made, entry, seen, options, functools.partial(measured, entry))
            for name, entry in zip(names, methods, strict=True)
        ]

    def on_all_problems(function: Callable) -> list:
        cells = [(level, seed) for level in levels for seed in seeds]
        found = []
        for one in in_processes(function, cells, n_jobs):
            found.append(one)
            bar.update()
        return found

    tasks = (1 + by_curvature) * len(levels) * len(seeds)
    with progress_bar(tasks, progress, "heterogeneity", "problems") as bar:
        rate = learning_rate if plateaus else None
        if by_curvature:
            rate = 0.1 / max(on_all_problems(smoothness_at))
        by_problem = on_all_problems(measured_at)
    frame = pd.DataFrame([row for rows in zip(*by_problem, strict=True) for row in rows])
    return Sensitivity(frame, exponents_of(frame), target)


def _oracle(oracle: Any) -> Oracle:
    """The oracle, of a text or of None."""
    if oracle is None:
        return Exact()
    return named(oracle, ORACLES, "oracle") if isinstance(oracle, str) else oracle


def _levels(levels: Any, name: str) -> list[float]:
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise TypeError(
            f"{name} must be a sequence of two levels at least, such as [0.1, 1, 10], "
            f"not {shown(levels)}"
        )
    levels = list(levels)
    found = []
    for level in levels:
        if name == "zeta2":
            found.append(real_number(level, name, 0))
        elif level == math.inf or real_number(level, name) > 0:
            found.append(float(level))
        else:
            raise ValueError(f"alpha must be positive, not {level!r}")
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        raise ValueError(f"{name} must hold two different levels at least, not {levels}")
    return found


def _smoothness(problem: Objective) -> float:
    """Largest Hessian eigenvalue, at the optimum: a bound over all points may be far above it."""
    if hasattr(problem, "curvature_at") and problem.d <= HESSIANS_UP_TO:
        return problem.curvature_at(problem.optimum).smoothness
    return problem.smoothness


def _measure(
    problem: Problem,
    method: Algorithm,
    graph: Topology | TreePair,
    matrix: Mixing | None,
    target: float,
    rate: float | None,
    max_steps: int,
    oracle: Oracle,
) -> dict[str, float]:
    """Steps at the best rate, and where a run at the given rate comes to rest (not without one)."""
    tuned = searched(
        problem,
        graph,
        method,
        target=target,
        max_steps=max_steps,
        progress=False,
        mixing=matrix,
        oracle=oracle,
    )
    plateau = consensus = math.nan
    if rate is not None:
        plateau, consensus = _settled(problem, graph, method, matrix, rate, max_steps, oracle)
    return {
        "learning_rate": tuned.learning_rate,
        "steps_to_target": tuned.steps,
        "plateau_learning_rate": math.nan if rate is None else rate,
        "plateau": plateau,
        "consensus_distance": consensus,
    }


def _settled(
    problem: Problem,
    graph: Topology | TreePair,
    method: Algorithm,
    matrix: Mixing | None,
    learning_rate: float,
    max_steps: int,
    oracle: Oracle,
) -> tuple[float, float]:
    """Where suboptimality and consensus distance come to rest: 0 for all but nothing, NaN if not in time."""
    cycle = cycle_of(method, weights_for(method, graph, matrix))
    noisy = not isinstance(oracle, Exact)
    flat, replicas = (NOISY_FLAT, REPLICAS) if noisy else (FLAT, None)
    least = _least_steps(problem, learning_rate, flat / (NOISY_OFF if noisy else OFF))
    steps = min(max(FIRST_STEPS, 4 * cycle, least), max_steps)
    while True:
        late = _late_steps(steps, cycle)
        history = simulate(
            problem,
            graph,
            method,
            learning_rate=learning_rate,
            steps=steps,
            record=[0, *late],
            mixing=matrix,
            oracle=oracle,
            replicas=replicas,
            progress=False,
        )
        if history.diverged.any():
            return math.nan, math.nan
        frame = history.frame.groupby("step").mean()
        found = [
            _level(frame[name].to_numpy(), frame[scale].iloc[0], flat)
            for name, scale in (
                ("suboptimality", "suboptimality"),
                ("consensus_distance", "distance"),
            )
        ]
        if steps < least:  # what is flat may be falling still
            found = [0.0 if level == 0 else math.nan for level in found]
        if np.isfinite(found).all() or steps == max_steps:
            return found[0], found[1]
        steps = min(2 * steps, max_steps)


def _least_steps(problem: Problem, learning_rate: float, share: float) -> int:
    """Steps of a run in a quarter of which e^{−2γμt} falls by at least this share, μ the least curvature of f
    that the problem says; 0 where it says none.
    """
    said = (getattr(problem, f"{of}strong_convexity", None) for of in ("mean_", ""))
    mu = max((float(each) for each in said if each is not None), default=0.0)
    if not mu > 0:
        return 0
    return math.ceil(min(2 * share / (learning_rate * mu), 2.0**62))


def _late_steps(steps: int, cycle: int) -> np.ndarray:
    """Steps of the last half of a run, of which either half meets every phase of a cycle as often."""
    quarter = cycle * math.ceil(LATE_RECORDS / cycle)
    stride = max(steps // (4 * quarter), 1)
    while math.gcd(stride, cycle) > 1:
        stride -= 1
    quarter = min(quarter, steps // 4 // cycle * cycle)
    return steps - stride * np.arange(2 * quarter)[::-1]


def _level(values: np.ndarray, start: float, flat: float = FLAT) -> float:
    """The mean of the last quarter of a run where it equals that of the quarter before."""
    if len(values) <= LEAST_RECORDS:
        return math.nan
    early, late = np.split(values[1:], [len(values) // 2])
    if late.max() < ROUNDING * start:
        return 0.0
    return late.mean() if abs(late.mean() - early.mean()) < flat * late.mean() else math.nan
