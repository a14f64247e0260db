"""What relaysim offers by name, as files and command lines give it.

A name alone, ``chain``, or a call as Python writes it, ``ConsensusControl(D2(), Critical(1.0))``, with plain
values and further calls as arguments. Text is read, never evaluated: only what is listed here is called.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from relaysim import (
    algorithms,
    attacks,
    compressors,
    faults,
    mixing,
    oracles,
    schedules,
    topologies,
)
from relaysim.algorithms.claims import Claims
from relaysim.problems import data, partitions
from relaysim.support.names import closest
from relaysim.topologies import Topology, TreePair

__all__ = [
    "ALGORITHMS",
    "ATTACKS",
    "COMPRESSORS",
    "DATASETS",
    "FAULTS",
    "GRAPHS",
    "MIXINGS",
    "ORACLES",
    "PARTITIONS",
    "SCHEDULES",
    "TOPOLOGIES",
    "arguments_in",
    "code_of",
    "known_name",
    "name_in",
    "named",
    "signature_of",
    "typed",
    "written",
]


def _of(
    module: Any, wanted: Callable[[Any], bool], without: Iterable[str] = ()
) -> dict[str, Callable]:
    found = {name: getattr(module, name) for name in module.__all__ if name not in without}
    return {name: made for name, made in found.items() if wanted(made)}


def _is_part(made: Any) -> bool:
    """Whether this is a frozen dataclass, whose fields say all of it."""
    return inspect.isclass(made) and dataclasses.is_dataclass(made)


ALGORITHMS: Mapping[str, Callable] = _of(
    algorithms, lambda made: inspect.isclass(made) and issubclass(made, Claims)
)
#: Graphs that a name alone stands for, and those that need what is in a call.
_OF_GRAPHS = ("spanning_tree", "random_spanning_tree", "best_spanning_tree", "tree_pair")
_CALLED = (
    "Topology",
    "from_edges",
    "from_networkx",
    "TreePair",
    "all_spanning_trees",
    *_OF_GRAPHS,
)
TOPOLOGIES: Mapping[str, Callable] = _of(topologies, callable, _CALLED)
GRAPHS: Mapping[str, Callable] = {
    **TOPOLOGIES,
    **{name: getattr(topologies, name) for name in (*_OF_GRAPHS, "from_edges", "TreePair")},
    "union_topology": mixing.union_topology,
}
MIXINGS: Mapping[str, Callable] = _of(mixing, callable, ("union_topology",))
ORACLES: Mapping[str, Callable] = _of(oracles, _is_part)
# A trace is recorded, and no text gives it.
FAULTS: Mapping[str, Callable] = _of(faults, _is_part, ("Replay", "Trace", "Track"))
SCHEDULES: Mapping[str, Callable] = _of(schedules, _is_part, ("Tabulated",))
DATASETS: Mapping[str, Callable] = _of(data, callable, ("Dataset", "from_frame"))
PARTITIONS: Mapping[str, Callable] = _of(partitions, callable, ("Partition",))
ATTACKS: Mapping[str, Callable] = _of(attacks, _is_part)
COMPRESSORS: Mapping[str, Callable] = _of(compressors, _is_part)
#: What may stand within a call.
_PARTS: Mapping[str, Callable] = {
    **_of(algorithms, _is_part),
    **COMPRESSORS,
    **GRAPHS,
    **MIXINGS,
    **ORACLES,
    **FAULTS,
    **ATTACKS,
    **SCHEDULES,
    **DATASETS,
    **PARTITIONS,
}
_HOMES: Mapping[str, Iterable[str]] = {
    "rs.algorithms": algorithms.__all__,
    "rs.compressors": compressors.__all__,
    "rs.topologies": topologies.__all__,
    "rs.mixing": mixing.__all__,
    "rs.oracles": oracles.__all__,
    "rs.faults": faults.__all__,
    "rs.attacks": attacks.__all__,
    "rs.schedules": schedules.__all__,
    "rs.problems.data": data.__all__,
    "rs.problems.partitions": partitions.__all__,
}
# What an experiment fills in, which no text can give.
_NEVER_WRITTEN = ("topology", "labels", "features")
# What it fills in where the text leaves it out.
_SIZES = ("n", "workers")
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, TypeError)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def named(
    text: str, known: Mapping[str, Callable], what: str, given: Mapping[str, Any] = _NOTHING
) -> Any:
    """What ``name`` or ``name(argument, key=value)`` stands for.

    Args:
        text: what the user wrote.
        known: constructors by name.
        what: "algorithm", "topology", …, for error messages.
        given: what is known besides, by the names of arguments: ``n`` and ``workers`` where the text leaves
            them out, ``seed`` likewise, and ``topology``, ``labels`` and ``features``, which no text has.

    Raises:
        ValueError: what cannot be read, an unknown name, with the closest one, or arguments that do not
            fit.

    >>> named("torus(2, 3)", TOPOLOGIES, "topology"), named("ring", TOPOLOGIES, "topology", {"n": 5})
    (torus(2, 3), ring(5))
    >>> named("ChocoSGD(TopK(8), 0.5)", ALGORITHMS, "algorithm")
    ChocoSGD(compressor=TopK(k=8), consensus_rate=0.5)
    """
    return _Reader(str(text), what, given).top(known)


def name_in(text: str) -> str:
    """The name that a call begins with.

    >>> name_in("torus(4, 8)")
    'torus'
    """
    return text.partition("(")[0].strip()


def arguments_in(text: str, known: Mapping[str, Callable]) -> dict[str, Any]:
    """The arguments that a name or a call says, by their names: plain values, and calls as text.

    >>> arguments_in("erdos_renyi(12, 0.3, seed=1)", GRAPHS)
    {'n': 12, 'p': 0.3, 'seed': 1}
    >>> arguments_in("ChocoSGD(TopK(8), 0.5)", ALGORITHMS)
    {'compressor': 'TopK(8)', 'consensus_rate': 0.5}
    """
    reader = _Reader(text, "text", _NOTHING, build=False)
    arguments, options = reader.arguments()
    names = [
        name for name in inspect.signature(known[name_in(text)]).parameters if name not in options
    ]
    return dict(zip(names, arguments, strict=False)) | options


def code_of(text: str) -> str:
    """A call as a program writes it that has ``import relaysim as rs``.

    >>> code_of("ChocoSGD(TopK(8), 0.5)")
    'rs.algorithms.ChocoSGD(rs.compressors.TopK(8), 0.5)'
    """
    return ast.unparse(_Qualified().visit(ast.parse(text.strip(), mode="eval")))


class _Qualified(ast.NodeTransformer):
    """Writes names with the modules that they are of."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "inf":
            return ast.parse('float("inf")', mode="eval").body
        home = next((home for home, names in _HOMES.items() if node.id in names), None)
        return node if home is None else ast.parse(f"{home}.{node.id}", mode="eval").body


