"""Plain data that describes a run, and the objects rebuilt from it.

Encoded values hold only what JSON holds, and NumPy arrays. What belongs to relaysim becomes a
mapping with its ``type``; loading never runs code that the data names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
from scipy.sparse import csr_array, issparse

from relaysim import algorithms, attacks, compressors, faults, oracles, problems, schedules
from relaysim.measures import READY, Measure
from relaysim.mixing import LatticeSchedule, chebyshev, fast_mix
from relaysim.mixing.by_step import AnyMixing, is_by_step
from relaysim.mixing.drawn import Epidemic, Equidyn
from relaysim.mixing.matcha import Matcha
from relaysim.mixing.matching import RandomMatching
from relaysim.mixing.rounds import is_several_rounds, rounds_of
from relaysim.mixing.sequences import is_sequence, mixing_in_double
from relaysim.topologies import Topology, TreePair

__all__ = [
    "BEFORE",
    "decode",
    "encode",
    "encode_measures",
    "encode_mixing",
    "measures_in_file",
    "owned",
    "rebuild",
]


def encode(value: Any) -> Any:
    """Describe a problem, topology, algorithm, oracle, mixing or plain value as plain data.

    >>> import relaysim as rs
    >>> encode(rs.algorithms.SGP(rounds=3))
    {'type': 'SGP', 'rounds': 3, 'network': 'exponential'}
    >>> encode(rs.topologies.chain(3))["edges"].tolist()
    [[0, 1], [1, 2]]
    """
    if isinstance(value, Topology):
        graph = {"type": "Topology", "n": value.n, "edges": value.edges, "name": value.name}
        graph |= {"directed": True} if value.is_directed else {}
        names = value.worker_names
        return graph if names is None else graph | {"worker_names": list(names)}
    if hasattr(value, "to_config"):
        # Arrays are a problem's own, not copied; sparse ones among them become arrays.
        plain = value.to_config()
        return {k: v if isinstance(v, np.ndarray) else encode(v) for k, v in plain.items()}
    if _BUILDERS.get(type(value).__name__) is type(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__} | {name: encode(v) for name, v in fields.items()}
    if is_several_rounds(value):
        rounds = {"W": encode(value.one_round), "rounds": rounds_of(value)}
        return {"type": value.kind, **rounds}
    if issparse(value):
        rows = csr_array(value)
        arrays = {"starts": rows.indptr, "columns": rows.indices, "weights": rows.data}
        return {"type": "sparse", "shape": [int(k) for k in value.shape], **arrays}
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.writeable else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | range):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    arrays = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if isinstance(item, np.ndarray) and not item.dtype.hasobject
    }
    return {"type": "unknown", "class": type(value).__qualname__, "arrays": arrays or None}


# What is a mapping of numbers, and describes no object.
_PLAIN = ("stop_when",)


def rebuild(config: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The keyword arguments of `relaysim.simulate` that a `History.config` describes.

    Args:
        config: ``history.config``.
        given: arguments to use instead, such as ``problem=`` for a problem of the user's own.

    Raises:
        ValueError: a part that plain data cannot rebuild and that is not given.

    >>> import relaysim as rs
    >>> problem = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> history = rs.simulate(problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(),
    ...                       learning_rate=0.1, steps=5)
    >>> again = rs.simulate(**rs.rebuild(history.config))
    >>> bool((again.x == history.x).all())
    True
    """
    unknown = [key for key in given if key not in config]
    if unknown:
        raise TypeError(f"unknown argument {unknown[0]!r}; there are {', '.join(config)}")
    found = {}
    for key, value in config.items():
        plain = key in _PLAIN
        found[key] = given[key] if key in given else value if plain else decode(value, key)
    return found


