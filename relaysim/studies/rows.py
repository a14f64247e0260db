"""A row of a store: a setting, and the arrays that came out of it, with a digest of all that."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any, NamedTuple

import numpy as np

from relaysim.studies.earlier import as_meant
from relaysim.studies.settings import former_keys, key_of

__all__ = ["Row", "row_of", "seed_cell"]


class Row(NamedTuple):
    """One result as it is stored; anything may be in it once a file is damaged.

    Attributes:
        key, setting, seed, version: of the setting, and of the relaysim that computed it.
        result: the arrays, packed.
        digest: of all the others; None in stores of format 1, which had none.
        provenance: where it was computed, as JSON; None where it was stored in an older format.
    """

    key: Any
    setting: Any
    seed: Any
    version: Any
    result: Any
    digest: Any
    provenance: Any

    def right_digest(self) -> str:
        """The digest that it should have.

        Raises:
            ValueError: a value of another type than was stored.
        """
        texts = (self.key, self.setting, self.version)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.result, bytes):
            raise ValueError("a value of another type")
        cells = [self.key, self.setting, self.seed, self.version]
        if self.provenance is not None:
            cells.append(self.provenance)
        stated = json.dumps(cells).encode()
        return hashlib.sha256(stated + b"\n" + self.result).hexdigest()

    def what_is_wrong(self) -> str:
        """Why it is not what was stored; nothing if it is."""
        try:
            right = self.right_digest()
            if self.digest is not None:
                return "" if self.digest == right else "its digest is another"
            if not self._has_its_key():
                return "its key is that of another setting"
            self.arrays()
        # Whatever a damaged text or archive leads to.
        except Exception as error:
            return f"{error}" or type(error).__name__
        return ""

    def _has_its_key(self) -> bool:
        """Whether the key is that of the setting, now or in an earlier version."""
        setting = json.loads(self.setting)
        return self.key == key_of(setting) or self.key in former_keys(setting)

    def meant(self) -> dict[str, Any]:
        """The setting, as today's texts say it."""
        setting: dict[str, Any] = json.loads(self.setting)
        if isinstance(setting.get("algorithm"), str):
            setting["algorithm"] = as_meant(setting["algorithm"])
        return setting

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays.

        Raises:
            ValueError, zipfile.BadZipFile, KeyError, EOFError, zlib.error: they cannot be read.
        """
        with zipfile.ZipFile(io.BytesIO(self.result)) as file:
            # Packed as they are: what takes more room than the file was never written by `row_of`.
            if sum(each.file_size for each in file.infolist()) > len(self.result):
                raise ValueError("arrays that are larger than what holds them")
            return {each.removesuffix(".npy"): _array(file.read(each)) for each in file.namelist()}


def _array(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    stated = dtype.itemsize * int(np.prod(shape, dtype=object))
    if dtype.hasobject or stated != len(data) - file.tell():
        raise ValueError(f"an array said to be of {dtype} and shape {shape}, which it is not")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def row_of(
    key: str,
    setting: dict,
    version: str,
    result: dict[str, np.ndarray],
    provenance: dict[str, Any] | None = None,
) -> Row:
    """A row to be stored.

    Raises:
        TypeError: arrays of objects.
    """
    if any(array.dtype.hasobject for array in result.values()):
        raise TypeError("only plain arrays can be stored")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **result)
    row = Row(
        key,
        json.dumps(setting),
        seed_cell(setting["seed"]),
        version,
        buffer.getvalue(),
        None,
        None if provenance is None else json.dumps(provenance),
    )
    return row._replace(digest=row.right_digest())


def seed_cell(seed: int) -> int | str:
    """A seed as SQLite holds it: text where 64 bits are too few, hexadecimal so that it stays text."""
    return seed if seed < 2**63 else hex(seed)
