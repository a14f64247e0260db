"""``relaysim run``: simulate one setting, at a given learning rate or at a tuned one."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from relaysim.cli.output import (
    CommandError,
    add_tables,
    check_files,
    say,
    show,
    write_json,
    write_table,
)
from relaysim.cli.settings import add_max_memory, add_settings, dashed, stated_in
from relaysim.cli.tuned import looked_for
from relaysim.engine import simulate
from relaysim.problems.problem import knows_optimum
from relaysim.records.history import History
from relaysim.studies.described import rate_of
from relaysim.studies.experiment import OPTIONS
from relaysim.studies.options import FIXED, TUNED
from relaysim.studies.problem_kinds import plain
from relaysim.studies.settings import arguments_of, build, complete
from relaysim.support.checks import whole_number
from relaysim.support.files import written_aside

__all__ = ["DRAWINGS", "HELP", "add_arguments", "command", "draw"]

HELP = "simulate one setting"
DRAWINGS = (".png", ".pdf", ".svg")
# Options of tuning that say something of a run at a given rate too.
TARGET = "target"
# What is not there while a rate is tuned.
NOISY = ("oracle", "sigma2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_settings(parser, several=["learning_rate"])
    parser.add_argument("--replicas", type=int, help="that many seeds, from --seed on")
    parser.add_argument(
        "--save", type=pathlib.Path, metavar="FILE", help="write the history to this .npz file"
    )
    parser.add_argument(
        "--plot",
        type=pathlib.Path,
        metavar="FILE",
        help="draw it into this .png, .pdf or .svg file",
    )
    add_max_memory(parser)
    add_tables(parser, "all records")


def command(chosen: argparse.Namespace) -> int:
    """Run it, and show the last record; 1 if a replica diverged."""
    stated = stated_in(chosen)
    rates = stated.pop("learning_rate", None)
    at_once = rates is not None and len(rates) > 1
    if at_once and any(isinstance(rate, str) for rate in rates):
        raise CommandError("give one schedule, or one or several numbers, as --learning-rate")
    tuning = {name: stated.pop(name) for name in OPTIONS if _is_for_tuning(name) and name in stated}
    target = tuning.get(TARGET) if rates is not None else None
    if rates is not None and tuning.keys() - {TARGET}:
        option = next(name for name in tuning if name != TARGET)
        raise CommandError(f"--{dashed(option)} is for tuning; leave out --learning-rate")
    # Checked before a rate is tuned, which may take long.
    setting = complete(stated | {"learning_rate": rates[0] if rates else 0.0})
    for rate in rates or ():
        complete(stated | {"learning_rate": rate})
    if target is not None:
        target = OPTIONS[TARGET].checked(target)
    if chosen.replicas is not None:
        whole_number(chosen.replicas, "replicas", 1)
    check_files(chosen, save=(".npz",), plot=DRAWINGS)
    parts = build(setting)
    if target is not None and not knows_optimum(parts["problem"]):
        raise CommandError(
            f"--target is a suboptimality, and the optimum of {setting['problem']} is not known; leave it out"
        )
    if rates is None:
        looked = complete(_without_noise(stated) | tuning)
        target = looked[TARGET]
        rates = [_best_rate(chosen, looked, parts)]
    history = simulate(
        **parts,
        **arguments_of(setting, FIXED),
        learning_rate=list(rates) if at_once else rate_of(rates[0]),
        steps=setting["steps"],
        seed=setting["seed"],
        replicas=chosen.replicas,
        record=setting["record"],
        max_memory=chosen.max_memory,
    )
    _tell(chosen, setting, history, target)
    return _said_diverged(history)


def _is_for_tuning(name: str) -> bool:
    return OPTIONS[name].only == TUNED


def _without_noise(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What counts while a rate is tuned: no noise, no faults, and no number of steps."""
    return {
        name: value
        for name, value in stated.items()
        if OPTIONS[name].only != FIXED and name not in NOISY
    }


def _best_rate(
    chosen: argparse.Namespace, setting: Mapping[str, Any], parts: Mapping[str, Any]
) -> Any:
    """The learning rate that is best without noise, or the schedule with the best start."""
    quiet = {name: parts[name] for name in ("problem", "topology", "algorithm", "mixing")}
    tuned = looked_for(setting, quiet)
    target = setting[TARGET]
    if tuned.steps != tuned.steps:
        raise CommandError(
            f"no learning rate brings {setting['algorithm']} below {target:g}; "
            f"give one with --learning-rate, or a larger --target"
        )
    say(
        chosen,
        f"tuned learning rate {tuned.learning_rate:.6g}: without gradient noise it stays below "
        f"{target:g} from step {tuned.steps:.0f} on",
    )
    return tuned.schedule or tuned.learning_rate


def _tell(
    chosen: argparse.Namespace,
    setting: Mapping[str, Any],
    history: History,
    target: float | None,
) -> None:
    """Show the last records, and write what was asked for."""
    last = history.frame.groupby("replica").tail(1)
    if target is not None:
        last = last.assign(steps_to_target=history.steps_to(target))
    show(chosen, last)
    write_table(chosen, history.frame)
    said = {"setting": plain(setting), "target": target, "diverged": history.diverged}
    said["setting"]["learning_rate"] = plain(history.config["learning_rate"])
    write_json(chosen, said | {"last": last, "records": history.frame})
    if chosen.save is not None:
        say(chosen, str(history.save(chosen.save)))
    if chosen.plot is not None:
        draw(chosen, history)


def draw(chosen: argparse.Namespace, drawable: Any) -> None:
    """Draw what has ``plot()`` where ``--plot`` says."""
    figure = drawable.plot().figure  # of new Axes: a Figure
    with written_aside(chosen.plot) as aside:
        figure.savefig(aside)
    say(chosen, str(chosen.plot))


def _said_diverged(history: History) -> int:
    """Exit status 1, and a line that says what diverged, if anything did."""
    gone = history.diverged
    if not gone.any():
        return 0
    frame: pd.DataFrame = history.frame
    lost = frame[frame["consensus_distance"].isna()]
    first = lost.groupby("replica")[["learning_rate", "step"]].first()
    rates = _listed(sorted(set(first["learning_rate"])))
    which = "it" if len(gone) == 1 else f"{int(gone.sum())} of {len(gone)} replicas"
    print(
        f"relaysim: {which} diverged, by step {int(first['step'].min())}, at learning rate {rates}; "
        f"take a smaller one",
        file=sys.stderr,
    )
    return 1


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