def signature_of(build: Callable) -> str:
    """A constructor's arguments as one writes them, without annotations.

    >>> signature_of(topologies.torus)
    '(rows, cols)'
    """
    parameters = inspect.signature(build).parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(plain))


def typed(name: str, build: Callable) -> str:
    """A call as it is typed, with its options and their defaults, without what an experiment fills in.

    >>> typed("uniform", mixing.uniform), typed("ChocoSGD", algorithms.ChocoSGD)
    ('uniform(weight)', 'ChocoSGD(compressor=TopK(k=1), consensus_rate=0.1)')
    """
    made = {
        each.name: written(each.default_factory())
        for each in (dataclasses.fields(build) if dataclasses.is_dataclass(build) else ())
        if each.default_factory is not dataclasses.MISSING
    }
    options = []
    for option, each in inspect.signature(build).parameters.items():
        if option in _NEVER_WRITTEN or each.kind is each.VAR_KEYWORD:
            continue
        if each.default is not each.empty:
            option += f"={made.get(option) or repr(each.default)}"
        options.append(option)
    return f"{name}({', '.join(options)})"


def known_name(name: str, known: Iterable[str], what: str) -> str:
    """The name itself if it is known; ValueError with the closest one if not."""
    if name in known:
        return name
    raise ValueError(f"unknown {what} {name!r}{closest(name, known)}")


