"""A method's step as it depends on the weights with which it mixes, from the step itself.

Once W is known a step is an affine map y ← A y + b + B ξ of its state, ξ being errors of the gradients. Where
workers mix with W' = I + Σ_e w_e (1_i 1_jᵀ − 1_i 1_iᵀ), a weight w_e for each message j → i, it is

    (A, b, B)(w) = (A, b, B)(0) + Σ_e w_e D_e,

with D_e in the rows of worker i alone. That is taken from steps with one weight at a time, and tried with
others. Where a step mixes several times, each time may have weights of its own.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method
from relaysim.algorithms.fit import cycle_of
from relaysim.network.crossing import AnyWeights
from relaysim.network.weighting import Weighting, weighting
from relaysim.problems import Problem
from relaysim.support.checks import require_memory
from relaysim.theory.affine import AffineStep, Counting
from relaysim.theory.assembly import close
from relaysim.theory.lost_weights import messages_of
from relaysim.theory.mean_square import Replayed
from relaysim.topologies import Topology

__all__ = ["MixedStep", "WeightedStep"]

# Rows sum to 1 up to this.
ROWS_TO = 1e-8


class WeightedStep(NamedTuple):
    """One step of a period.

    Attributes:
        W: the matrix that is mixed with where nothing is lost.
        edges: sender and receiver of its messages, ``(E, 2)``; see `messages_of`.
        unmixed: (A, b, B)(0), ``(N, N + 1 + n d)``.
        responses: D_e in the rows of its receiver, ``(k, E, s, N + 1 + n d)``, for each of the k times that
            it mixes with weights of its own.
        laziness: with which it mixes.
    """

    W: csr_array
    edges: np.ndarray
    unmixed: np.ndarray
    responses: np.ndarray
    laziness: float


class _Watching(Counting):
    """A network that lists with which matrix, and how lazily, it is asked to mix in a step.

    ``again``: the matrices of the second time that a step mixes, of the third, …; none where they are alike.
    """

    again: tuple[tuple[csr_array, ...], ...] = ()
    mixes: list[tuple[int, float]]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "sendings":  # a step begins
            self.mixes = []

    def mix(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, further: int = 0
    ) -> np.ndarray:
        mixed = super().mix(x, round, share, further)
        self.mixes.append((round, 0.0))
        return mixed

    def mix_change(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, laziness: float = 0
    ) -> np.ndarray:
        change = super().mix_change(x, round, share, laziness)
        self.mixes.append((round, float(laziness)))
        return change

    def _weights(self, round: int, further: int = 0) -> AnyWeights:
        times = len(self.mixes)
        if times == 0 or not self.again:
            return super()._weights(round, further)
        return self._weighting_again[times - 1].at(round, further)

    @functools.cached_property
    def _weighting_again(self) -> list[Weighting]:
        return [weighting(matrices, None, None) for matrices in self.again]


class MixedStep:
    """The steps of a period; see the module.

    Args:
        problem, topology, algorithm, learning_rate, x0: as for `relaysim.theory.affine.AffineStep`.
        matrices: those of a period, checked.
        alike: whether all times that a step mixes have the same weights.

    Attributes:
        map: the affine steps behind it.
        period: steps after which matrices and rule repeat.
        states: N.
        rows: the entries of y of each worker, ``(n, s)``.
        steps: one `WeightedStep` for each of a period.

    Raises:
        TypeError: gradients or a step that are not affine.
        ValueError: a state or weights of another form than above, or too much for the memory.
    """

    def __init__(
        self,
        problem: Problem,
        topology: Topology,
        algorithm: Method,
        learning_rate: float,
        matrices: tuple[csr_array, ...],
        x0: np.ndarray,
        alike: bool,
    ):
        self.period = cycle_of(algorithm, matrices)
        each = [matrices[phase % len(matrices)] for phase in range(self.period)]
        if any(np.abs(W.sum(axis=1) - 1).max() > ROWS_TO for W in matrices):
            raise ValueError(
                f"{algorithm!r} mixes with rows that do not sum to 1, whose masses lost messages change: its "
                f"moments are not known; simulate it"
            )
        messages = [messages_of(W) for W in each]
        ranks = [np.arange(len(edges)) - _first(edges) for edges in messages]
        count = 1 + max((int(rank.max(initial=-1)) for rank in ranks), default=-1)
        self._algorithm, self._networks = algorithm, list[_Watching]()
        self._again: tuple[tuple[csr_array, ...], ...] = ()
        # As it is first, for how often it mixes.
        given = problem, topology, Replayed(algorithm, np.zeros((0, 1)), self.period), learning_rate
        self.map = AffineStep(*given, tuple(each), x0, self._watched)
        mixes = [self._mixes(phase) for phase in range(self.period)]
        self._laziness = [_only(found, algorithm) for found in mixes]
        times = 1 if alike else max(1, *map(len, mixes))
        self._trial = [
            np.random.default_rng(phase).uniform(-1, 1, (times, len(edges)))
            for phase, edges in enumerate(messages)
        ]
        weights = [[np.zeros((times, len(edges))) for edges in messages]]
        for which, k in itertools.product(range(times), range(count)):
            weights.append([np.outer(np.arange(times) == which, rank == k) for rank in ranks])
        weights.append(self._trial)
        by_time = [
            tuple(
                _with_weights(problem.n, edges, w[which].astype(float))
                for outcome in weights
                for edges, w in zip(messages, outcome, strict=True)
            )
            for which in range(times)
        ]
        self._again = tuple(by_time[1:])
        replayed = Replayed(algorithm, np.zeros((0, len(weights))), self.period)
        given = problem, topology, replayed, learning_rate
        self.map = AffineStep(*given, by_time[0], x0, self._watched)
        self.states = self.map.states
        workers = self.map.workers
        if self.map.start_up or workers is None:
            raise ValueError(
                f"{algorithm!r} keeps what is no row of numbers for each worker, such as masses or counts, "
                f"which lost messages change: it has no exact moments; simulate it"
            )
        self.rows = np.argsort(workers, kind="stable").reshape(problem.n, -1)
        width = self.states + 1 + problem.n * problem.d
        rows = self.states * (times * count + 2)
        rows += times * sum(map(len, messages)) * self.rows.shape[1]
        require_memory(
            3 * 8 * self.period * width * rows,
            f"what each of {sum(map(len, messages))} messages does to {self.states} numbers of the state",
            "take fewer workers, edges or parameters, or simulate it",
        )
        self.steps = [
            self._step(phase, each[phase], messages[phase], ranks[phase])
            for phase in range(self.period)
        ]

    def _step(self, phase: int, W: csr_array, edges: np.ndarray, rank: np.ndarray) -> WeightedStep:
        parts = (self.map.matrices, self.map.offsets, self.map.noise)
        A, b, B = (part[phase :: self.period] for part in parts)
        whole = [
            np.hstack([a.toarray(), offset[:, None], noise.toarray()])
            for a, offset, noise in zip(A, b, B, strict=True)
        ]
        own, times = self.rows[edges[:, 1]], len(self._trial[phase])
        responses = np.zeros((times, *own.shape, whole[0].shape[1]))
        count = (len(whole) - 2) // times
        for k, with_weight in enumerate(whole[1:-1]):
            which = rank == k % count
            responses[k // count, which] = (with_weight - whole[0])[own[which]]
        step = WeightedStep(W, edges, whole[0], responses, self._laziness[phase])
        size = 1 + float(np.max(self.map.learning_rate)) * self.map.curvature_scale
        if not close(self.mixed(step, self._trial[phase][None])[0], whole[-1], size):
            raise ValueError(
                f"the step of {self._algorithm!r} is not affine in each weight that it mixes with: the "
                f"moments of what lost messages make of it are not known; simulate it"
            )
        return step

    def _mixes(self, phase: int) -> list[float]:
        """How lazily a step of the period mixes, each time that it does."""
        self.map.linear(np.zeros((self.map.states, 1)), phase)
        mixes = self._networks[-1].mixes
        if any(round != self.map.start_up + phase for round, _ in mixes):
            raise ValueError(
                f"{self._algorithm!r} mixes with other matrices than that of its step: its moments are not "
                f"known; simulate it"
            )
        return [laziness for _, laziness in mixes]

    def _watched(self, *given: Any, **named: Any) -> _Watching:
        network = _Watching(*given, **named)
        network.again = self._again
        self._networks.append(network)
        return network

    def mixed(self, step: WeightedStep, weights: np.ndarray) -> np.ndarray:
        """(A, b, B) with each of K weights ``(K, k, E)`` of messages, or ``(K, 1, E)`` each time alike."""
        found = np.repeat(step.unmixed[None], len(weights), axis=0)
        every = np.broadcast_to(weights, (len(weights), *step.responses.shape[:2]))
        own = self.rows[step.edges[:, 1]]
        for time, responses in enumerate(step.responses):
            added = every[:, time, :, None, None] * responses
            np.add.at(found, (np.arange(len(found))[:, None, None], own), added)
        return found


def _only(lazinesses: list[float], algorithm: Method) -> float:
    """That with which a step mixes, however often."""
    found = set(lazinesses) or {0.0}
    if len(found) > 1:
        raise ValueError(
            f"{algorithm!r} mixes in two ways in a step, which lose different weights: its moments are not "
            f"known; simulate it"
        )
    return found.pop()


def _first(edges: np.ndarray) -> np.ndarray:
    """Where the messages to the receiver of each begin."""
    return np.searchsorted(edges[:, 1], edges[:, 1])


def _with_weights(n: int, edges: np.ndarray, weights: np.ndarray) -> csr_array:
    """I + Σ_e w_e (1_i 1_jᵀ − 1_i 1_iᵀ)."""
    sender, receiver = edges.T
    own = 1 - np.bincount(receiver, weights, n)
    used = weights != 0
    data = np.concatenate([own, weights[used]])
    row, column = (np.concatenate([np.arange(n), part[used]]) for part in (receiver, sender))
    return csr_array((data, (row, column)), shape=(n, n))
