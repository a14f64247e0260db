"""Methods and topologies as names or calls: read, completed and written as one writes them."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping

from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES

__all__ = [
    "METHODS",
    "default_arguments",
    "method_call",
    "normalised_call",
    "split_call",
    "takes_n",
    "topology_call",
    "written_call",
]


def _grid(n: int) -> str:
    """The rows and columns of the torus of n workers that is nearest to a square."""
    rows = max(k for k in range(1, math.isqrt(n) + 1) if n % k == 0)
    return f"{rows}, {n // rows}"


def _connected(n: int) -> str:
    """A probability of edges at which random graphs are connected, nearly always."""
    return f"p={min(1, 2.5 * math.log(n) / n):.2g}, seed=0"


# What a name alone stands for where the constructor asks for more than n.
_ARGUMENTS: Mapping[str, str | Callable[[int], str]] = {
    "torus": _grid,
    "regular_tree": "degree=3",
    "erdos_renyi": _connected,
    "random_regular": "degree=3, seed=0",
    "watts_strogatz": "k=4, p=0.2, seed=0",
    "barabasi_albert": "m=2, seed=0",
    "DADAO": "condition=10.0",
    "SingleMerge": "merge_at=20",
    "DynamicAveraging": "threshold=1.0",
}


def _needs_nothing(build: Callable) -> bool:
    parameters = inspect.signature(build).parameters.values()
    return all(parameter.default is not inspect.Parameter.empty for parameter in parameters)


#: Methods that a name stands for, and that need no other oracle than there is here.
METHODS: tuple[str, ...] = tuple(
    name
    for name, build in ALGORITHMS.items()
    if (name in _ARGUMENTS or _needs_nothing(build))
    and getattr(build, "oracle_needs", "nothing") != "examples"
)


def default_arguments(name: str, n: int) -> str:
    """The arguments, beside n, that a method's or topology's name alone stands for.

    >>> default_arguments("torus", 32), default_arguments("ring", 32)
    ('4, 8', '')
    """
    found = _ARGUMENTS.get(name, "")
    return found(n) if callable(found) else found


def split_call(text: str) -> tuple[str, list[str], dict[str, str]]:
    """The name, the arguments and the options of a call, each as text.

    Raises:
        ValueError: what is neither a name nor a call.

    >>> split_call("erdos_renyi(32, 0.2, seed=1)")
    ('erdos_renyi', ['32', '0.2'], {'seed': '1'})
    """
    try:
        found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        found = None
    if isinstance(found, ast.Name):
        return found.id, [], {}
    if not (isinstance(found, ast.Call) and isinstance(found.func, ast.Name)):
        raise ValueError(f"cannot read {text!r}; write it as name(1, option=0.5)")
    options = {str(keyword.arg): ast.unparse(keyword.value) for keyword in found.keywords}
    return found.func.id, [ast.unparse(argument) for argument in found.args], options


def written_call(name: str, *arguments: str) -> str:
    """A call as one writes it.

    >>> written_call("erdos_renyi", "32", "p=0.2, seed=0"), written_call("D2", "")
    ('erdos_renyi(32, p=0.2, seed=0)', 'D2()')
    """
    return f"{name}({', '.join(filter(None, arguments))})"


def topology_call(text: str, n: int) -> str:
    """The call that a topology's name, or a call, stands for with n workers.

    >>> topology_call("ring", 8), topology_call("torus", 8), topology_call("torus(4,8)", 8)
    ('ring(8)', 'torus(2, 4)', 'torus(4, 8)')
    """
    if "(" not in text:
        size = str(n) if takes_n(text) else ""
        return written_call(text, size, default_arguments(text, n))
    return normalised_call(text)


def takes_n(name: str) -> bool:
    """Whether a topology's constructor takes the number of workers first."""
    return next(iter(inspect.signature(TOPOLOGIES[name]).parameters), None) == "n"


def method_call(text: str) -> str:
    """The call that a method's name, or a call, stands for.

    >>> method_call("SingleMerge"), method_call(" D2 ")
    ('SingleMerge(merge_at=20)', 'D2()')
    """
    name = text.strip()
    return normalised_call(text if "(" in text else written_call(name, default_arguments(name, 0)))


def normalised_call(text: str) -> str:
    """A call as `written_call` writes it.

    >>> normalised_call("torus(4,cols = 8)")
    'torus(4, cols=8)'
    """
    name, arguments, options = split_call(text)
    return written_call(name, *arguments, *(f"{key}={value}" for key, value in options.items()))
