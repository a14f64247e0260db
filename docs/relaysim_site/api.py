"""A page for each module, from its docstrings; every object stands on one page only."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from types import GenericAlias, ModuleType

from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform

import relaysim
from relaysim.studies.naming import ALGORITHMS
from relaysim_site import rst
from relaysim_site.files import Folder

__all__ = [
    "NoGuesses",
    "list_attributes",
    "mend_backlinks",
    "mend_docstring",
    "skip_member",
    "where_alias_stands",
    "write",
]

INTRODUCTION = """What is imported as ``import relaysim as rs``, module by module, from the docstrings. Their
examples are tests of the package."""
INSIDE = """What stands behind the public names, for those who change it. Names here may change from one
version to the next."""


@functools.cache
def places() -> dict[str, dict[str, object]]:
    """For each module the objects of its page: an object belongs where its path is shortest."""
    found: dict[tuple, tuple[tuple, str]] = {}
    names = ["relaysim", *(m.name for m in pkgutil.walk_packages(relaysim.__path__, "relaysim."))]
    modules = {name: importlib.import_module(name) for name in names if "._" not in name}
    for path, module in modules.items():
        for name in getattr(module, "__all__", ()):
            what = getattr(module, name)
            if name.startswith("_") or isinstance(what, ModuleType):
                continue
            rank = (path.count("."), not is_public(path), path)
            key = (name, id(what))
            if key not in found or rank < found[key][0]:
                found[key] = (rank, path)
    pages: dict[str, dict[str, object]] = {path: {} for path in modules}
    for (name, _), (_, path) in found.items():
        pages[path][name] = getattr(modules[path], name)
    return {path: objects for path, objects in pages.items() if objects}


@functools.cache
def is_public(path: str) -> bool:
    """Whether every part of a module's path is a name that its package lists."""
    parent, _, name = path.rpartition(".")
    if not parent:
        return True
    package = importlib.import_module(parent)
    names = getattr(package, "__all__", ())  # a room may only hold what others list
    listed = name in names and isinstance(getattr(package, name), ModuleType)
    return listed and is_public(parent)


def write(folder: Folder) -> None:
    """Write the pages of all modules, and a list of them."""
    for path, objects in places().items():
        # What stands inside is found from the list and by search; menus would be long with it.
        hidden = "" if is_public(path) else ":orphan:\n\n"
        folder.write(f"{path}.rst", hidden + page(path, objects))
    public = [path for path in places() if is_public(path)]
    inside = [path for path in places() if not is_public(path)]
    text = [rst.title("API"), INTRODUCTION, listed(public)]
    text += [rst.title("Inside", "-"), INSIDE, listed(inside)]
    text.append(rst.block("toctree::\n   :hidden:", "\n".join(public)))
    folder.write("index.rst", "\n\n".join(text) + "\n")


def listed(paths: list[str]) -> str:
    """A table of modules and their first lines."""
    rows = []
    for path in paths:
        module = importlib.import_module(path)
        rows.append(
            (f":doc:`{path} <{path}>`", rst.escaped(inspect.getdoc(module).split("\n\n")[0]))
        )
    return rst.table(rows, "modules", header=("Module", "What"))


def page(path: str, objects: dict[str, object]) -> str:
    """A module's page."""
    summaries = [
        (f":py:obj:`{name} <{path}.{name}>`", rst.escaped(first_line(name, what)))
        for name, what in objects.items()
    ]
    # A function may have the name of a module beside it, `relaysim.plots.style`: the name means it.
    hidden = path in {f"{other}.{name}" for other, names in places().items() for name in names}
    text = [
        rst.title(path),
        f".. automodule:: {path}" + ("\n   :no-index:" if hidden else ""),
        f".. py:currentmodule:: {path}",
        rst.table(summaries, "names", header=("Name", "What")),
    ]
    for name, what in objects.items():
        if inspect.isclass(what):
            text.append(f".. autoclass:: {path}::{name}\n   :members:")
        elif callable(what):
            text.append(f".. autofunction:: {path}::{name}")
        else:
            text.append(rst.block(f"py:data:: {name}", rst.escaped(comment_of(name, what))))
    return "\n\n".join(text) + "\n"


def first_line(name: str, what: object) -> str:
    """What an object is, in short."""
    known = inspect.isclass(what) or callable(what)
    text = (inspect.getdoc(what) or "") if known else comment_of(name, what)
    return " ".join(re.split(r"\n\s*\n", text)[0].split())


