"""The pictures of the site: every method beside gossip and all-reduce, and every figure.

Beside each picture lies a file with what its page says of it.
"""

from __future__ import annotations

import ast
import doctest
import functools
import inspect
import json
import pathlib
import sys
from collections.abc import Iterable

import joblib
import matplotlib
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

import relaysim as rs
from relaysim.figures import FIGURES
from relaysim.studies.naming import ALGORITHMS
from relaysim.support.progress import progress_bar
from relaysim_site.files import Folder

__all__ = ["draw", "example_of", "facts", "thumbnail"]

STEPS = 300
LEARNING_RATE = 0.2
HALVINGS = 10
TOPOLOGIES = rs.topologies.binary_tree(16), rs.topologies.ring(16), rs.topologies.complete(16)
PROBLEM = {"n": 16, "d": 10, "zeta2": 1.0, "mu": 0.25, "seed": 0}
LOWEST = 1e-12
FIGURE_DPI, THUMBNAIL_DPI = 160, 150
THUMBNAIL = (4.2, 3.15)  # inches


def draw(methods: Folder, figures: Folder, committed: pathlib.Path) -> None:
    """Draw what is missing or older than the package, in as many processes as there are cores.

    Args:
        methods, figures: where to draw.
        committed: pictures in full, which stand in for the quick versions of the same name.
    """
    tasks = []
    for name in FIGURES:
        picture, told = figures.file(f"{name}.png"), figures.file(f"{name}.json")
        if (committed / f"{name}.png").exists():
            figures.copy(f"{name}.png", committed / f"{name}.png")
            described = {"quick": False, "caption": None, "table": None}
            told.write_text(json.dumps(described), encoding="utf-8")
        else:
            tasks.append((draw_figure, name, picture, told, figures.file(f"{name}.csv")))
    for name in ALGORITHMS:
        picture, told = methods.file(f"{name}.png"), methods.file(f"{name}.json")
        tasks.append((draw_method, name, picture, told))
    newest = max(path.stat().st_mtime for path in sources())
    due = [task for task in tasks if not all(made_after(path, newest) for path in task[2:])]
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered")
    with progress_bar(len(due), None, "pictures", "pictures") as bar:
        for _ in parallel(joblib.delayed(function)(*rest) for function, *rest in due):
            bar.update()


def sources() -> list[pathlib.Path]:
    """The files that pictures depend on."""
    packages = pathlib.Path(rs.__file__).parent, pathlib.Path(__file__).parent
    return [path for package in packages for path in package.rglob("*.py")]


def made_after(path: pathlib.Path, moment: float) -> bool:
    """Whether a file is there and newer."""
    return path.exists() and path.stat().st_mtime > moment


def facts(folder: Folder, name: str) -> dict:
    """What was written beside a picture."""
    return json.loads(folder.file(f"{name}.json").read_text(encoding="utf-8"))


def thumbnail(picture: pathlib.Path, small: pathlib.Path) -> pathlib.Path:
    """The upper left corner of a picture, where its first panel stands, with numbers that can be read."""
    with Image.open(picture) as image:
        dpi = image.info.get("dpi", (FIGURE_DPI, FIGURE_DPI))[0]
        size = tuple(round(inches * dpi) for inches in THUMBNAIL)
        corner = Image.new("RGB", size, "white")
        corner.paste(image.convert("RGB"), (0, 0))
    corner.resize([round(inches * THUMBNAIL_DPI) for inches in THUMBNAIL]).save(small)
    return small


# -- figures ---------------------------------------------------------------------------------------


def draw_figure(name: str, picture: pathlib.Path, told: pathlib.Path, table: pathlib.Path) -> None:
    """Draw a figure in its quick version, as the command does, and write down its caption."""
    matplotlib.use("Agg")
    result = FIGURES[name](quick=True, n_jobs=1)
    assert result.save(picture.parent, name, ["png", "csv"]) == [picture, table]
    assert name == "shootout" or not unexplained(result.figure), name  # whose table is the legend
    described = {"quick": True, "caption": result.caption, "table": table.name}
    told.write_text(json.dumps(described), encoding="utf-8")
    matplotlib.pyplot.close(result.figure)


def unexplained(figure: Figure) -> set[tuple[str, str]]:
    """Colours and dashes of black and grey lines that are in no legend of a figure.

    >>> figure = Figure()
    >>> ax = figure.subplots()
    >>> line = ax.axhline(1, color="0.5", linestyle="--", label="the target")
    >>> unexplained(figure)
    {('#808080', '(0.0, (3.7, 1.6))')}
    >>> legend = ax.legend()
    >>> unexplained(figure)
    set()
    """
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    explained = _greys(line for legend in legends for line in legend.get_lines())
    return _greys(line for ax in figure.axes for line in ax.lines) - explained


