"""What theory says of a run that was made, and how it is laid over its curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from relaysim.algorithms.events import Algorithm
from relaysim.faults import AnyFault
from relaysim.measures import Measure
from relaysim.mixing.by_step import AnyMixing
from relaysim.oracles import Exact, Gaussian, Oracle
from relaysim.problems import Problem
from relaysim.support.display import between, html_table
from relaysim.theory.bounds import Bound, bounds_for
from relaysim.theory.linear import linearize
from relaysim.theory.spectra import NEUTRAL
from relaysim.theory.under_faults import under_faults
from relaysim.topologies import Topology, TreePair

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["LOOKS", "Overlay", "Simulated", "only_rate", "overlay", "require_constant", "told_of"]

# Below this share of its start a curve is rounding.
ROUNDING = 1e-24
# Relaxation times after which a start is forgotten.
FORGOTTEN = 20.0
# By what factor e^… the last maxima may miss the asymptotic rate.
SAME_RATE = 0.3

#: How theory looks everywhere: what is exact in black, what is asymptotic in grey, and pale what is fitted.
LOOKS: Mapping[str, dict[str, Any]] = {
    "prediction": {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 6},
    "asymptote": {"color": "#888888", "linestyle": "-", "linewidth": 1.0, "zorder": 1.5},
    "floor": {"color": "black", "linestyle": "-", "linewidth": 0.9, "zorder": 5},
    "worst case": {
        "color": "black",
        "marker": "_",
        "linestyle": "-",
        "linewidth": 0.7,
        "zorder": 6,
    },
    "bound": {"color": "#444444", "linestyle": (0, (1, 1.6)), "linewidth": 1.3, "zorder": 5},
    "shape": {"color": "#b4b4b4", "linestyle": (0, (1, 1)), "linewidth": 3.0, "zorder": 1.4},
}
# A prediction is not drawn further down than this share of its start, where it is rounding.
LOWEST = 1e-28
# Nor further up than this multiple of it, where a run has diverged.
HIGHEST = 1e12


class Simulated(Protocol):
    """What theory reads of a run, such as a `relaysim.History`."""

    @property
    def problem(self) -> Problem | None: ...

    @property
    def topology(self) -> Topology | TreePair: ...

    @property
    def algorithm(self) -> Algorithm | None: ...

    @property
    def mixing(self) -> AnyMixing | None: ...

    @property
    def oracle(self) -> Oracle | None: ...

    @property
    def fault_model(self) -> AnyFault | None: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def steps(self) -> np.ndarray: ...

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def measures(self) -> tuple[Measure, ...]: ...


@dataclass(frozen=True)
class Overlay:
    """Theory beside one curve.

    Attributes:
        column: of the history.
        learning_rate: γ.
        prediction: the exact curve without noise, a row a step; see `Linearization.predict`. Of a run with
            faults the expected one, noise and all; see `UnderFaults.predict`.
        spectral_radius: ρ; with faults √ρ of the second moments.
        asymptote: C ρ^(2t) at the steps of ``prediction``, through the last maxima of the curve; None
            where the curve ends on a plateau, grows, or does not fall at that rate by then (its modes
            may all be faster than the slowest of all).
        plateau: where the curve without noise ends; 0 for exact methods, None if it grows.
        floor: the expectation of the column on the noise floor; None without noise, if it grows, or where
            the measure has no expectation.
        band: 10 % and 90 % quantiles of the suboptimality of a record there; None for other columns.
        bounds: theorems about the column, fitted to the first third where their constants are not
            verified.
        expected: whether the prediction is an expectation, over faults and noise.
    """

    column: str
    learning_rate: float
    prediction: pd.DataFrame
    spectral_radius: float
    asymptote: np.ndarray | None
    plateau: float | None
    floor: float | None
    band: tuple[float, float] | None
    bounds: tuple[Bound, ...]
    expected: bool = False

    def _repr_html_(self) -> str:
        none = "none"
        rows = [
            ("learning rate", self.learning_rate),
            ("spectral radius ρ a step", self.spectral_radius),
            ("where it ends without noise", none if self.plateau is None else self.plateau),
            ("expected noise floor", none if self.floor is None else self.floor),
            ("10 to 90 % of records there", none if self.band is None else between(self.band)),
            ("theorems", ", ".join(bound.label for bound in self.bounds) or none),
        ]
        return html_table(f"Theory of the {self.column.replace('_', ' ')}", rows)

    def draw(self, ax: Axes, names: bool = True, which: str = "") -> dict[str, Any]:
        """Draw exact curve, asymptotic rate, noise floor and theorems.

        What is proved is dark. A shape whose constant was fitted is pale, and drawn over the steps that it
        was fitted to alone: of others it says nothing.

        Args:
            ax: the matplotlib Axes, with steps across and a log axis upward.
            names: give the lines names for the legend.
            which: what to add to these names, where there are several overlays.

        Returns:
            The lines by what they show, for a legend of one's own: ``"prediction"``, ``"asymptote"``,
            ``"floor"``, ``"band"`` (an area), and the labels of theorems.
        """
        curve = self.prediction[self.column].to_numpy()
        at = self.prediction["step"].to_numpy()
        lowest = LOWEST * (curve[0] if curve[0] > 0 else np.nanmax(curve[np.isfinite(curve)]))
        described = {
            "prediction": "exact expectation" if self.expected else "exact, without noise",
            "asymptote": f"rate ρ² = {self.spectral_radius**2:.5g} a step",
            "floor": "exact expected floor" if self.expected else "exact noise floor",
        }
        drawn: dict[str, Any] = {}

        def line(kind: str, x: ArrayLike, y: ArrayLike, label: str | None = None) -> None:
            label = described[kind] if label is None else label
            options = LOOKS[kind] | ({"label": label + which} if names else {})
            (drawn[kind if kind in described else label],) = ax.plot(x, y, **options)

        shown = (curve > lowest) & (curve < HIGHEST * (lowest / LOWEST))
        line("prediction", at, np.where(shown, curve, np.nan))
        if self.asymptote is not None:
            line("asymptote", at, np.where(self.asymptote > lowest, self.asymptote, np.nan))
        if self.floor is not None:
            line("floor", at[[0, -1]], [self.floor] * 2)
        if self.band is not None:
            area: dict[str, Any] = {"color": "#000000", "alpha": 0.13, "linewidth": 0, "zorder": 1}
            area |= {"label": "10–90 % of a record" + which} if names else {}
            drawn["band"] = ax.axhspan(*self.band, **area)
        for bound in self.bounds:
            until = at[at <= bound.fitted_until]
            values = bound.curve(until)
            kind = "bound" if bound.verified_constants else "shape"
            line(kind, until, np.where(np.isfinite(values), values, np.nan), bound.label)
        return drawn


def overlay(
    history: Simulated,
    column: str = "suboptimality",
    learning_rate: float | None = None,
    bounds: bool = True,
    floor_steps: float = math.inf,
) -> Overlay:
    """What theory says of a column of a history: prediction, asymptotic rate, noise floor, theorems.

    Args:
        history: a `relaysim.History` on a quadratic problem, at constant rates, with exact gradients or
            Gaussian noise. With faults it has to be one of which `under_faults` knows the moments: theory is
            then the expectation of the column, its rate and its floor.
        column: a measure of the history, such as ``"suboptimality"``.
        learning_rate: one of the history's; the only one by default.
        bounds: whether theorems are looked for, which may take seconds.
        floor_steps: the noise floor is left out where the start is forgotten after more steps, which it takes
            as many of.

    Raises:
        ValueError: a run of which theory says nothing, with the reason.
        TypeError: as `linearize`.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=8, d=3, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.ring(8), rs.algorithms.D2(), learning_rate=0.4,
    ...                       steps=60)
    >>> found = overlay(history)
    >>> bool(abs(found.prediction.suboptimality - history.frame.suboptimality).max() < 1e-12)
    True
    """
    measure, problem, algorithm = told_of(history, column, with_faults=True)
    rate = only_rate(history, learning_rate)
    sigma2 = _noise(history.oracle)
    if history.config["faults"] is not None:
        return _expected(history, measure, problem, algorithm, rate, sigma2)
    x0, mixing = history.config["x0"], history.mixing
    given = (problem, history.topology, algorithm)
    linear = linearize(*given, rate, x0, mixing, [measure])
    prediction = linear.predict(int(history.steps[-1]))
    stable = linear.spectral_radius < 1 - NEUTRAL
    plateau = float(linear.plateau()[column]) if stable else None
    floor, forgotten = None, FORGOTTEN * linear.relaxation_time
    if stable and sigma2 > 0 and measure.expectation is not None and forgotten <= floor_steps:
        floor = linear.stationary(sigma2, [column])[column]
    band = None
    if floor is not None and column == "suboptimality":
        low, high = linear.stationary_quantiles(sigma2, (0.1, 0.9)).tolist()
        band = low, high
    theorems = bounds_for(*given, rate, sigma2, x0, mixing) if bounds else ()
    return Overlay(
        column=column,
        learning_rate=rate,
        prediction=prediction,
        spectral_radius=linear.spectral_radius,
        asymptote=_asymptote(prediction[column].to_numpy(), linear.spectral_radius, plateau),
        plateau=plateau,
        floor=floor,
        band=band,
        bounds=_bounds(history, column, rate, theorems),
    )


def _expected(
    history: Simulated,
    measure: Measure,
    problem: Problem,
    algorithm: Algorithm,
    rate: float,
    sigma2: float,
) -> Overlay:
    """That of a run with faults."""
    fault, topology, column = history.fault_model, history.topology, measure.name
    if measure.expectation is None or fault is None or isinstance(topology, TreePair):
        raise ValueError(
            f"theory beside a curve of a run with faults is its expectation, and that of column {column!r} "
            f"is not known; take suboptimality, consensus_distance or distance, or leave theory out"
        )
    given = (problem, topology, algorithm, rate, fault)
    found = under_faults(*given, history.config["x0"], history.mixing, [measure])
    prediction = found.predict(int(history.steps[-1]), sigma2)
    of_disagreement = column == "consensus_distance"
    moments_rate = found.consensus_rate if of_disagreement else found.rate
    plateau = floor = 0.0 if of_disagreement and rate == 0 and moments_rate < 1 - NEUTRAL else None
    if floor is None:
        with contextlib.suppress(ValueError):  # nobody learns, or nothing settles
            plateau = floor = float(found.stationary(0.0)[column])
            floor = float(found.stationary(sigma2)[column]) if sigma2 else plateau
    radius = math.sqrt(moments_rate)
    return Overlay(
        column=column,
        learning_rate=rate,
        prediction=prediction,
        spectral_radius=radius,
        asymptote=_asymptote(prediction[column].to_numpy(), radius, floor),
        plateau=plateau,
        floor=floor if floor and floor > ROUNDING * prediction[column].max() else None,
        band=None,
        bounds=(),
        expected=True,
    )


def require_constant(history: Simulated) -> None:
    """Raise unless the learning rate is the same number at all steps and for all workers.

    Raises:
        ValueError: a schedule, a function of the step, or `relaysim.PerWorker`.
    """
    given = history.config["learning_rate"]
    if callable(given) or isinstance(given, dict):
        kind = given["type"] if isinstance(given, dict) else type(given).__name__
        what = {
            "Tabulated": "a function of the step",
            "PerWorker": "one for each worker, PerWorker",
        }
        raise ValueError(
            f"theory beside a curve is of a constant learning rate, the same for all workers, and this run's "
            f"is {what.get(kind, f'a schedule, {kind}')}; leave theory out, or simulate with a number"
        )


def told_of(
    history: Simulated, column: str, with_faults: bool = False
) -> tuple[Measure, Problem, Algorithm]:
    """The measure that a column is, problem and algorithm, of a run of which theory may say something.

    Args:
        history, column: as for `overlay`.
        with_faults: whether it may say something of a run with faults.

    Raises:
        ValueError: faults, parts that are missing, starts for each replica, or no column of this name.
    """
    config = history.config
    if config["faults"] is not None and not with_faults:
        raise ValueError(
            "this theory beside a curve has no place for lost messages; leave faults out, or theory"
        )
    if history.problem is None or history.algorithm is None:
        raise ValueError(
            "theory beside a curve needs the problem and the algorithm, and a loaded history of a "
            "problem of your own does not have them"
        )
    x0 = config["x0"]
    if x0 is not None and np.ndim(x0) == 3:
        raise ValueError(
            "theory beside a curve needs one starting point, and this history has one for each "
            "replica; simulate them one by one"
        )
    known = {each.name: each for each in history.measures if not each.per_worker}
    if column not in known:
        raise ValueError(f"theory says nothing of column {column!r}; take {' or '.join(known)}")
    return known[column], history.problem, history.algorithm


def only_rate(history: Simulated, learning_rate: float | None) -> float:
    """The learning rate that is asked for, one of the history's; the only one by default."""
    require_constant(history)
    given: Any = history.config["learning_rate"]
    rates = np.unique(given)
    if learning_rate is None:
        if len(rates) > 1:
            raise ValueError(
                f"this history has {len(rates)} learning rates; say which one: learning_rate=…"
            )
        return float(rates[0])
    if not np.isclose(rates, learning_rate, rtol=1e-12, atol=0).any():
        raise ValueError(f"learning_rate must be one of {rates.tolist()}, not {learning_rate!r}")
    return float(learning_rate)


