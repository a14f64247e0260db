"""Every figure on one page, with its caption and the code that draws it."""

from __future__ import annotations

import inspect
import re

from relaysim.figures import FIGURES
from relaysim_site import rst
from relaysim_site.files import Folder
from relaysim_site.pictures import facts, thumbnail

__all__ = ["write"]

INTRODUCTION = """Figures of the RelaySum paper with our numbers in them, and others. ``relaysim figure
all --out figures`` draws them all in full, in some minutes. Some of them are shown in a *quick* version, with
fewer workers and steps, that was drawn when this site was built; the others are the full ones. The code
beside each draws what is shown."""


def write(folder: Folder) -> None:
    """Write the page of all figures."""
    told = {name: facts(folder, name) for name in FIGURES}
    overview = []
    for name in FIGURES:
        small = thumbnail(folder.file(f"{name}.png"), folder.file(f"{name}-small.png"))
        link = f"   :alt: {name}\n   :target: #{name}"
        overview.append(f".. figure:: {small.name}\n{link}\n\n   {name}")
    text = [
        rst.title("Gallery"),
        INTRODUCTION,
        rst.block("container:: thumbnails", "\n\n".join(overview)),
    ]
    text += [entry(name, draw, told[name]) for name, draw in FIGURES.items()]
    folder.write("index.rst", "\n\n".join(text) + "\n")


def entry(name: str, draw, told: dict) -> str:
    """A figure: what it shows, the picture, its caption, and the code."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(draw).strip())
    summary = paragraphs[0]
    details = [p for p in paragraphs[1:] if not p.startswith(("Args:", "Returns:", ">>>"))]
    caption = told["caption"] or " ".join(details)
    version = "Quick version." if told["quick"] else "Full version."
    numbers = f" Its numbers: :download:`{told['table']}`." if told["table"] else ""
    quick = "quick=True" if told["quick"] else ""
    flag = " --quick" if told["quick"] else ""
    return "\n\n".join(
        [
            f".. _{name}:",
            rst.title(name, "-"),
            rst.escaped(summary),
            rst.figure(
                f"{name}.png",
                f"Figure {name}",
                rst.escaped(f"{version} {' '.join(caption.split())}{numbers}"),
            ),
            rst.block("code-block:: sh", f"relaysim figure {name}{flag} --out figures"),
            rst.block(
                "code-block:: python",
                f"from relaysim.figures import FIGURES\n\n"
                f'result = FIGURES["{name}"]({quick})  # a figure, its numbers and its caption\n'
                f'result.save("figures", "{name}")',
            ),
            f"Drawn by `{draw.__module__}.{draw.__name__}`.",
        ]
    )
