"""Inputs as accidents change them: a seeded stream of damaged copies of a file or a text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# What a hand, a program or a bad line puts where it does not belong.
_INSERTED = (
    *(
        b"",
        b"\x00",
        b"\n",
        b" ",
        b"-",
        b"e",
        b":",
        b",",
        b"(",
        b")",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"'",
    ),
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"1e-320", b"99999999999", b"18446744073709551617"),
    *(b"null", b"true", b"\xff\xfe", "γ".encode(), b"PK\x03\x04", b"D2()", b"__import__('os')"),
)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """So many damaged copies of ``data``, each different from it; the same for the same seed."""
    random = np.random.default_rng(seed)
    while count:
        damaged = data
        for _ in range(int(random.integers(1, 4))):
            damaged = _WAYS[random.integers(len(_WAYS))](damaged, random)
        if damaged != data:
            count -= 1
            yield damaged


def _flipped(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[random.integers(len(changed))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data) + 1)]


def _swapped(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if len(changed) > 1:
        one, other = random.integers(len(changed), size=2)
        changed[one], changed[other] = changed[other], changed[one]
    return bytes(changed)


def _overwritten(data: bytes, random: np.random.Generator) -> bytes:
    start, length = random.integers(len(data) + 1), int(random.integers(1, 9))
    return data[:start] + random.bytes(length) + data[start + length :]


def _inserted(data: bytes, random: np.random.Generator) -> bytes:
    place = random.integers(len(data) + 1)
    return data[:place] + _INSERTED[random.integers(len(_INSERTED))] + data[place:]


def _cut_out(data: bytes, random: np.random.Generator) -> bytes:
    start, length = random.integers(len(data) + 1), int(random.integers(1, 33))
    return data[:start] + data[start + length :]


def _doubled(data: bytes, random: np.random.Generator) -> bytes:
    start, stop = sorted(random.integers(len(data) + 1, size=2))
    return data[:stop] + data[start:]


_WAYS = (_flipped, _flipped, _truncated, _swapped, _overwritten, _inserted, _cut_out, _doubled)
