"""The code that draws what an explorer shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relaysim.explorer.picture import (
    LEGEND,
    THEORY,
    axes_box,
    figure_size,
    is_wild,
    limits,
    looks,
)
from relaysim.explorer.scene import Scene
from relaysim.studies.naming import code_of

__all__ = ["script"]


def script(scene: Scene) -> str:
    """A complete program of public names, which makes the same histories and the same picture.

    >>> from relaysim.explorer.scene import run
    >>> from relaysim.explorer.settings import Settings
    >>> print(script(run(Settings(n=8, topology="chain", methods=["RelaySGD"]))))
    import matplotlib.pyplot as plt
    <BLANKLINE>
    import relaysim as rs
    <BLANKLINE>
    problem = rs.problems.random_quadratics(n=8, d=10, zeta2=1.0, mu=0.25, seed=0)
    topology = rs.topologies.chain(8)
    <BLANKLINE>
    run = {"steps": 300, "seed": 0}
    histories = {
        "RelaySGD, γ = 0.5": rs.simulate(
            problem, topology, rs.algorithms.RelaySGD(), learning_rate=0.5, **run
        ),
    }
    ...
    """
    settings = scene.settings
    lines = ["import matplotlib.pyplot as plt", "", "import relaysim as rs", ""]
    lines += scene.problem_code
    lines.append(f"topology = {code_of(scene.topology)}")
    if any(curve.on_tree for curve in scene.curves):
        lines.append("tree = rs.topologies.spanning_tree(topology)  # for what needs a tree")
    shared = _shared([curve.given for curve in scene.curves])
    lines += ["", f"run = {_mapping(shared)}", "histories = {"]
    for curve in scene.curves:
        where = "tree" if curve.on_tree else "topology"
        own = {name: value for name, value in curve.given.items() if name not in shared}
        lines += [
            f"    {_quoted(curve.label)}: rs.simulate(",
            f"        problem, {where}, {code_of(curve.call)}, "
            f"learning_rate={curve.learning_rate!r}, **run{',' if own else ''}",
            *(f"        {name}={value}," for name, value in own.items()),
            "    ),",
        ]
    lines += ["}", ""]
    own_looks = looks(scene)
    if own_looks:
        lines.append("looks = {")
        for label, look in own_looks.items():
            lines += [f"    {_quoted(label)}: {{", f"        {_plain(look)[1:-1]}", "    },"]
        lines += ["}", ""]
    options = ", **looks.get(label, {})" if own_looks else ""
    legend = ", ".join(f"{name}={_written(value)}" for name, value in LEGEND.items())
    lines += [
        "with rs.plots.style():",
        "    figure, ax = plt.subplots(",
        f"        figsize={figure_size(scene)!r},",
        f"        gridspec_kw={_plain(axes_box(scene))},",
        "    )",
        "    for label, history in histories.items():",
        f"        history.plot(y={_quoted(settings.y)}, x={_quoted(settings.x)}, ax=ax, "
        f"label=label{options})",
        *_theory(scene),
        f"    ax.legend({legend})",
    ]
    if any(is_wild(curve, settings.y) for curve in scene.curves):
        lines.append('    ax.autoscale(axis="y")')
    if limits(scene):
        ends = ", ".join(f"{end}={value!r}" for end, value in limits(scene).items())
        lines.append(f"    ax.set_ylim({ends})")
    return "\n".join(lines) + "\n"


def _shared(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The arguments that all runs have in common."""
    first = given[0] if given else {}
    return {
        name: value
        for name, value in first.items()
        if all(each.get(name) == value for each in given)
    }


def _theory(scene: Scene) -> list[str]:
    """The lines that lay theory over the curves, and name each kind of line once."""
    known = [_quoted(curve.label) for curve in scene.curves if curve.overlay is not None]
    if not known:
        return []
    return [
        "    names = {",
        *(f"        {_quoted(kind)}: {_quoted(name)}," for kind, name in THEORY.items()),
        "    }",
        "    for label in [",
        *(f"        {each}," for each in known),
        "    ]:",
        f"        exact = rs.theory.overlay(histories[label], {_quoted(scene.settings.y)}, bounds=False)",
        "        for kind, line in exact.draw(ax, names=False).items():",
        '            line.set_label(names.pop(kind, "_"))',
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _written(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _mapping(written: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_quoted(key)}: {value}" for key, value in written.items()) + "}"


def _plain(values: Mapping) -> str:
    return _mapping({key: _written(value) for key, value in values.items()})
