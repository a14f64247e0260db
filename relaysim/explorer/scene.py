"""What an explorer shows, without the widgets: the runs that follow from the choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relaysim import topologies
from relaysim.engine import simulate
from relaysim.explorer.calls import method_call, topology_call
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.explorer.settings import MOST_WORKERS, Settings
from relaysim.measures.ready import default_measures
from relaysim.problems import Problem
from relaysim.records.history import History
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES, named

__all__ = ["EXPECTED", "Curve", "Runner", "Scene", "run"]

# So many records draw a smooth curve.
RECORDS = 400
# A progress bar is made where a run may take seconds: from so many edges × steps on.
LONG = 1_000_000

#: What can be wrong with choices; the message says how to mend it.
EXPECTED = (ValueError, TypeError, ImportError, OSError, MemoryError, OverflowError, RuntimeError)


class Curve(NamedTuple):
    """A run: its name in the legend, the call that makes its method, its rate, and what came of it."""

    label: str
    call: str
    learning_rate: float
    on_tree: bool
    history: History


@dataclass(frozen=True)
class Scene:
    """The runs that settings stand for.

    Attributes:
        settings: what was chosen.
        problem_code: the lines that make the problem.
        topology: the call that makes the topology.
        record: every so many steps.
        curves: the runs, in the order of the methods.
        notes: what one should know of them.
        failures: what could not be run, and why.
    """

    settings: Settings
    problem_code: list[str]
    topology: str
    record: int
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def histories(self) -> dict[str, History]:
        """The histories by their names in the legend."""
        return {curve.label: curve.history for curve in self.curves}


def run(settings: Settings) -> Scene:
    """Run every method; see `Runner.run`.

    >>> scene = run(Settings(n=8, methods=["RelaySGD", "DPSGD"], learning_rate=0.2, steps=50))
    >>> list(scene.histories), scene.notes
    (['RelaySGD on a spanning tree, γ = 0.2', 'DP-SGD (gossip), γ = 0.2'],
     ['RelaySGD needs a tree and runs on spanning_tree(ring(8), root=0)'])
    """
    return Runner().run(settings)


class Runner:
    """Runs settings, and keeps what it made for the last ones: what did not change is not run again."""

    def __init__(self) -> None:
        self._made: dict[tuple, Any] = {}
        self._before: dict[tuple, Any] = {}

    def run(self, settings: Settings) -> Scene:
        """Run every method.

        A method that needs a tree runs on a spanning tree of a topology that is none, and the notes say
        so; those that cannot run are among the failures, and the others run.

        Raises:
            ValueError, TypeError, ImportError: a problem or a topology that cannot be made.
        """
        self._before, self._made = self._made, {}
        call = topology_call(settings.topology, settings.n)
        topology = self._once(("topology", call), named, call, TOPOLOGIES, "topology")
        if topology.n > MOST_WORKERS:
            raise ValueError(
                f"{call} has {topology.n} workers; the explorer takes at most {MOST_WORKERS}"
            )
        kind = PROBLEMS[settings.problem]
        own = {name: settings.value_of(name) for name in kind.settings}
        made = (topology.n, settings.problem_seed)
        key = ("problem", settings.problem, *made, *own.values())
        problem, problem_code = self._once(key, kind.make, *made, **own)
        scene = Scene(settings, problem_code, call, max(settings.steps // RECORDS, 1))
        if topology.n != settings.n:
            scene.notes.append(f"n = {topology.n}, the workers of {call}")
        if not settings.methods:
            scene.failures.append("there is no method; add one")
        edges = len(getattr(topology, "edges", ())) + topology.n
        options = {
            "steps": settings.steps,
            "record": scene.record,
            **settings.arguments(),
            "seed": settings.seed,
            "measures": _further_measures(problem, settings.y),
        }
        for text, rate in zip(settings.methods, settings.learning_rate, strict=True):
            try:
                method = method_call(text)
                algorithm = named(method, ALGORITHMS, "algorithm")
                on_tree = algorithm.uses == "relay" and not getattr(topology, "is_tree", True)
                where = topology
                if on_tree:
                    where = self._once(("tree", call), topologies.spanning_tree, topology)
                history = self._once(
                    ("history", key, call, method, rate, repr(options)),
                    simulate,
                    problem,
                    where,
                    algorithm,
                    learning_rate=rate,
                    progress=None if edges * settings.steps > LONG else False,
                    **options,
                )
            except EXPECTED as error:
                name, message = text.partition("(")[0].strip(), str(error)
                scene.failures.append(message if name in message else f"{name}: {message}")
                continue
            curve = Curve(_label(history, on_tree, rate), method, rate, on_tree, history)
            if curve.label in scene.histories:
                scene.notes.append(f"{curve.label} is there twice, and drawn once")
                continue
            scene.curves.append(curve)
            scene.notes.extend(r for r in _remarks(curve, settings.y) if r not in scene.notes)
        return scene

    def _once(self, key: tuple, make: Callable, *arguments: Any, **options: Any) -> Any:
        """What was made under this key for the last settings, or is made now."""
        if key not in self._made:
            kept = key in self._before
            self._made[key] = self._before[key] if kept else make(*arguments, **options)
        return self._made[key]


def _further_measures(problem: Problem, y: str) -> list[str] | None:
    """What is to be measured beside what every history has."""
    is_there = y in [measure.name for measure in default_measures(problem)]
    return None if is_there else [y]


def _label(history: History, on_tree: bool, rate: float) -> str:
    where = " on a spanning tree" if on_tree else ""
    parts = [f"{history.label}{where}", *_chosen_options(history.algorithm), f"γ = {rate:g}"]
    gone = f": diverged by step {_diverged_at(history)}" if history.diverged.any() else ""
    return ", ".join(parts) + gone


def _chosen_options(algorithm: Any) -> list[str]:
    """The options of a method that are not its defaults."""
    chosen = []
    for option in dataclasses.fields(algorithm):
        default = option.default
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        value = getattr(algorithm, option.name)
        if value != default:
            chosen.append(f"{option.name} = {value}")
    return chosen


def _diverged_at(history: History) -> int:
    frame = history.frame
    return int(frame["step"][frame["consensus_distance"].isna()].iloc[0])


def _remarks(curve: Curve, y: str) -> list[str]:
    history = curve.history
    remarks = []
    if curve.on_tree:
        method = history.label
        remarks.append(f"{method} needs a tree and runs on {history.topology!r}")
    if history.diverged.any():
        remarks.append(f"{curve.label}; another learning rate may be stable")
    elif not (history.frame[y] > 0).any():
        remarks.append(f"{curve.label}: {y} is 0 throughout, which a log axis cannot show")
    return remarks
