"""The table of all methods that the tests go through; a new method is a new row."""

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
    rs.algorithms.D2(),
    rs.algorithms.ExactDiffusion(),
    rs.algorithms.GradientTracking(),
    rs.algorithms.QuasiGlobalMomentum(),
    rs.algorithms.QuasiGlobalMomentum(momentum=0.4),
    rs.algorithms.SGP(),
    rs.algorithms.SGP(rounds=1),
    rs.algorithms.SGP(rounds=3),
    rs.algorithms.AllReduce(),
    rs.algorithms.AllReduce(momentum=0.9),
    rs.algorithms.EXTRA(),
    rs.algorithms.DecentLaM(momentum=0.5),
    rs.algorithms.DecentLaM(momentum=0.0),
    rs.algorithms.MomentumConsensus(momentum=0.6, omega=0.4),
    rs.algorithms.MomentumConsensus(momentum=0.6, omega=0.0),
    rs.algorithms.DelayedGradient(delay=0),
    rs.algorithms.DelayedGradient(delay=3),
    rs.algorithms.LocalSGD(period=1),
    rs.algorithms.LocalSGD(period=4),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), target=0.1),
    rs.algorithms.ConsensusControl(rs.algorithms.D2(), target=((0, 0.3), (10, 0.01))),
    rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(momentum=0.5), rs.algorithms.Critical(1.0)),
    rs.algorithms.SingleMerge(merge_at=20, probability=0.5),
    rs.algorithms.SingleMerge(merge_at=7, probability=0.7, local_steps=3),
    rs.algorithms.DynamicAveraging(threshold=1.0),
    rs.algorithms.DynamicAveraging(threshold=0.3, period=4),
    rs.algorithms.ChocoSGD(rs.compressors.TopK(2), consensus_rate=0.3),
    rs.algorithms.ChocoSGD(rs.compressors.RandomK(2), consensus_rate=0.2),
    rs.algorithms.ChocoSGD(rs.compressors.Sign(), consensus_rate=0.2),
    rs.algorithms.ChocoSGD(rs.compressors.QSGD(15), consensus_rate=0.3),
    rs.algorithms.ChocoSGD(rs.compressors.Identity(), consensus_rate=1.0),
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
)
#: Those whose step is an affine map of their state on quadratics.
AFFINE = tuple(
    algorithm
    for algorithm in ALGORITHMS
    if isinstance(getattr(algorithm, "compressor", None), rs.compressors.Identity | None)
    and not isinstance(algorithm, (*OCCASIONAL, rs.algorithms.PowerGossip))
)
#: Those that are events in continuous time; `tests/test_events.py` goes through them.
ASYNCHRONOUS = (
    rs.algorithms.A2CiD2(),
    rs.algorithms.A2CiD2(rate=2.5),
    rs.algorithms.A2CiD2(accelerated=False),
    rs.algorithms.A2CiD2(momentum_rate=0.7),
    rs.algorithms.SwarmSGD(),
    rs.algorithms.SwarmSGD(local_steps=3),
    rs.algorithms.SwarmSGD(local_steps=2.5, geometric=True),
    rs.algorithms.SwarmSGD(local_steps=2, blocking=False),
    rs.algorithms.SwarmSGD(local_steps=1.5, blocking=False, geometric=True),
    rs.algorithms.SwarmSGD(quantizer=rs.compressors.Lattice(spacing=0.1)),
    rs.algorithms.SwarmSGD(2, blocking=False, quantizer=rs.compressors.Lattice(0.2, levels=100)),
)
