"""Compiled steps: the numbers of the rule's own step, whatever is computed beside them."""

import copy
import dataclasses
import importlib.util
import random
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import pytest
from listed import GRAPHS, LISTED, TREES, diagonal, measured, quadratics, run, same_bits

import relaysim as rs
from relaysim import algorithms as known
from relaysim.engine import program, recording, rounds
from relaysim.measures.block import Block
from relaysim.support import fast, loops


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


def close(one, other):
    largest = np.abs(other.x).max()
    np.testing.assert_allclose(one.x, other.x, rtol=0, atol=1e-13 * largest)
    numbers = [frame.select_dtypes("number").to_numpy() for frame in (one.frame, other.frame)]
    np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-13 * largest**2)


@pytest.mark.parametrize(("algorithm", "topology"), LISTED, ids=repr)
@pytest.mark.parametrize("problem", [quadratics, diagonal])
def test_compiled_steps_are_those_of_the_rule(steps, without, algorithm, topology, problem):
    for replicas in (1, 7):  # three lanes, of which two are left over
        setting = {"problem": problem(topology.n), "replicas": replicas}
        found = run(algorithm, topology, **setting)
        assert steps
        close(found, without(lambda s=setting: run(algorithm, topology, **s)))
        steps.clear()


@pytest.mark.parametrize(
    "algorithm",
    [known.RelaySGD(), known.QuasiGlobalMomentum(), known.GradientTracking("atc")],
    ids=repr,
)
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


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_recorded_stays(steps, without, monkeypatch, replicas):
    monkeypatch.setattr(recording, "MOST_RECORDS_IN_A_BLOCK", 3)
    options = {"replicas": replicas, "measures": [("first", lambda x: x[0, 0])]}
    found = run(known.DPSGD(), GRAPHS[0], **options)
    close(found, without(lambda: run(known.DPSGD(), GRAPHS[0], **options)))
    assert len(found.frame.consensus_distance.unique()) == 13 * replicas - (replicas - 1)


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
    [
        *(each for each in LISTED if each[1].n > 1 and each[0] != known.RelaySGDMix()),
        (known.SGP(), GRAPHS[0]),
    ],
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


class Pair(NamedTuple):
    """A state of two arrays."""

    x: np.ndarray
    y: np.ndarray


class Halves(NamedTuple):
    """A state of which the iterates are a sum."""

    one: np.ndarray
    two: np.ndarray

    @property
    def x(self):
        return self.one + self.two


class Own(known.DPSGD):
    """A rule of one's own, of which `step` is given."""

    @staticmethod
    def init(x0, network):
        return Pair(x0 + 1, x0 + 2)


def rule(step, init=Own.init):
    """A method with such a step, which may keep something on itself."""
    made = type("Rule", (Own,), {"step": step, "init": staticmethod(init)})()
    object.__setattr__(made, "kept", {})
    return made


def of_parts(self, state, round):
    return Halves(round.descend(state.one, round.gradient(state.x)), state.two * 0.5)


def through_copies(self, state, round):
    return Pair(copy.deepcopy(state.x) * 0.5, state.x * 0.25)


def of_python(self, state, round):
    return Pair(state.x * (0.5 if random.random() < 0.97 else 0.25), state.y)


def catching_the_step(self, state, round):
    try:
        number = round.step
    except Exception:
        number = 0
    return Pair(state.x * 0.5 + number, state.y)


def catching_numbers(self, state, round):
    try:
        number = float(state.x.max())
    except (AttributeError, TypeError):
        number = 0
    return Pair(state.x * 0.5 + number, state.y)


def by_type(self, state, round):
    half = np.asarray(state.x) * 0.5 if isinstance(state.x, np.ndarray) else state.x * 0.25
    return Pair(half, state.y)


def by_what_it_can(self, state, round):
    return Pair(state.x * (0.5 if hasattr(state.x, "mean") else 0.25), state.y)


def keeping_the_last(self, state, round):
    before = self.kept.get("x", 1)
    self.kept["x"] = state.x
    return Pair(state.x * 0.5 + before, state.y)


def counting(self, state, round):
    self.kept["count"] = self.kept.get("count", 0) + 1
    return Pair(state.x * 0.5 + self.kept["count"], state.y)


def asserting(self, state, round):
    assert isinstance(state.x.sum(), float)
    return Pair(state.x * 0.5, state.y)


OF_PARTS = rule(of_parts, lambda x0, network: Halves(x0 + 1, x0 + 2))
OTHERS = (through_copies, of_python, catching_the_step, catching_numbers, by_type, by_what_it_can)
KEEPING = (keeping_the_last, counting, asserting)


@pytest.mark.parametrize(
    "make",
    [lambda: OF_PARTS, *(lambda step=step: rule(step) for step in (*OTHERS, *KEEPING))],
    ids=["of_parts", *(step.__name__ for step in (*OTHERS, *KEEPING))],
)
def test_rules_that_are_no_functions_of_numbers_go_on_as_ever(steps, without, make):
    random.seed(0)
    found = run(make(), GRAPHS[0])
    random.seed(0)
    same_bits(found, without(lambda: run(make(), GRAPHS[0])))
    assert not steps


