"""Stores: what is kept when something goes wrong, and what is told of it."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from mutations import mutations
from threadpoolctl import threadpool_info, threadpool_limits

import relaysim as rs
from relaysim import cli
from relaysim.studies import store as stores
from relaysim.studies import sweeps
from relaysim.studies.expansion import expand
from relaysim.studies.naming import name_in
from relaysim.studies.problem_kinds import plain
from relaysim.studies.settings import key_of
from relaysim.studies.store import Store, StoreError
from relaysim.support.threads import in_processes
from relaysim.version import __version__

SMALL = {"n": 4, "d": 2, "topology": ["chain", "star"], "learning_rate": [0.1, 0.2], "steps": 3}


@pytest.fixture
def kept(tmp_path):
    """A store of `SMALL`, and its table."""
    path = tmp_path / "kept.db"
    return path, rs.sweep(SMALL, store=path, progress=False)


# -- what is finished is in the file ------------------------------------------------------------------


def test_the_file_alone_has_every_finished_group(tmp_path):
    path, copy = tmp_path / "kept.db", tmp_path / "copy.db"
    with Store(path) as store:
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        for number in range(3):
            marked = {"step": np.array([number])}
            store.add([(f"{number}", {"seed": 0}, marked)], __version__)
            shutil.copy(path, copy)
            assert len(stores.stored_results(copy)) == number + 1


def logged(path):
    """A connection that keeps a further result in the log, and not in the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    row = stores.row_of("further", json_setting(path), __version__, {"step": np.array([7])})
    connection.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return connection


def json_setting(path):
    with sqlite3.connect(path) as connection:
        (text,) = connection.execute("SELECT setting FROM results LIMIT 1").fetchone()
    connection.close()
    return json.loads(text)


@pytest.fixture(params=["by this SQLite", "by none"])
def read_in_place(request, monkeypatch):
    """Some versions of SQLite read a log beside which nothing can be written; others do not."""
    reading = stores._reading

    def not_in_place(path, query, stack):
        if query == "mode=ro":
            raise sqlite3.OperationalError("unable to open database file")
        return reading(path, query, stack)

    if request.param == "by none":
        monkeypatch.setattr(stores, "_reading", not_in_place)


@pytest.mark.usefixtures("read_in_place")
def test_where_nothing_can_be_written_the_log_is_read_as_well(kept, tmp_path):
    path, table = kept
    connection = logged(path)
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", frozen / f"kept.db{ending}")
    # In the way of the file that the log needs, as on a disk that is only read.
    (frozen / "kept.db-shm").mkdir()
    loaded = rs.load_sweep(frozen / "kept.db")
    assert len(loaded) == len(table) + 1
    assert loaded.step.iloc[-1] == 7
    connection.close()


@pytest.mark.usefixtures("read_in_place")
def test_where_nothing_can_be_written_and_no_log_is_there(kept):
    path, table = kept
    path.with_name("kept.db-shm").mkdir()
    pd.testing.assert_frame_equal(rs.load_sweep(path), table)


def test_a_journal_that_cannot_be_changed_is_told_after_some_patience(kept, monkeypatch):
    path, _ = kept
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("PRAGMA journal_mode = DELETE")
    reading = reader.execute("SELECT * FROM results")
    reading.fetchone()
    monkeypatch.setattr(stores, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(
        StoreError, match=r"cannot use .*kept\.db.* as a store: database is locked$"
    ):
        Store(path)
    reading.close()
    reader.close()
    with Store(path) as store:
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_journal_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    class Locked:
        def execute(self, statement):
            raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(stores, "_PATIENCE_SECONDS", 0.05)
    alone = types.SimpleNamespace(path=tmp_path / "kept.db", _connection=Locked())
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Store._log_ahead(alone)


# -- what is not what was stored ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE results SET setting = replace(setting, '\"zeta2\": 0.1', '\"zeta2\": 0.3') WHERE rowid = 2",
        "UPDATE results SET result = zeroblob(40) WHERE rowid = 2",
        "UPDATE results SET key = '0' || substr(key, 2) WHERE rowid = 2",
        "UPDATE results SET version = '0.0' WHERE rowid = 2",
        "UPDATE results SET digest = 'none' WHERE rowid = 2",
        "UPDATE results SET key = x'00' WHERE rowid = 2",
    ],
)
def test_a_changed_row_is_refused_and_computed_again(kept, change):
    path, table = kept
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(StoreError, match=r"1 of 4 results in .*kept\.db.* are not what was stored"):
        rs.load_sweep(path)
    with pytest.warns(UserWarning, match="1 of the results in .* are not what was stored"):
        again = rs.sweep(SMALL, store=path, progress=False)
    # By itself now, and not in its group: equal but for rounding.
    pd.testing.assert_frame_equal(again, table, rtol=1e-12)
    assert len(rs.load_sweep(path)) == len(table)


