"""Random streams: one for each seed and purpose, the same whatever runs beside them.

What draws from a stream is a `Source`: it can tell where it stands, and go on from there on another day.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from relaysim.support.numbers import DRAWS, numbers_within

__all__ = [
    "EventDraw",
    "Source",
    "Streams",
    "Uniforms",
    "of_replicas",
    "seed_array",
]

# The position of a purpose is part of every result; append, never reorder.
PURPOSES = ("gradient", "faults", "sampling", "algorithm", "mixing")

# About how many numbers of rounds are drawn at once: it is part of every result of what draws by round.
_NUMBERS_OF_ROUNDS = 1 << 10

# About how many numbers are drawn at once of which a step asks for some; it changes no result.
_NUMBERS_AHEAD = 1 << 15

# Numbers for the events of a seed's position, one row for each of their workers.
EventDraw = Callable[[int, np.ndarray], np.ndarray]


class Source(Protocol):
    """What draws from streams: its state is plain data, whole numbers and arrays."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


def seed_array(seeds: Sequence[int]) -> np.ndarray:
    """Seeds as an array: of int64 where all fit, else of Python's whole numbers, which have any size.

    NumPy itself makes floats of numbers on both sides of 2^63, and different seeds one.

    >>> seed_array([1, 2**63 + 1]).tolist(), seed_array([1, 2]).dtype
    ([1, 9223372036854775809], dtype('int64'))
    """
    fits = all(seed < 2**63 for seed in seeds)
    return np.array(seeds, dtype=np.int64 if fits else object)


