"""The worst case of a run's class of functions, step by step, to be laid over its curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from relaysim.oracles import Exact
from relaysim.problems.problem import knows_optimum
from relaysim.support.progress import progress_bar
from relaysim.support.starts import starting_points
from relaysim.theory.overlay import LOOKS, Simulated, only_rate, told_of
from relaysim.theory.worst_cases import MEASURES, MOST_STEPS, worst_case

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["WorstCaseCurve", "worst_case_curve"]


@dataclass(frozen=True)
class WorstCaseCurve:
    """The worst cases of a history's method after each of its first steps.

    Attributes:
        column: of the history.
        learning_rate: γ.
        steps: 0, 1, …, ``(k,)``.
        values: ``(k,)``, the largest that the column can be after so many steps.
        smoothness, strong_convexity, zeta2, r0: of the class of functions, those of the problem, and how far
            from x* the start is, or the farthest of all starts.
    """

    column: str
    learning_rate: float
    steps: np.ndarray
    values: np.ndarray
    smoothness: float
    strong_convexity: float
    zeta2: float
    r0: float

    def draw(self, ax: Axes, names: bool = True, which: str = "") -> dict[str, Any]:
        """Draw the curve into the matplotlib Axes; ``which`` is added to its name in the legend."""
        label = {"label": f"worst case of its class{which}"} if names else {}
        (line,) = ax.plot(self.steps, self.values, **LOOKS["worst case"] | label)
        return {"worst case": line}


def worst_case_curve(
    history: Simulated,
    column: str = "suboptimality",
    learning_rate: float | None = None,
    progress: bool | None = None,
) -> WorstCaseCurve:
    """The worst that a run's method can do on any problem with the same L, μ, ζ² and distance of the start.

    Args:
        history: a `relaysim.History` without noise and faults, of at most 5 workers, on a problem that
            knows its optimum, ζ², L and μ. Beyond 10 steps the curve ends.
        column: suboptimality, distance, consensus_distance or gradient_norm.
        learning_rate: one of the history's; the only one by default.
        progress: whether to show a bar; by default where it lasts and someone watches.

    Raises:
        ValueError: a run or a column that has no worst case, with the reason; as `worst_case`.
        TypeError, ImportError: as `worst_case`.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=2, d=2, zeta2=1.0, mu=0.25, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(2), rs.algorithms.RelaySGD(), learning_rate=0.5,
    ...                       steps=2)
    >>> worst_case_curve(history, "distance").values.round(4).tolist()
    [1.0, 0.7656, 0.5862]
    """
    _, problem, algorithm = told_of(history, column)
    rate = only_rate(history, learning_rate)
    allowed = [name for name in MEASURES if name != "mean_distance"]
    if column not in allowed:
        raise ValueError(f"column {column!r} has no worst case; take {' or '.join(allowed)}")
    if not (history.oracle is None or isinstance(history.oracle, Exact)):
        raise ValueError(
            f"a worst case is one of runs without noise, not with {history.oracle!r}; leave the oracle out"
        )
    needed = ("zeta2", "smoothness", "strong_convexity")
    missing = [name for name in needed if getattr(problem, name, None) is None]
    if missing or not knows_optimum(problem):
        raise ValueError(
            f"a worst case is over all problems with the same optimum's distance, ζ², L and μ, and this one "
            f"does not tell its {' and '.join(missing or ['optimum'])}; call relaysim.theory.worst_case with "
            f"numbers"
        )
    zeta2, L, mu = (float(getattr(problem, name)) for name in needed)
    x0 = history.config["x0"]
    start = starting_points(None if x0 is None else np.asarray(x0, dtype=float), problem, None)
    common = bool((start == start[0]).all())
    r0 = float(np.sqrt(((start - problem.optimum) ** 2).sum(axis=1).max()))
    steps = np.arange(min(int(history.steps[-1]), MOST_STEPS) + 1)
    values = []
    with progress_bar(len(steps), progress, "worst cases", "steps") as bar:
        for step in steps:
            found = worst_case(
                algorithm,
                history.topology,
                L,
                mu,
                rate,
                int(step),
                zeta2=zeta2,
                r0=r0,
                common_start=common,
                measure=column,
                mixing=history.mixing,
            )
            values.append(found.value)
            bar.update()
    return WorstCaseCurve(column, rate, steps, np.array(values), L, mu, zeta2, r0)
