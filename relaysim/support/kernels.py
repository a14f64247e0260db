"""The operations of a step as loops, compiled by Numba.

Registers are arrays ``(rows, m)`` of doubles in one ``memory``, for workers or edges; m columns are d
parameters times so many replicas, their ``lanes``. A column is computed alike whatever stands beside it, so
that a replica has the same bits alone and among others. Without Numba these are plain Python, which nothing
calls but tests.
"""

from __future__ import annotations

import functools
import hashlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from relaysim.support.operations import (
    ADD,
    ADD_NUMBER,
    CHANGE,
    COUNT,
    DIAGONAL_GRADIENT,
    DIVIDE,
    DIVIDE_BY_NUMBER,
    DIVIDE_BY_ROW,
    GOSSIP,
    GRADIENT,
    LESS_MULTIPLE,
    LESS_PRODUCT,
    LESS_PRODUCT_WITH_ROW,
    MULTIPLE_OF_SUM,
    MULTIPLY,
    MULTIPLY_BY_NUMBER,
    MULTIPLY_BY_ROW,
    PLUS_PRODUCT,
    RELAY,
    SPREAD,
    SUBTRACT,
    SUBTRACT_FROM_NUMBER,
)

njit: Any
config: Any
try:
    from numba import config, njit  # type: ignore[import-not-found, no-redef, unused-ignore]
except ImportError:
    config = njit = None


Arrays: TypeAlias = tuple[np.ndarray, ...]

__all__ = ["Arrays", "compiled_loop", "operate"]

_HERE = pathlib.Path(__file__).parent
_SOURCES = ("operations", "kernels", "loops")


@functools.cache
def _place() -> str:
    """Where what is compiled of these sources is kept; nowhere in particular if nothing can be written there.

    Numba looks whether a function's own file has changed, and not at those of what it calls; and two versions
    of it, in two environments, would each put its own in the place of the other's.
    """
    sources = b"".join((_HERE / f"{name}.py").read_bytes() for name in _SOURCES)
    sources += sys.modules["numba"].__version__.encode()
    parent = pathlib.Path(config.CACHE_DIR or _HERE / "__pycache__")
    place = parent / f"loops-{hashlib.sha256(sources).hexdigest()[:16]}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return str(config.CACHE_DIR)
    return str(place)


def compiled_loop(function: Callable, **options: Any) -> Callable:
    """A function compiled when it is called first, which is kept on disk."""
    if config is None:
        return function
    before, config.CACHE_DIR = config.CACHE_DIR, _place()
    try:
        return njit(cache=True, error_model="numpy", nogil=True, **options)(function)
    finally:
        config.CACHE_DIR = before


#: A product and a sum may be one instruction, rounded once.
_fused = functools.partial(compiled_loop, fastmath={"contract"})


