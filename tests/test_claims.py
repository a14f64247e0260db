"""Claims: who does what of the work that several processes share, and who takes over from the dead."""

import types

import numpy as np
import pytest

from relaysim.studies import owners
from relaysim.studies.claims import Claims
from relaysim.studies.store import Store
from relaysim.support import files

GROUPS = [["a", "b"], ["c"], ["d", "e"]]
VERSION = "1"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kept.db") as kept:
        yield kept


def result(key):
    return key, {"seed": 0}, {"step": np.array([0])}


def test_what_is_claimed_is_left_alone_until_its_owner_leaves(store):
    with Claims(store, VERSION) as other:
        with Claims(store, VERSION) as one:
            ones = one.taken(GROUPS)
            assert [next(ones), next(ones)] == GROUPS[:2]
            assert [*other.taken(GROUPS)] == GROUPS[2:]
            assert [*other.taken([["b", "x"]])] == []  # a group of another sweep
            store.add([result("a")], VERSION)
            one.release(["a"])
            assert [*other.taken(GROUPS)] == GROUPS[2:]
        assert [*other.taken(GROUPS)] == [["b"], ["c"], ["d", "e"]]


def test_failures_of_this_version_are_done(store):
    for key, version in (("a", VERSION), ("b", "0"), ("c", VERSION)):
        store.add_failure(key, {"seed": 0}, "no such luck", version)
    with Claims(store, VERSION) as claims:
        assert [*claims.taken(GROUPS)] == [["b"], ["d", "e"]]


def as_if(store, **values):
    """Changes what the store says of the owners of claims."""
    for name, value in values.items():
        store._connection.execute(f"UPDATE owners SET {name} = ?", (value,))


def test_claims_of_the_dead_on_this_machine_are_taken_over(store):
    with Claims(store, VERSION) as one:
        assert [*one.taken(GROUPS)] == GROUPS
        as_if(store, pid=1)  # it lives, and began at another time
        with Claims(store, VERSION) as other:
            assert [*other.taken(GROUPS)] == GROUPS
            # What the dead left behind is swept away with them.
            assert store._connection.execute("SELECT count(*) FROM owners").fetchone() == (1,)


def test_claims_of_this_process_that_could_not_be_given_back_are_no_obstacle(store):
    one = Claims(store, VERSION)
    with one:
        assert [*one.taken(GROUPS)] == GROUPS
        rows = [store._connection.execute(f"SELECT * FROM {t}").fetchall() for t in TABLES]
    for table, kept in zip(TABLES, rows, strict=True):
        marks = ", ".join("?" * len(kept[0]))
        store._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", kept)
    with Claims(store, VERSION) as other:
        assert [*other.taken(GROUPS)] == GROUPS


TABLES = ("owners", "claims")


def test_of_a_machine_elsewhere_signs_of_life_count_and_no_clock(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(owners, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    with Claims(store, VERSION) as one:
        assert [*one.taken(GROUPS)] == GROUPS
        as_if(store, place="elsewhere")
        with Claims(store, VERSION) as other:
            for beat in range(3):
                assert [*other.taken(GROUPS)] == []
                now[0] += 0.9 * owners.EXPIRY_SECONDS
                assert [*other.taken(GROUPS)] == []
                as_if(store, beat=beat + 7)
            assert [*other.taken(GROUPS)] == []
            now[0] += 1.1 * owners.EXPIRY_SECONDS
            assert [*other.taken(GROUPS)] == GROUPS
        # Who was only slow has lost its claims, and what it stores is there already.
        store.add([result("a")], VERSION)
        store.add([result("a")], VERSION)
        assert store.keys() == {"a"}


def test_signs_of_life_are_given(store, monkeypatch):
    monkeypatch.setattr("relaysim.studies.claims.BEAT_SECONDS", 0.01)
    with Claims(store, VERSION) as claims:
        while store._connection.execute("SELECT beat FROM owners").fetchone() < (3,):
            claims.wait()
    assert store._connection.execute("SELECT count(*) FROM owners").fetchone() == (0,)


def test_an_error_in_a_thread_that_asks_for_work_is_kept_for_the_main_one(store):
    with Claims(store, VERSION) as claims:
        claims._connection.execute("PRAGMA query_only = ON")
        assert [*claims.taken(GROUPS)] == []
        assert "cannot write to" in str(claims.error)


def test_where_machines_share_a_disk_there_is_a_journal_and_no_log(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    lines = [
        "21 1 0:1 / / rw - ext4 /dev/a rw",
        f"22 21 0:2 / {tmp_path} rw shared:1 - nfs4 s:/a rw",
    ]
    mounts.write_text("\n".join(lines))
    path = tmp_path / "kept.db"
    for text, mode in (("\n".join(lines[:1]), "wal"), ("\n".join(lines), "delete")):
        mounts.write_text(text)
        monkeypatch.setattr(files, "_MOUNTS", mounts)
        with Store(path) as kept:
            assert kept._connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
