"""Labelled data: sets that come with scikit-learn, files, tables, arrays, and a generator.

Nothing is downloaded. The bundled sets and the file reader need scikit-learn, the extra ``data``:
``python -m pip install "relaysim[data]"``.
"""

from __future__ import annotations

import importlib
import io
import lzma
import os
import pathlib
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import IO, TYPE_CHECKING, NoReturn

import numpy as np
from scipy.sparse import csr_array

from relaysim.problems.dataset import Dataset
from relaysim.problems.partitions import Partition
from relaysim.problems.tables import from_csv, from_frame, scaled_as_asked
from relaysim.support.checks import (
    real_number,
    true_or_false,
    whole_number,
)
from relaysim.support.names import attribute_error

__all__ = [
    "Dataset",
    "breast_cancer",
    "clusters",
    "digits",
    "from_csv",
    "from_frame",
    "svmlight",
    "synthetic",
    "wine",
]

# What reading a file or unpacking it raises.
_UNREADABLE = (ValueError, OSError, EOFError, OverflowError, zlib.error, lzma.LZMAError)
# Numbers of columns have 32 bits; beyond the second a slip is likelier than so wide a set.
_MOST_COLUMNS = 2**31 - 1
_MOST_UNASKED = 2**28


def breast_cancer(standardize: bool = True) -> Dataset:
    """The Wisconsin diagnostic breast cancer data: 569 examples, 30 features, 2 classes.

    Class 0 is malignant, 1 benign.

    Source: Street, Wolberg, Mangasarian (1993), as bundled with scikit-learn.

    >>> breast_cancer()
    <Dataset breast cancer: 569 examples, 30 features, 2 classes>
    """
    return _bundled("load_breast_cancer", "breast cancer", standardize)


def digits(standardize: bool = True, block: int = 1) -> Dataset:
    """Handwritten digits of 8 × 8 pixels: 1797 examples, 64 features, 10 classes.

    Three pixels are 0 in all of them. How apart the workers' data are depends on who holds which class: split
    over 10 workers by `relaysim.problems.partitions.dirichlet`, ζ² at l2 = 0.01 is .012, .018, .053 and .14
    for α = ∞, 1, .1 and .01, and with ``block=2``, which costs a fraction, .012, .025, .10 and .30.

    Args:
        standardize: shift and scale every feature to mean 0 and variance 1.
        block: 1, 2, 4 or 8: average over squares of so many pixels, of which (8/block)² are left.

    Source: Alpaydin, Kaynak (1998), as bundled with scikit-learn.

    >>> digits(), digits(block=2)
    (<Dataset digits: 1797 examples, 64 features, 10 classes>, <Dataset digits, 4 × 4: ... 16 features, ...>)
    """
    if whole_number(block, "block", 1) not in (1, 2, 4, 8):
        raise ValueError(f"block must be 1, 2, 4 or 8, of which 8 pixels are made up, not {block}")
    true_or_false(standardize, "standardize")
    found = _bundled("load_digits", "digits", standardize and block == 1)
    if block == 1:
        return found
    side = 8 // block
    squares = found.features.reshape(-1, side, block, side, block).mean(axis=(2, 4))
    pooled = Dataset(squares.reshape(-1, side * side), found.labels, f"digits, {side} × {side}")
    return pooled.standardized() if standardize else pooled


def wine(standardize: bool = True) -> Dataset:
    """Chemical analyses of three wines: 178 examples, 13 features, 3 classes.

    Source: Aeberhard, Forina (1991), as bundled with scikit-learn.

    >>> wine()
    <Dataset wine: 178 examples, 13 features, 3 classes>
    """
    return _bundled("load_wine", "wine", standardize)