@_fused
def _gradients(
    memory: np.ndarray,
    out: int,
    x: int,
    hessians: np.ndarray,
    constants: np.ndarray,
    lanes: int,
    first: int,
    end: int,
) -> None:
    """H_i x_i − c_i with symmetric H_i ``(n, d, d)``; sums begin at −c and go on in order."""
    d = hessians.shape[1]
    for i in range(first, end):
        if lanes == 1:
            for a in range(d):
                memory[out + i, a] = -constants[i, a]
            for b in range(0, d - 3, 4):
                u0, u1 = memory[x + i, b], memory[x + i, b + 1]
                u2, u3 = memory[x + i, b + 2], memory[x + i, b + 3]
                for a in range(d):
                    total = memory[out + i, a] + hessians[i, b, a] * u0
                    total = (total + hessians[i, b + 1, a] * u1) + hessians[i, b + 2, a] * u2
                    memory[out + i, a] = total + hessians[i, b + 3, a] * u3
            for b in range(d - d % 4, d):
                u0 = memory[x + i, b]
                for a in range(d):
                    memory[out + i, a] += hessians[i, b, a] * u0
            continue
        # Two rows of a Hessian at once, by which each number of x is loaded half as often.
        for a in range(0, d - 1, 2):
            row = memory[out + i, a * lanes : (a + 2) * lanes]
            for c in range(lanes):
                row[c] = -constants[i, a]
                row[lanes + c] = -constants[i, a + 1]
            for b in range(0, d - 3, 4):
                u0, u1 = hessians[i, b, a], hessians[i, b + 1, a]
                u2, u3 = hessians[i, b + 2, a], hessians[i, b + 3, a]
                v0, v1 = hessians[i, b, a + 1], hessians[i, b + 1, a + 1]
                v2, v3 = hessians[i, b + 2, a + 1], hessians[i, b + 3, a + 1]
                own = memory[x + i, b * lanes : (b + 4) * lanes]
                for c in range(lanes):
                    x0, x1, x2, x3 = own[c], own[lanes + c], own[2 * lanes + c], own[3 * lanes + c]
                    row[c] = (((row[c] + u0 * x0) + u1 * x1) + u2 * x2) + u3 * x3
                    other = ((row[lanes + c] + v0 * x0) + v1 * x1) + v2 * x2
                    row[lanes + c] = other + v3 * x3
            for b in range(d - d % 4, d):
                u0, v0 = hessians[i, b, a], hessians[i, b, a + 1]
                own = memory[x + i, b * lanes : (b + 1) * lanes]
                for c in range(lanes):
                    row[c] += u0 * own[c]
                    row[lanes + c] += v0 * own[c]
        if d % 2:
            row = memory[out + i, (d - 1) * lanes : d * lanes]
            for c in range(lanes):
                row[c] = -constants[i, d - 1]
            for b in range(d):
                u0, own = hessians[i, b, d - 1], memory[x + i, b * lanes : (b + 1) * lanes]
                for c in range(lanes):
                    row[c] += u0 * own[c]


@compiled_loop
def _diagonal_gradients(
    memory: np.ndarray,
    out: int,
    x: int,
    curvatures: np.ndarray,
    centers: np.ndarray,
    lanes: int,
    first: int,
    end: int,
) -> None:
    """h_i (x_i − c_i), ``(n, d)`` both."""
    for i in range(first, end):
        if lanes == 1:
            for a in range(curvatures.shape[1]):
                memory[out + i, a] = (memory[x + i, a] - centers[i, a]) * curvatures[i, a]
            continue
        for a in range(curvatures.shape[1]):
            own = memory[x + i, a * lanes : (a + 1) * lanes]
            row = memory[out + i, a * lanes : (a + 1) * lanes]
            for c in range(lanes):
                row[c] = (own[c] - centers[i, a]) * curvatures[i, a]


@compiled_loop
def _turn(number: float, step: int, count: int) -> int:
    """Which of so many matrices a product is with: that of a t + b, for a number (a count + b)."""
    times, plus = divmod(int(number), count)
    return (times * step + plus) % count


@compiled_loop
def _gossip(
    memory: np.ndarray,
    out: int,
    x: int,
    weights: np.ndarray,
    columns: np.ndarray,
    offsets: np.ndarray,
    first: int,
    end: int,
) -> None:
    """Σ_j W_ij x_j of a sparse W."""
    m = memory.shape[1]
    for i in range(first, end):
        for c in range(m):
            memory[out + i, c] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            weight, j = weights[entry], columns[entry]
            for c in range(m):
                memory[out + i, c] += weight * memory[x + j, c]


@compiled_loop
def _change(
    memory: np.ndarray,
    out: int,
    x: int,
    weights: np.ndarray,
    columns: np.ndarray,
    offsets: np.ndarray,
    first: int,
    end: int,
) -> None:
    """Σ_j W_ij (x_j − x_i) of a sparse W without its diagonal."""
    m = memory.shape[1]
    for i in range(first, end):
        for c in range(m):
            memory[out + i, c] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            weight, j = weights[entry], columns[entry]
            for c in range(m):
                memory[out + i, c] += weight * (memory[x + j, c] - memory[x + i, c])


