"""Accelerated optimisation in which workers take gradients, and pairs meet, at times of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from relaysim.algorithms.base import Rate
from relaysim.algorithms.events import EventMethod, Meeting, PoissonClocks, check_graph
from relaysim.mixing.clocks import constants_of_rates
from relaysim.support.checks import plain_options, real_number
from relaysim.topologies import Topology

__all__ = ["DADAO"]


class DadaoState(NamedTuple):
    """x, y and z, and what each is drawn towards; one row for each worker, ``(rows, d)``.

    y and z, dual to the gradients and to the graph, are in units of L = 1/(4γ).
    """

    x: np.ndarray
    x_tilde: np.ndarray
    y: np.ndarray
    y_tilde: np.ndarray
    z: np.ndarray
    z_tilde: np.ndarray


@dataclass(frozen=True)
class DADAO(EventMethod):
    """DADAO: exact and accelerated, at random times, with as few meetings as the graph allows.

    Worker i takes gradients at the points of a Poisson process of rate 1; neighbours meet at those of
    another, all pairs as often, √(2χ₁χ₂) of them in a unit of time. With L = 1/(4γ), y and z in units of L,
    κ = L/μ, q = √(1/(2κ)) and χ = χ₁/√(2χ₁χ₂):

        between events       dx = (q/8)(x̃ − x)dt,  dx̃ = (q/8)(x − x̃)dt,
                             dy = (q/4)(ỹ − y)dt,  dỹ = −(q²x̃ + y + z)dt/(2q),
                             dz = (q/4)(z̃ − z)dt,  dz̃ = (q/8)(z − z̃)dt, integrated exactly
        gradient of i        v = 4γg_i − q²x_i − ỹ_i;  x_i ← x_i − v/4,  x̃_i ← x̃_i − v/(4q),
                             ỹ_i ← ỹ_i + (1 + q/4)v
        i and j meet         D = y_i + z_i − y_j − z_j;  z_i ← z_i − D/2,  z̃_i ← z̃_i − (2χ/q)D,
                                                         z_j ← z_j + D/2,  z̃_j ← z̃_j + (2χ/q)D

    Where all pairs meet once in |E| units of time each, χ₁ is the inverse of the smallest positive eigenvalue
    of their Laplacian and χ₂ half the largest resistance of an edge. A step is a unit of time, in which each
    worker takes one gradient in expectation.

    Args:
        condition: κ = L/μ ≥ 1: ``problem.smoothness / problem.strong_convexity``, or more. The learning rate,
            which is γ = 1/(4L), says the rest.

    Any connected topology of two workers or more. A meeting sends two vectors, the y + z of both ends. Exact
    for any ζ where μ and L are as said, at a constant rate: the error falls as exp(−c t √(μ/L)), on every
    graph alike. At learning rate 0 gradients are left out.

    Source: Nabli, Oyallon, "DADAO: decoupled accelerated decentralized asynchronous optimization", ICML 2023;
    the rule and its constants as in the code published with it (where x̃ starts at 0, here at x), written here
    for any rate and condition.

    >>> DADAO(condition=100.0).exact
    True
    """

    condition: float

    label: ClassVar[str] = "DADAO"
    references: ClassVar[tuple[str, ...]] = ("nabli2023dadao",)
    exact: ClassVar[bool] = True
    worker_rates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        plain_options(self)
        real_number(self.condition, "condition", 1)

    def rule(self, topology: Topology) -> _Dadao:
        check_graph(topology, "DADAO")
        return _Dadao(topology, float(self.condition))


class _Dadao(PoissonClocks):
    """The rule on one graph; see `relaysim.algorithms.events.Rule`."""

    def __init__(self, topology: Topology, condition: float):
        edges = len(topology.edges)
        chi1, chi2 = constants_of_rates(topology, np.full(edges, 1 / edges))
        total = math.sqrt(2 * chi1 * chi2)
        super().__init__(topology, np.full(edges, total / edges))
        self.q = math.sqrt(1 / (2 * condition))
        self.beta_tilde = 2 * chi1 / total / self.q

    def vectors_per_meeting(self, d: int) -> int:
        return 2

    def init(self, x0: np.ndarray) -> DadaoState:
        return DadaoState(x0, x0.copy(), *(np.zeros_like(x0) for _ in range(4)))

    def flow(self, rows: DadaoState, elapsed: np.ndarray) -> DadaoState:
        """In closed form: x and z relax by themselves, and drive y, which swings around them.

        The matrix of the flow has the eigenvalue 0 twice, with two eigenvectors, −q/4, −3q/8, and a pair
        −q/8 ± iω with ω² = 1/8 − q²/64.
        """
        q, (x, x_tilde, y, y_tilde, z, z_tilde) = self.q, rows
        # x and z: what stays, and what decays.
        centre, apart = (x + x_tilde) / 2, (x - x_tilde) / 2
        level = (z + 2 * z_tilde) / 3
        above = z - level
        decayed_x = apart * np.exp(-q / 4 * elapsed)
        decayed_z = above * np.exp(-3 * q / 8 * elapsed)
        # y and ỹ where they follow −(q²x̃ + z), and how far they are from there at the start.
        rest = q * q * centre + level
        gain = -1 / (1 + 3 * q * q / 8)
        off = y + rest - q * q * apart - gain * above
        off_tilde = y_tilde + rest + gain / 2 * above
        frequency = math.sqrt(1 / 8 - q * q / 64)
        shrunk = np.exp(-q / 8 * elapsed)
        cosine = shrunk * np.cos(frequency * elapsed)
        sine = shrunk * np.sin(frequency * elapsed) / frequency
        return DadaoState(
            centre + decayed_x,
            centre - decayed_x,
            q * q * decayed_x
            + gain * decayed_z
            - rest
            + cosine * off
            + sine * (q / 4 * off_tilde - q / 8 * off),
            -gain / 2 * decayed_z
            - rest
            + cosine * off_tilde
            + sine * (q / 8 * off_tilde - off / (2 * q)),
            level + decayed_z,
            level - decayed_z / 2,
        )

    def point(self, rows: DadaoState) -> np.ndarray:
        return rows.x

    def descend(self, rows: DadaoState, gradient: np.ndarray, learning_rate: Rate) -> DadaoState:
        q = self.q
        v = 4 * learning_rate * gradient - q * q * rows.x - rows.y_tilde
        v *= np.not_equal(learning_rate, 0)
        return rows._replace(
            x=rows.x - v / 4,
            x_tilde=rows.x_tilde - v / (4 * q),
            y_tilde=rows.y_tilde + (1 + q / 4) * v,
        )

    def meet(
        self, first: DadaoState, second: DadaoState, meeting: Meeting
    ) -> tuple[DadaoState, DadaoState]:
        difference = first.y + first.z - second.y - second.z
        half, tilde = difference / 2, self.beta_tilde * difference
        return (
            first._replace(z=first.z - half, z_tilde=first.z_tilde - tilde),
            second._replace(z=second.z + half, z_tilde=second.z_tilde + tilde),
        )
