"""README's table of speed is what `benchmarks/track.py` writes from what it kept of a commit."""

import importlib
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def track(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("track")


def test_the_table_names_machine_and_load_and_divides_the_loop_by_the_step(track):
    times = {name: float(k + 2) for k, name in enumerate(track.settings())}
    times["loop, n = 96"], times["RelaySGD, n = 96, r = 30"] = 500.0, 4.0
    machine = {"processor": "A chip", "cores": 3, "system": "OS", "numpy": "9.9", "load": 0.3}
    kept = {"commit": "0123456789", "machine": machine, "us a step and replica": times}
    assert (
        "| RelaySGD on a chain, d = 10, n = 96, 30 replicas | 4 | 125 |  |  |"
        in track.speed_table(kept)
    )
    kept["us a step and replica with Numba"] = times | {"RelaySGD, n = 96, r = 30": 2.0}
    taken, commit, *rows = track.speed_table(kept)
    assert "One core of 3 of A chip (OS, load average 0.3)" in taken
    assert commit.startswith("0123456789")
    assert "| RelaySGD on a chain, d = 10, n = 96, 30 replicas | 4 | 125 | 2 | 250 |" in rows


def test_of_chunks_that_a_commit_cannot_run_nothing_is_said(track):
    assert track.shortest([3.0, 1.0, 2.0]) == 1.0
    assert track.shortest([3.0, None]) is None


def test_the_readme_shows_what_was_kept(track):
    text = (ROOT / "README.md").read_text("utf-8")
    table = text.partition(track.BEGIN)[2].partition(track.END)[0].strip()
    commit = re.search(r"commit\s+([0-9a-f]{10})", table)[1]
    kept = json.loads((track.RESULTS / f"{commit}.json").read_text("utf-8"))
    assert table == "\n".join(track.speed_table(kept))


def test_a_page_without_marks_is_refused(track, tmp_path, monkeypatch):
    monkeypatch.setattr(track, "ROOT", tmp_path)
    monkeypatch.setattr(track, "git", lambda *arguments: "0123456789\n")
    monkeypatch.setattr(track, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="nothing is kept of 0123456789"):
        track.readme("HEAD")
    (tmp_path / "0123456789.json").write_text("{}")
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(SystemExit, match="no lines"):
        track.readme("HEAD")
