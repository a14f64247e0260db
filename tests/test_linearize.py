"""The affine map of a method, against simulations: its curve, its rate, its ends, its noise floor."""

import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from methods import AFFINE, ALGORITHMS, ALWAYS_STABLE, each_class
from scipy import stats
from scipy.linalg import block_diag, solve_discrete_lyapunov
from scipy.sparse import csr_array

import relaysim as rs
from relaysim.algorithms import fit
from relaysim.algorithms.base import Method
from relaysim.network import Network
from relaysim.problems.workers import Workers
from relaysim.support.workspace import Workspace
from relaysim.theory import extrema, iteration, lasting, spectra, stability
from relaysim.theory.growth import Growth

TREES = (rs.topologies.chain, rs.topologies.binary_tree, rs.topologies.star)
GRAPHS = (*TREES, rs.topologies.ring)


@functools.cache
def least_squares(n, d=3, zeta2=2.0, seed=0):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=zeta2, mu=0.2, r0=2.0, seed=seed)


def topologies_for(algorithm, n):
    makers = TREES if algorithm.uses == "relay" else GRAPHS
    made = [make(n) for make in (makers if n > 2 else makers[:1])]  # of two they are all the same
    return [*made, rs.topologies.double_binary_tree(n)] if algorithm.uses == "relay" else made


def assert_predicts(problem, topology, algorithm, rate, steps, x0=None, mixing=None):
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=steps,
        x0=x0,
        mixing=mixing,
        keep_iterates=True,
    )
    assert not history.diverged.any()
    linear = rs.theory.linearize(problem, topology, algorithm, rate, x0, mixing)
    predicted = linear.iterates(steps)
    largest = np.maximum.accumulate(np.abs(history.iterates).max(axis=(1, 2)))
    error = np.abs(predicted - history.iterates).max(axis=(1, 2))
    assert (error <= 1e-12 * np.maximum(largest, 1e-300)).all(), (error / largest).max()
    frame, curve = history.frame, linear.predict(steps)
    assert list(frame.columns) == list(curve.columns)
    start = np.maximum.accumulate(frame.suboptimality)
    assert ((curve.suboptimality - frame.suboptimality).abs() <= 1e-12 * start).all()
    for column in ("step", "vectors_sent", "bits_sent", "learning_rate"):
        np.testing.assert_array_equal(frame[column], curve[column])
    for column in ("consensus_distance", "distance", "gradient_norm"):
        scale = frame[column if column == "gradient_norm" else "distance"].max()
        np.testing.assert_allclose(curve[column], frame[column], rtol=0, atol=1e-11 * scale)


def steps_to_arrive(linear):
    """Whole periods until the slowest error is below rounding: ρ^steps < 1e-16."""
    steps = math.log(1e-16) / math.log(linear.spectral_radius)
    return linear.period * math.ceil(steps / linear.period)


# -- the curve -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "algorithm"),
    [
        *(pytest.param(8, algorithm, id=f"8-{algorithm!r}") for algorithm in AFFINE),
        *(
            pytest.param(n, *each.values, id=f"{n}-{each.id}", marks=each.marks)
            for n in (2, 32)
            for each in each_class(AFFINE)
        ),
    ],
)
def test_the_curve_is_that_of_a_simulation(n, algorithm):
    problem = least_squares(n)
    x0 = np.random.default_rng(n).normal(size=(n, problem.d))
    for topology in topologies_for(algorithm, n):
        assert_predicts(problem, topology, algorithm, 0.3, 80, x0=x0)


@pytest.mark.parametrize("algorithm", each_class(AFFINE))
def test_the_curve_of_an_unstable_rate_is_that_of_a_simulation(algorithm):
    problem = least_squares(8)
    for topology in topologies_for(algorithm, 8):
        assert_predicts(problem, topology, algorithm, 2.6, 12, x0=np.ones(3))


@pytest.mark.parametrize("algorithm", AFFINE, ids=repr)
def test_without_a_learning_rate_there_is_communication_only(algorithm):
    problem = least_squares(5)
    topology = topologies_for(algorithm, 5)[0]
    x0 = np.random.default_rng(0).normal(size=(5, 3))
    assert_predicts(problem, topology, algorithm, 0.0, 30, x0=x0)
    linear = rs.theory.linearize(problem, topology, algorithm, 0.0, x0)
    assert linear.spectral_radius <= 1 + 1e-12
    with pytest.raises(ValueError, match="no single fixed point"):
        _ = linear.fixed_point


def test_one_worker_is_gradient_descent():
    problem = rs.problems.DiagonalQuadratic(np.array([[0.5, 2.0]]), np.array([[1.0, -1.0]]))
    for algorithm in AFFINE:
        if getattr(algorithm, "momentum", 0) or getattr(algorithm, "delay", 0):
            continue
        if isinstance(algorithm, rs.algorithms.LocalRates | rs.algorithms.ADMM):
            continue  # its rates are parts of 1/L; it solves
        if isinstance(algorithm, rs.algorithms.Mudag):
            continue  # nor is it without other workers
        if getattr(algorithm, "falls_to", 1.0) < 1:
            continue  # its rate falls within a round
        if getattr(algorithm, "rate", 1.0) < 1:
            continue  # it takes a share of its local steps
        linear = rs.theory.linearize(problem, rs.topologies.chain(1), algorithm, 0.4)
        expected = [[1 - 0.8**t, -(1 - 0.2**t)] for t in range(20)]
        np.testing.assert_allclose(linear.iterates(19)[:, 0], expected, atol=1e-14)
        assert linear.spectral_radius == pytest.approx(0.8, abs=1e-12)


@pytest.mark.parametrize(
    "mixing",
    [
        rs.mixing.one_peer_exponential(6),
        rs.mixing.one_peer_exponential(8),
        [rs.mixing.uniform(rs.topologies.ring(8), w) for w in (0.1, 0.3, 0.45)],
    ],
    ids=["one-peer, 6", "one-peer, 8", "ring"],
)
@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.DPSGD(momentum=0.5),
        rs.algorithms.ExactDiffusion(),
        rs.algorithms.GradientTracking(),
    ],
    ids=repr,
)
def test_repeating_mixing_matrices_make_one_map_a_period(mixing, algorithm):
    n = mixing[0].shape[0]
    problem, topology = least_squares(n), rs.topologies.complete(n)
    assert_predicts(problem, topology, algorithm, 0.2, 60, x0=np.ones(3), mixing=mixing)
    linear = rs.theory.linearize(problem, topology, algorithm, 0.2, mixing=mixing)
    assert linear.period == len(mixing)
    x = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=0.2,
        steps=steps_to_arrive(linear),
        mixing=mixing,
        record=10**6,
    ).x
    np.testing.assert_allclose(linear.fixed_point, x, atol=1e-11)


