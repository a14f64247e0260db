"""How methods respond to heterogeneity: steps to a target, plateau and consensus distance against ζ²."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import t as student

from relaysim.checks import real_number, whole_number
from relaysim.preparation import check_compatible, matrices_for
from relaysim.problems import Logistic, partitions, random_quadratics
from relaysim.progress import progress_bar
from relaysim.simulation import simulate
from relaysim.tuning import tune

__all__ = ["Exponent", "Sensitivity", "heterogeneity_sensitivity", "power_law"]

MEASURED = ("steps_to_target", "plateau", "consensus_distance")
# Runs at the fixed rate are doubled until the last quarter is this close to the one before, or below
# this fraction of the start, which is called 0.
FIRST_STEPS, FLAT, ROUNDING = 1000, 1e-3, 1e-12


class Exponent(NamedTuple):
    """The slope of log y against log x, and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What `heterogeneity_sensitivity` found.

    Attributes:
        frame: a row for each method, level and seed: ``method``, ``algorithm``, ``topology``,
            ``alpha`` (for data), ``zeta2`` (of that problem), ``problem_seed``; ``learning_rate``
            (tuned) and ``steps_to_target`` (NaN where no rate gets there); ``plateau`` and
            ``consensus_distance``, where they come to rest at ``plateau_learning_rate`` (0 where they
            fall below 1e-12 of the start, NaN where they do neither within ``max_steps``).
        exponents: a row for each method and measure: ``exponent``, ``low``, ``high``, of
            measure ∝ (ζ²)^exponent with its 95 % confidence interval; NaN where the measure is 0 or unknown.
        target: the suboptimality to reach.
    """

    frame: pd.DataFrame = field(repr=False)
    exponents: pd.DataFrame
    target: float

    def plot(self, y: str = "steps_to_target", **options):
        """Draw a measure against ζ², a line for each method; returns the Axes.

        See `relaysim.plots.plot_sensitivity` for the options.
        """
        from relaysim import plots

        return plots.plot_sensitivity(self, y, **options)


def heterogeneity_sensitivity(
    algorithm,
    topology,
    zeta2: Sequence[float] | None = None,
    *,
    alpha: Sequence[float] | None = None,
    data=None,
    l2: float = 0.01,
    d: int = 10,
    mu: float = 0.25,
    r0: float = 1.0,
    problem_seeds: Sequence[int] = (0, 1, 2),
    target: float = 1e-6,
    learning_rate: float | None = None,
    mixing=None,
    plateaus: bool = True,
    max_steps: int = 100_000,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> Sensitivity:
    """Measure methods on the same problems at several levels of heterogeneity.

    For every method, level and seed, without noise: the steps in which the fastest rate falls below the
    target to stay, by `relaysim.tune`; and the plateau of the suboptimality and of the consensus
    distance Ξ² at a fixed rate.

    Args:
        algorithm: a method, or a sequence of them, each alone or as ``(algorithm, topology)`` or
            ``(algorithm, topology, mixing)`` where it has its own.
        topology: for the methods that do not bring one.
        zeta2: levels of ζ², for `relaysim.problems.random_quadratics`.
        alpha: levels of α, for ``data`` split by `relaysim.problems.partitions.dirichlet`; ζ² is what
            they bring. Either this or zeta2.
        data: a `relaysim.problems.data.Dataset`, to go with alpha.
        l2: of the logistic regression.
        d, mu, r0: of the quadratics.
        problem_seeds: seeds of the quadratics, or of the partitions.
        target: suboptimality to reach.
        learning_rate: of the runs that measure plateaus; 0.1/L by default, with L at the
            optimum.
        mixing: for the methods that do not bring one.
        plateaus: measure them; without, these columns are NaN.
        max_steps: the longest run.
        n_jobs: processes, one problem at a time each.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.

    Returns:
        A `Sensitivity`, with a regression of log measure on log ζ², an intercept for each seed.

    Raises:
        ValueError: fewer than two levels, levels out of range, neither or both of zeta2 and alpha, or
            what cannot run together; before anything runs.

    >>> import relaysim as rs
    >>> found = heterogeneity_sensitivity(rs.algorithms.RelaySGD(), rs.topologies.chain(8),
    ...                                   zeta2=[1, 10, 100], problem_seeds=[0])
    >>> steps = found.exponents.query("measure == 'steps_to_target'").exponent
    >>> bool(steps.abs().max() < 0.1)
    True
    """
    methods = [_method(entry, topology, mixing) for entry in _listed(algorithm)]
    seeds = [whole_number(seed, "problem_seeds", 0) for seed in problem_seeds]
    if not seeds:
        raise ValueError("problem_seeds is empty; give one at least")
    target, max_steps = real_number(target, "target"), whole_number(max_steps, "max_steps", 1)
    if not target > 0:
        raise ValueError(f"target must be positive, not {target!r}")
    if learning_rate is not None and not real_number(learning_rate, "learning_rate") > 0:
        raise ValueError(f"learning_rate must be positive, not {learning_rate!r}")
    sizes = {graph.n for _, graph, _ in methods}
    if len(sizes) != 1:
        raise ValueError(f"the topologies have {sorted(sizes)} workers; make them equal")
    n = sizes.pop()
    if (zeta2 is None) == (alpha is None) or (alpha is None) != (data is None):
        raise ValueError("give zeta2 for quadratics, or alpha and data for logistic regression")
    if alpha is None:
        levels = _levels(zeta2, "zeta2")

        def problem_at(level: float, seed: int):
            return random_quadratics(n, d, zeta2=level, mu=mu, r0=r0, seed=seed)
    else:
        levels = _levels(alpha, "alpha")

        def problem_at(level: float, seed: int):
            partition = partitions.dirichlet(data.labels, n, level, seed=seed)
            return Logistic(data.features, data.labels, l2, partition=partition)

    first = problem_at(levels[0], seeds[0])
    for method, graph, matrix in methods:
        check_compatible(first, graph, method)
        matrices_for(method, graph, matrix)

    def measured_at(level: float, seed: int) -> list[dict]:
        problem = problem_at(level, seed)
        # ζ² of quadratics is what was asked for, met to rounding.
        where = {"zeta2": level} if alpha is None else {"alpha": level, "zeta2": problem.zeta2}
        return [
            {"method": method.label, "algorithm": repr(method), "topology": repr(graph)}
            | where
            | {"problem_seed": seed}
            | _measure(problem, graph, method, matrix, target, learning_rate, plateaus, max_steps)
            for method, graph, matrix in methods
        ]

    rows = []
    parallel = Parallel(n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator")
    tasks = (delayed(measured_at)(level, seed) for level in levels for seed in seeds)
    with progress_bar(len(levels) * len(seeds), progress, "heterogeneity", "problems") as bar:
        for found in parallel(tasks):
            rows += found
            bar.update()
    frame = pd.DataFrame(rows)
    order = {repr(method): k for k, (method, _, _) in enumerate(methods)}
    frame = frame.sort_values("algorithm", key=lambda a: a.map(order), kind="stable")
    frame = frame.reset_index(drop=True)
    return Sensitivity(frame, _exponents(frame), target)


def power_law(x: np.ndarray, y: np.ndarray, group: np.ndarray | None = None) -> Exponent:
    """The exponent b of y ∝ x^b by least squares on logarithms, with a 95 % confidence interval.

    Args:
        x, y: ``(k,)``; pairs of which one is not positive are left out.
        group: ``(k,)``; each group has a factor of its own.

    Returns:
        An `Exponent`, NaN with fewer than two different x in a group, its interval NaN without a
        degree of freedom. Residuals are taken to be independent and normal.

    >>> power_law([1, 2, 4], [3, 12, 48]).value.round(12)
    np.float64(2.0)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    group = np.zeros(len(x)) if group is None else np.asarray(group)
    kept = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    table = pd.DataFrame({"x": np.log(x[kept]), "y": np.log(y[kept]), "group": group[kept]})
    centered = table[["x", "y"]] - table.groupby("group")[["x", "y"]].transform("mean")
    square = (centered.x**2).sum()
    if len(table) < 2 or square < 1e-20:
        return Exponent(math.nan, math.nan, math.nan)
    slope = (centered.x * centered.y).sum() / square
    freedom = len(table) - table.group.nunique() - 1
    if freedom < 1:
        return Exponent(slope, math.nan, math.nan)
    residual = ((centered.y - slope * centered.x) ** 2).sum()
    half = student.ppf(0.975, freedom) * math.sqrt(residual / freedom / square)
    return Exponent(slope, slope - half, slope + half)


