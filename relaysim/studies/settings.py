"""One experiment as plain data: what a sweep may say, checked, completed, and the objects it stands for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from relaysim import problems
from relaysim.algorithms.fit import check_compatible, check_oracle, weights_for
from relaysim.algorithms.tolerance import check_faults
from relaysim.engine.plan import number_of_records, require_room
from relaysim.mixing.by_step import is_by_step
from relaysim.mixing.sequences import is_sequence
from relaysim.oracles import Exact
from relaysim.records.configuration import decode, encode_mixing
from relaysim.studies.described import check_rate, described, described_rate, rate_of
from relaysim.studies.earlier import as_written_before
from relaysim.studies.experiment import DEFAULTS, OPTIONS, QUADRATIC
from relaysim.studies.naming import (
    ALGORITHMS,
    FAULTS,
    GRAPHS,
    MIXINGS,
    ORACLES,
    SCHEDULES,
    arguments_in,
    name_in,
    named,
    signature_of,
    written,
)
from relaysim.studies.options import FIXED, TUNED, SettingError, check_said_once
from relaysim.studies.problem_kinds import PROBLEM_KINDS, OwnProblem, make_problem, plain
from relaysim.studies.tuning import check_schedule
from relaysim.support.checks import plain_scalar, shown
from relaysim.support.names import closest
from relaysim.topologies import Topology, TreePair

__all__ = [
    "DEFAULTS",
    "arguments_of",
    "build",
    "complete",
    "former_keys",
    "key_of",
]

#: Settings of version 0.1, which are part of every key; a later one is where it is not the default, so that
#: keys of stored results stay what they were.
_IN_EVERY_KEY = frozenset(
    [
        "algorithm",
        "topology",
        "n",
        "d",
        "zeta2",
        "mu",
        "smoothness",
        "r0",
        "problem_seed",
        "mixing",
        "sigma2",
        "drop",
        "seed",
        "learning_rate",
        "steps",
        "record",
        "target",
        "criterion",
        "max_steps",
    ]
)


def complete(stated: Mapping[str, Any]) -> dict[str, Any]:
    """One setting with all that it leaves out, checked by making what it names.

    What is an object becomes the text that stands for it, or plain data; a problem of one's own an
    `OwnProblem`.

    Raises:
        SettingError, ValueError, TypeError: what cannot be run.
    """
    stated = {key: plain_scalar(value) for key, value in stated.items()}
    problem = _problem_stated(stated)
    setting = dict(DEFAULTS) | stated | {"problem": problem}
    setting |= {
        name: each.checked(setting[name])
        for name, each in OPTIONS.items()
        if name != "learning_rate"
    }
    setting["learning_rate"] = described_rate(setting["learning_rate"])
    setting["schedule"] = described(setting, "schedule", SCHEDULES)
    topology, setting["topology"] = _topology(setting, stated)
    setting["n"] = topology.n
    setting["algorithm"] = described(setting, "algorithm", ALGORITHMS)
    setting["oracle"] = described(setting, "oracle", ORACLES)
    setting["faults"] = described(setting, "faults", FAULTS)
    setting["mixing"] = _mixing(setting["mixing"])
    _leave_out_unused(setting, stated)
    _check_together(setting)
    built = build(setting, _stand_in(setting))
    try:
        check_compatible(built["problem"], built["topology"], built["algorithm"])
        matrices = weights_for(built["algorithm"], built["topology"], built["mixing"])
        check_faults(built["faults"], built["topology"], built["algorithm"], matrices)
    except ValueError as error:
        raise SettingError("topology", f"{topology!r}: {error}") from None
    check_rate(setting["learning_rate"], built["algorithm"], topology.n)
    if setting["steps"] is not None:
        records = number_of_records(setting["record"], setting["steps"])
        try:
            require_room(records, 6, f"{records} records", "record less often")
        except ValueError as error:
            raise SettingError("record", str(error)) from None
    try:
        check_oracle(built["oracle"] or Exact(), built["algorithm"])
    except ValueError as error:
        raise SettingError("oracle", str(error)) from None
    if hasattr(built["oracle"], "check"):
        built["oracle"].check(built["problem"])
    return setting


def _problem_stated(stated: dict[str, Any]) -> str | OwnProblem:
    """The problem; what a call says of it goes to the settings that it stands for."""
    given = stated.get("problem", DEFAULTS["problem"])
    if not isinstance(given, str):
        recipe = getattr(given, "recipe", None)
        if recipe is None:
            return _own_problem(given, stated)
        given, arguments = recipe["type"], {k: v for k, v in recipe.items() if k != "type"}
        options: dict[str, Any] = {}
    else:
        kind = name_in(given)
        if kind not in PROBLEM_KINDS:
            raise SettingError("problem", f"unknown problem {kind!r}{closest(kind, PROBLEM_KINDS)}")
        arguments = arguments_in(given, PROBLEM_KINDS)
        known = signature_of(PROBLEM_KINDS[kind])
        for name in arguments:
            if not re.search(rf"\b{re.escape(name)}\b", known):
                raise SettingError(
                    "problem",
                    f"problem {given!r} has an unknown option {name!r}; it is {kind}{known}",
                )
        arguments = {"problem_seed" if k == "seed" else k: v for k, v in arguments.items()}
        options = {k: v for k, v in arguments.items() if k not in OPTIONS}
        given = kind
    arguments = {"problem_seed" if k == "seed" else k: v for k, v in arguments.items()}
    for name, value in arguments.items():
        if name in OPTIONS:
            if name in stated and stated[name] != value:
                raise SettingError(
                    name, f"{name} = {stated[name]!r} and the problem says {value!r}; say it once"
                )
            stated[name] = value
    if not options:
        return given
    return f"{given}({', '.join(f'{name}={written(value)}' for name, value in options.items())})"


def _own_problem(problem: Any, stated: Mapping[str, Any]) -> OwnProblem:
    lacks = [name for name in ("n", "d", "gradient", "value") if not hasattr(problem, name)]
    if lacks or isinstance(problem, type):
        raise SettingError(
            "problem",
            f"problem must be one of {', '.join(PROBLEM_KINDS)}, or an object with n, d, gradient(x) and "
            f"value(x), not {problem!r}",
        )
    return OwnProblem(problem)


def _topology(
    setting: Mapping[str, Any], stated: Mapping[str, Any]
) -> tuple[Topology | TreePair, Any]:
    """The topology of a setting, and what plain data call it."""
    topology = setting["topology"]
    own = setting["problem"].problem.n if isinstance(setting["problem"], OwnProblem) else None
    n = setting["n"] if "n" in stated or own is None else own
    if isinstance(topology, str):
        text = topology
        topology = named(text, GRAPHS, "topology", {"n": n})
        if "n" in stated and topology.n != n:
            raise SettingError("n", f"topology {text} has its own size and n = {n}; leave n out")
    elif isinstance(topology, Mapping) and {*topology} == {"name", "n", "edges"}:
        topology = _graph(topology)
    elif not isinstance(topology, Topology | TreePair):
        raise SettingError("topology", f"topology must be a name or a Topology, not {topology!r}")
    elif "n" in stated and topology.n != n:
        raise SettingError(
            "n", f"topology {topology!r} has {topology.n} workers and n = {n}; leave n out"
        )
    try:
        return topology, written(topology)
    except ValueError:
        if isinstance(topology, TreePair):
            raise SettingError(
                "topology", f"a sweep cannot write down {topology!r}, whose trees have no names"
            ) from None
    return topology, _described(topology)


def _mixing(mixing: Any) -> Any:
    """A name or a call as it is, matrices as plain data."""
    if mixing is None or isinstance(mixing, str):
        return mixing
    if isinstance(mixing, Mapping):
        return dict(mixing)
    if is_by_step(mixing):
        return _scheduledescribed(mixing)
    if not (issparse(mixing) or isinstance(mixing, np.ndarray | tuple | list | pd.DataFrame)):
        raise SettingError(
            "mixing",
            f"mixing must be a name or a call, such as 'uniform(0.3)', or matrices, not {shown(mixing)}",
        )
    kind = "sequence" if is_sequence(mixing) else "matrix"
    return {kind: plain(encode_mixing(mixing))}


def _scheduledescribed(mixing: Any) -> str:
    """The call that makes a callable of the step, if it is one of relaysim's."""
    text = repr(mixing)
    if name_in(text) in MIXINGS and named(text, MIXINGS, "mixing") == mixing:
        return text
    raise SettingError(
        "mixing",
        f"a sweep cannot write down the mixing {mixing!r}, a callable of your own; take a name or a call, "
        f"such as 'lattice_schedule(32, 16, 2, steps=100)', or matrices",
    )


