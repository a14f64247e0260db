"""One look for all pictures, and one colour and dash for each method.

The methods that are compared most have colours of the Okabe–Ito palette, which colour-blind eyes can tell
apart. There are more methods than such colours, so that lightness and dashes together keep all of them
apart, in grey as for colour-blind eyes: tests measure by how much. A method that is not among them gets a
colour and a dash from its label: darker than theirs, so that both of its shades can be told apart as well.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes as Axes  # for rooms that may not import matplotlib themselves
from matplotlib.axis import Axis, XAxis
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from relaysim.plots.ticks import log_ticks, whole_ticks
from relaysim.support.checks import one_of
from relaysim.support.labels import AXIS_LABELS
from relaysim.support.names import labels_of_workers

__all__ = [
    "AXIS_LABELS",
    "NO_VALUE",
    "PAGES",
    "STYLE",
    "add_legend",
    "compressor_style",
    "drawable",
    "hidden_by",
    "ink_on",
    "line_name",
    "method_style",
    "name_workers",
    "new_axes",
    "setting",
    "style",
    "style_axes",
    "variant",
]

# More names beside an axis could not be read.
MOST_NAMES = 40

#: Matplotlib settings of every picture here.
STYLE: Mapping[str, object] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.handlelength": 3.1,  # long enough for the whole of every dash
    "lines.linewidth": 1.8,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}

#: What a page asks for beside: sizes in inches and points, and fonts that journals take.
PAGES: Mapping[str, Mapping[str, object]] = {
    "paper": {
        "figure.figsize": (3.35, 2.35),
        "font.size": 8,
        "axes.titlesize": 8,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "legend.handlelength": 2.6,
        "savefig.dpi": 300,
        "ps.fonttype": 42,
    },
    "paper-wide": {
        "figure.figsize": (6.9, 2.8),
        "font.size": 8,
        "axes.titlesize": 8,
        "lines.linewidth": 1.4,
        "lines.markersize": 4,
        "savefig.dpi": 300,
        "ps.fonttype": 42,
    },
    "slides": {
        "figure.figsize": (9.0, 5.0),
        "font.size": 17,
        "axes.titlesize": 17,
        "lines.linewidth": 3.0,
        "lines.markersize": 9,
    },
    "notebook": {"figure.figsize": (6.4, 4.0), "font.size": 11, "axes.titlesize": 11},
}

#: The colour of what no value is known of.
NO_VALUE = "#d9d9d9"

_METHODS: Mapping[str, tuple[str, object]] = {
    "RelaySGD": ("#D55E00", "-"),
    "RelaySGD/Grad": ("#CC79A7", (0, (3, 1, 6, 1))),
    "RelaySGD/Mix": ("#8C510A", (0, (6, 1.5, 1, 1.5, 1, 1.5))),
    "DP-SGD (gossip)": ("#0072B2", (0, (1, 1))),
    "D²": ("#009E73", (0, (6, 2))),
    "Exact diffusion": ("#35978F", (0, (2, 1))),
    "Gradient tracking": ("#E69F00", (0, (4, 1.5, 1, 1.5))),
    "Quasi-global momentum": ("#6A51A3", (0, (8, 2, 2, 2))),
    "SGP": ("#56B4E9", (0, (3, 3))),
    "All-reduce": ("#000000", (0, (1, 2.5))),
    "CHOCO-SGD": ("#B15928", (0, (1, 3, 4, 3))),
    "Single merge": ("#999933", (0, (6, 1, 1, 3.5))),
    "Dynamic averaging": ("#882255", (0, (3, 1, 3, 3))),
    "Consensus control": ("#44AA99", (0, (10, 1, 1, 1))),
    "PowerGossip": ("#E7298A", (0, (1, 1.5, 1, 3.5))),
    "EXTRA": ("#66A61E", (0, (9, 1.5))),
    "DecentLaM": ("#A6761D", (0, (4, 1, 4, 3))),
    "Momentum consensus": ("#7570B3", (0, (3, 1.5, 3, 1.5, 1, 3.5))),
    "Delayed gradients": ("#80B1D3", (0, (1, 1, 1, 1, 1, 1, 3, 4))),
    "Local SGD": ("#777777", (0, (10, 3.5))),
    "A²CiD²": ("#1B7837", (0, (14, 2))),
    "AD-PSGD": ("#C51B7D", (0, (2, 4))),
    "SwarmSGD": ("#4575B4", (0, (5, 1.5, 1, 4))),
    "DSGD-AC": ("#187643", (0, (2, 4))),
    "AdaGossip": ("#0899AD", (0, (6, 5))),
    "D-Adam": ("#7B2952", (0, (4, 5))),
    "Normalised tracking": ("#155995", (0, (1, 5))),
    "CESAR": ("#D18407", (0, (1.5, 2))),
    "FedAvg": ("#0C21DC", (0, (1, 2))),
    "DADAO": ("#93071D", (0, (1.5, 5, 4, 1))),
    "GT-SVRG": ("#12856C", (0, (2, 1.5, 1.5, 1, 5, 2))),
    "GT-SAGA": ("#4A37CD", (0, (2.5, 3.5, 0.8, 2.5, 4, 1))),
    "GT-SARAH": ("#92415C", (0, (0.8, 5, 0.8, 2, 3, 2.5))),
    "Local rates": ("#7FA047", (0, (1.5, 5))),
    "Push-DIGing": ("#85A02B", (0, (3, 1.5))),
    "Push-pull (AB)": ("#3731B9", (0, (9, 5))),
    "Gossip-PGA": ("#C116B3", (0, (5, 3))),
    "Muffliato": ("#A68836", (0, (2, 2, 5, 5))),
    "Mudag": ("#0560AB", (0, (1, 1, 2, 5))),
    "Heavy-ball consensus": ("#A0277F", (0, (6, 1, 2, 5))),
    "LEAD": ("#15A29F", (0, (8, 2, 1, 2))),
    "BEER": ("#7A422C", (0, (5, 5, 1, 2))),
    "LED": ("#02A690", (0, (2, 1, 2, 3, 2, 3))),
    "K-GT": ("#752B6A", (0, (1.5, 4, 1.5, 1, 5, 1))),
    "ProxSkip": ("#618118", (0, (5, 1, 1, 5, 1, 1))),
    "SCAFFOLD": ("#CD7D51", (0, (3, 1, 1.5, 5))),
    "Clipped gossip": ("#8D1F3D", (0, (0.8, 3, 0.8, 1))),
    "Trimmed mean": ("#7745D3", (0, (1.5, 6, 1.5, 2))),
    "NIDS": ("#2E8327", (0, (2.5, 0.8, 1, 2))),
    "ADMM": ("#C12A42", (0, (3, 6, 2.5, 1.5))),
    "DLM": ("#0AA3AF", (0, (2, 5, 1, 2))),
}

# Compressors are shades of CHOCO-SGD's brown, told apart by dash and marker too.
_COMPRESSORS: Mapping[str, tuple[str, object, str]] = {
    "Identity": ("#5d5d5d", (0, (10, 4)), "."),
    "TopK": ("#7c3e1c", "-", "o"),
    "RandomK": ("#d8ac93", "-", "v"),
    "LowRank": ("#b15928", (0, (1, 1)), "s"),
    "Sign": ("#3e1f0e", (0, (5, 1.5, 1, 1.5)), "^"),
    "QSGD": ("#c4825e", (0, (5, 1.5)), "D"),
    "RandomRounding": ("#8f5a00", (0, (2, 3)), "P"),
    "Lattice": ("#a3704f", (0, (9, 1.5, 2, 5)), "X"),
}

# Of further lines of one method: their markers, and how much paler (or darker, below 0) each is.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SHADINGS = (0.45, -0.45, 0.2)

# For methods that are not in the table: strokes and gaps that can be told apart in one colour (or a line
# without gaps), luminances of the lightness 8 and 30 in CIELAB, and how far from grey colours are.
_FURTHER_DASHES = (
    (4, 2),
    (9, 2.5),
    (7, 1.5),
    (11, 1),
    (2, 1),
    (1.5, 1.5, 3, 1.5),
    (1, 1, 8, 3),
    (4, 1, 5, 1),
    (1.5, 3, 6, 3),
    (1.5, 1, 8, 1),
    (1, 1, 4, 1, 4, 2),
)
_FURTHER_LINES: tuple[object, ...] = ("-", *((0, dash) for dash in _FURTHER_DASHES))
_SHADES = tuple(((lightness + 16) / 116) ** 3 for lightness in (8, 30))
_SATURATION = 0.7
# Share of linear red, green and blue in the luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@contextmanager
def style(page: str | None = None) -> Iterator[None]:
    """Draw with `STYLE`, and leave matplotlib's settings as they were.

    What the user has set otherwise than matplotlib has it stays: a grid switched on, a font, a size.

    Args:
        page: what it is for, which sets sizes and fonts, whatever the user has set of these: ``"paper"``
            (one column, 3.35 inches), ``"paper-wide"`` (two, 6.9 inches), ``"slides"`` or ``"notebook"``.

    Raises:
        ValueError: a page of another name.

    >>> with style("paper"):
    ...     matplotlib.rcParams["figure.figsize"], matplotlib.rcParams["pdf.fonttype"]
    ([3.35, 2.35], 42)
    """
    settings: Any = matplotlib.rcParams  # whose names are literals, other ones in each version
    unset: Any = matplotlib.rcParamsDefault
    wanted = {name: value for name, value in STYLE.items() if settings[name] == unset[name]}
    if page is not None:
        wanted |= PAGES[one_of(page, "page", tuple(PAGES))]
    before = {name: settings[name] for name in wanted}
    # ``matplotlib.rc_context`` would also undo what a notebook sets when its first figure is made, and later
    # figures would not show.
    settings.update(wanted)
    try:
        yield
    finally:
        settings.update(before)


def setting(name: str, otherwise: Any) -> Any:
    """A setting of matplotlib's, where the user or the page has one, or what is taken otherwise."""
    settings: Any = matplotlib.rcParams
    unset: Any = matplotlib.rcParamsDefault
    return otherwise if settings[name] == unset[name] else settings[name]


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure, of this size in inches where the user's settings have none of their own."""
    _, ax = plt.subplots(figsize=setting("figure.figsize", (width, height)), layout="constrained")
    return ax


