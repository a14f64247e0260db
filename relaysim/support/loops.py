"""Loops over steps, and over iterates to be measured, compiled by Numba; see `relaysim.support.kernels`."""

from __future__ import annotations

import numpy as np

from relaysim.support.kernels import Arrays, compiled_loop, operate

__all__ = ["SIGNATURES", "advance", "means_and_spreads", "operate_by_rows"]

_ENTRIES = "f8[::1], i8[::1], i8[:,::1]"
_NEEDED = (
    "i8, i8, Tuple((f8[:,:,::1], f8[:,::1], f8[:,::1])), "
    f"Tuple(({_ENTRIES}, {_ENTRIES})), UniTuple(i8[::1], 3)"
)
#: What each is compiled for, in the order of what calls what.
SIGNATURES = {
    "means_and_spreads": "void(f8[:,:,::1], i8, i8, f8[:,::1], f8[:,::1])",
    "operate_by_rows": (
        f"void(f8[:,::1], i8[::1], i8[:,::1], f8[::1], i8, i8, i8, i8, i8, {_NEEDED}, i8)"
    ),
    "advance": (
        f"i8(f8[:,::1], i8[::1], i8[:,::1], f8[::1], i8[::1], {_NEEDED}, i8[::1], i8, i8, i8, "
        "f8[:,:,:,::1], f8[:,:,::1], f8[:,::1], i8, i8)"
    ),
}


@compiled_loop
def operate_by_rows(
    memory: np.ndarray,
    places: np.ndarray,
    code: np.ndarray,
    numbers: np.ndarray,
    begin: int,
    stop: int,
    first: int,
    end: int,
    step: int,
    n: int,
    lanes: int,
    quadratic: Arrays,
    mixing: Arrays,
    tree: Arrays,
    rows: int,
) -> None:
    """The same so many rows at a time, which stay in the cache from one operation to the next."""
    for start in range(first, end, rows):
        last = min(start + rows, end)
        operate(
            memory,
            places,
            code,
            numbers,
            begin,
            stop,
            start,
            last,
            step,
            n,
            lanes,
            quadratic,
            mixing,
            tree,
        )


@compiled_loop
def _mean(x: np.ndarray, row: int, n: int, mean: np.ndarray) -> None:
    """x̄ ``(m,)`` of the iterates in the n rows from ``row`` on."""
    m = len(mean)
    for c in range(m):
        mean[c] = x[row, c]
    for i in range(1, n):
        for c in range(m):
            mean[c] += x[row + i, c]
    for c in range(m):
        mean[c] *= 1 / n


@compiled_loop
def _spread(
    x: np.ndarray,
    row: int,
    n: int,
    lanes: int,
    length: int,
    mean: np.ndarray,
    spread: np.ndarray,
    work: np.ndarray,
) -> None:
    """(1/n) Σ_i ‖x_i − x̄‖² ``(lanes,)`` of the iterates in the n rows from ``row`` on, for x̄ ``(m,)``.

    Squares of each column are summed up over blocks of ``length`` workers, then over parameters; ``work
    (2, m)``.
    """
    m = len(mean)
    for c in range(m):
        work[0, c] = 0.0
    for start in range(0, n, length):
        for c in range(m):
            work[1, c] = 0.0
        for i in range(start, min(start + length, n)):
            for c in range(m):
                away = x[row + i, c] - mean[c]
                work[1, c] += away * away
        for c in range(m):
            work[0, c] += work[1, c]
    for c in range(lanes):
        spread[c] = 0.0
    for a in range(m // lanes):
        for c in range(lanes):
            spread[c] += work[0, a * lanes + c]
    for c in range(lanes):
        spread[c] /= n


@compiled_loop
def _write_record(
    memory: np.ndarray, flat: np.ndarray, x: int, lanes: int, record: np.ndarray, column: int
) -> None:
    """The iterates in the rows from x on, as ``(n, d, r)``, of which the replicas from ``column`` on."""
    n, d, r = record.shape
    if lanes == r:
        whole, own = record.reshape(n * d * r), flat[x * d * r : (x + n) * d * r]
        for c in range(n * d * r):
            whole[c] = own[c]
        return
    for i in range(n):
        for a in range(d):
            for c in range(min(lanes, r - column)):
                record[i, a, column + c] = memory[x + i, a * lanes + c]


@compiled_loop
def _all_heard(flat: np.ndarray, begin: int, n: int) -> bool:
    """Whether each of n workers has heard all others."""
    missing = 0
    for i in range(n):
        missing += flat[begin + i] != n - 1
    return missing == 0


@compiled_loop
def advance(
    memory: np.ndarray,
    places: np.ndarray,
    code: np.ndarray,
    numbers: np.ndarray,
    follows: np.ndarray,
    n: int,
    lanes: int,
    quadratic: Arrays,
    mixing: Arrays,
    tree: Arrays,
    targets: np.ndarray,
    step: int,
    heard: int,
    recorded: int,
    records: np.ndarray,
    means: np.ndarray,
    spreads: np.ndarray,
    length: int,
    column: int,
) -> int:
    """Step on to each of these steps, and write into records what there is then; returns the last step.

    It ends before if everyone is heard everywhere: then steps are others.

    Args:
        memory, places, code, numbers, n, lanes, quadratic, mixing, tree: see `operate`.
        follows: of each register, the one whose place it takes when a step ends.
        targets: steps, increasing.
        step: steps taken.
        heard: the register of who is heard, or −1.
        recorded: the register of the iterates.
        records, means, spreads: iterates ``(k, n, d, r)``, x̄ ``(k, d, r)`` and (1/n) Σ_i ‖x_i − x̄‖²
            ``(k, r)``, of which the replicas from ``column`` on are written; or ``(0, …)``, all of them, the
            iterates, or these and the spreads.
        length: of workers over which squares are summed up.
    """
    before, flat, m = places.copy(), memory.reshape(memory.size), memory.shape[1]
    mean, spread, work = np.empty(m), np.empty(lanes), np.empty((2, m))
    for t in range(len(targets)):
        over = False
        while step < targets[t] and not over:
            operate(
                memory,
                places,
                code,
                numbers,
                0,
                len(code),
                0,
                n,
                step,
                n,
                lanes,
                quadratic,
                mixing,
                tree,
            )
            before[:] = places
            for register in range(len(places)):
                places[register] = before[follows[register]]
            step += 1
            over = heard >= 0 and _all_heard(flat, places[heard] * m, n)
        if len(means) and step == targets[t]:
            x = places[recorded]
            _mean(memory, x, n, mean)
            if len(records):
                _write_record(memory, flat, x, lanes, records[t], column)
            count = min(lanes, means.shape[2] - column)
            if len(spreads):
                _spread(memory, x, n, lanes, length, mean, spread, work)
                for c in range(count):
                    spreads[t, column + c] = spread[c]
            for c in range(count):
                for a in range(means.shape[1]):
                    means[t, a, column + c] = mean[a * lanes + c]
        if over:
            break
    return step


@compiled_loop
def means_and_spreads(
    iterates: np.ndarray, lanes: int, length: int, means: np.ndarray, spreads: np.ndarray
) -> None:
    """x̄ ``(k, m)`` and (1/n) Σ_i ‖x_i − x̄‖² ``(k, lanes)`` of iterates ``(k, n, m)``."""
    k, n, m = iterates.shape
    rows, work = iterates.reshape(k * n, m), np.empty((2, m))
    for t in range(k):
        _mean(rows, t * n, n, means[t])
        _spread(rows, t * n, n, lanes, length, means[t], spreads[t], work)
