"""What can be computed without simulating; each function names its source."""

from relaysim.theory.relaysum import correction_factor, key_lemma, perron_vector, relay_matrix

__all__ = ["correction_factor", "key_lemma", "perron_vector", "relay_matrix"]
