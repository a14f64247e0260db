"""x̄ and Ξ² of iterates, added up in an order that does not depend on what they lie beside."""

from __future__ import annotations

import math

import numpy as np

from relaysim.support.blocks import row_blocks
from relaysim.support.fast import loaded

__all__ = ["means_and_spreads", "means_of", "spreads_of"]


def means_and_spreads(iterates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both of what follows; compiled where that is loaded, to the same bits."""
    fast, x = loaded(), iterates
    if fast is None or not x.size or not x.flags.c_contiguous or x.dtype != float:
        means = means_of(x)
        return means, spreads_of(x, means)
    k, n, d, *replicas = x.shape
    lanes, length = math.prod(replicas), row_blocks(x[0])[0].stop
    means, spreads = np.empty((k, d * lanes)), np.empty((k, lanes))
    fast.means_and_spreads(x.reshape(k, n, d * lanes), lanes, length, means, spreads)
    return means.reshape(k, *x.shape[2:]), spreads.reshape(k, *replicas)


def means_of(iterates: np.ndarray) -> np.ndarray:
    """x̄ of ``(k, n, d[, r])``, ``(k, d[, r])``.

    >>> means_of(np.array([[[1.0], [3.0]]])).tolist()
    [[2.0]]
    """
    return _added_in_order(iterates) * (1 / iterates.shape[1])


def spreads_of(iterates: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Ξ² = (1/n) Σ_i ‖x_i − x̄‖² of ``(k, n, d[, r])`` from deviations, so that nothing cancels, ``(k[, r])``.

    >>> x = np.array([[[1.0], [3.0]]])
    >>> spreads_of(x, means_of(x)).tolist()
    [1.0]
    """
    squares = np.zeros((len(iterates), *iterates.shape[2:]))
    for rows in row_blocks(iterates[0]):
        deviations = np.subtract(iterates[:, rows], means[:, None], order="C")
        squares += _added_in_order(np.square(deviations, out=deviations))
    # Parameter by parameter, however the numbers lie in memory: as compiled loops do.
    by_parameter = np.ascontiguousarray(squares.swapaxes(0, 1))
    return np.asarray(_added_in_order(by_parameter[None])[0]) / iterates.shape[1]


def _added_in_order(values: np.ndarray) -> np.ndarray:
    """The sum of ``(k, n, …)`` over the second axis, one after the other, ``(k, …)``.

    NumPy adds neighbours in memory in pairs: where there is no further axis, or where values lie in another
    order, that would be neither what compiled loops add up nor what a replica among others does.
    """
    if math.prod(values.shape[2:]) == 1:
        return np.add.accumulate(values, axis=1)[:, -1]
    if values.flags.c_contiguous:
        return np.add.reduce(values, axis=1)
    total = np.zeros((len(values), *values.shape[2:]))
    for rows in row_blocks(values[0]):
        part = np.array(values[:, rows], order="C")
        part[:, 0] += total
        total = np.add.reduce(part, axis=1)
    return total