# Options that came later, at the value that is how all was before: texts, and by them the keys of stores, are
# those of then.
_CAME_LATER: dict[str, dict[str, Any]] = {
    "D2": {"form": "own"},
    "DPSGD": {"consensus": 1.0},
    "ExactDiffusion": {"form": "own"},
    "GradientTracking": {"form": "next", "momentum": 0.0},
    "RelaySGD": {"repair": None},
    "SGP": {"network": "exponential"},
}


def written(value: Any) -> str:
    """The text that stands for an object: `named` makes an equal one of it.

    Raises:
        ValueError: what no text stands for.

    >>> import numpy as np
    >>> written(algorithms.RelaySGD(momentum=np.float64(0.9)))
    "RelaySGD(momentum=0.9, overlap=False, unheard='initial')"
    >>> written(topologies.torus(4, 8))
    'torus(4, 8)'
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("nan is no value that text can give")
        return repr(value)
    if isinstance(value, tuple | list):
        inside = ", ".join(map(written, value))
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Topology):
        return _written_graph(value)
    name = type(value).__name__
    if _is_part(type(value)) and _PARTS.get(name) is type(value):
        if isinstance(value, TreePair):
            # A tree is named after the call that its pair comes from.
            for call in (f"double_binary_tree({value.n})", value.first.name.partition(" of ")[2]):
                if _makes(call, value):
                    return call
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        came_later = _CAME_LATER.get(name, {}).items()
        said = {option: each for option, each in given.items() if (option, each) not in came_later}
        return f"{name}({', '.join(f'{option}={written(each)}' for option, each in said.items())})"
    raise ValueError(f"no text stands for {value!r}: {name} is no part of relaysim")


def _written_graph(graph: Topology) -> str:
    """The graph's name, if it is a call that makes this very graph: its edges say what it is."""
    if _makes(graph.name, graph):
        return graph.name
    raise ValueError(f"no text stands for {graph!r}, a graph of your own")


def _makes(call: str, graph: Topology | TreePair) -> bool:
    """Whether a call makes this very graph, or pair."""
    try:
        return "(" in call and named(call, GRAPHS, "topology") == graph
    except ValueError:
        return False


