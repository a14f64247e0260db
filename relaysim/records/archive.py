"""Plain data and arrays in one ``.npz`` file: arrays as they are, JSON for the rest, no pickle.

The JSON holds a digest of all that is in the file. Sizes are compared with the machine's memory, and with
each other, before anything is unpacked.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TypeAlias

import numpy as np

from relaysim.records.state import fingerprint
from relaysim.support.checks import require_memory
from relaysim.support.files import written_aside

__all__ = ["FORMAT", "UNREADABLE", "Described", "names_of_arrays", "read", "write"]

#: Shape and dtype of an array.
Described: TypeAlias = tuple[tuple[int, ...], np.dtype]

FORMAT = 1
ENDING = ".npz"
#: What reading damaged archives raises, and plain data that are not what they were.
UNREADABLE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,  # encrypted, or nested without end
    SyntaxError,  # the description of an array
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# More than deflate can make of a byte.
_MOST_EXPANSION = 1100
# Whether an array would become smaller is told by so many pieces of so many bytes.
_PIECES, _PIECE = 4, 1 << 15
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write(
    path: str | os.PathLike, header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> pathlib.Path:
    """Write plain data, in which there may be arrays as well, and arrays by name; returns the path.

    The file is written aside and renamed, so that an older one is replaced only by a whole one.
    """
    path = pathlib.Path(path)
    if path.suffix != ENDING:
        path = path.with_name(path.name + ENDING)
    arrays = dict(arrays)
    plain = {"format": FORMAT} | {key: _detach(value, key, arrays) for key, value in header.items()}
    plain["digest"] = _digest(json.loads(json.dumps(plain)), arrays)
    text = np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)
    with written_aside(path) as aside, open(aside, "wb") as file:
        _pack(file, {"header": text} | arrays)
    return path


def _pack(file: IO[bytes], arrays: dict[str, np.ndarray]) -> None:
    """As `numpy.savez_compressed` does, but for arrays that would not become smaller, which most of its time
    would be for.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = (
                zipfile.ZIP_DEFLATED if _becomes_smaller(array) else zipfile.ZIP_STORED
            )
            with archive.open(member, "w", force_zip64=True) as to:
                np.lib.format.write_array(to, np.asanyarray(array), allow_pickle=False)


def _becomes_smaller(array: np.ndarray) -> bool:
    """Whether deflating it would save a tenth, from pieces of it."""
    if array.nbytes <= 2 * _PIECE:
        return True
    size = _PIECE // array.dtype.itemsize
    starts = np.linspace(0, array.size - size, _PIECES).astype(int).tolist()
    pieces = b"".join(array.flat[start : start + size].tobytes() for start in starts)
    return len(zlib.compress(pieces, 1)) < 0.9 * len(pieces)


def read(
    path: str | os.PathLike, check: Callable[[dict[str, Any], Mapping[str, Described]], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write` wrote.

    Files of version 0.1 have no digest: of them, only the checksums of the archive can be compared.

    Args:
        path: the file.
        check: is given the plain data, and shape and dtype of each array by name, before any array is
            unpacked; raises ValueError where they do not fit.

    Raises:
        ValueError: the file is none of these, damaged, of a newer format, or larger than memory.
    """
    path = pathlib.Path(path)
    if not path.exists() and path.suffix != ENDING:
        path = path.with_name(path.name + ENDING)
    named = repr(os.fspath(path))
    try:
        with zipfile.ZipFile(path) as file:
            described = _described(file)
            if "header" not in described:
                raise ValueError("it has no header")
            header = json.loads(_array(file, "header").tobytes())
            version = header.pop("format")
            if version > FORMAT:
                raise _NewerError(
                    f"{named} has format {version} and this version reads up to {FORMAT}; update relaysim"
                )
            del described["header"]
            check(header, described)
            arrays = {name: _array(file, name) for name in described}
        digest = header.pop("digest", None)
        if digest is not None and digest != _digest({"format": version} | header, arrays):
            raise ValueError("what is in it is not what was written; take another copy of it")
        return _attach(header, arrays), arrays
    except (FileNotFoundError, _NewerError):
        raise
    except UNREADABLE as error:
        what = f"{error}" if str(error) else type(error).__name__
        raise ValueError(f"{named} is not a saved relaysim history, or damaged: {what}") from error


class _NewerError(ValueError):
    """A file that a later version wrote."""


def _digest(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    return fingerprint({"plain": plain, "arrays": arrays})


def _described(file: zipfile.ZipFile) -> dict[str, Described]:
    """Shape and dtype of each array by name; what is said of sizes agrees, and fits in memory."""
    found: dict[str, Described] = {}
    for each in file.infolist():
        name = each.filename.removesuffix(".npy")
        if name == each.filename or name in found:
            raise ValueError(f"it has a member {each.filename!r} too many")
        if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is packed in a way that is not relaysim's")
        if each.file_size > _MOST_EXPANSION * each.compress_size + 1000:
            raise ValueError(
                f"{name} is said to hold {each.file_size} bytes in {each.compress_size}"
            )
        with file.open(each) as member:
            shape, dtype = _stated(member)
            stated = member.tell() + dtype.itemsize * math.prod(shape)
        if dtype.kind not in "biufU" or stated != each.file_size:
            raise ValueError(
                f"{name} is said to be of {dtype} and shape {shape}, and has {each.file_size} bytes"
            )
        found[name] = shape, dtype
    total = sum(each.file_size for each in file.infolist())
    require_memory(
        total, "what it says it holds", "read it on a larger machine, or take another copy of it"
    )
    return found


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read(1)  # the end, where the checksum is compared
    return array


def _stated(member: IO[bytes]) -> Described:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version}")
    shape, _, dtype = _HEADERS[version](member)
    return shape, dtype


def names_of_arrays(value: Any) -> Iterator[str]:
    """Of those that plain data in a file refer to."""
    if isinstance(value, dict):
        if value.get("type") == "array":
            yield value["name"]
        for item in value.values():
            yield from names_of_arrays(item)
    elif isinstance(value, list):
        for item in value:
            yield from names_of_arrays(item)


def _detach(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Move the arrays within plain data into ``arrays``, leaving their names behind."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"type": "array", "name": name}
    if isinstance(value, dict):
        return {key: _detach(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_detach(item, f"{name}/{k}", arrays) for k, item in enumerate(value)]
    return value


def _attach(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.get("type") == "array":
            return arrays[value["name"]]
        return {key: _attach(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_attach(item, arrays) for item in value]
    return value
