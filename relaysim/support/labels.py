"""What axes say of the columns that they show."""

from __future__ import annotations

__all__ = ["AXIS_LABELS"]

#: By column of a history's frame. Measures that are ready add what is theirs; see `relaysim.measures`.
AXIS_LABELS: dict[str, str] = {
    "step": "Steps",
    "vectors_sent": "Vectors sent by all workers",
    "bits_sent": "Bits sent by all workers",
    "gradients": "Gradients of all workers",
    "time": "Time",
}
