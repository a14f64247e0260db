"""What Byzantine workers tell their neighbours in the place of their own vectors.

They are part of `relaysim.faults.Byzantine`. An attack is a frozen dataclass with ``lies(told)``: it knows
all that is sent in a round, and says what each worker hears instead from those who lie. One of your own is
one class:

>>> from dataclasses import dataclass
>>> import numpy as np
>>> @dataclass(frozen=True)
... class Zero(Attack):
...     '''Liars send 0.'''
...     def lies(self, told):
...         return np.zeros_like(told.sent)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from scipy.special import ndtri

from relaysim.support.checks import plain_options, real_number
from relaysim.support.names import attribute_error

__all__ = ["ALittleIsEnough", "Attack", "Dissensus", "LargeNorm", "Noise", "SignFlip"]

# Uniform numbers that are 0 would be −∞ of a Gaussian distribution.
_LEAST_UNIFORM = 2.0**-54


@dataclass(frozen=True, eq=False)
class Told:
    """What is sent in a round, before anyone lies: everyone's first message, second, and so on.

    Attributes:
        own: what each worker has itself, ``(n, d[, r])``.
        sent: what it would hear in its k-th message, ``(k, n, d[, r])``.
        weights: what these count with, ``(k, n, 1[, r])``, 0 where there is no message.
        lying: which of them are from a liar, of the same shape.
        liars: how many workers lie.
        by_sender: numbers of each sender, ``(n, d[, r])``, as those of its messages, ``(k, n, d[, r])``.
        uniforms: ``uniforms(shape)``, independent numbers in [0, 1), from each replica's own stream.
    """

    own: np.ndarray
    sent: np.ndarray
    weights: np.ndarray
    lying: np.ndarray
    liars: int
    by_sender: Callable[[np.ndarray], np.ndarray]
    uniforms: Callable[[tuple[int, ...]], np.ndarray]


class Attack:
    """What the attacks here share, and what one of your own may be derived from."""

    def lies(self, told: Told) -> np.ndarray:
        """What each worker hears from liars, to be broadcast to ``(k, n, d[, r])``.

        Only what is from a liar is taken of it.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what liars tell")


@dataclass(frozen=True)
class SignFlip(Attack):
    """The own vector times −scale.

    >>> SignFlip()
    SignFlip(scale=1.0)
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.scale, "scale", 0)

    def lies(self, told: Told) -> np.ndarray:
        return -self.scale * told.sent


@dataclass(frozen=True)
class Noise(Attack):
    """The own vector with Gaussian noise of standard deviation sigma in each number, the same to all.

    >>> Noise(sigma=10.0)
    Noise(sigma=10.0)
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.sigma, "sigma", 0)

    def lies(self, told: Told) -> np.ndarray:
        normal = ndtri(np.maximum(told.uniforms(told.own.shape), _LEAST_UNIFORM))
        return told.sent + self.sigma * told.by_sender(normal)


@dataclass(frozen=True)
class LargeNorm(Attack):
    """A vector of a length of its own, in the direction of what would be sent; of all ones where that is 0.

    >>> LargeNorm()
    LargeNorm(norm=1000.0)
    """

    norm: float = 1000.0

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.norm, "norm", 0)

    def lies(self, told: Told) -> np.ndarray:
        length = np.sqrt((told.sent**2).sum(axis=2, keepdims=True))
        d = told.sent.shape[2]
        direction = np.where(length > 0, told.sent, 1 / math.sqrt(d))
        return direction * (self.norm / np.where(length > 0, length, 1))


@dataclass(frozen=True)
class Dissensus(Attack):
    """Each worker is told what drives it from its honest neighbours.

    x_i − ε Σ_j w_ij (x_j − x_i) / Σ_b w_ib: the first sum is over honest neighbours j, the second over all
    that lie to i. With ε = 1 plain gossip stands still, and above it neighbours go apart.

    Source: He, Karimireddy, Jaggi, "Byzantine-robust decentralized learning via ClippedGossip", 2022, and its
    published code.

    >>> Dissensus()
    Dissensus(epsilon=1.0)
    """

    epsilon: float = 1.0

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.epsilon, "epsilon", 0)

    def lies(self, told: Told) -> np.ndarray:
        honest = told.weights * ~told.lying
        pull = (honest * (told.sent - told.own)).sum(axis=0)
        of_liars = (told.weights * told.lying).sum(axis=0)
        return told.own - self.epsilon * pull / np.where(of_liars > 0, of_liars, 1)


@dataclass(frozen=True)
class ALittleIsEnough(Attack):
    """What hides among honest vectors: each worker is told μ − zs, number by number.

    μ and s are mean and standard deviation over the worker and its honest neighbours, s² with one less than
    their number.

    Args:
        z: how many standard deviations, by default Φ⁻¹((n − m − s)/(n − m)), s = ⌊n/2 + 1⌋ − m, for n workers
            of whom m lie: as many as keep a majority beyond what is told.

    Source: Baruch, Baruch, Goldberg, "A little is enough: circumventing defenses for distributed learning",
    NeurIPS 2019, as in the code published with He, Karimireddy, Jaggi, 2022.

    >>> ALittleIsEnough(z=1.5)
    ALittleIsEnough(z=1.5)
    """

    z: float | None = None

    def __post_init__(self) -> None:
        plain_options(self)
        if self.z is not None:
            real_number(self.z, "z")

    def lies(self, told: Told) -> np.ndarray:
        n, m = len(told.own), told.liars
        z = self.z
        if z is None:
            z = float(ndtri((n - m - (n // 2 + 1 - m)) / (n - m)))
        honest = (told.weights != 0) & ~told.lying
        count = 1 + honest.sum(axis=0)
        mean = (told.own + (honest * told.sent).sum(axis=0)) / count
        squares = (told.own - mean) ** 2 + (honest * (told.sent - mean) ** 2).sum(axis=0)
        return mean - z * np.sqrt(squares / np.maximum(count - 1, 1))


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
