"""All figures on one page."""

from __future__ import annotations

import html
import inspect
import pathlib
import time

from relaysim import problems
from relaysim.figures import FIGURES
from relaysim.support.files import written_aside
from relaysim.support.progress import progress_bar
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


def draw_all(folder: pathlib.Path, quick: bool, options: dict) -> pathlib.Path:
    """Draw every figure into a folder, and an ``index.html`` with all of them.

    Args:
        folder: where to write; it must be there.
        quick: small versions.
        options: ``seed`` and ``n_jobs`` where they are not each figure's own.

    Returns:
        The path of the page.
    """
    # Before minutes of work: two figures need an extra.
    problems.data.breast_cancer()
    parts = []
    with progress_bar(len(FIGURES), None, "figures", "figures") as bar:
        for name, draw in FIGURES.items():
            begin = time.perf_counter()
            result = draw(quick=quick, **options)
            result.save(folder, name)
            defaults = {
                key: parameter.default
                for key, parameter in inspect.signature(draw).parameters.items()
            }
            settings = defaults | {"quick": quick} | options
            parts.append(
                ENTRY.format(
                    name=name,
                    alt=html.escape((draw.__doc__ or "").strip().partition("\n")[0]),
                    caption=html.escape(result.caption),
                    settings=", ".join(f"{key} = {value}" for key, value in settings.items()),
                    seconds=time.perf_counter() - begin,
                )
            )
            bar.update()
    page = folder / "index.html"
    command = f"relaysim figure all{' --quick' if quick else ''}"
    text = PAGE.format(version=__version__, command=command, figures="\n".join(parts))
    with written_aside(page) as aside:
        aside.write_text(text, encoding="utf-8")
    return page
