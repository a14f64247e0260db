"""A picture of how information spreads: RelaySum beside gossip, round by round."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import os
import pathlib
import string
import uuid
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image

from relaysim.plots.graphs import draw_graph
from relaysim.plots.layouts import Graph, Layout, layout_of
from relaysim.plots.style import drawable, ink_on, style
from relaysim.support.checks import real_number, whole_number
from relaysim.support.files import written_aside
from relaysim.support.progress import progress_bar

__all__ = ["RelayAnimation"]

# So many times as long as another round the last one stands.
HOLD = 3
# Numbers in a larger matrix could not be read.
MOST_WITH_AGES = 20
# Smaller weights, as a share of 1/n, have one colour.
FAINTEST = 0.02
# A weight that is no further from 1/n is 1/n but for rounding.
EXACT = 1e-12
PANEL = 3.4  # inches

PAGE = '<!doctype html>\n<meta charset="utf-8">\n<title>RelaySum beside gossip</title>\n'
# Without scripts, as in a notebook that is not trusted, the first round stands still.
PLAYER = string.Template("""<div id="$id" style="display: inline-block; text-align: center">
<img src="$first" alt="$name" style="max-width: 100%"><br>
<button type="button" aria-label="Play or pause" style="width: 3em">&#9654;</button>
<input type="range" min="0" max="$last" value="0" aria-label="Round"
  style="width: 20em; vertical-align: middle">
