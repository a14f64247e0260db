"""Hypothesis draws the same examples in every run, and keeps no database of failures."""

from hypothesis import settings

settings.register_profile(
    "relaysim", deadline=None, max_examples=60, derandomize=True, database=None
)
settings.load_profile("relaysim")
