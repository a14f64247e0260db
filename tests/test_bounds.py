"""Verified bounds hold along simulations, up to their rate limits; published ones are shapes."""

import dataclasses

import numpy as np
import pytest

import relaysim as rs
from relaysim.theory import bounds as module
from relaysim.theory.bounds import ConditionError, bounds_for
from relaysim.theory.bounds.constants import CASES

STRONGLY_CONVEX = {"strong_convexity": 0.1, "initial_distance": 4.0}
CASE_CONSTANTS = {
    "strongly convex": STRONGLY_CONVEX,
    "convex": {"initial_distance": 4.0},
    "nonconvex": {"initial_suboptimality": 3.0},
}
START_APART = np.random.default_rng(5).normal(size=(8, 3))
ROUNDING = 1e-12  # of iterates and gradients, whose squares the columns are


def quadratics(seed=0, **options):
    return rs.problems.random_quadratics(
        **({"n": 8, "d": 3, "zeta2": 3.0, "mu": 0.1, "r0": 2.0, "seed": seed} | options)
    )


def logistic(l2):
    generator = np.random.default_rng(1)
    features = generator.normal(size=(8, 12, 3))
    labels = features[..., 0] + generator.normal(size=(8, 12)) + np.linspace(-1, 1, 8)[:, None] > 0
    return rs.problems.Logistic(features, labels, l2=l2)


class Valley:
    """f_i(x) = log(1 + ‖x − c‖²) for all i: smooth with L = 2, and not convex."""

    n, d, smoothness = 8, 3, 2.0
    optimum = np.array([2.0, -1.0, 0.5])

    def gradient(self, x):
        away = x - self.optimum.reshape((1, 3) + (1,) * (x.ndim - 2))
        return 2 * away / (1 + (away * away).sum(axis=1, keepdims=True))

    def value(self, x):
        return np.log1p(((x - self.optimum) ** 2).sum())


def run(problem, topology, algorithm, rate, steps, **options):
    return rs.simulate(problem, topology, algorithm, learning_rate=rate, steps=steps, **options)


def verified(*arguments, **options):
    return [b for b in bounds_for(*arguments, **options) if b.verified_constants]


def in_distance(bound):
    """The same theorem, on the column ``distance``."""
    constants = bound.constants
    overlap = any(a.key == "mix_then_step" for a in bound.assumptions)
    return getattr(module, bound.name)(
        **constants, quantity="distance", **({"overlap": overlap} if bound.name == "dp_sgd" else {})
    )


def is_below(bound, steps, measured):
    """Whether what was measured is nowhere above the curve, up to rounding."""
    start = 1 if bound.averaged else 0
    roots = np.sqrt(np.maximum(measured[start:], 0))
    return (roots <= np.sqrt(bound.curve(steps)[start:]) * (1 + 1e-9) + ROUNDING).all()


def check_without_noise(bound, history):
    """The column lies below the curve in every record."""
    measured = bound.measured(history.steps, history.frame[bound.quantity])
    assert is_below(bound, history.steps, measured), bound.label


def check_with_noise(bound, problem, topology, algorithm, steps, **options):
    """The mean over replicas lies below the curve, within four standard errors."""
    constants = bound.constants
    history = run(
        problem,
        topology,
        algorithm,
        constants["learning_rate"],
        steps,
        oracle=rs.oracles.Gaussian(constants["sigma2"]),
        replicas=300,
        **options,
    )
    columns = history.frame.pivot(index="step", columns="replica", values=bound.quantity)
    measured = np.array([bound.measured(history.steps, columns[k]) for k in columns])
    mean, error = measured.mean(axis=0), measured.std(axis=0, ddof=1) / np.sqrt(len(measured))
    assert is_below(bound, history.steps, mean - 4 * error), bound.label
    return mean, error


# -- all-reduce ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.05, 1.0, 1.9, 1.999, 2.0])
@pytest.mark.parametrize("x0", [None, START_APART], ids=["together", "apart"])
@pytest.mark.parametrize("problem", [quadratics(0), quadratics(1, d=1), logistic(0.2)], ids=repr)
def test_all_reduce(problem, x0, fraction):
    x0 = None if x0 is None else x0[:, : problem.d]
    L = problem.mean_smoothness if x0 is None else problem.smoothness
    setting = (problem, rs.topologies.complete(8), rs.algorithms.AllReduce(), fraction / L)
    (bound,) = verified(*setting, x0=x0)
    history = run(*setting, 150, x0=x0)
    check_without_noise(bound, history)
    check_without_noise(in_distance(bound), history)


def test_all_reduce_is_met_by_one_dimensional_quadratics():
    """Equality, with and without noise: neither the rate nor the noise term has room."""
    problem = rs.problems.DiagonalQuadratic(h=np.full((5, 1), 0.4), centers=np.full((5, 1), 2.0))
    setting = (problem, rs.topologies.chain(5), rs.algorithms.AllReduce())
    (bound,) = bounds_for(*setting, learning_rate=0.7)
    history = run(*setting, 0.7, 25)
    np.testing.assert_allclose(bound.curve(history.steps), history.frame.suboptimality, rtol=1e-10)
    np.testing.assert_allclose(
        in_distance(bound).curve(history.steps), history.frame.distance, rtol=1e-10
    )
    (bound,) = bounds_for(*setting, learning_rate=0.7, sigma2=2.0)
    mean, error = check_with_noise(bound, *setting, 40)
    assert (np.abs(mean - bound.curve(range(41))) <= 4.5 * error + 1e-12).all()


