"""Small wrong changes to relaysim: does a test fail?

``python benchmarks/mutants/run.py --sample 400 --seed 0`` takes 400 places of the source, changes each in a
copy of the tree, and runs the tests that pass through that place, until one fails. It prints who survived and
a table; ends with 1 if more than 3 % of those that change anything survive. What is done stays in the folder
(build/mutants), and the same command goes on where it was. The first time, each test is traced once, which
takes as long as the fast tests.

A survivor that changes nothing that could be told stands, with its reason, in reviewed.txt. Needs a system
that can fork.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import _exit as leave  # without what ends a process that was not forked
from types import FunctionType

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is there

import pandas as pd
import pytest
from edits import Edit, edits_of, shuffled
from patching import Key, changed_functions, functions_of, patch
from tqdm.auto import tqdm
from watched import Chosen, Tracer

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
REVIEWED = HERE / "reviewed.txt"

AREAS = {
    "network": ["relaysim/network"],
    "algorithms": ["relaysim/algorithms"],
    "mixing": ["relaysim/mixing"],
    "theory": ["relaysim/theory"],
    "compressors": ["relaysim/compressors.py"],
    "store": [
        "relaysim/studies/claims.py",
        "relaysim/studies/owners.py",
        "relaysim/studies/processes.py",
        "relaysim/studies/reruns.py",
        "relaysim/studies/rows.py",
        "relaysim/studies/store.py",
        "relaysim/studies/stretches.py",
        "relaysim/studies/upkeep.py",
    ],
    "faults": ["relaysim/faults"],
}
#: Tests of other rooms, of pictures and of pages: they take long, and seldom fail where no other does.
LEFT_OUT = """
analysis bibliography cli comparison data explore extend fast feature_split figures howto interrupts layering
logistic mechanism memory minibatch mutations notebooks own_functions problem_check problems schedules
sensitivity separable settings site soak tables topologies track tuning
"""
#: It is loaded before each process is forked; not so pytest's own plugins.
PYTEST = [
    "-q",
    "-n",
    "0",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
]
#: Seconds of tests, as traced, that a change is given at most, first and then.
FIRST, THEN = 5.0, 20.0
#: Then it is given so many of those that took too long to be traced, for so many seconds.
MOST_LONG, LONG_SECONDS = 30, 120.0
#: A change runs into the time limit after so many times what its tests took, and some seconds.
PATIENCE, SPARE = 6.0, 40.0
MEMORY = 6 << 30
ALIVE = 0.03


@dataclass
class Traced:
    """The lines of each test, by the file it stands in, and the sources they were lines of."""

    folder: pathlib.Path
    tests: dict[str, dict] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    long: list[str] = field(default_factory=list)
    new: set[str] = field(default_factory=set)

    def read(self, tree: pathlib.Path) -> None:
        """All that is there; of sources that have changed since, only which files a test entered counts."""
        for path in sorted(self.folder.glob("*.json")):
            if path.name == "collected.json":
                continue
            kept = json.loads(path.read_text("utf-8"))
            self.tests |= kept["tests"]
            self.stale |= {
                file for file, digest in kept["sources"].items() if digest_of(tree / file) != digest
            }
        collected = self.folder / "collected.json"
        if collected.exists():
            self.collected(json.loads(collected.read_text("utf-8")))

    def collected(self, tests: list[str]) -> None:
        """All that there are: what is not known of them took too long to be followed."""
        self.long = [name for name in tests if name not in self.tests]

    def through(self, edit: Edit, first: int, last: int) -> list[list[str]]:
        """Tests that pass the changed line, its function, its file; and those beside these in their files."""
        line, function, file = set(), set(), set()
        for name, test in self.tests.items():
            lines = test["lines"].get(edit.file)
            if lines is None:
                continue
            file.add(name)
            if edit.file not in self.stale:
                if edit.line in lines:
                    line.add(name)
                if any(first <= each <= last for each in lines):
                    function.add(name)
        near = line or function or file
        homes = {name.partition("::")[0] for name in near}
        beside = {name for name in self.tests if name.partition("::")[0] in homes}
        levels, seen = [], set()
        for level in (line, function, beside if len(near) < 40 else set(), file):
            levels.append(sorted(level - seen, key=lambda name: self.tests[name]["seconds"]))
            seen |= level
        return levels

    def seconds(self, tests: list[str]) -> float:
        return sum(self.tests[name]["seconds"] for name in tests if name in self.tests)


def digest_of(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def sources(root: pathlib.Path, parts: list[str]) -> list[str]:
    """Files of the package below these paths."""
    found = []
    for part in parts:
        path = root / part
        if not path.exists():
            raise SystemExit(f"there is no {part}; areas are {', '.join(AREAS)}, or give a path")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [str(file.relative_to(root)) for file in files]
    return found


def copied(root: pathlib.Path, tree: pathlib.Path) -> None:
    """What git tracks, or would, where it is changed; what is compiled there is known by its contents."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    wanted = {file for file in files.splitlines() if (root / file).is_file()}
    for old in list(tree.rglob("*")) if tree.exists() else []:
        if old.is_file() and old.suffix != ".pyc" and str(old.relative_to(tree)) not in wanted:
            old.unlink()
    for file in wanted:
        there = tree / file
        if digest_of(there) != digest_of(root / file):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, there)
    compiled = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "relaysim"]
    subprocess.run([sys.executable, *compiled], cwd=tree, check=True)