</div>
<script>
(() => {
  const {frames, interval, hold} = $settings;
  const box = document.getElementById("$id");
  const [image, button, slider] = ["img", "button", "input"].map((name) => box.querySelector(name));
  let timer = null, waited = 0;
  const show = (round) => { image.src = frames[round]; slider.value = round; waited = 0; };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "\\u25b6"; };
  const next = () => {
    if (!box.isConnected) { stop(); return; }
    const round = Number(slider.value) + 1;
    if (round < frames.length) { show(round); } else if (++waited >= hold) { show(0); }
  };
  const play = () => { timer = setInterval(next, interval); button.textContent = "\\u275a\\u275a"; };
  button.onclick = () => { timer ? stop() : play(); };
  slider.oninput = () => { stop(); show(Number(slider.value)); };
  play();
})();
</script>""")


class _Panel(NamedTuple):
    """What changes between rounds in one half of the picture."""

    image: AxesImage
    workers: PathCollection
    numbers: list[Text]
    status: Text


class RelayAnimation:
    """What `relaysim.analysis.relay_animation` computes, drawn; in a notebook it plays.

    Args:
        topology: the tree that RelaySum uses.
        graph: the graph that gossip uses; the title names it where it is another one.
        worker: whose rows the graphs show.
        relay: weight of worker j in i's sum over its count after each round, ``(rounds + 1, n, n)``.
        age: rounds since what is in that sum was sent, NaN where it holds nothing; likewise.
        gossip: weight of worker j's first vector in what i has by gossip; likewise.
        own_mixing: whether the weights of gossip were given; they are Metropolis weights otherwise.

    Attributes:
        relay, age, gossip, worker: as given.
        rounds: how many.
        figure: the matplotlib Figure.
    """

    def __init__(
        self,
        topology: Graph,
        graph: Graph,
        worker: int,
        relay: np.ndarray,
        age: np.ndarray,
        gossip: np.ndarray,
        own_mixing: bool,
    ):
        self.relay, self.age, self.gossip = relay, age, gossip
        self.rounds = len(relay) - 1
        self._name, self.worker = repr(topology), worker
        with style():
            self.figure = self._draw(topology, graph, own_mixing)
            self.show(0)

    def show(self, round: int) -> Figure:
        """Turn the picture to a round, from 0 on, and return it."""
        t = whole_number(round, "round", 0)
        if t > self.rounds:
            raise ValueError(f"the animation has the rounds 0 … {self.rounds}, not {t}")
        n = self.relay.shape[1]
        self._round = t
        self._title.set_text(f"{self._name}, {'start' if t == 0 else f'round {t}'}")
        for panel, weights in zip(self._panels, (self.relay[t], self.gossip[t]), strict=True):
            panel.image.set_data(_faint(weights))
            panel.workers.set_array(_faint(weights[self.worker]))
            panel.workers.update_scalarmappable()
            inks = ink_on(panel.workers.get_facecolor())
            for number, ink in zip(panel.numbers, inks[: len(panel.numbers)], strict=True):
                number.set_color(ink)
            held = (weights != 0).sum(axis=1)
            low, high = held.min(), held.max()
            off = np.abs(weights - 1 / n).max()
            panel.status.set_text(
                f"holds {f'{low} to {high}' if low < high else low} of {n} workers\n"
                + (f"furthest weight from 1/n: {off:.2g}" if off > EXACT else "every weight is 1/n")
            )
        for rounds_old, cells in enumerate(self._ages):
            rows, columns = np.nonzero(self.age[t] == rounds_old)
            cells.set_data(columns, rows)
        return self.figure

    def save(self, path: str | os.PathLike, *, fps: float = 2, dpi: int = 110) -> pathlib.Path:
        """Write the animation to a file, ``.gif`` or ``.html``; returns its path.

        Args:
            path: where to; the folder must be there.
            fps: rounds a second.
            dpi: pixels an inch.
        """
        path = pathlib.Path(path)
        if path.suffix not in (".gif", ".html"):
            raise ValueError(f"the file must end in .gif or .html, not {path.name!r}")
        if not real_number(fps, "fps") > 0:
            raise ValueError(f"fps must be positive, not {fps!r}")
        with written_aside(path) as aside:
            if path.suffix == ".html":
                aside.write_text(f"{PAGE}{self.to_jshtml(fps=fps, dpi=dpi)}\n", encoding="utf-8")
            else:
                first, *others = self._drawn(dpi)
                lasts = [*[1000 / fps] * self.rounds, HOLD * 1000 / fps]
                options = {"save_all": True, "append_images": others, "duration": lasts}
                first.save(aside, format="gif", loop=0, **options)
        return path

    def to_jshtml(self, *, fps: float = 2, dpi: int = 80) -> str:
        """The animation as HTML that plays by itself, with a slider, and needs no other files."""
        if not real_number(fps, "fps") > 0:
            raise ValueError(f"fps must be positive, not {fps!r}")
        pictures = []
        for frame in self._drawn(dpi):
            buffer = io.BytesIO()
            frame.save(buffer, format="png")
            encoded = base64.b64encode(buffer.getvalue()).decode()
            pictures.append(f"data:image/png;base64,{encoded}")
        settings = {"frames": pictures, "interval": 1000 / fps, "hold": HOLD}
        return PLAYER.substitute(
            id=f"relay-{uuid.uuid4().hex}",
            name=html.escape(f"RelaySum beside gossip on {self._name}, round by round"),
            first=pictures[0],
            last=self.rounds,
            settings=json.dumps(settings),
        )

    def _drawn(self, dpi: int) -> list[Image.Image]:
        """The picture of every round."""
        before, now = self.figure.dpi, self._round
        drawn = []
        with progress_bar(self.rounds + 1, None, "animation", "rounds") as bar, style():
            self.figure.set_dpi(dpi)
            canvas = FigureCanvasAgg(self.figure)
            for t in range(self.rounds + 1):
                self.show(t)
                canvas.draw()
                drawn.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
                bar.update()
            self.figure.set_dpi(before)
            self.show(now)
        return drawn

    @functools.cached_property
    def _html(self) -> str:
        return self.to_jshtml()

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return f"<RelayAnimation of {self._name}: {self.rounds} rounds>"

    def _draw(self, topology: Graph, graph: Graph, own_mixing: bool) -> Figure:
        layouts = [layout_of(topology), layout_of(graph)]
        above = max(PANEL * height / width for width, height in (lay.size for lay in layouts))
        above = float(np.clip(above, 0.35, PANEL))
        # In inches, from the left and from below: nothing moves between rounds.
        left, between, below, labels, titles, bar = 0.7, 0.8, 0.6, 0.65, 0.95, 1.1
        width = left + 2 * PANEL + between + bar
        height = below + PANEL + labels + above + titles
        figure = Figure(figsize=(width, height))

        def axes(x: float, y: float, w: float, h: float) -> Axes:
            return figure.add_axes((x / width, y / height, w / width, h / height))

        norm = LogNorm(FAINTEST / topology.n, 1)
        cmap = matplotlib.colormaps["viridis_r"]
        cmap = cmap.with_extremes(bad="white", under=cmap(0.0))
        where = "" if graph is topology else f" on {graph!r}"
        weights = "given" if own_mixing else "Metropolis"
        names = ("RelaySum", f"Gossip{where}, {weights} weights")
        self._panels = []
        for name, shown_graph, layout, x in zip(
            names, (topology, graph), layouts, (left, left + PANEL + between), strict=True
        ):
            upper = axes(x, below + PANEL + labels, PANEL, above)
            upper.set_title(f"{drawable(name)}\nWeights in what worker {self.worker} has")
            lower = axes(x, below, PANEL, PANEL)
            self._panels.append(self._panel(upper, lower, shown_graph, layout, norm, cmap))
        self._ages = self._age_markers(lower=figure.axes[1])
        self._colour_bar(axes(left + 2 * PANEL + between + 0.25, below, 0.16, PANEL), norm, cmap)
        self._title = figure.text(0.5, 1 - 0.12 / height, "", ha="center", va="top", fontsize=12)
        return figure

    def _panel(
        self,
        upper: Axes,
        lower: Axes,
        graph: Graph,
        layout: Layout,
        norm: Normalize,
        cmap: Colormap,
    ) -> _Panel:
        """One of the two ways: its graph, and below it its matrix."""
        n = graph.n
        mark: dict[str, Any] = {"color": "#D55E00"}
        workers = draw_graph(upper, graph, layout, values=np.ones(n), norm=norm, cmap="viridis_r")
        workers.set_cmap(cmap)
        size = float(np.sqrt(workers.get_sizes()[0])) + 5
        at = layout.at[self.worker]
        ring: dict[str, Any] = {"markersize": size, "fillstyle": "none", "markeredgewidth": 1.6}
        upper.plot(*at, "o", clip_on=False, **ring, **mark)
        image = lower.imshow(np.ones((n, n)), norm=norm, cmap=cmap)
        frame = (-0.5, self.worker - 0.5)
        lower.add_patch(Rectangle(frame, n, 1, fill=False, linewidth=1.6, zorder=3, **mark))
        lower.grid(visible=False)
        lower.spines[:].set_visible(True)
        for axis in (lower.xaxis, lower.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        lower.xaxis.tick_top()
        lower.xaxis.set_label_position("top")
        lower.set_xlabel("Contribution of worker")
        lower.set_ylabel("Worker that has it")
        status = lower.text(0.5, -0.03, "", transform=lower.transAxes, ha="center", va="top")
        return _Panel(image, workers, list(upper.texts), status)

    def _age_markers(self, lower: Axes) -> list[Line2D]:
        """For each age a line without a line, whose markers are that number."""
        n = self.relay.shape[1]
        if n > MOST_WITH_AGES:
            return []
        lower.set_xlabel(f"{lower.get_xlabel()} (number: its age in rounds)")
        oldest = int(np.nanmax(self.age))
        size = min(8.0, 72 * PANEL / n * 0.42)
        look: dict[str, Any] = {
            "linestyle": "none",
            "color": "white",
            "markeredgewidth": 0,
            "zorder": 4,
        }
        markers = []
        for age in range(oldest + 1):
            wide = size * (1.7 if age > 9 else 1)
            markers += lower.plot([], [], marker=f"${age}$", markersize=wide, **look)
        return markers

    def _colour_bar(self, ax: Axes, norm: Normalize, cmap: Colormap) -> None:
        n = self.relay.shape[1]
        weights = ScalarMappable(norm, cmap)
        size = "Weight" if self.gossip.min() >= 0 else "Absolute weight"
        label = f"{size} (white: none)"
        bar = ax.figure.colorbar(weights, cax=ax, label=label, extend="min", extendfrac=0.04)
        decades = [10.0**k for k in range(-9, 1) if FAINTEST / n <= 10.0**k]
        decades = [weight for weight in decades if abs(np.log10(weight * n)) > 0.15]
        bar.set_ticks([1 / n, *decades], labels=["1/n", *(f"{weight:g}" for weight in decades)])
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.axhline(1 / n, color="#D55E00", linewidth=1.6)


def _faint(weights: np.ndarray) -> np.ndarray:
    """Sizes of weights, without those that are none."""
    return np.ma.masked_equal(np.abs(weights), 0)