@compiled_loop
def _relay(
    memory: np.ndarray,
    values: int,
    payload: int,
    received: int,
    old: int,
    total: int,
    source: np.ndarray,
    reverse: np.ndarray,
    offsets: np.ndarray,
    first: int,
    end: int,
) -> None:
    """A round of RelaySum: messages to workers first … end − 1, and their sums."""
    m = memory.shape[1]
    if m >= 64:  # two loops over few arrays take less than one over many
        for edge in range(offsets[first], offsets[end]):
            j, k = source[edge], reverse[edge]
            for c in range(m):
                now = (memory[payload + j, c] + memory[received + j, c]) - memory[old + k, c]
                memory[values + edge, c] = now
        for i in range(first, end):
            for c in range(m):
                memory[total + i, c] = 0.0
            for edge in range(offsets[i], offsets[i + 1]):
                for c in range(m):
                    memory[total + i, c] += memory[values + edge, c]
        return
    for i in range(first, end):
        for c in range(m):
            memory[total + i, c] = 0.0
        for edge in range(offsets[i], offsets[i + 1]):
            j, k = source[edge], reverse[edge]
            for c in range(m):
                now = (memory[payload + j, c] + memory[received + j, c]) - memory[old + k, c]
                memory[values + edge, c] = now
                memory[total + i, c] += now


@compiled_loop
def _count(
    flat: np.ndarray,
    values: int,
    received: int,
    old: int,
    total: int,
    source: np.ndarray,
    reverse: np.ndarray,
    offsets: np.ndarray,
    first: int,
    end: int,
) -> None:
    """The same of how many workers a message holds; each begins at its place, without columns."""
    for i in range(first, end):
        flat[total + i] = 0.0
        for edge in range(offsets[i], offsets[i + 1]):
            now = (1 + flat[received + source[edge]]) - flat[old + reverse[edge]]
            flat[values + edge] = now
            flat[total + i] += now


@compiled_loop
def _average(memory: np.ndarray, out: int, x: int, n: int) -> None:
    """The mean of all rows, in every row."""
    m = memory.shape[1]
    for c in range(m):
        memory[out, c] = memory[x, c]
    for i in range(1, n):
        for c in range(m):
            memory[out, c] += memory[x + i, c]
    for c in range(m):
        memory[out, c] *= 1 / n
    for i in range(1, n):
        for c in range(m):
            memory[out + i, c] = memory[out, c]


@compiled_loop
def _each(
    kind: int, out: np.ndarray, a: np.ndarray, b: np.ndarray, third: np.ndarray, number: float
) -> None:
    """An operation number by number."""
    if kind == ADD:
        for c in range(len(out)):
            out[c] = a[c] + b[c]
    elif kind == SUBTRACT:
        for c in range(len(out)):
            out[c] = a[c] - b[c]
    elif kind == MULTIPLY:
        for c in range(len(out)):
            out[c] = a[c] * b[c]
    elif kind == DIVIDE:
        for c in range(len(out)):
            out[c] = a[c] / b[c]
    elif kind == ADD_NUMBER:
        for c in range(len(out)):
            out[c] = a[c] + number
    elif kind == SUBTRACT_FROM_NUMBER:
        for c in range(len(out)):
            out[c] = number - a[c]
    elif kind == MULTIPLY_BY_NUMBER:
        for c in range(len(out)):
            out[c] = a[c] * number
    elif kind == DIVIDE_BY_NUMBER:
        for c in range(len(out)):
            out[c] = a[c] / number
    elif kind == LESS_MULTIPLE:
        for c in range(len(out)):
            out[c] = a[c] - b[c] * number
    elif kind == MULTIPLE_OF_SUM:
        for c in range(len(out)):
            out[c] = (a[c] + b[c]) * number
    elif kind == LESS_PRODUCT:
        for c in range(len(out)):
            out[c] = a[c] - b[c] * third[c]
    elif kind == PLUS_PRODUCT:
        for c in range(len(out)):
            out[c] = a[c] + b[c] * third[c]
    else:
        for c in range(len(out)):
            out[c] = a[c]


