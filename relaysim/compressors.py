"""Lossy compression of the vectors that workers send.

A compressor is a frozen dataclass with

- ``bits(d)``: bits on the wire for one vector of d numbers;
- ``random``: uniform numbers that it draws for each number that it compresses, 0 or 1;
- ``unbiased``: whether E Q(x) = x for every x;
- ``compress(x, uniform)``: what arrives, for rows ``x (n, d[, r])``; ``uniform`` has the shape of x.

``contraction(d)`` is ω with E‖Q(x) − x‖² ≤ (1 − ω)‖x‖².

`Lattice` is of another kind: what arrives depends on what the receiver holds already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np

from relaysim.support.checks import one_of, plain_options, real_number, whole_number
from relaysim.support.low_rank import nearest_of_rank
from relaysim.support.names import attribute_error

__all__ = ["QSGD", "Identity", "Lattice", "LowRank", "RandomK", "RandomRounding", "Sign", "TopK"]

NUMBER = 64


@dataclass(frozen=True)
class Identity:
    """No compression: 64 d bits, ω = 1.

    >>> Identity().bits(10), Identity().contraction(10)
    (640, 1.0)
    """

    random: ClassVar[int] = 0
    unbiased: ClassVar[bool] = True

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return NUMBER * d

    def contraction(self, d: int) -> float:
        """ω = 1."""
        return 1.0

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """x itself."""
        return x


@dataclass(frozen=True)
class TopK:
    """The k entries of largest modulus of each vector, with their positions: k (64 + ⌈log₂ d⌉) bits.

    ω = k/d. Equal entries: the first.

    Args:
        k: from 1 to d.

    Raises:
        ValueError: a vector of fewer than k numbers.

    >>> TopK(1).compress(np.array([[1.0, -3.0, 2.0]])).tolist()
    [[0.0, -3.0, 0.0]]
    """

    k: int

    random: ClassVar[int] = 0
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.k, "k", 1)

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return _kept(self, d) * (NUMBER + _position_bits(d))

    def contraction(self, d: int) -> float:
        """ω = k/d."""
        return _kept(self, d) / d

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """x with all but k entries of each row set to 0."""
        return _keep_largest(np.abs(x), x, self.k)


@dataclass(frozen=True)
class RandomK:
    """k entries of each vector chosen at random: 64 k bits, since both ends know the seed.

    ω = k/d.

    Args:
        k: from 1 to d.

    Raises:
        ValueError: a vector of fewer than k numbers.

    >>> RandomK(1).compress(np.array([[1.0, 3.0]]), np.array([[0.9, 0.2]])).tolist()
    [[1.0, 0.0]]
    """

    k: int

    random: ClassVar[int] = 1
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.k, "k", 1)

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return _kept(self, d) * NUMBER

    def contraction(self, d: int) -> float:
        """ω = k/d."""
        return _kept(self, d) / d

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """x with all but the k entries of largest ``uniform`` of each row set to 0."""
        return _keep_largest(_drawn(self, uniform), x, self.k)


@dataclass(frozen=True)
class Sign:
    """The signs, times the mean modulus ‖x‖₁/d of the vector: d + 64 bits.

    ω = ‖x‖₁²/(d ‖x‖²), which is 1/d at the least. The sign of 0 is +.

    >>> Sign().compress(np.array([[1.0, -3.0]])).tolist()
    [[2.0, -2.0]]
    """

    random: ClassVar[int] = 0
    unbiased: ClassVar[bool] = False

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return d + NUMBER

    def contraction(self, d: int) -> float:
        """The least ω, 1/d."""
        return 1 / d

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """The signs of each row, scaled."""
        x = np.asarray(x, dtype=float)
        size = np.abs(x).mean(axis=1, keepdims=True)
        return np.copysign(size, x + 0.0)  # −0 + 0 is 0, whose sign is +


@dataclass(frozen=True)
class QSGD:
    """Random rounding to ``levels`` steps of the norm, made a contraction.

    Q(x) = sign(x) ‖x‖ ⌊s|x|/‖x‖ + ξ⌋ / (s τ) with ξ uniform in [0, 1), s the levels and
    τ = 1 + min(d/s², √d/s); 64 + d (1 + ⌈log₂(s + 1)⌉) bits. ω = 1/τ.

    Args:
        levels: s, at least 1; 2^b − 1 levels need b bits and the sign.

    Source: Alistarh et al., "QSGD", NeurIPS 2017; the scaling by τ is that of Koloskova, Stich, Jaggi,
    "Decentralized stochastic optimization and gossip algorithms with compressed communication", ICML
    2019.

    >>> QSGD(levels=15).bits(100)
    564
    """

    levels: int = 15

    random: ClassVar[int] = 1
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.levels, "levels", 1)

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return NUMBER + d * (1 + math.ceil(math.log2(self.levels + 1)))

    def contraction(self, d: int) -> float:
        """ω = 1/τ."""
        return 1 / (1 + min(d / self.levels**2, math.sqrt(d) / self.levels))

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Each row, rounded."""
        uniform, x = _drawn(self, uniform), np.asarray(x, dtype=float)
        size = np.square(x)
        norm = np.sqrt(np.add.reduce(size, axis=1, keepdims=True))
        np.abs(x, out=size)
        size /= np.where(norm > 0, norm, 1)
        size *= self.levels
        size += uniform
        np.floor(size, out=size)
        size *= norm
        size *= self.contraction(x.shape[1]) / self.levels
        return np.copysign(size, x, out=size)


