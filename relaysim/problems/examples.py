"""Numbers of examples that workers draw, and the rows of least squares as examples."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from relaysim.support.checks import real_array

__all__ = ["ExampleNumbers", "RowExamples", "points_of_workers"]


class ExampleNumbers:
    """What numbers of examples are checked against.

    Args:
        counts: how many each worker has, ``(n,)`` whole numbers.
    """

    def __init__(self, counts: np.ndarray):
        self._counts = counts
        limits = counts.astype(np.uint64)
        self._limits = {2: limits[:, None], 3: limits[:, None, None]}

    def checked(self, index: ArrayLike, x: np.ndarray) -> np.ndarray:
        """The examples drawn by each worker, ``(n, size)`` or ``(n, size, r)`` with the r of x ``(n, d, r)``.

        Raises:
            TypeError, ValueError: what is no such array of whole numbers.
            IndexError: a number that is none of a worker's examples.
        """
        index, n = np.asarray(index), len(self._counts)
        if index.dtype.kind not in "iu":
            raise TypeError(f"index must be of whole numbers, not of {index.dtype}")
        shapes = (2,) if x.ndim == 2 else (2, 3)
        if (
            index.ndim not in shapes
            or len(index) != n
            or not index.shape[1]
            or index.shape[2:] not in ((), x.shape[2:])
        ):
            raise ValueError(
                f"index must have shape (n, size), n = {n}, or (n, size, r) with the r of x, "
                f"not {index.shape}"
            )
        # Unsigned, negative numbers are too large as well.
        outside = index.astype(np.uint64) >= self._limits[index.ndim]
        if outside.any():
            worker, position = np.argwhere(outside)[0][:2]
            wrong = index[worker, position][outside[worker, position]].ravel()[0]
            raise IndexError(
                f"worker {worker} has the examples 0 to {self._counts[worker] - 1}, and no {wrong}"
            )
        return index


def points_of_workers(x: ArrayLike, n: int, d: int) -> np.ndarray:
    """x ``(d,)`` or ``(n, d)`` as a point for each worker, ``(n, d)``."""
    x = real_array(x, "x")
    if x.shape not in ((d,), (n, d)):
        raise ValueError(f"x must have shape (d,) = ({d},) or (n, d) = ({n}, {d}), not {x.shape}")
    return np.ascontiguousarray(np.broadcast_to(x, (n, d)))


class RowExamples:
    """Examples of f_i(x) = ½‖A_i x − b_i‖² = (1/m_i) Σ_j ½ m_i (a_j·x − b_j)²: the first m_i rows of A_i.

    There are none where a number that was given is none of rows, or where others than these are not 0.

    Attributes:
        A, b: ``(n, m, d)`` and ``(n, m)``.
        examples: m_i, ``(n,)``.
    """

    A: np.ndarray
    b: np.ndarray
    examples: np.ndarray

    @property
    def sampled_gradient(self) -> Callable[..., np.ndarray]:
        """``(x, index, out=None)``: the gradients of f_i estimated from some of the examples, their mean.

        x is ``(n, d)`` or ``(n, d, r)``; index are the examples drawn by each worker, numbers from 0 to
        m_i − 1: ``(n, size)``, or ``(n, size, r)`` where replicas draw their own. ``out`` is written into if
        given. An IndexError is raised for a number that is none of a worker's examples.
        """
        self._require_examples()
        return self._sampled_gradient

    @property
    def example_variance(self) -> Callable[[ArrayLike], np.ndarray]:
        """``(x,)``: the variance of the gradient over a worker's examples, ``(n,)``, at (d,) or ``(n, d)``.

        (1/m_i) Σ_j ‖g_j − g̅‖² with the gradients g_j of ½ m_i (a_j·x − b_j)².
        """
        self._require_examples()
        return self._example_variance

    def _require_examples(self) -> None:
        if self._numbers is None:
            raise AttributeError(
                "examples are more than the rows of A, or some of the rows beyond them are not 0: there is "
                "nothing to draw from"
            )

    @functools.cached_property
    def _numbers(self) -> ExampleNumbers | None:
        """None where rows are no examples."""
        rows = np.arange(self.A.shape[1])
        beyond = rows >= self.examples[:, None]
        if self.examples.dtype.kind not in "iu" or self.examples.max() > len(rows):
            return None
        return (
            None if self.A[beyond].any() or self.b[beyond].any() else ExampleNumbers(self.examples)
        )

    def _sampled_gradient(
        self, x: np.ndarray, index: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        assert self._numbers is not None
        n, _, d = self.A.shape
        x = real_array(x, "x")
        if x.ndim not in (2, 3) or x.shape[:2] != (n, d):
            raise ValueError(f"x must have shape (n, d) = ({n}, {d}) or (n, d, r), not {x.shape}")
        index = self._numbers.checked(index, x)
        found = np.empty(x.shape) if out is None else out
        share = (self.examples / index.shape[1])[:, None]
        workers = np.arange(n)[:, None]
        if index.ndim == 3:  # replicas have their own: they come first
            index, points = index.transpose(2, 0, 1), x.transpose(2, 0, 1)
            drawn = self.A[workers, index]
            slopes = share * (np.matvec(drawn, points) - self.b[workers, index])
            found[...] = np.vecmat(slopes, drawn).transpose(1, 2, 0)
            return found
        drawn, known = self.A[workers, index], self.b[workers, index]
        if x.ndim == 2:
            found[...] = np.vecmat(share * (np.matvec(drawn, x) - known), drawn)
        else:
            slopes = share[..., None] * (np.matmul(drawn, x) - known[..., None])
            found[...] = np.matmul(drawn.transpose(0, 2, 1), slopes)
        return found

    def _example_variance(self, x: ArrayLike) -> np.ndarray:
        n, _, d = self.A.shape
        residual = np.matvec(self.A, points_of_workers(x, n, d)) - self.b
        mean = np.vecmat(residual, self.A)
        norms = np.einsum("nmd,nmd->nm", self.A, self.A)
        second = self.examples * (residual**2 * norms).sum(axis=1)
        return np.maximum(second - (mean**2).sum(axis=1), 0)