def weighted(n):
    """A row-stochastic matrix that is not doubly stochastic, on a ring."""
    W = rs.mixing.metropolis(rs.topologies.ring(n)).toarray()
    W *= 1 + 0.5 * np.random.default_rng(0).random((n, n))
    return W / W.sum(axis=1, keepdims=True)


def weighted_for(algorithm, n):
    """The same with the sums that the method needs."""
    rows = weighted(n)
    needs = {"column stochastic": rows.T, "row and column stochastic": [rows, rows.T]}
    return needs.get(algorithm.mixing_needs, rows)


@pytest.mark.filterwarnings("ignore:.* is exact where W is doubly stochastic")
@pytest.mark.parametrize(
    "algorithm",
    [a for a in AFFINE if a.uses == "mixing" and "symmetric" not in a.mixing_needs],
    ids=repr,
)
def test_matrices_that_are_not_doubly_stochastic(algorithm):
    problem, topology = least_squares(6), rs.topologies.ring(6)
    mixing = weighted_for(algorithm, 6)
    assert_predicts(problem, topology, algorithm, 0.2, 60, mixing=mixing)
    linear = rs.theory.linearize(problem, topology, algorithm, 0.2, mixing=mixing)
    assert linear.spectral_radius < 1
    run = {"learning_rate": 0.2, "mixing": mixing, "steps": steps_to_arrive(linear)}
    x = rs.simulate(problem, topology, algorithm, **run, record=10**6).x
    np.testing.assert_allclose(linear.fixed_point, x, atol=1e-10)


class Own:
    """A user's quadratic: nothing but what a problem must have."""

    def __init__(self, problem):
        self._problem = problem
        self.n, self.d = problem.n, problem.d

    def gradient(self, x):
        return self._problem.gradient(x)

    def value(self, x):
        return self._problem.value(x)


def test_a_users_own_quadratic_has_the_same_map():
    problem = least_squares(8)
    topology, algorithm = rs.topologies.chain(8), rs.algorithms.RelaySGD(momentum=0.5)
    own = rs.theory.linearize(Own(problem), topology, algorithm, 0.3)
    given = rs.theory.linearize(problem, topology, algorithm, 0.3)
    assert own.spectral_radius == pytest.approx(given.spectral_radius, abs=1e-10)
    np.testing.assert_allclose(own.fixed_point, given.fixed_point, atol=1e-10)
    assert "value" in own.predict(3)
    assert own.stationary(0.1).consensus_distance == pytest.approx(
        given.stationary(0.1).consensus_distance
    )


# -- fixed points ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", each_class(AFFINE))
def test_where_a_method_ends(algorithm):
    problem = least_squares(7)
    x0 = np.random.default_rng(3).normal(size=(7, 3))
    for topology in topologies_for(algorithm, 7):
        linear = rs.theory.linearize(problem, topology, algorithm, 0.1, x0)
        run = {"learning_rate": 0.1, "x0": x0, "steps": steps_to_arrive(linear)}
        x = rs.simulate(problem, topology, algorithm, **run, record=10**6).x
        tolerance = 1e-11 if linear.period == 1 else 1e-9
        np.testing.assert_allclose(linear.fixed_point, x, atol=tolerance)
        if algorithm.exact:
            np.testing.assert_allclose(
                linear.fixed_point, np.tile(problem.optimum, (7, 1)), atol=1e-11
            )


def test_a_singular_mean_hessian_has_no_single_fixed_point():
    A = np.ones((4, 1, 2))
    problem = rs.problems.LeastSquares(A, np.arange(4.0)[:, None])
    linear = rs.theory.linearize(problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), 0.1)
    assert linear.spectral_radius == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="no single fixed point"):
        _ = linear.fixed_point


# -- what is conserved -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* is exact where W is doubly stochastic")
@pytest.mark.parametrize(
    "algorithm", [a for a in AFFINE if type(a).conserved is not Method.conserved], ids=repr
)
def test_what_a_method_says_it_conserves_it_conserves_whatever_the_gradients(algorithm):
    generator = np.random.default_rng(0)
    for topology in topologies_for(algorithm, 9):
        symmetric = algorithm.mixing_needs in ("symmetric", "one symmetric")
        uneven = repr(topology) == "ring(9)" and not symmetric
        for mixing in (None, weighted_for(algorithm, 9)) if uneven else (None,):
            matrices = fit.matrices_for(algorithm, topology, mixing)
            workers = Workers(least_squares(9, 4))
            network = Network(topology, matrices, Workspace(), workers=workers)
            round = rs.algorithms.base.Round(
                lambda x: generator.normal(size=x.shape), network, Workspace(), generator.random
            )
            round.learning_rate = 0.3
            state = algorithm.init(generator.normal(size=(9, 4)), network)
            first = algorithm.conserved(state, network, 0.3)
            if first is None:
                assert algorithm.alpha < 1
                continue
            assert first.size > 0
            for step in range(25):
                round.step = step
                state = algorithm.step(state, round)
                now = algorithm.conserved(state, network, 0.3)
                np.testing.assert_allclose(now, first, atol=1e-13)


# -- the spectral radius ---------------------------------------------------------------------------