@dataclass(frozen=True)
class RandomRounding:
    """Random rounding to ``levels`` steps of the largest modulus: unbiased.

    Q(x) = sign(x) ‖x‖_∞ ⌊s|x|/‖x‖_∞ + ξ⌋ / s with ξ uniform in [0, 1), s the levels, so that each number is
    one of 2s + 1 values: 64 + d ⌈log₂(2s + 1)⌉ bits. E‖Q(x) − x‖² is at most (d − 1)‖x‖²/(4s²), so that it
    need not be a contraction.

    Args:
        levels: s, at least 1. What is published as b bits is s = 2^(b − 1); its 2^b + 1 values take b + 1
            whole bits, which are counted here.

    Source: the ∞-norm quantiser of Liu, Li, Wang, Tang, Yan, "Linear convergent decentralized optimization
    with compression", ICLR 2021, as read in public code of others; with s = 1 that of TernGrad.

    >>> RandomRounding(2).compress(np.array([[4.0, -1.5]]), np.array([[0.9, 0.1]])).tolist()
    [[4.0, -0.0]]
    >>> RandomRounding(1).bits(100), RandomRounding(2).bits(100)
    (264, 364)
    """

    levels: int = 2

    random: ClassVar[int] = 1
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.levels, "levels", 1)

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        return NUMBER + d * math.ceil(math.log2(2 * self.levels + 1))

    def contraction(self, d: int) -> float:
        """ω = 1 − (d − 1)/(4s²), no contraction where it is 0 or less."""
        return 1 - (d - 1) / (4 * self.levels**2)

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Each row, rounded."""
        uniform, x = _drawn(self, uniform), np.asarray(x, dtype=float)
        size = np.abs(x)
        largest = size.max(axis=1, keepdims=True)
        size *= self.levels
        size /= np.where(largest > 0, largest, 1)
        size += uniform
        np.floor(size, out=size)
        size *= largest / self.levels
        return np.copysign(size, x, out=size)


@dataclass(frozen=True)
class LowRank:
    """The best approximation of lower rank of the vector as a matrix: r (a + b) numbers of 64 bits.

    ω = r/min(a, b).

    Args:
        rank: r, at least 1.
        rows: a; the vector of d numbers is a matrix a × d/a, row by row.

    Raises:
        ValueError: a vector whose length is not a multiple of the rows.

    >>> LowRank(rank=1, rows=2).compress(np.array([[1.0, 0.0, 0.0, 2.0]])).round(12).tolist()
    [[0.0, 0.0, 0.0, 2.0]]
    """

    rank: int
    rows: int

    random: ClassVar[int] = 0
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        whole_number(self.rank, "rank", 1)
        whole_number(self.rows, "rows", 1)

    def bits(self, d: int) -> int:
        """Bits of one vector."""
        columns = self._columns(d)
        return NUMBER * min(self.rank * (self.rows + columns), d)

    def contraction(self, d: int) -> float:
        """ω = r/min(a, b)."""
        return min(self.rank / min(self.rows, self._columns(d)), 1.0)

    def compress(self, x: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Each row, as a matrix of the given rank."""
        x = np.asarray(x, dtype=float)
        columns = self._columns(x.shape[1])
        vectors = np.moveaxis(x, 1, -1)
        matrices = vectors.reshape(*vectors.shape[:-1], self.rows, columns)
        # Of what has diverged there are no singular values: LAPACK raises, or does not return.
        finite = np.isfinite(matrices).all(axis=(-2, -1), keepdims=True)
        nearest = nearest_of_rank(np.where(finite, matrices, 0), self.rank)
        found = np.where(finite, nearest, np.nan)
        return np.moveaxis(found.reshape(vectors.shape), -1, 1)

    def _columns(self, d: int) -> int:
        if d % self.rows:
            raise ValueError(
                f"a vector of {d} numbers is no matrix of {self.rows} rows; take a divisor of {d}"
            )
        return d // self.rows


def _kept(compressor: TopK | RandomK, d: int) -> int:
    """k, of vectors that have so many numbers."""
    if compressor.k > d:
        name = type(compressor).__name__
        raise ValueError(
            f"{name}({compressor.k}) keeps {compressor.k} numbers of a vector, and vectors have {d} here; "
            f"take k from 1 to {d}, or relaysim.compressors.Identity() to send all of them"
        )
    return compressor.k


