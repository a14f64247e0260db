"""Many settings, run in groups as replicas, on as many processes as wanted, kept in one file.

A sweep is a mapping from names to values; values that are lists multiply out. Settings that differ
only in learning rate or noise seed form a group and run as replicas of one simulation.
"""

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
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from relaysim import faults, oracles, problems
from relaysim.algorithms.fit import check_compatible, check_faults, matrices_for
from relaysim.engine import simulate
from relaysim.studies.naming import ALGORITHMS, MIXINGS, TOPOLOGIES, closest, named
from relaysim.studies.store import Store, stored_results
from relaysim.studies.tuning import CRITERIA, StartsBelowTargetError, tune
from relaysim.support.progress import progress_bar, someone_watches
from relaysim.topologies import Topology, TreePair, double_binary_tree
from relaysim.version import __version__

__all__ = ["load_sweep", "read_sweep", "sweep"]

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


def sweep(
    settings: Mapping[str, Any] | str | os.PathLike,
    *,
    store: str | os.PathLike | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every combination of settings, and return one table.

    Args:
        settings: a mapping, or the path of a TOML file with the same keys. A value that is a list
            multiplies out. The key ``cases`` may hold a list of mappings, each of which is joined
            with the rest and multiplied out by itself: pairs of a method and its topology, say.
            Keys:

            - ``algorithm``, ``topology``, ``mixing``: a name, a call such as
              ``"RelaySGD(momentum=0.9)"``, ``"torus(4, 8)"`` or ``"uniform(0.3)"``, or, in a
              mapping, the object itself (a `Topology`, an algorithm);
            - ``n``, ``d``, ``zeta2``, ``mu``, ``smoothness``, ``r0``, ``problem_seed``: of
              `relaysim.problems.random_quadratics`;
            - ``sigma2``: variance of Gaussian gradient noise; ``drop``: probability that a message
              is lost (at a fixed rate); ``seed``: of both;
            - ``learning_rate``, ``steps``, ``record``: a run at a fixed rate;
            - without ``learning_rate``: ``target``, ``criterion``, ``max_steps``: the rate is tuned,
              as `relaysim.tune` does.
        store: a file that keeps what is finished; what it holds already is not run again. It is
            made if it is not there.
        n_jobs: processes. With 1, ``joblib.parallel_config`` decides, so that a sweep runs on a
            cluster inside ``with joblib.parallel_config("dask"):``.
        progress: a progress bar with the time left, where output goes to a terminal or notebook.

    Returns:
        A DataFrame in the order of the settings: every setting's columns, then for a fixed rate
        those of `History.frame`, one row per recorded step, and for a tuned one ``learning_rate``
        and ``steps_to_target`` (NaN where no rate meets the target; 0, and no rate, where the start
        does).

    Raises:
        ValueError: unknown keys, values out of range, or combinations that cannot run, all of them
            named before anything runs.

    >>> table = sweep({"n": 8, "topology": ["chain", "star"], "zeta2": [0, 1], "target": 1e-6},
    ...               progress=False)
    >>> table[["topology", "zeta2", "steps_to_target"]].shape
    (4, 3)
    """
    source = None
    if not isinstance(settings, Mapping):
        source = pathlib.Path(settings)
        settings = read_sweep(source)
    planned = expand(settings, source)
    keys = [_key(setting) for setting in planned]
    by_key = dict(zip(keys, planned, strict=True))
    results: dict[str, dict[str, np.ndarray]] = {}
    kept = Store(store) if store is not None else None
    try:
        done = kept.keys() & by_key.keys() if kept is not None else set()
        # A group is stored whole, so what is missing of one is what a changed sweep added.
        missing = ([key for key in group if key not in done] for group in _groups(by_key))
        shown = progress and someone_watches()
        with progress_bar(len(by_key), shown, "sweep", "settings") as bar:
            bar.update(len(done))
            tasks = (
                delayed(_run_group)([by_key[key] for key in group]) for group in missing if group
            )
            parallel = Parallel(
                n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator_unordered"
            )
            # Workers say which group they did, since they finish in any order.
            for found in _watched(parallel(tasks), store):
                finished = [(_key(setting), setting, result) for setting, result in found]
                if kept is not None:
                    kept.add(finished, __version__)
                else:
                    results |= {key: result for key, _, result in finished}
                bar.update(len(finished))
        if kept is not None:
            results = {key: kept.result(key) for key in by_key}
    finally:
        if kept is not None:
            kept.close()
    return _table((by_key[key], results[key]) for key in by_key)


def _watched(results, store):
    """The results as they come, with a clear error where a process was killed."""
    try:
        yield from results
    except BrokenProcessPool as error:
        kept = "nothing was kept, since there is no store"
        if store is not None:
            kept = (
                f"what is finished is in {os.fspath(store)!r}, and the same call goes on from there"
            )
        raise RuntimeError(f"a process of the sweep was killed; {kept}") from error


def load_sweep(store: str | os.PathLike) -> pd.DataFrame:
    """Everything that a store holds, as the table that `sweep` returns, in the order of storing.

    Raises:
        ValueError: the file is no store, or of a newer format.
        FileNotFoundError: there is no such file.
    """
    if not pathlib.Path(store).exists():
        raise FileNotFoundError(f"there is no store {os.fspath(store)!r}")
    return _table(stored_results(store))


def read_sweep(path: str | os.PathLike) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ValueError: what is not TOML, with the line.
    """
    try:
        return tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


# -- settings ----------------------------------------------------------------------------------------


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
            given = dict(zip(values, combination, strict=True))
            try:
                setting = _complete(given)
                planned.setdefault(_key(setting), setting)
            except (ValueError, TypeError) as error:
                key = _culprit(error, given)
                wrong.append(f"{where(key, given.get(key))}{error}")
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


def _complete(given: dict[str, Any]) -> dict[str, Any]:
    """One setting with all that it leaves out, checked by building what it names."""
    setting = dict(DEFAULTS) | given
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
    topology = setting["topology"]
    if isinstance(topology, str):
        fixed = "(" in topology or topology == "social_network"
        topology = named(topology, TOPOLOGIES, "topology", alone=() if fixed else (setting["n"],))
        if fixed and "n" in given and topology.n != setting["n"]:
            raise _SettingError(
                "n", f"topology {topology!r} has its own size and n = {setting['n']}; leave n out"
            )
        setting["topology"] = (
            repr(topology) if isinstance(topology, Topology) else setting["topology"]
        )
        if isinstance(topology, TreePair):
            setting["topology"] = f"double_binary_tree({topology.n})"
    elif isinstance(topology, Topology):
        setting["topology"] = {
            "name": topology.name,
            "n": topology.n,
            "edges": topology.edges.tolist(),
        }
    elif isinstance(topology, TreePair) and topology == double_binary_tree(topology.n):
        setting["topology"] = f"double_binary_tree({topology.n})"
    else:
        raise _SettingError("topology", f"topology must be a name or a Topology, not {topology!r}")
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
    if setting["learning_rate"] is None:
        foreign = [key for key in ("steps", "record") if key in given]
        foreign += ["drop"] if setting["drop"] else []
        unused = _FIXED_ONLY
    else:
        foreign = [key for key in _TUNED_ONLY if key in given]
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
    built = _build(setting, problem=_Sizes(topology.n, setting["d"]))
    try:
        check_compatible(built["problem"], built["topology"], built["algorithm"])
        matrices = matrices_for(built["algorithm"], built["topology"], built["mixing"])
        check_faults(built["faults"], built["topology"], built["algorithm"], matrices)
    except ValueError as error:
        raise _SettingError("topology", f"{topology!r}: {error}") from None
    for key in ("zeta2", "r0"):
        if setting[key] < 0:
            raise _SettingError(key, f"{key} must be at least 0, not {setting[key]!r}")
    if setting["mu"] is not None and not 0 < setting["mu"] <= setting["smoothness"]:
        raise _SettingError("mu", f"mu must lie in (0, smoothness], not {setting['mu']!r}")
    if topology.n == 1 and setting["zeta2"] > 0:
        raise _SettingError("zeta2", "a single worker has zeta2 = 0")
    return setting


class _Sizes:
    """Stands in for a problem while a setting is checked."""

    def __init__(self, n: int, d: int):
        self.n, self.d = n, d
        self.gradient = self.value = None


def _build(setting: dict[str, Any], problem=None) -> dict[str, Any]:
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


def _key(setting: dict[str, Any]) -> str:
    """A hash of the whole setting."""
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()


def _culprit(error: Exception, given: dict[str, Any]) -> str | None:
    if isinstance(error, _SettingError):
        return error.key
    text = str(error)
    values = ("topology", "algorithm", "mixing", "sigma2", "drop")
    return next((key for key in values if key in given and str(given[key]) in text), None)


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


# -- running -----------------------------------------------------------------------------------------


def _groups(by_key: dict[str, dict]) -> list[list[str]]:
    """Keys of settings that run together: alike but for learning rate and seed, at fixed rates.

    It depends on the settings of the sweep only, not on what is stored, so that a sweep that goes
    on after an interruption runs the groups that it would have run.
    """
    grouped: dict[str, list[str]] = {}
    for key, setting in by_key.items():
        if setting["learning_rate"] is None:
            label = key
        else:
            rest = {k: v for k, v in setting.items() if k not in ("learning_rate", "seed")}
            label = json.dumps(rest, sort_keys=True)
        grouped.setdefault(label, []).append(key)
    return list(grouped.values())


def _run_group(group: list[dict]) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """Each setting of a group with its result, computed together."""
    first = group[0]
    arguments = _build(first)
    if first["learning_rate"] is None:
        del arguments["faults"]  # none: a setting that loses messages needs a rate
        return [(first, _tuned(first, arguments))]
    rates = sorted({setting["learning_rate"] for setting in group})
    seeds = sorted({setting["seed"] for setting in group})
    history = simulate(
        **arguments,
        learning_rate=rates,
        seed=seeds,
        steps=first["steps"],
        record=first["record"],
        progress=False,
    )
    frame = history.frame.drop(columns=["replica", "seed", "learning_rate"])
    columns = {name: frame[name].to_numpy().reshape(len(rates) * len(seeds), -1) for name in frame}
    results = []
    for setting in group:
        replica = rates.index(setting["learning_rate"]) * len(seeds) + seeds.index(setting["seed"])
        results.append((setting, {name: values[replica] for name, values in columns.items()}))
    return results


def _tuned(setting: dict, arguments: dict) -> dict[str, np.ndarray]:
    try:
        found = tune(
            **arguments,
            target=setting["target"],
            criterion=setting["criterion"],
            max_steps=setting["max_steps"],
            seed=setting["seed"],
            progress=False,
        )
    except StartsBelowTargetError:
        return {"learning_rate": np.array([np.nan]), "steps_to_target": np.array([0.0])}
    tried = {f"tried/{name}": found.frame[name].to_numpy() for name in found.frame}
    chosen = {
        "learning_rate": np.array([found.learning_rate]),
        "steps_to_target": np.array([found.steps]),
    }
    return chosen | tried


def _topology_label(described: dict) -> str:
    """A topology's name; one without a name of its own is told from others by its edges."""
    name = described["name"]
    if name.startswith("Topology("):
        name += f" #{hashlib.sha256(json.dumps(described['edges']).encode()).hexdigest()[:6]}"
    return name


def _table(found) -> pd.DataFrame:
    parts = []
    for setting, result in found:
        described = dict(setting)
        if isinstance(described["topology"], dict):
            described["topology"] = _topology_label(described["topology"])
        columns = {k: v for k, v in result.items() if not k.startswith("tried/")}
        unused = {k for k, v in described.items() if v is None and k not in ("mu", "mixing")}
        described = {k: v for k, v in described.items() if k not in columns and k not in unused}
        rows = len(next(iter(columns.values())))
        parts.append(pd.DataFrame(described | columns, index=range(rows)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
