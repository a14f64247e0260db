import itertools

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import chi2

import relaysim as rs
from relaysim.oracles import Minibatch
from relaysim.problems import Logistic
from relaysim.support.streams import Streams

SAMPLINGS = ("with replacement", "without replacement", "epochs")
SIZES = np.array([6, 4, 9])
CHAIN = rs.topologies.chain(3)


def some_problem(classes=2, storage="dense", sizes=SIZES, l2=0.1, **options):
    generator = np.random.default_rng(0)
    A = generator.normal(size=(sum(sizes), 3)) * (generator.random((sum(sizes), 3)) < 0.7)
    labels = generator.permutation(np.arange(sum(sizes)) % classes)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    given = sparse.csr_array(A) if storage == "sparse" else A
    return Logistic(given, labels, l2, partition=owners, **options)


def gradients_of_examples(problem, x):
    """The gradients of each worker on its examples one by one."""
    of_workers = []
    for i, size in enumerate(problem.examples):
        index = np.zeros((problem.n, 1), dtype=int)
        own = []
        for j in range(size):
            index[i] = j
            own.append(problem.sampled_gradient(x, index)[i])
        of_workers.append(np.array(own))
    return of_workers


def written(labels_of, A_of, x, weights, l2):
    """Gradients of single examples, written out, for two classes."""
    return [
        np.array(
            [
                -w * y * a / (1 + np.exp(y * (a @ point))) + l2 * point
                for a, y in zip(A, labels, strict=True)
            ]
        )
        for A, labels, point, w in zip(A_of, labels_of, x, weights, strict=True)
    ]


def draws(sampling, size, available=SIZES, seed=0, steps=10, ahead=1 << 16, seeds=None, owner=None):
    streams = Streams([seed] if seeds is None else seeds, owner)
    batches = streams.batches("sampling", np.array(available), size, sampling, ahead)
    return np.array([batches().copy() for _ in range(steps)])


over_samplings = pytest.mark.parametrize("sampling", SAMPLINGS)
over_problems = pytest.mark.parametrize(
    ("classes", "storage"), list(itertools.product((2, 3), ("dense", "sparse")))
)


# -- draws -----------------------------------------------------------------------------------------


@over_samplings
@pytest.mark.parametrize("size", [1, 3, 4])
def test_batches_are_examples_of_each_worker(sampling, size):
    drawn = draws(sampling, size, steps=300)
    assert drawn.shape == (300, 3, size)
    for worker, m in enumerate(SIZES):
        assert set(drawn[:, worker].ravel()) == set(range(m))
    if sampling != "with replacement":
        assert all(len(set(batch)) == size for step in drawn for batch in step)


@over_samplings
def test_drawing_ahead_changes_no_batch(sampling):
    expected = draws(sampling, 3, steps=50)
    for ahead in (1, 20, 100):
        np.testing.assert_array_equal(draws(sampling, 3, steps=50, ahead=ahead), expected)


def assert_uniform(counts):
    """Pearson's chi square, at a level that a right sampler misses once in a million seeds."""
    expected = counts.sum() / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-6, len(counts) - 1)


