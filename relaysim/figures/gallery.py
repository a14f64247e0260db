"""All figures on one page."""

from __future__ import annotations

import html
import inspect
import pathlib
import time
from typing import Any

from relaysim import problems
from relaysim.figures import FIGURES
from relaysim.support.files import written_aside
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.version import __version__

__all__ = ["draw_all"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>relaysim: figures</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
  figure {{ margin: 0 0 3rem; }}
  img {{ max-width: 100%; }}
  figcaption {{ color: #333; }}
  .settings {{ color: #666; font-size: 0.9em; }}
</style>
<h1>Figures</h1>
<p>Drawn by relaysim {version}: <code>{command}</code></p>
{figures}
</html>
"""

ENTRY = """<figure id="{name}">
<h2>{name}</h2>
<img src="{name}.png" alt="{alt}">
<figcaption>{caption}</figcaption>
<p class="settings">{settings}; {seconds:.1f} s. <a href="{name}.pdf">pdf</a>,
<a href="{name}.csv">csv</a></p>
</figure>"""


# Those that take the longest begin first, so that no process is left with one of them at the end.
LONGEST = ("shootout", "sensitivity", "zoo", "faults", "stability", "rate-map")


def draw_all(folder: pathlib.Path, quick: bool, options: dict) -> pathlib.Path:
    """Draw every figure into a folder, and an ``index.html`` with all of them.

    Figures that share out their work over processes come first, one after the other; then the others, one a
    process.

    Args:
        folder: where to write; it must be there.
        quick: small versions.
        options: ``seed`` and ``n_jobs`` where they are not each figure's own.

    Returns:
        The path of the page.
    """
    # Before minutes of work: two figures need an extra.
    problems.data.breast_cancer()
    shared = [name for name in FIGURES if _defaults(name).get("n_jobs") != 1]
    alone = sorted(set(FIGURES) - set(shared), key=_place)
    jobs = options.get("n_jobs", -1)
    entries = {}
    with progress_bar(len(FIGURES), None, "figures", "figures") as bar:
        for name in shared:
            entries[name] = _drawn(name, folder, quick, options)
            bar.update()
        one = [(name, folder, quick, options | {"n_jobs": 1}) for name in alone]
        for name, entry in zip(alone, in_processes(_drawn, one, jobs), strict=True):
            entries[name] = entry
            bar.update()
    page = folder / "index.html"
    command = f"relaysim figure all{' --quick' if quick else ''}"
    figures = "\n".join(entries[name] for name in FIGURES)
    text = PAGE.format(version=__version__, command=command, figures=figures)
    with written_aside(page) as aside:
        aside.write_text(text, encoding="utf-8")
    return page


def _defaults(name: str) -> dict[str, Any]:
    """A figure's options as they are by themselves."""
    parameters = inspect.signature(FIGURES[name]).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def _place(name: str) -> int:
    """Where a figure stands among those that are drawn one a process."""
    if name in LONGEST:
        return LONGEST.index(name)
    return len(LONGEST) + list(FIGURES).index(name)


def _drawn(name: str, folder: pathlib.Path, quick: bool, options: dict) -> str:
    """Draw a figure into a folder; its entry on the page."""
    begin, draw = time.perf_counter(), FIGURES[name]
    result = draw(quick=quick, **options)
    result.save(folder, name)
    settings = _defaults(name) | {"quick": quick} | options
    return ENTRY.format(
        name=name,
        alt=html.escape((draw.__doc__ or "").strip().partition("\n")[0]),
        caption=html.escape(result.caption),
        settings=", ".join(f"{key} = {value}" for key, value in settings.items()),
        seconds=time.perf_counter() - begin,
    )