def test_all_reduce_with_noise():
    for seed, fraction in ((0, 0.3), (1, 1.8)):
        problem = quadratics(seed)
        setting = (problem, rs.topologies.ring(8), rs.algorithms.AllReduce())
        (bound,) = bounds_for(*setting, fraction / problem.mean_smoothness, sigma2=5.0)
        check_with_noise(bound, *setting, 60)


@pytest.mark.parametrize("fraction", [0.1, 1.0, 1.5, 1.99])
@pytest.mark.parametrize("sigma2", [0.0, 3.0])
def test_all_reduce_averages(fraction, sigma2):
    """The convex and the nonconvex theorem bound running means."""
    flat = rs.problems.DiagonalQuadratic(
        h=np.tile([1.0, 1e-2, 1e-4], (8, 1)), centers=np.random.default_rng(0).normal(size=(8, 3))
    )
    for problem, theorem, excess in (
        (flat, module.all_reduce_convex, {"initial_distance": flat.optimum @ flat.optimum}),
        (
            Valley(),
            module.all_reduce_nonconvex,
            {"initial_suboptimality": np.log1p(Valley.optimum @ Valley.optimum)},
        ),
    ):
        rate = fraction / problem.smoothness
        bound = theorem(
            n=8, mean_smoothness=problem.smoothness, learning_rate=rate, sigma2=sigma2, **excess
        )
        assert bound.averaged
        assert bound.curve(0) == np.inf
        setting = (problem, rs.topologies.complete(8), rs.algorithms.AllReduce())
        if sigma2:
            check_with_noise(bound, *setting, 60)
        else:
            check_without_noise(bound, run(*setting, rate, 100))


@pytest.mark.parametrize("rate", [1.0, 1.5])
def test_averages_are_met_by_one_dimensional_quadratics(rate):
    """With and without noise, at γ ≥ 1/L, in the long run."""
    problem = rs.problems.DiagonalQuadratic(h=np.ones((4, 1)), centers=np.full((4, 1), 3.0))
    common = {"n": 4, "mean_smoothness": 1.0, "learning_rate": rate}
    history = run(problem, rs.topologies.chain(4), rs.algorithms.AllReduce(), rate, 60)
    convex = module.all_reduce_convex(**common, initial_distance=9.0)
    nonconvex = module.all_reduce_nonconvex(**common, initial_suboptimality=4.5)
    for bound in (convex, nonconvex):
        measured = bound.measured(history.steps, history.frame[bound.quantity])
        np.testing.assert_allclose(measured[20:], bound.curve(history.steps)[20:], rtol=1e-9)
    variance = rate**2 * 8.0 / 4 / (1 - (1 - rate) ** 2)  # E(x − x*)² in the long run
    noisy = module.all_reduce_convex(**common, initial_distance=9.0, sigma2=8.0)
    assert noisy.curve(1e12) == pytest.approx(variance / 2)
    noisy = module.all_reduce_nonconvex(**common, initial_suboptimality=4.5, sigma2=8.0)
    assert noisy.curve(1e12) == pytest.approx(variance)


# -- DP-SGD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("overlap", [False, True], ids=["step then mix", "mix then step"])
@pytest.mark.parametrize(
    "topology",
    [rs.topologies.ring(8), rs.topologies.star(8), rs.topologies.chain(8)],
    ids=repr,
)
def test_dp_sgd(topology, overlap, fraction):
    """Up to the limit of the rate; W of the second run has negative eigenvalues."""
    algorithm = rs.algorithms.DPSGD(overlap=overlap)
    crossing = rs.mixing.uniform(topology, 1 / topology.degrees.max() * 0.95)
    for problem, mixing, x0 in (
        (quadratics(0), None, None),
        (quadratics(1), crossing, START_APART),
        (logistic(0.2), None, None),
    ):
        W = rs.mixing.metropolis(topology) if mixing is None else mixing
        limit = 1 + np.linalg.eigvalsh(W.toarray())[0] if overlap else 2.0
        setting = (problem, topology, algorithm, fraction * limit / problem.smoothness)
        (bound,) = verified(*setting, x0=x0, mixing=mixing)
        history = run(*setting, 300, x0=x0, mixing=mixing)
        check_without_noise(bound, history)
        check_without_noise(in_distance(bound), history)


@pytest.mark.parametrize("overlap", [False, True], ids=["step then mix", "mix then step"])
def test_dp_sgd_with_noise(overlap):
    for seed, fraction in ((0, 0.2), (1, 0.9)):
        problem, topology = quadratics(seed), rs.topologies.ring(8)
        algorithm = rs.algorithms.DPSGD(overlap=overlap)
        limit = 1 + np.linalg.eigvalsh(rs.mixing.metropolis(topology).toarray())[0]
        setting = (problem, topology, algorithm)
        (bound,) = verified(*setting, fraction * limit / problem.smoothness, sigma2=20.0)
        check_with_noise(bound, *setting, 60)
        check_with_noise(in_distance(bound), *setting, 60)


