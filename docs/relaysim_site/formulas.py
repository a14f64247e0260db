"""Formulas in plain text, x_i^{t+1}, with real sub- and superscripts, and LaTeX as MathML."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

__all__ = ["Scripts", "split_scripts", "visit_math", "visit_math_block"]

# x_i, λ_min, Σ_{k=1}^T, Cnt_i^{t+1}, (1 − p)^{2m}, ρ^(2t), τ_i'j: a letter, a few words or what closes a
# group, then scripts. No identifiers: scripts of more than three signs have braces, or say max or min.
SIGN = r"[^\W_⁰¹²³⁴-⁹]"
SCRIPT = rf"(?:\{{[^{{}}]*\}}|\([^()]*\)|[α-ω]?(?:max|min)|{SIGN}{{1,3}}(?:'{SIGN}*)?|[*∞])"
BASE = r"(?<![A-Za-z_.`/])(?:mean|avg|Sum|Cnt|[^\W\d_])[\u0300-\u036f]?'?|\d|[)\]‖|]"
FORMULA = re.compile(rf"({BASE})((?:_(?!\(){SCRIPT}|\^{SCRIPT})+)(?![A-Za-z0-9_])")
# Code keeps its underscores.
VERBATIM = (
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.comment,
    nodes.doctest_block,
    nodes.pending,
    addnodes.desc_signature,
    addnodes.literal_emphasis,
    addnodes.literal_strong,
    addnodes.toctree,
)


def split_scripts(text: str) -> list[tuple[str, str]]:
    """Pieces of a text, each with what it is: "text", "sub" or "sup".

    >>> split_scripts("x_i^{t+1} = 0 in learning_rate")
    [('text', 'x'), ('sub', 'i'), ('sup', 't+1'), ('text', ' = 0 in learning_rate')]
    >>> split_scripts("x_i⁰, λ_min(W) and (1 − p)^{2m}")[1:6:2]
    [('sub', 'i'), ('sub', 'min'), ('sup', '2m')]
    """
    pieces, end = [], 0
    for found in FORMULA.finditer(text):
        base, scripts = found.groups()
        if base.isdigit() and scripts[0] == "_":
            continue
        pieces.append(("text", text[end : found.start()] + base))
        for mark, script in re.findall(rf"([_^])({SCRIPT})", scripts):
            pieces.append(("sub" if mark == "_" else "sup", script.strip("{}()")))
        end = found.end()
    pieces.append(("text", text[end:]))
    return [piece for piece in pieces if piece[1]]


class Scripts(SphinxTransform):
    """Sets x_i^t in prose as a formula."""

    default_priority = 600

    def apply(self, **options) -> None:
        """Replace every text in which there is such a formula."""
        for text in list(self.document.findall(nodes.Text)):
            if "_" not in text and "^" not in text:
                continue
            ancestor = text.parent
            while ancestor is not None and not isinstance(ancestor, VERBATIM):
                ancestor = ancestor.parent
            if ancestor is None:
                pieces = split_scripts(text.astext())
                if len(pieces) > 1:
                    text.parent.replace(text, [made(*piece) for piece in pieces])


def made(kind: str, text: str) -> nodes.Node:
    """The node of a piece; a script may hold scripts, (n, x^{τ_ij})."""
    if kind == "text":
        return nodes.Text(text)
    node = (nodes.subscript if kind == "sub" else nodes.superscript)(text, "")
    for piece in split_scripts(text):
        node += made(*piece)
    return node


def visit_math(translator, node) -> None:
    """An inline formula, which browsers set themselves."""
    translator.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator, node) -> None:
    """A displayed formula."""
    formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode
