"""``relaysim store``: look a store over, mend it, put it into one file, write a table of it."""

from __future__ import annotations

import argparse
import pathlib

from relaysim.cli.output import CommandError, check_file
from relaysim.studies import upkeep
from relaysim.support.checks import size_text

__all__ = ["HELP", "add_arguments", "command"]

HELP = "check, repair, checkpoint or export the store of a sweep"
WHAT = {
    "check": "whether all is what was stored, and who is at work",
    "repair": "set aside what is damaged; a broken file is saved as far as it can be read",
    "checkpoint": "put all into the one file, as small as can be, for a copy",
    "export": "write the table to --out, a .csv or .parquet file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    said = "; ".join(f"{name}: {text}" for name, text in WHAT.items())
    parser.add_argument("what", choices=WHAT, metavar="|".join(WHAT), help=said)
    parser.add_argument("file", type=pathlib.Path, help="the store of a sweep")
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="FILE", help="of export, the table's file"
    )


def command(chosen: argparse.Namespace) -> int:
    """Do it; 1 if a check finds something to repair, or a repair something lost."""
    if not chosen.file.is_file():
        raise CommandError(f"there is no file {str(chosen.file)!r}")
    if (chosen.what == "export") != (chosen.out is not None):
        raise CommandError("export needs --out FILE, and nothing else takes it")
    if chosen.out is not None:
        check_file(chosen.out, upkeep.TABLES)
    if chosen.what == "check":
        health = upkeep.checked(chosen.file)
        print(health)
        return 0 if health.is_whole else 1
    if chosen.what == "repair":
        whole, lost = upkeep.repair(chosen.file)
        print(
            f"{whole} results are whole, {lost} were damaged; the same sweep computes those again"
        )
        return 1 if lost else 0
    if chosen.what == "checkpoint":
        size = upkeep.pack(chosen.file)
        print(f"all is in {str(chosen.file)!r}, {size_text(size)}")
        return 0
    rows = len(upkeep.export(chosen.file, chosen.out))
    print(f"{chosen.out}: {rows} rows")
    return 0
