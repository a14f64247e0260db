"""How losses of messages move the first two moments of a method's state, exactly.

A step is an affine map of the state whose parts depend on what is lost; see `relaysim.theory.mixed_step`.

Where losses of different steps are independent, those of different workers too but for what a link takes from
both its ends, P = Cov y moves by

    P ← Ā P Āᵀ + B̄ N B̄ᵀ + Σ_q L_q (P + m mᵀ + N) R_qᵀ,

with m = E (y, 1), N the covariance of errors of the gradients and a pair (L_q, R_q) for each direction in
which the weights of a row vary, and for each link. Where links, or wires, are down for a while, it is the
moments together with which of them are down that move, 2^links of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from relaysim.support.progress import progress_bar
from relaysim.theory.second_moments import (
    DENSE_ENTRIES,
    largest_eigenvalue,
    orthonormal,
    require_vectors,
)

__all__ = ["Chains", "Lossy", "LossyPeriod", "Moments", "Pairs", "at_rest"]

# What is left, beside the solution, of an equation that is solved by iteration.
RESIDUAL, MOST_TRIES = 1e-14, 6
# After so many directions it begins anew; beside these it keeps some more vectors.
DIRECTIONS, FURTHER = 80, 10


class Moments(NamedTuple):
    """Of a state y ``(N,)`` together with C things that may be so when it is reached.

    Attributes:
        mean: m = E y, ``(N,)``.
        chances: P(c), ``(C,)``.
        first: E (y − m) 1_c, ``(C, N)``.
        second: E (y − m)(y − m)ᵀ 1_c, ``(C, N, N)``.
    """

    mean: np.ndarray
    chances: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Of y, ``(N, N)``."""
        return self.second.sum(axis=0)


class Pairs(NamedTuple):
    """What varies of the rows of two workers, or of one, together.

    Attributes:
        left, right: L and R in the rows of a worker each, ``(Q, s, N + 1 + n d)``.
        rows, columns: which rows these are, ``(Q, s)``.
    """

    left: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


class Chains(NamedTuple):
    """L things that fail and are repaired, each by itself, and which of them are down, 2^L ways."""

    things: int
    fail: float
    repair: float

    @property
    def down(self) -> np.ndarray:
        """Booleans, ``(L, 2^L)``."""
        ways = np.arange(2**self.things)
        return (ways >> np.arange(self.things - 1, -1, -1)[:, None] & 1).astype(bool)

    def begun(self) -> np.ndarray:
        """All work, ``(2^L,)``."""
        return np.eye(1, 2**self.things)[0]

    def settled(self) -> np.ndarray:
        """How likely they are in the long run, ``(2^L,)``."""
        share = self.fail / (self.fail + self.repair) if self.fail else 0.0
        return np.where(self.down, share, 1 - share).prod(axis=0)

    def moved(self, numbers: np.ndarray) -> np.ndarray:
        """Of ``(2^L, …)`` what they are a step later."""
        change = np.array([[1 - self.fail, self.repair], [self.fail, 1 - self.repair]])
        shape = numbers.shape
        for k in range(self.things):
            parts = numbers.reshape(2**k, 2, -1)
            numbers = np.einsum("ij,ajb->aib", change, parts)
        return numbers.reshape(shape)