@pytest.mark.parametrize("sampling", ["without replacement", "epochs"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_subsets_are_equally_likely(sampling, size):
    available = [5, 6]
    # In an epoch batches depend on each other: only the first of each counts.
    drawn = draws(sampling, size, available, steps=12_000)
    for worker, m in enumerate(available):
        own = drawn[:, worker]
        if sampling == "epochs":
            own = own[:: m // size]
        subsets = list(itertools.combinations(range(m), size))
        number = {subset: k for k, subset in enumerate(subsets)}
        counts = np.bincount([number[tuple(sorted(b))] for b in own], minlength=len(subsets))
        if len(subsets) > 1:
            assert_uniform(counts)


def test_draws_with_replacement_are_uniform_and_independent():
    drawn = draws("with replacement", 2, [3, 4], steps=20_000)
    for worker, m in enumerate((3, 4)):
        pairs = drawn[:, worker] @ [m, 1]
        assert_uniform(np.bincount(pairs, minlength=m * m))
        following = drawn[:-1:2, worker, 1] * m + drawn[1::2, worker, 0]
        assert_uniform(np.bincount(following, minlength=m * m))
    assert_uniform(np.bincount(drawn[:, 0, 0] * 4 + drawn[:, 1, 0], minlength=12))


def test_epochs_visit_every_example_once():
    drawn = draws("epochs", 2, [6, 4, 2], steps=12)
    for worker, m in enumerate((6, 4, 2)):
        epochs = drawn[:, worker].reshape(-1, m)
        np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(m), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in drawn[:, 0].reshape(-1, 6)}) > 1


def test_epochs_leave_out_what_makes_no_batch():
    drawn = draws("epochs", 3, [7, 3, 5], steps=12)
    for worker, batches in enumerate((2, 1, 1)):
        for epoch in drawn[:, worker].reshape(-1, 3 * batches):
            assert len(set(epoch)) == 3 * batches


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["workers", "examples"])
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_a_sampled_gradient_is_the_mean_over_what_was_drawn(storage, weighting):
    generator = np.random.default_rng(3)
    A = [generator.normal(size=(m, 3)) for m in SIZES]
    y = [np.where(np.arange(m) % 2, 1, -1) for m in SIZES]
    given = [sparse.csr_array(a) for a in A] if storage == "sparse" else A
    problem = Logistic(given, y, 0.2, weighting=weighting)
    x = generator.normal(size=(3, 3))
    weights = [1, 1, 1] if weighting == "workers" else 3 * SIZES / SIZES.sum()
    single = written(y, A, x, weights, 0.2)
    index = np.array([[0, 5, 5], [1, 2, 3], [8, 0, 4]])
    expected = [g[own].mean(axis=0) for g, own in zip(single, index, strict=True)]
    found = problem.sampled_gradient(x, index)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    lent = np.full(x.shape, np.nan)
    assert problem.sampled_gradient(x, index, out=lent) is lent
    np.testing.assert_array_equal(lent, found)
    variance = [((g - g.mean(axis=0)) ** 2).sum(axis=1).mean() for g in single]
    np.testing.assert_allclose(problem.example_variance(x), variance, rtol=1e-12)
    np.testing.assert_allclose(Minibatch(4).sigma2_at(problem, x), np.mean(variance) / 4)


