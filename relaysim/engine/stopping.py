"""When a replica has done what it was for, and leaves the computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relaysim.measures.columns import bits_of
from relaysim.measures.measure import Measure
from relaysim.problems.problem import Problem, knows_optimum
from relaysim.support.checks import real_number, shown

__all__ = ["Stopping"]

SENT = ("vectors_sent", "bits_sent")


class Stopping:
    """Limits of columns; a replica leaves with the first record that is beyond one of them.

    Args:
        problem: what is run on.
        measures: of the run.
        stop_below: of the suboptimality, as for `relaysim.simulate`.
        stop_when: limits by the names of columns, likewise.
    """

    def __init__(
        self,
        problem: Problem,
        measures: Sequence[Measure],
        stop_below: float | None,
        stop_when: Mapping[str, float] | None,
    ) -> None:
        self._d = problem.d
        self.limits: dict[str, float] = {}
        if stop_when is not None:
            if not isinstance(stop_when, Mapping):
                raise TypeError(
                    f"stop_when must be a mapping such as {{'gradient_norm': 1e-6}}, not {shown(stop_when)}"
                )
            names = [each.name for each in measures if not each.per_worker]
            for name, limit in stop_when.items():
                if name not in (*names, *SENT):
                    raise ValueError(
                        f"stop_when has no column {shown(name)}; there are {', '.join((*names, *SENT))}"
                    )
                self.limits[name] = real_number(limit, f"stop_when[{name!r}]")
        if stop_below is not None:
            if not knows_optimum(problem):
                raise ValueError(
                    "stop_below needs a problem whose optimum is known; give the problem an `optimum`, "
                    "or use stop_when={'gradient_norm': …}"
                )
            if not real_number(stop_below, "stop_below") > 0:
                raise ValueError(f"stop_below must be positive, not {stop_below!r}")
            given = self.limits.get("suboptimality", -np.inf)
            self.limits["suboptimality"] = max(float(stop_below), given)

    def __bool__(self) -> bool:
        return bool(self.limits)

    def met(self, measured: Mapping[str, np.ndarray], sent: np.ndarray) -> Any:
        """At which records a limit is passed, ``(k, r)``: measures below it, or as much sent.

        Args:
            measured: columns, ``(k, r)``.
            sent: vectors sent by then, ``(k,)`` or ``(k, r)``.
        """
        vectors = sent if sent.ndim == 2 else sent[:, None]
        found: Any = False
        for name, limit in self.limits.items():
            if name == "vectors_sent":
                found = found | (vectors >= limit)
            elif name == "bits_sent":
                found = found | (bits_of(vectors, self._d) >= limit)
            else:
                found = found | (measured[name] < limit)
        return found
