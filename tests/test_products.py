"""Every method × every fault × oracle × kind of W × number of workers: the rule on paper, or refused.

On paper each replica runs alone and each receiver has what reached it, with plain loops; what is compared
with it are replicas of which half diverge beside it.
"""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import slow
import slow_events
from methods import ALGORITHMS, ASYNCHRONOUS, each_class

import relaysim as rs
from relaysim.support.streams import Streams

D, EXAMPLES, L2, STEPS = 4, 6, 0.1, 9
RATES, SEEDS = (0.4, 1e200), (3, 8)  # the second rate leaves all numbers after a few steps


class Watched(rs.problems.Logistic):
    """Counts how often a gradient is asked for."""

    asked = 0

    def gradient(self, *args, **options):
        self.asked += 1
        return super().gradient(*args, **options)

    def sampled_gradient(self, *args, **options):
        self.asked += 1
        return super().sampled_gradient(*args, **options)


@functools.cache
def data(n):
    """Features ``(n, examples, D)`` and labels ±1 ``(n, examples)``, another law for each worker."""
    generator = np.random.default_rng(n)
    features = generator.normal(size=(n, EXAMPLES, D)) + generator.normal(size=(n, 1, D))
    return features, np.where(generator.random((n, EXAMPLES)) < 0.5, 1.0, -1.0)


@functools.cache
def problem_of(n):
    features, labels = data(n)
    owners = np.repeat(np.arange(n), EXAMPLES)
    return Watched(features.reshape(-1, D), labels.ravel() > 0, L2, partition=owners)


@dataclasses.dataclass(frozen=True)
class Outage(rs.faults.Fault):
    """What worker 0 sends is lost in steps 2 to 4, and what it should hear in step 6."""

    def arrivals(self, edges, round):
        cut = (edges[:, 0] == 0) & (2 <= round <= 4) | (edges[:, 1] == 0) & (round == 6)
        return ~cut


@dataclasses.dataclass(frozen=True)
class Flood(rs.faults.Fault):
    """A kind that no method has a rule for."""

    kind = "floods"

    def arrivals(self, edges, round):
        return np.ones(len(edges))


def shares(topology):
    """A probability for each edge, one of them 0 and one 1."""
    return np.linspace(0, 1, len(topology.edges))


FAULTS = {
    "none": lambda topology: None,
    "scalar": lambda topology: rs.faults.MessageDrop(0.35),
    "per edge": lambda topology: rs.faults.MessageDrop(shares(topology)),
    "outage": lambda topology: Outage(),
    "flood": lambda topology: Flood(),
}


def arrivals_on_paper(fault, topology, seed):
    """``arrives(edges, step, further)`` of a run of one seed, message by message."""
    streams = Streams([seed], None)
    generator = streams.generator("faults", seed)
    lost_share = {}
    if fault == "per edge":
        lost_share = dict(zip(map(tuple, topology.edges.tolist()), shares(topology), strict=True))

    def arrives(edges, step, further):
        if fault == "outage":
            return [not ((i == 0 and 2 <= step <= 4) or (j == 0 and step == 6)) for i, j in edges]
        if fault == "none":
            return [True] * len(edges)
        own = streams.generator("faults", seed, step, further) if further else generator
        drawn = own.random(len(edges))
        return [
            u >= (lost_share[min(edge), max(edge)] if lost_share else 0.35)
            for u, edge in zip(drawn, edges, strict=True)
        ]

    return arrives


def alternating(topology):
    """Two symmetric matrices by turns, each on half of the edges."""
    n, matrices = topology.n, []
    for odd in (0, 1):
        W = np.eye(n)
        for i, j in topology.edges.tolist()[odd::2]:
            W[i, j] = W[j, i] = 0.25
            W[i, i] -= 0.25
            W[j, j] -= 0.25
        matrices.append(W)
    return matrices


def of_rows(topology):
    """Rows sum to 1, columns do not, and the first worker gives itself no weight where it has neighbours."""
    A = topology.adjacency.toarray() * np.linspace(1, 2, topology.n)
    A += np.diag(np.arange(topology.n) + (topology.n == 1.0))
    return [A / A.sum(axis=1, keepdims=True)]


