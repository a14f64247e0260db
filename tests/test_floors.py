"""Noise floors and the matrices they come from, by every way in which they are found."""

import functools
import tracemalloc

import numpy as np
import pytest
from methods import AFFINE

import relaysim as rs
from relaysim.theory import columns, decoupling, floors, groups, lasting


def quadratics(n, d, zeta2=1.0):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=zeta2, mu=0.2, r0=1.0, seed=3)


# -- matrices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(
    "algorithm", [each for each in AFFINE if each.uses != "relay"], ids=lambda each: repr(each)
)
def test_probes_of_many_workers_tell_what_unit_vectors_do(algorithm, d):
    problem, topology = quadratics(18, d), rs.topologies.ring(18)
    given = (problem, topology, algorithm, 0.1)
    many, single = (rs.theory.linearize(*given)._map for _ in range(2))
    of_the_ring = many.workers is not None and len(many.mixing_matrices) <= 1
    assert of_the_ring == (many.probes is not None)
    single.probes = None
    for each, expected in zip(
        [*many.matrices, *many.noise], [*single.matrices, *single.noise], strict=True
    ):
        assert abs(each - expected).max() <= 1e-15 * abs(expected).max()


def _watched(seen, linear, y, phase):
    seen.append(y.shape[1])
    return linear(y, phase)


def test_local_steps_are_probed_a_few_times(monkeypatch):
    counts = {}
    for n in (20, 200):
        step = rs.theory.linearize(
            quadratics(n, 1), rs.topologies.ring(n), rs.algorithms.D2(), 0.1
        )._map
        seen = []
        monkeypatch.setattr(step, "linear", functools.partial(_watched, seen, step.linear))
        assert step.matrices[0].shape == (step.states, step.states)
        counts[n] = sum(seen)
    assert counts[200] <= counts[20] < 20


def test_a_circle_has_the_modes_of_any_of_its_names():
    """Waves are modes where workers are numbered along it; else they are computed."""
    random = np.random.default_rng(0)
    for n in (3, 8, 9):
        W = rs.mixing.metropolis(rs.topologies.ring(n))
        V = decoupling._modes(W)
        np.testing.assert_allclose(V.T @ V, np.eye(n), atol=1e-14)
        inner = V.T @ W.toarray() @ V
        np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-14)
    names = random.permutation(9)
    rings = rs.topologies.ring(9), rs.topologies.Topology(9, names[rs.topologies.ring(9).edges])
    start = random.normal(size=(9, 2))
    curvatures = np.tile([0.3, 1.0], (9, 1))
    found = []
    for ring, own in zip(rings, (start, start[np.argsort(names)]), strict=True):
        problem = rs.problems.DiagonalQuadratic(curvatures, own)
        linear = rs.theory.linearize(problem, ring, rs.algorithms.D2(), 0.4)
        assert linear._coordinates.workers is not None
        found.append([linear.spectral_radius, *linear.stationary(0.5)])
    np.testing.assert_allclose(*found, rtol=1e-11)


# -- sums ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "mixing"),
    [
        (rs.algorithms.D2(), None),
        (rs.algorithms.GradientTracking(), None),
        (rs.algorithms.AllReduce(momentum=0.5), None),
        (rs.algorithms.DPSGD(momentum=0.5), (0.1, 0.3, 0.45)),
    ],
    ids=repr,
)
def test_columns_add_up_to_what_doubling_finds(algorithm, mixing, monkeypatch):
    n, d = 6, 4
    ring = rs.topologies.ring(n)
    mixing = None if mixing is None else [rs.mixing.uniform(ring, weight) for weight in mixing]
    linear = rs.theory.linearize(quadratics(n, d), ring, algorithm, 0.3, mixing=mixing)
    floor, sigma2 = linear._floor, np.linspace(0.2, 1.0, n)
    assert not floor._columns_pay()
    monkeypatch.setattr(columns, "FIRST_LOOK", 8)
    monkeypatch.setattr(columns, "PIECE_BYTES", 1000)
    left, fewer = [], columns._fewer
    monkeypatch.setattr(columns, "_fewer", lambda *given: left.append(fewer(*given)) or left[-1])
    for each in (floor, linear._spread_by(sigma2)[1]):
        for found, expected in zip(each._by_columns(), each.spreads, strict=True):
            np.testing.assert_allclose(found.workers, expected.workers, rtol=1e-10)
            np.testing.assert_allclose(
                found.mean, expected.mean, rtol=1e-10, atol=1e-10 * expected.mean.max()
            )
            assert found.consensus == pytest.approx(
                expected.consensus, rel=1e-10, abs=1e-12 * expected.workers.max()
            )
    assert min(each.shape[1] for each in left) < n * d / 2, "columns have not become fewer"


