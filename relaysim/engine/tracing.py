"""A step of a rule as a list of array operations, by running it once on arrays of which only shapes are known.

The rule's own step runs, so that there is no second copy of any rule. What cannot be written down so (a
branch on numbers, a draw, the number of the step, a function without a kind of operation) is told by
`Untraceable`, and goes on as it always did.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.network.relay import Mail
from relaysim.problems import DiagonalQuadratic, LeastSquares
from relaysim.problems.workers import Workers
from relaysim.support import operations

__all__ = [
    "NotYet",
    "Operation",
    "Tape",
    "Untraceable",
    "flattened",
    "is_numbers",
    "is_tally",
    "rebuilt",
    "traced_step",
]


class Untraceable(TypeError):
    """A step that is no fixed list of operations."""


class NotYet(Untraceable):
    """A first step that later ones differ from."""


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
        vectors: that are sent.
        gradient: Hessians ``(n, d, d)`` and constants ``(n, d)`` of quadratics, where they are asked for.
        matrix: W, where it is.
        tree: sources and reverses of edges, sorted by receiver, and where those of each begin, likewise.
    """

    shape: tuple[int, ...]
    rows: list[int] = dataclasses.field(default_factory=list)
    tallies: set[int] = dataclasses.field(default_factory=set)
    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    operations: list[Operation] = dataclasses.field(default_factory=list)
    constants: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    vectors: int = 0
    gradient: tuple[np.ndarray, np.ndarray] | None = None
    matrix: csr_array | None = None
    tree: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def array(self, rows: int) -> int:
        """The number of a new array."""
        self.rows.append(rows)
        return len(self.rows) - 1

    def tally(self, rows: int) -> int:
        """The number of a new one of whole numbers."""
        self.tallies.add(self.array(rows))
        return len(self.rows) - 1

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

    def is_like(self, other: Tape) -> bool:
        """Whether another one says the same."""
        return (
            self.operations == other.operations
            and self.outputs == other.outputs
            and self.vectors == other.vectors
            and self.constants.keys() == other.constants.keys()
            and all(
                np.array_equal(each, other.constants[number], equal_nan=True)
                for number, each in self.constants.items()
            )
        )


_KINDS = {
    np.add: (operations.ADD, operations.ADD_NUMBER),
    np.subtract: (operations.SUBTRACT, operations.ADD_NUMBER),
    np.multiply: (operations.MULTIPLY, operations.MULTIPLY_BY_NUMBER),
    np.true_divide: (operations.DIVIDE, operations.DIVIDE_BY_NUMBER),
}


class _Array(NDArrayOperatorsMixin):
    """An array of which the shape is known; arithmetic with it is written down."""

    nbytes = 0  # small, whatever it is of: what is large goes piece by piece, to the same effect
    dtype = np.dtype(float)

    def __init__(self, tape: Tape, number: int | None, rows: int, is_given: bool = False):
        self.tape, self._number, self._is_given = tape, number, is_given
        self.shape = (rows, *tape.shape[1:])
        self.ndim = len(self.shape)

    @property
    def number(self) -> int:
        """Of what was written last."""
        if self._number is None:
            raise Untraceable("numbers that nobody wrote")
        return self._number

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        raise Untraceable("a branch on numbers")

    __float__ = __int__ = __index__ = __iter__ = __bool__  # type: ignore[assignment]

    def __array__(self, *arguments: Any, **named: Any) -> np.ndarray:
        raise Untraceable("numbers are looked at")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        if function is np.zeros_like:
            return np.zeros(self.shape)
        raise Untraceable(f"{function} is no kind of operation")

    def copy(self) -> _Array:
        return _Array(self.tape, self.number, len(self))

    def __getitem__(self, key: Any) -> _Array:
        if isinstance(key, slice) and range(self.shape[0])[key] == range(self.shape[0]):
            return self
        raise Untraceable("a part of an array")

    def __setitem__(self, key: Any, value: Any) -> None:
        if value is not self[key]:
            self.becomes(value)

    def becomes(self, other: Any) -> None:
        """Overwrite all numbers."""
        if self._is_given or not isinstance(other, _Array) or self.shape != other.shape:
            raise Untraceable("an array that was given is changed, or another one is written into this")
        self._number = other.number

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **named: Any) -> Any:
        out = named.pop("out", None)
        if method != "__call__" or named or function not in (*_KINDS, np.negative):
            raise Untraceable(f"{function} is no kind of operation")
        if function is np.negative:
            function, inputs = np.multiply, (*inputs, -1.0)
        result = self._made(function, *inputs)
        if out is None:
            return result
        (target,) = out
        if not isinstance(target, _Array):
            raise Untraceable("numbers are written into an array of others")
        target.becomes(result)
        return target

    def _made(self, function: Any, one: Any, other: Any) -> _Array:
        tape, (of_arrays, with_number) = self.tape, _KINDS[function]
        if isinstance(one, _Array) and _is_number(other):
            number = -float(other) if function is np.subtract else float(other)
            made = tape.add(with_number, (self._number_of(one),), number)
        elif isinstance(other, _Array) and _is_number(one) and function is not np.true_divide:
            kind = operations.SUBTRACT_FROM_NUMBER if function is np.subtract else with_number
            made = tape.add(kind, (self._number_of(other),), float(one))
        else:
            made = tape.add(of_arrays, (self._number_of(one), self._number_of(other)))
        return _Array(tape, made, tape.shape[0])

    def _number_of(self, operand: Any) -> int:
        shape = self.tape.shape
        if isinstance(operand, _Array):
            if operand.shape != shape:
                raise Untraceable("arithmetic with arrays of another shape")
            return operand.number
        values = np.asarray(operand)
        if values.dtype.kind not in "fiu":
            raise Untraceable("an operand that is no number")
        return self.tape.constant(np.broadcast_to(values, shape))


