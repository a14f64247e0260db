"""One experiment as plain data: what a sweep may say, checked, completed, and the objects it stands for."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relaysim import faults, oracles, problems
from relaysim.algorithms.fit import check_compatible, check_faults, matrices_for
from relaysim.studies.naming import ALGORITHMS, MIXINGS, TOPOLOGIES, named
from relaysim.studies.tuning import CRITERIA
from relaysim.support.names import closest
from relaysim.topologies import Topology, TreePair, double_binary_tree

__all__ = ["DEFAULTS", "build", "expand", "key_of", "read_sweep"]

#: What a setting may say, and what it is if it does not.
DEFAULTS: Mapping[str, Any] = {
    "algorithm": "RelaySGD",
    "topology": "chain",
    "n": 32,
    "d": 10,
    "zeta2": 0.1,
    "mu": 0.25,
    "smoothness": 1.0,
    "r0": 1.0,
    "problem_seed": 0,
    "mixing": None,
    "sigma2": 0.0,
    "drop": 0.0,
    "seed": 0,
    "learning_rate": None,
    "steps": 500,
    "record": 1,
    "target": 1e-6,
    "criterion": "fastest",
    "max_steps": 100_000,
}
_TUNED_ONLY = ("target", "criterion", "max_steps")
_FIXED_ONLY = ("learning_rate", "steps", "record")
_PROBLEM = ("n", "d", "zeta2", "mu", "smoothness", "r0")
_INTEGERS = ("n", "d", "problem_seed", "seed", "steps", "record", "max_steps")
_NUMBERS = ("zeta2", "mu", "smoothness", "r0", "sigma2", "drop", "learning_rate", "target")
MOST_REPORTED = 20


def read_sweep(path: str | os.PathLike) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ValueError: what is not TOML, with the line.
    """
    try:
        return tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def expand(settings: Mapping[str, Any], source: pathlib.Path | None = None) -> list[dict]:
    """Every single setting that a sweep stands for, complete and as plain data.

    Raises:
        ValueError: all that is wrong with it, in one message.
    """
    common = {key: value for key, value in settings.items() if key != "cases"}
    cases = settings.get("cases", [{}])
    tables = isinstance(cases, Sequence) and all(isinstance(case, Mapping) for case in cases)
    if not tables or not cases:
        raise ValueError("cases must be a list of tables, each with settings of its own")
    where = _Lines(source)
    wrong: list[str] = []
    planned: dict[str, dict] = {}
    for case in cases:
        joined = dict(common) | dict(case)
        unknown = [key for key in joined if key not in DEFAULTS]
        wrong += [f"{where(key)}unknown setting {key!r}{closest(key, DEFAULTS)}" for key in unknown]
        if unknown:
            continue
        values = {key: _listed(value) for key, value in joined.items()}
        wrong += [f"{where(key)}{key} is an empty list" for key, each in values.items() if not each]
        for combination in itertools.product(*values.values()):
            stated = dict(zip(values, combination, strict=True))
            try:
                setting = _complete(stated)
                planned.setdefault(key_of(setting), setting)
            except (ValueError, TypeError) as error:
                culprit = _culprit(error, stated)
                value = None if culprit is None else stated.get(culprit)
                wrong.append(f"{where(culprit, value)}{error}")
    wrong = list(dict.fromkeys(wrong))
    if wrong:
        more = len(wrong) - MOST_REPORTED
        listing = "\n".join(wrong[:MOST_REPORTED] + ([f"… and {more} more"] if more > 0 else []))
        raise ValueError(listing if len(wrong) == 1 else f"{len(wrong)} things to mend:\n{listing}")
    return list(planned.values())


