import dataclasses
import math
import zipfile
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from scipy import sparse

import relaysim as rs
from relaysim.algorithms import (
    D2,
    DPSGD,
    SGP,
    AllReduce,
    ExactDiffusion,
    GradientTracking,
    RelaySGD,
    RelaySGDGrad,
)
from relaysim.algorithms.base import Method

N, D = 6, 3
CHAIN = rs.topologies.chain(N)
PROBLEM = rs.problems.random_quadratics(n=N, d=D, zeta2=5.0, mu=0.25, seed=0)


RELAY_SGD = RelaySGD()


def simulate(problem=PROBLEM, topology=CHAIN, algorithm=RELAY_SGD, **options):
    options = {"learning_rate": 0.3, "steps": 20} | options
    return rs.simulate(problem, topology, algorithm, **options)


class Cosh:
    """f_i(x) = Σ_k cosh(x_k − c_ik): not quadratic, and its optimum is not known."""

    def __init__(self, n=N, d=D, seed=0):
        self.n, self.d = n, d
        self.centers = np.random.default_rng(seed).normal(size=(n, d))

    def gradient(self, x):
        return np.sinh(x - self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 2)))

    def value(self, x):
        centers = self.centers.reshape(self.centers.shape + (1,) * (x.ndim - 1))
        return np.cosh(x - centers).sum(axis=1).mean(axis=0)


class CoshWithOptimum(Cosh):
    """Σ_i sinh(x − c_i) = 0 where e^{2x} = Σ e^{c_i} / Σ e^{−c_i}."""

    @property
    def optimum(self):
        return 0.5 * np.log(np.exp(self.centers).sum(axis=0) / np.exp(-self.centers).sum(axis=0))


@dataclasses.dataclass(frozen=True)
class Alone(Method):
    """Everyone walks down their own gradients; nobody speaks."""

    label: ClassVar[str] = "Alone"
    uses: ClassVar[str] = "workers"

    def vectors_per_edge(self, d):
        return 0

    class State(NamedTuple):
        x: np.ndarray

    def own_mixing(self, n):
        return None

    def init(self, x0, network):
        return Alone.State(x0)

    def step(self, state, round):
        return Alone.State(state.x - round.learning_rate * round.gradient(state.x))


