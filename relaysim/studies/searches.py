"""The search for a learning rate that a setting describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relaysim.studies.described import rate_of
from relaysim.studies.options import TUNED
from relaysim.studies.settings import arguments_of
from relaysim.studies.tuning import Tuning, searched

__all__ = ["search"]

# Of `relaysim.tune`, by the names of settings.
_BY_NAME = ("target", "criterion", "max_steps", "seed")


def search(setting: Mapping[str, Any], built: Mapping[str, Any], **options: Any) -> Tuning:
    """Tune the learning rate of a complete setting.

    Args:
        setting: as `relaysim.studies.settings.complete` makes it, without a learning rate.
        built: the objects that it describes.
        options: further arguments of `relaysim.tune`.
    """
    parts = {name: part for name, part in built.items() if name != "faults"}  # there are none
    return searched(
        **parts,
        **arguments_of(setting, TUNED),
        **{name: setting[name] for name in _BY_NAME},
        schedule=rate_of(setting["schedule"]),
        **options,
    )
