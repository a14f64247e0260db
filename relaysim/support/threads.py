"""One thread for the arithmetic, so that sums are taken in one order whatever the machine and the process."""

from __future__ import annotations

import contextlib

from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]


def one_thread() -> contextlib.AbstractContextManager:
    """A context in which linear algebra uses one thread.

    BLAS splits its sums over threads, and sums in another order differ in the last bits. Worker processes
    have fewer threads each than the process that started them.

    >>> with one_thread():
    ...     pass
    """
    return threadpool_limits(limits=1, user_api="blas")