# -- recording -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "steps", "expected"),
    [
        (None, 4, [0, 1, 2, 3, 4]),
        (1, 3, [0, 1, 2, 3]),
        (7, 20, [0, 7, 14, 20]),
        (5, 20, [0, 5, 10, 15, 20]),
        (50, 20, [0, 20]),
        ([3, 11], 20, [3, 11]),
        ((11, 3, 3), 20, [3, 11]),
        (np.array([0, 20]), 20, [0, 20]),
        (range(2, 9, 3), 20, [2, 5, 8]),
        (None, 0, [0]),
        (3, 0, [0]),
        ("log", 0, [0]),
        ("log", 1, [0, 1]),
        ("log", 5, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_which_steps_are_recorded(record, steps, expected):
    history = simulate(record=record, steps=steps, keep_iterates=True)
    assert history.steps.tolist() == expected
    assert history.frame.step.tolist() == expected
    full = simulate(steps=steps, keep_iterates=True)
    np.testing.assert_array_equal(history.iterates, full.iterates[expected])
    assert history.frame.vectors_sent.tolist() == [2 * (N - 1) * step for step in expected]
    np.testing.assert_array_equal(history.x, full.x)


def test_log_records_about_40_steps_a_decade():
    steps = simulate(record="log", steps=10_000, learning_rate=0.1).steps
    assert (steps[0], steps[-1]) == (0, 10_000)
    for low, high in ((100, 1000), (1000, 10_000)):
        assert 39 <= np.count_nonzero((steps >= low) & (steps < high)) <= 41
    late = steps[steps > 500]
    assert (late[1:] / late[:-1] < 10 ** (1 / 40) * 1.01).all()


@pytest.mark.parametrize("replicas", [None, 2])
def test_columns_are_measured_on_the_iterates(replicas):
    oracle = rs.oracles.Gaussian(0.3)
    history = simulate(steps=600, replicas=replicas, oracle=oracle, keep_iterates=True)
    hessian = np.mean([A.T @ A for A in PROBLEM.A], axis=0)
    pull = np.mean([A.T @ b for A, b in zip(PROBLEM.A, PROBLEM.b, strict=True)], axis=0)
    x_star = np.linalg.solve(hessian, pull)
    iterates = history.iterates[..., None] if replicas is None else history.iterates
    for replica, rows in history.frame.groupby("replica"):
        for t, row in enumerate(rows.itertuples()):
            x = iterates[t, :, :, replica]
            mean = x.mean(axis=0)
            gradient = hessian @ (mean - x_star)
            expected = {
                "suboptimality": 0.5 * (mean - x_star) @ gradient,
                "consensus_distance": ((x - mean) ** 2).sum() / N,
                "distance": ((x - x_star) ** 2).sum() / N,
                "gradient_norm": gradient @ gradient,
            }
            for name, value in expected.items():
                assert math.isclose(getattr(row, name), value, rel_tol=1e-9, abs_tol=1e-25), name


def test_the_frame_is_tidy():
    history = simulate(learning_rate=[0.1, 0.2], seed=[4, 9], steps=6, record=3)
    frame = history.frame
    assert list(frame.columns) == [
        "replica",
        "seed",
        "learning_rate",
        "step",
        "suboptimality",
        "consensus_distance",
        "distance",
        "gradient_norm",
        "vectors_sent",
        "bits_sent",
    ]
    assert frame.replica.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert frame.step.tolist() == [0, 3, 6] * 4
    assert history.replicas == 4


def test_iterates_are_kept_only_if_asked_for():
    assert simulate().iterates is None
    history = simulate(steps=3, keep_iterates=True)
    np.testing.assert_array_equal(history.iterates[-1], history.x)
    np.testing.assert_array_equal(history.iterates[0], 0)


# -- replicas --------------------------------------------------------------------------------------


def test_rates_multiply_with_seeds_rates_outermost():
    history = simulate(
        learning_rate=np.array([0.1, 0.2, 0.3]),
        seed=[7, 5],
        oracle=rs.oracles.Gaussian(1.0),
        steps=8,
        record=8,
    )
    last = history.frame[history.frame.step == 8]
    assert last.learning_rate.tolist() == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert last.seed.tolist() == [7, 5, 7, 5, 7, 5]
    assert history.x.shape == (N, D, 6)
    for replica, (rate, seed) in enumerate(zip(last.learning_rate, last.seed, strict=True)):
        alone = simulate(
            learning_rate=rate, seed=seed, oracle=rs.oracles.Gaussian(1.0), steps=8, record=8
        )
        np.testing.assert_allclose(history.x[..., replica], alone.x, rtol=0, atol=1e-13)


def test_replicas_are_consecutive_seeds():
    options = {"oracle": rs.oracles.Gaussian(1.0), "steps": 5}
    counted, listed = simulate(replicas=3, seed=5, **options), simulate(seed=[5, 6, 7], **options)
    np.testing.assert_array_equal(counted.x, listed.x)
    assert counted.frame.seed.unique().tolist() == [5, 6, 7]
    assert simulate(replicas=1, **options).x.shape == (N, D, 1)
    assert simulate(seed=[0], **options).x.shape == (N, D, 1)
    assert simulate(learning_rate=[0.1], **options).x.shape == (N, D, 1)
    assert simulate(**options).x.shape == (N, D)


def test_starting_points_of_every_shape():
    generator = np.random.default_rng(0)
    one, each = generator.normal(size=D), generator.normal(size=(N, D))
    apart = generator.normal(size=(N, D, 2))

    def first(**options):
        return simulate(steps=1, keep_iterates=True, **options).iterates[0]

    np.testing.assert_array_equal(first(), np.zeros((N, D)))
    np.testing.assert_array_equal(first(x0=one), np.tile(one, (N, 1)))
    np.testing.assert_array_equal(first(x0=each.tolist()), each)
    np.testing.assert_array_equal(first(x0=apart), apart)
    np.testing.assert_array_equal(first(x0=apart[..., :1]), apart[..., :1])
    np.testing.assert_array_equal(first(x0=each, replicas=2)[..., 1], each)
    np.testing.assert_array_equal(first(x0=apart, learning_rate=[0.1, 0.2]), apart)
    np.testing.assert_array_equal(first(x0=apart, seed=[1, 2]), apart)
    np.testing.assert_array_equal(first(x0=apart, learning_rate=lambda t: 0.1), apart)
    history = simulate(x0=np.ones(D, dtype=int), steps=2)
    assert history.x.dtype == np.float64


# -- learning rates --------------------------------------------------------------------------------


def test_a_schedule_gives_every_step_its_rate():
    asked = []

    def rate(step):
        asked.append(step)
        return 0.5 / (1 + step)

    history = simulate(
        algorithm=Alone(), learning_rate=rate, steps=5, x0=np.ones(D), keep_iterates=True
    )
    assert set(asked) == set(range(5))
    x = np.ones((N, D))
    for step in range(5):
        x = x - 0.5 / (1 + step) * PROBLEM.gradient(x)
        np.testing.assert_allclose(history.iterates[step + 1], x, rtol=0, atol=1e-14)
    in_force = [0.5 / (1 + min(step, 4)) for step in range(6)]
    np.testing.assert_allclose(history.frame.learning_rate, in_force, rtol=1e-15)


def test_a_constant_schedule_is_a_constant_rate():
    options = {"oracle": rs.oracles.Gaussian(1.0), "replicas": 2}
    schedule = simulate(learning_rate=lambda step: 0.3, **options)
    np.testing.assert_array_equal(schedule.x, simulate(learning_rate=0.3, **options).x)


def test_a_rate_may_be_any_number():
    expected = simulate(learning_rate=1.0).x
    for rate in (1, np.float64(1), np.int64(1), np.array(1.0)):
        np.testing.assert_array_equal(simulate(learning_rate=rate).x, expected)
    assert simulate(learning_rate=0).frame.gradient_norm.nunique() == 1


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "algorithm", "per_step"),
    [
        (rs.topologies.chain(6), RelaySGD(), 10),
        (rs.topologies.star(6), RelaySGDGrad(overlap=True), 10),
        (rs.topologies.double_binary_tree(6), RelaySGD(), 10),
        (rs.topologies.chain(6), DPSGD(), 10),
        (rs.topologies.ring(6), DPSGD(overlap=True), 12),
        (rs.topologies.complete(6), DPSGD(), 30),
        (rs.topologies.ring(6), D2(), 12),
        (rs.topologies.torus(2, 3), ExactDiffusion(), 18),
        (rs.topologies.ring(6), GradientTracking(), 24),
        (rs.topologies.ring(6), AllReduce(), 10),
        (rs.topologies.ring(6), AllReduce(count="all-to-all"), 30),
        (rs.topologies.chain(6), SGP(), 12),
        (rs.topologies.star(6), SGP(rounds=5), 30),
        (rs.topologies.chain(6), Alone(), 0),
    ],
    ids=repr,
)
def test_vectors_sent(topology, algorithm, per_step):
    history = simulate(topology=topology, algorithm=algorithm, steps=4, replicas=2)
    assert history.frame.vectors_sent.tolist() == [per_step * step for step in range(5)] * 2


# -- the end of a replica --------------------------------------------------------------------------