def test_the_smallest_of_what_is_summed():
    """In loops, over both steps of a period."""
    sums, squares = columns.Sums(2, 3, 4), []
    for phase in (0, 1):
        x = np.random.default_rng(phase).normal(size=(3, 4, 5)) * (1 + phase)
        sums.add(phase, x.reshape(12, 5))
        mean = x.mean(axis=0)
        squares += [(each**2).sum() for each in x]
        squares += [3 * (mean**2).sum(), ((x - mean) ** 2).sum()]
    assert sums.smallest == pytest.approx(min(squares), rel=1e-12)


def test_what_pays_is_what_is_taken():
    """Of many unequal Hessians columns, of few doubling; what relays leave is neither."""
    ring, D2 = rs.topologies.ring(16), rs.algorithms.D2()
    floor = rs.theory.linearize(quadratics(16, 20), ring, D2, 0.3)._floor
    assert floor._columns_pay()
    taken = floor.spreads[0]
    doubled = floors._covariances(
        floor._matrices, [B @ B.T for B in floor._noise], floor._conserved
    )
    own = doubled[0][: 16 * 20, : 16 * 20].reshape(16, 20, 16, 20)
    np.testing.assert_allclose(taken.workers, np.einsum("ikik->i", own), rtol=1e-10)
    np.testing.assert_allclose(
        taken.mean, own.mean(axis=(0, 2)), rtol=1e-10, atol=1e-10 * taken.mean.max()
    )


# -- memory --------------------------------------------------------------------------------------------


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def floor_of(problem, topology, algorithm):
    """Without its radius, which takes longer."""
    step = rs.theory.linearize(problem, topology, algorithm, 0.2)._map
    return floors.Floor(decoupling.Coordinates(step), 0.97, np.ones(problem.n))


def test_what_relays_need_is_estimated(monkeypatch):
    n, d = 32, 8
    floor = floor_of(quadratics(n, d), rs.topologies.chain(n), rs.algorithms.RelaySGD())
    expected = floor._lasting.memory(floor.step.states, n * d)
    assert expected < 0.75 * lasting.memory_of_doubling(floor.step.states)
    floor._groups  # noqa: B018 - not part of it
    assert 0.75 * expected <= peak(lambda: floor.spreads) <= expected
    asked = []
    monkeypatch.setattr(floors, "require_memory", lambda needed, *said: asked.append(needed))
    del floor.spreads
    assert floor.spreads
    assert asked == [expected]


@pytest.mark.parametrize(
    ("n", "d", "graph", "algorithm", "least"),
    [
        (32, 12, "ring", rs.algorithms.D2(), 0.5),
        # Few columns, of which a step makes many times as much: differences over all edges, or messages.
        (32, 6, "complete", rs.algorithms.D2(), 0.75),
        (32, 4, "complete", rs.algorithms.ADMM(), 0.75),
        (16, 12, "chain", rs.algorithms.RelaySGD(), 0.75),
        (16, 5, "ring", rs.algorithms.D2(), 0.5),
    ],
)
def test_what_columns_need_is_estimated(n, d, graph, algorithm, least):
    floor = floor_of(quadratics(n, d), getattr(rs.topologies, graph)(n), algorithm)
    expected = floor._memory_of_columns()
    floor.step.linear(np.zeros((floor.step.states, 1)), 0)  # what is made for good is no part of it
    assert least * expected <= peak(floor._by_columns) <= expected


def test_what_doubling_needs_is_estimated():
    n, d = 24, 12
    floor = floor_of(quadratics(n, d), rs.topologies.ring(n), rs.algorithms.GradientTracking())
    A = groups.part_of(floor._matrices[0], np.arange(floor.step.states))
    B = floor._noise[0]
    source = B @ B.T
    expected = lasting.memory_of_doubling(floor.step.states)
    taken = peak(lambda: floors._covariances([A], [source], floor._conserved))
    assert 0.75 * expected <= taken <= expected


def test_a_floor_that_does_not_fit_is_refused_before_it_is_begun(monkeypatch):
    from relaysim.support import checks

    monkeypatch.setattr(checks, "memory_bytes", lambda: 1e5)
    for topology, algorithm in (
        (rs.topologies.chain(32), rs.algorithms.RelaySGD()),
        (rs.topologies.ring(32), rs.algorithms.D2()),
    ):
        floor = floor_of(quadratics(32, 12), topology, algorithm)
        with pytest.raises(ValueError, match=r"the covariance of \d+ states would take .* MB"):
            floor.spreads  # noqa: B018
