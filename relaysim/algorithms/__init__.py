"""Update rules, each a frozen dataclass of hyper-parameters; see `relaysim.algorithms.base`."""

from relaysim.algorithms.compressed import ChocoSGD
from relaysim.algorithms.control import ConsensusControl, Critical
from relaysim.algorithms.corrected import D2, EXTRA, ExactDiffusion, GradientTracking
from relaysim.algorithms.delayed import DelayedGradient
from relaysim.algorithms.global_average import SGP, AllReduce, LocalSGD
from relaysim.algorithms.gossip import DPSGD, QuasiGlobalMomentum
from relaysim.algorithms.heavy_ball import DecentLaM, MomentumConsensus
from relaysim.algorithms.occasional import DynamicAveraging, SingleMerge
from relaysim.algorithms.power_gossip import PowerGossip
from relaysim.algorithms.relay import RelaySGD, RelaySGDGrad, RelaySGDMix

__all__ = [
    "D2",
    "DPSGD",
    "EXTRA",
    "SGP",
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
]
