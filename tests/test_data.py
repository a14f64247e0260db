import bz2
import gzip
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from relaysim.problems import Logistic, data, partitions
from relaysim.problems.partitions import (
    Partition,
    by_size,
    dirichlet,
    feature_drift,
    iid,
    shards,
)

# Balanced, mildly and grossly unbalanced.
MIXES = {
    "balanced": (60, 60, 60, 60),
    "skewed": (150, 60, 25, 5),
    "two": (190, 11),
    "rare": (99, 1),
    "many": (180,) * 10,
}


def some_labels(name, seed=0):
    counts = MIXES[name]
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def assert_covers(partition, total, n):
    """Every example at one worker, every worker with one at least."""
    assert partition.n == len(partition.indices) == len(partition.sizes) == n
    np.testing.assert_array_equal(np.sort(np.concatenate(partition.indices)), np.arange(total))
    held = np.array([len(index) for index in partition.indices])
    np.testing.assert_array_equal(held, partition.sizes)
    assert held.min() >= 1
    owners = partition.owners[np.concatenate(partition.indices)]
    np.testing.assert_array_equal(owners, np.repeat(np.arange(n), held))


def entropy(partition):
    """Mean entropy of the workers' classes."""
    counts = partition.counts().to_numpy()
    p = counts / counts.sum(axis=1, keepdims=True)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1).mean()


def make(kind, labels, n, seed):
    return {
        "iid": lambda: iid(labels, n, seed),
        "dirichlet": lambda: dirichlet(labels, n, 0.1, seed),
        "dirichlet, own sizes": lambda: dirichlet(labels, n, 0.1, seed, equal_sizes=False),
        "shards": lambda: shards(labels, n, 2, seed),
        "feature_drift": lambda: feature_drift(
            np.random.default_rng(0).normal(size=(len(labels), 3)), n, 0.5, seed=seed
        ),
        "by_size": lambda: by_size(labels, n, 5.0, seed),
    }[kind]()


KINDS = ("iid", "dirichlet", "dirichlet, own sizes", "shards", "feature_drift", "by_size")


# -- partitions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_partitioners_cover_the_examples_and_depend_on_the_seed_alone(kind, mix):
    labels = some_labels(mix)
    for n in (1, 2, 7, 16):
        found = make(kind, labels, n, seed=3)
        assert_covers(found, len(labels), n)
        assert found == make(kind, labels, n, seed=3)
        if n > 1:
            assert found != make(kind, labels, n, seed=4)
    assert found.labels is None if kind == "feature_drift" else (found.labels == labels).all()


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "feature_drift"])
def test_partitioners_with_equal_sizes_differ_by_one_example_at_most(kind):
    for n in (1, 3, 7, 16):
        sizes = make(kind, some_labels("skewed"), n, seed=0).sizes
        assert np.ptp(sizes) <= 1


@pytest.mark.parametrize("alpha", [math.inf, 1, 0.1, 0.01, 1e-4])
@pytest.mark.parametrize("mix", MIXES)
def test_dirichlet_sizes_are_equal_whatever_alpha_and_the_classes(mix, alpha):
    labels = some_labels(mix)
    for n in (2, 5, 16, 40, min(len(labels), 240)):
        for seed in range(2):
            found = dirichlet(labels, n, alpha, seed)
            assert_covers(found, len(labels), n)
            assert np.ptp(found.sizes) <= 1
            loose = dirichlet(labels, n, alpha, seed, equal_sizes=False)
            assert_covers(loose, len(labels), n)


