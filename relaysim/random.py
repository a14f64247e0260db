"""Random streams: one for each seed and purpose, the same whatever runs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["Streams"]

# The position of a purpose is part of every result; append, never reorder.
PURPOSES = ("gradient", "faults", "sampling", "algorithm")


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


def _independent(generator, available: np.ndarray, size: int, ahead: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` of independent numbers below ``available``."""
    block = max(1, ahead // (len(available) * size))
    while True:
        yield from _below(generator.random((block, len(available), size)), available[:, None])


def _distinct(generator, available: np.ndarray, size: int, ahead: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` of distinct numbers below ``available``, every subset as likely.

    By Floyd's method (Bentley, Floyd, CACM 1987), for all workers and several steps at once: the k-th
    number is drawn from the first m − size + k, and is m − size + k itself where that was drawn before.
    """
    block = max(1, ahead // (len(available) * size))
    chosen = np.empty((size, block, len(available)), dtype=np.intp)
    while True:
        uniform = generator.random((block, len(available), size))
        for k in range(size):
            last = available - size + k
            drawn = _below(uniform[:, :, k], last + 1)
            taken = (chosen[:k] == drawn).any(axis=0)
            chosen[k] = np.where(taken, last, drawn)
        yield from chosen.transpose(1, 2, 0).copy()


def _shuffled(generator, available: np.ndarray, size: int, _: int) -> Iterator[np.ndarray]:
    """Batches ``(n, size)`` that walk through a shuffle of each worker's numbers, then the next one."""
    most = int(available.max())
    beyond = np.arange(most) >= available[:, None]
    batches = available // size
    order = np.empty((len(available), most), dtype=np.intp)
    workers, within = np.arange(len(available))[:, None], np.arange(size)
    step = 0
    while True:
        position = step % batches
        new = np.flatnonzero(position == 0)
        if len(new):
            keys = generator.random((len(new), most))
            keys[beyond[new]] = 2.0
            order[new] = np.argsort(keys, axis=1)
        yield order[workers, (position * size)[:, None] + within]
        step += 1


def _below(uniform: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to limits − 1, from uniform ones in [0, 1)."""
    # The product may round up to the limit itself.
    return np.minimum((uniform * limits).astype(np.intp), limits - 1)