def _position_bits(d: int) -> int:
    return math.ceil(math.log2(d)) if d > 1 else 0


def _drawn(compressor: RandomK | QSGD | RandomRounding, uniform: np.ndarray | None) -> np.ndarray:
    """The numbers that it draws, which are to be given."""
    if uniform is None:
        name = type(compressor).__name__
        raise TypeError(f"{name} needs uniform numbers, one for each entry of x")
    return uniform


def _keep_largest(keys: np.ndarray, x: np.ndarray, k: int) -> np.ndarray:
    """x where its keys are among the k largest of their row, else 0."""
    x = np.asarray(x, dtype=float)
    if k >= x.shape[1]:
        return x
    if k == 1:
        least = keys.max(axis=1, keepdims=True)
    else:
        least = np.partition(keys, -k, axis=1)[:, -k : x.shape[1] - k + 1]
    kept = keys >= least
    if np.count_nonzero(kept) != k * (x.size // x.shape[1]) or np.isnan(np.max(keys)):
        # Of numbers that are equal the first are kept.
        chosen = np.argsort(-keys, axis=1, kind="stable")[:, :k]
        result = np.zeros_like(x)
        np.put_along_axis(result, chosen, np.take_along_axis(x, chosen, axis=1), axis=1)
        return result
    return (x.view(np.int64) & -kept.astype(np.int64)).view(float)


@dataclass(frozen=True)
class Lattice:
    """Rounding to a grid, of which only the place within a period is sent: d log₂ q bits.

    Sent: c = round(x/s) mod q.  Received: the point of the grid congruent to c that is nearest to the
    receiver's own vector b,  s c + s q round(b/(sq) − c/q).  That is s round(x/s) if ‖x − b‖_∞ is below
    `range`; further apart it would be another one, by a multiple of sq.

    Args:
        spacing: s, the distance of two points of the grid, positive.
        levels: q, points in a period, at least 2 (3 for stochastic rounding): 256 are 8 bits a number.
        rounding: ``"stochastic"``, ⌊x/s + u⌋ with u uniform in [0, 1): within s of x, and x on average; or
            ``"nearest"``, within s/2 of x: what moves by less stays where it is.

    Source: Davies, Gurunathan, Moshrefi, Ashkboos, Alistarh, "New bounds for distributed mean estimation
    and variance reduction", ICLR 2021, as used in SwarmSGD (NeurIPS 2021).

    >>> lattice = Lattice(spacing=0.5, levels=4, rounding="nearest")
    >>> lattice.decode(np.array([[10.2]]), reference=np.array([[10.6]])).tolist()
    [[10.0]]
    """

    spacing: float
    levels: int = 256
    rounding: str = "stochastic"

    def __post_init__(self) -> None:
        plain_options(self)
        if not real_number(self.spacing, "spacing") > 0:
            raise ValueError(f"spacing must be positive, not {self.spacing!r}")
        one_of(self.rounding, "rounding", ("stochastic", "nearest"))
        whole_number(self.levels, "levels", 2 + self.random)

    @property
    def random(self) -> int:
        """Uniform numbers that it draws for each number, 0 or 1."""
        return int(self.rounding == "stochastic")

    @property
    def unbiased(self) -> bool:
        """Whether what arrives in range is x on average: if it is rounded at random."""
        return bool(self.random)

    @property
    def range(self) -> float:
        """What numbers at both ends must differ by less: s(q − 1)/2, or s(q − 2)/2 if stochastic."""
        return self.spacing * (self.levels - 1 - self.random) / 2

    def bits(self, d: int) -> float:
        """Bits of one vector."""
        return d * math.log2(self.levels)

    def decode(
        self, x: np.ndarray, reference: np.ndarray, uniform: np.ndarray | None = None
    ) -> np.ndarray:
        """What a receiver that holds ``reference`` makes of x, both ``(rows, d)``.

        Stochastic rounding needs ``uniform`` numbers in [0, 1), one for each of x. Out of range it is a
        wrong point: see `exceeded`.
        """
        s, q = self.spacing, self.levels
        if not self.random:
            point = np.rint(x / s)
        elif uniform is not None:
            point = np.floor(x / s + uniform)
        else:
            raise TypeError("stochastic rounding needs uniform numbers, one for each entry of x")
        code = np.mod(point, q)
        return s * code + s * q * np.rint(reference / (s * q) - code / q)

    def exceeded(self, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Rows with a number out of `range`, as booleans ``(rows,)``.

        >>> lattice = Lattice(spacing=1.0, levels=4, rounding="nearest")
        >>> lattice.exceeded(np.array([[1.4], [1.5]]), np.zeros((2, 1))).tolist()
        [False, True]
        """
        return (np.abs(x - reference) >= self.range).any(axis=1)


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
