"""A run that is gone on with is, bit for bit, the run that never stopped."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from methods import ALGORITHMS, ASYNCHRONOUS, each_class
from own_parts import Halved

import relaysim as rs
from relaysim.records import archive

N, D, FIRST, SECOND = 8, 5, 13, 10
X0 = np.random.default_rng(3).normal(size=(N, D))


def logistic():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(N, 6, D)), generator.integers(2, size=(N, 6))
    return rs.problems.Logistic(features, labels, l2=0.1)


PROBLEM = logistic()
QUADRATIC = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, seed=0)
ORACLES = {
    "exact": None,
    "gaussian": rs.oracles.Gaussian(0.5),
    "minibatch": rs.oracles.Minibatch(2),
}
FAULTS = {"none": None, "drops": rs.faults.MessageDrop(0.2)}


def topology_for(algorithm):
    if algorithm.uses == "relay":
        return rs.topologies.binary_tree(N)
    return rs.topologies.ring(N)


def assert_equal_bits(one, other):
    assert one.frame.equals(other.frame)
    assert one.x.tobytes() == other.x.tobytes()
    assert one.diverged.tolist() == other.diverged.tolist()
    assert one.config.keys() == other.config.keys()
    assert (one.iterates is None) == (other.iterates is None)
    if one.iterates is not None:
        assert one.iterates.tobytes() == other.iterates.tobytes()


def settings():
    """Every method with each oracle and each fault that it has a rule for: their streams are apart.

    The first setting of each class is fast.
    """
    for each in each_class((*ALGORITHMS, *ASYNCHRONOUS)):
        (algorithm,) = each.values
        loses = "lost messages" in algorithm.faults
        for oracle, fault in (("exact", "none"), ("gaussian", "drops"), ("minibatch", "none")):
            if isinstance(algorithm, rs.algorithms.ADMM) and oracle == "minibatch":
                continue  # it needs a quadratic
            fault = fault if loses else "none"
            name = f"{algorithm!r}-{oracle}-{fault}"
            yield pytest.param(algorithm, ORACLES[oracle], FAULTS[fault], id=name, marks=each.marks)


def arguments(algorithm, oracle, fault):
    return {
        "problem": QUADRATIC if isinstance(algorithm, rs.algorithms.ADMM) else PROBLEM,
        "topology": topology_for(algorithm),
        "algorithm": algorithm,
        "learning_rate": [0.05, 0.2],
        "seed": [4, 9],
        "x0": X0,
        "oracle": oracle,
        "faults": fault,
    }


@pytest.mark.parametrize(("algorithm", "oracle", "fault"), list(settings()))
def test_every_method_oracle_and_fault_goes_on(algorithm, oracle, fault, tmp_path):
    run = arguments(algorithm, oracle, fault)
    whole = rs.simulate(**run, steps=FIRST + SECOND)
    part = rs.simulate(**run, steps=FIRST)
    assert_equal_bits(part.extend(SECOND), whole)
    loaded = rs.History.load(part.save(tmp_path / "part"))  # as it was left
    assert_equal_bits(loaded.extend(7).extend(SECOND - 7), whole)


GO_ON = """
import sys
import relaysim as rs
for path in sys.argv[1:]:
    rs.History.load(path).extend({steps}).save(path + ".longer")
