"""How long the explorer keeps a user waiting: pytest benchmarks -n 0 --benchmark-enable -s -k explorer"""

import itertools

import pytest

import relaysim as rs

# Seconds until the picture has followed a slider: what a user waits gladly, so it is not a ratio.
PATIENCE = 0.5


@pytest.mark.parametrize("moved", ["learning rate", "workers"])
def test_an_update(benchmark, moved):
    explorer = rs.explore(n=64, methods=["RelaySGD", "GradientTracking", "DPSGD"], steps=300)
    explorer.controls["n"].value = 60
    control, values = {
        "learning rate": (explorer.rows[1].learning_rate, [0.1, 0.2, 0.3, 0.4, 0.45]),
        # All is made anew: problem, topology, spanning tree, three runs.
        "workers": (explorer.controls["n"], [64, 63, 62]),
    }[moved]
    coming = itertools.cycle(values)

    def update():
        control.value = next(coming)

    before = explorer.picture.value
    benchmark.pedantic(update, rounds=7)
    assert explorer.picture.value != before
    if benchmark.disabled:
        return
    seconds = benchmark.stats.stats.min
    print(f"\nexplorer, other {moved}: the picture follows in {seconds:.2f} s")
    assert seconds < PATIENCE