@pytest.mark.parametrize("equal_sizes", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_dirichlet_with_infinite_alpha_gives_everyone_the_same_mix(mix, equal_sizes):
    labels = some_labels(mix)
    for n in (4, 7, 23):
        counts = dirichlet(labels, n, math.inf, 0, equal_sizes).counts().to_numpy()
        expected = np.array(MIXES[mix]) / n
        assert (np.abs(counts - expected) < 1 + 1e-6).all()


@pytest.mark.parametrize("equal_sizes", [True, False])
def test_classes_are_the_more_apart_the_smaller_alpha(equal_sizes):
    labels = some_labels("balanced")
    entropies = [
        np.mean([entropy(dirichlet(labels, 16, alpha, seed, equal_sizes)) for seed in range(5)])
        for alpha in (math.inf, 10, 1, 0.1, 0.01)
    ]
    assert (np.diff(entropies) < 0).all()
    np.testing.assert_allclose(entropies[0], np.log(4), rtol=0.02)
    assert entropies[-1] < 0.1


def largest_shares(**options):
    """The share of each of 16 workers' examples that is of one class, mean over 20 seeds."""
    labels = np.repeat(np.arange(10), 500)
    shares = []
    for seed in range(20):
        counts = dirichlet(labels, 16, 0.01, seed, **options).counts().to_numpy()
        shares.append(counts.max(axis=1) / counts.sum(axis=1))
    return np.mean(shares, axis=0)


def test_six_workers_of_sixteen_share_all_classes_where_ten_draw_among_themselves():
    # Of equal sizes six of them hold 10/6 classes each, of which one is at most .6 of what they hold.
    shares = largest_shares(groups=10)
    assert shares[10:].mean() == pytest.approx(0.59, abs=0.03)
    assert shares[:10].mean() > 0.85
    assert largest_shares()[10:].mean() > 0.75
    assert largest_shares(equal_sizes=False).mean() == pytest.approx(0.91, abs=0.02)


@pytest.mark.parametrize("equal_sizes", [True, False])
def test_groups_of_workers_hold_their_part_of_the_examples(equal_sizes):
    labels = some_labels("skewed")
    for n, groups in ((16, 10), (16, 5), (7, 1), (23, 4)):
        found = dirichlet(labels, n, 0.1, 3, equal_sizes, groups)
        assert_covers(found, len(labels), n)
        assert not equal_sizes or np.ptp(found.sizes) <= 1
        for first in range(0, n, groups):
            part = found.sizes[first : first + groups]
            assert sum(part) == pytest.approx(len(part) * len(labels) / n, abs=1)
    assert dirichlet(labels, 10, 0.1, 3, groups=10) == dirichlet(labels, 10, 0.1, 3)
    assert dirichlet(labels, 11, 0.1, 3, groups=10) != dirichlet(labels, 11, 0.1, 3)


def test_dirichlet_proportions_have_the_variance_of_their_distribution():
    # A share of Dirichlet(α, …, α) over n has mean 1/n and variance (1/n)(1 − 1/n)/(nα + 1).
    labels, n, alpha = np.zeros(10_000), 5, 0.7
    shares = np.array(
        [dirichlet(labels, n, alpha, seed, equal_sizes=False).sizes for seed in range(400)]
    )
    variance = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    squares = (shares / 10_000 - 1 / n) ** 2
    error = squares.mean(axis=1).std() / np.sqrt(len(shares))
    assert abs(squares.mean() - variance) < 5 * error


@pytest.mark.parametrize("per_worker", [1, 2, 3])
def test_shards_are_few_classes_each(per_worker):
    labels = np.repeat(np.arange(10), 60)
    found = shards(labels, 10, per_worker, seed=1)
    assert found.sizes.tolist() == [60] * 10
    # 10 classes of 60 are cut along their borders: a shard has one class.
    classes = (found.counts() > 0).sum(axis=1)
    assert classes.max() <= per_worker
    uneven = shards(some_labels("balanced"), 7, per_worker, seed=1)
    assert (uneven.counts() > 0).sum(axis=1).max() <= 2 * per_worker


def test_features_drift_from_worker_to_worker():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 3)) * [1, 5, 1]
    gaps = []
    for strength in (0, 0.3, 0.6, 0.9, 1):
        found = feature_drift(features, 8, strength, seed=2)
        means = np.array([features[index, 1].mean() for index in found.indices])
        gaps.append(abs(means[-1] - means[0]))
    assert (np.diff(gaps) > 0).all()
    assert (np.diff(means) > 0).all() or (np.diff(means) < 0).all()


@pytest.mark.parametrize("storage", [np.array, sparse.csr_array, sparse.coo_matrix])
def test_a_clean_cut_along_a_direction_is_that_of_sorting(storage):
    features = np.random.default_rng(0).normal(size=(41, 3))
    for direction, along in ((2, features[:, 2]), ([1.0, -1.0, 2.0], features @ [1, -1, 2])):
        found = feature_drift(storage(features), 4, direction=direction)
        assert found.sizes.tolist() == [11, 10, 10, 10]
        expected = np.split(np.argsort(along), [11, 21, 31])
        for index, own in zip(found.indices, expected, strict=True):
            assert set(index) == set(own)
    assert_covers(feature_drift(storage(features), 4), 41, 4)


