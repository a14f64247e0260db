"""The table of all methods that the tests go through; a new method is a new row."""

import math

import pytest

import relaysim as rs

ALGORITHMS = (
    rs.algorithms.RelaySGD(),
    rs.algorithms.RelaySGD(unheard="previous"),
    rs.algorithms.RelaySGD(unheard="own"),
    rs.algorithms.RelaySGD(unheard="counts"),
    rs.algorithms.RelaySGD(momentum=0.8),
    rs.algorithms.RelaySGD(overlap=True),
    rs.algorithms.RelaySGD(overlap=True, unheard="own"),
    rs.algorithms.RelaySGD(overlap=True, unheard="counts"),
    rs.algorithms.RelaySGD(momentum=0.6, overlap=True, unheard="previous"),
    rs.algorithms.RelaySGDGrad(),
    rs.algorithms.RelaySGDGrad(momentum=0.8),
    rs.algorithms.RelaySGDGrad(overlap=True),
    rs.algorithms.RelaySGDGrad(momentum=0.5, overlap=True),
    rs.algorithms.RelaySGDMix(),
    rs.algorithms.RelaySGDMix(alpha=0.0),
    rs.algorithms.RelaySGDMix(alpha=1.0),
    rs.algorithms.RelaySGDMix(alpha=0.3, momentum=0.7),
    rs.algorithms.DPSGD(),
    rs.algorithms.DPSGD(momentum=0.9),
    rs.algorithms.DPSGD(overlap=True),
    rs.algorithms.DPSGD(momentum=0.5, overlap=True),
    rs.algorithms.DPSGD(consensus=0.4),
    rs.algorithms.DPSGD(overlap=True, consensus=0.4),
    rs.algorithms.DSGDAC(),
    rs.algorithms.DSGDAC(power=0),
    rs.algorithms.DSGDAC(power=1.5, start=4, floor=0.2),
    rs.algorithms.D2(),
    rs.algorithms.D2(form="scaled"),
    rs.algorithms.ExactDiffusion(),
    rs.algorithms.ExactDiffusion(form="scaled"),
    rs.algorithms.NIDS(),
    rs.algorithms.LED(period=3),
    rs.algorithms.KGT(period=2, rate=0.6),
    rs.algorithms.ProxSkip(probability=0.4),
    rs.algorithms.DLM(penalty=0.5),
    rs.algorithms.ADMM(),
    rs.algorithms.Scaffold(period=3),
    rs.algorithms.Scaffold(period=2, participation=0.4),
    rs.algorithms.GradientTracking(),
    rs.algorithms.GradientTracking(form="diging", momentum=0.6),
    rs.algorithms.QuasiGlobalMomentum(),
    rs.algorithms.QuasiGlobalMomentum(momentum=0.4),
    rs.algorithms.QuasiGlobalMomentum(form="toy"),
    rs.algorithms.QuasiGlobalMomentum(momentum=0.4, form="toy"),
    rs.algorithms.SGP(),
    rs.algorithms.SGP(rounds=1),
    rs.algorithms.SGP(rounds=3),
    rs.algorithms.SGP(rounds=2, network="topology"),
    rs.algorithms.PushDIGing(),
    rs.algorithms.PushPull(),
    rs.algorithms.AllReduce(),
    rs.algorithms.AllReduce(momentum=0.9),
    rs.algorithms.AllReduce(count="all-to-all"),
    rs.algorithms.EXTRA(),
    rs.algorithms.DecentLaM(momentum=0.5),
    rs.algorithms.DecentLaM(momentum=0.0),
    rs.algorithms.MomentumConsensus(momentum=0.6, omega=0.4),
    rs.algorithms.MomentumConsensus(momentum=0.6, omega=0.0),
    rs.algorithms.HeavyBallConsensus(momentum=0.4),
    rs.algorithms.Mudag(strong_convexity=0.1),
    rs.algorithms.DelayedGradient(delay=0),
    rs.algorithms.DelayedGradient(delay=3),
    rs.algorithms.LocalSGD(period=1),
    rs.algorithms.LocalSGD(period=4),
    rs.algorithms.LocalSGD(period=4, count="all-to-all"),
    rs.algorithms.LocalSGD(period=4, falls_to=0.9),
    rs.algorithms.LocalSGD(period=2, growth=2, tolerance=0.2, falls_to=0.3),
    rs.algorithms.FedAvg(local_steps=4),
    rs.algorithms.FedAvg(local_steps=1, weights="equal"),
    rs.algorithms.FedAvg(local_steps=2, participation=0.4),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), target=0.1),
    rs.algorithms.ConsensusControl(rs.algorithms.D2(), target=((0, 0.3), (10, 0.01))),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(momentum=0.5), rs.algorithms.Critical(1.0)),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), rs.algorithms.Critical(1.0, sigma2=0.5)),
    rs.algorithms.ConsensusControl(
        rs.algorithms.DPSGD(), rs.algorithms.Critical(1.0), most_rounds=2
    ),
    rs.algorithms.ConsensusControl(rs.algorithms.D2(), target=0.1, most_rounds=3),
    rs.algorithms.SingleMerge(merge_at=4, probability=0.5),
    rs.algorithms.SingleMerge(merge_at=4, probability=0.7, local_steps=3),
    rs.algorithms.SingleMerge(merge_at=4, probability=0.7, count="all-to-all"),
    rs.algorithms.DynamicAveraging(threshold=0.0),
    rs.algorithms.DynamicAveraging(threshold=2.0),
    rs.algorithms.DynamicAveraging(threshold=0.3, period=4),
    rs.algorithms.ChocoSGD(rs.compressors.TopK(2), consensus_rate=0.3),
    rs.algorithms.ChocoSGD(rs.compressors.RandomK(2), consensus_rate=0.2),
    rs.algorithms.ChocoSGD(rs.compressors.Sign(), consensus_rate=0.2),
    rs.algorithms.ChocoSGD(rs.compressors.QSGD(15), consensus_rate=0.3),
    rs.algorithms.ChocoSGD(rs.compressors.Identity(), consensus_rate=1.0),
    rs.algorithms.LocalRates(switch=6),
    rs.algorithms.LocalRates(switch=None, count="all-to-all"),
    rs.algorithms.LocalRates(switch=6, gossip=True),
    rs.algorithms.AdaGossip(rs.compressors.TopK(2), consensus_rate=0.05),
    rs.algorithms.AdaGossip(rs.compressors.QSGD(15), consensus_rate=0.1, beta=0.9),
    rs.algorithms.LEAD(rs.compressors.Identity(), consensus_rate=0.7),
    rs.algorithms.LEAD(rs.compressors.RandomRounding(2), consensus_rate=0.2),
    rs.algorithms.BEER(rs.compressors.RandomK(2), consensus_rate=0.6),
    rs.algorithms.DecentralizedAdam(),
    rs.algorithms.DecentralizedAdam(beta1=0.5, beta2=0.8, epsilon=0.1, accumulate=3),
    rs.algorithms.NormalizedTracking(),
    rs.algorithms.NormalizedTracking(momentum=0.5),
    rs.algorithms.Cesar(share=0.6),
    rs.algorithms.Cesar(share=0.4, neighbours=0),
    rs.algorithms.GossipPGA(period=4),
    rs.algorithms.Muffliato(noise=0.0, rounds=3, weight=1.2),
    rs.algorithms.ClippedGossip(),
    rs.algorithms.TrimmedMean(trim=1),
    rs.algorithms.PowerGossip(),
    rs.algorithms.PowerGossip(rank=2),
    rs.algorithms.PowerGossip(iterations=2),
    rs.algorithms.PowerGossip(warm_start=False),
    rs.algorithms.PowerGossip(rank=2, iterations=3, warm_start=False),
)