@compiled_loop
def _each_by_row(
    kind: int, memory: np.ndarray, out: int, a: int, b: int, c: int, first: int, end: int
) -> None:
    """An operation number by number, with a row that all rows share."""
    m = memory.shape[1]
    if kind == MULTIPLY_BY_ROW:
        for i in range(first, end):
            for column in range(m):
                memory[out + i, column] = memory[a + i, column] * memory[b, column]
    elif kind == DIVIDE_BY_ROW:
        for i in range(first, end):
            for column in range(m):
                memory[out + i, column] = memory[a + i, column] / memory[b, column]
    else:
        for i in range(first, end):
            for column in range(m):
                product = memory[b + i, column] * memory[c, column]
                memory[out + i, column] = memory[a + i, column] - product


@compiled_loop
def operate(
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
) -> None:
    """Operations begin … stop − 1 on the rows first … end − 1 of all registers.

    Args:
        memory, places: ``(rows, m)``, and the row with which each register begins at present.
        code, numbers: of each operation its kind, the register of its result and those of its operands,
            ``(·, 6)``, and a number.
        step: the number of the step.
        quadratic: Hessians ``(n, d, d)``, constants ``(n, d)`` and curvatures ``(n, d)`` of the gradients.
        mixing: entries of each W by row, their columns and where rows begin ``(P, n + 1)``; then those
            without the diagonal. Which one a product is with its number tells: `relaysim.engine.tape.Tape`.
        tree: sources and reverses of edges, sorted by receiver, and where those of each begin.
    """
    weights, columns, offsets, shares, others, bounds = mixing
    m = memory.shape[1]
    flat = memory.reshape(memory.size)
    for k in range(begin, stop):
        kind = code[k, 0]
        out, a, b = places[code[k, 1]], places[code[k, 2]], places[code[k, 3]]
        if kind < MULTIPLY_BY_ROW:
            low, size = first * m, (end - first) * m
            result = flat[out * m + low : out * m + low + size]
            one = flat[a * m + low : a * m + low + size]
            other = flat[b * m + low : b * m + low + size]
            c = places[code[k, 4]] * m + low
            _each(kind, result, one, other, flat[c : c + size], numbers[k])
        elif kind <= LESS_PRODUCT_WITH_ROW:
            _each_by_row(kind, memory, out, a, b, places[code[k, 4]], first, end)
        elif kind == GRADIENT:
            _gradients(memory, out, a, quadratic[0], quadratic[1], lanes, first, end)
        elif kind == DIAGONAL_GRADIENT:
            _diagonal_gradients(memory, out, a, quadratic[2], quadratic[1], lanes, first, end)
        elif kind == GOSSIP:
            begins = offsets[_turn(numbers[k], step, len(offsets))]
            _gossip(memory, out, a, weights, columns, begins, first, end)
        elif kind == CHANGE:
            begins = bounds[_turn(numbers[k], step, len(bounds))]
            _change(memory, out, a, shares, others, begins, first, end)
        elif kind == RELAY:
            old, total = places[code[k, 4]], places[code[k, 5]]
            _relay(memory, out, a, b, old, total, tree[0], tree[1], tree[2], first, end)
        elif kind == COUNT:
            total = places[code[k, 4]] * m
            _count(flat, out * m, a * m, b * m, total, tree[0], tree[1], tree[2], first, end)
        elif kind == SPREAD:
            for i in range(first, end):
                value = numbers[k] - flat[a * m + i]
                for column in range(m):
                    memory[out + i, column] = value
        else:
            _average(memory, out, a, n)
