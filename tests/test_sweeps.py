"""Sweeps: what they run, what they keep, and what survives when they are killed."""

import functools
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pytest

import relaysim as rs
from relaysim.studies import expansion, sweeps
from relaysim.studies.store import Store, StoreError

SMALL = {
    "n": 6,
    "d": 3,
    "zeta2": [0.5, 2.0],
    "sigma2": 0.01,
    "learning_rate": [0.05, 0.2],
    "seed": [0, 1],
    "steps": 20,
    "record": 10,
    "cases": [
        {"algorithm": "RelaySGD", "topology": ["chain", "star"]},
        {"algorithm": "D2", "topology": "ring", "mixing": "uniform(0.3)"},
    ],
}


def test_every_combination_is_the_run_that_simulate_makes():
    table = rs.sweep(SMALL, progress=False)
    assert len(table) == 3 * 2 * 2 * 2 * 3
    for (topology, name), W in {
        ("star", "RelaySGD"): None,
        ("ring", "D2"): rs.mixing.uniform(rs.topologies.ring(6), 0.3),
    }.items():
        for zeta2, rate, seed in [(0.5, 0.05, 1), (2.0, 0.2, 0)]:
            problem = rs.problems.random_quadratics(6, 3, zeta2=zeta2, seed=0)
            history = rs.simulate(
                problem,
                getattr(rs.topologies, topology)(6),
                getattr(rs.algorithms, name)(),
                learning_rate=rate,
                seed=seed,
                steps=20,
                record=10,
                mixing=W,
                oracle=rs.oracles.Gaussian(0.01),
            )
            rows = table[
                (table.topology == topology)
                & (table.algorithm == name)
                & (table.zeta2 == zeta2)
                & (table.learning_rate == rate)
                & (table.seed == seed)
            ]
            for column in ("step", "suboptimality", "distance", "vectors_sent"):
                np.testing.assert_allclose(rows[column], history.frame[column], rtol=1e-12)


