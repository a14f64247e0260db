"""Texts as earlier versions wrote them: what they say, and how what is said now was written then."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from relaysim.records.configuration import BEFORE

__all__ = ["as_meant", "as_written_before"]

#: Numbers of one setting of which each may have been typed either way; of more, all or none.
_MOST_TYPED = 6
# A number with a decimal point that is a whole one.
_WHOLE = re.compile(r"(?<=[=(, ]|-)(\d+)\.0(?=[,)])")


def as_meant(text: str) -> str:
    """A text that some version wrote, with the options that it left out since there was no choice yet.

    >>> as_meant("QuasiGlobalMomentum(momentum=0.9)")
    "QuasiGlobalMomentum(momentum=0.9, form='toy')"
    """
    return _rewritten(text, _Completed())


def as_written_before(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts, and how earlier versions may have written them: without what was no option yet, and with whole
    numbers as they were typed, 1 or 1.0.

    >>> list(as_written_before(["DPSGD(momentum=0.0, overlap=False)"]))
    [['DPSGD(momentum=0.0, overlap=False)'], ['DPSGD(momentum=0, overlap=False)']]
    """
    shorter = [_rewritten(text, _Shortened()) for text in texts]
    for each in (texts, shorter) if shorter != list(texts) else (texts,):
        # Text, a number, text, a number, …
        pieces = _WHOLE.split("\n".join(each))
        count = len(pieces) // 2
        either = (".0", "")
        few = count <= _MOST_TYPED
        ways = itertools.product(either, repeat=count if few else 1)
        for ends in ways:
            numbers = map("".join, zip(pieces[1::2], ends if few else ends * count, strict=True))
            whole = itertools.chain(*zip(pieces[::2], [*numbers, ""], strict=True))
            yield "".join(whole).split("\n")


def _rewritten(text: str, visitor: ast.NodeTransformer) -> str:
    """The text itself where there is nothing to do."""
    if not any(f"{name}(" in text for name in BEFORE):
        return text
    tree = ast.parse(text, mode="eval")
    before = ast.unparse(tree)
    after = ast.unparse(visitor.visit(tree))
    return text if after == before else after


class _Completed(ast.NodeTransformer):
    """Adds what a call leaves out."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        said = {keyword.arg for keyword in node.keywords}
        for option, value in _before(node).items():
            if option not in said:
                node.keywords.append(ast.keyword(option, ast.Constant(value)))
        return node


class _Shortened(ast.NodeTransformer):
    """Leaves out what is as it was before there was a choice."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        before = {(option, repr(value)) for option, value in _before(node).items()}
        node.keywords = [
            each for each in node.keywords if (each.arg, ast.unparse(each.value)) not in before
        ]
        return node


def _before(node: ast.Call) -> dict[str, Any]:
    return BEFORE.get(node.func.id, {}) if isinstance(node.func, ast.Name) else {}