class _Tally:
    """A whole number for each worker or edge, of which a rule sees what is missing."""

    def __init__(self, number: int, rows: int):
        self.number, self.rows = number, rows


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float | np.number) and not isinstance(operand, bool)


class _WorkersOnly:
    """What is known of a network beside what crosses it."""

    def __init__(self, workers: Workers, regularizer: Any):
        self.workers, self.regularizer = workers, regularizer


class _TracedRound(Round):
    """A round that writes down what a step does; what it does not have is untraceable."""

    __slots__ = ("_tape", "_whole")

    def __init__(
        self, tape: Tape, whole: Network, rate: Rate, gradient: Callable[[_Array], _Array]
    ):
        self._tape, self._whole = tape, whole
        self._network = _WorkersOnly(whole.workers, whole.regularizer)  # type: ignore[assignment]
        self.learning_rate = rate
        self.gradient = gradient  # type: ignore[assignment]
        self.scratch = self.fresh = self._unwritten  # type: ignore[assignment]
        self.send = self._sent  # type: ignore[assignment]
        self.relay, self.inbox = self._relayed, self._received  # type: ignore[assignment]
        self.average = self._averaged  # type: ignore[assignment]

    @property
    def step(self) -> int:  # type: ignore[override]
        raise Untraceable("what a step does depends on its number")

    def _unwritten(self, shape: tuple[int, ...]) -> _Array:
        if shape != self._tape.shape:
            raise Untraceable("an array of another shape")
        return _Array(self._tape, None, shape[0])

    def _sent(self, vectors: Any) -> None:
        if not isinstance(vectors, int | np.integer):
            raise Untraceable("what is sent is no whole number of vectors")
        self._tape.vectors += int(vectors)

    def _matrix(self, round: int | None, share: Any) -> csr_array:
        weights = self._whole.only_weights
        if weights is None or round is not None or not (np.ndim(share) == 0 and share == 1):
            raise Untraceable("weights that change, or parts of vectors")
        self._sent(weights.vectors)
        self._tape.matrix = weights.matrix
        return weights.matrix

    def _crossed(self, kind: int, x: Any) -> _Array:
        if not isinstance(x, _Array) or x.shape != self._tape.shape:
            raise Untraceable("something else crosses the network")
        return _Array(self._tape, self._tape.add(kind, (x.number,)), len(x))

    def mix(self, x: Any, round: int | None = None, share: float | np.ndarray = 1) -> Any:
        self._matrix(round, share)
        return self._crossed(operations.GOSSIP, x)

    def mix_change(
        self,
        x: Any,
        round: int | None = None,
        share: float | np.ndarray = 1,
        laziness: float = 0,
    ) -> Any:
        self._matrix(round, share)
        change = self._crossed(operations.CHANGE, x)
        return change * (1 - laziness) if laziness else change

    def mix_further(self, *arguments: Any) -> Any:
        raise Untraceable("rounds that not all replicas make")

    def _averaged(self, x: Any, count: str = "ring") -> Any:
        self._sent(AVERAGE_COUNTS[count](self._whole.n))
        return self._crossed(operations.AVERAGE, x)

    def _relayed(self, payload: Any, mail: Any) -> Mail:
        if not isinstance(mail, Mail) or not isinstance(payload, _Array):
            raise Untraceable("messages of another kind")
        self._sent(self._whole.vectors_per_relay)
        tape, values, counts, heard = self._tape, mail.values, mail.counts, mail.heard
        tape.tree = self._whole.tree_edges
        results = (tape.array(len(values)), tape.array(len(payload)))
        operands = (payload.number, mail.received.number, values.number)  # type: ignore[attr-defined]
        tape.operations.append(Operation(operations.RELAY, results, operands))
        sums, total = _Array(tape, results[0], len(values)), _Array(tape, results[1], len(payload))
        if isinstance(heard, _Tally) and isinstance(counts, _Tally):
            results = (tape.tally(counts.rows), tape.tally(heard.rows))
            tape.operations.append(
                Operation(operations.COUNT, results, (heard.number, counts.number))
            )
            counts, heard = _Tally(results[0], counts.rows), _Tally(results[1], heard.rows)
        return Mail(sums, counts, total, heard)  # type: ignore[arg-type]

    def _received(self, mail: Any) -> Any:
        if not isinstance(mail, Mail) or not isinstance(mail.heard, _Tally):
            return self._whole.inbox(mail)
        tape = self._tape
        missing = tape.add(operations.SPREAD, (mail.heard.number,), float(self._whole.n - 1))
        return mail.received, _Array(tape, missing, self._whole.n)

    def descend(self, x: Any, direction: Any, overwrite: bool = False) -> Any:
        return x - direction * self.learning_rate

    def over_rate(self, move: Any) -> Any:
        if self.some_rest:
            raise Untraceable("some rest")
        return move / self.learning_rate


