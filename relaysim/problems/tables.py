"""Labelled examples from tables: features, a column with the class, perhaps one with who holds the row."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from relaysim.problems.dataset import Dataset
from relaysim.problems.partitions import Partition
from relaysim.support.checks import label_values, shown, true_or_false
from relaysim.support.names import closest, names_of_workers
from relaysim.support.notes import note

__all__ = ["from_csv", "from_frame"]

# A column of more kinds is hardly one of kinds: names, or numbers written as words.
MOST_KINDS = 100


def from_frame(
    df: pd.DataFrame,
    label: Hashable,
    worker: Hashable | None = None,
    *,
    worker_names: Iterable[Any] | None = None,
    like: Dataset | None = None,
    standardize: bool = False,
    name: str = "table",
) -> Dataset:
    """Labelled examples from a DataFrame, a row each: a column is their class, others are features.

    Numbers are features as they are, True and False are 1 and 0, and a column of words or categories becomes
    one column of 0 and 1 for each of its kinds, in order; a note says so.

    Args:
        df: a table without missing values.
        label: the column with the class of each row.
        worker: the column that says who holds each row, which becomes the ``partition``; without it the set
            is whole. Workers are sorted, and keep their names.
        worker_names: all workers, in the order in which they are numbered, such as ``topology.worker_names``.
        like: the training set, for a test set: its columns, in its order, whatever kinds occur here, and
            scaled by what those were where it is standardized.
        standardize: shift and scale every feature to mean 0 and variance 1.
        name: for captions.

    Returns:
        A `Dataset`, with ``columns`` and, where a worker column is given, a ``partition``.

    Raises:
        KeyError: there is no such column, with the closest one.
        ValueError: missing or infinite values, a worker without rows or one that is not named, a kind or a
            column that the training set does not have, ``standardize`` beside one that is not.
        TypeError: what is no DataFrame, or a column of neither numbers nor kinds.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"age": [61, 47, 52, 70], "smokes": [True, False, False, True],
    ...                    "ill": ["no", "no", "yes", "yes"], "site": ["Rome", "Oslo", "Oslo", "Rome"]})
    >>> data = from_frame(df, label="ill", worker="site")
    >>> data.columns, data.partition.worker_names, data.partition.owners.tolist()
    (('age', 'smokes'), ('Oslo', 'Rome'), [1, 0, 0, 1])
    """
    if not isinstance(df, pd.DataFrame):
        raise TypeError(
            f"from_frame takes a DataFrame of pandas, not {shown(df)}; of arrays make a Dataset(features, "
            f"labels)"
        )
    if worker is None and worker_names is not None:
        raise ValueError("worker_names are of the workers in a column; say which: worker=…")
    special = [label] if worker is None else [label, worker]
    for column in special:
        _require_column(df, column)
    if worker == label:
        raise ValueError(f"label and worker are both {label!r}; they are two columns")
    labels = label_values(_classes(df[label], label))
    features, sources = _features(df.drop(columns=special), like)
    partition = None if worker is None else _partition(df[worker], worker, worker_names, labels)
    columns, of = tuple(sources), tuple(sources.values())
    found = Dataset(features, labels, name, partition, columns, sources=of)
    return scaled_as_asked(found, standardize, like)


def from_csv(
    path: str | os.PathLike,
    label: Hashable,
    worker: Hashable | None = None,
    *,
    worker_names: Iterable[Any] | None = None,
    like: Dataset | None = None,
    standardize: bool = False,
    **options: Any,
) -> Dataset:
    """Labelled examples from a file of comma-separated values; see `from_frame`.

    Args:
        path: the file; ``.gz``, ``.bz2``, ``.xz`` and ``.zip`` are unpacked.
        label, worker, worker_names, like, standardize: as for `from_frame`.
        options: further arguments of ``pandas.read_csv``, such as ``sep=";"`` or ``index_col=0``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read as a table, or rows have more fields than there are names.
        KeyError, TypeError: as `from_frame`.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "people.csv")
    ...     with open(path, "w") as file:
    ...         _ = file.write("age,ill,site\\n61,no,Rome\\n47,no,Oslo\\n52,yes,Oslo\\n70,yes,Rome\\n")
    ...     from_csv(path, label="ill", worker="site")
    <Dataset people.csv: 4 examples, 1 features, 2 classes>
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    try:
        frame = _read(path, options)
    except pd.errors.ParserWarning:
        raise ValueError(
            f"rows of {os.fspath(path)} have more fields than its first line has names, so that it cannot be "
            f"told which is which; if the first field is the row's name, give index_col=0, or all names, as "
            f"names=[…] with header=0"
        ) from None
    except (ValueError, OSError, EOFError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{os.fspath(path)} cannot be read as comma-separated values ({error}); say what differs, such "
            f'as sep=";" or header=None'
        ) from None
    return from_frame(
        frame,
        label,
        worker,
        worker_names=worker_names,
        like=like,
        standardize=standardize,
        name=path.name,
    )


