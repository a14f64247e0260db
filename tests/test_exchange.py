"""RelaySum's messages against their definition, Sum_i^t = Σ_j s_j^{t − τ_ij}."""

from unittest import mock

import numpy as np
import pytest
import slow
from graphs import trees
from hypothesis import given
from hypothesis import strategies as st

from relaysim import topologies
from relaysim.network import Network
from relaysim.topologies import TreePair


def sums_by_definition(payloads, delays, step):
    """Sum_i and Cnt_i at a step; a payload older than the first step is not there."""
    sums, counts = np.zeros_like(payloads[0]), np.zeros(len(delays), dtype=int)
    for i, row in enumerate(delays):
        for j, delay in enumerate(row):
            if step - delay >= 0:
                sums[i] += payloads[step - int(delay)][j]
                counts[i] += 1
    return sums, counts


def received_in(network, mail, shape):
    received, missing = network.inbox(mail)
    assert received.shape == shape
    return received, np.broadcast_to(0 if missing is None else missing, shape)


@given(
    trees(),
    st.sampled_from([(1,), (2,), (3, 2), (2, 4)]),
    st.sampled_from([1 << 18, 32]),
    st.integers(0, 10**6),
)
def test_running_sums_are_delayed_sums_over_all_workers(tree, trailing, piece_bytes, seed):
    with mock.patch("relaysim.support.blocks.BLOCK_BYTES", piece_bytes):
        sums_are_delayed(tree, trailing, seed)


def sums_are_delayed(tree, trailing, seed):
    topology = topologies.from_edges(*tree)
    shape = (topology.n, *trailing)
    network = Network(topology)
    hops = slow.hop_distances(slow.neighbours_of(topology))
    rounds = topology.diameter + 3
    # Whole numbers, so that sums are exact in any order.
    payloads = np.random.default_rng(seed).integers(-99, 99, size=(rounds, *shape)).astype(float)
    mail = network.empty_mail(payloads[0])
    for step in range(rounds):
        # What had arrived before the round (overlap), τ = d; in the round, τ = max(0, d − 1).
        for overlap in (True, False):
            if not overlap:
                mail = network.relay(payloads[step], mail)
            delays = hops if overlap else np.maximum(0, hops - 1)
            sums, counts = sums_by_definition(payloads, delays, step)
            received, missing = received_in(network, mail, shape)
            np.testing.assert_array_equal(payloads[step] + received, sums)
            expected = (topology.n - counts).reshape((-1,) + (1,) * len(trailing))
            np.testing.assert_array_equal(missing, np.broadcast_to(expected, shape))
    assert network.inbox(mail)[1] is None, "everyone is heard"
    assert network.vectors_sent == rounds * 2 * (topology.n - 1)


@given(trees(least=2, most=9), st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_pair_relays_even_and_odd_coordinates_on_their_own_trees(tree, random, d):
    n, edges = tree
    labels = list(range(n))
    random.shuffle(labels)
    first = topologies.from_edges(n, edges)
    second = (
        topologies.star(n)
        if random.random() < 0.3
        else topologies.from_edges(n, [(labels[a], labels[b]) for a, b in edges])
    )
    pair = TreePair(first, second)
    network = Network(pair)
    rounds, shape = pair.diameter + 3, (n, d, 2)
    generator = np.random.default_rng(random.randrange(10**6))
    payloads = generator.integers(-99, 99, size=(rounds, *shape)).astype(float)
    mail = network.empty_mail(payloads[0])
    for step in range(rounds):
        mail = network.relay(payloads[step], mail)
        received, missing = received_in(network, mail, shape)
        for which, topology in enumerate((first, second)):
            hops = slow.hop_distances(slow.neighbours_of(topology))
            halves = payloads[:, :, which::2]
            sums, counts = sums_by_definition(halves, np.maximum(0, hops - 1), step)
            np.testing.assert_array_equal(halves[step] + received[:, which::2], sums)
            expected = np.broadcast_to((n - counts)[:, None, None], sums.shape)
            np.testing.assert_array_equal(missing[:, which::2], expected)
    assert network.vectors_sent == rounds * 2 * (n - 1), "two half vectors are one vector"


def test_a_round_can_be_taken_again_from_the_same_messages():
    network = Network(topologies.binary_tree(6))
    payloads = np.random.default_rng(0).normal(size=(8, 6, 3))
    states = [network.empty_mail(payloads[0])]
    for payload in payloads:
        states.append(network.relay(payload, states[-1]))
    for payload, before, after in zip(payloads, states[:-1], states[1:], strict=True):
        again = network.relay(payload, before)
        for array, other in zip(again, after, strict=True):
            np.testing.assert_array_equal(array, other)


def test_subtracting_from_the_sum_is_safe_on_a_star_with_100_000_leaves():
    """Messages are the sum of all that came in less one of them; the error must not build up."""
    leaves, rounds = 10**5, 120
    topology = topologies.star(leaves + 1)
    network = Network(topology)
    generator = np.random.default_rng(0)
    payloads = 1 + generator.normal(size=(8, leaves + 1, 1))  # they return every eight rounds
    # Once the pipeline is full, the hub holds everyone's payload of this round, and a leaf the
    # hub's, its own and what the other leaves sent a round before.
    totals = payloads[:, 1:].astype(np.longdouble).sum(axis=1)
    mail = network.empty_mail(payloads[0])
    errors = []
    for step in range(rounds):
        now = payloads[step % 8]
        mail = network.relay(now, mail)
        if step == 0:
            continue
        received, missing = network.inbox(mail)
        assert missing is None
        before = payloads[(step - 1) % 8]
        hub_error = abs(received[0] - totals[step % 8])
        leaf_error = np.abs(received[1:] - (now[0] + totals[(step - 1) % 8] - before[1:])).max()
        errors.append([hub_error.item(), leaf_error])
    errors = np.array(errors, dtype=float)
    # Near 10⁵ a unit in the last place is 1.5e-11, and adding 10⁵ terms one by one costs some
    # hundred of them.
    assert errors.max() < 5e-9
    period = errors[:8].max(axis=0)
    np.testing.assert_array_less(errors[-8:].max(axis=0), 1.5 * period)


def test_an_error_in_a_message_leaves_the_tree():
    """What is wrong in one message travels outward and is gone after as many rounds as hops."""
    topology = topologies.binary_tree(15)
    network = Network(topology)
    payload = np.random.default_rng(0).normal(size=(15, 2))
    mail = network.empty_mail(payload)
    for _ in range(topology.diameter + 1):
        mail = network.relay(payload, mail)
    values = mail.values.copy()
    values[3] += 1.0
    received = np.zeros_like(mail.received)
    np.add.at(received, topology.dst, values)
    wrong = mail._replace(values=values, received=received)
    assert np.abs(network.inbox(wrong)[0] - network.inbox(mail)[0]).max() > 0.5
    for _ in range(topology.diameter + 1):
        wrong = network.relay(payload, wrong)
    expected = payload.sum(axis=0) - payload
    np.testing.assert_allclose(network.inbox(wrong)[0], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("trailing", [(3,), (3, 2)])
def test_average_is_the_mean_in_every_row(trailing):
    network = Network(topologies.chain(5))
    x = np.random.default_rng(0).normal(size=(5, *trailing))
    average = network.average(x, "all-to-all")
    assert average.shape == x.shape
    for row in average:
        np.testing.assert_allclose(row, sum(x) / 5, rtol=0, atol=1e-15)
    assert network.vectors_sent == 5 * 4
    assert network.average(x).tobytes() == average.tobytes()
    assert network.vectors_sent == 5 * 4 + 2 * 4, "round a ring"
