"""Hypothesis draws the same examples in every run, and keeps no database of failures."""

import os

import pytest
from hypothesis import settings

# Each of two processes uses one core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile(
    "relaysim", deadline=None, max_examples=60, derandomize=True, database=None
)
settings.load_profile("relaysim")


@pytest.hookimpl(tryfirst=True)  # before groups are made of the marks
def pytest_collection_modifyitems(items):
    """The site takes a minute to build: what asks for it is slow, and stays in one process."""
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("site"))