@pytest.mark.parametrize(
    "features",
    [
        [[3.0], [1.0], [2.0], [0.0]],
        [[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]],
        [[2.0, -2.0], [-1.0, 1.0], [1.0, -1.0], [-2.0, 2.0]],  # columns and rows cancel
    ],
)
def test_sparse_features_are_cut_along_their_largest_direction(features):
    for storage in (np.array, sparse.csr_matrix, sparse.coo_array):
        owners = feature_drift(storage(features), 2).owners
        assert owners.tolist() in ([1, 0, 1, 0], [0, 1, 0, 1])
    assert_covers(feature_drift(sparse.csr_array((4, 2)), 2), 4, 2)
    assert_covers(feature_drift(sparse.csr_array([[1.0, -3.0, 0.0]]), 1), 1, 1)


@pytest.mark.parametrize("ratio", [1, 2, 10, 50])
def test_sizes_fall_geometrically(ratio):
    sizes = by_size(np.zeros(6000), 12, ratio, seed=0).sizes
    assert sizes.sum() == 6000
    assert (np.diff(sizes) <= 0).all()
    expected = float(ratio) ** (-np.arange(12) / 11)
    np.testing.assert_allclose(sizes, 6000 * expected / expected.sum(), atol=2)
    assert by_size(np.zeros(12), 12, 1000.0).sizes.tolist() == [1] * 12


