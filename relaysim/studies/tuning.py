"""The best learning rate of a method on a problem, by grids of rates that run as replicas."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, cycle_of, weights_for
from relaysim.engine.plan import plan_replicas
from relaysim.engine.run import Run
from relaysim.engine.setup import Setup
from relaysim.measures import suboptimality
from relaysim.measures.columns import further_measures
from relaysim.measures.measure import Measure
from relaysim.mixing.by_step import AnyMixing, is_by_step
from relaysim.mixing.drawn import DrawnMixing
from relaysim.oracles import Exact, Gaussian, Oracle
from relaysim.problems import Problem
from relaysim.problems.problem import knows_optimum
from relaysim.schedules import FromStart, PerWorker
from relaysim.studies.combinations import combined
from relaysim.studies.noisy_search import NoisySearch
from relaysim.studies.rate_search import RateSearch, curves_of, first_grid, search_limits
from relaysim.support.checks import real_number, shown, whole_number
from relaysim.support.display import between, html_table
from relaysim.support.interrupts import called_by_user
from relaysim.support.notes import note
from relaysim.support.progress import progress_bar
from relaysim.theory.linear import linearize
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["StartsBelowTargetError", "Tuning", "check_schedule", "searched", "tune"]

CRITERIA = ("fastest", "plateau")
# Numbers in all iterates up to which a plateau is taken from the exact theory.
MOST_EXACT = 1000
# How far the highest rate of a schedule is looked for.
SHAPE_STEPS = 10_000
# Options that take so many times longer than the best are not waited for, but this long at least.
NOT_WAITED_FOR, LEAST_STEPS = 10, 1000
# What falls to 0 no faster than the squared error; of the value it is not known where it ends.
SQUARES = ("suboptimality", "gradient_norm", "distance")
VALUE = "value"


class StartsBelowTargetError(ValueError):
    """There is nothing to tune: step 0 meets the target."""


@dataclass
class Tuning:
    """What `tune` found.

    Attributes:
        learning_rate: the best rate; NaN if no rate does it within ``max_steps``. Of a schedule, its start.
        steps: first step from which its suboptimality stays below the target; NaN likewise. Where chance
            plays a part, the median over the seeds.
        frame: every rate tried: ``learning_rate``, ``steps`` (NaN where the target was not met),
            ``plateau`` (suboptimality at which it settled, NaN where it did not, or was not asked),
            ``diverged``, ``horizon`` (steps watched: rates that are at rest above the target, at their slope
            would take twice as long as the best or longer than is of interest, or are behind others near the
            best, are given up before).
        target, criterion: as given.
        label: the method's name.
        interrupted: whether someone stopped the search: the rate is the best of those tried by then.
        schedule: the schedule that was given, with the best start; None without, or if there is none.
        algorithm: the method, with the best of the options that were tried.
        options: of these the best, by name; empty where only the rate was tuned. `frame` has a column for
            each.
        measure: the column that had to fall below the target.
    """

    learning_rate: float
    steps: float
    frame: pd.DataFrame = field(repr=False)
    target: float
    criterion: str
    label: str
    interrupted: bool = False
    schedule: FromStart | None = None
    algorithm: Algorithm | None = None
    options: dict[str, Any] = field(default_factory=dict)
    measure: str = suboptimality.name

    def _repr_html_(self) -> str:
        tried = self.frame["learning_rate"]
        found = np.isfinite(self.learning_rate)
        rows = [
            ("criterion", self.criterion),
            (f"target of the {self.measure.replace('_', ' ')}", self.target),
            *self.options.items(),
            ("best learning rate", self.learning_rate if found else "no rate meets the target"),
            ("steps to the target", self.steps if np.isfinite(self.steps) else "none"),
            ("rates tried", f"{len(tried)}, {between(tried)}" if len(tried) else 0),
            ("of these diverged", int(self.frame["diverged"].sum())),
        ]
        return html_table(f"Tuning of {self.label}", rows)

    def plot(self, **options: Any) -> Axes:
        """Steps to the target, or the plateau, against the learning rate; returns the Axes."""
        from relaysim import plots

        return plots.plot_tuning(self, **options)


def tune(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    *,
    target: float = 1e-6,
    criterion: str = "fastest",
    over: Mapping[str, Iterable[Any]] | None = None,
    measure: Any = suboptimality.name,
    max_steps: int = 100_000,
    oracle: Oracle | None = None,
    mixing: AnyMixing | None = None,
    schedule: FromStart | None = None,
    learning_rate: PerWorker | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Tuning:
    """Find a learning rate, and options of the method, by watching whole grids of rates at once.

    Args:
        problem, topology, algorithm, oracle, mixing, seed: as for `relaysim.simulate`.
        target: suboptimality f(x̄) − f(x*) to reach, or of another measure.
        criterion: ``"fastest"``: the rate whose suboptimality falls below the target and stays
            there in the fewest steps (watched for 5000 steps, or three times as long as it took, at
            the end of which it must not be growing). ``"plateau"``:
            for methods that stall, a rate whose plateau lies in [target / 1.1, target]; where no
            stable rate stalls above that, the fastest one. What a method does periodically (`LocalSGD`,
            or a sequence of matrices) is averaged over its cycle, in the plateau and in ``steps``.
        over: values of options of the method, all of which are combined, each with a learning rate tuned for
            it: ``{"momentum": [0, 0.5, 0.9]}``. The best has the fewest steps; for plateaus, those to the
            target.
        measure: what has to fall below the target: the name of a measure, a `relaysim.measures.Measure` or
            a pair of a name and a function, as for `relaysim.simulate`. ``"gradient_norm"`` and
            ``"value"`` need no optimum.
        max_steps: how long to wait. Of several combinations of options, those that take ten times as long as
            the best are not waited for.
        schedule: one of `relaysim.schedules` with a start, which is what is tuned then, whatever it is:
            step t has the rate ``schedule.from_start(learning_rate)(t)``. Only for "fastest".
        learning_rate: how the rates of workers differ, a `relaysim.PerWorker`. Its scale is what is tuned
            then, whatever it is: worker i has the rate ``learning_rate.rates[i]`` times what is found.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.

    Stable rates need not form an interval that starts at 0, so the first grid spans all rates from
    1e-5/L to 4(n + 2)/L (times the method's ``rate_scale``: with momentum β, (1 + β)/(1 − β)), 25 %
    apart, and 6 % where the best takes less than 500 steps. It goes on as long as the best is at one of
    its ends, or, where no rate has met the target, as long as the highest does not lead away from it, up
    to 4(n + 2)/μ. The neighbourhoods of the best are then refined until rates are 0.4 % apart, or finer
    ones gain less than 0.2 % (and the best is no needle, much faster than the rates on either side). At
    last 1/L and 2/(L + μ) are tried, at which one step solves a problem whose curvatures are alike.

    With gradient noise, or a method that draws at random (its claim ``random``), a rate is judged by
    eight seeds from ``seed`` on: six of them have to stay below the target, and ``steps`` is the median
    over the seeds. What was chosen so has to do it again with the eight seeds that follow, watched for 5000
    steps or three times as long as it took; if it does not, other rates are tried, lower ones too. Rates are
    then 6 % apart. A plateau is `Linearization.stationary` where there is one (Gaussian noise on quadratics,
    an affine step, n d ≤ 1000), to the last digit. Else it is a mean over eight seeds and the last half of a
    run, waited for until half of its 95 % confidence interval is below 4 % of it, or is outside the band.
    ``steps`` is the first step below the target then.

    Returns:
        A `Tuning`. Rates found with ``criterion="fastest"`` are the best of those tried: `frame`
        lists them all. Ctrl-C ends the search with what is known by then, ``interrupted``. Where
        ``max_steps`` ended it without a rate, a warning says so.

    Raises:
        ValueError: a target that is not positive (for the value, any), an unknown criterion, option or
            measure, or one that needs an optimum that is not known.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    >>> found = tune(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD(), target=1e-6)
    >>> found.steps < 40 and 0.5 < found.learning_rate < 3
    True
    >>> found = tune(problem, rs.topologies.ring(8), rs.algorithms.DPSGD(), target=1e-3,
    ...              over={"momentum": [0.0, 0.3, 0.6]})
    >>> found.algorithm.momentum, len(found.frame.momentum.unique())
    (0.6, 3)
    """
    found = searched(
        problem,
        topology,
        algorithm,
        target=target,
        criterion=criterion,
        over=over,
        measure=measure,
        max_steps=max_steps,
        oracle=oracle,
        mixing=mixing,
        schedule=schedule,
        learning_rate=learning_rate,
        seed=seed,
        progress=progress,
    )
    nowhere = np.isnan(found.learning_rate) and not found.interrupted
    if nowhere and not found.frame["diverged"].all():
        note(
            f"no learning rate of {found.label} reached a {found.measure} of {found.target:g} for good "
            f"within max_steps = {max_steps}; raise one of them"
        )
    return found


def searched(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    *,
    target: float = 1e-6,
    criterion: str = "fastest",
    over: Mapping[str, Iterable[Any]] | None = None,
    measure: Any = suboptimality.name,
    max_steps: int = 100_000,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> Tuning:
    """As `tune`, for those that know what to do where there is no rate."""
    combinations = list(combined(algorithm, over))
    for _, method in combinations:
        check_compatible(problem, topology, method)
    column = _measure_of(problem, measure)
    target = real_number(target, "target")
    if not target > 0 and column.name != VALUE:
        raise ValueError(f"target must be a positive number, not {target!r}")
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be 'fastest' or 'plateau', not {shown(criterion)}")
    if (schedule := options.get("schedule")) is not None:
        check_schedule(schedule, criterion)
    if not isinstance(differ := options.get("learning_rate"), PerWorker | None):
        raise TypeError(
            f"learning_rate is what is tuned; only a PerWorker says how workers differ, not {shown(differ)}"
        )
    max_steps, seed = whole_number(max_steps, "max_steps", 1), whole_number(seed, "seed", 0)
    found: list[Tuning] = []
    longest = max_steps
    for values, method in combinations:
        goal = target, criterion, column, longest
        each = _of_rates(problem, topology, method, *goal, seed=seed, progress=progress, **options)
        each.options = values
        for name in reversed(values):
            each.frame.insert(0, name, [values[name]] * len(each.frame))
        found.append(each)
        if each.interrupted:
            break
        if each.steps == each.steps:
            longest = min(longest, max(LEAST_STEPS, math.ceil(NOT_WAITED_FOR * each.steps)))
    best = min(found, key=lambda each: math.inf if np.isnan(each.steps) else each.steps)
    frame = pd.concat([each.frame for each in found], ignore_index=True)
    return dataclasses.replace(best, frame=frame, interrupted=found[-1].interrupted)


def _measure_of(problem: Problem, measure: Any) -> Measure:
    """What is tuned for, if this problem has it."""
    (column,) = further_measures([measure])
    if column.per_worker:
        raise ValueError(f"{column.name!r} is a number of each worker; tune for one of all workers")
    if column.needs_optimum and not knows_optimum(problem):
        raise ValueError(
            f"tuning for {column.name} needs a problem whose optimum is known; give it an `optimum` "
            "(logistic regression has one for sure with l2 > 0), or tune for measure='gradient_norm'"
        )
    return column


def _of_rates(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    target: float,
    criterion: str,
    measure: Measure,
    max_steps: int,
    *,
    seed: int,
    progress: bool | None,
    oracle: Oracle | None = None,
    mixing: AnyMixing | None = None,
    schedule: FromStart | None = None,
    learning_rate: PerWorker | None = None,
) -> Tuning:
    """The best rate of a method whose options are what they are."""
    start = functools.partial(
        _start,
        problem,
        topology,
        algorithm,
        measure=measure,
        oracle=oracle,
        mixing=mixing,
        seed=seed,
        shape=None if schedule is None else schedule.shape,
        workers=learning_rate,
    )
    typical, largest = (1.0, 1.0) if learning_rate is None else _sizes(learning_rate)
    smoothness = getattr(problem, "smoothness", None) or None
    strong_convexity = getattr(problem, "mean_strong_convexity", None) or None
    scale = smoothness or 1.0
    rates = first_grid(problem.n, algorithm.rate_scale) / (scale * typical)
    start_run = start(rates[:1])
    start_run.advance([0])
    start_value = float(curves_of(start_run)[0, 0])
    if start_value < target:
        raise StartsBelowTargetError(
            f"the start is below the target already: its {measure.name} is {start_value:.3g}; "
            f"give a lower target than {target:g}"
        )
    with progress_bar(None, progress, f"tuning {algorithm.label}", "steps") as bar:
        highest = (
            1.0
            if schedule is None
            else max(map(schedule.shape, range(min(max_steps, SHAPE_STEPS))))
        )
        slowest = (strong_convexity or scale / 100) * typical
        curvatures = slowest, (smoothness or np.inf) * highest * largest
        ends = search_limits(problem.n, algorithm.rate_scale, smoothness, strong_convexity)
        limits = ends[0] / typical, ends[1] / typical
        drawn = algorithm.random or isinstance(mixing, DrawnMixing)
        noisy = drawn or not (oracle is None or isinstance(oracle, Exact))
        kind = NoisySearch if noisy else RateSearch
        cycle = cycle_of(algorithm, weights_for(algorithm, topology, mixing))
        watched = start, start_value, target, max_steps, curvatures, bar.update, limits, cycle
        changes = schedule is not None or is_by_step(mixing)
        telling = math.inf if changes else algorithm.repeats_from
        search = kind(*watched, squared=measure.name in SQUARES, telling=telling)
        exactly = measure.name == suboptimality.name and algorithm.affine
        if isinstance(search, NoisySearch) and isinstance(oracle, Gaussian) and exactly:
            search.exact_level = functools.partial(
                _floor, problem, topology, algorithm, mixing, oracle.sigma2, learning_rate
            )
        interrupted = False
        try:
            rate = search.fastest(rates) if criterion == "fastest" else search.plateau(rates)
        except KeyboardInterrupt:
            if not called_by_user("tune", "searched", "_of_rates"):
                raise
            rate, interrupted = search.best_so_far(criterion), True
    frame = search.frame()
    chosen = frame[frame.learning_rate == rate]
    steps = float(chosen.steps.iloc[-1]) if len(chosen) else float("nan")
    best = None if schedule is None or np.isnan(rate) else schedule.from_start(rate)
    return Tuning(
        rate,
        steps,
        frame,
        target,
        criterion,
        algorithm.label,
        interrupted,
        best,
        algorithm=algorithm,
        measure=measure.name,
    )


def _floor(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Any,
    sigma2: ArrayLike,
    workers: PerWorker | None,
    rate: float,
) -> float:
    """The exact expected suboptimality at rest; NaN where the theory has none, or not soon."""
    if problem.n * problem.d > MOST_EXACT:
        return float("nan")
    try:
        at = rate if workers is None else PerWorker(workers.rates, rate)
        linear = linearize(problem, topology, algorithm, at, mixing=mixing)
        return float(linear.stationary(sigma2, [suboptimality.name]).suboptimality)
    except (TypeError, ValueError):  # not quadratic, not stable, or too large
        return float("nan")


def _sizes(workers: PerWorker) -> tuple[float, float]:
    """The mean and the largest of the rates that workers have beside each other."""
    rates = np.array(workers.rates)
    if not rates.any():
        raise ValueError(
            "PerWorker has rates of 0 only, which no scale makes a step; give one above 0"
        )
    return float(rates.mean()), float(rates.max())


def check_schedule(schedule: Any, criterion: str) -> None:
    """Raise TypeError or ValueError where a schedule has no start to tune, or none is wanted."""
    if not isinstance(schedule, FromStart):
        raise TypeError(
            f"schedule must be one of relaysim.schedules that has a start, such as InverseSqrt(1.0), "
            f"not {shown(schedule)}"
        )
    if criterion != "fastest":
        raise ValueError(f"a plateau is that of a constant rate; leave out schedule = {schedule!r}")


def _start(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    rates: np.ndarray,
    first: int = 0,
    count: int = 1,
    *,
    oracle: Oracle | None,
    mixing: AnyMixing | None,
    seed: int,
    shape: Callable[[int], float] | None,
    workers: PerWorker | None = None,
    measure: Measure = suboptimality,
) -> Run:
    seeds = [seed + first + k for k in range(count)]
    given: Any = rates if workers is None else PerWorker(workers.rates, np.asarray(rates).tolist())
    plan = plan_replicas(given, seeds, None, None, 1)
    plan = dataclasses.replace(plan, shape=shape)
    setup = Setup(problem, topology, algorithm, plan, mixing=mixing, oracle=oracle)
    return Run(setup, measures=(measure,), resumable=False)
