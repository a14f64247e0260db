"""Random streams: one for each seed and purpose, the same whatever runs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["EventDraw", "Streams", "numbers_within"]

# The position of a purpose is part of every result; append, never reorder.
PURPOSES = ("gradient", "faults", "sampling", "algorithm")

# Numbers for the events of a seed's position, one row for each of their workers.
EventDraw = Callable[[int, np.ndarray], np.ndarray]


class Streams:
    """The random numbers of the replicas that advance together.

    Args:
        seeds: the distinct seeds.
        owner: for each replica the position of its seed, ``(r,)``, or None for a single run
            without a replica axis.
    """

    def __init__(self, seeds: list[int], owner: np.ndarray | None):
        self.seeds = seeds
        self.owner = owner

    def generator(self, purpose: str, seed: int) -> np.random.Generator:
        """The generator of one seed for one purpose."""
        key = (PURPOSES.index(purpose),)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        self.owner = self.owner[replicas]

    def uniforms(self, purpose: str) -> Callable[[int], np.ndarray]:
        """A function that draws so many numbers in [0, 1): ``(count, 1)`` or ``(count, 1, r)``."""
        generators = [self.generator(purpose, seed) for seed in self.seeds]

        def draw(count: int) -> np.ndarray:
            drawn = np.stack([generator.random(count) for generator in generators], axis=-1)
            return drawn if self.owner is None else drawn[:, None, self.owner]

        return draw

    def tables(self, purpose: str) -> Callable[[tuple[int, ...]], np.ndarray]:
        """A function that draws numbers in [0, 1) of a shape ``(n, d)`` or ``(n, d, r)``."""
        draw: Callable[[int], np.ndarray] | None = None

        def table(shape: tuple[int, ...]) -> np.ndarray:
            nonlocal draw
            if draw is None:  # most methods never ask
                draw = self.uniforms(purpose)
            return draw(shape[0] * shape[1]).reshape(shape)

        return table

    def normals(
        self, purpose: str, shape: tuple[int, ...], scale: float, ahead: int
    ) -> Iterator[np.ndarray]:
        """Each step's Gaussian numbers, ``shape`` or ``shape + (r,)``, drawn for blocks of steps."""
        generators = [self.generator(purpose, seed) for seed in self.seeds]
        block = max(1, ahead // (int(np.prod(shape)) * len(self.seeds)))
        draws = np.empty((block, *shape, len(self.seeds)))
        while True:
            for k, generator in enumerate(generators):
                draws[..., k] = generator.standard_normal((block, *shape))
            draws *= scale
            for drawn in draws:
                if self.owner is None:
                    yield drawn[..., 0]
                elif len(self.seeds) == 1:
                    yield drawn
                else:
                    yield drawn[..., self.owner]

    def event_normals(self, purpose: str, d: int, scale: float) -> EventDraw:
        """Gaussian numbers for a seed's events, drawn in their order: ``(seed, workers) → (events, d)``."""
        generators = [self.generator(purpose, seed) for seed in self.seeds]
        return lambda seed, workers: scale * generators[seed].standard_normal((len(workers), d))

    def event_batches(
        self, purpose: str, available: np.ndarray, size: int, sampling: str
    ) -> EventDraw:
        """A batch for each of a seed's events, in their order: ``(seed, workers) → (events, size)``.

        Args:
            purpose, available, size, sampling: as for `batches`.
        """
        generators = [self.generator(purpose, seed) for seed in self.seeds]

        def independent(seed: int, workers: np.ndarray) -> np.ndarray:
            return _below(
                generators[seed].random((len(workers), size)), available[workers][:, None]
            )

        def distinct(seed: int, workers: np.ndarray) -> np.ndarray:
            return _distinct_below(
                generators[seed].random((len(workers), size)), available[workers]
            )

        def shuffled(seed: int, workers: np.ndarray) -> np.ndarray:
            drawn = np.empty((len(workers), size), dtype=np.intp)
            turn = numbers_within(workers)
            for k in range(turn.max(initial=-1) + 1):  # each worker's k-th event
                drawn[turn == k] = walks[seed].take(workers[turn == k])
            return drawn

        walks = [_Epochs(generator, available, size) for generator in generators]
        return {
            "with replacement": independent,
            "without replacement": distinct,
            "epochs": shuffled,
        }[sampling]

    def batches(
        self, purpose: str, available: np.ndarray, size: int, sampling: str, ahead: int
    ) -> Iterator[np.ndarray]:
        """Each step's batch for every worker, ``(n, size)``, or ``(n, size, r)`` for several seeds.

        Args:
            purpose: one of the purposes.
            available: ``(n,)``, how many there are to draw from.
            size: how many to draw.
            sampling: see `relaysim.oracles.Minibatch`.
            ahead: about how many numbers to draw at a time; it changes no result.
        """
        draw = {
            "with replacement": _independent,
            "without replacement": _distinct,
            "epochs": _shuffled,
        }[sampling]
        each = [
            draw(self.generator(purpose, seed), available, size, ahead // len(self.seeds))
            for seed in self.seeds
        ]
        while True:
            drawn = [next(batches) for batches in each]
            if len(drawn) == 1:
                yield drawn[0]
            else:
                yield np.stack([drawn[k] for k in self.owner], axis=-1)


def numbers_within(group: np.ndarray) -> np.ndarray:
    """The number of each entry among those of its group, in order.

    >>> numbers_within(np.array([7, 2, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(group)))
    numbers = np.empty(len(group), dtype=np.intp)
    numbers[order] = np.arange(len(group)) - np.repeat(starts, sizes)
    return numbers


def _independent(generator, available: np.ndarray, size: int, ahead: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` of independent numbers below ``available``."""
    block = max(1, ahead // (len(available) * size))
    while True:
        yield from _below(generator.random((block, len(available), size)), available[:, None])


def _distinct(generator, available: np.ndarray, size: int, ahead: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` of distinct numbers below ``available``, every subset as likely."""
    block = max(1, ahead // (len(available) * size))
    while True:
        yield from _distinct_below(generator.random((block, len(available), size)), available)


def _distinct_below(uniform: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Distinct numbers below ``available (…)`` from uniform ones in [0, 1), ``(…, size)``.

    By Floyd's method (Bentley, Floyd, CACM 1987), for all at once: the k-th number is drawn from the
    first m − size + k, and is m − size + k itself where that was drawn before.
    """
    size = uniform.shape[-1]
    chosen = np.empty((size, *uniform.shape[:-1]), dtype=np.intp)
    for k in range(size):
        last = available - size + k
        drawn = _below(uniform[..., k], last + 1)
        taken = (chosen[:k] == drawn).any(axis=0)
        chosen[k] = np.where(taken, last, drawn)
    return np.moveaxis(chosen, 0, -1).copy()


def _shuffled(generator, available: np.ndarray, size: int, _: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` that walk through a shuffle of each worker's numbers, then the next one."""
    epochs, everyone = _Epochs(generator, available, size), np.arange(len(available))
    while True:
        yield epochs.take(everyone)


class _Epochs:
    """Each worker's walk through shuffles of its numbers below ``available (n,)``."""

    def __init__(self, generator, available: np.ndarray, size: int):
        self._generator = generator
        self._beyond = np.arange(int(available.max())) >= available[:, None]
        self._batches = available // size
        self._order = np.empty(self._beyond.shape, dtype=np.intp)
        self._within = np.arange(size)
        self._position = np.zeros(len(available), dtype=np.intp)

    def take(self, workers: np.ndarray) -> np.ndarray:
        """The next batch of each of these workers, ``(workers, size)``; none may be there twice."""
        position = self._position[workers]
        new = workers[position == 0]
        if len(new):
            keys = self._generator.random((len(new), self._beyond.shape[1]))
            keys[self._beyond[new]] = 2.0
            self._order[new] = np.argsort(keys, axis=1)
        self._position[workers] = (position + 1) % self._batches[workers]
        return self._order[workers[:, None], (position * len(self._within))[:, None] + self._within]


def _below(uniform: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to limits − 1, from uniform ones in [0, 1)."""
    # The product may round up to the limit itself.
    return np.minimum((uniform * limits).astype(np.intp), limits - 1)
