"""Labelled examples, who holds them, and what their columns are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array, issparse

from relaysim.problems.partitions import Partition
from relaysim.support.checks import label_values, real_matrix, real_number, whole_number
from relaysim.support.display import html_table

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """What features are shifted and divided by, each first by a power of two: (a 2^−e − mean) / size.

    Attributes:
        exponents: e, ``(p,)``.
        mean: ``(p,)``; 0 for sparse features.
        size: ``(p,)``; infinite where a feature becomes 0, as one that is constant does.
    """

    exponents: np.ndarray
    mean: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray | csr_array) -> Scaling:
        """To mean 0 and variance 1, or second moment 1 where they are sparse."""
        if issparse(features):
            sparse = csr_array(features, copy=True)
            sparse.sum_duplicates()
            exponents = _exponents(abs(sparse).max(axis=0).toarray().reshape(-1))
            sparse.data = np.ldexp(sparse.data, -exponents[sparse.indices])
            size = np.sqrt(sparse.multiply(sparse).mean(axis=0))
            return cls(exponents, np.zeros(len(size)), np.where(size > 0, size, np.inf))
        exponents = _exponents(np.abs(features).max(axis=0))
        near_one = np.ldexp(features, -exponents)
        mean = near_one.mean(axis=0)
        size = (near_one - mean).std(axis=0)
        constant = size <= 1e-12 * np.abs(near_one).max(axis=0)
        return cls(exponents, mean, np.where(constant, np.inf, size))

    def applied(self, features: np.ndarray | csr_array) -> np.ndarray | csr_array:
        """The features so scaled."""
        if issparse(features) and not self.mean.any():
            sparse = csr_array(features, copy=True)
            sparse.sum_duplicates()
            sparse.data = np.ldexp(sparse.data, -self.exponents[sparse.indices])
            return sparse.multiply(1 / self.size)
        if issparse(features):
            raise ValueError(
                "sparse features cannot be shifted like those of this training set; give them as an array, "
                "features.toarray()"
            )
        shifted = np.ldexp(features, -self.exponents) - self.mean
        return np.where(np.isinf(self.size), 0, shifted / self.size)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and their classes.

    Attributes:
        features: ``(N, p)``, an array, or a csr_array if any form of scipy.sparse was given.
        labels: ``(N,)``.
        name: for captions.
        partition: who holds which example, where the data come with it, else None.
        columns: what the features are called, ``(p,)``, where the data say so, else None.
        scalings: by what the features were shifted and divided, see `standardized`; nothing as they come.
        sources: of which column of a table each is, ``(p,)``: itself, or one of words of which it is a kind;
            None where `columns` is.
        zero_based: whether its file counted columns from 0, where it came from one that counts, else None.

    >>> Dataset(np.eye(4), np.array([0, 1, 0, 1]), "unit vectors")
    <Dataset unit vectors: 4 examples, 4 features, 2 classes>
    """

    features: np.ndarray | csr_array = field(repr=False)
    labels: np.ndarray = field(repr=False)
    name: str = "given"
    partition: Partition | None = None
    columns: tuple[str, ...] | None = None
    scalings: tuple[Scaling, ...] = field(default=(), repr=False)
    zero_based: bool | None = field(default=None, repr=False)
    sources: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", real_matrix(self.features, "features"))
        object.__setattr__(self, "labels", label_values(self.labels))
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(
                f"features must be (N, p) and labels (N,), not {self.features.shape} and "
                f"{self.labels.shape}"
            )
        if self.sources is not None and len(self.sources) != len(self.columns or ()):
            raise ValueError(
                f"sources are of the {len(self.columns or ())} columns, one each, not {len(self.sources)}"
            )

    @property
    def classes(self) -> np.ndarray:
        """The classes, sorted."""
        return np.unique(self.labels)

    def standardized(self, like: Dataset | None = None) -> Dataset:
        """Every feature shifted and scaled to mean 0 and variance 1; constant ones become 0.

        Sparse features are scaled to second moment 1, not shifted.

        Args:
            like: the training set, for a test set: its features' means and variances, and not those here.

        Raises:
            ValueError: a training set of other features, or one that was scaled in another way before.

        >>> training = Dataset([[0.0], [4.0]], [0, 1]).standardized()
        >>> Dataset([[4.0], [6.0]], [1, 1]).standardized(like=training).features.tolist()
        [[1.0], [2.0]]
        """
        chosen = (Scaling.of(self.features),) if like is None else self._to_be_as(like)
        features = self.features
        for scaling in chosen:
            features = scaling.applied(features)
        return replace(self, features=features, scalings=(*self.scalings, *chosen))

    def _to_be_as(self, like: Dataset) -> tuple[Scaling, ...]:
        """What was done to the features of a training set, and not yet to these."""
        if self.features.shape[1] != like.features.shape[1]:
            raise ValueError(
                f"{self!r} and the training set {like!r} must have as many features as each other"
            )
        whole = like.scalings or (Scaling.of(like.features),)
        done = len(self.scalings)
        if self.scalings != whole[:done]:
            raise ValueError(
                f"{self!r} was standardized by itself; give it as it was before, to be scaled like {like!r}"
            )
        return whole[done:]

    def split(self, test: float = 0.25, seed: int = 0) -> tuple[Dataset, Dataset]:
        """A training and a test set, with the same mix of classes, at random.

        Args:
            test: the fraction of each class that goes to the test set, in (0, 1).
            seed: a whole number.

        Raises:
            ValueError: a class of which both sets cannot have an example.

        Features are left as they are: `standardized` on the whole set has used the test set's means, and
        ``testing.standardized(like=training)`` does not.
        """
        test = real_number(test, "test", 0, 1)
        generator = np.random.default_rng(whole_number(seed, "seed", 0))
        chosen = np.zeros(len(self.labels), dtype=bool)
        for label in self.classes:
            of_class = np.flatnonzero(self.labels == label)
            count = round(test * len(of_class))
            if not 0 < count < len(of_class):
                raise ValueError(
                    f"class {label!s} has {len(of_class)} examples: a test fraction of {test:g} "
                    f"leaves one of the two sets without it"
                )
            chosen[generator.permutation(of_class)[:count]] = True
        training, testing = (
            replace(
                self,
                features=self.features[np.flatnonzero(part)],
                labels=self.labels[part],
                name=f"{self.name}, {which}",
                partition=None,
            )
            for part, which in ((~chosen, "training set"), (chosen, "test set"))
        )
        return training, testing

    def _repr_html_(self) -> str:
        examples, width = self.features.shape
        rows = [
            ("examples", examples),
            ("features", f"{width}, {'sparse' if issparse(self.features) else 'dense'}"),
            ("classes", len(self.classes)),
            ("comes with a partition", self.partition is not None),
        ]
        return html_table(f"Dataset {self.name}", rows)

    def __repr__(self) -> str:
        sparse = ", sparse" if issparse(self.features) else ""
        examples, width = self.features.shape
        return (
            f"<Dataset {self.name}: {examples} examples, {width} features, "
            f"{len(self.classes)} classes{sparse}>"
        )


def _exponents(sizes: np.ndarray) -> np.ndarray:
    """Powers of two by which columns are divided first, to no rounding: squares of any unit then fit."""
    return np.frexp(sizes)[1]
