"""Random graphs, and one of people."""

from __future__ import annotations

import networkx

from relaysim.support.checks import real_number, whole_number
from relaysim.topologies.graph import Topology, from_networkx, graph_size

__all__ = [
    "barabasi_albert",
    "erdos_renyi",
    "random_regular",
    "social_network",
    "watts_strogatz",
]


def erdos_renyi(n: int, p: float, seed: int) -> Topology:
    """Every pair of workers linked independently with probability p.

    The draw is kept as it falls: it may not be connected, which `Topology.is_connected` tells.

    >>> erdos_renyi(20, 0.3, seed=1) == erdos_renyi(20, 0.3, seed=1)
    True
    """
    p = real_number(p, "p", 0, 1)
    graph = networkx.gnp_random_graph(
        graph_size(n, p * whole_number(n, "n", 1) / 2), p, seed=whole_number(seed, "seed", 0)
    )
    return from_networkx(graph, f"erdos_renyi({n}, {p!r}, seed={seed})")


def random_regular(n: int, degree: int, seed: int) -> Topology:
    """A random graph in which every worker has ``degree`` neighbours (n · degree must be even).

    >>> random_regular(10, 3, seed=0).degrees.tolist() == [3] * 10
    True
    """
    if whole_number(degree, "degree", 1) >= graph_size(n) or n * degree % 2:
        raise ValueError(
            f"random_regular needs degree < n and n · degree even, not n={n}, degree={degree}"
        )
    graph = networkx.random_regular_graph(degree, n, seed=whole_number(seed, "seed", 0))
    ordered = networkx.empty_graph(n)
    ordered.add_edges_from(graph.edges)
    return from_networkx(ordered, f"random_regular({n}, {degree}, seed={seed})")


def watts_strogatz(n: int, k: int, p: float, seed: int) -> Topology:
    """A ring in which each worker knows its k nearest, with each link rewired with probability p.

    >>> len(watts_strogatz(12, 4, 0.2, seed=0).edges)
    24
    """
    p = real_number(p, "p", 0, 1)
    if not 2 <= whole_number(k, "k", 1) < graph_size(n):
        raise ValueError(f"watts_strogatz needs 2 ≤ k < n, not k={k}, n={n}")
    if k % 2:
        raise ValueError(f"watts_strogatz needs an even k, half of it on each side, not {k}")
    graph = networkx.watts_strogatz_graph(n, k, p, seed=whole_number(seed, "seed", 0))
    return from_networkx(graph, f"watts_strogatz({n}, {k}, {p!r}, seed={seed})")


def barabasi_albert(n: int, m: int, seed: int) -> Topology:
    """Workers join one by one, each with m links to earlier ones, the well-linked preferred.

    >>> barabasi_albert(30, 2, seed=0).is_connected
    True
    """
    if not 1 <= whole_number(m, "m", 1) < graph_size(n):
        raise ValueError(f"barabasi_albert needs 1 ≤ m < n, not m={m}, n={n}")
    graph = networkx.barabasi_albert_graph(n, m, seed=whole_number(seed, "seed", 0))
    return from_networkx(graph, f"barabasi_albert({n}, {m}, seed={seed})")


def social_network() -> Topology:
    """The Davis southern-women graph: 18 women and 14 events, in networkx's order.

    Source: Davis, Gardner and Gardner, 1941; used in figure 3 of the RelaySum paper.

    >>> social_network().n, len(social_network().edges)
    (32, 89)
    """
    return from_networkx(networkx.davis_southern_women_graph(), "social_network()")
