"""Many settings, run in groups as replicas, on as many processes as wanted, kept in one file.

A sweep is a mapping from names to values; values that are lists multiply out. Settings that differ
only in learning rate or noise seed form a group and run as replicas of one simulation. A group computes with
one thread, so that the same sweep gives the same bits however many processes share it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import effective_n_jobs

from relaysim.engine import simulate
from relaysim.engine.estimate import need_of, require_fitting
from relaysim.records.provenance import provenance
from relaysim.studies.claims import Claims
from relaysim.studies.described import rate_of
from relaysim.studies.expansion import expand, read_sweep
from relaysim.studies.options import FIXED
from relaysim.studies.problem_kinds import OwnProblem, plain
from relaysim.studies.processes import computed, termination_as_exit
from relaysim.studies.searches import search
from relaysim.studies.settings import arguments_of, build, former_keys, key_of
from relaysim.studies.store import Store, stored_results
from relaysim.studies.stretches import Checkpoint, simulated
from relaysim.studies.tables import rows_of, table_of
from relaysim.studies.tuning import StartsBelowTargetError
from relaysim.support.checks import size_in_bytes
from relaysim.support.progress import ProgressBar, progress_bar, someone_watches
from relaysim.support.threads import check_jobs, one_thread
from relaysim.version import __version__

__all__ = ["computed_again", "load_sweep", "sweep"]

Result = dict[str, np.ndarray]
_LOOK_SECONDS = 1.0
# Replicas, and replicas times steps, that fit wherever one of them does.
_FEW, _FEW_RECORDS = 100, 100_000


class Computed(NamedTuple):
    """What a process computed, and where that was; see `relaysim.records.provenance`."""

    result: Result
    provenance: dict[str, Any]


def sweep(
    settings: Mapping[str, Any] | str | os.PathLike,
    *,
    store: str | os.PathLike | None = None,
    n_jobs: int = 1,
    progress: bool = True,
    retry_failed: bool = False,
    max_memory: float | str | None = None,
) -> pd.DataFrame:
    """Run every combination of settings, and return one table.

    Args:
        settings: a mapping, or the path of a TOML file with the same keys. A value that is a list
            multiplies out. The key ``cases`` may hold a list of mappings, each of which is joined
            with the rest and multiplied out by itself: pairs of a method and its topology, say.
            Keys are the fields of `relaysim.studies.experiment.Experiment`, which the documentation
            lists with their limits. What has a name, such as a method or a graph, is that name, a call
            as Python writes it, ``"ChocoSGD(TopK(8), 0.5)"``, or, in a mapping, the object itself; a
            problem may also be an object of your own. A call may leave out n, the topology and the
            seed of the problem, which the setting says: ``"erdos_renyi(p=0.3, seed=0)"``,
            ``"uniform(0.3)"``, ``"dirichlet(0.1)"``. Without ``learning_rate`` the rate is tuned, as
            `relaysim.tune` does.
        store: a file that keeps what is finished; what it holds already is not run again. It is
            made if it is not there. Processes, on one machine or on several, that call with the same store
            at once divide the work: each group is computed by one of them, and by another only if that
            one dies. Each returns when all is done. Runs at given rates that take over a minute are kept
            there once a minute, and go on from there when they were killed.
        n_jobs: processes. With 1, ``joblib.parallel_config`` decides, so that a sweep runs on a
            cluster inside ``with joblib.parallel_config("dask"):``.
        progress: a progress bar with the time left, where output goes to a terminal or notebook.
        retry_failed: whether to try again what failed before, as the store has it.
        max_memory: refuse a sweep of which what runs at once would take more, in bytes or as ``"2 GB"``; by
            default one that would take more than there is in this machine.

    Returns:
        A DataFrame in the order of the settings: every setting's columns, then for a fixed rate
        those of `History.frame`, one row per recorded step, and for a tuned one ``learning_rate``
        and ``steps_to_target`` (NaN where no rate meets the target; 0, and no rate, where the start
        does). ``algorithm`` is the method's name and ``topology`` the kind of graph; their options
        have columns of their own (``momentum``, ``p``; ``topology_seed`` where a setting has that name
        already), those of methods where they are not the default throughout. A schedule stands in
        ``schedule``, and its rates in ``learning_rate``. Results that another version of relaysim left in
        the store come with a warning, and with a column ``version``. What fails while it runs is left out,
        with a warning: ``table.attrs["failed"]`` has its settings and errors, a store keeps them, and the
        same version tries it again only if ``retry_failed`` says so.

        The same sweep gives the same bits, whatever ``n_jobs`` and ``store``. Rates or seeds that are
        added later, or computed again, run without those that are there already: they equal those of a
        sweep of all at once but for rounding.

    Raises:
        ValueError: unknown keys, values out of range, or combinations that cannot run, all of them
            named before anything runs.

    >>> table = sweep({"n": 8, "topology": ["chain", "star"], "zeta2": [0, 1], "target": 1e-6},
    ...               progress=False)
    >>> table[table.topology == "star"][["n", "zeta2"]].values.tolist()
    [[8.0, 0.0], [8.0, 1.0]]
    """
    check_jobs(n_jobs)
    source = None
    if not isinstance(settings, Mapping):
        source = pathlib.Path(settings)
        settings = read_sweep(source)
    with one_thread():
        planned = expand(settings, source)
    by_key = {key_of(setting): setting for setting in planned}
    _require_fitting(by_key, n_jobs, max_memory)
    if store is not None:
        _require_lasting(planned)
    shown = progress and someone_watches()
    with termination_as_exit(), progress_bar(len(by_key), shown, "sweep", "settings") as bar:
        if store is None:
            found, failed = _run(by_key, n_jobs, bar)
        else:
            with Store(store) as kept:
                if retry_failed:
                    kept.forget_failures(by_key)
                found, failed = _run_with_others(by_key, kept, n_jobs, bar)
    table = _with_versions([(by_key[key], *found[key]) for key in by_key if key in found], store)
    if failed:
        table.attrs["failed"] = [plain(by_key[key]) | {"error": failed[key]} for key in failed]
        _warn_of_failures(list(failed.values()), len(by_key), store)
    return table


def _run(
    by_key: dict[str, dict], n_jobs: int, bar: ProgressBar
) -> tuple[dict[str, tuple[Result, str]], dict[str, str]]:
    """Results with their versions, and errors, by key."""
    found: dict[str, tuple[Result, str]] = {}
    failed: dict[str, str] = {}
    groups = [[by_key[key] for key in group] for group in _groups(by_key)]
    with contextlib.closing(computed(_tried, groups, n_jobs)) as outcomes:
        for outcome in outcomes:
            for setting, came in outcome:
                if isinstance(came, str):
                    failed[key_of(setting)] = came
                else:
                    found[key_of(setting)] = came.result, __version__
            bar.update(len(outcome))
    return found, failed


def _run_with_others(
    by_key: dict[str, dict], kept: Store, n_jobs: int, bar: ProgressBar
) -> tuple[dict[str, tuple[Result, str]], dict[str, str]]:
    """The same with a store, of which several processes may do a part each: what is missing is run there."""
    stored_as = _stored_as(kept.keys(), by_key)
    # A group is stored whole, so what is missing of one is what a changed sweep added.
    missing = ([key for key in group if key not in stored_as] for group in _groups(by_key))
    groups = [group for group in missing if group]
    total = _Total(bar, kept, by_key.keys() - stored_as.keys())
    bar.update(len(stored_as))
    tried = functools.partial(_tried, store=kept.path.absolute())
    with Claims(kept, __version__) as claims:
        while groups:
            work = ([by_key[key] for key in group] for group in claims.taken(groups))
            with contextlib.closing(computed(tried, work, n_jobs)) as outcomes:
                for outcome in outcomes:
                    _keep(kept, outcome)
                    claims.release([key_of(setting) for setting, _ in outcome])
                    total.show()
            if claims.error is not None:
                raise claims.error
            # What others are at work on is left: it will be there, or they die.
            done = total.show(at_once=True)
            groups = [group for group in groups if not done.issuperset(group)]
            if groups:
                claims.wait()
    failed = kept.failures(__version__)
    failed = {k: failed[k] for k in by_key if k in failed and k not in stored_as}
    there = [key for key in by_key if key not in failed]
    return {key: kept.result(stored_as.get(key, key)) for key in there}, failed


class _Total:
    """Progress of all processes that share a store, in one bar.

    Args:
        bar: where it is shown.
        kept: the store.
        awaited: keys of what was not there at first.
    """

    def __init__(self, bar: ProgressBar, kept: Store, awaited: set[str]):
        self._bar, self._kept, self._awaited = bar, kept, awaited
        self._shown = 0
        self._next_look = 0.0

    def show(self, at_once: bool = False) -> set[str]:
        """Bring the bar up to date, now and then or at once; returns what is done, where it was looked."""
        if not at_once and time.monotonic() < self._next_look:
            return set()
        done = self._kept.keys() | self._kept.failures(__version__).keys()
        count = len(self._awaited & done)
        self._bar.update(count - self._shown)
        self._shown = count
        self._next_look = time.monotonic() + _LOOK_SECONDS
        return done


def _keep(kept: Store, outcome: list[tuple[dict, Computed | str]]) -> None:
    """Store what came of a group."""
    keyed = [(key_of(setting), plain(setting), came) for setting, came in outcome]
    finished = [(key, setting, came) for key, setting, came in keyed if not isinstance(came, str)]
    if finished:
        of_group = [(key, setting, came.result) for key, setting, came in finished]
        kept.add(of_group, __version__, finished[0][2].provenance)
    for key, setting, came in keyed:
        if isinstance(came, str):
            kept.add_failure(key, setting, came, __version__)
    kept.drop_checkpoint(Checkpoint.of(kept.path, [key for key, _, _ in keyed]).label)


def _warn_of_failures(errors: list[str], planned: int, store: str | os.PathLike | None) -> None:
    again = ""
    if store is not None:
        again = "; retry_failed=True (on the command line --retry-failed) tries again"
    warnings.warn(
        f"{len(errors)} of {planned} settings failed and are left out, the first with {errors[0]}; "
        f'table.attrs["failed"] lists them{again}',
        stacklevel=3,
    )


def _with_versions(
    rows: list[tuple[dict, Result, str]], store: str | os.PathLike | None
) -> pd.DataFrame:
    """The table of settings and results; it says whose they are if another version has part in it."""
    table = table_of((setting, result) for setting, result, _ in rows)
    others = sorted({version for _, _, version in rows} - {__version__})
    if others:
        table["version"] = [version for _, result, version in rows for _ in range(rows_of(result))]
        number = sum(version != __version__ for _, _, version in rows)
        warnings.warn(
            f"{number} of {len(rows)} results in {os.fspath(store or '')!r} are of relaysim "
            f"{', '.join(others)}, and this is {__version__}: the column version says which; another store "
            f"computes them anew",
            stacklevel=3,
        )
    return table


def _require_lasting(planned: list[dict]) -> None:
    """Raise where a store could not tell a problem from another one later."""
    for setting in planned:
        problem = setting["problem"]
        if isinstance(problem, OwnProblem) and not problem.lasting:
            raise ValueError(
                f"a store cannot tell {problem.described['class']} from another problem later; give the "
                f"class a to_config() that returns all that it is made of as plain data and arrays, or "
                f"leave store out"
            )


def _require_fitting(by_key: dict[str, dict], jobs: int, max_memory: float | str | None) -> None:
    """Raise where a group that runs at given rates could not fit in memory, beside others like it."""
    most = None if max_memory is None else size_in_bytes(max_memory, "max_memory")
    for group in _groups(by_key):
        first = by_key[group[0]]
        few = len(group) < _FEW and len(group) * (first["steps"] or 0) < _FEW_RECORDS
        if first["learning_rate"] is None or (few and most is None):
            continue
        arguments = _arguments([by_key[key] for key in group])
        try:
            require_fitting(need_of(arguments), most, effective_n_jobs(jobs) if jobs != 1 else 1)
        except ValueError as error:
            described = f"{first['algorithm']} on {first['topology']}"
            raise ValueError(f"{described}, a group of {len(group)} settings: {error}") from None


def _stored_as(stored: set[str], by_key: dict[str, dict]) -> dict[str, str]:
    """For the settings that a store holds, their keys there, which may be those of an earlier version."""
    found = {key: key for key in by_key if key in stored}
    for key, setting in by_key.items() if stored else ():
        former = (
            None if key in found else next(filter(stored.__contains__, former_keys(setting)), None)
        )
        if former is not None:
            found[key] = former
    return found


def load_sweep(store: str | os.PathLike) -> pd.DataFrame:
    """Everything that a store holds, as the table that `sweep` returns, in the order of storing.

    Raises:
        ValueError: the file is no store, or of a newer format.
        FileNotFoundError: there is no such file.
    """
    if not pathlib.Path(store).exists():
        raise FileNotFoundError(f"there is no store {os.fspath(store)!r}")
    results = stored_results(store)
    of_sweeps = [each[:3] for each in results if "study" not in each.setting]
    if results and not of_sweeps:
        raise ValueError(
            f"{os.fspath(store)!r} holds a study, {results[0].setting['study']}, and no sweep; call that "
            f"with store= to have its table"
        )
    return _with_versions(of_sweeps, store)


# -- running -----------------------------------------------------------------------------------------


def _groups(by_key: dict[str, dict]) -> list[list[str]]:
    """Keys of settings that run together: alike but for learning rate and seed, at fixed rates.

    It depends on the settings of the sweep only, not on what is stored, so that a sweep that goes
    on after an interruption runs the groups that it would have run.
    """
    grouped: dict[str, list[str]] = {}
    for key, setting in by_key.items():
        # Tuned rates are found one by one, and a schedule is shared by seeds only.
        rate = setting["learning_rate"]
        apart = {"seed", "learning_rate"} if isinstance(rate, float) else {"seed"}
        if rate is None:
            apart = set()
        rest = {k: v for k, v in setting.items() if k not in apart}
        label = json.dumps(plain(rest), sort_keys=True)
        grouped.setdefault(label, []).append(key)
    return list(grouped.values())


def computed_again(
    settings: list[dict], row: int | None = None
) -> Iterator[tuple[int, Result | str]]:
    """The results of complete settings, or of the one at a place, by place; an error where one failed.

    They are computed in groups, as a sweep of these settings computes them.
    """
    places: dict[str, list[int]] = {}  # of equal settings several
    for place, setting in enumerate(settings):
        places.setdefault(key_of(setting), []).append(place)
    for group in _groups({key: settings[each[0]] for key, each in places.items()}):
        if row is None or any(row in places[key] for key in group):
            for setting, outcome in _tried([settings[places[key][0]] for key in group]):
                for place in places[key_of(setting)]:
                    if row is None or place == row:
                        yield place, outcome if isinstance(outcome, str) else outcome.result


def _tried(
    group: list[dict], store: pathlib.Path | None = None
) -> list[tuple[dict, Computed | str]]:
    """Each setting of a group with its result, or with its error: then each runs by itself."""
    try:
        with one_thread():
            where = provenance()
            found = _run_group(group, store)
            return [(setting, Computed(result, where)) for setting, result in found]
    except Exception as error:
        if len(group) == 1:
            return [(group[0], f"{type(error).__name__}: {error}")]
    return [outcome for setting in group for outcome in _tried([setting], store)]


def _run_group(group: list[dict], store: pathlib.Path | None = None) -> list[tuple[dict, Result]]:
    """Each setting of a group with its result, computed together; long runs have checkpoints in a store."""
    first = group[0]
    if first["learning_rate"] is None:
        return [(first, _tuned(first, build(first)))]
    arguments = _arguments(group)
    rates, seeds = _rates(group), arguments["seed"]
    if store is None:
        history = simulate(**arguments, progress=False)
    else:
        history = simulated(arguments, Checkpoint.of(store, map(key_of, group)))
    known = ["replica", "seed"] + (["learning_rate"] if isinstance(rates, list) else [])
    frame = history.frame.drop(columns=known)
    columns = {
        str(name): frame[name].to_numpy().reshape(len(history.diverged), -1) for name in frame
    }
    results = []
    for setting in group:
        replica = seeds.index(setting["seed"])
        if isinstance(rates, list):
            replica += rates.index(setting["learning_rate"]) * len(seeds)
        results.append((setting, {name: values[replica] for name, values in columns.items()}))
    return results


def _arguments(group: list[dict]) -> dict[str, Any]:
    """Of `relaysim.simulate`, for a group at given rates."""
    first, rates = group[0], _rates(group)
    return {
        **build(first),
        **arguments_of(first, FIXED),
        "learning_rate": rates if isinstance(rates, list) else rate_of(rates),
        "seed": sorted({setting["seed"] for setting in group}),
        "steps": first["steps"],
        "record": first["record"],
    }


def _rates(group: list[dict]) -> list[float] | str:
    """The numbers that are the rates of a group, or the one schedule that it has."""
    rates = {setting["learning_rate"] for setting in group}
    return next(iter(rates)) if isinstance(group[0]["learning_rate"], str) else sorted(rates)


def _tuned(setting: dict, arguments: dict) -> Result:
    try:
        found = search(setting, arguments, progress=False)
    except StartsBelowTargetError:
        return {"learning_rate": np.array([np.nan]), "steps_to_target": np.array([0.0])}
    tried = {f"tried/{name}": found.frame[name].to_numpy() for name in found.frame}
    chosen = {
        "learning_rate": np.array([found.learning_rate]),
        "steps_to_target": np.array([found.steps]),
    }
    return chosen | tried
