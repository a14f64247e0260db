"""Sequences of gossip matrices that average exactly after finitely many steps, for every n.

Each graph is a sequence W_0, …, W_{m−1}: symmetric, doubly stochastic, no worker with more than k
neighbours in any of them, and W_{m−1} ⋯ W_1 W_0 = 11ᵀ/n. The m steps must be whole periods: those
from W_1 to the next W_0, say, need not average exactly. A k of n or more means n − 1: every worker
may average with every other one, and a single matrix does.

The graphs are put together as lists of rounds, each of them the pairs that exchange in it and the
weight of each pair; a matrix has what is left of a row on its diagonal.

What is written of them leaves sequences open: how long groups that are done go on averaging, what
workers without a partner do, who is whose partner. Here nothing is sent that averaging does not need.
The code that the authors published sends more, and under gradients its workers are at other distances
from each other: ``published=True`` gives its sequences.

Source: Takezawa, Sato, Bao, Niwa and Yamada, "Beyond exponential graph: communication-efficient
topologies for decentralized learning via finite-time convergence", NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, issparse, triu

from relaysim.support.checks import shown, whole_number
from relaysim.topologies import Topology, from_edges

__all__ = ["base_graph", "hyper_hypercube", "simple_base_graph", "union_topology"]

Exchanges = tuple[np.ndarray, np.ndarray]  # pairs of workers (m, 2), and their weights (m,)


def hyper_hypercube(n: int, k: int) -> tuple[csr_array, ...]:
    """The k-peer hyper-hypercube: in each step groups of at most k + 1 workers average exactly.

    With n = d_0 d_1 ⋯ d_{m−1}, the fewest factors of at most k + 1 there are (and among these the
    fewest messages), worker i is known by its digits i = c_0 + d_0 (c_1 + d_1 (c_2 + ⋯)), and in
    step t it averages with the workers that differ from it in c_t only. For n = 2^m and k = 1 this
    is one dimension of the hypercube after the other.

    Args:
        n: number of workers; none of its prime factors may exceed k + 1.
        k: most neighbours that a worker has in a step.

    Raises:
        ValueError: n has a prime factor larger than k + 1.

    >>> period = hyper_hypercube(6, 2)
    >>> [int((W[0] > 0).sum()) for W in period]
    [2, 3]
    >>> (period[1] @ period[0]).toarray()[0].round(3).tolist()
    [0.167, 0.167, 0.167, 0.167, 0.167, 0.167]
    """
    n, k = whole_number(n, "n", 1), whole_number(k, "k", 1)
    rest = n // _smooth_part(n, k + 1)
    if rest > 1:
        prime = next(d for d in range(k + 2, rest + 1) if rest % d == 0)
        raise ValueError(
            f"hyper_hypercube({n}, {k}) does not exist: {prime}, a prime factor of {n}, is larger "
            f"than k + 1 = {k + 1}; base_graph({n}, {k}) takes any number of workers"
        )
    return _matrices(n, _averaging(n, _fewest_factors(n, k + 1)))


def simple_base_graph(n: int, k: int, published: bool = False) -> tuple[csr_array, ...]:
    """The simple base-(k + 1) graph: exact for every n, in at most 2 log_{k+1}(n) + 2 steps.

    The digits of n in base k + 1, n = Σ_l a_l (k+1)^{p_l} with p_1 > p_2 > …, cut the workers into
    groups V_1, V_2, … of those sizes, and V_l into a_l blocks of (k+1)^{p_l} workers.

    1. Every group averages: hyper-hypercubes side by side.
    2. For l = 1, 2, … but the last group: each worker of U = V_{l+1} ∪ V_{l+2} ∪ … exchanges with
       one worker in each block of V_l, a different one for each, with weight
       (k+1)^{p_l} / |V_l ∪ U|. Before, the mean over V_l ∪ U is the mean of all n; after, so is the
       mean over U, and as the sum does not change, the mean over each block of V_l. The workers of
       one group of U still agree, so that the next l finds what this one found.
    3. Each block averages as soon as its exchange is over: hyper-hypercubes again.

    Published sequences, ``published=True``, are of the same kind and differ in these:

    - groups that are done begin again, in 1. and in 3., until the last one is done;
    - in 2. the workers of V_l without a partner average among themselves, k + 1 at a time;
    - partners are taken from the ends of blocks, by the smallest group first;
    - in 3. a group of less than k + 1 workers averages as a whole;
    - where n has no prime factor above k + 1 it is a hyper-hypercube, which may be shorter;
    - hyper-hypercubes take the largest factor that there is, not the fewest.

    Args:
        n: number of workers.
        k: most neighbours that a worker has in a step.
        published: whether to follow the code that the authors published.

    >>> period = simple_base_graph(3, 1)
    >>> for W in period:
    ...     print(W.toarray().round(3).tolist())
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    [[0.333, 0.0, 0.667], [0.0, 1.0, 0.0], [0.667, 0.0, 0.333]]
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    n, k = whole_number(n, "n", 1), whole_number(k, "k", 1)
    return _matrices(n, _published_simple_base(n, k + 1) if published else _simple_base(n, k + 1))