@given(
    codes=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    n=st.integers(1, 80),
    alpha=st.one_of(st.floats(1e-5, 1e5), st.just(math.inf)),
    ratio=st.floats(1, 1e6),
    seed=st.integers(0, 2**32),
)
def test_every_example_has_one_owner_and_every_worker_an_example(codes, n, alpha, ratio, seed):
    n = min(n, len(codes))
    equal = dirichlet(codes, n, alpha, seed)
    assert np.ptp(equal.sizes) <= 1
    for found in (
        equal,
        dirichlet(codes, n, alpha, seed, equal_sizes=False),
        iid(codes, n, seed),
        by_size(codes, n, ratio, seed),
        shards(codes, n, max(1, len(codes) // n), seed),
    ):
        assert_covers(found, len(codes), n)
        counts = found.counts()
        assert counts.to_numpy().sum() == len(codes)
        np.testing.assert_array_equal(counts.sum(axis=1), found.sizes)


def test_a_partition_counts_classes():
    partition = Partition.of([[0, 3], [1], [2, 4, 5]], 6)
    labels = np.array(["a", "b", "a", "c", "c", "c"])
    counts = partition.counts(labels)
    assert counts.columns.tolist() == ["a", "b", "c"]
    assert counts.to_numpy().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 2]]
    with pytest.raises(ValueError, match="without labels"):
        partition.counts()
    with pytest.raises(ValueError, match="6 examples"):
        partition.counts(labels[:5])
    assert partition == Partition.of(np.array([0, 1, 2, 0, 2, 2]), 6)
    assert partition == Partition.of([0, 1, 2, 0, 2, 2], 6)
    assert partition != Partition.of([[0, 3, 1], [2, 4, 5]], 6)
    for array in (partition.owners, partition.sizes, *partition.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert "6 examples over 3 workers, 1 to 3 each" in repr(partition)


LABELS = np.arange(10) % 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: iid(LABELS, 11), ValueError, "at most 10 workers"),
        (lambda: dirichlet(LABELS, 11, 1.0), ValueError, "at most 10 workers"),
        (lambda: by_size(LABELS, 11), ValueError, "at most 10 workers"),
        (lambda: feature_drift(np.ones((10, 2)), 11), ValueError, "at most 10 workers"),
        (lambda: shards(LABELS, 4, 3), ValueError, "more than the 10 examples"),
        (lambda: shards(LABELS, 4, 0), ValueError, "per_worker"),
        (lambda: iid(LABELS, 0), ValueError, "n must be at least 1"),
        (lambda: iid(LABELS, 2.5), TypeError, "n must be a whole number"),
        (lambda: iid(LABELS, 2, seed=-1), ValueError, "seed"),
        (lambda: iid(LABELS.reshape(2, 5), 2), ValueError, "one class for each example"),
        (lambda: dirichlet(LABELS, 2, 0), ValueError, "alpha must be positive"),
        (lambda: dirichlet(LABELS, 2, -1.0), ValueError, "alpha"),
        (lambda: dirichlet(LABELS, 2, math.nan), ValueError, "alpha"),
        (lambda: dirichlet(LABELS, 2, "1"), TypeError, "alpha"),
        (lambda: dirichlet(LABELS, 2, 1.0, groups=0), ValueError, "groups must be at least 1"),
        (lambda: dirichlet(LABELS, 2, 1.0, equal_sizes=1), TypeError, "equal_sizes"),
        (lambda: by_size(LABELS, 2, 0.5), ValueError, "ratio"),
        (lambda: feature_drift(np.ones(10), 2), ValueError, "matrix"),
        (lambda: feature_drift(np.ones((10, 2)), 2, 1.5), ValueError, "strength"),
        (lambda: feature_drift(np.ones((10, 2)), 2, direction=2), ValueError, "no column"),
        (lambda: feature_drift(np.ones((10, 2)), 2, direction=[1.0]), ValueError, "direction"),
        (lambda: Partition.of(np.zeros(4, int), 5), ValueError, "5 examples"),
        (lambda: Partition.of(np.array([0.5, 1.0]), 2), ValueError, "2 examples"),
        (lambda: Partition.of(np.array([0, -1]), 2), ValueError, "2 examples"),
        (lambda: Partition.of(np.array([0, 2]), 2), ValueError, "without any example: 1"),
        (lambda: Partition.of([[0, 1], [1]], 2), ValueError, "example 1"),
        (lambda: Partition.of([[0], [2]], 3), ValueError, "nobody holds example 1"),
        (lambda: Partition.of([[0, 1], [3]], 3), ValueError, "0 to 2"),
        (lambda: Partition.of([[0.0], [1.0]], 2), TypeError, "list of examples"),
        (lambda: Partition.of([0, 1, 0], 4), ValueError, "each of the 4 examples"),
        (lambda: Partition.of([0.0, 1.0], 2), ValueError, "each of the 2 examples"),
        (lambda: Partition.of(2, 2), TypeError, r"partition must say .*, not 2; .*iid\(labels"),
        (lambda: Partition.of("01", 2), TypeError, "partition must say .*, not '01'"),
        (lambda: feature_drift(np.full((10, 2), np.nan), 2), ValueError, "example 0, column 0"),
        (lambda: feature_drift(np.ones((10, 2)), 2, labels=[0, 1]), ValueError, "10 examples"),
        (lambda: Partition.of([], 2), TypeError, "list of examples"),
        (lambda: Partition.of(iid(LABELS, 2), 9), ValueError, "of 10 examples and there are 9"),
    ],
)
def test_what_is_no_partition_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("breast_cancer", (569, 30), 2), ("wine", (178, 13), 3), ("digits", (1797, 64), 10)],
)
def test_bundled_features_are_standardised(name, shape, classes):
    raw, found = getattr(data, name)(standardize=False), getattr(data, name)()
    assert raw.features.shape == found.features.shape == shape
    assert found.classes.tolist() == list(range(classes))
    constant = np.ptp(raw.features, axis=0) == 0
    assert constant.sum() == (3 if name == "digits" else 0)
    np.testing.assert_allclose(found.features.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.features.std(axis=0), np.where(constant, 0, 1), rtol=1e-12)
    np.testing.assert_array_equal(raw.standardized().features, found.features)
    np.testing.assert_array_equal(raw.labels, found.labels)
    with pytest.raises(TypeError, match="standardize"):
        getattr(data, name)(standardize="yes")


