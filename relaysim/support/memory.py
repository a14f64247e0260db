"""How much there is in memory: what cannot fit is refused before it is asked for."""

from __future__ import annotations

import os
import pathlib

__all__ = ["memory_bytes", "require_memory", "size_text"]

# What a container may use, in the two forms that Linux has.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Where the system does not tell.
_ASSUMED = 2**40


def memory_bytes() -> int:
    """The memory of this machine, or of the container that this process runs in."""
    try:
        least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        least = _ASSUMED
    for path in _LIMITS:
        try:
            least = min(least, int(pathlib.Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return least


def require_memory(needed: float, what: str, mend: str) -> None:
    """Raise where so many bytes cannot fit, with both sizes.

    >>> require_memory(1e18, "the iterates", "record less often")
    Traceback (most recent call last):
        ...
    ValueError: the iterates would take 1 EB of memory...; record less often
    """
    there = memory_bytes()
    if needed > there:
        raise ValueError(
            f"{what} would take {size_text(needed)} of memory and this machine has {size_text(there)}; "
            f"{mend}"
        )


def size_text(number: float) -> str:
    """Bytes in a unit that suits them.

    >>> size_text(12), size_text(1.5e9)
    ('12 B', '1.5 GB')
    """
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"
