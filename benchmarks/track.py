"""Speed over time: a commit's times as JSON, two commits in paired runs, and README's table.

    python benchmarks/track.py keep [COMMIT]      measures a commit, HEAD by default: results/COMMIT.json
    python benchmarks/track.py compare OLD NEW    measures two in turns, which other programs disturb alike
    python benchmarks/track.py readme [COMMIT]    writes README's table from what was kept of a commit

Each commit is unpacked into a folder of its own and runs in a process of its own, with one thread for linear
algebra. All are times of the processor, in short chunks: of one commit the shortest counts, of two the median
of the ratios of neighbouring chunks. Where Numba is installed, what is kept of a commit is measured without
and with it. README's table is to be taken on a machine with nothing else to do: it says how busy it was.
"""

import argparse
import functools
import importlib.util
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
from floors import machine, named
from loops import relaysgd_loop
from tqdm import tqdm

HERE = pathlib.Path(__file__).resolve().parent
ROOT, RESULTS = HERE.parent, HERE / "results"
BEGIN, END = "<!-- speed: written by benchmarks/track.py -->", "<!-- speed: end -->"
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


@functools.cache
def quadratics(n, d=10):
    import relaysim as rs

    return rs.problems.random_quadratics(n=n, d=d, zeta2=1.0, mu=0.25, seed=0)


@functools.cache
def logistic():
    import relaysim as rs

    generator = np.random.default_rng(0)
    features = generator.normal(size=(16, 36, 30))
    labels = features[..., 0] + generator.normal(size=(16, 36)) > 0
    return rs.problems.Logistic(features, labels, l2=0.05)


def simulated(problem, graph, method, n, replicas, steps, columns=True):
    """Steps of a method, with all columns at every step or none but at the end."""
    import relaysim as rs

    topology, algorithm = getattr(rs.topologies, graph)(n), getattr(rs.algorithms, method)()
    rates = 0.05 if replicas == 1 else np.linspace(0.01, 0.1, replicas)
    record = 1 if columns else [steps]
    rs.simulate(problem(), topology, algorithm, learning_rate=rates, steps=steps, record=record)


def loop(n, steps):
    """RelaySGD as a plain NumPy loop over workers."""
    import relaysim as rs

    problem = quadratics(n)
    graph = rs.topologies.chain(n).to_networkx()
    hessian = np.einsum("nij,nik->jk", problem.A, problem.A) / n
    neighbours = [sorted(graph[i]) for i in range(n)]
    relaysgd_loop(problem.A, problem.b, neighbours, 0.2, steps, problem.optimum, hessian)


def settings():
    """By name: what runs so many steps, how many in a chunk, and of how many replicas."""
    found = {}
    for n in (32, 96):
        problem = functools.partial(quadratics, n)
        found[f"loop, n = {n}"] = functools.partial(loop, n), 20, 1
        for replicas, steps in ((1, 1000), (30, 150)):
            run = functools.partial(simulated, problem, "chain", "RelaySGD", n, replicas)
            found[f"RelaySGD, n = {n}, r = {replicas}"] = run, steps, replicas
    for method in ("DPSGD", "D2", "GradientTracking", "QuasiGlobalMomentum"):
        run = functools.partial(simulated, functools.partial(quadratics, 32), "ring", method, 32, 1)
        found[f"{method}, n = 32, r = 1"] = run, 1000, 1
    for replicas, steps in ((1, 600), (30, 100)):
        for columns in (False, True):
            run = functools.partial(
                simulated, logistic, "ring", "DPSGD", 16, replicas, columns=columns
            )
            what = "all columns" if columns else "no columns"
            found[f"logistic, {what}, r = {replicas}"] = run, steps, replicas
    problem = functools.partial(quadratics, 64, 100)
    run = functools.partial(simulated, problem, "ring", "A2CiD2", 64, 1)
    found["A2CiD2, n = 64, d = 100, a unit"] = run, 100, 1
    return found


def serve():
    """Answer each name on the standard input with the µs of a step and replica, or with what is wrong."""
    known = settings()
    warm = set()
    for line in sys.stdin:
        run, steps, replicas = known[line.strip()]
        try:
            if line not in warm:
                warm.add(line)
                run(steps=steps)
            begin = time.thread_time()
            run(steps=steps)
            answer = {"us": (time.thread_time() - begin) / steps / replicas * 1e6}
        except Exception as error:  # an older commit may lack what a setting needs
            answer = {"wrong": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


class Measured:
    """A commit that measures itself in a process of its own."""

    def __init__(self, commit, folder, fast=None):
        archive = git("archive", commit, "relaysim", text=False)
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(folder)}
        if fast is not None:
            environment["RELAYSIM_FAST"] = "" if fast else "never"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )

    def chunk(self, name):
        """µs of a step and replica in a chunk of steps; None where the commit cannot run it."""
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline()).get("us")

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def git(*arguments, text=True):
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=text
    ).stdout


