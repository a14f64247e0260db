"""``relaysim store``: what is told of a store, what a repair saves, and tables for other programs."""

import importlib.util
import sqlite3

import pandas as pd
import pytest

import relaysim as rs
from relaysim import cli
from relaysim.studies.claims import Claims
from relaysim.studies.store import Store, StoreError
from relaysim.studies.upkeep import _of_one_kind, checked, export, repair
from relaysim.version import __version__

SMALL = {"n": 4, "d": 2, "topology": ["chain", "star"], "learning_rate": [0.1, 0.2], "steps": 3}


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "kept.db"
    return path, rs.sweep(SMALL, store=path, progress=False)


def change(path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def test_a_check_tells_what_is_there_and_writes_nothing(kept, capsys):
    path, _ = kept
    before = path.read_bytes()
    assert cli.main(["store", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"4 by relaysim {__version__}" in said
    assert "4 computed with numpy" in said
    assert said.endswith("all is what was stored\n")
    assert path.read_bytes() == before
    with Store(path) as store, Claims(store, __version__) as claims:
        assert [*claims.taken([["x"], ["y", "z"]])] == [["x"], ["y", "z"]]
        found = checked(path)
        assert (found.at_work, found.dead, found.claims) == (1, 0, 3)
        with pytest.raises(StoreError, match=r"1 processes are at work on .*; repair it when"):
            repair(path)
        store._connection.execute("UPDATE owners SET pid = 1")
        assert (checked(path).at_work, checked(path).dead, checked(path).claims) == (0, 1, 0)


def test_wrong_rows_are_found_and_set_aside(kept, capsys):
    path, table = kept
    change(path, "UPDATE results SET provenance = '{}' WHERE rowid = 2")
    assert cli.main(["store", "check", str(path)]) == 1
    assert "1 results are not what was stored" in capsys.readouterr().out
    assert cli.main(["store", "repair", str(path)]) == 1
    assert capsys.readouterr().out.startswith("3 results are whole, 1 were damaged")
    assert checked(path).is_whole
    assert checked(path).aside == 1
    pd.testing.assert_frame_equal(rs.sweep(SMALL, store=path, progress=False), table, rtol=1e-12)
    assert cli.main(["store", "repair", str(path)]) == 0


def test_of_a_broken_file_what_can_be_read_is_saved(tmp_path):
    path = tmp_path / "kept.db"
    settings = SMALL | {"steps": 60, "zeta2": [0.1 * k for k in range(1, 6)]}
    table = rs.sweep(settings, store=path, progress=False)
    with Store(path) as store:
        store.add_failure("f", {"seed": 0}, "no such luck", __version__)
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    middle = len(data) // page // 2 * page
    data[middle : middle + page] = b"\xa5" * page
    path.write_bytes(data)
    assert checked(path).broken
    with pytest.raises(StoreError, match="damaged"):
        rs.load_sweep(path)
    whole, _ = repair(path)
    assert 0 < whole < 20
    assert checked(path).is_whole
    assert checked(path).failures == 1
    saved = rs.load_sweep(path)
    assert len(saved) == 61 * whole
    # What was saved is what was stored.
    again = table.merge(saved, how="inner")
    assert len(again) == len(saved)
    pd.testing.assert_frame_equal(rs.sweep(settings, store=path, progress=False), table, rtol=1e-12)
    assert path.with_name("kept.db.damaged").read_bytes() == bytes(data)


def test_a_checkpoint_leaves_one_file_and_the_same_table(kept, tmp_path, capsys):
    path, table = kept
    assert cli.main(["store", "checkpoint", str(path)]) == 0
    assert "all is in" in capsys.readouterr().out
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    pd.testing.assert_frame_equal(rs.load_sweep(copy), table, check_exact=True)


def test_tables_for_other_programs(kept, tmp_path, capsys):
    path, table = kept
    file = tmp_path / "table.csv"
    assert cli.main(["store", "export", str(path), "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: {len(table)} rows\n"
    assert pd.read_csv(file).columns.tolist() == table.columns.tolist()
    pd.testing.assert_frame_equal(
        pd.read_csv(file)[["step", "distance"]], table[["step", "distance"]]
    )
    with pytest.raises(
        ValueError, match=r"a table is written to \.csv or \.parquet, not to 'x\.txt'"
    ):
        export(path, tmp_path / "x.txt")
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(ImportError, match="python -m pip install pyarrow"):
            export(path, tmp_path / "table.parquet")
    else:
        export(path, tmp_path / "table.parquet")
        read = pd.read_parquet(tmp_path / "table.parquet")
        assert read.distance.tolist() == table.distance.tolist()
        assert read.topology.tolist() == table.topology.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.db"], "there is no file 'none.db'"),
        (["export", "kept.db"], "export needs --out FILE"),
        (["check", "kept.db", "--out", "x.csv"], "nothing else takes it"),
        (["check", "text.db"], "is not a relaysim store"),
    ],
)
def test_bad_commands(kept, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("no store")
    assert cli.main(["store", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_column_of_several_kinds_is_one_of_words():
    mixed = pd.Series([0.1, "1/t", None], dtype=object)
    found = _of_one_kind(pd.DataFrame({"learning_rate": mixed, "step": [0, 1, 2]}))
    assert found.learning_rate.tolist()[:2] == ["0.1", "1/t"]
    assert found.learning_rate.isna().tolist() == [False, False, True]
    assert found.step.tolist() == [0, 1, 2]
    assert mixed.tolist() == [0.1, "1/t", None]
