"""What exact analysis takes where one waits for it: a table of calls, with what is asked of each.

    python benchmarks/theory_times.py [WORD …] [--limit SECONDS]

Each row runs in a process of its own, which is stopped after so many seconds of the clock (300). Columns are
seconds of the processor, of which other programs take none, of the clock, and the most memory. WORDs choose
rows that have all of them in their names.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

import relaysim as rs

LIMIT = 300.0


def quadratics(n, d=10):
    return rs.problems.random_quadratics(n=n, d=d, zeta2=1.0, seed=0)


def equal(n, d=1):
    """Hessians that are all the identity."""
    return rs.problems.DiagonalQuadratic(
        np.ones((n, d)), np.random.default_rng(0).normal(size=(n, d))
    )


def best(problem, topology, algorithm):
    return rs.theory.best_learning_rate(problem, topology, algorithm, progress=False)


def stable(problem, topology, algorithm):
    return rs.theory.stable_learning_rates(problem, topology, algorithm, progress=False)


def stationary(problem, topology, algorithm, rate):
    return rs.theory.linearize(problem, topology, algorithm, rate).stationary(1.0)


def plotted(n):
    import matplotlib

    matplotlib.use("agg")
    history = rs.simulate(
        quadratics(n),
        rs.topologies.chain(n),
        rs.algorithms.RelaySGD(),
        learning_rate=0.2,
        steps=500,
        oracle=rs.oracles.Gaussian(0.1),
        progress=False,
    )
    return lambda: history.plot(theory=True)


def consensus():
    x0 = np.random.default_rng(0).normal(size=64)
    times = [0.0, 1.0, 10.0, 200.0]
    return rs.theory.asynchronous_consensus(
        rs.topologies.ring(64), rs.algorithms.A2CiD2(), x0, times
    )


def two_steps():
    n = 10**4
    return rs.simulate(
        equal(n),
        rs.topologies.ring(n),
        rs.algorithms.A2CiD2(),
        learning_rate=0.1,
        steps=2,
        progress=False,
    )


T, A = rs.topologies, rs.algorithms

# By name: seconds asked for on two quiet cores, and the call.
ROWS = {
    "best_learning_rate RelaySGD chain 32 d=10": (
        4,
        lambda: best(quadratics(32), T.chain(32), A.RelaySGD()),
    ),
    "best_learning_rate D2 ring 32 d=10": (3, lambda: best(quadratics(32), T.ring(32), A.D2())),
    "stable_learning_rates RelaySGD chain 32 d=10": (
        2,
        lambda: stable(quadratics(32), T.chain(32), A.RelaySGD()),
    ),
    "stable_learning_rates RelaySGD chain 64 d=10": (
        10,
        lambda: stable(quadratics(64), T.chain(64), A.RelaySGD()),
    ),
    "stable_learning_rates D2 ring 1000 equal Hessians": (
        1,
        lambda: stable(equal(1000), T.ring(1000), A.D2()),
    ),
    "stable_learning_rates LocalSGD(20) n=2 d=1": (
        2,
        lambda: stable(quadratics(2, 1), T.chain(2), A.LocalSGD(20)),
    ),
    "best_learning_rate LocalSGD(20) n=2 d=1": (
        2,
        lambda: best(quadratics(2, 1), T.chain(2), A.LocalSGD(20)),
    ),
    "stable_learning_rates LocalSGD(32) n=2 d=1": (
        2,
        lambda: stable(quadratics(2, 1), T.chain(2), A.LocalSGD(32)),
    ),
    "best_learning_rate LocalSGD(32) n=2 d=1": (
        2,
        lambda: best(quadratics(2, 1), T.chain(2), A.LocalSGD(32)),
    ),
    "best_learning_rate RelaySGD chain 256 d=1": (
        3,
        lambda: best(quadratics(256, 1), T.chain(256), A.RelaySGD()),
    ),
    "best_learning_rate RelaySGD chain 256 d=1 equal Hessians": (
        3,
        lambda: best(equal(256), T.chain(256), A.RelaySGD()),
    ),
    "stationary RelaySGD chain 32 d=10": (
        1,
        lambda: stationary(quadratics(32), T.chain(32), A.RelaySGD(), 0.2),
    ),
    "stationary RelaySGD chain 64 d=10": (
        5,
        lambda: stationary(quadratics(64), T.chain(64), A.RelaySGD(), 0.2),
    ),
    "stationary RelaySGD chain 128 d=10": (
        40,
        lambda: stationary(quadratics(128), T.chain(128), A.RelaySGD(), 0.2),
    ),
    "stationary D2 ring 64 d=50": (
        40,
        lambda: stationary(quadratics(64, 50), T.ring(64), A.D2(), 0.2),
    ),
    "stationary D2 ring 1000 equal Hessians": (
        0.1,
        lambda: stationary(equal(1000), T.ring(1000), A.D2(), 0.2),
    ),
    "key_lemma chain 32": (1, lambda: rs.theory.key_lemma(T.chain(32))),
    "key_lemma chain 64": (4, lambda: rs.theory.key_lemma(T.chain(64))),
    "key_lemma star 512": (3, lambda: rs.theory.key_lemma(T.star(512))),
    "plot(theory=True) RelaySGD chain 64 d=10": (10, lambda: plotted(64)),
    "acceleration_constants ring 10000": (
        3,
        lambda: rs.theory.acceleration_constants(T.ring(10**4)),
    ),
    "simulate A2CiD2 two steps ring 10000": (4, two_steps),
    "effective_neighbors ring 5000": (
        2,
        lambda: rs.theory.effective_neighbors(rs.mixing.metropolis(T.ring(5000)), 0.9),
    ),
    "asynchronous_consensus A2CiD2 ring 64 t=200": (5, consensus),
    "asynchronous_decay A2CiD2 complete 64": (
        1,
        lambda: rs.theory.asynchronous_decay(T.complete(64), A.A2CiD2()),
    ),
    "asynchronous_decay A2CiD2 ring 256": (
        1,
        lambda: rs.theory.asynchronous_decay(T.ring(256), A.A2CiD2()),
    ),
}


def one(name):
    """Run a row here and print what it took."""
    work = ROWS[name][1]
    if name.startswith("plot"):
        work = work()  # the run is not counted
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    taken = {
        "cpu": time.process_time() - cpu,
        "clock": time.perf_counter() - clock,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }
    print(json.dumps(taken))


def measured(name, limit):
    """What a row took in a process of its own: columns of the table."""
    here = pathlib.Path(__file__)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
    command = [sys.executable, str(here), "--one", name]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"> {limit:.0f}", "", ""
    if done.returncode:
        return done.stderr.strip().splitlines()[-1], "", ""
    found = json.loads(done.stdout.splitlines()[-1])
    return f"{found['cpu']:.2f}", f"{found['clock']:.2f}", f"{found['memory']:.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one)
        return
    print(
        "| call | asked | CPU seconds | seconds | memory, MB |", "|---|---|---|---|---|", sep="\n"
    )
    for name, (asked, _) in ROWS.items():
        if all(word.lower() in name.lower().split() for word in given.words):
            print(f"| {name} | {asked} | {' | '.join(measured(name, given.limit))} |", flush=True)


if __name__ == "__main__":
    main()