def _read(path: pathlib.Path, options: dict[str, Any]) -> pd.DataFrame:
    """The table; pandas by itself takes fields beyond the names for names of rows, and shifts the others."""
    if options.get("engine") != "pyarrow":
        options = {"index_col": False} | options
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
        return pd.read_csv(path, **options)


def scaled_as_asked(found: Dataset, standardize: bool, like: Dataset | None) -> Dataset:
    """Standardized by its training set if that is, by itself if there is none.

    Raises:
        ValueError: it should be standardized, and its training set is not.
    """
    standardize = true_or_false(standardize, "standardize")
    if like is not None and like.scalings:
        return found.standardized(like=like)
    if standardize and like is not None:
        raise ValueError(
            f"standardize=True, and the training set {like!r} is as it came: features of the two would not "
            f"mean the same; read both with it, or both without"
        )
    return found.standardized() if standardize else found


def _require_column(df: pd.DataFrame, column: Hashable) -> None:
    count = int((df.columns == column).sum())
    if count == 0:
        hint = closest(str(column), [str(each) for each in df.columns])
        raise KeyError(f"the table has no column {column!r}{hint}")
    if count > 1:
        raise ValueError(f"the table has {count} columns {column!r}; give each a name of its own")


def _require_whole(column: pd.Series, name: Hashable) -> None:
    """Raise where values are missing."""
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"column {name!r} has {int(missing.sum())} missing values, the first in row "
            f"{int(np.argmax(missing))}; fill them in, as with df.fillna(…), or leave these rows out, "
            f"df.dropna()"
        )


def _as_booleans(column: pd.Series) -> pd.Series:
    """As it is, but for one of objects that are all True or False, such as what `fillna` leaves."""
    if types.is_object_dtype(column.dtype) and all(
        isinstance(value, bool | np.bool_) for value in column
    ):
        return column.astype(bool)
    return column


def _classes(column: pd.Series, name: Hashable) -> np.ndarray:
    _require_whole(column, name)
    column = _as_booleans(column)
    if _is_of_kinds(column):
        return column.astype(str).to_numpy(dtype=str)
    return column.to_numpy()


def _is_of_kinds(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return True
    is_words = types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)
    return is_words and all(isinstance(value, str | bool | np.bool_) for value in column)


def _features(df: pd.DataFrame, like: Dataset | None) -> tuple[np.ndarray, dict[str, str]]:
    """Columns of numbers, and by what they are called of which column of the table each is."""
    if not len(df):
        raise ValueError("the table has no rows")
    if not df.shape[1]:
        raise ValueError(
            "the table has no column beside the label's and the worker's; add features"
        )
    parts: dict[str, np.ndarray] = {}
    sources: dict[str, str] = {}
    kinds_of: dict[str, int] = {}
    for name in df.columns:
        _require_column(df, name)
        column = df[name]
        _require_whole(column, name)
        column = _as_booleans(column)
        if _is_of_kinds(column):
            found = _one_hot(column, str(name))
            kinds_of[str(name)] = len(found)
        else:
            found = {str(name): _numbers(column, name)}
        twice = next((each for each in found if each in parts), None)
        if twice is not None:
            raise ValueError(f"two columns would be called {twice!r}; rename one")
        parts |= found
        sources |= dict.fromkeys(found, str(name))
    if kinds_of and like is None:
        listed = ", ".join(f"{name!r} ({count} kinds)" for name, count in kinds_of.items())
        note(
            f"columns of words or categories became a column of 0 and 1 for each kind: {listed}; leave out "
            f"what is no feature, df.drop(columns=[…])"
        )
    if like is not None:
        parts, sources = _as_in(like, parts, sources, len(df))
    return np.stack(list(parts.values()), axis=1), sources


