"""A history's file, read: its arrays fit each other, and its parts are made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from relaysim.records import archive, configuration
from relaysim.records.archive import Described
from relaysim.records.state import KeptState
from relaysim.support.streams import seed_array

__all__ = ["loaded"]

_ARRAYS = {
    "steps": "iu",
    "seeds": "iuU",
    "learning_rates": "f",
    "vectors_sent": "iuf",
    "last_record": "iu",
    "diverged": "b",
    "x": "f",
}


def loaded(path: str | os.PathLike) -> dict[str, Any]:
    """The arguments of `relaysim.History` that `History.save` wrote.

    Raises:
        ValueError: see `History.load`.
    """
    header, arrays = archive.read(path, _require_fitting)
    try:
        return _arguments(header, arrays)
    except archive.UNREADABLE as error:
        raise ValueError(
            f"{os.fspath(path)!r} has what no history has: {type(error).__name__}: {error}"
        ) from error


def _arguments(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    config = header["config"]
    found: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    steps, last = found["steps"], found["last_record"]
    if (np.diff(steps, prepend=-1) < 1).any() or not ((last >= -1) & (last < len(steps))).all():
        raise ValueError("its steps do not increase, or a replica ends where there is no record")
    if found["seeds"].dtype.kind == "U":
        found["seeds"] = seed_array([int(seed) for seed in found["seeds"]])
    columns = {
        name.removeprefix("column/"): values
        for name, values in arrays.items()
        if name.startswith("column/")
    }
    counts = {
        name.removeprefix("faults/"): values
        for name, values in arrays.items()
        if name.startswith("faults/")
    }
    parts = {
        name: None
        if configuration.owned(config[name])
        else configuration.decode(config[name], name)
        for name in ("problem", "topology", "algorithm")
    }
    return {
        **found,
        **parts,
        "columns": columns,
        "measures": configuration.measures_in_file(config, list(columns)),
        "iterates": arrays.get("iterates"),
        "time": arrays.get("time"),
        "config": config,
        "fault_counts": counts,
        "trace": configuration.decode(header["trace"], "trace") if "trace" in header else None,
        "interrupted": bool(header.get("interrupted", False)),
        "provenance": header.get("provenance"),
        "state": KeptState(**header["state"]) if "state" in header else None,
    }


def _require_fitting(header: dict[str, Any], described: Mapping[str, Described]) -> None:
    """Raise where arrays are not of one run, before they are unpacked."""
    counted = ("column/", "faults/")
    kinds = {name: "iuf" for name in described if name.startswith(counted)} | _ARRAYS
    kinds |= {name: "f" for name in ("iterates", "time") if name in described}
    referred = set(archive.names_of_arrays(header))
    for name in (*kinds, *referred):
        if name not in described:
            raise ValueError(f"it has no {name}")
    for name, (_, dtype) in described.items():
        if name not in kinds and name not in referred:
            raise ValueError(f"nothing in it tells what {name!r} is")
        if dtype.kind not in kinds.get(name, dtype.kind):
            raise ValueError(f"{name} cannot be of {dtype}")
    shapes = {name: described[name][0] for name in kinds}
    (records,), (r,), x = shapes["steps"], shapes["diverged"], shapes["x"]
    n, d = x[:2]
    allowed: dict[str, list[tuple[int, ...]]] = {
        "seeds": [(r,)],
        "last_record": [(r,)],
        "learning_rates": [(records, r)],
        "vectors_sent": [(records,), (records, 1), (records, r)],
        "time": [(records, 1), (records, r)],
        "x": [(n, d, r)] + [(n, d)] * (r == 1),
    }
    for name, shape in shapes.items():
        fits = shape in allowed.get(name, [shape])
        if name.startswith("column/"):
            fits = shape in ((records, r), (records, n, r))
        elif name.startswith("faults/"):
            fits = shape == (records, r)
        elif name == "iterates":
            fits = len(shape) == len(x) + 1 and shape[0] == records and shape[2:] == x[1:]
        if not fits:
            raise ValueError(
                f"{name} is of shape {shape}, with {records} records, {r} replicas and x of shape {x}"
            )
