"""One thread for the arithmetic, so that sums are taken in one order whatever the machine and the process."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from joblib import Parallel, delayed
from threadpoolctl import ThreadpoolController

from relaysim.support.checks import whole_number

__all__ = ["check_jobs", "in_processes", "one_thread", "threads", "usable_threads"]

Found = TypeVar("Found")

# That a context allows; None for all that there are.
_most_threads: int | None = None


@contextlib.contextmanager
def threads(count: int | None) -> Generator[None]:
    """A context in which linear algebra uses so many threads; with None as many as before.

    >>> with threads(None):
    ...     pass
    """
    global _most_threads
    before = _most_threads
    if count is not None:
        _most_threads = count
    try:
        with _controller(len(sys.modules)).limit(limits=count, user_api="blas"):
            yield
    finally:
        _most_threads = before


@functools.lru_cache(maxsize=1)
def _controller(modules: int) -> ThreadpoolController:
    """Of the libraries that are loaded, to look for which takes milliseconds: they come with modules."""
    return ThreadpoolController()


def usable_threads() -> int:
    """How many threads loops of our own may use: as many as there are processors, or as `threads` says.

    >>> with one_thread():
    ...     usable_threads()
    1
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_most_threads or there or 1, there or 1)


def one_thread() -> contextlib.AbstractContextManager:
    """A context in which linear algebra uses one thread.

    BLAS splits its sums over threads, and sums in another order differ in the last bits. Worker processes
    have fewer threads each than the process that started them.

    >>> with one_thread():
    ...     pass
    """
    return threads(1)


def in_processes(
    function: Callable[..., Found], cells: Iterable[tuple], n_jobs: int
) -> Generator[Found]:
    """What a function makes of each cell's arguments, in their order; each call computes with one thread.

    Args:
        function: from the arguments of a cell to what is wanted of it.
        cells: tuples of arguments.
        n_jobs: processes; with 1, ``joblib.parallel_config`` decides.

    >>> list(in_processes(pow, [(2, 3), (3, 2)], n_jobs=1))
    [8, 9]
    """
    check_jobs(n_jobs)
    parallel = Parallel(n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator")
    return parallel(delayed(_with_one_thread)(function, cell) for cell in cells)


def check_jobs(n_jobs: object) -> None:
    """Raise TypeError or ValueError for what is no number of processes; None is ``joblib.parallel_config``'s.

    >>> check_jobs(0)
    Traceback (most recent call last):
        ...
    ValueError: n_jobs must be a number of processes, or -1 for one on each core, not 0
    """
    if n_jobs is not None and whole_number(n_jobs, "n_jobs", -sys.maxsize) == 0:
        raise ValueError("n_jobs must be a number of processes, or -1 for one on each core, not 0")


def _with_one_thread(function: Callable[..., Any], cell: tuple) -> Any:
    with one_thread():
        return function(*cell)