def test_steps_to_is_the_first_record_below():
    history = simulate(learning_rate=[0.3, 0.01], steps=300, record=10)
    frame = history.frame[history.frame.replica == 0]
    below = frame[frame.suboptimality < 1e-6].step.min()
    assert 0 < below < 300
    assert history.steps_to(1e-6)[0] == below
    assert np.isnan(history.steps_to(1e-6)[1])
    assert history.steps_to(1e9).tolist() == [0, 0]
    with pytest.raises(ValueError, match="optimum of this problem is not known"):
        simulate(Cosh()).steps_to(1e-6)


@pytest.mark.parametrize("record", [None, 7])
@pytest.mark.parametrize("block_bytes", [1 << 19, 0], ids=["late", "at once"])
def test_stop_below_ends_each_replica_at_its_record(record, block_bytes, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    rates, options = [0.3, 0.05, 0.5, 0.0], {"steps": 400, "record": record}
    full = simulate(learning_rate=rates, keep_iterates=True, **options)
    stopped = simulate(learning_rate=rates, stop_below=1e-6, keep_iterates=True, **options)
    assert not stopped.diverged.any()
    for replica in range(4):
        rows = full.frame[full.frame.replica == replica]
        below = rows.suboptimality.to_numpy() < 1e-6
        end = int(below.argmax()) if below.any() else len(rows) - 1
        found = stopped.frame[stopped.frame.replica == replica]
        assert found.step.tolist() == rows.step.tolist()[: end + 1]
        np.testing.assert_allclose(
            found.suboptimality, rows.suboptimality[: end + 1], rtol=1e-6, atol=1e-20
        )
        np.testing.assert_allclose(
            stopped.x[..., replica], full.iterates[end, ..., replica], rtol=0, atol=1e-13
        )
        assert np.isnan(stopped.iterates[end + 1 :, ..., replica]).all()
        assert found.vectors_sent.iloc[-1] == 10 * found.step.iloc[-1]
    assert stopped.steps_to(1e-6)[0] == stopped.frame[stopped.frame.replica == 0].step.max()


@pytest.mark.parametrize("block_bytes", [1 << 19, 0], ids=["late", "at once"])
def test_stop_below_without_a_replica_axis(block_bytes, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    full, stopped = simulate(steps=400, keep_iterates=True), simulate(steps=400, stop_below=1e-6)
    end = int(full.steps_to(1e-6)[0])
    assert stopped.steps.tolist() == list(range(end + 1))
    assert len(stopped.frame) == end + 1
    np.testing.assert_array_equal(stopped.x, full.iterates[end])


@pytest.mark.parametrize("block_bytes", [1 << 19, 0], ids=["late", "at once"])
@pytest.mark.parametrize(
    "limits",
    [
        {"gradient_norm": 1e-6},
        {"vectors_sent": 155},
        {"bits_sent": 64 * D * 10 * 20},
        {"consensus_distance": 1e-5, "vectors_sent": 900},
        {"worst": 1e-3},
    ],
    ids=repr,
)
def test_stop_when_ends_each_replica_at_its_first_record_beyond_a_limit(
    limits, block_bytes, monkeypatch
):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    options = {"learning_rate": [0.3, 0.05, 0.5], "steps": 200, "record": 3}
    options["measures"] = [("worst", lambda x: np.square(x).sum(axis=1).max(axis=0))]
    full, stopped = simulate(**options), simulate(stop_when=limits, **options)
    for replica in range(3):
        rows = full.frame[full.frame.replica == replica]
        met = [
            rows[name] >= limit if name.endswith("_sent") else rows[name] < limit
            for name, limit in limits.items()
        ]
        met = np.any(met, axis=0)
        end = int(met.argmax()) if met.any() else len(rows) - 1
        found = stopped.frame[stopped.frame.replica == replica]
        assert found.step.tolist() == rows.step.tolist()[: end + 1]
        np.testing.assert_allclose(found.gradient_norm, rows.gradient_norm[: end + 1], rtol=1e-6)


@pytest.mark.parametrize("record", [1, 50, 300])
def test_a_run_that_is_to_stop_does_so_soon(record):
    """However many records fill a block."""
    asked = []

    class Counting(Cosh):
        def gradient(self, x):
            asked.append(x.shape)
            return super().gradient(x)

    history = simulate(Counting(), steps=20_000, record=record, stop_when={"gradient_norm": 1e-8})
    end = history.frame.step.iloc[-1]
    assert 0 < end < 1000
    steps = sum(shape == (N, D) for shape in asked)
    assert end <= steps <= end + 256 + record + 8 * (1 + len(history.frame))


def test_stop_when_needs_no_optimum():
    history = simulate(Cosh(), steps=400, stop_when={"gradient_norm": 1e-8})
    assert history.frame.gradient_norm.iloc[-1] < 1e-8 <= history.frame.gradient_norm.iloc[-2]


def growing(steps, **options):
    """Each step multiplies x − x* by −9, up to rounding."""
    problem = rs.problems.DiagonalQuadratic(np.ones((2, 1)), np.full((2, 1), 5.0))
    return rs.simulate(
        problem, rs.topologies.chain(2), AllReduce(), learning_rate=10.0, steps=steps, **options
    )


@pytest.mark.parametrize("block_bytes", [1 << 19, 0], ids=["late", "at once"])
def test_diverged_is_further_than_1e12_times_the_start(block_bytes, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    history = growing(30, keep_iterates=True)
    # 9¹² = 2.8e11 and 9¹³ = 2.5e12.
    assert history.diverged.tolist() == [True]
    distance = history.frame.distance.to_numpy()
    np.testing.assert_allclose(distance[:13], 25 * 81.0 ** np.arange(13), rtol=1e-9)
    for name in ("suboptimality", "consensus_distance", "distance", "gradient_norm"):
        assert np.isfinite(history.frame[name][:13]).all()
        assert history.frame[name][13:].isna().all()
    assert np.isnan(history.x).all()
    assert np.isfinite(history.iterates[:13]).all()
    assert np.isnan(history.iterates[13:]).all()
    assert not growing(12).diverged.any()
    assert growing(13).diverged.all()


def test_a_divergence_between_records_is_found_at_the_next():
    history = growing(30, record=[0, 9, 16, 30])
    assert history.frame.distance.isna().tolist() == [False, False, True, True]
    assert history.diverged.tolist() == [True]


def test_a_divergence_after_the_last_record_is_marked_too():
    history = growing(30, record=[0, 9])
    assert history.frame.distance.notna().all()
    assert history.diverged.tolist() == [True]
    assert np.isnan(history.x).all()


@pytest.mark.parametrize("record", [None, 100])
def test_divergence_to_infinity_is_marked_without_warnings(record):
    problem = Cosh()  # sinh overflows after a few steps
    history = simulate(problem, learning_rate=[3.0, 0.3], steps=200, record=record)
    assert history.diverged.tolist() == [True, False]
    diverged = history.frame[history.frame.replica == 0]
    assert np.isnan(diverged.gradient_norm.iloc[-1])
    assert np.isnan(history.x[..., 0]).all()
    assert np.isfinite(history.x[..., 1]).all()


@pytest.mark.parametrize("block_bytes", [1 << 19, 0], ids=["late", "at once"])
def test_divergence_leaves_the_other_replicas_alone(block_bytes, monkeypatch):
    monkeypatch.setattr("relaysim.engine.recording.BLOCK_BYTES", block_bytes)
    rates = [0.3, 1e3, 0.1, 1e200]
    together = simulate(learning_rate=rates, steps=300, keep_iterates=True)
    assert together.diverged.tolist() == [False, True, False, True]
    for replica in (0, 2):
        alone = simulate(learning_rate=rates[replica], steps=300, keep_iterates=True)
        np.testing.assert_allclose(
            together.iterates[..., replica], alone.iterates, rtol=0, atol=1e-13
        )
    for replica in (1, 3):
        rows = together.frame[together.frame.replica == replica]
        gone = rows.distance.isna().to_numpy()
        assert not gone[0]
        first = gone.argmax()
        assert gone[first:].all()
        assert not gone[:first].any()


def test_a_run_that_diverges_alone_has_the_rows_that_it_has_beside_another():
    options = {"steps": 2000, "record": 2}
    together = simulate(learning_rate=[300.0, 0.1], **options)
    alone = simulate(learning_rate=300.0, **options)
    assert alone.diverged.tolist() == [True]
    rows = together.frame[together.frame.replica == 0]
    assert alone.frame.step.tolist() == rows.step.tolist()
    np.testing.assert_allclose(alone.frame.distance, rows.distance, rtol=1e-9)


def test_a_start_at_the_optimum_is_no_divergence():
    problem = rs.problems.random_quadratics(n=N, d=D, zeta2=5.0, r0=0.0, seed=0)
    assert not simulate(problem, algorithm=DPSGD(), steps=100).diverged.any()


# -- noise -----------------------------------------------------------------------------------------


class Flat:
    """f = 0 everywhere, so that all that moves is noise."""

    def __init__(self, n, d):
        self.n, self.d = n, d

    def gradient(self, x):
        return np.zeros_like(x)

    def value(self, x):
        return 0.0 * x[0]


def noise_of(sigma2, steps, n=3, d=4, rate=1.0, **options):
    history = rs.simulate(
        Flat(n, d),
        rs.topologies.chain(n),
        Alone(),
        learning_rate=rate,
        steps=steps,
        oracle=rs.oracles.Gaussian(sigma2),
        keep_iterates=True,
        **options,
    )
    return -np.diff(history.iterates, axis=0) / rate


def test_gaussian_noise_has_variance_sigma2_over_d_in_every_coordinate():
    steps, sigma2 = 6000, 2.0
    noise = noise_of(sigma2, steps)
    variance = sigma2 / 4
    for i in range(3):
        for k in range(4):
            found = noise[:, i, k]
            assert abs(found.mean()) < 5 * math.sqrt(variance / steps)
            assert abs(found.var() / variance - 1) < 5 * math.sqrt(2 / steps)
            assert abs((found**4).mean() / variance**2 - 3) < 5 * math.sqrt(96 / steps)
    total = (noise**2).sum(axis=2).mean()
    assert abs(total / sigma2 - 1) < 5 * math.sqrt(2 / (12 * steps))


def test_noise_is_independent_over_workers_coordinates_steps_and_seeds():
    steps = 6000
    first, second = np.moveaxis(noise_of(4.0, steps, seed=[0, 1]), -1, 0).reshape(2, steps, -1)
    for a, b in ((first, first), (first, second), (first[1:], first[:-1])):
        correlation = a.T @ b / steps
        if a is b:
            correlation -= np.diag(np.diag(correlation))
        assert np.abs(correlation).max() < 6 / math.sqrt(steps)


def test_rates_with_the_same_seed_see_the_same_noise():
    history = rs.simulate(
        Flat(3, 4),
        rs.topologies.chain(3),
        Alone(),
        learning_rate=[0.5, 2.0],
        seed=[1, 2],
        steps=50,
        oracle=rs.oracles.Gaussian(1.0),
    )
    np.testing.assert_allclose(4 * history.x[..., 0], history.x[..., 2], rtol=1e-12)
    np.testing.assert_allclose(4 * history.x[..., 1], history.x[..., 3], rtol=1e-12)
    assert np.abs(history.x[..., 0] - history.x[..., 1]).min() > 1e-6


def test_noise_does_not_depend_on_the_replicas_beside_it(monkeypatch):
    alone = noise_of(1.0, 300, seed=7)
    monkeypatch.setattr(
        "relaysim.oracles.observed.DRAW_AHEAD", 1000
    )  # many draws, of other lengths
    beside = noise_of(1.0, 300, seed=[3, 7, 4])
    np.testing.assert_array_equal(beside[..., 1], alone)
    np.testing.assert_array_equal(noise_of(1.0, 300, seed=7), alone)


@pytest.mark.usefixtures("step_by_step")
def test_no_noise_is_the_exact_oracle():
    exact = simulate(oracle=rs.oracles.Exact())
    np.testing.assert_array_equal(simulate().x, exact.x)
    np.testing.assert_array_equal(simulate(oracle=rs.oracles.Gaussian(0.0)).x, exact.x)


# -- problems of the user's own --------------------------------------------------------------------


def test_a_problem_without_an_optimum_has_its_value_instead():
    history = simulate(Cosh(), steps=400)
    mean = history.x.mean(axis=0)
    np.testing.assert_allclose(history.frame.value.iloc[-1], Cosh().value(mean), rtol=1e-14)
    assert list(history.frame.columns) == [
        "replica",
        "seed",
        "learning_rate",
        "step",
        "value",
        "consensus_distance",
        "gradient_norm",
        "vectors_sent",
        "bits_sent",
    ]
    np.testing.assert_allclose(history.x, np.tile(CoshWithOptimum().optimum, (N, 1)), atol=1e-13)
    assert history.frame.gradient_norm.iloc[-1] < 1e-26


@pytest.mark.parametrize("replicas", [None, 2])
def test_a_problem_with_an_optimum_has_all_columns(replicas):
    problem = CoshWithOptimum()
    history = simulate(problem, steps=40, replicas=replicas, keep_iterates=True)
    for replica in range(replicas or 1):
        rows = history.frame[history.frame.replica == replica]
        iterates = history.iterates if replicas is None else history.iterates[..., replica]
        for row, x in zip(rows.itertuples(), iterates, strict=True):
            mean, star = x.mean(axis=0), problem.optimum
            expected = np.mean(
                [np.cosh(mean - c).sum() - np.cosh(star - c).sum() for c in problem.centers]
            )
            assert math.isclose(row.suboptimality, expected, abs_tol=1e-13)
            gradient = np.mean([np.sinh(mean - c) for c in problem.centers], axis=0)
            assert math.isclose(row.gradient_norm, gradient @ gradient, rel_tol=1e-9, abs_tol=1e-28)
            distance = ((x - star) ** 2).sum() / N
            assert math.isclose(row.distance, distance, rel_tol=1e-9, abs_tol=1e-28)
    assert len(simulate(problem, steps=40, stop_below=1e-3).steps) < 41


def test_what_a_problem_knows_better_is_used():
    class Precise(CoshWithOptimum):
        def suboptimality(self, x):
            return np.full(x.shape[1:], 0.25)

        def mean_gradient(self, x):
            return 2 * np.ones(x.shape)

    history = simulate(Precise(), steps=3)
    assert (history.frame.suboptimality == 0.25).all()
    assert (history.frame.gradient_norm == 4 * D).all()


@pytest.mark.parametrize("takes_out", [False, True])
def test_arrays_that_a_problem_returns_are_not_written_to(takes_out):
    class Stored:
        n, d = N, D

        def __init__(self):
            self.pull = np.ones((N, D))

        def value(self, x):
            return self.pull.mean(axis=0) @ x

        if takes_out:

            def gradient(self, x, out=None):
                return self.pull
        else:

            def gradient(self, x):
                return self.pull

    problem = Stored()
    history = simulate(problem, algorithm=AllReduce(), steps=3)
    np.testing.assert_allclose(history.x, np.full((N, D), -0.9), rtol=1e-14)
    simulate(problem, steps=3)
    np.testing.assert_array_equal(problem.pull, np.ones((N, D)))


# -- files and configurations ----------------------------------------------------------------------


def assert_equal_histories(loaded, history):
    assert loaded.frame.equals(history.frame)
    for name in ("steps", "x", "diverged"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
    if history.iterates is None:
        assert loaded.iterates is None
    else:
        np.testing.assert_array_equal(loaded.iterates, history.iterates)
    assert loaded.topology == history.topology
    assert loaded.algorithm == history.algorithm
    assert repr(loaded) == repr(history)


METROPOLIS = rs.mixing.metropolis(rs.topologies.ring(N))
RUNS = {
    "defaults": {},
    "replicas": {"learning_rate": [0.1, 300.0], "seed": [3, 1], "keep_iterates": True},
    "schedule": {"learning_rate": lambda step: 1 / (2 + step), "replicas": 2},
    "noise": {"oracle": rs.oracles.Gaussian(0.5), "seed": 11, "x0": np.ones((N, D))},
    "pair": {"topology": rs.topologies.double_binary_tree(N), "record": 7},
    "sparse": {"topology": rs.topologies.ring(N), "algorithm": D2(), "mixing": METROPOLIS},
    "dense": {
        "topology": rs.topologies.ring(N),
        "algorithm": DPSGD(momentum=0.5),
        "mixing": METROPOLIS.toarray(),
    },
    "sequence": {
        "topology": rs.topologies.exponential(N),
        "algorithm": DPSGD(),
        "mixing": rs.mixing.one_peer_exponential(N),
        "record": "log",
    },
    "stop": {"steps": 300, "stop_below": 1e-5, "learning_rate": [0.3, 0.1], "record": [0, 9, 300]},
    "diagonal": {"problem": rs.problems.DiagonalQuadratic(np.eye(N) + 1, np.eye(N))},
    "least squares": {"problem": rs.problems.LeastSquares(PROBLEM.A, PROBLEM.b)},
    "numpy numbers": {
        "record": np.int64(5),
        "steps": np.int64(20),
        "seed": np.int64(3),
        "learning_rate": np.float64(0.25),
        "oracle": rs.oracles.Gaussian(np.float64(0.5)),
    },
    "numpy seeds": {"seed": np.arange(2), "record": np.array([0, 20]), "steps": 20},
    "numpy threshold": {"stop_below": np.float32(1e-3)},
    "limits": {"stop_when": {"gradient_norm": 1e-3, "bits_sent": 1e6}, "steps": 100},
}
over_runs = pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)


@over_runs
def test_a_saved_history_comes_back(options, tmp_path):
    history = simulate(**options)
    path = history.save(tmp_path / "history")
    assert path == tmp_path / "history.npz"
    loaded = rs.History.load(path)
    assert_equal_histories(loaded, history)
    x = np.random.default_rng(0).normal(size=history.x.shape)
    np.testing.assert_array_equal(loaded.problem.gradient(x), history.problem.gradient(x))
    again = rs.simulate(**rs.rebuild(loaded.config))
    assert_equal_histories(again, history)


def test_seeds_of_any_size_stay_apart(tmp_path):
    seeds = [1, 2**53 + 1, 2**63, 2**63 + 1, 2**64 + 1, 2**200 + 1]
    noisy = {"oracle": rs.oracles.Gaussian(0.5), "keep_state": True, "steps": 3}
    history = simulate(seed=seeds, **noisy)
    path = history.save(tmp_path / "large")
    for found in (history, rs.History.load(path), rs.simulate(**rs.rebuild(history.config))):
        assert found.frame.seed.tolist() == np.repeat(seeds, 4).tolist()
        assert found.config["seed"] == seeds
    for k, seed in enumerate(seeds):
        alone = simulate(seed=np.array([seed]), **noisy)
        np.testing.assert_allclose(history.x[..., k], alone.x[..., 0], rtol=1e-13)
        assert simulate(seed=seed, **noisy).config["seed"] == seed
    assert len(np.unique(history.x[0, 0])) == len(seeds)
    longer = rs.History.load(path).extend(2)
    assert longer.frame.equals(simulate(seed=seeds, **noisy | {"steps": 5}).frame)
    assert simulate(seed=2**63 - 1, replicas=2).frame.seed.unique().tolist() == [2**63 - 1, 2**63]
    assert simulate(seed=np.uint64(2**64 - 1)).frame.seed[0] == 2**64 - 1


@over_runs
def test_a_config_rebuilds_the_run_bit_by_bit(options):
    history = simulate(**options)
    again = rs.simulate(**rs.rebuild(history.config))
    assert again.x.tobytes() == history.x.tobytes()
    assert again.frame.equals(history.frame)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"oracle": rs.oracles.Gaussian(0.5), "faults": rs.faults.MessageDrop(0.1)},
        *(RUNS[name] for name in ("sparse", "dense", "sequence")),
    ],
    ids=["defaults", "parts", "sparse", "dense", "sequence"],
)
def test_a_history_has_the_parts_that_its_run_was_given(options, tmp_path):
    def dense(mixing):
        is_one = isinstance(mixing, np.ndarray) or sparse.issparse(mixing)
        return [sparse.csr_array(W).toarray() for W in ([mixing] if is_one else mixing)]

    history = simulate(**options)
    for found in (history, rs.History.load(history.save(tmp_path / "parts"))):
        assert found.oracle == options.get("oracle")
        assert found.fault_model == options.get("faults")
        if "mixing" in options:
            np.testing.assert_array_equal(dense(found.mixing), dense(options["mixing"]))
        else:
            assert found.mixing is None
        with pytest.raises(AttributeError):
            found.oracle = None


