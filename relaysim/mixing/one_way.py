"""Weights for graphs whose edges are one-way links: rows that sum to one, or columns.

W_ij is the weight that worker i gives to what j sent, so that an edge (j, i) carries it.
"""

from __future__ import annotations

import networkx
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, diags_array, eye_array

from relaysim.mixing.sequences import graph_for
from relaysim.support.checks import real_array, real_number, shown
from relaysim.topologies import Topology, from_networkx

__all__ = ["column_stochastic", "row_stochastic"]


def row_stochastic(
    topology: Topology | networkx.Graph, weights: ArrayLike | str | None = None, own: float = 1.0
) -> csr_array:
    """Each worker averages what it hears: R_ij = w_ij / (own + Σ_k w_ik), R_ii = own / (own + Σ_k w_ik).

    Rows sum to 1, so that equal models stay equal. It takes a worker that knows whom it hears. Gossip with it
    preserves Σ_i π_i x_i, with the left eigenvector π of R, and ends at argmin Σ_i π_i f_i instead of x*
    unless columns sum to 1 as well, as on regular graphs with equal weights.

    Args:
        topology: a `Topology`, or a networkx graph, whose nodes count in its own order.
        weights: w of each edge, of the size of ``topology.edges``, or the name of an attribute of a networkx
            graph's edges; 1 by default. Of an undirected edge it counts in both directions; parallel edges
            add up.
        own: the weight that a worker gives itself, at least 0, in the same unit.

    Raises:
        TypeError: no graph, or the name of an attribute without a networkx graph.
        ValueError: weights that are not positive, an edge without the attribute, or nobody to hear.

    >>> from relaysim.topologies import from_edges
    >>> row_stochastic(from_edges(3, [(0, 1), (1, 2), (2, 0), (0, 2)], directed=True)).toarray().round(2)
    array([[0.5 , 0.  , 0.5 ],
           [0.5 , 0.5 , 0.  ],
           [0.33, 0.33, 0.33]])
    """
    shares = _shares(topology, weights, own)
    return csr_array(diags_array(1 / _positive(shares.sum(axis=1), "hears")) @ shares)


def column_stochastic(
    topology: Topology | networkx.Graph, weights: ArrayLike | str | None = None, own: float = 1.0
) -> csr_array:
    """Each worker shares out what it has: C_ij = w_ij / (own + Σ_k w_kj), C_jj = own / (own + Σ_k w_kj).

    Columns sum to 1, so that Σ_i x_i is preserved. It takes a worker that knows how many hear it. The mass
    of single workers tends to the right eigenvector of C, by which push-sum divides.

    Args:
        topology, weights, own: as of `row_stochastic`.

    Raises:
        TypeError: no graph, or the name of an attribute without a networkx graph.
        ValueError: weights that are not positive, an edge without the attribute, or nobody to send to.

    >>> import networkx
    >>> graph = networkx.DiGraph([("a", "b"), ("b", "c"), ("c", "a"), ("a", "c")])
    >>> networkx.set_edge_attributes(graph, 1.0, "capacity")
    >>> graph.edges["a", "c"]["capacity"] = 2.0
    >>> column_stochastic(graph, "capacity").toarray()
    array([[0.25, 0.  , 0.5 ],
           [0.25, 0.5 , 0.  ],
           [0.5 , 0.5 , 0.5 ]])
    """
    shares = _shares(topology, weights, own)
    return csr_array(shares @ diags_array(1 / _positive(shares.sum(axis=0), "is heard by")))


def _positive(totals: np.ndarray, does: str) -> np.ndarray:
    if not totals.min() > 0:
        raise ValueError(
            f"worker {int(totals.argmin())} {does} nobody, and its own weight is 0; take own above 0"
        )
    return totals


def _shares(
    topology: Topology | networkx.Graph, weights: ArrayLike | str | None, own: float
) -> csr_array:
    """w_ij from j to i, and ``own`` on the diagonal, ``(n, n)``."""
    own = real_number(own, "own", 0)
    if isinstance(topology, networkx.Graph):
        graph = from_networkx(topology)
        place = {node: k for k, node in enumerate(topology.nodes)}
        edges = np.array([(place[a], place[b]) for a, b in topology.edges()], dtype=int)
        edges = edges.reshape(-1, 2)
        if isinstance(weights, str):
            weights = _of_attribute(topology, weights)
    else:
        graph = graph_for(topology)
        edges = graph.edges
        if isinstance(weights, str):
            raise TypeError(
                f"weights by the name of an attribute, {weights!r}, take the networkx graph that has it in "
                f"the place of {topology!r}"
            )
    w = np.ones(len(edges)) if weights is None else real_array(weights, "weights")
    if w.shape != (len(edges),):
        raise ValueError(
            f"weights must be one number for each of the {len(edges)} edges, not of shape {w.shape}"
        )
    bad = ~(np.isfinite(w) & (w > 0))
    if bad.any():
        k = int(np.argmax(bad))
        raise ValueError(
            f"weights of edges must be positive and finite; that of {edges[k].tolist()} is {w[k]:g}; "
            f"leave an edge of no weight out of the graph"
        )
    sent = csr_array((w, (edges[:, 1], edges[:, 0])), shape=(graph.n, graph.n))
    if not graph.is_directed:
        sent = sent + sent.T
    return csr_array(sent + own * eye_array(graph.n))


def _of_attribute(graph: networkx.Graph, name: str) -> list[float]:
    found = list(graph.edges(data=name))
    missing = [(a, b) for a, b, weight in found if weight is None]
    if missing:
        raise ValueError(
            f"the edge {shown(missing[0])} has no attribute {name!r}; give it one, or leave weights out"
        )
    return [weight for *_, weight in found]
