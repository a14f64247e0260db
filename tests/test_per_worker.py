"""Learning rates, noise and numbers of steps that differ from worker to worker."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

import relaysim as rs

N, D = 5, 3
RATES = [0.1, 0.3, 0.05, 0.4, 0.2]
CHAIN = rs.topologies.chain(N)
START = np.random.default_rng(1).normal(size=(N, D))


def quadratics(n=N, d=D):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=2.0, seed=0)


def run(algorithm, rate=None, problem=None, **options):
    rate = rs.PerWorker(RATES) if rate is None else rate
    options = {"steps": 20, "x0": START} | options
    problem = quadratics() if problem is None else problem
    return rs.simulate(problem, CHAIN, algorithm, learning_rate=rate, **options)


class Scaled:
    """The workers' gradients times numbers of their own."""

    def __init__(self, problem, factors):
        self.n, self.d, self.value = problem.n, problem.d, problem.value
        self._problem, self._factors = problem, np.array(factors)

    def gradient(self, x):
        return self._factors.reshape(-1, *(1,) * (x.ndim - 1)) * self._problem.gradient(x)


@pytest.mark.parametrize(
    "algorithm",
    [rs.algorithms.A2CiD2(), rs.algorithms.SwarmSGD(), rs.algorithms.SwarmSGD(blocking=False)],
    ids=repr,
)
@pytest.mark.parametrize("seed", [0, [0, 4]])
def test_workers_at_times_of_their_own_have_rates_of_their_own(algorithm, seed):
    found = run(algorithm, seed=seed).x
    expected = run(algorithm, 1.0, Scaled(quadratics(), RATES), seed=seed).x
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_rows_of_long_vectors_have_their_own_rates():
    d = 20_000
    problem = rs.problems.DiagonalQuadratic(
        np.full((4, d), 0.5), np.arange(4.0)[:, None] + np.ones(d)
    )
    ring, rates = rs.topologies.ring(4), [0.1, 0.2, 0.3, 0.4]
    history = rs.simulate(
        problem, ring, rs.algorithms.DPSGD(), learning_rate=rs.PerWorker(rates, [1.0, 0.5]), steps=1
    )
    W = rs.mixing.metropolis(ring).toarray()
    for replica, scale in enumerate([1.0, 0.5]):
        expected = W @ (0.5 * scale * np.array(rates)[:, None] * problem.centers)
        np.testing.assert_allclose(history.x[..., replica], expected, rtol=1e-13)


def test_scales_and_seeds_are_replicas_and_one_alone_is_the_same():
    noise = {"oracle": rs.oracles.Gaussian([0.0, 0.1, 0.2, 0.3, 0.4])}
    grid = run(
        rs.algorithms.GradientTracking(), rs.PerWorker(RATES, [0.5, 1.0]), seed=[3, 7], **noise
    )
    alone = run(rs.algorithms.GradientTracking(), rs.PerWorker(RATES, 0.5), seed=7, **noise)
    np.testing.assert_allclose(grid.x[..., 1], alone.x, rtol=1e-13)
    assert grid.frame.groupby("replica").learning_rate.first().tolist() == pytest.approx(
        [0.105, 0.105, 0.21, 0.21]
    )
    lines = [line.get_label() for line in grid.plot().get_lines()]
    assert lines[:2] == ["γ = 0.105", "γ = 0.21"]


def test_replicas_that_diverge_leave_the_others_their_rates():
    rates = rs.PerWorker(RATES, [300.0, 1.0])
    history = run(rs.algorithms.DPSGD(), rates, steps=300)
    assert history.diverged.tolist() == [True, False]
    np.testing.assert_allclose(
        history.x[..., 1], run(rs.algorithms.DPSGD(), steps=300).x, rtol=1e-13
    )


