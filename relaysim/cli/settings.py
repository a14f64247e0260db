"""The options of an experiment as options of a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from relaysim.studies.experiment import OPTIONS
from relaysim.studies.options import Option

__all__ = ["add_max_memory", "add_settings", "dashed", "stated_in"]


def dashed(name: str) -> str:
    """An option's name as it is typed after ``--``."""
    return name.replace("_", "-")


def add_max_memory(parser: argparse.ArgumentParser) -> None:
    """The option that refuses what would take more memory."""
    parser.add_argument(
        "--max-memory", metavar="SIZE", help="refuse what would take more, such as '2 GB'"
    )


def add_settings(
    parser: argparse.ArgumentParser,
    names: Iterable[str] = OPTIONS,
    several: Iterable[str] = (),
) -> None:
    """Options of an experiment, each with its line of help; of some ``several`` values may be given."""
    for name in names:
        each = OPTIONS[name]
        parser.add_argument(
            f"--{dashed(name)}",
            type=_kind_of(each),
            nargs="+" if name in several else None,
            metavar=name.upper(),
            help=_explained(each),
        )


def stated_in(chosen: argparse.Namespace) -> dict[str, Any]:
    """What was said of an experiment."""
    return {
        name: getattr(chosen, name) for name in OPTIONS if getattr(chosen, name, None) is not None
    }


def _kind_of(each: Option) -> Callable[[str], Any]:
    return _number_or_text if (each.parts and each.kind) or each.optional else each.kind or str


def _number_or_text(text: str) -> float | str:
    """A number, or the text of what has a name: a schedule, or "none"."""
    try:
        return float(text)
    except ValueError:
        return text


def _explained(each: Option) -> str:
    """An option's line of help, with its default; argparse reads % as a format."""
    default = "" if each.default is None else f" (default: {each.default})"
    return f"{each.help}: {each.limits}{default}".replace("%", "%%")
