"""The problems that a setting can name, and objects of a user's own that stand for one."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from relaysim import problems
from relaysim.problems.data import Dataset
from relaysim.records.configuration import encode
from relaysim.studies.naming import DATASETS, PARTITIONS, named
from relaysim.support.threads import one_thread

__all__ = ["PROBLEM_KINDS", "OwnProblem", "make_problem", "plain"]


def _logistic(
    data: str,
    l2: float,
    partition: str | None,
    *,
    n: int,
    seed: int,
    intercept: bool = False,
    weighting: str = "workers",
    loss: str = "logistic",
) -> problems.Logistic:
    """Logistic regression on data of `relaysim.problems.data` split over n workers.

    Args:
        data: such as ``wine``, ``synthetic(examples=400, dimension=5, drift=1.0)`` or
            ``svmlight("file")``.
        l2: λ of the l2 term.
        partition: such as ``dirichlet(alpha=0.1)``; None where the data say who holds what.
        n, seed: workers, and the seed of the data and of the partition where they name none.
        intercept, weighting, loss: see `relaysim.problems.Logistic`.
    """
    found = _data(data, n, seed)
    split = found.partition
    if split is None or partition is not None:
        if partition is None:
            raise ValueError(f"data {data!r} do not say who holds what; give a partition")
        given = {"labels": found.labels, "features": found.features, "n": n, "seed": seed}
        split = named(partition, PARTITIONS, "partition", given)
    return problems.Logistic(
        found.features,
        found.labels,
        l2,
        partition=split,
        intercept=intercept,
        weighting=weighting,
        loss=loss,
    )


@functools.lru_cache(maxsize=4)
def _data(text: str, n: int, seed: int) -> Dataset:
    return named(text, DATASETS, "data", {"workers": n, "seed": seed})


#: The problems by name, as functions of the settings that are theirs.
PROBLEM_KINDS: Mapping[str, Callable] = {
    "random_quadratics": problems.random_quadratics,
    "Logistic": _logistic,
}


def make_problem(kind: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """The problem of a kind from a setting's values and options of its own; a recent one is kept."""
    return _made(kind, tuple(sorted(given.items())), tuple(sorted(options.items())))


@functools.lru_cache(maxsize=4)
def _made(kind: str, given: tuple, options: tuple) -> Any:
    with one_thread():
        return PROBLEM_KINDS[kind](**dict(given), **dict(options))


class OwnProblem:
    """A problem that a user made, in a setting: the object, and plain data that tell it from others.

    Attributes:
        problem: the object.
        described: its class, sizes, and a digest of all that its ``to_config()`` says; without that
            method, which object of this process it is.
        lasting: whether the description means the same in another process.
    """

    def __init__(self, problem: Any):
        self.problem = problem
        self.lasting = hasattr(problem, "to_config")
        kind = type(problem)
        described: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}"}
        described |= {"n": int(problem.n), "d": int(problem.d)}
        if self.lasting:
            described["digest"] = _digest(encode(problem))
        else:
            described["object"] = id(problem)
        self.described = described


def _digest(config: Any) -> str:
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Encoded values with their arrays as lists: what JSON holds, with all digits."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, OwnProblem):
        return value.described
    return value
