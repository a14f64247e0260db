"""How much memory a run takes at the least, before anything of it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaysim.engine.plan import number_of_records, record_steps
from relaysim.schedules import PerWorker
from relaysim.support.checks import memory_bytes, size_text

__all__ = ["Need", "need_of", "require_fitting"]

#: A record's step as a number of Python's, and its place in a list.
BYTES_OF_RECORD = 40
#: A replica's seed, rate and place, in the plan and in the description.
BYTES_OF_REPLICA = 120
#: A stream of random numbers of one seed; methods in continuous time have several.
BYTES_OF_STREAM = 1000
#: x before and after a step, the gradient, and one more: what the least method holds.
ARRAYS = 4
_COLUMNS = 5


@dataclass(frozen=True)
class Need:
    """What a run holds: n workers with d parameters, r replicas, records of so many columns each.

    ``draws``: streams a replica; ``kept``: workers whose iterates are kept; ``steps`` of the run.
    """

    n: int
    d: int
    r: int
    steps: int
    records: int
    columns: int = _COLUMNS
    kept: int = 0
    draws: bool = False

    @property
    def of_replicas(self) -> int:
        """Bytes of the state of all."""
        arrays = 8 * ARRAYS * self.n * self.d
        return self.r * (BYTES_OF_REPLICA + arrays + BYTES_OF_STREAM * self.draws)

    @property
    def of_records(self) -> int:
        """Bytes of what is recorded of all."""
        return self.records * (BYTES_OF_RECORD + 8 * self.r * (self.columns + self.kept * self.d))

    @property
    def bytes(self) -> int:
        """In all, at the least."""
        return self.of_replicas + self.of_records

    def most_replicas(self, limit: float) -> int:
        """How many of them fit."""
        fixed = BYTES_OF_RECORD * self.records
        return max(int((limit - fixed) // ((self.bytes - fixed) / self.r)), 0)

    def rarest_record(self, limit: float) -> int | None:
        """The k with which every k-th step can be recorded; None if not even the last can."""
        most = (limit - self.of_replicas) / (self.of_records / self.records) if self.records else 0
        return math.ceil(self.steps / (math.floor(most) - 1)) if most >= 2 else None


def need_of(arguments: Mapping[str, Any]) -> Need:
    """What `relaysim.simulate` would hold with these arguments, which may be wrong.

    >>> from relaysim.problems import random_quadratics
    >>> problem = random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
    >>> need_of({"problem": problem, "learning_rate": [0.1, 0.2], "seed": range(50), "steps": 10}).r
    100
    """
    rates, seeds = arguments["learning_rate"], arguments.get("seed", 0)
    x0, replicas = arguments.get("x0"), arguments.get("replicas")
    of_rates = 1 if callable(rates) or isinstance(rates, PerWorker) else _count(rates)
    of_seeds = _count(seeds) if replicas is None else int(replicas)
    starts = x0.shape[2] if isinstance(x0, np.ndarray) and x0.ndim == 3 else 1
    steps, record = int(arguments["steps"]), arguments.get("record")
    logged = isinstance(record, str) and record == "log"
    n, d = (getattr(arguments["problem"], name, 1) for name in ("n", "d"))
    return Need(
        n=n if isinstance(n, int) else 1,
        d=d if isinstance(d, int) else 1,
        r=max(of_rates * of_seeds, starts),
        steps=steps,
        records=len(record_steps(record, steps)) if logged else number_of_records(record, steps),
        draws=arguments.get("oracle") is not None or arguments.get("faults") is not None,
    )


def _count(value: Any) -> int:
    """How many there are of what may be one or several."""
    several = isinstance(value, list | tuple | range) or (
        isinstance(value, np.ndarray) and value.ndim > 0
    )
    return max(len(value), 1) if several else 1


def require_fitting(need: Need, max_memory: float | None = None, shares: int = 1) -> None:
    """Raise where a run cannot fit in memory, with what it takes and the largest that fits.

    Args:
        need: of the run.
        max_memory: bytes that it may take; None for all that this machine has.
        shares: so many runs share it.

    >>> require_fitting(Need(n=4, d=2, r=10**6, steps=9, records=1), max_memory=1e8)
    Traceback (most recent call last):
        ...
    ValueError: 1000000 replicas would take 416 MB of memory and max_memory allows 100 MB; take fewer: up to
    240384 fit
    """
    there = float(memory_bytes())
    limit = there if max_memory is None else min(max_memory, there)
    said = f"this machine has {size_text(there)}"
    if limit < there:
        said = f"max_memory allows {size_text(limit)}"
    if shares > 1:
        said, limit = f"{said} for {shares} processes", limit / shares
    if need.bytes <= limit:
        return
    replicas, records = f"{need.r} replicas", f"{need.records} records"
    of_replicas = f" of {replicas}" if need.r > 1 else ""
    mends = []
    if need.of_records > need.of_replicas:
        what, every = f"{records}{of_replicas}", need.rarest_record(limit)
        mends.append(
            "record less often (record=100, record='log')"
            if every is None
            else f"record less often: record={every} fits (record='log' is about 40 a decade)"
        )
        if need.kept:
            what = f"the iterates of {need.kept} workers at {what}"
            mends.append("keep those of fewer workers (keep_iterates=[0])")
        if need.r > 1 and (most := need.most_replicas(limit)):
            mends.append(f"take up to {most} replicas")
    else:
        most = need.most_replicas(limit)
        what = replicas if need.r > 1 else f"{need.n} workers with {need.d} parameters"
        fits = need.r > 1 and most
        mends.append(
            f"take fewer: up to {most} fit" if fits else "take fewer workers or parameters"
        )
    raise ValueError(
        f"{what} would take {size_text(need.bytes)} of memory and {said}; {', or '.join(mends)}"
    )