def growth_factor(problem, topology, algorithm, rate, x0, linear):
    """By how much the error of a simulation grows each step after burn-in.

    The late errors obey a linear recurrence whose roots are the eigenvalues that dominate by then. Its
    solution of smallest norm keeps all other roots inside the circle (Kumaresan and Tufts, 1982).
    """
    radius = linear.spectral_radius
    # Errors may grow to 1e12 of the start, and fall to where rounding does not show yet.
    steps = int(min(4000, max(150, (22 if radius > 1 else 15) / abs(math.log(radius)))))
    iterates = rs.simulate(
        problem, topology, algorithm, learning_rate=rate, steps=steps, x0=x0, keep_iterates=True
    ).iterates
    errors = iterates - linear.fixed_point
    errors = errors[np.isfinite(errors).all(axis=(1, 2))].reshape(-1, problem.n * problem.d)
    stride = max(1, len(errors) // 150)
    late = errors[::-stride][:60][::-1]
    scaled = late / radius ** (stride * np.arange(len(late))[:, None])
    order = 10
    before = np.stack([scaled[k : len(scaled) - order + k].ravel() for k in range(order)], axis=1)
    coefficients = np.linalg.lstsq(before, scaled[order:].ravel(), rcond=1e-6)[0]
    return radius * np.abs(np.roots([1, *-coefficients[::-1]])).max() ** (1 / stride)


STEADY = [
    a
    for a in AFFINE
    if getattr(a, "unheard", "initial") == "initial" and not isinstance(a, ALWAYS_STABLE)
]


# One tree for each class of methods; all networks take half a minute together.
@pytest.mark.parametrize("networks", ["a tree", pytest.param("others", marks=pytest.mark.slow)])
@pytest.mark.parametrize("algorithm", each_class(STEADY))
def test_simulations_grow_by_the_spectral_radius_on_both_sides_of_each_end(
    algorithm, networks, monkeypatch
):
    # The same ends are found on half as many rates.
    monkeypatch.setattr("relaysim.theory.growth.FINE_RATIO", 1.5)
    # The optimum is 0 for everyone, so that errors decay below any rounding floor.
    hessians = rs.problems.random_quadratics(n=8, d=2, zeta2=0.0, mu=0.3, seed=4)
    problem = rs.problems.LeastSquares(hessians.A, np.zeros((8, 2)))
    x0 = np.random.default_rng(0).normal(size=(8, 2))
    extra = (
        [rs.topologies.double_binary_tree(8), rs.topologies.regular_tree(8, 3)]
        if algorithm.uses == "relay"
        else [rs.topologies.ring(8), rs.topologies.torus(2, 4)]
    )
    tree, *others = [*(make(8) for make in TREES), *extra]
    ends = 0
    for topology in [tree] if networks == "a tree" else others:
        for interval in rs.theory.stable_learning_rates(problem, topology, algorithm):
            for end, inward in zip(interval, (1, -1), strict=True):
                if end == 0:
                    continue
                for side in (inward, -inward):
                    rate = end * (1 + 0.01 * side)
                    linear = rs.theory.linearize(problem, topology, algorithm, rate, x0)
                    assert (linear.spectral_radius < 1) == (side == inward)
                    found = growth_factor(problem, topology, algorithm, rate, x0, linear)
                    assert found == pytest.approx(linear.spectral_radius, abs=1e-4)
                    ends += 1
    assert ends >= 2


@pytest.mark.parametrize("algorithm", each_class(AFFINE))
def test_iteration_finds_the_eigenvalues_of_a_dense_solver(algorithm, monkeypatch):
    problem = least_squares(9, d=2)
    # Every method at both rates and on all graphs.
    for topology, rate in zip(topologies_for(algorithm, 9), itertools.cycle((0.02, 0.7))):
        made = [rs.theory.linearize(problem, topology, algorithm, rate) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(spectra, "DENSE_STATES", 10**6)
            dense = made[0].spectral_radius
        with monkeypatch.context() as patch:
            patch.setattr(spectra, "DENSE_STATES", 4)
            assert made[1].spectral_radius == pytest.approx(dense, abs=1e-9)


ORTHOGONAL = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
STRUCTURED = {
    "diagonal": rs.problems.DiagonalQuadratic(
        0.2 + np.random.default_rng(1).random((7, 3)), np.random.default_rng(2).normal(size=(7, 3))
    ),
    "equal": rs.problems.LeastSquares(
        np.tile(np.diag([0.5, 0.8, 1.0]) @ ORTHOGONAL, (7, 1, 1)),
        np.random.default_rng(2).normal(size=(7, 3)),
    ),
    "any": rs.problems.random_quadratics(n=7, d=3, zeta2=1.0, mu=0.2, seed=0),
}


@pytest.mark.parametrize("problem", STRUCTURED.values(), ids=STRUCTURED)
@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.RelaySGDGrad(momentum=0.5),
        rs.algorithms.D2(),
        rs.algorithms.KGT(period=2, rate=0.6),
        rs.algorithms.GradientTracking(form="diging", momentum=0.6),
        rs.algorithms.ADMM(),
        rs.algorithms.LocalSGD(period=4),
    ],
    ids=repr,
)
def test_structure_changes_no_answer(algorithm, problem):
    """Spectrum and covariance of the dense operator, with nothing assumed, are the oracle."""
    n, d = problem.n, problem.d
    topology = (rs.topologies.chain if algorithm.uses == "relay" else rs.topologies.ring)(n)
    linear = rs.theory.linearize(problem, topology, algorithm, 0.2)
    one = np.eye(linear.states)
    steps = [linear._map.linear(one, phase) for phase in range(linear.period)]
    whole = functools.reduce(lambda before, A: A @ before, steps)
    values = np.linalg.eigvals(spectra.deflated(csr_array(whole), linear._map.conserved))
    radius = np.abs(values).max() ** (1 / linear.period)
    assert linear.spectral_radius == pytest.approx(radius, abs=1e-9)
    growth = Growth(problem, topology, algorithm, None, None, "", 0)
    assert math.exp(growth(0.2)) == pytest.approx(radius, abs=1e-9)
    assert math.exp(growth.roughly(0.2)) == pytest.approx(radius, abs=1e-6)
    here, slope = growth.with_slope(0.2)
    risen = growth(0.2 + 1e-5) - here
    assert slope == pytest.approx(risen / 1e-5, rel=1e-2, abs=1e-3)
    # P of the first step of a period, by adding up until nothing changes.
    noise = [B.toarray() / math.sqrt(d) for B in linear._map.noise]
    P, rows = np.zeros((linear.states, linear.states)), slice(0, n * d)
    for _ in range(math.ceil(20 / -math.log(radius) / linear.period)):
        for A, B in zip(steps, noise, strict=True):
            P = A @ P @ A.T + B @ B.T
    own = P[rows, rows].reshape(n, d, n, d)
    spread = linear._floor.spreads[0]
    np.testing.assert_allclose(spread.mean, own.mean(axis=(0, 2)), rtol=1e-9, atol=1e-12)
    variances = np.einsum("ikik->i", own)
    np.testing.assert_allclose(spread.workers, variances, rtol=1e-9, atol=1e-12)
    consensus = variances.mean() - np.trace(own.mean(axis=(0, 2)))
    assert spread.consensus == pytest.approx(consensus, rel=1e-8, abs=1e-12)
    by_rows = linear._floor._turned(linear._floor._mean_by_rows(0))
    np.testing.assert_allclose(by_rows, spread.mean, rtol=1e-9, atol=1e-12)
    only = linear.stationary(0.3, ["suboptimality"])
    assert only.index.tolist() == ["suboptimality"]
    assert only.suboptimality == pytest.approx(linear.stationary(0.3).suboptimality, rel=1e-9)


def test_equal_hessians_fall_apart_into_modes_and_others_do_not():
    ring = rs.topologies.ring(7)
    found = {}
    for name, problem in STRUCTURED.items():
        where = rs.theory.linearize(problem, ring, rs.algorithms.D2(), 0.2)._coordinates
        found[name] = where.parameters is not None, where.workers is not None
    assert found == {"diagonal": (True, False), "equal": (True, True), "any": (False, False)}


