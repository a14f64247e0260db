"""`rs.algorithms.check` holds for every method there is, and fails on each claim that a mutant breaks."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from methods import ALGORITHMS, ASYNCHRONOUS, BY_NUMBER, each_class

import relaysim as rs
from relaysim.algorithms.base import Method

PROBLEM = rs.problems.random_quadratics(n=7, d=3, zeta2=1.0, seed=0)
TREE, RING = rs.topologies.chain(7), rs.topologies.ring(7)
START = "goes with the problem and topology, and has all claims"
OPTIONS = "options are frozen, and compare by what they are"
READS = "init and step write into nothing that they were given"
STATE = "the state is a NamedTuple of arrays, x (n, d) among them"
FUNCTION = "a step is a function of its arguments"
ONCE = "a step asks for one gradient"
CONSERVED = "conserved: steps leave it as it is"
BITS = "the same call gives the same bits"
ALONE = "a replica is as its run alone"
LONGER = "a run that is gone on with is the run that never stopped"
VECTORS = "vectors_per_edge: what is sent"
HOPS = "hops_per_step: information moves no further"
EXACT = "exact: it reaches x* at a constant rate although data differ"
AFFINE = "affine, cycle: the map of its own step gives its curve on quadratics"
FAULTS = "faults: a loss that never happens changes nothing, one that does is survived"


@pytest.mark.parametrize("algorithm", each_class((*ALGORITHMS, *ASYNCHRONOUS, *BY_NUMBER)))
def test_all_methods_hold(algorithm, monkeypatch):
    steps = 2000 if algorithm.uses == "relay" else 1200  # overlapping relays are the slowest of all
    monkeypatch.setattr("relaysim.studies.contract.STEPS_TO_THE_OPTIMUM", steps)
    topology = TREE if algorithm.uses == "relay" else RING
    table = rs.algorithms.check(algorithm, PROBLEM, topology)
    assert table.holds.all(), f"\n{table}"
    found = table.set_index("claim").holds
    assert found[[START, BITS, ALONE, LONGER]].all()
    if algorithm.uses != "events":
        assert found[[READS, STATE, FUNCTION]].all()
        assert algorithm in BY_NUMBER or found[ONCE]
    if algorithm.exact:
        assert found[EXACT]


def test_it_goes_with_pairs_of_trees_sequences_and_one_worker():
    pair = rs.topologies.double_binary_tree(7)
    sequence = rs.mixing.one_peer_exponential(7)
    for algorithm, topology, options in (
        (rs.algorithms.RelaySGD(), pair, {}),
        (rs.algorithms.D2(), rs.topologies.exponential(7), {"mixing": sequence}),
        (rs.algorithms.DPSGD(), rs.topologies.complete(7), {"learning_rate": 0.3, "steps": 9}),
    ):
        table = rs.algorithms.check(algorithm, PROBLEM, topology, **options)
        assert table.holds.all(), f"\n{table}"
    alone = rs.problems.random_quadratics(n=1, d=3, zeta2=0.0, seed=0)
    table = rs.algorithms.check(rs.algorithms.D2(), alone, rs.topologies.chain(1))
    assert table.holds.all(), f"\n{table}"


class State(NamedTuple):
    x: np.ndarray


@dataclasses.dataclass(frozen=True)
class Gossip(Method):
    """X ← W(X − γG), from which each mutant differs in one thing."""

    label: ClassVar[str] = "Gossip"
    uses: ClassVar[str] = "mixing"

    def init(self, x0, network):
        return State(x0)

    def step(self, state, round):
        gradient = round.gradient(state.x)
        return State(round.mix(state.x - round.learning_rate * gradient))


class Writes(Gossip):
    def step(self, state, round):
        gradient = round.gradient(state.x)
        np.subtract(state.x, round.learning_rate * gradient, out=state.x)
        return State(round.mix(state.x))


class Plain(Gossip):
    def init(self, x0, network):
        return (x0,)

    def step(self, state, round):
        return (round.mix(state[0] - round.learning_rate * round.gradient(state[0])),)


class Remembers(Gossip):
    calls = 0

    def step(self, state, round):
        type(self).calls += 1
        return State(super().step(state, round).x + 1e-3 * (self.calls % 7))


class AsksTwice(Gossip):
    def step(self, state, round):
        round.gradient(state.x)
        return super().step(state, round)


class Conserves(Gossip):
    def conserved(self, state, network, learning_rate):
        return state.x.mean(axis=0, keepdims=True)


class MixesReplicas(Gossip):
    def step(self, state, round):
        x = super().step(state, round).x
        return State(x if x.ndim == 2 else x + 1e-9 * x.mean(axis=2, keepdims=True))


class SendsTwice(Gossip):
    def step(self, state, round):
        return State(round.mix(super().step(state, round).x))


class ClaimsToBeExact(Gossip):
    exact: ClassVar[bool] = True


class Clips(Gossip):
    def step(self, state, round):
        return State(np.clip(super().step(state, round).x, -0.5, 0.5))


class EverySecond(Gossip):
    def step(self, state, round):
        gradient = round.gradient(state.x)
        x = state.x - round.learning_rate * gradient
        return State(round.mix(x) if round.step % 2 else x)


class Thawed(Method):
    label, uses = "Thawed", "mixing"
    init, step = Gossip.init, Gossip.step


def failures(algorithm, **options):
    table = rs.algorithms.check(algorithm, PROBLEM, RING, **options)
    return set(table.claim[~table.holds.fillna(True)])


def test_the_method_that_mutants_come_from_holds():
    assert failures(Gossip()) == set()
    table = rs.algorithms.check(Gossip(), PROBLEM, RING).set_index("claim")
    missing = table.index[table.holds.isna()]
    assert list(missing) == [CONSERVED, EXACT, FAULTS]


@pytest.mark.parametrize(
    ("algorithm", "claims"),
    [
        (Writes(), {READS}),
        (Plain(), {STATE}),
        (Remembers(), {FUNCTION, BITS, LONGER}),
        (AsksTwice(), {ONCE}),
        (Conserves(), {CONSERVED}),
        (MixesReplicas(), {ALONE}),
        (SendsTwice(), {VECTORS, HOPS}),
        (ClaimsToBeExact(), {EXACT}),
        (Clips(), {AFFINE}),
        (EverySecond(), {VECTORS, AFFINE}),
        (Thawed(), {OPTIONS}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_broken_claim_is_found(algorithm, claims):
    assert claims <= failures(algorithm)


def test_what_does_not_go_together_is_one_row_that_says_why():
    table = rs.algorithms.check(rs.algorithms.RelaySGD(), PROBLEM, RING)
    assert table.holds.tolist() == [False]
    assert "RelaySGD needs a tree" in table.note[0]
    assert repr(table).endswith("0 hold, 1 fail, 0 are not there")
    table = rs.algorithms.check(object(), PROBLEM, RING)
    assert "is no algorithm" in table.note[0]
    with pytest.raises(ValueError, match="steps must be at least 2"):
        rs.algorithms.check(Gossip(), PROBLEM, RING, steps=1)


def test_the_name_is_not_one_of_a_method():
    assert callable(rs.algorithms.check)
    assert "check" not in rs.algorithms.__all__
