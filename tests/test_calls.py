"""Steps as calls of NumPy: to the bit what the rule's own steps do, whoever is asked for gradients."""

import dataclasses

import numpy as np
import pytest
from listed import GRAPHS, LISTED, TREES, diagonal, measured, quadratics, run, same_bits

import relaysim as rs
from relaysim import algorithms as known
from relaysim import measures
from relaysim.engine import calls, recording, rounds
from relaysim.engine.plan import plan_replicas
from relaysim.engine.run import Run
from relaysim.engine.setup import Setup
from relaysim.engine.tape import UntraceableError
from relaysim.support import workspace


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """Notes who takes steps as calls."""
    monkeypatch.setenv("RELAYSIM_FAST", "never")
    noted = []

    class Noted(calls.Calls):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            noted.append(self)

    monkeypatch.setattr(rounds, "Calls", Noted)
    monkeypatch.setattr(rounds, "STEPS_BEFORE_CALLS", 0)
    return noted


@pytest.fixture
def by_the_rule(monkeypatch):
    """What the rule's own steps compute."""

    def refused(*_):
        raise UntraceableError("steps of the rule itself")

    def found(run):
        with monkeypatch.context() as context:
            context.setattr(rounds, "traced_step", refused)
            return run()

    return found


def logistic(n, d=3):
    features = np.random.default_rng(0).normal(size=(n, 4, d))
    return rs.problems.Logistic(features, np.eye(n, 4, dtype=int), 0.1)


class Keeping:
    """A problem of the user's own, that keeps what it was given."""

    optimum = np.full(3, 0.5)

    def __init__(self, n):
        self.n, self.d, self.seen = n, 3, []

    def gradient(self, x):
        self.seen.append(x)
        return x - 0.5

    def value(self, x):
        return float(((x - 0.5) ** 2).sum())


NOISE = rs.oracles.Gaussian(sigma2=0.1)
#: Problems, and how their gradients are seen.
ASKED = {
    "quadratics": (quadratics, None),
    "noisy quadratics": (quadratics, NOISE),
    "diagonal": (diagonal, None),
    "noisy logistic": (logistic, NOISE),
    "own": (Keeping, None),
}


@pytest.mark.parametrize(("algorithm", "topology"), LISTED, ids=repr)
@pytest.mark.parametrize("asked", ASKED)
def test_calls_have_the_bits_of_the_rule(taken, by_the_rule, algorithm, topology, asked):
    if asked == "own" and type(algorithm) is known.DLM:
        pytest.skip("its rates are made of curvatures")
    problem, oracle = ASKED[asked]
    for replicas in (1, 7):
        setting = {"replicas": replicas, "oracle": oracle, "steps": 20}
        setting["problem"] = problem(topology.n)
        found = run(algorithm, topology, **setting)
        assert len(taken) == 1
        same_bits(found, by_the_rule(lambda s=setting: run(algorithm, topology, **s)))
        taken.clear()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("algorithm", [known.RelaySGD(), known.RelaySGDMix(), known.D2()])
def test_few_workers(by_the_rule, algorithm, n):
    tree, setting = rs.topologies.chain(n), {"replicas": 2, "steps": 20}
    same_bits(run(algorithm, tree, **setting), by_the_rule(lambda: run(algorithm, tree, **setting)))


def test_what_a_problem_keeps_stays(taken, by_the_rule):
    one, other = Keeping(7), Keeping(7)
    run(known.DPSGD(), rs.topologies.ring(7), one)
    assert taken
    by_the_rule(lambda: run(known.DPSGD(), rs.topologies.ring(7), other))
    for found, expected in zip(one.seen, other.seen, strict=True):
        np.testing.assert_array_equal(found, expected)


class Lent(rs.oracles.Gaussian):
    """Notes the arrays that gradients are written into."""

    def observe(self, problem, streams):
        gradient, self.__dict__["arrays"] = super().observe(problem, streams), []

        def observed(x, out):
            self.arrays.append(out)
            return gradient(x, out)

        return observed


def test_what_is_lent_for_gradients_is_lent_again(taken, monkeypatch):
    """Where replicas that were many have left, iterates are small and arrays are lent all the same."""
    monkeypatch.setattr(workspace, "LEND_FROM_BYTES", 0)
    oracle = Lent(sigma2=0.1)
    run(known.DPSGD(), GRAPHS[0], oracle=oracle)
    assert taken
    assert len({id(array) for array in oracle.arrays}) == 1


class Ridge:
    """A term of the user's own, that keeps what it was given."""

    def __init__(self):
        self.seen = []

    def value(self, x):
        return 0.05 * (x**2).sum(axis=0)

    def shortest(self, gradient, x):
        return gradient + 0.1 * x

    def proximal(self, x, rate):
        self.seen.append(x)
        return x / (1 + 0.1 * rate)


def test_terms_of_a_users_own_are_asked_in_each_step_for_numbers():
    problem = Keeping(6)
    problem.optimum, problem.regularizer = np.full(3, 0.5 / 1.1), Ridge()
    run(known.NIDS(), GRAPHS[0], problem)
    assert [type(each) for each in problem.regularizer.seen] == [np.ndarray] * 12


