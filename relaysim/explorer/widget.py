"""The explorer: its controls, followed by a picture. What they choose is run, drawn and written elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets as widgets

from relaysim.explorer.budget import SEARCH_SECONDS
from relaysim.explorer.calls import (
    METHODS,
    default_arguments,
    method_call,
    part_arguments,
    takes_n,
    written_call,
)
from relaysim.explorer.controls import (
    controls_of,
    follows_n,
    levels_of,
    options_of,
    parts_of_method,
    usage,
)
from relaysim.explorer.numbers import told
from relaysim.explorer.picture import WIDTH, draw, draw_graph, png, saved_as
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.explorer.scene import EXPECTED, Runner, Scene
from relaysim.explorer.script import script
from relaysim.explorer.settings import (
    CONTROLLED,
    FIELDS,
    PARTS,
    Settings,
)
from relaysim.records.history import History
from relaysim.support.files import written_aside

__all__ = ["Explorer", "MethodRow"]

GRAPH_WIDTH = "420px"
# Between parts of a search what has been chosen meanwhile is answered.
PAUSE_SECONDS = 0.02
# A noise floor is one part: it is begun when nothing has been chosen for so long.
AT_REST_SECONDS = 0.4


class MethodRow(widgets.HBox):
    """A method, its arguments, its learning rate, a button that takes it away, and what theory says of it."""

    def __init__(self, name: str, arguments: str, learning_rate: float) -> None:
        self.method = widgets.Dropdown(
            options=sorted({*METHODS, name}, key=str.lower),
            value=name,
            layout={"width": "190px"},
            tooltip="method",
        )
        self.arguments = widgets.Text(
            arguments,
            placeholder="such as momentum=0.9",
            continuous_update=False,
            layout={"width": "170px"},
            tooltip=usage(name),
        )
        self.learning_rate = levels_of("learning_rate", learning_rate, "20px", {"width": "360px"})
        self.remove = widgets.Button(
            description="✕", layout={"width": "34px"}, tooltip="remove this method"
        )
        self.told = widgets.HTML(layout={"width": "420px"})
        super().__init__([self.method, self.arguments, self.learning_rate, self.remove, self.told])

    def take_rate(self, rate: float) -> None:
        """Set the learning rate, which need not be one of the levels."""
        slider = self.learning_rate
        if all(level != rate for _, level in slider.options):
            slider.options = options_of({*(level for _, level in slider.options), rate})
        slider.value = rate

    @property
    def call(self) -> str:
        """The method as a call."""
        return written_call(self.method.value, self.arguments.value.strip())


class Explorer(widgets.VBox):
    """Controls, and a picture that follows them; made by `relaysim.explore`.

    Attributes:
        controls: the widgets by the name of the setting that they choose, and ``topology_arguments``,
            ``mixing_arguments``, ….
        rows: a `MethodRow` for each method.
        picture, graph, messages, code_area: what is shown.
        add_button, tune_button: add a method; tune all learning rates.
        code_button, graph_button: show the code, or the graph, or hide it.
        save_button, save_name: write the picture and the code to files of this name, without its ending.
        scene: the runs in the picture; None where they could not be made.
    """

    def __init__(self, settings: Settings) -> None:
        self.scene: Scene | None = None
        self._runner = Runner()
        self._quiet = False
        self._waiting: asyncio.TimerHandle | None = None
        self._seconds = settings.seconds
        self._learning_rate = settings.learning_rate[0] if settings.learning_rate else 0.5
        self.controls = controls_of(settings)
        self.rows = [
            MethodRow(*parts_of_method(method), rate)
            for method, rate in zip(settings.methods, settings.learning_rate, strict=True)
        ]
        width = f"{round(100 * WIDTH)}px"
        self.picture = widgets.Image(format="png", layout={"width": width, "align_self": "center"})
        self.messages = widgets.HTML()
        self.add_button = widgets.Button(description="Add a method", icon="plus")
        self.tune_button = widgets.Button(
            description="Tune the rates",
            icon="magic",
            tooltip="the rates without noise that are below the target first",
        )
        self.graph_button = widgets.ToggleButton(description="Show the graph", icon="share-alt")
        self.graph = widgets.Image(format="png", layout={"width": GRAPH_WIDTH, "display": "none"})
        self._graph_of: str | None = None
        self.save_button = widgets.Button(
            description="Save", icon="save", tooltip="the picture as .png and .pdf, the code as .py"
        )
        self.save_name = widgets.Text(
            "explorer", layout={"width": "170px"}, tooltip="name of files"
        )
        self.code_button = widgets.Button(description="Show the code", icon="code")
        self.code_area = widgets.Textarea(layout={"width": "98%", "display": "none"})
        # Progress bars of long runs stand here.
        self._progress = widgets.Output()
        self._methods = widgets.VBox()
        left = [control for name, control in self.controls.items() if name not in ("x", "y")]
        axes = widgets.HBox([self.controls["y"], self.controls["x"]])
        right = widgets.VBox([self.picture, axes, self.graph])
        top = widgets.HBox([widgets.VBox(left, layout={"min_width": "330px"}), right])
        buttons = widgets.HBox(
            [
                self.add_button,
                self.tune_button,
                self.graph_button,
                self.code_button,
                self.save_name,
                self.save_button,
            ]
        )
        super().__init__(
            [top, self.messages, self._progress, self._methods, buttons, self.code_area]
        )
        for name, control in self.controls.items():
            if name == "topology":
                control.observe(self._arguments_follow, "value")
            elif name in PARTS:
                control.observe(functools.partial(self._part_follows, name), "value")
            else:
                control.observe(self._follow, "value")
        for row in self.rows:
            self._watch(row)
        self.add_button.on_click(self._add)
        self.tune_button.on_click(self._tune)
        self.graph_button.observe(self._show_graph, "value")
        self.save_button.on_click(self._save)
        self.code_button.on_click(self._show_code)
        self._update()

    # -- what is chosen, and what it makes -------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What the controls say.

        Raises:
            ValueError: what no setting can be.
        """
        chosen = {name: control.value for name, control in self.controls.items()}
        name, arguments = chosen["topology"], chosen.pop("topology_arguments").strip()
        size = str(chosen["n"]) if takes_n(name) else ""
        arguments = arguments or default_arguments(name, chosen["n"])
        chosen["topology"] = written_call(name, size, arguments)
        for part in PARTS:
            given = chosen.pop(f"{part}_arguments").strip()
            chosen[part] = chosen[part] and written_call(chosen[part], given)
        methods = [row.call for row in self.rows]
        further = {name: chosen.pop(name) for name in CONTROLLED if name not in FIELDS}
        chosen["further"] = further
        return Settings(
            methods=methods,
            learning_rate=[row.learning_rate.value for row in self.rows],
            seconds=self._seconds,
            **chosen,
        )

    @property
    def histories(self) -> dict[str, History]:
        """The histories in the picture, by their names in the legend."""
        return {} if self.scene is None else self.scene.histories

    @property
    def code(self) -> str:
        """The program that draws the same picture; empty where there is none."""
        return "" if self.scene is None or not self.histories else script(self.scene)

    # -- following -------------------------------------------------------------------------------

    def _follow(self, _: Any = None) -> None:
        if not self._quiet:
            with self._progress:
                self._update()
            self._progress.outputs = ()

    def _update(self, said: Sequence[str] = ()) -> None:
        """Run what is chosen and show it; whatever goes wrong is said below the picture, after this."""
        self._arrange()
        try:
            self.scene = self._runner.run(self.settings)
            drawn = png(draw(self.scene)) if self.scene.curves else None
            failures, notes = self.scene.failures, self.scene.notes
        except EXPECTED as error:
            self.scene, drawn, failures, notes = None, None, [str(error)], []
        except Exception as error:
            # A callback that raises would leave the old picture beside new controls.
            self.scene, drawn, notes = None, None, []
            failures = [f"an error of relaysim itself, please report it: {error!r}"]
        if drawn is not None:
            self.picture.value = drawn
        self.picture.layout.visibility = "hidden" if drawn is None else "visible"
        self.messages.value = _as_html(failures, [*said, *notes])
        self._write_code()
        self._draw_graph()
        self._tell()
        self._later()

    # -- what theory says in numbers -----------------------------------------------------------------

    def _tell(self) -> None:
        """Beside each learning rate: ρ, the floor, and which rates are stable."""
        curves = [] if self.scene is None else self.scene.curves
        found = {(curve.call, curve.learning_rate): curve for curve in curves}
        for row in self.rows:
            row.told.value = ""
            with contextlib.suppress(ValueError):  # no call can be read there, which has been said
                curve = found.get((method_call(row.call), row.learning_rate.value))
                row.told.value = "" if curve is None else told(curve)

    def _searches(self) -> bool:
        """Whether one for stable rates has not ended."""
        curves = [] if self.scene is None else self.scene.curves
        return any(curve.search is not None and curve.search.found is None for curve in curves)

    def find_the_rest(self, seconds: float = math.inf) -> bool:
        """Go on with noise floors, and for about so long with stable rates; whether all is there.

        A notebook does that by itself when controls rest.
        """
        curves = [] if self.scene is None else self.scene.curves
        for k, curve in enumerate(curves):
            if curve.whole is not None and self.scene is not None:
                curves[k] = curve._replace(whole=None)
                with contextlib.suppress(*EXPECTED):  # what was drawn before stays
                    curves[k] = curves[k]._replace(overlay=curve.whole())
                self.picture.value = png(draw(self.scene))
                self._tell()
                return self.find_the_rest() if seconds == math.inf else False
        for k, curve in enumerate(curves):
            if curve.search is None or curve.search.found is not None:
                continue
            try:
                if not curve.search.go_on(seconds):
                    return False
            except EXPECTED:  # it would fail again
                curves[k] = curve._replace(search=None)
            self._tell()
        return True

    def _later(self) -> None:
        """Search on when what has been chosen meanwhile is answered, a little at a time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # no notebook: whoever wants it calls find_the_rest
        if self._waiting is not None:
            self._waiting.cancel()
        floors = any(curve.whole for curve in ([] if self.scene is None else self.scene.curves))
        if floors or self._searches():
            pause = AT_REST_SECONDS if floors else PAUSE_SECONDS
            self._waiting = loop.call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self.find_the_rest(SEARCH_SECONDS)
        self._later()

    # -- controls ------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Show the controls that count, and the rows."""
        own = PROBLEMS[self.controls["problem"].value].settings
        every = {name for problem in PROBLEMS.values() for name in problem.settings}
        for name in every:
            self.controls[name].layout.display = None if name in own else "none"
        for part in PARTS:
            shown = None if self.controls[part].value else "none"
            self.controls[f"{part}_arguments"].layout.display = shown
        self.controls["n"].disabled = not follows_n(self.controls["topology"].value)
        if self._methods.children != tuple(self.rows):
            self._methods.children = tuple(self.rows)

    def _arguments_follow(self, change: Any) -> None:
        with self._silently():
            arguments = default_arguments(change["new"], self.controls["n"].value)
            arguments = arguments if takes_n(change["new"]) else ""
            self.controls["topology_arguments"].value = arguments
        self._follow()

    def _part_follows(self, part: str, change: Any) -> None:
        with self._silently():
            arguments = part_arguments(part, change["new"]) if change["new"] else ""
            self.controls[f"{part}_arguments"].value = arguments
        self._follow()

    def _tune(self, _: Any) -> None:
        """Give each method the rate that is best without noise; what was found is said."""
        self.tune_button.disabled = True
        try:
            with self._progress:
                try:
                    rates, said = self._runner.tune(self.settings)
                except EXPECTED as error:
                    rates, said = None, [str(error)]
                with self._silently():
                    for row, rate in zip(self.rows, rates or (), strict=rates is not None):
                        row.take_rate(rate)
                self._update(said)
            self._progress.outputs = ()
        finally:
            self.tune_button.disabled = False

    # -- methods ---------------------------------------------------------------------------------

    def _watch(self, row: MethodRow) -> None:
        def renamed(change: Any) -> None:
            with self._silently():
                row.arguments.value = default_arguments(change["new"], 0)
                row.arguments.tooltip = usage(change["new"])
            self._follow()

        def removed(_: Any) -> None:
            self.rows.remove(row)
            self._follow()
            for part in (*row.children, row):
                part.close()

        row.method.observe(renamed, "value")
        row.arguments.observe(self._follow, "value")
        row.learning_rate.observe(self._follow, "value")
        row.remove.on_click(removed)

    def _add(self, _: Any) -> None:
        present = {row.method.value for row in self.rows}
        name = next((name for name in METHODS if name not in present), METHODS[0])
        rate = self.rows[-1].learning_rate.value if self.rows else self._learning_rate
        row = MethodRow(name, default_arguments(name, 0), rate)
        self.rows.append(row)
        self._watch(row)
        self._follow()

    # -- code ------------------------------------------------------------------------------------

    def _show_code(self, _: Any) -> None:
        hidden = self.code_area.layout.display == "none"
        self.code_area.layout.display = None if hidden else "none"
        self.code_button.description = "Hide the code" if hidden else "Show the code"
        self._write_code()

    def _write_code(self) -> None:
        if self.code_area.layout.display == "none":
            return
        self.code_area.value = self.code or "# Nothing is drawn; the message above says why.\n"
        self.code_area.rows = self.code_area.value.count("\n") + 1

    # -- the graph, and files ----------------------------------------------------------------------

    def _show_graph(self, change: Any) -> None:
        self.graph_button.description = "Hide the graph" if change["new"] else "Show the graph"
        self._draw_graph()

    def _draw_graph(self) -> None:
        """Draw the topology where it is shown, and is another one than before."""
        shown = self.graph_button.value and self.scene is not None
        self.graph.layout.display = None if shown else "none"
        if shown and self.scene is not None and self._graph_of != self.scene.topology:
            self.graph.value = png(draw_graph(self.scene))
            self._graph_of = self.scene.topology

    def _save(self, _: Any) -> None:
        """Write the picture and the code; what was written, or why not, is said."""
        if self.scene is None or not self.scene.curves:
            self.messages.value = _as_html(["there is no picture to save"], [])
            return
        name = self.save_name.value.strip() or "explorer"
        files = {
            f"{name}.png": self.picture.value,
            f"{name}.pdf": saved_as(draw(self.scene), "pdf"),
            f"{name}.py": self.code.encode(),
        }
        try:
            for path, content in files.items():
                with written_aside(path) as aside:
                    aside.write_bytes(content)
        except OSError as error:
            self.messages.value = _as_html([str(error)], [])
            return
        said = f"written: {', '.join(files)}"
        self.messages.value = _as_html(self.scene.failures, [said, *self.scene.notes])

    @contextlib.contextmanager
    def _silently(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


def _as_html(failures: Sequence[str], notes: Sequence[str]) -> str:
    lines = [f'<span style="color:#b00020">{html.escape(text)}</span>' for text in failures]
    lines += [html.escape(text) for text in notes]
    return "<br>".join(lines)
