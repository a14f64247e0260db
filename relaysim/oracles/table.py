"""The oracle of methods that ask for gradients on examples by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from relaysim.oracles.observed import DRAW_AHEAD, Exact, Minibatch, Oracle, WithExamples, evaluator
from relaysim.problems.problem import Problem
from relaysim.support.streams import Streams

__all__ = ["ByNumber", "Samples", "Table", "gives_samples"]

# shape → an array that serves until the step ends
Scratch = Callable[[tuple[int, ...]], np.ndarray]


class Samples:
    """What a step sees of the workers' examples, whose numbers are 0, …, m_i − 1.

    Args:
        problem: one with examples.
        batches: draws a step's batch.
        exact: ``(x, out) → out``, the gradients on all examples.
        scratch: lends the arrays that are returned.
    """

    def __init__(
        self,
        problem: WithExamples,
        batches: Callable[[], np.ndarray],
        exact: Callable[[np.ndarray, np.ndarray], np.ndarray],
        scratch: Scratch,
    ):
        self._batches, self._exact, self._scratch = batches, exact, scratch
        self._evaluate = evaluator(problem.sampled_gradient, "sampled_gradient")

    def draw(self) -> np.ndarray:
        """The numbers of a batch of each worker, ``(n, size)``, or ``(n, size, r)`` where replicas have
        their own.
        """
        return self._batches()

    def gradient(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The workers' gradients at x ``(n, d[, r])``, means over the examples of these numbers."""
        return self._evaluate(self._scratch(x.shape), x, numbers)

    def full_gradient(self, x: np.ndarray) -> np.ndarray:
        """The workers' gradients at x on all of their examples."""
        return self._exact(x, self._scratch(x.shape))


class ByNumber(Oracle, Protocol):
    """An oracle of which gradients can be had by the numbers of examples."""

    def observe_samples(self, problem: Problem, streams: Streams, scratch: Scratch) -> Samples:
        """What the steps of one run see of the examples."""


def gives_samples(oracle: Oracle) -> TypeGuard[ByNumber]:
    """Whether gradients can be had by the numbers of examples."""
    return hasattr(oracle, "observe_samples")


@dataclass(frozen=True)
class Table(Minibatch):
    """Examples drawn as by `Minibatch`, and their gradients at any point by their numbers.

    What `GTSAGA`, `GTSARAH` and `GTSVRG` need: they ask for the gradients on one batch at two points, or
    compare with what they had seen of an example before. To other methods it is a `Minibatch`, with the
    same draws.

    Args:
        size: examples in a batch, for every worker.
        sampling: as of `Minibatch`.

    Raises:
        ValueError, TypeError: as `Minibatch`.

    >>> Table()
    Table(size=1, sampling='with replacement')
    """

    size: int = 1

    def observe_samples(self, problem: Problem, streams: Streams, scratch: Scratch) -> Samples:
        """What the steps of one run see of the examples."""
        sampled = self.drawn_from(problem)
        batches = streams.batches(
            "sampling", np.asarray(sampled.examples), self.size, self.sampling, DRAW_AHEAD
        )
        return Samples(sampled, batches, Exact().observe(problem, streams), scratch)
