"""Everything that can be chosen in an explorer, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from relaysim.explorer.calls import part_call
from relaysim.explorer.problem_kinds import PROBLEMS
from relaysim.measures import READY, accuracy
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.naming import ALGORITHMS, TOPOLOGIES, known_name, named, written
from relaysim.studies.options import Option, check_said_once
from relaysim.support.checks import real_number, whole_number
from relaysim.support.names import closest

__all__ = [
    "ACROSS",
    "CONTROLLED",
    "FIELDS",
    "MOST_REPLICAS",
    "MOST_WORKERS",
    "PARTS",
    "UPWARD",
    "Settings",
]

#: What the two axes can show, columns of `History.frame`.
ACROSS = ("step", "vectors_sent", "bits_sent")
UPWARD = tuple(
    name
    for name, measure in READY.items()
    if not measure.per_worker and measure is not accuracy  # there are no test data here
)

MOST_WORKERS, MOST_REPLICAS = 1024, 100
# Where a picture needs more than an experiment.
LEAST = {"steps": 1}


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
    learning_rate: Any = 0.5
    steps: int = 300
    seed: int = 0
    x: str = "step"
    y: str = "suboptimality"
    replicas: int = 1
    theory: bool = False
    seconds: float | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    def value_of(self, name: str) -> Any:
        """What is chosen for an option of an experiment."""
        return self.further[name] if name in self.further else getattr(self, name)

    def calls(self) -> dict[str, str | None]:
        """The calls that make the parts that a run has by choice: mixing, oracle, faults; None for none.

        Raises:
            ValueError: what is said twice, as noise and as an oracle.
        """
        check_said_once(CONTROLLED, {name: self.value_of(name) for name in CONTROLLED})
        found = {name: part_call(name, self.value_of(name)) for name in PARTS}
        for name, each in CONTROLLED.items():
            if each.through is not None and (value := self.value_of(name)):
                found[each.argument] = f"{each.through.__name__}({value!r})"
        return found

    def arguments(self) -> dict[str, Any]:
        """The arguments of `relaysim.simulate` that further options of experiments stand for."""
        found: dict[str, Any] = {}
        for name, each in CONTROLLED.items():
            if each.through is None:
                found |= each.given_as(self.value_of(name))
        return found

    def __post_init__(self) -> None:
        def normalise(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for name, known in (("problem", PROBLEMS), ("x", ACROSS), ("y", UPWARD)):
            known_name(getattr(self, name), known, name)
        for name, each in OPTIONS.items():
            if name in FIELDS and each.kind is int:
                least = max(int(each.least or 0), LEAST.get(name, 0))
                normalise(name, whole_number(getattr(self, name), name, least))
        normalise("replicas", whole_number(self.replicas, "replicas", 1))
        if self.replicas > MOST_REPLICAS:
            raise ValueError(f"replicas must be at most {MOST_REPLICAS} here, not {self.replicas}")
        if self.seconds not in (None, math.inf):
            normalise("seconds", real_number(self.seconds, "seconds", 0))
        if not isinstance(self.theory, bool):
            raise TypeError(f"theory must be True or False, not {self.theory!r}")
        if self.n > MOST_WORKERS:
            raise ValueError(f"n must be at most {MOST_WORKERS} here, not {self.n}")
        for name in ("zeta2", "mu", "drift", "l2", "sigma2"):
            normalise(name, real_number(getattr(self, name), name, 0))
        normalise("further", _further(self.further))
        if self.alpha != math.inf:
            normalise("alpha", real_number(self.alpha, "alpha", 0))
        normalise("topology", _as_text(self.topology, TOPOLOGIES, "topology"))
        one = isinstance(self.methods, str) or not isinstance(self.methods, Iterable)
        methods = [self.methods] if one else list(self.methods)
        normalise("methods", tuple(_as_text(each, ALGORITHMS, "algorithm") for each in methods))
        rates = self.learning_rate
        rates = [rates] * len(methods) if np.ndim(rates) == 0 else list(rates)
        if len(rates) != len(methods):
            raise ValueError(
                f"{len(methods)} methods have {len(rates)} learning rates; give one for each, or one "
                f"for all"
            )
        normalise("learning_rate", tuple(real_number(r, "learning_rate", 0) for r in rates))


FIELDS = frozenset(each.name for each in fields(Settings))
#: The options of an experiment that have a control.
CONTROLLED: Mapping[str, Option] = {name: each for name, each in OPTIONS.items() if each.title}
#: Of these what is a name or a call.
PARTS = tuple(name for name, each in CONTROLLED.items() if each.parts)


def _further(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with a control that are no field of the settings, checked and complete."""
    further = {name: each for name, each in CONTROLLED.items() if name not in FIELDS}
    for name in given:
        if name not in further:
            raise TypeError(
                f"explore has no setting {name!r}{closest(name, {**further, **dict.fromkeys(FIELDS)})}"
            )
    return {name: _checked(each, given.get(name, each.default)) for name, each in further.items()}


def _checked(each: Option, value: Any) -> Any:
    if not each.parts:
        return each.checked(value)
    return None if value in (None, "none") else _as_text(value, each.parts, each.name)


def _as_text(value: Any, known: Mapping[str, Callable], what: str) -> str:
    """A name or a call as text; an object is one if its repr makes an equal one."""
    text = str(value)
    try:
        text = value if isinstance(value, str) else written(value)
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
