"""A history that is gone on with: the run that it comes from, from its last step on."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaysim.engine.ledger import Block
from relaysim.engine.simulation import Experiment
from relaysim.records import configuration
from relaysim.records.history import History
from relaysim.records.state import KeptState, differing, fingerprint
from relaysim.schedules import PerWorker, Tabulated
from relaysim.support.checks import whole_number
from relaysim.support.interrupts import StopRequest
from relaysim.support.notes import note
from relaysim.version import __version__

__all__ = ["extended"]


def extended(
    history: History,
    state: KeptState,
    steps: int,
    *,
    keep_state: bool | None = None,
    progress: bool | None = None,
    given: dict[str, Any],
    stop: StopRequest | None = None,
) -> History:
    """See `History.extend`; where ``stop`` is made the history is that of so many steps as were taken."""
    steps = whole_number(steps, "steps", 0)
    config = history.config
    _require_this_version(state)
    if state.run is not None and state.run != fingerprint(config):
        raise ValueError(
            "the state that was kept belongs to another run than this history; load the file as it was "
            "saved, or start again from x0=history.x"
        )
    unknown = [key for key in given if key not in state_arguments(config)]
    if unknown:
        raise TypeError(
            f"extend takes no {unknown[0]!r}; besides steps there are "
            f"{', '.join(state_arguments(config))}, for what a file could not hold"
        )
    if "time" in history.arrays():
        note("the longer history has no column time; call with_time on it again")
    parts = _objects(history) | state.parts | given
    arguments = configuration.rebuild(config, **{key: parts[key] for key in parts})
    rate = arguments["learning_rate"]
    over_time = rate.scale if isinstance(rate, PerWorker) else rate
    if isinstance(over_time, Tabulated):
        raise ValueError(
            f"the learning rate was a callable of your own, of which the file has the first "
            f"{len(over_time.rates)} values; pass it again: extend(…, learning_rate=…)"
        )
    arguments["steps"] = config["steps"] + steps
    experiment = Experiment(**arguments)
    _require_same_run(experiment.config, config)
    _restore(experiment, history, state)
    return experiment.history(keep_state, progress, stop)


def state_arguments(config: dict[str, Any]) -> list[str]:
    """What `History.extend` may be given again."""
    plain = ("steps", "record", "keep_iterates", "stop_below", "stop_when", "keep_faults")
    return [key for key in config if key not in plain]


def _objects(history: History) -> dict[str, Any]:
    found = {name: getattr(history, name) for name in ("problem", "topology", "algorithm")}
    return {name: part for name, part in found.items() if part is not None}


def _require_this_version(state: KeptState) -> None:
    if state.version != __version__:
        raise ValueError(
            f"the state was kept by relaysim {state.version} and this is {__version__}, which may not "
            f"go on with the same bits; simulate again from history.config, or start again from "
            f"x0=history.x"
        )


def _require_same_run(longer: dict[str, Any], config: dict[str, Any]) -> None:
    apart = [key for key in differing(config, longer) if key != "steps"]
    if "learning_rate" in apart and _begins_with(longer["learning_rate"], config["learning_rate"]):
        apart.remove("learning_rate")
    if apart:
        raise ValueError(
            f"the state that was kept belongs to another run: its {apart[0]} is not the one given; "
            f"extend goes on with the run as it was, and relaysim.simulate begins another"
        )


def _begins_with(longer: Any, rates: Any) -> bool:
    """Whether a table of rates goes on from another one, for the same workers."""
    both = (longer, rates)
    if all(isinstance(each, dict) and each.get("type") == "PerWorker" for each in both):
        return longer["rates"] == rates["rates"] and _begins_with(longer["scale"], rates["scale"])
    if not all(isinstance(each, dict) and each.get("type") == "Tabulated" for each in both):
        return False
    known = rates["rates"]
    return list(longer["rates"][: len(known)]) == list(known)


def _restore(experiment: Experiment, history: History, state: KeptState) -> None:
    r = experiment.plan.r
    try:
        records = min(int(state.data["ledger"]["records"]), len(history.steps))
        recorded = history.block(records)
        block = Block(
            steps=[int(step) for step in recorded["steps"]],
            active=np.arange(r),
            measured=recorded["columns"] | recorded["faults"],
            sent=recorded["vectors_sent"],
            iterates=recorded["iterates"],
        )
        experiment.go_on(state.data, block)
        if experiment.writer is not None and history.trace is not None:
            experiment.writer.go_on(history.trace)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"the state that was kept is damaged ({type(error).__name__}: {error}); start again from "
            f"x0=history.x"
        ) from error


History.continued_by(extended)
