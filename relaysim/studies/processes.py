"""Groups of settings on several processes, which may be killed, and which end with their parent."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NoReturn, TypeVar

from joblib import Parallel, delayed, effective_n_jobs

__all__ = ["computed", "termination_as_exit"]

Setting = TypeVar("Setting")
Outcomes = list[tuple[Setting, Any]]
KILLED = "its process was killed, as happens where memory is short"


def computed(
    compute: Callable[[list[Setting]], Outcomes], groups: Iterable[list[Setting]], n_jobs: int
) -> Generator[Outcomes]:
    """What ``compute`` makes of each group, in the order in which they are ready.

    Where a process is killed, the groups that were being computed run again, each by itself; for one that
    ends its process even so, the outcome of each setting is a sentence that says this. Closing the
    iterator ends the processes.

    Args:
        compute: from a group to its settings, each with its outcome.
        groups: lists of settings, drawn as processes come free, by other threads too.
        n_jobs: processes; with 1, ``joblib.parallel_config`` decides.
    """
    coming = enumerate(groups)
    begun: dict[int, list[Setting]] = {}
    while True:
        try:
            with contextlib.closing(_as_ready(_tasks(compute, coming, begun), n_jobs)) as done:
                for number, outcomes in done:
                    del begun[number]
                    yield outcomes
            return
        except BrokenProcessPool:
            for number in [*begun]:
                yield _by_itself(compute, begun.pop(number))


def _as_ready(tasks: Iterator[Any], jobs: int) -> Generator[Any]:
    """What comes of tasks, in the order in which it is ready."""
    n_jobs = None if jobs == 1 else jobs
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:
        # Ray's, and some others, only tell when all are ready: some at a time, then.
        parallel = Parallel(n_jobs=n_jobs)
        at_once = 2 * effective_n_jobs(-1 if n_jobs is None else n_jobs)
        while some := [*itertools.islice(tasks, at_once)]:
            yield from parallel(some)
        return
    with contextlib.closing(parallel(tasks)) as done:
        yield from done


def _tasks(
    compute: Callable,
    coming: Iterator[tuple[int, list[Setting]]],
    begun: dict[int, list[Setting]],
) -> Iterator[Any]:
    for number, group in coming:
        begun[number] = group
        yield delayed(_numbered)(compute, number, group)


def _numbered(compute: Callable, number: int, group: list[Setting]) -> tuple[int, Outcomes]:
    """Workers say which group they did, since they finish in any order."""
    return number, compute(group)


def _by_itself(compute: Callable, group: list[Setting]) -> Outcomes:
    """The outcomes of a group in a process of its own; if that is killed, of each of its settings."""
    try:
        # With one job there would be no other process.
        (outcomes,) = Parallel(n_jobs=2, backend="loky")([delayed(compute)(group)])
        return list(outcomes)
    except BrokenProcessPool:
        if len(group) == 1:
            return [(group[0], KILLED)]
    return [outcome for setting in group for outcome in _by_itself(compute, [setting])]


@contextlib.contextmanager
def termination_as_exit() -> Iterator[None]:
    """SIGTERM as an exception, so that processes are ended and files closed, unless somebody handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _: object) -> NoReturn:
        # Once is enough: what follows must not be cut short.
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
