"""``relaysim theory``: what can be computed of a setting without running it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from relaysim import theory
from relaysim.algorithms.fit import weights_for
from relaysim.cli.output import (
    CommandError,
    add_tables,
    begun,
    check_files,
    said_aside,
    show,
    write_json,
    write_table,
)
from relaysim.cli.settings import add_settings, stated_in
from relaysim.oracles import Exact, Gaussian
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.problem_kinds import plain
from relaysim.studies.settings import build, complete
from relaysim.theory.bounds import bounds_for
from relaysim.theory.stability import windows_and_best

__all__ = ["HELP", "add_arguments", "command"]

HELP = "rates, windows of stable learning rates and noise floors of a setting, without running it"
# Of the problem, by the names of its members.
CONSTANTS = {
    "smoothness": "L, the largest curvature of any f_i",
    "strong_convexity": "μ, the smallest curvature of any f_i",
    "mean_smoothness": "largest curvature of f",
    "mean_strong_convexity": "smallest curvature of f",
    "zeta2": "ζ², heterogeneity",
}
UNKNOWN = (TypeError, ValueError)

#: A quantity, the learning rate that it is at, its value, and what it is.
Row = tuple[str, float, Any, str]
COLUMNS = ("quantity", "learning_rate", "value", "meaning")
ANY_RATE = math.nan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    names = [name for name, each in OPTIONS.items() if not each.only]
    add_settings(parser, names, several=["learning_rate"])
    add_tables(parser, "what is known")


def command(chosen: argparse.Namespace) -> None:
    """Show what is known; what is not, and why, on standard error."""
    stated = stated_in(chosen)
    rates = stated.pop("learning_rate", [])
    if any(isinstance(rate, str) for rate in rates):
        raise CommandError("theory is about constant rates; give numbers as --learning-rate")
    for rate in rates or [0.0]:
        setting = complete(stated | {"learning_rate": rate})
    check_files(chosen)
    parts = build(setting)
    oracle = parts.pop("oracle", None) or Exact()
    parts.pop("faults", None)
    begun(f"looking for stable learning rates of {setting['algorithm']} on {setting['topology']}")
    rows = [*_of_problem(parts["problem"]), *_of_graph(**parts)]
    for told in (_of_all_rates(**parts), _of_each_rate(rates, oracle, **parts)):
        try:
            rows.extend(told)
        except UNKNOWN as error:
            print(f"relaysim: not known: {error}", file=sys.stderr)
            break
    table = pd.DataFrame(rows, columns=COLUMNS)
    theorems = _theorems(rates, oracle, **parts)
    _show(chosen, table, theorems)
    write_table(chosen, table)
    said = plain(setting) | {"learning_rate": rates or None}
    write_json(chosen, {"setting": said, "theory": table, "theorems": theorems})


def _show(
    chosen: argparse.Namespace, table: pd.DataFrame, theorems: Sequence[Mapping[str, Any]]
) -> None:
    """Print what holds of the setting, then of each rate, then what is proved."""
    if said_aside(chosen):
        return
    for at, rows in table.groupby("learning_rate", dropna=False, sort=False):
        rate = float(at)  # type: ignore[arg-type]
        if not math.isnan(rate):
            print(f"\nat learning rate {rate:g}")
        show(chosen, rows.drop(columns="learning_rate"))
    for each in theorems:
        print(f"\n{each['label']}, on the {each['quantity']} at step t")
        print(f"  {each['formula']}\n  {each['source']}")


def _of_problem(problem: Any) -> Iterator[Row]:
    yield "n", ANY_RATE, problem.n, "workers"
    yield "d", ANY_RATE, problem.d, "parameters"
    for name, meaning in CONSTANTS.items():
        if (value := getattr(problem, name, None)) is not None:
            yield name, ANY_RATE, float(value), meaning


def _of_graph(problem: Any, topology: Any, algorithm: Any, mixing: Any) -> Iterator[Row]:
    if algorithm.uses == "relay":
        if hasattr(topology, "diameter"):
            yield "diameter", ANY_RATE, topology.diameter, "hops between the workers furthest apart"
            factor = theory.correction_factor(topology)
            yield "correction_factor", ANY_RATE, factor, "1 + the mean delay of what is relayed"
    elif algorithm.uses == "events":
        try:
            decay = theory.asynchronous_decay(topology, algorithm)
            yield "consensus_decay", ANY_RATE, decay, "κ: without gradients Ξ² falls as exp(−κt)"
        except UNKNOWN:
            return
    else:
        matrices = weights_for(algorithm, topology, mixing)
        if isinstance(matrices, tuple) and matrices:
            gap = theory.spectral_gap(matrices)
            yield "spectral_gap", ANY_RATE, gap, "of the gossip matrices, 1 − |λ₂| a step"


def _of_all_rates(**parts: Any) -> Iterator[Row]:
    windows, best = windows_and_best(**parts)
    if not windows:
        yield "stable_from", ANY_RATE, math.nan, "no learning rate is stable"
        return
    for low, high in windows:
        yield "stable_from", ANY_RATE, low, "learning rates above this are stable"
        yield "stable_to", ANY_RATE, high, "up to this"
    if best is not None:
        yield "best_learning_rate", ANY_RATE, best.learning_rate, "falls fastest in the long run"
        yield from _of_radius(best.spectral_radius, ANY_RATE, " at the best rate")


def _of_radius(radius: float, rate: float, where: str = "") -> Iterator[Row]:
    yield "spectral_radius", rate, radius, f"ρ{where}: iterates' errors shrink by ρ a step"
    if 0 < radius < 1:
        steps = -math.log(10) / (2 * math.log(radius))
        yield "steps_per_decade", rate, steps, f"in which the suboptimality falls tenfold{where}"


def _of_each_rate(rates: Sequence[float], oracle: Any, **parts: Any) -> Iterator[Row]:
    mixing = parts.pop("mixing")
    for rate in rates:
        linear = theory.linearize(**parts, learning_rate=rate, mixing=mixing)
        yield from _of_radius(linear.spectral_radius, rate)
        if linear.spectral_radius < 1:
            yield from _levels("plateau", rate, linear.plateau(), "where it ends without noise")
            if isinstance(oracle, Gaussian) and np.any(oracle.sigma2):
                floor = linear.stationary(oracle.sigma2)
                yield from _levels("floor", rate, floor, "expected at rest, with noise")
    if not isinstance(oracle, Exact | Gaussian):
        raise ValueError(f"the noise floor under {oracle!r}; it is under Gaussian noise (--sigma2)")


def _theorems(rates: Sequence[float], oracle: Any, **parts: Any) -> list[dict[str, Any]]:
    """The theorems about these rates."""
    found: dict[str, dict[str, Any]] = {}
    sigma2 = float(np.max(getattr(oracle, "sigma2", 0.0)))  # no worker has more
    for rate in rates:
        try:
            bounds = bounds_for(**parts, learning_rate=rate, sigma2=sigma2)
        except UNKNOWN:
            continue  # what has drawn matrices, or a sequence of its own
        for bound in bounds:
            told = {"label": bound.label, "quantity": bound.quantity, "formula": bound.formula}
            found.setdefault(bound.name, told | {"source": str(bound.source), "rates": []})
            found[bound.name]["rates"].append(rate)
    return list(found.values())


def _levels(kind: str, rate: float, levels: pd.Series, meaning: str) -> Iterator[Row]:
    for name, value in levels.items():
        yield f"{kind}_{name}", rate, float(value), meaning
