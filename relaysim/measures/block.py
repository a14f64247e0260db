"""Iterates of some records, and what several measures need of them, computed once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from relaysim.measures.deviations import means_of, spreads_of
from relaysim.oracles import checked_gradient
from relaysim.problems.problem import Problem, knows_optimum, unless_overridden
from relaysim.support.blocks import row_blocks
from relaysim.support.callbacks import answer, ask, read_only
from relaysim.support.checks import real_array, shown

__all__ = ["Block", "Known", "Needs", "Shared"]

#: What a measure needs of the iterates: x̄, Ξ² too, or the numbers of each worker.
Needs = Literal["mean", "spread", "workers"]
#: x̄ ``(k, d[, r])`` and Ξ² ``(k[, r])`` of some records; None where nobody needs the latter.
Known = tuple[np.ndarray, np.ndarray | None]


class Block:
    """Iterates of some records, ``(k, n, d[, r])``, of a problem.

    Args:
        problem: what is measured on.
        iterates: not to be changed.
        known: x̄ and Ξ², if they are.
        asked: names of members of the problem that measures will ask for.
    """

    def __init__(
        self,
        problem: Problem,
        iterates: np.ndarray,
        known: Known | None = None,
        asked: Collection[str] = (),
    ):
        self.problem, self.iterates = problem, np.asarray(iterates)
        self._is_asked_for_both = {"suboptimality", "mean_gradient"} <= set(asked)
        if known is not None:
            self.__dict__["mean"], spread = known
            if spread is not None:
                self.__dict__["consensus_distance"] = spread

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a measure's values: ``(k[, r])``."""
        return (len(self.iterates), *self.iterates.shape[3:])

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """x̄, ``(k, d[, r])``."""
        return means_of(self.iterates)

    @functools.cached_property
    def points(self) -> np.ndarray:
        """x̄ of all records and replicas as columns, ``(d, k r)``: a problem measures them in one go."""
        mean = self.mean
        columns = np.moveaxis(mean.reshape((*mean.shape[:2], -1)), 1, 0)
        return np.ascontiguousarray(columns).reshape(mean.shape[1], -1)

    @property
    def optimum(self) -> np.ndarray:
        """x*, of a problem that knows it."""
        if not knows_optimum(self.problem):
            raise ValueError("the optimum of this problem is not known; give it an `optimum`")
        return np.asarray(self.problem.optimum)

    @functools.cached_property
    def errors(self) -> np.ndarray:
        """x̄ − x*, ``(d, k r)``."""
        return self.points - self.optimum[:, None]

    @functools.cached_property
    def consensus_distance(self) -> np.ndarray:
        """Ξ² = (1/n) Σ_i ‖x_i − x̄‖² from deviations, so that nothing cancels, ``(k[, r])``."""
        return spreads_of(self.iterates, self.mean)

    @functools.cached_property
    def consensus_distances(self) -> np.ndarray:
        """‖x_i − x̄‖² of each worker, ``(k, n[, r])``."""
        if self._is_one_large_record:
            return self._squared_distances(self.mean)
        return np.einsum("tnd...,tnd...->tn...", self._deviations, self._deviations)

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """‖x_i − x*‖² of each worker, ``(k, n[, r])``."""
        return self._squared_distances(
            self.optimum.reshape(-1, *(1,) * (self.iterates.ndim - 3))[None]
        )

    def _squared_distances(self, center: np.ndarray) -> np.ndarray:
        """‖x_i − c‖² of each worker, for c ``(k or 1, d[, r or 1])``."""
        parts = []
        for rows in row_blocks(self.iterates[0]):
            part = self.iterates[:, rows] - center[:, None]
            parts.append(np.einsum("tnd...,tnd...->tn...", part, part))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    @property
    def _is_one_large_record(self) -> bool:
        return len(self.iterates) == 1 and len(row_blocks(self.iterates[0])) > 1

    @functools.cached_property
    def _deviations(self) -> np.ndarray:
        return self.iterates - self.mean[:, None]

    def of_points(self, values: np.ndarray) -> np.ndarray:
        """Values at `points`, ``(k r,)``, as those of records and replicas, ``(k[, r])``."""
        return values.reshape(self.shape)

    @functools.cached_property
    def values(self) -> np.ndarray:
        """f(x̄), ``(k r,)``."""
        found = [ask(self.problem.value, "value", point) for point in self.points.T]
        return real_array(found, "the problem's value").reshape(len(found))

    @functools.cached_property
    def suboptimality(self) -> np.ndarray:
        """f(x̄) − f(x*), ``(k r,)``."""
        problem, points = self.problem, self.points
        name, together = "suboptimality_and_gradient", None
        if self._is_asked_for_both:
            together = unless_overridden(problem, name, "suboptimality", "mean_gradient")
        if together is not None:
            both = ask(together, name, points)
            if not isinstance(both, tuple) or len(both) != 2:
                raise TypeError(
                    f"the problem's {name} must return a pair, f(x) − f(x*) and ∇f(x), not {shown(both)}"
                )
            self.__dict__["mean_gradient"] = answer(both[1], name, points.shape)
            return answer(both[0], name, points.shape[1:])
        if hasattr(problem, "suboptimality"):
            found = ask(problem.suboptimality, "suboptimality", points)
            return answer(found, "suboptimality", points.shape[1:])
        lowest = getattr(problem, "optimal_value", None)
        if lowest is None:
            lowest = float(ask(problem.value, "value", self.optimum))
        return self.values - lowest

    @functools.cached_property
    def shortest_subgradient(self) -> np.ndarray:
        """The shortest subgradient at x̄ of f and the term that it has no gradient of, ``(d, k r)``."""
        regularizer = getattr(self.problem, "regularizer", None)
        if regularizer is None:
            return self.mean_gradient
        return regularizer.shortest(self.mean_gradient, self.points)

    @functools.cached_property
    def mean_gradient(self) -> np.ndarray:
        """∇f(x̄), ``(d, k r)``."""
        problem, points = self.problem, self.points
        if hasattr(problem, "mean_gradient"):
            found = ask(problem.mean_gradient, "mean_gradient", points)
            return answer(found, "mean_gradient", points.shape)
        shape = (problem.n, *points.shape)
        if self.iterates.ndim == 4:
            return _mean_of_gradients(problem, np.broadcast_to(points, shape))
        each = [_mean_of_gradients(problem, np.broadcast_to(p, shape[:2])) for p in points.T]
        return np.stack(each, axis=1)

    # -- for measures of the user's own ------------------------------------------------------------

    @functools.cached_property
    def is_finite(self) -> np.ndarray:
        """Whether all numbers of a record and replica are, ``(k[, r])``."""
        return self.of_points(np.isfinite(self.points).all(axis=0))

    @functools.cached_property
    def finite_iterates(self) -> np.ndarray:
        """The iterates, of which nobody can change anything; 0 where a replica is not finite."""
        found = self.iterates
        if not self.is_finite.all():
            found = np.where(self.is_finite[:, None, None], found, 0.0)
        return read_only(found)


@dataclass(frozen=True)
class Shared:
    """A formula over a `Block` as the ``of`` of a measure, so that measures share what they need.

    It may be called with iterates and a problem like any other. ``needs``: what of the iterates it looks at;
    ``asks``: of what it asks the problem, that which can be had together with something else.
    """

    formula: Callable[[Block], np.ndarray]
    needs: Needs = "workers"
    asks: str | None = None

    def __call__(self, iterates: np.ndarray, problem: Problem) -> np.ndarray:
        return self.formula(Block(problem, iterates))


def _mean_of_gradients(problem: Problem, x: np.ndarray) -> np.ndarray:
    return checked_gradient(ask(problem.gradient, "gradient", x), x).mean(axis=0)
