"""What holds of every run, whatever its method, network, problem and faults: checked on drawn ones.

`PROPERTIES` names each: what is drawn, and a function of it that raises where the property does not hold.
`tests/test_fuzzed.py` draws a few of each; ``python benchmarks/fuzz.py`` as many as are asked for.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from strategies import METHODS, faults, runs, seeds

import relaysim as rs
from relaysim.faults import Fault
from relaysim.topologies import TreePair

#: Rounding, as a share of the largest entry so far. Some methods divide by what is small.
ROUNDING = 1e-10


def assert_near(found, expected, tolerance=ROUNDING):
    """Equal to the tolerance times the largest entry so far; steps first in both."""
    axes = tuple(range(1, expected.ndim))
    largest = np.maximum.accumulate(np.abs(expected).max(axis=axes))
    error = np.abs(found - expected).max(axis=axes)
    assert (error <= tolerance * largest).all(), f"{(error / largest).max():.3g} of the largest"


def compressor_of(algorithm):
    return getattr(algorithm, "compressor", getattr(algorithm, "quantizer", None))


def looks_at_coordinates(algorithm):
    """Whether a rule is about single coordinates, so that it is another in other axes."""
    kinds = (
        rs.algorithms.DecentralizedAdam,
        rs.algorithms.TrimmedMean,
        rs.algorithms.Cesar,
        rs.algorithms.PowerGossip,
    )
    compressor = compressor_of(algorithm)
    whole = compressor is None or isinstance(compressor, rs.compressors.Identity)
    return isinstance(algorithm, kinds) or not whole


# -- workers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scripted(Fault):
    """Loses messages by who sends to whom, and when, whatever number a worker has."""

    names: tuple[int, ...]
    share: float

    def arrivals(self, edges, round):
        names = np.array(self.names)
        sender, receiver = names[edges[:, 0]], names[edges[:, 1]]
        mixed = (sender * 7919 + receiver * 104729 + int(round) * 1299709 + 31) * 2654435761
        return (mixed // 65536) % 1000 >= 1000 * self.share


def renumbered(topology, places):
    """The same network, in which worker i is called ``places[i]``."""
    if isinstance(topology, TreePair):
        return TreePair(renumbered(topology.first, places), renumbered(topology.second, places))
    edges = [(places[a], places[b]) for a, b in topology.edges.tolist()]
    return rs.topologies.from_edges(topology.n, edges, directed=topology.is_directed)


#: Whose rule knows no numbers of workers: nothing is drawn, and no network of its own is numbered.
UNNUMBERED = tuple(
    algorithm
    for algorithm in METHODS
    if not algorithm.random
    and not (algorithm.uses == "workers" and algorithm.own_mixing(4) is not None)
    and algorithm.oracle_needs == "nothing"
)


@st.composite
def renumberings(draw):
    run = draw(runs(UNNUMBERED, faulty=False, noisy=False))
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    lossy = "lost messages" in run.algorithm.faults and share
    return run, draw(st.permutations(range(run.topology.n))), share if lossy else 0.0


def renumbering_workers_renumbers_results(drawn):
    run, places, share = drawn
    n = run.topology.n
    back = np.argsort(places)  # back[k]: who is k now
    problem = rs.problems.LeastSquares(run.problem.A[back], run.problem.b[back])
    other = run.replaced(
        topology=renumbered(run.topology, places), problem=problem, x0=run.x0[back]
    )
    if share:
        run = run.replaced(faults=Scripted(tuple(range(n)), share))
        other = other.replaced(faults=Scripted(tuple(back.tolist()), share))
    expected = run.iterates()
    assert_near(other.iterates()[:, places], expected)


# -- units and axes --------------------------------------------------------------------------------


@st.composite
def rotations(draw):
    run = draw(
        runs(
            tuple(each for each in METHODS if not looks_at_coordinates(each)),
            noisy=False,
            pairs=False,
        )
    )
    assume(not isinstance(run.faults, rs.faults.Corrupt))
    matrix = np.random.default_rng(draw(seeds)).normal(size=(run.problem.d, run.problem.d))
    return run, np.linalg.qr(matrix)[0]


def rotating_a_problem_rotates_results(drawn):
    run, Q = drawn
    problem = rs.problems.LeastSquares(run.problem.A @ Q.T, run.problem.b)
    expected = run.iterates()
    assert_near(run.replaced(problem=problem, x0=run.x0 @ Q.T).iterates(), expected @ Q.T)


#: Whose rule has a length of its own: a threshold, a radius, a spacing, a step of fixed length.
WITH_A_LENGTH = (
    rs.algorithms.AdaGossip,
    rs.algorithms.ConsensusControl,
    rs.algorithms.DecentralizedAdam,
    rs.algorithms.DynamicAveraging,
    rs.algorithms.NormalizedTracking,
)


def has_a_length(algorithm):
    return isinstance(algorithm, WITH_A_LENGTH) or isinstance(
        compressor_of(algorithm), rs.compressors.Lattice
    )


@st.composite
def stretched(draw):
    run = draw(runs(tuple(each for each in METHODS if not has_a_length(each)), noisy=False))
    assume(not isinstance(run.faults, rs.faults.Corrupt))
    return run, 2.0 ** draw(st.integers(-20, 20))


def longer_vectors_give_longer_results(drawn):
    """To the last bit: powers of 2 round nothing."""
    run, factor = drawn
    problem = rs.problems.LeastSquares(run.problem.A, run.problem.b * factor)
    expected = run.iterates() * factor
    found = run.replaced(problem=problem, x0=run.x0 * factor).iterates()
    np.testing.assert_array_equal(found, expected)


#: Whose rule has a number in units of gradients: a penalty, a curvature, a step of fixed length; or a rate
#: without units, a multiple of what each worker finds.
WITH_A_CURVATURE = (
    rs.algorithms.DecentralizedAdam,
    rs.algorithms.DLM,
    rs.algorithms.LocalRates,
    rs.algorithms.Mudag,
    rs.algorithms.NormalizedTracking,
)


@st.composite
def steeper(draw):
    kept = tuple(
        each
        for each in METHODS
        if not isinstance(each, WITH_A_CURVATURE)
        and not isinstance(getattr(each, "target", None), rs.algorithms.Critical)
    )
    run = draw(runs(kept, noisy=False))
    assume(not isinstance(run.faults, rs.faults.Corrupt))
    return run, 2.0 ** draw(st.integers(-8, 8))


def only_the_rate_times_the_curvature_counts(drawn):
    """f is multiplied by 4^k and γ divided by it: to the last bit the same."""
    run, root = drawn
    problem = rs.problems.LeastSquares(run.problem.A * root, run.problem.b * root)
    expected = run.iterates()
    other = run.replaced(problem=problem, learning_rate=run.learning_rate / root**2)
    np.testing.assert_array_equal(other.iterates(), expected)


# -- what stays ------------------------------------------------------------------------------------

#: Whose mean over workers moves by gradients only, with weights whose columns sum to 1 too.
MEAN_KEEPING = tuple(
    algorithm
    for algorithm in METHODS
    if algorithm.uses in ("mixing", "events")
    and "column" not in algorithm.mixing_needs
    and not isinstance(
        algorithm,
        rs.algorithms.ADMM  # each edge has two variables
        | rs.algorithms.AdaGossip  # a consensus rate for each worker
        | rs.algorithms.Cesar
        | rs.algorithms.ClippedGossip
        | rs.algorithms.TrimmedMean,
    )
    and not isinstance(compressor_of(algorithm), rs.compressors.Lattice)
)


@st.composite
def still(draw):
    run = draw(runs(MEAN_KEEPING, faulty=False, noisy=False))
    assume(not run.topology.is_directed)
    return run.replaced(learning_rate=0.0)


def communication_keeps_the_mean(run):
    iterates = run.iterates()
    means = iterates.mean(axis=1)
    error = np.abs(means - means[0]).max(axis=1)
    largest = np.maximum.accumulate(np.abs(iterates).max(axis=(1, 2)))
    assert (error <= ROUNDING * largest).all(), f"{(error / largest).max():.3g} of the largest"


#: Who have the same say the same: what they send is not rounded to something near it by chance.
EXACTLY_SENT = tuple(
    each
    for each in METHODS
    if compressor_of(each) is None or not (each.random or compressor_of(each).random)
)


@st.composite
def agreed(draw):
    run = draw(runs(EXACTLY_SENT, noisy=False))
    assume(not isinstance(run.faults, rs.faults.Corrupt))
    return run.replaced(learning_rate=0.0, x0=np.tile(run.x0[0], (run.topology.n, 1)))


def who_agree_stay_where_they_are(run):
    iterates = run.iterates()
    assert_near(iterates, np.broadcast_to(run.x0, iterates.shape))


# -- what cannot be known --------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut(Fault):
    """Nothing crosses between some workers and the others from one step until another."""

    side: tuple[bool, ...]
    since: int
    until: int

    def arrivals(self, edges, round):
        side = np.array(self.side)
        crosses = side[edges[:, 0]] != side[edges[:, 1]]
        return ~crosses | (round < self.since) | (round >= self.until)


LOSING = tuple(each for each in METHODS if "lost messages" in each.faults)


@st.composite
def divided(draw):
    """Not consensus control: everyone knows how far apart all are."""
    kept = tuple(each for each in LOSING if not isinstance(each, rs.algorithms.ConsensusControl))
    run = draw(runs(kept, least=2, faulty=False))
    n = run.topology.n
    side = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    since = draw(st.integers(0, run.steps))
    return run, side, since, draw(st.integers(since, run.steps)), draw(seeds)


def a_cut_keeps_out_what_is_behind_it(drawn):
    run, side, _, until, seed = drawn
    cut = run.replaced(faults=Cut(tuple(side), 0, until))
    here = np.array(side)
    change = np.random.default_rng(seed).normal(size=run.x0.shape) * ~here[:, np.newaxis]
    problem = rs.problems.LeastSquares(run.problem.A, run.problem.b + change[:, :1])
    expected = cut.iterates()[: until + 1]
    found = cut.replaced(problem=problem, x0=run.x0 + change).iterates()[: until + 1]
    # What is lost is taken away from the sum of all: rounding errors are of the size of what was lost.
    largest = max(np.abs(found).max(), np.abs(expected).max())
    assert np.abs(found - expected)[:, here].max(initial=0) <= 1e-13 * largest


def a_cut_changes_nothing_before_it(drawn):
    run, side, since, until, _ = drawn
    cut, whole = (
        run.replaced(faults=Cut(tuple(side), *times)) for times in ((since, until), (0, 0))
    )
    np.testing.assert_array_equal(cut.iterates()[: since + 1], whole.iterates()[: since + 1])


# -- the same run, made otherwise ------------------------------------------------------------------


@st.composite
def several(draw):
    run = draw(runs())
    rates = draw(st.lists(st.sampled_from([0.0, 0.05, 0.2]), min_size=1, max_size=3))
    return run, rates, draw(st.lists(st.integers(0, 99), min_size=1, max_size=2, unique=True))


def a_replica_is_its_run_alone(drawn):
    run, rates, numbers = drawn
    together = run.iterates(learning_rate=rates, seed=numbers)
    pairs = [(rate, number) for rate in rates for number in numbers]
    for k, (rate, number) in enumerate(pairs):
        alone = run.iterates(learning_rate=rate, seed=number)
        assert_near(together[..., k], alone)


@st.composite
def paused(draw):
    run = draw(runs())
    return run, draw(st.integers(0, run.steps))


def a_run_that_goes_on_is_one_that_never_stopped(drawn):
    run, first = drawn
    whole = run.history()
    halves = run.history(steps=first, keep_state=True)
    assume(not (halves.diverged.any() or whole.diverged.any()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says again what it said when it began
        halves = halves.extend(run.steps - first, progress=False)
    assert halves.iterates.tobytes() == whole.iterates.tobytes()
    assert halves.frame.equals(whole.frame)


@st.composite
def traced(draw):
    run = draw(runs(LOSING))
    fault = draw(faults(("lost messages",)))
    assume(fault is not None)
    return run.replaced(faults=fault)


def a_trace_replays_its_run(run):
    one = run.history(keep_faults=True)
    assume(one.trace is not None)
    again = run.replaced(faults=rs.faults.Replay(one.trace)).history()
    assert again.iterates.tobytes() == one.iterates.tobytes()


PROPERTIES = {
    check.__name__: (drawn, check)
    for drawn, check in (
        (renumberings(), renumbering_workers_renumbers_results),
        (rotations(), rotating_a_problem_rotates_results),
        (stretched(), longer_vectors_give_longer_results),
        (steeper(), only_the_rate_times_the_curvature_counts),
        (still(), communication_keeps_the_mean),
        (agreed(), who_agree_stay_where_they_are),
        (divided(), a_cut_keeps_out_what_is_behind_it),
        (divided(), a_cut_changes_nothing_before_it),
        (several(), a_replica_is_its_run_alone),
        (paused(), a_run_that_goes_on_is_one_that_never_stopped),
        (traced(), a_trace_replays_its_run),
    )
}
