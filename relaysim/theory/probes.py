"""Which entries of a state are probed at once: those of workers of whom nobody hears two in a step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, eye_array

__all__ = ["Probes", "probes_of"]

# Fewer workers are not worth it; and it has to take at most this share of the probes.
FEW_WORKERS, WORTH = 16, 0.5


class Probes(NamedTuple):
    """Probes that each hold a 1 in many rows.

    Attributes:
        labels: which probe each row of a state is in, ``(rows,)``.
        number: how many probes there are.
        rows: which row of a probe a worker hears of, ``(n, number)``; −1 for none.
    """

    labels: np.ndarray
    number: int
    rows: np.ndarray

    def of_arrays(self, arrays: int) -> Probes:
        """Those of so many rows for each worker, array by array."""
        n, each = self.rows.shape
        labels = self.labels + each * np.arange(arrays)[:, None]
        rows = [np.where(self.rows >= 0, self.rows + n * array, -1) for array in range(arrays)]
        return Probes(labels.ravel(), each * arrays, np.hstack(rows))

    def columns(self, answers: np.ndarray, workers: np.ndarray) -> csr_array | None:
        """The matrix that answers so, ``(k, rows)``; None where a worker answered to what it cannot hear.

        Args:
            answers: what is made of the probes, ``(k, number)``.
            workers: whose each answer is, ``(k,)``.
        """
        if len(answers) > len(workers):
            return None
        i, label = np.nonzero(answers)
        column = self.rows[workers[i], label]
        if (column < 0).any():
            return None
        shape = (len(answers), len(self.labels))
        return csr_array((answers[i, label], (i, column)), shape=shape)


def probes_of(near: csr_array) -> Probes | None:
    """Those of one row for each worker; None where that is no gain.

    Args:
        near: a positive entry where one of two workers may hear the other, ``(n, n)``.
    """
    n = near.shape[0]
    heard = csr_array(near + near.T + eye_array(n))
    # All that one hears have different colours.
    if n < FEW_WORKERS or np.diff(heard.indptr).max() > WORTH * n:
        return None
    colours = _coloured(csr_array(heard @ heard))
    if colours is None:
        return None
    hears, source = heard.nonzero()
    rows = np.full((n, int(colours.max()) + 1), -1)
    rows[hears, colours[source]] = source
    return Probes(colours, rows.shape[1], rows)


def _coloured(joined: csr_array) -> np.ndarray | None:
    """A colour for each worker, not that of one joined to it, ``(n,)``; None where it takes too many."""
    n = joined.shape[0]
    colours = np.full(n, -1)
    ends, others = joined.indptr.tolist(), joined.indices
    for worker in range(n):
        taken = set(colours[others[ends[worker] : ends[worker + 1]]].tolist())
        colour = next(k for k in range(n) if k not in taken)
        if colour >= WORTH * n:
            return None
        colours[worker] = colour
    return colours