def comment_of(name: str, value: object) -> str:
    """The ``#:`` comment of a constant, in whichever module it was defined."""
    for path, module in sorted(sys.modules.items()):
        if path.startswith("relaysim") and vars(module).get(name) is value:
            found = ModuleAnalyzer.for_module(path).find_attr_docs().get(("", name))
            if found:
                return " ".join(found).strip()
    return ""


def mend_docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """Make |λ| what it looks like, and lead from a method's class to its page."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            mark = re.match(r"(\s*\| )?", line).group()  # of a line block
            lines[number] = mark + rst.escaped(line[len(mark) :])
    if what == "class" and thing in ALGORITHMS.values():
        called = next(name for name, kind in ALGORITHMS.items() if kind is thing)
        lines += ["", f".. seealso:: its page, with a picture: :doc:`/methods/{called}`", ""]


def list_attributes(app, what, name, thing, options, lines: list[str]) -> None:
    """Make ``Attributes:`` a list before Napoleon reads it, which would link names such as n anywhere."""
    mend_formulas(lines)
    if what == "property":
        lines.insert(0, "")  # or Napoleon takes "The rate: how …" for a type and its description
    if "Attributes:" not in lines:
        return
    first = lines.index("Attributes:")
    end = first + 1
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    made = [".. rubric:: Attributes", ""]
    for line in lines[first + 1 : end]:
        names, colon, text = line.strip().partition(": ")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            quoted = ", ".join(f"``{each.replace('`', '')}``" for each in names.split(", "))
            made.append(f"- {quoted}: {text}")
        else:
            made.append(f"  {line.strip()}".rstrip())
    lines[first:end] = [*made, ""]


def mend_formulas(lines: list[str]) -> None:
    """Make indented formulas under a text lines of their own: a block quote would run them together."""
    first = 1
    while first < len(lines):
        if lines[first].startswith("    ") and not lines[first - 1].strip():
            end = first
            while end < len(lines) and lines[end].strip():
                end += 1
            before = next((line for line in reversed(lines[:first]) if line.strip()), "")
            indented = all(line.startswith("    ") for line in lines[first:end])
            if (
                indented
                and before == before.lstrip()
                and not before.startswith((">>>", "- ", ".."))
            ):
                lines[first:end] = [f"    {line}" for line in rst.line_block(lines[first:end])]
            first = end
        first += 1


def mend_backlinks(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Lead from source code to where it is documented.

    ``sphinx.ext.viewcode`` takes all names of a module to be documented under one path, but some are
    imported elsewhere, as ``relaysim.rebuild`` is from ``relaysim.records.configuration``.
    """
    if not pagename.startswith("_modules/"):
        return
    documented = app.env.domains["py"].objects

    def mended(found: re.Match) -> str:
        page, path = found["page"], found["path"]
        if path in documented:
            return found.group()
        parts = path.split(".")
        for first in range(1, len(parts)):
            name = ".".join(parts[first:])
            for known, entry in documented.items():
                if page.endswith(f"{entry.docname}.html") and known.endswith(f".{name}"):
                    return found.group().replace(f"#{path}", f"#{known}")
        return found.group()

    link = re.compile(r'class="viewcode-back" href="(?P<page>[^"#]*)#(?P<path>[^"]*)"')
    context["body"] = link.sub(mended, context["body"])


def where_alias_stands(app, module: str, path: str) -> str | None:
    """The module of an alias of a type, whose own ``__module__`` is that of ``tuple``: builtins."""
    what: object = importlib.import_module(module)
    for name in path.split("."):
        what = getattr(what, name, None)
    return module if isinstance(what, GenericAlias) else None


class NoGuesses(SphinxPostTransform):
    """Names that several objects have, such as n, are no links: Sphinx would take any of them, and warn."""

    default_priority = 5  # before references are resolved

    def run(self, **options) -> None:
        """Replace such references by their text."""
        python = self.env.domains["py"]
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") != "py":
                continue
            found = python.find_obj(
                self.env,
                node.get("py:module"),
                node.get("py:class"),
                node["reftarget"],
                node["reftype"],
                int(node.hasattr("refspecific")),
            )
            if len(found) > 1 or len(node["reftarget"]) == 1:
                node.replace_self(node.children)


def skip_member(app, what, name, thing, skip, options) -> bool | None:
    """Leave out the fields of named tuples: the class's docstring tells what they are."""
    if re.match(r"Alias for field number \d+", getattr(thing, "__doc__", None) or ""):
        return True
    return None