def measured(commits, rounds):
    """For each setting the chunks of each commit, in turns: ``{name: [[µs, …], …]}``.

    Commits may be pairs of one and whether it runs with Numba.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = []
        try:
            for k, commit in enumerate(commits):
                place = pathlib.Path(folder, str(k))
                place.mkdir()
                commit, fast = commit if isinstance(commit, tuple) else (commit, None)
                running.append(Measured(commit, place, fast))
            found = {}
            for name in tqdm(settings()):
                rows = [[each.chunk(name) for each in running] for _ in range(rounds)]
                found[name] = [list(chunks) for chunks in zip(*rows, strict=True)]
            return found
        finally:
            for each in running:
                each.close()


def shortest(chunks):
    return None if None in chunks else min(chunks)


def keep(commit, rounds):
    """Write what a commit takes to its file in `RESULTS`."""
    name = git("rev-parse", "--short=10", commit).strip()
    before = machine()
    ways = {"us a step and replica": False}
    if importlib.util.find_spec("numba"):
        ways["us a step and replica with Numba"] = True
    found = measured([(commit, fast) for fast in ways.values()], rounds)
    times = {
        way: {
            setting: None if (least := shortest(chunks[k])) is None else round(least, 4)
            for setting, chunks in found.items()
        }
        for k, way in enumerate(ways)
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = {"commit": name, "machine": before} | times
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


def compare(old, new, rounds):
    """Print the times of two commits and the median of their ratios, chunk by neighbouring chunk."""
    print(f"| µs a step and replica | {old} | {new} | new / old |\n| --- | --- | --- | --- |")
    for setting, (before, after) in measured([old, new], rounds).items():
        if None in before or None in after:
            times = [
                "—" if shortest(each) is None else f"{min(each):.2f}" for each in (before, after)
            ]
            print(f"| {setting} | {times[0]} | {times[1]} | — |")
            continue
        ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
        print(f"| {setting} | {min(before):.2f} | {min(after):.2f} | {ratio:.2f} |")


def speed_table(kept):
    """README's lines between its marks, from what was kept of a commit."""
    times = kept["us a step and replica"]
    with_numba = kept.get("us a step and replica with Numba", {})

    def row(what, name, loop=None, bare=None):
        cells = [what]
        for each in (times, with_numba):
            ours = each.get(name)
            without = "" if bare is None or ours is None else f"; {each[bare]:.3g} without columns"
            cells.append("" if ours is None else f"{ours:,.3g}{without}")
            cells.append("" if ours is None or loop is None else f"{times[loop] / ours:.0f}")
        return f"| {' | '.join(cells)} |"

    lines = [
        f"{named(kept['machine'])}, commit",
        f"{kept['commit']}, times of the processor, without and with the extra `fast`:",
        "",
        "| all columns recorded at every step | µs per step and replica | times faster than the loop | with "
        "`fast` | times faster |",
        "|" + " --- |" * 5,
    ]
    for n in (32, 96):
        for replicas in (1, 30):
            many = "" if replicas == 1 else f", {replicas} replicas"
            what = f"RelaySGD on a chain, d = 10, n = {n}{many}"
            lines.append(row(what, f"RelaySGD, n = {n}, r = {replicas}", f"loop, n = {n}"))
    for replicas in (1, 30):
        many = "" if replicas == 1 else f", {replicas} replicas"
        names = [f"logistic, {which} columns, r = {replicas}" for which in ("all", "no")]
        lines.append(row(f"logistic regression, 16 × 36 × 30{many}", names[0], bare=names[1]))
    name = "A2CiD2, n = 64, d = 100, a unit"
    lines.append(row("A²CiD², n = 64, d = 100, a unit of time", name))
    return lines


def readme(commit):
    """Write README's table from what was kept of a commit."""
    name = git("rev-parse", "--short=10", commit).strip()
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise SystemExit(
            f"nothing is kept of {name}; first: python benchmarks/track.py keep {commit}"
        )
    kept = json.loads(path.read_text("utf-8"))
    page = ROOT / "README.md"
    text = page.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(
            f"README.md has no lines {BEGIN} and {END}; put them where the table belongs"
        )
    table = "\n".join(speed_table(kept))
    page.write_text(f"{head}{BEGIN}\n{table}\n\n{END}{tail}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="what the others start; not to be called")
    for command, what in (("keep", keep), ("compare", compare), ("readme", readme)):
        known = commands.add_parser(command, help=what.__doc__)
        if command == "compare":
            known.add_argument("old")
            known.add_argument("new")
        else:
            known.add_argument("commit", nargs="?", default="HEAD")
        if command != "readme":
            known.add_argument("--rounds", type=int, default=9, help="chunks of each, 9 by default")
    given = vars(parser.parse_args())
    {"serve": serve, "keep": keep, "compare": compare, "readme": readme}[given.pop("command")](
        **given
    )


if __name__ == "__main__":
    main()