def test_columns_of_a_floor_that_are_not_there_are_refused():
    linear = rs.theory.linearize(STRUCTURED["any"], rs.topologies.ring(7), rs.algorithms.D2(), 0.2)
    with pytest.raises(ValueError, match=r"a column must be one of 'suboptimality'.*not 'speed'"):
        linear.stationary(0.1, ["speed"])


def test_modes_that_iterates_do_not_show_do_not_count():
    """On a complete graph the momenta differ by β^t between workers, and nobody notices."""
    problem = rs.problems.DiagonalQuadratic(np.ones((4, 1)), np.arange(4.0)[:, None])
    topology = rs.topologies.complete(4)
    linear = rs.theory.linearize(
        problem, topology, rs.algorithms.QuasiGlobalMomentum(form="toy"), 1.0
    )
    beta, rate = 0.9, 1.0
    # x̄' = x̄ − γ(βm̄ + x̄)/(1 + β),  m̄' = βm̄ + (1 − β)(βm̄ + x̄)/(1 + β)
    mean = np.array([[1 + beta - rate, -rate * beta], [1 - beta, 2 * beta]]) / (1 + beta)
    expected = np.abs(np.linalg.eigvals(mean)).max()
    assert linear.spectral_radius == pytest.approx(expected, abs=1e-9)
    assert expected < beta
    operator = linear.operator @ np.eye(linear.states)
    assert np.abs(np.linalg.eigvals(operator)).max() == pytest.approx(beta, abs=1e-9)


def test_the_operator_steps_the_whole_state():
    problem = least_squares(6)
    linear = rs.theory.linearize(problem, rs.topologies.ring(6), rs.algorithms.D2(), 0.2)
    assert linear.states == 2 * 6 * 3
    dense = linear.operator @ np.eye(linear.states)
    # X' = W(X − γHX + C), C' = C + (W − I)(X − γHX + C)
    W = np.kron(rs.mixing.metropolis(rs.topologies.ring(6)).toarray(), np.eye(3))
    H = np.zeros((18, 18))
    for i, A in enumerate(problem.A):
        H[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = A.T @ A
    descent, identity = np.eye(18) - 0.2 * H, np.eye(18)
    expected = np.block([[W @ descent, W], [(W - identity) @ descent, W]])
    # The correction is held in units of its own, a power of two.
    unit = dense[0, 18:].max() / expected[0, 18:].max()
    units = np.repeat([1.0, unit], 18)
    np.testing.assert_allclose(dense, expected / units[:, None] * units, atol=1e-14)


# -- the noise floor -------------------------------------------------------------------------------

FLOORS = [
    (rs.algorithms.RelaySGD(), rs.topologies.chain(8), None),
    (rs.algorithms.RelaySGD(momentum=0.5, overlap=True), rs.topologies.binary_tree(8), None),
    (rs.algorithms.RelaySGDGrad(), rs.topologies.star(8), None),
    (rs.algorithms.RelaySGDMix(), rs.topologies.double_binary_tree(8), None),
    (rs.algorithms.DPSGD(), rs.topologies.ring(8), None),
    (rs.algorithms.DPSGD(momentum=0.8), rs.topologies.star(8), None),
    (rs.algorithms.DPSGD(), rs.topologies.ring(8), weighted(8)),
    (rs.algorithms.DPSGD(), rs.topologies.complete(6), rs.mixing.one_peer_exponential(6)),
    (rs.algorithms.D2(), rs.topologies.ring(8), None),
    (rs.algorithms.ExactDiffusion(), rs.topologies.binary_tree(8), None),
    (rs.algorithms.GradientTracking(), rs.topologies.torus(2, 4), None),
    (rs.algorithms.QuasiGlobalMomentum(0.5), rs.topologies.ring(8), None),
    (rs.algorithms.SGP(rounds=1), rs.topologies.ring(6), None),
    (rs.algorithms.AllReduce(momentum=0.9), rs.topologies.ring(8), None),
]


@pytest.mark.parametrize(
    ("algorithm", "topology", "mixing"), FLOORS, ids=[f"{a!r} {t!r}" for a, t, _ in FLOORS]
)
def test_simulated_noise_floors_are_those_predicted(algorithm, topology, mixing):
    problem = least_squares(topology.n, zeta2=0.05)
    rate, sigma2 = (0.3 if algorithm.label == "Gradient tracking" else 0.6), 1.0
    linear = rs.theory.linearize(problem, topology, algorithm, rate, mixing=mixing)
    spacing = math.ceil(linear.relaxation_time)
    assert spacing < 60
    # one more than a multiple of the period, to meet all of its steps
    spacing += -spacing % linear.period + (linear.period > 1)
    burn_in, instants, replicas = 10 * spacing, 60, 256
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=rate,
        steps=burn_in + instants * spacing,
        record=range(burn_in, burn_in + instants * spacing, spacing),
        oracle=rs.oracles.Gaussian(sigma2),
        replicas=replicas,
        mixing=mixing,
    )
    floor = linear.stationary(sigma2)
    means = history.frame.groupby("replica")[list(floor.index)].mean()
    zero = floor < 1e-28  # workers that are equal are so up to rounding
    assert (means.loc[:, zero] < 1e-28).all(axis=None)
    floor, means = floor[~zero], means.loc[:, ~zero]
    assert "suboptimality" in floor
    error = means.std() / math.sqrt(replicas)
    assert (error < 0.02 * floor).all()
    assert ((means.mean() - floor).abs() < 4 * error).all(), (means.mean() - floor) / error


def test_quantiles_of_the_noise_floor_are_those_of_records():
    problem, topology = least_squares(8, zeta2=0.05), rs.topologies.ring(8)
    algorithm = rs.algorithms.DPSGD()
    linear = rs.theory.linearize(problem, topology, algorithm, 0.5)
    history = rs.simulate(
        problem,
        topology,
        algorithm,
        learning_rate=0.5,
        steps=480,
        record=range(200, 481, 40),  # apart by several relaxation times
        oracle=rs.oracles.Gaussian(1.0),
        replicas=500,
    )
    assert linear.relaxation_time < 15
    for quantile in (0.1, 0.5, 0.9):
        found = linear.stationary_quantiles(1.0, quantile)
        share = (history.frame.suboptimality < found).mean()
        assert share == pytest.approx(quantile, abs=0.025)


