"""What pytest is told: to follow which lines a test passes, or to run some tests in an order."""

from __future__ import annotations

import pathlib
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

#: Seconds of a core after which a test is given up: there are cheaper ones.
LONG = 0.7
#: Calls of a function in a test whose lines are followed; of further calls only that there were some.
FOLLOWED = 3


class Tracer:
    """For each test that passes: its seconds, and the lines of the watched files that it went through."""

    def __init__(self, root: pathlib.Path, files: list[str]):
        self._watched = {str(root / file): file for file in files}
        self._calls: dict[int, int] = {}
        self._lines: dict[str, set[int]] = {}
        self._passed: dict[str, bool] = {}
        self._seconds: dict[str, float] = {}
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        """Follow one test, with what it sets up."""
        self._calls, self._lines = {}, {}
        began = time.perf_counter()
        threading.settrace(self._entered)
        sys.settrace(self._entered)
        yield
        sys.settrace(None)
        threading.settrace(None)
        if self._passed.get(item.nodeid):
            self.tests[item.nodeid] = {
                "seconds": round(time.perf_counter() - began, 4),
                "lines": {file: sorted(lines) for file, lines in self._lines.items()},
            }

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item):
        """End it when it takes long."""
        signal.signal(signal.SIGVTALRM, _took_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, LONG)
        yield
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note whether it passed."""
        if report.when == "call":
            self._passed[report.nodeid] = report.outcome == "passed"

    def _entered(self, frame: FrameType, event: str, argument: object):
        code = frame.f_code
        key = id(code)
        calls = self._calls.get(key, 0)
        if calls > FOLLOWED:
            return None
        self._calls[key] = calls + 1
        if (file := self._watched.get(code.co_filename)) is None:
            self._calls[key] = FOLLOWED + 1
            return None
        lines = self._lines.setdefault(file, set())
        lines.add(code.co_firstlineno)

        def passed(frame: FrameType, event: str, argument: object):
            if event == "line":
                lines.add(frame.f_lineno)
            return passed

        return passed


def _took_long(number: int, frame: FrameType | None) -> None:
    pytest.skip("takes long")


class Chosen:
    """Some of the tests that were collected, in this order."""

    def __init__(self, tests: list[str]):
        self._place = {test: place for place, test in enumerate(tests)}
        self.failed: str | None = None
        self.ran = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the others."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._place),
            key=lambda item: self._place[item.nodeid],
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported."""
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first that failed."""
        self.ran += report.when == "call"
        if report.failed:
            self.failed = self.failed or report.nodeid
