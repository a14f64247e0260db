"""``relaysim tune``: the best learning rate of a setting, and options of the method beside it."""

from __future__ import annotations

import argparse
import inspect
import pathlib
import sys
from typing import Any

import pandas as pd

from relaysim.cli.output import CommandError, add_tables, check_files, show, write_json, write_table
from relaysim.cli.run import DRAWINGS, draw
from relaysim.cli.settings import add_settings, stated_in
from relaysim.cli.tuned import looked_for
from relaysim.measures import READY
from relaysim.measures.ready import suboptimality
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, known_name, name_in, named
from relaysim.studies.options import FIXED
from relaysim.studies.problem_kinds import plain
from relaysim.studies.settings import build, complete
from relaysim.studies.tuning import Tuning

__all__ = ["HELP", "TUNABLE", "add_arguments", "command"]

HELP = "find the best learning rate of a setting, and options of its method"
#: Measures that one can tune for, by name.
TUNABLE = tuple(name for name, each in READY.items() if not each.per_worker)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    of_use = [name for name, each in OPTIONS.items() if each.only != FIXED]
    add_settings(parser, [name for name in of_use if name != "learning_rate"])
    parser.add_argument(
        "--over",
        metavar="OPTIONS",
        help="values of options of the method to combine, such as 'momentum=[0, 0.5, 0.9]'",
    )
    parser.add_argument(
        "--measure",
        default=suboptimality.name,
        metavar="COLUMN",
        help="what has to fall below the target; relaysim list names measures",
    )
    parser.add_argument(
        "--plot", type=pathlib.Path, metavar="FILE", help="draw the search: .png, .pdf or .svg"
    )
    add_tables(parser, "all rates that were tried")


def command(chosen: argparse.Namespace) -> int:
    """Search, and show the best; 1 if no rate meets the target."""
    setting = complete(stated_in(chosen))
    known_name(chosen.measure, TUNABLE, "measure")
    check_files(chosen, plot=DRAWINGS)
    over = _over(chosen.over, setting["algorithm"])
    found = looked_for(setting, build(setting), over=over, measure=chosen.measure)
    best = _best(setting, found)
    show(chosen, best)
    write_table(chosen, found.frame)
    write_json(chosen, {"setting": plain(setting), "best": best, "tried": found.frame})
    if chosen.plot is not None:
        draw(chosen, found)
    if found.steps == found.steps:
        return 0
    print(
        f"relaysim: no learning rate brings the {found.measure} of {setting['algorithm']} below "
        f"{found.target:g} for good within {setting['max_steps']} steps; take a larger --target or "
        f"--max-steps",
        file=sys.stderr,
    )
    return 1


def _over(text: str | None, algorithm: str) -> dict[str, Any] | None:
    """The values of options that ``--over`` lists, read as a call of the method would be."""
    if text is None:
        return None
    name = name_in(algorithm)
    parameters = inspect.signature(ALGORITHMS[name]).parameters.values()

    def listed(**values: Any) -> dict[str, Any]:
        return values

    # Any of them may be left out.
    free = [p.replace(kind=p.KEYWORD_ONLY, default=None) for p in parameters]
    listed.__signature__ = inspect.Signature(free)  # type: ignore[attr-defined]
    found = named(f"{name}({text})", {name: listed}, "--over")
    for option, values in found.items():
        if not isinstance(values, list | tuple):
            raise CommandError(
                f"--over {option}={values!r} is no list; write {option}=[{values!r}]"
            )
    return found


def _best(setting: dict[str, Any], found: Tuning) -> pd.DataFrame:
    """One row: what was found, and for what."""
    frame = found.frame
    row = {
        "algorithm": name_in(setting["algorithm"]),
        "topology": setting["topology"],
        **found.options,
        "learning_rate": found.learning_rate,
        found.measure: f"< {found.target:g}",
        "steps": found.steps,
        "tried": len(frame),
        "diverged": int(frame["diverged"].sum()),
    }
    return pd.DataFrame([{name: str(v) if isinstance(v, tuple) else v for name, v in row.items()}])