@pytest.mark.parametrize("period", [1, 2])
def test_with_one_parameter_quantiles_are_exact(period):
    problem = rs.problems.DiagonalQuadratic([[0.5], [1.0], [2.0]], [[0.0], [1.0], [3.0]])
    algorithm = rs.algorithms.LocalSGD(period)
    linear = rs.theory.linearize(problem, rs.topologies.chain(3), algorithm, 0.3)
    quantiles = np.array([[0.0, 0.01, 0.1], [0.5, 0.9, 1.0]])
    found = linear.stationary_quantiles(0.4, quantiles)
    assert found.shape == quantiles.shape
    assert found[0, 0] == 0
    assert found[1, 2] == math.inf
    # An independent form of the same law: non-central χ² about each phase's fixed point.
    curvature = 3.5 / 3
    shares = 0.0
    for phase in range(period):
        fixed, floor = linear._fixed_iterates[phase].mean(), linear._floor.means[phase]
        variance = 0.4 * floor[0, 0]
        ratio = (fixed - problem.optimum[0]) ** 2 / variance
        shares += stats.ncx2.cdf(found * 2 / (curvature * variance), 1, ratio) / period
    np.testing.assert_allclose(shares, quantiles, rtol=1e-9)
    if period == 1:  # all workers equal: x̄ is an AR(1) process about the optimum
        variance = 0.4 * 0.3**2 / 3 / (1 - (1 - 0.3 * curvature) ** 2)
        expected = 0.5 * curvature * variance * stats.chi2.ppf(quantiles, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="quantiles must be in"):
        linear.stationary_quantiles(0.4, 1.5)


def test_without_noise_the_floor_is_the_plateau():
    problem, topology = least_squares(8), rs.topologies.chain(8)
    linear = rs.theory.linearize(problem, topology, rs.algorithms.DPSGD(), 0.3)
    floor = linear.stationary(0.0)
    last = linear.predict(3000).iloc[-1]
    assert isinstance(floor, pd.Series)
    for name in floor.index:
        assert floor[name] == pytest.approx(last[name], rel=1e-9)


# -- awkward cases ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [rs.algorithms.D2(), rs.algorithms.ExactDiffusion()], ids=repr
)
def test_a_sequence_that_begins_with_a_pause(algorithm):
    problem, ring = least_squares(4), rs.topologies.ring(4)
    pause = [np.eye(4), rs.mixing.metropolis(ring).toarray()]
    radii = [
        rs.theory.linearize(problem, ring, algorithm, 0.2, mixing=mixing).spectral_radius
        for mixing in (pause, pause[::-1])
    ]
    assert radii[0] == pytest.approx(radii[1], abs=1e-9)
    assert_predicts(problem, ring, algorithm, 0.2, 12, mixing=pause)


@functools.cache
def stable_and_best(algorithm, scale):
    """The ends of stable rates and the smallest radius, for a loss in other units."""
    chain, centers = rs.topologies.chain(6), np.arange(12.0).reshape(6, 2)
    problem = rs.problems.DiagonalQuadratic(scale * np.tile([0.4, 1.0], (6, 1)), centers)
    ends = np.ravel(rs.theory.stable_learning_rates(problem, chain, algorithm))
    return ends, rs.theory.best_learning_rate(problem, chain, algorithm).spectral_radius


@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.RelaySGDGrad(),
        rs.algorithms.DPSGD(momentum=0.9),
        rs.algorithms.GradientTracking(),
        rs.algorithms.QuasiGlobalMomentum(),
    ],
    ids=repr,
)
def test_rates_do_not_depend_on_the_units_of_the_loss(algorithm, monkeypatch):
    # The same ends are found on half as many rates.
    monkeypatch.setattr("relaysim.theory.growth.FINE_RATIO", 1.5)
    expected, best = stable_and_best(algorithm, 1.0)
    for scale in (1e-6, 1e9):
        found, radius = stable_and_best(algorithm, scale)
        np.testing.assert_allclose(found * scale, expected, rtol=1e-8, err_msg=f"{scale}")
        assert radius == pytest.approx(best, abs=1e-6), scale


@pytest.mark.parametrize("beyond", [0.0, 1e-15, 1e-12, 1e-9, 1e-7])
def test_steps_that_jump_to_the_optimum_are_affine(beyond):
    problem = rs.problems.DiagonalQuadratic(np.ones((4, 1)), np.arange(4.0)[:, None])
    for algorithm in (rs.algorithms.AllReduce(), rs.algorithms.DPSGD()):
        linear = rs.theory.linearize(problem, rs.topologies.chain(4), algorithm, 1 + beyond)
        assert linear.spectral_radius <= 2 * beyond + 1e-14
    best = rs.theory.best_learning_rate(problem, rs.topologies.chain(4), rs.algorithms.AllReduce())
    assert best.spectral_radius < 1e-6


@pytest.mark.parametrize("n", [4, 32, 64])
def test_a_nilpotent_map_has_radius_0(n):
    problem = rs.problems.DiagonalQuadratic(np.ones((n, 1)), np.zeros((n, 1)))
    linear = rs.theory.linearize(problem, rs.topologies.chain(n), rs.algorithms.RelaySGD(), 1.0)
    assert linear.spectral_radius == 0


@pytest.mark.parametrize("algorithm", AFFINE, ids=repr)
def test_a_single_worker_has_a_fixed_point_and_a_floor(algorithm):
    problem = rs.problems.DiagonalQuadratic(np.array([[1.0]]), np.array([[2.0]]))
    linear = rs.theory.linearize(problem, rs.topologies.chain(1), algorithm, 0.3)
    np.testing.assert_allclose(linear.fixed_point, [[2.0]], atol=1e-12)
    assert linear.stationary(0.1).suboptimality > 0
    if isinstance(algorithm, rs.algorithms.ADMM):
        return  # it solves
    one_rate = getattr(algorithm, "falls_to", 1) == getattr(algorithm, "rate", 1) == 1
    one_rate &= not isinstance(algorithm, rs.algorithms.Mudag)  # it has momentum all the same
    if one_rate and not (getattr(algorithm, "momentum", 0) or getattr(algorithm, "delay", 0)):
        expected = 0.5 * 0.3 * 0.12 / (2 - 0.3)  # ½γσ²/(2 − γ)
        assert linear.stationary(0.12).suboptimality == pytest.approx(expected, rel=1e-9)


def test_iteration_does_not_stop_at_another_eigenvalue():
    problem = rs.problems.random_quadratics(n=60, d=2, zeta2=1.0, mu=0.01, seed=0)
    algorithm = rs.algorithms.DPSGD(momentum=0.99)
    linear = rs.theory.linearize(problem, rs.topologies.ring(60), algorithm, 0.7)
    dense = np.abs(np.linalg.eigvals(linear.operator @ np.eye(linear.states))).max()
    assert linear.spectral_radius == pytest.approx(dense, abs=1e-9)


class Ridge(rs.problems.LeastSquares):
    """Its hessian_product is that of the parent, and does not fit."""

    def gradient(self, x, out=None):
        return super().gradient(x) + 0.5 * x


