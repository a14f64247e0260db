"""What an explorer shows, without the widgets: the runs that follow from the choices."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relaysim import topologies
from relaysim.engine import simulate
from relaysim.explorer.budget import Budget, affordable_theory, floor_steps
from relaysim.explorer.calls import method_call, mixing_code, topology_call
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.explorer.settings import CONTROLLED, MOST_WORKERS, Settings
from relaysim.measures.ready import default_measures
from relaysim.oracles import Table
from relaysim.problems import Problem
from relaysim.records.history import History
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES, code_of, name_in, named, written
from relaysim.studies.tuning import searched
from relaysim.theory.linear import OF_THE_MEAN, relaxation_time
from relaysim.theory.overlay import FORGOTTEN, Overlay, overlay
from relaysim.theory.stability import WindowSearch

__all__ = ["EXPECTED", "Curve", "Runner", "Scene", "run"]

# So many records draw a smooth curve.
RECORDS = 400
# A progress bar is made where a run may take seconds: from so many edges × steps on.
LONG = 1_000_000
# Digits of a rate that was tuned.
DIGITS = 3

#: What can be wrong with choices; the message says how to mend it.
EXPECTED = (ValueError, TypeError, ImportError, OSError, MemoryError, OverflowError, RuntimeError)


class Curve(NamedTuple):
    """A run: its name in the legend, the call that makes its method, its rate, and what came of it.

    ``given`` are the further arguments of `relaysim.simulate`, as code, ``overlay`` what theory says,
    where it was asked for and says something. What takes longer than an answer comes after it: ``search``
    finds the stable rates, and ``whole`` is theory with the noise floor, where that is not there yet.
    """

    label: str
    call: str
    learning_rate: float
    on_tree: bool
    given: dict[str, str]
    history: History
    overlay: Overlay | None = None
    search: WindowSearch | None = None
    whole: Callable[[], Overlay] | None = None


@dataclass(frozen=True)
class Scene:
    """The runs that settings stand for.

    Attributes:
        settings: what was chosen.
        problem_code: the lines that make the problem.
        topology: the call that makes the topology.
        curves: the runs, in the order of the methods.
        notes: what one should know of them.
        failures: what could not be run, and why.
    """

    settings: Settings
    problem_code: list[str]
    topology: str
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def histories(self) -> dict[str, History]:
        """The histories by their names in the legend."""
        return {curve.label: curve.history for curve in self.curves}

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)


def run(settings: Settings) -> Scene:
    """Run every method; see `Runner.run`.

    >>> scene = run(Settings(n=8, methods=["RelaySGD", "DPSGD"], learning_rate=0.2, steps=50))
    >>> list(scene.histories), scene.notes
    (['RelaySGD on a spanning tree, γ = 0.2', 'DP-SGD (gossip), γ = 0.2'],
     ['RelaySGD needs a tree and runs on spanning_tree(ring(8), root=0)'])
    """
    return Runner().run(settings)


class _Method(NamedTuple):
    """A method as it is run: its call, itself, where, and the further parts of the run, with their calls."""

    call: str
    algorithm: Any
    topology: Any
    on_tree: bool
    parts: dict[str, Any]
    calls: dict[str, str]


class Runner:
    """Runs settings, and keeps what it made for the last ones: what did not change is not run again."""

    def __init__(self) -> None:
        self._made: dict[tuple, Any] = {}
        self._before: dict[tuple, Any] = {}

    def run(self, settings: Settings) -> Scene:
        """Run every method, each for as many steps as there is time for.

        A method that needs a tree runs on a spanning tree of a topology that is none, and the notes say
        so; those that cannot run are among the failures, and the others run.

        Raises:
            ValueError, TypeError, ImportError: a problem or a topology that cannot be made.
        """
        time = Budget(settings.seconds, len(settings.methods))
        scene, problem, topology = self._begin(settings)
        for text, rate in zip(settings.methods, settings.learning_rate, strict=True):
            try:
                method = self._method(scene, text, problem, topology)
                curve = self._curve(scene, method, rate, problem, time)
            except EXPECTED as error:
                scene.failures.append(_said_of(text, error))
                continue
            finally:
                time.next()
            if curve.label in scene.histories:
                scene.notes.append(f"{curve.label} is there twice, and drawn once")
                continue
            scene.curves.append(curve)
            for remark in _remarks(curve, settings):
                scene.note(remark)
        return scene

    def tune(self, settings: Settings) -> tuple[list[float], list[str]]:
        """For each method the best learning rate without noise, or the one it has; and what is to be said.

        Raises:
            ValueError, TypeError, ImportError: as `run`.
        """
        scene, problem, topology = self._begin(settings)
        target = settings.value_of("target")
        rates, notes = list(settings.learning_rate), scene.notes
        for k, text in enumerate(settings.methods):
            try:
                method = self._method(scene, text, problem, topology)
                found = searched(
                    problem,
                    method.topology,
                    method.algorithm,
                    target=target,
                    max_steps=settings.steps,
                    mixing=method.parts.get("mixing"),
                    oracle=method.parts["oracle"] if _needs_examples(method.algorithm) else None,
                )
            except EXPECTED as error:
                notes.append(_said_of(text, error))
                continue
            if math.isnan(found.learning_rate):
                notes.append(
                    f"no learning rate brings {found.label} below {target:g} within {settings.steps} "
                    f"steps; take another target, or more steps"
                )
                continue
            rates[k] = float(f"{found.learning_rate:.{DIGITS}g}")
            notes.append(
                f"{found.label} is below {target:g} from step {found.steps:.0f} on at γ = {rates[k]:g}"
            )
        return rates, notes

    def _begin(self, settings: Settings) -> tuple[Scene, Any, Any]:
        """A scene without curves, the problem and the topology."""
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
        scene = Scene(settings, problem_code, call)
        if topology.n != settings.n:
            scene.note(f"n = {topology.n}, the workers of {call}")
        if not settings.methods:
            scene.failures.append("there is no method; add one")
        return scene, problem, topology

    def _method(self, scene: Scene, text: str, problem: Problem, topology: Any) -> _Method:
        call = method_call(text)
        algorithm = named(call, ALGORITHMS, "algorithm")
        on_tree = algorithm.uses == "relay" and not getattr(topology, "is_tree", True)
        where = topology
        if on_tree:
            where = self._once(("tree", scene.topology), topologies.spanning_tree, topology)
        calls = {name: part for name, part in scene.settings.calls().items() if part}
        label = algorithm.label
        if "mixing" in calls and algorithm.uses != "mixing":
            del calls["mixing"]
            scene.note(f"{label} does not use a mixing matrix")
        if _needs_examples(algorithm) and "oracle" not in calls:
            calls["oracle"] = written(Table())
            scene.note(
                f"{label} asks for gradients on examples, and sees them by {calls['oracle']}"
            )
        given = {"topology": where, "n": where.n}
        known = {name: CONTROLLED[name].parts for name in calls}
        parts = {name: named(part, known[name], name, given) for name, part in calls.items()}
        return _Method(call, algorithm, where, on_tree, parts, calls)

    def _curve(
        self, scene: Scene, method: _Method, rate: float, problem: Problem, time: Budget
    ) -> Curve:
        settings = scene.settings
        options: dict[str, Any] = settings.arguments() | {"seed": settings.seed}
        if settings.replicas > 1:
            options["replicas"] = settings.replicas
        options["measures"] = _further_measures(problem, settings.y)
        edges = len(getattr(method.topology, "edges", ())) + method.topology.n

        def simulated(steps: int) -> History:
            return simulate(
                problem,
                method.topology,
                method.algorithm,
                learning_rate=rate,
                steps=steps,
                record=max(steps // RECORDS, 1),
                progress=None if edges * steps * settings.replicas > LONG else False,
                **method.parts,
                **options,
            )

        what = (id(problem), scene.topology, method.call, rate, settings.steps, settings.seconds)
        key = ("history", *what, repr(method.calls), repr(options))
        least = method.algorithm.least_steps
        history = self._once(key, time.run, settings.steps, simulated, least)
        label = _label(history, method.on_tree, rate)
        given = _given(history, method.calls, options)
        curve = Curve(label, method.call, rate, method.on_tree, given, history)
        if settings.theory:
            relays = method.algorithm.uses == "relay"
            sizes = problem.n, problem.d, edges - problem.n
            spread = settings.sigma2 > 0 and settings.y not in OF_THE_MEAN
            affordable = affordable_theory(*sizes, relays, spread)
            most = math.inf if settings.seconds == math.inf else floor_steps(*sizes, relays)
            told, whole = self._theory(scene, key, curve, affordable, most)
            search = self._search(scene, method, problem, told)
            curve = curve._replace(overlay=told, search=search, whole=whole)
        return curve

    def _theory(
        self, scene: Scene, key: tuple, curve: Curve, affordable: bool, most: float
    ) -> tuple[Overlay | None, Callable[[], Overlay] | None]:
        """What is known exactly of a curve; None, with a note, where it is nothing, or takes long.

        Where a floor takes more steps than these it is left out, and what has it can be called for.
        """
        history, settings = curve.history, scene.settings
        if settings.x != "step":
            scene.note("theory is a curve over steps, and is left out against anything else")
            return None, None
        if not affordable:
            scene.note(
                f"theory of {history.label} takes longer than an answer may; take fewer workers or a "
                f"smaller dimension d"
            )
            return None, None
        made = (overlay, history, settings.y, curve.learning_rate, False)
        key = (settings.y, *key)
        whole = functools.partial(self._once, ("whole theory", *key), *made)
        try:
            if ("whole theory", *key) in self._before:
                return whole(), None
            found = self._once(("theory", *key), *made, most)
        except EXPECTED as error:
            scene.note(f"no theory of {history.label}: {error}")
            return None, None
        waits = FORGOTTEN * relaxation_time(found.spectral_radius) > most and settings.sigma2 > 0
        return found, whole if waits and found.spectral_radius < 1 else None

    def _search(
        self, scene: Scene, method: _Method, problem: Problem, told: Overlay | None
    ) -> WindowSearch | None:
        """The search for a method's stable rates, one for all of its rates; there is none under faults."""
        if told is None or told.expected:
            return None
        mixing = method.calls.get("mixing")
        key = ("search", id(problem), scene.topology, method.call, mixing)
        given = problem, method.topology, method.algorithm, method.parts.get("mixing")
        return self._once(key, WindowSearch, *given)

    def _once(self, key: tuple, make: Callable, *arguments: Any, **options: Any) -> Any:
        """What was made under this key for the last settings, or is made now."""
        if key not in self._made:
            kept = key in self._before
            self._made[key] = self._before[key] if kept else make(*arguments, **options)
        return self._made[key]


