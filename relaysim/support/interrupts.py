"""Ctrl-C, and the stop button of a notebook: a run that is asked to stop ends after the step under way."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["StopRequest", "called_by_user", "stops_after", "stops_in_order"]


class StopRequest:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def make(self) -> None:
        """Ask."""
        self.made = True


@contextlib.contextmanager
def stops_in_order(wanted: bool = True) -> Iterator[StopRequest]:
    """The first Ctrl-C is a request; a second one raises KeyboardInterrupt, as the first does elsewhere.

    Args:
        wanted: False leaves all as it is, as do threads other than the main one.
    """
    request = StopRequest()
    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not wanted or not is_main or usual is not signal.default_int_handler:
        yield request
        return

    def asked(number: int, frame: FrameType | None) -> None:
        request.made = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, asked)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, usual)


@contextlib.contextmanager
def stops_after(seconds: float) -> Iterator[StopRequest]:
    """A request that is made when so much time has passed."""
    request = StopRequest()
    timer = threading.Timer(seconds, request.make)
    timer.daemon = True
    timer.start()
    try:
        yield request
    finally:
        timer.cancel()


def called_by_user(*doors: str) -> bool:
    """Whether the functions of these names were called from outside relaysim, not by a sweep or a figure."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("relaysim."):
        if frame.f_code.co_name not in doors:
            return False
        frame = frame.f_back
    return True