def test_a_damaged_file_is_refused_or_read_as_it_was(kept, tmp_path):
    path, table = kept
    damaged, refused = tmp_path / "damaged.db", []
    for data in mutations(path.read_bytes(), 100, seed=0):
        damaged.write_bytes(data)
        try:
            pd.testing.assert_frame_equal(rs.load_sweep(damaged), table, check_exact=True)
        except StoreError as error:
            refused.append(f"{error}")
    assert 50 < len(refused) < 100
    assert all("damaged.db" in message for message in refused)


def test_a_column_of_another_name_is_named(kept):
    path, _ = kept
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE failures RENAME COLUMN error TO errol")
    connection.close()
    with pytest.raises(StoreError, match=r"cannot read .*kept\.db'.*no such column: error; take"):
        rs.sweep(SMALL, store=path, progress=False)


def former(path, version="0.0.9"):
    """Makes of a store one of format 1."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "DROP TABLE failures",
        "DROP TABLE damaged",
        "DROP TABLE claims",
        "DROP TABLE owners",
        "DROP TABLE checkpoints",
        "ALTER TABLE results DROP COLUMN digest",
        "ALTER TABLE results DROP COLUMN provenance",
        f"UPDATE results SET version = '{version}'",
        "PRAGMA user_version = 1",
    ):
        connection.execute(statement)
    connection.close()


def test_results_of_another_version_are_shown_as_such(kept):
    path, table = kept
    assert "version" not in table
    former(path)
    with pytest.warns(
        UserWarning, match=r"4 of 4 results in .*kept\.db.* are of relaysim 0\.0\.9, "
    ):
        loaded = rs.load_sweep(path)
    assert (loaded.version == "0.0.9").all()
    pd.testing.assert_frame_equal(loaded.drop(columns="version"), table)
    wider = SMALL | {"topology": ["chain", "star", "ring"], "algorithm": "DPSGD"}
    rs.sweep(wider, store=path, progress=False)
    with pytest.warns(UserWarning, match="4 of 10 results"):
        versions = rs.load_sweep(path).groupby("algorithm").version.unique()
    assert versions.RelaySGD.tolist() == ["0.0.9"]
    assert versions.DPSGD.tolist() == [__version__]


@pytest.mark.parametrize("what", ["setting", "result"])
def test_a_store_of_format_1_is_checked_as_far_as_can_be(kept, what):
    path, table = kept
    former(path, __version__)
    pd.testing.assert_frame_equal(rs.load_sweep(path), table)
    connection = sqlite3.connect(path)
    with connection:
        (data,) = connection.execute(f"SELECT {what} FROM results WHERE rowid = 3").fetchone()
        if what == "setting":
            data = data.replace('"zeta2": 0.1', '"zeta2": 0.3')
        else:
            middle = len(data) // 5
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        connection.execute(f"UPDATE results SET {what} = ? WHERE rowid = 3", (data,))
    connection.close()
    with pytest.raises(StoreError, match="1 of 4 results"):
        rs.load_sweep(path)
    with pytest.warns(UserWarning, match="1 of the results"):
        again = rs.sweep(SMALL, store=path, progress=False)
    # By itself now, and not in its group: equal but for rounding.
    pd.testing.assert_frame_equal(again, table, rtol=1e-12)


# -- what fails while it runs --------------------------------------------------------------------------


def failing(monkeypatch, is_bad):
    """Lets runs with some settings fail."""
    plain, ran = sweeps._run_group, []

    def run(group, *store):
        ran.append(group)
        if any(map(is_bad, group)):
            raise FloatingPointError("no such luck")
        return plain(group, *store)

    monkeypatch.setattr(sweeps, "_run_group", run)
    return ran


def test_what_fails_is_recorded_and_the_others_finish(tmp_path, monkeypatch, capsys):
    path, whole = tmp_path / "kept.db", rs.sweep(SMALL, progress=False)
    ran = failing(monkeypatch, lambda s: s["topology"] == "star(4)" and s["learning_rate"] == 0.1)
    match = r"1 of 4 settings failed .* FloatingPointError: no such luck"
    with pytest.warns(UserWarning, match=match):
        table = rs.sweep(SMALL, store=path, progress=False)
    good = (whole.topology != "star") | (whole.learning_rate != 0.1)
    pd.testing.assert_frame_equal(table, whole[good].reset_index(drop=True), rtol=1e-12)
    (failed,) = table.attrs["failed"]
    assert (failed["topology"], failed["learning_rate"]) == ("star(4)", 0.1)
    ran.clear()
    with pytest.warns(UserWarning, match=match):
        rs.sweep(SMALL, store=path, progress=False)
    assert not ran
    file = tmp_path / "small.toml"
    file.write_text(
        'n = 4\nd = 2\nlearning_rate = [0.1, 0.2]\nsteps = 3\ntopology = ["chain", "star"]\n'
    )
    command = ["sweep", str(file), "--store", str(path), "--out", str(tmp_path / "table.csv")]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "1 of 4 settings failed" in said
    assert "star(4)" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("FloatingPointError: no such luck")
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(table)
    assert not ran
    assert cli.main([*command, "--retry-failed"]) == 1
    assert [len(group) for group in ran] == [1]
    monkeypatch.undo()
    assert cli.main([*command, "--retry-failed"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = rs.sweep(SMALL, store=path, progress=False)
    pd.testing.assert_frame_equal(again, whole, rtol=1e-12)


class Deadly:
    """A problem that ends the process which computes its gradient, if it is told to."""

    n, d = 3, 2

    def __init__(self, center, deadly, parent):
        self.center, self.deadly, self.parent = center, deadly, parent

    def to_config(self):
        return {"center": self.center, "deadly": self.deadly}

    def value(self, x):
        return float(((x - self.center) ** 2).sum()) / self.n

    def gradient(self, x):
        if self.deadly and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return x - self.center


@pytest.mark.slow
def test_what_kills_its_process_is_recorded_and_the_others_finish(tmp_path):
    problems = [Deadly(float(k), k == 1, os.getpid()) for k in range(6)]
    settings = {"problem": problems, "learning_rate": 0.1, "steps": 2}
    with pytest.warns(UserWarning, match=r"1 of 6 settings failed .* its process was killed"):
        table = rs.sweep(settings, n_jobs=2, store=tmp_path / "kept.db", progress=False)
    assert len(table) == 5 * 3
    assert len(table.attrs["failed"]) == 1


TERMINATED = """
import os, pathlib, sys, time
import relaysim as rs
from relaysim.studies import sweeps
from relaysim.studies.processes import computed
from test_stores import slowly
sweeps.computed = lambda compute, groups, n_jobs: computed(slowly, groups, n_jobs)
os.environ["PIDS"] = sys.argv[2]
settings = {"n": 4, "d": 2, "learning_rate": 0.1, "steps": 3, "zeta2": [0.1 * k for k in range(1, 41)]}
rs.sweep(settings, n_jobs=2, store=sys.argv[1], progress=False)
"""


def slowly(group):
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.2)
    return sweeps._tried(group)


@pytest.mark.slow
def test_a_terminated_sweep_leaves_no_process_and_all_that_was_finished(tmp_path):
    path, pids = tmp_path / "kept.db", tmp_path / "pids"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    }
    process = subprocess.Popen([sys.executable, "-c", TERMINATED, path, pids], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (pids.exists() and len(pids.read_text().split()) > 8):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    workers = {int(pid) for pid in pids.read_text().split()}
    assert process.pid not in workers
    deadline = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    log = path.with_name("kept.db-wal")
    assert not log.exists() or not log.stat().st_size
    assert 4 < len(rs.load_sweep(path)) // 4 < 40


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- the same bits ---------------------------------------------------------------------------------------


def threads_of_blas():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_runs_in_processes_has_one_thread(n_jobs):
    with threadpool_limits(2, "blas"):
        assert max(threads_of_blas()) == 2
        found = list(in_processes(threads_of_blas, [(), ()], n_jobs))
        assert max(threads_of_blas()) == 2
    assert [max(each) for each in found] == [1, 1]


def test_all_that_is_parallel_has_one_thread():
    package = pathlib.Path(rs.__file__).parent
    users = {path.name for path in package.rglob("*.py") if "Parallel(" in path.read_text("utf-8")}
    assert users == {"threads.py", "processes.py"}  # the latter for groups of sweeps, see below


THREADS = """
import sys
import pandas as pd
import relaysim as rs
settings = {"n": 4, "d": 150, "zeta2": 1.0, "learning_rate": [0.05, 0.2], "seed": [0, 1], "sigma2": 0.01,
            "steps": 20, "record": 10}
