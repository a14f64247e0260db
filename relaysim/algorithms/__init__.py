"""Update rules, each a frozen dataclass of hyper-parameters; see `relaysim.algorithms.base`."""

from relaysim.algorithms.corrected import D2, ExactDiffusion, GradientTracking
from relaysim.algorithms.global_average import SGP, AllReduce
from relaysim.algorithms.gossip import DPSGD, QuasiGlobalMomentum
from relaysim.algorithms.relay import RelaySGD, RelaySGDGrad, RelaySGDMix

__all__ = [
    "D2",
    "DPSGD",
    "SGP",
    "AllReduce",
    "ExactDiffusion",
    "GradientTracking",
    "QuasiGlobalMomentum",
    "RelaySGD",
    "RelaySGDGrad",
    "RelaySGDMix",
]
