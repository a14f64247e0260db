"""The page of sources: every entry of the bibliography, what follows it, and its BibTeX."""

from __future__ import annotations

from relaysim.bibliography import OF, all_references
from relaysim.studies.naming import ALGORITHMS
from relaysim_site import rst
from relaysim_site.files import Folder
from relaysim_site.pictures import example_of

__all__ = ["link", "write"]

INTRODUCTION = """What methods, theorems, compressors, weights and graphs follow, as BibTeX in UTF-8. For what
you have used ``print(rs.cite(history))`` writes a ``.bib`` file, with a line for each entry that says what it
is cited for; `relaysim.cite` takes several histories, and methods, compressors, weights and bounds by
themselves. What is not here is derived in relaysim's own documentation."""


def write(folder: Folder) -> None:
    """Write the page."""
    followers: dict[str, list[str]] = {key: [] for key in all_references()}
    for name, kind in ALGORITHMS.items():
        for key in example_of(kind).references:
            followers[key].append(f":doc:`{name} <../methods/{name}>`")
    for name, keys in OF.items():
        for key in keys:
            followers[key].append(f"``{name}``")
    parts = [rst.title("Bibliography"), INTRODUCTION]
    for key, entry in all_references().items():
        parts.append(f".. _ref-{key}:")
        parts.append(rst.title(rst.escaped(f"{entry.authors[0]} {entry.year}: {entry.title}"), "-"))
        if followers[key]:
            parts.append("Followed by " + ", ".join(followers[key]) + ".")
        parts.append(rst.block("code-block:: bibtex", entry.bibtex))
    folder.write("index.rst", "\n\n".join(parts) + "\n")


def link(key: str) -> str:
    """A link to an entry.

    >>> link("tang2018d2")
    ':ref:`tang2018d2 <ref-tang2018d2>`'
    """
    return f":ref:`{key} <ref-{key}>`"
