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
class Dataset:
    """Examples and their classes.

    Attributes:
        features: ``(N, p)``, an array, or a csr_array if any form of scipy.sparse was given.
        labels: ``(N,)``.
        name: for captions.
        partition: who holds which example, where the data come with it, else None.
        columns: what the features are called, ``(p,)``, where the data say so, else None.

    >>> Dataset(np.eye(4), np.array([0, 1, 0, 1]), "unit vectors")
    <Dataset unit vectors: 4 examples, 4 features, 2 classes>
    """

    features: np.ndarray | csr_array = field(repr=False)
    labels: np.ndarray = field(repr=False)
    name: str = "given"
    partition: Partition | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", real_matrix(self.features, "features"))
        object.__setattr__(self, "labels", label_values(self.labels))
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(
                f"features must be (N, p) and labels (N,), not {self.features.shape} and "
                f"{self.labels.shape}"
            )

    @property
    def classes(self) -> np.ndarray:
        """The classes, sorted."""
        return np.unique(self.labels)

    def standardized(self) -> Dataset:
        """Every feature shifted and scaled to mean 0 and variance 1; constant ones become 0.

        Sparse features are scaled to second moment 1, not shifted.
        """
        if issparse(self.features):
            sparse = csr_array(self.features, copy=True)
            sparse.sum_duplicates()
            sizes = abs(sparse).max(axis=0).toarray().reshape(-1)
            sparse.data = np.ldexp(sparse.data, -_exponents(sizes)[sparse.indices])
            scale = np.sqrt(sparse.multiply(sparse).mean(axis=0))
            factors = np.divide(1, scale, out=np.zeros(len(scale)), where=scale > 0)
            features = sparse.multiply(factors)
        else:
            sizes = np.abs(self.features).max(axis=0)
            near_one = np.ldexp(self.features, -_exponents(sizes))
            shifted = near_one - near_one.mean(axis=0)
            scale = shifted.std(axis=0)
            constant = scale <= 1e-12 * np.abs(near_one).max(axis=0)
            features = np.where(constant, 0, shifted / np.where(constant, 1, scale))
        return replace(self, features=features)

    def split(self, test: float = 0.25, seed: int = 0) -> tuple[Dataset, Dataset]:
        """A training and a test set, with the same mix of classes, at random.

        Args:
            test: the fraction of each class that goes to the test set, in (0, 1).
            seed: a whole number.

        Raises:
            ValueError: a class of which both sets cannot have an example.

        Features are left as they are: `standardized` on the whole set has used the test set's means.
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
            Dataset(
                self.features[np.flatnonzero(part)],
                self.labels[part],
                f"{self.name}, {which}",
                columns=self.columns,
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
