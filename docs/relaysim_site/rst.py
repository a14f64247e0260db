"""Pieces of reStructuredText."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

__all__ = ["block", "escaped", "figure", "formula", "line_block", "table", "title"]


def title(text: str, mark: str = "=") -> str:
    """A heading; wide signs count one column here and two there, so that the line is long."""
    return f"{text}\n{mark * (2 * len(text))}"


def block(directive: str, content: str) -> str:
    """A directive, with its options if any, and its content."""
    return f".. {directive}\n\n{textwrap.indent(content, '   ')}".rstrip()


def escaped(text: str) -> str:
    """A docstring's text with |λ| as it stands, not as a substitution; code stays as it is.

    >>> escaped("1 − |λ₂| of ``a | b``")
    '1 − \\\\|λ₂\\\\| of ``a | b``'
    """
    pieces = re.split(r"(``.*?``)", text, flags=re.DOTALL)
    return "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in pieces)


def formula(text: str) -> str:
    """A paragraph of a rule, every formula of it on a line of its own.

    >>> formula("m ← βm + g;  X ← X − γm, where\\nm is the momentum")
    'm ← βm + g;\\n\\nX ← X − γm, where m is the momentum'
    """
    if all(line.startswith("    ") for line in text.splitlines()):
        return "\n".join(f"| {escaped(line[2:])}" for line in line_block(text.splitlines()))
    lines = re.split(r"(?<=;)(?:  +|\n)|(?<=:)\n", text)
    return "\n\n".join(escaped(" ".join(line.split())) for line in lines)


def line_block(lines: Sequence[str]) -> list[str]:
    """Indented formulas with a line each; wide gaps stay wide.

    >>> line_block(["    x ← y,  y ← z", "    i and j meet:      x ← y"])
    ['| x ← y,\u2003y ← z', '| i and j meet:\u2003x ← y']
    """
    return [f"| {re.sub(r'  +', chr(0x2003), line.strip())}" for line in lines]


def figure(path: str, alternative: str, caption: str) -> str:
    """A picture with its caption."""
    return f".. figure:: {path}\n   :alt: {alternative}\n   :class: picture\n\n   {caption}"


def table(rows: Sequence[Sequence[str]], kind: str, header: Sequence[str] = ()) -> str:
    """A table; its first column is a heading where it has no header of its own."""
    lines = [".. list-table::", f"   :class: {kind}"]
    lines.append("   :header-rows: 1" if header else "   :stub-columns: 1")
    lines.append("")
    for row in [header, *rows] if header else rows:
        for position, cell in enumerate(row):
            lines.append(f"   {'*' if position == 0 else ' '} - {' '.join(cell.split())}")
    return "\n".join(lines)
