"""Sequences that average exactly on a given graph, and sequences that do so only nearly.

Source of the question: Fainman and Vlaski, "On the convergence of decentralized stochastic gradient-tracking
with finite-time consensus", 2025, known here by its abstract; the weights below are derived here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from scipy.linalg import eigvalsh, pinvh
from scipy.sparse import coo_array, csr_array

from relaysim.mixing.sequences import Mixing, as_matrices, is_symmetric, undirected_graph_for
from relaysim.mixing.weights import uniform
from relaysim.support.checks import real_number, whole_number
from relaysim.topologies import Topology

__all__ = ["laplacian_sequence", "perturbed"]

# A period averages if its product differs from J by less, in the 2-norm.
AVERAGES_TO = 1e-10
# Eigenvalues of a Laplacian nearer to each other than this share of the largest are one.
EQUAL_TO = 1e-12


def laplacian_sequence(topology: Topology) -> tuple[csr_array, ...]:
    """The sequence W_k = I − L/μ_k over the distinct eigenvalues μ_k > 0 of the graph Laplacian L.

    Each factor takes away the modes of one eigenvalue, and none changes the mean: one period averages
    exactly, in as many steps as L has distinct positive eigenvalues, on the edges that there are. Their order
    is Leja's, μ_0 the largest and then each as far from those before it as can be (the largest product of
    distances), which keeps the beginnings of a period small.

    Weights are 1/μ_k on every edge, what is on the diagonal may be negative, and W_k enlarges the modes above
    2μ_k. On ``ring(16)``, 8 steps, the product is exact to 4e-16 and steps in a row enlarge by up to 25; on
    ``chain(12)``, 11 steps, by 333, on ``binary_tree(16)`` by 1900. At curvature 1 `GradientTracking`, stable
    below rate 2 with Metropolis weights, is so below .34, .025 and 6e-5 on these three. Where degrees differ
    more, no digits are left and the sequence is refused: the product misses J by some 5e-9 on
    ``binary_tree(31)``, 5e-5 on ``social_network()``, 5e2 on ``barabasi_albert(32, 2, seed=0)``.

    Args:
        topology: connected, with at least two workers for more than W = 1. Dense linear algebra, O(n³).

    Raises:
        TypeError: not a `Topology`.
        ValueError: directed, not connected, or a product further than 1e-10 from J = 11ᵀ/n, in the 2-norm.

    Source: derived here; unverified as a construction of Fainman and Vlaski, 2025.

    >>> from relaysim.topologies import hypercube
    >>> period = laplacian_sequence(hypercube(4))
    >>> [abs(W.toarray()[0].round(12)).tolist() for W in period]
    [[0.5, 0.25, 0.25, 0.0], [0.0, 0.5, 0.5, 0.0]]
    >>> (period[1] @ period[0]).toarray()[0].round(12).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if not undirected_graph_for(topology).is_connected:
        raise ValueError(f"{topology!r} is not connected, so no sequence on its edges averages")
    if topology.n == 1:
        return (csr_array(np.ones((1, 1))),)
    laplacian = np.diag(topology.degrees) - topology.adjacency.toarray()
    eigenvalues = _in_leja_order(_distinct(eigvalsh(laplacian)[1:]))
    matrices = tuple(uniform(topology, 1 / mu) for mu in eigenvalues)
    distance = _distance_to_average([matrices[0].toarray(), *matrices[1:]])
    if not distance <= AVERAGES_TO:
        raise ValueError(
            f"the Laplacian sequence of {topology!r} does not average: rounding leaves its product of "
            f"{len(matrices)} matrices {distance:.1e} from 11ᵀ/n; use base_graph({topology.n}, 1) on a "
            f"complete topology, or a graph with more equal degrees"
        )
    return matrices