def test_what_a_rule_computes_once_is_computed_once(steps, without):
    def with_cache(self, state, round):
        if "half" not in self.kept:
            self.kept["half"] = np.full(state.x.shape, 0.5)
        return Pair(state.x * self.kept["half"], state.y)

    method = rule(with_cache)
    found = run(method, GRAPHS[0])
    assert steps
    close(found, without(lambda: run(method, GRAPHS[0])))
    same_bits(run(method, GRAPHS[0]), found)


def test_messages_may_be_held_twice(steps, without):
    def step(self, state, round):
        mail, old = state.y
        mail = round.relay(state.x, mail)
        other = round.relay(state.x, mail._replace(values=old))
        x = 0.5 * state.x + 0.1 * other.received
        return Pair(x, (mail, mail.values))

    def init(x0, network):
        mail = network.empty_mail(x0)
        return Pair(x0 + 1, (mail, mail.values))

    method = type("Rule", (known.RelaySGD,), {"step": step, "init": staticmethod(init)})()
    found = run(method, TREES[1])
    close(found, without(lambda: run(method, TREES[1])))


def test_a_run_goes_on_as_it_was_computed(steps):
    def step(self, state, round):  # later steps are alike
        x = round.descend(state.x, round.gradient(state.x))
        return Pair(x * (1 - state.y[0]), np.minimum(state.y + 0.1, 0.3))

    method = rule(step, lambda x0, network: Pair(x0 + 1, np.zeros(1)))
    whole = run(method, GRAPHS[0])
    first = run(method, GRAPHS[0], steps=5, keep_state=True)
    same_bits(first.extend(7), whole)
    assert not steps


def test_a_run_goes_on_where_nothing_is_compiled(steps, without, monkeypatch):
    monkeypatch.setattr(recording, "BLOCK_BYTES", 1 << 10)
    whole = run(known.DPSGD(), GRAPHS[0], steps=60)
    first = run(known.DPSGD(), GRAPHS[0], steps=50, keep_state=True)
    close(without(lambda: first.extend(10)), whole)


def test_records_are_measured_as_ever_where_nothing_is_compiled(steps, without, monkeypatch):
    monkeypatch.setattr(recording, "BLOCK_BYTES", 1 << 10)  # replicas leave with a block
    sizes = []

    class Noted(recording.Recorder):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            sizes.append(self.capacity)

    monkeypatch.setattr("relaysim.engine.run.Recorder", Noted)
    noisy = {"oracle": rs.oracles.Gaussian(sigma2=0.1)}
    found = run(known.DPSGD(), GRAPHS[0], **noisy)
    same_bits(found, without(lambda: run(known.DPSGD(), GRAPHS[0], **noisy)))
    assert sizes[0] == sizes[1]


RING = rs.mixing.metropolis(GRAPHS[0])
COMPLETE = rs.topologies.complete(6)
BY_TURNS = [
    *((known.SGP(rounds=rounds), GRAPHS[0], {}) for rounds in (1, 2, 3)),
    (known.SGP(rounds=2), rs.topologies.ring(5), {}),
    (known.DPSGD(momentum=0.5), COMPLETE, {"mixing": rs.mixing.one_peer_exponential(6)}),
    (
        known.D2(),
        GRAPHS[0],
        {"mixing": [0.9 * RING + 0.1 * np.eye(6), RING, 0.5 * RING + 0.5 * np.eye(6)]},
    ),
    (known.GradientTracking("diging"), GRAPHS[0], {"mixing": [RING, 0.5 * RING + 0.5 * np.eye(6)]}),
    (known.QuasiGlobalMomentum(), COMPLETE, {"mixing": rs.mixing.one_peer_exponential(6)}),
]


@pytest.mark.parametrize(("algorithm", "topology", "options"), BY_TURNS, ids=repr)
@pytest.mark.parametrize("record", [1, 5])
def test_matrices_by_turns_are_those_of_the_rule(
    steps, without, algorithm, topology, options, record
):
    for replicas in (1, 7):
        setting = options | {"replicas": replicas, "steps": 23, "record": record}
        found = run(algorithm, topology, **setting)
        assert steps
        expected = without(lambda s=setting: run(algorithm, topology, **s))
        close(found, expected)
        assert found.frame.vectors_sent.equals(expected.frame.vectors_sent)
        # It begins anew at a step that no period divides.
        first = run(
            algorithm, topology, **(setting | {"steps": 10, "record": record}), keep_state=True
        )
        same_bits(first.extend(13), found)
        steps.clear()


class Late(known.DPSGD):
    """Names its rounds in ways of its own."""

    label = "Late"
    which = None

    def step(self, state, round):
        x = round.descend(state.x, round.gradient(state.x))
        return type(state)(round.mix(x, type(self).which(round.step)), *state[1:])