def _matrices(described: Mapping[str, Any]) -> Any:
    """The matrices that plain data are of."""
    ((kind, value),) = described.items()
    each = value if kind == "sequence" else [value]
    made = tuple(np.array(W, dtype=float) if isinstance(W, list) else decode(W) for W in each)
    return made if kind == "sequence" else made[0]


def _leave_out_unused(setting: dict[str, Any], stated: Mapping[str, Any]) -> None:
    """Set to None what is of use to other runs only; what is stated must be of use."""
    tuned = setting["learning_rate"] is None
    kind = "" if isinstance(setting["problem"], OwnProblem) else name_in(setting["problem"])
    for key, each in OPTIONS.items():
        said = key in stated and stated[key] is not None
        if each.problem and each.problem != kind:
            if said:
                raise SettingError(key, f"{key} is for the problem {each.problem}; leave it out")
            setting[key] = None
        elif each.only == (FIXED if tuned else TUNED):
            # A probability of 0 is of no use either, and does no harm.
            if said and (setting[key] or not (each.through or each.default is None)):
                runs = "at a given" if tuned else "whose rate is tuned, without"
                raise SettingError(key, f"{key} is for runs {runs} learning_rate")
            if not each.through:
                setting[key] = None
    if not kind:
        if "problem_seed" in stated:
            raise SettingError(
                "problem_seed", "problem_seed is not for a problem of your own; leave it out"
            )
        setting["problem_seed"] = None