class _Reader:
    """A text being read; ``build=False`` leaves calls within it as text."""

    def __init__(self, text: str, what: str, given: Mapping[str, Any], build: bool = True):
        self._text, self._what, self._given, self._build = text, what, given, build

    def top(self, known: Mapping[str, Callable]) -> Any:
        """What the whole text stands for."""
        name = known_name(name_in(self._text), known, self._what)
        return self._made(name, known[name], *self.arguments())

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the call by place, and by name."""
        if "(" not in self._text:
            return [], {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of literals, as if this were a program
                call = ast.parse(self._text.strip(), mode="eval").body
        except _UNREADABLE:
            call = None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise self._unreadable()
        return self._arguments_of(call)

    def _unreadable(self, why: str = "") -> ValueError:
        name = name_in(self._text)
        mend = f"write it as {name}(1, option=0.5)"
        return ValueError(f"cannot read {self._what} {self._text!r}{why and f': {why}'}; {mend}")

    def _arguments_of(self, call: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        options: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in options:
                raise self._unreadable()
            options[keyword.arg] = self._value(keyword.value)
        return [self._value(argument) for argument in call.args], options

    def _value(self, node: ast.expr) -> Any:
        """A plain value, a collection of values, or what a call stands for."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
            return node.value
        if isinstance(node, ast.Name) and node.id == "inf":
            return math.inf
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._value(node.operand)
            if isinstance(number, int | float) and not isinstance(number, bool):
                return -number
        if isinstance(node, ast.List | ast.Tuple):
            found = [self._value(each) for each in node.elts]
            return found if isinstance(node, ast.List) else tuple(found)
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [self._value(key) for key in node.keys if key is not None]
            try:
                return dict(zip(keys, map(self._value, node.values), strict=True))
            except TypeError:
                raise self._unreadable("a key that is no plain value") from None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in _PARTS:
                raise self._unreadable(f"unknown name {name!r}{_hint(name)}")
            if not self._build:
                return ast.unparse(node)
            return self._made(name, _PARTS[name], *self._arguments_of(node))
        if isinstance(node, ast.Name):
            mend = f"{node.id}()" if node.id in _PARTS else f"'{node.id}'"
            raise self._unreadable(f"{node.id} is no value, take {mend}{_hint(node.id)}")
        raise self._unreadable("it has more than plain values and calls")

    def _made(
        self, name: str, build: Callable, arguments: list[Any], options: dict[str, Any]
    ) -> Any:
        where = f"{self._what} {self._text!r}"
        usage = f"it is {name}{signature_of(build)}"
        parameters = inspect.signature(build).parameters
        for option in options:
            if option not in parameters:
                hint = closest(option, parameters) if parameters else ""
                raise ValueError(
                    f"{where}: {name} got an unexpected keyword argument {option!r}{hint}; {usage}"
                )
        filled = self._filled(parameters, arguments, options)
        places = [key for key in parameters if key not in filled]
        any_number = inspect.Parameter.VAR_POSITIONAL
        try:
            if any(each.kind is any_number for each in parameters.values()):
                return build(*arguments, **options)
            if len(arguments) > len(places):
                raise TypeError(f"{name} takes {len(places)} arguments, not {len(arguments)}")
            stated = dict(zip(places, arguments, strict=False))
            twice = next((key for key in stated if key in options), None)
            if twice is not None:
                raise TypeError(f"{name} got two values for {twice}")
            return build(**stated, **options, **filled)
        except FileNotFoundError as error:
            raise ValueError(f"{where}: {error}{_nearest_file(arguments, options)}") from None
        except (TypeError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
            raise ValueError(f"{where}: {error}; {usage}") from None

    def _filled(
        self, parameters: Mapping[str, inspect.Parameter], arguments: list, options: dict
    ) -> dict[str, Any]:
        """What the experiment gives of the arguments."""
        given = {name: self._given[name] for name in parameters if name in self._given}
        given = {name: value for name, value in given.items() if name not in options}
        filled = {name: value for name, value in given.items() if name in _NEVER_WRITTEN}
        places = [name for name in parameters if name not in filled]
        needed = [name for name in places if parameters[name].default is inspect.Parameter.empty]
        said = {*places[: len(arguments)], *options}
        missing = [name for name in needed if name not in said]
        # The text leaves the size out: all that stands in it is one place further on.
        sizes = [name for name in _SIZES if name in given]
        if missing and sizes:
            filled[sizes[0]] = given[sizes[0]]
            said = {*[name for name in places if name != sizes[0]][: len(arguments)], *options}
        if "seed" in given and "seed" not in said:
            filled["seed"] = given["seed"]
        return filled


def _hint(name: str) -> str:
    found = closest(name, _PARTS)
    return found if "did you mean" in found else ""


def _nearest_file(arguments: list[Any], options: Mapping[str, Any]) -> str:
    """The nearest name of a file beside one that is not there."""
    for text in [*arguments, *options.values()]:
        if isinstance(text, str) and not pathlib.Path(text).exists():
            path = pathlib.Path(text)
            if path.parent.is_dir():
                beside = [other.name for other in path.parent.iterdir() if other.is_file()]
                found = closest(path.name, beside)
                return found if "did you mean" in found else ""
            return f"; there is no folder {str(path.parent)!r}"
    return ""
