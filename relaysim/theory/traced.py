"""A method's first steps in terms of its start and of the gradients that it gets, whatever the functions.

Its own step runs on rows of coefficients in the place of vectors: one column for x*, one for each start,
and one for each gradient that a worker is asked for. What is affine in these for vectors of any length is
so for the coefficients, so that there is no second copy of any rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from relaysim.algorithms.base import Method, Round
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, weights_for
from relaysim.mixing.by_step import AnyMixing
from relaysim.mixing.drawn import DrawnMixing
from relaysim.network import Network
from relaysim.problems.workers import Workers
from relaysim.support.workspace import Workspace
from relaysim.topologies import Topology, TreePair

__all__ = ["Trace", "traced"]

# A gradient where the step asks for one, and that of a worker's own problem's solution.
MOST_QUERIES_A_STEP = 2
# Equal but for rounding, beside the largest coefficient.
EQUAL = 1e-9


class Trace(NamedTuple):
    """Points as sums over s starts and the gradients of q queries, all less x*.

    Attributes:
        queries: where gradients are asked for that matter later, ``(q, n, s + q n)``; the gradient of
            worker i in query k has column s + k n + i.
        last: the iterates after the last step, ``(n, s + q n)``.
    """

    queries: np.ndarray
    last: np.ndarray

    def in_units_of(self, smoothness: float) -> Trace:
        """The same of gradients that are divided by L."""
        count, n = self.queries.shape[:2]
        scales = np.ones(self.last.shape[1])
        scales[len(scales) - count * n :] = smoothness
        return Trace(self.queries * scales, self.last * scales)


class _AnyFunctions:
    """n functions of which nothing is known but L and μ, in the place of a problem.

    Each gradient asked for is a row of ``columns (columns, d)`` of its own, those from ``first`` on.
    """

    def __init__(
        self, n: int, columns: np.ndarray, first: int, smoothness: float, strong_convexity: float
    ):
        self.n, self.d = n, columns.shape[1]
        self.smoothness, self.strong_convexity = smoothness, strong_convexity
        self.local_smoothness = np.full(n, smoothness)
        self.asked: list[np.ndarray] = []
        self._columns, self._first = columns, first

    def __repr__(self) -> str:
        return (
            f"any {self.smoothness:g}-smooth, {self.strong_convexity:g}-strongly convex functions"
        )

    def _gradients(self) -> np.ndarray:
        begin = self._first + len(self.asked) * self.n
        return self._columns[begin : begin + self.n]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The next n columns; notes where."""
        found = self._gradients()
        self.asked.append(x.copy())
        return found.copy()

    def proximal(self, x: np.ndarray, rate: float | np.ndarray, gradient: object) -> np.ndarray:
        """u_i = x_i − rate ∇f_i(u_i), with the gradient at the solution as the next columns."""
        u = x - rate * self._gradients()
        self.asked.append(u.copy())
        return u

    def value(self, x: np.ndarray) -> float:
        """Of no meaning here."""
        return 0.0


def traced(
    algorithm: Algorithm,
    topology: Topology | TreePair,
    learning_rate: float,
    steps: int,
    *,
    smoothness: float,
    strong_convexity: float,
    mixing: AnyMixing | None = None,
    common_start: bool = True,
) -> Trace:
    """The queries and the last iterates of a method as sums over starts and gradients.

    Args:
        algorithm: of rounds, without draws, whose step is affine in state and gradients.
        topology: as for `relaysim.simulate`; no pair of trees.
        learning_rate: γ.
        steps: K.
        smoothness, strong_convexity: L and μ, told to methods that ask.
        mixing: as for `relaysim.simulate`; nothing that draws.
        common_start: one start for all workers, or one for each.

    Raises:
        TypeError: a method, or a mixing, of which this is not so.
        ValueError: parts that do not fit each other.

    >>> import relaysim as rs
    >>> found = traced(rs.algorithms.AllReduce(), rs.topologies.chain(2), 0.1, 1, smoothness=1.0,
    ...                strong_convexity=0.1)
    >>> found.last.tolist()  # the start, and the gradients of two workers there
    [[1.0, -0.05, -0.05], [1.0, -0.05, -0.05]]
    """
    name = type(algorithm).__name__
    if isinstance(topology, TreePair):
        raise TypeError(
            f"a pair of trees treats coordinates differently, and a worst case knows none; use one tree, "
            f"such as relaysim.topologies.binary_tree({topology.n})"
        )
    if (
        not isinstance(algorithm, Method)
        or not algorithm.affine
        or algorithm.random
        or algorithm.oracle_needs == "examples"
    ):
        raise TypeError(
            f"{algorithm!r} is not affine in the gradients: what it does depends on the data, on examples or "
            f"on chance, so that its worst case is none that can be computed; use a method such as "
            f"RelaySGD(), DPSGD(), D2() or EXTRA()"
        )
    n = topology.n
    starts = 1 if common_start else n
    count = 1 + starts + MOST_QUERIES_A_STEP * steps * n

    def run(columns: np.ndarray) -> list[np.ndarray]:
        problem = _AnyFunctions(n, columns, 1 + starts, smoothness, strong_convexity)
        check_compatible(problem, topology, algorithm)
        weights = weights_for(algorithm, topology, mixing)
        if isinstance(weights, DrawnMixing):
            raise TypeError(
                f"{weights!r} draws, so that there is no one worst case; give a matrix or a sequence of them"
            )
        network = Network(topology, weights, Workspace(), workers=Workers(problem))
        round = Round(problem.gradient, network, Workspace(), _no_numbers)
        round.learning_rate = learning_rate
        start = columns[0] + np.broadcast_to(columns[1 : 1 + starts], (n, columns.shape[1]))
        state = algorithm.init(start, network)
        for step in range(steps):
            round.step = step
            state = algorithm.step(state, round)
        return [*problem.asked, state.x]

    found = run(np.eye(count))
    _require_any_coordinates(found, run, count, name)
    return _trimmed(np.array(found), n, starts)


def _no_numbers(shape: tuple[int, ...]) -> np.ndarray:
    raise TypeError(
        "a method that draws random numbers has no one worst case; use relaysim.simulate"
    )


def _require_any_coordinates(found: list[np.ndarray], run: object, count: int, name: str) -> None:
    """Raise unless the points are what they seem in other coordinates too, and x* is none of its own."""
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(count, count)))
    again = run(turned)  # type: ignore[operator]
    size = max(np.abs(each).max() for each in found)
    if not all(
        np.abs(a @ turned - b).max() <= EQUAL * size for a, b in zip(found, again, strict=True)
    ):
        raise TypeError(
            f"{name} treats coordinates differently, or is not affine, so that its worst case is none that "
            f"can be computed; use relaysim.simulate"
        )
    if not all(np.abs(each[:, 0] - 1).max() <= EQUAL * size for each in found):
        raise TypeError(
            f"{name} does not move with its start: where it goes depends on where 0 lies, so that it has no "
            f"worst case over all problems; use relaysim.simulate"
        )


def _trimmed(points: np.ndarray, n: int, starts: int) -> Trace:
    """Without x*, and without queries whose gradients no later point depends on."""
    queries = len(points) - 1
    points = points[:, :, 1 : 1 + starts + queries * n]
    by_query = points[:, :, starts:].reshape(queries + 1, n, queries, n)
    kept = np.flatnonzero(by_query.any(axis=(0, 1, 3)))
    columns = np.concatenate(
        [np.arange(starts), (starts + kept[:, None] * n + np.arange(n)).ravel()]
    )
    return Trace(points[kept][:, :, columns], points[-1][:, columns])
