"""The protocol between algorithms and whoever runs them.

An algorithm is a frozen dataclass of hyper-parameters, derived from `Method`, with

- ``init(x0, network)``: the state before step 0, a NamedTuple of arrays with a field ``x``;
- ``step(state, round)``: the next state, a pure function of its arguments;

and, where they are not the defaults, its claims: see `relaysim.algorithms.claims`. Besides, where there is
something to say:

- ``conserved(state, network, learning_rate)``, where a step at a constant rate leaves something as it
  is whatever the gradients: these quantities, linear in the state, ``(k, d[, r])``, or ``None``. An
  exact analysis sets them apart: they tell where a run ends, and do not decay;
- for ``uses = "workers"``, ``own_mixing(n)``: the sequence of matrices that it mixes with, where it
  mixes with some.

A step asks for one gradient, at ``state.x`` or where it likes (or on examples by their numbers, where it
claims to need that), and changes no array that it was
given. What it keeps in the state it has made in this step or had from ``init``: buffers that it
borrows are taken back when the next step has ended. Arrays that differ between replicas have three
axes, replicas last. All that a rule remembers is in the state, so that a run can be kept and gone on
with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from relaysim.algorithms.claims import Claims
from relaysim.mixing.outcomes import Outcomes
from relaysim.network import Heard, Network
from relaysim.support.blocks import BLOCK_BYTES, Spread, row_blocks
from relaysim.support.workspace import Workspace

__all__ = [
    "Method",
    "MomentumMethod",
    "Rate",
    "Round",
    "Samples",
    "check_momentum",
    "no_buffer",
    "share_of",
    "smallest",
    "smoothed",
]

#: A learning rate γ; ``(r,)`` with one for each replica, ``(n, 1[, r])`` with one for each worker.
Rate: TypeAlias = float | np.ndarray


class Samples(Protocol):
    """The workers' examples, of which a step asks by their numbers; see `relaysim.oracles.Table`."""

    def draw(self) -> np.ndarray:
        """The numbers of a batch of each worker, ``(n, size)``, or ``(n, size, r)`` where replicas have
        their own.
        """

    def gradient(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The workers' gradients at x ``(n, d[, r])``, means over the examples of these numbers."""

    def full_gradient(self, x: np.ndarray) -> np.ndarray:
        """The workers' gradients at x on all of their examples."""


class Round:
    """All that an algorithm sees of the world in one step.

    Attributes:
        step: number of the step, from 0.
        learning_rate: γ, a float, ``(r,)`` with one for each replica, or ``(n, 1[, r])`` where workers
            differ, for methods that claim ``worker_rates``.
        gradient: ``gradient(x)``, the workers' observed gradients at ``(n, d[, r])``, to be asked
            for once a step. The result is a scratch array.
        samples: what `Samples` gives, in scratch arrays too, for methods that say
            ``oracle_needs = "examples"``; their ``gradient`` is that on all examples.
        mix, mix_further, mix_change, hear, mix_entries, neighbours_with, pairs, pairs_with_weight,
            pair_differences, exchange, average, relay, inbox, send: see `relaysim.network.Network`.
        scratch, fresh: see `relaysim.support.workspace.Workspace`.
        uniforms: ``uniforms(shape)``, independent numbers in [0, 1) of a shape such as ``(n, d[, r])``,
            from each replica's own stream.
    """

    __slots__ = (
        "_mix",
        "_mix_change",
        "_network",
        "_samples",
        "_spread",
        "average",
        "fresh",
        "gradient",
        "inbox",
        "learning_rate",
        "relay",
        "scratch",
        "send",
        "step",
        "uniforms",
    )

    def __init__(
        self,
        gradient: Callable[[np.ndarray], np.ndarray],
        network: Network,
        workspace: Workspace,
        uniforms: Callable[[tuple[int, ...]], np.ndarray],
        samples: Samples | None = None,
    ):
        self._samples = samples
        self.step = 0
        self.learning_rate: Rate = 0.0
        self.gradient = gradient
        self._mix = network.mix
        self._mix_change = network.mix_change
        self._network = network
        self._spread = Spread()
        self.average = network.average
        self.relay = network.relay
        self.inbox = network.inbox
        self.send = network.send
        self.scratch = workspace.scratch
        self.fresh = workspace.fresh
        self.uniforms = uniforms

    def with_gradient(self, gradient: Callable[[np.ndarray], np.ndarray]) -> Round:
        """The same round with another function for the gradients."""
        other = Round.__new__(Round)
        for name in Round.__slots__:  # copy.copy takes three times as long
            setattr(other, name, getattr(self, name))
        other.gradient = gradient
        return other

    def mix(
        self, x: np.ndarray, round: int | None = None, share: float | np.ndarray = 1
    ) -> np.ndarray:
        """W_t x, with t the step unless a method with several rounds a step names the round.

        ``share`` of a vector crosses each edge, ``(r,)`` where replicas differ.
        """
        return self._mix(x, self.step if round is None else round, share)

    def mix_further(self, x: np.ndarray, k: int, share: float | np.ndarray = 1) -> np.ndarray:
        """W_{t+k} x, the k-th further round of step t, k ≥ 1, which not all replicas need to make.

        ``share`` is 0 for the replicas ``(r,)`` that do not: what they draw does not depend on it.
        """
        return self._mix(x, self.step + k, share, k)

    def mix_faster(self, x: np.ndarray, rounds: int) -> np.ndarray:
        """(P − I) x with P = `relaysim.mixing.fast_mix` of so many rounds with W_t, all of which are sent."""
        return self._network.mix_faster(x, self.step, rounds)

    @property
    def disagreement_left(self) -> float:
        """‖W_t − J‖₂ of a symmetric W_t: what a round leaves of ‖X − X̄‖ at the most."""
        return self._network.disagreement_left(self.step)

    def mix_change(
        self,
        x: np.ndarray,
        round: int | None = None,
        share: float | np.ndarray = 1,
        laziness: float = 0,
    ) -> np.ndarray:
        """(W_t − I) x, to the precision of the differences between neighbours.

        ``share`` of a vector crosses each edge, below 1 where x is made of what was sent compressed; ``(r,)``
        where replicas differ.
        ``laziness`` λ mixes with (1 − λ)W_t + λI: not the same as a part of the change with W_t where
        messages are lost, since a row shares out what it lost over all that it has left.
        """
        return self._mix_change(x, self.step if round is None else round, share, laziness)

    def hear(self, x: np.ndarray) -> Heard:
        """What everyone hears of x where W_t has weight, message by message, for rules that look at each; see
        `relaysim.network.Heard`.
        """
        return self._network.hear(x, self.step)

    def neighbours_with(self, kept: np.ndarray) -> np.ndarray:
        """How many neighbours by W_t have each entry set in ``kept``, 0 or 1, ``(n, d[, r])``."""
        return self._network.neighbours_with(kept, self.step)

    def mix_entries(self, x: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """W_t x where of each vector only the entries arrive that are ``kept`` by who sends and ``wanted``
        by who receives; each entry's weights are scaled to sum to 1.
        """
        return self._network.mix_entries(x, kept, wanted, self.step)

    @property
    def samples(self) -> Samples:
        """The workers' examples."""
        if self._samples is None:
            raise TypeError(
                "a step asks for gradients on examples by their numbers; say so in the class of the method: "
                "oracle_needs = 'examples'"
            )
        return self._samples

    @property
    def examples(self) -> np.ndarray:
        """How many examples each worker has, ``(n,)``; one each where the problem does not say."""
        return self._network.workers.examples

    @property
    def local_smoothness(self) -> np.ndarray:
        """L_i, the smoothness of each worker's objective, ``(n,)``."""
        return self._network.workers.local_smoothness

    def proximal(self, x: np.ndarray, rate: Rate) -> np.ndarray:
        """argmin_u f_i(u) + ‖u − x_i‖²/(2 rate) at row i, a new array by the gradient, asked for at x.

        Rates are a number, ``(r,)``, or ``(n, 1[, r])`` where workers differ.

        Raises:
            ValueError: the problem has no such solve.
        """
        return self._network.workers.proximal(x, rate, self.gradient(x))

    @property
    def weights_of_others(self) -> np.ndarray:
        """1 − W_t,ii, the weight of all neighbours of a worker, ``(n,)``; 1 for one that has none."""
        return self._network.weights_of_others(self.step)

    def regularized(self, x: np.ndarray) -> np.ndarray:
        """prox_{γr}(x) with the term r of a composite objective, a new array; x itself without one."""
        regularizer = self._network.regularizer
        return x if regularizer is None else regularizer.proximal(x, self.learning_rate)

    @property
    def strong_convexity(self) -> float:
        """μ, the smallest Hessian eigenvalue of f."""
        return self._network.workers.strong_convexity

    @property
    def pairs(self) -> np.ndarray:
        """Both ends of every undirected edge, ``(E, 2)``."""
        return self._network.pairs

    def pair_differences(self, x: np.ndarray) -> np.ndarray:
        """x_j − x_i over every edge i < j, ``(E, d[, r])``; 0 where W_t has no weight."""
        return self._network.pair_differences(x, self.step)

    @property
    def pairs_with_weight(self) -> np.ndarray:
        """Whether W_t has weight on each of `pairs`, ``(E,)``."""
        return self._network.pairs_with_weight(self.step)

    def exchange(self, corrections: np.ndarray, share: float | np.ndarray) -> np.ndarray:
        """±W_t,ij times each edge's correction, added up: + for the end i < j, − for j; ``(n, d[, r])``.

        ``share`` of a vector crosses each edge with weight in either direction, ``(E,)`` where edges differ.
        """
        return self._network.exchange(corrections, self.step, share)

    def descend(self, x: np.ndarray, direction: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """x − γ · direction, in a scratch array: the direction's own one if it may be overwritten."""
        result, rate = direction if overwrite else self.scratch(x.shape), self.learning_rate
        if x.nbytes <= BLOCK_BYTES:
            np.multiply(direction, self._spread_rate(x), out=result)
            return np.subtract(x, result, out=result)
        by_row = rate if isinstance(rate, np.ndarray) and rate.ndim > 1 else None
        for rows in row_blocks(x):
            part = result[rows]
            np.multiply(direction[rows], rate if by_row is None else by_row[rows], out=part)
            np.subtract(x[rows], part, out=part)
        return result

    @property
    def some_rest(self) -> bool:
        """Whether γ is 0, for all or for some."""
        rate = self.learning_rate
        if isinstance(rate, np.ndarray):
            return not rate.all()
        return rate == 0

    def over_rate(self, move: np.ndarray) -> np.ndarray:
        """move / γ, a new array; 0 where γ is 0."""
        rate = self.learning_rate
        if self.some_rest:
            return np.divide(move, rate, out=np.zeros_like(move), where=np.not_equal(rate, 0))
        return move / self._spread_rate(move)

    def _spread_rate(self, x: np.ndarray) -> Rate:
        """γ, in the shape of x where that is faster."""
        rate = self.learning_rate
        if isinstance(rate, np.ndarray) and x.nbytes <= BLOCK_BYTES:
            return self._spread(rate, x.shape)
        return rate


Machine_co = TypeVar("Machine_co", covariant=True)


class RoundsSetup(Protocol[Machine_co]):
    """The parts of a run in rounds, such as a `relaysim.engine.setup.Setup`."""

    def rounds(self, algorithm: Method) -> Machine_co:
        """What advances a method in which all workers step together."""


class Method(Claims):
    """A method of rounds, in which all workers step together; see the module's docstring."""

    def init(self, x0: np.ndarray, network: Network) -> Any:
        """The state before step 0, from the starting points ``(n, d[, r])``."""
        raise NotImplementedError(f"{type(self).__name__} has no `init(x0, network)`")

    def step(self, state: Any, round: Round) -> Any:
        """The next state."""
        raise NotImplementedError(f"{type(self).__name__} has no `step(state, round)`")

    def conserved(self, state: Any, network: Network, learning_rate: Rate) -> np.ndarray | None:
        """What a step at a constant rate leaves as it is, linear in the state, ``(k, d[, r])``; None for
        nothing.
        """
        return None

    def outcomes(self) -> Outcomes | None:
        """Of a ``random`` method whose step is affine once its numbers are known, all that they may be where
        that is finitely much, for exact expectations: see `relaysim.mixing.outcomes`. Else None.
        """
        return None

    def machine(self, setup: RoundsSetup[Machine_co]) -> Machine_co:
        """What advances this method in a run."""
        return setup.rounds(self)


class MomentumMethod(Method):
    """A method with an option ``momentum``, β in [0, 1)."""

    momentum: float

    @property
    def rate_scale(self) -> float:
        """(1 + β)/(1 − β), by which dampened momentum multiplies the largest stable learning rate.

        >>> from relaysim.algorithms import DPSGD
        >>> DPSGD().rate_scale, DPSGD(momentum=0.5).rate_scale
        (1.0, 3.0)
        """
        return (1 + self.momentum) / (1 - self.momentum)


def check_momentum(momentum: float) -> None:
    """Raise unless 0 ≤ momentum < 1."""
    is_number = isinstance(momentum, float | int | np.number) and not isinstance(momentum, bool)
    if not (is_number and 0 <= momentum < 1):
        raise ValueError(f"momentum must lie in [0, 1), not {momentum!r}")


def no_buffer(x: np.ndarray) -> np.ndarray:
    """An array without rows, for a state that needs no buffer with these options."""
    return np.zeros((0, *x.shape[1:]))


def share_of(share: float, count: int) -> int:
    """⌈share · count⌉ of a share above 0, where 0.3 of 10 is three although rounding makes it a little more.

    >>> share_of(0.1, 10), share_of(0.3, 10), share_of(0.15, 10)
    (1, 3, 2)
    """
    return math.ceil(share * count * (1 - 1e-12))


def smallest(keys: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Which are the ``count`` smallest along an axis, of the shape of the keys; at random if these are.

    >>> smallest(np.array([[0.3, 0.1, 0.2]]), 2, axis=1).tolist()
    [[False, True, True]]
    """
    last = np.partition(keys, count - 1, axis=axis).take([count - 1], axis=axis)
    return keys <= last


def smoothed(
    buffer: np.ndarray, gradient: np.ndarray, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dampened momentum m ← βm + (1 − β)g: the direction to step in, and the buffer to keep."""
    if momentum == 0:
        return gradient, buffer
    buffer = momentum * buffer + (1 - momentum) * gradient
    return buffer, buffer