def _listed(algorithm) -> list:
    return list(algorithm) if isinstance(algorithm, list) else [algorithm]


def _method(entry, topology, mixing) -> tuple:
    if not isinstance(entry, tuple):
        return entry, topology, mixing if getattr(entry, "uses", None) == "mixing" else None
    if len(entry) not in (2, 3):
        raise ValueError("a method is (algorithm, topology) or (algorithm, topology, mixing)")
    method, graph, matrix = (*entry, None)[:3]
    return method, graph, matrix


def _levels(given, name: str) -> list[float]:
    least = 0.0
    levels = [
        level if name == "alpha" and level == math.inf else real_number(level, name, least)
        for level in given
    ]
    if len(set(levels)) < 2:
        raise ValueError(f"{name} must hold two different levels at least, not {list(given)}")
    return levels


def _measure(problem, graph, method, matrix, target, learning_rate, plateaus, max_steps) -> dict:
    tuned = tune(
        problem,
        graph,
        method,
        target=target,
        max_steps=max_steps,
        progress=False,
        mixing=matrix,
    )
    if learning_rate is None:
        # A bound over all points may be far above what bends near the optimum.
        near = (
            problem.curvature_at(problem.optimum) if hasattr(problem, "curvature_at") else problem
        )
        learning_rate = 0.1 / near.smoothness
    plateau = consensus = math.nan
    if plateaus:
        plateau, consensus = _settled(problem, graph, method, matrix, learning_rate, max_steps)
    return {
        "learning_rate": tuned.learning_rate,
        "steps_to_target": tuned.steps,
        "plateau_learning_rate": learning_rate,
        "plateau": plateau,
        "consensus_distance": consensus,
    }