def test_rebuild_takes_other_arguments_instead():
    history = simulate(steps=5)
    longer = rs.simulate(**rs.rebuild(history.config, steps=9, algorithm=D2()))
    assert longer.steps[-1] == 9
    assert longer.algorithm == D2()


@dataclasses.dataclass
class Hill:
    """A problem that happens to be a dataclass: f_i(x) = ½‖x − c_i‖²."""

    centers: np.ndarray

    @property
    def n(self):
        return len(self.centers)

    @property
    def d(self):
        return self.centers.shape[1]

    def gradient(self, x):
        return x - self.centers

    def value(self, x):
        return 0.5 * ((x - self.centers) ** 2).sum() / self.n


class Remembering(Cosh):
    """A problem that keeps things that are no numbers."""

    def __init__(self):
        super().__init__()
        self.names = np.array([{"worker": i} for i in range(N)], dtype=object)


def test_what_would_not_become_smaller_is_saved_as_it_is(tmp_path):
    problem = rs.problems.random_quadratics(n=16, d=40, zeta2=1.0, seed=0)
    ring = rs.topologies.ring(16)
    given = {"learning_rate": 0.1, "steps": 60, "keep_iterates": True}
    noisy = rs.simulate(
        problem,
        ring,
        rs.algorithms.DPSGD(),
        oracle=rs.oracles.Gaussian(0.1),
        **given,
    )
    still = rs.simulate(problem, ring, rs.algorithms.DPSGD(), **given | {"learning_rate": 0})
    for history, kind in ((noisy, zipfile.ZIP_STORED), (still, zipfile.ZIP_DEFLATED)):
        path = history.save(tmp_path / "run")
        with zipfile.ZipFile(path) as file:
            largest = max(file.infolist(), key=lambda each: each.file_size)
            assert (largest.filename, largest.compress_type) == ("iterates.npy", kind)
        assert (rs.History.load(path).iterates == history.iterates).all()


