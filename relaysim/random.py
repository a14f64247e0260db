"""Random streams: one for each seed and purpose, the same whatever runs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["Streams"]

# The position of a purpose is part of every result; append, never reorder.
PURPOSES = ("gradient", "faults", "sampling")


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
