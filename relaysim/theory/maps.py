"""Exact rates of methods over learning rates and settings, as one call, and kept in a file."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from relaysim.algorithms.events import Algorithm
from relaysim.algorithms.fit import check_compatible, matrices_for
from relaysim.support.checks import real_numbers, shown
from relaysim.support.display import html_table
from relaysim.support.files import written_aside
from relaysim.support.interrupts import called_by_user
from relaysim.support.progress import progress_bar
from relaysim.support.threads import in_processes
from relaysim.theory.affine import AffineStep
from relaysim.theory.durations import (
    BY_PARAMETERS,
    BY_WORKERS,
    TimeLimit,
    assembly_seconds,
    taken_by,
)
from relaysim.theory.linear import Linearization, linearize
from relaysim.theory.pencil import pencil_of
from relaysim.theory.spectra import NEUTRAL, spectral_radius
from relaysim.topologies import TreePair
from relaysim.version import __version__

__all__ = ["RateMap", "rate_map"]

# To so much of themselves boundaries and best rates are found.
BOUNDARY, BEST = 1e-8, 1e-3
# About so many rates are tried for these beside those of the grid.
REFINEMENTS = 20

Known = dict[str, float]


class RateMap:
    """Exact rates over a grid; see `relaysim.theory.map`.

    Attributes:
        frame: a row for each method, setting and learning rate, with ``spectral_radius``, ρ per step.
        boundary: learning rates at which ρ = 1 between those of the grid, with ``stable``, on which side of
            it: "below" or "above".
        best: of each method and setting the learning rate with the smallest ρ, and that; none where the grid
            has no stable one.
    """

    def __init__(self, frame: pd.DataFrame, boundary: pd.DataFrame, best: pd.DataFrame):
        self.frame, self.boundary, self.best = frame, boundary, best

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{row.method}, {row.setting}",
                f"ρ = {row.spectral_radius:.4g} at {row.learning_rate:.4g}",
            )
            for row in self.best.itertuples()
        ]
        return html_table("Best rates of a map", rows)


def rate_map(
    methods: Algorithm | Sequence[Algorithm],
    settings: Mapping[Any, Sequence[Any]],
    learning_rates: ArrayLike,
    store: str | os.PathLike | None = None,
    progress: bool | None = None,
    n_jobs: int = 1,
    seconds: float | None = None,
) -> RateMap:
    """The exact rate of methods over learning rates and settings, with stability boundary and best rates.

    ρ is `Linearization.spectral_radius`. Between neighbours of the grid on different sides of ρ = 1 the
    boundary is found to 1e-8 of itself, and the best rate to about 1e-3 between the neighbours of the best of
    the grid: what lies between two points of the grid on one side is not seen; see `stable_learning_rates`
    for a search that looks for it.

    Args:
        methods: one or several, each with a label of its own.
        settings: by what stands on the other axis, such as a spectral gap, a condition number or (n, graph):
            ``(problem, topology)`` or ``(problem, topology, mixing)``.
        learning_rates: positive, increasing, at least two.
        store: a ``.npz`` file that keeps every ρ that was computed, and is asked first; made where there is
            none. It knows them by what the map is made of, by this version of relaysim.
        progress: a progress bar: True, False, or None: if it lasts and someone watches.
        n_jobs: processes; with 1, ``joblib.parallel_config`` decides.
        seconds: refuse before starting what would take longer, by an estimate from the sizes and what ρ takes
            once for each method, mostly within a factor of 3; no limit by default.

    Raises:
        TypeError, ValueError: as `relaysim.theory.linearize`, rates that do not increase, settings that are
            none, methods with one label, a store that is none, or more than ``seconds``.

    Interrupted, it has kept in the store what was finished, warns, and gives a map that has NaN where no rate
    was computed, and boundaries and best rates of the rows that are whole.

    >>> import numpy as np
    >>> import relaysim as rs
    >>> problem = rs.problems.DiagonalQuadratic(np.ones((8, 1)), np.arange(8.0)[:, None])
    >>> graph = rs.topologies.complete(8)
    >>> gaps = {gap: (problem, graph, rs.mixing.with_spectral_gap(8, gap)) for gap in (0.1, 0.5)}
    >>> found = rs.theory.map(rs.algorithms.GradientTracking(), gaps, np.geomspace(0.01, 4, 12))
    >>> found.boundary.round(4).values.tolist()
    [['Gradient tracking', 0.1, 2.0, 'below'], ['Gradient tracking', 0.5, 2.0, 'below']]
    >>> found.best.spectral_radius.round(4).tolist()
    [0.9487, 0.7071]
    """
    chosen = list(methods) if isinstance(methods, Sequence) else [methods]
    labels = [method.label for method in chosen]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(
            f"methods must be one or more with a label of their own each, not {chosen!r}"
        )
    rates = real_numbers(learning_rates, "learning_rates", finite=True)
    if rates.ndim != 1 or len(rates) < 2 or not (rates[0] > 0 and (np.diff(rates) > 0).all()):
        raise ValueError(
            f"learning_rates must be two or more positive numbers that increase, not {shown(learning_rates)}"
        )
    cells, affine = [], set()
    for setting, given in settings.items():
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ValueError(
                f"a setting must be (problem, topology) or (problem, topology, mixing), and that of "
                f"{setting!r} is {shown(given)}"
            )
        problem, topology, mixing = (*given, None)[:3]
        for method in chosen:
            check_compatible(problem, topology, method)
            matrices = matrices_for(method, topology, mixing)
            if (id(problem), method.label) not in affine:
                linearize(problem, topology, method, float(rates[0]), mixing=mixing)
                affine.add((id(problem), method.label))
            digest = "" if store is None else _digest(problem, topology, method, matrices)
            cells.append((method, setting, (problem, topology, method, matrices), digest))
    if not cells:
        raise ValueError("there are no settings; give at least one")
    kept = {} if store is None else _read(store)
    rows: list[tuple[list[float], list[tuple[float, str]], tuple[float, float] | None]] = []
    tasks = [(given, rates, _of(kept, digest)) for _, _, given, digest in cells]
    if seconds is not None:
        _require_time(seconds, tasks, joblib.effective_n_jobs(n_jobs))
    try:
        with progress_bar(len(cells), progress, "map of rates", "rows") as bar:
            for (*row, known), cell in zip(in_processes(_row, tasks, n_jobs), cells, strict=False):
                rows.append(tuple(row))  # type: ignore[arg-type]
                kept.update({f"{cell[3]} {rate}": radius for rate, radius in known.items()})
                bar.update()
    except KeyboardInterrupt:
        if not called_by_user("rate_map"):
            raise
        warnings.warn(
            f"the map was interrupted: {len(rows)} of {len(cells)} rows are whole, and rates that were not "
            f"computed are NaN; call it again for all of it",
            RuntimeWarning,
            stacklevel=2,
        )
        for (_, _, known), cell in zip(tasks[len(rows) :], cells[len(rows) :], strict=True):
            kept.update({f"{cell[3]} {rate}": radius for rate, radius in known.items()})
            rows.append(([known.get(rate.hex(), math.nan) for rate in rates.tolist()], [], None))
    finally:
        if store is not None:
            _write(store, kept)
    return _assembled(cells, rates, rows)


def _require_time(seconds: float, tasks: list, jobs: int) -> None:
    """Raise where a map would take longer: rows take what the largest of their method does, but for size."""
    missing: dict[str, list[tuple[int, int, int, tuple]]] = {}
    for given, rates, known in tasks:
        problem, _, method, _ = given
        count = len(rates) + REFINEMENTS if any(rate.hex() not in known for rate in rates) else 0
        missing.setdefault(method.label, []).append((problem.n, problem.d, count, given))
    missing = {
        label: rows for label, rows in missing.items() if any(count for _, _, count, _ in rows)
    }
    if not missing:
        return
    sizes = [row[:2] for rows in missing.values() for row in rows]
    n, d = max(sizes, key=math.prod)
    mend = "give more seconds, fewer learning rates or fewer settings"
    rates = tasks[0][1]
    middle = float(rates[len(rates) // 2])
    limit = TimeLimit(seconds, f"a map of {len(tasks)} rows", n, d, mend=mend)
    total = 0.0
    for rows in missing.values():
        n, d, _, given = max(rows, key=lambda row: row[0] * row[1])
        radius = _radius_by_rate(given, limit)
        one = taken_by(functools.partial(radius, middle))
        total += sum(
            count * one * (row_n / n) ** BY_WORKERS * (row_d / d) ** BY_PARAMETERS
            for row_n, row_d, count, _ in rows
        )
    limit.require(total / jobs)


def _assembled(cells: list, rates: np.ndarray, rows: list) -> RateMap:
    grid, boundary, best = [], [], []
    for (method, setting, *_), (radii, ends, lowest) in zip(cells, rows, strict=True):
        name = (method.label, setting)
        grid += [(*name, rate, radius) for rate, radius in zip(rates, radii, strict=True)]
        boundary += [(*name, *end) for end in ends]
        best += [] if lowest is None else [(*name, *lowest)]
    where = ["method", "setting", "learning_rate"]
    return RateMap(
        pd.DataFrame(grid, columns=[*where, "spectral_radius"]),
        pd.DataFrame(boundary, columns=[*where, "stable"]),
        pd.DataFrame(best, columns=[*where, "spectral_radius"]),
    )


def _row(
    given: tuple, rates: np.ndarray, known: Known
) -> tuple[list[float], list[tuple[float, str]], tuple[float, float] | None, Known]:
    """ρ at these rates, where it passes 1 and on which side it is below, the best rate, and all known.

    Args:
        given: problem, topology, method and matrices.
        known: ρ by rate, written exactly.
    """
    radius_at: Callable[[float], float] | None = None

    def excess(rate: float) -> float:
        """ρ − 1, 0 where rounding hides which."""
        nonlocal radius_at
        key = float(rate).hex()
        if key not in known:
            radius_at = radius_at or _radius_by_rate(given)
            known[key] = radius_at(float(rate))
        off = known[key] - 1
        return off if abs(off) > NEUTRAL else 0.0

    values = [excess(rate) for rate in rates]
    ends = []
    # As γ → 0 nobody learns and ρ → 1, which is no boundary.
    first = next((k for k, value in enumerate(values) if value != 0), len(values))
    for k, (before, after) in enumerate(itertools.pairwise(values)):
        if k >= first and (before < 0) != (after < 0):
            end = scipy.optimize.brentq(excess, rates[k], rates[k + 1], xtol=1e-300, rtol=BOUNDARY)
            ends.append((float(end), "below" if before < 0 else "above"))
    least = int(np.argmin(values))
    best = (values[least], float(rates[least]))
    low, high = rates[max(least - 1, 0)], rates[min(least + 1, len(rates) - 1)]
    if best[0] < 0:
        found = scipy.optimize.minimize_scalar(
            excess, bounds=(low, high), method="bounded", options={"xatol": BEST * rates[least]}
        )
        best = min(best, (float(found.fun), float(found.x)))
    lowest = (best[1], known[best[1].hex()]) if best[0] < 0 else None
    return [known[float(rate).hex()] for rate in rates], ends, lowest, known


def _radius_by_rate(given: tuple, limit: TimeLimit | None = None) -> Callable[[float], float]:
    """ρ at any rate, from matrices that are affine in it where they are, if these can be had in the time."""
    problem, topology, method, matrices = given
    start = np.zeros((problem.n, problem.d))

    def made(rate: float) -> AffineStep:
        return AffineStep(problem, topology, method, rate, matrices, start)

    if limit is not None:
        assembly = assembly_seconds(made(0.0))
        limit.require(assembly, measurement=assembly)
    probe = np.random.default_rng(0).normal(size=(*start.shape, 1))
    curvature = float(np.abs(made(0.0).curvature(probe)).max())
    pencil = pencil_of(made, curvature) if curvature > 0 else None

    def radius(rate: float) -> float:
        if pencil is None:
            return Linearization(problem, topology, method, rate, matrices, start).spectral_radius
        at_rate = pencil.matrices(rate)
        return spectral_radius(at_rate, pencil.conserved(rate, at_rate[0]), pencil.seen)

    return radius


# -- what is kept ----------------------------------------------------------------------------------------


def _digest(problem: Any, topology: Any, method: Algorithm, matrices: tuple) -> str:
    """What ρ depends on but the learning rate: all gradients, which are affine, edges and weights, and what
    the problem says of itself to methods that ask.
    """
    n, d = problem.n, problem.d
    points = np.concatenate([np.zeros((d, 1)), np.eye(d)], axis=1)
    found = hashlib.sha256(f"{__version__} {method!r} {topology!r} {n} {d}".encode())
    parts = [problem.gradient(np.ascontiguousarray(np.broadcast_to(points, (n, d, d + 1))))]
    asked = ("examples", "local_smoothness", "mean_strong_convexity", "strong_convexity")
    said = [getattr(problem, name, None) for name in asked]
    parts += [np.asarray(math.nan if each is None else each, dtype=float) for each in said]
    trees = (topology.first, topology.second) if isinstance(topology, TreePair) else (topology,)
    parts += [tree.edges for tree in trees]
    for W in matrices:
        parts += [W @ np.eye(n)]
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()[:32]


def _of(kept: Known, digest: str) -> Known:
    """What is known of one row, by rate."""
    return {key[33:]: radius for key, radius in kept.items() if key[:32] == digest}


def _read(store: str | os.PathLike) -> Known:
    if not pathlib.Path(store).exists():
        return {}
    try:
        with np.load(store, allow_pickle=False) as file:
            return dict(zip(file["keys"].tolist(), file["radii"].tolist(), strict=True))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{os.fspath(store)!r} is no store of a map of rates: {error}; name another file, or one that "
            f"does not exist"
        ) from error


def _write(store: str | os.PathLike, kept: Known) -> None:
    with written_aside(store) as aside, aside.open("wb") as file:
        np.savez(file, keys=np.array(list(kept), dtype=str), radii=np.array(list(kept.values())))
