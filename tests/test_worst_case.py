"""Worst cases over classes of functions: closed forms, runs that try to beat them, and their proofs."""

import functools
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from methods import ALGORITHMS

import relaysim as rs
from relaysim.algorithms import (
    D2,
    DPSGD,
    AllReduce,
    ChocoSGD,
    RelaySGD,
    RelaySGDGrad,
)
from relaysim.theory.traced import traced
from relaysim.theory.worst_functions import WorstFunctions

CHAIN = rs.topologies.chain(3)
L, MU, RATE = 1.0, 0.25, 0.8


@functools.cache
def worst(algorithm, steps, *, n=3, rate=RATE, mu=MU, **options):
    return rs.theory.worst_case(algorithm, rs.topologies.chain(n), L, mu, rate, steps, **options)


# -- the method's own step, in coefficients ----------------------------------------------------------


TRACEABLE = {type(each): each for each in ALGORITHMS if each.affine and not each.random}


@pytest.mark.parametrize("algorithm", TRACEABLE.values(), ids=repr)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_traced_is_what_a_run_does(algorithm):
    """Queries and last iterates, put together from the start and the gradients that a problem gives."""
    n, steps, rate = 4, 5, 0.1
    problem = rs.problems.random_quadratics(n=n, d=2, zeta2=1.0, mu=0.25, seed=0)
    topology = rs.topologies.chain(n)
    start = np.random.default_rng(0).normal(size=(n, 2))
    history = rs.simulate(problem, topology, algorithm, learning_rate=rate, steps=steps, x0=start)
    trace = traced(
        algorithm,
        topology,
        rate,
        steps,
        smoothness=problem.smoothness,
        strong_convexity=problem.strong_convexity,
        common_start=False,
    )
    known = start - problem.optimum
    for k, query in enumerate(trace.queries):
        asked = query[:, : n * (k + 1)] @ known
        own = np.arange(n), n * (k + 1) + np.arange(n)
        if query[own].any():  # where the gradient is that at the solution of a worker's own problem
            rates = -query[own][:, None]
            asked = problem.proximal(asked + problem.optimum, rates, None) - problem.optimum
        known = np.concatenate([known, problem.gradient(asked + problem.optimum)])
    found = trace.last @ known + problem.optimum
    np.testing.assert_allclose(found, history.x, rtol=0, atol=1e-12 * np.abs(history.x).max())


# -- what is known in closed form --------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.3, 1.0, 1.8])
def test_gradient_descent_contracts_by_its_worst_curvature(rate):
    found = worst(AllReduce(), 3, n=1, rate=rate, r0=2.0)
    factor = max(abs(1 - rate * MU), abs(1 - rate * L)) ** 2
    assert found.value == pytest.approx(4 * factor**3, rel=1e-6)
    assert found.attained == pytest.approx(found.value, rel=1e-6)
    assert found.dimension == 1


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_gradient_descent_on_merely_convex_functions(steps):
    """L r0²/(4K + 2) at γ = 1/L: Drori, Teboulle, Mathematical Programming, 2014."""
    found = worst(AllReduce(), steps, n=1, rate=1.0, mu=0.0, measure="suboptimality")
    assert found.value == pytest.approx(L / (4 * steps + 2), rel=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "n"), [(AllReduce(), 3), (RelaySGD(), 2)], ids=["all-reduce", "a path of two"]
)
def test_where_all_average_heterogeneity_is_no_matter(algorithm, n):
    found = worst(algorithm, 3, n=n, zeta2=5.0)
    assert found.value == pytest.approx((1 - RATE * MU) ** 6, rel=1e-5)
    assert found.certificate.of_zeta2 == pytest.approx(0, abs=1e-6)


def test_units_do_not_matter():
    """Gradients ten times as large, at a tenth of the rate, and lengths of three."""
    one = worst(DPSGD(), 2, zeta2=2.0, r0=1.5, measure="suboptimality")
    other = rs.theory.worst_case(
        *(DPSGD(), CHAIN, 10 * L, 10 * MU, RATE / 10, 2),
        **{"zeta2": 9 * 100 * 2.0, "r0": 3 * 1.5, "measure": "suboptimality"},
    )
    assert other.value == pytest.approx(10 * 9 * one.value, rel=1e-5)
    assert other.certificate.of_zeta2 == pytest.approx(one.certificate.of_zeta2 / 10, rel=1e-3)


