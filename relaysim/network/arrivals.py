"""What the network asks of faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Arrivals"]

# From a number of messages to 1 for those that arrive and 0 for the others, (messages, 1[, r]).
Arrivals = Callable[[int], np.ndarray]
