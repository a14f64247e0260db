"""What every method is tried with where it is tuned: all that its options may be, but its learning rate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relaysim import algorithms, compressors
from relaysim.algorithms.events import Algorithm
from relaysim.problems.objective import Objective
from relaysim.studies.naming import ALGORITHMS

__all__ = ["LEFT_OUT", "candidates", "options_of"]

#: Methods that take no part, and why.
LEFT_OUT: Mapping[str, str] = {
    "DADAO": "it is told the condition number",
    "DSGDAC": "at a constant rate it is DP-SGD with overlap",
    **dict.fromkeys(("ClippedGossip", "TrimmedMean"), "nobody lies here"),
    **dict.fromkeys(("PushDIGing", "PushPull"), "links go both ways here"),
    "Muffliato": "its noise is for privacy",
    **dict.fromkeys(
        ("GTSAGA", "GTSARAH", "GTSVRG"), "it takes gradients on examples, others exact ones"
    ),
}
MOMENTA = (0.0, 0.3, 0.5, 0.7, 0.9)
CONSENSUS_RATES = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
COMPRESSORS = (
    compressors.TopK(4),
    compressors.TopK(8),
    compressors.TopK(16),
    compressors.RandomK(16),
    compressors.Sign(),
    compressors.QSGD(1),
    compressors.QSGD(3),
    compressors.LowRank(1, 8),
)
#: The values of each option, all of which are combined. None makes a method another one: an average of all
#: in each step is `AllReduce`, momentum 0 gossip.
GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "A2CiD2": {"rate": (0.5, 1.0, 2.0, 4.0)},
    "AdaGossip": {
        "compressor": COMPRESSORS,
        "consensus_rate": (0.01, 0.1, 1.0),
    },
    "AllReduce": {"momentum": MOMENTA},
    "BEER": {"compressor": COMPRESSORS, "consensus_rate": CONSENSUS_RATES},
    "Cesar": {"share": (0.1, 0.2, 0.4, 0.6, 0.8)},
    "ChocoSGD": {"compressor": COMPRESSORS, "consensus_rate": CONSENSUS_RATES},
    "ConsensusControl": {
        "base": (algorithms.DPSGD(), algorithms.D2(), algorithms.GradientTracking()),
        "most_rounds": (1, 3, 10),
    },
    "DPSGD": {"momentum": MOMENTA, "overlap": (False, True), "consensus": (0.5, 1.0)},
    "DecentLaM": {"momentum": MOMENTA[1:]},
    "DecentralizedAdam": {"beta1": (0.0, 0.5, 0.9), "beta2": (0.9, 0.99, 0.999)},
    "DelayedGradient": {"delay": (1, 2, 4)},
    "DynamicAveraging": {"threshold": (0.001, 0.003, 0.01, 0.03), "period": (1, 2, 4, 8)},
    "FedAvg": {"local_steps": (2, 4, 8), "participation": (0.25, 0.5, 1.0)},
    "ADMM": {"relaxation": (0.3, 0.5, 0.7)},
    "DLM": {"penalty": (0.1, 0.3, 1.0, 3.0)},
    "GradientTracking": {"form": ("next", "diging", "atc"), "momentum": MOMENTA[:3]},
    "HeavyBallConsensus": {"momentum": (None, 0.3, 0.5, 0.7)},
    "KGT": {"period": (2, 5, 10), "rate": (0.5, 1.0)},
    "LED": {"period": (2, 5, 10, 20)},
    "LEAD": {
        "compressor": tuple(compressors.RandomRounding(levels) for levels in (1, 2, 4, 8)),
        "consensus_rate": (0.2, 0.5, 1.0),
        "alpha": (0.2, 0.5),
    },
    "LocalRates": {"switch": (5, 10, 30), "gossip": (False, True)},
    "LocalSGD": {"period": (2, 4, 8, 16)},
    "MomentumConsensus": {"momentum": (0.3, 0.5, 0.7, 0.9), "omega": (0.25, 0.5, 0.75, 1.0)},
    "Mudag": {"rounds": (None, 2, 3, 4, 6, 8)},
    "NormalizedTracking": {"momentum": MOMENTA},
    "PowerGossip": {"rank": (1, 2, 4), "iterations": (1, 2, 4), "warm_start": (True, False)},
    "ProxSkip": {"probability": (0.05, 0.1, 0.2, 0.5)},
    "QuasiGlobalMomentum": {"momentum": MOMENTA[1:], "form": ("paper", "toy")},
    "RelaySGD": {"momentum": MOMENTA, "overlap": (False, True)},
    "RelaySGDGrad": {"momentum": MOMENTA, "overlap": (False, True)},
    "RelaySGDMix": {"alpha": (0.1, 0.3, 0.5, 0.7), "momentum": MOMENTA},
    "SGP": {"rounds": (1, 2, 3)},
    "Scaffold": {"period": (2, 5, 10, 20)},
    "SingleMerge": {
        "merge_at": (20, 40, 80, 160, 320),
        "probability": (0.2, 0.5, 1.0),
        "local_steps": (1, 4),
    },
    "SwarmSGD": {
        "local_steps": (1, 2, 4),
        "blocking": (True, False),
        "quantizer": (None, compressors.Lattice(0.01), compressors.Lattice(0.05, 32)),
    },
}


def candidates(problem: Objective, steps: int, quick: bool = False) -> dict[str, list[Algorithm]]:
    """The settings of each method by its label.

    Args:
        problem: what they run on, which some need to know.
        steps: of a run.
        quick: two settings of each method only: all first, and all last values.
    """
    found: dict[str, list[Algorithm]] = {}
    for name, build in ALGORITHMS.items():
        if name in LEFT_OUT:
            continue
        for options in _combined(GRIDS.get(name, {}), quick):
            if name == "ConsensusControl":
                options["target"] = algorithms.Critical(problem.smoothness)
            if options.get("merge_at", 1) >= steps:
                continue
            method = build(**options)
            if method.problem_needs != "nothing" and not hasattr(problem, method.problem_needs):
                continue
            found.setdefault(method.label, []).append(method)
            if name == "A2CiD2":
                plain = build(**options, accelerated=False)
                found.setdefault(plain.label, []).append(plain)
    return found


def _combined(grid: Mapping[str, Sequence[Any]], quick: bool) -> Iterator[dict[str, Any]]:
    every = list(itertools.product(*grid.values()))
    for values in [every[0], every[-1]][: len(every)] if quick else every:
        yield dict(zip(grid, values, strict=True))


def options_of(method: Any) -> str:
    """What was chosen for a method, in few words.

    >>> options_of(algorithms.ChocoSGD(compressors.TopK(8), 0.2)), options_of(algorithms.EXTRA())
    ('TopK(8), consensus rate 0.2', '')
    """
    parts = []
    for field in dataclasses.fields(method):
        if field.name not in GRIDS.get(type(method).__name__, {}):
            continue
        value = getattr(method, field.name)
        if dataclasses.is_dataclass(value):
            inside = (getattr(value, each.name) for each in dataclasses.fields(value))
            shown = ", ".join(f"{each:g}" for each in inside if isinstance(each, int | float))
            if field.name == "base":
                parts.append(type(value).__name__)
            else:
                parts.append(f"{type(value).__name__}({shown})" if shown else type(value).__name__)
        elif isinstance(value, bool):
            if value != field.default:
                parts.append(field.name if value else f"no {field.name}")
        elif value is not None:
            parts.append(f"{field.name} {value if isinstance(value, str) else f'{value:g}'}")
    return ", ".join(parts).replace("_", " ")
