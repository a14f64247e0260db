"""Searches for a learning rate, as commands start and tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relaysim.cli.output import begun
from relaysim.studies.searches import search
from relaysim.studies.tuning import Tuning

__all__ = ["looked_for"]


def looked_for(setting: Mapping[str, Any], built: Mapping[str, Any], **options: Any) -> Tuning:
    """Search, under a progress bar where someone watches, and with a line where nobody does."""
    begun(
        f"tuning the learning rate of {setting['algorithm']} on {setting['topology']}, up to "
        f"{setting['max_steps']} steps"
    )
    return search(setting, built, **options)
