"""Loops that replace passes of NumPy over small and over very large arrays, to be compiled by Numba.

Each does the same operations in the same order as what it stands for, so that no bit of a result depends
on whether it is used. Without Numba they are plain Python, which nothing calls but tests. Arrays are of
doubles that stand in a row; m columns are d parameters, times r replicas.
"""

from __future__ import annotations

import numpy as np

__all__ = ["KERNELS", "gossip", "gossip_change", "means_and_spreads", "relay"]


def relay(
    payload: np.ndarray,
    received: np.ndarray,
    old: np.ndarray,
    source: np.ndarray,
    reverse: np.ndarray,
    offsets: np.ndarray,
    values: np.ndarray,
    total: np.ndarray,
) -> None:
    """A round of RelaySum into ``values (E, m)``, and its sums by receiver into ``total (n, m)``.

    Args:
        payload, received: ``(n, m)``.
        old: messages of the round before, ``(E, m)``.
        source, reverse: of each edge, its sender and the edge in the other direction.
        offsets: ``(n + 1,)``, edges by receiver.
        values, total: the result.
    """
    n, m = payload.shape
    for i in range(n):
        first, end = offsets[i], offsets[i + 1]
        for edge in range(first, end):
            value, sent = values[edge], payload[source[edge]]
            known, back = received[source[edge]], old[reverse[edge]]
            for c in range(m):
                value[c] = (sent[c] + known[c]) - back[c]
        summed = total[i]
        if end - first == 2:  # in one pass
            one, other = values[first], values[first + 1]
            for c in range(m):
                summed[c] = one[c] + other[c]
            continue
        for c in range(m):
            summed[c] = 0.0
        for edge in range(first, end):
            value = values[edge]
            for c in range(m):
                summed[c] += value[c]


def gossip(
    x: np.ndarray, weights: np.ndarray, columns: np.ndarray, offsets: np.ndarray, result: np.ndarray
) -> None:
    """Σ_j W_ij x_j of a sparse W, row by row, ``(n, m)``."""
    m = x.shape[1]
    for i in range(len(result)):
        row = result[i]
        for c in range(m):
            row[c] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            weight, other = weights[entry], x[columns[entry]]
            for c in range(m):
                row[c] += weight * other[c]


def gossip_change(
    x: np.ndarray, weights: np.ndarray, columns: np.ndarray, offsets: np.ndarray, result: np.ndarray
) -> None:
    """Σ_j W_ij (x_j − x_i) of a sparse W without its diagonal, row by row, ``(n, m)``."""
    m = x.shape[1]
    for i in range(len(result)):
        row, own = result[i], x[i]
        for c in range(m):
            row[c] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            weight, other = weights[entry], x[columns[entry]]
            for c in range(m):
                row[c] += weight * (other[c] - own[c])


def means_and_spreads(
    iterates: np.ndarray, length: int, means: np.ndarray, spreads: np.ndarray
) -> None:
    """x̄ ``(k, d, r)`` and (1/n) Σ_i ‖x_i − x̄‖² ``(k, r)`` of iterates ``(k, n, d, r)``.

    Squares are summed up over blocks of ``length`` workers.
    """
    k, n, d, r = iterates.shape
    part = np.empty(r)
    for t in range(k):
        x, mean, spread = iterates[t], means[t], spreads[t]
        mean[:] = x[0]
        for i in range(1, n):
            for a in range(d):
                for c in range(r):
                    mean[a, c] += x[i, a, c]
        for a in range(d):
            for c in range(r):
                mean[a, c] *= 1 / n
        for c in range(r):
            spread[c] = 0.0
        for start in range(0, n, length):
            for c in range(r):
                part[c] = 0.0
            for i in range(start, min(start + length, n)):
                for a in range(d):
                    for c in range(r):
                        away = x[i, a, c] - mean[a, c]
                        part[c] += away * away
            for c in range(r):
                spread[c] += part[c]
        for c in range(r):
            spread[c] /= n


#: Those that are compiled, by name.
KERNELS = {
    function.__name__: function for function in (relay, gossip, gossip_change, means_and_spreads)
}
