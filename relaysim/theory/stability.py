"""Which constant learning rates make a method converge, and which one fastest."""

from __future__ import annotations

import contextlib
import itertools
import math
import time

from relaysim.algorithms.events import Algorithm
from relaysim.mixing.sequences import Mixing
from relaysim.problems import Problem
from relaysim.support.interrupts import called_by_user
from relaysim.theory.extrema import lowest_between, zero_between
from relaysim.theory.growth import BestRate, Growth
from relaysim.topologies import Topology, TreePair

__all__ = [
    "BestRate",
    "WindowSearch",
    "best_learning_rate",
    "max_learning_rate",
    "stable_learning_rates",
    "windows_and_best",
]

# About as many more are needed for the ends.
REFINEMENTS = 12
# And so many for the best, in the time of one of the first rates.
REFINEMENTS_OF_BEST = 40


def stable_learning_rates(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Mixing | None = None,
    progress: bool | None = None,
    seconds: float | None = None,
) -> list[tuple[float, float]]:
    """All constant learning rates with spectral radius ρ(γ) < 1, as open intervals.

    There need not be one interval, and the first need not begin at 0: D² on a binary tree of 24
    workers or more is unstable at small rates and stable at larger ones. ρ is evaluated at rates from
    1e-6/L on, L the largest curvature, up to 15 % apart from 1e-2/L on and a factor of 4 below, between
    which local extrema next to 1 are looked for. The last rate is one beyond which nothing can be
    stable: the trace of A(γ)^k is a polynomial in γ, and |tr A^k| ≤ N for a stable A. Every end is then
    found to about 1e-9 of itself. At rates so low that ρ is 1 but for rounding (γμ below 1e-12) it is on the
    side where the next higher ones are. An interval, or a gap, between two neighbouring rates and without
    such an extremum is missed.

    Where there are fewer examples than parameters, ρ is that of the part that f sees: directions in which no
    f_i is curved are left out. There gradients vanish and iterates keep the mean of their start, so that
    f converges all the same.

    Args:
        problem, topology, algorithm, mixing: as for `relaysim.theory.linearize`.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.
        seconds: refuse before starting what would take longer, by an estimate from the sizes and what ρ takes
            at one rate, mostly within a factor of 3; no limit by default.

    Returns:
        Pairs (lower, upper), increasing; empty if no rate is stable. Interrupted: what of them is confirmed,
        between rates that were tried.

    Warns:
        RuntimeWarning: it was interrupted.

    Raises:
        TypeError, ValueError: as `relaysim.theory.linearize`; or it would take longer than ``seconds``, with
            the largest n and d that fit.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(np.ones((8, 1)), np.arange(8.0)[:, None])
    >>> [(low, high)] = stable_learning_rates(problem, rs.topologies.chain(8), rs.algorithms.RelaySGD())
    >>> low, round(high, 6)  # (n + 2)/2
    (0.0, 5.0)
    """
    growth = Growth(problem, topology, algorithm, mixing, seconds, "stable rates", REFINEMENTS)
    with growth.progress_bar(progress):
        try:
            return _windows(growth, *growth.scan())
        except KeyboardInterrupt:
            if not called_by_user("stable_learning_rates", "max_learning_rate"):
                raise
            return growth.confirmed()


def max_learning_rate(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Mixing | None = None,
    progress: bool | None = None,
    seconds: float | None = None,
) -> float | None:
    """The largest stable learning rate: the upper end of the last interval, or None if there is none.

    See `stable_learning_rates`.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(np.ones((8, 1)), np.arange(8.0)[:, None])
    >>> round(max_learning_rate(problem, rs.topologies.chain(8), rs.algorithms.RelaySGDGrad()), 6)
    8.0
    """
    intervals = stable_learning_rates(problem, topology, algorithm, mixing, progress, seconds)
    return intervals[-1][1] if intervals else None


def best_learning_rate(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Mixing | None = None,
    progress: bool | None = None,
    seconds: float | None = None,
) -> BestRate | None:
    """The learning rate with the smallest spectral radius, and that radius; None if none is stable.

    The fastest decay in the long run: what happens before, and how large the noise floor is, may speak
    for other rates; see `relaysim.tune`. Found by evaluating ρ(γ) at the rates of
    `stable_learning_rates` and at 1/L, and by refining around the three smallest.

    Args, raises: as for `stable_learning_rates`. Interrupted: the best of the rates that were tried, with a
    warning.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(np.tile([0.25, 1.0], (4, 1)), np.ones((4, 2)))
    >>> best = best_learning_rate(problem, rs.topologies.ring(4), rs.algorithms.AllReduce())
    >>> round(best.learning_rate, 4), round(best.spectral_radius, 4)  # 2/(L + μ), (L − μ)/(L + μ)
    (1.6, 0.6)
    """
    growth = Growth(problem, topology, algorithm, mixing, seconds, "best rate", REFINEMENTS_OF_BEST)
    with growth.progress_bar(progress):
        try:
            return _best(growth, *growth.scan())
        except KeyboardInterrupt:
            if not called_by_user("best_learning_rate"):
                raise
            return growth.best_so_far()