@pytest.mark.parametrize(
    "problem",
    [Cosh(), Hill(np.arange(18.0).reshape(N, D)), Remembering()],
    ids=["Cosh", "Hill", "Remembering"],
)
def test_a_problem_of_ones_own_is_saved_as_its_arrays(problem, tmp_path):
    history = simulate(problem, steps=5)
    loaded = rs.History.load(history.save(tmp_path / "own.npz"))
    assert loaded.problem is None
    np.testing.assert_array_equal(loaded.config["problem"]["arrays"]["centers"], problem.centers)
    assert loaded.frame.equals(history.frame)
    with pytest.raises(ValueError, match=r"problem was an object of your own.*pass problem="):
        rs.rebuild(loaded.config)
    again = rs.simulate(**rs.rebuild(loaded.config, problem=problem))
    np.testing.assert_array_equal(again.x, history.x)


def test_files_hold_no_pickles_and_are_replaced_whole(tmp_path):
    path = simulate(steps=3).save(tmp_path / "a.npz")
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    simulate(steps=9).save(path)
    assert rs.History.load(path).steps[-1] == 9
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        rs.History.load(tmp_path / "missing.npz")
    text = tmp_path / "text.npz"
    text.write_text("nothing of the kind")
    other = tmp_path / "other.npz"
    np.savez(other, x=np.ones(3))
    for path in (text, other):
        with pytest.raises(ValueError, match="is not a saved relaysim history"):
            rs.History.load(path)


