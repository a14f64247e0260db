"""The state of a run that was kept, so that it can be gone on with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relaysim.version import __version__

__all__ = ["KeptState", "differing", "fingerprint"]


@dataclass
class KeptState:
    """Where a run stands after its last step.

    Attributes:
        data: what the engine needs to go on, as plain data.
        parts: what the run was given, by the names of `relaysim.simulate`'s arguments; empty in another
            process.
        version: of relaysim, since another may add numbers up in another order.
        run: the `fingerprint` of the run's description in a file, else None.
    """

    data: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    run: str | None = None


def fingerprint(config: Any) -> str:
    """A digest of plain data, arrays included.

    >>> fingerprint({"x": np.zeros(2)}) == fingerprint({"x": np.zeros(2)})
    True
    >>> fingerprint({"x": np.zeros(2)}) == fingerprint({"x": np.ones(2)})
    False
    """
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                digest.update(f"key {key}\n".encode())
                feed(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)}\n".encode())
            for item in value:
                feed(item)
        elif isinstance(value, np.ndarray):
            digest.update(f"array {value.dtype} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(f"{json.dumps(value)}\n".encode())

    feed(config)
    return digest.hexdigest()


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys whose values differ in two descriptions of runs.

    >>> differing({"steps": 1, "x0": np.zeros(2)}, {"steps": 2, "x0": np.zeros(2)})
    ['steps']
    """
    return [key for key in one if not _same(one[key], other.get(key))]


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        return a.shape == b.shape and a.dtype.kind == b.dtype.kind and a.tobytes() == b.tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
