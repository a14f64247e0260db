"""A column of a history as one object, and the noise that its expectation is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.support.checks import shown, true_or_false

__all__ = ["Measure", "Noise"]


@dataclass(frozen=True)
class Noise:
    """How noisy gradients spread the iterates about the point where they would rest without noise.

    Attributes:
        problem: a quadratic one.
        iterates: where the iterates rest, ``(n, d)``: their expectation.
        mean_covariance: of x̄, ``(d, d)``.
        worker_variances: E‖x_i − E x_i‖² of each worker, ``(n,)``.
        consensus: what noise adds to E Ξ², (1/n) Σ_i E‖(x_i − x̄) − E(x_i − x̄)‖².
        mean_hessian: H̄ of f, ``(d, d)``.
    """

    problem: Any
    iterates: np.ndarray
    mean_covariance: np.ndarray
    worker_variances: np.ndarray
    consensus: float
    mean_hessian: np.ndarray


@dataclass(frozen=True)
class Measure:
    """What a column of a history is: a number for each record and replica.

    Args:
        name: of the column.
        of: ``(iterates, problem) → values``, from ``(records, n, d[, r])`` to ``(records[, r])``. It is
            called with some records at a time, which it may not change, and a value may depend on its own
            record and replica only. What is not finite is not shown to it, and is NaN in the column.
        label: what an axis says, with the unit; the name by default.
        needs_optimum: whether it can be measured only where the problem knows its optimum.
        expectation: ``(at_rest, noise) → E``, the exact expectation where a quadratic problem's gradients
            have noise and the start is forgotten: ``at_rest`` is the value where the iterates rest
            without noise, and ``noise`` a `Noise`. Where there is none, `Linearization.stationary` leaves
            the column out.
        per_worker: ``of`` goes to ``(records, n[, r])``, a number for each worker: a column of
            `History.worker_frame` instead of `History.frame`.

    Raises:
        TypeError, ValueError: what is no name, no function, no text.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> first = Measure("first", lambda iterates, problem: iterates[:, 0, 0], label="First number of x_0")
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(),
    ...                       learning_rate=0.2, steps=10, measures=[first, "worst_distance"])
    >>> bool(history.frame["first"].iloc[-1] == history.x[0, 0])
    True
    """

    name: str
    of: Callable[[np.ndarray, Any], Any]
    label: str | None = None
    needs_optimum: bool = False
    expectation: Callable[[float, Noise], float] | None = None
    per_worker: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise TypeError(f"a measure's name must be text, not {self.name!r}")
        if not callable(self.of):
            raise TypeError(
                f"measure {self.name!r}: of must be a function of (iterates, problem), "
                f"not {shown(self.of)}"
            )
        if not (self.label is None or isinstance(self.label, str)):
            raise TypeError(f"measure {self.name!r}: label must be text, not {self.label!r}")
        true_or_false(self.needs_optimum, f"measure {self.name!r}: needs_optimum")
        true_or_false(self.per_worker, f"measure {self.name!r}: per_worker")
        if self.expectation is None:
            return
        if not callable(self.expectation):
            raise TypeError(
                f"measure {self.name!r}: expectation must be a function of (at_rest, noise), "
                f"not {shown(self.expectation)}"
            )
        if self.per_worker:
            raise ValueError(
                f"measure {self.name!r} has a number for each worker and can have no expectation; "
                f"leave expectation out, or make it a measure of one worker"
            )

    @property
    def axis_label(self) -> str:
        """What an axis says: the label, or the name where there is none."""
        return self.name if self.label is None else self.label
