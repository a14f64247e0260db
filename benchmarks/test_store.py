"""What a sweep's store costs: pytest benchmarks -n 0 --benchmark-enable -s -k store"""

import itertools

import numpy as np

from relaysim.studies import Store
from relaysim.studies.experiment import DEFAULTS

# Seconds a result of six columns of 501 records; a limit of a slow disk, so it is not a ratio.
SECONDS = 0.005


def test_adding_a_group(benchmark, tmp_path):
    arrays = {f"column{k}": np.zeros(501) for k in range(6)}
    setting = dict(DEFAULTS)
    numbers = itertools.count()
    with Store(tmp_path / "speed.db") as kept:

        def add():
            group = next(numbers)
            kept.add([(f"{group}-{j}", setting, arrays) for j in range(4)], "0")

        benchmark.pedantic(add, rounds=50)
        assert len(kept.keys()) == 4 * next(numbers)
    if benchmark.disabled:
        return
    seconds = benchmark.stats.stats.mean / 4
    print(f"\nstore: {seconds * 1e3:.2f} ms a result")
    assert seconds < SECONDS
