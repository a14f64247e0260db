"""Hypothesis draws the same examples in every run, without a database; the site is built once."""

import collections
import functools
import gc
import os
import pathlib
import re
import shlex
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Each of two processes uses one core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Some hundred processes are started, of which each would compile the package for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = pathlib.Path(__file__).parents[1]
BUILD = "python -m sphinx -W -b html docs docs/_build/html"

settings.register_profile(
    "relaysim", deadline=None, max_examples=60, derandomize=True, database=None
)
settings.load_profile("relaysim")


@given(st.none())
def begun(_):
    """Hypothesis has its generator, whose owner it looks for among what may be garbage."""


@pytest.hookimpl(hookwrapper=True)
def pytest_collection():
    """All that is collected stays: to look for garbage in it took a third of the time, then a twentieth."""
    gc.disable()
    yield
    begun()
    gc.freeze()
    gc.enable()


def pytest_addoption(parser):
    parser.addoption(
        "--one-in",
        type=int,
        default=1,
        metavar="K",
        help="one in K settings of each test, at least one: other ones for each test",
    )


def one_in(count, items):
    """Of each test's settings one in so many, and the others; which they are depends on the test's name."""
    seen, kept, others = collections.Counter(), [], []
    number = collections.Counter(item.nodeid.split("[")[0] for item in items)
    for item in items:
        name = item.nodeid.split("[")[0]
        first = zlib.crc32(name.encode()) % min(count, number[name])
        (kept if seen[name] % count == first else others).append(item)
        seen[name] += 1
    return kept, others


@pytest.hookimpl(
    hookwrapper=True
)  # before groups are made of the marks, and after some were chosen by them
def pytest_collection_modifyitems(config, items):
    """The site takes a minute to build: what asks for it is slow, and stays in one process."""
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("site"))
    # It takes the longest of all: begun last, it would leave the other process with nothing to do.
    items.sort(key=lambda item: "site" not in getattr(item, "fixturenames", ()))
    yield
    items[:], others = one_in(config.getoption("one_in"), items)
    config.hook.pytest_deselected(items=others)


@pytest.hookimpl(optionalhook=True)  # with pytest-xdist only
def pytest_xdist_make_scheduler(config, log):
    """All settings of a test, and a group, run in one process, as what they share stays there.

    What is done is forgotten: to count after each of six messages a test which of 16,000 are left, and to
    look for the number of each among them, took as long as two hundred tests.
    """
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            return super()._split_scope(nodeid).split("[")[0]

        def mark_test_complete(self, node, item_index, duration=0):
            nodeid, units = self.collection[item_index], self.assigned_work[node]
            unit = units[self._split_scope(nodeid)]
            del unit[nodeid]
            if not unit:
                del units[self._split_scope(nodeid)]
            self._reschedule(node)

        def _pending_of(self, workload):
            return sum(map(len, workload.values()))

        def _assign_work_unit(self, node):
            scope, unit = self.workqueue.popitem(last=False)
            self.assigned_work[node][scope] = unit
            node.send_runtest_some([self._numbers[nodeid] for nodeid in unit])

        @functools.cached_property
        def _numbers(self):
            return {nodeid: number for number, nodeid in enumerate(self.collection)}

    return Scheduling(config, log) if config.option.dist == "loadgroup" else None


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    (line,) = re.findall(
        rf".*{re.escape(BUILD)}$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert line == f'python -m pip install -e ".[docs]" && {BUILD}'
    folder = tmp_path_factory.mktemp("site") / "html"
    _, *arguments = shlex.split(BUILD)
    built = subprocess.run(
        [sys.executable, *arguments[:-1], str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr
    return folder


@pytest.fixture
def step_by_step(monkeypatch):
    """Nothing is compiled, for tests that compare bits of what could be with bits of what cannot."""
    monkeypatch.setenv("RELAYSIM_FAST", "never")
