"""The command line: figures, single runs, and what there is to run."""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pandas as pd

from relaysim.engine import simulate
from relaysim.studies.described import rate_of
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import (
    ALGORITHMS,
    COMPRESSORS,
    DATASETS,
    FAULTS,
    GRAPHS,
    MIXINGS,
    ORACLES,
    PARTITIONS,
    SCHEDULES,
    known_name,
    signature_of,
)
from relaysim.studies.options import FIXED, TUNED, Option
from relaysim.studies.problem_kinds import PROBLEM_KINDS
from relaysim.studies.settings import arguments_of, build, complete
from relaysim.studies.sweeps import sweep
from relaysim.studies.tuning import searched
from relaysim.support.checks import whole_number
from relaysim.support.files import written_aside
from relaysim.support.names import closest
from relaysim.version import __version__

__all__ = ["main"]

TUNING = ("schedule", "target", "criterion", "max_steps")
FIGURE_HELP = "draw one of the paper's figures: png, pdf and csv"


class CommandError(Exception):
    """Something on the command line that makes no sense; shown as one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 if settings of a sweep failed, or 2 with one line on
    standard error.

    >>> main(["figure", "heterogenity"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        # Greek letters, where the output has none.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        chosen = _parser().parse_args(arguments)
        status: int | None = chosen.command(chosen)
    except (
        CommandError,
        ValueError,
        TypeError,
        OSError,
        MemoryError,
        ImportError,
        OverflowError,
        RuntimeError,
    ) as error:
        print(f"relaysim: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("relaysim: interrupted; nothing was written", file=sys.stderr)
        return 130
    return status or 0


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines).replace(":; ", ": ")


# -- commands --------------------------------------------------------------------------------------


def _figure(chosen: argparse.Namespace) -> None:
    from relaysim.figures import FIGURES
    from relaysim.figures.gallery import draw_all

    if chosen.name != "all":
        known_name(chosen.name, FIGURES, "figure")
    options = {} if chosen.seed is None else {"seed": whole_number(chosen.seed, "seed", 0)}
    if chosen.jobs is not None:
        options["n_jobs"] = chosen.jobs
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.name == "all":
        print(draw_all(chosen.out, chosen.quick, options))
        return
    result = FIGURES[chosen.name](quick=chosen.quick, **options)
    for path in result.save(chosen.out, chosen.name):
        print(path)
    print(textwrap.fill(result.caption, 100))


def _list(chosen: argparse.Namespace) -> None:
    from relaysim.figures import FIGURES

    for title, entries in (
        ("Algorithms", ALGORITHMS),
        ("Topologies", GRAPHS),
        ("Mixing", MIXINGS),
        ("Oracles", ORACLES),
        ("Faults", FAULTS),
        ("Compressors", COMPRESSORS),
        ("Schedules", SCHEDULES),
        ("Problems", PROBLEM_KINDS),
        ("Data", DATASETS),
        ("Partitions", PARTITIONS),
        ("Figures", FIGURES),
    ):
        print(title)
        shown = {name: name + signature_of(entry) for name, entry in entries.items()}
        if entries is FIGURES:
            shown = {name: name for name in entries}
        width = max(map(len, shown.values()))
        for name, entry in entries.items():
            print(f"  {shown[name]:<{width}}  {(entry.__doc__ or '').strip().splitlines()[0]}")
        print()


def _run(chosen: argparse.Namespace) -> None:
    stated = {name: getattr(chosen, name) for name in OPTIONS if getattr(chosen, name) is not None}
    rates = stated.pop("learning_rate", None)
    at_once = rates is not None and len(rates) > 1
    if at_once and any(isinstance(rate, str) for rate in rates):
        raise CommandError("give one schedule, or one or several numbers, as --learning-rate")
    tuning = {name: stated.pop(name) for name in TUNING if name in stated}
    if rates is not None and tuning:
        raise CommandError(
            f"--{_dashed(next(iter(tuning)))} is for tuning; leave out --learning-rate"
        )
    # Checked before a rate is tuned, which may take long.
    setting = complete(stated | {"learning_rate": rates[0] if rates else 0.0})
    for rate in rates or ():
        complete(stated | {"learning_rate": rate})
    if chosen.replicas is not None:
        whole_number(chosen.replicas, "replicas", 1)
    for path, kinds in ((chosen.save, (".npz",)), (chosen.plot, (".png", ".pdf", ".svg"))):
        if path is not None and path.suffix not in kinds:
            raise CommandError(f"{str(path)!r} must end in {' or '.join(kinds)}")
        if path is not None and not path.parent.is_dir():
            raise CommandError(f"there is no folder {str(path.parent)!r} to write to")
    parts = build(setting)
    if rates is None:
        rates = [_tuned(parts, complete(_for_tuning(stated) | tuning))]
    history = simulate(
        **parts,
        **arguments_of(setting, FIXED),
        learning_rate=list(rates) if at_once else rate_of(rates[0]),
        steps=setting["steps"],
        seed=setting["seed"],
        replicas=chosen.replicas,
        record=setting["record"],
    )
    last = history.frame.groupby("replica").tail(1)
    print(last.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
    if chosen.save is not None:
        print(history.save(chosen.save))
    if chosen.plot is not None:
        figure: Any = history.plot().figure  # of new Axes: a Figure
        with written_aside(chosen.plot) as aside:
            figure.savefig(aside)
        print(chosen.plot)


def _for_tuning(stated: dict[str, Any]) -> dict[str, Any]:
    """What counts while a rate is tuned: no noise, no faults, and no number of steps."""
    noisy = {"oracle", "sigma2"}
    return {
        name: value
        for name, value in stated.items()
        if OPTIONS[name].only != FIXED and name not in noisy
    }


def _tuned(parts: dict[str, Any], setting: dict[str, Any]) -> Any:
    """The learning rate that is best without noise, or the schedule with the best start."""
    quiet = {name: parts[name] for name in ("problem", "topology", "algorithm", "mixing")}
    tuned = searched(
        **quiet,
        **arguments_of(setting, TUNED),
        **{name: setting[name] for name in TUNING} | {"schedule": rate_of(setting["schedule"])},
    )
    target = setting["target"]
    if tuned.steps != tuned.steps:
        raise CommandError(
            f"no learning rate brings {setting['algorithm']} below {target:g}; "
            f"give one with --learning-rate, or a larger --target"
        )
    print(
        f"tuned learning rate {tuned.learning_rate:.6g}: without gradient noise it stays below "
        f"{target:g} from step {tuned.steps:.0f} on"
    )
    return tuned.schedule or tuned.learning_rate


def _sweep(chosen: argparse.Namespace) -> int:
    if not chosen.file.is_file():
        raise CommandError(f"there is no file {str(chosen.file)!r}")
    if chosen.out is not None and not chosen.out.parent.is_dir():
        raise CommandError(f"there is no folder {str(chosen.out.parent)!r} to write to")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            table = sweep(
                chosen.file,
                store=chosen.store,
                n_jobs=chosen.jobs,
                retry_failed=chosen.retry_failed,
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
    return 1 if failed else 0


# -- arguments -------------------------------------------------------------------------------------


class _HelpFormatter(argparse.HelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, argparse.SUPPRESS) and action.option_strings
        return f"{action.help} (default: %(default)s)" if shown else action.help


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = ""
        if "invalid choice: '" in message:
            given = message.split("invalid choice: '")[1].split("'")[0]
            hint = closest(given, COMMANDS)
            message = f"unknown command {given!r}"
        raise CommandError(f"{message}{hint} (relaysim --help tells more)")


COMMANDS: dict[str, tuple[Callable, str]] = {
    "figure": (_figure, FIGURE_HELP),
    "run": (_run, "simulate one setting"),
    "sweep": (_sweep, "run every combination of the settings in a TOML file"),
    "list": (_list, "name the algorithms, topologies, what else has a name, and figures"),
}


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _explained(each: Option) -> str:
    """An option's line of help, with its default; argparse reads % as a format."""
    default = "" if each.default is None else f" (default: {each.default})"
    return f"{each.help}: {each.limits}{default}".replace("%", "%%")


