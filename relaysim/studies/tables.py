"""The table of a sweep: what each setting was, in columns to select and to group by, beside what came out."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from relaysim.studies.experiment import DEFAULTS
from relaysim.studies.naming import ALGORITHMS, GRAPHS, arguments_in, name_in
from relaysim.studies.problem_kinds import plain

__all__ = ["rows_of", "table_of"]

#: Settings that are in the table even where they say nothing.
_ALWAYS = ("mu", "mixing")
_SHORTEST = 6
# What tuning tried is kept in stores, and not in tables.
_ASIDE = "tried/"


def table_of(found: Iterable[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """One table of settings and what came out of each.

    ``algorithm`` is the method's name and ``topology`` the kind of graph; their options have columns of
    their own. Those of a method are left out where they are the default throughout.
    """
    pairs = [(plain(setting), result) for setting, result in found]
    if not pairs:
        return pd.DataFrame()
    settings = _columns([setting for setting, _ in pairs])
    parts: list[tuple[int, dict[str, Any]]] = []
    said: dict[str, None] = {}
    found_out: dict[str, None] = {}
    for setting, (_, result) in zip(settings, pairs, strict=True):
        arrays = {k: v for k, v in result.items() if not k.startswith(_ASIDE)}
        rows = rows_of(result)
        lists = {k: [v] * rows for k, v in setting.items() if k not in arrays}
        said |= dict.fromkeys(lists)
        found_out |= dict.fromkeys(arrays)
        parts.append((rows, {**lists, **arrays}))
    names = said | found_out
    return pd.DataFrame(
        {name: _joined([part.get(name, [None] * rows) for rows, part in parts]) for name in names}
    )


def rows_of(result: Mapping[str, np.ndarray]) -> int:
    """How many rows of a table a result makes."""
    return len(next(array for name, array in result.items() if not name.startswith(_ASIDE)))


def _joined(pieces: list[Any]) -> np.ndarray:
    """Arrays, and lists of one value each, as one column: of numbers if nothing else is there."""
    values = [piece[0] for piece in pieces if isinstance(piece, list)]
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    if not all(
        is_one or value is None for is_one, value in zip(numbers, values, strict=True)
    ) or not (any(numbers) or len(values) < len(pieces)):
        column = np.empty(sum(map(len, pieces)), dtype=object)
        column[:] = [each for piece in pieces for each in piece]
        return column
    gaps = [[np.nan] * len(p) if isinstance(p, list) and p[0] is None else p for p in pieces]
    largest = max((abs(value) for value in values if isinstance(value, int)), default=0)
    column = np.concatenate([np.asarray(piece) for piece in gaps])
    if largest >= 2**63 or (largest > 2**53 and column.dtype.kind == "f"):
        # As floats, different seeds would be one.
        column = np.array([each for piece in gaps for each in piece], dtype=object)
    return column


def _columns(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    graphs = _graph_labels([setting["topology"] for setting in settings])
    mixings = _mixing_labels([setting.get("mixing") for setting in settings])
    methods = [_options(setting["algorithm"]) for setting in settings]
    chosen = {
        name
        for setting, options in zip(settings, methods, strict=True)
        for name, value in options.items()
        if not _is_default(name_in(setting["algorithm"]), name, value)
    }
    problems = _told_apart(
        [_problem_label(setting) for setting in settings],
        [json.dumps(setting.get("problem")) for setting in settings],
    )
    found = []
    for setting, graph, mixing, options, problem in zip(
        settings, graphs, mixings, methods, problems, strict=True
    ):
        columns: dict[str, Any] = {}
        for key, value in setting.items():
            if value is None and key not in _ALWAYS:
                continue
            if key == "learning_rate" and isinstance(value, str):
                columns["schedule"] = value
            elif key == "algorithm":
                columns[key] = name_in(value)
                columns |= {
                    _column("algorithm", name): value
                    for name, value in options.items()
                    if name in chosen
                }
            elif key == "topology":
                columns[key] = graph
                if isinstance(value, str):
                    said = arguments_in(value, GRAPHS)
                    columns |= {
                        _column("topology", k): _cell(v) for k, v in said.items() if k != "n"
                    }
            elif key in ("mixing", "problem"):
                columns[key] = mixing if key == "mixing" else problem
            else:
                columns[key] = value
        found.append({key: _cell(value) for key, value in columns.items()})
    return found


def _options(method: str) -> dict[str, Any]:
    """Those that a text says, and the defaults of those that it leaves out, where they are plain."""
    said = arguments_in(method, ALGORITHMS)
    parameters = inspect.signature(ALGORITHMS[name_in(method)]).parameters.values()
    left_out = {each.name: each.default for each in parameters if each.name not in said}
    plain_kinds = bool | int | float | str | None
    return said | {name: each for name, each in left_out.items() if isinstance(each, plain_kinds)}


def _cell(value: Any) -> Any:
    """A value that fits in one cell."""
    return repr(value) if isinstance(value, list | tuple | dict) else value


def _options_of(known: Mapping[str, Callable]) -> set[str]:
    return {name for made in known.values() for name in inspect.signature(made).parameters}


# The same whatever else is in a table: a column means one thing.
_TAKEN = {*DEFAULTS, "step", "distance", "value", "replica"} | (
    _options_of(ALGORITHMS) & _options_of(GRAPHS)
)


def _column(owner: str, option: str) -> str:
    """The column of an option of a method or a graph, with its owner where another has that name."""
    return f"{owner}_{option}" if option in _TAKEN else option


def _is_default(method: str, name: str, value: Any) -> bool:
    parameter = inspect.signature(ALGORITHMS[method]).parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return False
    default = parameter.default
    if not isinstance(value, type(default)):
        # A part of the method, such as a compressor: its default is made anew for each.
        made = ALGORITHMS[method]()
        default = getattr(made, name)
        return repr(default) == value or default == value
    return bool(default == value)


def _problem_label(setting: Mapping[str, Any]) -> str:
    problem = setting.get("problem", DEFAULTS["problem"])
    return problem if isinstance(problem, str) else problem["class"].rpartition(".")[2]


def _mixing_labels(described: list[Any]) -> list[str | None]:
    """The name of each mixing; no two matrices or sequences of one's own share one."""
    digests = [_digest(each) if isinstance(each, Mapping) else "" for each in described]
    digits = _digits_that_tell(digests)
    return [
        f"{next(iter(each))} #{digest[:digits]}" if digest else each
        for each, digest in zip(described, digests, strict=True)
    ]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _graph_labels(described: list[Any]) -> list[str]:
    """The kind of each graph, or the name that a user gave it: no two graphs of one's own share one."""
    named = {name_in(each) for each in described if isinstance(each, str)}
    names = [name_in(each) if isinstance(each, str) else each["name"] for each in described]
    digests = [
        "" if isinstance(each, str) else _digest([each["n"], each["edges"]]) for each in described
    ]
    digits = _digits_that_tell(digests)
    of_name: dict[str, set[str]] = {}
    for name, digest in zip(names, digests, strict=True):
        of_name.setdefault(name, set()).add(digest)

    def label(name: str, digest: str) -> str:
        shared = len(of_name[name]) > 1 or name in named or name in GRAPHS
        if digest and (shared or name.startswith("Topology(")):
            return f"{name} #{digest[:digits]}"
        return name

    return [label(*each) for each in zip(names, digests, strict=True)]


def _digits_that_tell(digests: list[str]) -> int:
    """So many digits that different digests begin differently."""
    apart = {digest for digest in digests if digest}
    digits = _SHORTEST
    while len({digest[:digits] for digest in apart}) < len(apart):
        digits += 1
    return digits


def _told_apart(labels: list[str], things: list[str]) -> list[str]:
    """The labels, numbered from the second on where one stands for different things of a user's."""
    seen: dict[str, list[str]] = {}
    found = []
    for label, thing in zip(labels, things, strict=True):
        others = seen.setdefault(label, [])
        if thing not in others:
            others.append(thing)
        number = others.index(thing) + 1
        found.append(label if number == 1 else f"{label} #{number}")
    return found
