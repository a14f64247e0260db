"""What an explorer shows, without the widgets: choices, and the runs that follow from them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from relaysim import oracles, problems, topologies
from relaysim.engine import simulate
from relaysim.records.history import History
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES, known_name, named
from relaysim.support.checks import real_number, whole_number

__all__ = [
    "ACROSS",
    "EXPECTED",
    "METHODS",
    "MOST_WORKERS",
    "PROBLEMS",
    "UPWARD",
    "Curve",
    "Problem",
    "Runner",
    "Scene",
    "Settings",
    "default_arguments",
    "run",
    "split_call",
    "takes_n",
    "topology_call",
    "written_call",
]

#: What the two axes can show, columns of `History.frame`.
ACROSS = ("step", "vectors_sent", "bits_sent")
UPWARD = ("suboptimality", "consensus_distance", "distance", "gradient_norm")

MOST_WORKERS = 1024
# So many records draw a smooth curve.
RECORDS = 400
EXAMPLES_PER_WORKER = 32
# A progress bar is made where a run may take seconds: from so many edges × steps on.
LONG = 1_000_000

#: What can be wrong with choices; the message says how to mend it.
EXPECTED = (ValueError, TypeError, ImportError, OSError, MemoryError, OverflowError, RuntimeError)


def _grid(n: int) -> str:
    """The rows and columns of the torus of n workers that is nearest to a square."""
    rows = max(k for k in range(1, math.isqrt(n) + 1) if n % k == 0)
    return f"{rows}, {n // rows}"


def _connected(n: int) -> str:
    """A probability of edges at which random graphs are connected, nearly always."""
    return f"p={min(1, 2.5 * math.log(n) / n):.2g}, seed=0"


# What a name alone stands for where the constructor asks for more than n.
_ARGUMENTS: Mapping[str, str | Callable[[int], str]] = {
    "torus": _grid,
    "regular_tree": "degree=3",
    "erdos_renyi": _connected,
    "random_regular": "degree=3, seed=0",
    "watts_strogatz": "k=4, p=0.2, seed=0",
    "barabasi_albert": "m=2, seed=0",
    "SingleMerge": "merge_at=100",
    "DynamicAveraging": "threshold=1.0",
}


def _needs_nothing(build: Callable) -> bool:
    parameters = inspect.signature(build).parameters.values()
    return all(parameter.default is not inspect.Parameter.empty for parameter in parameters)


#: Methods that a name stands for.
METHODS: tuple[str, ...] = tuple(
    name for name, build in ALGORITHMS.items() if name in _ARGUMENTS or _needs_nothing(build)
)


def default_arguments(name: str, n: int) -> str:
    """The arguments, beside n, that a method's or topology's name alone stands for.

    >>> default_arguments("torus", 32), default_arguments("ring", 32)
    ('4, 8', '')
    """
    found = _ARGUMENTS.get(name, "")
    return found(n) if callable(found) else found


# -- settings --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Everything that can be chosen; see `relaysim.explore` for what it means.

    >>> Settings(methods=["RelaySGD", "D2"], learning_rate=0.3).learning_rate
    (0.3, 0.3)
    """

    problem: str = "random_quadratics"
    n: int = 32
    d: int = 10
    zeta2: float = 1.0
    mu: float = 0.25
    drift: float = 1.0
    alpha: float = 0.1
    l2: float = 0.01
    sigma2: float = 0.0
    problem_seed: int = 0
    topology: str = "ring"
    methods: Sequence[str] = ("RelaySGD", "GradientTracking", "DPSGD")
    learning_rate: float | Sequence[float] = 0.5
    steps: int = 300
    seed: int = 0
    x: str = "step"
    y: str = "suboptimality"

    def __post_init__(self):
        def normalise(name, value):
            object.__setattr__(self, name, value)

        for name, known in (("problem", PROBLEMS), ("x", ACROSS), ("y", UPWARD)):
            known_name(getattr(self, name), known, name)
        for name, least in (("n", 1), ("d", 1), ("steps", 1), ("problem_seed", 0), ("seed", 0)):
            normalise(name, whole_number(getattr(self, name), name, least))
        if self.n > MOST_WORKERS:
            raise ValueError(f"n must be at most {MOST_WORKERS} here, not {self.n}")
        for name in ("zeta2", "mu", "drift", "l2", "sigma2"):
            normalise(name, real_number(getattr(self, name), name, 0))
        if self.alpha != math.inf:
            normalise("alpha", real_number(self.alpha, "alpha", 0))
        normalise("topology", _as_text(self.topology, TOPOLOGIES, "topology"))
        one = isinstance(self.methods, str) or not isinstance(self.methods, Iterable)
        given = [self.methods] if one else list(self.methods)
        normalise("methods", tuple(_as_text(each, ALGORITHMS, "algorithm") for each in given))
        rates = self.learning_rate
        rates = [rates] * len(given) if np.ndim(rates) == 0 else list(rates)
        if len(rates) != len(given):
            raise ValueError(
                f"{len(given)} methods have {len(rates)} learning rates; give one for each, or one "
                f"for all"
            )
        normalise("learning_rate", tuple(real_number(r, "learning_rate", 0) for r in rates))


