"""Numbers that are altered on their way, against a slow transcription."""

import struct
from statistics import NormalDist

import numpy as np
import pytest
import slow
from methods import ALGORITHMS, ASYNCHRONOUS

import relaysim as rs
from relaysim.algorithms import D2, DPSGD, ExactDiffusion, GradientTracking, QuasiGlobalMomentum
from relaysim.faults import All, Corrupt, MessageDrop
from relaysim.support.streams import Streams

N, D, RATE, STEPS = 6, 3, 0.1, 10
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, seed=4)
START = np.random.default_rng(8).normal(size=(N, D))
GRAPH = rs.topologies.binary_tree(N)
RUN = {"problem": PROBLEM, "topology": GRAPH, "learning_rate": RATE, "x0": START, "steps": STEPS}
KNOWN = (D2, DPSGD, ExactDiffusion, GradientTracking, QuasiGlobalMomentum)
FAULTS = (Corrupt(0.2), Corrupt(0.1, "value", scale=3.0))


def flipped(number, bit):
    (whole,) = struct.unpack("<Q", struct.pack("<d", number))
    return struct.unpack("<d", struct.pack("<Q", whole ^ (1 << bit)))[0]


def altered_on_paper(fault, seed, count):
    """Number by number what arrives, by sender and receiver; ``count`` adds up those that were altered."""
    generator = Streams([seed], None).generator("faults", seed)

    def lies(W, x):
        heard = [[j for j in range(N) if j != i and W[i, j] != 0] for i in range(N)]
        most = max(map(len, heard))
        which, how = (generator.random((most, N, D)) for _ in range(2))
        told = {}
        for i in range(N):
            for k, j in enumerate(heard[i]):
                message = x[j].copy()
                for c in range(D):
                    if which[k, i, c] < fault.probability:
                        count.append((j, i, c))
                        if fault.form == "bit":
                            message[c] = flipped(message[c], int(64 * how[k, i, c]))
                        else:
                            message[c] = fault.scale * NormalDist().inv_cdf(how[k, i, c])
                told[j, i] = message
        return told

    return lies


@pytest.mark.parametrize("method", [a for a in ALGORITHMS if type(a) in KNOWN], ids=repr)
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_altered_numbers_follow_the_rule_on_paper(method, fault):
    def gradient(step, worker, x):
        return PROBLEM.gradient(np.tile(x, (N, 1)))[worker]

    count = []
    lies = altered_on_paper(fault, 5, count)
    expected = slow.run(method, GRAPH, gradient, START, [RATE] * STEPS, lies=lies)
    history = rs.simulate(**RUN, algorithm=method, faults=fault, seed=5, keep_iterates=True)
    np.testing.assert_allclose(history.iterates, expected, rtol=0, atol=1e-11)
    assert history.faults.altered_numbers.sum() == len(count)


def test_a_bit_is_flipped_and_no_other():
    fault, generator = Corrupt(1.0, "bit"), np.random.default_rng(0)
    sent = generator.normal(size=(500, 2))
    draws = [generator.random((500, 2)) for _ in range(2)]
    arrived, which = fault.altered(sent, lambda shape: draws.pop(0))
    assert which.all()
    bits = sent.view(np.uint64) ^ arrived.view(np.uint64)
    assert all(bits.bit_count() == 1 for bits in bits.ravel().tolist())
    assert len(np.unique(bits)) == 64
    draws = [generator.random((500, 2)) for _ in range(2)]
    how = draws[1].copy()
    arrived, _ = fault.altered(sent, lambda shape: draws.pop(0))
    each = [flipped(a, int(64 * u)) for a, u in zip(sent.ravel(), how.ravel(), strict=True)]
    np.testing.assert_array_equal(arrived.ravel(), each)


def test_a_replica_is_its_run_alone_and_runs_are_gone_on_with(tmp_path):
    run = RUN | {"algorithm": DPSGD(momentum=0.5), "faults": FAULTS[0]}
    whole = rs.simulate(**run | {"learning_rate": [RATE, 1e3]}, seed=[3, 4])
    for k, seed in enumerate((3, 4)):
        alone = rs.simulate(**run, seed=seed)
        np.testing.assert_allclose(whole.x[..., k], alone.x, rtol=0, atol=1e-13)
        ours = whole.faults[whole.faults.replica == k].altered_numbers
        assert ours.tolist() == alone.faults.altered_numbers.tolist()
    half = rs.simulate(**run | {"steps": 4}, seed=[3, 4])
    longer = rs.History.load(half.save(tmp_path / "half")).extend(STEPS - 4)
    straight = rs.simulate(**run, seed=[3, 4])
    np.testing.assert_array_equal(longer.x, straight.x)
    assert longer.faults.equals(straight.faults)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *ASYNCHRONOUS], ids=repr)
def test_what_has_no_rule_is_refused(algorithm):
    assert ("altered messages" in algorithm.faults) == (type(algorithm) in KNOWN)
    if type(algorithm) not in KNOWN:
        with pytest.raises(ValueError, match=r"no rule for altered messages|no messages to lose"):
            rs.simulate(**RUN, algorithm=algorithm, faults=Corrupt(0.1))


def test_bad_input():
    for options in ({"probability": 2}, {"probability": 0.1, "form": "byte"}):
        with pytest.raises(ValueError, match="must"):
            Corrupt(**options)
    with pytest.raises(ValueError, match="no rule for altered messages beside other faults"):
        All(Corrupt(0.1), MessageDrop(0.1))
    drawn = rs.mixing.random_matching(GRAPH)
    with pytest.raises(ValueError, match="no rule for altered messages where weights are drawn"):
        rs.simulate(**RUN, algorithm=DPSGD(), faults=Corrupt(0.1), mixing=drawn)