def _numbers(column: pd.Series, name: Hashable) -> np.ndarray:
    if column.dtype.kind not in "fiub":
        raise TypeError(
            f"column {name!r} is of {column.dtype}, neither numbers nor kinds; make it numbers, such as "
            f"df[{name!r}].astype(float), or leave it out"
        )
    values = column.to_numpy(dtype=float)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"column {name!r} has {values[bad][0]} in row {int(np.argmax(bad))}")
    return values


def _one_hot(column: pd.Series, name: str) -> dict[str, np.ndarray]:
    """For each kind where it is, as ``name=kind``; of a category all kinds that it may have."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        kinds = [str(kind) for kind in column.cat.categories]
    else:
        kinds = sorted({str(kind) for kind in column})
    if len(kinds) > MOST_KINDS:
        raise ValueError(
            f"column {name!r} has {len(kinds)} kinds, and {MOST_KINDS} at most become columns of their own; "
            f"make it numbers, or leave it out"
        )
    words = column.astype(str).to_numpy(dtype=object)
    return {f"{name}={kind}": (words == kind).astype(float) for kind in kinds}


def _as_in(
    like: Dataset, parts: dict[str, np.ndarray], sources: dict[str, str], rows: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The columns of the training set; kinds that do not occur here are nowhere."""
    if like.columns is None:
        raise ValueError(
            f"{like!r} does not say what its columns are; read it with from_frame or from_csv too"
        )
    kinds_of = {source for name, source in sources.items() if source != name}
    # A Dataset made by hand does not say which columns are kinds.
    heads = ((name, name.partition("=")[0]) for name in like.columns)
    guessed = [head if head in kinds_of else name for name, head in heads]
    of_training = dict(zip(like.columns, like.sources or guessed, strict=True))
    for name, values in parts.items():
        if of_training.get(name, sources[name]) != sources[name]:
            raise ValueError(
                f"column {name!r} of the training set is of its column {of_training[name]!r}, and here of "
                f"{sources[name]!r}; rename one"
            )
        if name not in like.columns and not (sources[name] in kinds_of and not values.any()):
            raise ValueError(
                f"column {name!r} is none of the training set's{closest(name, like.columns)}; the two "
                f"tables need the same columns and kinds"
            )
    absent = [
        name
        for name, source in of_training.items()
        if name not in parts and not (source != name and source in kinds_of)
    ]
    if absent:
        raise ValueError(f"the training set has a column {absent[0]!r}, and this table has none")
    nowhere = np.zeros(rows)
    return {name: parts.get(name, nowhere) for name in like.columns}, of_training


def _partition(
    column: pd.Series, name: Hashable, worker_names: Iterable[Any] | None, labels: np.ndarray
) -> Partition:
    _require_whole(column, name)
    if worker_names is None:
        try:
            values, places = np.unique(column.to_numpy(), return_inverse=True)
        except TypeError:
            raise TypeError(
                f"column {name!r} names workers by things of different kinds, which have no order; make them "
                f"one, as with df[{name!r}].astype(str)"
            ) from None
        return Partition(places, len(values), labels, f"by {name}", values.tolist())
    named = list(worker_names)
    words = names_of_workers(named, len(named)) or tuple(map(str, named))
    position = {word: k for k, word in enumerate(words)}
    held = column.astype(str)
    unknown = ~held.isin(position)
    if unknown.any():
        stray = held[unknown].iloc[0]
        raise ValueError(
            f"column {name!r} names worker {stray!r}, which is none of worker_names{closest(stray, words)}"
        )
    owners = held.map(position).to_numpy(dtype=int)
    return Partition(owners, len(words), labels, f"by {name}", words)