def perturbed(sequence: Mixing, epsilon: float, seed: int) -> tuple[csr_array, ...]:
    """A sequence that averages nearly: weights with random errors, ‖W_{m−1} ⋯ W_0 − J‖₂ = ε, J = 11ᵀ/n.

    W_k + sΔ_k: Δ_k has W_k,ij u_ij off the diagonal, u_ij standard normal, then moved as little as makes all
    its rows and columns sum to 0, so that each W_k preserves what it did and stays symmetric if it was.
    s ≥ 0 is found so that the product differs from J by ε. Weights may become negative where ε is large.

    Args:
        sequence: W_0, W_1, … whose product is J; or J itself.
        epsilon: ε in [0, 1). A period leaves at most this share of the disagreement Ξ.
        seed: of the errors, which for another ε are the same but for their size.

    Raises:
        TypeError: no matrices.
        ValueError: a product further than 1e-10 from J, ε out of range, or weights that leave nothing to
            change, as those of a single worker.

    Source: the errors are derived here; what they do to tracking is the subject of Fainman and Vlaski, 2025.

    >>> from relaysim.mixing import one_peer_exponential
    >>> period = perturbed(one_peer_exponential(8), 0.1, seed=0)
    >>> product = (period[2] @ period[1] @ period[0]).toarray()
    >>> round(float(np.linalg.norm(product - 1 / 8, 2)), 12)
    0.1
    """
    epsilon, seed = real_number(epsilon, "epsilon"), whole_number(seed, "seed", 0)
    if not 0 <= epsilon < 1:
        raise ValueError(
            f"epsilon must lie in [0, 1), not {epsilon!r}: a product as far as 1 from 11ᵀ/n need not make "
            f"workers agree at all"
        )
    matrices = as_matrices(sequence)
    dense = _dense(matrices)
    distance = _distance_to_average(dense)
    if not distance <= AVERAGES_TO:
        raise ValueError(
            f"the product of the sequence must be 11ᵀ/n and is {distance:.1e} from it (2-norm), so that no "
            f"error can be given to it; take one that averages exactly, as base_graph(n, k)"
        )
    if epsilon == 0:
        return matrices
    generator = np.random.default_rng(seed)
    errors = [_errors(W, generator) for W in matrices]
    if not any(error.any() for error in errors):
        raise ValueError(
            f"these {len(matrices)} matrices have no weights that could change: every row and column would "
            f"no longer sum to 1; give more than one worker, or epsilon = 0"
        )

    def excess(size: float) -> float:
        moved = [W + size * error for W, error in zip(dense, errors, strict=True)]
        return _distance_to_average(moved) - epsilon

    # The product moves by about the size at first; a little further there is a first root.
    high = epsilon / 64
    while excess(high) < 0:
        high *= 1.25
    size = scipy.optimize.brentq(excess, 0, high, xtol=1e-300, rtol=1e-15)
    return tuple(
        csr_array(W + size * csr_array(error)) for W, error in zip(matrices, errors, strict=True)
    )


def _distinct(eigenvalues: np.ndarray) -> np.ndarray:
    """The means of increasing eigenvalues that are equal but for rounding."""
    apart = np.diff(eigenvalues) > EQUAL_TO * eigenvalues[-1]
    return np.array([each.mean() for each in np.split(eigenvalues, np.flatnonzero(apart) + 1)])


def _in_leja_order(points: np.ndarray) -> np.ndarray:
    """The largest, then each time the point with the largest product of distances to those before.

    >>> _in_leja_order(np.array([1.0, 2.0, 3.0])).tolist()
    [3.0, 1.0, 2.0]
    """
    chosen = [int(np.argmax(points))]
    logs = np.zeros(len(points))
    with np.errstate(divide="ignore"):
        for _ in points[1:]:
            logs = logs + np.log(np.abs(points - points[chosen[-1]]))
            chosen.append(int(np.argmax(logs)))
    return points[chosen]


def _dense(matrices: Sequence[csr_array]) -> list[np.ndarray]:
    return [W.toarray() for W in matrices]


def _distance_to_average(matrices: Sequence[np.ndarray | csr_array]) -> float:
    """‖W_{m−1} ⋯ W_1 W_0 − 11ᵀ/n‖₂, of a dense W_0."""
    product = matrices[0]
    for W in matrices[1:]:
        product = W @ product
    return float(np.linalg.norm(product - 1 / len(product), 2))


def _errors(W: csr_array, generator: np.random.Generator) -> np.ndarray:
    """Random errors relative to the weights off the diagonal, which is left what rows then lack; ``(n, n)``.

    Rows and columns sum to 0: the nearest errors, in the Frobenius norm, for which they do.
    """
    n = W.shape[0]
    draws = generator.normal(size=(n, n))
    if is_symmetric(W):
        draws = np.triu(draws, 1) + np.triu(draws, 1).T
    entries = W.tocoo()
    i, j = entries.coords
    across = i != j
    i, j = i[across], j[across]
    errors = entries.data[across] * draws[i, j]
    # What comes to a worker less what goes from it, Σ_j Δ_ij − Σ_j Δ_ji, is to be 0 for each.
    places, ones = np.arange(len(i)), np.ones(len(i))
    balance = csr_array(coo_array((ones, (i, places)), shape=(n, len(i))))
    balance = balance - csr_array(coo_array((ones, (j, places)), shape=(n, len(i))))
    errors = errors - balance.T @ (pinvh((balance @ balance.T).toarray()) @ (balance @ errors))
    result = np.zeros((n, n))
    result[i, j] = errors
    result[np.diag_indices(n)] = -result.sum(axis=1)
    return result
