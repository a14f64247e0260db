"""The best learning rate of a method on a problem, by grids of rates that run as replicas."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, cycle_of, weights_for
from relaysim.engine.plan import plan_replicas
from relaysim.engine.run import Run
from relaysim.engine.setup import Setup
from relaysim.measures import suboptimality
from relaysim.mixing.by_step import AnyMixing
from relaysim.mixing.drawn import DrawnMixing
from relaysim.oracles import Exact, Gaussian, Oracle
from relaysim.problems import Problem
from relaysim.problems.problem import knows_optimum
from relaysim.schedules import FromStart
from relaysim.studies.noisy_search import NoisySearch
from relaysim.studies.rate_search import RateSearch, first_grid, search_limits
from relaysim.support.checks import real_number, shown, whole_number
from relaysim.support.display import between, html_table
from relaysim.support.interrupts import called_by_user
from relaysim.support.progress import progress_bar
from relaysim.theory.linear import linearize
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["StartsBelowTargetError", "Tuning", "check_schedule", "tune"]

CRITERIA = ("fastest", "plateau")
# Numbers in all iterates up to which a plateau is taken from the exact theory.
MOST_EXACT = 1000
# How far the highest rate of a schedule is looked for.
SHAPE_STEPS = 10_000


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
            ``diverged``, ``horizon`` (steps watched).
        target, criterion: as given.
        label: the method's name.
        interrupted: whether someone stopped the search: the rate is the best of those tried by then.
        schedule: the schedule that was given, with the best start; None without, or if there is none.
    """

    learning_rate: float
    steps: float
    frame: pd.DataFrame = field(repr=False)
    target: float
    criterion: str
    label: str
    interrupted: bool = False
    schedule: FromStart | None = None

    def _repr_html_(self) -> str:
        tried = self.frame["learning_rate"]
        found = np.isfinite(self.learning_rate)
        rows = [
            ("criterion", self.criterion),
            ("target of the suboptimality", self.target),
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
    max_steps: int = 100_000,
    oracle: Oracle | None = None,
    mixing: AnyMixing | None = None,
    schedule: FromStart | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Tuning:
    """Find a learning rate by watching whole grids of them at once.

    Args:
        problem, topology, algorithm, oracle, mixing, seed: as for `relaysim.simulate`. The problem
            must know its optimum.
        target: suboptimality f(x̄) − f(x*) to reach.
        criterion: ``"fastest"``: the rate whose suboptimality falls below the target and stays
            there in the fewest steps (watched for 5000 steps, or three times as long as it took, at
            the end of which it must not be growing). ``"plateau"``:
            for methods that stall, a rate whose plateau lies in [target / 1.1, target]; where no
            stable rate stalls above that, the fastest one. What a method does periodically (`LocalSGD`,
            or a sequence of matrices) is averaged over its cycle, in the plateau and in ``steps``.
        max_steps: how long to wait.
        schedule: one of `relaysim.schedules` with a start, which is what is tuned then, whatever it is:
            step t has the rate ``schedule.from_start(learning_rate)(t)``. Only for "fastest".
        progress: a progress bar: True, False, or None: if it lasts and someone watches.

    Stable rates need not form an interval that starts at 0, so the first grid spans all rates from
    1e-5/L to 4(n + 2)/L (times the method's ``rate_scale``: with momentum β, (1 + β)/(1 − β)), 25 %
    apart, and 6 % where the best takes less than 500 steps. It goes on as long as the best is at one of
    its ends, or, where no rate has met the target, as long as the highest does not lead away from it, up
    to 4(n + 2)/μ. The neighbourhoods of the best are then refined until rates are 0.4 % apart, or finer
    ones gain less than 0.2 % (and the best is no needle, much faster than the rates on either side).

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
        lists them all. Ctrl-C ends the search with what is known by then, ``interrupted``.

    Raises:
        ValueError: a target that is not positive, an unknown criterion, or a problem without an
            optimum.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=4, zeta2=1.0, seed=0)
    >>> found = tune(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD(), target=1e-6)
    >>> found.steps < 40 and 0.5 < found.learning_rate < 3
    True
    """
    check_compatible(problem, topology, algorithm)
    target = real_number(target, "target")
    if not target > 0:
        raise ValueError(f"target must be a positive number, not {target!r}")
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be 'fastest' or 'plateau', not {shown(criterion)}")
    if schedule is not None:
        check_schedule(schedule, criterion)
    if not knows_optimum(problem):
        raise ValueError(
            "tuning needs a problem whose optimum is known; give it an `optimum` "
            "(logistic regression has one for sure with l2 > 0)"
        )
    max_steps, seed = whole_number(max_steps, "max_steps", 1), whole_number(seed, "seed", 0)
    start = functools.partial(
        _start,
        problem,
        topology,
        algorithm,
        oracle=oracle,
        mixing=mixing,
        seed=seed,
        shape=None if schedule is None else schedule.shape,
    )
    smoothness = getattr(problem, "smoothness", None) or None
    strong_convexity = getattr(problem, "mean_strong_convexity", None) or None
    scale = smoothness or 1.0
    rates = first_grid(problem.n, algorithm.rate_scale) / scale
    start_run = start(rates[:1])
    start_run.advance([0])
    start_value = float(start_run.column("suboptimality")[0, 0])
    if start_value < target:
        raise StartsBelowTargetError(
            f"the start is below the target already: its suboptimality is {start_value:.3g}; "
            f"give a lower target than {target:g}"
        )
    with progress_bar(None, progress, f"tuning {algorithm.label}", "steps") as bar:
        highest = (
            1.0
            if schedule is None
            else max(map(schedule.shape, range(min(max_steps, SHAPE_STEPS))))
        )
        curvatures = strong_convexity or scale / 100, (smoothness or np.inf) * highest
        limits = search_limits(problem.n, algorithm.rate_scale, smoothness, strong_convexity)
        drawn = algorithm.random or isinstance(mixing, DrawnMixing)
        noisy = drawn or not (oracle is None or isinstance(oracle, Exact))
        kind = NoisySearch if noisy else RateSearch
        cycle = cycle_of(algorithm, weights_for(algorithm, topology, mixing))
        search = kind(start, start_value, target, max_steps, curvatures, bar.update, limits, cycle)
        if isinstance(search, NoisySearch) and isinstance(oracle, Gaussian) and algorithm.affine:
            search.exact_level = functools.partial(
                _floor, problem, topology, algorithm, mixing, oracle.sigma2
            )
        interrupted = False
        try:
            rate = search.fastest(rates) if criterion == "fastest" else search.plateau(rates)
        except KeyboardInterrupt:
            if not called_by_user("tune"):
                raise
            rate, interrupted = search.best_so_far(criterion), True
    frame = search.frame()
    chosen = frame[frame.learning_rate == rate]
    steps = float(chosen.steps.iloc[-1]) if len(chosen) else float("nan")
    best = None if schedule is None or np.isnan(rate) else schedule.from_start(rate)
    return Tuning(rate, steps, frame, target, criterion, algorithm.label, interrupted, best)


def _floor(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Any,
    sigma2: float,
    rate: float,
) -> float:
    """The exact expected suboptimality at rest; NaN where the theory has none, or not soon."""
    if problem.n * problem.d > MOST_EXACT:
        return float("nan")
    try:
        linear = linearize(problem, topology, algorithm, rate, mixing=mixing)
        return float(linear.stationary(sigma2).suboptimality)
    except (TypeError, ValueError):  # not quadratic, not stable, or too large
        return float("nan")


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
) -> Run:
    seeds = [seed + first + k for k in range(count)]
    plan = plan_replicas(np.asarray(rates), seeds, None, None, 1)
    plan = dataclasses.replace(plan, shape=shape)
    setup = Setup(problem, topology, algorithm, plan, mixing=mixing, oracle=oracle)
    return Run(setup, measures=(suboptimality,))
