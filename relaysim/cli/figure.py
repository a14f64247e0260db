"""``relaysim figure``: draw one of the paper's figures, or all."""

from __future__ import annotations

import argparse
import pathlib
import textwrap

from relaysim.cli.output import CommandError
from relaysim.studies.naming import known_name
from relaysim.support.checks import whole_number

__all__ = ["HELP", "add_arguments", "command"]

HELP = "draw one of the paper's figures: png, pdf and csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("name", help="as given by relaysim list, or all")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder to write to"
    )
    parser.add_argument("--quick", action="store_true", help="a small version, in seconds")
    parser.add_argument("--seed", type=int, help="of the random problem")
    parser.add_argument("--jobs", type=int, help="processes; −1 is one for each core")


def command(chosen: argparse.Namespace) -> None:
    """Draw it, and say which files there are now."""
    from relaysim.figures import FIGURES
    from relaysim.figures.gallery import draw_all

    if chosen.name != "all":
        known_name(chosen.name, FIGURES, "figure")
    options = {} if chosen.seed is None else {"seed": whole_number(chosen.seed, "seed", 0)}
    if chosen.jobs is not None:
        options["n_jobs"] = chosen.jobs
    if any(path.exists() and not path.is_dir() for path in (chosen.out, *chosen.out.parents)):
        raise CommandError(
            f"--out must be a folder, and {str(chosen.out)!r} is a file, or within one"
        )
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.name == "all":
        print(draw_all(chosen.out, chosen.quick, options))
        return
    result = FIGURES[chosen.name](quick=chosen.quick, **options)
    for path in result.save(chosen.out, chosen.name):
        print(path)
    print(textwrap.fill(result.caption, 100))