def _gradient_of(problem: Any, tape: Tape) -> Callable[[_Array], _Array]:
    """The gradients of those problems that have a kind of operation; of no class derived from theirs."""
    if type(problem) is LeastSquares and problem.hessians is not None:
        tape.gradient = (problem.hessians, problem.moments)

        def of_matrices(x: _Array) -> _Array:
            if x.shape != tape.shape:
                raise Untraceable("gradients of something else")
            return _Array(tape, tape.add(operations.GRADIENT, (x.number,)), len(x))

        return of_matrices
    if type(problem) is DiagonalQuadratic:

        def of_numbers(x: _Array) -> _Array:
            shape = problem.h.shape + (1,) * (x.ndim - 2)
            return (x - problem.centers.reshape(shape)) * problem.h.reshape(shape)

        return of_numbers
    raise Untraceable(f"gradients of a {type(problem).__name__}")


def traced_step(
    method: Method, state: Any, problem: Any, network: Network, rate: Rate, step: int
) -> Tape:
    """The operations that a step of a method makes of a state, whatever is in its arrays of numbers.

    Args:
        method: whose step it is.
        state: before it; arrays of it with a row for each worker or edge become unknown, others are looked at
            by the rule and must stay as they are.
        problem: whose exact gradients it asks for.
        network: over which messages arrive as they are sent.
        rate: γ, which stays.
        step: its number.

    Raises:
        NotYet: later steps may be traceable.
        Untraceable: none is.
    """
    one, again = (_traced(method, state, problem, network, rate, step) for _ in range(2))
    if not one.is_like(again):
        raise Untraceable("what a step does is not the same each time")
    return one


def _all_heard(state: Any, network: Network) -> bool:
    """Whether messages in a state, if there are any, come from everyone: until then rounds are not alike."""
    if isinstance(state, Mail):
        return network.inbox(state)[1] is None
    return not isinstance(state, tuple) or all(_all_heard(part, network) for part in state)


def _traced(
    method: Method, state: Any, problem: Any, network: Network, rate: Rate, step: int
) -> Tape:
    tape = Tape(state.x.shape)
    settled = _all_heard(state, network)
    given = [_unknown(tape, each, settled) for each in flattened(state)]
    round = _TracedRound(tape, network, rate, _gradient_of(problem, tape))
    try:
        found = flattened(method.step(rebuilt(state, iter(given)), round))
    except Untraceable:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Untraceable("a step that does not run on unknown numbers") from error
    if len(found) != len(given):
        raise Untraceable("a state that changes its structure")
    for before, after in zip(given, found, strict=True):
        if isinstance(before, _Tally) and isinstance(after, _Tally) and before.rows == after.rows:
            tape.outputs.append(after.number)
        elif not isinstance(before, _Array):
            if isinstance(after, _Array | _Tally) or not _is_same(before, after):
                raise (NotYet if step == 0 else Untraceable)("what the rule looks at changes")
        elif isinstance(after, _Array) and after.shape == before.shape:
            tape.outputs.append(after.number)
        else:
            raise Untraceable("a state that is set, or changes its shape")
    return tape


def _unknown(tape: Tape, values: np.ndarray, settled: bool) -> Any:
    """What stands in the place of an array of a state: itself, if a rule may look at it."""
    if not settled and is_tally(values):
        tape.inputs.append(tape.tally(len(values)))
        return _Tally(tape.inputs[-1], len(values))
    if not is_numbers(values, tape.shape):
        return values
    tape.inputs.append(tape.array(len(values)))
    return _Array(tape, tape.inputs[-1], len(values), is_given=True)


def is_numbers(values: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an array of a state has rows like those of the iterates, and any."""
    return values.dtype == float and values.shape[1:] == shape[1:] and len(values) > 0


def is_tally(values: np.ndarray) -> bool:
    """Whether an array of a state is one of whole numbers."""
    return values.ndim == 1 and values.dtype == np.int64 and len(values) > 0


def _is_same(before: np.ndarray, after: Any) -> bool:
    return before is after or (
        isinstance(after, np.ndarray)
        and before.dtype == after.dtype and before.shape == after.shape and np.array_equal(before, after)
    )


def flattened(state: Any) -> list[Any]:
    """The arrays of a state, in order."""
    if not isinstance(state, tuple):
        return [state]
    return [leaf for part in state for leaf in flattened(part)]


def rebuilt(state: Any, leaves: Any) -> Any:
    """A state of the same structure with other arrays."""
    if not isinstance(state, tuple):
        return next(leaves)
    parts = [rebuilt(part, leaves) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
