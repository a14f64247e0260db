"""Plain data and arrays in one ``.npz`` file: arrays as they are, JSON for the rest, no pickle."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np

from relaysim.support.files import written_aside

__all__ = ["FORMAT", "read", "write"]

FORMAT = 1
ENDING = ".npz"


def write(
    path: str | os.PathLike, header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> pathlib.Path:
    """Write plain data, in which there may be arrays as well, and arrays by name; returns the path.

    The file is written aside and renamed, so that an older one is replaced only by a whole one.
    """
    path = pathlib.Path(path)
    if path.suffix != ENDING:
        path = path.with_name(path.name + ENDING)
    arrays = dict(arrays)
    plain = {key: _detach(value, key, arrays) for key, value in header.items()}
    text = np.frombuffer(json.dumps({"format": FORMAT} | plain).encode(), dtype=np.uint8)
    with written_aside(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **{"header": text} | arrays)
    return path


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write` wrote.

    Raises:
        ValueError: the file is none of these, or of a newer format.
    """
    path = pathlib.Path(path)
    if not path.exists() and path.suffix != ENDING:
        path = path.with_name(path.name + ENDING)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        version = header.pop("format")
    except (KeyError, ValueError, TypeError, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{os.fspath(path)!r} is not a saved relaysim history") from error
    if version > FORMAT:
        raise ValueError(
            f"{os.fspath(path)!r} has format {version} and this version reads up to {FORMAT}; "
            f"update relaysim"
        )
    return _attach(header, arrays), arrays


def _detach(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Move the arrays within plain data into ``arrays``, leaving their names behind."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"type": "array", "name": name}
    if isinstance(value, dict):
        return {key: _detach(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_detach(item, f"{name}/{k}", arrays) for k, item in enumerate(value)]
    return value


def _attach(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.get("type") == "array":
            return arrays[value["name"]]
        return {key: _attach(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_attach(item, arrays) for item in value]
    return value
