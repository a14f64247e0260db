"""What is asked of a problem that knows its examples by their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaysim.support.callbacks import answer, ask
from relaysim.support.findings import Finding, relative_difference

__all__ = ["ExampleClaims"]

ROUNDING, FORMULA = 1e-12, 1e-8
# A worker's examples are gone through one by one up to this many.
MOST_EXAMPLES = 1000
REPLICAS = 3


class ExampleClaims:
    """The claims, of whoever has the ``problem`` and points ``x``, ``(n, d)``, and ``replicas`` of these."""

    problem: Any
    n: int
    x: np.ndarray
    replicas: np.ndarray

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The workers' gradients."""
        raise NotImplementedError

    def known(
        self, name: str, *arrays: np.ndarray, shape: tuple[int, ...], **options: Any
    ) -> np.ndarray:
        """What the problem's member answers."""
        raise NotImplementedError

    def _examples(self) -> None:
        self._counts()

    def _counts(self) -> np.ndarray:
        examples = np.asarray(self.problem.examples)
        if examples.dtype.kind not in "iu" or examples.shape != (self.n,) or examples.min() < 1:
            raise ValueError(f"examples must be (n,) = ({self.n},) whole numbers of at least 1")
        if examples.max() > MOST_EXAMPLES:
            raise ValueError(
                f"a worker has {examples.max()} examples, and {MOST_EXAMPLES} are gone through; check the "
                f"same problem with fewer"
            )
        return examples

    def _sampled(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        found = ask(self.problem.sampled_gradient, "sampled_gradient", x, index)
        return answer(found, "sampled_gradient", x.shape).copy()

    def _every_example(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients on each example, ``(examples, n, d)``, and how much each counts, ``(…, n, 1)``."""
        counts = self._counts()
        numbers = np.arange(counts.max())[:, None]
        gradients = [self._sampled(self.x, (k % counts)[:, None]) for k in numbers[:, 0]]
        return np.stack(gradients), ((numbers < counts) / counts)[..., None]

    def _sampled_mean(self) -> Finding:
        gradients, shares = self._every_example()
        found, scale = (shares * gradients).sum(axis=0), float(np.abs(gradients).max())
        note = (
            "what belongs to no example, such as a penalty, goes into each; f_i is a mean over them"
        )
        return relative_difference(found, self.gradient(self.x), scale), FORMULA, note

    def _sampled_batch(self) -> Finding:
        first = np.zeros((self.n, 1), dtype=int)
        last = self._counts()[:, None] - 1
        alone = [self._sampled(self.x, each) for each in (first, last)]
        found = self._sampled(self.x, np.concatenate([first, last, last], axis=1))
        expected = (alone[0] + 2 * alone[1]) / 3
        return (
            relative_difference(found, expected, np.abs(alone).max()),
            FORMULA,
            "it is another sum",
        )

    def _sampled_replicas(self) -> Finding:
        counts = self._counts()[:, None, None]
        index = np.random.default_rng(2).integers(0, counts, size=(self.n, 2, REPLICAS))
        together = self._sampled(self.replicas, index)
        alone = [
            self._sampled(self.replicas[..., k].copy(), index[..., k].copy())
            for k in range(REPLICAS)
        ]
        note = "index is (n, size, r) where x is (n, d, r), and each replica draws its own"
        return relative_difference(together, np.stack(alone, axis=-1)), 1e3 * ROUNDING, note

    def _example_variance(self) -> Finding:
        gradients, shares = self._every_example()
        away = gradients - (shares * gradients).sum(axis=0)
        expected = (shares * away**2).sum(axis=(0, 2))
        found = self.known("example_variance", self.x, shape=(self.n,))
        return (
            relative_difference(found, expected),
            FORMULA,
            "(1/m_i) Σ_j ‖g_j − g̅‖², not over d or m_i − 1",
        )