def _greys(lines: Iterable[Line2D]) -> set[tuple[str, str]]:
    # Markers alone are told by their shape.
    drawn = (line for line in lines if line.get_linestyle() != "None")
    long = (line for line in drawn if len(line.get_xdata()) > 1)
    # All dashes of one's own are called "--".
    looks = {(to_hex(line.get_color()), str(line._unscaled_dash_pattern)) for line in long}
    return {look for look in looks if max(to_rgb(look[0])) < min(0.9, min(to_rgb(look[0])) + 0.02)}


# -- methods ---------------------------------------------------------------------------------------


def example_of(kind: type):
    """An instance of a method: with its defaults, or as its docstring's example makes one.

    >>> example_of(rs.algorithms.D2), example_of(rs.algorithms.SingleMerge)
    (D2(form='own'), SingleMerge(merge_at=100, probability=0.2, local_steps=1, count='ring'))
    """
    given = inspect.signature(kind).parameters.values()
    if all(parameter.default is not parameter.empty for parameter in given):
        return kind()
    names = dict(vars(sys.modules[kind.__module__]))
    for example in doctest.DocTestParser().get_examples(kind.__doc__):
        tree = ast.parse(example.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), kind.__name__, "exec"), names)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == kind.__name__:
                return eval(compile(ast.Expression(node), kind.__name__, "eval"), names)
    raise ValueError(
        f"{kind.__name__} has options without defaults and no example in its docstring that makes "
        f"one; add a line such as `>>> {kind.__name__}(…)`"
    )


def run(method) -> rs.History:
    """A method on the quadratic of all these pictures, at a rate at which it does not diverge.

    On the tree, or where the method refuses it, or diverges at all of `HALVINGS` + 1 rates, on a ring or the
    complete graph.
    """
    problem = rs.problems.random_quadratics(**PROBLEM)
    options: dict = {"steps": STEPS}
    if method.oracle_needs == "examples":
        options["oracle"] = rs.oracles.Table()
    refusal = None
    for topology in TOPOLOGIES:
        for halvings in range(HALVINGS + 1):
            rate = LEARNING_RATE / 2**halvings
            try:
                history = rs.simulate(problem, topology, method, learning_rate=rate, **options)
            except ValueError as error:
                refusal = error
                break
            if not history.diverged.any():
                return history
    raise ValueError(f"{method!r} is refused or diverges on each of {TOPOLOGIES}") from refusal


@functools.cache
def run_beside(other: type, topology: rs.topologies.Topology, rate: float) -> rs.History:
    """A method that others are drawn beside, on the same problem and at their rate."""
    problem = rs.problems.random_quadratics(**PROBLEM)
    return rs.simulate(problem, topology, other(), learning_rate=rate, steps=STEPS)


def draw_method(name: str, picture: pathlib.Path, told: pathlib.Path) -> None:
    """Draw suboptimality against steps and against what was sent, beside gossip and all-reduce."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    method = example_of(ALGORITHMS[name])
    own = run(method)
    topology, rate = own.topology, own.frame.learning_rate.iloc[0]
    beside = [
        run_beside(other, topology, float(rate))
        for other in (rs.algorithms.DPSGD, rs.algorithms.AllReduce)
        if other is not type(method)
    ]
    with rs.plots.style():
        figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.3), sharey=True, layout="constrained")
        for history in [*beside, own]:
            look = {"label": history.label} | rs.plots.method_style(history.label)
            look["linewidth"] = 2.4 if history is own else 1.6
            for ax, x in zip(axes, ("step", "vectors_sent"), strict=True):
                sent = history.frame[history.frame.vectors_sent > 0]
                shown = history.frame if x == "step" else sent
                rs.plots.draw_line(ax, shown, x, "suboptimality", look)
                rs.plots.style_axes(ax, x, "suboptimality")
        axes[0].set_ylim(bottom=LOWEST)
        axes[1].set_xscale("log")
        axes[1].set_ylabel("")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3)
        figure.savefig(picture, dpi=200)
        plt.close(figure)
    last = own.frame.iloc[-1]
    described = {
        "method": repr(method),
        "topology": repr(topology),
        "learning_rate": float(rate),
        "sent_a_step": float(last.vectors_sent / last.step),
        "exact": bool(method.exact),
        "vectors_per_edge": method.vectors_per_edge(PROBLEM["d"]),
        "affine": bool(method.affine),
    }
    told.write_text(json.dumps(described), encoding="utf-8")