def test_learning_rates_and_seeds_share_a_run(monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(options)
        return rs.engine.simulation.simulate(*arguments, **options)

    monkeypatch.setattr(sweeps, "simulate", counted)
    rs.sweep(SMALL, progress=False)
    assert len(calls) == 3 * 2
    assert all(call["learning_rate"] == [0.05, 0.2] for call in calls)
    assert all(call["seed"] == [0, 1] for call in calls)


def test_seeds_of_any_size_stay_apart(tmp_path):
    seeds = [1, 2**63 + 1, 2**63 + 2, 2**64 + 1]
    settings = {
        "n": 3,
        "d": 2,
        "sigma2": 0.1,
        "learning_rate": 0.1,
        "steps": 1,
        "topology": "chain",
    }
    common = {"seed": seeds, "problem_seed": [2**53 + 1, 2**63 + 1]}
    table = rs.sweep(settings | common, store=tmp_path / "kept", progress=False)
    file = tmp_path / "seeds.toml"
    pairs = (settings | common).items()
    file.write_text("\n".join(f"{k} = {v!r}" for k, v in pairs))
    for found in (table, rs.load_sweep(tmp_path / "kept"), rs.sweep(file, progress=False)):
        at_end = found[found.step == 1]
        assert at_end.groupby(["seed", "problem_seed"]).suboptimality.nunique().tolist() == [1] * 8
        assert {*at_end.seed} == {*seeds}
        assert {*at_end.problem_seed} == {*common["problem_seed"]}
        assert at_end.suboptimality.nunique() == 8
    graphs = [f"erdos_renyi(3, 0.9, seed={2**53 + k})" for k in (0, 1)]
    named = rs.sweep(
        settings | {"algorithm": "DPSGD", "topology": [*graphs, "chain"]}, progress=False
    )
    assert {*named.topology_seed.dropna()} == {2**53, 2**53 + 1}


def test_tuned_settings_are_what_tune_finds():
    table = rs.sweep(
        {"n": 6, "d": 3, "topology": ["chain", "star"], "target": 1e-5}, progress=False
    )
    problem = rs.problems.random_quadratics(6, 3, zeta2=0.1, seed=0)
    for row in table.itertuples():
        topology = getattr(rs.topologies, row.topology)(row.n)
        found = rs.tune(problem, topology, rs.algorithms.RelaySGD(), target=1e-5)
        assert row.learning_rate == found.learning_rate
        assert row.steps_to_target == found.steps


def test_a_start_below_the_target_is_no_obstacle():
    table = rs.sweep({"n": 4, "d": 2, "target": [10.0, 1e-3]}, progress=False)
    assert table.steps_to_target[0] == 0
    assert np.isnan(table.learning_rate[0])
    assert table.steps_to_target[1] > 0


def test_results_do_not_depend_on_processes_or_on_the_store(tmp_path):
    alone = rs.sweep(SMALL, progress=False)
    two = rs.sweep(SMALL, n_jobs=2, store=tmp_path / "two.db", progress=False)
    pd.testing.assert_frame_equal(alone, two, check_exact=True)
    again = rs.sweep(SMALL, store=tmp_path / "two.db", progress=False)
    pd.testing.assert_frame_equal(alone, again, check_exact=True)
    loaded = rs.load_sweep(tmp_path / "two.db")
    order = ["topology", "algorithm", "zeta2", "learning_rate", "seed", "step"]
    pd.testing.assert_frame_equal(
        loaded.sort_values(order, ignore_index=True),
        alone.sort_values(order, ignore_index=True),
        check_exact=True,
    )


def test_a_cluster_gives_the_same_bits():
    distributed = pytest.importorskip("distributed")
    alone = rs.sweep(SMALL, progress=False)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        clustered = rs.sweep(SMALL, progress=False)
    pd.testing.assert_frame_equal(alone, clustered, check_exact=True)


def test_a_backend_that_tells_only_when_all_are_ready_gives_the_same_bits(tmp_path):
    small = SMALL | {"zeta2": 0.5}
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        table = rs.sweep(small, store=tmp_path / "kept.db", progress=False)
    pd.testing.assert_frame_equal(table, rs.sweep(small, progress=False), check_exact=True)


def test_only_what_is_missing_is_run(tmp_path, monkeypatch):
    store = tmp_path / "kept.db"
    rs.sweep(SMALL, store=store, progress=False)
    ran = []
    plain = sweeps._run_group
    monkeypatch.setattr(
        sweeps, "_run_group", lambda group, *store: ran.append(group) or plain(group)
    )
    rs.sweep(SMALL, store=store, progress=False)
    assert not ran
    wider = SMALL | {"learning_rate": [0.05, 0.2, 0.3]}
    table = rs.sweep(wider, store=store, progress=False)
    assert {s["learning_rate"] for group in ran for s in group} == {0.3}
    assert sorted(table.learning_rate.unique()) == [0.05, 0.2, 0.3]


KILLED = """
import sys, time
import relaysim as rs
from relaysim.studies import sweeps
from test_sweeps import LONG
plain = sweeps._run_group
def slow(group, *store):
    time.sleep(0.25)
    return plain(group, *store)
sweeps._run_group = slow
rs.sweep(LONG, store=sys.argv[1], progress=False)
"""
LONG = SMALL | {"zeta2": [0.1 * k for k in range(1, 11)]}


@functools.cache
def long_alone():
    return rs.sweep(LONG, progress=False)


@pytest.mark.xdist_group("long sweep")
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_killed_sweep_goes_on_where_it_was(tmp_path, how):
    store = tmp_path / "killed.db"
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": here}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store)], env=environment, stderr=subprocess.DEVNULL
    )
    stored = 0
    deadline = time.monotonic() + 60
    while stored < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
        if store.exists() and store.stat().st_size:
            try:
                stored = len(rs.load_sweep(store)) // 3
            except StoreError:
                continue
    process.send_signal(how)
    process.wait(timeout=60)
    assert process.returncode != 0
    with Store(store) as kept:
        before = kept.keys()
    # Whole groups of two rates and two seeds, and not all of them.
    assert 0 < len(before) < 120
    assert len(before) % 4 == 0
    resumed = rs.sweep(LONG, store=store, progress=False)
    pd.testing.assert_frame_equal(resumed, long_alone(), check_exact=True)


SHARED = """
import os, sys
import relaysim as rs
from relaysim.studies import sweeps
from test_sweeps import LONG
plain = sweeps._run_group
def told(group, *store):
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")
    return plain(group, *store)
sweeps._run_group = told
rs.sweep(LONG, store=sys.argv[1], progress=False)
"""


