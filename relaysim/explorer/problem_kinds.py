"""The problems of an explorer: the settings that are their own, how they are made, and the code for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from relaysim import problems
from relaysim.studies.experiment import OPTIONS, QUADRATIC

__all__ = ["PROBLEMS", "ProblemKind"]

EXAMPLES_PER_WORKER = 32

#: A problem, and the lines of code that make it.
Made: TypeAlias = tuple[problems.Problem, list[str]]


class ProblemKind(NamedTuple):
    """How a kind of problem is called, the settings that are its own, and how it is made.

    ``make(n, seed, **settings)`` returns the problem and the lines of code that make it, as ``problem``.
    """

    title: str
    settings: tuple[str, ...]
    make: Callable[..., Made]


def _options(**options: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _random_quadratics(n: int, seed: int, **own: Any) -> Made:
    options: dict[str, Any] = {"n": n, **own, "seed": seed}
    line = f"problem = rs.problems.random_quadratics({_options(**options)})"
    return problems.random_quadratics(**options), [line]


def _synthetic(n: int, seed: int, *, d: int, drift: float, l2: float) -> Made:
    options: dict[str, Any] = {
        "examples": EXAMPLES_PER_WORKER * n,
        "dimension": d,
        "workers": n,
        "drift": drift,
        "seed": seed,
    }
    data = problems.data.synthetic(**options)
    problem = problems.Logistic(data.features, data.labels, l2=l2, partition=data.partition)
    return problem, [
        f"data = rs.problems.data.synthetic({_options(**options)})",
        f"problem = rs.problems.Logistic(data.features, data.labels, l2={l2!r}, "
        f"partition=data.partition)",
    ]


@functools.cache
def _bundled(name: str) -> problems.data.Dataset:
    return getattr(problems.data, name)()


def _on_bundled_data(name: str, n: int, seed: int, *, alpha: float, l2: float) -> Made:
    data = _bundled(name)
    options: dict[str, Any] = {"n": n, "alpha": alpha, "seed": seed}
    split = problems.partitions.dirichlet(data.labels, **options)
    problem = problems.Logistic(data.features, data.labels, l2=l2, partition=split)
    written = _options(**options).replace("=inf", '=float("inf")')
    return problem, [
        f"data = rs.problems.data.{name}()",
        f"split = rs.problems.partitions.dirichlet(data.labels, {written})",
        f"problem = rs.problems.Logistic(data.features, data.labels, l2={l2!r}, partition=split)",
    ]


_OF_QUADRATICS = tuple(
    name for name, each in OPTIONS.items() if each.problem == QUADRATIC and each.title
)
#: The problems by name. Those on bundled data need the extra ``data``.
PROBLEMS: Mapping[str, ProblemKind] = {
    QUADRATIC: ProblemKind("random quadratics", _OF_QUADRATICS, _random_quadratics),
    "logistic": ProblemKind("logistic, synthetic data", ("d", "drift", "l2"), _synthetic),
    "breast_cancer": ProblemKind(
        "logistic, breast cancer data",
        ("alpha", "l2"),
        functools.partial(_on_bundled_data, "breast_cancer"),
    ),
    "wine": ProblemKind(
        "logistic, wine data", ("alpha", "l2"), functools.partial(_on_bundled_data, "wine")
    ),
}