def _noise(oracle: Oracle | None) -> float:
    if oracle is None or isinstance(oracle, Exact):
        return 0.0
    if isinstance(oracle, Gaussian) and isinstance(oracle.sigma2, float):
        return oracle.sigma2
    raise ValueError(
        f"theory beside a curve knows noise of one variance everywhere, not {oracle!r}; use "
        f"relaysim.oracles.Gaussian(sigma2)"
    )


def _asymptote(curve: np.ndarray, radius: float, plateau: float | None) -> np.ndarray | None:
    highest = curve.max()
    if plateau is None or not 0 < radius < 1 or plateau > ROUNDING * highest:
        return None
    seen = np.flatnonzero(curve > ROUNDING * highest)
    late = seen[-max(10, len(seen) // 8) :]  # long enough to meet a maximum of an oscillation
    powers = 2 * np.arange(len(curve)) * np.log(radius)
    above = np.log(curve[late]) - powers[late]
    halves = above[: len(late) // 2], above[len(late) // 2 :]
    if len(late) < 4 or abs(halves[0].max() - halves[1].max()) > SAME_RATE:
        return None
    return np.exp(above.max() + powers)


def _bounds(
    history: Simulated, column: str, rate: float, bounds: tuple[Bound, ...]
) -> tuple[Bound, ...]:
    frame = history.frame
    at_rate = frame[np.isclose(frame.learning_rate, rate, rtol=1e-12, atol=0)]
    means = at_rate.groupby("step")[column].mean()
    found = []
    for bound in bounds:
        if bound.quantity != column:
            continue
        try:
            found.append(bound.fitted(means.index.to_numpy(), means.to_numpy()))
        except ValueError:
            continue  # too few records to fit it to, or a mean over steps some of which are missing
    return tuple(found)
