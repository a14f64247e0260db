"""The tree of all pages beside each page: to make it anew takes a third of the time of the site."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["shared_by_sources"]


def shared_by_sources(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Make the tree beside pages of source code once for each depth of folders: none of them is in it."""
    if not pagename.startswith("_modules/"):
        return
    made: Callable[..., str] = context["toctree"]
    known = app.builder.__dict__.setdefault("relaysim_navigation", {})

    def toctree(**options: object) -> str:
        key = (pagename.count("/"), *sorted(options.items()))
        if key not in known:
            known[key] = made(**options)
        return known[key]

    context["toctree"] = toctree