def _as_text(value, known: Mapping[str, Callable], what: str) -> str:
    """A name or a call as text; an object is one if its repr makes an equal one."""
    text = value if isinstance(value, str) else repr(value)
    try:
        known_name(text.partition("(")[0].strip(), known, what)
        if isinstance(value, str) or named(text, known, what) == value:
            return text
    except ValueError:
        if isinstance(value, str):
            raise
    raise ValueError(
        f"{what} {text} cannot be written as a call with plain values, and the explorer writes code; "
        f"take rs.simulate"
    )


def split_call(text: str) -> tuple[str, list[str], dict[str, str]]:
    """The name, the arguments and the options of a call, each as text.

    Raises:
        ValueError: what is neither a name nor a call.

    >>> split_call("erdos_renyi(32, 0.2, seed=1)")
    ('erdos_renyi', ['32', '0.2'], {'seed': '1'})
    """
    try:
        found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        found = None
    if isinstance(found, ast.Name):
        return found.id, [], {}
    if not (isinstance(found, ast.Call) and isinstance(found.func, ast.Name)):
        raise ValueError(f"cannot read {text!r}; write it as name(1, option=0.5)")
    options = {str(keyword.arg): ast.unparse(keyword.value) for keyword in found.keywords}
    return found.func.id, [ast.unparse(argument) for argument in found.args], options


def written_call(name: str, *arguments: str) -> str:
    """A call as one writes it.

    >>> written_call("erdos_renyi", "32", "p=0.2, seed=0"), written_call("D2", "")
    ('erdos_renyi(32, p=0.2, seed=0)', 'D2()')
    """
    return f"{name}({', '.join(filter(None, arguments))})"


def topology_call(text: str, n: int) -> str:
    """The call that a topology's name, or a call, stands for with n workers.

    >>> topology_call("ring", 8), topology_call("torus", 8), topology_call("torus(4,8)", 8)
    ('ring(8)', 'torus(2, 4)', 'torus(4, 8)')
    """
    if "(" not in text:
        size = str(n) if takes_n(text) else ""
        return written_call(text, size, default_arguments(text, n))
    return _normalised(text)


def takes_n(name: str) -> bool:
    """Whether a topology's constructor takes the number of workers first."""
    return next(iter(inspect.signature(TOPOLOGIES[name]).parameters), None) == "n"


def _normalised(text: str) -> str:
    name, arguments, options = split_call(text)
    return written_call(name, *arguments, *(f"{key}={value}" for key, value in options.items()))


