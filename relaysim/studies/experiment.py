"""The options of an experiment, once for all: each field is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relaysim.faults import MessageDrop
from relaysim.oracles import Gaussian
from relaysim.studies.naming import (
    ALGORITHMS,
    DATASETS,
    FAULTS,
    GRAPHS,
    MIXINGS,
    ORACLES,
    PARTITIONS,
    SCHEDULES,
)
from relaysim.studies.options import FIXED, TUNED, Option, option, options_of
from relaysim.studies.problem_kinds import PROBLEM_KINDS
from relaysim.studies.tuning import CRITERIA

__all__ = ["DEFAULTS", "OPTIONS", "Experiment", "decades"]


def decades(first: int, last: int, steps: str = "1 2 5") -> list[float]:
    """Levels of about equal ratio from 10^first to 10^last.

    >>> decades(-1, 1)
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    """
    within = [float(f"{k}e{e}") for e in range(first, last) for k in steps.split()]
    return [*within, 10.0**last]


QUADRATIC, LOGISTIC = PROBLEM_KINDS


@dataclass(frozen=True)
class Experiment:
    """One experiment. A field more is a key of sweeps, an option of ``relaysim run``, a control of the
    explorer (if it has levels) and a line of the documentation more.
    """

    algorithm: Any = option(
        "RelaySGD", "the method", parts=ALGORITHMS, example="ChocoSGD(TopK(8), 0.5)"
    )
    topology: Any = option(
        "chain",
        "the graph; of n workers if its call does not say",
        parts=GRAPHS,
        example="erdos_renyi(p=0.3, seed=0)",
    )
    n: int = option(32, "workers", int, least=1)
    problem: Any = option(
        QUADRATIC,
        "the objectives; in Python also an object of your own",
        parts=PROBLEM_KINDS,
        example="Logistic(wine(), 0.01, dirichlet(0.1))",
    )
    d: int = option(
        10, "parameters", int, least=1, problem=QUADRATIC, title="dimension d", levels=(1, 100)
    )
    zeta2: float = option(
        0.1,
        "heterogeneity ζ²",
        float,
        least=0,
        problem=QUADRATIC,
        title="ζ²",
        levels=(0.0, *decades(-3, 2)),
    )
    mu: float | None = option(
        0.25,
        "smallest Hessian eigenvalue, at most smoothness",
        float,
        above=0,
        optional=True,
        problem=QUADRATIC,
        title="μ",
        levels=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
    )
    smoothness: float = option(1.0, "largest Hessian eigenvalue", float, above=0, problem=QUADRATIC)
    r0: float = option(1.0, "distance of the optimum from 0", float, least=0, problem=QUADRATIC)
    data: str = option(
        "breast_cancer",
        "the examples",
        parts=DATASETS,
        example='svmlight("file")',
        problem=LOGISTIC,
    )
    partition: str | None = option(
        "dirichlet(alpha=0.1)",
        "who holds which example; none where the data say it",
        parts=PARTITIONS,
        example="shards(per_worker=2)",
        optional=True,
        problem=LOGISTIC,
    )
    l2: float = option(
        0.01,
        "λ of the l2 term",
        float,
        least=0,
        problem=LOGISTIC,
        title="l2 term",
        levels=decades(-4, -1),
    )
    problem_seed: int = option(
        0,
        "of the random problem, or of its data",
        int,
        least=0,
        any_size=True,
        title="problem seed",
        levels=(0, 2**31 - 1),
    )
    mixing: Any = option(
        None,
        "gossip matrix, or a sequence of them; metropolis by default",
        parts=MIXINGS,
        example="uniform(0.3)",
        title="mixing",
    )
    oracle: Any = option(
        None,
        "how gradients are seen; exactly by default",
        parts=ORACLES,
        example="Minibatch(8)",
        title="oracle",
    )
    sigma2: float = option(
        0.0,
        "variance σ² of Gaussian gradient noise: Gaussian(σ²) for short",
        float,
        least=0,
        argument="oracle",
        through=Gaussian,
        title="noise σ²",
        levels=(0.0, *decades(-4, 0)),
    )
    faults: Any = option(
        None,
        "what goes wrong on the wire; nothing by default",
        parts=FAULTS,
        example="MessageDrop(0.01)",
        title="faults",
        only=FIXED,
    )
    drop: float = option(
        0.0,
        "probability that a message is lost: MessageDrop(p) for short",
        float,
        least=0,
        most=1,
        words="a probability",
        argument="faults",
        through=MessageDrop,
        only=FIXED,
        title="lost messages",
        levels=(0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    )
    seed: int = option(
        0,
        "of all that is drawn in a run",
        int,
        least=0,
        any_size=True,
        title="seed",
        levels=(0, 2**31 - 1),
    )
    learning_rate: Any = option(
        None,
        "γ, a number, a schedule or PerWorker(rates); tuned when left out",
        float,
        parts=SCHEDULES,
        example="Cosine(0.5, steps=500, warmup=10)",
        least=0,
    )
    schedule: Any = option(
        None,
        "the schedule whose start is tuned; a constant rate by default",
        parts=SCHEDULES,
        example="InverseSqrt(1.0)",
        only=TUNED,
    )
    steps: int = option(500, "updates", int, least=0, only=FIXED)
    record: int = option(1, "record every k-th step", int, least=1, only=FIXED)
    target: float = option(
        1e-6,
        "suboptimality to tune for",
        float,
        above=0,
        only=TUNED,
        title="target",
        levels=decades(-12, 0),
    )
    criterion: str = option("fastest", "of tuning", str, choices=CRITERIA, only=TUNED)
    max_steps: int = option(100_000, "how long tuning waits", int, least=1, only=TUNED)


OPTIONS: Mapping[str, Option] = options_of(Experiment)
#: What a setting may say, and what it is if it does not.
DEFAULTS: Mapping[str, Any] = {name: each.default for name, each in OPTIONS.items()}