@pytest.mark.parametrize("record", [1, 5, [3], [0, 1, 19, 20], "log"])
@pytest.mark.parametrize("block", [100, 2, 1])
def test_records_are_the_same_wherever_they_are(monkeypatch, by_the_rule, record, block):
    monkeypatch.setattr(recording, "MOST_RECORDS_IN_A_BLOCK", block)
    monkeypatch.setattr(calls, "BYTES_MEASURED_AT_ONCE", 3 * 8 * 7 * 3 * 7)
    options = {"replicas": 7, "keep_iterates": True, "record": record, "steps": 20}
    found = run(known.RelaySGD(), TREES[0], **options)
    expected = by_the_rule(lambda: run(known.RelaySGD(), TREES[0], **options))
    same_bits(found, expected)
    np.testing.assert_array_equal(found.iterates, expected.iterates)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
@pytest.mark.parametrize(
    "names",
    [
        ["suboptimality", "consensus_distance", "distance"],
        ["suboptimality", "value", "gradient_norm"],
    ],
)
def test_iterates_that_nobody_needs_are_measured_alike(monkeypatch, taken, at_once, names):
    monkeypatch.setattr(calls, "BYTES_MEASURED_AT_ONCE", at_once * 8 * 7 * 3 * 5)
    found, _ = measured(known.RelaySGD(), TREES[0], names, resumable=False, leaves=3)
    assert taken
    expected, _ = measured(known.RelaySGD(), TREES[0], names, resumable=True, leaves=3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("replicas", [1, 4])
@pytest.mark.parametrize("before", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("method", [known.RelaySGD(), known.D2(), known.DLM()], ids=repr)
def test_a_run_that_is_extended_has_the_bits_of_one_that_is_not(taken, replicas, before, method):
    whole = run(method, TREES[0], replicas=replicas, steps=20)
    first = run(method, TREES[0], replicas=replicas, steps=before, keep_state=True)
    same_bits(first.extend(20 - before), whole)
    assert taken


def test_replicas_leave_and_the_others_go_on(taken, by_the_rule, monkeypatch):
    monkeypatch.setattr(recording, "BLOCK_BYTES", 0)  # so that they leave at once
    rates = {"learning_rate": [0.1, 50.0, 0.2, 0.3], "steps": 60, "stop_below": 1e-3}
    for method, graph in ((known.DPSGD(), GRAPHS[0]), (known.RelaySGD(), TREES[0])):
        taken.clear()
        found = run(method, graph, **rates)
        assert len(taken) > 1
        expected = by_the_rule(lambda m=method, g=graph: run(m, g, **rates))
        assert found.diverged.tolist() == [False, True, False, False]
        same_bits(found, expected)


def test_runs_of_few_steps_go_without(taken, monkeypatch):
    monkeypatch.setattr(rounds, "STEPS_BEFORE_CALLS", 10)
    run(known.DPSGD(), GRAPHS[0], steps=10)
    assert not taken
    run(known.DPSGD(), GRAPHS[0], steps=11)
    assert taken


@dataclasses.dataclass(frozen=True)
class Own(known.DPSGD):
    """A rule of the user's own, which may do what no list of operations says."""


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (Own(), {}),
        (known.DPSGD(), {"faults": rs.faults.MessageDrop(0.1)}),
        (known.DPSGD(), {"learning_rate": lambda step: 0.1 / (step + 1)}),
        (known.DPSGD(), {"mixing": [rs.mixing.metropolis(GRAPHS[0]), np.eye(6)]}),
        (
            known.DPSGD(),
            {
                "mixing": [
                    (1 - a) * np.eye(6) + a * rs.mixing.metropolis(GRAPHS[0]) for a in (0.5, 1)
                ]
            },
        ),
        (known.DPSGD(), {"problem": diagonal(6, 30_000)}),
        (known.LocalSGD(period=3), {}),
        (known.ChocoSGD(), {}),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_other_steps_are_the_rules_own(taken, algorithm, options):
    run(algorithm, GRAPHS[0], **options)
    assert not taken


def test_arrays_that_change_places_for_long_are_left_to_the_rule(taken, by_the_rule, monkeypatch):
    monkeypatch.setattr(calls, "MOST_PHASES", 1)
    found = run(known.D2(), GRAPHS[0])
    assert not taken
    same_bits(found, by_the_rule(lambda: run(known.D2(), GRAPHS[0])))


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("block", [256, 7, 1])
def test_workers_that_run_apart_around_a_mean_that_does_not_have_diverged(
    monkeypatch, every, block
):
    monkeypatch.setattr(recording, "MOST_RECORDS_IN_A_BLOCK", block)
    ring, steps = rs.topologies.ring(8), 60
    # D² with eigenvalue −1 of W is unstable in the differences; all Hessians are the identity.
    problem = rs.problems.LeastSquares(
        np.tile(np.eye(3), (8, 1, 1)), np.random.default_rng(0).normal(size=(8, 3))
    )

    def diverged(*names):
        plan = plan_replicas(np.array([0.1, 0.3, 1.2]), 0, None, None, steps)
        setup = Setup(problem, ring, known.D2(), plan, mixing=rs.mixing.uniform(ring, 0.5))
        of = tuple(measures.READY[name] for name in names)
        found = Run(setup, measures=of, resumable=False)
        found.advance(range(0, steps + 1, every))
        return found.diverged.tolist(), np.isnan(found.column("suboptimality")[-1]).tolist()

    assert diverged("suboptimality") == ([True, True, False], [True, True, False])
    # What is measured beside it makes no difference.
    assert diverged("suboptimality", "consensus_distance") == (
        [True, True, False],
        [True, True, False],
    )
