"""Gossip that sends differences of matrices at low rank."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import ndtri

from relaysim.algorithms.base import Method, Round, no_buffer
from relaysim.support.checks import true_or_false, whole_number

__all__ = ["PowerGossip"]

# In place of a uniform number that is 0, whose normal number would not be finite.
LEAST_UNIFORM = 2.0**-54


class PowerState(NamedTuple):
    """``x (n, d[, r])``, and P and Q of every edge, row by row: ``left`` and ``right``.

    With E undirected edges these are ``(E, a k[, r])`` and ``(E, b k[, r])`` for matrices (a, b) and
    rank k; they have no rows where every half step draws anew.
    """

    x: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class PowerGossip(Method):
    """PowerGossip: neighbours average the part of their difference that a power iteration finds.

    X ← X − γG, then half steps, right and left by turns over the whole run. With Δ = X_j − X_i as a
    matrix, every edge i < j at once: right: V = orth(Q), P = ΔV, correction PVᵀ; left: U = orth(P),
    Q = ΔᵀU, correction UQᵀ.  X_i ← X_i + W_ij · correction,  X_j ← X_j − W_ij · correction.

    Args:
        rank: columns of P and Q, at least 1; min(a, b) where that is less.
        iterations: half steps in a step, at least 1.
        warm_start: go on with the P and Q of the half step before; else draw them for each half step.
            Both ends of an edge know them: Gaussian at first, and P or Q is kept as it was where
            Δ = 0.
        rows: a; parameters are matrices a × b, d = ab, row by row. By default the largest divisor of d
            up to √d.

    Any connected topology, with symmetric matrices W. A right half step sends a · rank numbers, a left
    one b · rank, over each directed edge. Gossip keeps the mean of all models, whatever the rank. It is
    that of `DPSGD` where rank = b (right) or rank = a (left); corrections in random directions hold the
    part rank/b or rank/a of ‖Δ‖², on average. Not exact.

    With warm starts, gradients and a rank of 2 or more the bases depend so much on the past that rounding
    errors grow from step to step: runs that differ in the order of a sum agree for some steps only.

    Raises:
        ValueError: rows that do not divide d, matrices W that are not symmetric, or faults (the two ends
            of an edge could no longer know the same P and Q).

    Source: Vogels, Karimireddy, Jaggi, "Practical low-rank communication compression in decentralized
    deep learning", NeurIPS 2020. (The published code mixes before it steps, by default, and sends
    parameters that are no matrices as they are.)

    >>> PowerGossip(rank=2).vectors_per_edge(400)  # matrices 20 × 20
    0.1
    """

    rank: int = 1
    iterations: int = 1
    warm_start: bool = True
    rows: int | None = None

    label: ClassVar[str] = "PowerGossip"
    uses: ClassVar[str] = "mixing"
    mixing_needs: ClassVar[str] = "symmetric"
    affine: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def __post_init__(self):
        whole_number(self.rank, "rank", 1)
        whole_number(self.iterations, "iterations", 1)
        true_or_false(self.warm_start, "warm_start")
        if self.rows is not None:
            whole_number(self.rows, "rows", 1)

    @property
    def hops_per_step(self) -> int:
        return self.iterations

    @property
    def cycle(self) -> int:
        """Steps after which it is right or left as before."""
        return 1 + self.iterations % 2

    def matrix_shape(self, d: int) -> tuple[int, int]:
        """(a, b) for vectors of d numbers.

        >>> PowerGossip().matrix_shape(12), PowerGossip(rows=4).matrix_shape(12)
        ((3, 4), (4, 3))
        """
        rows = _nearly_square(d) if self.rows is None else self.rows
        if d % rows:
            raise ValueError(
                f"a vector of d={d} numbers is no matrix of rows={rows}; take a divisor of {d}"
            )
        return rows, d // rows

    def vectors_per_edge(self, d: int) -> float:
        """Share of a vector of d numbers that crosses each directed edge in a step, on average."""
        a, b = self.matrix_shape(d)
        return self.iterations * min(self.rank, a, b) * (a + b) / (2 * d)

    def init(self, x0, network):
        shape, edges = self.matrix_shape(x0.shape[1]), len(network.pairs)
        if not self.warm_start:
            return PowerState(x0, no_buffer(x0), no_buffer(x0))
        rank = min(self.rank, *shape)
        # Drawn in the first step.
        return PowerState(x0, *(np.zeros((edges, size * rank, *x0.shape[2:])) for size in shape))

    def step(self, state: PowerState, round: Round) -> PowerState:
        x = round.descend(state.x, round.gradient(state.x))
        d, replicas = x.shape[1], x.shape[2:]
        shape = self.matrix_shape(d)
        rank = min(self.rank, *shape)

        def drawn(side: int) -> np.ndarray:
            uniform = round.uniforms((len(round.pairs), shape[side] * rank, *replicas))
            return ndtri(np.maximum(uniform, LEAST_UNIFORM))

        bases = [state.left, state.right]
        if self.warm_start and round.step == 0:
            bases = [drawn(0), drawn(1)]
        for k in range(self.iterations * round.step, self.iterations * (round.step + 1)):
            renewed = k % 2  # P by a right half step, Q by a left one, which is a right one of Δᵀ
            given = bases[1 - renewed] if self.warm_start else drawn(1 - renewed)
            difference = _matrices(round.pair_differences(x), shape[0])
            seen = difference.swapaxes(-1, -2) if renewed else difference
            basis = _orthonormal(_matrices(given, shape[1 - renewed]))
            product = seen @ basis
            correction = product @ basis.swapaxes(-1, -2)
            if renewed:
                correction = correction.swapaxes(-1, -2)
            x = x + round.exchange(_vectors(correction), share=shape[renewed] * rank / d)
            if self.warm_start:
                found = _vectors(product)
                bases[renewed] = np.where(found.any(axis=1, keepdims=True), found, bases[renewed])
        return PowerState(x, *bases)


@functools.cache
def _nearly_square(d: int) -> int:
    """The largest divisor of d up to √d."""
    return next(k for k in range(math.isqrt(d), 0, -1) if d % k == 0)


def _matrices(vectors: np.ndarray, rows: int) -> np.ndarray:
    """``(E, a k[, r])`` as ``(E[, r], a, k)``."""
    last = np.ascontiguousarray(np.moveaxis(vectors, 1, -1))
    return last.reshape(*last.shape[:-1], rows, last.shape[-1] // rows)


def _vectors(matrices: np.ndarray) -> np.ndarray:
    """``(E[, r], a, k)`` as ``(E, a k[, r])``."""
    *leading, rows, columns = matrices.shape
    return np.moveaxis(matrices.reshape(*leading, rows * columns), -1, 1)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those given, which are not all 0."""
    if columns.shape[-1] > 1:
        return np.linalg.qr(columns)[0]
    columns = columns / np.abs(columns).max(axis=-2, keepdims=True)  # whose square cannot underflow
    return columns / np.linalg.norm(columns, axis=-2, keepdims=True)
