"""A history as a table in a notebook."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaysim.support.display import between, html_table

__all__ = ["described"]


def described(
    history: Any,
    rates: np.ndarray,
    sent: np.ndarray,
    columns: dict[str, np.ndarray],
    last_record: np.ndarray,
) -> str:
    """The table of a `relaysim.History`: what was run, and the last values of its columns."""
    kept = "no" if history.iterates is None else "with"
    steps, replicas = history.steps, history.replicas
    rows = [
        ("method", repr(history.algorithm) if history.algorithm is not None else history.label),
        ("topology", repr(history.topology)),
        ("problem", repr(history.problem) if history.problem is not None else "not saved"),
        ("learning rate", between(rates) if rates.size else "none"),
        ("steps", int(steps[-1]) if len(steps) else 0),
        ("records", f"{len(steps)}, {kept} iterates"),
        ("replicas", replicas),
        ("diverged", int(history.diverged.sum())),
    ]
    for name, values in columns.items():
        last = values[last_record, np.arange(replicas)]
        last = last[np.isfinite(last)]
        rows.append((f"last {name}", _summary(last) if len(last) else "none"))
    rows.append(("vectors sent", between(sent[-1]) if len(sent) else 0))
    return html_table(f"History of {history.label}", rows)


def _summary(values: np.ndarray) -> str:
    """A number, or the median of several and their range."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.median(values):.3g} (median; {values.min():.3g} to {values.max():.3g})"
