"""How long the explorer keeps a user waiting: pytest benchmarks -n 0 --benchmark-enable -s -k explorer"""

import itertools

import pytest
from floors import least

import relaysim as rs
from relaysim.explorer.budget import SEARCH_SECONDS

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


@pytest.mark.parametrize(("method", "topology"), [("RelaySGD", "chain"), ("D2", "ring")])
def test_a_rate_moves_with_theory_beside_it(benchmark, method, topology):
    """n = 32, d = 10, with noise: rate and floor beside the slider; stable rates are found in parts."""
    given = {"n": 32, "d": 10, "topology": topology, "methods": [method], "sigma2": 0.1}
    explorer = rs.explore(**given, theory=True)
    (row,) = explorer.rows
    coming = itertools.cycle((0.02, 0.1, 0.3))
    benchmark.pedantic(lambda: row.take_rate(next(coming)), rounds=6)
    assert "noise floor" in row.told.value
    if benchmark.disabled:
        return
    part = least(1, lambda: explorer.find_the_rest(SEARCH_SECONDS))
    seconds = benchmark.stats.stats.median
    print(
        f"\nexplorer, {method} with theory: {seconds:.2f} s; a part of what comes after: {part:.2f} s"
    )
    assert seconds < PATIENCE
    assert part < PATIENCE
