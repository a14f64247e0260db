"""Names of histories in a picture: their methods, and what they differ in."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd

__all__ = ["Facts", "Recorded", "described", "facts_of", "names_from", "names_of"]

# Parts of a run's config that a name may tell of, beside the method's options and the topology.
TOLD = ("mixing", "oracle", "faults", "x0")


class Recorded(Protocol):
    """What is drawn of a run, such as a `relaysim.History`."""

    @property
    def label(self) -> str: ...

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def algorithm(self) -> object: ...

    @property
    def topology(self) -> Any: ...

    @property
    def axis_labels(self) -> dict[str, str]: ...


class Facts(NamedTuple):
    """What a name may tell of a history, by what it is about; kept where the history itself is not."""

    method: str
    options: dict[str, str]
    graph: dict[str, str]
    rest: dict[str, str]
    rate: dict[str, str]


def facts_of(history: Recorded) -> Facts:
    """All that a name may tell of a history."""
    return Facts(history.label, *(tell(history) for tell in (_options, _graph, _rest, _rate)))


def names_of(histories: Sequence[Recorded]) -> list[str]:
    """A name for each history: its method, and in what it differs from the others; see `names_from`."""
    return names_from([facts_of(history) for history in histories])


def names_from(facts: Sequence[Facts]) -> list[str]:
    """A name for each of these: its method, and in what it differs from the others.

    Options are told where histories of the same method differ in them, the topology where any differ in it,
    and the rest, up to the learning rate, where names would be the same without.
    """
    parts = [[each.method] for each in facts]
    for label in {each.method for each in facts}:
        same = [k for k, each in enumerate(facts) if each.method == label]
        _tell(parts, same, [facts[k].options for k in same])
    everyone = range(len(facts))
    _tell(parts, everyone, [each.graph for each in facts])
    for further in ([each.rest for each in facts], [each.rate for each in facts]):
        names = [", ".join(each) for each in parts]
        for name in [name for name, count in Counter(names).items() if count > 1]:
            same = [k for k in everyone if names[k] == name]
            _tell(parts, same, [further[k] for k in same])
    names = [", ".join(each) for each in parts]
    counts, met = Counter(names), Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:
            met[name] += 1
            names[k] = f"{name} ({met[name]})"
    return names


def _tell(parts: list[list[str]], which: Sequence[int], facts: list[dict[str, str]]) -> None:
    """Add to these names the facts in which they differ."""
    for key in dict.fromkeys(key for each in facts for key in each):
        if len({each.get(key) for each in facts}) > 1:
            for k, each in zip(which, facts, strict=True):
                if key in each:
                    parts[k].append(each[key])


def _options(history: Recorded) -> dict[str, str]:
    algorithm = history.algorithm
    if dataclasses.is_dataclass(algorithm) and not isinstance(algorithm, type):
        names = [field.name for field in dataclasses.fields(algorithm)]
        return {name: f"{name} = {_shown(getattr(algorithm, name))}" for name in names}
    given = history.config.get("algorithm") or {}
    return {name: f"{name} = {_shown(value)}" for name, value in given.items() if name != "type"}


def _shown(value: Any) -> str:
    """An option; of a number no more digits than tell it from what rounding leaves of it.

    >>> _shown(0.1 + 0.2), _shown(1 / 3), _shown(True), _shown(0.1234567)
    ('0.3', '0.3333333333333333', 'True', '0.1234567')
    """
    if isinstance(value, float) and math.isclose(
        value, short := float(f"{value:.12g}"), rel_tol=1e-15
    ):
        value = short
    return str(value)


def _graph(history: Recorded) -> dict[str, str]:
    """The kind of topology and n, or its whole name where it has more to it."""
    topology, name = history.topology, repr(history.topology)
    kind, _, arguments = name.partition("(")
    if arguments == f"{topology.n})":
        return {"kind": kind.replace("_", " "), "n": f"n = {topology.n}"}
    return {"kind": name, "n": f"n = {topology.n}"}


def _rest(history: Recorded) -> dict[str, str]:
    found = {}
    for key in TOLD:
        value = history.config.get(key)
        if isinstance(value, Mapping) and "type" in value:
            inside = ", ".join(f"{k}={v}" for k, v in value.items() if k != "type")
            found[key] = f"{value['type']}({inside})"
        else:
            found[key] = f"no {key}" if value is None else f"own {key}"
    problem = history.config.get("problem")
    if isinstance(problem, Mapping):
        for key, value in problem.items():
            if key not in ("type", "n") and isinstance(value, int | float | str):
                found[f"problem {key}"] = f"{key} = {value}"
    return found


def _rate(history: Recorded) -> dict[str, str]:
    rates = history.frame["learning_rate"].unique()
    return {"rate": f"γ = {rates[0]:.3g}"} if len(rates) == 1 else {}


def described(history: Recorded) -> str:
    """The method's label, with the options that are not its defaults and that it does not tell."""
    algorithm = history.algorithm
    if not dataclasses.is_dataclass(algorithm) or isinstance(algorithm, type):
        return history.label

    def told(field: dataclasses.Field) -> bool:
        if field.default is dataclasses.MISSING:
            return False
        plainer: Any = dataclasses.replace(algorithm, **{field.name: field.default})
        return plainer.label != history.label

    changed = [
        f"{field.name} = {_shown(getattr(algorithm, field.name))}"
        for field in dataclasses.fields(algorithm)
        if getattr(algorithm, field.name) != field.default and not told(field)
    ]
    return f"{history.label} ({', '.join(changed)})" if changed else history.label
