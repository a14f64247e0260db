"""What the bits of a result depend on beside its settings: versions, linear algebra, the machine."""

from __future__ import annotations

import functools
import pathlib
import platform
from typing import Any

import numpy as np
import scipy
from threadpoolctl import ThreadpoolController

from relaysim.support import fast
from relaysim.version import __version__

__all__ = ["provenance"]

_CPUINFO = pathlib.Path("/proc/cpuinfo")


def provenance() -> dict[str, Any]:
    """Versions of relaysim, Python, NumPy, SciPy and Numba, BLAS with its threads, and the machine, as plain
    data; Numba's is None where steps are not compiled.

    >>> found = provenance()
    >>> found["numpy"] == np.__version__, sorted(found)
    (True, ['blas', 'machine', 'numba', 'numpy', 'python', 'relaysim', 'scipy', 'threads'])
    """
    blas = _linear_algebra().info()
    # NumPy's and SciPy's are two copies of a library as a rule.
    names = {" ".join(_said(each)) for each in blas}
    threads = max((each["num_threads"] for each in blas), default=1)
    changing = {"blas": ", ".join(sorted(names)) or "unknown", "threads": threads}
    return _lasting() | changing | {"numba": fast.version()}


@functools.cache
def _linear_algebra() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _said(blas: dict[str, Any]) -> list[str]:
    keys = ("internal_api", "version", "architecture")
    return [str(blas[key]) for key in keys if blas.get(key)]


@functools.cache
def _lasting() -> dict[str, Any]:
    """What stays as it is while a process runs."""
    return {
        "relaysim": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
    }


def _processor() -> str:
    """The model of the processor, where the system tells."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"