@pytest.mark.parametrize("overlap", [False, True], ids=["step then mix", "mix then step"])
def test_dp_sgd_is_met_where_it_can_be(overlap):
    """ζ = 0 and equal Hessians: the rate, and the noise of the first step, have no room."""
    n, h = 6, 0.5
    problem = rs.problems.DiagonalQuadratic(h=np.full((n, 2), h), centers=np.ones((n, 2)))
    setting = (problem, rs.topologies.ring(n), rs.algorithms.DPSGD(overlap=overlap))
    mixing = rs.mixing.uniform(setting[1], 0.45)  # λ_n = −0.8, the workers' signs alternating
    alternating = np.tile([[1.0], [-1.0]], (3, 2))
    fast = (0.3, 1 + alternating) if overlap else (3.6, None)  # near the limits 0.4 and 4
    for rate, x0 in ((0.1, None), fast):
        (bound,) = verified(*setting, rate, x0=x0, mixing=mixing)
        history = run(*setting, rate, 20, x0=x0, mixing=mixing)
        curve = in_distance(bound).curve(history.steps)
        np.testing.assert_allclose(curve, history.frame.distance, rtol=1e-9)
    # Of all W with this |λ| one attains ν: all its eigenvalues are ±λ.
    setting = (problem, rs.topologies.complete(n), setting[2])
    mixing = rs.mixing.with_spectral_gap(n, 0.3)
    (bound,) = verified(*setting, 0.8, sigma2=40.0, mixing=mixing)
    mean, error = check_with_noise(in_distance(bound), *setting, 20, mixing=mixing)
    assert abs(mean[1] - in_distance(bound).curve(1)) < 4.5 * error[1]


@pytest.mark.parametrize("overlap", [False, True], ids=["step then mix", "mix then step"])
def test_dp_sgd_floor(overlap):
    """Equal Hessians, all gradients along the slowest mode of W, where gossip averages worst.

    At small rates the plateau is a quarter of the bound's, both growing with the square of the
    rate; where workers hardly talk, the two agree.
    """
    n = 8
    slowest = np.cos(2 * np.pi * np.arange(n) / n)[:, None]
    problem = rs.problems.DiagonalQuadratic(h=np.ones((n, 1)), centers=3 * slowest)
    ring = rs.topologies.ring(n)
    setting = (problem, ring, rs.algorithms.DPSGD(overlap=overlap))
    for rate, weight, room in ((1e-4, 1 / 3, 4.0), (1e-3, 1 / 3, 4.0), (0.5, 1e-3, 1.0)):
        mixing = rs.mixing.uniform(ring, weight)
        (bound,) = verified(*setting, rate, mixing=mixing)
        history = run(*setting, rate, 3000, record=3000, mixing=mixing)
        floor = history.frame.distance.iloc[-1]
        limit = in_distance(bound).curve(1e9)
        assert floor <= limit
        assert limit == pytest.approx(room * floor, rel=0.02)


def test_dp_sgd_with_exact_averaging_is_all_reduce():
    problem, W = quadratics(3, d=2), rs.mixing.with_spectral_gap(8, 1.0)
    topology = rs.topologies.complete(8)
    (gossip,) = verified(
        problem, topology, rs.algorithms.DPSGD(), 0.4, 2.0, START_APART[:, :2], mixing=W
    )
    (central,) = bounds_for(
        problem, topology, rs.algorithms.AllReduce(), 0.4, 2.0, START_APART[:, :2]
    )
    steps = np.arange(100)
    np.testing.assert_allclose(gossip.curve(steps), central.curve(steps), rtol=1e-10)


# -- RelaySGD --------------------------------------------------------------------------------------


def equal_hessians(seed, zeta2, h=0.7):
    return quadratics(seed, mu=h, smoothness=h, zeta2=zeta2)


@pytest.mark.parametrize("fraction", [0.01, 0.4, 0.5, 1.0, 1.6, 1.999, 2.0])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "topology",
    [rs.topologies.chain(8), rs.topologies.star(8), rs.topologies.binary_tree(8)],
    ids=repr,
)
def test_relay_sgd_on_equal_hessians(topology, overlap, fraction):
    algorithm = rs.algorithms.RelaySGD(overlap=overlap)
    for seed, zeta2, x0 in ((0, 0.0, None), (1, 3.0, None), (2, 1e4, START_APART)):
        problem = equal_hessians(seed, zeta2)
        setting = (problem, topology, algorithm, fraction / problem.smoothness)
        (bound,) = verified(*setting, x0=x0)
        history = run(*setting, 200, x0=x0)
        check_without_noise(bound, history)
        check_without_noise(in_distance(bound), history)


def worst_distance(problem, topology, algorithm, rate, steps, x0=None):
    """max_i ‖x_i − x*‖² at every step."""
    history = run(problem, topology, algorithm, rate, steps, x0=x0, keep_iterates=True)
    return ((history.iterates - problem.optimum) ** 2).sum(axis=2).max(axis=1)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("zeta2", [0.0, 50.0])
def test_relay_sgd_every_worker_is_below(zeta2, overlap):
    """The theorem is on every worker's distance, not only on the mean of their squares."""
    algorithm = rs.algorithms.RelaySGD(overlap=overlap)
    setting = (equal_hessians(4, zeta2), rs.topologies.chain(8), algorithm, 0.3)
    (bound,) = verified(*setting, x0=START_APART)
    worst = worst_distance(*setting, 100, x0=START_APART)
    assert is_below(in_distance(bound), np.arange(101), worst)


def test_relay_sgd_start_up_cost_is_met():
    """Worker 0 of a chain of four first hears two whose gradients oppose those of the others."""
    problem = rs.problems.DiagonalQuadratic(h=np.ones((4, 1)), centers=[[1], [1], [-1], [-1]])
    setting = (problem, rs.topologies.chain(4), rs.algorithms.RelaySGD(), 1.0)
    (bound,) = verified(*setting)
    np.testing.assert_allclose(worst_distance(*setting, 1), [0.0, in_distance(bound).curve(1)])