def decode(value: Any, what: str = "value", part: str | None = None) -> Any:
    """The object that `encode` described: an argument, or a part of it with another name."""
    part = part or what
    if isinstance(value, list):
        return [decode(item, what, part) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == "unknown":
        part = value.get("part", part)
        raise ValueError(
            f"the {part} was an object of your own, {value['class']}, which cannot be rebuilt from "
            f"the record; pass {what}="
        )
    fields = {key: decode(item, what, key) for key, item in value.items() if key != "type"}
    if kind not in _BUILDERS:
        raise ValueError(f"unknown {part} of type {kind!r}; was it written by a newer version?")
    return _BUILDERS[kind](**(BEFORE.get(kind, {}) | fields))


def owned(value: Any) -> str | None:
    """What class of the user's own stands in what `encode` described, if one does.

    >>> import relaysim as rs
    >>> class Halves:
    ...     bits = random = compress = None
    >>> owned(encode(rs.algorithms.ChocoSGD(Halves()))), owned(encode(rs.algorithms.ChocoSGD()))
    ('Halves', None)
    """
    if isinstance(value, dict):
        if value.get("type") == "unknown":
            return str(value["class"])
        value = list(value.values())
    if isinstance(value, list):
        return next(filter(None, map(owned, value)), None)
    return None


def _sparse(
    shape: list[int], starts: np.ndarray, columns: np.ndarray, weights: np.ndarray
) -> csr_array:
    return csr_array((weights, columns, starts), shape=tuple(shape))


_BUILDERS: dict[str, Callable] = {
    "Schedule": schedules.Tabulated,  # its name in files of version 0.1
    **{name: getattr(schedules, name) for name in schedules.__all__},
    "Topology": Topology,
    "TreePair": TreePair,
    "sparse": _sparse,
    **{name: getattr(algorithms, name) for name in algorithms.__all__},
    **{
        name: kind
        for name, kind in vars(faults).items()
        if isinstance(kind, type) and issubclass(kind, faults.Fault) and kind is not faults.Fault
    },
    "Trace": faults.Trace,
    "Track": faults.Track,
    **{name: getattr(attacks, name) for name in attacks.__all__ if name != "Attack"},
    **{name: getattr(oracles, name) for name in oracles.__all__},
    **{name: getattr(compressors, name) for name in compressors.__all__},
    "LatticeSchedule": LatticeSchedule,
    "RandomMatching": RandomMatching,
    "Equidyn": Equidyn,
    "Epidemic": Epidemic,
    "Matcha": Matcha,
    "fast_mix": fast_mix,
    "chebyshev": chebyshev,
    "DiagonalQuadratic": problems.DiagonalQuadratic,
    "L1": problems.L1,
    "LeastSquares": problems.LeastSquares,
    "Logistic": problems.Logistic,
    "MatrixQuadratic": problems.MatrixQuadratic,
    "random_quadratics": problems.random_quadratics,
}


#: What a method did before it had an option to say so, for files in which there is none.
BEFORE: dict[str, dict[str, Any]] = {
    "QuasiGlobalMomentum": {"form": "toy"},
    "AllReduce": {"count": "all-to-all"},
    "LocalSGD": {"count": "all-to-all"},
    "SingleMerge": {"count": "all-to-all"},
    "Lattice": {"rounding": "nearest"},
}


def encode_measures(measures: Iterable[Measure] | None) -> list[Any] | None:
    """Ready ones by name; of others the name and the label, but not the formula.

    >>> encode_measures([READY["value"], Measure("first", lambda iterates, problem: iterates[:, 0, 0])])[0]
    'value'
    """
    if measures is None:
        return None
    return [
        each.name
        if each == READY.get(each.name)
        else {
            "type": "unknown",
            "part": "measure",
            "class": repr(each.name),
            "name": each.name,
            "label": each.label,
            "per_worker": each.per_worker,
        }
        for each in measures
    ]


def measures_in_file(config: dict[str, Any], columns: list[str]) -> tuple[Measure, ...]:
    """What the columns of a file are; those of the user's own have their name and label only."""
    own = {}
    for each in config.get("measures") or ():
        if isinstance(each, dict):
            described = {key: each[key] for key in ("name", "label", "per_worker")}
            own[each["name"]] = Measure(of=_NotInFile(each["name"]), **described)
    return tuple(own[name] if name in own else READY[name] for name in columns)


@dataclasses.dataclass(frozen=True)
class _NotInFile:
    """The formula of a measure of the user's own, which a file does not have."""

    name: str

    def __call__(self, iterates: np.ndarray, problem: object) -> NoReturn:
        raise ValueError(
            f"the formula of the measure {self.name!r} is your own and was not saved; pass measures="
        )


def encode_mixing(mixing: AnyMixing | None) -> Any:
    """Encode a matrix, a sequence of them or a callable of the step (or None).

    Of a callable of the user's own there is only what it is called.
    """
    if mixing is None:
        return None
    if is_by_step(mixing):
        if _BUILDERS.get(type(mixing).__name__) is type(mixing):
            return encode(mixing)
        name = getattr(mixing, "__qualname__", type(mixing).__qualname__)
        return {"type": "unknown", "class": name, "arrays": None}
    mixing = mixing_in_double(mixing)
    if is_sequence(mixing):
        return [encode(np.asarray(W) if not issparse(W) else W) for W in mixing]
    return encode(mixing if issparse(mixing) else np.array(mixing, dtype=float))
