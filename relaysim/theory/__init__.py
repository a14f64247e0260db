"""What can be computed without simulating; each function names its source."""

from relaysim.theory.linear import Linearization, linearize
from relaysim.theory.relaysum import correction_factor, key_lemma, perron_vector, relay_matrix
from relaysim.theory.stability import (
    BestRate,
    best_learning_rate,
    max_learning_rate,
    stable_learning_rates,
)

__all__ = [
    "BestRate",
    "Linearization",
    "best_learning_rate",
    "correction_factor",
    "key_lemma",
    "linearize",
    "max_learning_rate",
    "perron_vector",
    "relay_matrix",
    "stable_learning_rates",
]
