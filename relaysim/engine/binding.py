"""What an operation of a `Tape` is as calls of NumPy, on arrays that stay: those of the rule's own step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from relaysim.engine.tape import Tape, UntraceableError
from relaysim.network.gossip import MixChange, Weights
from relaysim.network.hung import Rows, Sums
from relaysim.support import operations

__all__ = ["Binding", "Call", "Gradient", "shaped"]

Gradient: TypeAlias = Callable[[np.ndarray], np.ndarray]
Call: TypeAlias = Callable[[], Any]


def shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows ``(rows, d r)`` as ``(rows, d[, r])``, with as many axes as ``shape``."""
    return values if len(shape) == 2 else values.reshape(len(values), shape[1], -1)


def _less(total: np.ndarray, rows: Rows, old: np.ndarray, out: np.ndarray) -> list[Call]:
    if isinstance(rows, slice):
        return [functools.partial(np.subtract, total[rows], old, out)]
    return [
        functools.partial(total.take, rows, 0, out, "clip"),
        functools.partial(np.subtract, out, old, out),
    ]


def _added(found: np.ndarray, parents: Rows, sent: np.ndarray, rows: Rows) -> Call:
    if isinstance(parents, slice) and isinstance(rows, slice):
        return functools.partial(np.add, found[parents], sent[rows], found[parents])

    def add() -> None:
        found[parents] += sent[rows]

    return add


def _summed(found: np.ndarray, families: Rows, sent: np.ndarray, sums: Sums) -> Call:
    def add() -> None:
        found[families] += sums(sent)

    return add