@pytest.mark.parametrize("scale", [0.5, rs.schedules.Cosine(1.0, 30), lambda step: 1 / (1 + step)])
def test_a_file_keeps_them_and_a_run_goes_on(scale, tmp_path):
    rate = rs.PerWorker(RATES, scale)
    first = run(rs.algorithms.DPSGD(momentum=0.5), rate, steps=8, keep_state=True)
    whole = run(rs.algorithms.DPSGD(momentum=0.5), rate, steps=20)
    assert first.extend(12).x.tobytes() == whole.x.tobytes()
    loaded = rs.History.load(first.save(tmp_path / "run.npz"))
    np.testing.assert_array_equal(rs.simulate(**rs.rebuild(loaded.config)).x, first.x)
    if isinstance(rate.scale, float | rs.schedules.Cosine):
        assert rs.rebuild(loaded.config)["learning_rate"] == rate
        assert loaded.extend(12).x.tobytes() == whole.x.tobytes()
    else:
        with pytest.raises(ValueError, match="of which the file has the first 8 values; pass it"):
            loaded.extend(12)
        assert loaded.extend(12, learning_rate=rate).x.tobytes() == whole.x.tobytes()


@pytest.mark.parametrize(
    ("algorithm", "exact"),
    [
        (rs.algorithms.GradientTracking(), True),
        (rs.algorithms.DLM(penalty=0.5), True),
        (rs.algorithms.RelaySGD(), False),
        (rs.algorithms.D2(), False),
        (rs.algorithms.RelaySGDMix(alpha=1.0), False),
        (rs.algorithms.LocalSGD(period=[1, 3, 2, 3, 1]), False),
    ],
    ids=repr,
)
def test_theory_has_each_worker_at_its_own_rate(algorithm, exact):
    problem, rates = quadratics(), rs.PerWorker(RATES, 0.5)
    linear = rs.theory.linearize(problem, CHAIN, algorithm, rates, START)
    assert linear.learning_rate == pytest.approx(0.105)
    history = run(algorithm, rates, steps=60)
    predicted = linear.predict(60)
    for column in ("suboptimality", "consensus_distance", "vectors_sent"):
        scale = history.frame[column].max()
        np.testing.assert_allclose(predicted[column], history.frame[column], atol=1e-12 * scale)
    end = run(algorithm, rates, steps=3000, record=[3000]).x
    np.testing.assert_allclose(linear.fixed_point, end, atol=1e-11)
    assert (np.abs(end - problem.optimum).max() < 1e-11) == exact


def test_workers_that_agree_end_where_gradients_times_rates_sum_to_zero():
    problem = quadratics()
    end = run(rs.algorithms.RelaySGD(), steps=4000, record=[4000]).x
    np.testing.assert_allclose(end, end[:1].repeat(N, axis=0), atol=1e-12)
    np.testing.assert_allclose(np.array(RATES) @ problem.gradient(end), np.zeros(D), atol=1e-12)


# -- noise -------------------------------------------------------------------------------------------

SIGMA2 = np.array([0.0, 0.4, 0.1, 2.0, 0.3])


@pytest.mark.parametrize("algorithm", [rs.algorithms.DPSGD(), rs.algorithms.SwarmSGD()], ids=repr)
def test_each_worker_has_its_own_noise(algorithm):
    """One gradient a worker, at learning rate 1: of each what noise of σ² = 1 adds, times its own σ."""
    flat = rs.problems.DiagonalQuadratic(np.ones((N, D)), np.zeros((N, D)))
    noises = []

    class Kept(rs.oracles.Gaussian):
        def observe(self, problem, streams):
            observe = super().observe(problem, streams)
            return lambda x, out: noises.append(observe(x, out) - x) or out

        def observe_events(self, problem, streams):
            gradients = super().observe_events(problem, streams)
            inner = gradients._observe
            gradients._observe = lambda x, batch, drawn: (
                noises.append((batch.first, inner(x, batch, drawn) - x)) or inner(x, batch, drawn)
            )
            return gradients

    for sigma2 in (1.0, SIGMA2):
        run(algorithm, 0.0, flat, oracle=Kept(sigma2), steps=3, seed=2)
    half = len(noises) // 2
    for unit, own in zip(noises[:half], noises[half:], strict=True):
        if isinstance(unit, tuple):
            (first, unit), (_, own) = unit, own
            scale = np.sqrt(SIGMA2)[first]
        else:
            scale = np.sqrt(SIGMA2)
        np.testing.assert_allclose(own, scale[:, None] * unit, rtol=1e-12, atol=1e-14)


