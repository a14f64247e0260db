"""The tree of all pages beside each page: to make it anew takes a third of the time of the site."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["shared_by_those_outside"]


def shared_by_those_outside(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Make the tree once for all pages of a folder that are not in it, and have no place to mark: pages of
    source code, and modules that stand inside.
    """
    folder = pagename.rpartition("/")[0]
    if folder.startswith("_modules"):
        place: str | int = folder.count("/")  # from each of them a link leads up, and out
    elif "orphan" in app.env.metadata.get(pagename, {}):
        place = folder
    else:
        return
    made: Callable[..., str] = context["toctree"]
    known = app.builder.__dict__.setdefault("relaysim_navigation", {})

    def toctree(**options: object) -> str:
        key = (place, *sorted(options.items()))
        if key not in known:
            known[key] = made(**options)
        return known[key]

    context["toctree"] = toctree
