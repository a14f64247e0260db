"""``relaysim list``: what has a name, with its options as they are typed."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from relaysim.cli.output import CommandError
from relaysim.cli.settings import dashed
from relaysim.measures import READY
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ATTACKS, COMPRESSORS, typed
from relaysim.support.names import closest

__all__ = ["HELP", "add_arguments", "command", "kinds"]

HELP = "name all that a command takes by name, with its options as they are typed"
FILLED_IN = """A name alone is enough where all options have defaults; n, workers and, of data and
partitions, seed are those of the setting where they are left out. relaysim list NAME tells all of one,
relaysim list KIND names those of one kind, such as algorithm."""
# What axes write in TeX.
_OF_AXES = {
    "$": "",
    r"\bar{x}": "x̄",
    r"x^\star": "x*",
    r"\|": "‖",
    r"\nabla": "∇",
    "^2": "²",
    " - ": " − ",
}


class Kind(NamedTuple):
    """A kind of things with names: the words before them, and what they are by name."""

    title: str
    entries: Mapping[str, object]


def kinds() -> dict[str, Kind]:
    """All kinds by name: those of an experiment's options, what stands within them, and the rest."""
    from relaysim.figures import FIGURES

    found: dict[str, Kind] = {}
    options: dict[int, list[str]] = {}
    for name, each in OPTIONS.items():
        if each.parts:
            options.setdefault(id(each.parts), []).append(name)
    for names in options.values():
        first = OPTIONS[names[-1]]
        doors = ", ".join(f"--{dashed(name)}" for name in names)
        found[names[-1]] = Kind(f"{doors}, such as {first.example}", first.parts)
    found["compressor"] = Kind("within algorithms", COMPRESSORS)
    found["attack"] = Kind("within faults", ATTACKS)
    found["measure"] = Kind("relaysim tune --measure", READY)
    found["figure"] = Kind("relaysim figure", FIGURES)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "name", nargs="?", help="a kind, such as algorithm, or one name, such as DPSGD"
    )


def command(chosen: argparse.Namespace) -> None:
    """Name everything, or what is of one kind; or tell all of one."""
    everything = kinds()
    if chosen.name is None:
        for kind in everything:
            print("\n".join(_lines(kind, everything[kind])), end="\n\n")
        print(FILLED_IN)
        return
    for kind, of in everything.items():
        # One or many: oracle, oracles.
        if kind.removesuffix("s") == chosen.name.lower().removesuffix("s"):
            print("\n".join(_lines(kind, of)))
            return
    names = {name: each.entries for each in everything.values() for name in each.entries}
    if chosen.name not in names:
        hint = closest(chosen.name, [*names, *everything])
        raise CommandError(f"nothing is called {chosen.name!r}{hint}")
    entry = names[chosen.name][chosen.name]
    print(_as_typed(chosen.name, entry), inspect.getdoc(entry) or "", sep="\n\n")


def _lines(kind: str, of: Kind) -> Iterator[str]:
    yield f"{kind}: {of.title}"
    shown = {name: _as_typed(name, entry) for name, entry in of.entries.items()}
    width = max(map(len, shown.values()))
    for name, entry in of.entries.items():
        yield f"  {shown[name]:<{width}}  {_told(entry)}"


def _as_typed(name: str, entry: object) -> str:
    """A name, with its options where it takes some."""
    if entry in READY.values() or getattr(entry, "__module__", "").startswith("relaysim.figures"):
        return name
    return typed(name, entry) if callable(entry) else name


def _told(entry: object) -> str:
    """The first line of what something says of itself; of a measure the words of its axis."""
    label = getattr(entry, "axis_label", None)
    if label is None:
        return (entry.__doc__ or "").strip().splitlines()[0]
    for sign, letter in _OF_AXES.items():
        label = label.replace(sign, letter)
    return label