class Binding:
    """Calls for the operations of a tape.

    Args:
        tape: whose they are.
        gradient: what `operations.ASK` asks.
    """

    def __init__(self, tape: Tape, gradient: Gradient):
        self._tape, self._gradient = tape, gradient
        self._columns = math.prod(tape.shape[1:])
        if len(tape.matrices) > 1:
            raise UntraceableError("matrices by turns")
        self._weights = Weights(tape.matrices[0], None) if tape.matrices else None
        self._scratch: dict[tuple[int, int], np.ndarray] = {}

    def relay(
        self,
        payload: np.ndarray,
        received: np.ndarray,
        old: np.ndarray,
        new: np.ndarray,
        found: np.ndarray,
    ) -> list[Call]:
        """A round of RelaySum, as `relaysim.network.hung.renew` makes it of each piece."""
        assert self._tape.tree is not None
        total = self._lent(len(payload))
        calls: list[Call] = [
            functools.partial(np.add, payload, received, total),
            functools.partial(found[0].fill, 0.0),
        ]
        for piece in self._tape.tree.pieces(self._shaped(payload)):
            down, up = new[piece.down], new[piece.up]
            calls += _less(total, piece.parents, old[piece.up], down)
            calls += _less(total, piece.children, old[piece.down], up)
            calls.append(functools.partial(found.__setitem__, piece.children, down))
            for parents, rows in piece.slots:
                calls.append(_added(found, parents, up, rows))
            if piece.sums is not None:
                calls.append(_summed(found, piece.families, up, piece.sums))
        return calls

    def calls(
        self, kind: int, out: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, number: float
    ) -> list[Call]:
        """An operation of one of the other kinds, of operands a, b and c, as far as it has them."""
        if kind in _EACH:
            return [functools.partial(_EACH[kind], a, b, out)]
        if kind in _WITH_NUMBER:
            # Of no axes: a Python number takes as long to be made an array as the operation.
            return [functools.partial(_WITH_NUMBER[kind], a, np.array(number), out)]
        if kind in _OF_TWO:
            inner, outer = _OF_TWO[kind]
            product = self._lent(len(out))
            by = np.array(number) if kind == operations.LESS_MULTIPLE else c
            return [
                functools.partial(inner, b, by, product),
                functools.partial(outer, a, product, out),
            ]
        if kind == operations.MULTIPLE_OF_SUM:
            return [
                functools.partial(np.add, a, b, out),
                functools.partial(np.multiply, out, np.array(number), out),
            ]
        if kind == operations.SUBTRACT_FROM_NUMBER:
            return [functools.partial(np.subtract, np.array(number), a, out)]
        if kind == operations.COPY:
            return [functools.partial(np.copyto, out, a)]
        return _CROSSING[kind](self, a, out)

    def _lent(self, rows: int, which: int = 0) -> np.ndarray:
        """An array that serves for one operation."""
        if (rows, which) not in self._scratch:
            self._scratch[rows, which] = np.empty((rows, self._columns))
        return self._scratch[rows, which]

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return shaped(values, self._tape.shape)

    def _gradients(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        assert self._tape.gradient is not None
        hessians, constants = self._tape.gradient
        product = np.matmul if len(self._tape.shape) == 3 else np.matvec
        return [
            functools.partial(product, hessians, self._shaped(x), self._shaped(out)),
            functools.partial(np.subtract, out, self._spread(constants), out),
        ]

    def _diagonal_gradients(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        assert self._tape.diagonal_gradient is not None
        curvatures, centers = map(self._spread, self._tape.diagonal_gradient)
        return [
            functools.partial(np.subtract, x, centers, out),
            functools.partial(np.multiply, out, curvatures, out),
        ]

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Numbers ``(n, d)`` for all replicas."""
        repeats = self._columns // values.shape[1]
        return np.repeat(values, repeats, axis=1)

    def _asked(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        given, found, gradient = self._shaped(x), self._shaped(out), self._gradient

        def ask() -> None:
            # A copy: a problem of the user's own may keep what it was given.
            found[...] = gradient(given.copy())

        return [ask]

    def _gossip(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        assert self._weights is not None
        return [functools.partial(self._weights.product, x, out)]

    def _change(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        assert self._weights is not None
        change = self._weights.change
        assert isinstance(change, MixChange), "steps with several rounds are not listed"
        low, high, total = change.by_pair
        one, other = self._lent(len(low)), self._lent(len(low), 1)
        return [
            functools.partial(x.take, high, 0, one, "clip"),
            functools.partial(x.take, low, 0, other, "clip"),
            functools.partial(np.subtract, one, other, one),
            functools.partial(total, one, out),
        ]

    def _average(self, x: np.ndarray, out: np.ndarray) -> list[Call]:
        mean = self._lent(1)
        return [
            functools.partial(np.add.reduce, x, 0, None, mean[0]),
            functools.partial(np.multiply, mean, np.array(1 / self._tape.shape[0]), mean),
            functools.partial(np.copyto, out, mean),
        ]


_EACH = {
    operations.ADD: np.add,
    operations.SUBTRACT: np.subtract,
    operations.MULTIPLY: np.multiply,
    operations.DIVIDE: np.true_divide,
    operations.MULTIPLY_BY_ROW: np.multiply,
    operations.DIVIDE_BY_ROW: np.true_divide,
}
_WITH_NUMBER = {
    operations.ADD_NUMBER: np.add,
    operations.MULTIPLY_BY_NUMBER: np.multiply,
    operations.DIVIDE_BY_NUMBER: np.true_divide,
}
_OF_TWO = {
    operations.LESS_MULTIPLE: (np.multiply, np.subtract),
    operations.LESS_PRODUCT: (np.multiply, np.subtract),
    operations.LESS_PRODUCT_WITH_ROW: (np.multiply, np.subtract),
    operations.PLUS_PRODUCT: (np.multiply, np.add),
}
_CROSSING = {
    operations.GRADIENT: Binding._gradients,
    operations.DIAGONAL_GRADIENT: Binding._diagonal_gradients,
    operations.ASK: Binding._asked,
    operations.GOSSIP: Binding._gossip,
    operations.CHANGE: Binding._change,
    operations.AVERAGE: Binding._average,
}
