"""The notebooks as they are committed."""

from __future__ import annotations

import json
import pathlib
import re

from relaysim_site.files import Folder

__all__ = ["still", "write"]

WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = '<p class="widget">Controls that need a running kernel: open this notebook in Jupyter to use them.</p>'


def write(folder: Folder, source: pathlib.Path) -> None:
    """Copy the notebooks and what they show: Sphinx reads what lies in its source folder only."""
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix == ".ipynb":
            notebook = still(json.loads(path.read_text(encoding="utf-8")))
            folder.write(str(inside), json.dumps(notebook, ensure_ascii=False, indent=1))
        else:
            folder.copy(str(inside), path)


def still(notebook: dict) -> dict:
    """The same notebook without widgets, which are nothing on paper: a note in their place, or a picture.

    >>> cell = {"outputs": [{"data": {WIDGET: {}, "text/plain": "interactive(…)"}}]}
    >>> made = still({"cells": [cell], "metadata": {"widgets": {}}})
    >>> made["metadata"], list(made["cells"][0]["outputs"][0]["data"])
    ({}, ['text/html', 'text/plain'])
    """
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        shown = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.pop(WIDGET, None) is not None:
                if re.match(r"\s*\d+%\|", "".join(data.get("text/plain", ""))):
                    continue  # a progress bar
                if not any(kind.startswith("image/") for kind in data):
                    output["data"] = {"text/html": NOTE, "text/plain": ""}
            shown.append(output)
        if "outputs" in cell:
            cell["outputs"] = shown
    return notebook
