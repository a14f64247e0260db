"""What is recorded of some steps before it is measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from relaysim.measures.deviations import means_and_spreads, means_of

__all__ = ["BYTES_MEASURED_AT_ONCE", "Records"]

# Of iterates of which means and spreads are measured together, while the cache has them.
BYTES_MEASURED_AT_ONCE = 1 << 18


class Records(NamedTuple):
    """Iterates ``(k, n, d[, r])``, their x̄ ``(k, d[, r])`` and (1/n) Σ_i ‖x_i − x̄‖² ``(k[, r])``.

    There may be no iterates, or neither these nor spreads, where nobody needs them.
    """

    iterates: np.ndarray
    means: np.ndarray
    spreads: np.ndarray

    @classmethod
    def empty(cls, count: int, shape: tuple[int, ...]) -> Records:
        """Of iterates of this shape."""
        return cls(*(np.empty((count, *each)) for each in (shape, shape[1:], shape[2:])))

    def measure(self, first: int, iterates: np.ndarray) -> None:
        """Write x̄ of iterates ``(k, n, d[, r])``, and spreads where there is room, from a record on."""
        some = slice(first, first + len(iterates))
        if len(self.spreads):
            self.means[some], self.spreads[some] = means_and_spreads(iterates)
        else:
            self.means[some] = means_of(iterates)