@over_problems
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_replicas_have_the_sampled_gradients_they_have_alone(
    classes, storage, blocks, intercept, monkeypatch
):
    if blocks:
        monkeypatch.setattr("relaysim.problems.example_blocks.PADDING_ENTRIES", 0)
    problem = some_problem(classes, storage, sizes=(30, 4, 9), intercept=intercept)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(3, problem.d, 4))
    own = np.stack([generator.integers([[30], [4], [9]], size=(3, 5)) for _ in range(4)], axis=-1)
    together = problem.sampled_gradient(x, own)
    shared = problem.sampled_gradient(x, own[..., 0])
    for k in range(4):
        alone = [problem.sampled_gradient(x[..., k], own[..., j]) for j in (k, 0)]
        np.testing.assert_allclose(together[..., k], alone[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(shared[..., k], alone[1], rtol=1e-13, atol=1e-14)


@over_problems
@over_samplings
def test_batches_are_unbiased_with_the_variance_that_is_named(classes, storage, sampling):
    problem = some_problem(classes, storage)
    x = np.random.default_rng(2).normal(size=(3, problem.d))
    oracle = Minibatch(size=2, sampling=sampling)
    exact = problem.gradient(x)
    replicas, steps = 50, 144 if sampling == "epochs" else 40
    observe = oracle.observe(problem, Streams([*range(replicas)], np.arange(replicas)))
    same = np.repeat(x[..., None], replicas, axis=-1)
    out = np.empty(same.shape)
    found = np.array([observe(same, out).copy() for _ in range(steps)])
    found = np.moveaxis(found, -1, 0).reshape(
        -1, *x.shape
    )  # the steps of one after those of another
    if sampling == "epochs":
        # Means of 12 successive batches are made of whole epochs for the first two workers.
        np.testing.assert_allclose(
            found.reshape(-1, 12, *x.shape)[:, :, :2].mean(axis=1),
            np.broadcast_to(exact[:2], (len(found) // 12, 2, problem.d)),
            atol=1e-12,
        )
        found = found[::12]  # each the first of an epoch, of all workers
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - exact) <= 5 * error + 1e-14).all()
    squares = ((found - exact) ** 2).sum(axis=2).mean(axis=1)
    error = squares.std() / np.sqrt(len(squares))
    assert abs(squares.mean() - oracle.sigma2_at(problem, x)) < 5 * error


@over_problems
@over_samplings
@pytest.mark.parametrize("size", [1, 2, 4])
def test_sigma2_is_the_variance_over_all_batches(classes, storage, sampling, size):
    problem = some_problem(classes, storage)
    x = np.random.default_rng(2).normal(size=problem.d)
    single = gradients_of_examples(problem, np.tile(x, (3, 1)))
    exact = problem.gradient(np.tile(x, (3, 1)))
    expected = []
    for own, mean in zip(single, exact, strict=True):
        if sampling == "with replacement":
            batches = itertools.product(range(len(own)), repeat=min(size, 2))
            factor = min(size, 2) / size  # of independent draws: 1/size
        else:
            batches, factor = itertools.combinations(range(len(own)), size), 1
        squares = [((own[list(b)].mean(axis=0) - mean) ** 2).sum() for b in batches]
        expected.append(factor * np.mean(squares))
    found = Minibatch(size, sampling).sigma2_at(problem, x)
    assert isinstance(found, float)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-10)


@over_problems
@pytest.mark.parametrize("sampling", ["without replacement", "epochs"])
def test_a_batch_of_all_examples_is_the_exact_gradient(classes, storage, sampling):
    problem = some_problem(classes, storage, sizes=(5, 5, 5))
    oracle = Minibatch(5, sampling)
    x = np.random.default_rng(2).normal(size=(3, problem.d))
    observe = oracle.observe(problem, Streams([0], None))
    for _ in range(5):
        found = observe(x, np.empty(x.shape))
        np.testing.assert_allclose(found, problem.gradient(x), rtol=1e-13, atol=1e-14)
    assert oracle.sigma2_at(problem, x) == 0


def test_a_worker_with_one_example_has_no_variance():
    problem = some_problem(sizes=(1, 1, 1, 1))
    for sampling in SAMPLINGS:
        assert Minibatch(1, sampling).sigma2_at(problem, np.ones(3)) < 1e-15


# -- runs ------------------------------------------------------------------------------------------


def run(problem, sampling, seed, rate, steps=40, size=2):
    return rs.simulate(
        problem,
        CHAIN,
        rs.algorithms.RelaySGD(),
        learning_rate=rate,
        steps=steps,
        oracle=Minibatch(size, sampling),
        seed=seed,
        keep_iterates=True,
    )


@over_problems
@over_samplings
def test_a_replica_runs_as_it_does_alone(classes, storage, sampling):
    problem = some_problem(classes, storage)
    for rates in ([0.1, 0.3], 0.2):
        for seeds in ([3, 8, 11], [8], 8):
            together = run(problem, sampling, seeds, rates, steps=25)
            frame = together.frame
            for (seed, rate), own in frame.groupby(["seed", "learning_rate"]):
                alone = run(problem, sampling, int(seed), float(rate), steps=25).frame
                for column in ("suboptimality", "consensus_distance", "gradient_norm"):
                    np.testing.assert_allclose(
                        own[column], alone[column], rtol=1e-9, atol=1e-13, err_msg=column
                    )


@over_problems
@over_samplings
def test_replicas_do_not_depend_on_the_size_of_blocks(classes, storage, sampling, monkeypatch):
    problem = some_problem(classes, storage)
    whole = run(problem, sampling, [3, 8, 11, 4], 0.2, steps=8)
    monkeypatch.setattr("relaysim.problems.losses.CACHED", 1)
    small = run(problem, sampling, [3, 8, 11, 4], 0.2, steps=8)
    np.testing.assert_allclose(whole.iterates, small.iterates, rtol=1e-13, atol=1e-15)


@over_samplings
def test_rates_with_the_same_seed_see_the_same_batches(sampling):
    owner = np.array([0, 0, 1, 1, 0])
    drawn = draws(sampling, 2, seeds=[4, 9], owner=owner)
    assert drawn.shape == (10, 3, 2, 5)
    for k, seed in enumerate((4, 4, 9, 9, 4)):
        np.testing.assert_array_equal(drawn[..., k], draws(sampling, 2, seed=seed))
    assert (drawn[..., 0] != drawn[..., 2]).any()
    single = draws(sampling, 2, seeds=[4], owner=np.zeros(3, dtype=int))
    np.testing.assert_array_equal(single, drawn[..., 0])


@over_samplings
def test_replicas_that_end_leave_the_others_batches_alone(sampling):
    streams = Streams([4, 9], np.array([0, 1, 0, 1]))
    batches = streams.batches("sampling", SIZES, 2, sampling, 100)
    before = [batches() for _ in range(5)]
    streams.keep(np.array([False, True, True, True]))
    after = [batches() for _ in range(5)]
    full = draws(sampling, 2, seeds=[4, 9], owner=np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(before, full[:5])
    np.testing.assert_array_equal(after, full[5:, ..., 1:])


def test_minibatches_leave_a_floor_that_falls_with_their_size():
    problem = some_problem(sizes=(40, 40, 40))
    floors = [
        run(problem, "without replacement", 0, 0.2, 800, size).frame.suboptimality[400:].mean()
        for size in (1, 4, 16, 40)
    ]
    assert (np.diff(floors) < 0).all()
    assert floors[-1] < 1e-12 < floors[-2]


# -- what is refused -------------------------------------------------------------------------------


def sampled(index, *replicas):
    """For examples stored densely, where rows of zeros follow those of the smaller workers."""
    return some_problem().sampled_gradient(np.zeros((3, 3, *replicas)), np.array(index))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Minibatch(0), ValueError, "size must be at least 1"),
        (lambda: Minibatch(1.5), TypeError, "size must be a whole number"),
        (
            lambda: Minibatch(2, "shuffled"),
            ValueError,
            "sampling must be one of 'with replacement'",
        ),
        (
            lambda: run(some_problem(), "epochs", 0, 0.1, size=5),
            ValueError,
            "worker 1 has 4 examples and a batch needs 5",
        ),
        (
            lambda: Minibatch(5, "without replacement").sigma2_at(some_problem(), np.zeros(3)),
            ValueError,
            "worker 1 has 4 examples",
        ),
        (
            lambda: run(
                rs.problems.DiagonalQuadratic(np.ones((3, 2)), np.ones((3, 2))),
                SAMPLINGS[0],
                0,
                0.1,
            ),
            TypeError,
            "no examples to draw from",
        ),
        (lambda: Minibatch(2).sigma2_at(some_problem(), np.zeros(4)), ValueError, "shape"),
        (
            lambda: sampled([[0], [4], [0]]),
            IndexError,
            "worker 1 has the examples 0 to 3, and no 4",
        ),
        (lambda: sampled([[0, 5], [0, 3], [0, -1]]), IndexError, "worker 2 .* 0 to 8, and no -1"),
        (
            lambda: sampled([[[0, 0]], [[0, 0]], [[0, 9]]], 2),
            IndexError,
            "worker 2 has the examples 0 to 8, and no 9",
        ),
        (lambda: sampled([[0.0], [1.0], [0.0]]), TypeError, "index must be of whole numbers"),
        (lambda: sampled([[0], [1]]), ValueError, r"index must have shape \(n, size\), n = 3"),
        (lambda: sampled(np.zeros((3, 0), int)), ValueError, "index must have shape"),
        (lambda: sampled(np.zeros((3, 1, 2), int)), ValueError, "index must have shape"),
        (lambda: sampled(np.zeros((3, 1, 2), int), 4), ValueError, "index must have shape"),
    ],
)
def test_batches_that_cannot_be_drawn_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_batch_larger_than_the_examples_is_drawn_with_replacement():
    history = run(some_problem(), "with replacement", 0, 0.1, size=20)
    assert np.isfinite(history.x).all()