class _SettingError(ValueError):
    """A value that a setting cannot have."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def _complete(stated: dict[str, Any]) -> dict[str, Any]:
    """One setting with all that it leaves out, checked by building what it names."""
    setting = _in_numbers(dict(DEFAULTS) | stated)
    topology, setting["topology"] = _topology(setting, stated)
    setting["n"] = topology.n
    algorithm = setting["algorithm"]
    if isinstance(algorithm, str):
        algorithm = named(algorithm, ALGORITHMS, "algorithm")
    setting["algorithm"] = repr(algorithm)
    if type(algorithm) not in ALGORITHMS.values():
        raise _SettingError("algorithm", f"a sweep cannot rebuild the algorithm {algorithm!r}")
    if setting["mixing"] is not None and not isinstance(setting["mixing"], str):
        raise _SettingError(
            "mixing", "mixing must be a name or a call, such as 'uniform(0.3)', in a sweep"
        )
    if setting["criterion"] not in CRITERIA:
        raise _SettingError(
            "criterion",
            f"criterion must be one of {', '.join(CRITERIA)}, not {setting['criterion']!r}",
        )
    _leave_out_unused(setting, stated)
    _check_ranges(setting)
    built = build(setting, problem=_Sizes(topology.n, setting["d"]))
    try:
        check_compatible(built["problem"], built["topology"], built["algorithm"])
        matrices = matrices_for(built["algorithm"], built["topology"], built["mixing"])
        check_faults(built["faults"], built["topology"], built["algorithm"], matrices)
    except ValueError as error:
        raise _SettingError("topology", f"{topology!r}: {error}") from None
    _check_problem(setting)
    return setting


def _in_numbers(setting: dict[str, Any]) -> dict[str, Any]:
    """The setting with its numbers as int and float, if that loses nothing."""
    for names, kind, what in (
        (_INTEGERS, int, "a whole number"),
        (_NUMBERS, float, "a finite number"),
    ):
        for name in names:
            value = setting[name]
            if (value is None and DEFAULTS[name] is None) or (name == "mu" and value is None):
                continue
            valid = isinstance(value, int | np.integer | float | np.floating)
            valid = valid and not isinstance(value, bool) and math.isfinite(value)
            if not valid or kind(value) != value:
                raise _SettingError(name, f"{name} must be {what}, not {value!r}")
            if abs(value) >= 2**63 and kind is int:
                raise _SettingError(name, f"{name} must be below 2^63, not {value!r}")
            setting[name] = kind(value) + kind(0)  # −0.0 is 0.0
    return setting


def _topology(setting: dict[str, Any], stated: dict[str, Any]):
    """The topology of a setting, and what plain data call it."""
    topology = setting["topology"]
    if isinstance(topology, str):
        fixed = "(" in topology or topology == "social_network"
        topology = named(topology, TOPOLOGIES, "topology", alone=() if fixed else (setting["n"],))
        if fixed and "n" in stated and topology.n != setting["n"]:
            raise _SettingError(
                "n", f"topology {topology!r} has its own size and n = {setting['n']}; leave n out"
            )
        if isinstance(topology, Topology):
            return topology, repr(topology)
    elif isinstance(topology, Topology):
        edges = topology.edges.tolist()
        return topology, {"name": topology.name, "n": topology.n, "edges": edges}
    elif not (isinstance(topology, TreePair) and topology == double_binary_tree(topology.n)):
        raise _SettingError("topology", f"topology must be a name or a Topology, not {topology!r}")
    return topology, f"double_binary_tree({topology.n})"


def _leave_out_unused(setting: dict[str, Any], stated: dict[str, Any]) -> None:
    """Set to None what is only for tuned rates, or only for fixed ones; what is stated must be of use."""
    if setting["learning_rate"] is None:
        foreign: list[str] = [key for key in ("steps", "record") if key in stated]
        foreign += ["drop"] if setting["drop"] else []
        unused = _FIXED_ONLY
    else:
        foreign = [key for key in _TUNED_ONLY if key in stated]
        unused = _TUNED_ONLY
        if not (np.isfinite(setting["learning_rate"]) and setting["learning_rate"] >= 0):
            raise _SettingError(
                "learning_rate",
                f"learning_rate must be finite and at least 0, not {setting['learning_rate']!r}",
            )
    if foreign:
        tuned = setting["learning_rate"] is None
        raise _SettingError(
            foreign[0],
            f"{foreign[0]} is for runs {'at a given' if tuned else 'whose rate is tuned, without'} "
            f"learning_rate",
        )
    for key in unused:
        setting[key] = None


def _check_ranges(setting: dict[str, Any]) -> None:
    """Raise unless the numbers of a run are within their limits."""
    for key, least in (
        ("steps", 0),
        ("record", 1),
        ("max_steps", 1),
        ("seed", 0),
        ("d", 1),
        ("problem_seed", 0),
    ):
        if setting[key] is not None and setting[key] < least:
            raise _SettingError(key, f"{key} must be at least {least}, not {setting[key]}")
    if setting["target"] is not None and not setting["target"] > 0:
        raise _SettingError("target", f"target must be positive, not {setting['target']!r}")
    if not 0 <= setting["drop"] <= 1:
        raise _SettingError("drop", f"drop must be a probability, not {setting['drop']!r}")
    if setting["sigma2"] < 0:
        raise _SettingError("sigma2", f"sigma2 must be at least 0, not {setting['sigma2']!r}")
    if not setting["smoothness"] > 0:
        raise _SettingError(
            "smoothness", f"smoothness must be positive, not {setting['smoothness']!r}"
        )


def _check_problem(setting: dict[str, Any]) -> None:
    """Raise unless there is a random problem with these numbers."""
    for key in ("zeta2", "r0"):
        if setting[key] < 0:
            raise _SettingError(key, f"{key} must be at least 0, not {setting[key]!r}")
    if setting["mu"] is not None and not 0 < setting["mu"] <= setting["smoothness"]:
        raise _SettingError("mu", f"mu must lie in (0, smoothness], not {setting['mu']!r}")
    if setting["n"] == 1 and setting["zeta2"] > 0:
        raise _SettingError("zeta2", "a single worker has zeta2 = 0")


class _Sizes:
    """Stands in for a problem while a setting is checked."""

    def __init__(self, n: int, d: int):
        self.n, self.d = n, d
        self.gradient = self.value = None


def build(setting: dict[str, Any], problem=None) -> dict[str, Any]:
    """The objects that a complete setting describes, as arguments of `relaysim.simulate`."""
    described = setting["topology"]
    if isinstance(described, str):
        topology = named(described, TOPOLOGIES, "topology")
    else:
        topology = Topology(described["n"], described["edges"], described["name"])
    mixing = setting["mixing"]
    if isinstance(mixing, str):
        mixing = named(mixing, MIXINGS, "mixing", topology)
    if problem is None:
        problem = problems.random_quadratics(
            **{key: setting[key] for key in _PROBLEM}, seed=setting["problem_seed"]
        )
    return {
        "problem": problem,
        "topology": topology,
        "algorithm": named(setting["algorithm"], ALGORITHMS, "algorithm"),
        "mixing": mixing,
        "oracle": oracles.Gaussian(setting["sigma2"]) if setting["sigma2"] else None,
        "faults": faults.MessageDrop(setting["drop"]) if setting["drop"] else None,
    }


def _listed(value: Any) -> list:
    if isinstance(value, np.ndarray):
        return list(np.atleast_1d(value).tolist())
    return list(value) if isinstance(value, list | tuple | range) else [value]


def key_of(setting: dict[str, Any]) -> str:
    """A hash of the whole setting."""
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()


def _culprit(error: Exception, stated: dict[str, Any]) -> str | None:
    if isinstance(error, _SettingError):
        return error.key
    text = str(error)
    values = ("topology", "algorithm", "mixing", "sigma2", "drop")
    return next((key for key in values if key in stated and str(stated[key]) in text), None)


class _Lines:
    """Where a setting stands in its file, as the start of an error message."""

    def __init__(self, source: pathlib.Path | None):
        self._source = source
        self._lines = source.read_text(encoding="utf-8").splitlines() if source else []

    def __call__(self, key: str | None, value: Any = None) -> str:
        if self._source is None:
            return ""
        pattern = rf"""\s*["']?{re.escape(key or "")}["']?\s*="""
        numbers = [
            number
            for number, line in enumerate(self._lines, start=1)
            if key is not None and re.match(pattern, line)
        ]
        # Where several cases have the key, the line with the value is meant.
        naming = [number for number in numbers if str(value) in self._lines[number - 1]]
        for number in naming or numbers:
            return f"{self._source}, line {number}: "
        return f"{self._source}: "
