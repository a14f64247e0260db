"""The methods of a study: each an algorithm with its topology and mixing, and a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from scipy.sparse import csr_array

from relaysim.algorithms.base import Method
from relaysim.algorithms.claims import Claims
from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import matrices_for
from relaysim.mixing.sequences import Mixing
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, GRAPHS, MIXINGS, name_in, named
from relaysim.support.checks import shown
from relaysim.topologies import Topology, TreePair

__all__ = ["ENTRY", "Entry", "entries_of", "names_of"]

# What makes a method of its own in a study: a line, and exponents.
ENTRY = ("algorithm", "topology", "mixing")


#: A method, its topology, and its mixing, or None where it has none of its own.
Entry: TypeAlias = tuple[Algorithm, Topology | TreePair, Mixing | None]


def entries_of(
    algorithm: object, topology: object, mixing: object, n: int = OPTIONS["n"].default
) -> list[Entry]:
    """Algorithm, topology and mixing matrix of each method (None where it has none of its own).

    Each may be the text that stands for it.

    Args:
        n: workers of a topology that is a name alone.
        algorithm: a method by itself, or several in a list or the like, each alone or with its own
            topology and matrix.
        topology, mixing: for those that are alone.
    """
    return [_by_name(*_entry(method, topology, mixing), n) for method in _listed(algorithm)]


def _by_name(method: Any, graph: Any, matrix: Any, n: int) -> Entry:
    """The same with the objects that texts stand for."""
    if isinstance(method, str):
        method = named(method, ALGORITHMS, "algorithm")
    if isinstance(graph, str):
        graph = named(graph, GRAPHS, "topology", {"n": n})
    if isinstance(matrix, str):
        matrix = named(matrix, MIXINGS, "mixing", {"topology": graph, "n": graph.n})
    return method, graph, matrix


def _listed(algorithm: object) -> list[Any]:
    if _is_entry(algorithm) or isinstance(algorithm, str) or not isinstance(algorithm, Iterable):
        return [algorithm]
    listed = list(algorithm)
    if not listed:
        raise ValueError("algorithm is an empty sequence; give one method at least")
    return listed


def _is_entry(algorithm: object) -> bool:
    """Whether this is one method with its topology, and not a tuple of methods."""
    if not isinstance(algorithm, tuple) or len(algorithm) not in (2, 3):
        return False
    second = algorithm[1]
    if isinstance(second, str):
        return name_in(second) not in ALGORITHMS
    return not isinstance(second, Claims | type | tuple)


def _entry(entry: Any, topology: object, mixing: object) -> tuple[Any, Any, Any]:
    if not isinstance(entry, tuple):
        method = named(entry, ALGORITHMS, "algorithm") if isinstance(entry, str) else entry
        mixes = isinstance(method, Method) and method.uses == "mixing"
        entry = (entry, topology, mixing if mixes else None)
    if len(entry) not in (2, 3):
        raise ValueError("a method is (algorithm, topology) or (algorithm, topology, mixing)")
    method, graph, matrix = (*entry, None)[:3]
    if graph is None:
        raise ValueError(
            f"{shown(method)} has no topology; give topology=, or (algorithm, topology)"
        )
    if not isinstance(graph, Topology | TreePair | str):
        raise TypeError(f"topology must be one of relaysim.topologies, not {shown(graph)}")
    return method, graph, matrix


def names_of(entries: list[Entry]) -> list[dict[str, str]]:
    """What each method is called in the frame; no two of them the same.

    Raises:
        ValueError: a method that is there twice.
    """
    graphs = [graph for _, graph, _ in entries]
    matrices = [matrices_for(*entry) for entry in entries]
    topologies = _told_apart(list(map(repr, graphs)), graphs, lambda a, b: a == b)
    # A matrix is told from others on its topology; on another one it is another in any case.
    mixings = [_mixing_name(*entry, own) for entry, own in zip(entries, matrices, strict=True)]
    keys = list(zip(mixings, topologies, strict=True))
    mixings = _told_apart(mixings, matrices, _same_matrices, keys)
    names = [
        dict(zip(("method", *ENTRY), (method.label, repr(method), graph, mixing), strict=True))
        for (method, _, _), graph, mixing in zip(entries, topologies, mixings, strict=True)
    ]
    for k, name in enumerate(names):
        if name in names[:k]:
            mixing = f" with the same mixing ({name['mixing']})" if name["mixing"] else ""
            raise ValueError(
                f"{name['algorithm']} on {name['topology']}{mixing} is listed twice; list it once"
            )
    return names


def _mixing_name(
    method: Algorithm,
    graph: Topology | TreePair,
    mixing: Mixing | None,
    matrices: tuple[csr_array, ...],
) -> str:
    if method.uses != "mixing":
        return ""
    is_default = mixing is None or _same_matrices(matrices, matrices_for(method, graph, None))
    return "metropolis" if is_default else "given"


def _told_apart(
    texts: list[str],
    things: Sequence[Any],
    same: Callable[[Any, Any], bool],
    keys: Sequence[Any] | None = None,
) -> list[str]:
    """The texts, numbered from the second on where one stands for different things.

    Only those of the same key are told apart; by default the text itself.
    """
    found: list[str] = []
    seen: dict[Any, list] = {}
    for text, thing, key in zip(texts, things, keys or texts, strict=True):
        others = seen.setdefault(key, [])
        number = next((k for k, other in enumerate(others) if same(thing, other)), len(others))
        if number == len(others):
            others.append(thing)
        found.append(f"{text} #{number + 1}" if number else text)
    return found


def _same_matrices(a: tuple[csr_array, ...], b: tuple[csr_array, ...]) -> bool:
    return len(a) == len(b) and all((A != B).nnz == 0 for A, B in zip(a, b, strict=True))