class Streams:
    """The random numbers of the replicas that advance together.

    Args:
        seeds: the distinct seeds.
        owner: for each replica the position of its seed, ``(r,)``, or None for a single run
            without a replica axis.
    """

    def __init__(self, seeds: list[int], owner: np.ndarray | None):
        self.seeds = seeds
        self._own(owner)
        self._sources: dict[str, Source] = {}
        self._waiting: dict[str, dict[str, Any]] = {}

    def generator(self, purpose: str, seed: int, *within: int) -> np.random.Generator:
        """The generator of one seed for one purpose; ``within`` names a part of it, such as a step."""
        key = (PURPOSES.index(purpose), *within)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))

    def generators(self, purpose: str) -> list[np.random.Generator]:
        """One for each seed."""
        return [self.generator(purpose, seed) for seed in self.seeds]

    def keep(self, replicas: np.ndarray) -> None:
        """Go on with these replicas only (a boolean mask over the present ones)."""
        assert self.owner is not None, "a run without replicas has none to leave out"
        self._own(self.owner[replicas])

    def _own(self, owner: np.ndarray | None) -> None:
        self.owner = owner
        #: Whether replica k is that of seed k.
        self.one_each = owner is not None and np.array_equal(owner, np.arange(len(self.seeds)))

    # -- where the sources stand -------------------------------------------------------------------

    def register(self, name: str, source: Source) -> None:
        """Let a source be part of `state`; one that was restored before it was made goes on now."""
        self._sources[name] = source
        if name in self._waiting:
            source.restore(self._waiting.pop(name))

    def state(self) -> dict[str, Any]:
        """Where all sources stand, by name."""
        return self._waiting | {name: source.state() for name, source in self._sources.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; sources that are not made yet do when they are."""
        self._waiting = dict(state)
        for name in self._sources.keys() & state.keys():
            self._sources[name].restore(self._waiting.pop(name))

    # -- sources -----------------------------------------------------------------------------------

    def uniforms(self, purpose: str, *within: int) -> Uniforms:
        """A function that draws so many numbers in [0, 1): ``(count, 1)`` or ``(count, 1, r)``.

        ``within`` names a part of the purpose that has a stream of its own.
        """
        source = Uniforms(self, [self.generator(purpose, seed, *within) for seed in self.seeds])
        self.register(" ".join(map(str, (f"{purpose}: uniforms", *within))), source)
        return source

    def uniforms_at(self, purpose: str, count: int, *within: int) -> np.ndarray:
        """Numbers in [0, 1) that belong to a part of a stream, whatever was drawn before.

        ``(count, 1)`` or ``(count, 1, r)``; ``within`` names the part, such as a step and a round of it.
        """
        generators = [self.generator(purpose, seed, *within) for seed in self.seeds]
        return _uniforms(self, generators, count)

    def rounds(self, purpose: str, count: int) -> RoundNumbers:
        """Numbers in [0, 1) that belong to rounds, ``count`` for each seed."""
        return RoundNumbers(self, purpose, count)

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
        self, purpose: str, shape: tuple[int, ...], scale: np.ndarray, ahead: int
    ) -> Callable[[], np.ndarray]:
        """A function that draws a step's Gaussian numbers, ``shape`` or ``shape + (r,)``.

        ``scale`` broadcasts to the latter.
        """
        block = max(1, ahead // (int(np.prod(shape)) * len(self.seeds)))
        draws = np.empty((block, *shape, len(self.seeds)))

        def fill(generators: list[np.random.Generator]) -> np.ndarray:
            for k, generator in enumerate(generators):
                draws[..., k] = generator.standard_normal((block, *shape))
            np.multiply(draws, scale, out=draws)
            return draws

        source = _Ahead(self.generators(purpose), fill)
        self.register(f"{purpose}: normals", source)
        if self.owner is None:
            return lambda: source.take()[..., 0]
        if len(self.seeds) == 1:
            return source.take
        return lambda: source.take()[..., self.owner]

    def event_normals(self, purpose: str, d: int, scale: np.ndarray) -> EventDraw:
        """Gaussian numbers for a seed's events, drawn in their order: ``(seed, workers) → (events, d)``.

        ``scale (n,)`` is that of each worker.
        """
        generators = self.generators(purpose)
        self.register(f"{purpose}: event normals", _Plain(generators))
        return lambda seed, workers: (
            scale[workers, None] * generators[seed].standard_normal((len(workers), d))
        )

    def event_batches(
        self, purpose: str, available: np.ndarray, size: int, sampling: str
    ) -> EventDraw:
        """A batch for each of a seed's events, in their order: ``(seed, workers) → (events, size)``.

        Args:
            purpose, available, size, sampling: as for `batches`.
        """
        generators = self.generators(purpose)
        if sampling == "epochs":
            walks = [_Epochs(generator, available, size) for generator in generators]
            self.register(f"{purpose}: event batches", _Several(walks))
            return lambda seed, workers: _walked(walks[seed], workers, size)
        self.register(f"{purpose}: event batches", _Plain(generators))
        draw = DRAWS[sampling]
        return lambda seed, workers: draw(
            generators[seed].random((len(workers), size)), available[workers]
        )

    def batches(
        self, purpose: str, available: np.ndarray, size: int, sampling: str, ahead: int
    ) -> Callable[[], np.ndarray]:
        """A function that draws a step's batch for every worker, ``(n, size)``, or ``(n, size, r)``
        for several seeds.

        Args:
            purpose: one of the purposes.
            available: ``(n,)``, how many there are to draw from.
            size: how many to draw.
            sampling: see `relaysim.oracles.Minibatch`.
            ahead: about how many numbers to draw at a time; it changes no result.
        """
        n = len(available)
        each: list[Callable[[], np.ndarray]]
        if sampling == "epochs":
            walks = [_Epochs(generator, available, size) for generator in self.generators(purpose)]
            everyone = np.arange(n)
            each = [functools.partial(walk.take, everyone) for walk in walks]
            self.register(f"{purpose}: batches", _Several(walks))
        else:
            block = max(1, ahead // len(self.seeds) // (n * size))
            draw = DRAWS[sampling]

            def fill(generators: list[np.random.Generator]) -> np.ndarray:
                return draw(generators[0].random((block, n, size)), available)

            sources = [_Ahead([generator], fill) for generator in self.generators(purpose)]
            each = [source.take for source in sources]
            self.register(f"{purpose}: batches", _Several(sources))
        if len(each) == 1:
            return each[0]

        def of_replicas() -> np.ndarray:
            drawn = [take() for take in each]
            owner = np.zeros(1, dtype=np.intp) if self.owner is None else self.owner
            return np.stack([drawn[k] for k in owner], axis=-1)

        return of_replicas


class RoundNumbers:
    """Numbers in [0, 1) of rounds, whatever was asked for before, so that nothing needs to be kept of them.

    Args:
        streams: of the replicas.
        purpose: of the numbers.
        count: how many a round has for each seed.
    """

    def __init__(self, streams: Streams, purpose: str, count: int):
        self._streams, self._purpose, self._count = streams, purpose, count
        self._block = max(1, _NUMBERS_OF_ROUNDS // max(count, 1))
        self._at, self._drawn = -1, np.empty((0, 0, 0))

    def __call__(self, round: int, further: int = 0) -> np.ndarray:
        """Those of a round, or of the k-th further one that belongs to it, k ≥ 1, ``(count, seeds)``."""
        if further:
            return self._of_each((self._count,), round, further)
        return self.ahead(round, 1)[0]

    def ahead(self, round: int, most: int) -> np.ndarray:
        """Those of this round and some that follow, ``most`` or less in all, ``(rounds, count, seeds)``."""
        at, within = divmod(round, self._block)
        if at != self._at:
            of_block = self._of_each((self._block, self._count), at)
            self._at, self._drawn = at, of_block
        return self._drawn[within : within + most]

    def _of_each(self, shape: tuple[int, ...], *within: int) -> np.ndarray:
        streams = self._streams
        each = [streams.generator(self._purpose, seed, *within) for seed in streams.seeds]
        return np.stack([generator.random(shape) for generator in each], axis=-1)


class _Plain:
    """Generators from which numbers are drawn as they are needed."""

    def __init__(self, generators: list[np.random.Generator]):
        self._generators = generators

    def state(self) -> dict[str, Any]:
        return {"generators": _states(self._generators)}

    def restore(self, state: dict[str, Any]) -> None:
        _set_states(self._generators, state["generators"])


class Uniforms(_Plain):
    """Numbers in [0, 1), the same for all replicas of a seed."""

    def __init__(self, streams: Streams, generators: list[np.random.Generator]):
        super().__init__(generators)
        self._streams = streams
        # Numbers that are drawn and not asked for yet: a generator's call costs as much as many of them.
        self._left = np.empty((len(generators), 0))

    def __call__(self, count: int) -> np.ndarray:
        return of_replicas(self._streams, self.of_seeds(count))

    def of_seeds(self, count: int) -> np.ndarray:
        """So many of each seed, ``(count, seeds)``."""
        missing = count - self._left.shape[1]
        if missing > 0:
            ahead = max(missing, _NUMBERS_AHEAD // len(self._generators))
            drawn = np.empty((len(self._generators), ahead))
            for generator, own in zip(self._generators, drawn, strict=True):
                generator.random(out=own)
            self._left = np.concatenate([self._left, drawn], axis=1)
        found, self._left = self._left[:, :count], self._left[:, count:]
        return found.T

    def state(self) -> dict[str, Any]:
        return super().state() | {"left": self._left.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._left = np.array(state["left"])


class _Ahead:
    """Numbers that are drawn for many steps at a time, which is faster."""

    def __init__(
        self,
        generators: list[np.random.Generator],
        fill: Callable[[list[np.random.Generator]], np.ndarray],
    ):
        self._generators, self._fill = generators, fill
        self._before = _states(generators)
        self._block: np.ndarray | None = None
        self._position = 0

    def take(self) -> np.ndarray:
        """Those of the next step; they are overwritten later."""
        if self._block is None or self._position == len(self._block):
            self._before = _states(self._generators)
            self._block = self._fill(self._generators)
            self._position = 0
        self._position += 1
        return self._block[self._position - 1]

    def state(self) -> dict[str, Any]:
        return {"before": self._before, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        self._before = state["before"]
        _set_states(self._generators, self._before)
        self._position = int(state["position"])
        self._block = self._fill(self._generators) if self._position else None


class _Several:
    """Sources that stand for one, a seed each."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources

    def state(self) -> dict[str, Any]:
        return {"each": [source.state() for source in self._sources]}

    def restore(self, state: dict[str, Any]) -> None:
        for source, own in zip(self._sources, state["each"], strict=True):
            source.restore(own)


def _states(generators: list[np.random.Generator]) -> list[dict[str, Any]]:
    return [dict(generator.bit_generator.state) for generator in generators]


def _set_states(generators: list[np.random.Generator], states: list[dict[str, Any]]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state


def _uniforms(streams: Streams, generators: list[np.random.Generator], count: int) -> np.ndarray:
    drawn = np.stack([generator.random(count) for generator in generators], axis=-1)
    return of_replicas(streams, drawn)


def of_replicas(streams: Streams, drawn: np.ndarray) -> np.ndarray:
    """Numbers of all seeds ``(count, seeds)`` as those of replicas: ``(count, 1)`` or ``(count, 1, r)``."""
    if streams.owner is None:
        return drawn
    return drawn[:, None] if streams.one_each else drawn[:, None, streams.owner]


def _walked(walk: _Epochs, workers: np.ndarray, size: int) -> np.ndarray:
    """The next batch of each event's worker, who may be there several times; ``(events, size)``."""
    drawn = np.empty((len(workers), size), dtype=np.intp)
    turn = numbers_within(workers)
    for k in range(turn.max(initial=-1) + 1):  # each worker's k-th event
        drawn[turn == k] = walk.take(workers[turn == k])
    return drawn


class _Epochs:
    """Each worker's walk through shuffles of its numbers below ``available (n,)``."""

    def __init__(self, generator: np.random.Generator, available: np.ndarray, size: int):
        self._generator = generator
        self._beyond = np.arange(int(available.max())) >= available[:, None]
        self._batches = available // size
        self._order = np.empty(self._beyond.shape, dtype=np.intp)
        self._within = np.arange(size)
        self._position = np.zeros(len(available), dtype=np.intp)

    def state(self) -> dict[str, Any]:
        (state,) = _states([self._generator])
        return {"generator": state, "order": self._order.copy(), "position": self._position.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        _set_states([self._generator], [state["generator"]])
        self._order[:], self._position[:] = state["order"], state["position"]

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
