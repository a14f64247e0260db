"""Whose iterates are measured, and on what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from relaysim.measures.block import Known, Needs, Shared
from relaysim.measures.columns import check_shapes, values_of
from relaysim.measures.measure import Measure

__all__ = ["Scope"]


class Scope:
    """All workers and their problem, or some of them and the problem of these alone.

    Args:
        problem: of all workers.
        without: the workers whose iterates say nothing.

    ``problem`` is what is measured on.

    Raises:
        ValueError: some are left out of a problem that cannot say what the others minimise.
    """

    def __init__(self, problem: Any, without: tuple[int, ...] = ()):
        self.problem = problem
        self._workers = np.setdiff1d(np.arange(problem.n), without) if without else None
        if self._workers is not None:
            among = getattr(problem, "among", None)
            if among is None:
                raise ValueError(
                    f"columns are of the workers who do not lie, and {problem!r} cannot say what these "
                    f"minimise; give it a method among(workers) that returns the problem of these alone"
                )
            self.problem = among(self._workers)

    def of(self, iterates: np.ndarray) -> np.ndarray:
        """Those that are measured, of iterates ``(k, n, d[, r])``."""
        return iterates if self._workers is None else iterates[:, self._workers]

    def needs(self, measures: Iterable[Measure]) -> Needs:
        """What these measures need of the iterates of all workers."""
        each = {of.needs if isinstance(of := each.of, Shared) else "workers" for each in measures}
        if self._workers is not None or "workers" in each:
            return "workers"
        return "spread" if "spread" in each else "mean"

    def values_of(
        self,
        iterates: np.ndarray,
        measures: Iterable[Measure],
        known: Known | None = None,
    ) -> dict[str, np.ndarray]:
        """As the function `values_of`; measures of every worker are NaN for those left out.

        ``known`` is of all workers.
        """
        measures = tuple(measures)
        known = known if self._workers is None else None
        found = values_of(self.problem, self.of(iterates), measures, known)
        if self._workers is None:
            return found
        for measure in measures:
            if measure.per_worker:
                of_some = found[measure.name]
                whole = np.full((len(of_some), iterates.shape[1], of_some.shape[2]), np.nan)
                whole[:, self._workers] = of_some
                found[measure.name] = whole
        return found

    def distance(self, center: np.ndarray, known: Known) -> np.ndarray | None:
        """(1/n) Σ_i ‖x_i − c‖² ``(k[, r])`` from x̄ and Ξ² of all workers, ‖x̄ − c‖² where the latter is not
        known; None for some workers.
        """
        if self._workers is not None:
            return None
        mean, spread = known
        away = np.square(mean - center.reshape((-1,) + (1,) * (mean.ndim - 2))).sum(axis=1)
        return np.asarray(away if spread is None else spread + away)

    def check_shapes(self, start: np.ndarray, measures: Iterable[Measure]) -> None:
        """As the function `check_shapes`."""
        check_shapes(self.problem, self.of(start[None])[0], measures)
