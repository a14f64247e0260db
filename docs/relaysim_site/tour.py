"""The README's sections as a page of their own."""

from __future__ import annotations

import pathlib
import re

from relaysim_site.files import Folder

__all__ = ["write"]

# What other pages say at more length, or what is of no use to a reader of the site.
LEFT_OUT = ("Two commands", "Conventions", "Documentation", "Citing")

PAGE = """# A tour

From a first run to theory, data and sweeps: the README's sections, one after another.

"""


def write(folder: Folder, readme: pathlib.Path) -> None:
    """Write the tour; links to files that are not on the site become their names."""
    _, *sections = re.split(r"^## ", readme.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = [f"## {text}" for text in sections if not text.startswith(LEFT_OUT)]
    text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)", linked, PAGE + "".join(kept))
    folder.write("index.md", text.replace("](notebooks/", "](../notebooks/"))


def linked(found: re.Match) -> str:
    """A Markdown link of the README, or its text where the target is not a page of the site."""
    text, target = found.groups()
    if target.startswith(("http", "notebooks/")):
        return found.group()
    return text if text.startswith("`") else f"`{text}`"
