"""Small wrong changes to a source file: what each replaces, by what, and where.

A place in the source is changed in one way: which of the ways that it allows, the seed and the place decide,
and nothing else in the file, so that a sample stays the same sample when other lines change.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import pathlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

#: What stands where a comparison stood: the limit moved, or the answer turned round.
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
FUNCTIONS = {
    one: other
    for pair in (
        "min max",
        "minimum maximum",
        "any all",
        "sum mean",
        "argmin argmax",
        "zeros ones",
        "zeros_like ones_like",
        "floor ceil",
        "append extend",
        "real imag",
        "cumsum cumprod",
        "triu tril",
    )
    for one, other in (pair.split(), pair.split()[::-1])
}
#: Whose first two arguments may change places.
SYMMETRIC = (
    "array_equal",
    "allclose",
    "gcd",
    "hypot",
    "isinstance",
    "lcm",
    "max",
    "maximum",
    "min",
    "minimum",
)
#: Arguments without which results are as before: kinds of numbers, and how careful to be.
OF_NO_ACCOUNT = (
    "dtype",
    "strict",
    "copy",
    "stacklevel",
    "check_finite",
    "overwrite_a",
    "overwrite_b",
)


@dataclass(frozen=True)
class Edit:
    """Bytes ``[start, end)`` of a file are replaced.

    `name` tells it from all others of the package, without a line number: what is around it may change.
    """

    file: str
    line: int
    function: str
    kind: str
    start: int
    end: int
    before: str
    after: str
    number: int = 0

    @property
    def name(self) -> str:
        again = f" #{self.number + 1}" if self.number else ""
        return f"{self.file}::{self.function}: {self.before!r} -> {self.after!r}{again}"

    def applied(self, source: bytes) -> bytes:
        """The changed file."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def edits_of(root: pathlib.Path, file: str, seed: int) -> list[Edit]:
    """One change for each place in a file that has any."""
    source = (root / file).read_bytes()
    places: dict[tuple[int, int, str], list[Edit]] = {}
    for edit in _Places(file, source).all():
        places.setdefault((edit.start, edit.end, edit.kind), []).append(edit)
    chosen = []
    seen: Counter[tuple[str, str]] = Counter()
    for ways in places.values():
        first = ways[0]
        number = seen[first.function, first.kind + first.before]
        seen[first.function, first.kind + first.before] += 1
        place = f"{seed} {file} {first.function} {first.kind} {first.before} {number}"
        way = ways[_digest(place) % len(ways)]
        chosen.append(Edit(**{**vars(way), "number": number}))
    return chosen


