"""The worst that a method can do on any functions of a class, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.algorithms.events import Algorithm
from relaysim.mixing.by_step import AnyMixing
from relaysim.support.checks import one_of, real_number, true_or_false, whole_number
from relaysim.support.display import html_table
from relaysim.theory.estimation import estimated
from relaysim.theory.traced import traced
from relaysim.theory.worst_functions import WorstFunctions
from relaysim.topologies import Topology, TreePair

__all__ = ["MEASURES", "MOST_STEPS", "MOST_WORKERS", "Certificate", "WorstCase", "worst_case"]

#: Beyond these a program takes minutes.
MOST_WORKERS, MOST_STEPS = 5, 10

#: What may be the worst, with the power of L in its unit.
MEASURES = {
    "distance": 0,
    "mean_distance": 0,
    "consensus_distance": 0,
    "suboptimality": 1,
    "gradient_norm": 2,
}


@dataclass(frozen=True)
class Certificate:
    """The multipliers that prove a worst case; of any start and any ζ, as the class is the same.

        measure ≤ of_start · r0² + of_zeta2 · ζ²

    for all f_i of the class, since of_start · r0² + of_zeta2 · ζ² − measure is the sum of inequalities that
    hold for them, each times its multiplier ≥ 0, and a sum of squares.

    Attributes:
        of_start: the multiplier of ‖x_i⁰ − x*‖² ≤ r0², all together if workers start apart; None where
            r0 = 0.
        of_zeta2: that of (1/n) Σ ‖∇f_i(x*)‖² ≤ ζ²; None where ζ² = 0, or n = 1.
        interpolation: ``(n, q + 1, q + 1)``, those of the inequalities between any two points of a worker:
            x* first, then the queries.
    """

    of_start: float | None
    of_zeta2: float | None
    interpolation: np.ndarray

    def bound(self, r0: float, zeta2: float) -> float:
        """of_start · r0² + of_zeta2 · ζ²; infinite where a multiplier is not known."""
        found = 0.0
        for multiplier, size in ((self.of_start, r0**2), (self.of_zeta2, zeta2)):
            if size > 0:
                found += math.inf if multiplier is None else multiplier * size
        return found


@dataclass(frozen=True)
class WorstCase:
    """What `worst_case` found.

    Attributes:
        algorithm, topology, smoothness, strong_convexity, learning_rate, steps: of what.
        zeta2, r0, common_start, measure: over which optima and starts, and of which column.
        value: no functions of the class give more: what the multipliers prove.
        attained: what some give; the same but for the solver's rounding.
        certificate: the proof.
        dimension: how many parameters the functions have that attain it.
        start: their x_i⁰ ``(n, dimension)``; x* is 0.
        points, gradients: ``(n, q + 1, dimension)``, what each worker is asked and answers, x* first.
        values: ``(n, q + 1)``, f_i there.
    """

    algorithm: Algorithm
    topology: Topology | TreePair
    smoothness: float
    strong_convexity: float
    learning_rate: float
    steps: int
    zeta2: float
    r0: float
    common_start: bool
    measure: str
    value: float
    attained: float
    certificate: Certificate
    start: np.ndarray
    points: np.ndarray
    gradients: np.ndarray
    values: np.ndarray

    @property
    def dimension(self) -> int:
        return self.start.shape[1]

    @property
    def functions(self) -> WorstFunctions | None:
        """A worst problem, where one parameter is enough; None otherwise.

        Worker 0 starts at 0, as in a simulation without ``x0``, and so do all with a common start; else the
        starts are ``start − start[0]``.
        """
        if self.dimension != 1:
            return None
        return WorstFunctions(
            self.points[:, :, 0],
            self.gradients[:, :, 0],
            self.values,
            smoothness=self.smoothness,
            strong_convexity=self.strong_convexity,
            origin=-float(self.start[0, 0]),
        )

    def _repr_html_(self) -> str:
        found = self.certificate
        rows: list[tuple[str, Any]] = [
            ("method", repr(self.algorithm)),
            ("topology", repr(self.topology)),
            ("steps", self.steps),
            (f"worst {self.measure}", f"{self.value:.6g}"),
            ("attained", f"{self.attained:.6g}, by functions of {self.dimension} parameters"),
        ]
        for name, multiplier in (("r0²", found.of_start), ("ζ²", found.of_zeta2)):
            if multiplier is not None:
                rows.append((f"multiplier of {name}", f"{multiplier:.6g}"))
        return html_table("Worst case", rows)

    def __repr__(self) -> str:
        return (
            f"<WorstCase of {self.algorithm!r}, {self.steps} steps: {self.measure} {self.value:.6g}, "
            f"by functions of {self.dimension} parameters>"
        )


def worst_case(
    algorithm: Algorithm,
    topology: Topology | TreePair,
    smoothness: float,
    strong_convexity: float,
    learning_rate: float,
    steps: int,
    *,
    zeta2: float = 1.0,
    r0: float = 1.0,
    common_start: bool = True,
    measure: str = "distance",
    mixing: AnyMixing | None = None,
) -> WorstCase:
    """The worst that a method can do in K steps, over all functions of a class, exactly.

    The largest value of the measure over all f_i that are L-smooth and μ-strongly convex (merely convex at
    μ = 0), of any number of parameters, with a common optimum x* of f = (1/n) Σ f_i where
    (1/n) Σ ‖∇f_i(x*)‖² ≤ ζ², and over all starts within r0 of x*. The method's own step says which points
    these functions are asked for: any method of rounds whose step is affine in the gradients will do, without
    noise and faults. It needs PEPit, the extra ``pep``.

    Args:
        algorithm: such as `relaysim.algorithms.RelaySGD`.
        topology: of at most 5 workers.
        smoothness, strong_convexity: L > μ ≥ 0, of every f_i.
        learning_rate: γ ≥ 0.
        steps: K, at most 10. Three workers and 5 steps take a third of a second, 10 steps three, and five
            workers and 10 steps a quarter of a minute.
        zeta2: ζ².
        r0: the largest distance of a start from x* (not squared).
        common_start: True, all workers start at one point, ‖x⁰ − x*‖ ≤ r0, as in a simulation by default;
            False, each where it is worst, ‖x_i⁰ − x*‖ ≤ r0.
        measure: ``"distance"``, (1/n) Σ ‖x_i − x*‖²; ``"mean_distance"``, ‖x̄ − x*‖²;
            ``"consensus_distance"``, (1/n) Σ ‖x_i − x̄‖²; ``"suboptimality"``, f(x̄) − f(x*); or
            ``"gradient_norm"``, ‖∇f(x̄)‖²; all after step K.
        mixing: as for `relaysim.simulate`, no mixing that draws.

    Returns:
        A `WorstCase`: value, proof, and the functions.

    Raises:
        ImportError: PEPit is not installed.
        TypeError: a method or a mixing that has no one worst case: draws, compression, adaptive steps.
        ValueError: more workers or steps than 5 and 10, constants out of range.
        RuntimeError: the solver found no solution to five digits.

    Source: Drori, Teboulle, Mathematical Programming, 2014; Taylor, Hendrickx, Glineur, Mathematical
    Programming, 2017, theorem 4, which is exact where vectors may be as long as the Gram matrix.
    Decentralized methods: Colla, Hendrickx, "Automatic performance estimation for decentralized
    optimization", IEEE Transactions on Automatic Control, 2023. Solved with PEPit: Goujaud et al.,
    Mathematical Programming Computation, 2024.

    Gradient descent contracts by max(|1 − γμ|, |1 − γL|) a step:

    >>> import relaysim as rs
    >>> found = worst_case(rs.algorithms.AllReduce(), rs.topologies.chain(1), 1.0, 0.1, 0.5, 2)
    >>> round(found.value, 6), found.dimension, round(0.95**4, 6)
    (0.814506, 1, 0.814506)
    """
    n = getattr(topology, "n", 1)
    K = whole_number(steps, "steps", 0)
    L = real_number(smoothness, "smoothness", 0)
    mu = real_number(strong_convexity, "strong_convexity", 0)
    rate = real_number(learning_rate, "learning_rate", 0)
    zeta2 = real_number(zeta2, "zeta2", 0)
    r0 = real_number(r0, "r0", 0)
    true_or_false(common_start, "common_start")
    one_of(measure, "measure", tuple(MEASURES))
    if mu >= L:
        raise ValueError(
            f"smoothness {smoothness!r} must be above strong_convexity {strong_convexity!r}: functions of "
            f"one curvature are quadratics, of which relaysim.theory.linearize tells all"
        )
    if zeta2 == r0 == 0:
        raise ValueError(
            "r0 and zeta2 are both 0: the run starts where it ends; make one of them positive"
        )
    if n > MOST_WORKERS or K > MOST_STEPS:
        raise ValueError(
            f"{n} workers and {K} steps are more than an exact worst case can be found for: at most "
            f"{MOST_WORKERS} workers and {MOST_STEPS} steps; "
            f"{min(n, MOST_WORKERS)} and {min(K, MOST_STEPS)} would fit"
        )
    trace = traced(
        algorithm,
        topology,
        rate,
        K,
        smoothness=L,
        strong_convexity=mu,
        mixing=mixing,
        common_start=common_start,
    )
    # In units in which start and gradients are of size 1 at the most, and L is 1.
    size = math.hypot(r0, math.sqrt(zeta2) / L)
    found = estimated(trace.in_units_of(L), mu / L, r0 / size, zeta2 / (L * size) ** 2, measure)
    unit = size**2 * L ** MEASURES[measure]
    of_zeta2 = None if found.of_zeta2 is None else found.of_zeta2 * unit / (L * size) ** 2
    of_start = None if found.of_start is None else found.of_start * unit / size**2
    return WorstCase(
        algorithm=algorithm,
        topology=topology,
        smoothness=L,
        strong_convexity=mu,
        learning_rate=rate,
        steps=K,
        zeta2=zeta2,
        r0=r0,
        common_start=common_start,
        measure=measure,
        value=found.upper * unit,
        attained=found.lower * unit,
        certificate=Certificate(of_start, of_zeta2, found.interpolation * unit / (L * size**2)),
        start=found.start * size,
        points=found.points * size,
        gradients=found.gradients * size * L,
        values=found.values * size**2 * L,
    )
