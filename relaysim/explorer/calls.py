"""Parts of a run as names or calls: read, completed and written as one writes them."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping

from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, MIXINGS, TOPOLOGIES, code_of, name_in, typed

__all__ = [
    "METHODS",
    "default_arguments",
    "method_call",
    "mixing_code",
    "normalised_call",
    "part_arguments",
    "part_call",
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
    "ConsensusControl": "base=DPSGD(), target=0.1",
    "DADAO": "condition=10.0",
    "DynamicAveraging": "threshold=1.0",
    "LocalRates": "switch=100",
    "SingleMerge": "merge_at=20",
    "epidemic": "s=2",
    "with_spectral_gap": "gap=0.5",
}
# What stands for a required option that nothing is known of but its name, or its type.
_OF_NAME = {
    "W": "metropolis()",
    "sequence": "one_peer_exponential()",
    "seed": "0",
    "start": "8",
    "stop": "2",
    "steps": "100",
}
_OF_TYPE = (("Sequence[int]", "[0]"), ("float", "0.1"), ("int", "1"))

#: Every method.
METHODS: tuple[str, ...] = tuple(ALGORITHMS)


def default_arguments(name: str, n: int) -> str:
    """The arguments, beside n, that a method's or topology's name alone stands for.

    >>> default_arguments("torus", 32), default_arguments("ring", 32)
    ('4, 8', '')
    """
    found = _ARGUMENTS.get(name, "")
    return found(n) if callable(found) else found


def part_arguments(option: str, name: str) -> str:
    """The arguments that a part's name alone stands for: mixing, an oracle, faults.

    Those of the option's example, and of what has another name values by what its options ask for, so that
    it can be made, and changed from there.

    >>> part_arguments("mixing", "uniform"), part_arguments("faults", "Byzantine")
    ('0.3', 'workers=[0]')
    """
    each = OPTIONS[option]
    if name_in(each.example) == name:
        _, arguments, options = split_call(each.example)
        return ", ".join([*arguments, *(f"{key}={value}" for key, value in options.items())])
    if name in _ARGUMENTS:
        return default_arguments(name, 0)
    found = []
    asked = split_call(typed(name, each.parts[name]))[1]
    for key, parameter in inspect.signature(each.parts[name]).parameters.items():
        required = parameter.default is parameter.empty and key in asked and key != "n"
        kind = str(parameter.annotation)
        value = _OF_NAME.get(key) or next((v for part, v in _OF_TYPE if part in kind), "")
        if required and value:
            found.append(f"{key}={value}")
    return ", ".join(found)


def part_call(option: str, text: str | None) -> str | None:
    """The call that a part's name, or a call, stands for; None where there is none.

    >>> part_call("oracle", "Minibatch"), part_call("oracle", None)
    ('Minibatch(8)', None)
    """
    if not text:
        return None
    return normalised_call(text if "(" in text else f"{text}({part_arguments(option, text)})")


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


def mixing_code(call: str) -> str:
    """A mixing as a program makes it that has ``topology``, which the text leaves out, and its n.

    >>> mixing_code("lazy(uniform(0.2))"), mixing_code("one_peer_exponential()")
    ('rs.mixing.lazy(rs.mixing.uniform(topology, 0.2))', 'rs.mixing.one_peer_exponential(topology.n)')
    """
    return code_of(ast.unparse(_OnTopology().visit(ast.parse(call, mode="eval"))))


class _OnTopology(ast.NodeTransformer):
    """Gives calls of mixings the graph, or its size, where they take one that is not there."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in MIXINGS:
            return node
        signature = inspect.signature(MIXINGS[name])
        first = next(iter(signature.parameters), "")
        if first == "topology":
            node.args.insert(0, ast.parse("topology", mode="eval").body)
        elif first == "n":
            try:
                signature.bind(*node.args, **{str(each.arg): None for each in node.keywords})
            except TypeError:
                node.args.insert(0, ast.parse("topology.n", mode="eval").body)
        return node