def shuffled(edits: list[Edit], seed: int) -> list[Edit]:
    """In an order that the seed and each edit's name decide."""
    return sorted(edits, key=lambda edit: _digest(f"{seed} {edit.name}"))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class _Places:
    def __init__(self, file: str, source: bytes):
        self._file, self._source = file, source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def all(self) -> Iterator[Edit]:
        yield from self._statements(ast.parse(self._source).body, "")

    # Statements ---------------------------------------------------------------------------------

    def _statements(self, body: list[ast.stmt], function: str) -> Iterator[Edit]:
        for place, statement in enumerate(body):
            if _is_docstring(statement) and place == 0:
                continue
            yield from self._statement(statement, function)

    def _statement(self, node: ast.stmt, function: str) -> Iterator[Edit]:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                if node.name in ("__repr__", "__str__"):
                    return
                inner = f"{function}.{node.name}" if function else node.name
                if isinstance(node, ast.FunctionDef):
                    for default in (*node.args.defaults, *node.args.kw_defaults):
                        yield from self._expression(default, inner)
                yield from self._statements(node.body, inner)
                return
            case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Pass() | ast.Global():
                return
            case ast.Raise():
                yield self._edit(node, "dropped raise", "pass", function)
                return
            case ast.Continue() | ast.Break():
                yield self._edit(node, "dropped jump", "pass", function)
                return
            case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("__"):
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
        droppable = isinstance(node, ast.AugAssign) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        )
        if isinstance(node, ast.Assign):
            droppable = all(isinstance(to, ast.Attribute | ast.Subscript) for to in node.targets)
        if droppable:
            yield self._edit(node, "dropped statement", "pass", function)
        if isinstance(node, ast.AugAssign):
            for other in ARITHMETIC.get(type(node.op), ()):
                changed = copy.deepcopy(node)
                changed.op = other()
                yield self._edit(node, "arithmetic", ast.unparse(changed), function)
        if isinstance(node, ast.If | ast.While):
            yield self._edit(
                node.test, "condition turned", f"(not ({self._text(node.test)}))", function
            )
        if isinstance(node, ast.If) and not node.orelse and _leaves(node.body):
            yield self._edit(node.test, "branch never taken", "False", function)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "type_comment", "decorator_list", "returns"):
                continue
            for each in field if isinstance(field, list) else [field]:
                if isinstance(each, ast.stmt):
                    yield from self._statement(each, function)
                elif isinstance(each, ast.ExceptHandler | ast.match_case):
                    yield from self._statements(each.body, function)
                elif isinstance(each, ast.withitem):
                    yield from self._expression(each.context_expr, function)
                elif isinstance(each, ast.expr):
                    yield from self._expression(each, function)

    # Expressions --------------------------------------------------------------------------------

    def _expression(self, node: ast.expr | None, function: str) -> Iterator[Edit]:
        if node is None or isinstance(node, ast.JoinedStr):
            return
        if isinstance(node, ast.Call) and _is_named(node.func, "cast", "warn", "TypeVar"):
            return
        for kind, changed in _changes(node):
            yield self._edit(node, kind, f"({ast.unparse(changed)})", function)
        if isinstance(node, ast.Subscript):
            yield from self._expression(node.value, function)
            yield from self._subscript(node, node.slice, function)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from self._expression(child, function)
            elif isinstance(child, ast.keyword) and child.arg not in OF_NO_ACCOUNT:
                yield from self._expression(child.value, function)
            elif isinstance(child, ast.comprehension):
                yield from self._expression(child.iter, function)
                for condition in child.ifs:
                    turned = f"(not ({self._text(condition)}))"
                    yield self._edit(condition, "condition turned", turned, function)
                    yield from self._expression(condition, function)

    def _subscript(self, owner: ast.Subscript, index: ast.expr, function: str) -> Iterator[Edit]:
        for part in index.elts if isinstance(index, ast.Tuple) else [index]:
            if isinstance(part, ast.Slice):
                for bound in (part.lower, part.upper, part.step):
                    yield from self._expression(bound, function)
                if part.lower or part.upper or part.step:
                    yield self._edit(part, "slice", ":", function)
            else:
                yield from self._expression(part, function)

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _edit(self, node: ast.AST, kind: str, after: str, function: str) -> Edit:
        start, end = self._span(node)
        before = self._source[start:end].decode()
        return Edit(self._file, node.lineno, function, kind, start, end, before, after)


def _changes(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[operator, *_]):
            for other in COMPARISONS[type(operator)]:
                changed.ops[0] = other()
                yield "comparison", changed
        case ast.BinOp(op=operator):
            for other in ARITHMETIC.get(type(operator), ()):
                changed.op = other()
                yield "arithmetic", changed
            if isinstance(operator, ast.Sub | ast.Div | ast.MatMult | ast.Pow):
                changed = copy.deepcopy(node)
                changed.left, changed.right = changed.right, changed.left
                yield "swapped operands", changed
        case ast.BoolOp():
            changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
            yield "and for or", changed
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "dropped sign", changed.operand
        case ast.Constant(value=bool()):
            yield "constant", ast.Constant(not changed.value)
        case ast.Constant(value=int()):
            yield "constant", ast.Constant(changed.value + 1)
            yield "constant", ast.Constant(changed.value - 1)
        case ast.Constant(value=float()):
            yield "constant", ast.Constant(changed.value * 2 + (changed.value == 0))
            yield "constant", ast.Constant(changed.value / 2 - (changed.value == 0))
        case ast.IfExp():
            changed.body, changed.orelse = changed.orelse, changed.body
            yield "condition turned", changed
        case ast.Call():
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    same = len(plain) >= 2 and ast.dump(plain[0]) == ast.dump(plain[1])
    if len(plain) == len(node.args) >= 2 and not same and not _is_named(node.func, *SYMMETRIC):
        changed = copy.deepcopy(node)
        changed.args[:2] = changed.args[1::-1]
        yield "swapped arguments", changed
    last = node.keywords[-1].arg if node.keywords else "dtype"
    if last not in OF_NO_ACCOUNT and not _is_named(node.func, "replace", "dict", "field", "option"):
        changed = copy.deepcopy(node)
        del changed.keywords[-1]
        yield "dropped argument", changed
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    name = node.func.id if isinstance(node.func, ast.Name) else name
    if name in FUNCTIONS:
        changed = copy.deepcopy(node)
        if isinstance(changed.func, ast.Attribute):
            changed.func.attr = FUNCTIONS[name]
        else:
            changed.func.id = FUNCTIONS[name]
        yield "other function", changed


def _is_named(function: ast.expr, *names: str) -> bool:
    return (isinstance(function, ast.Name) and function.id in names) or (
        isinstance(function, ast.Attribute) and function.attr in names
    )


def _leaves(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Return | ast.Continue | ast.Break)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
