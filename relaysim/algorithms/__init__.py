"""Update rules, each a frozen dataclass of hyper-parameters.

See `relaysim.algorithms.base` for the protocol, and `relaysim.algorithms.events` for asynchronous methods.
"""

from relaysim.algorithms.acid import A2CiD2
from relaysim.algorithms.checking import check as check  # what __all__ lists are methods
from relaysim.algorithms.compressed import ChocoSGD
from relaysim.algorithms.control import ConsensusControl, Critical
from relaysim.algorithms.corrected import D2, EXTRA, ExactDiffusion, GradientTracking
from relaysim.algorithms.delayed import DelayedGradient
from relaysim.algorithms.global_average import SGP, AllReduce, LocalSGD
from relaysim.algorithms.gossip import DPSGD, QuasiGlobalMomentum
from relaysim.algorithms.heavy_ball import DecentLaM, MomentumConsensus
from relaysim.algorithms.infrequent import DynamicAveraging, SingleMerge
from relaysim.algorithms.power_gossip import PowerGossip
from relaysim.algorithms.relay import RelaySGD, RelaySGDGrad, RelaySGDMix
from relaysim.algorithms.swarm import SwarmSGD

__all__ = [
    "D2",
    "DPSGD",
    "EXTRA",
    "SGP",
    "A2CiD2",
    "AllReduce",
    "ChocoSGD",
    "ConsensusControl",
    "Critical",
    "DecentLaM",
    "DelayedGradient",
    "DynamicAveraging",
    "ExactDiffusion",
    "GradientTracking",
    "LocalSGD",
    "MomentumConsensus",
    "PowerGossip",
    "QuasiGlobalMomentum",
    "RelaySGD",
    "RelaySGDGrad",
    "RelaySGDMix",
    "SingleMerge",
    "SwarmSGD",
]
