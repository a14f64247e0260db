"""What holds of every run, on a few drawn ones; `benchmarks/fuzz.py` draws as many as are asked for."""

import pytest
from hypothesis import given, settings
from properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds_of_runs_that_are_drawn(name):
    drawn, check = PROPERTIES[name]
    settings(max_examples=12)(given(drawn)(check))()