def test_standardising_leaves_zeros_of_sparse_features_and_constants_at_zero():
    A = np.array([[0.0, 3.0, 0.0, 1.1], [2.0, 0.0, 0.0, 1.1], [0.0, 4.0, 0.0, 1.1]])
    labels = np.array([0, 1, 0])
    thin = data.Dataset(sparse.csr_array(A), labels).standardized().features
    assert sparse.issparse(thin)
    found = thin.toarray()
    np.testing.assert_array_equal(found == 0, A == 0)
    np.testing.assert_allclose((found**2).mean(axis=0), [1, 1, 0, 1], rtol=1e-12)
    dense = data.Dataset(1e8 * A, labels).standardized().features
    np.testing.assert_array_equal(dense[:, 2:], 0)
    np.testing.assert_allclose(dense[:, :2].std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("storage", [np.array, sparse.csr_array])
def test_a_split_keeps_the_mix_of_classes_and_loses_nothing(storage):
    labels = some_labels("skewed")
    features = np.arange(1.0, 2 * len(labels) + 1).reshape(-1, 2)
    whole = data.Dataset(storage(features), labels, "numbers")
    train, test = whole.split(0.2, seed=3)
    assert np.bincount(test.labels).tolist() == [30, 12, 5, 1]
    assert np.bincount(train.labels).tolist() == [120, 48, 20, 4]
    both = [
        p.features.toarray() if sparse.issparse(p.features) else p.features for p in (train, test)
    ]
    rows = (np.concatenate(both)[:, 0].astype(int) - 1) // 2
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(labels)))
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), labels[rows])
    again, other = whole.split(0.2, seed=3)[1], whole.split(0.2, seed=4)[1]
    np.testing.assert_array_equal(again.labels, test.labels)
    assert (again.features != test.features).sum() == 0
    assert (other.features != test.features).sum() > 0
    for fraction in (0.0, 0.01, 0.99, 1.0):
        with pytest.raises(ValueError, match="leaves one of the two sets without it"):
            whole.split(fraction)
    with pytest.raises(ValueError, match="test must be"):
        whole.split(1.5)


@pytest.mark.parametrize("storage", ["csr_matrix", "coo_matrix", "csc_array", "coo_array"])
def test_sparse_features_of_any_form_become_one(storage):
    A = np.array([[0, 3], [2, 0], [1, 4], [0, 0]])
    given = getattr(sparse, storage)(A)
    found = data.Dataset(given, [0, 1, 0, 1])
    assert isinstance(found.features, sparse.csr_array)
    assert found.features.dtype == float
    scaled = found.standardized().features
    assert isinstance(scaled, sparse.csr_array)
    np.testing.assert_allclose((scaled.toarray() ** 2).mean(axis=0), 1)
    assert [part.features.shape for part in found.split(0.5)] == [(2, 2), (2, 2)]
    with pytest.raises(TypeError, match="features must be real"):
        data.Dataset(given * 1j, [0, 1, 0, 1])


def test_features_and_labels_must_fit():
    for features, labels in ((np.ones((3, 2)), [0, 1]), (np.ones(3), [0, 1, 0])):
        with pytest.raises(ValueError, match="features must be"):
            data.Dataset(features, labels)


LINES = "1 1:0.5 3:-2\n-1 2:4e1 # a comment\n\n1 3:1\n"
READ = [[0.5, 0, -2], [0, 40, 0], [0, 0, 1]]


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_svmlight_files_are_read(tmp_path, ending):
    path = tmp_path / f"some.txt{ending}"
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[ending]
    path.write_bytes(pack(LINES.encode()))
    for given_path in (path, str(path)):
        found = data.svmlight(given_path)
        assert sparse.issparse(found.features)
        np.testing.assert_array_equal(found.features.toarray(), READ)
        assert found.labels.tolist() == [1, -1, 1]
    scaled = data.svmlight(path, standardize=True).features.toarray()
    np.testing.assert_allclose((scaled**2).mean(axis=0), 1, rtol=1e-12)
    problem = Logistic(found.features, found.labels, 0.1, partition=[[0, 1], [2]])
    assert problem.classes.tolist() == [-1, 1]


def test_columns_may_count_from_zero(tmp_path):
    path = tmp_path / "zero"
    path.write_text("0 0:1 2:2\n1 1:3\n")
    found = data.svmlight(path, zero_based=True)
    assert found.features.toarray().tolist() == [[1, 0, 2], [0, 3, 0]]