def test_relay_sgd_with_noise():
    for seed, fraction, overlap in ((0, 0.3, False), (1, 1.5, True)):
        problem = equal_hessians(seed, 3.0)
        algorithm = rs.algorithms.RelaySGD(overlap=overlap)
        setting = (problem, rs.topologies.binary_tree(8), algorithm)
        (bound,) = verified(*setting, fraction / 0.7, sigma2=20.0)
        check_with_noise(bound, *setting, 60)
        check_with_noise(in_distance(bound), *setting, 60)


def test_relay_sgd_of_two_workers_is_all_reduce():
    problem = equal_hessians(1, 3.0)
    problem = rs.problems.LeastSquares(problem.A[:2], problem.b[:2])
    (relay,) = verified(problem, rs.topologies.chain(2), rs.algorithms.RelaySGD(), 0.3)
    (central,) = bounds_for(problem, rs.topologies.chain(2), rs.algorithms.AllReduce(), 0.3)
    steps = np.arange(50)
    np.testing.assert_allclose(relay.curve(steps), central.curve(steps), rtol=1e-9)


# -- conditions ------------------------------------------------------------------------------------


def with_rate(name, rate):
    """A verified theorem with L = h = 1 at a learning rate."""
    all_reduce = {"n": 4, "mean_smoothness": 1.0}
    eigenvalues = {"second_eigenvalue": 0.6, "smallest_eigenvalue": -0.4}
    gossip = {"n": 4, "smoothness": 1.0, "zeta2": 1.0} | STRONGLY_CONVEX | eigenvalues
    relay = {"n": 4, "curvature": 1.0, "max_delay": 2, "zeta2": 1.0}
    constants = {
        "all_reduce": all_reduce | {"mean_strong_convexity": 0.1, "initial_distance": 1.0},
        "all_reduce_convex": all_reduce | {"initial_distance": 1.0},
        "all_reduce_nonconvex": all_reduce | {"initial_suboptimality": 1.0},
        "dp_sgd": gossip,
        "dp_sgd, overlap": gossip | {"overlap": True},
        "relay_sgd_equal_hessians": relay | {"largest_initial_distance": 1.0},
    }[name]
    return getattr(module, name.split(",")[0])(**constants, learning_rate=rate)


@pytest.mark.parametrize(
    ("name", "limit", "included"),
    [
        ("all_reduce", 2.0, True),
        ("all_reduce_convex", 2.0, False),
        ("all_reduce_nonconvex", 2.0, False),
        ("dp_sgd", 2.0, False),
        ("dp_sgd, overlap", 0.6, False),
        ("relay_sgd_equal_hessians", 2.0, True),
    ],
)
def test_a_rate_beyond_the_limit_raises(name, limit, included):
    assert np.isfinite(with_rate(name, limit * (1 - 1e-9)).curve([1, 1000])).all()
    broken = [0.0, limit * (1 + 1e-9), 10.0] + ([] if included else [limit])
    for rate in broken:
        with pytest.raises(ConditionError, match=r"choose such a rate"):
            with_rate(name, rate)
    if included:
        assert with_rate(name, limit).curve(5) > 0


def test_dp_sgd_of_workers_in_two_groups_is_bounded_too():
    bound = with_rate("dp_sgd", 0.3)
    apart = module.dp_sgd(**bound.constants | {"second_eigenvalue": 1.0})
    assert bound.curve(1000) < apart.curve(1000) < np.inf


def test_beyond_the_limit_the_bounds_would_be_wrong():
    """Just above the limits simulations leave the last curve that holds: the limits are needed."""
    one = rs.problems.DiagonalQuadratic(h=np.ones((4, 1)), centers=np.ones((4, 1)))
    alternating = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    W = rs.mixing.uniform(rs.topologies.ring(4), 0.45)  # smallest eigenvalue −0.8
    for algorithm, topology, limit, mixing, x0 in (
        (rs.algorithms.AllReduce(), rs.topologies.ring(4), 2.0, None, None),
        (rs.algorithms.DPSGD(), rs.topologies.ring(4), 2.0, W, None),
        (rs.algorithms.DPSGD(overlap=True), rs.topologies.ring(4), 0.2, W, 1 + alternating),
        (rs.algorithms.RelaySGD(overlap=True), rs.topologies.chain(4), 2.0, None, 1 + alternating),
    ):
        options = {"x0": x0} if mixing is None else {"x0": x0, "mixing": mixing}
        (bound,) = verified(one, topology, algorithm, limit * 0.999, **options)
        assert not verified(one, topology, algorithm, limit * 1.05, **options)
        history = run(one, topology, algorithm, limit * 1.05, 400, **options)
        column = history.frame.distance.to_numpy()
        assert not column[-1] <= 10 * in_distance(bound).curve(0)  # NaN where it diverged


# -- what every bound carries ----------------------------------------------------------------------


def published():
    for case, constants in CASE_CONSTANTS.items():
        common = {"case": case, "n": 16, "smoothness": 2.0, "sigma2": 0.5} | constants
        yield module.dp_sgd_rate(p=0.2, zeta2=3.0, tau=2, **common)
        yield module.relay_sgd_rate(rho=0.05, max_delay=5, **common)
        yield module.gradient_tracking_rate(p=0.2, c=0.6, **common)
    yield module.d2_rate(
        n=16, smoothness=2.0, smallest_eigenvalue=-0.2, initial_suboptimality=3.0, sigma2=0.5
    )


