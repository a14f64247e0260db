"""Performance estimation: the semidefinite program whose solution is a worst case, and its proof.

All L-smooth and μ-strongly convex functions that agree with given points, gradients and values are told by
inequalities that are linear in values and in inner products of vectors, so that the worst of them is found
over the Gram matrix of start and gradients. Everything here is in units with L = 1.

Source: Taylor, Hendrickx, Glineur, "Smooth strongly convex interpolation and exact worst-case performance of
first-order methods", Mathematical Programming, 2017, theorem 4.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from relaysim.theory.traced import Trace

__all__ = ["Estimate", "estimated"]

# Upper and lower end of what the solver found, beside 1: the size of start and gradients.
SAME = 1e-5
# Eigenvalues of a Gram matrix, beside the largest, that are the solver's rounding.
FLAT = 1e-5


class Estimate(NamedTuple):
    """What the program found.

    Attributes:
        upper, lower: what the multipliers prove, and what the functions attain.
        of_start, of_zeta2: multipliers of ‖x_i⁰ − x*‖² ≤ r0², all together, and of (1/n) Σ ‖∇f_i(x*)‖² ≤ ζ²;
            None where there is nothing to multiply.
        interpolation: ``(n, p, p)``, those of the inequalities between any two points of a worker.
        start: ``(n, m)``, where the workers start, with x* = 0.
        points, gradients: ``(n, p, m)``; x* first.
        values: ``(n, p)``.
    """

    upper: float
    lower: float
    of_start: float | None
    of_zeta2: float | None
    interpolation: np.ndarray
    start: np.ndarray
    points: np.ndarray
    gradients: np.ndarray
    values: np.ndarray


def estimated(trace: Trace, mu: float, r0: float, zeta2: float, measure: str) -> Estimate:
    """The worst value of a measure after the last step of a trace.

    Args:
        trace: see `relaysim.theory.traced`.
        mu: in [0, 1).
        r0, zeta2: at the most 1, one of them positive.
        measure: one of those of `relaysim.theory.worst_case`.

    Raises:
        ImportError: PEPit is not installed.
        RuntimeError: the solver found no solution to five digits.
    """
    try:
        import clarabel  # noqa: F401, the solver, of which PEPit does not tell that it is missing
        from PEPit import PEP, Expression, Point
        from PEPit.functions import SmoothStronglyConvexFunction
    except ImportError:
        raise ImportError(
            'worst cases need PEPit; install it with: python -m pip install "relaysim[pep]"'
        ) from None
    program = PEP()
    queries, n = trace.queries.shape[:2]
    origin = Point(is_leaf=False, decomposition_dict={})

    def vectors(count: int, present: bool = True) -> list[Any]:
        return [Point() if present else origin for _ in range(count)]

    starts = vectors(trace.last.shape[1] - queries * n, r0 > 0)
    answers = [vectors(n) for _ in range(queries)]
    free = vectors(n - 1, zeta2 > 0)
    leaves = [*starts, *(each for row in answers for each in row)]

    def combined(row: np.ndarray) -> Any:
        terms = [each * float(c) for each, c in zip(leaves, row, strict=True) if c]
        return sum(terms, origin)

    # What each worker is asked, and answers: x* first.
    asked = [[origin, *map(combined, trace.queries[:, i])] for i in range(n)]
    answered = [
        [each, *(row[i] for row in answers)] for i, each in enumerate([*free, -sum(free, origin)])
    ]
    last = [combined(row) for row in trace.last]
    mean = sum(last, origin) / n
    if measure in ("suboptimality", "gradient_norm"):
        for i in range(n):
            asked[i].append(mean)
            answered[i].append(Point())
    values = [[Expression() for _ in each] for each in asked]
    functions = [
        program.declare_function(SmoothStronglyConvexFunction, mu=mu, L=1.0) for _ in range(n)
    ]
    for function, *known in zip(functions, asked, answered, values, strict=True):
        for triple in zip(*known, strict=True):
            function.add_point(triple)
    nothing = origin**2
    at_start = [each**2 <= r0**2 for each in starts if r0 > 0]
    gradients = sum((each[0] ** 2 for each in answered), nothing) / n
    at_optimum = [gradients <= zeta2] if free and zeta2 > 0 else []
    for condition in at_start + at_optimum:
        program.add_constraint(condition)
    squares = {
        "distance": lambda: sum((each**2 for each in last), nothing) / n,
        "mean_distance": lambda: mean**2,
        "consensus_distance": lambda: sum(((each - mean) ** 2 for each in last), nothing) / n,
        "suboptimality": lambda: sum((each[-1] - each[0] for each in values), nothing) / n,
        "gradient_norm": lambda: (sum((each[-1] for each in answered), origin) / n) ** 2,
    }
    program.set_performance_metric(squares[measure]())
    lower = _solved(program)
    of_start, of_zeta2 = (
        float(sum(each.eval_dual() for each in conditions)) if conditions else None
        for conditions in (at_start, at_optimum)
    )
    upper = (of_start or 0.0) * r0**2 + (of_zeta2 or 0.0) * zeta2
    if not abs(upper - lower) <= SAME * max(1.0, abs(lower)):
        raise RuntimeError(_unsolved(f"it lies between {lower:.6g} and {upper:.6g}"))
    tables = [_multipliers(function) for function in functions]
    return Estimate(
        upper=upper,
        lower=lower,
        of_start=of_start,
        of_zeta2=of_zeta2,
        interpolation=np.array(tables),
        **_worst(trace, starts, asked, answered, values),
    )


def _solved(program: Any) -> float:
    """Solve a program; what the functions found attain."""
    from cvxpy.error import SolverError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how near the ends of what was found are, is looked at
        try:
            found = program.solve(verbose=0, solver="CLARABEL", return_primal_or_dual="primal")
        except SolverError:
            found = None
    if found is None:
        raise RuntimeError(_unsolved("the solver stopped without one"))
    return float(found)


def _unsolved(what: str) -> str:
    return (
        f"no worst case was found to five digits: {what}; take fewer steps, or a learning rate at which the "
        f"method does not diverge"
    )


def _multipliers(function: Any) -> np.ndarray:
    (table,) = function.get_class_constraints_duals().values()
    found: np.ndarray = table.to_numpy(dtype=float)
    return found


def _worst(
    trace: Trace, starts: list[Any], asked: list[Any], answered: list[Any], values: list[Any]
) -> dict[str, np.ndarray]:
    """The functions found, in as few coordinates as they need."""
    n = len(asked)
    begin = np.array([each.eval() for each in starts])
    points, gradients = (
        np.array([[each.eval() for each in row] for row in rows]) for rows in (asked, answered)
    )
    everything = np.concatenate([begin, gradients.reshape(-1, gradients.shape[2])])
    _, sizes, axes = np.linalg.svd(everything, full_matrices=False)
    kept = max(1, int(np.count_nonzero(sizes**2 > FLAT * sizes[0] ** 2)))
    axes = axes[:kept].T
    return {
        "start": np.broadcast_to(begin @ axes, (n, kept)).copy(),
        "points": points @ axes,
        "gradients": gradients @ axes,
        "values": np.array([[each.eval() for each in row] for row in values]).reshape(n, -1),
    }
