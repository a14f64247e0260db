"""The controls of an explorer. What they choose is run, drawn and written elsewhere."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets as widgets

from relaysim.explorer.calls import (
    METHODS,
    default_arguments,
    split_call,
    takes_n,
    written_call,
)
from relaysim.explorer.picture import WIDTH, draw, png
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.explorer.scene import EXPECTED, Runner, Scene
from relaysim.explorer.script import script
from relaysim.explorer.settings import (
    ACROSS,
    CONTROLLED,
    FIELDS,
    MOST_WORKERS,
    UPWARD,
    Settings,
)
from relaysim.records.history import History
from relaysim.studies.experiment import decades
from relaysim.studies.naming import TOPOLOGIES

__all__ = ["Explorer", "MethodRow"]


# By setting: what stands beside the control, and its levels. They are round numbers, for code that
# reads well, where a slider over logarithms would turn 0.5 into 0.5011872336272722.
LEVELS: dict[str, tuple[str, list[float]]] = {
    "learning_rate": (
        "γ",
        decades(-4, 1, "1 1.1 1.2 1.4 1.6 1.8 2 2.2 2.5 2.8 3 3.5 4 4.5 5 5.5 6 7 8 9"),
    ),
    "drift": ("drift", [0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
    "alpha": ("Dirichlet α", [*decades(-2, 1), math.inf]),
    **{
        name: (each.title, list(each.levels))
        for name, each in CONTROLLED.items()
        if each.kind is float
    },
}
# From top to bottom; what is not mentioned follows.
ORDER = ("d", "zeta2", "mu", "drift", "alpha", "l2")
TITLES = {
    "step": "steps",
    "vectors_sent": "vectors sent",
    "bits_sent": "bits sent",
    **{name: name.replace("_", " ") for name in UPWARD},
    "distance": "distance to x*",
}
LABEL, CONTROL = "92px", {"width": "320px"}


class MethodRow(widgets.HBox):
    """A method, its arguments, its learning rate, and a button that takes it away."""

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
            tooltip="arguments of the method",
        )
        self.learning_rate = _levels("learning_rate", learning_rate, "20px", {"width": "360px"})
        self.remove = widgets.Button(
            description="✕", layout={"width": "34px"}, tooltip="remove this method"
        )
        super().__init__([self.method, self.arguments, self.learning_rate, self.remove])

    @property
    def call(self) -> str:
        """The method as a call."""
        return written_call(self.method.value, self.arguments.value.strip())


class Explorer(widgets.VBox):
    """Controls, and a picture that follows them; made by `relaysim.explore`.

    Attributes:
        controls: the widgets by the name of the setting that they choose, and ``topology_arguments``.
        rows: a `MethodRow` for each method.
        picture, messages, code_area: what is shown.
        add_button, code_button: add a method; show the code, or hide it.
        scene: the runs in the picture; None where they could not be made.
    """

    def __init__(self, settings: Settings) -> None:
        self.scene: Scene | None = None
        self._runner = Runner()
        self._quiet = False
        self._learning_rate = settings.learning_rate[0] if settings.learning_rate else 0.5
        self.controls = _controls(settings)
        self.rows = [
            MethodRow(*_parts_of_method(method), rate)
            for method, rate in zip(settings.methods, settings.learning_rate, strict=True)
        ]
        width = f"{round(100 * WIDTH)}px"
        self.picture = widgets.Image(format="png", layout={"width": width, "align_self": "center"})
        self.messages = widgets.HTML()
        self.add_button = widgets.Button(description="Add a method", icon="plus")
        self.code_button = widgets.Button(description="Show the code", icon="code")
        self.code_area = widgets.Textarea(layout={"width": "98%", "display": "none"})
        # Progress bars of long runs stand here.
        self._progress = widgets.Output()
        self._methods = widgets.VBox()
        left = [control for name, control in self.controls.items() if name not in ("x", "y")]
        axes = widgets.HBox([self.controls["y"], self.controls["x"]])
        right = widgets.VBox([self.picture, axes])
        top = widgets.HBox([widgets.VBox(left, layout={"min_width": "330px"}), right])
        buttons = widgets.HBox([self.add_button, self.code_button])
        super().__init__(
            [top, self.messages, self._progress, self._methods, buttons, self.code_area]
        )
        for name, control in self.controls.items():
            control.observe(self._arguments_follow if name == "topology" else self._follow, "value")
        for row in self.rows:
            self._watch(row)
        self.add_button.on_click(self._add)
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
        methods = [row.call for row in self.rows]
        further = {name: chosen.pop(name) for name in CONTROLLED if name not in FIELDS}
        chosen["further"] = further
        return Settings(
            methods=methods, learning_rate=[row.learning_rate.value for row in self.rows], **chosen
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

    def _update(self) -> None:
        """Run what is chosen and show it; whatever goes wrong is said below the picture."""
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
        self.messages.value = _as_html(failures, notes)
        self._write_code()

    def _arrange(self) -> None:
        """Show the controls that count, and the rows."""
        own = PROBLEMS[self.controls["problem"].value].settings
        every = {name for problem in PROBLEMS.values() for name in problem.settings}
        for name in every:
            self.controls[name].layout.display = None if name in own else "none"
        self.controls["n"].disabled = not _follows_n(self.controls["topology"].value)
        if self._methods.children != tuple(self.rows):
            self._methods.children = tuple(self.rows)

    def _arguments_follow(self, change: Any) -> None:
        with self._silently():
            arguments = default_arguments(change["new"], self.controls["n"].value)
            arguments = arguments if takes_n(change["new"]) else ""
            self.controls["topology_arguments"].value = arguments
        self._follow()

    # -- methods ---------------------------------------------------------------------------------

    def _watch(self, row: MethodRow) -> None:
        def renamed(change: Any) -> None:
            with self._silently():
                row.arguments.value = default_arguments(change["new"], 0)
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

    @contextlib.contextmanager
    def _silently(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


# -- controls --------------------------------------------------------------------------------------


def _controls(settings: Settings) -> dict[str, widgets.Widget]:
    name, size, arguments = _parts_of_topology(settings.topology, settings.n)
    return {
        "problem": _dropdown(
            "problem", [(p.title, key) for key, p in PROBLEMS.items()], settings.problem
        ),
        **{
            key: _control(key, settings)
            for key in dict.fromkeys((*ORDER, *CONTROLLED))
            if key != "seed"
        },
        "topology": _dropdown("topology", sorted(TOPOLOGIES), name),
        "topology_arguments": widgets.Text(
            arguments,
            description="arguments",
            placeholder="of the topology, beside n",
            continuous_update=False,
            style={"description_width": LABEL},
            layout=CONTROL,
        ),
        "n": _slider("workers n", size, 2, 64, 1),
        "steps": _slider("steps", settings.steps, 10, 2000, 10),
        "seed": _control("seed", settings),
        "x": _dropdown("against", [(TITLES[key], key) for key in ACROSS], settings.x),
        "y": _dropdown("drawn", [(TITLES[key], key) for key in UPWARD], settings.y),
    }


def _control(name: str, settings: Settings) -> widgets.Widget:
    """The control of an option: levels, or a whole number between two ends."""
    each = CONTROLLED.get(name)
    if each is None or each.kind is float:
        return _levels(name, settings.value_of(name))
    least, most = each.levels
    return _number(each.title, settings.value_of(name), int(least), int(most))


def _dropdown(description: str, options: Sequence, value: str) -> widgets.Dropdown:
    return widgets.Dropdown(
        options=options,
        value=value,
        description=description,
        style={"description_width": LABEL},
        layout=CONTROL,
    )


def _number(description: str, value: int, least: int, most: int) -> widgets.BoundedIntText:
    return widgets.BoundedIntText(
        value,
        min=least,
        max=max(most, value),
        description=description,
        style={"description_width": LABEL},
        layout=CONTROL,
    )


def _slider(description: str, value: int, least: int, most: int, step: int) -> widgets.IntSlider:
    return widgets.IntSlider(
        value,
        min=min(least, value),
        max=max(most, value),
        step=step,
        description=description,
        style={"description_width": LABEL},
        layout=CONTROL,
    )


def _levels(
    name: str, value: float, width: str = LABEL, layout: dict | None = None
) -> widgets.SelectionSlider:
    description, levels = LEVELS[name]
    shown = sorted({*levels, value})
    return widgets.SelectionSlider(
        equals=lambda level, other: math.isclose(level, other, rel_tol=1e-9),
        options=[("∞" if level == math.inf else f"{level:g}", level) for level in shown],
        value=value,
        description=description,
        style={"description_width": width},
        layout=CONTROL if layout is None else layout,
    )


def _parts_of_topology(text: str, n: int) -> tuple[str, int, str]:
    """A topology's name, its number of workers, and its other arguments."""
    name, arguments, options = split_call(text)
    if "(" not in text:
        return name, n, default_arguments(name, n) if takes_n(name) else ""
    if takes_n(name):
        size = arguments.pop(0) if arguments else options.pop("n", str(n))
        if not (size.isdecimal() and 1 <= int(size) <= MOST_WORKERS):
            raise ValueError(
                f"n must be a whole number from 1 to {MOST_WORKERS} in topology {text!r}, not {size}"
            )
        n = int(size)
    written = [*arguments, *(f"{key}={value}" for key, value in options.items())]
    return name, n, ", ".join(written)


def _parts_of_method(text: str) -> tuple[str, str]:
    name, arguments, options = split_call(text)
    if "(" not in text:
        return name, default_arguments(name, 0)
    return name, ", ".join([*arguments, *(f"{key}={value}" for key, value in options.items())])


def _follows_n(topology: str) -> bool:
    return takes_n(topology) or bool(default_arguments(topology, 1))


def _as_html(failures: Sequence[str], notes: Sequence[str]) -> str:
    lines = [f'<span style="color:#b00020">{html.escape(text)}</span>' for text in failures]
    lines += [html.escape(text) for text in notes]
    return "<br>".join(lines)
