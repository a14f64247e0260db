"""Sequences of sparse matrices on exponential graphs."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from relaysim.support.checks import whole_number

__all__ = ["one_peer_exponential"]


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