# -- between what runs attain and what is proved -----------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (RelaySGD(), {}),
        (RelaySGD(), {"measure": "suboptimality"}),
        (RelaySGDGrad(), {"measure": "gradient_norm", "rate": 0.3}),
        (AllReduce(), {"zeta2": 0.0, "measure": "mean_distance"}),
        (DPSGD(), {"zeta2": 0.0, "common_start": False}),
    ],
    ids=repr,
)
def test_the_worst_functions_are_simulated_and_reach_it(algorithm, options):
    found = worst(algorithm, 3, **options)
    problem = found.functions
    history = rs.simulate(
        problem,
        CHAIN,
        algorithm,
        learning_rate=found.learning_rate,
        steps=3,
        x0=found.start - found.start[0],
        measures=[("mean_distance", lambda x: ((x.mean(axis=0) - problem.optimum) ** 2).sum())],
    )
    assert history.frame[found.measure].iloc[-1] == pytest.approx(found.value, rel=1e-4)
    assert problem.zeta2 <= found.zeta2 + 1e-5
    assert abs(problem.optimum) <= found.r0 + 1e-5


def test_worst_functions_are_a_problem_of_their_class():
    problem = worst(RelaySGD(), 3).functions
    assert rs.problems.check(problem).holds.fillna(True).all()
    x = np.linspace(-3, 3, 2001)
    slopes = problem.gradient(np.broadcast_to(x, (3, 1, len(x))))[:, 0]
    curvatures = np.diff(slopes) / np.diff(x)
    assert curvatures.min() >= MU - 1e-9
    assert curvatures.max() <= L + 1e-9
    areas = np.cumsum((slopes[:, 1:] + slopes[:, :-1]) / 2 * np.diff(x), axis=1).mean(axis=0)
    values = problem.value(x[None])
    np.testing.assert_allclose(values[1:] - values[0], areas, atol=1e-5)


class Piecewise:
    """In each coordinate a problem of its own: f_i″ = L on two intervals, which do not overlap, else μ."""

    def __init__(self, ends, slopes):
        """The first end, and how far it is from each to the next, ``(n, d, 4)``; f_i′ at 0, ``(n, d)``."""
        distances = np.concatenate([ends[..., :1], np.abs(ends[..., 1:])], axis=-1)
        begins, widths = np.cumsum(distances, axis=-1)[..., ::2], np.abs(ends[..., 1::2])
        self.parts = begins, widths, slopes
        self.n, self.d = slopes.shape

    def gradient(self, x):
        begins, widths, slopes = self.parts
        points = x.reshape(self.n, self.d, 1)
        risen = np.clip(points - begins, 0, widths).sum(axis=2)
        return (MU * points[..., 0] + (L - MU) * risen + slopes).reshape(x.shape)

    def value(self, x):
        return 0.0

    def lowest(self):
        """The optimum ``(d,)``, by bisection."""
        low, high = np.full((2, self.d), [[-100.0], [100.0]])
        for _ in range(60):
            middle = (low + high) / 2
            above = self.gradient(np.tile(middle, (self.n, 1))).mean(axis=0) > 0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return low


@pytest.mark.parametrize(
    "algorithm", [DPSGD(), RelaySGD(), D2()], ids=lambda algorithm: algorithm.label
)
def test_no_run_is_worse(algorithm):
    """A search by random changes that keeps what is worst, 300 problems at a time."""
    found, many = worst(algorithm, 3), 300
    random = np.random.default_rng(0)
    ends, slopes = random.normal(size=(3, many, 4)), random.normal(size=(3, many))
    nearest = np.zeros(many)
    for round in range(20):
        tried = [each + 0.75**round * random.normal(size=each.shape) for each in (ends, slopes)]
        problem = Piecewise(*tried)
        optimum = problem.lowest()
        zeta2 = (problem.gradient(np.tile(optimum, (3, 1))) ** 2).mean(axis=0)
        history = rs.simulate(problem, CHAIN, algorithm, learning_rate=RATE, steps=3, record=[3])
        reached = ((history.x - optimum) ** 2).mean(axis=0)
        bound = found.certificate.bound
        share = reached / [bound(*each) for each in zip(np.abs(optimum), zeta2, strict=True)]
        assert share.max() <= 1 + 1e-6
        better = share > nearest
        ends = np.where(better[:, None], tried[0], ends)
        slopes = np.where(better, tried[1], slopes)
        nearest = np.maximum(share, nearest)
    assert nearest.max() > 0.9  # so that the search is one


def bound_of_gossip(W, rate, overlap=False, mu=MU):
    values = np.linalg.eigvalsh(W.toarray())
    return rs.theory.bounds.dp_sgd(
        n=len(values),
        smoothness=L,
        strong_convexity=mu,
        learning_rate=rate,
        second_eigenvalue=values[-2],
        smallest_eigenvalue=values[0],
        zeta2=1.0,
        initial_distance=1.0,
        overlap=overlap,
        quantity="distance",
    )