#: Those that communicate as chance or the data have it.
OCCASIONAL = (
    rs.algorithms.SingleMerge,
    rs.algorithms.DynamicAveraging,
    rs.algorithms.ConsensusControl,
    rs.algorithms.FedAvg,
)
#: Those that mix in some steps only, so that news may wait.
SELDOM = (rs.algorithms.LED, rs.algorithms.KGT, rs.algorithms.ProxSkip)
#: Those that are stable at any learning rate.
ALWAYS_STABLE = (rs.algorithms.ADMM,)
#: Those that send nothing in their first step.
ALONE_AT_FIRST = (rs.algorithms.NIDS,)
#: Those whose steps do not become shorter near an optimum: each is divided by its gradients' size.
RESCALED = (rs.algorithms.DecentralizedAdam, rs.algorithms.NormalizedTracking)
#: Those that divide by what tends to 0, so that rounding errors grow in a long run.
SENSITIVE = (rs.algorithms.AdaGossip, rs.algorithms.NormalizedTracking, rs.algorithms.LEAD)
#: Those that leave out some of what they hear.
DISCARDING = (rs.algorithms.TrimmedMean,)
#: Those whose step is an affine map of their state on quadratics.
AFFINE = tuple(algorithm for algorithm in ALGORITHMS if algorithm.affine)
#: Those that ask for gradients on examples by their numbers; `tests/test_variance.py` goes through them.
BY_NUMBER = (
    rs.algorithms.GTSAGA(),
    rs.algorithms.GTSARAH(period=5),
    rs.algorithms.GTSVRG(period=5),
)
#: Those that are events in continuous time; `tests/test_events.py` goes through them.
ASYNCHRONOUS = (
    rs.algorithms.A2CiD2(),
    rs.algorithms.A2CiD2(rate=2.5),
    rs.algorithms.A2CiD2(accelerated=False),
    rs.algorithms.A2CiD2(momentum_rate=0.7),
    rs.algorithms.DADAO(condition=20.0),
    rs.algorithms.SwarmSGD(),
    rs.algorithms.SwarmSGD(local_steps=3),
    rs.algorithms.SwarmSGD(local_steps=2.5, geometric=True),
    rs.algorithms.SwarmSGD(local_steps=2, blocking=False),
    rs.algorithms.SwarmSGD(local_steps=1.5, blocking=False, geometric=True),
    rs.algorithms.SwarmSGD(quantizer=rs.compressors.Lattice(spacing=0.1)),
    rs.algorithms.SwarmSGD(2, blocking=False, quantizer=rs.compressors.Lattice(0.2, levels=100)),
    rs.algorithms.SwarmSGD(quantizer=rs.compressors.Lattice(0.1, rounding="nearest")),
    rs.algorithms.SwarmSGD(2, False, rs.compressors.Lattice(0.2, 100, rounding="nearest")),
)


def each_class(algorithms):
    """Parameters of what takes long: the first setting of each class, and the others as slow tests."""
    seen, found = set(), []
    for algorithm in algorithms:
        marks = pytest.mark.slow if type(algorithm) in seen else ()
        seen.add(type(algorithm))
        found.append(pytest.param(algorithm, id=repr(algorithm), marks=marks))
    return found


def in_turn(algorithm, mixing):
    """The sequence, each matrix as often as a method needs that sends every K steps, or uses two a step."""
    if isinstance(algorithm, rs.algorithms.PushPull):
        return [W for W in mixing for _ in range(2)]
    every = algorithm.sends_every or 1
    return [W for W in mixing for _ in range(every)] if math.gcd(every, len(mixing)) > 1 else mixing
