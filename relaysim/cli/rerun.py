"""``relaysim rerun``: a saved history or the results of a sweep, computed again and compared."""

from __future__ import annotations

import argparse
import pathlib

from relaysim.studies.reruns import rerun

__all__ = ["HELP", "add_arguments", "command"]

HELP = "compute a saved history, or the results in a store, again, and compare every bit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=pathlib.Path, help="a history (.npz) or the store of a sweep")
    parser.add_argument(
        "--row", type=int, metavar="PLACE", help="of a store, one result, counted from 0"
    )


def command(chosen: argparse.Namespace) -> int:
    """Compute again, and say what differs; 1 if anything does."""
    found = rerun(chosen.file, row=chosen.row)
    print(found.told())
    return 0 if found else 1
