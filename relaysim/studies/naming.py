"""Algorithms, topologies and matrices by name, as files and command lines give them.

A name alone, ``chain``, or a call with plain values, ``RelaySGD(momentum=0.9)``: nothing is executed
but the constructor that is named.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping

from relaysim import algorithms, mixing, topologies
from relaysim.algorithms.base import Claims
from relaysim.support.names import closest

__all__ = ["ALGORITHMS", "MIXINGS", "TOPOLOGIES", "known_name", "named", "signature_of"]

_NOT_BY_NAME = {"Topology", "TreePair", "from_edges", "from_networkx", "spanning_tree"}
_NOT_OF_A_TOPOLOGY = {
    "base_graph",
    "hyper_hypercube",
    "lazy",
    "one_peer_exponential",
    "simple_base_graph",
    "union_topology",
    "with_spectral_gap",
}

ALGORITHMS: Mapping[str, Callable] = {
    name: method
    for name, method in ((name, getattr(algorithms, name)) for name in algorithms.__all__)
    if inspect.isclass(method) and issubclass(method, Claims)
}
TOPOLOGIES: Mapping[str, Callable] = {
    name: getattr(topologies, name) for name in topologies.__all__ if name not in _NOT_BY_NAME
}
#: Matrices that are made for a topology, which is their first argument.
MIXINGS: Mapping[str, Callable] = {
    name: getattr(mixing, name) for name in mixing.__all__ if name not in _NOT_OF_A_TOPOLOGY
}


def named(text: str, known: Mapping[str, Callable], what: str, *first, alone: tuple = ()):
    """What ``name`` or ``name(argument, key=value)`` stands for.

    Args:
        text: what the user wrote.
        known: constructors by name.
        what: "algorithm", "topology", …, for error messages.
        first: objects to pass before the arguments in the text.
        alone: arguments to pass where the text is a name without parentheses.

    Raises:
        ValueError: an unknown name, with the closest one, or arguments that do not fit.

    >>> named("torus(2, 3)", TOPOLOGIES, "topology"), named("ring", TOPOLOGIES, "topology", alone=(5,))
    (torus(2, 3), ring(5))
    """
    name, parenthesis, _ = text.partition("(")
    name = name.strip()
    build = known[known_name(name, known, what)]
    positional, options = list(alone), {}
    if parenthesis:
        try:
            call = ast.parse(text.strip(), mode="eval").body
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                raise ValueError
            positional = [ast.literal_eval(argument) for argument in call.args]
            options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        except (SyntaxError, ValueError, AttributeError):
            raise ValueError(
                f"cannot read {what} {text!r}; write it as {name}(1, option=0.5)"
            ) from None
    try:
        return build(*first, *positional, **options)
    except TypeError as error:
        usage = f"{name}{signature_of(build)}"
        raise ValueError(f"{what} {text!r}: {error}; it is {usage}") from None


def signature_of(build: Callable) -> str:
    """A constructor's arguments as one writes them, without annotations.

    >>> signature_of(topologies.torus)
    '(rows, cols)'
    """
    parameters = inspect.signature(build).parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(plain))


def known_name(name: str, known: Iterable[str], what: str) -> str:
    """The name itself if it is known; ValueError with the closest one if not."""
    if name in known:
        return name
    raise ValueError(f"unknown {what} {name!r}{closest(name, known)}")
