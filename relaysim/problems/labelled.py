"""Labelled examples as a user gives them, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from relaysim.problems.dataset import Dataset
from relaysim.problems.matrices import Matrix, matrix_of, stacked
from relaysim.problems.partitions import Partition
from relaysim.support.checks import unmasked

__all__ = ["classes_of", "label_array", "pooled_examples"]


def pooled_examples(
    features: Any, labels: Any, partition: Partition | Iterable[Any] | None
) -> tuple[Matrix, np.ndarray, Partition]:
    """Examples one below the other, and who holds which; sparse if any worker's are."""
    if isinstance(features, Dataset):
        raise TypeError(
            "features must be the arrays of the data set: for a Dataset called data write "
            "Logistic(data.features, data.labels, l2=…, partition=…)"
        )
    if labels is None:
        raise TypeError("labels are missing; give the class of each example")
    if partition is not None:
        features, labels = matrix_of(features), label_array(labels)
        _require_one_label_each(features.shape[0], labels, "")
        return features, labels, Partition.of(partition, len(labels))
    one_array = not issparse(features) and not isinstance(features, list | tuple)
    if issparse(features) or (one_array and np.ndim(features) == 2):
        raise ValueError(
            f"features of shape {features.shape} are not split over workers; give "
            f"partition=relaysim.problems.partitions.iid(labels, n=16, seed=0), or another of them"
        )
    if one_array and np.ndim(features) != 3:
        raise ValueError(
            f"features must have shape (n, m, p), not {np.shape(features)}; or give a sequence of n "
            f"matrices, or one matrix and a partition"
        )
    if not len(features):
        raise ValueError("features hold no worker")
    if len(labels) != len(features):
        raise ValueError(
            f"features are of {len(features)} workers and labels of {len(labels)}; make them equal"
        )
    each = [matrix_of(part, f" of worker {i}") for i, part in enumerate(features)]
    of_each = [label_array(part, f" of worker {i}") for i, part in enumerate(labels)]
    for i, (part, own) in enumerate(zip(each, of_each, strict=True)):
        _require_one_label_each(part.shape[0], own, f" of worker {i}")
        if part.shape[1] != each[0].shape[1]:
            raise ValueError(
                f"features of worker {i} have {part.shape[1]} columns and those of worker 0 "
                f"{each[0].shape[1]}; make them equal"
            )
    sizes = [len(own) for own in of_each]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return stacked(each), np.concatenate(of_each), Partition.of(owners, len(owners), len(sizes))


def _require_one_label_each(count: int, labels: np.ndarray, where: str) -> None:
    if len(labels) != count:
        raise ValueError(
            f"features{where} hold {count} examples and there are {len(labels)} labels; give one "
            f"label for each example"
        )


def label_array(labels: ArrayLike, where: str = "") -> np.ndarray:
    """One label for each example: whole numbers, bools or strings."""
    array = np.asarray(unmasked(labels, f"labels{where}"))
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.ravel()):
        array = array.astype(str)
    if array.ndim != 1:
        raise ValueError(
            f"labels{where} must be one class for each example, not of shape {array.shape}"
        )
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.round(array))
        if not whole.all():
            first = int(np.argmin(whole))
            raise ValueError(
                f"labels{where} must be classes: label {first} is {array[first]!s}; "
                f"give whole numbers or strings"
            )
    elif array.dtype.kind not in "iubU":
        raise TypeError(
            f"labels{where} must be classes, as whole numbers, bools or strings, not {array.dtype}"
        )
    return array


def classes_of(labels: np.ndarray, classes: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """All classes (those of the labels where None are named), and the number of each example's."""
    present, codes = np.unique(labels, return_inverse=True)
    if classes is None:
        if len(present) < 2:
            raise ValueError(f"all labels are {present[0]!s}; two classes are needed at least")
        if len(present) > max(20, len(labels) / 2):
            raise ValueError(
                f"the {len(labels)} labels take {len(present)} values: they are hardly classes; "
                f"name all of them in classes= if they are"
            )
        return present, codes
    wanted = label_array(classes)
    if len(np.unique(wanted)) != len(wanted) or len(wanted) < 2:
        raise ValueError(f"classes must be two or more, each named once, not {list(wanted)}")
    unknown = ~np.isin(present, wanted)
    if unknown.any():
        raise ValueError(f"label {present[unknown][0]!s} is none of the classes {list(wanted)}")
    missing = ~np.isin(wanted, present)
    if missing.any():
        raise ValueError(
            f"class {wanted[missing][0]!s} is missing from the {len(labels)} examples; add some, or "
            f"leave it out of classes"
        )
    numbers = np.argmax(wanted == present[:, None], axis=1)
    return wanted, numbers[codes]