def base_graph(n: int, k: int, published: bool = False) -> tuple[csr_array, ...]:
    """The base-(k + 1) graph: exact for every n, and never longer than `simple_base_graph`.

    n = p q, where p has the prime factors of at most k + 1 and q the others. Each of p blocks of q
    workers runs the simple base graph, then workers in the same place of their blocks a
    hyper-hypercube. Where `simple_base_graph` of all n workers is shorter, it is returned instead.

    Use it with `relaysim.topologies.complete` or with `union_topology` of the sequence itself:
    only weights that are not zero cost a message.

    Args:
        n: number of workers.
        k: most neighbours that a worker has in a step.
        published: whether to follow the code that the authors published, as in `simple_base_graph`.

    >>> [len(base_graph(n, 1)) for n in (5, 6, 7, 8, 25)]
    [5, 4, 5, 3, 9]
    >>> [len(base_graph(25, k)) for k in (1, 2, 3, 4, 24, 100)]
    [9, 6, 5, 2, 1, 1]
    >>> [sum(W.nnz - 5 for W in base_graph(5, 1, published=which)) for which in (False, True)]
    [18, 20]
    """
    n, k = whole_number(n, "n", 1), whole_number(k, "k", 1)
    simple, factors = _simple_base, _fewest_factors
    if published:
        simple, factors = _published_simple_base, _largest_factors
    p = _smooth_part(n, k + 1)
    q = n // p
    offsets = q * np.arange(p)[:, None, None]
    product = [
        ((pairs + offsets).reshape(-1, 2), np.tile(weights, p))
        for pairs, weights in simple(q, k + 1)
    ]
    product += _averaging(n, factors(p, k + 1), stride=q)
    return _matrices(n, min(product, simple(n, k + 1), key=len))


def union_topology(sequence: Sequence[csr_array]) -> Topology:
    """The topology with every edge on which some matrix of the sequence has a weight.

    An undirected edge is made where either of its directions has a weight. Pass it to
    `relaysim.simulate` together with the sequence; `complete(n)` gives the same iterates.

    >>> sequence = base_graph(6, 1)
    >>> union_topology(sequence).edges.tolist()
    [[0, 1], [0, 2], [0, 3], [1, 4], [2, 5], [3, 4], [3, 5]]
    """
    try:
        supports = [abs(csr_array(W)) for W in sequence]
    except (TypeError, ValueError):
        supports = []
    if not supports or issparse(sequence) or any(W.ndim != 2 for W in supports):
        raise TypeError(
            f"union_topology needs a sequence of matrices (n, n), as base_graph(n, k) returns, "
            f"not {shown(sequence)}"
        )
    union = sum(supports[1:], supports[0])
    return from_edges(union.shape[0], np.transpose(triu(union + union.T, k=1).nonzero()))


# -- rounds ----------------------------------------------------------------------------------------


