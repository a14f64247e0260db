"""`check`, whose work needs the engine: whoever stands above it says how it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from relaysim.topologies import Topology, TreePair

__all__ = ["check", "checked_by"]

_examine: Callable[..., pd.DataFrame] | None = None


def checked_by(examine: Callable[..., pd.DataFrame]) -> None:
    """Let the studies, which run methods, say how a method is checked."""
    global _examine
    _examine = examine


def check(
    algorithm: Any,
    problem: Any,
    topology: Topology | TreePair,
    *,
    learning_rate: float = 0.1,
    steps: int = 20,
    mixing: Any = None,
) -> pd.DataFrame:
    """Go through the contract of a method, and measure what it claims.

    Args:
        algorithm: a user's own, or one of `relaysim.algorithms`.
        problem: n workers; what is claimed of quadratics is tried on ones of relaysim with as many workers.
        topology: with a diameter of more than a hop, or there is no cone of light to see.
        learning_rate: γ, at which runs stay finite.
        steps: of most runs; some are longer.
        mixing: as for `relaysim.simulate`.

    Returns:
        A DataFrame with a row for each claim: whether it ``holds`` (missing for what is not claimed, or
        cannot be measured here), what was ``measured``, its ``limit``, and a ``note``.
        ``table.holds.all()`` is the verdict.

    It does not know the rule: that a step is what a paper says takes a slow transcription to compare with.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=6, d=2, zeta2=1.0, seed=0)
    >>> table = rs.algorithms.check(rs.algorithms.EXTRA(), problem, rs.topologies.ring(6))
    >>> bool(table.holds.all())
    True
    """
    assert _examine is not None, "relaysim imports what checks"
    return _examine(
        algorithm, problem, topology, learning_rate=learning_rate, steps=steps, mixing=mixing
    )