def lazy(topology):
    return [(np.asarray(rs.mixing.metropolis(topology).todense()) + np.eye(topology.n)) / 2]


MATRICES = {
    "metropolis": lambda topology: None,
    "lazy": lazy,
    "alternating": alternating,
    "of rows": of_rows,
}


def exact_on_paper(n, seed):
    features, labels = data(n)

    def gradient(step, worker, x):
        total = L2 * x
        for a, y in zip(features[worker], labels[worker], strict=True):
            total = total - y * a / (1 + np.exp(y * (a @ x))) / EXAMPLES
        return total

    return gradient


def gaussian_on_paper(n, seed):
    noise = Streams([seed], None).generator("gradient", seed).standard_normal((STEPS + 2, n, D))
    exact = exact_on_paper(n, seed)
    return lambda step, worker, x: exact(step, worker, x) + np.sqrt(0.3 / D) * noise[step, worker]


def minibatch_on_paper(n, seed):
    features, labels = data(n)
    drawn = Streams([seed], None).generator("sampling", seed).random((STEPS + 2, n, 2))
    chosen = np.floor(drawn * EXAMPLES).astype(int)

    def gradient(step, worker, x):
        total = L2 * x
        for k in chosen[step, worker]:
            a, y = features[worker, k], labels[worker, k]
            total = total - y * a / (1 + np.exp(y * (a @ x))) / 2
        return total

    return gradient


ORACLES = {
    "exact": (rs.oracles.Exact(), exact_on_paper),
    "gaussian": (rs.oracles.Gaussian(0.3), gaussian_on_paper),
    "minibatch": (rs.oracles.Minibatch(2, "with replacement"), minibatch_on_paper),
}


def topology_of(algorithm, n, pair=False):
    if algorithm.uses == "relay" and pair and n > 1:
        return rs.topologies.double_binary_tree(n)
    if algorithm.uses == "relay" or n < 3:
        return rs.topologies.chain(n)
    if algorithm.uses == "workers" and pair:
        return rs.topologies.complete(n)
    return rs.topologies.ring(n)


def connected(links):
    return np.linalg.matrix_power(links + np.eye(len(links)), len(links)).all()


def is_refused(algorithm, topology, fault, matrices):
    """By what a method claims; logistic problems have no closed-form solve."""
    n = topology.n
    if isinstance(algorithm, rs.algorithms.ADMM):
        return True
    if algorithm.uses == "events" and n == 1:
        return True
    if matrices is not None:
        if algorithm.uses != "mixing":
            return True
        if "symmetric" in algorithm.mixing_needs and any((W != W.T).any() for W in matrices):
            return True
        every = algorithm.sends_every or 1  # who sends in some steps has their matrices only
        used = [matrices[t % len(matrices)] for t in range(every - 1, every * len(matrices), every)]
        if not connected(np.sum([W != 0 for W in used], axis=0)):
            return True
        if algorithm.mixing_needs == "one symmetric" and len(matrices) > 1:
            return True
        if "column" in algorithm.mixing_needs:
            in_turn = 2 if algorithm.mixing_needs.startswith("row") else 1
            uses = [matrices[t % len(matrices)] for t in range(in_turn * len(matrices))]
            columns = uses[in_turn - 1 :: in_turn]
            if any(np.abs(W.sum(axis=0) - 1).max() > 1e-9 for W in columns):
                return True
            kinds = [uses[k::in_turn] for k in range(in_turn)]
            if not all(connected(np.sum([W != 0 for W in kind], axis=0)) for kind in kinds):
                return True
    if fault is None:
        return False
    if rs.faults.kind_of(fault) not in algorithm.faults:
        return True
    own_edges = n > 3 and algorithm.uses == "workers" and len(topology.edges) < n * (n - 1) / 2
    return np.ndim(getattr(fault, "probability", 0)) == 1 and own_edges


