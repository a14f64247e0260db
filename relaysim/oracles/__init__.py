"""How a worker sees its gradient: exactly, with noise, or from a few examples.

An oracle is a frozen dataclass with ``observe(problem, streams)``, which returns the function that
a step calls for its gradients, and ``observe_events(problem, streams)``, which returns the
`EventGradients` of asynchronous methods. One with ``observe_samples(problem, streams, scratch)`` serves
methods that ask for gradients on examples by their numbers. ``streams`` says which replica draws from which
seed.
"""

from typing import TYPE_CHECKING, NoReturn

from relaysim.oracles.observed import EventGradients as EventGradients
from relaysim.oracles.observed import Exact, Gaussian, Minibatch
from relaysim.oracles.observed import Oracle as Oracle
from relaysim.oracles.observed import checked_gradient as checked_gradient
from relaysim.oracles.observed import has_examples as has_examples
from relaysim.oracles.table import Samples as Samples
from relaysim.oracles.table import Table
from relaysim.oracles.table import gives_samples as gives_samples
from relaysim.support.names import attribute_error

__all__ = ["Exact", "Gaussian", "Minibatch", "Table"]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
