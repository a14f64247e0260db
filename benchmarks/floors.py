"""What a machine could do at best, measured in the run that is compared with it, and which machine it is."""

import os
import pathlib
import platform
import time

import numpy as np

__all__ = ["floors", "least", "machine", "named"]


def least(times, function, clock=time.thread_time):
    """The shortest of several times, of the processor: the one that other programs disturbed the least."""
    took = []
    for _ in range(times):
        begin = clock()
        function()
        took.append(clock() - begin)
    return min(took)


def floors(n, d, r, diagonal=False):
    """Seconds that the products of a step take, and three copies of the iterates.

    Args:
        n, d, r: workers, parameters and replicas.
        diagonal: whether Hessians are: then products are number by number.

    Returns:
        Both: that of ``(n, d, d)`` matrices with ``(n, d, r)``, at the rate of small products; and that of
        reading and writing x and the messages of both directions, at the rate of copies of that size.
    """
    generator = np.random.default_rng(0)
    x = generator.random((n, d, r))
    out, repeat = np.empty_like(x), max(1, 10**6 // x.size)
    matrices = generator.random((n, d, 1) if diagonal else (n, d, d))
    product = np.multiply if diagonal else np.matmul

    def products():
        for _ in range(repeat):
            product(matrices, x, out=out)

    def copies():
        for _ in range(repeat):
            np.copyto(out, x)

    return least(5, products) / repeat, 3 * least(5, copies) / repeat


def machine():
    """What numbers were taken on, and how busy it was."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {
        "processor": named[0] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": load,
    }


def named(on):
    """The same in a line."""
    busy = "" if on["load"] is None else f", load average {on['load']:g}"
    return f"One core of {on['cores']} of {on['processor']} ({on['system']}{busy}), NumPy {on['numpy']}"
