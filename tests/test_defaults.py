"""What options are where nobody gives them: files and stored keys leave them out, so they may not change."""

import dataclasses

import relaysim as rs

DEFAULTS = {
    "Mudag": "rounds=None, strong_convexity=None",
    "A2CiD2": "rate=1.0, accelerated=True, momentum_rate=None",
    "DecentralizedAdam": "beta1=0.9, beta2=0.999, epsilon=1e-08, accumulate=1",
    "NormalizedTracking": "momentum=0.0",
    "BEER": "consensus_rate=0.1",
    "LEAD": "consensus_rate=1.0, alpha=0.5",
    "AdaGossip": "consensus_rate=0.1, beta=0.999",
    "ChocoSGD": "consensus_rate=0.1",
    "ConsensusControl": "most_rounds=1000",
    "Critical": "sigma2=0.0",
    "D2": "form='own'",
    "ExactDiffusion": "form='own'",
    "GradientTracking": "form='next', momentum=0.0",
    "DelayedGradient": "delay=1",
    "DSGDAC": "power=3.0, start=0, floor=0.0",
    "AllReduce": "momentum=0.0, count='ring'",
    "FedAvg": "local_steps=10, participation=1.0, weights='examples'",
    "LocalSGD": "period=10, count='ring', growth=1, tolerance=0.01, falls_to=1.0",
    "DPSGD": "momentum=0.0, overlap=False, consensus=1.0",
    "GossipPGA": "period=8, count='ring'",
    "QuasiGlobalMomentum": "momentum=0.9, form='paper'",
    "DecentLaM": "momentum=0.9",
    "HeavyBallConsensus": "momentum=None",
    "MomentumConsensus": "momentum=0.9, omega=0.5",
    "DynamicAveraging": "period=1",
    "SingleMerge": "probability=0.2, local_steps=1, count='ring'",
    "LocalRates": "gossip=False, count='ring'",
    "KGT": "period=5, rate=1.0",
    "LED": "period=5",
    "ProxSkip": "probability=0.2",
    "Scaffold": "period=5, participation=1.0",
    "ADMM": "relaxation=0.5",
    "DLM": "penalty=1.0",
    "PowerGossip": "rank=1, iterations=1, warm_start=True, rows=None",
    "Muffliato": "noise=1.0, rounds=1, weight=1.0",
    "SGP": "rounds=2, network='exponential'",
    "RelaySGD": "momentum=0.0, overlap=False, unheard='initial', repair=None",
    "RelaySGDGrad": "momentum=0.0, overlap=False",
    "RelaySGDMix": "alpha=0.5, momentum=0.0",
    "ClippedGossip": "radius=None",
    "TrimmedMean": "trim=1",
    "Cesar": "share=0.1, neighbours=1",
    "SwarmSGD": "local_steps=1, blocking=True, quantizer=None, geometric=False",
    "GTSAGA": "refresh='used'",
    "GTSARAH": "period=10",
    "GTSVRG": "period=10",
    "QSGD": "levels=15",
    "Lattice": "levels=256, rounding='stochastic'",
    "RandomRounding": "levels=2",
    "Byzantine": "attack='sign flip'",
    "Corrupt": "form='value', scale=1.0",
    "Crash": "repair=0.0, state='kept', workers=None",
    "Delay": "most=1, ordered=True",
    "Straggler": "late=0, workers=None",
    "Minibatch": "sampling='with replacement'",
    "Table": "size=1, sampling='with replacement'",
    "Cosine": "warmup=0",
    "PerWorker": "scale=1.0",
}


def test_what_is_left_out_means_what_it_always_did():
    """An option that came later is no change; give it a place in the table."""
    modules = (rs.algorithms, rs.compressors, rs.faults, rs.oracles, rs.schedules)
    kinds = {name: getattr(module, name) for module in modules for name in module.__all__}
    for name, text in DEFAULTS.items():
        found = {f"{option.name}={option.default!r}" for option in dataclasses.fields(kinds[name])}
        assert set(text.split(", ")) <= found, name
