"""Gossip matrices: the weights with which workers average what their neighbours send.

W_ij is the weight that worker i gives to what j sent; rows sum to one, and weights are the same in both
directions. Everything is a `scipy.sparse.csr_array` except `with_spectral_gap`, which is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from scipy.linalg import eigvalsh
from scipy.sparse import csr_array, eye_array, issparse

from relaysim.mixing.precision import in_double
from relaysim.mixing.sequences import Matrix, is_sequence, undirected_graph_for
from relaysim.support.checks import positive_share, real_number, whole_number
from relaysim.topologies import Topology

__all__ = [
    "best_constant",
    "lazy",
    "max_degree",
    "metropolis",
    "uniform",
    "with_spectral_gap",
]


def metropolis(topology: Topology) -> csr_array:
    """Metropolis weights: W_ij = 1 / (1 + max(deg_i, deg_j)) on edges, the rest on the diagonal.

    Symmetric and doubly stochastic; the default of every gossip method, as in the code published
    with the RelaySum paper.

    >>> from relaysim.topologies import chain
    >>> metropolis(chain(3)).toarray().round(3).tolist()
    [[0.667, 0.333, 0.0], [0.333, 0.333, 0.333], [0.0, 0.333, 0.667]]
    """
    degrees = undirected_graph_for(topology).degrees
    return _from_weights(
        topology, 1 / (1 + np.maximum(degrees[topology.src], degrees[topology.dst]))
    )


def uniform(topology: Topology, weight: float) -> csr_array:
    """The same weight on every edge: W = I − weight · L, with L the graph Laplacian.

    The diagonal, 1 − weight · deg_i, becomes negative when the weight exceeds 1 / deg_i.

    >>> from relaysim.topologies import ring
    >>> uniform(ring(4), 0.25).toarray()[0].tolist()
    [0.5, 0.25, 0.0, 0.25]
    """
    weight = real_number(weight, "weight")
    return _from_weights(topology, np.full(len(undirected_graph_for(topology).src), weight))


def max_degree(topology: Topology) -> csr_array:
    """Maximum-degree weights: `uniform` with weight 1 / (1 + Δ), Δ the largest degree.

    >>> from relaysim.topologies import star
    >>> float(max_degree(star(5))[1, 0])
    0.2
    """
    return uniform(topology, 1 / (1 + undirected_graph_for(topology).degrees.max()))


def best_constant(topology: Topology) -> csr_array:
    """The edge weight whose `uniform` matrix has the largest spectral gap.

    weight = 2 / (λ_max(L) + λ_2(L)), L the graph Laplacian and λ_2 its smallest positive
    eigenvalue. Source: Xiao and Boyd, "Fast linear iterations for distributed averaging", 2004.

    Raises:
        ValueError: the topology is not connected.

    >>> from relaysim.topologies import complete
    >>> round(float(best_constant(complete(4))[0, 1]), 12)
    0.25
    """
    if not undirected_graph_for(topology).is_connected:
        raise ValueError(f"{topology!r} is not connected, so no constant weight makes it average")
    if topology.n == 1:
        return csr_array(np.ones((1, 1)))
    laplacian = np.diag(topology.degrees) - topology.adjacency.toarray()
    eigenvalues = eigvalsh(laplacian)
    return uniform(topology, 2 / (eigenvalues[-1] + eigenvalues[1]))


def with_spectral_gap(n: int, gap: float) -> np.ndarray:
    """A complete-graph matrix with a chosen spectral gap: (1 − gap) I + gap 11ᵀ/n, dense (n, n).

    All eigenvalues but the first are 1 − gap, so that 1 − |λ₂| = gap. Use it with
    `relaysim.topologies.complete`.

    Args:
        n: number of workers.
        gap: in (0, 1]; 1 averages exactly.

    >>> with_spectral_gap(2, 0.5).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    n = whole_number(n, "n", 1)
    gap = positive_share(gap, "gap")
    return (1 - gap) * np.eye(n) + gap / n


@overload
def lazy(W: Matrix) -> Matrix: ...


@overload
def lazy(W: Sequence[Matrix]) -> tuple[Matrix, ...]: ...


def lazy(W: Any) -> Any:
    """(W + I) / 2: every worker keeps half of its own; all eigenvalues of a symmetric W become ≥ 0.

    A sequence is made lazy matrix by matrix.

    >>> lazy(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if is_sequence(W):
        return tuple(lazy(matrix) for matrix in W)
    W = in_double(W, "W")
    if issparse(W):
        return csr_array((W + eye_array(W.shape[0])) / 2)
    return (W + np.eye(W.shape[0])) / 2


def _from_weights(topology: Topology, weights: np.ndarray) -> csr_array:
    """W with the given weight on each directed edge (src sends to dst) and rows summing to one."""
    n = topology.n
    diagonal = 1 - np.bincount(topology.dst, weights=weights, minlength=n)
    workers = np.arange(n)
    rows = np.concatenate([topology.dst, workers])
    columns = np.concatenate([topology.src, workers])
    return csr_array((np.concatenate([weights, diagonal]), (rows, columns)), shape=(n, n))