def method_style(label: str) -> dict[str, Any]:
    """Colour and dash of a method, as keyword arguments for matplotlib.

    A label that has no look in the table gets one by itself, the same in every picture and on every day: one
    of 12 lines in one of two shades, both dark, and any hue.

    >>> method_style("RelaySGD")["color"]
    '#D55E00'
    >>> method_style("My method")
    {'color': '#0b1b16', 'linestyle': (0, (1, 1, 4, 1, 4, 2))}
    """
    color, dash = _METHODS[label] if label in _METHODS else _look_from(label)
    return {"color": color, "linestyle": dash}


def compressor_style(compressor: object) -> dict[str, Any]:
    """Colour, dash and marker of a compressor, as keyword arguments for matplotlib.

    Args:
        compressor: a compressor, its class, or the name of that.

    Raises:
        ValueError: one that is not of `relaysim.compressors`.

    >>> compressor_style("TopK")
    {'color': '#7c3e1c', 'linestyle': '-', 'marker': 'o'}
    """
    kind = compressor if isinstance(compressor, type) else type(compressor)
    name = compressor if isinstance(compressor, str) else kind.__name__
    color, dash, marker = _COMPRESSORS[one_of(name, "compressor", tuple(_COMPRESSORS))]
    return {"color": color, "linestyle": dash, "marker": marker}