@pytest.mark.parametrize("rate", [0.2, 0.8, 1.5])
def test_no_proved_bound_is_below(rate):
    descent = rs.theory.bounds.all_reduce(
        n=3,
        mean_smoothness=L,
        mean_strong_convexity=MU,
        learning_rate=rate,
        initial_distance=1.0,
        quantity="distance",
    )
    assert worst(AllReduce(), 2, rate=rate).value == pytest.approx(descent.curve(2), rel=1e-6)
    W = rs.mixing.metropolis(CHAIN)
    for overlap in (False, True) if rate < 1 else (False,):
        found = worst(DPSGD(overlap=overlap), 2, rate=rate).value
        assert found <= bound_of_gossip(W, rate, overlap).curve(2) * (1 + 1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("n", [2, 3])
def test_the_bound_of_gossip_is_near_the_worst_case(n, rate):
    """At the most 1.3 times it: the deviation enters once, and apart from the mean."""
    chain = rs.topologies.chain(n)
    W = rs.mixing.lazy(rs.mixing.metropolis(chain)) if n == 2 else rs.mixing.metropolis(chain)
    found = rs.theory.worst_case(DPSGD(), chain, L, 0.1, rate, 3, mixing=W).value
    bound = float(bound_of_gossip(W, rate, mu=0.1).curve(3))
    assert found * (1 - 1e-6) <= bound <= 1.3 * found


@pytest.mark.parametrize("measure", ["distance", "suboptimality", "consensus_distance"])
def test_the_certificate_proves_it_of_any_vectors(measure):
    """Bound − measure − Σ multiplier · inequality is a sum of squares, whatever vectors and values are."""
    found = worst(D2(), 2, measure=measure)
    trace = traced(D2(), CHAIN, RATE, 2, smoothness=L, strong_convexity=MU)
    random = np.random.default_rng(1)
    start = random.normal(size=(1, 6))
    answers = random.normal(size=(len(trace.queries), 3, 6))
    at_optimum = random.normal(size=(3, 6))
    at_optimum -= at_optimum.mean(axis=0)
    leaves = np.concatenate([start, answers.reshape(-1, 6)])
    x = np.concatenate([np.zeros((1, 3, 6)), trace.queries @ leaves])
    g = np.concatenate([at_optimum[None], answers])
    last = trace.last @ leaves
    mean = last.mean(axis=0)
    if measure == "suboptimality":
        x = np.concatenate([x, np.tile(mean, (1, 3, 1))])
        g = np.concatenate([g, random.normal(size=(1, 3, 6))])
    f = random.normal(size=x.shape[:2])
    reached = {
        "distance": (last**2).sum(axis=1).mean(),
        "consensus_distance": ((last - mean) ** 2).sum(axis=1).mean(),
        "suboptimality": (f[-1] - f[0]).mean(),
    }[measure]
    # f_a − f_b ≥ ⟨g_b, x_a − x_b⟩ + ‖g_a − g_b‖²/(2L) + (μ/2)/(1 − μ/L) ‖x_a − x_b − (g_a − g_b)/L‖²
    dx, dg = x[:, None] - x, g[:, None] - g
    slack = f[:, None] - f - (g * dx).sum(axis=-1) - (dg**2).sum(axis=-1) / (2 * L)
    slack -= MU / 2 / (1 - MU / L) * ((dx - dg / L) ** 2).sum(axis=-1)
    used = np.einsum("iab,abi->", found.certificate.interpolation, slack)
    bound = found.certificate.bound(np.linalg.norm(start), (at_optimum**2).sum() / 3)
    assert found.certificate.interpolation.min() >= 0
    assert bound - reached - used >= -1e-5 * (abs(bound) + abs(used))


# -- what heterogeneity costs ------------------------------------------------------------------------


def test_relaysgd_forgets_heterogeneity_and_gossip_does_not():
    """RelaySGD is not independent of ζ: its first steps, in which some are not heard yet, are not. But what
    ζ² adds decays as fast as what the start does; of DP-SGD it grows to a floor.
    """
    early, late = (worst(RelaySGD(), steps).certificate for steps in (3, 5))
    assert early.of_zeta2 > 0.02
    assert late.of_zeta2 / early.of_zeta2 < 1.1 * late.of_start / early.of_start < 0.6
    floor = [worst(DPSGD(), steps).certificate.of_zeta2 for steps in (1, 3)]
    assert floor[0] < floor[1]
    assert floor[1] > 20 * late.of_zeta2


# -- beside a run ------------------------------------------------------------------------------------


def quadratics():
    return rs.problems.random_quadratics(n=3, d=2, zeta2=1.0, mu=0.25, seed=0)


def test_a_run_is_drawn_below_its_worst_case():
    history = rs.simulate(quadratics(), CHAIN, RelaySGD(), learning_rate=0.5, steps=3)
    ax = history.plot(y="distance", worst_case=True, ax=Figure().subplots())
    (line,) = (line for line in ax.lines if "worst case" in str(line.get_label()))
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata()[0] == pytest.approx(history.frame.distance[0], rel=1e-6)
    assert (line.get_ydata() >= history.frame.distance * (1 - 1e-6)).all()
    assert line.get_ydata()[3] == pytest.approx(
        worst(RelaySGD(), 3, rate=0.5, r0=1.0).value, rel=1e-4
    )


def test_starts_that_agree_in_one_parameter_are_not_common():
    """Who starts at one point has not disagreed yet; others may stand around x*, all r₀ away."""
    disagreement = []
    for x0 in ([[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0, 3.0], [1.0, 4.0]]):
        run = {"learning_rate": 0.5, "steps": 1, "x0": np.array(x0)}
        history = rs.simulate(quadratics(), CHAIN, DPSGD(), **run)
        found = rs.theory.worst_case_curve(history, "consensus_distance")
        disagreement.append(found.values[0])
    assert disagreement == [pytest.approx(0, abs=1e-6), pytest.approx(found.r0**2)]


def test_runs_that_have_no_worst_case_are_refused():
    run = functools.partial(
        rs.simulate, quadratics(), CHAIN, RelaySGD(), learning_rate=0.5, steps=3
    )
    with pytest.raises(ValueError, match="without noise"):
        run(oracle=rs.oracles.Gaussian(1.0)).plot(worst_case=True)
    with pytest.raises(ValueError, match="distance or"):
        run().plot(y="seed", worst_case=True)
    with pytest.raises(ValueError, match="has no place for lost messages"):
        run(faults=rs.faults.MessageDrop(0.1)).plot(worst_case=True)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"topology": rs.topologies.chain(6)}, ValueError, "at most 5 workers"),
        ({"steps": 11}, ValueError, "3 and 10 would fit"),
        ({"strong_convexity": 1.0}, ValueError, "must be above"),
        ({"zeta2": 0.0, "r0": 0.0}, ValueError, "both 0"),
        ({"measure": "accuracy"}, ValueError, "distance"),
        ({"algorithm": ChocoSGD(rs.compressors.TopK(1), 0.1)}, TypeError, "not affine"),
        ({"algorithm": rs.algorithms.SwarmSGD()}, TypeError, "not affine"),
        ({"topology": rs.topologies.double_binary_tree(4)}, TypeError, "pair of trees"),
        (
            {"algorithm": DPSGD(), "mixing": rs.mixing.random_matching(CHAIN)},
            TypeError,
            "draws",
        ),
    ],
)
def test_what_has_no_worst_case_is_told_so(change, error, words):
    given = {
        "algorithm": RelaySGD(),
        "topology": CHAIN,
        "smoothness": L,
        "strong_convexity": MU,
        "learning_rate": RATE,
        "steps": 2,
    }
    with pytest.raises(error, match=words):
        rs.theory.worst_case(**(given | change))


