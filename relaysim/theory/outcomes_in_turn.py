"""The maps of a method whose steps draw, one outcome after the other, and what its first steps come to."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from relaysim.network.crossing import AnyWeights
from relaysim.theory.affine import AffineStep, Counting
from relaysim.theory.state_arrays import change_of_counts, data_of, rebuilt

__all__ = ["Begun", "OutcomesInTurn"]

# Rounding in what no draw may change, beside its size.
ALIKE = 1e-9


class Begun(NamedTuple):
    """A run until its maps hold: columns F with E (y, 1)(y, 1)ᵀ = F Fᵀ.

    ``iterates (n d + 1, m)``, before each of the first steps, and the ``state (N + 1, m)`` after them.
    """

    iterates: list[np.ndarray]
    state: np.ndarray


class _Asked(Counting):
    """A network that lists by its matrices which rounds a step mixes in."""

    @functools.cached_property
    def rounds(self) -> set[int]:
        """Their numbers."""
        return set()

    def _weights(self, round: int, further: int = 0) -> AnyWeights:
        self.rounds.add(round)
        return super()._weights(round, further)


class OutcomesInTurn(AffineStep):
    """The affine maps of a step's outcomes, each for a period of the rule, as if they came in turn.

    Args:
        probabilities: ``(K,)``, of the outcomes.
        every: steps after which the rule repeats, and the next outcome comes.
        given: as for `AffineStep`, whose method and matrices take the outcomes in turn.
    """

    def __init__(self, probabilities: np.ndarray, every: int, *given: Any):
        self.probabilities, self.every = probabilities, every
        super().__init__(*(*given, _Asked))
        if self.start_up and len(probabilities) > 1:
            self._require_counts_of_all_draws()

    def _require_counts_of_all_draws(self) -> None:
        """Raise where the map of an outcome depends on what was drawn before."""
        for phase in range(self.every):
            first, *others = self._templates[phase :: self.every]
            if any(change_of_counts(first, other) for other in others):
                raise self._of_draws()

    def _of_draws(self) -> ValueError:
        return ValueError(
            f"{self.algorithm!r} keeps what is no part of its iterates, such as masses or counts, which "
            f"draws change: a draw has no one map; simulate it"
        )

    def require_one_draw(self) -> None:
        """Raise where a step mixes with other draws than its own."""
        assert isinstance(self._network, _Asked)
        asked = self._network.rounds
        for phase in range(self.every):
            asked.clear()
            self.linear(np.zeros((self.states, 1)), phase)
            if asked - {self.start_up + phase}:
                raise ValueError(
                    f"{self.algorithm!r} mixes more than once in a step, each time with another draw: its "
                    f"moments are not known; take one round a step, or simulate it"
                )

    def moments_begun(self, starts: np.ndarray, ones: np.ndarray) -> Begun:
        """The first steps, in which other rules hold, of starts ``(n, d, m)`` whose last entries are ``ones
        (m,)``: 1 of a run's own, 0 of a difference of two that draw the same.

        Raises:
            ValueError: what these steps draw is never forgotten.
        """
        state = self.algorithm.init(starts, self._network)
        iterates: list[np.ndarray] = []
        while not self._maps_hold(state, len(iterates)):
            iterates.append(np.vstack([state.x.reshape(-1, len(ones)), ones]))
            state, ones = self._after_draw(state, ones, len(iterates) - 1)
        if self.start_up and len(self.probabilities) > 1 and ones.any():
            self._require_forgotten(state, ones)
        return Begun(iterates, np.vstack([self._flatten(state), ones]))

    def _maps_hold(self, state: Any, step: int) -> bool:
        """Whether counts are where they stay; the outcomes in turn are looked at a round of them later."""
        there = step % self.every == 0 and not change_of_counts(self._templates[0], state)
        return step == self.start_up or (len(self.probabilities) > 1 and there)

    def _after_draw(self, state: Any, ones: np.ndarray, step: int) -> tuple[Any, np.ndarray]:
        """What all outcomes make of these columns, each with the root of its probability."""
        constant = self._gradient(np.zeros((*self.size, 1))) * ones
        rounds, phase = divmod(step, self.every)
        found, columns = [], []
        for k, p in enumerate(self.probabilities):
            number = rounds * self.period + k * self.every + phase
            following = self._step(state, number, lambda x: self.curvature(x) + constant)
            data = [part.reshape(-1, part.shape[2]) for part in data_of(following)]
            columns.append(np.sqrt(p) * np.vstack([*data, ones]))
            found.append(following)
        if any(change_of_counts(found[0], other) for other in found[1:]):
            raise self._of_draws()
        F = np.hstack(columns)
        if F.shape[1] > F.shape[0]:
            F = np.transpose(np.linalg.qr(F.T, mode="r"))
        ends = zip(self._shapes, self._ends, self._ends[1:], strict=False)
        parts = iter([F[a:b].reshape(*shape, F.shape[1]) for shape, a, b in ends])
        return rebuilt(found[0], parts), F[-1]

    def _require_forgotten(self, state: Any, ones: np.ndarray) -> None:
        """Raise where what stays as it is, or is conserved, depends on what the first steps drew."""
        everything = np.concatenate([part.reshape(-1, len(ones)) for part in data_of(state)])
        stays = np.setdiff1d(np.arange(len(everything)), self._varying)
        y = self._flatten(state)
        for found, expected in (
            (everything[stays], self._constants[stays]),
            (self.conserved @ y, self.conserved @ self.y),
        ):
            size = max(np.abs(everything).max(), np.abs(y).max(), np.abs(self.y).max())
            if np.abs(found - expected[:, None] * ones).max(initial=0) > ALIKE * size:
                raise ValueError(
                    f"{self.algorithm!r} keeps for good what its first steps drew, so that its moments have "
                    f"no one map; simulate it"
                )
