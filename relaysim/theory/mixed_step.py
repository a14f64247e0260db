"""A method's step as it depends on the weights with which it mixes, from the step itself.

Once W is known a step is an affine map y ← A y + b + B ξ of its state, ξ being errors of the gradients. Where
workers mix with W' = I + Σ_e w_e (1_i 1_jᵀ − 1_i 1_iᵀ), a weight w_e for each message j → i, it is

    (A, b, B)(w) = (A, b, B)(0) + Σ_e w_e D_e,

with D_e in the rows of worker i alone. That is taken from steps with one weight at a time, and tried with
others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from relaysim.algorithms.base import Method
from relaysim.algorithms.fit import cycle_of
from relaysim.problems import Problem
from relaysim.support.checks import require_memory
from relaysim.theory.affine import AffineStep, Counting
from relaysim.theory.assembly import close
from relaysim.theory.lost_weights import messages_of
from relaysim.theory.mean_square import Replayed
from relaysim.topologies import Topology

__all__ = ["MixedStep", "WeightedStep"]


class WeightedStep(NamedTuple):
    """One step of a period.

    Attributes:
        W: the matrix that is mixed with where nothing is lost.
        edges: sender and receiver of its messages, ``(E, 2)``; see `messages_of`.
        unmixed: (A, b, B)(0), ``(N, N + 1 + n d)``.
        responses: D_e in the rows of its receiver, ``(E, s, N + 1 + n d)``.
        mixes: how often the step mixes, and how lazily, if it does.
    """

    W: csr_array
    edges: np.ndarray
    unmixed: np.ndarray
    responses: np.ndarray
    mixes: list[float]


class _Watching(Counting):
    """A network that lists how lazily it is asked to mix."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.mixes: list[float] = []

    def mix(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, further: int = 0
    ) -> np.ndarray:
        self.mixes.append(0.0)
        return super().mix(x, round, share, further)

    def mix_change(
        self, x: np.ndarray, round: int, share: float | np.ndarray = 1, laziness: float = 0
    ) -> np.ndarray:
        self.mixes.append(float(laziness))
        return super().mix_change(x, round, share, laziness)


class MixedStep:
    """The steps of a period; see the module.

    Args:
        problem, topology, algorithm, learning_rate, x0: as for `relaysim.theory.affine.AffineStep`.
        matrices: those of a period, checked.

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
    ):
        self.period = cycle_of(algorithm, matrices)
        each = [matrices[phase % len(matrices)] for phase in range(self.period)]
        messages = [messages_of(W) for W in each]
        ranks = [np.arange(len(edges)) - _first(edges) for edges in messages]
        count = 1 + max((int(rank.max(initial=-1)) for rank in ranks), default=-1)
        self._trial = [
            np.random.default_rng(phase).uniform(-1, 1, len(edges))
            for phase, edges in enumerate(messages)
        ]
        weights = [
            [np.zeros(len(edges)) for edges in messages],
            *([(rank == k).astype(float) for rank in ranks] for k in range(count)),
            self._trial,
        ]
        given = tuple(
            _with_weights(problem.n, edges, w)
            for outcome in weights
            for edges, w in zip(messages, outcome, strict=True)
        )
        replayed = Replayed(algorithm, np.zeros((0, len(weights))), self.period)
        self._networks: list[_Watching] = []
        self.map = AffineStep(problem, topology, replayed, learning_rate, given, x0, self._watched)
        self._algorithm, self.states = algorithm, self.map.states
        workers = self.map.workers
        if self.map.start_up or workers is None:
            raise ValueError(
                f"{algorithm!r} keeps what is no row of numbers for each worker, such as masses or counts, "
                f"which lost messages change: it has no exact moments; simulate it"
            )
        self.rows = np.argsort(workers, kind="stable").reshape(problem.n, -1)
        width = self.states + 1 + problem.n * problem.d
        rows = self.states * (count + 2) + sum(map(len, messages)) * self.rows.shape[1]
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
        own = self.rows[edges[:, 1]]
        responses = np.zeros((*own.shape, whole[0].shape[1]))
        for k, with_weight in enumerate(whole[1:-1]):
            which = rank == k
            responses[which] = (with_weight - whole[0])[own[which]]
        step = WeightedStep(W, edges, whole[0], responses, self._mixes(phase))
        size = 1 + float(np.max(self.map.learning_rate)) * self.map.curvature_scale
        if not close(self.mixed(step, self._trial[phase]), whole[-1], size):
            raise ValueError(
                f"the step of {self._algorithm!r} is not affine in each weight that it mixes with: the "
                f"moments of what lost messages make of it are not known; simulate it"
            )
        return step

    def _mixes(self, phase: int) -> list[float]:
        (network,) = self._networks
        network.mixes = []
        self.map.linear(np.zeros((self.states, 1)), phase)
        return network.mixes

    def _watched(self, *given: Any, **named: Any) -> _Watching:
        self._networks.append(_Watching(*given, **named))
        return self._networks[-1]

    def mixed(self, step: WeightedStep, weights: np.ndarray) -> np.ndarray:
        """(A, b, B) with these weights of messages, ``(E,)``; K of them with those of ``(E, K)``."""
        several = weights.reshape(len(weights), -1).T
        found = np.repeat(step.unmixed[None], len(several), axis=0)
        added = several[:, :, None, None] * step.responses
        own = self.rows[step.edges[:, 1]]
        np.add.at(found, (np.arange(len(found))[:, None, None], own), added)
        return found if weights.ndim > 1 else found[0]


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