# Processes --------------------------------------------------------------------------------------


def forked(work: Callable[[], None], session: bool = False) -> int:
    """The number of a process that does this, maybe in its own session, and ends with 1 if it fails."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    process = os.fork()
    if process:
        return process
    if session:
        os.setsid()
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        leave(status)


def in_child(tree: pathlib.Path, work: Callable[[], dict], seconds: float) -> dict:
    """What `work` returns in a process of its own, in the tree; all it started is ended with it.

    ``{"end": "time"}`` when it takes longer, ``{"end": "crash"}`` when it returns nothing.
    """
    answer = tree.parent / "answer.json"
    answer.unlink(missing_ok=True)

    def prepared() -> None:
        os.chdir(tree)
        log = os.open(tree.parent / "last.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [str(tree), *(each for each in sys.path if each not in ("", str(HERE)))]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        answer.write_text(json.dumps(work()))

    process = forked(prepared, session=True)
    end = time.monotonic() + seconds
    late = False
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        late = time.monotonic() > end
        if late:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if late:
        return {"end": "time"}
    return json.loads(answer.read_text()) if answer.exists() else {"end": "crash"}


def in_fork(work: Callable[[], None]) -> None:
    """Do this in a process of its own, and leave no import of it here."""
    process = forked(work)
    if os.waitpid(process, 0)[1]:
        raise SystemExit("the tests could not be collected, see above")


class Warm:
    """A session of pytest that has collected all tests, and tries each change in a fork of itself."""

    def __init__(self, tree: pathlib.Path, known: Traced, work: Callable[[Warm], None]):
        self._tree, self._work = tree, work
        self._known = known
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[str, dict[Key, list[FunctionType]]] = {}
        self.error: BaseException | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All that there is to do."""
        self._items = {item.nodeid: item for item in session.items}
        names = json.dumps(list(self._items))
        (self._known.folder / "collected.json").write_text(names, "utf-8")
        self._known.collected(list(self._items))
        watched = sources(self._tree, [part for parts in AREAS.values() for part in parts])
        self._functions = functions_of({str(self._tree / file) for file in watched})
        gc.freeze()
        self._session = session
        try:
            self._work(self)
        except BaseException as error:  # pytest would take it for a test's
            self.error = error
        return True

    def tested(self, edit: Edit, source: bytes, tests: list[str], seconds: float) -> dict | None:
        """As `tested`; None where the change is not within functions only."""
        path = str(self._tree / edit.file)
        try:
            changed = changed_functions(path, source, edit.applied(source))
        except SyntaxError:
            return {"end": "failed", "by": "syntax"}
        functions = self._functions.get(path, {})
        if changed is None or not any(key in functions for key in changed):
            return None
        chosen = Chosen(tests)
        config = self._session.config

        def work() -> dict:
            config.pluginmanager.register(chosen)
            patch(functions, changed)
            items = [self._items[name] for name in tests if name in self._items]
            for item, following in zip(items, [*items[1:], None], strict=True):
                config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if chosen.failed:
                    break
            end = "failed" if chosen.failed else "passed"
            return {"end": end, "by": chosen.failed, "ran": chosen.ran}

        return in_child(self._tree, work, seconds)