def number_or_text(text: str) -> float | str:
    """A number, or the text of what has a name: a schedule, or "none"."""
    try:
        return float(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="relaysim", description="Simulate decentralized optimization.")
    parser.add_argument("--version", action="version", version=f"relaysim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    made = {}
    for name, (command, text) in COMMANDS.items():
        made[name] = commands.add_parser(
            name, help=text, description=text, formatter_class=_HelpFormatter
        )
        made[name].set_defaults(command=command)

    figure = made["figure"]
    figure.add_argument("name", help="as given by relaysim list, or all")
    figure.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder to write to"
    )
    figure.add_argument("--quick", action="store_true", help="a small version, in seconds")
    figure.add_argument("--seed", type=int, help="of the random problem")
    figure.add_argument("--jobs", type=int, help="processes; −1 is one for each core")

    batch = made["sweep"]
    batch.add_argument("file", type=pathlib.Path, help="settings; lists multiply out")
    batch.add_argument("--store", type=pathlib.Path, help="keep results here, and go on from here")
    batch.add_argument("--jobs", type=int, default=1, help="processes")
    batch.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    batch.add_argument("--out", type=pathlib.Path, help="write the table to this .csv file")

    run = made["run"]
    for name, each in OPTIONS.items():
        run.add_argument(
            f"--{_dashed(name)}",
            type=number_or_text
            if (each.parts and each.kind) or each.optional
            else each.kind or str,
            nargs="+" if name == "learning_rate" else None,
            metavar=name.upper(),
            help=_explained(each),
        )
    run.add_argument("--replicas", type=int, help="that many seeds, from --seed on")
    run.add_argument("--save", type=pathlib.Path, help="write the history to this .npz file")
    run.add_argument("--plot", type=pathlib.Path, help="draw it into this .png, .pdf or .svg file")
    return parser