class EveryThird(rs.algorithms.DPSGD):
    """Mixes every third step."""

    def step(self, state, round):
        x = round.descend(state.x, round.gradient(state.x))
        return state._replace(x=round.mix(x) if round.step % 3 == 2 else x.copy())


class EveryThirdDeclared(EveryThird):
    """The same, and says so."""

    cycle = 3


def test_rules_that_change_with_the_step_have_to_say_so():
    problem, ring = least_squares(4), rs.topologies.ring(4)
    with pytest.raises(TypeError, match="does not repeat after 1 steps"):
        rs.theory.linearize(problem, ring, EveryThird(), 0.2)
    assert_predicts(problem, ring, EveryThirdDeclared(), 0.2, 40)


def test_a_hessian_product_that_does_not_fit_is_noticed():
    problem = least_squares(4)
    ridge = Ridge(problem.A, problem.b)
    with pytest.raises(TypeError, match="hessian_product"):
        rs.theory.linearize(ridge, rs.topologies.ring(4), rs.algorithms.DPSGD(), 0.2)


def test_large_offsets_of_a_users_problem_cost_no_digits():
    far = rs.problems.random_quadratics(n=6, d=3, zeta2=1.0, mu=0.2, r0=1e7, seed=0)
    ring = rs.topologies.ring(6)
    linear = rs.theory.linearize(Own(far), ring, rs.algorithms.D2(), 0.3)
    np.testing.assert_allclose(linear.fixed_point, np.tile(far.optimum, (6, 1)), rtol=1e-9)


# -- what is refused -------------------------------------------------------------------------------


def test_a_problem_that_is_not_quadratic_is_refused():
    features = np.random.default_rng(0).normal(size=(12, 2))
    problem = rs.problems.Logistic(features, np.arange(12) % 2, 0.1, partition=np.arange(12) % 4)
    with pytest.raises(TypeError, match="not quadratic"):
        rs.theory.linearize(problem, rs.topologies.ring(4), rs.algorithms.DPSGD(), 0.1)


class Clipped(rs.algorithms.DPSGD):
    """Gossip whose steps are cut off, which no matrix does."""

    def step(self, state, round):
        following = super().step(state, round)
        return following._replace(x=np.clip(following.x, -1, 1))


def test_a_method_that_is_not_affine_is_refused():
    problem = least_squares(4)
    with pytest.raises(TypeError, match="not affine"):
        rs.theory.linearize(problem, rs.topologies.ring(4), Clipped(), 0.1)
    with pytest.raises(TypeError, match="not affine"):
        rs.theory.stable_learning_rates(problem, rs.topologies.ring(4), Clipped())


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a not in AFFINE], ids=repr)
def test_compressed_methods_are_refused(algorithm):
    with pytest.raises(TypeError, match=r"not affine|draws random numbers"):
        rs.theory.linearize(least_squares(4), rs.topologies.ring(4), algorithm, 0.1)


def test_bad_input_is_refused():
    problem, ring = least_squares(4), rs.topologies.ring(4)
    gossip = rs.algorithms.DPSGD()
    for rate, error in ((-0.1, ValueError), (np.nan, ValueError), ([0.1, 0.2], TypeError)):
        with pytest.raises(error, match="learning_rate"):
            rs.theory.linearize(problem, ring, gossip, rate)
    with pytest.raises(ValueError, match="needs a tree"):
        rs.theory.linearize(problem, ring, rs.algorithms.RelaySGD(), 0.1)
    with pytest.raises(ValueError, match="x0 must have shape"):
        rs.theory.linearize(problem, ring, gossip, 0.1, x0=np.zeros(7))
    for rate in (3.0, 50.0):
        unstable = rs.theory.linearize(problem, ring, gossip, rate)
        assert (unstable.spectral_radius < 2) == (rate == 3)
        with pytest.raises(ValueError, match="no noise floor"):
            unstable.stationary(0.1)
    with pytest.raises(ValueError, match="sigma2"):
        rs.theory.linearize(problem, ring, gossip, 0.1).stationary(-1)
    with pytest.raises(ValueError, match="no noise floor"):
        rs.theory.linearize(problem, ring, gossip, 50.0).stationary(0.0)
    with pytest.raises(ValueError, match="steps"):
        rs.theory.linearize(problem, ring, gossip, 0.1).predict(-1)
    with pytest.raises(ValueError, match="draws"):
        rs.theory.linearize(problem, ring, gossip, 0.1).stationary_quantiles(0.1, 0.5, draws=0)
    with pytest.raises(ValueError, match="optimum"):
        rs.theory.linearize(Own(problem), ring, gossip, 0.1).stationary_quantiles(0.1, 0.5)


@pytest.mark.parametrize("period", [16, 50])
def test_overflow_over_a_long_period_is_no_stability(period):
    problem = rs.problems.DiagonalQuadratic(
        np.tile([[0.5, 1.0]], (4, 1)), np.arange(8.0).reshape(4, 2)
    )
    ring, algorithm = rs.topologies.ring(4), rs.algorithms.LocalSGD(period)
    [(low, high)] = rs.theory.stable_learning_rates(problem, ring, algorithm)
    assert low == 0
    assert high == pytest.approx(
        2, rel=1e-8
    )  # equal Hessians: the mean is that of gradient descent
    for rate in (1e5, 1e30):
        radius = rs.theory.linearize(problem, ring, algorithm, rate).spectral_radius
        assert radius == pytest.approx(rate - 1, rel=1e-9)


def test_what_underflows_over_a_long_period_has_a_rate():
    # (1 − γh)³² is below the smallest float.
    h = np.full((4, 1), 1.0)
    problem = rs.problems.DiagonalQuadratic(h, np.zeros((4, 1)))
    linear = rs.theory.linearize(
        problem, rs.topologies.ring(4), rs.algorithms.LocalSGD(32), 1 - 2.0**-40
    )
    assert linear.spectral_radius == pytest.approx(2.0**-40, rel=1e-9)


@pytest.mark.parametrize("mu", [1e-6, 1e-8])
@pytest.mark.parametrize("name", ["AllReduce", "DPSGD", "D2"])
def test_rates_that_rounding_hides_are_on_the_side_of_higher_ones(name, mu):
    problem = rs.problems.DiagonalQuadratic(np.tile([mu, 1.0], (4, 1)), np.zeros((4, 2)))
    algorithm = getattr(rs.algorithms, name)()
    [(low, high)] = rs.theory.stable_learning_rates(problem, rs.topologies.ring(4), algorithm)
    assert low == 0
    assert high == pytest.approx(2, rel=1e-8)


