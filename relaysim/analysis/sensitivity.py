"""How methods respond to heterogeneity: steps to a target, plateau and consensus distance against ζ²."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import t as student

from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.engine import simulate
from relaysim.problems import Logistic, partitions, random_quadratics
from relaysim.problems.curvature import HESSIANS_UP_TO
from relaysim.problems.data import Dataset
from relaysim.studies.tuning import tune
from relaysim.support.checks import real_number, shown, whole_number
from relaysim.support.progress import progress_bar
from relaysim.topologies import Topology, TreePair

__all__ = ["Exponent", "Sensitivity", "heterogeneity_sensitivity", "power_law"]

MEASURED = ("steps_to_target", "plateau", "consensus_distance")
# What makes a method of its own in a study: a line, and exponents.
ENTRY = ("algorithm", "topology", "mixing")
# Runs at the fixed rate are doubled until the last quarter is this close to the one before, or below
# this fraction of the start, which is called 0. Of fewer records nothing is said.
FIRST_STEPS, FLAT, ROUNDING, LEAST_RECORDS = 1000, 1e-3, 1e-12, 8
# Where ζ² is what a data set brings it may hardly change: exponents are left open below this span.
LEAST_SPAN = 3.0


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
            ``mixing`` ("metropolis", the default, "given", or empty for methods without), ``alpha``
            (for data), ``zeta2`` (of that problem), ``problem_seed``; ``learning_rate`` (tuned) and
            ``steps_to_target`` (NaN where no rate gets there); ``plateau`` and
            ``consensus_distance``, where they come to rest at ``plateau_learning_rate`` (0 where
            they fall below 1e-12 of the start, NaN where they do neither within ``max_steps``).
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
        zeta2: levels of ζ², two or more, for `relaysim.problems.random_quadratics`.
        alpha: levels of α, two or more, each positive or ``math.inf``, for ``data`` split by
            `relaysim.problems.partitions.dirichlet`; ζ² is what they bring. Either this or zeta2.
        data: a `relaysim.problems.data.Dataset`, to go with alpha.
        l2: of the logistic regression.
        d, mu, r0: of the quadratics.
        problem_seeds: seeds of the quadratics, or of the partitions.
        target: suboptimality to reach.
        learning_rate: of the runs that measure plateaus, one for all problems. By default 0.1/L
            with the largest L of them: the largest Hessian eigenvalue of any f_i, for data at the
            optimum (up to 2500 parameters; beyond, `Logistic.smoothness`).
        mixing: for the methods that mix and are listed alone.
        plateaus: measure them; without, these columns are NaN, and so is their rate.
        max_steps: the longest run.
        n_jobs: processes, one problem at a time each.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.

    Returns:
        A `Sensitivity`, with a regression of log measure on log ζ², an intercept for each seed.

    Raises:
        ValueError, TypeError: fewer than two levels, levels out of range, neither or both of zeta2
            and alpha, a method that is listed twice, or what cannot run together; before anything
            runs.

    >>> import relaysim as rs
    >>> found = heterogeneity_sensitivity(rs.algorithms.RelaySGD(), rs.topologies.chain(8),
    ...                                   zeta2=[1, 10, 100], problem_seeds=[0])
    >>> steps = found.exponents.query("measure == 'steps_to_target'").exponent
    >>> bool(steps.abs().max() < 0.1)
    True
    """
    methods = [_method(entry, topology, mixing) for entry in _listed(algorithm)]
    if isinstance(problem_seeds, str) or not isinstance(problem_seeds, Iterable):
        raise TypeError(
            f"problem_seeds must be a sequence, such as [0], not {shown(problem_seeds)}"
        )
    seeds = list(dict.fromkeys(whole_number(seed, "problem_seeds", 0) for seed in problem_seeds))
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
        if not isinstance(data, Dataset):
            raise TypeError(
                f"data must be a Dataset, such as relaysim.problems.data.wine(), or "
                f"relaysim.problems.data.Dataset(features, labels), not {shown(data)}"
            )

        def problem_at(level: float, seed: int):
            partition = partitions.dirichlet(data.labels, n, level, seed=seed)
            return Logistic(data.features, data.labels, l2, partition=partition)

    first = problem_at(levels[0], seeds[0])
    for method, graph, _ in methods:
        check_compatible(first, graph, method)
    names = _names(methods)

    def smoothness_at(level: float, seed: int) -> float:
        return _smoothness(problem_at(level, seed))

    def measured_at(level: float, seed: int) -> list[dict]:
        problem = problem_at(level, seed)
        # ζ² of quadratics is what was asked for, met to rounding.
        where = {"zeta2": level} if alpha is None else {"alpha": level, "zeta2": problem.zeta2}
        return [
            name
            | where
            | {"problem_seed": seed}
            | _measure(problem, *entry, target, rate, max_steps)
            for name, entry in zip(names, methods, strict=True)
        ]

    def on_all_problems(function: Callable) -> list:
        parallel = Parallel(n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator")
        found = []
        for one in parallel(delayed(function)(level, seed) for level in levels for seed in seeds):
            found.append(one)
            bar.update()
        return found

    by_curvature = plateaus and learning_rate is None
    tasks = (1 + by_curvature) * len(levels) * len(seeds)
    with progress_bar(tasks, progress, "heterogeneity", "problems") as bar:
        rate = learning_rate if plateaus else None
        if by_curvature:
            rate = 0.1 / max(on_all_problems(smoothness_at))
        by_problem = on_all_problems(measured_at)
    frame = pd.DataFrame([row for rows in zip(*by_problem, strict=True) for row in rows])
    return Sensitivity(frame, _exponents(frame), target)


def power_law(x: np.ndarray, y: np.ndarray, group: np.ndarray | None = None) -> Exponent:
    """The exponent b of y ∝ x^b by least squares on logarithms, with a 95 % confidence interval.

    Args:
        x, y: ``(k,)``; pairs of which one is not positive are left out.
        group: ``(k,)``; each group has a factor of its own.

    Returns:
        An `Exponent`, NaN with fewer than two different x in a group, its interval NaN without a
        degree of freedom. Residuals are taken to be independent and normal.

    Raises:
        ValueError: lengths that differ.

    >>> power_law([1, 2, 4], [3, 12, 48]).value.round(12)
    np.float64(2.0)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    group = np.zeros(x.shape) if group is None else np.asarray(group)
    if x.ndim != 1 or not x.shape == y.shape == group.shape:
        raise ValueError(
            f"x, y and group must have one length (k,), not {x.shape}, {y.shape} and {group.shape}"
        )
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


def _listed(given) -> list:
    """The methods given: one by itself, or several in a list or the like."""
    if _is_entry(given) or isinstance(given, str) or not isinstance(given, Iterable):
        return [given]
    listed = list(given)
    if not listed:
        raise ValueError("algorithm is an empty sequence; give one method at least")
    return listed


def _is_entry(given) -> bool:
    """Whether this is one method with its topology, and not a tuple of methods."""
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        return False
    return not (hasattr(given[1], "step") or isinstance(given[1], tuple))


def _method(entry, topology, mixing) -> tuple:
    """Algorithm, topology and mixing matrix, None where there is none of its own."""
    if not isinstance(entry, tuple):
        entry = (entry, topology, mixing if getattr(entry, "uses", None) == "mixing" else None)
    if len(entry) not in (2, 3):
        raise ValueError("a method is (algorithm, topology) or (algorithm, topology, mixing)")
    method, graph, matrix = (*entry, None)[:3]
    if graph is None:
        raise ValueError(
            f"{shown(method)} has no topology; give topology=, or (algorithm, topology)"
        )
    if not isinstance(graph, Topology | TreePair):
        raise TypeError(f"topology must be one of relaysim.topologies, not {shown(graph)}")
    return method, graph, matrix


def _names(methods: list[tuple]) -> list[dict]:
    """What each method is called in the frame; no two of them the same."""
    graphs = [graph for _, graph, _ in methods]
    matrices = [matrices_for(*entry) for entry in methods]
    topologies = _told_apart(list(map(repr, graphs)), graphs, lambda a, b: a == b)
    # A matrix is told from others on its topology; on another one it is another in any case.
    mixings = [_mixing_name(*entry, own) for entry, own in zip(methods, matrices, strict=True)]
    keys = list(zip(mixings, topologies, strict=True))
    mixings = _told_apart(mixings, matrices, _same_matrices, keys)
    names = [
        dict(zip(("method", *ENTRY), (method.label, repr(method), graph, mixing), strict=True))
        for (method, _, _), graph, mixing in zip(methods, topologies, mixings, strict=True)
    ]
    for k, name in enumerate(names):
        if name in names[:k]:
            mixing = f" with the same mixing ({name['mixing']})" if name["mixing"] else ""
            raise ValueError(
                f"{name['algorithm']} on {name['topology']}{mixing} is listed twice; list it once"
            )
    return names


def _mixing_name(method, graph, given, matrices: tuple) -> str:
    if method.uses != "mixing":
        return ""
    is_default = given is None or _same_matrices(matrices, matrices_for(method, graph, None))
    return "metropolis" if is_default else "given"


def _told_apart(texts: list[str], things: list, same: Callable, keys=None) -> list[str]:
    """The texts, numbered from the second on where one stands for different things.

    Only those of the same key are told apart; by default the text itself.
    """
    found, seen = [], {}
    for text, thing, key in zip(texts, things, keys or texts, strict=True):
        others = seen.setdefault(key, [])
        number = next((k for k, other in enumerate(others) if same(thing, other)), len(others))
        if number == len(others):
            others.append(thing)
        found.append(f"{text} #{number + 1}" if number else text)
    return found


def _same_matrices(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all((A != B).nnz == 0 for A, B in zip(a, b, strict=True))


def _levels(given, name: str) -> list[float]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"{name} must be a sequence of two levels at least, such as [0.1, 1, 10], "
            f"not {shown(given)}"
        )
    given = list(given)
    levels = []
    for level in given:
        if name == "zeta2":
            levels.append(real_number(level, name, 0))
        elif level == math.inf or real_number(level, name) > 0:
            levels.append(float(level))
        else:
            raise ValueError(f"alpha must be positive, not {level!r}")
    levels = list(dict.fromkeys(levels))
    if len(levels) < 2:
        raise ValueError(f"{name} must hold two different levels at least, not {given}")
    return levels


def _smoothness(problem) -> float:
    """Largest Hessian eigenvalue, at the optimum: a bound over all points may be far above it."""
    if hasattr(problem, "curvature_at") and problem.d <= HESSIANS_UP_TO:
        return problem.curvature_at(problem.optimum).smoothness
    return problem.smoothness


def _measure(problem, method, graph, matrix, target, rate: float | None, max_steps) -> dict:
    """Steps at the best rate, and where a run at the given rate comes to rest (not without one)."""
    tuned = tune(
        problem,
        graph,
        method,
        target=target,
        max_steps=max_steps,
        progress=False,
        mixing=matrix,
    )
    plateau = consensus = math.nan
    if rate is not None:
        plateau, consensus = _settled(problem, graph, method, matrix, rate, max_steps)
    return {
        "learning_rate": tuned.learning_rate,
        "steps_to_target": tuned.steps,
        "plateau_learning_rate": math.nan if rate is None else rate,
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
    if len(values) <= LEAST_RECORDS:
        return math.nan
    early, late = np.split(values[1:], [len(values) // 2])
    if late.max() < ROUNDING * start:
        return 0.0
    return late.mean() if abs(late.mean() - early.mean()) < FLAT * late.mean() else math.nan


def _exponents(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(_exponent_rows(frame))


def _exponent_rows(frame: pd.DataFrame) -> Iterator[dict]:
    for name, part in frame.groupby(list(ENTRY), sort=False):
        for measure in MEASURED:
            used = part[(part[measure] > 0) & (part.zeta2 > 0)]
            found = power_law(used.zeta2, used[measure], used.problem_seed)
            if "alpha" in frame and not _span(used) >= LEAST_SPAN:
                found = Exponent(math.nan, math.nan, math.nan)
            yield {
                "method": part.method.iloc[0],
                **dict(zip(ENTRY, name, strict=True)),
                "measure": measure,
                "exponent": found.value,
                "low": found.low,
                "high": found.high,
                "points": len(used),
            }


def _span(rows: pd.DataFrame) -> float:
    """By which factor ζ² changes at most for one seed; NaN without rows."""
    by_seed = rows.groupby("problem_seed").zeta2
    return (by_seed.max() / by_seed.min()).max()