def test_noise_of_one_number_is_that_of_as_many():
    one = run(rs.algorithms.DPSGD(), 0.1, oracle=rs.oracles.Gaussian(0.3), seed=[1, 2])
    each = run(rs.algorithms.DPSGD(), 0.1, oracle=rs.oracles.Gaussian([0.3] * N), seed=[1, 2])
    assert one.x.tobytes() == each.x.tobytes()


def test_the_noise_floor_is_that_of_each_worker_s_noise():
    """x' = W((1 − γ)x − γξ): P = W((1 − γ)²P + γ² diag(σ²))Wᵀ in each coordinate's share of σ²."""
    flat = rs.problems.DiagonalQuadratic(np.ones((N, D)), np.zeros((N, D)))
    rates = np.diag(RATES)
    linear = rs.theory.linearize(flat, CHAIN, rs.algorithms.DPSGD(), rs.PerWorker(RATES))
    W = rs.mixing.metropolis(CHAIN).toarray()
    for sigma2 in (SIGMA2, np.full(N, 0.7)):
        A, B = W @ (np.eye(N) - rates), W @ rates
        P = solve_discrete_lyapunov(A, B @ np.diag(sigma2) @ B.T)
        floor = linear.stationary(sigma2)
        assert floor.distance == pytest.approx(np.trace(P) / N, rel=1e-12)
        assert floor.suboptimality == pytest.approx(P.sum() / N**2 / 2, rel=1e-12)
    assert floor.equals(linear.stationary(0.7))
    assert linear.stationary(0.0).distance == linear.stationary([0.0] * N).distance < 1e-25
    low, high = linear.stationary_quantiles(SIGMA2, [0.1, 0.9])
    assert 0 < low < linear.stationary(SIGMA2).suboptimality < high


# -- tuned -------------------------------------------------------------------------------------------


def test_the_scale_of_unequal_rates_is_tuned():
    """Equal rates of 4 find a quarter of the rate that a number finds; of unequal ones the scale does it."""
    problem, tracking = quadratics(), rs.algorithms.GradientTracking()

    def tuned(rates, **options):
        rates = None if rates is None else rs.PerWorker(rates, 7.0)
        return rs.tune(problem, CHAIN, tracking, learning_rate=rates, progress=False, **options)

    plain, equal, unequal = tuned(None), tuned([4.0] * N), tuned(RATES)
    assert equal.steps == plain.steps
    assert equal.learning_rate == pytest.approx(plain.learning_rate / 4, rel=1e-12)
    rates = rs.PerWorker(RATES, unequal.learning_rate)
    curve = run(tracking, rates, problem, x0=None, steps=2 * int(unequal.steps)).frame.suboptimality
    assert np.flatnonzero(~(curve < 1e-6))[-1] + 1 == unequal.steps
    noise = {"oracle": rs.oracles.Gaussian(0.5), "target": 0.05, "criterion": "plateau"}
    found = tuned(RATES, **noise)
    rates = rs.PerWorker(RATES, found.learning_rate)
    floor = rs.theory.linearize(problem, CHAIN, tracking, rates).stationary(0.5).suboptimality
    assert 0.05 / 1.1 <= floor <= 0.05
    for wrong, error in ((0.1, TypeError), (rs.PerWorker([0.0] * N), ValueError)):
        with pytest.raises(error, match="PerWorker"):
            rs.tune(problem, CHAIN, tracking, learning_rate=wrong, progress=False)


# -- sweeps, and what is refused ---------------------------------------------------------------------


