"""A step of a rule as a list of array operations, by running it once on arrays of known shapes.

The rule's own step runs, so that there is no second copy of any rule. What cannot be written down so (a
branch on numbers, a draw, the number of the step, a function without a kind of operation) is told by
`UntraceableError`, and goes on as it always did.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from relaysim.algorithms.base import Method, Rate, Round
from relaysim.engine.tape import Operation, Tally, Tape, UnknownArray, UntraceableError
from relaysim.network import AVERAGE_COUNTS, Network
from relaysim.network.relay import Mail, PairMail
from relaysim.problems import DiagonalQuadratic, LeastSquares
from relaysim.problems.workers import Workers
from relaysim.support import operations
from relaysim.support.alike import is_alike

__all__ = [
    "flattened",
    "is_numbers",
    "is_settled",
    "is_tally",
    "rebuilt",
    "recorded_leaf",
    "traced_step",
]


class _StepNumber:
    """a t + b, with t the number of a step that may be any: a rule can name a round by it, and do no more.

    ``made`` knows all of them, since one that is there after the step was noted somewhere.
    """

    __array_ufunc__ = None

    def __init__(self, made: list[weakref.ref[_StepNumber]], times: int = 1, plus: int = 0):
        self._made, self.times, self.plus = made, times, plus
        made.append(weakref.ref(self))

    def __add__(self, other: Any) -> _StepNumber:
        return _StepNumber(self._made, self.times, self.plus + self._whole(other))

    def __mul__(self, other: Any) -> _StepNumber:
        factor = self._whole(other)
        return _StepNumber(self._made, self.times * factor, self.plus * factor)

    __radd__, __rmul__ = __add__, __mul__

    def _whole(self, number: Any) -> int:
        return int(number) if isinstance(number, int | np.integer) else self._unknown()

    def _unknown(self, *_: Any, **__: Any) -> Any:
        raise UntraceableError("what a step does depends on its number")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __hash__ = _unknown
    __sub__ = __rsub__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _unknown
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __divmod__ = __neg__ = __abs__ = _unknown
    __int__ = __index__ = __float__ = __array__ = __str__ = __repr__ = __format__ = _unknown
    __deepcopy__ = __reduce_ex__ = _unknown


class _WorkersOnly:
    """What is known of a network beside what crosses it."""

    def __init__(self, workers: Workers):
        self.workers = workers


class _TracedRound(Round):
    """A round that writes down what a step does; what it does not have is untraceable."""

    __slots__ = ("_tape", "_whole", "step_numbers")

    def __init__(
        self,
        tape: Tape,
        whole: Network,
        rate: Rate,
        gradient: Callable[[UnknownArray], UnknownArray],
    ):
        self._tape, self._whole = tape, whole
        self.step_numbers: list[weakref.ref[_StepNumber]] = []
        self._network = _WorkersOnly(whole.workers)  # type: ignore[assignment]
        self.learning_rate = rate
        self.gradient = gradient  # type: ignore[assignment]
        self.scratch = self.fresh = self._unwritten  # type: ignore[assignment]
        self.send = self._sent
        self.relay, self.inbox = self._relayed, self._received
        self.average = self._averaged

    @property
    def step(self) -> _StepNumber:  # type: ignore[override]
        return _StepNumber(self.step_numbers)

    def _unwritten(self, shape: tuple[int, ...]) -> UnknownArray:
        if shape != self._tape.shape:
            raise UntraceableError("an array of another shape")
        return UnknownArray(self._tape, None, shape[0])

    def _sent(self, vectors: Any) -> None:
        if not isinstance(vectors, int | np.integer):
            raise UntraceableError("what is sent is no whole number of vectors")
        self._tape.vectors += int(vectors)

    def _which(self, round: Any, share: Any) -> float:
        """The number that says which of the matrices it is, see `Tape`; what it sends is sent."""
        round, period = self.step if round is None else round, self._whole.known_weights
        if len({each.vectors for each in period}) != 1 or not (np.ndim(share) == 0 and share == 1):
            raise UntraceableError("weights that change as they like, or parts of vectors")
        if not isinstance(round, _StepNumber):
            raise UntraceableError("a round that does not go with the step")
        self._sent(period[0].vectors)
        self._tape.matrices = tuple(each.matrix for each in period)
        count = len(period)
        return float(round.times % count * count + round.plus % count)

    def _crossed(self, kind: int, x: Any, number: float = 0.0) -> UnknownArray:
        if not isinstance(x, UnknownArray) or x.shape != self._tape.shape:
            raise UntraceableError("something else crosses the network")
        made = self._tape.add(kind, (self._tape.number_of(x),), number)
        return UnknownArray(self._tape, made, len(x))

    def mix(self, x: Any, round: Any = None, share: float | np.ndarray = 1) -> Any:
        return self._crossed(operations.GOSSIP, x, self._which(round, share))

    def mix_change(
        self,
        x: Any,
        round: Any = None,
        share: float | np.ndarray = 1,
        laziness: float = 0,
    ) -> Any:
        change = self._crossed(operations.CHANGE, x, self._which(round, share))
        return change * (1 - laziness) if laziness else change

    def mix_further(self, *arguments: Any) -> Any:
        raise UntraceableError("rounds that not all replicas make")

    def _averaged(self, x: Any, count: str = "ring") -> Any:
        self._sent(AVERAGE_COUNTS[count](self._whole.n))
        return self._crossed(operations.AVERAGE, x)

    def _relayed(self, payload: Any, mail: Any) -> Mail:
        if not isinstance(mail, Mail) or not isinstance(payload, UnknownArray):
            raise UntraceableError("messages of another kind")
        self._sent(self._whole.vectors_per_relay)
        tape, values = self._tape, mail.values
        counts: Any = mail.counts
        heard: Any = mail.heard
        tape.tree = self._whole.tree_edges
        results = (tape.array(len(values)), tape.array(len(payload)))
        operands = tuple(map(tape.number_of, (payload, mail.received, values)))
        tape.operations.append(Operation(operations.RELAY, results, operands))
        tape.messages |= {results[0], operands[2]}
        sums: Any = UnknownArray(tape, results[0], len(values))
        total: Any = UnknownArray(tape, results[1], len(payload))
        if isinstance(heard, Tally) and isinstance(counts, Tally):
            results = (tape.tally(counts.rows), tape.tally(heard.rows))
            tape.operations.append(
                Operation(operations.COUNT, results, (heard.number, counts.number))
            )
            tape.messages |= {results[0], counts.number}
            counts, heard = Tally(results[0], counts.rows), Tally(results[1], heard.rows)
        return Mail(sums, counts, total, heard)

    def _received(self, mail: Any) -> Any:
        if not isinstance(mail, Mail) or not isinstance(mail.heard, Tally):
            return self._whole.inbox(mail)
        tape = self._tape
        missing = tape.add(operations.SPREAD, (mail.heard.number,), float(self._whole.n - 1))
        return mail.received, UnknownArray(tape, missing, self._whole.n)

    def descend(self, x: Any, direction: Any, overwrite: bool = False) -> Any:
        return x - direction * self.learning_rate

    def regularized(self, x: Any) -> Any:
        if self._whole.regularizer is not None:
            raise UntraceableError(
                "a term that may be of the user's own, and keep what it is given"
            )
        return x

    def over_rate(self, move: Any) -> Any:
        if self.some_rest:
            raise UntraceableError("some rest")
        return move / self.learning_rate


def _asked(tape: Tape, kind: int, x: UnknownArray) -> UnknownArray:
    """Gradients at x."""
    if x.shape != tape.shape:
        raise UntraceableError("gradients of something else")
    return UnknownArray(tape, tape.add(kind, (tape.number_of(x),)), len(x))


def _gradient_of(problem: Any, exact: bool, tape: Tape) -> Callable[[UnknownArray], UnknownArray]:
    """The gradients: of those problems that have a kind of operation, of no class derived from theirs and of
    none that was given another function; others are asked for.
    """
    if exact and "gradient" not in vars(problem):
        if type(problem) is LeastSquares and problem.linear_gradient is not None:
            tape.gradient = problem.linear_gradient
            return functools.partial(_asked, tape, operations.GRADIENT)
        if type(problem) is DiagonalQuadratic:
            tape.diagonal_gradient = (problem.h, problem.centers)
            return functools.partial(_asked, tape, operations.DIAGONAL_GRADIENT)
    return functools.partial(_asked, tape, operations.ASK)


def traced_step(
    method: Method,
    state: Any,
    problem: Any,
    network: Network,
    rate: Rate,
    step: int,
    exact: bool,
) -> Tape:
    """The operations that a step of a method makes of a state, whatever is in its arrays of numbers.

    Args:
        method: whose step it is.
        state: before it; arrays of it with a row for each worker or edge become unknown, others are looked at
            by the rule and must stay as they are, but for the first step.
        problem: whose gradients it asks for.
        network: over which messages arrive as they are sent.
        rate: γ, which stays.
        step: its number.
        exact: whether they are the problem's own.

    Raises:
        UntraceableError: no step is a fixed list of operations.
    """
    recorded_leaf(state)
    try:
        # Of a copy, whose caches the first step fills; what the second one leaves there is no cache.
        copied = copy.deepcopy(method)
        gradient_of = functools.partial(_gradient_of, problem, exact)
        with _without_draws():
            one = _traced(copied, state, network, rate, gradient_of)
            before = copy.deepcopy(copied)
            again = _traced(copied, state, network, rate, gradient_of)
    except Exception as error:
        raise UntraceableError("a step that does not run on unknown numbers") from error
    if not one.is_like(again) or not is_alike(before, copied):
        raise UntraceableError("what a step does is not the same each time")
    if one.changed and step > 0:
        raise UntraceableError("what the rule looks at changes")
    if one.changed:  # all of the run, or nothing
        leaves = enumerate(flattened(state))
        following = rebuilt(state, (one.changed.get(k, each) for k, each in leaves))
        traced_step(method, following, problem, network, rate, step + 1, exact)
    return one


@contextlib.contextmanager
def _without_draws() -> Generator[None]:
    """A context in which nothing is drawn from global random numbers: they go on as if nothing had been."""
    of_python = sys.modules["random"]  # which NumPy has loaded
    before, of_numpy = of_python.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        after = np.random.get_state()  # noqa: NPY002
        is_drawn = of_python.getstate() != before or not is_alike(after, of_numpy)
        if is_drawn:
            of_python.setstate(before)
            np.random.set_state(of_numpy)  # noqa: NPY002
    if is_drawn:
        raise UntraceableError("a step that draws")


def is_settled(state: Any, network: Network) -> bool:
    """Whether messages in a state, if there are any, come from everyone: until then rounds are not alike."""
    if isinstance(state, Mail | PairMail):
        return network.inbox(state)[1] is None
    return not isinstance(state, tuple) or all(is_settled(part, network) for part in state)


def _traced(
    method: Method,
    state: Any,
    network: Network,
    rate: Rate,
    gradient_of: Callable[[Tape], Callable[[UnknownArray], UnknownArray]],
) -> Tape:
    tape = Tape(state.x.shape)
    settled = is_settled(state, network)
    given = [_unknown(tape, each, settled) for each in flattened(state)]
    if tape.tallies and len(tape.tallies) != 2:
        raise UntraceableError("messages of several kinds")
    round = _TracedRound(tape, network, rate, gradient_of(tape))
    found = flattened(method.step(rebuilt(state, iter(given)), round))
    if any(number() is not None for number in round.step_numbers):
        raise UntraceableError("a step that notes its number")
    if len(found) != len(given):
        raise UntraceableError("a state that changes its structure")
    for k, (before, after) in enumerate(zip(given, found, strict=True)):
        if isinstance(before, Tally) and isinstance(after, Tally) and before.rows == after.rows:
            tape.outputs.append(after.number)
        elif not isinstance(before, UnknownArray):
            if not isinstance(after, np.ndarray) or isinstance(after, UnknownArray):
                raise UntraceableError("numbers become what the rule looks at")
            if not is_alike(before, after):
                tape.changed[k] = after.copy()
        elif isinstance(after, UnknownArray) and after.shape == before.shape:
            tape.outputs.append(tape.number_of(after))
        else:
            raise UntraceableError("a state that is set, or changes its shape")
    for number, count in Counter(tape.outputs).items():
        if count > 1 and (tape.rows[number] != tape.shape[0] or number in tape.tallies):
            raise UntraceableError("messages that a state holds twice")
    return tape


def _unknown(tape: Tape, values: np.ndarray, settled: bool) -> Any:
    """What stands in the place of an array of a state: itself, if a rule may look at it."""
    if not settled and is_tally(values):
        tape.inputs.append(tape.tally(len(values)))
        return Tally(tape.inputs[-1], len(values))
    if not is_numbers(values, tape.shape):
        return values
    tape.inputs.append(tape.array(len(values)))
    return UnknownArray(tape, tape.inputs[-1], len(values), is_given=True)


def is_numbers(values: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an array of a state has rows like those of the iterates, and any."""
    return values.dtype == float and values.shape[1:] == shape[1:] and len(values) > 0


def is_tally(values: np.ndarray) -> bool:
    """Whether an array of a state is one of whole numbers."""
    return values.ndim == 1 and values.dtype == np.int64 and len(values) > 0


def recorded_leaf(state: Any) -> int:
    """Which of the arrays of a state, in order, the iterates are; untraceable where they are none."""
    places = [object() for _ in flattened(state)]
    try:
        x = rebuilt(state, iter(places)).x
    except Exception as error:
        raise UntraceableError("iterates that are made of several arrays") from error
    for k, place in enumerate(places):
        if place is x:
            return k
    raise UntraceableError("iterates that are no array of the state")


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
