"""Searches for a learning rate, as commands start and tell of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from relaysim.studies.searches import search
from relaysim.studies.tuning import Tuning
from relaysim.support.progress import someone_watches

__all__ = ["looked_for"]


def looked_for(setting: Mapping[str, Any], built: Mapping[str, Any], **options: Any) -> Tuning:
    """Search, under a progress bar where someone watches, and with a line where nobody does."""
    if not someone_watches():
        print(
            f"relaysim: tuning the learning rate of {setting['algorithm']} on {setting['topology']}, "
            f"up to {setting['max_steps']} steps",
            file=sys.stderr,
            flush=True,
        )
    return search(setting, built, **options)