def svmlight(
    path: str | os.PathLike,
    features: int | Dataset | None = None,
    zero_based: bool | str = "auto",
    *,
    standardize: bool = False,
) -> Dataset:
    """A file in svmlight / LIBSVM format: a line ``label column:value column:value …`` each example.

    Args:
        path: the file; ``.gz``, ``.bz2`` and ``.xz`` are unpacked.
        features: p, the number of columns; the last that occurs by default. A test set whose last columns
            are all 0 needs that of its training set: give the number, or the training set itself, like which
            columns are counted and scaled then.
        zero_based: True: columns count from 0; False: from 1, as the format has it. ``"auto"``: as those of
            the training set did, or else from 1 too, and a file with a column 0 is refused and says so. It is
            not guessed: of a training and a test set, one may use column 0 and the other not, which would
            shift it by one.
        standardize: scale every feature to second moment 1.

    Returns:
        A `Dataset` with sparse features, ``(N, p)``.

    Raises:
        ValueError: a line that cannot be read, with its number; a column before the first or beyond
            ``features``; numbers that are not finite; ``standardize`` beside a training set that is not.
        FileNotFoundError: there is no such file.
    """
    datasets = _sklearn_datasets()
    standardize = true_or_false(standardize, "standardize")
    if not (isinstance(zero_based, str) and zero_based == "auto"):
        zero_based = true_or_false(zero_based, "zero_based")
    training = features if isinstance(features, Dataset) else None
    if training is not None:
        features = training.features.shape[1]
        zero_based = training.zero_based is True if zero_based == "auto" else zero_based
    first = 0 if zero_based is True else 1
    given = None if features is None else whole_number(features, "features", 1)
    if given is not None and given > _MOST_COLUMNS:
        raise ValueError(f"features must be at most {_MOST_COLUMNS}, not {given}")
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")

    def refused(why: str, is_bad: Callable[[bytes], bool]) -> ValueError:
        line = _first_line(path, is_bad)
        where = "" if line is None else f", line {line[0]}{line[1] and f': {line[1]!r}'}"
        return ValueError(f"{os.fspath(path)}{where} {why}")

    def read(lines: IO[bytes]) -> tuple[csr_array, np.ndarray]:
        return datasets.load_svmlight_file(lines, zero_based=True)

    try:
        with _unpacked(path) as file:
            values, labels = read(file)
    except (*_UNREADABLE, MemoryError) as error:
        raise refused(
            f"cannot be read as svmlight ({error}); a line is 'label column:value column:value …'",
            lambda line: _cannot(read, line),
        ) from None
    if not len(labels):
        raise ValueError(f"{os.fspath(path)} holds no example")
    columns = values.indices.astype(np.int64) - first

    def beyond(limit: int) -> Callable[[bytes], bool]:
        return lambda line: bool((read(io.BytesIO(line))[0].indices - first >= limit).any())

    if (columns < 0).any():
        raise refused(
            "has column 0, and columns count from 1; read it with zero_based=True, and the other files "
            "of the same set as well",
            lambda line: bool((read(io.BytesIO(line))[0].indices == 0).any()),
        )
    found = int(columns.max(initial=-1)) + 1
    if given is not None and found > given:
        raise refused(f"has a column beyond features = {given}", beyond(given))
    if given is None and found > _MOST_UNASKED:
        raise refused(
            f"has column {found - 1 + first}, which takes {8 * found / 1e9:.0f} GB for every vector of "
            f"parameters; if it is meant, give features={found}",
            beyond(_MOST_UNASKED),
        )
    if not found and given is None:
        raise ValueError(f"{os.fspath(path)} has no column; give features= if all are 0")
    if not (np.isfinite(values.data).all() and np.isfinite(labels).all()):
        raise refused("has a number that is not finite", lambda line: _has_infinite(read, line))
    shape = (len(labels), found if given is None else given)
    matrix = csr_array((values.data, columns, values.indptr), shape=shape)
    examples = Dataset(matrix, labels, path.name, zero_based=first == 0)
    return scaled_as_asked(examples, standardize, training)