def test_sweeps_read_them_as_text_and_as_objects(tmp_path):
    rate = rs.PerWorker(RATES, rs.schedules.InverseSqrt(1.0))
    setting = {
        "algorithm": ["DPSGD", "LocalSGD((1, 2, 3, 1, 2))"], "topology": "chain", "n": N, "d": D,
        "zeta2": 2.0, "steps": 5, "oracle": "Gaussian((0.1, 0.2, 0.3, 0.4, 0.5))",
    }  # fmt: skip
    text = "PerWorker((0.1, 0.3, 0.05, 0.4, 0.2), InverseSqrt(1.0))"
    run = {"store": tmp_path / "store", "progress": False}
    frame = rs.sweep(setting | {"learning_rate": [rate, 0.1]}, **run)
    assert len(frame) == 2 * 2 * 6
    again = rs.sweep(setting | {"learning_rate": [text]}, **run)
    first = frame[frame.schedule.notna()].reset_index(drop=True)
    np.testing.assert_array_equal(first.suboptimality, again.suboptimality)
    history = rs.simulate(
        rs.problems.random_quadratics(n=N, d=D, zeta2=2.0, seed=0), CHAIN, rs.algorithms.DPSGD(),
        learning_rate=rate, steps=5, oracle=rs.oracles.Gaussian([0.1, 0.2, 0.3, 0.4, 0.5]),
    )  # fmt: skip
    np.testing.assert_allclose(again.suboptimality[:6], history.frame.suboptimality, rtol=1e-12)


def sweep(**options):
    setting = {"algorithm": "DPSGD", "topology": "chain", "n": N, "steps": 5} | options
    return rs.sweep(setting, progress=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.PerWorker(0.1), "takes one rate for each worker, a list such as"),
        (lambda: rs.PerWorker([]), "takes one rate for each worker"),
        (lambda: rs.PerWorker([0.1, -1.0]), "at least 0; worker 1 has -1.0"),
        (lambda: rs.PerWorker([0.1, np.nan]), "at least 0; worker 1 has nan"),
        (lambda: rs.PerWorker([0.1], rs.PerWorker([1.0])), "scale of PerWorker is one for all"),
        (lambda: run(None, rs.PerWorker(RATES, -1.0)), "at least 0; -1.0 was given"),
        (
            lambda: run(rs.algorithms.DPSGD(), rs.PerWorker([0.1, 0.2])),
            "PerWorker has 2 rates and there are 5 workers; give one for each",
        ),
        (
            lambda: run(rs.algorithms.ConsensusControl(rs.algorithms.DPSGD(), rs.algorithms.Critical(1.0))),
            "ConsensusControl has no rule for learning rates that differ between workers",
        ),
        (lambda: run(rs.algorithms.DADAO(4.0)), "DADAO has no rule for learning rates that differ"),
        (
            lambda: rs.theory.linearize(
                quadratics(), CHAIN, rs.algorithms.DPSGD(), rs.PerWorker(RATES, [0.1, 0.2])
            ),
            "the scale of rates that are constant must be a number",
        ),
        (
            lambda: run(rs.algorithms.DPSGD()).plot(theory=True),
            "this run.s is one for each worker, PerWorker; leave theory out",
        ),
        (lambda: rs.oracles.Gaussian([0.1, -0.2]), "of at least 0, or one for each worker, not"),
        (
            lambda: run(rs.algorithms.DPSGD(), oracle=rs.oracles.Gaussian([0.1, 0.2])),
            "sigma2 has 2 numbers and there are 5 workers; give one for each, or one number",
        ),
        (lambda: sweep(learning_rate="PerWorker((0.1, 0.2))"), "has 2 rates and there are 5 workers"),
        (
            lambda: sweep(learning_rate=rs.PerWorker(RATES, [0.1, 0.2])),
            "one scale of PerWorker, and here are 2; list one PerWorker for each",
        ),
        (
            lambda: sweep(learning_rate=0.1, oracle="Gaussian((0.1, 0.2))"),
            "sigma2 has 2 numbers and there are 5 workers",
        ),
        (
            lambda: sweep(learning_rate=0.1, algorithm="FedAvg((1, 2))"),
            "local_steps has 2 numbers and there are 5 workers",
        ),
        (lambda: rs.algorithms.FedAvg([[1, 2]]), "or one for each worker in a list"),
        (lambda: rs.algorithms.FedAvg([0, 2]), "local_steps of a worker must be at least 1, not 0"),
        (lambda: rs.algorithms.LocalSGD([1, 2], growth=2), "rounds that grow have one period"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_any_work(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
