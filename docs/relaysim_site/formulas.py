"""Formulas in plain text, x_i^{t+1}, with real sub- and superscripts, and LaTeX as pictures."""

from __future__ import annotations

import functools
import html
import re

import matplotlib
import numpy as np
from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

__all__ = ["Scripts", "drawn", "split_scripts", "visit_math", "visit_math_block"]

logger = logging.getLogger(__name__)

# x_i, λ_min, Σ_{k=1}^T, Cnt_i^{t+1}, (1 − p)^{2m}, ρ^(2t), τ_i'j: a letter, a few words or what closes a
# group, then scripts. No identifiers: scripts of more than three signs have braces, or say max or min.
SIGN = r"[^\W_⁰¹²³⁴-⁹]"
SCRIPT = rf"(?:\{{[^{{}}]*\}}|\([^()]*\)|[α-ω]?(?:max|min)|{SIGN}{{1,3}}(?:'{SIGN}+)?|[*∞])"
BASE = r"(?<![A-Za-z_.`])(?:mean|avg|deg|Sum|Cnt|[^\W\d_])[\u0300-\u036f]?'?|\d|[)\]‖|]"
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


# What matplotlib calls by other names, or does without.
SYNONYMS = {
    r"\le": r"\leq",
    r"\ge": r"\geq",
    r"\lvert": "|",
    r"\rvert": "|",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    r"\tfrac": r"\frac",
} | {rf"\{size}{side}": "" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r")}
SIZE = 100
LETTERS = {
    Path.MOVETO: "M",
    Path.LINETO: "L",
    Path.CURVE3: "Q",
    Path.CURVE4: "C",
    Path.CLOSEPOLY: "Z",
}


@functools.cache
def drawn(tex: str, display: bool = False) -> str:
    """LaTeX as an inline picture in the colour of the text, by matplotlib's own fonts.

    It needs neither a script nor a font of the reader's.

    Raises:
        ValueError: what matplotlib does not know, such as environments.

    >>> picture = drawn(r"\\frac{1}{n} \\sum_i x_i")
    >>> picture.startswith("<svg "), 'aria-label="\\\\frac{1}{n} \\\\sum_i x_i"' in picture
    (True, True)
    """
    known = re.sub(r"\\[A-Za-z]+", lambda found: SYNONYMS.get(found.group(), found.group()), tex)
    # It wants braces where LaTeX does without: \\frac12, \\mathbf 1.
    known = re.sub(r"\\frac *(\w) *(\w)", r"\\frac{\1}{\2}", known)
    known = re.sub(r"\\(math[a-z]+) +(\w)", r"\\\1{\2}", known)
    if display:
        known = known.replace(r"\frac", r"\dfrac")
    with matplotlib.rc_context({"mathtext.fontset": "cm"}):
        path = TextPath((0, 0), f"${' '.join(known.split())}$", size=SIZE)
    outline = []
    for points, code in path.iter_segments(simplify=False):
        numbers = " ".join(f"{value:.1f}" for value in points * np.tile([1, -1], len(points) // 2))
        outline.append(LETTERS[code] + ("" if code == Path.CLOSEPOLY else numbers))
    box = path.get_extents()
    width, height = box.x1 + 2, box.y1 - box.y0
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex.strip(), quote=True)}" '
        f'viewBox="-1 {-box.y1:.1f} {width:.1f} {height:.1f}" style="width: {width / SIZE:.3f}em; '
        f'height: {height / SIZE:.3f}em; vertical-align: {box.y0 / SIZE:.3f}em">'
        f'<path d="{"".join(outline)}"/></svg>'
    )


def set_formula(node, display: bool) -> str:
    """A formula as a picture, or as MathML where matplotlib cannot draw it."""
    tex = node.astext()
    try:
        return drawn(tex, display)
    except ValueError:
        pass
    try:
        return latex2mathml.tex2mathml(tex, as_block=display)
    except MathError as error:
        logger.warning("a formula that cannot be set, %r: %s", tex, error, location=node)
        return f"<code>{html.escape(tex)}</code>"


def visit_math(translator, node) -> None:
    """An inline formula."""
    translator.body.append(set_formula(node, display=False))
    raise nodes.SkipNode


def visit_math_block(translator, node) -> None:
    """A displayed formula."""
    translator.body.append(f'<div class="math">{set_formula(node, display=True)}</div>\n')
    raise nodes.SkipNode
