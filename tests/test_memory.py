"""What would not fit in memory is refused before anything starts, with what would fit."""

import time
import tracemalloc

import numpy as np
import pytest

import relaysim as rs
from relaysim import cli
from relaysim.engine import estimate
from relaysim.support.checks import size_in_bytes

PROBLEM = rs.problems.random_quadratics(n=4, d=2, zeta2=1.0, seed=0)
RING = rs.topologies.ring(4)


def run(**options):
    options = {"learning_rate": 0.1, "steps": 10} | options
    return rs.simulate(PROBLEM, RING, rs.algorithms.DPSGD(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"replicas": 10**8, "steps": 3},
            r"100000000 replicas would take [\d.]+ GB of memory .*; take fewer: up to",
        ),
        ({"seed": range(10**8), "steps": 3}, r"take fewer: up to \d+ fit"),
        ({"learning_rate": np.broadcast_to(0.1, 10**8)}, "100000000 replicas"),
        (
            {"replicas": 10**8, "steps": 100},
            r"101 records of 100000000 replicas .* or take up to \d+",
        ),
    ],
)
def test_many_replicas_are_refused_at_once(monkeypatch, options, message):
    monkeypatch.setattr(estimate, "memory_bytes", lambda: 16 * 10**9)
    began = time.process_time()
    with pytest.raises(ValueError, match=message):
        run(**options)
    assert time.process_time() - began < 1


def number_after(words, caught):
    return int("".join(c for c in str(caught.value).partition(words)[2].split()[0] if c.isdigit()))


@pytest.mark.parametrize("options", [{}, {"oracle": rs.oracles.Gaussian(0.1)}, {"record": 10}])
def test_what_is_said_to_fit_does_and_one_more_does_not(options):
    limit = {"max_memory": 200_000, **options}
    with pytest.raises(ValueError, match="max_memory allows 200 kB") as caught:
        run(replicas=5000, **limit)
    most = number_after("up to ", caught)
    assert run(replicas=most, **limit).replicas == most
    with pytest.raises(ValueError, match="max_memory"):
        run(replicas=most + 1, **limit)


def test_the_records_that_fit():
    with pytest.raises(ValueError, match="10001 records would take") as caught:
        run(steps=10_000, max_memory="100 kB")
    every = number_after("record=", caught)
    assert every > 1
    run(steps=10_000, record=every, max_memory="100 kB")
    with pytest.raises(ValueError, match="max_memory"):
        run(steps=10_000, record=every - 1, max_memory="100 kB")


@pytest.mark.usefixtures("step_by_step")
def test_a_run_takes_what_is_said_at_the_least():
    options = {"replicas": 8000, "steps": 20}
    need = estimate.need_of({"problem": PROBLEM, "learning_rate": 0.1, **options})
    run(**options)
    tracemalloc.start()
    run(**options, keep_state=False)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.6 * most < need.bytes < most


def test_sweeps_are_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "relaysim.studies.sweeps._run_group", lambda *group: pytest.fail("something ran")
    )
    settings = {"n": 4, "d": 2, "learning_rate": 0.1, "seed": range(50), "steps": 100}
    with pytest.raises(
        ValueError, match=r"RelaySGD\(.*\) on chain\(4\), a group of 50 settings: 101 records"
    ):
        rs.sweep(settings, max_memory="100 kB", progress=False)
    with pytest.raises(ValueError, match="max_memory allows 300 kB for 2 processes"):
        rs.sweep(settings, max_memory="300 kB", n_jobs=2, progress=False)
    file = tmp_path / "sweep.toml"
    file.write_text("n = 4\nlearning_rate = 0.1\nsteps = 100000\n")
    assert cli.main(["sweep", str(file), "--max-memory", "1 MB"]) == 2
    command = "run --n 4 --learning-rate 0.1 --steps 100000 --max-memory"
    assert cli.main([*command.split(), "1 MB"]) == 2
    said = capsys.readouterr().err
    assert said.count("100001 records would take 8") == 2
    assert cli.main([*command.split(), "lots"]) == 2
    assert "max_memory must be a number of bytes, or a size such as '2 GB', not 'lots'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("value", ["", "2 gb", "-1 GB", 0, float("nan"), True, None, "1..2 GB"])
def test_bad_sizes(value):
    with pytest.raises(ValueError, match="must be a number of bytes, or a size such as '2 GB'"):
        size_in_bytes(value, "max_memory")
