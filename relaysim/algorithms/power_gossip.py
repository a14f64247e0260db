"""Gossip that sends differences of matrices at low rank."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import ndtri

from relaysim.algorithms.base import Method, Round, no_buffer
from relaysim.network import Network
from relaysim.support.checks import plain_options, true_or_false, whole_number

__all__ = ["PowerGossip"]

# In place of a uniform number that is 0, whose normal number would not be finite.
LEAST_UNIFORM = 2.0**-54
# What is left of a column beside those before it, as a part of the longest, if it is more than rounding.
INDEPENDENT = 1e-10


class PowerState(NamedTuple):
    """``x (n, d[, r])``, and of every edge P and Q, row by row, ``left`` and ``right``, and its half steps.

    With E undirected edges P and Q are ``(E, a k[, r])`` and ``(E, b k[, r])`` for matrices (a, b) and
    rank k; they have no rows where every half step draws anew. ``half_steps (E,)`` counts those that an
    edge has made.
    """

    x: np.ndarray
    left: np.ndarray
    right: np.ndarray
    half_steps: np.ndarray


@dataclass(frozen=True)
class PowerGossip(Method):
    """PowerGossip: neighbours average the part of their difference that a power iteration finds.

    X ← X − γG, then half steps, right and left by turns for each edge: where W_t has no weight an edge makes
    none, and goes on with the other side when it has some again. With Δ = X_j − X_i as a matrix, all edges
    i < j at once: right: V = orth(Q), P = ΔV, correction PVᵀ; left: U = orth(P), Q = ΔᵀU, correction UQᵀ.
    X_i ← X_i + W_ij · correction,  X_j ← X_j − W_ij · correction.

    Args:
        rank: columns of P and Q, at least 1; min(a, b) where that is less.
        iterations: half steps in a step, at least 1.
        warm_start: go on with the P and Q of the half step before; else draw them for each half step.
            Both ends of an edge know them: Gaussian at first, and a column of P or Q is kept as it was
            where nothing of Δ was seen.
        rows: a; parameters are matrices a × b, d = ab, row by row. By default the largest divisor of d
            up to √d.

    Any connected topology, with symmetric matrices W. A right half step sends a · rank numbers, a left
    one b · rank, over each directed edge. Gossip keeps the mean of all models, whatever the rank. It is
    that of `DPSGD` where rank = b (right) or rank = a (left); corrections in random directions hold the
    part rank/b or rank/a of ‖Δ‖², on average. Not exact. orth leaves out columns that depend on those before
    them to 1e-10 of the longest: what rounding left of them would be a direction of its own.

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
    references: ClassVar[tuple[str, ...]] = ("vogels2020practical",)
    uses: ClassVar[str] = "mixing"
    mixing_needs: ClassVar[str] = "symmetric"
    several_rounds: ClassVar[bool] = False
    affine: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
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
        """Steps after which edges with weight in every step are at the same side again."""
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

    def init(self, x0: np.ndarray, network: Network) -> PowerState:
        shape, edges = self.matrix_shape(x0.shape[1]), len(network.pairs)
        half_steps = np.zeros(edges, dtype=np.int64)
        if not self.warm_start:
            return PowerState(x0, no_buffer(x0), no_buffer(x0), half_steps)
        rank = min(self.rank, *shape)
        # Drawn in the first step.
        left, right = (np.zeros((edges, size * rank, *x0.shape[2:])) for size in shape)
        return PowerState(x0, left, right, half_steps)

    def step(self, state: PowerState, round: Round) -> PowerState:
        x = round.descend(state.x, round.gradient(state.x))
        d, replicas = x.shape[1], x.shape[2:]
        shape = self.matrix_shape(d)
        rank = min(self.rank, *shape)

        def drawn(side: int) -> np.ndarray:
            uniform = round.uniforms((len(round.pairs), shape[side] * rank, *replicas))
            return ndtri(np.maximum(uniform, LEAST_UNIFORM))

        bases = [state.left, state.right]
        if self.warm_start:
            bases = [drawn(0), drawn(1)] if round.step == 0 else [base.copy() for base in bases]
        has_weight, half_steps = round.pairs_with_weight, state.half_steps
        for _ in range(self.iterations):
            difference = round.pair_differences(x)
            correction, shares = np.zeros_like(difference), np.zeros(len(difference))
            # P by right half steps, Q by left ones, which are right ones of Δᵀ.
            for renewed in (0, 1):
                edges = _rows(has_weight & (half_steps % 2 == renewed))
                if edges is None:
                    continue
                given = bases[1 - renewed] if self.warm_start else drawn(1 - renewed)
                seen = _matrices(difference[edges], shape[0])
                if renewed:
                    seen = seen.swapaxes(-1, -2)
                basis = _orthonormal(_matrices(given[edges], shape[1 - renewed]))
                product = seen @ basis
                corrected = product @ basis.swapaxes(-1, -2)
                correction[edges] = _vectors(corrected.swapaxes(-1, -2) if renewed else corrected)
                shares[edges] = shape[renewed] * rank / d
                if self.warm_start:
                    known = _matrices(bases[renewed][edges], shape[renewed])
                    kept = np.where(product.any(axis=-2, keepdims=True), product, known)
                    bases[renewed][edges] = _vectors(kept)
            x = x + round.exchange(correction, shares)
            half_steps = half_steps + has_weight
        return PowerState(x, bases[0], bases[1], half_steps)


def _rows(chosen: np.ndarray) -> slice | np.ndarray | None:
    """What takes these rows of an array, without a copy where it takes all; None for no rows."""
    if chosen.all():
        return slice(None)
    return np.flatnonzero(chosen) if chosen.any() else None


@functools.cache
def _nearly_square(d: int) -> int:
    """The largest divisor of d up to √d."""
    return next(k for k in range(math.isqrt(d), 0, -1) if d % k == 0)


def _matrices(vectors: np.ndarray, rows: int) -> np.ndarray:
    """``(E, a k[, r])`` as ``(E[, r], a, k)``."""
    last = np.ascontiguousarray(vectors.swapaxes(1, -1))
    return last.reshape(*last.shape[:-1], rows, last.shape[-1] // rows)


def _vectors(matrices: np.ndarray) -> np.ndarray:
    """``(E[, r], a, k)`` as ``(E, a k[, r])``."""
    *leading, rows, columns = matrices.shape
    return matrices.reshape(*leading, rows * columns).swapaxes(1, -1)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those given, which are not all 0; 0 in the place of dependent ones."""
    last = columns.ndim - 1
    # Matrices are small and there are many: an operation is on one number, or column, of each, (k, a, …).
    given = np.ascontiguousarray(columns.transpose(last, last - 1, *range(last - 1)))
    # Scaled so that squares cannot underflow.
    given = given / np.abs(given).max(axis=(0, 1))
    sizes = _sizes(given)
    if len(given) == 1:
        basis = given / sizes
    else:
        least = INDEPENDENT * sizes.max(axis=0)
        basis = np.zeros_like(given)
        for k, column in enumerate(given):
            before = basis[:k]
            for _ in range(2 if k else 0):  # Gram–Schmidt, twice against rounding
                along = (before * column).sum(axis=1, keepdims=True)
                column = column - (before * along).sum(axis=0)
            size = _sizes(column[None])[0]
            np.divide(column, size, out=basis[k], where=size > least)
    return np.ascontiguousarray(basis.transpose(*range(2, last + 1), 1, 0))


def _sizes(columns: np.ndarray) -> np.ndarray:
    """‖·‖ of each column, ``(k, 1, …)``."""
    return np.sqrt(np.square(columns).sum(axis=1, keepdims=True))