class Lossy(NamedTuple):
    """A step whose messages may be lost.

    Attributes:
        maps: (A, b, B) for each of C things that may be so, ``(C, N, N + 1 + n d)``: the mean one where
            nothing of it is kept.
        pairs: what varies beside, for C = 1.
    """

    maps: np.ndarray
    pairs: Pairs | None = None

    def moved(self, second: np.ndarray) -> np.ndarray:
        """The linear part, of ``(C, N, N)``."""
        size = second.shape[1]
        A = self.maps[:, :, :size]
        found = A @ second @ A.mT
        if self.pairs is not None:
            left, right = self.pairs.left[:, :, :size], self.pairs.right[:, :, :size]
            half = (left.reshape(-1, size) @ second[0]).reshape(left.shape)
            self._add(found[0], half @ right.mT)
        return found

    def after(self, before: Moments, noise: np.ndarray) -> Moments:
        """The moments a step later, errors of the gradients having variances ``noise (n d,)``."""
        size = len(before.mean)
        A, b, B = self.maps[:, :, :size], self.maps[:, :, size], self.maps[:, :, size + 1 :]
        chances = before.chances[:, None]
        moved = (A @ before.first[:, :, None])[..., 0]
        of_mean = A @ before.mean + b
        mean = (moved + of_mean * chances).sum(axis=0)
        off = of_mean - mean
        first = moved + off * chances
        cross = moved[:, :, None] * off[:, None, :]
        second = self.moved(before.second) + cross + cross.mT
        second += chances[:, :, None] * (off[:, :, None] * off[:, None, :] + (B * noise) @ B.mT)
        if self.pairs is not None:
            point = np.append(before.mean, 1.0)
            at_mean = [part[:, :, : size + 1] @ point for part in self.pairs[:2]]
            by_noise = [part[:, :, size + 1 :] for part in self.pairs[:2]]
            added = at_mean[0][:, :, None] * at_mean[1][:, None, :]
            self._add(second[0], added + (by_noise[0] * noise) @ by_noise[1].mT)
        return Moments(mean, before.chances, first, second)

    def within(self, basis: np.ndarray, origin: np.ndarray | None = None) -> Lossy:
        """The same of the coordinates in a basis ``(N, v)``, which move on their own, less an ``origin``."""
        size = len(basis)
        at = np.zeros(size) if origin is None else origin

        def inner(part: np.ndarray) -> np.ndarray:
            A = part[:, :, :size]
            offset = (A @ at)[:, :, None] + part[:, :, size : size + 1]
            return np.concatenate([A @ basis, offset, part[:, :, size + 1 :]], axis=2)

        maps = basis.T @ inner(self.maps)
        maps[:, :, basis.shape[1]] -= basis.T @ at
        if self.pairs is None:
            return Lossy(maps)
        left, right, rows, columns = self.pairs
        every = np.broadcast_to(np.arange(basis.shape[1]), (len(left), basis.shape[1]))
        left, right = (
            basis[where].mT @ inner(part) for part, where in ((left, rows), (right, columns))
        )
        return Lossy(maps, Pairs(left, right, every, every))

    def _add(self, second: np.ndarray, parts: np.ndarray) -> None:
        assert self.pairs is not None
        where = self.pairs.rows[:, :, None], self.pairs.columns[:, None, :]
        np.add.at(second, where, parts)

    def entered(self, y: np.ndarray) -> np.ndarray:
        """What a step adds to y, whatever is lost, and errors of the gradients to any state, ``(N, k)``."""
        size = len(y)
        point = np.append(y, 1.0)
        found = [(self.maps[:, :, : size + 1] @ point - y).T, *self.maps[:, :, size + 1 :]]
        if self.pairs is not None:
            for part, rows in zip(self.pairs[:2], self.pairs[2:], strict=True):
                drift = part[:, :, : size + 1] @ point
                columns = np.concatenate([drift[:, :, None], part[:, :, size + 1 :]], axis=2)
                # Each of them in rows of its own.
                several = np.zeros((size, *columns.shape[::2]))
                several[rows.T, np.arange(len(part))] = columns.transpose(1, 0, 2)
                found.append(several.reshape(size, -1))
        return np.concatenate(found, axis=1)

    def some(self, random: np.random.Generator) -> np.ndarray:
        """A combination of all that may happen to a state, ``(N, N)``, of random shares."""
        size = self.maps.shape[1]
        found = np.tensordot(random.normal(size=len(self.maps)), self.maps[:, :, :size], 1)
        for part, rows in (
            () if self.pairs is None else zip(self.pairs[:2], self.pairs[2:], strict=True)
        ):
            shares = random.normal(size=len(part))[:, None, None]
            np.add.at(found, rows, shares * part[:, :, :size])
        return found


