"""The Poisson clocks of pairwise averaging on a graph, and how fast they make workers agree."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh, inv
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator, SuperLU, eigsh, splu

from relaysim.support.checks import real_number, require_memory
from relaysim.topologies import Topology

__all__ = ["acceleration_constants", "constants_of_rates", "edge_rates", "meeting_laplacian"]

# Larger graphs are handled by sparse factors, where these have less than so many numbers a worker.
DENSE_LIMIT, MOST_FILL = 1500, 60
# Edges whose resistance is found at a time.
EDGES_AT_A_TIME = 256


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
    are proportional to 1/rate. Dense linear algebra, O(n³); above n = 1500, where a sparse factor of Λ is
    small, a solve for each edge: some seconds for rings and trees of 10⁴ workers.

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
    n = topology.n
    if n > DENSE_LIMIT:
        factor = _grounded(topology, rates)
        if factor is not None:
            return _constants_by_factor(topology, rates, factor)
    require_memory(
        5 * 8 * n * n, f"the Laplacian of {n} workers, whose factor is dense", "take fewer workers"
    )
    laplacian = _laplacian(topology, rates)
    # A multiple of J moves the mode 1 above all others: eigenvalues are at most 2 max_i Λ_ii.
    lifted = laplacian + (2 * laplacian.diagonal().max() + 1) / n
    vector = eigh(lifted, subset_by_index=[0, 0])[1][:, 0]
    smallest = (rates * (vector[i] - vector[j]) ** 2).sum()
    smallest /= ((vector - vector.mean()) ** 2).sum()
    # Λ⁺ = (Λ + J)⁻¹ − J; the last term drops out of differences of entries.
    inverse = inv(laplacian + 1 / n)
    resistance = inverse[i, i] + inverse[j, j] - inverse[i, j] - inverse[j, i]
    return float(1 / smallest), float(resistance.max()) / 2


def _grounded(topology: Topology, rates: np.ndarray) -> SuperLU | None:
    """A sparse factor of Λ without the last worker's row and column; None where it is not small."""
    i, j = topology.edges.T
    n = topology.n
    if len(rates) > MOST_FILL / 4 * n:
        return None
    at = np.concatenate([i, j, i, j]), np.concatenate([j, i, i, j])
    laplacian = coo_array((np.concatenate([-rates, -rates, rates, rates]), at), shape=(n, n))
    factor = splu(laplacian.tocsc()[:-1, :-1], permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    return factor if factor.L.nnz <= MOST_FILL * n else None


def _constants_by_factor(
    topology: Topology, rates: np.ndarray, factor: SuperLU
) -> tuple[float, float]:
    """The same by Lanczos iterations on Λ⁺, and a solve for each edge that may have the most resistance."""
    i, j = topology.edges.T
    n = topology.n

    def inverse(v: np.ndarray) -> np.ndarray:
        v = np.ravel(v)
        solved = np.append(factor.solve((v - v.mean())[:-1]), 0.0)
        return solved - solved.mean()

    operator = LinearOperator((n, n), matvec=inverse, dtype=float)
    start = np.random.default_rng(0).normal(size=n)
    vector = eigsh(operator, 1, which="LA", v0=start, tol=1e-12)[1][:, 0]
    smallest = (rates * (vector[i] - vector[j]) ** 2).sum()
    smallest /= ((vector - vector.mean()) ** 2).sum()
    # No resistance is above that of the edge alone.
    order = np.argsort(-1 / rates, kind="stable")
    largest = 0.0
    for first in range(0, len(order), EDGES_AT_A_TIME):
        edges = order[first : first + EDGES_AT_A_TIME]
        if largest >= (1 - 1e-14) / rates[edges[0]]:
            break
        columns = np.arange(len(edges))
        currents = np.zeros((n, len(edges)))
        currents[i[edges], columns], currents[j[edges], columns] = 1.0, -1.0
        potentials = np.zeros((n, len(edges)))
        potentials[:-1] = factor.solve(currents[:-1])
        found = potentials[i[edges], columns] - potentials[j[edges], columns]
        largest = max(largest, float(found.max()))
    return float(1 / smallest), largest / 2
