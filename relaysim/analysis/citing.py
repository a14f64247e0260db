"""What a paper with certain runs in it should cite."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relaysim.algorithms.claims import theorems_of
from relaysim.bibliography import OF, keys_of, reference
from relaysim.mixing.rounds import is_several_rounds
from relaysim.records.configuration import encode, owned
from relaysim.records.history import History
from relaysim.support.checks import shown
from relaysim.support.display import html_table
from relaysim.theory.bounds import Bound
from relaysim.topologies import Topology
from relaysim.version import __version__

__all__ = ["Citations", "cite"]

_SOFTWARE = f"""@software{{relaysim,
  author = {{{{The relaysim developers}}}},
  title = {{{{relaysim: a single-process simulator of decentralized optimization}}}},
  version = {{{__version__}}},
}}"""


@dataclass(frozen=True)
class Citations:
    """What to cite, and what for; as text it is a ``.bib`` file.

    Attributes:
        reasons: for each key, in the order in which they were met, what it is cited for.
        missing: what was used and has no entry, such as a method or problem of your own.
    """

    reasons: dict[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """For ``\\\\cite{…}``, without relaysim's own, ``relaysim``."""
        return tuple(self.reasons)

    @property
    def bibtex(self) -> str:
        """The entries, relaysim's own first."""
        return "\n\n".join([_SOFTWARE, *(reference(key).bibtex for key in self.reasons)])

    def __str__(self) -> str:
        lines = ["% relaysim itself", _SOFTWARE, ""]
        for key, reasons in self.reasons.items():
            lines += [f"% {'; '.join(reasons)}", reference(key).bibtex, ""]
        lines += [f"% no entry is known for {each}" for each in self.missing]
        return "\n".join(lines).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(", ".join(why), f"{reference(key)} [{key}]") for key, why in self.reasons.items()]
        rows += [(each, "no entry is known") for each in self.missing]
        bibtex = html.escape(str(self))
        return (
            html_table("To cite", rows)
            + f"<details><summary>BibTeX</summary><pre>{bibtex}</pre></details>"
        )


def cite(*things: Any) -> Citations:
    """What a paper should cite that uses these: ``print(rs.cite(history))`` is a ``.bib`` file.

    Args:
        things: histories, of which the method, its parts such as compressors, the graph, the weights (with
            nothing given Metropolis's), attacks, schedules and the published theorems about the method count;
            and methods, compressors, mixings, topologies, bounds, functions such as
            `relaysim.mixing.base_graph`, and keys of `relaysim.bibliography`.

    A matrix, or a list of them, does not say where it comes from: add its function, as
    ``cite(history, rs.mixing.base_graph)``. What is derived here has no entry but relaysim's own.

    Raises:
        ValueError: a key that there is not.

    >>> import relaysim as rs
    >>> problem, ring = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0), rs.topologies.ring(4)
    >>> choco = rs.algorithms.ChocoSGD(rs.compressors.TopK(1), 0.3)
    >>> history = rs.simulate(problem, ring, choco, learning_rate=0.1, steps=5)
    >>> for key, reasons in cite(history).reasons.items():
    ...     print(key, reasons)
    koloskova2019decentralized ('method: CHOCO-SGD',)
    stich2018sparsified ('TopK',)
    xiao2007distributed ('weights: metropolis',)
    """
    reasons: dict[str, list[str]] = {}
    missing: list[str] = []
    for thing in things:
        for why, keys in _met(thing):
            if not keys and why not in missing:
                missing.append(why)
            for key in keys:
                of_key = reasons.setdefault(reference(key).key, [])
                if why not in of_key:
                    of_key.append(why)
    return Citations({key: tuple(why) for key, why in reasons.items()}, tuple(missing))


def _met(thing: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is met in a thing, and its keys."""
    if isinstance(thing, str):
        yield "asked for", (thing,)
    elif isinstance(thing, History):
        yield from _of_history(thing)
    elif isinstance(thing, Bound):
        yield f"bound: {thing.name}", thing.source.references
    elif isinstance(thing, Topology):
        yield from _of_graph(thing)
    elif is_several_rounds(thing):
        yield f"weights: {thing.kind}", OF.get(thing.kind, ())
    elif hasattr(thing, "label") and hasattr(thing, "uses"):
        yield f"method: {thing.label}", keys_of(thing)
        yield from _parts(thing)
    else:
        name = getattr(thing, "__name__", type(thing).__name__)
        own = keys_of(thing)
        yield (name if own else shown(thing)), own
        yield from _parts(thing)


def _parts(thing: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What stands in the options of a thing, such as a compressor, a base method, an attack."""
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return
    for field in dataclasses.fields(thing):
        part = getattr(thing, field.name)
        if hasattr(part, "label") and hasattr(part, "uses"):
            yield from _met(part)
        elif keys_of(part):
            yield type(part).__name__, keys_of(part)
        elif isinstance(plain := encode(part), dict) and owned(plain):
            yield f"{field.name}: {type(part).__name__}", ()


def _of_history(history: History) -> Iterator[tuple[str, tuple[str, ...]]]:
    method = history.algorithm
    if method is None:
        yield f"method: {history.label}, of which this file has no more than the name", ()
    else:
        yield from _met(method)
        for name in theorems_of(method):
            if name in OF:
                yield f"theorem: {name}", OF[name]
    yield from _of_graph(history.topology)
    if own := owned(history.config["mixing"]):
        yield f"mixing: {own}", ()
    elif history.config["mixing"] is not None:
        mixing = history.mixing
        if is_several_rounds(mixing) or keys_of(mixing):
            yield from _met(mixing)
    elif method is not None and method.uses == "mixing" and method.mixing_needs in _METROPOLIS:
        yield "weights: metropolis", OF["metropolis"]
    for what in ("learning_rate", "faults"):
        given = history.config[what]
        if own := owned(given):
            yield f"{what}: {own}", ()
        if isinstance(given, dict):
            yield from _named(given)


def _of_graph(topology: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    name = repr(topology).partition("(")[0]
    if name in OF:
        yield f"graph: {name}", OF[name]


def _named(plain: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What plain data that describes an object names, with what is inside it."""
    name = plain.get("type")
    if name in OF:
        yield str(name), OF[str(name)]
    for value in plain.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _named(each)


# What W must be where Metropolis weights are what a run has without any.
_METROPOLIS = ("nothing", "doubly stochastic", "symmetric", "one symmetric")
