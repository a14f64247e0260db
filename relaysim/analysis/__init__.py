"""What runs say: consensus, rates, comparisons, sensitivity, how information spreads, how long it takes."""

from typing import TYPE_CHECKING, NoReturn

from relaysim.analysis.citing import Citations, cite
from relaysim.analysis.consensus import ConsensusDecay, consensus_decay, consensus_distance
from relaysim.analysis.power_laws import Exponent, power_law
from relaysim.analysis.rates import Fit, fit_decay, fit_rate
from relaysim.analysis.sensitivity import Sensitivity, heterogeneity_sensitivity
from relaysim.analysis.spread import relay_animation
from relaysim.analysis.tables import compare, latex, markdown
from relaysim.support.names import attribute_error
from relaysim.theory.running_time import (
    Constant,
    Exponential,
    LogNormal,
    Pareto,
    Runtime,
    Stragglers,
    runtime,
)

__all__ = [
    "Citations",
    "ConsensusDecay",
    "Constant",
    "Exponent",
    "Exponential",
    "Fit",
    "LogNormal",
    "Pareto",
    "Runtime",
    "Sensitivity",
    "Stragglers",
    "cite",
    "compare",
    "consensus_decay",
    "consensus_distance",
    "fit_decay",
    "fit_rate",
    "heterogeneity_sensitivity",
    "latex",
    "markdown",
    "power_law",
    "relay_animation",
    "runtime",
]


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
