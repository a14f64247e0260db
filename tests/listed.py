"""Methods whose steps are fixed lists of operations, and short runs of them."""

import numpy as np

import relaysim as rs
from relaysim import algorithms as known
from relaysim import measures
from relaysim.engine.plan import plan_replicas
from relaysim.engine.run import Run
from relaysim.engine.setup import Setup

#: Methods whose steps are lists of operations, with a graph on which they run.
TREES = (rs.topologies.chain(7), rs.topologies.star(6), rs.topologies.binary_tree(6))
GRAPHS = (rs.topologies.ring(6), rs.topologies.chain(1))
LISTED = (
    *((known.RelaySGD(**options), tree) for tree in TREES for options in ({}, {"momentum": 0.5})),
    *((known.RelaySGD(unheard=each), TREES[0]) for each in ("previous", "own", "counts")),
    (known.RelaySGD(overlap=True), TREES[2]),
    (known.RelaySGDGrad(), TREES[2]),
    (known.RelaySGDMix(), TREES[0]),
    (known.DPSGD(), GRAPHS[0]),
    (known.DPSGD(), GRAPHS[1]),
    (known.DPSGD(momentum=0.5, overlap=True, consensus=0.5), GRAPHS[0]),
    (known.D2(), GRAPHS[0]),
    (known.ExactDiffusion(form="scaled"), GRAPHS[0]),
    *((known.GradientTracking(form), GRAPHS[0]) for form in ("next", "diging", "atc")),
    (known.EXTRA(), GRAPHS[0]),
    (known.NIDS(), GRAPHS[0]),
    (known.AllReduce(), GRAPHS[0]),
    (known.QuasiGlobalMomentum(), GRAPHS[0]),
    (known.DecentLaM(), GRAPHS[0]),
    (known.DLM(), GRAPHS[0]),
)


def quadratics(n, d=3):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=float(n > 1), seed=0)


def diagonal(n, d=3):
    generator = np.random.default_rng(0)
    return rs.problems.DiagonalQuadratic(
        generator.uniform(0.2, 1, (n, d)), generator.normal(size=(n, d))
    )


def run(algorithm, topology, problem=None, replicas=1, **options):
    problem = quadratics(topology.n) if problem is None else problem
    rates = 0.1 if replicas == 1 else np.linspace(0.01, 0.1, replicas)
    given = {"learning_rate": rates, "steps": 12} | options
    return rs.simulate(problem, topology, algorithm, **given)


def same_bits(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.frame.to_numpy(), other.frame.to_numpy())


def measured(method, topology, names, resumable, leaves=None):
    """Columns of a run of two stretches, of some ready measures; and the run."""
    plan = plan_replicas(np.linspace(0.01, 0.1, 5), 0, None, None, 60)
    setup = Setup(quadratics(topology.n), topology, method, plan)
    of = tuple(measures.READY[name] for name in names)
    run = Run(setup, measures=of, resumable=resumable)
    run.advance(range(31))
    if leaves is not None:
        run.drop(np.arange(5) == leaves)
    run.advance(range(31, 61, 3))
    return [run.column(name) for name in names], run
