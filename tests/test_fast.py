"""Compiled steps: the numbers of the rule's own step, whatever is computed beside them."""

import dataclasses
import importlib.util
from concurrent.futures import Future

import numpy as np
import pytest

import relaysim as rs
from relaysim import algorithms as known
from relaysim.engine import program, recording, rounds
from relaysim.measures.block import Block
from relaysim.support import fast, loops

#: Methods whose steps are compiled, with a graph on which they run.
TREES = (rs.topologies.chain(7), rs.topologies.star(6), rs.topologies.binary_tree(6))
GRAPHS = (rs.topologies.ring(6), rs.topologies.chain(1))
COMPILED = (
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


@pytest.fixture
def steps(monkeypatch):
    """Compiled steps, or the same loops as plain Python where there is no Numba; notes who takes them."""
    monkeypatch.delenv("RELAYSIM_FAST", raising=False)
    monkeypatch.setattr(fast, "_is_installed", lambda: True)
    monkeypatch.setattr(program, "MOST_LANES", 3)
    monkeypatch.setattr(program, "LEAST_LANES", 2)
    taken = []

    class Noted(program.Program):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            taken.append(self)

    monkeypatch.setattr(rounds, "Program", Noted)
    yield taken
    fast._load.cache_clear()


@pytest.fixture
def without(monkeypatch):
    """What is computed without them."""

    def found(run):
        with monkeypatch.context() as context:
            context.setenv("RELAYSIM_FAST", "never")
            return run()

    return found


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


def close(one, other):
    largest = np.abs(other.x).max()
    np.testing.assert_allclose(one.x, other.x, rtol=0, atol=1e-13 * largest)
    numbers = [frame.select_dtypes("number").to_numpy() for frame in (one.frame, other.frame)]
    np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-13 * largest**2)


def same_bits(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.frame.to_numpy(), other.frame.to_numpy())


@pytest.mark.parametrize(("algorithm", "topology"), COMPILED, ids=repr)
@pytest.mark.parametrize("problem", [quadratics, diagonal])
def test_compiled_steps_are_those_of_the_rule(steps, without, algorithm, topology, problem):
    for replicas in (1, 7):  # three lanes, of which two are left over
        setting = {"problem": problem(topology.n), "replicas": replicas}
        found = run(algorithm, topology, **setting)
        assert steps
        close(found, without(lambda s=setting: run(algorithm, topology, **s)))
        steps.clear()


@pytest.mark.parametrize("algorithm", [known.RelaySGD(), known.QuasiGlobalMomentum()], ids=repr)
def test_a_replica_has_the_bits_of_its_run_alone(steps, algorithm):
    tree = TREES[0]
    grid = run(algorithm, tree, replicas=7)
    for k, rate in enumerate(np.linspace(0.01, 0.1, 7)):
        alone = run(algorithm, tree, learning_rate=rate)
        np.testing.assert_array_equal(grid.x[..., k], alone.x)
        of_grid = grid.frame[grid.frame.replica == k].drop(columns="replica").to_numpy()
        np.testing.assert_array_equal(of_grid, alone.frame.drop(columns="replica").to_numpy())
    assert len(steps) >= 8


@pytest.mark.parametrize("replicas", [1, 4])
@pytest.mark.parametrize("steps_before", [0, 1, 3, 6, 9])
def test_a_run_that_is_extended_has_the_bits_of_one_that_is_not(steps, replicas, steps_before):
    method, tree = known.RelaySGD(), TREES[0]
    whole = run(method, tree, replicas=replicas)
    first = run(method, tree, replicas=replicas, steps=steps_before, keep_state=True)
    same_bits(first.extend(12 - steps_before), whole)
    assert steps


@pytest.mark.parametrize("record", [1, 5, [3], [0, 1, 11, 12], "log"])
@pytest.mark.parametrize("block", [100, 2, 1])
def test_records_are_the_same_wherever_they_are(steps, monkeypatch, record, block):
    every = run(known.RelaySGD(), TREES[0], replicas=4, keep_iterates=True)
    monkeypatch.setattr(recording, "MOST_RECORDS_IN_A_BLOCK", block)
    some = run(known.RelaySGD(), TREES[0], replicas=4, keep_iterates=True, record=record)
    at = np.isin(every.steps, some.steps)
    np.testing.assert_array_equal(some.iterates, every.iterates[at])
    chosen = every.frame[np.isin(every.frame.step, some.steps)]
    np.testing.assert_array_equal(some.frame.to_numpy(), chosen.to_numpy())


def test_replicas_leave_compiled_steps_and_the_others_go_on(steps, without, monkeypatch):
    monkeypatch.setattr(recording, "BLOCK_BYTES", 0)  # so that they leave at once
    rates = {"learning_rate": [0.1, 50.0, 0.2, 0.3], "steps": 60, "stop_below": 1e-3}
    found, expected = (
        each(lambda: run(known.DPSGD(), GRAPHS[0], **rates)) for each in (call, without)
    )
    assert found.diverged.tolist() == [False, True, False, False] == expected.diverged.tolist()
    assert (found.frame.replica.value_counts() == expected.frame.replica.value_counts()).all()
    for k in (0, 2, 3):
        np.testing.assert_allclose(found.x[..., k], expected.x[..., k], rtol=0, atol=1e-13)
    assert len(steps) > 1


def call(function):
    return function()