class Rounding(DPSGD):
    """Claims to be affine, and is not."""

    def step(self, state, round):
        return state._replace(x=np.round(super().step(state, round).x, 1))


class Shrinking(DPSGD):
    """Where it goes depends on where 0 lies."""

    def step(self, state, round):
        return state._replace(x=0.9 * super().step(state, round).x)


@pytest.mark.parametrize(
    ("algorithm", "words"), [(Rounding(), "differently"), (Shrinking(), "where 0 lies")]
)
def test_what_only_claims_to_be_affine_is_found_out(algorithm, words):
    with pytest.raises(TypeError, match=words):
        traced(algorithm, CHAIN, 0.1, 2, smoothness=L, strong_convexity=MU)


def test_without_pepit_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ImportError, match=r'pip install "relaysim\[pep\]"'):
        rs.theory.worst_case(RelaySGD(), CHAIN, L, MU, RATE, 1)


def test_functions_through_points_of_a_known_function():
    """Of one that is piecewise quadratic, from points on either side of each of its pieces."""
    points = np.array([[0.0, -2.0, 1.0, 2.0, 3.0]])

    def slope(x):
        return MU * x + (L - MU) * np.clip(x - 1, 0, 1)

    def value(x):
        inside = np.clip(x - 1, 0, 1)
        return MU / 2 * x**2 + (L - MU) * inside * (np.maximum(x - 1, 0) - inside / 2)

    problem = WorstFunctions(
        points, slope(points), value(points), smoothness=L, strong_convexity=MU
    )
    x = np.linspace(-2, 3, 50)
    np.testing.assert_allclose(problem.gradient(x[None, None])[0, 0], slope(x), atol=1e-12)
    np.testing.assert_allclose(problem.value(x[None]), value(x), atol=1e-12)
    assert problem.pieces == 1
