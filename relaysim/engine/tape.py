"""The operations of a step, and arrays of known shapes with which arithmetic is written down."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy.sparse import csr_array

from relaysim.network.hung import Hung
from relaysim.support import operations
from relaysim.support.alike import is_alike

__all__ = ["Operation", "Tally", "Tape", "UnknownArray", "UntraceableError"]


class UntraceableError(BaseException):
    """A step that is no fixed list of operations; no rule catches that by `except Exception`."""


class Operation(NamedTuple):
    """What is made of operands; ``results`` and ``operands`` are numbers of arrays."""

    kind: int
    results: tuple[int, ...]
    operands: tuple[int, ...]
    number: float = 0.0


@dataclasses.dataclass
class Tape:
    """The operations of a step.

    Args:
        shape: of the iterates, ``(n, d[, r])``.

    Attributes:
        rows: of each array, workers or edges.
        tallies: which of them have a whole number in each row: who is heard, while not everyone is.
        inputs: the arrays of the state before the step, and ``outputs`` those after it.
        constants: arrays ``(n, d[, r])`` that stay, by their number.
        changed: what the rule looks at and the step changes, by its place in the state.
        vectors: that are sent.
        gradient: Hessians ``(n, d, d)`` and constants ``(n, d)`` of quadratics, where they are asked for;
            ``diagonal_gradient``: curvatures and centers ``(n, d)`` of diagonal ones.
        matrices: W, where it is; several by turns of a period P. The number of a product (a P + b) says that
            it is with the matrix of round a t + b in step t, all modulo P.
        tree: over whose edges messages are relayed, likewise, and ``messages``: which arrays these are.
    """

    shape: tuple[int, ...]
    rows: list[int] = dataclasses.field(default_factory=list)
    tallies: set[int] = dataclasses.field(default_factory=set)
    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    operations: list[Operation] = dataclasses.field(default_factory=list)
    constants: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    changed: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    vectors: int = 0
    gradient: tuple[np.ndarray, np.ndarray] | None = None
    diagonal_gradient: tuple[np.ndarray, np.ndarray] | None = None
    matrices: tuple[csr_array, ...] = ()
    tree: Hung | None = None
    messages: set[int] = dataclasses.field(default_factory=set)

    def array(self, rows: int) -> int:
        """The number of a new array."""
        self.rows.append(rows)
        return len(self.rows) - 1

    def tally(self, rows: int) -> int:
        """The number of a new one of whole numbers."""
        self.tallies.add(self.array(rows))
        return len(self.rows) - 1

    def number_of(self, array: Any) -> int:
        """The number of an unknown array of this tape."""
        if not isinstance(array, UnknownArray) or array.tape is not self:
            raise UntraceableError("an array that no operation of this step made")
        return array.number

    def add(self, kind: int, operands: tuple[int, ...], number: float = 0.0) -> int:
        """The number of what an operation makes, a row for each worker."""
        result = self.array(self.shape[0])
        self.operations.append(Operation(kind, (result,), operands, number))
        return result

    def constant(self, values: np.ndarray) -> int:
        """The number of an array that stays."""
        for number, known in self.constants.items():
            if known.shape == values.shape and np.array_equal(known, values, equal_nan=True):
                return number
        number = self.array(len(values))
        self.constants[number] = np.array(values, dtype=float)
        return number

    @property
    def asks(self) -> bool:
        """Whether gradients are those of someone who is asked in each step."""
        return any(each.kind == operations.ASK for each in self.operations)

    def is_like(self, other: Tape) -> bool:
        """Whether another one says the same."""
        return (
            self.operations == other.operations
            and self.outputs == other.outputs
            and self.vectors == other.vectors
            and is_alike(self.constants, other.constants)
            and is_alike(self.changed, other.changed)
        )


_KINDS = {
    np.add: (operations.ADD, operations.ADD_NUMBER),
    np.subtract: (operations.SUBTRACT, operations.ADD_NUMBER),
    np.multiply: (operations.MULTIPLY, operations.MULTIPLY_BY_NUMBER),
    np.true_divide: (operations.DIVIDE, operations.DIVIDE_BY_NUMBER),
}


# With a row in the place of the second operand.
_WITH_ROW = {
    operations.MULTIPLY: operations.MULTIPLY_BY_ROW,
    operations.DIVIDE: operations.DIVIDE_BY_ROW,
}


class UnknownArray(NDArrayOperatorsMixin):
    """An array of which the shape is known; arithmetic with it is written down.

    Whoever asks is told that it is an array of NumPy's, and not what such a one could do beside that.
    """

    nbytes = 0  # small, whatever it is of: what is large goes piece by piece, to the same effect
    dtype = np.dtype(float)
    __class__ = property(lambda self: np.ndarray)

    def __init__(self, tape: Tape, number: int | None, rows: int, is_given: bool = False):
        self.tape, self._number, self._is_given = tape, number, is_given
        self.shape = (rows, *tape.shape[1:])
        self.ndim = len(self.shape)

    @property
    def number(self) -> int:
        """Of what was written last."""
        if self._number is None:
            raise UntraceableError("numbers that nobody wrote")
        return self._number

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        raise UntraceableError("a branch on numbers")

    __float__ = __int__ = __index__ = __iter__ = __bool__

    def __array__(self, *arguments: Any, **named: Any) -> np.ndarray:
        raise UntraceableError("numbers are looked at")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        if function is np.zeros_like:
            return np.zeros(self.shape)
        raise UntraceableError(f"{function} is no kind of operation")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(np.ndarray, name):
            raise UntraceableError(f"{name} is no kind of operation")
        raise AttributeError(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UntraceableError("an array is kept elsewhere than in the state")

    def copy(self) -> UnknownArray:
        return UnknownArray(self.tape, self.number, len(self))

    def __getitem__(self, key: Any) -> UnknownArray:
        if isinstance(key, slice) and range(self.shape[0])[key] == range(self.shape[0]):
            return self
        raise UntraceableError("a part of an array")

    def __setitem__(self, key: Any, value: Any) -> None:
        if value is not self[key]:
            self.becomes(value)

    def becomes(self, other: Any) -> None:
        """Overwrite all numbers."""
        if self._is_given or not isinstance(other, UnknownArray) or self.shape != other.shape:
            raise UntraceableError(
                "an array that was given is changed, or another one is written into this"
            )
        self._number = self.tape.number_of(other)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **named: Any) -> Any:
        out = named.pop("out", None)
        if method != "__call__" or named or function not in (*_KINDS, np.negative):
            raise UntraceableError(f"{function} is no kind of operation")
        if function is np.negative:
            function, inputs = np.multiply, (*inputs, -1.0)
        result = self._made(function, *inputs)
        if out is None:
            return result
        (target,) = out
        if not isinstance(target, UnknownArray):
            raise UntraceableError("numbers are written into an array of others")
        target.becomes(result)
        return target

    def _made(self, function: Any, one: Any, other: Any) -> UnknownArray:
        tape, (of_arrays, with_number) = self.tape, _KINDS[function]
        if isinstance(one, UnknownArray) and _is_number(other):
            number = -float(other) if function is np.subtract else float(other)
            made = tape.add(with_number, (self._number_of(one),), number)
        elif isinstance(other, UnknownArray) and _is_number(one) and function is not np.true_divide:
            kind = operations.SUBTRACT_FROM_NUMBER if function is np.subtract else with_number
            made = tape.add(kind, (self._number_of(other),), float(one))
        else:
            operands = self._number_of(one), self._number_of(other)
            several = tape.shape[0] > 1
            if several and tape.rows[operands[0]] == 1:  # only products may be turned round
                operands = (
                    operands[::-1]
                    if function is np.multiply
                    else (self._repeated(one), operands[1])
                )
            if several and tape.rows[operands[1]] == 1:
                if of_arrays in _WITH_ROW:
                    of_arrays = _WITH_ROW[of_arrays]
                else:
                    operands = operands[0], self._repeated(other)
            made = tape.add(of_arrays, operands)
        return UnknownArray(tape, made, tape.shape[0])

    def _number_of(self, operand: Any) -> int:
        """Of an operand, which is one row if all workers share it."""
        shape = self.tape.shape
        if isinstance(operand, UnknownArray):
            if operand.shape != shape:
                raise UntraceableError("arithmetic with arrays of another shape")
            return self.tape.number_of(operand)
        values = np.asarray(operand)
        if values.dtype.kind not in "fiu":
            raise UntraceableError("an operand that is no number")
        if values.ndim < len(shape) or len(values) == 1:
            return self.tape.constant(np.broadcast_to(values, (1, *shape[1:])))
        return self.tape.constant(np.broadcast_to(values, shape))

    def _repeated(self, operand: Any) -> int:
        return self.tape.constant(np.broadcast_to(np.asarray(operand), self.tape.shape))


class Tally:
    """A whole number for each worker or edge, of which a rule sees what is missing."""

    def __init__(self, number: int, rows: int):
        self.number, self.rows = number, rows


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float | np.number) and not isinstance(operand, bool)