def _needs_examples(algorithm: Any) -> bool:
    return algorithm.oracle_needs == "examples"


def _said_of(text: str, error: Exception) -> str:
    name, message = name_in(text), str(error)
    return message if name in message else f"{name}: {message}"


def _given(
    history: History, calls: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, str]:
    """The further arguments of a run, as code."""
    config = history.config
    code = {"steps": repr(config["steps"])}
    if config["record"] > 1:
        code["record"] = repr(config["record"])
    for name, call in calls.items():
        code[name] = mixing_code(call) if name == "mixing" else code_of(call)
    said = {name: value for name, value in options.items() if value is not None}
    return code | {name: repr(value).replace("'", '"') for name, value in said.items()}


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


def _remarks(curve: Curve, settings: Settings) -> list[str]:
    history, y = curve.history, settings.y
    remarks = []
    if curve.on_tree:
        method = history.label
        remarks.append(f"{method} needs a tree and runs on {history.topology!r}")
    steps = history.config["steps"]
    if steps < settings.steps:
        remarks.append(
            f"{history.label}: the first {steps} of {settings.steps} steps, as many as an answer has time for"
        )
    if history.diverged.any():
        remarks.append(f"{curve.label}; another learning rate may be stable")
    elif not (history.frame[y] > 0).any():
        remarks.append(f"{curve.label}: {y} is 0 throughout, which a log axis cannot show")
    return remarks