# -- bad input -------------------------------------------------------------------------------------


class NoGradient:
    n, d = N, D

    def value(self, x):
        return 0.0


RING = rs.topologies.ring(N)
PAIR = rs.topologies.double_binary_tree(N)
UNCONNECTED = rs.topologies.from_edges(N, [(0, 1), (2, 3)])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps must be at least 0, not -1"),
        ({"steps": 2.5}, TypeError, "steps must be a whole number, not 2.5"),
        ({"learning_rate": -0.1}, ValueError, "finite and at least 0; -0.1 was given"),
        ({"learning_rate": math.nan}, ValueError, "finite and at least 0; nan"),
        ({"learning_rate": [0.1, math.inf]}, ValueError, "finite and at least 0; inf"),
        ({"learning_rate": []}, ValueError, r"not an array of shape \(0,\)"),
        ({"learning_rate": np.ones((2, 2))}, ValueError, r"not an array of shape \(2, 2\)"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number.*not 'fast'"),
        ({"learning_rate": None}, (TypeError, ValueError), "learning_rate|learning rates"),
        ({"learning_rate": lambda t: -1.0}, ValueError, "at least 0; -1.0"),
        ({"learning_rate": lambda t: [0.1]}, ValueError, "callable must return one number"),
        ({"x0": np.zeros(D + 1)}, ValueError, r"x0 must have shape.*not \(4,\)"),
        ({"x0": np.zeros((D, N))}, ValueError, r"\(n, d\) = \(6, 3\).*not \(3, 6\)"),
        ({"x0": np.zeros((D, N, 2))}, ValueError, r"not \(3, 6, 2\)"),
        ({"x0": 1.0}, ValueError, r"not \(\)"),
        ({"x0": np.full(D, np.nan)}, ValueError, "x0 has entries that are not finite"),
        (
            {"x0": np.zeros((N, D, 3)), "learning_rate": [0.1, 0.2]},
            ValueError,
            "x0 has 3 starting points but 2 learning rates × 1 seeds",
        ),
        ({"seed": -1}, ValueError, "seed must be at least 0, not -1"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number, not 0.5"),
        ({"seed": [1, "a"]}, TypeError, "seed must be a whole number"),
        ({"seed": []}, ValueError, "empty sequence; give at least one seed"),
        ({"replicas": 0}, ValueError, "replicas must be at least 1, not 0"),
        ({"replicas": 1.5}, TypeError, "replicas must be a whole number"),
        ({"replicas": 3, "seed": [1, 2]}, ValueError, "replicas=3 but 2 seeds were given"),
        ({"record": 0}, ValueError, "record must be at least 1, not 0"),
        ({"record": 2.5}, TypeError, "record must be a whole number"),
        ({"record": "all"}, ValueError, "a sequence or 'log', not 'all'"),
        ({"record": []}, ValueError, "empty sequence; name at least one step"),
        ({"record": [3, 21]}, ValueError, "step 21 but there are only 20"),
        ({"record": [-1]}, ValueError, "record must be at least 0, not -1"),
        ({"stop_below": 0}, ValueError, "stop_below must be positive, not 0"),
        ({"stop_below": -1e-6}, ValueError, "stop_below must be positive"),
        (
            {"stop_below": 1e-6, "problem": Cosh()},
            ValueError,
            "needs a problem whose optimum is known",
        ),
        ({"stop_when": 1e-6}, TypeError, r"stop_when must be a mapping such as .*, not 1e-06"),
        (
            {"stop_when": {"loss": 1}},
            ValueError,
            "stop_when has no column 'loss'; there are subopt",
        ),
        (
            {"stop_when": {"vectors_sent": "many"}},
            TypeError,
            r"stop_when\['vectors_sent'\] must be",
        ),
        ({"faults": 0.1}, TypeError, "0.1 is no kind of fault"),
        ({"problem": NoGradient()}, TypeError, "is no problem: it lacks 'gradient'"),
        ({"problem": "quadratics"}, TypeError, "is no problem: it lacks 'n'"),
        ({"algorithm": RelaySGD}, TypeError, r"not its class: RelaySGD\(\)"),
        ({"algorithm": "RelaySGD"}, TypeError, "'RelaySGD' is no algorithm"),
        ({"topology": RING.to_networkx()}, TypeError, "from_networkx"),
        ({"topology": rs.topologies.chain(5)}, ValueError, r"has 6 workers and chain\(5\) has 5"),
        (
            {"topology": RING},
            ValueError,
            "RelaySGD needs a tree: this topology has 6 workers and 6 edges; "
            r"use relaysim.topologies.spanning_tree\(topology\)",
        ),
        ({"topology": UNCONNECTED}, ValueError, "not connected"),
        ({"topology": UNCONNECTED, "algorithm": DPSGD()}, ValueError, "not connected"),
        (
            {"topology": PAIR, "algorithm": DPSGD()},
            ValueError,
            r"DPSGD cannot use a pair of trees.*binary_tree\(6\)",
        ),
        ({"topology": PAIR, "algorithm": AllReduce()}, ValueError, "AllReduce cannot use a pair"),
        ({"mixing": np.eye(N)}, ValueError, "RelaySGD does not use a mixing matrix"),
        ({"oracle": 0.1}, TypeError, "oracle"),
        ({"mixing": [], "topology": RING, "algorithm": DPSGD()}, ValueError, "mixing"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        simulate(**options)


@pytest.mark.parametrize("wrong", [lambda x: x[0], lambda x: x.sum(), lambda x: x[:, :1]])
def test_a_gradient_of_the_wrong_shape_is_refused(wrong):
    class Wrong(Cosh):
        def gradient(self, x):
            return wrong(x)

    with pytest.raises(ValueError, match="gradient"):
        simulate(Wrong())


def test_arguments_but_the_first_three_are_named():
    with pytest.raises(TypeError, match="positional"):
        rs.simulate(PROBLEM, CHAIN, RelaySGD(), 0.1, 10)
    with pytest.raises(TypeError, match="learning_rate"):
        rs.simulate(PROBLEM, CHAIN, RelaySGD(), steps=10)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_is_shown_on_demand(progress, shown, capsys):
    simulate(progress=progress)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("RelaySGD" in printed.err) == shown


def test_sparse_matrices_of_other_kinds_are_mixing_matrices_too():
    W = METROPOLIS.toarray()
    expected = simulate(topology=RING, algorithm=D2(), mixing=W).x
    found = simulate(topology=RING, algorithm=D2(), mixing=sparse.csr_matrix(W)).x
    np.testing.assert_array_equal(found, expected)


def comes_back(step):
    """A rate that blows the iterates up, and one that would bring them back."""
    return 30.0 if step < 40 else 0.5


@pytest.mark.parametrize("options", [{}, {"replicas": 3, "oracle": rs.oracles.Gaussian(1e-4)}])
def test_once_diverged_is_nan_to_the_end(options):
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem,
        rs.topologies.ring(4),
        rs.algorithms.DPSGD(),
        learning_rate=comes_back,
        steps=1500,
        keep_iterates=True,
        **options,
    )
    assert history.diverged.all()
    assert np.isnan(history.x).all()
    for _, rows in history.frame.groupby("replica"):
        assert rows.step.iloc[-1] == 1500
        finite = rows.suboptimality.notna().to_numpy()
        assert finite[0]
        assert not finite[np.argmin(finite) :].any()
    assert np.isnan(history.iterates[20:]).all()


def test_a_diverged_replica_keeps_its_rows_where_others_stop():
    problem = rs.problems.random_quadratics(n=4, d=3, zeta2=1.0, seed=0)
    history = rs.simulate(
        problem,
        rs.topologies.ring(4),
        rs.algorithms.D2(),
        learning_rate=[50.0, 0.01, 60.0],
        steps=5000,
        stop_below=1e-3,
    )
    assert history.diverged.tolist() == [True, False, True]
    last = history.frame.groupby("replica").step.max()
    assert last[0] == last[2] == 5000
    assert last[1] < 1000


def test_bits_are_64_a_number_of_every_vector():
    problem = PROBLEM
    history = rs.simulate(problem, CHAIN, rs.algorithms.RelaySGD(), learning_rate=0.1, steps=3)
    frame = history.frame
    assert frame.bits_sent.tolist() == (frame.vectors_sent * 64 * problem.d).tolist()
    assert frame.bits_sent.iloc[-1] > 0


class Uneven(rs.algorithms.AllReduce):
    """Sends a vector more in every further replica."""

    def step(self, state, round):
        following = super().step(state, round)
        round.send(np.arange(state.x.shape[2]) if state.x.ndim == 3 else 0)
        return following


def test_replicas_may_send_differently(tmp_path):
    problem = PROBLEM
    everyone = 2 * (N - 1)
    history = rs.simulate(
        problem, CHAIN, Uneven(), learning_rate=[0.1, 9.0, 0.2], steps=30, record=10
    )
    assert history.diverged.tolist() == [False, True, False]
    sent = history.frame.groupby("replica").vectors_sent.apply(list)
    assert sent[0] == [step * everyone for step in (0, 10, 20, 30)]
    assert sent[2][1] == 10 * (everyone + 2)
    again = rs.History.load(history.save(tmp_path / "uneven"))
    assert again.frame.vectors_sent.tolist() == history.frame.vectors_sent.tolist()


# -- what cannot fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"steps": 10**12},
            "1000000000001 records would take .* TB of memory and this machine has",
        ),
        ({"steps": 10**12, "record": 10}, "100000000001 records would take"),
        ({"steps": 10**12, "record": range(10**11)}, "100000000000 records would take"),
        (
            {"steps": 10**12, "record": [5], "learning_rate": lambda t: 0.1},
            "rates of 1000000000000 steps",
        ),
        ({"steps": 5, "replicas": 10**12}, "1000000000000 replicas would take"),
        ({"steps": 10**6, "replicas": 10**5}, "1000001 records of 100000 replicas would take"),
        (
            {"problem": "wide", "steps": 10**6, "keep_iterates": True},
            "the iterates of 6 workers at 1000001 records would take 48 TB of memory and this machine has",
        ),
        (
            {"problem": "wide", "steps": 10**6, "keep_iterates": [2]},
            "of 1 workers at 1000001 records",
        ),
    ],
)
def test_what_cannot_fit_is_refused_before_the_first_step(options, message):
    class Wide:
        n, d = N, 10**6

        def value(self, x):
            return 0.0  # asked once, to see that it is a number

        def gradient(self, x):
            pytest.fail("something ran")

    if "problem" in options:
        options = options | {"problem": Wide()}
    with pytest.raises(ValueError, match=message):
        simulate(**options)