def variant(look: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One of the looks of a method that comes several times: its colour, paler or darker, with a marker.

    Args:
        look: of the method, as `method_style` has it.
        number: 0 for the look itself, 1, 2, … for others; they come again after 21.

    >>> variant(method_style("RelaySGD"), 0) == method_style("RelaySGD")
    True
    >>> [variant(method_style("RelaySGD"), k)["marker"] for k in (1, 2, 3)]
    ['o', 's', '^']
    """
    varied = dict(look)
    if number == 0:
        return varied
    number = (number - 1) % (len(_MARKERS) * len(_SHADINGS))
    paler = _SHADINGS[number % len(_SHADINGS)]
    rgb = np.array(to_rgb(look["color"]))
    rgb = rgb + paler * (1 - rgb) if paler > 0 else rgb * (1 + paler)
    varied |= {
        "color": to_hex(np.clip(rgb, 0, 1).tolist()),
        "marker": _MARKERS[number % len(_MARKERS)],
    }
    size = setting("lines.markersize", 5)
    return varied | {"markersize": size, "fillstyle": "none" if number % 2 else "full"}


def _look_from(label: str) -> tuple[str, object]:
    """A dark colour and a dash that a label always gives."""
    drawn = hashlib.sha256(label.encode()).digest()
    dash = _FURTHER_LINES[int.from_bytes(drawn[:4]) % len(_FURTHER_LINES)]
    shade = _SHADES[drawn[4] % len(_SHADES)]
    hue = int.from_bytes(drawn[5:7]) / 2**16
    linear = np.array(colorsys.hsv_to_rgb(hue, _SATURATION, 1.0))
    linear *= shade / (_LUMINANCE @ linear)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = encoded.tolist()
    return to_hex((red, green, blue)), dash


def style_axes(
    ax: Axes, x: str, y: str, labels: Mapping[str, str] = AXIS_LABELS, scale: str = "log"
) -> None:
    """Label the axes by the columns that they show, the vertical one in powers of ten or linear."""
    ax.set_yscale(scale)
    log_ticks(ax)
    if x == "step":
        whole_ticks(ax.xaxis)
    ax.set_xlabel(drawable(labels.get(x, x)))
    ax.set_ylabel(drawable(labels.get(y, y)))


def name_workers(axis: Axis, n: int, *who_may_say: Any, most_numbers: int = 8) -> None:
    """Write the workers' names along an axis, if they have some, and not too many; else some numbers.

    Args:
        axis: of which a unit is a worker.
        n: workers.
        who_may_say: of which the first that has ``worker_names`` does.
        most_numbers: how many numbers there are at the most.
    """
    names = labels_of_workers(n, *who_may_say)
    if names.dtype != object or n > MOST_NAMES:
        axis.set_major_locator(MaxNLocator(most_numbers, integer=True, min_n_ticks=1))
        return
    words = [drawable(name) for name in names]
    axis.set_ticks(range(n), words, fontsize="small")
    if isinstance(axis, XAxis) and sum(map(len, words)) > 40:
        axis.set_tick_params(rotation=90)


def drawable(text: str) -> str:
    r"""The text as matplotlib draws it: with its formulas, or, where they are none, its dollar signs.

    >>> drawable(r"rate $\gamma$"), drawable("$50%$")
    ('rate $\\gamma$', '\\$50%\\$')
    """
    return _drawable(str(text))


@functools.lru_cache(
    maxsize=256
)  # a formula takes 20 ms to read, and a picture has the same ones again
def _drawable(text: str) -> str:
    if not is_math_text(text):
        return text
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace(r"\$", "$").replace("$", r"\$")
    return text


def line_name(text: str) -> str:
    """A name as a legend shows it: matplotlib leaves out those that are empty or begin with an underscore.

    >>> line_name("_mine"), line_name("mine"), line_name("")
    (' _mine', 'mine', ' ')
    """
    return drawable(f" {text}" if str(text)[:1] in ("_", "") else text)


def add_legend(ax: Axes, widen: bool = False, **options: Any) -> Legend:
    """A legend that hides no curve: within the Axes where there is room, else to their right.

    Args:
        ax: the Axes, with all that they show.
        widen: make the figure wider where the legend goes beside its only Axes.
        options: further arguments of ``Axes.legend``.

    Returns:
        The Legend. Where nothing arranges the Axes of a figure anew (``layout=None``) it stays within.
    """
    figure, options = ax.figure, {"fontsize": setting("legend.fontsize", "small")} | options
    legend = ax.legend(**options)
    if not isinstance(figure, Figure) or figure.get_layout_engine() is None:
        return legend
    figure.draw_without_rendering()
    if hidden_by(legend):
        # As many columns as let it end with the figure.
        height = legend.get_window_extent().height
        options |= {"ncols": math.ceil(height / (0.97 * figure.bbox.height))}
        if options["ncols"] > 1:
            legend = ax.legend(**options)
            legend.set_in_layout(False)  # beside these Axes there may be no room for it yet
            figure.draw_without_rendering()
        if widen:
            width, height = figure.get_size_inches()
            figure.set_size_inches(width + legend.get_window_extent().width / figure.dpi, height)
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        legend = ax.legend(**(options | beside))
    return legend


def hidden_by(legend: Legend) -> list[Artist]:
    """The lines and bands of its Axes that an entry of a legend lies over, once all is drawn."""
    left = legend.get_window_extent().x0
    entries = [text.get_window_extent() for text in legend.get_texts()]
    entries = [Bbox.from_extents(left, entry.y0, entry.x1, entry.y1) for entry in entries]
    drawn: list[tuple[Artist, Path, bool]]
    drawn = [(line, line.get_path(), False) for line in legend.axes.lines]
    drawn += [(band, path, True) for band in legend.axes.collections for path in band.get_paths()]
    hidden = []
    for artist, path, filled in drawn:
        path = artist.get_transform().transform_path(path).cleaned(remove_nans=True)
        if any(path.intersects_bbox(entry, filled=filled) for entry in entries):
            hidden.append(artist)
    return hidden


def ink_on(colors: ArrayLike) -> np.ndarray:
    """Black or white, whichever can be read on each of these RGB(A) colours ``(k, 3 or 4)`` in [0, 1].

    >>> ink_on([[1.0, 1.0, 1.0], [0.27, 0.0, 0.33]]).tolist()
    ['black', 'white']
    """
    rgb = np.asarray(colors, dtype=float)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # Above a luminance of 0.18 black has the larger contrast ratio (Y + 0.05 over that of the ink).
    return np.where(linear @ _LUMINANCE > 0.18, "black", "white")