VERIFIED = ("all_reduce", "all_reduce_convex", "all_reduce_nonconvex", "dp_sgd")
OF_A_MAP = {"n": 4, "smoothness": 1.0, "rate": 0.9, "start_factor": 1.5, "zeta_factor": 0.4}
EVERY = [
    *published(),
    *(with_rate(name, 0.3) for name in (*VERIFIED, "relay_sgd_equal_hessians")),
    module.linear_map(**OF_A_MAP, zeta2=1.0, initial_distance=1.0),
]


def test_every_public_theorem_is_among_those_tested():
    theorems = {name for name in module.__all__ if name[0].islower()} - {"bounds_for"}
    assert {bound.name for bound in EVERY} == theorems


@pytest.mark.parametrize("bound", EVERY, ids=lambda bound: f"{bound.name}, {bound.case}")
def test_every_bound_says_what_it_assumes_and_where_it_stands(bound):
    assert bound.quantity in ("suboptimality", "distance", "gradient_norm")
    assert bound.case in CASES
    assert bound.averaged == (bound.case != "strongly convex")
    assert bound.formula
    assert bound.source.title in str(bound.source)
    assert ("shape only" in bound.label) == (not bound.verified_constants)
    if bound.verified_constants:
        assert bound.name in bound.source.title
    else:
        assert bound.source.authors
        assert bound.source.arxiv
        assert bound.source.theorem
    keys = [assumption.key for assumption in bound.assumptions]
    assert len(set(keys)) == len(keys) > 2
    assert all(a.statement for a in bound.assumptions)
    assert all(a.symbol for a in bound.assumptions if a.value is not None)
    assert bound.constants["n"] in (4, 16)
    # The constants are those that enter: rebuilt from them, it is the same bound.
    arguments = bound.constants | (
        {} if bound.verified_constants or bound.name == "d2_rate" else {"case": bound.case}
    )
    again = getattr(module, bound.name)(**arguments)
    assert again == bound
    steps = np.array([0, 1, 10, 1e3, 1e6])
    np.testing.assert_array_equal(again.curve(steps), bound.curve(steps))
    assert (np.diff(bound.curve(steps)) <= 0).all() or bound.constants["sigma2"] == 0


@pytest.mark.parametrize("bound", EVERY, ids=lambda bound: f"{bound.name}, {bound.case}")
def test_units(bound):
    """f in other units (× 3) and x in others (× 5): the curve follows; a dimension-free test."""
    f, x = 3.0, 5.0
    units = {
        "smoothness": f / x**2,
        "sigma2": (f / x) ** 2,
        "zeta2": (f / x) ** 2,
        "learning_rate": x**2 / f,
        "zeta_factor": x**2 / f,
        "initial_distance": x**2,
        "initial_suboptimality": f,
    }
    of = {
        "strong_convexity": "smoothness",
        "mean_smoothness": "smoothness",
        "mean_strong_convexity": "smoothness",
        "curvature": "smoothness",
        "largest_initial_distance": "initial_distance",
    }
    arguments = {k: v * units.get(of.get(k, k), 1) for k, v in bound.constants.items()}
    arguments = {k: int(v) if k in ("n", "tau", "max_delay") else v for k, v in arguments.items()}
    if not bound.verified_constants and bound.name != "d2_rate":
        arguments["case"] = bound.case
    scaled = getattr(module, bound.name)(**arguments)
    unit = f if bound.quantity == "suboptimality" else (f / x) ** 2
    steps = np.array([1, 7, 50, 1e4])
    np.testing.assert_allclose(scaled.curve(steps), unit * bound.curve(steps), rtol=1e-9)


# -- published rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound", list(published()), ids=lambda bound: f"{bound.name}, {bound.case}"
)
def test_curves_invert_the_published_numbers_of_steps(bound):
    """Term by term: where the others are switched off, T(ε) steps have error ε."""
    k = bound.constants
    n, L, sigma2, epsilon = k["n"], k["smoothness"], k["sigma2"], 1e-3
    theorem = getattr(module, bound.name)
    case = {} if bound.name == "d2_rate" else {"case": bound.case}
    size = {
        "strongly convex": lambda: 1 / k["strong_convexity"],
        "convex": lambda: k["initial_distance"],
        "nonconvex": lambda: L * k["initial_suboptimality"],
    }[bound.case]()
    strong, nonconvex = bound.case == "strongly convex", bound.case == "nonconvex"
    calm = {"sigma2": 0.0} | ({"zeta2": 0.0} if "zeta2" in k else {})
    # The last term, alone without noise and heterogeneity.
    quiet = theorem(**(k | case | calm))
    slow = {
        "dp_sgd_rate": lambda: k["tau"] / k["p"],
        "relay_sgd_rate": lambda: (np.sqrt(k["max_delay"] + 1) if nonconvex else 1) / k["rho"],
        "gradient_tracking_rate": lambda: 1 / (k["p"] * k["c"]),
        "d2_rate": lambda: 1.0,
    }[bound.name]()
    if strong:
        T = L * size * slow * np.log(1 / epsilon)
        assert quiet.curve(T) == pytest.approx(epsilon * L * k["initial_distance"], rel=1e-9)
    else:
        T = (1 if nonconvex else L) * slow * size / epsilon
        assert quiet.curve(T) == pytest.approx(epsilon, rel=1e-9)
    # The first term, the only one left in the end.
    T = sigma2 * size / (n * 1e-15 ** (1 if strong else 2))
    assert bound.curve(T) == pytest.approx(1e-15, rel=0.01)
    # The second term, what noise adds when there are so many workers that the first is nothing.
    if bound.name == "d2_rate":
        return
    sigma, many = np.sqrt(sigma2), 10**18
    noise = {
        "dp_sgd_rate": lambda: (
            (np.sqrt(k["zeta2"]) * k["tau"] + sigma * np.sqrt(k["p"] * k["tau"])) / k["p"]
        ),
        "relay_sgd_rate": lambda: (
            sigma / k["rho"] * (np.sqrt((k["max_delay"] + 1) / many) if nonconvex else 1)
        ),
        "gradient_tracking_rate": lambda: sigma / (np.sqrt(k["p"]) * k["c"]),
    }[bound.name]()
    T = (1 if nonconvex else np.sqrt(L)) * noise * size / epsilon ** (0.5 if strong else 1.5)
    added = theorem(**(k | case | {"n": many})).curve(T) - quiet.curve(T)
    assert added == pytest.approx(epsilon, rel=1e-3)