def _check_together(setting: Mapping[str, Any]) -> None:
    """Raise where one option does not go with another."""
    check_said_once(OPTIONS, setting)
    if setting["schedule"] is not None:
        try:
            check_schedule(rate_of(setting["schedule"]), setting["criterion"])
        except (TypeError, ValueError) as error:
            raise SettingError("schedule", str(error)) from None
    if setting["problem"] == QUADRATIC:
        if setting["mu"] is not None and not setting["mu"] <= setting["smoothness"]:
            raise SettingError("mu", f"mu must lie in (0, smoothness], not {setting['mu']!r}")
        if setting["n"] == 1 and setting["zeta2"] > 0:
            raise SettingError("zeta2", "a single worker has zeta2 = 0")


class _Sizes:
    """Stands in for random quadratics, and offers what they do, while a setting is checked."""

    proximal = problems.LeastSquares.proximal

    def __init__(self, n: int, d: int):
        self.n, self.d = n, d
        self.gradient = self.value = self.sampled_gradient = None
        self.examples = np.full(n, d)

    def __repr__(self) -> str:
        return QUADRATIC


def _stand_in(setting: Mapping[str, Any]) -> Any:
    return _Sizes(setting["n"], setting["d"]) if setting["problem"] == QUADRATIC else None


def build(setting: Mapping[str, Any], problem: Any = None) -> dict[str, Any]:
    """The objects that a complete setting describes, as arguments of `relaysim.simulate`."""
    described = setting["topology"]
    is_named = isinstance(described, str)
    topology = named(described, GRAPHS, "topology") if is_named else _graph(described)
    mixing = setting["mixing"]
    if isinstance(mixing, str):
        mixing = named(mixing, MIXINGS, "mixing", {"topology": topology, "n": topology.n})
    elif mixing is not None:
        mixing = _matrices(mixing)
    built = {
        "problem": _problem_of(setting) if problem is None else problem,
        "topology": topology,
        "algorithm": named(setting["algorithm"], ALGORITHMS, "algorithm"),
        "mixing": mixing,
    }
    for key, known in (("oracle", ORACLES), ("faults", FAULTS)):
        text = setting[key]
        built[key] = None if text is None else named(text, known, key)
    for key, each in OPTIONS.items():
        if each.through:
            built |= each.given_as(setting[key])
    return built


def _problem_of(setting: Mapping[str, Any]) -> Any:
    problem = setting["problem"]
    if isinstance(problem, OwnProblem):
        return problem.problem
    kind = name_in(problem)
    given = {key: setting[key] for key, each in OPTIONS.items() if each.problem == kind}
    given |= {"n": setting["n"], "seed": setting["problem_seed"]}
    return make_problem(kind, given, arguments_in(problem, PROBLEM_KINDS))


def arguments_of(setting: Mapping[str, Any], *runs: str) -> dict[str, Any]:
    """The further arguments of `relaysim.simulate` or `relaysim.tune` that options stand for by name.

    Args:
        setting: a complete one.
        runs: ``FIXED`` or ``TUNED``, whose options are meant beside those of all runs.
    """
    found: dict[str, Any] = {}
    for key, each in OPTIONS.items():
        if not each.through and each.only in ("", *runs):
            found |= each.given_as(setting[key])
    return found


def key_of(setting: Mapping[str, Any]) -> str:
    """A hash of the whole setting: a graph counts by its edges, whatever it is called."""
    topology = setting["topology"]
    if isinstance(topology, Mapping):
        topology = {key: value for key, value in topology.items() if key != "name"}
    return _hash({**setting, "topology": topology})


def former_keys(setting: Mapping[str, Any]) -> Iterator[str]:
    """The keys under which a store of an earlier version may have a setting.

    In version 0.1 a graph that was given as an object counted by its name; for texts see
    `relaysim.studies.earlier`.
    """
    topology = setting["topology"]
    if isinstance(topology, str):
        made = named(topology, GRAPHS, "topology")
        if isinstance(made, Topology):
            topology = _described(made)
    names = [
        key for key in ("algorithm", "faults", "learning_rate") if isinstance(setting[key], str)
    ]
    for texts in as_written_before([setting[key] for key in names]):
        before = {**setting, **dict(zip(names, texts, strict=True))}
        yield _hash({**before, "topology": topology})
        yield key_of(before)


def _described(topology: Topology) -> dict[str, Any]:
    """A graph as plain data."""
    graph = {"name": topology.name, "n": topology.n, "edges": topology.edges.tolist()}
    return graph | ({"directed": True} if topology.is_directed else {})


def _graph(described: Mapping[str, Any]) -> Topology:
    """The graph that is described so."""
    directed = described.get("directed", False)
    return Topology(described["n"], described["edges"], described["name"], directed)


def _hash(setting: Mapping[str, Any]) -> str:
    kept = {
        key: value
        for key, value in setting.items()
        if key in _IN_EVERY_KEY or value not in (None, DEFAULTS[key])
    }
    return hashlib.sha256(json.dumps(plain(kept), sort_keys=True).encode()).hexdigest()
