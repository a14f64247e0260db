"""A sweep on a machine that fails in every way: it must come out as on one that does not.

``python benchmarks/soak/hostile_sweep.py`` has two main processes share one store, each with two workers of
its own, temporary folders and caches of its own, and a clock that is days wrong. At random a main process is
killed, or one of its workers, or the disk is full. It prints a line of figures, and ends with 1 if a setting
is lost, doubled, or different in one bit from a sweep alone. Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import pandas as pd
from tqdm import tqdm

import relaysim as rs

PROCESSES, DAYS = 2, 30
# A disk is full when a file has grown by this many bytes.
ROOM = 50_000


def settings(count: int) -> dict:
    """So many settings, two of which are computed together."""
    return {
        "algorithm": ["DPSGD", "RelaySGD", "D2", "GradientTracking"],
        "topology": "chain",
        "n": 6,
        "d": 3,
        "zeta2": 1.0,
        "problem_seed": list(range(count // 8)),
        "learning_rate": [0.05, 0.1],
        "steps": 2000,
        "record": 500,
    }


def work(count: int, store: str, wrong_by: float, most_bytes: int) -> None:
    """The sweep, in a process whose clock is wrong and whose files end at so many bytes."""
    now = time.time
    time.time = lambda: now() + wrong_by
    if most_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    rs.sweep(settings(count), store=store, n_jobs=2, progress=False)


class Hostile:
    """Main processes on one store, and what is done to them.

    Args:
        folder: of the store, and of the processes' own.
        count: settings.
        seed: of what is done, and when.
    """

    def __init__(self, folder: pathlib.Path, count: int, seed: int):
        self._folder, self._count = folder, count
        self._random = np.random.default_rng(seed)
        self.store = folder / "sweep.db"
        self.done: Counter[str] = Counter()
        self._own: dict[int, pathlib.Path] = {}
        self._running = [self._start(place) for place in range(PROCESSES)]

    def _start(self, place: int) -> subprocess.Popen:
        own = self._own[place] = self._folder / f"own {place} {sum(self.done.values())}"
        own.mkdir()
        full = self._random.random() < 0.4
        size = self.store.stat().st_size if self.store.exists() else 0
        wrong_by = self._random.uniform(-DAYS, DAYS) * 86400
        given = {
            "--settings": self._count,
            "--store": self.store,
            "--wrong-by": wrong_by,
            "--most-bytes": size + ROOM if full else 0,
        }
        folders = dict.fromkeys(("TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(own))
        return subprocess.Popen(
            [sys.executable, __file__, *(f"{name}={value}" for name, value in given.items())],
            env=os.environ | folders,
            stderr=(own / "said").open("w"),
        )

    def go_on(self, mean: float) -> bool:
        """Wait a while, and do something to someone; whether someone is still at work."""
        time.sleep(self._random.exponential(mean))
        place = int(self._random.integers(PROCESSES))
        process = self._running[place]
        if process.poll() is None:
            workers = _children(process.pid)
            if workers and self._random.random() < 0.5:
                os.kill(int(self._random.choice(workers)), signal.SIGKILL)
                self.done["workers killed"] += 1
                return True
            process.kill()
            process.wait()
            for worker in workers:  # a machine takes all with it
                _kill(worker)
            self.done["main processes killed"] += 1
        elif process.returncode == 0:
            return any(each.poll() is None for each in self._running)
        else:
            self.done[_said((self._own[place] / "said").read_text())] += 1
        self._running[place] = self._start(place)
        return True

    def end(self) -> None:
        """Let nobody disturb the rest."""
        for process in self._running:
            process.wait()


def _children(pid: int) -> list[int]:
    """Processes that compute for this one."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and "popen_loky" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):  # no process, or gone
            continue
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _said(error: str) -> str:
    """What a process that ended by itself had to say, as something to count."""
    if "cannot write to" in error:
        return "full disks"
    if "TerminatedWorkerError" in error or "worker" in error:
        return "ends since a worker was gone"
    print(error, file=sys.stderr)
    return "OTHER ENDS"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--settings", type=int, default=2000)
    parser.add_argument("--mean", type=float, default=2.5, help="seconds from one blow to the next")
    parser.add_argument("--most", type=int, default=100, help="blows")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("--store", "--wrong-by", "--most-bytes"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.store:
        work(given.settings, given.store, float(given.wrong_by), int(given.most_bytes))
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        hostile = Hostile(pathlib.Path(folder), given.settings, given.seed)
        with tqdm(total=given.most, desc="blows", disable=None) as bar:
            while sum(hostile.done.values()) < given.most and hostile.go_on(given.mean):
                bar.update(sum(hostile.done.values()) - bar.n)
        hostile.end()
        seconds = time.monotonic() - began
        alone = rs.sweep(settings(given.settings), progress=False)
        shared = rs.sweep(settings(given.settings), store=hostile.store, progress=False)
        stored = rs.load_sweep(hostile.store)
    same = len(stored) == len(shared)
    try:
        pd.testing.assert_frame_equal(alone, shared, check_exact=True)
    except AssertionError as error:
        print(error, file=sys.stderr)
        same = False
    there = int((stored.step == 0).sum())
    told = ", ".join(f"{count} {what}" for what, count in sorted(hostile.done.items()))
    bits = "the same" if same else "DIFFERENT"
    print(f"{told}; {there} of {given.settings} settings stored, bits {bits}, {seconds:.0f} s")
    return 0 if same and there == given.settings and not hostile.done["OTHER ENDS"] else 1


if __name__ == "__main__":
    sys.exit(main())