def test_heterogeneity_enters_only_where_a_theorem_has_it():
    tree = rs.topologies.star(8)
    for algorithm, depends in (
        (rs.algorithms.DPSGD(), True),
        (rs.algorithms.RelaySGD(), False),
        (rs.algorithms.GradientTracking(), False),
    ):
        curves = []
        for zeta2 in (0.0, 100.0):
            problem = quadratics(0, zeta2=zeta2)
            (rate,) = (
                b for b in bounds_for(problem, tree, algorithm, 0.1) if not b.verified_constants
            )
            curves.append(rate.curve(1000))
        assert (curves[1] > 1.01 * curves[0]) == depends
        assert depends or curves[0] == pytest.approx(curves[1], rel=1e-9)


# -- fits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound", list(published()), ids=lambda bound: f"{bound.name}, {bound.case}"
)
def test_a_fit_is_the_least_above_the_first_third(bound):
    generator = np.random.default_rng(2)
    steps = np.arange(91)
    values = generator.uniform(0.5, 1.5, size=91) / (1 + steps)
    fit = bound.fitted(steps, values)
    measured, curve = fit.measured(steps, values), fit.curve(steps)
    third = steps <= 30
    finite = third & np.isfinite(curve)
    assert finite.sum() >= 30
    assert (measured[finite] <= curve[finite] * (1 + 1e-12)).all()
    assert np.isclose(measured[finite], curve[finite], rtol=1e-12).any()
    np.testing.assert_allclose(curve[1:], fit.constant * bound.curve(steps)[1:], rtol=1e-12)
    assert "shape, fitted" in fit.label
    assert (bound.constant, bound.fitted_until, fit.fitted_until) == (1.0, np.inf, 30)
    later = values.copy()
    later[31:] = np.linspace(1e6, np.nan, 60)
    assert bound.fitted(steps, later) == fit
    earlier = values.copy()
    earlier[29] *= 1e3
    assert bound.fitted(steps, earlier).constant > 2 * fit.constant


def test_an_averaged_bound_is_fitted_to_the_running_mean():
    bound = dataclasses.replace(next(b for b in published() if b.case == "nonconvex"))
    values = np.array([4.0, 2.0, 0.0, 6.0, 1.0])
    np.testing.assert_array_equal(
        bound.measured(np.arange(5), values), [np.nan, 4.0, 3.0, 2.0, 3.0]
    )
    with pytest.raises(ValueError, match="record every step"):
        bound.fitted([0, 2, 4, 6, 8], values)


def test_a_verified_bound_is_not_fitted():
    bound = with_rate("dp_sgd", 0.5)
    assert bound.fitted(np.arange(9), np.full(9, 1e9)) is bound


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        (np.arange(9), np.full(9, np.nan), "no constant"),
        ([50, 60], [1.0, 1.0], "no constant"),
        (np.arange(9), np.ones((9, 2)), "one shape"),
        ([], [], "one shape"),
    ],
)
def test_a_fit_that_makes_no_sense_raises(steps, values, message):
    with pytest.raises(ValueError, match=message):
        next(published()).fitted(steps, values)


# -- from a problem --------------------------------------------------------------------------------


def test_constants_come_from_the_problem_and_the_topology():
    problem, topology = quadratics(0), rs.topologies.ring(8)
    gossip, rate = bounds_for(problem, topology, rs.algorithms.DPSGD(), 0.5, sigma2=0.3)
    eigenvalues = (1 + 2 * np.cos(2 * np.pi * np.arange(8) / 8)) / 3  # of the ring, weights 1/3
    assert gossip.constants["second_eigenvalue"] == pytest.approx(eigenvalues[1])
    assert gossip.constants["smallest_eigenvalue"] == pytest.approx(-1 / 3)
    assert rate.constants["p"] == pytest.approx(1 - eigenvalues[1] ** 2)
    assert rate.constants["zeta2"] == pytest.approx(3.0)
    assert rate.constants["sigma2"] == 0.3
    assert gossip.constants["initial_distance"] == pytest.approx(4.0)
    assert gossip.constants["strong_convexity"] == pytest.approx(0.1)
    _, tracking = bounds_for(problem, topology, rs.algorithms.GradientTracking(), 0.5)
    assert tracking.constants["c"] == pytest.approx(1 - 1 / 9)
    (central,) = bounds_for(problem, topology, rs.algorithms.AllReduce(), 0.5)
    assert central.constants["mean_smoothness"] == problem.mean_smoothness
    tree = rs.topologies.binary_tree(8)
    of_map, relay = bounds_for(problem, tree, rs.algorithms.RelaySGD(), 0.5)
    assert (of_map.constants["rate"], of_map.constants["start_factor"]) == rs.theory.map_constants(
        problem, tree, rs.algorithms.RelaySGD(), 0.5
    )[:2]
    m, p = rs.theory.key_lemma(tree, "hops")
    assert relay.constants["rho"] == p / m
    assert relay.constants["max_delay"] == tree.diameter - 1