def _averaging(n: int, factors: Sequence[int], stride: int = 1) -> list[Exchanges]:
    """Rounds in which workers that differ in one digit average: a round for each factor.

    The digits are those of i // ``stride``, lowest first. Workers that differ in i % ``stride``, or
    in what is left above the last digit, are in groups that never meet.
    """
    workers = np.arange(n)
    rounds = []
    for factor in factors:
        first = workers[workers // stride % factor == 0]
        groups = first[:, None] + stride * np.arange(factor)
        a, b = np.triu_indices(factor, k=1)
        pairs = np.stack([groups[:, a], groups[:, b]], axis=-1).reshape(-1, 2)
        rounds.append((pairs, np.full(len(pairs), 1 / factor)))
        stride *= factor
    return rounds


def _simple_base(n: int, base: int) -> list[Exchanges]:
    """The rounds of `simple_base_graph`; none for one worker."""
    groups = _digits(n, base)
    timetable = [
        (0, start, _averaging(blocks * size, _fewest_factors(blocks * size, base)))
        for start, blocks, size in groups
    ]
    begin = len(timetable[0][2])
    for l, (start, blocks, size) in enumerate(groups[:-1]):
        smaller = np.arange(start + blocks * size, n)
        partners = start + size * np.arange(blocks)[:, None] + np.arange(len(smaller))
        pairs = np.stack([partners, np.broadcast_to(smaller, partners.shape)], axis=-1)
        weights = np.full(partners.size, size / (n - start))
        timetable.append((begin + l, 0, [(pairs.reshape(-1, 2), weights)]))
        within = _averaging(blocks * size, _fewest_factors(size, base))
        timetable.append((begin + l + 1, start, within))
    length = max(begin + len(rounds) for begin, _, rounds in timetable)
    together: list[list[Exchanges]] = [[] for _ in range(length)]
    for begin, offset, rounds in timetable:
        for t, (pairs, weights) in enumerate(rounds, begin):
            together[t].append((pairs + offset, weights))
    return [_side_by_side(exchanges) for exchanges in together]


def _published_simple_base(n: int, base: int) -> list[Exchanges]:
    """The rounds of the simple base graph in the code that its authors published."""
    if _smooth_part(n, base) == n:
        return _averaging(n, _largest_factors(n, base))
    groups = _digits(n, base)
    whole = [_averaging(a * size, _largest_factors(a * size, base)) for _, a, size in groups]
    blockwise = [
        _averaging(a * size, _largest_factors(size, base)) if size > 1 else whole[l]
        for l, (_, a, size) in enumerate(groups)
    ]
    last, first_exchange = len(groups) - 1, len(whole[0])
    together = []
    for t in range(first_exchange + 1 + len(blockwise[0])):
        exchanging = t - first_exchange  # the group that meets all smaller ones in this round
        exchanges = []
        for l, (start, _, _) in enumerate(groups):
            if exchanging < 0:
                rounds, turn = whole[l], t
            elif l < exchanging or l == exchanging == last or exchanging > last:
                rounds, turn = blockwise[l], exchanging - l - (l < last)
            else:
                rounds = []
            if rounds:
                pairs, weights = rounds[turn % len(rounds)]
                exchanges.append((pairs + start, weights))
        if 0 <= exchanging < last:
            exchanges += _published_exchange(groups[exchanging:], base)
        together.append(_side_by_side(exchanges))
    return together


def _published_exchange(groups: Sequence[tuple[int, int, int]], base: int) -> list[Exchanges]:
    """What the first of these groups sends to the others, and those left over to each other."""
    start, blocks, size = groups[0]
    smaller = np.concatenate([np.arange(s, s + a * width) for s, a, width in groups[:0:-1]])
    block = start + size * np.arange(blocks)[:, None]
    partners = block + size - 1 - np.arange(len(smaller))
    pairs = np.stack([partners, np.broadcast_to(smaller, partners.shape)], axis=-1)
    weight = size / (blocks * size + len(smaller))
    exchanges = [(pairs.reshape(-1, 2), np.full(partners.size, weight))]
    idle = (block + np.arange(size - len(smaller))).ravel()
    for begin in range(0, len(idle) - 1, base):
        company = idle[begin : begin + base]
        a, b = np.triu_indices(len(company), k=1)
        among = np.stack([company[a], company[b]], axis=-1)
        exchanges.append((among, np.full(len(among), 1 / len(company))))
    return exchanges


def _side_by_side(exchanges: Sequence[Exchanges]) -> Exchanges:
    """One round of exchanges of workers that have no part in each other's."""
    return (
        np.concatenate([pairs for pairs, _ in exchanges]),
        np.concatenate([weights for _, weights in exchanges]),
    )


def _matrices(n: int, rounds: list[Exchanges]) -> tuple[csr_array, ...]:
    if not rounds:
        return (csr_array(np.ones((1, 1))),)
    workers = np.arange(n)
    matrices = []
    for pairs, weights in rounds:
        a, b = pairs.T
        diagonal = 1 - np.bincount(pairs.ravel(), weights=np.repeat(weights, 2), minlength=n)
        rows, columns = np.concatenate([a, b, workers]), np.concatenate([b, a, workers])
        values = np.concatenate([weights, weights, diagonal])
        matrices.append(csr_array((values, (rows, columns)), shape=(n, n)))
    return tuple(matrices)


# -- numbers ---------------------------------------------------------------------------------------


def _digits(n: int, base: int) -> list[tuple[int, int, int]]:
    """(start, a, base^p) for each digit a ≠ 0 of n, highest first; start is what stands before.

    >>> _digits(14, 3)
    [(0, 1, 9), (9, 1, 3), (12, 2, 1)]
    """
    size = 1
    while size * base <= n:
        size *= base
    groups, start = [], 0
    while start < n:
        blocks = (n - start) // size
        if blocks:
            groups.append((start, blocks, size))
        start += blocks * size
        size //= base
    return groups


def _smooth_part(n: int, largest: int) -> int:
    """The largest divisor of n all of whose prime factors are at most ``largest``.

    >>> _smooth_part(84, 3)
    12
    """
    rest = n
    for d in range(2, min(largest, n) + 1):
        while rest % d == 0:
            rest //= d
    return n // rest


def _fewest_factors(n: int, largest: int) -> tuple[int, ...]:
    """The fewest factors in 2 … ``largest`` whose product is n; among these the smallest sum.

    >>> _fewest_factors(72, 6), _fewest_factors(12, 6)
    ((3, 4, 6), (3, 4))
    """
    best: dict[int, tuple[int, ...]] = {1: ()}
    divisors = [d for d in range(2, n + 1) if n % d == 0]
    for product in divisors:
        candidates = [
            (*best[product // d], d)
            for d in divisors
            if d <= largest and product % d == 0 and product // d in best
        ]
        if candidates:
            best[product] = min(candidates, key=lambda f: (len(f), sum(f), f))
    return best[n]


def _largest_factors(n: int, largest: int) -> tuple[int, ...]:
    """Factors of n found by dividing by ``largest`` as long as it goes, then by the next smaller one.

    >>> _largest_factors(12, 6), _largest_factors(36, 12)
    ((2, 6), (3, 12))
    """
    factors = []
    for factor in range(min(n, largest), 1, -1):
        while n % factor == 0:
            factors.append(factor)
            n //= factor
    return tuple(factors[::-1])
