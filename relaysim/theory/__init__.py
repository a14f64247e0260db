"""What can be computed without simulating; each function names its source.

`bounds` has one function a theorem.
"""

from typing import TYPE_CHECKING, NoReturn

from relaysim.mixing.clocks import acceleration_constants
from relaysim.problems.workers import local_smoothness
from relaysim.support.names import attribute_error
from relaysim.theory import bounds
from relaysim.theory.asynchronous import asynchronous_consensus, asynchronous_decay
from relaysim.theory.bounds.powers import MapConstants, map_constants
from relaysim.theory.d2_limits import (
    d2_rates,
    d2_smallest_eigenvalue,
    d2_spectral_radius,
    exact_diffusion_rates,
)
from relaysim.theory.known_losses import expected_mixing
from relaysim.theory.linear import Linearization, linearize
from relaysim.theory.maps import RateMap
from relaysim.theory.maps import rate_map as map
from relaysim.theory.mean_square import MeanSquare, mean_square, mean_square_rate
from relaysim.theory.mixing_gap import spectral_gap
from relaysim.theory.noise_averaging import effective_neighbors
from relaysim.theory.overlay import Overlay, overlay
from relaysim.theory.relay_under_faults import RelayUnderFaults, relay_under_faults
from relaysim.theory.relaysum import (
    correction_factor,
    key_lemma,
    perron_vector,
    relay_gap,
    relay_matrix,
)
from relaysim.theory.split_features import cocoa_generalization
from relaysim.theory.stability import (
    BestRate,
    best_learning_rate,
    max_learning_rate,
    stable_learning_rates,
)
from relaysim.theory.toy_problem import toy_rate, toy_rate_exact, toy_zeta
from relaysim.theory.under_faults import UnderFaults, under_faults
from relaysim.theory.worst_case_curve import WorstCaseCurve, worst_case_curve
from relaysim.theory.worst_cases import Certificate, WorstCase, worst_case

__all__ = [
    "BestRate",
    "Certificate",
    "Linearization",
    "MapConstants",
    "MeanSquare",
    "Overlay",
    "RateMap",
    "RelayUnderFaults",
    "UnderFaults",
    "WorstCase",
    "WorstCaseCurve",
    "acceleration_constants",
    "asynchronous_consensus",
    "asynchronous_decay",
    "best_learning_rate",
    "bounds",
    "cocoa_generalization",
    "correction_factor",
    "d2_rates",
    "d2_smallest_eigenvalue",
    "d2_spectral_radius",
    "effective_neighbors",
    "exact_diffusion_rates",
    "expected_mixing",
    "key_lemma",
    "linearize",
    "local_smoothness",
    "map",
    "map_constants",
    "max_learning_rate",
    "mean_square",
    "mean_square_rate",
    "overlay",
    "perron_vector",
    "relay_gap",
    "relay_matrix",
    "relay_under_faults",
    "spectral_gap",
    "stable_learning_rates",
    "toy_rate",
    "toy_rate_exact",
    "toy_zeta",
    "under_faults",
    "worst_case",
    "worst_case_curve",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
