"""All combinations of values of a method's options."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relaysim.algorithms.events import Algorithm
from relaysim.support.checks import plain_scalar, shown

__all__ = ["combined"]


def combined(
    algorithm: Algorithm, over: Mapping[str, Iterable[Any]] | None
) -> Iterator[tuple[dict[str, Any], Algorithm]]:
    """All combinations of options, and the method with each."""
    if over is None:
        yield {}, algorithm
        return
    if not isinstance(over, Mapping):
        raise TypeError(
            f"over must be a mapping such as {{'momentum': [0, 0.9]}}, not {shown(over)}"
        )
    made: Any = algorithm  # a dataclass, as each method is
    if isinstance(algorithm, type) or not dataclasses.is_dataclass(algorithm):
        raise TypeError(
            f"{shown(algorithm)} has no options to combine; give a method such as relaysim.algorithms.DPSGD()"
        )
    fields = [each.name for each in dataclasses.fields(made)]
    lists: dict[str, list[Any]] = {}
    for name, values in over.items():
        if name not in fields:
            there = f"it has {', '.join(fields)}" if fields else "it has none"
            raise ValueError(f"{type(algorithm).__name__} has no option {shown(name)}; {there}")
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError(f"over[{name!r}] must be a list of values, not {shown(values)}")
        lists[name] = [plain_scalar(each) for each in values]
        if not lists[name]:
            raise ValueError(f"over[{name!r}] is empty; give at least one value, or leave it out")
    for chosen in itertools.product(*lists.values()):
        options = dict(zip(lists, chosen, strict=True))
        yield options, dataclasses.replace(made, **options)
