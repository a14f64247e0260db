"""The learning rates in force, step by step, of the replicas that are still computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaysim.algorithms.base import Rate
from relaysim.engine.plan import ReplicaPlan

__all__ = ["Rates"]


class Rates:
    """γ of a plan at each step.

    Args:
        plan: whose rates, schedule and factors of the workers these are.
    """

    def __init__(self, plan: ReplicaPlan):
        self._of_replicas: Rate = plan.rates if plan.has_axis else float(plan.rates[0])
        self._has_axis, self._of_workers = plan.has_axis, plan.workers
        self._over_time: Callable[[int], float] | None = plan.shape
        if plan.schedule is not None:
            self._of_replicas, self._over_time = 1.0, plan.schedule.tolist().__getitem__

    @property
    def change(self) -> bool:
        """Whether they differ from step to step."""
        return self._over_time is not None

    def at(self, step: int) -> Rate:
        """Those of a step, as `relaysim.algorithms.base.Round` has them."""
        rate = self._of_replicas
        if self._over_time is not None:
            rate = rate * self._over_time(step)
        if self._of_workers is None:
            return rate
        return self._of_workers.reshape((-1, 1, 1) if self._has_axis else (-1, 1)) * rate

    def table(self, step: int, n: int, r: int) -> np.ndarray:
        """Those of a step by worker and replica, ``(n, r)``."""
        rate = np.asarray(self.at(step))
        if not self._has_axis:
            rate = rate[..., None]
        return np.broadcast_to(rate, (n, 1, r))[:, 0]

    def keep(self, replicas: np.ndarray) -> None:
        """Those of these replicas only (a boolean mask over the present ones)."""
        if isinstance(self._of_replicas, np.ndarray):
            self._of_replicas = self._of_replicas[replicas]
