"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["note"]


def note(message: str) -> None:
    """A UserWarning at the line from which relaysim was called."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").startswith("relaysim."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
