"""The Poisson clocks of pairwise averaging on a graph, and how fast they make workers agree."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh, inv

from relaysim.support.checks import real_number
from relaysim.topologies import Topology

__all__ = ["acceleration_constants", "constants_of_rates", "edge_rates", "meeting_laplacian"]


def edge_rates(topology: Topology, rate: float = 1.0) -> np.ndarray:
    """λ_ij = (rate/2)(1/deg_i + 1/deg_j) of every edge of ``topology.edges``, ``(E,)``, in 1/unit of time.

    On average over the workers each has ``rate`` meetings in a unit of time.

    >>> from relaysim.topologies import star
    >>> edge_rates(star(5)).tolist()
    [0.625, 0.625, 0.625, 0.625]
    """
    i, j = topology.edges.T
    return rate * (1 / topology.degrees[i] + 1 / topology.degrees[j]) / 2


def meeting_laplacian(topology: Topology, rate: float = 1.0) -> np.ndarray:
    """Λ = Σ_{i–j} λ_ij (e_i − e_j)(e_i − e_j)ᵀ, ``(n, n)``.

    >>> from relaysim.topologies import chain
    >>> meeting_laplacian(chain(2)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return _laplacian(topology, edge_rates(topology, rate))


def _laplacian(topology: Topology, rates: np.ndarray) -> np.ndarray:
    i, j = topology.edges.T
    laplacian = np.zeros((topology.n, topology.n))
    laplacian[i, j] = laplacian[j, i] = -rates
    laplacian[np.diag_indices(topology.n)] = -laplacian.sum(axis=1)
    return laplacian


def acceleration_constants(topology: Topology, rate: float = 1.0) -> tuple[float, float]:
    """(χ₁, χ₂) of A²CiD²: what one worker's pairwise averaging costs without and with momentum.

    Edge i–j averages at the points of a Poisson process of rate λ_ij = (rate/2)(1/deg_i + 1/deg_j),
    which on average over the workers is ``rate`` communications of a worker in a unit of time.
    With Λ = Σ_{i–j} λ_ij (e_i − e_j)(e_i − e_j)ᵀ, χ₁ = 1/λ₂(Λ), the inverse of its smallest
    positive eigenvalue, and χ₂ = ½ max_{i–j} (e_i − e_j)ᵀ Λ⁺ (e_i − e_j), half the largest
    resistance of an edge. χ₂ ≤ χ₁; gossip takes a time of order χ₁, with momentum √(χ₁χ₂). Both
    are proportional to 1/rate. Dense linear algebra, O(n³).

    Args:
        topology: connected, with at least two workers.
        rate: communications of a worker in a unit of time, positive.

    Raises:
        TypeError: not a `Topology`.
        ValueError: a single worker, a topology that is directed or not connected, or a rate of 0 or less.

    Source: Nabli, Belilovsky, Oyallon, "A²CiD²", NeurIPS 2023, and its published code, whose graphs
    are regular: λ_ij = rate/deg.

    >>> from relaysim.topologies import complete, star
    >>> [round(chi, 12) for chi in acceleration_constants(complete(4))]
    [0.75, 0.75]
    >>> [round(chi, 12) for chi in acceleration_constants(star(4), rate=2)]
    [0.75, 0.375]
    """
    if not isinstance(topology, Topology):
        raise TypeError(f"acceleration_constants needs a Topology, not {topology!r}")
    rate = real_number(rate, "rate", 0)
    if rate == 0:
        raise ValueError("rate must be positive, not 0: without communication nothing converges")
    n = topology.n
    if n == 1 or not topology.is_connected:
        what = "has a single worker" if n == 1 else "is not connected"
        raise ValueError(
            f"{topology!r} {what}; acceleration_constants needs a connected topology of two or more"
        )
    # At rate 1; both constants are inversely proportional to it.
    chi1, chi2 = constants_of_rates(topology, edge_rates(topology))
    return chi1 / rate, chi2 / rate


def constants_of_rates(topology: Topology, rates: np.ndarray) -> tuple[float, float]:
    """(χ₁, χ₂) where neighbours meet at these rates, ``(E,)``: 1/λ₂(Λ), and half the largest resistance.

    >>> from relaysim.topologies import star
    >>> constants = constants_of_rates(star(5), np.full(4, 1 / 4))
    >>> [round(chi, 12) for chi in constants]
    [4.0, 2.0]
    """
    i, j = topology.edges.T
    n, laplacian = topology.n, _laplacian(topology, rates)
    # A multiple of J moves the mode 1 above all others: eigenvalues are at most 2 max_i Λ_ii.
    lifted = laplacian + (2 * laplacian.diagonal().max() + 1) / n
    vector = eigh(lifted, subset_by_index=[0, 0])[1][:, 0]
    smallest = (rates * (vector[i] - vector[j]) ** 2).sum()
    smallest /= ((vector - vector.mean()) ** 2).sum()
    # Λ⁺ = (Λ + J)⁻¹ − J; the last term drops out of differences of entries.
    inverse = inv(laplacian + 1 / n)
    resistance = inverse[i, i] + inverse[j, j] - inverse[i, j] - inverse[j, i]
    return float(1 / smallest), float(resistance.max()) / 2
