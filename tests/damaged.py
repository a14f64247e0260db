"""What relaysim reads, small, and how: for tests and benchmarks that damage it."""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mutations import mutations

import relaysim as rs
from relaysim.records import archive
from relaysim.studies.expansion import expand, read_sweep
from relaysim.studies.settings import complete

TOML = """n = 6
d = 3
zeta2 = [0.5, 2.0]
learning_rate = [0.05, 0.2]
seed = [0, 1]
steps = 20
[[cases]]
algorithm = "ConsensusControl(D2(), Critical(1.0))"
topology = ["ring", "torus(2, 3)"]
[[cases]]
algorithm = "ChocoSGD(TopK(2), 0.5)"
topology = "ring"
mixing = "uniform(0.3)"
oracle = "Gaussian(0.1)"
"""
SWEEP = {"n": 4, "d": 2, "topology": ["chain", "star"], "learning_rate": 0.1, "steps": 3}
SVMLIGHT = b"+1 1:0.5 3:-2\n-1 2:4e1 # a comment\n\n+1 1:-1 3:1\n-1 1:7 2:1e-3\n"
OPTIONS = {
    "topology": "regular_tree(7, 3)",
    "algorithm": "RelaySGD(momentum=0.9, overlap=True)",
    "learning_rate": "Cosine(0.5, steps=500, warmup=10)",
    "faults": "MessageDrop(0.01)",
}


@dataclass(frozen=True)
class Reader:
    """One kind of input: a whole one, how it is read, and whether what was read is in order.

    ``is_right(found)`` is of what a damaged one gave without an error.
    """

    whole: bytes
    read: Callable[[pathlib.Path], Any]
    is_right: Callable[[Any], bool]


def readers(folder: pathlib.Path) -> dict[str, Reader]:
    """By name; files that are whole are made in ``folder``."""
    history = rs.simulate(
        rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0),
        rs.topologies.chain(4),
        rs.algorithms.RelaySGD(momentum=0.5),
        learning_rate=[0.1, 0.2],
        steps=4,
        oracle=rs.oracles.Gaussian(0.1),
        keep_iterates=True,
    )
    path = history.save(folder / "whole.npz")
    header, arrays = _undigested(path)
    former = folder / "former.npz"
    np.savez_compressed(former, header=header, **arrays)

    def is_the_same(found: Any) -> bool:
        again = found.save(folder / "again.npz")
        return found.frame.equals(history.frame) and _content(again) == _content(path)

    store = folder / "whole.db"
    table = rs.sweep(SWEEP, store=store, progress=False)

    def is_the_table(found: pd.DataFrame) -> bool:
        return found.equals(table)

    def gone_on_with(path: pathlib.Path) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d of the results in")
            return rs.sweep(SWEEP, store=path, progress=False)

    found = {
        "store": Reader(store.read_bytes(), rs.load_sweep, is_the_table),
        "store to go on with": Reader(store.read_bytes(), gone_on_with, is_the_table),
        "history": Reader(path.read_bytes(), rs.History.load, is_the_same),
        "history of version 0.1": Reader(former.read_bytes(), rs.History.load, is_the_same),
        "svmlight": Reader(SVMLIGHT, rs.problems.data.svmlight, _is_finite),
        "toml": Reader(TOML.encode(), lambda path: expand(read_sweep(path), path), bool),
    }
    for key, text in OPTIONS.items():
        found[key] = Reader(text.encode(), _with_option(key), bool)
    return found


def _undigested(path: pathlib.Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A history's file as version 0.1 wrote it."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    del header["digest"]
    return np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), arrays


def _content(path: pathlib.Path) -> tuple[Any, ...]:
    header, arrays = archive.read(path, lambda header, described: None)
    return repr(header), {name: (each.dtype, each.tobytes()) for name, each in arrays.items()}


def _is_finite(found: rs.problems.data.Dataset) -> bool:
    return bool(np.isfinite(found.features.toarray()).all() and np.isfinite(found.labels).all())


def _with_option(key: str) -> Callable[[pathlib.Path], Any]:
    def read(path: pathlib.Path) -> Any:
        text = path.read_bytes().decode(errors="replace")
        stated = {"topology": "chain(7)", "learning_rate": 0.1, "d": 2} | {key: text}
        return complete(stated)

    return read


def fault_of(reader: Reader, damaged: bytes, path: pathlib.Path) -> str:
    """What is wrong with how a damaged input was met; nothing if it was refused in a sentence or is right."""
    path.write_bytes(damaged)
    try:
        found = reader.read(path)
    except ValueError as error:
        return "" if len(str(error).split()) > 3 else f"says only {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if reader.is_right(found) else "was taken for whole, and is not"


def faults_of(reader: Reader, count: int, seed: int, path: pathlib.Path) -> list[str]:
    """What `fault_of` says of so many damaged copies, where it says something."""
    copies = mutations(reader.whole, count, seed)
    found = ((copy, fault_of(reader, copy, path)) for copy in copies)
    return [f"{fault} ({copy[:200]!r})" for copy, fault in found if fault]
