"""``relaysim sweep``: every combination of the settings in a file."""

from __future__ import annotations

import argparse
import pathlib
import sys
import warnings

import numpy as np
import pandas as pd

from relaysim.cli.output import CommandError, check_file
from relaysim.cli.settings import add_max_memory
from relaysim.studies.sweeps import sweep
from relaysim.support.files import written_aside

__all__ = ["HELP", "add_arguments", "command"]

HELP = "run every combination of the settings in a TOML file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=pathlib.Path, help="settings; lists multiply out")
    parser.add_argument("--store", type=pathlib.Path, help="keep results here, and go on from here")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    add_max_memory(parser)
    parser.add_argument("--out", type=pathlib.Path, help="write the table to this .csv file")


def command(chosen: argparse.Namespace) -> int:
    """Run it; 1 if some settings failed, or runs diverged."""
    if not chosen.file.is_file():
        raise CommandError(f"there is no file {str(chosen.file)!r}")
    if chosen.out is not None:
        check_file(chosen.out, (".csv",))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            table = sweep(
                chosen.file,
                store=chosen.store,
                n_jobs=chosen.jobs,
                retry_failed=chosen.retry_failed,
                max_memory=chosen.max_memory,
            )
    except KeyboardInterrupt:
        if chosen.store is None:
            raise
        raise CommandError(
            f"interrupted; what is finished is in {str(chosen.store)!r}, and the same command goes on"
        ) from None
    if chosen.out is not None:
        with written_aside(chosen.out) as aside:
            table.to_csv(aside, index=False)
        print(chosen.out)
    else:
        print(table.to_string(index=False, max_rows=40, float_format=lambda value: f"{value:.6g}"))
    for each in said:
        print(f"relaysim: {each.message}", file=sys.stderr)
    failed = table.attrs.get("failed", [])
    if failed:
        listed = pd.DataFrame(failed)
        # What tells them apart, and what happened.
        apart = [name for name in listed if listed[name].astype(str).nunique() > 1]
        columns = dict.fromkeys(["algorithm", "topology", "n", *apart, "error"])
        print(listed[[*columns]].to_string(index=False), file=sys.stderr)
    diverged = _said_diverged(table)
    return 1 if failed or diverged else 0


def _said_diverged(table: pd.DataFrame) -> bool:
    """Whether runs at given rates diverged; a line says which."""
    if "consensus_distance" not in table:
        return False
    steps = table.step.to_numpy()
    ends = table[np.append(~(steps[1:] > steps[:-1]), True) & np.isfinite(steps)]
    gone = ends[ends.consensus_distance.isna()]
    if gone.empty:
        return False
    rates = ", ".join(f"{rate:g}" for rate in sorted(gone.learning_rate.unique()))
    print(
        f"relaysim: {len(gone)} of {len(ends)} runs diverged, at learning rate {rates}; what is not there in "
        f"the table came after",
        file=sys.stderr,
    )
    return True
