"""``relaysim completion``: a script with which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
import importlib
import pathlib
from collections.abc import Callable, Iterable, Mapping

from relaysim.cli.listing import kinds
from relaysim.cli.output import CommandError
from relaysim.cli.tune import TUNABLE
from relaysim.studies.experiment import OPTIONS

__all__ = ["HELP", "add_arguments", "command"]

HELP = "print a script that completes commands, options and names in a shell"
DESCRIPTION = """Print a script that completes commands, options and names, for bash, zsh, fish and other
shells. For bash: relaysim completion bash > ~/.local/share/bash-completion/completions/relaysim. For zsh:
relaysim completion zsh > _relaysim, in a folder of $fpath. For fish: relaysim completion fish >
~/.config/fish/completions/relaysim.fish. It needs shtab: python -m pip install "relaysim[completion]"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = DESCRIPTION
    parser.add_argument("shell", help="bash, zsh, fish, or another that shtab knows")


def command(chosen: argparse.Namespace) -> None:
    """Print the script of a shell."""
    make: Callable[[], argparse.ArgumentParser] = chosen.parser
    try:
        shtab = importlib.import_module("shtab")
    except ImportError:
        raise CommandError(
            'completion needs shtab; install it with: python -m pip install "relaysim[completion]"'
        ) from None
    if chosen.shell not in shtab.SUPPORTED_SHELLS:
        known = ", ".join(shtab.SUPPORTED_SHELLS)
        raise CommandError(f"there is no completion for {chosen.shell!r}; take one of {known}")
    parser = _with_names(make(), _named_by_commands(shtab.SUPPORTED_SHELLS), shtab.FILE)
    print(shtab.complete(parser, chosen.shell))


def _named_by_commands(shells: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """What further arguments of commands may be."""
    everything = kinds()
    names = [name for kind in everything.values() for name in kind.entries]
    return {
        "list": {"name": [*everything, *names]},
        "figure": {"name": [*everything["figure"].entries, "all"]},
        "tune": {"measure": [*TUNABLE]},
        "completion": {"shell": [*shells]},
    }


def _with_names(
    parser: argparse.ArgumentParser,
    named: Mapping[str, Mapping[str, list[str]]],
    file: object,
    command: str = "",
) -> argparse.ArgumentParser:
    """A parser whose arguments know the names that they take, for completion: calls of them are as good."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                _with_names(each, named, file, name)
        elif action.dest in OPTIONS:
            option = OPTIONS[action.dest]
            action.choices = [*option.parts] or option.choices or None
        elif action.type is pathlib.Path:
            action.complete = file  # type: ignore[attr-defined]
        else:
            action.choices = named.get(command, {}).get(action.dest)
    return parser