def test_long_runs_are_looked_after_in_between(steps, monkeypatch):
    monkeypatch.setattr(program, "NUMBERS_AT_ONCE", 400)
    short = run(known.D2(), GRAPHS[0], replicas=2)
    monkeypatch.setattr(program, "NUMBERS_AT_ONCE", 10**8)
    assert steps[0].steps_at_once < 5
    same_bits(short, run(known.D2(), GRAPHS[0], replicas=2))


class Reversed:
    """An executor that waits, and does last what it was given first."""

    def __init__(self, count):
        self.waiting = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert not self.waiting

    def submit(self, function, *arguments):
        waiting, future = self.waiting, Future()
        waiting.append((future, function, arguments))

        class Asked:
            def result(self):
                while waiting:
                    each, function, arguments = waiting.pop()
                    each.set_result(function(*arguments))
                return future.result()

        return Asked()


@pytest.mark.parametrize(
    ("algorithm", "topology"),
    [each for each in COMPILED if each[1].n > 1 and each[0] != known.RelaySGDMix()],
    ids=repr,
)
def test_rows_of_many_workers_may_be_computed_in_any_order(steps, monkeypatch, algorithm, topology):
    problem = diagonal(topology.n)
    expected = run(algorithm, topology, problem, replicas=4, steps=9)
    for name, value in (("LARGE_BYTES", 0), ("BYTES_OF_ROWS", 1), ("ThreadPoolExecutor", Reversed)):
        monkeypatch.setattr(program, name, value)
    monkeypatch.setattr(program, "usable_threads", lambda: 3)
    same_bits(run(algorithm, topology, problem, replicas=4, steps=9), expected)


# -- what is not compiled --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Draws(known.DPSGD):
    """A rule that is no function of its arguments."""

    def step(self, state, round):
        return state._replace(x=round.mix(state.x) * np.random.default_rng().random())


@dataclasses.dataclass(frozen=True)
class Looks(known.DPSGD):
    """A rule that looks at numbers."""

    def step(self, state, round):
        x = round.mix(round.descend(state.x, round.gradient(state.x)))
        return state._replace(x=x * 2 if x.max() < 0 else x)


@dataclasses.dataclass(frozen=True)
class Spoils(known.DPSGD):
    """A rule that changes what it was given."""

    def step(self, state, round):
        x = np.array(state.x) if isinstance(state.x, np.ndarray) else state.x
        x *= 0.5
        return state._replace(x=x)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (known.DPSGD(), {"oracle": rs.oracles.Gaussian(sigma2=0.1)}),
        (known.DPSGD(), {"faults": rs.faults.MessageDrop(0.1)}),
        (known.DPSGD(), {"learning_rate": lambda step: 0.1 / (step + 1)}),
        (known.DPSGD(), {"mixing": [rs.mixing.metropolis(GRAPHS[0]), np.eye(6)]}),
        (known.DPSGD(), {"mixing": rs.mixing.fast_mix(rs.mixing.metropolis(GRAPHS[0]), 3)}),
        (known.DPSGD(), {"problem": "logistic"}),
        (known.LocalSGD(period=3), {}),
        (known.ChocoSGD(), {}),
        (known.PowerGossip(), {}),
        (known.NormalizedTracking(), {}),
        (Draws(), {}),
        (Looks(), {}),
        (Spoils(), {}),
    ],
    ids=lambda each: each if isinstance(each, str) else repr(each)[:40],
)
def test_what_is_no_fixed_list_of_operations_goes_step_by_step(steps, algorithm, options):
    if options.get("problem") == "logistic":
        features = np.random.default_rng(0).normal(size=(6, 4, 3))
        options = {"problem": rs.problems.Logistic(features, np.eye(6, 4, dtype=int), 0.1)}
    run(algorithm, GRAPHS[0], **options)
    assert not steps


def test_a_problem_with_gradients_of_its_own_is_not_taken_for_its_base(steps):
    class Twice(rs.problems.LeastSquares):
        def gradient(self, x, out=None):
            return np.multiply(super().gradient(x, out), 2, out=out)

    problem = Twice(np.ones((6, 3, 3)) + np.eye(3), np.ones((6, 3)))
    assert run(known.DPSGD(), GRAPHS[0], problem, learning_rate=0.01).x.any()
    assert not steps


def test_nothing_is_missed_that_is_not_installed_or_not_wanted(monkeypatch):
    monkeypatch.delenv("RELAYSIM_FAST", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fast._is_installed.cache_clear()
    assert not fast.is_there()
    assert fast.compiled() is None
    fast._is_installed.cache_clear()
    monkeypatch.setattr(fast, "_is_installed", lambda: True)
    assert fast.is_there()
    monkeypatch.setenv("RELAYSIM_FAST", "never")
    assert not fast.is_there()
    assert fast.compiled() is None


# -- measures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(5, 9, 4), (3, 9, 4, 3), (1, 7, 3, 2), (2, 1, 1), (2, 2, 1, 1), (2, 9, 11)]
)
def test_means_and_spreads_have_the_bits_of_numpy(steps, monkeypatch, shape):
    monkeypatch.setattr("relaysim.support.blocks.BLOCK_BYTES", 8 * 3 * np.prod(shape[2:]))
    problem, iterates = quadratics(shape[1], 2), np.random.default_rng(0).normal(size=shape)
    fast._load.cache_clear()
    plain = Block(problem, iterates)
    expected = plain.mean, plain.consensus_distance
    fast.compiled()
    other = Block(problem, iterates)
    for one, each in zip((other.mean, other.consensus_distance), expected, strict=True):
        np.testing.assert_array_equal(one, each)


def test_the_loops_are_there():
    assert set(loops.__all__) == set(fast.Compiled._fields)