def test_which_theorems_apply():
    problem, ring, chain = quadratics(0), rs.topologies.ring(8), rs.topologies.chain(8)
    algorithms = rs.algorithms

    def names(problem, topology, algorithm, rate=0.1, **options):
        found = bounds_for(problem, topology, algorithm, rate, **options)
        assert all(bound.method == algorithm.label for bound in found)
        return [bound.name for bound in found]

    assert names(problem, ring, algorithms.DPSGD()) == ["dp_sgd", "dp_sgd_rate"]
    assert names(problem, ring, algorithms.DPSGD(overlap=True)) == ["dp_sgd"]
    assert names(problem, ring, algorithms.DPSGD(), 2.5) == ["dp_sgd_rate"]
    assert names(problem, ring, algorithms.DPSGD(momentum=0.9)) == []
    sequence = rs.mixing.one_peer_exponential(8)
    options = {"mixing": sequence}
    assert names(problem, rs.topologies.exponential(8), algorithms.DPSGD(), **options) == [
        "dp_sgd_rate"
    ]
    (rate,) = bounds_for(problem, rs.topologies.exponential(8), algorithms.DPSGD(), 0.1, **options)
    assert (rate.constants["p"], rate.constants["tau"]) == (pytest.approx(1.0), 3)
    lopsided = np.array([[0.5, 0.5], [0.25, 0.75]])
    pair = rs.problems.LeastSquares(problem.A[:2], problem.b[:2])
    options = {"mixing": lopsided}
    assert names(pair, rs.topologies.chain(2), algorithms.DPSGD(), **options) == []
    options = {"mixing": rs.mixing.uniform(ring, 0.6)}  # λ_n = −1.4
    assert names(problem, ring, algorithms.DPSGD(), **options) == []
    assert names(problem, chain, algorithms.RelaySGD()) == ["linear_map", "relay_sgd_rate"]
    assert names(problem, chain, algorithms.RelaySGD(), sigma2=0.1) == ["relay_sgd_rate"]
    equal = equal_hessians(0, 1.0)
    assert names(equal, chain, algorithms.RelaySGD()) == [
        "relay_sgd_equal_hessians",
        "relay_sgd_rate",
    ]
    assert names(equal, chain, algorithms.RelaySGD(unheard="counts")) == ["relay_sgd_rate"]
    assert names(equal, rs.topologies.double_binary_tree(8), algorithms.RelaySGD()) == []
    assert names(problem, ring, algorithms.GradientTracking()) == [
        "linear_map",
        "gradient_tracking_rate",
    ]
    for other in ({"form": "diging"}, {"form": "atc"}, {"momentum": 0.5}):
        assert names(problem, ring, algorithms.GradientTracking(**other)) == ["linear_map"]
    assert names(problem, ring, algorithms.D2()) == ["linear_map"]  # λ_n = −1/3
    assert names(problem, chain, algorithms.D2()) == ["linear_map", "d2_rate"]
    assert names(problem, ring, algorithms.ExactDiffusion()) == ["linear_map", "d2_rate"]
    assert names(problem, ring, algorithms.SGP()) == []
    assert names(problem, ring, algorithms.AllReduce()) == ["all_reduce"]
    assert names(Valley(), ring, algorithms.AllReduce()) == ["all_reduce_nonconvex"]
    assert names(Valley(), ring, algorithms.AllReduce(), x0=START_APART) == []
    assert names(Valley(), ring, algorithms.DPSGD()) == ["dp_sgd_rate"]
    flat = rs.problems.LeastSquares(problem.A[:, :1], problem.b[:, :1])
    assert names(flat, ring, algorithms.DPSGD()) == ["dp_sgd_rate"]
    single = rs.problems.LeastSquares(problem.A[:1], problem.b[:1])
    for algorithm in (algorithms.DPSGD(), algorithms.RelaySGD(), algorithms.GradientTracking()):
        assert names(single, rs.topologies.chain(1), algorithm)


STATED = {
    "all_reduce": rs.algorithms.AllReduce,
    "dp_sgd": rs.algorithms.DPSGD,
    "relay_sgd_equal_hessians": rs.algorithms.RelaySGD,
    "gradient_tracking_rate": rs.algorithms.GradientTracking,
    "d2_rate": rs.algorithms.D2,
}


@pytest.mark.parametrize(
    "method", [*STATED.values(), rs.algorithms.ExactDiffusion], ids=lambda method: method.__name__
)
def test_a_subclass_has_the_theorems_that_it_states_and_no_others(method):
    class Standing(method):
        """Never moves, under the label of the method."""

        def step(self, state, round):
            round.gradient(state.x)
            return state

    class Renamed(method):
        """The same rule under a label of its own, of which nothing is said."""

        label = "of my own"

    class Stated(Renamed):
        """The same rule, said to be."""

        theorems = method.theorems

    class Heir(Stated):
        pass

    problem, chain = equal_hessians(0, 1.0), rs.topologies.chain(8)
    expected = bounds_for(problem, chain, method(), 0.1)
    assert len(expected) >= 1
    for silent in (Standing, Renamed, Heir):
        assert bounds_for(problem, chain, silent(), 0.1) == ()
    found = bounds_for(problem, chain, Stated(), 0.1)
    assert [bound.method for bound in found] == ["of my own"] * len(expected)
    assert [dataclasses.replace(bound, method=method.label) for bound in found] == list(expected)
    steps = np.arange(50)
    for bound, twin in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bound.curve(steps), twin.curve(steps))


