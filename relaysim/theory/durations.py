"""How long exact analysis will take: an estimate before it starts, and a limit that it is held against.

All estimates are made here, from the sizes of a problem and what one step, one product or one radius takes on
this machine at this moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from relaysim.support.checks import real_number
from relaysim.theory.affine import AffineStep
from relaysim.theory.assembly import BATCH_BYTES
from relaysim.theory.groups import groups_of
from relaysim.theory.iteration import FIRST_LOOK, POWERS
from relaysim.theory.spectra import DENSE_STATES

__all__ = [
    "BY_PARAMETERS",
    "BY_WORKERS",
    "TimeLimit",
    "assembly_seconds",
    "columns_seconds",
    "covariance_seconds",
    "product_seconds",
    "radius_products",
    "radius_seconds",
    "rows_seconds",
    "taken_by",
]

# How the time grows with n and with d: products, and more of them where eigenvalues are closer together.
BY_WORKERS, BY_PARAMETERS = 1.5, 2.5
# Short calls are repeated for so long.
LONG = 0.02
# A better estimate is made if it takes no longer than this.
SOON = 2.0
# A step's matrix is put together from so many batches of probes for each one counted, with trials.
PASSES = 4
# A product of dense matrices from which the speed of larger ones is told.
TRIED_SIZE = 256
# In units of N k², for k dimensions that are left of N states: what a basis of them takes.
OF_BASIS = 20


class TimeLimit:
    """The seconds that a call may take, counted from here; None: as many as it takes.

    Args:
        seconds: as given by the user.
        what: the call, for the message.
        n, d: workers and parameters.
        powers: with which powers of n and d the time grows.
        mend: what can be given otherwise at the same size.

    >>> TimeLimit(2.0, "the best rate", n=64, d=10).require(16.0)
    Traceback (most recent call last):
        ...
    ValueError: the best rate with n = 64 workers and d = 10 parameters would take about 16 s, an estimate
    from what one product takes here, and seconds=2 allows less; give more seconds, or take a smaller
    problem: about n = 15 with d = 10, or d = 4 with n = 64, would fit
    """

    def __init__(
        self,
        seconds: float | None,
        what: str,
        n: int,
        d: int,
        powers: tuple[float, float] = (BY_WORKERS, BY_PARAMETERS),
        mend: str = "give more seconds",
    ):
        self._seconds = math.inf if seconds is None else real_number(seconds, "seconds", 0)
        self._what, self._size, self._powers, self._mend = what, (n, d), powers, mend
        self._began = time.perf_counter()

    @property
    def there_is_one(self) -> bool:
        """Whether estimates are needed at all."""
        return self._seconds < math.inf

    def require(self, left: float, *, measurement: float | None = None) -> None:
        """Raise where what is left takes longer by estimate, with that and the largest sizes that fit.

        Args:
            left: the estimate.
            measurement: what a better one would take: this one is the least that it can be, and counts only
                where that is long.
        """
        total = time.perf_counter() - self._began + left
        if total <= self._seconds or (measurement is not None and measurement <= SOON):
            return
        raise ValueError(
            f"{self._what} with n = {self._size[0]} workers and d = {self._size[1]} parameters would take "
            f"{'about' if measurement is None else 'more than'} {total:.2g} s, an estimate from what one "
            f"product takes here, and seconds={self._seconds:g} allows less; "
            f"{self._mend}{self._fitting(total)}"
        )

    def _fitting(self, total: float) -> str:
        (n, d), share = self._size, self._seconds / total
        fewer_workers = math.floor(n * share ** (1 / self._powers[0]))
        found = [f"n = {fewer_workers} with d = {d}"] if fewer_workers >= 2 else []
        if self._powers[1] > 0:
            fewer = math.floor(d * share ** (1 / self._powers[1]))
            found += [f"d = {fewer} with n = {n}"] if 1 <= fewer < d else []
        if not found:
            return ""
        return f", or take a smaller problem: about {', or '.join(found)}, would fit"


def taken_by(call: Callable[[], Any], long: float = 0.0) -> float:
    """Seconds of a call, the mean of so many that take so long: other programs' share is then in it."""
    began, times = time.perf_counter(), 0
    while True:
        call()
        times += 1
        passed = time.perf_counter() - began
        if passed >= long:
            return passed / times


def assembly_seconds(step: AffineStep) -> float:
    """What it takes to put the matrices of a period together, from one batch of probes."""
    rows, (n, d) = step.rows, step.size
    if rows is None or d == 1:
        rows, d = step.states, 1
    together = step.probes
    if together is not None and step.workers is not None and rows % n == 0:
        rows = together.number * (rows // n)
    probes = -(-rows // d)
    batch = max(1, min(probes, BATCH_BYTES // (8 * step.states)))
    y = np.zeros((step.states, batch))
    with np.errstate(all="ignore"):
        each = taken_by(lambda: step.linear(y, 0))
    return PASSES * step.period * (probes / batch) * each


def product_seconds(A: csr_array) -> float:
    """Of a product of a sparse matrix with one state."""
    y = np.ones(A.shape[0])
    return taken_by(lambda: A @ y, LONG)


def radius_products(A: csr_array) -> float:
    """How many products with a matrix its spectral radius takes at the least."""
    largest = max(len(rows) for rows in groups_of([A]))
    return float(POWERS[0][0] * FIRST_LOOK) if largest > DENSE_STATES else 0.0


def radius_seconds(step: AffineStep, matrices: Callable[[], list[csr_array]]) -> float:
    """What a spectral radius takes at the least, where matrices may still have to be put together."""
    found = 0.0 if "matrices" in step.__dict__ else assembly_seconds(step)
    if found > SOON:
        return found
    A = matrices()[0]
    return found + radius_products(A) * product_seconds(A)


def multiplication_seconds() -> float:
    """Of one multiplication and addition in a product of dense matrices."""
    tried = np.random.default_rng(0).normal(size=(TRIED_SIZE,) * 2)
    return taken_by(lambda: tried @ tried, LONG) / TRIED_SIZE**3


def rows_seconds(matrices: Sequence[csr_array], noise: Sequence[csr_array], d: int) -> float:
    """What a step of d rows takes, as an output's side sums a covariance."""
    A, B = csr_array(matrices[0].T), csr_array(noise[0].T)
    rows = np.ones((A.shape[0], d))

    def stepped() -> None:
        shown = B @ rows
        shown.T @ shown
        A @ rows

    return taken_by(stepped, LONG)


def columns_seconds(step: AffineStep, count: int) -> float:
    """What a step of so many columns takes, where what errors make is moved by the method's own rule."""
    width = max(1, min(count, BATCH_BYTES // (8 * step.states)))
    y = np.zeros((step.states, width))
    return taken_by(lambda: step.linear(y, 0), LONG) * count / width


def covariance_seconds(states: int, dimensions: int, steps: float) -> float:
    """What it takes to sum a stationary covariance, twice as many terms each time.

    Args:
        states: those that hang together.
        dimensions: what is left of them after some steps; as many where that is most.
        steps: after which nothing is left but rounding; half of them are summed, and rounding is squared.
    """
    work = 3 * max(math.log2(max(steps, 2)), 1) * dimensions**3
    if dimensions < states:
        work += OF_BASIS * states * dimensions**2
    return work * multiplication_seconds()
