"""Gossip matrices: the weights with which workers average what their neighbours send.

W_ij is the weight that worker i gives to what j sent; rows sum to one, or columns for methods that push their
mass on (`column_stochastic`). One matrix, or a sequence W_0, W_1, … of which step t uses number t modulo its
length, any callable of the step that gives a matrix, or what draws one for each step and replica, see
`relaysim.mixing.drawn`. Matrices are `scipy.sparse.csr_array`; that of `with_spectral_gap` is dense, and
those of `fast_mix` and `chebyshev` stand for several rounds, and know what these send.
"""

from typing import TYPE_CHECKING, NoReturn

from relaysim.mixing.accelerated import chebyshev, fast_mix
from relaysim.mixing.approximate import laplacian_sequence, perturbed
from relaysim.mixing.by_step import LatticeSchedule, lattice_schedule
from relaysim.mixing.drawn import epidemic, equidyn
from relaysim.mixing.exponential import one_peer_exponential
from relaysim.mixing.finite_time import (
    base_graph,
    hyper_hypercube,
    simple_base_graph,
    union_topology,
)
from relaysim.mixing.matcha import matcha
from relaysim.mixing.matching import random_matching
from relaysim.mixing.one_way import column_stochastic, row_stochastic
from relaysim.mixing.weights import (
    best_constant,
    lazy,
    max_degree,
    metropolis,
    uniform,
    with_spectral_gap,
)
from relaysim.support.names import attribute_error

__all__ = [
    "LatticeSchedule",
    "base_graph",
    "best_constant",
    "chebyshev",
    "column_stochastic",
    "epidemic",
    "equidyn",
    "fast_mix",
    "hyper_hypercube",
    "laplacian_sequence",
    "lattice_schedule",
    "lazy",
    "matcha",
    "max_degree",
    "metropolis",
    "one_peer_exponential",
    "perturbed",
    "random_matching",
    "row_stochastic",
    "simple_base_graph",
    "uniform",
    "union_topology",
    "with_spectral_gap",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