# -- problems --------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A kind of problem: how it is called, the settings that are its own, and how it is made.

    ``make(settings, n)`` returns the problem and the lines of code that make it, as ``problem``.
    """

    title: str
    settings: tuple[str, ...]
    make: Callable[[Settings, int], tuple[Any, list[str]]]


def _options(**options) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _random_quadratics(settings: Settings, n: int):
    chosen = {name: getattr(settings, name) for name in ("d", "zeta2", "mu")}
    options = {"n": n} | chosen | {"seed": settings.problem_seed}
    line = f"problem = rs.problems.random_quadratics({_options(**options)})"
    return problems.random_quadratics(**options), [line]


def _synthetic(settings: Settings, n: int):
    options = {
        "examples": EXAMPLES_PER_WORKER * n,
        "dimension": settings.d,
        "workers": n,
        "drift": settings.drift,
        "seed": settings.problem_seed,
    }
    data = problems.data.synthetic(**options)
    problem = problems.Logistic(
        data.features, data.labels, l2=settings.l2, partition=data.partition
    )
    return problem, [
        f"data = rs.problems.data.synthetic({_options(**options)})",
        f"problem = rs.problems.Logistic(data.features, data.labels, l2={settings.l2!r}, "
        f"partition=data.partition)",
    ]


@functools.cache
def _bundled(name: str):
    return getattr(problems.data, name)()


def _on_bundled_data(name: str, settings: Settings, n: int):
    data = _bundled(name)
    options = {"n": n, "alpha": settings.alpha, "seed": settings.problem_seed}
    split = problems.partitions.dirichlet(data.labels, **options)
    problem = problems.Logistic(data.features, data.labels, l2=settings.l2, partition=split)
    written = _options(**options).replace("=inf", '=float("inf")')
    return problem, [
        f"data = rs.problems.data.{name}()",
        f"split = rs.problems.partitions.dirichlet(data.labels, {written})",
        f"problem = rs.problems.Logistic(data.features, data.labels, l2={settings.l2!r}, "
        f"partition=split)",
    ]


#: The problems by name. Those on bundled data need the extra ``data``.
PROBLEMS: Mapping[str, Problem] = {
    "random_quadratics": Problem("random quadratics", ("d", "zeta2", "mu"), _random_quadratics),
    "logistic": Problem("logistic, synthetic data", ("d", "drift", "l2"), _synthetic),
    "breast_cancer": Problem(
        "logistic, breast cancer data",
        ("alpha", "l2"),
        functools.partial(_on_bundled_data, "breast_cancer"),
    ),
    "wine": Problem(
        "logistic, wine data", ("alpha", "l2"), functools.partial(_on_bundled_data, "wine")
    ),
}


# -- runs ------------------------------------------------------------------------------------------


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

    def __init__(self):
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
        own = tuple(getattr(settings, name) for name in (*kind.settings, "problem_seed"))
        key = ("problem", settings.problem, topology.n, own)
        problem, problem_code = self._once(key, kind.make, settings, topology.n)
        scene = Scene(settings, problem_code, call, max(settings.steps // RECORDS, 1))
        if topology.n != settings.n:
            scene.notes.append(f"n = {topology.n}, the workers of {call}")
        if not settings.methods:
            scene.failures.append("there is no method; add one")
        edges = len(getattr(topology, "edges", ())) + topology.n
        options = {
            "steps": settings.steps,
            "record": scene.record,
            "oracle": oracles.Gaussian(settings.sigma2) if settings.sigma2 else None,
            "seed": settings.seed,
        }
        for text, rate in zip(settings.methods, settings.learning_rate, strict=True):
            try:
                method = _method_call(text)
                algorithm = named(method, ALGORITHMS, "algorithm")
                on_tree = algorithm.uses == "relay" and not getattr(topology, "is_tree", True)
                where = topology
                if on_tree:
                    where = self._once(("tree", call), topologies.spanning_tree, topology)
                history = self._once(
                    ("history", key, call, method, rate, *options.values()),
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

    def _once(self, key: tuple, make: Callable, *arguments, **options):
        """What was made under this key for the last settings, or is made now."""
        if key not in self._made:
            kept = key in self._before
            self._made[key] = self._before[key] if kept else make(*arguments, **options)
        return self._made[key]


def _method_call(text: str) -> str:
    name = text.strip()
    return _normalised(text if "(" in text else written_call(name, default_arguments(name, 0)))


def _label(history: History, on_tree: bool, rate: float) -> str:
    where = " on a spanning tree" if on_tree else ""
    parts = [f"{history.label}{where}", *_chosen_options(history.algorithm), f"γ = {rate:g}"]
    gone = f": diverged by step {_diverged_at(history)}" if history.diverged.any() else ""
    return ", ".join(parts) + gone


def _chosen_options(algorithm) -> list[str]:
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