def synthetic(
    examples: int,
    dimension: int,
    *,
    workers: int,
    separability: float = 2.0,
    drift: float = 0.0,
    classes: int = 2,
    seed: int,
) -> Dataset:
    """Gaussian features with labels from a logistic model that drifts from worker to worker.

    a ~ N(0, I); worker i labels by the probabilities softmax(separability · (V + drift · U_i) a) with
    V and every U_i of ``(classes, dimension)`` Gaussian entries of variance 1/dimension, scaled so
    that the classes' scores differ by N(0, separability²) without drift. The workers' models agree
    at drift 0, where ζ² is due to the finite number of examples alone.

    Args:
        examples: in all, in equal numbers for each worker (to within one).
        dimension: number of features.
        workers: n.
        separability: how much scores differ; 0 makes labels random, large values separable.
        drift: how far apart the workers' models are.
        classes: at least 2.
        seed: a whole number.

    Returns:
        A `Dataset` with its ``partition``.

    Raises:
        ValueError: numbers out of range, or too few examples for every class to occur.

    >>> data = synthetic(400, 5, workers=8, drift=1.0, seed=0)
    >>> data, data.partition
    (<Dataset synthetic: 400 examples, 5 features, 2 classes>, <Partition synthetic ...>)
    """
    examples, dimension = (
        whole_number(examples, "examples", 2),
        whole_number(dimension, "dimension", 1),
    )
    workers, classes = whole_number(workers, "workers", 1), whole_number(classes, "classes", 2)
    separability, drift = (
        real_number(separability, "separability", 0),
        real_number(drift, "drift", 0),
    )
    if workers > examples:
        raise ValueError(f"{examples} examples cannot give {workers} workers one each; take fewer")
    generator = np.random.default_rng(whole_number(seed, "seed", 0))
    scale = 1 / np.sqrt(2 * dimension)
    common = scale * generator.standard_normal((classes, dimension))
    own = scale * generator.standard_normal((workers, classes, dimension))
    features = generator.standard_normal((examples, dimension))
    owners = np.sort(np.arange(examples) % workers)
    models = separability * (common + drift * own)
    scores = np.einsum("ncp,np->nc", models[owners], features)
    labels = np.argmax(scores + generator.gumbel(size=scores.shape), axis=1)
    if len(np.unique(labels)) < classes:
        raise ValueError(
            f"with seed {seed} not every one of {classes} classes occurs in {examples} examples; "
            f"take more examples or another seed"
        )
    return Dataset(features, labels, "synthetic", Partition(owners, workers, labels, "synthetic"))


def clusters(
    examples: int,
    dimension: int,
    *,
    classes: int = 10,
    spread: float = 0.3,
    seed: int,
) -> Dataset:
    """Classes with a wide margin: a = c_y + spread · N(0, I) around Gaussian centres c_1, c_2, …

    Examples of a class pull alike, so that nearly all of ζ² is due to who holds which class: with the
    defaults, 1000 examples in 10 dimensions and 10 workers it is .0004 for Dirichlet's α = ∞, and .09 for
    α = .01 (standardized, l2 = 0.01).

    Args:
        examples: in all, in equal numbers for each class (to within one).
        dimension: number of features.
        classes: at least 2.
        spread: standard deviation of each feature within a class; between centres that of the difference of
            two is √2.
        seed: a whole number.

    Raises:
        ValueError: numbers out of range, or fewer examples than classes.

    >>> clusters(200, 5, classes=4, seed=0)
    <Dataset clusters: 200 examples, 5 features, 4 classes>
    """
    classes = whole_number(classes, "classes", 2)
    examples = whole_number(examples, "examples", classes)
    dimension, spread = whole_number(dimension, "dimension", 1), real_number(spread, "spread", 0)
    generator = np.random.default_rng(whole_number(seed, "seed", 0))
    centers = generator.standard_normal((classes, dimension))
    labels = np.arange(examples) % classes
    features = centers[labels] + spread * generator.standard_normal((examples, dimension))
    return Dataset(features, labels, "clusters")


def _bundled(loader: str, name: str, standardize: bool) -> Dataset:
    features, labels = getattr(_sklearn_datasets(), loader)(return_X_y=True)
    found = Dataset(features, labels, name)
    return found.standardized() if true_or_false(standardize, "standardize") else found


def _sklearn_datasets() -> ModuleType:
    try:
        return importlib.import_module("sklearn.datasets")
    except ImportError:
        raise ImportError(
            'this needs scikit-learn; install it with: python -m pip install "relaysim[data]"'
        ) from None


def _cannot(read: Callable, line: bytes) -> bool:
    try:
        read(io.BytesIO(line))
    except _UNREADABLE:
        return True
    return False


def _has_infinite(read: Callable, line: bytes) -> bool:
    features, labels = read(io.BytesIO(line))
    return not (np.isfinite(features.data).all() and np.isfinite(labels).all())


def _unpacked(path: pathlib.Path) -> IO[bytes]:
    """The file to read from, unpacked where its name says that it is packed."""
    packed = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}.get(path.suffix)
    return importlib.import_module(packed).open(path) if packed else path.open("rb")


def _first_line(path: pathlib.Path, is_bad: Callable[[bytes], bool]) -> tuple[int, str] | None:
    """The number and the beginning of the first line that is bad, or that cannot be unpacked."""
    number = 0
    try:
        with _unpacked(path) as file:
            for number, line in enumerate(file, start=1):
                if is_bad(line):
                    return number, line[:60].decode(errors="replace").strip()
    except _UNREADABLE:
        return number + 1, ""
    return None


if not TYPE_CHECKING:  # who reads types is told of a wrong name without it

    def __getattr__(name: str) -> NoReturn:
        raise attribute_error(__name__, name, __all__)