def warmed(tree: pathlib.Path, known: Traced, work: Callable[[Warm], None]) -> None:
    """Collect all tests, then work."""
    files = sorted({name.partition("::")[0] for name in known.tests})
    here, path = os.getcwd(), list(sys.path)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    warm = Warm(tree, known, work)
    try:
        pytest.main([*PYTEST, "-s", "-m", "", *files], plugins=[warm])
    finally:
        os.chdir(here)
        sys.path[:] = path
    if warm.error:
        raise warm.error


def tested(tree: pathlib.Path, tests: list[str], seconds: float) -> dict:
    """Whether one of these fails: ``{"end": "failed" | "passed" | "time" | "crash", "by": …}``."""
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))

    def work() -> dict:
        sys.dont_write_bytecode = True
        chosen = Chosen(tests)
        code = pytest.main([*PYTEST, "-x", "--tb=line", "-m", "", *files], plugins=[chosen])
        passed = code == 0 or (code == 5 and not chosen.failed)
        return {"end": "passed" if passed else "failed", "by": chosen.failed, "ran": chosen.ran}

    return in_child(tree, work, seconds)


def traced(tree: pathlib.Path, folder: pathlib.Path, anew: bool) -> Traced:
    """The lines of all tests; only files of tests that changed are run again."""
    watched = sources(tree, [part for parts in AREAS.values() for part in parts])
    tests = {
        str(path.relative_to(tree)): [str(path.relative_to(tree))]
        for path in sorted((tree / "tests").rglob("test_*.py"))
        if path.stem.removeprefix("test_") not in LEFT_OUT.split()
    }
    tests["examples"] = watched
    folder.mkdir(exist_ok=True)
    pending = {}
    for name, files in tests.items():
        kept = folder / f"{re.sub('[^a-z0-9_]+', '-', name.lower())}.json"
        digest = "".join(digest_of(tree / file) for file in files) if name != "examples" else ""
        if anew or not kept.exists() or json.loads(kept.read_text("utf-8"))["test"] != digest:
            pending[name] = (kept, digest, files)
    for name, (kept, digest, files) in (bar := tqdm(pending.items(), "tracing", unit="file")):
        bar.set_postfix_str(name)

        def work(files: list[str] = files) -> dict:
            tracer = Tracer(tree, watched)
            code = pytest.main([*PYTEST, "--tb=short", *files], plugins=[tracer])
            return {"end": int(code), "tests": tracer.tests}

        found = in_child(tree, work, 1800.0)
        if found["end"] != 0:
            tqdm.write(
                f"{name}: tests did not all pass ({found['end']}), {tree.parent / 'last.log'}"
            )
            shutil.copyfile(tree.parent / "last.log", kept.with_suffix(".log"))
        of = {file: digest_of(tree / file) for file in watched}
        text = json.dumps({"test": digest, "sources": of, "tests": found.get("tests", {})})
        kept.write_text(text, "utf-8")
    result = Traced(folder, new=set(pending))
    result.read(tree)
    return result


# Changes ----------------------------------------------------------------------------------------