@pytest.mark.parametrize("rate", [1e-8, 1e-10])
@pytest.mark.parametrize("name", ["AllReduce", "DPSGD", "GradientTracking", "momentum"])
def test_the_floor_keeps_its_digits_at_low_rates(name, rate):
    problem = rs.problems.DiagonalQuadratic(np.ones((4, 1)), np.zeros((4, 1)))
    heavy = rs.algorithms.DPSGD(momentum=0.9)
    algorithm = heavy if name == "momentum" else getattr(rs.algorithms, name)()
    linear = rs.theory.linearize(problem, rs.topologies.ring(4), algorithm, rate)
    assert linear.stationary(1.0).suboptimality == pytest.approx(rate / 16, rel=1e-4)


@pytest.mark.parametrize("name", ["AllReduce", "DPSGD", "GradientTracking", "RelaySGD", "momentum"])
def test_with_fewer_rows_than_parameters_windows_are_of_what_f_sees(name):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(3, 2, 8))  # 6 rows for 8 parameters
    problem = rs.problems.LeastSquares(rows, generator.normal(size=(3, 2)))
    heavy = rs.algorithms.DPSGD(momentum=0.5)
    topology = rs.topologies.chain(3)
    algorithm = heavy if name == "momentum" else getattr(rs.algorithms, name)()
    [(low, high)] = rs.theory.stable_learning_rates(problem, topology, algorithm)
    assert low == 0
    if name == "AllReduce":
        hessians = [
            np.linalg.eigvalsh(problem.hessian_product(np.stack([np.eye(8)] * 3)).mean(axis=0))
        ]
        assert high == pytest.approx(2 / hessians[0][-1], rel=1e-8)
    best = rs.theory.best_learning_rate(problem, topology, algorithm)
    assert low < best.learning_rate < high
    assert best.spectral_radius < 1
    for rate, converges in ((0.98 * high, True), (1.02 * high, False)):
        start = generator.normal(size=(3, 8))
        frame = rs.simulate(
            problem, topology, algorithm, learning_rate=rate, steps=1500, x0=start, record=[0, 1500]
        ).frame
        column = "suboptimality" if "suboptimality" in frame else "gradient_norm"
        falls = frame[column].iloc[-1] < frame[column].iloc[0]
        assert falls == converges


@pytest.mark.parametrize("h", [1.0, 0.3, 7.1])
@pytest.mark.parametrize("name", ["RelaySGD", "AllReduce", "DPSGD"])
def test_the_rate_that_forgets_everything_is_found(name, h):
    n = 16
    problem = rs.problems.DiagonalQuadratic(np.full((n, 1), h), np.arange(float(n))[:, None])
    algorithm = getattr(rs.algorithms, name)()
    best = rs.theory.best_learning_rate(problem, rs.topologies.chain(n), algorithm)
    assert best.spectral_radius < 1e-15
    assert best.learning_rate == pytest.approx(1 / h, rel=1e-15)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_best_rate_at_which_nothing_is_left_is_found(n, seed):
    """With one parameter, and W = 11ᵀ/n, the mean of all curvatures is undone by its inverse."""
    generator = np.random.default_rng(seed)
    h, centers = generator.uniform(0.1, 1, (n, 1)), generator.normal(size=(n, 1))
    problem = rs.problems.DiagonalQuadratic(h, centers)
    topology = rs.topologies.complete(n) if n > 2 else rs.topologies.chain(n)
    methods = [rs.algorithms.D2(), rs.algorithms.GradientTracking()]
    if n == 2:  # each hears the other one, at once or a step late
        methods += [rs.algorithms.DPSGD(), rs.algorithms.RelaySGD(), rs.algorithms.RelaySGDGrad()]
    for method in methods:
        found = rs.theory.best_learning_rate(problem, topology, method)
        assert found.learning_rate == pytest.approx(1 / h.mean(), rel=2e-5)
        assert found.spectral_radius < 3e-5


@pytest.mark.parametrize("scale", [1e-150, 1e-13, 1e13, 1e100])
@pytest.mark.parametrize(
    "algorithm",
    [
        rs.algorithms.GradientTracking(),
        rs.algorithms.GradientTracking("diging"),
        rs.algorithms.GradientTracking("atc", momentum=0.3),
        rs.algorithms.D2("scaled"),
    ],
    ids=repr,
)
def test_a_fixed_point_does_not_depend_on_the_units_of_the_loss(algorithm, scale):
    generator = np.random.default_rng(0)
    h, centers = generator.uniform(0.3, 1, (5, 3)), generator.normal(size=(5, 3))
    problem = rs.problems.DiagonalQuadratic(scale * h, centers)
    linear = rs.theory.linearize(problem, rs.topologies.ring(5), algorithm, 0.1 / scale)
    np.testing.assert_allclose(linear.fixed_point, np.tile(problem.optimum, (5, 1)), atol=1e-12)


