"""What a study has measured, kept in a store, so that it is not measured again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from relaysim.analysis.entries import Entry
from relaysim.oracles import Oracle
from relaysim.records.configuration import encode, encode_mixing
from relaysim.studies.naming import written
from relaysim.studies.problem_kinds import OwnProblem, plain
from relaysim.studies.store import Store
from relaysim.version import __version__

__all__ = ["Memory"]


class Memory:
    """Numbers by what they were measured of, in a store or, without one, nowhere.

    Args:
        path: the store's file; None for none.
        study: whose numbers they are.
    """

    def __init__(self, path: str | os.PathLike | None, study: str):
        self._path, self._study = path, study

    def open(self) -> None:
        """Make the file, or raise StoreError where it cannot be used."""
        if self._path is not None:
            Store(self._path).close()

    def check(self, problem: Any, entry: Entry, oracle: Oracle) -> None:
        """Raise where there is a store and it could not tell these from others."""
        if self._path is None:
            return
        if not OwnProblem(problem).lasting:
            raise ValueError(
                f"a store cannot tell {type(problem).__name__} from other problems: give its class a method "
                f"to_config(), plain data that rebuild it, or leave store out"
            )
        for part in (entry[0], oracle):
            try:
                written(part)
            except ValueError as error:
                raise ValueError(
                    f"a store cannot write this down: {error}; leave store out"
                ) from None

    def of(
        self,
        problem: Any,
        entry: Entry,
        oracle: Oracle,
        options: dict[str, Any],
        measure: Callable[[], dict[str, float]],
    ) -> dict[str, float]:
        """The numbers that ``measure()`` gives of a method on a problem, found or measured.

        ``options``, with a ``seed``, are all that they depend on besides.
        """
        if self._path is None:
            return measure()
        method, graph, mixing = entry
        topology = encode(graph)
        described = options | {
            "study": self._study,
            "problem": OwnProblem(problem).described,
            "algorithm": written(method),
            "topology": {k: v for k, v in topology.items() if k not in ("name", "worker_names")},
            "mixing": encode_mixing(mixing),
            "oracle": written(oracle),
        }
        setting = plain(described)
        key = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()
        with contextlib.closing(Store(self._path)) as store:
            known = store.keys()
            if key in known:
                arrays, _ = store.result(key)
                return {name: float(values[0]) for name, values in arrays.items()}
            found = measure()
            arrays = {name: np.array([value], dtype=float) for name, value in found.items()}
            store.add([(key, setting, arrays)], __version__)
        return found