def stages(known: Traced, edit: Edit, tree: pathlib.Path, again: bool) -> Iterator[list[str]]:
    """Some cheap tests of the files that are most about the place; others, while time is left; and long ones.

    The second time, of the first two only what is new.
    """
    first, last = edit.line, edit.line
    levels = known.through(edit, *function_lines(tree / edit.file, edit.line, (first, last)))
    if again:
        levels = [
            [name for name in level if name.partition("::")[0] in known.new] for level in levels
        ]
    near = next((level for level in levels if level), [])
    by_file: dict[str, list[str]] = {}
    for name in near:
        by_file.setdefault(name.partition("::")[0], []).append(name)
    all_of = pd.Series([name.partition("::")[0] for name in known.tests]).value_counts()
    about = sorted(by_file, key=lambda file: -len(by_file[file]) / (all_of[file] + 10))[:3]
    chosen = spread([name for file in about for name in by_file[file]], known, FIRST)
    if chosen:
        yield chosen
    done = set(chosen)
    left, seconds = [], 0.0
    for level in levels:
        more = spread([name for name in level if name not in done], known, THEN - seconds)
        left += more
        seconds += known.seconds(more)
    if left:
        yield left
    if again:
        near = next((level for level in known.through(edit, first, last) if level), [])
        about += dict.fromkeys(name.partition("::")[0] for name in near)
    homes = set(about[:6]) | {f"tests/test_{pathlib.Path(edit.file).stem}.py"}
    yield [name for name in known.long if name.partition("::")[0] in homes][:MOST_LONG]


def spread(tests: list[str], known: Traced, seconds: float) -> list[str]:
    """As many as fit, cheapest first, but of each function one before a second."""
    rank: dict[str, int] = {}
    order = []
    for name in sorted(tests, key=lambda name: known.tests[name]["seconds"]):
        function = name.partition("[")[0]
        rank[function] = rank.get(function, -1) + 1
        order.append((rank[function], known.tests[name]["seconds"], name))
    chosen = []
    for _, cost, name in sorted(order):
        seconds -= cost + 0.01
        if seconds < 0:
            break
        chosen.append(name)
    return chosen


def function_lines(path: pathlib.Path, line: int, otherwise: tuple[int, int]) -> tuple[int, int]:
    """First and last line of the innermost function that has this one."""
    import ast

    best = otherwise
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno:
            begin = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            best = (begin, node.end_lineno)  # walked from the outside in
    return best


def tried(
    tree: pathlib.Path, known: Traced, edit: Edit, warm: Warm | None, again: bool
) -> dict | None:
    """What came of one change; None where it takes a new process, in which nothing is imported yet."""
    path = tree / edit.file
    source = path.read_bytes()
    began = time.monotonic()
    found: dict = {"end": "untested"}
    ran = 0
    try:
        path.write_bytes(edit.applied(source))
        for tests in stages(known, edit, tree, again):
            if not tests:
                continue
            long = tests[0] not in known.tests
            seconds = LONG_SECONDS if long else SPARE + PATIENCE * known.seconds(tests)
            if warm is None:
                found = tested(tree, tests, seconds)
            elif (quick := warm.tested(edit, source, tests, seconds)) is None:
                return None
            else:
                found = quick
            if long and found["end"] == "time":  # which says nothing of the change
                found = {"end": "passed"}
            ran += len(tests)
            if found["end"] != "passed":
                break
    finally:
        path.write_bytes(source)
    ends = {"passed": "survived", "time": "timeout", "failed": "killed", "crash": "killed"}
    return {
        "name": edit.name,
        "area": area_of(edit.file),
        "kind": edit.kind,
        "line": edit.line,
        "outcome": ends.get(found["end"], "survived"),
        "by": found.get("by"),
        "tests": ran,
        "seconds": round(time.monotonic() - began, 1),
    }


def area_of(file: str) -> str:
    for area, parts in AREAS.items():
        if any(file == part or file.startswith(part + "/") for part in parts):
            return area
    return file


def reviewed() -> dict[str, str]:
    """Changes that change nothing that could be told: names, each followed by its reason, indented."""
    reasons: dict[str, str] = {}
    name = ""
    for line in REVIEWED.read_text("utf-8").splitlines():
        if line.startswith("    "):
            reasons[name] += line.strip() + " "
        elif line and not line.startswith("#"):
            reasons[name := line] = ""
    return reasons


