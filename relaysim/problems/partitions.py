"""Who holds which example: partitions of labelled data over n workers.

Every partitioner returns a `Partition`, the same for the same seed, in which every worker has at least
one example.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse.linalg import svds

from relaysim.problems.apportioning import even, give_to_the_empty, rounded, rounded_to, scaled
from relaysim.problems.matrices import Matrix, matrix_of
from relaysim.support.checks import (
    label_values,
    real_array,
    real_number,
    shown,
    true_or_false,
    unmasked,
    whole_number,
)
from relaysim.support.display import between, html_table
from relaysim.support.names import attribute_error, labels_of_workers, names_of_workers

if TYPE_CHECKING:
    from relaysim.plots.style import Axes

__all__ = ["Partition", "by_size", "dirichlet", "feature_drift", "iid", "shards"]

# Below it logarithms of proportions overflow; what is drawn has long been its own limit.
_SMALLEST_ALPHA = 1e-290


class Partition:
    """The examples of every worker.

    Attributes:
        indices: a tuple of n read-only arrays, the numbers of each worker's examples.
        n: workers.
        sizes: ``(n,)``, how many examples each has.
        owners: ``(N,)``, who holds each example.
        labels: ``(N,)``, the classes of the examples, where the partitioner saw them, else None.
        worker_names: what the workers are called, ``(n,)``, where the data say so, else None.

    >>> Partition.of([[0, 2], [1]], 3).owners.tolist()
    [0, 1, 0]
    """

    def __init__(
        self,
        owners: np.ndarray,
        n: int,
        labels: np.ndarray | None,
        name: str,
        worker_names: Iterable[Any] | None = None,
    ):
        owners = np.array(owners)
        if labels is not None and np.shape(labels) != owners.shape:
            raise ValueError(
                f"labels must be one for each of the {len(owners)} examples, not of shape "
                f"{np.shape(labels)}"
            )
        self.owners, self.n, self.labels, self._name = owners, n, labels, name
        self.worker_names = names_of_workers(worker_names, n)
        without = np.setdiff1d(np.arange(min(n, len(owners) + 11)), owners)
        if without.size:
            listed = ", ".join(map(str, without[:10])) + (", …" if len(without) > 10 else "")
            raise ValueError(
                f"workers without any example: {listed}; give each one at least, or take fewer "
                f"than {n} workers"
            )
        self.sizes = np.bincount(owners, minlength=n)
        order = np.argsort(owners, kind="stable")
        self.indices = tuple(np.split(order, np.cumsum(self.sizes)[:-1]))
        for array in (owners, self.sizes, *self.indices):
            array.setflags(write=False)

    @staticmethod
    def of(partition: Partition | Iterable[Any], examples: int, n: int | None = None) -> Partition:
        """A partition of so many examples from index lists, owners ``(N,)``, or a `Partition`.

        Owners are an array or a list of N whole numbers: who holds each example.

        Raises:
            ValueError: an example that nobody or more than one holds, or a worker without any.
            TypeError: what is none of these.

        >>> Partition.of([0, 1, 0], 3) == Partition.of([[0, 2], [1]], 3)
        True
        """
        if isinstance(partition, Partition):
            if len(partition.owners) != examples:
                raise ValueError(
                    f"the partition is of {len(partition.owners)} examples and there are {examples}"
                )
            return partition
        if isinstance(partition, str | bytes | dict) or not isinstance(partition, Iterable):
            raise TypeError(
                f"partition must say who holds which example: a Partition, a list of examples for "
                f"each worker, or a worker for each example, not {shown(partition)}; "
                f"relaysim.problems.partitions.iid(labels, n=16) makes a random one"
            )
        unmasked(partition, "the partition")
        if not isinstance(partition, np.ndarray) or partition.dtype == object:
            partition = list(partition)
            if partition and all(np.ndim(entry) == 0 for entry in partition):
                partition = np.asarray(partition)
        if isinstance(partition, np.ndarray) and partition.ndim == 1:
            owners = partition.astype(int) if partition.dtype.kind in "iu" else partition
            if (
                owners.dtype.kind not in "iu"
                or len(owners) != examples
                or owners.min(initial=0) < 0
            ):
                raise ValueError(
                    f"a partition of single numbers must name a worker, 0, 1, …, for each of the "
                    f"{examples} examples"
                )
            if n is not None and owners.max(initial=-1) >= n:
                raise ValueError(
                    f"the partition names worker {owners.max()}; there are 0 to {n - 1}"
                )
            return Partition(owners, int(owners.max()) + 1 if n is None else n, None, "given")
        lists = [np.asarray(index) for index in partition]
        if not lists or any(a.ndim != 1 or (a.size and a.dtype.kind not in "iu") for a in lists):
            raise TypeError(
                "a partition must be a list of examples for each worker, all whole numbers"
            )
        every = np.concatenate(lists).astype(int)
        if every.size and not (every.min() >= 0 and every.max() < examples):
            raise ValueError(f"a partition of {examples} examples has numbers 0 to {examples - 1}")
        times = np.bincount(every, minlength=examples)
        if (times != 1).any():
            example = int(np.argmax(times != 1))
            held = "nobody holds" if times[example] == 0 else "more than one place holds"
            raise ValueError(f"{held} example {example}; each must be in one worker's list, once")
        owners = np.empty(examples, dtype=int)
        owners[every] = np.repeat(np.arange(len(lists)), [len(index) for index in lists])
        return Partition(owners, len(lists), None, "given")

    def counts(self, labels: ArrayLike | None = None) -> pd.DataFrame:
        """How many examples of each class (columns) every worker (rows) has."""
        table = pd.crosstab(self.owners, self._labels(labels))
        table.index = labels_of_workers(self.n, self)
        return table.rename_axis(index="worker", columns="class")

    def plot(self, labels: ArrayLike | None = None, **options: Any) -> Axes:
        """Draw the classes by worker; see `relaysim.plots.plot_partition`. Returns the Axes."""
        from relaysim import plots

        return plots.plot_partition(self, self._labels(labels), **options)

    def _labels(self, labels: ArrayLike | None) -> np.ndarray:
        found = self.labels if labels is None else label_values(labels)
        if found is None:
            raise ValueError("this partition was made without labels; give labels=")
        if found.shape != self.owners.shape:
            raise ValueError(
                f"the partition is of {len(self.owners)} examples; labels are of {found.shape}"
            )
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Partition):
            return NotImplemented
        return self.n == other.n and np.array_equal(self.owners, other.owners)

    def _repr_html_(self) -> str:
        rows = [
            ("workers", self.n),
            ("examples", len(self.owners)),
            ("examples of a worker", between(self.sizes)),
        ]
        return html_table(f"Partition {self._name}", rows)

    def __repr__(self) -> str:
        return (
            f"<Partition {self._name} of {len(self.owners)} examples over {self.n} workers, "
            f"{self.sizes.min()} to {self.sizes.max()} each>"
        )


def iid(labels: ArrayLike, n: int, seed: int = 0) -> Partition:
    """Examples in random order, dealt out in equal numbers (to within one).

    Args:
        labels: ``(N,)``, the class of each example.
        n: workers.
        seed: a whole number.

    Raises:
        ValueError: more workers than examples.

    >>> iid([0, 0, 0, 1, 1, 1, 1], n=3, seed=0).sizes.tolist()
    [3, 2, 2]
    """
    labels, n, generator = _checked(labels, n, seed)
    order = generator.permutation(len(labels))
    return _cut(order, even(len(labels), n), labels, "iid")


def dirichlet(
    labels: ArrayLike,
    n: int,
    alpha: float,
    seed: int = 0,
    equal_sizes: bool = True,
    groups: int | None = None,
) -> Partition:
    """Classes in proportions drawn from a Dirichlet distribution: the smaller α, the more apart.

    Every class c is divided in proportions q_c ~ Dirichlet(α, …, α) over the workers. With equal
    sizes, the matrix of proportions is then scaled, rows and columns in turn, until every worker has
    N/n examples (to within one) and every example an owner. α → ∞ gives all workers the same mix of
    classes, α → 0 one class each as far as that goes.

    Args:
        labels: ``(N,)``, the class of each example.
        n: workers.
        alpha: α > 0; ``math.inf`` for the same mix everywhere.
        seed: a whole number.
        equal_sizes: scale to equal numbers of examples. Without it workers hold what the draw gives
            them; one that would have none takes an example from the largest.
        groups: most workers among whom a class is divided: examples are first dealt out at random to groups
            of so many workers, the last one smaller, and each group draws proportions of its own. None for
            one draw over all.

    Raises:
        ValueError: α ≤ 0, or more workers than examples.

    Source: Vogels et al., NeurIPS 2021, after Hsu et al., arXiv 1909.06335 (2019). The published code draws
    in groups of 10: the 6 that are left of 16 workers share all classes among themselves. It keeps sizes
    apart by no more than about a half by withholding further classes from workers that are full and drawing
    again, which two classes do not allow.

    >>> dirichlet([0] * 8 + [1] * 8, n=4, alpha=0.01, seed=0).counts().values.tolist()
    [[4, 0], [4, 0], [0, 4], [0, 4]]
    """
    labels, n, generator = _checked(labels, n, seed)
    if not (alpha == math.inf or real_number(alpha, "alpha") > 0):
        raise ValueError(f"alpha must be positive, not {alpha!r}")
    equal_sizes = true_or_false(equal_sizes, "equal_sizes")
    name = f"dirichlet(alpha={alpha:g})"
    if groups is None or n <= whole_number(groups, "groups", 1):
        return Partition(_divided(labels, n, alpha, generator, equal_sizes), n, labels, name)
    first = np.append(np.arange(0, n, groups), n)  # workers at which groups begin, and n
    order = generator.permutation(len(labels))
    owners = np.empty(len(labels), dtype=int)
    for part, start, workers in zip(
        np.split(order, first[1:-1] * len(labels) // n), first[:-1], np.diff(first), strict=True
    ):
        owners[part] = start + _divided(labels[part], int(workers), alpha, generator, equal_sizes)
    return Partition(owners, n, labels, f"dirichlet(alpha={alpha:g}, groups={groups})")


def _divided(
    labels: np.ndarray, n: int, alpha: float, generator: np.random.Generator, equal_sizes: bool
) -> np.ndarray:
    """Who holds each example, ``(N,)``, by one draw of proportions for each class."""
    classes, codes = np.unique(labels, return_inverse=True)
    totals = np.bincount(codes)
    logs = np.zeros((len(classes), n))
    if alpha != math.inf:
        # Of a Gamma(α) variable U^{1/α} Gamma(α + 1), the logarithm: it does not vanish at small α.
        logs = np.log(generator.gamma(alpha + 1, size=logs.shape))
        logs += np.log(generator.random(logs.shape)) / max(alpha, _SMALLEST_ALPHA)
    wanted = np.exp(logs - logs.max(axis=1, keepdims=True))
    wanted *= (totals / wanted.sum(axis=1))[:, None]
    if equal_sizes:
        sizes = generator.permutation(even(len(labels), n))
        wanted = scaled(logs, totals.astype(float), sizes.astype(float))
        counts = rounded(wanted, totals, sizes)
    else:
        counts = np.stack(
            [rounded_to(row, total) for row, total in zip(wanted, totals, strict=True)]
        )
        give_to_the_empty(counts)
    owners = np.empty(len(labels), dtype=int)
    for code, row in enumerate(counts):
        examples = generator.permutation(np.flatnonzero(codes == code))
        owners[examples] = np.repeat(np.arange(n), row)
    return owners


def shards(labels: ArrayLike, n: int, per_worker: int = 2, seed: int = 0) -> Partition:
    """Examples sorted by class and cut into shards, of which each worker gets a few at random.

    Args:
        labels: ``(N,)``, the class of each example.
        n: workers.
        per_worker: shards for each; few of them mean few classes.
        seed: a whole number.

    Raises:
        ValueError: more shards than examples.

    Source: McMahan et al., "Communication-Efficient Learning of Deep Networks", AISTATS 2017.

    >>> shards([0] * 6 + [1] * 6, n=3, per_worker=1, seed=0).counts().values.tolist()
    [[0, 4], [2, 2], [4, 0]]
    """
    labels, n, generator = _checked(labels, n, seed)
    count = n * whole_number(per_worker, "per_worker", 1)
    if count > len(labels):
        raise ValueError(
            f"{n} workers × {per_worker} shards are more than the {len(labels)} examples; "
            f"take fewer"
        )
    codes = np.unique(labels, return_inverse=True)[1]
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    dealt = np.repeat(np.arange(n), per_worker)
    owners = np.empty(len(labels), dtype=int)
    owners[by_class] = np.repeat(generator.permutation(dealt), even(len(labels), count))
    return Partition(owners, n, labels, f"shards(per_worker={per_worker})")


def feature_drift(
    features: ArrayLike | Matrix,
    n: int,
    strength: float = 1.0,
    direction: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    seed: int = 0,
) -> Partition:
    """Workers see different parts of feature space: examples sorted along a direction and cut.

    Examples are sorted by strength · rank(a·v) + (1 − strength) · random rank.

    Args:
        features: ``(N, p)``, an array or scipy.sparse, all finite.
        n: workers.
        strength: 0 is i.i.d., 1 a clean cut.
        direction: v, ``(p,)``, or the number of a column. By default the direction of largest
            variance, of sparse features of largest second moment.
        labels: ``(N,)``, to be remembered for pictures.
        seed: a whole number.

    Raises:
        ValueError: more workers than examples, entries that are not finite, or a direction or
            labels that do not fit.

    >>> feature_drift([[3.0], [1.0], [2.0], [0.0]], n=2).owners.tolist()
    [1, 0, 1, 0]
    """
    matrix = matrix_of(features)
    strength = real_number(strength, "strength", 0, 1)
    count, width = matrix.shape
    _, n, generator = _checked(np.zeros(count), n, seed)
    if direction is None:
        along = _principal_component(matrix)
    elif np.ndim(direction) == 0:
        along = np.zeros(width)
        column = whole_number(direction, "direction", 0)
        if column >= width:
            raise ValueError(f"direction {column} is no column; there are 0 to {width - 1}")
        along[column] = 1
    else:
        along = real_array(direction, "direction", finite=True)
        if along.shape != (width,):
            raise ValueError(f"direction must have shape (p,) = ({width},), not {along.shape}")
    ranks = np.empty(count)
    ranks[np.argsort(np.asarray(matrix @ along).ravel(), kind="stable")] = np.arange(count)
    key = strength * ranks + (1 - strength) * generator.permutation(count)
    order = np.argsort(key, kind="stable")
    seen = None if labels is None else label_values(labels)
    return _cut(order, even(count, n), seen, f"feature_drift(strength={strength:g})")


def by_size(labels: ArrayLike, n: int, ratio: float = 10.0, seed: int = 0) -> Partition:
    """Examples in random order, in numbers that fall geometrically from worker 0 to worker n − 1.

    Args:
        labels: ``(N,)``, the class of each example.
        n: workers.
        ratio: of the largest number of examples to the smallest, before rounding; at least 1.
        seed: a whole number.

    Raises:
        ValueError: a ratio below 1, or too few examples to give every worker one.

    >>> by_size(np.zeros(21), n=3, ratio=16, seed=0).sizes.tolist()
    [16, 4, 1]
    """
    labels, n, generator = _checked(labels, n, seed)
    ratio = real_number(ratio, "ratio", 1)
    wanted = np.geomspace(ratio, 1, n)
    sizes = 1 + rounded_to(
        np.maximum(wanted * (len(labels) / wanted.sum()) - 1, 0), len(labels) - n
    )
    order = generator.permutation(len(labels))
    return _cut(order, sizes, labels, f"by_size(ratio={ratio:g})")


def _checked(labels: ArrayLike, n: int, seed: int) -> tuple[np.ndarray, int, np.random.Generator]:
    labels = label_values(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be one class for each example, not of shape {labels.shape}")
    n, seed = whole_number(n, "n", 1), whole_number(seed, "seed", 0)
    if n > len(labels):
        raise ValueError(
            f"{len(labels)} examples cannot give {n} workers one each: workers {len(labels)} to "
            f"{n - 1} would have none; take at most {len(labels)} workers"
        )
    return labels, n, np.random.default_rng(seed)


def _cut(order: np.ndarray, sizes: np.ndarray, labels: np.ndarray | None, name: str) -> Partition:
    owners = np.empty(len(order), dtype=int)
    owners[order] = np.repeat(np.arange(len(sizes)), sizes)
    return Partition(owners, len(sizes), labels, name)


def _principal_component(matrix: Matrix) -> np.ndarray:
    """The direction of largest variance (of a sparse matrix: of largest second moment)."""
    if isinstance(matrix, np.ndarray):
        vector = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)[2][0]
    elif not matrix.count_nonzero():
        vector = np.eye(1, matrix.shape[1])[0]
    elif min(matrix.shape) == 1:
        vector = matrix.toarray()[abs(matrix).sum(axis=1).argmax()]
    else:
        start = np.random.default_rng(0).random(min(matrix.shape))
        vector = svds(matrix, k=1, v0=start)[2][0]
    return vector * np.sign(vector[np.argmax(np.abs(vector))])


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
