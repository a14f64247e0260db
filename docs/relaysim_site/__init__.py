"""What the site makes out of the package: pages of methods, figures and modules, with their pictures.

A new method, figure, module or notebook gets its page without an edit here.
"""

from __future__ import annotations

import pathlib
import zlib

from relaysim_site import (
    api,
    formulas,
    gallery,
    methods,
    navigation,
    notebooks,
    pictures,
    references,
    settings,
    tour,
)
from relaysim_site.files import Folder

__all__ = ["setup"]


HERE = pathlib.Path(__file__).parent


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("autodoc-process-docstring", api.list_attributes, priority=100)
    app.connect("autodoc-process-docstring", api.mend_docstring, priority=900)
    app.connect("autodoc-skip-member", api.skip_member)
    app.connect("html-page-context", api.mend_backlinks)
    app.connect(
        "html-page-context", navigation.shared_by_those_outside, priority=400
    )  # before the theme's
    app.connect("viewcode-follow-imported", api.where_alias_stands)
    app.add_transform(formulas.Scripts)
    app.add_post_transform(api.NoGuesses)
    app.add_html_math_renderer(
        "drawn", (formulas.visit_math, None), (formulas.visit_math_block, None)
    )
    # What earlier builds have read is of no use after a change here.
    sources = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
    return {
        "env_version": zlib.crc32(sources),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }


def write_pages(app) -> None:
    """Write what is not written by hand into the source folder; git does not keep it."""
    source = pathlib.Path(app.srcdir)
    root = source.parent
    with Folder(source / "notebooks") as folder:
        notebooks.write(folder, root / "notebooks")
    with Folder(source / "methods") as folder, Folder(source / "gallery") as second:
        pictures.draw(folder, second, root / "notebooks" / "pictures")
        methods.write(folder)
        gallery.write(second)
    with Folder(source / "api") as folder:
        api.write(folder)
    with Folder(source / "settings") as folder:
        settings.write(folder)
    with Folder(source / "bibliography") as folder:
        references.write(folder)
    with Folder(source / "tour") as folder:
        tour.write(folder, root / "README.md")