def table(results: list[dict]) -> pd.DataFrame:
    """A row an area: how many of each outcome, and the share that survived of those that change anything."""
    equivalent = reviewed()
    rows = pd.DataFrame(results)
    left = rows.outcome.eq("survived") & rows.name.isin(list(equivalent))
    rows.loc[left, "outcome"] = "equivalent"
    counts = pd.crosstab(rows.area, rows.outcome, margins=True, margins_name="all")
    for column in ("killed", "timeout", "survived", "equivalent"):
        if column not in counts:
            counts[column] = 0
    counts["share alive"] = counts.survived / (counts["all"] - counts.equivalent).clip(lower=1)
    return counts[["all", "killed", "timeout", "equivalent", "survived", "share alive"]]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=400, help="changes that are tried")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", metavar="AREA", help=f"{', '.join(AREAS)}, or paths")
    parser.add_argument("--name", metavar="TEXT", help="only changes whose name has this in it")
    parser.add_argument("--again", action="store_true", help="survivors are tried again")
    parser.add_argument("--anew", action="store_true", help="tests are traced again")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "mutants")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    tree = (given.folder / "tree").resolve()
    copied(ROOT, tree)
    known = traced(tree, given.folder.resolve() / "traced", given.anew)
    parts = [part for area in given.only or AREAS for part in AREAS.get(area, [area])]
    edits = shuffled(
        [edit for file in sources(tree, parts) for edit in edits_of(tree, file, given.seed)],
        given.seed,
    )
    if given.name:
        edits = [edit for edit in edits if given.name in edit.name]
    edits = edits[: given.sample]
    path = given.folder / "results.jsonl"
    done = read(path)
    skip = reviewed()
    pending = [
        edit
        for edit in edits
        if edit.name not in done
        or (given.again and done[edit.name]["outcome"] == "survived" and edit.name not in skip)
    ]
    print(f"{len(edits)} changes, {len(edits) - len(pending)} of them tried before")

    def work(warm: Warm | None) -> None:
        alive = 0
        with open(path, "a", encoding="utf-8") as file, tqdm(pending, unit="change") as bar:
            for edit in bar:
                before = edit.name in done
                if (found := tried(tree, known, edit, warm, before)) is None:
                    continue
                file.write(json.dumps(found, ensure_ascii=False) + "\n")
                file.flush()
                if lives(found, skip):
                    alive += 1
                    bar.write(f"survived, line {edit.line}: {edit.name}")
                bar.set_postfix_str(f"{alive} alive")

    if pending:
        before = path.stat().st_size if path.exists() else 0
        in_fork(lambda: warmed(tree, known, work))
        quick = read(path, before)
        pending = [edit for edit in pending if edit.name not in quick]
        work(None)
        done |= read(path, before)
    results = [done[edit.name] for edit in edits]
    print(*(f"survived: {each['name']}" for each in results if lives(each, skip)), sep="\n")
    counts = table(results)
    print(counts.to_string(formatters={"share alive": "{:.1%}".format}))
    return int(counts.loc["all", "share alive"] > ALIVE)


def read(path: pathlib.Path, start: int = 0) -> dict[str, dict]:
    """Results by name, the last of each, from a byte of the file on."""
    lines = path.read_bytes()[start:].decode().splitlines() if path.exists() else []
    return {each["name"]: each for each in map(json.loads, lines)}


def lives(result: dict, equivalent: dict[str, str]) -> bool:
    return result["outcome"] == "survived" and result["name"] not in equivalent


def preloaded() -> None:
    """What each process would import first, and does not change."""
    import hypothesis  # noqa: F401
    import joblib  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import networkx  # noqa: F401
    import scipy.optimize
    import scipy.sparse.csgraph
    import scipy.stats  # noqa: F401
    import sklearn.datasets  # noqa: F401


if __name__ == "__main__":
    tqdm.monitor_interval = 0  # a thread, and there are forks
    preloaded()
    sys.exit(main())
