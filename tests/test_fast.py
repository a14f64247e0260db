"""Compiled loops: every bit is that of NumPy's passes, and nothing needs them."""

import importlib.util

import numpy as np
import pytest

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, GradientTracking, RelaySGD
from relaysim.support import fast, kernels

RUNS = (
    (RelaySGD(), rs.topologies.chain(7)),
    (RelaySGD(), rs.topologies.binary_tree(9)),
    (RelaySGD(), rs.topologies.star(12)),  # added up by a product
    (RelaySGD(overlap=True), rs.topologies.double_binary_tree(6)),
    (RelaySGD(), rs.topologies.chain(1)),  # no edges
    (D2(), rs.topologies.ring(1)),
    (DPSGD(), rs.topologies.chain(30)),
    (D2(), rs.topologies.ring(30)),
    (GradientTracking(), rs.topologies.binary_tree(30)),
)
PLAIN = fast.Compiled(**kernels.KERNELS)


@pytest.fixture
def loaded(monkeypatch):
    """A function that lets runs use these loops, or none."""
    monkeypatch.delenv("RELAYSIM_FAST", raising=False)
    return lambda which: monkeypatch.setattr(fast, "_loaded", which)


def histories(steps, replicas):
    for algorithm, topology in RUNS:
        zeta2 = float(topology.n > 1)
        problem = rs.problems.random_quadratics(n=topology.n, d=4, zeta2=zeta2, seed=0)
        rates = np.linspace(0.01, 0.1, replicas) if replicas > 1 else 0.1
        yield rs.simulate(problem, topology, algorithm, learning_rate=rates, steps=steps)


def same_bits(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.frame.to_numpy(), other.frame.to_numpy())


@pytest.mark.parametrize("replicas", [1, 10])
def test_loops_give_every_bit_of_the_passes_that_they_stand_for(loaded, replicas):
    loaded(None)
    expected = list(histories(3, replicas))
    calls = dict.fromkeys(kernels.KERNELS, 0)

    def counted(name):
        def call(*arrays):
            calls[name] += 1
            kernels.KERNELS[name](*arrays)

        return call

    loaded(fast.Compiled(**{name: counted(name) for name in kernels.KERNELS}))
    for one, other in zip(histories(3, replicas), expected, strict=True):
        same_bits(one, other)
    few = {"relay"} if replicas == 1 else set(kernels.KERNELS)
    assert few <= {name for name, count in calls.items() if count}


def test_spreads_of_a_large_record_are_summed_up_block_by_block(loaded):
    problem = rs.problems.random_quadratics(n=3000, d=2, zeta2=1.0, seed=0)
    iterates = np.random.default_rng(0).normal(size=(1, 3000, 2, 7))
    found = []
    for which in (None, PLAIN):
        loaded(which)
        block = rs.measures.block.Block(problem, iterates)
        found.append((block.consensus_distance, block.mean))
    for expected, got in zip(*found, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_what_is_not_installed_is_not_missed(monkeypatch, loaded):
    loaded(None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fast._compile.cache_clear()
    fast.load_for(1e12)
    fast._compile.cache_clear()
    assert fast.compiled() is None


def test_only_long_runs_load_anything(monkeypatch, loaded):
    loaded(None)
    monkeypatch.setattr(fast, "_compile", lambda: PLAIN)
    fast.load_for(1e6)
    assert fast.compiled() is None
    fast.load_for(1e9)
    assert fast.compiled() is PLAIN
    monkeypatch.setenv("RELAYSIM_FAST", "never")
    fast.load_for(1e9)
    assert fast.compiled() is None
    monkeypatch.setenv("RELAYSIM_FAST", "always")
    fast.load_for(1)
    assert fast.compiled() is PLAIN


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 10])
def test_compiled_loops_give_every_bit(loaded, replicas):
    pytest.importorskip("numba")
    loaded(None)
    expected = list(histories(60, replicas))
    loaded(fast._compile())
    for one, other in zip(histories(60, replicas), expected, strict=True):
        same_bits(one, other)