@pytest.mark.xdist_group("long sweep")
def test_two_processes_share_a_store_and_the_work(tmp_path):
    store, told = tmp_path / "shared.db", tmp_path / "told"
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    both = [
        subprocess.Popen([sys.executable, "-c", SHARED, str(store), str(told)], env=environment)
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    # A line for each of the groups, of three methods at ten levels, and none twice.
    assert len(told.read_text().split()) == 30
    pd.testing.assert_frame_equal(
        rs.sweep(LONG, store=store, progress=False), long_alone(), check_exact=True
    )


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path, monkeypatch):
    store = tmp_path / "full.db"
    plain, count = Store.add, []

    def limited(self, group, *where):
        count.append(1)
        if len(count) == 3:
            self._connection.execute("PRAGMA max_page_count = 1")
        plain(self, group, *where)

    monkeypatch.setattr(Store, "add", limited)
    with pytest.raises(StoreError, match=r"full.*the same command goes on"):
        rs.sweep(LONG, store=store, progress=False)
    monkeypatch.undo()
    with Store(store) as kept:
        assert len(kept.keys()) >= 8
    pd.testing.assert_frame_equal(
        rs.sweep(LONG, store=store, progress=False), long_alone(), check_exact=True
    )


def test_foreign_files_are_refused_and_left_as_they_are(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a store")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    newer = tmp_path / "newer.db"
    with Store(newer) as kept:
        kept._connection.execute("PRAGMA journal_mode = DELETE")
        kept._connection.execute("PRAGMA user_version = 99")
    for path, message in (
        (text, "not a relaysim store"),
        (other, "not a relaysim store"),
        (newer, "format 99 .* update relaysim"),
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "x.db", "there is no folder"),
    ):
        content = path.read_bytes() if path.is_file() else None
        for call in (lambda store: rs.sweep(SMALL, store=store, progress=False), rs.load_sweep):
            with pytest.raises((StoreError, FileNotFoundError), match=f"{message}|there is no"):
                call(path)
        if content is not None:
            assert path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["newer.db", "notes.txt", "other.db"]


def test_toml_files_say_the_same(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        "n = 6\nd = 3\nzeta2 = [0.5, 2]\nsigma2 = 0.01\nlearning_rate = [0.05, 0.2]\nseed = [0, 1]\n"
        'steps = 20\nrecord = 10\n[[cases]]\nalgorithm = "RelaySGD"\ntopology = ["chain", "star"]\n'
        '[[cases]]\nalgorithm = "D2"\ntopology = "ring"\nmixing = "uniform(0.3)"\n'
    )
    pd.testing.assert_frame_equal(
        rs.sweep(path, progress=False), rs.sweep(SMALL, progress=False), check_exact=True
    )


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("n = 6\nzetta2 = 1", ["line 2: unknown setting 'zetta2'; did you mean 'zeta2'"]),
        (
            'algorithm = "RelaySDG"',
            ["line 1: unknown algorithm 'RelaySDG'; did you mean 'RelaySGD'"],
        ),
        ('n = 6\n\ntopology = "rnig"', ["line 3: unknown topology 'rnig'; did you mean 'ring'"]),
        ('n = [6]\nd = "x"', ["line 2: d must be a whole number, not 'x'"]),
        ("n = 6.5", ["line 1: n must be a whole number"]),
        ("zeta2 = -1", ["line 1: zeta2 must be at least 0"]),
        ("zeta2 = []", ["line 1: zeta2 is an empty list"]),
        ("mu = 2.0", ["line 1: mu must lie in"]),
        ("learning_rate = -0.1", ["line 1: learning_rate must be finite and at least 0"]),
        ("learning_rate = 0.1\ntarget = 1e-3", ["line 2: target is for runs whose rate is tuned"]),
        ("steps = 100", ["line 1: steps is for runs at a given learning_rate"]),
        ('criterion = "best"', ["line 1: criterion must be one of fastest, plateau"]),
        (
            "drop = 1.5\nlearning_rate = 0.1",
            ["line 1: drop must be a probability, not 1.5"],
        ),
        ('n = 6\ntopology = "torus(2, 4)"', ["line 1: topology torus(2, 4) has its own size"]),
        ("problem_seed = -1", ["line 1: problem_seed must be at least 0"]),
        ("drop = 0.1", ["line 1: drop is for runs at a given learning_rate"]),
        ("cases = []", ["cases must be a list of tables"]),
        (
            'd = 2\n[[cases]]\ntopology = "star"\n[[cases]]\ntopology = "rnig"',
            ["line 5: unknown topology 'rnig'"],
        ),
        ("n = = 2", ["(at line 1, column 5)"]),
        (
            'n = 6\nalgorithm = ["RelaySGD", "RelaySGDGrad"]\ntopology = ["ring", "complete", "chain"]',
            ["4 things to mend", "RelaySGD needs a tree", "RelaySGDGrad needs a tree", "15 edges"],
        ),
    ],
)
def test_bad_files_name_line_and_mend(tmp_path, text, messages, monkeypatch):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    monkeypatch.setattr(sweeps, "_run_group", lambda *group: pytest.fail("something ran"))
    with pytest.raises(ValueError, match=r".") as caught:
        rs.sweep(path, store=tmp_path / "untouched.db", progress=False)
    for message in messages:
        assert message in str(caught.value)
    assert not (tmp_path / "untouched.db").exists()