one = rs.sweep(settings, progress=False)
two = rs.sweep(settings, n_jobs=2, progress=False)
pd.testing.assert_frame_equal(one, two, check_exact=True)
def sensitivity(n_jobs):
    ring = rs.topologies.ring(4)
    methods = [rs.algorithms.DPSGD(), rs.algorithms.D2()]
    options = {"zeta2": [0.1, 1.0], "problem_seeds": [0], "d": 150, "max_steps": 50, "target": 0.1}
    return rs.analysis.heterogeneity_sensitivity(methods, ring, n_jobs=n_jobs, **options).frame
pd.testing.assert_frame_equal(sensitivity(1), sensitivity(2), check_exact=True)
# Others come later: equal but for rounding.
store = sys.argv[1]
rs.sweep(settings | {"seed": 0, "learning_rate": 0.2}, store=store, progress=False)
pd.testing.assert_frame_equal(rs.sweep(settings, store=store, progress=False), one, rtol=1e-9)
"""


@pytest.mark.slow
def test_the_same_bits_whatever_the_number_of_processes_and_of_threads(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    subprocess.run(
        [sys.executable, "-c", THREADS, tmp_path / "kept.db"],
        env=environment | {"PYTHONPATH": os.getcwd()},
        check=True,
    )


# -- what earlier versions wrote ---------------------------------------------------------------------


def stored_before(path, now, before):
    """A store with the result of a setting under the text that an earlier version had for its method."""
    with Store(path.with_suffix(".now")) as made:
        rs.sweep(now, store=made.path, progress=False)
        (setting,) = expand(now)
        arrays, version = made.result(key_of(setting))
    old = plain(setting | {"algorithm": before})
    with Store(path) as store:
        store.add([(key_of(old), old, arrays)], version)
    return key_of(old)


OPTION = {
    "QuasiGlobalMomentum(momentum=0.9)": ("QuasiGlobalMomentum(0.9, form='toy')", "form", "toy"),
    "AllReduce(momentum=0.0)": ("AllReduce(count='all-to-all')", "count", "all-to-all"),
    "SwarmSGD(local_steps=1, blocking=True, quantizer=Lattice(spacing=1, levels=256), geometric=False)": (
        "SwarmSGD(quantizer=Lattice(1.0, rounding='nearest'))",
        "quantizer",
        "Lattice(spacing=1, levels=256, rounding='nearest')",
    ),
}


@pytest.mark.parametrize("before", OPTION)
def test_what_was_no_option_is_what_a_method_did_then(before, tmp_path):
    """The default came later, and is another."""
    now, option, value = OPTION[before]
    run = {"topology": "chain", "n": 4, "d": 2, "learning_rate": 0.1, "steps": 4, "record": 4}
    key = stored_before(tmp_path / "old.db", run | {"algorithm": now}, before)
    assert rs.rerun(tmp_path / "old.db").agrees
    rs.sweep(run | {"algorithm": name_in(now)}, store=tmp_path / "old.db", progress=False)
    table = rs.load_sweep(tmp_path / "old.db")
    assert table[option][0] == value
    assert table[option][2] != value
    again = rs.sweep(run | {"algorithm": now}, store=tmp_path / "old.db", progress=False)
    assert again.suboptimality.tolist() == table.suboptimality[:2].tolist()
    with Store(tmp_path / "old.db") as store:
        there = store.keys()
    assert key in there
    assert len(there) == 2  # the old one served


def test_a_result_that_is_there_under_two_texts_is_computed_again_for_both(tmp_path):
    run = {"topology": "chain", "n": 4, "d": 2, "learning_rate": 0.1, "steps": 4}
    run["algorithm"] = "DPSGD(0)"
    stored_before(tmp_path / "old.db", run, "DPSGD(momentum=0, overlap=False)")
    stored_before(tmp_path / "old.db", run, "DPSGD(momentum=0.0, overlap=False)")
    assert len(rs.load_sweep(tmp_path / "old.db")) == 10
    found = rs.rerun(tmp_path / "old.db")
    assert found.agrees
    assert found.compared[0] == 2 * rs.rerun(tmp_path / "old.db", row=1).compared[0]