def follow_the_rule_or_are_refused(algorithm, n, fault, oracle, matrix, pair, record=1):
    topology, problem = topology_of(algorithm, n, pair), problem_of(n)
    if fault == "per edge" and (n == 1 or isinstance(topology, rs.topologies.TreePair)):
        return  # no edges, or no one list of them, to give numbers to: tests/test_faults.py
    faults, matrices = FAULTS[fault](topology), MATRICES[matrix](topology_of(algorithm, n))
    observed, gradient_on_paper = ORACLES[oracle]
    x0 = np.random.default_rng(7).normal(size=(n, D))
    run = {
        "mixing": matrices,
        "oracle": observed,
        "faults": faults,
        "learning_rate": RATES,
        "seed": SEEDS,
        "steps": STEPS,
        "x0": x0,
        "keep_iterates": True,
        "record": record,
    }
    before = problem.asked
    if is_refused(algorithm, topology, faults, matrices):
        with pytest.raises(ValueError, match=r"\w+ .*[;,:] \w+"):
            rs.simulate(problem, topology, algorithm, **run)
        assert problem.asked == before
        return
    with np.errstate(all="ignore"):
        found = rs.simulate(problem, topology, algorithm, **run)
    assert found.diverged.tolist() == [False, False, True, True]
    for k, seed in enumerate(SEEDS):  # of the first rate
        if algorithm.uses == "events":
            exact = exact_on_paper(n, seed)
            expected = slow_events.run(
                algorithm,
                topology,
                lambda i, x, t, f=exact: f(t, i, x),
                x0,
                [RATES[0]] * STEPS,
                seed,
            )
        else:
            expected = slow.run(
                algorithm,
                topology,
                gradient_on_paper(n, seed),
                x0,
                [RATES[0]] * STEPS,
                matrices,
                arrivals_on_paper(fault, topology, seed),
                seed,
                rs.theory.local_smoothness(problem),
            )
        scale = max(np.abs(expected).max(), 1.0)
        recorded = expected[::record]
        np.testing.assert_allclose(found.iterates[..., k], recorded, rtol=0, atol=1e-12 * scale)
    one = run | {"learning_rate": RATES[0], "seed": SEEDS[1]}
    alone = rs.simulate(problem, topology, algorithm, **one).iterates
    np.testing.assert_allclose(found.iterates[..., 1], alone, rtol=0, atol=1e-13 * scale)


SIZES = (1, 2, 3, 5)
ALL = (*ALGORITHMS, *ASYNCHRONOUS)
pytestmark = pytest.mark.filterwarnings("ignore:.*doubly stochastic")


def squares(number):
    """For each fault and size an oracle, a matrix and a graph, so that all pairs of them come up."""
    for a, (fault, n) in enumerate(itertools.product(FAULTS, SIZES)):
        turn = a + number
        # Recorded in every step, replicas that diverge leave at once; else they go on beside the others.
        record = (1, STEPS)[turn // 2 % 2]
        yield n, fault, [*ORACLES][turn % 3], [*MATRICES][turn // 3 % 4], bool(turn % 2), record


@pytest.mark.parametrize("algorithm", each_class(ALL))
def test_methods_follow_their_rule_or_are_refused(algorithm):
    for n, fault, oracle, matrix, pair, record in squares(ALL.index(algorithm)):
        if algorithm.uses == "events":
            oracle = "exact"  # noise of events: tests/test_events.py
        if algorithm.uses != "mixing" and fault != "flood":
            matrix = "metropolis"  # which is none of theirs
        try:
            follow_the_rule_or_are_refused(algorithm, n, fault, oracle, matrix, pair, record)
        except AssertionError as error:
            raise AssertionError(f"n={n}, {fault}, {oracle}, {matrix}, {pair}") from error


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_all_combinations_follow_the_rule_or_are_refused(algorithm):
    matrices = MATRICES if algorithm.uses == "mixing" else ("metropolis",)
    pairs = (False,) if algorithm.uses == "mixing" else (False, True)
    for case in itertools.product((5,), FAULTS, ORACLES, matrices, pairs):
        try:
            follow_the_rule_or_are_refused(algorithm, *case, record=STEPS)
        except AssertionError as error:
            raise AssertionError(str(case)) from error
