"""The controls of an explorer: which there are, made from what can be chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import ipywidgets as widgets

from relaysim.explorer.calls import default_arguments, part_arguments, split_call, takes_n
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.explorer.settings import ACROSS, CONTROLLED, MOST_WORKERS, PARTS, UPWARD, Settings
from relaysim.studies.experiment import decades
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES, typed

__all__ = [
    "controls_of",
    "follows_n",
    "levels_of",
    "options_of",
    "parts_of_method",
    "usage",
]

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
NONE = "none"
LABEL, CONTROL = "92px", {"width": "320px"}


def controls_of(settings: Settings) -> dict[str, widgets.Widget]:
    name, size, arguments = _parts_of_topology(settings.topology, settings.n)
    return {
        "problem": _dropdown(
            "problem", [(p.title, key) for key, p in PROBLEMS.items()], settings.problem
        ),
        **{
            key: _control(key, settings)
            for key in dict.fromkeys((*ORDER, *CONTROLLED))
            if key not in ("seed", "target", *PARTS)
        },
        "topology": _dropdown("topology", sorted(TOPOLOGIES), name),
        "topology_arguments": _arguments(arguments, "of the topology, beside n"),
        "n": _slider("workers n", size, 2, 64, 1),
        **_of_parts(settings),
        "steps": _slider("steps", settings.steps, 10, 2000, 10),
        "seed": _control("seed", settings),
        "replicas": _slider("seeds", settings.replicas, 1, 20, 1),
        "theory": widgets.Checkbox(
            settings.theory,
            description="theory",
            style={"description_width": LABEL},
            layout=CONTROL,
        ),
        "target": _control("target", settings),
        "x": _dropdown("against", [(TITLES[key], key) for key in ACROSS], settings.x),
        "y": _dropdown("drawn", [(TITLES[key], key) for key in UPWARD], settings.y),
    }


def _control(name: str, settings: Settings) -> widgets.Widget:
    """The control of an option: levels, or a whole number between two ends."""
    each = CONTROLLED.get(name)
    if each is None or each.kind is float:
        return levels_of(name, settings.value_of(name))
    least, most = each.levels
    return _number(each.title, settings.value_of(name), int(least), int(most))


def _of_parts(settings: Settings) -> dict[str, widgets.Widget]:
    """For each part that may be there or not, its name and its arguments."""
    found: dict[str, widgets.Widget] = {}
    for part in PARTS:
        each, text = CONTROLLED[part], settings.value_of(part)
        name, given = None, ""
        if text:
            name, arguments, options = split_call(text)
            given = ", ".join([*arguments, *(f"{key}={value}" for key, value in options.items())])
            given = given if "(" in text else part_arguments(part, name)
        offered = [("none", None), *((one, one) for one in sorted(each.parts, key=str.lower))]
        found[part] = _dropdown(each.title, offered, name)
        found[f"{part}_arguments"] = _arguments(given, f"such as {each.example}")
    return found


def _arguments(value: str, placeholder: str) -> widgets.Text:
    return widgets.Text(
        value,
        description="arguments",
        placeholder=placeholder,
        continuous_update=False,
        style={"description_width": LABEL},
        layout=CONTROL,
    )


def usage(method: str) -> str:
    """The options of a method, with their defaults."""
    return typed(method, ALGORITHMS[method])


def _dropdown(description: str, options: Sequence, value: str | None) -> widgets.Dropdown:
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


def levels_of(
    name: str, value: float | None, width: str = LABEL, layout: dict | None = None
) -> widgets.SelectionSlider:
    description, levels = LEVELS[name]
    # As texts say it: a slider whose value is None has none.
    given = NONE if value is None else value
    return widgets.SelectionSlider(
        equals=_is_same,
        options=options_of({*levels, given}),
        value=given,
        description=description,
        style={"description_width": width},
        layout=CONTROL if layout is None else layout,
    )


def _is_same(level: float | str, other: float | str) -> bool:
    if isinstance(level, str) or isinstance(other, str):
        return level == other
    return math.isclose(level, other, rel_tol=1e-9)


def options_of(levels: Iterable[float | str]) -> list[tuple[str, float | str]]:
    """Levels in their order with their texts; none, where it is one, comes first."""
    words = [level for level in levels if isinstance(level, str)]
    numbers = sorted(level for level in levels if not isinstance(level, str))
    shown = [("∞" if level == math.inf else f"{level:g}", level) for level in numbers]
    return [*zip(words, words, strict=True), *shown]


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


def parts_of_method(text: str) -> tuple[str, str]:
    name, arguments, options = split_call(text)
    if "(" not in text:
        return name, default_arguments(name, 0)
    return name, ", ".join([*arguments, *(f"{key}={value}" for key, value in options.items())])


def follows_n(topology: str) -> bool:
    return takes_n(topology) or bool(default_arguments(topology, 1))
