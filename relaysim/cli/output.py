"""What a command says: where, in which letters, and as which tables."""

from __future__ import annotations

import argparse
import codecs
import io
import json
import math
import os
import pathlib
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from relaysim.support.files import written_aside
from relaysim.support.progress import someone_watches
from relaysim.version import __version__

__all__ = [
    "CommandError",
    "add_tables",
    "begun",
    "check_file",
    "check_files",
    "give_up_output",
    "one_line",
    "said_aside",
    "say",
    "show",
    "spell_what_is_missing",
    "write_json",
    "write_table",
]

#: What stands for standard output in the place of a file.
STANDARD_OUTPUT = pathlib.Path("-")
TABLES = {"csv": (".csv",), "json": (".json",)}


class CommandError(Exception):
    """Something on the command line that makes no sense; shown as one line."""


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines).replace(":; ", ": ")


# -- letters ---------------------------------------------------------------------------------------

SPELLED = "relaysim.spelled"
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "×": "x", "·": "*",
    "√": "sqrt ", "‖": "||", "∇": "grad ", "∞": "inf", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")",
    "⋯": "...", "±": "+/-", "⁄": "/", "≠": "!=", "∈": "in", "\u0304": "bar", "†": "+", "’": "'",
}  # fmt: skip


def spell_what_is_missing() -> None:
    """Let output that lacks a letter, as ASCII and code pages do, spell it: γ is gamma, and σ² sigma^2."""
    codecs.register_error(SPELLED, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLED)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell, error.object[error.start : error.end])), error.end


def _spell(letter: str) -> str:
    """A letter in ASCII.

    >>> "".join(map(_spell, "σ² ≤ Ξ é €"))
    'sigma^2 <= Xi e ?'
    """
    if letter in _SIGNS:
        return _SIGNS[letter]
    kind, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    if kind in ("GREEK SMALL", "GREEK CAPITAL"):
        word = name.split()[0].lower().replace("lamda", "lambda")
        return word if kind == "GREEK SMALL" else word.capitalize()
    plain = unicodedata.normalize("NFKD", letter)
    plain = "".join(_SIGNS.get(part, part) for part in plain)
    plain = plain.encode("ascii", "ignore").decode()
    mark = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(letter).split(" ")[0], "")
    if plain:
        return mark + plain
    return "" if unicodedata.combining(letter) else "?"


# -- streams ---------------------------------------------------------------------------------------


def give_up_output() -> None:
    """Stop writing to a reader that has gone, as ``head`` does, without a word about it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def said_aside(chosen: argparse.Namespace) -> bool:
    """Whether standard output is taken by a table, so that all else goes to standard error."""
    return STANDARD_OUTPUT in (chosen.csv, chosen.json)


def say(chosen: argparse.Namespace, text: str) -> None:
    """Say something beside the tables."""
    print(text, file=sys.stderr if said_aside(chosen) else sys.stdout)


# -- tables ----------------------------------------------------------------------------------------


def add_tables(parser: argparse.ArgumentParser, what: str) -> None:
    """Options that write a table."""
    for kind in TABLES:
        parser.add_argument(
            f"--{kind}",
            type=pathlib.Path,
            metavar="FILE",
            help=f"write {what} to this .{kind} file; - is standard output",
        )


def check_files(chosen: argparse.Namespace, **kinds: Sequence[str]) -> None:
    """Raise for a file that cannot be written, before any work starts.

    Args:
        chosen: what was said, with a path or None for each option.
        kinds: by option, the endings that its file may have.
    """
    if chosen.csv == chosen.json == STANDARD_OUTPUT:
        raise CommandError("only one of --csv and --json can be -, which is standard output")
    for option, endings in (TABLES | kinds).items():
        path = getattr(chosen, option)
        if path is None or (option in TABLES and path == STANDARD_OUTPUT):
            continue
        check_file(path, endings)


def check_file(path: pathlib.Path, endings: Sequence[str]) -> None:
    """Raise for a file that cannot be written, or ends otherwise."""
    if path.is_dir():
        raise CommandError(f"{str(path)!r} is a folder; give the name of a file")
    if path.suffix not in endings:
        raise CommandError(f"{str(path)!r} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder {str(path.parent)!r} to write to")


def begun(text: str) -> None:
    """Say what takes long where nobody watches, and so no progress bar is there."""
    if not someone_watches():
        print(f"relaysim: {text}", file=sys.stderr, flush=True)


def show(chosen: argparse.Namespace, table: pd.DataFrame) -> None:
    """Print a table for people, unless one for machines takes standard output."""
    if not said_aside(chosen):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.6g}"))


def write_table(chosen: argparse.Namespace, table: pd.DataFrame) -> None:
    """Write a table where ``--csv`` says."""
    if chosen.csv is not None:
        _write(chosen, chosen.csv, table.to_csv(index=False, lineterminator="\n"))


def write_json(chosen: argparse.Namespace, said: Mapping[str, Any]) -> None:
    """Write plain data, arrays and tables where ``--json`` says; what is no number is null."""
    if chosen.json is not None:
        whole = {"relaysim": __version__, **said}
        text = json.dumps(_plain(whole), indent=1, allow_nan=False, ensure_ascii=False)
        _write(chosen, chosen.json, text + "\n")


def _write(chosen: argparse.Namespace, path: pathlib.Path, text: str) -> None:
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
    say(chosen, str(path))


def _plain(value: Any) -> Any:
    """What JSON holds: a table is a list of its rows.

    >>> _plain({"table": pd.DataFrame({"rate": [0.5, float("nan")]}), "steps": np.int64(3)})
    {'table': [{'rate': 0.5}, {'rate': None}], 'steps': 3}
    """
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.to_dict("records")]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
