"""The picture of an explorer."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from relaysim import plots
from relaysim.explorer.scene import Curve, Scene
from relaysim.studies.naming import TOPOLOGIES, named
from relaysim.topologies import TreePair

__all__ = [
    "DPI",
    "LEGEND",
    "THEORY",
    "axes_box",
    "draw",
    "draw_graph",
    "figure_size",
    "is_wild",
    "limits",
    "looks",
    "png",
    "saved_as",
    "theory_lines",
]

DPI = 140
#: The legend stands above the axes, where it hides no curve.
LEGEND = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "fontsize": "small",
    "handlelength": 4,
}
GRAPH = 4.2
WIDTH, AXES_HEIGHT, BELOW, LINE = 6.4, 3.4, 0.52, 0.185
MARKERS = "osD^v*"
#: What lines of theory are called, which are one for each curve.
THEORY = {
    "prediction": "exact, without noise",
    "asymptote": "exact rate in the long run",
    "floor": "exact noise floor",
    "band": "10–90 % of single records there",
}
# A curve that ends this much above its start leaves the picture; it is followed so far above the others.
FAR_ABOVE, ABOVE_THE_OTHERS = 1e6, 1e3
# Two powers of ten, so that labels are these alone.
LEAST_DECADES = 2.0


def figure_size(scene: Scene) -> tuple[float, float]:
    """Width and height in inches."""
    lines = len(scene.curves) + len(theory_lines(scene))
    return WIDTH, round(BELOW + AXES_HEIGHT + LINE * lines + 0.15, 3)


def theory_lines(scene: Scene) -> list[str]:
    """What lines of theory there are, as the legend names them, once for all curves."""
    overlays = [curve.overlay for curve in scene.curves if curve.overlay is not None]
    found = {"prediction": bool(overlays)}
    found["asymptote"] = any(each.asymptote is not None for each in overlays)
    found["floor"] = any(each.floor is not None for each in overlays)
    found["band"] = any(each.band is not None for each in overlays)
    return [THEORY[kind] for kind in THEORY if found[kind]]


def axes_box(scene: Scene) -> dict[str, float]:
    """Where the axes stand, in parts of the figure.

    Laid out by hand, axes stay where they are while numbers change, and drawing takes half as long.
    """
    height = figure_size(scene)[1]
    return {
        "left": 0.125,
        "right": 0.975,
        "bottom": round(BELOW / height, 4),
        "top": round((BELOW + AXES_HEIGHT) / height, 4),
    }


def looks(scene: Scene) -> dict[str, dict[str, Any]]:
    """What sets curves apart beside colour and dash, by label: arguments of ``Axes.plot``.

    Markers, where a method is there more than once; solid lines lie below the dashed ones that come
    before them, which would vanish otherwise.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: Counter = Counter()
    for position, curve in enumerate(scene.curves):
        method = curve.history.label
        look: dict[str, Any] = {}
        if position and plots.method_style(method)["linestyle"] == "-":
            look["zorder"] = 1.9
        if seen[method]:
            marker = MARKERS[(seen[method] - 1) % len(MARKERS)]
            look |= {"marker": marker, "markersize": 4, "markevery": 0.08}
        if look:
            found[curve.label] = look
        seen[method] += 1
    return found


def is_wild(curve: Curve, y: str) -> bool:
    """Whether a curve leaves the picture: it diverges, or ends far above its start."""
    values = curve.history.frame[y]
    return bool(curve.history.diverged.any() or 0 < FAR_ABOVE * values.iloc[0] < values.max())


def limits(scene: Scene) -> dict[str, Any]:
    """Ends of the vertical axis, where those of the curves would not do.

    Curves that leave the picture shall not flatten the others; and an axis of less than a decade has
    labels too long for the room beside it.
    """
    y = scene.settings.y
    columns = [curve.history.frame[y] for curve in scene.curves]
    wild = [is_wild(curve, y) for curve in scene.curves]
    tame = [values.max() for values, is_it in zip(columns, wild, strict=True) if not is_it]
    limit = ABOVE_THE_OTHERS * max(tame) if tame else FAR_ABOVE * max(v.iloc[0] for v in columns)
    limit = float(f"{limit:.2g}")
    found = {"top": limit} if 0 < limit < max(values.max() for values in columns) else {}
    shown = np.concatenate(columns)
    shown = shown[(shown > 0) & (shown <= found.get("top", np.inf))]
    if len(shown) and np.log10(shown.max() / shown.min()) < 0.9 * LEAST_DECADES:
        middle = np.sqrt(shown.max() * shown.min())
        ends = middle / 10 ** (LEAST_DECADES / 2), middle * 10 ** (LEAST_DECADES / 2)
        return dict(zip(("bottom", "top"), (float(f"{end:.3g}") for end in ends), strict=True))
    return found


def draw(scene: Scene) -> Figure:
    """The curves of a scene, as the script that goes with it draws them."""
    settings = scene.settings
    with plots.style():
        figure = Figure(figsize=figure_size(scene))
        ax = figure.subplots(gridspec_kw=axes_box(scene))
        further = looks(scene)
        for label, history in scene.histories.items():
            look = further.get(label, {})
            history.plot(y=settings.y, x=settings.x, ax=ax, label=label, **look)
        names = dict(THEORY)
        for curve in scene.curves:
            if curve.overlay is not None:
                for kind, line in curve.overlay.draw(ax, names=False).items():
                    line.set_label(names.pop(kind, "_"))
        ax.legend(**LEGEND)
        if any(is_wild(curve, settings.y) for curve in scene.curves):
            # The limit that was set for one of them holds for the others no longer.
            ax.autoscale(axis="y")
        if limits(scene):
            ax.set_ylim(**limits(scene))
    return figure


def draw_graph(scene: Scene) -> Figure:
    """The topology of a scene."""
    topology = named(scene.topology, TOPOLOGIES, "topology")
    with plots.style():
        figure = Figure(figsize=(GRAPH, GRAPH), layout="constrained")
        # Both trees of a pair, side by side.
        topology.draw(
            ax=figure.subplots(1, 2) if isinstance(topology, TreePair) else figure.subplots()
        )
    return figure


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    # Little compression, which takes a tenth of the time.
    return saved_as(figure, "png", dpi=DPI, pil_kwargs={"compress_level": 1})


def saved_as(figure: Figure, kind: str, **options: Any) -> bytes:
    """A figure as the bytes of a file."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()
