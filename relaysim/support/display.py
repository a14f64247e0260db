"""How objects show themselves in notebooks: small tables of what they are, never their arrays.

Only greys that are half transparent are set, and no colours of text or background, so that a table has
those of the notebook, light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaysim.support.checks import shown

__all__ = ["LATER", "between", "html_table", "plain"]

#: In place of a number that takes long to compute and that nobody has asked for.
LATER = "computed when asked for"

_LONGEST = 160
_TABLE = "border-collapse: collapse; color: inherit; background: none; font-size: 95%"
_CELL = "text-align: left; vertical-align: top; padding: 0.2em 1.5em 0.2em 0; border: none; "
_CELL += "border-bottom: 1px solid rgba(128, 128, 128, 0.35); "
_NAME = _CELL + "font-weight: normal; opacity: 0.75; white-space: nowrap"
_VALUE = _CELL + "font-variant-numeric: tabular-nums; max-width: 40em"
_TITLE = _CELL + "max-width: 50em"


def html_table(title: str, rows: Iterable[tuple[str, Any]], caption: str = "") -> str:
    """A table of names and values as HTML, all of it escaped.

    Args:
        title: in the first row, in bold.
        rows: pairs (name, value); values as `plain` writes them.
        caption: a line below the title.

    >>> text = html_table("Ring", [("workers", 8), ("name", "<b>")])
    >>> "8</td>" in text, "&lt;b&gt;</td>" in text
    (True, True)
    """
    below = f'<br><span style="font-weight: normal">{html.escape(caption)}</span>'
    below = below if caption else ""
    head = f'<tr><th colspan="2" style="{_TITLE}">{html.escape(plain(title))}{below}</th></tr>'
    body = "".join(
        f'<tr><th style="{_NAME}">{html.escape(name)}</th>'
        f'<td style="{_VALUE}">{html.escape(plain(value))}</td></tr>'
        for name, value in rows
    )
    return f'<table style="{_TABLE}">{head}{body}</table>'


def plain(value: Any) -> str:
    """A value in one short line: text as it is, six digits of a number, the shape of an array.

    >>> plain(0.1 + 0.2), plain(True), plain(np.zeros((3, 2))), plain(None)
    ('0.3', 'yes', 'a numpy.ndarray of shape (3, 2)', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else shown(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def between(values: ArrayLike) -> str:
    """The range of some numbers: one number where all are equal.

    >>> between([3, 1, 2]), between([0.5, 0.5])
    ('1 to 3', '0.5')
    """
    given = np.asarray(values)
    low, high = given.min().item(), given.max().item()
    return plain(low) if low == high else f"{plain(low)} to {plain(high)}"