def windows_and_best(
    problem: Problem,
    topology: Topology | TreePair,
    algorithm: Algorithm,
    mixing: Mixing | None = None,
    progress: bool | None = None,
    seconds: float | None = None,
) -> tuple[list[tuple[float, float]], BestRate | None]:
    """What `stable_learning_rates` and `best_learning_rate` say, from one scan, which takes most of the time.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> parts = problem, rs.topologies.ring(4), rs.algorithms.AllReduce()
    >>> windows_and_best(*parts) == (stable_learning_rates(*parts), best_learning_rate(*parts))
    True
    """
    what, refinements = "stable rates, and the best", REFINEMENTS + REFINEMENTS_OF_BEST
    growth = Growth(problem, topology, algorithm, mixing, seconds, what, refinements)
    with growth.progress_bar(progress):
        scanned = growth.scan()
        return _windows(growth, *scanned), _best(growth, *scanned)


class WindowSearch:
    """`stable_learning_rates`, a little at a time: where something else must not wait for it.

    Args:
        problem, topology, algorithm, mixing: as for `stable_learning_rates`.

    Attributes:
        found: the windows; None until they are known.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> search = WindowSearch(problem, rs.topologies.ring(4), rs.algorithms.D2())
    >>> while not search.go_on(0.01):
    ...     pass
    >>> search.found == stable_learning_rates(problem, rs.topologies.ring(4), rs.algorithms.D2())
    True
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology | TreePair,
        algorithm: Algorithm,
        mixing: Mixing | None = None,
    ):
        self.found: list[tuple[float, float]] | None = None
        self._given = problem, topology, algorithm, mixing
        self._growth: Growth | None = None

    def go_on(self, seconds: float = math.inf) -> bool:
        """Search for about so long, one ρ at least; whether the windows are known.

        Raises:
            TypeError, ValueError: as `stable_learning_rates`.
        """
        if self.found is not None:
            return True
        end, asked = time.perf_counter() + seconds, itertools.count()

        def pause() -> None:
            if next(asked) and time.perf_counter() > end:
                raise _PauseError

        if self._growth is None:
            self._growth = Growth(*self._given, None, "stable rates", REFINEMENTS)
        self._growth.on_evaluation = pause
        with contextlib.suppress(_PauseError):
            self.found = _windows(self._growth, *self._growth.scan())
        return self.found is not None


class _PauseError(Exception):
    """Time is over."""


def _windows(growth: Growth, rates: list[float], values: list[float]) -> list[tuple[float, float]]:
    """The intervals with log ρ below 0 among rates at which it has these values."""
    ends = [0.0] if values[0] < 0 else []
    for left, right, before, after in zip(rates, rates[1:], values, values[1:], strict=False):
        if (before < 0) != (after < 0):
            ends.append(zero_between(growth.with_slope, left, right, (before, after)))
    if values[-1] < 0:
        ends.append(math.inf)
    return list(zip(ends[::2], ends[1::2], strict=True))


def _best(growth: Growth, rates: list[float], values: list[float]) -> BestRate | None:
    """The rate with the smallest ρ, refined from those at which log ρ has these values."""
    # Where all Hessians are h I, a step of 1/h forgets everything: a needle too thin to be searched.
    forgetting = 1 / growth.curvature
    ends = math.nextafter(forgetting, 0), math.nextafter(forgetting, math.inf)
    needle = [(growth(rate), rate) for rate in (forgetting, *ends)]
    best = min(*needle, *zip(values, rates, strict=True))
    if best[0] == -math.inf:
        return BestRate(best[1], 0.0)
    lowest = [
        k
        for k in range(1, len(rates) - 1)
        if values[k] <= values[k - 1] and values[k] <= values[k + 1]
    ]
    for k in sorted(lowest, key=values.__getitem__)[:3]:
        best = min(best, lowest_between(growth.with_slope, rates[k - 1], rates[k], rates[k + 1]))
    value, rate = best
    return BestRate(rate, math.exp(value)) if value < 0 else None