"""


@pytest.mark.parametrize("some", ["each 20th", pytest.param("all", marks=pytest.mark.slow)])
def test_another_process_goes_on(some, tmp_path):
    chosen = list(settings())[:: 20 if some == "each 20th" else 1]
    wholes = {}
    for number, setting in enumerate(chosen):
        run = arguments(*setting.values)
        wholes[str(tmp_path / f"{number}.npz")] = rs.simulate(**run, steps=FIRST + SECOND)
        rs.simulate(**run, steps=FIRST).save(tmp_path / str(number))
    code = GO_ON.format(steps=SECOND)
    subprocess.run([sys.executable, "-c", code, *wholes], check=True)
    assert len(wholes) > (300 if some == "all" else 15)
    for path, whole in wholes.items():
        assert_equal_bits(rs.History.load(path + ".longer"), whole)


PARTS = {
    "problem": rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, mu=0.25, seed=0),
    "topology": rs.topologies.chain(N),
    "algorithm": rs.algorithms.RelaySGD(momentum=0.5, unheard="counts"),
    "oracle": rs.oracles.Gaussian(0.1),
}


MEASURES = [
    *("worst_distance", "worker_distance"),
    rs.measures.Measure("largest", lambda iterates, problem: np.abs(iterates).max(axis=(1, 2))),
    ("first", lambda x: x[0, 0]),
]


@pytest.mark.parametrize(
    "options",
    [
        {"record": 7},
        {"record": "log"},
        {"record": [0, 5, 40]},
        {"record": 7, "keep_iterates": True, "replicas": 3},
        {"keep_iterates": True},
        {"keep_iterates": [3, 1], "measures": MEASURES, "replicas": 2, "record": 3},
        {"learning_rate": [0.1, 300.0], "measures": MEASURES},
        {"learning_rate": [0.1, 300.0], "replicas": 2, "keep_iterates": True},
        {"learning_rate": 300.0},
        {"learning_rate": [0.1, 0.4], "stop_below": 0.5, "replicas": 3},
        {"stop_below": 1e6},
        {"learning_rate": [0.1, 0.4], "stop_when": {"gradient_norm": 0.1, "vectors_sent": 150}},
        {"learning_rate": rs.schedules.Listed((0.3, 0.2, 0.1))},
        {"learning_rate": lambda step: 0.3 / (1 + 0.1 * step), "replicas": 2},
        {"x0": np.random.default_rng(1).normal(size=(N, D, 4))},
        {"faults": rs.faults.MessageDrop(0.3), "algorithm": rs.algorithms.RelaySGD()},
        {"topology": rs.topologies.double_binary_tree(N), "algorithm": rs.algorithms.RelaySGDMix()},
        {
            "algorithm": rs.algorithms.D2(),
            "topology": rs.topologies.exponential(N),
            "mixing": rs.mixing.one_peer_exponential(N),
        },
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("block_bytes", [0, 2000, 1 << 19])
@pytest.mark.parametrize("first", [0, 1, 20, 28])
def test_all_that_can_be_asked_for_goes_on(options, block_bytes, first, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    run = {"learning_rate": 0.2} | PARTS | options
    if isinstance(run.get("record"), list):
        run["record"] = [step for step in run["record"] if step <= first]
    whole = rs.simulate(**run, steps=60)
    assert_equal_bits(rs.simulate(**run, steps=first).extend(60 - first), whole)


def test_replicas_leave_when_they_would_have_left(monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", 10 * 8 * N * D * 6)
    run = PARTS | {"learning_rate": [0.1, 300.0, 0.2], "replicas": 2, "keep_iterates": True}
    whole = rs.simulate(**run, steps=100)
    for first in range(3, 40, 4):
        assert_equal_bits(rs.simulate(**run, steps=first).extend(100 - first), whole)


@pytest.mark.parametrize("record", [[4], [0, 2, 5], 3])
@pytest.mark.parametrize("options", [{}, {"stop_below": 1e-9}])
def test_no_further_step_leaves_what_diverged_after_the_last_record(record, options):
    run = PARTS | {"learning_rate": [0.1, 300.0], "record": record} | options
    whole = rs.simulate(**run, steps=13)
    assert whole.diverged.tolist() == [False, True]
    assert_equal_bits(whole.extend(0), whole)


def test_a_state_is_kept_as_asked_for(monkeypatch):
    run = PARTS | {"learning_rate": 0.2, "steps": 5}
    assert rs.simulate(**run).extend(1).steps[-1] == 6
    with pytest.raises(ValueError, match=r"kept no state .* keep_state=True"):
        rs.simulate(**run, keep_state=False).extend(1)
    monkeypatch.setattr("relaysim.engine.simulation.MOST_STATE_BYTES", 100)
    with pytest.raises(ValueError, match="kept no state"):
        rs.simulate(**run).extend(1)
    assert rs.simulate(**run, keep_state=True).extend(1).steps[-1] == 6


def test_parts_of_ones_own_are_passed_again(tmp_path):
    class Cosh:
        n, d = N, D
        centers = X0

        def gradient(self, x):
            return np.sinh(x - self.centers)

        def value(self, x):
            return np.cosh(x - self.centers).sum(axis=1).mean()

    run = PARTS | {"problem": Cosh(), "learning_rate": lambda step: 0.1 / (1 + step)}
    whole, part = rs.simulate(**run, steps=30), rs.simulate(**run, steps=10)
    assert_equal_bits(part.extend(20), whole)
    loaded = rs.History.load(part.save(tmp_path / "own"))
    with pytest.raises(ValueError, match=r"problem was an object of your own, .*pass problem="):
        loaded.extend(20)
    with pytest.raises(ValueError, match=r"callable of your own.* first 10 values; pass it again"):
        loaded.extend(20, problem=Cosh())
    given = {"problem": run["problem"], "learning_rate": run["learning_rate"]}
    assert_equal_bits(loaded.extend(20, **given), whole)
    with pytest.raises(ValueError, match="another run: its learning_rate is not the one given"):
        loaded.extend(20, problem=Cosh(), learning_rate=lambda step: 0.2)


def test_measures_of_ones_own_are_passed_again(tmp_path):
    run = PARTS | {"learning_rate": 0.2, "measures": MEASURES}
    whole, part = rs.simulate(**run, steps=30), rs.simulate(**run, steps=10)
    loaded = rs.History.load(part.save(tmp_path / "own"))
    with pytest.raises(
        ValueError, match=r"measure was an object of your own, 'largest'.*measures="
    ):
        loaded.extend(20)
    longer = loaded.extend(20, measures=MEASURES)
    assert_equal_bits(longer, whole)
    assert longer.worker_frame.equals(whole.worker_frame)
    with pytest.raises(ValueError, match="another run: its measures"):
        loaded.extend(20, measures=MEASURES[:2])
    run["measures"] = ["worst_distance"]
    loaded = rs.History.load(rs.simulate(**run, steps=10).save(tmp_path / "ready"))
    assert_equal_bits(loaded.extend(20), rs.simulate(**run, steps=30))


def test_states_of_other_runs_and_versions_are_refused(tmp_path, monkeypatch):
    run = PARTS | {"learning_rate": 0.2, "steps": 9}
    history = rs.simulate(**run)
    other = rs.problems.random_quadratics(n=N, d=D, zeta2=1.0, mu=0.25, seed=1)
    with pytest.raises(ValueError, match="another run: its problem is not the one given"):
        history.extend(3, problem=other)
    with pytest.raises(ValueError, match="another run: its oracle"):
        history.extend(3, oracle=None)
    with pytest.raises(TypeError, match="extend takes no 'momentum'"):
        history.extend(3, momentum=0.5)
    for steps in (-1, 1.5):
        with pytest.raises((ValueError, TypeError), match="steps must be"):
            history.extend(steps)

    path = history.save(tmp_path / "run")
    swapped = rs.History.load(rs.simulate(**(run | {"learning_rate": 0.3})).save(tmp_path / "o"))
    swapped._state = rs.History.load(path)._state
    with pytest.raises(ValueError, match="belongs to another run than this history"):
        swapped.extend(3)

    damaged = rs.History.load(path)
    damaged._state.data["machine"].pop("arrays")
    with pytest.raises(ValueError, match="state that was kept is damaged"):
        damaged.extend(3)

    monkeypatch.setattr("relaysim.engine.continuation.__version__", "99.0")
    with pytest.raises(ValueError, match=r"kept by relaysim 0\.\d+.* this is 99\.0"):
        rs.History.load(path).extend(3)


def test_files_without_a_state_are_read(tmp_path):
    history = rs.simulate(**PARTS, learning_rate=0.2, steps=4, keep_state=False)
    path = history.save(tmp_path / "plain")
    assert rs.History.load(path).frame.equals(history.frame)
    with pytest.raises(ValueError, match="kept no state"):
        rs.History.load(path).extend(1)
    assert archive.FORMAT == 1, "older versions read what they know of"


def test_a_longer_history_says_that_its_times_are_gone():
    problem, ring = rs.problems.random_quadratics(4, 2, zeta2=1.0, seed=0), rs.topologies.ring(4)
    run = {"learning_rate": 0.1, "steps": 5}
    timed = rs.simulate(problem, ring, rs.algorithms.DPSGD(), **run).with_time(latency=0.5)
    with pytest.warns(UserWarning, match="has no column time; call with_time on it again"):
        longer = timed.extend(3)
    assert "time" not in longer.frame


def test_a_history_with_an_own_part_inside_a_part_is_read_and_gone_on_with(tmp_path):
    class Own(rs.algorithms.DPSGD):
        pass

    class Wrapped:
        def __init__(self, inner):
            self.inner, self.n, self.d = inner, inner.n, inner.d
            self.optimum = inner.optimum

        def gradient(self, x):
            return self.inner.gradient(x)

        def value(self, x):
            return self.inner.value(x)

    problem, ring = rs.problems.random_quadratics(4, 2, zeta2=1.0, seed=0), rs.topologies.ring(4)
    choco = rs.algorithms.ChocoSGD(Halved(), 0.5)
    controlled = rs.algorithms.ConsensusControl(Own(), 0.1)
    own = rs.problems.L1(Wrapped(problem), 0.01)
    runs = [(problem, choco), (problem, controlled), (own, rs.algorithms.NIDS())]
    for k, (of, method) in enumerate(runs):
        history = rs.simulate(of, ring, method, learning_rate=0.1, steps=6)
        loaded = rs.History.load(history.save(tmp_path / f"{k}"))
        pd.testing.assert_frame_equal(loaded.frame, history.frame)
        lost = "problem" if of is own else "algorithm"
        assert getattr(loaded, lost) is None
        with pytest.raises(ValueError, match=f"an object of your own, .*; pass {lost}="):
            loaded.extend(4)
        longer = loaded.extend(4, **{lost: of if of is own else method})
        whole = rs.simulate(of, ring, method, learning_rate=0.1, steps=10)
        np.testing.assert_array_equal(longer.x, whole.x)
    assert rs.History.load(tmp_path / "0.npz").label == "ChocoSGD"


@pytest.mark.parametrize("kind", [int, np.int64, np.float32])
def test_a_limit_may_be_a_number_of_numpy(kind, tmp_path):
    problem, ring = rs.problems.random_quadratics(4, 2, zeta2=1.0, seed=0), rs.topologies.ring(4)
    run = {"learning_rate": 0.1, "steps": 50, "stop_when": {"bits_sent": kind(3072)}}
    history = rs.simulate(problem, ring, rs.algorithms.DPSGD(), **run)
    loaded = rs.History.load(history.save(tmp_path / "run"))
    assert loaded.config["stop_when"] == {"bits_sent": 3072}
    assert len(loaded.steps) == 4