def test_only_methods_state_theorems_and_every_theorem_is_stated():
    """Of all methods, by what their own classes say: none that is only derived from another one."""
    classes = [getattr(rs.algorithms, name) for name in rs.algorithms.__all__]
    stated = {cls.__name__: vars(cls)["theorems"] for cls in classes if "theorems" in vars(cls)}
    assert stated.keys() == {method.__name__ for method in STATED.values()} | {"ExactDiffusion"}
    theorems = {name for name in module.__all__ if name[0].islower()} - {"bounds_for"}
    assert set().union(*stated.values()) == theorems


def test_verified_bounds_come_first_in_whatever_order_they_are_stated():
    class Backwards(rs.algorithms.DPSGD):
        theorems = rs.algorithms.DPSGD.theorems[::-1]

    found = bounds_for(quadratics(0), rs.topologies.ring(8), Backwards(), 0.1)
    assert [bound.name for bound in found] == ["dp_sgd", "dp_sgd_rate"]


def test_a_theorem_that_cannot_be_stated_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Strange(rs.algorithms.SGP):
        theorems = ("dp_sgd",)

    class Misspelt(rs.algorithms.DPSGD):
        theorems = ("dpsgd",)

    class Bare(rs.algorithms.DPSGD):
        theorems = "dp_sgd"

    problem, ring = quadratics(0), rs.topologies.ring(8)
    with pytest.raises(TypeError, match=r"Strange states the theorem dp_sgd.* of DPSGD; derive"):
        bounds_for(problem, ring, Strange(), 0.1)
    with pytest.raises(ValueError, match=r"Misspelt.theorems must be .* dp_sgd, .*\('dpsgd',\)"):
        bounds_for(problem, ring, Misspelt(), 0.1)
    with pytest.raises(ValueError, match=r"Bare.theorems must be a tuple .* not 'dp_sgd'"):
        bounds_for(problem, ring, Bare(), 0.1)


def test_convex_and_nonconvex_bounds_of_a_problem_hold():
    flat = rs.problems.LeastSquares(quadratics(0).A[:3, :1], quadratics(0).b[:3, :1] * 3)
    wide = rs.problems.LeastSquares(
        np.random.default_rng(0).normal(size=(8, 1, 20)),
        np.random.default_rng(1).normal(size=(8, 1)),
    )
    for problem in (flat, wide, Valley()):
        rate = 1.5 / problem.smoothness
        setting = (problem, rs.topologies.complete(problem.n), rs.algorithms.AllReduce(), rate)
        (bound,) = bounds_for(*setting)
        check_without_noise(bound, run(*setting, 200))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: with_rate("all_reduce", "fast"), TypeError, "learning_rate must be a number"),
        (
            lambda: module.dp_sgd_rate(case="convex", n=4, smoothness=1.0, p=0.5, zeta2=1.0),
            ValueError,
            "the convex case needs initial_distance",
        ),
        (
            lambda: module.relay_sgd_rate(case="flat", n=4, smoothness=1.0, rho=0.5, max_delay=1),
            ValueError,
            "case must be one of 'strongly convex'",
        ),
        (
            lambda: module.relay_sgd_rate(
                case="convex", n=4, smoothness=1.0, rho=0.0, max_delay=1, initial_distance=1.0
            ),
            ValueError,
            "rho must be positive",
        ),
        (
            lambda: module.relay_sgd_rate(
                case="strongly convex",
                n=4,
                smoothness=0.01,
                rho=0.5,
                max_delay=1,
                **STRONGLY_CONVEX,
            ),
            ValueError,
            "strong_convexity 0.1 exceeds smoothness 0.01",
        ),
        (
            lambda: module.d2_rate(
                n=4, smoothness=1.0, smallest_eigenvalue=-1 / 3, initial_suboptimality=1.0
            ),
            ConditionError,
            "lazy",
        ),
        (lambda: with_rate("dp_sgd", 0.1).curve([-1]), ValueError, "at least 0"),
        (
            lambda: bounds_for(quadratics(), rs.topologies.ring(9), rs.algorithms.DPSGD(), 0.1),
            ValueError,
            "8 workers .* has 9",
        ),
        (
            lambda: bounds_for(
                quadratics(),
                rs.topologies.chain(8),
                rs.algorithms.RelaySGD(),
                0.1,
                mixing=np.eye(8),
            ),
            ValueError,
            "does not use a mixing matrix",
        ),
        (
            lambda: bounds_for(
                quadratics(), rs.topologies.ring(8), rs.algorithms.DPSGD(), 0.1, x0=np.zeros(2)
            ),
            ValueError,
            "x0 must have shape",
        ),
    ],
)
def test_errors_name_what_was_given(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_bound_in_a_notebook_has_the_numbers_of_its_conditions():
    bound = rs.theory.bounds.all_reduce(
        n=7, mean_smoothness=1.0, mean_strong_convexity=0.5, learning_rate=0.375, initial_distance=1.0,
        sigma2=0.0, quantity="distance",
    )  # fmt: skip
    shown = bound._repr_html_()
    assert ">7<" in shown
    assert ">0.375<" in shown
    assert "None" not in shown