@pytest.mark.parametrize(
    ("which", "listed"),
    [
        (lambda step: 3 + step * 2, True),
        (lambda step: 2 * (step + 1) + 4, True),
        (lambda step: step // 2, False),
        (lambda step: step % 2, False),
        (lambda step: step if step < 7 else 0, False),
        (lambda step: max(step, 3), False),
        (lambda step: int(step), False),
        (lambda step: [4, 1, 2, 0][step % 4], False),
        (lambda step: int(np.sqrt(step)), False),
        (lambda step: 1, False),
        (lambda step: 7 - step if step < 5 else step, False),
    ],
)
def test_rounds_are_named_by_the_step_or_the_rule_goes_on(
    steps, without, monkeypatch, which, listed
):
    monkeypatch.setattr(Late, "which", staticmethod(which))
    setting = {"mixing": rs.mixing.one_peer_exponential(6), "steps": 19}
    found = run(Late(), COMPLETE, **setting)
    assert bool(steps) == listed
    close(found, without(lambda: run(Late(), COMPLETE, **setting)))


NOTED = []


class Notes(known.DPSGD):
    """Notes the number of the step somewhere."""

    label = "Notes"
    where = None

    def step(self, state, round):
        if self.where == "a list":
            NOTED.append(round.step)
        elif self.where == "itself":
            object.__setattr__(self, "last", round.step + 1)
        return super().step(state, round)


@pytest.mark.parametrize("where", ["nowhere", "a list", "itself"])
def test_a_rule_that_notes_the_number_of_the_step_is_asked_in_each(steps, monkeypatch, where):
    monkeypatch.setattr(Notes, "where", where)
    NOTED.clear()
    method = Notes()
    run(method, GRAPHS[0], steps=9)
    assert bool(steps) == (where == "nowhere")
    if where == "a list":
        assert [each for each in NOTED if isinstance(each, int)] == list(range(9))
    elif where == "itself":
        assert method.last == 9


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["suboptimality", "value", "gradient_norm"], (False, True, False)),
        (["suboptimality", "consensus_distance"], (False, True, True)),
        (["value", "distance", "gradient_norm"], (False, True, True)),
        (["suboptimality", "worst_distance"], (True, True, True)),
        (["worker_distance"], (True, True, True)),
    ],
)
def test_what_nobody_needs_of_iterates_is_not_written(steps, monkeypatch, names, kept):
    method, topology, written = known.RelaySGD(), TREES[0], []

    def watched(self, step, targets, records, stop):
        written.append(tuple(len(each) > 0 for each in records))
        return own(self, step, targets, records, stop)

    own = program.Program.record
    monkeypatch.setattr(program.Program, "record", watched)
    found, run_of_means = measured(method, topology, names, resumable=False, leaves=3)
    assert steps
    assert set(written) == {kept}
    expected, _ = measured(method, topology, names, resumable=True, leaves=3)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(AssertionError, match="not kept"):
        run_of_means.state()


def test_a_problem_with_gradients_of_its_own_is_not_taken_for_its_base(steps):
    class Twice(rs.problems.LeastSquares):
        def gradient(self, x, out=None):
            return np.multiply(super().gradient(x, out), 2, out=out)

    problem = Twice(np.ones((6, 3, 3)) + np.eye(3), np.ones((6, 3)))
    assert run(known.DPSGD(), GRAPHS[0], problem, learning_rate=0.01).x.any()
    assert not steps


def test_gradients_that_are_watched_are_asked_for(steps):
    problem, asked = quadratics(6), []
    own = problem.gradient

    def watched(x, out=None):
        asked.append(x.shape)
        return own(x, out)

    problem.gradient = watched
    run(known.DPSGD(), GRAPHS[0], problem)
    assert not steps
    assert len(asked) >= 12


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
    "shape",
    [
        (5, 9, 4),
        (3, 9, 4, 3),
        (1, 7, 3, 2),
        (2, 1, 1),
        (2, 2, 1, 1),
        (2, 9, 11),
        (5, 100, 1),
        (1, 17, 9),
    ],
)
@pytest.mark.parametrize("lay", [np.asarray, np.asfortranarray, lambda x: x[:, :1]])
def test_means_and_spreads_have_the_bits_of_numpy(steps, monkeypatch, shape, lay):
    monkeypatch.setattr("relaysim.support.blocks.BLOCK_BYTES", 8 * 3 * np.prod(shape[2:]))
    problem, iterates = quadratics(shape[1], 2), np.random.default_rng(0).normal(size=shape)
    given = np.broadcast_to(lay(iterates), shape)  # however they lie in memory
    fast._load.cache_clear()
    plain = Block(problem, given)
    expected = plain.mean, plain.consensus_distance
    fast.compiled()
    other = Block(problem, np.array(given, order="C"))
    for one, each in zip((other.mean, other.consensus_distance), expected, strict=True):
        np.testing.assert_array_equal(one, each)


def test_the_loops_are_there():
    assert set(loops.SIGNATURES) == set(fast.Compiled._fields)
