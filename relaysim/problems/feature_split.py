"""Least squares whose parameters, not whose examples, are split over workers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relaysim.support.checks import real_array, whole_number

__all__ = ["FeatureSplit"]


class FeatureSplit:
    """min ‖y − Ax‖² where worker k holds columns A_k ``(m, d_k)`` and coordinates x_k, and all know v = Ax.

    One round of CoCoA with averaging: x_k ← x_k + (1/n) A_k⁺ (y − v), each worker's own least squares on what
    is left, of which all take 1/n. Then v follows by adding up n vectors of m numbers, an all-reduce. If
    d_k ≥ m for all k, one round from 0 fits all examples, and nothing changes after it.

    It is no problem for `relaysim.simulate`, whose workers each hold all parameters.

    Args:
        features: A, ``(m, d)``, m examples.
        targets: y, ``(m,)``.
        workers: how many workers hold nearly equal numbers of neighbouring columns, or how many columns each
            holds, ``(n,)``.

    Attributes:
        n, d: workers and parameters.
        sizes: d_k, ``(n,)``.
        features, targets: as given, not to be changed.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, a worker without a column, or sizes
            that do not add up to d.

    Source: Smith, Forte, Ma, Takáč, Jordan, Jaggi, "CoCoA", 2018, with averaging, as Hellkvist, Özçelikkale,
    Ahlén, 2021, study it; the rule is derived here from their description.

    >>> split = FeatureSplit([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [1.0, 2.0], workers=[2, 1])
    >>> split
    FeatureSplit(examples=2, d=3, sizes=[2, 1])
    >>> split.step(np.zeros(3)).round(12).tolist()
    [0.5, 1.0, 0.75]
    """

    def __init__(
        self, features: np.ndarray, targets: np.ndarray, workers: int | Sequence[int]
    ) -> None:
        self.features = real_array(features, "features", copy=True)
        self.targets = real_array(targets, "targets", copy=True)
        if self.features.ndim != 2 or 0 in self.features.shape:
            raise ValueError(f"features must have shape (m, d), not {self.features.shape}")
        m, self.d = self.features.shape
        if self.targets.shape != (m,):
            raise ValueError(
                f"targets must have shape ({m},), one for each row of features, not {self.targets.shape}"
            )
        if not (np.isfinite(self.features).all() and np.isfinite(self.targets).all()):
            raise ValueError("features and targets must be finite; leave such examples out")
        self.sizes = _sizes(workers, self.d)
        self.n = len(self.sizes)
        for array in (self.features, self.targets, self.sizes):
            array.setflags(write=False)
        blocks = np.split(self.features, np.cumsum(self.sizes)[:-1], axis=1)
        # All A_k⁺ one below the other: a round is one product.
        self._inverses = np.concatenate([np.linalg.pinv(block) for block in blocks])

    def step(self, x: np.ndarray) -> np.ndarray:
        """x after a round of CoCoA, ``(d[, r])`` to the same shape."""
        left = self._residual(x)
        return x + self._inverses @ left / self.n

    def training_error(self, x: np.ndarray) -> np.ndarray:
        """(1/m) ‖y − Ax‖² at x ``(d[, r])``, a number or ``(r,)``."""
        return (self._residual(x) ** 2).mean(axis=0)

    def _residual(self, x: np.ndarray) -> np.ndarray:
        if np.ndim(x) not in (1, 2) or len(x) != self.d:
            raise ValueError(f"x must have shape ({self.d},) or ({self.d}, r), not {np.shape(x)}")
        return self.targets.reshape((-1,) + (1,) * (np.ndim(x) - 1)) - self.features @ x

    def __repr__(self) -> str:
        sizes = self.sizes.tolist() if self.n <= 8 else f"{self.sizes.min()} … {self.sizes.max()}"
        return f"FeatureSplit(examples={len(self.targets)}, d={self.d}, sizes={sizes})"


def _sizes(workers: int | Sequence[int], d: int) -> np.ndarray:
    if not isinstance(workers, Sequence | np.ndarray) or isinstance(workers, str):
        n = whole_number(workers, "workers", 1)
        if n > d:
            raise ValueError(f"{d} columns cannot be split over {n} workers; take at most {d}")
        return np.array([len(part) for part in np.array_split(np.arange(d), n)])
    sizes = np.array([whole_number(size, "the columns of a worker", 1) for size in workers])
    if sizes.sum() != d:
        raise ValueError(
            f"workers hold {'no' if not len(sizes) else sizes.sum()} columns together and there are {d}; "
            f"give sizes that add up to {d}"
        )
    return sizes