def test_the_best_rate_may_lie_between_rates_that_look_worse():
    """Two valleys: that of the lowest value seen, and a narrow one whose bottom no rate has met."""

    class Valleys:
        curvature = 1e6

        def __call__(self, rate):
            return self.with_slope(rate)[0]

        def with_slope(self, rate):
            wide = 0.1 * abs(rate - 4) - 3, 0.1 * np.sign(rate - 4)
            return min(wide, (8 * abs(rate - 12.5) - 6.5, 8 * np.sign(rate - 12.5)))

    rates = [float(rate) for rate in range(1, 20)]
    growth = Valleys()
    best = stability._best(growth, rates, [growth(rate) for rate in rates])
    assert best.learning_rate == pytest.approx(12.5, rel=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_a_scan_finds_what_crosses_0_between_its_rates(side):
    """A valley that is below 0 for a tenth of the way between two rates, and a hill above it."""

    class Between:
        def __init__(self):
            self._rates, self._tried = [1.0, 2.0, 3.0, 4.0], {}

        def __call__(self, rate):
            return side * (abs(rate - 2.4) - 0.05)

        roughly = __call__

    rates, values = Growth.scan(Between())
    (place,) = (rate for rate in rates if rate not in (1.0, 2.0, 3.0, 4.0))
    assert place == pytest.approx(2.4, abs=1e-4)
    np.testing.assert_allclose(values, [Between()(rate) for rate in rates], rtol=1e-12)


# -- how it is found -------------------------------------------------------------------------------


def _largest_of(*branches):
    return lambda x: max((branch(x) for branch in branches), key=lambda found: found[0])


@pytest.mark.parametrize(
    ("curve", "around", "lowest", "most"),
    [
        (_largest_of(lambda x: (1 - x, -1), lambda x: (2 * x - 2, 2)), (0.8, 1.1, 1.3), (0, 1), 6),
        (  # a corner of curved branches: e^(1 − x) = x³ at 1
            _largest_of(lambda x: (math.exp(1 - x), -math.exp(1 - x)), lambda x: (x**3, 3 * x**2)),
            (0.7, 0.9, 1.3),
            (1, 1),
            20,
        ),
        (lambda x: (x - math.log(x), 1 - 1 / x), (0.6, 0.9, 1.3), (1, 1), 9),
        (  # vertical from the left, as where two eigenvalues meet
            lambda x: (math.sqrt(1 - x), -0.5 / math.sqrt(1 - x)) if x < 1 else (x - 1, 1),
            (0.85, 1.02, 1.15),
            (0, 1),
            35,
        ),
    ],
)
def test_lowest_points_are_found_in_corners_too(curve, around, lowest, most):
    asked = []

    def counted(x):
        asked.append(x)
        return curve(x)

    value, place = extrema.lowest_between(counted, *around)
    np.testing.assert_allclose((value, place), lowest, rtol=1e-6, atol=1e-4)
    assert curve(place)[0] == value == min(curve(x)[0] for x in asked)
    assert len(asked) <= most


def test_all_that_are_nearly_largest_are_known():
    """Also those that hardly show at the start, on spaces that are no larger than it takes."""
    turns = np.exp(1j * np.pi * (np.arange(6) + 0.5) / 6)
    nearly = (1 - 1e-4 * np.arange(6)) * turns
    pairs = [np.array([[z.real, -z.imag], [z.imag, z.real]]) for z in nearly]
    A = block_diag(*pairs, np.diag(np.linspace(-0.6, 0.6, 80)))
    start = np.random.default_rng(0).normal(size=len(A))
    start[6:12] *= 1e-3
    found = iteration._leading(lambda y: A @ y, start, np.full(len(A), True), 60, 1e-5, False)
    assert found is not None
    space, shown = found
    assert len(shown) >= 12
    for value in (*nearly, *nearly.conj()):
        assert np.abs(space.values - value).min() < 1e-9


def test_a_mode_beside_a_number_is_one_to_the_last_digit():
    A = csr_array(np.diag([*np.linspace(0, 0.98, 119), 1.0]))
    start = np.random.default_rng(0).normal(size=120)
    for place in 1 + np.geomspace(0.01, 0.3, 8):
        found = iteration._beside(A, lambda y: y, complex(place), start, np.full(120, True))
        assert found.radius == pytest.approx(1, abs=1e-14)
        value, vector = found.closest
        missed = np.linalg.norm(A @ vector - value * vector) / np.linalg.norm(vector)
        assert missed < 3e-15


def test_what_rows_add_is_summed_without_each_period_to_come():
    """Σ_k Rᵀ Aᵀ^k A^k R, by a Lyapunov equation."""
    decay = np.diag([0.999, 0.99, 0.98, *np.linspace(0, 0.5, 9)])
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    A, rows = turned @ decay @ turned.T, np.eye(12)[:, :3]
    asked = []

    def period(rows):
        asked.append(rows)
        return A @ rows, rows.T @ rows

    found = lasting.summed(period, rows, 0.999)
    expected = solve_discrete_lyapunov(A.T, np.eye(12))[:3, :3]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert len(asked) < 200 < 20 / -math.log(0.999)


def test_modes_looked_at_closely_are_those_of_a_dense_solver():
    n, d = 12, 5
    problem = rs.problems.random_quadratics(n=n, d=d, zeta2=1.0, seed=0)
    for topology, algorithm in (
        (rs.topologies.chain(n), rs.algorithms.RelaySGD()),
        (rs.topologies.ring(n), rs.algorithms.D2()),
    ):
        linear = rs.theory.linearize(problem, topology, algorithm, 0.3)
        (A,), conserved = linear._map.matrices, linear._map.conserved
        expected = np.abs(np.linalg.eigvals(spectra.deflated(A, conserved))).max()
        seen = np.arange(A.shape[0]) < n * d
        found = {}
        searched: tuple = ({}, {})
        for how in ("rough", "precise", "along"):
            search = iteration.Search(*searched, how)
            found[how] = spectra.spectral_radius([A], conserved, seen, search)
        assert any(searched[1].values()), "nothing was looked at closely"
        np.testing.assert_allclose(found["rough"], expected, rtol=1e-6)
        np.testing.assert_allclose([found["precise"], found["along"]], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "algorithm", [rs.algorithms.RelaySGD(), rs.algorithms.RelaySGDGrad()], ids=repr
)
def test_what_is_forgotten_is_missing_in_no_floor(algorithm):
    n, d = 12, 7
    problem = rs.problems.random_quadratics(n=n, d=d, zeta2=1.0, seed=0)
    linear = rs.theory.linearize(problem, rs.topologies.chain(n), algorithm, 0.3)
    floor = linear._floor
    left = floor._lasting
    assert left.dimensions < 0.8 * linear.states
    A, B, kept = floor._matrices[0], floor._noise[0], floor._conserved
    found = left.covariance(A, B, kept, n * d)
    dense = spectra.deflated(A, kept)
    # The sum itself, without doubling or a change of basis.
    reached, expected = B.toarray(), np.zeros((n * d, n * d))
    for _ in range(math.ceil(18 / -math.log(linear.spectral_radius))):
        expected += reached[: n * d] @ reached[: n * d].T
        reached = dense @ reached
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * expected.max())
    means = floor._mean_by_rows(0)
    weights = np.kron(np.full((1, n), 1 / n), np.eye(d))
    np.testing.assert_allclose(
        means, weights @ expected @ weights.T, rtol=1e-9, atol=1e-11 * means.max()
    )


@pytest.mark.parametrize(
    ("algorithm", "n", "radius"),
    [
        (rs.algorithms.GradientTracking(), 2, 0.0),
        (rs.algorithms.GradientTracking(form="atc"), 2, 0.0),
        (rs.algorithms.GradientTracking(form="atc"), 3, 0.0),
        (rs.algorithms.DPSGD(momentum=0.5), 3, 0.5**0.5),
        (rs.algorithms.KGT(period=2), 3, 0.0),
    ],
)
def test_a_rate_at_which_a_step_leaves_nothing_of_the_iterates_has_its_map(algorithm, n, radius):
    """What is left is rounding, which told the sizes of all else: the map lost what corrections do."""
    curvatures = np.array([1.0, 0.5])[:, None] if n == 2 else np.ones((3, 1))
    problem = rs.problems.DiagonalQuadratic(curvatures, np.array([1.0, -2.0, 4.0])[:n, None])
    linear = rs.theory.linearize(
        problem, rs.topologies.complete(n), algorithm, 1 / curvatures.mean(), x0=[3.0]
    )
    assert linear.spectral_radius == pytest.approx(radius, abs=1e-7)
    np.testing.assert_allclose(linear.fixed_point, np.tile(problem.optimum, (n, 1)), atol=1e-12)
    assert np.abs(np.log2(linear._map.units)).max() < 10  # curvatures are about 1