def test_every_impossible_combination_is_named():
    settings = {"n": 8, "topology": ["ring", "torus(2, 4)", "complete", "hypercube"]}
    with pytest.raises(ValueError, match="4 things to mend") as caught:
        rs.sweep(settings, progress=False)
    for name in ("ring(8)", "torus(2, 4)", "complete(8)", "hypercube(8)"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": np.inf}, "n must be a whole number, not inf"),
        ({"zeta2": np.nan}, "zeta2 must be a finite number, not nan"),
        ({"steps": 2**70, "learning_rate": 0.1}, "steps must be below"),
        ({"zeta2": 10**400}, "zeta2 must be a finite number"),
        ({"mu": None, "smoothness": 0.0}, "smoothness must be positive"),
        ({"mixing": 0.3, "algorithm": "DPSGD"}, "mixing must be a name or a call"),
        ({"mixing": np.eye(32), "algorithm": "DPSGD"}, "in 32 groups that never exchange"),
    ],
)
def test_bad_values_in_a_mapping(settings, message):
    with pytest.raises(ValueError, match=message):
        rs.sweep(settings, progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": range(10**9)}, "a sweep of 1000000000 settings would take 4 TB of memory"),
        ({"seed": range(10**5), "problem_seed": range(10**4)}, "a sweep of 1000000000 settings"),
        ({"steps": 10**12}, "1000000000001 records would take"),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_runs(settings, message):
    with pytest.raises(ValueError, match=message):
        rs.sweep({"n": 4, "learning_rate": 0.1} | settings, progress=False)


def test_a_file_named_as_if_it_were_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = rs.sweep({"n": 4, "d": 2}, store=":memory:", progress=False)
    pd.testing.assert_frame_equal(rs.load_sweep(":memory:"), table)


def test_loading_writes_nothing(tmp_path):
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(StoreError, match="empty, and not a relaysim store"):
        rs.load_sweep(empty)
    assert empty.stat().st_size == 0
    store = tmp_path / "kept.db"
    table = rs.sweep({"n": 4, "d": 2}, store=store, progress=False)
    before = store.read_bytes()
    pd.testing.assert_frame_equal(rs.load_sweep(store), table)
    assert store.read_bytes() == before


def test_topologies_without_a_name_are_told_apart():
    shapes = [[[0, 1], [1, 2], [2, 3]], [[0, 1], [0, 2], [0, 3]]]
    topologies = [rs.topologies.from_edges(4, edges) for edges in shapes]
    table = rs.sweep({"topology": topologies, "d": 2, "target": 1e-3}, progress=False)
    assert table.topology.nunique() == 2


def test_pairs_of_trees_as_objects():
    settings = {"d": 2, "learning_rate": 0.1, "steps": 5}
    pair = rs.topologies.double_binary_tree(8)
    pd.testing.assert_frame_equal(
        rs.sweep(settings | {"topology": pair}, progress=False),
        rs.sweep(settings | {"topology": "double_binary_tree", "n": 8}, progress=False),
    )


def test_settings_that_differ_in_the_seed_alone_are_looked_at_once(monkeypatch):
    looked_at = []
    complete = expansion.complete
    monkeypatch.setattr(
        expansion, "complete", lambda stated: looked_at.append(stated) or complete(stated)
    )
    given = {"n": [4, 8], "seed": [5, 2.0, 7], "zeta2": [0, 1], "learning_rate": 0.1, "steps": 2}
    planned = expansion.expand(given)
    assert len(looked_at) == 4
    listed = [(each["n"], each["seed"], each["zeta2"]) for each in planned]
    assert listed == list(itertools.product([4, 8], [5, 2, 7], [0, 1]))
    assert all(
        each == complete({**given, **dict(zip(("n", "seed", "zeta2"), k, strict=True))})
        for each, k in zip(planned, listed, strict=True)
    )