def _settled(problem, graph, method, matrix, learning_rate, max_steps) -> tuple[float, float]:
    """Where suboptimality and consensus distance come to rest: 0 for all but nothing, NaN if not in time."""
    steps = min(FIRST_STEPS, max_steps)
    while True:
        late = np.unique(np.linspace(0.5 * steps, steps, 101).astype(int))
        history = simulate(
            problem,
            graph,
            method,
            learning_rate=learning_rate,
            steps=steps,
            record=[0, *late],
            mixing=matrix,
            progress=False,
        )
        frame = history.frame
        found = [
            _level(frame[name].to_numpy(), frame[scale].iloc[0])
            for name, scale in (
                ("suboptimality", "suboptimality"),
                ("consensus_distance", "distance"),
            )
        ]
        if np.isfinite(found).all() or history.diverged[0] or steps == max_steps:
            return found[0], found[1]
        steps = min(2 * steps, max_steps)


def _level(values: np.ndarray, start: float) -> float:
    """The mean of the last quarter of a run where it equals that of the quarter before."""
    early, late = np.split(values[1:], [len(values) // 2])
    if late.max() < ROUNDING * start:
        return 0.0
    return late.mean() if abs(late.mean() - early.mean()) < FLAT * late.mean() else math.nan


def _exponents(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(_exponent_rows(frame))


def _exponent_rows(frame: pd.DataFrame) -> Iterator[dict]:
    for algorithm, part in frame.groupby("algorithm", sort=False):
        for measure in MEASURED:
            found = power_law(part.zeta2, part[measure], part.problem_seed)
            yield {
                "method": part.method.iloc[0],
                "algorithm": algorithm,
                "measure": measure,
                "exponent": found.value,
                "low": found.low,
                "high": found.high,
            }
