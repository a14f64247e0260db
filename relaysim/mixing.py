"""Gossip matrices: the weights with which workers average what their neighbours send.

W_ij is the weight that worker i gives to what j sent; rows sum to one. One matrix, or a sequence
W_0, W_1, … of which step t uses number t modulo its length. Everything is a `scipy.sparse.csr_array`
except `with_spectral_gap`, which is dense.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigvalsh
from scipy.sparse import csr_array, eye_array, issparse
from scipy.sparse.csgraph import connected_components

from relaysim.checks import real_number, whole_number
from relaysim.finite_time import (
    base_graph,
    hyper_hypercube,
    simple_base_graph,
    union_topology,
)
from relaysim.topologies import Topology, TreePair

__all__ = [
    "base_graph",
    "best_constant",
    "hyper_hypercube",
    "lazy",
    "max_degree",
    "metropolis",
    "one_peer_exponential",
    "simple_base_graph",
    "uniform",
    "union_topology",
    "with_spectral_gap",
]

Matrix = np.ndarray | csr_array
ROW_SUM_TOLERANCE = 1e-8


def metropolis(topology: Topology) -> csr_array:
    """Metropolis weights: W_ij = 1 / (1 + max(deg_i, deg_j)) on edges, the rest on the diagonal.

    Symmetric and doubly stochastic; the default of every gossip method, as in the code published
    with the RelaySum paper.

    >>> from relaysim.topologies import chain
    >>> metropolis(chain(3)).toarray().round(3).tolist()
    [[0.667, 0.333, 0.0], [0.333, 0.333, 0.333], [0.0, 0.333, 0.667]]
    """
    degrees = _graph(topology).degrees
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
    return _from_weights(topology, np.full(len(_graph(topology).src), weight))


def max_degree(topology: Topology) -> csr_array:
    """Maximum-degree weights: `uniform` with weight 1 / (1 + Δ), Δ the largest degree.

    >>> from relaysim.topologies import star
    >>> float(max_degree(star(5))[1, 0])
    0.2
    """
    return uniform(topology, 1 / (1 + _graph(topology).degrees.max()))


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
    if not _graph(topology).is_connected:
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
    if not 0 < real_number(gap, "gap") <= 1:
        raise ValueError(f"gap must lie in (0, 1], not {gap!r}")
    return (1 - gap) * np.eye(n) + gap / n


def lazy(W: Matrix | Sequence[Matrix]) -> Matrix | tuple[Matrix, ...]:
    """(W + I) / 2: every worker keeps half of its own; all eigenvalues of a symmetric W become ≥ 0.

    A sequence is made lazy matrix by matrix.

    >>> lazy(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if is_sequence(W):
        return tuple(lazy(matrix) for matrix in W)
    if issparse(W):
        return csr_array((W + eye_array(W.shape[0])) / 2)
    W = np.asarray(W, dtype=float)
    return (W + np.eye(W.shape[0])) / 2


def one_peer_exponential(n: int) -> tuple[csr_array, ...]:
    """The sequence in which worker i averages with i − 2^k modulo n, k = 0, 1, … ⌈log₂ n⌉ − 1.

    Each W_k = (I + P_k) / 2 is doubly stochastic but not symmetric: every worker sends one vector
    and receives one. One period averages exactly if and only if n is a power of two.
    Source: Assran et al., "Stochastic gradient push", 2019; Ying et al., 2021.

    >>> period = one_peer_exponential(4)
    >>> (period[1] @ period[0]).toarray().tolist()[0]
    [0.25, 0.25, 0.25, 0.25]
    """
    n = whole_number(n, "n", 1)
    workers = np.arange(n)
    if n == 1:
        return (csr_array(np.ones((1, 1))),)
    matrices = []
    for k in range((n - 1).bit_length()):
        columns = np.concatenate([workers, (workers - 2**k) % n])
        rows = np.concatenate([workers, workers])
        matrices.append(csr_array((np.full(2 * n, 0.5), (rows, columns)), shape=(n, n)))
    return tuple(matrices)


def is_sequence(mixing) -> bool:
    """Whether ``mixing`` is a sequence W_0, W_1, … and not one matrix.

    >>> is_sequence(np.eye(2)), is_sequence([np.eye(2), np.eye(2)])
    (False, True)
    """
    if issparse(mixing):
        return False
    if isinstance(mixing, np.ndarray):
        return mixing.ndim == 3
    if not isinstance(mixing, Sequence) or isinstance(mixing, str):
        raise TypeError(
            f"mixing must be a matrix (n, n) or a sequence of them, not {mixing!r}; "
            f"relaysim.mixing makes them from a topology, as metropolis(topology)"
        )
    return len(mixing) > 0 and (issparse(mixing[0]) or np.ndim(mixing[0]) == 2)


def as_sequence(mixing, topology: Topology) -> tuple[csr_array, ...]:
    """Check a matrix, or a sequence of them, against a topology; always returns a tuple.

    Raises:
        ValueError: wrong size, not finite, rows that do not sum to one, entries off the topology's
            edges, or workers that no product of the sequence connects.

    >>> from relaysim.topologies import chain
    >>> as_sequence(np.eye(2), chain(3))
    Traceback (most recent call last):
        ...
    ValueError: the mixing matrix is 2 × 2 but the topology has 3 workers
    """
    n = topology.n
    given = tuple(mixing) if is_sequence(mixing) else (mixing,)
    if not issparse(mixing) and len(mixing) == 0:
        raise ValueError("mixing is an empty sequence; give at least one matrix")
    allowed = topology.adjacency + eye_array(n)
    matrices = []
    for t, matrix in enumerate(given):
        which = f"mixing matrix W_{t}" if len(given) > 1 else "the mixing matrix"
        W = csr_array(matrix if issparse(matrix) else np.asarray(matrix, dtype=float))
        W = W.astype(float)
        if W.shape != (n, n):
            shape = " × ".join(map(str, W.shape))
            raise ValueError(f"{which} is {shape} but the topology has {n} workers")
        W.sum_duplicates()
        W.eliminate_zeros()
        if not np.all(np.isfinite(W.data)):
            raise ValueError(f"{which} has entries that are not finite")
        sums = W.sum(axis=1)
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > ROW_SUM_TOLERANCE:
            raise ValueError(
                f"the rows of {which} must sum to 1; row {worst} sums to {sums[worst]:.6g}. "
                f"Put 1 − (the rest of the row) on the diagonal"
            )
        stray = (abs(W) - abs(W).multiply(allowed)).tocoo()
        stray.eliminate_zeros()
        if stray.nnz:
            i, j = int(stray.coords[0][0]), int(stray.coords[1][0])
            raise ValueError(
                f"{which} has weight {W[i, j]:.3g} at ({i}, {j}), which is no edge of {topology!r}; "
                f"pass a topology that has the edge"
            )
        matrices.append(W)
    union = sum((abs(W) for W in matrices[1:]), abs(matrices[0]))
    parts = connected_components(union, directed=True, connection="strong")[0]
    if parts > 1:
        raise ValueError(
            f"the mixing matrices leave the workers in {parts} groups that never exchange anything; "
            f"over a period they must connect all {n} workers"
        )
    return tuple(matrices)


def preserved_weights(matrices: Sequence[csr_array]) -> np.ndarray | None:
    """Weights π with Σ_i π_i = 1 and πᵀW = πᵀ for every matrix: what mixing leaves as it is, ``(n,)``.

    1/n for doubly stochastic matrices. None where no weights serve for all of them.

    >>> preserved_weights([csr_array([[0.5, 0.5], [0.25, 0.75]])]).round(12).tolist()
    [0.333333333333, 0.666666666667]
    """
    n = matrices[0].shape[0]
    weights = np.full(n, 1 / n)
    if not _preserve(matrices, weights):
        # πᵀ(W − I) = 0 with one equation, of which there is one too many, replaced by Σ_i π_i = 1.
        # The mean matrix connects all workers, so that it has one solution.
        equations = (sum(W.toarray() for W in matrices) / len(matrices) - np.eye(n)).T
        equations[-1] = 1
        weights = np.linalg.solve(equations, np.eye(n)[-1])
        if not _preserve(matrices, weights):
            return None
    return weights


def _preserve(matrices: Sequence[csr_array], weights: np.ndarray) -> bool:
    largest = np.abs(weights).max()
    return all(np.abs(weights @ W - weights).max() <= 1e-12 * largest for W in matrices)


def _from_weights(topology: Topology, weights: np.ndarray) -> csr_array:
    """W with the given weight on each directed edge (src sends to dst) and rows summing to one."""
    n = topology.n
    diagonal = 1 - np.bincount(topology.dst, weights=weights, minlength=n)
    workers = np.arange(n)
    rows = np.concatenate([topology.dst, workers])
    columns = np.concatenate([topology.src, workers])
    return csr_array((np.concatenate([weights, diagonal]), (rows, columns)), shape=(n, n))


def _graph(topology) -> Topology:
    if not isinstance(topology, Topology):
        why = ""
        if isinstance(topology, TreePair):
            why = "; a pair of trees has none, since each tree carries half of the coordinates"
        raise TypeError(f"a mixing matrix needs a Topology, not {topology!r}{why}")
    return topology
