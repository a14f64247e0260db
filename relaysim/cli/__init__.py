"""The command line: what `relaysim` does when a shell calls it, a file for each command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import NoReturn

from relaysim.cli import batch, completion, figure, listing, rerun, run, store, theory, tune
from relaysim.cli.output import CommandError, give_up_output, one_line, spell_what_is_missing
from relaysim.support.names import closest
from relaysim.version import __version__

__all__ = ["main"]

#: What commands are called; each is a module with ``HELP``, ``add_arguments(parser)`` and
#: ``command(chosen)``, which returns the exit status if it is not 0.
COMMANDS: Mapping[str, ModuleType] = {
    "list": listing,
    "run": run,
    "tune": tune,
    "theory": theory,
    "sweep": batch,
    "store": store,
    "rerun": rerun,
    "figure": figure,
    "completion": completion,
}
DESCRIPTION = """Simulate decentralized optimization. Begin with: relaysim run --topology star
--learning-rate 0.5 --steps 100 --plot run.png. Names and calls of them, such as "DPSGD(momentum=0.9)" or
"torus(4, 8)", are those of relaysim list; quote them."""
STATUS = """Exit status: 0, or 1 if runs diverged, settings of a sweep failed, no learning rate was found or
a rerun differs, or 2 with one line that says what is wrong and how to mend it."""
# Of a process that a signal ended, to a shell: SIGINT, SIGPIPE.
INTERRUPTED, READER_GONE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 if what was asked for did not come out (a run diverged,
    settings of a sweep failed, no learning rate was found), or 2 with one line on standard error.

    >>> main(["figure", "heterogenity"])
    2
    """
    spell_what_is_missing()
    try:
        chosen = _parser().parse_args(arguments)
        status: int | None = chosen.command(chosen)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        give_up_output()
        return READER_GONE
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
        print(f"relaysim: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("relaysim: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return status or 0


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
            choices = next(action.choices for action in self._actions if action.choices)
            hint = closest(given, choices or ())
            message = f"unknown command {given!r}"
        elif message.startswith("unrecognized arguments: --"):
            given = message.split("--")[1].split()[0].partition("=")[0]
            options = dict(_all(self))
            of = [command for command, names in options.items() if given in names]
            hint = closest(given, {name for names in options.values() for name in names})
            hint = hint.replace("'", "'--", 1) if "did you mean" in hint else ""
            if of:
                hint = f"; it is an option of {' and '.join(of)}"
        raise CommandError(f"{message}{hint} (relaysim --help tells more)")


def _all(parser: argparse.ArgumentParser) -> Iterator[tuple[str, set[str]]]:
    """Every command with the names of its options, without dashes."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, each in action.choices.items():
                names = (name for own in each._actions for name in own.option_strings)
                yield command, {name.removeprefix("--") for name in names if name.startswith("--")}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="relaysim", description=DESCRIPTION, epilog=STATUS, formatter_class=_HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"relaysim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, module in COMMANDS.items():
        text = module.HELP
        made = commands.add_parser(
            name, help=text, description=text, formatter_class=_HelpFormatter
        )
        module.add_arguments(made)
        made.set_defaults(command=module.command, parser=_parser)
    return parser