class LossyPeriod:
    """The steps of a period, one after the other.

    Args:
        steps: each of them.
        chains: which things are down for a while; None where losses of different steps are independent.
    """

    def __init__(self, steps: list[Lossy], chains: Chains | None):
        self.steps, self._chains = steps, chains
        self.size = steps[0].maps.shape[1]

    def begun(self, y: np.ndarray) -> Moments:
        """Those of a start, which is certain."""
        chances = np.ones(1) if self._chains is None else self._chains.begun()
        return self._without_spread(y, chances)

    def _without_spread(self, mean: np.ndarray, chances: np.ndarray) -> Moments:
        shape = (len(chances), self.size)
        return Moments(mean, chances, np.zeros(shape), np.zeros((*shape, self.size)))

    def after(self, before: Moments, step: int, noise: np.ndarray) -> Moments:
        """The moments after a step."""
        if self._chains is not None:
            moved = self._chains.moved
            before = Moments(before.mean, *(moved(part) for part in before[1:]))
        return self.steps[step % len(self.steps)].after(before, noise)

    def seen_by(self, shown: np.ndarray) -> tuple[np.ndarray, LossyPeriod] | None:
        """What moves on its own of which ``shown (l, N)`` is a part: a basis ``(N, v)``, and its steps.

        None where it is everything. What vanishes there does not cancel.
        """
        random = np.random.default_rng(1)

        def backwards(basis: np.ndarray) -> np.ndarray:
            return np.concatenate([step.some(random).T @ basis for step in self.steps], axis=1)

        basis = _closure(shown.T, backwards)
        if basis.shape[1] == self.size:
            return None
        return basis, LossyPeriod([step.within(basis) for step in self.steps], self._chains)

    def reached_from(
        self, y: np.ndarray, starts: np.ndarray
    ) -> tuple[np.ndarray, LossyPeriod] | None:
        """What is reached from y and from ``starts (N, k)`` beside it, which holds nothing that is conserved.

        Returns:
            A basis B ``(N, v)``, and the steps of c, where states are y + B c. None where it is everything.
        """
        random = np.random.default_rng(2)

        def moved(basis: np.ndarray) -> np.ndarray:
            return np.concatenate([step.some(random) @ basis for step in self.steps], axis=1)

        basis = _closure(starts, moved)
        if basis.shape[1] < self.size:
            entered = [step.entered(y) for step in self.steps]
            basis = _closure(np.concatenate([basis, *entered], axis=1), moved)
        if basis.shape[1] == self.size:
            return None
        steps = [step.within(basis, y) for step in self.steps]
        return basis, LossyPeriod(steps, self._chains)

    def moved(self, second: np.ndarray) -> np.ndarray:
        """The linear part over a period, of ``(C, N, N)``."""
        for step in self.steps:
            if self._chains is not None:
                second = self._chains.moved(second)
            second = step.moved(second)
        return second

    def rate(self, starts: np.ndarray, shown: np.ndarray) -> float:
        """The largest eigenvalue of that, on what starts ``(N, k)`` reach and ``shown (l, N)`` shows."""
        random = np.random.default_rng(0)
        reached = _closure(starts, functools.partial(self._some, random, False))
        backwards = functools.partial(self._some, random, True)
        seen = _closure(
            reached.T @ shown.T, lambda columns: reached.T @ backwards(reached @ columns)
        )
        basis = reached @ seen
        count, size = len(self.steps[0].maps), basis.shape[1]
        every = size == self.size  # the basis is then the identity

        with progress_bar(None, None, "rate under faults", "products") as bar:

            def apply(flat: np.ndarray) -> np.ndarray:
                bar.update()
                inner = flat.reshape(count, size, size)
                if every:
                    return self.moved(inner).ravel()
                return (basis.T @ self.moved(basis @ inner @ basis.T) @ basis).ravel()

            return largest_eigenvalue(apply, np.tile(np.eye(size).ravel(), count))

    def _some(
        self, random: np.random.Generator, backwards: bool, columns: np.ndarray
    ) -> np.ndarray:
        for step in reversed(self.steps) if backwards else self.steps:
            A = step.some(random)
            columns = (A.T if backwards else A) @ columns
        return columns

    def means(self, y: np.ndarray) -> Iterator[np.ndarray]:
        """E y at steps 0, 1, …, of a start that is certain."""
        chances = self.begun(y).chances
        numbers = chances[:, None] * y
        for step in itertools.count():
            yield numbers.sum(axis=0)
            numbers, chances = self._mean_after(numbers, chances, step)

    def _mean_after(
        self, numbers: np.ndarray, chances: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """E y 1_c ``(C, N)`` and P(c) a step later."""
        if self._chains is not None:
            numbers, chances = self._chains.moved(numbers), self._chains.moved(chances)
        maps = self.steps[step % len(self.steps)].maps
        moved = (maps[:, :, : self.size] @ numbers[:, :, None])[..., 0]
        return moved + maps[:, :, self.size] * chances[:, None], chances

    def mean_at_rest(self) -> tuple[np.ndarray, np.ndarray]:
        """E y 1_c ``(C, N)`` and P(c), which a period leaves as they are."""
        settled = np.ones(1) if self._chains is None else self._chains.settled()

        def after(flat: np.ndarray, chances: np.ndarray) -> np.ndarray:
            numbers = flat.reshape(-1, self.size)
            for step in range(len(self.steps)):
                numbers, chances = self._mean_after(numbers, chances, step)
            return numbers.ravel()

        nothing = np.zeros_like(settled)
        offset = after(np.zeros(len(settled) * self.size), settled)
        found = at_rest(lambda flat: after(flat, nothing), offset)
        return found.reshape(-1, self.size), settled

    def at_rest(self, noise: np.ndarray) -> Moments:
        """The moments that a period leaves as they are; it must have a rate below 1."""
        together, chances = self.mean_at_rest()
        mean = together.sum(axis=0)
        rest = self._without_spread(mean, chances)
        rest = rest._replace(first=together - chances[:, None] * mean)
        moments = rest
        for step in range(len(self.steps)):
            moments = self.after(moments, step, noise)
        shape = rest.second.shape
        with progress_bar(None, None, "floor under faults", "products") as bar:

            def apply(flat: np.ndarray) -> np.ndarray:
                bar.update()
                return self.moved(flat.reshape(shape)).ravel()

            second = at_rest(apply, moments.second.ravel())
        return rest._replace(second=second.reshape(shape))


def _closure(columns: np.ndarray, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A basis of the smallest space with these columns that no map leaves, each time one of random shares."""
    basis = columns[:, :0]
    new = orthonormal(basis, columns)
    while new.shape[1]:
        basis = np.hstack([basis, new])
        if basis.shape[1] == len(basis):
            return np.eye(len(basis))
        new = orthonormal(basis, apply(basis))
    return basis


def at_rest(apply: Callable[[np.ndarray], np.ndarray], offset: np.ndarray) -> np.ndarray:
    """x = apply(x) + offset, of a linear map whose eigenvalues are below 1."""
    size = len(offset)
    if size <= DENSE_ENTRIES:
        matrix = np.stack([apply(unit) for unit in np.eye(size)], axis=1)
        return np.linalg.solve(np.eye(size) - matrix, offset)
    require_vectors(DIRECTIONS + FURTHER, size)
    system = LinearOperator((size, size), matvec=lambda x: x - apply(x), dtype=np.float64)
    found, least = np.zeros(size), RESIDUAL * np.linalg.norm(offset)
    for _ in range(MOST_TRIES):
        left = offset - system @ found
        if np.linalg.norm(left) <= least:
            break
        found += gmres(system, left, rtol=1e-10, atol=0.5 * least, restart=DIRECTIONS, maxiter=50)[
            0
        ]
    return found