def test_columns_mean_the_same_in_a_training_and_a_test_set(tmp_path):
    # The test set has neither column 0 nor the last one.
    for name, text in (("training", "1 0:1 1:2 3:1\n-1 1:-2\n"), ("test", "1 1:3 2:9\n-1 1:-1\n")):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"training, line 1: .* has column 0, .* zero_based=True"):
        data.svmlight(tmp_path / "training")
    training = data.svmlight(tmp_path / "training", zero_based=True)
    test = data.svmlight(tmp_path / "test", zero_based=True, features=training.features.shape[1])
    assert test.features.toarray().tolist() == [[0, 3, 9, 0], [0, -1, 0, 0]]
    alike = data.svmlight(tmp_path / "test", features=training)
    assert alike.features.toarray().tolist() == test.features.toarray().tolist()
    scaled = data.svmlight(tmp_path / "training", zero_based=True, standardize=True)
    alike = data.svmlight(tmp_path / "test", features=scaled)
    expected = [[0, 3 / 2, 0, 0], [0, -1 / 2, 0, 0]]  # column 2 is 0 in the training set
    np.testing.assert_allclose(alike.features.toarray(), expected, rtol=1e-12)
    problem = Logistic(training.features, training.labels, 0.1, partition=[[0], [1]])
    assert problem.accuracy(problem.optimum, test.features, test.labels) == 1
    with pytest.raises(ValueError, match=r"training, line 1: .* beyond features = 2"):
        data.svmlight(tmp_path / "training", zero_based=True, features=2)
    empty = tmp_path / "zeros"
    empty.write_text("1\n-1\n")
    assert data.svmlight(empty, features=3).features.shape == (2, 3)
    with pytest.raises(ValueError, match="no column; give features="):
        data.svmlight(empty)
    for options in ({"zero_based": 2}, {"features": 0}, {"features": 2**31}):
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(options))} must be"):
            data.svmlight(empty, **options)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("1 3000000000:1", "too large"),
        ("1 99999999999999999999:1", "too large"),
        ("1 2000000000:1", r"column 2000000000, which takes 16 GB .* give features=2000000000"),
        ("1 1:nan", "not finite"),
        ("1 1:-1e999", "not finite"),
        ("nan 1:1", "not finite"),
    ],
)
def test_numbers_that_no_model_can_take(tmp_path, bad, message):
    path = tmp_path / "wide"
    path.write_text(f"1 1:2\n{bad}\n1 1:1\n")
    with pytest.raises(ValueError, match=rf"wide, line 2: '{bad}' .*{message}"):
        data.svmlight(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_files_that_end_early_or_are_damaged(tmp_path, pack):
    whole = pack(b"".join(b"%d 1:%d 7:0.25\n" % (k % 2, k * k) for k in range(3000)))
    path = tmp_path / ("cut.gz" if pack is gzip.compress else "cut.bz2")
    for damaged in (whole[: len(whole) // 2], whole[:3000] + b"\x00\xff" * 9 + whole[3018:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cut\.\w+, line \d+"):
            data.svmlight(path)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("bad", ["1 2:x", "1 2", "one 1:2", "1 3:1 2:1", "1 -4:2"])
def test_a_bad_line_is_named(tmp_path, bad, ending):
    path = tmp_path / f"bad{ending}"
    text = ("1 1:2\n-1 2:3\n" + bad + "\n1 1:1\n").encode()
    path.write_bytes(gzip.compress(text) if ending else text)
    with pytest.raises(ValueError, match=r"line 3.*cannot be read as svmlight"):
        data.svmlight(path)


def test_files_without_examples_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing"):
        data.svmlight(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no file"):
        data.svmlight(tmp_path)
    for text in ("", "# nothing\n\n"):
        (tmp_path / "empty").write_text(text)
        with pytest.raises(ValueError, match="no example"):
            data.svmlight(tmp_path / "empty")
    (tmp_path / "bad.gz").write_text("1 1:1\n")
    with pytest.raises(ValueError, match="cannot be read"):
        data.svmlight(tmp_path / "bad.gz")


# -- synthetic -------------------------------------------------------------------------------------


def synthetic(**options):
    options = {"workers": 8, "seed": 0} | options
    return data.synthetic(options.pop("examples", 4000), options.pop("dimension", 5), **options)


@pytest.mark.parametrize("classes", [2, 4])
def test_heterogeneity_of_synthetic_data_grows_with_drift(classes):
    found = [synthetic(drift=drift, classes=classes) for drift in (0, 0.3, 1, 3)]
    zeta2 = [Logistic(d.features, d.labels, 0.01, partition=d.partition).zeta2 for d in found]
    assert (np.diff(zeta2) > 0).all()
    assert zeta2[-1] > 10 * zeta2[0]


def test_alpha_moves_the_heterogeneity_of_digits_and_of_clusters():
    plain, pooled = data.digits(standardize=False), data.digits(standardize=False, block=2)
    first = plain.features[0].reshape(8, 8)
    assert pooled.features[0, 1] == first[:2, 2:4].mean()
    assert pooled.features[0, 15] == first[6:, 6:].mean()
    with pytest.raises(ValueError, match="block must be 1, 2, 4 or 8"):
        data.digits(block=3)
    clusters = data.clusters(400, 6, seed=0)
    for label in (0, 7):
        of_class = clusters.features[clusters.labels == label]
        assert len(of_class) == 40
        np.testing.assert_allclose(of_class.std(axis=0), 0.3, rtol=0.3)
    for found, factor in ((data.digits(block=2), 10), (clusters.standardized(), 50)):
        apart = [
            Logistic(
                found.features,
                found.labels,
                0.01,
                partition=partitions.dirichlet(found.labels, 10, alpha, seed=0),
            ).zeta2
            for alpha in (math.inf, 0.01)
        ]
        assert apart[1] > factor * apart[0]


def test_synthetic_data_is_what_it_says():
    found = synthetic(examples=4003, classes=3)
    assert found.features.shape == (4003, 5)
    assert found.classes.tolist() == [0, 1, 2]
    assert_covers(found.partition, 4003, 8)
    assert np.ptp(found.partition.sizes) <= 1
    error = 5 / np.sqrt(4003)
    np.testing.assert_allclose(found.features.mean(axis=0), 0, atol=error)
    np.testing.assert_allclose(found.features.var(axis=0), 1, atol=np.sqrt(2) * error)
    again, other = synthetic(examples=4003, classes=3), synthetic(examples=4003, classes=3, seed=1)
    np.testing.assert_array_equal(again.features, found.features)
    np.testing.assert_array_equal(again.labels, found.labels)
    assert (other.features != found.features).any()


def test_separability_is_how_much_the_scores_differ():
    def accuracy(separability):
        found = synthetic(separability=separability)
        problem = Logistic(found.features, found.labels, 1e-4, partition=found.partition)
        return problem.accuracy(problem.optimum)

    accuracies = [accuracy(separability) for separability in (0.0, 1.0, 4.0, 100.0)]
    assert (np.diff(accuracies) > 0).all()
    assert abs(accuracies[0] - 0.5) < 0.05
    assert accuracies[-1] > 0.97


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"examples": 5, "workers": 6}, ValueError, "take fewer"),
        ({"examples": 4, "workers": 2, "classes": 9}, ValueError, "9 classes"),
        ({"separability": -1.0}, ValueError, "separability"),
        ({"drift": math.nan}, ValueError, "drift"),
        ({"classes": 1}, ValueError, "classes"),
        ({"workers": 0}, ValueError, "workers"),
        ({"dimension": 0}, ValueError, "dimension"),
        ({"examples": 10.5}, TypeError, "examples"),
    ],
)
def test_synthetic_data_of_impossible_numbers_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        synthetic(**options)


def test_partitions_are_exported():
    assert set(partitions.__all__) == {
        "Partition", "by_size", "dirichlet", "feature_drift", "iid", "shards",
    }  # fmt: skip


# -- the ends of what floats hold --------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-1060, -700, -500, 500, 700, 1020])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_standardizing_does_not_depend_on_the_unit(exponent, form):
    features = np.random.default_rng(0).integers(-3, 4, size=(20, 3)) / 1.0
    labels = np.arange(20) % 2
    right = data.Dataset(form(features), labels).standardized().features
    features[:, 1] = np.ldexp(features[:, 1], exponent)
    found = data.Dataset(form(features), labels).standardized().features
    assert np.array_equal(np.asarray(found @ np.eye(3)), np.asarray(right @ np.eye(3)))
    assert np.abs((right @ np.eye(3)).std(axis=0) - 1).max() < 0.1


@pytest.mark.parametrize("equal_sizes", [True, False])
@pytest.mark.parametrize("alpha", [1e-310, 5e-324])
def test_the_smallest_alphas_draw_what_small_ones_do(alpha, equal_sizes):
    labels = np.repeat(np.arange(4), 30)
    found = dirichlet(labels, 6, alpha, seed=1, equal_sizes=equal_sizes)
    right = dirichlet(labels, 6, 1e-250, seed=1, equal_sizes=equal_sizes)
    assert np.array_equal(found.owners, right.owners)
    # Every class is with as few workers as its size allows.
    assert (found.counts().to_numpy() > 0).sum(axis=1).max() <= 3
